"""A scripted peer: an HTTP server that sends exactly the bytes that a test gives it.

It runs as greenlets of the test's own hub, on a loopback port that the kernel picks. A script is a function of one
`Conn`. The first connection runs the first script, the second the second; the last script serves all later ones.

    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")

    with Peer(script) as peer:
        HTTPClient("127.0.0.1", peer.port).get("/")

With `tls=context` the handshake is complete when a script begins. A script may also begin in plain text and call
`conn.secure(context)` later.
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

import gevent
import gevent.ssl
from gevent import socket
from gevent.event import Event


@dataclass
class Request:
    """A request as received: the head without its last CRLF CRLF, and the body without its framing."""

    head: bytes
    body: bytes = b""

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The header lines in their order, names in the spelling that was sent."""
        lines = self.head.split(b"\r\n")[1:]
        return [(k.decode("latin-1"), v.strip().decode("latin-1")) for k, _, v in (ln.partition(b":") for ln in lines)]

    def get(self, name: str) -> str | None:
        """Returns the first line of that name, case-insensitively."""
        return next((v for k, v in self.fields if k.lower() == name.lower()), None)


@dataclass
class Conn:
    """An accepted connection, and methods to play a correct or an incorrect server on it."""

    sock: socket.socket
    peer: Peer
    number: int
    buffer: bytes = b""
    requests: list[Request] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    # Set when the script sees that the client has closed: the test can wait for it.
    hung_up: Event = field(default_factory=Event)

    @property
    def raw(self) -> bytes:
        """All bytes received so far."""
        return b"".join(self.pieces)

    def _receive(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            self.hung_up.set()
        self.pieces.append(data)
        return data

    def _more(self) -> bool:
        data = self._receive()
        self.buffer += data
        return bool(data)

    def read_head(self) -> Request | None:
        """Reads up to the blank line. Returns None if the client has closed instead."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return Request(head)

    def read_exactly(self, n: int) -> bytes:
        pieces, count = [self.buffer], len(self.buffer)
        while count < n and (piece := self._receive()):
            pieces.append(piece)
            count += len(piece)
        self.buffer = b"".join(pieces)
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def read_line(self) -> bytes:
        while b"\n" not in self.buffer:
            if not self._more():
                return b""
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line + b"\n"

    def _read_size_line(self) -> bytes:
        line = self.read_line()
        if not line:
            raise ConnectionResetError("the client closed within a body")
        return line

    def read_body(self, request: Request) -> bytes:
        """Reads the body by the framing of the request: Content-Length, chunked, or none."""
        if (request.get("transfer-encoding") or "").lower() == "chunked":
            body = b""
            while size := int(self._read_size_line().split(b";")[0], 16):
                body += self.read_exactly(size)
                assert self.read_line() == b"\r\n"
            while self.read_line() not in (b"\r\n", b""):
                pass
        else:
            body = self.read_exactly(int(request.get("content-length") or 0))
        request.body = body
        return body

    def read_request(self) -> Request | None:
        """Reads a request with its body. Returns None if the client has closed instead."""
        request = self.read_head()
        if request is not None:
            self.read_body(request)
            self.requests.append(request)
            self.peer.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Sends each byte in a packet of its own; the hub runs in between."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            self.sock.sendall(data[i : i + 1])
            gevent.sleep(0)

    def send_at_once(self, data: bytes) -> None:
        """Sends a packet that is in the client's socket when this returns; no other greenlet runs in between."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert self.sock.send(data) == len(data)

    def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Sends each piece in a packet of its own; the loop runs idle in between, so a reader sees them one by one."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self.sock.sendall(piece)
            gevent.idle()

    def respond(self, body: bytes = b"ok", status: str = "200 OK", headers: Iterable[tuple[str, str]] = ()) -> None:
        """Sends a complete response with a Content-Length."""
        lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in headers), f"Content-Length: {len(body)}"]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def secure(self, context: gevent.ssl.SSLContext) -> None:
        """Performs the TLS handshake as a server. Raises ssl.SSLError if it fails; before that, reads until the client
        closes, so that our close does not discard the client's alert."""
        # Otherwise data behind the session tickets waits for their acknowledgement, and a reset discards it.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        try:
            self.sock.do_handshake()
        except ssl.SSLError:
            while socket.socket.recv(self.sock, 65536):
                pass
            self.hung_up.set()
            raise

    def send_close_notify(self) -> None:
        """Sends close_notify (RFC 8446 section 6.1); the TCP connection stays open."""
        with suppress(ssl.SSLWantReadError):  # the client's own is not waited for
            self.sock._sslobj.shutdown()

    def finish_sending(self) -> None:
        """Sends FIN without close_notify; the peer can still read."""
        # That of an SSLSocket would forget its TLS.
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def reset(self) -> None:
        """Sends RST: the connection ends at once and unread bytes are lost."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def wait_closed(self, timeout: float = 10) -> bytes:
        """Waits until the client has closed its side; returns the bytes that it sent before that."""
        pieces = [self.buffer]
        self.buffer = b""
        with gevent.Timeout(timeout):
            try:
                while piece := self._receive():
                    pieces.append(piece)
            except ConnectionResetError:
                self.hung_up.set()
        return b"".join(pieces)


Script = Callable[[Conn], object]


def serve_ok(conn: Conn) -> None:
    """Answers every request with a 200 whose body is the target."""
    while request := conn.read_request():
        conn.respond(request.target.encode("latin-1"))


class Peer:
    """Listens on 127.0.0.1 from construction on; use it in a with-block.

    `conns` lists every connection ever accepted, `requests` every whole request read, `open_now` counts connections
    whose script is still running. A script's own exception fails the test when the with-block ends.
    """

    def __init__(
        self,
        *scripts: Script,
        backlog: int = 1024,
        family: int = socket.AF_INET,
        port: int = 0,
        tls: gevent.ssl.SSLContext | None = None,
    ) -> None:
        self.tls = tls
        self.scripts: tuple[Script, ...] = scripts or (serve_ok,)
        self.conns: list[Conn] = []
        self.requests: list[Request] = []
        self.open_now = 0
        self.errors: list[BaseException] = []
        self.accepted = Event()
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", port))
        self.listener.listen(backlog)
        self.host, self.port = self.listener.getsockname()[:2]
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{self.host if family == socket.AF_INET else '[::1]'}:{self.port}"
        self._greenlets: list[gevent.Greenlet] = []
        self._acceptor: gevent.Greenlet | None = None

    def __enter__(self) -> Peer:
        self._acceptor = gevent.spawn(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        assert self._acceptor is not None
        self._acceptor.kill()
        self.listener.close()
        gevent.killall(self._greenlets)
        for conn in self.conns:
            conn.sock.close()
        if self.errors and kind is None:
            raise self.errors[0]

    def _accept(self) -> None:
        while True:
            sock, _ = self.listener.accept()
            conn = Conn(sock, self, len(self.conns))
            self.conns.append(conn)
            self.accepted.set()
            script = self.scripts[min(conn.number, len(self.scripts) - 1)]
            self._greenlets.append(gevent.spawn(self._run, script, conn))

    def _run(self, script: Script, conn: Conn) -> None:
        self.open_now += 1
        try:
            if self.tls is not None:
                conn.secure(self.tls)
            script(conn)
        except OSError:
            conn.hung_up.set()  # the client went away: for the test to notice, or to have wanted
        except Exception as e:
            self.errors.append(e)
        finally:
            self.open_now -= 1
            conn.sock.close()
