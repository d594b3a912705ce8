"""The shapes of http.client and of httpx."""

# pyright: strict

from __future__ import annotations

import http.client
import warnings
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Any

from typing_extensions import assert_type

from geventhttpclient import httplib, httpx
from geventhttpclient.header import Headers
from geventhttpclient.mock import MockTransport


class Tracing(httplib.HTTPConnection):
    """A connection of a program's own, with a response class of its own."""

    response_class = httplib.HTTPResponse

    def connect(self) -> None:
        super().connect()
        assert isinstance(self.sock, httplib.Socket)


class Token(httpx.Auth):
    """A scheme of a program's own."""

    def auth_flow(self, request: httpx.Request) -> httpx.Flow:
        request.headers["Authorization"] = "Bearer x"
        response = yield request
        assert_type(response, httpx.Response)


def main(url: str) -> None:
    as_http_client(url)
    as_httpx(url)
    functions(url)
    messages(url)
    errors()


def as_http_client(url: str) -> None:
    connection = Tracing(url.partition("://")[2], timeout=5)
    connection.request("GET", "/page", headers={"A": "b"})
    response = connection.getresponse()
    assert_type(response, http.client.HTTPResponse)
    assert isinstance(response, httplib.HTTPResponse)
    assert_type(response.status, int)
    assert_type(response.reason, str)
    assert_type(response.version, int)
    assert_type(response.headers, http.client.HTTPMessage)
    assert_type(response.read(10), bytes)
    assert_type(response.trailers, httplib.HTTPLibHeaders)
    assert issubclass(httplib.HTTPLibHeaders, Message)
    connection.close()
    assert issubclass(httplib.HTTPSConnection, http.client.HTTPSConnection)
    assert issubclass(httplib.TLSSocket, httplib.Socket)
    with warnings.catch_warnings():
        # Where other libraries have been imported before, it says so.
        warnings.simplefilter("ignore", RuntimeWarning)
        with httplib.patched():
            assert http.client.HTTPConnection is httplib.HTTPConnection
    # Out of the with-statement, for programs that never undo it.
    for switch in (httplib.patch, httplib.unpatch):
        assert_type(switch, Callable[[], None])


def as_httpx(url: str) -> None:
    timeout = httpx.Timeout(5, connect=1)
    assert_type(timeout.read, float | None)
    answers_all = MockTransport(lambda _: (200, {}, "[]"))
    with httpx.Client(base_url=url, timeout=timeout, auth=Token(), params={"a": 1}, transport=answers_all) as client:
        assert_type(client, httpx.Client)
        for answer in (
            client.get("/page", headers={"A": "b"}, timeout=httpx.USE_CLIENT_DEFAULT),
            client.head("/page"),
            client.options("/page"),
            client.delete("/page"),
            client.post("/echo", json={"a": 1}),
            client.put("/echo", content=b"x"),
            client.patch("/echo", data={"a": "b"}),
            client.request("GET", "/page"),
            client.send(client.build_request("GET", "/page")),
        ):
            assert_type(answer, httpx.Response)
            assert_type(answer.status_code, int)
            assert_type(answer.text, str)
            assert_type(answer.headers, Headers)
            assert_type(answer.is_success, bool)
        assert_type(client.post("/echo", json=[1]).raise_for_status().json(), Any)
    with httpx.Client(base_url=url) as client, client.stream("GET", "/bytes/10000") as streamed:
        assert_type(streamed, httpx.Response)
        assert_type(streamed.iter_bytes(), Iterator[bytes])
        assert_type(streamed.iter_lines(), Iterator[str])
        assert streamed.read()


def functions(url: str) -> None:
    answers_all = MockTransport(lambda _: (200, {}, "[]"))
    for answer in (
        httpx.get(f"{url}/page", transport=answers_all),
        httpx.head(f"{url}/page", transport=answers_all),
        httpx.options(f"{url}/page", transport=answers_all),
        httpx.delete(f"{url}/page", transport=answers_all),
        httpx.post(f"{url}/echo", content=b"x", transport=answers_all),
        httpx.put(f"{url}/page", transport=answers_all),
        httpx.patch(f"{url}/page", transport=answers_all),
        httpx.request("GET", f"{url}/page", transport=answers_all),
    ):
        assert_type(answer, httpx.Response)
    with httpx.stream("GET", f"{url}/page") as streamed:
        assert_type(streamed, httpx.Response)
        assert_type(streamed.read(), bytes)


def messages(url: str) -> None:
    request = httpx.Request("GET", url)
    assert_type(request.read(), bytes)
    for scheme in (httpx.BasicAuth("me", "secret"), httpx.DigestAuth("me", "secret")):
        with httpx.Client(auth=scheme) as client:
            assert_type(client.build_request("GET", url), httpx.Request)
    assert issubclass(httpx.NetRCAuth, httpx.Auth)


def errors() -> None:
    assert issubclass(httpx.HTTPStatusError, httpx.HTTPError)
    for request in (httpx.TransportError, httpx.DecodingError, httpx.TooManyRedirects):
        assert issubclass(request, httpx.RequestError)
    for transport in (
        httpx.TimeoutException,
        httpx.NetworkError,
        httpx.ProtocolError,
        httpx.ProxyError,
        httpx.UnsupportedProtocol,
    ):
        assert issubclass(transport, httpx.TransportError)
    for timeout in (httpx.ConnectTimeout, httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout):
        assert issubclass(timeout, httpx.TimeoutException)
    for network in (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.CloseError):
        assert issubclass(network, httpx.NetworkError)
    for protocol in (httpx.LocalProtocolError, httpx.RemoteProtocolError):
        assert issubclass(protocol, httpx.ProtocolError)
    assert issubclass(httpx.StreamConsumed, httpx.StreamError)
    try:
        httpx.get("nothing://x")
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        assert_type(error, httpx.InvalidURL | httpx.UnsupportedProtocol)
