"""How do the documents of TargetGen look as text? The same document always has the same bytes."""

from __future__ import annotations

import json


def dumps(document: object) -> str:
    """Return a document as JSON: keys sorted, two spaces, ASCII, one newline at the end."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True) + "\n"
