"""urllib3 with our engine: `PoolManager`, `ProxyManager` and the connection pools, to be used in place of urllib3's.

    from geventhttpclient.urllib3_adapter import PoolManager

    http = PoolManager(maxsize=10, timeout=5.0)
    response = http.request("GET", "https://example.org/")

They are subclasses of urllib3's own, and what is not said here is as urllib3 documents it: arguments, retries,
redirects, timeouts, responses, exceptions. What lies below is not http.client and Python's sockets, but the engine's
connections: whatever waits gives way to other greenlets, with and without monkey patching.

urllib3 2 is needed (`pip install urllib3`); this package does not ask for it by itself.
"""

from __future__ import annotations

import base64
import errno
import logging
import socket
import ssl
import warnings
from contextlib import contextmanager
from functools import lru_cache
from http.client import BadStatusLine, HTTPMessage, RemoteDisconnected
from http.client import IncompleteRead as StandardIncompleteRead
from queue import Empty, Full
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

import gevent
from gevent.lock import Semaphore

try:
    import urllib3
    from urllib3._collections import HTTPHeaderDict
    from urllib3._version import __version__
    from urllib3.connection import HTTPConnection as _TheirConnection
    from urllib3.util.timeout import _DEFAULT_TIMEOUT, Timeout
except ImportError as error:
    raise ImportError("geventhttpclient.urllib3_adapter needs urllib3 2: pip install 'urllib3>=2'") from error

from urllib3.exceptions import (
    ConnectTimeoutError,
    IncompleteRead,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util.request import SKIP_HEADER, SKIPPABLE_HEADERS, body_to_chunks
from urllib3.util.url import parse_url

from geventhttpclient._core import Message
from geventhttpclient._parser import HTTPParseError
from geventhttpclient._urllib3_tls import tls_of, verifies
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.header import Headers
from geventhttpclient.proxy import Proxy
from geventhttpclient.proxy import ProxyError as Refused
from geventhttpclient.response import HTTPConnectionClosed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from urllib3.util.url import Url

    from geventhttpclient import _core

__all__ = [
    "HTTPConnection",
    "HTTPConnectionPool",
    "HTTPResponse",
    "HTTPSConnection",
    "HTTPSConnectionPool",
    "PoolManager",
    "ProxyManager",
    "Retry",
    "connection_from_url",
    "proxy_from_url",
]

# What programs have set the level of, and look for in their logs.
log = logging.getLogger("urllib3.connectionpool")

# How much of a body is read at once where the caller leaves that to us.
_PIECE = 65536

_USER_AGENT = f"python-urllib3/{__version__}"


# --------------------------------------------------------------------------------------------------------- responses


class _Wire(Message):
    """What urllib3's response reads from: the engine's message, in the shape that it expects of http.client's."""

    _done = False
    # Of a body that is read by urllib3's reader of chunks: what it has been told of and not taken, and the end.
    _piece = b""
    _is_ended = False
    # Who waits for the body, and in which loop.
    _reader: tuple[Any, Any] | None = None

    def isclosed(self) -> bool:
        """Whether the body has been read to its end, or was given up."""
        return self._done

    closed = property(isclosed)

    def close(self) -> None:
        """Gives the body up; the connection is closed unless it had been read."""
        self._done = True
        self.release()

    @property
    def _method(self) -> str:
        extras = self._extras()
        return "GET" if extras is None else extras[0]

    @property
    def msg(self) -> HTTPMessage:
        """The header fields as http.client has them, for cookie jars."""
        message = HTTPMessage()
        for name, value in self._pairs():
            message[name] = value
        return message

    @property
    def fp(self) -> _Chunks | None:
        """The body for urllib3's own reader of chunks, until it is closed."""
        return None if self._done else _Chunks(self)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what may wait for the peer: `shutdown` ends it."""
        self._reader = (gevent.get_hub().loop, gevent.getcurrent())
        try:
            yield
        finally:
            self._reader = None

    def shutdown(self, _how: int) -> None:
        """Ends the wait of whoever is reading, in whatever greenlet and thread, with ConnectionAbortedError."""
        if (reader := self._reader) is not None:
            loop, greenlet = reader
            loop.run_callback_threadsafe(self._interrupt, greenlet)

    def _interrupt(self, greenlet: Any) -> None:
        # It may have come to an end by itself meanwhile.
        if self._reader is not None and self._reader[1] is greenlet:
            greenlet.throw(ConnectionAbortedError(errno.ECONNABORTED, "the response was shut down"))

    def _safe_read(self, size: int) -> bytes:
        if not self._piece:
            return b"\r\n"
        data, self._piece = self._piece[:size], self._piece[size:]
        return data


class _Chunks:
    """A body as if it were still chunked: each piece that comes is a chunk, without extensions and trailers.

    urllib3 takes the coding off by itself when it streams, and decodes and counts what is in there. Here it is off.
    """

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def readline(self, _limit: int = -1) -> bytes:
        """The line that says how long the next piece is, or the empty line behind the last one."""
        wire = self._wire
        if wire._is_ended:
            return b"\r\n"
        try:
            with wire.waiting():
                wire._piece = wire._read_available(_PIECE)
        except HTTPConnectionClosed:
            # The end, where a number should have been.
            return b""
        except HTTPParseError as error:
            # No number either: urllib3 shows it as what stood in its place.
            return str(error.args[0]).encode()
        wire._is_ended = not wire._piece
        return b"%x\r\n" % len(wire._piece)


class HTTPResponse(urllib3.HTTPResponse):
    """urllib3's response, which reads from the engine.

    Pieces of a chunked body are those that come, not those that the peer made. `shutdown()` ends a read that waits in
    another greenlet or thread, and does nothing where none does.
    """

    def _raw_read(self, amt: int | None = None, **how: Any) -> bytes:
        wire = self._fp
        if amt is not None or how.get("read1") or not isinstance(wire, _Wire) or wire._done or not wire._is_complete():
            return super()._raw_read(amt, **how)
        # All of it is here: nothing can go wrong any more.
        data = wire.read()
        wire._done = True
        self._fp_bytes_read += len(data)
        if self.length_remaining is not None:
            self.length_remaining -= len(data)
        self.release_conn()
        return data

    def _fp_read(self, amt: int | None = None, *, read1: bool = False) -> bytes:
        wire = self._fp
        if not isinstance(wire, _Wire):
            return super()._fp_read(amt, read1=read1) if read1 else super()._fp_read(amt)
        before = wire.get_remaining_content_length()
        try:
            with wire.waiting():
                if read1:
                    return wire._read_available(_PIECE if amt is None or amt < 0 else amt)
                # Of a counted body that breaks off, what has come is handed out; that it was too little is told with
                # the next read, unless nobody wants to know.
                is_counted = self.length_remaining is not None
                data = wire.read(amt) if amt is None or not is_counted else _read_what_comes(wire, amt)
        except HTTPConnectionClosed as error:
            if self.length_remaining is None:
                raise StandardIncompleteRead(b"") from error
            left = wire.get_remaining_content_length()
            raise IncompleteRead(self._fp_bytes_read + before - left, left) from error
        except HTTPParseError as error:
            raise StandardIncompleteRead(b"") from error
        if amt is None or len(data) < amt or self.length_remaining == len(data):
            wire.close()
        return data


def _read_what_comes(wire: _Wire, amt: int) -> bytes:
    """`amt` bytes, or as many as there are when the peer ends the body too soon."""
    pieces: list[bytes] = []
    while amt > 0:
        try:
            piece = wire._read_available(amt)
        except HTTPConnectionClosed:
            break
        if not piece:
            break
        pieces.append(piece)
        amt -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


# ------------------------------------------------------------------------------------------------------- connections


class _Engine(ConnectionPool):
    """One connection: to the origin, or to a proxy that stands for it or leads there."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: _core._Tls | None,
        proxy: Proxy | None,
        proxy_tls: _core._Tls | None,
        local_address: tuple[str, int] | None,
    ) -> None:
        self._given_tls, self._given_proxy_tls = tls, proxy_tls
        near, near_port = (host, port) if proxy is None else (proxy.host, proxy.port)
        super().__init__(
            near,
            near_port,
            host,
            port,
            size=1,
            connection_timeout=None,
            network_timeout=None,
            proxy=proxy,
            local_address=local_address,
        )

    def _tls(self) -> _core._Tls | None:
        return self._given_tls

    def _route(self, proxy: Proxy | None, *others: Any) -> _core._Route | None:
        route = super()._route(proxy, *others)
        if proxy is None or route is None or route[0] is None or self._given_proxy_tls is None:
            return route
        return ((*route[0][:4], self._given_proxy_tls), *route[1:])


class HTTPConnection:
    """One connection of a pool, opened by the first request and again whenever that is needed.

    Programs see it in exceptions and as `response.connection`. It has no socket.
    """

    default_port: ClassVar[int] = 80
    default_socket_options = _TheirConnection.default_socket_options
    sock = None

    def __init__(self, pool: _Pool, way: _Way) -> None:
        """For a pool; `way` says where it leads."""
        self.host: str = pool.host
        self.port: int = self.default_port if pool.port is None else pool.port
        self.timeout: Any = pool.timeout.connect_timeout
        self.proxy: Url | None = pool.proxy
        self.proxy_config = pool.proxy_config
        self.blocksize: int = pool.conn_kw.get("blocksize") or 16384
        self.source_address = pool.conn_kw.get("source_address")
        self.socket_options = pool.conn_kw.get("socket_options")
        self.is_verified: bool = way.verifies
        self.proxy_is_verified: bool | None = None
        self.has_connected_to_proxy = False
        self._way = way
        self._engine: _Engine | None = None
        self._is_tunnel = False
        self._wire: _Wire | None = None
        name = f"[{self.host}]" if ":" in self.host else self.host.rstrip(".")
        self._authority = name if self.port == self.default_port else f"{name}:{self.port}"
        self._fields = {"Host": self._authority, "Accept-Encoding": "identity", "User-Agent": _USER_AGENT}
        # What an absolute form may be taken for here; the scheme is never sent.
        self._bases = [f"http://{self._authority}"]

    def __str__(self) -> str:
        return f"{type(self).__name__}(host={self.host!r}, port={self.port!r})"

    def __repr__(self) -> str:
        return f"<{self} at {id(self):#x}>"

    @property
    def is_closed(self) -> bool:
        """Whether no connection is held."""
        return self._engine is None

    @property
    def is_connected(self) -> bool:
        """Whether the next request may use it, which nothing but a body that is still on it prevents. One that the peer
        has closed is replaced when that request needs it."""
        return self._wire is None or not self._wire._is_attached()

    def connect(self) -> None:
        """Does nothing: the request connects."""

    def close(self) -> None:
        """Closes the connection, whatever is still to come on it."""
        wire, self._wire = self._wire, None
        engine, self._engine = self._engine, None
        self.has_connected_to_proxy = False
        if wire is not None:
            wire.close()
        if engine is not None:
            engine.close()

    def exchange(
        self,
        method: str,
        url: str,
        body: Any,
        headers: Mapping[str, Any] | None,
        chunked: bool,
        connect_timeout: float | None,
        read_timeout: float | None,
    ) -> _Wire:
        """Sends a request and returns its response, of which the head has come. Raises what the engine raises."""
        self._wire = None
        fields: dict[str, Any] = self._fields
        bases, absolute = self._bases, None
        if not url.startswith("/"):
            base, url = _split(url)
            bases, absolute = [base], (True, None)
            fields = {**fields, "Host": base.partition("://")[2]}
        elif url.startswith("//"):
            # By itself it would be refused, since it could be read as another host.
            url = bases[0] + url
        lines: Any = headers or None
        if headers and SKIP_HEADER in headers.values():
            lines = _without_skipped(headers)
        if body is not None and not isinstance(body, (bytes, str)):
            pieces, length = body_to_chunks(body, method, self.blocksize)
            body = pieces if length is None else bytes(memoryview(body))
        elif body is None and not chunked and method.upper() not in _BODILESS:
            fields = {**fields, "Content-Length": "0"}
        if chunked:
            fields = {**fields, "Transfer-Encoding": "chunked"}
        engine = self._engine
        is_tunnel = self.proxy is not None and absolute is None
        if engine is None or is_tunnel is not self._is_tunnel:
            self.close()
            engine = self._engine = self._way.dial(is_tunnel)
            self._is_tunnel = is_tunnel
        wire = engine._exchange(
            _Wire,
            method,
            url,
            body,
            lines,
            fields,
            None,
            bases,
            "HTTP/1.1",
            absolute,
            _SHAPE,
            (connect_timeout, read_timeout, None, None),
        )
        self.has_connected_to_proxy = self.proxy is not None
        if wire._is_attached():
            self._wire = wire
        return wire


class HTTPSConnection(HTTPConnection):
    """The same over TLS."""

    default_port: ClassVar[int] = 443


_SHAPE = (_PIECE, Headers)

# Methods whose requests say nothing of a body when they have none.
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "TRACE", "OPTIONS", "CONNECT"})


def _without_skipped(headers: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The lines, with None where urllib3's mark says that a field is not to be sent."""
    for name, value in headers.items():
        if value == SKIP_HEADER and str(name).lower() not in SKIPPABLE_HEADERS:
            raise ValueError(f"SKIP_HEADER is for {', '.join(sorted(SKIPPABLE_HEADERS))}, not for {name!r}")
    return [(name, None if value == SKIP_HEADER else value) for name, value in headers.items()]


def _split(url: str) -> tuple[str, str]:
    """Origin and target of an absolute URL."""
    scheme, _, rest = url.partition("://")
    cut = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    authority, target = rest[:cut], rest[cut:]
    return f"{scheme}://{authority.rpartition('@')[2]}", target if target.startswith("/") else f"/{target}"


# ------------------------------------------------------------------------------------------------------------- pools


class Retry(urllib3.Retry):
    """urllib3's, whose pauses give way to other greenlets. Any other is made into such a one where it is used."""

    def sleep_for_retry(self, response: urllib3.BaseHTTPResponse) -> bool:
        """Waits as long as Retry-After says; whether it says anything."""
        seconds = self.get_retry_after(response)
        if seconds:
            gevent.sleep(seconds)
        return bool(seconds)

    def _sleep_backoff(self) -> None:
        seconds = self.get_backoff_time()
        if seconds > 0:
            gevent.sleep(seconds)


@lru_cache(maxsize=64)
def _patient_class(kind: type[urllib3.Retry]) -> type[urllib3.Retry]:
    if issubclass(kind, Retry):
        return kind
    # What a program's own class overrides is found before ours.
    return Retry if kind is urllib3.Retry else type(kind.__name__, (kind, Retry), {"__module__": kind.__module__})


def _patient(retries: urllib3.Retry) -> urllib3.Retry:
    """The same, with pauses that give way."""
    if isinstance(retries, Retry):
        return retries
    kind = _patient_class(type(retries))  # type: ignore[arg-type]
    patient = kind.__new__(kind)
    patient.__dict__.update(retries.__dict__)
    return patient


class _Places:
    """The queue of a pool, last in, first out: a connection, or None for a place without one.

    Waiting in it gives way to other greenlets, in whatever thread.
    """

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self._items: list[HTTPConnection | None] = []
        self._filled = Semaphore(0)

    def qsize(self) -> int:
        """How many there are."""
        return len(self._items)

    def put(self, item: HTTPConnection | None, block: bool = False) -> None:
        """Adds one. queue.Full where there are `maxsize`; it never waits."""
        if 0 < self.maxsize <= len(self._items):
            raise Full
        self._items.append(item)
        self._filled.release()

    def get(self, block: bool = True, timeout: float | None = None) -> HTTPConnection | None:
        """Takes one, waiting for it `timeout` seconds (None: for ever) if `block` says so. queue.Empty without one."""
        if not self._filled.acquire(block, timeout):
            raise Empty
        return self._items.pop()


_KEYWORDS = frozenset({"blocksize", "proxy", "proxy_config", "socket_options", "source_address"})
_TLS_KEYWORDS = frozenset({"ca_cert_data", "server_hostname", "ssl_context"})
_TLS_ATTRIBUTES = (
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


class _Way:
    """How the connections of a pool are made. Connections hold this and not the pool, which is to be closed when
    nothing else holds it."""

    def __init__(self, pool: _Pool) -> None:
        self.scheme = pool.scheme
        self.host = pool.host
        self.port = int(pool.port or pool.ConnectionCls.default_port)
        self.source = pool.conn_kw.get("source_address")
        self.proxy: Url | None = pool.proxy
        self.proxy_config = pool.proxy_config
        self.proxy_headers = dict(pool.proxy_headers)
        self.arguments = pool._tls_arguments()
        self.verifies = verifies(self.arguments)
        self._made: dict[str, _core._Tls] = {}

    def leads_where(self, other: _Way) -> bool:
        """Whether nothing was changed in the pool since the other one was made."""
        return (self.arguments, self.proxy_headers) == (other.arguments, other.proxy_headers)

    def dial(self, is_tunnel: bool) -> _Engine:
        """A connection, not opened yet: to the origin, through a proxy's tunnel, or to a proxy that is asked itself."""
        try:
            if self.proxy is None:
                return _Engine(self.host, self.port, self._tls(), None, None, self.source)
            way = _proxy_of(self.proxy, self.proxy_headers if is_tunnel else {})
            to_proxy = self._tls_to_proxy(way.host) if way.scheme == "https" else None
            if is_tunnel:
                return _Engine(self.host, self.port, self._tls(), way, to_proxy, self.source)
            return _Engine(way.host, way.port, to_proxy, None, None, self.source)
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


class _Pool(urllib3.HTTPConnectionPool):
    """What our pools do otherwise than urllib3's."""

    QueueCls: Any = _Places
    ConnectionCls: Any = HTTPConnection
    _known = _KEYWORDS

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        unknown = self.conn_kw.keys() - self._known
        if unknown:
            raise TypeError(f"no such argument of a connection: {', '.join(sorted(unknown))}")
        options = self.conn_kw.get("socket_options")
        if options and list(options) != HTTPConnection.default_socket_options:
            warnings.warn("socket_options are not set on the engine's sockets, but for TCP_NODELAY", stacklevel=2)
        if not isinstance(self.retries, urllib3.Retry):
            self.retries = urllib3.Retry.from_int(self.retries)
        self.retries = _patient(self.retries)
        self._way: _Way | None = None

    def _tls_arguments(self) -> dict[str, Any]:
        return {}

    def _new_conn(self) -> Any:
        self.num_connections += 1
        way = _Way(self)
        if self._way is None or not way.leads_where(self._way):
            self._way = way
        log.debug(
            "Starting new %s connection (%d): %s:%s", str(way.scheme).upper(), self.num_connections, way.host, way.port
        )
        return self.ConnectionCls(self, self._way)

    def _prepare_proxy(self, conn: Any) -> None:
        """Nothing: the engine opens tunnels."""

    def urlopen(  # type: ignore[override]
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Any = None,
        retries: Any = None,
        redirect: bool = True,
        *args: Any,
        answer: list[urllib3.BaseHTTPResponse] | None = None,
        **kw: Any,
    ) -> Any:
        """A request to that path of this pool's host. `answer` is for our own PoolManager."""
        if answer:
            return answer.pop()
        if not isinstance(retries, urllib3.Retry):
            retries = urllib3.Retry.from_int(retries, redirect=redirect, default=self.retries)
        return super().urlopen(method, url, body, headers, _patient(retries), redirect, *args, **kw)

    def _make_request(  # type: ignore[override]
        self,
        conn: HTTPConnection,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, Any] | None = None,
        retries: urllib3.Retry | None = None,
        timeout: Any = _DEFAULT_TIMEOUT,
        chunked: bool = False,
        response_conn: HTTPConnection | None = None,
        preload_content: bool = True,
        decode_content: bool = True,
        enforce_content_length: bool = True,
    ) -> HTTPResponse:
        self.num_requests += 1
        connect, read = _seconds(timeout if isinstance(timeout, Timeout) else self._get_timeout(timeout))
        conn.timeout = connect
        self._validate_conn(conn)  # type: ignore[arg-type]
        try:
            wire = conn.exchange(method, url, body, headers, chunked, connect, read)
        except (OSError, HTTPParseError) as error:
            self._translate(conn, error, url, connect, read)
        version = wire.get_http_version()
        response = HTTPResponse(
            body=cast("Any", wire),
            headers=_fields_of(wire),
            status=wire.get_code(),
            version=10 if version == "HTTP/1.0" else 11,
            reason=wire._reason(),
            preload_content=preload_content,
            decode_content=decode_content,
            original_response=cast("Any", wire),
            enforce_content_length=enforce_content_length,
            request_method=method,
            request_url=url,
        )
        response.version_string = version
        response._sock_shutdown = wire.shutdown
        response.retries = retries
        response._connection = response_conn  # type: ignore[assignment]
        response._pool = self
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                '%s://%s:%s "%s %s %s" %s %s',
                self.scheme,
                self.host,
                self.port,
                method,
                url,
                version,
                response.status,
                response.length_remaining,
            )
        return response

    def _translate(
        self, conn: HTTPConnection, error: Exception, url: str, connect: float | None, read: float | None
    ) -> NoReturn:
        """Raises what urllib3 would, for an error of the engine."""
        phase, peer = getattr(error, "phase", None), getattr(error, "peer", None)
        if isinstance(error, socket.gaierror):
            phase = "resolve"
        if conn.proxy is not None:
            is_here = phase in ("resolve", "connect") or (phase == "proxy" and not isinstance(error, TimeoutError))
            to_proxy = phase == "tls" and (not conn._is_tunnel or peer == conn.proxy.netloc)
            conn.has_connected_to_proxy = not (is_here or to_proxy)
        if isinstance(error, TimeoutError):
            if phase in ("resolve", "connect"):
                text = f"Connection to {conn.host} timed out. (connect timeout={connect})"
                raise ConnectTimeoutError(conn, text) from error
            if phase not in ("send", None):
                seconds = read if phase == "head" else connect
                raise ReadTimeoutError(self, url, f"Read timed out. (read timeout={seconds})") from error
        elif isinstance(error, socket.gaierror):
            raise NameResolutionError(conn.host, conn, error) from error  # type: ignore[arg-type]
        elif phase in ("resolve", "connect"):
            text = f"Failed to establish a new connection: {error}"
            raise NewConnectionError(conn, text) from error  # type: ignore[arg-type]
        elif isinstance(error, Refused) and error.status is not None:
            raise OSError(f"Tunnel connection failed: {error.status} ({error})") from error
        elif phase is not None and isinstance(error, HTTPConnectionClosed) and len(error.args) == 1:
            raise RemoteDisconnected("Remote end closed connection without response") from error
        elif phase is not None and isinstance(error, HTTPParseError):
            raise BadStatusLine(str(error.args[0])) from error
        raise error


def _seconds(timeout: Timeout) -> tuple[float | None, float | None]:
    """For connecting, and for each wait after that."""
    if timeout.total is not None:
        # How long there is to read depends on when it began.
        timeout = timeout.clone()
        timeout.start_connect()
    return timeout.resolve_default_timeout(timeout.connect_timeout), timeout.read_timeout


def _fields_of(wire: Message) -> HTTPHeaderDict:
    """The header fields, put where `add` would put them: by its way they take as long as the exchange itself."""
    fields = HTTPHeaderDict()
    lines = fields._container
    for name, value in wire._pairs():
        line = lines.get(key := name.lower())
        if line is None:
            lines[key] = [name, value]
        else:
            line.append(value)
    return fields


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
    host, scheme = str(proxy.host).strip("[]"), str(proxy.scheme)
    return Proxy(scheme, host, proxy.port or (443 if scheme == "https" else 80), user, password)


class HTTPConnectionPool(_Pool):
    """Connections to one host. Beside urllib3's arguments nothing is taken; see the module for what differs."""


class HTTPSConnectionPool(_Pool, urllib3.HTTPSConnectionPool):
    """The same over TLS.

    It is the engine's own where that can do what is asked for. An SSLContext does it where one is given, or where the
    arguments are for OpenSSL: `assert_fingerprint`, `assert_hostname`, `ca_cert_data`, `key_password`, `ssl_version`,
    `ssl_minimum_version`, `ssl_maximum_version`, CERT_OPTIONAL, or a file and a directory of authorities at once.
    """

    ConnectionCls: Any = HTTPSConnection
    _known = _KEYWORDS | _TLS_KEYWORDS

    def _tls_arguments(self) -> dict[str, Any]:
        arguments = {name: getattr(self, name) for name in _TLS_ATTRIBUTES}
        arguments.update((name, self.conn_kw.get(name)) for name in _TLS_KEYWORDS)
        return arguments


# The same URL is parsed once. A URL that was parsed is a tuple, which nobody changes.
_parse_url = lru_cache(maxsize=1024)(parse_url)

# Hosts of which the keys of pools are kept.
_MOST_KEYS = 1000

_POOLS = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}


# ---------------------------------------------------------------------------------------------------------- managers


class PoolManager(urllib3.PoolManager):
    """urllib3's, with pools of ours.

    `PoolManager(num_pools=10, headers=None, **connection_pool_kw)`, with the arguments of urllib3's pools.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.pool_classes_by_scheme: Any = _POOLS
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
            self._keys[asked] = pool._key
        return pool

    def connection_from_pool_key(self, pool_key: Any, request_context: dict[str, Any]) -> Any:
        """The pool of that key."""
        pool: Any = super().connection_from_pool_key(pool_key, request_context)
        pool._key = pool_key
        return pool

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> Any:  # type: ignore[override]
        """A request to that absolute URL; redirects are followed unless `redirect` is False."""
        kw.pop("answer", None)
        if self.proxy is not None:
            return super().urlopen(method, url, redirect, **kw)
        parts = _parse_url(url)
        if parts.scheme is None:
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


def proxy_from_url(url: str, **kw: Any) -> ProxyManager:
    """A ProxyManager for the proxy of that URL."""
    return ProxyManager(proxy_url=url, **kw)


def connection_from_url(url: str, **kw: Any) -> urllib3.HTTPConnectionPool:
    """A pool for the host of that URL."""
    scheme, _, host, port, *_ = parse_url(url)
    kind = _POOLS.get(scheme or "http", HTTPConnectionPool)
    return kind(host, kind.ConnectionCls.default_port if port is None else port, **kw)
