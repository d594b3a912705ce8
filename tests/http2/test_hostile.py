"""HTTP/2 peers that break the protocol: each causes a clear error soon, and the next request uses a new connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from geventhttpclient.http2 import HTTP2Error
from geventhttpclient.response import HTTPConnectionClosed
from tests.support.certificates import Certificates
from tests.support.http2_peer import (
    COMPRESSION_ERROR,
    ENABLE_PUSH,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PROTOCOL_ERROR,
    GoAwayFrame,
    Talk,
    frame,
    serve_targets,
    talking,
    talking_securely,
)
from tests.support.hub import attempt, until
from tests.support.peer import Conn, Peer
from tests.support.tls import check_failure, check_whole

pytestmark = pytest.mark.usefixtures("bounded")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
MOST = 2**31 - 1


def setting(name: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, name.to_bytes(2, "big") + value.to_bytes(4, "big"))


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


STATUS_200 = b"\x88"  # of HPACK's static table

# The bytes sent in response to the request of stream 1, and the connection's error code (RFC 9113 sections 4 to 6).
BAD_FRAMES: dict[str, tuple[bytes, int]] = {
    "DATA of no stream": (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "HEADERS of no stream": (frame(HEADERS, END_HEADERS, 0, STATUS_200), PROTOCOL_ERROR),
    "PRIORITY of no stream": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL_ERROR),
    "RST_STREAM of no stream": (frame(RST_STREAM, 0, 0, number(8)), PROTOCOL_ERROR),
    "CONTINUATION of no stream": (frame(CONTINUATION, END_HEADERS, 0, STATUS_200), PROTOCOL_ERROR),
    "SETTINGS of a stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "PING of a stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "GOAWAY of a stream": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "DATA of an idle stream": (frame(DATA, 0, 99, b"x"), PROTOCOL_ERROR),
    "HEADERS of an idle stream": (frame(HEADERS, END_HEADERS, 99, STATUS_200), PROTOCOL_ERROR),
    "RST_STREAM of an idle stream": (frame(RST_STREAM, 0, 99, number(8)), PROTOCOL_ERROR),
    "WINDOW_UPDATE of an idle stream": (frame(WINDOW_UPDATE, 0, 99, number(8)), PROTOCOL_ERROR),
    "HEADERS of the peer's own": (frame(HEADERS, END_HEADERS, 2, STATUS_200), PROTOCOL_ERROR),
    "DATA of the peer's own": (frame(DATA, 0, 2, b"x"), PROTOCOL_ERROR),
    "SETTINGS cut short": (frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "SETTINGS acknowledged at length": (frame(SETTINGS, 1, 0, bytes(6)), FRAME_SIZE_ERROR),
    "PING cut short": (frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "PING too long": (frame(PING, 0, 0, bytes(9)), FRAME_SIZE_ERROR),
    "GOAWAY cut short": (frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE cut short": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
    "RST_STREAM cut short": (frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
    "PRIORITY cut short": (frame(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE_ERROR),
    "DATA too long": (frame(DATA, 0, 1, bytes(1 << 20)), FRAME_SIZE_ERROR),
    "HEADERS said to be too long": (frame(HEADERS, 0, 1, b"", length=(1 << 24) - 1), FRAME_SIZE_ERROR),
    "a push turned on": (setting(ENABLE_PUSH, 1), PROTOCOL_ERROR),
    "a push turned on after others": (
        frame(SETTINGS, 0, 0, bytes([0, 3, 0, 0, 0, 9, 0, ENABLE_PUSH, 0, 0, 0, 1])),
        PROTOCOL_ERROR,
    ),
    "a push turned on in another way": (setting(ENABLE_PUSH, 2), PROTOCOL_ERROR),
    "a window too large": (setting(INITIAL_WINDOW_SIZE, MOST + 1), FLOW_CONTROL_ERROR),
    "frames too small": (setting(MAX_FRAME_SIZE, 100), PROTOCOL_ERROR),
    "frames too large": (setting(MAX_FRAME_SIZE, 1 << 24), PROTOCOL_ERROR),
    "a window of nothing more": (frame(WINDOW_UPDATE, 0, 0, number(0)), PROTOCOL_ERROR),
    "a window that overflows": (frame(WINDOW_UPDATE, 0, 0, number(MOST)) * 2, FLOW_CONTROL_ERROR),
    "DATA that is all padding and more": (
        frame(HEADERS, END_HEADERS, 1, STATUS_200) + frame(DATA, PADDED, 1, b"\x09" + bytes(8)),
        PROTOCOL_ERROR,
    ),
    "HEADERS that are all padding and more": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09\x88"), PROTOCOL_ERROR),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1, STATUS_200), PROTOCOL_ERROR),
    "HEADERS not continued": (frame(HEADERS, 0, 1, STATUS_200) + frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
    "HEADERS interrupted by empty DATA": (
        frame(HEADERS, 0, 1, STATUS_200) + frame(DATA, 0, 1) + frame(CONTINUATION, END_HEADERS, 1),
        PROTOCOL_ERROR,
    ),
    "HEADERS interrupted by empty DATA of another stream": (
        frame(HEADERS, 0, 1, STATUS_200) + frame(DATA, 0, 3) + frame(CONTINUATION, END_HEADERS, 1),
        PROTOCOL_ERROR,
    ),
    "HEADERS interrupted by HEADERS": (frame(HEADERS, 0, 1, STATUS_200) * 2, PROTOCOL_ERROR),
    "HEADERS interrupted by PING": (frame(HEADERS, 0, 1, STATUS_200) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    "trailers interrupted by empty DATA": (
        frame(HEADERS, END_HEADERS, 1, STATUS_200)
        + frame(HEADERS, END_STREAM, 1, b"\0\x01a\x01b")
        + frame(DATA, 0, 1)
        + frame(CONTINUATION, END_HEADERS, 1),
        PROTOCOL_ERROR,
    ),
    "empty DATA of no stream": (frame(DATA, 0, 0), PROTOCOL_ERROR),
    "empty DATA of an idle stream": (frame(DATA, 0, 99), PROTOCOL_ERROR),
    "empty DATA of the peer's own": (frame(DATA, 0, 2), PROTOCOL_ERROR),
    "HEADERS too short for their padding": (frame(HEADERS, END_HEADERS | PADDED, 1), FRAME_SIZE_ERROR),
    "HEADERS too short for their priority": (frame(HEADERS, END_HEADERS | 0x20, 1, bytes(4)), FRAME_SIZE_ERROR),
    "malformed HEADERS of an idle stream": (frame(HEADERS, END_HEADERS, 99, b"\x84"), PROTOCOL_ERROR),
    "malformed HEADERS of no stream": (frame(HEADERS, END_HEADERS, 0, b"\x84"), PROTOCOL_ERROR),
    "HEADERS continued elsewhere": (
        frame(HEADERS, 0, 1, STATUS_200) + frame(CONTINUATION, END_HEADERS, 3, b""),
        PROTOCOL_ERROR,
    ),
    "HEADERS interrupted": (frame(HEADERS, 0, 1, STATUS_200) + frame(0xBE, 0, 1, b""), PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, number(2) + STATUS_200), PROTOCOL_ERROR),
    "PUSH_PROMISE not whole": (frame(PUSH_PROMISE, 0, 1, number(2) + STATUS_200), PROTOCOL_ERROR),
    "PUSH_PROMISE of an idle stream": (frame(PUSH_PROMISE, END_HEADERS, 99, number(2) + STATUS_200), PROTOCOL_ERROR),
}

# Blocks that are not valid HPACK (RFC 7541).
BAD_BLOCKS = {
    "no index": b"\x80",
    "an index beyond the table": b"\xff\xff\xff\x7f",
    "an index without end": b"\xff" + b"\xff" * 20,
    "a name cut short": b"\x40\x0a" + b"ab",
    "a value cut short": b"\x40\x01a\x0a" + b"ab",
    "Huffman padded with zeroes": b"\x40\x81\x00\x01a",
    "Huffman with its end of string": b"\x40\x84\xff\xff\xff\xff\x01a",
    "Huffman padded with too much": b"\x40\x82\x1f\xff\x01a",
    "a table that is too large": b"\x3f\xe1\xff\xff\x7f" + STATUS_200,
    "a table resized in the middle": STATUS_200 + b"\x20",
}


def fail(say: Callable[[Talk], object], *, secure: Certificates | None = None) -> tuple[BaseException, int]:
    """Returns the error of a request with that response, and the port. The next request must succeed."""

    def script(talk: Talk) -> None:
        talk.start()
        assert talk.read_request().stream == 1
        with suppress(OSError):
            say(talk)
        while request := talk.read_request():  # if that was only an error of the stream
            talk.respond(request, b"/next")

    start = talking_securely(secure, script, serve_targets) if secure else talking(script, serve_targets)
    with start as (peer, client), gevent.Timeout(10):
        outcome = attempt(lambda: client.post("/", b"x").read())
        assert client.get("/next").read() == b"/next"
        check_whole(client)
        assert isinstance(outcome, BaseException), outcome
        return outcome, peer.port


def fail_unread(say: Callable[[Talk], object]) -> tuple[BaseException, int]:
    """Like `fail`, but the response is read only after the peer has sent everything or was disconnected."""

    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        with suppress(OSError):
            say(talk)
        said.set()
        while request := talk.read_request():
            talk.respond(request, b"/next")

    said = Event()
    with talking(script, serve_targets) as (peer, client), gevent.Timeout(10):
        response = client.post("/", b"x")
        assert said.wait(10)
        began = time.monotonic()
        outcome = attempt(response.read)
        assert time.monotonic() - began < 5
        assert isinstance(outcome, BaseException)
        assert client.get("/next").read() == b"/next"
        return outcome, peer.port


def check(error: BaseException, code: int, port: int) -> None:
    assert isinstance(error, HTTP2Error), repr(error)
    # The error may be more specific than the code that the client has sent.
    assert error.code == code, repr(error)
    assert error.code.name in str(error)
    check_failure(error, port, "127.0.0.1", error.phase)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_invalid_frames_end_the_connection(name: str) -> None:
    said, code = BAD_FRAMES[name]
    error, port = fail(lambda talk: talk.send(said))
    check(error, code, port)


@pytest.mark.parametrize(
    "said",
    [
        frame(WINDOW_UPDATE, 0, 1, number(MOST)) * 2,
        frame(WINDOW_UPDATE, 0, 1, number(MOST - 65_535)) + setting(INITIAL_WINDOW_SIZE, MOST),
    ],
)
def test_window_overflow_during_an_upload_ends_the_connection(said: bytes) -> None:
    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start()
        talk.read_head()
        talk.send(said)
        talk.wait_closed()

    with talking(script, serve_targets, concurrency=2) as (peer, client):
        with pytest.raises(HTTP2Error) as caught:
            client.post("/", bytes(100_000))
        check(caught.value, FLOW_CONTROL_ERROR, peer.port)
        check_whole(client)


def fail_all(said: bytes, code: int) -> None:
    """Checks that all requests fail with that error, the peer gets its code, and the next request succeeds."""

    def script(talk: Talk) -> None:
        talk.start()
        requests = talk.read_requests(1)
        talk.respond(requests[0])
        assert sorted(request.stream for request in talk.read_requests(2)) == [3, 5]
        talk.send(said)
        told.append(talk.expect(GoAwayFrame).error_code)

    told: list[int] = []
    with talking(script, serve_targets, concurrency=2) as (peer, client):
        assert client.get("/").read() == b"ok"
        failing = [gevent.spawn(attempt, lambda: client.post("/", b"x").read()) for _ in range(2)]
        gevent.joinall(failing)
        for request in failing:
            check(request.value, code, peer.port)
        assert client.get("/next").read() == b"/next"
        check_whole(client)
        until(lambda: told or peer.errors)
    assert told == [code]


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_frames_that_break_the_rules_are_answered_by_goaway(name: str) -> None:
    said, code = BAD_FRAMES[name]
    fail_all(said, code)


@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_undecodable_header_blocks_are_answered_by_goaway(name: str) -> None:
    fail_all(frame(HEADERS, END_HEADERS, 3, BAD_BLOCKS[name]), COMPRESSION_ERROR)


@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_invalid_hpack_ends_the_connection(name: str) -> None:
    error, port = fail(lambda talk: talk.block(1, BAD_BLOCKS[name]))
    check(error, COMPRESSION_ERROR, port)


def test_data_beyond_the_window_ends_the_connection() -> None:
    def say(talk: Talk) -> None:
        talk.headers(1, [(":status", "200")])
        for _ in range(100):
            talk.data(1, bytes(1 << 20))

    error, port = fail_unread(say)
    check(error, FLOW_CONTROL_ERROR, port)


@pytest.mark.parametrize("said", [frame(DATA, 0, 1, b"x"), frame(HEADERS, END_HEADERS, 1, STATUS_200)])
def test_frames_after_the_end_do_not_affect_the_response(said: bytes) -> None:
    """The response was complete and is kept. The connection may end or continue; the next request succeeds."""

    def script(talk: Talk) -> None:
        talk.start()
        talk.respond(talk.read_request(), b"whole")
        talk.send(said)
        while request := talk.read_request():
            talk.respond(request, b"next")

    with talking(script) as (_, client):
        assert client.get("/").read() == b"whole"
        assert client.get("/").read() == b"next"
        check_whole(client)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        b"\x00" * 9,
        b"\xff" * 100,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        frame(PING, 0, 0, bytes(8)),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, STATUS_200),
        frame(SETTINGS, 1, 0),
        b"",
    ],
)
def test_peer_without_settings_is_an_error(said: bytes) -> None:
    """The first frame must be SETTINGS (section 3.4)."""

    def script(talk: Talk) -> None:
        talk.credit = False
        talk.read_preface()
        talk.read_request()
        talk.send(said)

    with talking(script, serve_targets) as (_, client), gevent.Timeout(5):
        outcome = attempt(lambda: client.post("/", b"x"))
        assert isinstance(outcome, HTTP2Error if said else HTTPConnectionClosed), outcome
        assert client.get("/next").read() == b"/next"
        check_whole(client)


def test_goaway_with_a_higher_last_stream_is_a_protocol_error() -> None:
    """Section 6.8: the last stream must not increase."""

    def say(talk: Talk) -> None:
        talk.goaway(1)
        talk.goaway(MOST)

    error, port = fail(say)
    check(error, PROTOCOL_ERROR, port)


def test_invalid_frames_over_tls_end_the_connection(certificates: Certificates) -> None:
    error, _ = fail(lambda talk: talk.send(frame(PING, 0, 1, bytes(8))), secure=certificates)
    assert isinstance(error, HTTP2Error)
    assert error.code == PROTOCOL_ERROR


def silent_faces(url: str) -> dict[str, Callable[[], object]]:
    options: dict[str, Any] = {"http2": "prior-knowledge", "connection_timeout": 0.2, "network_timeout": 0.2}
    return {
        "HTTPClient": lambda: HTTPClient.from_url(url, **options).get("/"),
        "UserAgent": lambda: UserAgent(max_retries=0, **options).urlopen(url),
        "Session": lambda: Session(**options).get(url),
        "httpx": lambda: httpx.Client(timeout=0.2, http1=False, http2=True).get(url),
    }


@pytest.mark.parametrize("face", silent_faces(""))
def test_http2_server_that_sends_no_settings_is_a_timeout(face: str) -> None:
    def listen(conn: Conn) -> None:
        while conn.sock.recv(65536):
            pass

    with Peer(listen) as peer, pytest.raises(TimeoutError):
        silent_faces(peer.url)[face]()
