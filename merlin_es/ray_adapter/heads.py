"""How does a Ray head start on this host, and how does it end with all that it started, and nothing else?

A head runs as `ray start --head --block` in a session of its own, with an environment that holds nothing of Ray's that
the caller has. Everything that it starts inherits the mark `MERLIN_HEAD=<temp dir>`, and by that, by the head's session
and by descent it is found again. `ray stop` is never used: it ends every Ray on the machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from merlin_es import processes
from merlin_es.errors import ClusterError, HeadFailed, RayMissing
from merlin_es.ports import Head, ProcessId, Session, Wanted
from merlin_es.ray_adapter import tcp_ports
from merlin_es.ray_adapter.head_files import only_start_in, private_token, temp_dir_for
from merlin_es.ray_adapter.readiness import Door

READY_LIMIT_S = 90.0
RAY_PATIENCE_S = 30.0
"""How long `ray start` waits for its own processes, hard-wired (Ray 2.60): on a busy machine that may not be enough."""
ATTEMPTS_MAX = 3
TERM_LIMIT_S = 10.0
LEFTOVERS_LIMIT_S = 3.0
KILL_LIMIT_S = 10.0
ANSWER_LIMIT_S = 15.0
LOG_LINES = 20

_STEP_S = 0.1
_PORT, _DASHBOARD_PORT = 6379, 8265
_INHERITED = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_INSTALL = 'pip install "ray[default]"'


@dataclass(frozen=True, slots=True)
class _Ports:
    head: int
    dashboard: int
    client: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that one attempt to start a head needs to know."""

    wanted: Wanted
    ports: _Ports
    directory: Path
    temp_dir: Path
    token_path: Path
    argv: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def host(self) -> str:
        """Where the head is asked from this host."""
        return "127.0.0.1" if self.wanted.host in ("", "0.0.0.0", "localhost") else self.wanted.host  # noqa: S104  compared, not bound

    @property
    def log(self) -> Path:
        return self.directory / "head.log"


class LocalHeads:
    """Starts and ends Ray heads on this host; `extra` goes to `ray start` as it is, `ray` is the program to use."""

    def __init__(
        self,
        extra: tuple[str, ...] = (),
        *,
        job_start_timeout_s: int | None = None,
        ray: Path | None = None,
        ready_limit_s: float = READY_LIMIT_S,
    ) -> None:
        self._extra = extra
        self._job_start_timeout_s = job_start_timeout_s
        self._ray = ray
        self._ready_limit_s = ready_limit_s
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, wanted: Wanted) -> Head:
        """Start a head and wait until it takes jobs; raises RayMissing or HeadFailed, and leaves nothing."""
        ray = self._ray or find_ray()
        directory = wanted.directory.resolve()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with only_start_in(directory):
            temp_dir = temp_dir_for(directory)
            if living := head_in(temp_dir):
                raise HeadFailed(f"a head runs in {directory} already: process {living.pid}; stop it first")
            _end(_mark(temp_dir), None, LEFTOVERS_LIMIT_S)
            for left in reversed(range(ATTEMPTS_MAX)):
                plan = self._plan(wanted, ray, directory, temp_dir)
                begun = time.monotonic()
                try:
                    return self._start_once(plan)
                except HeadFailed:
                    # Nothing of ours is left, so a port that is taken now was taken by somebody else meanwhile.
                    ports = (plan.ports.head, plan.ports.dashboard, plan.ports.client)
                    was_slow = RAY_PATIENCE_S <= time.monotonic() - begun < self._ready_limit_s
                    if not left or (all(map(tcp_ports.is_free, ports)) and not was_slow):
                        raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def is_alive(self, process: ProcessId) -> bool:
        """Tell whether that very process still runs, on this boot of this host."""
        return processes.is_alive(process)

    def stop(self, process: ProcessId, temp_dir: Path) -> Literal["gone", "terminated", "killed"]:
        """End that head and everything it started, and nothing else; returns when nothing of it is left."""
        mark = _mark(temp_dir)
        known = processes.family(mark, process)
        if not known or head_in(temp_dir) not in (None, process):
            return "gone"  # Another head in the same directory started only when nothing was left of this one.
        told = processes.send(process, signal.SIGTERM)
        terminated = told and not processes.wait_gone([process], TERM_LIMIT_S)
        _end(mark, process, LEFTOVERS_LIMIT_S, known)
        self._reap(process.pid)
        return "terminated" if terminated else "killed"

    def clean(self, directory: Path) -> None:
        """End a head that runs in `directory` without anybody's record: who started it died before it was written."""
        if directory.is_dir():
            temp_dir = temp_dir_for(directory.resolve())
            if living := head_in(temp_dir):
                self.stop(living, temp_dir)

    def _plan(self, wanted: Wanted, ray: Path, directory: Path, temp_dir: Path) -> _Plan:
        ports = _choose_ports(wanted)
        token_path = private_token(directory)
        argv = (
            str(ray), "start", "--head", "--block", f"--temp-dir={temp_dir}", "--include-dashboard=true",
            f"--port={ports.head}", f"--dashboard-host={wanted.host}", f"--dashboard-port={ports.dashboard}",
            f"--ray-client-server-port={ports.client}",
            # 0: the kernel gives one that is free when it is bound. By default these are fixed, or 10002 to 19999.
            "--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0",
            *self._extra,
        )  # fmt: skip
        return _Plan(
            wanted, ports, directory, temp_dir, token_path, argv, self._environment(wanted, ray, directory, temp_dir)
        )

    def _environment(self, wanted: Wanted, ray: Path, directory: Path, temp_dir: Path) -> dict[str, str]:
        """Jobs inherit this, so it holds what a shell needs and nothing that the caller happens to have."""
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= {
            "PATH": f"{ray.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(directory / "token"),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_enable_export_api_write_config": "EXPORT_SUBMISSION_JOB",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        # Ray binds sockets there too, so it has to be short, and a killed Ray leaves files there.
        scratch = temp_dir.parent / "tmp"
        scratch.mkdir(mode=0o700, exist_ok=True)
        environment["TMPDIR"] = str(scratch)
        name, _, value = _mark(temp_dir).partition("=")
        environment[name] = value
        if self._job_start_timeout_s is not None:
            environment["RAY_JOB_START_TIMEOUT_SECONDS"] = str(self._job_start_timeout_s)
        if wanted.durable:
            storage = directory / "gcs"
            storage.mkdir(mode=0o700, exist_ok=True)
            environment |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(storage)}
        return environment

    def _start_once(self, plan: _Plan) -> Head:
        child = _spawn(plan)
        self._children[child.pid] = child
        process = processes.identify(child.pid)
        assert process is not None, "a child that nobody has waited for is at least a zombie"  # noqa: S101  narrows
        try:
            session = self._wait_until_ready(plan, child)
        except BaseException:
            _end(_mark(plan.temp_dir), process, 0)
            self._reap(child.pid)
            raise
        return Head(
            process=process,
            address=f"{plan.host}:{plan.ports.head}",
            dashboard_url=f"http://{plan.host}:{plan.ports.dashboard}",
            session=session,
            token_path=plan.token_path,
            temp_dir=plan.temp_dir,
            argv=plan.argv,
        )

    def _wait_until_ready(self, plan: _Plan, child: subprocess.Popen[bytes]) -> Session:
        door = Door(plan.host, plan.ports.dashboard, plan.token_path.read_text(encoding="ascii"))
        until = time.monotonic() + self._ready_limit_s
        missing: str | None = "it was not asked"
        while (left_s := until - time.monotonic()) > 0:
            if child.poll() is not None:
                raise _failed(plan, f"`ray start` ended with code {child.returncode}")
            missing = door.missing(min(left_s, ANSWER_LIMIT_S))
            if missing is None:
                return door.session(ANSWER_LIMIT_S)
            time.sleep(_STEP_S)
        raise _failed(plan, f"not ready after {self._ready_limit_s:.0f} s: {missing}")

    def _reap(self, pid: int) -> None:
        """Ask for a child's end, so that no zombie stays in the table as long as this process lives."""
        if child := self._children.pop(pid, None):
            with suppress(subprocess.TimeoutExpired):
                child.wait(KILL_LIMIT_S)


def find_ray() -> Path:
    """Find the `ray` beside the interpreter that runs, or else on PATH; raises RayMissing."""
    beside = Path(sys.executable).parent
    found = shutil.which("ray", path=str(beside)) or shutil.which("ray")
    if found is None:
        raise RayMissing(f"no `ray` beside {sys.executable} and none on PATH; install it: {_INSTALL}")
    return Path(found).absolute()


def head_processes(temp_dir: Path) -> list[ProcessId]:
    """Give everything that runs of the head in `temp_dir`: Ray's processes, the jobs and what these started."""
    return processes.family(_mark(temp_dir))


def head_in(temp_dir: Path) -> ProcessId | None:
    """Give the `ray start` that runs in `temp_dir`, if there is one."""
    for process in processes.family(_mark(temp_dir)):
        words = processes.command_line(process.pid)
        if "--head" in words and f"--temp-dir={temp_dir}" in words and processes.session(process) == process.pid:
            return process
    return None


def _mark(temp_dir: Path) -> str:
    return f"MERLIN_HEAD={temp_dir}"


def _choose_ports(wanted: Wanted) -> _Ports:
    for option, asked in (("--port", wanted.port), ("--dashboard-port", wanted.dashboard_port)):
        if asked is not None and asked not in tcp_ports.ALL_PORTS:
            raise HeadFailed(f"{asked} is no TCP port; give {option} one of 1 to 65535")
        if asked is not None and not tcp_ports.is_free(asked):
            raise HeadFailed(f"port {asked} is taken by {tcp_ports.listener(asked)}; end it or give another {option}")
    if wanted.port is not None and wanted.port == wanted.dashboard_port:
        raise HeadFailed(f"port {wanted.port} cannot be --port and --dashboard-port at once; give two")
    taken = {port for port in (wanted.port, wanted.dashboard_port) if port is not None}
    chosen = []
    for asked, default in ((wanted.port, _PORT), (wanted.dashboard_port, _DASHBOARD_PORT), (None, None)):
        port = asked or _default_or_any(default, taken)
        taken.add(port)
        chosen.append(port)
    return _Ports(*chosen)


def _default_or_any(default: int | None, taken: set[int]) -> int:
    if default is not None and default not in taken and tcp_ports.is_free(default):
        return default
    return tcp_ports.free_port(taken)


def _spawn(plan: _Plan) -> subprocess.Popen[bytes]:
    log = os.open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603  the words are ours
            plan.argv,
            env=plan.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    except OSError as error:
        raise RayMissing(f"{plan.argv[0]} cannot be executed: {error.strerror}; install it anew: {_INSTALL}") from error
    finally:
        os.close(log)


def _failed(plan: _Plan, why: str) -> ClusterError:
    """Make the error of a head that did not come up; Ray without its job server says so in its log."""
    log = plan.log.read_text(encoding="utf-8", errors="replace")
    lines = "\n".join(log.splitlines()[-LOG_LINES:])
    if "ray[default]" in log or "ray[client]" in log:
        return RayMissing(f"{plan.argv[0]} has no job server; install it with one: {_INSTALL}\n{lines}")
    return HeadFailed(f"the head did not come up: {why}. The end of {plan.log}:\n{lines}")


def _end(mark: str, leader: ProcessId | None, grace_s: float, known: list[ProcessId] | None = None) -> None:
    """Kill what is left of a head: Ray at once, the jobs after `grace_s`, for their guards to end and record them."""
    seen = dict.fromkeys(known or ())
    until = time.monotonic() + grace_s
    while True:
        seen |= dict.fromkeys(processes.family(mark, leader))
        left = [process for process in seen if processes.is_alive(process)]
        if not left:
            return
        now = time.monotonic()
        if now > until + KILL_LIMIT_S:
            raise ClusterError(f"these processes of the head do not end: {', '.join(str(each.pid) for each in left)}")
        for process in left:
            if now >= until or (leader is not None and processes.session(process) == leader.pid):
                processes.send(process, signal.SIGKILL)
        time.sleep(_STEP_S)
