"""How does a lab come to rest, so that nothing is under way any more and everything can be checked?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from soaking.lab import Lab, wait_for
from soaking.place import EXAMPLES, KEYS, Place

REST_LIMIT_S = 900.0
PATIENCE_S = 60.0
"""For what runs to end by itself."""
OF_THE_HOST = frozenset({"versions", "file system", "fsync", "disk space"})
"""What the doctor looks at that no soak can help: a lab may be made on any disk."""
OVER = frozenset({"completed", "failed", "cancelled", "error", "dry_run"})


def bring_to_rest(lab: Lab) -> None:
    """Do what somebody on call would: have the doctor mend, give up what nobody can find, wait for all the rest."""
    place = lab.place
    place.merlin("ray", "doctor", "--fix")  # Who could not write a file, or died before, has left an older one.
    for key in KEYS:
        place.merlin("ray", "resources", "enable", key, "--reason", "the end")
    patient_until = time.monotonic() + PATIENCE_S
    wait_for(lambda: _runs_are_over(place, patient_until), REST_LIMIT_S, "some runs go on")
    wait_for(lambda: _nobody_holds(place), REST_LIMIT_S, "some leases are held, or waited for")
    assert lab.reconciler
    lab.reconciler.terminate()
    lab.reconciler.wait(REST_LIMIT_S)


def _going_on(place: Place) -> dict[str, str]:
    return {run: status for run, status in place.statuses().items() if status not in OVER}


def _runs_are_over(place: Place, patient_until: float) -> bool:
    """Tell whether all have ended; what nobody lets go on is cancelled, and in the end all that goes on."""
    going_on = _going_on(place)
    for run, status in sorted(going_on.items()):
        if status in ("blocked", "lost", "waiting") or time.monotonic() > patient_until:
            place.merlin("ray", "jobs", "cancel", run)
    return not going_on


def _nobody_holds(place: Place) -> bool:
    place.merlin("ray", "resources", "list")  # Whoever looks puts away who has died.
    return not place.held() and "Nobody waits" in place.merlin("ray", "resources", "queue").stdout


def checks(place: Place) -> Iterator[tuple[str, bool, str]]:
    """Let the product check itself: what was asked, whether the answer is clean, and what it said."""
    mended = place.merlin("ray", "doctor", "--fix").stdout
    yield "doctor --fix", True, "\n".join(line for line in mended.splitlines() if line.startswith("fixed"))
    for words in (("rebuild", "--check"), ("verify", "--all")):
        done = place.merlin("ray", *words)
        yield " ".join(words), done.returncode == 0, done.stdout[-2000:] + done.stderr
    found = json.loads(place.merlin("ray", "doctor", "-o", "json").stdout)
    bad = [each for each in found if each["severity"] in ("warning", "error") and each["check"] not in OF_THE_HOST]
    yield "doctor", not bad, "\n".join(f"{each['severity']} {each['check']}: {each['what']}" for each in bad)
    for directory in executions(place):
        place.merlin("targetgen", "rebuild", "--target-dir", str(directory))
        done = place.merlin("targetgen", "rebuild", "--check", "--target-dir", str(directory))
        yield f"targetgen rebuild --check {directory.name}", done.returncode == 0, done.stdout + done.stderr


def executions(place: Place) -> list[Path]:
    """Give the directories in which a plan was carried out."""
    directories = (place.work / "build/generated/targetgen" / name for name in EXAMPLES)
    return [directory for directory in directories if (directory / "events.jsonl").exists()]
