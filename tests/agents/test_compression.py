"""Compression that a session requests by default: every way to read the body returns decoded content."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import json
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent.event
import pytest

import geventhttpclient
from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from geventhttpclient.response import HTTPConnectionClosed
from geventhttpclient.useragent import BadStatusCode, CompatResponse
from tests.support.peer import Conn, Peer

pytestmark = pytest.mark.usefixtures("bounded")

TEXT = b"".join(b"line %d of many\n" % n for n in range(20_000))
JSON = json.dumps({"friends": [{"name": f"friend {n}"} for n in range(500)]}).encode()
LARGE = random.Random(0).randbytes(1 << 20)  # more than is read ahead
DEFAULT = "gzip, deflate, br, zstd"


def compressing(conn: Conn) -> None:
    """Compresses the requested body (`/json`, `/large`, else lines of text) if the request accepts that."""
    while request := conn.read_request():
        body = {"/json": JSON, "/large": LARGE}.get(request.target, TEXT)
        first, _, last = (request.get("range") or "").removeprefix("bytes=").partition("-")
        fields, status = [("ETag", '"1"')], "200 OK"
        if "gzip" in (request.get("accept-encoding") or ""):
            body = gzip.compress(body)
            fields.append(("Content-Encoding", "gzip"))
        if first:
            fields.append(("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}"))
            body, status = body[int(first) : int(last) + 1 if last else None], "206 Partial Content"
        if request.method == "HEAD":
            lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in fields), f"Content-Length: {len(body)}"]
            conn.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        elif request.target == "/304":
            conn.send(b"HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\n\r\n")
        else:
            conn.respond(body, status, fields)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(compressing) as peer:
        yield peer


def lines_of(response: Any) -> list[bytes]:
    return list(iter(response.readline, b""))


READERS: dict[str, Callable[[Any], bytes]] = {
    "content": lambda response: response.content,
    "text": lambda response: response.text.encode(),
    "read": lambda response: response.read(),
    "read(-1)": lambda response: response.read(-1),
    "read(n)": lambda response: b"".join(iter(lambda: response.read(1000), b"")),
    "readline": lambda response: b"".join(lines_of(response)),
    "iterating": lambda response: b"".join(response),
    "iter_content": lambda response: b"".join(response.iter_content(1000)),
    "iter_content(None)": lambda response: b"".join(response.iter_content(None)),
    "a line, then read": lambda response: response.readline() + response.read(),
    "a line, then content": lambda response: response.readline() + response.content,
    "a line, then iter_content": lambda response: response.readline() + b"".join(response.iter_content(99)),
    "a piece, then lines": lambda response: b"".join([next(response.iter_content(None)), *lines_of(response)]),
    "unzipped": lambda response: response.unzipped(),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_session_body_is_decoded_with_every_way_to_read_it(read: Callable[[Any], bytes], peer: Peer) -> None:
    with Session() as session:
        response = session.get(peer.url, headers={"Content-Type": "text/plain"})
        assert response.headers["content-encoding"] == "gzip"
        assert read(response) == TEXT
        assert response.isclosed()
        assert response.read() == response.readline() == b""
        assert session.get(peer.url).read(4) == TEXT[:4]  # the connection was free, or this would wait
    assert [request.get("accept-encoding") for request in peer.requests] == [DEFAULT] * 2


def test_functions_of_the_package_ask_for_compression(peer: Peer) -> None:
    assert geventhttpclient.get(peer.url).read() == TEXT
    assert geventhttpclient.post(peer.url, b"x").readline() == TEXT[: TEXT.index(b"\n") + 1]
    assert [request.get("accept-encoding") for request in peer.requests] == [DEFAULT] * 2


def test_session_response_can_be_read_as_a_file_by_json_and_csv(peer: Peer) -> None:
    with Session() as session:
        assert json.load(session.get(peer.url + "/json")) == json.loads(JSON)  # type: ignore[arg-type]
        assert session.get(peer.url + "/json").json() == json.loads(JSON)
        response = session.get(peer.url)
        rows = csv.reader(line.decode() for line in iter(response.readline, b""))
        assert list(rows) == [[line] for line in TEXT.decode().splitlines()]


@pytest.mark.parametrize(
    ("in_session", "in_request", "sent"),
    [
        ({"Accept-Encoding": None}, None, None),
        (None, {"accept-encoding": None}, None),
        ({"Accept-Encoding": "gzip"}, None, "gzip"),
        (None, {"ACCEPT-ENCODING": "gzip;q=1"}, "gzip;q=1"),
        (None, {"Accept-Encoding": "identity"}, "identity"),
    ],
)
def test_session_accept_encoding_of_the_program_replaces_the_default(
    in_session: Any, in_request: Any, sent: str | None, peer: Peer
) -> None:
    with Session(headers=in_session) as session:
        response = session.get(peer.url, headers=in_request)
        assert peer.requests[0].get("accept-encoding") == sent
        # The program decodes what it has asked for itself, as with 2.6.1; `content` always does.
        body = response.read()
        assert (gzip.decompress(body) if sent and "gzip" in sent else body) == TEXT
        assert session.get(peer.url, headers=in_request).content == TEXT


def test_session_accept_encoding_may_be_removed_and_assigned(peer: Peer) -> None:
    with Session() as session:
        assert session.headers["accept-encoding"] == DEFAULT
        del session.headers["Accept-Encoding"]
        assert session.get(peer.url).raw.read() == TEXT
        session.headers["Accept-Encoding"] = "br"
        assert session.get(peer.url).read() == TEXT
    assert [request.get("accept-encoding") for request in peer.requests] == [None, "br"]


def test_session_raw_is_not_decoded(peer: Peer) -> None:
    with Session() as session:
        assert gzip.decompress(session.get(peer.url).raw.read()) == TEXT
        response = session.get(peer.url)
        assert len(response) == response.raw.content_length == len(gzip.compress(TEXT))


def test_session_range_is_not_requested_compressed(peer: Peer) -> None:
    with Session() as session:
        response = session.get(peer.url, headers={"range": "bytes=5-20"})
        assert (response.status_code, response.content) == (206, TEXT[5:21])
        assert session.get(peer.url, headers={"Range": "bytes=5-20", "Accept-Encoding": "br"}).read() == TEXT[5:21]
        assert session.urlopen(peer.url, headers={"Range": "bytes=5-20"}).content == TEXT[5:21]
        session.headers["RANGE"] = "bytes=5-20"
        assert session.get(peer.url).content == TEXT[5:21]
    assert [request.get("accept-encoding") for request in peer.requests] == [None, "br", None, None]


def test_download_is_not_compressed(peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with Session() as session:
        session.download(peer.url, path)
        assert path.read_bytes() == TEXT
        path.write_bytes(TEXT[:1000])
        assert session.download(peer.url, path, resume=True).status_code == 206
        assert path.read_bytes() == TEXT
        session.download(peer.url, path, headers={"Accept-Encoding": "gzip"})
        assert gzip.decompress(path.read_bytes()) == TEXT
    assert [request.get("accept-encoding") for request in peer.requests] == [None, None, "gzip"]


def test_responses_without_a_body_have_no_coding(peer: Peer) -> None:
    with Session() as session:
        for response in (session.head(peer.url), session.get(peer.url + "/304")):
            assert response.headers["content-encoding"] == "gzip"
            assert (response.read(5), response.readline(), response.content, list(response)) == (b"", b"", b"", [])


def test_urlopen_of_a_session_decodes_the_body_that_it_logs_and_returns(peer: Peer) -> None:
    stream = io.StringIO()
    with Session() as session:
        assert session.urlopen(peer.url + "/json", to_string=True) == JSON
        assert session.urlopen(peer.url + "/json", debug_stream=stream).content == JSON
    assert JSON.decode() in stream.getvalue()


def test_body_that_is_logged_in_part_is_read_from_its_beginning() -> None:
    body = b"".join(b"%d," % (n * n * 7919) for n in range(400_000))
    coded = gzip.compress(body, 1)

    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.respond(coded, headers=[("Content-Encoding", "gzip")])

    stream = io.StringIO()
    with Peer(script) as peer, Session() as session:
        response = session.urlopen(peer.url, debug_stream=stream)
        assert body[:1000].decode() in stream.getvalue()
        assert not response.isclosed()
        assert response.read(10) + response.read() == body


def broken(conn: Conn) -> None:
    while request := conn.read_request():
        coded = gzip.compress(TEXT)
        if request.target == "/cut":
            conn.respond(coded[: len(coded) // 2], headers=[("Content-Encoding", "gzip")])
        elif request.target == "/short":
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded))
            conn.send(coded[: len(coded) // 2])
            conn.sock.close()
            return
        else:
            conn.respond(coded[:100] + b"\xff" * 100 + coded[200:], headers=[("Content-Encoding", "gzip")])


@pytest.mark.parametrize(("path", "error"), [("/", zlib.error), ("/cut", zlib.error), ("/short", HTTPConnectionClosed)])
@pytest.mark.parametrize("read", ["read(n)", "readline", "iterating", "iter_content"])
def test_body_that_cannot_be_decoded_never_looks_complete(read: str, path: str, error: type[Exception]) -> None:
    with Peer(broken) as peer, Session(max_retries=0) as session:
        response = session.get(peer.url + path)
        for _ in range(3):
            with pytest.raises(error):
                READERS[read](response)


def test_session_response_that_is_dropped_or_released_gives_its_connection_back(peer: Peer) -> None:
    gc.disable()
    try:
        with Session() as session:
            for _ in range(3):  # there is one connection
                assert session.get(peer.url).readline()
            response = session.get(peer.url + "/large")
            assert response.read(10) == LARGE[:10]
            response.release()
            assert (response.read(), response.readline(), list(response)) == (b"", b"", [])
            assert session.get(peer.url).read(3) == TEXT[:3]
        with httpx.Client(concurrency=1) as client:
            for _ in range(3):
                request = client.build_request("GET", peer.url)
                assert client.send(request, stream=True).readline()
    finally:
        gc.enable()


def test_lines_come_as_soon_as_they_are_there() -> None:
    sent = gevent.event.Event()
    coder = zlib.compressobj(wbits=31)

    def script(conn: Conn) -> None:
        assert conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        for line in (b"one\n", b"two\n"):
            piece = coder.compress(line) + coder.flush(zlib.Z_SYNC_FLUSH)
            conn.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            sent.wait()
        piece = coder.flush()
        conn.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece))

    with Peer(script) as peer, Session() as session:
        response = session.get(peer.url)
        assert response.readline() == b"one\n"
        sent.set()
        assert lines_of(response) == [b"two\n"]


def test_user_agent_and_http_client_ask_for_nothing(peer: Peer) -> None:
    with UserAgent() as agent, HTTPClient.from_url(peer.url) as client:
        assert agent.urlopen(peer.url).read() == TEXT
        assert client.get("/").read() == TEXT
    with UserAgent(headers={"Accept-Encoding": "gzip"}) as agent:
        response: CompatResponse = agent.urlopen(peer.url)
        assert gzip.decompress(response.read()) == TEXT
    assert [request.get("accept-encoding") for request in peer.requests] == [None, None, "gzip"]


@pytest.mark.parametrize("read", ["read(n)", "readline", "iterating", "a line, then content", "a line, then read"])
def test_httpx_response_is_decoded_with_every_way_to_read_it(read: str, peer: Peer) -> None:
    with httpx.Client() as client, client.stream("GET", peer.url) as response:
        assert READERS[read](response) == TEXT
        assert response.num_bytes_downloaded == len(gzip.compress(TEXT))
    with (
        Peer(broken) as peer,
        httpx.Client() as client,
        client.stream("GET", peer.url) as response,
        pytest.raises(httpx.DecodingError),
    ):
        READERS[read](response)


def test_bad_status_of_a_session_urlopen_has_the_decoded_body_in_its_log() -> None:
    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.respond(gzip.compress(b"what went wrong"), "500 No", [("Content-Encoding", "gzip")])

    class Strict(Session):
        def _verify_status(self, status_code: int, url: Any = None) -> None:
            UserAgent._verify_status(self, status_code, url)

    with Peer(script) as peer, Strict() as session, pytest.raises(BadStatusCode) as caught:
        session.urlopen(peer.url)
    error: Any = caught.value
    assert "what went wrong" in error.http_log
    assert error.response.content == b"what went wrong"


def test_decoded_read_that_is_interrupted_never_looks_complete() -> None:
    stalled = gevent.event.Event()

    def script(conn: Conn) -> None:
        assert conn.read_request()
        coded = gzip.compress(TEXT)
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded))
        conn.send(coded[: len(coded) // 2])
        stalled.wait()

    with Peer(script) as peer, Session(max_retries=0) as session:
        for read in ("read(n)", "readline", "iterating", "read", "content"):
            response = session.get(peer.url)
            with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
                READERS[read](response)
            for _ in range(2):
                with pytest.raises(HTTPConnectionClosed):
                    READERS[read](response)
        stalled.set()


CODED = gzip.compress(TEXT)


@pytest.mark.parametrize("broken", [CODED[:-20], b"this is no gzip"], ids=["cut off", "no gzip"])
@pytest.mark.parametrize("agent", [Session, UserAgent])
def test_content_that_cannot_be_decoded_stays_an_error(broken: bytes, agent: type[UserAgent]) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.respond(broken, headers=[("Content-Encoding", "gzip"), ("Content-Type", "text/plain")])

    with Peer(script) as peer, agent() as made:
        response: Any = made.urlopen(peer.url)
        for _ in range(2):
            for name in ("content", "text", "data"):
                with pytest.raises(zlib.error):
                    getattr(response, name)
            with pytest.raises(zlib.error):
                response.json()
        if agent is Session:
            for read in (lambda: b"".join(response.iter_content(1000)), response.read, lambda: lines_of(response)):
                with pytest.raises(zlib.error):
                    read()


def test_session_body_that_has_come_in_can_be_read_after_release(peer: Peer) -> None:
    with Session() as session:
        with session.get(peer.url + "/json") as response:
            begun = response.read(5)
        assert begun + response.content == JSON


@pytest.mark.parametrize("accepted", [DEFAULT, None])
@pytest.mark.parametrize("rest", [name for name in READERS if name not in ("a piece, then lines", "unzipped")])
def test_pieces_that_are_not_taken_stay_to_be_read(rest: str, accepted: str | None, peer: Peer) -> None:
    with Session(headers={"Accept-Encoding": accepted}) as session:
        response = session.get(peer.url, headers={"Content-Type": "text/plain"})
        begun = next(response.iter_content(10)) + next(response.iter_content(3))
        assert begun + READERS[rest](response) == TEXT
