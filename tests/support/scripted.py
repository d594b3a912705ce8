"""A client connected to a scripted peer, and scripts that many test modules use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import gevent
from gevent.event import Event

from geventhttpclient import HTTPClient
from tests.support.peer import Conn, Peer, Request, Script

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


def silent(conn: Conn) -> None:
    """Script: reads a request, and waits for the close."""
    conn.read_request()
    conn.wait_closed()


# Scripts: a body that is cut short, and a server of another protocol.
cut = saying_then_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
garbage = saying_then_closing(b"SSH-2.0-OpenSSH\r\n")


def answering_together(count: int, respond: Callable[[Conn, Request], object]) -> tuple[Script, list[int]]:
    """Returns a script that responds to no request before that many have arrived, and the list of their connections'
    numbers. A client whose requests wait for one another never gets a response."""
    arrived: list[int] = []
    everyone = Event()

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            arrived.append(conn.number)
            if len(arrived) == count:
                everyone.set()
            everyone.wait()
            respond(conn, request)

    return script, arrived


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
