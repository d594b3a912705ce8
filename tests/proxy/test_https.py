"""HTTPS through proxies: CONNECT and SOCKS tunnels, and proxies that are reached over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import HTTPClient
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.proxy import ProxyError
from tests.conftest import TlsNginx
from tests.support.certificates import Certificates
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.ports import free_port
from tests.support.proxies import microsocks, tinyproxy, tunnelling
from tests.support.scripted import OK, saying_then_closing
from tests.support.tls import WAYS, by, check_whole, trusting

pytestmark = pytest.mark.usefixtures("bounded")

both_ways = pytest.mark.parametrize("way", WAYS)

USER, PASSWORD = "Aladdin", "open-sesame"
TOKEN = "QWxhZGRpbjpvcGVuLXNlc2FtZQ=="

Client = Callable[..., "closing[HTTPClient]"]


@pytest.fixture
def client_by(certificates: Certificates) -> Client:
    """Creates clients for a port of this host via a proxy, which trust the tests' authority, and closes them."""

    def make(proxy: str, port: int, *, host: str = "localhost", way: str = "native", **options: Any) -> Any:
        options.setdefault("ssl_options", trusting(certificates))
        return closing(HTTPClient(host, port, ssl=True, proxy=proxy, disable_ipv6=True, **by(way), **options))

    return make


@pytest.fixture
def origin(certificates: Certificates) -> Iterator[Peer]:
    with Peer(tls=certificates.valid.server()) as peer:
        yield peer


def refused_by(proxy: str, answer: Callable[[Conn], object], **options: Any) -> ProxyError:
    """Returns the error of a request via a proxy that gives this answer to CONNECT."""

    def script(conn: Conn) -> None:
        conn.read_head()
        answer(conn)

    with Peer(script) as peer:
        url = f"http://{proxy}127.0.0.1:{peer.port}"
        with closing(HTTPClient("example.com", ssl=True, proxy=url, **options)) as client:
            with pytest.raises(ProxyError) as caught:
                client.get("/")
            check_whole(client)
    assert (caught.value.phase, caught.value.peer) == ("proxy", f"127.0.0.1:{peer.port}")
    assert str(caught.value).endswith(f" (asking the proxy 127.0.0.1:{peer.port})")
    return caught.value


def saying(data: bytes) -> Callable[[Conn], object]:
    def answer(conn: Conn) -> None:
        conn.send_at_once(data)
        conn.wait_closed()

    return answer


# ---------------------------------------------------------------- real proxies


@both_ways
def test_tinyproxy(way: str, tmp_path_factory: pytest.TempPathFactory, tls_nginx: TlsNginx, client_by: Client) -> None:
    port = tls_nginx.ports["valid"]
    with closing(tinyproxy(tmp_path_factory.mktemp("tinyproxy"), f"ConnectPort {port}")) as proxy:
        with client_by(f"http://{proxy.place}", port, way=way) as client:
            for _ in range(3):
                response = client.get("/page")
                assert response.read() == (tls_nginx.root / "page").read_bytes()
                assert response.tls.verified is True
            assert client._connection_pool.statistics()["opened"] == 1
            check_whole(client)
        with client_by(f"http://{proxy.place}", free_port(), way=way) as client:
            with pytest.raises(ProxyError, match=r"proxy refused the tunnel to localhost:\d+: 403 ") as caught:
                client.get("/page")
            assert caught.value.status == 403
            check_whole(client)


def test_tinyproxy_requires_a_password(
    tmp_path_factory: pytest.TempPathFactory, tls_nginx: TlsNginx, client_by: Client
) -> None:
    port = tls_nginx.ports["valid"]
    directory = tmp_path_factory.mktemp("locked-tinyproxy")
    with closing(tinyproxy(directory, f"BasicAuth {USER} {PASSWORD}")) as proxy:
        with client_by(f"http://{USER}:{PASSWORD}@{proxy.place}", port) as client:
            assert client.get("/page").status_code == 200
        for who in ("", f"{USER}:hidden@"):
            with client_by(f"http://{who}{proxy.place}", port) as client:
                with pytest.raises(ProxyError) as caught:
                    client.get("/page")
                assert caught.value.status in (401, 407)
                assert "hidden" not in f"{caught.value!r}"


@both_ways
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_microsocks(
    scheme: str, way: str, tmp_path_factory: pytest.TempPathFactory, tls_nginx: TlsNginx, client_by: Client
) -> None:
    with closing(microsocks(tmp_path_factory.mktemp("microsocks"), USER, PASSWORD)) as proxy:
        url = f"{scheme}://{USER}:{PASSWORD}@{proxy.place}"
        with client_by(url, tls_nginx.ports["valid"], way=way) as client:
            for _ in range(3):
                assert client.get("/page").read() == (tls_nginx.root / "page").read_bytes()
            assert client._connection_pool.statistics()["opened"] == 1


# ---------------------------------------------------------------- requests to the proxy and to the origin


@both_ways
def test_tunnel_is_reused_for_many_requests(way: str, origin: Peer, client_by: Client) -> None:
    with Peer(tunnelling) as proxy:
        with client_by(f"http://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}", origin.port, way=way) as client:
            for _ in range(3):
                response = client.get("/here?q")
                assert response.read() == b"/here?q"
                assert TOKEN not in response._sent_request
        assert len(proxy.conns) == len(proxy.requests) == len(origin.conns) == 1
    asked = proxy.requests[0]
    assert asked.line == f"CONNECT localhost:{origin.port} HTTP/1.1"
    assert asked.fields == [("Host", f"localhost:{origin.port}"), ("Proxy-Authorization", f"Basic {TOKEN}")]
    for request in origin.requests:
        assert request.get("proxy-authorization") is None
        assert request.get("host") == f"localhost:{origin.port}"


def test_closed_tunnel_is_replaced(certificates: Certificates, client_by: Client) -> None:
    tls = certificates.valid.server()
    with Peer(saying_then_closing(OK), serve_ok, tls=tls) as origin, Peer(tunnelling) as proxy:
        with client_by(f"http://127.0.0.1:{proxy.port}", origin.port) as client:
            assert client.get("/").read() == b"ok"
            assert client.get("/again").read() == b"/again"
            check_whole(client)
        assert len(proxy.conns) == 2


def test_certificate_is_verified_for_the_origin(certificates: Certificates, client_by: Client) -> None:
    with Peer(tls=certificates.elsewhere.server()) as origin, Peer(tunnelling) as proxy:
        with (
            client_by(f"http://127.0.0.1:{proxy.port}", origin.port) as client,
            pytest.raises(ssl.SSLCertVerificationError, match="elsewhere") as caught,
        ):
            client.get("/")
        assert (caught.value.phase, caught.value.peer) == ("tls", f"localhost:{origin.port}")  # type: ignore[attr-defined]


def test_proxy_of_the_environment_is_used_for_https(
    origin: Peer, client_by: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(tunnelling) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        with client_by("", origin.port, trust_env=True) as client:
            assert client.get("/here").read() == b"/here"
        assert len(proxy.requests) == 1
        monkeypatch.setenv("no_proxy", "localhost")
        with client_by("", origin.port, trust_env=True) as client:
            assert client.get("/here").read() == b"/here"
        assert len(proxy.requests) == 1


def test_proxy_arguments_of_version_2_are_supported(origin: Peer, certificates: Certificates) -> None:
    with (
        Peer(tunnelling) as proxy,
        HTTPClientPool(
            proxy_host="127.0.0.1",
            proxy_port=proxy.port,
            proxy_user=USER,
            proxy_password=PASSWORD,
            ssl_options=trusting(certificates),
        ) as clients,
    ):
        assert clients.get_client(f"https://127.0.0.1:{origin.port}").get("/here").read() == b"/here"
        assert proxy.requests[0].get("proxy-authorization") == f"Basic {TOKEN}"


# ---------------------------------------------------------------- a proxy over TLS


def test_https_proxy_forwards_a_plain_request(certificates: Certificates) -> None:
    with Peer(tls=certificates.valid.server()) as proxy:
        url = f"https://{USER}:{PASSWORD}@localhost:{proxy.port}"
        trust = {"proxy_ssl_options": trusting(certificates), "disable_ipv6": True}
        with closing(HTTPClient("origin.example", proxy=url, **trust)) as client:
            for _ in range(2):
                response = client.get("/here")
                assert response.read() == b"http://origin.example/here"
        assert len(proxy.conns) == 1
        assert proxy.requests[0].get("proxy-authorization") == f"Basic {TOKEN}"


@both_ways
def test_https_proxy_opens_a_tunnel(way: str, origin: Peer, certificates: Certificates, client_by: Client) -> None:
    with Peer(tunnelling, tls=certificates.valid.server()) as proxy:
        url = f"https://localhost:{proxy.port}"
        with client_by(url, origin.port, way=way, proxy_ssl_options=trusting(certificates)) as client:
            for _ in range(3):
                response = client.get("/here")
                assert response.read() == b"/here"
                assert response.tls.verified is True
            assert client.post("/there", body=b"x" * 1_000_000).read() == b"/there"
        assert len(proxy.conns) == len(origin.conns) == 1
        assert origin.requests[-1].body == b"x" * 1_000_000


def test_https_proxy_is_verified(certificates: Certificates) -> None:
    with Peer(tls=certificates.untrusted.server()) as proxy:
        url = f"https://{USER}:{PASSWORD}@localhost:{proxy.port}"
        trust = {"proxy_ssl_options": trusting(certificates), "disable_ipv6": True}
        with (
            closing(HTTPClient("origin.example", proxy=url, **trust)) as client,
            pytest.raises(ssl.SSLCertVerificationError) as caught,
        ):
            client.get("/")
        assert (caught.value.phase, caught.value.peer) == ("tls", f"localhost:{proxy.port}")  # type: ignore[attr-defined]
        assert proxy.requests == []
        # The error of the handshake on the peer's side is not tested here.
        proxy.errors.clear()


# ---------------------------------------------------------------- proxies that refuse


def test_refusal_names_the_proxy_and_its_answer() -> None:
    error = refused_by("", saying(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 7\r\n\r\nwho\nare"))
    words = "proxy refused the tunnel to example.com:443: 407 Proxy Authentication Required: who are"
    assert str(error) == f"{words} (asking the proxy {error.peer})"
    assert error.status == 407
    assert isinstance(error, OSError)
    assert isinstance(error, RuntimeError)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", 502, "502 Bad Gateway"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n", 403, "403 No"),
        (b"HTTP/1.1 407 No\r\nContent-Type: text/html\r\n\r\n<html>", 407, "407 No"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None, 'its response is not valid HTTP: Expected HTTP/, got "SSH-2.0-'),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", None, "unexpected bytes follow its response 200"),
    ],
)
def test_refusal_by_an_invalid_answer_is_an_error(answer: bytes, status: int | None, words: str) -> None:
    error = refused_by("", saying(answer))
    assert error.status == status
    assert f"proxy refused the tunnel to example.com:443: {words}" in str(error)


def test_proxy_that_closes_without_an_answer_is_an_error() -> None:
    error = refused_by("", Conn.close)
    assert error.status is None
    assert "closed the connection without a response" in str(error)


@pytest.mark.parametrize(
    "head", [b"204 No Content", b"200 OK\r\nContent-Length: 5", b"200 OK\r\nTransfer-Encoding: chunked"]
)
def test_connect_answer_with_any_2xx_opens_the_tunnel(head: bytes, origin: Peer, client_by: Client) -> None:
    class Other(Conn):
        """Sends a different head."""

        def send(self, data: bytes) -> None:
            super().send(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 " + head + b"\r\n\r\n")

    def script(conn: Conn) -> None:
        tunnelling(Other(conn.sock, conn.peer, conn.number))

    with Peer(script) as proxy, client_by(f"http://127.0.0.1:{proxy.port}", origin.port) as client:
        assert client.get("/here").read() == b"/here"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_silent_proxy_times_out(said: bytes) -> None:
    def script(conn: Conn) -> None:
        conn.read_head()
        conn.send(said)
        conn.wait_closed()

    with Peer(script) as peer:
        place = f"127.0.0.1:{peer.port}"
        with closing(HTTPClient("example.com", ssl=True, proxy=place, connection_timeout=0.05)) as client:
            with pytest.raises(TimeoutError, match=f"timed out after 0.05 s .asking the proxy {place}") as caught:
                client.get("/")
            assert (caught.value.phase, caught.value.peer) == ("proxy", place)  # type: ignore[attr-defined]
            check_whole(client)


def test_greenlet_killed_in_the_proxy_phase_leaves_no_connection() -> None:
    asked = Event()

    def script(conn: Conn) -> None:
        conn.read_head()
        asked.set()
        conn.wait_closed()

    with Peer(script) as peer, closing(HTTPClient("a.example", ssl=True, proxy=peer.url)) as client:
        greenlet = gevent.spawn(client.get, "/")
        asked.wait()
        greenlet.kill()
        check_whole(client)
        assert peer.conns[0].hung_up.wait(10)


def test_secrets_are_not_shown() -> None:
    shown: list[object] = []

    def repeat(conn: Conn) -> None:
        conn.send_at_once(b"HTTP/1.1 407 No\r\n\r\nYou said: " + conn.raw)
        conn.wait_closed()

    error = refused_by("Aladdin:hidden@", repeat)
    shown += [error, str(error), vars(error)]
    with closing(HTTPClient("example.com", ssl=True, proxy="http://Aladdin:hidden@a")) as client:
        shown += [client, vars(client), client._connection_pool, vars(client._connection_pool)]
    for thing in shown:
        for secret in ("hidden", "QWxhZGRpbjpoaWRkZW4="):
            assert secret not in repr(thing), thing
