"""The transport for httpx2, which has its implementation in common with the one for httpx; see test_httpx.py."""

from __future__ import annotations

import sys
from typing import Any

import gevent
import httpx
import pytest
from gevent.event import Event

from geventhttpclient.adapters.httpx import Transport as TransportOfHttpx
from tests.support.peer import Conn, Peer
from tests.support.ports import free_port
from tests.support.scripted import cut, garbage, silent

httpx2 = pytest.importorskip("httpx2", reason="httpx2 requires Python 3.11")

from geventhttpclient.adapters.httpx2 import Transport  # noqa: E402

pytestmark = pytest.mark.usefixtures("bounded")


def client(**options: Any) -> Any:
    return httpx2.Client(transport=Transport(**options), trust_env=False, timeout=10)


def test_requests_and_responses() -> None:
    with Peer() as peer, client() as http:
        response = http.post(f"{peer.url}/echo", json={"a": 1}, headers={"X-A": "b"})
        assert (response.status_code, response.content, response.http_version) == (200, b"/echo", "HTTP/1.1")
        assert type(response) is httpx2.Response
        request = peer.requests[0]
        assert (request.method, request.body, request.get("x-a")) == ("POST", b'{"a":1}', "b")


def test_stream_comes_in_pieces_while_other_greenlets_run() -> None:
    go_on = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        go_on.wait()
        conn.send(b"cd")

    with Peer(script) as peer, client() as http, http.stream("GET", peer.url) as response:
        pieces = response.iter_bytes()
        assert next(pieces) == b"ab"
        gevent.spawn(go_on.set)
        assert list(pieces) == [b"cd"]


def test_server_sent_events_of_its_client() -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        body = b"event: add\ndata: 1\n\ndata: 2\n\n"
        conn.respond(body, headers=[("Content-Type", "text/event-stream")])

    with Peer(script) as peer, client() as http, http.sse(peer.url) as events:
        assert [(event.event, event.data) for event in events] == [("add", "1"), ("message", "2")]


def test_errors_are_those_of_httpx2() -> None:
    with client() as http:
        with pytest.raises(httpx2.ConnectError):
            http.get(f"http://127.0.0.1:{free_port()}/")
        with pytest.raises(httpx2.UnsupportedProtocol):
            http.get("ftp://127.0.0.1/")
        for script, kind in ((cut, httpx2.RemoteProtocolError), (garbage, httpx2.RemoteProtocolError)):
            with Peer(script) as peer, pytest.raises(kind):
                http.get(peer.url)
        with Peer(silent) as peer, pytest.raises(httpx2.ReadTimeout):
            http.get(peer.url, timeout=0.05)


def test_arguments_are_those_of_httpx2() -> None:
    assert Transport(limits=httpx2.Limits(max_connections=3)) is not None
    with pytest.raises(TypeError, match=r"limits must be an httpx2\.Limits"):
        Transport(limits=httpx.Limits())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: httpx2.Client(transport=TransportOfHttpx()), "geventhttpclient.adapters.httpx2 import Transport"),
        (lambda: httpx.Client(transport=Transport()), "geventhttpclient.adapters.httpx import Transport"),
    ],
    ids=["httpx2", "httpx"],
)
def test_transport_of_the_other_package_names_the_right_import(make: Any, text: str) -> None:
    with make() as http, pytest.raises(TypeError, match=text):
        http.get("http://127.0.0.1/")


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_package_that_is_not_installed_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"geventhttpclient.adapters.{name}")
    with pytest.raises(ImportError, match=f"pip install {name}$"):
        __import__(f"geventhttpclient.adapters.{name}")
