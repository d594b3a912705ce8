"""One agent for all hosts: redirects, retries, cookies; with requests and responses that look like urllib's.

What programs override or assign to is looked up at each call, on the agent itself: `request_type`, `response_type`,
`valid_response_codes`, `redirect_response_codes`, `_urlopen`, `_verify_status`, `_handle_error`, `_may_retry` ...
"""

from __future__ import annotations

import copy
import datetime
import email.utils
import os
import random
import time
from collections.abc import Iterable, Mapping
from http.cookiejar import CookieJar
from typing import IO, TYPE_CHECKING, Any, Literal, NoReturn, Protocol, overload
from urllib.parse import urlencode

import gevent

from geventhttpclient import _core
from geventhttpclient._checks import check_factor, check_number
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.client import IDEMPOTENT_METHODS, HTTPClient, HTTPClientPool
from geventhttpclient.compat_errors import (
    BadStatusCode,
    ConnectionError,
    EmptyResponse,
    InvalidRedirectError,
    RetriesExceeded,
    UnrewoundBodyError,
    UnsupportedRedirectSchemeError,
)
from geventhttpclient.compat_request import CompatRequest, FilesInput, Payload, _make_request
from geventhttpclient.compat_response import CompatResponse
from geventhttpclient.cookies import add_cookies, bind, extract
from geventhttpclient.header import Headers
from geventhttpclient.http2 import HTTP2Error
from geventhttpclient.multipart import _encode_multipart_formdata as _encode_multipart_formdata  # by its old name
from geventhttpclient.response import HTTPConnectionClosed
from geventhttpclient.url import URL

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

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
"""The status codes that lead elsewhere."""

PERMANENT_REDIRECT_RESPONSE_CODES = frozenset({301, 308})
"""Those that do so for good."""

# Bytes of the body of a response that is not asked for (a redirect's, one before a retry) which are read so that the
# connection can be used again. A larger one costs more than a new connection.
DRAINED_BYTES = 64 * 1024

# Seconds that it may take: a peer that is slower than that is not waited for, however steadily its body drips.
DRAINED_SECONDS = 1.0

# Characters of a Retry-After that is looked at. A date has 29, or 33 in the oldest of its forms.
MOST_RETRY_AFTER = 64

# The arguments of HTTPClientPool, and of the clients that it makes, by their names.
_OF_POOLS = HTTPClientPool.__init__.__annotations__.keys() - {"kw", "return"}
_OF_CLIENTS = HTTPClient.__init__.__annotations__.keys() - {"host", "port", "return"} | _OF_POOLS

# Bytes of a body that are read for `http_log` and `debug_stream`, and seconds that it may take. An error's page is
# mostly within them: it is read to its end then, and its connection can be used again while the exception is kept. A
# single wait is bounded by the network timeout.
MOST_LOGGED_BYTES = 1024 * 1024
MOST_LOGGED_SECONDS = 5.0

CookieJarLike = CookieJar


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
        """`headers` go out with every request; further arguments are those of HTTPClientPool.

        An idempotent request (RFC 9110 section 9.2.2) is repeated up to `max_retries` times when the network fails it
        or when its status is one of `retry_statuses` (none by default). Between two attempts pass `retry_delay`
        seconds, each time `retry_backoff` times more, at most `retry_max_delay`, and up to `retry_jitter` times that
        in addition, at random. With `retry_after` a response's Retry-After counts instead, where it is longer.

        Raises TypeError for arguments that HTTPClientPool does not have, ValueError or TypeError for invalid numbers.
        """
        if unknown := kw.keys() - _OF_CLIENTS:
            raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
        self.max_redirects: int = check_number("max_redirects", max_redirects)
        self.max_retries: int = check_number("max_retries", max_retries)
        self.retry_delay: float = check_factor("retry_delay", retry_delay)
        self.retry_backoff: float = check_factor("retry_backoff", retry_backoff)
        self.retry_max_delay: float = check_factor("retry_max_delay", retry_max_delay)
        self.retry_jitter: float = check_factor("retry_jitter", retry_jitter)
        self.retry_statuses: frozenset[int] = frozenset(retry_statuses)
        self.retry_after = retry_after
        self.default_headers: Headers = HTTPClient.DEFAULT_HEADERS.copy()
        if headers:
            self.default_headers.update(headers)
        self.cookiejar: CookieJarLike | None = cookiejar
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
        """Returns the clients for a request. An origin that only a redirect led to is shown no client certificate."""
        pool = self.clientpool
        if isinstance(pool, HTTPClientPool) and pool._has_certificate and not request._is_same_origin():
            return pool._without_certificate()
        return pool

    def _verify_status(self, status_code: int, url: str | URL | None = None) -> None:
        """Raises BadStatusCode unless the status code is one of `valid_response_codes`."""
        if status_code not in self.valid_response_codes:
            raise BadStatusCode(url, code=status_code)

    def _may_retry(self, request: CompatRequest) -> bool:
        """Whether the request may be sent once more when nobody knows whether it arrived."""
        return request.method in IDEMPOTENT_METHODS

    def _handle_error(self, e: BaseException, url: str | URL | None = None) -> BaseException:
        """Returns an error after which another attempt may do better; raises any other."""
        if isinstance(e, (TimeoutError, EmptyResponse, HTTPConnectionClosed, HTTP2Error)):
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
        """The response to a request, after redirects; its body as bytes with `to_string`.

        Further keyword arguments are form fields of a POST, a PUT or a PATCH without a payload, else parts of the
        query. To `debug_stream` each exchange is written as text, with the first MiB of its body. `trailers` are as
        HTTPClient.request takes them: a callable is asked each time that the request is sent, and none are sent where a
        redirect drops the payload.

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
        """The response to a request that is ready to be sent, after retries and redirects."""
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
            redirected, request = request, copy.copy(request)
            request.headers = copy.copy(request.headers)
            try:
                request.redirect(status, location)
            except (InvalidRedirectError, UnsupportedRedirectSchemeError) as e:
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
        """Where a response redirects to, if it does."""
        codes = self.redirect_response_codes
        # None at all are none in either spelling: that is how programs turn redirects off for one request.
        if codes and self.redirect_resonse_codes is not None:
            codes = self.redirect_resonse_codes
        if status not in codes:
            return None
        location = response._response.get("location")
        return (location[0] if isinstance(location, list) else location) or None

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
        """An exchange as text, with as much of the response's body as is there within MOST_LOGGED_BYTES and
        MOST_LOGGED_SECONDS; the rest stays to be read. Bytes that are none are shown as what stands for them."""
        if isinstance(payload, (bytes, bytearray, memoryview)):
            payload = bytes(payload).decode(encoding, errors="replace")
        elif payload is not None and not isinstance(payload, str):
            payload = repr(payload)
        try:
            is_whole = resp._look(MOST_LOGGED_BYTES, MOST_LOGGED_SECONDS)
            content = resp.content if is_whole else resp._beginning()
            body = content.decode(encoding, errors="replace") if isinstance(content, bytes) else str(content)
            if not is_whole:
                body += "\n\n(the rest of the body has not been read)"
        except Exception as e:  # what is wrong with the body must not hide what this is a log of
            body = f"({type(e).__name__}: {e})"
        sent = f"{payload}\n\n" if payload else ""
        head = f"REQUEST: {_core.redact(str(url))}\n{resp._sent_request}{sent}"
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
            with gevent.Timeout(DRAINED_SECONDS, False):  # type: ignore[arg-type]
                body = inner.read(DRAINED_BYTES)
                response._drained = b"" if inner._is_attached() else response._held() + body
    except (OSError, HTTPParseError):
        pass  # what was not asked for may be as broken as it likes
    finally:
        inner.release()


def _seconds(retry_after: Any) -> float:
    """What Retry-After asks for: seconds, or a date (RFC 9110 section 10.2.3); 0 for what is neither."""
    text = retry_after[0] if isinstance(retry_after, list) else retry_after
    if not isinstance(text, str) or len(text) > MOST_RETRY_AFTER:
        return 0.0
    if text.isascii() and text.strip().isdigit():
        return float(text)
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
