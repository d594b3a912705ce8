"""Responses: reading, attributes, the end of every framing, subclasses."""

from __future__ import annotations

import copy
import gc
import io
import json
import pickle
import weakref
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import cached_property
from typing import Any
from unittest.mock import MagicMock

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.exceptions import BlockingSwitchOutError

from geventhttpclient import HTTPClient
from geventhttpclient.header import Headers
from geventhttpclient.response import (
    HEADER_STATE_DONE,
    HEADER_STATE_FIELD,
    HEADER_STATE_INIT,
    HEADER_STATE_VALUE,
    HTTPConnectionClosed,
    HTTPParseError,
    HTTPResponse,
    HTTPSocketPoolResponse,
    HTTPSocketResponse,
)
from geventhttpclient.response import copy as copy_of
from tests.support.certificates import Certificates
from tests.support.peer import Conn, Peer, Script, serve_ok
from tests.support.scripted import OK, saying, saying_then_closing, serving, settle
from tests.support.tls import WAYS, securely_serving
from tests.vectors import RESPONSES, Vector

pytestmark = pytest.mark.usefixtures("bounded")

BODY = b"one\r\ntwo\nthree\r\n\r\nfour"
COUNTED = b"HTTP/1.1 200 Fine\r\nContent-Length: %d\r\nX-A: b\r\n\r\n%s" % (len(BODY), BODY)
CHUNKED = b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n" + b"".join(
    b"%x;x=y\r\n%s\r\n" % (len(BODY[i : i + 5]), BODY[i : i + 5]) for i in range(0, len(BODY), 5)
)
CHUNKED += b"0\r\nX-Trailer: t\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 Fine\r\nX-A: b\r\n\r\n" + BODY
FRAMINGS = pytest.mark.parametrize("raw", [COUNTED, CHUNKED, UNTIL_CLOSE], ids=["counted", "chunked", "until-close"])
DELIVERIES = pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "bytewise"])


def telling(raw: bytes, bytewise: bool = False) -> Script:
    """Returns a script that answers one request with `raw`, in one or many pieces, and closes the connection."""

    def script(conn: Conn) -> None:
        if conn.read_request() is not None:
            conn.send_pieces([raw[i : i + 1] for i in range(len(raw))] if bytewise else [raw])

    return script


# ---------------------------------------------------------------- reading


def in_pieces(n: int) -> Callable[[Any], bytes]:
    return lambda response: b"".join(iter(lambda: response.read(n), b""))


def by_readinto(n: int) -> Callable[[Any], bytes]:
    def read(response: Any) -> bytes:
        whole, buffer = b"", bytearray(n)
        while count := response.readinto(buffer):
            whole += buffer[:count]
        return whole

    return read


def by_lines(sep: bytes) -> Callable[[Any], bytes]:
    return lambda response: b"".join(iter(lambda: response.readline(sep), b""))


@FRAMINGS
@DELIVERIES
@pytest.mark.parametrize(
    "read",
    [
        lambda r: r.read(),
        lambda r: r.read(None),
        lambda r: r.read(-1),
        lambda r: r.read(length=None),
        lambda r: r.read(10_000),
        in_pieces(1),
        in_pieces(7),
        in_pieces(len(BODY)),
        lambda r: r.read(3) + r.read(),
        lambda r: r.read(length=3) + r.read(length=4) + r.read(-1),
        by_readinto(1),
        by_readinto(6),
        by_readinto(1000),
        lambda r: b"".join(r),
        by_lines(b"\r\n"),
        by_lines(b"\n"),
        by_lines(b"\r\n\r\n"),
        by_lines(b"absent"),
        lambda r: r.readline() + r.read(2) + b"".join(r),
    ],
    ids=[
        "read()", "read(None)", "read(-1)", "read(length=None)", "read(more)", "read(1)", "read(7)", "read(all)",
        "read(3)+read()", "read(length=)", "readinto(1)", "readinto(6)", "readinto(1000)", "iteration",
        "readline", "readline(lf)", "readline(two)", "readline(absent)", "mixed",
    ],
)  # fmt: skip
def test_read_in_every_way_returns_the_body(raw: bytes, bytewise: bool, read: Callable[[Any], bytes]) -> None:
    with serving(telling(raw, bytewise)) as (_, client):
        response = client.get("/")
        assert read(response) == BODY
        assert response.message_complete
        # And after the end every way returns nothing.
        assert response.read() == response.read(5) == response.readline() == b""
        assert list(response) == []


@FRAMINGS
@DELIVERIES
def test_read_n_returns_exactly_n_until_the_end(raw: bytes, bytewise: bool) -> None:
    with serving(telling(raw, bytewise)) as (_, client):
        response = client.get("/")
        pieces = [response.read(5) for _ in range(6)]
        assert pieces == [BODY[i : i + 5] for i in range(0, 30, 5)]
        assert all(type(piece) is bytes for piece in pieces)


@FRAMINGS
def test_read_0_consumes_nothing(raw: bytes) -> None:
    with serving(telling(raw)) as (_, client):
        response = client.get("/")
        assert response.read(0) == b""
        assert response.read() == BODY


@FRAMINGS
@DELIVERIES
@pytest.mark.parametrize(
    ("sep", "lines"),
    [
        (b"\r\n", [b"one\r\n", b"two\nthree\r\n", b"\r\n", b"four"]),
        (b"\n", [b"one\r\n", b"two\n", b"three\r\n", b"\r\n", b"four"]),
        (b"\r\n\r\n", [b"one\r\ntwo\nthree\r\n\r\n", b"four"]),
        (b"r", [b"one\r\ntwo\nthr", b"ee\r\n\r\nfour"]),
    ],
)
def test_readline_returns_lines(raw: bytes, bytewise: bool, sep: bytes, lines: list[bytes]) -> None:
    with serving(telling(raw, bytewise)) as (_, client):
        response = client.get("/")
        assert [response.readline(sep) for _ in lines] == lines
        assert [response.readline(sep), response.readline(sep)] == [b"", b""]


def test_readline_by_default_ends_at_crlf() -> None:
    with serving(telling(COUNTED)) as (_, client):
        response = client.get("/")
        assert [response.readline(), response.readline(sep=b"\n")] == [b"one\r\n", b"two\n"]


@pytest.mark.parametrize("sep", [b"", "\n", 5])
def test_readline_rejects_an_invalid_separator(sep: Any) -> None:
    with serving(telling(COUNTED)) as (_, client):
        response = client.get("/")
        with pytest.raises((TypeError, ValueError)):
            response.readline(sep)


def test_readline_returns_a_line_as_soon_as_it_is_received() -> None:
    """An endless stream of events is consumed line by line."""
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nfirst\r\n\r\n3\r\nsec\r\n")
        more.wait()
        conn.send(b"5\r\nond\r\n\r\n0\r\n\r\n")

    with serving(script) as (_, client):
        response = client.get("/")
        assert response.readline() == b"first\r\n"
        more.set()
        assert response.readline() == b"second\r\n"
        assert response.readline() == b""


def test_readline_of_a_long_line_in_small_packets_is_not_quadratic() -> None:
    line = b"x" * 400_000 + b"\n"

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\n\r\n")
        conn.send_pieces(line[i : i + 1000] for i in range(0, len(line), 1000))

    with serving(script) as (_, client):
        assert client.get("/").readline(b"\n") == line


def test_head_is_available_before_the_body() -> None:
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        more.wait()
        conn.send(b"some")

    with serving(script) as (_, client):
        response = client.get("/")
        assert (response.status_code, response.headers_complete, response.message_complete) == (200, True, False)
        more.set()
        assert response.read() == b"some"
        assert response.message_complete


@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(bytearray(n))], ids=["bytearray", "memoryview"])
def test_readinto_fills_the_buffer(make: Callable[[int], Any]) -> None:
    with serving(telling(COUNTED)) as (_, client):
        response, buffer = client.get("/"), make(5)
        got = b""
        while count := response.readinto(buffer):
            assert 0 < count <= 5
            got += bytes(buffer[:count])
        assert got == BODY
        assert response.readinto(buffer) == 0


@pytest.mark.parametrize("buffer", [b"12345", memoryview(b"12345"), "12345", 5, None])
def test_readinto_rejects_a_read_only_buffer(buffer: Any) -> None:
    with serving(telling(COUNTED)) as (_, client):
        response = client.get("/")
        with pytest.raises((TypeError, BufferError, ValueError)):
            response.readinto(buffer)
        assert response.read() == BODY


@pytest.mark.parametrize("wrong", ["5", 1.5, b"1", [1]])
def test_read_rejects_an_invalid_length(wrong: Any) -> None:
    with serving(telling(COUNTED)) as (_, client):
        response = client.get("/")
        with pytest.raises(TypeError):
            response.read(wrong)


def test_iteration_yields_blocks() -> None:
    body = bytes(range(256)) * 40
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with serving(telling(raw), block_size=1000) as (_, client):
        response = client.get("/")
        assert iter(response) is response
        assert next(response) == body[:1000]
        assert [len(piece) for piece in response] == [1000] * 9 + [240]
        with pytest.raises(StopIteration):
            next(response)


def test_json_load_reads_a_response_like_a_file() -> None:
    answer = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n6\r\n [1,2]\r\n1\r\n}\r\n0\r\n\r\n'
    with serving(saying(answer)) as (_, client):
        assert json.load(client.get("/")) == {"a": [1, 2]}


def test_response_can_be_wrapped_by_a_text_reader() -> None:
    """Libraries like csv wrap a file: a response that is readable in blocks needs only a BytesIO in between."""
    with serving(telling(COUNTED)) as (_, client):
        assert io.TextIOWrapper(io.BytesIO(client.get("/").read()), newline="").read() == BODY.decode()


def test_large_body_in_large_and_odd_pieces_is_read() -> None:
    body = bytes(range(256)) * (1 << 14)

    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.respond(body)

    with serving(script) as (peer, client):
        assert client.get("/").read() == body
        assert in_pieces(65_537)(client.get("/")) == body
        assert by_readinto(100_000)(client.get("/")) == body
        assert b"".join(client.get("/")) == body
        assert len(peer.conns) == 1


def test_two_greenlets_can_read_one_response_alternately() -> None:
    with serving(telling(CHUNKED, bytewise=True)) as (_, client):
        response = client.get("/")
        first = gevent.spawn(response.read, 5).get()
        second = gevent.spawn(response.read).get()
        assert first + second == BODY


# ---------------------------------------------------------------- attributes


@pytest.fixture
def told() -> Any:
    raw = (
        b"HTTP/1.1 404 Not  Here\r\nContent-Type: text/plain\r\nSet-Cookie: a=1\r\nX-Caf\xe9-Free: \xe9\xff\r\n"
        b"set-cookie: b=2\r\nEmpty:\r\nContent-Length: 2\r\n\r\nok"
    ).replace(b"X-Caf\xe9-Free", b"X-Cafe")
    with serving(saying(raw)) as (_, client):
        yield client.get("/")


def test_status_is_returned(told: Any) -> None:
    assert told.status_code == told.get_code() == 404
    assert told.status_message == "Not  Here"
    assert told.version == told.get_http_version() == "HTTP/1.1"
    assert told.method == "GET"


def test_headers_are_found_by_name(told: Any) -> None:
    assert told["content-type"] == told["CONTENT-TYPE"] == "text/plain"
    assert told["Set-Cookie"] == ["a=1", "b=2"]
    assert told["X-Cafe"] == "\xe9\xff"
    assert told["empty"] == ""
    with pytest.raises(KeyError):
        told["nothing"]
    assert told.get("content-TYPE") == "text/plain"
    assert told.get("nothing") is None
    assert told.get("nothing", "else") == "else"
    assert "CONTENT-type" in told
    assert "nothing" not in told


LINES = [
    ("Content-Type", "text/plain"),
    ("Set-Cookie", "a=1"),
    ("set-cookie", "b=2"),
    ("X-Cafe", "\xe9\xff"),
    ("Empty", ""),
    ("Content-Length", "2"),
]


def test_headers_are_returned_as_pairs(told: Any) -> None:
    assert list(told.items()) == LINES
    assert list(told.headers) == LINES
    assert dict(told.headers)["Content-Type"] == "text/plain"


def test_headers_are_iterable_repeatedly_and_as_an_iterator(told: Any) -> None:
    lines = told.headers
    assert list(lines) == list(lines) == LINES
    assert next(lines) == LINES[0]
    assert list(lines) == LINES[1:]
    assert list(told.headers) == LINES


def test_headers_find_names_in_any_case(told: Any) -> None:
    headers = told.headers
    assert headers["content-TYPE"] == "text/plain"
    assert headers["SET-cookie"] == ["a=1", "b=2"]
    with pytest.raises(KeyError):
        headers["nothing"]
    assert (headers.get("EMPTY"), headers.get("nothing"), headers.get("nothing", 5)) == ("", None, 5)
    assert ("content-type" in headers, "nothing" in headers) == (True, False)
    assert (LINES[0] in headers, ("Content-Type", "other") in headers) == (True, False)


def test_headers_length_is_the_number_of_lines(told: Any) -> None:
    headers = told.headers
    assert len(headers) == len(headers.keys()) == len(headers.values()) == len(LINES)
    assert headers.items() == LINES
    assert headers.keys() == [name for name, _ in LINES]
    assert headers.values() == [value for _, value in LINES]
    assert [(name, headers[name]) for name in headers.keys()] == LINES  # noqa: SIM118
    assert ("content-type" in headers.keys(), "nothing" in headers.keys(), 5 in headers.keys()) == (True, False, False)  # noqa: SIM118
    assert headers
    assert not HTTPResponse().headers


def test_dict_of_headers_has_the_last_line_of_each_spelling(told: Any) -> None:
    told.info().add("Set-Cookie", "c=3")
    lines = [(name, value) for name, value in told.headers]
    made = dict(told.headers)
    assert made == {**told.headers} == dict(lines)
    assert (made["Set-Cookie"], made["set-cookie"]) == ("c=3", "b=2")
    assert list(made) == list(dict(lines))
    # Copies have plain names.
    for copied in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), json.loads(json.dumps(made))):
        assert copied == made
        assert {type(name) for name in copied} == {str}


def test_headers_have_equality_and_repr(told: Any) -> None:
    headers = told.headers
    assert headers == told.headers == told.info()
    assert headers == {"CONTENT-TYPE": "text/plain", "set-cookie": ["a=1", "b=2"], "x-cafe": "\xe9\xff",
                       "empty": "", "content-length": "2"}  # fmt: skip
    assert headers != {"content-type": "text/plain"}
    assert headers != 5
    assert repr(headers) == f"ResponseHeaders({LINES!r})"
    told.info()["X-New"] = "1"
    assert headers["x-new"] == "1"


def test_headers_of_a_response_can_be_sent(told: Any) -> None:
    assert sorted(Headers(told.headers).items()) == sorted(LINES)
    head = HTTPClient("example.test")._build_request("POST", "/", b"ok", headers=told.headers)
    assert [line for line in head.splitlines() if line.lower().startswith("set-cookie")] == [
        "Set-Cookie: a=1",
        "set-cookie: b=2",
    ]


def test_info_is_the_headers_object(told: Any) -> None:
    assert isinstance(told.info(), Headers)
    assert told.info() is told._headers_index
    assert told.info()["content-length"] == "2"
    told.info()["X-New"] = "v"
    assert told["x-new"] == "v"
    assert ("X-New", "v") in list(told.items())


def test_headers_index_can_be_replaced(told: Any) -> None:
    told._headers_index = Headers({"X-B": "c"})
    assert told["x-b"] == "c"
    assert "content-type" not in told
    assert list(told.headers) == [("X-B", "c")]
    assert told.info()["X-B"] == "c"


def test_lengths_are_returned(told: Any) -> None:
    assert told.content_length == told.length == 2


def test_progress_flags_are_set(told: Any) -> None:
    settle()
    assert (told.message_begun, told.headers_complete) == (True, True)
    assert told.read() == b"ok"
    assert told.message_complete is True
    assert told.should_close() is False
    assert told.should_keep_alive() is True
    assert told.parser_failed() is False


def test_repr_shows_the_response(told: Any) -> None:
    assert repr(told) == (
        "<HTTPSocketPoolResponse status=404 headers={'Content-Type': 'text/plain', 'Set-Cookie': 'a=1', "
        "'set-cookie': 'b=2', 'X-Cafe': '\xe9\xff', 'Empty': '', 'Content-Length': '2'}>"
    )


def test_repr_names_the_subclass() -> None:
    class Mine(HTTPSocketPoolResponse):
        pass

    with serving() as (_, client):
        response = client.get("/")
        response.__class__ = Mine
        assert repr(response) == "<Mine status=200 headers={'Content-Length': '1'}>"


def test_attributes_remain_after_reading_and_release(told: Any) -> None:
    told.read()
    told.release()
    test_status_is_returned(told)
    test_headers_are_found_by_name(told)
    test_lengths_are_returned(told)
    test_repr_shows_the_response(told)


def test_response_is_true_with_any_status() -> None:
    with serving(saying(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")) as (_, client):
        response = client.get("/")
        assert bool(response) is True


@pytest.mark.parametrize("verb", ["head", "post", "delete"])
def test_method_of_the_request_is_returned(verb: str) -> None:
    with serving() as (_, client):
        assert getattr(client, verb)("/").method == verb.upper()


def test_content_length_of_many_digits_is_none() -> None:
    # int() raises a ValueError for it, which a peer could thus cause in any program.
    with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n")) as (_, client):
        assert client.head("/").content_length is None


def test_content_length_is_none_without_the_header() -> None:
    with serving(telling(CHUNKED)) as (_, client):
        response = client.get("/")
        assert response.content_length is None
        assert response.length is None


def test_http_1_0_is_the_version_of_the_response() -> None:
    with serving(telling(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")) as (_, client):
        assert client.get("/").version == "HTTP/1.0"


def test_headers_type_of_the_client_is_used() -> None:
    class Mine(Headers):
        pass

    with serving(headers_type=Mine) as (_, client):
        response = client.get("/")
        assert type(response.info()) is Mine
        assert response["content-length"] == "1"


def test_names_of_the_module_exist() -> None:
    states = [HEADER_STATE_INIT, HEADER_STATE_FIELD, HEADER_STATE_VALUE, HEADER_STATE_DONE]
    assert len(set(states)) == 4
    assert all(isinstance(state, int) for state in states)
    assert copy_of(bytearray(b"ab")) == b"ab"
    assert type(copy_of(bytearray(b"ab"))) is bytes
    assert issubclass(HTTPSocketPoolResponse, HTTPSocketResponse)
    assert issubclass(HTTPSocketResponse, HTTPResponse)


# ---------------------------------------------------------------- framings from the wire


def get(client: HTTPClient, vector: Vector) -> HTTPSocketPoolResponse:
    return client.request(vector.method, "/")


def answering(vector: Vector, divisions: Iterable[list[bytes]], sent: Event) -> Script:
    """Returns a script that sends one division per request, sets `sent` after each, and closes if the vector does."""
    left = iter(divisions)

    def script(conn: Conn) -> None:
        while conn.read_request():
            try:
                conn.send_pieces(next(left))
            finally:
                sent.set()
            if vector.eof:
                conn.finish_sending()
                break
            if vector.error or (vector.response and not vector.response["keep_alive"]):
                break
        conn.wait_closed()

    return script


@pytest.mark.parametrize("vector", [v for v in RESPONSES if v.response], ids=str)
def test_vector_of_a_valid_response(vector: Vector) -> None:
    """Over a socket, with every division, each with its own request, so that leaked bytes would appear in the next."""
    wanted = vector.response
    assert wanted is not None
    divisions, sent = list(vector.divisions()), Event()
    with serving(answering(vector, divisions, sent)) as (peer, client):
        for pieces in divisions:
            response = get(client, vector)
            assert (response.status_code, response.read()) == (wanted["status"], vector.body), pieces
            assert response.version == wanted.get("version", response.version)
            assert (response.status_message or "") == wanted.get("reason", response.status_message or "")
            got = sorted((k.lower(), v) for k, v in response.items())
            if "headers" in wanted:
                assert got == sorted((k.lower(), v) for k, v in wanted["headers"])
            assert not {(k.lower(), v) for k, v in wanted.get("trailers", ())} & set(got)
            assert response.message_complete
            # Bytes after the message must arrive before the next request is sent, or they would be its response.
            sent.wait()
            sent.clear()
        if wanted["keep_alive"]:
            assert len(peer.conns) == 1
        else:
            assert len(peer.conns) == len(divisions)


@pytest.mark.parametrize("vector", [v for v in RESPONSES if v.error], ids=str)
def test_vector_of_an_invalid_response(vector: Vector) -> None:
    """The error is raised, the connection is closed, the only slot is free, and the next request is answered."""
    assert vector.error is not None
    divisions = list(vector.divisions())
    if vector.is_small:
        divisions = divisions[:2] + divisions[2::7]
    scripts = [answering(vector, [pieces], Event()) for pieces in divisions]
    with serving(*scripts, serve_ok) as (peer, client):
        for n, pieces in enumerate(divisions):
            # POST, since an idempotent request could be sent again to the next script.
            method = "POST" if vector.method == "GET" else vector.method
            with pytest.raises(HTTPParseError):
                client.request(method, "/").read()
            assert len(peer.conns) == n + 1, pieces
            peer.conns[n].hung_up.wait()
        assert client.get("/next").read() == b"/next"


@pytest.mark.parametrize("vector", [v for v in RESPONSES if v.error and v.error["in"] == "body"], ids=str)
def test_error_of_a_failed_body_carries_the_head(vector: Vector) -> None:
    head = vector.raw.index(b"\r\n\r\n") + 4
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(vector.raw[:head])
        more.wait()
        conn.send(vector.raw[head:])
        if vector.eof:
            conn.finish_sending()
        conn.wait_closed()

    with serving(script) as (_, client):
        response = client.get("/")
        assert response.status_code == 200
        more.set()
        with pytest.raises(HTTPParseError):
            response.read()


CUTS = {
    "counted": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"line\nhalf"),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"9\r\nline\nhalf\r\n"),
}


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize(
    "read",
    [
        lambda r: r.read(),
        lambda r: r.read(10),
        lambda r: list(r),
        by_readinto(10),
        by_lines(b"\n"),
        lambda r: json.load(r),
    ],
    ids=["read()", "read(10)", "iteration", "readinto", "readline", "json"],
)
def test_early_end_is_an_error_with_every_way_of_reading(kind: str, read: Callable[[Any], Any]) -> None:
    head, rest = CUTS[kind]
    with serving(saying_then_closing(head + rest), serve_ok) as (_, client):
        response = client.get("/")
        with pytest.raises(HTTPParseError):
            read(response)
        assert response.message_complete is False
        assert response.should_close()
        assert client.get("/next").read() == b"/next"


@pytest.mark.parametrize("kind", CUTS)
def test_bytes_before_an_early_end_can_be_read(kind: str) -> None:
    head, rest = CUTS[kind]
    with serving(saying_then_closing(head + rest)) as (_, client):
        response = client.get("/")
        assert response.read(5) == b"line\n"
        assert response.read(4) == b"half"
        with pytest.raises(HTTPParseError):
            response.read(1)


@pytest.mark.parametrize("kind", [*CUTS, "until-close"])
def test_reset_in_a_body_is_an_error(kind: str) -> None:
    head, rest = CUTS.get(kind, (b"HTTP/1.1 200 OK\r\n\r\n", b"some"))
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(head + rest)
        more.wait()
        conn.reset()

    with serving(script, serve_ok) as (_, client):
        response = client.get("/")
        more.set()
        with pytest.raises((ConnectionResetError, HTTPParseError)):
            response.read()
        assert client.get("/next").read() == b"/next"


def test_close_before_the_response_is_an_error() -> None:
    with serving(saying_then_closing(b""), serve_ok) as (_, client):
        with pytest.raises(HTTPConnectionClosed):
            client.post("/")
        assert client.get("/next").read() == b"/next"


def test_interim_head_in_a_separate_packet_is_skipped() -> None:
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        more.wait()
        conn.send(OK)
        serve_ok(conn)

    with serving(script) as (peer, client):
        job = gevent.spawn(client.get, "/")
        other = gevent.spawn(client.get, "/other")
        peer.accepted.wait()
        settle()
        assert not job.ready()
        assert not other.ready()
        more.set()
        response = job.get()
        assert (response.status_code, response.read(), "link" in response) == (200, b"ok", False)
        assert other.get().read() == b"/other"
        assert len(peer.conns) == 1


TWICE = {
    "two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "one line": b"transfer-encoding: Chunked, CHUNKED",
    "identity": b"Transfer-Encoding: identity, chunked",
    "identity in a line of its own": b"Transfer-Encoding: Identity\r\ntransfer-encoding: chunked",
}


@pytest.mark.parametrize("fields", TWICE.values(), ids=TWICE)
@pytest.mark.parametrize("way", ["clear", *WAYS])
def test_chunked_declared_twice_is_decoded_once_and_not_reused(
    way: str, fields: bytes, certificates: Certificates
) -> None:
    """A sender must not chunk twice (RFC 9112 section 6.1): a framework and its server have both set the field."""
    script = saying(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
    here = serving(script, serve_ok) if way == "clear" else securely_serving(certificates, script, serve_ok, way=way)
    with here as (peer, client):
        response = client.get("/")
        assert (response.read(), response.trailers["x-sum"]) == (b"hello", "1")
        assert response.should_close()
        peer.conns[0].hung_up.wait()
        assert client.statistics()["closed"]["ambiguous_framing"] == 1
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 2


@pytest.mark.parametrize(
    "value", [b"chunked, identity", b"chunked, gzip", b"gzip, chunked", b"chunked;q=1", b"identity, identity, chunked"]
)
def test_transfer_codings_with_an_ambiguous_end_are_an_error(value: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + value + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with serving(saying(answer), serve_ok) as (_, client):
        with pytest.raises(HTTPParseError, match="Unsupported Transfer-Encoding"):
            client.get("/")
        assert client.get("/next").read() == b"/next"


def test_response_to_head_with_chunked_twice_keeps_its_connection() -> None:
    """There is no body whose end could be ambiguous."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"
    with serving(saying(head, OK)) as (peer, client):
        client.head("/").read()
        assert client.get("/").read() == b"ok"
        assert len(peer.conns) == 1


@pytest.mark.parametrize("minor", [b"2", b"9"])
def test_later_minor_version_is_treated_as_1_1(minor: bytes) -> None:
    answer = b"HTTP/1." + minor + b" 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with serving(saying(answer, answer)) as (peer, client):
        for _ in range(2):
            response = client.get("/")
            assert (response.version, response.status_message, response.read()) == ("HTTP/1.1", "OK", b"ok")
        assert len(peer.conns) == 1


@pytest.mark.parametrize(
    ("heads", "error"),
    [
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 1000, None),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 1001, "more than 1000"),
        ((b"HTTP/1.1 103 Early Hints\r\nLink: %s\r\n\r\n" % (b"x" * 65_000)) * 16, None),
        ((b"HTTP/1.1 103 Early Hints\r\nLink: %s\r\n\r\n" % (b"x" * 65_000)) * 17, "more than 1048576 bytes"),
    ],
    ids=["as many as may be", "too many", "as large as may be", "too large"],
)
def test_interim_heads_are_limited(heads: bytes, error: str | None) -> None:
    with serving(saying(heads + OK, heads + OK), serve_ok) as (peer, client):
        if error is None:
            # The limit applies to each request.
            assert [client.get("/").read() for _ in range(2)] == [b"ok", b"ok"]
            assert len(peer.conns) == 1
            return
        with pytest.raises(HTTPParseError, match=error):
            client.get("/")
        assert client.get("/next").read() == b"/next"


def test_unsolicited_101_is_not_followed_by_http() -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    with serving(saying(switching + b"\0raw\xff", OK), serve_ok) as (peer, client):
        response = client.get("/")
        assert (response.status_code, response.read()) == (101, b"")
        assert response.should_close()
        peer.conns[0].hung_up.wait()
        assert client.get("/next").read() == b"/next"


@pytest.mark.parametrize("glued", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", b"\r\n", b"x"])
@pytest.mark.parametrize("later", [False, True], ids=["same packet", "own packet"])
def test_bytes_after_a_message_never_reach_the_next_request(glued: bytes, later: bool) -> None:
    sent = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send_pieces([OK, glued] if later else [OK + glued])
        sent.set()
        conn.wait_closed()

    with serving(script, serve_ok) as (peer, client):
        response = client.get("/first")
        assert response.read() == b"ok"
        sent.wait()
        second = client.post("/second")
        assert (second.status_code, second.read()) == (200, b"/second")
        assert [len(conn.requests) for conn in peer.conns] == [1, 1]


# ---------------------------------------------------------------- release of the connection

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha"


def test_release_of_an_unread_response_closes_its_connection() -> None:
    """The remaining bytes would be taken for the next response."""
    with serving(saying(HALF, b"EVIL"), serve_ok) as (peer, client):
        response = client.get("/")
        response.release()
        peer.conns[0].hung_up.wait()
        assert client.get("/next").read() == b"/next"
        assert response.status_code == 200
        assert response.get("Content-Length") == "4"
        response.release()


def test_release_of_a_read_response_keeps_its_connection() -> None:
    with serving() as (peer, client):
        for _ in range(3):
            response = client.get("/")
            assert response.read() == b"/"
            response.release()
        assert len(peer.conns) == 1


def test_with_block_releases_at_its_end() -> None:
    with serving(saying(HALF), serve_ok) as (peer, client):
        with client.get("/") as response:
            assert isinstance(response, HTTPSocketPoolResponse)
            assert response.read(1) == b"h"
        peer.conns[0].hung_up.wait()
        with client.get("/next") as response:
            assert response.read() == b"/next"
        assert client.get("/again").read() == b"/again"
        assert len(peer.conns) == 2


def test_with_block_exception_is_raised_and_the_slot_is_free() -> None:
    with serving(saying(HALF), serve_ok) as (_, client):
        with pytest.raises(LookupError), client.get("/"):
            raise LookupError
        assert client.get("/next").read() == b"/next"


def test_dropped_response_frees_its_slot() -> None:
    """Some programs use only the status of a health check, and never read the rest."""
    with serving(saying(HALF), saying(HALF), serve_ok) as (peer, client):
        assert client.get("/").status_code == 200
        gc.collect()
        response = client.get("/")
        assert response.status_code == 200
        del response
        gc.collect()
        assert client.get("/next").read() == b"/next"
        for conn in peer.conns[:2]:
            conn.hung_up.wait()


def test_response_in_a_cycle_frees_its_slot_when_it_is_collected() -> None:
    with serving(saying(HALF), serve_ok) as (_, client):
        response = client.get("/")
        response.me = response
        alive = weakref.ref(response)
        del response
        gc.collect()
        assert alive() is None
        assert client.get("/next").read() == b"/next"


def test_dropped_response_wakes_a_waiter() -> None:
    with serving(saying(HALF), serve_ok) as (_, client):
        response = client.get("/")
        waiting = gevent.spawn(lambda: client.get("/next").read())
        settle()
        assert not waiting.ready()
        del response
        gc.collect()
        assert waiting.get() == b"/next"


def test_sock_and_pool_are_none_after_release() -> None:
    with serving(saying(HALF)) as (_, client):
        response = client.get("/")
        assert response._sock is not None
        assert response._pool is not None
        response.release()
        assert response._sock is None
        assert response._pool is None


def test_sock_and_pool_are_none_after_the_end_of_the_message() -> None:
    with serving() as (_, client):
        response = client.get("/")
        response.read()
        assert response._sock is None
        assert response._pool is None


def test_read_of_a_released_response_does_not_block() -> None:
    """The lost part of the body is an error or absent, never made up."""
    with serving(saying(HALF)) as (_, client):
        response = client.get("/")
        response.release()
        with suppress(HTTPParseError):
            assert b"half".startswith(response.read())


def test_kill_while_reading_a_body_frees_the_slot() -> None:
    with serving(saying(HALF), serve_ok) as (peer, client):
        reading = gevent.spawn(lambda: client.get("/").read())
        peer.accepted.wait()
        settle()
        reading.kill()
        peer.conns[0].hung_up.wait()
        assert client.get("/next").read() == b"/next"


def test_timeout_of_the_caller_while_reading_a_body_is_raised_unchanged() -> None:
    with serving(saying(HALF), serve_ok) as (_, client):
        response = client.get("/")
        with gevent.Timeout(0.1) as mine, pytest.raises(gevent.Timeout) as caught:
            response.read()
        assert caught.value is mine
        assert client.get("/next").read() == b"/next"


# ---------------------------------------------------------------- subclasses and patches


def test_class_assignment_to_a_python_subclass_works() -> None:
    class Mine(HTTPSocketPoolResponse):
        @cached_property
        def body(self) -> bytes:
            return self.read()

        @property
        def ok(self) -> bool:
            return self.status_code == 200 and self["x-a"] == "b"

    with serving(telling(COUNTED)) as (_, client):
        response: Any = client.get("/")
        response.__class__ = Mine
        assert type(response) is Mine
        assert response.ok
        assert response.body == response.body == BODY


def test_attributes_with_any_name_can_be_set() -> None:
    with serving() as (_, client):
        response: Any = client.get("/")
        response.elapsed = 5
        response.get_code = lambda: 304
        assert response.__dict__["elapsed"] == 5
        assert response.status_code == 304
        del response.get_code
        assert response.status_code == 200


def test_subclass_may_shadow_any_property() -> None:
    class Error(HTTPSocketPoolResponse):
        status_code = 0
        headers = None
        content_length = None
        version = None

        def __init__(self) -> None:
            pass

    error = Error()
    assert (error.status_code, error.headers, error.content_length, error.version) == (0, None, None, None)
    assert bool(error)


def test_subclass_that_never_calls_super_works() -> None:
    class Fake(HTTPSocketPoolResponse):
        def __init__(self) -> None:
            self._headers_index = Headers({"X-A": "b", "Content-Length": "3"})
            self._sent_request = "GET / HTTP/1.1\r\n\r\n"
            self._sock = None

        def get_code(self) -> int:
            return 418

    fake = Fake()
    assert (fake.status_code, fake["x-a"], fake.get("x-a"), "X-A" in fake) == (418, "b", "b", True)
    assert (fake.content_length, fake.length) == (3, 3)
    assert list(fake.headers) == list(fake.items()) == [("X-A", "b"), ("Content-Length", "3")]
    assert fake.info() is fake._headers_index
    assert fake._sent_request == "GET / HTTP/1.1\r\n\r\n"
    assert repr(fake) == "<Fake status=418 headers={'X-A': 'b', 'Content-Length': '3'}>"


def test_bare_instance_can_be_created_and_dropped() -> None:
    for cls in (HTTPSocketPoolResponse, HTTPSocketResponse, HTTPResponse):
        bare = cls.__new__(cls)
        del bare
        gc.collect()


def test_mock_with_the_spec_of_the_class_works() -> None:
    mock = MagicMock(spec=HTTPSocketPoolResponse)
    mock._headers_index = Headers({"X-A": "b"})
    mock.get_code.return_value = 200
    mock.read.return_value = b"body"
    assert isinstance(mock, HTTPSocketPoolResponse)
    assert (mock.get_code(), mock.read(3), mock._headers_index["x-a"]) == (200, b"body", "b")
    with pytest.raises(AttributeError):
        mock.no_such_name  # noqa: B018 - the access is the test
    for name in (
        "content_length", "feed", "get", "get_http_version", "headers", "info", "items", "length", "parser_failed",
        "readinto", "readline", "release", "should_close", "should_keep_alive", "status_code", "version",
    ):  # fmt: skip
        assert hasattr(mock, name), name


def test_class_attributes_can_be_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    read_headers: list[Any] = []
    monkeypatch.setattr(HTTPSocketResponse, "_read_headers", lambda self, *args: read_headers.append(self))
    monkeypatch.setattr(HTTPSocketResponse, "get_code", lambda self: 207)
    monkeypatch.setattr(HTTPSocketResponse, "read", lambda self, length=None: b"patched")
    response: Any = HTTPSocketResponse("dummy_sock")
    assert read_headers == [response]
    assert response.status_code == 207
    assert response.read() == response.read(length=3) == b"patched"
    response._headers_index = Headers({"X-A": "b"})
    assert response.get("x-a") == "b"


def test_patches_apply_to_responses_of_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (_, client):
        response = client.get("/")
        monkeypatch.setattr(HTTPSocketPoolResponse, "get_code", lambda self: 299)
        assert response.status_code == 299


def test_attributes_can_be_copied_to_another_object() -> None:
    class Other:
        pass

    with serving() as (_, client):
        response = client.get("/")
        response.mark = 1  # type: ignore[attr-defined]
        other = Other()
        other.__dict__.update(response.__dict__)
        assert other.mark == 1  # type: ignore[attr-defined]


def test_headers_of_a_response_can_be_copied() -> None:
    with serving(telling(COUNTED)) as (_, client):
        assert list(copy.copy(client.get("/").info()).items()) == [("Content-Length", str(len(BODY))), ("X-A", "b")]


# ---------------------------------------------------------------- over a Python socket


def over_socketpair(raw: bytes, **kw: Any) -> tuple[HTTPSocketResponse, Any]:
    ours, theirs = socket.socketpair()
    theirs.sendall(raw)
    theirs.shutdown(socket.SHUT_WR)
    try:
        return HTTPSocketResponse(ours, **kw), ours
    finally:
        theirs.close()


@FRAMINGS
@pytest.mark.parametrize("block_size", [1, 7, 4096])
def test_python_socket_response_is_read(raw: bytes, block_size: int) -> None:
    response, sock = over_socketpair(raw, block_size=block_size)
    with closing(sock):
        assert (response.status_code, response.status_message, response["x-a"]) == (200, "Fine", "b")
        assert response.readline() == b"one\r\n"
        assert response.read(3) == b"two"
        assert response.read() == BODY[8:]
        assert response.message_complete


def test_python_socket_response_waits_for_its_bytes() -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        job = gevent.spawn(HTTPSocketResponse, ours)
        settle()
        assert not job.ready()
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        response = job.get()
        reading = gevent.spawn(response.read)
        settle()
        assert not reading.ready()
        theirs.sendall(b"lo")
        assert reading.get() == b"hello"


def test_python_socket_that_is_reusable_stays_open() -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        for _ in range(2):
            theirs.sendall(OK)
            response = HTTPSocketResponse(ours)
            assert response.read() == b"ok"
            response.release()
            assert response._sock is None
            assert ours.fileno() >= 0


def test_python_socket_with_an_unread_body_is_closed_by_release() -> None:
    ours, theirs = socket.socketpair()
    with closing(theirs):
        theirs.sendall(HALF)
        response = HTTPSocketResponse(ours)
        response.release()
        assert ours.fileno() == -1
        assert theirs.recv(10) == b""


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", HTTPConnectionClosed),
        (b"HTTP/1.1 200 OK\r\nX-", HTTPParseError),
        (b"nonsense\r\n\r\n", HTTPParseError),
    ],
    ids=["nothing", "half", "garbage"],
)
def test_python_socket_invalid_head_is_an_error(raw: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        over_socketpair(raw)


@pytest.mark.parametrize("kind", CUTS)
def test_python_socket_early_end_is_an_error(kind: str) -> None:
    head, rest = CUTS[kind]
    response, sock = over_socketpair(head + rest)
    with closing(sock), pytest.raises(HTTPParseError):
        response.read()


def test_python_socket_response_to_head_has_no_body() -> None:
    response, sock = over_socketpair(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method="head")
    with closing(sock):
        assert (response.method, response.content_length, response.read()) == ("HEAD", 5, b"")


def test_python_socket_bytes_read_before_are_used_first() -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        theirs.sendall(b"lo")
        response = HTTPSocketResponse(ours, pre_buffered=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        assert response.read() == b"hello"


def test_python_socket_after_a_request_of_the_program_is_read() -> None:
    with Peer() as peer, closing(socket.create_connection((peer.host, peer.port))) as sock:
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert HTTPSocketResponse(sock).read() == b"/x"


def test_received_bytes_can_be_inspected_and_extended() -> None:
    """The buffer of a response is a bytearray that is read before anything else."""
    with serving(telling(COUNTED)) as (_, client):
        response = client.get("/")
        assert response.read(2) == BODY[:2]
        buffer = response._body_buffer
        assert isinstance(buffer, bytearray)
        buffer += b"+"
        arrived = bytes(buffer)
        assert response.read(len(arrived)) == arrived
        assert response.read() == (BODY[2:] + b"+").replace(arrived, b"", 1)
        assert response._body_buffer == b""


def test_unread_response_referenced_by_its_pool_is_collected() -> None:
    """Its connection is closed when it is collected."""
    with Peer(saying(HALF)) as peer:
        client = HTTPClient(peer.host, peer.port)
        client._connection_pool.response = client.get("/")  # type: ignore[attr-defined]
        del client
        gc.collect()
        assert peer.conns[0].hung_up.wait(10)


def test_read_in_the_hub_does_not_affect_the_body() -> None:
    refusals: list[BaseException] = []
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        more.wait()
        conn.send(b"lf")
        conn.wait_closed()

    def in_hub() -> None:
        try:
            response.read()
        except BaseException as e:
            refusals.append(e)

    with serving(script) as (_, client):
        response = client.get("/")
        gevent.get_hub().loop.run_callback(in_hub)
        while not refusals:
            gevent.sleep(0)
        assert isinstance(refusals[0], BlockingSwitchOutError)
        more.set()
        assert response.read() == b"half"
