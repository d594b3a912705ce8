"""Routes: the settings for opening a pool's connections: host, proxy, TLS."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import SSLError

from geventhttpclient._internal.validation import unescaped_zone
from geventhttpclient.adapters.urllib3.tls import tls_of, verifies
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.proxy import DEFAULT_PORTS, Proxy

if TYPE_CHECKING:
    import os

    from urllib3.util.url import Url

    from geventhttpclient import _core


TLS_KEYWORDS = frozenset({"ca_cert_data", "server_hostname", "ssl_context"})
TLS_ATTRIBUTES = (
    "assert_fingerprint",
    "assert_hostname",
    "ca_cert_dir",
    "ca_certs",
    "cert_file",
    "cert_reqs",
    "key_file",
    "key_password",
    "ssl_maximum_version",
    "ssl_minimum_version",
    "ssl_version",
)


class Engine(ConnectionPool):
    """One connection, or `size` of them: to the origin, directly or through a tunnel, or to an HTTP proxy."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: _core._Tls | None,
        proxy: Proxy | None,
        proxy_tls: _core._Tls | None,
        local_address: tuple[str, int] | None,
        size: int,
        uds: str | None = None,
    ) -> None:
        """Takes host and port, and the engine's TLS settings, None for no TLS. `size` is the maximum number of
        connections. `uds` is the path of a Unix socket to connect to instead. Timeouts are given with each request."""
        self._given_tls, self._given_proxy_tls = tls, proxy_tls
        near, near_port = (host, port) if proxy is None else (proxy.host, proxy.port)
        super().__init__(
            near,
            near_port,
            host,
            port,
            size=size,
            connection_timeout=None,
            network_timeout=None,
            proxy=proxy,
            local_address=local_address,
            uds=uds,
        )

    def _tls(self) -> _core._Tls | None:
        return self._given_tls

    def _route(
        self,
        proxy: Proxy | None,
        proxy_ssl_options: dict[str, Any] | None,
        local_address: str | tuple[str, int] | None,
        uds: str | os.PathLike[str] | None,
    ) -> _core._Route | None:
        route = super()._route(proxy, proxy_ssl_options, local_address, uds)
        if proxy is None or route is None or route[0] is None or self._given_proxy_tls is None:
            return route
        return ((*route[0][:4], self._given_proxy_tls), *route[1:])


# TLS arguments that apply to connections to a proxy as well.
_ALSO_TO_PROXIES = (
    "ca_cert_data",
    "ca_cert_dir",
    "ca_certs",
    "cert_reqs",
    "ssl_maximum_version",
    "ssl_minimum_version",
    "ssl_version",
)


# PySocks' numbers of the versions, which urllib3's manager stores, and whether the proxy resolves names.
_SOCKS_SCHEMES = {(1, False): "socks4", (1, True): "socks4a", (2, False): "socks5", (2, True): "socks5h"}


def _socks(options: dict[str, Any]) -> Proxy | None:
    """Returns the proxy of this package's SOCKSProxyManager, or of urllib3's if that has been given these pools."""
    if "proxy_host" not in options:
        return options.get("proxy")
    scheme = _SOCKS_SCHEMES[options["socks_version"], options["rdns"]]
    port = options["proxy_port"] or DEFAULT_PORTS[scheme]
    return Proxy(scheme, options["proxy_host"], port, options["username"], options["password"])


class Route:
    """The settings for opening a pool's connections. Connections refer to this and not to the pool, so that a pool
    without other references is closed."""

    def __init__(self, pool: Any) -> None:
        """Copies the current settings of a pool: its host, its proxy, the arguments of its connections."""
        self.scheme: str = pool.scheme
        self.host: str = unescaped_zone(pool.host)
        self.port: int = int(pool.port or pool.ConnectionCls.default_port)
        self.source: tuple[str, int] | None = pool.conn_kw.get("source_address")
        self.socks: Proxy | None = _socks(dict(pool.conn_kw.get("_socks_options") or ()))
        self.uds: str | None = None
        self.proxy: Url | None = pool.proxy
        self.proxy_config: Any = pool.proxy_config
        self.proxy_headers: dict[str, str] = dict(pool.proxy_headers)
        self.arguments: dict[str, Any] = pool._tls_arguments()
        self.verifies: bool = verifies(self.arguments)
        is_secure = self.proxy is not None and self.proxy.scheme == "https"
        self.verifies_proxy: bool | None = verifies(self._arguments_for_proxy()) if is_secure else None
        self.proxy_place: str = "" if self.proxy is None else "{}:{}".format(*_place_of(self.proxy))
        self._made: dict[str, _core._Tls] = {}

    def equals(self, other: Route) -> bool:
        """Returns True if the settings of the pool have not changed since the other route was created."""
        return (self.arguments, self.proxy_headers) == (other.arguments, other.proxy_headers)

    def dial(self, is_tunnel: bool, size: int = 1) -> Engine:
        """Returns an unopened connection, or `size` of them: to the origin, directly or through a tunnel, or to an HTTP
        proxy without a tunnel."""
        try:
            if self.proxy is None:
                return Engine(self.host, self.port, self._tls(), self.socks, None, self.source, size, self.uds)
            proxy = _proxy_of(self.proxy, self.proxy_headers if is_tunnel else {})
            to_proxy = self._tls_to_proxy(proxy.host) if proxy.scheme == "https" else None
            if is_tunnel:
                return Engine(self.host, self.port, self._tls(), proxy, to_proxy, self.source, size)
            return Engine(proxy.host, proxy.port, to_proxy, None, None, self.source, size)
        except ssl.SSLError:
            raise
        except OSError as error:
            # A missing file of certificates.
            raise SSLError(error) from error

    def _tls(self) -> _core._Tls | None:
        if self.scheme != "https":
            return None
        if "origin" not in self._made:
            self._made["origin"] = tls_of(self.host, self.arguments)
        return self._made["origin"]

    def _tls_to_proxy(self, host: str) -> _core._Tls:
        if "proxy" not in self._made:
            self._made["proxy"] = tls_of(host, self._arguments_for_proxy())
        return self._made["proxy"]

    def _arguments_for_proxy(self) -> dict[str, Any]:
        """Returns the TLS arguments for a proxy: the context that is given for it, else the arguments for the origin
        without its server name and the client's certificate."""
        config = self.proxy_config
        arguments: dict[str, Any] = {"ssl_context": None if config is None else config.ssl_context}
        if arguments["ssl_context"] is None:
            arguments = {name: self.arguments.get(name) for name in _ALSO_TO_PROXIES}
        if config is not None:
            arguments["assert_hostname"] = config.assert_hostname
            arguments["assert_fingerprint"] = config.assert_fingerprint
        return arguments


def _read_basic(value: Any) -> list[str] | None:
    """Returns name and password of a Basic credential (RFC 7617); None for another scheme, and if they are not
    UTF-8."""
    scheme, _, token = value.partition(" ") if isinstance(value, str) else ("", "", "")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
    except ValueError:
        return None
    return [name, password] if colon else None


def _proxy_of(proxy: Url, headers: Mapping[str, str]) -> Proxy:
    """Returns the proxy for the engine. Raises ValueError for headers that the engine cannot send with CONNECT."""
    user = password = None
    for name, value in headers.items():
        basic = _read_basic(value)
        if name.lower() != "proxy-authorization" or basic is None:
            raise ValueError(f"proxy_headers: a tunnel supports only Basic Proxy-Authorization, not {name!r}")
        user, password = basic
    return Proxy(str(proxy.scheme), *_place_of(proxy), user, password)


def _place_of(proxy: Url) -> tuple[str, int]:
    """Returns the proxy's host, as in its URL, and its port."""
    return str(proxy.host), proxy.port or (443 if proxy.scheme == "https" else 80)
