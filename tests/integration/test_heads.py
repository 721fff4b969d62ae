"""Does a Ray head start, answer, and end with all that it started and nothing else, whatever happens to it?"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs
from msgspec.structs import replace

from merlin_es import processes
from merlin_es.errors import HeadFailed, RayMissing
from merlin_es.ports import ProcessId, Wanted
from merlin_es.ray_adapter.heads import ATTEMPTS_MAX, LocalHeads, find_ray, head_in, head_processes
from merlin_es.ray_adapter.readiness import Door
from tests.conftest import Figure
from tests.ray_cluster import ENOUGH_FOR_ALL_TESTS, OwnHead, RunningHead, free_place, watched_directory

pytestmark = pytest.mark.xdist_group("ray")

LIMIT_S = 30.0
OwnHeads = Callable[..., OwnHead]


def ask(running: RunningHead, method: str, path: str, body: object = None, token: str | None = None) -> tuple[int, str]:
    """Ask a head; with its own token unless another one is given, and none for an empty one."""
    token = running.token_path.read_text() if token is None else token
    connection = http.client.HTTPConnection(running.dashboard_url.removeprefix("http://"), timeout=LIMIT_S)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def submit(running: RunningHead, submission_id: str, entrypoint: str) -> None:
    body = {"submission_id": submission_id, "entrypoint": entrypoint, "entrypoint_num_cpus": 0.1}
    assert ask(running, "POST", "/api/jobs/", body)[0] == 200


def written_by(path: Path) -> ProcessId:
    """Wait until a process has written its pid there, and name it."""
    until = time.monotonic() + LIMIT_S
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < until, f"nobody wrote {path}"
        time.sleep(0.02)
    process = processes.identify(int(path.read_text()))
    assert process is not None
    return process


def sleeper(path: Path) -> str:
    """Give a shell command that writes its pid and then sleeps until it is ended."""
    return f"sh -c 'echo $$ > {path}; exec sleep 1000'"


def own_session(running: RunningHead) -> set[ProcessId]:
    """Give Ray's own processes of a head; workers come and go."""
    head = running.head
    return {each for each in head_processes(head.temp_dir) if processes.session(each) == head.process.pid}


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_head_that_was_started_answers_and_takes_jobs(ray_head: RunningHead) -> None:
    assert ray_head.heads.is_alive(ray_head.head.process)
    status, text = ask(ray_head, "GET", "/api/version")
    assert status == 200
    assert json.loads(text)["session_name"] == ray_head.head.session.session_name
    assert json.loads(text)["ray_version"] == ray_head.head.session.ray_version
    assert head_in(ray_head.head.temp_dir) == ray_head.head.process


def test_finding_out_whether_a_head_takes_jobs_leaves_no_job(ray_head: RunningHead) -> None:
    before = ask(ray_head, "GET", "/api/jobs/")[1].count("submission_id")
    host, port = ray_head.dashboard_url.removeprefix("http://").split(":")
    assert Door(host, int(port), ray_head.token_path.read_text()).missing(LIMIT_S) is None
    assert ask(ray_head, "GET", "/api/jobs/")[1].count("submission_id") == before


def test_nobody_is_let_in_without_the_token_which_only_its_user_can_read(ray_head: RunningHead) -> None:
    assert ask(ray_head, "GET", "/api/jobs/", token="")[0] == 401
    assert ask(ray_head, "GET", "/api/jobs/", token="wrong")[0] in (401, 403)
    assert ask(ray_head, "GET", "/api/jobs/")[0] == 200
    assert stat.S_IMODE(ray_head.token_path.stat().st_mode) == 0o600


def test_a_port_that_is_taken_is_named_with_its_listener(ray_head: RunningHead, tmp_path: Path) -> None:
    for name in ("port", "dashboard_port"):
        taken = getattr(ray_head.wanted, name)
        wanted = replace(free_place(tmp_path), **{name: taken})
        with pytest.raises(
            HeadFailed, match=rf"port {taken} is taken by process \d+ \(.+\); end it or give another --"
        ):
            LocalHeads().start(wanted)
        assert not (tmp_path / "head.log").exists()  # No process was started for that.


@pytest.mark.parametrize(
    ("port", "dashboard_port", "why"),
    [(25_000, 25_000, "at once; give two"), (0, None, "--port"), (None, 70_000, "--dash")],
)
def test_ports_that_cannot_be_are_refused(
    tmp_path: Path, port: int | None, dashboard_port: int | None, why: str
) -> None:
    with pytest.raises(HeadFailed, match=why):
        LocalHeads().start(Wanted("127.0.0.1", port, dashboard_port, tmp_path, durable=False))
    assert not (tmp_path / "head.log").exists()


def test_a_second_head_in_the_directory_of_one_that_runs_is_refused(ray_head: RunningHead) -> None:
    with pytest.raises(HeadFailed, match=rf"process {ray_head.head.process.pid}; stop it first"):
        LocalHeads().start(free_place(ray_head.wanted.directory))
    assert ray_head.heads.is_alive(ray_head.head.process)


def test_a_head_is_not_stopped_by_the_name_of_an_earlier_process(ray_head: RunningHead) -> None:
    process, before = ray_head.head.process, own_session(ray_head)
    for other in (structs.replace(process, started=process.started - 1), structs.replace(process, boot_id="another")):
        assert not ray_head.heads.is_alive(other)
        assert ray_head.heads.stop(other, ray_head.head.temp_dir) == "gone"
    assert own_session(ray_head) == before


def test_a_head_ends_with_all_its_jobs_started_and_the_other_head_goes_on(
    ray_head: RunningHead, own_head: OwnHeads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere.invalid:8265")
    monkeypatch.setenv("LAB_SECRET", "do not tell")
    own, before = own_head(), own_session(ray_head)
    strays = f"(setsid {sleeper(tmp_path / 'stray')} &) ; env -i setsid {sleeper(tmp_path / 'hidden')} &"
    guard = f"while kill -0 $job 2> /dev/null; do sleep 0.05; done; touch {tmp_path}/recorded"
    submit(own, "strays", f'env > {tmp_path}/env; job=$$; (setsid sh -c "{guard}" &) ; {strays} sleep 1000')
    left = [written_by(tmp_path / "hidden"), written_by(tmp_path / "stray")]
    environment = (tmp_path / "env").read_text()
    began = time.monotonic()

    assert own.stop() == "terminated"

    figure(f"head stopped with a running job in {time.monotonic() - began:.1f} s")
    assert head_processes(own.head.temp_dir) == []
    assert not any(map(processes.is_alive, left))
    assert (tmp_path / "recorded").exists()  # The guard of a job has a moment to write down that the job was ended.
    assert own.stop() == "gone"
    assert own_session(ray_head) == before
    assert ask(ray_head, "GET", "/api/jobs/")[0] == 200
    assert "LAB_SECRET" not in environment
    assert "elsewhere.invalid" not in environment
    assert own.token_path.read_text() not in environment


def test_what_a_killed_head_has_left_is_ended(own_head: OwnHeads, tmp_path: Path) -> None:
    own = own_head()
    submit(own, "stray", f"(setsid {sleeper(tmp_path / 'stray')} &) ; sleep 1000")
    stray = written_by(tmp_path / "stray")
    assert processes.send(own.head.process, signal.SIGKILL)
    assert processes.wait_gone([own.head.process], LIMIT_S) == []
    assert not own.heads.is_alive(own.head.process)
    assert stray in head_processes(own.head.temp_dir)

    assert own.stop() == "killed"

    assert not processes.is_alive(stray)
    assert head_processes(own.head.temp_dir) == []
    assert own.stop() == "gone"


def test_ray_that_ends_at_once_is_quoted_and_not_started_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    ray = program(tmp_path / "ray", f"#!/bin/sh\necho start >> {starts}\necho the reason is this\nexit 7\n")
    with watched_directory() as directory:
        with pytest.raises(HeadFailed, match=r"(?s)ended with code 7\..*the reason is this"):
            LocalHeads(ray=ray).start(free_place(directory))
        assert head_processes(directory / "ray") == []
    assert starts.read_text().count("start") == 1


def test_ray_that_lost_its_patience_with_a_busy_machine_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merlin_es.ray_adapter.heads.RAY_PATIENCE_S", 0.3)
    ray = program(tmp_path / "ray", f"#!/bin/sh\necho start >> {tmp_path / 'starts'}\nsleep 0.5\nexit 1\n")
    with watched_directory() as directory, pytest.raises(HeadFailed, match="ended with code 1"):
        LocalHeads(ray=ray).start(free_place(directory))
    assert (tmp_path / "starts").read_text().count("start") == ATTEMPTS_MAX


def test_ray_that_hangs_is_ended_with_its_children_and_says_what_was_missing(tmp_path: Path) -> None:
    strays = f"(setsid {sleeper(tmp_path / 'stray')} &)\nenv -i setsid {sleeper(tmp_path / 'hidden')} &"
    ray = program(tmp_path / "ray", f"#!/bin/sh\ntrap '' TERM\n{strays}\necho up\nwait\n")
    with watched_directory() as directory:
        with pytest.raises(HeadFailed, match=r"(?s)not ready after 3 s: its state store .* no answer .*up"):
            LocalHeads(ray=ray, ready_limit_s=3).start(free_place(directory))
        assert head_processes(directory / "ray") == []
    for name in ("stray", "hidden"):
        left = processes.identify(int((tmp_path / name).read_text()))
        assert left is None or not processes.is_alive(left)  # Whoever adopts an orphan may be slow to ask for its end.


def test_ray_that_is_no_program_is_missing(tmp_path: Path) -> None:
    ray = program(tmp_path / "ray", "#!/nowhere/python\n")
    with watched_directory() as directory, pytest.raises(RayMissing, match=r"pip install .ray\[default\]"):
        LocalHeads(ray=ray).start(free_place(directory))


def test_no_ray_anywhere_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RayMissing, match=r"pip install .ray\[default\]"):
        LocalHeads().start(free_place(tmp_path))


def test_ray_beside_the_interpreter_comes_before_the_one_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "path").mkdir()
    on_path = program(tmp_path / "path" / "ray", "#!/bin/sh\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_ray() == on_path
    beside = program(tmp_path / "beside" / "ray", "#!/bin/sh\n")
    assert find_ray() == beside


def test_ray_without_its_job_server_is_missing(tmp_path: Path) -> None:
    """The packages that `ray[default]` adds are hidden from a real Ray."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['aiohttp'] = sys.modules['grpc'] = None\n")
    ray = program(tmp_path / "ray", f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {find_ray()} "$@"\n')
    with watched_directory() as directory:
        with pytest.raises(RayMissing, match=r"has no job server; install it with one: pip install"):
            LocalHeads(ENOUGH_FOR_ALL_TESTS, ray=ray).start(free_place(directory))
        assert head_processes(directory / "ray") == []


THIEF = """#!{python}
import os, re, socket, sys, time
with open("{top}/attempts", "a") as file:
    print(*sys.argv, file=file)
port = int(re.search(r"--ray-client-server-port=([0-9]+)", " ".join(sys.argv))[1])
if len(open("{top}/attempts").readlines()) == 1:
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("{python}", ["{python}", "-c", '''
import os, socket, sys, time
server = socket.create_server(("", int(sys.argv[1])))
open(sys.argv[2], "w").write(str(os.getpid()))
time.sleep(300)
''', str(port), "{top}/thief"], {{}})
        os._exit(0)
    while not os.path.exists("{top}/thief"):
        time.sleep(0.01)
print("lost the race")
sys.exit(1)
"""


def test_a_port_that_is_lost_between_choosing_and_using_is_chosen_anew(tmp_path: Path) -> None:
    ray = program(tmp_path / "ray", THIEF.format(python=sys.executable, top=tmp_path))
    try:
        with watched_directory() as directory, pytest.raises(HeadFailed, match="lost the race"):
            LocalHeads(ray=ray).start(free_place(directory))
    finally:
        os.kill(int((tmp_path / "thief").read_text()), signal.SIGKILL)
    attempts = (tmp_path / "attempts").read_text().splitlines()
    clients = [re.findall(r"--ray-client-server-port=(\d+)", attempt) for attempt in attempts]
    assert len(attempts) == 2  # The second had its ports for itself, so a third would not help.
    assert clients[0] != clients[1]


START_AND_WAIT = """
import sys
from pathlib import Path
from tests.ray_cluster import LocalHeads, free_place, watched_directory
with watched_directory() as directory:
    Path(sys.argv[2]).write_text(str(directory))
    LocalHeads(ray=Path(sys.argv[1])).start(free_place(directory))
"""


def test_a_head_of_killed_tests_is_ended(tmp_path: Path) -> None:
    ray = program(tmp_path / "ray", f"#!/bin/sh\ntrap '' TERM\necho $$ > {tmp_path}/up\nsleep 1000\n")
    starter = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, ray, tmp_path / "directory"], cwd=Path(__file__).parents[2]
    )
    written_by(tmp_path / "up")
    directory = Path((tmp_path / "directory").read_text())
    left = head_processes(directory / "ray")
    assert left
    starter.kill()
    starter.wait()
    assert processes.wait_gone(left, LIMIT_S) == []
