"""Responses without a connection, as programs construct them for their tests: fed, patched, faked and mocked."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import pytest

from geventhttpclient import Session, UserAgent, httpx
from geventhttpclient.header import Headers
from geventhttpclient.requests import RequestsRequest, RequestsResponse
from geventhttpclient.response import HTTPResponse, HTTPSocketPoolResponse, HTTPSocketResponse
from geventhttpclient.useragent import BadStatusCode, CompatResponse

pytestmark = pytest.mark.usefixtures("bounded")

BODY = b"one\r\ntwo\nthree\rfour"
FIELDS = {"Content-Type": "text/plain; charset=utf-8", "Set-Cookie": "a=b", "Link": "</next>; rel=next"}


def wire(body: bytes = BODY, status: str = "200 Fine", **fields: str) -> bytes:
    named = {**FIELDS, "Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in fields.items()}}
    return (
        f"HTTP/1.1 {status}\r\n".encode()
        + b"".join(f"{k}: {v}\r\n".encode() for k, v in named.items())
        + b"\r\n"
        + body
    )


def fed(raw: bytes) -> HTTPResponse:
    response = HTTPResponse()
    response.feed(raw)
    return response


class WithReadOfItsOwn(HTTPResponse):
    def read(self, length: int | None = None) -> bytes:
        data = bytes(self._body_buffer[:length])
        del self._body_buffer[: len(data)]
        return data


def fed_subclass(raw: bytes) -> HTTPResponse:
    response = WithReadOfItsOwn()
    response.feed(raw)
    return response


class Unconnected(HTTPSocketPoolResponse):
    def _read_headers(self, *_: Any) -> None:
        pass


def fed_pool_response(raw: bytes) -> HTTPResponse:
    response = Unconnected("dummy socket", None)
    response.feed(raw)
    return response


class Fake:
    """A response with only the attributes that 2.6.1 uses."""

    message_complete = True
    status_message = "Fine"
    version = "HTTP/1.1"

    def __init__(self, raw: bytes) -> None:
        parsed = fed(raw)
        self._headers_index = parsed.info()
        self.length = parsed.length
        self.get_code = parsed.get_code
        self._body = io.BytesIO(parsed.read())

    def read(self, n: int | None = None) -> bytes:
        return self._body.read(n)

    def readline(self) -> bytes:
        return self._body.readline()

    def __iter__(self) -> Any:
        return iter(self._body)

    def release(self) -> None:
        self._body.close()


def mock(raw: bytes) -> MagicMock:
    fake = Fake(raw)
    made = MagicMock(spec=HTTPSocketPoolResponse)
    made._headers_index = fake._headers_index
    made.length = fake.length
    made.status_message = "Fine"
    made.get_code.side_effect = fake.get_code
    made.read.side_effect = fake.read
    made.readline.side_effect = lambda *_: fake.readline()
    made.__iter__.side_effect = fake.__iter__
    return made


MAKERS = pytest.mark.parametrize("make", [fed, fed_subclass, fed_pool_response, Fake, mock])

# Attributes of a Session response that are read.
READS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "content": (lambda r: r.content, BODY),
    "data": (lambda r: r.data, BODY),
    "text": (lambda r: r.text, BODY.decode()),
    "read": (lambda r: r.read(), BODY),
    "read(n)": (lambda r: (r.read(4), r.read()), (BODY[:4], BODY[4:])),
    "readline": (lambda r: r.readline(), b"one\r\n"),
    "raw": (lambda r: r.raw.read(), BODY),
    "stream": (lambda r: r.stream.read(3), BODY[:3]),
    "iteration": (lambda r: b"".join(r), BODY),
    "iter_content": (lambda r: b"".join(r.iter_content()), BODY),
    "iter_content(n)": (lambda r: [len(piece) for piece in r.iter_content(8)], [8, 8, 3]),
    "iter_content(None)": (lambda r: b"".join(r.iter_content(None)), BODY),
    "iter_content as text": (lambda r: "".join(r.iter_content(3, decode_unicode=True)), BODY.decode()),
    "iter_lines": (lambda r: list(r.iter_lines()), [b"one", b"two", b"three", b"four"]),
    "iter_lines of text": (lambda r: list(r.iter_lines(decode_unicode=True)), ["one", "two", "three", "four"]),
    "iter_lines by delimiter": (lambda r: list(r.iter_lines(delimiter=b"\n")), [b"one\r", b"two", b"three\rfour"]),
    "content twice": (lambda r: (r.content, r.content, b"".join(r.iter_content(5))), (BODY, BODY, BODY)),
    "read, then iter_content": (lambda r: (r.read(3), b"".join(r.iter_content(2))), (BODY[:3], BODY[3:])),
}


@MAKERS
@pytest.mark.parametrize("read", READS)
def test_body_of_a_constructed_session_response_is_read(make: Any, read: str) -> None:
    call, expected = READS[read]
    assert call(RequestsResponse(make(wire()), RequestsRequest("http://a.test/"))) == expected


@MAKERS
@pytest.mark.parametrize("size", [0, -1, True, 1.5, "1"])
def test_iter_content_of_less_than_a_byte_yields_single_bytes(make: Any, size: Any) -> None:
    pieces = list(RequestsResponse(make(wire())).iter_content(size))
    assert {len(piece) for piece in pieces} == {1}
    assert b"".join(pieces) == BODY


@MAKERS
def test_content_coding_of_a_constructed_response_is_decoded(make: Any) -> None:
    raw = wire(gzip.compress(BODY), Content_Encoding="gzip")
    assert RequestsResponse(make(raw)).content == CompatResponse(make(raw)).content == BODY
    assert httpx.Response(make(raw)).content == b"".join(httpx.Response(make(raw)).iter_bytes(7)) == BODY
    assert [len(piece) for piece in RequestsResponse(make(raw)).iter_content(8)] == [8, 8, 3]
    assert list(RequestsResponse(make(raw)).iter_lines()) == [b"one", b"two", b"three", b"four"]


@MAKERS
def test_json_of_a_constructed_response_is_read(make: Any) -> None:
    raw = wire(b'{"a": 1}', Content_Type="application/json")
    assert RequestsResponse(make(raw)).json() == CompatResponse(make(raw)).json() == {"a": 1}
    assert httpx.Response(make(raw)).json() == {"a": 1}


@MAKERS
def test_constructed_session_response_has_the_attributes_of_its_head(make: Any) -> None:
    response = RequestsResponse(make(wire(status="301 Fine", Location="/there")), RequestsRequest("http://a.test/"))
    assert (response.status_code, response.reason, response.status, response.ok) == (301, "Fine", "301", True)
    assert response.is_redirect
    assert response.is_permanent_redirect
    assert response.encoding == "utf-8"
    assert response.links == {"next": {"url": "/next", "rel": "next"}}
    assert response.cookies["a"] == "b"
    assert len(response) == len(BODY)
    assert response.headers["content-type"] == response.info()["Content-Type"] == FIELDS["Content-Type"]
    assert response.history == []
    assert response.isclosed()
    assert response.timings is not None
    response.raise_for_status()
    with response:
        response.close()
    response.release()


@MAKERS
def test_constructed_httpx_response_is_read(make: Any) -> None:
    def made() -> httpx.Response:
        return httpx.Response(make(wire()))

    assert made().read() == made().content == BODY
    assert made().text == BODY.decode()
    assert b"".join(made().iter_raw()) == b"".join(made().iter_bytes()) == b"".join(made().iter_raw(3)) == BODY
    assert "".join(made().iter_text(2)) == BODY.decode()
    assert list(made().iter_lines()) == ["one", "two", "three", "four"]
    assert (made().reason_phrase, made().charset_encoding, made().is_closed) == ("Fine", "utf-8", True)
    made().close()


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize("read", ["iter_raw", "iter_bytes", "iter_text"])
def test_httpx_pieces_of_less_than_a_byte_are_single_bytes(read: str, size: int) -> None:
    pieces = list(getattr(httpx.Response(fed(wire())), read)(size))
    assert len(pieces) == len(BODY)


def test_fed_response_returns_the_fed_data() -> None:
    raw = wire()
    response = fed(raw[:-4])
    assert response.read() == BODY[:-4]
    assert not response.message_complete
    response.feed(raw[-4:])
    assert (response.read(2), response.readline(), response.read()) == (b"fo", b"ur", b"")
    assert response.message_complete


def test_fed_response_of_many_small_reads_is_not_quadratic() -> None:
    size = 1 << 20
    response = fed(wire(bytes(size)))
    assert sum(1 for _ in iter(lambda: response.read(1), b"")) == size


def test_response_without_a_head_can_be_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HTTPSocketResponse, "_read_headers", lambda self, *_: None)
    response = HTTPSocketResponse("dummy socket", method="head")
    response.feed("HTTP/1.1 404 Gone\r\nContent-Length: 3\r\nX-A: b\r\n\r\n")
    assert (response.status_code, response.status_message, response.version) == (404, "Gone", "HTTP/1.1")
    assert response.message_complete
    assert response.headers_complete
    assert response["x-a"] == response.get("X-A") == "b"
    assert response.read() == b""
    assert response.should_keep_alive()
    assert not response.should_close()
    assert response.method == "HEAD"
    response.release()


def test_body_buffer_of_a_bare_response_is_read() -> None:
    response = HTTPSocketPoolResponse.__new__(HTTPSocketPoolResponse)
    response._body_buffer = bytearray(b"one\ntwo")
    assert (response.read(1), response.readline(b"\n"), response.read(), response.read()) == (
        b"o",
        b"ne\n",
        b"two",
        b"",
    )


def test_body_of_a_subclass_that_skips_its_constructor_is_read() -> None:
    class Skipping(HTTPSocketPoolResponse):
        def __init__(self) -> None:
            self._headers_index = Headers({"Content-Type": "text/plain"})
            self._body_buffer = bytearray(BODY)

        def get_code(self) -> int:
            return 201

    response = RequestsResponse(Skipping())
    assert (response.status_code, response.text) == (201, BODY.decode())


def test_read_of_a_subclass_is_used_for_streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HTTPSocketResponse, "_read_headers", lambda self, *_: None)
    sizes: list[Any] = []
    left = io.BytesIO(BODY)

    def read(self: Any, length: int | None = None) -> bytes:
        sizes.append(length)
        return left.read(length)

    monkeypatch.setattr(HTTPSocketResponse, "read", read)
    assert b"".join(RequestsResponse(HTTPSocketResponse("dummy socket")).iter_content(6)) == BODY
    assert set(sizes) == {6}


class Answering:
    """Replacement for the clients of an agent: each request gets the next of the responses."""

    client_args: dict[str, Any] = {}

    def __init__(self, *responses: Any) -> None:
        self.responses = list(responses)

    def get_client(self, *_: Any) -> Any:
        return self

    def request(self, *_: Any, **__: Any) -> Any:
        return self.responses.pop(0)

    def close(self) -> None:
        pass


@MAKERS
def test_agent_follows_redirects_of_constructed_responses(make: Any) -> None:
    moved = wire(b"moved", "302 Found", Location="/there", Set_Cookie="seen=1")
    with Session() as session:
        session.clientpool = Answering(make(moved), make(wire()))
        response = session.get("http://a.test/")
        assert (response.url, response.text) == ("http://a.test/there", BODY.decode())
        assert session.cookies["seen"] == "1"


@MAKERS
def test_agent_logs_a_bad_status_of_a_constructed_response(make: Any) -> None:
    with UserAgent() as agent:
        agent.clientpool = Answering(make(wire(status="404 Gone")))
        with pytest.raises(BadStatusCode) as raised:
            agent.urlopen("http://a.test/")
        assert raised.value.response.content == BODY  # type: ignore[attr-defined]
        assert BODY.decode() in raised.value.http_log  # type: ignore[attr-defined]
