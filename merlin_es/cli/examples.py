"""What is an example of each verb? Its help ends with it, and a test runs it."""

from __future__ import annotations

from typing import Final

RUN: Final = "npu-20261126031500-1a2b3c4d"
LEASE: Final = "lease-0a1b2c3d4e"
CLAIM: Final = "claim-5f6a7b8c9d"

_EXAMPLES: Final = (
    "merlin demo",
    "merlin settings -o json",
    "merlin schema ray jobs list",
    "merlin completion bash",
    "merlin ray cluster start-local",
    "merlin ray cluster attach http://127.0.0.1:8265",
    "merlin ray cluster status -o json",
    "merlin ray cluster stop",
    "merlin ray jobs submit --target npu --workflow w --target-dir out -- ls",
    f"merlin ray jobs status {RUN}",
    "merlin ray jobs list --status blocked --since 24h -o jsonl",
    f"merlin ray jobs logs {RUN} --tail 20",
    f"merlin ray jobs cancel {RUN}",
    f"merlin ray jobs retry {RUN}",
    f"merlin ray jobs wait {RUN} --timeout 600",
    f"merlin ray artifacts list {RUN}",
    f"merlin ray artifacts index {RUN}",
    f"merlin ray artifacts fetch {RUN} a.txt",
    "merlin ray resources list u250 --all",
    "merlin ray resources reserve u250 --owner ada --ttl 30m",
    f"merlin ray resources release {LEASE} --owner ada",
    f"merlin ray resources renew {LEASE} --owner ada",
    f"merlin ray resources transfer {LEASE} --to bob --owner ada",
    "merlin ray resources hold u250 --owner ada --wait -- ls -l",
    "merlin ray resources queue u250",
    f"merlin ray resources leave {CLAIM}",
    "merlin ray resources declare u250 --label kind=fpga --max-duration 8h",
    "merlin ray resources drain u250 --reason 'new power supply'",
    "merlin ray resources enable u250",
    "merlin ray resources retire u250 --reason 'given away'",
    f"merlin ray resources check {LEASE} --fence 1",
    "merlin ray resources history u250",
    "merlin ray resources who u250 --at 1",
    "merlin ray resources report --since 7d",
    "merlin ray reconcile --once",
    "merlin ray rebuild --check",
    "merlin ray verify --all --fold",
    f"merlin ray head {RUN}",
    f"merlin ray seal {RUN} --reason 'signed off'",
    f"merlin ray export {RUN} --to run.tar",
    "merlin ray import run.tar",
    f"merlin ray archive {RUN}",
    f"merlin ray unarchive {RUN}",
    f"merlin ray events {RUN} --type 'run.*'",
    f"merlin ray replay {RUN} -o jsonl",
    f"merlin ray why {RUN} status",
    f"merlin ray diff {RUN} --at 1 --at 3",
    "merlin ray state --at '2h ago'",
    f"merlin ray wait {RUN} submitted --timeout 30s",
    f"merlin ray fork {RUN} --at 1 -- ls -la",
    "merlin ray doctor",
    "merlin targetgen validate --example gemmini",
    "merlin targetgen plan --example gemmini --out-dir out",
    "merlin targetgen generate --example gemmini --out-dir out",
    "merlin targetgen explain --example gemmini",
    "merlin targetgen orchestrate --example nvidia_ada --out-dir out",
    "merlin targetgen execute --from-dir out/nvidia_ada",
    "merlin targetgen status --target-dir out/nvidia_ada",
    "merlin targetgen answer --target-dir out/npu --question-id ID --choice X",
    "merlin targetgen stage-mutation --example gemmini --out-dir out",
    "merlin targetgen rebuild --target-dir out/nvidia_ada --check",
)


def example_of(path: str) -> str:
    """Give the example of the verb which is named by the words `path`; empty when it has none."""
    length = len(path.split())
    return next((each for each in _EXAMPLES if each.split()[:length] == path.split()), "")
