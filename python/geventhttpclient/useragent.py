"""An agent for all hosts, with redirects, retries and cookies, and requests and responses that resemble urllib's.

Attributes and methods that programs assign or override are looked up on the agent at each call: `request_type`,
`response_type`, `valid_response_codes`, `redirect_response_codes`, `_urlopen`, `_verify_status`, `_handle_error`,
`_may_retry` ...
"""

from __future__ import annotations

import copy
import os
import random
import time
from collections.abc import Iterable, Mapping
from http.cookiejar import CookieJar
from typing import IO, TYPE_CHECKING, Any, Literal, NoReturn, Protocol, overload
from urllib.parse import urlencode

import gevent

from geventhttpclient import _core
from geventhttpclient._agent.draining import drain
from geventhttpclient._agent.request import CompatRequest, FilesInput, Payload, _make_request
from geventhttpclient._agent.response import CompatResponse, field_of
from geventhttpclient._agent.retries import DefaultRetries, retry_after_seconds
from geventhttpclient._internal.argument_errors import OF_CLIENTS, check_jar, check_statuses, unexpected
from geventhttpclient._internal.decoding import ACCEPT_ENCODING
from geventhttpclient._internal.pickling import kept_jar
from geventhttpclient._internal.validation import check_count, check_factor, check_number, given
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.client import IDEMPOTENT_METHODS, ClientOptions, HTTPClient, HTTPClientPool
from geventhttpclient.cookies import add_cookies, bind, extract
from geventhttpclient.exceptions import (
    BadStatusCode,
    ConnectionError,
    EmptyResponse,
    InvalidRedirectError,
    RetriesExceeded,
    UnrewoundBodyError,
    UnsupportedRedirectSchemeError,
)
from geventhttpclient.header import Headers
from geventhttpclient.http2 import HTTP2Error
from geventhttpclient.multipart import _encode_multipart_formdata as _encode_multipart_formdata  # its old name
from geventhttpclient.response import HTTPConnectionClosed, HTTPResponse
from geventhttpclient.url import URL

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from geventhttpclient.client import AgentOptions
    from geventhttpclient.header import HeadersDataType, TrailersDataType
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
    "FilesInput",
    "InvalidRedirectError",
    "Payload",
    "RetriesExceeded",
    "UnrewoundBodyError",
    "UnsupportedRedirectSchemeError",
    "UserAgent",
]

REDIRECT_RESPONSE_CODES = frozenset({301, 302, 303, 307, 308})
"""The status codes of redirects."""

PERMANENT_REDIRECT_RESPONSE_CODES = frozenset({301, 308})
"""The status codes of permanent redirects."""

# Names of the arguments of HTTPClientPool, and of those and the arguments of its clients.
_POOL_ARGUMENTS = HTTPClientPool.__init__.__annotations__.keys() - {"kw", "return"}
_CLIENT_ARGUMENTS = ClientOptions.__annotations__.keys() | _POOL_ARGUMENTS

# Most bytes of a body that are read for `http_log` and `debug_stream`, and most seconds that reading takes. An error
# page is usually smaller: it is read to its end, so that its connection can be reused while the exception is kept. The
# network timeout limits a single wait.
MOST_LOGGED_BYTES = 1024 * 1024
MOST_LOGGED_SECONDS = 5.0

CookieJarLike = CookieJar


class _ClientPool(Protocol):
    client_args: dict[str, Any]

    def get_client(self, url: str | URL, /) -> HTTPClient: ...
    def close(self) -> None: ...


class UserAgent:
    """An agent for any host, with a client for each origin, redirects, retries and cookies.

    A status code other than 200, 206 and those of redirects raises BadStatusCode. Change `valid_response_codes` or
    override `_verify_status` to accept others.
    """

    response_type = CompatResponse
    request_type = CompatRequest
    valid_response_codes: Any = frozenset({200, 206, 301, 302, 303, 307, 308})
    redirect_response_codes: Any = REDIRECT_RESPONSE_CODES
    # The misspelled name of earlier versions, which is used if programs set it.
    redirect_resonse_codes: Any = None
    redirect_keeps_method: bool = False
    """Whether PUT, PATCH and DELETE keep their method and payload after 301 and 302."""

    def __init__(
        self,
        max_redirects: int = 3,
        max_retries: int = 3,
        retry_delay: float = 0,
        cookiejar: CookieJarLike | None = None,
        headers: HeadersDataType | None = None,
        *,
        retry_backoff: float = 1.0,
        retry_max_delay: float = 60.0,
        retry_jitter: float = 0.0,
        retry_statuses: Iterable[int] = (),
        retry_after: bool = True,
        redirect_keeps_method: bool | None = None,
        **kw: Unpack[AgentOptions],
    ) -> None:
        """Takes the arguments of HTTPClientPool in addition to these. `headers` are sent with every request.

        After a redirect with 301, 302 or 303 the next request is a GET without the payload. With
        `redirect_keeps_method`, 301 and 302 change only a POST into a GET, as in RFC 9110: PUT, PATCH and DELETE keep
        method and payload. None means the value of the class.

        An idempotent request (RFC 9110 section 9.2.2) is retried up to `max_retries` times after a network error, or
        if its status is one of `retry_statuses` (none by default). The delay before the first retry is `retry_delay`
        seconds. It is multiplied by `retry_backoff` for each further one, up to `retry_max_delay`, and a random part of
        up to `retry_jitter` times the delay is added. With `retry_after`, the Retry-After of a response is used if it
        is longer, but at most `retry_max_delay`.

        Raises TypeError for unknown arguments, and ValueError or TypeError for invalid numbers.
        """
        options: dict[str, Any] = {"insecure": False, **kw}
        if unknown := options.keys() - _CLIENT_ARGUMENTS:
            raise unexpected(unknown, [*_CLIENT_ARGUMENTS, *_AGENT_ARGUMENTS], OF_CLIENTS)
        self.max_redirects: int = check_number("max_redirects", max_redirects)
        self.max_retries: int = check_number("max_retries", max_retries)
        self.retry_delay: float = check_factor("retry_delay", retry_delay)
        self.retry_backoff: float = check_factor("retry_backoff", retry_backoff)
        self.retry_max_delay: float = check_factor("retry_max_delay", retry_max_delay)
        self.retry_jitter: float = check_factor("retry_jitter", retry_jitter)
        self.retry_statuses: frozenset[int] = check_statuses("retry_statuses", retry_statuses)
        self.retry_after = retry_after
        if redirect_keeps_method is not None:
            self.redirect_keeps_method = redirect_keeps_method
        check_jar("cookiejar", cookiejar)
        self.default_headers: Headers = HTTPClient.DEFAULT_HEADERS.copy()
        if headers:
            self.default_headers.update(headers if isinstance(headers, dict) else Headers(headers))
        self.cookiejar: CookieJarLike | None = cookiejar
        self.clientpool: _ClientPool = HTTPClientPool(**options)

    def close(self) -> None:
        """Closes all clients. The next request creates new ones."""
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

    def __copy__(self) -> Self:
        # A shallow copy shares clients and cookies.
        clone: Self = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        return clone

    def __getstate__(self) -> dict[str, Any]:
        """Returns the settings and the cookies, for pickles and deep copies. These open new connections."""
        return {**self.__dict__, "cookiejar": kept_jar(self.cookiejar)}

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
        """Sends one request and returns its response, whatever its status code."""
        url = request.url_split
        client = self._pool_for(request).get_client(url)
        target = url.quoted_uri or "/"
        if request.trailers is None:
            response = client.request(request.method, target, body=request.payload, headers=request.headers)
        else:
            response = client.request(
                request.method, target, body=request.payload, headers=request.headers, trailers=request.trailers
            )
        return self.response_type(response, request=request)

    def _pool_for(self, request: CompatRequest) -> _ClientPool:
        """Returns the client pool for a request. After a redirect, another origin gets no client certificate."""
        pool = self.clientpool
        if isinstance(pool, HTTPClientPool) and pool._has_certificate and not request._is_same_origin():
            return pool._without_certificate()
        return pool

    def _verify_status(self, status_code: int, url: str | URL | None = None) -> None:
        """Raises BadStatusCode unless the status code is one of `valid_response_codes`."""
        if status_code not in self.valid_response_codes:
            raise BadStatusCode(url, code=status_code)

    def _may_retry(self, request: CompatRequest) -> bool:
        """Returns True if the request may be sent again when it is not known whether it arrived."""
        return request.method in IDEMPOTENT_METHODS

    def _handle_error(self, e: BaseException, url: str | URL | None = None) -> BaseException:
        """Returns the error if another attempt may succeed; raises it otherwise."""
        if isinstance(e, TimeoutError) and getattr(e, "phase", None) == "pool":
            raise e  # nothing was sent: another attempt would repeat the same wait
        if isinstance(e, (TimeoutError, EmptyResponse, HTTPConnectionClosed, HTTP2Error)):
            return e
        if isinstance(e, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
            return e
        raise e

    def _handle_retries_exceeded(self, url: str | URL, last_error: BaseException | None = None) -> NoReturn:
        """Raises the last error itself if the connection failed, else RetriesExceeded with that error as `original`."""
        if isinstance(last_error, (HTTPConnectionClosed, OSError)) and not isinstance(last_error, TimeoutError):
            raise last_error
        raise RetriesExceeded(url, self.max_retries, original=last_error) from last_error

    # -------------------------------------------------------------------------------------------------------- requests

    @overload
    def urlopen(
        self,
        url: str | URL,
        method: str = "GET",
        headers: HeadersDataType | None = None,
        payload: Payload = None,
        to_string: Literal[False] = False,
        debug_stream: IO[str] | None = None,
        params: ParamsDataType | None = None,
        max_retries: int | None = None,
        max_redirects: int | None = None,
        files: FilesInput | None = None,
        *,
        trailers: TrailersDataType | None = None,
        **kw: Any,
    ) -> CompatResponse: ...

    @overload
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
        *,
        trailers: TrailersDataType | None = None,
        **kw: Any,
    ) -> Any: ...

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
        *,
        trailers: TrailersDataType | None = None,
        **kw: Any,
    ) -> Any:
        """Sends a request, follows redirects, and returns the response; with `to_string`, its body as bytes.

        Further keyword arguments are form fields of a POST, a PUT or a PATCH without a payload, else parameters of the
        query. Each exchange is written to `debug_stream` as text, with the first MiB of its body. `trailers` have the
        forms that HTTPClient.request takes: a callable is called each time that the request is sent, and no trailers
        are sent after a redirect that drops the payload.

        Raises BadStatusCode, RetriesExceeded and other errors of this package, and network errors, which get the
        attribute `request`. A gevent.Timeout belongs to the caller: it never causes a retry.
        """
        if max_retries is not None:
            check_number("max_retries", max_retries)
        if max_redirects is not None:
            check_number("max_redirects", max_redirects)
        if debug_stream is not None and not hasattr(debug_stream, "write"):
            raise TypeError(f"debug_stream must be a file that text is written to, not {given(debug_stream)}")
        all_headers = self.default_headers.copy()
        if headers:
            all_headers.update(headers if isinstance(headers, dict) else Headers(headers))
        if "range" in all_headers and all_headers.get("accept-encoding") == ACCEPT_ENCODING:
            all_headers.discard("accept-encoding")  # a range of a compressed body cannot be decoded
        if kw:
            if payload is None and method.upper() in ("POST", "PUT", "PATCH"):
                payload = kw
            else:
                params = _with(params, kw)
        request = self._make_request(url, method, all_headers, payload, params, files)
        if trailers is not None:
            request._add_trailers(trailers)
        return self._perform(request, max_retries, max_redirects, debug_stream, to_string)

    def _perform(
        self,
        request: CompatRequest,
        max_retries: int | None = None,
        max_redirects: int | None = None,
        debug_stream: IO[str] | None = None,
        to_string: bool = False,
    ) -> Any:
        """Sends a complete request, with retries and redirects, and returns the response."""
        retries = self.max_retries if max_retries is None else max_retries
        redirects = self.max_redirects if max_redirects is None else max_redirects
        url = request.url
        brings_cookies = self.cookiejar is not None and request.has_header("Cookie")
        if self.cookiejar is not None:
            bind(self.cookiejar, request)
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
                if isinstance(e, ConnectionError) and not isinstance(e, (EmptyResponse, HTTP2Error)):
                    raise
                if not hasattr(e, "request"):
                    e.request = request  # type: ignore[attr-defined]
                last_error = self._handle_error(e, url=request.url)
                is_out_of_time = isinstance(e, TimeoutError) and isinstance(retries, DefaultRetries)
                is_last = is_out_of_time or attempt >= retries or not self._may_send_again(request)
            if is_last:
                try:
                    self._handle_retries_exceeded(request.url, last_error=last_error)
                except RetriesExceeded as e:
                    e.attempts = attempt + 1
                    raise
            attempt += 1
            self._rest(attempt, response)
            if self.cookiejar is not None and not brings_cookies:
                request._drop_cookies()  # the jar may have changed since

    def _may_send_again(self, request: CompatRequest) -> bool:
        if not self._may_retry(request):
            return False
        try:
            request._rewind_payload()
        except UnrewoundBodyError:
            return False
        return True

    def _follow(self, request: CompatRequest, max_redirects: int, debug_stream: IO[str] | None) -> CompatResponse:
        """Makes one attempt, and returns the response after all redirects."""
        history: list[CompatResponse] = []
        first_url = request.url
        while True:
            if self.cookiejar is not None:
                add_cookies(self.cookiejar, request)
            if request.payload is not request._noted:
                request._note_payload_start()  # it was replaced since
            try:
                response = self._urlopen(request)
            except Exception as e:
                if not hasattr(e, "request"):
                    e.request = request  # type: ignore[attr-defined]
                raise
            inner: Any = getattr(response, "_response", None)
            sets_no_cookies = issubclass(type(inner), HTTPResponse) and inner.get("set-cookie") is None
            if self.cookiejar is not None and not sets_no_cookies:
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
            drain(response)
            redirected, request = request, copy.copy(request)
            request.headers = copy.copy(request.headers)
            request.redirect_keeps_method = self.redirect_keeps_method
            try:
                request.redirect(status, location)
            except (InvalidRedirectError, UnrewoundBodyError, UnsupportedRedirectSchemeError) as e:
                response._history = history[:-1]
                e.request, e.response = redirected, response  # type: ignore[union-attr]
                raise
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
        """Returns the target of a redirect; None if the response is not a redirect."""
        codes = self.redirect_response_codes
        # An empty set overrides the misspelled name: programs disable redirects for one request with it.
        if codes and self.redirect_resonse_codes is not None:
            codes = self.redirect_resonse_codes
        if status not in codes:
            return None
        location = field_of(response, "location")
        return (location[0] if isinstance(location, list) else location) or None

    def _rest(self, attempt: int, response: CompatResponse | None) -> None:
        """Waits before the next attempt, and drains the previous response if there is one."""
        delay = 0.0
        if self.retry_delay:
            delay = min(self.retry_delay * self.retry_backoff ** (attempt - 1), self.retry_max_delay)
        if self.retry_jitter:
            delay += delay * self.retry_jitter * random.random()
        if response is not None:
            if self.retry_after:
                delay = max(delay, min(retry_after_seconds(field_of(response, "retry-after")), self.retry_max_delay))
            drain(response)
        if delay > 0:
            gevent.sleep(delay)

    @classmethod
    def _conversation_str(cls, url: str, resp: CompatResponse, payload: Payload = None, encoding: str = "utf-8") -> str:
        """Returns an exchange as text, with the beginning of the response's body.

        Reads at most MOST_LOGGED_BYTES, and starts no read after MOST_LOGGED_SECONDS; the rest can still be read. A
        payload that is neither bytes nor a str is shown as its repr. Invalid bytes are replaced.
        """
        if isinstance(payload, (bytes, bytearray, memoryview)):
            payload = bytes(payload).decode(encoding, errors="replace")
        elif payload is not None and not isinstance(payload, str):
            payload = repr(payload)
        try:
            is_whole = resp._look(MOST_LOGGED_BYTES, MOST_LOGGED_SECONDS)
            content: Any = resp._seen(is_whole)
            body = content.decode(encoding, errors="replace") if isinstance(content, bytes) else str(content)
            if not is_whole:
                body += "\n\n(the rest of the body has not been read)"
        except Exception as e:  # an error in the body must not hide the logged error
            body = f"({type(e).__name__}: {e})"
        sent = f"{payload}\n\n" if payload else ""
        head = f"REQUEST: {_core.redact(str(url))}\n{resp._sent_request}{sent}"
        version = resp._response.version
        return f"{head}RESPONSE: {version} {resp.status_code}\n{resp.headers}\n\n{body}"

    def download(
        self,
        url: str | URL,
        fpath: str | os.PathLike[str],
        chunk_size: int = 16 * 1024,
        resume: bool = False,
        **kw: Any,
    ) -> CompatResponse:
        """Writes a body to a file, in pieces of `chunk_size` bytes (at least 1), and returns its response.

        With `resume` an existing file is continued if the server supports ranges (RFC 9110 section 14). The body is
        written without decoding. The agent's default Accept-Encoding is not sent, since a range of a compressed body
        cannot be decoded.
        """
        kw.pop("to_string", None)
        check_count("chunk_size", chunk_size)
        if not isinstance(fpath, (str, bytes, os.PathLike, int)):
            raise TypeError(f"fpath must be a path, not {given(fpath)}")
        present = os.path.getsize(fpath) if resume and os.path.exists(fpath) else 0
        headers = Headers(kw.pop("headers", None))
        if self.default_headers.get("accept-encoding") == ACCEPT_ENCODING:
            headers.setdefault("Accept-Encoding", None)
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
        continues = response.status_code == 206 and _starts_at(field_of(response, "content-range"), present)
        if present and response.status_code == 206 and not continues:
            response.release()
            raise HTTPParseError(f"Not the requested range: {field_of(response, 'content-range')!r}", 0)
        with response, open(fpath, "ab" if present and continues else "wb") as file:
            while piece := response.read(max(int(chunk_size), 1)):
                file.write(piece)
        return response


# Names of the arguments of UserAgent in addition to those of its clients.
_AGENT_ARGUMENTS = tuple(sorted(UserAgent.__init__.__annotations__.keys() - {"kw", "return"}))


def _with(params: Any, more: dict[str, Any]) -> Any:
    """Returns the parameters of a query, in any of their forms, with more of them."""
    if not params:
        return more
    if isinstance(params, (str, bytes)):
        text = params.decode() if isinstance(params, bytes) else params
        return f"{text}&{urlencode(more, doseq=True)}"
    pairs = list(params.items()) if isinstance(params, Mapping) else list(params)
    return [*pairs, *more.items()]


def _starts_at(content_range: Any, offset: int) -> bool:
    return isinstance(content_range, str) and content_range.replace(" ", "").lower().startswith(f"bytes{offset}-")


def _is_whole(response: CompatResponse, present: int) -> bool:
    """Returns True if a 416 means that the file is complete: it may give another length (RFC 9110 section 14.4)."""
    content_range = field_of(response, "content-range")
    _, slash, length = content_range.partition("/") if isinstance(content_range, str) else ("", "", "")
    return not slash or length.strip() == str(present)
