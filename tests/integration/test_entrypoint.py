"""Does a command run at most once, is its end known, and is nothing left of it, however it and its wrapper end?"""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from merlin_es import entrypoint
from merlin_es.witness import WitnessFiles
from tests.conftest import Figure

WRAPPER = Path(entrypoint.__file__)
LIMIT_S = 60.0
KILLS = 30

Wrapper = subprocess.Popen[bytes]


class Run:
    """A run with its directories, in which commands are started through the wrapper as Ray's supervisor does it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.id = f"run-{uuid.uuid4().hex[:8]}"
        self.files = WitnessFiles(top / "runs")
        self.witness = self.files.directory(self.id)
        self.witness.parent.mkdir(parents=True)
        self.wrapper = top / "blob"  # As in the blob store: no suffix.
        shutil.copyfile(WRAPPER, self.wrapper)
        self.doze = top / "doze"  # A sleep whose command line says whose it is, also where its environment does not.
        self.doze.symlink_to(shutil.which("sleep") or "/bin/sleep")
        self.workdir = top / "work"
        self.workdir.mkdir()
        self._started: list[Wrapper] = []

    def words(self, *command: str, attempt: int = 1, python: str = sys.executable) -> list[str]:
        options = [python, "-I", "-S", "-B", str(self.wrapper)]
        return [*options, str(self.witness), self.id, str(attempt), str(self.workdir), "--", *command]

    def start(self, *command: str, attempt: int = 1, environment: Mapping[str, str] | None = None) -> Wrapper:
        return self.start_words(self.words(*command, attempt=attempt), environment)

    def start_words(self, words: list[str], environment: Mapping[str, str] | None = None) -> Wrapper:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self._started.append(process)
        return process

    def run(self, *command: str, attempt: int = 1, environment: Mapping[str, str] | None = None) -> Done:
        return Done(self.start(*command, attempt=attempt, environment=environment))

    def shell(self, text: str, attempt: int = 1) -> Done:
        return self.run("sh", "-c", text, attempt=attempt)

    def has(self, what: str, attempt: int = 1) -> bool:
        return (self.witness / f"a{attempt}.{what}.json").exists()

    def record(self, what: str, attempt: int = 1) -> dict[str, str | int | float | None]:
        loaded: dict[str, str | int | float | None] = json.loads(
            (self.witness / f"a{attempt}.{what}.json").read_bytes()
        )
        return loaded

    def left(self) -> dict[int, str]:
        """Give every process that has to do with this run, guards and wrappers included."""
        found = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                of_run = f"MERLIN_RUN={self.id}\0".encode() in (entry / "environ").read_bytes()
                if entry.name.isdigit() and words and (of_run or os.fsencode(self.top) in words):
                    found[int(entry.name)] = words.replace(b"\0", b" ").decode()
        return found

    def dozing(self) -> int:
        return sum(words.endswith(f"{self.doze} 100 ") for words in self.left().values())

    def nothing_is_left(self) -> None:
        wait_until(lambda: not self.left(), lambda: f"{self.left()} are left")

    def guards(self) -> list[int]:
        return [pid for pid in self.left() if name_of(pid) == "merlin-guard"]

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate(timeout=LIMIT_S)


def name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


class Done:
    """How a wrapper ended, and what it and the command have said."""

    def __init__(self, process: Wrapper) -> None:
        self.out, self.err = process.communicate(timeout=LIMIT_S)
        self.code = process.returncode


def wait_until(condition: Callable[[], bool], otherwise: Callable[[], str] = lambda: "it did not come") -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.005)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    try:
        yield run
        run.end()
        run.nothing_is_left()
    finally:
        run.end()
        for pid in run.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# What is recorded


def test_a_command_runs_in_its_workdir_and_its_start_and_end_are_recorded(run: Run) -> None:
    before = datetime.now().astimezone()
    done = run.shell("pwd; echo $PWD; sleep 0.2; exit 3")
    assert (done.code, done.out.decode().split(), done.err) == (3, [str(run.workdir)] * 2, b"")
    witness = run.files.read(run.id, 1)
    assert witness.refused is None
    assert witness.started
    assert witness.ended
    assert (witness.ended.exit_code, witness.ended.how, witness.ended.stopped_by) == (3, "exited", None)
    assert 0.2 <= (witness.ended.duration_s or 0) < LIMIT_S
    begun, ended = (datetime.fromisoformat(time) for time in (witness.started.time, witness.ended.time))
    assert before - timedelta(microseconds=1) <= begun < ended <= datetime.now().astimezone()
    assert witness.started.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert 0 < witness.started.boottime_s <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert {path.name for path in run.witness.iterdir()} == {"a1.started.json", "a1.ended.json"}


def test_the_claim_names_the_process_while_it_runs(run: Run) -> None:
    process = run.start(str(run.doze), "100")
    wait_until(lambda: run.has("started"))
    record = run.record("started")
    assert record["pid"] == process.pid
    assert record["pid_started"] == int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_exit_codes_with_a_meaning_of_their_own_and_any_other_are_passed_on_and_recorded(run: Run) -> None:
    codes = [*range(4), 42, 63, 64, *range(124, 132), 137, 139, 143, 254, 255]

    def ask(code: int) -> tuple[int, object]:
        return run.shell(f"exit {code}", attempt=code).code, run.record("ended", code)["exit_code"]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, codes)) == [(code, code) for code in codes]


@pytest.mark.parametrize("name", ["KILL", "TERM", "INT", "HUP", "SEGV", "ABRT", "PIPE", "USR1"])
def test_who_runs_a_command_that_dies_by_a_signal_dies_by_it_too_once_it_is_recorded(run: Run, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    assert run.shell(f"ulimit -c 0; kill -{name} $$").code == -number
    assert run.record("ended")["exit_code"] == -number
    assert run.record("ended")["how"] == "exited"


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["no-such-command-anywhere"], 127, "cannot execute no-such-command-anywhere: No such file or directory"),
        ([""], 127, "cannot execute : No such file or directory"),
        (["/no/such/command"], 127, "cannot execute /no/such/command: No such file or directory"),
        (["./text"], 126, "cannot execute ./text: Permission denied"),
        (["/tmp"], 126, "cannot execute /tmp: Permission denied"),
    ],
)
def test_a_command_that_cannot_be_started_is_said_and_recorded(
    run: Run, command: list[str], code: int, says: str
) -> None:
    (run.workdir / "text").write_text("echo ran\n")
    done = run.run(*command)
    assert (done.code, done.err.decode()) == (code, f"merlin: {says}\n")
    assert (run.record("ended")["exit_code"], run.record("ended")["error"]) == (code, says)
    assert run.files.read(run.id, 1).started


def test_a_missing_workdir_is_said_and_recorded_and_nothing_runs(run: Run) -> None:
    run.workdir.rmdir()
    done = run.run("touch", str(run.top / "ran"))
    assert (done.code, done.err.decode()) == (125, f"merlin: cannot enter {run.workdir}: No such file or directory\n")
    assert run.record("ended")["error"] == f"cannot enter {run.workdir}: No such file or directory"
    assert not (run.top / "ran").exists()


def test_a_script_that_names_no_interpreter_runs_as_it_does_in_a_shell(run: Run) -> None:
    script = run.top / "script"
    script.write_text('echo "$0 $1"\n')
    script.chmod(0o755)
    assert run.run(str(script), "a b").out.decode() == f"{script} a b\n"


def test_misuse_is_told(run: Run) -> None:
    done = Done(run.start_words(run.words()[:-2]))
    assert done.code == 2
    assert b"usage: " in done.err


# What the command gets


def test_output_is_complete_and_in_order(run: Run) -> None:
    count = 200_000
    text = f"import os\nfor n in range({count // 1000}): os.write(1 + n % 2, b'%d\\n' % n * 1000)"
    words = [*run.words(sys.executable, "-c", text)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S)
    assert done.stdout == b"".join(b"%d\n" % n * 1000 for n in range(count // 1000))


def test_the_command_has_nothing_to_read_and_no_descriptors_of_ours(run: Run) -> None:
    script = "import os, sys; print(repr(sys.stdin.read()), sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
    process = subprocess.Popen(
        run.words(sys.executable, "-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout
    assert process.stdout.read() == b"'' [0, 1, 2]\n"  # Although nobody has closed the wrapper's own.
    process.communicate(timeout=LIMIT_S)


def test_a_wrapper_without_standard_descriptors_does_its_work(run: Run) -> None:
    words = run.words("sh", "-c", f"ls /proc/self/fd >{run.top}/open; exit 4")
    done = Done(run.start_words(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words]))
    assert done.code == 4
    assert run.record("ended")["exit_code"] == 4
    assert (run.top / "open").read_text().split()[:2] == ["0", "1"]


def test_signals_are_neither_blocked_nor_ignored_in_the_command(run: Run) -> None:
    out = run.run("grep", "^Sig[BI]", "/proc/self/status").out.decode().split()
    assert out[0::2] == ["SigBlk:", "SigIgn:"]
    # 32 and 33 are the C library's own; its posix_spawn may leave them ignored.
    assert [int(mask, 16) & 0x7FFFFFFF for mask in out[1::2]] == [0, 0]


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LC_CTYPE": "C"}])
def test_the_environment_is_what_it_would_be_without_the_wrapper_and_the_runs_own(
    run: Run, locale: dict[str, str]
) -> None:
    given = {"PATH": os.environ["PATH"], "odd": "a\nb ü\udcff", "OMP_NUM_THREADS": "1", **locale}
    out = subprocess.run(run.words("env", "-0"), env=given, capture_output=True).stdout
    found = dict(os.fsdecode(entry).split("=", 1) for entry in out.split(b"\0")[:-1])
    assert found.pop("MERLIN_EXECUTION").startswith(f"{run.id}/1/")
    assert found == {**given, "MERLIN_RUN": run.id, "MERLIN_ATTEMPT": "1", "PWD": str(run.workdir)}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"OMP_NUM_THREADS": "1", "RAY_JOB_CONFIG_JSON_ENV_VAR": '{"runtime_env": {}}'}, None),
        ({"OMP_NUM_THREADS": "2", "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}, "2"),
        ({"OMP_NUM_THREADS": "1", "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}", "MERLIN_KEEP_OMP": "1"}, "1"),
        ({"OMP_NUM_THREADS": "1", "RAY_JOB_CONFIG_JSON_ENV_VAR": '{"env_vars": {"OMP_NUM_THREADS": "1"}}'}, "1"),
        ({"OMP_NUM_THREADS": "1"}, "1"),
    ],
)
def test_only_rays_unasked_limit_of_threads_is_taken_back(run: Run, given: dict[str, str], kept: str | None) -> None:
    done = run.run("sh", "-c", "echo ${OMP_NUM_THREADS-none}", environment=given)
    assert done.out.decode().strip() == (kept or "none")


# At most once


def test_a_cancelled_run_is_refused_and_its_command_does_not_run(run: Run) -> None:
    run.files.forbid(run.id)
    for _ in range(2):
        assert run.run("touch", str(run.top / "ran")).code == 75
    assert run.files.read(run.id, 1).refused == "cancelled"
    assert not run.has("started")
    assert not (run.top / "ran").exists()


def test_an_attempt_that_was_started_is_refused_and_the_first_goes_on(run: Run) -> None:
    process = run.start("sh", "-c", f"echo ran >>ran; until [ -e go ]; do {run.doze} 0.01; done; exit 5")
    wait_until(lambda: (run.workdir / "ran").exists())
    assert run.shell("echo ran >>ran").code == 76
    wait_until(lambda: len(run.guards()) == 1, lambda: str(run.left()))
    assert process.poll() is None
    assert run.record("refused")["why"] == "already_started"
    (run.workdir / "go").touch()
    assert Done(process).code == 5
    assert run.shell("echo ran >>ran").code == 76
    assert run.record("ended")["exit_code"] == 5
    assert (run.workdir / "ran").read_text() == "ran\n"


def test_another_attempt_is_another_execution(run: Run) -> None:
    assert [run.shell(f"exit {attempt}", attempt).code for attempt in (1, 2, 11)] == [1, 2, 11]
    assert [run.record("ended", attempt)["exit_code"] for attempt in (1, 2, 11)] == [1, 2, 11]


def test_the_first_word_on_a_refusal_stays(run: Run) -> None:
    run.shell("exit 0")
    run.shell("exit 0")
    first = (run.witness / "a1.refused.json").read_bytes()
    run.files.forbid(run.id)
    assert run.shell("exit 0").code == 75
    assert (run.witness / "a1.refused.json").read_bytes() == first


def test_of_sixteen_wrappers_started_at_once_for_one_attempt_one_runs_the_command(run: Run, figure: Figure) -> None:
    # Each waits at its claim until all are there.
    gate = run.top / "gate"
    started = [
        run.start_words(
            altered(run, "publish", f"while not os.path.exists({str(gate)!r}): pass", "sh", "-c", "echo ran")
        )
        for _ in range(16)
    ]
    gate.touch()
    ended = [Done(process) for process in started]
    assert sorted(done.code for done in ended) == [0] + [76] * 15
    assert b"".join(done.out for done in ended) == b"ran\n"
    assert run.record("ended")["exit_code"] == 0
    figure("16 wrappers, one attempt, run once")


def altered(run: Run, method: str, before: str, *command: str, after: str = "pass") -> list[str]:
    """Give the words of a wrapper in which something happens before or after a method of its files."""
    source = (
        f"import os, sys\nspace = {{'__name__': 'wrapper'}}\n"
        f"exec(compile(open({str(run.wrapper)!r}).read(), 'wrapper', 'exec'), space)\n"
        f"real = space['Files'].{method}\n"
        f"def {method}(*given):\n    {before}\n    got = real(*given)\n    {after}\n    return got\n"
        f"space['Files'].{method} = {method}\nspace['main']()\n"
    )
    words = run.words(*command)
    return [*words[:4], "-c", source, *words[5:]]


def test_a_run_that_is_cancelled_between_the_claim_and_the_start_does_not_start(run: Run) -> None:
    after = f"open({str(run.witness / 'cancelled')!r}, 'w')"
    done = Done(run.start_words(altered(run, "publish", "pass", "touch", str(run.top / "ran"), after=after)))
    assert done.code == 75
    run.nothing_is_left()
    assert {path.name for path in run.witness.iterdir()} == {"cancelled", "a1.refused.json"}
    assert not (run.top / "ran").exists()


def test_a_run_that_is_stopped_between_the_claim_and_the_start_does_not_start(run: Run) -> None:
    after = "os.kill(os.getpid(), 15)"
    done = Done(run.start_words(altered(run, "make_directory", "pass", "touch", str(run.top / "ran"), after=after)))
    assert done.code == -signal.SIGTERM
    assert (run.record("ended")["exit_code"], run.record("ended")["stopped_by"]) == (-signal.SIGTERM, "SIGTERM")
    assert not (run.top / "ran").exists()


def test_killed_at_random_moments_a_wrapper_leaves_an_end_no_process_and_no_second_execution(
    run: Run, figure: Figure
) -> None:
    chance = random.Random(20261123)
    command = (
        f"echo ran >>ran-$MERLIN_ATTEMPT; {run.doze} 100 & setsid {run.doze} 100 & (setsid {run.doze} 100 &)\n"
        f"[ -e go-$MERLIN_ATTEMPT ] || {run.doze} 100"
    )
    begun = time.monotonic()
    whole = run.start("sh", "-c", command, attempt=KILLS)
    wait_until(lambda: (run.workdir / f"ran-{KILLS}").exists())
    until_it_runs_s = time.monotonic() - begun
    whole.kill()
    counts = [0, 0, 0]
    for attempt in range(KILLS):
        process = run.start("sh", "-c", command, attempt=attempt)
        time.sleep(chance.uniform(0, 2 * until_it_runs_s))
        process.kill()
        process.communicate(timeout=LIMIT_S)
        run.nothing_is_left()
        claimed, ran = run.has("started", attempt), run.workdir / f"ran-{attempt}"
        assert claimed or not ran.exists()
        assert run.has("ended", attempt) == claimed
        (run.workdir / f"go-{attempt}").touch()
        assert run.start("sh", "-c", command, attempt=attempt).wait(LIMIT_S) == (76 if claimed else 0)
        if claimed:
            assert run.record("ended", attempt)["how"] == "wrapper_killed"
            assert run.record("ended", attempt)["exit_code"] is None
        counts[claimed + ran.exists() if claimed else 0] += 1
        assert not ran.exists() or ran.read_text() == "ran\n"
    run.nothing_is_left()
    assert not [path for path in run.witness.iterdir() if path.name.endswith(".new") and "started" not in path.name]
    assert min(counts[0], counts[2]) > 0, "the kills came all before the claim or all after the start"
    figure(f"{KILLS} kills: {counts[0]} before the claim, {counts[1]} before and {counts[2]} after the command's start")


# Nothing is left


LINGERERS = {
    "in the background": "{doze} 100 &",
    "in a session of its own": "setsid {doze} 100 &",
    "double-forked": "(setsid {doze} 100 &) &",
    "deaf to TERM": "(trap '' TERM; setsid {doze} 100 &) ",
    "stopped": "setsid sh -c 'kill -STOP $$; exec {doze} 100' &",
    "without environment": "env -i {doze} 100 &",
    "without environment, in a session of its own": "setsid sh -c 'env -i setsid {doze} 100 & wait' &",
}


@pytest.mark.parametrize("how", LINGERERS)
def test_what_a_command_leaves_behind_is_ended_before_its_end_is_recorded(run: Run, how: str) -> None:
    lingerer = LINGERERS[how].format(doze=run.doze)
    process = run.start("sh", "-c", f"{lingerer}\nuntil [ -e go ]; do {run.doze} 0.01; done; exit 6")
    wait_until(lambda: run.dozing() == 1)
    (run.workdir / "go").touch()
    done = Done(process)
    assert (done.code, run.dozing()) == (6, 0)
    assert run.record("ended")["exit_code"] == 6


@pytest.mark.parametrize("how", LINGERERS)
def test_what_a_command_runs_is_ended_when_its_wrapper_is_killed(run: Run, how: str) -> None:
    process = run.start("sh", "-c", LINGERERS[how].format(doze=run.doze) + f"\n{run.doze} 100; :")
    wait_until(lambda: run.dozing() == 2)
    process.kill()
    assert Done(process).out == b"", "the pipe is at its end"
    run.nothing_is_left()
    assert (run.record("ended")["how"], run.record("ended")["exit_code"]) == ("wrapper_killed", None)


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_stop_reaches_the_command_which_may_end_as_it_likes(run: Run, name: str) -> None:
    process = run.start("sh", "-c", f"trap 'echo bye; exit 7' {name}; touch ready; while :; do {run.doze} 0.02; done")
    wait_until(lambda: (run.workdir / "ready").exists())
    process.send_signal(signal.Signals[f"SIG{name}"])
    done = Done(process)
    assert (done.code, done.out) == (7, b"bye\n")
    assert (run.record("ended")["exit_code"], run.record("ended")["stopped_by"]) == (7, f"SIG{name}")


def test_a_stop_reaches_what_the_command_has_started_elsewhere(run: Run) -> None:
    child = f"trap 'echo bye >bye; exit' TERM; touch ready; while :; do {run.doze} 0.02; done"
    process = run.start("sh", "-c", f'(setsid sh -c "{child}" &); trap "" TERM; until [ -e bye ]; do :; done')
    wait_until(lambda: (run.workdir / "ready").exists())
    process.terminate()
    assert Done(process).code == 0


def test_a_command_that_will_not_stop_runs_on_until_its_wrapper_is_killed_and_the_stop_is_recorded(run: Run) -> None:
    process = run.start("sh", "-c", f"trap 'echo told >told' TERM; touch ready; while :; do {run.doze} 0.02; done")
    wait_until(lambda: (run.workdir / "ready").exists())
    process.terminate()
    wait_until(lambda: (run.workdir / "told").exists())
    process.kill()
    run.nothing_is_left()
    assert (run.record("ended")["how"], run.record("ended")["stopped_by"]) == ("wrapper_killed", "SIGTERM")


def test_a_wrapper_killed_while_it_cleans_up_leaves_the_commands_own_end(run: Run) -> None:
    process = run.start("sh", "-c", f"(trap '' TERM; setsid {run.doze} 100 & setsid {run.doze} 100 &); exit 8")
    wait_until(lambda: len(list(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())) == 0
               and run.has("started") and len(run.left()) == 4)  # fmt: skip
    process.kill()
    run.nothing_is_left()
    assert (run.record("ended")["how"], run.record("ended")["exit_code"]) == ("exited", 8)


def test_the_guard_holds_nothing_of_the_run_and_is_nobodys_child(run: Run) -> None:
    process = run.start(str(run.doze), "100")
    wait_until(lambda: len(run.guards()) == 1 and len(run.left()) == 3)
    (guard,) = run.guards()
    wait_until(lambda: len(list(Path(f"/proc/{guard}/fd").iterdir())) == 4)
    opened = sorted(str(path.readlink()) for path in Path(f"/proc/{guard}/fd").iterdir())
    assert opened[:3] == ["/dev/null"] * 3
    assert opened[3].startswith("pipe:")
    assert str(Path(f"/proc/{guard}/cwd").readlink()) == "/"
    assert os.getsid(guard) not in (process.pid, os.getsid(0))
    status = Path(f"/proc/{guard}/status").read_text()
    assert f"PPid:\t{process.pid}\n" not in status
    os.killpg(process.pid, signal.SIGKILL)  # As Ray's watcher does it.
    run.nothing_is_left()
    assert run.record("ended")["how"] == "wrapper_killed"


def test_without_its_guard_a_wrapper_does_its_own_work(run: Run) -> None:
    process = run.start("sh", "-c", f"setsid {run.doze} 100 & until [ -e go ]; do {run.doze} 0.01; done; exit 9")
    wait_until(lambda: len(run.guards()) == 1)
    os.kill(run.guards()[0], signal.SIGKILL)
    wait_until(lambda: not run.guards())
    (run.workdir / "go").touch()
    assert Done(process).code == 9
    assert run.record("ended")["exit_code"] == 9


def test_a_supervisor_that_carries_the_runs_variables_is_left_alone(run: Run) -> None:
    words = ["sh", "-c", '"$@"; echo alive', "sh", *run.words("true")]
    done = Done(run.start_words(words, {"MERLIN_RUN": run.id, "MERLIN_ATTEMPT": "1"}))
    assert (done.code, done.out) == (0, b"alive\n")


def test_a_wrapper_within_a_command_goes_with_it(run: Run) -> None:
    inner = run.words("sh", "-c", f"(setsid {run.doze} 100 &); {run.doze} 100; :", attempt=2)
    process = run.start(*inner)
    wait_until(lambda: run.dozing() == 2)
    process.kill()
    run.nothing_is_left()
    assert run.record("ended")["how"] == "wrapper_killed"


def test_the_guard_does_not_bring_back_what_was_recorded_and_removed(run: Run) -> None:
    by_the_wrapper = "if given[1] == 'ended' and os.getpid() == os.getpgid(0): os.unlink(given[0].path('ended'))"
    assert Done(run.start_words(altered(run, "publish", "pass", "true", after=by_the_wrapper))).code == 0
    run.nothing_is_left()
    assert run.has("started")
    assert not run.has("ended")


# When the witness directory cannot be written


def test_where_the_state_root_is_not_seen_the_command_runs_and_that_is_said(run: Run) -> None:
    run.witness.parent.rmdir()
    process = run.start("sh", "-c", f"echo out; setsid {run.doze} 100 & exit 3")
    done = Done(process)
    assert (done.code, done.out) == (3, b"out\n")
    assert done.err.decode() == (
        f"merlin: {run.witness}/a1.started.json: No such file or directory; "
        "the command runs without a claim and a record\n"
    )
    run.nothing_is_left()
    assert not run.witness.parent.exists()


def test_where_the_state_root_is_not_seen_a_killed_wrapper_leaves_no_process_either(run: Run) -> None:
    run.witness.parent.rmdir()
    process = run.start("sh", "-c", f"setsid {run.doze} 100 & {run.doze} 100; :")
    wait_until(lambda: run.dozing() == 2)
    process.kill()
    run.nothing_is_left()


def on_a_full_disk(run: Run, *command: str) -> Done:
    return Done(run.start_words(["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *run.words(*command)]))


def test_on_a_full_disk_the_command_runs_and_that_is_said_once(run: Run) -> None:
    done = on_a_full_disk(run, "sh", "-c", "echo out; exit 3")
    assert (done.code, done.out) == (3, b"out\n")
    assert [line.rpartition("; ")[2] for line in done.err.decode().splitlines()] == [
        "the command runs without a claim and a record"
    ]
    run.nothing_is_left()
    assert list(run.witness.iterdir()) == []


def test_on_a_full_disk_a_claim_and_a_tombstone_are_obeyed_all_the_same(run: Run) -> None:
    run.shell("exit 0")
    assert on_a_full_disk(run, "touch", str(run.top / "ran")).code == 76
    run.files.forbid(run.id)
    assert on_a_full_disk(run, "touch", str(run.top / "ran")).code == 75
    assert not (run.top / "ran").exists()


def test_a_disk_that_fills_up_meanwhile_keeps_the_exit_code_from_nobody_but_us(run: Run) -> None:
    before = "if given[1] == 'ended': raise OSError(28, 'No space left on device')"
    done = Done(run.start_words(altered(run, "publish", before, "sh", "-c", "exit 3")))
    assert done.code == 3
    assert done.err.decode().endswith("No space left on device; only Ray knows how the command ended\n")


# Where it runs


def test_the_wrapper_is_written_in_the_python_of_all_nodes() -> None:
    tree = ast.parse(WRAPPER.read_text(), feature_version=(3, 8))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {*sys.stdlib_module_names, "__future__"}


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13"])
def test_the_wrapper_runs_under_other_pythons(run: Run, version: str) -> None:
    python = shutil.which(f"python{version}") or ""
    if not python or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"there is no Python {version} here")
    process = run.start_words(run.words("sh", "-c", f"setsid {run.doze} 100 & exit 3", python=python))
    assert (Done(process).code, run.record("ended")["exit_code"]) == (3, 3)
    process = run.start_words(
        run.words("sh", "-c", f"setsid {run.doze} 100 & {run.doze} 100; :", attempt=2, python=python)
    )
    wait_until(lambda: run.dozing() == 2)
    process.kill()
    run.nothing_is_left()
    assert run.record("ended", 2)["how"] == "wrapper_killed"
