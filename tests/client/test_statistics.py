"""Statistics and logging of connections, and the end of idle ones."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import gevent
import pytest

from geventhttpclient import HTTPClient, UserAgent, _core
from geventhttpclient.client import HTTPClientPool
from tests.support.hub import until
from tests.support.peer import Conn, Peer
from tests.support.scripted import OK, saying, saying_then_closing, serving


def closed(client: HTTPClient) -> dict[str, int]:
    found: dict[str, int] = client.statistics()["closed"]
    return found


def test_statistics_of_an_unused_client_are_zero() -> None:
    client = HTTPClient("127.0.0.1", 1, concurrency=7)
    assert client.statistics() == {
        "limit": 7,
        "open": 0,
        "idle": 0,
        "in_use": 0,
        "streams": 0,
        "waiting": 0,
        "opened": 0,
        "reused": 0,
        "retries": 0,
        "closed": {},
    }


def test_connections_are_counted_while_they_are_open() -> None:
    def held(conn: Conn) -> None:
        conn.read_request()
        conn.send(OK[:-1])
        conn.read_request()

    with serving(held, concurrency=1) as (_, client):
        response = client.get("/")
        waiting = gevent.spawn(client.get, "/")
        until(lambda: client.statistics()["waiting"])
        numbers = client.statistics()
        assert {name: numbers[name] for name in ("open", "idle", "in_use", "waiting", "opened")} == {
            "open": 1,
            "idle": 0,
            "in_use": 1,
            "waiting": 1,
            "opened": 1,
        }
        waiting.kill()
        response.release()
        assert client.statistics()["open"] == 0
        assert closed(client) == {"given_up": 1}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "asked_by_peer"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "http_1_0"),
        (b"HTTP/1.1 200 OK\r\n\r\nok", "body_until_close"),
        (OK + b"HTTP/1.1 200 OK\r\n\r\n", "bytes_behind_response"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "ambiguous_framing",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "broken"),
        (b"hello", "broken"),
        (b"", "broken"),
    ],
)
def test_closed_connections_are_counted_by_reason(answer: bytes, reason: str) -> None:
    with serving(saying_then_closing(answer)) as (_, client):
        try:
            assert client.get("/").read() == b"ok"
        except Exception:
            assert reason == "broken"
        assert closed(client) == {reason: 1}
        assert client.statistics()["open"] == 0


def test_connections_closed_by_the_client_are_counted_by_reason() -> None:
    def silent(conn: Conn) -> None:
        conn.read_request()
        conn.wait_closed()

    with serving(saying(OK), silent) as (_, client):
        client.get("/", headers={"Connection": "close"}).read()
        with pytest.raises(TimeoutError):
            client.post("/", body=b"x", network_timeout=0.01)
        assert closed(client) == {"asked_by_us": 1, "timed_out": 1}


def test_retried_request_is_counted() -> None:
    def answers_once(conn: Conn) -> None:
        conn.read_request()
        conn.send(OK)
        conn.read_request()

    with serving(answers_once, saying(OK)) as (_, client):
        assert client.get("/").read() == b"ok"
        assert client.get("/").read() == b"ok"
        numbers = client.statistics()
        assert (numbers["retries"], numbers["opened"], numbers["reused"]) == (1, 2, 1)
        assert closed(client) == {"ended_while_idle": 1}


def test_idle_connection_is_closed_as_soon_as_its_peer_closes_it() -> None:
    with serving(saying_then_closing(OK)) as (_, client):
        assert client.get("/").read() == b"ok"
        until(lambda: not client.statistics()["open"])
        assert closed(client) == {"ended_while_idle": 1}


def test_idle_connection_expires_after_idle_timeout() -> None:
    with serving(saying(OK, OK), concurrency=3, idle_timeout=0.02) as (peer, client):
        assert client.get("/").read() == b"ok"
        assert client.statistics()["idle"] == 1
        # The client makes no request meanwhile.
        peer.conns[0].hung_up.wait(10)
        assert closed(client) == {"idle_timeout": 1}
        assert client.get("/").read() == b"ok"
        assert len(peer.conns) == 2


def test_connection_in_use_does_not_expire() -> None:
    with serving(saying(*[OK] * 40), idle_timeout=0.5) as (peer, client):
        for _ in range(40):
            assert client.get("/").read() == b"ok"
            gevent.sleep(0.001)
        assert len(peer.conns) == 1


def test_idle_connections_do_not_keep_a_loop_alive() -> None:
    with serving(saying(OK), idle_timeout=60) as (_, client):
        assert client.get("/").read() == b"ok"
        assert _core._runtime_statistics() == (0, 0)


@pytest.mark.parametrize("value", [-1, float("nan"), "90"])
def test_invalid_idle_timeout_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="idle_timeout"):
        HTTPClient("127.0.0.1", 1, idle_timeout=value)


def test_connections_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    def answers_once(conn: Conn) -> None:
        conn.read_request()
        conn.send(OK)
        conn.read_request()

    caplog.set_level(logging.DEBUG, logger="geventhttpclient")
    with serving(answers_once, saying(OK)) as (peer, client):
        client.get("/").read()
        client.get("/").read()
        texts = [record.getMessage() for record in caplog.records if record.name == "geventhttpclient"]
        address = f"127.0.0.1:{peer.port}"
        assert [text.partition(address)[0] for text in texts] == [
            "connected to ",
            "asking ",
            "closed a connection to ",
            "connected to ",
        ]
        assert texts[0].endswith(" ms")
        assert "again, on another connection: connection closed by the peer" in texts[1]
        assert texts[2].endswith("the peer closed it or sent unsolicited data while it was idle")
        assert {record.levelno for record in caplog.records} == {logging.DEBUG}
        caplog.clear()
    # Told by a greenlet of its own, when no request is there to tell it.
    until(lambda: caplog.records)
    assert caplog.records[0].getMessage() == f"closed a connection to {address}: the client was closed"


def test_bytes_after_a_response_are_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with serving(saying_then_closing(OK + b"more")) as (peer, client):
        client.get("/").read()
    until(lambda: caplog.records)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("geventhttpclient", logging.WARNING)
    assert record.getMessage() == (
        f"closed a connection to 127.0.0.1:{peer.port}: bytes came behind a complete response"
    )


def test_nothing_is_logged_below_the_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="geventhttpclient")
    with serving(saying(OK)) as (_, client):
        client.get("/").read()
    gevent.sleep(0)
    assert not caplog.records


def test_waiting_log_handler_does_not_block_others() -> None:
    class Slow(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.texts: list[str] = []

        def emit(self, record: logging.LogRecord) -> None:
            gevent.sleep(0.01)
            self.texts.append(record.getMessage())

    handler = Slow()
    logger = logging.getLogger("geventhttpclient")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with serving(saying(OK), concurrency=20) as (_, client):
            found = [gevent.spawn(lambda: client.get("/").read()) for _ in range(20)]
            gevent.joinall(found, timeout=10)
            assert [greenlet.value for greenlet in found] == [b"ok"] * 20
        until(lambda: len(handler.texts) == 40)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def test_client_pool_with_a_limit_drops_the_least_recently_used_client() -> None:
    pool = HTTPClientPool(max_clients=2)
    with Peer(saying(OK, OK)) as a, Peer(saying(OK)) as b, Peer(saying(OK)) as c, pool:
        first = pool.get_client(a.url)
        first.get("/").read()
        pool.get_client(b.url).get("/").read()
        assert pool.get_client(a.url) is first
        pool.get_client(c.url).get("/").read()
        assert {key[1] for key in pool.clients} == {a.port, c.port}
        # No reference to it is left: its idle connection is closed, and not by the pool's end.
        b.conns[0].hung_up.wait(10)
        # A client that the pool has dropped still works for a caller that holds it.
        pool.get_client(b.url)
        assert first.get("/").read() == b"ok"
        assert len(a.conns) == 1


def test_user_agent_passes_the_limit_to_its_pool() -> None:
    with Peer(saying(OK)) as a, Peer(saying(OK)) as b, UserAgent(max_clients=1) as agent:
        agent.urlopen(a.url)
        agent.urlopen(b.url)
        assert [key[1] for key in agent.clientpool.clients] == [b.port]  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [0, -1, "2"])
def test_invalid_max_clients_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="max_clients"):
        HTTPClientPool(max_clients=value)


def test_logging_is_not_imported_unless_the_program_does() -> None:
    """A program that has not imported it has no handlers, and its first request need not wait for the import."""
    program = """
import sys
from geventhttpclient import HTTPClient
from tests.support.peer import Peer
sys.modules.pop("logging", None)
with Peer() as peer, HTTPClient(peer.host, peer.port) as client:
    assert client.get("/").read() == b"/"
assert "logging" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
