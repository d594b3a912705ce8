"""Programs in which our code panics, or their code runs within ours."""

from __future__ import annotations

import sys
from contextlib import closing

import gevent

from geventhttpclient import HTTPClient, _core
from tests.support.peer import Conn, Peer, serve_ok


def in_callback() -> None:
    """A panic in the loop's callback, then a request from a greenlet, on whose stack the panic hook runs."""
    done = 0
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        for _ in range(3):
            _core._panic_in_callback()

            def work() -> bool:
                return client.get("/").read() == b"/"

            # Deep enough that the stack of the waiting greenlet is moved away.
            assert gevent.spawn(nested, 50, work).get(timeout=10)
            done += 1
    print(f"{done} requests after {done} panics")


def nested(depth: int, call: object) -> object:
    return nested(depth - 1, call) if depth else call()  # type: ignore[operator]


def second_reader(waits: str) -> None:
    """A second greenlet reads from a response while the first one waits in it. The class of the exception has to be
    imported, and the import accesses the response."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        conn.wait_closed()

    with Peer(script) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        response = client.get("/")
        reader = gevent.spawn(response.read)
        gevent.sleep(0)
        if int(waits):
            sys.meta_path.insert(0, Looking(response))
            sys.modules.pop("gevent.exceptions", None)
        try:
            response.read()
        except AssertionError as error:
            print("refused" if type(error).__name__ == "ConcurrentObjectUseError" else repr(error))
        reader.kill()


class Looking:
    """A finder that accesses a response whenever a module is imported."""

    def __init__(self, response: object) -> None:
        self.response = response

    def find_spec(self, *_: object) -> None:
        self.response._is_complete()  # type: ignore[attr-defined]
        self.response._is_read()  # type: ignore[attr-defined]
