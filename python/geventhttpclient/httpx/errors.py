"""Exceptions, with the names and the hierarchy of httpx.

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

The engine's exception is the `__cause__`, with its `phase`, `peer` and `elapsed`.
"""

from __future__ import annotations

import errno
import socket
import ssl
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

from geventhttpclient import proxy
from geventhttpclient.exceptions import HTTPClientError, HTTPParseError
from geventhttpclient.http2 import HTTP2Error
from geventhttpclient.response import _has_broken

if TYPE_CHECKING:
    from typing_extensions import Self

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


class HTTPError(HTTPClientError):
    """Base class of the errors of a request, which is `request`.

    It can be pickled, but loses its response, which holds a connection.
    """

    _request: CompatRequest | None = None

    def __init__(self, message: str, *, request: CompatRequest | None = None) -> None:
        """`request` is the request that failed, if there is one."""
        super().__init__(message)
        self._request = request

    @property
    def request(self) -> CompatRequest:
        """The request that failed. Raises RuntimeError if the error occurred before there was one."""
        if self._request is None:
            raise RuntimeError("the error came before there was a request")
        return self._request

    @request.setter
    def request(self, request: CompatRequest) -> None:
        self._request = request

    def __copy__(self) -> Self:
        twin = type(self)(*self.args)
        twin.__dict__.update(self.__dict__)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {name: value for name, value in self.__dict__.items() if name != "_response"}


class RequestError(HTTPError):
    """There is no complete response."""


class TransportError(RequestError):
    """Sending the request or receiving the response failed."""


class TimeoutException(TransportError, TimeoutError):
    """A timeout expired. It is also a built-in TimeoutError, unlike that of httpx."""


class ConnectTimeout(TimeoutException):
    """Timeout while resolving the name, connecting (also via a proxy), or during the TLS handshake."""


class ReadTimeout(TimeoutException):
    """Timeout while waiting for the response, or for more of its body."""


class WriteTimeout(TimeoutException):
    """Timeout while sending the request."""


class PoolTimeout(TimeoutException):
    """Timeout while waiting for a free connection of the pool."""


class NetworkError(TransportError):
    """The network failed."""


class ConnectError(NetworkError):
    """The connection could not be established: no address, connection refused, or an invalid certificate."""


class ReadError(NetworkError):
    """The connection failed while reading the response."""


class WriteError(NetworkError):
    """The connection failed while sending the request."""


class CloseError(NetworkError):
    """Never raised: closing does not fail."""


class ProtocolError(TransportError):
    """The rules of HTTP were violated."""


class LocalProtocolError(ProtocolError):
    """The client violated them. Never raised: an invalid request is a ValueError."""


class RemoteProtocolError(ProtocolError):
    """The server violated them: its response is malformed, or ends too early."""


class ProxyError(TransportError):
    """A proxy did not open the connection."""


class UnsupportedProtocol(TransportError):
    """The scheme of a URL is missing, or is not http or https."""


class DecodingError(RequestError):
    """The body cannot be decoded: its content coding is invalid, or the decoded size exceeds the limit."""


class TooManyRedirects(RequestError):
    """There were more redirects than `max_redirects`."""


class HTTPStatusError(HTTPError):
    """The status code does not indicate success. Raised by `raise_for_status`."""

    def __init__(self, message: str, *, request: CompatRequest | None = None, response: Response | None = None) -> None:
        """`response` is the response with that status code, and `request` its request."""
        super().__init__(message, request=request)
        self._response = response

    @property
    def response(self) -> Response:
        """The response. Raises RuntimeError if there is none."""
        if self._response is None:
            raise RuntimeError("the error was made without a response")
        return self._response


class InvalidURL(HTTPError):
    """A URL cannot be parsed."""


class StreamError(HTTPClientError, RuntimeError):
    """A body was read in a way that it does not support."""


class StreamConsumed(StreamError):
    """A body that can be read only once was read again."""


# Classes for each phase of the engine: for network errors, and for timeouts.
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
    """Returns the class of httpx for an error, or None if the caller's own code raised it."""
    if isinstance(error, HTTPError):
        return None  # raised by the source of a request body that reads another response
    if isinstance(error, zlib.error):
        return DecodingError
    if isinstance(error, (HTTPParseError, HTTP2Error)) and not _has_broken(error):
        return RemoteProtocolError
    if isinstance(error, proxy.ProxyError):
        return ProxyError
    if not isinstance(error, OSError):
        return None
    by_phase = _BY_PHASE.get(getattr(error, "phase", None) or "")
    if by_phase is not None:
        return by_phase[isinstance(error, TimeoutError)]
    # Not raised by the engine, but by a mock transport or by the source of a request body.
    if isinstance(error, TimeoutError):
        return ReadTimeout
    if isinstance(error, BrokenPipeError):
        return WriteError
    if isinstance(error, (ConnectionResetError, ConnectionAbortedError)):
        return ReadError
    is_of_connecting = isinstance(error, (ConnectionRefusedError, socket.gaierror, ssl.SSLError))
    return ConnectError if is_of_connecting or error.errno in _UNREACHABLE else None


def raise_translated(error: Exception, request: Any) -> NoReturn:
    """Raises the corresponding exception of this module from an error, or the error itself if it is the caller's."""
    kind = _class_for(error)
    if kind is None:
        raise error
    raise kind(str(error), request=request) from error
