"""Does the kernel of the outer-product unit give the results of the portable one, for every tile of the spec?"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

KERNELS = Path("third_party/iree_bar/runtime/src/iree/builtins/ukernel")
TILES = ((16, 16), (32, 32))
DEPTH = 24


def i8(seed: int, rows: int, columns: int) -> list[list[int]]:
    """Give a tile of i8 that looks random and is always the same."""
    return [
        [(seed + 97 * row + 31 * column + row * column * 7) % 256 - 128 for column in range(columns)]
        for row in range(rows)
    ]


def main() -> int:
    """Compare, tile by tile."""
    opu, portable = KERNELS / "opu.py", KERNELS / "portable.py"
    if not opu.is_file():
        print(f"there is no {opu} yet")
        return 1
    ours, plain = (runpy.run_path(str(path))["product"] for path in (opu, portable))
    for rows, columns in TILES:
        lhs, rhs = i8(rows, rows, DEPTH), i8(columns, DEPTH, columns)
        if ours(lhs, rhs) != plain(lhs, rhs):
            print(f"tile {rows}x{columns}: other results than the portable kernel")
            return 1
        print(f"tile {rows}x{columns}, depth {DEPTH}: the results of the portable kernel")
    return 0


if __name__ == "__main__":
    sys.exit(main())
