"""Tests without a server: a transport that answers requests by calling a function.

    def answer(request):
        return MockResponse(200, json={"path": request.path})

    client = HTTPClient("api.example.org", transport=MockTransport(answer))

Whatever makes clients takes a transport, too: HTTPClientPool, UserAgent and what is built on that. Up to the wire all
is as without one: a request is checked and encoded, an answer is encoded and read by the parser and the response
classes that read a server's. Nothing is resolved, connected, or asked of a proxy.
"""

from __future__ import annotations

import json as json_module
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from geventhttpclient import _core
from geventhttpclient._checks import repeatable
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
    """A request as a server would see it."""

    method: str
    url: str
    """Absolute, without user, password and fragment."""
    headers: Headers
    """All that would go out, Host and the framing of the body included."""
    body: bytes
    timeouts: tuple[float | None, float | None, float | None, float | None]
    """Those that are in force, in seconds: for connecting, for the network, for the pool, in all."""
    target: str
    """What the request line says: path and query."""
    trailers: Headers = field(default_factory=Headers)
    """What follows the body."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the question mark."""
        return self.target.partition("?")[2]

    def json(self) -> Any:
        """The body read as JSON. ValueError when it is none."""
        return json_module.loads(self.body)


@dataclass
class MockResponse:
    """What a server would answer.

    `body` is bytes, text (sent as UTF-8), or an iterable of bytes, which comes in chunks as it is iterated: it may
    wait between two of them, and what it raises reaches whoever reads the body. `json` is any value that goes in place
    of a body. A Content-Length given here counts, be it right or wrong.
    """

    status: int = 200
    headers: HeadersDataType | None = None
    body: bytes | bytearray | memoryview | str | Iterable[bytes] = b""
    json: Any = field(default_factory=lambda: _NOTHING)
    reason: str | None = None
    """What follows the status code; its usual phrase by default."""

    def _wire(self, method: str) -> Iterator[bytes]:
        """The bytes of the answer to a request of that method, piece by piece."""
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
        # RFC 9112 section 6.3: these end with their head.
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
        # What was not read to its end is left, as by a server whose connection was closed.
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


class MockTransport:
    """Answers requests by calling a function, from the greenlet that sends the request.

    What `handler` returns is a MockResponse, or a tuple of its status, headers and body. What it raises comes out of
    the request as it is: TimeoutError, ConnectionRefusedError and the like are tried again, or not, as if the network
    had raised them. It may wait, by `gevent.sleep` for example. Timeouts are not enforced: `request.timeouts` says what
    they are.

    `requests` has every request, in order. One transport may serve any number of clients.
    """

    def __init__(self, handler: Callable[[MockRequest], MockResponse | tuple[Any, ...]]) -> None:
        """TypeError for a handler that cannot be called."""
        if not callable(handler):
            raise TypeError(f"handler must be a function from request to response, not {handler!r}")
        self.handler = handler
        self.requests: list[MockRequest] = []

    def _connection_pool(self, *args: Any, **kw: Any) -> ConnectionPool:
        """What a client asks for in place of connections."""
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
    """A pool without connections: its transport answers instead."""

    def __init__(self, transport: MockTransport, *args: Any, **kw: Any) -> None:
        self._transport = transport
        self._is_closed = False
        super().__init__(*args, **kw)

    def close(self) -> None:
        self._is_closed = True
        super().close()

    def _exchange(  # type: ignore[override]  # of a client's responses, which can be made from a socket
        self,
        response_class: type[HTTPSocketPoolResponse],
        method: str,
        target: str,
        body: Any,
        headers: HeadersDataType | None,
        default_headers: HeadersDataType,
        host_field: str | None,
        bases: list[str],
        version: str,
        proxy: _core._Proxy | None,
        shape: tuple[int, type[Headers]],
        timeouts: _core._Seconds | None,
        trailers: TrailersDataType | None = None,
        opened: list[_core._Opened] | None = None,
    ) -> HTTPSocketPoolResponse:
        if self._is_closed:
            raise RuntimeError("the client was closed")
        trailers = repeatable(trailers)
        # Asked for its length, some would begin to be read, and can be read only once.
        known, chunked = (None, True) if _is_iterated(body) else (body, None)
        head = _core.encode_head(
            method, target, known, headers, default_headers, host_field, bases, version, proxy, chunked, trailers
        )
        line, *lines = head.split("\r\n")[:-2]
        fields = Headers([(name, value.strip(" \t")) for name, _, value in (each.partition(":") for each in lines)])
        content = _body_of(body)
        length = fields.get("content-length")
        if isinstance(length, str) and int(length) != len(content):
            raise ValueError(f"the body has {len(content)} bytes, and its Content-Length says {length}")
        path = line.split(" ")[1]
        request = MockRequest(
            method=method,
            url=bases[0] + ("" if path == "*" else path),
            headers=fields,
            body=content,
            timeouts=self._timeouts if timeouts is None else timeouts,
            target=path,
            trailers=Headers(_core.trailer_lines(trailers() if callable(trailers) else trailers or ())),
        )
        block_size, headers_type = shape
        wire = _Wire(self._transport._answer(request))
        response = response_class(wire, self, block_size=block_size, method=method, headers_type=headers_type)
        response._sent_request = head
        return response


class _Wire:
    """As much of a socket as a response reads from."""

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
    """Whether a body is one that is sent piece by piece, as it is iterated."""
    if body is None or isinstance(body, (str, Mapping)) or hasattr(body, "read") or not hasattr(body, "__iter__"):
        return False
    try:
        memoryview(body)
    except TypeError:
        return True
    return False


def _body_of(body: Any) -> bytes:
    """All that would be sent of it."""
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
    return piece.encode() if isinstance(piece, str) else memoryview(piece).tobytes()
