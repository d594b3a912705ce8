"""Trailers of requests: RFC 9110 section 6.5, RFC 9112 section 7.1.2."""

from __future__ import annotations

import gc
import hashlib
import io
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

import geventhttpclient
from geventhttpclient import HTTPClient, Session, UserAgent
from geventhttpclient.auth import DigestAuth
from geventhttpclient.header import Headers
from geventhttpclient.mock import MockRequest, MockResponse, MockTransport
from tests.conftest import Nginx
from tests.support.peer import Conn, Peer, Request, serve_ok
from tests.support.scripted import HUGE, OK, serving, settle

pytestmark = pytest.mark.usefixtures("bounded")

SUM = {"X-Sum": "abc"}
LAST = b"0\r\nX-Sum: abc\r\n\r\n"


def read_request(conn: Conn) -> tuple[Request, bytes] | None:
    """Reads a request, and the bytes from its head to the end of the trailer section as received."""
    request = conn.read_head()
    if request is None:
        return None
    conn.requests.append(request)
    conn.peer.requests.append(request)
    if request.get("transfer-encoding") is None:
        return request, conn.read_body(request)
    sent = b""
    while not sent.startswith(b"0\r\n") and b"\r\n0\r\n" not in sent:
        sent += conn.read_line()
    while not sent.endswith(b"\r\n\r\n"):
        sent += conn.read_line()
    return request, sent


class Listener:
    """A script that records the bytes received, and answers with these responses, then with OK."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[Request] = []
        self.sent: list[bytes] = []

    def __call__(self, conn: Conn) -> None:
        while (got := read_request(conn)) is not None:
            self.heads.append(got[0])
            self.sent.append(got[1])
            conn.send(self.answers.pop(0) if self.answers else OK)


def pieces() -> Iterator[bytes]:
    yield b"hello"
    yield b", world"


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("body", "chunks"),
    [
        (None, b""),
        (b"", b""),
        (b"hello", b"5\r\nhello\r\n"),
        ("hellö", b"6\r\nhell\xc3\xb6\r\n"),
        (pieces(), b"5\r\nhello\r\n7\r\n, world\r\n"),
        ([], b""),
        (io.BytesIO(b"read"), b"4\r\nread\r\n"),
    ],
    ids=["none", "empty", "bytes", "text", "generator", "no pieces", "file-like"],
)
def test_trailers_follow_any_body(body: Any, chunks: bytes) -> None:
    heard = Listener()
    with serving(heard) as (peer, client):
        assert client.post("/", body, trailers=SUM).read() == b"ok"
        assert client.get("/next").read() == b"ok"
        assert len(peer.conns) == 1
    assert heard.sent == [chunks + LAST, b""]
    fields = [(name, value) for name, value in heard.heads[0].fields if name not in ("User-Agent", "Host")]
    assert fields == [("Trailer", "X-Sum"), ("Transfer-Encoding", "chunked")]


def test_trailers_follow_a_file_which_is_one_chunk(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not this, " + b"x" * 300_000)
    heard = Listener()
    with serving(heard) as (_, client), (tmp_path / "file").open("rb") as file:
        file.seek(10)
        client.put("/", file, trailers=SUM).read()
        assert file.tell() == 300_010
        client.put("/", file, trailers=SUM).read()
    assert heard.sent == [b"493e0\r\n" + b"x" * 300_000 + b"\r\n" + LAST, LAST]


@pytest.mark.parametrize("verb", ["get", "head", "options", "post", "put", "patch", "delete", "trace"])
def test_each_verb_takes_trailers(verb: str) -> None:
    heard = Listener(b"HTTP/1.1 204 No Content\r\n\r\n")
    with serving(heard) as (_, client):
        getattr(client, verb)("/", trailers=SUM, network_timeout=4).read()
    assert heard.heads[0].method == verb.upper()
    assert heard.sent == [LAST]


@pytest.mark.parametrize(
    ("trailers", "sent"),
    [
        ([("B", "1"), ("a", 2), ("b", b"\xff")], b"B: 1\r\na: 2\r\nb: \xff\r\n"),
        (((name, "v") for name in "ab"), b"a: v\r\nb: v\r\n"),
        (Headers([("X-Y", "1"), ("x-y", "2")]), b"X-Y: 1\r\nx-y: 2\r\n"),
        ({"A": ["1", "2"], "B": None, "C": ""}, b"A: 1\r\nA: 2\r\nC: \r\n"),
        (lambda: {"A": "ä"}, b"A: \xe4\r\n"),
        (lambda: iter([("A", "1")]), b"A: 1\r\n"),
        (dict, b""),
    ],
    ids=["pairs", "generator", "headers", "lists", "call", "call of pairs", "call for nothing"],
)
def test_trailers_take_every_form_of_headers(trailers: Any, sent: bytes) -> None:
    heard = Listener()
    with serving(heard) as (_, client):
        client.post("/", b"x", trailers=trailers).read()
    assert heard.sent == [b"1\r\nx\r\n0\r\n" + sent + b"\r\n"]


@pytest.mark.parametrize("nothing", [None, {}, [], {"X": None}], ids=repr)
def test_empty_trailers_leave_a_request_unchanged(nothing: Any) -> None:
    with serving() as (peer, client):
        client.post("/", b"hello", trailers=nothing).read()
        (request,) = peer.requests
        assert request.get("Content-Length") == "5"
        assert request.get("Trailer") is None
        assert request.get("Transfer-Encoding") is None


def test_trailer_header_announces_the_trailers() -> None:
    heard = Listener()
    sums = [("X-Sum", "1"), ("Other", "2"), ("x-sum", "3")]
    with serving(heard) as (_, client):
        for headers, trailers in [
            ({}, sums),
            ({"trailer": "Mine"}, sums),
            ({"Transfer-Encoding": "chunked"}, sums),
            ({}, lambda: sums),
            ({"Trailer": "X-Sum, Other"}, lambda: sums),
        ]:
            client.post("/", b"x", headers, trailers=trailers).read()
        client.default_headers["Trailer"] = "Default"
        client.post("/", b"x", trailers=sums).read()
    announced = ["X-Sum, Other", "Mine", "X-Sum, Other", None, "X-Sum, Other", "Default"]
    assert [head.get("Trailer") for head in heard.heads] == announced
    assert [[v for k, v in head.fields if k == "Transfer-Encoding"] for head in heard.heads] == [["chunked"]] * 6
    assert set(heard.sent) == {b"1\r\nx\r\n0\r\nX-Sum: 1\r\nOther: 2\r\nx-sum: 3\r\n\r\n"}


def test_nginx_accepts_trailers(nginx: Nginx) -> None:
    with closing(HTTPClient.from_url(nginx.url)) as client:
        for body in [b"x" * 12345, (b"x" * 12345 for _ in range(1)), b""]:
            assert client.post("/small", body, trailers=SUM).read() == b"taken"
        assert client.statistics()["opened"] == 1


# ---------------------------------------------------------------- a callable


def test_callable_is_called_after_the_body_was_sent() -> None:
    digest = hashlib.sha256()
    asked: list[gevent.Greenlet] = []

    def hashed() -> Iterator[bytes]:
        for piece in pieces():
            digest.update(piece)
            yield piece

    def checksum() -> dict[str, str]:
        asked.append(gevent.getcurrent())
        return {"X-SHA256": digest.hexdigest()}

    heard = Listener()
    with serving(heard) as (_, client):
        client.post("/", hashed(), trailers=checksum).read()
    assert asked == [gevent.getcurrent()]
    wanted = hashlib.sha256(b"hello, world").hexdigest().encode()
    assert heard.sent == [b"5\r\nhello\r\n7\r\n, world\r\n0\r\nX-SHA256: " + wanted + b"\r\n\r\n"]


def test_callable_may_switch_greenlets_after_the_body_was_sent() -> None:
    body_came = Event()

    def script(conn: Conn) -> None:
        conn.read_head()
        assert conn.read_exactly(10) == b"5\r\nhello\r\n"
        body_came.set()
        assert conn.read_exactly(len(LAST)) == LAST
        conn.send(OK)
        conn.wait_closed()

    with serving(script, serve_ok, concurrency=2) as (_, client):

        def wait() -> dict[str, str]:
            body_came.wait()
            assert client.get("/meanwhile").read() == b"/meanwhile"
            return SUM

        assert client.post("/", b"hello", trailers=wait).read() == b"ok"


class Mine(Exception):
    pass


def raising(error: BaseException) -> Callable[[], Any]:
    def trailers() -> Any:
        raise error

    return trailers


@pytest.mark.parametrize("error", [Mine("own"), OSError(5, "own"), TimeoutError(), KeyboardInterrupt()], ids=repr)
def test_exception_of_a_callable_is_raised(error: BaseException) -> None:
    with serving(lambda conn: conn.wait_closed(), serve_ok) as (peer, client):
        with pytest.raises(type(error)) as raised:
            client.post("/", b"hello", trailers=raising(error))
        assert raised.value is error
        # Or the server would take the request for a whole one.
        assert client.get("/next").read() == b"/next"
        assert peer.conns[0].raw.endswith(b"\r\n\r\n5\r\nhello\r\n")
        assert client.statistics()["in_use"] == 0


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        (None, TypeError, "trailers must be a mapping"),
        (5, TypeError, "trailers must be a mapping"),
        (["X-Sum"], (TypeError, ValueError), "trailers must be|unpack"),
        ({"Content-Length": "5"}, ValueError, 'trailer "Content-Length"'),
        ({"X": "a\r\nb"}, ValueError, "X"),
    ],
    ids=repr,
)
def test_result_of_a_callable_is_checked(returned: Any, error: Any, words: str) -> None:
    with serving(lambda conn: conn.wait_closed(), serve_ok) as (peer, client):
        with pytest.raises(error, match=words):
            client.post("/", b"hello", trailers=lambda: returned)
        assert client.get("/next").read() == b"/next"
        assert peer.conns[0].raw.endswith(b"\r\n\r\n5\r\nhello\r\n")


def test_callable_is_ended_by_kills_and_timeouts() -> None:
    waiting = Event()

    def stuck() -> Any:
        waiting.set()
        gevent.sleep(60)

    with serving(lambda conn: conn.wait_closed(), lambda conn: conn.wait_closed(), Listener()) as (peer, client):
        job = gevent.spawn(client.post, "/", b"hello", trailers=stuck)
        waiting.wait()
        job.kill()
        assert isinstance(job.value, gevent.GreenletExit)
        with pytest.raises(TimeoutError, match="not complete after") as raised:
            client.post("/", b"hello", trailers=stuck, total_timeout=0.05)
        assert raised.value.phase == "send"  # type: ignore[attr-defined]
        assert client.post("/", b"hello", trailers=SUM).read() == b"ok"
        assert client.statistics()["in_use"] == 0
        settle()
        assert [conn.raw.endswith(b"\r\n\r\n5\r\nhello\r\n") for conn in peer.conns] == [True, True, False]


def test_callable_is_released_with_its_request() -> None:
    class Sum:
        def __call__(self) -> dict[str, str]:
            return SUM

    trailers = Sum()
    gone = weakref.ref(trailers)
    with serving(Listener()) as (_, client):
        response = client.post("/", b"hello", trailers=trailers)
        del trailers
        gc.collect()
        assert gone() is None
        assert response.read() == b"ok"


# ---------------------------------------------------------------- invalid trailers

FORBIDDEN = [
    "Authorization",
    "Cache-Control",
    "connection",
    "Content-Encoding",
    "CONTENT-LENGTH",
    "Content-Range",
    "Content-Type",
    "Cookie",
    "Expect",
    "Host",
    "If-Match",
    "if-modified-since",
    "Keep-Alive",
    "Max-Forwards",
    "Pragma",
    "Proxy-Authorization",
    "Range",
    "TE",
    "Trailer",
    "transfer-encoding",
    "Upgrade",
]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_fields_not_allowed_in_trailers_are_refused_by_name(name: str) -> None:
    with serving() as (peer, client):
        with pytest.raises(ValueError, match=f'trailer "{name}"'):
            client.post("/", b"hello", trailers={"X-Sum": "abc", name: "secret"})
        settle()
        assert peer.conns == []


@pytest.mark.parametrize(
    ("trailers", "error", "words"),
    [
        ({"": "v"}, ValueError, "name"),
        ({"a b": "v"}, ValueError, "a b"),
        ({"X\r\nY": "v"}, ValueError, "name"),
        ({"X": "a\nb"}, ValueError, "X"),
        ({"X": "a\0b"}, ValueError, "X"),
        ({"X": "€"}, ValueError, "X"),
        ({5: "v"}, TypeError, "trailer name must be"),
        (5, TypeError, "trailers must be a mapping"),
        ([5], TypeError, "trailers must be a mapping"),
    ],
)
def test_bad_trailers_are_refused_before_anything_is_sent(trailers: Any, error: Any, words: str) -> None:
    with serving() as (peer, client):
        with pytest.raises(error, match=words):
            client.post("/", b"hello", trailers=trailers)
        settle()
        assert peer.conns == []
        assert client.get("/next").read() == b"/next"


@pytest.mark.parametrize("trailers", [SUM, lambda: SUM], ids=["mapping", "callable"])
def test_trailers_that_cannot_be_sent_are_refused(trailers: Any) -> None:
    with serving() as (peer, client), closing(HTTPClient(peer.host, peer.port, version="HTTP/1.0")) as old:
        with pytest.raises(ValueError, match=r"trailers need HTTP/1\.1"):
            old.post("/", b"hello", trailers=trailers)
        with pytest.raises(ValueError, match="Content-Length and trailers"):
            client.post("/", pieces(), {"Content-Length": "12"}, trailers=trailers)
        settle()
        assert peer.conns == []


# ---------------------------------------------------------------- early responses


def test_trailers_wait_for_100_continue_with_the_body() -> None:
    asked: list[bytes] = []

    def script(conn: Conn) -> None:
        conn.read_head()
        settle()
        assert conn.buffer == b""
        assert asked == []
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        asked.append(conn.read_exactly(10 + len(LAST)))
        conn.respond()
        serve_ok(conn)

    with serving(script) as (peer, client):
        assert client.post("/", b"hello", {"Expect": "100-continue"}, trailers=lambda: SUM).read() == b"ok"
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 1
    assert asked == [b"5\r\nhello\r\n" + LAST]


@pytest.mark.parametrize("body", [b"x" * HUGE, [b"x" * HUGE]], ids=["bytes", "pieces"])
@pytest.mark.parametrize("headers", [{}, {"Expect": "100-continue"}], ids=["", "expecting"])
def test_early_response_does_not_call_the_callable(body: Any, headers: dict[str, str]) -> None:
    def script(conn: Conn) -> None:
        conn.read_head()
        conn.respond(b"no", "413 Content Too Large")
        conn.hung_up.wait()

    with serving(script, serve_ok) as (_, client):
        response = client.post("/", body, headers, trailers=raising(AssertionError("asked for")))
        assert (response.status_code, response.read()) == (413, b"no")
        assert client.get("/next").read() == b"/next"


# ---------------------------------------------------------------- agents and sessions


class Counter:
    """Callable whose trailers contain the number of its calls."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> list[tuple[str, str]]:
        self.times += 1
        return [("X-Time", str(self.times))]


def test_retried_request_calls_the_callable_again() -> None:
    def closing_on_the_second(conn: Conn) -> None:
        read_request(conn)
        conn.send(OK)
        read_request(conn)

    heard = Listener()
    trailers = Counter()
    with serving(closing_on_the_second, heard) as (_, client):
        client.get("/").read()
        assert client.put("/", b"hello", trailers=trailers).read() == b"ok"
    assert heard.sent == [b"5\r\nhello\r\n0\r\nX-Time: 2\r\n\r\n"]


def redirect(status: int) -> bytes:
    return f"HTTP/1.1 {status} Elsewhere\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n".encode()


BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


def test_agent_sends_trailers_again_with_the_payload() -> None:
    heard = Listener(BUSY, redirect(307))
    with Peer(heard) as peer, UserAgent(retry_statuses=[503]) as agent:
        trailers = Counter()
        response = agent.urlopen(f"{peer.url}/", "PUT", payload=b"hello", trailers=trailers)
        assert response.content == b"ok"
        once = iter([("X-Sum", "abc")])
        heard.answers = [BUSY, redirect(308)]
        assert agent.urlopen(f"{peer.url}/", "PUT", payload=b"hello", trailers=once).content == b"ok"
    assert [head.line for head in heard.heads[:3]] == ["PUT / HTTP/1.1", "PUT / HTTP/1.1", "PUT /there HTTP/1.1"]
    assert heard.sent[:3] == [b"5\r\nhello\r\n0\r\nX-Time: %d\r\n\r\n" % time for time in (1, 2, 3)]
    assert heard.sent[3:] == [b"5\r\nhello\r\n" + LAST] * 3


@pytest.mark.parametrize("status", [301, 302, 303])
def test_redirect_that_drops_the_payload_drops_the_trailers(status: int) -> None:
    heard = Listener(redirect(status))
    with Peer(heard) as peer, UserAgent() as agent:
        trailers = Counter()
        response = agent.urlopen(f"{peer.url}/", "POST", {"Trailer": "X-Time"}, payload=b"hello", trailers=trailers)
        assert response.content == b"ok"
    assert trailers.times == 1
    assert heard.sent == [b"5\r\nhello\r\n0\r\nX-Time: 1\r\n\r\n", b""]
    assert heard.heads[1].method == "GET"
    assert heard.heads[1].get("Trailer") is None


def test_agent_does_not_retry_after_an_exception_of_a_callable() -> None:
    times: list[int] = []

    def failing() -> Any:
        times.append(1)
        raise Mine

    with Peer(lambda conn: conn.wait_closed()) as peer, UserAgent(max_retries=3) as agent:
        with pytest.raises(Mine):
            agent.urlopen(f"{peer.url}/", "PUT", payload=b"hello", trailers=failing)
        with pytest.raises(ValueError, match='trailer "Host"'):
            agent.urlopen(f"{peer.url}/", trailers={"Host": "x"})
        with pytest.raises(TypeError, match="trailers must be"):
            agent.urlopen(f"{peer.url}/", trailers=5)  # type: ignore[arg-type]
        assert times == [1]
        assert len(peer.conns) == 1


def test_session_takes_trailers() -> None:
    heard = Listener()
    with Peer(heard) as peer, Session() as session:
        session.post(peer.url, b"hello", trailers=SUM)
        session.put(peer.url, b"hello", trailers=lambda: SUM, timeout=5)
        session.get(peer.url, trailers=SUM)
        session.request("PATCH", peer.url, json=[1], trailers=SUM)
        session.post(peer.url, b"hello", trailers={})
        assert geventhttpclient.post(peer.url, b"hello", trailers=SUM).content == b"ok"
    hello = b"5\r\nhello\r\n" + LAST
    assert heard.sent == [hello, hello, LAST, b"3\r\n[1]\r\n" + LAST, b"hello", hello]


def test_files_with_trailers_are_chunked() -> None:
    heard = Listener()
    with Peer(heard) as peer, Session() as session:
        session.post(peer.url, files={"f": ("name", b"content")}, trailers=SUM)
        session.post(peer.url, files={"f": ("name", b"content")}, trailers={})
    assert [head.get("Content-Length") is None for head in heard.heads] == [True, False]
    assert heard.sent[0].endswith(b"\r\n" + LAST)
    assert b"content" in heard.sent[0]


def test_response_to_a_challenge_calls_the_callable_again() -> None:
    challenge = b'HTTP/1.1 401 Who\r\nWWW-Authenticate: Digest realm="r", nonce="n"\r\nContent-Length: 0\r\n\r\n'
    heard = Listener(challenge)
    with Peer(heard) as peer, Session(auth=DigestAuth("me", "pass")) as session:
        assert session.post(peer.url, b"hello", trailers=Counter()).content == b"ok"
    assert heard.sent == [b"5\r\nhello\r\n0\r\nX-Time: %d\r\n\r\n" % time for time in (1, 2)]


# ---------------------------------------------------------------- without a server


def test_mock_gets_the_trailers() -> None:
    def answer(request: MockRequest) -> MockResponse:
        return MockResponse(200, body=repr(sorted(request.trailers.items())))

    transport = MockTransport(answer)
    seen: list[str] = []

    def body() -> Iterator[bytes]:
        yield b"hello"
        seen.append("body")

    def trailers() -> dict[str, str]:
        seen.append("trailers")
        return SUM

    client = HTTPClient("example.test", transport=transport)
    for given in [SUM, iter(SUM.items()), Headers(SUM), trailers]:
        assert client.post("/", body(), trailers=given).read() == b"[('X-Sum', 'abc')]"
    assert seen == ["body"] * 4 + ["trailers"]
    announced = [request.headers.get("trailer") for request in transport.requests]
    assert announced == ["X-Sum", "X-Sum", "X-Sum", None]
    assert {request.headers["transfer-encoding"] for request in transport.requests} == {"chunked"}
    client.post("/", b"hello")
    client.post("/", b"hello", trailers={})
    client.post("/", b"hello", trailers=SUM)
    plain, empty, chunked = transport.requests[4:]
    assert plain.trailers == empty.trailers == Headers()
    assert (empty.headers["content-length"], chunked.headers.get("content-length")) == ("5", None)
    assert chunked.body == b"hello"


def test_mock_refuses_what_the_engine_refuses() -> None:
    transport = MockTransport(lambda request: MockResponse())
    client = HTTPClient("example.test", transport=transport)
    old = HTTPClient("example.test", transport=transport, version="HTTP/1.0")
    for call in [
        lambda: client.post("/", b"x", trailers={"Host": "x"}),
        lambda: client.post("/", b"x", trailers=lambda: {"Host": "x"}),
        lambda: client.post("/", b"x", trailers={"X": "a\nb"}),
        lambda: client.post("/", b"x", {"Content-Length": "1"}, trailers=SUM),
        lambda: old.post("/", b"x", trailers=SUM),
    ]:
        with pytest.raises(ValueError, match=r"Host|X|trailers"):
            call()
    with pytest.raises(Mine):
        client.post("/", b"x", trailers=raising(Mine()))
    assert transport.requests == []


def test_agent_calls_the_callable_again_with_a_mock() -> None:
    transport = MockTransport(lambda request: MockResponse(503 if request.trailers["x-time"] == "1" else 200))
    with UserAgent(transport=transport, retry_statuses=[503]) as agent:
        agent.urlopen("http://example.test/", "PUT", payload=b"hello", trailers=Counter())
    assert [request.trailers["X-Time"] for request in transport.requests] == ["1", "2"]
