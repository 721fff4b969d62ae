"""What is the product of two tiles, computed in the plainest way? Every other kernel must come to the same."""

from __future__ import annotations

from collections.abc import Sequence

Tile = Sequence[Sequence[int]]


def product(lhs: Tile, rhs: Tile) -> list[list[int]]:
    """Give the sums in i32 of products of i8, one result after the other."""
    columns = list(zip(*rhs, strict=True))
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in lhs]
