"""One origin: clients, their responses, pools, hooks, timings, the mock transport.

Code for TLS, HTTP/2, proxies and name resolution is in ways.py.
"""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from typing_extensions import Unpack, assert_type

import geventhttpclient
from geventhttpclient import HTTPClient, HTTPParseError, client, connectionpool, hooks, mock, response, timings
from geventhttpclient.header import Headers, HeadersDataType
from geventhttpclient.tls import TLSInfo


class Bounded(HTTPClient):
    """A client of a program's own: arguments are handed on with their names."""

    def get(
        self,
        request_uri: str,
        headers: HeadersDataType | None = None,
        **options: Unpack[client.Options],
    ) -> client.HTTPSocketPoolResponse:
        options.setdefault("total_timeout", 10.0)
        return super().get(request_uri, headers, **options)


class Pinned(client.ConnectionPool):
    """A pool that knows its addresses, as programs have made them for years."""

    asked = 0

    def _resolve(self) -> list[tuple[Any, ...]]:
        Pinned.asked += 1
        return super()._resolve()


def main(url: str) -> None:
    assert_type(geventhttpclient.__version__, str)
    with HTTPClient.from_url(url, concurrency=2) as plain:
        assert_type(plain, HTTPClient)
        assert_type(plain.statistics(), dict[str, Any])
        reading(plain)
    with HTTPClient("api.example.org", transport=mock.MockTransport(lambda _: (200, {}, "[]"))) as unreal:
        verbs(unreal)
    with Bounded.from_url(url) as bounded:
        assert_type(bounded, Bounded)
        assert bounded.get("/page", network_timeout=5).status_code == 200
    pools(url)
    hooked(url)
    mocked()
    fed()
    constants()


def verbs(unreal: HTTPClient) -> None:
    patience: client.Timeouts = {"connection_timeout": 5, "pool_timeout": None}
    body: client.Body = b"hello"
    for answer in (
        unreal.request(client.METHOD_POST, "/echo", body, {"A": "b"}, trailers={"X-Sum": "1"}, **patience),
        unreal.post("/echo", body, headers=[("A", "b")], network_timeout=2.5),
        unreal.put("/echo", body),
        unreal.patch("/echo", iter([b"hel", b"lo"])),
        unreal.delete("/page"),
        unreal.options("/page"),
        unreal.head("/page"),
        unreal.trace("/page"),
    ):
        assert_type(answer, client.HTTPSocketPoolResponse)
        answer.release()


def reading(plain: HTTPClient) -> None:
    answer = plain.get("/page", Headers({"A": "b"}))
    assert_type(answer, response.HTTPSocketPoolResponse)
    assert_type(answer.status_code, int)
    assert_type(answer.status_message, str | None)
    assert_type(answer.method, str)
    assert_type(answer.version, str)
    assert_type(answer.headers, response.ResponseHeaders)
    assert_type(dict(answer.headers), dict[str, Any])
    assert_type(next(iter(answer.headers)), tuple[str, Any])
    lines: Iterator[tuple[str, Any]] = answer.headers
    assert_type(next(lines), tuple[str, Any])
    assert_type(answer.info(), Headers)
    assert_type(answer.trailers, Headers)
    assert_type(answer.content_length, int | None)
    assert_type(answer.tls, TLSInfo | None)
    assert_type(answer.read(), bytes)
    took = answer.timings
    assert_type(took, timings.Timings)
    assert_type(took.total, float | None)
    assert_type(took.pool, float)
    assert_type(took.peer, tuple[str, int] | str | None)
    assert_type(took.reused, bool)
    with plain.get("/bytes/10000") as streamed:
        assert_type(streamed, response.HTTPSocketPoolResponse)
        assert_type(streamed.readline(), bytes)
        assert_type(streamed.readinto(bytearray(10)), int)
        for piece in streamed:
            assert_type(piece, bytes)


def pools(url: str) -> None:
    assert_type(client.DEFAULT_MAX_CLIENTS, int)
    assert_type(client.DEFAULT_MAX_IDLE_CONNECTIONS, int)
    options: client.ClientOptions = {"concurrency": 2, "headers": {"A": "b"}}
    with client.HTTPClientPool(max_clients=10, max_idle_connections=20, **options) as origins:
        assert_type(origins.max_idle_connections, int)
        assert_type(origins, client.HTTPClientPool)
        assert_type(origins.get_client(url), HTTPClient)
    usual = client.ConnectionPool
    # As programs do that have no other way.
    client.ConnectionPool = Pinned  # type: ignore[misc]
    try:
        with HTTPClient.from_url(url) as pinned:
            assert pinned.get("/page").read()
            assert Pinned.asked == 1
    finally:
        client.ConnectionPool = usual  # type: ignore[misc]
    assert issubclass(client.SSLConnectionPool, connectionpool.ConnectionPool)
    assert client.SSLConnectionPool is connectionpool.SSLConnectionPool
    assert_type(connectionpool.DEFAULT_CONNECTION_TIMEOUT, float)
    assert_type(connectionpool.DEFAULT_NETWORK_TIMEOUT, float)
    assert_type(connectionpool.DEFAULT_IDLE_TIMEOUT, float)


def hooked(url: str) -> None:
    def stamp(request: hooks.Request) -> None:
        assert_type(request.headers, Headers)
        assert_type(request.state, dict[str, Any])
        request.headers["X-Request-Id"] = f"{request.method} {request.url}"

    def opened(connection: hooks.Connection) -> None:
        assert_type(connection.peer, tuple[str, int] | str | None)
        assert_type(connection.tls_handshake, float | None)
        seen.append(connection.protocol)

    def answered(request: hooks.Request, answer: client.HTTPSocketPoolResponse) -> None:
        seen.append(f"{request.method} {answer.status_code}")

    def failed(request: hooks.Request, error: BaseException) -> None:
        seen.append(f"{request.method} {error}")

    seen: list[str] = []
    before: hooks.OnRequest = stamp
    after: hooks.OnResponse = answered
    fail: hooks.OnError = failed
    new: hooks.HookOrHooks[hooks.OnConnection] = [opened]
    with HTTPClient.from_url(url, on_request=before, on_response=[after], on_error=fail, on_connection=new) as told:
        told.get("/page").read()
    assert seen == ["HTTP/1.1", "GET 200"]
    everywhere = hooks.Hooks(on_request=before)
    hooks.add_default(everywhere)
    hooks.remove_default(everywhere)


def mocked() -> None:
    def answer(request: mock.MockRequest) -> mock.MockResponse:
        assert_type(request.body, bytes)
        assert_type(request.query, str)
        return mock.MockResponse(201, {"A": "b"}, json={"path": request.path})

    transport = mock.MockTransport(answer)
    with HTTPClient("api.example.org", transport=transport) as unreal:
        assert unreal.post("/x", b"y").read() == b'{"path": "/x"}'
    assert_type(transport.requests, list[mock.MockRequest])


class Lines(response.HTTPResponse):
    """A parser's events, as a subclass overrides them."""

    def _on_body(self, data: bytearray) -> None:
        super()._on_body(data.upper())


def fed() -> None:
    parsed = Lines("get", headers_type=Headers)
    parsed.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert_type(parsed.get_code(), int)
    assert_type(parsed.should_close(), bool)
    assert_type(parsed.items(), list[tuple[str, Any]])
    states: list[int] = [
        response.HEADER_STATE_INIT,
        response.HEADER_STATE_FIELD,
        response.HEADER_STATE_VALUE,
        response.HEADER_STATE_DONE,
    ]
    assert states == [0, 1, 2, 3]
    assert_type(response.copy(bytearray(b"x")), bytes)
    assert issubclass(response.HTTPConnectionClosed, HTTPParseError)
    assert issubclass(response.HTTPConnectionClosed, ConnectionError)
    assert issubclass(response.HTTPConnectionAborted, ConnectionAbortedError)
    assert issubclass(response.HTTPConnectionBroken, BrokenPipeError)
    assert issubclass(response.HTTPConnectionReset, ConnectionResetError)
    assert issubclass(response.HTTPProtocolViolationError, HTTPParseError)
    assert response.HTTPParseError is HTTPParseError
    assert issubclass(response.HTTPSocketPoolResponse, response.HTTPSocketResponse)
    made: Callable[..., response.HTTPSocketResponse] = response.HTTPSocketResponse
    assert callable(made)


def constants() -> None:
    text: list[str] = [
        client.CRLF,
        client.WHITESPACE,
        client.FIELD_VALUE_SEP,
        client.HOST_PORT_SEP,
        client.SLASH,
        client.PROTO_HTTP,
        client.PROTO_HTTPS,
        client.HEADER_HOST,
        client.HEADER_CONTENT_LENGTH,
        client.HEADER_TRANSFER_ENCODING,
        client.HEADER_PROXY_AUTHORIZATION,
        client.HEADER_EXPECT,
        client.TRANSFER_ENCODING_CHUNKED,
        client.EXPECT_100_CONTINUE,
        client.METHOD_GET,
        client.METHOD_HEAD,
        client.METHOD_PUT,
        client.METHOD_DELETE,
        client.METHOD_PATCH,
        client.METHOD_OPTIONS,
        client.METHOD_TRACE,
    ]
    assert all(text)
    assert_type(client.IDEMPOTENT_METHODS, frozenset[str])
    assert client.HTTPClient is HTTPClient
    assert client.Headers is Headers
    assert client.URL is geventhttpclient.URL
