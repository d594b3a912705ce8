"""MockTransport: the requests that its function gets, its responses, and clients on top of it."""

from __future__ import annotations

import http.cookiejar
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest

from geventhttpclient import HTTPClient, UserAgent
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.mock import MockRequest, MockResponse, MockTransport
from geventhttpclient.multipart import Multipart
from geventhttpclient.requests import Session
from geventhttpclient.response import HTTPConnectionClosed, HTTPSocketPoolResponse
from geventhttpclient.useragent import CompatResponse, RetriesExceeded


def answering(answer: Any) -> MockTransport:
    return MockTransport(lambda request: answer)


def client_of(handler: Callable[[MockRequest], Any], **options: Any) -> HTTPClient:
    return HTTPClient("example.test", transport=MockTransport(handler), **options)


# Requests that it receives


def test_request_has_the_fields_that_would_be_sent() -> None:
    transport = answering(MockResponse())
    client = HTTPClient("example.test", 8080, headers={"X-Own": "1"}, transport=transport)
    client.post("/a%20b?q=%C3%A4", b"body", {"x-more": "2"})
    (request,) = transport.requests
    assert request.method == "POST"
    assert request.url == "http://example.test:8080/a%20b?q=%C3%A4"
    assert (request.target, request.path, request.query) == ("/a%20b?q=%C3%A4", "/a%20b", "q=%C3%A4")
    assert request.body == b"body"
    assert request.headers["host"] == "example.test:8080"
    assert request.headers["content-length"] == "4"
    assert (request.headers["X-Own"], request.headers["X-More"]) == ("1", "2")
    assert request.timeouts == (5.0, 5.0, None, None)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://example.test", "https://example.test/x"),
        ("https://example.test:8443", "https://example.test:8443/x"),
        ("http://[::1]:81", "http://[::1]:81/x"),
    ],
)
def test_urls_are_absolute_and_https_takes_no_certificates(url: str, seen: str) -> None:
    transport = answering(MockResponse())
    response = HTTPClient.from_url(url, transport=transport).get("/x")
    assert response.tls is None
    assert transport.requests[0].url == seen


def test_mock_gets_the_timeouts_of_a_request() -> None:
    transport = answering(MockResponse())
    client = HTTPClient("example.test", transport=transport, pool_timeout=2)
    client.get("/", connection_timeout=1, network_timeout=None, total_timeout=4)
    assert transport.requests[0].timeouts == (1.0, None, 2.0, 4.0)


class Once(io.RawIOBase):
    """A file whose only method is read()."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(size)

    def tell(self) -> int:
        raise io.UnsupportedOperation


def test_every_kind_of_body_arrives_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"on disk")
    with (tmp_path / "file").open("rb") as file:
        file.read(3)
        for body, expected in [
            (None, b""),
            (b"bytes", b"bytes"),
            (bytearray(b"array"), b"array"),
            (memoryview(b"view"), b"view"),
            ("täxt", "täxt".encode()),
            (io.BytesIO(b"f" * 200_000), b"f" * 200_000),
            (io.StringIO("text"), b"text"),
            ((piece for piece in (b"a", b"b")), b"ab"),
            ([b"a", "b"], b"ab"),
            (file, b"disk"),
        ]:
            transport = answering(MockResponse())
            HTTPClient("example.test", transport=transport).post("/", body)
            assert transport.requests[0].body == expected
    transport = answering(MockResponse())
    form = Multipart(None, {"f": Once(b"only once")})
    HTTPClient("example.test", transport=transport).post("/", form, {"Content-Type": form.content_type})
    assert b"only once" in transport.requests[0].body
    assert transport.requests[0].headers["transfer-encoding"] == "chunked"


def test_requests_that_the_engine_refuses_are_refused() -> None:
    transport = answering(MockResponse())
    client = HTTPClient("example.test", transport=transport)
    for target, body, headers in [
        ("/", b"", {"X": "a\r\nb"}),
        ("/a b", b"", {}),
        ("http://other.test/", b"", {}),
        ("/", iter([b"abc"]), {"Content-Length": "2"}),
        ("/", b"abc", {"Content-Length": "2"}),
    ]:
        with pytest.raises(ValueError, match=r"."):
            client.post(target, body, headers)
    for nothing in [{"form": "field"}, 5]:
        with pytest.raises(TypeError, match="body must be"):
            client.post("/", nothing)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.get("/")
    assert transport.requests == []


def test_handler_must_be_callable_and_return_a_response() -> None:
    with pytest.raises(TypeError, match="handler"):
        MockTransport("not one")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="handler must return"):
        client_of(lambda request: "text").get("/")


# Responses


def test_responses_are_of_the_real_class() -> None:
    response = client_of(lambda request: (404, {"X-A": "1", "x-b": ["2", "3"]}, b"line 1\r\nline 2")).get("/")
    assert type(response) is HTTPSocketPoolResponse
    assert (response.status_code, response.status_message) == (404, "Not Found")
    assert (response["x-a"], response["X-B"]) == ("1", ["2", "3"])
    assert response.content_length == 14
    assert (response.readline(), response.read(3), response.read()) == (b"line 1\r\n", b"lin", b"e 2")
    assert response.message_complete
    assert response._sent_request.startswith("GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("block_size", [1, 7, 4096])
def test_bodies_of_any_kind(block_size: int) -> None:
    def read(answer: Any) -> tuple[Any, bytes]:
        response = client_of(lambda request: answer, block_size=block_size).get("/")
        return response.get("content-type"), response.read()

    assert read((200,)) == (None, b"")
    assert read((200, None, "täxt")) == ("text/plain; charset=utf-8", "täxt".encode())
    assert read((200, {"Content-Type": "x/y"}, "text")) == ("x/y", b"text")
    assert read(MockResponse(json=[])) == ("application/json", b"[]")
    assert read(MockResponse(json=None)) == ("application/json", b"null")
    assert read((200, {}, iter([b"one ", b"", b"two"]))) == (None, b"one two")
    assert read((200, {"content-length": "3"}, [b"ab", b"c"])) == (None, b"abc")
    assert read((200, {"Transfer-Encoding": "chunked"}, b"1\r\na\r\n0\r\n\r\n")) == (None, b"a")
    assert read(MockResponse(body=b"z" * 300_000)) == (None, b"z" * 300_000)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)])
def test_responses_without_a_body_have_none(method: str, status: int) -> None:
    body = b"as of a GET" if method == "HEAD" else b""
    response = client_of(lambda request: (status, {}, body)).request(method, "/")
    assert response.read() == b""
    assert response.message_complete
    assert response.content_length == (11 if method == "HEAD" else None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (MockResponse(204, body=b"body"), ValueError),
        (MockResponse(100), ValueError),
        (MockResponse(headers={"X": "a\r\nb: c"}), ValueError),
        (MockResponse(reason="a\nb"), ValueError),
        (MockResponse(body=b"a", json={}), ValueError),
        (MockResponse(body={"a": 1}), TypeError),  # type: ignore[arg-type]
        ((200, {}, b"", "more"), TypeError),
    ],
)
def test_responses_that_no_server_can_send_are_refused(answer: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        client_of(lambda request: answer).get("/")


def test_body_shorter_than_its_length_is_an_error() -> None:
    response = client_of(lambda request: (200, {"Content-Length": "5"}, b"abc")).get("/")
    with pytest.raises(HTTPConnectionClosed):
        response.read()


def test_unread_body_closes_its_iterator() -> None:
    closed = []

    def pieces() -> Iterator[bytes]:
        try:
            for number in range(1000):
                yield b"%d" % number
        finally:
            closed.append(True)

    with client_of(lambda request: (200, {}, pieces())).get("/") as response:
        assert response.read(3) == b"012"
        assert not closed
    assert closed


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), TimeoutError("slow"), KeyError("own")])
def test_exception_of_the_handler_is_raised(error: Exception) -> None:
    def fail(request: MockRequest) -> MockResponse:
        raise error

    with pytest.raises(type(error)) as caught:
        client_of(fail).get("/")
    assert caught.value is error


def test_exception_of_a_body_is_raised_by_its_reader() -> None:
    error = ConnectionResetError(104, "reset")

    def pieces() -> Iterator[bytes]:
        yield b"begin"
        raise error

    response = client_of(lambda request: (200, {}, pieces())).get("/")
    assert response.read(5) == b"begin"
    with pytest.raises(ConnectionResetError) as caught:
        response.read()
    assert caught.value is error


def test_handlers_and_bodies_may_wait() -> None:
    order = []
    go = gevent.event.Event()

    def pieces() -> Iterator[bytes]:
        yield b"a"
        go.wait(10)
        yield b"b"

    def answer(request: MockRequest) -> MockResponse:
        if request.path == "/wait":
            go.wait(10)
        order.append(request.path)
        return MockResponse(body=pieces())

    client = client_of(answer)
    waiting = gevent.spawn(lambda: client.get("/wait").read())
    gevent.idle()
    response = client.get("/now")
    assert response.read(1) == b"a"
    go.set()
    assert response.read() == b"b"
    assert waiting.get(10) == b"ab"
    assert order == ["/now", "/wait"]


def test_gevent_timeout_reaches_the_caller() -> None:
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        client_of(lambda request: gevent.sleep(10)).get("/")


def test_one_transport_serves_many_clients() -> None:
    transport = MockTransport(lambda request: MockResponse(body=request.url))
    with HTTPClientPool(transport=transport) as pool:
        for url in ("http://a.test/", "https://a.test/", "http://b.test:81/"):
            assert pool.get_client(url).get("/").read().decode() == url
    assert len(transport.requests) == 3


# Clients on top of the transport


def test_agent_follows_redirects_and_keeps_cookies() -> None:
    def answer(request: MockRequest) -> MockResponse:
        if request.path == "/login":
            return MockResponse(303, {"Location": "https://example.test/home", "Set-Cookie": "id=7; Path=/"})
        return MockResponse(json={"cookie": request.headers.get("cookie"), "method": request.method})

    transport = MockTransport(answer)
    with UserAgent(transport=transport, cookiejar=http.cookiejar.CookieJar()) as agent:
        response = agent.urlopen("http://example.test/login", "POST", payload={"user": "me"})
    assert isinstance(response, CompatResponse)
    assert response.json() == {"cookie": "id=7", "method": "GET"}
    assert [past.status_code for past in response.history] == [303]
    assert [request.url for request in transport.requests] == ["http://example.test/login", "https://example.test/home"]
    assert transport.requests[0].body == b"user=me"


def test_agent_retries() -> None:
    failures: list[Exception] = [TimeoutError("slow"), ConnectionResetError(104, "reset")]

    def answer(request: MockRequest) -> MockResponse:
        if failures:
            raise failures.pop()
        return MockResponse(body=b"there")

    transport = MockTransport(answer)
    assert UserAgent(transport=transport).urlopen("http://example.test/", to_string=True) == b"there"
    assert len(transport.requests) == 3


def test_agent_gives_up() -> None:
    def answer(request: MockRequest) -> MockResponse:
        raise TimeoutError("slow")

    transport = MockTransport(answer)
    with pytest.raises(RetriesExceeded) as caught:
        UserAgent(transport=transport, max_retries=1).urlopen("http://example.test/")
    assert isinstance(caught.value.original, TimeoutError)  # type: ignore[attr-defined]
    assert len(transport.requests) == 2


def test_session_uses_the_transport_for_all_its_clients() -> None:
    transport = MockTransport(lambda request: MockResponse(body=request.url))
    with Session(transport=transport) as session:
        assert session.get("http://example.test/x", params={"a": 1}).text == "http://example.test/x?a=1"
        assert session.get("https://example.test/", verify=False, timeout=1).text == "https://example.test/"
    assert transport.requests[1].timeouts[:2] == (1.0, 1.0)


def test_content_is_decoded() -> None:
    body = zlib.compress(json.dumps({"a": 1}).encode())
    agent = UserAgent(transport=answering((200, {"Content-Encoding": "deflate"}, body)))
    assert agent.urlopen("http://example.test/").json() == {"a": 1}


def test_sent_json_can_be_read() -> None:
    transport = answering(MockResponse())
    HTTPClient("example.test", transport=transport).post("/", '{"a": [1]}')
    assert transport.requests[0].json() == {"a": [1]}
