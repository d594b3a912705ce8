"""What can go wrong, by the names that httpx has for it.

    HTTPError
      RequestError
        TransportError
          TimeoutException     ConnectTimeout, ReadTimeout, WriteTimeout, PoolTimeout
          NetworkError         ConnectError, ReadError, WriteError, CloseError
          ProtocolError        LocalProtocolError, RemoteProtocolError
          ProxyError
          UnsupportedProtocol
        DecodingError
        TooManyRedirects
      HTTPStatusError
      InvalidURL
    StreamError
      StreamConsumed

What the engine raised is the `__cause__`, with its `phase`, `peer` and `elapsed`.
"""

from __future__ import annotations

import errno
import socket
import ssl
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

from geventhttpclient import proxy
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.http2 import HTTP2Error

if TYPE_CHECKING:
    from geventhttpclient.httpx.messages import Response
    from geventhttpclient.useragent import CompatRequest

__all__ = [
    "CloseError",
    "ConnectError",
    "ConnectTimeout",
    "DecodingError",
    "HTTPError",
    "HTTPStatusError",
    "InvalidURL",
    "LocalProtocolError",
    "NetworkError",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "RequestError",
    "StreamConsumed",
    "StreamError",
    "TimeoutException",
    "TooManyRedirects",
    "TransportError",
    "UnsupportedProtocol",
    "WriteError",
    "WriteTimeout",
]


class HTTPError(Exception):
    """Anything that goes wrong with a request. `request` is the request."""

    _request: CompatRequest | None = None

    def __init__(self, message: str, *, request: CompatRequest | None = None) -> None:
        """`request` is the one that it is about, where there is one."""
        super().__init__(message)
        self._request = request

    @property
    def request(self) -> CompatRequest:
        """The request. RuntimeError where there is none yet."""
        if self._request is None:
            raise RuntimeError("the error came before there was a request")
        return self._request

    @request.setter
    def request(self, request: CompatRequest) -> None:
        self._request = request


class RequestError(HTTPError):
    """No response, or not the whole of it."""


class TransportError(RequestError):
    """It went wrong on the way."""


class TimeoutException(TransportError):
    """It took too long."""


class ConnectTimeout(TimeoutException):
    """To resolve the name, to connect, by way of a proxy perhaps, or to agree on TLS."""


class ReadTimeout(TimeoutException):
    """To wait for the response, or for more of it."""


class WriteTimeout(TimeoutException):
    """To send the request."""


class PoolTimeout(TimeoutException):
    """To wait for a free connection."""


class NetworkError(TransportError):
    """The network failed."""


class ConnectError(NetworkError):
    """No address, nobody who listens, no good certificate."""


class ReadError(NetworkError):
    """The connection failed while the response was read."""


class WriteError(NetworkError):
    """The connection failed while the request was sent."""


class CloseError(NetworkError):
    """Never raised: closing does not fail."""


class ProtocolError(TransportError):
    """HTTP was not spoken as it should be."""


class LocalProtocolError(ProtocolError):
    """By us. Never raised: what cannot be sent is a ValueError."""


class RemoteProtocolError(ProtocolError):
    """By the server: its answer is malformed, or ends too early."""


class ProxyError(TransportError):
    """A proxy did not make the connection."""


class UnsupportedProtocol(TransportError):
    """A URL of another scheme than http and https, or of none."""


class DecodingError(RequestError):
    """The content coding of a body is broken, or unfolds to too much."""


class TooManyRedirects(RequestError):
    """More redirects than `max_redirects`."""


class HTTPStatusError(HTTPError):
    """The status code is not one of success. `response` is the response."""

    def __init__(self, message: str, *, request: CompatRequest | None = None, response: Response | None = None) -> None:
        """`request` and `response` are those that it is about."""
        super().__init__(message, request=request)
        self._response = response

    @property
    def response(self) -> Response:
        """The response. RuntimeError where there is none."""
        if self._response is None:
            raise RuntimeError("the error was made without a response")
        return self._response


class InvalidURL(HTTPError):
    """A URL that cannot be read."""


class StreamError(RuntimeError):
    """A body was asked for in a way that it does not allow."""


class StreamConsumed(StreamError):
    """A body that can be read only once was asked for twice."""


# By the phase that the engine was in: for what the network says, and for its silence.
_BY_PHASE: dict[str, tuple[type[TransportError], type[TimeoutException]]] = {
    "body": (ReadError, ReadTimeout),
    "connect": (ConnectError, ConnectTimeout),
    "head": (ReadError, ReadTimeout),
    "pool": (NetworkError, PoolTimeout),
    "proxy": (ProxyError, ConnectTimeout),
    "resolve": (ConnectError, ConnectTimeout),
    "send": (WriteError, WriteTimeout),
    "tls": (ConnectError, ConnectTimeout),
}

_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL})


def _class_for(error: Exception) -> type[RequestError] | None:
    """None for an error that is not the network's, but the caller's own."""
    if isinstance(error, zlib.error):
        return DecodingError
    if isinstance(error, (HTTPParseError, HTTP2Error)):
        return RemoteProtocolError
    if isinstance(error, proxy.ProxyError):
        return ProxyError
    if not isinstance(error, OSError):
        return None
    by_phase = _BY_PHASE.get(getattr(error, "phase", None) or "")
    if by_phase is not None:
        return by_phase[isinstance(error, TimeoutError)]
    # Not the engine's: raised by a transport for tests, or by what makes the body of a request.
    if isinstance(error, TimeoutError):
        return ReadTimeout
    if isinstance(error, BrokenPipeError):
        return WriteError
    if isinstance(error, (ConnectionResetError, ConnectionAbortedError)):
        return ReadError
    is_of_connecting = isinstance(error, (ConnectionRefusedError, socket.gaierror, ssl.SSLError))
    return ConnectError if is_of_connecting or error.errno in _UNREACHABLE else None


def raise_translated(error: Exception, request: Any) -> NoReturn:
    """Raises what is to be seen of an error, from it; itself where it is nobody's but the caller's."""
    kind = _class_for(error)
    if kind is None:
        raise error
    raise kind(str(error), request=request) from error
