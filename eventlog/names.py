"""How are a stream, and a point of it, named?"""

from __future__ import annotations

import re
from typing import NamedTuple

from eventlog.errors import Invalid

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_STREAM = re.compile(rf"{_SEGMENT}(/{_SEGMENT}){{0,7}}")
_HEAD = re.compile(r"(\d{1,18}):([A-Za-z0-9_-]{43})")


class Head(NamedTuple):
    """Where a stream ends: the last seq (0 when empty) and the chain value of that line; as text `seq:h`."""

    seq: int
    h: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.h}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read `seq:h`; raises Invalid when `text` is anything else."""
        if not (match := _HEAD.fullmatch(text)):
            raise Invalid(f"{text!r} is not a head: give it as SEQ:H, as `python -m eventlog head PATH` prints it")
        return cls(int(match[1]), match[2])


def is_stream(stream: str) -> bool:
    """Tell whether `stream` is a name that is safe as a path too."""
    return _STREAM.fullmatch(stream) is not None and ".." not in stream


def check_stream(stream: str) -> str:
    """Return `stream` when it is a name that is safe as a path too; raises Invalid otherwise."""
    if not is_stream(stream):
        raise Invalid(
            f"{stream!r} cannot name a stream: use up to 8 parts joined by `/`, each of 1 to 128 letters, digits, `.`, "
            "`_` and `-`, starting with a letter or digit and without `..`"
        )
    return stream
