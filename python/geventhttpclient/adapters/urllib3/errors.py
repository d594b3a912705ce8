"""Conversion of the engine's errors to the exceptions that urllib3's own connections raise."""

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
from geventhttpclient.response import HTTPConnectionClosed, _as_builtin, _has_broken

if TYPE_CHECKING:
    from geventhttpclient.adapters.urllib3.connection import HTTPConnection

# Errors of the network and of the peer; all others are those of the program.
ERRORS = (OSError, HTTPParseError)


def phase_of(error: Exception) -> str | None:
    """Returns the engine's phase of an error; None for an error that the program's code raised."""
    # The error of a resolver is raised unchanged, without a phase.
    return "resolve" if isinstance(error, socket.gaierror) else getattr(error, "phase", None)


def as_urllib3(
    error: Exception, conn: HTTPConnection, pool: Any, url: str, connect: float | None, read: float | None
) -> Exception:
    """Returns urllib3's exception for one of ERRORS that was raised before there was a response; the error itself if
    urllib3 has no exception for it.

    `url` is the target of the request, `connect` and `read` are its timeouts in seconds.
    """
    phase = phase_of(error)
    is_opening = phase in ("resolve", "connect") or (phase == "proxy" and conn.is_by_socks)
    if isinstance(error, TimeoutError):
        if phase == "pool":
            # Nothing was sent, as in a timeout while connecting; the engine's text gives the reason.
            return ConnectTimeoutError(conn, str(error))
        if is_opening:
            return ConnectTimeoutError(conn, f"Connection to {conn.host} timed out. (connect timeout={connect})")
        if phase not in ("send", None):
            seconds = read if phase == "head" else connect
            return ReadTimeoutError(pool, url, f"Read timed out. (read timeout={seconds})")
    elif isinstance(error, socket.gaierror):
        # urllib3 adds the name by itself.
        plain = socket.gaierror(error.errno, _words_of(error))
        return NameResolutionError(conn.host, conn, plain)  # type: ignore[arg-type]
    elif is_opening:
        return NewConnectionError(conn, f"Failed to establish a new connection: {error}")  # type: ignore[arg-type]
    elif isinstance(error, ProxyError):
        if error.status is None:
            return BadStatusLine(str(error))
        return OSError(f"Tunnel connection failed: {error.status} ({error})")
    elif phase is None:
        return error
    elif _has_broken(error):
        return _as_builtin(error)
    elif isinstance(error, HTTPConnectionClosed) and len(error.args) == 1:
        return RemoteDisconnected("Remote end closed connection without response")
    elif isinstance(error, HTTPParseError):
        return BadStatusLine(str(error.args[0]))
    return error


def in_urlopen(
    error: Exception, conn: HTTPConnection, pool: Any, url: str, connect: float | None, read: float | None
) -> Exception:
    """Returns the exception of `as_urllib3`, wrapped as urllib3's pools do before they count a retry."""
    found = as_urllib3(error, conn, pool, url, connect, read)
    conn.note_failure(error, found)
    if found is not error:
        found.__cause__ = error
    if isinstance(found, ssl.SSLError):
        found = SSLError(found)
    if conn.proxy is not None and not conn.has_connected_to_proxy:
        return _wrap_proxy_error(found, conn.proxy.scheme)
    return ProtocolError("Connection aborted.", found) if isinstance(found, (OSError, HTTPException)) else found
