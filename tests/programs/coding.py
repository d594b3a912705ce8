"""Bodies that grow while they are decoded, and what the process comes to meanwhile."""

from __future__ import annotations

import gzip
import resource
import sys
import zlib

import pytest

from geventhttpclient._coding import decoded
from geventhttpclient._core import Decoder, decode

MIB = 1 << 20


def peak() -> int:
    """MiB that the process has had in memory at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // MIB


def flat() -> None:
    member = gzip.compress(bytes(MIB))
    before = peak()

    decoder, total = Decoder("gzip", limit=1 << 40), 0
    for _ in range(256):
        total += len(decoder.feed(member))
    decoder.finish()
    assert total == 256 * MIB
    assert peak() - before < 16, f"a stream of 256 MiB took {peak() - before} MiB"

    # 10 MB that would come to 10 GB.
    bomb = member * 10_000
    for explode in (lambda: decode("gzip", bomb), lambda: Decoder("gzip").feed(bomb)):
        with pytest.raises(zlib.error, match="67108864"):
            explode()
    assert peak() - before < 256, f"a bomb took {peak() - before} MiB"


def parts() -> None:
    """One small piece of input that comes to 96 MiB."""
    coder = zlib.compressobj(9)
    body = b"".join(coder.compress(bytes(MIB)) for _ in range(96)) + coder.flush()
    before, total = peak(), 0
    for part in decoded(Decoder("deflate", limit=1 << 40), body):
        total += len(part)
    assert total == 96 * MIB
    assert peak() - before < 16, f"parts of 96 MiB took {peak() - before} MiB"
