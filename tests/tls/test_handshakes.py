"""TLS handshakes: trusted and rejected servers, errors, client certificates.

Each test runs with both implementations: the engine's own TLS, and an SSLContext of the caller.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket

from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from geventhttpclient.client import HTTPClientPool
from tests.conftest import TlsNginx
from tests.support.certificates import IDNA, PASSWORD, Certificates
from tests.support.hub import attempt, choose, descriptors, in_thread, run, until
from tests.support.openssl_server import s_server
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.tls import (
    WAYS,
    check_failure,
    check_whole,
    client_of,
    facts,
    hashed,
    hello_is_there,
    opened,
    read_hello,
    securely_serving,
    trusting,
)
from tests.support.wait_points import BIG

pytestmark = pytest.mark.usefixtures("bounded", "names_are_here")

both_ways = pytest.mark.parametrize("way", WAYS)


# ---------------------------------------------------------------- accepted servers

# The server's certificate, the host name, and the name that nginx receives (no addresses: RFC 6066 section 3).
BELIEVED = {
    "a name": ("valid", "localhost", "localhost"),
    "in any case": ("valid", "LocalHost", "localhost"),
    "an address": ("valid", "127.0.0.1", ""),
    "nothing but an address": ("address", "127.0.0.1", ""),
    "an RSA key": ("rsa", "localhost", "localhost"),
    "a wildcard": ("wildcard", "any.wild.test", "any.wild.test"),
    "a name beyond ASCII": ("idna", IDNA, "xn--bcher-kva.test"),
    "the same on the wire": ("idna", "xn--bcher-kva.test", "xn--bcher-kva.test"),
    "an intermediate authority": ("chained", "localhost", "localhost"),
}


@both_ways
@pytest.mark.parametrize(("shown", "host", "told"), BELIEVED.values(), ids=BELIEVED)
def test_valid_certificate_is_accepted(
    way: str, shown: str, host: str, told: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    with client_of(tls_nginx.ports[shown], way, host, ssl_options=trusting(certificates)) as client:
        response = client.get("/page")
        assert response.read() == (tls_nginx.root / "page").read_bytes()
        assert response.tls.version == "TLSv1.3"
        assert response.tls.verified is True
        assert response.tls.resumed is False
        assert response.tls.peer_certificate == getattr(certificates, shown).der
        known = facts(client)
        assert known["name"].lower() == told
        assert known["version"] == response.tls.version
        assert known["cipher"] == response.tls.cipher
        assert opened(client) == 1
        check_whole(client)


def test_final_dot_of_the_name_is_ignored(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """It marks a name as fully qualified for the resolver; RFC 6066 section 3 requires to omit it."""
    with client_of(tls_nginx.ports["valid"], host="localhost.", ssl_options=trusting(certificates)) as client:
        assert client.get("/page").tls.verified is True
        assert facts(client)["name"] == "localhost"


@both_ways
def test_ipv6_address_is_verified(way: str, certificates: Certificates) -> None:
    try:
        peer = Peer(family=socket.AF_INET6, tls=certificates.valid.server())
    except OSError:
        pytest.skip("no IPv6 here")
    with peer, client_of(peer.port, way, "::1", ssl_options=trusting(certificates)) as client:
        assert client.get("/six").read() == b"/six"


@both_ways
@pytest.mark.parametrize("shown", ["self_signed", "self_signed_ca"])
def test_trusted_self_signed_certificate_is_accepted(
    way: str, shown: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    pair = getattr(certificates, shown)
    with client_of(tls_nginx.ports[shown], way, ssl_options={"ca_certs": str(pair.chain)}) as client:
        response = client.get("/page")
        assert response.tls.verified is True
        assert response.tls.peer_certificate == pair.der
        response.read()


@both_ways
@pytest.mark.parametrize("shown", ["self_signed_expired", "self_signed_ca_expired"])
def test_trusted_self_signed_certificate_expires(
    way: str, shown: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    trust = {"ca_certs": str(getattr(certificates, shown).chain)}
    with (
        client_of(tls_nginx.ports[shown], way, ssl_options=trust) as client,
        pytest.raises(ssl.SSLCertVerificationError) as caught,
    ):
        client.get("/")
    assert caught.value.verify_code == 10


@pytest.mark.parametrize("put", [os.replace, shutil.copyfile])
def test_trusted_file_that_is_rewritten_is_read_again(
    put: Callable[[Path, Path], object], tls_nginx: TlsNginx, certificates: Certificates, tmp_path: Path
) -> None:
    """The new contents have the same length and date as the old ones."""
    old, new, trusted = certificates.ca.read_bytes(), certificates.other_ca.read_bytes(), tmp_path / "trusted.pem"
    length = max(len(old), len(new))
    for content, is_good in ((old, True), (new, False)):
        prepared = tmp_path / "prepared.pem"
        prepared.write_bytes(content.ljust(length, b"\n"))
        put(prepared, trusted)
        os.utime(trusted, (1_700_000_000, 1_700_000_000))
        with client_of(tls_nginx.ports["valid"], ssl_options={"ca_certs": str(trusted)}) as client:
            if is_good:
                client.get("/page").read()
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    client.get("/page")


@both_ways
def test_trusted_self_signed_certificate_does_not_make_others_trusted(
    way: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    trust = {"ca_certs": str(certificates.self_signed.chain)}
    with (
        client_of(tls_nginx.ports["untrusted"], way, ssl_options=trust) as client,
        pytest.raises(ssl.SSLCertVerificationError) as caught,
    ):
        client.get("/")
    assert caught.value.verify_code == 20


@both_ways
@pytest.mark.parametrize("shown", ["self_signed", "self_signed_ca"])
def test_trusted_self_signed_certificate_is_valid_only_for_its_name(
    way: str, shown: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    trust = {"ca_certs": str(getattr(certificates, shown).chain)}
    with (
        client_of(tls_nginx.ports[shown], way, "other.test", ssl_options=trust) as client,
        pytest.raises(ssl.SSLCertVerificationError, match=r"other\.test") as caught,
    ):
        client.get("/")
    assert caught.value.verify_code == 62


# OpenSSL requires the root as well, unless a flag is set, which Python does since 3.13.
@pytest.mark.parametrize("way", WAYS if sys.version_info >= (3, 13) else ["native"])
def test_trusted_intermediate_authority_is_sufficient(
    way: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    trust = {"ca_certs": str(certificates.intermediate)}
    with client_of(tls_nginx.ports["chained"], way, ssl_options=trust) as client:
        assert client.get("/page").tls.verified is True


# ---------------------------------------------------------------- rejected servers

# The server's certificate, the host name, OpenSSL's number of the error, and the engine's text.
REFUSED: dict[str, tuple[str, str, int, tuple[str, ...]]] = {
    "expired": ("expired", "localhost", 10, ("expired on", "2020")),
    "not yet valid": ("early", "localhost", 9, ("not valid before", "2999")),
    "another name": (
        "elsewhere",
        "localhost",
        62,
        ("wanted 'localhost', the certificate has 'elsewhere.test', 'www.elsewhere.test'",),
    ),
    "another address": ("elsewhere", "127.0.0.1", 64, ("wanted '127.0.0.1', the certificate has ",)),
    "an address for a name": ("address", "localhost", 62, ("wanted 'localhost', the certificate has '127.0.0.1'",)),
    "a wildcard is no name by itself": ("wildcard", "wild.test", 62, ("wanted 'wild.test'", "'*.wild.test'")),
    "a wildcard is one label": ("wildcard", "a.b.wild.test", 62, ("wanted 'a.b.wild.test'", "'*.wild.test'")),
    "unknown authority": ("untrusted", "localhost", 20, ("issuer",)),
    "self-signed": ("self_signed", "localhost", 18, ("self-signed",)),
    "self-signed, an authority": ("self_signed_ca", "localhost", 18, ("self-signed",)),
    "not for servers": ("for_clients", "localhost", 26, ("servers",)),
    "intermediate missing": ("incomplete", "localhost", 20, ("issuer",)),
}
refused = pytest.mark.parametrize(("shown", "host", "code", "words"), REFUSED.values(), ids=REFUSED)


@both_ways
@refused
def test_invalid_certificate_is_rejected(
    way: str,
    shown: str,
    host: str,
    code: int,
    words: tuple[str, ...],
    tls_nginx: TlsNginx,
    certificates: Certificates,
) -> None:
    port = tls_nginx.ports[shown]
    with client_of(port, way, host, ssl_options=trusting(certificates)) as client:
        for _ in range(2):  # the only slot of the pool is free again
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                client.get("/")
            error = caught.value
            assert error.verify_code == code
            assert error.verify_message
            assert error.reason == "CERTIFICATE_VERIFY_FAILED"
            check_failure(error, port, host)
            check_whole(client)
            if way == "native":
                for word in words:
                    assert word in str(error)


def test_common_name_of_a_certificate_is_not_used(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """The subject of a certificate is not a host name (RFC 9525 section 2); Python's contexts still use it."""
    with (
        client_of(tls_nginx.ports["common_name"], ssl_options=trusting(certificates)) as client,
        pytest.raises(ssl.SSLCertVerificationError, match="wanted 'localhost', the certificate has none") as caught,
    ):
        client.get("/")
    assert caught.value.verify_code == 62


@both_ways
def test_impostor_gets_no_request(way: str, certificates: Certificates) -> None:
    with securely_serving(certificates, serve_ok, way=way, shown=certificates.untrusted) as (peer, client):
        with pytest.raises(ssl.SSLCertVerificationError):
            client.post("/secret", b"secret", headers={"Authorization": "Basic c2VjcmV0"})
        until(lambda: peer.conns[0].hung_up.is_set())
        assert not peer.conns[0].raw
        assert len(peer.conns) == 1


@both_ways
def test_failed_handshakes_do_not_leak_descriptors(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    with client_of(tls_nginx.ports["expired"], way, ssl_options=trusting(certificates)) as client:

        def fail() -> None:
            with pytest.raises(ssl.SSLCertVerificationError):
                client.get("/")

        fail()
        before = descriptors()
        for _ in range(100):
            fail()
        assert len(descriptors()) <= len(before)
        check_whole(client)


# ---------------------------------------------------------------- the checks


@both_ways
def test_insecure_does_not_verify_the_name(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    trust = trusting(certificates)
    with client_of(tls_nginx.ports["elsewhere"], way, ssl_options=trust, insecure=True) as client:
        response = client.get("/page")
        assert response.tls.verified == "chain"
        assert response.tls.peer_certificate == certificates.elsewhere.der


@both_ways
@pytest.mark.parametrize(("shown", "code"), [("untrusted", 20), ("expired", 10), ("self_signed", 18)])
def test_insecure_verifies_the_chain(
    way: str, shown: str, code: int, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    with (
        client_of(tls_nginx.ports[shown], way, ssl_options=trusting(certificates), insecure=True) as client,
        pytest.raises(ssl.SSLCertVerificationError) as caught,
    ):
        client.get("/")
    assert caught.value.verify_code == code


@pytest.mark.parametrize("shown", ["untrusted", "expired", "elsewhere", "self_signed", "incomplete"])
@pytest.mark.parametrize("options", [{"verify": False}, {"ssl_options": {"cert_reqs": ssl.CERT_NONE}}])
def test_verify_false_accepts_any_certificate(
    options: dict[str, Any], shown: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    with client_of(tls_nginx.ports[shown], **options) as client:
        response = client.get("/page")
        assert response.tls.verified is False
        assert response.tls.peer_certificate == getattr(certificates, shown).der
        assert facts(client)["name"] == "localhost"


@pytest.mark.parametrize("required", [ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL])
def test_cert_reqs_optional_is_the_same_as_required(
    required: ssl.VerifyMode, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    options = trusting(certificates, cert_reqs=required)
    with client_of(tls_nginx.ports["valid"], ssl_options=options) as client:
        assert client.get("/page").tls.verified is True
    with (
        client_of(tls_nginx.ports["untrusted"], ssl_options=options) as client,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        client.get("/page")


@both_ways
@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("what", ["file", "directory"])
def test_verify_names_the_trusted_certificates(
    way: str, what: str, kind: Callable[[Path], Any], tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    path = certificates.ca if what == "file" else hashed(certificates.ca)
    with client_of(tls_nginx.ports["valid"], way, verify=kind(path)) as client:
        assert client.get("/page").tls.verified is True
    with (
        client_of(tls_nginx.ports["untrusted"], way, verify=kind(path)) as client,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        client.get("/page")


def test_default_trusts_only_known_authorities(tls_nginx: TlsNginx) -> None:
    for options in ({}, {"ssl_options": {}}):
        with (
            client_of(tls_nginx.ports["valid"], **options) as client,
            pytest.raises(ssl.SSLCertVerificationError) as caught,
        ):
            client.get("/")
        assert caught.value.verify_code == 20


def test_from_url_uses_tls(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    url = f"https://localhost:{tls_nginx.ports['valid']}/page"
    with closing(HTTPClient.from_url(url, ssl_options=trusting(certificates))) as client:
        assert client.ssl is True
        assert client.get("/page").tls.verified is True
        assert client.get(url).read() == (tls_nginx.root / "page").read_bytes()
    with HTTPClientPool(ssl_options=trusting(certificates)) as pool:
        assert pool.get_client(url).get("/page").tls.verified is True


def test_response_without_tls_has_no_tls_properties() -> None:
    with Peer() as peer, closing(HTTPClient("127.0.0.1", peer.port)) as client:
        assert client.get("/").tls is None


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_environment_names_the_trusted_certificates(
    variable: str, tls_nginx: TlsNginx, certificates: Certificates, tmp_path: Path
) -> None:
    known = certificates.ca if variable == "SSL_CERT_FILE" else hashed(certificates.ca)
    unknown = certificates.other_ca if variable == "SSL_CERT_FILE" else hashed(certificates.other_ca)
    for path, answer in ((known, ["True"]), (unknown, ["refused", "20"])):
        environment = {"SSL_CERT_FILE": "", "SSL_CERT_DIR": "", variable: str(path)}
        assert run("tls.trusts", tls_nginx.ports["valid"], **environment).clean().split() == answer


def test_environment_that_names_no_certificates_is_an_error(
    tls_nginx: TlsNginx, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The variable is not ignored: that would trust more than was requested."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(ssl.SSLError) as caught:
        HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True)
    assert str(tmp_path) in str(caught.value)


# ---------------------------------------------------------------- names


@both_ways
@pytest.mark.parametrize("name", ["a", "b"])
def test_server_name_selects_the_certificate(
    way: str, name: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    with client_of(tls_nginx.ports["named"], way, f"{name}.test", ssl_options=trusting(certificates)) as client:
        assert client.get("/page").tls.peer_certificate == getattr(certificates, name).der
        assert facts(client)["name"] == f"{name}.test"


@both_ways
def test_server_hostname_is_sent_and_verified(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    trust = trusting(certificates, server_hostname="a.test")
    with client_of(tls_nginx.ports["named"], way, "127.0.0.1", ssl_options=trust) as client:
        response = client.get("/page")
        assert response.tls.peer_certificate == certificates.a.der
        assert response.tls.verified is True
    with (
        client_of(tls_nginx.ports["valid"], way, "localhost", ssl_options=trust) as client,
        pytest.raises(ssl.SSLCertVerificationError, match=r"a\.test"),
    ):
        client.get("/page")


# ---------------------------------------------------------------- versions and protocols


@both_ways
@pytest.mark.parametrize(("listener", "version"), [("tls12", "TLSv1.2"), ("tls13", "TLSv1.3")])
def test_versions_are_negotiated(
    way: str, listener: str, version: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    with client_of(tls_nginx.ports[listener], way, ssl_options=trusting(certificates)) as client:
        response = client.get("/page")
        assert response.tls.version == version
        assert response.tls.cipher.startswith(("TLS_", "ECDHE"))
        assert response.read() == (tls_nginx.root / "page").read_bytes()
        assert facts(client)["version"] == version


@both_ways
def test_server_with_an_old_version_is_rejected(way: str, certificates: Certificates) -> None:
    with (
        s_server(certificates.valid, "-www", "-tls1", "-cipher", "ALL:@SECLEVEL=0") as server,
        client_of(server.port, way, ssl_options=trusting(certificates)) as client,
    ):
        for _ in range(2):
            with pytest.raises(ssl.SSLError, match=r"(?i)version") as caught:
                client.get("/")
            assert not isinstance(caught.value, ssl.SSLCertVerificationError)
            check_failure(caught.value, server.port)
            check_whole(client)


def test_ssl_version_selects_one_version(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    options = trusting(certificates, ssl_version=ssl.PROTOCOL_TLSv1_2)
    with client_of(tls_nginx.ports["valid"], ssl_options=options) as client:
        assert client.get("/page").tls.version == "TLSv1.2"
    with (
        client_of(tls_nginx.ports["tls13"], ssl_options=options) as client,
        pytest.raises(ssl.SSLError, match=r"(?i)version"),
    ):
        client.get("/page")


@pytest.mark.parametrize("version", [ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLS_CLIENT, None])
def test_ssl_version_any_allows_both_versions(
    version: int | None, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    for listener, agreed in (("tls12", "TLSv1.2"), ("tls13", "TLSv1.3")):
        options = trusting(certificates, ssl_version=version)
        with client_of(tls_nginx.ports[listener], ssl_options=options) as client:
            assert client.get("/page").tls.version == agreed


@both_ways
def test_server_that_requires_another_group_is_supported(way: str, certificates: Certificates) -> None:
    """HelloRetryRequest: RFC 8446 section 4.1.4."""
    with (
        s_server(certificates.valid, "-www", "-groups", "secp384r1") as server,
        client_of(server.port, way, ssl_options=trusting(certificates)) as client,
    ):
        response = client.get("/")
        assert response.tls.version == "TLSv1.3"
        assert b"secp384r1" in response.read()


def test_http_1_1_is_offered(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    with client_of(tls_nginx.ports["valid"], ssl_options=trusting(certificates)) as client:
        assert client.get("/page").tls.alpn == "http/1.1"


def test_server_without_alpn_is_accepted(certificates: Certificates) -> None:
    with securely_serving(certificates) as (_, client):
        assert client.get("/").tls.alpn is None


def test_server_with_another_protocol_only(certificates: Certificates) -> None:
    """RFC 7301 section 3.2 leaves it to the server: OpenSSL continues without a protocol; a refusal is an error."""
    context = certificates.valid.server()
    context.set_alpn_protocols(["h2"])
    with (
        Peer(tls=context) as peer,
        client_of(peer.port, ssl_options=trusting(certificates)) as client,
    ):
        response = client.get("/")
        assert response.tls.alpn is None
        assert response.read() == b"/"


# ---------------------------------------------------------------- certificates of clients


def ways_to_show(certificates: Certificates) -> dict[str, dict[str, Any]]:
    pair, together = certificates.client, str(certificates.client_together)
    files = {"certfile": str(pair.chain), "keyfile": str(pair.key)}
    return {
        "cert, two files": {"cert": (str(pair.chain), str(pair.key))},
        "cert, one file": {"cert": together},
        "ssl_options, two files": {"ssl_options": files},
        "ssl_options, one file twice": {"ssl_options": {"certfile": together, "keyfile": together}},
        "ssl_options, in bytes": {"ssl_options": {"certfile": os.fsencode(together)}},
    }


@both_ways
@pytest.mark.parametrize(
    "how",
    [
        "cert, two files",
        "cert, one file",
        "ssl_options, two files",
        "ssl_options, one file twice",
        "ssl_options, in bytes",
    ],
)
def test_client_certificate_is_sent_if_required(
    way: str, how: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    options = dict(ways_to_show(certificates)[how])
    options["ssl_options"] = trusting(certificates, **options.get("ssl_options", {}))
    with client_of(tls_nginx.ports["clients"], way, **options) as client:
        assert "O=The Client" in facts(client)["client"]


@both_ways
@pytest.mark.parametrize("shows", [None, "stranger"])
def test_nginx_rejects_a_wrong_client_certificate(
    way: str, shows: str | None, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    pair = getattr(certificates, shows) if shows else None
    cert = (str(pair.chain), str(pair.key)) if pair else None
    with client_of(tls_nginx.ports["clients"], way, ssl_options=trusting(certificates), cert=cert) as client:
        response = client.get("/page")
        assert response.status_code == 400
        assert b"SSL certificate" in response.read()
        check_whole(client)


@both_ways
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shows", [None, "stranger"])
@pytest.mark.parametrize("length", [1, BIG])
def test_client_certificate_rejected_in_the_handshake_is_an_error(
    way: str, version: ssl.TLSVersion, shows: str | None, length: int, certificates: Certificates
) -> None:
    """With TLS 1.3 the client has finished its handshake when the refusal arrives: instead of a response, or in the
    middle of a request that is larger than the socket buffers."""
    context = certificates.valid.server(version)
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    pair = getattr(certificates, shows) if shows else None
    cert = (str(pair.chain), str(pair.key)) if pair else None
    with (
        Peer(tls=context) as peer,
        client_of(peer.port, way, ssl_options=trusting(certificates), cert=cert) as client,
    ):
        for _ in range(2):
            with pytest.raises(ssl.SSLError) as caught:
                client.post("/", b"x" * length)
            error = caught.value
            assert not isinstance(error, ssl.SSLCertVerificationError)  # the server's reason
            assert error.phase in (("tls",) if version == ssl.TLSVersion.TLSv1_2 else ("send", "head"))
            assert error.peer == f"localhost:{peer.port}"
            check_whole(client)
        assert not peer.requests
        peer.tls = certificates.valid.server()
        assert client.get("/next").read() == b"/next"


# ---------------------------------------------------------------- invalid arguments


def test_file_that_is_missing_is_named(certificates: Certificates, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.pem")
    key = str(certificates.client.key)
    for options in (
        {"ssl_options": {"ca_certs": gone}},
        {"verify": gone},
        {"cert": gone},
        {"cert": (gone, key)},
        {"cert": (str(certificates.client.chain), gone)},
        {"ssl_options": {"certfile": gone, "keyfile": key}},
    ):
        with pytest.raises(FileNotFoundError) as caught:
            HTTPClient("localhost", ssl=True, **options)
        assert gone in str(caught.value)


@pytest.mark.parametrize("make", [UserAgent, Session, httpx.Client, HTTPClientPool])
def test_client_certificate_invalid_is_rejected_by_the_constructor_of_an_agent(
    make: Callable[..., Any], certificates: Certificates, tmp_path: Path
) -> None:
    prose, gone = tmp_path / "prose.pem", str(tmp_path / "gone.pem")
    prose.write_text("No certificate.\n")
    key = str(certificates.client.key)
    for file, error in ((str(prose), ssl.SSLError), (gone, FileNotFoundError)):
        for options in ({"cert": (file, key)}, {"cert": file}, {"ssl_options": {"certfile": file, "keyfile": key}}):
            with pytest.raises(error, match=re.escape(file)):
                make(**options)
    make(cert=(str(certificates.client.chain), key)).close()


def test_directory_instead_of_a_file_is_an_error(certificates: Certificates, tmp_path: Path) -> None:
    for cert in ((str(tmp_path), str(certificates.client.key)), (str(certificates.client.chain), str(tmp_path))):
        with pytest.raises(OSError, match=re.escape(str(tmp_path))):
            HTTPClient("localhost", ssl=True, cert=cert)


def broken_files(certificates: Certificates, directory: Path) -> dict[str, tuple[dict[str, Any], Path]]:
    """Arguments, and the file that causes the error."""
    prose = directory / "prose.pem"
    prose.write_text("Nothing to be trusted.\n")
    garbage = directory / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    client, stranger = certificates.client, certificates.stranger
    return {
        "authorities: none": ({"ssl_options": {"ca_certs": str(prose)}}, prose),
        "authorities: none in the directory": ({"verify": str(directory)}, directory),
        "authorities: garbage": ({"ssl_options": {"ca_certs": str(garbage)}}, garbage),
        "certificate: none": ({"cert": (str(prose), str(client.key))}, prose),
        "certificate: garbage": ({"cert": (str(garbage), str(client.key))}, garbage),
        "key: none": ({"cert": (str(client.chain), str(prose))}, prose),
        "key: not in the one file": ({"cert": str(client.chain)}, client.chain),
        "key: another's": ({"cert": (str(client.chain), str(stranger.key))}, stranger.key),
        "key: encrypted": (
            {"cert": (str(client.chain), str(certificates.client_encrypted.key))},
            certificates.client_encrypted.key,
        ),
    }


@pytest.mark.parametrize(
    "what",
    [
        "authorities: none",
        "authorities: none in the directory",
        "authorities: garbage",
        "certificate: none",
        "certificate: garbage",
        "key: none",
        "key: not in the one file",
        "key: another's",
        "key: encrypted",
    ],
)
def test_unusable_file_is_named(what: str, certificates: Certificates, tmp_path: Path) -> None:
    options, blamed = broken_files(certificates, tmp_path)[what]
    with pytest.raises((ssl.SSLError, ValueError)) as caught:
        HTTPClient("localhost", ssl=True, **options)
    text = str(caught.value)
    assert str(blamed) in text
    assert PASSWORD not in text
    assert "PRIVATE KEY-----\n" not in text
    if "encrypted" in what:
        assert "encrypted" in text


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"verify": 7}, "verify"),
        ({"cert": 7}, "cert"),
        ({"cert": ("a", "b", "c", "d")}, "cert"),
        ({"ssl_options": {"cert_reqs": "yes"}}, "cert_reqs"),
        ({"ssl_options": {"ssl_version": "1.2"}}, "ssl_version"),
        ({"ssl_options": {"keyfile": "key.pem"}}, "certfile"),
        ({"ssl_options": {"ca_certs": 5}}, "ca_certs"),
        ({"cert": ("cert.pem", 5)}, "keyfile"),
    ],
)
def test_invalid_argument_is_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        HTTPClient("localhost", ssl=True, **options)


# ---------------------------------------------------------------- failed handshakes


def plain_http(conn: Conn) -> None:
    read_hello(conn)
    conn.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def garbage(conn: Conn) -> None:
    read_hello(conn)
    conn.send(bytes(range(256)))
    conn.wait_closed()


def alert(conn: Conn) -> None:
    """handshake_failure: RFC 8446 section 6.2."""
    read_hello(conn)
    conn.send(b"\x15\x03\x03\x00\x02\x02\x28")
    conn.wait_closed()


@both_ways
@pytest.mark.parametrize("script", [plain_http, garbage, alert])
def test_bytes_that_are_no_handshake_raise(
    way: str, script: Callable[[Conn], None], certificates: Certificates
) -> None:
    with (
        Peer(script) as peer,
        client_of(peer.port, way, ssl_options=trusting(certificates)) as client,
    ):
        for _ in range(2):
            with pytest.raises(ssl.SSLError) as caught:
                client.get("/")
            assert not isinstance(caught.value, ssl.SSLCertVerificationError)
            check_failure(caught.value, peer.port)
            check_whole(client)
        peer.tls = certificates.valid.server()
        peer.scripts = (serve_ok,)
        assert client.get("/next").read() == b"/next"


def close_after_hello(conn: Conn) -> None:
    read_hello(conn)


def reset_after_hello(conn: Conn) -> None:
    read_hello(conn)
    conn.reset()


@both_ways
@pytest.mark.parametrize("script", [Conn.close, close_after_hello, reset_after_hello])
def test_handshake_in_which_the_connection_ends_is_an_error(
    way: str, script: Callable[[Conn], None], certificates: Certificates
) -> None:
    with (
        Peer(script) as peer,
        client_of(peer.port, way, ssl_options=trusting(certificates)) as client,
    ):
        with pytest.raises(OSError, match=r".") as caught:
            client.get("/")
        check_failure(caught.value, peer.port)
        check_whole(client)
        peer.tls = certificates.valid.server()
        peer.scripts = (serve_ok,)
        assert client.get("/next").read() == b"/next"


def silent(conn: Conn) -> None:
    read_hello(conn)
    conn.wait_closed()


@both_ways
def test_handshake_without_an_answer_times_out(way: str, certificates: Certificates) -> None:
    with (
        Peer(silent) as peer,
        client_of(
            peer.port, way, ssl_options=trusting(certificates), connection_timeout=0.05, network_timeout=10
        ) as client,
    ):
        with pytest.raises(TimeoutError) as caught:
            client.get("/")
        check_failure(caught.value, peer.port)
        assert 0.05 <= caught.value.elapsed < 5
        check_whole(client)
        until(lambda: peer.conns[0].hung_up.is_set())


@both_ways
def test_handshake_can_be_killed(way: str, certificates: Certificates) -> None:
    with (
        Peer(silent) as peer,
        client_of(peer.port, way, ssl_options=trusting(certificates)) as client,
    ):
        greenlet = gevent.spawn(attempt, lambda: client.get("/"))
        hello_is_there(peer)
        greenlet.kill()
        assert isinstance(greenlet.value, gevent.GreenletExit)
        until(lambda: peer.conns[0].hung_up.is_set())
        check_whole(client)
        peer.tls = certificates.valid.server()
        peer.scripts = (serve_ok,)
        assert client.get("/next").read() == b"/next"


@both_ways
def test_handshake_can_be_ended_by_a_gevent_timeout(way: str, certificates: Certificates) -> None:
    with (
        Peer(silent) as peer,
        client_of(peer.port, way, ssl_options=trusting(certificates)) as client,
    ):
        timeout = gevent.Timeout(0.05)
        with pytest.raises(gevent.Timeout) as caught, timeout:
            client.get("/")
        assert caught.value is timeout
        until(lambda: peer.conns[0].hung_up.is_set())
        check_whole(client)


@both_ways
def test_handshake_in_single_bytes_succeeds(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """The peer is a proxy between the client and nginx that forwards every byte separately."""

    def relay(conn: Conn) -> None:
        with closing(socket.create_connection(("127.0.0.1", tls_nginx.ports["valid"]))) as upstream:

            def pass_on() -> None:
                while data := conn.sock.recv(65536):
                    upstream.sendall(data)

            requests = gevent.spawn(attempt, pass_on)
            try:
                while data := upstream.recv(65536):
                    conn.send_bytewise(data)
            finally:
                requests.kill()

    with (
        Peer(relay) as peer,
        client_of(peer.port, way, ssl_options=trusting(certificates)) as client,
    ):
        assert client.get("/page").read() == (tls_nginx.root / "page").read_bytes()
        assert opened(client) == 1


# ---------------------------------------------------------------- sessions


@pytest.mark.parametrize("listener", ["tls12", "tls13"])
@pytest.mark.parametrize("page", ["/page", "/close/page"])
def test_session_is_resumed_by_its_client(
    listener: str, page: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    """The connection of the first handshake may still be in use, or closed."""
    options = {"ssl_options": trusting(certificates), "concurrency": 2}
    port = tls_nginx.ports[listener]
    with client_of(port, "native", **options) as client, client_of(port, "native", **options) as other:
        first = client.get(page)
        first.read()
        assert first.tls.resumed is False

        with client.get("/big"):  # keeps a connection busy
            second = client.get("/close/page")
            second.read()
            assert second.tls.resumed is True
            assert second.tls.verified is True
            assert second.tls.peer_certificate == first.tls.peer_certificate
            assert facts(client)["session"] == "r"

        assert other.get("/page").tls.resumed is False
        assert facts(other)["session"] == "."


def test_session_of_another_host_is_not_resumed(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """Two clients use one server under two names: neither resumes a session of the other."""
    trust = trusting(certificates)
    port = tls_nginx.ports["named"]
    for name in ("a", "b", "a"):
        with client_of(port, host=f"{name}.test", ssl_options=trust) as client:
            response = client.get("/page")
            assert response.tls.resumed is False
            assert response.tls.peer_certificate == getattr(certificates, name).der


# ---------------------------------------------------------------- threads and forks


@both_ways
def test_each_thread_has_its_own_connections(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    page = (tls_nginx.root / "page").read_bytes()
    with client_of(tls_nginx.ports["valid"], way, ssl_options=trusting(certificates)) as client:
        assert client.get("/page").read() == page
        assert in_thread(lambda: client.get("/page").read()) == page
        assert client.get("/page").read() == page
        assert opened(client) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(("kind", "loop"), [("os", "libev-cext"), ("gevent", "libev-cext"), ("gevent", "libuv-cffi")])
@both_ways
def test_child_of_a_fork_sends_nothing_on_the_connections_of_its_parent(
    way: str, kind: str, loop: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    environment = {**choose(loop), "PYTHONWARNINGS": "ignore"}
    said = run("tls.forks", tls_nginx.ports["valid"], certificates.ca, way, kind, **environment).clean()
    assert said.split() == ["1"]
