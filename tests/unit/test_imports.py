"""Do the verbs that are typed most start without what only the others need?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples import ROOT
from tests.ray_replay import Running, replaying

HEAVY = {"pydantic", "pydantic_core", "ray", "watchfiles", "rich", "http.client"}
OF_OTHERS = {
    *("merlin_es.app", "merlin_es.reconciler", "merlin_es.cluster_link", "merlin_es.ledger", "merlin_es.commands"),
    *("merlin_es.ports", "projections.events.base", "projections.events.run", "projections.events.cluster"),
    *("projections.projection", "projections.run_record", "projections.index", "projections.files", "sqlite3"),
}
"""What whoever asks for a lease has no use for."""
OF_LEASES = {
    *("merlin_es.resources", "merlin_es.claims", "merlin_es.clerk", "merlin_es.turns", "merlin_es.turn_lock"),
    *("merlin_es.drafts", "merlin_es.desk", "merlin_es.asking", "merlin_es.bells"),
    *("merlin_es.observer", "merlin_es.lock_probe", "merlin_es.deciders.lease", "merlin_es.lease_commands"),
    *("projections.leases", "projections.lease_state", "projections.lease_files", "projections.events.lease"),
    *("projections.checkpoint", "projections.folding"),
}
"""What whoever looks at events has no use for, those of the resources too."""
SPARED = {"getpass", "termios", "_socket"}
"""What libraries import that can do without; the last one is what typing_extensions begins with."""
OF_SUBMISSIONS = {
    *("merlin_es.commands", "merlin_es.wishes", "merlin_es.packages", "merlin_es.artifacts", "merlin_es.fetch"),
    *("merlin_es.globs", "merlin_es.tree"),
}
"""What whoever looks at a run has no use for, as long as it has not ended."""
OF_TURNS = {"merlin_es.resources", "merlin_es.turns", "merlin_es.redaction", "merlin_es.vault"}
"""What it has no use for unless it holds leases or has secrets."""


class Verbs:
    """Runs `merlin ray …` on a state root with one run that has ended, and sees what that imports."""

    def __init__(self, top: Path) -> None:
        self.top = top
        wish = ("--target", "board", "--workflow", "bringup", "--target-dir", str(top), "--", "true")
        self.submitting, text = self.imported("--dry-run", "jobs", "submit", *wish)
        self.run_id = text.splitlines()[0].removeprefix("Run ID: ")

    def imported(self, *words: str, group: str | None = "ray", check: bool = True) -> tuple[set[str], str]:
        """Give the names of all modules that a verb imports, and what it prints."""
        before = [group] if group else []
        if group == "ray":
            before += ["--state-root", str(self.top / "s")]
        mine = {"PYTHONPATH": str(ROOT), "MERLIN_FSYNC": "off", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "merlin_es", *before, *words],
            cwd=self.top,
            env={**{name: value for name, value in os.environ.items() if not name.startswith("MERLIN_")}, **mine},
            capture_output=True,
            text=True,
            timeout=120,
            check=check,
        )
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        return {line.rpartition("|")[2].strip() for line in lines}, done.stdout

    def python(self, program: str) -> str:
        """Give what a program prints that imports what it likes of Merlin."""
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.top,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout


@pytest.fixture(scope="module")
def verbs(tmp_path_factory: pytest.TempPathFactory) -> Verbs:
    return Verbs(tmp_path_factory.mktemp("imports"))


def test_who_asks_for_a_lease_imports_nothing_of_runs_and_clusters_and_nothing_heavy(verbs: Verbs) -> None:
    imported, text = verbs.imported("resources", "reserve", "u250", "--owner", "ada", "--ttl", "1h")
    lease_id = text.splitlines()[0].removeprefix("Lease ID: ")
    told = {"reserve": imported}
    for words in (("renew", lease_id), ("check", lease_id, "--fence", "1"), ("list", "--all"), ("release", lease_id)):
        told[words[0]], _ = verbs.imported("resources", *words)
    hold = ("hold", "u250", "--owner", "ada", "--", "true")
    told["hold"], _ = verbs.imported("resources", *hold)
    for verb, names in told.items():
        assert {"merlin_es.resources", "projections.events.lease"} <= names, verb
        assert not names & (HEAVY | OF_OTHERS | SPARED), verb
        assert not names & {"merlin_es.moments", "merlin_es.chronicles", "projections.lease_wish"}, verb
        assert not [name for name in names if name.startswith("merlin_es.ray_adapter")], verb


def test_a_list_of_what_is_at_rest_imports_nothing_heavy(verbs: Verbs) -> None:
    verbs.imported("resources", "reserve", "slot7", "--owner", "ada")
    imported, text = verbs.imported("resources", "list")
    assert "slot7 active owner=ada" in text
    assert not imported & HEAVY
    assert "merlin_es.bootstrap" not in imported


@pytest.mark.parametrize("output", ["text", "json"])
def test_the_status_of_a_run_that_has_ended_imports_nothing_heavy(verbs: Verbs, output: str) -> None:
    imported, text = verbs.imported("jobs", "status", verbs.run_id, "-o", output)
    assert "dry_run" in text
    assert "projections.fresh" in imported
    assert not imported & HEAVY
    assert "projections.index" not in imported
    assert "merlin_es.cli.cluster" not in imported


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_list_from_a_fresh_index_imports_nothing_heavy(verbs: Verbs, output: str) -> None:
    verbs.imported("jobs", "list")  # Whatever is new is in the index now.
    imported, text = verbs.imported("jobs", "list", "-o", output)
    assert verbs.run_id in text
    assert "projections.index" in imported
    assert not imported & HEAVY


def test_who_looks_at_events_waits_for_no_fold(verbs: Verbs) -> None:
    verbs.imported("resources", "reserve", "slot8", "--owner", "ada")
    for words in ((), (verbs.run_id,), ("resources", "--since", "1h"), (verbs.run_id, "-o", "jsonl")):
        imported, text = verbs.imported("events", *words)
        assert text, words
        assert not imported & HEAVY, words
        assert not imported & {"projections.run_record", "projections.lease_wish", *SPARED, *OF_LEASES}, words
        assert ("merlin_es.moments" in imported) == ("--since" in words), words


def test_where_the_settings_come_from_is_shown_without_what_is_heavy(verbs: Verbs) -> None:
    imported, text = verbs.imported("settings", group=None)
    assert "MERLIN_FSYNC" in text
    assert not imported & HEAVY
    assert not {"tomllib", "merlin_es.cli.ray", "projections.index", "msgspec"} & imported


def test_who_looks_at_a_run_that_has_not_ended_imports_nothing_of_submissions(verbs: Verbs) -> None:
    wish = ("--target", "board", "--workflow", "bringup", "--target-dir", str(verbs.top), "--", "true")
    _, text = verbs.imported("jobs", "submit", *wish, check=False)
    run_id = text.splitlines()[0].removeprefix("Run ID: ")
    imported, text = verbs.imported("jobs", "status", run_id)
    assert "Status: blocked" in text
    assert "merlin_es.reconciler" in imported
    assert not imported & (HEAVY | OF_SUBMISSIONS)


def test_who_looks_at_a_run_that_ray_has_imports_no_pydantic(verbs: Verbs) -> None:
    wish = ("--target", "board", "--workflow", "bringup", "--target-dir", str(verbs.top), "--", "true")
    told: dict[str, set[str]] = {}
    with replaying(kind=Running) as server:
        told["attach"], _ = verbs.imported("cluster", "attach", server.address)
        told["submit"], text = verbs.imported("jobs", "submit", *wish)
        run_id = text.splitlines()[0].removeprefix("Run ID: ")
        for status in ("running", "still running"):
            told[status], text = verbs.imported("jobs", "status", run_id)
            assert "Status: running" in text
    told["unreachable"], text = verbs.imported("jobs", "status", run_id)
    assert "Status: running" in text
    told["cancel"], _ = verbs.imported("jobs", "cancel", run_id, check=False)
    for when, imported in told.items():
        assert not imported & (HEAVY - {"http.client"}), when
    for when in ("running", "still running", "unreachable"):
        assert "http.client" in told[when]
        assert not told[when] & (OF_SUBMISSIONS | OF_TURNS), when
    assert "projections.proving" not in told["still running"]  # Nothing new was recorded of it.


def test_what_begins_every_verb_imports_no_library(verbs: Verbs) -> None:
    begin = "import sys; import merlin_es.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    assert not {"typer", "msgspec", "pydantic", "dataclasses", "importlib_metadata"} & set(verbs.python(begin).split())


def test_what_reads_events_is_built_for_the_kinds_that_are_met(verbs: Verbs) -> None:
    built = (
        "from pathlib import Path; from eventlog import FileLog;"
        "from projections.layout import StateLayout, run_stream;"
        "from projections.events.run import RUN_EVENTS, RunEvent; from typing import get_args;"
        f"log, stream = FileLog(StateLayout(Path('s'))), run_stream({verbs.run_id!r});"
        "met = {recorded.event.type for recorded in RUN_EVENTS.decode(log.read(stream))};"
        "assert set(RUN_EVENTS._decoders) == met;"
        "print(len(met), len(get_args(RunEvent)))"
    )
    met, kinds = map(int, verbs.python(built).split())
    assert 0 < met < kinds


def test_who_submits_a_run_imports_nothing_heavy(verbs: Verbs) -> None:
    assert "projections.events.run" in verbs.submitting
    assert not verbs.submitting & HEAVY


@pytest.mark.parametrize("output", ["text", "json"])
def test_the_status_of_an_execution_imports_nothing_heavy(verbs: Verbs, output: str) -> None:
    orchestrated, _ = verbs.imported("orchestrate", "--example", "nvidia_ada", "--out-dir", "out", group="targetgen")
    imported, text = verbs.imported("status", "--target-dir", "out/nvidia_ada", "-o", output, group="targetgen")
    assert "implement_runtime_hal" in text
    assert "projections.fresh" in imported
    assert not imported & HEAVY
    assert "merlin_es.bootstrap" not in imported
    assert {"pydantic", "pydantic_core"} <= orchestrated  # What is heavy is seen where it is needed.
