"""The extension `network_stream` of httpx and httpx2: the connection of a response, as httpcore's NetworkStream."""

from __future__ import annotations

import importlib
import select
import ssl
import warnings
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import gevent.monkey

from geventhttpclient.client import HTTPClient
from geventhttpclient.httplib.sock import TLSMethods, TLSSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geventhttpclient._core import _Facts
    from geventhttpclient.response import HTTPSocketPoolResponse

__all__ = ["NetworkStream"]

_UNPATCHED = (
    "the connection was used in another thread than the request: call gevent.monkey.patch_all() first, so that threads "
    "are greenlets; httpx2.Client.websocket() starts some"
)

# Without gevent's cooperative waits: it is only asked for what is known at once.
_poll: Any = gevent.monkey.get_original("select", "poll") if hasattr(select, "poll") else None


class NetworkStream:
    """The connection of a response, with the methods of httpcore's NetworkStream.

    After 101, and after a 2xx to CONNECT, it carries another protocol: one greenlet may write while another reads.
    Closing the response closes it. Otherwise the connection belongs to the pool, and only `get_extra_info` can be used.

    Errors are those of httpcore or httpcore2, as in the original packages: ReadTimeout, ReadError, WriteTimeout,
    WriteError, ConnectTimeout and ConnectError.
    """

    __slots__ = ("__weakref__", "_host", "_message", "_package", "_socket")

    def __init__(self, package: str, message: HTTPSocketPoolResponse, host: str, is_upgrade: bool) -> None:
        """Takes the name of the package whose exceptions are raised, a response, the host of its request, and whether
        it may be one after which the connection carries another protocol."""
        self._package = package
        self._message = message
        self._host = host
        self._socket: TLSSocket | None = None
        if is_upgrade and (sock := TLSSocket())._continue(message):
            self._socket = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Returns the available bytes, at most `max_bytes`, waiting at most `timeout` seconds for the first; None for
        no limit. Returns b"" at the end."""
        sock = self._upgraded()
        with self._raising("Read"):
            sock.settimeout(timeout)
            return sock.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends all of the bytes, waiting at most `timeout` seconds for the peer to take some; None for no limit."""
        sock = self._upgraded()
        if not buffer:
            return
        with self._raising("Write"):
            sock.settimeout(timeout)
            sock.sendall(buffer)

    def close(self) -> None:
        """Closes the connection; a greenlet that reads from it gets b"". Does nothing if it belongs to the pool."""
        if self._socket is not None:
            self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        """Performs a TLS handshake on the connection, within `timeout` seconds, and returns this stream."""
        sock = self._upgraded()
        client = HTTPClient(
            server_hostname or self._host,
            ssl=True,
            ssl_context_factory=lambda **_: ssl_context,
            ssl_options={"server_hostname": server_hostname},
            insecure=not ssl_context.check_hostname,
            verify=ssl_context.verify_mode != ssl.CERT_NONE,
            connection_timeout=timeout,
        )
        with closing(client), self._raising("Connect"):
            sock.secure(client._connection_pool)
        return self

    def get_extra_info(self, info: str) -> Any:
        """Returns a property of the connection; None for one that is unknown.

        - `ssl_object`: an object with `version()`, `cipher()`, `getpeercert()` and `selected_alpn_protocol()`; None
          without TLS.
        - `server_addr`: the peer's address. `client_addr`: the local address, as long as the connection is open.
        - `socket`: an object with the methods of a socket, after an upgrade.
        - `is_readable`: whether the socket has bytes, or its end, after an upgrade. Bytes that were read ahead of the
          program, with the head or over TLS, do not count.
        """
        sock = self._socket
        if info == "ssl_object":
            if sock is not None:
                return None if sock._tls_facts() is None else sock
            return None if self._message._tls_facts() is None else _TLSObject(self._message)
        if info == "server_addr":
            return self._message.timings.peer
        if sock is None or sock.fileno() < 0:
            return None
        if info == "client_addr":
            return sock.getsockname()
        if info == "socket":
            return sock
        if info == "is_readable" and _poll is not None:
            poll = _poll()
            poll.register(sock.fileno(), select.POLLIN)
            return bool(poll.poll(0))
        return None

    def _upgraded(self) -> TLSSocket:
        if self._socket is None:
            raise RuntimeError(
                "network_stream can be read and written only after 101, or a 2xx to CONNECT: otherwise the connection "
                "belongs to the pool"
            )
        return self._socket

    @contextmanager
    def _raising(self, what: str) -> Iterator[None]:
        """Raises the package's exceptions for those of the connection: a timeout or an error of what is done."""
        package = importlib.import_module(self._package)
        try:
            yield
        except TimeoutError as error:
            raise getattr(package, f"{what}Timeout")(str(error)) from error
        except OSError as error:
            raise getattr(package, f"{what}Error")(str(error)) from error
        except RuntimeError as error:
            # A warning as well, since httpx2 does not show the text of the exception.
            warnings.warn(_UNPATCHED, RuntimeWarning, stacklevel=4)
            raise getattr(package, f"{what}Error")(f"{_UNPATCHED} ({error})") from error


class _TLSObject(TLSMethods):
    """The TLS of a connection that belongs to the pool."""

    def __init__(self, message: HTTPSocketPoolResponse) -> None:
        self._message = message

    def _tls_facts(self) -> _Facts | None:
        return self._message._tls_facts()
