"""What urllib3's own connection would have raised in place of what the engine raises."""

from __future__ import annotations

import socket
import ssl
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from typing import TYPE_CHECKING, Any

from urllib3.connection import _wrap_proxy_error
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from geventhttpclient._parser import HTTPParseError
from geventhttpclient.proxy import ProxyError
from geventhttpclient.resolver import _words_of
from geventhttpclient.response import HTTPConnectionClosed

if TYPE_CHECKING:
    from geventhttpclient.urllib3_adapter.connection import HTTPConnection

# What a request raises for the network and for the peer; all else is the caller's own.
ERRORS = (OSError, HTTPParseError)


def phase_of(error: Exception) -> str | None:
    """When it happened: a phase as the engine names it, None for what the program's own code has raised."""
    # What a resolver raises comes as it is, without one.
    return "resolve" if isinstance(error, socket.gaierror) else getattr(error, "phase", None)


def as_urllib3(
    error: Exception, conn: HTTPConnection, pool: Any, url: str, connect: float | None, read: float | None
) -> Exception:
    """For one of ERRORS that came before there was a response; the error itself where urllib3 has no other.

    `url` is the target of the request, `connect` and `read` are its timeouts in seconds.
    """
    phase = phase_of(error)
    is_opening = phase in ("resolve", "connect") or (phase == "proxy" and conn.is_by_socks)
    if isinstance(error, TimeoutError):
        if is_opening:
            return ConnectTimeoutError(conn, f"Connection to {conn.host} timed out. (connect timeout={connect})")
        if phase not in ("send", None):
            seconds = read if phase == "head" else connect
            return ReadTimeoutError(pool, url, f"Read timed out. (read timeout={seconds})")
    elif isinstance(error, socket.gaierror):
        # urllib3 says the name by itself.
        plain = socket.gaierror(error.errno, _words_of(error))
        return NameResolutionError(conn.host, conn, plain)  # type: ignore[arg-type]
    elif is_opening:
        return NewConnectionError(conn, f"Failed to establish a new connection: {error}")  # type: ignore[arg-type]
    elif isinstance(error, ProxyError):
        if error.status is None:
            return BadStatusLine(str(error))
        return OSError(f"Tunnel connection failed: {error.status} ({error})")
    elif phase is not None and isinstance(error, HTTPConnectionClosed) and len(error.args) == 1:
        return RemoteDisconnected("Remote end closed connection without response")
    elif phase is not None and isinstance(error, HTTPParseError):
        return BadStatusLine(str(error.args[0]))
    return error


def in_urlopen(
    error: Exception, conn: HTTPConnection, pool: Any, url: str, connect: float | None, read: float | None
) -> Exception:
    """The same, and as urllib3's pools wrap it before they count it."""
    found = as_urllib3(error, conn, pool, url, connect, read)
    conn.note_failure(error, found)
    if found is not error:
        found.__cause__ = error
    if isinstance(found, ssl.SSLError):
        found = SSLError(found)
    if conn.proxy is not None and not conn.has_connected_to_proxy:
        return _wrap_proxy_error(found, conn.proxy.scheme)
    return ProtocolError("Connection aborted.", found) if isinstance(found, (OSError, HTTPException)) else found
