"""Server-sent events and JSON lines in the bodies of responses."""

from __future__ import annotations

import copy
import gc
import gzip
import json
import pickle
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from random import Random
from typing import Any

import brotli
import gevent
import pytest
import zstandard
from gevent.event import Event

from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from geventhttpclient._core import EventReader, LineReader
from geventhttpclient.exceptions import (
    ContentTypeError,
    DecodingError,
    HTTPClientError,
    HTTPConnectionClosed,
    StreamFormatError,
)
from geventhttpclient.mock import MockResponse, MockTransport
from geventhttpclient.response import HTTPResponse
from geventhttpclient.sse import MOST_EVENT_BYTES, ServerSentEvent
from tests.support.http2_peer import Talk, talking
from tests.support.peer import Conn, Peer
from tests.vectors import EVENTS, EventVector

URL = "http://peer.test/stream"


def of_client(**options: Any) -> Any:
    return HTTPClient("peer.test", **options).get("/stream")


def of_agent(**options: Any) -> Any:
    return UserAgent(**options).urlopen(URL)


def of_session(**options: Any) -> Any:
    return Session(**options).get(URL)


def of_httpx(**options: Any) -> Any:
    client = httpx.Client(**options)
    return client.send(client.build_request("GET", URL), stream=True)


FACES: dict[str, Callable[..., Any]] = {
    "client": of_client,
    "agent": of_agent,
    "session": of_session,
    "httpx": of_httpx,
}
faces = pytest.mark.parametrize("face", FACES)

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


def response_of(face: str, pieces: list[bytes], content_type: str = "text/event-stream", **headers: str) -> Any:
    fields = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    transport = MockTransport(lambda request: MockResponse(200, fields, iter(pieces)))
    return FACES[face](transport=transport)


def events_of(vector: EventVector) -> list[ServerSentEvent]:
    return [ServerSentEvent(**event) for event in vector.events]


# ------------------------------------------------------------------------------------------------------------- events


@pytest.mark.parametrize("vector", EVENTS, ids=str)
def test_reader_gives_the_events_of_a_stream_in_any_pieces(vector: EventVector) -> None:
    for pieces in vector.divisions():
        reader = EventReader(MOST_EVENT_BYTES)
        events: list[ServerSentEvent] = []
        try:
            for piece in pieces:
                events.extend(reader.feed(piece))
        except StreamFormatError:
            assert vector.error == "too_large"
        else:
            assert vector.error is None
        assert events == events_of(vector)
        assert (reader.last_event_id, reader.retry, reader.number) == (vector.last_id, vector.last_retry, len(events))


@faces
@pytest.mark.parametrize("vector", EVENTS, ids=str)
def test_responses_give_the_events_of_a_stream(vector: EventVector, face: str) -> None:
    for pieces in ([vector.raw], vector.bytewise()):
        iterator = response_of(face, pieces).iter_events()
        assert list(islice(iterator, len(vector.events))) == events_of(vector)
        if vector.error is None:
            assert list(iterator) == []
            continue
        with pytest.raises(StreamFormatError, match="too large: more than 1048576 bytes") as caught:
            next(iterator)
        assert caught.value.number == len(vector.events) + 1


@faces
@pytest.mark.parametrize("coding", CODINGS)
def test_content_coding_is_decoded(coding: str, face: str) -> None:
    body = CODINGS[coding](b"data: 1\n\ndata: 2\n\n")
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        response = response_of(face, pieces, Content_Encoding=coding)
        assert [event.data for event in response.iter_events()] == ["1", "2"]


@faces
def test_event_comes_as_soon_as_it_was_flushed_through_its_coding(face: str, bounded: None) -> None:
    go_on = Event()
    coder = zlib.compressobj(wbits=31)

    def pieces() -> Iterator[bytes]:
        for number in (b"1", b"2"):
            yield coder.compress(b"data: %b\n\n" % number) + coder.flush(zlib.Z_SYNC_FLUSH)
            go_on.wait()
        yield coder.flush()

    def send(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n")
        conn.send(b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in pieces():
            conn.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        conn.send(b"0\r\n\r\n")

    with Peer(send) as peer, opened(face, peer) as response:
        events = response.iter_events()
        assert next(events).data == "1"
        go_on.set()
        assert [event.data for event in events] == ["2"]


class opened:
    """A response of a peer, whose client is closed at the end of the block."""

    def __init__(self, face: str, peer: Peer, target: str = "/stream", **options: Any) -> None:
        self.face, self.url, self.target, self.options = face, peer.url, target, options

    def __enter__(self) -> Any:
        url = self.url + self.target
        if self.face == "client":
            self.client: Any = HTTPClient.from_url(self.url, **self.options)
            return self.client.get(self.target)
        if self.face == "agent":
            self.client = UserAgent(**self.options)
            return self.client.urlopen(url)
        if self.face == "session":
            self.client = Session(**self.options)
            return self.client.get(url)
        self.client = httpx.Client(**self.options)
        return self.client.send(self.client.build_request("GET", url), stream=True)

    def __exit__(self, *_: object) -> None:
        self.client.close()


def streaming(
    *pieces: bytes | Callable[[], object], content_type: bytes = b"text/event-stream"
) -> Callable[[Conn], None]:
    """Returns a peer's script: a chunk for each piece, and calls of those that are functions; then it closes."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % content_type)
        for piece in pieces:
            if callable(piece):
                piece()
            else:
                conn.send(b"%x\r\n%b\r\n" % (len(piece), piece))

    return script


@faces
def test_each_event_comes_while_the_stream_goes_on(face: str, bounded: None) -> None:
    go_on = Event()
    script = streaming(b"data: 1\n\nda", go_on.wait, b"ta: 2\n\n", b"", go_on.wait)
    with Peer(script) as peer, opened(face, peer) as response:
        events = response.iter_events()
        assert next(events).data == "1"
        go_on.set()
        assert next(events).data == "2"
        assert list(events) == []


def test_each_event_comes_over_http2_while_the_stream_goes_on(bounded: None) -> None:
    go_on = Event()

    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        assert request is not None
        talk.headers(request.stream, [(":status", "200"), ("content-type", "text/event-stream")])
        talk.data(request.stream, b"data: 1\n\nda")
        go_on.wait()
        talk.data(request.stream, b"ta: 2\n\n", end=True)

    with talking(script) as (_, client):
        events = client.get("/stream").iter_events()
        assert next(events).data == "1"
        go_on.set()
        assert [event.data for event in events] == ["2"]


@faces
def test_loop_that_was_left_can_go_on(face: str) -> None:
    response = response_of(face, [b"data: 1\n\ndata: 2\n\ndata: 3\n\nda", b"ta: 4\n\n"])
    iterator = response.iter_events()
    assert next(iterator).data == "1"
    if face != "httpx":  # whose streams can be begun once
        iterator = response.iter_events()
    assert next(iterator).data == "2"
    assert [event.data for event in iterator] == ["3", "4"]


@faces
def test_stream_that_breaks_off_is_an_error_after_its_events(face: str) -> None:
    with Peer(streaming(b"data: 1\n\ndata: 2\n")) as peer, opened(face, peer) as response:
        events = response.iter_events()
        assert next(events).data == "1"
        with pytest.raises(HTTPClientError) as caught:
            next(events)
        assert isinstance(caught.value, httpx.RemoteProtocolError if face == "httpx" else HTTPConnectionClosed)


@faces
@pytest.mark.parametrize("content_type", ["application/json", "text/event-streams", "text/plain; text/event-stream"])
def test_another_type_is_an_error_that_names_it(content_type: str, face: str) -> None:
    script = streaming(b"{}", content_type=content_type.encode())
    with Peer(script) as peer, opened(face, peer) as response:
        with pytest.raises(ContentTypeError) as caught:
            response.iter_events()
        expected = f"response of {peer.url}/stream: expected text/event-stream, got {content_type!r} with status 200"
        assert str(caught.value) == expected
        assert caught.value.content_type == content_type
        assert response.isclosed() if face != "client" else not response._is_attached()


@faces
def test_no_type_is_an_error(face: str) -> None:
    with Peer() as peer, opened(face, peer) as response:
        with pytest.raises(ContentTypeError, match="got no Content-Type with status 200") as caught:
            response.iter_events()
        assert caught.value.content_type == ""


@pytest.mark.parametrize(
    "content_type", ["text/event-stream", "Text/Event-Stream ; charset=latin-1", "text/event-stream;"]
)
def test_parameters_of_the_type_have_no_effect(content_type: str) -> None:
    response = response_of("client", [b"data: \xc3\xa4\n\n"], content_type)
    assert [event.data for event in response.iter_events()] == ["ä"]


@faces
def test_too_large_event_is_an_error_that_closes_the_connection(face: str) -> None:
    script = streaming(b"data: 1\n\n", b"data: 0123456789")
    with Peer(script) as peer, opened(face, peer, "/stream?a=b") as response:
        events = response.iter_events(max_event_bytes=15)
        assert next(events).data == "1"
        with pytest.raises(StreamFormatError) as caught:
            next(events)
        assert str(caught.value) == f"event 2 of {peer.url}/stream?a=b: Server-sent event too large: more than 15 bytes"
        assert (caught.value.number, caught.value.url) == (2, f"{peer.url}/stream?a=b")
        assert isinstance(caught.value, ValueError)
        assert response.isclosed() if face != "client" else not response._is_attached()


@faces
def test_damaged_coding_is_an_error_that_names_the_event(face: str) -> None:
    coder = zlib.compressobj(wbits=31)
    good = coder.compress(b"data: 1\n\n") + coder.flush(zlib.Z_SYNC_FLUSH)
    response = response_of(face, [good, b"\xff" * 20], Content_Encoding="gzip")
    events = response.iter_events()
    assert next(events).data == "1"
    kind = httpx.DecodingError if face == "httpx" else DecodingError
    with pytest.raises(kind, match=None if face == "httpx" else r"event 2 of http://peer.test(:80)?/stream: "):
        next(events)


@pytest.mark.parametrize("face", ["agent", "session"])
def test_errors_show_no_password(face: str) -> None:
    transport = MockTransport(lambda request: MockResponse(200, {"Content-Type": "text/plain"}, b""))
    with (UserAgent if face == "agent" else Session)(transport=transport) as client:  # type: ignore[operator]
        url = "http://user:secret@peer.test/stream"
        response = client.urlopen(url) if face == "agent" else client.get(url)
        with pytest.raises(ContentTypeError) as caught:
            response.iter_events()
    assert "secret" not in str(caught.value)
    assert "peer.test/stream" in str(caught.value)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "1", None])
@pytest.mark.parametrize("method", ["iter_events", "iter_json_lines"])
def test_limit_that_is_none_is_refused_by_name(method: str, limit: Any) -> None:
    response = response_of("client", [b""])
    name = "max_event_bytes" if method == "iter_events" else "max_line_bytes"
    with pytest.raises((TypeError, ValueError), match=name):
        getattr(response, method)(**{name: limit})


@faces
def test_killed_greenlet_frees_its_connection(face: str, bounded: None) -> None:
    begun, never = Event(), Event()
    with Peer(streaming(b"data: 1\n\n", never.wait)) as peer, opened(face, peer) as response:

        def follow() -> None:
            for _ in response.iter_events():
                begun.set()

        greenlet = gevent.spawn(follow)
        begun.wait()
        greenlet.kill()
        assert response.isclosed() if face != "client" else not response._is_attached()
        never.set()


def test_events_of_a_response_that_is_fed() -> None:
    response = HTTPResponse()
    response.feed(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\ndata: ")
    assert [event.data for event in response.iter_events()] == ["1"]
    response.feed(b"2\n\n")
    assert [event.data for event in response.iter_events()] == ["2"]


@faces
def test_events_of_content_that_was_read_come_once(face: str) -> None:
    response = response_of(face, [b"data: 1\n\ndata: 2\n\n"])
    if face != "client":
        assert response.content == b"data: 1\n\ndata: 2\n\n"
    assert next(response.iter_events()).data == "1"
    assert [event.data for event in response.iter_events()] == ["2"]
    assert list(response.iter_events()) == []


@pytest.mark.parametrize("face", ["client", "agent", "session"])
@pytest.mark.parametrize("coding", ["", *CODINGS])
def test_loop_that_was_left_can_go_on_in_a_large_body(coding: str, face: str) -> None:
    random = Random(1)
    wanted = [f"{random.getrandbits(2048):0512x}" for _ in range(600)]  # is not compressed to one piece
    body = b"".join(b"data: %b\n\n" % data.encode() for data in wanted)
    body = CODINGS[coding](body) if coding else body
    headers = {"Content_Encoding": coding} if coding else {}
    response = response_of(face, [body[at : at + 10_000] for at in range(0, len(body), 10_000)], **headers)
    assert [next(response.iter_events()).data for _ in wanted] == wanted
    assert list(response.iter_events()) == []


def test_response_whose_events_were_left_is_released_when_it_is_dropped() -> None:
    never = Event()
    gc.disable()
    try:
        with Peer(streaming(b"data: 1\n\n", never.wait)) as peer, closing(HTTPClient.from_url(peer.url)) as client:
            response = client.get("/stream")
            assert next(response.iter_events()).data == "1"
            assert client.statistics()["in_use"] == 1
            del response
            assert client.statistics()["in_use"] == 0
            never.set()
    finally:
        gc.enable()


@pytest.mark.parametrize("face", ["client", "agent", "session"])
def test_bytes_that_decode_to_many_let_other_greenlets_run(face: str) -> None:
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    response = response_of(face, [brotli.compress(b"\n" * (16 << 20))], Content_Encoding="br")
    greenlet = gevent.spawn(count)
    assert list(response.iter_events()) == []
    greenlet.kill()
    assert turns >= 8


def test_response_that_was_read_in_part_can_be_pickled() -> None:
    response = response_of("session", [b"data: 1\n\ndata: 2\n\n"])
    assert next(response.iter_events()).data == "1"
    assert pickle.loads(pickle.dumps(response)).content == b""


# ------------------------------------------------------------------------------------------------ ServerSentEvent


def test_event_has_the_defaults_of_the_standard() -> None:
    event = ServerSentEvent()
    assert (event.event, event.data, event.id, event.retry) == ("message", "", "", None)


def test_event_is_a_value() -> None:
    event = ServerSentEvent("add", "1", "7", 3000)
    assert repr(event) == "ServerSentEvent(event='add', data='1', id='7', retry=3000)"
    assert repr(ServerSentEvent()) == "ServerSentEvent(event='message', data='', id='', retry=None)"
    twin = ServerSentEvent(event="add", data="1", id="7", retry=3000)
    assert event == twin
    assert hash(event) == hash(twin)
    others = [
        ServerSentEvent(),
        ServerSentEvent("add", "1", "7"),
        ServerSentEvent("add", "2", "7", 3000),
        ("add",),
        None,
    ]
    assert all(event != other for other in others)
    for copied in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
        assert copied == event
    with pytest.raises(AttributeError):
        event.data = "2"  # type: ignore[misc]


def test_event_data_as_json() -> None:
    assert ServerSentEvent(data='{"a": [1, "ä"]}').json() == {"a": [1, "ä"]}
    for data in ("", "[DONE]", "{"):
        with pytest.raises(json.JSONDecodeError) as caught:
            ServerSentEvent(data=data).json()
        assert isinstance(caught.value, HTTPClientError)
    with pytest.raises(HTTPClientError, match="nested too deeply"):
        ServerSentEvent(data="[" * 100_000).json()


def test_events_share_their_id() -> None:
    events = list(EventReader(100).feed(b"id: a-long-id\ndata: 1\n\ndata: 2\n\n"))
    assert events[0].id is events[1].id


def test_reader_takes_the_id_of_the_connection_before() -> None:
    reader = EventReader(100, last_event_id="7")
    assert [event.id for event in reader.feed(b"data: 1\n\nid: 8\ndata: 2\n\n")] == ["7", "8"]


@pytest.mark.parametrize("reader", [EventReader(100), LineReader(100)], ids=["events", "lines"])
def test_reader_refuses_bytes_before_the_last_were_read(reader: Any) -> None:
    next(reader.feed(b"data: 1\n\ndata: 2\n\n"))
    with pytest.raises(ValueError, match="before the items of the last bytes were read"):
        reader.feed(b"data: 3\n\n")


# ---------------------------------------------------------------------------------------------------------- JSON lines

LINES = b'{"a": 1}\n\n[2]\r\n \t\r\n"\xc3\xa4"\nnull\n5'
VALUES = [{"a": 1}, [2], "ä", None, 5]


@faces
@pytest.mark.parametrize("coding", ["", *CODINGS])
def test_values_of_json_lines(coding: str, face: str) -> None:
    body = CODINGS[coding](LINES) if coding else LINES
    headers = {"Content_Encoding": coding} if coding else {}
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        response = response_of(face, pieces, "application/x-ndjson", **headers)
        assert list(response.iter_json_lines()) == VALUES


def test_values_of_json_lines_after_a_byte_order_mark() -> None:
    assert list(response_of("client", [b"\xef\xbb\xbf1\n2\n"]).iter_json_lines()) == [1, 2]


@faces
def test_each_value_comes_while_the_stream_goes_on(face: str, bounded: None) -> None:
    go_on = Event()
    script = streaming(b"1\n2", go_on.wait, b"3\n", b"", content_type=b"application/jsonl")
    with Peer(script) as peer, opened(face, peer) as response:
        values = response.iter_json_lines()
        assert next(values) == 1
        go_on.set()
        assert list(values) == [23]


@faces
@pytest.mark.parametrize("line", [b"{", b"nul", b"\xff", b"1 2", b'"' + b"x" * 1000])
def test_line_that_is_not_json_is_an_error_with_its_number_and_first_bytes(line: bytes, face: str) -> None:
    script = streaming(b"1\n\n" + line + b"\n2\n", content_type=b"application/jsonl")
    with Peer(script) as peer, opened(face, peer) as response:
        values = response.iter_json_lines()
        assert next(values) == 1
        with pytest.raises(StreamFormatError, match=re.escape(f"line 3 of {peer.url}/stream: ")) as caught:
            next(values)
        assert repr(line[:60]) in str(caught.value)
        assert len(str(caught.value)) < 300
        assert (caught.value.number, caught.value.url) == (3, f"{peer.url}/stream")
        assert response.isclosed() if face != "client" else not response._is_attached()


@faces
def test_line_that_is_too_long_is_an_error(face: str) -> None:
    response = response_of(face, [b"12345\r\n", b"123456\n"])
    values = response.iter_json_lines(max_line_bytes=5)
    assert next(values) == 12345
    with pytest.raises(StreamFormatError, match=r"^line 2 .*Line too long: more than 5 bytes$"):
        next(values)


@pytest.mark.parametrize("face", ["client", "agent", "session"])
def test_loop_over_json_lines_that_was_left_can_go_on(face: str) -> None:
    response = response_of(face, [b"1\n2\n3\n", b"4"])
    assert next(response.iter_json_lines()) == 1
    assert next(response.iter_json_lines()) == 2
    assert list(response.iter_json_lines()) == [3, 4]
    assert list(response.iter_json_lines()) == []


# ---------------------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize("face", ["client", "agent", "session"])
@pytest.mark.parametrize("coding", ["", *CODINGS])
def test_lines_end_with_any_line_end(face: str, coding: str) -> None:
    text = b"a\nb\r\nc\r\n\nd\re"
    body = CODINGS[coding](text) if coding else text
    headers = {"Content_Encoding": coding} if coding else {}
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        assert list(response_of(face, pieces, **headers).iter_lines()) == [b"a", b"b", b"c", b"", b"d", b"e"]


@pytest.mark.parametrize("face", ["client", "agent", "session"])
def test_lines_end_with_a_delimiter_alone(face: str) -> None:
    for delimiter in ("--", b"--"):
        response = response_of(face, [b"a\nb--c-", b"-d"])
        assert list(response.iter_lines(delimiter=delimiter)) == [b"a\nb", b"c", b"d"]
    with pytest.raises(ValueError, match="delimiter must not be empty"):
        response.iter_lines(delimiter="")


def test_lines_of_a_client_come_while_the_stream_goes_on(bounded: None) -> None:
    go_on = Event()
    script = streaming(b"a\nb", go_on.wait, b"c\n", b"")
    with Peer(script) as peer, closing(HTTPClient.from_url(peer.url)) as client:
        lines = client.get("/").iter_lines()
        assert next(lines) == b"a"
        go_on.set()
        assert list(lines) == [b"bc"]
