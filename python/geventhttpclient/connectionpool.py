"""Connection pools: the connections of a client."""

from __future__ import annotations

import atexit
import os
import socket
import ssl
from typing import Any, ClassVar

from geventhttpclient import _core
from geventhttpclient._internal.argument_errors import check_factory, check_ssl_options
from geventhttpclient._internal.timeouts import RequestTimeouts
from geventhttpclient._internal.validation import (
    check_local_address,
    check_port,
    check_seconds,
    check_uds,
    given,
)
from geventhttpclient.http2 import check_http2
from geventhttpclient.proxy import Proxy, redact_key, redact_password
from geventhttpclient.resolver import Names, Overrides, name_proxy
from geventhttpclient.tls import ContextFactory, choose_tls, init_ssl_context, native_tls

__all__ = [
    "DEFAULT_CONNECTION_TIMEOUT",
    "DEFAULT_IDLE_TIMEOUT",
    "DEFAULT_NETWORK_TIMEOUT",
    "ConnectionPool",
    "SSLConnectionPool",
    "init_ssl_context",
]

DEFAULT_CONNECTION_TIMEOUT = 5.0
"""Default of `connection_timeout`: seconds for opening a connection."""

DEFAULT_NETWORK_TIMEOUT = 5.0
"""Default of `network_timeout`: seconds for each wait for the peer."""

DEFAULT_IDLE_TIMEOUT = 90.0
"""Default of `idle_timeout`: seconds after which an idle connection is closed."""

# The child of a fork must not use its parent's sockets, and a thread that outlives the interpreter must not use the
# engine.
os.register_at_fork(after_in_child=_core._after_fork_in_child)
atexit.register(_core._at_exit)


class ConnectionPool(_core.ConnectionPool):
    """A pool of at most `size` connections to one host and port, in each thread that uses it.

    If all connections are in use, greenlets wait in a queue, first in, first out; idle connections are reused last in,
    first out. The engine owns the sockets; a subclass can override `_resolve()`.
    """

    DEFAULT_CONNECTION_TIMEOUT = DEFAULT_CONNECTION_TIMEOUT
    DEFAULT_NETWORK_TIMEOUT = DEFAULT_NETWORK_TIMEOUT
    DEFAULT_IDLE_TIMEOUT = DEFAULT_IDLE_TIMEOUT

    def __init__(
        self,
        connection_host: str,
        connection_port: int,
        request_host: str,
        request_port: int,
        size: int = 5,
        disable_ipv6: bool = False,
        connection_timeout: float | None = DEFAULT_CONNECTION_TIMEOUT,
        network_timeout: float | None = DEFAULT_NETWORK_TIMEOUT,
        use_proxy: bool = False,
        proxy_user: str | bytes | None = None,
        proxy_password: str | bytes | None = None,
        pool_timeout: float | None = None,
        total_timeout: float | None = None,
        proxy: Proxy | None = None,
        proxy_ssl_options: dict[str, Any] | None = None,
        local_address: str | tuple[str, int] | None = None,
        uds: str | os.PathLike[str] | None = None,
        resolve: Overrides | None = None,
        dns_cache: float | None = None,
        idle_timeout: float | None = DEFAULT_IDLE_TIMEOUT,
        http2: bool | str = False,
        http2_ping_interval: float | None = None,
    ) -> None:
        """Takes the peer to connect to, which may be a proxy, as `connection_*`, and the origin as `request_*`.

        With `use_proxy` the peer is an HTTP proxy; `proxy` describes it in more detail, or another kind of proxy. The
        other arguments are those of HTTPClient.

        Raises ValueError or TypeError, which names the argument, for one that has the wrong type or is out of range.
        """
        for name, host in (("connection_host", connection_host), ("request_host", request_host)):
            if not isinstance(host, str):
                raise TypeError(f"{name} must be a str, not {given(host)}")
        check_port("connection_port", connection_port)
        check_port("request_port", request_port)
        if proxy is not None and not isinstance(proxy, Proxy):
            raise TypeError(f"proxy must be a Proxy, as Proxy.from_url makes it, not {given(proxy)}")
        if not isinstance(size, int):
            raise TypeError(f"size must be an int, not {size!r}")
        self._connection_host = connection_host.strip("[]")
        self._connection_port = connection_port
        self._request_host = request_host.strip("[]")
        self._request_port = request_port
        self.size = size
        self.disable_ipv6 = disable_ipv6
        self.connection_timeout = connection_timeout
        self.network_timeout = network_timeout
        self.pool_timeout = pool_timeout
        self.total_timeout = total_timeout
        self.idle_timeout: float | None = check_seconds("idle_timeout", idle_timeout)
        # The engine receives these once: a later assignment to the five attributes above has no effect.
        self._timeouts = RequestTimeouts.checked(connection_timeout, network_timeout, pool_timeout, total_timeout)
        if use_proxy and proxy is None:
            proxy = Proxy("http", self._connection_host, connection_port, proxy_user, proxy_password)
        self._proxy = proxy
        self._http2 = check_http2(http2, http2_ping_interval)
        self._names = Names(disable_ipv6, resolve, dns_cache)
        # A proxy needs the origin; without a proxy only the peer to connect to matters.
        to_proxy = proxy is not None
        self._configure(
            self._request_host if to_proxy else self._connection_host,
            request_port if to_proxy else connection_port,
            size,
            self._timeouts,
            self.idle_timeout,
            self._route(proxy, proxy_ssl_options, local_address, uds),
            self._tls(),
            self._http2_settings(),
        )

    def _http2_settings(self) -> tuple[bool, float | None] | None:
        """Returns the HTTP/2 settings of the engine: without TLS only for prior knowledge, as there is no ALPN."""
        return self._http2 if self._http2 is not None and self._http2[0] else None

    def _route(
        self,
        proxy: Proxy | None,
        proxy_ssl_options: dict[str, Any] | None,
        local_address: str | tuple[str, int] | None,
        uds: str | os.PathLike[str] | None,
    ) -> _core._Route | None:
        """Returns the route to the origin as the engine takes it; None for a direct connection."""
        via = None
        if proxy is not None:
            tls = native_tls(proxy.host, proxy_ssl_options or {}) if proxy.scheme == "https" else None
            via = (proxy.scheme, proxy.host, proxy.port, proxy.credentials, tls)
        local = check_local_address(local_address)
        path = check_uds(uds)
        if path is not None and (via is not None or local is not None):
            raise ValueError(f"uds, a proxy and local_address exclude one another: {path!r} is connected to directly")
        return None if via is None and local is None and path is None else (via, local, path)

    def _tls(self) -> _core._Tls | None:
        """Returns the TLS settings of the engine; None for plain http."""
        return None

    def _addresses(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """Returns the addresses to try, in order. The engine calls this, and cancels it when its timeout is over."""
        proxy = self._proxy
        if proxy is not None and (host, port) != (proxy.host, proxy.port):
            # The origin's addresses, for a proxy that does not resolve names.
            return self._names.lookup(host, port)
        try:
            return self._resolve()
        except socket.gaierror as error:
            if proxy is not None:
                name_proxy(error)
            raise

    def _resolve(self) -> list[tuple[Any, ...]]:
        """Returns the addresses to try, in order, as `socket.getaddrinfo` does. Called for every new connection.

        The result of an override is used unchanged: the next address is tried 250 ms after the one before, or at once
        when that has failed (RFC 8305).
        """
        return self._names.lookup(self._connection_host, self._connection_port)

    def _proxy_authorization(self) -> str | None:
        """Returns the value of Proxy-Authorization (RFC 7617); None if there are no credentials."""
        return None if self._proxy is None else self._proxy.authorization()


class SSLConnectionPool(ConnectionPool):
    """A pool of TLS connections, which verifies the certificate and the name of the host by default.

    `ssl_context` is the SSLContext in use; None if the engine's own TLS is in use.
    """

    # `ca_certs` of None means the default CA certificates.
    default_options: ClassVar[dict[str, Any]] = {
        "ca_certs": None,
        "cert_reqs": ssl.CERT_REQUIRED,
        "ssl_version": ssl.PROTOCOL_TLS_CLIENT,
    }

    def __init__(
        self,
        connection_host: str,
        connection_port: int,
        request_host: str,
        request_port: int,
        insecure: bool = False,
        ssl_context_factory: ContextFactory | None = None,
        ssl_options: dict[str, Any] | None = None,
        verify: bool | str | os.PathLike[str] = True,
        cert: str | tuple[str, ...] | None = None,
        **kw: Any,
    ) -> None:
        """Takes the arguments of ConnectionPool, and the TLS options of HTTPClient."""
        check_ssl_options("ssl_options", ssl_options)
        check_factory(ssl_context_factory)
        self.insecure = insecure
        self.ssl_context_factory = ssl_context_factory
        self.ssl_options: dict[str, Any] = {**self.default_options, **(redact_password(ssl_options) or {})}
        self.ssl_context: ssl.SSLContext | None = None
        self._verify = verify
        self._cert = redact_key(cert)
        super().__init__(connection_host, connection_port, request_host, request_port, **kw)

    def _tls(self) -> _core._Tls | None:
        alpn: tuple[str, ...] = ()
        if self._http2 is not None:
            alpn = ("h2",) if self._http2[0] else ("h2", "http/1.1")
        tls = choose_tls(
            self._request_host,
            self.ssl_options,
            self.insecure,
            self._verify,
            self._cert,
            self.ssl_context_factory,
            alpn,
        )
        self.ssl_context = tls[0] if isinstance(tls[0], ssl.SSLContext) else None
        return tls

    def _http2_settings(self) -> tuple[bool, float | None] | None:
        return self._http2
