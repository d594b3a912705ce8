"""Says when requests are due, from outside of the client: one time after the other on its standard output.

    python benchmarks/pacer.py RATE SECONDS

Each is 8 bytes, a double of Python's perf_counter, which Linux and macOS count from the same moment in every process.
It is written at that time, on a CPU other than the client's where there is one. A client that is late finds those that
came due meanwhile in the pipe: it is not spared them, as it would be by a loop that asks for the next when the last was
answered (the coordinated omission of latencies), nor by timers of its own, which event loops round to milliseconds.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from time import perf_counter


def leave_the_client_alone() -> None:
    """Moves to the CPUs that the process that started us may not use, if there are any."""
    if hasattr(os, "sched_setaffinity"):
        others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
        if others:
            os.sched_setaffinity(0, others)


def main(rate: str, seconds: str) -> None:
    leave_the_client_alone()
    interval, count = 1 / float(rate), round(float(rate) * float(seconds))
    begin = perf_counter()
    for number in range(count):
        while (wait := begin + number * interval - perf_counter()) > 0:
            time.sleep(wait)
        os.write(1, struct.pack("d", perf_counter()))


if __name__ == "__main__":
    main(*sys.argv[1:])
