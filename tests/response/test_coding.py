"""Decoding of content codings: output of the encoders that servers use, in pieces, damaged, and beyond the limits."""

from __future__ import annotations

import gzip
import importlib
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from geventhttpclient import HTTPClient
from geventhttpclient._core import Decoder, decode
from tests.conftest import Nginx
from tests.support.hub import run
from tests.support.requirements import missing

TEXT = b"".join(b'{"id": %d, "name": "user %d"}\n' % (i, i * 7919 % 1000) for i in range(2000))


def package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"the package {name}")


def deflated(data: bytes, window_bits: int = 15, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    encoder = zlib.compressobj(level, zlib.DEFLATED, window_bits, strategy=strategy)
    return encoder.compress(data) + encoder.flush()


def brotli(data: bytes) -> bytes:
    body: bytes = package("brotli").compress(data)
    return body


def zstd(data: bytes) -> bytes:
    body: bytes = package("zstandard").compress(data)
    return body


def zstd_without_length(data: bytes) -> bytes:
    encoder = package("zstandard").ZstdCompressor(write_checksum=True).compressobj()
    body: bytes = encoder.compress(data) + encoder.flush()
    return body


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip, two members": ("x-gzip", lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:])),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", lambda data: deflated(data, -15)),
    "br": ("br", brotli),
    "zstd": ("zstd", zstd),
    "zstd without length": ("zstd", zstd_without_length),
    "zstd, two frames": ("zstd", lambda data: zstd(data[:99]) + zstd(data[99:])),
    "gzip, then br": ("gzip, br", lambda data: brotli(gzip.compress(data))),
    "zstd, then gzip": ("zstd, GZIP", lambda data: gzip.compress(zstd(data))),
}
EACH = pytest.mark.parametrize("encoder", ENCODERS)


def in_pieces(coding: str, body: bytes, size: int, limit: int | None = None) -> bytes:
    decoder = Decoder(coding, limit)
    pieces = [decoder.feed(body[i : i + size]) for i in range(0, len(body), size)]
    return b"".join(pieces) + decoder.finish()


@EACH
@pytest.mark.parametrize("data", [b"", b"x", TEXT, random.Random(1).randbytes(300_000)], ids=len)
def test_output_of_encoders_is_decoded(encoder: str, data: bytes) -> None:
    coding, encode = ENCODERS[encoder]
    body = encode(data)
    assert decode(coding, body) == data
    for size in (1, 1460, 65536) if len(body) < 20_000 else (1460, 65536):
        assert in_pieces(coding, body, size) == data


@pytest.mark.parametrize("wrapping", [16, 0, -1], ids=["gzip", "zlib", "bare"])
def test_every_kind_of_deflate_is_decoded(wrapping: int) -> None:
    coding = "gzip" if wrapping == 16 else "deflate"
    strategies = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)
    for bits in (9, 12, 15):
        for level in (0, 1, 6, 9):
            for strategy in strategies:
                body = deflated(TEXT, -bits if wrapping == -1 else bits + wrapping, level, strategy)
                assert decode(coding, body) == TEXT
                assert in_pieces(coding, body, 1000) == TEXT


def test_gzip_header_with_all_fields_is_decoded() -> None:
    extra, name, comment = b"\x04\x00abcd", b"page.html\0", b"made by hand\0"
    head = b"\x1f\x8b\x08\x1e" + bytes(6) + extra + name + comment
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little")
    body = head + deflated(TEXT, -15) + zlib.crc32(TEXT).to_bytes(4, "little") + len(TEXT).to_bytes(4, "little")
    assert decode("gzip", body) == gzip.decompress(body) == TEXT
    assert in_pieces("gzip", body, 1) == TEXT


def test_damaged_body_has_the_same_result_as_with_zlib() -> None:
    body = zlib.compress(TEXT[:3000])
    verdicts = []
    for seed in range(500):
        chance = random.Random(seed)
        damaged = bytearray(body)
        # The first byte determines the kind of deflate.
        damaged[chance.randrange(1, len(body))] ^= 1 << chance.randrange(8)
        results = []
        for function in (zlib.decompress, lambda data: decode("deflate", data)):
            try:
                results.append(function(bytes(damaged)))
            except zlib.error:
                results.append(None)
        assert results[0] == results[1], f"by seed {seed}"
        verdicts.append(results[0])
    assert verdicts.count(None) > 450


@EACH
def test_truncated_body_is_an_error(encoder: str) -> None:
    coding, encode = ENCODERS[encoder]
    body = encode(TEXT)[:-1]
    decoder = Decoder(coding)
    assert TEXT.startswith(decoder.feed(body))
    for function in (decoder.finish, lambda: decode(coding, body)):
        with pytest.raises(zlib.error, match=r"^(gzip|deflate|br|zstd): the body ends before the stream does$"):
            function()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, br", "compress", "identity", ""])
def test_empty_body_is_accepted(coding: str) -> None:
    assert decode(coding, b"") == b""
    decoder = Decoder(coding)
    assert decoder.finish() == b""
    assert decoder.feed(b"") == decoder.finish() == b""


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_bodies_with_a_wrong_coding_raise(coding: str) -> None:
    page = b"<html>never compressed</html>"
    with pytest.raises(zlib.error, match=f"^{coding}: .") as raised:
        decode(coding, page)
    decoder = Decoder(coding)
    for function in (lambda: decoder.feed(page), lambda: decoder.feed(b"more"), decoder.finish):
        with pytest.raises(zlib.error) as again:
            function()
        assert str(again.value) == str(raised.value)


def test_bytes_behind_a_gzip_member_are_ignored() -> None:
    body = gzip.compress(TEXT)
    for behind in (b"\r\n", bytes(512), b"\x1f", b"<!-- cached -->"):
        assert decode("gzip", body + behind) == in_pieces("gzip", body + behind, 100) == TEXT
    with pytest.raises(zlib.error):
        decode("gzip", body + body[:20])


def test_unknown_coding_is_an_error() -> None:
    body = gzip.compress(b"coded once more than we know")
    decoder = Decoder("gzip, Aes128GCM")
    assert decoder.unknown == "Aes128GCM"
    assert decoder.feed(body) is body
    assert decoder.finish() == b""
    assert decode("gzip, Aes128GCM", body) is body
    assert Decoder("gzip, br").unknown is None


@EACH
def test_limit_exceeded_is_an_error(encoder: str) -> None:
    coding, encode = ENCODERS[encoder]
    body = encode(TEXT)
    assert decode(coding, body, limit=len(TEXT)) == in_pieces(coding, body, 100, len(TEXT)) == TEXT
    for limit in (len(TEXT) - 1, 0):
        with pytest.raises(zlib.error, match=f"more than the {limit} bytes that are allowed"):
            decode(coding, body, limit)
        with pytest.raises(zlib.error, match=f"more than the {limit} bytes that are allowed"):
            in_pieces(coding, body, 100, limit)


def test_wrong_length_is_an_error() -> None:
    body = gzip.compress(TEXT)
    for length in (0, 1, len(TEXT) - 1, len(TEXT) + 1, 5 * len(TEXT)):
        with pytest.raises(zlib.error, match="incorrect length check"):
            decode("gzip", body[:-4] + length.to_bytes(4, "little"))


def test_arguments_invalid_are_rejected() -> None:
    body = gzip.compress(TEXT)
    for data in (bytearray(body), memoryview(body), memoryview(body + b"x")[:-1]):
        assert decode("gzip", data) == Decoder("gzip").feed(data) == TEXT
    for wrong in ("text", None, 3):
        with pytest.raises(TypeError):
            decode("gzip", wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Decoder("gzip").feed(wrong)  # type: ignore[arg-type]
    for function in (lambda limit: Decoder("gzip", limit), lambda limit: decode("gzip", body, limit)):
        with pytest.raises(ValueError, match="limit must not be negative"):
            function(-1)
    with pytest.raises(TypeError):
        Decoder(b"gzip")  # type: ignore[arg-type]
    with pytest.raises(zlib.error, match="Content-Encoding: 6 codings, and at most 5"):
        Decoder(", ".join(["gzip"] * 6))


@EACH
@pytest.mark.parametrize("most", [1, 1000, 1 << 20])
def test_parts_have_the_requested_size(encoder: str, most: int) -> None:
    coding, encode = ENCODERS[encoder]
    content = TEXT[:5000] + bytes(100_000)
    body, decoder, parts, at = encode(content), Decoder(coding), [], 0
    while not parts or len(parts[-1]) == most:
        part, at = decoder.feed_part(body, at, most)
        assert len(part) <= most
        parts.append(part)
    assert b"".join(parts) == content
    assert (at, decoder.finish()) == (len(body), b"")


def test_decoder_holds_at_most_one_part() -> None:
    run("coding.parts").clean()


def test_decoding_of_bombs_takes_little_memory() -> None:
    run("coding.flat").clean()


@pytest.fixture
def real(nginx: Nginx) -> Iterator[HTTPClient]:
    with closing(HTTPClient.from_url(nginx.url)) as client:
        yield client


def test_gzip_of_nginx_is_decoded(nginx: Nginx, real: HTTPClient) -> None:
    (nginx.root / "lines").write_bytes(TEXT * 20)
    headers = {"Accept-Encoding": "gzip"}

    response = real.get("/gzip/lines", headers=headers)
    assert decode(response["content-encoding"], response.read()) == TEXT * 20

    with real.get("/gzip/lines", headers=headers) as response:
        decoder, pieces = Decoder(response["content-encoding"]), []
        while piece := response.read(1000):
            pieces.append(decoder.feed(piece))
        pieces.append(decoder.finish())
    assert b"".join(pieces) == TEXT * 20
    assert sum(1 for piece in pieces if piece) > 5
