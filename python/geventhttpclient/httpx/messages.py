"""Timeouts, requests and responses."""

from __future__ import annotations

import copy
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from geventhttpclient import _core
from geventhttpclient._agent.response import field_of
from geventhttpclient._internal import charsets
from geventhttpclient._internal.argument_errors import check_body, check_mapping, did_you_mean_url, json_text
from geventhttpclient._internal.decoding import decoded
from geventhttpclient._internal.reading import read_available
from geventhttpclient._internal.slots import reduce_with_slots
from geventhttpclient._internal.validation import check_seconds
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.auth import credentials_of
from geventhttpclient.cookies import add_cookies, jar_of
from geventhttpclient.header import Headers, parse_content_type_charset
from geventhttpclient.httpx.errors import HTTPStatusError, InvalidURL, StreamConsumed, UnsupportedProtocol
from geventhttpclient.httpx.errors import raise_translated as _raise_translated
from geventhttpclient.httpx.urls import remove_dot_segments
from geventhttpclient.multipart import Multipart
from geventhttpclient.requests import RequestsResponse, _cut, _piece_size
from geventhttpclient.url import URL
from geventhttpclient.useragent import CompatRequest, UnrewoundBodyError

if TYPE_CHECKING:
    from typing_extensions import Self

    from geventhttpclient._agent.request import FilesInput, Payload
    from geventhttpclient.client import Timeouts
    from geventhttpclient.cookies import CookiesInput
    from geventhttpclient.header import HeadersDataType
    from geventhttpclient.response import HTTPSocketResponse
    from geventhttpclient.url import ParamsDataType

_UNSET: Any = object()

# Maximum bytes of one read, unless the caller gives a number.
_PIECE = 64 * 1024


class Timeout:
    """The timeouts of a request in seconds; None waits forever.

    `connect` limits opening a connection, from the resolver to TLS; `read` and `write` limit each wait for the peer;
    `pool` limits the wait for a free connection. For a request with a body and its response, the longer one of `read`
    and `write` applies; without a body, `read`.
    """

    __slots__ = ("connect", "pool", "read", "write")

    def __init__(
        self,
        timeout: Any = _UNSET,
        *,
        connect: float | None = _UNSET,
        read: float | None = _UNSET,
        write: float | None = _UNSET,
        pool: float | None = _UNSET,
    ) -> None:
        """`timeout` is a number for all four, another Timeout, or a tuple: (connect, read, write, pool), or (connect,
        read), where `read` is used for `write` too and `pool` is None. The other arguments override its values.

        Raises ValueError or TypeError that names an argument that is missing, or not a number of seconds.
        """
        if isinstance(timeout, Timeout):
            base: tuple[Any, ...] = (timeout.connect, timeout.read, timeout.write, timeout.pool)
        elif isinstance(timeout, tuple):
            if len(timeout) not in (2, 4):
                raise ValueError(f"timeout must be a number, or a tuple of two or four, not of {len(timeout)}")
            base = timeout if len(timeout) == 4 else (*timeout, timeout[1], None)
        else:
            base = (timeout,) * 4
        given = {"connect": connect, "read": read, "write": write, "pool": pool}
        for default, (name, own) in zip(base, given.items(), strict=True):
            value = default if own is _UNSET else own
            if value is _UNSET:
                raise ValueError(f"timeout must be given, or each of connect, read, write and pool: {name} is missing")
            setattr(self, name, check_seconds("timeout" if own is _UNSET else name, value))

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return reduce_with_slots(self, protocol)

    def as_dict(self) -> dict[str, float | None]:
        """Returns the four values by name."""
        return {"connect": self.connect, "read": self.read, "write": self.write, "pool": self.pool}

    def _for_client(self, has_body: bool) -> Timeouts:
        """Returns the timeouts as arguments of HTTPClient.request."""
        network = self.read
        if has_body and network is not None:
            network = None if self.write is None else max(network, self.write)
        return {"connection_timeout": self.connect, "network_timeout": network, "pool_timeout": self.pool}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timeout) and self.as_dict() == other.as_dict()

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.as_dict().items())
        return f"{type(self).__name__}({values})"


class Request(CompatRequest):
    """A request that is ready to be sent, and may still be changed.

    It has `method`, `url` (text), `url_split` (a URL), `headers`, `content` and `extensions`, in which "timeout" is a
    Timeout or an argument for one.
    """

    extensions: dict[str, Any]
    _credentials: tuple[str | bytes, str | bytes] | None = None

    def __init__(
        self,
        method: str,
        url: str | URL,
        *,
        params: ParamsDataType | None = None,
        headers: HeadersDataType | None = None,
        cookies: CookiesInput = None,
        content: Payload = None,
        data: Payload = None,
        files: FilesInput | None = None,
        json: Any = None,
        extensions: dict[str, Any] | None = None,
    ) -> None:
        """Takes at most one of `content` (bytes, text, a file or an iterable), `json`, and `data` (form fields) with or
        without `files`. Raises ValueError for more than one, UnsupportedProtocol and InvalidURL for invalid URLs, and
        TypeError or ValueError for other invalid arguments.
        """
        check_mapping("extensions", extensions, '{"timeout": 5}')
        fields = Headers(headers)
        payload, content_type = _encode(content, data, files, json)
        if content_type is not None:
            fields.setdefault("Content-Type", content_type)
        shown = _core.redact(str(url))
        try:
            super().__init__(url, method, fields, payload, params)
        except ValueError as error:
            if params is not None and _are_invalid(params):
                raise
            raise InvalidURL(f"not a URL: {shown!r}: {error}") from error
        meant = "" if self.url_split.host and self.type in ("http", "https") else did_you_mean_url(str(url))
        if self.type not in ("http", "https"):
            text = f"the URL must begin with http:// or https://: {shown!r}{meant}"
            raise UnsupportedProtocol(text, request=self)
        if not self.url_split.host:
            raise UnsupportedProtocol(f"a URL without a host: {shown!r}{meant}", request=self)
        length = payload.length if isinstance(payload, Multipart) else _length_of(payload)
        if length is not None and "transfer-encoding" not in fields and "content-length" not in fields:
            self._count(length)
        plain = remove_dot_segments(self.url_split)
        if plain is not self.url_split:
            self.set_url(plain)
        if "@" in self.url_split.netloc:
            # Removed from the URL, which is shown in errors and logs.
            split = copy.copy(self.url_split)
            self._credentials = credentials_of(split)
            split.netloc = split.netloc.rpartition("@")[2]
            self.set_url(split)
        self.extensions = {} if extensions is None else dict(extensions)
        if cookies:
            add_cookies(jar_of(cookies, self.url_split.host, self.type == "https"), self)

    def read(self) -> bytes:
        """Returns the body, and keeps it in memory."""
        payload = self.payload
        if payload is None:
            return b""
        if isinstance(payload, str):
            payload = payload.encode()
        elif not isinstance(payload, bytes):
            if hasattr(payload, "read"):
                payload = payload.read()
                payload = payload.encode() if isinstance(payload, str) else payload
            elif isinstance(payload, (bytearray, memoryview)):
                payload = bytes(payload)
            else:
                payload = b"".join(piece.encode() if isinstance(piece, str) else bytes(piece) for piece in payload)
        self.payload = payload
        return bytes(payload)

    @property
    def content(self) -> bytes:
        """The body; see `read`."""
        return self.read()

    def redirect(self, code: int, location: str) -> None:
        """Changes this request into the one that follows a redirect. Raises StreamConsumed if its body cannot be sent
        again."""
        self._credentials = None
        try:
            super().redirect(code, location)
        except UnrewoundBodyError as error:
            raise StreamConsumed("a redirect needs the body again, which can be read only once") from error

    def _after_redirect(self, code: int) -> tuple[str, bool]:
        method = self.method
        # As in httpx: the body is kept if the method is.
        if method != "HEAD" and (code in (302, 303) or (code == 301 and method == "POST")):
            method = "GET"
        return method, method == self.method

    def __repr__(self) -> str:
        return f"<Request({self.method!r}, {_core.redact(self.url)!r})>"


def _are_invalid(params: ParamsDataType) -> bool:
    """Returns True if no URL can be built with these params."""
    try:
        URL("", params=params)
    except (TypeError, ValueError):
        return True
    return False


def _length_of(payload: Any) -> int | None:
    if isinstance(payload, str):
        return len(payload.encode())
    return len(payload) if isinstance(payload, bytes) else None


def _encode(content: Payload, data: Payload, files: Any, json: Any) -> tuple[Any, str | None]:
    """Returns the body to send and its Content-Type."""
    check_body("content", content)
    check_body("data", data)
    if data is not None and content is None and not isinstance(data, Mapping) and not files:
        # httpx still accepts bytes or text as `data`.
        is_pairs = isinstance(data, (list, tuple)) and all(isinstance(pair, tuple) for pair in data)
        if not is_pairs:
            content, data = data, None
    if sum((content is not None, json is not None, bool(data) or bool(files))) > 1:
        raise ValueError("a request has one body: pass only one of content, json, and data with files")
    if content is not None:
        return content or None if isinstance(content, (str, bytes)) else content, None
    if json is not None:
        text = json_text(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode(), "application/json"
    if files:
        form = Multipart(data, files)
        return form, form.content_type
    if data:
        return urlencode(data, doseq=True).encode(), "application/x-www-form-urlencoded"
    return None, None


class Response(RequestsResponse):
    """A response. Its body is `content` or `text`, or can be read once in pieces with the `iter_` methods."""

    default_encoding: str = "utf-8"
    next_request: Request | None = None
    """The request that would follow a redirect, if it was not followed."""
    extensions: dict[str, Any]
    _num_bytes_downloaded = 0
    _is_consumed = False

    def __init__(
        self,
        ghc_response: HTTPSocketResponse,
        request: CompatRequest | None = None,
        sent_request: str | None = None,
    ) -> None:
        """Wraps a response of HTTPClient."""
        super().__init__(ghc_response, request, sent_request)
        self.extensions = {}

    def __repr__(self) -> str:
        return f"<Response [{self.status_code} {self.reason_phrase}]>"

    # ---------------------------------------------------------------------------------------------------- its head

    @property
    def request(self) -> CompatRequest:
        """The request that it answers. Raises RuntimeError if there is none."""
        if self._request is None:
            raise RuntimeError("the response was made without a request")
        return self._request

    @property
    def url(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The URL of the request."""
        return self.request.url

    @property
    def reason_phrase(self) -> str:
        """The reason phrase, or the standard one of the status code if the response has none."""
        code = self.status_code
        usual = HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else ""
        return self.reason or usual

    @property
    def http_version(self) -> str:
        """`HTTP/1.0`, `HTTP/1.1` or `HTTP/2`."""
        return self._response.get_http_version()

    @property
    def is_informational(self) -> bool:
        """True for a status code of 1xx."""
        return 100 <= self.status_code < 200

    @property
    def is_success(self) -> bool:
        """True for a status code of 2xx."""
        return 200 <= self.status_code < 300

    @property
    def is_redirect(self) -> bool:
        """True for a status code of 3xx."""
        return 300 <= self.status_code < 400

    @property
    def is_client_error(self) -> bool:
        """True for a status code of 4xx."""
        return 400 <= self.status_code < 500

    @property
    def is_server_error(self) -> bool:
        """True for a status code of 5xx."""
        return 500 <= self.status_code < 600

    @property
    def is_error(self) -> bool:
        """True for a status code of 4xx or 5xx."""
        return 400 <= self.status_code < 600

    @property
    def has_redirect_location(self) -> bool:
        """True for a redirect with a Location."""
        return self.status_code in (301, 302, 303, 307, 308) and "location" in self.headers

    @property
    def charset_encoding(self) -> str | None:
        """The charset of Content-Type, or None."""
        kind = field_of(self, "content-type")
        kind = kind[-1] if isinstance(kind, list) else kind
        return parse_content_type_charset(kind) if kind else None

    @property
    def encoding(self) -> str:
        """The encoding of `text`: the one you assigned, else the charset if browsers or Python know it, else
        `default_encoding`."""
        assigned: str | None = self.__dict__.get("_encoding")
        if assigned is not None:
            return assigned
        charset = self.charset_encoding
        return charsets.declared(charset) or self.default_encoding

    @encoding.setter
    def encoding(self, encoding: str | None) -> None:
        self.__dict__["_encoding"] = encoding

    def raise_for_status(self) -> Self:  # type: ignore[override]  # as httpx has it
        """Returns the response. Raises HTTPStatusError unless its status code is 2xx."""
        if self.is_success:
            return self
        kinds = {1: "Informational response", 3: "Redirect response", 4: "Client error", 5: "Server error"}
        kind = kinds.get(self.status_code // 100, "Invalid status code")
        message = f"{kind} '{self.status_code} {self.reason_phrase}' for url '{_core.redact(self.url)}'"
        location = self.headers.get("location") if self.is_redirect else None
        if isinstance(location, str):
            message += f"\nRedirect location: '{_core.redact(location)}'"
        raise HTTPStatusError(message, request=self.request, response=self)

    # ------------------------------------------------------------------------------------------------------ its body

    @property
    def num_bytes_downloaded(self) -> int:
        """Number of bytes read of the body, before decoding."""
        return self._num_bytes_downloaded

    @property
    def is_stream_consumed(self) -> bool:
        """True once reading the body has begun."""
        return self._is_consumed

    @property
    def is_closed(self) -> bool:
        """True once the body has been read to its end, or the response was closed."""
        return self.isclosed()

    def read(self, n: int | None = None) -> bytes:
        """Returns the whole body, decoded, or its next `n` bytes. The latter are decoded unless your program has set
        Accept-Encoding."""
        if n is None:
            return self.content
        if self._decoding_file() is None:
            return self._reading(lambda: self._response.read(n))
        return self._decoding(lambda: super(Response, self).read(n))

    def readline(self) -> bytes:
        """Returns the next line of the body, decoded like `read(n)`; b"" at its end."""
        return self._decoding(super().readline)

    def _coded_reader(self) -> Callable[[int], bytes]:
        inner, owner = self._response, weakref.ref(self)

        def read(size: int) -> bytes:
            response = owner()
            if response is None:
                return read_available(inner, size)
            return response._reading(lambda: read_available(inner, size))

        return read

    def _reading(self, read: Callable[[], bytes]) -> bytes:
        try:
            data = read()
        except (OSError, HTTPParseError) as error:
            self.release()
            _raise_translated(error, self._request)
        self._num_bytes_downloaded += len(data)
        return data

    def _decoding(self, decode: Callable[[], bytes]) -> bytes:
        try:
            return decode()
        except zlib.error as error:
            self.release()
            _raise_translated(error, self._request)

    def _consume(self) -> None:
        if self._is_consumed:
            raise StreamConsumed("the body has already been read, at least in part")
        self._is_consumed = True

    def _coding(self) -> str | None:
        coding = field_of(self, "content-encoding")
        return ", ".join(coding) if isinstance(coding, list) else coding

    def _content(self) -> bytes:
        if "_file" in self.__dict__:
            return self._decoding(super()._content)
        self._consume()
        body = self._reading(self._response.read)
        coding = self._coding()
        # The response to a HEAD, a 204 or a 304 may have the field without a body.
        return self._decoding(lambda: _core.decode(coding, body)) if coding and body else body

    @property
    def text(self) -> str:
        """The content as text; bytes that cannot be decoded are replaced. Raises LookupError if you assigned an
        encoding that Python does not have."""
        return self.content.decode(charsets.known(self.encoding) or self.encoding, "replace")

    def json(self, **kw: Any) -> Any:
        """Parses the content as JSON in UTF-8, UTF-16 or UTF-32 (RFC 8259), or else in `encoding`. Further arguments
        are those of json.loads. Raises ValueError if it is not JSON."""
        return charsets.parse_json(self.content, self.encoding, **kw)

    def iter_raw(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yields the body as it arrives, without decoding; in pieces of `chunk_size` bytes if that is given."""
        self._consume()
        inner, size = self._response, _piece_size(chunk_size)

        def read() -> bytes:
            return read_available(inner, _PIECE) if size is None else inner.read(size)

        try:
            while piece := self._reading(read):
                yield piece
        finally:
            self.release()

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yields the decoded body, in pieces of `chunk_size` bytes if that is given."""
        if self._has_content():
            content = self.content
            size = _piece_size(chunk_size) or len(content)
            return iter([content[at : at + size] for at in range(0, len(content), size or 1)])
        if "_file" in self.__dict__:
            size = _piece_size(chunk_size) or _PIECE
            return iter(lambda: self.read(size), b"")
        coding = self._coding()
        if coding is None:
            return self.iter_raw(chunk_size)
        pieces = self._iter_decoded(_core.Decoder(coding))
        return pieces if chunk_size is None else _resized(pieces, chunk_size)

    def _pieces(self) -> Iterator[bytes]:
        return super()._pieces() if self._has_content() else self.iter_bytes()

    def _has_content(self) -> bool:
        return hasattr(self, "_cached_content")

    def _iter_decoded(self, decoder: _core.Decoder) -> Iterator[bytes]:
        is_empty = True
        for raw in self.iter_raw():
            is_empty = False
            pieces = decoded(decoder, raw)
            while piece := self._decoding(lambda pieces=pieces: next(pieces, b"")):  # type: ignore[misc]
                yield piece
        if not is_empty and (piece := self._decoding(decoder.finish)):
            yield piece

    def iter_text(self, chunk_size: int | None = None, encoding: str | None = None) -> Iterator[str]:
        """Yields the body as text, in pieces of `chunk_size` characters if that is given. Raises LookupError if
        `encoding`, or the one you assigned, is not a text encoding of Python."""
        texts = charsets.texts(self.iter_bytes(), charsets.decoder(encoding or self.encoding))
        return texts if chunk_size is None else _resized(texts, chunk_size)

    def iter_lines(self) -> Iterator[str]:  # type: ignore[override]  # text and without options, as in httpx
        """Yields the lines of the body as text, without line ends (LF, CR or CRLF)."""
        begun: list[str] = []
        held = ""
        for text in self.iter_text():
            text = held + text
            # A CR may be the first half of a CRLF.
            held = "\r" if text.endswith("\r") else ""
            if held:
                text = text[:-1]
            first, *rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            begun.append(first)
            for line in rest:
                yield "".join(begun)
                begun = [line]
        last = "".join(begun)
        if last or held:
            yield last


def _resized(pieces: Iterator[Any], size: int) -> Iterator[Any]:
    """Yields the same bytes or characters in pieces of `size`; the last one may be shorter."""
    size = max(int(size), 1)
    return _cut(pieces, size)
