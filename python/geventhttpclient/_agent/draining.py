"""Draining: reads the rest of a body that the caller does not use, so that the connection can be reused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from geventhttpclient._internal.reading import reads_by_engine
from geventhttpclient._parser import HTTPParseError

if TYPE_CHECKING:
    from geventhttpclient._agent.response import CompatResponse

__all__ = ["DRAINED_BYTES", "DRAINED_SECONDS", "drain"]

# Most bytes to drain from the body of an intermediate response (a redirect, or one before a retry), so that the
# connection can be reused. Draining a larger body costs more than a new connection.
DRAINED_BYTES = 64 * 1024

# Timeout in seconds for draining: the connection is closed if the peer is slower, even if it sends steadily.
DRAINED_SECONDS = 1.0


def drain(response: CompatResponse) -> None:
    """Makes the connection ready for the next request if that is cheap. Keeps the bytes read for the caller."""
    inner = response._response
    if not reads_by_engine(inner):
        response.release()
        return
    try:
        if (inner.content_length or 0) <= DRAINED_BYTES:
            with gevent.Timeout(DRAINED_SECONDS, False):  # type: ignore[arg-type]
                body = inner.read(DRAINED_BYTES)
                response._hold(b"" if inner._is_attached() else response._held() + body)
    except (OSError, HTTPParseError):
        pass  # the caller does not use this body, so that its errors do not matter
    finally:
        inner.release()
