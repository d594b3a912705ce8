"""The client: one origin, a pool of connections, as many greenlets as you like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from geventhttpclient import _core
from geventhttpclient._checks import (
    MOST_KEPT_CHARACTERS,
    check_count,
    check_host,
    check_port,
    check_timeouts,
    read_port,
    shown,
)
from geventhttpclient._idle import DEFAULT_MAX_IDLE_CONNECTIONS, idle_group, join
from geventhttpclient._version import __version__
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.header import Headers
from geventhttpclient.hooks import Hooks, OnConnection, OnError, OnRequest, OnResponse, Request, Several
from geventhttpclient.http2 import PRIOR_KNOWLEDGE, check_http2
from geventhttpclient.proxy import Proxy, choose_proxy, conceal
from geventhttpclient.response import HTTPSocketPoolResponse
from geventhttpclient.url import URL

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from typing_extensions import Self, Unpack

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
    "Body",
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
"""RFC 9110 section 9.2.2: sent again when a connection breaks before it has answered. Others never are."""

DEFAULT_MAX_CLIENTS: int = 1000
"""Clients that a HTTPClientPool keeps: some 4 KB each, and the TLS sessions of its server."""

#: What may be sent as a body: bytes-like or text at once, an open file, a file-like or an iterable piece by piece.
Body = Any


class Timeouts(TypedDict, total=False):
    """Timeouts of one request, in seconds, in place of the client's; None is for ever."""

    connection_timeout: float | None
    network_timeout: float | None
    pool_timeout: float | None
    total_timeout: float | None


class Options(Timeouts, total=False):
    """What a verb hands on to `request`."""

    trailers: TrailersDataType | None


class HTTPClient:
    """Requests to one origin over at most `concurrency` connections, which are kept alive and shared.

    Any number of greenlets may use a client at the same time; those beyond `concurrency` wait for a connection. It may
    be used in several threads, each of which has connections of its own. After a fork the child opens its own.

    >>> client = HTTPClient("127.0.0.1", 8080, concurrency=10)
    >>> response = client.get("/friends?limit=20")
    >>> friends = json.load(response)
    """

    HTTP_11 = "HTTP/1.1"
    HTTP_10 = "HTTP/1.0"
    BLOCK_SIZE = 4096
    DEFAULT_HEADERS = Headers({"User-Agent": f"python/gevent-http-client-{__version__}"})

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
        proxy_user: str | None = None,
        proxy_password: str | None = None,
        version: str = HTTP_11,
        headers_type: type[Headers] = Headers,
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
        on_request: Several[OnRequest] = None,
        on_response: Several[OnResponse] = None,
        on_error: Several[OnError] = None,
        on_connection: Several[OnConnection] = None,
    ) -> None:
        """For `host` (a name or an address) and `port` (80, with TLS 443).

        - `headers`: go out with every request. Proxy-Authorization goes to an HTTP proxy alone (see `request`).
        - `concurrency`: the most connections there are at a time, in each thread; 1 by default.
        - `block_size`: the bytes that iterating over a response yields at once; 4096 by default.
        - `version`: `HTTP/1.1`, which is the default, or `HTTP/1.0`.
        - `headers_type`: the class of `default_headers` and of the responses' fields.

        Timeouts are in seconds, None is for ever. A request may bring its own (see `request`). What has taken too long
        raises TimeoutError, whose `phase` says where the request was.

        - `connection_timeout`: for opening a connection: resolving, connecting, the proxy and TLS, all together; 5 by
          default.
        - `network_timeout`: for each wait for the peer to take or send bytes; 5 by default.
        - `pool_timeout`: for a wait for one of the `concurrency` connections; None by default.
        - `total_timeout`: for a request from its start to the last byte of the response; None by default.
        - `idle_timeout`: how long a connection is kept that nobody uses; 90 by default. One that the server closes is
          closed at once.

        HTTP/2 takes any number of requests at a time on one connection: up to what its server allows, and another
        connection is opened beyond that, up to `concurrency`.

        - `http2`: True speaks it over TLS where the server offers it, and else HTTP/1.1; "prior-knowledge" speaks it in
          any case, in the clear as well. False by default.
        - `http2_ping_interval`: after so many seconds without a sign of life from the server it is sent a PING, and
          after as many more its connection is closed; the requests on it raise TimeoutError. None by default.

        TLS, which is on with `ssl=True` or any `ssl_options`, is 1.2 or 1.3. Certificates and names are verified, by
        the certificates that SSL_CERT_FILE and SSL_CERT_DIR name, else the system's, else Mozilla's. The names and the
        meaning of `ssl_options` are those of Python's ssl module: `ca_certs` (a file, or a directory), `cert_reqs`,
        `certfile`, `keyfile`, `server_hostname`, `ssl_version`, and for OpenSSL alone `ciphers`, `options` and
        `verify_flags`.

        - `verify`: a file or a directory of CA certificates in place of the usual ones; False to verify nothing.
        - `insecure`: whether the name in the certificate does not matter. The chain does.
        - `cert`: the client's certificate, for servers that ask: a file (PEM), or one and that of its key. Clients of a
          UserAgent do not show it to an origin that only a redirect led to.
        - `ssl_context_factory`: returns the ssl.SSLContext to be used, and is called with `cafile=` (`cadata=` for what
          is in directories), or without where it takes none. See geventhttpclient.tls.init_ssl_context for what is
          then set in it.

        The way to the host is the plain one by default.

        - `proxy`: who passes the connections on: a Proxy, or `scheme://user:password@host:port` with the schemes http,
          https, socks5h, socks5, socks4a and socks4 (see geventhttpclient.proxy.Proxy).
        - `proxy_host`, `proxy_port`, `proxy_user`, `proxy_password`: the same for an http proxy, in place of `proxy`.
        - `proxy_ssl_options`: what TLS to an https proxy is to do, as `ssl_options` say it for the host.
        - `trust_env`: without one of those, whether HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY of the environment
          are followed as they are now (see geventhttpclient.proxy.is_exempt); False by default.
        - `local_address`: where connections come from: an IP address, or a tuple of that and a port.
        - `uds`: the path of a Unix domain socket, connected to in place of host and port, which are still what is asked
          for. On Linux, one that begins with NUL is an abstract name. No proxy of the environment is asked then.

        Addresses are those of gevent's resolver, IPv6 and IPv4 in turn. The next one is tried 250 ms after the one
        before, or at once when that has failed; the first to accept is taken (RFC 8305).

        - `disable_ipv6`: whether IPv4 alone is used.
        - `resolve`: addresses for some origins: `{"example.org:443": "127.0.0.1"}`, or a list in the order to try.
        - `dns_cache`: how many seconds the resolver's answer is good for; None asks it for every connection.

        `on_request`, `on_response`, `on_error` and `on_connection` are functions of the program's, or sequences of
        them, that are called with each of these: see geventhttpclient.hooks.

        For tests, `transport` answers in place of a server: see geventhttpclient.mock. Proxies and what TLS is to do
        are of no account then.

        Raises ValueError or TypeError that names an argument of no use, OSError for a file that cannot be read, and
        ssl.SSLError for one that holds no certificate, a damaged one, or no key that fits.
        """
        use_tls = ssl or ssl_options is not None
        port = read_port(port, 443 if use_tls else 80)
        check_host("host", host)
        check_port("port", port)
        if version not in (self.HTTP_11, self.HTTP_10):
            raise ValueError(f"version must be {self.HTTP_11!r} or {self.HTTP_10!r}, not {version!r}")
        if version == self.HTTP_10 and http2:
            raise ValueError("http2 and version='HTTP/1.0' exclude one another")
        check_http2(http2, http2_ping_interval)
        hooks = Hooks(on_request, on_response, on_error, on_connection).with_defaults()
        # None where there are none: looked at by each request.
        self._hooks = hooks if hooks else None
        check_count("block_size", block_size)
        check_count("concurrency", concurrency)
        self.host = host
        self.port = port
        # From here on by the name that the network knows.
        given, host = host, _core.host_to_ascii(host)
        self.ssl = use_tls
        self._scheme = PROTO_HTTPS if use_tls else PROTO_HTTP
        self.version = version
        self.headers_type = headers_type
        self.block_size = block_size
        self.default_headers: Headers = headers_type()
        self.default_headers.update(self.DEFAULT_HEADERS)
        if headers:
            self.default_headers.update(headers)

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
        connection_host, connection_port = (host, port) if via is None else (via.host, via.port)
        common: dict[str, Any] = {
            "size": concurrency,
            "disable_ipv6": disable_ipv6,
            "connection_timeout": connection_timeout,
            "network_timeout": network_timeout,
            "use_proxy": self.use_proxy,
            "proxy_user": proxy_user,
            "proxy_password": proxy_password,
            # What 2.6.1 does not have is named only where it is used: subclasses of the pool have its constructor.
            **_given(
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
        if use_tls and ssl_context_factory is not None:
            named = self.default_headers.get("Host") if headers else None
            ssl_options = {
                "server_hostname": _host_of(named) if isinstance(named, str) else host,
                **(ssl_options or {}),
            }
        # Looked up here and now: programs put subclasses of their own in place of these names.
        self._connection_pool: ConnectionPool
        if transport is not None:
            self._connection_pool = transport._connection_pool(host, port, host, port, **common)
        elif use_tls:
            self._connection_pool = SSLConnectionPool(
                connection_host,
                connection_port,
                host,
                port,
                insecure=insecure,
                ssl_context_factory=ssl_context_factory,
                ssl_options=ssl_options,
                **_given(verify=None if verify is True else verify, cert=cert),
                **common,
            )
        else:
            self._connection_pool = ConnectionPool(connection_host, connection_port, host, port, **common)

        name = f"[{host}]" if ":" in host and not host.startswith("[") else host
        scheme = self._scheme
        self._base_url_string = f"{scheme}://{name}:{port}/"
        self._host_field = name if port in (80, 443) else f"{name}:{port}"
        # The first is what a proxy is told; a target may also begin with the name as it was given.
        names = [name] if given == host else [name, given]
        is_default = port == (443 if use_tls else 80)
        self._bases = [f"{scheme}://{name}" for name in names] if is_default else []
        self._bases += [f"{scheme}://{name}:{port}" for name in names]
        # One that knows HTTP/2 is spoken to through a tunnel.
        plain_proxy = via is not None and via.is_http and not use_tls and http2 != PRIOR_KNOWLEDGE
        self._proxy = (True, self._connection_pool._proxy_authorization()) if plain_proxy else None

    @classmethod
    def from_url(cls, url: str | URL, **kw: Any) -> Self:
        """For the origin of a URL: scheme, host and port. `ssl_options` are for https only, and dropped for http."""
        if not isinstance(url, URL):
            url = URL(url)
        if url.scheme not in (PROTO_HTTP, PROTO_HTTPS) or not url.host:
            raise ValueError(f"Not an http or https URL with a host: {shown(str(url))}")
        use_tls = kw.pop("ssl", url.scheme == PROTO_HTTPS)
        if not use_tls:
            kw.pop("ssl_options", None)
        return cls(url.host, port=url.port, ssl=use_tls, **kw)

    def statistics(self) -> dict[str, Any]:
        """What there is of connections in this thread, as counts, and what has become of those there were.

        `limit` (`concurrency`), `open`, `idle`, `in_use` (with those that are being opened), `streams` (requests under
        way by HTTP/2), `waiting` (greenlets in the queue); and since the beginning `opened`, `reused` (requests that
        found an open connection), `retries` (requests sent again), and `closed`, a dict from the reason to how often:
        `asked_by_peer` (GOAWAY as well), `asked_by_us`, `broken`, `idle_timeout`, `idle_limit` (more idle connections
        than `max_idle_connections` of an HTTPClientPool), `ended_while_idle`, `given_up`, `timed_out`,
        `body_until_close`, `http_1_0`, `client_closed`, `bytes_behind_response`, `ambiguous_framing`, `upgraded`.
        """
        return self._connection_pool.statistics()

    def close(self) -> None:
        """Closes the idle connections now, those in use when their response has been read.

        Afterwards a request raises RuntimeError. More than once does no harm, in whatever thread.
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
        """Sends a request and returns the response once its head is there; the body is read from the response.

        `request_uri` is a path with its query, or an absolute URL of this client's own origin. A path may begin with
        two slashes: it never names another host. `headers` go before the client's of the same name; None as a value
        leaves that field out. `body` is bytes, a bytearray, a memoryview, a str (sent as UTF-8), an open file (from its
        position on), or a file-like or an iterable of pieces, which go out chunked unless a Content-Length header says
        how many bytes they are.

        `trailers` follow the body, which then goes out chunked whatever it is: a mapping or pairs, as headers, whose
        names a Trailer header tells unless one is given; or a callable without arguments that returns such, a checksum
        of what was sent for example. It is called in this greenlet once the body is out, each time that the request is
        sent, and may switch; what it raises is raised here, and the connection is closed. Fields that must be known
        before a body (RFC 9110 section 6.5.1: Content-Length, Host, Authorization ...) are a ValueError, and so are
        trailers of HTTP/1.0 and beside a Content-Length header.

        Proxy-Authorization is sent to an HTTP proxy alone: with a plain request that it passes on, else with the
        CONNECT of a connection that is opened for this request. Without an HTTP proxy it is not sent.

        What is idempotent is sent once more when a connection that had been idle breaks before it has answered.

        `connection_timeout`, `network_timeout`, `pool_timeout` and `total_timeout` are in place of the client's for
        this request and its response; None is for ever. The last one also interrupts code that makes the body's pieces
        or the trailers.

        Raises ValueError or TypeError before anything is sent when the request is not a good one; HTTPParseError or
        HTTPConnectionClosed when the answer is not; OSError and its subclasses (ConnectionRefusedError, TimeoutError,
        socket.gaierror ...) for the network; ssl.SSLError and ssl.SSLCertVerificationError for TLS; ProxyError when a
        proxy refuses; RuntimeError when the client was closed.
        """
        if isinstance(request_uri, str) and request_uri[:2] == "//":
            request_uri = self._bases[0] + request_uri
        if self._hooks is not None:
            return self._hooked(self._hooks, method, request_uri, body, headers, trailers, timeouts)
        return self._connection_pool._exchange(
            HTTPSocketPoolResponse,
            method,
            request_uri,
            body,
            headers,
            self.default_headers,
            self._host_field,
            self._bases,
            self.version,
            self._proxy,
            (self.block_size, self.headers_type),
            self._timeouts(timeouts) if timeouts else None,
            trailers,
        )

    def _hooked(
        self,
        hooks: Hooks,
        method: str,
        target: str,
        body: Body,
        headers: HeadersDataType | None,
        trailers: TrailersDataType | None,
        timeouts: Timeouts,
    ) -> HTTPSocketPoolResponse:
        """`request`, with functions of the program's before and after."""

        def exchange(headers: Headers, opened: list[_core._Opened] | None) -> HTTPSocketPoolResponse:
            return self._connection_pool._exchange(
                HTTPSocketPoolResponse,
                method,
                target,
                body,
                headers,
                self.default_headers,
                self._host_field,
                self._bases,
                self.version,
                self._proxy,
                (self.block_size, self.headers_type),
                self._timeouts(timeouts) if timeouts else None,
                trailers,
                # Pools of the program's own need not know of it.
                **({} if opened is None else {"opened": opened}),
            )

        try:
            fields = Headers(headers)
        except (AttributeError, TypeError, ValueError):
            # In the words that it is refused with where there are no hooks.
            self._build_request("GET", "/", headers=headers)
            raise
        # What is no text is refused below, as without hooks.
        request = Request(str(method).upper(), self._url_of(str(target)), fields)
        return hooks.run(request, (self.host, self.port), exchange)

    def _url_of(self, target: str) -> str:
        """What is asked for by `target`, as the engine takes it: absolute, and without user and password."""
        lowered = target.lower()
        if target.startswith("//"):
            # It is refused.
            return self._bases[0] + _core.redact_part(target)
        if not _SCHEME.match(target):
            path = "" if target == "*" else target if target.startswith(SLASH) else SLASH + _core.redact(target)
            return self._bases[0] + path
        # Of what is not our own origin's, and will be refused, it cannot be known where a password ends.
        rests = [lowered.removeprefix(base.lower()) for base in self._bases if lowered.startswith(base.lower())]
        return target if any(rest[:1] in ("", "/", "?") for rest in rests) else _core.redact(target)

    def _timeouts(self, given: Timeouts) -> _core._Seconds:
        """All of a request's timeouts: those given, and the client's own for the rest."""
        names = ("connection_timeout", "network_timeout", "pool_timeout", "total_timeout")
        own: dict[str, Any] = dict(zip(names, self._connection_pool._timeouts, strict=True))
        unknown = given.keys() - own.keys()
        if unknown:
            raise TypeError(f"no such timeout: {', '.join(sorted(unknown))}")
        own.update(given)
        return check_timeouts(*own.values())

    def _build_request(
        self,
        method: str,
        request_uri: str,
        body: Body = b"",
        headers: HeadersDataType | None = None,
        chunked: bool | None = None,
    ) -> str:
        """The head that `request` would send, as text."""
        if isinstance(request_uri, str) and request_uri[:2] == "//":
            request_uri = self._bases[0] + request_uri
        return _core.encode_head(
            method,
            request_uri,
            body,
            headers,
            self.default_headers,
            self._host_field,
            self._bases,
            self.version,
            self._proxy,
            chunked,
        )

    def get(
        self, request_uri: str, headers: HeadersDataType | None = None, **options: Unpack[Options]
    ) -> HTTPSocketPoolResponse:
        """`request` with the method GET."""
        if not options:
            # A call by dictionary would be a frame more on the stack that is copied at each switch.
            return self.request(METHOD_GET, request_uri, headers=headers)
        return self.request(METHOD_GET, request_uri, headers=headers, **options)

    def head(
        self, request_uri: str, headers: HeadersDataType | None = None, **options: Unpack[Options]
    ) -> HTTPSocketPoolResponse:
        """`request` with the method HEAD."""
        return self.request(METHOD_HEAD, request_uri, headers=headers, **options)

    def options(
        self, request_uri: str, headers: HeadersDataType | None = None, **options: Unpack[Options]
    ) -> HTTPSocketPoolResponse:
        """`request` with the method OPTIONS."""
        return self.request(METHOD_OPTIONS, request_uri, headers=headers, **options)

    def post(
        self,
        request_uri: str,
        body: Body = "",
        headers: HeadersDataType | None = None,
        **options: Unpack[Options],
    ) -> HTTPSocketPoolResponse:
        """`request` with the method POST."""
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
        """`request` with the method PUT."""
        return self.request(METHOD_PUT, request_uri, body=body, headers=headers, **options)

    def patch(
        self,
        request_uri: str,
        body: Body = "",
        headers: HeadersDataType | None = None,
        **options: Unpack[Options],
    ) -> HTTPSocketPoolResponse:
        """`request` with the method PATCH."""
        return self.request(METHOD_PATCH, request_uri, body=body, headers=headers, **options)

    def delete(
        self,
        request_uri: str,
        body: Body = "",
        headers: HeadersDataType | None = None,
        **options: Unpack[Options],
    ) -> HTTPSocketPoolResponse:
        """`request` with the method DELETE."""
        return self.request(METHOD_DELETE, request_uri, body=body, headers=headers, **options)

    def trace(
        self,
        request_uri: str,
        body: Body = "",
        headers: HeadersDataType | None = None,
        **options: Unpack[Options],
    ) -> HTTPSocketPoolResponse:
        """`request` with the method TRACE."""
        return self.request(METHOD_TRACE, request_uri, body=body, headers=headers, **options)


# RFC 3986 section 3.1: a target that begins like this is a URL, and not a path.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def _host_of(field: str) -> str:
    """The host in the value of a Host header."""
    field = field.strip()
    host, _, port = field.rpartition(":")
    is_port = not port or port.isdigit()
    # An IPv6 address without brackets has no port.
    return host if is_port and (":" not in host or host.endswith("]")) else field


def _given(**arguments: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


# Those of `ssl_options` that name the client's certificate.
_CERTIFICATE = frozenset({"certfile", "keyfile", "password"})


class HTTPClientPool:
    """Clients by origin, each made when it is first asked for with the arguments given here.

    `clients` maps (host, port) to client; a second scheme on the same host and port gets (host, port, scheme).
    """

    # Made when it is first needed.
    _bare: HTTPClientPool | None = None

    def __init__(
        self, *, max_clients: int | None = DEFAULT_MAX_CLIENTS, max_idle_connections: int | None = None, **kw: Any
    ) -> None:
        """The arguments of HTTPClient.from_url, kept in `client_args` without showing credentials.

        A server can redirect to any number of host names, so clients and connections are bounded over all origins.

        - `max_clients`: the most clients there are; 1,000 by default, None for any number. For one more, the client
          that was asked for longest ago is forgotten. Its idle connections are closed then, or as soon as nothing else
          holds the client.
        - `max_idle_connections`: the most idle connections of all clients, in each thread; for one more, the one that
          has been idle longest is closed. None, the default, is 100, or `concurrency` if that is more; 0 keeps none.

        If the arguments include a client certificate, an agent uses clients without it for the origins that only a
        redirect leads to. There are at most `max_clients` of these, too, which are not in `clients`; their idle
        connections count for `max_idle_connections` as the others do. `close` closes them as well.

        Raises ValueError or TypeError that names the limit which is not valid.
        """
        if max_clients is not None:
            check_count("max_clients", max_clients)
        self.max_clients = max_clients
        self._idle_group = idle_group(max_idle_connections, kw.get("concurrency"))
        options = kw.get("ssl_options")
        self._has_certificate: bool = kw.get("cert") is not None or (
            isinstance(options, Mapping) and not _CERTIFICATE.isdisjoint(options)
        )
        self.clients: dict[tuple[Any, ...], HTTPClient] = {}
        self.client_args: dict[str, Any] = conceal(kw)

    @property
    def max_idle_connections(self) -> int:
        """The most idle connections of all clients, in each thread."""
        return self._idle_group.limit

    def get_client(self, url: str | URL) -> HTTPClient:
        """The client for the origin of `url`. It is kept for the next time, unless the host is longer than any name."""
        if not isinstance(url, URL):
            url = URL(url)
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
            # The last is the one that was asked for last. That need not be kept up while there is room for many more.
            self.clients[key] = self.clients.pop(key, client)
        return client

    def _without_certificate(self) -> HTTPClientPool:
        """Returns a pool of clients with the same arguments, but for the client certificate."""
        bare = self._bare
        if bare is None:
            arguments = {name: value for name, value in self.client_args.items() if name != "cert"}
            options = arguments.get("ssl_options")
            if isinstance(options, Mapping):
                arguments["ssl_options"] = {name: options[name] for name in options.keys() - _CERTIFICATE}
            bare = HTTPClientPool(max_clients=self.max_clients, **arguments)
            bare._idle_group = self._idle_group
            # Another thread may have been quicker: then its pool is the one that `close` finds. This is atomic.
            bare = self.__dict__.setdefault("_bare", bare)
        return bare

    def close(self) -> None:
        """Closes and forgets all clients; the pool makes new ones when asked."""
        clients, self.clients = self.clients, {}
        for client in clients.values():
            client.close()
        if self._bare is not None:
            self._bare.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
