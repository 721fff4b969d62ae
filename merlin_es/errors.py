"""What can go wrong in Merlin, which exit code does it have, and what should whoever meets it do next?

MerlinError                 exit 1
├── Usage                   2   what was asked for cannot be done as it is: an option, a name, a file
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
└── Sick                    7   a log is damaged; the others go on
"""

from __future__ import annotations


class MerlinError(Exception):
    """The root of every error that Merlin raises on purpose; the message says what to do next."""

    exit_code = 1


class Usage(MerlinError):
    """What was asked for cannot be done as it is."""

    exit_code = 2


class NotFound(MerlinError):
    """There is nothing of that name."""

    exit_code = 3


class Refused(MerlinError):
    """The rules say no."""

    exit_code = 4


class Ambiguous(Refused):
    """Several things have that name."""


class TimedOut(Refused):
    """Who waited has waited for as long as it wanted to, and is no longer in line."""

    exit_code = 12


class Busy(Refused):
    """Somebody holds it, or is in line before."""

    exit_code = 13


class LeaseLost(Refused):
    """The lease has ended, or is somebody else's: whoever acts for it must stop."""

    exit_code = 14


class Drained(Refused):
    """Nobody gets the key for now; who waits for it is in line when it is enabled again."""

    exit_code = 15


class Unsatisfiable(Refused):
    """There are not so many keys that could ever be granted: waiting would be for ever."""

    exit_code = 16


class Blocked(MerlinError):
    """It is recorded, but Ray cannot take it now."""

    exit_code = 5


class ClusterError(MerlinError):
    """The cluster cannot do what was asked."""

    exit_code = 6


class RayMissing(ClusterError):
    """There is no `ray` on this host, or not the part that takes jobs."""


class HeadFailed(ClusterError):
    """A head was started and did not come up; nothing of it is left."""


class Unreachable(ClusterError):
    """The cluster gave no useful answer. That says nothing about any job.

    `kind` is one of `refused`, `timeout`, `reset`, `unhealthy`, `no_agent`, `server_error`, `not_ray`,
    `other_cluster`.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class Unauthorized(ClusterError):
    """The cluster wants a token, or another one."""


class ListUnreadable(ClusterError):
    """One record that Ray cannot read spoils its list of jobs; each job can still be asked for by its id."""


class JobExists(ClusterError):
    """A job with that submission id is there already."""


class Rejected(ClusterError):
    """The job server will never take this submission; `http_status` is what it answered, 0 when it was not asked."""

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class Sick(MerlinError):
    """A log is damaged. What stands before the damage can be read; the other logs go on."""

    exit_code = 7
