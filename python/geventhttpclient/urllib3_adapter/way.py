"""How the connections of a pool are made: to its host, through a proxy, with which TLS."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import SSLError

from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.proxy import Proxy
from geventhttpclient.urllib3_adapter.tls import tls_of, verifies

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
    """One connection, or `size` of them: to the origin, or to a proxy that stands for it or leads there."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: _core._Tls | None,
        proxy: Proxy | None,
        proxy_tls: _core._Tls | None,
        local_address: tuple[str, int] | None,
        size: int,
    ) -> None:
        """To a host and port: `size` is the most connections at a time; the TLS is what the engine is told, None for
        none. Requests bring their timeouts."""
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


# What goes for the way to a proxy, too.
_ALSO_TO_PROXIES = (
    "ca_cert_data",
    "ca_cert_dir",
    "ca_certs",
    "cert_reqs",
    "ssl_maximum_version",
    "ssl_minimum_version",
    "ssl_version",
)


class Way:
    """How the connections of a pool are made. Connections hold this and not the pool, which is to be closed when
    nothing else holds it."""

    def __init__(self, pool: Any) -> None:
        """As the pool is now: its host, its proxy, what its connections are told."""
        self.scheme: str = pool.scheme
        self.host: str = pool.host
        self.port: int = int(pool.port or pool.ConnectionCls.default_port)
        self.source: tuple[str, int] | None = pool.conn_kw.get("source_address")
        self.socks: Proxy | None = dict(pool.conn_kw.get("_socks_options") or ()).get("proxy")
        self.proxy: Url | None = pool.proxy
        self.proxy_config: Any = pool.proxy_config
        self.proxy_headers: dict[str, str] = dict(pool.proxy_headers)
        self.arguments: dict[str, Any] = pool._tls_arguments()
        self.verifies: bool = verifies(self.arguments)
        self.proxy_place: str = "" if self.proxy is None else "{}:{}".format(*_place_of(self.proxy))
        self._made: dict[str, _core._Tls] = {}

    def leads_where(self, other: Way) -> bool:
        """Whether nothing was changed in the pool since the other one was made."""
        return (self.arguments, self.proxy_headers) == (other.arguments, other.proxy_headers)

    def dial(self, is_tunnel: bool, size: int = 1) -> Engine:
        """A connection, or `size` of them, not opened yet: to the origin, through a proxy's tunnel, or to a proxy that
        is asked itself."""
        try:
            if self.proxy is None:
                return Engine(self.host, self.port, self._tls(), self.socks, None, self.source, size)
            way = _proxy_of(self.proxy, self.proxy_headers if is_tunnel else {})
            to_proxy = self._tls_to_proxy(way.host) if way.scheme == "https" else None
            if is_tunnel:
                return Engine(self.host, self.port, self._tls(), way, to_proxy, self.source, size)
            return Engine(way.host, way.port, to_proxy, None, None, self.source, size)
        except ssl.SSLError:
            raise
        except OSError as error:
            # A file of certificates that is not there.
            raise SSLError(error) from error

    def _tls(self) -> _core._Tls | None:
        if self.scheme != "https":
            return None
        if "origin" not in self._made:
            self._made["origin"] = tls_of(self.host, self.arguments)
        return self._made["origin"]

    def _tls_to_proxy(self, host: str) -> _core._Tls:
        """By the context that is given for the proxy, else as to the origin, but for its name and our certificate."""
        if "proxy" not in self._made:
            config = self.proxy_config
            arguments: dict[str, Any] = {"ssl_context": None if config is None else config.ssl_context}
            if arguments["ssl_context"] is None:
                arguments = {name: self.arguments.get(name) for name in _ALSO_TO_PROXIES}
            if config is not None:
                arguments["assert_hostname"] = config.assert_hostname
                arguments["assert_fingerprint"] = config.assert_fingerprint
            self._made["proxy"] = tls_of(host, arguments)
        return self._made["proxy"]


def _read_basic(value: Any) -> list[str] | None:
    """Name and password of the Basic scheme (RFC 7617); None for what is not that, or not text in UTF-8."""
    scheme, _, token = value.partition(" ") if isinstance(value, str) else ("", "", "")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
    except ValueError:
        return None
    return [name, password] if colon else None


def _proxy_of(proxy: Url, headers: Mapping[str, str]) -> Proxy:
    """The proxy as the engine knows it. ValueError for headers that it cannot be told with its CONNECT."""
    user = password = None
    for name, value in headers.items():
        basic = _read_basic(value)
        if name.lower() != "proxy-authorization" or basic is None:
            raise ValueError(f"proxy_headers: a tunnel takes Proxy-Authorization of the Basic scheme, not {name!r}")
        user, password = basic
    return Proxy(str(proxy.scheme), *_place_of(proxy), user, password)


def _place_of(proxy: Url) -> tuple[str, int]:
    """Its host, as it stands in the URL, and its port."""
    return str(proxy.host), proxy.port or (443 if proxy.scheme == "https" else 80)
