"""HTTP/2 uploads: flow control by the peer (RFC 9113 section 5.2), and early responses."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Pool

from geventhttpclient import HTTPClient
from tests.conftest import PAGE
from tests.support.certificates import Certificates
from tests.support.http2_peer import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INITIAL_WINDOW_SIZE,
    NO_ERROR,
    REFUSED_STREAM,
    WINDOW,
    DataFrame,
    HeadersFrame,
    Request,
    Talk,
    frame,
    played,
    serve_targets,
    talking,
)
from tests.support.http2_servers import Http2Nginx, Nghttpd
from tests.support.hub import turn, until
from tests.support.tls import check_failure, check_whole, client_of, opened, trusting

pytestmark = pytest.mark.usefixtures("bounded")

MIB = 1 << 20


def pieces_of(content: bytes) -> Iterator[bytes]:
    return (content[at : at + 1000] for at in range(0, len(content), 1000))


def knowing(talk: Talk) -> Request:
    """Returns the head of the second request, whose client knows the peer's settings, since it has got a response."""
    first = talk.read_request()
    talk.read_head()
    talk.respond(first)
    return talk.read_head()


KINDS = ("bytes", "pieces", "file")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[[str, bytes], Any]]:
    """Creates a body of that kind."""
    with ExitStack() as files:

        def make(kind: str, content: bytes) -> Any:
            if kind == "file":
                path = tmp_path / "body"
                path.write_bytes(content)
                return files.enter_context(path.open("rb"))
            return content if kind == "bytes" else pieces_of(content)

        yield make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 10, 1000, 20_000])
def test_upload_respects_the_window(window: int, kind: str, made: Callable[[str, bytes], Any]) -> None:
    content = bytes(itertools.islice(itertools.cycle(range(251)), min(100 * window, 200_000)))

    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start({INITIAL_WINDOW_SIZE: window})
        request = knowing(talk)
        while not request.ended:
            size = len(talk.expect(DataFrame, request.stream).data)
            assert size <= window
            if size and not request.ended:
                talk.window(request.stream, size)
                talk.window(0, size)
        assert request.body == content
        talk.respond(request)

    with talking(script) as (peer, client):
        client.get("/").read()
        assert client.post("/", made(kind, content)).read() == b"ok"
        played(peer)


def test_long_upload_with_many_small_window_updates_completes() -> None:
    """There are more of them than the limit of frames without progress, but these make progress."""
    steps = 6000

    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start({INITIAL_WINDOW_SIZE: 100})
        request = knowing(talk)
        while not request.ended:
            size = len(talk.expect(DataFrame, request.stream).data)
            if not request.ended:
                talk.send(
                    frame(8, 0, request.stream, size.to_bytes(4, "big")) + frame(8, 0, 0, size.to_bytes(4, "big"))
                )
        talk.respond(request, b"%d" % len(request.body))

    with talking(script) as (_, client):
        client.get("/").read()
        assert client.put("/", b"x" * 100 * steps).read() == b"%d" % (100 * steps)


def test_window_may_become_negative() -> None:
    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start({INITIAL_WINDOW_SIZE: 1000})
        request = knowing(talk)
        while len(request.body) < 1000:
            talk.read_frame()
        talk.tell({INITIAL_WINDOW_SIZE: 0})  # the window is -1000
        talk.window(request.stream, 1000)  # the window is 0
        talk.expect_alive()
        assert len(request.body) == 1000
        talk.window(request.stream, 500)
        while len(request.body) < 1500:
            talk.read_frame()
        talk.expect_alive()
        assert len(request.body) == 1500
        talk.tell({INITIAL_WINDOW_SIZE: 10_000})
        talk.respond(talk.read_request(), b"%d" % len(request.body))

    with talking(script) as (peer, client):
        client.get("/").read()
        assert client.post("/", b"x" * 5000).read() == b"5000"
        played(peer)


def test_uploads_share_the_window_of_a_connection() -> None:
    def script(talk: Talk) -> None:
        talk.start({INITIAL_WINDOW_SIZE: MIB})
        for request in talk.read_requests(20):
            talk.respond(request, b"%d" % len(request.body))
        talk.wait_closed()

    with talking(script) as (_, client):
        assert Pool(20).map(lambda _: client.post("/", b"x" * 300_000).read(), range(20)) == [b"300000"] * 20
        assert opened(client) == 1


def test_waiting_upload_does_not_block_others() -> None:
    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start()
        talk.tell({INITIAL_WINDOW_SIZE: 100})
        stuck = talk.read_head()
        for _ in range(10):
            talk.respond(talk.read_request())
        talk.window(stuck.stream, MIB)
        talk.window(0, MIB)
        talk.respond(talk.read_request(), b"%d" % len(stuck.body))

    with talking(script) as (_, client):
        upload = gevent.spawn(lambda: client.post("/", b"x" * 200_000).read())
        until(lambda: client.statistics()["streams"] == 1)
        turn()
        assert [client.get("/").read() for _ in range(10)] == [b"ok"] * 10
        assert upload.get(timeout=5) == b"200000"


def test_upload_source_is_read_only_as_fast_as_the_peer_accepts() -> None:
    made = 0

    def pieces() -> Iterator[bytes]:
        nonlocal made
        for _ in range(20_000):
            made += 10_000
            yield bytes(10_000)

    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start()
        talk.read_head()
        until(lambda: made >= WINDOW)
        turn(50)
        ahead.append(made)
        go_on.set()

    ahead: list[int] = []
    go_on = Event()
    with talking(script) as (_, client):
        upload = gevent.spawn(client.post, "/", pieces())
        go_on.wait(10)
        upload.kill()
    assert ahead[0] <= 4 * MIB


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", ["network_timeout", "total_timeout"])
def test_upload_without_window_times_out(limit: str, kind: str, made: Callable[[str, bytes], Any]) -> None:
    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start()
        request = talk.read_head()
        talk.expect_reset(request, CANCEL)
        talk.respond(talk.read_request(), b"next")

    with talking(script) as (peer, client):
        began = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            client.post("/", made(kind, b"x" * 300_000), **{limit: 0.1})
        assert 0.09 <= time.monotonic() - began < 2
        check_failure(caught.value, peer.port, "127.0.0.1", "send")
        assert client.get("/").read() == b"next"
        played(peer)
        check_whole(client)


# ---------------------------------------------------------------- a response before the end of the upload


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [NO_ERROR, CANCEL, None])
def test_early_response_is_returned(code: int | None, kind: str, made: Callable[[str, bytes], Any]) -> None:
    """RFC 9113 section 8.1: NO_ERROR requests to stop without an error. A peer may use another code, or not stop."""

    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start()
        request = talk.read_head()
        talk.respond(request, b"no need", 401)
        if code is not None:
            talk.reset(request, code)
        talk.credit = True
        talk.window(0, WINDOW)
        request = talk.read_request()
        while request.method != "GET":
            request = talk.read_request()
        talk.respond(request, b"next")
        talk.wait_closed()

    with talking(script) as (peer, client):
        response = client.post("/", made(kind, b"x" * 300_000), network_timeout=1)
        assert (response.status_code, response.read()) == (401, b"no need")
        assert client.get("/").read() == b"next"
        assert len(peer.conns) == 1
        check_whole(client)


def test_early_response_of_a_real_server_is_returned(nghttpd: Callable[..., Nghttpd]) -> None:
    """The server accepts the rest of the request, too."""
    with closing(
        HTTPClient("127.0.0.1", nghttpd("--early-response", tls=False).port, http2="prior-knowledge")
    ) as client:
        for _ in range(3):
            assert client.post("/page", b"x" * 2_000_000).read() == PAGE
        assert opened(client) == 1
        check_whole(client)


def test_nginx_answers_a_body_that_is_too_large(http2_nginx: Http2Nginx, certificates: Certificates) -> None:
    with client_of(http2_nginx.ports["tls"], ssl_options=trusting(certificates), http2=True) as client:
        for _ in range(3):
            response = client.post("/small", b"x" * 1_000_000)
            assert response.status_code == 413
            assert b"Too Large" in response.read()
        check_whole(client)


def test_upload_refused_in_the_middle_is_sent_again() -> None:
    def refusing(talk: Talk) -> None:
        talk.credit = False
        talk.start()
        request = talk.read_head()
        talk.reset(request, REFUSED_STREAM)
        talk.credit = True
        talk.window(0, WINDOW)
        serve(talk)

    def serve(talk: Talk) -> None:
        while request := talk.read_request():
            talk.respond(request, b"%d" % len(request.body))

    def other(talk: Talk) -> None:
        talk.start()
        serve(talk)

    with talking(refusing, other, concurrency=2) as (_, client):
        assert client.post("/", b"x" * 300_000).read() == b"300000"
        check_whole(client)


# ---------------------------------------------------------------- the end of a body


Frames = list[tuple[str, bytes, bool]]


def frames_of(body: Any, **options: Any) -> Frames:
    """Returns the frames of a POST: kind, data, and whether the stream ends with it."""
    found: Frames = []

    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        for came in talk.frames_of(request.stream):
            if isinstance(came, HeadersFrame | DataFrame):
                data = came.data if isinstance(came, DataFrame) else b""
                found.append((type(came).__name__, data, "END_STREAM" in came.flags))
        talk.respond(request)

    with talking(script) as (_, client):
        assert client.post("/", body, **options).read() == b"ok"
        check_whole(client)
    return found


HEAD = ("HeadersFrame", b"", False)
WHOLE_HEAD = ("HeadersFrame", b"", True)
WHOLE_BODY = [HEAD, ("DataFrame", b"body", True)]


class Pieces:
    """An iterable that is not an iterator."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)


@pytest.mark.parametrize(
    "body",
    [
        b"body",
        "body",
        bytearray(b"body"),
        memoryview(b"body"),
        io.BytesIO(b"body"),
        [b"body"],
        (b"bo", b"dy"),
        ["bo", "dy"],
        Pieces(b"b", b"o", b"d", b"y"),
    ],
    ids=lambda body: f"{type(body).__name__}",
)
def test_body_ends_with_its_last_data_frame(body: Any) -> None:
    assert frames_of(body) == WHOLE_BODY


@pytest.mark.parametrize("body", [[b"body"], [b"bo", b"dy"], io.BytesIO(b"body")])
def test_body_with_content_length_ends_with_its_last_data_frame(body: Any) -> None:
    assert frames_of(body, headers={"Content-Length": "4"}) == WHOLE_BODY


def test_body_of_a_file_ends_with_its_last_data_frame(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"body")
    with path.open("rb") as file:
        assert frames_of(file) == WHOLE_BODY


@pytest.mark.parametrize("kind", KINDS)
def test_body_of_several_frames_ends_with_the_last_of_them(kind: str, made: Callable[[str, bytes], Any]) -> None:
    content = bytes(range(256)) * 700
    [head, *data] = frames_of(made(kind, content))
    assert head == HEAD
    assert b"".join(piece for _, piece, _ in data) == content
    assert all(piece for _, piece, _ in data)
    assert [ends for _, _, ends in data] == [False] * (len(data) - 1) + [True]


@pytest.mark.parametrize("body", [b"", "", None, io.BytesIO(b"")])
def test_empty_body_ends_with_the_head(body: Any) -> None:
    headers = {"Content-Length": "0"} if isinstance(body, io.BytesIO) else {}
    assert frames_of(body, headers=headers) == [WHOLE_HEAD]


def test_empty_iterable_ends_with_an_empty_data_frame() -> None:
    """The head was sent before the iterable is read."""
    assert frames_of(iter([])) == [HEAD, ("DataFrame", b"", True)]


@pytest.mark.parametrize("body", [b"body", [b"bo", b"dy"]])
def test_body_with_trailers_ends_with_them(body: Any) -> None:
    assert frames_of(body, trailers={"X-Sum": "4"}) == [
        HEAD,
        ("DataFrame", b"body", False),
        ("HeadersFrame", b"", True),
    ]
    assert frames_of(body, trailers=dict) == WHOLE_BODY


def test_body_after_100_continue_ends_with_its_last_data_frame() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_head()
        talk.headers(request.stream, [(":status", "100")])
        data = talk.expect(DataFrame, request.stream)
        assert (data.data, "END_STREAM" in data.flags) == (b"body", True)
        talk.respond(request)

    with talking(script) as (peer, client):
        assert client.post("/", b"body", headers={"Expect": "100-continue"}).read() == b"ok"
        played(peer)


def test_piece_is_not_held_back_while_its_source_waits() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_head()
        for expected in (b"first", b"second"):
            assert talk.expect(DataFrame, request.stream).data == expected
            come.set()
        end = talk.expect(DataFrame, request.stream)
        assert (end.data, "END_STREAM" in end.flags) == (b"", True)
        talk.respond(request)

    def pieces() -> Iterator[bytes]:
        for piece in (b"first", b"second"):
            yield piece
            come.wait()
            come.clear()

    come = Event()
    with talking(script) as (peer, client):
        assert client.post("/", pieces()).read() == b"ok"
        played(peer)


def test_body_of_known_length_ends_although_its_source_waits() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        assert request.body == b"body"
        assert sum(isinstance(frame, DataFrame) for frame in talk.frames_of(request.stream)) == 1
        come.set()
        talk.respond(request)

    def pieces() -> Iterator[bytes]:
        yield b"bo"
        yield b"dy"
        come.wait()

    come = Event()
    with talking(script) as (peer, client):
        assert client.post("/", pieces(), headers={"Content-Length": "4"}).read() == b"ok"
        played(peer)


@pytest.mark.parametrize("waits", [False, True])
def test_body_longer_than_its_content_length_fails(waits: bool) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"body"
        if waits:
            turn()
        yield b"more"

    with talking(serve_targets) as (_, client):
        with pytest.raises(ValueError, match="longer"):
            client.post("/", pieces(), headers={"Content-Length": "4"})
        assert client.get("/next").read() == b"/next"
        check_whole(client)


def test_trailers_that_wait_do_not_hold_back_a_piece() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_head()
        assert talk.expect(DataFrame, request.stream).data == b"body"
        come.set()
        assert talk.read_request() is request
        assert request.trailers == [("x-sum", "4")]
        talk.respond(request)

    def trailers() -> dict[str, str]:
        come.wait()
        return {"X-Sum": "4"}

    come = Event()
    with talking(script) as (peer, client):
        assert client.post("/", b"body", trailers=trailers).read() == b"ok"
        played(peer)


def test_small_pieces_that_are_available_together_share_a_frame() -> None:
    [_, *data] = frames_of(b"x" for _ in range(40_000))
    assert [len(piece) for _, piece, _ in data] == [16_384, 16_384, 7_232]


def tomcat(talk: Talk) -> None:
    """Answers like Tomcat, which ends the connection of a client whose DATA frames are too small on average."""
    count, last = -100, 0
    talk.start()
    while True:
        for request in talk.ready_requests():
            talk.respond(request)
        came = talk.read_frame()
        if came is None:
            return
        if isinstance(came, HeadersFrame):
            count -= 20
        elif isinstance(came, DataFrame):
            count -= 20
            if "END_STREAM" not in came.flags:
                size = len(came.data)
                average = max(last // 2 + size // 2, 1)
                last = size
                if average < 1024:
                    count += 1024 // average
        if count > 0:
            talk.goaway(max(talk.requests), ENHANCE_YOUR_CALM)
            return


@pytest.mark.parametrize("kind", ["bytes", "file", "pieces", "bytewise"])
def test_small_posts_to_a_server_that_counts_small_frames_are_answered(
    kind: str, made: Callable[[str, bytes], Any]
) -> None:
    with talking(tomcat) as (_, client):
        for n in range(60):
            content = b"x" * (1 + n % 14)
            body = Pieces(*(b"x" for _ in content)) if kind == "bytewise" else made(kind, content)
            assert client.post("/", body).read() == b"ok"
        assert opened(client) == 1
