"""`http_log` and `debug_stream` read a bounded part of a body, which can still be read."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent.event
import pytest

from geventhttpclient import Session, UserAgent, useragent
from geventhttpclient.useragent import MOST_LOGGED_BYTES, BadStatusCode, CompatResponse
from tests.support.peer import Conn, Peer

pytestmark = pytest.mark.usefixtures("bounded")

PIECE = b"line\n" + b"x" * 65_531
LARGE = PIECE * (MOST_LOGGED_BYTES // len(PIECE) + 4)


class Paused:
    """Serves LARGE in chunks, the last of which waits until the test continues."""

    def __init__(self, status: str = "404 Not Found", *fields: str, body: bytes = LARGE) -> None:
        self.go_on = gevent.event.Event()
        self.head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *fields, "Transfer-Encoding: chunked", ""))
        self.body = body

    def __call__(self, conn: Conn) -> None:
        while request := conn.read_request():
            if request.target == "/small":
                conn.respond(b"small")
                continue
            conn.send(self.head.encode())
            at = range(0, len(self.body), len(PIECE))
            for start in at:
                piece = self.body[start : start + len(PIECE)]
                if start == at[-1]:
                    self.go_on.wait()
                conn.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            conn.send(b"0\r\n\r\n")


@contextmanager
def refused(script: Callable[[Conn], None]) -> Iterator[Any]:
    """Yields the BadStatusCode of a response whose body is incomplete."""
    with Peer(script) as peer, UserAgent(max_retries=0, network_timeout=5) as agent:
        with pytest.raises(BadStatusCode) as caught:
            agent.urlopen(peer.url)
        yield caught.value


def read_by_pieces(response: CompatResponse) -> bytes:
    return b"".join(iter(lambda: response.read(50_000), b""))


def read_by_lines(response: CompatResponse) -> bytes:
    return b"".join(iter(response.readline, b""))


WAYS: dict[str, Callable[[Any], bytes]] = {
    "content": lambda response: response.content,
    "read": lambda response: response.read(),
    "read by pieces": read_by_pieces,
    "readline": read_by_lines,
    "iteration": b"".join,
}


@pytest.mark.parametrize("way", WAYS)
def test_body_of_an_error_is_read_as_far_as_it_is_logged_and_stays_whole(way: str) -> None:
    script = Paused()
    with refused(script) as error:
        begin, end = error.http_log[:200], error.http_log[-60:]
        assert "RESPONSE: HTTP/1.1 404" in begin
        assert end.endswith("x\n\n(the rest of the body has not been read)")
        assert len(error.http_log) < MOST_LOGGED_BYTES + 1000
        script.go_on.set()
        assert WAYS[way](error.response) == LARGE


def test_coded_body_of_an_error_is_logged_decoded_and_stays_whole() -> None:
    coded = gzip.compress(LARGE, 0)
    script = Paused("500 Oops", "Content-Encoding: gzip", body=coded)
    with refused(script) as error:
        assert "\n\nline\nxxx" in error.http_log
        script.go_on.set()
        assert error.response.unzipped() == LARGE
    script = Paused("500 Oops", "Content-Encoding: gzip", body=coded)
    with refused(script) as error:
        script.go_on.set()
        assert error.response.content == LARGE


def test_body_of_an_error_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(useragent, "MOST_LOGGED_SECONDS", 0)
    with refused(Paused()) as error:
        assert error.http_log.endswith("\n\n(the rest of the body has not been read)")


def test_body_of_an_error_leaves_the_connection_free_while_the_exception_is_kept() -> None:
    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.respond(b"x" * 200_000, status="404 Not Found")

    with Peer(script) as peer, UserAgent(max_retries=0, pool_timeout=1) as agent:
        errors = []
        for _ in range(3):
            with pytest.raises(BadStatusCode) as caught:
                agent.urlopen(peer.url)
            errors.append(caught.value)
        assert len(peer.conns) == 1
        assert [len(error.response.content) for error in errors] == [200_000] * 3  # type: ignore[attr-defined]
        assert all(error.http_log.endswith("x" * 200_000) for error in errors)  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", WAYS)
def test_debug_stream_reads_as_far_as_it_shows(way: str) -> None:
    script = Paused("200 OK")
    stream = io.StringIO()
    with Peer(script) as peer, UserAgent(max_retries=0, network_timeout=5) as agent:
        response = agent.urlopen(peer.url, debug_stream=stream)
        assert len(stream.getvalue()) < MOST_LOGGED_BYTES + 1000
        script.go_on.set()
        assert WAYS[way](response) == LARGE
        assert agent.urlopen(peer.url + "/small").content == b"small"
        assert len(peer.conns) == 1


@pytest.mark.parametrize("agent", [UserAgent, Session])
@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [2, MOST_LOGGED_BYTES - 1, MOST_LOGGED_BYTES, MOST_LOGGED_BYTES + 1])
def test_debug_stream_leaves_a_body_that_has_arrived_whole(
    size: int, way: str, coding: str, agent: type[UserAgent]
) -> None:
    body = b"a\n" * (size // 2) + b"b" * (size % 2)

    def serve(conn: Conn) -> None:
        fields = [("Content-Encoding", coding)] if coding else []
        conn.read_request()
        conn.respond(gzip.compress(body, 0, mtime=0) if coding else body, headers=fields)

    def received(**options: Any) -> bytes:
        with Peer(serve) as peer, agent(max_retries=0) as one:
            return WAYS[way](one.urlopen(peer.url, **options))

    stream = io.StringIO()
    assert received(debug_stream=stream) == received() != b""
    assert "\n\na\na" in stream.getvalue() or size == 2


@contextmanager
def catching() -> Iterator[list[Any]]:
    """Yields a list, to which it adds the response of a BadStatusCode."""
    caught: list[Any] = []
    try:
        yield caught
    except BadStatusCode as error:
        caught.append(error.response)


@pytest.mark.parametrize("agent", [UserAgent, Session])
def test_body_of_an_error_can_be_read_like_any_other(agent: type[UserAgent]) -> None:
    def serve(conn: Conn) -> None:
        conn.read_request()
        conn.respond(b"one\ntwo", status="500 Oops")

    for way in WAYS.values():
        with Peer(serve) as peer, agent(max_retries=0) as one, catching() as caught:
            caught.append(one.urlopen(peer.url))
        (response,) = caught
        assert way(response) == b"one\ntwo"
        assert response.read() == b""


def test_debug_stream_and_download_write_the_whole_body(tmp_path: Any) -> None:
    script = Paused("200 OK")
    script.go_on.set()
    with Peer(script) as peer, UserAgent(max_retries=0) as agent:
        agent.download(peer.url, tmp_path / "f", debug_stream=io.StringIO())
    assert (tmp_path / "f").read_bytes() == LARGE


def test_redirect_with_a_large_body_is_followed_past_a_debug_stream() -> None:
    script = Paused("302 Found", "Location: /small")
    with Peer(script) as peer, UserAgent(max_retries=0, network_timeout=5) as agent:
        response = agent.urlopen(peer.url, debug_stream=io.StringIO())
        assert response.content == b"small"
        script.go_on.set()


BY_LITTLE: dict[str, Callable[[Any], bytes]] = {
    "read": lambda response: b"".join(iter(lambda: response.read(2), b"")),
    "readline": read_by_lines,
    "iter_content": lambda response: b"".join(response.iter_content(2)),
}


@pytest.mark.parametrize("way", BY_LITTLE)
def test_logged_beginning_of_a_body_is_read_by_little_without_copying_the_rest(way: str) -> None:
    # Half a million reads: if each copied what is left of the beginning, they would copy 250 GB.
    body = b"a\n" * (MOST_LOGGED_BYTES // 2 + 1000)

    def serve(conn: Conn) -> None:
        conn.read_request()
        conn.respond(body)

    with Peer(serve) as peer, Session() as session:
        response = session.urlopen(peer.url, debug_stream=io.StringIO())
        assert BY_LITTLE[way](response) == body
