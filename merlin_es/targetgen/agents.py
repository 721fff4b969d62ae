"""Who answers a prompt when nobody is there? A command of the user's, once for each packet.

The command gets `{prompt_file}` and `{response_file}` as whole words or within one; no shell reads it. It writes beside
the place of the response, and only what it leaves there when it ends with 0 is put in place, as a whole, and never over
a response that is there. Its environment is the user's own, since it needs the key of whatever it asks.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import eventlog
from merlin_es.errors import Usage
from merlin_es.redaction import NO_RULES, Rules
from merlin_es.targetgen import children
from merlin_es.targetgen.ports import Ran
from merlin_es.targetgen.responses import RESPONSE_MAX

PROMPT, RESPONSE = "{prompt_file}", "{response_file}"


@dataclass(frozen=True)
class CommandAgent:
    """An agent that is a command; `words` are what is run, before the placeholders are filled in."""

    command: str
    blobs: eventlog.BlobStore
    environment: Mapping[str, str]
    cwd: Path
    secrets: Rules = NO_RULES

    def __post_init__(self) -> None:
        words_of(self.command)

    def run(self, prompt_file: Path, response_file: Path, limit_s: float) -> Ran:
        """Have the agent answer a prompt and wait; a response that is there already is never replaced."""
        prompt_file, response_file = prompt_file.absolute(), response_file.absolute()
        draft = response_file.with_name(f".{response_file.name}.draft")
        draft.unlink(missing_ok=True)
        argv = [word.replace(PROMPT, str(prompt_file)).replace(RESPONSE, str(draft)) for word in words_of(self.command)]
        try:
            ran = children.run(
                argv,
                cwd=self.cwd,
                environment=self.environment,
                limit_s=limit_s,
                place=str(response_file),
                blobs=self.blobs,
                secrets=self.secrets,
            )
            if ran.succeeded:
                _put_in_place(draft, response_file)
        finally:
            draft.unlink(missing_ok=True)
        return ran


def words_of(command: str) -> list[str]:
    """Split the command of an agent as a shell would; raises Usage."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Usage(f"--agent-command cannot be split into words ({error}): close its quotes") from None
    if not words:
        raise Usage(f"--agent-command is empty: give a command with {PROMPT} and {RESPONSE} in it")
    for placeholder in (PROMPT, RESPONSE):
        if not any(placeholder in word for word in words):
            raise Usage(f"--agent-command has no {placeholder} in it: that is how the agent is told of the file")
    return words


def _put_in_place(draft: Path, response_file: Path) -> None:
    """Give a draft the name of the response, durably, unless there is one, or the draft is no plain file."""
    try:
        descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return  # It has left nothing that can be used; whoever asked sees that.
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > RESPONSE_MAX:
            return
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    with suppress(FileExistsError):
        os.link(draft, response_file)
    directory = os.open(response_file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
