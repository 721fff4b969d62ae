"""How does a command run under Ray so that it runs at most once, its end is known, and nothing of it is left behind?

    python3 -I -S -B entrypoint.py WITNESS_DIRECTORY RUN_ID ATTEMPT WORKDIR -- COMMAND [ARGUMENT…]

Ray forgets jobs, says RUNNING of dead ones, and leaves processes behind (Ray 2.60, measured). So this file, copied to
where the node sees it and run on its own (Python 3.8 and later, Linux, no imports of ours), starts every command and
writes JSON files `a<attempt>.<what>.json` into the witness directory, each there as a whole or not at all:

- `refused`: the command was not started, because of the file `cancelled` (exit code 75), or because somebody has
  claimed this attempt before (76). The command never starts when `cancelled` was durable before the claim.
- `started`: the claim, made before the command starts. It is a hard link, which the file system gives to one only.
- `ended`: the command's exit code (negative for a signal), which is also ours. With an `error`: 127 no such command,
  126 it cannot be executed, 125 no such workdir. `how` is `wrapper_killed`, without a code, when we died first.

SIGTERM, SIGINT and SIGHUP are passed on to every process of the execution. When the command has ended, whatever it
left in the background is ended too (TERM, 2 s, KILL) before `ended` is written; a daemon that is to outlive its run
has to be started elsewhere. When this process is killed, a guard, which it has forked into a session of its own and
away from its tree, kills them and writes `ended`. It learns of our death by the end of a pipe that nobody else holds:
at once, and without a pid that might be another's. A process is of the execution when its environment holds the
execution's mark, when it is in our session (Ray makes one per job), or when its parent is of the execution. Only what
has left all three behind escapes.

What the command needs and no log may have lies in the file that `MERLIN_SECRETS` names: variables, and words for those
places of the command that hide one. Where it cannot be read, the command is not run (126).

What if the witness directory cannot be written? Then the command runs all the same, after one line on stderr, without
a claim, and two witnesses must do: the ledger and Ray. ENOENT means that this node does not see the state root, which
is allowed; nobody else can have claimed there from this node. On a disk that is full, read-only or without hard links
one can still look, and a tombstone or a claim that is there is obeyed. What is then missing is the fence against an id
that a head with an empty memory takes a second time; but while the disk is like that, the ledger cannot record a
submission either, and without a record nothing is submitted. To refuse would let some missing bytes fail a run that
could well do its work. So only what is known to be there refuses.
"""

# pathlib would cost a quarter of the time that this program takes to start.
# ruff: noqa: PTH100, PTH102, PTH108, PTH109, PTH117, PTH120, PTH123, PTH208
from __future__ import annotations

import errno
import os
import signal
import sys
import time
from contextlib import suppress

CANCELLED, ALREADY_STARTED = 75, 76
NO_WORKDIR, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
REFUSALS = {"cancelled": CANCELLED, "already_started": ALREADY_STARTED}

GRACE_S = 2.0  # Between TERM and KILL; Ray kills us 3 s after its own TERM.
CLEAR_LIMIT_S = 30.0  # A process that has not died of KILL by then hangs in the kernel.
LOOK_EVERY_S = 0.02
QUIET_LOOKS = 2  # The guard's: a process may fork and exit while we look, and its child be where we have been.
RAY_TELLS_AFTER_S = 2.0  # Ray's look at the job's tree and its signals are closer together than that.

STOPS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "SIGINT", signal.SIGHUP: "SIGHUP"}


def main() -> None:
    """Run the command of `sys.argv` and end as it ends."""
    words = sys.argv[1:]
    if len(words) < 6 or words[4] != "--" or not words[2].isdigit():
        say("usage: WITNESS_DIRECTORY RUN_ID ATTEMPT WORKDIR -- COMMAND [ARGUMENT...]")
        sys.exit(2)
    while os.open(os.devnull, os.O_RDWR) < 3:
        pass  # What was closed is taken, so that no descriptor of ours becomes somebody's stdout.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [*STOPS, signal.SIGCHLD])))
    execution = Execution(Files(words[0], words[2]), words[1], words[2])
    end_like(execution.run(words[3], words[5:], mask))


class Files:
    """The files of one attempt in the witness directory."""

    def __init__(self, directory: str, attempt: str) -> None:
        self._directory = os.path.abspath(directory)
        self._attempt = attempt
        self._unique = os.urandom(8).hex()

    def path(self, what: str) -> str:
        """Give the path of the file that says `what`."""
        return f"{self._directory}/a{self._attempt}.{what}.json"

    def has(self, what: str) -> bool:
        """Tell whether the file that says `what` is there."""
        return os.path.lexists(self.path(what))

    def says(self, what: str, record: bytes) -> bool:
        """Tell whether the file that says `what` holds exactly this record."""
        with suppress(OSError):
            return read(self.path(what)) == record
        return False

    def is_forbidden(self) -> bool:
        """Tell whether the run has been cancelled for good."""
        return os.path.lexists(f"{self._directory}/cancelled")

    def make_directory(self) -> None:
        """Make the witness directory in the run's directory, which is there where the state root is seen."""
        with suppress(FileExistsError):
            os.mkdir(self._directory)
            sync_directory(os.path.dirname(self._directory))

    def publish(self, what: str, record: bytes) -> bool:
        """Make the file that says `what`, durably; False when there is one, which stays as it is."""
        temporary = self._temporary(what)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            try:
                if os.write(descriptor, record) < len(record):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            try:
                os.link(temporary, self.path(what))
                ours = True
            except FileExistsError:
                ours = os.stat(temporary).st_nlink > 1  # NFS may repeat a request whose answer was lost.
        finally:
            os.unlink(temporary)
        sync_directory(self._directory)
        return ours

    def withdraw(self, what: str) -> None:
        """Remove our file that says `what`."""
        os.unlink(self.path(what))
        sync_directory(self._directory)

    def sweep(self) -> None:
        """Remove what a killed process of ours was about to publish."""
        for what in ("refused", "started", "ended"):
            with suppress(OSError):
                os.unlink(self._temporary(what))

    def _temporary(self, what: str) -> str:
        return f"{self._directory}/.a{self._attempt}.{what}.{self._unique}.new"


class Execution:
    """One execution of the command, with all of its processes."""

    def __init__(self, files: Files, run_id: str, attempt: str) -> None:
        self._files = files
        self._pid = os.getpid()
        self._mark = f"{run_id}/{attempt}/{os.urandom(8).hex()}"
        self._set = {"MERLIN_RUN": run_id, "MERLIN_ATTEMPT": attempt}
        self._session = self._pid if os.getsid(0) == self._pid else None
        self._born = int(status_of("self")[19])
        self._begun = time.monotonic()
        self._started = encode(self._claim_record())
        self._stopped_by: str | None = None
        self._seen = True
        self._line: int | None = None  # The pipe to the guard.

    def run(self, workdir: str, command: list[str], mask: set[int]) -> int:
        """Run the command unless that is refused; returns the exit code, negative for a signal."""
        if self._files.is_forbidden():
            return self._refuse("cancelled")
        self._post_guard()
        refusal = self._claim()
        if refusal:
            return self._refuse(refusal)
        self._tell(b"go")
        self._begun = time.monotonic()
        exit_code, error = self._execute(workdir, command, mask)
        if error:
            say(error)
        record = encode(self._end_record("exited", exit_code, error))
        self._tell(record)
        self._clear(GRACE_S, quiet_looks=1)
        self._publish_end(record)
        return exit_code

    def _refuse(self, why: str) -> int:
        """Leave a word on why the command was not started."""
        say(f"not started: {why.replace('_', ' ')}")
        with suppress(OSError):
            if not self._files.has("refused"):
                self._files.publish("refused", encode({"why": why, "time": now(), "host": os.uname().nodename}))
        return REFUSALS[why]

    def _claim(self) -> str | None:
        """Claim the attempt; returns why it must not be started, or None."""
        try:
            self._files.make_directory()
            if not self._files.publish("started", self._started):
                return "already_started"
        except OSError as error:
            if self._files.has("started"):
                return "already_started"
            say(f"{self._files.path('started')}: {error.strerror}; the command runs without a claim and a record")
            self._seen = False
        if not self._files.is_forbidden():  # On NFS, only making the claim has made this look a fresh one.
            return None
        if self._seen:
            self._refuse("cancelled")
            self._files.withdraw("started")
        return "cancelled"

    def _execute(self, workdir: str, command: list[str], mask: set[int]) -> tuple[int, str | None]:
        """Start the command and wait for it; returns its exit code, and why it could not be started."""
        try:
            os.chdir(workdir)
        except OSError as error:
            return NO_WORKDIR, f"cannot enter {workdir}: {error.strerror}"
        try:
            hidden = secrets_of(os.environ.pop("MERLIN_SECRETS", ""))
        except (OSError, ValueError) as error:
            return NOT_EXECUTABLE, f"cannot read the secrets of this run ({error}): submit it again as a new run"
        command = [hidden["words"].get(str(place), word) for place, word in enumerate(command)]
        for stop in STOPS.keys() & signal.sigpending():
            self._note_stop(STOPS[stop])
            return -stop, "stopped before the command was started"
        try:
            child = spawn(command, {**self._environment(workdir), **hidden["env"]}, mask)
        except OSError as error:
            missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
            return NOT_FOUND if missing else NOT_EXECUTABLE, f"cannot execute {command[0]}: {error.strerror}"
        return self._wait(child), None

    def _environment(self, workdir: str) -> dict[str, str]:
        """Give the command's environment: ours, less what Ray and Python have slipped in, and the execution's mark."""
        environment = dict(os.environ)
        job = environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "")
        unasked = environment.get("OMP_NUM_THREADS") == "1" and job and '"OMP_NUM_THREADS"' not in job
        if unasked and not environment.get("MERLIN_KEEP_OMP"):
            del environment["OMP_NUM_THREADS"]  # Ray sets it for a job that asks for no CPUs.
        environment.pop("LC_CTYPE", None)  # Python has set it, if the locale was C.
        for entry in read("/proc/self/environ").split(b"\0"):
            if entry.startswith(b"LC_CTYPE="):
                environment["LC_CTYPE"] = os.fsdecode(entry[9:])
        marks = [environment.get("MERLIN_EXECUTION"), self._mark]  # A wrapper within a command is of both.
        environment.update(self._set, MERLIN_EXECUTION=" ".join(filter(None, marks)))
        environment["PWD"] = workdir if os.path.isabs(workdir) else os.getcwd()
        return environment

    def _wait(self, child: int) -> int:
        """Wait for the command, passing on the signals that are meant for it."""
        while True:
            received = signal.sigwaitinfo([*STOPS, signal.SIGCHLD])
            if received.si_signo != signal.SIGCHLD:
                self._stop(received)
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def _stop(self, received: signal.struct_siginfo) -> None:
        """Pass a signal on, unless Ray's supervisor, which tells the whole tree itself, has just done so."""
        self._note_stop(STOPS[signal.Signals(received.si_signo)])
        by_ray = received.si_pid == os.getppid() and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
        if not by_ray or time.monotonic() - self._begun < RAY_TELLS_AFTER_S:
            for pid in self._processes():
                send(pid, received.si_signo)

    def _note_stop(self, name: str) -> None:
        self._stopped_by = self._stopped_by or name
        self._tell(b"stopped " + name.encode())

    def _post_guard(self) -> None:
        """Fork the guard: its parent is gone, so that nobody who walks our tree or kills our group finds it."""
        reading, self._line = os.pipe()
        try:
            between = os.fork()
        except OSError as error:
            say(f"no guard: {error.strerror}; what outlives this process will be left behind")
            return
        if between:
            os.close(reading)
            os.waitpid(between, 0)
            return
        try:
            os.setsid()
            if not os.fork():
                self._guard(reading)
        finally:
            os._exit(0)

    def _guard(self, reading: int) -> None:
        """Wait until the wrapper has ended, by whatever cause, and finish what it has not."""
        self._line = None
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            with suppress(OSError):  # The descriptor of the list itself is closed by now.
                if descriptor < 3:
                    os.dup2(null, descriptor)
                elif descriptor != reading:
                    os.close(descriptor)
        with suppress(OSError), open("/proc/self/comm", "w") as name:
            name.write("merlin-guard")
        told = b""
        while chunk := os.read(reading, 65536):
            told += chunk
        lines = told.split(b"\n")
        for line in lines:
            if line.startswith(b"stopped "):
                self._stopped_by = self._stopped_by or line[8:].decode()
        self._clear(0, QUIET_LOOKS)
        begun = b"go" in lines or self._files.says("started", self._started)
        if begun and b"recorded" not in lines:
            ends = [line + b"\n" for line in lines if line.startswith(b"{")]
            self._publish_end(ends[0] if ends else encode(self._end_record("wrapper_killed", None, None)))
        self._files.sweep()

    def _tell(self, line: bytes) -> None:
        """Tell the guard; without one there is nobody to tell."""
        if self._line is not None:
            with suppress(OSError):
                os.write(self._line, line.rstrip(b"\n") + b"\n")

    def _publish_end(self, record: bytes) -> None:
        try:
            self._files.publish("ended", record)
            self._tell(b"recorded")
        except OSError as error:
            if self._seen:
                say(f"{self._files.path('ended')}: {error.strerror}; only Ray knows how the command ended")

    def _clear(self, grace_s: float, quiet_looks: int) -> None:
        """End every process of the execution."""
        begun, quiet = time.monotonic(), 0
        told: set[int] = set()
        beyond: set[int] = set()
        while quiet < quiet_looks:
            left = self._processes() - beyond
            quiet = 0 if left else quiet + 1
            passed = time.monotonic() - begun
            if passed > CLEAR_LIMIT_S:
                say(f"cannot end {', '.join(map(str, sorted(left)))}")
                return
            for pid in left if passed >= grace_s else left - told:
                if not send(pid, signal.SIGKILL if passed >= grace_s else signal.SIGTERM):
                    beyond.add(pid)
            told |= left
            if left:
                time.sleep(LOOK_EVERY_S)

    def _processes(self) -> set[int]:
        """Find every process of the execution that lives, but neither wrapper nor guard."""
        parents: dict[int, int] = {}
        found: set[int] = set()
        mark = self._mark.encode()
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                status = status_of(name)
                if status[0] in (b"Z", b"X") or int(status[19]) < self._born:
                    continue  # Dead, or older than we are, which saves a look at its environment.
                parents[int(name)] = int(status[1])
                if int(status[3]) == self._session or mark in read(f"/proc/{name}/environ"):
                    found.add(int(name))
        found -= {self._pid, os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def _claim_record(self) -> dict[str, str | int | float | None]:
        return {
            "boot_id": read("/proc/sys/kernel/random/boot_id").decode().strip(),
            "boottime_s": time.clock_gettime(time.CLOCK_BOOTTIME),
            "execution": self._mark,
            "host": os.uname().nodename,
            "pid": self._pid,
            "pid_started": self._born,
            "time": now(),
        }

    def _end_record(self, how: str, exit_code: int | None, error: str | None) -> dict[str, str | int | float | None]:
        record: dict[str, str | int | float | None] = {
            "duration_s": round(time.monotonic() - self._begun, 6),
            "execution": self._mark,
            "exit_code": exit_code,
            "host": os.uname().nodename,
            "how": how,
            "stopped_by": self._stopped_by,
            "time": now(),
        }
        return dict(record, error=error) if error else record


def spawn(command: list[str], environment: dict[str, str], mask: set[int]) -> int:
    """Start the command as `sh` would, in our session, with nothing to read and the signals that we were given."""

    def start(words: list[str]) -> int:
        if not words[0]:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))  # Python makes a ValueError of it.
        nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        python_ignores = [signal.SIGPIPE, signal.SIGXFSZ]
        return os.posix_spawnp(
            words[0], words, environment, file_actions=[nothing], setsigmask=mask, setsigdef=python_ignores
        )

    try:
        return start(command)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return start(["/bin/sh", "-c", 'exec "$0" "$@"', *command])  # A script that does not name its interpreter.


def send(pid: int, number: int) -> bool:
    """Send a signal to a process that may be gone; False when it is another user's by now."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def end_like(exit_code: int) -> None:
    """End with the exit code, or by the signal, that the command ended with."""
    if exit_code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # The command has dumped its own.
        with suppress(OSError):
            signal.signal(-exit_code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-exit_code])
        os.kill(os.getpid(), -exit_code)
        exit_code = 128 - exit_code
    os._exit(exit_code)


def say(text: str) -> None:
    """Tell whoever reads the job's log."""
    with suppress(OSError):
        os.write(2, os.fsencode(f"merlin: {text}\n"))


def read(path: str) -> bytes:
    """Give the whole content of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = chunk = os.read(descriptor, 65536)
        while chunk:
            chunk = os.read(descriptor, 65536)
            content += chunk
        return content
    finally:
        os.close(descriptor)


def status_of(pid: str) -> list[bytes]:
    """Give what the kernel says of a process, from its state on: [1] parent, [3] session, [19] start in clock ticks."""
    return read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()


def sync_directory(path: str) -> None:
    """Return when the names in a directory are on the medium."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def now() -> str:
    """Give the wall time, ISO 8601 in UTC."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds // 1000:06d}Z"


def secrets_of(path: str) -> dict[str, dict[str, str]]:
    """Give what the command needs and no log may have: variables, and words in the place of those that hide them."""
    if not path:
        return {"env": {}, "words": {}}
    import json  # Only here: it costs a third of our time to start.

    found: dict[str, dict[str, str]] = json.loads(read(path))
    return found


def encode(record: dict[str, str | int | float | None]) -> bytes:
    """Give a record as a line of JSON; importing json would cost a third of our time to start."""
    pairs = (f'"{key}": {encode_value(value)}' for key, value in sorted(record.items()))
    return f"{{{', '.join(pairs)}}}\n".encode()


def encode_value(value: str | int | float | None) -> str:
    """Give a value as JSON, in ASCII."""
    if not isinstance(value, str):
        return "null" if value is None else repr(value)
    characters = []
    for character in value:
        if not " " <= character <= "~" or character in '"\\':
            units = character.encode("utf-16-be", "surrogatepass").hex()
            character = "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
        characters.append(character)
    return f'"{"".join(characters)}"'


if __name__ == "__main__":
    main()
