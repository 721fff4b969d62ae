"""Which Python runs Merlin: the one that was started, or `.venv`, prepared beside the checkout from requirements.lock?

Standard library and the syntax of Python 3.6 only, so that an old Python can still say what to do. What only a
preparation needs is imported there: a usual start pays for the stamp and nothing else.
"""

import fcntl
import hashlib
import importlib.machinery
import os
import signal
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
WAIT_MAX_S = 15 * 60
SHOWN_LINES_MAX = 12
ENDS_WITHIN_S = 5
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# Says what the environment was made from. It is written last, and a `.venv` without it is not ours.
STAMP = VENV / "prepared-from"


class Unready(Exception):
    """Merlin has no Python to run in; the message says what to do next."""

    exit_code = 2


class Interrupted(Unready):
    """Somebody wanted an end while `.venv` was prepared."""

    def __init__(self, number: int) -> None:
        super().__init__("interrupted while .venv was prepared; nothing runs on, and the same command begins it anew.")
        self.exit_code = 128 + number


def require_python() -> None:
    """Raise Unready when this Python is too old or too new for Merlin."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        needed = f"{dotted(OLDEST)} to {dotted(NEWEST)}"
        raise Unready(f"Merlin needs Python {needed}; this is {running()}: {other_python()}")


def finds(modules: "tuple[str, ...]") -> bool:
    """Whether the running Python has all these top-level modules."""
    return all(importlib.machinery.PathFinder.find_spec(module) for module in modules)


def enter() -> None:
    """Go on inside `.venv`, prepared first if need be: returns when already inside, else starts this command again."""
    if sys.flags.no_site:
        raise Unready(f"with -S Python finds nothing that is installed, not in {VENV} either: run it without -S.")
    wanted = fingerprint()
    prepared = is_prepared(wanted)
    if prepared and Path(sys.prefix) == VENV:
        return
    if prepared and Path(sys.executable) == PYTHON:  # It would start itself for ever.
        raise Unready(f"{PYTHON} does not find what is installed beside it: remove {VENV} and run again.")
    if not prepared:
        prepare(wanted)
    os.environ.pop("PYTHONHOME", None)  # It would lead the new Python out of `.venv` again.
    os.execv(PYTHON, [str(PYTHON), *sys.orig_argv[1:]])


def fingerprint() -> str:
    """What the stamp of an up-to-date environment says."""
    return f"{hashlib.sha256(LOCK.read_bytes()).hexdigest()} python{running()}\n"


def is_prepared(wanted: str) -> bool:
    """Whether `.venv` was made, to the end, from what is wanted now, and its Python is still there."""
    try:
        return STAMP.read_text() == wanted and PYTHON.exists()
    except (FileNotFoundError, NotADirectoryError):
        return False


def prepare(wanted: str) -> None:
    """Make `.venv` from requirements.lock, unless another process does so first."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # As nohup has it.
            signal.signal(number, interrupt)
    try:
        # Opened for writing, though nothing is written: NFS grants an exclusive lock on no other terms.
        with LOCK.open("rb+") as lock:
            take_turn(lock.fileno())
            if not is_prepared(wanted):
                build(wanted, lock.fileno())
    except OSError as error:
        raise Unready(f"cannot prepare {VENV}: {error}. Make {ROOT} writable, or clone to where it is.") from error


def interrupt(number: int, _frame: object) -> None:
    """End the preparation; who is impatient and asks again changes nothing."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


def take_turn(lock_fd: int) -> None:
    """Wait until no other process prepares the environment, WAIT_MAX_S at most."""
    import time

    for attempt in range(WAIT_MAX_S):
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if attempt == 0:
                say("another process is preparing .venv; waiting for it")
            time.sleep(1)
    raise Unready(f"another process has been at it for {WAIT_MAX_S} s: `fuser {LOCK}` shows it; end it and run again.")


def build(wanted: str, lock_fd: int) -> None:
    """Fill `.venv` from nothing with what requirements.lock pins, and stamp it when all of it is there."""
    import time

    started = time.monotonic()
    require_venv()
    base = Path(sys.executable).resolve()  # Not the link to it in `.venv`, which is emptied now.
    clear()
    say(f"preparing {VENV} with Python {running()}: once, about a minute and 500 MB")
    run([str(base), "-I", "-m", "venv", str(VENV)], lock_fd)
    install = [str(PYTHON), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-user"]
    run([*install, "--progress-bar=off", "--require-hashes", "-r", str(LOCK)], lock_fd)
    STAMP.write_text(wanted)
    say(f"ready after {time.monotonic() - started:.0f} s")


def require_venv() -> None:
    """Raise Unready when this Python cannot make an environment with pip in it."""
    if not finds(("venv", "ensurepip")):
        raise Unready(
            "this Python cannot make virtual environments. On Debian and Ubuntu: `apt install python3-venv` "
            f"(python{running()}-venv for a Python that is not the default); or run Merlin with a Python that can."
        )


def clear() -> None:
    """Empty `.venv` of what an older or an interrupted preparation left; one that somebody else made stays."""
    import shutil

    VENV.mkdir(exist_ok=True)
    if not STAMP.exists() and any(VENV.iterdir()):
        raise Unready(f"{VENV} was made by somebody else, so it stays as it is: move it away and run again.")
    STAMP.write_text("unfinished\n")
    for entry in VENV.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != STAMP:
            entry.unlink()


def run(command: "list[str]", lock_fd: int) -> None:
    """Run one step of the preparation; when it fails, raise Unready with what it printed."""
    import shlex
    import subprocess

    printed = []
    # Whoever wants an end is heard as soon as we know what is to be ended, and not before.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    # The child inherits the lock: if we are killed, nobody empties `.venv` under a pip that is still writing to it.
    with subprocess.Popen(
        command,
        pass_fds=(lock_fd,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches us alone, who then end all of it.
        preexec_fn=hear_as_others_do,
    ) as child:
        try:
            hear()
            for line in child.stdout or ():
                printed.append(line)
                show(line)
        except BaseException:
            end(child.pid)
            raise
    if child.returncode:
        raise Unready(
            f"preparing {VENV} failed (exit {child.returncode}). The end of what was printed:\n\n"
            f"{''.join(printed[-SHOWN_LINES_MAX:])}\n"
            "Can the package index be reached (`python3 -m pip config list` shows which), and has the disk room? "
            f"Then run again. The step alone:\n\n{shlex.join(command)}"
        )


def hear() -> None:
    """Let signals through again."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def hear_as_others_do() -> None:
    """Have a signal end a child that is not yet what it is to be, and not be raised in it."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    hear()


def end(group: int) -> None:
    """End a step with all that it started, at once if it takes its time."""
    import contextlib
    import time

    for number in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(ENDS_WITHIN_S * 10):
            try:
                os.killpg(group, number)
            except ProcessLookupError:
                return
            with contextlib.suppress(ChildProcessError):
                os.waitpid(group, os.WNOHANG)  # Until somebody takes note, it counts as alive.
            time.sleep(0.1)


def show(line: str) -> None:
    """Let a person at a terminal see which package pip is at, in one line that is written over."""
    if line.startswith(("Collecting", "Installing")) and sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K" + line.split(" (")[0].strip()[:72])
        sys.stderr.flush()


def say(text: str) -> None:
    """Tell the person, over whatever `show` left in the line."""
    print("\r\x1b[K" if sys.stderr.isatty() else "", "merlin: ", text, sep="", file=sys.stderr, flush=True)


def running() -> str:
    """The version of this Python, as people write it."""
    return dotted(sys.version_info[:2])


def dotted(version: "tuple[int, int]") -> str:
    """A version as people write it: 3.11."""
    return "{}.{}".format(*version)


def other_python() -> str:
    """What to run instead, with the name of a Python on PATH that fits, if there is one."""
    import shlex

    names = [f"python3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    found = [name for name in names if starts(name)]
    command = " ".join(shlex.quote(word) for word in sys.argv)
    if found:
        return f"run it with {found[0]} (found on PATH: {', '.join(found)}):\n\n{found[0]} {command}"
    return f"install one of {', '.join(names)} and run it with that:\n\n{names[0]} {command}"


def starts(python: str) -> bool:
    """Whether this command runs: a name on PATH may be a shim of pyenv with nothing behind it."""
    import subprocess

    try:
        return not subprocess.call([python, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return False
