"""HTTP/2 responses as a program sees them, in any framing (RFC 9113 section 8)."""

from __future__ import annotations

import pytest
from gevent.event import Event
from gevent.pool import Pool

from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError
from tests.support.http2_peer import (
    CANCEL,
    MAX_FRAME_SIZE,
    NO_ERROR,
    Fields,
    Script,
    Talk,
    frame,
    serve_targets,
    talking,
)
from tests.support.hub import turn
from tests.support.tls import check_whole

pytestmark = pytest.mark.usefixtures("bounded")


def answered(*lines: Fields, body: bytes = b"") -> Script:
    """Returns a script that answers with these header blocks; the body follows the last one."""

    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        for block in lines[:-1]:
            talk.headers(request.stream, block)
        talk.headers(request.stream, lines[-1], end=not body)
        if body:
            talk.data(request.stream, body, end=True)
        talk.wait_closed()

    return script


OK = [(":status", "200")]


@pytest.mark.parametrize("statuses", [["103"], ["100"], ["102", "103", "103"], ["199"], ["103"] * 20])
def test_interim_responses_are_skipped(statuses: list[str]) -> None:
    script = answered(*([(":status", status), ("x-early", "1")] for status in statuses), OK, body=b"body")
    with talking(script) as (_, client):
        response = client.get("/")
        assert (response.status_code, response.read()) == (200, b"body")
        assert "x-early" not in response


@pytest.mark.parametrize("count", [1000, 1001])
def test_interim_responses_are_counted(count: int) -> None:
    script = answered(*[[(":status", "102")]] * count, OK, body=b"body")
    with talking(script, serve_targets) as (_, client):
        if count == 1000:
            assert client.get("/").read() == b"body"
            return
        with pytest.raises(HTTPParseError, match="more than 1000"):
            client.get("/")
        check_whole(client)


@pytest.mark.parametrize("count", [65, 66])
def test_interim_responses_are_bounded_by_their_bytes(count: int) -> None:
    # A field counts 32 bytes besides its name and value (RFC 9113 section 6.5.2).
    head = [(":status", "103"), ("link", "x" * (16_036 - 36))]
    script = answered(*[head] * count, OK, body=b"body")
    with talking(script, serve_targets) as (_, client):
        if count == 65:
            assert client.get("/").read() == b"body"
            return
        with pytest.raises(HTTPParseError, match="more than 1048576 bytes"):
            client.get("/")
        check_whole(client)


def test_interim_responses_are_counted_for_each_request() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        while request := talk.read_request():
            for _ in range(1000):
                talk.headers(request.stream, [(":status", "103")])
            talk.respond(request, b"ok")

    with talking(script) as (peer, client):
        assert [client.get("/").read() for _ in range(3)] == [b"ok"] * 3
        assert len(peer.conns) == 1


def test_interim_responses_during_an_upload_are_skipped() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_head()
        talk.headers(request.stream, [(":status", "103")])
        talk.respond(talk.read_request(), b"%d" % len(request.body))
        talk.wait_closed()

    with talking(script) as (_, client):
        assert client.post("/", b"x" * 200_000).read() == b"200000"


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_head_in_any_number_of_frames_is_read(pieces: int) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200"), *((f"x-{n}", "y" * n) for n in range(30))], pieces=pieces)
        talk.body(request.stream, b"body", end=False)
        talk.headers(request.stream, [("x-sum", "4")], end=True, pieces=pieces)
        talk.wait_closed()

    with talking(script) as (_, client):
        response = client.get("/")
        assert [response[f"x-{n}"] for n in range(30)] == ["y" * n for n in range(30)]
        assert (response.read(), list(response.trailers.items())) == (b"body", [("x-sum", "4")])


def test_fields_of_a_response_are_returned() -> None:
    fields = [*OK, ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-empty", ""), ("x-utf-8", "ü"), ("x-list", "a, b")]
    with talking(answered(fields, body=b"ok")) as (_, client):
        response = client.get("/")
        assert response.read() == b"ok"
        assert response["set-cookie"] == ["a=1", "b=2"]
        assert (response["x-empty"], response["x-list"]) == ("", "a, b")
        assert ":status" not in response
        assert list(response.trailers.items()) == []


def test_response_with_forty_kilobytes_of_fields_is_read() -> None:
    fields = [*OK, *((f"x-{n}", "y" * 1000) for n in range(40))]
    with talking(answered(fields)) as (_, client):
        response = client.get("/")
        assert [len(response[f"x-{n}"]) for n in range(40)] == [1000] * 40


@pytest.mark.parametrize("length", ["0", None, "10"])
def test_response_to_head_has_no_body(length: str | None) -> None:
    fields = [*OK, *([("content-length", length)] if length else [])]
    with talking(answered(fields)) as (_, client):
        response = client.head("/")
        assert (response.read(), response.get("content-length")) == (b"", length)
        check_whole(client)


@pytest.mark.parametrize("status", ["204", "304"])
def test_status_without_content_has_no_body(status: str) -> None:
    with talking(answered([(":status", status)])) as (_, client):
        response = client.get("/")
        assert (response.status_code, response.read()) == (int(status), b"")


def test_body_may_end_with_an_empty_frame() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, OK)
        talk.data(request.stream, b"")
        talk.data(request.stream, b"body")
        talk.data(request.stream, b"")
        talk.data(request.stream, end=True)
        talk.respond(talk.read_request())

    with talking(script) as (_, client):
        assert client.get("/").read() == b"body"
        assert client.get("/").read() == b"ok"


def test_padding_is_not_part_of_the_body() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, OK)
        for letter in (b"a", b"b"):
            talk.send(frame(0, 0x08, request.stream, b"\xff" + letter + bytes(255)))
        talk.send(frame(0, 0x09, request.stream, b"\x00"))
        talk.wait_closed()

    with talking(script) as (_, client):
        assert client.get("/").read() == b"ab"


def test_unknown_frames_are_ignored() -> None:
    """RFC 9113 section 5.5; settings likewise (section 6.5.2), and priorities."""

    def script(talk: Talk) -> None:
        talk.start({0xBEEF: 7, MAX_FRAME_SIZE: 16_384})
        request = talk.read_request()
        for stream in (0, request.stream, 2, 99):
            talk.send(frame(0xBE, 0xFF, stream, b"whatever"))
        talk.send(frame(2, 0, request.stream, b"\0\0\0\0\x10"))
        talk.respond(request)
        talk.wait_closed()

    with talking(script) as (_, client):
        assert client.get("/").read() == b"ok"


def test_ping_is_answered_while_the_connection_is_idle() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.respond(talk.read_request())
        for _ in range(5):
            talk.expect_alive()
        done.set()
        talk.wait_closed()

    done = Event()
    with talking(script) as (_, client):
        assert client.get("/").read() == b"ok"
        assert done.wait(5)


# ---------------------------------------------------------------- abandoned responses


def unread(how: str, client: HTTPClient) -> None:
    response = client.get("/")
    if how == "released":
        response.release()
    elif how == "left":
        with response:
            response.read(1)
    del response


@pytest.mark.parametrize("how", ["dropped", "released", "left"])
def test_abandoned_response_cancels_its_stream_alone(how: str) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, OK)
        talk.data(request.stream, b"begun")
        talk.expect_reset(request, CANCEL)
        talk.respond(talk.read_request(), b"next")
        talk.wait_closed()

    with talking(script) as (peer, client):
        unread(how, client)
        assert client.get("/").read() == b"next"
        assert len(peer.conns) == 1
        check_whole(client)


def test_reset_after_a_complete_response_is_ignored() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        for code in (NO_ERROR, CANCEL):
            request = talk.read_request()
            talk.respond(request, b"whole")
            talk.reset(request, code)
        talk.respond(talk.read_request(), b"next")
        talk.wait_closed()

    with talking(script) as (peer, client):
        first = client.get("/")
        turn()
        assert first.read() == b"whole"
        assert client.get("/").read() == b"whole"
        assert client.get("/").read() == b"next"
        assert len(peer.conns) == 1


def test_empty_frames_are_accepted() -> None:
    """Some servers send one whenever they have nothing to send: in an hour, there are many."""

    def script(talk: Talk) -> None:
        talk.start()
        while request := talk.read_request():
            talk.headers(request.stream, OK)
            for n in range(50):
                talk.data(request.stream, b"x" if n % 10 == 9 else b"")
                talk.send(frame(0, 0, request.stream) * 2)
            talk.data(request.stream, b"end", end=True)

    with talking(script) as (peer, client):
        assert [client.get("/").read() for _ in range(20)] == [b"xxxxxend"] * 20
        assert len(peer.conns) == 1


def test_many_cancelled_bodies_are_accepted() -> None:
    """Frames that were in flight when the streams were cancelled arrive late, and are ignored."""

    def script(talk: Talk) -> None:
        talk.start()
        given_up = []
        for _ in range(30):
            requests = talk.read_requests(100)
            given_up += requests
            for request in requests:
                talk.headers(request.stream, OK)
            for request in requests:
                talk.expect_reset(request, CANCEL)
        for request in given_up:
            talk.data(request.stream, b"late")
            talk.data(request.stream, b"later", end=True)
        talk.respond(talk.read_request(), b"next")
        talk.wait_closed()

    with talking(script) as (peer, client):
        for _ in range(30):
            for response in Pool(100).map(lambda _: client.get("/"), range(100)):
                response.release()
        assert client.get("/").read() == b"next"
        assert len(peer.conns) == 1
