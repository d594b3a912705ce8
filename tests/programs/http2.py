"""Programs with HTTP/2 connections that fork, idle or lose their hub. The argument is the port of a peer."""

from __future__ import annotations

import gc
import ssl
import threading
import time

import gevent
from gevent.exceptions import LoopExit

from geventhttpclient._core import _runtime_statistics
from geventhttpclient.client import HTTPClient
from tests.programs.forks import fork
from tests.programs.hub import deadlock_is_seen, hold, loop_ends
from tests.support.hub import attempt, descriptors, get, until


def client_of(port: str) -> HTTPClient:
    return HTTPClient("127.0.0.1", int(port), http2="prior-knowledge", network_timeout=30)


def idle(port: str, way: str) -> None:
    """No request is in flight: the child opens its own connection, the parent continues with the existing one."""
    client = client_of(port)
    assert get(client, "/parent-before") == b"/parent-before"

    def child() -> None:
        assert get(client, "/child") == b"/child"
        client.close()

    assert fork(way, child)() == 0
    assert get(client, "/parent-after") == b"/parent-after"
    print("ok")


def in_flight(port: str, way: str) -> None:
    """Streams are open: only the parent can use them."""
    client = client_of(port)
    assert get(client, "/parent-before") == b"/parent-before"
    calls = [gevent.spawn(attempt, lambda n=n: get(client, f"/held{n}", 30)) for n in range(4)]
    assert get(client, "/are-held", 30) == b"/are-held"

    def child() -> None:
        assert get(client, "/child") == b"/child"

    assert fork(way, child)() == 0
    assert get(client, "/let-go") == b"/let-go"
    gevent.joinall(calls, timeout=20)
    assert [call.value for call in calls] == [f"/held{n}".encode() for n in range(4)], [call.value for call in calls]
    assert get(client, "/parent-after") == b"/parent-after"
    print("ok")


def quiet(port: str) -> None:
    """The loop runs while a request waits, and ends otherwise."""
    client = HTTPClient(
        "127.0.0.1",
        int(port),
        http2="prior-knowledge",
        http2_ping_interval=60,
        network_timeout=600,
        connection_timeout=600,
    )
    assert client.get("/alone").read() == b"/alone"
    assert loop_ends()
    assert deadlock_is_seen()
    print("an idle connection: ok")

    holder = gevent.spawn(hold, client, "/held-body")
    assert loop_ends()
    assert deadlock_is_seen()
    print("an unread response: ok")

    error = attempt(lambda: client.get("/queued"))
    assert isinstance(error, LoopExit)
    assert "all 1 HTTP/2 streams" in str(error), error
    queued = gevent.spawn(attempt, lambda: client.get("/queued"))
    assert loop_ends()
    assert client.statistics()["waiting"] == 1
    queued.kill()
    assert client.statistics()["waiting"] == 0
    holder.kill()
    assert client.get("/after").read() == b"/after"
    print("a queue that only a blocked greenlet could serve: ok")

    held = gevent.spawn(attempt, lambda: client.get("/held"))
    gevent.wait(timeout=0.1)
    assert not held.dead
    held.kill()
    assert deadlock_is_seen()
    assert client.get("/after").read() == b"/after"
    assert client.statistics()["opened"] == 1
    print("a request that was killed: ok")


def idling(port: str) -> None:
    """The loop is idle with an idle connection, an unread response and a blocked upload."""

    def rest() -> None:
        gevent.sleep(0.1)
        begun = time.process_time()
        gevent.sleep(0.4)
        assert time.process_time() - begun < 0.1

    client = HTTPClient("127.0.0.1", int(port), http2="prior-knowledge", http2_ping_interval=0.1, network_timeout=30)
    assert client.get("/first").read() == b"/first"
    rest()
    # Its pings were answered, and the answers were received although no greenlet waited.
    assert client.statistics()["closed"] == {}
    print("an idle connection: ok")
    response = client.get("/large")
    rest()
    upload = gevent.spawn(attempt, lambda: client.post("/upload", bytes(1_000_000)))
    rest()
    assert not upload.dead
    upload.kill()
    response.release()
    assert client.get("/last").read() == b"/last"
    assert client.statistics()["opened"] == 1
    print("an unread response, a blocked upload: ok")


def destroyed(port: str) -> None:
    """The hub is destroyed while streams are open, and a new one replaces it."""
    client = client_of(port)
    assert get(client, "/before") == b"/before"
    open_before = len(descriptors())
    ended: list[object] = []
    response = client.get("/held-body")
    calls = [gevent.spawn(lambda: ended.append(attempt(lambda: client.get("/held")))) for _ in range(3)]
    until(lambda: client.statistics()["streams"] == 4)
    gevent.get_hub().destroy()
    assert _runtime_statistics() == (0, 0)
    until(lambda: len(descriptors()) < open_before)
    assert get(client, "/after") == b"/after"
    assert isinstance(attempt(response.read), Exception)
    for call in calls:
        call.parent = gevent.get_hub()
        call.parent.loop.run_callback(call.throw, gevent.GreenletExit)
    until(lambda: len(ended) == 3)
    assert all(isinstance(end, gevent.GreenletExit) for end in ended)
    assert client.statistics()["streams"] == 0
    assert get(client, "/last") == b"/last"
    print("ok")


def dropped(port: str, authority: str) -> None:
    """A client is dropped while an exception propagates: Python code still sends the close_notify of its connection."""

    def used() -> HTTPClient:
        client = HTTPClient(
            "localhost",
            int(port),
            ssl=True,
            http2=True,
            ssl_context_factory=lambda: ssl.create_default_context(cafile=authority),
        )
        response = client.get("/used")
        assert response.version == "HTTP/2"
        assert response.read() == b"/used"
        return client

    for _ in range(3):
        error = attempt(lambda: (used(), 1 / 0))
        assert isinstance(error, ZeroDivisionError), error
        assert error.__context__ is None
        print("ok")


def threads_that_end(port: str) -> None:
    """Greenlets of threads wait on streams for ever, and their threads end."""
    client = client_of(port)
    assert get(client, "/before") == b"/before"
    before = len(descriptors())

    def work() -> None:
        calls = [gevent.spawn(attempt, lambda: client.get("/held")) for _ in range(3)]
        calls.append(gevent.spawn(attempt, lambda: client.get("/held-body").read()))
        gevent.sleep(0)
        until(lambda: client.statistics()["streams"] == 4)
        assert not any(call.dead for call in calls)
        gevent.get_hub().loop.destroy()

    for _ in range(5):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
        gc.collect()
        # A thread closes its sockets; the next one frees the rest of its resources.
        assert len(descriptors()) <= before + 1
    assert get(client, "/after") == b"/after"
    print("ok")
