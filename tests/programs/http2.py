"""Programs that fork while connections of HTTP/2 are open. Each is given the port of a peer and the way to fork."""

from __future__ import annotations

import gevent

from geventhttpclient.client import HTTPClient
from tests.hubtools import attempt, get
from tests.programs.forks import fork


def client_of(port: str) -> HTTPClient:
    return HTTPClient("127.0.0.1", int(port), http2="prior-knowledge", network_timeout=30)


def idle(port: str, way: str) -> None:
    """Nobody asks anything: the child opens a connection of its own, the parent goes on with what it had."""
    client = client_of(port)
    assert get(client, "/parent-before") == b"/parent-before"

    def child() -> None:
        assert get(client, "/child") == b"/child"
        client.close()

    assert fork(way, child)() == 0
    assert get(client, "/parent-after") == b"/parent-after"
    print("ok")


def in_flight(port: str, way: str) -> None:
    """Streams are open: they are the parent's alone."""
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
