"""Where is a cluster, and what opens it?"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from merlin_es.errors import Usage

_ADDRESS = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?/*",
    re.IGNORECASE | re.ASCII,
)
_TOKEN = re.compile(r"[\x21-\x7e]+")


def parse_address(text: str) -> str:
    """Give the address that a person wrote, as `http://host:port`; raises Usage."""
    written = text.strip()
    match = _ADDRESS.fullmatch(written)
    if match is None:
        if written.startswith("ray://"):
            raise Usage(f"{written} is for Ray's own client; write the dashboard's address: http://host:8265")
        raise Usage(f"{written[:200]!r} is no address of a cluster: write it as http://host:8265")
    scheme, host, port = (match["scheme"] or "http").lower(), match["host"].lower(), match["port"]
    if port is None and scheme == "http":
        raise Usage(f"{written} lacks the port of the dashboard: write http://{host}:8265")
    if port is not None and not 0 < int(port) < 65536:
        raise Usage(f"{written} has no possible port: write it as http://{host}:8265")
    return f"{scheme}://{host}:{int(port or 443)}"


class Token:
    """The token of a cluster: read when it is first needed, and once more when it was refused. It is never shown.

    `source` is what people are told of where it comes from; `read` gives None when there is none.
    """

    def __init__(self, source: str, read: Callable[[], str | None]) -> None:
        self.source = source
        self._read = read
        self._value: str | None = None

    def __repr__(self) -> str:
        return f"<Token from {self.source}>"

    def value(self) -> str | None:
        """Give what to send, or None when there is nothing to send."""
        return self._value or self.read_again()

    def read_again(self) -> str | None:
        """Give what the source holds now: a head that started anew may have another token."""
        text = (self._read() or "").strip()
        self._value = text if _TOKEN.fullmatch(text) else None
        return self._value


def token_file(path: Path) -> Token:
    """Give the token that lies in a file; without the file, none is sent."""

    def read() -> str | None:
        try:
            return path.read_bytes().decode("ascii", "replace")
        except OSError:
            return None

    return Token(f"the file {path}", read)
