"""Measures a workload: warms up, then records time, CPU and memory.

    python benchmarks/measure.py PACKAGE ...

prints the versions of Python and of these packages as one JSON object.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import latency

PAGE_BYTES = 615
EVENTS = 50_000

# Works for this many seconds (at least one unit of work); returns the number of units: requests, MiB, lines or clients.
Run = Callable[[float], int]

WARM_UP = 0.25


def check(found: int, wanted: int) -> None:
    if found != wanted:
        raise RuntimeError(f"{found} instead of {wanted}")


def repeat(once: Callable[[], int]) -> Run:
    """Returns a Run of a function that returns a number of units."""

    def run(seconds: float) -> int:
        end = perf_counter() + seconds
        count = once()
        while perf_counter() < end:
            count += once()
        return count

    return run


def cpu_seconds() -> float:
    """Returns the user and system time of this process, with all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory() -> tuple[int, int]:
    """Returns the resident memory of this process in bytes, and its peak; the peak for both without /proc."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, ru_maxrss includes the memory of the parent before exec
        found = dict(line.split(":", 1) for line in status.read_text().splitlines())
        resident, peak = (int(found[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return resident, peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak, peak


def measure(run: Run, seconds: float, *, cold: bool = False) -> dict[str, Any]:
    """Returns the fields of a `report.Sample`, after a warm-up unless `cold`. Latencies are taken from `run.spent` if
    it exists."""
    if not cold:
        run(seconds * WARM_UP)
    (resident, peak), cpu, begin = memory(), cpu_seconds(), perf_counter()
    count = run(seconds)
    spent, cpu_spent = perf_counter() - begin, cpu_seconds() - cpu
    resident_now, peak_now = memory()
    return {
        "count": count,
        "seconds": spent,
        "cpu_seconds": cpu_spent,
        "peak_growth_bytes": peak_now - peak,
        "growth_bytes": resident_now - resident,
        "latencies": latency.of_seconds(getattr(run, "spent", ())),
    }


if __name__ == "__main__":
    print(json.dumps({"Python": platform.python_version()} | {name: version(name) for name in sys.argv[1:]}))
