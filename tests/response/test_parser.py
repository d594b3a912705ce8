"""The parser classes, fed by a program: every vector whole, bytewise and split."""

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
    """Records every callback; pieces of one item are joined, since the parser may split them anywhere."""

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
    """A parser with every callback, so that a test may replace one of them."""


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


def test_error_classes_have_their_bases() -> None:
    assert issubclass(HTTPParseError, HTTPException)
    assert issubclass(HTTPConnectionClosed, HTTPParseError)
    assert issubclass(HTTPProtocolViolationError, HTTPParseError)
    assert geventhttpclient.HTTPParseError is HTTPParseError
    assert geventhttpclient.response.HTTPParseError is _parser.HTTPParseError


def test_new_parser_has_no_values() -> None:
    parser = HTTPResponseParser()
    assert parser.get_code() == 0
    assert parser.parser_failed() is False
    assert parser.should_keep_alive() is False


@pytest.mark.parametrize("convert", [bytes, bytes.decode])
def test_feed_accepts_text_and_bytes(convert: Any) -> None:
    parser = Recorder()
    parser.feed(convert(EVENTFUL))
    assert parser.events == EVENTS


@pytest.mark.parametrize("wrong", [None, 5, 1.5, [b"HTTP/1.1 200 OK\r\n"], object()])
def test_feed_rejects_other_types(wrong: Any) -> None:
    with pytest.raises(TypeError):
        Silent().feed(wrong)


@pytest.mark.parametrize("cut", range(1, len(EVENTFUL)))
def test_callbacks_of_a_subclass_are_called_at_every_split(cut: int) -> None:
    parser = Recorder()
    parser.feed(EVENTFUL[:cut])
    parser.feed(EVENTFUL[cut:])
    assert parser.events == EVENTS


def test_callbacks_are_called_byte_by_byte() -> None:
    parser = Recorder()
    for i in range(len(EVENTFUL)):
        parser.feed(EVENTFUL[i : i + 1])
    assert parser.events == EVENTS


def test_callbacks_of_a_chunked_body_get_only_its_content() -> None:
    parser = Recorder()
    parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
    assert [e for e in parser.events if e[0] in ("body", "complete")] == [("body", b"hello"), ("complete", "")]


def test_callbacks_set_on_an_instance_of_a_subclass_are_called() -> None:
    parser, called = type("Bare", (HTTPResponseParser,), {})(), []
    for hook in HOOKS:
        setattr(parser, hook, lambda *args, hook=hook: called.append(hook))
    parser.feed(EVENTFUL)
    assert list(dict.fromkeys(called)) == list(HOOKS)
    assert set(called) == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_callbacks_set_on_a_response_are_called(hook: str) -> None:
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
def test_callback_exception_is_raised_by_feed(hook: str, base: type[HTTPResponseParser], where: str) -> None:
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
def test_callback_base_exception_is_raised_by_feed(hook: str) -> None:
    class Stop(BaseException):
        pass

    def fail(*args: Any) -> None:
        raise Stop

    with pytest.raises(Stop):
        type("Failing", (Silent,), {hook: fail})().feed(EVENTFUL)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("status", [200, 204, 404, 503])
def test_code_and_version_are_returned(status: int, version: str) -> None:
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


def test_remaining_content_length_beyond_32_bits_is_exact() -> None:
    parser = Silent()
    parser.feed(f"HTTP/1.1 200 OK\r\nContent-Length: {1 << 40}\r\n\r\nx")
    assert parser.get_remaining_content_length() == (1 << 40) - 1


def test_failed_parser_raises_again() -> None:
    parser = Silent()
    with pytest.raises(HTTPParseError):
        parser.feed("nonsense\r\n\r\n")
    assert parser.parser_failed() is True
    with pytest.raises(HTTPParseError):
        parser.feed(HEAD)
    assert parser.should_keep_alive() is False


def test_error_has_a_message_and_a_code() -> None:
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
def test_error_of_every_kind_has_a_message_and_a_code(raw: str) -> None:
    with pytest.raises(HTTPParseError) as caught:
        Silent().feed(raw)
    assert [type(arg) for arg in caught.value.args] == [str, int]


@pytest.mark.parametrize("nothing", [b"", ""])
def test_feed_of_no_bytes_ends_a_body_until_close(nothing: bytes | str) -> None:
    response = HTTPResponse()
    response.feed(b"HTTP/1.1 200 OK\r\n\r\nall")
    assert not response.message_complete
    response.feed(nothing)
    assert response.message_complete
    assert response._body_buffer == b"all"
    assert response.should_close()


@pytest.mark.parametrize("raw", [HEAD, HEAD + b"hell", HEAD[:-2], HEAD[:9]])
def test_feed_of_no_bytes_inside_a_message_is_an_error(raw: bytes) -> None:
    response = HTTPResponse()
    response.feed(raw)
    with pytest.raises(HTTPParseError):
        response.feed(b"")
    assert response.should_close()


def test_feed_of_no_bytes_after_a_message_changes_nothing() -> None:
    response = HTTPResponse()
    response.feed(HEAD + b"hello")
    response.feed(b"")
    assert response.message_complete
    assert response._body_buffer == b"hello"


def test_response_has_its_flags_after_each_step() -> None:
    response = HTTPResponse("get")
    assert response.method == "GET"
    assert (response.message_begun, response.headers_complete, response.message_complete) == (False, False, False)
    response.feed("HTTP/1.1 200 ")
    assert (response.message_begun, response.headers_complete) == (True, False)
    response.feed("OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\n")
    assert (response.headers_complete, response.message_complete) == (True, False)
    assert response.should_close()  # its body was not received yet
    assert (response.status_code, response.status_message, response.version) == (200, "OK", "HTTP/1.1")
    assert response.content_length == response.length == 5
    response.feed("hello")
    assert response.message_complete
    assert response.should_close() is False
    assert response._body_buffer == b"hello"


INTERIM_FIELDS = [
    "",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Content-Length: 5\r\n",
    "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
]


@pytest.mark.parametrize("fields", INTERIM_FIELDS)
@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints", "199 Odd"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_interim_response_keeps_the_connection(method: str, status: str, fields: str) -> None:
    response = HTTPResponse(method)
    response.feed(f"HTTP/1.1 {status}\r\n{fields}\r\n")
    assert (response.should_keep_alive(), response.should_close()) == (True, False)
    # The response itself was not received yet.
    assert response.message_complete is False
    response.feed("H")
    assert response.should_close() is True
    response.feed("TTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (response.message_complete, response.should_close()) == (True, False)


@pytest.mark.parametrize("line", ["HTTP/1.1 100 Continue\r\nConnection: close", "HTTP/1.0 100 Continue"])
def test_interim_response_with_close_closes_the_connection(line: str) -> None:
    response = HTTPResponse()
    response.feed(f"{line}\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (response.should_keep_alive(), response.should_close()) == (False, True)


def test_new_parser_does_not_keep_the_connection() -> None:
    assert HTTPResponse().should_close() is True


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("fields", ["", "Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n"])
def test_response_without_a_body_ends_with_its_head(status: str, fields: str) -> None:
    response = HTTPResponse()
    response.feed(f"HTTP/1.1 {status}\r\n{fields}\r\n")
    assert (response.message_complete, response.should_keep_alive(), response.should_close()) == (True, True, False)


@pytest.mark.parametrize(
    "fields", ["chunked\r\nTransfer-Encoding: Chunked", "chunked, chunked", "identity, chunked", "CHUNKED ,chunked"]
)
def test_chunked_declared_twice_is_decoded_once_and_closes(fields: str) -> None:
    response = HTTPResponse()
    response.feed(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert (response.message_complete, response._body_buffer) == (True, b"hello")
    assert (response.should_keep_alive(), response.should_close()) == (False, True)


@pytest.mark.parametrize("minor", range(2, 10))
def test_later_minor_version_is_treated_as_1_1(minor: int) -> None:
    response = HTTPResponse()
    response.feed(f"HTTP/1.{minor} 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert (response.version, response.get_http_version()) == ("HTTP/1.1", "HTTP/1.1")
    assert (response.message_complete, response.should_close()) == (True, False)


@pytest.mark.parametrize("line", ["HTTP/2.0 200 OK", "HTTP/1.10 200 OK", "HTTP/0.9 200 OK", "HTTP/1.x 200 OK"])
def test_other_versions_are_an_error(line: str) -> None:
    with pytest.raises(HTTPParseError, match="version"):
        HTTPResponse().feed(f"{line}\r\nContent-Length: 0\r\n\r\n")


def test_interim_responses_are_limited() -> None:
    response = HTTPResponse()
    response.feed("HTTP/1.1 102 Processing\r\n\r\n" * 1000)
    with pytest.raises(HTTPParseError, match="more than 1000"):
        response.feed("HTTP/1.1 102 Processing\r\n\r\n")
    head = f"HTTP/1.1 103 Early Hints\r\nLink: {'x' * 65_000}\r\n\r\n"
    response = HTTPResponse()
    response.feed(head * 16)
    with pytest.raises(HTTPParseError, match="more than 1048576 bytes"):
        response.feed(head)


def test_headers_can_be_accessed_by_name() -> None:
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


def test_content_length_missing_is_none() -> None:
    response = HTTPResponse()
    response.feed("HTTP/1.1 200 OK\r\n\r\n")
    assert response.content_length is None
    assert response.length is None


def test_repr_shows_the_parsed_response() -> None:
    response = HTTPResponse()
    response.feed(HEAD)
    assert repr(response) == "<HTTPResponse status=200 headers={'Content-Length': '5'}>"


def test_response_to_head_has_no_body() -> None:
    response = HTTPResponse("head")
    response.feed(HEAD)
    assert response.message_complete
    assert response.should_close() is False
    assert response.content_length == 5


@pytest.mark.parametrize("glued", [True, False])
def test_bytes_after_a_response_to_head_close_the_connection(glued: bool) -> None:
    response = HTTPResponse("HEAD")
    response.feed(HEAD + b"hello" if glued else HEAD)
    if not glued:
        feed_strays(response, b"hello")
    assert response.message_complete
    assert response.should_close()
    assert response._body_buffer == b""


def feed_strays(response: HTTPResponse, data: bytes) -> None:
    """Feeds bytes after a message, which may raise an error or be ignored; they must not be accepted as data."""
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
    # Headers groups fields of the same name with the first one, so the order is not compared.
    got = sorted((k.lower(), v) for k, v in response.items())
    if "headers" in wanted:
        assert got == sorted((k.lower(), v) for k, v in wanted["headers"])
    for name, value in wanted.get("trailers", ()):
        assert (name.lower(), value) not in got
    assert response.should_close() is not wanted["keep_alive"]


@pytest.mark.parametrize("vector", [v for v in RESPONSES if v.response], ids=str)
def test_vector_of_a_valid_response(vector: Vector) -> None:
    for pieces in vector.divisions():
        response = HTTPResponse(vector.method)
        check_response(response, vector, outcome(response, pieces, vector.eof))


# A parser without any bytes does not report a missing response: only its owner knows whether one was expected.
@pytest.mark.parametrize("vector", [v for v in RESPONSES if v.error and v.raw.strip(b"\r\n")], ids=str)
def test_vector_of_an_invalid_response(vector: Vector) -> None:
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


def test_chunk_size_near_64_bits_does_not_overflow() -> None:
    response = HTTPResponse()
    pieces = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"fffffffffffffffb\r\nx\r\n0\r\n\r\n",
    ]
    assert outcome(response, pieces, eof=True) is not None
    assert response.message_complete is False


def test_invalid_head_is_an_error_without_further_data() -> None:
    """A parser that waits for more data than the invalid line lets the peer occupy a connection."""
    response = HTTPResponse()
    with pytest.raises(HTTPParseError):
        response.feed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n")


def test_field_in_small_pieces_meets_the_limit() -> None:
    response = HTTPResponse()
    error = outcome(response, [b"HTTP/1.1 200 OK\r\nX-A: ", *[b"12345678"] * 200_000], eof=False)
    assert error is not None
    assert response.should_close()


def test_limits_allow_large_valid_heads() -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (i, b"v" * 300) for i in range(99))
    response = HTTPResponse()
    response.feed(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n")
    assert response.message_complete
    assert response["X-98"] == "v" * 300
