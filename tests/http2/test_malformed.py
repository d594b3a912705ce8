"""Malformed HTTP/2 responses (RFC 9113 section 8.1.1): each is a stream error, and the connection stays usable."""

from __future__ import annotations

import random
from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event
from hpack import HeaderTuple, NeverIndexedHeaderTuple
from hyperframe.frame import GoAwayFrame, RstStreamFrame

from geventhttpclient import HTTPClient
from geventhttpclient.http2 import HTTP2Error
from tests.http2.test_hostile import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    STATUS_200,
    WINDOW_UPDATE,
    check,
    number,
)
from tests.support.certificates import Certificates
from tests.support.http2_peer import (
    PROTOCOL_ERROR,
    Fields,
    Request,
    Talk,
    frame,
    played,
    talking,
    talking_securely,
)
from tests.support.hub import attempt
from tests.support.tls import check_whole

pytestmark = pytest.mark.usefixtures("bounded")

Say = Callable[[Talk, int], object]

NAME = "a field name is empty or has a forbidden character"
VALUE = "a field value has a forbidden character or white space at an end"
CONNECTION = "connection-specific field"
PSEUDO = "a pseudo-header field other than :status"
STATUS = ":status is not a status code"
OTHER = "the response is malformed"

# The fields of a head, and the text that the error must contain.
BAD_HEADS: dict[str, tuple[Fields, str]] = {
    "nothing": ([], "no :status"),
    "no status": ([("x-a", "b")], "no :status"),
    "two statuses": ([(":status", "200"), (":status", "200")], "more than one :status"),
    "two interim statuses": ([(":status", "103"), (":status", "200")], "more than one :status"),
    "a status after a field": ([("x-a", "b"), (":status", "200")], "follows a regular field"),
    "an unknown pseudo-header field": ([(":status", "200"), (":nonsense", "1")], PSEUDO),
    "a nameless pseudo-header field": ([(":status", "200"), (":", "1")], PSEUDO),
    ":path": ([(":status", "200"), (":path", "/")], PSEUDO),
    ":path that is no text": ([(":status", "200"), (":path", "/\xff")], PSEUDO),
    ":path alone": ([(":path", "/")], PSEUDO),
    ":method": ([(":method", "GET"), (":status", "200")], PSEUDO),
    ":method that is none": ([(":status", "200"), (":method", "G T")], PSEUDO),
    ":scheme": ([(":status", "200"), (":scheme", "https")], PSEUDO),
    ":authority": ([(":status", "200"), (":authority", "a")], PSEUDO),
    ":protocol": ([(":status", "200"), (":protocol", "websocket")], PSEUDO),
    "a status of letters": ([(":status", "abc")], STATUS),
    "a status too short": ([(":status", "20")], STATUS),
    "a status too long": ([(":status", "2000")], STATUS),
    "a status too small": ([(":status", "099")], STATUS),
    "an empty status": ([(":status", "")], STATUS),
    "switched protocols": ([(":status", "101")], "no status 101"),
    "an upper-case name": ([(":status", "200"), ("X-A", "b")], NAME),
    "a name with a space": ([(":status", "200"), ("x a", "b")], NAME),
    "a name with a colon": ([(":status", "200"), ("x:a", "b")], NAME),
    "a name with a line end": ([(":status", "200"), ("x\r\na", "b")], NAME),
    "a name with NUL": ([(":status", "200"), ("x\0", "b")], NAME),
    "a name beyond ASCII": ([(":status", "200"), ("x-\xe9", "b")], NAME),
    "a name too long": ([(":status", "200"), ("x" * 70_000, "b")], NAME),
    "an empty name": ([(":status", "200"), ("", "b")], NAME),
    "a value with a line end": ([(":status", "200"), ("x-a", "b\r\nx-b: c")], VALUE),
    "a value with NUL": ([(":status", "200"), ("x-a", "b\0c")], VALUE),
    "a value with DEL": ([(":status", "200"), ("x-a", "b\x7f")], VALUE),
    "a value with a control character": ([(":status", "200"), ("x-a", "b\x01")], VALUE),
    "a value that begins with a space": ([(":status", "200"), ("x-a", " b")], VALUE),
    "a value that ends with a tab": ([(":status", "200"), ("x-a", "b\t")], VALUE),
    "a bad name beside much else": (
        [(":status", "200"), *((f"x-{n}", "v\x80" * 3000) for n in range(8)), ("X-A", "b")],
        NAME,
    ),
    "a value of a known name with NUL": ([(":status", "200"), ("server", "b\0c")], VALUE),
    "connection": ([(":status", "200"), ("connection", "close")], CONNECTION),
    "keep-alive": ([(":status", "200"), ("keep-alive", "timeout=5")], CONNECTION),
    "proxy-connection": ([(":status", "200"), ("proxy-connection", "close")], CONNECTION),
    "te": ([(":status", "200"), ("te", "trailers")], CONNECTION),
    "transfer-encoding": ([(":status", "200"), ("transfer-encoding", "chunked")], CONNECTION),
    "upgrade": ([(":status", "200"), ("upgrade", "h2c")], CONNECTION),
    "a length that is none": ([(":status", "200"), ("content-length", "x")], OTHER),
    "a length below nothing": ([(":status", "200"), ("content-length", "-1")], OTHER),
    "two lengths": ([(":status", "200"), ("content-length", "1"), ("content-length", "2")], OTHER),
}

BAD_TRAILERS: dict[str, tuple[Fields, str]] = {
    "a status": ([(":status", "200")], "trailers have a pseudo-header field"),
    "a status that is none": ([(":status", "x")], "trailers have a pseudo-header field"),
    ":path": ([("x-a", "b"), (":path", "/")], "trailers have a pseudo-header field"),
    "an upper-case name": ([("X-A", "b")], NAME),
    "a value with NUL": ([("x-a", "b\0")], VALUE),
    "connection": ([("connection", "b")], CONNECTION),
}


def trailers(fields: Fields, end: bool = True) -> Say:
    def say(talk: Talk, stream: int) -> None:
        talk.headers(stream, [(":status", "200")])
        talk.data(stream, b"x")
        talk.headers(stream, fields, end=end)

    return say


# Other malformed messages.
BAD_MESSAGES: dict[str, tuple[Say, str]] = {
    "an interim response that ends": (
        lambda talk, stream: talk.headers(stream, [(":status", "103")], end=True),
        "ends with an interim response",
    ),
    "trailers that do not end": (trailers([("x-a", "b")], end=False), "trailers do not end the stream"),
    "DATA before HEADERS": (lambda talk, stream: talk.data(stream, b"x"), "DATA precedes"),
    "empty DATA before HEADERS": (lambda talk, stream: talk.data(stream), "DATA precedes"),
    "DATA behind an interim response": (
        lambda talk, stream: (talk.headers(stream, [(":status", "103")]), talk.data(stream, b"x", end=True)),
        "DATA precedes",
    ),
    "HEADERS that depend on themselves": (
        lambda talk, stream: talk.send(frame(HEADERS, END_HEADERS | 0x20, stream, number(stream) + b"\x10\x88")),
        "depends on itself",
    ),
    "WINDOW_UPDATE of nothing": (
        lambda talk, stream: talk.send(frame(WINDOW_UPDATE, 0, stream, number(0))),
        "WINDOW_UPDATE of the stream is zero",
    ),
    "DATA behind a 204": (
        lambda talk, stream: (talk.headers(stream, [(":status", "204")]), talk.data(stream, b"x", end=True)),
        "its status has no content",
    ),
    "DATA behind a 304": (
        lambda talk, stream: (
            talk.headers(stream, [(":status", "304"), ("content-length", "1")]),
            talk.data(stream, b"x", end=True),
        ),
        "its status has no content",
    ),
    "more than its length": (
        lambda talk, stream: (
            talk.headers(stream, [(":status", "200"), ("content-length", "1")]),
            talk.data(stream, b"xx"),
        ),
        OTHER,
    ),
    "less than its length": (
        lambda talk, stream: (
            talk.headers(stream, [(":status", "200"), ("content-length", "5")]),
            talk.data(stream, b"xx", end=True),
        ),
        OTHER,
    ),
}


def encoded(fields: Fields, kind: type[HeaderTuple] = HeaderTuple) -> list[HeaderTuple]:
    """Returns fields for the encoder, which encodes text as UTF-8. `kind` selects whether they may be indexed."""
    return [kind(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def head(fields: Fields, pieces: int = 1, kind: type[HeaderTuple] = HeaderTuple) -> Say:
    """Sends a response with that head, in that number of frames."""

    def say(talk: Talk, stream: int) -> None:
        talk.headers(stream, encoded(fields, kind), pieces=pieces)
        talk.data(stream, b"x", end=True)

    return say


def answer_beside(say: Say, resets: bool = True) -> Callable[[Talk], None]:
    """Answers correctly, except for one of two concurrent requests after the first one."""

    def script(talk: Talk) -> None:
        talk.start()
        talk.respond(first(talk), b"/first")
        bad, other = sorted((first(talk), first(talk)), key=lambda request: request.target)
        say(talk, bad.stream)
        if resets:
            talk.expect_reset(bad, PROTOCOL_ERROR)
        talk.respond(other, b"/other", fields=[("x-a", "b")])
        talk.respond(first(talk), b"/then", fields=[("x-a", "b")])
        talk.expect_alive()
        assert not [frame for frame in talk._frames if isinstance(frame, RstStreamFrame)]

    return script


def first(talk: Talk) -> Request:
    request = talk.read_request()
    assert request is not None, "the client closed"
    return request


def check_beside(client: HTTPClient, port: int, words: str) -> None:
    """Checks that only the malformed response fails; the other and the next request succeed on the same connection."""
    assert client.get("/first").read() == b"/first"
    bad = gevent.spawn(attempt, lambda: client.get("/bad").read())
    other = gevent.spawn(attempt, lambda: client.get("/other").read())
    gevent.joinall([bad, other])
    assert other.value == b"/other"
    check(bad.value, PROTOCOL_ERROR, port)
    assert words in str(bad.value)
    response = client.get("/then")
    assert (response.read(), dict(response.headers)["x-a"]) == (b"/then", "b")
    check_whole(client)
    statistics = client.statistics()
    assert statistics["opened"] == 1, statistics


def check_stream_error(say: Say, words: str, resets: bool = True) -> None:
    with talking(answer_beside(say, resets), concurrency=2) as (peer, client):
        check_beside(client, peer.port, words)
        played(peer)


@pytest.mark.parametrize("name", BAD_HEADS)
@pytest.mark.parametrize("pieces", [1, 3])
def test_head_malformed_ends_its_stream_alone(name: str, pieces: int) -> None:
    fields, words = BAD_HEADS[name]
    check_stream_error(head(fields, pieces), words)


@pytest.mark.parametrize("name", BAD_HEADS)
def test_head_malformed_without_indexing_ends_its_stream_alone(name: str) -> None:
    fields, words = BAD_HEADS[name]
    check_stream_error(head(fields, kind=NeverIndexedHeaderTuple), words)


@pytest.mark.parametrize("name", BAD_TRAILERS)
def test_trailers_malformed_end_their_stream_alone(name: str) -> None:
    fields, words = BAD_TRAILERS[name]
    check_stream_error(trailers(fields), words)


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_message_malformed_ends_its_stream_alone(name: str) -> None:
    say, words = BAD_MESSAGES[name]
    check_stream_error(say, words)


@pytest.mark.parametrize("way", ["native", "context"])
def test_head_malformed_over_tls_ends_its_stream_alone(certificates: Certificates, way: str) -> None:
    fields, words = BAD_HEADS["an upper-case name"]
    script = answer_beside(head(fields, pieces=2))
    with talking_securely(certificates, script, way=way, concurrency=2) as (peer, client):
        assert client.get("/first").read() == b"/first"
        bad = gevent.spawn(attempt, lambda: client.get("/bad").read())
        other = gevent.spawn(attempt, lambda: client.get("/other").read())
        gevent.joinall([bad, other])
        assert other.value == b"/other"
        assert isinstance(bad.value, HTTP2Error)
        assert words in str(bad.value)
        assert client.get("/then").read() == b"/then"
        assert len(peer.conns) == 1
        played(peer)


def test_head_malformed_during_an_upload_ends_it() -> None:
    def script(talk: Talk) -> None:
        talk.credit = False
        talk.start()
        request = talk.read_head()
        assert request is not None
        talk.headers(request.stream, [(":status", "200"), ("X-A", "b")])
        talk.expect_reset(request, PROTOCOL_ERROR)
        talk.respond(first(talk), b"/then")

    with talking(script) as (peer, client):
        with pytest.raises(HTTP2Error, match=NAME):
            client.post("/", bytes(1 << 20))
        assert client.get("/then").read() == b"/then"
        check_whole(client)
        played(peer)
        assert len(peer.conns) == 1


def test_malformed_responses_to_cancelled_requests_are_ignored() -> None:
    """They cause no further RST_STREAM, and do not end the connection."""

    def script(talk: Talk) -> None:
        talk.start()
        talk.respond(first(talk), b"/first")
        request = first(talk)
        reset = talk.expect(RstStreamFrame, request.stream)
        assert reset.error_code != PROTOCOL_ERROR
        for fields in ([(":status", "200"), ("X-A", "b")], [("x-a", "b\0")], [(":path", "/")]):
            talk.headers(request.stream, fields)
            talk.data(request.stream)
        talk.expect_alive()
        assert not [frame for frame in talk._frames if isinstance(frame, RstStreamFrame)]
        talk.respond(first(talk), b"/then")

    with talking(script) as (peer, client):
        assert client.get("/first").read() == b"/first"
        with pytest.raises(TimeoutError):
            client.get("/", total_timeout=0.05)
        assert client.get("/then").read() == b"/then"
        check_whole(client)
        played(peer)
        assert len(peer.conns) == 1


def test_name_of_a_malformed_value_can_be_referenced() -> None:
    """An encoder may refer to the name in the entry of the malformed field."""

    def script(talk: Talk) -> None:
        talk.start()
        request = first(talk)
        talk.block(request.stream, STATUS_200 + b"\x40\x03x-a\x03b\0d", end=True)
        talk.expect_reset(request, PROTOCOL_ERROR)
        request = first(talk)
        talk.block(request.stream, STATUS_200 + b"\x7e\x04good", end=True)
        request = first(talk)
        talk.block(request.stream, STATUS_200 + b"\xbe", end=True)
        request = first(talk)
        talk.block(request.stream, STATUS_200 + b"\xbf", end=True)
        talk.expect_reset(request, PROTOCOL_ERROR)

    with talking(script) as (peer, client):
        with pytest.raises(HTTP2Error):
            client.get("/")
        assert dict(client.get("/").headers) == {"x-a": "good"}
        assert dict(client.get("/").headers) == {"x-a": "good"}
        with pytest.raises(HTTP2Error):
            client.get("/")
        played(peer)
        assert len(peer.conns) == 1


@pytest.mark.parametrize("seed", range(4))
def test_header_compression_stays_in_step_after_malformed_heads(seed: int) -> None:
    """The table fills, evicts entries and is resized; valid heads are decoded as the peer has encoded them."""
    rng = random.Random(seed)
    names = [f"x-{n}" for n in range(12)]
    sent: list[dict[str, str]] = []

    def value() -> str:
        length = rng.choice([0, 1, 30, 200, 900])
        return "".join(rng.choice("abcXYZ019-/=\xe9 ") for _ in range(length)).strip()

    def script(talk: Talk) -> None:
        talk.start()
        while request := talk.read_request():
            if rng.random() < 0.1:
                talk.encoder.header_table_size = rng.choice([0, 300, 4096])
            fields = {name: rng.choice([value(), "usual"]) for name in rng.sample(names, 5)}
            is_bad = request.target == "/bad"
            lines = [(":status", "200"), *fields.items()]
            if is_bad:
                bad = rng.choice(
                    [
                        ("X" * rng.choice([1, 40, 300]), value()),
                        ("x-1", value() + "\0"),
                        (":path", value()),
                        ("", value() + "x"),
                    ]
                )
                lines.insert(rng.randrange(1, len(lines)), bad)
            talk.headers(request.stream, encoded(lines), end=True, pieces=rng.choice([1, 1, 4]))
            sent.append(fields)

    with talking(script) as (peer, client):
        for turn in range(150):
            if turn % 3 == 1:
                with pytest.raises(HTTP2Error, match="malformed"):
                    client.get("/bad")
                continue
            response = client.get("/good")
            assert dict(response.headers) == sent[-1], turn
        check_whole(client)
        assert len(peer.conns) == 1


@pytest.mark.parametrize(("length", "body"), [("5", b"1234"), ("5", b"123456"), ("0", b"1")])
@pytest.mark.parametrize("bytewise", [False, True])
def test_content_length_wrong_ends_its_stream_alone(length: str, body: bytes, bytewise: bool) -> None:
    """Also if the stream ends without DATA."""

    def say(talk: Talk, stream: int) -> None:
        talk.headers(stream, [(":status", "200"), ("content-length", length)])
        for piece in [body[at : at + 1] for at in range(len(body))] if bytewise else [body]:
            talk.data(stream, piece)
        talk.data(stream, end=True)

    check_stream_error(say, OTHER)


@pytest.mark.parametrize("status", ["204", "304"])
@pytest.mark.parametrize("fields", [[], [("x-sum", "1")]])
def test_status_without_content_may_end_by_empty_data_or_trailers(status: str, fields: Fields) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        stream = first(talk).stream
        talk.headers(stream, [(":status", status)])
        talk.data(stream)
        if fields:
            talk.headers(stream, fields, end=True)
        else:
            talk.data(stream, end=True)

    with talking(script) as (_, client):
        response = client.get("/")
        assert (response.status_code, response.read()) == (int(status), b"")
        assert list(response.trailers.items()) == list(fields)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("end", ["head", "data", "trailers", "indexed trailers"])
@pytest.mark.parametrize("status", ["204", "304"])
def test_status_without_content_may_have_the_length_of_another_response(status: str, end: str, apart: bool) -> None:
    """RFC 9110 section 8.6: the length of the 200 response to the same request."""
    head_is_read = Event()

    def script(talk: Talk) -> None:
        talk.start()
        for turn in range(2):
            stream = (talk.read_request() if turn else first(talk)).stream
            talk.headers(stream, [(":status", status), ("content-length", "10")], end=end == "head")
            if apart:
                head_is_read.wait()
            if end == "data":
                talk.data(stream, end=True)
            elif end == "trailers":
                # Literal fields that are not indexed.
                talk.block(stream, b"\x00\x05x-sum\x011", end=True)
            elif end == "indexed trailers":
                talk.headers(stream, [("x-sum", "1"), (f"x-{turn}", "2")], end=True)
        # The tables of both are still the same.
        talk.respond(talk.read_request(), fields=[("x-sum", "1"), ("x-1", "2")])
        assert not [frame for frame in talk.frames_of(stream) if isinstance(frame, RstStreamFrame)]

    with talking(script) as (_, client):
        for _ in range(2):
            head_is_read.clear()
            response = client.get("/")
            head_is_read.set()
            assert (response.status_code, response.get("content-length")) == (int(status), "10")
            assert response.read() == b""
        response = client.get("/")
        assert (response.read(), response.get("x-sum"), response.get("x-1")) == (b"ok", "1", "2")
        assert client.statistics()["opened"] == 1


def test_length_without_data_ends_its_stream_alone() -> None:
    """Both sides have ended the stream, so it is not reset."""

    def say(talk: Talk, stream: int) -> None:
        talk.headers(stream, [(":status", "200"), ("content-length", "1")], end=True)

    check_stream_error(say, OTHER, resets=False)


def test_malformed_head_without_replacement_ends_the_connection() -> None:
    """h2 accepts no field with neither a name nor a value, so its table would differ from the peer's."""

    def script(talk: Talk) -> None:
        talk.start()
        talk.headers(first(talk).stream, [(":status", "200"), ("", "")])
        assert talk.expect(GoAwayFrame).error_code == PROTOCOL_ERROR
        talk.wait_closed()

    with talking(script) as (peer, client):
        with pytest.raises(HTTP2Error, match=NAME):
            client.get("/")
        played(peer)
        check_whole(client)


def test_valid_head_in_many_frames_is_one_head() -> None:
    fields = [("x-a", "b"), ("x-long", "v" * 20_000), ("x-c", "d")]

    def script(talk: Talk) -> None:
        talk.start()
        request = first(talk)
        block = talk.encoder.encode([(":status", "200"), *fields])
        talk.send(frame(HEADERS, 0, request.stream, block[:1]))
        for at in range(1, len(block), 5000):
            talk.send(
                frame(
                    CONTINUATION, END_HEADERS if at + 5000 >= len(block) else 0, request.stream, block[at : at + 5000]
                )
            )
        talk.send(frame(DATA, END_STREAM, request.stream, b"x"))

    with talking(script) as (_, client):
        response = client.get("/")
        assert response.read() == b"x"
        assert [(name, value) for name, value in response.headers] == fields
