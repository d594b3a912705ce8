"""Responses: fed with bytes, read from a given socket, or of a client's pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from geventhttpclient._core import Message
from geventhttpclient._parser import HTTPParseError, HTTPResponseParser
from geventhttpclient.header import Headers
from geventhttpclient.timings import Timings, timings_of
from geventhttpclient.tls import TLSInfo

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from geventhttpclient.connectionpool import ConnectionPool

__all__ = [
    "HEADER_STATE_DONE",
    "HEADER_STATE_FIELD",
    "HEADER_STATE_INIT",
    "HEADER_STATE_VALUE",
    "HTTPConnectionClosed",
    "HTTPParseError",
    "HTTPProtocolViolationError",
    "HTTPResponse",
    "HTTPSocketPoolResponse",
    "HTTPSocketResponse",
    "copy",
]

HEADER_STATE_INIT = 0
"""Of a response that is fed: no header field has come."""
HEADER_STATE_FIELD = 1
"""The name of one has come."""
HEADER_STATE_VALUE = 2
"""Its value has come, too."""
HEADER_STATE_DONE = 3
"""All of them have come."""

_T = TypeVar("_T")


class HTTPConnectionClosed(HTTPParseError):
    """The peer closed the connection before the response was complete."""


class HTTPProtocolViolationError(HTTPParseError):
    """The peer began a second response where none was asked for."""


def copy(data: bytes | bytearray | memoryview) -> bytes:
    """The data as bytes of its own."""
    return bytes(data)


class _Computed(Generic[_T]):
    """An attribute that is worked out when it is asked for, and that an instance may set to something else.

    Existing programs assign to these names, and build responses without running `__init__`: a property would refuse
    the first and an attribute set in `__init__` would be missing in the second.
    """

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> _T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | _T:
        return self if instance is None else self._compute(instance)


def computed(compute: Callable[[Any], _T]) -> _T:
    """An attribute with that value, which may be set as any other: to a type checker it is one of that type."""
    return cast("_T", _Computed(compute))


class HTTPResponse(HTTPResponseParser):
    """A response that is made of what it is fed: `feed(data)`, until `message_complete`.

    Subclasses override the `_on_*` methods. What comes after `message_complete` raises HTTPProtocolViolationError.
    """

    method: str
    headers_complete: bool
    message_begun: bool
    message_complete: bool
    status_message: str | None

    def __init__(self, method: str = "GET", headers_type: type[Headers] = Headers) -> None:
        """For the answer to a request with that method, on which depends whether it has a body. `headers_type` is the
        class of the fields."""
        self.method = method.upper()
        self.headers_complete = False
        self.message_begun = False
        self.message_complete = False
        self.status_message = None
        self._headers_type = headers_type
        self._headers_index = headers_type()
        self._header_state = HEADER_STATE_INIT
        self._header_name = ""
        self._body_buffer = bytearray()
        self._trailing_data_dropped = False

    # ------------------------------------------------------------------------------------------------ what it says

    @property
    def status_code(self) -> int:
        """The status code, 0 while there is none."""
        return self.get_code()

    @property
    def version(self) -> str:
        """`HTTP/1.1` or `HTTP/1.0`."""
        return self.get_http_version()

    @property
    def content_length(self) -> int | None:
        """The number that Content-Length says; None where there is none, or more than one line."""
        length = self.get("content-length")
        # After HEAD and with 304 nobody counts by it, so that nobody has refused one of thousands of digits.
        is_number = isinstance(length, str) and length.isascii() and length.isdigit() and len(length) < 1000
        return int(length) if is_number else None

    @property
    def length(self) -> int | None:
        """The same as `content_length`."""
        return self.content_length

    @property
    def headers(self) -> Iterator[tuple[str, Any]]:
        """A fresh iterator over every header line as (name, value); `info()` is the mapping."""
        return iter(self._headers_index.items())

    def info(self) -> Headers:
        """The header fields: a mapping in which names are found in any case. Changes to it are kept."""
        return self._headers_index

    def items(self) -> list[tuple[str, Any]]:
        """Every header line as (name, value)."""
        return list(self._headers_index.items())

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header field, a list of values when it has several lines, or `default`."""
        return self._headers_index.get(name, default)

    def __getitem__(self, name: str) -> Any:
        return self._headers_index[name]

    def __contains__(self, name: object) -> bool:
        return name in self._headers_index

    def __bool__(self) -> bool:
        """A response is true whatever its status."""
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} status={self.status_code} headers={dict(self.headers)}>"

    def should_close(self) -> bool:
        """Whether the connection cannot be used again, or not yet: the rest of the message is still on it."""
        spent = self._trailing_data_dropped or self._is_tunnel()
        return spent or not self.message_complete or not self.should_keep_alive()

    # ----------------------------------------------------------------------------------------------- what it is fed

    def feed(self, data: str | bytes | bytearray) -> None:
        """Parses the next bytes of the response; none mean that no more will come.

        Bytes behind a response to HEAD are dropped, and the connection they came on is not to be used again.
        """
        try:
            super().feed(data)
        except HTTPProtocolViolationError:
            if not self.message_complete or self.method != "HEAD":
                raise
            self._trailing_data_dropped = True

    def _on_message_begin(self) -> None:
        if self.message_begun:
            raise HTTPProtocolViolationError("A new response began on a connection that owed no more than one.")
        self.message_begun = True

    def _on_status(self, reason: str) -> None:
        self.status_message = reason

    def _on_header_field(self, name: str) -> None:
        self._header_name = name
        self._header_state = HEADER_STATE_FIELD

    def _on_header_value(self, value: str) -> None:
        self._headers_index.add(self._header_name, value)
        self._header_state = HEADER_STATE_VALUE

    def _is_interim(self) -> bool:
        code = self.get_code()
        return code < 200 and code != 101

    def _on_headers_complete(self) -> bool:
        if self._is_interim():
            # RFC 9110 section 15.2: the response itself is still to come, with fields of its own.
            self._headers_index = self._headers_type()
            self._header_state = HEADER_STATE_INIT
            return False
        self.headers_complete = True
        self._header_state = HEADER_STATE_DONE
        return self.method == "HEAD" or self._is_tunnel()

    def _is_tunnel(self) -> bool:
        """Whether what follows is no longer HTTP: a CONNECT was granted (RFC 9110 section 9.3.6)."""
        return self.method == "CONNECT" and 200 <= self.get_code() < 300

    def _on_body(self, data: bytearray) -> None:
        self._body_buffer += data

    def _on_message_complete(self) -> None:
        if self._is_interim():
            self.message_begun = False
        else:
            self.message_complete = True


class HTTPSocketResponse(Message, HTTPResponse):
    """A response that is read as it comes, like a file.

    Made from a socket, it reads the head at once, waiting as the socket does. `with response:` releases it at the end.
    """

    DEFAULT_BLOCK_SIZE = 4096

    def __init__(
        self,
        sock: Any,
        block_size: int = DEFAULT_BLOCK_SIZE,
        method: str = "GET",
        headers_type: type[Headers] = Headers,
        pre_buffered: bytes = b"",
        **kw: Any,
    ) -> None:
        """From a socket (anything with `recv(n)`) on which the request was sent. Bytes read before go in front."""
        self._given = (sock, block_size, method.upper(), headers_type, bytes(pre_buffered))
        self._read_headers()

    def _read_headers(self) -> None:
        sock, block_size, method, headers_type, pre_buffered = self._given
        try:
            self._read_head_from(sock, pre_buffered, block_size, method, headers_type)
        except BaseException:
            sock.close()
            raise

    def release(self) -> None:
        """Gives the connection back when the body has been read to its end, else closes it; a given socket, too.

        Another greenlet that waits for the body gets a ConnectionAbortedError."""
        unread = self._is_attached()
        super().release()
        if unread and "_given" in self.__dict__:
            self._given[0].close()

    def _extra(self, index: int, default: Any) -> Any:
        extras = self._extras()
        return default if extras is None else extras[index]

    # Existing programs look at these, and set them.
    method: str = computed(lambda self: self._extra(0, "GET"))
    block_size: int = computed(lambda self: self._extra(2, self.DEFAULT_BLOCK_SIZE))
    headers_complete: bool = computed(Message._has_head)
    message_begun: bool = computed(Message._has_head)
    message_complete: bool = computed(Message._is_complete)
    status_message: str | None = computed(Message._reason)
    _sent_request: str = computed(Message._request_head)

    @computed
    def _sock(self) -> Any:
        """What the body comes from, None once the response no longer holds it."""
        if not self._is_attached():
            return None
        return self._given[0] if "_given" in self.__dict__ else self._extra(1, None)

    @computed
    def _headers_index(self) -> Headers:
        """The header fields, which become Python objects here and now."""
        headers_type = self._extra(3, Headers)
        pairs = self._pairs()
        index: Headers = headers_type._from_pairs(pairs) if issubclass(headers_type, Headers) else headers_type(pairs)
        self.__dict__["_headers_index"] = index
        return index

    @property
    def trailers(self) -> Headers:
        """The fields that came behind a chunked body, once that has been read (RFC 9110 section 6.5)."""
        return Headers._from_pairs(self._trailers())

    @property
    def timings(self) -> Timings:
        """How long the request took, step by step, as far as it has come; nothing but zeros without a head."""
        return timings_of(self)

    @property
    def tls(self) -> TLSInfo | None:
        """What the TLS handshake of its connection has come to, None for plain http."""
        facts = self._tls_facts()
        return None if facts is None else TLSInfo(*facts)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header field, a list of values when it has several lines, or `default`."""
        index = self.__dict__.get("_headers_index")
        return self._field(name, default) if index is None else index.get(name, default)

    def feed(self, data: str | bytes | bytearray) -> None:
        """Not for this class: it reads by itself."""
        raise TypeError(f"{type(self).__name__} reads from its connection and cannot be fed")

    def should_close(self) -> bool:
        """Whether the connection cannot be used again, or not yet: the rest of the body is still on it."""
        return not self.message_complete or not self.should_keep_alive()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """The next `block_size` bytes of the body, fewer at its end."""
        data = self.read(self.block_size)
        if not data:
            raise StopIteration
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


class HTTPSocketPoolResponse(HTTPSocketResponse):
    """A response of a client. Its connection goes back to the pool with the last byte of the body.

    `release()`, or dropping the response, before that closes the connection.
    """

    def __init__(self, sock: Any, pool: ConnectionPool | None, **kw: Any) -> None:
        """From a socket, for programs that bring their own; a client makes its responses without this."""
        self._given_pool = pool
        super().__init__(sock, **kw)

    @computed
    def _pool(self) -> ConnectionPool | None:
        """The pool that the connection is to go back to, None once it has."""
        if not self._is_attached():
            return None
        pool: ConnectionPool | None = self.__dict__.get("_given_pool") or self._extra(1, None)
        return pool
