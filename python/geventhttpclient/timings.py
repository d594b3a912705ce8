"""How long a request took, step by step: `response.timings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geventhttpclient._core import Message

__all__ = ["Timings"]


@dataclass(frozen=True)
class Timings:
    """The course of one request, as it is known when it is asked for. All times are in seconds.

    `pool`, the steps of the dial, `send`, `first_byte` and `download` follow one another and add up to `total`, but for
    what lies between them: some microseconds, or the waits of a resolver's greenlet. A step that did not take place is
    None: those of the dial where the connection was reused, `resolve` for a Unix domain socket, `proxy` without one.

    A request that was sent again, since a kept-alive connection had broken, counts all before that as `pool`; one that
    was redirected is several requests, each with timings of its own (`response.history`).
    """

    pool: float = 0.0
    """Waiting for a free place in the pool, or for a connection that another request opens."""
    resolve: float | None = None
    """Turning the host's name into addresses."""
    connect: float | None = None
    """Connecting to one of them."""
    proxy: float | None = None
    """All that a proxy did for the connection: TLS with it, and the tunnel."""
    tls: float | None = None
    """The TLS handshake with the origin."""
    send: float = 0.0
    """Writing the request, with what its body waited for."""
    first_byte: float = 0.0
    """From then until the head of the response had come."""
    download: float | None = None
    """From then until the last byte of the body had come; None until then, and where that never came."""
    total: float | None = None
    """From the call to the last byte of the body; None until then, and where that never came."""
    reused: bool = False
    """Whether the connection was there already."""
    bytes_sent: int = 0
    """Bytes of head and body with their framing, as they went out, without TLS's own. By HTTP/2 the fields count as
    they are written in HTTP/1.1, and frames without their headers."""
    bytes_received: int = 0
    """The same of the response, as far as it has come: below content codings."""
    protocol: str = ""
    """`HTTP/1.1`, `HTTP/1.0` or `HTTP/2`."""
    peer: tuple[str, int] | str | None = None
    """Whom the connection leads to, a proxy where there is one: (address, port), or a Unix domain socket's path."""


def timings_of(message: Message) -> Timings:
    """Those of a response; nothing but zeros where it has no head."""
    known = message._timings()
    if known is None:
        return Timings()
    pool, resolve, connect, proxy, tls, send, first_byte, download, total, reused, out, back, peer = known
    dial = (resolve, connect, proxy, tls)
    protocol = message.get_http_version()
    return Timings(pool, *dial, send, first_byte, download, total, reused, out, back, protocol, peer)
