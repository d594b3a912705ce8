"""Content codings, taken off bodies that are streamed."""

from __future__ import annotations

from collections.abc import Iterator

from geventhttpclient._core import Decoder

__all__ = ["PIECE", "decoded"]

# Bytes of a piece at most. The few bytes that have come may have been made to decode to gigabytes.
PIECE = 1 << 20


def decoded(decoder: Decoder, data: bytes) -> Iterator[bytes]:
    """What the next bytes of a body decode to, in pieces that are made when they are asked for; none is empty.

    zlib.error for a body that is not coded as it says, or grows beyond what the decoder allows.
    """
    at, more = 0, True
    while more:
        piece, at = decoder.feed_part(data, at, PIECE)
        more = len(piece) == PIECE
        if piece:
            yield piece
