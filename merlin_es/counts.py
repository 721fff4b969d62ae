"""How is it said how many there are? One has no plural."""

from __future__ import annotations


def counted(number: int, one: str, more: str = "") -> str:
    """Give `1 run`, `2 runs`; `more` is the plural where it is not `one` with an s."""
    return f"{number} {one if number == 1 else more or f'{one}s'}"
