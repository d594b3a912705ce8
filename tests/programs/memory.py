"""Programs with little memory left, and a peer that sends more data than fits into it."""

from __future__ import annotations

import gzip
import resource
import zlib
from collections.abc import Callable
from contextlib import closing
from typing import Any

from geventhttpclient import HTTPClient, Session, UserAgent, httplib, httpx
from geventhttpclient._core import Decoder, HTTPResponseParser, decode

MIB = 1 << 20

# Memory that is left after everything is loaded: more than any buffer of fixed size, less than the data that is sent.
LEFT = 96 * MIB


def limit(left: int = LEFT) -> None:
    """Leaves this process `left` more bytes of address space."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + left, resource.RLIM_INFINITY))


def fails(what: str, call: Callable[..., object], *arguments: Any) -> None:
    try:
        call(*arguments)
    except MemoryError:
        return
    raise AssertionError(f"{what} did not raise MemoryError")


class OwnBytes(bytes):
    """Bytes that are copied, since freeing them may run code."""


READS: dict[str, Callable[[Any], object]] = {
    "read": lambda response: response.read(),
    "read of a length": lambda response: response.read(10**12),
    "readline": lambda response: response.readline(),
    "readline of another separator": lambda response: response.readline(b"\n"),
}


def outgrown(port: str, http2: str, *targets: str) -> None:
    """Reads too large bodies in every way, with clients that are used again afterwards."""
    url = f"http://127.0.0.1:{port}"
    options: dict[str, Any] = {"http2": "prior-knowledge"} if http2 == "http2" else {}
    with (
        closing(HTTPClient("127.0.0.1", int(port), **options)) as client,
        Session(max_retries=0, **options) as session,
        UserAgent(max_retries=0, **options) as agent,
        httpx.Client(http1=not options, http2=bool(options)) as httpx_client,
    ):

        def by_httplib(target: str) -> None:
            with closing(httplib.HTTPConnection("127.0.0.1", int(port))) as connection:
                connection.request("GET", target)
                connection.getresponse().read()

        faces: dict[str, Callable[[str], object]] = {
            "Session": lambda target: session.get(url + target).content,
            "UserAgent": lambda target: agent.urlopen(url + target).content,
            "httpx": lambda target: httpx_client.get(url + target),
        }
        if not options:
            faces["httplib"] = by_httplib
        # Loads everything that is needed, and checks that it works.
        assert client.get("/small").read() == b"small"
        for face in faces.values():
            face("/small")
        limit()
        count = 0
        for target in targets:
            for name, read in READS.items():
                fails(f"{name} of {target}", read, client.get(target))
                assert client.get("/small").read() == b"small"
                count += 1
            for name, face in faces.items():
                fails(f"{name} of {target}", face, target)
                face("/small")
                count += 1
        assert client.statistics()["in_use"] == 0
    print(f"{count} reads")


def pieces(port: str, target: str, length: str) -> None:
    """A received body that does not fit into memory as a whole can still be read in pieces."""
    with closing(HTTPClient("127.0.0.1", int(port))) as client:
        client.get("/small").read()
        limit()
        response = client.get(target)
        fails("read", response.read)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        read = 0
        while piece := response.read(MIB):
            read += len(piece)
        assert read == int(length), read
        client.get("/small").read()
        assert client.statistics()["opened"] == 1
    print("done")


def decoded(*codings: str) -> None:
    """Decodes bodies that do not fit into memory, feeds the parser too much data, and sends too large bodies."""
    bombs = {coding: _encoded(coding, bytes(60 * MIB)) for coding in codings}
    for coding, bomb in bombs.items():
        assert decode(coding, bomb) == bytes(60 * MIB)
    large = bytearray(200 * MIB)
    program_bodies = {"text": "x" * (200 * MIB), "bytes of a subclass": OwnBytes(200 * MIB)}
    parser = HTTPResponseParser()
    parser.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    limit(32 * MIB)
    for coding, bomb in bombs.items():
        fails(f"decode of {coding}", decode, coding, bomb)
        fails(f"Decoder of {coding}", Decoder(coding).feed, bomb)
    fails("the parser", parser.feed, large)
    with closing(HTTPClient("127.0.0.1", 9)) as client:
        fails("a bytearray as a body", client.post, "/", large)
        for name, body in program_bodies.items():
            fails(f"{name} as a body", client.post, "/", body)
    print("done")


def _encoded(coding: str, data: bytes) -> bytes:
    if coding == "gzip":
        return gzip.compress(data, 1)
    if coding == "deflate":
        return zlib.compress(data, 1)
    if coding == "br":
        import brotli

        return bytes(brotli.compress(data, quality=1))
    import zstandard

    return zstandard.ZstdCompressor(level=1).compress(data)
