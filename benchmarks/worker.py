"""Runs one workload in one process, with the geventhttpclient of the interpreter, and prints one JSON object.

    python benchmarks/worker.py WORKLOAD BASE_URL SECONDS [GREENLETS [CA_FILE [PROTOCOL [PACE]]]]

PROTOCOL is `http2` or empty. PACE is that of `loops.at_pace`, for workloads of looping greenlets. The same code runs
both packages, with their defaults and those of the garbage collector. The length of each body is checked."""

from __future__ import annotations

import atexit
import json
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.ssl
from event_clients import TIMER
from gevent.event import Event
from gevent.pool import Pool
from loops import Greenlets, at_pace
from measure import EVENTS, PAGE_BYTES, Run, check, measure, repeat

from geventhttpclient import HTTPClient

POST_BODY = b"x" * 65536
BIG_BYTES = 100 * 1024 * 1024
HUGE_BYTES = 1024 * 1024 * 1024
LINES = 500_000
CLIENT_COUNT = 1000
PIECE = 16 * 1024
FLOOR_PIECE = 256 * 1024  # the size that was fastest
MIB = 1024 * 1024


@dataclass(frozen=True)
class Setup:
    """Input of a workload: base URL of the server, number of greenlets, CA file for https. `http2` selects HTTP/2,
    which only our package has."""

    base: str
    greenlets: int
    ca_file: str
    http2: bool = False

    def client(self, **given: Any) -> HTTPClient:
        """Returns a client with a connection for each greenlet, or as many as HTTP/2 needs for them. Both packages
        ignore the TLS options for http."""
        options = {"ca_certs": self.ca_file}
        if self.http2:
            given["http2"] = True
        return HTTPClient.from_url(self.base, concurrency=self.greenlets, ssl_options=options, **given)


def check_http2(setup: Setup) -> None:
    """Checks that the server negotiates HTTP/2: the client would accept HTTP/1.1."""
    with setup.client() as http:
        response = http.get("/page")
        check(len(response.read()), PAGE_BYTES)
        if response.version != "HTTP/2":
            raise RuntimeError(f"{response.version} instead of HTTP/2")


def get_page(http: HTTPClient, headers: dict[str, str] | None = None) -> None:
    response = http.get("/page", headers)
    check(response.status_code, 200)
    check(len(response.read()), PAGE_BYTES)


def get(setup: Setup) -> Run:
    http = setup.client()
    return Greenlets(lambda: get_page(http), setup.greenlets)


def useragent(setup: Setup) -> Run:
    """Uses UserAgent, which has a client for each origin, cookies, redirects and retries."""
    from geventhttpclient.useragent import UserAgent

    agent, url = UserAgent(concurrency=setup.greenlets), f"{setup.base}/page"

    def once() -> None:
        response = agent.urlopen(url)
        check(response.status_code, 200)
        check(len(response.content), PAGE_BYTES)

    return Greenlets(once, setup.greenlets)


def session(setup: Setup) -> Run:
    """Uses Session, the interface of requests."""
    from geventhttpclient.requests import Session

    agent, url = Session(concurrency=setup.greenlets), f"{setup.base}/page"

    def once() -> None:
        response = agent.get(url)
        check(response.status_code, 200)
        check(len(response.content), PAGE_BYTES)

    return Greenlets(once, setup.greenlets)


def get_once(setup: Setup) -> Run:
    """Opens a connection for each request, with a handshake."""
    http = setup.client()
    return Greenlets(lambda: get_page(http, {"Connection": "close"}), setup.greenlets)


def get_context(setup: Setup) -> Run:
    """Uses an SSLContext of Python. The factory is a new function, since the package could recognize the standard one
    and use its own TLS."""

    def factory(cafile: str) -> ssl.SSLContext:
        return gevent.ssl.create_default_context(cafile=cafile)

    http = setup.client(ssl_context_factory=factory)
    return Greenlets(lambda: get_page(http), setup.greenlets)


def spawn_requests(http: HTTPClient, pool: Pool, wanted: Callable[[int], bool]) -> int:
    """Spawns a greenlet for each request while `wanted(number so far)` is true, and returns the number."""
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


def get_pool(setup: Setup) -> Run:
    http = setup.client()

    def run(seconds: float) -> int:
        end = perf_counter() + seconds
        return spawn_requests(http, Pool(setup.greenlets), lambda count: not count or perf_counter() < end)

    return run


def get_1000(setup: Setup) -> Run:
    """Makes 1,000 requests with a new client, and closes it."""

    def once() -> int:
        http = setup.client()
        count = spawn_requests(http, Pool(setup.greenlets), lambda count: count < 1000)
        http.close()
        return count

    return repeat(once)


def post(setup: Setup) -> Run:
    http = setup.client()

    def once() -> None:
        response = http.post("/sink", body=POST_BODY)
        check(response.status_code, 200)
        check(len(response.read()), 2)

    return Greenlets(once, setup.greenlets)


def download_whole(setup: Setup) -> Run:
    http = setup.client()

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


def download_pieces(setup: Setup) -> Run:
    http = setup.client()

    def once() -> int:
        check(read_in_pieces(http, "/big"), BIG_BYTES)
        return BIG_BYTES // MIB

    return repeat(once)


def download_floor(setup: Setup) -> Run:
    """Uses no client: a blocking socket receives into one buffer, whose content is ignored."""
    address = urlsplit(setup.base)
    host = address.hostname or ""
    context = ssl.create_default_context(cafile=setup.ca_file) if address.scheme == "https" else None

    def connect() -> socket.socket:
        connection = socket.create_connection((host, address.port or 80))
        return context.wrap_socket(connection, server_hostname=host) if context else connection

    def once() -> int:
        buffer = bytearray(FLOOR_PIECE)
        size = 0
        with connect() as connection:
            connection.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while received := connection.recv_into(buffer):
                size += received
        check(size // MIB, BIG_BYTES // MIB)  # the head is less than a MiB
        return BIG_BYTES // MIB

    return repeat(once)


def download_huge(setup: Setup) -> Run:
    http = setup.client()
    get_page(http)

    def run(seconds: float) -> int:
        check(read_in_pieces(http, "/huge"), HUGE_BYTES)
        return HUGE_BYTES // MIB

    return run


def lines(setup: Setup) -> Run:
    http = setup.client()

    def once() -> int:
        response = http.get("/lines")
        count = 0
        while response.readline(b"\n"):
            count += 1
        check(count, LINES)
        return count

    return repeat(once)


def events_of(target: str) -> Callable[[Setup], Run]:
    """Returns the workload of reading a stream of server-sent events, which only our package does."""

    def events(setup: Setup) -> Run:
        http = setup.client()

        def once() -> int:
            count = sum(1 for _ in http.get(target).iter_events())
            check(count, EVENTS)
            return count

        return repeat(once)

    return events


class Streams:
    """Reads a stream in each greenlet, all of them slow. `spent` receives the lateness of each timer beside them."""

    def __init__(self, setup: Setup) -> None:
        self.count = 0
        self.spent: list[float] = []
        http = setup.client()
        open_now: list[int] = []

        def read() -> None:
            response = http.get("/paced")
            open_now.append(1)
            for _ in response.iter_events():
                self.count += 1

        self.readers = [gevent.spawn(read) for _ in range(setup.greenlets)]
        while len(open_now) < setup.greenlets:
            gevent.sleep(TIMER)

    def __call__(self, seconds: float) -> int:
        self.spent.clear()
        before, end = self.count, perf_counter() + seconds
        while (begin := perf_counter()) < end:
            gevent.sleep(TIMER)
            self.spent.append(perf_counter() - begin - TIMER)
        dead = [reader for reader in self.readers if reader.dead]
        gevent.joinall(dead, raise_error=True)
        check(len(dead), 0)
        return self.count - before


def clients(setup: Setup) -> Run:
    """Creates clients with default TLS settings until the time is over, and keeps them all. The first does not
    count."""
    kept = [HTTPClient.from_url(setup.base)]

    def run(seconds: float) -> int:
        end = perf_counter() + seconds
        while len(kept) <= CLIENT_COUNT and (len(kept) == 1 or perf_counter() < end):
            kept.append(HTTPClient.from_url(setup.base))
        return len(kept) - 1

    return run


def connections(setup: Setup) -> Run:
    """Sends a request from each greenlet, all in flight together, each on its own connection, which stays open. The
    memory of the greenlets alone, which wait before and after it, does not count."""
    is_tls = setup.base.startswith("https:")
    certificate = [str(Path(setup.ca_file).with_name("server.pem"))] if is_tls else []
    barrier = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("barrier.py")), str(setup.greenlets), *certificate],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(barrier.kill)
    assert barrier.stdout is not None
    base = f"{urlsplit(setup.base).scheme}://127.0.0.1:{barrier.stdout.readline().strip()}"
    timeouts = {"connection_timeout": 120.0, "network_timeout": 120.0}
    http = replace(setup, base=base).client(**timeouts)
    begin, end = Event(), Event()
    answered: list[int] = []

    def one_greenlet() -> None:
        begin.wait()
        get_page(http)
        answered.append(1)
        end.wait()

    started = [gevent.spawn(one_greenlet) for _ in range(setup.greenlets)]
    gevent.idle()

    def run(_: float) -> int:
        begin.set()
        while len(answered) < setup.greenlets:
            dead = [greenlet for greenlet in started if greenlet.dead]
            gevent.joinall(dead, raise_error=True)
            gevent.sleep(0.1)
        return len(answered)

    return run


WORKLOADS: dict[str, Callable[[Setup], Run]] = {
    "get": get,
    "get_context": get_context,
    "useragent": useragent,
    "session": session,
    "get_once": get_once,
    "get_pool": get_pool,
    "get_1000": get_1000,
    "post": post,
    "download_whole": download_whole,
    "download_pieces": download_pieces,
    "download_floor": download_floor,
    "download_huge": download_huge,
    "lines": lines,
    "events": events_of("/events"),
    "tokens": events_of("/tokens"),
    "streams": Streams,
    "clients": clients,
    "connections": connections,
}

# Workloads without a warm-up, since they measure the growth of memory.
COLD = {"download_huge", "clients", "connections"}


def allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(
    workload: str, base: str, seconds: str, greenlets: str = "10", ca_file: str = "", protocol: str = "", pace: str = ""
) -> None:
    allow_many_files()
    setup = Setup(base, int(greenlets), ca_file, protocol == "http2")
    if setup.http2:
        check_http2(setup)
    run = at_pace(WORKLOADS[workload](setup), pace)
    print(json.dumps(measure(run, float(seconds), cold=workload in COLD)))


if __name__ == "__main__":
    main(*sys.argv[1:])
