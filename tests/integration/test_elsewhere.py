"""Is what lies outside of the state root told where everything is told, and is it said when it is there no more?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from merlin_es import bootstrap, cli, then
from merlin_es.past import Past
from merlin_es.settings import Settings
from merlin_es.waiting import WORKFLOW
from projections.events.run import DryRunRecorded
from projections.layout import run_stream
from tests.execution_examples import Desk
from tests.past_examples import log_in, record
from tests.run_examples import IMPORTED, RUN, intended, requested, started, submitted

GATE = "build-branch_gate"
OTHER = "saturn-20261123071351-abcdef02"


def carried_out(desk: Desk, root: Path, run_id: str = RUN) -> Past:
    """Record a run that carries out the plan of a desk."""
    wish = replace(requested(run_id, workflow=WORKFLOW), target_dir=str(desk.path))
    record(log_in(root), run_stream(run_id), [wish, intended(), submitted()])
    return past_of(root)


def past_of(root: Path) -> Past:
    return bootstrap.past(Settings(root, root.parent, "ada@lab", sync=False))


def test_the_events_of_all_streams_are_also_those_of_executions_each_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    carried_out(desk, tmp_path / "s")
    past = carried_out(desk, tmp_path / "s", OTHER)
    found = [(event.stream, event.seq) for event in past.timeline(None).news()]
    assert len(found) == len(set(found))
    assert {stream for stream, _ in found} == {run_stream(RUN), run_stream(OTHER), desk.place.stream}
    assert past.elsewhere.gone == {}


def test_whoever_follows_everything_sees_an_execution_that_begins_later(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    hidden = desk.path.rename(tmp_path / "hidden")
    past = carried_out(desk, tmp_path / "s")
    timeline = past.timeline(None)
    assert {event.stream for event in timeline.news()} == {run_stream(RUN)}
    assert past.elsewhere.gone == {str(desk.path): RUN}
    hidden.rename(desk.path)
    assert next(past.follow(timeline, None)).type == "execution.prepared"
    assert past.elsewhere.gone == {}


@pytest.mark.parametrize("words", [("events",), ("events", RUN), ("state",)])
def test_an_execution_whose_directory_is_gone_is_named_on_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    desk = Desk(tmp_path / "w")
    carried_out(desk, tmp_path / "s")
    shutil.rmtree(desk.path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["merlin", "ray", "--state-root", "s", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert not done.value.code, "what is there was shown"
    shown = capsys.readouterr()
    assert RUN in shown.out
    assert shown.err == (
        f"merlin: {RUN} was to carry out what lay in {desk.path}, and there is no log any more: "
        "where it was moved to, `merlin ray events DIRECTORY` shows it\n"
    )


def test_what_never_had_a_log_is_not_missed(tmp_path: Path) -> None:
    wish = replace(requested(workflow=WORKFLOW), target_dir=str(tmp_path / "none"))
    record(log_in(tmp_path / "s"), run_stream(RUN), [wish, DryRunRecorded(message="would run", entrypoint="x")])
    imported = replace(IMPORTED, workflow=WORKFLOW, target_dir=str(tmp_path / "old"))
    record(log_in(tmp_path / "s"), run_stream(OTHER), [imported])
    past = past_of(tmp_path / "s")
    assert len(list(past.timeline(None).news())) == 3
    assert past.elsewhere.gone == {}


def test_the_status_of_a_run_at_a_moment_has_the_question_that_was_open_then(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    past = carried_out(desk, tmp_path / "s")
    desk.execute()
    desk.respond(3)
    desk.execute()
    record(log_in(tmp_path / "s"), run_stream(RUN), [started()])
    asked = {event.type: event for event in desk.place.log.read(str(desk.place.stream))}["question.asked"]
    desk.answer(GATE, "apply_in_worktree")
    for moment, questions in ((asked.time, [GATE]), ("question.asked", [GATE]), ("question.answered", [])):
        known, _ = then.status(past, RUN, moment)
        assert known["execution"]["open_questions"] == questions, moment
    before, _ = then.status(past, RUN, "question.asked")
    assert before["execution"]["outcome"] == "awaiting_operator"
    assert before["execution"]["current_task"] == "build"
