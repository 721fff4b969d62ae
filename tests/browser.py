"""How is a page opened and driven in a real browser, with nothing but the standard library and the browser itself?"""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LIMIT_S = 120.0
"""For what takes a second, on a machine that does ten other things."""


def find_browser() -> str | None:
    """Give a browser of this machine, None when there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A headless Chromium with one page, driven over its debugging pipe. It can reach no network."""

    def __init__(self, program: str, home: Path) -> None:
        their_in, self._out = os.pipe()
        self._in, their_out = os.pipe()
        command = [
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]
        command += ["--remote-debugging-pipe", f"--user-data-dir={home}", "--proxy-server=127.0.0.1:9", "--lang=en"]
        # Chromium reads its orders from descriptor 3 and answers on 4.
        script = f'exec "$@" 3<&{their_in} 4>&{their_out}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", script, "bash", *command, "about:blank"],
            pass_fds=(their_in, their_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(home)},
        )
        os.close(their_in)
        os.close(their_out)
        self._numbers = itertools.count(1)
        self._rest = b""
        self.events: list[dict[str, Any]] = []
        targets = self._ask("Target.getTargets", None)["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self._ask("Target.attachToTarget", None, targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401  what the protocol has
        """Send one order to the page, and give the answer."""
        return self._ask(method, self._session, **parameters)

    def open(self, path: Path) -> None:
        """Open a file, and wait until it is loaded."""
        self.events.clear()
        self.ask("Page.navigate", url=path.absolute().as_uri())
        self.until("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:  # noqa: ANN401  whatever the page answers
        """Evaluate an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression holds in the page."""
        end = time.monotonic() + LIMIT_S
        while not self.run(expression):
            assert time.monotonic() < end, f"not so: {expression}"
            time.sleep(0.05)

    def press(self, key: str, code: int = 0) -> None:
        """Press a key, as a person does."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def screenshot(self, path: Path) -> None:
        """Keep what the page looks like."""
        path.write_bytes(b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def complaints(self) -> list[object]:
        """Give what the page has complained of, and what it has asked the network for."""
        wrong = []
        for event in self.events:
            if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                wrong.append(event["params"])
            if event["method"] == "Network.requestWillBeSent":
                url = event["params"]["request"]["url"]
                if not url.startswith("file://"):
                    wrong.append(url)
        return wrong

    def close(self) -> None:
        """End the browser, and nothing else."""
        for fd in (self._out, self._in):
            os.close(fd)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, method: str, session: str | None, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401  likewise
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._out, json.dumps(order).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], LIMIT_S)
            assert ready, "the browser gives no answer"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "the browser has ended"
            self._rest += chunk
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message
