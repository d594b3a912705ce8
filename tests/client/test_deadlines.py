"""Timeouts of a client and of a request: the waits that each bounds, and the state after one has fired."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from functools import partial
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from geventhttpclient import HTTPClient, exceptions
from geventhttpclient.connectionpool import ConnectionPool
from tests.support import wait_points as phases
from tests.support.hub import get
from tests.support.peer import Conn, serve_ok
from tests.support.scripted import saying, serving
from tests.support.wait_points import PLAIN, Phase, staged

pytestmark = pytest.mark.usefixtures("bounded")

LIMIT = 0.08
NAMES = ["connection_timeout", "network_timeout", "pool_timeout", "total_timeout"]
VERBS = ["get", "head", "options", "post", "put", "patch", "delete", "trace"]


def with_timeouts(client: HTTPClient, **timeouts: float | None) -> Any:
    """Returns the client with these timeouts in each of its requests."""
    return SimpleNamespace(get=partial(client.get, **timeouts), post=partial(client.post, **timeouts))


def check_whole(client: HTTPClient) -> None:
    """Checks that no slot is in use and that the next request succeeds."""
    pool = client._connection_pool
    counts = pool.statistics()
    assert (counts["in_use"], counts["waiting"]) == (0, 0)
    quiet = dict.fromkeys(NAMES)
    assert client.get("/after", **quiet).read() == b"/after"
    assert pool.statistics()["in_use"] == 0


def timed_out(call: Callable[[], object], phase: str, limit: float = LIMIT) -> TimeoutError:
    """Checks that the call times out at its limit, in that phase."""
    start = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        call()
    took = time.monotonic() - start
    assert limit <= took < limit + 1
    error: Any = caught.value
    assert type(error) is exceptions.TimeoutError
    assert error.phase == phase
    assert error.elapsed >= limit
    return error


# ---------------------------------------------------------------- total_timeout


@pytest.mark.parametrize("kind", PLAIN)
def test_deadline_ends_every_wait_and_names_it(kind: type[Phase]) -> None:
    with staged(kind) as stage:
        hurried = with_timeouts(stage.client, total_timeout=LIMIT)
        error = timed_out(lambda: stage.phase.call(hurried), kind.word)
        assert f"not complete after {LIMIT} s in total" in str(error)
        assert error.peer == stage.place  # type: ignore[attr-defined]
        stage.act("over")
        stage.heal()
        assert get(stage.client, "/after") == b"/after"
        counts = stage.client._connection_pool.statistics()
        assert (counts["in_use"], counts["waiting"]) == (0, 0)


@pytest.mark.parametrize(
    ("start", "piece", "phase"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"y", "head"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", "head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"z", "body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n", "body"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"z", "body"),
    ],
    ids=["head", "interim heads", "counted", "chunked", "until close"],
)
def test_slow_bytes_do_not_extend_a_deadline(start: bytes, piece: bytes, phase: str) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(start)
        while True:
            conn.send(piece)
            gevent.sleep(LIMIT / 10)

    with serving(script, serve_ok, total_timeout=LIMIT, network_timeout=LIMIT) as (peer, client):
        timed_out(lambda: client.get("/slow").read(), phase)
        check_whole(client)
        assert [request.target for request in peer.requests] == ["/slow", "/after"]


def read_all(response: Any) -> None:
    response.read()


def read_pieces(response: Any) -> None:
    while response.read(10_000):
        pass


def read_lines(response: Any) -> None:
    while response.readline(b"\n"):
        pass


def iterate(response: Any) -> None:
    for _ in response:
        pass


def read_lines_slowly(response: Any) -> None:
    """Reads lines more slowly than the peer sends them, and so never waits."""
    while response.readline(b"\n"):
        gevent.sleep(0.001)


def read_slowly(response: Any) -> None:
    while response.read(20_000):
        gevent.sleep(LIMIT / 20)


@pytest.mark.parametrize("read", [read_all, read_pieces, read_lines, iterate, read_lines_slowly, read_slowly])
def test_endless_body_is_ended_with_every_way_to_read_it(read: Callable[[Any], None]) -> None:
    line = b"z" * 999 + b"\n"

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            conn.send(line * 64)

    with serving(script, serve_ok, total_timeout=LIMIT) as (_, client):
        timed_out(lambda: read(client.get("/endless")), "body")
        check_whole(client)


def test_body_that_is_made_without_end_is_ended() -> None:
    def drops() -> Iterator[bytes]:
        while True:
            yield b"drop"
            gevent.sleep(LIMIT / 10)

    def script(conn: Conn) -> None:
        conn.wait_closed()

    with serving(script, serve_ok, total_timeout=LIMIT) as (_, client):
        timed_out(lambda: client.post("/", drops()), "send")
        check_whole(client)


def test_bytes_that_arrived_in_time_can_be_read_later() -> None:
    with serving(total_timeout=LIMIT) as (_, client):
        response = client.get("/whole")
        time.sleep(LIMIT)
        assert response.read() == b"/whole"
        check_whole(client)


def test_deadline_begins_with_each_request() -> None:
    with serving(total_timeout=LIMIT) as (peer, client):
        for _ in range(3):
            assert client.get("/").read() == b"/"
            gevent.sleep(LIMIT / 2)
        assert len(peer.conns) == 1


def test_request_that_ran_out_of_time_is_not_sent_again() -> None:
    with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b""), serve_ok) as (peer, client):
        assert client.get("/first").read() == b"ok"
        timed_out(lambda: client.get("/second", total_timeout=LIMIT), "head")
        check_whole(client)
        assert [request.target for request in peer.requests] == ["/first", "/second", "/after"]


# ---------------------------------------------------------------- opening a connection


def test_one_limit_is_for_resolving_and_connecting_together(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 0.15
    with staged(phases.Connect) as stage:
        address = (stage.peer.host, stage.peer.port)

        def slowly(*_: object) -> list[tuple[Any, ...]]:
            gevent.sleep(limit * 2 / 3)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

        with monkeypatch.context() as patch, HTTPClient("origin.test", 80, connection_timeout=limit) as client:
            patch.setattr(socket, "getaddrinfo", slowly)
            start = time.monotonic()
            error = timed_out(lambda: client.get("/"), "connect", limit)
            assert time.monotonic() - start < limit * 5 / 3
            assert "timed out after 0.15 s" in str(error)
            assert client._connection_pool.statistics()["in_use"] == 0
        stage.act("over")
        stage.heal()


# ---------------------------------------------------------------- timeouts of one request


def test_timeouts_of_a_request_override_those_of_the_client() -> None:
    with serving(saying(b""), serve_ok, network_timeout=20) as (_, client):
        error = timed_out(lambda: client.get("/", network_timeout=LIMIT), "head")
        assert f"timed out after {LIMIT} s" in str(error)
        check_whole(client)


def test_timeouts_of_a_request_bound_the_body() -> None:
    with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), serve_ok) as (_, client):
        response = client.get("/", network_timeout=LIMIT)
        timed_out(response.read, "body")
        check_whole(client)


def test_timeout_of_a_request_may_exceed_that_of_its_client() -> None:
    def script(conn: Conn) -> None:
        while request := conn.read_request():
            gevent.sleep(0 if request.target == "/after" else LIMIT * 2)
            conn.respond(request.target.encode())

    for timeouts in ({"network_timeout": None}, {"network_timeout": 20}):
        with serving(script, network_timeout=LIMIT) as (_, client):
            assert client.get("/patient", **timeouts).read() == b"/patient"
            timed_out(lambda client=client: client.get("/hurried"), "head")
            check_whole(client)
    with serving(script, total_timeout=LIMIT) as (_, client):
        assert client.get("/patient", total_timeout=None).read() == b"/patient"


def test_timeouts_that_a_request_omits_are_those_of_the_client() -> None:
    with serving(saying(b""), serve_ok, network_timeout=LIMIT) as (_, client):
        timed_out(lambda: client.get("/", connection_timeout=20, total_timeout=20, pool_timeout=20), "head")
        check_whole(client)


def test_each_wait_in_the_queue_has_its_own_limit() -> None:
    with staged(phases.PoolWait) as stage:
        for timeouts in ({"pool_timeout": LIMIT}, {"pool_timeout": LIMIT, "total_timeout": 20}):
            error = timed_out(partial(stage.client.get, "/", **timeouts), "pool")
            assert f"timed out after {LIMIT} s" in str(error)
        error = timed_out(lambda: stage.client.get("/", pool_timeout=20, total_timeout=LIMIT), "pool")
        assert "in total" in str(error)
        stage.heal()
        check_whole(stage.client)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_timeouts(verb: str) -> None:
    with serving(saying(b""), serve_ok) as (_, client):
        timed_out(lambda: getattr(client, verb)("/", network_timeout=LIMIT), "head")


@pytest.mark.parametrize("verb", [*VERBS, "request"])
def test_no_other_names(verb: str) -> None:
    with HTTPClient("127.0.0.1", 1) as client:
        call = getattr(client, verb)
        arguments = ("GET", "/") if verb == "request" else ("/",)
        with pytest.raises(TypeError, match="timeout"):
            call(*arguments, timeout=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), float("-inf"), -(10**400)], ids=lambda v: str(v)[:8])
def test_bad_values(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        HTTPClient("127.0.0.1", 1, **{name: value})
    with pytest.raises(ValueError, match=name):
        ConnectionPool("127.0.0.1", 1, "127.0.0.1", 1, **{name: value})
    with HTTPClient("127.0.0.1", 1) as client, pytest.raises(ValueError, match=name):
        client.get("/", **{name: value})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["1", (1, 2), [], 1j], ids=repr)
def test_wrong_types(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        HTTPClient("127.0.0.1", 1, **{name: value})
    with HTTPClient("127.0.0.1", 1) as client, pytest.raises(TypeError, match=name):
        client.get("/", **{name: value})


class Number:
    """A number of a class outside the standard library, such as those of numpy."""

    def __float__(self) -> float:
        return LIMIT


@pytest.mark.parametrize("value", [Decimal(str(LIMIT)), Fraction(LIMIT), Number()], ids=lambda v: type(v).__name__)
def test_numbers_of_other_classes(value: Any) -> None:
    with serving(saying(b""), network_timeout=value) as (_, client):
        timed_out(lambda: client.get("/"), "head")
    with serving(saying(b"")) as (_, client):
        timed_out(lambda: client.get("/", network_timeout=value), "head")


@pytest.mark.parametrize("value", [1e9, 1e19, 1e300, float("inf"), 10**400], ids=lambda v: str(v)[:8])
def test_huge_values(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name goes through the resolver, whose time gevent limits."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *others: resolve("127.0.0.1", *others))
    all_of_them: dict[str, Any] = dict.fromkeys(NAMES, value)
    with serving(**all_of_them) as (peer, _), HTTPClient("origin.test", peer.port, **all_of_them) as client:
        assert client.get("/client").read() == b"/client"
    with serving() as (peer, _), HTTPClient("origin.test", peer.port) as client:
        body = (piece for piece in (b"a", b"b"))
        assert client.post("/request", body, **all_of_them).read() == b"/request"


# ---------------------------------------------------------------- no time at all


def test_no_time_at_all() -> None:
    with serving(serve_ok) as (peer, client):
        for _ in range(2):  # without and with an idle connection
            timed_out(lambda: client.get("/", total_timeout=0), "pool", 0)
            check_whole(client)
        assert {request.target for request in peer.requests} == {"/after"}
        timed_out(lambda: client.get("/late", network_timeout=0), "head", 0)
        check_whole(client)


def test_no_time_to_connect() -> None:
    with serving(serve_ok) as (peer, client):
        timed_out(lambda: client.get("/", connection_timeout=0), "resolve", 0)
        assert not peer.requests
        check_whole(client)
        # A request on an open connection does not need the time to connect.
        assert client.get("/", connection_timeout=0).read() == b"/"


def test_no_time_to_queue() -> None:
    with staged(phases.PoolWait) as stage:
        timed_out(lambda: stage.client.get("/", pool_timeout=0), "pool", 0)
        stage.heal()
        check_whole(stage.client)
        assert stage.client.get("/", pool_timeout=0).read() == b"/"


def test_all_waiters_of_a_queue_time_out_at_once() -> None:
    go_on = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        go_on.wait()
        conn.respond()
        serve_ok(conn)

    with serving(script) as (_, client):
        first = gevent.spawn(lambda: client.get("/first").read())
        jobs = [gevent.spawn(timed_out, lambda: client.get("/", total_timeout=LIMIT), "pool") for _ in range(50)]
        gevent.joinall(jobs, raise_error=True)
        go_on.set()
        assert first.get() == b"ok"
        check_whole(client)
