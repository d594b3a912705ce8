"""An agent's response, which looks like one of urllib's."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from geventhttpclient import _charsets, _core
from geventhttpclient.compat_errors import _of_useragent
from geventhttpclient.compat_request import CompatRequest
from geventhttpclient.header import parse_content_type_charset
from geventhttpclient.response import HTTPSocketResponse

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from geventhttpclient.header import Headers
    from geventhttpclient.timings import Timings
    from geventhttpclient.tls import TLSInfo


__all__ = ["CompatResponse"]


@_of_useragent
class CompatResponse:
    """A response of an agent. `content` is the whole body, with its content coding taken off; `read` is as it came."""

    __slots__ = ("_cached_content", "_drained", "_elapsed", "_headers", "_history", "_request", "_response", "_sent")

    _response: HTTPSocketResponse
    _request: CompatRequest | None
    _elapsed: float
    _history: list[CompatResponse]
    _cached_content: bytes
    _drained: bytes
    _headers: Headers
    _sent: str

    def __init__(
        self,
        ghc_response: HTTPSocketResponse,
        request: CompatRequest | None = None,
        sent_request: str | None = None,
    ) -> None:
        """Around a response of HTTPClient. `sent_request` is the head of the request as text."""
        self._response = ghc_response
        self._request = request
        self._history = []
        if sent_request is not None:
            self._sent_request = sent_request
        if type(self).headers is not _HEADERS:
            # A subclass has put something else in its place: it wants to find the value in its `__dict__`.
            self.headers = ghc_response._headers_index

    @property
    def headers(self) -> Headers:
        """The header fields, which become Python objects when they are first asked for."""
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
            return self._response._sent_request

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

    @property
    def elapsed(self) -> datetime.timedelta:
        """From the request to the response's head."""
        return datetime.timedelta(seconds=getattr(self, "_elapsed", 0))

    @property
    def history(self) -> list[CompatResponse]:
        """The redirects that led here, the first one first."""
        return self._history

    @property
    def timings(self) -> Timings:
        """How long the last of its requests took, step by step (see geventhttpclient.timings)."""
        timings: Timings = self._response.timings
        return timings

    @property
    def tls(self) -> TLSInfo | None:
        """What the TLS handshake of its connection has come to, None for plain http."""
        return self._response.tls

    def __len__(self) -> int:
        """What Content-Length says; 0 where there is none."""
        return self._response.content_length or 0

    def __bool__(self) -> bool:
        """A response is true, whatever its status and its length."""
        return True

    def info(self) -> Headers:
        """The header fields."""
        return self.headers

    def __iter__(self) -> Iterator[bytes]:
        if self._held():
            return iter(lambda: CompatResponse.read(self, self._response.block_size), b"")
        return iter(self._response)

    def read(self, n: int | None = None) -> bytes:
        """The next `n` bytes of the body as they came; all that is left without `n`."""
        held = self._held()
        if not held or not self._response._is_attached():
            return self._response.read(n)
        if n is None or n < 0:
            self._drained = b""
            return held + self._response.read(n)
        self._drained = held[n:]
        return held[:n] if n <= len(held) else held + self._response.read(n - len(held))

    def readline(self) -> bytes:
        """The next line of the body as it came; b"" at its end."""
        held = self._held()
        if not held or not self._response._is_attached():
            return self._response.readline(b"\n")
        end = held.find(b"\n") + 1
        self._drained = held[end:] if end else b""
        return held[:end] if end else held + self._response.readline(b"\n")

    def _held(self) -> bytes:
        """The beginning of the body where that was read before it was asked for."""
        return getattr(self, "_drained", b"")

    def _look(self, most: int, seconds: float) -> bool:
        """Reads the beginning of the body, which stays to be asked for; whether that is all of it.

        The connection is free then. At most `most` bytes are read, and no more is waited for after `seconds`.
        """
        inner = self._response
        pieces = [self._held()]
        length = len(pieces[0])
        self._drained = b""  # what breaks off is not the beginning of anything
        # A wait is not cut short: a body whose reading was interrupted cannot be read any more.
        end = time.monotonic() + seconds
        while length < most and time.monotonic() < end and (piece := inner._read_available(most - length)):
            pieces.append(piece)
            length += len(piece)
        self._drained = b"".join(pieces)
        return not inner._is_attached()

    def _beginning(self) -> bytes:
        """As `content`, of as much of the body as `_look` has read, and no longer than that."""
        held = self._held()
        coding = self._response.get("content-encoding")
        return _core.Decoder(_listed(coding)).feed_part(held, 0, len(held))[0] if coding else held

    def release(self) -> None:
        """Gives the connection back, or closes it when the body was not read to its end."""
        self._response.release()

    def unzipped(self, gzip: bool = True, br: bool = False) -> bytes:
        """What is left of the body, with that coding taken off; deflate with neither."""
        coding = "br" if br else "gzip" if gzip else "deflate"
        return _core.decode(coding, CompatResponse.read(self))

    @property
    def content(self) -> bytes:
        """The whole body, with its content coding taken off. An unknown coding stays."""
        try:
            return self._cached_content
        except AttributeError:
            self._cached_content = content = self._content()
            return content

    def _content(self) -> bytes:
        response = self._response
        held = self._held()
        rest = response.read()
        body = held + rest if held else rest
        coding = response.get("content-encoding")
        # A HEAD, a 204 or a 304 may well have the field, and no body to go with it.
        return _core.decode(_listed(coding), body) if coding and body else body

    @property
    def text(self) -> str | bytes:
        """The content as text where its type says that it is one, else in bytes.

        It is decoded by the charset that Content-Type declares, by UTF-8 if that is none of the known ones (those of
        browsers and of Python). Bytes that are not text in it are replaced.
        """
        content_type = self._response.get("content-type")
        content_type = content_type[-1] if isinstance(content_type, list) else content_type or ""
        charset = parse_content_type_charset(content_type)
        if charset is None and content_type and not _is_text(content_type):
            return self.content
        return self.content.decode(_charsets.known(charset) or "utf_8", "replace")

    def json(self) -> Any:
        """The content read as JSON. ValueError when it is none."""
        return json.loads(self.content)

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
        """The body to be read as it comes."""
        return self._response

    def isclosed(self) -> bool:
        """Whether the body has come in to its end, or was given up."""
        return not self._response._is_attached()


_HEADERS = CompatResponse.headers


def _listed(value: str | list[str]) -> str:
    """Several lines of a field that is a list are one list (RFC 9110 section 5.3)."""
    return value if isinstance(value, str) else ", ".join(value)


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return not kind or kind.startswith("text/") or kind.endswith(("json", "xml", "javascript", "x-www-form-urlencoded"))
