"""geventhttpclient.httplib2: pools of clients, and httplib2's Http for many greenlets, without monkey patching."""

from __future__ import annotations

import base64
import gzip
import importlib
import importlib.util
import pickle
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.conftest import Nginx, TlsNginx
from tests.support.certificates import Certificates
from tests.support.hub import attempt, run, turn, until
from tests.support.peer import Conn, Peer, Request, Script, serve_ok
from tests.support.ports import free_port
from tests.support.proxies import microsocks, tinyproxy, tunnelling
from tests.support.requirements import missing
from tests.support.scripted import OK, saying

if importlib.util.find_spec("httplib2") is None:
    missing("httplib2")

import httplib2 as real

from geventhttpclient import httplib2
from geventhttpclient.httplib2 import ClientPool, Http

pytestmark = pytest.mark.usefixtures("bounded")


# ---------------------------------------------------------------- ClientPool


class Client:
    """A client for a pool."""

    made: list[Client] = []

    def __init__(self) -> None:
        self.closed = 0
        self.made.append(self)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """Returns the list of all clients that the test creates."""
    clients: list[Client] = []
    monkeypatch.setattr(Client, "made", clients)
    return clients


def use(pool: ClientPool[Client], until_set: Event) -> None:
    with pool.get():
        until_set.wait()


def free_places(pool: ClientPool[Client]) -> int:
    return pool.queue.qsize()


def test_pool_reuses_a_client(made: list[Client]) -> None:
    pool = ClientPool(Client)
    for _ in range(10):
        with pool.get() as client:
            assert client is made[0]
    assert len(made) == 1
    assert free_places(pool) == 5


def test_pool_creates_a_client_per_greenlet_up_to_the_concurrency(made: list[Client]) -> None:
    pool, done = ClientPool(Client, concurrency=3), Event()
    users = [gevent.spawn(use, pool, done) for _ in range(5)]
    turn()
    assert len(made) == 3
    done.set()
    gevent.joinall(users, raise_error=True)
    assert len(made) == 3
    assert free_places(pool) == 3


@pytest.mark.parametrize("end", [ValueError, gevent.GreenletExit, gevent.Timeout, KeyboardInterrupt])
def test_pool_closes_and_replaces_an_interrupted_client(made: list[Client], end: type[BaseException]) -> None:
    pool = ClientPool(Client, concurrency=1)
    with pytest.raises(end), pool.get():
        raise end()
    assert made[0].closed == 1
    with pool.get() as client:
        assert client is not made[0]


def test_pool_slot_of_a_killed_greenlet_is_free(made: list[Client]) -> None:
    pool, never = ClientPool(Client, concurrency=1), Event()
    for _ in range(3):
        user = gevent.spawn(use, pool, never)
        waiter = gevent.spawn(use, pool, never)
        turn()
        waiter.kill()
        user.kill()
        assert free_places(pool) == 1
    assert [client.closed for client in made] == [1, 1, 1]


def test_exception_of_the_block_is_raised_although_the_close_fails() -> None:
    class Stuck(Client):
        def close(self) -> None:
            raise OSError("stuck")

    pool = ClientPool(Stuck, concurrency=1)
    with pytest.raises(gevent.GreenletExit), pool.get():
        raise gevent.GreenletExit
    assert pool.queue.qsize() == 1


def test_pool_slot_is_free_after_the_factory_fails() -> None:
    def fail() -> Client:
        raise LookupError

    pool = ClientPool(fail, concurrency=1)
    for _ in range(2):
        with pytest.raises(LookupError), pool.get():
            pass
    assert free_places(pool) == 1


def test_pool_closed_closes_clients_in_use_when_they_are_returned(made: list[Client]) -> None:
    pool, done = ClientPool(Client, concurrency=2), Event()
    user = gevent.spawn(use, pool, done)
    turn()
    with pool.get():
        pass
    pool.close()
    assert [client.closed for client in made] == [0, 1]
    done.set()
    user.get()
    assert [client.closed for client in made] == [1, 1]
    with pool.get() as client:  # it is still usable
        assert client.closed == 0
    assert free_places(pool) == 2


def test_pool_of_size_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        ClientPool(Client, concurrency=0)
    for concurrency in (None, 1.5, "2"):
        for make in (lambda given: ClientPool(Client, concurrency=given), lambda given: Http(concurrency=given)):
            with pytest.raises(TypeError, match="concurrency must be an int"):
                make(concurrency)


# ---------------------------------------------------------------- Http: the features of httplib2


@contextmanager
def facing(*scripts: Script, **options: Any) -> Iterator[tuple[Peer, Http]]:
    """Yields a peer that runs `scripts`, and a client."""
    with Peer(*scripts) as peer, closing(Http(**options)) as http:
        yield peer, http


def test_http_is_a_subclass_of_httplib2s() -> None:
    http = Http(".cache", 5, concurrency=7)
    assert isinstance(http, real.Http)
    assert (http.timeout, http.concurrency) == (5, 7)
    assert isinstance(http.cache, real.FileCache)
    assert Http().concurrency == Http(concurrency=1).concurrency == 2
    assert httplib2.ServerNotFoundError is real.ServerNotFoundError
    with pytest.raises(AttributeError):
        _ = httplib2.no_such_name


def test_get_from_nginx_returns_the_page(nginx: Nginx) -> None:
    with closing(Http()) as http:
        for _ in range(3):
            response, content = http.request(f"{nginx.url}/gzip/page")
            assert (response.status, response.reason, response.version) == (200, "OK", 11)
            assert response["-content-encoding"] == "gzip"
            assert content == (nginx.root / "page").read_bytes()


def test_methods_bodies_and_fields_are_sent() -> None:
    def echo(conn: Conn) -> None:
        while request := conn.read_request():
            conn.respond(request.body, headers=[("X-Method", request.method), ("X-Type", request.get("x") or "")])

    with facing(echo) as (peer, http):
        response, content = http.request(f"{peer.url}/", "PUT", body=b"abc", headers={"X": "1"})
        assert (response["x-method"], response["x-type"], content) == ("PUT", "1", b"abc")
        response, content = http.request(f"{peer.url}/", "POST", iter([b"in ", b"pieces"]))
        assert content == b"in pieces"
        response, content = http.request(f"{peer.url}/", "HEAD")
        assert (response.status, content) == (200, b"")


def test_redirects_use_connections_of_this_package() -> None:
    kinds = []

    class Telling(Http):
        def _conn_request(self, conn: Any, *arguments: Any) -> Any:
            kinds.append(type(conn))
            return super()._conn_request(conn, *arguments)

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if request.target == "/from":
                conn.respond(b"", "302 Found", [("Location", "/to")])
            else:
                conn.respond(request.target.encode())

    with Peer(script) as peer, closing(Telling()) as http:
        response, content = http.request(f"{peer.url}/from")
        assert content == b"/to"
        assert response.previous.status == 302
        assert len(peer.conns) == 1
    assert kinds == [httplib2.HTTPConnection] * 2


def test_cache_is_used(tmp_path: Path) -> None:
    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if request.get("if-none-match") == '"1"':
                conn.send(b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n')
            else:
                conn.respond(b"kept", headers=[("ETag", '"1"'), ("Cache-Control", "max-age=0")])

    with facing(script, cache=str(tmp_path)) as (peer, http):
        assert not http.request(peer.url)[0].fromcache
        response, content = http.request(peer.url)
        assert (response.fromcache, content) == (True, b"kept")


def test_unknown_name_is_a_server_not_found_error() -> None:
    http = Http()
    with pytest.raises(real.ServerNotFoundError, match=r"nowhere\.invalid"):
        http.request("http://nowhere.invalid/")


def test_refused_connection_raises() -> None:
    with pytest.raises(ConnectionRefusedError):
        Http().request(f"http://127.0.0.1:{free_port()}/")


def test_errors_can_be_status_codes() -> None:
    http = Http(timeout=0.02)
    http.force_exception_to_status_code = True
    assert http.request(f"http://127.0.0.1:{free_port()}/")[0].status == 400
    with Peer(Conn.wait_closed) as peer:
        assert http.request(peer.url)[0].status == 408


def test_connection_class_of_the_program_is_used() -> None:
    class Own(httplib2.HTTPConnection):
        used = 0

        def connect(self) -> None:
            type(self).used += 1
            super().connect()

    with facing(serve_ok) as (peer, http):
        http.request(f"{peer.url}/a", connection_type=Own)
        http.request(f"{peer.url}/b", connection_type=Own)
    assert Own.used == 1


# ---------------------------------------------------------------- Http: many greenlets


def test_greenlets_are_served_concurrently() -> None:
    go = Event()
    waiting = []

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            waiting.append(request)
            go.wait()
            conn.respond(request.target.encode())

    with facing(script, concurrency=3) as (peer, http):
        calls = [gevent.spawn(http.request, f"{peer.url}/{i}") for i in range(6)]
        until(lambda: len(waiting) == 3)
        turn()
        assert len(waiting) == 3
        go.set()
        gevent.joinall(calls, raise_error=True)
        assert [call.get()[1] for call in calls] == [b"/%d" % i for i in range(6)]
        assert len(peer.conns) == 3


def test_one_greenlet_uses_one_connection() -> None:
    with facing(serve_ok, concurrency=5) as (peer, http):
        for _ in range(10):
            http.request(peer.url)
        assert len(peer.conns) == 1


def interrupted(conn: Conn, before: bytes) -> None:
    """Sends the first part of a response, and the rest after the client should have disconnected."""
    request = conn.read_request()
    assert request is not None
    conn.send(before)
    conn.peer.reached.set()  # type: ignore[attr-defined]
    conn.wait_closed()


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nforbidden"
STOPS = {"before the answer": 0, "amid the head": 20, "amid the body": len(ANSWER) - 4}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("way", ["kill", "timeout", "exception"])
@pytest.mark.parametrize("as_status", [False, True])
def test_interrupted_exchange_frees_its_slot(stop: str, way: str, as_status: bool) -> None:
    """The connection is closed, the slot is free, and the next request is sent exactly once."""

    class Ours(Exception):
        pass

    peer = Peer(lambda conn: interrupted(conn, ANSWER[: STOPS[stop]]), serve_ok)
    peer.reached = Event()  # type: ignore[attr-defined]
    with peer, closing(Http()) as http:
        http.force_exception_to_status_code = as_status
        call = gevent.spawn(attempt, lambda: http.request(f"{peer.url}/first"))
        peer.reached.wait()  # type: ignore[attr-defined]
        turn()
        if way == "kill":
            call.kill()
        else:
            call.kill(gevent.Timeout() if way == "timeout" else Ours())
        if way == "exception" and as_status:
            assert call.get()[0].status == 400
        else:
            assert isinstance(call.get(), {"kill": gevent.GreenletExit, "timeout": gevent.Timeout}.get(way, Ours))
        assert peer.conns[0].hung_up.wait(5)
        assert http.pool.queue.qsize() == http.concurrency
        assert http.request(f"{peer.url}/second", "POST", b"once")[1] == b"/second"
        assert [request.target for request in peer.requests].count("/second") == 1


def test_killed_waiter_occupies_no_slot() -> None:
    with facing(Conn.wait_closed, concurrency=2) as (peer, http):
        busy = [gevent.spawn(attempt, lambda: http.request(peer.url)) for _ in range(2)]
        until(lambda: len(peer.conns) == 2)
        waiter = gevent.spawn(attempt, lambda: http.request(peer.url))
        turn()
        waiter.kill()
        gevent.killall(busy)
        assert http.pool.queue.qsize() == 2


def test_failures_free_their_slots() -> None:
    """There are ten times as many failures as slots."""

    def script(conn: Conn) -> None:
        conn.read_request()

    with facing(script, concurrency=2) as (peer, http):
        for _ in range(20):
            with pytest.raises((OSError, real.HttpLib2Error)):
                http.request(peer.url)
        assert http.pool.queue.qsize() == 2


def test_timeout_is_raised() -> None:
    with facing(Conn.wait_closed, serve_ok, timeout=0.02) as (peer, http):
        with pytest.raises(TimeoutError):
            http.request(peer.url)
        assert http.request(f"{peer.url}/again")[1] == b"/again"


def test_default_timeout_of_sockets_applies_to_httplib2() -> None:
    before = socket.getdefaulttimeout()
    try:
        with facing(Conn.wait_closed) as (peer, http):
            socket.setdefaulttimeout(0.02)
            with pytest.raises(TimeoutError):
                http.request(peer.url)
    finally:
        socket.setdefaulttimeout(before)


# ---------------------------------------------------------------- Http: one shared object


def basic(conn: Conn) -> None:
    wanted = "Basic " + base64.b64encode(b"user:pass").decode()
    while request := conn.read_request():
        if request.get("authorization") == wanted:
            conn.respond(b"come in")
        else:
            conn.respond(b"", "401 Unauthorized", [("WWW-Authenticate", 'Basic realm="here"')])


def all_at_once(http: Http, url: str, count: int) -> list[Any]:
    calls = [gevent.spawn(http.request, url) for _ in range(count)]
    gevent.joinall(calls, raise_error=True)
    return [call.get() for call in calls]


def test_credentials_are_shared() -> None:
    with facing(basic, concurrency=3) as (peer, http):
        http.add_credentials("user", "pass")
        assert {content for _, content in all_at_once(http, peer.url, 3)} == {b"come in"}
        asked = len(peer.requests)
        all_at_once(http, peer.url, 3)
        assert len(peer.requests) == asked + 3  # the challenge that one connection received applies to all
        http.clear_credentials()
        assert {response.status for response, _ in all_at_once(http, peer.url, 3)} == {401}


def test_settings_are_shared() -> None:
    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.respond(b"", "302 Found", [("Location", "/to")])

    with facing(script, concurrency=3) as (peer, http):
        http.follow_redirects = False
        assert {response.status for response, _ in all_at_once(http, peer.url, 6)} == {302}
        assert len(peer.requests) == 6


def test_timeout_applies_to_later_connections() -> None:
    with facing(Conn.wait_closed) as (peer, http):
        http.timeout = 0.02
        with pytest.raises(TimeoutError):
            http.request(peer.url)


def test_connections_can_be_listed_closed_and_removed() -> None:
    go = Event()

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            go.wait()
            conn.respond(request.target.encode())

    with facing(script, concurrency=3) as (peer, http):
        assert dict(http.connections) == {}
        calls = [gevent.spawn(http.request, peer.url) for _ in range(3)]
        until(lambda: len(peer.requests) == 3)
        go.set()
        gevent.joinall(calls, raise_error=True)
        key = f"http:127.0.0.1:{peer.port}"
        assert list(http.connections) == [key]
        assert (len(http.connections), len(http.connections.values())) == (1, 3)
        assert isinstance(http.connections[key], httplib2.HTTPConnection)
        for connection in http.connections.values():
            connection.close()
        assert all(conn.hung_up.wait(5) for conn in peer.conns)
        http.request(peer.url)
        assert len(peer.conns) == 4
        for connection in http.connections.values():
            connection.close()
        http.connections.clear()
        assert key not in http.connections
        with pytest.raises(KeyError):
            del http.connections[key]
        with pytest.raises(TypeError, match="connection_type"):
            http.connections[key] = None
        with pytest.raises(TypeError, match="connection_type"):
            http.connections = {key: None}
        http.request(peer.url)
        assert len(peer.conns) == 5


def test_close_closes_idle_connections_now_and_others_later() -> None:
    go = Event()

    def held(conn: Conn) -> None:
        while request := conn.read_request():
            if request.target == "/held":
                go.wait()
            conn.respond(request.target.encode())

    with facing(held) as (peer, http):
        http.add_credentials("user", "pass")
        call = gevent.spawn(http.request, f"{peer.url}/held")
        until(lambda: peer.requests)
        http.request(f"{peer.url}/idle")
        http.close()
        assert peer.conns[1].hung_up.wait(5)
        assert not peer.conns[0].hung_up.is_set()
        assert not list(http.credentials.iter(""))
        go.set()
        assert call.get()[1] == b"/held"
        assert peer.conns[0].hung_up.wait(5)
        assert http.request(f"{peer.url}/after")[1] == b"/after"


def test_http_can_be_pickled() -> None:
    with facing(basic, concurrency=4) as (peer, http):
        http.add_credentials("user", "pass")
        http.request(peer.url)
        with closing(pickle.loads(pickle.dumps(http))) as copied:
            assert copied.concurrency == 4
            assert len(copied.connections) == 0
            assert copied.request(peer.url)[1] == b"come in"


# ---------------------------------------------------------------- TLS and proxies


def test_https_is_supported(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    url = f"https://localhost:{tls_nginx.ports['valid']}/page"
    with closing(Http(ca_certs=str(certificates.ca), concurrency=3)) as http:
        for _ in range(2):
            assert {content for _, content in all_at_once(http, url, 3)} == {(tls_nginx.root / "page").read_bytes()}
        contexts = {id(connection._context) for connection in http.connections.values()}
        assert len(contexts) == 1  # the certificates are read only once


def test_certificate_that_is_not_trusted_is_an_error(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    url = f"https://localhost:{tls_nginx.ports['untrusted']}/page"
    with pytest.raises(ssl.SSLCertVerificationError):
        Http(ca_certs=str(certificates.ca)).request(url)
    with closing(Http(disable_ssl_certificate_validation=True)) as http:
        assert http.request(url)[0].status == 200


def test_certificate_of_another_host_is_an_error(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        Http(ca_certs=str(certificates.ca)).request(f"https://localhost:{tls_nginx.ports['elsewhere']}/page")


def test_tls_versions_and_client_certificate_are_used(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    with closing(Http(ca_certs=str(certificates.ca), tls_maximum_version="TLSv1_2")) as http:
        url = f"https://localhost:{tls_nginx.ports['clients']}/facts"
        assert http.request(url)[0].status == 400
        http.close()
        http.add_certificate(str(certificates.client.key), str(certificates.client.chain), "")
        response, content = http.request(url)
        assert response.status == 200
        assert b"The Client" in content
        assert b"TLSv1.2" in content


def through(port: int, **more: Any) -> real.ProxyInfo:
    return real.ProxyInfo(3, "127.0.0.1", port, **more)


def test_https_via_a_proxy_uses_a_tunnel(tmp_path: Path, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    with closing(tinyproxy(tmp_path)) as proxy:
        info = through(proxy.port)
        with closing(Http(ca_certs=str(certificates.ca), proxy_info=info)) as http:
            url = f"https://localhost:{tls_nginx.ports['valid']}/page"
            assert http.request(url)[1] == (tls_nginx.root / "page").read_bytes()
        assert "CONNECT" in proxy.output


def test_http_via_a_proxy_with_a_password() -> None:
    with Peer(serve_ok) as peer, Peer(tunnelling) as proxy:
        info = through(proxy.port, proxy_user="user", proxy_pass="pass", proxy_headers={"X-Tunnel": "1"})
        with closing(Http(proxy_info=lambda scheme: info if scheme == "http" else None)) as http:
            assert http.request(f"{peer.url}/through")[1] == b"/through"
        asked: Request = proxy.requests[0]
        assert asked.line.startswith(f"CONNECT 127.0.0.1:{peer.port} HTTP/1.")
        assert asked.get("proxy-authorization") == "Basic " + base64.b64encode(b"user:pass").decode()
        assert asked.get("x-tunnel") == "1"
        assert peer.requests[0].get("host") == f"127.0.0.1:{peer.port}"
        assert peer.requests[0].get("proxy-authorization") is None


def test_bypassed_host_does_not_use_the_proxy() -> None:
    info = through(free_port())
    info.bypass_hosts = ("127.0.0.1",)
    with facing(serve_ok, proxy_info=info) as (peer, http):
        assert http.request(f"{peer.url}/direct")[1] == b"/direct"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_socks_without_pysocks_is_an_error(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """httplib2 itself would connect to an https server directly in this case."""
    monkeypatch.setattr(real, "socks", None)
    info = real.ProxyInfo(2, "127.0.0.1", free_port())
    with pytest.raises(real.ProxiesUnavailableError, match="PySocks"):
        Http(proxy_info=info).request(f"{scheme}://127.0.0.1:{free_port()}/")


def test_socks_proxy_is_used(tmp_path: Path) -> None:
    if importlib.util.find_spec("socks") is None:
        missing("PySocks")
    with closing(microsocks(tmp_path)) as proxy, Peer(serve_ok) as peer:
        assert run("consumers.by_socks", peer.url, proxy.port).clean() == "200\n200\n"
        assert len(peer.conns) == 1


def test_http_after_patch_works() -> None:
    with Peer(serve_ok) as peer:
        assert run("consumers.shared_after_patch", peer.url).clean() == "200\n200\n"
        assert len(peer.conns) == 1


def test_import_without_httplib2_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httplib2", None)
    monkeypatch.delitem(sys.modules, "geventhttpclient.httplib2")
    with pytest.raises(ImportError, match="pip install httplib2"):
        importlib.import_module("geventhttpclient.httplib2")


def test_invalid_gzip_frees_its_slot() -> None:
    spoilt = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone"
    good = gzip.compress(b"good")
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(good)
    with facing(saying(spoilt), saying(answer + good), saying(OK)) as (peer, http):
        with pytest.raises(real.FailedToDecompressContent):
            http.request(peer.url)
        assert http.request(peer.url)[1] == b"good"
        assert http.pool.queue.qsize() == http.concurrency
