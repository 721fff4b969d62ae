"""What has the entrypoint wrapper of an attempt left beside the run's log, and how does Ray come to start it?

The wrapper is `merlin_es.entrypoint`; its docstring says what each of the files means.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from eventlog.disk import Disk, make_directories
from merlin_es.errors import MerlinError, Sick, Usage
from merlin_es.ports import Ended, Started, Witness

ENTRYPOINT_BYTES_MAX = 131_071  # The kernel's limit for one argument; Ray hands the entrypoint to `sh -c` as one.
_PYTHON_OPTIONS = "-I -S -B"  # Nothing of the environment or of site-packages, and no .pyc.

_T = TypeVar("_T")


class _Refusal(msgspec.Struct, frozen=True):
    why: Literal["cancelled", "already_started"]


class WitnessFiles:
    """The wrapper's files under `<state root>/runs/<run_id>/witness/`; implements merlin_es.ports.Witnesses."""

    def __init__(self, runs: Path, *, disk: Disk | None = None) -> None:
        self._runs = runs
        self._disk = disk or Disk()

    def directory(self, run_id: str) -> Path:
        """Give the witness directory of a run, whether it is there or not."""
        return self._runs / run_id / "witness"

    def read(self, run_id: str, attempt: int) -> Witness:
        """Give what there is; raises Sick for a file that no wrapper has written, since absence would mean a retry."""
        start = self.directory(run_id) / f"a{attempt}"
        # The end is read before the start: a wrapper that writes meanwhile is not seen to end what it has not started.
        refusal = _read(start.with_name(f"{start.name}.refused.json"), _Refusal)
        ended = _read(start.with_name(f"{start.name}.ended.json"), Ended)
        started = _read(start.with_name(f"{start.name}.started.json"), Started)
        for part, name in ((ended, "ended"), (started, "started")):
            if part is not None and not _is_time(part.time):
                raise Sick(f"{start}.{name}.json says {part.time!r} where a time belongs: bring back what was there")
        return Witness(started, ended, refusal.why if refusal else None)

    def forbid(self, run_id: str) -> None:
        """Durably leave the tombstone; said twice, it is as durable as said once. Raises MerlinError."""
        directory = self.directory(run_id)
        tombstone = directory / "cancelled"
        try:
            make_directories(self._disk, directory)
            fd = self._disk.open(tombstone, os.O_WRONLY | os.O_CREAT)
            try:
                self._disk.sync(fd)
            finally:
                self._disk.close(fd)
            self._disk.sync_directory(directory)
        except OSError as error:
            raise MerlinError(f"{tombstone}: {error.strerror}; until it is there, the run may still start") from error


def entrypoint(
    wrapper: Path,
    python: str,
    witness: Path,
    run_id: str,
    attempt: int,
    workdir: str,
    command: Sequence[str],
    *,
    has_secrets: bool = False,
) -> str:
    """Give what Ray's `/bin/sh -c` is to run: the command through the wrapper, or bare where a node does not see it.

    `python` is an absolute path; a node without it uses the `python3` of its PATH. What has secrets is not run bare:
    the wrapper alone knows where they are. Raises Usage.
    """
    if not command:
        raise Usage("there is nothing to run: give a command after `--`")
    words = [str(witness), run_id, str(attempt), workdir]
    if any("\0" in word for word in (*words, *command)):
        raise Usage("no argument of a command can hold a NUL character: put it in a file")
    missing = f"merlin: this node does not see {wrapper}, or has no Python: "
    missing += _WITHOUT_SECRETS if has_secrets else f"the command runs without its wrapper, {_SO}"
    bare = "exit 126" if has_secrets else f'CDPATH= cd -- {shlex.quote(workdir)} || exit 125; exec "$@"'
    text = (
        f"set -- {shlex.join(command)}; "
        f"merlin_wrapper={shlex.quote(str(wrapper))}; merlin_python={shlex.quote(python)}; "
        '[ -x "$merlin_python" ] || merlin_python=$(command -v python3); '
        'if [ -r "$merlin_wrapper" ] && [ -n "$merlin_python" ]; then '
        f'exec "$merlin_python" {_PYTHON_OPTIONS} "$merlin_wrapper" {shlex.join(words)} -- "$@"; fi; '
        f"printf '%s\\n' {shlex.quote(missing)} >&2; {bare}"
    )
    if (size := len(os.fsencode(text))) > ENTRYPOINT_BYTES_MAX:
        raise Usage(f"the command is too long to be started ({size} of {ENTRYPOINT_BYTES_MAX} bytes): put it in a file")
    return text


_WITHOUT_SECRETS = (
    "the command needs secrets, which lie under the state root, and is not run: have this node see the state root"
)
_SO = "so nothing here keeps it from running twice, records its end or ends what it leaves behind"


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _read(path: Path, kind: type[_T]) -> _T | None:
    """Read one file; None when it is not there."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Sick(
            f"{path}: {error.strerror}; make it readable, nothing is decided about its run until then"
        ) from error
    except msgspec.DecodeError as error:
        raise Sick(
            f"{path} is not what a wrapper writes ({error}): bring it back, or remove it when its command never ran"
        ) from error
