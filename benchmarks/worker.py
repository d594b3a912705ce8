"""One workload, in one process, for whichever geventhttpclient the interpreter has: prints one JSON object.

    python benchmarks/worker.py WORKLOAD BASE_URL SECONDS [GREENLETS]
    python benchmarks/worker.py versions

The same code runs both packages, with their defaults and the garbage collector's. Every body's length is checked.
"""

from __future__ import annotations

import json
import platform
import resource
import socket
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import gevent
from gevent.pool import Pool

from geventhttpclient import HTTPClient

PAGE_BYTES = 615
POST_BODY = b"x" * 65536
BIG_BYTES = 100 * 1024 * 1024
HUGE_BYTES = 1024 * 1024 * 1024
LINES = 500_000
PIECE = 16 * 1024
FLOOR_PIECE = 256 * 1024  # the size that was fastest
MIB = 1024 * 1024

# A workload makes its client, and gives the function that works for so many seconds (at least one unit of work)
# and returns how many units it did: requests, MiB or lines.
Run = Callable[[float], int]


def check(found: int, wanted: int) -> None:
    if found != wanted:
        raise RuntimeError(f"{found} instead of {wanted}")


def loop(once: Callable[[], None], greenlets: int) -> Run:
    """So many greenlets, each doing the same thing again and again."""

    def one_greenlet(end: float) -> int:
        count = 0
        while not count or perf_counter() < end:
            once()
            count += 1
        return count

    def run(seconds: float) -> int:
        end = perf_counter() + seconds
        started = [gevent.spawn(one_greenlet, end) for _ in range(greenlets)]
        gevent.joinall(started, raise_error=True)
        return sum(greenlet.get() for greenlet in started)

    return run


def get_page(http: HTTPClient) -> None:
    response = http.get("/page")
    check(response.status_code, 200)
    check(len(response.read()), PAGE_BYTES)


def get(base: str, greenlets: int) -> Run:
    http = HTTPClient.from_url(base, concurrency=greenlets)
    return loop(lambda: get_page(http), greenlets)


def spawn_requests(http: HTTPClient, pool: Pool, wanted: Callable[[int], bool]) -> int:
    """A greenlet for each request, as long as `wanted(how many so far)`; returns how many there were."""
    succeeded = 0

    def once() -> None:
        nonlocal succeeded
        get_page(http)
        succeeded += 1

    spawned = 0
    while wanted(spawned):
        pool.spawn(once)
        spawned += 1
    pool.join()
    check(succeeded, spawned)
    return spawned


def get_pool(base: str, greenlets: int) -> Run:
    http = HTTPClient.from_url(base, concurrency=greenlets)

    def run(seconds: float) -> int:
        end = perf_counter() + seconds
        return spawn_requests(http, Pool(greenlets), lambda count: not count or perf_counter() < end)

    return run


def get_1000(base: str, greenlets: int) -> Run:
    """A thousand requests, with a client made for them and closed after them."""

    def once() -> int:
        http = HTTPClient.from_url(base, concurrency=greenlets)
        count = spawn_requests(http, Pool(greenlets), lambda count: count < 1000)
        http.close()
        return count

    return repeat(once)


def post(base: str, greenlets: int) -> Run:
    http = HTTPClient.from_url(base, concurrency=greenlets)

    def once() -> None:
        response = http.post("/sink", body=POST_BODY)
        check(response.status_code, 200)
        check(len(response.read()), 2)

    return loop(once, greenlets)


def repeat(once: Callable[[], int]) -> Run:
    def run(seconds: float) -> int:
        end = perf_counter() + seconds
        count = once()
        while perf_counter() < end:
            count += once()
        return count

    return run


def download_whole(base: str, greenlets: int) -> Run:
    http = HTTPClient.from_url(base, concurrency=greenlets)

    def once() -> int:
        check(len(http.get("/big").read()), BIG_BYTES)
        return BIG_BYTES // MIB

    return repeat(once)


def read_in_pieces(http: HTTPClient, target: str) -> int:
    response = http.get(target)
    size = 0
    while piece := response.read(PIECE):
        size += len(piece)
    return size


def download_pieces(base: str, greenlets: int) -> Run:
    http = HTTPClient.from_url(base, concurrency=greenlets)

    def once() -> int:
        check(read_in_pieces(http, "/big"), BIG_BYTES)
        return BIG_BYTES // MIB

    return repeat(once)


def download_floor(base: str, greenlets: int) -> Run:
    """No client at all: a blocking socket that receives into one buffer, and looks at none of it."""
    address = urlsplit(base)

    def once() -> int:
        buffer = bytearray(FLOOR_PIECE)
        size = 0
        with socket.create_connection((address.hostname or "", address.port or 80)) as connection:
            connection.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while received := connection.recv_into(buffer):
                size += received
        check(size // MIB, BIG_BYTES // MIB)  # the head is less than a MiB
        return BIG_BYTES // MIB

    return repeat(once)


def download_huge(base: str, greenlets: int) -> Run:
    http = HTTPClient.from_url(base, concurrency=greenlets)
    get_page(http)

    def run(seconds: float) -> int:
        check(read_in_pieces(http, "/huge"), HUGE_BYTES)
        return HUGE_BYTES // MIB

    return run


def lines(base: str, greenlets: int) -> Run:
    http = HTTPClient.from_url(base, concurrency=greenlets)

    def once() -> int:
        response = http.get("/lines")
        count = 0
        while response.readline(b"\n"):
            count += 1
        check(count, LINES)
        return count

    return repeat(once)


WORKLOADS: dict[str, Callable[[str, int], Run]] = {
    "get": get,
    "get_pool": get_pool,
    "get_1000": get_1000,
    "post": post,
    "download_whole": download_whole,
    "download_pieces": download_pieces,
    "download_floor": download_floor,
    "download_huge": download_huge,
    "lines": lines,
}

# These measure how far memory grows from the start: a warm-up would have it grow before the start.
COLD = {"download_huge"}
WARM_UP = 0.25


def cpu_seconds() -> float:
    """User and system time of this process so far, all its threads together."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_bytes() -> int:
    """The most memory this process has had resident so far."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss counts, on Linux, what the parent had before it started us
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(workload: str, base: str, seconds: float, greenlets: int) -> dict[str, float]:
    allow_many_files()
    run = WORKLOADS[workload](base, greenlets)
    if workload not in COLD:
        run(seconds * WARM_UP)
    peak, cpu, begin = peak_bytes(), cpu_seconds(), perf_counter()
    count = run(seconds)
    return {
        "count": count,
        "seconds": perf_counter() - begin,
        "cpu_seconds": cpu_seconds() - cpu,
        "peak_growth_bytes": peak_bytes() - peak,
    }


def versions() -> dict[str, str]:
    packages = ("geventhttpclient", "gevent", "greenlet")
    return {"Python": platform.python_version()} | {name: version(name) for name in packages}


def main(workload: str, base: str = "", seconds: str = "1", greenlets: str = "10") -> None:
    answer = versions() if workload == "versions" else measure(workload, base, float(seconds), int(greenlets))
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
