"""Decoding of content codings in streamed bodies."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from geventhttpclient._core import Decoder

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ACCEPT_ENCODING", "PIECE", "DecodedBody", "decoded", "decoded_pieces"]

ACCEPT_ENCODING = "gzip, deflate, br, zstd"
"""The content codings that the engine decodes, as the value of Accept-Encoding."""

# Most bytes of a piece. A few bytes that a peer has crafted may decode to gigabytes.
PIECE = 1 << 20


def decoded(decoder: Decoder, data: bytes) -> Iterator[bytes]:
    """Yields the decoded form of the next bytes of a body, in pieces that are produced on demand and not empty.

    Raises zlib.error if the body is not valid in its coding, or exceeds the limits of the decoder.
    """
    at, more = 0, True
    while more:
        piece, at = decoder.feed_part(data, at, PIECE)
        more = len(piece) == PIECE
        if piece:
            yield piece


# Most bytes of one read, which returns fewer if fewer have been received.
_READ = 64 * 1024


def decoded_pieces(pieces: Iterable[bytes], content_encoding: str | None) -> Iterator[bytes]:
    """Yields the decoded form of a body that arrives in pieces, each as soon as possible.

    Raises zlib.error if the body is not valid in its coding, or exceeds the limits of the decoder.
    """
    if not content_encoding:
        yield from pieces
        return
    decoder = None
    for piece in pieces:
        # Created for the first byte: an empty body has no coding, even if the header names one.
        decoder = decoder or Decoder(content_encoding)
        yield from decoded(decoder, piece)
    if decoder is not None:
        decoder.finish()


class DecodedBody(io.RawIOBase):
    """A file that reads a body and decodes its content coding; `io.BufferedReader` adds lines and exact sizes.

    Raises zlib.error if the body is not valid in its coding, and again on each further read: such a body must never
    appear to be complete.
    """

    def __init__(self, read: Callable[[int], bytes], content_encoding: str, begun: bytes = b"") -> None:
        """Takes a function `read(n)`, which returns at most n bytes of the encoded body and b"" at its end, and the
        bytes `begun`, which were read before."""
        super().__init__()
        self._read = read
        self._content_encoding = content_encoding
        self._decoder: Decoder | None = None
        self._coded = begun
        self._at = 0
        # Whether more can be decoded without another read.
        self._has_more = bool(begun)
        self._error: Exception | None = None

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Decodes the next bytes into `buffer`, and waits only until there are any. Returns their number, 0 at the
        end."""
        target = memoryview(buffer).cast("B")
        piece = self._next(len(target))
        target[: len(piece)] = piece
        return len(piece)

    def readall(self) -> bytes:
        """Decodes the rest of the body."""
        return b"".join(iter(lambda: self._next(PIECE), b""))

    def _next(self, most: int) -> bytes:
        while True:
            if self._has_more and (piece := self._decode(most)):
                return piece
            self._coded, self._at = self._read(_READ), 0
            self._has_more = bool(self._coded)
            if not self._has_more:
                return b"" if self._decoder is None else self._decoder.finish()

    def _decode(self, most: int) -> bytes:
        if self._error is not None:
            raise self._error
        try:
            # Created for the first byte: an empty body has no coding, even if the header names one.
            self._decoder = self._decoder or Decoder(self._content_encoding)
            piece, self._at = self._decoder.feed_part(self._coded, self._at, most)
        except (zlib.error, ValueError) as error:
            self._error = error
            raise
        self._has_more = len(piece) == most
        return piece
