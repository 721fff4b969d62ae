"""Where is what a run needs and no log may have, and for how long?

In `secrets/<run_id>.json` under the state root, which only its user can read, from before the run is recorded until it
has ended. The wrapper of the run reads it there, on the machine that runs it: neither Ray nor its API ever has it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from merlin_es.errors import MerlinError, Sick
from merlin_es.redaction import Hidden
from projections.layout import is_run_id

DIRECTORY = "secrets"
VARIABLE = "MERLIN_SECRETS"
"""Tells the wrapper where the file is."""


@dataclass(frozen=True)
class Vault:
    """What is hidden of the runs of one state root."""

    root: Path

    def path(self, run_id: str) -> Path:
        """Give the file of a run, whether it is there or not."""
        return self.root / DIRECTORY / f"{run_id}.json"

    def put(self, run_id: str, hidden: Hidden) -> None:
        """Keep what a run needs, durably, for this user alone. Raises MerlinError."""
        path = self.path(run_id)
        new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(json.dumps(asdict(hidden)).encode())
                    file.flush()
                    os.fsync(descriptor)
                new.replace(path)
            except BaseException:
                new.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise MerlinError(
                f"{path}: {error.strerror}; nothing was recorded of {run_id}: make room and give access there, then "
                "submit it again"
            ) from error

    def get(self, run_id: str) -> Hidden | None:
        """Give what is kept of a run; None where nothing is. Raises Sick."""
        path = self.path(run_id)
        try:
            return Hidden(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Sick(f"{path}: {error.strerror}; make it readable for this user alone") from error
        except (ValueError, TypeError, RecursionError):
            raise Sick(
                f"{path} is not what was kept there: remove it, and submit {run_id} again as a new run"
            ) from None

    def forget(self, run_id: str) -> None:
        """Remove what is kept of a run; twice is once. What cannot be removed now, the doctor names."""
        with suppress(OSError):
            self.path(run_id).unlink()

    def run_ids(self) -> Iterator[str]:
        """Yield the runs of which something is kept."""
        with suppress(OSError):
            for path in sorted((self.root / DIRECTORY).iterdir()):
                if path.suffix == ".json" and is_run_id(path.stem):
                    yield path.stem
