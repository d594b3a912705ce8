"""Functions of the program's that a client calls: with each request, response, error and new connection.

    def stamp(request):
        request.headers["X-Request-Id"] = uuid4().hex

    def report(request, response):
        log.info("%s %s: %s", request.method, request.url, response.status_code)

    client = HTTPClient("api.example.org", ssl=True, on_request=stamp, on_response=report)

- `on_request(request)` is called before a request is sent, and may change its header fields. What it raises comes out
  of the request, and nothing is sent.
- `on_response(request, response)` is called once the response's head is there. What it raises closes the response, and
  comes out of the request.
- `on_error(request, error)` is called when the request raises, whatever that is: a GreenletExit, a gevent.Timeout, or
  what another hook has raised. What it raises itself takes the place of the error, for those that follow as well.
- `on_connection(connection)` is called after a connection was opened for a request, before its `on_response` or
  `on_error`; not when a kill or a gevent.Timeout has ended the request meanwhile.

All are called in the greenlet of the request, and may wait. Each redirect, and each new attempt of a UserAgent, is a
request by itself; what the client repeats silently on another connection is not.

What other libraries send through this package (httplib, and the adapters for requests, httpx and urllib3) calls none:
those have hooks, and instrumentations, of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from geventhttpclient.header import Headers
from geventhttpclient.tls import TLSInfo

if TYPE_CHECKING:
    from geventhttpclient._core import _Opened
    from geventhttpclient.response import HTTPSocketPoolResponse

__all__ = [
    "Connection",
    "Hooks",
    "OnConnection",
    "OnError",
    "OnRequest",
    "OnResponse",
    "Request",
    "Several",
    "add_default",
    "remove_default",
]


@dataclass(eq=False)
class Request:
    """A request that is about to be sent."""

    method: str
    """As it will be sent."""
    url: str
    """Absolute, without user and password."""
    headers: Headers = field(repr=False)
    """Those of the request, before the client's defaults are added. What is changed here is sent so."""
    state: dict[str, Any] = field(default_factory=dict)
    """Of the hooks' own: what one of them leaves here, the others find."""


@dataclass(frozen=True)
class Connection:
    """A connection that was opened. Times are in seconds; a step that did not take place is None."""

    host: str
    """The origin's name or address."""
    port: int
    """The origin's port."""
    protocol: str
    """`HTTP/1.1` or `HTTP/2`."""
    peer: tuple[str, int] | str | None
    """Whom it leads to, a proxy where there is one: (address, port), or the path of a Unix domain socket."""
    tls: TLSInfo | None
    """What the TLS handshake has come to; None for plain http."""
    resolve: float | None
    """Turning the host's name into addresses."""
    connect: float | None
    """Connecting to one of them."""
    proxy: float | None
    """All that a proxy did for it."""
    tls_handshake: float | None
    """The TLS handshake with the origin."""


OnRequest = Callable[[Request], object]
"""Called before a request is sent."""
OnResponse = Callable[[Request, "HTTPSocketPoolResponse"], object]
"""Called once a response's head is there."""
OnError = Callable[[Request, BaseException], object]
"""Called when a request raises."""
OnConnection = Callable[[Connection], object]
"""Called after a connection was opened."""

_Hook = TypeVar("_Hook", bound=Callable[..., object])
Several: TypeAlias = _Hook | Sequence[_Hook] | None
"""What a client takes for each of its hooks."""


class Hooks:
    """Those of one client."""

    def __init__(
        self,
        on_request: Several[OnRequest] = None,
        on_response: Several[OnResponse] = None,
        on_error: Several[OnError] = None,
        on_connection: Several[OnConnection] = None,
    ) -> None:
        """Each a function, a sequence of them, or None. TypeError for anything else, naming it."""
        self.on_request: tuple[OnRequest, ...] = _several("on_request", on_request)
        self.on_response: tuple[OnResponse, ...] = _several("on_response", on_response)
        self.on_error: tuple[OnError, ...] = _several("on_error", on_error)
        self.on_connection: tuple[OnConnection, ...] = _several("on_connection", on_connection)

    def with_defaults(self) -> Hooks:
        """These, between the defaults: those are the first to see a request, and the last to see what it comes to."""
        if not _defaults:
            return self
        each = [*_defaults, self]
        back = each[::-1]
        return Hooks(
            [hook for hooks in each for hook in hooks.on_request],
            [hook for hooks in back for hook in hooks.on_response],
            [hook for hooks in back for hook in hooks.on_error],
            [hook for hooks in back for hook in hooks.on_connection],
        )

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.on_request or self.on_response or self.on_error or self.on_connection)

    def run(
        self,
        request: Request,
        origin: tuple[str, int],
        exchange: Callable[[Headers, list[_Opened] | None], HTTPSocketPoolResponse],
    ) -> HTTPSocketPoolResponse:
        """What `exchange` comes to, which is given the fields and where to note new connections."""
        try:
            return self._run(request, origin, exchange)
        except BaseException as error:
            _tell_error(self.on_error, request, error)
            raise

    def _run(
        self,
        request: Request,
        origin: tuple[str, int],
        exchange: Callable[[Headers, list[_Opened] | None], HTTPSocketPoolResponse],
    ) -> HTTPSocketPoolResponse:
        for begin in self.on_request:
            begin(request)
        opened: list[_Opened] | None = [] if self.on_connection else None
        try:
            response = exchange(request.headers, opened)
        except Exception:
            self._tell_connections(origin, opened)
            raise
        try:
            self._tell_connections(origin, opened)
            for end in self.on_response:
                end(request, response)
        except BaseException:
            response.release()
            raise
        return response

    def _tell_connections(self, origin: tuple[str, int], opened: list[_Opened] | None) -> None:
        for (resolve, connect, proxy, tls_handshake, peer), facts, http2 in opened or ():
            connection = Connection(
                *origin,
                protocol="HTTP/2" if http2 else "HTTP/1.1",
                peer=peer,
                tls=None if facts is None else TLSInfo(*facts),
                resolve=resolve,
                connect=connect,
                proxy=proxy,
                tls_handshake=tls_handshake,
            )
            for tell in self.on_connection:
                tell(connection)


_defaults: list[Hooks] = []


def add_default(hooks: Hooks) -> None:
    """Has every client that is made from now on call these, too."""
    _defaults.append(hooks)


def remove_default(hooks: Hooks) -> None:
    """Undoes that, for clients that are made from now on. ValueError for hooks that were not added."""
    _defaults.remove(hooks)


def _tell_error(hooks: tuple[OnError, ...], request: Request, error: BaseException) -> None:
    """Calls each, whatever those before it raise: it may have something to end that was begun with the request."""
    for place, fail in enumerate(hooks, 1):
        try:
            fail(request, error)
        except BaseException as worse:
            _tell_error(hooks[place:], request, worse)
            raise


def _several(name: str, hooks: Several[_Hook]) -> tuple[_Hook, ...]:
    if hooks is None:
        return ()
    several: tuple[Any, ...] = (hooks,) if callable(hooks) else tuple(hooks) if isinstance(hooks, Sequence) else (None,)
    for hook in several:
        if not callable(hook):
            raise TypeError(f"{name} must be a function or a sequence of them, not {hooks!r}")
    return several
