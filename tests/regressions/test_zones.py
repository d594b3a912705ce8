"""The zone of an IPv6 address is used to connect and is not sent (RFC 6874 section 4), in each client."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from contextlib import closing

import gevent.ssl
import httpx as their_httpx
import pytest
import requests as their_requests
from gevent import socket

import geventhttpclient
from geventhttpclient import HTTPClient, Session, UserAgent, httplib, httplib2, httpx
from geventhttpclient.adapters.httpx import Transport
from geventhttpclient.adapters.requests import Adapter
from geventhttpclient.adapters.urllib3 import PoolManager, ProxyManager
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.proxy import Proxy
from tests.support.certificates import Certificates
from tests.support.http2_peer import serve_targets, talking
from tests.support.peer import Conn, Peer
from tests.support.tls import WAYS, by, read_hello

pytestmark = pytest.mark.usefixtures("bounded")

# `%1` is the number of an interface, the loopback's as a rule; Linux does not ask which one for this address.
ZONES = {"plain": "%1", "escaped": "%251"}
each_zone = pytest.mark.parametrize("zone", ZONES.values(), ids=ZONES)

Ask = Callable[[str], object]


def by_adapter(url: str) -> object:
    with their_requests.Session() as session:
        session.mount("http://", Adapter())
        return session.get(url).content


def by_transport(url: str) -> object:
    with their_httpx.Client(transport=Transport()) as client:
        return client.get(url).content


def by_pool(url: str) -> object:
    with closing(HTTPClientPool()) as pool:
        return pool.get_client(url).get("/x").read()


def by_absolute_target(url: str) -> object:
    with HTTPClient.from_url(url) as client:
        return client.get(url).read()


ASKS: dict[str, Ask] = {
    "HTTPClient": lambda url: HTTPClient.from_url(url).get("/x").read(),
    "an absolute target": by_absolute_target,
    "HTTPClientPool": by_pool,
    "UserAgent": lambda url: UserAgent(max_retries=0).urlopen(url).content,
    "Session": lambda url: Session(max_retries=0).get(url).content,
    "the functions": lambda url: geventhttpclient.get(url).content,
    "httpx": lambda url: httpx.get(url).content,
    "httplib2": lambda url: httplib2.Http().request(url)[1],
    "httpx_transport": by_transport,
    "urllib3_adapter": lambda url: PoolManager(retries=False).request("GET", url).data,
}


@pytest.fixture
def peer() -> object:
    with Peer(family=socket.AF_INET6) as peer:
        yield peer


@each_zone
@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_zone_of_a_url_is_connected_to_and_not_sent(ask: Ask, zone: str, peer: Peer) -> None:
    assert ask(f"http://[::1{zone}]:{peer.port}/x") == b"/x"
    (request,) = peer.requests
    assert (request.target, request.get("Host")) == ("/x", f"[::1]:{peer.port}")


def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the list of hosts that are looked up; each resolves to a local address."""
    hosts: list[str] = []

    def here(host: str, port: int, *_: object) -> list[tuple[object, ...]]:
        hosts.append(host)
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))]

    monkeypatch.setattr(gevent.socket, "getaddrinfo", here)
    return hosts


@pytest.mark.parametrize("ask", [*ASKS.values(), by_adapter], ids=[*ASKS, "requests_adapter"])
@pytest.mark.parametrize("zone", ["%eth0", "%25eth0"])
def test_resolver_gets_the_zone_by_its_name(ask: Ask, zone: str, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = asked_for(monkeypatch)
    assert ask(f"http://[fe80::1{zone}]:{peer.port}/x") == b"/x"
    assert hosts == ["fe80::1%eth0"]
    assert peer.requests[0].get("Host") == f"[fe80::1]:{peer.port}"


@pytest.mark.parametrize("host", ["::1%1", "[::1%1]"])
def test_zone_of_a_host_is_not_sent(host: str, peer: Peer) -> None:
    with closing(HTTPClient(host, peer.port)) as client:
        assert client.get("/x").read() == b"/x"
        assert client.get(f"http://[::1%1]:{peer.port}/y").read() == b"/y"
        assert client.get(f"http://[::1]:{peer.port}/z").read() == b"/z"
    assert {request.get("Host") for request in peer.requests} == {f"[::1]:{peer.port}"}


@each_zone
def test_proxy_gets_no_zone(zone: str, peer: Peer) -> None:
    origin, here = f"http://[::1{zone}]:81", f"http://[::1{zone}]:{peer.port}"
    with HTTPClient.from_url(origin, proxy=here) as client:
        client.get("/x").read()
    ProxyManager(here, retries=False).request("GET", f"{origin}/x").data  # noqa: B018
    connection = httplib.HTTPConnection("::1", peer.port)
    connection.putrequest("GET", f"{origin}/x")
    connection.endheaders()
    connection.getresponse().read()
    connection.close()
    assert [request.target for request in peer.requests] == ["http://[::1]:81/x"] * 3
    assert {request.get("Host") for request in peer.requests} == {"[::1]:81"}


def test_tunnel_is_requested_without_a_zone() -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.respond(status="403 Forbidden")

    with Peer(script) as peer:
        with (
            HTTPClient("::1%1", 81, ssl=True, proxy=peer.url) as client,
            pytest.raises(geventhttpclient.proxy.ProxyError),
        ):
            client.get("/")
        connection = httplib.HTTPConnection("127.0.0.1", peer.port)
        connection.set_tunnel("[::1%1]", 81)
        with pytest.raises(OSError, match="403"):
            connection.request("GET", "/")
        assert [request.head.count(b"%") for request in peer.requests] == [0, 0]
        assert peer.requests[0].line == "CONNECT [::1]:81 HTTP/1.1"


@pytest.mark.parametrize("host", ["::1%1", "::1%eth0"])
def test_socks_gets_the_address(host: str) -> None:
    said = []

    def script(conn: Conn) -> None:
        conn.read_exactly(3)
        conn.send(b"\x05\x00")
        said.append(conn.read_exactly(4 + 16 + 2))

    with Peer(script) as peer, HTTPClient(host, 81, proxy=f"socks5h://127.0.0.1:{peer.port}") as client:
        with pytest.raises(OSError, match="proxy"):
            client.get("/")
        assert said == [b"\x05\x01\x00\x04" + bytes(15) + b"\x01" + (81).to_bytes(2, "big")]


@pytest.mark.parametrize("way", WAYS)
def test_no_zone_is_sent_by_tls(way: str, certificates: Certificates) -> None:
    hellos = []

    def script(conn: Conn) -> None:
        hellos.append(read_hello(conn))

    with Peer(script, family=socket.AF_INET6) as peer:
        with HTTPClient("::1%1", peer.port, ssl=True, **by(way)) as client, pytest.raises(ssl.SSLError):
            client.get("/")
        assert len(hellos) == 1
        assert b"::1" not in hellos[0]
    with Peer(family=socket.AF_INET6, tls=certificates.valid.server()) as peer:
        options = {"ca_certs": str(certificates.ca)}
        with HTTPClient("::1%1", peer.port, ssl_options=options, **by(way)) as client:
            assert client.get("/x").read() == b"/x"


def test_http_2_has_no_zone_in_its_authority() -> None:
    with talking(serve_targets) as (peer, client):
        (port,) = {client.port}
        with HTTPClient("::1%1", port, http2="prior-knowledge", resolve={f"[::1%1]:{port}": "127.0.0.1"}) as zoned:
            zoned.get("/x").read()
            zoned.get("/x", headers={"Host": None}).read()
        assert [request.get(":authority") for request in peer.requests] == [f"[::1]:{port}"] * 2


@pytest.mark.parametrize("host", [b"Host", "host"])
def test_http_client_shape_sends_no_zone(host: str | bytes, peer: Peer) -> None:
    connection: http.client.HTTPConnection = httplib.HTTPConnection("::1%1", peer.port)
    connection.request("GET", "/x")
    assert connection.getresponse().read() == b"/x"
    connection.putrequest("GET", "/y", skip_host=True)
    connection.putheader(host, b"[fe80::1%eth0]:81")
    connection.endheaders()
    assert connection.getresponse().read() == b"/y"
    connection.close()
    assert [request.get("Host") for request in peer.requests] == [f"[::1]:{peer.port}", "[fe80::1]:81"]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://[fe80::1%25eth0]:8080", "fe80::1%eth0"),
        ("http://[fe80::1%eth0]:8080", "fe80::1%eth0"),
        ("socks5h://u:p%40@[fe80::1%25en-0.1]", "fe80::1%en-0.1"),
        ("http://[fe80::1]", "fe80::1"),
    ],
)
def test_proxy_may_have_a_zone(url: str, host: str) -> None:
    assert Proxy.from_url(url).host == host


@pytest.mark.parametrize(
    "url", ["http://[fe80::1%]:80", "http://[fe80::1%/]:80", "http://g%25b", "http://[fe80::1%a@b]"]
)
def test_bad_zone_of_a_proxy_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="host"):
        Proxy.from_url(url)
