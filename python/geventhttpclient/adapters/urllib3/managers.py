"""urllib3's managers, with the pools of this package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import urllib3
from urllib3.exceptions import LocationParseError
from urllib3.util.url import parse_url

from geventhttpclient import _core
from geventhttpclient._internal.validation import is_host, without_zone
from geventhttpclient.adapters.urllib3.pools import POOLS, HTTPConnectionPool
from geventhttpclient.proxy import Proxy

# The same URL is parsed once. A parsed URL is an immutable tuple.
_parse_once = lru_cache(maxsize=1024)(parse_url)

# Most characters of a URL or a host that is a key of a cache: servers choose both, in redirects.
_MOST_CHARACTERS = 2048


# A URL, or a text that urllib3 prefixes with `//`, up to the end of its authority by RFC 3986.
_UP_TO_PATH = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://)?[^/?#]*")


def _read(url: str) -> Any:
    """Returns the parts of a URL.

    Raises LocationParseError in the same cases as urllib3, without user and password. Raises it as well if the
    authority has a backslash, which ends it for urllib3 and not for urllib, or if the host has an invalid character.
    """
    with suppress(LocationParseError):
        parts = _parse_once(url) if len(url) <= _MOST_CHARACTERS else parse_url(url)
        has_backslash = "\\" in url and "\\" in _UP_TO_PATH.match(url)[0]  # type: ignore[index]
        if not has_backslash and (not parts.host or is_host(parts.host)):
            return parts
    raise LocationParseError(_core.redact(url))


# Most hosts whose pool keys are kept.
_MOST_KEYS = 1000


class PoolManager(urllib3.PoolManager):
    """urllib3's PoolManager, with the pools of this package.

    `PoolManager(num_pools=10, headers=None, **connection_pool_kw)`, with the arguments of urllib3's pools.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        """Takes urllib3's arguments: at most `num_pools` pools (10 by default), each with the further arguments."""
        super().__init__(*args, **kw)
        self.pool_classes_by_scheme: Any = POOLS
        self._keys: dict[tuple[str | None, str | None, int | None], Any] = {}
        self._keys_are_for: dict[str, Any] = {}

    def connection_from_host(
        self,
        host: str | None,
        port: int | None = None,
        scheme: str | None = "http",
        pool_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Returns the pool for a host, which is created on the first call."""
        if pool_kwargs is not None:
            return super().connection_from_host(host, port, scheme, pool_kwargs)
        # A pool's key is built from about thirty arguments: it is kept as long as they do not change.
        if self._keys_are_for != self.connection_pool_kw or len(self._keys) > _MOST_KEYS:
            self._keys.clear()
            self._keys_are_for = dict(self.connection_pool_kw)
        asked = (scheme, host, port)
        key = self._keys.get(asked)
        pool: Any = None if key is None else self.pools.get(key)
        if pool is None:
            pool = super().connection_from_host(host, port, scheme)
            if len(host or "") <= _MOST_CHARACTERS:
                self._keys[asked] = pool._key
        return pool

    def connection_from_url(self, url: str, pool_kwargs: dict[str, Any] | None = None) -> Any:
        """Returns the pool for the host of that URL. Raises LocationParseError if the authority has a backslash."""
        _read(url)
        return super().connection_from_url(url, pool_kwargs)

    def connection_from_pool_key(self, pool_key: Any, request_context: dict[str, Any]) -> Any:
        """Returns the pool with that key."""
        pool: Any = super().connection_from_pool_key(pool_key, request_context)
        pool._key = pool_key
        return pool

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> Any:  # type: ignore[override]
        """Sends a request to an absolute URL, and follows redirects unless `redirect` is False."""
        kw.pop("answer", None)
        parts = _read(url)
        if self.proxy is not None or parts.scheme is None:
            return super().urlopen(method, url, redirect, **kw)
        pool = self.connection_from_host(parts.host, parts.port, parts.scheme)
        kw.setdefault("headers", self.headers)
        response = pool.urlopen(method, parts.request_uri, **{**kw, "assert_same_host": False, "redirect": False})
        if redirect and response.get_redirect_location():
            # urllib3 handles redirects: it sends the request again, and gets this response.
            return super().urlopen(method, url, redirect, **kw, answer=[response])
        return response


class ProxyManager(PoolManager, urllib3.ProxyManager):
    """urllib3's ProxyManager, with the pools of this package:
    `ProxyManager(proxy_url, num_pools=10, headers=None, proxy_headers=None, ...)`."""

    def __init__(self, proxy_url: str | urllib3.HTTPConnectionPool, *args: Any, **kw: Any) -> None:
        """Takes urllib3's arguments. Raises LocationParseError for an invalid `proxy_url`."""
        if isinstance(proxy_url, str):
            _read(proxy_url)
        super().__init__(proxy_url, *args, **kw)

    def _set_proxy_headers(self, url: str, headers: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """Returns urllib3's header fields for a proxy, without the zone of an IPv6 address in Host."""
        fields = dict(super()._set_proxy_headers(url, headers))
        if "Host" in fields:
            fields["Host"] = without_zone(fields["Host"])
        return fields


class SOCKSProxyManager(PoolManager):
    """The SOCKSProxyManager of urllib3.contrib.socks, with the pools of this package and without PySocks. With the
    schemes socks5h and socks4a the proxy resolves the names of hosts, with socks5 and socks4 the client does."""

    def __init__(
        self,
        proxy_url: str,
        username: str | None = None,
        password: str | None = None,
        num_pools: int = 10,
        headers: Any = None,
        **connection_pool_kw: Any,
    ) -> None:
        """Uses name and password of the URL if neither is given. Raises ValueError if the URL is not that of a SOCKS
        proxy."""
        proxy = Proxy.from_url(proxy_url, "proxy_url")
        if proxy.is_http:
            raise ValueError("proxy_url: the scheme must be one of socks4, socks4a, socks5, socks5h")
        if username is not None or password is not None:
            proxy = Proxy(proxy.scheme, proxy.host, proxy.port, username, password)
        super().__init__(num_pools, headers, _socks_options={"proxy": proxy}, **connection_pool_kw)


def proxy_from_url(url: str, **kw: Any) -> ProxyManager:
    """Returns a ProxyManager for the proxy with that URL."""
    return ProxyManager(proxy_url=url, **kw)


def connection_from_url(url: str, **kw: Any) -> urllib3.HTTPConnectionPool:
    """Returns a new pool for the host of a URL."""
    scheme, _, host, port, *_ = _read(url)
    kind = POOLS.get(scheme or "http", HTTPConnectionPool)
    with suppress(LocationParseError):
        return kind(host, kind.ConnectionCls.default_port if port is None else port, **kw)
    raise LocationParseError(_core.redact(url))
