"""Responses: parsed from bytes that are fed, read from a given socket, or read from a connection of a client's pool."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar, cast, overload

from geventhttpclient import _core
from geventhttpclient._core import ResponseBase
from geventhttpclient._internal.decoding import decoded_pieces
from geventhttpclient._internal.reading import pieces, reads_by_engine
from geventhttpclient._internal.slots import reduce_with_slots
from geventhttpclient._internal.streams import StreamMethods, url_of_head

try:
    from geventhttpclient._parser import HTTPParseError, HTTPResponseParser
except ImportError as _error:
    from geventhttpclient._internal import stale_files

    stale_files.refuse("_parser", _error)
from geventhttpclient.exceptions import (
    HTTPConnectionAborted,
    HTTPConnectionBroken,
    HTTPConnectionClosed,
    HTTPConnectionReset,
    HTTPProtocolViolationError,
)
from geventhttpclient.header import Headers
from geventhttpclient.timings import Timings, timings_of
from geventhttpclient.tls import TLSInfo

if HTTPResponseParser is not _core.HTTPResponseParser:
    from geventhttpclient._internal import stale_files

    stale_files.refuse("_parser")

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from geventhttpclient.connectionpool import ConnectionPool

__all__ = [
    "HEADER_STATE_DONE",
    "HEADER_STATE_FIELD",
    "HEADER_STATE_INIT",
    "HEADER_STATE_VALUE",
    "HTTPConnectionAborted",
    "HTTPConnectionBroken",
    "HTTPConnectionClosed",
    "HTTPConnectionReset",
    "HTTPParseError",
    "HTTPProtocolViolationError",
    "HTTPResponse",
    "HTTPSocketPoolResponse",
    "HTTPSocketResponse",
    "ResponseHeaders",
    "copy",
]

HEADER_STATE_INIT = 0
"""State of a response that is fed: no header field has been parsed."""
HEADER_STATE_FIELD = 1
"""State after the name of a header field."""
HEADER_STATE_VALUE = 2
"""State after the value of a header field."""
HEADER_STATE_DONE = 3
"""State after all header fields."""

_T = TypeVar("_T")


# By the exception of the socket.
_BROKEN: dict[type[BaseException], type[HTTPConnectionClosed]] = {
    BrokenPipeError: HTTPConnectionBroken,
    ConnectionAbortedError: HTTPConnectionAborted,
    ConnectionResetError: HTTPConnectionReset,
}


def _has_broken(error: BaseException) -> bool:
    """Returns True if the network broke the connection, as opposed to an invalid response of the peer."""
    return isinstance(error, tuple(_BROKEN))


def _as_builtin(error: BaseException) -> OSError:
    """Returns the built-in exception for a broken connection, which http.client and urllib3 expose."""
    return OSError(*error.args)


def copy(data: bytes | bytearray | memoryview) -> bytes:
    """Returns a copy of the data as bytes."""
    return bytes(data)


class _Computed(Generic[_T]):
    """A descriptor that computes an attribute on access, and that an instance may override by assignment.

    Existing programs assign to these names, and create responses without running `__init__`: a property would not allow
    the first, and an attribute that `__init__` sets would be missing in the second case.
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
    """Returns a descriptor for an attribute with that value, which may also be assigned; for type checkers it is an
    attribute of the value's type."""
    return cast("_T", _Computed(compute))


class _Line(str):
    """The name of a line, with the value of the same line: see `ResponseHeaders.keys`."""

    __slots__ = ("value",)

    value: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


class _Names(list[_Line]):
    """List of the names of all lines; `in` is case-insensitive."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in {line.lower() for line in self}


class ResponseHeaders:
    """The header lines of a response: iteration yields (name, value) of each line, and lookup is case-insensitive.

        >>> response.headers["content-type"]
        'text/html'
        >>> for name, value in response.headers: ...

    `headers[name]` is a str, or the list of all values if the name has several lines. `dict(headers)` has the names in
    their original spelling, each with the value of its last line. This is not a collections.abc.Mapping, whose
    iteration would yield names.
    """

    __slots__ = ("_begun", "_index")

    def __init__(self, index: Headers) -> None:
        """Makes a view of the fields."""
        self._index = index
        self._begun: Iterator[tuple[str, Any]] | None = None

    def __getitem__(self, name: str) -> Any:
        return name.value if type(name) is _Line else self._index[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Returns `headers[name]`, or `default` if there is no such name."""
        return self._index.get(name, default)

    def __contains__(self, name: object) -> bool:
        """Returns True if there is such a name, or such a line if a tuple (name, value) is given."""
        return name in self._index if isinstance(name, str) else name in self.items()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        begun, self._begun = self._begun, None
        return iter(self._index.items()) if begun is None else begun

    def __next__(self) -> tuple[str, Any]:
        """Returns the next line: this was an iterator once, and existing programs use it as one."""
        if self._begun is None:
            self._begun = iter(self._index.items())
        return next(self._begun)

    def __len__(self) -> int:
        """Returns the number of lines."""
        return len(self.items())

    def items(self) -> list[tuple[str, Any]]:
        """Returns all lines as (name, value)."""
        return list(self._index.items())

    def keys(self) -> list[str]:
        """Returns the name of every line, in its original spelling. `headers[name]` with such a name is the value of
        that line, so that `dict(headers)`, which uses these names, has single values instead of lists."""
        names = _Names()
        for name, value in self._index.items():
            line = _Line(name)
            line.value = value
            names.append(line)
        return cast("list[str]", names)

    def values(self) -> list[Any]:
        """Returns the value of every line."""
        return [value for _, value in self._index.items()]

    def __eq__(self, other: object) -> bool:
        """Returns True if `other`, a view or any mapping, has the same names (in any case) with the same values."""
        return bool(self._index == (other._index if isinstance(other, ResponseHeaders) else other))

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.items()!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return reduce_with_slots(self, protocol)


class HTTPResponse(HTTPResponseParser, StreamMethods):
    """A response that is parsed from the bytes that it is fed: call `feed(data)` until `message_complete`.

    Its body is read like that of other responses, up to the bytes that have been fed. Subclasses override the `_on_*`
    methods. Bytes after `message_complete` raise HTTPProtocolViolationError.
    """

    method: str
    headers_complete: bool
    message_begun: bool
    message_complete: bool
    status_message: str | None
    block_size: int = 4096
    _sent_request: str = ""
    _body_buffer: bytearray
    _stream_pieces: Iterator[bytes]
    _stream_reader: _core.EventReader | _core.LineReader

    def __init__(self, method: str = "GET", headers_type: type[Headers] = Headers) -> None:
        """Makes a response to a request with that method, which determines if it has a body. `headers_type` is the
        class of the header fields."""
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

    # -------------------------------------------------------------------------------------------- status and fields

    @property
    def status_code(self) -> int:
        """The status code; 0 before it has been parsed."""
        return self.get_code()

    @property
    def version(self) -> str:
        """`HTTP/1.1` or `HTTP/1.0`."""
        return self.get_http_version()

    @property
    def content_length(self) -> int | None:
        """The value of Content-Length; None if it is missing, invalid or has more than one line."""
        length = self.get("content-length")
        # For HEAD and 304 the parser does not use it, and has not rejected one with thousands of digits.
        is_number = isinstance(length, str) and length.isascii() and length.isdigit() and len(length) < 1000
        return int(length) if is_number else None

    @property
    def length(self) -> int | None:
        """The same as `content_length`."""
        return self.content_length

    @property
    def headers(self) -> ResponseHeaders:
        """The header lines: `headers["x"]`, `"x" in headers`, and iteration over (name, value). `info()` returns the
        Headers themselves, which may be changed."""
        return ResponseHeaders(self._headers_index)

    def info(self) -> Headers:
        """Returns the header fields, a case-insensitive mapping. Changes to it are kept."""
        return self._headers_index

    def items(self) -> list[tuple[str, Any]]:
        """Returns all header lines as (name, value)."""
        return list(self._headers_index.items())

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the value of a header field, the list of its values if it has several lines, or `default` if it is
        missing."""
        return self._headers_index.get(name, default)

    def __getitem__(self, name: str) -> Any:
        return self._headers_index[name]

    def __contains__(self, name: object) -> bool:
        return name in self._headers_index

    def __bool__(self) -> bool:
        """Returns True, whatever the status."""
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} status={self.status_code} headers={dict(self._headers_index.items())}>"

    def should_close(self) -> bool:
        """Returns True if the connection cannot be reused, or not yet, since the rest of the message has not been read.

        An interim (1xx) response is no reason to close it, whatever its framing fields: it has no body.
        """
        spent = self._trailing_data_dropped or self._is_tunnel()
        is_whole = self.message_complete or self._awaits_final()
        return spent or not is_whole or not self.should_keep_alive()

    # ------------------------------------------------------------------------------------------------------ parsing

    def feed(self, data: str | bytes | bytearray) -> None:
        """Parses the next bytes of the response; b"" marks the end of the connection.

        Bytes after a response to HEAD are dropped, and their connection must not be reused.
        """
        try:
            super().feed(data)
        except HTTPProtocolViolationError:
            if not self.message_complete or self.method != "HEAD":
                raise
            self._trailing_data_dropped = True

    def _on_message_begin(self) -> None:
        if self.message_begun:
            raise HTTPProtocolViolationError("A second response began, and only one was expected.")
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

    def _awaits_final(self) -> bool:
        """Returns True if an interim response has ended, and no further bytes have been parsed."""
        return not self.message_begun and self.get_code() >= 100 and self._is_interim()

    def _on_headers_complete(self) -> bool:
        if self._is_interim():
            # RFC 9110 section 15.2: the final response follows, with fields of its own.
            self._headers_index = self._headers_type()
            self._header_state = HEADER_STATE_INIT
            return False
        self.headers_complete = True
        self._header_state = HEADER_STATE_DONE
        return self.method == "HEAD" or self._is_tunnel()

    def _is_tunnel(self) -> bool:
        """Returns True if the following bytes are not HTTP, since a CONNECT succeeded (RFC 9110 section 9.3.6)."""
        return self.method == "CONNECT" and 200 <= self.get_code() < 300

    def _on_body(self, data: bytearray) -> None:
        self._body_buffer += data

    def _on_message_complete(self) -> None:
        if self._is_interim():
            self.message_begun = False
        else:
            self.message_complete = True

    # --------------------------------------------------------------------------------------------------------- body

    def read(self, length: int | None = None) -> bytes:
        """Reads at most `length` bytes of the body that has been fed, or all of it. Returns b"" if there are none."""
        buffer = self._body_buffer
        data = bytes(buffer if length is None or length < 0 else buffer[:length])
        del buffer[: len(data)]
        return data

    def readline(self, sep: bytes = b"\r\n") -> bytes:
        """Reads the body that has been fed up to and including the separator; all of it if there is no separator."""
        end = self._body_buffer.find(sep)
        return self.read(None if end < 0 else end + len(sep))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """Returns the next `block_size` bytes of the body, or fewer at its end."""
        data = self.read(self.block_size)
        if not data:
            raise StopIteration
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Does nothing, since there is no connection."""

    def _is_attached(self) -> bool:
        return not self.message_complete

    def _read_available(self, length: int) -> bytes:
        return self.read(length)

    def _pieces(self) -> Iterator[bytes]:
        found: Iterator[bytes] | None = self.__dict__.get("_stream_pieces")
        coding = self.get("content-encoding")
        # More may have been fed since an iterator ended.
        if found is None or not (coding or reads_by_engine(self)):
            received = pieces(weakref.ref(self))
            found = decoded_pieces(received, ", ".join(coding) if isinstance(coding, list) else coding)
            self._stream_pieces = found
        return found

    def _content_type(self) -> str:
        content_type = self.get("content-type")
        return content_type[-1] if isinstance(content_type, list) else content_type or ""

    def _shown_url(self) -> str | None:
        return url_of_head(self._sent_request, self.tls is not None)

    @property
    def trailers(self) -> Headers:
        """The trailer fields after a chunked body: always empty, since a response that is fed drops them."""
        return Headers()

    @property
    def timings(self) -> Timings:
        """The default timings, since a response that is fed uses no network."""
        return Timings()

    @property
    def tls(self) -> TLSInfo | None:
        """None, since there is no connection."""
        return None


# The methods that read, or that access the state of the parser. The engine has its own for a response of a connection.
_OF_WHAT_IS_FED = (
    "get_code",
    "get_http_version",
    "get_remaining_content_length",
    "should_keep_alive",
    "should_close",
    "read",
    "readline",
    "get",
    "_is_attached",
    "_read_available",
)


_engine_buffer: Any = ResponseBase._body_buffer


class HTTPSocketResponse(ResponseBase, HTTPResponse):
    """A response whose body is read from a connection, like a file.

    Created from a socket, it reads the head immediately, and waits in the same way as the socket. `with response:`
    releases it at the end of the block.
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
        """Reads the head from a socket (any object with `recv(n)`) on which the request was sent. `pre_buffered` are
        bytes that have been read from it already."""
        self._given = (sock, block_size, method.upper(), headers_type, bytes(pre_buffered))
        self._read_headers()

    def _read_headers(self, pre_buffered: bytes | None = None) -> None:
        sock, block_size, method, headers_type, given = self._given
        pre_buffered = given if pre_buffered is None else pre_buffered
        try:
            self._read_head_from(sock, pre_buffered, block_size, method, headers_type)
        except BaseException as error:
            sock.close()
            kind = _BROKEN.get(type(error))
            if kind is not None:
                raise kind(*error.args) from error
            raise

    def release(self) -> None:
        """Returns the connection to the pool if the body has been read to its end; else closes it, or the given socket.

        If another greenlet waits for the body, a ConnectionAbortedError is raised there."""
        unread = self._is_attached()
        super().release()
        if unread and "_given" in self.__dict__:
            self._given[0].close()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled or copied, because it reads from a connection: keep its "
            "status_code, info() and read(), or use a Session, whose responses can be"
        )

    def _extra(self, index: int, default: Any) -> Any:
        extras = self._extras()
        return default if extras is None else extras[index]

    # Existing programs read and assign these attributes.
    method: str = computed(lambda self: self._extra(0, "GET"))
    block_size: int = computed(lambda self: self._extra(2, self.DEFAULT_BLOCK_SIZE))
    headers_complete: bool = computed(ResponseBase._has_head)
    message_begun: bool = computed(ResponseBase._has_head)
    message_complete: bool = computed(ResponseBase._is_complete)
    status_message: str | None = computed(ResponseBase._reason)
    _sent_request: str = computed(ResponseBase._request_head)

    @computed
    def _sock(self) -> Any:
        """The source of the body; None if the response no longer holds it."""
        if not self._is_attached():
            return None
        return self._given[0] if "_given" in self.__dict__ else self._extra(1, None)

    @computed
    def _headers_index(self) -> Headers:
        """The header fields, which are converted to Python objects on the first access."""
        headers_type = self._extra(3, Headers)
        pairs = self._pairs()
        index: Headers = headers_type._from_pairs(pairs) if issubclass(headers_type, Headers) else headers_type(pairs)
        self.__dict__["_headers_index"] = index
        return index

    @property
    def trailers(self) -> Headers:
        """The trailer fields after a chunked body, available after that has been read (RFC 9110 section 6.5)."""
        return Headers._from_pairs(self._trailers())

    @property
    def timings(self) -> Timings:
        """The times of the request's steps so far; the default timings before the head has been received."""
        return timings_of(self)

    @property
    def tls(self) -> TLSInfo | None:
        """The result of the TLS handshake of its connection; None for plain http."""
        facts = self._tls_facts()
        return None if facts is None else TLSInfo(*facts)

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the value of a header field, the list of its values if it has several lines, or `default` if it is
        missing."""
        index = self.__dict__.get("_headers_index")
        return self._field(name, default) if index is None else index.get(name, default)

    def feed(self, data: str | bytes | bytearray) -> None:
        """Parses the next bytes of a response that has not read a head from a connection, for example because its
        `_read_headers` is overridden. Raises TypeError for any other."""
        if "_header_state" not in self.__dict__:
            if self._has_head():
                raise TypeError(f"{type(self).__name__} reads from its connection and cannot be fed")
            self._be_fed()
        HTTPResponse.feed(self, data)

    def _be_fed(self) -> None:
        _, block_size, method, headers_type, _ = self.__dict__.get("_given") or (None, 4096, "GET", Headers, b"")
        set_before = {"block_size": block_size, "_fed": bytearray(), **self.__dict__}
        HTTPResponse.__init__(self, method, headers_type)
        self.__dict__.update(set_before)
        for name in _OF_WHAT_IS_FED:
            if getattr(type(self), name) is getattr(HTTPSocketResponse, name):  # not if a subclass overrides it
                setattr(self, name, MethodType(getattr(HTTPResponse, name), self))

    @property
    def _body_buffer(self) -> bytearray:
        """Bytes of the body that were received but not read. Bytes that are added to this bytearray are read first."""
        fed: bytearray | None = self.__dict__.get("_fed")
        return _engine_buffer.__get__(self) if fed is None else fed

    @_body_buffer.setter
    def _body_buffer(self, buffer: bytearray) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self._has_head():
            _engine_buffer.__set__(self, buffer)
            return
        if "_header_state" not in self.__dict__:
            self._be_fed()
        self._fed = buffer

    def should_close(self) -> bool:
        """Returns True if the connection cannot be reused, or not yet, since the rest of the body has not been read."""
        return not self.message_complete or not self.should_keep_alive()


class HTTPSocketPoolResponse(HTTPSocketResponse):
    """A response of a client. Its connection returns to the pool when the last byte of the body has been read.

    If the response is released or dropped before that, the connection is closed.
    """

    def __init__(self, sock: Any, pool: ConnectionPool | None, **kw: Any) -> None:
        """Reads the head from a socket that the program provides; a client creates its responses without this."""
        self._given_pool = pool
        super().__init__(sock, **kw)

    @computed
    def _pool(self) -> ConnectionPool | None:
        """The pool that the connection will be returned to; None after that."""
        if not self._is_attached():
            return None
        pool: ConnectionPool | None = self.__dict__.get("_given_pool") or self._extra(1, None)
        return pool
