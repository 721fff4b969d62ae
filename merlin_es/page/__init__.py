"""How does a run look to somebody who has a browser and nothing else? As one file that asks nobody for anything.

The page holds the lines of the log as they are, and for each event the JSON Patch of what it changed. It moves through
time, shows event, change and state side by side, and checks the hash chain itself: nothing in it has to be believed.
What the log says is text everywhere; a policy in the page's head lets no script run but the one that is ours.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files

from eventlog import Event
from projections.patch import Json, diff
from projections.projection import Files

_JSON_IN_HTML = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def render(title: str, stream: str, steps: Iterable[tuple[bytes, Event, Files]]) -> Iterator[str]:
    """Yield the page piece by piece; each step is a line of the log, its event, and the files right after it."""
    style, script = _asset("page.css"), _asset("page.js")
    yield (
        _asset("page.html")
        .partition("<!-- data -->")[0]
        .replace("{{title}}", escape(title))
        .replace("{{policy}}", f"script-src {_allowed(script)}; style-src {_allowed(style)}")
        .replace("{{style}}", style)
    )
    yield f'<script type="application/json" id="data">{{"stream":{embedded(stream)},"steps":['
    before: Json = {}
    for number, (line, _event, now) in enumerate(steps):
        after = _document(now)
        patch: list[Json] = [dict(operation.as_json()) for operation in diff(before, after)]
        yield f"{',' if number else ''}\n" + embedded({"line": line.decode(), "patch": patch})
        before = after
    yield f"\n]}}</script>\n<script>{script}</script>\n</body>\n</html>\n"


def embedded(value: Json) -> str:
    """Give JSON that stays JSON within HTML, whatever is in it."""
    return json.dumps(value, ensure_ascii=False).translate(_JSON_IN_HTML)


def _document(now: Files) -> Json:
    """Give all files as one document, by their names, without the stamps: those change with every event."""
    found: dict[str, Json] = {}
    for path, content in now.items():
        document: Json = json.loads(content)
        if isinstance(document, dict):
            document.pop("as_of", None)
        found[path.rpartition("/")[2]] = document
    return found


def _asset(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _allowed(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
