"""The client: requests to one origin over a connection pool that any number of greenlets share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypedDict, TypeVar, overload

from geventhttpclient import _core, exceptions
from geventhttpclient._internal.argument_errors import (
    OF_CLIENTS,
    OF_REQUESTS,
    check_cert,
    check_clients,
    check_factory,
    check_headers_type,
    check_ssl_options,
    check_transport,
    check_verify,
    not_a_url,
    refused_request,
    refused_url,
    unexpected,
)
from geventhttpclient._internal.idle_limit import DEFAULT_MAX_IDLE_CONNECTIONS, idle_group, join
from geventhttpclient._internal.validation import (
    MOST_KEPT_CHARACTERS,
    check_count,
    check_host,
    check_port,
    read_port,
    unescaped_zone,
    without_zone,
)
from geventhttpclient._version import __version__
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.header import Headers
from geventhttpclient.hooks import HookOrHooks, Hooks, OnConnection, OnError, OnRequest, OnResponse, Request
from geventhttpclient.http2 import PRIOR_KNOWLEDGE, check_http2
from geventhttpclient.proxy import Proxy, choose_proxy, redact
from geventhttpclient.response import HTTPSocketPoolResponse
from geventhttpclient.url import URL

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from geventhttpclient._internal.timeouts import RequestTimeouts
    from geventhttpclient.header import HeadersDataType, TrailersDataType
    from geventhttpclient.mock import MockTransport
    from geventhttpclient.resolver import Overrides
    from geventhttpclient.tls import ContextFactory

__all__ = [
    "CRLF",
    "DEFAULT_MAX_CLIENTS",
    "DEFAULT_MAX_IDLE_CONNECTIONS",
    "EXPECT_100_CONTINUE",
    "FIELD_VALUE_SEP",
    "HEADER_CONTENT_LENGTH",
    "HEADER_EXPECT",
    "HEADER_HOST",
    "HEADER_PROXY_AUTHORIZATION",
    "HEADER_TRANSFER_ENCODING",
    "HOST_PORT_SEP",
    "IDEMPOTENT_METHODS",
    "METHOD_DELETE",
    "METHOD_GET",
    "METHOD_HEAD",
    "METHOD_OPTIONS",
    "METHOD_PATCH",
    "METHOD_POST",
    "METHOD_PUT",
    "METHOD_TRACE",
    "PROTO_HTTP",
    "PROTO_HTTPS",
    "SLASH",
    "TRANSFER_ENCODING_CHUNKED",
    "URL",
    "WHITESPACE",
    "AgentOptions",
    "Body",
    "ClientOptions",
    "ConnectionPool",
    "HTTPClient",
    "HTTPClientPool",
    "HTTPSocketPoolResponse",
    "Headers",
    "Options",
    "SSLConnectionPool",
    "Timeouts",
]

CRLF = "\r\n"
WHITESPACE = " "
FIELD_VALUE_SEP = ": "
HOST_PORT_SEP = ":"
SLASH = "/"
PROTO_HTTP = "http"
PROTO_HTTPS = "https"
HEADER_HOST = "Host"
HEADER_CONTENT_LENGTH = "Content-Length"
HEADER_TRANSFER_ENCODING = "Transfer-Encoding"
HEADER_PROXY_AUTHORIZATION = "Proxy-Authorization"
HEADER_EXPECT = "Expect"
TRANSFER_ENCODING_CHUNKED = "chunked"
EXPECT_100_CONTINUE = "100-continue"

METHOD_GET = "GET"
METHOD_HEAD = "HEAD"
METHOD_POST = "POST"
METHOD_PUT = "PUT"
METHOD_DELETE = "DELETE"
METHOD_PATCH = "PATCH"
METHOD_OPTIONS = "OPTIONS"
METHOD_TRACE = "TRACE"

IDEMPOTENT_METHODS = frozenset({METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_TRACE, METHOD_PUT, METHOD_DELETE})
"""Idempotent methods (RFC 9110 section 9.2.2). The client retries their requests if an idle connection breaks before
the response begins; it never does so for other methods."""

DEFAULT_MAX_CLIENTS: int = 1000
"""Most clients that an HTTPClientPool keeps. Each takes about 4 KB, and the TLS sessions of its server."""

#: Types of a request body: a bytes-like object or text, sent at once; an open file, a file-like object or an iterable,
#: sent piece by piece.
Body = Any


class Timeouts(TypedDict, total=False):
    """Timeouts of one request in seconds, which override those of the client; None means no timeout."""

    connection_timeout: float | None
    network_timeout: float | None
    pool_timeout: float | None
    total_timeout: float | None


class Options(Timeouts, total=False):
    """Keyword arguments that `get`, `post` and the other methods named after verbs pass on to `request`."""

    trailers: TrailersDataType | None


class _CommonOptions(TypedDict, total=False):
    """Options of HTTPClient that every client class accepts under the same name and type."""

    block_size: int
    connection_timeout: float | None
    network_timeout: float | None
    pool_timeout: float | None
    total_timeout: float | None
    idle_timeout: float | None
    disable_ipv6: bool
    concurrency: int
    ssl: bool
    ssl_options: dict[str, Any] | None
    ssl_context_factory: ContextFactory | None
    insecure: bool
    proxy_host: str | None
    proxy_port: int | None
    proxy_user: str | bytes | None
    proxy_password: str | bytes | None
    proxy: str | Proxy | None
    proxy_ssl_options: dict[str, Any] | None
    trust_env: bool
    version: str
    headers_type: type[Headers]
    local_address: str | tuple[str, int] | None
    uds: str | os.PathLike[str] | None
    resolve: Overrides | None
    dns_cache: float | None
    transport: MockTransport | None
    http2: bool | str
    http2_ping_interval: float | None
    on_request: HookOrHooks[OnRequest]
    on_response: HookOrHooks[OnResponse]
    on_error: HookOrHooks[OnError]
    on_connection: HookOrHooks[OnConnection]


class _VerifyOptions(TypedDict, total=False):
    verify: bool | str | os.PathLike[str]
    cert: str | tuple[str, ...] | None


class ClientOptions(_CommonOptions, _VerifyOptions, total=False):
    """Keyword arguments of HTTPClient that `HTTPClient.from_url` and HTTPClientPool accept as well."""

    headers: HeadersDataType | None


class AgentOptions(_CommonOptions, _VerifyOptions, total=False):
    """Keyword arguments that UserAgent and `httpx.Client` pass on to their HTTPClientPool."""

    max_clients: int | None
    max_idle_connections: int | None


_Value = TypeVar("_Value")


class _TemplateAttribute(Generic[_Value]):
    """An attribute that affects every request: after an assignment the next request makes a new template."""

    def __set_name__(self, owner: type[HTTPClient], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: type[HTTPClient]) -> Self: ...
    @overload
    def __get__(self, client: HTTPClient, owner: type[HTTPClient]) -> _Value: ...
    def __get__(self, client: HTTPClient | None, owner: type[HTTPClient]) -> Any:
        if client is None:
            return self
        try:
            return client.__dict__[self._name]
        except KeyError:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}") from None

    def __set__(self, client: HTTPClient, value: _Value) -> None:
        client.__dict__[self._name] = value
        client._template = None


class HTTPClient:
    """A client for one origin, with a pool of at most `concurrency` keep-alive connections.

    Any number of greenlets can share a client; those beyond `concurrency` wait for a connection. A client is
    thread-safe; each thread has its own connections. After a fork the child opens its own.

    >>> client = HTTPClient("127.0.0.1", 8080, concurrency=10)
    >>> response = client.get("/friends?limit=20")
    >>> friends = json.load(response)
    """

    HTTP_11 = "HTTP/1.1"
    HTTP_10 = "HTTP/1.0"
    BLOCK_SIZE = 4096
    DEFAULT_HEADERS = Headers({"User-Agent": f"python/gevent-http-client-{__version__}"})

    default_headers: _TemplateAttribute[Headers] = _TemplateAttribute()
    version: _TemplateAttribute[str] = _TemplateAttribute()
    block_size: _TemplateAttribute[int] = _TemplateAttribute()
    headers_type: _TemplateAttribute[type[Headers]] = _TemplateAttribute()

    # Created by the first request.
    _template: _core.RequestTemplate | None = None

    def __init__(
        self,
        host: str,
        port: int | str | None = None,
        headers: HeadersDataType | None = None,
        block_size: int = BLOCK_SIZE,
        connection_timeout: float | None = ConnectionPool.DEFAULT_CONNECTION_TIMEOUT,
        network_timeout: float | None = ConnectionPool.DEFAULT_NETWORK_TIMEOUT,
        disable_ipv6: bool = False,
        concurrency: int = 1,
        ssl: bool = False,
        ssl_options: dict[str, Any] | None = None,
        ssl_context_factory: ContextFactory | None = None,
        insecure: bool = False,
        proxy_host: str | None = None,
        proxy_port: int | None = None,
        proxy_user: str | bytes | None = None,
        proxy_password: str | bytes | None = None,
        version: str = HTTP_11,
        headers_type: type[Headers] = Headers,
        *,
        pool_timeout: float | None = None,
        total_timeout: float | None = None,
        verify: bool | str | os.PathLike[str] = True,
        cert: str | tuple[str, ...] | None = None,
        proxy: str | Proxy | None = None,
        proxy_ssl_options: dict[str, Any] | None = None,
        trust_env: bool = False,
        local_address: str | tuple[str, int] | None = None,
        uds: str | os.PathLike[str] | None = None,
        resolve: Overrides | None = None,
        dns_cache: float | None = None,
        transport: MockTransport | None = None,
        idle_timeout: float | None = ConnectionPool.DEFAULT_IDLE_TIMEOUT,
        http2: bool | str = False,
        http2_ping_interval: float | None = None,
        on_request: HookOrHooks[OnRequest] = None,
        on_response: HookOrHooks[OnResponse] = None,
        on_error: HookOrHooks[OnError] = None,
        on_connection: HookOrHooks[OnConnection] = None,
    ) -> None:
        """Creates a client for `host` (a name or an address) and `port` (80 by default, 443 with TLS).

        - `headers`: headers of every request. Proxy-Authorization is sent only to an HTTP proxy (see `request`).
        - `concurrency`: the most open connections in each thread; 1 by default.
        - `block_size`: the size in bytes of the pieces of an iteration over a response; 4096 by default.
        - `version`: `HTTP/1.1`, which is the default, or `HTTP/1.0`.
        - `headers_type`: the class of `default_headers` and of the responses' headers.

        Timeouts are in seconds; None means no timeout. A request can override them (see `request`). A timeout raises
        TimeoutError, whose `phase` names the step that the request was in.

        - `connection_timeout`: for opening a connection, including name resolution, the proxy and TLS; 5 by default.
        - `network_timeout`: for each wait for the peer to receive or send bytes; 5 by default.
        - `pool_timeout`: for a wait for one of the `concurrency` connections; None by default. If unread responses of
          the same greenlet hold all of them, the client reads one into memory, at most 1 MiB, instead of waiting.
        - `total_timeout`: for a request from its start to the last byte of the response; None by default.
        - `idle_timeout`: for an idle connection, which is closed afterwards; 90 by default. An idle connection that the
          server closes is closed at once.

        An HTTP/2 connection multiplexes requests, as many as its server allows. The client opens another connection
        for more requests, up to `concurrency`.

        - `http2`: True uses HTTP/2 over TLS if the server offers it, and HTTP/1.1 otherwise; "prior-knowledge" uses
          HTTP/2 always, without TLS too. False by default.
        - `http2_ping_interval`: seconds without any data from the server after which the client sends a PING. After the
          same time without an answer it closes the connection, and the requests on it raise TimeoutError. None by
          default.

        TLS 1.2 or 1.3 is used with `ssl=True` or any `ssl_options`. Certificates and names are verified with the CA
        certificates that SSL_CERT_FILE and SSL_CERT_DIR name, else with the system's, else with Mozilla's. The names
        and the meaning of `ssl_options` are those of Python's ssl module: `ca_certs` (a file or a directory),
        `cert_reqs`, `certfile`, `keyfile`, `server_hostname`, `ssl_version`, and for OpenSSL only `ciphers`, `options`
        and `verify_flags`.

        - `verify`: a file or a directory of CA certificates that replace the default ones; False to verify nothing.
        - `insecure`: True to verify the chain of the certificate but not its name; False by default.
        - `cert`: the client certificate for servers that request one: a PEM file, or a tuple of it and the file of its
          key. A UserAgent does not send it to an origin that only a redirect led to.
        - `ssl_context_factory`: a function that returns the ssl.SSLContext to use. It is called with `cafile=` (with
          `cadata=` for certificates in directories), or without arguments if it does not accept these. See
          geventhttpclient.tls.init_ssl_context for the settings that are then applied to the context.

        Connections to the host are direct by default.

        - `proxy`: a Proxy, or `scheme://user:password@host:port` with the scheme http, https, socks5h, socks5, socks4a
          or socks4 (see geventhttpclient.proxy.Proxy).
        - `proxy_host`, `proxy_port`, `proxy_user`, `proxy_password`: an http proxy, instead of `proxy`.
        - `proxy_ssl_options`: TLS options for the connection to an https proxy, with the names of `ssl_options`.
        - `trust_env`: True to use the current HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY of the environment (see
          geventhttpclient.proxy.is_exempt) unless the arguments name a proxy; False by default.
        - `local_address`: the source of connections: an IP address, or a tuple of an address and a port.
        - `uds`: the path of a Unix domain socket to connect to instead of host and port; the requests still name these.
          On Linux, a path that begins with NUL is an abstract name. The environment's proxies are not used then.

        Addresses are those of gevent's resolver, IPv6 and IPv4 in turn. The client tries the next address 250 ms after
        the one before, or at once when that has failed, and uses the first that accepts (RFC 8305).

        - `disable_ipv6`: True to use only IPv4; False by default.
        - `resolve`: addresses of some origins: `{"example.org:443": "127.0.0.1"}`, or a list in the order to try.
        - `dns_cache`: seconds for which the resolver's answer is kept; None resolves the name for every connection.

        `on_request`, `on_response`, `on_error` and `on_connection` are functions, or sequences of functions, that the
        client calls for each request, response, error and new connection: see geventhttpclient.hooks.

        For tests, `transport` answers instead of a server: see geventhttpclient.mock. The options for proxies and TLS
        have no effect then.

        Raises ValueError or TypeError, which names the argument, for an invalid one; OSError for a file that cannot be
        read; and ssl.SSLError for a file without a certificate, with a damaged one, or without the matching key.
        """
        use_tls = ssl or ssl_options is not None
        port = read_port(port, 443 if use_tls else 80)
        check_host("host", host, "port=", "HTTPClient.from_url")
        check_port("port", port)
        if version not in (self.HTTP_11, self.HTTP_10):
            raise ValueError(f"version must be {self.HTTP_11!r} or {self.HTTP_10!r}, not {version!r}")
        if version == self.HTTP_10 and http2:
            raise ValueError("http2 and version='HTTP/1.0' exclude one another")
        check_http2(http2, http2_ping_interval)
        hooks = Hooks(on_request, on_response, on_error, on_connection).with_defaults()
        # None if there are no hooks, for a quick check in each request.
        self._hooks = hooks if hooks else None
        check_count("block_size", block_size)
        check_count("concurrency", concurrency)
        check_verify(verify)
        check_cert(cert)
        check_ssl_options("ssl_options", ssl_options)
        check_ssl_options("proxy_ssl_options", proxy_ssl_options)
        check_factory(ssl_context_factory)
        check_transport(transport)
        check_headers_type(headers_type)
        self.host = host
        self.port = port
        # From here on, `host` is the name in ASCII, as in DNS and in the Host header.
        given, host = host, _core.host_to_ascii(host)
        self.ssl = use_tls
        self._scheme = PROTO_HTTPS if use_tls else PROTO_HTTP
        self.version = version
        self.headers_type = headers_type
        self.block_size = block_size
        self.default_headers = headers_type()
        self.default_headers.update(self.DEFAULT_HEADERS)
        if headers:
            self.default_headers.update(headers if isinstance(headers, dict) else Headers(headers))

        via = choose_proxy(
            self._scheme,
            host,
            port,
            proxy,
            proxy_host,
            proxy_port,
            proxy_user,
            proxy_password,
            trust_env and uds is None and transport is None,
        )
        if transport is not None:
            via = None
        self.use_proxy: bool = via is not None
        common: dict[str, Any] = {
            "size": concurrency,
            "disable_ipv6": disable_ipv6,
            "connection_timeout": connection_timeout,
            "network_timeout": network_timeout,
            "use_proxy": self.use_proxy,
            "proxy_user": proxy_user,
            "proxy_password": proxy_password,
            # Options that 2.6.1 does not have are passed only if they are given: a program's subclass of the pool may
            # have the constructor of 2.6.1.
            **_without_none(
                pool_timeout=pool_timeout,
                total_timeout=total_timeout,
                proxy=None if proxy_host else via,
                proxy_ssl_options=proxy_ssl_options,
                local_address=local_address,
                uds=uds,
                resolve=resolve,
                dns_cache=dns_cache,
                http2=http2 or None,
                http2_ping_interval=http2_ping_interval,
            ),
        }
        if idle_timeout != ConnectionPool.DEFAULT_IDLE_TIMEOUT:
            common["idle_timeout"] = idle_timeout
        tls: dict[str, Any] | None = None
        if use_tls:
            host_field = self.default_headers.get("Host") if headers else None
            if ssl_context_factory is not None:
                ssl_options = _with_server_name(ssl_options, host_field, host)
            tls = _tls_arguments(ssl_options, ssl_context_factory, insecure, verify, cert)
        self._connection_pool: ConnectionPool = _make_pool(host, port, via, transport, tls, common)
        self._base_url_string, self._host_field, self._base_urls = _origin_names(self._scheme, host, port, given)
        # HTTP/2 with prior knowledge goes through a tunnel.
        plain_proxy = via is not None and via.is_http and not use_tls and http2 != PRIOR_KNOWLEDGE
        self._proxy = (True, self._connection_pool._proxy_authorization()) if plain_proxy else None

    @classmethod
    def from_url(cls, url: str | URL, **kw: Unpack[ClientOptions]) -> Self:
        """Creates a client for the origin of a URL: scheme, host and port. Ignores `ssl_options` for plain http."""
        if not isinstance(url, URL):
            url = _parse_url(url)
        if url.scheme not in (PROTO_HTTP, PROTO_HTTPS) or not url.host:
            raise exceptions.ValueError(not_a_url(url))
        if unknown := _unknown_arguments(cls, kw):
            raise unexpected(unknown, _CLIENT_ARGUMENTS, OF_CLIENTS)
        options: dict[str, Any] = {"ssl": url.scheme == PROTO_HTTPS, **kw}
        if not options["ssl"]:
            options.pop("ssl_options", None)
        return cls(unescaped_zone(url.host), port=url.port, **options)

    def __copy__(self) -> Self:
        # A shallow copy shares the connections.
        clone: Self = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        return clone

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled or deep-copied, because its connections belong to this process: "
            "make another one with the same arguments, or use a Session, a UserAgent or an HTTPClientPool, which can"
        )

    def statistics(self) -> dict[str, Any]:
        """Returns the counts of this thread's connections, and of the reasons why connections were closed.

        Current counts: `limit` (`concurrency`), `open`, `idle`, `in_use` (including those that are being opened),
        `streams` (HTTP/2 requests in flight) and `waiting` (greenlets in the queue).

        Total counts: `opened`, `reused` (requests that used an open connection), `retries` (requests sent again), and
        `closed`, a dict from the reason to its count: `asked_by_peer` (including GOAWAY), `asked_by_us`, `broken`,
        `idle_timeout`, `idle_limit` (more idle connections than `max_idle_connections` of an HTTPClientPool),
        `ended_while_idle`, `given_up`, `timed_out`, `body_until_close`, `http_1_0`, `client_closed`,
        `bytes_behind_response`, `ambiguous_framing`, `upgraded`.
        """
        return self._connection_pool.statistics()

    def close(self) -> None:
        """Closes the idle connections at once, and each connection in use when its response has been read.

        Afterwards a request raises RuntimeError. Any thread can call this, any number of times.
        """
        self._connection_pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def request(
        self,
        method: str,
        request_uri: str,
        body: Body = b"",
        headers: HeadersDataType | None = None,
        *,
        trailers: TrailersDataType | None = None,
        **timeouts: Unpack[Timeouts],
    ) -> HTTPSocketPoolResponse:
        """Sends a request and returns the response when its head has been received; the body is read from the response.

        `request_uri` is a path with its query, or an absolute URL of this client's origin. A path may begin with two
        slashes: it never names another host. `headers` replace the client's headers of the same name; None as a value
        omits the header. `body` is bytes, a bytearray, a memoryview, a str (sent as UTF-8), an open file (from its
        current position), or a file-like object or an iterable of pieces, which are sent chunked unless a
        Content-Length header gives their size. With `Transfer-Encoding: chunked` in the headers any body is chunked,
        and Content-Length is not sent; with `identity` the length is sent, whatever the client's headers say.

        `trailers` are sent after the body, which is always chunked then. They are a mapping or pairs, as for headers,
        and a Trailer header lists their names unless you give one; or a callable without arguments that returns such,
        a checksum of the data sent, for example. It is called in this greenlet after the body, each time the request is
        sent, and may switch to other greenlets; its exception is raised here, and the connection is closed. Fields
        that must be known before the body (RFC 9110 section 6.5.1: Content-Length, Host, Authorization ...) raise
        ValueError, and so do trailers with HTTP/1.0 or with a Content-Length header.

        Proxy-Authorization is sent only to an HTTP proxy: with a plain request that it forwards, otherwise with the
        CONNECT of a connection that is opened for this request. Without an HTTP proxy it is not sent.

        An idempotent request is retried once if a connection that had been idle breaks before the response begins.

        `connection_timeout`, `network_timeout`, `pool_timeout` and `total_timeout` override those of the client for
        this request and its response; None means no timeout. `total_timeout` also interrupts code that produces the
        pieces of the body or the trailers.

        Raises ValueError or TypeError, before anything is sent, if the request is invalid; HTTPParseError or
        HTTPConnectionClosed if the response is invalid or incomplete; OSError and its subclasses
        (ConnectionRefusedError, TimeoutError, socket.gaierror ...) for network errors; ssl.SSLError and
        ssl.SSLCertVerificationError for TLS errors; ProxyError if a proxy refuses; RuntimeError if the client was
        closed.
        """
        try:
            if self._hooks is not None:
                return self._request_with_hooks(self._hooks, method, request_uri, body, headers, trailers, timeouts)
            template = self._template
            if template is None:
                template = self._make_template()
            return self._connection_pool._exchange(
                template,
                HTTPSocketPoolResponse,
                method,
                request_uri,
                body,
                headers,
                self._timeouts(timeouts) if timeouts else None,
                trailers,
            )
        except TypeError:
            if (error := refused_request(method, request_uri, headers, trailers)) is None:
                raise
        raise error

    def _request_with_hooks(
        self,
        hooks: Hooks,
        method: str,
        target: str,
        body: Body,
        headers: HeadersDataType | None,
        trailers: TrailersDataType | None,
        timeouts: Timeouts,
    ) -> HTTPSocketPoolResponse:
        """Sends a request and calls the hooks before and after it."""

        def exchange(headers: Headers, opened: list[_core._Opened] | None) -> HTTPSocketPoolResponse:
            return self._connection_pool._exchange(
                self._template or self._make_template(),
                HTTPSocketPoolResponse,
                method,
                target,
                body,
                headers,
                self._timeouts(timeouts) if timeouts else None,
                trailers,
                opened,
            )

        try:
            fields = Headers(headers)
        except (AttributeError, TypeError, ValueError):
            # Raises the error that the headers raise without hooks.
            self._build_request("GET", "/", headers=headers)
            raise
        # A method or target that is not text is refused below, as without hooks.
        template = self._template or self._make_template()
        name = str(method).upper()
        request = Request(name, template.url_of(name, str(target)), fields)
        return hooks.run(request, (self.host, self.port), exchange)

    def _timeouts(self, given: Timeouts) -> RequestTimeouts:
        """Returns all timeouts of a request: those given, and the client's for the rest."""
        try:
            return self._connection_pool._timeouts.changed(given)
        except KeyError:
            names = Timeouts.__annotations__.keys()
        raise unexpected(given.keys() - names, ("body", "headers", "trailers", *names), OF_REQUESTS)

    def _build_request(
        self,
        method: str,
        request_uri: str,
        body: Body = b"",
        headers: HeadersDataType | None = None,
        chunked: bool | None = None,
    ) -> str:
        """Returns the head that `request` would send, as text."""
        template = self._template or self._make_template()
        return template.encode_head(method, request_uri, body, headers, chunked)

    def _make_template(self) -> _core.RequestTemplate:
        self._template = template = _core.RequestTemplate(
            self.default_headers,
            self._host_field,
            self._base_urls,
            self.version,
            self._proxy,
            self.block_size,
            self.headers_type,
        )
        return template

    def get(
        self, request_uri: str, headers: HeadersDataType | None = None, **options: Unpack[Options]
    ) -> HTTPSocketPoolResponse:
        """Sends a request with the method GET; see `request`."""
        if not options:
            # A call with `**options` would add a frame to the stack, which gevent copies at each switch.
            return self.request(METHOD_GET, request_uri, headers=headers)
        return self.request(METHOD_GET, request_uri, headers=headers, **options)

    def head(
        self, request_uri: str, headers: HeadersDataType | None = None, **options: Unpack[Options]
    ) -> HTTPSocketPoolResponse:
        """Sends a request with the method HEAD; see `request`."""
        return self.request(METHOD_HEAD, request_uri, headers=headers, **options)

    def options(
        self, request_uri: str, headers: HeadersDataType | None = None, **options: Unpack[Options]
    ) -> HTTPSocketPoolResponse:
        """Sends a request with the method OPTIONS; see `request`."""
        return self.request(METHOD_OPTIONS, request_uri, headers=headers, **options)

    def post(
        self,
        request_uri: str,
        body: Body = "",
        headers: HeadersDataType | None = None,
        **options: Unpack[Options],
    ) -> HTTPSocketPoolResponse:
        """Sends a request with the method POST; see `request`."""
        if not options:
            return self.request(METHOD_POST, request_uri, body=body, headers=headers)
        return self.request(METHOD_POST, request_uri, body=body, headers=headers, **options)

    def put(
        self,
        request_uri: str,
        body: Body = "",
        headers: HeadersDataType | None = None,
        **options: Unpack[Options],
    ) -> HTTPSocketPoolResponse:
        """Sends a request with the method PUT; see `request`."""
        return self.request(METHOD_PUT, request_uri, body=body, headers=headers, **options)

    def patch(
        self,
        request_uri: str,
        body: Body = "",
        headers: HeadersDataType | None = None,
        **options: Unpack[Options],
    ) -> HTTPSocketPoolResponse:
        """Sends a request with the method PATCH; see `request`."""
        return self.request(METHOD_PATCH, request_uri, body=body, headers=headers, **options)

    def delete(
        self,
        request_uri: str,
        body: Body = "",
        headers: HeadersDataType | None = None,
        **options: Unpack[Options],
    ) -> HTTPSocketPoolResponse:
        """Sends a request with the method DELETE; see `request`."""
        return self.request(METHOD_DELETE, request_uri, body=body, headers=headers, **options)

    def trace(
        self,
        request_uri: str,
        body: Body = "",
        headers: HeadersDataType | None = None,
        **options: Unpack[Options],
    ) -> HTTPSocketPoolResponse:
        """Sends a request with the method TRACE; see `request`."""
        return self.request(METHOD_TRACE, request_uri, body=body, headers=headers, **options)


def _host_of(field: str) -> str:
    """Returns the host in the value of a Host header."""
    field = field.strip()
    host, _, port = field.rpartition(":")
    is_port = not port or port.isdigit()
    # An IPv6 address without brackets has no port.
    return host if is_port and (":" not in host or host.endswith("]")) else field


def _with_server_name(ssl_options: dict[str, Any] | None, host_field: object, host: str) -> dict[str, Any]:
    """Returns the options for a factory's context with the server name: that of the Host header if there is one."""
    name = _host_of(host_field) if isinstance(host_field, str) else host
    return {"server_hostname": name, **(ssl_options or {})}


def _tls_arguments(
    ssl_options: dict[str, Any] | None,
    ssl_context_factory: ContextFactory | None,
    insecure: bool,
    verify: bool | str | os.PathLike[str],
    cert: str | tuple[str, ...] | None,
) -> dict[str, Any]:
    """Returns the arguments of an SSLConnectionPool that a ConnectionPool does not have."""
    given = _without_none(verify=None if verify is True else verify, cert=cert)
    return {"insecure": insecure, "ssl_context_factory": ssl_context_factory, "ssl_options": ssl_options, **given}


def _make_pool(
    host: str,
    port: int,
    via: Proxy | None,
    transport: MockTransport | None,
    tls: dict[str, Any] | None,
    common: dict[str, Any],
) -> ConnectionPool:
    """Creates the pool of a client. Looks up its class at each call, because programs replace it with a subclass."""
    if transport is not None:
        return transport._connection_pool(host, port, host, port, **common)
    connection_host, connection_port = (host, port) if via is None else (via.host, via.port)
    if tls is not None:
        return SSLConnectionPool(connection_host, connection_port, host, port, **tls, **common)
    return ConnectionPool(connection_host, connection_port, host, port, **common)


def _origin_names(scheme: str, host: str, port: int, given: str) -> tuple[str, str, list[str]]:
    """Returns the URL of an origin, the value of Host, and the prefixes of its URLs, with the one for proxies first.

    An absolute URL may also contain the host as it was given.
    """
    bare = without_zone(host.strip("[]"))
    name = f"[{bare}]" if ":" in bare else bare
    names = [name] if given in (bare, name) else [name, *_host_forms(given)]
    is_default = port == (443 if scheme == PROTO_HTTPS else 80)
    prefixes = [f"{scheme}://{name}" for name in names] if is_default else []
    prefixes += [f"{scheme}://{name}:{port}" for name in names]
    return f"{scheme}://{name}:{port}/", name if port in (80, 443) else f"{name}:{port}", prefixes


def _host_forms(host: str) -> list[str]:
    """Returns the forms of a host in URLs. An IPv6 address has two: with the percent sign of its zone, and escaped."""
    if ":" not in host:
        return [host]
    address, _, zone = host.strip("[]").partition("%")
    return [f"[{address}%{zone}]", f"[{address}%25{zone}]"]


def _without_none(**arguments: Any) -> dict[str, Any]:
    """Returns the arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


# The arguments of `from_url`. Programs may replace HTTPClient in this module, so its class is kept here.
_CLIENT_ARGUMENTS = ClientOptions.__annotations__.keys()
_ORIGINAL_CLIENT = HTTPClient


def _unknown_arguments(cls: type[HTTPClient], kw: Mapping[str, object]) -> set[str]:
    """Returns the names of unknown arguments; none for a subclass of a program, whose constructor checks its own."""
    return kw.keys() - _CLIENT_ARGUMENTS if cls is _ORIGINAL_CLIENT else set()


def _parse_url(url: Any) -> URL:
    try:
        return URL(url)
    except TypeError:
        if isinstance(url, (list, tuple)):
            raise
    raise refused_url(url)


# Options in `ssl_options` for the client certificate.
_CERTIFICATE = frozenset({"certfile", "keyfile", "password"})


class HTTPClientPool:
    """A collection of clients, one for each origin, that have the same arguments and are created on first use.

    `clients` maps (host, port) to a client; the key of a second scheme on the same host and port is (host, port,
    scheme).
    """

    # Created on first use.
    _certificate_free: HTTPClientPool | None = None

    def __init__(
        self,
        *,
        max_clients: int | None = DEFAULT_MAX_CLIENTS,
        max_idle_connections: int | None = None,
        **kw: Unpack[ClientOptions],
    ) -> None:
        """Takes the arguments of HTTPClient.from_url. `client_args` has them, with a repr that hides credentials.

        A server can redirect to any number of host names, so both clients and idle connections have a limit over all
        origins.

        - `max_clients`: the most clients; 1,000 by default, None for no limit. Beyond it the pool drops the least
          recently requested client. The client's idle connections are closed then, or when its last other reference is
          dropped.
        - `max_idle_connections`: the most idle connections of all clients, in each thread. Beyond it the connection
          that has been idle longest is closed. None, the default, means 100, or `concurrency` if that is more; 0 keeps
          none.

        If the arguments include a client certificate, an agent uses clients without it for origins that only a redirect
        leads to. There are at most `max_clients` of these as well. They are not in `clients`, but their idle
        connections count towards `max_idle_connections`, and `close` closes them too.

        Raises ValueError or TypeError, which names the limit, for an invalid limit, and the errors of HTTPClient if the
        client certificate cannot be used.
        """
        if max_clients is not None:
            check_count("max_clients", max_clients)
        if unknown := _unknown_arguments(HTTPClient, kw):
            raise unexpected(unknown, _CLIENT_ARGUMENTS | {"max_clients", "max_idle_connections"}, OF_CLIENTS)
        check_clients(kw)
        self.max_clients = max_clients
        self._idle_group = idle_group(max_idle_connections, kw.get("concurrency"))
        options = kw.get("ssl_options")
        self._has_certificate: bool = kw.get("cert") is not None or (
            isinstance(options, Mapping) and not _CERTIFICATE.isdisjoint(options)
        )
        self.clients: dict[tuple[Any, ...], HTTPClient] = {}
        self.client_args: dict[str, Any] = redact({**kw})
        if self._has_certificate and kw.get("ssl_context_factory") is None and kw.get("transport") is None:
            # Reads the files, so that their errors are raised here and not by the first request.
            named = {name: value for name, value in (options or {}).items() if name in _CERTIFICATE}
            HTTPClient("localhost", ssl=True, verify=False, cert=kw.get("cert"), ssl_options=named or None).close()

    @property
    def max_idle_connections(self) -> int:
        """The limit of idle connections of all clients, in each thread."""
        return self._idle_group.limit

    def get_client(self, url: str | URL) -> HTTPClient:
        """Returns the client for the origin of `url`. Keeps it, unless the host is longer than any valid name."""
        if not isinstance(url, URL):
            url = _parse_url(url)
        key: tuple[Any, ...] = (url.host, url.port)
        client = self.clients.get(key)
        if client is not None and client.ssl != self.client_args.get("ssl", url.scheme == PROTO_HTTPS):
            key = (url.host, url.port, url.scheme)
            client = self.clients.get(key)
        if client is None:
            client = HTTPClient.from_url(url, **self.client_args)
            join(client, self._idle_group)
            if len(key[0]) > MOST_KEPT_CHARACTERS:
                return client
            self.clients[key] = client
            if self.max_clients is not None and len(self.clients) > self.max_clients:
                # Not closed: a greenlet may be about to use it.
                del self.clients[next(iter(self.clients))]
        elif self.max_clients is not None and len(self.clients) > self.max_clients // 2:
            # The most recently requested client is the last. The order is not kept while half of the places are free.
            self.clients[key] = self.clients.pop(key, client)
        return client

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for pickles and copies, which has the arguments but no clients."""
        state = {**self.__dict__, "clients": {}}
        state.pop("_certificate_free", None)
        return state

    def _without_certificate(self) -> HTTPClientPool:
        """Returns a pool of clients with the same arguments, except for the client certificate."""
        bare = self._certificate_free
        if bare is None:
            arguments = {name: value for name, value in self.client_args.items() if name != "cert"}
            options = arguments.get("ssl_options")
            if isinstance(options, Mapping):
                arguments["ssl_options"] = {name: options[name] for name in options.keys() - _CERTIFICATE}
            bare = HTTPClientPool(max_clients=self.max_clients, **arguments)
            bare._idle_group = self._idle_group
            # Another thread may have been first: `setdefault` is atomic, so all use the pool that `close` closes.
            bare = self.__dict__.setdefault("_certificate_free", bare)
        return bare

    def close(self) -> None:
        """Closes and drops all clients; `get_client` creates new ones."""
        clients, self.clients = self.clients, {}
        for client in clients.values():
            client.close()
        if self._certificate_free is not None:
            self._certificate_free.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
