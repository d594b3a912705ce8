"""The client of the httpx interface, and functions that share one."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypedDict

import gevent

from geventhttpclient import exceptions
from geventhttpclient._agent.draining import DRAINED_BYTES, DRAINED_SECONDS, drain
from geventhttpclient._agent.response import field_of
from geventhttpclient._internal.argument_errors import OF_CLIENTS, check_flag, check_jar, check_mapping, unexpected
from geventhttpclient._internal.decoding import ACCEPT_ENCODING
from geventhttpclient._internal.pickling import kept_jar
from geventhttpclient._internal.validation import check_number, check_seconds, given
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.client import AgentOptions, HTTPClient, HTTPClientPool
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
from geventhttpclient.httpx.urls import join, parse_base
from geventhttpclient.url import URL
from geventhttpclient.useragent import (
    REDIRECT_RESPONSE_CODES,
    CompatResponse,
    ConnectionError,
    InvalidRedirectError,
)

if TYPE_CHECKING:
    from http.cookiejar import CookieJar
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from geventhttpclient._agent.request import FilesInput, Payload
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
"""The default of arguments of a request: the client's value is used."""

_DEFAULT_TIMEOUT = 5.0
_DEFAULT_CONNECTIONS = 100
_DEFAULT_HEADERS = {"Accept": "*/*", "Accept-Encoding": ACCEPT_ENCODING}
_AGENT_OPTIONS = frozenset(AgentOptions.__annotations__)

# Arguments of httpx.Client or requests.Session that have another name here.
_HINTS = {
    **{name: hint for name, hint in OF_CLIENTS.items() if hint != OF_CLIENTS["auth"]},
    "cookies": "pass it to the client",
    "follow_redirects": "it is spelled so",
    "allow_redirects": "did you mean follow_redirects?",
    "hooks": "did you mean event_hooks?",
    **dict.fromkeys(("retries", "max_retries", "retry_statuses", "retry_delay"), "Session takes max_retries="),
    "app": "pass transport=geventhttpclient.mock.MockTransport(handler)",
}

Hooks = Mapping[str, "list[Callable[..., Any]]"]


class _CommonRequestOptions(TypedDict, total=False):
    content: Payload
    files: FilesInput | None
    params: ParamsDataType | None
    headers: HeadersDataType | None
    cookies: CookiesInput
    timeout: Any
    extensions: dict[str, Any] | None


class _BuildOptions(_CommonRequestOptions, total=False):
    data: Payload
    json: Any


class _OptionsOfPost(_CommonRequestOptions, total=False):
    auth: Any
    follow_redirects: bool


class _RequestOptions(_BuildOptions, _OptionsOfPost, total=False):
    """Keyword arguments of `Client.request`."""


class _FunctionOptions(_RequestOptions, AgentOptions, total=False):
    """Keyword arguments of the functions: those of `Client.request` and of `Client`."""

    base_url: str | URL | None
    max_redirects: int
    event_hooks: Hooks | None
    default_encoding: str
    http1: bool
    cookiejar: CookieJar | None


class Client:
    """A client for any host, with the interface of httpx.Client: no status code raises an exception, redirects are
    followed on request, and the body is read at once unless it is streamed.

    >>> client = Client(base_url="http://127.0.0.1:8080")
    >>> client.get("/friends", params={"limit": 20}).raise_for_status().json()

    A request is sent once. The only retry is that of `HTTPClient`: an idempotent request is sent again if the server
    has closed the idle connection.
    """

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
        cookiejar: CookieJar | None = None,
        **kw: Unpack[AgentOptions],
    ) -> None:
        """Sets the defaults of every request of this client.

        - `base_url`: prefix of URLs without a host. The path of such a URL is appended to its path, with or without a
          leading slash.
        - `auth`: (user, password), an Auth, a function that changes a request, or the value of Authorization.
        - `params`, `headers`, `cookies`: added to those of each request. A cookie given by name is bound to the host of
          the first request that it is sent with.
        - `timeout`: a Timeout, or an argument for one; by default 5 seconds for each of its kinds. None disables them.
        - `follow_redirects`: whether redirects are followed, up to `max_redirects`.
        - `event_hooks`: lists of functions: those of "request" are called with each request before it is sent, those of
          "response" with each response before its body is read.
        - `default_encoding`: the encoding of a text whose Content-Type names no charset.
        - `http2`: use HTTP/2 over TLS if the server offers it. With `http1=False` HTTP/2 is always used, also without
          TLS.

        - `cookiejar`: a jar to use instead of a new one.

        Further arguments are those of HTTPClientPool and HTTPClient: `verify`, `cert`, `proxy`, `transport`,
        `trust_env`, `max_idle_connections` ...; `concurrency`, the connections per origin, is 100 by default. Raises
        TypeError for any other argument.
        """
        if unknown := kw.keys() - _AGENT_OPTIONS:
            own = inspect.signature(Client.__init__).parameters.keys() - {"self", "kw"}
            raise unexpected(unknown, own | _AGENT_OPTIONS, _HINTS)
        agent_options: dict[str, Any] = {"concurrency": _DEFAULT_CONNECTIONS, "insecure": False, **kw}
        if not isinstance(default_encoding, str):
            raise TypeError(f"default_encoding must be a str, not {given(default_encoding)}")
        check_flag("follow_redirects", follow_redirects)
        self.max_redirects: int = check_number("max_redirects", max_redirects)
        check_jar("cookiejar", cookiejar)
        if not http1 and not agent_options.get("http2"):
            raise ValueError("http1 and http2: one of them must be enabled")
        if timeout is USE_CLIENT_DEFAULT:
            for name in ("connection_timeout", "network_timeout", "pool_timeout"):
                check_seconds(name, agent_options.get(name))
            network = agent_options.pop("network_timeout", _DEFAULT_TIMEOUT)
            connection = agent_options.pop("connection_timeout", _DEFAULT_TIMEOUT)
            timeout = (connection, network, network, agent_options.pop("pool_timeout", _DEFAULT_TIMEOUT))
        self.timeout = timeout
        # The timeouts of the pool's clients; a request passes only those that differ.
        self._known_timeouts = self._timeout._for_client(False)
        jar: CookieJar = Cookies() if cookiejar is None else cookiejar  # an empty jar is falsy, but has a policy
        for cookie in merged(cookies):
            jar.set_cookie(cookie)
        self.cookiejar: CookieJar | None = jar
        agent_options.update(self._known_timeouts)
        agent_options["http2"] = agent_options.get("http2", False) if http1 else PRIOR_KNOWLEDGE
        self.clientpool: HTTPClientPool = HTTPClientPool(**agent_options)
        self.default_headers: Headers = HTTPClient.DEFAULT_HEADERS.copy()
        self.default_headers.update(_DEFAULT_HEADERS)
        self.default_headers.update(Headers(headers))
        self.base_url = base_url
        self.auth = auth
        self.params = params
        self.follow_redirects = follow_redirects
        self.event_hooks = event_hooks
        self.default_encoding = default_encoding
        self._is_closed = False

    # ------------------------------------------------------------------------------------- defaults of every request

    @property
    def base_url(self) -> str:
        """Prefix of URLs without a host. It ends with a slash if it has a path."""
        return "" if self._base_url is None else str(self._base_url)

    @base_url.setter
    def base_url(self, url: str | URL | None) -> None:
        self._base_url = parse_base(url)

    @property
    def auth(self) -> Any:
        """Authentication of requests."""
        return self._auth

    @auth.setter
    def auth(self, auth: Any) -> None:
        check_auth(auth)
        self._auth = auth

    @property
    def timeout(self) -> Timeout:
        """Timeouts of requests."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: Any) -> None:
        self._timeout = Timeout(timeout)

    @property
    def headers(self) -> Headers:
        """Header fields of requests."""
        return self.default_headers

    @headers.setter
    def headers(self, headers: HeadersDataType) -> None:
        self.default_headers = Headers(headers)

    @property
    def cookies(self) -> Any:
        """Cookie jar."""
        return self.cookiejar

    @cookies.setter
    def cookies(self, cookies: CookiesInput) -> None:
        self.cookiejar = merged(cookies)

    @property
    def event_hooks(self) -> dict[str, list[Callable[..., Any]]]:
        """Functions that are called with requests and with responses."""
        return self._event_hooks

    @event_hooks.setter
    def event_hooks(self, hooks: Hooks | None) -> None:
        check_mapping("event_hooks", hooks, '{"response": [function]}')
        hooks = hooks or {}
        for name, calls in hooks.items():
            if isinstance(calls, (str, bytes)) or not hasattr(calls, "__iter__") or not all(map(callable, calls)):
                raise TypeError(f"event_hooks[{name!r}] must be a list of functions, not {given(calls)}")
        unknown = hooks.keys() - {"request", "response"}
        if unknown:
            raise ValueError(f"event_hooks are for 'request' and 'response', not {', '.join(map(repr, unknown))}")
        self._event_hooks = {name: list(hooks.get(name, ())) for name in ("request", "response")}

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return self._is_closed

    def close(self) -> None:
        """Closes all connections. Further requests raise RuntimeError."""
        self._is_closed = True
        self.clientpool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __copy__(self) -> Self:
        # A shallow copy shares clients and cookies.
        clone: Self = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        return clone

    def __getstate__(self) -> dict[str, Any]:
        """Returns the settings and the cookies, for pickles and deep copies. These open new connections."""
        return {**self.__dict__, "cookiejar": kept_jar(self.cookiejar)}

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
        """Returns a request with the defaults of this client, ready for `send`.

        `params` are added to those of the client and of the URL; `headers` and `cookies` override those of the client.
        """
        fields = self.default_headers.copy()
        fields.update(Headers(headers))
        check_mapping("extensions", extensions, '{"timeout": 5}')
        extensions = dict(extensions or {})
        if timeout is not USE_CLIENT_DEFAULT:
            extensions["timeout"] = Timeout(timeout)
        own, more = self.params, params
        built = Request(
            method,
            self._resolve_url(url),
            params=more if not own else own if not more else _merge_params(own, more),
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

    def _resolve_url(self, url: str | URL) -> str | URL:
        return url if self._base_url is None else join(self._base_url, str(url))

    def request(
        self,
        method: str,
        url: str | URL,
        *,
        auth: Any = USE_CLIENT_DEFAULT,
        follow_redirects: bool = USE_CLIENT_DEFAULT,
        **kw: Unpack[_BuildOptions],
    ) -> Response:
        """Sends a request, and returns the response after reading its body.

        Keyword arguments are those of `build_request`: `content`, `data`, `files`, `json`, `params`, `headers`,
        `cookies`, `timeout`, `extensions`. Raises the errors of geventhttpclient.httpx.errors.
        """
        built = self._build(method, url, kw)
        return self.send(built, auth=auth, follow_redirects=follow_redirects)

    def _build(self, method: str, url: str | URL, kw: _BuildOptions) -> Request:
        # A subclass may accept other arguments.
        if type(self).build_request is Client.build_request and (unknown := kw.keys() - _REQUEST_ARGUMENTS):
            raise unexpected(unknown, _REQUEST_ARGUMENTS - {"self"}, _REQUEST_HINTS)
        return self.build_request(method, url, **kw)

    @contextmanager
    def stream(
        self,
        method: str,
        url: str | URL,
        *,
        auth: Any = USE_CLIENT_DEFAULT,
        follow_redirects: bool = USE_CLIENT_DEFAULT,
        **kw: Unpack[_BuildOptions],
    ) -> Iterator[Response]:
        """Sends a request for a `with` block that reads the body. The end of the block closes the response."""
        built = self._build(method, url, kw)
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
        """Sends a request that `build_request` has returned. With `stream`, you read the body and close the response.

        Raises RuntimeError if the client is closed.
        """
        if self._is_closed:
            raise exceptions.RuntimeError("the client was closed")
        follow = self.follow_redirects if follow_redirects is USE_CLIENT_DEFAULT else follow_redirects
        check_flag("follow_redirects", follow)
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
        """Sends the requests of an authentication flow, and returns the last response."""
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
                _drain_small(response)
                history = [*response.history, response]
        except BaseException:
            if response is not None:
                response.close()
            raise
        finally:
            flow.close()

    def _send_following(self, request: Request, follow: bool, history: list[CompatResponse]) -> Response:
        """Sends a request and follows its redirects."""
        redirects = 0
        while True:
            for hook in self._event_hooks["request"]:
                hook(request)
            response = self._send_once(request)
            try:
                response._history = list(history)
                for hook in self._event_hooks["response"]:
                    hook(response)
                location = _location(response)
                if location is None:
                    return response
                if not follow:
                    response.next_request = _next_request(request, response.status_code, location, strict=False)
                    return response
                if redirects >= self.max_redirects:
                    raise TooManyRedirects(f"more than {self.max_redirects} redirects", request=request)
                redirects += 1
                request = _next_request(request, response.status_code, location)  # type: ignore[assignment]
                _drain_small(response)
            except BaseException:
                response.close()
                raise
            history = [*history, response]
            if self.cookiejar is not None:
                add_cookies(self.cookiejar, request)

    def _send_once(self, request: Request) -> Response:
        url = request.url_split
        pool = self.clientpool
        if pool._has_certificate and not request._is_same_origin():
            pool = pool._without_certificate()
        client = pool.get_client(url)
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
        response = Response(inner, request)
        response.default_encoding = self.default_encoding
        if self.cookiejar is not None:
            extract(self.cookiejar, response.headers, request)
        return response

    def get(self, url: str | URL, **kw: Unpack[_RequestOptions]) -> Response:
        """Sends a GET request; see `request`."""
        return self.request("GET", url, **kw)

    def options(self, url: str | URL, **kw: Unpack[_RequestOptions]) -> Response:
        """Sends an OPTIONS request; see `request`."""
        return self.request("OPTIONS", url, **kw)

    def head(self, url: str | URL, **kw: Unpack[_RequestOptions]) -> Response:
        """Sends a HEAD request; see `request`."""
        return self.request("HEAD", url, **kw)

    def post(self, url: str | URL, data: Payload = None, json: Any = None, **kw: Unpack[_OptionsOfPost]) -> Response:
        """Sends a POST request; see `request`."""
        return self.request("POST", url, data=data, json=json, **kw)

    def put(self, url: str | URL, data: Payload = None, **kw: Unpack[_OptionsOfPost]) -> Response:
        """Sends a PUT request; see `request`."""
        return self.request("PUT", url, data=data, **kw)

    def patch(self, url: str | URL, data: Payload = None, **kw: Unpack[_OptionsOfPost]) -> Response:
        """Sends a PATCH request; see `request`."""
        return self.request("PATCH", url, data=data, **kw)

    def delete(self, url: str | URL, **kw: Unpack[_RequestOptions]) -> Response:
        """Sends a DELETE request; see `request`."""
        return self.request("DELETE", url, **kw)


def _location(response: Response) -> str | None:
    """Returns the target of a redirect; None if the response is not a redirect."""
    if response.status_code not in REDIRECT_RESPONSE_CODES:
        return None
    location = field_of(response, "location")
    return (location[0] if isinstance(location, list) else location) or None


def _merge_params(own: Any, more: Any) -> Any:
    """Merges the client's parameters and those of the request, which override the former by name."""
    if isinstance(own, Mapping) and isinstance(more, Mapping):
        return {**own, **more}
    queries = (URL("", params=own).query, URL("", params=more).query)
    return "&".join(query for query in queries if query)


def _next_request(request: Request, status: int, location: str, strict: bool = True) -> Request | None:
    """Returns the request that follows a redirect. Without `strict`, returns None if it cannot be sent."""
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


def _drain_small(response: Response) -> None:
    """Reads the body of a response that is followed by another request, if it is small."""
    length = response._response.content_length
    if length is None or length > DRAINED_BYTES:
        drain(response)
        return
    # Errors do not matter: the caller does not use this body.
    with suppress(RequestError), gevent.Timeout(DRAINED_SECONDS, False):  # type: ignore[arg-type]
        response.read()
    response.release()


# ------------------------------------------------------------------------------------- functions that share a client

_client: Client | None = None


class _CookielessClient(Client):
    """A client without cookies, since independent callers share it."""

    def __init__(self) -> None:
        super().__init__()
        self.cookiejar = None


def _get_client() -> Client:
    global _client
    if _client is None:
        _client = _CookielessClient()
    return _client


_REQUEST_ARGUMENTS = frozenset(inspect.signature(Client.build_request).parameters) | {"auth", "follow_redirects"}


_REQUEST_HINTS = {
    "allow_redirects": "did you mean follow_redirects?",
    "hooks": "pass event_hooks= to the client",
    "stream": "use the method stream, in a with block",
    "body": "did you mean content?",
    "payload": "did you mean content?",
    **dict.fromkeys(("verify", "cert", "proxy", "http2", "transport", "trust_env"), "pass it to the client"),
    "proxies": "pass proxy= to the client",
    "trailers": "HTTPClient and Session take them",
}


def _split(options: _FunctionOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arguments of a client, and those of a request."""
    arguments: dict[str, Any] = {**options}
    return {name: arguments.pop(name) for name in arguments.keys() - _REQUEST_ARGUMENTS}, arguments


def request(method: str, url: str | URL, **kw: Unpack[_FunctionOptions]) -> Response:
    """Sends a request with a client that all callers share and that keeps no cookies; see `Client.request`.

    Uses a new client for this request if it gets arguments of a client, such as `verify`, `cert` or `proxy`.
    """
    client_arguments, arguments = _split(kw)
    if not client_arguments:
        return _get_client().request(method, url, **arguments)
    with Client(**client_arguments) as client:
        return client.request(method, url, **arguments)


@contextmanager
def stream(method: str, url: str | URL, **kw: Unpack[_FunctionOptions]) -> Iterator[Response]:
    """Sends a request for a `with` block that reads the body; see `Client.stream`."""
    client_arguments, arguments = _split(kw)
    if not client_arguments:
        with _get_client().stream(method, url, **arguments) as response:
            yield response
        return
    with Client(**client_arguments) as client, client.stream(method, url, **arguments) as response:
        yield response


def get(url: str | URL, **kw: Unpack[_FunctionOptions]) -> Response:
    """Sends a GET request; see `request`."""
    return request("GET", url, **kw)


def options(url: str | URL, **kw: Unpack[_FunctionOptions]) -> Response:
    """Sends an OPTIONS request; see `request`."""
    return request("OPTIONS", url, **kw)


def head(url: str | URL, **kw: Unpack[_FunctionOptions]) -> Response:
    """Sends a HEAD request; see `request`."""
    return request("HEAD", url, **kw)


def post(url: str | URL, **kw: Unpack[_FunctionOptions]) -> Response:
    """Sends a POST request; see `request`."""
    return request("POST", url, **kw)


def put(url: str | URL, **kw: Unpack[_FunctionOptions]) -> Response:
    """Sends a PUT request; see `request`."""
    return request("PUT", url, **kw)


def patch(url: str | URL, **kw: Unpack[_FunctionOptions]) -> Response:
    """Sends a PATCH request; see `request`."""
    return request("PATCH", url, **kw)


def delete(url: str | URL, **kw: Unpack[_FunctionOptions]) -> Response:
    """Sends a DELETE request; see `request`."""
    return request("DELETE", url, **kw)
