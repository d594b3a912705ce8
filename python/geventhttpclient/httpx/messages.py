"""Timeouts, requests and responses."""

from __future__ import annotations

import copy
import json as json_module
import zlib
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlencode

from geventhttpclient import _charsets, _core
from geventhttpclient._checks import check_seconds
from geventhttpclient._coding import decoded
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.cookies import add_cookies, jar_of
from geventhttpclient.header import Headers, parse_content_type_charset
from geventhttpclient.httpx.errors import HTTPStatusError, InvalidURL, StreamConsumed, UnsupportedProtocol
from geventhttpclient.httpx.errors import raise_translated as _raise_translated
from geventhttpclient.multipart import Multipart
from geventhttpclient.requests import RequestsResponse, _cut
from geventhttpclient.url import URL
from geventhttpclient.useragent import CompatRequest, UnrewoundBodyError

if TYPE_CHECKING:
    from typing_extensions import Self

    from geventhttpclient.client import Timeouts
    from geventhttpclient.compat_request import FilesInput, Payload
    from geventhttpclient.cookies import CookiesInput
    from geventhttpclient.header import HeadersDataType
    from geventhttpclient.response import HTTPSocketResponse
    from geventhttpclient.url import ParamsDataType

_UNSET: Any = object()

# Bytes that are asked for at once where nobody says how many.
_PIECE = 64 * 1024


class Timeout:
    """How long a request may take, in seconds; None is for ever.

    `connect` is for the connection to be made, from the resolver to TLS; `read` and `write` are for each wait for the
    peer; `pool` is for a free connection. While a body is sent, and for the response to that request, the longer one
    of `read` and `write` counts; without a body it is `read`.
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
        """`timeout`: for all four, or another Timeout, or a tuple: (connect, read), where `read` is for writing, too,
        and the pool is waited for without end; or (connect, read, write, pool). The others replace what it says.

        ValueError or TypeError that names what is no number of seconds, or missing.
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

    def as_dict(self) -> dict[str, float | None]:
        """The four by name."""
        return {"connect": self.connect, "read": self.read, "write": self.write, "pool": self.pool}

    def _for_client(self, has_body: bool) -> Timeouts:
        """What HTTPClient calls them."""
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

    `method`, `url` (text), `url_split` (a URL), `headers`, `content`, and `extensions`, in which "timeout" is a Timeout
    or what one is made of.
    """

    extensions: dict[str, Any]
    _credentials: tuple[str, str] | None = None

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
        """At most one of `content` (bytes, text, a file or an iterable), `json`, and `data` (fields of a form) with or
        without `files`. UnsupportedProtocol and InvalidURL for URLs that cannot be asked for; TypeError, ValueError.
        """
        fields = Headers(headers)
        payload, content_type = _encode(content, data, files, json)
        if isinstance(payload, Multipart) and payload.length is not None:
            fields["Content-Length"] = str(payload.length)
        if content_type is not None:
            fields.setdefault("Content-Type", content_type)
        shown = _core.redact(str(url))
        try:
            super().__init__(url, method, fields, payload, params)
        except ValueError as error:
            raise InvalidURL(f"not a URL: {shown!r}: {error}") from error
        if self.type not in ("http", "https"):
            raise UnsupportedProtocol(f"the URL must begin with http:// or https://: {shown!r}", request=self)
        if not self.url_split.host:
            raise UnsupportedProtocol(f"a URL without a host: {shown!r}", request=self)
        if payload is not None:
            self._note_payload_start()
        if "@" in self.url_split.netloc:
            # Kept apart from here on: the URL is shown in errors and logs.
            split = copy.copy(self.url_split)
            self._credentials = (unquote(split.username), unquote(split.password))
            split.netloc = split.netloc.rpartition("@")[2]
            self.set_url(split)
        self.extensions = {} if extensions is None else dict(extensions)
        if cookies:
            add_cookies(jar_of(cookies, self.url_split.host, self.type == "https"), self)

    def read(self) -> bytes:
        """The body, which from now on is held in memory."""
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
        """The body: see `read`."""
        return self.read()

    def redirect(self, code: int, location: str) -> None:
        """Turns it into the request that follows a redirect. StreamConsumed when its body can be sent only once."""
        self._credentials = None
        if code == 301 and self.method != "POST":
            code = 308  # only of a POST does RFC 9110 section 15.4.2 allow to make a GET
        try:
            super().redirect(code, location)
        except UnrewoundBodyError as error:
            raise StreamConsumed("a redirect asks for the body once more, which can be read only once") from error

    def __repr__(self) -> str:
        return f"<Request({self.method!r}, {_core.redact(self.url)!r})>"


def _encode(content: Payload, data: Payload, files: Any, json: Any) -> tuple[Any, str | None]:
    """The body as it is to be sent, and its type."""
    if data is not None and content is None and not isinstance(data, Mapping) and not files:
        # Old habits: bytes or text as `data`.
        is_pairs = isinstance(data, (list, tuple)) and all(isinstance(pair, tuple) for pair in data)
        if not is_pairs:
            content, data = data, None
    if sum((content is not None, json is not None, bool(data) or bool(files))) > 1:
        raise TypeError("a request has one body: content, json, or data with files")
    if content is not None:
        return content or None if isinstance(content, (str, bytes)) else content, None
    if json is not None:
        text = json_module.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode(), "application/json"
    if files:
        form = Multipart(data, files)
        return form, form.content_type
    if data:
        return urlencode(data, doseq=True).encode(), "application/x-www-form-urlencoded"
    return None, None


class Response(RequestsResponse):
    """A response. Its body is `content` and `text`; or it is read piece by piece, once, with the `iter_` methods."""

    default_encoding: str = "utf-8"
    next_request: Request | None = None
    """The request that a redirect asks for, where it was not followed."""
    extensions: dict[str, Any]
    _num_bytes_downloaded = 0
    _is_consumed = False

    def __init__(
        self,
        ghc_response: HTTPSocketResponse,
        request: CompatRequest | None = None,
        sent_request: str | None = None,
    ) -> None:
        """Around a response of HTTPClient; a Client makes its responses without this."""
        super().__init__(ghc_response, request, sent_request)
        self.extensions = {}

    def __repr__(self) -> str:
        return f"<Response [{self.status_code} {self.reason_phrase}]>"

    # ------------------------------------------------------------------------------------------------- what it says

    @property
    def request(self) -> CompatRequest:
        """The request that it answers. RuntimeError where there is none."""
        if self._request is None:
            raise RuntimeError("the response was made without a request")
        return self._request

    @property
    def url(self) -> str:
        """The URL of the request."""
        return self.request.url

    @property
    def reason_phrase(self) -> str:
        """What follows the status code; its usual phrase where nothing does."""
        code = self.status_code
        usual = HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else ""
        return self._response.status_message or usual

    @property
    def http_version(self) -> str:
        """`HTTP/1.1` or `HTTP/1.0`."""
        return self._response.get_http_version()

    @property
    def is_informational(self) -> bool:
        """1xx."""
        return 100 <= self.status_code < 200

    @property
    def is_success(self) -> bool:
        """2xx."""
        return 200 <= self.status_code < 300

    @property
    def is_redirect(self) -> bool:
        """3xx."""
        return 300 <= self.status_code < 400

    @property
    def is_client_error(self) -> bool:
        """4xx."""
        return 400 <= self.status_code < 500

    @property
    def is_server_error(self) -> bool:
        """5xx."""
        return 500 <= self.status_code < 600

    @property
    def is_error(self) -> bool:
        """4xx or 5xx."""
        return 400 <= self.status_code < 600

    @property
    def has_redirect_location(self) -> bool:
        """Whether it is a redirect that says where to go."""
        return self.status_code in (301, 302, 303, 307, 308) and "location" in self.headers

    @property
    def charset_encoding(self) -> str | None:
        """The charset that Content-Type names."""
        kind = self._response.get("content-type")
        kind = kind[-1] if isinstance(kind, list) else kind
        return parse_content_type_charset(kind) if kind else None

    @property
    def encoding(self) -> str:
        """The encoding of `text`: what you assigned, else the charset if it is a known one (those of browsers and of
        Python), else `default_encoding`."""
        assigned: str | None = self.__dict__.get("_encoding")
        if assigned is not None:
            return assigned
        charset = self.charset_encoding
        return _charsets.declared(charset) or self.default_encoding

    @encoding.setter
    def encoding(self, encoding: str | None) -> None:
        self.__dict__["_encoding"] = encoding

    def raise_for_status(self) -> Self:  # type: ignore[override]  # as httpx has it
        """The response itself; HTTPStatusError unless its status is 2xx."""
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
        """Bytes of the body that have been read, as they came."""
        return self._num_bytes_downloaded

    @property
    def is_stream_consumed(self) -> bool:
        """Whether the body has been read, or begun to be."""
        return self._is_consumed

    @property
    def is_closed(self) -> bool:
        """Whether the body has been read to its end, or given up."""
        return self.isclosed()

    def read(self, n: int | None = None) -> bytes:
        """The whole body, decoded; with `n`, its next `n` bytes as they came."""
        if n is None:
            return self.content
        return self._reading(lambda: self._response.read(n))

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
            raise StreamConsumed("the body has been read already, or begun to be")
        self._is_consumed = True

    def _coding(self) -> str | None:
        coding = self._response.get("content-encoding")
        return ", ".join(coding) if isinstance(coding, list) else coding

    def _content(self) -> bytes:
        self._consume()
        body = self._reading(self._response.read)
        coding = self._coding()
        # A HEAD, a 204 or a 304 may well have the field, and no body to go with it.
        return self._decoding(lambda: _core.decode(coding, body)) if coding and body else body

    @property
    def text(self) -> str:
        """The content as text, whatever its type; what cannot be decoded is replaced. Raises LookupError if an encoding
        was assigned that Python does not have."""
        return self.content.decode(_charsets.known(self.encoding) or self.encoding, "replace")

    def json(self, **kw: Any) -> Any:
        """The content read as JSON, with further arguments for json.loads. ValueError when it is none."""
        return json_module.loads(self.content, **kw)

    def iter_raw(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """The body as it comes, coded as it is; in pieces of `chunk_size` bytes where that is given."""
        self._consume()
        inner = self._response

        def read() -> bytes:
            return inner._read_available(_PIECE) if chunk_size is None else inner.read(chunk_size)

        try:
            while piece := self._reading(read):
                yield piece
        finally:
            self.release()

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """The body with its content coding taken off; in pieces of `chunk_size` bytes where that is given."""
        if self._has_content():
            content = self.content
            size = chunk_size or len(content)
            return iter([content[at : at + size] for at in range(0, len(content), size or 1)])
        coding = self._coding()
        if coding is None:
            return self.iter_raw(chunk_size)
        pieces = self._iter_decoded(_core.Decoder(coding))
        return pieces if chunk_size is None else _sized(pieces, chunk_size)

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
        """The body as text, in pieces of `chunk_size` characters where that is given. Raises LookupError if `encoding`,
        or one that was assigned, is not a text encoding of Python."""
        texts = _charsets.texts(self.iter_bytes(), _charsets.decoder(encoding or self.encoding))
        return texts if chunk_size is None else _sized(texts, chunk_size)

    def iter_lines(self) -> Iterator[str]:  # type: ignore[override]  # text, and nothing to be chosen, as httpx has it
        """The lines of the body as text, without their ends (LF, CR or CRLF)."""
        begun: list[str] = []
        held = ""
        for text in self.iter_text():
            text = held + text
            # A CR may be half of an end.
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


def _sized(pieces: Iterator[Any], size: int) -> Iterator[Any]:
    """The same bytes or characters, `size` at a time, fewer at the end."""
    if size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {size}")
    return _cut(pieces, size)
