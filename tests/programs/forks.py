"""Programs that fork while connections are open. Each gets the port of a peer and the method to fork."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable

import gevent
import gevent.os

from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPResponse
from tests.support.hub import attempt, descriptors, get


def fork(way: str, child: Callable[[], None]) -> Callable[[], int]:
    """Runs the function in a child. Returns a function that waits for its end and returns its exit code."""
    if way == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()

        def wait() -> int:
            process.join(30)
            assert process.exitcode is not None
            return process.exitcode

        return wait
    number = gevent.os.fork() if way == "gevent" else os.fork()
    if number == 0:
        code = 1
        try:
            child()
            code = 0
        except BaseException as e:
            os.write(2, f"in the child: {e!r}\n".encode())
        finally:
            os._exit(code)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def idle(port: str, way: str) -> None:
    """An idle connection: the child opens its own, the parent continues with the existing one."""
    client = HTTPClient("127.0.0.1", int(port))
    assert get(client, "/parent-before") == b"/parent-before"

    def child() -> None:
        assert get(client, "/child") == b"/child"
        assert get(client, "/child-again") == b"/child-again"

    assert fork(way, child)() == 0
    assert get(client, "/parent-after") == b"/parent-after"
    assert fork(way, child)() == 0
    assert get(client, "/parent-last") == b"/parent-last"
    print("ok")


def unused(port: str, way: str) -> None:
    """The child sends no request, and ends normally."""
    client = HTTPClient("127.0.0.1", int(port))
    assert get(client, "/parent-before") == b"/parent-before"

    def child() -> None:
        client.close()

    assert fork(way, child)() == 0
    assert get(client, "/parent-after") == b"/parent-after"
    print("ok")


def in_flight(port: str, way: str) -> None:
    """Requests in flight and in the queue belong to the parent."""
    client = HTTPClient("127.0.0.1", int(port), concurrency=2)
    calls = [gevent.spawn(attempt, lambda n=n: get(client, f"/held{n}", 30)) for n in range(4)]
    assert get(HTTPClient("127.0.0.1", int(port)), "/are-held", 30) == b"/are-held"

    def child() -> None:
        fresh = HTTPClient("127.0.0.1", int(port))
        # Only the request itself keeps the loop running.
        assert fresh.get("/child-fresh").read() == b"/child-fresh"

    assert fork(way, child)() == 0
    assert get(HTTPClient("127.0.0.1", int(port)), "/let-go") == b"/let-go"
    gevent.joinall(calls, timeout=20)
    assert [call.value for call in calls] == [f"/held{n}".encode() for n in range(4)], [call.value for call in calls]
    print("ok")


def half_read(port: str, way: str) -> None:
    """A partly read body: the parent can continue to read it, the child cannot."""
    client = HTTPClient("127.0.0.1", int(port), network_timeout=60)
    response: HTTPResponse = client.get("/held-body")
    assert response.read(5) == b"/held"

    def child() -> None:
        with gevent.Timeout(5):
            outcome = attempt(lambda: response.read(5))
        assert isinstance(outcome, Exception), outcome  # returns no byte, and does not block
        assert get(HTTPClient("127.0.0.1", int(port)), "/child") == b"/child"

    assert fork(way, child)() == 0
    assert get(HTTPClient("127.0.0.1", int(port)), "/let-go") == b"/let-go"
    with gevent.Timeout(10):
        assert response.read() == b"-body"
    assert get(client, "/parent-after") == b"/parent-after"
    print("ok")


def ends_in_order(port: str, way: str) -> None:
    """A child that inherits waiting greenlets and connections ends normally."""
    client = HTTPClient("127.0.0.1", int(port))
    assert get(client, "/parent-before") == b"/parent-before"
    others = HTTPClient("127.0.0.1", int(port), concurrency=2)
    calls = [gevent.spawn(attempt, lambda n=n: get(others, f"/held{n}", 30)) for n in range(4)]
    assert get(HTTPClient("127.0.0.1", int(port)), "/are-held", 30) == b"/are-held"

    def child() -> None:
        assert get(HTTPClient("127.0.0.1", int(port)), "/child") == b"/child"
        print("child", flush=True)
        if way != "multiprocessing":
            sys.exit(0)

    if way == "multiprocessing":
        assert fork(way, child)() == 0
    else:
        number = gevent.os.fork() if way == "gevent" else os.fork()
        if number == 0:
            child()
        assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
    assert get(client, "/parent-after") == b"/parent-after"
    gevent.killall(calls)
    print("ok", flush=True)


def closes_in_parent(port: str, way: str) -> None:
    """A connection that the parent closes is closed, although a child that was forked before still runs."""
    client = HTTPClient("127.0.0.1", int(port))
    assert get(client, "/parent") == b"/parent"
    reader, writer = os.pipe()

    def child() -> None:
        os.close(writer)
        os.read(reader, 1)  # until the parent has ended

    wait = fork(way, child)
    client.close()
    print("closed", flush=True)
    sys.stdin.readline()
    os.close(writer)
    assert wait() == 0
    print("ok")


def with_threads(port: str, way: str) -> None:
    """Another thread has its own connections when the process forks."""
    ready, go_on = threading.Event(), threading.Event()
    errors: list[object] = []

    def work() -> None:
        try:
            client = HTTPClient("127.0.0.1", int(port))
            assert get(client, "/thread-before") == b"/thread-before"
            ready.set()
            assert go_on.wait(30)
            assert get(client, "/thread-after") == b"/thread-after"
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(30)
    client = HTTPClient("127.0.0.1", int(port))

    def child() -> None:
        assert get(client, "/child") == b"/child"

    assert fork(way, child)() == 0
    go_on.set()
    thread.join(30)
    assert not errors, errors
    assert get(client, "/main") == b"/main"
    print("ok")


def in_flight_with_threads(port: str, way: str) -> None:
    """A request of this thread waits, and another thread has a hub: the child does not have that thread."""
    ready, go_on = threading.Event(), threading.Event()

    def work() -> None:
        assert get(HTTPClient("127.0.0.1", int(port)), "/thread") == b"/thread"
        ready.set()
        assert go_on.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(30)
    call = gevent.spawn(attempt, lambda: get(HTTPClient("127.0.0.1", int(port)), "/held", 10))
    assert get(HTTPClient("127.0.0.1", int(port)), "/are-held", 30) == b"/are-held"

    def child() -> None:
        assert get(HTTPClient("127.0.0.1", int(port)), "/child") == b"/child"

    assert fork(way, child)() == 0
    assert get(HTTPClient("127.0.0.1", int(port)), "/let-go") == b"/let-go"
    assert call.get(timeout=20) == b"/held", call.value
    go_on.set()
    thread.join(30)
    print("ok")


def again_and_again(port: str, way: str) -> None:
    """Children of children open connections, and the number of sockets does not grow."""
    client = HTTPClient("127.0.0.1", int(port))
    assert get(client, "/0") == b"/0"

    def sockets() -> int:
        return sum(target.startswith("socket:") for target in descriptors().values())

    before = sockets()

    def child(depth: int) -> None:
        assert get(client, f"/{depth}") == f"/{depth}".encode()
        assert sockets() <= before, descriptors()
        if depth < 5:
            assert fork(way, lambda: child(depth + 1))() == 0
        assert get(client, f"/{depth}-after") == f"/{depth}-after".encode()

    assert fork(way, lambda: child(1))() == 0
    print("ok")


def without_hooks(port: str, way: str) -> None:
    """A fork by C code, for which Python calls no hooks."""
    client = HTTPClient("127.0.0.1", int(port))
    assert get(client, "/parent-before") == b"/parent-before"
    held = HTTPClient("127.0.0.1", int(port), network_timeout=60)
    response = held.get("/held-body")
    number = ctypes.PyDLL(None).fork()
    if number == 0:
        code = 1
        try:
            del response
            gc.collect()
            assert get(client, "/child") == b"/child"
            assert get(client, "/child-again") == b"/child-again"
            code = 0
        except BaseException as e:
            os.write(2, f"in the child: {e!r}\n".encode())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
    assert get(client, "/parent-after") == b"/parent-after"
    assert get(HTTPClient("127.0.0.1", int(port)), "/let-go") == b"/let-go"
    with gevent.Timeout(10):
        assert response.read() == b"/held-body"
    print("ok")


def nothing_to_wait_for(port: str, way: str) -> None:
    """A child does not wait for the events of its parent: its loop ends."""
    calls = [gevent.spawn(get, HTTPClient("127.0.0.1", int(port)), "/held", 30)]
    assert get(HTTPClient("127.0.0.1", int(port)), "/are-held", 30) == b"/are-held"

    gevent.sleep(0.01)  # leaves the callback that woke this greenlet, at whose end the loop's references are updated

    def child() -> None:
        assert gevent.get_hub().join(timeout=5)

    assert fork(way, child)() == 0
    assert get(HTTPClient("127.0.0.1", int(port)), "/let-go") == b"/let-go"
    assert calls[0].get(timeout=10) == b"/held"
    print("ok")


def within_the_loop(port: str, way: str) -> None:
    """A greenlet forks in the middle of a turn of the loop, which has to notice its first request."""
    client = HTTPClient("127.0.0.1", int(port))
    assert get(client, "/parent-before") == b"/parent-before"

    def child() -> None:
        assert get(client, "/child") == b"/child"

    assert gevent.spawn(lambda: fork(way, child)()).get() == 0
    assert get(client, "/parent-after") == b"/parent-after"
    print("ok")
