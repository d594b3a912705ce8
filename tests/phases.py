"""The places where a request can wait, each with a peer that holds it there.

A `Phase` makes a client wait at one place for as long as the test likes, and says when the wait has begun. Then the
peer is made to act: `"answer"`, `"fin"`, `"rst"`, or `"over"` (the client has gone: clear up). `heal` makes the peer a
good one for the requests that follow.
"""

from __future__ import annotations

import os
import socket as native_socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import gevent
import pytest
from gevent import socket
from gevent.event import AsyncResult, Event

from geventhttpclient.client import HTTPClient
from tests.hubtools import attempt, descriptors, until
from tests.peer import Conn, Peer, serve_ok

# More than the buffers of two sockets take when the peer does not read.
BIG = 12 << 20

# The first byte of Linux' struct tcp_info while a connection is being asked for.
TCP_SYN_SENT = 2


class Phase:
    """A call that waits for its peer."""

    host: ClassVar[str] = "127.0.0.1"
    backlog: ClassVar[int] = 128
    # The faults of a peer that the wait can meet.
    faults: ClassVar[tuple[str, ...]] = ("fin", "rst")
    # The client's timeouts that bound the wait.
    bounds: ClassVar[tuple[str, ...]] = ("network_timeout",)
    expected: ClassVar[bytes] = b"done"
    # Whether it is the client that switches to the hub, and not somebody whom it has called.
    is_ours: ClassVar[bool] = True

    def __init__(self) -> None:
        self.held = Event()  # the peer has come to where it stops
        self.action = AsyncResult()  # what it does then
        self.entered = Event()  # the call has come to its last step

    # The client's side.

    def prepare(self, client: HTTPClient) -> None:
        """What happens before the call."""

    def call(self, client: HTTPClient) -> bytes:
        """The call. Not one that a client may repeat by itself, so that the peer's faults are seen."""
        self.entered.set()
        return client.post("/waits", body=b"x").read()

    def waiting(self) -> bool:
        """Whether the call has come to its wait."""
        return self.held.is_set() and self.entered.is_set()

    def check_fault(self, outcome: bytes | BaseException, kinds: tuple[type[BaseException], ...]) -> None:
        """What has to come of the call when the peer dies."""
        assert isinstance(outcome, kinds), outcome

    # The peer's side.

    def open(self, peer: Peer) -> None:
        peer.__enter__()

    def act(self, action: str, peer: Peer) -> None:
        self.action.set(action)

    def heal(self, peer: Peer) -> None:
        """From here on the peer is a good one."""

    def close(self, peer: Peer) -> None:
        peer.__exit__(None, None, None)

    def script(self, conn: Conn) -> None:
        conn.read_request()
        self.hold(conn, lambda: conn.respond(b"done"))

    def hold(self, conn: Conn, answer: Callable[[], object]) -> None:
        self.held.set()
        action = self.action.get()
        if action == "answer":
            answer()
            serve_ok(conn)
        elif action == "fin":
            conn.finish_sending()
            conn.wait_closed()
        elif action == "rst":
            conn.reset()
        else:
            conn.wait_closed()


class PoolWait(Phase):
    """Somebody else has the only connection."""

    bounds = ("pool_timeout",)
    expected = b"/waits"

    def prepare(self, client: HTTPClient) -> None:
        self.holder = gevent.spawn(attempt, lambda: client.post("/holds", body=b"x").read())
        self.held.wait()

    def call(self, client: HTTPClient) -> bytes:
        self.entered.set()
        return client.get("/waits").read()

    def check_fault(self, outcome: bytes | BaseException, kinds: tuple[type[BaseException], ...]) -> None:
        assert isinstance(self.holder.get(), kinds)
        assert outcome == b"/waits"  # on a connection of its own

    def act(self, action: str, peer: Peer) -> None:
        if action != "over":
            self.action.set(action)

    def heal(self, peer: Peer) -> None:
        if not self.action.ready():
            self.action.set("answer")
            assert self.holder.get() == b"done"


class Resolve(Phase):
    """The resolver does not answer."""

    host = "origin.test"
    is_ours = False
    faults = ()
    bounds = ("connection_timeout",)
    expected = b"/waits"

    @contextmanager
    def patched(self) -> Iterator[None]:
        """gevent's resolver in the place of which ours answers for one host only."""
        resolve = socket.getaddrinfo
        answer = self.answer = Event()
        held = self.held

        def slowly(host: str | bytes, *arguments: Any, **keywords: Any) -> Any:
            if host not in ("origin.test", b"origin.test"):
                return resolve(host, *arguments, **keywords)
            held.set()
            answer.wait()
            return resolve("127.0.0.1", *arguments, **keywords)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gevent.socket.getaddrinfo", slowly)
            yield

    def act(self, action: str, peer: Peer) -> None:
        if action == "answer":
            self.answer.set()

    def heal(self, peer: Peer) -> None:
        self.answer.set()

    def script(self, conn: Conn) -> None:
        serve_ok(conn)


class Connect(Phase):
    """The listener's queue is full: the kernel drops the SYN, and sends it again after a second."""

    backlog = 0
    faults = ("rst",)
    bounds = ("connection_timeout",)
    expected = b"/waits"

    def open(self, peer: Peer) -> None:
        self.address = (peer.host, peer.port)
        self.fillers: list[socket.socket] = []
        full = False
        while not full:
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.address)
            full = isinstance(attempt(filler.getpeername), OSError)
            self.fillers.append(filler)
            if len(self.fillers) > 16:
                pytest.skip("a listener's queue does not fill up on this system")

    def waiting(self) -> bool:
        sockets = [number for number, target in descriptors().items() if target.startswith("socket:")]
        return sum(map(in_syn_sent, sockets)) == 2  # the last filler's, and the client's

    def act(self, action: str, peer: Peer) -> None:
        if action == "rst":
            peer.listener.close()  # the next SYN is refused
        elif action == "answer":
            self.accept(peer)

    def heal(self, peer: Peer) -> None:
        if peer.listener.fileno() < 0:
            peer.listener = socket.socket()
            peer.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            peer.listener.bind(self.address)
            peer.listener.listen(16)
            while len(self.fillers) > 1:  # their queue went with the old one
                self.fillers.pop().close()
        self.accept(peer)

    def accept(self, peer: Peer) -> None:
        if peer._acceptor is None:
            peer.__enter__()
        # All but the last, who waits in SYN-SENT, are in the queue; a SYN that comes before they are out is dropped.
        queued = len(self.fillers) - 1
        until(lambda: len(peer.conns) >= queued)
        while self.fillers:
            self.fillers.pop().close()

    def close(self, peer: Peer) -> None:
        self.heal(peer)
        super().close(peer)

    def script(self, conn: Conn) -> None:
        serve_ok(conn)


class SendHead(Phase):
    """The peer does not read, and the head alone is more than the sockets take."""

    def call(self, client: HTTPClient) -> bytes:
        self.entered.set()
        return client.post("/waits", body=b"x", headers={"X-Large": "y" * BIG}).read()

    def script(self, conn: Conn) -> None:
        socket.wait_read(conn.sock.fileno())

        def answer() -> None:
            discard(conn, until_last=b"x")
            conn.respond(b"done")

        self.hold(conn, answer)


class SendBody(Phase):
    """The peer reads the head and no more."""

    def call(self, client: HTTPClient) -> bytes:
        self.entered.set()
        return client.post("/waits", body=b"y" * BIG + b"x").read()

    def script(self, conn: Conn) -> None:
        conn.read_head()

        def answer() -> None:
            discard(conn, until_last=b"x")
            conn.respond(b"done")

        self.hold(conn, answer)


class SendChunks(SendBody):
    """The same with a body whose length nobody knows."""

    def call(self, client: HTTPClient) -> bytes:
        def blocks() -> Iterator[bytes]:
            for _ in range(BIG >> 16):
                yield b"y" * (1 << 16)

        self.entered.set()
        return client.post("/waits", body=blocks()).read()

    def script(self, conn: Conn) -> None:
        conn.read_head()

        def answer() -> None:
            discard(conn, until_last=b"\r\n0\r\n\r\n")
            conn.respond(b"done")

        self.hold(conn, answer)


class Produce(Phase):
    """The request's own body is not there yet: the caller's iterator waits for something else."""

    is_ours = False
    faults = ()
    bounds = ()

    def call(self, client: HTTPClient) -> bytes:
        more = self.more = Event()
        self.closed = False

        def blocks() -> Iterator[bytes]:
            try:
                yield b"y"
                self.entered.set()
                more.wait()
                yield b"x"
            finally:
                self.closed = True

        try:
            return client.post("/waits", body=blocks()).read()
        finally:
            assert self.closed

    def act(self, action: str, peer: Peer) -> None:
        super().act(action, peer)
        if action == "answer":
            self.more.set()

    def script(self, conn: Conn) -> None:
        conn.read_head()

        def answer() -> None:
            discard(conn, until_last=b"\r\n0\r\n\r\n")
            conn.respond(b"done")

        self.hold(conn, answer)


class Continue(Phase):
    """The client has sent its head and waits to be told to go on."""

    def call(self, client: HTTPClient) -> bytes:
        self.entered.set()
        return client.post("/waits", body=b"x", headers={"Expect": "100-continue"}).read()

    def script(self, conn: Conn) -> None:
        request = conn.read_head()
        assert request is not None

        def answer() -> None:
            conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            conn.read_body(request)
            conn.respond(b"done")

        self.hold(conn, answer)


class ReadHead(Phase):
    """The peer has the request and says nothing."""


class ReadHeadRest(Phase):
    """The peer stops in the middle of the head."""

    def script(self, conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Le")
        self.hold(conn, lambda: conn.send(b"ngth: 4\r\n\r\ndone"))


class ReadBody(Phase):
    """The peer stops in the middle of a counted body."""

    expected = b"half and half"

    def call(self, client: HTTPClient) -> bytes:
        response = client.get("/waits")
        self.entered.set()
        return response.read()

    def script(self, conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nhalf and")
        self.hold(conn, lambda: conn.send(b" half"))


class ReadChunks(ReadBody):
    """The peer stops in the middle of a chunk, and the client wants a number of bytes."""

    def call(self, client: HTTPClient) -> bytes:
        response = client.get("/waits")
        first = response.read(4)
        self.entered.set()
        return first + response.read(9) + response.read()

    def script(self, conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n9\r\n and")
        self.hold(conn, lambda: conn.send(b" half\r\n0\r\n\r\n"))


class ReadLine(ReadBody):
    """The peer stops in the middle of the second line."""

    expected = b"second\r\n"

    def call(self, client: HTTPClient) -> bytes:
        response = client.get("/waits")
        assert response.readline() == b"first\r\n"
        self.entered.set()
        line = response.readline()
        assert response.readline() == b""
        return line

    def script(self, conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nfirst\r\nsec")
        self.hold(conn, lambda: conn.send(b"ond\r\n"))


def discard(conn: Conn, until_last: bytes) -> None:
    """Reads on until the last bytes have come, and forgets all of it."""
    tail = conn.buffer[-len(until_last) :]
    while tail != until_last:
        data = conn.sock.recv(1 << 18)
        if not data:
            return
        tail = (tail + data)[-len(until_last) :]
    conn.buffer = b""


def in_syn_sent(descriptor: int) -> bool:
    """Whether this socket is one of TCP, and its connection not accepted yet."""
    with suppress(OSError), native_socket.socket(fileno=os.dup(descriptor)) as sock:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_SYN_SENT
    return False


PHASES: list[type[Phase]] = [
    PoolWait,
    Resolve,
    Connect,
    SendHead,
    SendBody,
    SendChunks,
    Produce,
    Continue,
    ReadHead,
    ReadHeadRest,
    ReadBody,
    ReadChunks,
    ReadLine,
]
if sys.platform != "linux":
    PHASES.remove(Connect)


class Stage:
    """One phase with its peer, its client of one connection, and its call in a greenlet."""

    def __init__(self, phase: Phase, peer: Peer, client: HTTPClient) -> None:
        self.phase = phase
        self.peer = peer
        self.client = client

    def spawn(self) -> gevent.Greenlet:
        return gevent.spawn(attempt, lambda: self.phase.call(self.client))

    def act(self, action: str) -> None:
        self.phase.act(action, self.peer)

    def heal(self) -> None:
        self.phase.heal(self.peer)


@contextmanager
def staged(kind: type[Phase], **options: Any) -> Iterator[Stage]:
    """Everything ready for the call, which the test spawns itself."""
    phase = kind()
    peer = Peer(phase.script, serve_ok, backlog=phase.backlog)
    options = {"connection_timeout": 20, "network_timeout": 20, **options}
    client = HTTPClient(phase.host, peer.port, concurrency=1, **options)
    resolver = phase.patched() if isinstance(phase, Resolve) else None
    if resolver is not None:
        resolver.__enter__()
    try:
        phase.open(peer)
        phase.prepare(client)
        yield Stage(phase, peer, client)
    finally:
        if resolver is not None:
            resolver.__exit__(None, None, None)
        client.close()
        phase.close(peer)
