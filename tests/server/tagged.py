"""Tagged messages: each body carries the number of its request, and a digest over all of it.

A target is `/KIND/NUMBER/WORDS/SIZE/SUM`: the kind of response, the number, the framing (words joined by `-`), the
number of filling bytes, and a checksum of the rest, so that a target that was damaged in transit is rejected and never
answered with another number's body.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from hashlib import blake2b

# 251 is prime: bytes that are lost or doubled at a power of two shift everything after them.
FILLING = bytes(range(251)) * 4200
DIGEST_BYTES = 16

# No request has this number: a client that delivers it has delivered unsolicited bytes.
POISON = 0


@dataclass(frozen=True)
class Target:
    """Target of a request."""

    kind: str
    number: int
    words: tuple[str, ...] = ("counted",)
    size: int = 0

    def __str__(self) -> str:
        text = f"/{self.kind}/{self.number}/{'-'.join(self.words)}/{self.size}"
        return f"{text}/{zlib.crc32(text.encode()):08x}"

    @classmethod
    def parse(cls, text: str) -> Target | None:
        """Parses a target. Returns None if it is not a target, or was damaged."""
        rest, _, checksum = text.rpartition("/")
        parts = rest.split("/")
        if len(parts) != 5 or f"{zlib.crc32(rest.encode()):08x}" != checksum:
            return None
        return cls(parts[1], int(parts[2]), tuple(parts[3].split("-")), int(parts[4]))


def mark(number: int, size: int) -> bytes:
    """Returns the body of that number, with at most a megabyte of filling."""
    text = b"%d:" % number + FILLING[number % 251 : number % 251 + size]
    return text + b":" + _digest(text)


def read_mark(body: bytes) -> int | None:
    """Returns the number in a body; None if it is not, byte for byte, a body that `mark` has made."""
    text, colon, digest = body[: -DIGEST_BYTES - 1], body[-DIGEST_BYTES - 1 : -DIGEST_BYTES], body[-DIGEST_BYTES:]
    if colon != b":" or digest != _digest(text):
        return None
    return int(text.partition(b":")[0])


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=DIGEST_BYTES // 2).hexdigest().encode()
