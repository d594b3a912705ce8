"""Sockets of http.client's connections (`sock`): a connection of the engine with a socket's interface."""

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

# The class without gevent's cooperative waits.
_socket: type[socket.socket] = gevent.monkey.get_original("socket", "socket")


class Socket(_core.Connection):
    """A connection with the interface that programs expect of `HTTPConnection.sock`: the methods of a stream socket
    that http.client, and libraries on top of it, use. Sending or reading on it between two requests breaks the framing
    of the connection, for which the program is responsible."""

    type = socket.SOCK_STREAM
    proto: int = socket.IPPROTO_TCP

    def secure(self, pool: ConnectionPool) -> None:
        """Performs a TLS handshake on the connection with the settings of `pool`."""
        self._secure(pool)

    @property
    def timeout(self) -> float | None:
        """Timeout of a single wait for the peer, in seconds; None for no limit."""
        return self.gettimeout()

    def setblocking(self, flag: bool) -> None:
        """Sets the timeout to None for True, and to 0 for False."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """Returns True if the timeout is not 0."""
        return self.gettimeout() != 0.0

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Sends all of the data, and returns the number of bytes."""
        self.sendall(data)
        return memoryview(data).nbytes

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Reads the available bytes into a writable buffer, and returns their number: 0 if the peer has closed."""
        view = memoryview(buffer).cast("B")
        data = self.recv(min(nbytes or view.nbytes, view.nbytes))
        view[: len(data)] = data
        return len(data)

    def makefile(self, mode: str = "r", buffering: int | None = None, **text: Any) -> Any:
        """Returns a file on the connection, like socket.makefile(). It reads ahead unless `buffering` is 0."""
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
        """Returns the address of the peer."""
        return self._on_system_socket(lambda same: same.getpeername())

    def getsockname(self) -> Any:
        """Returns the local address."""
        return self._on_system_socket(lambda same: same.getsockname())

    def getsockopt(self, level: int, name: int, *size: int) -> Any:
        """Returns a socket option, like socket.getsockopt()."""
        return self._on_system_socket(lambda same: same.getsockopt(level, name, *size))

    def setsockopt(self, level: int, name: int, *value: Any) -> None:
        """Sets a socket option, like socket.setsockopt()."""
        self._on_system_socket(lambda same: same.setsockopt(level, name, *value))

    def shutdown(self, how: int) -> None:
        """Shuts down the connection, like socket.shutdown(), which wakes greenlets that wait in a read or a write."""
        self._on_system_socket(lambda same: same.shutdown(how))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} fd={self.fileno()}>"


class TLSMethods:
    """Mixin with the methods of an ssl.SSLObject that programs use, for a connection over TLS."""

    def _tls_facts(self) -> _core._Facts | None:
        """Returns the fields of TLSInfo; None without TLS."""
        raise NotImplementedError

    @property
    def tls(self) -> TLSInfo:
        """The result of the TLS handshake. Raises ValueError if there has been none."""
        facts = self._tls_facts()
        if facts is None:
            raise ValueError("No handshake has been done on this connection")
        return TLSInfo(*facts)

    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """Returns the peer's certificate as DER, or as the dict of the ssl module, which is empty if the certificate
        was not verified."""
        tls = self.tls
        if binary_form or tls.peer_certificate is None:
            return tls.peer_certificate
        return _read_certificate(tls.peer_certificate) if tls.verified else {}

    def cipher(self) -> tuple[str, str, int]:
        """Returns the cipher suite, the version of TLS, and the bits of the key."""
        tls = self.tls
        return tls.cipher, tls.version, 128 if "128" in tls.cipher else 256

    def version(self) -> str:
        """Returns `TLSv1.3` or `TLSv1.2`."""
        return self.tls.version

    def selected_alpn_protocol(self) -> str | None:
        """Returns the protocol that the peer selected (RFC 7301), if any."""
        return self.tls.alpn


class TLSSocket(Socket, TLSMethods):
    """A Socket with the methods of an ssl.SSLSocket that programs use."""


def _read_certificate(der: bytes) -> dict[str, Any]:
    """Returns a certificate as the dict of `SSLSocket.getpeercert()`. CPython's decoder reads it only from a file."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(ssl.DER_cert_to_PEM_cert(der))
        file.flush()
        decoded: dict[str, Any] = ssl._ssl._test_decode_cert(file.name)  # type: ignore[attr-defined]
    return decoded


class _File(io.RawIOBase):
    """Raw file on a connection, for the buffers of io. Closing it leaves the connection open."""

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
