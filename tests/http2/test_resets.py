"""RST_STREAM from the peer: the errors that it causes; a refused stream is retried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import useragent
from geventhttpclient.http2 import ErrorCode, HTTP2Error
from tests.support.http2_peer import (
    CANCEL,
    HTTP_1_1_REQUIRED,
    INTERNAL_ERROR,
    NO_ERROR,
    REFUSED_STREAM,
    Talk,
    talking,
)
from tests.support.hub import attempt, until
from tests.support.tls import check_failure, check_whole

pytestmark = pytest.mark.usefixtures("bounded")


def check(error: BaseException, code: int, last_stream: int | None, port: int) -> None:
    assert isinstance(error, HTTP2Error)
    assert isinstance(error, ConnectionError)
    assert isinstance(error, useragent.ConnectionError)
    assert (error.code, error.last_stream) == (code, last_stream)
    if code <= HTTP_1_1_REQUIRED:
        assert isinstance(error.code, ErrorCode)
        assert ErrorCode(code).name in str(error)
    check_failure(error, port, "127.0.0.1", error.phase)  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [*range(1, 7), *range(8, 14), 14, 0xBEEF, 2**32 - 1])
def test_reset_is_an_error_of_its_request_alone(code: int) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        victim, other = talk.read_requests(2)
        talk.reset(victim, code)
        talk.expect_alive()
        talk.respond(other)
        while request := talk.read_request():
            talk.respond(request)

    with talking(script) as (peer, client):
        victim = gevent.spawn(attempt, lambda: client.post("/", b"x"))
        until(lambda: client.statistics()["streams"] == 1)
        other = gevent.spawn(lambda: client.get("/").read())
        check(victim.get(timeout=5), code, None, peer.port)
        assert other.get(timeout=5) == b"ok"
        assert client.get("/").read() == b"ok"
        assert len(peer.conns) == 1
        check_whole(client)


@pytest.mark.parametrize("read", [lambda r: r.read(), lambda r: r.readline(), list], ids=["read", "readline", "list"])
@pytest.mark.parametrize("code", [CANCEL, INTERNAL_ERROR, NO_ERROR])
def test_reset_within_a_body_is_an_error(code: int, read: Callable[[Any], object]) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        talk.data(request.stream, b"begun")
        go_on.wait()
        talk.reset(request, code)
        talk.respond(talk.read_request(), b"next")
        talk.wait_closed()

    go_on = Event()
    with talking(script) as (peer, client):
        response = client.get("/")
        assert response.read(5) == b"begun"
        go_on.set()
        with pytest.raises(HTTP2Error) as caught:
            read(response)
        check(caught.value, code, None, peer.port)
        assert client.get("/").read() == b"next"
        check_whole(client)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused_stream_is_not_reported(method: str) -> None:
    """RFC 9113 section 8.7: nothing was done, so that it may be sent again."""

    def answering(talk: Talk) -> None:
        while request := talk.read_request():
            talk.respond(request, b"again")

    def refusing(talk: Talk) -> None:
        talk.start()
        talk.reset(talk.read_request(), REFUSED_STREAM)
        answering(talk)

    def other(talk: Talk) -> None:
        talk.start()
        answering(talk)

    with talking(refusing, other, concurrency=2) as (_, client):
        assert client.request(method, "/", b"x" if method == "POST" else None).read() == b"again"
        assert client.statistics()["retries"] == 1


def test_refused_stream_on_every_attempt_is_an_error() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        while request := talk.read_request():
            asked.append(request)
            talk.reset(request, REFUSED_STREAM)

    asked: list[object] = []
    with talking(script, concurrency=2) as (peer, client):
        with pytest.raises(HTTP2Error) as caught:
            client.get("/")
        check(caught.value, REFUSED_STREAM, None, peer.port)
        assert 2 <= len(asked) <= 4
        check_whole(client)
