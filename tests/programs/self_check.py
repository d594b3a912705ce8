"""Checks that the client works with gevent as the environment configures it: loop, resolver, monkey patching.

`python tests/programs/self_check.py PORT [patched]` runs every check against the peer at 127.0.0.1:PORT, and prints one
line of JSON for each: its name, and the traceback or null. The peer is that of tests/gevent/test_loops.py.
"""

from __future__ import annotations

import sys

if "patched" in sys.argv[2:]:
    from gevent import monkey

    monkey.patch_all()

import gc
import json
import os
import signal
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator

import gevent
import gevent.os
import gevent.socket
import pytest
from gevent.event import AsyncResult, Event
from gevent.exceptions import BlockingSwitchOutError, LoopExit

from geventhttpclient.client import HTTPClient

CHECKS: list[Callable[[], None]] = []

port = 0


def check(function: Callable[[], None]) -> Callable[[], None]:
    CHECKS.append(function)
    return function


def client(concurrency: int = 1, network_timeout: float = 20) -> HTTPClient:
    return HTTPClient(
        "127.0.0.1", port, concurrency=concurrency, network_timeout=network_timeout, connection_timeout=20
    )


def fetch(source: HTTPClient, target: str) -> bytes:
    """Sends a GET request and returns the body. The timeout does not keep the loop running."""
    with gevent.Timeout(10, ref=False):
        response = source.get(target)
        assert response.status_code == 200
        return response.read()


def failure(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except BaseException as e:
        return e
    return None


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def settle(condition: Callable[[], object]) -> None:
    for _ in range(5000):
        if condition():
            return
        gevent.sleep(0.001)
    raise AssertionError("waited in vain")


def deadlock_is_seen() -> bool:
    with gevent.Timeout(3, ref=False):
        return isinstance(failure(Event().wait), LoopExit)


@check
def get() -> None:
    one = client()
    for n in range(5):
        assert fetch(one, f"/{n}") == f"/{n}".encode()
    assert one.post("/length", body=b"x" * 200_000).read() == b"200000"
    one.close()


@check
def by_name() -> None:
    one = HTTPClient("localhost", port, disable_ipv6=True)
    assert fetch(one, "/named") == b"/named"
    one.close()


@check
def unknown_name() -> None:
    one = HTTPClient("nowhere.invalid", port, disable_ipv6=True)
    assert isinstance(failure(lambda: fetch(one, "/")), socket.gaierror)
    one.close()


@check
def concurrency() -> None:
    many = client(concurrency=5)
    calls = [gevent.spawn(fetch, many, f"/{n}") for n in range(200)]
    gevent.joinall(calls, timeout=20, raise_error=True)
    assert [call.value for call in calls] == [f"/{n}".encode() for n in range(200)]
    # Concurrently: each of the five requests is answered only after all of them have arrived.
    together = [gevent.spawn(fetch, many, "/together/5") for _ in range(5)]
    gevent.joinall(together, timeout=20, raise_error=True)
    many.close()


@check
def kill() -> None:
    one = client()
    assert fetch(one, "/") == b"/"
    before = descriptors()
    for _ in range(20):
        call = gevent.spawn(one.get, "/held")
        call.join(0.005)
        assert not call.dead
        call.kill()
        assert isinstance(call.value, gevent.GreenletExit)
    assert fetch(one, "/after") == b"/after"
    settle(lambda: descriptors() <= before)
    one.close()


@check
def kill_in_queue() -> None:
    one = client()
    owner = gevent.spawn(one.get, "/held")
    queued = [gevent.spawn(one.get, "/queued") for _ in range(10)]
    gevent.joinall(queued, timeout=0.02)
    gevent.killall(queued[:9])
    owner.kill()
    assert queued[9].get(timeout=10).read() == b"/queued"
    one.close()


@check
def gevent_timeout() -> None:
    one = client()
    timer = gevent.Timeout(0.05)

    def wait() -> None:
        with timer:
            one.get("/held")

    assert failure(wait) is timer
    assert fetch(one, "/after") == b"/after"
    one.close()


@check
def network_timeout() -> None:
    one = client(network_timeout=0.05)
    for target in ("/held", "/held-body"):
        assert isinstance(failure(lambda target=target: one.get(target).read()), TimeoutError)
        assert fetch(one, "/after") == b"/after"
    one.close()


@check
def short_timeouts() -> None:
    """Works also on a loop that warns of timers below a millisecond, in a program that treats warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(10):
            one = client(network_timeout=0.0004 + n * 0.0003)
            with gevent.Timeout(3):
                assert isinstance(failure(lambda one=one: one.get("/held")), TimeoutError)
            one.close()


@check
def deadlines_of_code_that_waits_by_itself() -> None:
    """A resolver and the source of a body are interrupted by gevent on every loop, with very short and long limits."""

    def endless() -> Iterator[bytes]:
        yield b"first"
        Event().wait()

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error")
        for limit in (0.0004, 0.05):
            one = client()
            error = failure(lambda one=one, limit=limit: one.post("/", endless(), total_timeout=limit))
            assert isinstance(error, TimeoutError), repr(error)
            assert fetch(one, "/after") == b"/after"
            one.close()
            patch.setattr("gevent.socket.getaddrinfo", lambda *_: Event().wait())
            one = HTTPClient("origin.invalid", port, connection_timeout=limit)
            error = failure(lambda one=one: one.get("/"))
            assert isinstance(error, TimeoutError), repr(error)
            assert error.phase == "resolve"
            patch.undo()
            one.close()
        one = HTTPClient("localhost", port, disable_ipv6=True)
        assert one.get("/", connection_timeout=1e300, total_timeout=1e19).read() == b"/"
        one.close()


@check
def timeouts_in_their_order() -> None:
    ended: list[int] = []

    def wait(n: int) -> None:
        try:
            client(network_timeout=0.05 + n * 0.1).get("/held")
        except TimeoutError:
            ended.append(n)

    gevent.joinall([gevent.spawn(wait, n) for n in (3, 0, 4, 2, 1)], timeout=20, raise_error=True)
    assert ended == [0, 1, 2, 3, 4], ended


@check
def stream() -> None:
    one = client()
    with one.get("/lines/20000") as response:
        for n in range(20_000):
            assert response.readline() == b"line %d\r\n" % n
        assert response.readline() == b""
    assert fetch(one, "/after") == b"/after"
    body = one.get("/bytes/3000000")
    size = 0
    while block := body.read(16384):
        size += len(block)
        gevent.sleep(0)
    assert size == 3_000_000
    one.close()


@check
def end_of_connection() -> None:
    one = client()
    for _ in range(10):
        assert fetch(one, "/until-close") == b"z" * 100_000
    one.close()


@check
def loop_exit() -> None:
    one = client()
    assert one.get("/alone").read() == b"/alone"
    assert gevent.wait(timeout=3), "an idle connection keeps the loop running"
    assert deadlock_is_seen()
    call = gevent.spawn(one.get, "/spawned")
    assert gevent.wait(timeout=10), "the loop did not end"
    assert call.value.read() == b"/spawned"
    call = gevent.spawn(one.get, "/held")
    assert not gevent.wait(timeout=0.1), "the loop ended though a request waits"
    call.kill()
    assert deadlock_is_seen()
    one.close()


@check
def spurious_switch() -> None:
    one = client()
    call = gevent.spawn(one.get, "/late")
    call.join(0.01)
    for _ in range(3):
        gevent.get_hub().loop.run_callback(call.switch)
        gevent.sleep(0.002)
    assert call.get(timeout=10).read() == b"/late"
    one.close()


@check
def in_the_hub() -> None:
    one = client()
    outcome = AsyncResult()
    assert fetch(one, "/before") == b"/before"
    gevent.get_hub().loop.run_callback(lambda: outcome.set(failure(lambda: one.get("/"))))
    assert isinstance(outcome.get(timeout=10), BlockingSwitchOutError)
    assert fetch(one, "/after") == b"/after"
    one.close()


@check
def interrupt() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore SIGINT in background jobs
    one = client()
    timer = gevent.spawn_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    assert isinstance(failure(lambda: one.get("/held")), KeyboardInterrupt)
    timer.join()
    assert fetch(one, "/after") == b"/after"
    one.close()


@check
def threads() -> None:
    many = client(concurrency=2)
    assert fetch(many, "/main") == b"/main"
    bodies: dict[int, bytes] = {}

    def work(n: int) -> None:
        bodies[n] = fetch(many, f"/thread/{n}")

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert bodies == {n: f"/thread/{n}".encode() for n in range(4)}
    assert fetch(many, "/main-again") == b"/main-again"
    many.close()


@check
def fork() -> None:
    one = client()
    assert fetch(one, "/which-connection").isdigit()
    mine = fetch(one, "/which-connection")
    waiting = client()
    call = gevent.spawn(fetch, waiting, "/late")
    call.join(0.01)
    child = gevent.os.fork()
    if child == 0:
        code = 1
        try:
            code = 2 if one.get("/which-connection").read() == mine else 0
            assert fetch(client(), "/child") == b"/child"
        except BaseException:
            traceback.print_exc()
            code = 3
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(gevent.os.waitpid(child, 0)[1]) == 0
    assert fetch(one, "/which-connection") == mine
    assert call.get(timeout=10) == b"/late"
    one.close()


@check
def thread_pool() -> None:
    # Runs after the check of fork: gevent's pool does not survive a fork after a job like this.
    one = client()
    assert gevent.get_hub().threadpool.apply(fetch, (one, "/job")) == b"/job"
    assert fetch(one, "/main") == b"/main"
    one.close()


@check
def closed() -> None:
    """Everything that the checks have opened is closed; only gevent's own descriptors may be more than before."""
    gc.collect()
    one = client(concurrency=4)
    calls = [gevent.spawn(fetch, one, "/") for _ in range(8)]
    gevent.joinall(calls, raise_error=True)
    before = descriptors()
    one.close()
    settle(lambda: descriptors() == before - 4)
    assert isinstance(failure(lambda: one.get("/")), RuntimeError)


def main() -> None:
    global port
    port = int(sys.argv[1])
    for function in CHECKS:
        wrong = None
        try:
            function()
        except BaseException:
            wrong = traceback.format_exc()
        print(json.dumps({"check": function.__name__, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main()
