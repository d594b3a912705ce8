"""The httpx-compatible API: requests, responses, redirects, authentication, timeouts, errors."""

from __future__ import annotations

import gzip
import hashlib
import re
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest

from geventhttpclient import URL, httpx
from geventhttpclient.mock import MockRequest, MockResponse, MockTransport
from geventhttpclient.proxy import ProxyError
from geventhttpclient.response import HTTPConnectionClosed
from tests.agents.test_auth import Guard
from tests.support.peer import Conn, Peer
from tests.support.scripted import HUGE, OK, saying, saying_then_closing, settle, silent

BASE = "http://example.test"


def answering(answer: Any) -> MockTransport:
    return MockTransport(lambda request: answer)


def client_of(handler: Callable[[MockRequest], Any], **options: Any) -> httpx.Client:
    return httpx.Client(transport=MockTransport(handler), **options)


def seen(*, url: str = "/", method: str = "GET", client: dict[str, Any] | None = None, **kw: Any) -> MockRequest:
    """Returns the request that is sent."""
    transport = answering(MockResponse())
    with httpx.Client(transport=transport, **{"base_url": BASE, **(client or {})}) as made:
        made.request(method, url, **kw)
    return transport.requests[-1]


def response_of(*answer: Any, method: str = "GET", **options: Any) -> httpx.Response:
    return client_of(lambda request: answer, **options).request(method, f"{BASE}/")


# Requests


@pytest.mark.parametrize(
    ("base", "url", "expected"),
    [
        ("http://a.test", "/x", "http://a.test/x"),
        ("http://a.test/api/", "/x", "http://a.test/api/x"),
        ("http://a.test/api", "x?y=1", "http://a.test/api/x?y=1"),
        ("http://a.test/api", "", "http://a.test/api/"),
        ("http://a.test/api/", "", "http://a.test/api/"),
        ("http://a.test", "", "http://a.test/"),
        ("http://a.test/api", "/", "http://a.test/api/"),
        ("http://a.test/api", "//", "http://a.test/api/"),
        ("http://a.test/api", "?y=1", "http://a.test/api/?y=1"),
        ("http://a.test", "?y=1", "http://a.test/?y=1"),
        ("http://a.test/api", "#part", "http://a.test/api/"),
        ("http://a.test/api", "x#part", "http://a.test/api/x"),
        ("http://a.test/api", "x?next=http://b.test/", "http://a.test/api/x?next=http://b.test/"),
        ("http://a.test/api", "x?y?z", "http://a.test/api/x?y?z"),
        ("http://a.test/api", "x//y", "http://a.test/api/x//y"),
        ("http://a.test//api", "x", "http://a.test//api/x"),
        ("http://a.test/api", "x;y", "http://a.test/api/x;y"),
        ("http://a.test/a;b", "x", "http://a.test/a;b/x"),
        # Dot segments: `..` does not leave a slash behind.
        ("http://a.test/api", "../x", "http://a.test/x"),
        ("http://a.test/api", "/a/../b", "http://a.test/api/b"),
        ("http://a.test/api/v1", "../../../x", "http://a.test/x"),
        ("http://a.test/api", "./x/.", "http://a.test/api/x"),
        ("http://a.test/api", "x/..", "http://a.test/api"),
        ("http://a.test/api", "x/y/..", "http://a.test/api/x"),
        ("http://a.test/api", "..", "http://a.test/"),
        ("http://a.test/api", "..x/.y", "http://a.test/api/..x/.y"),
        ("http://a.test/api", "x/..;y", "http://a.test/api/x/..;y"),
        ("http://a.test/api", "x?../y", "http://a.test/api/x?../y"),
        # A target with a host but no scheme, or with a scheme but no host, is a path.
        ("http://a.test/api", "//b.test/x", "http://a.test/api/x"),
        ("http://a.test/api", "http:///x", "http://a.test/api/x"),
        ("http://a.test/api", "http:x", "http://a.test/api/x"),
        ("http://a.test/api", "users:batch", "http://a.test/api/batch"),
        ("http://a.test/api", ":x", "http://a.test/api/x"),
        ("http://a.test/api", "x/y:z", "http://a.test/api/x/y:z"),
        ("http://a.test/api", "1:2", "http://a.test/api/1:2"),
        # The path of a base URL includes its query.
        ("http://a.test/api?k=v", "", "http://a.test/api?k=v/"),
        ("http://a.test/api?k=v", "x?y", "http://a.test/api?k=v/x?y"),
        ("http://a.test/api?k=v", "../x", "http://a.test/api?k=v/../x"),
        ("http://a.test/api/?k=v/", "/x", "http://a.test/api/?k=v/x"),
        ("http://me:secret@a.test:8080/api", "x", "http://a.test:8080/api/x"),
        ("http://a.test/api", "https://b.test/x", "https://b.test/x"),
        ("http://a.test/api", "https://b.test", "https://b.test/"),
        ("http://a.test/api", "https://b.test//x/../y?z/../z", "https://b.test//y?z/../z"),
        (None, "http://b.test", "http://b.test/"),
        (None, "http://b.test/a/../b", "http://b.test/b"),
        ("", "http://b.test/a/..", "http://b.test/"),
    ],
)
def test_base_url_and_reference_are_joined_as_in_httpx(base: str | None, url: str, expected: str) -> None:
    assert seen(client={"base_url": base}, url=url).url == expected
    assert seen(client={"base_url": base and URL(base)}, url=URL(url)).url == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        (None, ""),
        ("", ""),
        ("http://a.test", "http://a.test"),
        ("http://a.test/api", "http://a.test/api/"),
        ("http://a.test/api/", "http://a.test/api/"),
        ("http://a.test/api?k=v", "http://a.test/api?k=v/"),
    ],
)
def test_base_url_is_shown_with_a_slash_at_its_end(base: str | None, shown: str) -> None:
    with httpx.Client(base_url=base) as client:
        assert client.base_url == shown
        client.base_url = client.base_url
        assert client.base_url == shown


def test_base_url_that_cannot_be_read_raises_invalid_url() -> None:
    with pytest.raises(httpx.InvalidURL, match="base_url") as caught:
        httpx.Client(base_url="http://me:secret@[::1/")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "bodies",
    [
        {"content": b"", "json": None, "data": {"a": "b"}},
        {"content": b"a", "json": 0},
        {"content": b"a", "data": {"a": "b"}},
        {"content": b"a", "data": b"b"},
        {"content": b"a", "files": {"f": b"b"}},
        {"json": {}, "data": {"a": "b"}},
        {"json": {}, "data": b"a"},
        {"json": {}, "files": {"f": b"b"}},
        {"json": {}, "data": {"a": "b"}, "files": {"f": b"b"}},
        {"content": b"a", "json": {}, "data": {"a": "b"}, "files": {"f": b"b"}},
    ],
)
def test_request_with_two_bodies_raises_value_error(bodies: dict[str, Any]) -> None:
    with httpx.Client() as client, pytest.raises(ValueError, match="one body"):
        client.build_request("POST", BASE, **bodies)
    with pytest.raises(ValueError, match="one body"):
        httpx.request("POST", BASE, **bodies)


def test_client_settings_apply_to_every_request() -> None:
    client = {"params": {"a": "1", "b": "2"}, "headers": {"X-A": "1", "X-B": "2"}, "cookies": {"one": "1"}}
    request = seen(client=client, url="/x?q=0", params={"b": "3"}, headers={"x-b": "3"}, cookies={"two": "2"})
    assert request.query == "q=0&a=1&b=3"
    assert (request.headers["x-a"], request.headers["x-b"]) == ("1", "3")
    assert sorted(request.headers["cookie"].split("; ")) == ["one=1", "two=2"]  # type: ignore[union-attr]
    assert request.headers["accept-encoding"] == "gzip, deflate, br, zstd"
    assert seen(client=client, params="c=%20").query == "a=1&b=2&c=%20"


def test_bodies() -> None:
    def sent(**kw: Any) -> tuple[Any, bytes]:
        request = seen(method="POST", **kw)
        return request.headers.get("content-type"), request.body

    form = "application/x-www-form-urlencoded"
    assert sent() == (None, b"")
    assert sent(content=b"bytes") == (None, b"bytes")
    assert sent(content="täxt") == (None, "täxt".encode())
    assert sent(content=iter([b"a", b"b"])) == (None, b"ab")
    assert sent(data={"a": [1, 2], "b": "c d"}) == (form, b"a=1&a=2&b=c+d")
    assert sent(data=b"bytes") == (None, b"bytes")
    for falsy, text in [({}, b"{}"), ([], b"[]"), (0, b"0"), (False, b"false"), ("", b'""')]:
        assert sent(json=falsy) == ("application/json", text)
    assert sent(json={"ä": 1}) == ("application/json", '{"ä":1}'.encode())
    assert sent(json=1, headers={"Content-Type": "x/y"}) == ("x/y", b"1")
    kind, body = sent(files={"f": ("name.txt", b"content")}, data={"a": "1"})
    assert kind.startswith("multipart/form-data; boundary=")
    assert b'filename="name.txt"' in body
    assert b"content" in body
    assert sent(json=[], data={}, files={}) == ("application/json", b"[]")
    with pytest.raises(ValueError, match=r"JSON|nan"):
        sent(json=float("nan"))


def test_request_is_built_changed_and_sent() -> None:
    transport = answering((201, {}, b"made"))
    with httpx.Client(base_url=BASE, transport=transport, headers={"X-A": "1"}) as client:
        request = client.build_request("put", "/x", content=iter([b"a", b"b"]))
        assert isinstance(request, httpx.Request)
        assert (request.method, request.url, request.url_split.path) == ("PUT", f"{BASE}/x", "/x")
        assert request.content == b"ab"
        request.headers["X-B"] = "2"
        response = client.send(request)
    assert response.request is request
    assert (response.status_code, response.url, response.content) == (201, f"{BASE}/x", b"made")
    (sent,) = transport.requests
    assert (sent.headers["x-a"], sent.headers["x-b"], sent.body) == ("1", "2", b"ab")


@pytest.mark.parametrize("url", ["ftp://x.test/", "no-scheme", "/path", "http:///path", "mailto:a@b.test"])
def test_urls_that_cannot_be_requested_are_refused(url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol), httpx.Client() as client:
        client.get(url)


@pytest.mark.parametrize("url", ["http://[::1/", "http://x.test:port/", "http://user:secret@x.test:99999/"])
def test_urls_that_cannot_be_read(url: str) -> None:
    with pytest.raises(httpx.InvalidURL) as caught:
        httpx.get(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [{"unknown": 1}, {"auth": 5}, {"timeout": "long"}, {"cookies": 7}],
)
def test_wrong_arguments_are_found_when_a_client_is_made(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        httpx.Client(**arguments)


def test_closed_client_stays_closed() -> None:
    client = client_of(lambda request: MockResponse())
    assert not client.is_closed
    with client:
        client.get(BASE)
    assert client.is_closed
    with pytest.raises(RuntimeError, match="closed"):
        client.get(BASE)


# Responses


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, "success"), (302, "redirect"), (404, "client_error"), (503, "server_error"), (101, "informational")],
)
def test_kinds_of_status(status: int, kind: str) -> None:
    response = response_of(status)
    for name in ("informational", "success", "redirect", "client_error", "server_error"):
        assert getattr(response, f"is_{name}") == (name == kind)
    assert response.is_error == (status >= 400)
    assert response.http_version == "HTTP/1.1"
    if kind == "success":
        assert response.raise_for_status() is response
    else:
        with pytest.raises(httpx.HTTPStatusError, match=str(status)) as caught:
            response.raise_for_status()
        assert caught.value.response is response
        assert caught.value.request is response.request


def test_status_error_shows_no_password() -> None:
    response = client_of(lambda request: (404,)).get("http://user:secret@example.test/")
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    assert "secret" not in str(caught.value)


def test_text_and_json() -> None:
    response = response_of(200, {"Content-Type": "text/plain; charset=iso-8859-1"}, "grün".encode("iso-8859-1"))
    assert (response.text, response.encoding, response.charset_encoding) == ("grün", "iso-8859-1", "iso-8859-1")
    response.encoding = "utf-8"
    assert response.text == "gr\ufffdn"
    assert response_of(200, {"Content-Type": "x/y"}, b"a\xe4", default_encoding="iso-8859-1").text == "aä"
    assert response_of(200, {"Content-Type": "text/plain; charset=nonsense"}, "ä".encode()).text == "ä"
    assert response_of(200, {}, b'{"a": 1.5}').json(parse_float=str) == {"a": "1.5"}
    with pytest.raises(ValueError, match="Expecting value"):
        response_of(200).json()


def test_reason_cookies_and_elapsed() -> None:
    response = response_of(299, {"Set-Cookie": "a=1; Path=/"})
    assert (response.reason_phrase, response.cookies["a"]) == ("", "1")
    assert response.elapsed.total_seconds() > 0
    assert client_of(lambda request: MockResponse(404, reason="Gone fishing")).get(BASE).reason_phrase == "Gone fishing"


PLAIN = "".join(f"line {number}: äöü\n" for number in range(5000)).encode()
CODED = gzip.compress(PLAIN)


def streaming(body: Any, headers: Any = None) -> Any:
    return client_of(lambda request: (200, headers or {}, body)).stream("GET", BASE)


def test_iter_bytes_is_decoded_and_iter_raw_is_not() -> None:
    headers = {"Content-Encoding": "gzip"}
    for chunk_size in (None, 1000):
        with streaming(CODED, headers) as response:
            pieces = list(response.iter_bytes(chunk_size))
            assert b"".join(pieces) == PLAIN
            assert response.num_bytes_downloaded == len(CODED)
            assert response.is_stream_consumed
            assert response.is_closed
        assert chunk_size is None or {len(piece) for piece in pieces[:-1]} == {1000}
        with streaming(CODED, headers) as response:
            pieces = list(response.iter_raw(chunk_size))
            assert b"".join(pieces) == CODED
        assert chunk_size is None or {len(piece) for piece in pieces[:-1]} == {1000}
    response = response_of(200, headers, CODED)
    assert response.content == PLAIN
    assert response.num_bytes_downloaded == len(CODED)
    assert b"".join(response.iter_bytes(7)) == PLAIN


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_coding_without_a_body_is_none(method: str, status: int) -> None:
    with client_of(lambda request: (status, {"Content-Encoding": "gzip"})).stream(method, BASE) as response:
        assert list(response.iter_bytes()) == []
    assert response_of(status, {"Content-Encoding": "gzip"}, method=method).content == b""


def test_pieces_come_as_they_are_sent() -> None:
    packer = zlib.compressobj(wbits=31)
    go = gevent.event.Event()

    def body() -> Iterator[bytes]:
        yield packer.compress(b"first") + packer.flush(zlib.Z_SYNC_FLUSH)
        assert go.wait(10)
        yield packer.compress(b"second") + packer.flush()

    with streaming(body(), {"Content-Encoding": "gzip"}) as response:
        pieces = response.iter_bytes()
        assert next(pieces) == b"first"
        go.set()
        assert list(pieces) == [b"second"]


def test_body_is_read_once() -> None:
    with streaming(b"body") as response:
        assert next(response.iter_raw(2)) == b"bo"
        for again in (response.iter_raw, response.iter_bytes, response.iter_text, response.iter_lines):
            with pytest.raises(httpx.StreamConsumed):
                list(again())
        with pytest.raises(httpx.StreamConsumed):
            response.read()
    with streaming(b"body") as response:
        assert response.read() == response.content == b"body"
        assert list(response.iter_text()) == ["body"]


def test_text_and_lines_are_cut_nowhere_else() -> None:
    text = "ä\r\nb\n\n\u2028c\rd\r\n\r\rlast"
    lines = ["ä", "b", "", "\u2028c", "d", "", "", "last"]
    for end, more in [("", []), ("\n", []), ("\r", []), ("\r\n", []), ("\n\r", [""])]:
        body = (text + end).encode()
        for size in (1, 2, 3, 1000):
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            with streaming(iter(pieces)) as response:
                assert list(response.iter_lines()) == lines + more
            with streaming(iter(pieces)) as response:
                assert "".join(response.iter_text()) == text + end
            with streaming(iter(pieces)) as response:
                assert {len(piece) for piece in list(response.iter_text(2))[:-1]} == {2}


def test_stream_that_is_left_closes_its_connection() -> None:
    with Peer(unfinished, saying(OK)) as peer, httpx.Client(concurrency=1) as client:
        with client.stream("GET", peer.url) as response:
            assert response.read(5) == b"begin"
        assert client.get(peer.url).content == b"ok"


# Redirects and cookies


def redirecting(request: MockRequest) -> MockResponse:
    place = {"/a": "/b", "/b": "http://other.test/c", "/loop": "/loop", "/ftp": "ftp://x.test/", "/bad": "http://["}
    if request.path in place:
        status = int(request.query or 302)
        return MockResponse(status, {"Location": place[request.path], "Set-Cookie": "seen=1"}, b"moved")
    return MockResponse(json=dict(request.headers.items()) | {"body": request.body.decode(), "method": request.method})


def test_redirects_are_followed_if_follow_redirects_is_set() -> None:
    client = client_of(redirecting)
    response = client.get(f"{BASE}/a")
    assert (response.status_code, response.content, response.history) == (302, b"moved", [])
    assert response.has_redirect_location
    assert response.next_request is not None
    assert response.next_request.url == f"{BASE}/b"
    assert client.send(response.next_request).status_code == 302
    response = client.get(f"{BASE}/a", follow_redirects=True, auth=("u", "p"))
    assert response.url == "http://other.test/c"
    assert [past.url for past in response.history] == [f"{BASE}/a", f"{BASE}/b"]
    assert [past.content for past in response.history] == [b"moved", b"moved"]
    assert "Authorization" not in response.json()
    assert client_of(redirecting, follow_redirects=True).get(f"{BASE}/a").status_code == 200
    assert client.cookies["seen"] == "1"


def test_redirect_keeps_the_body_depending_on_status_and_method() -> None:
    client = client_of(redirecting, follow_redirects=True)
    answer = client.post(f"{BASE}/b?302", content=b"body").json()
    assert (answer["method"], answer["body"]) == ("GET", "")
    answer = client.post(f"{BASE}/b?307", content=b"body").json()
    assert (answer["method"], answer["body"]) == ("POST", "body")
    answer = client.put(f"{BASE}/b?301", content=b"body").json()
    assert (answer["method"], answer["body"]) == ("PUT", "body")
    with pytest.raises(httpx.StreamConsumed):
        client.post(f"{BASE}/b?307", content=iter([b"body"]))


def test_redirect_leaves_the_connection_reusable() -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 6\r\n\r\nmov")
        settle()  # so that the rest is not there with the head
        conn.send(b"ed.")
        saying(OK)(conn)

    with Peer(script) as peer, httpx.Client(concurrency=1, follow_redirects=True) as client:
        response = client.get(peer.url, timeout=httpx.Timeout(5, pool=1))
        assert (response.content, response.history[0].content) == (b"ok", b"moved.")
        assert len(peer.conns) == 1


def test_redirects_that_lead_nowhere() -> None:
    client = client_of(redirecting, follow_redirects=True, max_redirects=5)
    with pytest.raises(httpx.TooManyRedirects) as caught:
        client.get(f"{BASE}/loop")
    assert caught.value.request.url == f"{BASE}/loop"
    with pytest.raises(httpx.UnsupportedProtocol):
        client.get(f"{BASE}/ftp")
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(f"{BASE}/bad")
    assert client.get(f"{BASE}/ftp", follow_redirects=False).next_request is None
    transport = client_of(redirecting, follow_redirects=True, max_redirects=0)
    with pytest.raises(httpx.TooManyRedirects):
        transport.get(f"{BASE}/a")


def test_cookies_are_kept_and_sent() -> None:
    client = client_of(redirecting, cookies={"mine": "1"})
    client.get(f"{BASE}/a")
    assert sorted(client.get(f"{BASE}/x").json()["Cookie"].split("; ")) == ["mine=1", "seen=1"]
    assert "Cookie" not in client.get("http://other.test/x").json()


# Authentication and hooks


def basic(user: str = "user", password: str = "pass") -> str:
    return httpx.BasicAuth(user, password).auth_header()


def test_forms_of_credentials_are_sent() -> None:
    def change(request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = "Own way"
        return request

    def sent(**kw: Any) -> Any:
        return seen(**kw).headers.get("authorization")

    assert sent() is None
    assert sent(auth=("user", "pass")) == basic()
    assert sent(auth=httpx.BasicAuth("user", "pass")) == basic()
    assert sent(auth="Bearer token") == "Bearer token"
    assert sent(auth=change) == "Own way"
    assert sent(client={"auth": ("user", "pass")}) == basic()
    assert sent(client={"auth": ("user", "pass")}, auth=None) is None
    assert sent(url="http://us%40er:pass@example.test/") == basic("us@er")
    with pytest.raises(TypeError, match="auth"):
        sent(auth=5)


def test_netrc(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine example.test login user password pass\n")
    assert seen(auth=httpx.NetRCAuth(str(file))).headers["authorization"] == basic()
    assert "authorization" not in seen(url="http://other.test/", auth=httpx.NetRCAuth(str(file))).headers
    monkeypatch.setenv("NETRC", str(file))
    assert seen(auth=httpx.NetRCAuth()).headers["authorization"] == basic()


def test_digest() -> None:
    def answer(request: MockRequest) -> MockResponse:
        fields = dict(re.findall(r'(\w+)="?([^",]*)', str(request.headers.get("authorization", ""))))
        if not fields:
            return MockResponse(401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}, b"no")

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        secret, asked = md5("user:r:pass"), md5(f"{request.method}:{request.target}")
        good = md5(f"{secret}:n:{fields['nc']}:{fields['cnonce']}:auth:{asked}")
        return MockResponse(200 if fields["response"] == good else 401)

    client = client_of(answer, auth=httpx.DigestAuth("user", "pass"))
    response = client.post(f"{BASE}/x?y=1", content=b"body")
    assert response.status_code == 200
    assert [past.status_code for past in response.history] == [401]
    assert client.get(f"{BASE}/more").history == []  # by the same nonce
    assert client.get(f"{BASE}?q=1").status_code == 200
    refused = client_of(lambda request: (401, {"WWW-Authenticate": 'Digest realm="r", nonce="n"'}))
    assert refused.get(BASE, auth=httpx.DigestAuth("user", "bad")).status_code == 401


def test_digest_auth_int_protects_a_body_in_memory_alone() -> None:
    auth = httpx.DigestAuth("Mufasa", "Circle")
    with Peer(Guard("SHA-512", ', qop="auth-int"').serve) as peer, httpx.Client(auth=auth) as client:
        assert client.post(peer.url, content=b"body").status_code == 200
        assert client.post(peer.url, json={"a": 1}).status_code == 200
        with pytest.raises(ValueError, match="auth-int"):
            client.post(peer.url, content=iter([b"body"]))
        assert client.get(peer.url).status_code == 200


def test_no_host_that_was_redirected_to_gets_a_digest() -> None:
    def answer(request: MockRequest) -> tuple[Any, ...]:
        if request.url.startswith(BASE):
            return 302, {"Location": "http://other.test/"}
        return 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n"'}

    transport = MockTransport(answer)
    with httpx.Client(transport=transport, follow_redirects=True, auth=httpx.DigestAuth("user", "pass")) as client:
        assert client.get(BASE).status_code == 401
    assert [request.headers.get("authorization") for request in transport.requests] == [None, None]


def test_credentials_of_a_url_are_sent_and_not_shown() -> None:
    def answer(request: MockRequest) -> tuple[Any, ...]:
        return 302, {"Location": "http://other.test/", "X-Got": request.headers.get("authorization", "")}

    client = client_of(answer)
    url = URL("http://us%40er:secret@example.test/x")
    response = client.get(url)
    assert url.username == "us%40er"
    assert response.headers["x-got"] == basic("us@er", "secret")
    assert response.url == "http://example.test/x"
    assert "secret" not in repr(response.request)
    assert response.next_request is not None
    assert "authorization" not in response.next_request.headers
    assert client.send(response.next_request).headers["x-got"] == ""


def test_auth_flow_of_a_program_is_used() -> None:
    class Renewing(httpx.Auth):
        requires_response_body = True

        def auth_flow(self, request: httpx.Request) -> Any:
            response = yield request
            if response.status_code == 401:
                token = (yield httpx.Request("POST", f"{BASE}/token", content=response.content)).text
                request.headers["Authorization"] = f"Bearer {token}"
                yield request

    def answer(request: MockRequest) -> tuple[Any, ...]:
        if request.path == "/token":
            return 200, {}, request.body[::-1]
        return (200,) if request.headers.get("authorization") == "Bearer nekot" else (401, {}, b"token")

    response = client_of(answer, auth=Renewing()).get(BASE)
    assert response.status_code == 200
    assert [past.status_code for past in response.history] == [401, 200]


def test_event_hooks() -> None:
    called: list[str] = []

    def on_request(request: httpx.Request) -> None:
        request.headers["X-Hook"] = "1"
        called.append(f"{request.method} {request.url}")

    def on_response(response: httpx.Response) -> None:
        assert not response.is_stream_consumed
        called.append(str(response.status_code))

    hooks = {"request": [on_request], "response": [on_response, httpx.Response.raise_for_status]}
    client = client_of(lambda request: (200 if "x-hook" in request.headers else 500,), event_hooks=hooks)
    client.get(f"{BASE}/")
    assert called == [f"GET {BASE}/", "200"]
    client.event_hooks = {"request": [], "response": [httpx.Response.raise_for_status]}
    with pytest.raises(httpx.HTTPStatusError):
        client.get(BASE)
    with pytest.raises(ValueError, match="other"):
        client.event_hooks = {"other": []}


# Timeouts


def test_timeouts_as_they_may_be_given() -> None:
    assert httpx.Timeout(5) == httpx.Timeout(connect=5, read=5, write=5, pool=5)
    assert httpx.Timeout(5, connect=1).as_dict() == {"connect": 1, "read": 5, "write": 5, "pool": 5}
    assert httpx.Timeout(None, pool=2).as_dict() == {"connect": None, "read": None, "write": None, "pool": 2}
    assert httpx.Timeout((1, 2)).as_dict() == {"connect": 1, "read": 2, "write": 2, "pool": None}
    assert httpx.Timeout((1, 2, 3, 4)).as_dict() == {"connect": 1, "read": 2, "write": 3, "pool": 4}
    assert httpx.Timeout(httpx.Timeout(3), read=1).read == 1
    assert repr(httpx.Timeout(1)) == "Timeout(connect=1.0, read=1.0, write=1.0, pool=1.0)"
    for bad in ({"connect": 1}, {"timeout": (1, 2, 3)}, {"timeout": -1}, {"timeout": 1, "read": -1}):
        with pytest.raises(ValueError, match=r"timeout|read"):
            httpx.Timeout(**bad)


def test_timeouts_of_clients_and_of_requests() -> None:
    def sent(**kw: Any) -> tuple[float | None, ...]:
        return seen(**kw).timeouts[:3]

    assert sent() == (5, 5, 5)
    assert sent(client={"timeout": None}) == (None, None, None)
    assert sent(client={"timeout": 3}) == (3, 3, 3)
    assert sent(client={"connection_timeout": 1, "network_timeout": 2}) == (1, 2, 5)
    assert sent(timeout=httpx.Timeout(5, connect=1, read=2)) == (1, 2, 5)
    assert sent(timeout=(1, 2)) == (1, 2, None)
    assert sent(client={"timeout": 3}, timeout=None) == (None, None, None)
    assert sent(extensions={"timeout": {"connect": 1, "read": 2, "write": 3, "pool": 4}}) == (1, 2, 4)
    assert sent(method="PUT", content=b"x", timeout=(1, 2, 3, 4)) == (1, 3, 4)
    assert seen(client={"timeout": 3, "total_timeout": 7}, timeout=1).timeouts == (1, 1, 1, 7)


def test_silence_is_a_read_timeout() -> None:
    patience = httpx.Timeout(5, read=0.02)
    with Peer(silent) as peer, httpx.Client(timeout=patience) as client, pytest.raises(httpx.ReadTimeout) as caught:
        client.get(peer.url)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert caught.value.__cause__.phase == "head"  # type: ignore[attr-defined]
    assert caught.value.request.method == "GET"


def unfinished(conn: Conn) -> None:
    conn.read_request()
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin")
    conn.wait_closed()


def test_full_pool_is_a_pool_timeout() -> None:
    with Peer(unfinished) as peer, httpx.Client(concurrency=1) as client:
        with client.stream("GET", peer.url), pytest.raises(httpx.PoolTimeout):
            client.get(peer.url, timeout=httpx.Timeout(5, pool=0.02))
        assert len(peer.conns) == 1


def test_peer_that_does_not_read_is_a_write_timeout() -> None:
    done = gevent.event.Event()
    with Peer(lambda conn: done.wait(10)) as peer, httpx.Client() as client:
        with pytest.raises(httpx.WriteTimeout):
            client.post(peer.url, content=bytes(HUGE), timeout=httpx.Timeout(0.05, connect=5))
        done.set()


def test_gevent_timeout_of_the_caller_is_raised() -> None:
    with Peer(silent) as peer, httpx.Client() as client, pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
        client.get(peer.url)


# Errors


def test_refused_connection_raises_connect_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(httpx.ConnectError) as caught:
            httpx.get(f"http://127.0.0.1:{port}/")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert isinstance(caught.value, httpx.NetworkError)


def test_tls_that_fails_is_a_connect_error() -> None:
    def script(conn: Conn) -> None:
        conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Peer(script) as peer, pytest.raises(httpx.ConnectError) as caught:
        httpx.get(f"https://{peer.host}:{peer.port}/")
    assert isinstance(caught.value.__cause__, ssl.SSLError)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_malformed_responses_raise(answer: bytes) -> None:
    with Peer(saying_then_closing(answer)) as peer, pytest.raises(httpx.RemoteProtocolError):
        httpx.post(peer.url)


def test_body_that_breaks_while_it_is_streamed() -> None:
    script = saying_then_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")
    with Peer(script) as peer, httpx.stream("GET", peer.url) as response:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            list(response.iter_bytes())
        assert response.is_closed
    assert caught.value.request is response.request


@pytest.mark.parametrize("read", [httpx.Response.read, lambda response: list(response.iter_bytes())])
def test_coding_that_is_broken(read: Callable[[httpx.Response], Any]) -> None:
    for body in (b"no gzip", CODED[:-9]):
        with streaming(body, {"Content-Encoding": "gzip"}) as response, pytest.raises(httpx.DecodingError) as caught:
            read(response)
        assert isinstance(caught.value.__cause__, zlib.error)


@pytest.mark.parametrize(
    ("raised", "phase", "expected"),
    [
        (TimeoutError(), None, httpx.ReadTimeout),
        (TimeoutError(), "resolve", httpx.ConnectTimeout),
        (TimeoutError(), "tls", httpx.ConnectTimeout),
        (TimeoutError(), "proxy", httpx.ConnectTimeout),
        (TimeoutError(), "body", httpx.ReadTimeout),
        (socket.gaierror(-2, "no such name"), None, httpx.ConnectError),
        (ssl.SSLError(1, "bad"), None, httpx.ConnectError),
        (ConnectionResetError(104, "reset"), None, httpx.ReadError),
        (ConnectionResetError(104, "reset"), "tls", httpx.ConnectError),
        (ConnectionResetError(104, "reset"), "send", httpx.WriteError),
        (BrokenPipeError(32, "pipe"), None, httpx.WriteError),
        (OSError(113, "no route"), None, httpx.ConnectError),
        (ProxyError("refused"), "proxy", httpx.ProxyError),
        (HTTPConnectionClosed("closed"), "head", httpx.RemoteProtocolError),
    ],
)
def test_every_error_has_its_name(raised: Exception, phase: str | None, expected: type[Exception]) -> None:
    if phase is not None:
        raised.phase = phase  # type: ignore[attr-defined]

    def fail(request: MockRequest) -> MockResponse:
        raise raised

    with pytest.raises(httpx.TransportError) as caught:
        client_of(fail).get(BASE)
    assert type(caught.value) is expected
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize("own", [FileNotFoundError(2, "a file of the body"), KeyError("own"), RuntimeError("own")])
def test_exceptions_of_the_caller_are_raised_unchanged(own: Exception) -> None:
    def fail(request: MockRequest) -> MockResponse:
        raise own

    with pytest.raises(type(own)) as caught:
        client_of(fail).get(BASE)
    assert caught.value is own


def test_tree_of_errors() -> None:
    for parent, children in {
        httpx.HTTPError: [httpx.RequestError, httpx.HTTPStatusError, httpx.InvalidURL],
        httpx.RequestError: [httpx.TransportError, httpx.DecodingError, httpx.TooManyRedirects],
        httpx.TransportError: [httpx.TimeoutException, httpx.NetworkError, httpx.ProtocolError, httpx.ProxyError],
        httpx.NetworkError: [httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.CloseError],
        httpx.TimeoutException: [httpx.ConnectTimeout, httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout],
        httpx.ProtocolError: [httpx.LocalProtocolError, httpx.RemoteProtocolError],
    }.items():
        for child in children:
            assert child.__bases__[0] is parent
    with pytest.raises(RuntimeError):
        _ = httpx.HTTPError("without a request").request


def test_client_has_no_methods_of_an_agent() -> None:
    with httpx.Client() as client:
        assert not hasattr(client, "urlopen")
        assert not hasattr(client, "download")
    with pytest.raises(TypeError, match="unexpected argument: max_retries: Session takes max_retries="):
        httpx.Client(max_retries=3)  # type: ignore[call-arg]


# Functions


def test_functions_share_a_client_that_forgets() -> None:
    cookies = saying(*[OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=1\r\n\r\n")] * 2)
    with Peer(cookies) as peer:
        url = peer.url
        assert httpx.get(url).cookies["a"] == "1"
        with httpx.stream("POST", url, json=1) as response:
            assert response.read() == b"ok"
        assert len(peer.requests) == 2
        assert len(peer.conns) == 1
        assert peer.requests[1].get("cookie") is None


@pytest.mark.parametrize("verb", ["get", "options", "head", "post", "put", "patch", "delete"])
def test_verbs(verb: str) -> None:
    transport = answering(MockResponse(body=b"body"))
    assert getattr(httpx, verb)(BASE, transport=transport, params={"a": 1}).status_code == 200
    with httpx.Client(transport=transport) as client:
        getattr(client, verb)(BASE)
    assert [request.method for request in transport.requests] == [verb.upper()] * 2
    assert transport.requests[0].query == "a=1"


def test_functions_take_the_options_of_a_client() -> None:
    transport = MockTransport(redirecting)
    assert httpx.request("GET", f"{BASE}/a", transport=transport, follow_redirects=True).status_code == 200
    with httpx.stream("GET", f"{BASE}/a", transport=transport) as response:
        assert response.read() == b"moved"
    with pytest.raises(TypeError, match="unknown"):
        httpx.get(BASE, unknown=1)


@pytest.mark.parametrize(
    ("body", "length"),
    [
        ({"data": {"a": "b c"}}, "5"),
        ({"content": b"bytes"}, "5"),
        ({"content": "tëxt"}, "5"),
        ({"json": {"a": 1}}, "7"),
        ({"content": iter([b"a"])}, None),
        ({"data": {"a": "b"}, "headers": {"Transfer-Encoding": "chunked"}}, None),
        ({}, None),
    ],
)
def test_request_has_the_length_of_its_body_before_it_is_sent(body: Any, length: str | None) -> None:
    assert httpx.Request("POST", BASE, **body).headers.get("content-length") == length
