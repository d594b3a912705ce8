"""HTTP/2 on gevent's hub: what keeps the loop running, idle cost, and threads, hubs and programs that end."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Any

import gevent
import pytest
from hyperframe.frame import DataFrame, PingFrame, RstStreamFrame

from geventhttpclient import HTTPClient
from tests.support.certificates import Certificates
from tests.support.http2_peer import (
    CANCEL,
    MAX_CONCURRENT_STREAMS,
    Request,
    Talk,
    scripted,
    serve_targets,
    talking,
    talking_securely,
)
from tests.support.hub import attempt, choose, in_thread, run, turn, until
from tests.support.peer import Peer
from tests.threads.test_threads import LOOPS, check_end, xfail_if_libuv_crashed

loops = pytest.mark.parametrize("loop", LOOPS)


class Holding:
    """A script that holds back the responses to /held..., and half of one body, until /let-go is requested, and
    reports when it holds four of them."""

    def __init__(self, settings: dict[int, int] | None = None) -> None:
        self.settings = settings
        self.held: list[tuple[Talk, Request]] = []
        self.asking: list[tuple[Talk, Request]] = []

    def __call__(self, talk: Talk) -> None:
        talk.start(self.settings)
        while request := talk.read_request():
            self.answer(talk, request)

    def answer(self, talk: Talk, request: Request) -> None:
        match request.target:
            case "/are-held":
                self.asking.append((talk, request))
            case "/held-body":
                talk.headers(request.stream, [(":status", "200"), ("content-length", "10")])
                talk.data(request.stream, b"/held")
                self.held.append((talk, request))
            case "/held" | "/queued" if self.settings is None:
                self.held.append((talk, request))
            case "/held":
                pass
            case "/let-go":
                for other, waiting in self.held:
                    self.end(other, waiting)
                talk.respond(request, b"/let-go")
            case target:
                talk.respond(request, target.encode("latin-1"))
        if len(self.held) >= 4:
            while self.asking:
                talk, request = self.asking.pop()
                talk.respond(request, b"/are-held")

    def end(self, talk: Talk, request: Request) -> None:
        if request.target == "/held-body":
            talk.data(request.stream, b"-body", end=True)
        else:
            talk.respond(request, request.target.encode("latin-1"))


# The end of the loop, and an idle loop.


@loops
def test_loop_runs_only_while_a_request_waits(loop: str) -> None:
    with Peer(scripted(Holding({MAX_CONCURRENT_STREAMS: 1}))) as peer:
        out = run("http2.quiet", peer.port, **choose(loop)).clean()
    assert out.splitlines() == [
        "an idle connection: ok",
        "an unread response: ok",
        "a queue that only a blocked greenlet could serve: ok",
        "a request that was killed: ok",
    ]


@loops
def test_idle_client_takes_no_cpu_time(loop: str) -> None:
    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start()
        first = talk.read_request()
        talk.respond(first, b"/first")
        while frame := talk.read_frame():
            if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                talk.say(PingFrame(0, frame.opaque_data, flags=["ACK"]))
            for request in list(talk.requests.values()):
                if request.target == "/large" and request.ended:
                    # The maximum of an unread body that may be sent.
                    talk.headers(request.stream, [(":status", "200")])
                    talk.data(request.stream, bytes(talk.room[request.stream]))
                elif request.target == "/last" and request.ended:
                    talk.respond(request, b"/last")
                else:
                    continue
                del talk.requests[request.stream]

    with Peer(scripted(script)) as peer:
        out = run("http2.idling", peer.port, **choose(loop)).clean()
    assert out.splitlines() == ["an idle connection: ok", "an unread response, a blocked upload: ok"]


# Destructors.


def test_client_dropped_while_an_exception_propagates_is_closed(certificates: Certificates) -> None:
    with talking_securely(certificates, serve_targets, way="context") as (peer, _):
        assert run("http2.dropped", peer.port, certificates.ca).clean().split() == ["ok"] * 3
        until(lambda: peer.open_now == 0)


@pytest.mark.parametrize("way", ["native", "context"])
def test_garbage_collector_may_run_at_any_time(way: str, certificates: Certificates) -> None:
    """Responses in reference cycles are dropped at any point, also during reading and writing."""

    def work(client: HTTPClient) -> None:
        for n in range(20):
            response = client.get(f"/{n}")
            cycle: list[object] = [response]
            cycle.append(cycle)
            if n % 2:
                assert response.read() == f"/{n}".encode()

    thresholds = gc.get_threshold()
    with talking_securely(certificates, serve_targets, way=way) as (peer, client):
        client.get("/first").read()
        gc.set_threshold(1, 1, 1)
        try:
            calls = [gevent.spawn(work, client) for _ in range(5)]
            gevent.joinall(calls, timeout=30, raise_error=True)
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
        until(lambda: client.statistics()["streams"] == 0)
        assert len(peer.conns) == 1


def test_response_dropped_in_another_thread_cancels_its_stream() -> None:
    """The stream is cancelled at once, although its own thread is idle."""

    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        talk.say(DataFrame(request.stream, b"begun"))
        cancelled.append(talk.expect(RstStreamFrame, request.stream).error_code)
        talk.respond(talk.read_request(), b"next")
        talk.wait_closed()

    cancelled: list[int] = []
    with talking(script) as (peer, client):
        responses = [client.get("/")]
        in_thread(responses.clear)
        until(lambda: cancelled)
        assert cancelled == [CANCEL]
        assert client.statistics()["streams"] == 0
        assert client.get("/").read() == b"next"
        assert len(peer.conns) == 1


# Kills.


@pytest.mark.parametrize("way", ["clear", "native", "context"])
def test_request_killed_at_any_turn_of_the_hub_does_not_affect_others(way: str, certificates: Certificates) -> None:
    """It may be waiting for a connection, for a stream or for a response."""

    def script(talk: Talk) -> None:
        talk.start({MAX_CONCURRENT_STREAMS: 2})
        with suppress(ConnectionError):
            while request := talk.read_request():
                talk.respond(request, b"x" * 100)

    def call() -> bytes:
        return client.get("/").read()

    options: dict[str, Any] = {"concurrency": 2, "network_timeout": 20}
    scripts = [script] * 200
    start = (
        talking(*scripts, **options) if way == "clear" else talking_securely(certificates, *scripts, way=way, **options)
    )
    with start as (_, client):
        for n in range(100):
            calls = [gevent.spawn(attempt, call) for _ in range(6)]
            if n % 2:
                turn(n % 5)
            else:
                for _ in range(n % 9):
                    gevent.sleep(0)
            victims = [calls[n % 6], calls[(n + 1 + n % 4) % 6]]
            gevent.killall(victims)
            gevent.joinall(calls, timeout=20)
            assert [call.value for call in calls if call not in victims] == [b"x" * 100] * (6 - len(set(victims)))
            statistics = client.statistics()
            assert (statistics["streams"], statistics["waiting"], statistics["in_use"]) == (0, 0, 0)
            assert statistics["idle"] == statistics["open"] <= 2


# Hubs and interpreters that end.


def test_hub_is_destroyed_while_streams_are_open() -> None:
    with Peer(scripted(Holding())) as peer:
        assert run("http2.destroyed", peer.port).clean().split() == ["ok"]
        until(lambda: peer.open_now == 0)


@loops
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("returns", 0),
        ("sys_exit", 3),
        ("exception", 1),
        ("within_a_greenlet", 5),
        ("references_dropped", 6),
        ("daemon_thread_parked", 0),
        ("hub_destroyed", 0),
        ("closed_without_a_hub", 0),
        ("reinitialised", 0),
        ("thread_with_a_response", 0),
        ("plain_daemon_thread", 0),
        ("closed_by_del", 0),
    ],
)
def test_interpreter_ends_while_streams_are_open(name: str, code: int, loop: str) -> None:
    with Peer(scripted(Holding())) as peer:
        outcome = run(f"exits.{name}", peer.port, SPEAK_HTTP2="1", **choose(loop))
        xfail_if_libuv_crashed(outcome, name, loop)
        check_end(outcome, code)
        until(lambda: peer.open_now == 0)


def test_thread_ends_while_its_streams_are_open() -> None:
    with Peer(scripted(Holding())) as peer:
        outcome = run("http2.threads_that_end", peer.port)
        assert outcome.clean().split() == ["ok"]
        until(lambda: peer.open_now == 0)


def test_interpreter_ends_while_a_daemon_thread_sends_requests() -> None:
    with Peer(scripted(serve_targets)) as peer:
        for _ in range(3):
            check_end(run("exits.daemon_thread", peer.port, SPEAK_HTTP2="1"), 0)
