"""EventSource and the faults of a network: servers that restart, garbage, proxies, TLS, HTTP/2, and many greenlets."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import subprocess
from gevent.event import Event

from geventhttpclient import EventSource, Session
from geventhttpclient.http2 import PRIOR_KNOWLEDGE
from tests.agents.test_event_source import answering, feed, last_ids
from tests.support.certificates import Certificates
from tests.support.http2_peer import Talk, scripted
from tests.support.hub import ROOT, until
from tests.support.peer import Conn, Peer
from tests.support.proxies import tinyproxy, tunnelling

pytestmark = pytest.mark.usefixtures("bounded")


class Server:
    """The server of the tests in a process of its own, which can be killed."""

    def __init__(self, port: int = 0) -> None:
        command = [sys.executable, "-m", "tests.server", str(port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def test_stream_goes_on_after_its_server_was_killed_and_started_again() -> None:
    server = Server()
    try:
        with EventSource(f"http://127.0.0.1:{server.port}/events?every=0.001", retry=0) as events:
            ids = [int(next(events).id) for _ in range(10)]
            for _ in range(3):
                server.kill()
                reader = gevent.spawn(lambda: [int(next(events).id) for _ in range(10)])
                # While it is down, connections are refused.
                failures = events.reconnects
                until(lambda: events.reconnects > failures)  # noqa: B023
                server = Server(server.port)
                ids += reader.get(timeout=20)
            # None is missing, and none came twice.
            assert ids == list(range(ids[0], ids[0] + 40))
    finally:
        server.kill()


@pytest.mark.parametrize(
    "fault",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\ndata: lost",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/ev",
        b"",
    ],
    ids=["other protocol", "chunk", "cut body", "cut head", "nothing"],
)
def test_broken_response_is_tried_again(fault: bytes) -> None:
    def broken(conn: Conn) -> None:
        conn.read_request()
        conn.send(fault)

    with Peer(broken, feed(b"id: 7\ndata: 1\n\n", whole=False), broken, answering("204 No")) as peer:
        with EventSource(peer.url, retry=0) as events:
            assert [event.data for event in events] == ["1"]
        assert last_ids(peer) == [None, None, "7", "7"]


def test_reset_connection_is_tried_again() -> None:
    def resetting(conn: Conn) -> None:
        feed(b"id: 1\ndata: 1\n\n", whole=False)(conn)
        # The event has been received before the reset discards it.
        received.wait()
        conn.reset()

    received = Event()
    with Peer(resetting, feed(b"data: 2\n\n"), answering("204 No")) as peer, EventSource(peer.url, retry=0) as events:
        assert next(events).data == "1"
        received.set()
        assert [event.data for event in events] == ["2"]
        assert last_ids(peer) == [None, "1", "1"]


def test_peer_that_vanishes_is_left_after_the_idle_timeout() -> None:
    # It sends neither bytes nor FIN, and is still there when the stream goes on.
    never = Event()
    with Peer(feed(b"id: 1\ndata: 1\n\n", never.wait), feed(b"data: 2\n\n"), answering("204 No")) as peer:
        with EventSource(peer.url, retry=0, idle_timeout=0.1) as events:
            assert [event.data for event in events] == ["1", "2"]
        # The client has closed the connection.
        assert peer.conns[0].wait_closed() == b""
        never.set()


def test_redirect_between_two_connections_is_followed_with_the_id() -> None:
    with Peer(feed(b"data: 2\n\n"), answering("204 No")) as other:
        moved = answering("307 Temporary Redirect", ("Location", f"{other.url}/new"))
        with Peer(feed(b"id: 1\ndata: 1\n\n"), moved) as peer:
            headers = {"Authorization": "Bearer secret"}
            with EventSource(f"{peer.url}/old", retry=0, headers=headers) as events:
                assert [event.data for event in events] == ["1", "2"]
            assert last_ids(peer) == [None, "1", "1"]
            assert [request.get("authorization") for request in peer.requests] == ["Bearer secret"] * 3
        # Another origin gets the position, and no credentials.
        assert last_ids(other) == ["1", "1"]
        assert [request.get("authorization") for request in other.requests] == [None, None]


def test_cookies_of_a_stream_are_sent_with_the_next() -> None:
    def first(conn: Conn) -> None:
        conn.read_request()
        body = b"id: 1\ndata: 1\n\n"
        conn.respond(body, headers=[("Content-Type", "text/event-stream"), ("Set-Cookie", "a=b")])

    with Peer(first, answering("204 No")) as peer, EventSource(peer.url, retry=0) as events:
        assert [event.data for event in events] == ["1"]
        assert [request.get("cookie") for request in peer.requests] == [None, "a=b"]


def test_stream_over_tls_connects_again(certificates: Certificates) -> None:
    scripts = [feed(b"id: 1\ndata: 1\n\n", whole=False), feed(b"data: 2\n\n"), answering("204 No")]
    with Peer(*scripts, tls=certificates.valid.server()) as peer, Session(verify=str(certificates.ca)) as session:
        with EventSource(f"https://localhost:{peer.port}/", session=session, retry=0) as events:
            assert [event.data for event in events] == ["1", "2"]
        assert last_ids(peer) == [None, "1", "1"]


def test_certificate_that_is_not_trusted_ends_it(certificates: Certificates) -> None:
    with Peer(tls=certificates.valid.server()) as peer:
        with (
            EventSource(f"https://localhost:{peer.port}/", retry=0) as events,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            next(events)
        assert len(peer.conns) == 1


def test_stream_via_a_proxy_connects_again(tmp_path: Path, certificates: Certificates) -> None:
    scripts = [feed(b"id: 1\ndata: 1\n\n", whole=False), feed(b"data: 2\n\n"), answering("204 No")]
    with Peer(*scripts) as peer:
        proxy = tinyproxy(tmp_path)
        try:
            with (
                Session(proxies={"http": f"http://127.0.0.1:{proxy.port}"}) as session,
                EventSource(peer.url, session=session, retry=0) as events,
            ):
                assert [event.data for event in events] == ["1", "2"]
        finally:
            proxy.close()
        assert last_ids(peer) == [None, "1", "1"]
    with Peer(*scripts, tls=certificates.valid.server()) as peer, Peer(tunnelling) as tunnel:
        options: dict[str, Any] = {"proxies": {"https": tunnel.url}, "verify": str(certificates.ca)}
        with (
            Session(**options) as session,
            EventSource(f"https://localhost:{peer.port}/", session=session, retry=0) as events,
        ):
            assert [event.data for event in events] == ["1", "2"]
        assert last_ids(peer) == [None, "1", "1"]


@pytest.mark.parametrize("end", ["goaway", "goaway of the stream", "reset", "close"])
def test_stream_over_http2_that_ends_early_connects_again(end: str) -> None:
    seen: list[str | None] = []
    delivered = Event()

    def script(talk: Talk) -> None:
        talk.start()
        while (request := talk.read_request()) is not None:
            seen.append(request.get("last-event-id"))
            if len(seen) == 3:
                talk.respond(request, status=204)
                continue
            talk.headers(request.stream, [(":status", "200"), ("content-type", "text/event-stream")])
            talk.data(request.stream, b"id: %d\ndata: %d\n\n" % (len(seen), len(seen)))
            delivered.wait()
            delivered.clear()
            if end == "goaway":
                # The stream goes on to its end; the next request needs another connection.
                talk.goaway(request.stream)
                talk.data(request.stream, end=True)
            elif end == "goaway of the stream":
                talk.goaway(0)
                return
            elif end == "reset":
                talk.reset(request, 2)
            else:
                return

    with Peer(scripted(script)) as peer, Session(http2=PRIOR_KNOWLEDGE) as session:
        with EventSource(peer.url, session=session, retry=0) as events:
            received = []
            for event in events:
                received.append(event.data)
                delivered.set()
        assert received == ["1", "2"]
        assert seen == [None, "1", "2"]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize("end", [gevent.killall, lambda greenlets: None], ids=["killed", "closed"])
def test_two_hundred_streams_give_all_descriptors_back(end: Callable[[Any], None]) -> None:
    never = Event()
    with Peer(feed(b"data: 1\n\n", never.wait)) as peer, Session(concurrency=200) as session:
        before = descriptors()
        sources = [EventSource(peer.url, session=session) for _ in range(200)]
        started: list[int] = []

        def follow(source: EventSource) -> None:
            for _ in source:
                started.append(1)

        greenlets = [gevent.spawn(follow, source) for source in sources]
        until(lambda: len(started) == 200)
        assert descriptors() >= before + 400
        end(greenlets)
        for source in sources:
            source.close()
        gevent.joinall(greenlets, timeout=10, raise_error=True)
        assert session.clientpool.get_client(peer.url).statistics()["open"] == 0
        never.set()
        until(lambda: descriptors() <= before)
