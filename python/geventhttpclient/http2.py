"""HTTP/2 (RFC 9113): its errors. It is spoken with `http2=True` of HTTPClient, UserAgent, Session and httpx.Client."""

from __future__ import annotations

import builtins
from enum import IntEnum
from typing import Any

from geventhttpclient import compat_errors
from geventhttpclient._checks import check_seconds

__all__ = ["ErrorCode", "HTTP2Error"]

PRIOR_KNOWLEDGE = "prior-knowledge"


class ErrorCode(IntEnum):
    """Why a stream or a connection was ended (RFC 9113 section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class HTTP2Error(compat_errors.ConnectionError, builtins.ConnectionError):
    """The peer has ended a stream (RST_STREAM) or the connection (GOAWAY), or has broken the rules of HTTP/2.

    The text says which. A malformed response is an error of its own request; the others on the connection go on.
    `code` is an ErrorCode, or an int where RFC 9113 knows none; `last_stream` the last stream that the peer may have
    looked at, where it has said so by GOAWAY. `phase`, `peer` and `elapsed` as on every error. What was not looked at
    has been sent again already, where that could be done.

    Both geventhttpclient.useragent.ConnectionError and the built-in of that name, so that it is an OSError as what the
    network raises is.
    """

    code: ErrorCode | int
    last_stream: int | None
    phase: str
    peer: str | None
    elapsed: float | None

    def __init__(self, text: str, code: int = ErrorCode.NO_ERROR, last_stream: int | None = None) -> None:
        """`code` is a number of RFC 9113 section 7, `last_stream` what a GOAWAY said, None without one."""
        builtins.ConnectionError.__init__(self, text)
        self.text = text
        self.kw_text = ""
        self.url: None = None
        self.code = ErrorCode(code) if code in ErrorCode.__members__.values() else code
        self.last_stream = last_stream

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text, int(self.code), self.last_stream), self.__dict__


def check_http2(http2: Any, ping_interval: float | None) -> tuple[bool, float | None] | None:
    """What the engine is told: whether the peer is known to speak it, and the seconds between pings; None for never."""
    if http2 not in (True, False, None, PRIOR_KNOWLEDGE):
        raise ValueError(f"http2 must be True, False or {PRIOR_KNOWLEDGE!r}, not {http2!r}")
    interval = check_seconds("http2_ping_interval", ping_interval)
    if interval == 0:
        raise ValueError("http2_ping_interval must be more than 0 seconds, or None for never")
    return (http2 == PRIOR_KNOWLEDGE, interval) if http2 else None
