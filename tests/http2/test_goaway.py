"""HTTP/2 connections that the peer ends, by GOAWAY or a plain close, and the requests that are retried."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Pool

from geventhttpclient.http2 import HTTP2Error
from tests.conftest import PAGE
from tests.http2.test_resets import check
from tests.support.certificates import Certificates
from tests.support.http2_peer import (
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    MAX_CONCURRENT_STREAMS,
    NO_ERROR,
    PROTOCOL_ERROR,
    GoAwayFrame,
    Script,
    Talk,
    played,
    serve_targets,
    talking,
)
from tests.support.http2_servers import Http2Nginx
from tests.support.hub import FAILURES, attempt, turn, until
from tests.support.tls import check_failure, check_whole, client_of, opened, trusting

pytestmark = pytest.mark.usefixtures("bounded")

LAST_OF_ALL = 2**31 - 1


# ---------------------------------------------------------------- GOAWAY


def test_goaway_on_an_idle_connection_closes_it() -> None:
    def first(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.respond(request, b"first")
        talk.goaway(request.stream)
        talk.wait_closed()
        closed.set()

    closed = Event()
    with talking(first, serve_targets) as (peer, client):
        assert client.get("/").read() == b"first"
        until(lambda: client.statistics()["open"] == 0)
        assert closed.wait(5)
        assert client.post("/next", b"x").read() == b"/next"
        assert (len(peer.conns), client.statistics()["retries"]) == (2, 0)


@pytest.mark.parametrize("code", [NO_ERROR, ENHANCE_YOUR_CALM])
@pytest.mark.parametrize("body", [None, b"body", "file"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unprocessed_requests_are_sent_again(method: str, body: Any, code: int, tmp_path: Path) -> None:
    def first(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        talk.goaway(0, code)
        talk.wait_closed()

    path = tmp_path / "body"
    path.write_bytes(b"body")
    with talking(first, serve_targets) as (peer, client), path.open("rb") as file:
        assert client.request(method, "/path", file if body == "file" else body).read() == b"/path"
        assert peer.requests[0].body == peer.requests[1].body == (b"body" if body else b"")
        assert client.statistics()["retries"] == 1
        check_whole(client)


def test_body_that_cannot_be_rewound_is_not_sent_again() -> None:
    def first(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        talk.goaway(0)
        talk.wait_closed()

    with talking(first, serve_targets) as (peer, client):
        with pytest.raises(HTTP2Error) as caught:
            client.post("/", iter([b"bo", b"dy"]))
        check(caught.value, NO_ERROR, 0, peer.port)
        assert client.post("/next", iter([b"bo", b"dy"])).read() == b"/next"


def test_processed_requests_are_finished() -> None:
    def first(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        talk.data(request.stream, b"begun, ")
        talk.goaway(request.stream)
        talk.expect_alive()
        other.wait()
        talk.data(request.stream, b"ended", end=True)
        talk.wait_closed()

    other = Event()
    with talking(first, serve_targets) as (peer, client):
        response = client.get("/")
        assert response.read(7) == b"begun, "
        # concurrency=1: the old connection must not count any more.
        call = gevent.spawn(lambda: client.get("/other").read())
        turn()
        other.set()
        assert response.read() == b"ended"
        assert call.get(timeout=5) == b"/other"
        assert len(peer.conns) == 2
        check_whole(client)


def test_goaway_separates_requests_at_its_last_stream() -> None:
    def first(talk: Talk) -> None:
        talk.start()
        requests = talk.read_requests(10)
        middle = requests[4].stream
        talk.goaway(middle)
        for request in requests[:5]:
            talk.respond(request, b"first")
        talk.wait_closed()

    with talking(first, serve_targets, concurrency=2) as (peer, client):
        bodies = Pool(10).map(lambda n: client.post(f"/{n}", b"x").read(), range(10))
        assert bodies.count(b"first") == 5
        assert all(body in (b"first", b"/%d" % n) for n, body in enumerate(bodies))
        assert client.statistics()["retries"] == 5
        assert len(peer.conns) == 2
        check_whole(client)


def test_goaway_in_two_steps_lowers_the_last_stream() -> None:
    """RFC 9113 section 6.8: a graceful shutdown first names the highest stream, then the last accepted one."""

    def first(talk: Talk) -> None:
        talk.start()
        requests = talk.read_requests(2)
        talk.goaway(LAST_OF_ALL)
        talk.expect_alive()
        talk.respond(requests[0], b"first")
        talk.goaway(requests[0].stream)
        talk.wait_closed()

    with talking(first, serve_targets, concurrency=2) as (peer, client):
        calls = [gevent.spawn(lambda: client.post("/second", b"x").read()) for _ in range(2)]
        gevent.joinall(calls, timeout=5, raise_error=True)
        assert sorted(call.value for call in calls) == [b"/second", b"first"]
        assert len(peer.conns) == 2


def test_no_request_is_sent_after_a_goaway() -> None:
    def first(talk: Talk) -> None:
        talk.start()
        held = talk.read_request()
        talk.goaway(LAST_OF_ALL)
        talk.expect_alive()
        told.set()
        done.wait()
        talk.respond(held, b"held")
        talk.wait_closed()
        assert len(talk.requests) == 1

    told, done = Event(), Event()
    with talking(first, serve_targets, concurrency=2) as (peer, client):
        call = gevent.spawn(lambda: client.get("/").read())
        told.wait()
        assert client.get("/next").read() == b"/next"
        done.set()
        assert call.get(timeout=5) == b"held"
        played_out = peer.conns[0]
        assert played_out.hung_up.wait(5)


@pytest.mark.parametrize("code", [PROTOCOL_ERROR, INTERNAL_ERROR, ENHANCE_YOUR_CALM, 0xBEEF])
def test_goaway_with_debug_data_is_quoted_in_the_error(code: int) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.goaway(request.stream, code, b"because of you")

    with talking(script, serve_targets) as (peer, client):
        with pytest.raises(HTTP2Error) as caught:
            client.post("/", b"x")
        check(caught.value, code, 1, peer.port)
        assert client.get("/next").read() == b"/next"
        check_whole(client)


def test_goaway_before_settings_is_handled() -> None:
    def first(talk: Talk) -> None:
        talk.read_preface()
        talk.tell({})
        talk.goaway(0)
        talk.wait_closed()

    with talking(first, serve_targets) as (_, client):
        assert client.post("/path", b"x").read() == b"/path"


def test_goaway_on_every_connection_ends_the_retries() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        talk.goaway(0)
        talk.wait_closed()

    with talking(script) as (peer, client):
        with pytest.raises(HTTP2Error) as caught:
            client.get("/")
        check(caught.value, NO_ERROR, 0, peer.port)
        assert 2 <= len(peer.conns) <= 4


def test_goaway_after_every_few_requests_loses_no_request(http2_nginx: Http2Nginx, certificates: Certificates) -> None:
    options = {"ssl_options": trusting(certificates), "http2": True, "concurrency": 2}
    with client_of(http2_nginx.ports["short"], **options) as client:
        assert set(Pool(20).map(lambda _: client.get("/page").read(), range(200))) == {PAGE}
        assert opened(client) >= 20
        for _ in range(50):
            assert client.post("/passed-on", b"x" * 1000).read() == b"1000"
        check_whole(client)


@pytest.mark.parametrize("code", [PROTOCOL_ERROR, INTERNAL_ERROR, ENHANCE_YOUR_CALM, 0xBEEF])
def test_goaway_with_an_error_ends_its_connection_at_once(code: int) -> None:
    """RFC 9113 section 5.4.1, even if the server leaves it open."""

    def script(talk: Talk) -> None:
        talk.start()
        talk.goaway(talk.read_request().stream, code)
        talk.wait_closed()
        closed.set()

    closed = Event()
    with talking(script, serve_targets, network_timeout=60) as (peer, client):
        began = time.monotonic()
        with pytest.raises(HTTP2Error) as caught:
            client.post("/", b"x")
        assert time.monotonic() - began < 5
        check(caught.value, code, 1, peer.port)
        assert closed.wait(5)
        assert client.get("/next").read() == b"/next"
        assert client.statistics()["closed"] == {"asked_by_peer": 1}
        check_whole(client)


def test_goaway_with_an_error_sends_repeatable_requests_again() -> None:
    def first(talk: Talk) -> None:
        talk.start()
        talk.respond(talk.read_request())
        requests = talk.read_requests(4)
        talk.goaway(requests[1].stream, ENHANCE_YOUR_CALM)
        talk.wait_closed()

    with talking(first, serve_targets) as (peer, client):
        client.get("/").read()
        calls = []
        for method, target in (("GET", "/get"), ("POST", "/post"), ("GET", "/left-out"), ("POST", "/left-out-too")):
            request = partial(client.request, method, target, b"x" if method == "POST" else None)
            calls.append(gevent.spawn(attempt, lambda request=request: request().read()))
            turn()
        answers = [call.get(timeout=5) for call in calls]
        assert answers[0] == b"/get"
        check(answers[1], ENHANCE_YOUR_CALM, 5, peer.port)
        assert answers[2:] == [b"/left-out", b"/left-out-too"]
        check_whole(client)


def test_goaway_with_an_error_fails_a_response_that_is_being_read() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        talk.data(request.stream, b"begun")
        talk.goaway(request.stream, INTERNAL_ERROR)
        talk.wait_closed()

    with talking(script, serve_targets, network_timeout=60) as (peer, client):
        response = client.get("/")
        assert response.read(5) == b"begun"
        with pytest.raises(HTTP2Error) as caught:
            response.read()
        check(caught.value, INTERNAL_ERROR, 1, peer.port)
        assert client.get("/next").read() == b"/next"


def test_goaway_with_an_error_keeps_complete_responses() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.respond(request, b"whole" * 1000)
        talk.goaway(request.stream, INTERNAL_ERROR)
        talk.wait_closed()

    with talking(script) as (peer, client):
        response = client.get("/")
        played(peer)
        assert response.read() == b"whole" * 1000


def test_goaway_with_an_error_is_not_replaced_by_one_without() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        talk.conn.send_at_once(
            GoAwayFrame(0, 1, ENHANCE_YOUR_CALM).serialize() + GoAwayFrame(0, 1, NO_ERROR).serialize()
        )
        talk.wait_closed()

    with talking(script, network_timeout=60) as (peer, client):
        with pytest.raises(HTTP2Error) as caught:
            client.post("/", b"x")
        check(caught.value, ENHANCE_YOUR_CALM, 1, peer.port)


def test_requests_above_the_last_stream_precede_newer_ones() -> None:
    def first(talk: Talk) -> None:
        talk.start({MAX_CONCURRENT_STREAMS: 4})
        requests = talk.read_requests(4)
        until(lambda: client.statistics()["waiting"] == 6)
        talk.goaway(requests[0].stream)
        talk.respond(requests[0], b"/0")
        talk.wait_closed()

    def second(talk: Talk) -> None:
        talk.start({MAX_CONCURRENT_STREAMS: 1})
        while request := talk.read_request():
            order.append(request.target)
            talk.respond(request, request.target.encode())

    order: list[str] = []
    with talking(first, second) as (_, client):
        calls = []
        for n in range(10):
            calls.append(gevent.spawn(lambda n=n: client.get(f"/{n}").read()))
            turn()
        assert [call.get(timeout=10) for call in calls] == [b"/%d" % n for n in range(10)]
        # The first request that waited when the old connection ended opens the new one.
        assert order == ["/4", "/1", "/2", "/3", "/5", "/6", "/7", "/8", "/9"]
        check_whole(client)


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.long)])
@pytest.mark.parametrize("taken", [1, 3])
def test_requests_to_a_server_with_few_per_connection_are_answered(taken: int, count: int) -> None:
    def script(talk: Talk) -> None:
        talk.start({MAX_CONCURRENT_STREAMS: 120})
        for n, request in enumerate(talk.read_requests(taken)):
            if n + 1 == taken:
                talk.goaway(request.stream)
            talk.respond(request)
        talk.wait_closed()

    with talking(script) as (_, client):
        assert Pool(count // 2).map(lambda _: client.post("/", b"x").read(), range(count)) == [b"ok"] * count
        assert client.statistics()["opened"] >= count / taken
        check_whole(client)


# ---------------------------------------------------------------- a close without GOAWAY


def breaking(how: str) -> Script:
    def script(talk: Talk) -> None:
        talk.start()
        talk.respond(talk.read_request())
        talk.read_request()
        talk.conn.reset() if how == "reset" else talk.conn.close()

    return script


@pytest.mark.parametrize("how", ["reset", "close"])
def test_idempotent_requests_are_sent_again(how: str) -> None:
    with talking(breaking(how), serve_targets) as (_, client):
        client.get("/").read()
        assert client.get("/path").read() == b"/path"
        assert client.statistics()["retries"] == 1


@pytest.mark.parametrize("how", ["reset", "close"])
def test_other_requests_are_not_sent_again(how: str) -> None:
    with talking(breaking(how), serve_targets) as (peer, client):
        client.get("/").read()
        with pytest.raises(FAILURES) as caught:
            client.post("/", b"x")
        assert not isinstance(caught.value, (HTTP2Error, TimeoutError))
        check_failure(caught.value, peer.port, "127.0.0.1", caught.value.phase)
        assert client.post("/next", b"x").read() == b"/next"
        assert len(peer.conns) == 2
        check_whole(client)


@pytest.mark.parametrize("how", ["reset", "close"])
def test_close_within_a_body_is_an_error(how: str) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        talk.data(request.stream, b"begun")
        go_on.wait()
        talk.conn.reset() if how == "reset" else talk.conn.close()

    go_on = Event()
    with talking(script, serve_targets) as (_, client):
        response = client.get("/")
        assert response.read(5) == b"begun"
        go_on.set()
        with pytest.raises(FAILURES):
            response.read()
        assert client.get("/next").read() == b"/next"
        check_whole(client)


def test_goaway_fails_every_request_of_the_connection() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.read_requests(50)
        talk.conn.reset()

    with talking(script, serve_targets) as (peer, client):
        outcomes = Pool(50).map(lambda _: attempt(lambda: client.post("/", b"x")), range(50))
        assert all(isinstance(outcome, FAILURES) for outcome in outcomes)
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 2
        check_whole(client)


def test_complete_response_outlives_its_connection() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.respond(talk.read_request(), b"whole" * 1000)
        talk.goaway(1)

    with talking(script, serve_targets) as (peer, client):
        response = client.get("/")
        played(peer)
        turn()
        assert response.read() == b"whole" * 1000
        assert client.get("/next").read() == b"/next"
