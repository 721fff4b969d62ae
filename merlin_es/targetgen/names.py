"""Which texts of a spec become paths, and which of them lead where they should?"""

from __future__ import annotations

import re
from typing import Final

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
PATH_MAX: Final = 1024
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PARTS = re.compile(r"[_\\-]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\\:]")


def is_name(text: str) -> bool:
    """Whether a text can be one part of a path, wherever it comes to stand."""
    return NAME.fullmatch(text) is not None and ".." not in text


def is_inside(path: str) -> bool:
    """Whether a path stays below the directory that it is taken from, and out of `.git`."""
    parts = path.split("/")
    return not (
        _CONTROLS.search(path) or len(path) > PATH_MAX or any(part in ("", ".", "..", ".git") for part in parts)
    )


def title(name: str) -> str:
    """Return a name as compilers spell their targets: `saturn_opu_v128` is `SaturnOpuV128`."""
    return "".join(part.capitalize() for part in _PARTS.split(name))


def lower(name: str) -> str:
    """Return a name as drivers spell it: `my-npu` is `my_npu`."""
    return name.replace("-", "_")


def macro(name: str) -> str:
    """Return a name as the preprocessor spells it."""
    return re.sub(r"[^A-Za-z0-9]", "_", name).upper()
