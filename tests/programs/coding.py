"""Bodies that grow when they are decoded, and the memory of the process."""

from __future__ import annotations

import gzip
import resource
import sys
import zlib

import pytest

from geventhttpclient._core import Decoder, decode
from geventhttpclient._internal.decoding import decoded

MIB = 1 << 20


def peak() -> int:
    """Returns the peak memory of the process in MiB."""
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

    # 10 MB that would expand to 10 GB.
    bomb = member * 10_000
    for explode in (lambda: decode("gzip", bomb), lambda: Decoder("gzip").feed(bomb)):
        with pytest.raises(zlib.error, match="67108864"):
            explode()
    assert peak() - before < 256, f"a bomb took {peak() - before} MiB"


def parts() -> None:
    """Decodes one small piece of input that expands to 96 MiB."""
    coder = zlib.compressobj(9)
    body = b"".join(coder.compress(bytes(MIB)) for _ in range(96)) + coder.flush()
    before, total = peak(), 0
    for part in decoded(Decoder("deflate", limit=1 << 40), body):
        total += len(part)
    assert total == 96 * MIB
    assert peak() - before < 16, f"parts of 96 MiB took {peak() - before} MiB"
