"""What do the tests of verbs that look back have at hand? A state root that has seen something, two hours ago."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import freezegun
import pytest
from freezegun.api import FrozenDateTimeFactory

from merlin_es import cli
from projections.events import cluster as c
from projections.events import run as r
from projections.layout import CLUSTER, run_stream
from tests.past_examples import BEGIN, LIFE, OTHER, STREAM, Done, Hands, Type, log_in, record
from tests.run_examples import BLOCKED, CLUSTER_STARTED, failed, indexed, intended, requested, started, submitted


@pytest.fixture
def clock() -> Iterator[FrozenDateTimeFactory]:
    with freezegun.freeze_time(BEGIN + timedelta(hours=2)) as frozen:
        yield frozen  # type: ignore[misc]  # it is one that moves


@pytest.fixture
def type_(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clock: FrozenDateTimeFactory
) -> Iterator[Type]:
    """Give `merlin ray …` without a process of its own, two hours after what happened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setenv("MERLIN_FSYNC", "off")
    warnings.simplefilter("ignore", RuntimeWarning)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def type_words(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["merlin", "ray", "--state-root", "s", *words])
        with pytest.raises(SystemExit) as done:
            cli.main()
        shown = capsys.readouterr()
        assert "\x1b" not in shown.out + shown.err, "no colours in a pipe"
        return Done(int(done.value.code or 0), shown.out, shown.err)

    yield type_words
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def hands(tmp_path: Path) -> Hands:
    """Give the clock of a state root that has seen two runs and a cluster; 16 seconds have passed."""
    hands = Hands()
    log = log_in(tmp_path / "s", hands)
    record(log, CLUSTER, [CLUSTER_STARTED], "ada@lab")
    record(log, STREAM, LIFE)
    record(log, run_stream(OTHER), [requested(OTHER), BLOCKED, r.RunUnblocked(), intended(), submitted()], "bob@lab")
    record(log, CLUSTER, [c.ClusterUnreachable(kind="timeout", message="no answer")], "reconciler", "reconcile")
    record(log, run_stream(OTHER), [started(), indexed("b.txt"), failed()], "reconciler", "reconcile")
    return hands
