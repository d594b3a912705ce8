"""Our exceptions as urllib3's, for programs that look at those."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

try:
    from urllib3.exceptions import NameResolutionError
except ImportError:  # urllib3 1.26

    def NameResolutionError(_host: str, connection: Any, reason: Exception) -> NewConnectionError:  # type: ignore[no-redef]
        return NewConnectionError(connection, f"Failed to establish a new connection: {reason}")


from geventhttpclient._parser import HTTPParseError
from geventhttpclient.proxy import Proxy
from geventhttpclient.response import HTTPConnectionClosed

if TYPE_CHECKING:
    from geventhttpclient._clients import Origin
    from geventhttpclient._core import _Seconds

# What a request, or the reading of a body, raises for the network and for the peer; all else is the caller's own.
ERRORS = (OSError, HTTPParseError)

# A connection is being made. What a resolver raises comes as it is, without a phase.
_DIALLING = ("connect", "resolve", "proxy", "tls")


class _Place:
    """A pool or a connection, as the texts of errors show it."""

    def __init__(self, kind: str, host: str, port: int) -> None:
        self.kind = kind
        self.host = host
        self.port = port

    def __str__(self) -> str:
        return f"{self.kind}(host={self.host!r}, port={self.port!r})"

    __repr__ = __str__


def pool_of(place: tuple[bool, str, int]) -> Any:
    """What errors show in place of urllib3's pool for an origin: whether it is asked by TLS, host and port."""
    tls, host, port = place
    return _Place("HTTPSConnectionPool" if tls else "HTTPConnectionPool", host, port)


def of_request(error: Exception, origin: Origin, url: str, timeouts: _Seconds) -> HTTPError:
    """What urllib3 would have met instead of `error`, one of ERRORS that a request raised before there was a response.

    `timeouts` are those of the request in seconds, and `url` its target.
    """
    phase = getattr(error, "phase", None)
    proxy = origin.client._connection_pool._proxy
    http_proxy = proxy if proxy is not None and proxy.is_http else None
    pool = pool_of(origin.place)
    if phase in _DIALLING or isinstance(error, socket.gaierror):
        connection = _Place(pool.kind.removesuffix("Pool"), pool.host, pool.port)
        found = _of_dialling(error, connection, pool, url, timeouts, http_proxy is not None)
        if http_proxy is None or (phase == "tls" and not _peer_is(error, http_proxy)):
            return found
        if phase == "proxy":
            if isinstance(error, TimeoutError):
                return found
            if getattr(error, "status", None) is None:
                return ProtocolError("Connection aborted.", http.client.BadStatusLine(str(error)))
            return ProxyError("Unable to connect to proxy", OSError(f"Tunnel connection failed: {error}"))
        return ProxyError("Unable to connect to proxy", found)
    if isinstance(error, TimeoutError):
        if phase == "head":
            return ReadTimeoutError(pool, url, f"Read timed out. (read timeout={timeouts[1]})")
        return ProtocolError("Connection aborted.", error)
    if isinstance(error, ssl.SSLError):
        return SSLError(error)
    inner = _of_http_client(error)
    if http_proxy is not None and isinstance(inner, ConnectionError):
        # urllib3 takes what closes before it has answered for the proxy, whoever is behind it.
        return ProxyError("Unable to connect to proxy", inner)
    return ProtocolError("Connection aborted.", inner)


def _of_dialling(
    error: Exception, connection: Any, pool: Any, url: str, timeouts: _Seconds, via_http: bool
) -> HTTPError:
    phase = getattr(error, "phase", None)
    if isinstance(error, TimeoutError):
        if phase == "tls" or (phase == "proxy" and via_http):
            return ReadTimeoutError(pool, url, f"Read timed out. (read timeout={timeouts[0]})")
        return ConnectTimeoutError(
            connection, f"Connection to {connection.host} timed out. (connect timeout={timeouts[0]})"
        )
    if isinstance(error, ssl.SSLError):
        return SSLError(error)
    if isinstance(error, socket.gaierror):
        return NameResolutionError(connection.host, connection, error)
    if phase == "tls":
        return ProtocolError("Connection aborted.", _of_http_client(error))
    return NewConnectionError(connection, f"Failed to establish a new connection: {error}")


def _peer_is(error: BaseException, proxy: Proxy) -> bool:
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return getattr(error, "peer", None) == f"{host}:{proxy.port}"


def _of_http_client(error: Exception) -> Exception:
    """The exception of http.client for an answer that is none, or none of HTTP."""
    if isinstance(error, HTTPConnectionClosed):
        return http.client.RemoteDisconnected(str(error))
    if isinstance(error, HTTPParseError):
        return http.client.BadStatusLine(str(error))
    return error


def of_body(error: Exception, pool: Any, received: int, missing: int | None) -> HTTPError:
    """The same for one of ERRORS that the reading of a body raised: after `received` bytes, `missing` before its end
    where that is known."""
    if isinstance(error, TimeoutError):
        return ReadTimeoutError(pool, None, "Read timed out.")
    if isinstance(error, ssl.SSLError):
        return SSLError(error)
    if isinstance(error, HTTPConnectionClosed):
        if missing is None:
            return ProtocolError("Response ended prematurely")
        incomplete = IncompleteRead(received, missing)
        return ProtocolError(f"Connection broken: {incomplete!r}", incomplete)
    return ProtocolError(f"Connection broken: {error!r}", error)
