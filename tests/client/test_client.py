"""HTTPClient and HTTPClientPool over plain HTTP: requests, responses, and the use of connections."""

from __future__ import annotations

import gzip
import inspect
import io
import re
import socket as std_socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

import geventhttpclient
from geventhttpclient import HTTPClient
from geventhttpclient import client as client_module
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.header import Headers
from geventhttpclient.proxy import Proxy
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse
from geventhttpclient.url import URL
from tests.conftest import Nginx
from tests.support.ids import stable
from tests.support.peer import Conn, Peer, Request, serve_ok
from tests.support.ports import free_port
from tests.support.scripted import HUGE, OK, quickest, saying, saying_then_closing, serving, settle

pytestmark = pytest.mark.usefixtures("bounded")

AGENT = HTTPClient.DEFAULT_HEADERS["User-Agent"]
PARAMETERS: dict[str, Any] = {
    "port": None,
    "headers": None,
    "block_size": 4096,
    "connection_timeout": 5.0,
    "network_timeout": 5.0,
    "disable_ipv6": False,
    "concurrency": 1,
    "ssl": False,
    "ssl_options": None,
    "ssl_context_factory": None,
    "insecure": False,
    "proxy_host": None,
    "proxy_port": None,
    "proxy_user": None,
    "proxy_password": None,
    "version": "HTTP/1.1",
    "headers_type": Headers,
}


# ---------------------------------------------------------------- names and constructor


def test_constants_of_the_module() -> None:
    expected = {
        "CRLF": "\r\n",
        "WHITESPACE": " ",
        "FIELD_VALUE_SEP": ": ",
        "HOST_PORT_SEP": ":",
        "SLASH": "/",
        "PROTO_HTTP": "http",
        "PROTO_HTTPS": "https",
        "HEADER_HOST": "Host",
        "HEADER_CONTENT_LENGTH": "Content-Length",
        "HEADER_TRANSFER_ENCODING": "Transfer-Encoding",
        "HEADER_PROXY_AUTHORIZATION": "Proxy-Authorization",
        "HEADER_EXPECT": "Expect",
        "TRANSFER_ENCODING_CHUNKED": "chunked",
        "EXPECT_100_CONTINUE": "100-continue",
        **{f"METHOD_{m}": m for m in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")},
    }
    assert {name: getattr(client_module, name, None) for name in expected} == expected
    assert set(client_module.IDEMPOTENT_METHODS) == {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}


def test_constants_of_the_class() -> None:
    assert (HTTPClient.HTTP_11, HTTPClient.HTTP_10, HTTPClient.BLOCK_SIZE) == ("HTTP/1.1", "HTTP/1.0", 4096)
    assert isinstance(HTTPClient.DEFAULT_HEADERS, Headers)
    assert f"python/gevent-http-client-{geventhttpclient.__version__}" == AGENT


def test_constructor_keeps_its_parameters_in_order() -> None:
    parameters = inspect.signature(HTTPClient).parameters
    assert list(parameters)[: len(PARAMETERS) + 1] == ["host", *PARAMETERS]
    assert {name: parameters[name].default for name in PARAMETERS} == PARAMETERS


def test_attributes() -> None:
    class Mine(Headers):
        pass

    with closing(
        HTTPClient("example.org", 8080, {"X-A": "b"}, 1000, concurrency=3, version="HTTP/1.0", headers_type=Mine)
    ) as client:
        assert (client.host, client.port, client.ssl, client.use_proxy) == ("example.org", 8080, False, False)
        assert (client.block_size, client.version, client.headers_type) == (1000, "HTTP/1.0", Mine)
        assert type(client.default_headers) is Mine
        assert dict(client.default_headers.iterlower()) == {"user-agent": AGENT, "x-a": "b"}
        assert client._connection_pool.size == 3


def test_default_port() -> None:
    with closing(HTTPClient("example.org")) as client:
        assert client.port == 80


def test_headers_given_replace_the_defaults() -> None:
    with closing(HTTPClient("example.org", headers={"user-agent": "me"})) as client:
        assert list(client.default_headers.items()) == [("user-agent", "me")]
    assert HTTPClient.DEFAULT_HEADERS["User-Agent"] == AGENT


@pytest.mark.parametrize("convert", [str, URL])
def test_from_url(convert: Callable[[str], Any]) -> None:
    with closing(HTTPClient.from_url(convert("http://example.org:81/a?b=c"), concurrency=2)) as client:
        assert (client.host, client.port, client.ssl) == ("example.org", 81, False)
        assert client._connection_pool.size == 2


def test_from_url_drops_the_ssl_options_of_a_plain_url() -> None:
    with closing(HTTPClient.from_url("http://example.org/", ssl_options={"ca_certs": "nowhere"})) as client:
        assert (client.ssl, client.port) == (False, 80)


def test_from_url_makes_an_instance_of_the_subclass() -> None:
    class Mine(HTTPClient):
        pass

    with closing(Mine.from_url("http://example.org/")) as client:
        assert type(client) is Mine


def test_proxy_host_needs_proxy_port() -> None:
    with pytest.raises((AssertionError, ValueError), match="proxy_port"):
        HTTPClient("example.org", proxy_host="proxy.example.org")


@pytest.mark.parametrize("concurrency", [0, -1])
def test_invalid_concurrency_is_refused(concurrency: int) -> None:
    """Every request would wait forever, because the pool has no slots."""
    with pytest.raises(ValueError, match=r"concurrency|size"):
        HTTPClient("example.org", concurrency=concurrency)


@pytest.mark.parametrize(
    "wrong",
    [
        {"connection_timeout": -1},
        {"network_timeout": -1},
        {"network_timeout": float("nan")},
        {"connection_timeout": "soon"},
        {"concurrency": "many"},
        {"port": "http"},
        {"port": 65536},
        {"port": -1},
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_and_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises((ValueError, TypeError), match=name):
        HTTPClient("example.org", **wrong)


@pytest.mark.parametrize("host", ["a b", "a\r\nX-Evil: 1", "a\0", "a/b", "", "b@c"])
def test_no_host_can_forge_a_head(host: str) -> None:
    """An invalid host is refused at the latest before a head is built from it."""
    with pytest.raises(ValueError):  # noqa: PT011 - the place of the check is open, so its words are
        HTTPClient(host)._build_request("GET", "/")


def test_subclass_that_declares_every_parameter_anew() -> None:
    class Mine(HTTPClient):
        def __init__(
            self,
            host: str,
            port: int | None = None,
            headers: Any = None,
            block_size: int = HTTPClient.BLOCK_SIZE,
            connection_timeout: float = 1,
            network_timeout: float = 2,
            disable_ipv6: bool = True,
            concurrency: int = 3,
            ssl: bool = False,
            ssl_options: Any = None,
            ssl_context_factory: Any = None,
            insecure: bool = False,
            proxy_host: str | None = None,
            proxy_port: int | None = None,
            proxy_user: str | None = None,
            proxy_password: str | None = None,
            version: str = HTTPClient.HTTP_11,
            headers_type: type[Headers] = Headers,
        ) -> None:
            given = {k: v for k, v in locals().items() if k in PARAMETERS}
            super().__init__(host, **given)
            self.mine = True

        def shout(self, target: str) -> bytes:
            return self.get(target).read().upper()

    with Peer() as peer, closing(Mine(peer.host, peer.port)) as client:
        assert client.mine
        assert client._connection_pool.size == 3
        assert client.shout("/abc") == b"/ABC"


def test_verbs_go_through_request_so_that_it_may_be_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    class Mine(HTTPClient):
        def request(self, method: str, request_uri: str, body: Any = b"", headers: Any = None) -> Any:
            calls.append((method, request_uri, body, headers))

    client = Mine("example.org")
    client.get("/a", headers={"X": "y"})
    client.post("/b", body=b"1")
    assert calls == [("GET", "/a", b"", {"X": "y"}), ("POST", "/b", b"1", None)]
    monkeypatch.setattr(HTTPClient, "request", lambda *args, **kw: "patched")
    assert HTTPClient("example.org").head("/") == "patched"


def test_no_connection_is_made_before_the_first_request() -> None:
    with serving() as (peer, client):
        settle()
        assert peer.conns == []
        client.get("/").read()
        assert len(peer.conns) == 1


# ---------------------------------------------------------------- request heads


def build(method: str = "GET", target: str = "/", host: str = "example.org", port: int | None = None, **kw: Any) -> str:
    options = {k: kw.pop(k) for k in list(kw) if k in PARAMETERS and k != "headers"}
    defaults = kw.pop("defaults", None)
    with closing(HTTPClient(host, port, defaults, **options)) as client:
        return client._build_request(method, target, **kw)


def test_whole_head_of_a_get() -> None:
    head = build("GET", "/a?b=c", port=8080, headers={"X-First": "1", "Accept": "*/*"})
    assert head == (
        f"GET /a?b=c HTTP/1.1\r\nUser-Agent: {AGENT}\r\nX-First: 1\r\nAccept: */*\r\nHost: example.org:8080\r\n\r\n"
    )


def test_whole_head_with_default_headers() -> None:
    head = build(defaults={"X-D": "d", "X-E": "e"}, headers={"x-d": "new", "X-F": "f"})
    assert head == (
        f"GET / HTTP/1.1\r\nUser-Agent: {AGENT}\r\nx-d: new\r\nX-E: e\r\nX-F: f\r\nHost: example.org\r\n\r\n"
    )


def test_user_agent_given_per_request_keeps_the_first_place() -> None:
    assert build(headers={"Accept": "*/*", "user-agent": "me"}) == (
        "GET / HTTP/1.1\r\nuser-agent: me\r\nAccept: */*\r\nHost: example.org\r\n\r\n"
    )


def test_host_given_is_the_only_host() -> None:
    head = build(port=81, headers={"host": "other.example:99"})
    assert re.findall(r"(?i)^host: .*\r$", head, re.M) == ["host: other.example:99\r"]


@pytest.mark.parametrize(
    ("host", "port", "wanted"),
    [
        ("example.org", None, "example.org"),
        ("example.org", 80, "example.org"),
        ("example.org", 443, "example.org"),
        ("example.org", 81, "example.org:81"),
        ("127.0.0.1", 8000, "127.0.0.1:8000"),
        ("::1", 80, "[::1]"),
        ("::1", 8000, "[::1]:8000"),
        ("[::1]", 8000, "[::1]:8000"),
    ],
)
def test_host_line(host: str, port: int | None, wanted: str) -> None:
    assert build(host=host, port=port).endswith(f"\r\nHost: {wanted}\r\n\r\n")


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("/", "/"),
        ("/a/b?c=d&e", "/a/b?c=d&e"),
        ("a/b", "/a/b"),
        ("", "/"),
        ("?q=1", "/?q=1"),
        ("/a//b", "/a//b"),
        ("/a%20b", "/a%20b"),
        ("/http://elsewhere/", "/http://elsewhere/"),
        ("http://example.org:81/", "/"),
        ("http://example.org:81/a?b=c", "/a?b=c"),
    ],
)
def test_targets(target: str, wanted: str) -> None:
    assert build(target=target, port=81).split("\r\n")[0] == f"GET {wanted} HTTP/1.1"


@pytest.mark.parametrize(
    "target",
    [
        "http://other.org:81/",
        "http://example.org:82/",
        "http://example.org:811/",
        "https://example.org:81/",
        "http://example.org:81.evil.org/",
        "http://example.org:81@evil.org/",
    ],
)
def test_absolute_uri_of_another_origin_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="Invalid host in URL"):
        build(target=target, port=81)


@pytest.mark.parametrize(
    "call",
    [
        lambda: HTTPClient("http://user:hidden@example.org"),
        lambda: HTTPClient.from_url("ftp://user:hid://den@example.org/"),
        lambda: HTTPClient.from_url("http://user:hidden@/"),
        lambda: HTTPClient("example.org", proxy_host="http://user:hidden@proxy", proxy_port=3128),
        lambda: HTTPClient("example.org", proxy_host="user:hidden@proxy", proxy_port=3128),
        lambda: HTTPClient("example.org", proxy_host="proxy", proxy_port="user:hidden@3128"),
        lambda: Proxy("http://user:hidden@proxy", "proxy", 3128),
        lambda: Proxy("http", "user:hidden@proxy", 3128),
        lambda: build(target="http://user:hidden@example.org/"),
        lambda: build(target="http://user:hid@den@other.org/"),
        lambda: build(headers={"Authorization": "Bearer hidden\u20ac"}),
        lambda: build(headers={"Authorization": "Bearer hidden\ud800"}),
        lambda: build(headers={"Authorization": "Bearer hidden\n"}),
    ],
)
def test_no_secret_is_in_an_error(call: Callable[[], object]) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert not re.search("hid|den@", repr(caught.value)), caught.value


BAD_TARGETS = ["/a b", " /", "/ ", "/\r\nX: y", "/\n", "/\0", "/\t", "/\x7f", "// x", "//\n", "/\u2603"]


@pytest.mark.parametrize("target", BAD_TARGETS)
def test_bad_targets_are_refused(target: str) -> None:
    with serving() as (peer, client):
        with pytest.raises(ValueError, match=r"(?i)uri|target|latin"):
            client.get(target)
        assert client.get("/good").read() == b"/good"
        assert [r.target for r in peer.requests] == ["/good"]


@pytest.mark.parametrize("method", ["", "G T", "GET\r\nX: y", "GET\0", "GET:", "G\xcbT", "GET/"])
def test_bad_methods_are_refused(method: str) -> None:
    with serving() as (peer, client):
        with pytest.raises(ValueError, match=r"(?i)method"):
            client.request(method, "/")
        assert client.get("/good").read() == b"/good"
        assert [r.target for r in peer.requests] == ["/good"]


@pytest.mark.parametrize(("method", "target"), [(None, "/"), (5, "/"), ("GET", None), ("GET", 5), ("GET", ["/"])])
def test_wrong_types_of_method_and_target(method: Any, target: Any) -> None:
    with serving() as (peer, client):
        with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
            client.request(method, target)
        assert not isinstance(caught.value, UnicodeError)
        assert client.get("/good").read() == b"/good"
        assert len(peer.requests) == 1


def test_method_is_sent_in_upper_case_and_may_be_of_any_name() -> None:
    with serving() as (peer, client):
        client.request("get", "/").read()
        client.request("Purge", "/").read()
        assert [r.method for r in peer.requests] == ["GET", "PURGE"]


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X-A\r\nX-B", "X\0", "X-\xc4", "X-\u2603", "(X)"])
@pytest.mark.parametrize("where", ["request", "client"])
def test_bad_header_names_are_refused(name: str, where: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)header"):
        build(**{"headers" if where == "request" else "defaults": {name: "v"}})


@pytest.mark.parametrize("value", ["a\r\nX-B: c", "a\n", "a\r", "a\0", "a\x1b", "a\x7f", "\u2603"])
@pytest.mark.parametrize("where", ["request", "client"])
def test_bad_header_values_are_refused_and_their_header_named(value: str, where: str) -> None:
    with pytest.raises(ValueError, match="X-Culprit"):
        build(**{"headers" if where == "request" else "defaults": {"X-Culprit": value}})


def test_bad_header_costs_neither_bytes_nor_the_slot() -> None:
    with serving() as (peer, client):
        for _ in range(3):
            with pytest.raises(ValueError, match="X-A"):
                client.get("/", headers={"X-A": "a\nb"})
        assert client.get("/good").read() == b"/good"
        assert [r.target for r in peer.requests] == ["/good"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("", ""), ("v", "v"), (7, "7"), (0, "0"), (-3, "-3"), ("caf\xe9\t!", "caf\xe9\t!"), (b"v\xe9", "v\xe9")],
)
def test_header_values(value: Any, wanted: str) -> None:
    assert f"\r\nX-A: {wanted}\r\n" in build(headers={"X-A": value})
    with serving() as (peer, client):
        client.get("/", headers={"X-A": value}).read()
        assert f"\r\nX-A: {wanted}\r\n".encode("latin-1") in peer.conns[0].raw


def test_list_value_is_sent_as_several_lines() -> None:
    head = build(headers={"X-A": ["1", "2"], "X-B": "3"})
    assert head.split("\r\n")[2:5] == ["X-A: 1", "X-A: 2", "X-B: 3"]


@pytest.mark.parametrize("headers", [Headers({"X-A": "b"}), {"X-A": "b"}], ids=["Headers", "dict"])
def test_header_collections_are_not_changed(headers: Any) -> None:
    with serving() as (peer, client):
        client.post("/", b"123", headers=headers).read()
        assert peer.requests[0].get("X-A") == "b"
    assert list(headers.items()) == [("X-A", "b")]
    assert "Host" not in client.default_headers
    assert "Content-Length" not in client.default_headers


@pytest.mark.parametrize("headers", [5, "X-A: b", object()])
def test_wrong_types_of_headers(headers: Any) -> None:
    with serving() as (peer, client):
        with pytest.raises((TypeError, ValueError)):
            client.get("/", headers=headers)
        assert client.get("/good").read() == b"/good"
        assert len(peer.requests) == 1


def test_http_1_0_head() -> None:
    assert build(version="HTTP/1.0").startswith("GET / HTTP/1.0\r\n")


def test_sent_request_is_the_head_as_text() -> None:
    with serving() as (peer, client):
        response = client.post("/x", b"secret", headers={"X-A": "b"})
        response.read()
        assert isinstance(response._sent_request, str)
        assert response._sent_request.encode("latin-1") == peer.requests[0].head + b"\r\n\r\n"


# ---------------------------------------------------------------- verbs and bodies


@pytest.mark.parametrize("verb", ["get", "head", "options"])
def test_verbs_without_a_body(verb: str) -> None:
    with serving() as (peer, client):
        response = getattr(client, verb)(request_uri="/x", headers={"X-A": "b"})
        assert isinstance(response, HTTPSocketPoolResponse)
        assert response.status_code == 200
        response.read()
        (request,) = peer.requests
        assert (request.method, request.target, request.get("X-A")) == (verb.upper(), "/x", "b")
        assert request.get("Content-Length") is None
        assert request.get("Transfer-Encoding") is None


@pytest.mark.parametrize("verb", ["post", "put", "delete", "patch", "trace"])
def test_verbs_with_a_body(verb: str) -> None:
    with serving() as (peer, client):
        getattr(client, verb)(request_uri="/x", body=b"content", headers={"X-A": "b"}).read()
        getattr(client, verb)("/y", b"by position", {"X-A": "c"}).read()
        first, second = peer.requests
        assert (first.method, first.target, first.body, first.get("X-A")) == (verb.upper(), "/x", b"content", "b")
        assert (second.target, second.body, second.get("X-A")) == ("/y", b"by position", "c")


@pytest.mark.parametrize("verb", ["post", "put", "patch"])
@pytest.mark.parametrize("body", [None, "", b"", bytearray(), memoryview(b"")], ids=stable)
def test_empty_body_is_counted_as_zero(verb: str, body: Any) -> None:
    with serving() as (peer, client):
        getattr(client, verb)("/", body).read()
        getattr(client, verb)("/").read()
        assert [r.get("Content-Length") for r in peer.requests] == ["0", "0"]
        assert [r.get("Transfer-Encoding") for r in peer.requests] == [None, None]


def test_delete_without_a_body_has_no_content_length() -> None:
    with serving() as (peer, client):
        client.delete("/").read()
        assert peer.requests[0].get("Content-Length") is None


def file_of(path: Path, content: bytes, skip: int = 0) -> io.BufferedReader:
    path.write_bytes(b"#" * skip + content)
    file = path.open("rb")
    file.seek(skip)
    return file


CONTENT = bytes(range(256)) * 700  # 179,200 bytes: some blocks, and not a round number of them


@pytest.mark.parametrize(
    "convert",
    [bytes, bytearray, memoryview, lambda b: memoryview(b"#" + b)[1:]],
    ids=["bytes", "bytearray", "view", "slice"],
)
@pytest.mark.parametrize("content", [b"x", CONTENT], ids=["small", "large"])
def test_bytes_like_bodies_are_counted(convert: Callable[[bytes], Any], content: bytes) -> None:
    with serving() as (peer, client):
        client.post("/", convert(content)).read()
        (request,) = peer.requests
        assert request.body == content
        assert request.get("Content-Length") == str(len(content))
        assert request.get("Transfer-Encoding") is None


def test_memoryview_is_counted_in_bytes_not_in_items() -> None:
    body = memoryview(bytearray(range(16))).cast("I")
    with serving() as (peer, client):
        client.post("/", body).read()
        assert peer.requests[0].get("Content-Length") == "16"
        assert peer.requests[0].body == bytes(range(16))


def test_text_is_sent_as_utf_8() -> None:
    with serving() as (peer, client):
        client.post("/", "h\xe9llo \u2603").read()
        assert peer.requests[0].body == "h\xe9llo \u2603".encode()
        assert peer.requests[0].get("Content-Length") == str(len("h\xe9llo \u2603".encode()))


@pytest.mark.parametrize("skip", [0, 10])
def test_open_file_is_sent_from_its_position(tmp_path: Path, skip: int) -> None:
    with serving() as (peer, client), file_of(tmp_path / "body", CONTENT, skip) as file:
        client.put("/", file).read()
        assert peer.requests[0].body == CONTENT
        assert peer.requests[0].get("Content-Length") == str(len(CONTENT))


def test_empty_file_is_an_empty_body(tmp_path: Path) -> None:
    with serving() as (peer, client), file_of(tmp_path / "body", b"") as file:
        client.put("/", file).read()
        assert peer.requests[0].body == b""
        assert client.get("/next").read() == b"/next"


class Blocks:
    """A file-like object with read() as its only method."""

    def __init__(self, *blocks: bytes | str) -> None:
        self.rest = list(blocks)

    def read(self, n: int = -1) -> bytes | str:
        return self.rest.pop(0) if self.rest else b""


@pytest.mark.parametrize("skip", [0, 3])
def test_bytes_io_is_sent_from_its_position(skip: int) -> None:
    with serving() as (peer, client):
        file = io.BytesIO(b"###" + CONTENT)
        file.seek(skip)
        client.post("/", file).read()
        assert peer.requests[0].body == (b"###" + CONTENT)[skip:]


def generator(*blocks: Any) -> Iterator[Any]:
    yield from blocks


@pytest.mark.parametrize(
    "make",
    [
        lambda: generator(b"one", b"", "tw\xf6", bytearray(b"three"), memoryview(b"four")),
        lambda: [b"one", b"", "tw\xf6", bytearray(b"three"), memoryview(b"four")],
        lambda: (b"one", b"tw\xc3\xb6", b"threefour"),
        lambda: iter([b"one", b"tw\xc3\xb6threefour"]),
        lambda: Blocks(b"one", b"tw\xc3\xb6", b"threefour"),
    ],
    ids=["generator", "list", "tuple", "iterator", "file-like"],
)
def test_bodies_of_unknown_length_are_chunked(make: Callable[[], Any]) -> None:
    with serving() as (peer, client):
        client.post("/", make()).read()
        (request,) = peer.requests
        assert request.body == b"onetw\xc3\xb6threefour"
        assert request.get("Transfer-Encoding") == "chunked"
        assert request.get("Content-Length") is None
        # An empty block must not have ended the body early: what follows would be read as a request.
        assert client.get("/next").read() == b"/next"


def test_empty_iterable_is_an_empty_chunked_body() -> None:
    with serving() as (peer, client):
        client.post("/", generator()).read()
        assert peer.requests[0].body == b""
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 1


def test_body_iterator_may_switch_greenlets() -> None:
    second_block = Event()

    def blocks() -> Iterator[bytes]:
        yield b"first"
        second_block.wait()
        yield b"second"

    def script(conn: Conn) -> None:
        request = conn.read_head()
        assert request is not None
        assert conn.read_line() == b"5\r\n"
        assert conn.read_exactly(7) == b"first\r\n"
        second_block.set()
        assert conn.read_line() == b"6\r\n"
        assert conn.read_exactly(13) == b"second\r\n0\r\n\r\n"
        conn.send(OK)
        conn.wait_closed()

    with serving(script) as (_, client):
        assert client.post("/", blocks()).read() == b"ok"


@pytest.mark.parametrize("body", [generator(b"x"), [b"x"], Blocks(b"x")], ids=["generator", "list", "file-like"])
def test_http_1_0_cannot_send_a_body_of_unknown_length(body: Any) -> None:
    with serving(version="HTTP/1.0") as (peer, client):
        with pytest.raises(ValueError, match=r"(?i)HTTP/1\.1|chunked"):
            client.post("/", body)
        settle()
        assert all(conn.raw == b"" for conn in peer.conns)


def test_http_1_0_sends_counted_bodies() -> None:
    with serving(version="HTTP/1.0") as (peer, client):
        client.post("/", b"content").read()
        assert peer.requests[0].line == "POST / HTTP/1.0"
        assert peer.requests[0].body == b"content"


@pytest.mark.parametrize("body", [5, 1.5, object()])
def test_wrong_types_of_bodies(body: Any) -> None:
    with serving() as (peer, client):
        for _ in range(2):
            with pytest.raises(TypeError, match=r"body|bytes|iter"):
                client.post("/", body)
        assert client.get("/good").read() == b"/good"
        assert [r.target for r in peer.requests] == ["/good"]


def test_wrong_item_in_a_body_is_refused() -> None:
    with serving(lambda conn: conn.wait_closed(), serve_ok) as (peer, client):
        with pytest.raises(TypeError, match=r"int|item|block"):
            client.post("/", [b"x", 5])
        assert client.get("/good").read() == b"/good"
        assert b"0\r\n\r\n" not in peer.conns[0].raw  # or the server would have taken half a body for a whole one


def test_own_content_length_is_the_only_one() -> None:
    with serving() as (peer, client):
        client.post("/", b"12345", headers={"content-length": "5"}).read()
        client.post("/", b"12345", headers={"Content-Length": 5}).read()
        for request in peer.requests:
            assert [v for k, v in request.fields if k.lower() == "content-length"] == ["5"]
            assert request.body == b"12345"


def test_own_content_length_and_an_iterator_leave_one_framing() -> None:
    """Both fields at once would allow request smuggling."""
    with serving() as (peer, client):
        client.post("/", generator(b"123", b"45"), headers={"Content-Length": "5"}).read()
        (request,) = peer.requests
        assert request.body == b"12345"
        assert (request.get("Content-Length") is None) is not (request.get("Transfer-Encoding") is None)


@pytest.mark.parametrize("body", [b"12345", "12345", bytearray(b"12345"), b""], ids=repr)
def test_own_transfer_encoding_makes_the_body_chunked(body: Any) -> None:
    with serving() as (peer, client):
        client.post("/", body, headers={"Transfer-Encoding": "chunked"}).read()
        (request,) = peer.requests
        assert [v for k, v in request.fields if k.lower() == "transfer-encoding"] == ["chunked"]
        assert request.get("Content-Length") is None
        assert request.body == (body.encode() if isinstance(body, str) else bytes(body))
        assert client.get("/next").read() == b"/next"


BODIES: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda _: b"12345",
    "str": lambda _: "12345",
    "bytearray": lambda _: bytearray(b"12345"),
    "memoryview": lambda _: memoryview(b"12345"),
    "file": lambda path: path.open("rb"),
    "file-like": lambda _: io.BytesIO(b"12345"),
    "iterable": lambda _: generator(b"123", b"45"),
    "list": lambda _: [b"123", "45"],
}
# None for a length that is not known.
LENGTHS = {name: name not in ("file-like", "iterable", "list") for name in BODIES}

CHUNKED: dict[str, tuple[Any, Any]] = {
    "beside a length": ({}, {"Transfer-Encoding": "chunked", "Content-Length": "5"}),
    "behind a length": ({}, [("content-length", 5), ("content-length", "5"), ("transfer-encoding", "CHUNKED")]),
    "beside a wrong length": ({}, {"Content-Length": "77", "Transfer-Encoding": " chunked\t"}),
    "twice": ({}, [("Transfer-Encoding", "chunked"), ("transfer-encoding", "Chunked, chunked")]),
    "by the client": ({"Transfer-Encoding": "chunked"}, {}),
    "by the client, beside a length": ({"Transfer-Encoding": "chunked"}, {"Content-Length": "5"}),
    "over the client's length": ({"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}),
    "over the client's identity": ({"Transfer-Encoding": "identity"}, {"Transfer-Encoding": "chunked"}),
}


def framing_of(request: Request) -> list[tuple[str, str]]:
    names = ("content-length", "transfer-encoding")
    return [(name.lower(), value) for name, value in request.fields if name.lower() in names]


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize(("default", "headers"), CHUNKED.values(), ids=CHUNKED)
def test_transfer_encoding_chunked_wins_over_content_length(
    default: Any, headers: Any, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"12345")
    with serving(headers=default) as (peer, client):
        body = BODIES[kind](path)
        client.post("/", body, headers=headers).read()
        if kind == "file":
            body.close()
        (request,) = peer.requests
        assert framing_of(request) == [("transfer-encoding", "chunked")]
        assert request.body == b"12345"
        assert client.get("/next", headers={"Transfer-Encoding": None, "Content-Length": None}).read() == b"/next"


@pytest.mark.parametrize("kind", [kind for kind, is_known in LENGTHS.items() if is_known])
@pytest.mark.parametrize("default", [None, "chunked", "identity"])
@pytest.mark.parametrize("length", [None, "5"])
def test_transfer_encoding_identity_sends_a_length_and_not_the_field(
    length: str | None, default: str | None, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"12345")
    with serving(headers={"Transfer-Encoding": default}) as (peer, client):
        body = BODIES[kind](path)
        client.post("/", body, headers={"Transfer-Encoding": "Identity", "Content-Length": length}).read()
        if kind == "file":
            body.close()
        (request,) = peer.requests
        assert framing_of(request) == [("content-length", "5")]
        assert request.body == b"12345"


@pytest.mark.parametrize("kind", [kind for kind, is_known in LENGTHS.items() if not is_known])
def test_transfer_encoding_identity_needs_a_length(kind: str, tmp_path: Path) -> None:
    with serving() as (peer, client):
        with pytest.raises(ValueError, match="identity: a body of unknown length needs a Content-Length"):
            client.post("/", BODIES[kind](tmp_path), headers={"Transfer-Encoding": "identity"})
        client.post("/", BODIES[kind](tmp_path), headers={"Transfer-Encoding": "identity", "Content-Length": 5}).read()
        (request,) = peer.requests
        assert (framing_of(request), request.body) == ([("content-length", "5")], b"12345")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_transfer_encoding_identity_without_a_body(method: str) -> None:
    with serving(headers={"Transfer-Encoding": "chunked"}) as (peer, client):
        client.request(method, "/", headers={"Transfer-Encoding": "identity"}).read()
        assert framing_of(peer.requests[0]) == ([("content-length", "0")] if method == "POST" else [])


@pytest.mark.parametrize(
    "headers",
    [
        {"Transfer-Encoding": "gzip"},
        {"Transfer-Encoding": "gzip, chunked"},
        {"Transfer-Encoding": "chunked, gzip"},
        {"Transfer-Encoding": "identity, chunked"},
        {"Transfer-Encoding": "chunked, identity"},
        {"Transfer-Encoding": "chunked;q=1"},
        {"Transfer-Encoding": "xchunked"},
        {"Transfer-Encoding": ""},
        {"Transfer-Encoding": ","},
        {"Transfer-Encoding": "chunked\r\nX-A: b"},
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "identity")],
        [("Transfer-Encoding", "chunked"), ("transfer-encoding", "gzip")],
        [("Transfer-Encoding", "chunked"), ("Content-Length", "five")],
        [("Transfer-Encoding", "chunked"), ("Content-Length", "5"), ("Content-Length", "6")],
    ],
    ids=repr,
)
def test_other_transfer_encodings_are_refused(headers: Any) -> None:
    with serving() as (peer, client):
        with pytest.raises(ValueError, match=r"Transfer-Encoding|Content-Length"):
            client.post("/", b"12345", headers=headers)
        assert client.get("/good").read() == b"/good"
        assert len(peer.requests) == 1


@pytest.mark.parametrize(
    "headers", [{"Transfer-Encoding": "chunked"}, {"Transfer-Encoding": "chunked", "Content-Length": 5}]
)
def test_transfer_encoding_chunked_needs_http_1_1(headers: Any) -> None:
    with serving(version="HTTP/1.0") as (peer, client):
        with pytest.raises(ValueError, match="chunked needs HTTP"):
            client.post("/", b"12345", headers=headers)
        client.post("/", b"12345", headers={"Transfer-Encoding": "identity"}).read()
        assert framing_of(peer.requests[0]) == [("content-length", "5")]


def test_large_upload_and_a_large_download() -> None:
    body = bytes(range(256)) * (4 << 12)

    def echo(conn: Conn) -> None:
        while request := conn.read_request():
            conn.respond(request.body)

    with serving(echo) as (_, client):
        assert client.post("/", body).read() == body
        assert client.post("/", (body[i : i + 99_999] for i in range(0, len(body), 99_999))).read() == body


# ---------------------------------------------------------------- Expect: 100-continue

EXPECT = {"Expect": "100-continue"}


@pytest.mark.parametrize("make", [lambda: b"content", lambda: generator(b"con", b"tent")], ids=["bytes", "generator"])
def test_body_follows_the_interim_answer(make: Callable[[], Any]) -> None:
    def script(conn: Conn) -> None:
        request = conn.read_head()
        assert request is not None
        assert request.get("Expect") == "100-continue"
        settle()
        assert conn.buffer == b""
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert conn.read_body(request) == b"content"
        conn.respond(b"taken")
        serve_ok(conn)

    with serving(script) as (peer, client):
        assert client.post("/", make(), headers=EXPECT).read() == b"taken"
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 1


@pytest.mark.parametrize("status", ["413 Too Large", "417 Expectation Failed", "401 Unauthorized", "200 OK"])
def test_final_answer_instead_suppresses_the_body(status: str) -> None:
    unsent = generator(b"never")
    said: list[bytes] = []

    def script(conn: Conn) -> None:
        conn.read_head()
        conn.respond(b"no", status)
        said.append(conn.wait_closed())

    with serving(script, serve_ok) as (peer, client):
        response = client.post("/", unsent, headers=EXPECT)
        assert response.status_code == int(status[:3])
        assert response.read() == b"no"
        # The server still expects a body on that connection: another request there would be taken for it.
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 2
        assert next(unsent) == b"never"
    assert said == [b""]


def test_final_answer_without_a_body_frees_slot_and_connection() -> None:
    said: list[bytes] = []

    def script(conn: Conn) -> None:
        conn.read_head()
        conn.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        said.append(conn.wait_closed())

    with serving(script, serve_ok) as (_, client):
        assert client.put("/", b"x" * 100_000, headers=EXPECT).status_code == 403
        assert client.get("/next").read() == b"/next"
    assert said == [b""]


def test_silent_server_gets_the_body_after_about_a_second() -> None:
    waited: list[float] = []

    def script(conn: Conn) -> None:
        request = conn.read_head()
        assert request is not None
        start = time.monotonic()
        assert conn.read_body(request) == b"content"
        waited.append(time.monotonic() - start)
        conn.respond()
        conn.wait_closed()

    with serving(script, network_timeout=15) as (_, client):
        assert client.post("/", b"content", headers=EXPECT).read() == b"ok"
    assert 0.5 <= waited[0] <= 4


def test_interim_and_final_answer_in_one_packet() -> None:
    def script(conn: Conn) -> None:
        request = conn.read_head()
        assert request is not None
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        conn.read_body(request)  # the body arrives, or the connection closes
        serve_ok(conn)

    with serving(script, serve_ok) as (_, client):
        response = client.post("/", b"content", headers=EXPECT)
        assert (response.status_code, response.read()) == (200, b"ok")
        assert client.get("/next").read() == b"/next"


def test_server_that_closes_instead_of_100_continue_raises() -> None:
    def script(conn: Conn) -> None:
        conn.read_head()

    with serving(script) as (_, client):
        for _ in range(2):
            with pytest.raises((HTTPParseError, ConnectionError)):
                client.post("/", b"content", headers=EXPECT)


def test_http_1_0_does_not_wait_for_100_continue() -> None:
    """HTTP/1.0 has no 100 Continue: the caller's header is sent, and the body at once after it."""
    with serving(version="HTTP/1.0", network_timeout=10) as (peer, client):
        assert quickest(lambda: client.post("/", b"content", headers=EXPECT).read()) < 0.7
        assert peer.requests[0].body == b"content"


# ---------------------------------------------------------------- early responses


def huge_bytes(tmp_path: Path) -> Any:
    return bytes(HUGE)


def huge_file(tmp_path: Path) -> Any:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(HUGE)
    return path.open("rb")


def huge_iterator(tmp_path: Path) -> Any:
    return (bytes(1 << 16) for _ in range(HUGE >> 16))


REJECTIONS = {
    413: b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much",
    401: b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 8\r\n\r\ntoo much",
}


@pytest.mark.parametrize("make", [huge_bytes, huge_file, huge_iterator], ids=["bytes", "file", "iterator"])
@pytest.mark.parametrize("status", REJECTIONS)
@pytest.mark.parametrize("ending", ["stays", "closes"])
def test_early_answer_is_returned(make: Callable[[Path], Any], status: int, ending: str, tmp_path: Path) -> None:
    """The server answers behind the head, and either reads no more or closes with a reset: the answer must not be
    lost behind a send that blocks or breaks."""

    def script(conn: Conn) -> None:
        conn.read_head()
        conn.send(REJECTIONS[status])
        if ending == "stays":
            done.wait()

    done = Event()
    body = make(tmp_path)
    with (
        closing(body) if hasattr(body, "close") else nullcontext(),
        serving(script, serve_ok, network_timeout=15) as (peer, client),
    ):
        response = client.post("/", body)
        assert response.status_code == status
        assert response.read() == b"too much"
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 2
        done.set()


def test_early_answer_of_a_server_that_reads_on() -> None:
    """The client may send the rest and keep the connection, or do neither: the next request is apart from it."""

    def script(conn: Conn) -> None:
        conn.read_head()
        conn.send(OK)
        left = HUGE - len(conn.buffer)
        while left and (data := conn.sock.recv(min(left, 1 << 20))):
            left -= len(data)
        conn.buffer = b""
        serve_ok(conn)

    with serving(script, serve_ok, network_timeout=15) as (_, client):
        assert client.post("/", bytes(HUGE)).read() == b"ok"
        assert client.get("/next").read() == b"/next"


def test_connection_reset_during_an_upload_is_an_error_of_the_connection() -> None:
    def script(conn: Conn) -> None:
        conn.read_head()
        conn.reset()

    with serving(script, serve_ok) as (_, client):
        with pytest.raises((ConnectionError, HTTPParseError)):
            client.post("/", bytes(HUGE))
        assert client.get("/next").read() == b"/next"


# ---------------------------------------------------------------- connections: reuse, order, waiting


def test_connection_is_reused() -> None:
    with serving() as (peer, client):
        for i in range(5):
            assert client.get(f"/{i}").read() == f"/{i}".encode()
        assert len(peer.conns) == 1


def test_complete_response_frees_its_slot_unread() -> None:
    with serving() as (peer, client):
        first = client.get("/first")
        settle()
        second = client.get("/second")
        assert (second.read(), first.read()) == (b"/second", b"/first")
        assert len(peer.conns) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["close", "1.0"],
)
def test_connection_that_the_server_closes_is_not_reused(answer: bytes) -> None:
    with serving(saying(answer, b"never"), serve_ok) as (peer, client):
        assert client.get("/").read() == b"ok"
        peer.conns[0].hung_up.wait()
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 2


def test_http_1_0_with_keep_alive_is_used_again() -> None:
    answer = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
    with serving(saying(answer, answer)) as (peer, client):
        assert [client.get("/").read(), client.get("/").read()] == [b"ok", b"ok"]
        assert len(peer.conns) == 1


def test_last_connection_returned_is_used_first() -> None:
    """The one idle for the shortest time is the least likely to be dead."""
    gates = [Event(), Event(), Event()]

    def script(conn: Conn) -> None:
        conn.read_request()
        gates[conn.number].wait()
        conn.respond()
        serve_ok(conn)

    with serving(script, concurrency=3) as (peer, client):
        jobs = []
        for i in range(3):
            jobs.append(gevent.spawn(lambda: client.get("/").read()))
            while len(peer.conns) <= i:
                peer.accepted.wait()
                peer.accepted.clear()
        for i in (1, 0, 2):
            gates[i].set()
            assert jobs[i].get() == b"ok"
        for _ in range(2):
            assert client.get("/x").read() == b"/x"
        assert [len(conn.requests) for conn in peer.conns] == [1, 1, 3]


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_no_more_connections_than_concurrency(concurrency: int) -> None:
    busiest = 0

    def script(conn: Conn) -> None:
        nonlocal busy, busiest
        while conn.read_request():
            busy += 1
            busiest = max(busiest, busy)
            settle()
            busy -= 1
            conn.respond(b"x" * 10_000)

    busy = 0
    with serving(script, concurrency=concurrency) as (peer, client):
        jobs = [gevent.spawn(lambda: client.get("/").read()) for _ in range(40)]
        assert [len(job.get()) for job in jobs] == [10_000] * 40
        assert len(peer.conns) == busiest == concurrency
        assert len(peer.requests) == 40


def test_waiters_are_served_in_order() -> None:
    gate = Event()

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            gate.wait()
            conn.respond(request.target.encode())

    with serving(script) as (peer, client):
        jobs = [gevent.spawn(lambda i=i: client.get(f"/{i}").read()) for i in range(5)]
        while not peer.requests:
            settle()
        assert [job.ready() for job in jobs] == [False] * 5
        gate.set()
        gevent.joinall(jobs, raise_error=True)
        assert [r.target for r in peer.requests] == [f"/{i}" for i in range(5)]
        assert [job.value for job in jobs] == [f"/{i}".encode() for i in range(5)]


def test_waiting_for_a_slot_ends_by_a_timeout_of_the_caller() -> None:
    with serving(lambda conn: conn.wait_closed(), serve_ok) as (peer, client):
        holder = gevent.spawn(client.get, "/held")
        peer.accepted.wait()
        with gevent.Timeout(0.1) as mine, pytest.raises(gevent.Timeout) as caught:
            client.get("/waiting")
        assert caught.value is mine
        holder.kill()
        assert client.get("/next").read() == b"/next"
        assert [r.target for r in peer.requests] == ["/next"]


def test_closing_a_client_closes_idle_connections_and_refuses_new_requests() -> None:
    with serving() as (peer, client):
        client.get("/").read()
        client.close()
        peer.conns[0].hung_up.wait()
        for _ in range(3):
            with pytest.raises(RuntimeError, match="connection pool closed"):
                client.get("/")
        client.close()
        assert len(peer.conns) == 1


def test_response_in_use_outlives_the_close_of_its_client() -> None:
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        more.wait()
        conn.send(b"lf")
        conn.wait_closed()

    with serving(script) as (peer, client):
        response = client.get("/")
        client.close()
        more.set()
        assert response.read() == b"half"
        peer.conns[0].hung_up.wait()
        with pytest.raises(RuntimeError, match="connection pool closed"):
            client.get("/")


def test_waiter_raises_when_the_client_closes() -> None:
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        more.wait()
        conn.send(b"lf")

    with serving(script) as (_, client):
        response = client.get("/")
        waiting = [gevent.spawn(client.get, "/") for _ in range(3)]
        settle()
        client.close()
        more.set()
        assert response.read() == b"half"
        for job in waiting:
            with pytest.raises(RuntimeError, match="connection pool closed"):
                job.get()


# ---------------------------------------------------------------- failures of the network


def test_connection_refused() -> None:
    with closing(HTTPClient("127.0.0.1", free_port())) as client:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                client.get("/")


def test_client_recovers_when_its_server_comes_up() -> None:
    port = free_port()
    with closing(HTTPClient("127.0.0.1", port)) as client:
        with pytest.raises(ConnectionRefusedError):
            client.get("/")
        with Peer(port=port):
            assert client.get("/up").read() == b"/up"


def test_unknown_host_name_raises() -> None:
    with closing(HTTPClient("no-such-host.invalid")) as client:
        for _ in range(2):
            with pytest.raises(socket.gaierror):
                client.get("/")


def test_names_are_resolved_by_gevent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def getaddrinfo(host: Any, port: Any, *args: Any, **kw: Any) -> Any:
        asked.append(host if isinstance(host, str) else host.decode())
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", peer.port))]

    with Peer() as peer:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        with closing(HTTPClient("a-name.invalid", peer.port)) as client:
            assert client.get("/").read() == b"/"
        assert peer.requests[0].get("Host") == f"a-name.invalid:{peer.port}"
    assert asked == ["a-name.invalid"]


def test_name_with_several_addresses_is_tried_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = free_port()

    def getaddrinfo(host: Any, port: Any, *args: Any, **kw: Any) -> Any:
        where = [("127.0.0.1", dead), ("127.0.0.1", peer.port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in where]

    with Peer() as peer:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        with closing(HTTPClient("a-name.invalid", peer.port)) as client:
            assert client.get("/").read() == b"/"


def test_over_ipv6() -> None:
    try:
        peer = Peer(family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with peer, closing(HTTPClient("::1", peer.port)) as client:
        assert client.get("/").read() == b"/"
        assert peer.requests[0].get("Host") == f"[::1]:{peer.port}"


@pytest.mark.parametrize(
    "sent",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 103 Early Hints\r\n\r\n"],
    ids=["silence", "half a head", "interim"],
)
def test_network_timeout_while_waiting_for_the_head(sent: bytes) -> None:
    with serving(saying(sent), serve_ok, network_timeout=0.2) as (peer, client):
        start = time.monotonic()
        with pytest.raises(TimeoutError, match="timed out"):
            client.post("/", b"x")
        assert 0.15 <= time.monotonic() - start < 3
        peer.conns[0].hung_up.wait()
        assert client.get("/next").read() == b"/next"


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
    ids=["counted", "chunked", "until close"],
)
def test_network_timeout_while_reading_the_body(sent: bytes) -> None:
    with serving(saying(sent), serve_ok, network_timeout=0.2) as (peer, client):
        response = client.get("/")
        with pytest.raises(TimeoutError, match="timed out"):
            response.read()
        peer.conns[0].hung_up.wait()
        assert client.get("/next").read() == b"/next"


def test_network_timeout_while_sending() -> None:
    done = Event()

    def script(conn: Conn) -> None:
        conn.read_head()
        done.wait()

    with serving(script, serve_ok, network_timeout=0.3) as (_, client):
        with pytest.raises(TimeoutError, match="timed out"):
            client.post("/", bytes(HUGE))
        assert client.get("/next").read() == b"/next"
        done.set()


def test_network_timeout_bounds_each_wait_and_not_the_whole() -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        for piece in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 4\r\n\r\n", b"so", b"me"):
            gevent.sleep(0.2)
            conn.send(piece)

    with serving(script, network_timeout=0.6) as (_, client):
        assert client.get("/").read() == b"some"


def test_connection_timeout() -> None:
    """A backlog that is full makes the kernel drop SYNs: a connect that neither succeeds nor fails."""
    listener = std_socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    fillers = []
    try:
        for _ in range(4):
            filler = std_socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        settle()
        with closing(HTTPClient("127.0.0.1", port, connection_timeout=0.2, network_timeout=10)) as client:
            start = time.monotonic()
            with pytest.raises(TimeoutError, match="timed out"):
                client.get("/")
            assert 0.15 <= time.monotonic() - start < 3
    finally:
        for sock in (listener, *fillers):
            sock.close()


@pytest.mark.parametrize("timeout", [1e9, 10**9, 1e12])
def test_huge_timeouts(timeout: float) -> None:
    with serving(connection_timeout=timeout, network_timeout=timeout) as (_, client):
        assert client.get("/").read() == b"/"


def test_no_timeout_at_all() -> None:
    with serving(connection_timeout=None, network_timeout=None) as (_, client):
        assert client.get("/").read() == b"/"


def closing_at_the_second(conn: Conn) -> None:
    """Answers one request; reads the second and closes: a server whose idle timer fired just then."""
    conn.read_request()
    conn.respond()
    conn.read_request()


@pytest.mark.parametrize("verb", ["get", "head", "options", "put", "delete", "trace"])
def test_idempotent_request_is_sent_again_when_its_old_connection_was_dead(verb: str) -> None:
    with serving(closing_at_the_second, serve_ok) as (peer, client):
        client.get("/first").read()
        response = getattr(client, verb)("/second")
        assert response.status_code == 200
        response.read()
        assert [r.target for r in peer.requests] == ["/first", "/second", "/second"]
        assert len(peer.conns) == 2


@pytest.mark.parametrize("verb", ["post", "patch"])
@pytest.mark.parametrize("ending", ["closes", "resets"])
def test_request_with_effects_is_never_sent_twice(verb: str, ending: str) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.respond()
        conn.read_request()
        if ending == "resets":
            conn.reset()

    with serving(script, serve_ok) as (peer, client):
        client.get("/first").read()
        with pytest.raises((HTTPConnectionClosed, ConnectionResetError, BrokenPipeError)):
            getattr(client, verb)("/second", b"content")
        assert client.get("/third").read() == b"/third"
        assert [r.target for r in peer.requests] == ["/first", "/second", "/third"]


def test_retry_is_not_repeated_endlessly() -> None:
    def script(conn: Conn) -> None:
        conn.read_request()

    with serving(script) as (peer, client):
        with pytest.raises((HTTPConnectionClosed, ConnectionResetError)):
            client.get("/")
        assert 1 <= len(peer.requests) <= 3


def test_consumed_body_is_not_sent_again() -> None:
    """PUT is idempotent, but an iterator is empty the second time: half a body must not be stored."""
    with serving(closing_at_the_second, serve_ok) as (peer, client):
        client.get("/first").read()
        with pytest.raises((HTTPConnectionClosed, ConnectionError)):
            client.put("/second", generator(b"con", b"tent"))
        bodies = [r.body for r in peer.requests if r.target == "/second"]
        assert bodies == [b"content"]


@pytest.mark.parametrize("ending", ["closes", "resets"])
@pytest.mark.parametrize("verb", ["get", "post"])
def test_idle_connection_that_died_is_found_before_use(verb: str, ending: str) -> None:
    """A dead connection found before a byte is sent costs nothing: POST, too, is sent on a new one."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.respond()
        answered.wait()
        if ending == "resets":
            conn.reset()

    answered = Event()
    with serving(script, serve_ok) as (peer, client):
        client.get("/first").read()
        answered.set()
        while peer.open_now:
            settle()
        assert getattr(client, verb)("/second").read() == b"/second"
        assert [r.target for r in peer.requests] == ["/first", "/second"]


def test_bytes_on_an_idle_connection_are_discarded() -> None:
    """Some servers send a 408 before they close an idle connection."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.respond()
        answered.wait()
        conn.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nEVIL")
        said.set()
        conn.wait_closed()

    answered, said = Event(), Event()
    with serving(script, serve_ok) as (peer, client):
        client.get("/first").read()
        answered.set()
        said.wait()
        response = client.post("/second")
        assert (response.status_code, response.read()) == (200, b"/second")
        assert [r.target for r in peer.requests] == ["/first", "/second"]


EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"


@pytest.mark.parametrize("verb", ["get", "post"])
@pytest.mark.parametrize("requests_before", [1, 4])
@pytest.mark.parametrize("strays", [EVIL, b"\r\n", b"\0"])
def test_bytes_just_before_the_next_request_are_discarded(verb: str, requests_before: int, strays: bytes) -> None:
    """The bytes are in the socket before the next request, but the event loop has not run since."""
    with serving() as (peer, client):
        for _ in range(requests_before):
            client.get("/first").read()
        peer.conns[0].send_at_once(strays)
        response = getattr(client, verb)("/second")
        assert (response.status_code, response.read()) == (200, b"/second")
        assert [r.target for r in peer.requests] == ["/first"] * requests_before + ["/second"]


@pytest.mark.parametrize("requests_before", [1, 4])
def test_close_just_before_the_next_request_is_found_before_use(requests_before: int) -> None:
    """A POST must not be lost to a connection that was known to be closed before it was made."""
    with serving() as (peer, client):
        for _ in range(requests_before):
            client.get("/first").read()
        peer.conns[0].finish_sending()
        assert client.post("/second").read() == b"/second"
        assert [r.target for r in peer.requests] == ["/first"] * requests_before + ["/second"]


@pytest.mark.parametrize("size", [0, 100, 5_000, 70_000, 300_000, 5_000_000])
@pytest.mark.parametrize("read", [lambda r: r.read(), lambda r: list(r), lambda r: r.read(10_000_000)])
def test_response_behind_a_body_of_any_size_is_discarded(size: int, read: Callable[[Any], Any]) -> None:
    """However the end of the body falls into the reads: what lies behind it is not left for the next request, be it
    one that waits in the queue or one that comes later."""

    def script(conn: Conn) -> None:
        request = conn.read_request()
        assert request is not None
        if request.target == "/first":
            whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
            conn.send(whole[:-10])
            conn.send_at_once(whole[-10:] + EVIL)  # in one packet: who has seen the end can see the rest
            conn.wait_closed()
        else:
            conn.respond(request.target.encode())
            serve_ok(conn)

    with serving(script) as (_, client):
        response = client.get("/first")
        queued = gevent.spawn(lambda: client.get("/queued").read())
        settle()
        read(response)
        assert client.get("/later").read() == b"/later"
        assert queued.get() == b"/queued"


def test_server_that_closes_without_a_response_raises() -> None:
    with serving(saying_then_closing(b"")) as (_, client), pytest.raises(HTTPConnectionClosed):
        client.post("/")


def test_errors_name_the_peer() -> None:
    """A program with a thousand greenlets must see from the error which server it was."""
    with serving(saying_then_closing(b"nonsense\r\n\r\n")) as (peer, client):
        with pytest.raises(HTTPParseError) as caught:
            client.get("/")
        assert f"{peer.host}:{peer.port}" in str(caught.value)


def test_refused_connections_name_the_peer() -> None:
    port = free_port()
    with closing(HTTPClient("127.0.0.1", port)) as client, pytest.raises(ConnectionRefusedError) as caught:
        client.get("/")
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert caught.value.errno is not None


# ---------------------------------------------------------------- HTTPClientPool


def test_one_client_for_each_host_and_port() -> None:
    with closing(HTTPClientPool(concurrency=3, headers={"X-A": "b"})) as pool:
        first = pool.get_client("http://example.org/a")
        assert pool.get_client(URL("http://example.org:80/b?c")) is first
        assert pool.get_client("http://example.org:81/") is not first
        assert pool.get_client("http://example.com/") is not first
        assert set(pool.clients) == {("example.org", 80), ("example.org", 81), ("example.com", 80)}
        assert pool.clients["example.org", 80] is first
        assert pool.client_args == {"concurrency": 3, "headers": {"X-A": "b"}}
        assert first._connection_pool.size == 3
        assert first.default_headers["x-a"] == "b"


def test_pool_without_arguments() -> None:
    pool = HTTPClientPool()
    assert (pool.clients, pool.client_args) == ({}, {})
    pool.close()


def test_arguments_of_a_pool_may_be_changed() -> None:
    with closing(HTTPClientPool(concurrency=1)) as pool:
        pool.client_args["concurrency"] = 7
        assert pool.get_client("http://example.org/")._connection_pool.size == 7


def test_closed_pool_is_usable_with_fresh_connections() -> None:
    with Peer() as peer:
        pool = HTTPClientPool()
        first = pool.get_client(peer.url)
        first.get("/").read()
        pool.close()
        assert pool.clients == {}
        peer.conns[0].hung_up.wait()
        with pytest.raises(RuntimeError, match="connection pool closed"):
            first.get("/")
        again = pool.get_client(peer.url)
        assert again is not first
        assert again.get("/again").read() == b"/again"
        assert len(peer.conns) == 2
        pool.close()
        pool.close()


def test_pool_makes_its_clients_from_the_name_in_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(HTTPClient):
        pass

    monkeypatch.setattr(client_module, "HTTPClient", Mine)
    with closing(HTTPClientPool()) as pool:
        assert type(pool.get_client("http://example.org/")) is Mine


def test_shared_pool_and_many_greenlets() -> None:
    with Peer() as peer, closing(HTTPClientPool(concurrency=1)) as pool:
        jobs = [gevent.spawn(lambda i=i: pool.get_client(peer.url).get(f"/{i}").read()) for i in range(20)]
        assert [job.get() for job in jobs] == [f"/{i}".encode() for i in range(20)]
        assert len(peer.conns) == 1


# ---------------------------------------------------------------- a real server


@pytest.fixture
def real(nginx: Nginx) -> Iterator[HTTPClient]:
    with closing(HTTPClient.from_url(nginx.url, concurrency=2)) as client:
        yield client


def page(nginx: Nginx) -> bytes:
    return (nginx.root / "page").read_bytes()


def test_nginx_keep_alive(nginx: Nginx, real: HTTPClient) -> None:
    for _ in range(10):
        response = real.get("/page")
        assert response.status_code == 200
        assert response["server"].startswith("nginx")
        assert response.should_close() is False
        assert response.read() == page(nginx)


def test_nginx_many_greenlets(nginx: Nginx, real: HTTPClient) -> None:
    jobs = [gevent.spawn(lambda: real.get("/page").read()) for _ in range(100)]
    assert {job.get() for job in jobs} == {page(nginx)}


def test_nginx_no_content(real: HTTPClient) -> None:
    response = real.get("/status/204")
    assert (response.status_code, response.read(), response.message_complete) == (204, b"", True)


def test_nginx_not_found(real: HTTPClient) -> None:
    response = real.get("/status/404")
    assert (response.status_code, response.status_message, response.read()) == (404, "Not Found", b"gone")


def test_nginx_head(nginx: Nginx, real: HTTPClient) -> None:
    response = real.head("/page")
    assert (response.status_code, response.content_length, response.read()) == (200, len(page(nginx)), b"")
    assert real.get("/page").read() == page(nginx)


def test_nginx_counts_what_we_send(real: HTTPClient) -> None:
    assert real.post("/echo-length", b"x" * 12345).read() == b"12345"


def test_nginx_too_large(real: HTTPClient) -> None:
    for _ in range(3):
        response = real.post("/small", bytes(4_000_000))
        assert response.status_code == 413
        assert b"413" in response.read()
    assert real.post("/small", b"x").read() == b"taken"


def test_nginx_gzip_is_not_decoded(nginx: Nginx, real: HTTPClient) -> None:
    response = real.get("/gzip/page", headers={"Accept-Encoding": "gzip"})
    assert response["content-encoding"] == "gzip"
    body = response.read()
    assert body[:2] == b"\x1f\x8b"
    assert gzip.decompress(body) == page(nginx)


def test_nginx_closes(nginx: Nginx, real: HTTPClient) -> None:
    for _ in range(5):
        response = real.get("/close/page")
        assert response["connection"] == "close"
        assert response.read() == page(nginx)
        assert response.should_close()


def test_nginx_http_1_0(nginx: Nginx) -> None:
    with closing(HTTPClient.from_url(nginx.url, version="HTTP/1.0")) as client:
        assert client.get("/page").read() == page(nginx)
        assert client.get("/page", headers={"Connection": "keep-alive"}).read() == page(nginx)


def test_nginx_expect_continue(real: HTTPClient) -> None:
    def post() -> None:
        assert real.post("/echo-length", b"x" * 100_000, headers=EXPECT).read() == b"100000"
        assert real.post("/small", b"x" * 100_000, headers=EXPECT).status_code == 413

    assert quickest(post) < 0.9


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("block_size", None, TypeError),
        ("block_size", "x", TypeError),
        ("block_size", -1, ValueError),
        ("block_size", 0, ValueError),
        ("concurrency", 10**30, ValueError),
    ],
)
def test_option_that_counts_is_checked_by_name(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        HTTPClient("127.0.0.1", 80, **{name: value})


@pytest.mark.parametrize(("name", "value"), [("block_size", "x"), ("block_size", -1), ("headers_type", None)])
def test_invalid_attribute_is_refused_before_anything_is_sent(name: str, value: Any) -> None:
    with serving() as (peer, client):
        setattr(client, name, value)
        with pytest.raises((TypeError, OverflowError)):
            client.get("/")
        assert client.statistics()["opened"] == 0
        assert not peer.conns


@pytest.mark.parametrize("value", [None, 5, b"/x", "/\udc80"])
@pytest.mark.parametrize("name", ["method", "request_uri"])
def test_arguments_that_are_no_text_are_refused_by_name(name: str, value: Any) -> None:
    arguments = {"method": "GET", "request_uri": "/", name: value}
    with pytest.raises(ValueError if isinstance(value, str) else TypeError, match=name):
        HTTPClient("127.0.0.1", 80).request(**arguments)
    with pytest.raises(ValueError, match="X-Name"):
        HTTPClient("127.0.0.1", 80).get("/", headers={"X-Name": "\udc80"})


def test_read_of_a_huge_size_returns_the_whole_body() -> None:
    with serving() as (_, client):
        for length in (2**70, -(2**70)):
            response = client.get("/")
            with pytest.raises(TypeError, match="sep"):
                response.readline("x")  # type: ignore[arg-type]
            assert response.read(length) == client.get("/").read()


@pytest.mark.parametrize(("given", "port"), [("8080", 8080), (0, 80), ("0", 80), (None, 80)])
def test_ports_of_several_types_are_accepted(given: Any, port: int) -> None:
    assert HTTPClient("a.test", given).port == port


def test_attributes_assigned_after_a_request_count_for_the_next() -> None:
    with Peer(serve_ok) as peer, HTTPClient.from_url(peer.url, headers={"A": "1"}) as client:
        client.get("/").read()
        client.default_headers["A"] = "2"
        client.get("/").read()
        client.default_headers = Headers({"A": "3"})
        client.block_size = 7
        assert client.get("/").block_size == 7
        client.version = HTTPClient.HTTP_10
        client.get("/").read()
        heads = [request.head for request in peer.requests]
        assert [re.search(rb"\r\nA: (.)", head)[1] for head in heads] == [b"1", b"2", b"3", b"3"]  # type: ignore[index]
        assert heads[3].startswith(b"GET / HTTP/1.0\r\n")
