"""Is what happens in a soak planned as it says, and is a disk full for those who are to meet that, and only so long?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.examples import ROOT

WRITER = """
import os, sys
path = sys.argv[1]
for _ in sys.stdin:
    try:
        with open(path, "ab") as file:
            file.write(b"x" * 10)
        print(os.path.getsize(path), flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")


@pytest.mark.parametrize("minutes", [0.5, 2, 30])
def test_all_that_can_happen_happens_however_short_a_soak_is(minutes: float) -> None:
    import soak

    planned = soak.accidents(minutes * 60)
    kinds = Counter(what for _, what in planned)
    assert set(kinds) == {"a client dies", "the reconciler dies", "the head dies", "the disk is full"}
    assert kinds["the disk is full"] == 1
    assert planned == sorted(planned)
    assert all(0 < at_s < minutes * 60 for at_s, _ in planned)
    assert planned == soak.accidents(minutes * 60)


def test_half_an_hour_has_many_accidents() -> None:
    import soak

    kinds = Counter(what for _, what in soak.accidents(1800))
    assert kinds == {"a client dies": 150, "the reconciler dies": 45, "the head dies": 4, "the disk is full": 1}


def test_where_nothing_can_be_mounted_a_limit_is_the_full_disk_and_goes_away_again(tmp_path: Path) -> None:
    from soaking.disk import Limited

    file = tmp_path / "file"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(file)], text=True, **pipes) as writer:  # type: ignore[call-overload]  # pipes
        limited = Limited(tmp_path / "d", lambda: [writer.pid])

        def write() -> str:
            writer.stdin.write("go\n")
            writer.stdin.flush()
            return str(writer.stdout.readline().strip())

        assert write() == "10"
        with limited.full():
            assert write() == os.strerror(27)
            (tmp_path / "others").write_text("whoever is not meant has room")
        assert write() == "20"
        writer.stdin.close()
