"""What do the verbs of `merlin ray` do for a user, a script and an attacker where no Ray is needed?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from merlin_es import cli
from merlin_es.cli.printing import printable
from merlin_es.commands import SubmitRun
from merlin_es.errors import Usage
from merlin_es.wishes import check
from tests.examples import ROOT
from tests.terminals import shown_on

LIMIT_S = 120.0
SUBMIT = ("jobs", "submit", "--target", "t", "--workflow", "w", "--target-dir", "out")
VERBS = [
    *(("cluster", verb) for verb in ("start-local", "attach", "status", "stop")),
    *(("jobs", verb) for verb in ("submit", "status", "list", "logs", "cancel", "retry", "wait")),
    *(("artifacts", verb) for verb in ("list", "index", "fetch")),
    ("reconcile",),
    ("rebuild",),
    *((verb,) for verb in ("events", "replay", "why", "diff", "state", "wait", "fork")),
    ("import",),
    ("doctor",),
]


class Shell:
    """A directory in which words are typed."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "s"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MERLIN_")}
        ours = {"PYTHONPATH": str(ROOT), "MERLIN_FSYNC": "off", "PYTHONWARNINGS": "ignore"}
        return {**kept, **ours, **(more or {})}

    def argv(self, *words: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-m", "merlin_es", "ray", *words]

    def type(
        self, *words: str | bytes, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*words),
            cwd=cwd or self.top,
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert "\x1b" not in done.stdout + done.stderr, "no colours in a pipe"
        return done

    def merlin(self, *words: str | bytes, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return self.type("--state-root", str(self.root), *words, env=env)

    def refused(self, code: int, *words: str | bytes, env: Mapping[str, str] | None = None) -> str:
        done = self.merlin(*words, env=env)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert done.stderr.startswith("merlin: ")
        assert len(done.stderr.splitlines()) == 3, "what, why, and what to do"
        return done.stderr

    def blocked(self, *options: str, command: tuple[str, ...] = ("true",)) -> str:
        done = self.merlin(*SUBMIT, *options, "--", *command)
        assert done.returncode == 5, done
        return lines(done.stdout)["Run ID"]

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


def lines(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines())


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


class Inside(Shell):
    """The same without processes, whose starts take most of the time."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(top)
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def type(
        self, *words: str | bytes, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        with self._monkeypatch.context() as patch, warnings.catch_warnings():
            patch.chdir(cwd or self.top)
            patch.setattr(sys, "argv", ["merlin", "ray", *map(os.fsdecode, words)])
            for name in [name for name in os.environ if name.startswith("MERLIN_")]:
                patch.delenv(name)
            for name, value in {"MERLIN_FSYNC": "off", **(env or {})}.items():
                patch.setenv(name, value)
            warnings.simplefilter("ignore")
            with pytest.raises(SystemExit) as done:
                cli.main()
        shown = self._capsys.readouterr()
        assert "\x1b" not in shown.out + shown.err, "no colours in a pipe"
        return subprocess.CompletedProcess([*words], int(done.value.code or 0), shown.out, shown.err)


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Inside]:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield Inside(tmp_path, monkeypatch, capsys)
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Here:
    """The same without a process of its own, which takes most of the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def refused(self, code: int, *words: str | bytes) -> None:
        self._monkeypatch.setattr(sys, "argv", ["merlin", "ray", "--state-root", "s", *map(os.fsdecode, words)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        shown = self._capsys.readouterr()
        assert (done.value.code, shown.out) == (code, "")
        assert shown.err.startswith("merlin: ")
        assert len(shown.err.splitlines()) == 3, "what, why, and what to do"

    def explained(self, columns: int, *words: str) -> str:
        self._monkeypatch.setattr(sys, "argv", ["merlin", "ray", *words, "--help"])
        self._monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as done:
            cli.main()
        shown = self._capsys.readouterr()
        assert (done.value.code or 0, shown.err) == (0, "")
        return shown.out


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield Here(monkeypatch, capsys)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself_and_hides_no_default(here: Here, verb: tuple[str, ...]) -> None:
    for columns in (80, 200):
        text = here.explained(columns, *verb)
        assert text.startswith(f"Usage: merlin ray {' '.join(verb)} ")
        assert max(map(len, text.splitlines())) <= columns, "an example too"
        assert " ." not in text, "a bracket was taken for markup"
        assert "\x1b" not in text, "no colours in a pipe"
    assert list(Path.cwd().iterdir()) == []


def test_a_group_without_a_verb_shows_its_help_where_no_result_is_expected(shell: Shell) -> None:
    for words in ((), ("jobs",), ("cluster",), ("artifacts",)):
        done = shell.type(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("Usage: merlin ray")


@pytest.mark.parametrize(
    "words",
    [
        ("frob",),
        ("jobs", "frob"),
        ("jobs", "list", "--limit", "0"),
        ("jobs", "list", "--status", "nope"),
        ("jobs", "list", "--since", "5"),
        ("jobs", "list", "--since", ""),
        ("jobs", "list", "--since", "999999999w"),
        ("jobs", "list", "--since", "0001-01-01T00:00+14:00"),
        ("jobs", "list", "-o", "yaml"),
        ("jobs", "status"),
        ("jobs", "wait", "-t", "nan", "x"),
        ("jobs", "logs", "--tail", "-1", "x"),
        ("cluster", "start-local", "--port", "0"),
        ("cluster", "start-local", "--dashboard-port", "70000"),
        ("cluster", "start-local", "--host", "a b"),
        ("cluster", "start-local", "--host", "::1"),
        ("cluster", "start-local", "--host", "-x"),
        ("cluster", "attach", ""),
        ("cluster", "attach", "foo"),
        ("cluster", "attach", "file:///etc/passwd"),
        ("cluster", "attach", "ray://h:10001"),
        ("cluster", "attach", "http://127.0.0.1:1", "--token-file", ""),
        (*SUBMIT,),
        (*SUBMIT, "--command", "a", "--", "b"),
        (*SUBMIT, "--command", ""),
        (*SUBMIT, "--command", "'"),
        (*SUBMIT, "a", "--b"),
        (*SUBMIT, "--target", "../x", "--", "a"),
        (*SUBMIT, "--target", "a/b", "--", "a"),
        (*SUBMIT, "--target", "é", "--", "a"),
        (*SUBMIT, "--target", "", "--", "a"),
        (*SUBMIT, "--target", "a" * 200, "--", "a"),
        (*SUBMIT, "--workflow", "", "--", "a"),
        (*SUBMIT, "--target-dir", "", "--", "a"),
        (*SUBMIT, "--workdir", "", "--", "a"),
        (*SUBMIT, "--working-dir", "nowhere", "--", "a"),
        (*SUBMIT, "--idempotency-key", "", "--", "a"),
        (*SUBMIT, "--cpus", "nan", "--", "a"),
        (*SUBMIT, "--cpus", "-1", "--", "a"),
        (*SUBMIT, "--timeout", "inf", "--", "a"),
        (*SUBMIT, "--env", "=x", "--", "a"),
        (*SUBMIT, "--resource", "u250=inf", "--", "a"),
        (*SUBMIT, "--resource", "u250=0", "--", "a"),
        (*SUBMIT, "--metadata", "job_submission_id=x", "--", "a"),
        (*SUBMIT, "--metadata", "merlin_helper=1", "--", "a"),
        (*SUBMIT, "--capture", "../*", "--", "a"),
        (*SUBMIT, "--", "x" * 99_000),
        (*SUBMIT, "--", "'" * 20_000),
        (*SUBMIT, "--", b"\xff"),
        (*SUBMIT, "--source", b"\xff", "--", "a"),
    ],
    ids=lambda words: ascii(words[-4:])[:60],
)
def test_what_cannot_be_meant_is_three_lines_with_exit_code_2_and_leaves_nothing(
    here: Here, words: tuple[str | bytes, ...]
) -> None:
    here.refused(2, *words)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("run", ["nobody", "", "../..", "a/b", "a\nb", "x" * 5000, b"\xff", "-", "☃"])
@pytest.mark.parametrize(
    "verb",
    [
        ("jobs", "status"),
        ("jobs", "logs"),
        ("jobs", "logs", "-f"),
        ("jobs", "cancel"),
        ("jobs", "retry"),
        ("jobs", "wait"),
        ("artifacts", "list"),
        ("artifacts", "index"),
    ],
    ids=" ".join,
)
def test_a_run_that_is_not_there_is_not_found_and_makes_no_file(
    here: Here, verb: tuple[str, ...], run: str | bytes
) -> None:
    here.refused(3, *verb, run)
    assert list(Path.cwd().iterdir()) == []


def test_a_submission_without_a_cluster_is_blocked_in_the_lines_of_old(inside: Inside) -> None:
    done = inside.merlin(*SUBMIT, "--command", "sh -c 'echo \"a  b\"' -x")
    assert (done.returncode, done.stderr) == (5, "")
    assert list(lines(done.stdout)) == ["Run ID", "Status", "Workflow", "Message"]
    found = lines(done.stdout)
    assert found["Status"] == "blocked"
    assert "merlin ray cluster start-local" in found["Message"]
    status = inside.merlin("jobs", "status", found["Run ID"])
    assert status.returncode == 0
    assert list(lines(status.stdout)) == ["Run ID", "Status", "Workflow", "Target", "Target dir", "Message"]
    assert lines(status.stdout)["Target dir"] == str(inside.top / "out")
    record = json.loads(inside.merlin("jobs", "status", found["Run ID"], "-o", "json").stdout)
    assert record["command"] == ["sh", "-c", 'echo "a  b"', "-x"]
    assert (record["source"], record["engine"], record["workdir"]) == ("manual_cli", "ray", str(inside.top))


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("--command", "-c foo"), ["-c", "foo"]),
        (("--command=-x",), ["-x"]),
        (("--command", "echo 'it''s' \"$HOME\" a\\ b"), ["echo", "its", "$HOME", "a b"]),
        (("--", "a", "--b", "-c", "--", "--help"), ["a", "--b", "-c", "--", "--help"]),
        (("--", "sh", "-c", "", "a\nb", "☃"), ["sh", "-c", "", "a\nb", "☃"]),
    ],
)
def test_the_command_is_recorded_word_by_word(inside: Inside, words: tuple[str, ...], command: list[str]) -> None:
    done = inside.merlin(*SUBMIT, "-o", "json", *words)
    assert done.returncode == 5
    assert json.loads(done.stdout)["command"] == command


def test_a_run_that_was_never_submitted_has_no_output_and_rests(inside: Inside) -> None:
    run = inside.blocked()
    for follow in ((), ("-f",), ("-f", "--tail", "0"), ("--tail", "0")):
        assert "was never submitted, so it has no output" in inside.refused(3, "jobs", "logs", *follow, run)
    for verb in (("wait",), ("wait", "-t", "0"), ("retry",)):
        done = inside.merlin("jobs", *verb, run)
        assert done.returncode == 5
        assert list(lines(done.stdout)) == ["Run ID", "Status", "Message"]
    assert inside.merlin("artifacts", "list", run).stdout == "No artifacts.\n"
    assert json.loads(inside.merlin("artifacts", "list", run, "-o", "json").stdout) == []
    inside.refused(3, "artifacts", "fetch", run, "x")
    done = inside.merlin("jobs", "cancel", run)
    assert (done.returncode, lines(done.stdout)["Status"]) == (0, "cancelled")
    assert inside.merlin("jobs", "wait", run).returncode == 9
    assert "final" in inside.refused(4, "jobs", "retry", run)


def test_waiting_for_a_submission_that_is_blocked_says_so_once(inside: Inside) -> None:
    done = inside.merlin(*SUBMIT, "--wait", "--", "true")
    assert done.returncode == 5
    assert list(lines(done.stdout)) == ["Run ID", "Status", "Workflow", "Message"]


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "cancel", "RUN"),
        ("jobs", "retry", "RUN"),
        ("jobs", "wait", "RUN"),
        ("jobs", "logs", "-f", "RUN"),
        ("artifacts", "index", "RUN"),
        ("artifacts", "fetch", "RUN", "x"),
        ("reconcile",),
        ("reconcile", "--once"),
    ],
    ids=" ".join,
)
def test_a_verb_that_acts_and_has_no_dry_run_refuses_it(inside: Inside, words: tuple[str, ...]) -> None:
    run = inside.blocked()
    before = inside.files()
    message = inside.refused(2, "--dry-run", *(run if word == "RUN" else word for word in words))
    assert "has no dry run, and nothing was done" in message
    assert inside.files() == before


def test_a_dry_run_of_the_cluster_says_what_would_be_and_records_nothing(inside: Inside) -> None:
    start = inside.merlin("--dry-run", "cluster", "start-local", "--port", "7000")
    assert list(lines(start.stdout)) == ["Cluster", "Status", "Address", "Dashboard", "Message"]
    assert (lines(start.stdout)["Status"], lines(start.stdout)["Address"]) == ("dry_run", "127.0.0.1:7000")
    attach = inside.merlin("--dry-run", "cluster", "attach", "http://127.0.0.1:1", "-o", "json")
    assert json.loads(attach.stdout)["status"] == "dry_run"
    stop = inside.merlin("--dry-run", "cluster", "stop")
    assert lines(stop.stdout)["Status"] == "not_started"
    assert (start.returncode, attach.returncode, stop.returncode) == (0, 0, 0)
    assert not inside.root.exists()


def test_a_dry_run_of_the_rest_reads_or_is_recorded_as_one(inside: Inside) -> None:
    done = inside.merlin("--dry-run", *SUBMIT, "--wait", "--", "true")
    assert (done.returncode, lines(done.stdout)["Status"]) == (0, "dry_run")
    run = inside.blocked()
    (inside.root / "runs" / run / "run_record.json").unlink()
    before = inside.files()
    for words in (("jobs", "status", run), ("jobs", "list"), ("artifacts", "list", run), ("cluster", "status")):
        assert inside.merlin("--dry-run", *words).returncode == 0
    rebuild = inside.merlin("--dry-run", "rebuild")
    assert rebuild.returncode == 4
    assert "run_record.json" in rebuild.stdout
    after = {path: content for path, content in inside.files().items() if "index" not in path.name}
    assert after == {path: content for path, content in before.items() if "index" not in path.name}


CLUSTER_FIELDS = {
    *("cluster_name", "status", "address", "dashboard_url", "namespace", "managed_by", "message"),
    *("started_at", "updated_at"),
}
RUN_FIELDS = {
    *("run_id", "target", "workflow", "source", "command", "workdir", "target_dir", "metadata", "created_at"),
    *("engine", "status", "cluster_address", "submission_id", "message", "updated_at"),
}


def test_json_has_the_fields_of_the_files_of_old(inside: Inside) -> None:
    run = inside.blocked()
    for verb in ("status", "stop", "start-local"):
        found = json.loads(inside.merlin("--dry-run", "cluster", verb, "-o", "json").stdout)
        assert found.keys() >= CLUSTER_FIELDS
        assert (found["cluster_name"], found["managed_by"]) == ("merlin-local", "merlin-raycp")
    for words in (("status", run), ("wait", run), ("retry", run), ("cancel", run), ("status", "--cached", run)):
        assert json.loads(inside.merlin("jobs", *words, "-o", "json").stdout).keys() >= RUN_FIELDS
    assert json.loads(inside.merlin("jobs", "list", "-o", "json").stdout)[0]["run_id"] == run
    assert {row["state"] for row in json.loads(inside.merlin("rebuild", "-o", "json").stdout)} <= {"same", "written"}


def test_a_host_without_ray_says_so_and_blocks(shell: Shell) -> None:
    bare = shell.top / "bin"
    bare.mkdir()
    (bare / "python3").symlink_to(Path(sys.executable).resolve())
    paths = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    environment = {**shell.environment(), "PATH": str(bare), "PYTHONPATH": paths, "HOME": str(shell.top / "nowhere")}

    def merlin(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(bare / "python3"), "-m", "merlin_es", "ray", "--state-root", str(shell.root), *words]
        return subprocess.run(
            argv, cwd=shell.top, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )

    for _ in range(2):  # Before somebody tried to start one, and after.
        status = lines(merlin("cluster", "status").stdout)
        assert status["Status"] == "unavailable"
        assert 'pip install "ray[default]"' in status["Message"]
        start = merlin("cluster", "start-local")
        assert (start.returncode, start.stdout) == (6, "")
        assert "no `ray` beside" in start.stderr
        submit = merlin(*SUBMIT, "--", "true")
        assert submit.returncode == 5
        assert lines(submit.stdout)["Status"] == "blocked"
    there_now = lines(shell.merlin("cluster", "status").stdout)
    assert there_now["Status"] == "not_started", "what is on this host is asked, not remembered"


def test_a_state_root_that_is_none_is_refused_by_every_verb(inside: Inside) -> None:
    inside.root.touch()
    for verb in (("jobs", "list"), ("cluster", "status"), ("cluster", "start-local"), ("rebuild",), ("reconcile",)):
        assert "is no directory" in inside.refused(2, *verb)
    empty = inside.type("--state-root", "", "jobs", "list")
    assert (empty.returncode, empty.stdout) == (2, "")
    assert "it is empty" in empty.stderr


def test_a_current_directory_that_is_gone_is_told_of_in_three_lines(shell: Shell) -> None:
    code = (
        "import os, sys, tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d);os.execv(sys.argv[1], sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *shell.argv("jobs", "list")],
        env=shell.environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "merlin: the current directory cannot be entered\n"
        "  why:  No such file or directory\n"
        "  next: change to another one\n"
    )


def test_a_directory_that_may_only_be_read_is_read_and_said_to_be_so(shell: Shell) -> None:
    run = shell.blocked()
    paths = [shell.root, *shell.root.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(modes[path] & 0o555)
    harmless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []

    def merlin(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*harmless, *shell.argv("--state-root", str(shell.root), *words)],
            cwd=shell.top,
            env=shell.environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    try:
        reads = [("list",), ("status", run), ("status", "--cached", run)]
        assert [merlin("jobs", *words).returncode for words in reads] == [0, 0, 0]
        for words in ((*SUBMIT, "--", "true"), ("jobs", "cancel", run), ("cluster", "start-local"), ("reconcile",)):
            done = merlin(*words)
            assert (done.returncode, done.stdout) == (1, ""), done
            assert "Permission denied" in done.stderr
            assert len(done.stderr.splitlines()) == 3
    finally:
        for path in paths:
            path.chmod(modes[path])


def test_a_reader_that_has_had_enough_is_no_error(shell: Shell) -> None:
    shell.blocked()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        shell.argv("--state-root", str(shell.root), "jobs", "list"),
        env=shell.environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=LIMIT_S,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_under_stdout_is_three_lines_and_an_exit_code(shell: Shell) -> None:
    shell.blocked()
    for verb in (("jobs", "list"), ("cluster", "status", "-o", "json")):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                shell.argv("--state-root", str(shell.root), *verb),
                env=shell.environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=LIMIT_S,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.startswith(b"merlin: No space left on device")
        assert len(done.stderr.splitlines()) == 3


def test_a_closed_stdout_is_no_traceback(shell: Shell) -> None:
    command = " ".join(["exec", sys.executable, "-m merlin_es ray --state-root", str(shell.root), "jobs list >&-"])
    done = subprocess.run(
        ["sh", "-c", command], env=shell.environment(), stderr=subprocess.PIPE, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_others_wrote_does_nothing_to_a_terminal_or_a_script(inside: Inside) -> None:
    evil = "a\nStatus: completed\x1b]0;title\x07\x1b[31mred\x1b[0m\x9b2J\u202e\r\x08end"
    run = inside.blocked("--workflow", evil)
    for verb in (("jobs", "status", run), ("jobs", "list")):
        output = inside.merlin(*verb).stdout
        assert "\x1b" not in output
        assert "\nStatus: completed" not in output
        assert "a Status: completedred end" in output
    assert json.loads(inside.merlin("jobs", "status", run, "-o", "json").stdout)["workflow"] == evil


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a  b /c", "/a  b /c"),
        ("two\r\nlines", "two lines"),
        ("\x1b[1;31mred\x1b[m", "red"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ends", ""),
        ("lone \x1b", "lone  "),
        ("\u2066turned\u2069", " turned "),
        ("ünï ☃", "ünï ☃"),
    ],
)
def test_a_text_is_shown_on_its_line_and_a_path_stays_itself(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_list_fits_a_terminal_and_is_whole_in_a_pipe(shell: Shell) -> None:
    for workflow in ("short", "板" * 10, "two\nlines"):
        shell.blocked("--workflow", workflow)
    words = shell.argv("--state-root", str(shell.root), "jobs", "list")
    table = shown_on(90, [*map(str, words)], shell.environment({}))
    assert len(table) == 4
    widths = [sum(2 if each == "板" else 1 for each in line) for line in table]
    assert max(widths) == 90
    assert all(line.endswith("…") for line in table[1:])
    begins = [line[: line.index("20", 40)] for line in table[1:]]
    assert len({sum(2 if each == "板" else 1 for each in begin) for begin in begins}) == 1, "columns are straight"
    piped = shell.merlin("jobs", "list").stdout.splitlines()
    assert len(piped) == 4
    assert all("merlin ray jobs retry RUN" in line for line in piped[1:])


@pytest.mark.parametrize("count", [0, 1])
def test_a_list_of_few(inside: Inside, count: int) -> None:
    for _ in range(count):
        inside.blocked()
    done = inside.merlin("jobs", "list")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1 + count
    assert done.stdout.startswith("RUN " if count else "No runs.\n")
    for since, expected in (("7d", count), ("2000-01-01", count), ("2000-01-01T07:00Z", count), ("2999-01-01", 0)):
        found = inside.merlin("jobs", "list", "--since", since, "-o", "json").stdout
        assert len(json.loads(found)) == expected


def test_it_speaks_where_the_locale_cannot(shell: Shell) -> None:
    run = shell.blocked("--workflow", "ünï")
    for environment in (
        {"LC_ALL": "C", "TERM": "dumb", "HOME": "/nonexistent"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
    ):
        argv = shell.argv("--state-root", str(shell.root), "jobs", "status", run)
        for more in ((), ("-o", "json")):
            done = subprocess.run(
                [*argv, *more], env=shell.environment(environment), capture_output=True, timeout=LIMIT_S, check=False
            )
            assert (done.returncode, done.stderr) == (0, b"")
        assert json.loads(done.stdout)["workflow"] == "ünï"


def test_a_warning_is_one_line_too(shell: Shell) -> None:
    done = shell.merlin("cluster", "status", env={"PYTHONWARNINGS": "default"})
    assert done.stderr == "merlin: syncing is off: a power cut loses acknowledged events\n"


def test_a_sensible_wish_passes() -> None:
    check(SubmitRun("r", "t", "w", "s", ("true", "'" * 10_000), "/", "/", cpus=0.0, metadata={"merlin": "1"}))


def test_a_wish_that_no_line_of_a_log_holds_is_refused() -> None:
    with pytest.raises(Usage, match="put what is large into a file"):
        check(SubmitRun("r", "t", "w", "s", ("true",), "/", "/", env={"A": "x" * 200_000}))
