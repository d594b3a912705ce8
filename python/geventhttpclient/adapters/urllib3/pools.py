"""urllib3's connection pools, with the engine's connections."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty, Full
from typing import Any

import urllib3
from gevent.lock import Semaphore
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import LocationParseError, UnrewindableBodyError
from urllib3.util.timeout import _DEFAULT_TIMEOUT, Timeout

from geventhttpclient import _core
from geventhttpclient._internal.validation import is_host
from geventhttpclient.adapters.urllib3.connection import HTTPConnection, HTTPSConnection, _split
from geventhttpclient.adapters.urllib3.errors import ERRORS, as_urllib3
from geventhttpclient.adapters.urllib3.response import HTTPResponse
from geventhttpclient.adapters.urllib3.retry import cooperative
from geventhttpclient.adapters.urllib3.routes import TLS_ATTRIBUTES, TLS_KEYWORDS, Route

# urllib3's own logger, which programs configure.
log: logging.Logger = logging.getLogger("urllib3.connectionpool")


_KEYWORDS = frozenset({"_socks_options", "blocksize", "proxy", "proxy_config", "socket_options", "source_address"})


class _ConnectionQueue:
    """The queue of a pool, last in, first out. An item is a connection, or None for a free place.

    Waits are cooperative, in any thread.
    """

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self._items: list[HTTPConnection | None] = []
        self._filled = Semaphore(0)

    def qsize(self) -> int:
        """Returns the number of items."""
        return len(self._items)

    def put(self, item: HTTPConnection | None, block: bool = False) -> None:
        """Adds an item without waiting. Raises queue.Full if there are `maxsize` items."""
        if 0 < self.maxsize <= len(self._items):
            raise Full
        self._items.append(item)
        self._filled.release()

    def get(self, block: bool = True, timeout: float | None = None) -> HTTPConnection | None:
        """Takes an item. Waits at most `timeout` seconds (None for no limit) if `block` is True. Raises queue.Empty if
        there is none."""
        if not self._filled.acquire(block, timeout):
            raise Empty
        return self._items.pop()


class _Pool(urllib3.HTTPConnectionPool):
    """The differences from urllib3's pools."""

    QueueCls: Any = _ConnectionQueue
    ConnectionCls: Any = HTTPConnection
    _known = _KEYWORDS

    def __init__(self, *args: Any, **kw: Any) -> None:
        is_good = False
        # urllib3's error might show a part of a password.
        with suppress(LocationParseError):
            super().__init__(*args, **kw)
            is_good = is_host(self.host)
        if not is_good:
            raise LocationParseError(_core.redact_part(str(args[0] if args else kw.get("host"))))
        unknown = self.conn_kw.keys() - self._known
        if unknown:
            raise TypeError(f"unexpected arguments of a connection: {', '.join(sorted(unknown))}")
        options = self.conn_kw.get("socket_options")
        if options and list(options) != HTTPConnection.default_socket_options:
            warnings.warn("socket_options other than TCP_NODELAY are not set on the engine's sockets", stacklevel=2)
        retries = self.retries
        self.retries: urllib3.Retry = cooperative(
            retries if isinstance(retries, urllib3.Retry) else urllib3.Retry.from_int(retries)
        )
        self._route: Route | None = None

    def _tls_arguments(self) -> dict[str, Any]:
        return {}

    def _new_conn(self) -> Any:
        self.num_connections += 1
        route = Route(self)
        if self._route is None or not route.equals(self._route):
            self._route = route
        log.debug(
            "Starting new %s connection (%d): %s:%s",
            str(route.scheme).upper(),
            self.num_connections,
            route.host,
            route.port,
        )
        return self.ConnectionCls(self, self._route)

    def _prepare_proxy(self, conn: Any) -> None:
        """Does nothing, since the engine opens tunnels."""

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
        """Sends a request to a path of this pool's host. `answer` is only for PoolManager."""
        if answer:
            return answer.pop()
        if "@" in url and not url.startswith("/"):
            # Without user and password, which are not sent: the URL is quoted in errors and logged.
            url = "".join(_split(url))
        if headers is not None and not isinstance(headers, (dict, HTTPHeaderDict)):
            # They are copied and iterated several times, which is slow for a mapping that is implemented in Python.
            headers = dict(headers.items())
        if not isinstance(retries, urllib3.Retry):
            retries = urllib3.Retry.from_int(retries, redirect=redirect, default=self.retries)
        return super().urlopen(method, url, body, headers, cooperative(retries), redirect, *args, **kw)

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
        if retries is not None and retries.history:
            check_repeatable(body)
        self.num_requests += 1
        connect, read = seconds(timeout if isinstance(timeout, Timeout) else self._get_timeout(timeout))
        conn.timeout = connect
        self._validate_conn(conn)  # type: ignore[arg-type]
        try:
            wire = conn.exchange(method, url, body, headers, chunked, connect, read)
        except ERRORS as error:
            found = as_urllib3(error, conn, self, url, connect, read)
            conn.note_failure(error, found)
            if found is error:
                raise
            raise found from error
        response = HTTPResponse(
            wire, method, url, self, response_conn, retries, preload_content, decode_content, enforce_content_length
        )
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                '%s://%s:%s "%s %s %s" %s %s',
                self.scheme,
                self.host,
                self.port,
                method,
                url,
                response.version_string,
                response.status,
                response.length_remaining,
            )
        return response


def check_repeatable(body: Any) -> None:
    """Raises UnrewindableBodyError for a body that can be sent only once."""
    if hasattr(body, "__next__") and not hasattr(body, "tell"):
        raise UnrewindableBodyError("Unable to send the body of a request again: it is an iterator")


def seconds(timeout: Timeout) -> tuple[float | None, float | None]:
    """Returns the timeouts for connecting, and for each wait after that."""
    if timeout.total is not None:
        # The time that is left for reading depends on the start.
        timeout = timeout.clone()
        timeout.start_connect()
    return timeout.resolve_default_timeout(timeout.connect_timeout), timeout.read_timeout


class HTTPConnectionPool(_Pool):
    """A pool of connections to one host, with urllib3's arguments; the module describes the differences."""


class HTTPSConnectionPool(_Pool, urllib3.HTTPSConnectionPool):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A pool of connections over TLS to one host.

    The engine's own TLS is used if it supports the arguments. An SSLContext is used if one is given, or if an argument
    requires OpenSSL: `assert_fingerprint`, `assert_hostname`, `ca_cert_data`, `key_password`, `ssl_version`,
    `ssl_minimum_version`, `ssl_maximum_version`, CERT_OPTIONAL, or both a file and a directory of authorities.
    """

    ConnectionCls: Any = HTTPSConnection
    _known = _KEYWORDS | TLS_KEYWORDS

    def _tls_arguments(self) -> dict[str, Any]:
        arguments = {name: getattr(self, name) for name in TLS_ATTRIBUTES}
        arguments.update((name, self.conn_kw.get(name)) for name in TLS_KEYWORDS)
        return arguments


POOLS: dict[str, type[_Pool]] = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
