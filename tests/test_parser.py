"""The parser classes: what a program sees that feeds them itself, and every vector whole, bytewise and split."""

from __future__ import annotations

from contextlib import suppress
from http.client import HTTPException
from typing import Any

import pytest

import geventhttpclient
from geventhttpclient import _parser
from geventhttpclient._parser import HTTPParseError, HTTPResponseParser
from geventhttpclient.header import Headers
from geventhttpclient.response import HTTPConnectionClosed, HTTPProtocolViolationError, HTTPResponse
from tests.vectors import RESPONSES, Vector

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
HOOKS = (
    "_on_message_begin",
    "_on_status",
    "_on_header_field",
    "_on_header_value",
    "_on_headers_complete",
    "_on_body",
    "_on_message_complete",
)

Event = tuple[str, bytes | str]


class Recorder(HTTPResponseParser):
    """Notes every callback; pieces of one item are joined, since the parser may cut them anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def note(self, name: str, value: Any = "") -> None:
        value = bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else value
        if name in ("status", "field", "value", "body") and self.events and self.events[-1][0] == name:
            value = self.events.pop()[1] + value
        self.events.append((name, value))

    def _on_message_begin(self) -> None:
        self.note("begin")

    def _on_status(self, reason: str) -> None:
        self.note("status", reason)

    def _on_header_field(self, name: str) -> None:
        self.note("field", name)

    def _on_header_value(self, value: str) -> None:
        self.note("value", value)

    def _on_headers_complete(self) -> None:
        self.note("headers")

    def _on_body(self, data: bytes) -> None:
        self.note("body", data)

    def _on_message_complete(self) -> None:
        self.note("complete")


class Silent(HTTPResponseParser):
    """Has every callback, so that a test may replace one of them."""


for _hook in HOOKS:
    setattr(Silent, _hook, lambda self, *args: None)


EVENTS: list[Event] = [
    ("begin", ""),
    ("status", "All fine"),
    ("field", "Content-Length"),
    ("value", "5"),
    ("field", "X-A"),
    ("value", "b c"),
    ("headers", ""),
    ("body", b"hello"),
    ("complete", ""),
]
EVENTFUL = b"HTTP/1.1 200 All fine\r\nContent-Length: 5\r\nX-A: b c\r\n\r\nhello"


def test_error_classes() -> None:
    assert issubclass(HTTPParseError, HTTPException)
    assert issubclass(HTTPConnectionClosed, HTTPParseError)
    assert issubclass(HTTPProtocolViolationError, HTTPParseError)
    assert geventhttpclient.HTTPParseError is HTTPParseError
    assert geventhttpclient.response.HTTPParseError is _parser.HTTPParseError


def test_a_fresh_parser() -> None:
    parser = HTTPResponseParser()
    assert parser.get_code() == 0
    assert parser.parser_failed() is False
    assert parser.should_keep_alive() is False


@pytest.mark.parametrize("convert", [bytes, bytes.decode])
def test_feed_takes_text_and_bytes(convert: Any) -> None:
    parser = Recorder()
    parser.feed(convert(EVENTFUL))
    assert parser.events == EVENTS


@pytest.mark.parametrize("wrong", [None, 5, 1.5, [b"HTTP/1.1 200 OK\r\n"], object()])
def test_feed_refuses_other_types(wrong: Any) -> None:
    with pytest.raises(TypeError):
        Silent().feed(wrong)


@pytest.mark.parametrize("cut", range(1, len(EVENTFUL)))
def test_callbacks_of_a_subclass_at_every_cut(cut: int) -> None:
    parser = Recorder()
    parser.feed(EVENTFUL[:cut])
    parser.feed(EVENTFUL[cut:])
    assert parser.events == EVENTS


def test_callbacks_byte_by_byte() -> None:
    parser = Recorder()
    for i in range(len(EVENTFUL)):
        parser.feed(EVENTFUL[i : i + 1])
    assert parser.events == EVENTS


def test_callbacks_of_a_chunked_body_hold_its_content_alone() -> None:
    parser = Recorder()
    parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
    assert [e for e in parser.events if e[0] in ("body", "complete")] == [("body", b"hello"), ("complete", "")]


def test_callbacks_set_on_an_instance_of_a_subclass() -> None:
    parser, called = type("Bare", (HTTPResponseParser,), {})(), []
    for hook in HOOKS:
        setattr(parser, hook, lambda *args, hook=hook: called.append(hook))
    parser.feed(EVENTFUL)
    assert list(dict.fromkeys(called)) == list(HOOKS)
    assert set(called) == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_callbacks_set_on_a_response(hook: str) -> None:
    response, called = HTTPResponse(), []
    ours = getattr(response, hook)

    def spy(*args: Any) -> Any:
        called.append(args)
        return ours(*args)

    setattr(response, hook, spy)
    response.feed(EVENTFUL)
    assert called
    assert response.message_complete
    assert response["x-a"] == "b c"


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("base", [Silent, HTTPResponse])
@pytest.mark.parametrize("where", ["class", "instance"])
def test_the_exception_of_a_callback_comes_out_of_feed(hook: str, base: type[HTTPResponseParser], where: str) -> None:
    mine = LookupError("mine")

    def fail(*args: Any) -> None:
        raise mine

    if where == "class":
        parser = type("Failing", (base,), {hook: fail})()
    else:
        parser = type("Plain", (base,), {})()
        setattr(parser, hook, fail)
    with pytest.raises(LookupError) as caught:
        parser.feed(EVENTFUL)
    assert caught.value is mine


@pytest.mark.parametrize("hook", HOOKS)
def test_an_exception_that_is_no_Exception_comes_out_of_feed_too(hook: str) -> None:
    class Stop(BaseException):
        pass

    def fail(*args: Any) -> None:
        raise Stop

    with pytest.raises(Stop):
        type("Failing", (Silent,), {hook: fail})().feed(EVENTFUL)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("status", [200, 204, 404, 503])
def test_code_and_version(status: int, version: str) -> None:
    parser = Silent()
    parser.feed(f"{version} {status} Words\r\nContent-Length: 0\r\n\r\n")
    assert parser.get_code() == status
    assert parser.get_http_version() == version


def test_remaining_content_length_counts_down() -> None:
    parser = Silent()
    parser.feed(HEAD)
    assert parser.get_remaining_content_length() == 5
    parser.feed("he")
    assert parser.get_remaining_content_length() == 3
    parser.feed("llo")
    assert parser.get_remaining_content_length() == 0


def test_remaining_content_length_beyond_32_bits() -> None:
    parser = Silent()
    parser.feed(f"HTTP/1.1 200 OK\r\nContent-Length: {1 << 40}\r\n\r\nx")
    assert parser.get_remaining_content_length() == (1 << 40) - 1


def test_a_failed_parser_says_so_and_stays_failed() -> None:
    parser = Silent()
    with pytest.raises(HTTPParseError):
        parser.feed("nonsense\r\n\r\n")
    assert parser.parser_failed() is True
    with pytest.raises(HTTPParseError):
        parser.feed(HEAD)
    assert parser.should_keep_alive() is False


def test_errors_carry_a_message_and_a_code() -> None:
    with pytest.raises(HTTPParseError) as caught:
        Silent().feed("HTTP/1.1 asdf\r\n\r\n")
    message, code = caught.value.args
    assert "invalid status code" in message.lower()
    assert isinstance(code, int)
    assert code != 0


@pytest.mark.parametrize(
    "raw",
    [
        "RTSP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_every_error_carries_a_message_and_a_code(raw: str) -> None:
    with pytest.raises(HTTPParseError) as caught:
        Silent().feed(raw)
    assert [type(arg) for arg in caught.value.args] == [str, int]


@pytest.mark.parametrize("nothing", [b"", ""])
def test_feeding_nothing_ends_a_body_that_runs_to_the_close(nothing: bytes | str) -> None:
    response = HTTPResponse()
    response.feed(b"HTTP/1.1 200 OK\r\n\r\nall")
    assert not response.message_complete
    response.feed(nothing)
    assert response.message_complete
    assert response._body_buffer == b"all"
    assert response.should_close()


@pytest.mark.parametrize("raw", [HEAD, HEAD + b"hell", HEAD[:-2], HEAD[:9]])
def test_feeding_nothing_inside_a_message_is_an_error(raw: bytes) -> None:
    response = HTTPResponse()
    response.feed(raw)
    with pytest.raises(HTTPParseError):
        response.feed(b"")
    assert response.should_close()


def test_feeding_nothing_behind_a_message_changes_nothing() -> None:
    response = HTTPResponse()
    response.feed(HEAD + b"hello")
    response.feed(b"")
    assert response.message_complete
    assert response._body_buffer == b"hello"


def test_a_response_step_by_step() -> None:
    response = HTTPResponse("get")
    assert response.method == "GET"
    assert (response.message_begun, response.headers_complete, response.message_complete) == (False, False, False)
    response.feed("HTTP/1.1 200 ")
    assert (response.message_begun, response.headers_complete) == (True, False)
    response.feed("OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\n")
    assert (response.headers_complete, response.message_complete) == (True, False)
    assert response.should_close()  # its body is still on the wire
    assert (response.status_code, response.status_message, response.version) == (200, "OK", "HTTP/1.1")
    assert response.content_length == response.length == 5
    response.feed("hello")
    assert response.message_complete
    assert response.should_close() is False
    assert response._body_buffer == b"hello"


def test_header_access() -> None:
    response = HTTPResponse()
    response.feed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\r\n")
    assert response["CONTENT-LENGTH"] == "0"
    assert response["Set-Cookie"] == ["a=1", "b=2"]
    assert response.get("nothing") is None
    assert response.get("nothing", "else") == "else"
    assert "content-length" in response
    assert "nothing" not in response
    with pytest.raises(KeyError):
        response["nothing"]
    lines = [("Content-Length", "0"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2")]
    assert list(response.items()) == lines
    assert list(response.headers) == lines
    assert response.info() is response._headers_index
    assert isinstance(response.info(), Headers)


def test_headers_type_is_used() -> None:
    class Mine(Headers):
        pass

    response = HTTPResponse(headers_type=Mine)
    response.feed(HEAD)
    assert type(response.info()) is Mine
    assert response.info()["content-length"] == "5"


def test_content_length_of_a_response_without_one() -> None:
    response = HTTPResponse()
    response.feed("HTTP/1.1 200 OK\r\n\r\n")
    assert response.content_length is None
    assert response.length is None


def test_repr_of_a_parsed_response() -> None:
    response = HTTPResponse()
    response.feed(HEAD)
    assert repr(response) == "<HTTPResponse status=200 headers={'Content-Length': '5'}>"


def test_a_response_to_head_has_no_body() -> None:
    response = HTTPResponse("head")
    response.feed(HEAD)
    assert response.message_complete
    assert response.should_close() is False
    assert response.content_length == 5


@pytest.mark.parametrize("glued", [True, False])
def test_bytes_behind_a_head_answer_spoil_the_connection(glued: bool) -> None:
    response = HTTPResponse("HEAD")
    response.feed(HEAD + b"hello" if glued else HEAD)
    if not glued:
        feed_strays(response, b"hello")
    assert response.message_complete
    assert response.should_close()
    assert response._body_buffer == b""


def feed_strays(response: HTTPResponse, data: bytes) -> None:
    """What comes behind a message may be refused aloud or be passed over; it may not be taken in."""
    with suppress(HTTPParseError):
        response.feed(data)


def outcome(response: HTTPResponse, pieces: list[bytes], eof: bool) -> HTTPParseError | None:
    try:
        for piece in pieces:
            response.feed(piece)
        if eof:
            response.feed(b"")
    except HTTPParseError as e:
        return e
    return None


def check_response(response: HTTPResponse, vector: Vector, error: HTTPParseError | None) -> None:
    wanted = vector.response
    assert wanted is not None
    assert error is None or "extra" in wanted
    assert response.headers_complete
    assert response.message_complete
    assert response.get_code() == wanted["status"]
    assert bytes(response._body_buffer) == vector.body
    assert response.version == wanted.get("version", response.version)
    assert (response.status_message or "") == wanted.get("reason", response.status_message or "")
    # A pair of one name is grouped with its first: that is Headers' own order, so compare without one.
    got = sorted((k.lower(), v) for k, v in response.items())
    if "headers" in wanted:
        assert got == sorted((k.lower(), v) for k, v in wanted["headers"])
    for name, value in wanted.get("trailers", ()):
        assert (name.lower(), value) not in got
    assert response.should_close() is not wanted["keep_alive"]


@pytest.mark.parametrize("vector", [v for v in RESPONSES if v.response], ids=str)
def test_vector_of_a_good_response(vector: Vector) -> None:
    for pieces in vector.divisions():
        response = HTTPResponse(vector.method)
        check_response(response, vector, outcome(response, pieces, vector.eof))


# A parser that is fed nothing misses nothing: whether anything was owed is for its owner to know.
@pytest.mark.parametrize("vector", [v for v in RESPONSES if v.error and v.raw.strip(b"\r\n")], ids=str)
def test_vector_of_a_bad_response(vector: Vector) -> None:
    assert vector.error is not None
    cut = vector.error["kind"] == "cut"
    for pieces in vector.divisions():
        response = HTTPResponse(vector.method)
        if cut:
            assert outcome(response, pieces, eof=False) is None
            pieces = []
        error = outcome(response, pieces, vector.eof)
        assert error is not None, pieces
        assert isinstance(error.args[0], str)
        assert response.message_complete is False
        assert response.should_close()
        if vector.error["in"] == "body":
            assert response.headers_complete
            assert response.get_code() == 200


def test_a_chunk_size_near_the_end_of_64_bits_does_not_wrap() -> None:
    response = HTTPResponse()
    pieces = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"fffffffffffffffb\r\nx\r\n0\r\n\r\n",
    ]
    assert outcome(response, pieces, eof=True) is not None
    assert response.message_complete is False


def test_a_later_piece_is_never_needed_to_refuse_a_bad_head() -> None:
    """Whoever waits for more than the bad line gives the peer a connection to sit on."""
    response = HTTPResponse()
    with pytest.raises(HTTPParseError):
        response.feed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n")


def test_a_field_that_comes_in_crumbs_meets_the_limit_too() -> None:
    response = HTTPResponse()
    error = outcome(response, [b"HTTP/1.1 200 OK\r\nX-A: ", *[b"12345678"] * 200_000], eof=False)
    assert error is not None
    assert response.should_close()


def test_limits_leave_room_for_large_but_honest_heads() -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (i, b"v" * 300) for i in range(99))
    response = HTTPResponse()
    response.feed(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n")
    assert response.message_complete
    assert response["X-98"] == "v" * 300
