"""Does a secret get to a command on the real Ray, whoever dies on the way, and does Ray never tell it to anybody?"""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.e2e.lab import Lab
from tests.integration.test_secrets import require_nowhere

pytestmark = pytest.mark.xdist_group("ray")

S = "hunter2-of-the-lab"
PROVE = 'test "$HF_TOKEN" = "hunter2-of-the-$0" && test "$1" = "Bearer $HF_TOKEN" && echo "it is $HF_TOKEN"; exit 3'


def wanted(lab: Lab) -> tuple[str, ...]:
    """Give the words of a submission whose command has a secret in its environment and one in its words."""
    options = ("--target", "board", "--workflow", "w", "--target-dir", str(lab.work), "--cpus", "0.1")
    return ("jobs", "submit", *options, "--env", f"HF_TOKEN={S}", "--", "sh", "-c", PROVE, "lab", f"Bearer {S}")


def said_by_ray(lab: Lab) -> str:
    """Give all that Ray's API tells of its jobs, but for their messages: these quote what a command itself printed."""
    assert lab.url
    assert lab.token
    request = urllib.request.Request(f"{lab.url}/api/jobs/")
    request.add_header("Authorization", f"Bearer {lab.token.read_text()}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.dumps([{**job, "message": ""} for job in json.loads(answer.read())])


def test_a_secret_reaches_the_command_although_the_submitter_dies_and_nobody_is_told(lab: Lab) -> None:
    lab.cli(*wanted(lab), failpoint="submit.before")
    [run] = lab.runs()
    assert lab.merlin.submissions.vault.get(run) is not None
    ended = lab.ended(run)
    assert (ended.status, ended.exit_code) == ("failed", 3)
    assert b"".join(lab.merlin.output(run)) == b"it is [redacted]\n", "the command had it, and what is kept has not"
    assert ended.request.redacted == ("/env/HF_TOKEN", "/command/4")
    told = said_by_ray(lab)
    assert run in told
    assert S not in told
    lab.merlin.reconcile_once()
    assert lab.merlin.submissions.vault.get(run) is None
    require_nowhere(lab.root, S)


def test_a_run_whose_secrets_are_gone_before_it_is_submitted_is_an_error_that_says_what_to_do(lab: Lab) -> None:
    lab.cli(*wanted(lab), failpoint="submit.before")
    [run] = lab.runs()
    lab.merlin.submissions.vault.forget(run)
    ended = lab.until(run, lambda record: record.is_terminal)
    assert ended.status == "error"
    assert "/env/HF_TOKEN, /command/4 was never recorded" in (ended.message or "")
    assert "submit it again as a new run" in (ended.message or "")
    assert run not in said_by_ray(lab)
