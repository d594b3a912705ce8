"""Adapter for the package requests: its sessions use this engine instead of urllib3 on Python's sockets.

    session = requests.Session()
    session.mount("https://", Adapter())
    session.mount("http://", Adapter())

Everything else is requests' own. No monkey patching is needed: other greenlets run while a request waits.
"""

from __future__ import annotations

import datetime
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

try:
    import requests
except ImportError as _error:
    raise ImportError("geventhttpclient.adapters.requests needs the package requests: pip install requests") from _error

from requests import exceptions
from requests.adapters import DEFAULT_POOLBLOCK, DEFAULT_POOLSIZE, DEFAULT_RETRIES, HTTPAdapter
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar
from requests.models import REDIRECT_STATI
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers, prepend_scheme_if_needed, select_proxy

# urllib3 is a dependency of requests.
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    LocationValueError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    ResponseError,
)
from urllib3.exceptions import ProxyError as Urllib3ProxyError
from urllib3.exceptions import SSLError as Urllib3SSLError
from urllib3.util import Retry, Timeout
from urllib3.util.request import set_file_position

from geventhttpclient import _core
from geventhttpclient._internal.idle_limit import idle_group
from geventhttpclient._internal.validation import check_uds, given
from geventhttpclient.adapters._origins import UNBOUNDED, Origins
from geventhttpclient.adapters.urllib3 import (
    HTTPConnection,
    HTTPConnectionPool,
    HTTPResponse,
    HTTPSConnectionPool,
    PoolManager,
    SOCKSProxyManager,
    proxy_from_url,
)
from geventhttpclient.adapters.urllib3.errors import ERRORS, in_urlopen
from geventhttpclient.adapters.urllib3.pools import check_repeatable, seconds
from geventhttpclient.adapters.urllib3.retry import cooperative
from geventhttpclient.adapters.urllib3.routes import Route
from geventhttpclient.url import URL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import urllib3
    from requests import PreparedRequest

__all__ = ["Adapter"]


def _check_proxy(proxy: str) -> None:
    """Raises InvalidProxyURL, without user and password, if requests could not parse the URL of a proxy."""
    with suppress(ValueError):
        urlsplit(prepend_scheme_if_needed(proxy, "http"))  # type: ignore[no-untyped-call]
        urlsplit(proxy)
        return
    raise exceptions.InvalidProxyURL(f"Failed to parse: {_core.redact(proxy)}")


class Adapter(HTTPAdapter):
    """Adapter of a `requests.Session`, with a pool of kept-alive connections for each origin.

    Any number of greenlets may share a session with this adapter. Its pools are those of
    geventhttpclient.adapters.urllib3; it calls the methods that requests documents for subclasses in the same way as
    requests' own adapter.
    """

    def __init__(
        self,
        pool_connections: int = DEFAULT_POOLSIZE,
        pool_maxsize: int = DEFAULT_POOLSIZE,
        max_retries: int | urllib3.Retry | None = DEFAULT_RETRIES,
        pool_block: bool = DEFAULT_POOLBLOCK,
        *,
        uds: str | os.PathLike[str] | None = None,
    ) -> None:
        """Takes the arguments of requests' own adapter, and `uds`.

        - `pool_connections`: the number of origins whose connections are kept; the least recently used one is removed.
        - `pool_maxsize`: the number of idle connections that are kept for each of them on average; all origins together
          keep `pool_connections` times as many, in each thread.
        - `pool_block`: whether `pool_maxsize` also limits the connections of an origin; if all are in use, a request
          waits.
        - `max_retries`: the number of retries of a failed connection attempt; a urllib3 Retry allows more control.
        - `uds`: the path of a Unix domain socket to connect to, whatever the host. Proxies are not used then, and a
          scheme other than http and https (`http+docker`, for example) means http to `localhost`.
        """
        for name, number in (("pool_connections", pool_connections), ("pool_maxsize", pool_maxsize)):
            if not isinstance(number, int):
                raise TypeError(f"{name} must be an int, not {given(number)}")
        self._uds = check_uds(uds)
        super().__init__(pool_connections, pool_maxsize, max_retries, pool_block)

    __attrs__: Any = [*HTTPAdapter.__attrs__, "_uds"]
    # The default if a subclass does not call the constructor.
    _uds: str | None = None

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = DEFAULT_POOLBLOCK, **pool_kwargs: Any
    ) -> None:
        """Creates the pools. A subclass may override it, to pass arguments of urllib3's pools such as `ssl_context`,
        `server_hostname`, `assert_hostname` or `source_address`."""
        self._pool_connections = connections
        self._pool_maxsize = maxsize
        self._pool_block = block
        self.poolmanager: PoolManager = PoolManager(connections, maxsize=maxsize, block=block, **pool_kwargs)
        # A pool of urllib3 has the settings of an origin; the engine keeps the connections, which is faster.
        self._origins: Origins[tuple[Any, HTTPConnection]] = Origins(max(1, connections))
        self._idle_group = idle_group(max(1, connections) * max(1, maxsize))

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Returns the manager of the pools for a proxy, which is created on the first call."""
        manager = self.proxy_manager.get(proxy)
        if manager is None:
            sizes = {
                "num_pools": self._pool_connections,
                "maxsize": self._pool_maxsize,
                "block": self._pool_block,
                **proxy_kwargs,
            }
            if proxy.lower().startswith("socks"):
                try:
                    manager = SOCKSProxyManager(proxy, **sizes)
                except ValueError as error:
                    raise exceptions.InvalidProxyURL(str(error)) from error
            else:
                manager = proxy_from_url(proxy, proxy_headers=self._headers_for(proxy), **sizes)
            self.proxy_manager[proxy] = manager
        return manager

    def _headers_for(self, proxy: str) -> dict[str, str]:
        """Returns the header fields for a proxy. Replaces errors of requests, which would show user and password."""
        with suppress(ValueError):
            return self.proxy_headers(proxy)
        raise exceptions.InvalidProxyURL(f"Failed to parse: {_core.redact(proxy)}")

    def close(self) -> None:
        """Closes the connections; those in use are closed after their responses have been read. The next request opens
        new ones."""
        self._origins.clear()
        super().close()

    # --------------------------------------------------------------------------------------------------------- sending

    def send(  # type: ignore[override]
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str | os.PathLike[str] | None = True,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Sends a request. Returns its response when the head has been received.

        Raises the exceptions of requests' own adapter, each with the engine's as its cause. gevent.Timeout, and any
        other exception that is thrown into the greenlet, is raised unchanged.
        """
        if self._uds is not None:
            proxies = None
        pool, conn, target = self._origin(request, verify, cert, proxies)
        self.add_headers(request, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies)
        connect, read = (None, None) if timeout is None else _timeouts(timeout)
        method, body = request.method or "GET", request.body
        # Its `items()` runs Python code for each field.
        given: Any = request.headers
        lines: Any = given._store.values() if type(given) is CaseInsensitiveDict else given  # type: ignore[attr-defined]
        headers = dict(lines)
        if "upgrade" in given:
            _drop_upgrade(headers)
        if target is None:
            target = self.request_url(request, proxies)
            if conn.proxy is not None and not target.startswith("/"):
                headers.update(pool.proxy_headers)
        chunked = body is not None and "Content-Length" not in given
        position = None if body is None else set_file_position(body, None)
        retries = self.max_retries
        if not isinstance(retries, Retry):
            retries = Retry.from_int(retries)
        if not conn.is_verified:
            pool._validate_conn(conn)
        while True:
            try:
                wire = conn.exchange(method, target, body, headers, chunked, connect, read)
            except ERRORS as error:
                found = in_urlopen(error, conn, pool, target, connect, read)
                try:
                    retries = cooperative(retries).increment(method, target, error=found, _pool=pool)
                except HTTPError as failure:
                    raise _as_requests(failure, request) from error
                retries.sleep()
            else:
                raw = HTTPResponse(wire, method, target, pool, None, retries, False, False, True)
                # Below 400, urllib3's Retry retries only if it was configured to.
                is_good = raw.status < 400 and not retries.status_forcelist and type(retries) is Retry
                if is_good or not retries.is_retry(method, raw.status, "retry-after" in raw.headers):
                    return self.build_response(request, raw)
                try:
                    retries = cooperative(retries).increment(method, target, response=raw, _pool=pool)
                except HTTPError as failure:
                    if isinstance(failure, MaxRetryError) and not retries.raise_on_status:
                        return self.build_response(request, raw)
                    raw.drain_conn()
                    raise _as_requests(failure, request) from failure
                raw.drain_conn()
                try:
                    retries.sleep(raw)
                except HTTPError as failure:
                    raise _as_requests(failure, request) from failure
            if body is not None:
                check_repeatable(body)
                position = set_file_position(body, position)

    def _origin(
        self, request: PreparedRequest, verify: Any, cert: Any, proxies: Mapping[str, str] | None
    ) -> tuple[Any, HTTPConnection, str | None]:
        """Returns the pool of a request, the object for all of its connections, and the target; None as the target if
        it requires more work."""
        url: Any = request.url
        if isinstance(url, bytes):
            url = url.decode()
        if self._uds is not None and not url.lower().startswith(("http://", "https://")):
            return *self._origins.get((self._uds,), self._open_socket), request.path_url
        # requests has ensured that the URL has a path, unless a program has set the URL itself.
        end = url.find("/", 8)
        place, target = url[:end], url[end:]
        proxy = select_proxy(url, proxies) if proxies else None
        if isinstance(cert, list):
            cert = tuple(cert)
        if end < 0 or "?" in place or "#" in place:
            parts = self._read(request, url)
            place, target = f"{parts.scheme}://{parts.netloc}", None
        elif proxy:
            target = None
        elif "#" in target:
            target = target.partition("#")[0]
        if "@" in place:
            # All users share the connections: credentials are in the header fields of a request.
            parts = self._read(request, url)
            place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        pool, conn = self._origins.get((place, verify, cert, proxy), self._open, request, verify, cert, proxies)
        return pool, conn, target

    def _read(self, request: PreparedRequest, text: Any) -> URL:
        """Returns the URL. Raises requests' InvalidURL, without user and password, if its host or port is invalid."""
        try:
            url = URL(text)
            _ = url.port
            if url.scheme and url.host:
                return url
            wrong = f"Failed to parse: {_core.redact(text)}"
        except ValueError as error:
            wrong = str(error)
        raise exceptions.InvalidURL(wrong, request=request)

    def _open(self, request: PreparedRequest, verify: Any, cert: Any, proxies: Any) -> tuple[Any, HTTPConnection]:
        if isinstance(verify, os.PathLike):
            verify = os.fspath(verify)
        text: Any = request.url
        self._read(request, text.decode() if isinstance(text, bytes) else text)
        proxy = select_proxy(str(request.url), proxies) if proxies else None
        if proxy:
            _check_proxy(proxy)
        try:
            pool: Any = self.get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
        except LocationValueError as error:
            raise exceptions.InvalidURL(error, request=request) from error
        if not isinstance(pool, (HTTPConnectionPool, HTTPSConnectionPool)):
            raise TypeError(f"this adapter needs a pool of geventhttpclient.adapters.urllib3, not {pool!r}")
        self.cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]
        return self._connections_of(pool)

    def _open_socket(self) -> tuple[Any, HTTPConnection]:
        return self._connections_of(self.poolmanager.connection_from_host("localhost", scheme="http"))

    def _connections_of(self, pool: Any) -> tuple[Any, HTTPConnection]:
        size = max(1, self._pool_maxsize) if self._pool_block else UNBOUNDED
        route = Route(pool)
        route.uds = self._uds
        conn = pool.ConnectionCls(pool, route, size)
        conn._idle_group = self._idle_group
        return pool, conn

    def build_response(self, req: PreparedRequest, resp: Any) -> requests.Response:
        """Returns requests' response for one of urllib3."""
        return _Response(self, req, resp)


class _Response(requests.Response):
    """A response of an adapter, which creates its header fields, cookies and content on access."""

    raw: Any

    def __init__(self, adapter: Adapter, request: PreparedRequest, raw: HTTPResponse) -> None:
        if raw._fp._field("set-cookie") is None:
            # So that a session does not search for cookies.
            raw._original_response = None
        self._content: Any = False
        self._content_consumed = False
        self._next = None
        self.status_code = raw.status
        self.raw = raw
        url: Any = request.url
        self.url = url.decode() if isinstance(url, bytes) else url
        self.history = []
        self.request = request
        self.connection = adapter

    def __getattr__(self, name: str) -> Any:
        value: Any
        raw = self.__dict__.get("raw")
        if name == "headers" and raw is not None:
            value = CaseInsensitiveDict()
            # The same result as setting each by its name, which takes four times as long.
            lines = raw.headers._container.items()
            value._store.update((key, (name, ", ".join(values))) for key, (name, *values) in lines)
        elif name == "reason" and raw is not None:
            value = raw.reason
        elif name == "encoding":
            value = get_encoding_from_headers(self.headers)
        elif name == "cookies":
            value = RequestsCookieJar()
            if raw is not None:
                extract_cookies_to_jar(value, self.request, raw)  # type: ignore[no-untyped-call]
        elif name == "elapsed":
            # A session sets the real value afterwards.
            value = datetime.timedelta(0)
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        setattr(self, name, value)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        # A loaded response is of requests' own class, since it has no adapter.
        return requests.Response, (), self.__getstate__()

    @property
    def is_redirect(self) -> bool:
        """True if it is a redirect that a session follows: one with a Location."""
        return self.status_code in REDIRECT_STATI and "location" in self.headers

    def _read_whole(self) -> bytes:
        try:
            # In one piece; requests itself reads pieces of 10 KiB.
            return b"".join(self.iter_content(None))
        except exceptions.RequestException as error:
            error.request = self.request
            # The engine's error is the cause of urllib3's, and that is the cause of requests'.
            cause: Any = error.args[0]
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise error from cause

    @property
    def content(self) -> bytes:
        """The body with its content coding decoded; it is read on the first access."""
        if self._content is False and not self._content_consumed and isinstance(self.raw, HTTPResponse):
            self._content = self.raw.take_whole()
            if self._content is None:
                self._content = self._read_whole()
            self._content_consumed = True
        return super().content


def _drop_upgrade(headers: dict[str, Any]) -> None:
    """Removes the request for an upgrade, since the engine supports only HTTP on its connection."""
    for name in [name for name in headers if name.lower() in ("upgrade", "connection")]:
        value = headers.pop(name)
        if name.lower() == "connection":
            text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
            left = [token for token in text.split(",") if token.strip().lower() != "upgrade"]
            if left:
                headers[name] = ",".join(left).strip()


def _timeouts(timeout: Any) -> tuple[float | None, float | None]:
    """Returns the timeouts to connect and to read, from the argument of requests. Raises ValueError if it is
    invalid."""
    if type(timeout) in (int, float) and timeout > 0:
        return timeout, timeout
    if isinstance(timeout, tuple):
        if len(timeout) != 2:
            raise ValueError(f"Invalid timeout {timeout}: a tuple must be (connect, read), in seconds")
        timeout = Timeout(connect=timeout[0], read=timeout[1])
    elif not isinstance(timeout, Timeout):
        timeout = Timeout(connect=timeout, read=timeout)
    return seconds(timeout)


def _as_requests(failure: HTTPError, request: PreparedRequest) -> Exception:
    """Returns requests' exception for one of urllib3."""
    reason = failure.reason if isinstance(failure, MaxRetryError) else failure
    kind: type[exceptions.RequestException]
    if isinstance(failure, InvalidHeader):
        kind = exceptions.InvalidHeader
    elif isinstance(failure, ProtocolError):
        kind = exceptions.ConnectionError
    elif isinstance(reason, ReadTimeoutError) and reason is failure:
        kind = exceptions.ReadTimeout
    elif isinstance(reason, ConnectTimeoutError) and not isinstance(reason, NewConnectionError):
        kind = exceptions.ConnectTimeout
    elif isinstance(reason, ResponseError):
        kind = exceptions.RetryError
    elif isinstance(reason, Urllib3ProxyError):
        kind = exceptions.ProxyError
    elif isinstance(reason, Urllib3SSLError):
        kind = exceptions.SSLError
    else:
        kind = exceptions.ConnectionError
    return kind(failure, request=request)
