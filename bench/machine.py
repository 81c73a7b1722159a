"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from harness.programs import HG


def describe(folder: Path) -> dict[str, Any]:
    """The machine, with the file system that `folder` is on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    hg = subprocess.run([HG, "version", "-q"], capture_output=True, text=True, check=True)
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{memory / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "filesystem": _filesystem(folder),
        "hg": hg.stdout.strip().rpartition(" ")[2].strip("()"),
        "python": platform.python_version(),
        # What else the machine does: with much of it, trust the ratios alone.
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def shown(machine: dict[str, Any]) -> str:
    load = " ".join(map(str, machine["load"]))
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']}\n"
        f"Linux {machine['kernel']}, {machine['filesystem']}\n"
        f"hg {machine['hg']}, Python {machine['python']}, load {load}"
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    """Kind and options of the file system."""
    best = ("", "unknown")
    where = str(folder.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, f"{kind} ({options})")
    return best[1]
