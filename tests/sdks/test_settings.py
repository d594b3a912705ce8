"""The settings of the kubernetes SDK apply when its manager, one of urllib3, has the pools of this package."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import urllib3

from geventhttpclient.adapters.urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from tests.support import sdk_services
from tests.support.certificates import Certificates
from tests.support.dependents import need
from tests.support.peer import Conn, Peer

pytestmark = pytest.mark.usefixtures("bounded")


@contextmanager
def api(url: str, **settings: Any) -> Iterator[Any]:
    """Yields an API client with these settings, on the engine."""
    need("kubernetes")
    from kubernetes import client

    configuration = client.Configuration(host=url, api_key={"authorization": "Bearer token"})
    for name, value in {"retries": False, **settings}.items():
        setattr(configuration, name, value)
    with client.ApiClient(configuration) as api_client:
        manager = api_client.rest_client.pool_manager
        manager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
        yield client.CoreV1Api(api_client)


def answer(conn: Conn) -> None:
    while request := conn.read_request():
        conn.respond(sdk_services.kubernetes(request).body, headers=[("Content-Type", "application/json")])


def check(kube: Any) -> None:
    assert kube.read_namespaced_pod("number-7", "default").metadata.name == "number-7"


def test_authority_and_client_certificate_are_used(certificates: Certificates) -> None:
    context = certificates.valid.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca)
    identity = certificates.client
    settings = {"ssl_ca_cert": str(certificates.ca), "cert_file": str(identity.chain), "key_file": str(identity.key)}
    with Peer(answer, tls=context) as peer, api(f"https://localhost:{peer.port}", **settings) as kube:
        check(kube)


def test_unknown_authority_is_refused(certificates: Certificates) -> None:
    need("kubernetes")
    from kubernetes.client import ApiException

    with (
        Peer(answer, tls=certificates.valid.server()) as peer,
        api(f"https://localhost:{peer.port}", ssl_ca_cert=str(certificates.other_ca)) as kube,
        pytest.raises(ApiException, match="ends in no trusted certificate"),
    ):
        check(kube)


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_verification_is_turned_off(certificates: Certificates) -> None:
    with (
        Peer(answer, tls=certificates.untrusted.server()) as peer,
        api(f"https://localhost:{peer.port}", verify_ssl=False) as kube,
    ):
        check(kube)


def test_other_name_of_the_server_is_verified(certificates: Certificates) -> None:
    settings = {"ssl_ca_cert": str(certificates.ca), "tls_server_name": "www.elsewhere.test"}
    with (
        Peer(answer, tls=certificates.elsewhere.server()) as peer,
        api(f"https://localhost:{peer.port}", **settings) as kube,
    ):
        check(kube)


def test_proxy_tunnel_is_used_with_its_header_fields(certificates: Certificates) -> None:
    def proxy(conn: Conn) -> None:
        request = conn.read_request()
        assert request is not None
        assert request.line == "CONNECT kube.test:6443 HTTP/1.1"
        assert request.get("proxy-authorization") == "Basic bWU6c2VjcmV0"
        conn.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        conn.secure(certificates.elsewhere.server())
        answer(conn)

    with Peer(proxy) as peer:
        settings = {
            "proxy": peer.url,
            "proxy_headers": urllib3.make_headers(proxy_basic_auth="me:secret"),
            "ssl_ca_cert": str(certificates.ca),
            "tls_server_name": "www.elsewhere.test",
            "no_proxy": "",
        }
        with api("https://kube.test:6443", **settings) as kube:
            check(kube)
        assert len(peer.requests) == 2


def socks(conn: Conn) -> None:
    """Plays a SOCKS proxy of version 4 or 5, and the server behind it."""
    if conn.read_exactly(1) == b"\x04":
        port = conn.read_exactly(7)[1:3]
        user, name = read_text(conn), read_text(conn)
        conn.send(b"\0\x5a" + bytes(6))
    else:
        conn.read_exactly(conn.read_exactly(1)[0])
        conn.send(b"\x05\x02")
        conn.read_exactly(1)
        user, _password = (conn.read_exactly(conn.read_exactly(1)[0]).decode() for _ in range(2))
        conn.send(b"\x01\0")
        assert conn.read_exactly(4) == b"\x05\x01\0\x03"
        name = conn.read_exactly(conn.read_exactly(1)[0]).decode()
        port = conn.read_exactly(2)
        conn.send(b"\x05\0\0\x01" + bytes(6))
    assert (user, name, int.from_bytes(port, "big")) == ("me", "kube.test", 80)
    answer(conn)


def read_text(conn: Conn) -> str:
    """Reads up to a zero byte."""
    text = b""
    while (byte := conn.read_exactly(1)) not in (b"\0", b""):
        text += byte
    return text.decode()


@pytest.mark.parametrize("scheme", ["socks4a", "socks5h"])
def test_socks_proxy_is_used(scheme: str) -> None:
    """The manager is that of urllib3.contrib.socks, with its own form of the settings."""
    with Peer(socks) as peer:
        credentials = "me" if scheme == "socks4a" else "me:secret"
        proxy = f"{scheme}://{credentials}@127.0.0.1:{peer.port}"
        with api("http://kube.test", proxy=proxy, no_proxy="") as kube:
            check(kube)
        assert len(peer.requests) == 1
