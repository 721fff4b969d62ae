"""How do the documents of TargetGen look as text? The same document always has the same bytes."""

from __future__ import annotations

import json
from typing import Any

import yaml


def dumps(document: object) -> str:
    """Return a document as JSON: keys sorted, two spaces, ASCII, one newline at the end."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True) + "\n"


def as_yaml(document: object) -> str:
    """Return a document as YAML, the keys in the order in which they stand."""
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(document, Dumper=dumper, sort_keys=False))


def as_text(name: str, document: object) -> str:
    """Return a document as the file of that name holds it."""
    return as_yaml(document) if name.endswith(".yaml") else dumps(document)
