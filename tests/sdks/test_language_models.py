"""openai and anthropic on the transport for httpx2: streams, tools, retries, timeouts and cancelled greenlets.

The SDKs are not patched. The results of failures are those with the transport of httpx2 itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.support.dependents import need
from tests.support.http2_peer import CANCEL, Talk, scripted
from tests.support.hub import Program, running, until
from tests.support.peer import Conn, Peer, Script
from tests.support.ports import free_port

httpx2 = pytest.importorskip("httpx2", reason="httpx2 requires Python 3.11")

from geventhttpclient.adapters.httpx2 import Transport  # noqa: E402
from tests.support.sdk_failures import BROKEN, Step, hang_up, refuse, reset, stay_silent  # noqa: E402
from tests.support.sdk_models import END, HEAD, MODELS, chunk, event, failure  # noqa: E402

pytestmark = pytest.mark.usefixtures("bounded")

Model = Any


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    need(MODELS[request.param].package)
    return MODELS[request.param]


@contextmanager
def talking(
    model: Model, script: Script, timeout: Any = 10, max_retries: int = 0, **transport: Any
) -> Iterator[tuple[Peer, Any]]:
    """Starts a peer that plays the script, and yields it and a client of the SDK."""
    with Peer(script) as peer, httpx2.Client(transport=Transport(**transport)) as http:
        yield peer, model.client(peer.url, http, timeout=timeout, max_retries=max_retries)


def streaming(*events: bytes, before: Callable[[int], object] = lambda number: None) -> Script:
    """Returns a script that answers each request with these events; before each it calls `before`."""

    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.send(HEAD)
            for number, text in enumerate(events):
                before(number)
                conn.send(chunk(text))
            conn.send(END)

    return script


# ---------------------------------------------------------------- streams


def test_stream_yields_each_piece_while_other_greenlets_run(model: Model) -> None:
    """The server sends a piece only after another greenlet has noticed the one before."""
    received = [Event() for _ in range(6)]
    texts: list[str] = []

    def before(number: int) -> None:
        if number:
            received[number - 1].wait()

    def acknowledge() -> None:
        for number in range(5):
            until(lambda: len(texts) >= number)  # noqa: B023
            received[number].set()

    events = [model.first(), *(model.piece(f"{number} ") for number in range(4)), model.last()]
    with talking(model, streaming(*events, before=before)) as (_, client):
        other = gevent.spawn(acknowledge)
        for text in model.texts(model.stream(client)):
            texts.append(text)
        other.get()
    assert texts == ["0 ", "1 ", "2 ", "3 "]


def test_hundred_streams_advance_together(model: Model) -> None:
    """The server sends the n-th piece of a stream when all streams have arrived there."""
    count = 100
    arrived, together = [0] * 5, [Event() for _ in range(5)]

    def before(number: int) -> None:
        arrived[number] += 1
        if arrived[number] == count:
            together[number].set()
        together[number].wait()

    events = [model.first(), model.piece("a"), model.piece("é"), model.piece("\U0001f600"), model.last()]
    with talking(model, streaming(*events, before=before), limits=httpx2.Limits(max_connections=count)) as (
        peer,
        client,
    ):
        greenlets = [gevent.spawn(lambda: "".join(model.texts(model.stream(client)))) for _ in range(count)]
        gevent.joinall(greenlets, raise_error=True)
        assert {greenlet.value for greenlet in greenlets} == {"aé\U0001f600"}
        assert len(peer.conns) == count
        # All connections were kept.
        gevent.joinall([gevent.spawn(lambda: list(model.stream(client))) for _ in range(count)], raise_error=True)
        assert len(peer.conns) == count


def test_stream_in_single_bytes_is_whole(model: Model) -> None:
    whole = model.first() + model.piece("é") + model.last()
    with talking(model, streaming(*(whole[i : i + 1] for i in range(len(whole))))) as (_, client):
        assert list(model.texts(model.stream(client))) == ["é"]


def test_streamed_tool_call_has_its_arguments(model: Model) -> None:
    pieces = model.tool_pieces(['{"city": ', '"Par', 'is"}'])
    with talking(model, streaming(*pieces)) as (peer, client):
        name, arguments = model.stream_tool(client)
        assert (name, json.loads(arguments)) == ("weather", {"city": "Paris"})
        assert json.loads(peer.requests[0].body)["stream"] is True


# ---------------------------------------------------------------- connections given back


def endless(model: Model) -> Script:
    """Returns a script that sends one piece and then nothing, on its first connection; later ones are complete."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(HEAD + chunk(model.first() + model.piece("a")))
        if conn.number == 0:
            conn.wait_closed(50)
        else:
            conn.send(chunk(model.last()) + END)
            conn.wait_closed(50)

    return script


def kill(model: Model, client: Any) -> None:
    """Kills a greenlet that waits for the second piece."""
    texts: list[str] = []

    def read() -> None:
        for text in model.texts(model.stream(client)):
            texts.append(text)

    greenlet = gevent.spawn(read)
    until(lambda: texts)
    greenlet.kill()


def time_out(model: Model, client: Any) -> None:
    stream = model.stream(client)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        list(stream)


def leave(model: Model, client: Any) -> None:
    with model.stream(client) as stream:
        assert next(model.texts(stream)) == "a"


@pytest.mark.parametrize("way", [kill, time_out, leave])
def test_cancelled_stream_gives_back_its_slot_and_socket(way: Callable[[Model, Any], None], model: Model) -> None:
    with talking(model, endless(model), limits=httpx2.Limits(max_connections=1)) as (peer, client):
        way(model, client)
        with gevent.Timeout(10):
            peer.conns[0].hung_up.wait()
        # The only slot is free.
        assert list(model.texts(model.stream(client))) == ["a"]
        assert len(peer.conns) == 2


def test_killed_request_gives_back_its_slot_and_socket(model: Model) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        if conn.number == 0:
            conn.wait_closed(50)
        else:
            conn.respond(model.answer("hello"), headers=[("Content-Type", "application/json")])

    with talking(model, script, limits=httpx2.Limits(max_connections=1)) as (peer, client):
        greenlet = gevent.spawn(model.ask, client)
        until(lambda: peer.requests)
        greenlet.kill()
        assert model.ask(client) == "hello"
        with gevent.Timeout(10):
            peer.conns[0].hung_up.wait()


# ---------------------------------------------------------------- retries


def first(model: Model, step: Step) -> Script:
    """Returns a script that answers the first request of all connections by a step, and the others well."""
    left = [step]

    def script(conn: Conn) -> None:
        while conn.read_request():
            if left:
                if not left.pop()(conn):
                    return
            else:
                conn.respond(model.answer("hello"), headers=[("Content-Type", "application/json")])

    return script


RETRIED = {
    "429": refuse("429 Too Many Requests", ("Retry-After-Ms", "1")),
    "500": refuse("500 Internal Server Error"),
    "503": refuse("503 Service Unavailable"),
    "closed": hang_up,
    "reset": reset,
    "silent": stay_silent,
}


@pytest.mark.parametrize("how", RETRIED)
def test_failed_request_is_retried(how: str, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    # The SDK waits for half a second before the retry of a request without a response.
    monkeypatch.setattr("time.sleep", lambda seconds: gevent.sleep(0))
    timeout = httpx2.Timeout(10, read=0.1 if how == "silent" else 10)
    with talking(model, first(model, RETRIED[how]), timeout=timeout, max_retries=2) as (peer, client):
        assert model.ask(client) == "hello"
        assert len(peer.requests) == 2


def test_kept_connection_that_was_closed_is_replaced(model: Model) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.respond(model.answer("hello"), headers=[("Content-Type", "application/json")])

    with talking(model, script) as (peer, client):
        for number in range(3):
            assert model.ask(client) == "hello"
            with gevent.Timeout(10):
                until(lambda: not peer.open_now)
            assert len(peer.conns) == number + 1


# ---------------------------------------------------------------- failures, as with httpx2's own transport


FAILURES = {
    "400": refuse("400 Bad Request"),
    "401": refuse("401 Unauthorized"),
    "404": refuse("404 Not Found"),
    "409": refuse("409 Conflict"),
    "422": refuse("422 Unprocessable Entity"),
    "429": refuse("429 Too Many Requests"),
    "500": refuse("500 Internal Server Error"),
    "529": refuse("529 Overloaded"),
    **BROKEN,
}


@pytest.fixture(scope="module")
def reference() -> Iterator[Program]:
    """Yields a program whose SDKs use httpx2's own transport: one of its own, where nothing is cooperative."""
    with running("sdk_failures.with_httpx2") as program:
        yield program


def both(reference: Program, model: Model, url: str, call: str, read: float = 10) -> list[list[str]]:
    """Returns the failures of a call with this transport and with that of httpx2."""
    reference.send_line(json.dumps([model.package, url, call, read]))
    theirs = json.loads(reference.read_line() or "null")
    return [failure(model, url, call, read, Transport()), theirs]


@pytest.mark.parametrize("how", FAILURES)
def test_failed_request_raises_the_same_as_with_httpx2(how: str, model: Model, reference: Program) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        FAILURES[how](conn)

    with Peer(script) as peer:
        ours, theirs = both(reference, model, peer.url, "ask", 0.1 if how == "silent" else 10)
    assert ours == theirs != ["none"]


def test_refused_connection_raises_the_same_as_with_httpx2(model: Model, reference: Program) -> None:
    ours, theirs = both(reference, model, f"http://127.0.0.1:{free_port()}", "ask")
    assert ours == theirs
    assert ours[0].startswith("APIConnectionError")


def broken_off(model: Model, conn: Conn) -> None:
    conn.send(chunk(model.piece("a"))[:-5])


def error_event(model: Model, conn: Conn) -> None:
    value = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    conn.send(chunk(event(value, "error")) + END)


def no_end(model: Model, conn: Conn) -> None:
    conn.send(chunk(model.piece("a")) + END)


def stalled(model: Model, conn: Conn) -> None:
    conn.send(chunk(model.piece("a")))
    conn.wait_closed(50)


@pytest.mark.parametrize("how", [broken_off, error_event, no_end, stalled])
def test_broken_stream_raises_the_same_as_with_httpx2(
    how: Callable[[Model, Conn], None], model: Model, reference: Program
) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(HEAD + chunk(model.first()))
        how(model, conn)

    with Peer(script) as peer:
        ours, theirs = both(reference, model, peer.url, "read", 0.1 if how is stalled else 10)
    assert ours == theirs
    if how is stalled:
        assert "ReadTimeout" in ours[-1]
        assert ("APITimeoutError" in ours[0]) == (model.package == "openai")


# ---------------------------------------------------------------- HTTP/2

SSE = [(":status", "200"), ("content-type", "text/event-stream")]


@contextmanager
def multiplexing(model: Model, script: Callable[[Talk], object]) -> Iterator[tuple[Peer, Any]]:
    """Starts an HTTP/2 peer without TLS, and yields it and a client of the SDK."""
    with Peer(scripted(script)) as peer, httpx2.Client(transport=Transport(http1=False, http2=True)) as http:
        yield peer, model.client(peer.url, http, timeout=10, max_retries=0)


def test_streams_share_one_connection_of_http2(model: Model) -> None:
    """The server sends the pieces of all streams in turn, after the last of the requests."""
    count = 50

    def script(talk: Talk) -> None:
        talk.start()
        requests = talk.read_requests(count)
        for request in requests:
            talk.headers(request.stream, SSE)
        for text in (model.first(), model.piece("a"), model.piece("é")):
            for request in requests:
                talk.data(request.stream, text)
        for request in reversed(requests):
            talk.data(request.stream, model.last(), end=True)
        talk.wait_closed()

    with multiplexing(model, script) as (peer, client):
        greenlets = [gevent.spawn(lambda: "".join(model.texts(model.stream(client)))) for _ in range(count)]
        gevent.joinall(greenlets, raise_error=True)
        assert {greenlet.value for greenlet in greenlets} == {"aé"}
        assert len(peer.conns) == 1


def test_killed_stream_of_http2_is_reset_and_the_connection_is_kept(model: Model) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        for killed in (True, False):
            request = talk.read_request()
            assert request is not None
            talk.headers(request.stream, SSE)
            talk.data(request.stream, model.first() + model.piece("a"))
            if killed:
                talk.expect_reset(request, CANCEL)
            else:
                talk.data(request.stream, model.last(), end=True)
        talk.wait_closed()

    with multiplexing(model, script) as (peer, client):
        kill(model, client)
        assert list(model.texts(model.stream(client))) == ["a"]
        assert len(peer.conns) == 1
