"""Facts about the machine and the versions, for the head of the report."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers import CONTESTANTS


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_gigabytes() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def file_system(path: Path) -> str:
    """The type of the file system that holds `path` ("ext4", "tmpfs", …)."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    path = path.resolve()
    mounts = ((Path(fields[1]), fields[2]) for fields in (line.split() for line in lines))
    holding = [(len(point.parts), kind) for point, kind in mounts if point == path or point in path.parents]
    return max(holding)[1] if holding else "unknown"


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for contestant in CONTESTANTS.values():
        for name in contestant.distributions:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "not installed"
    return found


def facts(disk: Path, memory: Path) -> dict[str, str]:
    return {
        "processor": f"{processor()}, {usable_cores()} cores",
        "memory": f"{memory_gigabytes():.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "disk": file_system(disk),
        "RAM disk": file_system(memory),
    }
