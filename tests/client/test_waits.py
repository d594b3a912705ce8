"""Waits for connections that unread responses hold: reading those into memory, and the errors of such waits."""

from __future__ import annotations

import gzip
import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from tests.support.certificates import Certificates
from tests.support.http2_peer import MAX_CONCURRENT_STREAMS, Talk, scripted, talking
from tests.support.hub import until
from tests.support.peer import Conn, Peer
from tests.support.scripted import answer
from tests.support.tls import WAYS, by, trusting

MIB = 1024 * 1024

# The first packet of a response: all of it, its head alone, or its head and the beginning of its body.
CUTS = ("whole", "head", "part")

PLACES = ("plain", *WAYS)

pytestmark = pytest.mark.usefixtures("bounded")


def body_of(target: str) -> bytes:
    return f"{target}\n".encode() * 20


class Paced:
    """Answers each request with `body_of` its target. What the cut leaves out follows when the test says `go_on`."""

    def __init__(self, cut: str = "head", coding: str = "counted") -> None:
        self.go_on = Event()
        self.cut = cut
        self.coding = coding

    def serve(self, conn: Conn) -> None:
        while request := conn.read_request():
            head, body = self.answer(request.target)
            first = {"whole": len(body), "head": 0, "part": 7}[self.cut]
            conn.send_at_once(head + body[:first])
            if first < len(body):
                self.go_on.wait()
                conn.send(body[first:])

    def answer(self, target: str) -> tuple[bytes, bytes]:
        status = b"404 Not Found" if target == "/missing" else b"200 OK"
        body = body_of(target)
        if self.coding == "counted":
            return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)), body
        head = b"HTTP/1.1 %s\r\nTransfer-Encoding: chunked\r\n\r\n" % status
        return head, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)

    def talk(self, talk: Talk) -> None:
        talk.start({MAX_CONCURRENT_STREAMS: 1})
        while request := talk.read_request():
            body = body_of(request.target)
            first = {"whole": len(body), "head": 0, "part": 7}[self.cut]
            status = "404" if request.target == "/missing" else "200"
            talk.headers(request.stream, [(":status", status)])
            if first:
                talk.data(request.stream, body[:first], end=first == len(body))
            if first < len(body):
                self.go_on.wait()
                talk.data(request.stream, body[first:], end=True)


def holding_open(conn: Conn) -> None:
    """Begins a body of 100 bytes that never ends."""
    while conn.read_request():
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")
        if conn.wait_closed() == b"":
            return


@contextmanager
def placed(
    place: str, certificates: Certificates, serve: Callable[[Conn], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Returns the URL of a server, and the arguments for a client of it."""
    if place == "plain":
        with Peer(serve) as peer:
            yield peer.url, {}
    else:
        with Peer(serve, tls=certificates.valid.server()) as peer:
            yield f"https://localhost:{peer.port}", {"ssl_options": trusting(certificates), **by(place)}


def check_free(client: HTTPClient) -> None:
    counts = client.statistics()
    assert (counts["in_use"], counts["waiting"], counts["streams"]) == (0, 0, 0)


# -------------------------------------------------------------------------------------------------------- reading ahead


@pytest.mark.parametrize("coding", ["counted", "chunked"])
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cut", CUTS)
def test_session_get_after_unread_responses_continues(
    cut: str, place: str, concurrency: int, coding: str, certificates: Certificates
) -> None:
    paced = Paced(cut, coding)
    with placed(place, certificates, paced.serve) as (url, options), Session(concurrency=concurrency, **options) as s:
        unread = [s.get(f"{url}/missing") for _ in range(concurrency)]
        assert [response.status_code for response in unread] == [404] * concurrency
        paced.go_on.set()
        assert s.get(f"{url}/other", timeout=10).content == body_of("/other")
        assert [response.content for response in unread] == [body_of("/missing")] * concurrency
        client = s.clientpool.get_client(url)
        assert client.statistics()["opened"] <= concurrency
        check_free(client)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("concurrency", [1, 3])
def test_http2_get_after_unread_responses_continues(cut: str, concurrency: int) -> None:
    paced = Paced(cut)
    with talking(paced.talk, concurrency=concurrency) as (peer, client):
        unread = [client.get(f"/{n}") for n in range(concurrency)]
        paced.go_on.set()
        assert client.get("/other", pool_timeout=10).read() == body_of("/other")
        assert [response.read() for response in unread] == [body_of(f"/{n}") for n in range(concurrency)]
        assert len(peer.conns) <= concurrency
        check_free(client)


FACES: dict[str, Callable[[str], Any]] = {}


def face(function: Callable[[str], Any]) -> Callable[[str], Any]:
    FACES[function.__name__] = function
    return function


@face
@contextmanager
def client(url: str) -> Iterator[Any]:
    with HTTPClient.from_url(url) as client:
        yield lambda: client.get("/missing"), lambda: client.get("/other"), lambda response: response.read()


@face
@contextmanager
def agent(url: str) -> Iterator[Any]:
    with UserAgent() as agent:
        agent.valid_response_codes = {200, 404}
        yield (
            lambda: agent.urlopen(f"{url}/missing"),
            lambda: agent.urlopen(f"{url}/other"),
            lambda response: response.content,
        )


@face
@contextmanager
def session(url: str) -> Iterator[Any]:
    with Session() as session:
        yield (
            lambda: session.get(f"{url}/missing", timeout=5),
            lambda: session.get(f"{url}/other", timeout=5),
            lambda response: b"".join(response.iter_content(10)),
        )


@face
@contextmanager
def of_httpx(url: str) -> Iterator[Any]:
    with httpx.Client(concurrency=1) as client, ExitStack() as stack:
        yield (
            lambda: stack.enter_context(client.stream("GET", f"{url}/missing")),
            lambda: client.get(f"{url}/other"),
            lambda response: response.read(),
        )


@face
@contextmanager
def requests_adapter(url: str) -> Iterator[Any]:
    requests = pytest.importorskip("requests")
    from geventhttpclient.adapters.requests import Adapter

    with requests.Session() as session:
        session.mount("http://", Adapter(pool_maxsize=1, pool_block=True))
        yield (
            lambda: session.get(f"{url}/missing", stream=True, timeout=5),
            lambda: session.get(f"{url}/other", timeout=5),
            lambda response: response.content,
        )


@face
@contextmanager
def httpx_transport(url: str) -> Iterator[Any]:
    their_httpx = pytest.importorskip("httpx")
    from geventhttpclient.adapters.httpx import Transport

    limits = their_httpx.Limits(max_connections=1)
    with their_httpx.Client(transport=Transport(limits=limits)) as client, ExitStack() as stack:
        yield (
            lambda: stack.enter_context(client.stream("GET", f"{url}/missing")),
            lambda: client.get(f"{url}/other"),
            lambda response: response.read(),
        )


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("cut", CUTS)
def test_interface_with_an_unread_response_continues(name: str, cut: str) -> None:
    paced = Paced(cut)
    with Peer(paced.serve) as peer, FACES[name](peer.url) as (first, second, read):
        unread = first()
        paced.go_on.set()
        assert read(second()) == body_of("/other")
        assert unread.status_code == 404
        assert read(unread) == body_of("/missing")


def by_read(response: Any) -> bytes:
    return response.read(5) + response.read()


def by_lines(response: Any) -> bytes:
    return b"".join(iter(lambda: response.readline(b"\n"), b""))


def by_iteration(response: Any) -> bytes:
    return b"".join(response)


def by_readinto(response: Any) -> bytes:
    room = bytearray(1000)
    return bytes(room[: response.readinto(room)])


@pytest.mark.parametrize("read", [by_read, by_lines, by_iteration, by_readinto])
@pytest.mark.parametrize("begun", [0, 9])
def test_bytes_read_ahead_are_read_as_if_buffered(read: Callable[[Any], bytes], begun: int) -> None:
    paced = Paced("part")
    with Peer(paced.serve) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        unread = client.get("/unread")
        paced.go_on.set()
        beginning = unread.read(begun)
        client.get("/other").read()
        assert not unread._is_attached()
        assert unread.message_complete
        assert beginning + read(unread) == body_of("/unread")
        assert unread.read() == b""


def test_release_after_reading_ahead_leaves_the_connection() -> None:
    paced = Paced()
    with Peer(paced.serve) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        with client.get("/unread"):
            paced.go_on.set()
            client.get("/other").read()
        assert client.statistics()["closed"] == {}
        assert client.get("/again").read() == body_of("/again")
        assert len(peer.conns) == 1


def test_iter_content_after_reading_ahead_decodes() -> None:
    text = b"one\ntwo\n" * 1000
    packed = gzip.compress(text)
    go_on = Event()

    def serve(conn: Conn) -> None:
        while conn.read_request():
            conn.send_at_once(answer(packed, "200 OK", "Content-Encoding: gzip")[: -len(packed) + 3])
            go_on.wait()
            conn.send(packed[3:])

    with Peer(serve) as peer, Session() as session:
        unread = session.get(peer.url)
        go_on.set()
        assert session.get(peer.url).content == text
        assert b"".join(unread.iter_content(100)) == text


def test_oldest_response_is_read_and_no_other() -> None:
    """The other responses stay unread streams: their servers notice nothing."""
    go_on = Event()

    def serve(conn: Conn) -> None:
        while request := conn.read_request():
            body = body_of(request.target)
            conn.send_at_once(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            go_on.wait()
            conn.send(body)

    with Peer(serve) as peer, closing(HTTPClient(peer.host, peer.port, concurrency=3)) as client:
        unread = [client.get(f"/{n}") for n in range(3)]
        go_on.set()
        client.get("/other").read()
        assert [response._is_attached() for response in unread] == [False, True, True]
        client.get("/other").read()
        assert [response._is_attached() for response in unread] == [False, True, True]
        assert [response.read() for response in unread] == [body_of(f"/{n}") for n in range(3)]


def test_stream_without_an_end_is_spared_for_one_with_a_length() -> None:
    def serve(conn: Conn) -> None:
        while request := conn.read_request():
            if request.target == "/events":
                conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nevent\n\r\n")
                conn.wait_closed()
                return
            conn.send_at_once(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            conn.send(b"ok")

    with Peer(serve) as peer, closing(HTTPClient(peer.host, peer.port, concurrency=2)) as client:
        events = client.get("/events")
        unread = client.get("/unread")
        assert client.get("/other").read() == b"ok"
        assert events._is_attached()
        assert events.readline(b"\n") == b"event\n"
        assert unread.read() == b"ok"
        events.release()


def test_redirect_and_retry_with_an_unread_response_continue() -> None:
    statuses = {"/to": b"302 Found", "/busy": b"503 Busy", "/unread": b"200 OK", "/there": b"200 OK"}
    seen: list[str] = []

    def serve(conn: Conn) -> None:
        while request := conn.read_request():
            seen.append(request.target)
            status = b"200 OK" if seen.count("/busy") > 1 else statuses[request.target]
            head = b"HTTP/1.1 %s\r\nLocation: /there\r\nContent-Length: 5\r\n\r\n" % status
            conn.send_at_once(head if request.target == "/unread" else head + b"12345")
            if request.target == "/unread":
                conn.send(b"12345")

    with Peer(serve) as peer, Session(retry_statuses=[503]) as session:
        first = session.get(f"{peer.url}/unread")
        assert session.get(f"{peer.url}/to", timeout=5).url == f"{peer.url}/there"
        second = session.get(f"{peer.url}/unread")
        assert session.get(f"{peer.url}/busy", timeout=5).status_code == 200
        assert (first.content, second.content) == (b"12345", b"12345")


# ------------------------------------------------------------------------------------------------------ large responses


def serve_large(size: int, coding: str) -> Callable[[Conn], None]:
    def serve(conn: Conn) -> None:
        while conn.read_request():
            if coding == "counted":
                conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                conn.send(bytes(size))
            else:
                conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                conn.send(b"%x\r\n" % size + bytes(size) + b"\r\n0\r\n\r\n")

    return serve


@pytest.mark.parametrize("coding", ["counted", "chunked"])
def test_response_of_a_mebibyte_is_read_ahead(coding: str) -> None:
    with Peer(serve_large(MIB, coding)) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        unread = client.get("/")
        assert len(client.get("/").read()) == MIB
        assert len(unread.read()) == MIB


@pytest.mark.parametrize("coding", ["counted", "chunked"])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_larger_responses_raise_at_once_and_stay_readable(coding: str, concurrency: int) -> None:
    size = 3 * MIB
    with (
        Peer(serve_large(size, coding)) as peer,
        closing(HTTPClient(peer.host, peer.port, concurrency=concurrency)) as client,
    ):
        unread = [client.get("/") for _ in range(concurrency)]
        with pytest.raises(TimeoutError, match="held by responses that have not been read to their end") as caught:
            client.get("/")
        assert caught.value.phase == "pool"  # type: ignore[attr-defined]
        assert client.statistics()["in_use"] == concurrency
        assert [len(response.read()) for response in unread] == [size] * concurrency
        assert len(client.get("/").read()) == size
        check_free(client)


def test_larger_http2_response_raises_at_once_and_stays_readable() -> None:
    def script(talk: Talk) -> None:
        talk.start({MAX_CONCURRENT_STREAMS: 1})
        while request := talk.read_request():
            talk.respond(request, bytes(3 * MIB))

    with talking(script) as (_, client):
        unread = client.get("/")
        with pytest.raises(TimeoutError, match="all 1 HTTP/2 streams") as caught:
            client.get("/")
        assert caught.value.phase == "pool"  # type: ignore[attr-defined]
        assert len(unread.read()) == 3 * MIB
        assert len(client.get("/").read()) == 3 * MIB


# --------------------------------------------------------------------------------------------- failures during the read


def serve_then(fail: Callable[[Conn], None]) -> Callable[[Conn], None]:
    def serve(conn: Conn) -> None:
        request = conn.read_request()
        if request is not None and request.target == "/unread":
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")
            fail(conn)
            return
        conn.send(answer(b"ok"))

    return serve


@pytest.mark.parametrize("fail", [Conn.reset, Conn.close, Conn.wait_closed], ids=["reset", "closed", "silent"])
def test_read_ahead_that_fails_frees_the_connection(fail: Callable[[Conn], None]) -> None:
    with Peer(serve_then(fail)) as peer, closing(HTTPClient(peer.host, peer.port, network_timeout=0.1)) as client:
        unread = client.get("/unread")
        assert client.get("/other").read() == b"ok"
        with pytest.raises((OSError, Exception)) as caught:
            unread.read()
        assert caught.value.phase == "body"  # type: ignore[attr-defined]
        check_free(client)


def test_pool_timeout_during_the_read_leaves_the_response() -> None:
    paced = Paced("part")
    with Peer(paced.serve) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        unread = client.get("/unread")
        with pytest.raises(TimeoutError) as caught:
            client.get("/other", pool_timeout=0.05)
        assert caught.value.phase == "pool"  # type: ignore[attr-defined]
        assert "all 1 connections to" in str(caught.value)
        paced.go_on.set()
        assert unread.read() == body_of("/unread")
        assert client.get("/other").read() == body_of("/other")


@pytest.mark.parametrize("end", ["kill", "timeout"])
def test_interrupted_wait_leaves_the_response(end: str) -> None:
    paced = Paced("part")
    unread: list[Any] = []
    with Peer(paced.serve) as peer, closing(HTTPClient(peer.host, peer.port)) as client:

        def work() -> None:
            unread.append(client.get("/unread"))
            if end == "kill":
                client.get("/other")
            else:
                with gevent.Timeout(0.05, False):
                    client.get("/other")

        greenlet = gevent.spawn(work)
        if end == "kill":
            until(lambda: client.statistics()["waiting"] == 1)
            greenlet.kill()
        greenlet.join()
        assert client.statistics()["waiting"] == 0
        paced.go_on.set()
        assert unread[0].read() == body_of("/unread")
        assert client.get("/other").read() == body_of("/other")
        check_free(client)


def test_next_read_after_an_interrupted_wait_has_its_whole_timeout() -> None:
    paced = Paced("part")
    with Peer(paced.serve) as peer, closing(HTTPClient(peer.host, peer.port, network_timeout=0.3)) as client:
        unread = client.get("/unread")
        with gevent.Timeout(0.2, False):
            client.get("/other")
        gevent.spawn_later(0.2, paced.go_on.set)
        assert unread.read() == body_of("/unread")


def test_response_released_by_another_greenlet_frees_the_connection() -> None:
    with Peer(holding_open) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        unread = client.get("/unread")
        gevent.spawn_later(0.02, unread.release)
        client.get("/other", pool_timeout=5).release()
        assert client.statistics()["closed"] == {"given_up": 2}


def test_response_dropped_before_the_next_request_is_not_read() -> None:
    with Peer(holding_open) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        client.get("/unread")
        client.get("/other", pool_timeout=5).release()


def test_large_response_that_another_greenlet_reads_is_waited_for() -> None:
    with Peer(serve_large(3 * MIB, "counted")) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        unread = client.get("/")
        pieces: list[bytes] = []

        def read() -> None:
            while piece := unread.read(64 * 1024):
                pieces.append(piece)
                gevent.sleep(0)

        reading = gevent.spawn(read)
        until(lambda: pieces)
        assert len(client.get("/").read()) == 3 * MIB
        reading.get(timeout=10)
        assert len(b"".join(pieces)) == 3 * MIB


def test_response_belongs_to_the_greenlet_that_read_it_last() -> None:
    """The last reader would wait for itself, although another one, still alive, made the request."""
    paced = Paced("part")
    done = Event()
    received: list[Any] = []
    with Peer(paced.serve) as peer, closing(HTTPClient(peer.host, peer.port)) as client:

        def receive() -> None:
            received.append(client.get("/unread"))
            done.wait()

        receiver = gevent.spawn(receive)
        until(lambda: received)
        reading = gevent.spawn(received[0].read, 100)
        until(lambda: not reading.ready())
        paced.go_on.set()
        reading.get(timeout=10)
        beginning = received[0].read(101)
        assert client.get("/other", pool_timeout=5).read() == body_of("/other")
        assert beginning + received[0].read() == body_of("/unread")[100:]
        done.set()
        receiver.get()


def test_response_that_another_greenlet_reads_meanwhile_is_read_by_both() -> None:
    """The other greenlet's read continues, and the rest of the body is read ahead."""
    paced = Paced("head")
    with Peer(paced.serve) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        unread = client.get("/unread")
        asking = gevent.spawn(lambda: client.get("/other").read())
        reading = gevent.spawn(unread.read, 10)
        until(lambda: client.statistics()["waiting"] == 1)
        paced.go_on.set()
        assert reading.get(timeout=10) == body_of("/unread")[:10]
        rest = gevent.spawn(unread.read)
        assert rest.get(timeout=10) == body_of("/unread")[10:]
        assert asking.get(timeout=10) == body_of("/other")


# ---------------------------------------------------------------------------------------------------- several greenlets


def test_response_of_a_greenlet_that_may_release_it_is_waited_for() -> None:
    release = Event()

    def hold() -> None:
        response = client.get("/unread")
        release.wait()
        response.release()

    with Peer(holding_open) as peer, closing(HTTPClient(peer.host, peer.port, concurrency=2)) as client:
        holder = gevent.spawn(hold)
        until(lambda: client.statistics()["in_use"] == 1)
        own = client.get("/own")
        with pytest.raises(TimeoutError, match=r"all 2 connections to .* are held by responses"):
            client.get("/other", pool_timeout=0.05)
        assert own.read(5) == b"begin"
        release.set()
        client.get("/other", pool_timeout=5).release()
        holder.get()
        own.release()


@pytest.mark.parametrize("cut", CUTS)
def test_greenlets_that_wait_for_one_another_continue(cut: str) -> None:
    paced = Paced(cut)
    with Peer(paced.serve) as peer, Session(concurrency=10) as session:

        def work() -> bytes:
            response = session.get(f"{peer.url}/missing")
            if response.status_code == 404:
                response = session.get(f"{peer.url}/other", timeout=10)
            return response.content

        greenlets = [gevent.spawn(work) for _ in range(30)]
        until(lambda: session.clientpool.get_client(peer.url).statistics()["in_use"] == 10)
        paced.go_on.set()
        gevent.joinall(greenlets, timeout=15, raise_error=True)
        assert [greenlet.value for greenlet in greenlets] == [body_of("/other")] * 30


@pytest.mark.parametrize("coding", ["counted", "chunked"])
def test_responses_of_greenlets_that_have_ended_are_read(coding: str) -> None:
    paced = Paced("head", coding)
    with Peer(paced.serve) as peer, Session(concurrency=3) as session:
        greenlets = [gevent.spawn(session.get, f"{peer.url}/{n}") for n in range(12)]
        until(lambda: session.clientpool.get_client(peer.url).statistics()["in_use"] == 3)
        paced.go_on.set()
        gevent.joinall(greenlets, timeout=15, raise_error=True)
        assert [greenlet.value.content for greenlet in greenlets] == [body_of(f"/{n}") for n in range(12)]


def test_http2_greenlets_that_wait_for_one_another_continue() -> None:
    paced = Paced("part")
    with talking(paced.talk, concurrency=3) as (_, client):

        def work() -> bytes:
            unread = client.get("/unread")
            other = client.get("/other", pool_timeout=10).read()
            return other + unread.read()

        greenlets = [gevent.spawn(work) for _ in range(12)]
        until(lambda: client.statistics()["streams"] == 3)
        paced.go_on.set()
        gevent.joinall(greenlets, timeout=15, raise_error=True)
        assert {greenlet.value for greenlet in greenlets} == {body_of("/other") + body_of("/unread")}
        check_free(client)


def test_response_does_not_keep_its_greenlet() -> None:
    """A greenlet that keeps its response, as its value, does not keep the connection either."""
    import gc
    import weakref

    with Peer(holding_open) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        greenlet = gevent.spawn(client.get, "/unread")
        greenlet.join()
        known = weakref.ref(greenlet)
        del greenlet
        gc.collect()
        until(lambda: known() is None)
        until(lambda: client.statistics()["in_use"] == 0)


# ----------------------------------------------------------------------------------------------------- a nested request


@pytest.mark.pairwise
@pytest.mark.parametrize("http2", [False, "prior-knowledge"])
@pytest.mark.parametrize("part", ["body", "trailers"])
@pytest.mark.parametrize("case", ["full", "room", "unread"])
def test_nested_request_of_a_request_continues_or_raises_at_once(case: str, part: str, http2: Any) -> None:
    """It cannot have the connection that the outer one is sent on, nor wait for it. The pool timeout is shorter than
    the 5 s after which a waiting request checks that anyway."""
    paced = Paced()
    paced.go_on.set()
    serve = scripted(paced.talk) if http2 else paced.serve
    concurrency = 1 if case == "full" else 2
    options: dict[str, Any] = {"http2": http2, "concurrency": concurrency, "pool_timeout": 4}
    with Peer(serve) as peer, closing(HTTPClient(peer.host, peer.port, **options)) as client:
        nested: list[bytes] = []

        def ask() -> None:
            nested.append(client.get("/nested").read())

        def pieces() -> Iterator[bytes]:
            yield b"before"
            ask()

        def send() -> bytes:
            if part == "body":
                return client.post("/outer", pieces()).read()
            return client.post("/outer", b"body", trailers=lambda: ask() or {}).read()

        unread = [client.get("/unread")] if case == "unread" else []
        if case == "full":
            with pytest.raises(TimeoutError, match=r"would never end .* all 1 .* are in use") as caught:
                send()
            assert caught.value.phase == "pool"  # type: ignore[attr-defined]
        else:
            assert send() == body_of("/outer")
            assert nested == [body_of("/nested")]
        assert [response.read() for response in unread] == [body_of("/unread")] * len(unread)
        assert client.get("/after").read() == body_of("/after")
        check_free(client)


# ---------------------------------------------------------------------------------------- a request's timeout bounds it


@contextmanager
def full(peer: Peer, hold: Callable[[], Any]) -> Iterator[None]:
    """Makes another greenlet hold the only connection."""
    done = Event()

    def work() -> None:
        response = hold()
        done.wait()
        (response.release if hasattr(response, "release") else response.close)()

    holder = gevent.spawn(work)
    until(lambda: len(peer.requests) == 1 or holder.dead)
    try:
        yield
    finally:
        done.set()
        holder.get()


@pytest.mark.parametrize("timeout", [0.05, (0.05, 5)])
@pytest.mark.parametrize("way", ["argument", "attribute", "own pool_timeout"])
def test_session_timeout_bounds_the_wait_for_the_pool(timeout: Any, way: str) -> None:
    options = {"pool_timeout": 5} if way == "own pool_timeout" else {}
    with Peer(holding_open) as peer, Session(**options) as session, full(peer, lambda: session.get(peer.url)):
        if way == "attribute":
            session.timeout = timeout
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r"all 1 connections to 127\.0\.0\.1:") as caught:
            session.get(peer.url, timeout=None if way == "attribute" else timeout)
        assert caught.value.phase == "pool"  # type: ignore[attr-defined]
        assert time.monotonic() - started < 3


def test_session_pool_timeout_below_its_timeout_counts() -> None:
    with (
        Peer(holding_open) as peer,
        Session(pool_timeout=0.05) as session,
        full(peer, lambda: session.get(peer.url)),
        pytest.raises(TimeoutError, match=r"timed out after 0\.05 s"),
    ):
        session.get(peer.url, timeout=10)


@pytest.mark.parametrize("timeout", [0.05, (0.05, 5)])
def test_requests_adapter_timeout_bounds_the_wait_for_the_pool(timeout: Any) -> None:
    requests = pytest.importorskip("requests")
    from geventhttpclient.adapters.requests import Adapter

    with Peer(holding_open) as peer, requests.Session() as session:
        session.mount("http://", Adapter(pool_maxsize=1, pool_block=True))
        with full(peer, lambda: session.get(peer.url, stream=True)):
            with pytest.raises(requests.exceptions.ConnectTimeout, match="all 1 connections to") as caught:
                session.get(peer.url, timeout=timeout)
            assert isinstance(caught.value, requests.exceptions.Timeout)


def test_httpx_number_bounds_the_wait_for_the_pool() -> None:
    with Peer(holding_open) as peer, httpx.Client(concurrency=1) as client:
        hold = ExitStack()
        with (
            full(peer, lambda: (hold.enter_context(client.stream("GET", peer.url)), hold)[1]),
            pytest.raises(httpx.PoolTimeout, match="all 1 connections to"),
        ):
            client.get(peer.url, timeout=0.05)


def test_httpx_transport_number_bounds_the_wait_for_the_pool() -> None:
    their_httpx = pytest.importorskip("httpx")
    from geventhttpclient.adapters.httpx import Transport

    transport = Transport(limits=their_httpx.Limits(max_connections=1))
    with Peer(holding_open) as peer, their_httpx.Client(transport=transport) as client:
        hold = ExitStack()
        with (
            full(peer, lambda: (hold.enter_context(client.stream("GET", peer.url)), hold)[1]),
            pytest.raises(their_httpx.PoolTimeout, match="all 1 connections to"),
        ):
            client.get(peer.url, timeout=0.05)


def test_httplib2_timeout_bounds_the_wait_for_a_slot() -> None:
    pytest.importorskip("httplib2")
    from geventhttpclient import httplib2

    def silent(conn: Conn) -> None:
        conn.read_request()
        conn.wait_closed()

    with Peer(silent) as peer:
        http = httplib2.Http(timeout=0.3, concurrency=2)
        holders = [gevent.spawn(http.request, peer.url) for _ in range(2)]
        until(lambda: len(peer.requests) == 2)
        http.timeout = 0.02
        with pytest.raises(TimeoutError, match="in use by other greenlets") as caught:
            http.request(peer.url)
        assert caught.value.phase == "pool"  # type: ignore[attr-defined]
        gevent.joinall(holders)


# -------------------------------------------------------------------------------------------------- error texts and log


def test_error_names_connections_in_use() -> None:
    def silent(conn: Conn) -> None:
        conn.read_request()
        conn.wait_closed()

    with Peer(silent) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        busy = gevent.spawn(client.get, "/")
        until(lambda: len(peer.requests) == 1)
        with pytest.raises(TimeoutError) as caught:
            client.get("/", pool_timeout=0.02)
        assert str(caught.value).endswith(f": all 1 connections to {peer.host}:{peer.port} are in use")
        busy.kill()


def test_long_wait_is_logged_once() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("geventhttpclient")
    logger.addHandler(handler)
    try:
        with Peer(holding_open) as peer, closing(HTTPClient(peer.host, peer.port)) as client:

            def refused() -> None:
                with pytest.raises(TimeoutError, match="the oldest since 5"):
                    client.get("/other", pool_timeout=5.5)

            with full(peer, lambda: client.get("/unread")):
                waiting = [gevent.spawn(refused) for _ in range(3)]
                gevent.joinall(waiting, raise_error=True)
    finally:
        logger.removeHandler(handler)
    warnings = [line for line in stream.getvalue().splitlines() if "waited" in line]
    assert len(warnings) == 1
    assert f"all 1 connections to {peer.host}:{peer.port} are held by responses" in warnings[0]
    assert "raise `concurrency`" in warnings[0]
