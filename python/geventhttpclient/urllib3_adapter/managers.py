"""The managers of urllib3, with pools of ours."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from typing import Any

import urllib3
from urllib3.exceptions import LocationParseError
from urllib3.util.url import parse_url

from geventhttpclient import _core
from geventhttpclient._checks import is_host
from geventhttpclient.proxy import Proxy
from geventhttpclient.urllib3_adapter.pools import POOLS, HTTPConnectionPool

# The same URL is parsed once. A URL that was parsed is a tuple, which nobody changes.
_parse_once = lru_cache(maxsize=1024)(parse_url)

# Characters of a URL that is kept for that, and of a host that a pool's key is kept for: redirects name both.
_MOST_CHARACTERS = 2048


# A URL, or what urllib3 puts `//` before, up to the end of its authority by RFC 3986.
_UP_TO_PATH = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://)?[^/?#]*")


def _read(url: str) -> Any:
    """Returns the URL in parts.

    Raises LocationParseError as urllib3 does, without user and password, and if the authority has a backslash, at which
    urllib3 ends it and urllib does not, or the host a character that no name has.
    """
    with suppress(LocationParseError):
        parts = _parse_once(url) if len(url) <= _MOST_CHARACTERS else parse_url(url)
        has_backslash = "\\" in url and "\\" in _UP_TO_PATH.match(url)[0]  # type: ignore[index]
        if not has_backslash and (not parts.host or is_host(parts.host)):
            return parts
    raise LocationParseError(_core.redact(url))


# Hosts of which the keys of pools are kept.
_MOST_KEYS = 1000


class PoolManager(urllib3.PoolManager):
    """urllib3's, with pools of ours.

    `PoolManager(num_pools=10, headers=None, **connection_pool_kw)`, with the arguments of urllib3's pools.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        """As urllib3's: at most `num_pools` pools (10 by default), each with the further arguments."""
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
        """The pool for that host, made when it is first asked for."""
        if pool_kwargs is not None:
            return super().connection_from_host(host, port, scheme, pool_kwargs)
        # A pool's key is made of some thirty arguments: it is made once, for as long as they stay what they are.
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
        """The pool of that key."""
        pool: Any = super().connection_from_pool_key(pool_key, request_context)
        pool._key = pool_key
        return pool

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> Any:  # type: ignore[override]
        """A request to that absolute URL; redirects are followed unless `redirect` is False."""
        kw.pop("answer", None)
        parts = _read(url)
        if self.proxy is not None or parts.scheme is None:
            return super().urlopen(method, url, redirect, **kw)
        pool = self.connection_from_host(parts.host, parts.port, parts.scheme)
        kw.setdefault("headers", self.headers)
        response = pool.urlopen(method, parts.request_uri, **{**kw, "assert_same_host": False, "redirect": False})
        if redirect and response.get_redirect_location():
            # Where that leads is urllib3's to say: it asks again, and finds the answer there.
            return super().urlopen(method, url, redirect, **kw, answer=[response])
        return response


class ProxyManager(PoolManager, urllib3.ProxyManager):
    """urllib3's, with pools of ours: `ProxyManager(proxy_url, num_pools=10, headers=None, proxy_headers=None, ...)`."""

    def __init__(self, proxy_url: str | urllib3.HTTPConnectionPool, *args: Any, **kw: Any) -> None:
        """As urllib3's."""
        if isinstance(proxy_url, str):
            _read(proxy_url)
        super().__init__(proxy_url, *args, **kw)


class SOCKSProxyManager(PoolManager):
    """That of urllib3.contrib.socks, with pools of ours, and without a further package: the schemes are socks5h and
    socks4a, where the proxy resolves the names of hosts, and socks5 and socks4, where they are resolved here."""

    def __init__(
        self,
        proxy_url: str,
        username: str | None = None,
        password: str | None = None,
        num_pools: int = 10,
        headers: Any = None,
        **connection_pool_kw: Any,
    ) -> None:
        """Name and password in the URL do for those that are not given. ValueError for a URL that is none of SOCKS."""
        proxy = Proxy.from_url(proxy_url, "proxy_url")
        if proxy.is_http:
            raise ValueError("proxy_url: the scheme must be one of socks4, socks4a, socks5, socks5h")
        if username is not None or password is not None:
            proxy = Proxy(proxy.scheme, proxy.host, proxy.port, username, password)
        super().__init__(num_pools, headers, _socks_options={"proxy": proxy}, **connection_pool_kw)


def proxy_from_url(url: str, **kw: Any) -> ProxyManager:
    """A ProxyManager for the proxy of that URL."""
    return ProxyManager(proxy_url=url, **kw)


def connection_from_url(url: str, **kw: Any) -> urllib3.HTTPConnectionPool:
    """A pool for the host of that URL."""
    scheme, _, host, port, *_ = _read(url)
    kind = POOLS.get(scheme or "http", HTTPConnectionPool)
    with suppress(LocationParseError):
        return kind(host, kind.ConnectionCls.default_port if port is None else port, **kw)
    raise LocationParseError(_core.redact(url))
