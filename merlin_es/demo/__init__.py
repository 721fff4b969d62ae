"""What does a new user see first? The main job, done on a real Ray, in the words that they would type themselves."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path

from merlin_es.demo.interruption import Interrupted, Interruption
from merlin_es.demo.screen import Screen
from merlin_es.demo.shell import Failed
from merlin_es.demo.story import Story
from merlin_es.demo.workspace import Workspace, make
from merlin_es.errors import MerlinError

FAILED = 1


def play(directory: Path | None, *, remove: bool) -> int:
    """Play the story in a new directory; gives the exit code. Whatever happens, nothing is left running."""
    interruption = Interruption()
    with interruption.listening():
        try:
            workspace = make(directory)
        except MerlinError:
            if not interruption.has_come:
                raise
            _say("interrupted before anything was run; no file is left")  # Git was, by the same signal.
            return interruption.exit_code
        return _play(workspace, interruption, remove=remove)


def _play(workspace: Workspace, interruption: Interruption, *, remove: bool) -> int:
    screen, begin = Screen(sys.stdout, os.environ), time.monotonic()
    story = Story(workspace, screen, os.environ, interruption)
    try:
        story.play()
    except Failed as failure:
        code, said = FAILED, str(failure)
    except Interrupted:
        code, said = interruption.exit_code, f"interrupted in scene {story.scene} of {len(story.scenes())}"
    except BrokenPipeError:
        code, said = 0, f"nobody reads on after scene {story.scene} of {len(story.scenes())}"
    else:
        code, said = 0, ""
    finally:
        stopped = story.stop()
        workspace.remove_what_lies_elsewhere()
    if said:
        _say_what_is_left(workspace, said, stopped=stopped, remove=remove and code != FAILED)
        return code
    _say_what_is_next(story, workspace, screen, time.monotonic() - begin, remove=remove)
    return 0


def _say_what_is_left(workspace: Workspace, said: str, *, stopped: bool, remove: bool) -> None:
    """Say in one line what was done and where the files are, and in another one how they go."""
    top = shlex.quote(str(workspace.top))
    if not stopped:
        _say(f"{said}; the head may still run: `cd {top} && ./merlin ray cluster stop`")
    elif remove:
        workspace.remove()
        _say(f"{said}; nothing runs any more, and no file is left")
    else:
        _say(f"{said}; nothing runs any more, the files are in {top}")
        _say(f"`rm -rf {top}` removes them; the same command plays it all again")


def _say(text: str) -> None:
    with suppress(OSError):  # As when the terminal is gone.
        print(f"merlin: {text}", file=sys.stderr, flush=True)


def _say_what_is_next(story: Story, workspace: Workspace, screen: Screen, took_s: float, *, remove: bool) -> None:
    screen.say(f"That was all of it, in {took_s:.0f} s. Nothing runs any more.", loud=True)
    screen.line()
    if remove:
        workspace.remove()
        screen.line("Nothing is left behind; without --remove the files stay, to look around.")
        return
    screen.line("The logs and the repository are still there. Look around:\n")
    screen.typed(f"cd {shlex.quote(str(workspace.top))}")
    for what, command in story.endings():
        screen.line(f"  {what}:")
        screen.typed(command)
    screen.line("  and when you have seen enough, this removes everything:")
    screen.typed(f"rm -rf {shlex.quote(str(workspace.top))}")
