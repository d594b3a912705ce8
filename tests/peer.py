"""A scripted peer: an HTTP server that says exactly what a test tells it to, byte for byte.

It runs as greenlets of the test's own hub, on a loopback port that the kernel picks. A script is a function of one
`Conn`; the first connection runs the first script, the second the second, and the last script serves all further ones.

    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")

    with Peer(script) as peer:
        HTTPClient("127.0.0.1", peer.port).get("/")

With `tls=context` the handshake is over when a script begins; a script may also begin in the clear, and call
`conn.secure(context)` when it likes.
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
    """One request as it came: the head without its last CRLF CRLF, and the body with its framing taken off."""

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
        """The first line of that name, case-insensitively."""
        return next((v for k, v in self.fields if k.lower() == name.lower()), None)


@dataclass
class Conn:
    """One accepted connection, with what a script needs to play a server, well-behaved or not."""

    sock: socket.socket
    peer: Peer
    number: int
    buffer: bytes = b""
    requests: list[Request] = field(default_factory=list)
    raw: bytes = b""
    # Set once the script has found that the client closed: for the test itself to wait on.
    hung_up: Event = field(default_factory=Event)

    def _more(self) -> bool:
        data = self.sock.recv(65536)
        if not data:
            self.hung_up.set()
        self.buffer += data
        self.raw += data
        return bool(data)

    def read_head(self) -> Request | None:
        """Reads up to the blank line. None when the client has closed instead."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return Request(head)

    def read_exactly(self, n: int) -> bytes:
        while len(self.buffer) < n:
            if not self._more():
                break
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
        """The body by the request's own framing: counted, chunked, or none."""
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
        """A whole request, body included. None when the client has closed instead."""
        request = self.read_head()
        if request is not None:
            self.read_body(request)
            self.requests.append(request)
            self.peer.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Each byte in a packet of its own, the hub running in between."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            self.sock.sendall(data[i : i + 1])
            gevent.sleep(0)

    def send_at_once(self, data: bytes) -> None:
        """A packet that lies in the client's socket when this returns; no other greenlet has run in between."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert self.sock.send(data) == len(data)

    def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Each piece in a packet of its own, the loop running idle in between: whoever reads sees them one by one."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self.sock.sendall(piece)
            gevent.idle()

    def respond(self, body: bytes = b"ok", status: str = "200 OK", headers: Iterable[tuple[str, str]] = ()) -> None:
        """A whole, well-framed reply with a Content-Length."""
        lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in headers), f"Content-Length: {len(body)}"]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def secure(self, context: gevent.ssl.SSLContext) -> None:
        """Shakes hands as a server. ssl.SSLError when that fails: the client is read out then, so that a close of ours
        cannot take from it what TLS had to say."""
        # Else what follows the session tickets is held back until they are acknowledged, and lost by a reset.
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
        """Says by TLS that nothing more will come (RFC 8446 section 6.1); the TCP connection stays as it is."""
        with suppress(ssl.SSLWantReadError):  # the client's own is not waited for
            self.sock._sslobj.shutdown()

    def finish_sending(self) -> None:
        """FIN: no more bytes from us, and no word of TLS about it; we still read."""
        # That of an SSLSocket would forget its TLS.
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def reset(self) -> None:
        """RST: the connection dies at once, unread bytes with it."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def wait_closed(self, timeout: float = 10) -> bytes:
        """Waits until the client has closed its side; returns what it said before that."""
        with gevent.Timeout(timeout):
            try:
                while self._more():
                    pass
            except ConnectionResetError:
                self.hung_up.set()
        data, self.buffer = self.buffer, b""
        return data


Script = Callable[[Conn], object]


def serve_ok(conn: Conn) -> None:
    """The plainest good server: every request gets a 200 whose body names its target."""
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
