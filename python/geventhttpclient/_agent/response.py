"""An agent's response, with the interface of urllib's."""

from __future__ import annotations

import copyreg
import datetime
import io
import time
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from geventhttpclient import _core
from geventhttpclient._agent import of_useragent
from geventhttpclient._agent.request import CompatRequest
from geventhttpclient._internal import charsets
from geventhttpclient._internal.decoding import decoded_pieces
from geventhttpclient._internal.pickling import KeptResponse
from geventhttpclient._internal.reading import READ_SIZE, pieces, reads_by_engine
from geventhttpclient._internal.streams import StreamMethods
from geventhttpclient.header import parse_content_type_charset
from geventhttpclient.response import HTTPResponse, HTTPSocketResponse, computed
from geventhttpclient.timings import Timings

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from geventhttpclient._core import EventReader, LineReader
    from geventhttpclient.header import Headers
    from geventhttpclient.tls import TLSInfo


__all__ = ["CompatResponse"]


def is_over(response: Any) -> bool:
    """Returns True if a body has been received to its end, or was released."""
    if reads_by_engine(response):
        return not response._is_attached()
    return bool(getattr(response, "message_complete", True))


def field_of(response: CompatResponse, name: str) -> Any:
    """Returns the value of a field: None, a str, or a list of str if there are several lines.

    Uses only `headers` of a response that was not created by this package.
    """
    inner: Any = getattr(response, "_response", None)
    return inner.get(name) if issubclass(type(inner), HTTPResponse) else response.headers.get(name)


@of_useragent
class CompatResponse(StreamMethods):
    """A response of an agent. `content` is the whole body with its content coding decoded; `read` does not decode."""

    __slots__ = (
        "_cached_content",
        "_elapsed",
        "_headers",
        "_history",
        "_read_ahead",
        "_request",
        "_response",
        "_sent",
        "_stream_pieces",
        "_stream_reader",
    )

    _response: HTTPSocketResponse
    _request: CompatRequest | None
    _elapsed: float
    _history: list[CompatResponse]
    _cached_content: bytes
    _read_ahead: io.BytesIO | None
    _headers: Headers
    _sent: str
    _stream_pieces: Iterator[bytes]
    _stream_reader: EventReader | LineReader

    def __init__(
        self,
        ghc_response: HTTPSocketResponse,
        request: CompatRequest | None = None,
        sent_request: str | None = None,
    ) -> None:
        """Wraps a response of HTTPClient. `sent_request` is the head of the request as text."""
        self._response = ghc_response
        self._request = request
        self._history = []
        if sent_request is not None:
            self._sent_request = sent_request
        if type(self).headers is not _HEADERS:
            # A subclass that overrides the property finds the value in its `__dict__`.
            self.headers = ghc_response._headers_index

    def __copy__(self) -> Self:
        # The copy shares the connection, unlike a pickle, for which the body is read.
        clone = object.__new__(type(self))
        attributes, slots = _state_of(self)
        if attributes:
            clone.__dict__.update(attributes)
        for name, value in slots.items():
            object.__setattr__(clone, name, value)
        return clone

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Reads the body, since pickles and deep copies contain it, and have no connection."""
        inner = getattr(self, "_response", None)
        if inner is not None:
            if inner.message_complete or getattr(inner, "_is_attached", bool)():
                self.content  # noqa: B018
            inner = KeptResponse.of(inner)
        attributes, slots = _state_of(self)
        attributes.pop("_file", None)  # the partly decoded body of a Session's response; the rest is in `content`
        for part in (attributes, slots):
            part.pop("_read_ahead", None)  # its bytes are in the content
            part.pop("_stream_pieces", None)
            part.pop("_stream_reader", None)
            if "_response" in part:
                part["_response"] = inner
        # None for no attributes: the class may have no __dict__.
        return copyreg.__newobj__, (type(self),), (attributes or None, slots)  # type: ignore[attr-defined]

    @property
    def headers(self) -> Headers:
        """The header fields, which are converted to Python objects on the first access."""
        try:
            return self._headers
        except AttributeError:
            self._headers = headers = self._response._headers_index
            return headers

    @headers.setter
    def headers(self, headers: Any) -> None:
        self._headers = headers

    @property
    def _sent_request(self) -> str:
        try:
            return self._sent
        except AttributeError:
            return getattr(self._response, "_sent_request", "")

    @_sent_request.setter
    def _sent_request(self, text: str) -> None:
        self._sent = text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    @property
    def status_code(self) -> int:
        """The status code."""
        return self._response.get_code()

    @computed
    def url(self) -> str:
        """The URL of the response, after redirects; "" if it was created without a request."""
        request = getattr(self, "_request", None)
        return "" if request is None else request.url

    @property
    def elapsed(self) -> datetime.timedelta:
        """Time from the request to the response's head."""
        return datetime.timedelta(seconds=getattr(self, "_elapsed", 0))

    @property
    def history(self) -> list[CompatResponse]:
        """The redirects that led to this response, in order."""
        # A subclass may copy the `__dict__` of another response, without its slots: locust's does.
        return getattr(self, "_history", [])

    @property
    def timings(self) -> Timings:
        """The times of the steps of the last request, after redirects (see geventhttpclient.timings)."""
        timings: Timings = getattr(self._response, "timings", None) or Timings()
        return timings

    @property
    def tls(self) -> TLSInfo | None:
        """The result of the TLS handshake of its connection; None for plain http."""
        return getattr(self._response, "tls", None)

    def __len__(self) -> int:
        """Returns the value of Content-Length; 0 if there is none."""
        return self._response.length or 0

    def __bool__(self) -> bool:
        """Returns True, whatever the status and the length."""
        return True

    def info(self) -> Headers:
        """Returns the header fields."""
        return self.headers

    def __iter__(self) -> Iterator[bytes]:
        if self._held():
            size = getattr(self._response, "block_size", READ_SIZE)
            return iter(lambda: CompatResponse.read(self, size), b"")
        return iter(self._response)

    def read(self, n: int | None = None) -> bytes:
        """Reads the next `n` bytes of the body, or the rest without `n`; does not decode the content coding."""
        if self._drained is None:
            return self._response.read(n)
        if n is None or n < 0:
            return self._take() + self._response.read(n)
        held = self._take(n)
        return held if len(held) == n else held + self._response.read(n - len(held))

    def readline(self) -> bytes:
        """Reads the next line of the body, without decoding the content coding. Returns b"" at the end."""
        held = self._drained
        if held is None:
            return self._readline()
        line: bytes = held.readline()
        if line.endswith(b"\n"):
            return line
        self._hold(b"")
        return line + self._readline()

    def _readline(self) -> bytes:
        inner = self._response
        return inner.readline(b"\n") if issubclass(type(inner), HTTPResponse) else inner.readline()

    @property
    def _drained(self) -> io.BytesIO | None:
        """The beginning of the body, if it was read ahead: kept with the engine's response, which two objects may share
        (locust makes another one of the attributes of the first), or here if that has no attributes."""
        return getattr(self._response, "_read_ahead", None) or getattr(self, "_read_ahead", None)

    @_drained.setter
    def _drained(self, beginning: io.BytesIO | None) -> None:
        inner: Any = self._response
        try:
            inner._read_ahead = beginning
        except AttributeError:
            self._read_ahead = beginning

    def _held(self) -> bytes:
        """Returns the beginning of the body, if it was read ahead."""
        held = self._drained
        return b"" if held is None else held.getvalue()[held.tell() :]

    def _hold(self, beginning: bytes) -> None:
        """Keeps the beginning of the body for the next read."""
        # A BytesIO: reading a part of it does not copy the rest.
        self._drained = io.BytesIO(beginning) if beginning else None

    def _take(self, n: int = -1) -> bytes:
        """Takes the next `n` bytes that are held, or fewer at their end."""
        held = self._drained
        if held is None:
            return b""
        taken: bytes = held.read(n)
        if n < 0 or len(taken) < n:
            self._drained = None
        return taken

    def _look(self, most: int, seconds: float) -> bool:
        """Reads the beginning of the body ahead. Returns True if that is the whole body, whose connection is free then.

        Reads at most `most` bytes, and starts no further wait after `seconds`.
        """
        inner = self._response
        if not issubclass(type(inner), _core.ResponseBase):
            return True  # it has no connection
        pieces = [self._held()]
        length = len(pieces[0])
        self._hold(b"")  # after an error nothing is held
        # A wait is not interrupted: after that, the body could not be read any more.
        end = time.monotonic() + seconds
        while length < most and time.monotonic() < end and (piece := inner._read_available(most - length)):
            pieces.append(piece)
            length += len(piece)
        is_whole = not inner._is_attached()
        if is_whole:
            # The bytes that arrived with the last piece; read by the engine as well, if a subclass overrides `read`.
            pieces.append(_core.ResponseBase.read(inner))
        self._hold(b"".join(pieces))
        return is_whole

    def _seen(self, is_whole: bool) -> bytes:
        """Returns the part of `content` that `_look` has read, with at most as many bytes as were read unless it is the
        whole. All of it remains to be read."""
        if hasattr(self, "_cached_content") or not reads_by_engine(self._response):
            return self.content
        held = self._held()
        coding = field_of(self, "content-encoding")
        if not coding or not held:
            return held
        if is_whole:
            return _core.decode(_listed(coding), held)
        return _core.Decoder(_listed(coding)).feed_part(held, 0, len(held))[0]

    def release(self) -> None:
        """Returns the connection to the pool, or closes it if the body was not received to its end: then no more of it
        can be read."""
        if not is_over(self._response):
            self._hold(b"")
        self._response.release()

    def unzipped(self, gzip: bool = True, br: bool = False) -> bytes:
        """Returns the rest of the body, decoded with that coding; with deflate if neither is True."""
        coding = "br" if br else "gzip" if gzip else "deflate"
        return _core.decode(coding, CompatResponse.read(self))

    @property
    def content(self) -> bytes:
        """The whole body, with its content coding decoded. An unknown coding is kept."""
        try:
            return self._cached_content
        except AttributeError:
            self._cached_content = content = self._content()
            return content

    def _content(self) -> bytes:
        response = self._response
        held = self._take()
        rest = response.read()
        body = held + rest if held else rest
        is_ours = issubclass(type(response), HTTPResponse)
        coding = response.get("content-encoding") if is_ours else field_of(self, "content-encoding")
        # A response to HEAD, a 204 or a 304 may have the field without a body.
        if not coding or not body:
            return body
        try:
            return _core.decode(_listed(coding), body)
        except zlib.error:
            self._hold(body)  # another access raises the same error, and does not return an empty body
            raise

    @property
    def text(self) -> str | bytes:
        """The content, decoded to a str if its type is a text type, else as bytes.

        It is decoded with the charset of Content-Type, or as UTF-8 if that is missing or unknown. The known charsets
        are those of browsers and of Python. Invalid bytes are replaced.
        """
        content_type = self._content_type()
        charset = parse_content_type_charset(content_type)
        if charset is None and content_type and not _is_text(content_type):
            return self.content
        return self.content.decode(charsets.known(charset) or "utf_8", "replace")

    def _content_type(self) -> str:
        content_type = field_of(self, "content-type")
        return content_type[-1] if isinstance(content_type, list) else content_type or ""

    def json(self) -> Any:
        """Returns the content decoded as JSON: UTF-8, UTF-16 or UTF-32 (RFC 8259), or the charset of Content-Type if it
        is none of these. Raises ValueError if the content is not valid JSON."""
        charset = parse_content_type_charset(self._content_type())
        return charsets.parse_json(self.content, charsets.known(charset))

    def _pieces(self) -> Iterator[bytes]:
        found: Iterator[bytes] | None = getattr(self, "_stream_pieces", None)
        if found is not None:
            return found
        if hasattr(self, "_cached_content"):
            found = iter([self._cached_content] if self._cached_content else [])
        else:
            inner = self._response
            held = self._take()
            coding = field_of(self, "content-encoding")
            received = chain([held] if held else [], pieces(lambda: inner))
            found = decoded_pieces(received, _listed(coding) if coding else None)
        # It does not refer to this response, which is released at once when it is dropped.
        self._stream_pieces = found
        return found

    def _shown_url(self) -> str | None:
        url = self.url
        return _core.redact(str(url)) if url else None

    @property
    def status(self) -> str:
        """The status code as text."""
        return str(self.status_code)

    @property
    def data(self) -> bytes:
        """The content."""
        return self.content

    @property
    def stream(self) -> HTTPSocketResponse:
        """The response of HTTPClient, for reading the body piece by piece."""
        return self._response

    def isclosed(self) -> bool:
        """Returns True if the body has been received to its end, or was released."""
        return is_over(self._response)


_HEADERS = CompatResponse.headers


def _state_of(response: CompatResponse) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the contents of the `__dict__` of a response, and of its slots."""
    state: Any = object.__reduce_ex__(response, 2)[2]
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    return dict(attributes or {}), dict(slots or {})


def _listed(value: str | list[str]) -> str:
    """Joins the lines of a list-based field to one list (RFC 9110 section 5.3)."""
    return value if isinstance(value, str) else ", ".join(value)


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return not kind or kind.startswith("text/") or kind.endswith(("json", "xml", "javascript", "x-www-form-urlencoded"))
