"""Transport for the package httpx2: its clients use this engine instead of httpcore2.

    with httpx2.Client(transport=Transport()) as client:
        client.get("https://example.org/")

Everything else is httpx2's own. No monkey patching is needed: other greenlets run while a request waits.
"""

from __future__ import annotations

from geventhttpclient.adapters._transport import PackageStream, PackageTransport

try:
    import httpx2
except ImportError as _error:
    raise ImportError("geventhttpclient.adapters.httpx2 needs the package httpx2: pip install httpx2") from _error

__all__ = ["Transport"]


class _Stream(PackageStream, httpx2.SyncByteStream):
    """A response's body."""

    _package = httpx2


class Transport(PackageTransport, httpx2.BaseTransport):
    """Transport of a `httpx2.Client`, with a pool of kept-alive connections for each origin.

    Any number of greenlets may share a client with this transport.
    """

    _package = httpx2
    _core_package = "httpcore2"
    _stream = _Stream
