"""What can go wrong in Merlin, which exit code does it have, and what should whoever meets it do next?

MerlinError                 exit 1
├── Usage                   2   what was asked for cannot be done as it is: an option, a name, a file
│   ├── SpecInvalid         2   a capability spec or an overlay says what it must not, or leaves out what it must say
│   ├── PromptInvalid       2   a file of the prompt library cannot be used
│   └── BundleInvalid       2   what was read is no execution bundle
├── NotFound                3   no such run, artifact or cluster
├── Refused                 4   the rules say no, and the message says who is in the way
│   ├── Ambiguous           4   several things have that name
│   ├── TimedOut           12   who waited for a lease has waited for as long as it wanted to
│   ├── Busy               13   somebody holds it, or is in line before, and nobody was to wait
│   ├── LeaseLost          14   the lease is not, or no longer, of who acts for it; nothing was changed
│   ├── Drained            15   nobody gets that key for now
│   └── Unsatisfiable      16   nobody will ever get that
├── Blocked                 5   recorded, but Ray cannot take it now
├── ClusterError            6   the cluster cannot do it
│   ├── RayMissing          6   there is no Ray on this host
│   ├── HeadFailed          6   the head did not come up
│   ├── Unreachable         6   no useful answer; says nothing about any job
│   ├── Unauthorized        6   the cluster wants another token
│   ├── ListUnreadable      6   one bad record spoils Ray's list of jobs
│   ├── JobExists           6   that submission id is taken
│   └── Rejected            6   the job server will never take this
├── Sick                    7   a log is damaged; the others go on
└── NeverComes             20   what somebody waits for cannot happen any more

A message is written `what is the case (why): what to do next`. The door takes it apart and shows it in three
lines; where a message leaves out why, or what to do, its class knows what is true of every error of that kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final, NamedTuple

BUG: Final = 70
"""The exit code when Merlin itself is at fault: an exception that nobody raises on purpose."""


class Told(NamedTuple):
    """An error as people are told of it."""

    what: str
    why: str
    advice: str


def told(message: str, why: str = "", advice: str = "") -> Told:
    """Take a message apart: `what (why): what to do`; what it leaves out is as given. More lines belong to what."""
    text, _, more = message.strip().partition("\n")
    if more:
        return Told(message.strip(), why, advice)
    what, colon, last = _parted(text)
    if not colon or " " not in what:  # The name of a file, and then what is the case with it.
        return Told(text, why, advice)
    before, reason = _bracketed(what)
    return Told(before, reason or why, last)


def _bracketed(text: str) -> tuple[str, str]:
    """Part a text from what stands in brackets at its end, which may have brackets of its own."""
    depth = 0
    for place in range(len(text) - 1, 0, -1) if text.endswith(")") else ():
        depth += {")": 1, "(": -1}.get(text[place], 0)
        if not depth:
            return (text[: place - 1], text[place + 1 : -1]) if text[place - 1] == " " else (text, "")
    return text, ""


def _parted(text: str) -> tuple[str, str, str]:
    """Part a text at its last `: `, or else `; `, which is in no brackets, no quotes and no `command`."""
    at, depth, quote, sign = -1, 0, "", ""
    for place, each in enumerate(text):
        if quote:
            quote = "" if each == quote else quote
        elif each == "`" or (each in "'\"" and text[place - 1 : place] in ("", " ", "(")):
            quote = each if each in text[place + 1 :] else ""
        elif each in "([{":
            depth += 1
        elif each in ")]}":
            depth = max(0, depth - 1)
        elif not depth and text.startswith((": ", "; ") if sign != ":" else ": ", place):
            at, sign = place, each
    return (text[:at], sign, text[at + 2 :]) if sign else (text, "", "")


class MerlinError(Exception):
    """The root of every error that Merlin raises on purpose; the message says what to do next.

    `why` and `advice` are what holds of every error of its kind, for messages that do not say it. `name` is what was
    looked for, `among` the names that there are, or what it `names_a` (a run, a lease, a claim), which the door finds.
    """

    exit_code = 1
    why: ClassVar[str] = "it could not be done as things are"
    advice: ClassVar[str] = "`merlin ray doctor` looks for what is wrong, and says what mends it"

    def __init__(self, message: str, *, name: str = "", names_a: str = "", among: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.names_a = names_a
        self.among = among

    def told(self) -> Told:
        """Give what is the case, why, and what to do next."""
        return told(str(self), self.why, self.advice)


class Usage(MerlinError):
    """What was asked for cannot be done as it is."""

    exit_code = 2
    why = "as it was asked for, it cannot be done"
    advice = "add --help to the verb: it shows what can be given"


class SpecInvalid(Usage):
    """A capability spec or an overlay cannot be planned; the message has one line for each thing to mend."""

    why = "a spec or an overlay says what it must not, or leaves out what it must say"
    advice = "mend each of these, then `merlin targetgen validate` it again"


class PromptInvalid(Usage):
    """A file of the prompt library cannot be used; the message begins with its name."""

    why = "a file of the prompt library cannot be used"
    advice = "mend that file, then repeat the call"


class BundleInvalid(Usage):
    """What was read is no execution bundle."""

    why = "what was read is no execution bundle"
    advice = "`merlin targetgen orchestrate` makes it anew"


class NotFound(MerlinError):
    """There is nothing of that name."""

    exit_code = 3
    why = "nothing of that name is recorded or lies there"
    advice = "`merlin ray state` shows what there is"


class Refused(MerlinError):
    """The rules say no."""

    exit_code = 4
    why = "a rule says no, and nothing was changed"
    advice = "`merlin ray state` shows how things stand"


class Ambiguous(Refused):
    """Several things have that name."""

    why = "several have that name"
    advice = "name the one that you mean"


class TimedOut(Refused):
    """Who waited has waited for as long as it wanted to, and is no longer in line."""

    exit_code = 12
    why = "the time to wait is over"
    advice = "wait longer with --timeout, or ask whoever holds it"


class Busy(Refused):
    """Somebody holds it, or is in line before."""

    exit_code = 13
    why = "somebody holds it, or is in line before"
    advice = "stand in line with --wait"


class LeaseLost(Refused):
    """The lease has ended, or is somebody else's: whoever acts for it must stop."""

    exit_code = 14
    why = "it has ended, or has another holder; nothing was changed"
    advice = "stop what needs it, then reserve it anew"


class Drained(Refused):
    """Nobody gets the key for now; who waits for it is in line when it is enabled again."""

    exit_code = 15
    why = "nobody gets it for now"
    advice = "wait for it with --wait, or reserve another one"


class Unsatisfiable(Refused):
    """There are not so many keys that could ever be granted: waiting would be for ever."""

    exit_code = 16
    why = "there are not so many keys that could ever be granted"
    advice = "`merlin ray resources list` shows who holds what; ask for fewer"


class Blocked(MerlinError):
    """It is recorded, but Ray cannot take it now."""

    exit_code = 5
    why = "it is recorded, but Ray cannot take it now"
    advice = "`merlin ray jobs retry RUN` once Ray takes jobs"


class ClusterError(MerlinError):
    """The cluster cannot do what was asked."""

    exit_code = 6
    why = "the cluster cannot do it"
    advice = "`merlin ray cluster status` says how it stands"


class RayMissing(ClusterError):
    """There is no `ray` on this host, or not the part that takes jobs."""

    why = "there is no Ray on this host, or not the part that takes jobs"
    advice = '`pip install "ray[default]"` into the environment of Merlin'


class HeadFailed(ClusterError):
    """A head was started and did not come up; nothing of it is left."""

    why = "a head was to start and did not; nothing of it is left"
    advice = "mend that, then `merlin ray cluster start-local` again"


class Unreachable(ClusterError):
    """The cluster gave no useful answer. That says nothing about any job.

    `kind` is one of `refused`, `timeout`, `reset`, `unhealthy`, `no_agent`, `server_error`, `not_ray`,
    `other_cluster`.
    """

    why = "the cluster gave no useful answer, which says nothing of any run"
    advice = "see whether that cluster is up, then repeat the call"

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class Unauthorized(ClusterError):
    """The cluster wants a token, or another one."""

    why = "the cluster wants a token, or another one"
    advice = "`merlin ray cluster attach ADDRESS --token-file PATH`"


class ListUnreadable(ClusterError):
    """One record that Ray cannot read spoils its list of jobs; each job can still be asked for by its id."""

    why = "one record that Ray cannot read spoils its list of jobs"
    advice = "ask for each run by its id"


class JobExists(ClusterError):
    """A job with that submission id is there already."""

    why = "that submission id is taken"
    advice = "`merlin ray jobs status RUN` says what became of it"


class Rejected(ClusterError):
    """The job server will never take this submission; `http_status` is what it answered, 0 when it was not asked."""

    why = "the job server will never take this submission"
    advice = "change what it does not take, and submit it as a new run"

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class Sick(MerlinError):
    """A log is damaged. What stands before the damage can be read; the other logs go on."""

    exit_code = 7
    why = "what is on disk is not what was written there; the other logs go on"
    advice = "`merlin ray doctor` names each log that is damaged, and what mends it"


class NeverComes(MerlinError):
    """What somebody waits for cannot happen any more."""

    exit_code = 20
    why = "what it waited for cannot happen any more"
    advice = "`merlin ray events RUN` shows what happened instead"
