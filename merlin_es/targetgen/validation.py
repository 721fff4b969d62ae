"""Does a change work? A validation command is run in the worktree, as `/bin/sh` reads it, without anybody's secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import eventlog
from merlin_es.redaction import NO_RULES, Rules
from merlin_es.targetgen import children
from merlin_es.targetgen.launchers import launched
from merlin_es.targetgen.ports import Ran

_SECRETS = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|(?:API|ACCESS|PRIVATE|SIGNING|ENCRYPTION|ACCOUNT)_?KEY"
    r"|_PAT\Z|_PASS\Z|_PWD\Z|_AUTH\Z|AUTHORIZATION|COOKIE|KUBECONFIG|NETRC|SSH_AUTH_SOCK|CONNECTION_STRING|\AGIT_",
    re.IGNORECASE,
)
_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")


@dataclass(frozen=True)
class ShellValidation:
    """Runs commands with the `environment` of whoever asks, less what is secret and all `secrets` by their names."""

    blobs: eventlog.BlobStore
    environment: Mapping[str, str]
    launcher: str | None = None
    secrets: Collection[str] = ()
    rules: Rules = NO_RULES

    def run(self, command: str, cwd: Path, limit_s: float) -> Ran:
        """Run one validation command at `cwd` and wait; nothing that it started is left when this returns."""
        return children.run(
            ("/bin/sh", "-c", launched(command, self.launcher, self.environment)),
            cwd=cwd,
            environment={**without_secrets(self.environment, self.secrets), "PWD": str(cwd)},
            limit_s=limit_s,
            place=str(cwd),
            blobs=self.blobs,
            secrets=self.rules,
        )


def without_secrets(environment: Mapping[str, str], secrets: Collection[str] = ()) -> dict[str, str]:
    """Give an environment without what is named as a secret, looks like one, or is a URL with a password."""
    return {
        name: value
        for name, value in environment.items()
        if name not in secrets and not _SECRETS.search(name) and not _WITH_PASSWORD.search(value)
    }
