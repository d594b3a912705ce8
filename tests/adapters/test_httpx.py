"""The httpx transport: each case has the same outcome as with httpx's own transport."""

from __future__ import annotations

import gc
import gzip
import importlib
import io
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.socket
import httpx
import pytest

from geventhttpclient.adapters.httpx import Transport
from geventhttpclient.proxy import Proxy
from tests.conftest import Nginx, TlsNginx
from tests.support.certificates import Certificates
from tests.support.hub import until
from tests.support.peer import Conn, Peer, Script
from tests.support.proxies import microsocks, tinyproxy
from tests.support.scripted import HUGE, OK, answer, saying, saying_then_closing, settle, told

pytestmark = pytest.mark.usefixtures("bounded")

Action = Callable[[httpx.Client, str], Any]


def client_of(transport: httpx.BaseTransport, **options: Any) -> httpx.Client:
    return httpx.Client(transport=transport, trust_env=False, **{"timeout": 10, **options})


def outcome(transport: httpx.BaseTransport, action: Action, url: str, **options: Any) -> Any:
    """Returns the value of an action, or the class of the exception that it raised."""
    with client_of(transport, **options) as client:
        try:
            return action(client, url)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError) as error:
            return type(error).__name__


def natively(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Runs a blocking function in a native thread, so that the peers of the test continue."""
    return gevent.get_hub().threadpool.apply(function, arguments, options)


def check_same(action: Action, *scripts: Script, **options: Any) -> Any:
    """Checks that both transports have the same outcome and send the same requests. Returns the outcome."""
    with Peer(*scripts) as peer:
        wanted = natively(outcome, httpx.HTTPTransport(), action, peer.url, **options)
        asked = told(peer)
    with Peer(*scripts) as peer:
        found = outcome(Transport(), action, peer.url, **options)
        assert told(peer) == asked
    assert found == wanted
    return found


def facts(response: httpx.Response) -> tuple[Any, ...]:
    """Returns everything in a response that can be compared."""
    return (
        response.status_code,
        response.reason_phrase,
        response.http_version,
        response.content,
        sorted((name.lower(), value) for name, value in response.headers.raw if name.lower() != b"date"),
        response.text,
        sorted(response.cookies.items()),
        [each.status_code for each in response.history],
        response.is_closed,
        response.num_bytes_downloaded,
    )


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def pieces(*data: bytes) -> Iterator[bytes]:
    yield from data


REQUESTS: dict[str, Action] = {
    "get": lambda c, u: c.get(f"{u}/path?a=1&b=ü#fragment"),
    "two slashes": lambda c, u: c.get(f"{u}//x//y"),
    "no path": lambda c, u: c.get(f"{u}?query"),
    "non-ascii": lambda c, u: c.get(f"{u}/päth/☃"),
    "params": lambda c, u: c.get(u, params={"q": ["a b", "c&d"]}),
    "head": lambda c, u: c.head(u),
    "options": lambda c, u: c.options(u),
    "asterisk": lambda c, u: c.request("OPTIONS", u, extensions={"target": b"*"}),
    "delete": lambda c, u: c.delete(u),
    "post nothing": lambda c, u: c.post(u),
    "form": lambda c, u: c.post(u, data={"a": "1", "b": "ü"}),
    "json": lambda c, u: c.post(u, json={"a": [1, None, "ü"]}),
    "bytes": lambda c, u: c.put(u, content=bytes(range(256))),
    "text": lambda c, u: c.put(u, content="grün"),
    "files": lambda c, u: c.post(
        u, files={"f": ("n", b"d")}, headers={"Content-Type": "multipart/form-data; boundary=b"}
    ),
    "generator": lambda c, u: c.post(u, content=pieces(b"one", b"", b"two")),
    "counted generator": lambda c, u: c.post(u, content=pieces(b"one", b"two"), headers={"Content-Length": "6"}),
    "file": lambda c, u: c.post(u, content=io.BytesIO(b"x" * 100_000)),
    "basic": lambda c, u: c.get(u, auth=("user", "pass:word")),
    "host": lambda c, u: c.get(u, headers={"Host": "example.org"}),
    "fields of one name": lambda c, u: c.get(u, headers=[("X-A", "1"), ("X-A", "2")]),
    "bytes in headers": lambda c, u: c.get(u, headers={b"X-Bytes": b"v\xfc"}),
    "cookies": lambda c, u: c.get(u, headers={"Cookie": "a=b"}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_the_same(name: str) -> None:
    action = REQUESTS[name]
    assert check_same(lambda c, u: facts(action(c, u)), saying(OK))[0] == 200


TEXT = "grün und blau ".encode() * 50
RESPONSES = {
    "plain": answer(b"body"),
    "empty": answer(),
    "charset": answer("grün".encode("latin-1"), "200 OK", "Content-Type: text/plain; charset=latin-1"),
    "no reason": answer(b"x", "200 "),
    "own reason": answer(b"x", "404 Nothing Of The Kind"),
    "latin-1 in a field": answer(b"x", "200 OK", "X-Latin: vü"),
    "fields of one name": answer(b"x", "200 OK", "X-A: 1", "x-a: 2", "X-B: 3"),
    "cookies": answer(b"x", "200 OK", "Set-Cookie: a=b; Path=/", "Set-Cookie: c=d"),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nto the end",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    "chunked": CHUNKED + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
    "gzip": answer(gzip.compress(TEXT), "200 OK", "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_are_the_same(name: str) -> None:
    check_same(lambda c, u: (facts(c.get(u)), sorted(c.cookies.items())), saying_then_closing(RESPONSES[name]))


STREAMS: dict[str, Callable[[httpx.Response], Any]] = {
    "read": lambda r: r.read(),
    "iter_bytes": lambda r: list(r.iter_bytes(7)),
    "iter_raw": lambda r: b"".join(r.iter_raw()),
    "iter_text": lambda r: "".join(r.iter_text()),
    "iter_lines": lambda r: list(r.iter_lines()),
    "twice": lambda r: (b"".join(r.iter_raw()), b"".join(r.iter_raw())),
    "after close": lambda r: (r.close(), r.read()),
    "content": lambda r: r.content,
}


@pytest.mark.parametrize("use", STREAMS)
@pytest.mark.parametrize("name", ["charset", "chunked", "gzip", "HTTP/1.0"])
def test_streamed_bodies_are_the_same(name: str, use: str) -> None:
    def action(client: httpx.Client, url: str) -> Any:
        with client.stream("GET", url) as response:
            return STREAMS[use](response), response.is_closed, response.num_bytes_downloaded

    check_same(action, saying_then_closing(RESPONSES[name]))


def test_stream_yields_pieces_as_they_are_received() -> None:
    seen = gevent.event.Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(CHUNKED + b"5\r\nfirst\r\n")
        seen.wait()
        conn.send(b"4\r\nlast\r\n0\r\n\r\n")

    with Peer(script) as peer, client_of(Transport()) as client, client.stream("GET", peer.url) as response:
        body = response.iter_bytes()
        assert next(body) == b"first"
        seen.set()
        assert list(body) == [b"last"]


# --------------------------------------------------------------------------------------------------------------- errors


def resetting(conn: Conn) -> None:
    conn.read_request()
    conn.reset()


BROKEN: dict[str, Script] = {
    "closed after the request": saying_then_closing(b""),
    "reset": resetting,
    "not http": saying_then_closing(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "head cut": saying_then_closing(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "body cut": saying_then_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1234567"),
    "chunk cut": saying_then_closing(CHUNKED + b"a\r\n1234567"),
    "no last chunk": saying_then_closing(CHUNKED + b"7\r\n1234567\r\n"),
    "no chunk size": saying_then_closing(CHUNKED + b"zz\r\n1234567\r\n"),
    "not gzip": saying(answer(b"not gzip at all", "200 OK", "Content-Encoding: gzip")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_response_raises_same_error_as_httpx(name: str) -> None:
    assert check_same(lambda c, u: c.get(u).content, BROKEN[name]).endswith("Error")
    with Peer(BROKEN[name]) as peer, client_of(Transport()) as client, pytest.raises(httpx.RequestError) as caught:
        client.get(peer.url)
    assert caught.value.request.url.port == peer.port
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("retries", [0, 1])
def test_refused_connection_raises(retries: int) -> None:
    found = outcome(Transport(retries=retries), lambda c, u: c.get(u), "http://127.0.0.1:1")
    assert found == "ConnectError"


def test_failed_connection_attempt_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("geventhttpclient.adapters._transport.gevent.sleep", waits.append)
    assert outcome(Transport(retries=4), lambda c, u: c.get(u), "http://127.0.0.1:1") == "ConnectError"
    assert waits == [0, 0.5, 1, 2]


def test_unknown_host_raises_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[Any]:
        raise gevent.socket.gaierror(gevent.socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(gevent.socket, "getaddrinfo", unknown)
    assert outcome(Transport(), lambda c, u: c.get(u), "http://nowhere.test") == "ConnectError"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "/path", "http://", "nothing", "http://a b/"])
def test_invalid_url_raises_same_error_as_httpx(url: str) -> None:
    found, wanted = (outcome(each, lambda c, u: c.get(u), url) for each in (Transport(), httpx.HTTPTransport()))
    assert found == wanted


@pytest.mark.parametrize("headers", [{"X": "a\r\nb"}, {"a b": "c"}], ids=repr)
def test_invalid_request_raises_same_error_as_httpx(headers: dict[str, str]) -> None:
    check_same(lambda c, u: c.post(u, content=pieces(b"abc"), headers=headers), lambda conn: conn.wait_closed())


@pytest.mark.parametrize(
    "error", [ValueError("mine"), OSError("mine"), TimeoutError("mine"), KeyError("mine")], ids=repr
)
def test_exception_of_a_body_is_raised_unchanged(error: Exception) -> None:
    def body() -> Iterator[bytes]:
        yield b"some"
        raise error

    with (
        Peer(lambda conn: conn.wait_closed()) as peer,
        client_of(Transport()) as client,
        pytest.raises(type(error)) as caught,
    ):
        client.post(peer.url, content=body())
    assert caught.value is error


@pytest.mark.parametrize("moment", ["head", "body"])
def test_silent_server_raises_read_timeout(moment: str) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        if moment == "body":
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123")
        conn.wait_closed()

    timeout = httpx.Timeout(10, read=0.05)
    assert check_same(lambda c, u: c.get(u).content, script, timeout=timeout) == "ReadTimeout"


def test_server_that_does_not_read_raises_write_timeout() -> None:
    gate = gevent.event.Event()
    timeout = httpx.Timeout(10, read=0.05, write=0.05)
    with Peer(lambda conn: gate.wait()) as peer:
        found = outcome(Transport(), lambda c, u: c.post(u, content=bytes(HUGE)), peer.url, timeout=timeout)
        gate.set()
    assert found == "WriteTimeout"


def test_connect_timeout_raises() -> None:
    with gevent.socket.socket() as listener, ExitStack() as clients:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            client = clients.enter_context(gevent.socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        timeout = httpx.Timeout(10, connect=0.05)
        assert (
            outcome(Transport(), lambda c, u: c.get(u), f"http://127.0.0.1:{port}", timeout=timeout) == "ConnectTimeout"
        )


def test_exhausted_pool_raises_pool_timeout() -> None:
    transport = Transport(limits=httpx.Limits(max_connections=1))
    timeout = httpx.Timeout(10, pool=0.05)
    with (
        Peer(saying(OK[:-1])) as peer,
        client_of(transport, timeout=timeout) as client,
        client.stream("GET", peer.url),
        pytest.raises(httpx.PoolTimeout),
    ):
        client.get(peer.url)


def test_killed_request_leaves_no_connection() -> None:
    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if request.target == "/wait":
                conn.wait_closed()
            conn.respond(b"ok")

    with Peer(script) as peer, client_of(Transport(limits=httpx.Limits(max_connections=1))) as client:
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            client.get(f"{peer.url}/wait")
        greenlet = gevent.spawn(client.get, f"{peer.url}/wait")
        until(lambda: len(peer.requests) == 2)
        greenlet.kill()
        assert isinstance(greenlet.value, gevent.GreenletExit)
        assert client.get(peer.url).content == b"ok"


# --------------------------------------------------------------------------------------------------------- connections


def test_client_follows_redirects_and_keeps_cookies() -> None:
    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if request.target == "/a":
                conn.respond(b"x" * 20_000, "302 Found", [("Location", "/b"), ("Set-Cookie", "a=b")])
            else:
                conn.respond((request.get("cookie") or "").encode())

    found = check_same(lambda c, u: facts(c.get(f"{u}/a")), script, follow_redirects=True)
    assert found[3] == b"a=b"


def test_connections_are_reused() -> None:
    with Peer() as peer, client_of(Transport()) as client:
        for _ in range(5):
            assert client.get(f"{peer.url}/x").content == b"/x"
        assert len(peer.conns) == 1


def test_idle_connection_closed_by_peer_is_replaced() -> None:
    with Peer(saying_then_closing(OK), saying(OK)) as peer, client_of(Transport()) as client:
        assert client.get(peer.url).content == b"ok"
        settle()
        assert client.get(peer.url).content == b"ok"


@pytest.mark.parametrize("give_up", ["close", "drop"])
def test_abandoned_response_closes_its_connection(give_up: str) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        conn.wait_closed()

    with Peer(script) as peer, client_of(Transport()) as client:
        response = client.send(client.build_request("GET", peer.url), stream=True)
        if give_up == "close":
            response.close()
        else:
            del response
            gc.collect()
        assert peer.conns[0].hung_up.wait(5)


def test_close_closes_the_connections() -> None:
    with Peer() as peer:
        with client_of(Transport()) as client:
            response = client.get(peer.url)
            assert peer.open_now == 1
        assert response.content == b"/"
        until(lambda: peer.open_now == 0)


def test_least_recently_used_origin_is_removed_first() -> None:
    limits = httpx.Limits(max_keepalive_connections=2)
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer()) for _ in range(3)]
        client = stack.enter_context(client_of(Transport(limits=limits)))
        for number in (0, 1, 0, 2):
            client.get(peers[number].url)
        until(lambda: peers[1].open_now == 0)
        client.get(peers[0].url)
        assert [len(peer.conns) for peer in peers] == [1, 1, 1]


def test_large_bodies_are_complete_in_both_directions(
    nginx: Nginx, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    big = (tls_nginx.root / "big").read_bytes()
    with client_of(Transport(verify=str(certificates.ca))) as client:
        assert client.get(f"https://localhost:{tls_nginx.ports['valid']}/big").content == big
        assert client.post(f"{nginx.url}/echo-length", content=bytes(8 << 20)).content == b"8388608"


def test_uds_connects_to_unix_domain_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = gevent.socket.socket(gevent.socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            assert b"Host: example.org" in sock.recv(65536)
            sock.sendall(OK)

    with listener, client_of(Transport(uds=str(path))) as client:
        server = gevent.spawn(serve)
        assert client.get("http://example.org/").content == b"ok"
        server.get()


def test_local_address_is_used_for_connections() -> None:
    with Peer() as peer, client_of(Transport(local_address="127.0.0.2")) as client:
        client.get(peer.url)
        assert peer.conns[0].sock.getpeername()[0] == "127.0.0.2"


# ----------------------------------------------------------------------------------------------------- TLS and proxies


@pytest.mark.parametrize("name", ["valid", "expired", "elsewhere", "untrusted", "chained", "tls12", "clients"])
@pytest.mark.parametrize("verify", ["the authority", "a context", "a lenient context", "nothing", "the usual"])
def test_same_servers_are_trusted_as_by_httpx(
    name: str, verify: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if verify == "a lenient context":
        context.check_hostname = False
    given: Any = {"nothing": False, "the usual": True}.get(verify, context)
    ours: Any = str(certificates.ca) if verify == "the authority" else given
    url = f"https://localhost:{tls_nginx.ports[name]}/page"
    wanted = natively(outcome, httpx.HTTPTransport(verify=given), lambda c, u: c.get(u).content, url)
    assert outcome(Transport(verify=ours), lambda c, u: c.get(u).content, url) == wanted


def test_client_certificate_is_sent(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    pair = certificates.client
    context = ssl.create_default_context(cafile=str(certificates.ca))
    url = f"https://localhost:{tls_nginx.ports['clients']}/facts"
    for verify in (str(certificates.ca), context):
        with client_of(Transport(verify=verify, cert=(str(pair.chain), str(pair.key)))) as client:
            assert "The Client" in client.get(url).json()["client"]


def test_sni_hostname_replaces_the_host(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    url = f"https://127.0.0.1:{tls_nginx.ports['named']}/facts"
    with client_of(Transport(verify=str(certificates.ca))) as client:
        for name in ("a.test", "b.test"):
            assert client.get(url, extensions={"sni_hostname": name}).json()["name"] == name


@pytest.mark.parametrize(
    "options",
    [
        {"http1": False},
        {"retries": -1},
        {"verify": "/none"},
        {"cert": "/none"},
        {"proxy": "ftp://x"},
        {"proxy": 7},
        {"uds": ""},
        {"local_address": 1},
        {"uds": "/x", "proxy": "http://x"},
        {"proxy": httpx.Proxy("http://x", headers={"a": "b"})},
    ],
    ids=repr,
)
def test_invalid_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, OSError)):
        Transport(**options)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("user", ["", "me:secret@", "me:wrong@"])
@pytest.mark.parametrize("kind", ["str", "httpx"])
def test_http_proxy_carries_requests(
    scheme: str, user: str, kind: str, nginx: Nginx, tls_nginx: TlsNginx, certificates: Certificates, tmp_path: Path
) -> None:
    lines = ["BasicAuth me secret"] if user else []
    url = f"{nginx.url}/page" if scheme == "http" else f"https://localhost:{tls_nginx.ports['valid']}/page"
    context = ssl.create_default_context(cafile=str(certificates.ca))

    def action(client: httpx.Client, url: str) -> Any:
        response = client.get(url)
        return response.status_code, response.content

    with closing(tinyproxy(tmp_path, *lines)) as proxy:
        given = f"http://{user}{proxy.place}"
        wanted = natively(outcome, httpx.HTTPTransport(verify=context, proxy=given), action, url)
        ours: Any = httpx.Proxy(given) if kind == "httpx" else given
        assert outcome(Transport(verify=str(certificates.ca), proxy=ours), action, url) == wanted


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("password", ["secret", "wrong"])
def test_socks_proxy_carries_requests(scheme: str, password: str, nginx: Nginx, tmp_path: Path) -> None:
    with closing(microsocks(tmp_path, "me", "secret")) as proxy:
        url = f"{nginx.url}/page"
        found = outcome(
            Transport(proxy=f"{scheme}://me:{password}@{proxy.place}"), lambda c, u: len(c.get(u).content), url
        )
        assert found == (615 if password == "secret" else "ProxyError")


def test_proxy_object_is_accepted() -> None:
    with Peer() as proxy, client_of(Transport(proxy=Proxy("http", "127.0.0.1", proxy.port))) as client:
        assert client.get("http://example.org/x").content == b"http://example.org/x"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", ["closed after the request", "not http", "nobody"])
def test_broken_proxy_raises_same_error_as_httpx(name: str, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:2/"
    with Peer(BROKEN.get(name, saying(OK))) as peer:
        proxy = "http://127.0.0.1:1" if name == "nobody" else peer.url
        wanted = natively(outcome, httpx.HTTPTransport(proxy=proxy), lambda c, u: c.get(u).content, url)
    with Peer(BROKEN.get(name, saying(OK))) as peer:
        proxy = "http://127.0.0.1:1" if name == "nobody" else peer.url
        assert outcome(Transport(proxy=proxy), lambda c, u: c.get(u).content, url) == wanted


def test_silent_proxy_raises_timeout() -> None:
    timeout = httpx.Timeout(10, connect=0.05, read=0.05)
    with Peer(lambda conn: conn.wait_closed()) as peer:
        found = outcome(Transport(proxy=peer.url), lambda c, u: c.get(u), "https://127.0.0.1:2/", timeout=timeout)
    assert found in ("ReadTimeout", "ConnectTimeout")


def test_import_without_httpx_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "geventhttpclient.adapters.httpx")
    with pytest.raises(ImportError, match="pip install httpx"):
        importlib.import_module("geventhttpclient.adapters.httpx")


def test_limits_of_wrong_type_raise_type_error() -> None:
    with pytest.raises(TypeError, match=r"limits must be an httpx\.Limits, not 5"):
        Transport(limits=5)  # type: ignore[arg-type]
