"""How requests of HTTP/2 end at our own hand: by a kill, a timeout, a close; and connections, by a ping or idleness.

What ends a request cancels its stream, and leaves the connection to the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import HTTPClient
from geventhttpclient.http2 import HTTP2Error
from tests import test_threads_fork
from tests.certificates import Certificates
from tests.http2peer import (
    CANCEL,
    DataFrame,
    PingFrame,
    Request,
    Talk,
    played,
    scripted,
    serve_targets,
    talking,
    talking_securely,
)
from tests.hubtools import FAILURES, attempt, in_thread, run, turn, until
from tests.peer import Peer
from tests.tls import WAYS, check_whole

pytestmark = pytest.mark.usefixtures("bounded")

BEGUN = b"begun"


def wait_for_head(client: HTTPClient, **limit: float) -> object:
    return client.get("/", **limit)


def wait_for_body(client: HTTPClient, **limit: float) -> object:
    return client.get("/", **limit).read()


def wait_for_window(client: HTTPClient, **limit: float) -> object:
    return client.post("/", bytes(300_000), **limit)


def wait_for_pieces(client: HTTPClient, **limit: float) -> object:
    return client.post("/", iter([bytes(100_000)] * 10), **limit)


WAITS = {"head": wait_for_head, "body": wait_for_body, "window": wait_for_window, "pieces": wait_for_pieces}


def kill(call: gevent.Greenlet) -> None:
    call.kill()
    assert isinstance(call.value, gevent.GreenletExit)


def throw(call: gevent.Greenlet) -> None:
    call.kill(LookupError("thrown"))
    assert isinstance(call.value, LookupError)


def time_out(call: gevent.Greenlet) -> None:
    assert isinstance(call.get(timeout=5), gevent.Timeout)


def run_out(call: gevent.Greenlet) -> None:
    assert isinstance(call.get(timeout=5), TimeoutError)


ENDS: dict[str, Callable[[gevent.Greenlet], None]] = {
    "kill": kill,
    "throw": throw,
    "timeout": time_out,
    "total_timeout": run_out,
    "network_timeout": run_out,
}


@pytest.mark.parametrize("way", ["clear", *WAYS])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("wait", WAITS)
def test_an_end_cancels_one_stream(wait: str, end: str, way: str, certificates: Certificates) -> None:
    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start()
        request = talk.read_head()
        if wait in ("head", "body"):
            talk.read_request()
        if wait == "body":
            talk.headers(request.stream, [(":status", "200")])
            talk.data(request.stream, BEGUN)
        elif wait != "head":
            while len(request.body) < 65_535:
                talk.expect(DataFrame)
        talk.expect_alive()
        reached.set()
        talk.expect_reset(request, CANCEL)
        talk.window(0, 65_535)
        talk.respond(talk.read_request(), b"next")
        talk.wait_closed()

    def call() -> object:
        limit: dict[str, Any] = {end: 0.05} if end.endswith("_timeout") else {}
        if end == "timeout":
            with gevent.Timeout(0.05):
                return WAITS[wait](client)
        return WAITS[wait](client, **limit)

    reached = Event()
    start = talking(script) if way == "clear" else talking_securely(certificates, script, way=way)
    with start as (peer, client):
        greenlet = gevent.spawn(attempt, call)
        assert reached.wait(5)
        ENDS[end](greenlet)
        assert client.get("/").read() == b"next"
        assert len(peer.conns) == 1
        assert client.statistics()["streams"] == 0
        check_whole(client)


def test_others_go_on_while_many_are_killed() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        requests = talk.read_requests(50)
        for request in requests:
            talk.headers(request.stream, [(":status", "200")])
            talk.data(request.stream, BEGUN)
        for request in requests[::2]:
            talk.expect_reset(request, CANCEL)
        for request in requests[1::2]:
            talk.data(request.stream, b" and ended", end=True)
        talk.wait_closed()

    def read() -> bytes:
        response = client.get("/")
        body = response.read(len(BEGUN))
        begun.append(body)
        return body + response.read()

    begun: list[bytes] = []
    with talking(script) as (_, client):
        calls = [gevent.spawn(read) for _ in range(50)]
        until(lambda: len(begun) == 50)
        gevent.killall(calls[::2])
        gevent.joinall(calls[1::2], timeout=5, raise_error=True)
        assert {call.value for call in calls[1::2]} == {BEGUN + b" and ended"}
        check_whole(client)


def test_frames_of_a_stream_that_was_cancelled_are_passed_over() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        talk.data(request.stream, BEGUN)
        talk.expect_reset(request, CANCEL)
        # What was on its way when that came (RFC 9113 section 5.1).
        talk.data(request.stream, bytes(100_000))
        talk.window(request.stream, 10)
        talk.headers(request.stream, [("x-sum", "1")], end=True)
        talk.respond(talk.read_request(), b"next")
        talk.wait_closed()

    with talking(script) as (peer, client):
        client.get("/").release()
        assert client.get("/").read() == b"next"
        assert len(peer.conns) == 1


def test_a_killed_request_that_was_not_yet_sent_says_nothing() -> None:
    def script(talk: Talk) -> None:
        talk.read_preface()
        talk.tell({3: 1})
        first = talk.read_request()
        talk.expect_alive()
        go_on.wait()
        talk.respond(first, b"first")
        assert talk.read_request().target == "/last"
        talk.respond(talk.requests[max(talk.requests)], b"last")
        talk.wait_closed()

    go_on = Event()
    with talking(script) as (_, client):
        first = gevent.spawn(lambda: client.get("/first").read())
        until(lambda: client.statistics()["streams"] == 1)
        turn()
        killed = gevent.spawn(client.get, "/killed")
        turn()
        killed.kill()
        go_on.set()
        assert first.get(timeout=5) == b"first"
        assert client.get("/last").read() == b"last"


# ---------------------------------------------------------------- close


def test_a_client_that_is_closed_says_goodbye() -> None:
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


def test_a_response_in_use_outlives_the_close_of_its_client() -> None:
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


def test_a_client_that_is_dropped_closes() -> None:
    with Peer(scripted(serve_targets)) as peer:
        assert HTTPClient(peer.host, peer.port, http2="prior-knowledge").get("/").read() == b"/"
        played(peer)


# ---------------------------------------------------------------- idleness and pings


def test_an_idle_connection_expires() -> None:
    with talking(serve_targets, idle_timeout=0.05) as (peer, client):
        assert client.get("/").read() == b"/"
        played(peer)
        assert client.statistics()["closed"] == {"idle_timeout": 1}
        assert client.get("/").read() == b"/"
        assert len(peer.conns) == 2


def test_a_connection_in_use_does_not_expire() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        gevent.sleep(0.15)
        talk.respond(request)
        talk.wait_closed()

    with talking(script, idle_timeout=0.05) as (_, client):
        assert client.get("/").read() == b"ok"


def test_a_ping_finds_a_dead_connection() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        talk.wait_closed()  # and not a word

    with talking(script, serve_targets, http2_ping_interval=0.05, network_timeout=None) as (_, client):
        began = time.monotonic()
        outcome = attempt(lambda: client.post("/", b"x"))
        assert isinstance(outcome, FAILURES)
        assert not isinstance(outcome, HTTP2Error) or outcome.code
        assert time.monotonic() - began < 5
        assert client.get("/next").read() == b"/next"
        check_whole(client)


def test_pings_that_are_answered_change_nothing() -> None:
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


def test_each_thread_has_a_connection_of_its_own() -> None:
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
    """A script: requests of /held... wait until /let-go is asked for, /are-held until there are four of them."""

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
def test_a_child_opens_its_own(name: str, way: str, loop: str) -> None:
    gate = Gate()
    with Peer(scripted(gate)) as peer:
        environment = test_threads_fork.fork_environment(way, loop)
        assert run(f"http2.{name}", peer.port, way, **environment).clean() == "ok\n"
    at = gate.connections
    assert at["/parent-before"] is at["/parent-after"]
    assert at["/child"] is not at["/parent-before"]
