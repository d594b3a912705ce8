"""Tests without a server: a transport that calls a function for each request.

    def answer(request):
        return MockResponse(200, json={"path": request.path})

    client = HTTPClient("api.example.org", transport=MockTransport(answer))

All classes that create clients accept a transport too: HTTPClientPool, UserAgent and its subclasses. Only the network
is replaced: requests are checked and encoded, and responses are encoded and then read by the parser and the response
classes that read those of a server. No name is resolved, no connection is opened, and no proxy is used.
"""

from __future__ import annotations

import json as json_module
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from geventhttpclient import _core, exceptions
from geventhttpclient._internal.validation import given, repeatable
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.header import Headers

if TYPE_CHECKING:
    from geventhttpclient.header import HeadersDataType, TrailersDataType
    from geventhttpclient.response import HTTPSocketPoolResponse

__all__ = ["MockRequest", "MockResponse", "MockTransport"]

_LINE_BREAK = re.compile(r"[\r\n\0]")
_PIECE = 64 * 1024


@dataclass(frozen=True)
class MockRequest:
    """A request as a server would receive it."""

    method: str
    url: str
    """The absolute URL, without user, password and fragment."""
    headers: Headers
    """All headers that would be sent, including Host and the framing of the body."""
    body: bytes
    timeouts: tuple[float | None, float | None, float | None, float | None]
    """The effective timeouts in seconds: for connecting, for the network, for the pool, in total."""
    target: str
    """The target in the request line: path and query."""
    trailers: Headers = field(default_factory=Headers)
    """The trailers after the body."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The part of the target after the question mark."""
        return self.target.partition("?")[2]

    def json(self) -> Any:
        """Returns the body decoded as JSON. Raises ValueError if it is not valid."""
        return json_module.loads(self.body)


@dataclass
class MockResponse:
    """The response of a server.

    `body` is bytes, text (sent as UTF-8), or an iterable of bytes, which is sent in chunks while it is iterated. The
    iterable may wait between two pieces, and its errors are raised by the call that reads the body. `json` is any value
    that is encoded as the body. A Content-Length that is given here is sent, whether it is correct or not.
    """

    status: int = 200
    headers: HeadersDataType | None = None
    body: bytes | bytearray | memoryview | str | Iterable[bytes] = b""
    json: Any = field(default_factory=lambda: _NOTHING)
    reason: str | None = None
    """The reason phrase; the standard one of the status by default."""

    def _wire(self, method: str) -> Iterator[bytes]:
        """Returns the bytes of the response to a request with that method, in pieces."""
        status = int(self.status)
        if not 200 <= status <= 999 and status != 101:
            raise ValueError(f"status must be that of a final response, not {status}")
        headers = Headers(self.headers)
        body = self.body
        if self.json is not _NOTHING:
            if not isinstance(body, bytes) or body:
                raise ValueError("body and json exclude one another")
            body = json_module.dumps(self.json).encode()
            headers.setdefault("Content-Type", "application/json")
        elif isinstance(body, str):
            body = body.encode()
            headers.setdefault("Content-Type", "text/plain; charset=utf-8")
        pieces: Iterator[bytes] | None = None
        if isinstance(body, (bytes, bytearray, memoryview)):
            body = bytes(body)
        elif isinstance(body, Mapping):
            raise TypeError("body must be bytes, a str or an iterable of bytes; json takes a mapping")
        else:
            pieces, body = iter(body), b""
        # RFC 9112 section 6.3: these responses have no body.
        has_body = method != "HEAD" and status not in (101, 204, 304)
        if not has_body and method != "HEAD" and (body or pieces is not None):
            raise ValueError(f"a response with the status {status} has no body")
        is_framed = "content-length" in headers or "transfer-encoding" in headers
        if not is_framed and status not in (101, 204, 304):
            if pieces is None:
                headers["Content-Length"] = str(len(body))
            else:
                headers["Transfer-Encoding"] = "chunked"
        chunked = pieces is not None and not is_framed
        head = self._head(status, headers)
        if not has_body:
            return iter([head])
        return _message(head, body, pieces, chunked)

    def _head(self, status: int, headers: Headers) -> bytes:
        reason = self.reason
        if reason is None:
            reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        for line in lines:
            if _LINE_BREAK.search(line):
                raise ValueError(f"a line of the head must not have a line break in it: {line!r}")
        return "\r\n".join([*lines, "", ""]).encode("iso-8859-1")


_NOTHING: Any = object()


def _message(head: bytes, body: bytes, pieces: Iterator[bytes] | None, chunked: bool) -> Iterator[bytes]:
    yield head
    if pieces is None:
        yield body
        return
    try:
        for piece in pieces:
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f"a piece of a body must be bytes, not {type(piece).__name__}")
            if len(piece) and chunked:
                yield b"%x\r\n%b\r\n" % (len(piece), piece)
            else:
                yield bytes(piece)
        if chunked:
            yield b"0\r\n\r\n"
    finally:
        # If the body was not read to its end, the iterator is closed, as a server does if its connection is closed.
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


class MockTransport:
    """A transport that calls a function for each request, in the greenlet that sends the request.

    `handler` returns a MockResponse, or a tuple of its status, headers and body. The request raises the exceptions of
    the handler unchanged: TimeoutError, ConnectionRefusedError and the like are retried, or not, as if the network had
    raised them. The handler may wait, with `gevent.sleep` for example. Timeouts are not enforced; `request.timeouts`
    has their values.

    `requests` is the list of all requests in order. Any number of clients may share one transport.
    """

    def __init__(self, handler: Callable[[MockRequest], MockResponse | tuple[Any, ...]]) -> None:
        """Raises TypeError if the handler is not callable."""
        if not callable(handler):
            raise TypeError(f"handler must be a function from request to response, not {handler!r}")
        self.handler = handler
        self.requests: list[MockRequest] = []

    def _connection_pool(self, *args: Any, **kw: Any) -> ConnectionPool:
        """Returns the pool of a client, which has no connections."""
        return _MockPool(self, *args, **kw)

    def _answer(self, request: MockRequest) -> Iterator[bytes]:
        self.requests.append(request)
        answer = self.handler(request)
        if isinstance(answer, tuple) and 1 <= len(answer) <= 3:
            answer = MockResponse(*answer)
        if not isinstance(answer, MockResponse):
            raise TypeError(
                f"handler must return a MockResponse, or a tuple of status, headers and body, not {answer!r}"
            )
        return answer._wire(request.method)


class _MockPool(ConnectionPool):
    """A pool without connections, whose transport responds to requests."""

    def __init__(self, transport: MockTransport, *args: Any, **kw: Any) -> None:
        self._transport = transport
        self._is_closed = False
        super().__init__(*args, **kw)

    def close(self) -> None:
        self._is_closed = True
        super().close()

    def _exchange(  # type: ignore[override]  # of a client's responses, which can be made from a socket
        self,
        template: _core.RequestTemplate,
        response_class: type[HTTPSocketPoolResponse],
        method: str,
        target: str,
        body: Any,
        headers: HeadersDataType | None,
        timeouts: _core._Seconds | None,
        trailers: TrailersDataType | None = None,
        opened: list[_core._Opened] | None = None,
    ) -> HTTPSocketPoolResponse:
        if self._is_closed:
            raise exceptions.RuntimeError("the client was closed")
        trailers = repeatable(trailers)
        # Without its length: asking for it would start some iterators, which can be read only once.
        known, chunked = (None, True) if _is_iterated(body) else (body, None)
        head = template.encode_head(method, target, known, headers, chunked, trailers)
        line, *lines = head.split("\r\n")[:-2]
        fields = Headers([(name, value.strip(" \t")) for name, _, value in (each.partition(":") for each in lines)])
        content = _body_of(body)
        length = fields.get("content-length")
        if isinstance(length, str) and int(length) != len(content):
            raise ValueError(f"the body has {len(content)} bytes, and its Content-Length says {length}")
        path = line.split(" ")[1]
        request = MockRequest(
            method=method,
            url=template.origin + ("" if path == "*" else path),
            headers=fields,
            body=content,
            timeouts=self._timeouts if timeouts is None else timeouts,
            target=path,
            trailers=Headers(_core.trailer_lines(trailers() if callable(trailers) else trailers or ())),
        )
        wire = _MockSocket(self._transport._answer(request))
        response = response_class(
            wire, self, block_size=template.block_size, method=method, headers_type=template.headers_type
        )
        response._sent_request = head
        return response


class _MockSocket:
    """The part of a socket that a response uses."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def recv(self, size: int) -> bytes:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = memoryview(piece)
        data, self._left = self._left[:size], self._left[size:]
        return bytes(data)

    def close(self) -> None:
        self._left = memoryview(b"")
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


def _is_iterated(body: Any) -> bool:
    """Returns True if a body is sent in pieces while it is iterated."""
    if body is None or isinstance(body, (str, Mapping)) or hasattr(body, "read") or not hasattr(body, "__iter__"):
        return False
    try:
        memoryview(body)
    except TypeError:
        return True
    return False


def _body_of(body: Any) -> bytes:
    """Returns all bytes of a body that would be sent."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if _is_iterated(body):
        return b"".join(map(_as_bytes, body))
    if not hasattr(body, "read"):
        return memoryview(body).tobytes()
    pieces = []
    while piece := _as_bytes(body.read(_PIECE)):
        pieces.append(piece)
    return b"".join(pieces)


def _as_bytes(piece: Any) -> bytes:
    if isinstance(piece, str):
        return piece.encode()
    try:
        return memoryview(piece).tobytes()
    except TypeError:
        raise TypeError(f"a piece of a body must be bytes or a str, not {given(piece)}") from None
