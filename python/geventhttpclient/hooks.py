"""Hooks: functions of the program that a client calls for each request, response, error and new connection.

    def stamp(request):
        request.headers["X-Request-Id"] = uuid4().hex

    def report(request, response):
        log.info("%s %s: %s", request.method, request.url, response.status_code)

    client = HTTPClient("api.example.org", ssl=True, on_request=stamp, on_response=report)

- `on_request(request)` is called before a request is sent, and may change its header fields. If it raises an error, the
  request raises that error, and nothing is sent.
- `on_response(request, response)` is called after the head of the response has been received. If it raises an error,
  the response is closed, and the request raises that error.
- `on_error(request, error)` is called when the request raises any exception, including a GreenletExit, a gevent.Timeout
  or an error of another hook. If it raises an error itself, that replaces the first one, also for the hooks after it.
- `on_connection(connection)` is called after a connection was opened for a request, before its `on_response` or
  `on_error`. It is not called if a kill or a gevent.Timeout has ended the request in the meantime.

All hooks are called in the greenlet of the request, and may wait. Each redirect and each retry of a UserAgent is a
request of its own; a request that the client repeats transparently on another connection is not.

Requests that other libraries send through this package (httplib, and the adapters for requests, httpx and urllib3) call
no hooks: those libraries have hooks and instrumentations of their own.
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
    "HookOrHooks",
    "Hooks",
    "OnConnection",
    "OnError",
    "OnRequest",
    "OnResponse",
    "Request",
    "add_default",
    "remove_default",
]


@dataclass(eq=False)
class Request:
    """A request that is about to be sent."""

    method: str
    """The method, as it will be sent."""
    url: str
    """The absolute URL, without user and password."""
    headers: Headers = field(repr=False)
    """The headers of the request, before the client's defaults are added. Changes to them are sent."""
    state: dict[str, Any] = field(default_factory=dict)
    """Data of the hooks, shared by all hooks of the request."""


@dataclass(frozen=True)
class Connection:
    """A connection that was opened. Times are in seconds; the time of a step that did not occur is None."""

    host: str
    """The origin's name or address."""
    port: int
    """The origin's port."""
    protocol: str
    """`HTTP/1.1` or `HTTP/2`."""
    peer: tuple[str, int] | str | None
    """The peer, which is the proxy if there is one: (address, port), or the path of a Unix domain socket."""
    tls: TLSInfo | None
    """The result of the TLS handshake; None for plain http."""
    resolve: float | None
    """Time to resolve the host's name."""
    connect: float | None
    """Time to connect to one of the addresses."""
    proxy: float | None
    """Time for everything that a proxy did for the connection: TLS with the proxy, and the tunnel."""
    tls_handshake: float | None
    """Time of the TLS handshake with the origin."""


OnRequest = Callable[[Request], object]
"""Hook that is called before a request is sent."""
OnResponse = Callable[[Request, "HTTPSocketPoolResponse"], object]
"""Hook that is called after the head of a response has been received."""
OnError = Callable[[Request, BaseException], object]
"""Hook that is called when a request raises an exception."""
OnConnection = Callable[[Connection], object]
"""Hook that is called after a connection was opened."""

_Hook = TypeVar("_Hook", bound=Callable[..., object])
HookOrHooks: TypeAlias = _Hook | Sequence[_Hook] | None
"""The type of a client's hook arguments: a function, a sequence of them, or None."""


class Hooks:
    """The hooks of one client."""

    def __init__(
        self,
        on_request: HookOrHooks[OnRequest] = None,
        on_response: HookOrHooks[OnResponse] = None,
        on_error: HookOrHooks[OnError] = None,
        on_connection: HookOrHooks[OnConnection] = None,
    ) -> None:
        """Takes a function, a sequence of functions or None for each. Raises TypeError, which names the argument, for
        anything else."""
        self.on_request: tuple[OnRequest, ...] = _hooks_of("on_request", on_request)
        self.on_response: tuple[OnResponse, ...] = _hooks_of("on_response", on_response)
        self.on_error: tuple[OnError, ...] = _hooks_of("on_error", on_error)
        self.on_connection: tuple[OnConnection, ...] = _hooks_of("on_connection", on_connection)

    def with_defaults(self) -> Hooks:
        """Returns these hooks nested in the default hooks: the defaults are called first for a request, and last for
        its response, error or connection."""
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
        """Returns True if there is any hook."""
        return bool(self.on_request or self.on_response or self.on_error or self.on_connection)

    def run(
        self,
        request: Request,
        origin: tuple[str, int],
        exchange: Callable[[Headers, list[_Opened] | None], HTTPSocketPoolResponse],
    ) -> HTTPSocketPoolResponse:
        """Calls `exchange` with the headers and a list for new connections, and the hooks before and after it; returns
        its response."""
        try:
            return self._run(request, origin, exchange)
        except BaseException as error:
            _call_error_hooks(self.on_error, request, error)
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
            self._call_connection_hooks(origin, opened)
            raise
        try:
            self._call_connection_hooks(origin, opened)
            for end in self.on_response:
                end(request, response)
        except BaseException:
            response.release()
            raise
        return response

    def _call_connection_hooks(self, origin: tuple[str, int], opened: list[_Opened] | None) -> None:
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
            for hook in self.on_connection:
                hook(connection)


_defaults: list[Hooks] = []


def add_default(hooks: Hooks) -> None:
    """Adds hooks to every client that is created from now on."""
    _defaults.append(hooks)


def remove_default(hooks: Hooks) -> None:
    """Removes hooks that `add_default` added, for clients that are created from now on. Raises ValueError for hooks
    that were not added."""
    _defaults.remove(hooks)


def _call_error_hooks(hooks: tuple[OnError, ...], request: Request, error: BaseException) -> None:
    """Calls every hook, even if those before it raise an error: a hook may have to end what it began with the
    request."""
    for place, fail in enumerate(hooks, 1):
        try:
            fail(request, error)
        except BaseException as worse:
            _call_error_hooks(hooks[place:], request, worse)
            raise


def _hooks_of(name: str, hooks: HookOrHooks[_Hook]) -> tuple[_Hook, ...]:
    if hooks is None:
        return ()
    several: tuple[Any, ...] = (hooks,) if callable(hooks) else tuple(hooks) if isinstance(hooks, Sequence) else (None,)
    for hook in several:
        if not callable(hook):
            raise TypeError(f"{name} must be a function or a sequence of them, not {hooks!r}")
    return several
