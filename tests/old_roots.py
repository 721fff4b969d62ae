"""What does a state root of the tool that this one replaces look like? Files as it wrote them, by its contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

CREATED: Final = "2025-03-04T05:06:07.890123+00:00"
UPDATED: Final = "2025-03-04T05:16:07+00:00"
RUN: Final = "saturn-20250304050607-0badcafe"


class OldState:
    """A state root that the old tool has written: truncating, without any lock, sorted keys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root.parent / "work"
        (self.work / "out").mkdir(parents=True, exist_ok=True)

    def write(self, name: str, content: object) -> Path:
        """Write one file, JSON unless it is bytes."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes):
            content = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
        path.write_bytes(content)
        return path

    def request(self, run_id: str = RUN, **changes: object) -> dict[str, Any]:
        """Give what `run_request.json` says."""
        return {
            "run_id": run_id,
            "target": "saturn",
            "workflow": "targetgen_execute",
            "source": "targetgen_execute",
            "command": ["conda", "run", "-n", "merlin-dev", "uv", "run", "tools/merlin.py"],
            "workdir": str(self.work),
            "target_dir": str(self.work / "out"),
            "metadata": {"prompt_backend": "manual", "workflow": "bringup"},
            "created_at": CREATED,
            **changes,
        }

    def record(self, run_id: str = RUN, status: str = "completed", **changes: object) -> dict[str, Any]:
        """Give what `run_record.json` says."""
        given = status not in ("blocked", "dry_run")
        return {
            **self.request(run_id),
            "engine": "ray",
            "status": status,
            "cluster_address": "http://127.0.0.1:8265" if given else None,
            "submission_id": run_id if given else None,
            "message": None,
            "updated_at": UPDATED,
            **changes,
        }

    def run(self, run_id: str = RUN, status: str = "completed", **changes: object) -> Path:
        """Write a run, without a list of artifacts; gives its directory."""
        self.write(f"runs/{run_id}/run_request.json", self.request(run_id))
        return self.write(f"runs/{run_id}/run_record.json", self.record(run_id, status, **changes)).parent

    def artifact(self, name: str, content: bytes = b"", run_id: str = RUN, **changes: object) -> dict[str, Any]:
        """Write an artifact, and give its entry in `artifacts.json`."""
        path = self.work / "out" / name
        if content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        entry = {"run_id": run_id, "name": name, "path": str(path), "kind": "json", "size_bytes": len(content)}
        return {**entry, "created_at": "2099-01-01T00:00:00+00:00", **changes}

    def cluster(self, status: str = "active", **changes: object) -> Path:
        """Write `bootstrap.json`."""
        return self.write(
            "cluster/bootstrap.json",
            {
                "cluster_name": "merlin-local",
                "status": status,
                "address": "127.0.0.1:6379",
                "dashboard_url": "http://127.0.0.1:8265",
                "namespace": "merlin",
                "managed_by": "merlin-raycp",
                "message": None,
                "started_at": CREATED,
                "updated_at": UPDATED,
                **changes,
            },
        )

    def lease(self, name: str = "lease-00000000aa", state: str = "active", **changes: object) -> Path:
        """Write the file of a lease."""
        return self.write(
            f"resources/leases/{name}.json",
            {
                "lease_id": name,
                "resource_type": "firesim_u250",
                "owner": "ada",
                "status": state,
                "metadata": {"why": "bringup"},
                "created_at": CREATED,
                "updated_at": UPDATED,
                **changes,
            },
        )

    def content(self) -> dict[str, tuple[int, bytes]]:
        """Give every file with its time and its bytes."""
        files = (path for path in sorted(self.root.rglob("*")) if path.is_file() and not path.is_symlink())
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
