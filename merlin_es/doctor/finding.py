"""What is one thing that a look has found?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fine", "note", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of the check `check`; `mend` is the command, or the deed, that mends it.

    `note`: nothing is wrong, but somebody may want to know. `warning`: it works, and should be mended. `error`: it does
    not work, or what was recorded is not what is there. `fixed`: it was mended just now.
    """

    check: str
    severity: Severity
    what: str
    mend: str = ""
    fixed: bool = False
