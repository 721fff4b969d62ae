"use strict";
(() => {
  const SHOWN_MAX = 400; // Rows of the timeline at once; the others are reached by moving or finding.
  const KEPT_EVERY = 64; // Of the states on the way; any other is some patches away from one of these.
  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("data").textContent);
  const steps = data.steps.map((step) => ({ ...step, event: JSON.parse(step.line) }));
  const kept = new Map([[0, {}]]);
  let now = 1;
  let file = "run_record.json";

  // JSON Patch (RFC 6902), as far as it is written here: add, remove, replace. Nothing is changed in place.
  const keysOf = (pointer) => pointer.split("/").slice(1).map((key) => key.replace(/~1/g, "/").replace(/~0/g, "~"));

  function patched(document, operation) {
    const change = (value, keys) => {
      if (!keys.length) return operation.value;
      const [key, ...rest] = keys;
      if (Array.isArray(value)) {
        const copy = value.slice();
        const place = key === "-" ? copy.length : Number(key);
        if (rest.length) copy[place] = change(copy[place], rest);
        else copy.splice(place, operation.op === "add" ? 0 : 1, ...(operation.op === "remove" ? [] : [operation.value]));
        return copy;
      }
      const copy = new Map(Object.entries(value));
      if (!rest.length && operation.op === "remove") copy.delete(key);
      else copy.set(key, change(value[key], rest));
      return Object.fromEntries(copy);
    };
    return change(document, keysOf(operation.path));
  }

  function stateAfter(seq) {
    let from = seq - (seq % KEPT_EVERY);
    while (!kept.has(from)) from -= KEPT_EVERY;
    let state = kept.get(from);
    for (let next = from + 1; next <= seq; next += 1) {
      state = steps[next - 1].patch.reduce(patched, state);
      if (next % KEPT_EVERY === 0) kept.set(next, state);
    }
    return state;
  }

  function valueAt(document, pointer) {
    let value = document;
    for (const key of keysOf(pointer)) {
      if (value === null || typeof value !== "object" || !Object.hasOwn(value, key)) return undefined;
      value = value[key];
    }
    return value;
  }

  // The chain: each line's h is the SHA-256 of the h before it and of its own bytes before `,"h":`.
  const K = new Uint32Array(64);
  const START = new Uint32Array(8);
  (() => {
    const isPrime = (n) => { for (let d = 2; d * d <= n; d += 1) if (n % d === 0) return false; return true; };
    const fraction = (x) => Math.floor((x - Math.floor(x)) * 4294967296);
    for (let n = 2, count = 0; count < 64; n += 1) {
      if (!isPrime(n)) continue;
      if (count < 8) START[count] = fraction(Math.sqrt(n));
      K[count] = fraction(Math.cbrt(n));
      count += 1;
    }
  })();

  function sha256(bytes) {
    const padded = new Uint8Array(((bytes.length + 8) >> 6 << 6) + 64);
    padded.set(bytes);
    padded[bytes.length] = 0x80;
    const view = new DataView(padded.buffer);
    view.setUint32(padded.length - 8, Math.floor(bytes.length / 536870912));
    view.setUint32(padded.length - 4, bytes.length << 3);
    const hash = START.slice();
    const w = new Uint32Array(64);
    const turn = (x, n) => (x >>> n) | (x << (32 - n));
    for (let block = 0; block < padded.length; block += 64) {
      for (let i = 0; i < 16; i += 1) w[i] = view.getUint32(block + 4 * i);
      for (let i = 16; i < 64; i += 1) {
        const a = w[i - 15];
        const b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (turn(a, 7) ^ turn(a, 18) ^ (a >>> 3)) + (turn(b, 17) ^ turn(b, 19) ^ (b >>> 10));
      }
      let [a, b, c, d, e, f, g, h] = hash;
      for (let i = 0; i < 64; i += 1) {
        const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
        const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
      }
      [a, b, c, d, e, f, g, h].forEach((value, i) => { hash[i] += value; });
    }
    const result = new DataView(new ArrayBuffer(32));
    hash.forEach((value, i) => result.setUint32(4 * i, value));
    return new Uint8Array(result.buffer);
  }

  const utf8 = new TextEncoder();
  const link = (text) => btoa(String.fromCharCode(...sha256(utf8.encode(text)))).slice(0, 43).replace(/\+/g, "-").replace(/\//g, "_");

  async function checkChain() {
    let h = link(`eventlog/1\n${data.stream}`);
    for (let number = 1; number <= steps.length; number += 1) {
      const { line, event } = steps[number - 1];
      const end = line.lastIndexOf(',"h":"');
      h = link(h + line.slice(0, end));
      if (event.seq !== number || event.stream !== data.stream || line.slice(end) !== `,"h":"${h}"}`) {
        return ["broken", `The chain is broken: line ${number} is not what was written.`];
      }
      if (number % 200 === 0) await new Promise((go) => setTimeout(go));
    }
    return ["whole", `The chain is whole: ${steps.length} events, head ${steps.length}:${h}`];
  }

  // What is shown. Only ever as text.
  const shown = (value) => (value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value, null, 1));

  function element(name, text, attributes = {}) {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function found() {
    const wanted = at("filter").value.toLowerCase();
    return wanted ? steps.filter((step) => step.line.toLowerCase().includes(wanted)) : steps;
  }

  function showTimeline() {
    const rows = found();
    const here = Math.max(0, rows.findIndex((step) => step.event.seq >= now));
    const first = Math.max(0, Math.min(here - SHOWN_MAX / 2, rows.length - SHOWN_MAX));
    const some = rows.slice(first, first + SHOWN_MAX);
    at("events").replaceChildren(...some.map(({ event }) => {
      const button = element("button", `${event.seq} ${event.type} `, { type: "button", "data-seq": event.seq });
      button.append(element("small", `${event.time.slice(0, 19).replace("T", " ")} ${event.actor}`));
      if (event.seq === now) button.setAttribute("aria-current", "step");
      const row = document.createElement("li");
      row.append(button);
      return row;
    }));
    at("more").textContent = some.length < rows.length ? `${rows.length - some.length} more before and after these` : rows.length ? "" : "Nothing has that.";
    const current = at("events").querySelector("[aria-current]");
    if (current) current.scrollIntoView({ block: "nearest" });
  }

  function showState(before, after, patch) {
    const names = Object.keys(after);
    if (!names.includes(file)) file = names[names.length - 1] || file;
    at("files").replaceChildren(...names.map((name) => element("button", name, {
      type: "button", role: "tab", "aria-selected": String(name === file), "data-file": name,
    })));
    const prefix = `/${file.replace(/~/g, "~0").replace(/\//g, "~1")}`;
    const changed = new Set(patch.filter(({ path }) => path.startsWith(prefix)).map(({ path }) => keysOf(path)[1]));
    const document_ = after[file];
    if (document_ === undefined) return at("state").replaceChildren("Nothing yet.");
    if (Array.isArray(document_)) return at("state").replaceChildren(JSON.stringify(document_, null, 2));
    const entries = Object.entries(document_);
    const parts = entries.flatMap(([key, value], place) => {
      const text = `${JSON.stringify(key)}: ${JSON.stringify(value, null, 2).replace(/\n/g, "\n  ")}`;
      return ["  ", changed.has(key) || changed.has(undefined) && before[file] !== undefined ? element("mark", text) : text, place + 1 < entries.length ? ",\n" : "\n"];
    });
    return at("state").replaceChildren("{\n", ...parts, "}");
  }

  function show(seq) {
    now = Math.max(1, Math.min(steps.length, seq));
    const { event, line, patch } = steps[now - 1];
    const before = stateAfter(now - 1);
    const after = stateAfter(now);
    at("slider").value = String(now);
    at("slider").setAttribute("aria-valuetext", `${event.seq} of ${steps.length}: ${event.type}`);
    at("place").textContent = `${now} of ${steps.length} · ${event.time}`;
    at("event").textContent = `${event.seq}  ${event.type}`;
    const facts = [["when", event.time], ["who", event.actor], ["through", event.door], ["because of", event.cause], ["together with", event.batch], ["key", event.key], ["id", event.id]];
    at("who").replaceChildren(...facts.filter(([, value]) => value !== undefined).flatMap(([name, value]) => [element("dt", name), element("dd", String(value))]));
    const rows = patch.map((operation) => {
      const row = document.createElement("tr");
      row.append(element("td", operation.path.slice(1)), element("td", shown(valueAt(before, operation.path))), element("td", shown(operation.value)));
      return row;
    });
    if (!rows.length) {
      const row = document.createElement("tr");
      row.append(element("td", "nothing that the files say", { colspan: "3" }));
      rows.push(row);
    }
    at("changes").tBodies[0].replaceChildren(...rows);
    at("said").textContent = JSON.stringify(event.data, null, 2);
    at("line").textContent = line;
    showState(before, after, patch);
    showTimeline();
    try { history.replaceState(null, "", `#${now}`); } catch { /* Some browsers allow that of no file. */ }
  }

  const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const showTheme = () => at("theme").setAttribute("aria-pressed", String(isDark()));

  at("slider").max = String(steps.length);
  at("slider").addEventListener("input", () => show(Number(at("slider").value)));
  at("first").addEventListener("click", () => show(1));
  at("back").addEventListener("click", () => show(now - 1));
  at("forward").addEventListener("click", () => show(now + 1));
  at("last").addEventListener("click", () => show(steps.length));
  at("filter").addEventListener("input", showTimeline);
  at("events").addEventListener("click", (click) => {
    const button = click.target.closest("button");
    if (button) show(Number(button.dataset.seq));
  });
  at("files").addEventListener("click", (click) => {
    const button = click.target.closest("button");
    if (button) { file = button.dataset.file; show(now); at("files").querySelector("[aria-selected=true]").focus(); }
  });
  at("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  addEventListener("hashchange", () => show(Number(location.hash.slice(1)) || now));
  addEventListener("keydown", (key) => {
    if (key.ctrlKey || key.metaKey || key.altKey) return;
    if (key.target.id === "filter") {
      if (key.key === "Escape") { at("filter").value = ""; at("filter").blur(); showTimeline(); }
      if (key.key === "Enter") { const next = found().find((step) => step.event.seq > now) || found()[0]; if (next) show(next.event.seq); }
      return;
    }
    const moves = { ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now - 10, PageDown: now + 10, Home: 1, End: steps.length };
    if (key.key === "/") at("filter").focus();
    else if (key.key in moves) show(moves[key.key]);
    else return;
    key.preventDefault();
  });

  showTheme();
  show(Number(location.hash.slice(1)) || steps.length);
  checkChain().then(([state, text]) => {
    at("chain").dataset.state = state;
    at("chain").textContent = text;
  });
})();
