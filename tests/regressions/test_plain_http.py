"""One regression test for each defect of geventhttpclient 2.6.1 that a program over plain HTTP can meet.

Other test modules cover the same rules in general. These reproduce the defect: with concurrency 1, where a leaked slot
would hang, and with a peer that plays the server that showed it.
"""

from __future__ import annotations

import copy
import gc
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import HTTPClient
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.header import Headers
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPResponse
from tests.support.peer import Conn, Peer, Script, serve_ok
from tests.support.scripted import HUGE, OK, saying, saying_then_closing, serving, settle

pytestmark = pytest.mark.usefixtures("bounded")

EXPECT = {"Expect": "100-continue"}


def not_reading(head_read: Event) -> Script:
    """Reads the head of a request, and none of its body until the client disconnects."""

    def script(conn: Conn) -> None:
        conn.read_head()
        head_read.set()
        gone.wait()

    gone = Event()
    return script


def endless() -> Iterator[bytes]:
    while True:
        yield bytes(1 << 16)


UPLOADS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: bytes(HUGE),
    "bytearray": lambda: bytearray(HUGE),
    "iterator": endless,
}
BY_UPLOAD = pytest.mark.parametrize("upload", UPLOADS)


# ---------------------------------------------------------------- slots that leak on the sending side


@BY_UPLOAD
def test_timeout_of_the_caller_during_an_upload_frees_the_slot(upload: str) -> None:
    head_read = Event()
    body = UPLOADS[upload]()
    with serving(not_reading(head_read), serve_ok, network_timeout=15) as (_, client):
        with gevent.Timeout(0.5) as mine, pytest.raises(gevent.Timeout) as caught:
            client.post("/", body)
        assert caught.value is mine
        assert head_read.is_set()
        assert client.get("/next").read() == b"/next"


@BY_UPLOAD
def test_kill_during_an_upload_frees_the_slot(upload: str) -> None:
    head_read = Event()
    with serving(not_reading(head_read), serve_ok, network_timeout=15) as (_, client):
        job = gevent.spawn(client.post, "/", UPLOADS[upload]())
        head_read.wait()
        settle()
        job.kill()
        assert isinstance(job.value, gevent.GreenletExit)
        assert client.get("/next").read() == b"/next"


@pytest.mark.parametrize("convert", [bytearray, memoryview])
@pytest.mark.parametrize("headers", [None, EXPECT], ids=["plain", "expect"])
def test_bytearray_or_a_memoryview_is_a_body(convert: Callable[[bytes], Any], headers: Any) -> None:
    def script(conn: Conn) -> None:
        while request := conn.read_head():
            if request.get("Expect"):
                conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            conn.respond(conn.read_body(request))

    with serving(script) as (_, client):
        for _ in range(2):
            assert client.post("/", convert(b"content"), headers=headers).read() == b"content"


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/\u2603", {}), ("/", {"X-A": "\u2603"}), ("/", {"X-\u2603": "a"})],
    ids=["target", "value", "name"],
)
def test_text_outside_latin_1_in_a_head_frees_the_slot(target: str, headers: dict[str, str]) -> None:
    with serving() as (peer, client):
        for _ in range(3):
            with pytest.raises(ValueError, match=r"(?i)target|uri|header|latin|8859"):
                client.get(target, headers=headers)
        assert client.get("/next").read() == b"/next"
        assert [r.target for r in peer.requests] == ["/next"]


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("error", [LookupError("mine"), OSError(5, "mine"), BrokenPipeError("mine"), GeneratorExit()])
def test_exception_of_a_body_iterator_is_raised_and_frees_the_slot(before: int, error: BaseException) -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(before):
            yield b"some"
        raise error

    with serving(lambda conn: conn.wait_closed(), serve_ok) as (peer, client):
        with pytest.raises(type(error)) as caught:
            client.put("/", blocks())
        assert caught.value is error
        assert client.get("/next").read() == b"/next"
        assert [r.target for r in peer.requests] == ["/next"]
        # The bytes sent must not end like a complete body.
        assert b"0\r\n\r\n" not in peer.conns[0].raw


def test_exception_of_a_file_is_raised_and_frees_the_slot() -> None:
    class Broken:
        def read(self, n: int = -1) -> bytes:
            raise LookupError("mine")

    with serving(lambda conn: conn.wait_closed(), serve_ok) as (_, client):
        with pytest.raises(LookupError, match="mine"):
            client.put("/", Broken())
        assert client.get("/next").read() == b"/next"


# ---------------------------------------------------------------- other defects of geventhttpclient 2.6.1


def test_closed_pool_raises_every_time() -> None:
    with Peer() as peer:
        client = HTTPClient(peer.host, peer.port)
        client.get("/").read()
        client.close()
        for _ in range(3):
            with pytest.raises(RuntimeError, match="connection pool closed"):
                client.get("/")


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h)), Headers.copy])
def test_copy_of_headers_keeps_every_line(duplicate: Callable[[Headers], Headers]) -> None:
    headers = Headers([("Set-Cookie", "a=1"), ("X-A", "b"), ("set-cookie", "c=2"), ("SET-COOKIE", "d=3")])
    twin = duplicate(headers)
    assert type(twin) is Headers
    assert twin == headers
    assert list(twin.items()) == list(headers.items())
    assert twin["set-cookie"] == ["a=1", "c=2", "d=3"]
    twin.add("Set-Cookie", "e=4")
    assert headers["set-cookie"] == ["a=1", "c=2", "d=3"]


def test_header_of_none_is_left_out_and_bytes_are_text() -> None:
    with serving() as (peer, client):
        client.get("/", headers={"X-None": None, "X-Bytes": b"caf\xe9"}).read()
        raw = peer.conns[0].raw
        assert b"None" not in raw
        assert b"X-None" not in raw
        assert b"\r\nX-Bytes: caf\xe9\r\n" in raw


@pytest.mark.parametrize("name", ["User-Agent", "user-agent", "X-Default"])
def test_header_of_none_leaves_out_the_default_of_that_name(name: str) -> None:
    """There is no other way to send a request without one of the client's own headers."""
    with serving(headers={"X-Default": "d"}) as (peer, client):
        client.get("/", headers={name: None}).read()
        client.get("/").read()
        without, plain = peer.requests
        assert without.get(name) is None
        assert plain.get(name) is not None


@pytest.mark.parametrize("where", ["client", "request"])
def test_header_of_none_is_not_in_the_text_of_a_head(where: str) -> None:
    headers: Any = {"X-None": None, "X-Bytes": b"caf\xe9", "X-All": ["1", None, b"2"]}
    with closing(HTTPClient("example.org", headers=headers if where == "client" else None)) as client:
        head = client._build_request("GET", "/", headers=None if where == "client" else headers)
    assert head.split("\r\n")[2:-3] == ["X-Bytes: caf\xe9", "X-All: 1", "X-All: 2"]


def test_bytes_cannot_forge_a_line() -> None:
    with serving() as (peer, client):
        with pytest.raises(ValueError, match="X-A"):
            client.get("/", headers={"X-A": b"a\r\nX-Evil: b"})
        assert client.get("/next").read() == b"/next"
        assert len(peer.requests) == 1


def test_client_pool_keeps_http_and_https_apart() -> None:
    with closing(HTTPClientPool()) as pool:
        plain = pool.get_client("http://example.org:8443/")
        secure = pool.get_client("https://example.org:8443/")
        assert (plain.ssl, secure.ssl) == (False, True)
        assert pool.get_client("http://example.org:8443/") is plain
        assert pool.get_client("https://example.org:8443/") is secure
        assert pool.clients["example.org", 8443] is plain


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\na\r\nb\r\ncd",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\na\r\nb\r\ncd\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\na\r\nb\r\ncd",
    ],
    ids=["counted", "chunked", "until-close"],
)
def test_readline_gives_an_unterminated_last_line(raw: bytes) -> None:
    with serving(saying_then_closing(raw)) as (_, client):
        response = client.get("/")
        assert [response.readline() for _ in range(5)] == [b"a\r\n", b"b\r\n", b"cd", b"", b""]


def test_server_that_ignores_expect_costs_about_a_second() -> None:
    with serving(network_timeout=10) as (peer, client):
        start = time.monotonic()
        assert client.post("/x", b"content", headers=EXPECT).read() == b"/x"
        assert time.monotonic() - start < 4
        assert peer.requests[0].body == b"content"


# ---------------------------------------------------------------- hostile peers


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"]
)
def test_interim_head_in_a_packet_of_its_own_keeps_the_connection(interim: bytes) -> None:
    """With one connection, a second greenlet must not send on it while the first waits for its answer."""
    more = Event()

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            conn.send(interim)
            more.wait()
            settle()
            assert conn.buffer == b""
            conn.respond(request.target.encode())

    with serving(script) as (peer, client):
        jobs = [gevent.spawn(lambda i=i: client.get(f"/{i}").read()) for i in range(5)]
        peer.accepted.wait()
        settle()
        assert [job.ready() for job in jobs] == [False] * 5
        more.set()
        assert [job.get() for job in jobs] == [f"/{i}".encode() for i in range(5)]
        assert len(peer.conns) == 1


GLUED = b"HTTP/1.1 404 Evil\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nEVIL"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, b""),
    ],
    ids=["counted", "chunked", "204", "304"],
)
def test_second_response_is_not_merged_into_the_first(answer: bytes, status: int, body: bytes) -> None:
    with serving(saying(answer + GLUED), serve_ok) as (peer, client):
        response = client.get("/")
        assert (response.status_code, response.read(), "x-evil" in response) == (status, body, False)
        second = client.get("/next")
        assert (second.status_code, second.read(), "x-evil" in second) == (200, b"/next", False)
        assert len(peer.conns) == 2


def flooding(start: bytes, more: bytes, sent: list[int]) -> Script:
    """Returns a script that sends `start`, then `more` repeatedly, up to 64 MiB."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(start)
        block = more * (1 + (1 << 16) // len(more))
        while sent[0] < 64 << 20:
            conn.send(block)
            sent[0] += len(block)

    return script


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "one name": (b"HTTP/1.1 200 OK\r\n", b"X"),
    "one value": (b"HTTP/1.1 200 OK\r\nX-A: ", b"x"),
    "fields": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "folds": (b"HTTP/1.1 200 OK\r\nX-A: b\r\n", b" b\r\n"),
    "blank lines": (b"", b"\r\n"),
    "interim heads": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "interim fields": (b"HTTP/1.1 103 Early Hints\r\n", b"X-A: b\r\n"),
    "chunk extension": (CHUNKED + b"1;", b"x"),
    "chunk extensions": (CHUNKED + b"1", b";x=y"),
    "chunk size": (CHUNKED, b"0"),
    "trailer": (CHUNKED + b"0\r\nX-A: ", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X-A: b\r\n"),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_endless_response_raises_at_its_limit(flood: str) -> None:
    """The response is refused early, with little memory and time spent: 16 MiB would be far beyond."""
    sent = [0]
    with serving(flooding(*FLOODS[flood], sent), serve_ok) as (_, client):
        start = time.process_time()
        with pytest.raises(HTTPParseError):
            client.get("/").read()
        assert time.process_time() - start < 3
        assert client.get("/next").read() == b"/next"
    assert sent[0] < 16 << 20


def test_head_in_small_pieces_is_read_in_linear_time() -> None:
    """100 KiB of head, byte by byte, with a scan for its end from the start each time would be 5e9 comparisons."""
    raw = b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n"
    response = HTTPResponse()
    start = time.process_time()
    for i in range(len(raw)):
        response.feed(raw[i : i + 1])
    assert time.process_time() - start < 3
    assert response.message_complete
    assert len(response["x-a"]) == 100_000


def test_after_a_final_answer_to_expect_the_connection_is_not_reused() -> None:
    """The body was announced and never sent: the server takes the next request for it."""

    def script(conn: Conn) -> None:
        request = conn.read_head()
        assert request is not None
        conn.respond(b"no", "401 Unauthorized")
        conn.read_body(request)
        conn.respond(b"EVIL")

    with serving(script, serve_ok) as (peer, client):
        response = client.post("/", b"x" * 1000, headers=EXPECT)
        assert (response.status_code, response.read()) == (401, b"no")
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 2


def test_trailers_stay_out_of_the_headers() -> None:
    raw = CHUNKED.replace(b"\r\n\r\n", b"\r\nX-A: head\r\n\r\n")
    raw += b"2\r\nok\r\n0\r\nX-A: trailer\r\nX-B: trailer\r\nContent-Length: 99\r\nConnection: close\r\n\r\n"
    with serving(saying(raw, OK)) as (peer, client):
        response = client.get("/")
        assert response.read() == b"ok"
        assert list(response.items()) == [("Transfer-Encoding", "chunked"), ("X-A", "head")]
        assert response.content_length is None
        assert client.get("/").read() == b"ok"
        assert len(peer.conns) == 1


def test_blanks_behind_field_values_are_ignored() -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \t\r\nX-A: b \t \r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with serving(saying(raw), network_timeout=2) as (_, client):
        response = client.get("/")
        assert response.read() == b"ok"
        assert response["x-a"] == "b"
        assert response["transfer-encoding"] == "chunked"


@pytest.mark.parametrize(
    "line", ["HTTP/1.1 099 x", "HTTP/1.1 000 x", "HTTP/1.1 99 x", "HTTP/1.1 1 x", "RTSP/1.0 200 OK", "ICE/1.0 200 OK"]
)
def test_malformed_status_line_raises(line: str) -> None:
    with serving(saying(f"{line}\r\nContent-Length: 0\r\n\r\n".encode()), serve_ok, network_timeout=5) as (_, client):
        with pytest.raises(HTTPParseError):
            client.get("/")
        assert client.get("/next").read() == b"/next"


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close"])
def test_close_of_the_request_is_kept(value: str) -> None:
    with serving(saying(OK, b"never"), serve_ok) as (peer, client):
        assert client.get("/", headers={"Connection": value}).read() == b"ok"
        peer.conns[0].hung_up.wait()
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 2


def test_close_among_the_headers_of_the_client_is_kept() -> None:
    with serving(saying(OK, b"never"), headers={"connection": "close"}) as (peer, client):
        for n in range(1, 4):
            assert client.get("/").read() == b"ok"
            assert len(peer.conns) == n


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ids=["plain", "keep-alive"],
)
def test_http_1_0_with_chunked_is_not_reused(raw: bytes) -> None:
    with serving(saying(raw, b"never"), serve_ok) as (peer, client):
        assert client.get("/").read() == b"ok"
        peer.conns[0].hung_up.wait()
        assert client.get("/next").read() == b"/next"


def test_connection_is_not_reused_after_an_unsolicited_101() -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    with serving(saying(switching, b"never"), serve_ok) as (peer, client):
        response = client.get("/")
        assert (response.status_code, response.read()) == (101, b"")
        peer.conns[0].hung_up.wait()
        assert client.get("/next").read() == b"/next"


@pytest.mark.parametrize("buffered", [True, False])
def test_read_of_minus_one_is_the_whole_rest(buffered: bool) -> None:
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + b"hello"[: 5 if buffered else 2])
        more.wait()
        conn.send(b"" if buffered else b"llo")

    with serving(script) as (_, client):
        response = client.get("/")
        more.set()
        assert response.read(-1) == b"hello"
        assert response.read(-1) == b""


# ---------------------------------------------------------------- further decisions


@pytest.mark.parametrize(
    "raw",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", CHUNKED + b"5\r\nhell", CHUNKED + b"4\r\nhell\r\n"],
    ids=["counted", "in a chunk", "between chunks"],
)
def test_body_that_ends_early_is_never_silently_short(raw: bytes) -> None:
    with serving(saying_then_closing(raw), serve_ok) as (_, client):
        response = client.get("/")
        with pytest.raises(HTTPParseError) as caught:
            response.read()
        assert not isinstance(caught.value, HTTPConnectionClosed) or "before" in str(caught.value).lower()
        assert client.get("/next").read() == b"/next"


def test_two_hundred_failures_leak_no_slot() -> None:
    """Every kind of failing request, over and over: afterwards as many requests as there are slots run at once."""
    answers = [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", CHUNKED + b"zz\r\n"]

    def script(conn: Conn) -> None:
        request = conn.read_head()
        if request is None:
            return
        if request.target == "/good":
            started.append(conn)
            if len(started) == 3:
                all_there.set()
            all_there.wait()
            conn.respond(b"good")
        else:
            conn.send(answers[conn.number % len(answers)])

    def failing() -> Iterator[bytes]:
        yield b"x"
        raise LookupError

    def mishap(n: int) -> None:
        if n % 5 == 0:
            client.post("/", failing())
        elif n % 5 == 1:
            client.get("/", headers={"X-A": "\n"})
        elif n % 5 == 2:
            with gevent.Timeout(0, False):
                client.get("/")
        elif n % 5 == 3:
            client.get("/")
            gc.collect()
        else:
            client.post("/", b"x").read()
        raise LookupError  # where the mishap itself made no noise

    started: list[Conn] = []
    all_there = Event()
    with serving(script, concurrency=3) as (_, client):
        for n in range(200):
            with pytest.raises((HTTPParseError, LookupError, ValueError, OSError)):
                mishap(n)
        jobs = [gevent.spawn(lambda: client.get("/good").read()) for _ in range(3)]
        assert [job.get() for job in jobs] == [b"good"] * 3
