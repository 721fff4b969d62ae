"""With which rights are the files of a state root made?"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from merlin_es import bootstrap
from merlin_es.commands import Reserve
from merlin_es.settings import Settings
from tests.old_roots import OldState
from tests.words import typed


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002])
def test_every_file_is_made_with_the_umask_of_the_user(tmp_path: Path, umask: int) -> None:
    old, root = OldState(tmp_path / "old"), tmp_path / "state"
    old.run(status="error", message="a\nb\n")
    old.lease()
    old.cluster("stopped")
    settings = Settings(root, tmp_path, "ada@lab", sync=False)
    words = ("ray", "--state-root", str(root))
    before = os.umask(umask)
    try:
        list(bootstrap.old_root(settings).take_in(old.root))
        bootstrap.leases(settings).reserve(Reserve("claim-0000000001", "ada", "", ("board",)))
        wish = ("--target", "t", "--workflow", "w", "--target-dir", str(tmp_path), "--", "true")
        assert typed(*words, "jobs", "submit", *wish, cwd=tmp_path).returncode == 5
        assert typed(*words, "jobs", "list", cwd=tmp_path).returncode == 0
        typed(*words, "reconcile", "--once", cwd=tmp_path)
    finally:
        os.umask(before)
    made = [root, *root.rglob("*")]
    assert len(made) > 20
    wide = {str(path): oct(stat.S_IMODE(path.stat().st_mode)) for path in made if path.stat().st_mode & umask}
    assert wide == {}
    shared = [path for path in made if path.suffix in (".json", ".jsonl", ".sqlite")]
    granted = 0o666 & ~umask & ~0o022 if umask != 0o002 else 0o644
    assert all(path.stat().st_mode & granted == granted for path in shared), "and no narrower than that"
