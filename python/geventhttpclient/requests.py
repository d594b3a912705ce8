"""Sessions with the interface of the package requests: one call takes all options of a request."""

from __future__ import annotations

import copy
import functools
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast

from geventhttpclient import _core
from geventhttpclient._agent.draining import drain
from geventhttpclient._agent.request import FilesInput, Payload, _has_field
from geventhttpclient._agent.response import _listed, field_of, is_over
from geventhttpclient._agent.retries import DefaultRetries
from geventhttpclient._internal import charsets
from geventhttpclient._internal.argument_errors import (
    OF_CLIENTS,
    check_body,
    check_cert,
    check_flag,
    check_hooks,
    check_jar,
    check_proxies,
    check_timeout,
    check_verify,
    json_text,
    refused_params,
    unexpected,
)
from geventhttpclient._internal.decoding import ACCEPT_ENCODING, DecodedBody
from geventhttpclient._internal.field_reader import BLANKS, FieldReader
from geventhttpclient._internal.reading import LINE_END, READ_SIZE, lines, pieces, read_available, reads_by_engine
from geventhttpclient.auth import AuthValue, DigestAuth, credentials_of, netrc_auth, resolve_auth
from geventhttpclient.client import DEFAULT_MAX_CLIENTS, HTTPClient, HTTPClientPool, _CommonOptions
from geventhttpclient.cookies import Cookies, add_cookies, bind, merged, received
from geventhttpclient.header import Headers, parse_content_type_charset
from geventhttpclient.useragent import (
    _AGENT_ARGUMENTS,
    _CLIENT_ARGUMENTS,
    PERMANENT_REDIRECT_RESPONSE_CODES,
    REDIRECT_RESPONSE_CODES,
    BadStatusCode,
    CompatRequest,
    CompatResponse,
    UnrewoundBodyError,
    UserAgent,
)

if TYPE_CHECKING:
    import os
    from http.cookiejar import CookieJar

    from typing_extensions import Unpack

    from geventhttpclient.client import Options
    from geventhttpclient.cookies import CookiesInput
    from geventhttpclient.header import HeadersDataType, TrailersDataType
    from geventhttpclient.response import HTTPSocketPoolResponse, HTTPSocketResponse
    from geventhttpclient.url import URL, ParamsDataType

__all__ = ["RequestOptions", "RequestsRequest", "RequestsResponse", "Session", "SessionOptions"]

_ITER_LINES_CHUNK_SIZE = 8192

# Most bytes of one read while a body is streamed. A read returns the bytes that are available.
_READ = 64 * 1024

# Most client pools that a session keeps for requests with their own `verify`, `cert` or `proxies`. One more closes the
# oldest.
_MOST_POOLS = 64

# Most answers to the challenges of one request: the first, and another one if the nonce was stale.
_MOST_ANSWERS = 2

Auth = AuthValue | DigestAuth | Callable[[CompatRequest], Any]
Timeout = float | tuple[float | None, float | None] | None
Hooks = Mapping[str, Callable[..., Any] | Iterable[Callable[..., Any]]] | None


class _SendOptions:
    """Options of one request that differ from those of the session."""

    __slots__ = ("client_args", "cookies", "digest", "jar", "proxies", "timeouts")

    def __init__(self) -> None:
        # Timeouts in seconds: of connecting, and of each wait for the peer.
        self.timeouts: tuple[float | None, float | None] | None = None
        self.client_args: dict[str, Any] = {}
        self.proxies: Mapping[str, str | None] | None = None
        self.digest: DigestAuth | None = None
        # The request's own cookies, and the session's jar, whose cookies are sent as well.
        self.cookies: CookieJar | None = None
        self.jar: CookieJar | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # None in a pickle or a deep copy: the options are needed only to send, and contain the session's cookies.
        return type(None), ()


class RequestsRequest(CompatRequest):
    """A request of a session."""

    redirect_keeps_method = True
    _send_options: _SendOptions | None = None

    @property
    def body(self) -> Any:
        """The payload."""
        return self.payload

    def redirect(self, code: int, location: str) -> None:
        """Changes this request into the one that follows a redirect, with those of its own cookies that match."""
        super().redirect(code, location)
        self._add_own_cookies()

    def _add_own_cookies(self) -> None:
        own = self._send_options
        if own is not None and own.cookies is not None:
            add_cookies(merged(own.jar, own.cookies), self)


class RequestsResponse(CompatResponse):
    """A response of a session. It is true if its status code is below 400.

    `read`, `readline` and iteration decode the body, as `content` does, if the request has the default Accept-Encoding
    of a session. They do not decode it if your code has set another Accept-Encoding; `raw` never does.
    """

    @property
    def request(self) -> Any:
        """The request of this response: the last one after redirects."""
        return self._request

    @property
    def ok(self) -> bool:
        """True if the status code is below 400."""
        return self.status_code < 400

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.status_code}]>"

    @property
    def reason(self) -> str | None:
        """The reason phrase of the status line."""
        return getattr(self._response, "status_message", None)

    @property
    def is_redirect(self) -> bool:
        """True if this is a redirect with a Location."""
        return self.status_code in REDIRECT_RESPONSE_CODES and field_of(self, "location") is not None

    @property
    def is_permanent_redirect(self) -> bool:
        """True if this is a permanent redirect (301 or 308) with a Location."""
        return self.status_code in PERMANENT_REDIRECT_RESPONSE_CODES and field_of(self, "location") is not None

    @property
    def raw(self) -> HTTPSocketResponse:
        """The response of HTTPClient, whose body is not decoded: it is compressed if the server compressed it."""
        return self._response

    def close(self) -> None:
        """Releases the connection; see `release`."""
        self.release()

    @property
    def encoding(self) -> str | None:
        """The assigned encoding, else the charset of Content-Type if it is known, else None.

        The known charsets are those of browsers and of Python. If Python has another name for a charset, the value is
        the name of Python's codec. You can assign any text encoding of Python; UTF-8 is used instead of an unknown one.
        """
        assigned = self.__dict__.get("_encoding")
        if assigned is not None:
            return str(assigned)
        content_type = field_of(self, "content-type")
        charset = parse_content_type_charset(_listed(content_type)) if content_type else None
        return charsets.declared(charset)

    @encoding.setter
    def encoding(self, encoding: str | None) -> None:
        self.__dict__["_encoding"] = encoding

    @property
    def text(self) -> str | bytes:
        """The content, decoded with the `encoding` if one was assigned, else with the charset of Content-Type; as bytes
        if that is not a text type."""
        assigned = self.__dict__.get("_encoding")
        if assigned is None:
            return super().text
        return self.content.decode(charsets.usable(assigned), "replace")

    def json(self, **kw: Any) -> Any:
        """Returns the content decoded as JSON, with the arguments of `json.loads`: UTF-8, UTF-16 or UTF-32 (RFC 8259),
        or `encoding` if it is none of these. Raises ValueError if the content is not valid JSON."""
        return charsets.parse_json(self.content, self.encoding, **kw)

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """The links of the Link header (RFC 8288), by relation, or by URL if a link has no relation."""
        value = field_of(self, "link")
        links = _parse_link_header(_listed(value)) if value else []
        return {link.get("rel") or link["url"]: link for link in links}

    @property
    def cookies(self) -> Cookies:
        """The cookies that this response sets. Those of its redirects are in the session's jar."""
        jar = self.__dict__.get("_cookies")
        if jar is None:
            jar = self.__dict__["_cookies"] = received(self.headers, self._request)
        return cast(Cookies, jar)

    def raise_for_status(self) -> None:
        """Raises BadStatusCode, with `code`, `response` and `request`, if the status code is 400 to 599."""
        if 400 <= self.status_code < 600:
            raise self._status_error()

    def _status_error(self) -> BadStatusCode:
        code = self.status_code
        error = BadStatusCode(self.url, f"{code} {self.reason or ''}".rstrip())
        error.code = code
        error.response = self  # type: ignore[attr-defined]
        error.request = self._request  # type: ignore[attr-defined]
        return error

    # ----------------------------------------------------------------------------------------------------- streaming

    def read(self, n: int | None = None) -> bytes:
        """Reads the next `n` bytes of the body, or the rest without `n`.

        Raises zlib.error if the body does not match its content coding.
        """
        file = self._decoding_file()
        return super().read(n) if file is None else file.read(None if n is None or n < 0 else n)

    def readline(self) -> bytes:
        """Reads the next line of the body. Returns b"" at the end."""
        file = self._decoding_file()
        return super().readline() if file is None else file.readline()

    def __iter__(self) -> Iterator[bytes]:
        if self._decoding_file() is None:
            return super().__iter__()
        size = getattr(self._response, "block_size", READ_SIZE)
        return iter(lambda: self.read(size), b"")

    def release(self) -> None:
        """Returns the connection to the pool, or closes it if the body was not read to its end."""
        was_over = is_over(self._response)
        super().release()
        # A body that was received to its end can still be read, with a content coding as without one.
        if "_file" in self.__dict__ and not was_over:
            self.__dict__["_file"] = io.BufferedReader(io.BytesIO())

    def _decoding_file(self) -> io.BufferedReader | None:
        """Returns the body as a file that decodes it; None if reads do not decode.

        Reads decode a body with a content coding if the request has the default Accept-Encoding of a session. A program
        that sets another Accept-Encoding decodes the body itself.
        """
        file: io.BufferedReader | None = self.__dict__.get("_file")
        if file is not None or hasattr(self, "_cached_content"):
            return file
        coding = field_of(self, "content-encoding")
        if not coding or self._request is None or self._request.get_header("accept-encoding") != ACCEPT_ENCODING:
            return None
        return self._open(coding)

    def _open(self, coding: str | list[str]) -> io.BufferedReader:
        """Returns the body as a file that decodes it; always the same file, since it reads ahead."""
        file: io.BufferedReader | None = self.__dict__.get("_file")
        if file is None:
            file = self._begin(coding, self._held())
        return file

    def _begin(self, coding: str | list[str], begun: bytes) -> io.BufferedReader:
        """Creates the file of `_open` for a body whose beginning, `begun`, was already read."""
        self._hold(b"")
        body = DecodedBody(self._coded_reader(), _listed(coding), begun)
        file = self.__dict__["_file"] = cast("io.BufferedReader", io.BufferedReader(body, _READ))
        return file

    def _coded_reader(self) -> Callable[[int], bytes]:
        """Returns a function that reads the body without decoding it.

        It must not refer to this response, which refers to it: without a cycle, a response that is dropped releases its
        connection at once.
        """
        return functools.partial(read_available, self._response)

    def _content(self) -> bytes:
        file: io.BufferedReader | None = self.__dict__.get("_file")
        if file is not None:
            return file.read()
        try:
            return super()._content()
        except zlib.error:
            self._begin(field_of(self, "content-encoding"), self._held())  # later reads raise the error as well
            raise

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:
        """Returns an iterator over the decoded content in pieces of `chunk_size` bytes, or as received if it is None.

        If the length of the body is not known (it is chunked, for example), a piece is shorter when no more bytes are
        available yet. With `decode_unicode` the pieces are str, decoded with `encoding`, by default UTF-8. A
        `chunk_size` below 1 counts as 1. Iterating raises zlib.error if the body does not match its content coding.
        """
        chunk_size = _piece_size(chunk_size)
        pieces = self._decoded() if chunk_size is None else self._sized(chunk_size)
        return self._as_text(pieces) if decode_unicode else pieces

    def iter_lines(  # pyright: ignore[reportIncompatibleMethodOverride]  # requests' parameters are positional
        self,
        chunk_size: int | None = _ITER_LINES_CHUNK_SIZE,
        decode_unicode: bool = False,
        delimiter: str | bytes | None = None,
    ) -> Iterator[Any]:
        """Returns an iterator over the lines of the content, without line ends, each as soon as it was received.

        Lines end with LF, CR LF or CR, or only with `delimiter` if it is given. `chunk_size` has no effect: it is
        accepted for programs that pass it, and no line waits for that many bytes.
        """
        if isinstance(delimiter, (str, bytes)) and not delimiter:
            raise ValueError("delimiter must not be empty")
        pieces: Iterator[Any] = self._decoded()
        if decode_unicode:
            delimiter = delimiter.decode() if isinstance(delimiter, bytes) else delimiter
            return lines(self._as_text(pieces), delimiter, re.compile("\r\n|\n|\r"), "\r")
        delimiter = delimiter.encode() if isinstance(delimiter, str) else delimiter
        return lines(pieces, delimiter, LINE_END, b"\r")

    def _sized(self, size: int) -> Iterator[bytes]:
        """Yields the content in pieces of `size` bytes. Reads at most one piece at once, so that a program which takes
        some pieces can read the rest in another way."""
        inner = self._response
        if hasattr(self, "_cached_content"):
            content = self._cached_content
            for at in range(0, len(content), size):
                yield content[at : at + size]
            return
        fill = inner.length is not None
        read: Callable[[int], bytes]
        if coding := field_of(self, "content-encoding"):
            file = self._open(coding)
            read = file.read if fill else file.read1
        else:
            while held := self._take(size):
                yield held
            read = inner.read if fill or not reads_by_engine(inner) else inner._read_available
        while piece := read(size):
            yield piece

    def _decoded(self) -> Iterator[bytes]:
        """Yields the content in pieces, each as soon as it is available."""
        try:
            content = self._cached_content
        except AttributeError:
            pass
        else:
            if content:
                yield content
            return
        inner = self._response
        if coding := field_of(self, "content-encoding"):
            file = self._open(coding)
            while piece := file.read1(_READ):
                yield piece
            return
        if held := self._take():
            yield held
        yield from pieces(lambda: inner)

    def _pieces(self) -> Iterator[bytes]:
        if hasattr(self, "_cached_content") or hasattr(self, "_stream_pieces"):
            return super()._pieces()
        return self._decoded()

    def _as_text(self, pieces: Iterable[bytes]) -> Iterator[str]:
        try:
            decoder = charsets.decoder(self.encoding or "utf_8")
        except LookupError:
            decoder = charsets.decoder("utf_8")
        return charsets.texts(pieces, decoder)


def _piece_size(chunk_size: Any) -> int | None:
    """Returns the size of the pieces of a body: at least 1, as in 2.6.1; None for the bytes that are available."""
    return None if chunk_size is None else max(int(chunk_size), 1)


def _cut(pieces: Iterator[Any], size: int) -> Iterator[Any]:
    """Yields the same bytes or characters in pieces of `size`."""
    waiting: list[Any] = []
    length = 0
    for piece in pieces:
        waiting.append(piece)
        length += len(piece)
        if length < size:
            continue  # joins the pieces once, however small they are
        whole = piece[:0].join(waiting)
        end = length - length % size
        for at in range(0, end, size):
            yield whole[at : at + size]
        length -= end
        waiting = [whole[end:]] if length else []
    if waiting:
        yield waiting[0][:0].join(waiting)


_BEFORE_LINK = re.compile(r"[^<]*")
_TARGET = re.compile(r"[^>]*")
_PARAM_NAME = re.compile(r'[^\s=;,"<>]*')
_PARAM_TOKEN = re.compile(r'[^\s;,"]*')


def _parse_link_header(value: str) -> list[dict[str, str]]:
    """Returns the links of a Link header in their order, each with its `url` and parameters."""
    links: list[dict[str, str]] = []
    reader = FieldReader(value)
    while True:
        reader.run(_BEFORE_LINK)
        if not reader.take("<"):
            return links
        link = {"url": reader.run(_TARGET)}
        if not reader.take(">"):
            return links
        reader.run(BLANKS)
        while reader.take(";"):
            reader.run(BLANKS)
            name = reader.run(_PARAM_NAME)
            reader.run(BLANKS)
            text = ""
            if reader.take("="):
                reader.run(BLANKS)
                quoted = reader.quoted()
                text = reader.run(_PARAM_TOKEN) if quoted is None else quoted
                reader.run(BLANKS)
            if name:
                link.setdefault(name.lower(), text)
        links.append(link)


class _RequestOptions(TypedDict, total=False):
    headers: HeadersDataType | None
    cookies: CookiesInput
    files: FilesInput | None
    auth: Auth
    timeout: Timeout
    allow_redirects: bool
    proxies: Mapping[str, str | None] | None
    hooks: Hooks
    stream: bool | None
    verify: bool | str | os.PathLike[str] | None
    cert: str | tuple[str, ...] | None
    trailers: TrailersDataType | None


class _OptionsOfGet(_RequestOptions, total=False):
    data: Payload
    json: Any


class _OptionsOfPost(_RequestOptions, total=False):
    params: ParamsDataType | None


class _OptionsOfPut(_OptionsOfPost, total=False):
    json: Any


class RequestOptions(_OptionsOfPut, total=False):
    """Keyword arguments of `Session.request`."""

    data: Payload


class SessionOptions(_CommonOptions, total=False):
    """Keyword arguments of Session that UserAgent and HTTPClientPool also have."""

    max_redirects: int
    max_retries: int
    retry_delay: float
    cookiejar: CookieJar | None
    headers: HeadersDataType | None
    retry_backoff: float
    retry_max_delay: float
    retry_jitter: float
    retry_statuses: Iterable[int]
    retry_after: bool
    redirect_keeps_method: bool | None
    max_clients: int | None
    max_idle_connections: int | None


class Session(UserAgent):
    """A session for any host: it keeps cookies and follows redirects. No status code raises an error.

        with Session(auth=("me", password), concurrency=10) as session:
            friends = session.get("https://example.org/friends", params={"limit": 20}, timeout=5).json()

    The attributes `auth`, `params`, `timeout`, `verify`, `cert`, `proxies`, `hooks` and `stream` are defaults for the
    arguments of `request` with these names. `headers` are sent with every request. `cookies` is the cookie jar: a
    cookie that is set in it by name, without a domain, is bound to the host of the first request that it is sent with.
    With `trust_env`, credentials are read from netrc files.
    """

    request_type = RequestsRequest
    response_type = RequestsResponse
    redirect_keeps_method = True

    params: ParamsDataType | None = None
    timeout: Timeout = None
    verify: Any = None
    cert: Any = None
    proxies: Mapping[str, str | None] | None = None
    hooks: Hooks = None
    stream: bool | None = None

    # The values that the session's clients were created with.
    _client_verify: Any = None
    _client_cert: Any = None

    def __init__(
        self,
        *args: Any,
        auth: Auth = None,
        params: ParamsDataType | None = None,
        timeout: Timeout = None,
        cookies: CookiesInput = None,
        verify: bool | str | os.PathLike[str] | None = None,
        cert: str | tuple[str, ...] | None = None,
        proxies: Mapping[str, str | None] | None = None,
        hooks: Hooks = None,
        stream: bool | None = None,
        **kw: Unpack[SessionOptions],
    ) -> None:
        """Takes the arguments of UserAgent, with other defaults: 30 for `max_redirects`, True for
        `redirect_keeps_method`, and a new jar for `cookiejar`.

        `auth`, `params`, `timeout`, `verify`, `cert`, `proxies`, `hooks` and `stream` become the attributes of these
        names, in the forms that `request` takes. `cookies` is a mapping, whose cookies are copied into a new jar, or a
        jar, which is used itself. `headers` are sent with every request; User-Agent and an Accept-Encoding with the
        codings that can be decoded are added if they are missing. None as a value omits a field.

        Raises ValueError or TypeError, which name the argument, if one is invalid.
        """
        options: dict[str, Any] = {**kw}
        if not args:
            options.setdefault("max_redirects", 30)
        if cookies is not None:
            if len(args) > 3 or options.get("cookiejar") is not None:
                raise ValueError("cookies and cookiejar cannot be used together: pass one of them")
            options["cookiejar"] = merged(cookies) if isinstance(cookies, Mapping) else _jar(cookies)
        elif len(args) < 4:
            options.setdefault("cookiejar", Cookies())
        if not callable(auth) and not isinstance(auth, DigestAuth):
            resolve_auth(auth)  # raises an error for an invalid value
        self.auth = auth
        self.trust_env: bool = bool(options.get("trust_env", False))
        if unknown := options.keys() - _CLIENT_ARGUMENTS - set(_AGENT_ARGUMENTS):
            raise unexpected(unknown, [*_CLIENT_ARGUMENTS, *_AGENT_ARGUMENTS, *_SESSION_ARGUMENTS], OF_CLIENTS)
        if params is not None:
            _pairs_of(params)
            self.params = params
        if timeout is not None:
            check_timeout(timeout)
            self.timeout = timeout
        if proxies is not None:
            check_proxies(proxies)
            self.proxies = proxies
        if hooks is not None:
            check_hooks(hooks)
            self.hooks = hooks
        if stream is not None:
            check_flag("stream", stream)
            self.stream = stream
        if verify is not None:
            self.verify = self._client_verify = options["verify"] = verify
        if cert is not None:
            self.cert = self._client_cert = options["cert"] = tuple(cert) if isinstance(cert, list) else cert
        super().__init__(*args, **options)
        self.default_headers.setdefault("Accept-Encoding", ACCEPT_ENCODING)
        if len(args) < 2 and "max_retries" not in options:
            self.max_retries: int = DefaultRetries(self.max_retries)
        self._pools: dict[Any, HTTPClientPool] = {}
        # Used if the program replaces `clientpool` by an object that has no idle group.
        self._idle_group: _core.IdleGroup = self.clientpool._idle_group  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_pools": {}}

    @property
    def headers(self) -> Headers:
        """The header fields that are sent with every request."""
        return self.default_headers

    @headers.setter
    def headers(self, headers: HeadersDataType) -> None:
        self.default_headers: Headers = headers if isinstance(headers, Headers) else Headers(headers)

    @property
    def cookies(self) -> Any:
        """The cookie jar."""
        return self.cookiejar

    @cookies.setter
    def cookies(self, cookies: CookiesInput) -> None:
        self.cookiejar: CookieJar | None = merged(cookies) if isinstance(cookies, Mapping) else _jar(cookies)

    def close(self) -> None:
        """Closes all clients. The next request creates new ones."""
        super().close()
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    # ---------------------------------------------------------------------------------------------------------- verbs

    def get(self, url: str | URL, **kw: Unpack[RequestOptions]) -> RequestsResponse:
        """Sends a GET request; see `request`."""
        try:
            return self.request("GET", url, **kw)
        except TypeError:
            _refuse_unknown(self, kw)
            raise

    def options(self, url: str | URL, **kw: Unpack[RequestOptions]) -> RequestsResponse:
        """Sends an OPTIONS request; see `request`."""
        try:
            return self.request("OPTIONS", url, **kw)
        except TypeError:
            _refuse_unknown(self, kw)
            raise

    def head(self, url: str | URL, **kw: Unpack[RequestOptions]) -> RequestsResponse:
        """Sends a HEAD request; see `request`. Redirects are not followed unless `allow_redirects` is True."""
        kw.setdefault("allow_redirects", False)
        try:
            return self.request("HEAD", url, **kw)
        except TypeError:
            _refuse_unknown(self, kw)
            raise

    def post(
        self, url: str | URL, data: Payload = None, json: Any = None, **kw: Unpack[_OptionsOfPost]
    ) -> RequestsResponse:
        """Sends a POST request; see `request`."""
        try:
            return self.request("POST", url, data=data, json=json, **kw)
        except TypeError:
            _refuse_unknown(self, kw)
            raise

    def put(self, url: str | URL, data: Payload = None, **kw: Unpack[_OptionsOfPut]) -> RequestsResponse:
        """Sends a PUT request; see `request`."""
        try:
            return self.request("PUT", url, data=data, **kw)
        except TypeError:
            _refuse_unknown(self, kw)
            raise

    def patch(self, url: str | URL, data: Payload = None, **kw: Unpack[_OptionsOfPut]) -> RequestsResponse:
        """Sends a PATCH request; see `request`."""
        try:
            return self.request("PATCH", url, data=data, **kw)
        except TypeError:
            _refuse_unknown(self, kw)
            raise

    def delete(self, url: str | URL, **kw: Unpack[RequestOptions]) -> RequestsResponse:
        """Sends a DELETE request; see `request`."""
        try:
            return self.request("DELETE", url, **kw)
        except TypeError:
            _refuse_unknown(self, kw)
            raise

    def request(
        self,
        method: str,
        url: str | URL,
        params: ParamsDataType | None = None,
        data: Payload = None,
        headers: HeadersDataType | None = None,
        cookies: CookiesInput = None,
        files: FilesInput | None = None,
        auth: Auth = None,
        timeout: Timeout = None,
        allow_redirects: bool = True,
        proxies: Mapping[str, str | None] | None = None,
        hooks: Hooks = None,
        stream: bool | None = None,
        verify: bool | str | os.PathLike[str] | None = None,
        cert: str | tuple[str, ...] | None = None,
        json: Any = None,
        trailers: TrailersDataType | None = None,
    ) -> RequestsResponse:
        """Sends a request, follows redirects, and returns the response, whose body is read on access.

        - `params`: added to the query: a mapping, pairs, or text. None as a value omits a parameter, a list repeats it.
        - `data`: a mapping or a list of pairs is sent as a form; else text, bytes, an open file, an iterable of pieces.
        - `json`: any value except None, sent as JSON.
        - `files`: sent with the fields of `data` as multipart/form-data, and read while they are sent: see
          geventhttpclient.multipart.FilesInput.
        - `headers`: override the session's of the same name; None as a value omits a field.
        - `cookies`: sent with the session's, and not kept: a mapping, only for the host of `url`, or a CookieJar.
        - `auth`: a BasicAuth, a tuple of name and password, a DigestAuth, the value of Authorization, or a function
          that is called with the request and may change it. By default the session's, that of `url`, or one of a netrc
          file.
        - `timeout`: seconds for opening a connection and for each wait for the peer, or a tuple of the two, in which
          None disables one; by default the session's. The wait for a free connection has the timeout of opening one.
        - `allow_redirects`: whether redirects are followed.
        - `proxies`: proxies by scheme, `scheme://host`, `all` or `all://host`; None as a value disables the proxy.
        - `hooks`: `{"response": function}`, or a list of functions, which get the response and may return another.
        - `stream`: False reads the whole body at once. By default it is read on access.
        - `trailers`: sent after the body, in the forms that HTTPClient.request takes; a callable is called each time
          that the request is sent.
        - `verify`, `cert`: as for HTTPClient. Only requests with the same values share a connection. The certificate
          is not sent to another origin after a redirect.

        Raises ValueError or TypeError if an argument is invalid, RetriesExceeded after too many redirects or too many
        attempts, and network errors.
        """
        given_type = None
        if json is not None:
            if data or files:
                raise ValueError("Can send either data or json, not both at once")
            data, given_type = json_text(json), "application/json"
        elif data is not None and not files and (isinstance(data, Mapping) or _are_pairs(data)):
            data = _core.query_encode(data.items() if isinstance(data, Mapping) else data).encode()
            given_type = "application/x-www-form-urlencoded; charset=utf-8"
        elif data is not None:
            check_body("data", data)
        if isinstance(data, (str, bytes)) and not data:
            data = None
        if stream is not None:
            check_flag("stream", stream)
        if allow_redirects is not True:
            check_flag("allow_redirects", allow_redirects)
        calls = _hooks(hooks, self.hooks)
        all_headers = self.default_headers.copy()
        if headers:
            all_headers.update(headers if isinstance(headers, dict) else Headers(headers))
        if "range" in all_headers and all_headers.get("accept-encoding") == ACCEPT_ENCODING:
            # A range of a compressed body cannot be decoded.
            all_headers.discard("accept-encoding")
        if given_type is not None and data and "content-type" not in all_headers:
            all_headers["content-type"] = given_type
        if self.params is not None:
            params = [*_pairs_of(self.params), *_pairs_of(params)]
        request = self._make_request(url, method, all_headers, data, params, files)
        if json is None and given_type is not None and data and not _has_field(request.headers, "transfer-encoding"):
            request._count(len(data))
        if trailers is not None:
            request._add_trailers(trailers)

        auth = self.auth if auth is None else auth
        credentials = _take_credentials(request) if "@" in request.url_split.netloc else None
        timeout = self.timeout if timeout is None else timeout
        if verify is None and self.verify is not self._client_verify:
            verify = self.verify
        if cert is None and self.cert is not self._client_cert:
            cert = self.cert
        proxies = self.proxies if proxies is None else proxies
        own = None
        is_plain = timeout is None and verify is None and cert is None and proxies is None and cookies is None
        if not is_plain or isinstance(auth, DigestAuth):
            own = _SendOptions()
            own.timeouts = None if timeout is None else check_timeout(timeout)
            if verify is not None:
                check_verify(verify)
                own.client_args["verify"] = verify
            if cert is not None:
                check_cert(cert)
                own.client_args["cert"] = tuple(cert) if isinstance(cert, list) else cert
            if proxies is not None:
                check_proxies(proxies)
                own.proxies = proxies
            if cookies is not None:
                own.cookies = merged(cookies, host=request.url_split.host, secure=request.type == "https")
                own.jar = self.cookiejar
                if own.jar is not None:
                    bind(own.jar, request)
            if isinstance(auth, DigestAuth):
                own.digest = auth
            request._send_options = own  # type: ignore[attr-defined]
            if own.cookies is not None:
                request._add_own_cookies()  # type: ignore[attr-defined]
        if own is None or own.digest is None:
            self._authenticate(request, auth, credentials)

        response: RequestsResponse = self._perform(request, max_redirects=None if allow_redirects else 0)
        for hook in calls:
            changed = hook(response)
            response = response if changed is None else changed
        stream = self.stream if stream is None else stream
        if stream is not None and not stream:
            response.content  # noqa: B018
        return response

    # ------------------------------------------------------------------------------------------- status and credentials

    def _verify_status(self, status_code: int, url: str | URL | None = None) -> None:
        """Accepts every status code: see `raise_for_status` of the response."""

    def _authenticate(self, request: CompatRequest, auth: Any, credentials: AuthValue) -> None:
        """Adds credentials: `auth`, else those of the URL, else those of a netrc file."""
        headers = request.headers
        if callable(auth):
            payload = request.payload
            changed = _call_auth(auth, request)
            if isinstance(changed, CompatRequest) and changed is not request:
                request.__dict__.update(changed.__dict__)
            if request.payload is not payload:
                request._discount()
            if request.url != str(request.url_split):
                request.set_url(request.url)
        elif auth is not None:
            headers["Authorization"] = resolve_auth(auth)
        elif "authorization" not in headers:
            if credentials is None and self.trust_env:
                credentials = netrc_auth(request.url_split.host)
            if credentials is not None:
                headers["Authorization"] = resolve_auth(credentials)

    def _urlopen(self, request: CompatRequest) -> CompatResponse:
        own: _SendOptions | None = getattr(request, "_send_options", None)
        if own is None:
            return super()._urlopen(request)
        digest = own.digest if own.digest is not None and request._is_same_origin() else None
        url = request.url_split
        target = request._target()
        origin = f"{url.scheme}://{url.host}:{url.port}"
        sent = None if digest is None else digest.preemptive(request.method, target, origin, request.payload)
        response = self._exchange(request, target, own, sent)
        for _ in range(_MOST_ANSWERS):
            if digest is None or response.status_code != 401:
                break
            challenges = response.info().getlist("www-authenticate")
            try:
                sent = digest.response(request.method, target, challenges, origin, sent, request.payload)
            except ValueError:
                response.release()
                raise
            if sent is None:
                break
            try:
                request._rewind_payload()
            except UnrewoundBodyError:
                break
            drain(self.response_type(response, request=request))
            response = self._exchange(request, target, own, sent)
        return self.response_type(response, request=request)

    def _exchange(
        self, request: CompatRequest, target: str, own: _SendOptions, authorization: str | None
    ) -> HTTPSocketPoolResponse:
        if authorization is not None:
            request.headers["Authorization"] = authorization
        client = self._client_for(request, own)
        options: Options = {} if own.timeouts is None else _timeout_options(*own.timeouts, client)
        if request.trailers is not None:
            options["trailers"] = request.trailers
        return client.request(
            request.method,
            target,
            body=request.payload,
            headers=request.headers,
            **options,
        )

    def _client_for(self, request: CompatRequest, own: _SendOptions) -> HTTPClient:
        url, shared = request.url_split, self._pool_for(request)
        args = dict(own.client_args)
        if "cert" in args and not request._is_same_origin():
            del args["cert"]
        via, is_chosen = _proxy_for(url, own.proxies) if own.proxies is not None else (None, False)
        if is_chosen:
            args["proxy"] = via
        if not args:
            return shared.get_client(url)
        key = (shared is self.clientpool, *sorted(args.items()))
        pool = self._pools.get(key)
        if pool is None:
            common = dict(shared.client_args)
            if "verify" in args:
                common.pop("insecure", None)
            if is_chosen:
                for name in ("proxy_host", "proxy_port", "proxy_user", "proxy_password", "trust_env"):
                    common.pop(name, None)
            pool = self._pools[key] = self._new_pool({**common, **args})
            while len(self._pools) > _MOST_POOLS:
                self._pools.pop(next(iter(self._pools))).close()
        return pool.get_client(url)

    def _new_pool(self, args: dict[str, Any]) -> HTTPClientPool:
        """Returns a pool with the limits of the session's pool, and with a common limit of idle connections."""
        own = self.clientpool
        options: dict[str, Any] = {"max_clients": getattr(own, "max_clients", DEFAULT_MAX_CLIENTS), **args}
        pool = HTTPClientPool(**options)
        pool._idle_group = getattr(own, "_idle_group", self._idle_group)
        return pool


# Argument names of requests, and of the constructor in addition to those of UserAgent.
_REQUEST_ARGUMENTS = Session.request.__annotations__.keys() - {"return"}
_SESSION_ARGUMENTS = ("auth", "params", "timeout", "cookies", "verify", "cert", "proxies", "hooks", "stream")

_HINTS = {
    "follow_redirects": "did you mean allow_redirects?",
    **dict.fromkeys(("content", "body", "payload"), "did you mean data?"),
    **dict.fromkeys(("connection_timeout", "network_timeout"), "pass timeout=(connect, read)"),
    "proxy": "pass proxies={'all': 'http://host:port'}",
    **dict.fromkeys(("to_string", "debug_stream"), "urlopen takes it"),
}


def _refuse_unknown(session: Session, kw: Mapping[str, object]) -> None:
    """Raises TypeError, which suggests the right argument, if a request does not take one of the arguments."""
    # A subclass may accept other arguments.
    if type(session).request is Session.request and (unknown := kw.keys() - _REQUEST_ARGUMENTS):
        to_session = dict.fromkeys([*_CLIENT_ARGUMENTS, *_AGENT_ARGUMENTS], "pass it to Session")
        raise unexpected(unknown, _REQUEST_ARGUMENTS, {**to_session, **_HINTS}) from None


def _call_auth(auth: Callable[[CompatRequest], Any], request: CompatRequest) -> Any:
    """Calls `auth` with the request. Raises TypeError if it needs the hooks of the package requests."""
    try:
        return auth(request)
    except AttributeError as error:
        if error.name != "register_hook":
            raise
        name = type(auth).__name__
    raise TypeError(f"auth: {name} needs hooks of requests: pass geventhttpclient.auth.DigestAuth, or a function")


def _take_credentials(request: CompatRequest) -> AuthValue:
    """Removes name and password from a request's URL, which errors and logs show, and returns them."""
    url = request.url_split
    bare = copy.copy(url)
    bare.netloc = url.netloc.rpartition("@")[2]
    request.set_url(bare)
    return credentials_of(url)


def _timeout_options(connect: float | None, read: float | None, client: HTTPClient) -> Options:
    """Returns the arguments of HTTPClient.request. The wait for a free connection has the timeout of connecting, unless
    that of the client is shorter."""
    options: Options = {"connection_timeout": connect, "network_timeout": read}
    own = client._connection_pool._timeouts.pool
    if connect is not None and (own is None or own > connect):
        options["pool_timeout"] = connect
    return options


def _proxy_for(url: URL, proxies: Mapping[str, str | None]) -> tuple[str | None, bool]:
    """Returns the proxy for a URL, and whether the mapping has an entry for it. The most specific one is used."""
    for name in (f"{url.scheme}://{url.host}", url.scheme, f"all://{url.host}", "all"):
        if name in proxies:
            return proxies[name] or None, True
    return None, False


def _hooks(*all_hooks: Hooks) -> list[Callable[..., Any]]:
    found: list[Callable[..., Any]] = []
    for hooks in all_hooks:
        if hooks:
            check_hooks(hooks)
            calls = hooks.get("response") or ()
            found += [calls] if callable(calls) else list(calls)
    return found


def _jar(cookies: Any) -> Any:
    """Returns a jar, or None. Raises TypeError for any other object."""
    if not isinstance(cookies, (str, bytes, list, tuple, int)):
        check_jar("cookies", cookies)
        return cookies
    return merged(cast("CookiesInput", cookies))  # raises TypeError, which lists the accepted types


def _are_pairs(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in data)


def _pairs_of(params: Any) -> list[Any]:
    if params is None:
        return []
    if isinstance(params, (str, bytes)):
        from urllib.parse import parse_qsl

        text = params.decode() if isinstance(params, bytes) else params
        return parse_qsl(text, keep_blank_values=True)
    if isinstance(params, Mapping):
        return list(params.items())
    try:
        pairs = list(params)
        if all(len(pair) == 2 for pair in pairs):
            return pairs
        raise ValueError("cannot encode objects that are not 2-tuples")
    except (TypeError, ValueError) as error:
        reason = error
    raise refused_params(params, reason)
