"""`response.timings`: the duration of each step of a request, its connection, its bytes."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket

from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.httplib import HTTPConnection, HTTPSConnection
from geventhttpclient.mock import MockResponse, MockTransport
from geventhttpclient.response import HTTPConnectionClosed, HTTPSocketPoolResponse
from geventhttpclient.timings import Timings
from tests.support.certificates import Certificates
from tests.support.http2_peer import Talk, talking
from tests.support.peer import Conn, Peer, Script, serve_ok
from tests.support.proxies import tunnelling
from tests.support.scripted import OK, saying, saying_then_closing, serving
from tests.support.tls import WAYS, by, trusting

pytestmark = pytest.mark.usefixtures("bounded")

# Seconds that a step is made to take: far more than any other step takes by itself, on a busy machine, too.
PAUSE = 0.1

STEPS = ("pool", "resolve", "connect", "proxy", "tls", "send", "first_byte", "download")


def check_sum(timings: Timings) -> None:
    """Checks that the steps add up to the total, or to a little less."""
    known = [getattr(timings, step) for step in STEPS if getattr(timings, step) is not None]
    assert all(step >= 0 for step in known)
    assert timings.total is not None
    assert sum(known) <= timings.total + 1e-6
    assert timings.total - sum(known) < PAUSE, timings


def check_slow(timings: Timings, *slow: str) -> None:
    """Checks that those steps, and no others, took the time."""
    for step in STEPS:
        took = getattr(timings, step)
        assert (took is not None and took >= PAUSE * 0.99) == (step in slow), (step, timings)


def pausing(*answer: bytes) -> Script:
    """Answers each request with those pieces, with a pause in front of each but the first, whose pause is the first."""

    def script(conn: Conn) -> None:
        while conn.read_request():
            for piece in answer:
                gevent.sleep(PAUSE)
                conn.send(piece)

    return script


def test_first_request_of_a_connection_has_the_steps_of_its_dial() -> None:
    with serving(serve_ok) as (peer, client):
        response = client.get("/")
        timings = response.timings
        assert timings.resolve is not None
        assert timings.connect is not None
        assert (timings.proxy, timings.tls) == (None, None)
        assert timings.reused is False
        assert timings.peer == ("127.0.0.1", peer.port)
        assert timings.protocol == "HTTP/1.1"
        check_slow(timings)
        check_sum(timings)


def test_reused_connection_has_no_steps_of_a_dial() -> None:
    with serving(serve_ok) as (peer, client):
        client.get("/").read()
        timings = client.get("/").timings
        assert (timings.resolve, timings.connect, timings.proxy, timings.tls) == (None, None, None, None)
        assert timings.reused is True
        assert timings.peer == ("127.0.0.1", peer.port)
        check_sum(timings)


def test_wait_for_the_response_is_first_byte() -> None:
    with serving(pausing(OK)) as (_, client):
        timings = client.get("/").timings
        check_slow(timings, "first_byte")
        check_sum(timings)


def test_time_of_the_body_is_download() -> None:
    with serving(pausing(OK[:-1], OK[-1:])) as (_, client):
        response = client.get("/")
        before = response.timings
        assert (before.download, before.total) == (None, None)
        assert response.read() == b"ok"
        timings = response.timings
        check_slow(timings, "first_byte", "download")
        check_sum(timings)
        # Timings that were returned before do not change.
        assert dataclasses.replace(timings, download=None, total=None, bytes_received=before.bytes_received) == before


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Behind: it\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
    ],
    ids=["chunked", "counted", "interim", "until-close"],
)
@pytest.mark.parametrize("pieces", [1, 7], ids=["at-once", "in-pieces"])
def test_bytes_are_those_on_the_wire(answer: bytes, pieces: int) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send_pieces(
            [answer[at : at + -(-len(answer) // pieces)] for at in range(0, len(answer), -(-len(answer) // pieces))]
        )

    with serving(script) as (peer, client):
        response = client.post("/", b"to and fro")
        assert response.read() == b"ok"
        assert response.timings.bytes_sent == len(peer.conns[0].raw)
        assert response.timings.bytes_received == len(answer)
        assert response.timings.total is not None


def test_bytes_are_counted_by_request() -> None:
    with serving(saying(OK, OK)) as (peer, client):
        for _ in range(2):
            response = client.get("/")
            response.read()
            assert response.timings.bytes_received == len(OK)
            assert response.timings.bytes_sent == len(peer.conns[0].raw) / len(peer.requests)


def test_bytes_behind_a_response_are_not_counted() -> None:
    with serving(saying_then_closing(OK + b"more")) as (_, client):
        response = client.get("/")
        response.read()
        assert response.timings.bytes_received == len(OK)


def test_body_that_was_cut_has_no_end() -> None:
    with serving(saying_then_closing(OK[:-1])) as (_, client):
        response = client.get("/")
        with pytest.raises(HTTPConnectionClosed):
            response.read()
        timings = response.timings
        assert (timings.download, timings.total) == (None, None)
        assert timings.bytes_received == len(OK) - 1


def test_released_body_has_no_end() -> None:
    with serving(saying(OK[:-1])) as (_, client):
        response = client.get("/")
        response.release()
        assert (response.timings.download, response.timings.total) == (None, None)
        assert response.timings.bytes_received == len(OK) - 1


def test_timings_can_be_read_while_another_greenlet_reads() -> None:
    with serving(saying(OK[:-1])) as (_, client):
        response = client.get("/")
        reader = gevent.spawn(response.read)
        gevent.idle()
        timings = response.timings
        assert (timings.download, timings.bytes_received) == (None, len(OK) - 1)
        reader.kill()


def test_wait_for_a_pool_slot_is_pool() -> None:
    def holding(conn: Conn) -> None:
        conn.read_request()
        conn.send(OK[:-1])
        gevent.sleep(PAUSE)
        conn.send(OK[-1:])
        serve_ok(conn)

    with serving(holding) as (_, client):
        first = client.get("/")
        second = gevent.spawn(client.get, "/")
        gevent.idle()
        first.read()
        timings = second.get().timings
        check_slow(timings, "pool")
        assert timings.reused is True
        check_sum(timings)


def test_retried_request_counts_the_first_attempt_as_pool() -> None:
    def breaking(conn: Conn) -> None:
        conn.read_request()
        conn.send(OK)
        conn.read_request()
        gevent.sleep(PAUSE)

    with serving(breaking, serve_ok) as (_, client):
        client.get("/").read()
        timings = client.get("/").timings
        check_slow(timings, "pool")
        assert timings.reused is False
        assert timings.connect is not None
        check_sum(timings)


def test_time_of_the_resolver_is_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve: Callable[..., Any] = ConnectionPool._resolve

    def slowly(*args: Any, **kw: Any) -> Any:
        gevent.sleep(PAUSE)
        return resolve(*args, **kw)

    monkeypatch.setattr(ConnectionPool, "_resolve", slowly)
    with serving(serve_ok) as (_, client):
        timings = client.get("/").timings
        check_slow(timings, "resolve")
        check_sum(timings)


def test_time_of_the_request_body_is_send() -> None:
    def pieces() -> Any:
        yield b"one"
        gevent.sleep(PAUSE)
        yield b"two"

    with serving(serve_ok) as (peer, client):
        timings = client.post("/", pieces()).timings
        check_slow(timings, "send")
        assert timings.bytes_sent == len(peer.conns[0].raw)
        check_sum(timings)


@pytest.mark.parametrize("way", WAYS)
def test_time_of_the_handshake_is_tls(certificates: Certificates, way: str) -> None:
    context = certificates.valid.server()

    def script(conn: Conn) -> None:
        gevent.sleep(PAUSE)
        conn.secure(context)
        serve_ok(conn)

    with (
        Peer(script) as peer,
        closing(HTTPClient("localhost", peer.port, ssl=True, ssl_options=trusting(certificates), **by(way))) as client,
    ):
        response = client.get("/")
        check_slow(response.timings, "tls")
        check_sum(response.timings)
        # TLS's own bytes are not counted.
        assert response.timings.bytes_received == len(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n/")
        assert client.get("/").timings.tls is None


def test_time_of_the_proxy_is_proxy(certificates: Certificates) -> None:
    def slowly(conn: Conn) -> None:
        gevent.sleep(PAUSE)
        tunnelling(conn)

    with (
        Peer(serve_ok, tls=certificates.valid.server()) as origin,
        Peer(slowly) as proxy,
        closing(
            HTTPClient("localhost", origin.port, ssl=True, ssl_options=trusting(certificates), proxy=proxy.url)
        ) as client,
    ):
        timings = client.get("/").timings
        check_slow(timings, "proxy")
        assert timings.tls is not None
        assert timings.peer == ("127.0.0.1", proxy.port)
        check_sum(timings)


def test_peer_of_a_unix_socket_is_its_path(tmp_path: Path) -> None:
    path = tmp_path / "peer.sock"
    with Peer(serve_ok) as peer:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        peer.listener.close()
        peer.listener = listener
        assert peer._acceptor is not None
        peer._acceptor.kill()
        peer._acceptor = gevent.spawn(peer._accept)
        with closing(HTTPClient("localhost", uds=path)) as client:
            timings = client.get("/").timings
    assert timings.peer == str(path)
    assert timings.resolve is None
    assert timings.connect is not None


# ------------------------------------------------------------------------------------------------------------ HTTP/2


def test_http2_has_the_same_timings() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        for _ in range(2):
            request = talk.read_request()
            assert request is not None
            gevent.sleep(PAUSE)
            talk.headers(request.stream, [(":status", "200"), ("content-length", "4")])
            gevent.sleep(PAUSE)
            talk.data(request.stream, b"body", end=True)
        talk.wait_closed()

    with talking(script) as (peer, client):
        first = client.post("/", b"sent")
        assert (first.timings.download, first.timings.total) == (None, None)
        assert first.read() == b"body"
        timings = first.timings
        check_slow(timings, "first_byte", "download")
        check_sum(timings)
        assert timings.protocol == "HTTP/2"
        assert (timings.reused, timings.peer) == (False, ("127.0.0.1", peer.port))
        assert timings.connect is not None
        assert timings.bytes_sent == len(first._sent_request) + len(b"sent")
        assert timings.bytes_received == len("content-length: 4\r\n") + len(b"body")
        second = client.get("/")
        second.read()
        check_sum(second.timings)
        assert (second.timings.reused, second.timings.connect) == (True, None)


def test_http2_waits_for_room_on_the_connection() -> None:
    def script(talk: Talk) -> None:
        talk.start({3: 1})
        for _ in range(2):
            request = talk.read_request()
            assert request is not None
            gevent.sleep(PAUSE)
            talk.respond(request, b"ok")
        talk.wait_closed()

    with talking(script) as (_, client):
        both = [gevent.spawn(client.get, "/") for _ in range(2)]
        first, second = (each.get().timings for each in both)
        assert first.pool < PAUSE <= second.pool
        assert second.reused is True


# ------------------------------------------------------------------------------------------------------ other clients


def test_other_clients_have_timings() -> None:
    with Peer(saying(OK), saying(OK), saying(OK), saying(OK, OK)) as peer:
        with closing(UserAgent()) as agent:
            found = agent.urlopen(peer.url)
            assert found.content == b"ok"
            check_sum(found.timings)
        with Session() as session:
            check_sum(session.get(peer.url).timings)
        with httpx.Client() as client:
            check_sum(client.get(peer.url).timings)
        connection = HTTPConnection(peer.host, peer.port)
        for reused in (False, True):
            connection.request("GET", "/")
            response = connection.getresponse()
            assert response.read() == b"ok"
            timings = response.timings
            # The connection was opened before the request began.
            check_sum(dataclasses.replace(timings, resolve=None, connect=None))
            assert timings.reused is reused
            assert (timings.connect is None) is reused
            assert timings.bytes_received == len(OK)
            assert timings.bytes_sent == len(peer.conns[3].raw) / len(peer.conns[3].requests)
        connection.close()


def test_answer_of_an_upgrade_is_complete_with_its_head() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    with Peer(saying(head + b"words")) as peer, closing(HTTPConnection(peer.host, peer.port)) as connection:
        connection.request("GET", "/")
        timings = connection.getresponse().timings
        check_sum(dataclasses.replace(timings, resolve=None, connect=None))
        assert timings.bytes_received == len(head)


@pytest.mark.parametrize("secure", [False, True])
def test_bytes_of_a_tunnel_are_not_counted_for_the_request(secure: bool, certificates: Certificates) -> None:
    def proxy(conn: Conn) -> None:
        conn.read_head()
        gevent.sleep(PAUSE)
        conn.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        if secure:
            conn.secure(certificates.valid.server())
        conn.requests.append(conn.read_request())
        conn.send(OK)

    with Peer(proxy) as peer:
        plain = HTTPConnection(peer.host, peer.port)
        context = ssl.create_default_context(cafile=str(certificates.ca))
        with closing(HTTPSConnection(peer.host, peer.port, context=context) if secure else plain) as connection:
            connection.set_tunnel("localhost")
            connection.request("GET", "/")
            response = connection.getresponse()
            assert response.read() == b"ok"
        timings = response.timings
        check_sum(dataclasses.replace(timings, resolve=None, connect=None, tls=None))
        check_slow(dataclasses.replace(timings, resolve=None, connect=None, tls=None))
        assert timings.bytes_received == len(OK)
        assert timings.bytes_sent == len(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: identity\r\n\r\n")
        assert (timings.tls is not None) is secure


def test_redirect_has_timings_of_its_own() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
    with Peer(saying(moved, OK)) as peer, Session() as session:
        response = session.get(peer.url)
        (before,) = response.history
        assert (before.timings.bytes_received, response.timings.bytes_received) == (len(moved), len(OK))
        assert (before.timings.reused, response.timings.reused) == (False, True)


def test_mock_has_timings_without_a_connection() -> None:
    client = HTTPClient("example.org", transport=MockTransport(lambda request: MockResponse(200)))
    response = client.get("/")
    response.read()
    assert (response.timings.peer, response.timings.connect) == (None, None)
    check_sum(response.timings)


def test_response_without_a_connection_has_empty_timings() -> None:
    assert HTTPSocketPoolResponse.__new__(HTTPSocketPoolResponse).timings == Timings()


def test_timings_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Timings().pool = 1.0  # type: ignore[misc]
