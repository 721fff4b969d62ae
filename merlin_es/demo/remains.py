"""What did an earlier demo leave in a directory, and may it go? Only when all of it is the demo's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from merlin_es.errors import MerlinError, Refused
from merlin_es.targetgen.repository import EMAIL, GitFailed, Repository

MARK = "# The Merlin that played the demo here, whatever else is installed; what lies here is its workspace."
"""A line of the program by which the workspace of a demo is known."""
_OWN = frozenset({".git", ".gitignore", "merlin", "build", "stand_in.py", "tests", "third_party"})


def are_own(top: Path) -> bool:
    """Tell whether what lies there is a demo's and nothing else's: no file, no edit and no commit of anybody."""
    try:
        entry = (top / "merlin").read_text(encoding="utf-8")
        if MARK not in entry.splitlines() or not _OWN.issuperset(path.name for path in top.iterdir()):
            return False
        repository = Repository(top, top=True)
        is_as_made = not repository.ask("status", "--porcelain", "--untracked-files=all")
        return is_as_made and {*repository.word("log", "--all", "--format=%ae").splitlines()} == {EMAIL}
    except (OSError, UnicodeError, GitFailed, Refused):
        return False


def clear(top: Path) -> None:
    """End what still runs there, as after a kill, and empty the directory; raises MerlinError where it runs on."""
    if (top / "build" / "generated" / "ray").exists():
        stop = [str(top / "merlin"), "ray", "cluster", "stop"]
        done = subprocess.run(stop, cwd=top, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603  ours
        if done.returncode:
            raise MerlinError(f"the head of the demo before still runs in {top}: `cd {top} && ./merlin ray doctor`")
    empty(top)


def empty(top: Path) -> None:
    """Remove all that lies in a directory, and leave the directory itself."""
    for path in top.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
