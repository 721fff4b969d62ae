"""Does a secret get to the command of a run, and to no log, no file that is kept and no prompt on its way?"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from eventlog import BlobStore
from merlin_es import bootstrap
from merlin_es.app import Merlin
from merlin_es.commands import SubmitRun
from merlin_es.errors import MerlinError
from merlin_es.redaction import REDACTED, Hidden, Rules
from merlin_es.settings import Settings, load
from merlin_es.targetgen.agents import CommandAgent
from merlin_es.targetgen.validation import ShellValidation
from projections.cluster import NOT_STARTED
from projections.events.run import LogsCaptured
from tests.run_examples import completed, failed, intended, started, submitted
from tests.words import typed

S = "hunter2-of-the-lab"
RUN = "board-20261123071351-abcdef01"
SCRIPT = 'echo "$HF_TOKEN" "$0" "$1"'


def wish(top: Path, *command: str, run_id: str = RUN, **env: str) -> SubmitRun:
    return SubmitRun(run_id, "board", "w", "test", command or ("true",), str(top), str(top), env=env)


@pytest.fixture
def merlin(tmp_path: Path) -> Merlin:
    return bootstrap.build(Settings(tmp_path / "state", tmp_path, "ada@lab", sync=False))


def everything(top: Path, *, but: str = "secrets") -> Iterator[tuple[Path, bytes]]:
    """Give every file below a directory, but those that are meant to have a secret in them."""
    for path in sorted(top.rglob("*")):
        if path.is_file() and but not in path.parts:
            yield path, path.read_bytes()


def require_nowhere(top: Path, *secrets: str) -> None:
    for path, content in everything(top):
        for secret in secrets:
            assert secret.encode() not in content, path


def test_a_submission_is_recorded_without_its_secrets_and_says_which_they_were(tmp_path: Path) -> None:
    root = tmp_path / "state"
    options = ("--target", "board", "--workflow", "w", "--target-dir", str(tmp_path), "--env", f"HF_TOKEN={S}")
    command = ("--metadata", "api_key=abc-def", "--", "curl", f"https://ada:{S}@host/", "--token", "xyzxyz")
    done = typed("ray", "--state-root", str(root), "jobs", "submit", *options, *command, cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    require_nowhere(tmp_path, S, "abc-def", "xyzxyz")
    assert S not in done.stdout + done.stderr
    [path] = root.glob("runs/*/run_request.json")
    asked = json.loads(path.read_bytes())
    assert asked["redacted"] == ["/env/HF_TOKEN", "/command/1", "/command/3", "/metadata/api_key"]
    assert asked["command"] == ["curl", "https://ada:[redacted]@host/", "--token", "[redacted]"]
    [kept] = (root / "secrets").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert kept.stem == path.parent.name


def test_a_secret_of_whoever_asks_is_known_where_it_stands_in_a_command(tmp_path: Path) -> None:
    settings = load(tmp_path / "state", {"CI_TOKEN": S, "LAB_PIN": "0815-4711", "MERLIN_REDACT": "LAB_*"}, tmp_path)
    merlin = bootstrap.build(settings)
    record = merlin.submit(wish(tmp_path, "sh", "-c", f"login {S} 0815-4711"))
    assert record.request.command == ("sh", "-c", "login [redacted] [redacted]")
    require_nowhere(tmp_path, S, "0815-4711")


def test_what_is_a_secret_besides_stands_in_the_settings_of_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.merlin]\nredact = ["LAB_*", "PIN"]\n')
    merlin = bootstrap.build(load(tmp_path / "state", {}, tmp_path))
    record = merlin.submit(wish(tmp_path, LAB_DOOR="left left right", PIN="1", SPIN="up"))
    assert record.request.redacted == ("/env/LAB_DOOR", "/env/PIN")
    assert record.request.env["SPIN"] == "up"


def test_secrets_are_kept_before_the_run_is_recorded_and_go_when_it_has_ended(tmp_path: Path, merlin: Merlin) -> None:
    merlin.submit(wish(tmp_path, HF_TOKEN=S))
    vault = merlin.submissions.vault
    assert vault.get(RUN) is not None
    merlin.submit(wish(tmp_path, HF_TOKEN="another-one"))
    assert vault.get(RUN) == Hidden({"HF_TOKEN": S}), "the same run again is the same run"
    merlin.cancel(RUN)
    assert vault.get(RUN) is None
    merlin.submit(wish(tmp_path, HF_TOKEN=S))
    assert vault.get(RUN) is None, "what has ended gets nothing any more"


def test_what_somebody_died_over_is_forgotten_by_the_next_pass(tmp_path: Path, merlin: Merlin) -> None:
    merlin.submit(wish(tmp_path, HF_TOKEN=S))
    other = RUN[:-1] + "2"
    merlin.submit(wish(tmp_path, run_id=other, HF_TOKEN=S))
    merlin.ledger.change_run(RUN, lambda _known: (intended(), submitted(), started(), completed()))
    merlin.reconcile_once()
    assert list(merlin.submissions.vault.run_ids()) == [other], "and of no run that goes on"


def test_where_nothing_can_be_hidden_nothing_is_recorded(tmp_path: Path, merlin: Merlin) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "secrets").write_text("in the way")
    with pytest.raises(MerlinError, match=r"nothing was recorded of .*submit it again"):
        merlin.submit(wish(tmp_path, HF_TOKEN=S))
    assert not merlin.ledger.has_run(RUN)


def test_a_dry_run_hides_nothing_and_shows_nothing(tmp_path: Path, merlin: Merlin) -> None:
    record = merlin.submit(wish(tmp_path, "echo", f"HF_TOKEN={S}", HF_TOKEN=S), dry_run=True)
    assert record.status == "dry_run"
    assert not (tmp_path / "state" / "secrets").exists()
    require_nowhere(tmp_path, S)


def test_the_same_idempotency_key_with_another_token_is_the_same_run(tmp_path: Path) -> None:
    def submit(token: str) -> str:
        options = ("--target", "b", "--workflow", "w", "--target-dir", ".", "--idempotency-key", "k", "--env", token)
        words = ("ray", "--state-root", str(tmp_path / "s"), "jobs", "submit", *options, "--", "true")
        return typed(*words, cwd=tmp_path).stdout

    assert submit(f"HF_TOKEN={S}") == submit("HF_TOKEN=a-new-one")
    require_nowhere(tmp_path, S)


def wrapped(merlin: Merlin, top: Path, *command: str, **env: str) -> tuple[str, Mapping[str, str]]:
    """Give what Ray would be given to run, and in which environment."""
    merlin.submit(wish(top, *command, **env))
    record = merlin.ledger.run(RUN)
    entrypoint = merlin.submissions.entrypoint(record, 1)
    assert S not in entrypoint
    attempt = replace(intended(), entrypoint=entrypoint, submission_id=RUN)
    record = merlin.ledger.change_run(RUN, lambda _known: (attempt,))
    assert record.attempt
    submission = merlin.submissions.submission(record, record.attempt)
    assert "HF_TOKEN" not in submission.env, "a word in its place would be taken for it where the wrapper is not"
    assert S not in repr(submission), "Ray is told nothing that its API would tell anybody"
    return entrypoint, submission.env


def run(entrypoint: str, env: Mapping[str, str], top: Path) -> subprocess.CompletedProcess[str]:
    argv = ["/bin/sh", "-c", entrypoint]
    return subprocess.run(argv, env={**os.environ, **env}, cwd=top, capture_output=True, text=True, check=False)


def test_the_wrapper_gives_the_command_what_was_hidden(tmp_path: Path, merlin: Merlin) -> None:
    done = run(*wrapped(merlin, tmp_path, "sh", "-c", SCRIPT, f"Bearer {S}", "plain", HF_TOKEN=S), tmp_path)
    assert done.stdout == f"{S} Bearer {S} plain\n", done.stderr
    merlin.submissions.vault.forget(RUN)
    require_nowhere(tmp_path, S)


def test_the_command_is_not_run_without_what_was_hidden(tmp_path: Path, merlin: Merlin) -> None:
    entrypoint, env = wrapped(merlin, tmp_path, "sh", "-c", SCRIPT, HF_TOKEN=S)
    merlin.submissions.vault.forget(RUN)
    done = run(entrypoint, env, tmp_path)
    assert (done.returncode, done.stdout) == (126, "")
    assert "submit it again as a new run" in done.stderr


def test_where_the_state_root_is_not_seen_a_command_with_secrets_is_not_run_bare(
    tmp_path: Path, merlin: Merlin
) -> None:
    entrypoint, env = wrapped(merlin, tmp_path, "sh", "-c", SCRIPT, HF_TOKEN=S)
    (tmp_path / "state").rename(tmp_path / "unseen")
    done = run(entrypoint, env, tmp_path)
    assert (done.returncode, done.stdout) == (126, "")
    assert "have this node see the state root" in done.stderr


class Driver:
    """A job server that has the output of a run, and nothing else."""

    def __init__(self, output: bytes) -> None:
        self.output = output

    def logs(self, _submission_id: str) -> bytes:
        return self.output


def test_what_a_run_printed_is_kept_without_its_secrets_and_says_so(tmp_path: Path, merlin: Merlin) -> None:
    merlin.submit(wish(tmp_path, HF_TOKEN=S))
    record = merlin.ledger.change_run(RUN, lambda _known: (intended(), submitted(), started()))
    output = f"login with {S}\nGET https://ada:{S}x@host/\n".encode()
    kept = merlin.keeper.keep(record, (completed(),), Driver(output), NOT_STARTED)  # type: ignore[arg-type]  # all that is asked of it
    captured = kept[0]
    assert isinstance(captured, LogsCaptured)
    assert captured.redacted == ("/env/HF_TOKEN", "url")
    assert merlin.blobs.get(captured.sha256) == b"login with [redacted]\nGET https://ada:[redacted]@host/\n"


def test_what_ray_quotes_of_the_output_is_recorded_without_secrets(tmp_path: Path, merlin: Merlin) -> None:
    merlin.submit(wish(tmp_path, HF_TOKEN=S))
    quoted = replace(failed(), ray_message=f"last available logs: {S}", message="it broke")
    told = merlin.keeper.without_secrets(merlin.ledger.run(RUN), quoted)
    assert told == replace(quoted, ray_message="last available logs: [redacted]", redacted=("ray_message",))


def test_a_plan_is_carried_out_without_a_word_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    env = {"AIHUB_API_TOKEN": S, "HF_TOKEN": S, "MERLIN_RUN_ID": ""}
    place = tmp_path / "build/generated/targetgen/nvidia_ada"
    where = (
        "--target-dir",
        str(place),
        "--question-id",
        "implement_runtime_hal-device",
        "--choice",
        "device_available",
    )
    prepared = typed("targetgen", "orchestrate", "--example", "nvidia_ada", cwd=tmp_path, env=env)
    assert prepared.returncode == 0, prepared.stderr
    answered = [("execute", "--from-dir", str(place)), ("answer", *where), ("execute", "--from-dir", str(place))]
    codes = [typed("targetgen", *words, cwd=tmp_path, env=env).returncode for words in answered]
    assert codes == [17, 0, 18]
    assert len(list(everything(tmp_path))) > 20
    require_nowhere(tmp_path, S)


def test_what_an_agent_and_a_validation_print_is_kept_without_secrets(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    environment = {**os.environ, "AGENT_TOKEN": S}
    rules = Rules().knowing(environment)
    command = "sh -c 'echo $AGENT_TOKEN; cp $0 $1' {prompt_file} {response_file} --api-key xyzxyz"
    prompt, response = tmp_path / "prompt.md", tmp_path / "response.md"
    prompt.write_text("say something")
    ran = CommandAgent(command, blobs, environment, tmp_path, rules).run(prompt, response, 60.0)
    assert ran.succeeded
    assert response.exists()
    assert ran.argv[-2:] == ("--api-key", REDACTED)
    assert blobs.get(ran.output_sha256) == b"[redacted]\n"
    (tmp_path / "left.txt").write_text(S)
    checked = ShellValidation(blobs, environment, rules=rules).run("cat left.txt; printenv AGENT_TOKEN", tmp_path, 60.0)
    assert blobs.get(checked.output_sha256) == b"[redacted]", "and the variable is not there"


def test_a_response_with_a_secret_is_refused_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    place = tmp_path / "build/generated/targetgen/nvidia_ada"
    env = {"LAB_TOKEN": S}
    where = (
        "--target-dir",
        str(place),
        "--question-id",
        "implement_runtime_hal-device",
        "--choice",
        "device_available",
    )
    for words in (
        ("orchestrate", "--example", "nvidia_ada"),
        ("execute", "--from-dir", str(place)),
        ("answer", *where),
    ):
        typed("targetgen", *words, cwd=tmp_path, env=env)
    assert typed("targetgen", "execute", "--from-dir", str(place), cwd=tmp_path, env=env).returncode == 18
    response = place / "prompts/prompt_003.response.md"
    response.write_text(f"```c path=runtime/src/iree/hal/drivers/nvidia_ada/api.h\nlogin({S});\n```\n")
    done = typed("targetgen", "execute", "--from-dir", str(place), cwd=tmp_path, env=env)
    assert done.returncode == 18
    [refused] = [line for line in (place / "events.jsonl").read_text().splitlines() if "response.refused" in line]
    assert "the value of LAB_TOKEN in it" in refused
    response.unlink()
    require_nowhere(tmp_path, S)


def test_a_validation_with_a_secret_is_refused_before_it_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    words = ("execute", "--example", "nvidia_ada", "--validate", "implement_runtime_hal=check --token abcdef")
    done = typed("targetgen", *words, cwd=tmp_path)
    assert (done.returncode, "read it from" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "build").exists()


def test_what_is_noted_with_a_lease_has_no_secrets(tmp_path: Path) -> None:
    words = ("ray", "--state-root", str(tmp_path / "s"), "resources", "reserve", "board", "--owner", "ada")
    more = ("--metadata", "api_token=abcdef", "--metadata", f"url=http://ada:{S}@host/", "--metadata", "rack=7")
    assert typed(*words, *more, cwd=tmp_path).returncode == 0
    require_nowhere(tmp_path, S, "abcdef")
    [lease] = (tmp_path / "s/resources/leases").glob("lease-*.json")
    noted = json.loads(lease.read_bytes())["metadata"]
    assert noted == {"api_token": REDACTED, "url": f"http://ada:{REDACTED}@host/", "rack": "7"}
