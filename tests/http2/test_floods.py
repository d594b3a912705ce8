"""HTTP/2 floods and compression bombs: each ends soon and in little memory."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import gevent
import pytest
from gevent.event import Event

from tests.http2.test_hostile import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    STATUS_200,
    WINDOW_UPDATE,
    number,
    setting,
)
from tests.support.http2_peer import Talk, frame, serve_targets, talking
from tests.support.hub import FAILURES, attempt
from tests.support.tls import check_whole

pytestmark = pytest.mark.usefixtures("bounded")

MIB = 1 << 20

# Timeout of a request, and of a whole test, in seconds.
LIMIT = 0.5
BOUND = 5

# Maximum memory of a flood in bytes, including that of the peer, which runs in the same process.
COST = 48 * MIB


def resident() -> int:
    """Returns the resident memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def literal(name: bytes, value: bytes, kind: int = 0) -> bytes:
    """Encodes a field without Huffman code, not indexed unless `kind` is another one (RFC 7541 section 6.2)."""
    return bytes([kind]) + string(name) + string(value)


def string(data: bytes) -> bytes:
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, out = len(data) - 127, b"\x7f"
    while rest >= 128:
        out += bytes([rest % 128 | 128])
        rest //= 128
    return out + bytes([rest]) + data


RESPONSE = frame(HEADERS, END_HEADERS, 1, STATUS_200)

# The bytes that are sent first, and those that are repeated.
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "SETTINGS": (b"", frame(SETTINGS, 0, 0)),
    "SETTINGS of tables": (b"", setting(1, 0) + setting(1, 4096)),
    "SETTINGS of windows": (b"", setting(4, 0) + setting(4, 65_535)),
    "SETTINGS acknowledged": (b"", frame(SETTINGS, 1, 0)),
    "PING": (b"", frame(PING, 0, 0, bytes(8))),
    "PING acknowledged": (b"", frame(PING, 1, 0, bytes(8))),
    "PRIORITY": (b"", frame(PRIORITY, 0, 1, number(0) + b"\x10")),
    "WINDOW_UPDATE": (b"", frame(WINDOW_UPDATE, 0, 1, number(1))),
    "GOAWAY": (b"", frame(GOAWAY, 0, 0, number(1) + number(0))),
    "GOAWAY with long debug data": (b"", frame(GOAWAY, 0, 0, number(1) + number(0) + bytes(16_000))),
    "nothing known": (b"", frame(0xBE, 0, 0, bytes(16_384))),
    "empty DATA": (RESPONSE, frame(DATA, 0, 1)),
    "DATA of one byte": (RESPONSE, frame(DATA, 0, 1, b"x")),
    "DATA of padding": (RESPONSE, frame(DATA, 8, 1, b"\xff" + bytes(255))),
    "empty CONTINUATION": (frame(HEADERS, 0, 1, STATUS_200), frame(CONTINUATION, 0, 1)),
    "CONTINUATION": (frame(HEADERS, 0, 1, STATUS_200), frame(CONTINUATION, 0, 1, literal(b"a", b"b" * 16_000))),
    "CONTINUATION that is never whole": (
        frame(HEADERS, 0, 1, STATUS_200 + b"\x00\x01a\x7f\xff\xff\xff\x7f"),
        frame(CONTINUATION, 0, 1, bytes(16_384)),
    ),
    "interim responses": (b"", frame(HEADERS, END_HEADERS, 1, literal(b":status", b"103"))),
    "large interim responses": (
        b"",
        frame(HEADERS, END_HEADERS, 1, literal(b":status", b"103") + literal(b"link", b"x" * 8000)),
    ),
    "RST_STREAM": (b"", frame(RST_STREAM, 0, 1, number(8))),
    "trailers": (RESPONSE, frame(HEADERS, END_HEADERS, 1, literal(b"x-a", b"b"))),
}


def flooding(first: bytes, more: bytes, stop: Event) -> Callable[[Talk], None]:
    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        talk.send(first)
        batch = more * max(1, 65_536 // len(more))
        reader = gevent.spawn(talk.wait_closed)
        try:
            with suppress(OSError):
                while not stop.is_set():
                    talk.send(batch)
                    gevent.sleep(0)
        finally:
            reader.kill()

    return script


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("read", [True, False], ids=["read", "unread"])
def test_flood_ends_with_little_memory(name: str, read: bool) -> None:
    stop = Event()
    with talking(flooding(*FLOODS[name], stop), serve_targets) as (_, client):
        before = resident()
        began = time.monotonic()

        def ask() -> object:
            response = client.post("/", b"x", total_timeout=LIMIT)
            if not read:
                gevent.sleep(LIMIT)
            return response.read()

        outcome = attempt(ask)
        grown = resident() - before
        assert isinstance(outcome, FAILURES), outcome
        assert time.monotonic() - began < BOUND
        assert grown < COST, grown
        stop.set()
        # A request on the same connection may still fail with it.
        assert any(not isinstance(attempt(lambda: client.get("/next").read()), BaseException) for _ in range(3))
        check_whole(client)


def test_interim_responses_are_bounded_while_the_client_does_not_read() -> None:
    """It does not read while the program produces the body of the request."""
    came = Event()
    field = literal(b"link", b"x" * 16_000)

    def script(talk: Talk) -> None:
        talk.start()
        talk.read_head()
        with suppress(OSError):
            for _ in range(1000):
                talk.send(frame(HEADERS, END_HEADERS, 1, literal(b":status", b"103") + field))
                gevent.sleep(0)
        came.set()
        talk.wait_closed()

    def body() -> Iterator[bytes]:
        yield b"x"
        came.wait(1)
        yield b"y"

    with talking(script, serve_targets) as (peer, client):
        before = resident()
        outcome = attempt(lambda: client.post("/", body()))
        assert isinstance(outcome, FAILURES), outcome
        assert resident() - before < 12 * MIB
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 2


def test_requests_of_other_streams_complete_during_a_flood() -> None:
    """They use the same connection, as long as the flood violates no rule."""

    def script(talk: Talk) -> None:
        talk.start()
        while request := talk.read_request():
            talk.send(frame(PING, 0, 0, bytes(8)) * 5_000)
            talk.respond(request)

    with talking(script) as (peer, client):
        for _ in range(20):
            assert client.get("/").read() == b"ok"
        assert len(peer.conns) == 1


# ---------------------------------------------------------------- compressed


def index_bomb(entry: int, times: int) -> bytes:
    """Returns a block with one large field that enters the table, and many references to it of one byte each."""
    return STATUS_200 + literal(b"x-bomb", b"x" * entry, 0x40) + b"\xbe" * times


def blocks(block: bytes, flags: int = 0) -> Iterator[bytes]:
    """Returns HEADERS and CONTINUATION frames with the block."""
    parts = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    yield frame(HEADERS, flags | (END_HEADERS if len(parts) == 1 else 0), 1, parts[0])
    for part in parts[1:]:
        yield frame(CONTINUATION, END_HEADERS if part is parts[-1] else 0, 1, part)


BOMBS = {
    "of four megabytes": index_bomb(4000, 1000),
    "of sixty-four megabytes": index_bomb(4000, 16_000),
    "of a gigabyte": index_bomb(4000, 262_144),
    "of many fields": STATUS_200 + literal(b"a", b"", 0x40) + b"\xbe" * 300_000,
    "of one field": STATUS_200 + literal(b"x-a", b"y" * 8_000_000),
    "of many names": STATUS_200 + b"".join(literal(b"x-%d" % n, b"y") for n in range(100_000)),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("where", ["head", "trailers", "interim"])
def test_hpack_bombs_end_in_little_memory(name: str, where: str) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        block, flags = BOMBS[name], 0
        if where == "trailers":
            flags = END_STREAM
            talk.send(RESPONSE)
            block = block[1:]
        elif where == "interim":
            block = literal(b":status", b"103") + block[1:]
        with suppress(OSError):
            for part in blocks(block, flags):
                talk.send(part)
        talk.wait_closed()

    with talking(script, serve_targets) as (_, client):
        before = resident()
        began = time.monotonic()
        outcome = attempt(lambda: client.post("/", b"x", total_timeout=2).read())
        assert isinstance(outcome, FAILURES), outcome
        assert not isinstance(outcome, TimeoutError), outcome
        assert time.monotonic() - began < BOUND
        assert resident() - before < COST
        assert client.get("/next").read() is not None
        check_whole(client)


# ---------------------------------------------------------------- slow


DRIPS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a head": lambda: itertools.chain(
        [frame(HEADERS, 0, 1, STATUS_200)], bytewise(frame(CONTINUATION, 0, 1, b"x" * 999))
    ),
    "a frame of no known kind": lambda: bytewise(frame(0xBE, 0, 0, bytes(999))),
    "a body": lambda: itertools.chain([RESPONSE], itertools.repeat(frame(DATA, 0, 1, b"x"))),
    "pings": lambda: itertools.repeat(frame(PING, 0, 0, bytes(8))),
    "interim responses": lambda: itertools.repeat(frame(HEADERS, END_HEADERS, 1, literal(b":status", b"103"))),
}


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


@pytest.mark.parametrize("name", DRIPS)
def test_slow_response_is_ended_by_total_timeout(name: str) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        reader = gevent.spawn(talk.wait_closed)
        try:
            for piece in DRIPS[name]():
                talk.send(piece)
                gevent.sleep(0.01)
        finally:
            reader.kill()

    with talking(script) as (_, client):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            client.get("/", total_timeout=0.2).read()
        assert 0.19 <= time.monotonic() - began < 2


def test_frames_for_other_streams_do_not_reset_network_timeout() -> None:
    """Frames for the connection or for unknown streams are no progress for a request that waits."""

    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        reader = gevent.spawn(talk.wait_closed)
        try:
            for piece in DRIPS["pings"]():
                talk.send(piece)
                gevent.sleep(0.01)
        finally:
            reader.kill()

    with talking(script) as (_, client), pytest.raises(TimeoutError):
        client.get("/", network_timeout=0.1)
