"""Writes the due times of requests to standard output, from a process other than the client's.

    python benchmarks/pacer.py RATE SECONDS

Each time has 8 bytes, a double of Python's perf_counter, which on Linux and macOS has the same origin in all processes.
It is written at that time, on a CPU that the client does not use if there is one. A client that is late finds the
requests that became due in the pipe. A loop that sends the next request after the last response would skip them
(coordinated omission), and timers of an event loop would round them to milliseconds.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from time import perf_counter


def avoid_cpus_of_client() -> None:
    """Moves this process to the CPUs that the parent may not use, if there are any."""
    if hasattr(os, "sched_setaffinity"):
        others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
        if others:
            os.sched_setaffinity(0, others)


def main(rate: str, seconds: str) -> None:
    avoid_cpus_of_client()
    interval, count = 1 / float(rate), round(float(rate) * float(seconds))
    begin = perf_counter()
    for number in range(count):
        while (wait := begin + number * interval - perf_counter()) > 0:
            time.sleep(wait)
        os.write(1, struct.pack("d", perf_counter()))


if __name__ == "__main__":
    main(*sys.argv[1:])
