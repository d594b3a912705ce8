"""Responses of HTTP/2 that are malformed (RFC 9113 section 8.1.1): errors of their requests, perhaps of all."""

from __future__ import annotations

import pytest

from tests.http2peer import (
    PROTOCOL_ERROR,
    Fields,
    Talk,
    talking,
)
from tests.test_http2_hostile import check, fail

pytestmark = pytest.mark.usefixtures("bounded")

# Errors of a stream, or of the connection where the peer cannot be trusted any more.
BAD_RESPONSES: dict[str, Fields] = {
    "nothing": [],
    "no status": [("x-a", "b")],
    "two statuses": [(":status", "200"), (":status", "200")],
    "a status after a field": [("x-a", "b"), (":status", "200")],
    "an unknown pseudo-header field": [(":status", "200"), (":nonsense", "1")],
    "a status of letters": [(":status", "abc")],
    "a status too short": [(":status", "20")],
    "a status too long": [(":status", "2000")],
    "a status too small": [(":status", "099")],
    "an empty status": [(":status", "")],
    "an upper-case name": [(":status", "200"), ("X-A", "b")],
    "a name with a space": [(":status", "200"), ("x a", "b")],
    "an empty name": [(":status", "200"), ("", "b")],
    "a value with a line end": [(":status", "200"), ("x-a", "b\r\nx-b: c")],
    "a value with NUL": [(":status", "200"), ("x-a", "b\0c")],
    "connection": [(":status", "200"), ("connection", "close")],
    "transfer-encoding": [(":status", "200"), ("transfer-encoding", "chunked")],
    "keep-alive": [(":status", "200"), ("keep-alive", "timeout=5")],
    "upgrade": [(":status", "200"), ("upgrade", "h2c")],
    "switched protocols": [(":status", "101")],
    "a length that is none": [(":status", "200"), ("content-length", "x")],
    "a length below nothing": [(":status", "200"), ("content-length", "-1")],
    "two lengths": [(":status", "200"), ("content-length", "1"), ("content-length", "2")],
}


@pytest.mark.parametrize("name", BAD_RESPONSES)
def test_heads_that_are_malformed(name: str) -> None:
    def say(talk: Talk) -> None:
        talk.headers(1, BAD_RESPONSES[name])
        talk.data(1, b"x", end=True)

    error, port = fail(say)
    check(error, PROTOCOL_ERROR, port)


def test_an_end_in_an_interim_response() -> None:
    error, port = fail(lambda talk: talk.headers(1, [(":status", "103")], end=True))
    check(error, PROTOCOL_ERROR, port)


@pytest.mark.parametrize(
    ("trailers", "end"),
    [([("x-a", "b")], False), ([("X-A", "b")], True), ([("connection", "b")], True)],
)
def test_trailers_that_are_malformed(trailers: Fields, end: bool) -> None:
    def say(talk: Talk) -> None:
        talk.headers(1, [(":status", "200")])
        talk.data(1, b"x")
        talk.headers(1, trailers, end=end)

    error, port = fail(say)
    check(error, PROTOCOL_ERROR, port)


def test_pseudo_header_fields_reach_nobody() -> None:
    """Where they are not forbidden them, they are at least no fields of a response."""

    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        talk.headers(1, [(":status", "200"), (":path", "/"), ("x-a", "b")])
        talk.data(1, b"x")
        talk.headers(1, [(":status", "500"), ("x-sum", "1")], end=True)
        talk.wait_closed()

    with talking(script) as (_, client):
        response = client.get("/")
        assert (response.status_code, response.read()) == (200, b"x")
        assert list(response.headers) == [("x-a", "b")]
        assert list(response.trailers.items()) == [("x-sum", "1")]


@pytest.mark.parametrize(("length", "body"), [("1", b""), ("5", b"1234"), ("5", b"123456"), ("0", b"1")])
@pytest.mark.parametrize("bytewise", [False, True])
def test_lengths_that_lie(length: str, body: bytes, bytewise: bool) -> None:
    """RFC 9113 section 8.1.1; also where the end comes without DATA."""

    def say(talk: Talk) -> None:
        talk.headers(1, [(":status", "200"), ("content-length", length)], end=not body)
        for byte in body if bytewise else [body] if body else []:
            talk.data(1, bytes([byte]) if bytewise else byte)
        if body:
            talk.data(1, end=True)

    error, port = fail(say)
    check(error, PROTOCOL_ERROR, port)
