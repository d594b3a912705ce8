"""How connections of HTTP/2 end at the peer's hand, by GOAWAY or without a word, and what is sent again then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Pool

from geventhttpclient.http2 import HTTP2Error
from tests.certificates import Certificates
from tests.conftest import PAGE
from tests.http2peer import (
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    Script,
    Talk,
    played,
    serve_targets,
    talking,
)
from tests.http2servers import Http2Nginx
from tests.hubtools import FAILURES, attempt, turn, until
from tests.test_http2_resets import check
from tests.tls import check_failure, check_whole, client_of, opened, trusting

pytestmark = pytest.mark.usefixtures("bounded")

LAST_OF_ALL = 2**31 - 1


# ---------------------------------------------------------------- GOAWAY


def test_a_connection_that_says_goodbye_while_idle_is_left() -> None:
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
def test_what_was_not_looked_at_is_sent_again(method: str, body: Any, code: int, tmp_path: Path) -> None:
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


def test_what_cannot_be_had_again_is_not_sent_again() -> None:
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


def test_what_was_looked_at_is_finished() -> None:
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
        # concurrency=1: whether the old connection still counts is not the peer's affair.
        call = gevent.spawn(lambda: client.get("/other").read())
        turn()
        other.set()
        assert response.read() == b"ended"
        assert call.get(timeout=5) == b"/other"
        assert len(peer.conns) == 2
        check_whole(client)


def test_a_goodbye_parts_those_below_from_those_above() -> None:
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


def test_a_goodbye_in_two_steps() -> None:
    """RFC 9113 section 6.8: a server that shuts down first names the last stream of all, then the last it took."""

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


def test_nothing_is_asked_after_a_goodbye() -> None:
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
def test_a_goodbye_with_a_reason_names_it(code: int) -> None:
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


def test_a_goodbye_before_the_settings() -> None:
    def first(talk: Talk) -> None:
        talk.read_preface()
        talk.tell({})
        talk.goaway(0)
        talk.wait_closed()

    with talking(first, serve_targets) as (_, client):
        assert client.post("/path", b"x").read() == b"/path"


def test_a_peer_that_only_says_goodbye_is_not_asked_without_end() -> None:
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


def test_a_server_that_says_goodbye_now_and_then(http2_nginx: Http2Nginx, certificates: Certificates) -> None:
    options = {"ssl_options": trusting(certificates), "http2": True, "concurrency": 2}
    with client_of(http2_nginx.ports["short"], **options) as client:
        assert set(Pool(20).map(lambda _: client.get("/page").read(), range(200))) == {PAGE}
        assert opened(client) >= 20
        for _ in range(50):
            assert client.post("/passed-on", b"x" * 1000).read() == b"1000"
        check_whole(client)


# ---------------------------------------------------------------- a close without a word


def breaking(how: str) -> Script:
    def script(talk: Talk) -> None:
        talk.start()
        talk.respond(talk.read_request())
        talk.read_request()
        talk.conn.reset() if how == "reset" else talk.conn.close()

    return script


@pytest.mark.parametrize("how", ["reset", "close"])
def test_what_does_no_harm_is_sent_again(how: str) -> None:
    with talking(breaking(how), serve_targets) as (_, client):
        client.get("/").read()
        assert client.get("/path").read() == b"/path"
        assert client.statistics()["retries"] == 1


@pytest.mark.parametrize("how", ["reset", "close"])
def test_what_may_do_harm_is_not(how: str) -> None:
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
def test_a_close_within_a_body(how: str) -> None:
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


def test_all_of_a_connection_are_told() -> None:
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


def test_a_whole_response_outlives_its_connection() -> None:
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
