"""HTTP/2 (RFC 9113): its errors. HTTPClient, UserAgent, Session and httpx.Client use it if `http2=True` is passed."""

from __future__ import annotations

from typing import Any

from geventhttpclient._internal.validation import check_seconds
from geventhttpclient.exceptions import ErrorCode, HTTP2Error

__all__ = ["ErrorCode", "HTTP2Error"]

PRIOR_KNOWLEDGE = "prior-knowledge"


def check_http2(http2: Any, ping_interval: float | None) -> tuple[bool, float | None] | None:
    """Returns the engine's settings: True if the peer is known to support HTTP/2, and the seconds between pings (None
    for no pings). Returns None if HTTP/2 is disabled."""
    if http2 not in (True, False, None, PRIOR_KNOWLEDGE):
        raise ValueError(f"http2 must be True, False or {PRIOR_KNOWLEDGE!r}, not {http2!r}")
    interval = check_seconds("http2_ping_interval", ping_interval)
    if interval == 0:
        raise ValueError("http2_ping_interval must be more than 0 seconds, or None for no pings")
    return (http2 == PRIOR_KNOWLEDGE, interval) if http2 else None
