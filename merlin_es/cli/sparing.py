"""What does a library import that it can do without?

`msgspec` takes three names from `typing_extensions`, or from `typing` where there is none. Python has them all since
3.11, and to import `typing_extensions` takes as long as all of `msgspec`. Whoever else wants it gets it as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final


class Sparing:
    """Finds no module; of those in `spared` it says that there is none while their library is being imported."""

    spared: Final = {"typing_extensions": "msgspec"}

    @classmethod
    def find_spec(
        cls, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Leave a module to whoever finds modules; raises ModuleNotFoundError."""
        library = sys.modules.get(cls.spared.get(name, ""))
        if getattr(getattr(library, "__spec__", None), "_initializing", False):
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)
        return None


def spare() -> None:
    """Import from now on what is needed, and no more."""
    if Sparing not in sys.meta_path:
        sys.meta_path.insert(0, Sparing)
