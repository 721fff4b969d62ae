"""What does a new user see first? The main job, done on a real Ray, in the words that they would type themselves."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from merlin_es.demo.screen import Screen
from merlin_es.demo.shell import Failed
from merlin_es.demo.story import Story
from merlin_es.demo.workspace import Workspace, make

FAILED = 1
INTERRUPTED = 128 + signal.SIGINT


def play(directory: Path | None, *, remove: bool) -> int:
    """Play the story in a new directory; gives the exit code. Whatever happens, nothing is left running."""
    screen, begin = Screen(sys.stdout, os.environ), time.monotonic()
    workspace = make(directory)
    story = Story(workspace, screen, os.environ)
    try:
        story.play()
    except Failed as failure:
        code, said = FAILED, str(failure)
    except KeyboardInterrupt:
        code, said = INTERRUPTED, "interrupted"
    else:
        code, said = 0, ""
    finally:
        stopped = _stopped(story)
        workspace.remove_what_lies_elsewhere()
    if code:
        _say_what_is_left(workspace, said, stopped=stopped)
        return code
    _say_what_is_next(story, workspace, screen, time.monotonic() - begin, remove=remove)
    return 0


def _stopped(story: Story) -> bool:
    """End the head, which nobody who is impatient keeps from being ended."""
    with _undisturbed():
        if story.has_begun:
            with suppress(OSError):  # As when the terminal is gone.
                print("\nmerlin: stopping the Ray head; it takes a few seconds", file=sys.stderr, flush=True)
        return story.stop()


def _say_what_is_left(workspace: Workspace, said: str, *, stopped: bool) -> None:
    top = workspace.top
    runs = "nothing runs any more" if stopped else f"the head may still run: `cd {top} && ./merlin ray cluster stop`"
    print(
        f"merlin: {said}\nmerlin: {runs}\nmerlin: the files are in {top}; `rm -rf {top}` removes them", file=sys.stderr
    )


def _say_what_is_next(story: Story, workspace: Workspace, screen: Screen, took_s: float, *, remove: bool) -> None:
    screen.say(f"That was all of it, in {took_s:.0f} s. Nothing runs any more.", loud=True)
    screen.line()
    if remove:
        workspace.remove()
        screen.line("Nothing is left behind; without --remove the files stay, to look around.")
        return
    screen.line("The logs and the repository are still there. Look around:\n")
    screen.typed(f"cd {workspace.top}")
    for what, command in story.endings():
        screen.line(f"  {what}:")
        screen.typed(command)
    screen.line("  and when you have seen enough, this removes everything:")
    screen.typed(f"rm -rf {workspace.top}")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put off everybody who wants an end now."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
