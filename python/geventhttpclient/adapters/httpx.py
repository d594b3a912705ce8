"""Transport for the package httpx: its clients use this engine instead of httpcore.

    with httpx.Client(transport=Transport()) as client:
        client.get("https://example.org/")

Everything else is httpx's own. No monkey patching is needed: other greenlets run while a request waits.
"""

from __future__ import annotations

from geventhttpclient.adapters._transport import PackageStream, PackageTransport

try:
    import httpx
except ImportError as _error:
    raise ImportError("geventhttpclient.adapters.httpx needs the package httpx: pip install httpx") from _error

__all__ = ["Transport"]


class _Stream(PackageStream, httpx.SyncByteStream):
    """A response's body."""

    _package = httpx


class Transport(PackageTransport, httpx.BaseTransport):
    """Transport of a `httpx.Client`, with a pool of kept-alive connections for each origin.

    Any number of greenlets may share a client with this transport.
    """

    _package = httpx
    _core_package = "httpcore"
    _stream = _Stream
