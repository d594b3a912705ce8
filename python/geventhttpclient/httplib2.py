"""httplib2 for many greenlets at once: the real one, on connections of this package.

    from geventhttpclient import httplib2

    http = httplib2.Http(concurrency=10)
    response, content = http.request("https://example.org/")

`Http` is an `httplib2.Http` that any number of greenlets share. A greenlet within a request has connections of its own,
as many sets of them as `concurrency` says; everything else (credentials, certificates, cache, settings) is that of the
one object. No monkey patching is needed, and no `httplib.patch()`. The other names of httplib2 are found here too.

`ClientPool` does the same for clients of any kind that can serve only one greenlet at a time.
"""

from __future__ import annotations

import base64
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
from gevent.queue import LifoQueue

from geventhttpclient import _core, httplib
from geventhttpclient._checks import encoded
from geventhttpclient.tls import refuse_special
from geventhttpclient.url import URL

try:
    import httplib2
except ImportError as _error:
    raise ImportError("geventhttpclient.httplib2 works with the package httplib2: pip install httplib2") from _error

__all__ = ["ClientPool", "HTTPConnection", "HTTPSConnection", "Http"]

# The stubs that type checkers have of it leave out some of what is used here.
_httplib2: Any = httplib2

# How httplib2 numbers a proxy that is asked for a tunnel by CONNECT; it has the numbers from PySocks.
HTTP_PROXY = 3

# Connections that an Http keeps: an equal part of them for each greenlet that may be within a request, 2 at least.
MOST_CONNECTIONS = 100

# Contexts kept: one for each set of files and settings, in use by any number of connections.
MOST_CONTEXTS = 16


class Closeable(Protocol):
    """What a `ClientPool` asks of its clients."""

    def close(self) -> None:
        """Closes what it has open."""


Client = TypeVar("Client", bound=Closeable)


class ClientPool(Generic[Client]):
    """At most `concurrency` clients (5 by default), each of them with one greenlet at a time; further greenlets wait.

    `factory` makes a client when all the others are in use. ValueError for a concurrency below 1.
    """

    def __init__(self, factory: Callable[[], Client], concurrency: int = 5) -> None:
        """`concurrency` is the most clients there are at a time, and so the most greenlets that have one."""
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        self.factory = factory
        # The client that was used last comes first: its connections are the least likely to have been closed meanwhile.
        # None stands for one that is still to be made.
        self.queue: LifoQueue[Client | None] = LifoQueue()
        for _ in range(concurrency):
            self.queue.put(None)
        self._times_closed = 0

    @contextmanager
    def get(self) -> Iterator[Client]:
        """A client for the time of a with-block; waits for one that is free.

        Whatever ends the block but its own end (an exception, a kill, a gevent.Timeout) may have left the client amid
        an exchange: that one is closed, and its place is free for a new one.
        """
        client, times_closed = self._take(), self._times_closed
        try:
            yield client
        except BaseException:
            with suppress(Exception):  # the block's own is the one to tell
                self._discard(client)
            raise
        self._give_back(client, times_closed)

    def close(self) -> None:
        """Closes the clients: those in use when they are given back. The pool makes new ones when it is asked again."""
        self._times_closed += 1
        with ExitStack() as stack:
            while not self.queue.empty():
                client = self.queue.get_nowait()
                stack.callback(self.queue.put, None)
                if client is not None:
                    stack.callback(client.close)

    def _take(self) -> Client:
        client = self.queue.get()
        if client is not None:
            return client
        try:
            return self.factory()
        except BaseException:
            self.queue.put(None)
            raise

    def _give_back(self, client: Client, times_closed: int) -> None:
        """`times_closed` is from when it was taken."""
        if times_closed == self._times_closed:
            self.queue.put(client)
        else:
            self._discard(client)

    def _discard(self, client: Client) -> None:
        try:
            client.close()
        finally:
            self.queue.put(None)


def _proxy_info(given: Any, scheme: str, host: str) -> Any:
    """The ProxyInfo for that host, or None to go there directly; `given` is one, or a function of a scheme, or None."""
    proxy = given(scheme) if given and not isinstance(given, _httplib2.ProxyInfo) else given
    if not proxy or proxy.proxy_host is None or proxy.proxy_port is None or not proxy.applies_to(host):
        return None
    return proxy


def _tunnel_headers(proxy: Any) -> dict[str, str]:
    headers = dict(proxy.proxy_headers or {})
    if proxy.proxy_user is not None:
        credentials = encoded(f"{proxy.proxy_user}:{proxy.proxy_pass or ''}", "utf-8")
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
    return headers


def _stamp(path: object) -> object:
    """What changes when that file does."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return None


@functools.lru_cache(MOST_CONTEXTS)
def _kept_context(stamps: object, **settings: Any) -> ssl.SSLContext:
    context: ssl.SSLContext = _httplib2._build_ssl_context(**settings)
    return context


def _context(**settings: Any) -> ssl.SSLContext:
    """httplib2's own makes one for each connection, at some 20 ms for the certificates alone."""
    identity = (settings["cert_file"], settings["key_file"])
    trusted = None if settings["disable_ssl_certificate_validation"] else settings["ca_certs"]
    refuse_special(trusted, *identity)
    files = (settings["ca_certs"], *identity)
    return _kept_context(tuple(map(_stamp, files)), **settings)


class _Proxied:
    """What both kinds of connections have in common: the proxy that they may have."""

    proxy_info: Any
    set_tunnel: Callable[..., None]
    # httplib2's way to connect: by PySocks, and, without monkey patching, not cooperatively.
    _connect_by_socks: Callable[..., None]

    def _begin(self, kind: Any, host: str, port: int | None, proxy_info: Any, **options: Any) -> None:
        """Has `kind.__init__` done with what `proxy_info` makes of the arguments."""
        scheme = "https" if kind.default_port == 443 else "http"
        # What is wrong with it is told below, by http.client's exception.
        hostname, given_port = host, None
        with suppress(ValueError):
            _, _, _, hostname, given_port = _core.authority_read(host)
        name, tunnel_port = hostname or host, port or max(given_port or 0, 0) or kind.default_port
        self.proxy_info = _proxy_info(proxy_info, scheme, name)
        # Without one, httplib2 leaves a socket with the default timeout of the process; None is no timeout at all.
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
            raise httplib2.ProxiesUnavailableError(
                "a SOCKS proxy is asked for, and the package PySocks is not installed"
            )
        else:
            self._connect_by_socks()


# httplib2 gives the options of TLS only to subclasses of its own class. That comes first among the bases because it is
# made of ours where `httplib.patch()` was called before httplib2 was imported.
class HTTPConnection(httplib2.HTTPConnectionWithTimeout, _Proxied, httplib.HTTPConnection):  # type: ignore[misc]
    """An http connection with the arguments that httplib2 gives its own."""

    _connect_by_socks = httplib2.HTTPConnectionWithTimeout.connect

    def __init__(
        self, host: str, port: int | None = None, timeout: float | None = None, proxy_info: Any = None
    ) -> None:
        """`timeout` in seconds, None for ever; `proxy_info` a ProxyInfo, or a function that returns the one for a
        scheme, or None."""
        self._begin(httplib.HTTPConnection, host, port, proxy_info, timeout=timeout)

    def connect(self) -> None:
        """Connects, through the proxy where there is one. The first request does it by itself."""
        self._connect(httplib.HTTPConnection)


class HTTPSConnection(httplib2.HTTPSConnectionWithTimeout, _Proxied, httplib.HTTPSConnection):  # type: ignore[misc]
    """An https connection with the arguments that httplib2 gives its own. TLS is done by an SSLContext of Python's, as
    those arguments are made for it."""

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
        """`timeout` in seconds, None for ever. `ca_certs`, `cert_file` and `key_file` are files; the versions are as in
        ssl.TLSVersion, or their names. OSError and ssl.SSLError for files of no use."""
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
        """Connects, through the proxy where there is one, and shakes hands. The first request does it by itself."""
        self._connect(httplib.HTTPSConnection)


CONNECTION_TYPES: dict[str, type[HTTPConnection | HTTPSConnection]] = {"http": HTTPConnection, "https": HTTPSConnection}


class _Kept(dict[str, Any]):
    """At most `limit` connections; for one more, the one that was used longest ago is closed and removed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def get(self, key: str, default: Any = None) -> Any:
        connection = self.pop(key, None)
        if connection is None:
            return default
        self[key] = connection  # as the last
        return connection

    def __setitem__(self, key: str, connection: Any) -> None:
        super().__setitem__(key, connection)
        while len(self) > self.limit:
            oldest = self.pop(next(iter(self)))
            with suppress(Exception):  # the new one is not to blame
                oldest.close()


class _Connections:
    """What one greenlet at a time has: its connections by httplib2's keys, `scheme:authority`."""

    def __init__(self, limit: int) -> None:
        self.by_key = _Kept(limit)

    def close(self) -> None:
        closing = list(self.by_key.values())
        self.by_key.clear()
        with ExitStack() as stack:
            for connection in closing:
                stack.callback(connection.close)


class _AllValues(ValuesView[Any]):
    def __init__(self, everywhere: _Everywhere) -> None:
        super().__init__(everywhere)
        self._everywhere = everywhere

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable([list(one.by_key.values()) for one in self._everywhere.sets])

    def __len__(self) -> int:
        return sum(len(one.by_key) for one in self._everywhere.sets)


class _Everywhere(MutableMapping[str, Any]):
    """The connections of all greenlets. There may be several of one key: `values()` has them all, and what removes a
    key removes them all; `[key]` is one of them."""

    def __init__(self, sets: WeakSet[_Connections]) -> None:
        self.sets = sets

    def __getitem__(self, key: str) -> Any:
        for one in self.sets:
            if key in one.by_key:
                return one.by_key[key]
        raise KeyError(key)

    def __setitem__(self, key: str, connection: Any) -> NoReturn:
        raise TypeError("connections are made within requests; connection_type= says of which class")

    def __delitem__(self, key: str) -> None:
        self[key]  # KeyError where there is none
        for one in self.sets:
            one.by_key.pop(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(chain.from_iterable([list(one.by_key) for one in self.sets])))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def values(self) -> ValuesView[Any]:
        return _AllValues(self)


def _check_uri(uri: str) -> None:
    """RelativeURIError, or InvalidURL of http.client, for what httplib2 refuses with an error that quotes all of it."""
    wrong: Exception | None = None
    try:
        url = URL(uri)
        _ = url.port
        if any(character in uri for character in "\t\r\n"):
            wrong = http.client.InvalidURL("a URI must not hold tabs or line ends")
        elif not url.scheme or not url.host:
            wrong = _httplib2.RelativeURIError(f"Only absolute URIs are allowed. uri = {_core.redact(uri)}")
    except ValueError as error:
        wrong = http.client.InvalidURL(str(error))
    if wrong is not None:
        raise wrong


class Http(httplib2.Http):  # type: ignore[misc]
    """An `httplib2.Http` for any number of greenlets, at most `concurrency` of them (2 unless given, and never less)
    within a request at a time, the others waiting. The other arguments are httplib2's own.

    What `credentials`, `add_certificate()`, `follow_redirects`, `timeout` and the like say holds for all of them.
    `connections` are, within a request, those of the greenlet that makes it; otherwise all there are, to be looked at,
    closed and removed. A greenlet keeps at most `MOST_CONNECTIONS // concurrency`; for one more, the one that was used
    longest ago is closed.
    """

    def __init__(self, *args: Any, concurrency: int = 2, **kw: Any) -> None:
        """`concurrency`: the most greenlets within a request at a time, at least 2."""
        self._make_pool(concurrency)
        super().__init__(*args, **kw)

    def _make_pool(self, concurrency: int) -> None:
        self.concurrency: int = max(concurrency, 2)
        # Those of each greenlet that is within a request.
        self._held: dict[Any, _Connections] = {}
        self._all: WeakSet[_Connections] = WeakSet()
        self.pool: ClientPool[_Connections] = ClientPool(self._more_connections, self.concurrency)

    def _more_connections(self) -> _Connections:
        connections = _Connections(max(2, MOST_CONNECTIONS // self.concurrency))
        self._all.add(connections)
        return connections

    @property
    def connections(self) -> MutableMapping[str, Any]:
        """By `scheme:authority`; of this greenlet within a request, else of all."""
        held = self._held.get(gevent.getcurrent())
        return _Everywhere(self._all) if held is None else held.by_key

    @connections.setter
    def connections(self, connections: Mapping[str, Any]) -> None:
        if connections:
            raise TypeError("connections are made within requests; connection_type= says of which class")
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
        """One request, with the redirects and challenges that follow: `(response, content)`, as httplib2 has it."""
        _check_uri(uri)
        if connection_type is None:
            connection_type = CONNECTION_TYPES.get(uri.partition(":")[0].lower())
        arguments = (uri, method, body, headers, redirections, connection_type)
        greenlet = gevent.getcurrent()
        if greenlet in self._held:  # a redirect, or what a cache or a credential asks for meanwhile
            return super().request(*arguments)
        connections, times_closed = self.pool._take(), self.pool._times_closed
        self._held[greenlet] = connections
        try:
            return super().request(*arguments)
        finally:
            del self._held[greenlet]
            # Whatever went wrong: the connection that it went wrong on has been closed.
            self.pool._give_back(connections, times_closed)

    def _conn_request(self, conn: Any, request_uri: str, method: str, body: Any, headers: Any) -> Any:
        """One exchange. httplib2 leaves a connection as it is when a read fails, or a greenlet is killed: on the next
        use it would send the request, find the old response unread, and send the request again on a new connection."""
        try:
            return super()._conn_request(conn, request_uri, method, body, headers)  # pyright: ignore[reportAttributeAccessIssue]
        except BaseException:
            with suppress(Exception):
                conn.close()
            raise

    def close(self) -> None:
        """Closes the connections, those in use at the end of their requests; forgets certificates and credentials."""
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
    """What is httplib2's and not ours: ServerNotFoundError, ProxyInfo, Response ..."""
    return getattr(httplib2, name)
