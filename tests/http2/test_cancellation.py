"""HTTP/2 requests that end by a kill or a timeout: only their own stream is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import HTTPClient
from tests.support.certificates import Certificates
from tests.support.http2_peer import (
    CANCEL,
    DataFrame,
    Talk,
    talking,
    talking_securely,
)
from tests.support.hub import attempt, turn, until
from tests.support.tls import WAYS, check_whole

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
def test_request_ended_cancels_only_its_stream(wait: str, end: str, way: str, certificates: Certificates) -> None:
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
        limit: dict[str, Any] = {end: 0.2} if end.endswith("_timeout") else {}
        if end == "timeout":
            with gevent.Timeout(0.2):
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


def test_requests_continue_while_others_are_killed() -> None:
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


def test_frames_of_a_cancelled_stream_are_ignored() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        talk.data(request.stream, BEGUN)
        talk.expect_reset(request, CANCEL)
        # Frames that were in transit when the reset arrived (RFC 9113 section 5.1).
        talk.data(request.stream, bytes(100_000))
        talk.window(request.stream, 10)
        talk.headers(request.stream, [("x-sum", "1")], end=True)
        talk.respond(talk.read_request(), b"next")
        talk.wait_closed()

    with talking(script) as (peer, client):
        client.get("/").release()
        assert client.get("/").read() == b"next"
        assert len(peer.conns) == 1


def test_request_killed_before_it_is_sent_sends_nothing() -> None:
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
