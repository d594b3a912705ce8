"""Programs that send a request while the first request of a thread is being set up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gevent
from gevent.event import Event

from geventhttpclient import HTTPClient
from tests.support.hub import until
from tests.support.peer import Conn, Peer, Script, serve_ok


class Loop:
    """Proxy of an event loop; the first access to one attribute calls a function before."""

    def __init__(self, loop: Any, point: str, call: Callable[[], object]) -> None:
        self._loop = loop
        self._point = point
        self._calls = [call]

    def __getattr__(self, name: str) -> Any:
        if name == self._point and self._calls:
            self._calls.pop()()
        return getattr(self._loop, name)


def halves() -> Script:
    """Returns a script whose response to /inner ends only after /outer was requested on another connection."""
    outer_is_there = Event()

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if request.target == "/inner":
                conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n/in")
                outer_is_there.wait()
                conn.send(b"ner")
                continue
            outer_is_there.set()
            conn.respond(request.target.encode())

    return script


def first_request(point: str) -> None:
    """In the main thread, whose hub the engine has not used yet."""
    with Peer(halves()) as peer:
        _nested(point, peer)
        assert len(peer.conns) == 2


def after_destroy(point: str) -> None:
    """In another thread, whose hub is destroyed and created again."""
    with Peer(serve_ok, halves()) as peer:

        def work() -> None:
            with closing(HTTPClient("127.0.0.1", peer.port)) as client:
                assert client.get("/before").read() == b"/before"
                gevent.get_hub().destroy(destroy_loop=True)
            _nested(point, peer)

        errors: list[BaseException] = []

        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        until(lambda: not thread.is_alive(), 30)
        if errors:
            raise errors[0]


def _nested(point: str, peer: Peer) -> None:
    held: list[Any] = []
    inner = HTTPClient("127.0.0.1", peer.port)
    outer = HTTPClient("127.0.0.1", peer.port)

    def meanwhile() -> None:
        # It holds its connection, and thus the runtime on which the connection was created.
        held.append(inner.get("/inner"))

    hub = gevent.get_hub()
    hub.loop = Loop(hub.loop, point, meanwhile)
    with closing(inner), closing(outer), gevent.Timeout(10):
        response = outer.get("/outer")
        assert response.read() == b"/outer"
        (first,) = held
        assert first.read() == b"/inner"
        # Its connection belongs to the inner client, and remains usable.
        assert inner.get("/again").read() == b"/again"
        assert inner.statistics()["opened"] == 1
        assert outer.statistics()["opened"] == 1
    print("both answered, 3 responses read")
