"""HTTP/2 through proxies of each kind, over a Unix domain socket, and with both TLS implementations."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.pool import Pool

from geventhttpclient import HTTPClient
from tests.conftest import PAGE
from tests.support.certificates import Certificates
from tests.support.http2_peer import Talk, scripted, serve_targets, talking_securely
from tests.support.http2_servers import Http2Nginx
from tests.support.peer import Conn, Peer
from tests.support.ports import free_port
from tests.support.proxies import RealProxy, dante, microsocks, tinyproxy, tunnelling
from tests.support.tls import WAYS, by, check_whole, client_of, opened, trusting

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture(scope="module", params=["http", "socks5", "socks4"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Returns the URL of a real proxy."""
    directory = tmp_path_factory.mktemp("proxy")
    if request.param == "http":
        started: RealProxy = tinyproxy(directory)
    elif request.param == "socks5":
        started = microsocks(directory)
    else:
        started = dante(directory, blocked=free_port())
    yield f"{request.param}://{started.place}"
    started.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "spoken"), [("tls", "HTTP/2"), ("old", "HTTP/1.1")])
def test_real_proxies_forward_http2(
    name: str, spoken: str, way: str, proxy: str, http2_nginx: Http2Nginx, certificates: Certificates
) -> None:
    options: dict[str, Any] = {"ssl_options": trusting(certificates), "http2": True, "proxy": proxy}
    with client_of(http2_nginx.ports[name], way, "127.0.0.1", **options) as client:
        response = client.get("/page")
        assert (response.version, response.read()) == (spoken, PAGE)
        assert set(Pool(20).map(lambda _: client.get("/page").read(), range(50))) == {PAGE}
        assert client.put("/passed-on", b"x" * 1_000_000).read() == b"1000000"
        assert opened(client) == 1
        check_whole(client)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_prior_knowledge_via_a_proxy_uses_a_tunnel(
    scheme: str, http2_nginx: Http2Nginx, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without TLS, too, an HTTP proxy has to open a tunnel: by itself it forwards only HTTP/1.1."""
    directory = tmp_path_factory.mktemp("proxy")
    started = tinyproxy(directory) if scheme == "http" else microsocks(directory)
    with (
        closing(started),
        closing(
            HTTPClient(
                "127.0.0.1", http2_nginx.ports["clear"], http2="prior-knowledge", proxy=f"{scheme}://{started.place}"
            )
        ) as client,
    ):
        response = client.get("/facts")
        assert json.loads(response.read())["protocol"] == "HTTP/2.0"


def test_tunnel_is_opened_once_for_a_hundred_requests(http2_nginx: Http2Nginx, certificates: Certificates) -> None:
    port = http2_nginx.ports["tls"]
    with (
        Peer(tunnelling) as through,
        client_of(port, ssl_options=trusting(certificates), http2=True, proxy=through.url, concurrency=5) as client,
    ):
        assert set(Pool(100).map(lambda _: client.get("/page").read(), range(100))) == {PAGE}
        assert [request.line for request in through.requests] == [f"CONNECT localhost:{port} HTTP/1.1"]


def test_proxy_refusal_is_the_error_of_all_requests(http2_nginx: Http2Nginx, certificates: Certificates) -> None:
    def refusing(conn: Conn) -> None:
        conn.read_request()
        conn.respond(b"", "403 Forbidden")

    with (
        Peer(refusing) as through,
        client_of(
            http2_nginx.ports["tls"], ssl_options=trusting(certificates), http2=True, proxy=through.url
        ) as client,
    ):
        calls = [gevent.spawn(client.get, "/page") for _ in range(10)]
        gevent.joinall(calls, timeout=10)
        assert all(isinstance(call.exception, OSError) for call in calls)
        check_whole(client)


def test_proxy_credentials_are_not_sent_to_the_server(certificates: Certificates) -> None:
    with talking_securely(certificates, serve_targets) as (peer, _), Peer(tunnelling) as through:
        proxy = through.url.replace("://", "://me:secret@")
        with client_of(peer.port, ssl_options=trusting(certificates), http2=True, proxy=proxy) as client:
            client.get("/").read()
        assert through.requests[0].get("proxy-authorization")
        assert peer.requests[0].all("proxy-authorization") == []


def test_unix_domain_socket_uses_http2(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with Peer(scripted(serve_targets)) as peer:
        peer.listener.close()
        peer.listener = socket.socket(socket.AF_UNIX)
        peer.listener.bind(path)
        peer.listener.listen(10)
        peer._acceptor.kill()
        peer._acceptor = gevent.spawn(peer._accept)
        with closing(HTTPClient("host.test", uds=path, http2="prior-knowledge")) as client:
            assert client.get("/path").read() == b"/path"
            assert peer.requests[0].get(":authority") == "host.test"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_tls_1_2_and_1_3_are_supported(version: str, way: str, certificates: Certificates) -> None:
    context = certificates.valid.server(ssl.TLSVersion[version])
    context.set_alpn_protocols(["h2"])
    with (
        Peer(scripted(serve_targets), tls=context) as peer,
        client_of(peer.port, way, ssl_options=trusting(certificates), http2=True) as client,
    ):
        for _ in range(3):
            assert client.get("/path").read() == b"/path"
        assert len(peer.conns) == 1


@pytest.mark.parametrize("way", WAYS)
def test_bad_certificate_is_rejected(way: str, certificates: Certificates) -> None:
    context = certificates.untrusted.server()
    context.set_alpn_protocols(["h2"])
    with (
        Peer(scripted(serve_targets), tls=context) as peer,
        client_of(peer.port, way, ssl_options=trusting(certificates), http2=True) as client,
    ):
        outcomes = [gevent.spawn(client.get, "/") for _ in range(10)]
        gevent.joinall(outcomes, timeout=10)
        assert all(isinstance(outcome.exception, ssl.SSLCertVerificationError) for outcome in outcomes)
        check_whole(client)


@pytest.mark.parametrize("way", WAYS)
def test_tls_session_is_resumed(way: str, certificates: Certificates) -> None:
    def once(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.respond(request)
        talk.goaway(request.stream)
        talk.wait_closed()

    with talking_securely(certificates, once, way=way) as (_, client):
        resumed = []
        for _ in range(3):
            response = client.get("/")
            response.read()
            resumed.append(response.tls.resumed)
            gevent.idle()
        if way == "native":
            assert resumed == [False, True, True]


def test_client_dropped_with_an_exception_sends_close_notify(
    http2_nginx: Http2Nginx, certificates: Certificates
) -> None:
    """Python, whose SSLContext is used, sends close_notify while that exception is set aside."""

    def used() -> HTTPClient:
        options: dict[str, Any] = {"ssl_options": trusting(certificates), **by("context")}
        client = HTTPClient("localhost", http2_nginx.ports["tls"], ssl=True, http2=True, **options)
        response = client.get("/page")
        assert (response.version, len(response.read())) == ("HTTP/2", 615)
        return client

    for _ in range(3):
        with pytest.raises(ZeroDivisionError) as raised:
            (used(), 1 / 0)
        assert raised.value.__context__ is None
