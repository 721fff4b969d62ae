"""Does the page show a run as it was at each moment, prove the chain by itself, and treat all that it shows as text?"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from merlin_es.page import embedded
from projections.events import run as r
from projections.layout import run_stream
from projections.projection import RUN_PROJECTION
from tests.browser import Browser, find_browser
from tests.custody import Archive
from tests.examples import ROOT

EVIL = "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 2'>\u2028{{style}}<!--"
RIGHT, LEFT, HOME, END = 39, 37, 36, 35


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine: install one to have the page opened and driven")
    browser = Browser(program, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "state")


def exported(archive: Archive, run_id: str = "a") -> Path:
    path = archive.root.parent / f"{run_id}.html"
    done = archive.cli("export", run_id, "--format", "html", "--to", str(path), "--force")
    assert done.returncode == 0, done.stderr
    return path


def test_a_person_walks_through_a_run_with_the_keys(archive: Archive, browser: Browser) -> None:
    head = archive.ended("a")
    browser.open(exported(archive))
    browser.until("document.getElementById('chain').dataset.state === 'whole'")
    assert browser.run("document.getElementById('chain').textContent") == f"The chain is whole: 7 events, head {head}"
    documents = []
    for state, at in RUN_PROJECTION.states(archive.log.read(run_stream("a")), RUN_PROJECTION.origin):
        content = RUN_PROJECTION.files(run_stream("a"), state, at)["runs/a/run_record.json"]
        documents.append({key: value for key, value in json.loads(content).items() if key != "as_of"})
    browser.press("Home", HOME)
    for number, event in enumerate(archive.log.read(run_stream("a")), 1):
        assert browser.run("document.getElementById('event').textContent") == f"{number}  {event.type}"
        assert browser.run("document.getElementById('slider').value") == str(number)
        assert json.loads(browser.run("document.getElementById('state').textContent")) == documents[number - 1]
        browser.press("ArrowRight", RIGHT)
    browser.press("End", END)
    browser.press("ArrowLeft", LEFT)
    rows = browser.run(
        "[...document.querySelectorAll('#changes tbody tr')].map((row) => [...row.cells].map((c) => c.innerText))"
    )
    assert ["run_record.json/status", "running", "completed"] in rows
    assert browser.run("[...document.querySelectorAll('#state mark')].map((m) => m.textContent.split(':')[0])") == [
        '"status"',
        '"attempts"',
        '"exit_code"',
    ]
    assert browser.complaints() == []


def test_the_slider_the_timeline_the_tabs_and_the_search_lead_to_the_same_moments(
    archive: Archive, browser: Browser
) -> None:
    archive.ended("a")
    browser.open(exported(archive))
    browser.run(
        "(() => { const s = document.getElementById('slider'); s.value = 3; s.dispatchEvent(new Event('input')); })()"
    )
    assert browser.run("document.getElementById('event').textContent") == "3  run.submitted"
    browser.run("document.querySelector('[data-seq=\"1\"]').click()")
    assert browser.run("document.getElementById('event').textContent") == "1  run.requested"
    browser.run("document.querySelector('[data-file=\"run_request.json\"]').click()")
    assert '"workdir": "/w"' in browser.run("document.getElementById('state').textContent")
    browser.press("/")
    assert browser.run("document.activeElement.id") == "filter"
    for letter in "completed":
        browser.press(letter)
    assert browser.run("[...document.querySelectorAll('#events button')].map((b) => b.dataset.seq)") == ["6"]
    browser.press("Enter", 13)
    assert browser.run("document.getElementById('event').textContent") == "6  run.completed"
    browser.press("Escape", 27)
    assert browser.run("document.querySelectorAll('#events button').length") == 7
    assert browser.complaints() == []


def test_dark_and_light_follow_the_system_and_the_button(archive: Archive, browser: Browser) -> None:
    archive.ended("a")
    path = exported(archive)
    backs = []
    for scheme in ("light", "dark"):
        browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.open(path)
        backs.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert len(set(backs)) == 2
    browser.run("document.getElementById('theme').click()")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == backs[0]
    browser.ask("Emulation.setEmulatedMedia", features=[])


def test_whatever_the_log_says_is_text_and_runs_nothing(archive: Archive, browser: Browser) -> None:
    archive.ended("a", r.AnomalySeen(what=EVIL, message=EVIL), target=EVIL)
    browser.open(exported(archive))
    browser.until("document.getElementById('chain').dataset.state === 'whole'")
    for _ in range(8):
        browser.press("ArrowLeft", LEFT)
        for name in ("run_request.json", "run_record.json"):
            browser.run(f"document.querySelector('[data-file=\"{name}\"]').click()")
            assert browser.run("window.owned") is None
            assert browser.run("document.images.length + document.scripts.length") == 2
    assert "onerror='window.owned = 2'" in browser.run("document.getElementById('said').textContent")
    assert browser.complaints() == []


def test_a_script_that_got_in_all_the_same_is_not_run(archive: Archive, browser: Browser) -> None:
    archive.ended("a")
    path = exported(archive)
    path.write_text(path.read_text().replace("</body>", "<script>window.owned = 3</script></body>"))
    browser.open(path)
    assert browser.run("window.owned") is None
    assert "Content Security Policy" in str(browser.complaints())


@pytest.mark.parametrize("edit", [("ada@lab", "eve@lab"), ('"seq":3', '"seq":4')])
def test_the_page_finds_an_edited_line_by_itself(archive: Archive, browser: Browser, edit: tuple[str, str]) -> None:
    archive.ended("a")
    path = exported(archive)
    old, new = (json.dumps(text)[1:-1] for text in edit)
    path.write_text(path.read_text().replace(old, new, 1))
    browser.open(path)
    browser.until("document.getElementById('chain').dataset.state !== 'checking'")
    line = 1 if "ada" in old else 3
    assert browser.run("document.getElementById('chain').textContent") == (
        f"The chain is broken: line {line} is not what was written."
    )


def test_a_long_run_is_walked_without_delay(archive: Archive, browser: Browser) -> None:
    archive.ended("a", *[r.AnomalySeen(what=f"täst {number}", message="m") for number in range(700)])
    head = archive.log.head(run_stream("a"))
    browser.open(exported(archive))
    browser.until("document.getElementById('chain').dataset.state === 'whole'")
    assert str(head) in browser.run("document.getElementById('chain').textContent")
    assert browser.run("document.querySelectorAll('#events button').length") == 400
    took = browser.run(
        """(() => {
            const begin = performance.now(), slider = document.getElementById('slider');
            for (let seq = 1; seq <= 700; seq += 35) { slider.value = seq; slider.dispatchEvent(new Event('input')); }
            return (performance.now() - begin) / 20;
        })()"""
    )
    assert took < 1000, "ms a move, on a machine that does ten other things"


class Tags(HTMLParser):
    """Gathers what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[object] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.loads += [
            (tag, name, value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")
        ]


def test_the_page_is_one_file_that_loads_nothing(archive: Archive) -> None:
    archive.ended("a", r.AnomalySeen(what=EVIL, message=EVIL))
    text = exported(archive).read_text()
    tags = Tags()
    tags.feed(text)
    assert (tags.loads, tags.scripts) == ([], 2)
    assert "default-src 'none'" in text
    assert not re.findall(r"@import|url\(|https?://(?!ray)", "".join(asset("page.css") + asset("page.js")))
    assert exported(archive).read_text() == text, "the same run gives the same page"


def asset(name: str) -> str:
    return (ROOT / "merlin_es" / "page" / name).read_text()


@pytest.mark.parametrize("text", [EVIL, "<!--<script>", "]]>", "&lt;", "\u2029", "plain"])
def test_what_is_embedded_stays_json_and_never_ends_its_element(text: str) -> None:
    there = embedded({"text": text})
    assert json.loads(there) == {"text": text}
    assert not set("<>&\u2028\u2029") & set(there)


def test_the_page_computes_sha_256_as_others_do() -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("no node on this machine: the browser's own tests check the chain too")
    script = asset("page.js")
    begin, end = script.index("  const K = "), script.index("  const utf8")
    program = f"""{script[begin:end]}
        const theirs = (bytes) => require('crypto').createHash('sha256').update(bytes).digest('hex');
        for (const n of [0, 1, 55, 56, 63, 64, 65, 1000]) {{
            const bytes = new Uint8Array(n).map((_, i) => i * 7);
            console.log(Buffer.from(sha256(bytes)).toString('hex'), theirs(bytes));
        }}
    """
    done = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in done.stdout.splitlines()]
    assert len(pairs) == 8
    assert all(ours == theirs for ours, theirs in pairs)
