"""The time that each step of a request took: `response.timings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geventhttpclient._core import ResponseBase

__all__ = ["Timings"]


@dataclass(frozen=True)
class Timings:
    """The times of one request, as far as they are known when they are read. All times are in seconds.

    `pool`, the steps of the dial, `send`, `first_byte` and `download` are consecutive and add up to `total`, except for
    the gaps between them: some microseconds, or the waits of a resolver's greenlet. A step that did not occur is None:
    the steps of the dial if the connection was reused, `resolve` for a Unix domain socket, `proxy` without a proxy.

    If a request was sent again because a kept-alive connection had broken, all the time before that counts as `pool`. A
    redirected request is several requests, each with its own timings (`response.history`).
    """

    pool: float = 0.0
    """Wait for a pool slot, or for a connection that another request opens."""
    resolve: float | None = None
    """Time to resolve the host's name."""
    connect: float | None = None
    """Time to connect to one of the addresses."""
    proxy: float | None = None
    """Time for everything that a proxy did for the connection: TLS with the proxy, and the tunnel."""
    tls: float | None = None
    """Time of the TLS handshake with the origin."""
    send: float = 0.0
    """Time to write the request, including waits for its body."""
    first_byte: float = 0.0
    """Time from then until the head of the response had been received."""
    download: float | None = None
    """Time from then until the last byte of the body; None until that has been received."""
    total: float | None = None
    """Time from the call to the last byte of the body; None until that has been received."""
    reused: bool = False
    """Whether the connection was open already."""
    bytes_sent: int = 0
    """Bytes of head and body that were sent, including their framing and excluding the overhead of TLS. Over HTTP/2,
    fields count with their size in HTTP/1.1, and frames without their headers."""
    bytes_received: int = 0
    """Bytes of the response received so far, counted in the same way, before the content coding is decoded."""
    protocol: str = ""
    """`HTTP/1.1`, `HTTP/1.0` or `HTTP/2`."""
    peer: tuple[str, int] | str | None = None
    """The peer, which is the proxy if there is one: (address, port), or the path of a Unix domain socket."""


def timings_of(message: ResponseBase) -> Timings:
    """Returns the timings of a response; the defaults if it has no head."""
    known = message._timings()
    if known is None:
        return Timings()
    pool, resolve, connect, proxy, tls, send, first_byte, download, total, reused, out, back, peer = known
    dial = (resolve, connect, proxy, tls)
    protocol = message.get_http_version()
    return Timings(pool, *dial, send, first_byte, download, total, reused, out, back, protocol, peer)
