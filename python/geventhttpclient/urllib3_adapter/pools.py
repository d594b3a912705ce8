"""The pools of urllib3, with connections of ours."""

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
from geventhttpclient._checks import is_host
from geventhttpclient.urllib3_adapter.connection import HTTPConnection, HTTPSConnection, _split
from geventhttpclient.urllib3_adapter.errors import ERRORS, as_urllib3
from geventhttpclient.urllib3_adapter.response import HTTPResponse
from geventhttpclient.urllib3_adapter.retry import patient
from geventhttpclient.urllib3_adapter.way import TLS_ATTRIBUTES, TLS_KEYWORDS, Way

# What programs have set the level of, and look for in their logs.
log: logging.Logger = logging.getLogger("urllib3.connectionpool")


_KEYWORDS = frozenset({"_socks_options", "blocksize", "proxy", "proxy_config", "socket_options", "source_address"})


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


class _Pool(urllib3.HTTPConnectionPool):
    """What our pools do otherwise than urllib3's."""

    QueueCls: Any = _Places
    ConnectionCls: Any = HTTPConnection
    _known = _KEYWORDS

    def __init__(self, *args: Any, **kw: Any) -> None:
        is_good = False
        # urllib3's error would show what may be half of a password.
        with suppress(LocationParseError):
            super().__init__(*args, **kw)
            is_good = is_host(self.host)
        if not is_good:
            raise LocationParseError(_core.redact_part(str(args[0] if args else kw.get("host"))))
        unknown = self.conn_kw.keys() - self._known
        if unknown:
            raise TypeError(f"no such argument of a connection: {', '.join(sorted(unknown))}")
        options = self.conn_kw.get("socket_options")
        if options and list(options) != HTTPConnection.default_socket_options:
            warnings.warn("socket_options are not set on the engine's sockets, but for TCP_NODELAY", stacklevel=2)
        retries = self.retries
        self.retries: urllib3.Retry = patient(
            retries if isinstance(retries, urllib3.Retry) else urllib3.Retry.from_int(retries)
        )
        self._way: Way | None = None

    def _tls_arguments(self) -> dict[str, Any]:
        return {}

    def _new_conn(self) -> Any:
        self.num_connections += 1
        way = Way(self)
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
        if "@" in url and not url.startswith("/"):
            # Without user and password, as it is sent: it is quoted in errors and logged.
            url = "".join(_split(url))
        if headers is not None and not isinstance(headers, (dict, HTTPHeaderDict)):
            # It is copied and gone through several times, which takes long where each step of that is Python's.
            headers = dict(headers.items())
        if not isinstance(retries, urllib3.Retry):
            retries = urllib3.Retry.from_int(retries, redirect=redirect, default=self.retries)
        return super().urlopen(method, url, body, headers, patient(retries), redirect, *args, **kw)

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
            check_again(body)
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


def check_again(body: Any) -> None:
    """Raises UnrewindableBodyError for a body of which nothing more comes when it has been sent once."""
    if hasattr(body, "__next__") and not hasattr(body, "tell"):
        raise UnrewindableBodyError("Unable to send the body of a request again: it is an iterator")


def seconds(timeout: Timeout) -> tuple[float | None, float | None]:
    """For connecting, and for each wait after that."""
    if timeout.total is not None:
        # How long there is to read depends on when it began.
        timeout = timeout.clone()
        timeout.start_connect()
    return timeout.resolve_default_timeout(timeout.connect_timeout), timeout.read_timeout


class HTTPConnectionPool(_Pool):
    """Connections to one host. Beside urllib3's arguments nothing is taken; see the module for what differs."""


class HTTPSConnectionPool(_Pool, urllib3.HTTPSConnectionPool):  # pyright: ignore[reportIncompatibleMethodOverride]
    """The same over TLS.

    It is the engine's own where that can do what is asked for. An SSLContext does it where one is given, or where the
    arguments are for OpenSSL: `assert_fingerprint`, `assert_hostname`, `ca_cert_data`, `key_password`, `ssl_version`,
    `ssl_minimum_version`, `ssl_maximum_version`, CERT_OPTIONAL, or a file and a directory of authorities at once.
    """

    ConnectionCls: Any = HTTPSConnection
    _known = _KEYWORDS | TLS_KEYWORDS

    def _tls_arguments(self) -> dict[str, Any]:
        arguments = {name: getattr(self, name) for name in TLS_ATTRIBUTES}
        arguments.update((name, self.conn_kw.get(name)) for name in TLS_KEYWORDS)
        return arguments


POOLS: dict[str, type[_Pool]] = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
