"""All greenlets share one HTTP/2 connection; another one opens when the peer accepts no more streams on it."""

from __future__ import annotations

import json
from contextlib import closing

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Pool

from geventhttpclient import HTTPClient, exceptions
from tests.conftest import PAGE
from tests.support.certificates import Certificates
from tests.support.http2_peer import (
    CANCEL,
    MAX_CONCURRENT_STREAMS,
    Request,
    RstStreamFrame,
    Talk,
    serve_targets,
    talking,
)
from tests.support.http2_servers import Http2Nginx, Hypercorn
from tests.support.hub import attempt, turn, until
from tests.support.peer import Conn, Peer
from tests.support.tls import WAYS, check_whole, client_of, hello_is_there, opened, trusting

pytestmark = pytest.mark.usefixtures("bounded")


class Holding:
    """A script that holds all requests until `let_go` is called, or until that many are held on all connections.

    Then those are answered, the last one first, and with `let_go` all others at once. `most` is the maximum number of
    concurrent streams on one connection.
    """

    def __init__(self, streams: int | None = None, at_once: int | None = None) -> None:
        self.settings = {} if streams is None else {MAX_CONCURRENT_STREAMS: streams}
        self.at_once = at_once
        self.free = False
        self.held: list[tuple[Talk, Request]] = []
        self.most = 0

    def __call__(self, talk: Talk) -> None:
        talk.start(self.settings)
        while request := talk.read_request():
            self.held.append((talk, request))
            self.most = max(self.most, sum(held is talk for held, _ in self.held))
            if self.free or len(self.held) == self.at_once:
                self.answer()

    def answer(self) -> None:
        while self.held:
            talk, request = self.held.pop()
            talk.respond(request, request.target.encode())

    def let_go(self) -> None:
        self.free = True
        self.answer()


# ---------------------------------------------------------------- one connection


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("greenlets", [100, 1000])
def test_all_greenlets_share_one_connection(
    greenlets: int, way: str, http2_nginx: Http2Nginx, certificates: Certificates
) -> None:
    options = {"ssl_options": trusting(certificates), "http2": True}
    with client_of(http2_nginx.ports["tls"], way, **options) as client:
        assert set(Pool(greenlets).map(lambda _: client.get("/page").read(), range(greenlets * 2))) == {PAGE}
        assert opened(client) == 1
        check_whole(client)


def test_thousand_concurrent_requests_are_answered() -> None:
    script = Holding(at_once=1000)
    with talking(script) as (_, client):
        bodies = Pool(1000).map(lambda n: client.get(f"/{n}").read(), range(2000))
        assert bodies == [b"/%d" % n for n in range(2000)]
        assert (opened(client), script.most) == (1, 1000)


def test_statistics_count_streams() -> None:
    script = Holding()
    with talking(script) as (_, client):
        assert client.statistics()["streams"] == 0
        calls = [gevent.spawn(lambda: client.get("/").read()) for _ in range(3)]
        until(lambda: len(script.held) == 3)
        assert (client.statistics()["streams"], client.statistics()["open"]) == (3, 1)
        script.let_go()
        gevent.joinall(calls, raise_error=True)
        assert client.statistics()["streams"] == 0


def test_responses_may_arrive_in_any_order() -> None:
    script = Holding(at_once=10)
    with talking(script) as (_, client):
        order: list[int] = []

        def ask(n: int) -> None:
            assert client.get(f"/{n}").read() == b"/%d" % n
            order.append(n)

        gevent.joinall([gevent.spawn(ask, n) for n in range(10)], raise_error=True)
        assert order == list(reversed(range(10)))


def test_held_stream_does_not_block_others(hypercorn: Hypercorn) -> None:
    with closing(HTTPClient("127.0.0.1", hypercorn.clear, http2="prior-knowledge")) as client:
        slow = gevent.spawn(lambda: client.get("/held/sharing").read())
        ports = {json.load(client.get("/facts"))["connection"] for _ in range(20)}
        assert not slow.dead
        client.get("/let-go/sharing").read()
        assert slow.get(timeout=5) == b"sharing"
        assert (len(ports), opened(client)) == (1, 1)


# ---------------------------------------------------------------- opening the connection


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("concurrency", [1, 10])
def test_connection_is_opened_once_for_a_hundred_requests(
    secure: bool, concurrency: int, certificates: Certificates
) -> None:
    go_on = Event()
    context = certificates.valid.server()
    context.set_alpn_protocols(["h2"])

    def script(conn: Conn) -> None:
        go_on.wait()
        if secure:
            conn.secure(context)
        serve_targets(Talk(conn))

    options = {"ssl": True, "ssl_options": trusting(certificates), "http2": True} if secure else {}
    options.setdefault("http2", "prior-knowledge")
    with (
        Peer(script) as peer,
        closing(HTTPClient("localhost", peer.port, concurrency=concurrency, **options)) as client,
    ):
        calls = [gevent.spawn(lambda n=n: client.get(f"/{n}").read()) for n in range(100)]
        until(lambda: peer.conns)
        turn()
        go_on.set()
        gevent.joinall(calls, timeout=10, raise_error=True)
        assert [call.value for call in calls] == [b"/%d" % n for n in range(100)]
        assert (len(peer.conns), opened(client)) == (1, 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["kill", "timeout", "deadline"])
def test_connection_is_opened_by_another_request_if_the_first_ends(
    end: str, way: str, certificates: Certificates
) -> None:
    go_on = Event()
    context = certificates.valid.server()
    context.set_alpn_protocols(["h2"])

    def script(conn: Conn) -> None:
        go_on.wait()
        conn.secure(context)
        serve_targets(Talk(conn))

    def first() -> bytes:
        if end == "timeout":
            with gevent.Timeout(0.05):
                return client.get("/first").read()
        return client.get("/first", **({"total_timeout": 0.05} if end == "deadline" else {})).read()

    with (
        Peer(script) as peer,
        client_of(peer.port, way, ssl_options=trusting(certificates), http2=True, concurrency=2) as client,
    ):
        opener = gevent.spawn(attempt, first)
        until(lambda: peer.conns)
        others = [gevent.spawn(lambda n=n: client.get(f"/{n}").read()) for n in range(20)]
        turn()
        if end == "kill":
            opener.kill()
        opener.join(5)
        assert opener.dead
        go_on.set()
        gevent.joinall(others, timeout=10, raise_error=True)
        assert [other.value for other in others] == [b"/%d" % n for n in range(20)]
        assert len(peer.conns) <= 2
        check_whole(client)


def test_failed_connect_fails_all_waiters() -> None:
    with closing(HTTPClient("127.0.0.1", 1, http2="prior-knowledge")) as client:
        outcomes = Pool(50).map(lambda _: attempt(lambda: client.get("/")), range(50))
        assert {type(outcome) for outcome in outcomes} == {exceptions.ConnectionRefusedError}
        check_whole(client)


def test_slow_handshake_times_out_for_all_requests_at_once(certificates: Certificates) -> None:
    """Each request has its own limit, which starts with the request."""
    with (
        Peer(lambda conn: conn.wait_closed()) as peer,
        client_of(
            peer.port, ssl_options=trusting(certificates), http2=True, connection_timeout=0.2, concurrency=2
        ) as client,
        gevent.Timeout(3),
    ):
        outcomes = Pool(20).map(lambda _: attempt(lambda: client.get("/")), range(20))
        assert {type(outcome) for outcome in outcomes} == {exceptions.TimeoutError}
        hello_is_there(peer)
        check_whole(client)


# ---------------------------------------------------------------- several connections


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_another_connection_is_opened_if_one_is_full(streams: int) -> None:
    script = Holding(streams)
    with talking(script, concurrency=3) as (peer, client):
        calls = [gevent.spawn(lambda n=n: client.get(f"/{n}").read()) for n in range(10)]
        room = 3 * streams
        until(lambda: len(script.held) == room)
        turn()
        numbers = client.statistics()
        assert (len(peer.conns), len(script.held)) == (3, room)
        assert (numbers["streams"], numbers["waiting"]) == (room, 10 - room)
        script.let_go()
        gevent.joinall(calls, timeout=10, raise_error=True)
        assert sorted(call.value for call in calls) == [b"/%d" % n for n in range(10)]
        assert (script.most, len(peer.conns)) == (streams, 3)
        check_whole(client)


def test_streams_do_not_exceed_the_limit_of_the_peer(http2_nginx: Http2Nginx, certificates: Certificates) -> None:
    options = {"ssl_options": trusting(certificates), "http2": True, "concurrency": 4}
    with client_of(http2_nginx.ports["narrow"], **options) as client:
        assert set(Pool(50).map(lambda _: client.get("/page").read(), range(200))) == {PAGE}
        assert 1 <= opened(client) <= 4
        assert client.statistics()["retries"] == 0
        check_whole(client)


def test_wait_for_a_stream_ends_at_its_timeout() -> None:
    script = Holding(1)
    with talking(script, concurrency=2) as (_, client):
        calls = [gevent.spawn(lambda: client.get("/").read()) for _ in range(2)]
        until(lambda: len(script.held) == 2)
        with pytest.raises(TimeoutError) as caught:
            client.get("/", pool_timeout=0.05)
        assert caught.value.phase == "pool"
        script.let_go()
        gevent.joinall(calls, raise_error=True)
        assert client.get("/").read() == b"/"


def test_wait_for_a_stream_can_be_killed() -> None:
    script = Holding(1)
    with talking(script) as (_, client):
        call = gevent.spawn(lambda: client.get("/").read())
        until(lambda: len(script.held) == 1)
        killed = [gevent.spawn(client.get, "/killed") for _ in range(3)]
        last = gevent.spawn(lambda: client.get("/last").read())
        until(lambda: client.statistics()["waiting"] == 4)
        gevent.killall(killed)
        assert client.statistics()["waiting"] == 1
        script.let_go()
        assert (call.get(), last.get()) == (b"/", b"/last")
        check_whole(client)


def test_waiters_go_on_when_the_peer_raises_its_stream_limit() -> None:
    def script(talk: Talk) -> None:
        talk.start({MAX_CONCURRENT_STREAMS: 1})
        first = talk.read_request()
        talk.tell({MAX_CONCURRENT_STREAMS: 5})
        for request in [*talk.read_requests(4), first]:
            talk.respond(request, request.target.encode())
        talk.tell({MAX_CONCURRENT_STREAMS: 0})
        talk.expect_alive()
        closed.set()
        turn()
        talk.tell({MAX_CONCURRENT_STREAMS: 1})
        serve = talk.read_request()
        talk.respond(serve, serve.target.encode())
        talk.wait_closed()

    closed = Event()
    with talking(script) as (_, client):
        assert Pool(5).map(lambda n: client.get(f"/{n}").read(), range(5)) == [b"/%d" % n for n in range(5)]
        closed.wait()
        assert client.get("/last").read() == b"/last"
        assert opened(client) == 1


def test_abandoned_stream_makes_room_for_another() -> None:
    def script(talk: Talk) -> None:
        talk.start({MAX_CONCURRENT_STREAMS: 1})
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        assert talk.expect(RstStreamFrame, request.stream).error_code == CANCEL
        talk.respond(talk.read_request())
        talk.wait_closed()

    with talking(script) as (_, client):
        first = client.get("/")
        second = gevent.spawn(lambda: client.get("/").read())
        until(lambda: client.statistics()["waiting"] == 1)
        first.release()
        assert second.get(timeout=5) == b"ok"


def test_killed_streams_make_room_on_every_connection() -> None:
    script = Holding(2)
    with talking(script, concurrency=2) as (peer, client):
        calls = [gevent.spawn(attempt, lambda: client.get("/").read()) for _ in range(4)]
        until(lambda: len(script.held) == 4)
        gevent.killall(calls)
        assert client.statistics()["streams"] == 0
        script.held.clear()
        script.let_go()
        assert Pool(4).map(lambda n: client.get(f"/{n}").read(), range(8)) == [b"/%d" % n for n in range(8)]
        assert len(peer.conns) == 2
        check_whole(client)
