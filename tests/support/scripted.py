"""A client connected to a scripted peer, and scripts that many test modules use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import gevent

from geventhttpclient import HTTPClient
from tests.support.peer import Conn, Peer, Script

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# More than the kernel buffers for two loopback sockets, so that sending it blocks.
HUGE = 32 << 20


@contextmanager
def serving(*scripts: Script, **options: Any) -> Iterator[tuple[Peer, HTTPClient]]:
    """Starts a peer that plays `scripts`; yields it and a client of it."""
    with Peer(*scripts) as peer, closing(HTTPClient(peer.host, peer.port, **options)) as client:
        yield peer, client


def saying(*answers: bytes) -> Script:
    """Returns a script that answers each request with the next of `answers`, then waits for the close."""

    def script(conn: Conn) -> None:
        for answer in answers:
            if conn.read_request() is None:
                return
            conn.send(answer)
        conn.wait_closed()

    return script


def saying_then_closing(answer: bytes) -> Script:
    """Returns a script that answers one request and closes."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(answer)

    return script


def answer(body: bytes = b"", status: str = "200 OK", *lines: str) -> bytes:
    """Returns a response with that body, its Content-Length and those header lines."""
    head = [f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def quickest(call: Callable[[], object], tries: int = 5) -> float:
    """Returns the shortest of several times, because a loaded machine is not equally slow each time."""
    times = []
    for _ in range(tries):
        start = time.monotonic()
        call()
        times.append(time.monotonic() - start)
    return min(times)


def told(peer: Peer) -> list[tuple[str, list[tuple[str, str]], bytes]]:
    """Returns the requests of a peer with sorted fields and with PORT in place of its port."""
    here = str(peer.port)
    return [
        (
            request.line.replace(here, "PORT"),
            sorted((name.lower(), value.replace(here, "PORT")) for name, value in request.fields),
            request.body,
        )
        for request in peer.requests
    ]


def settle() -> None:
    """Runs every greenlet and pending event that is ready. It makes an order of events very likely and is no substitute
    for a signal: a test must pass without it."""
    for _ in range(3):
        gevent.idle()
