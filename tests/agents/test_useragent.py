"""UserAgent: redirects, retries, cookies, payloads, and the methods that existing programs override."""

from __future__ import annotations

import copy
import datetime
import email.utils
import gzip
import io
import os
import re
import socket
import ssl
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any

import gevent
import gevent.ssl
import pytest

from geventhttpclient import HTTPClient, Session, UserAgent, httpx, useragent
from geventhttpclient._agent.draining import DRAINED_BYTES
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.header import Headers
from geventhttpclient.multipart import Multipart
from geventhttpclient.requests import RequestsRequest
from geventhttpclient.response import HTTPConnectionClosed, HTTPSocketPoolResponse
from geventhttpclient.url import URL
from geventhttpclient.useragent import (
    BadStatusCode,
    CompatRequest,
    CompatResponse,
    ConnectionError,
    EmptyResponse,
    RetriesExceeded,
    UnrewoundBodyError,
    UnsupportedRedirectSchemeError,
)
from tests.conftest import Nginx, TlsNginx
from tests.response.test_coding import ENCODERS, TEXT
from tests.support.certificates import Certificates
from tests.support.peer import Conn, Peer, Request
from tests.support.ports import free_port

pytestmark = pytest.mark.usefixtures("bounded")

# Response of a peer: the bytes, or a function that uses the connection.
Page = bytes | Callable[[Conn, Request], object]


def answer(body: bytes = b"", status: str = "200 OK", *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def to(location: str, status: str = "302 Found", body: bytes = b"over there") -> bytes:
    return answer(body, status, f"Location: {location}")


def site(pages: Mapping[str, Page]) -> Callable[[Conn], None]:
    """Returns a script that answers by path; other paths return method, target and body of the request."""

    def script(conn: Conn) -> None:
        while (request := conn.read_request()) is not None:
            page = pages.get(request.target.partition("?")[0])
            if page is None:
                page = answer(f"{request.method} {request.target} ".encode() + request.body)
            if isinstance(page, bytes):
                conn.send(page)
            else:
                page(conn, request)

    return script


@contextmanager
def visiting(pages: Mapping[str, Page], *args: Any, **options: Any) -> Iterator[tuple[Peer, UserAgent]]:
    """Yields a peer with these pages, and an agent."""
    with Peer(site(pages)) as peer, UserAgent(*args, **options) as agent:
        yield peer, agent


def breaking(conn: Conn, _request: Request) -> None:
    """Page: closes the connection instead of sending a response."""
    conn.sock.close()


def in_turn(*pages: Page) -> Page:
    """Returns a page that is the first page, then the second, and so on; the last one is repeated."""
    left = list(pages)

    def page(conn: Conn, request: Request) -> None:
        now = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(now, bytes):
            conn.send(now)
        else:
            now(conn, request)

    return page


def never(conn: Conn, _request: Request) -> None:
    conn.wait_closed()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Returns the list of delays that agents requested, without any sleep."""
    seconds: list[float] = []
    monkeypatch.setattr(useragent.gevent, "sleep", seconds.append)
    return seconds


# ----------------------------------------------------------------------------------------------------------- requests


def test_request_and_its_response() -> None:
    with visiting({"/": answer(b"fine", "200 OK", "Content-Type: text/plain; charset=utf-8")}) as (peer, agent):
        response = agent.urlopen(peer.url + "/")
        assert type(response) is CompatResponse
        assert response.status_code == 200
        assert response.status == "200"
        assert type(response.headers) is Headers
        assert response.headers is response.info()
        assert response.headers["CONTENT-LENGTH"] == "4"
        assert len(response) == 4
        assert response.content is response.content
        assert response.content == response.data == b"fine"
        assert type(response.content) is bytes
        assert response.text == "fine"
        assert response.history == []
        assert datetime.timedelta(0) < response.elapsed < datetime.timedelta(seconds=20)
        assert response.isclosed()
        assert response.tls is None
        assert re.fullmatch(r"<geventhttpclient\.useragent\.CompatResponse object at 0x[0-9a-f]+>", repr(response))
        request = response._request
        assert type(request) is CompatRequest
        assert request.url == peer.url + "/"
        assert response._sent_request.startswith("GET / HTTP/1.1\r\nUser-Agent: python/gevent-http-client-")


def test_response_is_true_with_any_status() -> None:
    with visiting({"/": answer(b"")}) as (peer, agent):
        response = agent.urlopen(peer.url)
        assert response
        assert len(response) == 0


def test_bodies_can_be_read_in_pieces() -> None:
    with visiting({"/": answer(b"one\ntwo\nthree")}) as (peer, agent):
        with agent.urlopen(peer.url + "/") as response:
            assert response.read(2) == b"on"
            assert response.readline() == b"e\n"
            assert response.stream.read(3) == b"two"
        assert response.isclosed()
        response = agent.urlopen(peer.url + "/")
        assert b"".join(response) == b"one\ntwo\nthree"
        assert response.read() == b""


def test_isclosed_is_true_after_the_end_or_release() -> None:
    def page(conn: Conn, request: Request) -> None:
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        conn.wait_closed()

    with visiting({"/": page, "/whole": answer(b"text")}) as (peer, agent):
        response = agent.urlopen(peer.url + "/")
        assert response.read(2) == b"ha"
        assert not response.isclosed()
        response.release()
        assert response.isclosed()
        response = agent.urlopen(peer.url + "/whole")
        assert response.isclosed()
        assert response.content == b"text"


def test_headers_of_agent_and_request() -> None:
    with visiting({}, headers={"User-Agent": "me", "X-A": "a", "X-B": "b"}) as (peer, agent):
        agent.urlopen(peer.url, headers={"x-a": "c", "X-C": "c"}).read()
        agent.urlopen(peer.url).read()
    first, second = (dict(request.fields) for request in peer.requests)
    assert first == {"User-Agent": "me", "x-a": "c", "X-B": "b", "X-C": "c", "Host": f"127.0.0.1:{peer.port}"}
    assert second["X-A"] == "a"
    assert "X-C" not in second


def test_headers_proxy_and_jar_may_be_none() -> None:
    with visiting({}, headers=None, cookiejar=None, proxy_host=None, proxy_port=None) as (peer, agent):
        assert agent.urlopen(peer.url, headers=None, params=None, payload=None).content == b"GET / "


def test_misspelt_argument_is_found_at_once() -> None:
    for kind in (UserAgent, Session):
        with pytest.raises(TypeError, match="unexpected arguments: concurency, tiemout"):
            kind(concurency=10, tiemout=1)
        kind(concurrency=10, max_clients=2, proxy_port=3128, network_timeout=1).close()


def test_methods_and_parts_of_the_query() -> None:
    with visiting({}) as (peer, agent):
        opened = [
            agent.urlopen(peer.url + "/a?x=1", params={"y": [1, 2]}),
            agent.urlopen(peer.url + "/a", y="b c"),
            agent.urlopen(peer.url + "/a", params={"x": 1}, y=2),
            agent.urlopen(peer.url + "/a", params=[("x", 1), ("x", 2)], y=2),
            agent.urlopen(peer.url + "/a", params="x=1", y=2),
            agent.urlopen(peer.url + "/a", method="delete", y=2),
            agent.urlopen(peer.url + "/a", "OPTIONS"),
            agent.urlopen(URL(peer.url + "/a?x=1#part")),
        ]
        assert [response.content.decode().strip() for response in opened] == [
            "GET /a?x=1&y=1&y=2",
            "GET /a?y=b+c",
            "GET /a?x=1&y=2",
            "GET /a?x=1&x=2&y=2",
            "GET /a?x=1&y=2",
            "DELETE /a?y=2",
            "OPTIONS /a",
            "GET /a?x=1",
        ]


FORM = "application/x-www-form-urlencoded; charset=utf-8"
OCTETS = "application/octet-stream"


@pytest.mark.parametrize(
    ("payload", "sent", "kind"),
    [
        (None, b"", None),
        (b"", b"", None),
        ("", b"", None),
        ({}, b"", None),
        (b"\x00\xff", b"\x00\xff", OCTETS),
        (bytearray(b"bytes"), b"bytes", OCTETS),
        (memoryview(b"bytes"), b"bytes", OCTETS),
        ("fü", "fü".encode(), "text/plain; charset=utf-8"),
        ({"a": "b c", "d": ["e", "f"]}, b"a=b+c&d=e&d=f", FORM),
        (Headers({"a": "b"}), b"a=b", FORM),
        ([b"in ", b"pieces"], b"in pieces", OCTETS),
        (io.BytesIO(b"a file"), b"a file", OCTETS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_payloads(payload: Any, sent: bytes, kind: str | None) -> None:
    with visiting({}) as (peer, agent):
        assert agent.urlopen(peer.url, method="POST", payload=payload).content == b"POST / " + sent
    assert peer.requests[0].get("content-type") == kind


def test_content_type_of_the_caller_is_kept() -> None:
    with visiting({}) as (peer, agent):
        agent.urlopen(peer.url, "POST", {"content-TYPE": "text/csv"}, "a;b").read()
        agent.urlopen(peer.url, "POST", Headers({"Content-Type": "text/csv"}), {"a": "b"}).read()
    for request in peer.requests:
        assert [value for name, value in request.fields if name.lower() == "content-type"] == ["text/csv"]


@pytest.mark.parametrize("method", ["POST", "put", "PATCH"])
def test_keyword_arguments_are_a_form(method: str) -> None:
    with visiting({}) as (peer, agent):
        content = agent.urlopen(peer.url, method=method, a=1, b="c d").content
        assert content == f"{method.upper()} / a=1&b=c+d".encode()
        assert peer.requests[0].get("content-type") == FORM
        content = agent.urlopen(peer.url, method=method, payload="text", a=1).content
        assert content == f"{method.upper()} /?a=1 text".encode()


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"from the disk")
    with visiting({}) as (peer, agent), path.open("rb") as file:
        files = {"f": ("n.bin", io.BytesIO(b"data"), "image/png"), "g": file}
        body = agent.urlopen(peer.url, method="POST", payload={"a": "b"}, files=files).content
        request = peer.requests[0]
        boundary = re.fullmatch(r"multipart/form-data; boundary=(\w+)", request.get("content-type") or "")
        assert boundary is not None
        assert request.get("transfer-encoding") is None
        assert int(request.get("content-length") or 0) == len(request.body)
        parts = body.partition(b" / ")[2].split(b"--" + boundary[1].encode())
        assert [part.strip() for part in parts] == [
            b"",
            b'Content-Disposition: form-data; name="a"\r\n\r\nb',
            b'Content-Disposition: form-data; name="f"; filename="n.bin"\r\nContent-Type: image/png\r\n\r\ndata',
            b'Content-Disposition: form-data; name="g"; filename="names.txt"\r\n'
            b"Content-Type: text/plain\r\n\r\nfrom the disk",
            b"--",
        ]
        # Keyword arguments are the fields beside the files.
        assert b'name="a"\r\n\r\n1\r\n' in agent.urlopen(peer.url, "POST", files={"f": ("n", b"data")}, a=1).content


def test_one_agent_for_many_hosts() -> None:
    with visiting({}) as (one, agent), Peer(site({"/": answer(b"the other")})) as other:
        assert agent.urlopen(one.url).content == b"GET / "
        assert agent.urlopen(other.url).content == b"the other"
        assert agent.urlopen(one.url + "/b").content == b"GET /b "
        assert sorted(agent.clientpool.clients) == sorted([("127.0.0.1", one.port), ("127.0.0.1", other.port)])
        assert len(one.conns) == len(other.conns) == 1


def test_close_and_go_on() -> None:
    with visiting({}) as (peer, agent):
        for _ in range(3):
            agent.urlopen(peer.url).read()
            agent.clientpool.close()
            assert agent.clientpool.clients == {}
        agent.close()
        agent.close()
        assert agent.urlopen(peer.url).content == b"GET / "
        assert len(peer.conns) == 4


@pytest.mark.parametrize("url", ["/no/host", "ftp://127.0.0.1/x", "http://", "http://127.0.0.1:99999/"])
def test_invalid_urls_are_refused(url: str) -> None:
    with UserAgent() as agent, pytest.raises(ValueError, match=r".") as caught:
        agent.urlopen(url)
    assert not hasattr(caught.value, "response")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("max_redirects", -1, ValueError),
        ("max_redirects", "many", TypeError),
        ("max_retries", -1, ValueError),
        ("max_retries", None, TypeError),
        ("retry_delay", -0.1, ValueError),
        ("retry_delay", "1", TypeError),
        ("retry_backoff", float("nan"), ValueError),
        ("retry_max_delay", None, TypeError),
        ("retry_jitter", -1, ValueError),
    ],
)
def test_invalid_arguments_are_refused(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        UserAgent(**{name: value})


def test_one_connection_for_many_greenlets_or_one_for_each() -> None:
    def meet(conn: Conn, request: Request) -> None:
        gevent.idle()
        conn.respond(b"met")

    with visiting({"/": meet}, concurrency=1) as (peer, agent):
        jobs = [gevent.spawn(lambda: agent.urlopen(peer.url + "/").content) for _ in range(4)]
        assert [job.get() for job in jobs] == [b"met"] * 4
        assert len(peer.conns) == 1
    with visiting({"/": meet}, concurrency=4) as (peer, agent):
        jobs = [gevent.spawn(lambda: agent.urlopen(peer.url + "/").content) for _ in range(4)]
        assert [job.get() for job in jobs] == [b"met"] * 4
        assert 1 < len(peer.conns) <= 4


# --------------------------------------------------------------------------------------------------------- bad statuses


def test_bad_statuses() -> None:
    pages = {
        "/gone": answer(b"g\xc3\xb6ne", "404 Not Found", "Content-Type: text/plain"),
        "/made": answer(b"", "201 Made"),
    }
    with visiting(pages) as (peer, agent):
        with pytest.raises(BadStatusCode) as caught:
            agent.urlopen(peer.url + "/gone", method="POST", payload="sent")
        error: Any = caught.value
        url = peer.url + "/gone"
        assert error.code == error.response.status_code == 404
        assert error.response.content == "göne".encode()
        assert error.request.url == error.url == url
        assert isinstance(error, ConnectionError)
        assert not isinstance(error, OSError)
        assert str(error) == f"URL {url}: code=404"
        assert repr(error) == f"BadStatusCode('{url}', code=404)"
        assert error.http_log == (
            f"REQUEST: {url}\n"
            f"{error.response._sent_request}"
            "sent\n\n"
            "RESPONSE: HTTP/1.1 404\nContent-Type: text/plain\nContent-Length: 5\n\ngöne"
        )
        with pytest.raises(BadStatusCode, match="code=201"):
            agent.urlopen(peer.url + "/made")
        assert agent.urlopen(peer.url).content == b"GET / "
        assert len(peer.conns) == 1


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", gzip.compress(b"x", mtime=0)[:-3]])
def test_error_of_the_body_does_not_hide_the_status(body: bytes) -> None:
    coding = "Content-Encoding: gzip" if body.startswith(b"\x1f") else "Content-Type: text/plain"
    with visiting({"/": answer(body, "500 Oops", coding)}) as (peer, agent):
        with pytest.raises(BadStatusCode, match="code=500") as caught:
            agent.urlopen(peer.url + "/")
        assert "RESPONSE: HTTP/1.1 500" in caught.value.http_log  # type: ignore[attr-defined]


def test_status_without_a_body_may_well_have_a_coding() -> None:
    pages = {
        "/none": b"HTTP/1.1 204 No\r\nContent-Encoding: gzip\r\n\r\n",
        "/": answer(b"", "200 OK", "Content-Encoding: br"),
    }
    with visiting(pages) as (peer, agent):
        with pytest.raises(BadStatusCode, match="code=204") as caught:
            agent.urlopen(peer.url + "/none")
        assert caught.value.response.content == b""  # type: ignore[attr-defined]
        assert agent.urlopen(peer.url + "/").content == b""
        agent.valid_response_codes = {200, 204}
        assert agent.urlopen(peer.url + "/none").content == b""


def test_head_has_no_body() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 99\r\n\r\n"
    with visiting({"/": page}) as (peer, agent):
        response = agent.urlopen(peer.url + "/", method="HEAD")
        assert response.content == b""
        assert len(response) == 99


def test_errors_as_they_are_shown() -> None:
    cases = [
        (
            ConnectionError("http://x", "text", a=1),
            "URL http://x: text, a=1",
            "ConnectionError('http://x', 'text', a=1)",
        ),
        (ConnectionError("http://x"), "URL http://x", "ConnectionError('http://x')"),
        (ConnectionError(None, "t"), "URL None: t", "ConnectionError(None, 't')"),
        (BadStatusCode("http://x", code=404), "URL http://x: code=404", "BadStatusCode('http://x', code=404)"),
        (
            RetriesExceeded("http://x", 3, original=ValueError("q")),
            "URL http://x: failed after retries: q",
            "RetriesExceeded('http://x', 3, original=q)",
        ),
    ]
    for error, text, shown in cases:
        assert (str(error), repr(error)) == (text, shown)
        assert isinstance(error, ConnectionError)
        assert not hasattr(error, "response")
    error = ConnectionError("http://x", "text", a=1, b="c")
    assert error.args == ("http://x", "text")
    assert (error.a, error.b, error.url) == (1, "c", "http://x")  # type: ignore[attr-defined]
    assert (error.text, error.kw_text) == ("text, a=1, b=c", "a=1, b=c")
    assert BadStatusCode.code == 0
    error.anything = 5  # type: ignore[attr-defined]


def test_errors_show_no_password() -> None:
    for text in ("http://me:pa@ss@host/a@b?c=@", "https://me@host/a@b"):
        error: ConnectionError = BadStatusCode(text, code=404)
        nested = RetriesExceeded(URL(text), 1, original=error)
        for shown in (str(error), repr(error), str(nested), repr(nested)):
            assert "me" not in shown
            assert "pa@ss" not in shown
            assert "***@host/a@b" in shown
        assert error.url == text
    assert str(ConnectionError("http://host/a@b")) == "URL http://host/a@b"


def test_no_log_shows_a_password(names_are_here: None) -> None:
    def script(conn: Conn) -> None:
        while conn.read_request() is not None:
            conn.respond(b"", "404 No")

    stream = io.StringIO()
    with Peer(script) as proxy:
        via = {"proxy_host": "127.0.0.1", "proxy_port": proxy.port, "proxy_user": "me", "proxy_password": "pa55"}
        for options in ({}, via):
            with UserAgent(**options) as agent, pytest.raises(BadStatusCode) as caught:
                agent.urlopen(f"http://you:pa55@here.test:{proxy.port}/404", debug_stream=stream)
            for shown in (str(caught.value), caught.value.http_log, stream.getvalue()):  # type: ignore[attr-defined]
                assert f"***@here.test:{proxy.port}/404" in shown
                assert "pa55" not in shown
                assert "bWU6cGE1NQ" not in shown
        assert proxy.requests[-1].get("proxy-authorization") == "Basic bWU6cGE1NQ=="


def test_network_errors_are_raised_unchanged() -> None:
    with UserAgent(max_retries=0) as agent:
        url = f"http://127.0.0.1:{free_port()}/"
        with pytest.raises(ConnectionRefusedError) as caught:
            agent.urlopen(url)
        error: Any = caught.value
        assert error.request.url == url
        assert not hasattr(error, "response")
        assert not hasattr(error, "http_log")


def test_unknown_host_is_raised_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(gevent.socket, "getaddrinfo", unknown)
    with UserAgent() as agent, pytest.raises(socket.gaierror) as caught:
        agent.urlopen("http://nowhere.test/")
    assert caught.value.request.url == "http://nowhere.test/"  # type: ignore[attr-defined]


def test_malformed_response_is_not_retried() -> None:
    with visiting({"/": b"SSH-2.0-OpenSSH_9.6\r\n\r\n"}) as (peer, agent):
        with pytest.raises(HTTPParseError) as caught:
            agent.urlopen(peer.url + "/")
        assert not isinstance(caught.value, HTTPConnectionClosed)
        assert not hasattr(caught.value, "response")
        assert len(peer.requests) == 1


# ----------------------------------------------------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other"])
@pytest.mark.parametrize(("method", "then"), [("GET", "GET"), ("POST", "GET"), ("PUT", "GET"), ("HEAD", "HEAD")])
def test_redirects_301_to_303_drop_the_payload(status: str, method: str, then: str) -> None:
    pages: dict[str, Page] = {"/from": to("/to", status)}
    if method == "HEAD":
        pages = {
            "/from": f"HTTP/1.1 {status}\r\nLocation: /to\r\nContent-Length: 5\r\n\r\n".encode(),
            "/to": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        }
    payload = {"a": "b"} if method in ("POST", "PUT") else None
    with visiting(pages) as (peer, agent):
        response = agent.urlopen(peer.url + "/from", method=method, payload=payload)
        assert response.status_code == 200
        assert [(r.method, r.target) for r in peer.requests] == [(method, "/from"), (then, "/to")]
        assert peer.requests[1].body == b""
        for name in ("content-type", "content-length", "transfer-encoding"):
            assert peer.requests[1].get(name) is None
        assert len(peer.conns) == 1


@pytest.mark.parametrize("status", ["307 Temporary", "308 Permanent"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: b"payload",
        lambda: "payload",
        lambda: bytearray(b"payload"),
        lambda: [b"pay", b"load"],
        lambda: at(io.BytesIO(b"not this: payload"), 10),
        lambda: Multipart({"a": "b"}, {"f": io.BytesIO(b"data")}, boundary="limit"),
    ],
    ids=["bytes", "str", "bytearray", "list", "file", "multipart"],
)
def test_redirects_that_repeat_the_request(status: str, make: Callable[[], Any]) -> None:
    with visiting({"/from": to("/to", status)}) as (peer, agent):
        response = agent.urlopen(peer.url + "/from", method="POST", payload=make())
        first, second = peer.requests
        assert (second.method, second.target) == ("POST", "/to")
        assert first.body == second.body != b""
        assert not first.body.startswith(b"not this")
        assert first.get("content-type") == second.get("content-type")
        assert response.content == b"POST /to " + first.body
        assert len(peer.conns) == 1


def at(file: io.BytesIO, position: int) -> io.BytesIO:
    file.seek(position)
    return file


@pytest.mark.parametrize("code", [307, 308])
@pytest.mark.parametrize("payload", [None, b"body", bytearray(b"body"), "body", {"a": "b"}, [b"bo", b"dy"]])
def test_redirect_of_a_constructed_request_keeps_its_payload(code: int, payload: Any) -> None:
    request = CompatRequest("http://a.test/", "POST", payload=payload)
    request.redirect(code, "/other")
    assert (request.url, request.method, request.payload) == ("http://a.test/other", "POST", payload)


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("give", ["constructor", "data", "httpx"])
def test_redirect_of_a_constructed_request_rewinds_its_file_to_its_start(start: int, give: str) -> None:
    file = io.BytesIO(b"abcdef")
    file.seek(start)
    if give == "httpx":
        request: CompatRequest = httpx.Request("POST", "http://a.test/", content=file)
    else:
        request = CompatRequest("http://a.test/", "POST", payload=file if give == "constructor" else b"old")
    if give == "data":
        request.data = file
    file.read()
    request.redirect(307, "/other")
    assert file.tell() == start


def test_redirect_of_a_request_whose_file_was_put_there_later_rewinds_it() -> None:
    file = io.BytesIO(b"abcdef")
    request = CompatRequest("http://a.test/", "POST", payload=b"old")
    request.payload = file
    file.read()
    request.redirect(307, "/other")
    assert file.tell() == 0


def test_redirect_rewinds_a_file_that_a_hook_put_into_the_request() -> None:
    file = io.BytesIO(b"--body")

    def put(request: CompatRequest) -> None:
        file.seek(2)
        request.payload = file

    with Peer(site({"/from": to("/to", "307 There")})) as peer, Session(auth=put) as session:
        assert session.post(peer.url + "/from", data={"a": "b"}).content == b"POST /to body"
        assert [request.body for request in peer.requests] == [b"body", b"body"]


def test_redirect_of_a_constructed_request_with_a_stream_is_refused() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb"):
        for payload in (pipe, iter([b"a"])):
            with pytest.raises(UnrewoundBodyError):
                CompatRequest("http://a.test/", "POST", payload=payload).redirect(308, "/other")


def test_files_are_sent_again_after_a_redirect() -> None:
    with visiting({"/from": to("/to", "307 There")}) as (peer, agent):
        agent.urlopen(peer.url + "/from", method="POST", files={"f": ("n", io.BytesIO(b"data"))}, a=1)
        first, second = peer.requests
        assert first.body == second.body
        assert b"\r\n\r\ndata\r\n" in first.body
        assert first.get("content-length") == second.get("content-length") == str(len(first.body))


class Pipe(io.RawIOBase):
    """A file that is read once."""

    def __init__(self) -> None:
        self.left = b"once"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece, self.left = self.left, b""
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize(
    "make",
    [lambda: (piece for piece in [b"on", b"ce"]), Pipe, lambda: iter([b"once"])],
    ids=["generator", "pipe", "iterator"],
)
def test_body_that_cannot_be_rewound_is_not_sent_twice(make: Callable[[], Any]) -> None:
    with visiting({"/from": to("/to", "307 There")}) as (peer, agent):
        with pytest.raises(UnrewoundBodyError) as caught:
            agent.urlopen(peer.url + "/from", method="POST", payload=make())
        assert str(caught.value).endswith("payload cannot be rewound and resent after a redirect")
        assert [request.body for request in peer.requests] == [b"once"]
        # After a 303 nothing is sent again.
        with visiting({"/from": to("/to", "303 There")}) as (peer, agent):
            assert agent.urlopen(peer.url + "/from", method="POST", payload=make()).content == b"GET /to "


@pytest.mark.parametrize(
    ("asked", "location", "asked_then"),
    [
        ("/a/b?c=d", "e", "/a/e"),
        ("/a/b?c=d", "../e?f", "/e?f"),
        ("/a/b?c=d", "/e", "/e"),
        ("/a/b?c=d", "?e", "/a/b?e"),
        ("/a/b", "//127.0.0.1:{port}/e", "/e"),
        ("/a/b", "http://127.0.0.1:{port}", "/"),
        ("/a/b", "HTTP://127.0.0.1:{port}/e#f", "/e"),
        ("/a/b", "/e f", "/e%20f"),
        # Servers send other characters than ASCII in UTF-8, as any octets, or as a mixture of both.
        ("/a/b", "/caf\xc3\xa9?\xc3\xa9", "/caf%C3%A9?%C3%A9"),
        ("/a/b", "/caf\xe9/%20", "/caf%E9/%20"),
    ],
)
def test_locations(asked: str, location: str, asked_then: str) -> None:
    def page(conn: Conn, request: Request) -> None:
        conn.send(to(location.format(port=peer.port)))

    with visiting({asked.partition("?")[0]: in_turn(page, answer(b"there"))}) as (peer, agent):
        assert agent.urlopen(peer.url + asked).content
        assert [request.target for request in peer.requests] == [asked, asked_then]


def test_fragment_is_kept_unless_the_location_has_one() -> None:
    with visiting({"/keep": to("/there"), "/own": to("/there#own")}) as (peer, agent):
        assert agent.urlopen(peer.url + "/keep#part")._request.url == peer.url + "/there#part"
        assert agent.urlopen(peer.url + "/own#part")._request.url == peer.url + "/there#own"
        assert [request.target for request in peer.requests] == ["/keep", "/there", "/own", "/there"]


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("ftp://127.0.0.1/x", UnsupportedRedirectSchemeError),
        ("file:///etc/passwd", UnsupportedRedirectSchemeError),
        ("javascript:alert(1)", UnsupportedRedirectSchemeError),
        ("http:///x", ConnectionError),
        ("http://", ConnectionError),
    ],
)
def test_locations_that_are_not_followed(location: str, error: type[ConnectionError]) -> None:
    with visiting({"/from": to(location)}) as (peer, agent):
        with pytest.raises(error, match="refusing to follow redirect"):
            agent.urlopen(peer.url + "/from")
        assert agent.urlopen(peer.url).content == b"GET / "
        assert len(peer.conns) == 1


@pytest.mark.parametrize("page", [answer(b"no place", "302 Found"), to(""), to("/x", "304 Same"), to("/x", "300 Many")])
def test_responses_that_are_no_redirects_are_returned(page: bytes) -> None:
    with visiting({"/": page}) as (peer, agent):
        agent.valid_response_codes = range(200, 400)
        response = agent.urlopen(peer.url + "/")
        assert 300 <= response.status_code < 400
        assert response.history == []
        assert len(peer.requests) == 1


def test_limit_of_redirects() -> None:
    pages = {f"/{n}": to(f"/{n - 1}") for n in range(1, 10)}
    with visiting(pages, max_redirects=2) as (peer, agent):
        assert agent.urlopen(peer.url + "/2").content == b"GET /0 "
        with pytest.raises(RetriesExceeded) as caught:
            agent.urlopen(peer.url + "/9")
        assert str(caught.value) == f"URL {peer.url}/9: Redirection limit reached (2)"
        assert not hasattr(caught.value, "response")
        assert [request.target for request in peer.requests[3:]] == ["/9", "/8", "/7"]
        assert agent.urlopen(peer.url + "/4", max_redirects=4).content == b"GET /0 "


def test_no_redirects_at_all() -> None:
    with visiting({"/from": to("/to")}, max_redirects=0) as (peer, agent):
        response = agent.urlopen(peer.url + "/from")
        assert (response.status_code, response.headers["location"], response.content) == (302, "/to", b"over there")
        assert agent.urlopen(peer.url + "/from", max_redirects=1).status_code == 200
    with visiting({"/from": to("/to")}) as (peer, agent):
        assert agent.urlopen(peer.url + "/from", max_redirects=0).status_code == 302


def test_history_has_each_response_with_its_own_request() -> None:
    def chunked(conn: Conn, request: Request) -> None:
        conn.send(b"HTTP/1.1 302 Found\r\nLocation: /c\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nby way\r\n0\r\n\r\n")

    coded = answer(gzip.compress(b"and on"), "307 Found", "Location: /d", "Content-Encoding: gzip")
    with visiting({"/a": to("/b", "303 See"), "/b": chunked, "/c": coded}) as (peer, agent):
        response = agent.urlopen(peer.url + "/a", method="POST", payload="text")
        assert [(seen.status_code, seen._request.method, seen._request.url) for seen in response.history] == [
            (303, "POST", peer.url + "/a"),
            (302, "GET", peer.url + "/b"),
            (307, "GET", peer.url + "/c"),
        ]
        assert [seen.content for seen in response.history] == [b"over there", b"by way", b"and on"]
        assert [seen.history for seen in response.history] == [[], [], []]
        assert response._request.url == peer.url + "/d"
        assert response.history[0]._request.original_host == response._request.original_host == "127.0.0.1"
        assert len(peer.conns) == 1


@pytest.mark.parametrize("size", [64 * 1024, 64 * 1024 + 1])
def test_small_bodies_of_redirects_are_read_and_large_ones_are_not(size: int) -> None:
    with visiting({"/from": to("/to", body=b"x" * size)}) as (peer, agent):
        for _ in range(2):
            assert agent.urlopen(peer.url + "/from").content == b"GET /to "
        assert len(peer.conns) == (1 if size <= DRAINED_BYTES else 3)


@pytest.mark.parametrize("rest", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_body_of_a_redirect_may_be_broken(rest: bytes) -> None:
    def page(conn: Conn, request: Request) -> None:
        conn.send(b"HTTP/1.1 302 Found\r\nLocation: /to\r\n" + rest + b"\r\nxy")
        conn.sock.close()

    with visiting({"/from": page}) as (peer, agent):
        assert agent.urlopen(peer.url + "/from").content == b"GET /to "


def test_endless_body_of_a_redirect_is_abandoned() -> None:
    def page(conn: Conn, request: Request) -> None:
        conn.send(b"HTTP/1.1 302 Found\r\nLocation: /to\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            conn.send(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

    with visiting({"/from": page}) as (peer, agent):
        response = agent.urlopen(peer.url + "/from")
        assert response.content == b"GET /to "
        assert response.history[0].content == b""


def test_credentials_and_cookies_stay_with_the_origin() -> None:
    own = {
        "Authorization": "Basic c2VjcmV0",
        "Proxy-Authorization": "Basic c2VjcmV0",
        "Cookie": "a=b",
        "X-Other": "kept",
    }
    with Peer(site({})) as other, visiting({"/same": to("/to"), "/away": to(f"{other.url}/to")}) as (peer, agent):
        agent.urlopen(peer.url + "/same", headers=own | {"Host": "named.test"}).read()
        agent.urlopen(peer.url + "/away", headers=own | {"Host": "named.test"}).read()
        first, then, _ = peer.requests
        away = other.requests[0]
        assert first.get("authorization") == then.get("authorization") == "Basic c2VjcmV0"
        assert first.get("cookie") == "a=b"
        assert then.get("cookie") is None
        for name in ("authorization", "proxy-authorization", "cookie"):
            assert away.get(name) is None
        assert [request.get("x-other") for request in (first, then, away)] == ["kept"] * 3
        assert [request.get("host") for request in (first, then)] == ["named.test"] * 2
        assert away.get("host") == f"127.0.0.1:{other.port}"
        # A redirect back to the first origin does not restore them.
        other.scripts = (site({"/back": to(f"{peer.url}/home")}),)
        agent.close()
        peer.requests.clear()
        pages = {"/away": to(f"{other.url}/back")}
        with Peer(site(pages)) as home:
            agent.urlopen(home.url + "/away", headers=own).read()
        assert peer.requests[-1].target == "/home"
        assert peer.requests[-1].get("authorization") is None


def test_agents_own_headers_are_not_changed_by_a_redirect() -> None:
    with Peer(site({})) as other, visiting({"/": to(other.url)}, headers={"Authorization": "x"}) as (peer, agent):
        headers = {"X-A": "a"}
        for _ in range(2):
            agent.urlopen(peer.url + "/", headers=headers).read()
        assert [request.get("authorization") for request in peer.requests] == ["x", "x"]
        assert other.requests[0].get("authorization") is None
        assert headers == {"X-A": "a"}


def test_retry_begins_with_the_first_request() -> None:
    pages: dict[str, Page] = {"/to": in_turn(breaking, answer(b"at last"))}
    with Peer(site(pages)) as other, visiting({"/from": to(f"{other.url}/to", "303 See")}) as (peer, agent):
        headers = {"Authorization": "x", "Cookie": "a=b"}
        response = agent.urlopen(peer.url + "/from", method="PUT", payload=b"text", headers=headers)
        assert response.content == b"at last"
        first, second = peer.requests
        assert (first.head, first.body) == (second.head, second.body)
        assert first.get("authorization") == "x"
        assert response.history[0]._request.headers["authorization"] == "x"
        assert "authorization" not in response._request.headers
        assert len(other.requests) == 2


def test_error_after_a_redirect_names_the_request_that_failed() -> None:
    there = f"http://127.0.0.1:{free_port()}/there"
    with visiting({"/dead": to(there), "/gone": to("/404"), "/404": answer(b"", "404 No")}) as (peer, agent):
        with pytest.raises(ConnectionRefusedError) as refused:
            agent.urlopen(peer.url + "/dead")
        assert refused.value.request.url == there  # type: ignore[attr-defined]
        with pytest.raises(BadStatusCode) as caught:
            agent.urlopen(peer.url + "/gone")
        error: Any = caught.value
        assert error.request.url == error.url == peer.url + "/404"
        assert [seen.status_code for seen in error.response.history] == [302]


# ------------------------------------------------------------------------------------------------------------- retries


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_idempotent_request_is_sent_again(method: str) -> None:
    with visiting({"/": in_turn(breaking, breaking, answer(b""))}, max_retries=2) as (peer, agent):
        payload = b"body" if method == "PUT" else None
        assert agent.urlopen(peer.url + "/", method=method, payload=payload).status_code == 200
        assert [(request.method, request.body) for request in peer.requests] == [(method, payload or b"")] * 3


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_request_that_is_not_idempotent_is_not_sent_again(method: str) -> None:
    with visiting({"/": breaking}) as (peer, agent):
        with pytest.raises(HTTPConnectionClosed):
            agent.urlopen(peer.url + "/", method=method, payload=b"x")
        assert len(peer.requests) == 1


def test_retries_are_limited() -> None:
    with visiting({"/": breaking}, max_retries=2) as (peer, agent):
        with pytest.raises(HTTPConnectionClosed) as caught:  # as it is: only timeouts become a RetriesExceeded
            agent.urlopen(peer.url + "/")
        assert not hasattr(caught.value, "response")
        assert len(peer.requests) == 3
        with pytest.raises(HTTPConnectionClosed):
            agent.urlopen(peer.url + "/", max_retries=0)
        assert len(peer.requests) == 4


def test_timeouts_are_retried_and_reported() -> None:
    with visiting({"/": never}, max_retries=1, network_timeout=0.01) as (peer, agent):
        with pytest.raises(RetriesExceeded) as caught:
            agent.urlopen(peer.url + "/")
        assert isinstance(caught.value.original, TimeoutError)  # type: ignore[attr-defined]
        assert len(peer.requests) == 2
        with visiting({"/": in_turn(never, answer(b"late"))}, network_timeout=0.01) as (peer, agent):
            assert agent.urlopen(peer.url + "/").content == b"late"


def test_files_are_sent_again_from_their_position() -> None:
    with visiting({"/": in_turn(breaking, answer(b"taken"))}) as (peer, agent):
        file = at(io.BytesIO(b"not this: payload"), 10)
        assert agent.urlopen(peer.url + "/", method="PUT", payload=file).content == b"taken"
        assert [request.body for request in peer.requests] == [b"payload"] * 2


def test_body_that_cannot_be_rewound_is_not_retried(slept: list[float]) -> None:
    pages = {"/": breaking, "/busy": answer(b"", "503 Busy")}
    with visiting(pages, retry_statuses={503}, retry_delay=5) as (peer, agent):
        with pytest.raises(HTTPConnectionClosed):
            agent.urlopen(peer.url + "/", method="PUT", payload=(piece for piece in [b"once"]))
        with pytest.raises(BadStatusCode, match="code=503"):
            agent.urlopen(peer.url + "/busy", method="PUT", payload=(piece for piece in [b"once"]))
        assert len(peer.requests) == 2
        assert slept == []


def test_delays(slept: list[float]) -> None:
    with visiting({"/": breaking}, max_retries=5, retry_delay=1, retry_backoff=3, retry_max_delay=20) as (peer, agent):
        with pytest.raises(HTTPConnectionClosed):
            agent.urlopen(peer.url + "/")
        assert slept == [1, 3, 9, 20, 20]


def test_delays_are_steady_by_default_and_none_without_one(slept: list[float]) -> None:
    with visiting({"/": breaking}, max_retries=3, retry_delay=0.5) as (peer, agent):
        with pytest.raises(HTTPConnectionClosed):
            agent.urlopen(peer.url + "/")
        assert slept == [0.5] * 3
    slept.clear()
    with visiting({"/": breaking}, max_retries=3, retry_backoff=2, retry_jitter=1) as (peer, agent):
        with pytest.raises(HTTPConnectionClosed):
            agent.urlopen(peer.url + "/")
        assert slept == []


def test_jitter(slept: list[float]) -> None:
    with visiting({"/": breaking}, max_retries=20, retry_delay=1, retry_jitter=0.5) as (peer, agent):
        with pytest.raises(HTTPConnectionClosed):
            agent.urlopen(peer.url + "/")
        assert all(1 <= delay <= 1.5 for delay in slept)
        assert len(set(slept)) > 10


BUSY = answer(b"busy", "503 Busy")


def test_statuses_to_retry(slept: list[float]) -> None:
    with visiting({"/": in_turn(BUSY, BUSY, answer(b"now"))}, retry_statuses=[503]) as (peer, agent):
        assert agent.urlopen(peer.url + "/").content == b"now"
        assert len(peer.requests) == 3
        assert len(peer.conns) == 1
    for options in ({}, {"retry_statuses": [502]}):
        with visiting({"/": BUSY}, **options) as (peer, agent):
            with pytest.raises(BadStatusCode, match="code=503"):
                agent.urlopen(peer.url + "/")
            assert len(peer.requests) == 1


def test_statuses_are_retried_for_idempotent_requests_up_to_the_limit() -> None:
    with visiting({"/": BUSY}, max_retries=2, retry_statuses=[503]) as (peer, agent):
        with pytest.raises(BadStatusCode, match="code=503") as caught:
            agent.urlopen(peer.url + "/")
        assert caught.value.response.content == b"busy"  # type: ignore[attr-defined]
        assert len(peer.requests) == 3
        with pytest.raises(BadStatusCode, match="code=503"):
            agent.urlopen(peer.url + "/", method="POST", payload=b"x")
        assert len(peer.requests) == 4


@pytest.mark.parametrize("to_string", [False, True])
def test_valid_status_may_be_one_to_retry(to_string: bool) -> None:
    with visiting({"/": in_turn(BUSY, answer(b"now")), "/ever": BUSY}, max_retries=2, retry_statuses=[503]) as (
        peer,
        agent,
    ):
        agent.valid_response_codes = {200, 503}
        response = agent.urlopen(peer.url + "/", to_string=to_string)
        assert (response if to_string else response.content) == b"now"
        response = agent.urlopen(peer.url + "/ever", to_string=to_string)
        assert (response if to_string else response.content) == b"busy"
        assert len(peer.requests) == 5


def http_date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [
        ("7", 7, 7),
        (" 7 ", 7, 7),
        ("0", 1, 1),
        ("999999999999999999", 30, 30),
        ("soon", 1, 1),
        ("-7", 1, 1),
        ("7.5", 1, 1),
        ("\xb2", 1, 1),
        (lambda: http_date(20), 15, 21),
        (lambda: http_date(-20), 1, 1),
        (lambda: http_date(9e8), 30, 30),
        ("Mon, 99 Foo 2026 99:99:99 GMT", 1, 1),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", 1, 1),
    ],
)
def test_retry_after(field: Any, least: float, most: float, slept: list[float]) -> None:
    page = answer(b"", "503 Busy", f"Retry-After: {field() if callable(field) else field}")
    options: dict[str, Any] = {"retry_statuses": {503}, "retry_delay": 1, "retry_max_delay": 30}
    with visiting({"/": in_turn(page, answer(b"now"))}, **options) as (peer, agent):
        assert agent.urlopen(peer.url + "/").content == b"now"
        assert len(slept) == 1
        assert least <= slept[0] <= most


def test_retry_after_is_ignored_if_turned_off(slept: list[float]) -> None:
    page = answer(b"", "503 Busy", "Retry-After: 7")
    with visiting({"/": in_turn(page, answer(b"now"))}, retry_statuses={503}, retry_after=False) as (peer, agent):
        assert agent.urlopen(peer.url + "/").content == b"now"
        assert slept == []


def test_empty_body_is_requested_again() -> None:
    with visiting({"/": in_turn(answer(b""), answer(b"text"))}) as (peer, agent):
        assert agent.urlopen(peer.url + "/", to_string=True) == b"text"
    with visiting({"/": answer(b"")}, max_retries=1) as (peer, agent):
        with pytest.raises(RetriesExceeded, match="Empty response body received") as caught:
            agent.urlopen(peer.url + "/", to_string=True)
        assert isinstance(caught.value.original, EmptyResponse)  # type: ignore[attr-defined]
        assert len(peer.requests) == 2


def test_cookies_of_a_failed_attempt_go_with_the_next() -> None:
    busy = answer(b"", "503 Busy", "Set-Cookie: turn=2")
    again = answer(b"", "503 Busy", "Set-Cookie: turn=3")
    with visiting({"/": in_turn(busy, again, answer(b"ok"))}, cookiejar=CookieJar(), retry_statuses={503}) as (
        peer,
        agent,
    ):
        agent.urlopen(peer.url + "/").read()
        assert [request.get("cookie") for request in peer.requests] == [None, "turn=2", "turn=3"]
    with visiting({"/": in_turn(busy, answer(b"ok"))}, cookiejar=CookieJar(), retry_statuses={503}) as (peer, agent):
        agent.urlopen(peer.url + "/", headers={"Cookie": "mine=1"}).read()
        assert [request.get("cookie") for request in peer.requests] == ["mine=1", "mine=1"]


# ------------------------------------------------------------------------------------------------------- gevent.Timeout


class Mine(BaseException):
    """Exception of a program, for its gevent.Timeout to raise."""


def stalled(conn: Conn, request: Request) -> None:
    """Page: a redirect whose body does not end."""
    conn.send(b"HTTP/1.1 302 Found\r\nLocation: /to\r\nContent-Length: 5\r\n\r\nxy")
    conn.wait_closed()


@pytest.mark.parametrize("page", [never, stalled], ids=["head", "drain"])
def test_gevent_timeout_of_the_caller_is_raised(page: Page) -> None:
    with visiting({"/": page}, network_timeout=None) as (peer, agent):
        with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.01) as timeout:
            agent.urlopen(peer.url + "/")
        assert caught.value is timeout
        assert not hasattr(timeout, "response")
        with gevent.Timeout(0.01, False):
            agent.urlopen(peer.url + "/")
        with pytest.raises(Mine), gevent.Timeout(0.01, Mine):
            agent.urlopen(peer.url + "/")
        assert [request.target for request in peer.requests] == ["/"] * 3
        # Its place in the pool is free again.
        assert agent.urlopen(peer.url + "/next").content == b"GET /next "


def test_gevent_timeout_of_the_caller_ends_the_delay_between_attempts() -> None:
    for options in ({"retry_delay": 60}, {"retry_statuses": {503}, "retry_max_delay": 60}):
        page = answer(b"", "503 Busy", "Retry-After: 60") if "retry_statuses" in options else breaking
        with visiting({"/": page}, **options) as (peer, agent):
            with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
                agent.urlopen(peer.url + "/")
            assert len(peer.requests) == 1


def test_gevent_timeout_of_the_caller_ends_an_upload() -> None:
    def deaf(conn: Conn) -> None:
        conn.read_head()
        conn.hung_up.wait()

    with Peer(deaf) as peer, UserAgent(network_timeout=None) as agent:
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
            agent.urlopen(peer.url, method="PUT", payload=b"x" * (32 << 20))
        assert len(peer.conns) == 1
        peer.conns[0].hung_up.set()


def test_kill_reaches_the_greenlet() -> None:
    with visiting({"/": never}, network_timeout=None) as (peer, agent):
        job = gevent.spawn(agent.urlopen, peer.url + "/")
        peer.accepted.wait()
        job.kill()
        assert isinstance(job.value, gevent.GreenletExit)
        assert agent.urlopen(peer.url + "/next").content == b"GET /next "


# -------------------------------------------------------------------------------------------------------------- cookies


def test_cookies_are_read_and_stored_by_the_jar() -> None:
    jar = CookieJar()
    page = answer(b"", "200 OK", "Set-Cookie: a=b; Path=/", "Set-Cookie: c=d", "Set-Cookie: e=f; Path=/deep")
    with visiting({"/set": page}, cookiejar=jar) as (peer, agent):
        agent.urlopen(peer.url + "/set")
        agent.urlopen(peer.url + "/other").read()
        agent.urlopen(peer.url + "/other", headers={"Cookie": "own=1"}).read()
        assert [request.get("cookie") for request in peer.requests] == [None, "a=b; c=d", "own=1"]
        assert sorted((cookie.name, cookie.value) for cookie in jar) == [("a", "b"), ("c", "d"), ("e", "f")]
        # The jar is looked up at each call: programs change it, and empty it.
        jar.clear()
        agent.urlopen(peer.url + "/other").read()
        agent.cookiejar = None
        agent.urlopen(peer.url + "/set").read()
        assert peer.requests[-2].get("cookie") is None
        assert len(jar) == 0


@pytest.mark.parametrize("make", [CompatRequest, RequestsRequest, lambda url: httpx.Request("GET", url)])
def test_request_is_unverifiable_after_a_redirect(make: Callable[[str], CompatRequest]) -> None:
    request = make("http://a.test/")
    assert not request.is_unverifiable()
    before = copy.copy(request)
    request.redirect(302, "http://b.test/")
    assert request.is_unverifiable()
    assert request.unverifiable
    assert not before.is_unverifiable()


@pytest.mark.parametrize("make", [UserAgent, Session, httpx.Client])
def test_strict_policy_refuses_cookies_of_third_parties_after_a_redirect(make: Any) -> None:
    sets = answer(b"ok", "200 OK", "Set-Cookie: third=1")
    with Peer(site({"/sets": sets})) as peer:
        pages = {"/go": to(f"http://third.test:{peer.port}/sets"), "/near": to("/sets"), "/sets": sets}
        with Peer(site(pages)) as first:
            addresses = {f"first.test:{first.port}": "127.0.0.1", f"third.test:{peer.port}": "127.0.0.1"}
            for path, kept in (("/go", []), ("/near", ["third"])):
                jar = CookieJar(DefaultCookiePolicy(strict_ns_unverifiable=True))
                options = {"follow_redirects": True} if make is httpx.Client else {}
                with make(resolve=addresses, cookiejar=jar, **options) as agent:
                    get = agent.urlopen if make is UserAgent else agent.get
                    assert get(f"http://first.test:{first.port}{path}").content == b"ok"
                    assert [cookie.name for cookie in jar] == kept


def test_cookies_of_redirects() -> None:
    set_and_go = answer(b"", "302 Found", "Location: /to", "Set-Cookie: a=1")
    with visiting({"/from": set_and_go}, cookiejar=CookieJar()) as (peer, agent):
        agent.urlopen(peer.url + "/from", headers={"Cookie": "own=1"}).read()
        assert [request.get("cookie") for request in peer.requests] == ["own=1", "a=1"]


def test_cookies_stay_with_their_host(names_are_here: None) -> None:
    with visiting({"/": answer(b"", "200 OK", "Set-Cookie: a=b")}, cookiejar=CookieJar()) as (peer, agent):
        agent.urlopen(f"http://one.test:{peer.port}/")
        agent.urlopen(f"http://two.test:{peer.port}/else").read()
        agent.urlopen(f"http://one.test:{peer.port}/else").read()
        assert [request.get("cookie") for request in peer.requests] == [None, None, "a=b"]


# ---------------------------------------------------------------------------------------------------- codings and texts


@pytest.mark.parametrize("encoder", ENCODERS)
def test_codings(encoder: str) -> None:
    coding, encode = ENCODERS[encoder]
    body = encode(TEXT)
    with visiting({"/": answer(body, "200 OK", f"Content-Encoding: {coding}")}) as (peer, agent):
        assert agent.urlopen(peer.url + "/").content == TEXT
        assert agent.urlopen(peer.url + "/", to_string=True) == TEXT
        assert agent.urlopen(peer.url + "/").read() == body


def test_unknown_coding_leaves_the_body_unchanged() -> None:
    with visiting({"/": answer(b"as it is", "200 OK", "Content-Encoding: aes128gcm")}) as (peer, agent):
        assert agent.urlopen(peer.url + "/").content == b"as it is"


def test_two_lines_are_one_list_of_codings() -> None:
    body = gzip.compress(zlib.compress(b"twice"))
    page = answer(body, "200 OK", "Content-Encoding: deflate", "Content-Encoding: gzip")
    with visiting({"/": page}) as (peer, agent):
        assert agent.urlopen(peer.url + "/").content == b"twice"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_broken_coding_is_an_error_of_zlib(coding: str) -> None:
    with visiting({"/": answer(b"\x1fnothing of the kind", "200 OK", f"Content-Encoding: {coding}")}) as (peer, agent):
        response = agent.urlopen(peer.url + "/")
        with pytest.raises(zlib.error):
            response.content  # noqa: B018
        with pytest.raises(zlib.error) as caught:
            agent.urlopen(peer.url + "/", to_string=True)
        assert not hasattr(caught.value, "response")
        assert len(peer.requests) == 2


def test_decompression_bomb_raises() -> None:
    bomb = gzip.compress(bytes(1 << 20)) * 65
    with visiting({"/": answer(bomb, "200 OK", "Content-Encoding: gzip")}) as (peer, agent):
        response = agent.urlopen(peer.url + "/")
        with pytest.raises(zlib.error, match="that are allowed"):
            response.content  # noqa: B018


def test_truncated_body_is_an_error() -> None:
    def page(conn: Conn, request: Request) -> None:
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        conn.sock.close()

    with visiting({"/": page}) as (peer, agent), pytest.raises(HTTPConnectionClosed):
        agent.urlopen(peer.url + "/").content  # noqa: B018


def test_unzipped() -> None:
    with visiting({"/": answer(gzip.compress(b"text")), "/d": answer(zlib.compress(b"text"))}) as (peer, agent):
        assert agent.urlopen(peer.url + "/").unzipped() == b"text"
        assert agent.urlopen(peer.url + "/d").unzipped(gzip=False) == b"text"
        with pytest.raises(zlib.error):
            agent.urlopen(peer.url + "/").unzipped(br=True)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/plain", "café"),
        ("TEXT/html", "café"),
        ("text/plain; charset=latin-1", "cafÃ©"),
        ("text/plain; charset=no-such-thing", "café"),
        ("application/json", "café"),
        ("application/problem+json; v=1", "café"),
        ("image/svg+xml", "café"),
        ("application/octet-stream; charset=UTF-8", "café"),
        ("application/octet-stream", b"caf\xc3\xa9"),
        ("image/png", b"caf\xc3\xa9"),
        ("", "café"),
        (None, "café"),
    ],
)
def test_texts(kind: str | None, text: str | bytes) -> None:
    fields = [] if kind is None else [f"Content-Type: {kind}"]
    with visiting({"/": answer("café".encode(), "200 OK", *fields)}) as (peer, agent):
        assert agent.urlopen(peer.url + "/").text == text


def test_texts_of_other_octets() -> None:
    with visiting({"/": answer(b"a\xffb", "200 OK", "Content-Type: text/plain")}) as (peer, agent):
        assert agent.urlopen(peer.url + "/").text == "a\ufffdb"


def test_json() -> None:
    pages = {"/": answer(b'{"a": [1, null]}'), "/not": answer(b"<html>"), "/wide": answer('"é"'.encode("utf-16"))}
    with visiting(pages) as (peer, agent):
        assert agent.urlopen(peer.url + "/").json() == {"a": [1, None]}
        assert agent.urlopen(peer.url + "/wide").json() == "é"
        with pytest.raises(ValueError, match=r"."):
            agent.urlopen(peer.url + "/not").json()


# ------------------------------------------------------------------------------------------------------------ debugging


def test_exchanges_as_text() -> None:
    stream = io.StringIO()
    with visiting({"/from": to("/to", "307 There")}) as (peer, agent):
        response = agent.urlopen(peer.url + "/from", method="POST", payload="sent", debug_stream=stream)
        assert response.content == b"POST /to sent"
        assert [seen.content for seen in response.history] == [b"over there"]
        host = f"127.0.0.1:{peer.port}"
        version = agent.default_headers["user-agent"]
    head = (
        f"User-Agent: {version}\ncontent-type: text/plain; charset=utf-8\ncontent-length: 4\nHost: {host}\n\nsent\n\n"
    )
    assert stream.getvalue().replace("\r\n", "\n") == (
        f"REQUEST: http://{host}/from\nPOST /from HTTP/1.1\n{head}"
        "RESPONSE: HTTP/1.1 307\nLocation: /to\nContent-Length: 10\n\nover there\n\n"
        f"REQUEST: http://{host}/to\nPOST /to HTTP/1.1\n{head}"
        "RESPONSE: HTTP/1.1 200\nContent-Length: 13\n\nPOST /to sent\n\n"
    )


def test_exchange_without_payload_and_one_of_bytes() -> None:
    stream = io.StringIO()
    with visiting({"/": answer(b"\xff")}) as (peer, agent):
        agent.urlopen(peer.url + "/", debug_stream=stream)
        agent.urlopen(peer.url + "/", method="PUT", payload=b"\xfe", debug_stream=stream)
        agent.urlopen(peer.url + "/", method="PUT", payload=io.BytesIO(b"file"), debug_stream=stream)
    first, second, third = stream.getvalue().split("REQUEST: ")[1:]
    assert "\r\n\r\nRESPONSE: HTTP/1.1 200\n" in first
    assert "\r\n\r\n\ufffd\n\nRESPONSE: " in second
    assert "BytesIO" in third
    assert first.endswith("\n\n\ufffd\n\n")


# --------------------------------------------------------------------------------------------------------------- urllib


@pytest.mark.parametrize(("url", "selector"), [("http://me.test", "/"), ("http://me.test?a", "?a")])
@pytest.mark.parametrize("kind", [str, URL])
def test_selector_of_a_url_without_a_path_is_not_empty(kind: type, url: str, selector: str) -> None:
    assert CompatRequest(kind(url)).selector == selector
    request = CompatRequest("http://other.test/")
    request.set_url(kind(url))
    assert request.selector == selector


def test_requests_look_like_urllibs() -> None:
    request = CompatRequest("http://Me.Test:8080/a?b=c#d", method="post", headers=Headers({"A": "b"}), payload=b"x")
    assert isinstance(request, urllib.request.Request)
    assert request.url == request.full_url == request.get_full_url() == str(request.url_split)
    assert request.method == request.get_method() == "POST"
    assert request.host == "Me.Test:8080"
    assert request.get_host() == request.original_host == request.origin_req_host == "me.test"
    assert request.original_origin == ("http", "me.test", 8080)
    assert request.type == request.get_type() == "http"
    assert request.selector == "/a?b=c"
    assert request.payload == request.data == b"x"
    assert request.get_origin_req_host() == "me.test"
    assert request.unverifiable is False
    assert request.is_unverifiable() is False
    assert request.has_header("a")
    assert request.get_header("a") == "b"
    assert request.get_header("c", "d") == "d"
    request.add_unredirected_header("Cookie", "e=f")
    assert request.header_items() == [("A", "b"), ("Cookie", "e=f")]
    request.full_url = "https://other.test/"
    request.data = b"y"
    assert (request.url_split.host, request.type, request.payload) == ("other.test", "https", b"y")
    assert request.original_host == "me.test"
    request.set_url("http://me.test/", params={"a": "b"})
    assert request.url == "http://me.test/?a=b"


def test_url_of_a_request_is_not_shared() -> None:
    url = "http://me.test/known?a=b"
    first = CompatRequest(url)
    first.url_split["c"] = "d"
    assert str(CompatRequest(url).url_split) == url
    assert str(copy.copy(first).url_split) != url


def test_headers_of_a_request_are_the_object_that_was_given() -> None:
    headers = {"A": "b"}
    request = CompatRequest("http://me.test/", headers=headers)
    assert request.headers is headers
    request = useragent._make_request("http://me.test/", method="POST", headers=headers, payload="x")
    assert request.headers is headers
    assert headers["content-type"] == "text/plain; charset=utf-8"
    with UserAgent() as agent:
        request = agent._make_request("http://me.test/", method="GET", headers=headers, payload=None, params={"a": 1})
    assert request.headers is headers
    assert request.url == "http://me.test/?a=1"


def test_plain_dicts_lose_their_credentials_too() -> None:
    request = CompatRequest("http://me.test/", headers={"AUTHORIZATION": "x", "cookie": "y", "a": "b"})
    request.redirect(302, "http://other.test/")
    assert request.headers == {"a": "b"}
    assert request.original_host == "me.test"
    assert request.url == "http://other.test/"


def test_another_scheme_or_port_is_another_origin() -> None:
    for location, kept in [
        ("https://me.test/", False),
        ("http://me.test:81/", False),
        ("http://ME.test:80/", True),
        ("/else", True),
    ]:
        request = CompatRequest("http://me.test/", headers=Headers({"Authorization": "x"}))
        request.redirect(307, location)
        assert ("authorization" in request.headers) is kept


# -------------------------------------------------------------------- names that programs override, patch and assign to


class FastRequest(CompatRequest):
    payload: str | None = None

    @property
    def body(self) -> str | None:
        return self.payload


class FastResponse(CompatResponse):
    """Response class like those of load generators: it declares the names, and the values land in `__dict__`."""

    headers: Headers | None = None
    _response: HTTPSocketPoolResponse | None = None  # type: ignore[assignment]
    request: CompatRequest | None = None
    encoding: str | None = None

    def __init__(self, ghc_response: Any, request: Any = None, sent_request: str | None = None) -> None:
        super().__init__(ghc_response, request, sent_request)
        self.request = request

    def _content(self) -> bytes | None:  # type: ignore[override]
        return None if self.headers is None else super()._content()

    @property
    def status_code(self) -> int:
        return self._response.get_code() if self._response is not None else 0


class FastAgent(UserAgent):
    response_type = FastResponse
    request_type = FastRequest
    valid_response_codes = frozenset({200, 201, 204, 302})

    def __init__(self, client_pool: HTTPClientPool | None = None, **options: Any) -> None:
        super().__init__(**options)
        if client_pool is not None:
            self.clientpool = client_pool

    def _urlopen(self, request: CompatRequest) -> CompatResponse:
        client = self.clientpool.get_client(request.url_split)
        target = getattr(request.url_split, "quoted_uri", request.url_split.request_uri)
        response = client.request(request.method, target, body=request.payload, headers=request.headers)
        return self.response_type(response, request=request, sent_request=response._sent_request)


def fast(peer: Peer, **options: Any) -> FastAgent:
    return FastAgent(max_retries=0, max_redirects=30, concurrency=10, insecure=True, headers=None, **options)


def test_response_url_is_that_of_the_last_request() -> None:
    moved = b"HTTP/1.1 301 Moved\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n"
    with visiting({"/moved": moved}) as (peer, agent):
        response = agent.urlopen(peer.url + "/a?b=c#d")
        assert response.url == peer.url + "/a?b=c#d"
        redirected = agent.urlopen(peer.url + "/moved", max_redirects=1)
        assert redirected.url == peer.url + "/a"
        assert [each.url for each in redirected.history] == [peer.url + "/moved"]
        assert CompatResponse(response._response).url == ""


def test_response_url_may_be_one_of_a_subclass() -> None:
    class Assigned(FastResponse):
        def __init__(self, *args: Any, **kw: Any) -> None:
            super().__init__(*args, **kw)
            self.url = "assigned"

    class Named(FastResponse):
        url = "named"

    class Bare(FastResponse):
        def __init__(self, response: Any) -> None:
            self.__dict__ = response.__dict__

    with Peer(site({})) as peer, fast(peer) as agent:
        agent.response_type = Assigned
        response = agent.urlopen(peer.url + "/a")
        assert response.url == "assigned"
        assert Bare(response).url == "assigned"
        agent.response_type = Named
        assert agent.urlopen(peer.url + "/a").url == "named"
        agent.response_type = FastResponse
        assert Bare(agent.urlopen(peer.url + "/a")).url == ""


def test_responses_with_declared_names_have_values_in_their_dict() -> None:
    with Peer(site({})) as peer, fast(peer) as agent:
        response = agent.urlopen(peer.url + "/a", method="POST", payload="sent")
        assert type(response) is FastResponse
        assert type(response.request) is FastRequest
        assert type(agent.urlopen(peer.url).request) is FastRequest
        assert response.request.body == b"sent"
        assert {"headers", "_response", "request"} <= response.__dict__.keys()
        assert "_cached_content" not in response.__dict__
        with pytest.raises(AttributeError):
            response._cached_content  # noqa: B018
        assert response.headers["content-length"] == "12"
        assert response.content == response._cached_content == b"POST /a sent"
        assert response._sent_request.startswith("POST /a HTTP/1.1\r\n")


def test_responses_can_be_made_of_the_dict_of_another() -> None:
    class Managed(FastResponse):
        def __init__(self, response: FastResponse) -> None:
            self.__dict__.update(response.__dict__)
            try:
                self._cached_content = response._cached_content
            except AttributeError:
                self.was_unread = True

    with Peer(site({"/t": answer(b"{}", "200 OK", "Content-Type: application/json")})) as peer, fast(peer) as agent:
        unread = Managed(agent.urlopen(peer.url + "/t"))
        assert unread.was_unread
        assert (unread.status_code, unread.content, unread.text, unread.json()) == (200, b"{}", "{}", {})
        assert unread.headers is not None
        assert unread.headers["content-type"] == "application/json"
        response = agent.urlopen(peer.url + "/t")
        assert response.content == b"{}"
        read = Managed(response)
        assert not hasattr(read, "was_unread")
        assert read.content is response.content


def test_responses_can_represent_an_error() -> None:
    class Failed(FastResponse):
        headers = None
        content = None  # type: ignore[assignment]
        status_code = 0  # type: ignore[assignment]
        text: Any = None
        error: Exception | None = None

        def __init__(self, url: str, request: CompatRequest) -> None:
            self.url = url
            self.request = request

    request = FastRequest("http://me.test/")
    failed = Failed("http://me.test/", request)
    assert (failed.status_code, failed.content, failed.text, failed.headers) == (0, None, None, None)
    assert failed
    assert failed.request is request
    assert failed.elapsed == datetime.timedelta(0)


def test_classes_may_be_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompatRequest, "unverifiable", False, raising=False)
    monkeypatch.setattr(CompatRequest, "type", "https", raising=False)
    request = CompatRequest("http://me.test/")
    assert request.type == "http"
    assert request.unverifiable is False
    monkeypatch.setattr(CompatRequest, "unverifiable", True)
    assert CompatRequest("http://me.test/").is_unverifiable()


def test_cookies_of_patched_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompatRequest, "type", "https", raising=False)
    with Peer(site({"/": answer(b"", "200 OK", "Set-Cookie: a=b")})) as peer:
        with fast(peer, cookiejar=CookieJar()) as agent:
            agent.urlopen(peer.url + "/")
            agent.urlopen(peer.url + "/b").read()
        assert peer.requests[1].get("cookie") == "a=b"


def test_errors_have_the_attributes_that_programs_read() -> None:
    with Peer(site({"/404": answer(b"gone", "404 Not"), "/break": breaking})) as peer, fast(peer) as agent:
        for path, has_response in (("/404", True), ("/break", False)):
            with pytest.raises((ConnectionError, HTTPConnectionClosed)) as caught:
                agent.urlopen(peer.url + path)
            assert hasattr(caught.value, "response") is has_response
            if has_response:
                assert type(caught.value.response) is FastResponse  # type: ignore[attr-defined]
                assert "code=404" in str(caught.value)


@pytest.mark.parametrize("none", [frozenset(), [], ()])
def test_redirects_turned_off_for_one_request_on_the_instance(none: Any) -> None:
    with Peer(site({"/from": to("/to")})) as peer, fast(peer) as agent:
        before = agent.redirect_response_codes
        agent.redirect_response_codes = none
        assert agent.urlopen(peer.url + "/from").status_code == 302
        agent.redirect_response_codes = before
        assert agent.urlopen(peer.url + "/from").status_code == 200


def test_old_spelling_of_redirect_response_codes_counts() -> None:
    class NoRedirects(FastAgent):
        redirect_resonse_codes: Any = []

    class Some(FastAgent):
        redirect_resonse_codes: Any = [302]

    with Peer(site({"/from": to("/to"), "/301": to("/to", "301 Moved")})) as peer:
        with NoRedirects() as agent:
            assert agent.urlopen(peer.url + "/from").status_code == 302
        with Some() as agent:
            assert agent.urlopen(peer.url + "/from").status_code == 200
            with pytest.raises(BadStatusCode, match="code=301"):
                agent.urlopen(peer.url + "/301")
            # Both names are set: an empty set, under either name, wins.
            before = agent.redirect_response_codes
            agent.redirect_response_codes = frozenset()
            assert agent.urlopen(peer.url + "/from").status_code == 302
            agent.redirect_response_codes = before
            assert agent.urlopen(peer.url + "/from").status_code == 200
            with pytest.raises(BadStatusCode, match="code=301"):
                agent.urlopen(peer.url + "/301")


def test_pool_may_be_shared_and_put_in() -> None:
    with Peer() as peer, HTTPClientPool(concurrency=1) as pool:
        for _ in range(2):
            agent = FastAgent(pool, max_retries=0)
            assert agent.clientpool is pool
            assert agent.urlopen(peer.url + "/a").content == b"/a"
            assert agent.urlopen(peer.url + "/b").content == b"/b"
        assert len(peer.conns) == 1
        for _ in range(2):
            with FastAgent(max_retries=0) as agent:
                agent.urlopen(peer.url + "/a").read()
        assert len(peer.conns) == 3


def test_every_hook_is_called_on_the_agent() -> None:
    called: list[str] = []

    class Hooked(UserAgent):
        def _make_request(self, *args: Any, **kw: Any) -> CompatRequest:
            called.append("_make_request")
            return super()._make_request(*args, **kw)

        def _urlopen(self, request: CompatRequest) -> CompatResponse:
            called.append("_urlopen")
            return super()._urlopen(request)

        def _verify_status(self, status_code: int, url: str | URL | None = None) -> None:
            called.append(f"_verify_status {status_code}")

        def _may_retry(self, request: CompatRequest) -> bool:
            called.append("_may_retry")
            return True

        def _handle_error(self, e: BaseException, url: str | URL | None = None) -> BaseException:
            called.append(f"_handle_error {type(e).__name__}")
            return e

        def _handle_retries_exceeded(self, url: Any, last_error: BaseException | None = None) -> Any:
            called.append("_handle_retries_exceeded")
            raise KeyError("mine") from last_error

    with Peer(site({"/404": answer(b"", "404 No"), "/break": breaking})) as peer, Hooked(max_retries=1) as agent:
        assert agent.urlopen(peer.url + "/404").status_code == 404
        assert called == ["_make_request", "_urlopen", "_verify_status 404"]
        called.clear()
        with pytest.raises(KeyError):
            agent.urlopen(peer.url + "/break", method="POST", payload=b"x")
        tried = ["_urlopen", "_handle_error HTTPConnectionClosed"]
        assert called == ["_make_request", *tried, "_may_retry", *tried, "_handle_retries_exceeded"]
        agent._urlopen = lambda request: CompatResponse(HTTPClient.get(agent.clientpool.get_client(peer.url), "/own"))  # type: ignore[method-assign]
        assert agent.urlopen(peer.url + "/else").content == b"GET /own "


def test_verify_status_of_a_subclass_is_called() -> None:
    class Strict(UserAgent):
        def _verify_status(self, status_code: int, url: str | URL | None = None) -> None:
            raise BadStatusCode(url, code=status_code, mine=True)

    with Peer() as peer, Strict() as agent:
        with pytest.raises(BadStatusCode) as caught:
            agent.urlopen(peer.url + "/x")
        assert caught.value.response.content == b"/x"  # type: ignore[attr-defined]
        assert caught.value.mine  # type: ignore[attr-defined]


def test_arguments_of_an_agent_are_attributes() -> None:
    factory = gevent.ssl.create_default_context
    agent = UserAgent(network_timeout=1.5, insecure=True, ssl_context_factory=factory, concurrency=7)
    args = agent.clientpool.client_args
    assert args["ssl_context_factory"] is factory
    assert (args["network_timeout"], args["insecure"], args["concurrency"]) == (1.5, True, 7)
    assert (agent.max_redirects, agent.max_retries, agent.retry_delay, agent.cookiejar) == (3, 3, 0, None)
    assert agent.valid_response_codes == {200, 206, 301, 302, 303, 307, 308}
    assert agent.redirect_response_codes == {301, 302, 303, 307, 308}


# ------------------------------------------------------------------------------------------------------------ downloads


def ranged(content: bytes) -> Page:
    """Returns a page that supports range requests (RFC 9110 section 14)."""

    def page(conn: Conn, request: Request) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", request.get("range") or "")
        if asked is None:
            conn.respond(content)
        elif (start := int(asked[1])) < len(content):
            field = f"bytes {start}-{len(content) - 1}/{len(content)}"
            conn.respond(content[start:], "206 Partial Content", [("Content-Range", field)])
        else:
            conn.respond(b"no", "416 Unsatisfiable", [("Content-Range", f"bytes */{len(content)}")])

    return page


CONTENT = bytes(range(256)) * 300


def test_downloads(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"what was there before")
    with visiting({"/from": to("/file"), "/file": ranged(CONTENT)}) as (peer, agent):
        response = agent.download(peer.url + "/from", path)
        assert response.status_code == 200
        assert path.read_bytes() == CONTENT
        assert peer.requests[-1].get("range") is None
        agent.download(peer.url + "/file", str(path), chunk_size=7, headers={"X-A": "b"})
        assert path.read_bytes() == CONTENT
        assert peer.requests[-1].get("x-a") == "b"
        assert len(peer.conns) == 1


@pytest.mark.parametrize("present", [0, 1, 5000, len(CONTENT)])
def test_downloads_resume_at_their_end(present: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT[:present])
    with visiting({"/file": ranged(CONTENT)}) as (peer, agent):
        response = agent.download(peer.url + "/file", path, resume=True, headers={"X-A": "b"})
        assert path.read_bytes() == CONTENT
        assert response.status_code == {0: 200, len(CONTENT): 416}.get(present, 206)
        assert peer.requests[0].get("range") == (f"bytes={present}-" if present else None)
        assert peer.requests[0].get("x-a") == "b"


def test_unit_of_a_range_is_the_same_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    with visiting({"/": answer(b"teen", "206 Part", "Content-Range: Bytes 4-7/8")}) as (peer, agent):
        agent.download(peer.url + "/", path, resume=True)
        assert path.read_bytes() == b"fourteen"


def test_downloads_without_a_file_or_without_ranges_start_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with visiting({"/parts": ranged(CONTENT), "/whole": answer(CONTENT)}) as (peer, agent):
        agent.download(peer.url + "/parts", path, resume=True)
        assert path.read_bytes() == CONTENT
        path.write_bytes(b"an old start")
        agent.download(peer.url + "/whole", path, resume=True)
        assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("field", ["Content-Range: bytes 0-4/9", "Content-Range: bytes 40-44/99", "X: y"])
def test_part_other_than_the_requested_one_is_refused(field: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    with visiting({"/": answer(b"wrong", "206 Part", field)}) as (peer, agent):
        with pytest.raises(HTTPParseError, match="range"):
            agent.download(peer.url + "/", path, resume=True)
        assert path.read_bytes() == b"four"


@pytest.mark.parametrize("valid", [{200, 206}, {200, 206, 416}])
def test_file_longer_than_the_resource_is_not_complete(valid: set[int], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT + b"more")
    with visiting({"/file": ranged(CONTENT)}) as (peer, agent):
        agent.valid_response_codes = valid
        with pytest.raises(BadStatusCode, match="code=416") as caught:
            agent.download(peer.url + "/file", path, resume=True)
        assert caught.value.response.status_code == 416  # type: ignore[attr-defined]
        assert path.read_bytes() == CONTENT + b"more"
        path.write_bytes(CONTENT)
        assert agent.download(peer.url + "/file", path, resume=True).status_code == 416
        assert path.read_bytes() == CONTENT


def test_failed_download_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    with visiting({"/": answer(b"", "404 No")}) as (peer, agent):
        for resume in (False, True):
            with pytest.raises(BadStatusCode):
                agent.download(peer.url + "/", path, resume=resume)
            assert path.read_bytes() == b"four"


def test_interrupted_download_can_be_resumed(tmp_path: Path) -> None:
    def half(conn: Conn, request: Request) -> None:
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT[:30_000])
        conn.sock.close()

    path = tmp_path / "file"
    with visiting({"/file": in_turn(half, ranged(CONTENT))}) as (peer, agent):
        with pytest.raises(HTTPConnectionClosed):
            agent.download(peer.url + "/file", path)
        assert CONTENT.startswith(path.read_bytes())
        agent.download(peer.url + "/file", path, resume=True)
        assert path.read_bytes() == CONTENT


# --------------------------------------------------------------------------------------------------------- real servers


def test_nginx(nginx: Nginx, tmp_path: Path) -> None:
    (nginx.root / "lines").write_bytes(TEXT * 20)
    path = tmp_path / "page"
    path.write_bytes((nginx.root / "page").read_bytes()[:100])
    with UserAgent(headers={"Accept-Encoding": "gzip"}) as agent:
        response = agent.urlopen(nginx.url + "/gzip/lines")
        assert response.headers["content-encoding"] == "gzip"
        assert response.content == TEXT * 20
        assert agent.download(nginx.url + "/page", path, resume=True).status_code == 206
        assert path.read_bytes() == (nginx.root / "page").read_bytes()
        assert agent.download(nginx.url + "/page", path, resume=True).status_code == 416
        with pytest.raises(BadStatusCode, match="code=404"):
            agent.urlopen(nginx.url + "/status/404")
        assert agent.urlopen(nginx.url + "/echo-length", method="POST", payload=b"x" * 1000).content == b"1000"


def own_factory(cafile: str | None = None) -> ssl.SSLContext:
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile)
    return context


def test_https(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    page = (tls_nginx.root / "page").read_bytes()
    ca = str(certificates.ca)
    ways: list[dict[str, Any]] = [
        {"verify": ca},
        {"verify": False},
        {"ssl_options": {"ca_certs": ca}},
        {"ssl_options": {"ca_certs": ca}, "ssl_context_factory": own_factory},
        {
            "ssl_context_factory": gevent.ssl._create_unverified_context,
            "insecure": True,
            "ssl_options": {"ca_certs": ca},
        },
    ]
    for options in ways:
        with UserAgent(**options) as agent:
            response = agent.urlopen(f"https://localhost:{tls_nginx.ports['valid']}/page")
            assert response.content == page
            assert response.tls is not None
            assert response.tls.version in ("TLSv1.2", "TLSv1.3")


def test_https_with_a_wrong_name_or_authority(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    elsewhere = f"https://localhost:{tls_nginx.ports['elsewhere']}/page"
    untrusted = f"https://localhost:{tls_nginx.ports['untrusted']}/page"
    trusting = {"ca_certs": str(certificates.ca)}
    with UserAgent(ssl_options=trusting, insecure=True) as agent:
        # The name does not matter then; who says so does.
        assert agent.urlopen(elsewhere).status_code == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            agent.urlopen(untrusted)
    with UserAgent(ssl_options=trusting) as agent:
        for url in (elsewhere, untrusted):
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                agent.urlopen(url)
            assert caught.value.request.url == url  # type: ignore[attr-defined]
            assert not hasattr(caught.value, "response")


def test_exception_of_a_factory_is_raised_unchanged(tls_nginx: TlsNginx) -> None:
    def refusing() -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.verify_mode = ssl.CERT_NONE
        return context

    url = f"https://localhost:{tls_nginx.ports['valid']}/page"
    said = "Cannot set verify_mode to CERT_NONE when check_hostname is enabled"
    with UserAgent(ssl_context_factory=refusing) as agent, pytest.raises(ValueError, match=said):
        agent.urlopen(url)


def test_redirect_to_https(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    there = f"https://localhost:{tls_nginx.ports['valid']}/page"
    with visiting({"/": to(there)}, ssl_options={"ca_certs": str(certificates.ca)}) as (peer, agent):
        response = agent.urlopen(peer.url + "/")
        assert response.content == (tls_nginx.root / "page").read_bytes()
        assert response._request.url == there
        assert response.history[0].tls is None


# ---------------------------------------------------------------------------------------- requests before they are sent


class Looking(UserAgent):
    """Agent that records the payload and the length of each request before it is sent."""

    def _urlopen(self, request: CompatRequest) -> CompatResponse:
        self.seen = (request.payload, request.headers.get("content-length"))
        return super()._urlopen(request)


FIELDS = {"a": "b c"}


@pytest.mark.parametrize(
    ("payload", "fields", "seen", "length"),
    [
        (FIELDS, {}, b"a=b+c", "5"),
        (FIELDS, {"Content-Type": "x/y", "Content-Length": "99"}, b"a=b+c", "5"),
        ("tëxt", {}, "tëxt".encode(), "5"),
        ("tëxt", {"Content-Type": "x/y"}, "tëxt", None),
        ("", {}, "", None),
        (b"bytes", {}, b"bytes", None),
        (FIELDS, {"Transfer-Encoding": "chunked"}, b"a=b+c", None),
    ],
)
def test_payload_of_a_request_before_it_is_sent(payload: Any, fields: Any, seen: Any, length: str | None) -> None:
    with Peer() as peer, Looking() as agent:
        agent.urlopen(peer.url, "POST", fields, payload)
        assert agent.seen == (seen, length)
        assert type(agent.seen[0]) is type(seen)
        sent = seen.encode() if isinstance(seen, str) else seen
        assert peer.requests[-1].body == sent
        assert len([name for name, _ in peer.requests[-1].fields if name.lower() == "content-length"]) <= 1


def test_form_with_trailers_has_no_length() -> None:
    with Peer() as peer, Looking() as agent:
        agent.urlopen(peer.url, "POST", payload=FIELDS, trailers={"X-Sum": "1"})
        assert agent.seen == (b"a=b+c", None)
        assert peer.requests[-1].body == b"a=b+c"


def test_length_of_a_form_in_plain_headers_has_its_old_name() -> None:
    fields = {"Content-Length": "1", "Content-Type": "x/y"}
    request = useragent._make_request("http://a.test/", "POST", fields, FIELDS)
    assert request.headers == {"Content-Type": "x/y", "content-length": "5"}
