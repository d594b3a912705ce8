"""Reading the body of a response piece by piece, by the engine or by the program's own methods."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent

from geventhttpclient import _core

__all__ = ["LINE_END", "READ_SIZE", "cooperative", "lines", "pieces", "read_available", "reads_by_engine"]

# Size of one read from a response whose class overrides reading, unless the caller gives a size.
READ_SIZE = 8192

# Most bytes of one read by the engine, which returns fewer if fewer have been received.
_AVAILABLE = 64 * 1024

# Most bytes of decoded pieces between two turns of other greenlets.
_TURN = 1 << 20


def reads_by_engine(response: Any) -> bool:
    """Returns True if the engine reads the body of a response, and not the `read()` of a subclass, a test or a mock."""
    return getattr(type(response), "read", None) is _core.ResponseBase.read and "read" not in response.__dict__


def read_available(response: Any, most: int) -> bytes:
    """Returns the next bytes of a body: those that are available if the engine reads it."""
    data: bytes = response._read_available(most) if reads_by_engine(response) else response.read(most)
    return data


def pieces(known: Callable[[], Any]) -> Iterator[bytes]:
    """Yields the rest of a body without decoding it, each piece as soon as it was received.

    `known` returns the response. It may be a weak reference, for an iterator that the response itself keeps.
    """
    most = _AVAILABLE if reads_by_engine(known()) else READ_SIZE
    while data := read_available(known(), most):
        yield data


def cooperative(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the same pieces, and lets other greenlets run after each MiB: a few bytes may decode to many."""
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size >= _TURN:
            size = 0
            gevent.sleep(0)


LINE_END = re.compile(b"\r\n|\n|\r")


def lines(pieces: Iterator[Any], delimiter: Any, ends: re.Pattern[Any], carriage: Any) -> Iterator[Any]:
    """Yields the lines of a body, in bytes or text, without the ends that match `ends`, or with `delimiter` as the only
    end. `carriage` is a CR of the same type."""
    if delimiter is not None:
        ends = re.compile(re.escape(delimiter))
    # A line end may begin in one piece and continue in the next.
    overlap = 1 if delimiter is None else len(delimiter) - 1
    nothing = carriage[:0]
    waiting: list[Any] = []
    before = nothing
    for piece in pieces:
        waiting.append(piece)
        seen = before + piece
        if ends.search(seen) is None:
            before = seen[len(seen) - overlap :] if len(seen) > overlap else seen
            continue  # joins a long line once, when its end was received
        text = nothing.join(waiting)
        # A CR at the end may be half of CR LF: it is kept for the next piece.
        keep = carriage if delimiter is None and text[-1:] == carriage else nothing
        *lines, rest = ends.split(text[: len(text) - len(keep)])
        rest += keep
        waiting = [rest] if rest else []
        before = rest[len(rest) - overlap :] if len(rest) > overlap else rest
        yield from lines
    rest = nothing.join(waiting)
    if rest:
        yield rest[:-1] if delimiter is None and rest[-1:] == carriage else rest
