"""How much memory does one pass over a log need? A program of its own, so that it is about nothing else.

python3 tools/benches/peak.py {verify|fold} TOP STREAM
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from eventlog import FileLog, verify


def main() -> int:
    """Pass over the log, then print the most bytes that this process had in memory."""
    what, top, stream = sys.argv[1:]
    log = FileLog(Path(top))
    if what == "verify":
        assert verify(log.path(stream)).state == "whole"
    else:
        types: Counter[str] = Counter()
        for event in log.read(stream):
            types[event.type] += 1
        assert types.total() == log.head(stream).seq
    print(_peak_bytes())
    return 0


def _peak_bytes() -> int:
    # Not ru_maxrss of getrusage(2): that counts what the parent had in memory when it started this process.
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.removesuffix("kB")) * 1024
    raise LookupError("/proc/self/status does not say VmHWM: measure on Linux")


if __name__ == "__main__":
    sys.exit(main())
