"""One agent for all hosts: redirects, retries, cookies; with requests and responses that look like urllib's.

What programs override or assign to is looked up at each call, on the agent itself: `request_type`, `response_type`,
`valid_response_codes`, `redirect_response_codes`, `_urlopen`, `_verify_status`, `_handle_error`, `_may_retry` ...
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import email.utils
import functools
import json
import os
import random
import string
import time
from collections.abc import Iterable, Iterator, Mapping
from http.cookiejar import CookieJar
from typing import IO, TYPE_CHECKING, Any, NoReturn, Protocol
from urllib.parse import quote, urlencode
from urllib.request import Request

import gevent

from geventhttpclient import _core
from geventhttpclient._checks import check_factor, check_number, hide_user
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.client import IDEMPOTENT_METHODS, HTTPClient, HTTPClientPool
from geventhttpclient.cookies import add_cookies, extract
from geventhttpclient.header import Headers, parse_content_type_charset
from geventhttpclient.multipart import Multipart
from geventhttpclient.multipart import _encode_multipart_formdata as _encode_multipart_formdata  # by its old name
from geventhttpclient.response import HTTPConnectionClosed, HTTPSocketResponse
from geventhttpclient.url import URL

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from geventhttpclient.header import HeadersDataType
    from geventhttpclient.url import ParamsDataType

__all__ = [
    "IDEMPOTENT_METHODS",
    "PERMANENT_REDIRECT_RESPONSE_CODES",
    "REDIRECT_RESPONSE_CODES",
    "BadStatusCode",
    "CompatRequest",
    "CompatResponse",
    "ConnectionError",
    "EmptyResponse",
    "RetriesExceeded",
    "UnrewoundBodyError",
    "UnsupportedRedirectSchemeError",
    "UserAgent",
]

REDIRECT_RESPONSE_CODES = frozenset({301, 302, 303, 307, 308})
PERMANENT_REDIRECT_RESPONSE_CODES = frozenset({301, 308})

# Bytes of the body of a response that is not asked for (a redirect's, one before a retry) which are read so that the
# connection can be used again. A larger one costs more than a new connection.
DRAINED_BYTES = 64 * 1024

# bytes-like, text, a mapping of form fields, an open file, or an iterable of pieces.
Payload = Any
FilesInput = Mapping[str, Any] | Iterable[tuple[str, Any]]
CookieJarLike = CookieJar


# ----------------------------------------------------------------------------------------------------------- errors


class ConnectionError(Exception):
    """A request that came to nothing. Keyword arguments become attributes; the text names the URL.

    Not the built-in of that name: what the network raises (refused, reset, unknown hosts) goes through as it is.
    """

    text: str
    kw_text: str

    def __init__(self, url: str | URL | None, *args: Any, **kw: Any) -> None:
        super().__init__(url, *args)
        self.url = url
        for name, value in kw.items():
            setattr(self, name, value)
        self.kw_text = ", ".join(f"{name}={value}" for name, value in kw.items())
        self.text = ", ".join([*map(str, args), *([self.kw_text] if kw else [])])

    def __str__(self) -> str:
        shown = hide_user(str(self.url))
        return f"URL {shown}: {self.text}" if self.text else f"URL {shown}"

    def __repr__(self) -> str:
        shown = [hide_user(repr(argument)) for argument in self.args]
        if self.kw_text:
            shown.append(self.kw_text)
        return f"{type(self).__name__}({', '.join(shown)})"


class RetriesExceeded(ConnectionError):
    """No attempt was successful; `original` is the last one's error. Also raised after too many redirects."""


class BadStatusCode(ConnectionError):
    """A status code that is not among the agent's `valid_response_codes`.

    `code` is the status code, `response` and `request` are what it belongs to, `http_log` shows both as text.
    """

    code = 0


class EmptyResponse(ConnectionError):
    """A body was asked for, and there was none."""


class UnrewoundBodyError(ConnectionError):
    """The payload would have to be sent once more, and can be read only once."""


class UnsupportedRedirectSchemeError(ConnectionError):
    """A redirect to something other than http and https."""


# ---------------------------------------------------------------------------------------------------------- requests

# What was read of URLs given as text: programs ask for the same ones again and again. A URL in there is never handed
# out, only copies of it.
_Known = tuple[URL, str, str, str, str, str, tuple[str, str, "int | None"]]
_KNOWN_URLS: dict[str, _Known] = {}
_KNOWN_URLS_SIZE = 512


def _read_url(text: str) -> _Known:
    split = URL(text)
    host, port = split.host, split.port
    known = (split, str(split), split.scheme, split.netloc, split.request_uri, host, (split.scheme, host, port))
    if len(_KNOWN_URLS) >= _KNOWN_URLS_SIZE:
        _KNOWN_URLS.clear()
    _KNOWN_URLS[text] = known
    return known


class CompatRequest(Request):
    """A request, to be read and changed as one of urllib's, by a cookie jar for example.

    `url_split` is the URL, `url` its text; `original_host` and `original_origin` (scheme, host, port) are those of the
    request before any redirect.
    """

    method: str
    url: str
    url_split: URL

    def __init__(
        self,
        url: str | URL,
        method: str = "GET",
        headers: HeadersDataType | None = None,
        payload: Payload = None,
        params: ParamsDataType | None = None,
    ) -> None:
        """`headers` are kept as the object that they are; None stands for none."""
        # Not urllib's own: it would read the URL once more, and in another way.
        if params is None and type(url) is str:
            known = _KNOWN_URLS.get(url) or _read_url(url)
            split, self.url, self.type, self.host, self.selector, self.original_host, self.original_origin = known
            self.url_split = copy.copy(split)
        else:
            self.set_url(url, params)
            split = self.url_split
            self.original_host = split.host
            self.original_origin = (self.type, self.original_host, split.port)
        self.origin_req_host = self.original_host
        self.method = method.upper()
        self.headers: Any = Headers() if headers is None else headers
        self.payload = payload

    # As urllib has them.
    unverifiable = False
    _tunnel_host = None

    @functools.cached_property
    def unredirected_hdrs(self) -> dict[str, str]:  # type: ignore[override]
        """Not used: `add_unredirected_header` adds to `headers`."""
        return {}

    @property
    def full_url(self) -> str:
        """The URL as text."""
        return self.url

    @full_url.setter
    def full_url(self, url: str) -> None:
        self.set_url(url)

    @property
    def data(self) -> Any:
        """The payload."""
        return self.payload

    @data.setter
    def data(self, payload: Any) -> None:
        self.payload = payload

    def set_url(self, url: str | URL, params: ParamsDataType | None = None) -> None:
        """Another URL, with `params` added to its query."""
        split = url if isinstance(url, URL) and not params else URL(str(url), params=params)
        self.url_split = split
        self.url = str(split)
        self.type = split.scheme
        self.host = split.netloc
        self.selector = split.request_uri

    def get_host(self) -> str:
        """The name of the host."""
        return self.url_split.host

    def get_type(self) -> str:
        """The scheme."""
        return self.type

    def get_origin_req_host(self) -> str:
        """The host that was asked first."""
        return self.original_host

    def is_unverifiable(self) -> bool:
        """Whether the user had no say in it (RFC 2965); False."""
        return bool(self.unverifiable)

    def add_unredirected_header(self, key: str, val: str) -> None:
        """Adds a field; a redirect drops it if it is a cookie."""
        self.headers[key] = val

    def has_header(self, header_name: str) -> bool:
        """Whether there is such a field."""
        return header_name in self.headers

    def get_header(self, header_name: str, default: Any = None) -> Any:
        """The value of a field, or `default`."""
        return self.headers.get(header_name, default)

    def header_items(self) -> list[tuple[str, str]]:
        """Every field as (name, value)."""
        return list(self.headers.items())

    def _remove_header(self, name: str) -> None:
        if isinstance(self.headers, Headers):
            self.headers.discard(name)
        else:
            for key in [key for key in self.headers if key.lower() == name]:
                del self.headers[key]

    def _drop_payload(self) -> None:
        """What follows a 303 is a GET without a body, and so without fields that tell of one."""
        self.payload = None
        for name in ("content-length", "content-type", "content-encoding", "transfer-encoding", "expect"):
            self._remove_header(name)

    def _rewind_payload(self) -> None:
        """Makes the payload ready to be sent once more. UnrewoundBodyError when it can be read only once."""
        payload = self.payload
        if payload is None or isinstance(payload, (bytes, bytearray, memoryview, str, list, tuple, Mapping)):
            return
        try:
            rewind = getattr(payload, "rewind", None)
            if rewind is None:
                payload.seek(self._payload_start)
            elif rewind() is False:
                raise ValueError("read once, and gone")
        except (AttributeError, OSError, ValueError) as error:
            raise UnrewoundBodyError(self.url, "payload cannot be rewound and resent after a redirect") from error

    def _note_payload_start(self) -> None:
        """Remembers where an open file stands: that is where its part of the request begins."""
        payload = self.payload
        if payload is not None and hasattr(payload, "seek") and not hasattr(payload, "rewind"):
            # One that cannot tell is not sent twice.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._payload_start = payload.tell()

    def _drop_cookies(self) -> None:
        """Cookies are the jar's to add, for the new URL."""
        self._remove_header("cookie")
        self._remove_header("cookie2")

    def _is_same_origin(self) -> bool:
        """Whether the URL is of the origin that was asked first."""
        split = self.url_split
        return (split.scheme, split.host, split.port) == self.original_origin

    def redirect(self, code: int, location: str) -> None:
        """Turns it into the request that follows a redirect (RFC 9110 section 15.4).

        After 301, 302 and 303 it is a GET without a payload (HEAD stays HEAD); after 307 and 308 the same method and
        payload. Cookies are dropped, and so are credentials where the origin is another one.
        """
        target = self.url_split.redirect(_as_sent(location))
        if target.scheme not in ("http", "https"):
            raise UnsupportedRedirectSchemeError(self.url, f"refusing to follow redirect to {target.scheme!r} URL")
        if not target.host:
            shown = hide_user(location)
            raise ConnectionError(self.url, f"refusing to follow redirect to a URL without a host: {shown!r}")
        if not target.fragment:
            target.fragment = self.url_split.fragment  # RFC 9110 section 10.2.2
        self.set_url(target)
        if code in (301, 302, 303):
            if self.method != "HEAD":
                self.method = "GET"
            self._drop_payload()
        else:
            self._rewind_payload()
        self._drop_cookies()
        self._remove_header("host")
        if not self._is_same_origin():
            self._remove_header("authorization")
            self._remove_header("proxy-authorization")


def _as_sent(location: str) -> str:
    """A Location with what is not ASCII as the server means it: UTF-8, else escapes of the very bytes."""
    if location.isascii():
        return location
    try:
        octets = location.encode("latin-1")
    except UnicodeEncodeError:
        return location
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return quote(octets, safe=string.punctuation)


def _has_content_type(headers: Any) -> bool:
    if isinstance(headers, Headers):
        return "content-type" in headers
    return any(name.lower() == "content-type" for name in headers)


def _make_request(
    url: str | URL,
    method: str = "GET",
    headers: HeadersDataType | None = None,
    payload: Payload = None,
    params: ParamsDataType | None = None,
    files: FilesInput | None = None,
    request_type: type[CompatRequest] = CompatRequest,
) -> CompatRequest:
    """A request with its payload as bytes, and the Content-Type that goes with it unless there is one.

    A mapping is a form, text is UTF-8, and with `files` both become parts of multipart/form-data, which is read as it
    is sent.
    """
    if headers is None:
        headers = Headers()
    content_type = None
    if files:
        multipart = Multipart(payload, files)
        payload, content_type = multipart, multipart.content_type
        if multipart.length is not None:
            headers["Content-Length"] = str(multipart.length)  # type: ignore[index]
    elif payload is None or (isinstance(payload, (bytes, bytearray, memoryview, str, Mapping)) and not payload):
        payload = None
    elif isinstance(payload, Mapping):
        payload = urlencode(payload, doseq=True).encode()
        content_type = "application/x-www-form-urlencoded; charset=utf-8"
    elif isinstance(payload, str):
        payload = payload.encode()
        content_type = "text/plain; charset=utf-8"
    else:
        content_type = "application/octet-stream"
    if content_type is not None and not _has_content_type(headers):
        headers["content-type"] = content_type  # type: ignore[index]
    request = request_type(url, method=method, headers=headers, payload=payload, params=params)
    if payload is not None:
        request._note_payload_start()
    return request


# --------------------------------------------------------------------------------------------------------- responses


class CompatResponse:
    """A response of an agent. `content` is the whole body, with its content coding taken off; `read` is as it came."""

    __slots__ = ("_cached_content", "_drained", "_elapsed", "_headers", "_history", "_request", "_response", "_sent")

    _response: HTTPSocketResponse
    _request: CompatRequest | None
    _elapsed: float
    _history: list[CompatResponse]
    _cached_content: bytes
    _drained: bytes
    _headers: Any
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
    def headers(self) -> Any:
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
    def tls(self) -> Any:
        """What the TLS handshake of its connection has come to, None for plain http."""
        return self._response.tls

    def __len__(self) -> int:
        """What Content-Length says; 0 where there is none."""
        return self._response.content_length or 0

    def __bool__(self) -> bool:
        """A response is true, whatever its status and its length."""
        return True

    def info(self) -> Any:
        """The header fields."""
        return self.headers

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def read(self, n: int | None = None) -> bytes:
        """The next `n` bytes of the body as they came; all that is left without `n`."""
        return self._response.read(n)

    def readline(self) -> bytes:
        """The next line of the body as it came; b"" at its end."""
        return self._response.readline(b"\n")

    def release(self) -> None:
        """Gives the connection back, or closes it when the body was not read to its end."""
        self._response.release()

    def unzipped(self, gzip: bool = True, br: bool = False) -> bytes:
        """What is left of the body, with that coding taken off; deflate with neither."""
        coding = "br" if br else "gzip" if gzip else "deflate"
        return _core.decode(coding, self._response.read())

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
        body = response.read() or getattr(self, "_drained", b"")
        coding = response.get("content-encoding")
        # A HEAD, a 204 or a 304 may well have the field, and no body to go with it.
        return _core.decode(_listed(coding), body) if coding and body else body

    @property
    def text(self) -> str | bytes:
        """The content as text where its type says that it is one, else in bytes."""
        content_type = self._response.get("content-type")
        content_type = content_type[-1] if isinstance(content_type, list) else content_type or ""
        charset = parse_content_type_charset(content_type)
        if charset is None and content_type and not _is_text(content_type):
            return self.content
        try:
            return self.content.decode(charset or "utf-8", errors="replace")
        except LookupError:
            return self.content.decode(errors="replace")

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


# ------------------------------------------------------------------------------------------------------------- agent


class _ClientPool(Protocol):
    client_args: dict[str, Any]

    def get_client(self, url: str | URL, /) -> HTTPClient: ...
    def close(self) -> None: ...


class UserAgent:
    """Requests to any host: a client for each origin, redirects, retries, cookies.

    A status code other than 200, 206 and those of redirects raises BadStatusCode: change `valid_response_codes`, or
    override `_verify_status`, where that is not wanted.
    """

    response_type = CompatResponse
    request_type = CompatRequest
    valid_response_codes: Any = frozenset({200, 206, 301, 302, 303, 307, 308})
    redirect_response_codes: Any = REDIRECT_RESPONSE_CODES
    # The name has been written like this for years; where programs set it, it counts.
    redirect_resonse_codes: Any = None

    def __init__(
        self,
        max_redirects: int = 3,
        max_retries: int = 3,
        retry_delay: float = 0,
        cookiejar: CookieJarLike | None = None,
        headers: HeadersDataType | None = None,
        *,
        insecure: bool = False,
        retry_backoff: float = 1.0,
        retry_max_delay: float = 60.0,
        retry_jitter: float = 0.0,
        retry_statuses: Iterable[int] = (),
        retry_after: bool = True,
        **kw: Any,
    ) -> None:
        """`headers` go out with every request; further arguments are those of HTTPClient.from_url.

        An idempotent request (RFC 9110 section 9.2.2) is repeated up to `max_retries` times when the network fails it
        or when its status is one of `retry_statuses` (none by default). Between two attempts pass `retry_delay`
        seconds, each time `retry_backoff` times more, at most `retry_max_delay`, and up to `retry_jitter` times that
        in addition, at random. With `retry_after` a response's Retry-After counts instead, where it is longer.
        """
        self.max_redirects = check_number("max_redirects", max_redirects)
        self.max_retries = check_number("max_retries", max_retries)
        self.retry_delay = check_factor("retry_delay", retry_delay)
        self.retry_backoff = check_factor("retry_backoff", retry_backoff)
        self.retry_max_delay = check_factor("retry_max_delay", retry_max_delay)
        self.retry_jitter = check_factor("retry_jitter", retry_jitter)
        self.retry_statuses = frozenset(retry_statuses)
        self.retry_after = retry_after
        self.default_headers = HTTPClient.DEFAULT_HEADERS.copy()
        if headers:
            self.default_headers.update(headers)
        self.cookiejar = cookiejar
        self.clientpool: _ClientPool = HTTPClientPool(insecure=insecure, **kw)

    def close(self) -> None:
        """Closes all clients. The next request makes new ones."""
        self.clientpool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    # ---------------------------------------------------------------------------------------------- may be overridden

    def _make_request(
        self,
        url: str | URL,
        method: str = "GET",
        headers: HeadersDataType | None = None,
        payload: Payload = None,
        params: ParamsDataType | None = None,
        files: FilesInput | None = None,
    ) -> CompatRequest:
        if payload is None and not files:
            return self.request_type(url, method, headers, None, params)
        return _make_request(url, method, headers, payload, params, files, self.request_type)

    def _urlopen(self, request: CompatRequest) -> CompatResponse:
        """One request and its response, whatever that is."""
        url = request.url_split
        client = self.clientpool.get_client(url)
        response = client.request(request.method, url.quoted_uri or "/", body=request.payload, headers=request.headers)
        return self.response_type(response, request=request)

    def _verify_status(self, status_code: int, url: str | URL | None = None) -> None:
        """Raises BadStatusCode unless the status code is one of `valid_response_codes`."""
        if status_code not in self.valid_response_codes:
            raise BadStatusCode(url, code=status_code)

    def _may_retry(self, request: CompatRequest) -> bool:
        """Whether the request may be sent once more when nobody knows whether it arrived."""
        return request.method in IDEMPOTENT_METHODS

    def _handle_error(self, e: BaseException, url: str | URL | None = None) -> BaseException:
        """Returns an error after which another attempt may do better; raises any other."""
        if isinstance(e, (TimeoutError, EmptyResponse, HTTPConnectionClosed)):
            return e
        if isinstance(e, OSError) and isinstance(e, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
            return e
        raise e

    def _handle_retries_exceeded(self, url: str | URL, last_error: BaseException | None = None) -> NoReturn:
        """Raises what broke the connection as it is; else RetriesExceeded, with the last error as `original`."""
        if isinstance(last_error, (HTTPConnectionClosed, OSError)) and not isinstance(last_error, TimeoutError):
            raise last_error
        raise RetriesExceeded(url, self.max_retries, original=last_error) from last_error

    # -------------------------------------------------------------------------------------------------------- requests

    def urlopen(
        self,
        url: str | URL,
        method: str = "GET",
        headers: HeadersDataType | None = None,
        payload: Payload = None,
        to_string: bool = False,
        debug_stream: IO[str] | None = None,
        params: ParamsDataType | None = None,
        max_retries: int | None = None,
        max_redirects: int | None = None,
        files: FilesInput | None = None,
        **kw: Any,
    ) -> Any:
        """The response to a request, after redirects; its body as bytes with `to_string`.

        Further keyword arguments are form fields of a POST, a PUT or a PATCH without a payload, else parts of the
        query. To `debug_stream` each exchange is written as text.

        Raises BadStatusCode, RetriesExceeded and their like; what the network raises goes through as it is, with the
        attribute `request`. A gevent.Timeout is nobody's but the caller's: it is never taken for a reason to retry.
        """
        all_headers = self.default_headers.copy()
        if headers:
            all_headers.update(headers)
        if kw:
            if payload is None and method.upper() in ("POST", "PUT", "PATCH"):
                payload = kw
            else:
                params = _with(params, kw)
        request = self._make_request(url, method, all_headers, payload, params, files)
        return self._perform(request, max_retries, max_redirects, debug_stream, to_string)

    def _perform(
        self,
        request: CompatRequest,
        max_retries: int | None = None,
        max_redirects: int | None = None,
        debug_stream: IO[str] | None = None,
        to_string: bool = False,
    ) -> Any:
        """The response to a request that is ready to be sent, after retries and redirects."""
        retries = self.max_retries if max_retries is None else max_retries
        redirects = self.max_redirects if max_redirects is None else max_redirects
        url = request.url
        brings_cookies = self.cookiejar is not None and request.has_header("Cookie")
        attempt = 0
        while True:
            started = time.perf_counter()
            response = None
            is_last = False
            try:
                response = self._follow(request, redirects, debug_stream)
                status = response.status_code if self.retry_statuses else 0
                if status in self.retry_statuses and attempt < retries and self._may_send_again(request):
                    last_error: BaseException = BadStatusCode(url, code=status)
                elif not to_string:
                    response._elapsed = time.perf_counter() - started
                    return response
                elif content := response.content:
                    return content
                else:
                    raise EmptyResponse(url, "Empty response body received")
            except BadStatusCode as e:
                if e.code not in self.retry_statuses or attempt >= retries or not self._may_send_again(request):
                    raise
                last_error, response = e, getattr(e, "response", None)
            except Exception as e:
                if isinstance(e, ConnectionError) and not isinstance(e, EmptyResponse):
                    raise
                if not hasattr(e, "request"):
                    e.request = request  # type: ignore[attr-defined]
                last_error = self._handle_error(e, url=request.url)
                is_last = attempt >= retries or not self._may_send_again(request)
            if is_last:
                self._handle_retries_exceeded(request.url, last_error=last_error)
            attempt += 1
            self._rest(attempt, response)
            if self.cookiejar is not None and not brings_cookies:
                request._drop_cookies()  # the jar may have others by now

    def _may_send_again(self, request: CompatRequest) -> bool:
        if not self._may_retry(request):
            return False
        try:
            request._rewind_payload()
        except UnrewoundBodyError:
            return False
        return True

    def _follow(self, request: CompatRequest, max_redirects: int, debug_stream: IO[str] | None) -> CompatResponse:
        """One attempt: the response at the end of all redirects."""
        history: list[CompatResponse] = []
        first_url = request.url
        while True:
            if self.cookiejar is not None:
                add_cookies(self.cookiejar, request)
            try:
                response = self._urlopen(request)
            except Exception as e:
                if not hasattr(e, "request"):
                    e.request = request  # type: ignore[attr-defined]
                raise
            if self.cookiejar is not None and response._response.get("set-cookie") is not None:
                extract(self.cookiejar, response.headers, request)
            if debug_stream is not None:
                debug_stream.write(self._conversation_str(request.url, response, payload=request.payload) + "\n\n")
            status = response.status_code
            location = self._location(response, status) if max_redirects else None
            if location is None:
                break
            if len(history) >= max_redirects:
                response.release()
                raise RetriesExceeded(first_url, f"Redirection limit reached ({max_redirects})")
            history.append(response)
            _drain(response)
            request = copy.copy(request)
            request.headers = copy.copy(request.headers)
            request.redirect(status, location)
        if history:
            response._history = history
        try:
            self._verify_status(status, url=request.url)
        except ConnectionError as e:
            e.response = response  # type: ignore[attr-defined]
            e.request = request  # type: ignore[attr-defined]
            e.http_log = self._conversation_str(  # type: ignore[attr-defined]
                request.url, response, payload=request.payload
            )
            raise
        return response

    def _location(self, response: CompatResponse, status: int) -> str | None:
        """Where a response redirects to, if it does."""
        codes = self.redirect_response_codes
        # None at all are none in either spelling: that is how programs turn redirects off for one request.
        if codes and self.redirect_resonse_codes is not None:
            codes = self.redirect_resonse_codes
        if status not in codes:
            return None
        location = response._response.get("location")
        return location[0] if isinstance(location, list) else location or None

    def _rest(self, attempt: int, response: CompatResponse | None) -> None:
        """Between two attempts."""
        delay = 0.0
        if self.retry_delay:
            delay = min(self.retry_delay * self.retry_backoff ** (attempt - 1), self.retry_max_delay)
        if self.retry_jitter:
            delay += delay * self.retry_jitter * random.random()
        if response is not None:
            if self.retry_after:
                delay = max(delay, min(_seconds(response._response.get("retry-after")), self.retry_max_delay))
            _drain(response)
        if delay > 0:
            gevent.sleep(delay)

    @classmethod
    def _conversation_str(cls, url: str, resp: CompatResponse, payload: Payload = None, encoding: str = "utf-8") -> str:
        """An exchange as text. Bytes that are none are shown as what stands for them."""
        if isinstance(payload, (bytes, bytearray, memoryview)):
            payload = bytes(payload).decode(encoding, errors="replace")
        elif payload is not None and not isinstance(payload, str):
            payload = repr(payload)
        try:
            content = resp.content
            body = content.decode(encoding, errors="replace") if isinstance(content, bytes) else str(content)
        except Exception as e:  # what is wrong with the body must not hide what this is a log of
            body = f"({type(e).__name__}: {e})"
        sent = f"{payload}\n\n" if payload else ""
        head = f"REQUEST: {hide_user(str(url))}\n{resp._sent_request}{sent}"
        version = resp._response.get_http_version()
        return f"{head}RESPONSE: {version} {resp.status_code}\n{resp.headers}\n\n{body}"

    def download(
        self,
        url: str | URL,
        fpath: str | os.PathLike[str],
        chunk_size: int = 16 * 1024,
        resume: bool = False,
        **kw: Any,
    ) -> CompatResponse:
        """Writes a body to a file, piece by piece, and returns its response.

        With `resume` a file that is there already is continued, if the server gives parts (RFC 9110 section 14).
        """
        kw.pop("to_string", None)
        present = os.path.getsize(fpath) if resume and os.path.exists(fpath) else 0
        headers = Headers(kw.pop("headers", None))
        if present:
            headers["Range"] = f"bytes={present}-"
        try:
            response: CompatResponse = self.urlopen(url, headers=headers, **kw)
        except BadStatusCode as e:
            if present and e.code == 416 and _is_whole(e.response, present):  # type: ignore[attr-defined]
                return e.response  # type: ignore[attr-defined,no-any-return]
            raise
        if present and response.status_code == 416:
            if not _is_whole(response, present):
                raise BadStatusCode(url, code=416, response=response, request=response._request)
            return response
        continues = response.status_code == 206 and _starts_at(response._response.get("content-range"), present)
        if present and response.status_code == 206 and not continues:
            response.release()
            raise HTTPParseError(f"Not the range that was asked for: {response._response.get('content-range')!r}", 0)
        with response, open(fpath, "ab" if present and continues else "wb") as file:
            while piece := response.read(chunk_size):
                file.write(piece)
        return response


def _with(params: Any, more: dict[str, Any]) -> Any:
    """Parts of a query, whatever they were given as, and more of them."""
    if not params:
        return more
    if isinstance(params, (str, bytes)):
        text = params.decode() if isinstance(params, bytes) else params
        return f"{text}&{urlencode(more, doseq=True)}"
    pairs = list(params.items()) if isinstance(params, Mapping) else list(params)
    return [*pairs, *more.items()]


def _drain(response: CompatResponse) -> None:
    """Gets the connection ready for the next request, if that is cheap; what was read stays to be asked for."""
    inner = response._response
    try:
        if (inner.content_length or 0) <= DRAINED_BYTES:
            body = inner.read(DRAINED_BYTES)
            if not inner._is_attached():
                response._drained = body
    except (OSError, HTTPParseError):
        pass  # what was not asked for may be as broken as it likes
    finally:
        inner.release()


def _seconds(retry_after: Any) -> float:
    """What Retry-After asks for: seconds, or a date (RFC 9110 section 10.2.3); 0 for what is neither."""
    text = retry_after[0] if isinstance(retry_after, list) else retry_after
    if not isinstance(text, str):
        return 0.0
    if text.isascii() and text.strip().isdigit():
        return float(text[:12])
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    now = datetime.datetime.now(datetime.timezone.utc)
    return max(0.0, (at - now if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc) - now).total_seconds())


def _starts_at(content_range: Any, offset: int) -> bool:
    return isinstance(content_range, str) and content_range.replace(" ", "").lower().startswith(f"bytes{offset}-")


def _is_whole(response: CompatResponse, present: int) -> bool:
    """Whether a 416 means that nothing is left: it may tell of another length (RFC 9110 section 14.4)."""
    content_range = response._response.get("content-range")
    _, slash, length = content_range.partition("/") if isinstance(content_range, str) else ("", "", "")
    return not slash or length.strip() == str(present)
