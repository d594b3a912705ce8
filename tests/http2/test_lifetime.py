"""Lifetime of HTTP/2 connections: close of the client, idle connections, PING, threads, forks."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import HTTPClient
from geventhttpclient.http2 import HTTP2Error
from tests.support.http2_peer import (
    PingFrame,
    Request,
    Talk,
    played,
    scripted,
    serve_targets,
    talking,
)
from tests.support.hub import FAILURES, attempt, in_thread, run
from tests.support.peer import Peer
from tests.support.tls import check_whole
from tests.threads import test_threads as test_threads_fork

pytestmark = pytest.mark.usefixtures("bounded")

BEGUN = b"begun"


# ---------------------------------------------------------------- close


def test_closed_client_sends_goaway() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.respond(talk.read_request())
        talk.wait_closed()

    with talking(script) as (peer, client):
        client.get("/").read()
        client.close()
        played(peer)
        with pytest.raises(RuntimeError):
            client.get("/")


def test_response_in_use_outlives_the_close_of_its_client() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        talk.data(request.stream, BEGUN)
        closed.wait()
        talk.data(request.stream, b" and ended", end=True)
        talk.wait_closed()

    closed = Event()
    with talking(script) as (peer, client):
        response = client.get("/")
        client.close()
        closed.set()
        assert response.read() == BEGUN + b" and ended"
        played(peer)


def test_dropped_client_closes_its_connection() -> None:
    with Peer(scripted(serve_targets)) as peer:
        assert HTTPClient(peer.host, peer.port, http2="prior-knowledge").get("/").read() == b"/"
        played(peer)


# ---------------------------------------------------------------- idle connections and pings


def test_idle_connection_expires() -> None:
    with talking(serve_targets, idle_timeout=0.05) as (peer, client):
        assert client.get("/").read() == b"/"
        played(peer)
        assert client.statistics()["closed"] == {"idle_timeout": 1}
        assert client.get("/").read() == b"/"
        assert len(peer.conns) == 2


def test_connection_in_use_does_not_expire() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        gevent.sleep(0.15)
        talk.respond(request)
        talk.wait_closed()

    with talking(script, idle_timeout=0.05) as (_, client):
        assert client.get("/").read() == b"ok"


def test_ping_without_an_answer_closes_the_connection() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        talk.wait_closed()  # and sends nothing

    with talking(script, serve_targets, http2_ping_interval=0.05, network_timeout=None) as (_, client):
        began = time.monotonic()
        outcome = attempt(lambda: client.post("/", b"x"))
        assert isinstance(outcome, FAILURES)
        assert not isinstance(outcome, HTTP2Error) or outcome.code
        assert time.monotonic() - began < 5
        assert client.get("/next").read() == b"/next"
        check_whole(client)


def test_pings_with_answers_keep_the_connection() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        for _ in range(5):
            ping = talk.expect(PingFrame)
            talk.say(PingFrame(0, ping.opaque_data, flags=["ACK"]))
        talk.respond(request)
        talk.wait_closed()

    with talking(script, http2_ping_interval=0.02, network_timeout=None) as (peer, client):
        assert client.get("/").read() == b"ok"
        assert len(peer.conns) == 1


# ---------------------------------------------------------------- threads and forks


def test_each_thread_has_its_own_connection() -> None:
    def work() -> list[bytes]:
        calls = [gevent.spawn(lambda n=n: client.get(f"/{n}").read()) for n in range(20)]
        gevent.joinall(calls, timeout=10, raise_error=True)
        return [call.value for call in calls]

    wanted = [b"/%d" % n for n in range(20)]
    with talking(serve_targets) as (peer, client):
        assert work() == wanted
        for _ in range(3):
            assert in_thread(work) == wanted
        assert work() == wanted
        assert len(peer.conns) == 4


class Gate:
    """A script: requests of /held... wait until /let-go is requested, /are-held until four of them have arrived."""

    def __init__(self) -> None:
        self.held: list[tuple[Talk, Request]] = []
        self.asking: list[tuple[Talk, Request]] = []
        self.connections: dict[str, Talk] = {}

    def __call__(self, talk: Talk) -> None:
        talk.start()
        while request := talk.read_request():
            self.connections[request.target] = talk
            if request.target.startswith("/held"):
                self.held.append((talk, request))
            elif request.target == "/are-held":
                self.asking.append((talk, request))
            else:
                if request.target == "/let-go":
                    self.answer(self.held)
                talk.respond(request, request.target.encode())
            if len(self.held) == 4:
                self.answer(self.asking)

    def answer(self, waiting: list[tuple[Talk, Request]]) -> None:
        while waiting:
            talk, request = waiting.pop(0)
            talk.respond(request, request.target.encode())


@pytest.mark.parametrize(("way", "loop"), test_threads_fork.WAYS)
@pytest.mark.parametrize("name", ["idle", "in_flight"])
def test_child_of_a_fork_opens_its_own_connection(name: str, way: str, loop: str) -> None:
    gate = Gate()
    with Peer(scripted(gate)) as peer:
        environment = test_threads_fork.fork_environment(way, loop)
        assert run(f"http2.{name}", peer.port, way, **environment).clean() == "ok\n"
    at = gate.connections
    assert at["/parent-before"] is at["/parent-after"]
    assert at["/child"] is not at["/parent-before"]
