"""A request has one framing, Transfer-Encoding or Content-Length, whichever headers a program sets, in each client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx as their_httpx
import pytest
import requests as their_requests

from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from geventhttpclient.adapters.httpx import Transport
from geventhttpclient.adapters.requests import Adapter
from geventhttpclient.adapters.urllib3 import PoolManager
from tests.support.http2_peer import serve_targets, talking
from tests.support.peer import Peer

pytestmark = pytest.mark.usefixtures("bounded")

Ask = Callable[[str, Any, dict[str, str]], object]


def by_client(url: str, body: Any, headers: dict[str, str]) -> object:
    with HTTPClient.from_url(url) as client:
        return client.post("/", body, headers=headers).read()


def by_agent(url: str, body: Any, headers: dict[str, str]) -> object:
    with UserAgent(max_retries=0) as agent:
        return agent.urlopen(url, "POST", payload=body, headers=headers).content


def by_session(url: str, body: Any, headers: dict[str, str]) -> object:
    with Session(max_retries=0) as session:
        return session.post(url, data=body, headers=headers).content


def by_httpx(url: str, body: Any, headers: dict[str, str]) -> object:
    with httpx.Client() as client:
        return client.post(url, content=body, headers=headers).content


def by_transport(url: str, body: Any, headers: dict[str, str]) -> object:
    with their_httpx.Client(transport=Transport()) as client:
        return client.post(url, content=body, headers=headers).content


def by_adapter(url: str, body: Any, headers: dict[str, str]) -> object:
    with their_requests.Session() as session:
        session.mount("http://", Adapter())
        return session.post(url, data=body, headers=headers).content


def by_urllib3(url: str, body: Any, headers: dict[str, str]) -> object:
    return PoolManager(retries=False).request("POST", url, body=body, headers=headers).data


ASKS: dict[str, Ask] = {
    "HTTPClient": by_client,
    "UserAgent": by_agent,
    "Session": by_session,
    "httpx": by_httpx,
    "httpx_transport": by_transport,
    "requests_adapter": by_adapter,
    "urllib3_adapter": by_urllib3,
}
each = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)

CASES: dict[str, tuple[dict[str, str], list[tuple[str, str]]]] = {
    "chunked": ({"Transfer-Encoding": "Chunked"}, [("transfer-encoding", "chunked")]),
    "both": ({"Content-Length": "5", "transfer-encoding": "chunked"}, [("transfer-encoding", "chunked")]),
    "identity": ({"Transfer-Encoding": "identity"}, [("content-length", "5")]),
    "identity and a length": ({"Transfer-Encoding": "identity", "Content-Length": "5"}, [("content-length", "5")]),
}


@each
@pytest.mark.parametrize(("headers", "wanted"), CASES.values(), ids=CASES)
def test_request_has_one_framing(ask: Ask, headers: dict[str, str], wanted: list[tuple[str, str]]) -> None:
    with Peer() as peer:
        assert ask(f"{peer.url}/", b"12345", headers) == b"/"
        (request,) = peer.requests
        names = {name for name, _ in wanted} | {"content-length", "transfer-encoding"}
        assert [(name.lower(), value) for name, value in request.fields if name.lower() in names] == wanted
        assert request.body == b"12345"


@each
@pytest.mark.parametrize("value", ["gzip", "gzip, chunked", "chunked, identity"])
def test_coding_that_is_not_made_is_refused(ask: Ask, value: str) -> None:
    with Peer() as peer:
        with pytest.raises((ValueError, their_httpx.LocalProtocolError), match="Invalid Transfer-Encoding"):
            ask(f"{peer.url}/", b"12345", {"Transfer-Encoding": value})
        assert not peer.requests


def pieces() -> Iterator[bytes]:
    yield b"123"
    yield b"45"


@pytest.mark.parametrize("body", [b"12345", bytearray(b"12345"), pieces], ids=["bytes", "bytearray", "iterable"])
@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ({"Transfer-Encoding": "chunked"}, []),
        ({"Transfer-Encoding": "chunked", "Content-Length": "5"}, []),
        ({"Transfer-Encoding": "identity", "Content-Length": "5"}, ["5"]),
    ],
    ids=repr,
)
def test_http_2_has_no_transfer_encoding(body: Any, headers: dict[str, str], length: list[str]) -> None:
    with talking(serve_targets) as (peer, client):
        assert client.post("/x", body() if callable(body) else body, headers=headers).read() == b"/x"
        (request,) = peer.requests
        assert (request.all("transfer-encoding"), request.all("content-length")) == ([], length)
        assert request.body == b"12345"


def test_identity_over_a_default_of_chunked_over_http_2() -> None:
    with talking(serve_targets) as (peer, client):
        client.default_headers["Transfer-Encoding"] = "chunked"
        client.post("/x", b"12345", headers={"Transfer-Encoding": "identity"}).read()
        assert peer.requests[0].all("content-length") == ["5"]


def test_trailers_beside_transfer_encoding() -> None:
    with Peer() as peer, closing(HTTPClient.from_url(peer.url)) as client:
        headers = {"Content-Length": "5", "Transfer-Encoding": "chunked"}
        client.post("/", b"12345", headers=headers, trailers={"X-Sum": "1"}).read()
        assert (peer.requests[0].get("content-length"), peer.requests[0].body) == (None, b"12345")
        with pytest.raises(ValueError, match="identity and trailers at once"):
            client.post("/", b"12345", headers={"Transfer-Encoding": "identity"}, trailers={"X-Sum": "1"})
