"""Host names that rustls rejects and resolvers accept, with a hyphen at the end of a label, for example. A client
connects to them as over http, and verifies and sends the name as OpenSSL does."""

from __future__ import annotations

import gc
import ssl
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx as their_httpx
import pytest
import requests as their_requests
from cryptography import x509

from geventhttpclient import HTTPClient, Session, UserAgent, _core, httplib, httpx
from geventhttpclient.adapters.httpx import Transport
from geventhttpclient.adapters.requests import Adapter
from geventhttpclient.adapters.urllib3 import PoolManager
from geventhttpclient.client import HTTPClientPool
from tests.support.certificates import Certificates, Pair
from tests.support.http2_peer import scripted, serve_targets
from tests.support.peer import Peer, Script, serve_ok
from tests.support.tls import WAYS, by, check_failure, trusting

pytestmark = pytest.mark.usefixtures("bounded", "names_are_here")

# Names that rustls does not accept, and names that it accepts.
ODD = ("-a.test", "a-.test", "-.test", "b.-a.test", "b.a-.test", "a.test-", "tilde~.test", "a.7", "127.1", "0x7f.1")
USUAL = ("under_score.test", "_a.test", "a--b.test", "7.test", "xn--bcher-kva.test", f"{'a' * 63}.test")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificates, Pair]:
    """Returns the authority of the tests, and a certificate for all these names."""
    import trustme

    directory = tmp_path_factory.mktemp("odd-names")
    certificates = Certificates(directory)
    authority = trustme.CA()
    certificates.ca = certificates._authority("odd-ca", authority)
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in (*ODD, *USUAL)])
    return certificates, certificates._unusual("odd", authority, names)


@contextmanager
def serving(
    pair: Pair, script: Script = serve_ok, alpn: tuple[str, ...] = ()
) -> Iterator[tuple[Peer, list[str | None]]]:
    """Runs a peer with that certificate; yields it, and the list of server names that it receives."""
    told: list[str | None] = []
    context = pair.server()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    context.sni_callback = lambda _sock, name, _context: told.append(name)
    with Peer(script, tls=context) as peer:
        yield peer, told


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", [*ODD, *USUAL])
def test_odd_name_is_verified_and_sent(host: str, way: str, odd: tuple[Certificates, Pair]) -> None:
    certificates, pair = odd
    with (
        serving(pair) as (peer, told),
        HTTPClient(host, peer.port, ssl_options=trusting(certificates), **by(way)) as client,
    ):
        response = client.get("/x")
        assert (response.read(), response.tls.verified) == (b"/x", True)
        assert told == [host]
        assert peer.requests[0].get("Host") == f"{host}:{peer.port}"
        assert (client._connection_pool.ssl_context is None) is (way == "native" and host in USUAL)


def test_names_that_rustls_accepts() -> None:
    assert [name for name in (*ODD, *USUAL) if _core._is_server_name(name)] == list(USUAL)


@pytest.mark.parametrize("host", ["-a.test.", "a-.test.", "A-.Test"])
def test_odd_name_ignores_a_final_dot_and_case(host: str, odd: tuple[Certificates, Pair]) -> None:
    certificates, pair = odd
    with serving(pair) as (peer, told), HTTPClient(host, peer.port, ssl_options=trusting(certificates)) as client:
        assert client.get("/x").read() == b"/x"
        assert [str(name).lower() for name in told] == [host.rstrip(".").lower()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", ["-b.test", "b-.test", "a-.test.example"])
def test_odd_name_that_does_not_match_is_rejected(host: str, way: str, odd: tuple[Certificates, Pair]) -> None:
    certificates, pair = odd
    with (
        serving(pair) as (peer, _),
        HTTPClient(host, peer.port, ssl_options=trusting(certificates), **by(way)) as client,
    ):
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            client.get("/x")
        check_failure(caught.value, peer.port, host)
        assert caught.value.verify_code == 62  # X509_V_ERR_HOSTNAME_MISMATCH
        assert not peer.requests


def test_odd_name_with_an_unknown_authority_is_rejected(odd: tuple[Certificates, Pair]) -> None:
    certificates, pair = odd
    options = {"ca_certs": str(certificates.other_ca)}
    with (
        serving(pair) as (peer, _),
        HTTPClient("-a.test", peer.port, ssl_options=options) as client,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        client.get("/x")


@pytest.mark.parametrize(
    ("options", "verified"),
    [
        ({"insecure": True}, "chain"),
        ({"verify": False}, False),
        ({"insecure": True, "ssl_context_factory": ssl._create_unverified_context}, False),
    ],
    ids=["insecure", "verify=False", "unverified"],
)
def test_names_are_not_verified_if_verification_is_off(
    options: Any, verified: object, odd: tuple[Certificates, Pair]
) -> None:
    certificates, pair = odd
    if "insecure" in options:
        options = {**options, "ssl_options": trusting(certificates)}
    with serving(pair) as (peer, told), HTTPClient("-b.test", peer.port, ssl=True, **options) as client:
        response = client.get("/x")
        assert (response.read(), response.tls.verified, told) == (b"/x", verified, ["-b.test"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_odd_name_uses_ssl_version_and_client_certificate(
    version: ssl.TLSVersion, odd: tuple[Certificates, Pair]
) -> None:
    certificates, pair = odd
    shown = (str(certificates.client.chain), str(certificates.client.key))
    options = trusting(certificates, ssl_version=version)
    with serving(pair) as (peer, _):
        assert peer.tls is not None
        peer.tls.verify_mode = ssl.CERT_REQUIRED
        peer.tls.load_verify_locations(certificates.directory / "ca.pem")
        with HTTPClient("-a.test", peer.port, ssl_options=options, cert=shown) as client:
            response = client.get("/x")
            assert (response.read(), response.tls.version) == (
                b"/x",
                version.name.replace("_", ".", 1).replace("v1_", "v1."),
            )


@pytest.mark.parametrize("http2", [False, True, "prior-knowledge"])
def test_odd_name_context_is_not_shared_between_http_versions(
    http2: bool | str, odd: tuple[Certificates, Pair]
) -> None:
    """Clients share a context only if they offer the same protocols."""
    certificates, pair = odd
    options = trusting(certificates)
    with (
        serving(pair, scripted(serve_targets) if http2 else serve_ok, ("h2", "http/1.1")) as (peer, _),
        HTTPClient("-a.test", peer.port, ssl_options=options, http2=not http2) as _other,
        HTTPClient("-a.test", peer.port, ssl_options=options, http2=http2) as client,
    ):
        response = client.get("/x")
        assert (response.read(), response.version) == (b"/x", "HTTP/2" if http2 else "HTTP/1.1")
        assert response.tls.alpn == ("h2" if http2 else "http/1.1")


@pytest.mark.parametrize("way", WAYS)
def test_odd_name_of_a_proxy_is_verified(way: str, odd: tuple[Certificates, Pair]) -> None:
    certificates, pair = odd
    with serving(pair) as (peer, told):
        proxy = f"https://a-.test:{peer.port}"
        with HTTPClient("origin.test", 80, proxy=proxy, proxy_ssl_options=trusting(certificates)) as client:
            assert client.get("/x").read() == b"http://origin.test/x"
        assert told == ["a-.test"]


def test_odd_name_works_with_each_client(odd: tuple[Certificates, Pair]) -> None:
    certificates, pair = odd
    ca = str(certificates.ca)
    with serving(pair) as (peer, told):
        url = f"https://a-.test:{peer.port}/x"
        with UserAgent(max_retries=0, ssl_options={"ca_certs": ca}) as agent:
            assert agent.urlopen(url).content == b"/x"
        with Session(max_retries=0, verify=ca) as session:
            assert session.get(url).content == b"/x"
        with httpx.Client(verify=ca) as client:
            assert client.get(url).content == b"/x"
        with their_httpx.Client(transport=Transport(verify=ssl.create_default_context(cafile=ca))) as theirs:
            assert theirs.get(url).content == b"/x"
        with their_requests.Session() as theirs_too:
            theirs_too.mount("https://", Adapter())
            assert theirs_too.get(url, verify=ca).content == b"/x"
        assert PoolManager(ca_certs=ca, retries=False).request("GET", url).data == b"/x"
        context = ssl.create_default_context(cafile=ca)
        with closing(httplib.HTTPSConnection("a-.test", peer.port, context=context)) as connection:
            connection.request("GET", "/x")
            assert connection.getresponse().read() == b"/x"
        assert told == ["a-.test"] * 7


def test_redirects_to_many_odd_names_use_one_context(odd: tuple[Certificates, Pair]) -> None:
    """A context may contain a megabyte of certificates, and a server may redirect to any number of hosts."""
    certificates, _ = odd
    with closing(HTTPClientPool(ssl_options=trusting(certificates))) as pool:
        contexts = {id(pool.get_client(f"https://-{n}.test")._connection_pool.ssl_context) for n in range(100)}
        assert len(contexts) == 1
        (context,) = {pool.get_client(f"https://-{n}.test")._connection_pool.ssl_context for n in range(2)}
        assert context is not None
        last = weakref.ref(context)
        del context
        copy = certificates.directory / "replaced.pem"
        copy.write_bytes(certificates.ca.read_bytes())
        one = HTTPClient("-a.test", verify=copy, ssl=True)
        copy.write_bytes(certificates.ca.read_bytes() + certificates.other_ca.read_bytes())
        other = HTTPClient("-a.test", verify=copy, ssl=True)
        # A changed file is read again.
        assert one._connection_pool.ssl_context is not other._connection_pool.ssl_context
        one.close()
        other.close()
    del pool
    gc.collect()
    assert last() is None


@pytest.mark.parametrize("host", [f"{'a' * 64}.test", "a..test", f"-{'a.' * 130}test"])
def test_name_that_no_resolver_accepts_is_rejected(host: str) -> None:
    with pytest.raises(ValueError, match="neither a host's name nor an address"):
        HTTPClient(host, ssl=True)


def test_missing_trust_file_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HTTPClient("-a.test", ssl_options={"ca_certs": str(tmp_path / "missing.pem")})
