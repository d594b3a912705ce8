"""Uploads by HTTP/2: they go on as the peer lets them (RFC 9113 section 5.2), and end early if it has heard enough."""

from __future__ import annotations

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
from tests.certificates import Certificates
from tests.conftest import PAGE
from tests.http2peer import (
    CANCEL,
    INITIAL_WINDOW_SIZE,
    NO_ERROR,
    REFUSED_STREAM,
    WINDOW,
    DataFrame,
    Request,
    Talk,
    frame,
    played,
    talking,
)
from tests.http2servers import Http2Nginx, Nghttpd
from tests.hubtools import turn, until
from tests.tls import check_failure, check_whole, client_of, opened, trusting

pytestmark = pytest.mark.usefixtures("bounded")

MIB = 1 << 20


def pieces_of(content: bytes) -> Iterator[bytes]:
    return (content[at : at + 1000] for at in range(0, len(content), 1000))


def knowing(talk: Talk) -> Request:
    """The head of the second request: its client knows our settings, for it has had an answer."""
    first = talk.read_request()
    talk.read_head()
    talk.respond(first)
    return talk.read_head()


KINDS = ("bytes", "pieces", "file")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[[str, bytes], Any]]:
    """Makes a body of that kind."""
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
def test_an_upload_goes_on_as_it_may(window: int, kind: str, made: Callable[[str, bytes], Any]) -> None:
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


def test_a_long_upload_is_granted_in_many_small_steps() -> None:
    """More of them than a peer may say of what brings nothing: these bring something."""
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


def test_a_window_may_shrink_below_nothing() -> None:
    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start({INITIAL_WINDOW_SIZE: 1000})
        request = knowing(talk)
        while len(request.body) < 1000:
            talk.read_frame()
        talk.tell({INITIAL_WINDOW_SIZE: 0})  # 1000 less than nothing are left
        talk.window(request.stream, 1000)  # nothing
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


def test_many_uploads_share_the_window_of_a_connection() -> None:
    def script(talk: Talk) -> None:
        talk.start({INITIAL_WINDOW_SIZE: MIB})
        for request in talk.read_requests(20):
            talk.respond(request, b"%d" % len(request.body))
        talk.wait_closed()

    with talking(script) as (_, client):
        assert Pool(20).map(lambda _: client.post("/", b"x" * 300_000).read(), range(20)) == [b"300000"] * 20
        assert opened(client) == 1


def test_an_upload_that_waits_holds_nobody() -> None:
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


def test_an_upload_is_made_no_faster_than_it_is_taken() -> None:
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
def test_an_upload_that_nobody_takes_ends(limit: str, kind: str, made: Callable[[str, bytes], Any]) -> None:
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


# ---------------------------------------------------------------- an answer before the end of the upload


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [NO_ERROR, CANCEL, None])
def test_an_early_answer_is_returned(code: int | None, kind: str, made: Callable[[str, bytes], Any]) -> None:
    """RFC 9113 section 8.1: NO_ERROR asks to stop without a fault. A peer may stop by any other code, or not at all."""

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


def test_an_early_answer_of_a_real_server(nghttpd: Callable[..., Nghttpd]) -> None:
    """Which is glad about the rest of the request all the same."""
    with closing(
        HTTPClient("127.0.0.1", nghttpd("--early-response", tls=False).port, http2="prior-knowledge")
    ) as client:
        for _ in range(3):
            assert client.post("/page", b"x" * 2_000_000).read() == PAGE
        assert opened(client) == 1
        check_whole(client)


def test_what_is_too_large_is_answered_by_nginx(http2_nginx: Http2Nginx, certificates: Certificates) -> None:
    with client_of(http2_nginx.ports["tls"], ssl_options=trusting(certificates), http2=True) as client:
        for _ in range(3):
            response = client.post("/small", b"x" * 1_000_000)
            assert response.status_code == 413
            assert b"Too Large" in response.read()
        check_whole(client)


def test_a_refusal_in_mid_upload_is_sent_again() -> None:
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
