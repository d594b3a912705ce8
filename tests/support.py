"""What several test modules share: a client facing a scripted peer, and ways to hand over bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import gevent

from geventhttpclient import HTTPClient
from tests.peer import Conn, Peer, Script

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# Larger than what the kernel buffers for two loopback sockets, so that sending it must block.
HUGE = 32 << 20


@contextmanager
def serving(*scripts: Script, **options: Any) -> Iterator[tuple[Peer, HTTPClient]]:
    """A peer that plays `scripts`, and a client of it."""
    with Peer(*scripts) as peer, closing(HTTPClient(peer.host, peer.port, **options)) as client:
        yield peer, client


def saying(*answers: bytes) -> Script:
    """A script that answers each request of its connection with the next of `answers`, then waits for the close."""

    def script(conn: Conn) -> None:
        for answer in answers:
            if conn.read_request() is None:
                return
            conn.send(answer)
        conn.wait_closed()

    return script


def saying_then_closing(answer: bytes) -> Script:
    """A script that answers one request, then closes."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(answer)

    return script


def answer(body: bytes = b"", status: str = "200 OK", *lines: str) -> bytes:
    """A response with that body, and those lines beside its length."""
    head = [f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def quickest(call: Callable[[], object], tries: int = 5) -> float:
    """The least seconds that it takes: a machine that is busy with something else is not so each time."""
    times = []
    for _ in range(tries):
        start = time.monotonic()
        call()
        times.append(time.monotonic() - start)
    return min(times)


def told(peer: Peer) -> list[tuple[str, list[tuple[str, str]], bytes]]:
    """What a peer was asked, in any order of fields, without its port."""
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
    """Lets every greenlet and every pending event of the loop have its turn. Nothing may depend on it but how sharp a
    test is: it makes the wanted order of events all but certain, and never stands in for a signal."""
    for _ in range(3):
        gevent.idle()
