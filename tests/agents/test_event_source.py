"""EventSource and JSONLinesSource: streams that connect again."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import EventSource, JSONLinesSource, Session
from geventhttpclient._internal.reconnection import (
    MAX_BACKOFF,
    MAX_DELAY,
    MIN_BACKOFF,
    Reconnection,
    is_retried,
    is_retried_status,
)
from geventhttpclient.exceptions import (
    BadStatusCode,
    ContentTypeError,
    HTTPConnectionClosed,
    RetriesExceeded,
    StreamFormatError,
)
from geventhttpclient.sse import CLOSED, CONNECTING, OPEN
from tests.support.peer import Conn, Peer
from tests.support.ports import free_port

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def feed(*pieces: bytes | Callable[[], object], whole: bool = True) -> Callable[[Conn], None]:
    """Returns the script of a connection: one stream of events, which ends or breaks off."""

    def script(conn: Conn) -> None:
        if conn.read_request() is None:
            return
        conn.send(HEAD)
        for piece in pieces:
            if callable(piece):
                piece()
            else:
                conn.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        if whole:
            conn.send(b"0\r\n\r\n")

    return script


def answering(status: str, *headers: tuple[str, str], body: bytes = b"") -> Callable[[Conn], None]:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.respond(body, status, [*headers, ("Connection", "close")])

    return script


def last_ids(peer: Peer) -> list[str | None]:
    return [request.get("last-event-id") for request in peer.requests]


# ------------------------------------------------------------------------------------------------------------- policy


def test_delay_doubles_up_to_a_minute_and_begins_again_after_success() -> None:
    policy = Reconnection(3.0, None, chance=lambda: 0.0)
    delays = [policy.delay() for _ in range(8)]
    assert delays == [3, 6, 12, 24, 48, MAX_BACKOFF, MAX_BACKOFF, MAX_BACKOFF]
    policy.succeeded()
    assert policy.delay() == 3


def test_delay_is_up_to_half_longer_by_chance() -> None:
    random.seed(1)
    delays = [Reconnection(2.0, None).delay() for _ in range(1000)]
    assert all(delay is not None and 2.0 <= delay <= 3.0 for delay in delays)
    assert len(set(delays)) > 900


def test_delay_without_reconnection_time_still_grows() -> None:
    policy = Reconnection(0.0, None, chance=lambda: 0.0)
    assert [policy.delay() for _ in range(4)] == [0, 0.2, 0.4, 0.8]
    for _ in range(10_000):
        assert policy.delay() is not None


def test_delay_of_the_server_is_bounded_and_not_cut_by_the_backoff() -> None:
    policy = Reconnection(3.0, None, chance=lambda: 0.0)
    policy.set_retry(120_000)
    assert [policy.delay() for _ in range(3)] == [120, 120, 120]
    policy.set_retry(None)
    assert policy.retry == 120
    policy.set_retry(0)
    assert policy.retry == MIN_BACKOFF
    policy.set_retry(2**64 - 1)
    assert policy.delay() == MAX_DELAY


def test_delay_respects_retry_after() -> None:
    policy = Reconnection(3.0, None, chance=lambda: 0.0)
    assert policy.delay(50.0) == 50
    assert policy.delay(1.0) == 6
    assert policy.delay(1e9) == MAX_DELAY


def test_delay_is_none_after_the_last_retry() -> None:
    policy = Reconnection(1.0, 2, chance=lambda: 0.0)
    assert [policy.delay(), policy.delay(), policy.delay()] == [1, 2, None]
    policy.succeeded()
    assert policy.delay() == 1
    assert Reconnection(1.0, 0).delay() is None


def test_retried_statuses() -> None:
    assert [status for status in range(200, 600) if is_retried_status(status)] == [408, 425, 429, *range(500, 600)]


def test_errors_of_the_program_are_not_retried() -> None:
    assert not any(map(is_retried, [OSError(), ValueError(), KeyError(), RetriesExceeded("http://x/", 3)]))
    assert not is_retried(RetriesExceeded("http://x/", 3, original=ValueError()))


# -------------------------------------------------------------------------------------------------------- reconnection


def test_source_goes_on_behind_the_last_event(bounded: None) -> None:
    scripts = [
        feed(b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3"),
        feed(b"id: 3\ndata: 3\n\n", whole=False),
        feed(b"data: 4\n\n"),
        answering("204 No Content"),
    ]
    with Peer(*scripts) as peer, EventSource(peer.url, retry=0) as events:
        assert events.ready_state == CONNECTING
        first = next(events)
        assert (events.ready_state, first.data, events.last_event_id) == (OPEN, "1", "1")
        assert [(event.data, event.id) for event in events] == [("2", "2"), ("3", "3"), ("4", "3")]
        assert (events.ready_state, events.reconnects, events.last_event_id) == (CLOSED, 3, "3")
        assert last_ids(peer) == [None, "2", "3", "3"]
        assert [request.get("accept") for request in peer.requests] == ["text/event-stream"] * 4
        assert list(events) == []


def test_source_begins_after_an_id(bounded: None) -> None:
    with Peer(answering("204 No Content")) as peer:
        with EventSource(peer.url, last_event_id="grün\u20ac") as events:
            assert list(events) == []
        assert peer.requests[0].get("last-event-id") == "grün\u20ac".encode().decode("latin-1")


def test_id_with_control_characters_is_not_sent(bounded: None) -> None:
    with Peer(feed(b"id: a\x01b\ndata: 1\n\n"), answering("204 No Content")) as peer:
        with EventSource(peer.url, retry=0) as events:
            assert [event.id for event in events] == ["a\x01b"]
        assert last_ids(peer) == [None, None]


def test_reconnection_time_of_the_server_counts(bounded: None) -> None:
    scripts = [feed(b"retry: 20\n\n"), answering("204 No Content")]
    with Peer(*scripts) as peer, EventSource(peer.url, retry=1000) as events:
        assert list(events) == []
        assert events.retry == 0.1


@pytest.mark.parametrize("status", ["408 Timeout", "425 Too Early", "429 Slow", "500 Error", "503 Gone for now"])
def test_statuses_that_pass_are_tried_again(status: str, bounded: None) -> None:
    scripts = [answering(status, ("Retry-After", "0")), feed(b"data: 1\n\n"), answering("204 No")]
    with Peer(*scripts) as peer, EventSource(peer.url, retry=0) as events:
        assert [event.data for event in events] == ["1"]


@pytest.mark.parametrize("status", ["304 Same", "400 Bad", "401 No", "404 None", "410 Gone"])
def test_other_statuses_end_it_with_their_body(status: str, bounded: None) -> None:
    body = b"" if status.startswith("304") else b'{"error": "key"}'
    with Peer(answering(status, body=body)) as peer, EventSource(peer.url, retry=0) as events:
        with pytest.raises(BadStatusCode) as caught:
            next(events)
        assert caught.value.code == int(status[:3])
        assert caught.value.response.content == body  # type: ignore[attr-defined]
        assert events.ready_state == CLOSED
        assert len(peer.requests) == 1


def test_another_type_ends_it(bounded: None) -> None:
    with Peer() as peer, EventSource(peer.url, retry=0) as events:
        with pytest.raises(ContentTypeError):
            next(events)
        assert (events.ready_state, len(peer.requests)) == (CLOSED, 1)


def test_too_large_event_ends_it(bounded: None) -> None:
    with Peer(feed(b"data: 0123456789\n\n")) as peer, EventSource(peer.url, retry=0, max_event_bytes=10) as events:
        with pytest.raises(StreamFormatError, match="event 1 of"):
            next(events)
        assert len(peer.requests) == 1


def test_redirects_are_followed_each_time(bounded: None) -> None:
    scripts = [answering("302 Found", ("Location", "/here")), feed(b"data: 1\n\n")]
    with Peer(*scripts, *scripts, answering("204 No")) as peer, EventSource(f"{peer.url}/there", retry=0) as events:
        assert [event.data for event in events] == ["1", "1"]
        assert [request.target for request in peer.requests] == ["/there", "/here", "/there", "/here", "/there"]


def test_endless_redirects_end_it(bounded: None) -> None:
    script = answering("302 Found", ("Location", "/again"))
    with Peer(script) as peer, EventSource(peer.url, retry=0) as events, pytest.raises(RetriesExceeded):
        next(events)


def test_connection_refused_is_tried_again_at_most_max_retries_times(bounded: None) -> None:
    with EventSource(f"http://127.0.0.1:{free_port()}/", retry=0, max_retries=2) as events:
        with pytest.raises(ConnectionRefusedError):
            next(events)
        assert events.reconnects == 2


def test_failures_are_counted_in_succession(bounded: None) -> None:
    broken = feed(b"data: 1\n\n", whole=False)
    with Peer(broken, broken, broken, feed(whole=False), feed(whole=False)) as peer:
        with EventSource(peer.url, retry=0, max_retries=1) as events:
            assert [next(events).data for _ in range(3)] == ["1"] * 3
            with pytest.raises(HTTPConnectionClosed):
                next(events)
        assert len(peer.requests) == 4


def test_silence_is_a_reason_to_connect_again(bounded: None) -> None:
    never = Event()
    with Peer(feed(b"id: 1\ndata: 1\n\n", never.wait), feed(b"data: 2\n\n"), answering("204 No")) as peer:
        with EventSource(peer.url, retry=0, idle_timeout=0.1) as events:
            assert [event.data for event in events] == ["1", "2"]
        assert last_ids(peer) == [None, "1", "1"]
        never.set()


def test_complete_response_to_a_post_is_the_end(bounded: None) -> None:
    with Peer(feed(b"data: 1\n\n", whole=False), feed(b"data: 2\n\n")) as peer:
        with EventSource(peer.url, method="post", json={"a": 1}, retry=0) as events:
            assert [event.data for event in events] == ["1", "2"]
        assert [(request.method, request.body) for request in peer.requests] == [("POST", b'{"a": 1}')] * 2


# -------------------------------------------------------------------------------------------------------------- closing


@pytest.mark.parametrize("place", ["head", "body", "delay", "pool"])
def test_close_in_another_greenlet_ends_the_iteration(place: str, bounded: None) -> None:
    waits, go_on = Event(), Event()

    def silent(conn: Conn) -> None:
        conn.read_request()
        waits.set()
        go_on.wait()

    scripts = {
        "head": silent,
        "body": feed(b": comment\n\n", waits.set, go_on.wait),
        "delay": feed(b"retry: 1000000\n\n", waits.set),
        "pool": feed(b"data: 1\n\n", go_on.wait),
    }
    with Peer(scripts[place]) as peer, Session(concurrency=1, max_retries=0) as session:
        if place == "pool":
            held = gevent.spawn(session.get, peer.url, stream=True)
            held.join()
            keeper = gevent.spawn(go_on.wait)
            waits.set()
        events = EventSource(peer.url, session=session)
        reading = gevent.spawn(list, events)
        waits.wait()
        if place == "delay":
            while events.retry != 1000:
                gevent.sleep(0)
        gevent.sleep(0)
        events.close()
        assert reading.get(timeout=10) == []
        assert events.ready_state == CLOSED
        events.close()
        assert list(events) == []
        go_on.set()
        if place == "pool":
            keeper.join()


def test_close_within_the_loop_ends_it(bounded: None) -> None:
    with Peer(feed(b"data: 1\n\ndata: 2\n\n")) as peer, EventSource(peer.url) as events:
        data = []
        for event in events:
            data.append(event.data)
            events.close()
        assert data == ["1"]


def test_killed_greenlet_frees_the_connection(bounded: None) -> None:
    begun, never = Event(), Event()
    with Peer(feed(b"data: 1\n\n", never.wait)) as peer, Session() as session:

        def follow() -> None:
            for _ in EventSource(peer.url, session=session):
                begun.set()

        greenlet = gevent.spawn(follow)
        begun.wait()
        assert session.clientpool.get_client(peer.url).statistics()["in_use"] == 1
        greenlet.kill()
        assert session.clientpool.get_client(peer.url).statistics()["in_use"] == 0
        never.set()


def test_timeout_of_gevent_closes_it(bounded: None) -> None:
    never = Event()
    with Peer(feed(b"data: 1\n\n", never.wait)) as peer, EventSource(peer.url) as events:
        assert next(events).data == "1"
        with gevent.Timeout(0.05, False):
            next(events)
        assert events.ready_state == CLOSED
        assert list(events) == []
        never.set()


def test_close_before_the_response_was_taken_counts(bounded: None) -> None:
    class Closing(Session):
        def request(self, *args: Any, **options: Any) -> Any:
            response = super().request(*args, **options)
            events.close()
            return response

    with Peer(feed(b"data: 1\n\n")) as peer, Closing() as session:
        events = EventSource(peer.url, session=session)
        assert list(events) == []
        assert events.ready_state == CLOSED
        assert session.clientpool.get_client(peer.url).statistics()["in_use"] == 0


def test_source_that_is_dropped_frees_its_connection_at_once(bounded: None) -> None:
    never = Event()
    with Peer(feed(b"data: 1\n\n", never.wait)) as peer, Session(concurrency=1) as session:
        gc.disable()
        try:
            for _ in EventSource(peer.url, session=session):
                break
            assert session.clientpool.get_client(peer.url).statistics()["in_use"] == 0
        finally:
            gc.enable()
        never.set()


def test_second_greenlet_is_refused_and_the_first_goes_on(bounded: None) -> None:
    go_on = Event()
    with Peer(feed(go_on.wait, b"data: 1\n\n")) as peer, EventSource(peer.url) as events:
        first = gevent.spawn(next, events)
        gevent.sleep(0)
        with pytest.raises(RuntimeError, match="another greenlet waits"):
            next(events)
        go_on.set()
        assert first.get().data == "1"


def test_reconnection_time_is_known_while_the_stream_goes_on(bounded: None) -> None:
    never = Event()
    with Peer(feed(b"retry: 10000\ndata: 1\n\n", never.wait)) as peer, EventSource(peer.url) as events:
        next(events)
        assert events.retry == 10
        never.set()


def test_session_of_the_program_stays_open(bounded: None) -> None:
    with Peer(feed(b"data: 1\n\n"), answering("200 OK", body=b"ok")) as peer, Session(headers={"X-A": "b"}) as session:
        with EventSource(peer.url, session=session) as events:
            assert next(events).data == "1"
        assert session.get(peer.url).content == b"ok"
        assert [request.get("x-a") for request in peer.requests] == ["b", "b"]


# ----------------------------------------------------------------------------------------------------------- JSON lines


def test_values_of_a_feed_that_connects_again(bounded: None) -> None:
    scripts = [feed(b"1\n2\n", whole=False), feed(b"3\n\n4"), answering("204 No")]
    with Peer(*scripts) as peer, JSONLinesSource(peer.url, params={"since": 5}, retry=0) as values:
        assert list(values) == [1, 2, 3, 4]
        assert values.reconnects == 2
        assert [request.target for request in peer.requests] == ["/?since=5"] * 3


def test_line_that_is_not_json_ends_it(bounded: None) -> None:
    with Peer(feed(b"1\nx\n")) as peer, JSONLinesSource(peer.url, retry=0) as values:
        assert next(values) == 1
        with pytest.raises(StreamFormatError, match="line 2 of"):
            next(values)
        assert len(peer.requests) == 1


# -------------------------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"retry": -1}, "retry"),
        ({"retry": None}, "retry"),
        ({"retry": "3"}, "retry"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": "many"}, "max_retries"),
        ({"idle_timeout": -1}, "idle_timeout"),
        ({"data": iter([b"x"])}, "data must be str or bytes"),
        ({"max_event_bytes": 0}, "max_event_bytes"),
        ({"timeout": 3}, "timeout"),
        ({"retry": float("inf")}, "retry must be a finite number"),
        ({"session": 5}, "session must be a geventhttpclient.Session"),
        ({"method": 5}, "method must be a str"),
        ({"last_event_id": 5}, "last_event_id must be a str"),
        ({"last_event_id": "a\r\nb"}, "last_event_id must not contain"),
    ],
)
def test_bad_arguments_are_refused_by_name(options: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        EventSource("http://127.0.0.1/", **options)


def test_url_that_is_invalid_is_an_error_at_once() -> None:
    with EventSource("nonsense", retry=0) as events, pytest.raises(ValueError, match="nonsense"):
        next(events)
