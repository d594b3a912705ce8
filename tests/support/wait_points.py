"""The points where a request can wait, each with a peer that holds it there.

A `Phase` makes a client wait at one point until the test continues, and reports when the wait has begun. Then the peer
acts: `"answer"`, `"fin"`, `"rst"`, or `"over"` (the client is gone: clean up). `heal` makes the peer a correct server
for the requests that follow.
"""

from __future__ import annotations

import os
import socket as native_socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from typing import IO, Any, ClassVar

import gevent
import pytest
from gevent import socket
from gevent.event import AsyncResult, Event
from gevent.exceptions import InvalidThreadUseError
from gevent.ssl import SSLContext

from geventhttpclient.client import HTTPClient
from tests.support.certificates import Certificates
from tests.support.hub import attempt, descriptors, until
from tests.support.peer import Conn, Peer, Script, serve_ok
from tests.support.proxies import pass_on, tunnelling
from tests.support.tls import by, trusting

# More than the buffers of two sockets take when the peer does not read.
BIG = 12 << 20

# The first byte of Linux' struct tcp_info after the SYN was sent.
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
    # Whether the client itself switches to the hub, and not a function that it has called.
    is_ours: ClassVar[bool] = True
    # The `phase` of an error in this wait.
    word: ClassVar[str]
    # Transports of the requests: plain TCP, the engine's own TLS, the TLS of an SSLContext.
    ways: ClassVar[tuple[str, ...]] = ("plain", "native", "context")

    def __init__(self, width: int = 1) -> None:
        self.width = width  # connections that the client has at most
        self.held = Event()  # the peer has reached the point where it stops
        self.action = AsyncResult()  # what it does then
        self.entered = Event()  # the call has reached its last step
        self.serve: Script = serve_ok  # what the peer does when all that is over
        self.ends_by = ""  # what will end the wait
        self.secret: SSLContext | None = None  # the TLS of the origin, where there is any

    def options(self, peer: Peer) -> dict[str, Any]:
        """Returns the further options of the client."""
        return {}

    # The client's side.

    def prepare(self, client: HTTPClient) -> None:
        """Prepares the client before the call."""

    def call(self, client: HTTPClient) -> bytes:
        """Makes the call. A client may not repeat it by itself, so that the peer's faults are seen."""
        self.entered.set()
        return client.post("/waits", body=b"x").read()

    def waiting(self) -> bool:
        """Returns whether the call waits."""
        return self.held.is_set() and self.entered.is_set()

    def place(self, client: HTTPClient, peer: Peer) -> str:
        """Returns the peer that an error names."""
        return f"{client.host}:{client.port}"

    def check_fault(self, outcome: bytes | BaseException, kinds: tuple[type[BaseException], ...]) -> None:
        """Checks the outcome of the call after the peer died."""
        assert isinstance(outcome, kinds), outcome

    def sent(self) -> Iterator[bytes]:
        """Yields the only bytes that may follow the head of the request on the wire."""
        yield b"x"

    def check_sent(self, peer: Peer) -> None:
        """Checks that the peer has received that request, or the beginning of it, and nothing else."""
        for conn in peer.conns[:1]:
            head, end, body = conn.raw.partition(b"\r\n\r\n")
            assert head.count(b" HTTP/1.1") <= 1
            assert b" /waits HTTP/1.1\r\n" in head or not end
            check_prefix(body, self.sent())

    # The peer's side.

    def scripts(self) -> tuple[Script, ...]:
        """Returns the script of each connection; the last one is for all further ones."""
        return self.script, self.serve

    def in_the_clear(self) -> bool:
        """Returns True if the peer's script begins before the TLS handshake, if there is one."""
        return False

    def open(self, peer: Peer) -> None:
        peer.__enter__()

    def act(self, action: str, peer: Peer) -> None:
        self.action.set(action)

    def heal(self, peer: Peer) -> None:
        """Makes the peer a correct server from now on."""

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
            self.serve(conn)
        elif action == "fin":
            conn.finish_sending()
            drain(conn)
        elif action == "rst":
            conn.reset()
        else:
            drain(conn)


class PoolWait(Phase):
    """Other requests hold all connections."""

    bounds = ("pool_timeout",)
    expected = b"/waits"
    word = "pool"
    ways = ("plain", "native")

    def scripts(self) -> tuple[Script, ...]:
        return *[self.script] * self.width, self.serve

    def prepare(self, client: HTTPClient) -> None:
        self.holding = 0
        hold: Callable[[], bytes] = lambda: client.post("/holds", body=b"x", total_timeout=None).read()  # noqa: E731
        self.holders = [gevent.spawn(attempt, hold) for _ in range(self.width)]
        until(lambda: self.holding == self.width)

    def call(self, client: HTTPClient) -> bytes:
        self.entered.set()
        return client.get("/waits").read()

    def check_fault(self, outcome: bytes | BaseException, kinds: tuple[type[BaseException], ...]) -> None:
        for holder in self.holders:
            assert isinstance(holder.get(), kinds)
        assert outcome == b"/waits"  # on a connection of its own

    def check_sent(self, peer: Peer) -> None:
        assert not any(b"/waits" in conn.raw for conn in peer.conns)

    def act(self, action: str, peer: Peer) -> None:
        if action != "over":
            self.action.set(action)

    def heal(self, peer: Peer) -> None:
        if not self.action.ready():
            self.action.set("answer")
            assert [holder.get() for holder in self.holders] == [b"done"] * self.width

    def hold(self, conn: Conn, answer: Callable[[], object]) -> None:
        self.holding += 1
        super().hold(conn, answer)


class Resolve(Phase):
    """The resolver does not answer."""

    host = "origin.test"
    is_ours = False
    faults = ()
    bounds = ("connection_timeout",)
    expected = b"/waits"
    word = "resolve"
    ways = ("plain", "native")

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Replaces gevent's resolver by one that waits for the test, for one host only."""
        resolve = socket.getaddrinfo
        answer = self.answer = Event()
        self.healed = False
        held = self.held

        def slowly(host: str | bytes, *arguments: Any, **keywords: Any) -> Any:
            if host not in ("origin.test", b"origin.test"):
                return resolve(host, *arguments, **keywords)
            held.set()
            if not self.healed:
                answer.wait()
            return resolve("127.0.0.1", *arguments, **keywords)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gevent.socket.getaddrinfo", slowly)
            yield

    def act(self, action: str, peer: Peer) -> None:
        if action == "answer":
            self.answer.set()

    def heal(self, peer: Peer) -> None:
        self.healed = True
        with suppress(InvalidThreadUseError):  # when the hub of those who wait is gone
            self.answer.set()

    def check_sent(self, peer: Peer) -> None:
        assert not peer.conns

    def script(self, conn: Conn) -> None:
        self.serve(conn)


class Connect(Phase):
    """The listener's queue is full: the kernel drops the SYN, and sends it again after a second."""

    backlog = 0
    faults = ("rst",)
    bounds = ("connection_timeout",)
    expected = b"/waits"
    word = "connect"
    ways = ("plain",)

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
            while len(self.fillers) > 1:  # their queue went with the old one
                self.fillers.pop().close()
        peer.listener.listen(16)
        self.accept(peer)

    def accept(self, peer: Peer) -> None:
        if peer._acceptor is None:
            peer.__enter__()
        # All but the last, which waits in SYN-SENT, are in the queue; a SYN that arrives before they leave is dropped.
        queued = len(self.fillers) - 1
        until(lambda: len(peer.conns) >= queued)
        while self.fillers:
            self.fillers.pop().close()

    def close(self, peer: Peer) -> None:
        self.heal(peer)
        super().close(peer)

    def check_sent(self, peer: Peer) -> None:
        assert not peer.conns

    def script(self, conn: Conn) -> None:
        self.serve(conn)


class Tunnel(Phase):
    """The proxy does not answer CONNECT (RFC 9110 section 9.3.6)."""

    bounds = ("connection_timeout",)
    word = "proxy"
    expected = b"/waits"
    ways = ("native", "context")

    def in_the_clear(self) -> bool:
        return True

    def options(self, peer: Peer) -> dict[str, Any]:
        return {"proxy": f"http://127.0.0.1:{peer.port}"}

    def place(self, client: HTTPClient, peer: Peer) -> str:
        return f"127.0.0.1:{peer.port}"

    def scripts(self) -> tuple[Script, ...]:
        return self.script, tunnelling

    def open(self, peer: Peer) -> None:
        self.origin = Peer(self.serve, tls=self.secret)
        self.origin.__enter__()
        super().open(peer)

    def close(self, peer: Peer) -> None:
        super().close(peer)
        self.origin.__exit__(None, None, None)

    def check_sent(self, peer: Peer) -> None:
        head, end, rest = peer.conns[0].raw.partition(b"\r\n\r\n")
        assert head.startswith(b"CONNECT "), head
        assert (end, rest) == (b"\r\n\r\n", b"")
        assert not self.origin.conns

    def script(self, conn: Conn) -> None:
        conn.read_head()

        def answer() -> None:
            conn.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            pass_on(conn, (self.origin.host, self.origin.port))

        self.hold(conn, answer)


class TunnelByTls(Tunnel):
    """The same with a proxy that is itself used over TLS."""

    ways = ("native",)

    def in_the_clear(self) -> bool:
        return False

    def options(self, peer: Peer) -> dict[str, Any]:
        return {"proxy": f"https://localhost:{peer.port}"}

    def place(self, client: HTTPClient, peer: Peer) -> str:
        return f"localhost:{peer.port}"


class TunnelBySocks(Tunnel):
    """The same with a SOCKS 5 proxy (RFC 1928)."""

    ways = ("plain", "native")

    def options(self, peer: Peer) -> dict[str, Any]:
        return {"proxy": f"socks5h://127.0.0.1:{peer.port}"}

    def scripts(self) -> tuple[Script, ...]:
        return self.script, self.tunnelling

    def greet(self, conn: Conn) -> None:
        conn.read_exactly(3)
        conn.send(b"\5\0")
        conn.read_exactly(10)  # CONNECT to an IPv4 address

    def answer(self, conn: Conn) -> None:
        conn.send(b"\5\0\0\1\x7f\0\0\1\0\0")
        pass_on(conn, (self.origin.host, self.origin.port))

    def tunnelling(self, conn: Conn) -> None:
        self.greet(conn)
        self.answer(conn)

    def check_sent(self, peer: Peer) -> None:
        raw = peer.conns[0].raw
        assert raw == b"\5\1\0\5\1\0\1\x7f\0\0\1" + self.origin.port.to_bytes(2, "big")
        assert not self.origin.conns

    def script(self, conn: Conn) -> None:
        self.greet(conn)
        self.hold(conn, lambda: self.answer(conn))


class Handshake(Phase):
    """The peer has received the ClientHello and sends nothing."""

    bounds = ("connection_timeout",)
    word = "tls"
    expected = b"/waits"
    ways = ("native", "context")

    def in_the_clear(self) -> bool:
        return True

    def scripts(self) -> tuple[Script, ...]:
        return self.script, self.serve_securely

    def serve_securely(self, conn: Conn) -> None:
        assert self.secret is not None
        conn.secure(self.secret)
        self.serve(conn)

    def check_sent(self, peer: Peer) -> None:
        # A ClientHello (RFC 8446 section 4.1.2), and the data sent at its end: an alert, perhaps.
        raw = peer.conns[0].raw
        kinds = []
        while raw:
            kinds.append(raw[0])
            raw = raw[5 + int.from_bytes(raw[3:5], "big") :]
        assert kinds in ([], [0x16], [0x16, 0x15]), kinds

    def script(self, conn: Conn) -> None:
        socket.wait_read(conn.sock.fileno())

        def answer() -> None:
            assert self.secret is not None
            conn.secure(self.secret)

        self.hold(conn, answer)


class SendHead(Phase):
    """The peer does not read, and the head alone is more than the sockets take."""

    word = "send"

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

    word = "send"

    def sent(self) -> Iterator[bytes]:
        yield b"y" * BIG + b"x"

    def call(self, client: HTTPClient) -> bytes:
        self.entered.set()
        return client.post("/waits", body=b"y" * BIG + b"x").read()

    def script(self, conn: Conn) -> None:
        conn.read_head()

        def answer() -> None:
            discard(conn, until_last=b"x")
            conn.respond(b"done")

        self.hold(conn, answer)


class SendFile(SendBody):
    """The same with an open file, which the kernel reads where it may."""

    def prepare(self, client: HTTPClient) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close())
        self.file.write(b"y" * BIG + b"x")

    def close(self, peer: Peer) -> None:
        super().close(peer)
        self.file.close()

    def call(self, client: HTTPClient) -> bytes:
        self.file.seek(0)
        self.entered.set()
        return client.post("/waits", body=self.file).read()


class SendChunks(SendBody):
    """The same with a body of unknown length."""

    def sent(self) -> Iterator[bytes]:
        return chain(repeat(b"10000\r\n" + b"y" * (1 << 16) + b"\r\n", BIG >> 16), [b"0\r\n\r\n"])

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
    bounds = ()
    word = "send"

    def sent(self) -> Iterator[bytes]:
        return iter([b"1\r\ny\r\n", b"1\r\nx\r\n", b"0\r\n\r\n"])

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
        except ConnectionError:  # found between two pieces, where the iterator knows nothing of it
            raise
        except BaseException:
            assert self.closed
            raise

    def act(self, action: str, peer: Peer) -> None:
        super().act(action, peer)
        if action != "over":  # a fault is found as the next piece is sent
            gevent.spawn_later(0.01, self.more.set)

    def script(self, conn: Conn) -> None:
        conn.read_head()

        def answer() -> None:
            discard(conn, until_last=b"\r\n0\r\n\r\n")
            conn.respond(b"done")

        self.hold(conn, answer)


class Continue(Phase):
    """The client has sent its head and waits for 100 Continue."""

    word = "head"

    def sent(self) -> Iterator[bytes]:
        # A client that stops waiting for 100 Continue, and waits for the response, sends the body.
        return iter([b"x"] if self.ends_by == "network_timeout" else [])

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
    """The peer has received the request and sends nothing."""

    word = "head"


class ReadHeadRest(Phase):
    """The peer stops in the middle of the head."""

    word = "head"

    def script(self, conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Le")
        self.hold(conn, lambda: conn.send(b"ngth: 4\r\n\r\ndone"))


class ReadBody(Phase):
    """The peer stops in the middle of a counted body."""

    expected = b"half and half"
    word = "body"

    def sent(self) -> Iterator[bytes]:
        return iter(())

    def call(self, client: HTTPClient) -> bytes:
        response = self.response = client.get("/waits")
        self.entered.set()
        return response.read()

    def script(self, conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nhalf and")
        self.hold(conn, lambda: conn.send(b" half"))


class ReadChunks(ReadBody):
    """The peer stops in the middle of a chunk, and the client wants a number of bytes."""

    def call(self, client: HTTPClient) -> bytes:
        response = self.response = client.get("/waits")
        first = response.read(4)
        self.entered.set()
        return first + response.read(9) + response.read()

    def script(self, conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n9\r\n and")
        self.hold(conn, lambda: conn.send(b" half\r\n0\r\n\r\n"))


class Iterate(ReadBody):
    """The same, with the blocks of it taken one by one."""

    def call(self, client: HTTPClient) -> bytes:
        response = self.response = client.get("/waits")
        self.entered.set()
        return b"".join(response)


class ReadLine(ReadBody):
    """The peer stops in the middle of the second line."""

    expected = b"second\r\n"

    def call(self, client: HTTPClient) -> bytes:
        response = self.response = client.get("/waits")
        assert response.readline() == b"first\r\n"
        self.entered.set()
        line = response.readline()
        assert response.readline() == b""
        return line

    def script(self, conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nfirst\r\nsec")
        self.hold(conn, lambda: conn.send(b"ond\r\n"))


def check_prefix(data: bytes, whole: Iterator[bytes]) -> None:
    """Checks that `data` is a prefix of the joined pieces, or all of them."""
    while data:
        piece = next(whole, b"")
        assert piece, f"{data[:100]!r} too much"
        begin = data[: len(piece)]
        assert piece.startswith(begin)
        data = data[len(piece) :]


def drain(conn: Conn) -> None:
    """Reads until the client has closed."""
    pieces = [conn.raw]
    try:
        while data := conn.sock.recv(1 << 18):
            pieces.append(data)
    finally:
        conn.pieces = pieces


def discard(conn: Conn, until_last: bytes) -> None:
    """Reads and discards everything up to those last bytes."""
    tail = conn.buffer[-len(until_last) :]
    while tail != until_last:
        data = conn.sock.recv(1 << 18)
        if not data:
            return
        tail = (tail + data)[-len(until_last) :]
    conn.buffer = b""


def in_syn_sent(descriptor: int) -> bool:
    """Returns True if this is a TCP socket whose connection is not accepted yet."""
    with suppress(OSError), native_socket.socket(fileno=os.dup(descriptor)) as sock:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_SYN_SENT
    return False


PHASES: list[type[Phase]] = [
    PoolWait,
    Resolve,
    Connect,
    Tunnel,
    TunnelByTls,
    TunnelBySocks,
    Handshake,
    SendHead,
    SendBody,
    SendFile,
    SendChunks,
    Produce,
    Continue,
    ReadHead,
    ReadHeadRest,
    ReadBody,
    ReadChunks,
    Iterate,
    ReadLine,
]
if sys.platform != "linux":
    PHASES.remove(Connect)

# The phases of a request over plain HTTP.
PLAIN = [kind for kind in PHASES if "plain" in kind.ways]


class Stage:
    """One phase with its peer, its client of one connection, and its call in a greenlet."""

    def __init__(self, phase: Phase, peer: Peer, client: HTTPClient) -> None:
        self.phase = phase
        self.peer = peer
        self.client = client

    @property
    def place(self) -> str:
        """Returns the peer that an error of the wait names."""
        return self.phase.place(self.client, self.peer)

    def spawn(self) -> gevent.Greenlet:
        return gevent.spawn(attempt, lambda: self.phase.call(self.client))

    def act(self, action: str) -> None:
        self.phase.act(action, self.peer)

    def heal(self) -> None:
        self.phase.heal(self.peer)


@contextmanager
def staged(
    kind: type[Phase],
    way: str = "plain",
    certificates: Certificates | None = None,
    *,
    concurrency: int = 1,
    serve: Script = serve_ok,
    make: Callable[..., Any] = HTTPClient,
    prepare: bool = True,
    **options: Any,
) -> Iterator[Stage]:
    """Yields everything ready for the call, which the test spawns itself. TLS needs `certificates`.

    `make` makes the client: of whatever kind, with the arguments of HTTPClient. Without `prepare`, what happens before
    the call is left to the caller as well."""
    phase = kind(concurrency)
    phase.serve = serve
    options = {"connection_timeout": 20, "network_timeout": 20, **options}
    if way != "plain":
        assert certificates is not None
        phase.secret = certificates.valid.server()
        options |= {"ssl": True, "ssl_options": trusting(certificates, server_hostname="localhost"), **by(way)}
    if kind is TunnelByTls:
        assert certificates is not None
        options["proxy_ssl_options"] = trusting(certificates)
    tls = None if phase.in_the_clear() else phase.secret
    peer = Peer(*phase.scripts(), backlog=phase.backlog, tls=tls)
    client: Any = None
    resolver = phase.patched() if isinstance(phase, Resolve) else None
    if resolver is not None:
        resolver.__enter__()
    try:
        phase.open(peer)
        port = phase.origin.port if isinstance(phase, Tunnel) else peer.port
        client = make(phase.host, port, concurrency=concurrency, **phase.options(peer), **options)
        if prepare:
            phase.prepare(client)
        yield Stage(phase, peer, client)
    finally:
        if resolver is not None:
            resolver.__exit__(None, None, None)
        if client is not None:
            client.close()
        phase.close(peer)
