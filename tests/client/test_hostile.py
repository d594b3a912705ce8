"""Hostile servers: unrequested bytes, endless drips, loops and floods."""

from __future__ import annotations

import gzip
import http.client
import importlib
import itertools
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from http.cookiejar import CookieJar
from typing import Any

import gevent
import pytest
from gevent.event import Event

import geventhttpclient.httpx.client
from geventhttpclient import HTTPClient, Session, UserAgent, httplib, httpx
from geventhttpclient._agent import draining
from geventhttpclient.auth import DigestAuth
from geventhttpclient.response import HTTPParseError
from geventhttpclient.useragent import RetriesExceeded
from tests.support.certificates import Certificates
from tests.support.hub import attempt, run
from tests.support.peer import Conn, Peer, Script, serve_ok
from tests.support.requirements import missing
from tests.support.scripted import serving
from tests.support.tls import WAYS, check_whole, client_of, read_hello, securely_serving, trusting
from tests.vectors import RESPONSES

pytestmark = pytest.mark.usefixtures("bounded", "names_are_here")

# ---------------------------------------------------------------- bytes after a complete message

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "counted": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "empty": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "chunked": ("GET", CHUNKED + b"2\r\nok\r\n0\r\n\r\n"),
    "trailers": ("GET", CHUNKED + b"2\r\nok\r\n0\r\nX-A: b\r\n\r\n"),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
    "head": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
}
EVIL = b"HTTP/1.1 404 Evil\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nEVIL"
STRAYS = {
    "response": EVIL,
    "half a head": EVIL[:30],
    "interim head": b"HTTP/1.1 100 Continue\r\n\r\n",
    "line end": b"\r\n",
    "byte": b"H",
    "nul": b"\0",
}

Fetch = Callable[..., tuple[int, bytes]]


@contextmanager
def by_client(peer: Peer) -> Iterator[Fetch]:
    with closing(HTTPClient(peer.host, peer.port)) as client:

        def fetch(target: str, method: str = "GET") -> tuple[int, bytes]:
            response = client.request(method, target)
            assert "x-evil" not in response
            return response.status_code, response.read()

        yield fetch


@contextmanager
def by_agent(peer: Peer) -> Iterator[Fetch]:
    with UserAgent() as agent:
        agent.valid_response_codes = range(1000)

        def fetch(target: str, method: str = "GET") -> tuple[int, bytes]:
            response = agent.urlopen(peer.url + target, method)
            assert "x-evil" not in response.headers
            return response.status_code, response.content

        yield fetch


@contextmanager
def by_session(peer: Peer) -> Iterator[Fetch]:
    with Session() as session:

        def fetch(target: str, method: str = "GET") -> tuple[int, bytes]:
            response = session.request(method, peer.url + target)
            return response.status_code, response.content

        yield fetch


@contextmanager
def by_httpx(peer: Peer) -> Iterator[Fetch]:
    with httpx.Client(concurrency=1) as client:

        def fetch(target: str, method: str = "GET") -> tuple[int, bytes]:
            response = client.request(method, peer.url + target)
            return response.status_code, response.content

        yield fetch


@contextmanager
def by_httplib(peer: Peer) -> Iterator[Fetch]:
    with closing(httplib.HTTPConnection(peer.host, peer.port)) as connection:

        def fetch(target: str, method: str = "GET") -> tuple[int, bytes]:
            try:
                connection.request(method, target)
                response = connection.getresponse()
                body = response.read()
            except BaseException:
                connection.close()  # as http.client's users have to
                raise
            if response.status == 101:
                connection.close()  # after an upgrade, the raw connection belongs to the caller
            return response.status, body

        yield fetch


FACES = [by_client, by_agent, by_session, by_httpx, by_httplib]


@pytest.mark.pairwise
@pytest.mark.parametrize("glued", [True, False], ids=["same segment", "before the reuse"])
@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("framing", ANSWERS)
@pytest.mark.parametrize("face", FACES)
def test_bytes_behind_a_message_are_discarded(
    face: Callable[[Peer], AbstractContextManager[Fetch]], framing: str, stray: str, glued: bool
) -> None:
    """The next request, even one that is not sent twice, goes over another connection."""
    method, answer = ANSWERS[framing]
    go, said = Event(), Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        if glued:
            conn.send_at_once(answer + STRAYS[stray])
        else:
            conn.send_at_once(answer)
            go.wait()
            conn.send_at_once(STRAYS[stray])
        said.set()
        conn.wait_closed()

    with Peer(script, serve_ok) as peer, face(peer) as fetch:
        status = int(answer.split()[1])
        assert fetch("/first", method) == (status, b"ok" if b"ok" in answer else b"")
        go.set()
        said.wait()
        assert fetch("/next", "POST") == (200, b"/next")
        assert [request.target for request in peer.requests] == ["/first", "/next"]
        assert len(peer.conns) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("when", ["same record", "next record", "before the reuse"])
@pytest.mark.parametrize("framing", ANSWERS)
def test_bytes_behind_a_message_over_tls_are_discarded(
    framing: str, when: str, way: str, certificates: Certificates
) -> None:
    method, answer = ANSWERS[framing]
    go, said = Event(), Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        if when == "same record":
            conn.send(answer + EVIL)
        else:
            conn.send(answer)
            if when == "before the reuse":
                go.wait()
            conn.send(EVIL)
        said.set()
        conn.wait_closed()

    with securely_serving(certificates, script, serve_ok, way=way) as (peer, client):
        response = client.request(method, "/first")
        assert (response.status_code, response.read()) == (int(answer.split()[1]), b"ok" if b"ok" in answer else b"")
        go.set()
        said.wait()
        response = client.post("/next", b"x")
        assert (response.status_code, response.read(), "x-evil" in response) == (200, b"/next", False)
        assert len(peer.conns) == 2


@pytest.mark.parametrize("way", ["plain", *WAYS])
@pytest.mark.parametrize("framing", ANSWERS)
def test_unrequested_bytes_after_the_reuse_began_end_with_their_connection(
    framing: str, way: str, certificates: Certificates
) -> None:
    """A surplus response cannot be told apart from the response to the next request; the true one is dropped."""
    method, answer = ANSWERS[framing]

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(answer)
        conn.read_request()
        conn.send(EVIL + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")
        conn.wait_closed()

    plain = serving(script, serve_ok)
    with plain if way == "plain" else securely_serving(certificates, script, serve_ok, way=way) as (peer, client):
        client.request(method, "/first").read()
        assert client.post("/second", b"x").read() == b"EVIL"
        assert client.post("/third", b"x").read() == b"/third"
        assert [request.target for request in peer.requests] == ["/first", "/second", "/third"]
        assert len(peer.conns) == 2


@pytest.mark.parametrize("stray", [b"\0", b"garbage", b"5\r\nhello\r\n0\r\n\r\n", b"ok" * 100])
@pytest.mark.parametrize("framing", ANSWERS)
def test_garbage_after_the_reuse_began_is_an_error(framing: str, stray: bytes) -> None:
    """The error is raised without a retry, because the server may have processed the request."""
    method, answer = ANSWERS[framing]

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(answer)
        conn.read_request()
        conn.send(stray + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")
        conn.wait_closed()

    with serving(script, serve_ok) as (peer, client):
        client.request(method, "/first").read()
        with pytest.raises(HTTPParseError):
            client.get("/second")
        assert client.get("/third").read() == b"/third"
        assert [request.target for request in peer.requests] == ["/first", "/second", "/third"]


# ---------------------------------------------------------------- every vector, in every interface

MALFORMED = (HTTPParseError, http.client.HTTPException, httpx.TransportError, RetriesExceeded)


def telling(conn: Conn) -> None:
    """Script: answers with the vector whose number is the target."""
    while request := conn.read_request():
        vector = RESPONSES[int(request.target[1:])]
        conn.send(vector.raw)
        if vector.eof:
            conn.finish_sending()
        if vector.eof or vector.error or (vector.response and not vector.response["keep_alive"]):
            break
    conn.wait_closed()


@pytest.mark.parametrize("face", FACES)
def test_every_vector_has_the_expected_outcome_in_every_interface(
    face: Callable[[Peer], AbstractContextManager[Fetch]],
) -> None:
    """The vectors run in sequence, so that leftover bytes of one show in the next; the method is never retried."""
    wrong = []
    with Peer(telling) as peer, face(peer) as fetch:
        for number, vector in enumerate(RESPONSES):
            if vector.method == "CONNECT":
                continue  # which none of them is asked for
            method = "POST" if vector.method == "GET" else vector.method
            outcome = attempt(lambda target=f"/{number}", method=method: fetch(target, method))
            if vector.response is None:
                right = isinstance(outcome, MALFORMED)
            else:
                right = outcome == (vector.response["status"], vector.body)
            if not right:
                wrong.append((vector.name, outcome))
    assert not wrong
    # No request was repeated.
    assert len(peer.requests) == sum(vector.method != "CONNECT" for vector in RESPONSES)


# ---------------------------------------------------------------- drips

LIMIT = 0.06
OK_HEAD = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "empty lines": (b"", b"\r\n", "head"),
    "reason": (b"HTTP/1.1 200 ", b"O", "head"),
    "name": (OK_HEAD, b"x", "head"),
    "fields": (OK_HEAD, b"a:\r\n", "head"),
    "folds": (OK_HEAD + b"a: b\r\n", b" c\r\n", "head"),
    "interim fields": (b"HTTP/1.1 103 Early Hints\r\n", b"a:\r\n", "head"),
    "chunk size": (CHUNKED + b"5", b" ", "body"),
    "chunk extension": (CHUNKED + b"5;", b"x", "body"),
    "trailer": (CHUNKED + b"0\r\nX: ", b"y", "body"),
    "trailers": (CHUNKED + b"0\r\n", b"a:\r\n", "body"),
}


def dripping(piece: bytes, *starts: Callable[[Conn], object]) -> Script:
    """Returns a script that runs the steps, then sends `piece` ten times in each LIMIT without end."""

    def script(conn: Conn) -> None:
        for start in starts:
            start(conn)
        while True:
            # By the descriptor: what drips below TLS is no record.
            os.write(conn.sock.fileno(), piece)
            gevent.sleep(LIMIT / 10)

    return script


def ends_in_time(call: Callable[[], object], phase: str) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        call()
    assert time.monotonic() - start < LIMIT + 2
    assert caught.value.phase == phase  # type: ignore[attr-defined]
    assert caught.value.elapsed >= LIMIT  # type: ignore[attr-defined]


@pytest.mark.parametrize("drip", DRIPS)
def test_dripping_response_is_ended_by_total_timeout(drip: str) -> None:
    start, piece, phase = DRIPS[drip]
    script = dripping(piece, Conn.read_request, lambda conn: conn.send(start))
    with serving(script, serve_ok, total_timeout=LIMIT, network_timeout=LIMIT * 0.9) as (_, client):
        ends_in_time(lambda: client.get("/").read(), phase)
        check_whole(client)
        assert client.get("/next", total_timeout=None, network_timeout=None).read() == b"/next"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("said", "phase"), [(b"", "head"), (CHUNKED + b"5\r\nhel", "body")])
@pytest.mark.parametrize("timeout", ["total_timeout", "network_timeout"])
def test_dripping_tls_record_is_ended(
    timeout: str, said: bytes, phase: str, way: str, certificates: Certificates
) -> None:
    """A record without its last byte is no progress: network_timeout ends it as well."""

    def start(conn: Conn) -> None:
        conn.read_request()
        conn.send(said)
        os.write(conn.sock.fileno(), b"\x17\x03\x03\x40\x00")

    with securely_serving(certificates, dripping(b"x", start), serve_ok, way=way) as (_, client):
        ends_in_time(lambda: client.get("/", **{timeout: LIMIT}).read(), phase)
        check_whole(client)
        assert client.get("/next").read() == b"/next"


# The header of a record of 16 KiB that is never sent; a record for each byte of a ServerHello of 16 KiB.
HANDSHAKES = {
    "record": (b"\x16\x03\x03\x40\x00", b"\x02"),
    "message": (
        b"".join(b"\x16\x03\x03\x00\x01" + byte for byte in (b"\x02", b"\x00", b"\x40")),
        b"\x16\x03\x03\x00\x01\x00",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("timeout", ["connection_timeout", "total_timeout"])
@pytest.mark.parametrize("handshake", HANDSHAKES)
def test_dripping_handshake_is_ended(handshake: str, timeout: str, way: str, certificates: Certificates) -> None:
    start, piece = HANDSHAKES[handshake]
    script = dripping(piece, read_hello, lambda conn: conn.send(start))
    options = {"ssl_options": trusting(certificates), timeout: LIMIT}
    with Peer(script) as peer, client_of(peer.port, way, **options) as client:
        ends_in_time(lambda: client.get("/"), "tls")
        check_whole(client)


PROXIES = {
    "http": ("http", b"HTTP/1.1 200 OK\r\nX-A: ", b"y", Conn.read_head),
    "http interim": ("http", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", Conn.read_head),
    "http fields": ("http", b"HTTP/1.1 200 OK\r\n", b"a:\r\n", Conn.read_head),
    "socks5": ("socks5h", b"\x05\x00\x05\x00\x00\x03\xff", b"x", lambda conn: conn.read_exactly(3)),
}


@pytest.mark.parametrize("timeout", ["connection_timeout", "total_timeout"])
@pytest.mark.parametrize("proxy", PROXIES)
def test_dripping_proxy_is_ended(proxy: str, timeout: str) -> None:
    scheme, start, piece, asked = PROXIES[proxy]
    with Peer(dripping(piece, asked, lambda conn: conn.send(start))) as peer:
        place = f"{scheme}://127.0.0.1:{peer.port}"
        options: dict[str, Any] = {timeout: LIMIT}
        with closing(HTTPClient("origin.test", ssl=scheme == "http", proxy=place, **options)) as client:
            ends_in_time(lambda: client.get("/"), "proxy")
            check_whole(client)


def test_dripping_response_is_ended_for_an_agent() -> None:
    script = dripping(b"x", Conn.read_request, lambda conn: conn.send(OK_HEAD + b"\r\n"))
    with Peer(script) as peer, UserAgent(total_timeout=LIMIT, max_retries=0) as agent:
        response = agent.urlopen(peer.url)
        ends_in_time(lambda: response.content, "body")
    with Peer(script) as peer, Session(total_timeout=LIMIT) as session:
        response = session.get(peer.url)
        ends_in_time(lambda: response.content, "body")


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("face", [UserAgent, Session, lambda: httpx.Client(follow_redirects=True)])
def test_dripping_body_of_a_redirect_is_abandoned(
    face: Callable[[], Any], counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller did not ask for that body, and network_timeout begins again with each of its bytes."""
    for module in (draining, geventhttpclient.httpx.client):
        monkeypatch.setattr(module, "DRAINED_SECONDS", LIMIT)
    head = b"HTTP/1.1 302 Found\r\nLocation: /next\r\n" + b"Content-Length: 60000\r\n" * counted + b"\r\n"
    script = dripping(b"x", Conn.read_request, lambda conn: conn.send(head))
    with Peer(script, serve_ok) as peer, face() as agent:
        start = time.monotonic()
        get = agent.urlopen if face is UserAgent else agent.get
        assert get(peer.url).content == b"/next"
        assert time.monotonic() - start < LIMIT + 2


# ---------------------------------------------------------------- loops


def looping(conn: Conn) -> None:
    """Script: redirects to itself, each time under another name."""
    for n in itertools.count():
        if conn.read_request() is None:
            break
        conn.respond(b"on", "302 Found", [("Location", f"/{n}"), ("Set-Cookie", f"n{n}=1")])


def test_redirect_loops_end() -> None:
    with Peer(looping) as peer:
        with UserAgent(max_redirects=5, cookiejar=CookieJar()) as agent, pytest.raises(RetriesExceeded):
            agent.urlopen(peer.url)
        assert len(peer.requests) == 6
        with Session() as session, pytest.raises(RetriesExceeded):
            session.get(peer.url)
        assert len(peer.requests) == 6 + 31
        with httpx.Client(follow_redirects=True) as client, pytest.raises(httpx.TooManyRedirects):
            client.get(peer.url)
        assert len(peer.requests) == 6 + 31 + 21


def challenging(conn: Conn) -> None:
    """Script: rejects each answer with a challenge that says that the nonce was stale."""
    for n in itertools.count():
        if conn.read_request() is None:
            break
        challenge = f'Digest realm="r", nonce="{n}", qop="auth", stale=true'
        conn.respond(b"no", "401 Unauthorized", [("WWW-Authenticate", challenge)])


def test_challenge_loops_end() -> None:
    with Peer(challenging) as peer:
        with Session() as session:
            assert session.get(peer.url, auth=DigestAuth("u", "p")).status_code == 401
        assert 2 <= len(peer.requests) <= 3
        with httpx.Client(auth=httpx.DigestAuth("u", "p")) as client:
            assert client.get(peer.url).status_code == 401
        assert len(peer.requests) <= 6


# ---------------------------------------------------------------- floods, in a process whose memory is measured

HUGE = 10**18
MIB = 1 << 20
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "reason": (b"HTTP/1.1 200 ", b"O"),
    "name": (OK_HEAD, b"x"),
    "value": (OK_HEAD + b"X-A: ", b"y"),
    "fields": (OK_HEAD, b"X-A: b\r\n"),
    "cookies": (OK_HEAD, b"Set-Cookie: a=b\r\n"),
    "folds": (OK_HEAD + b"X-A: b\r\n", b" c\r\n"),
    "empty-lines": (b"", b"\r\n"),
    "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "interim-fields": (b"HTTP/1.1 103 Early Hints\r\n", b"X-A: b\r\n"),
    "chunk-size": (CHUNKED + b"5", b" "),
    "chunk-extension": (CHUNKED + b"5;", b"x"),
    "trailer": (CHUNKED + b"0\r\nX-A: ", b"y"),
    "trailers": (CHUNKED + b"0\r\n", b"X-A: b\r\n"),
}
ANNOUNCED = {
    "counted": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhello" % HUGE,
    "chunk": CHUNKED + b"%x\r\nhello" % HUGE,
    "chunk-of-63-bits": CHUNKED + b"7fffffffffffffff\r\nhello",
    "chunk-of-64-bits": CHUNKED + b"ffffffffffffffff\r\nhello",
    "counted-of-64-bits": b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nhello",
}


def flood(conn: Conn) -> None:
    """Script: sends the flood that the target names: 64 MiB of it, or until the client disconnects."""
    request = conn.read_request()
    assert request is not None
    _, kind, name = request.target.split("/")
    if kind == "announced":
        conn.send(ANNOUNCED[name])
        return
    if kind == "cookies":
        lines = [("Set-Cookie", f"c{name}-{n}={'v' * 400}") for n in range(250)]
        conn.respond(b"", "302 Found", [("Location", f"/cookies/{int(name) + 1}"), *lines])
        return
    start, more = FLOODS[name]
    conn.send(start)
    block = more * (MIB // 16 // len(more))
    for _ in range(64 * 16):
        conn.send(block)


def test_floods_meet_their_limits_in_little_memory() -> None:
    with Peer(flood) as peer:
        run("hostile.floods", peer.port, *FLOODS).clean()


def test_announced_lengths_take_no_memory() -> None:
    with Peer(flood) as peer:
        run("hostile.announced", peer.port, *ANNOUNCED).clean()


def test_flood_of_cookies_is_small() -> None:
    with Peer(flood) as peer:
        run("hostile.cookies", peer.port).clean()
        assert len(peer.requests) == 31


def package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"the package {name}")


def encoded(coding: str, size: int) -> bytes:
    """Returns that number of zero bytes, encoded, with little memory in use."""
    block = bytes(MIB)
    if coding == "br":
        encoder = package("brotli").Compressor(quality=3)
        return b"".join(encoder.process(block) for _ in range(size // MIB)) + bytes(encoder.finish())
    if coding == "zstd":
        encoder = package("zstandard").ZstdCompressor().compressobj()
    else:
        encoder = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    return b"".join(encoder.compress(block) for _ in range(size // MIB)) + bytes(encoder.flush())


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """Returns bombs by Content-Encoding; each decodes to at least 96 MiB."""
    single = {coding: encoded(coding, 96 * MIB) for coding in ("gzip", "deflate", "br", "zstd")}
    stacked = {
        "gzip, gzip": gzip.compress(single["gzip"] * 4),
        "zstd, gzip": gzip.compress(single["zstd"]),
        "gzip, br": package("brotli").compress(single["gzip"]),
        "br, zstd": package("zstandard").compress(single["br"]),
        "gzip, gzip, gzip": gzip.compress(gzip.compress(single["gzip"] * 4)),
    }
    return single | stacked


def test_decompression_bombs_take_little_memory(bombs: dict[str, bytes]) -> None:
    """Streaming takes the memory of one piece; reading the whole body takes at most that of the size limit."""
    codings = list(bombs)

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            coding = codings[int(request.target[1:])]
            conn.respond(bombs[coding], headers=[("Content-Encoding", coding)])

    with Peer(script) as peer:
        run("hostile.streamed_bombs", peer.port, len(codings)).clean()
        run("hostile.whole_bombs", peer.port, len(codings)).clean()
