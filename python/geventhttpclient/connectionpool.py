"""The connections of a client."""

from __future__ import annotations

import atexit
import os
import ssl
from typing import Any, ClassVar

from geventhttpclient import _core
from geventhttpclient._checks import check_local_address, check_seconds, check_timeouts, check_uds
from geventhttpclient.http2 import check_http2
from geventhttpclient.proxy import Proxy, conceal_key, conceal_password
from geventhttpclient.resolver import Names, Overrides
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
"""Seconds for opening a connection."""

DEFAULT_NETWORK_TIMEOUT = 5.0
"""Seconds for each wait for the peer."""

DEFAULT_IDLE_TIMEOUT = 90.0
"""Seconds that a connection is kept which nobody uses."""

# The child of a fork must not touch its parent's sockets; a thread that outlives the interpreter must not touch us.
os.register_at_fork(after_in_child=_core._after_fork_in_child)
atexit.register(_core._at_exit)


class ConnectionPool(_core.ConnectionPool):
    """At most `size` connections to one host and port, for each thread that uses it.

    Greenlets that find all of them in use wait in a queue, first come, first served; idle ones are handed out last in,
    first out. The sockets live in the engine: what can be changed by a subclass is `_resolve()`.
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
        proxy_user: str | None = None,
        proxy_password: str | None = None,
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
        """`connection_*` is what is connected to (a proxy, perhaps), `request_*` who is asked.

        With `use_proxy` that is an HTTP proxy; `proxy` says more of it, or that it is one of another kind. The other
        arguments are those of HTTPClient.

        Raises ValueError or TypeError that names what is not a number, or out of range.
        """
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
        # As the engine is told once: assigning to the five above later changes nothing.
        self._timeouts = check_timeouts(connection_timeout, network_timeout, pool_timeout, total_timeout)
        if use_proxy and proxy is None:
            proxy = Proxy("http", self._connection_host, connection_port, proxy_user, proxy_password)
        self._proxy = proxy
        self._http2 = check_http2(http2, http2_ping_interval)
        self._names = Names(disable_ipv6, resolve, dns_cache)
        # A proxy is told whom it is for; without one, what is to be connected to is all that counts.
        to_proxy = proxy is not None
        self._configure(
            self._request_host if to_proxy else self._connection_host,
            request_port if to_proxy else connection_port,
            size,
            self._timeouts,
            self.idle_timeout,
            self._route(proxy, proxy_ssl_options, local_address, uds),
            self._tls(),
            self._spoken(),
        )

    def _spoken(self) -> tuple[bool, float | None] | None:
        """What the engine is told of HTTP/2. Without TLS nobody can agree on it: it has to be known."""
        return self._http2 if self._http2 is not None and self._http2[0] else None

    def _route(
        self,
        proxy: Proxy | None,
        proxy_ssl_options: dict[str, Any] | None,
        local_address: str | tuple[str, int] | None,
        uds: str | os.PathLike[str] | None,
    ) -> _core._Route | None:
        """The way to the origin in the engine's terms, None for the plain one."""
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
        """What makes the connections private; None for plain http."""
        return None

    def _addresses(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """What the engine calls for addresses, to be tried in order. It ends the wait when its time is over."""
        proxy = self._proxy
        if proxy is not None and (host, port) != (proxy.host, proxy.port):
            # The origin's, for a proxy that is told addresses.
            return self._names.lookup(host, port)
        return self._resolve()

    def _resolve(self) -> list[tuple[Any, ...]]:
        """The addresses to try, in order, as `socket.getaddrinfo` returns them. Asked each time it is connected.

        An override's answer is taken as it is: the next address is tried 250 ms after the one before, or at once when
        that has failed (RFC 8305).
        """
        return self._names.lookup(self._connection_host, self._connection_port)

    def _proxy_authorization(self) -> str | None:
        """The value of Proxy-Authorization (RFC 7617), if there are credentials."""
        return None if self._proxy is None else self._proxy.authorization()


class SSLConnectionPool(ConnectionPool):
    """Connections over TLS, to hosts that prove who they are unless the caller wants it otherwise.

    `ssl_context` is the SSLContext that is used, None where the engine's own TLS is.
    """

    # None stands for the certificates that are trusted unless others are named.
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
        """As the plain pool, with what TLS is to do: see HTTPClient."""
        self.insecure = insecure
        self.ssl_context_factory = ssl_context_factory
        self.ssl_options: dict[str, Any] = {**self.default_options, **(conceal_password(ssl_options) or {})}
        self.ssl_context: ssl.SSLContext | None = None
        self._verify = verify
        self._cert = conceal_key(cert)
        super().__init__(connection_host, connection_port, request_host, request_port, **kw)

    def _tls(self) -> _core._Tls | None:
        tls = choose_tls(
            self._request_host, self.ssl_options, self.insecure, self._verify, self._cert, self.ssl_context_factory
        )
        self.ssl_context = tls[0] if isinstance(tls[0], ssl.SSLContext) else None
        if self.ssl_context is not None and self._http2 is not None:
            self.ssl_context.set_alpn_protocols(["h2"] if self._http2[0] else ["h2", "http/1.1"])
        return tls

    def _spoken(self) -> tuple[bool, float | None] | None:
        return self._http2
