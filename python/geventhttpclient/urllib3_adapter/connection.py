"""A connection of a pool: a request sent, the head of its response received."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from urllib3._version import __version__
from urllib3.connection import HTTPConnection as _TheirConnection
from urllib3.util.request import SKIP_HEADER, SKIPPABLE_HEADERS, body_to_chunks

from geventhttpclient.header import Headers
from geventhttpclient.urllib3_adapter.errors import phase_of
from geventhttpclient.urllib3_adapter.response import PIECE, Wire

if TYPE_CHECKING:
    from urllib3.util.url import Url

    from geventhttpclient._core import IdleGroup
    from geventhttpclient.urllib3_adapter.way import Engine, Way

_USER_AGENT = f"python-urllib3/{__version__}"


class HTTPConnection:
    """One connection of a pool, opened by the first request and again whenever that is needed. With a size it stands
    for as many of them, which the engine hands out.

    Programs see it in exceptions and as `response.connection`. It has no socket.
    """

    default_port: ClassVar[int] = 80
    default_socket_options: Any = _TheirConnection.default_socket_options
    sock = None

    def __init__(self, pool: Any, way: Way, size: int = 1) -> None:
        """For a pool; `way` says where it leads."""
        self.host: str = pool.host
        self.port: int = self.default_port if pool.port is None else pool.port
        self.timeout: Any = pool.timeout.connect_timeout
        self.proxy: Url | None = pool.proxy
        self.proxy_config: Any = pool.proxy_config
        self.blocksize: int = pool.conn_kw.get("blocksize") or 16384
        self.source_address: tuple[str, int] | None = pool.conn_kw.get("source_address")
        self.socket_options: Any = pool.conn_kw.get("socket_options")
        self.is_verified: bool = way.verifies
        self.proxy_is_verified: bool | None = None
        self.has_connected_to_proxy: bool = False
        self.is_by_socks: bool = way.socks is not None
        self._way = way
        self._size = size
        self._engine: Engine | None = None
        # What bounds its idle connections with those of others, where it stands for several.
        self._idle_group: IdleGroup | None = None
        self._is_tunnel = False
        self._wire: Wire | None = None
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
    ) -> Wire:
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
            engine = self._engine = self._way.dial(is_tunnel, self._size)
            if self._idle_group is not None:
                engine._join(self._idle_group)
            self._is_tunnel = is_tunnel
        wire = engine._exchange(
            Wire,
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
        if self._size == 1 and wire._is_attached():
            self._wire = wire
        return wire

    def note_failure(self, error: Exception, found: Exception) -> None:
        """Works out whether a request that failed has got beyond the proxy: `error` is the engine's, `found` urllib3's.

        What closes before it has answered is taken for the proxy, whoever is behind it.
        """
        proxy, phase = self.proxy, phase_of(error)
        if proxy is not None:
            is_refused = phase == "proxy" and getattr(error, "status", None) is not None
            is_tls = phase == "tls" and (not self._is_tunnel or getattr(error, "peer", None) == self._way.proxy_place)
            is_here = phase in ("resolve", "connect") or is_refused or is_tls or isinstance(found, ConnectionError)
            self.has_connected_to_proxy = not is_here


class HTTPSConnection(HTTPConnection):
    """The same over TLS."""

    default_port: ClassVar[int] = 443


_SHAPE = (PIECE, Headers)

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
