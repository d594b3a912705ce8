"""What `sock` of a connection of http.client's shape is: the engine's connection, as a socket."""

from __future__ import annotations

import io
import os
import socket
import ssl
import tempfile
from typing import TYPE_CHECKING, Any

import gevent.monkey

from geventhttpclient import _core
from geventhttpclient.tls import TLSInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer, Self

    from geventhttpclient.connectionpool import ConnectionPool

# One that asks nobody's hub.
_socket: type[socket.socket] = gevent.monkey.get_original("socket", "socket")


class Socket(_core.Connection):
    """A connection as programs that look at `HTTPConnection.sock` expect it: a stream socket in all that http.client,
    and what rides on it, asks of one. Whoever sends on it, or reads from it, between two requests, is on his own."""

    type = socket.SOCK_STREAM
    proto: int = socket.IPPROTO_TCP

    def secure(self, way: ConnectionPool) -> None:
        """Makes the connection a private one by the TLS of `way`."""
        self._secure(way)

    @property
    def timeout(self) -> float | None:
        """Seconds that the peer is waited for at a time; None for ever."""
        return self.gettimeout()

    def setblocking(self, flag: bool) -> None:
        """True is a timeout of None, False one of 0."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """Whether the peer is waited for at all."""
        return self.gettimeout() != 0.0

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Sends all of it, and says how many bytes that were."""
        self.sendall(data)
        return memoryview(data).nbytes

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Reads what there is into a writable buffer: how many bytes, 0 at the peer's end."""
        view = memoryview(buffer).cast("B")
        data = self.recv(min(nbytes or view.nbytes, view.nbytes))
        view[: len(data)] = data
        return len(data)

    def makefile(self, mode: str = "r", buffering: int | None = None, **text: Any) -> Any:
        """A file on the connection, as socket.makefile() returns it. It reads ahead, unless `buffering` is 0."""
        if not set(mode) <= set("rwb"):
            raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
        raw = _File(self)
        if buffering == 0:
            return raw
        size = buffering if buffering is not None and buffering > 0 else io.DEFAULT_BUFFER_SIZE
        buffered: Any
        if "w" not in mode:
            buffered = io.BufferedReader(raw, size)
        elif "r" not in mode:
            buffered = io.BufferedWriter(raw, size)
        else:
            buffered = io.BufferedRWPair(raw, raw, size)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, **text)

    def _on_system_socket(self, call: Callable[[socket.socket], Any]) -> Any:
        with _socket(fileno=os.dup(self.fileno())) as same:
            return call(same)

    @property
    def family(self) -> int:
        """The address family, such as AF_INET."""
        family: int = self._on_system_socket(lambda same: same.family)
        return family

    def getpeername(self) -> Any:
        """The address of the other end."""
        return self._on_system_socket(lambda same: same.getpeername())

    def getsockname(self) -> Any:
        """The address of this end."""
        return self._on_system_socket(lambda same: same.getsockname())

    def getsockopt(self, level: int, name: int, *size: int) -> Any:
        """As socket.getsockopt()."""
        return self._on_system_socket(lambda same: same.getsockopt(level, name, *size))

    def setsockopt(self, level: int, name: int, *value: Any) -> None:
        """As socket.setsockopt()."""
        self._on_system_socket(lambda same: same.setsockopt(level, name, *value))

    def shutdown(self, how: int) -> None:
        """As socket.shutdown(): whoever waits in a read or a write is woken."""
        self._on_system_socket(lambda same: same.shutdown(how))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} fd={self.fileno()}>"


class TLSSocket(Socket):
    """The same with what programs ask an ssl.SSLSocket."""

    @property
    def tls(self) -> TLSInfo:
        """What the handshake has come to."""
        facts = self._tls_facts()
        if facts is None:
            raise ValueError("No handshake has been done on this connection")
        return TLSInfo(*facts)

    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The peer's certificate: DER, or the dict that the ssl module makes of it, empty if it was not verified."""
        tls = self.tls
        if binary_form or tls.peer_certificate is None:
            return tls.peer_certificate
        return _read_certificate(tls.peer_certificate) if tls.verified else {}

    def cipher(self) -> tuple[str, str, int]:
        """The cipher suite, the version of TLS, and the bits of the key."""
        tls = self.tls
        return tls.cipher, tls.version, 128 if "128" in tls.cipher else 256

    def version(self) -> str:
        """`TLSv1.3` or `TLSv1.2`."""
        return self.tls.version

    def selected_alpn_protocol(self) -> str | None:
        """The protocol that the peer has chosen (RFC 7301), if any."""
        return self.tls.alpn


def _read_certificate(der: bytes) -> dict[str, Any]:
    """As `SSLSocket.getpeercert()` shows it. CPython's own decoder takes it from a file, and from nothing else."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(ssl.DER_cert_to_PEM_cert(der))
        file.flush()
        decoded: dict[str, Any] = ssl._ssl._test_decode_cert(file.name)  # type: ignore[attr-defined]
    return decoded


class _File(io.RawIOBase):
    """Bytes of a connection, for io's buffers. Closing it leaves the connection open."""

    def __init__(self, sock: Socket) -> None:
        self._sock = sock

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        return self._sock.recv_into(buffer)

    def write(self, data: Buffer) -> int:
        return self._sock.send(data)

    def fileno(self) -> int:
        return self._sock.fileno()
