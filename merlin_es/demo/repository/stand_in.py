"""Who writes the code when nobody is there? This stands in for you, or for an agent of yours.

Merlin runs it once for each prompt, as `python3 stand_in.py PROMPT RESPONSE`. It knows one answer by heart, asks no
model, and refuses everything else. Whatever reads the one file and writes the other can take its place.
"""

from __future__ import annotations

import sys
from pathlib import Path

TASK = "implement_llvm_ukernel"
PLACE = "third_party/iree_bar/runtime/src/iree/builtins/ukernel/opu.py"
KERNEL = '''"""What is the product of two tiles, computed as the outer-product unit of Saturn does it?"""

from __future__ import annotations

from collections.abc import Sequence

Tile = Sequence[Sequence[int]]


def product(lhs: Tile, rhs: Tile) -> list[list[int]]:
    """Accumulate one outer product for each step of the depth, then move the accumulators out."""
    accumulators = [[0] * len(rhs[0]) for _ in lhs]
    for column, row in zip(zip(*lhs, strict=True), rhs, strict=True):
        for accumulator, left in zip(accumulators, column, strict=True):
            for lane, right in enumerate(row):
                accumulator[lane] += left * right
    return accumulators
'''
RESPONSE = f"""# The kernel of the outer-product unit

One outer product for each step of the depth, in i32; the portable kernel stays as it is. It was not run on hardware.

```python path={PLACE}
{KERNEL}```
"""


def main() -> int:
    """Answer the one prompt whose answer is known."""
    prompt, response = (Path(word) for word in sys.argv[1:])
    if f"`{TASK}`" not in prompt.read_text(encoding="utf-8"):
        print(f"the stand-in of `merlin demo` can only answer {TASK}: write {response.name} yourself", file=sys.stderr)
        return 1
    response.write_text(RESPONSE, encoding="utf-8")
    print(f"the stand-in has written {response.name}, which it knew by heart")
    return 0


if __name__ == "__main__":
    sys.exit(main())
