"""A connection of a pool: sends requests, and receives the heads of responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from urllib3._version import __version__
from urllib3.connection import HTTPConnection as _TheirConnection
from urllib3.util.request import SKIP_HEADER, SKIPPABLE_HEADERS, body_to_chunks

from geventhttpclient._core import RequestTemplate
from geventhttpclient._internal.raw_body import PIECE
from geventhttpclient._internal.timeouts import RequestTimeouts
from geventhttpclient._internal.validation import without_zone
from geventhttpclient.adapters.urllib3.errors import phase_of
from geventhttpclient.adapters.urllib3.response import EngineResponse
from geventhttpclient.header import Headers

if TYPE_CHECKING:
    from urllib3.util.url import Url

    from geventhttpclient._core import IdleGroup
    from geventhttpclient.adapters.urllib3.routes import Engine, Route

_USER_AGENT = f"python-urllib3/{__version__}"


class HTTPConnection:
    """A connection of a pool, which is opened by the first request, and reopened if necessary. With a `size` above 1 it
    represents as many connections, which the engine manages.

    It is visible in exceptions and as `response.connection`. It has no socket.
    """

    default_port: ClassVar[int] = 80
    default_socket_options: Any = _TheirConnection.default_socket_options
    sock = None

    def __init__(self, pool: Any, route: Route, size: int = 1) -> None:
        """Takes the pool, and the route to its origin."""
        self.host: str = pool.host
        self.port: int = self.default_port if pool.port is None else pool.port
        self.timeout: Any = pool.timeout.connect_timeout
        self.proxy: Url | None = pool.proxy
        self.proxy_config: Any = pool.proxy_config
        self.blocksize: int = pool.conn_kw.get("blocksize") or 16384
        self.source_address: tuple[str, int] | None = pool.conn_kw.get("source_address")
        self.socket_options: Any = pool.conn_kw.get("socket_options")
        self.is_verified: bool = route.verifies
        self.proxy_is_verified: bool | None = route.verifies_proxy
        self.has_connected_to_proxy: bool = False
        self.is_by_socks: bool = route.socks is not None
        self._route = route
        self._size = size
        self._engine: Engine | None = None
        # The group that limits its idle connections together with those of others, if it represents several.
        self._idle_group: IdleGroup | None = None
        self._is_tunnel = False
        self._wire: EngineResponse | None = None
        name = f"[{without_zone(self.host)}]" if ":" in self.host else self.host.rstrip(".")
        self._authority = name if self.port == self.default_port else f"{name}:{self.port}"
        # The scheme of the origin is never sent, unless the target is in absolute form.
        self._origin = f"http://{self._authority}"
        # The last template for each way to frame the body, and the origin and form that it is for.
        self._templates: dict[str | None, tuple[str, bool, RequestTemplate]] = {}

    def __str__(self) -> str:
        return f"{type(self).__name__}(host={self.host!r}, port={self.port!r})"

    def __repr__(self) -> str:
        return f"<{self} at {id(self):#x}>"

    @property
    def is_closed(self) -> bool:
        """True if there is no connection."""
        return self._engine is None

    @property
    def is_connected(self) -> bool:
        """True if the next request may use it: false only while the body of a response is unread. A connection that the
        peer has closed is replaced by the next request."""
        return self._wire is None or not self._wire._is_attached()

    def connect(self) -> None:
        """Does nothing, since the request connects."""

    def close(self) -> None:
        """Closes the connection, even if a response has not been read."""
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
    ) -> EngineResponse:
        """Sends a request, and returns its response when the head has been received. Raises the engine's errors."""
        self._wire = None
        origin, is_absolute = self._origin, not url.startswith("/")
        if is_absolute:
            origin, url = _split(url)
        lines: Any = headers or None
        if headers and SKIP_HEADER in headers.values():
            lines = _without_skipped(headers)
        if body is not None and not isinstance(body, (bytes, str)):
            pieces, length = body_to_chunks(body, method, self.blocksize)
            body = pieces if length is None else bytes(memoryview(body))
        framing = None
        if chunked:
            framing = "Transfer-Encoding"
        elif body is None and method.upper() not in _BODILESS:
            framing = "Content-Length"
        engine = self._engine
        is_tunnel = self.proxy is not None and not is_absolute
        if engine is None or is_tunnel is not self._is_tunnel:
            self.close()
            engine = self._engine = self._route.dial(is_tunnel, self._size)
            if self._idle_group is not None:
                engine._join(self._idle_group)
            self._is_tunnel = is_tunnel
        wire = engine._exchange(
            self._template(origin, is_absolute, framing),
            EngineResponse,
            method,
            url,
            body,
            lines,
            # The wait for a free connection has the same limit as the wait for a new one.
            RequestTimeouts(connect_timeout, read_timeout, connect_timeout),
        )
        self.has_connected_to_proxy = self.proxy is not None
        if self._size == 1 and wire._is_attached():
            self._wire = wire
        return wire

    def _template(self, origin: str, is_absolute: bool, framing: str | None) -> RequestTemplate:
        """Returns the template for an origin, with one of the fields for the framing of a body, or none."""
        kept = self._templates.get(framing)
        if kept is not None and kept[0] == origin and kept[1] is is_absolute:
            return kept[2]
        host = origin.partition("://")[2]
        fields = {"Host": host, "Accept-Encoding": "identity", "User-Agent": _USER_AGENT}
        if framing is not None:
            fields[framing] = _FRAMING[framing]
        proxy = (True, None) if is_absolute else None
        template = RequestTemplate(fields, None, [origin], "HTTP/1.1", proxy, PIECE, Headers)
        self._templates[framing] = (origin, is_absolute, template)
        return template

    def note_failure(self, error: Exception, found: Exception) -> None:
        """Determines if a failed request has passed the proxy: `error` is the engine's error, `found` is urllib3's.

        A connection that is closed before a response is attributed to the proxy, even if the origin closed it.
        """
        proxy, phase = self.proxy, phase_of(error)
        if proxy is not None:
            is_refused = phase == "proxy" and getattr(error, "status", None) is not None
            is_tls = phase == "tls" and (not self._is_tunnel or getattr(error, "peer", None) == self._route.proxy_place)
            is_here = phase in ("resolve", "connect") or is_refused or is_tls or isinstance(found, ConnectionError)
            self.has_connected_to_proxy = not is_here


class HTTPSConnection(HTTPConnection):
    """A connection over TLS: see HTTPConnection."""

    default_port: ClassVar[int] = 443


_FRAMING = {"Content-Length": "0", "Transfer-Encoding": "chunked"}

# Methods whose requests have no Content-Length if they have no body.
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "TRACE", "OPTIONS", "CONNECT"})


def _without_skipped(headers: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns the lines, with None for fields that are marked with urllib3's SKIP_HEADER."""
    for name, value in headers.items():
        if value == SKIP_HEADER and str(name).lower() not in SKIPPABLE_HEADERS:
            raise ValueError(f"SKIP_HEADER is for {', '.join(sorted(SKIPPABLE_HEADERS))}, not for {name!r}")
    return [(name, None if value == SKIP_HEADER else value) for name, value in headers.items()]


def _split(url: str) -> tuple[str, str]:
    """Returns origin and target of an absolute URL."""
    scheme, _, rest = url.partition("://")
    cut = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    authority, target = rest[:cut], rest[cut:]
    return f"{scheme}://{without_zone(authority.rpartition('@')[2])}", target if target.startswith(
        "/"
    ) else f"/{target}"
