"""The client, and the functions that share one."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import gevent

from geventhttpclient._parser import HTTPParseError
from geventhttpclient.client import HTTPClient
from geventhttpclient.cookies import Cookies, add_cookies, bind, extract, merged
from geventhttpclient.header import Headers
from geventhttpclient.http2 import PRIOR_KNOWLEDGE
from geventhttpclient.httpx.authentication import Flow, check_auth, flow_of
from geventhttpclient.httpx.errors import (
    RemoteProtocolError,
    RequestError,
    StreamConsumed,
    TooManyRedirects,
    UnsupportedProtocol,
)
from geventhttpclient.httpx.errors import raise_translated as _raise_translated
from geventhttpclient.httpx.messages import Request, Response, Timeout
from geventhttpclient.url import URL
from geventhttpclient.useragent import (
    _OF_POOLS,
    DRAINED_BYTES,
    DRAINED_SECONDS,
    CompatResponse,
    ConnectionError,
    InvalidRedirectError,
    UserAgent,
    _drain,
)

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

    from geventhttpclient.compat_request import FilesInput, Payload
    from geventhttpclient.cookies import CookiesInput
    from geventhttpclient.header import HeadersDataType
    from geventhttpclient.url import ParamsDataType

__all__ = [
    "USE_CLIENT_DEFAULT",
    "Client",
    "delete",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "request",
    "stream",
]


class _UseClientDefault:
    def __repr__(self) -> str:
        return "USE_CLIENT_DEFAULT"


USE_CLIENT_DEFAULT: Any = _UseClientDefault()
"""What an argument of a request is when it was not given: the client's own value counts."""

_DEFAULT_TIMEOUT = 5.0
_DEFAULT_CONNECTIONS = 100
_DEFAULT_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate, br, zstd"}
_OF_HTTPCLIENT = frozenset(inspect.signature(HTTPClient.__init__).parameters) - {"self", "host", "port", "headers"}
_OF_USERAGENT = frozenset(inspect.signature(UserAgent.__init__).parameters) - {"self", "kw"}

Hooks = Mapping[str, "list[Callable[..., Any]]"]


class Client(UserAgent):
    """Requests to any host, in the shape that httpx gives them: nothing is raised for a status, redirects are followed
    when they are asked for, and the body has been read unless it is streamed.

    >>> client = Client(base_url="http://127.0.0.1:8080")
    >>> client.get("/friends", params={"limit": 20}).raise_for_status().json()

    A request is sent once: only what `HTTPClient` repeats by itself, an idempotent request on a connection that had
    been closed meanwhile, is sent again.
    """

    response_type = Response

    def __init__(
        self,
        *,
        base_url: str | URL | None = None,
        auth: Any = None,
        params: ParamsDataType | None = None,
        headers: HeadersDataType | None = None,
        cookies: CookiesInput = None,
        timeout: Any = USE_CLIENT_DEFAULT,
        follow_redirects: bool = False,
        max_redirects: int = 20,
        event_hooks: Hooks | None = None,
        default_encoding: str = "utf-8",
        http1: bool = True,
        http2: bool | str = False,
        **kw: Any,
    ) -> None:
        """What goes for every request of this client.

        - `base_url`: what stands before a URL without a host.
        - `auth`: (user, password), an Auth, a function that changes a request, or the value of Authorization.
        - `params`, `headers`, `cookies`: these and those of the request. A cookie by name goes to the host of the first
          request that it is sent with, and to no other.
        - `timeout`: a Timeout, or what one is made of; 5 seconds for each of its kinds by default, None for none.
        - `follow_redirects`: whether they are followed, up to `max_redirects`.
        - `event_hooks`: lists of functions: "request" for those that are called with each request before it is sent,
          "response" for those that are called with each response before its body is read.
        - `default_encoding`: what a text is decoded by that does not say it.
        - `http2`: whether HTTP/2 is spoken over TLS where the server offers it; in any case, in the clear as well, with
          `http1=False`.

        Further arguments are those of HTTPClientPool and HTTPClient: `verify`, `cert`, `proxy`, `transport`,
        `trust_env`, `max_idle_connections` ...; `concurrency`, the connections to one origin, is 100 by default.
        TypeError for any other.
        """
        unknown = kw.keys() - _OF_HTTPCLIENT - _OF_POOLS - _OF_USERAGENT
        if unknown:
            raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
        if not http1 and not http2:
            raise ValueError("http1 and http2: one of them has to be spoken")
        if timeout is USE_CLIENT_DEFAULT:
            network = kw.pop("network_timeout", _DEFAULT_TIMEOUT)
            connection = kw.pop("connection_timeout", _DEFAULT_TIMEOUT)
            timeout = (connection, network, network, kw.pop("pool_timeout", _DEFAULT_TIMEOUT))
        self.timeout = timeout
        # What the pool's clients know need not be said with each request.
        self._known_timeouts = self._timeout._for_client(False)
        jar: CookieJar = kw.pop("cookiejar", None) or Cookies()
        for cookie in merged(cookies):
            jar.set_cookie(cookie)
        super().__init__(
            max_redirects=max_redirects,
            cookiejar=jar,
            headers=_DEFAULT_HEADERS,
            http2=http2 if http1 else PRIOR_KNOWLEDGE,
            **{"concurrency": _DEFAULT_CONNECTIONS, **kw, **self._known_timeouts},
        )
        self.default_headers.update(headers or {})
        self.base_url = base_url
        self.auth = auth
        self.params = params
        self.follow_redirects = follow_redirects
        self.event_hooks = event_hooks
        self.default_encoding = default_encoding
        self._is_closed = False

    # ---------------------------------------------------------------------------------- what goes for every request

    @property
    def base_url(self) -> str:
        """What stands before a URL without a host, without a slash at its end."""
        return self._base_url

    @base_url.setter
    def base_url(self, url: str | URL | None) -> None:
        self._base_url = "" if url is None else str(url).rstrip("/")

    @property
    def auth(self) -> Any:
        """Who is asking."""
        return self._auth

    @auth.setter
    def auth(self, auth: Any) -> None:
        check_auth(auth)
        self._auth = auth

    @property
    def timeout(self) -> Timeout:
        """How long a request may take."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: Any) -> None:
        self._timeout = Timeout(timeout)

    @property
    def headers(self) -> Headers:
        """The header fields."""
        return self.default_headers

    @headers.setter
    def headers(self, headers: HeadersDataType) -> None:
        self.default_headers: Headers = Headers(headers)

    @property
    def cookies(self) -> Any:
        """The jar."""
        return self.cookiejar

    @cookies.setter
    def cookies(self, cookies: CookiesInput) -> None:
        self.cookiejar: CookieJar | None = merged(cookies)

    @property
    def event_hooks(self) -> dict[str, list[Callable[..., Any]]]:
        """What is called with requests and with responses."""
        return self._event_hooks

    @event_hooks.setter
    def event_hooks(self, hooks: Hooks | None) -> None:
        hooks = hooks or {}
        unknown = hooks.keys() - {"request", "response"}
        if unknown:
            raise ValueError(f"event_hooks are for 'request' and 'response', not {', '.join(map(repr, unknown))}")
        self._event_hooks = {name: list(hooks.get(name, ())) for name in ("request", "response")}

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def close(self) -> None:
        """Closes all connections. A request raises RuntimeError from then on."""
        self._is_closed = True
        super().close()

    def _verify_status(self, status_code: int, url: str | URL | None = None) -> None:
        """Any status will do."""

    # ------------------------------------------------------------------------------------------------------ requests

    def build_request(
        self,
        method: str,
        url: str | URL,
        *,
        content: Payload = None,
        data: Payload = None,
        files: FilesInput | None = None,
        json: Any = None,
        params: ParamsDataType | None = None,
        headers: HeadersDataType | None = None,
        cookies: CookiesInput = None,
        timeout: Any = USE_CLIENT_DEFAULT,
        extensions: dict[str, Any] | None = None,
    ) -> Request:
        """A request with all that goes for every request of this client, ready for `send`.

        `params` are added to the client's and to what the URL has; `headers` and `cookies` go before the client's.
        """
        fields = self.default_headers.copy()
        fields.update(headers or {})
        extensions = dict(extensions or {})
        if timeout is not USE_CLIENT_DEFAULT:
            extensions["timeout"] = Timeout(timeout)
        own, more = self.params, params
        built = Request(
            method,
            self._resolve_url(url),
            params=more if not own else own if not more else _both(own, more),
            headers=fields,
            content=content,
            data=data,
            files=files,
            json=json,
            extensions=extensions,
        )
        jar = self.cookiejar
        if jar is not None:
            bind(jar, built)
        if cookies:
            jar = merged(jar, cookies, host=built.url_split.host, secure=built.type == "https")
        if jar is not None:
            add_cookies(jar, built)
        return built

    def _resolve_url(self, url: str | URL) -> str:
        text = str(url)
        if not self._base_url or "://" in text.partition("?")[0]:
            return text
        return f"{self._base_url}{'' if not text or text[0] in '/?#' else '/'}{text}"

    def request(
        self,
        method: str,
        url: str | URL,
        *,
        auth: Any = USE_CLIENT_DEFAULT,
        follow_redirects: bool = USE_CLIENT_DEFAULT,
        **kw: Any,
    ) -> Response:
        """Sends a request, and returns the response with its body.

        Keyword arguments are those of `build_request`: `content`, `data`, `files`, `json`, `params`, `headers`,
        `cookies`, `timeout`, `extensions`. Raises the errors of this module: see geventhttpclient.httpx.errors.
        """
        built = self.build_request(method, url, **kw)
        return self.send(built, auth=auth, follow_redirects=follow_redirects)

    @contextmanager
    def stream(
        self,
        method: str,
        url: str | URL,
        *,
        auth: Any = USE_CLIENT_DEFAULT,
        follow_redirects: bool = USE_CLIENT_DEFAULT,
        **kw: Any,
    ) -> Iterator[Response]:
        """As `request`, for a `with` block in which the body is read; it is closed at the end of the block."""
        built = self.build_request(method, url, **kw)
        response = self.send(built, stream=True, auth=auth, follow_redirects=follow_redirects)
        try:
            yield response
        finally:
            response.close()

    def send(
        self,
        request: Request,
        *,
        stream: bool = False,
        auth: Any = USE_CLIENT_DEFAULT,
        follow_redirects: bool = USE_CLIENT_DEFAULT,
    ) -> Response:
        """Sends a request that was built. With `stream` the body is left to be read, and the response to be closed.

        RuntimeError when the client was closed.
        """
        if self._is_closed:
            raise RuntimeError("the client was closed")
        follow = self.follow_redirects if follow_redirects is USE_CLIENT_DEFAULT else follow_redirects
        auth = self._auth if auth is USE_CLIENT_DEFAULT else auth
        if auth is None:
            auth = request._credentials
        started = time.perf_counter()
        flow = flow_of(auth, request)
        response = self._send_following(request, follow, []) if flow is None else self._authenticate(flow, follow, auth)
        response._elapsed = time.perf_counter() - started
        if not stream:
            response.read()
        return response

    def _authenticate(self, flow: Flow, follow: bool, auth: Any) -> Response:
        """Sends what an authentication wants to be sent; returns the last response."""
        history: list[CompatResponse] = []
        response = None
        try:
            request = next(flow)
            while True:
                response = self._send_following(request, follow, history)
                if getattr(auth, "requires_response_body", False):
                    response.read()
                try:
                    request = flow.send(response)
                except StopIteration:
                    return response
                _finish(response)
                history = [*response.history, response]
        except BaseException:
            if response is not None:
                response.close()
            raise
        finally:
            flow.close()

    def _send_following(self, request: Request, follow: bool, history: list[CompatResponse]) -> Response:
        """Sends a request, and those that redirects lead to."""
        redirects = 0
        while True:
            for hook in self._event_hooks["request"]:
                hook(request)
            response = self._send_once(request)
            try:
                response._history = list(history)
                for hook in self._event_hooks["response"]:
                    hook(response)
                location = self._location(response, response.status_code)
                if location is None:
                    return response
                if not follow:
                    response.next_request = _next_of(request, response.status_code, location, strict=False)
                    return response
                if redirects >= self.max_redirects:
                    raise TooManyRedirects(f"more than {self.max_redirects} redirects", request=request)
                redirects += 1
                request = _next_of(request, response.status_code, location)  # type: ignore[assignment]
                _finish(response)
            except BaseException:
                response.close()
                raise
            history = [*history, response]
            if self.cookiejar is not None:
                add_cookies(self.cookiejar, request)

    def _send_once(self, request: Request) -> Response:
        url = request.url_split
        client = self._pool_for(request).get_client(url)
        timeout = request.extensions.get("timeout", self._timeout)
        if isinstance(timeout, Mapping):
            timeout = Timeout(**timeout)
        timeouts = Timeout(timeout)._for_client(request.payload is not None)
        try:
            inner = client.request(
                request.method,
                url.quoted_uri or "/",
                body=request.payload,
                headers=request.headers,
                **({} if timeouts == self._known_timeouts else timeouts),
            )
        except (OSError, HTTPParseError) as error:
            _raise_translated(error, request)
        response: Response = self.response_type(inner, request)
        response.default_encoding = self.default_encoding
        if self.cookiejar is not None:
            extract(self.cookiejar, response.headers, request)
        return response

    def get(self, url: str | URL, **kw: Any) -> Response:
        """`request` with the method GET."""
        return self.request("GET", url, **kw)

    def options(self, url: str | URL, **kw: Any) -> Response:
        """`request` with the method OPTIONS."""
        return self.request("OPTIONS", url, **kw)

    def head(self, url: str | URL, **kw: Any) -> Response:
        """`request` with the method HEAD."""
        return self.request("HEAD", url, **kw)

    def post(self, url: str | URL, data: Payload = None, json: Any = None, **kw: Any) -> Response:
        """`request` with the method POST."""
        return self.request("POST", url, data=data, json=json, **kw)

    def put(self, url: str | URL, data: Payload = None, **kw: Any) -> Response:
        """`request` with the method PUT."""
        return self.request("PUT", url, data=data, **kw)

    def patch(self, url: str | URL, data: Payload = None, **kw: Any) -> Response:
        """`request` with the method PATCH."""
        return self.request("PATCH", url, data=data, **kw)

    def delete(self, url: str | URL, **kw: Any) -> Response:
        """`request` with the method DELETE."""
        return self.request("DELETE", url, **kw)


def _both(own: Any, more: Any) -> Any:
    """The client's parameters and the request's, which go before those of the same name."""
    if isinstance(own, Mapping) and isinstance(more, Mapping):
        return {**own, **more}
    queries = (URL("", params=own).query, URL("", params=more).query)
    return "&".join(query for query in queries if query)


def _next_of(request: Request, status: int, location: str, strict: bool = True) -> Request | None:
    """What a redirect asks for. Without `strict`, None for what cannot be asked for."""
    following = copy.copy(request)
    following.headers = copy.copy(request.headers)
    try:
        following.redirect(status, location)
    except (ConnectionError, StreamConsumed) as error:
        if not strict:
            return None
        if isinstance(error, InvalidRedirectError):
            raise RemoteProtocolError(error.text, request=request) from error
        if isinstance(error, ConnectionError):
            raise UnsupportedProtocol(error.text, request=request) from error
        raise
    return following


def _finish(response: Response) -> None:
    """Reads the body of a response that is followed by another request, if it is small."""
    length = response._response.content_length
    if length is None or length > DRAINED_BYTES:
        _drain(response)
        return
    # What was not asked for may be as broken as it likes.
    with suppress(RequestError), gevent.Timeout(DRAINED_SECONDS, False):  # type: ignore[arg-type]
        response.read()
    response.release()


# --------------------------------------------------------------------------------------------- with a client for all

_client: Client | None = None


class _Forgetful(Client):
    """Keeps no cookies: its users know nothing of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.cookiejar = None


def _get_client() -> Client:
    global _client
    if _client is None:
        _client = _Forgetful()
    return _client


_OF_REQUEST = frozenset(inspect.signature(Client.build_request).parameters) | {"auth", "follow_redirects"}


def request(method: str, url: str | URL, **kw: Any) -> Response:
    """Client.request, of a client that all share and that keeps no cookies.

    With arguments that a client takes, such as `verify`, `cert` or `proxy`, it is one made for this request.
    """
    of_client = {name: kw.pop(name) for name in kw.keys() - _OF_REQUEST}
    if not of_client:
        return _get_client().request(method, url, **kw)
    with Client(**of_client) as client:
        return client.request(method, url, **kw)


@contextmanager
def stream(method: str, url: str | URL, **kw: Any) -> Iterator[Response]:
    """`request` for a `with` block in which the body is read."""
    of_client = {name: kw.pop(name) for name in kw.keys() - _OF_REQUEST}
    if not of_client:
        with _get_client().stream(method, url, **kw) as response:
            yield response
        return
    with Client(**of_client) as client, client.stream(method, url, **kw) as response:
        yield response


def get(url: str | URL, **kw: Any) -> Response:
    """`request` with the method GET."""
    return request("GET", url, **kw)


def options(url: str | URL, **kw: Any) -> Response:
    """`request` with the method OPTIONS."""
    return request("OPTIONS", url, **kw)


def head(url: str | URL, **kw: Any) -> Response:
    """`request` with the method HEAD."""
    return request("HEAD", url, **kw)


def post(url: str | URL, **kw: Any) -> Response:
    """`request` with the method POST."""
    return request("POST", url, **kw)


def put(url: str | URL, **kw: Any) -> Response:
    """`request` with the method PUT."""
    return request("PUT", url, **kw)


def patch(url: str | URL, **kw: Any) -> Response:
    """`request` with the method PATCH."""
    return request("PATCH", url, **kw)


def delete(url: str | URL, **kw: Any) -> Response:
    """`request` with the method DELETE."""
    return request("DELETE", url, **kw)
