"""On what was it measured?"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_MOUNTS, _CPUS = Path("/proc/self/mounts"), Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a measurement depends on, apart from the code."""

    cores: int
    cpu: str
    python: str
    kernel: str
    directory: str
    file_system: str

    def __str__(self) -> str:
        return f"{self.cores} cores ({self.cpu}), Python {self.python}, {self.kernel}, files on {self.file_system}"

    @property
    def only_in_memory(self) -> bool:
        """Whether a sync costs nothing there, so that the durable rows say nothing."""
        return self.file_system in {"tmpfs", "ramfs"}


def machine(directory: Path) -> Machine:
    """Describe this machine, and the file system of `directory`."""
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        cpu=_cpu(),
        python=platform.python_version(),
        kernel=f"{platform.system()} {platform.release()}",
        directory=str(directory),
        file_system=_file_system(directory.resolve()),
    )


def _cpu() -> str:
    """Give the model of the processor, as the kernel names it, or else what kind it is."""
    if _CPUS.exists():
        for line in _CPUS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """Give the type of the file system that is mounted nearest above `directory`; the last mount on a place counts."""
    if not _MOUNTS.exists():
        return "unknown"
    best, kind = "", "unknown"
    for line in _MOUNTS.read_text().splitlines():
        _, place, name, *_ = line.split(" ")
        if directory.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, name
    return kind
