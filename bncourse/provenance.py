"""Where a recorded number comes from: the machine, the versions, the commit."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "book" / "results"  # where records are


def machine(device: str = "cpu") -> str:
    """What did the computing: the processor and how many of its cores may be used, or the GPU."""
    if device == "cpu":
        return f"{_processor()}, {cores()} cores"
    import torch

    return torch.cuda.get_device_name()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of Python and the packages that compute."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


@functools.cache
def commit() -> str:
    """The commit that the code is of; with a plus if the package has changed since; or "unknown".

    As it is at the first call: a run takes a while, and what counts is the code that it began with.
    """
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", here, *args], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
