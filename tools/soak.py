"""Does a small lab stay right for half an hour in which everything that can die does?

    python3 tools/soak.py [--minutes 30] [--clients 20] [--seed 7] [--dir DIR] [--keep] [--json]

Clients submit, cancel, retry, lease, hold, carry out plans and answer their questions, on a real Ray head of this
lab's own. Meanwhile clients and the reconciler are killed, the head is killed and started again, and the disk is full
once. Then the lab comes to rest, Merlin checks itself, and `audit.py` checks the logs by themselves. The seed decides
who does what in which order and who is killed; how that falls together is the machine's. The exit code is 1 when
anything is found.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import audit
from soaking import disk, rest
from soaking.lab import Lab, Stuck, machine
from soaking.place import Place

CLIENT_KILLS_EVERY_S, RECONCILER_KILLS_EVERY_S, HEAD_KILLS_EVERY_S = 12.0, 40.0, 420.0
HEAD_DOWN_S, DISK_FULL_S = 5.0, 8.0
DURABLE_FROM_MINUTES = 5
"""A durable head never starts what it had queued when it was killed, and takes minutes to say so: too long for less."""
SECONDS_FOR_EACH_DEED = 0.25
"""Of all clients together: a machine with two cores has to have some left for Ray."""


def main() -> int:
    """Soak, and print what came of it."""
    options = _options()
    disk.enter(sys.argv)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    top = Path(tempfile.mkdtemp(prefix="soak-", dir=options.dir))
    place = Place(top)
    lab = Lab(
        place, options.seed, options.clients * SECONDS_FOR_EACH_DEED, durable=options.minutes >= DURABLE_FROM_MINUTES
    )
    begun = time.monotonic()
    try:
        store = disk.make(place.disk, lab.pids)
        place.make()
        _soak(lab, store, options)
        rest.bring_to_rest(lab)
        found = _checked(place)
    except Stuck as stuck:
        found = [f"the lab: {stuck}"]
    except BaseException:
        lab.stop()
        disk.remove(top)  # Whoever interrupts it wants nothing of it.
        raise
    lab.stop()
    report = audit.examine(audit.Evidence([place.state, place.work], place.told(), [place.executed], ended=True))
    found += [*map(str, report.violations), *_complaints(place)]
    figures = {**report.figures, **lab.deaths}
    _print(found, figures, _verbs(place), store.name, time.monotonic() - begun, as_json=options.json)
    if options.keep or found:
        print(f"the files are in {top}", file=sys.stderr)
        _save(place)
    else:
        disk.remove(top)
    return 1 if found else 0


def _soak(lab: Lab, store: disk.Disk, options: argparse.Namespace) -> None:
    """Have everybody work, and things happen, until the time is over."""
    lab.place.declare()
    lab.start_head()
    lab.start_reconciler()
    for number in range(options.clients):
        lab.start_client(number)
    dice, begun = random.Random(options.seed), time.monotonic()
    for at_s, what in accidents(options.minutes * 60):
        time.sleep(max(0.0, begun + at_s - time.monotonic()))
        print(f"{at_s:6.0f} s  {what}", file=sys.stderr, flush=True)
        happened = time.monotonic()
        _happen(what, lab, store, dice)
        begun += time.monotonic() - happened  # A head takes its time where others keep the machine busy.
    time.sleep(max(0.0, begun + options.minutes * 60 - time.monotonic()))
    lab.send_clients_home()


def accidents(length_s: float) -> list[tuple[float, str]]:
    """Give what happens, and when: each kind at least once, however short the soak is."""
    planned = [(length_s * 0.6, "the disk is full")]
    every = {
        "a client dies": CLIENT_KILLS_EVERY_S,
        "the reconciler dies": RECONCILER_KILLS_EVERY_S,
        "the head dies": HEAD_KILLS_EVERY_S,
    }
    for what, every_s in every.items():
        count = max(1, int(length_s / every_s))
        planned += [(length_s * (place + 0.5) / count * 0.9, what) for place in range(count)]
    return sorted(planned)


def _happen(what: str, lab: Lab, store: disk.Disk, dice: random.Random) -> None:
    deeds: dict[str, Callable[[], None]] = {
        "a client dies": lambda: lab.kill_client(dice),
        "the reconciler dies": lab.kill_reconciler,
        "the head dies": lambda: _lose_the_head(lab),
        "the disk is full": lambda: _fill(lab, store),
    }
    deeds[what]()


def _lose_the_head(lab: Lab) -> None:
    lab.kill_head()
    time.sleep(HEAD_DOWN_S)
    lab.start_head()


def _fill(lab: Lab, store: disk.Disk) -> None:
    with store.full():
        time.sleep(DISK_FULL_S)
    lab.deaths["full disk"] += 1
    lab.place.merlin("ray", "doctor", "--fix")  # As the doctor itself says of a disk that has room again.
    lab.start_head()  # It may have died of that; when it has not, this changes nothing.
    if lab.reconciler and lab.reconciler.poll() is not None:
        lab.start_reconciler()
    for number, client in lab.clients.items():
        if client.poll() is not None:
            lab.start_client(number)


def _checked(place: Place) -> list[str]:
    found = []
    for what, clean, said in rest.checks(place):
        lines = said.rstrip().splitlines()
        print(f"{what}: {'clean' if clean else 'NOT CLEAN'}", file=sys.stderr)
        for line in lines[-1:] if clean else lines:
            print(f"    {line}", file=sys.stderr)
        if not clean:
            found.append(f"{what}: {said[-2000:]}")
    return found


def _complaints(place: Place) -> Iterator[str]:
    for path in sorted(place.journals.glob("complaints-*.jsonl")):
        for line in path.read_text().splitlines():
            yield f"a client: {json.loads(line)}"


def _verbs(place: Place) -> Counter[tuple[str, int]]:
    """Count how often each verb has ended with which exit code."""
    codes: Counter[tuple[str, int]] = Counter()
    for path in place.journals.glob("verbs-*.jsonl"):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                said = json.loads(line)
                codes[said["verb"], said["code"]] += 1
    return codes


def _print(
    found: list[str],
    figures: dict[str, int],
    verbs: Counter[tuple[str, int]],
    store: str,
    length_s: float,
    *,
    as_json: bool,
) -> None:
    if as_json:
        counts = {f"{verb} {code}": count for (verb, code), count in verbs.items()}
        document = {"violations": found, "figures": figures, "verbs": counts, "seconds": round(length_s), "disk": store}
        print(json.dumps(document, indent=2, sort_keys=True))
        return
    print(", ".join(f"{count:,} {name}" for name, count in figures.items()))
    print("how often each verb ended with which exit code:")
    for verb in sorted({verb for verb, _ in verbs}):
        codes = sorted((code, count) for (each, code), count in verbs.items() if each == verb)
        print(f"  {verb:<22}{''.join(f'{code:>4}: {count:<5,}' for code, count in codes)}".rstrip())
    for each in found:
        print(each)
    print(f"{len(found)} violations in {length_s:.0f} s, on {machine()}; the disk was {store}")


def _save(place: Place) -> None:
    """Copy what lies on a disk that only this process sees to where everybody does."""
    if place.disk.is_mount():
        (place.top / "kept").mkdir()
        for name in ("state", "work"):
            subprocess.run(["cp", "-a", str(place.disk / name), str(place.top / "kept" / name)], check=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Have a small lab work while everything dies, and check what is left.")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the lab works")
    parser.add_argument("--clients", type=int, default=20, help="how many people work there")
    parser.add_argument("--seed", type=int, default=7, help="what decides who does what, and who dies")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where to make the directory of the lab")
    parser.add_argument("--keep", action="store_true", help="leave the files and say where they are")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
