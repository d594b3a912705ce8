"""httplib2 for concurrent greenlets: the original package, on connections of this package.

    from geventhttpclient import httplib2

    http = httplib2.Http(concurrency=10)
    response, content = http.request("https://example.org/")

`Http` is an `httplib2.Http` that any number of greenlets can share. During a request, a greenlet has its own set of
connections, one of `concurrency` sets; everything else (credentials, certificates, cache, settings) is shared. Neither
monkey patching nor `httplib.patch()` is needed. The other names of httplib2 are available here too.

`ClientPool` does the same for any clients that can serve only one greenlet at once.
"""

from __future__ import annotations

import functools
import http.client
import os
import ssl
from collections.abc import Callable, Iterator, Mapping, MutableMapping, ValuesView
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from typing import Any, Generic, NoReturn, Protocol, TypeVar
from weakref import WeakSet

import gevent
from gevent.queue import Empty, LifoQueue

from geventhttpclient import _core, httplib
from geventhttpclient._internal.validation import check_count, unescaped_zone
from geventhttpclient.auth import BasicAuth
from geventhttpclient.tls import refuse_special
from geventhttpclient.url import URL

try:
    import httplib2
except ImportError as _error:
    raise ImportError("geventhttpclient.httplib2 works with the package httplib2: pip install httplib2") from _error

__all__ = ["ClientPool", "HTTPConnection", "HTTPSConnection", "Http"]

# The stubs of httplib2 lack some of the names that are used here.
_httplib2: Any = httplib2

# httplib2's type number, from PySocks, of a proxy that opens a tunnel with CONNECT.
HTTP_PROXY = 3

# Most connections that an Http keeps, divided equally among the greenlets that may be in a request, at least 2 each.
MOST_CONNECTIONS = 100

# Most SSL contexts that are kept: one for each set of files and settings, shared by any number of connections.
MOST_CONTEXTS = 16


class Closeable(Protocol):
    """The interface of the clients of a `ClientPool`."""

    def close(self) -> None:
        """Closes the client's connections."""


Client = TypeVar("Client", bound=Closeable)


class ClientPool(Generic[Client]):
    """A pool of at most `concurrency` clients (5 by default). Only one greenlet uses a client; further greenlets wait.

    `factory` creates a client if all others are in use. Raises ValueError for a concurrency below 1.
    """

    def __init__(self, factory: Callable[[], Client], concurrency: int = 5) -> None:
        """Takes a factory and the maximum number of clients, and thus of greenlets that use one concurrently."""
        check_count("concurrency", concurrency)
        self.factory = factory
        # Last in, first out: the connections of the client that was used last are the least likely to have been closed.
        # None is a place for a client that has not been created yet.
        self.queue: LifoQueue[Client | None] = LifoQueue()
        for _ in range(concurrency):
            self.queue.put(None)
        self._times_closed = 0

    @contextmanager
    def get(self) -> Iterator[Client]:
        """Returns a context manager for a client, which is the caller's until the end of the with-block; waits until a
        client is free.

        If an exception, a kill or a gevent.Timeout ends the block, the client may be in the middle of an exchange.
        Therefore it is closed, and its place is free for a new one.
        """
        client, times_closed = self._take(), self._times_closed
        try:
            yield client
        except BaseException:
            with suppress(Exception):  # the exception of the block is the one to raise
                self._discard(client)
            raise
        self._give_back(client, times_closed)

    def close(self) -> None:
        """Closes the clients; those in use are closed when they are returned. The pool can still be used, and creates
        new clients."""
        self._times_closed += 1
        with ExitStack() as stack:
            while not self.queue.empty():
                client = self.queue.get_nowait()
                stack.callback(self.queue.put, None)
                if client is not None:
                    stack.callback(client.close)

    def _take(self, timeout: float | None = None) -> Client:
        try:
            client = self.queue.get(timeout=timeout)
        except Empty:
            raise _pool_timeout(timeout) from None
        if client is not None:
            return client
        try:
            return self.factory()
        except BaseException:
            self.queue.put(None)
            raise

    def _give_back(self, client: Client, times_closed: int) -> None:
        """Returns a client to the pool; `times_closed` is the value at the time when the client was taken."""
        if times_closed == self._times_closed:
            self.queue.put(client)
        else:
            self._discard(client)

    def _discard(self, client: Client) -> None:
        try:
            client.close()
        finally:
            self.queue.put(None)


def _pool_timeout(seconds: float | None) -> TimeoutError:
    error = TimeoutError(f"timed out after {seconds} s: all connections are in use by other greenlets")
    error.phase = "pool"  # type: ignore[attr-defined]
    return error


def _proxy_info(given: Any, scheme: str, host: str) -> Any:
    """Returns the ProxyInfo for a host, or None for a direct connection. `given` is a ProxyInfo, a function from scheme
    to ProxyInfo, or None."""
    proxy = given(scheme) if given and not isinstance(given, _httplib2.ProxyInfo) else given
    if not proxy or proxy.proxy_host is None or proxy.proxy_port is None or not proxy.applies_to(host):
        return None
    return proxy


def _tunnel_headers(proxy: Any) -> dict[str, str]:
    headers = dict(proxy.proxy_headers or {})
    if proxy.proxy_user is not None:
        basic = BasicAuth(proxy.proxy_user, proxy.proxy_pass or "", encoding="utf-8")
        headers["Proxy-Authorization"] = basic.auth_header()
    return headers


def _file_identity(path: object) -> object:
    """Returns the identity of a file's contents, which differs after the file has changed; None if there is no file."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return None


@functools.lru_cache(MOST_CONTEXTS)
def _cached_context(identities: object, **settings: Any) -> ssl.SSLContext:
    context: ssl.SSLContext = _httplib2._build_ssl_context(**settings)
    return context


def _context(**settings: Any) -> ssl.SSLContext:
    """Returns a cached context: httplib2 creates one for each connection, which takes about 20 ms for the
    certificates."""
    identity = (settings["cert_file"], settings["key_file"])
    trusted = None if settings["disable_ssl_certificate_validation"] else settings["ca_certs"]
    refuse_special(trusted, *identity)
    files = (settings["ca_certs"], *identity)
    return _cached_context(tuple(map(_file_identity, files)), **settings)


class _ProxyMixin:
    """Mixin of both connection classes: their optional proxy."""

    proxy_info: Any
    set_tunnel: Callable[..., None]
    # httplib2's own method, which uses PySocks; it blocks the thread without monkey patching.
    _connect_by_socks: Callable[..., None]

    def _begin(self, kind: Any, host: str, port: int | None, proxy_info: Any, **options: Any) -> None:
        """Calls `kind.__init__` with the arguments, or with those for the proxy of `proxy_info`."""
        scheme = "https" if kind.default_port == 443 else "http"
        host = unescaped_zone(host)
        # An invalid host is reported below, by http.client's exception.
        hostname, given_port = host, None
        with suppress(ValueError):
            _, _, _, hostname, given_port = _core.authority_read(host)
        name, tunnel_port = hostname or host, port or max(given_port or 0, 0) or kind.default_port
        self.proxy_info = _proxy_info(proxy_info, scheme, name)
        # Without a timeout, httplib2 uses the default timeout of the process; None would mean no timeout at all.
        if options["timeout"] is None:
            del options["timeout"]
        if self.proxy_info is not None and self.proxy_info.proxy_type == HTTP_PROXY:
            kind.__init__(self, self.proxy_info.proxy_host, self.proxy_info.proxy_port, **options)
            self.set_tunnel(name, tunnel_port, _tunnel_headers(self.proxy_info))
        else:
            kind.__init__(self, host, port, **options)

    def _connect(self, kind: Any) -> None:
        if self.proxy_info is None or self.proxy_info.proxy_type == HTTP_PROXY:
            kind.connect(self)
        elif _httplib2.socks is None:
            raise httplib2.ProxiesUnavailableError("a SOCKS proxy requires the package PySocks, which is not installed")
        else:
            self._connect_by_socks()


# httplib2 passes the options of TLS only to subclasses of its own class. That is the first base, since it is derived
# from the class of this package if `httplib.patch()` was called before httplib2 was imported.
class HTTPConnection(httplib2.HTTPConnectionWithTimeout, _ProxyMixin, httplib.HTTPConnection):  # type: ignore[misc]
    """An http connection with the arguments of httplib2's class."""

    _connect_by_socks = httplib2.HTTPConnectionWithTimeout.connect

    def __init__(
        self, host: str, port: int | None = None, timeout: float | None = None, proxy_info: Any = None
    ) -> None:
        """Takes a timeout in seconds, None for no limit; `proxy_info` is a ProxyInfo, a function that returns the one
        for a scheme, or None."""
        self._begin(httplib.HTTPConnection, host, port, proxy_info, timeout=timeout)

    def connect(self) -> None:
        """Connects, via the proxy if there is one. The first request calls this automatically."""
        self._connect(httplib.HTTPConnection)


class HTTPSConnection(httplib2.HTTPSConnectionWithTimeout, _ProxyMixin, httplib.HTTPSConnection):  # type: ignore[misc]
    """An https connection with the arguments of httplib2's class. TLS is done by a Python SSLContext, since these
    arguments are designed for one."""

    _connect_by_socks = httplib2.HTTPSConnectionWithTimeout.connect

    def __init__(
        self,
        host: str,
        port: int | None = None,
        key_file: str | None = None,
        cert_file: str | None = None,
        timeout: float | None = None,
        proxy_info: Any = None,
        ca_certs: str | None = None,
        disable_ssl_certificate_validation: bool = False,
        tls_maximum_version: Any = None,
        tls_minimum_version: Any = None,
        key_password: Any = None,
    ) -> None:
        """Takes a timeout in seconds, None for no limit. `ca_certs`, `cert_file` and `key_file` are files; the versions
        are members of ssl.TLSVersion or their names. Raises OSError or ssl.SSLError for files that cannot be used."""
        self.disable_ssl_certificate_validation = disable_ssl_certificate_validation
        self.ca_certs: str = ca_certs or _httplib2.CA_CERTS  # pyright: ignore[reportIncompatibleVariableOverride]
        context = _context(
            disable_ssl_certificate_validation=self.disable_ssl_certificate_validation,
            ca_certs=self.ca_certs,
            cert_file=cert_file,
            key_file=key_file,
            maximum_version=tls_maximum_version,
            minimum_version=tls_minimum_version,
            key_password=key_password,
        )
        self._begin(httplib.HTTPSConnection, host, port, proxy_info, timeout=timeout, context=context)
        self.key_file: str | None = key_file  # pyright: ignore[reportIncompatibleVariableOverride]
        self.cert_file: str | None = cert_file  # pyright: ignore[reportIncompatibleVariableOverride]
        self.key_password: Any = key_password

    def connect(self) -> None:
        """Connects, via the proxy if there is one, and performs the TLS handshake. The first request calls this
        automatically."""
        self._connect(httplib.HTTPSConnection)


CONNECTION_TYPES: dict[str, type[HTTPConnection | HTTPSConnection]] = {"http": HTTPConnection, "https": HTTPSConnection}

# The names that httplib2 has for its own.
HTTPConnectionWithTimeout = HTTPConnection
HTTPSConnectionWithTimeout = HTTPSConnection
SCHEME_TO_CONNECTION = CONNECTION_TYPES


class _LimitedConnections(dict[str, Any]):
    """Dict of at most `limit` connections; beyond that, the least recently used one is closed and removed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def get(self, key: str, default: Any = None) -> Any:
        connection = self.pop(key, None)
        if connection is None:
            return default
        self[key] = connection  # as the most recently used
        return connection

    def __setitem__(self, key: str, connection: Any) -> None:
        super().__setitem__(key, connection)
        while len(self) > self.limit:
            oldest = self.pop(next(iter(self)))
            with suppress(Exception):  # must not fail the new connection
                oldest.close()


class _Connections:
    """The connections of one greenlet, by httplib2's keys, `scheme:authority`."""

    def __init__(self, limit: int) -> None:
        self.by_key = _LimitedConnections(limit)

    def close(self) -> None:
        closing = list(self.by_key.values())
        self.by_key.clear()
        with ExitStack() as stack:
            for connection in closing:
                stack.callback(connection.close)


class _AllValues(ValuesView[Any]):
    def __init__(self, connections: _AllConnections) -> None:
        super().__init__(connections)
        self._connections = connections

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable([list(one.by_key.values()) for one in self._connections.sets])

    def __len__(self) -> int:
        return sum(len(one.by_key) for one in self._connections.sets)


class _AllConnections(MutableMapping[str, Any]):
    """The connections of all greenlets. A key may have several connections: `values()` has all of them, removing the
    key removes all of them, and `[key]` returns one of them."""

    def __init__(self, sets: WeakSet[_Connections]) -> None:
        self.sets = sets

    def __getitem__(self, key: str) -> Any:
        for one in self.sets:
            if key in one.by_key:
                return one.by_key[key]
        raise KeyError(key)

    def __setitem__(self, key: str, connection: Any) -> NoReturn:
        raise TypeError("connections are created by requests; connection_type= sets their class")

    def __delitem__(self, key: str) -> None:
        self[key]  # raises KeyError if there is none
        for one in self.sets:
            one.by_key.pop(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(chain.from_iterable([list(one.by_key) for one in self.sets])))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def values(self) -> ValuesView[Any]:
        return _AllValues(self)


def _check_uri(uri: str) -> None:
    """Raises RelativeURIError, or InvalidURL of http.client, for URIs that httplib2 rejects with an error that quotes
    the whole URI."""
    wrong: Exception | None = None
    try:
        url = URL(uri)
        _ = url.port
        if any(character in uri for character in "\t\r\n"):
            wrong = http.client.InvalidURL("a URI must not contain tabs or line ends")
        elif not url.scheme or not url.host:
            wrong = _httplib2.RelativeURIError(f"Only absolute URIs are allowed. uri = {_core.redact(uri)}")
    except ValueError as error:
        wrong = http.client.InvalidURL(str(error))
    if wrong is not None:
        raise wrong


class Http(httplib2.Http):  # type: ignore[misc]
    """An `httplib2.Http` for any number of greenlets. At most `concurrency` of them (by default 2, which is also the
    minimum) are in a request concurrently; further ones wait. The other arguments are httplib2's own.

    `credentials`, `add_certificate()`, `follow_redirects`, `timeout` and the like apply to all greenlets. During a
    request, `connections` are those of the greenlet that makes it; otherwise they are all connections, which you may
    inspect, close and remove. A greenlet keeps at most `MOST_CONNECTIONS // concurrency` connections; beyond that, the
    least recently used one is closed.
    """

    def __init__(self, *args: Any, concurrency: int = 2, **kw: Any) -> None:
        """Takes httplib2's arguments, and the maximum number of greenlets in a request, at least 2."""
        self._make_pool(concurrency)
        super().__init__(*args, **kw)

    def _make_pool(self, concurrency: int) -> None:
        # The pool rejects a value that is not a number.
        self.concurrency: int = max(concurrency, 2) if isinstance(concurrency, int) else concurrency
        # The connections of each greenlet that is in a request.
        self._held: dict[Any, _Connections] = {}
        self._all: WeakSet[_Connections] = WeakSet()
        self.pool: ClientPool[_Connections] = ClientPool(self._new_connections, self.concurrency)

    def _new_connections(self) -> _Connections:
        connections = _Connections(max(2, MOST_CONNECTIONS // self.concurrency))
        self._all.add(connections)
        return connections

    @property
    def connections(self) -> MutableMapping[str, Any]:
        """The connections by `scheme:authority`: during a request those of this greenlet, else those of all."""
        held = self._held.get(gevent.getcurrent())
        return _AllConnections(self._all) if held is None else held.by_key

    @connections.setter
    def connections(self, connections: Mapping[str, Any]) -> None:
        if connections:
            raise TypeError("connections are created by requests; connection_type= sets their class")
        self.connections.clear()

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: Any = None,
        headers: Any = None,
        redirections: int = httplib2.DEFAULT_MAX_REDIRECTS,
        connection_type: Any = None,
    ) -> Any:
        """Sends a request, follows redirects and answers challenges; returns `(response, content)`, as httplib2
        does."""
        _check_uri(uri)
        if connection_type is None:
            connection_type = CONNECTION_TYPES.get(uri.partition(":")[0].lower())
        arguments = (uri, method, body, headers, redirections, connection_type)
        greenlet = gevent.getcurrent()
        if greenlet in self._held:  # a redirect, or a request by a cache or a credential
            return super().request(*arguments)
        timeout = self.timeout if httplib2.has_timeout(self.timeout) else None
        connections, times_closed = self.pool._take(timeout), self.pool._times_closed
        self._held[greenlet] = connections
        try:
            return super().request(*arguments)
        finally:
            del self._held[greenlet]
            # Even after an error, since the connection that it occurred on has been closed.
            self.pool._give_back(connections, times_closed)

    def _conn_request(self, conn: Any, request_uri: str, method: str, body: Any, headers: Any) -> Any:
        """Performs one exchange, and closes the connection on any error. httplib2 does not close it if a read fails or
        the greenlet is killed: the next use would send a request, find the old response unread, and send the request
        again on a new connection."""
        try:
            return super()._conn_request(conn, request_uri, method, body, headers)  # pyright: ignore[reportAttributeAccessIssue]
        except BaseException:
            with suppress(Exception):
                conn.close()
            raise

    def close(self) -> None:
        """Closes the connections; those in use are closed at the end of their requests. Removes certificates and
        credentials."""
        self.pool.close()
        self.certificates.clear()
        self.clear_credentials()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # pyright: ignore
        return {name: value for name, value in state.items() if name not in ("pool", "_held", "_all")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._make_pool(state["concurrency"])
        super().__setstate__(state)  # pyright: ignore[reportAttributeAccessIssue]


def __getattr__(name: str) -> Any:
    """Returns names of httplib2 that this module does not define: ServerNotFoundError, ProxyInfo, Response ..."""
    return getattr(httplib2, name)
