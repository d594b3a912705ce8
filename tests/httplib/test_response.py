"""Responses of httplib: the documented behaviour of http.client, for every way to read one."""

from __future__ import annotations

import csv
import gc
import http.client
import io
import json
import pickle
import random
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import gevent
import gevent.event
import gevent.socket
import gevent.ssl
import pytest
import urllib3

from geventhttpclient import httplib
from tests.support.certificates import Certificates
from tests.support.httplib import OURS, THEIRS, aside, both
from tests.support.peer import Conn, Peer

# http.client's own; this package's connection, plain and over TLS; a subclass that connects itself, with a socket of
# that kind; a response of an object that is not a socket, but has a file.
OURS_ALONE = ("ours", "ours, TLS", "socket", "gevent.socket", "ssl", "gevent.ssl", "file")
WAYS = ("theirs", *OURS_ALONE)

Ask = Callable[..., Any]


class Answers:
    """A peer in a thread, which responds to `GET /n`, with any method, with `given[n]`, and closes the connection."""

    def __init__(self, tls: Any = None) -> None:
        self.given: list[bytes] = []
        self.tls = tls

    def script(self, conn: Conn) -> None:
        request = conn.read_request()
        if request is None:
            return
        conn.send(self.given[int(request.target[1:])])
        if self.tls:
            conn.send_close_notify()


@pytest.fixture(scope="module")
def answers() -> Iterator[tuple[Answers, Peer]]:
    said = Answers()
    with aside(said.script) as peer:
        yield said, peer


@pytest.fixture(scope="module")
def tls_answers(certificates: Certificates) -> Iterator[tuple[Answers, Peer]]:
    said = Answers(certificates.valid.server())
    with aside(said.script, tls=said.tls) as peer:
        yield said, peer


class FromFile:
    """The interface that http.client requires of a socket to be read."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def connecting(lib: Any, connect: Callable[[tuple[str, int]], Any]) -> type:
    """Returns a class of connections that connect themselves."""

    class Connection(lib.HTTPConnection):  # type: ignore[name-defined, misc]
        def connect(self) -> None:
            self.sock = connect((self.host, self.port))

    return Connection


@pytest.fixture
def ask(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Ask]:
    """Returns a function that receives the bytes of the peer and returns the response that begins with them."""
    way: str = request.param
    given, peer = request.getfixturevalue("tls_answers" if way in ("ours, TLS", "ssl", "gevent.ssl") else "answers")
    context = (gevent.ssl if way == "gevent.ssl" else ssl).create_default_context(cafile=str(certificates.ca))

    def wrapped(module: Any) -> Callable[[tuple[str, int]], Any]:
        return lambda address: context.wrap_socket(module.create_connection(address), server_hostname="localhost")

    classes: dict[str, Any] = {
        "theirs": THEIRS.HTTPConnection,
        "ours": OURS.HTTPConnection,
        "socket": connecting(OURS, socket.create_connection),
        "gevent.socket": connecting(OURS, gevent.socket.create_connection),
        "ssl": connecting(OURS, wrapped(socket)),
        "gevent.ssl": connecting(OURS, wrapped(gevent.socket)),
    }
    with ExitStack() as stack:

        def ask(answer: bytes, method: str = "GET") -> Any:
            if way == "file":
                response = OURS.HTTPResponse(FromFile(answer), method=method)
                stack.callback(response.close)
                response.begin()
                return response
            if way == "ours, TLS":
                connection = OURS.HTTPSConnection("localhost", peer.port, context=context)
            else:
                connection = classes[way]("localhost", peer.port)
            given.given.append(answer)
            stack.callback(connection.close)
            connection.request(method, f"/{len(given.given) - 1}")
            response = connection.getresponse()
            stack.callback(response.close)
            return response

        yield ask


each_way = pytest.mark.parametrize("ask", WAYS, indirect=True)
by_ours = pytest.mark.parametrize("ask", OURS_ALONE, indirect=True)

HEAD = b"HTTP/1.1 200 OK\r\n"


def counted(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes, size: int = 7, end: bytes = b"0\r\n\r\n") -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + end


def until_close(body: bytes) -> bytes:
    return HEAD + b"Connection: close\r\n\r\n" + body


def old(body: bytes) -> bytes:
    return b"HTTP/1.0 200 OK\r\n\r\n" + body


FRAMINGS = {"counted": counted, "chunked": chunked, "until close": until_close, "HTTP/1.0": old}
each_framing = pytest.mark.parametrize("frame", FRAMINGS.values(), ids=FRAMINGS)


# ------------------------------------------------------------------------------------------------------------- the head


@each_way
def test_head_is_parsed(ask: Ask) -> None:
    head = b"HTTP/1.1 404 Not  Here \r\nServer: x\r\nX-A: 1\r\nx-a:2\r\nEmpty:\r\nContent-Length: 4\r\n\r\n"
    response = ask(head + b"gone")
    assert (response.status, response.code, response.getcode()) == (404, 404, 404)
    assert type(response.status) is int
    assert response.reason == "Not  Here"
    assert response.version == 11
    assert response.getheader("X-a") == "1, 2"
    assert response.getheader("server") == "x"
    assert response.getheader("empty") == ""
    lines = [("Server", "x"), ("X-A", "1"), ("x-a", "2"), ("Empty", ""), ("Content-Length", "4")]
    assert response.getheaders() == lines
    assert response.headers is response.msg is response.info()
    assert isinstance(response.headers, http.client.HTTPMessage)
    assert response.headers.items() == lines
    assert response.headers.get_all("x-a") == ["1", "2"]
    assert response.headers["SERVER"] == "x"
    assert response.headers.get_content_type() == "text/plain"
    assert "Nothing" not in response.headers
    assert response.read() == b"gone"
    assert response.status == 404


@each_way
def test_missing_fields_have_defaults(ask: Ask) -> None:
    response = ask(counted(b""))
    assert response.getheader("none") is None
    assert response.getheader("none", "default") == "default"
    assert response.getheader("none", ["a", "b"]) == "a, b"
    assert response.getheader("none", 42) == 42
    assert response.getheader("none", default=()) == ""
    # Also after the headers object was created.
    assert response.headers.get("none") is None
    assert response.getheader("none", ["a", "b"]) == "a, b"
    assert response.getheader("none", 42) == 42


@each_way
def test_headers_can_be_changed(ask: Ask) -> None:
    response = ask(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx")
    del response.headers["content-encoding"]
    response.msg["Added"] = "1"
    assert response.getheader("content-encoding") is None
    assert response.getheaders() == [("Content-Length", "1"), ("Added", "1")]


@each_way
def test_attributes_can_be_set(ask: Ask) -> None:
    response = ask(counted(b"x"))
    response.url = "http://a.test/"
    response.msg = response.reason
    response.status = 299
    response.length = 1
    assert (response.geturl(), response.msg, response.getcode()) == ("http://a.test/", "OK", 299)
    assert response.read() == b"x"


@each_way
def test_names_and_values_beyond_ascii_are_latin_1(ask: Ask) -> None:
    response = ask(b"HTTP/1.1 200 caf\xe9\r\nX: \xe9\xff\r\nContent-Length: 0\r\n\r\n")
    assert response.reason == "caf\xe9"
    assert response.getheader("x") == "\xe9\xff"
    assert response.headers["x"] == "\xe9\xff"
    assert dict(response.getheaders())["X"] == "\xe9\xff"


@each_way
def test_folded_field_is_one_field(ask: Ask) -> None:
    response = ask(HEAD + b"X: a\r\n b\r\n\tc\r\nContent-Length: 0\r\n\r\n")
    assert response.getheader("X").split() == ["a", "b", "c"]
    assert response.headers["X"].split() == ["a", "b", "c"]


@each_way
@pytest.mark.parametrize("line", [b"HTTP/1.1 200\r\n", b"HTTP/1.1 200 \r\n", b"HTTP/1.1 200\n"])
def test_reason_may_be_missing(ask: Ask, line: bytes) -> None:
    response = ask(line + b"Content-Length: 2\r\n\r\nok")
    assert (response.status, response.reason, response.read()) == (200, "", b"ok")


@each_way
@pytest.mark.parametrize(
    ("line", "version", "status"),
    [
        (b"HTTP/1.1 200 OK", 11, 200),
        (b"HTTP/1.0 200 OK", 10, 200),
        (b"HTTP/1.1 999 Odd", 11, 999),
        (b"HTTP/1.2 200 OK", 11, 200),
        (b"HTTP/1.9 200 OK", 11, 200),
    ],
)
def test_versions_and_codes_are_returned(ask: Ask, line: bytes, version: int, status: int) -> None:
    response = ask(line + b"\r\nContent-Length: 2\r\n\r\nok")
    assert (response.version, response.status, response.read()) == (version, status, b"ok")


@each_way
@pytest.mark.parametrize(
    ("lines", "closes"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, CLOSE\r\n", True),
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", True),
    ],
)
def test_will_close_depends_on_the_head(ask: Ask, lines: bytes, closes: bool) -> None:
    response = ask(lines + b"\r\nok")
    assert response.will_close is closes
    assert response.read() == b"ok"
    assert response.will_close is closes


@each_way
def test_interim_heads_are_skipped(ask: Ask) -> None:
    interim = b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\n" * 2
    response = ask(interim + counted(b"ok"))
    assert (response.status, response.getheader("x"), response.read()) == (200, None, b"ok")


@by_ours
def test_interim_heads_of_every_kind_are_skipped(ask: Ask) -> None:
    response = ask(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n" + counted(b"ok"))
    assert (response.status, response.getheader("link"), response.read()) == (200, None, b"ok")


# ---------------------------------------------------------------------------------------------------------- the framing


@each_way
def test_length_of_a_counted_body_counts_down(ask: Ask) -> None:
    response = ask(counted(b"0123456789"))
    assert (response.length, response.chunked, response.isclosed()) == (10, False, False)
    assert response.read(4) == b"0123"
    assert (response.length, response.isclosed()) == (6, False)
    assert response.read() == b"456789"
    assert (response.length, response.isclosed(), response.closed) == (0, True, False)
    assert response.read() == response.read(5) == b""


@each_way
def test_empty_body_is_closed_after_read(ask: Ask) -> None:
    for answer in (counted(b""), chunked(b""), until_close(b"")):
        response = ask(answer)
        assert response.length == (0 if answer == counted(b"") else None)
        assert response.read() == b""
        assert response.isclosed()


@each_way
def test_chunked_body_has_no_length(ask: Ask) -> None:
    response = ask(chunked(b"0123456789"))
    assert (response.length, response.chunked, response.isclosed()) == (None, True, False)
    assert response.read(9) == b"012345678"
    assert not response.isclosed()
    assert response.read() == b"9"
    assert (response.length, response.isclosed()) == (None, True)
    assert response.read() == b""


@each_way
def test_body_until_close_is_read(ask: Ask) -> None:
    response = ask(until_close(b"0123456789"))
    assert (response.length, response.chunked, response.isclosed()) == (None, False, False)
    assert response.read(4) == b"0123"
    assert response.read() == b"456789"
    assert (response.length, response.isclosed()) == (None, True)
    assert response.read() == b""


# (http.client waits for a chunk of a 204 that announces chunks; a server must not send that, RFC 9112 section 6.1.)
BODILESS = [
    (method, line, field)
    for method in ("GET", "HEAD")
    for line in (b"200 OK", b"204 No Content", b"304 Not Modified")
    for field in (b"Content-Length: 10", b"Transfer-Encoding: chunked", b"X: y")
    if method == "HEAD" or (line != b"200 OK" and b"chunked" not in field)
]


@each_way
@pytest.mark.parametrize(("method", "line", "field"), BODILESS)
def test_response_without_a_body_is_empty(ask: Ask, method: str, line: bytes, field: bytes) -> None:
    response = ask(b"HTTP/1.1 %s\r\n%s\r\n\r\n" % (line, field), method)
    if b"chunked" not in field:
        assert (response.length, response.chunked) == (0, False)
    assert response.read() == b""
    assert response.isclosed()
    assert response.read(5) == response.read1() == response.readline() == response.peek() == b""
    assert response.readinto(bytearray(5)) == 0
    assert not response.will_close


@each_way
def test_chunk_extensions_and_trailers_are_not_part_of_the_body(ask: Ask) -> None:
    body = b'5;a=b;c="d"\r\nhello\r\n6 ;x\r\n world\r\n0;end\r\nChecksum: 1\r\nX: y\r\n\r\n'
    response = ask(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert response.read() == b"hello world"
    assert response.getheader("checksum") is None


@each_way
@pytest.mark.parametrize("value", [b"Chunked", b"CHUNKED"])
def test_chunked_in_any_spelling_is_decoded(ask: Ask, value: bytes) -> None:
    response = ask(HEAD + b"transfer-encoding: " + value + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert response.chunked is True
    assert response.read() == b"hello"


@by_ours
@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, Chunked\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
    ],
)
def test_chunked_declared_twice_is_decoded_once_and_closes(ask: Ask, fields: bytes) -> None:
    response = ask(HEAD + fields + b"\r\n5\r\nhello\r\n0\r\n\r\n")
    assert (response.chunked, response.length, response.will_close) == (True, None, True)
    assert response.read() == b"hello"


@each_way
@each_framing
def test_20_megabytes_are_read(ask: Ask, frame: Callable[[bytes], bytes]) -> None:
    body = bytes(range(256)) * (20 << 12)
    response = ask(chunked(body, 300_007) if frame is chunked else frame(body))
    assert response.read() == body


# --------------------------------------------------------------------------------------------------------- ways to read

TEXT = (
    b"one\ntwo\r\n\nfour is longer than a few bytes\n" + b"".join(b"line %d\n" % i for i in range(300)) + b"no newline"
)


def by_read_n(response: Any) -> bytes:
    pieces = list(iter(lambda: response.read(10), b""))
    assert all(len(piece) == 10 for piece in pieces[:-1])
    return b"".join(pieces)


def by_read1(response: Any) -> bytes:
    return b"".join(iter(response.read1, b""))


def by_read1_n(response: Any) -> bytes:
    pieces = list(iter(lambda: response.read1(4), b""))
    assert all(len(piece) <= 4 for piece in pieces)
    return b"".join(pieces)


def by_readinto(response: Any) -> bytes:
    buffer, pieces = bytearray(11), []
    while n := response.readinto(buffer):
        pieces.append(bytes(buffer[:n]))
    return b"".join(pieces)


def by_readline(response: Any) -> bytes:
    lines = list(iter(response.readline, b""))
    assert lines == TEXT.splitlines(keepends=True)
    return b"".join(lines)


def by_readline_limit(response: Any) -> bytes:
    lines = list(iter(lambda: response.readline(5), b""))
    # The result of CPython's own may be longer at the end of a chunk.
    if isinstance(response, OURS.HTTPResponse):
        assert all(len(line) == 5 or (len(line) < 5 and line.endswith(b"\n")) for line in lines[:-1])
    assert all(b"\n" not in line[:-1] for line in lines)
    return b"".join(lines)


def by_readlines(response: Any) -> bytes:
    lines = response.readlines()
    assert lines == TEXT.splitlines(keepends=True)
    return b"".join(lines)


def by_readlines_hint(response: Any) -> bytes:
    assert response.readlines(5) == [b"one\n", b"two\r\n"]
    return b"one\ntwo\r\n" + response.read()


def by_iteration(response: Any) -> bytes:
    lines = list(response)
    assert lines == TEXT.splitlines(keepends=True)
    return b"".join(lines)


def by_peek(response: Any) -> bytes:
    pieces = []
    while seen := response.peek(3):
        assert response.peek()[: len(seen)] == seen[: len(response.peek())]
        pieces.append(response.read1(1))
        assert seen.startswith(pieces[-1])
        if len(pieces) == 50:
            return b"".join(pieces) + response.read()
    return b"".join(pieces)


def by_buffered_reader(response: Any) -> bytes:
    return io.BufferedReader(response, 16).read()


def by_text_wrapper(response: Any) -> bytes:
    return io.TextIOWrapper(response, encoding="latin-1", newline="").read().encode("latin-1")


def by_text_wrapper_lines(response: Any) -> bytes:
    lines = list(io.TextIOWrapper(response, encoding="latin-1", newline="\n"))
    return "".join(lines).encode("latin-1")


def by_copy(response: Any) -> bytes:
    copy = io.BytesIO()
    shutil.copyfileobj(response, copy, 13)
    return copy.getvalue()


def by_turns(response: Any) -> bytes:
    buffer = bytearray(3)
    first = [response.read(2), response.readline(), response.read1(3), response.readline(2)]
    n = response.readinto(buffer)
    return b"".join(first) + bytes(buffer[:n]) + response.peek(1)[:0] + next(response) + response.read()


READERS = [value for name, value in globals().items() if name.startswith("by_") and name != "by_ours"]


@pytest.mark.pairwise
@each_way
@each_framing
@pytest.mark.parametrize("reader", READERS)
def test_every_way_to_read_gives_the_body(ask: Ask, frame: Any, reader: Callable[[Any], bytes]) -> None:
    response = ask(frame(TEXT))
    assert reader(response) == TEXT
    if not response.closed:
        assert response.read() == response.read(1) == response.readline() == response.read1() == response.peek() == b""
        assert response.readinto(bytearray(1)) == 0
        assert list(response) == response.readlines() == []


def check_in_any_order(response: Any, body: bytes, rng: random.Random) -> None:
    """Reads the body with one call after the other, and compares each result with the remaining data."""
    left = body
    # CPython's own returns more than was requested at the end of a chunk.
    ways = ["read", "readinto", "readline", "read1", "peek", "read0"]
    if isinstance(response, OURS.HTTPResponse):
        ways.append("readline, limited")
    while left:
        size, way = rng.choice([1, 2, 7, 100, 5000, 70_000]), rng.choice(ways)
        line = left[: left.find(b"\n") + 1] or left
        got = b""
        if way == "read":
            got = response.read(size)
            assert got == left[:size]
        elif way == "readinto":
            buffer = bytearray(size)
            got = bytes(buffer[: response.readinto(buffer)])
            # As for any buffered file, but at its end it may be less.
            assert got == left[:size]
        elif way == "readline":
            got = response.readline()
            assert got == line
        elif way == "readline, limited":
            got = response.readline(size)
            assert got == line[:size]
        elif way == "read1":
            got = response.read1(rng.choice([size, -1]))
            assert got
            assert left.startswith(got)
        elif way == "peek":
            assert left.startswith(response.peek(size))
        else:
            assert response.read(0) == b""
        left = left[len(got) :]
        if left:
            assert not response.isclosed()
    assert response.read() == b""
    assert response.isclosed()


@pytest.mark.parametrize("rounds", [5, pytest.param(25, marks=pytest.mark.long)])
@each_way
@each_framing
def test_reads_in_any_order_give_the_body(ask: Ask, frame: Any, rounds: int) -> None:
    rng = random.Random(6)
    for _ in range(rounds):
        size = rng.choice([1, 10, 1000, 40_000, 200_000])
        body = bytes(rng.choices(b"abc\n", weights=[5, 5, 5, 1], k=size))
        answer = (
            chunked(body, max(size // 2000, rng.choice([1, 3, 1000, 9000, 100_000])))
            if frame is chunked
            else frame(body)
        )
        check_in_any_order(ask(answer), body, rng)


@each_way
@each_framing
def test_read_of_0_bytes_reads_nothing(ask: Ask, frame: Callable[[bytes], bytes]) -> None:
    response = ask(frame(b"body"))
    assert response.read(0) == response.read1(0) == response.readline(0) == b""
    assert response.readinto(bytearray()) == 0
    assert response.read() == b"body"


@each_way
@each_framing
def test_size_can_be_a_keyword_argument(ask: Ask, frame: Callable[[bytes], bytes]) -> None:
    response = ask(frame(b"0123456789\n"))
    assert response.peek(n=4)[:1] == b"0"
    assert (response.read(amt=2), response.read1(n=1)) == (b"01", b"2")
    rest = response.readline(limit=-1) + response.read(amt=None)
    assert rest == b"3456789\n"


@each_way
@each_framing
def test_read_of_more_than_the_body_returns_the_body(ask: Ask, frame: Callable[[bytes], bytes]) -> None:
    response = ask(frame(b"body"))
    assert response.read(1000) == b"body"
    assert response.read(1000) == b""
    assert response.isclosed()


@each_way
@each_framing
def test_readinto_accepts_any_writable_buffer(ask: Ask, frame: Callable[[bytes], bytes]) -> None:
    response = ask(frame(b"0123456789"))
    store = bytearray(12)
    assert response.readinto(memoryview(store)[2:6]) == 4
    assert response.readinto(memoryview(store)[6:]) == 6
    assert store == b"\0\0" + b"0123456789"
    with pytest.raises((TypeError, BufferError)):
        ask(frame(b"0123456789")).readinto(b"immutable")


@each_way
@each_framing
def test_response_can_be_read_by_file_formats(ask: Ask, frame: Callable[[bytes], bytes]) -> None:
    assert json.load(ask(frame(b'{"a": [1, 2]}'))) == {"a": [1, 2]}
    rows = csv.reader(io.TextIOWrapper(ask(frame(b"a,b\r\n1,caf\xc3\xa9\r\n")), encoding="utf-8", newline=""))
    assert list(rows) == [["a", "b"], ["1", "caf\xe9"]]


@each_way
def test_response_has_the_interface_of_a_file(ask: Ask) -> None:
    with ask(counted(b"body")) as response:
        assert isinstance(response, io.BufferedIOBase)
        assert isinstance(response, (THEIRS.HTTPResponse, OURS.HTTPResponse))
        assert (response.readable(), response.writable(), response.seekable()) == (True, False, False)
        assert not response.closed
        response.flush()
        assert response.read(2) == b"bo"
    assert response.closed
    assert response.isclosed()
    assert response.read() == b""
    response.close()
    with pytest.raises(ValueError, match="closed"), response:
        pass


@pytest.mark.parametrize("ask", [way for way in WAYS if way != "file"], indirect=True)
def test_fileno_is_that_of_the_connection(ask: Ask) -> None:
    response = ask(counted(b"body"))
    number = response.fileno()
    assert number > 2
    with socket.socket(fileno=number) as borrowed:
        assert borrowed.getpeername()[0] == "127.0.0.1"
        borrowed.detach()


@each_way
@each_framing
def test_unread_response_may_be_dropped(ask: Ask, frame: Callable[[bytes], bytes]) -> None:
    response = ask(frame(b"x" * 100_000))
    assert response.read(3) == b"xxx"
    response.close()
    assert response.read() == b""
    del response
    gc.collect()


# ------------------------------------------------------------------------------------- incomplete and invalid responses

CUT = HEAD + b"Content-Length: 10\r\n\r\nshort"


@each_way
def test_counted_body_cut_is_incomplete(ask: Ask) -> None:
    response = ask(CUT)
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    assert (caught.value.partial, caught.value.expected) == (b"short", 5)
    assert str(caught.value) == repr(caught.value) == "IncompleteRead(5 bytes read, 5 more expected)"
    assert response.isclosed()
    assert response.read() == b""


@each_way
def test_counted_body_cut_read_in_pieces_is_incomplete(ask: Ask) -> None:
    response = ask(CUT)
    assert response.read(3) == b"sho"
    assert response.read(100) == b"rt"
    assert response.read(100) == b""
    assert response.isclosed()
    buffer = bytearray(8)
    response = ask(CUT)
    assert response.readinto(buffer) == 5
    assert response.readinto(buffer) == 0
    assert response.isclosed()
    response = ask(CUT)
    assert b"".join(iter(response.read1, b"")) == b"short"
    assert response.isclosed()
    response = ask(CUT)
    assert (response.readline(), response.readline()) == (b"short", b"")
    assert response.isclosed()


CUT_CHUNKS = {
    "within a chunk": b"5\r\nhello\r\nf\r\nwor",
    "after a chunk": b"5\r\nhello\r\n",
    "within its end": b"5\r\nhello\r",
    "within a size": b"5\r\nhello\r\nf",
}


@each_way
@pytest.mark.parametrize("where", CUT_CHUNKS)
def test_chunked_body_cut_is_incomplete(ask: Ask, where: str) -> None:
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    response = ask(head + CUT_CHUNKS[where])
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    assert caught.value.partial.startswith(b"hello")
    response = ask(head + CUT_CHUNKS[where])
    assert response.read(5) == b"hello"
    with pytest.raises(http.client.IncompleteRead):
        response.read(5)
    response = ask(head + CUT_CHUNKS[where])
    with pytest.raises(http.client.IncompleteRead):
        list(iter(lambda: response.readinto(bytearray(50)), 0))


@each_way
@pytest.mark.parametrize("size", [b"x", b"", b"5x", b"-", b"0x"])
def test_chunk_size_invalid_is_an_error(ask: Ask, size: bytes) -> None:
    response = ask(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" + size + b"\r\nhello\r\n0\r\n\r\n")
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    assert caught.value.partial == b"hello"
    assert response.isclosed()


@each_way
def test_close_without_a_response_is_an_error(ask: Ask) -> None:
    with pytest.raises(http.client.RemoteDisconnected) as caught:
        ask(b"")
    assert isinstance(caught.value, ConnectionResetError)
    assert isinstance(caught.value, http.client.BadStatusLine)
    assert caught.value.line == "''"
    assert str(caught.value) == "Remote end closed connection without response"


@each_way
@pytest.mark.parametrize(
    "line",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"220 mail.test ESMTP\r\n",
        b"<html></html>\n",
        b"http/1.1 200 OK\r\n",
        b"HTTP/1.1 2x0 OK\r\n",
        b"HTTP/1.1 99 OK\r\n",
        b"HTTP/1.1 OK\r\n",
        b"HTTP/1.1\r\n",
        b"HTTP/1.1 1000 OK\r\n",
    ],
)
def test_status_line_invalid_is_an_error(ask: Ask, line: bytes) -> None:
    with pytest.raises(http.client.BadStatusLine) as caught:
        ask(line + b"\r\n")
    assert type(caught.value) is http.client.BadStatusLine
    assert caught.value.line == line.decode()


@each_way
def test_unknown_version_raises(ask: Ask) -> None:
    with pytest.raises(http.client.UnknownProtocol) as caught:
        ask(b"HTTP/2.0 200 OK\r\n\r\n")
    assert caught.value.version == "HTTP/2.0"


@each_way
@pytest.mark.parametrize("before", [b"HTTP/1.1 200 ", HEAD + b"X: "], ids=["status line", "field"])
def test_line_too_long_is_an_error(ask: Ask, before: bytes) -> None:
    with pytest.raises(http.client.LineTooLong):
        ask(before + b"x" * 200_000 + b"\r\n\r\n")


@each_way
def test_too_many_fields_are_an_error(ask: Ask) -> None:
    with pytest.raises(http.client.HTTPException):
        ask(HEAD + b"X: y\r\n" * 300 + b"\r\n")


# ---------------------------------------------------------------------------------------------- intentional differences


@by_ours
@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: abc\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"blank : before colon\r\n\r\n",
        HEAD + b"X: nul\x00\r\n\r\n",
        HEAD + b"X: y\r\n" * 257 + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        HEAD + b"X: the end of the head is missing\r\n",
    ],
)
def test_head_that_only_this_package_rejects_is_an_error(ask: Ask, head: bytes) -> None:
    with pytest.raises(http.client.HTTPException):
        ask(head + b"ok")


@by_ours
def test_head_cut_is_incomplete(ask: Ask) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(HEAD + b"X: y\r\n")
    assert caught.value.partial == HEAD + b"X: y\r\n"
    with pytest.raises(http.client.BadStatusLine) as bad:
        ask(b"HTTP/1.1 20")
    assert bad.value.line == "HTTP/1.1 20\n"


@by_ours
@pytest.mark.parametrize("end", [b"", b"0\r\n", b"0\r\nTrailer: x\r\n"])
def test_chunked_body_without_its_last_line_is_incomplete(ask: Ask, end: bytes) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(chunked(b"body", end=end)).read()
    assert caught.value.partial == b"body"


@by_ours
def test_chunk_cut_is_part_of_the_partial_data(ask: Ask) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nf\r\nwor").read()
    assert caught.value.partial == b"hellowor"


@by_ours
def test_trailers_are_kept(ask: Ask) -> None:
    response = ask(chunked(b"body", end=b"0\r\nChecksum: 1\r\n\r\n"))
    assert response.read() == b"body"
    assert response.trailers["checksum"] == "1"


@by_ours
def test_256_fields_are_accepted(ask: Ask) -> None:
    response = ask(HEAD + b"X: y\r\n" * 255 + b"Content-Length: 2\r\n\r\nok")
    assert len(response.getheaders()) == 256
    assert response.read() == b"ok"


# ------------------------------------------------------------------------------------------------- standalone responses


@both
def test_attributes_before_begin_are_unknown(lib: Any) -> None:
    response = lib.HTTPResponse(FromFile(counted(b"body")), method="GET")
    with pytest.raises(http.client.ResponseNotReady):
        response.getheader("a")
    with pytest.raises(http.client.ResponseNotReady):
        response.getheaders()
    response.begin()
    response.begin()
    assert (response.status, response.read()) == (200, b"body")


@both
def test_debuglevel_prints_the_head(lib: Any, capsys: pytest.CaptureFixture[str]) -> None:
    response = lib.HTTPResponse(FromFile(HEAD + b"A: b\r\nContent-Length: 0\r\n\r\n"), 1)
    response.begin()
    shown = r"reply: 'HTTP/1.1 200 OK\r\n'" + "\nheader: A: b\nheader: Content-Length: 0\n"
    assert capsys.readouterr().out == shown


# ------------------------------------------------------------------------------------------------------- the file below


OURS_ONLY = pytest.mark.parametrize("ask", OURS_ALONE, indirect=True)


@OURS_ONLY
@pytest.mark.parametrize("frame", [counted, chunked, until_close, old])
def test_response_has_what_2_6_1_had(ask: Ask, frame: Callable[[bytes], bytes]) -> None:
    response = ask(frame(b"body"))
    assert (response.status_code, response.content_length) == (200, 4 if frame is counted else None)
    assert response.get("nothing") is None
    assert response.get("nothing", "x") == "x"
    assert dict(response.items()) == dict(response.getheaders())
    assert "nothing" not in response
    with pytest.raises(KeyError):
        response["nothing"]
    assert response.should_keep_alive() is (frame in (counted, chunked))
    assert response.read() == b"body"
    assert response.message_complete
    assert response.should_close() is not response.should_keep_alive()
    response.release()
    assert response.isclosed()


def test_response_before_its_head_has_no_values() -> None:
    response = OURS.HTTPResponse(FromFile(b""))
    assert (response.status_code, response.message_complete, response.should_keep_alive()) == (0, False, False)
    assert (response.should_close(), response.fp, response.chunk_left) == (True, None, None)


@pytest.mark.parametrize("name", httplib.__all__)
def test_classes_name_the_module_that_they_are_imported_from(name: str) -> None:
    found = getattr(httplib, name)
    if isinstance(found, type):
        assert found.__module__ == "geventhttpclient.httplib"
        assert pickle.loads(pickle.dumps(found)) is found


@OURS_ONLY
@pytest.mark.parametrize("frame", [counted, until_close])
def test_fp_begins_after_the_head(ask: Ask, frame: Callable[[bytes], bytes]) -> None:
    response = ask(frame(b"one\ntwo\nthree"))
    assert response.fp.readline() == b"one\n"
    assert response.fp.peek(2)[:2] == b"tw"
    assert response.fp.read(3) == b"two"
    assert response.fp.raw.recv(1) == b"\n"
    buffer = bytearray(2)
    assert response.fp.readinto(buffer) == 2
    assert (bytes(buffer), response.fp.read()) == (b"th", b"ree")
    assert response.chunk_left is None
    response.close()
    assert response.fp is None


@OURS_ONLY
def test_fp_of_a_chunked_body_includes_the_chunk_lines(ask: Ask) -> None:
    response = ask(chunked(b"body" * 10, 7))
    body = b""
    while size := int(response.fp.readline(), 16):
        piece = response._safe_read(size)
        assert response._safe_read(2) == b"\r\n"
        body += piece
    assert body == b"body" * 10
    assert response.fp.readline() == b"\r\n"
    assert response.fp is None


@OURS_ONLY
def test_chunk_left_is_the_number_of_available_bytes(ask: Ask) -> None:
    response = ask(chunked(b"0123456789", 10))
    assert response.chunked
    assert response.read(1) == b"0"
    body = b"0" + response.read(response.chunk_left) + response.read()
    assert (body, response.chunk_left) == (b"0123456789", 0)


@pytest.mark.parametrize("how", ["stream", "read_chunked"])
def test_urllib3_streams_a_chunked_body_as_it_arrives(how: str) -> None:
    taken = gevent.event.Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        assert taken.wait(10), "the first piece was not handed out"
        conn.send(b"3\r\ntwo\r\n0\r\n\r\n")

    with Peer(script) as peer, closing(OURS.HTTPConnection(peer.host, peer.port, timeout=5)) as connection:
        connection.request("GET", "/")
        below = connection.getresponse()
        response = urllib3.HTTPResponse(
            below, list(below.getheaders()), preload_content=False, original_response=below, request_method="GET"
        )
        found = []
        for piece in getattr(response, how)():
            found.append(piece)
            taken.set()
        assert b"".join(found) == b"onetwo"
        assert response.closed


def test_timeout_of_fp_is_that_of_the_response() -> None:
    go = gevent.event.Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\n\r\none")
        go.wait(10)
        conn.send(b"two")

    for kind in (None, socket.socket, gevent.socket.socket):
        with Peer(script) as peer:
            sock = OURS.HTTPConnection(peer.host, peer.port, timeout=0.1)
            if kind is not None:
                sock.sock = kind()
                sock.sock.connect((peer.host, peer.port))
                sock.sock.settimeout(0.1)
            go.clear()
            with closing(sock) as connection:
                connection.request("GET", "/")
                response = connection.getresponse()
                assert response.fp.raw._sock.gettimeout() == 0.1
                response.fp.raw._sock.settimeout(None)
                assert response.fp.raw._sock.gettimeout() is None
                assert response.read(3) == b"one"
                gevent.spawn_later(0.3, go.set)  # longer than the previous timeout
                assert response.read() == b"two"


@pytest.mark.parametrize("upgraded", [False, True])
def test_fp_raw_can_be_used_for_other_protocols(upgraded: bool) -> None:
    head = b"HTTP/1.1 101 UPGRADED\r\n\r\n" if upgraded else b"HTTP/1.1 200 OK\r\n\r\n"

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(head)
        while (line := conn.read_line()) not in (b"", b"bye\n"):
            conn.send(line.upper())

    for kind in (None, gevent.socket.socket):
        with Peer(script) as peer, closing(OURS.HTTPConnection(peer.host, peer.port, timeout=5)) as connection:
            if kind is not None:
                connection.sock = kind()
                connection.sock.connect((peer.host, peer.port))
            connection.request("GET", "/")
            raw = connection.getresponse().fp.raw
            for line in (b"one\n", b"two\n"):
                raw._sock.sendall(line)
                assert raw.recv(100) == line.upper()
            raw.write(b"three\nbye\n")
            assert raw.read() == b"THREE\n"
            raw.close()
