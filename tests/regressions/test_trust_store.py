"""Trusted certificates: their constraints, and certificates that cannot be parsed."""

from __future__ import annotations

import datetime
import errno
import os
import shutil
import signal
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from geventhttpclient import HTTPClient, _core
from geventhttpclient.tls import default_ca_file
from tests.support.certificates import Certificates, Pair
from tests.support.hub import run
from tests.support.peer import Peer, serve_ok
from tests.support.requirements import missing
from tests.support.tls import WAYS, client_of, hashed

pytestmark = [pytest.mark.usefixtures("bounded", "names_are_here")]

both_ways = pytest.mark.parametrize("way", WAYS)
CRITICAL = (x509.BasicConstraints, x509.UnrecognizedExtension, x509.CertificatePolicies)
NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


# ---------------------------------------------------------------- constraints of trusted certificates


class Maker:
    """Makes certificates, each signed by another or by itself."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = count()

    def make(
        self,
        subject: str,
        issuer: Made | None = None,
        *extensions: x509.ExtensionType,
        since: datetime.timedelta = -10 * DAY,
        until: datetime.timedelta = DAY,
    ) -> Made:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        signing = issuer.key if issuer else key
        builder = (
            x509.CertificateBuilder(
                issuer.certificate.subject if issuer else name, name, key.public_key(), x509.random_serial_number()
            )
            .not_valid_before(NOW + since)
            .not_valid_after(NOW + until)
            # Contexts are strict about this from CPython 3.13 on.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, CRITICAL))
        return Made(key, builder.sign(signing, hashes.SHA256()))

    def leaf(self, issuer: Made | None = None, *extensions: x509.ExtensionType, **dates: datetime.timedelta) -> Made:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        return self.make("a server", issuer, names, *extensions, **dates)

    def file(self, *made: Made) -> Path:
        path = self.directory / f"{next(self._numbers)}.pem"
        path.write_bytes(b"".join(one.certificate.public_bytes(Encoding.PEM) for one in made))
        return path

    def pair(self, *chain: Made) -> Pair:
        key = self.directory / f"{next(self._numbers)}-key.pem"
        key.write_bytes(chain[0].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Pair(self.file(*chain), key)


class Made:
    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.key = key
        self.certificate = certificate


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


def ca(path_length: int | None = None) -> x509.BasicConstraints:
    return x509.BasicConstraints(ca=True, path_length=path_length)


NO_CA = x509.BasicConstraints(ca=False, path_length=None)


def usage(*permitted: str) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in permitted for name in names})


SIGNS = usage("key_cert_sign", "crl_sign")
SIGNS_NOTHING = usage("digital_signature")
SERVES = ("digital_signature", "key_encipherment", "key_agreement")
SERVES_NOT = ("key_cert_sign", "crl_sign", "content_commitment", "data_encipherment")
ODD = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
POLICIES = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4.6"), None)])
CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])

# The certificates that a server sends, and the trusted one.
Chain = tuple[tuple[Made, ...], Made]


def below(*extensions: x509.ExtensionType, **dates: datetime.timedelta) -> Callable[[Maker], Chain]:
    """Returns a server's certificate that a root with those extensions has issued."""

    def build(maker: Maker) -> Chain:
        root = maker.make("a root", None, *extensions, **dates)
        return (maker.leaf(root),), root

    return build


def below_an_intermediate(
    root_length: int | None, subject: str = "an intermediate", permitted: x509.KeyUsage = SIGNS
) -> Callable[[Maker], Chain]:
    def build(maker: Maker) -> Chain:
        root = maker.make("a root", None, ca(root_length), SIGNS)
        intermediate = maker.make(subject, root, ca(), permitted)
        return (maker.leaf(intermediate), intermediate), root

    return build


def shown(*extensions: x509.ExtensionType) -> Callable[[Maker], Chain]:
    """Returns a server's certificate with those extensions."""

    def build(maker: Maker) -> Chain:
        root = maker.make("a root", None, ca(), SIGNS)
        return (maker.leaf(root, *extensions),), root

    return build


def renewed(maker: Maker) -> Chain:
    """Returns a chain whose trusted certificate is another one of the same name and key."""
    old = maker.leaf(None, NO_CA)
    signed = maker.leaf(old, NO_CA)
    return (Made(signed.key, signed.certificate),), old


def itself(*extensions: x509.ExtensionType, **dates: datetime.timedelta) -> Callable[[Maker], Chain]:
    """Returns a chain whose trusted certificate is the server's own."""

    def build(maker: Maker) -> Chain:
        leaf = maker.leaf(None, *extensions, **dates)
        return (leaf,), leaf

    return build


BELIEVED = {
    "a CA": below(ca(), SIGNS),
    "a CA without key usage": below(ca()),
    "a CA for servers": below(ca(), SIGNS, SERVERS),
    "a CA that allows no intermediates": below(ca(0), SIGNS),
    "a CA that allows one": below_an_intermediate(1),
    "a self-issued intermediate does not count": below_an_intermediate(0, "a root"),
    "the certificate itself": itself(NO_CA),
    "the certificate itself, of a CA": itself(ca()),
    "a CA with critical policies": below(ca(), SIGNS, POLICIES),
    **{f"a server for {use}": shown(usage(use)) for use in SERVES},
    **{f"the certificate itself, for {use}": itself(NO_CA, usage(use)) for use in SERVES},
}

REFUSED: dict[str, tuple[Callable[[Maker], Chain], int, str]] = {
    "not a CA": (below(NO_CA), 79, "is not a CA certificate"),
    "a server's certificate": (renewed, 79, "is not a CA certificate"),
    "not said to be a CA": (below(), 79, "is not a CA certificate"),
    "must not sign": (below(ca(), SIGNS_NOTHING), 79, "is not a CA certificate"),
    "too many intermediates": (below_an_intermediate(0), 25, "allows at most 0 intermediate certificates"),
    "expired": (below(ca(), SIGNS, until=-DAY), 10, "'CN=a root', which expired on "),
    "not yet valid": (below(ca(), SIGNS, since=DAY, until=2 * DAY), 9, "is not valid before "),
    "for clients": (below(ca(), SIGNS, CLIENTS), 26, "is not meant for servers"),
    "the certificate itself, expired": (itself(NO_CA, until=-DAY), 10, "it expired on "),
    "the certificate itself, for clients": (itself(NO_CA, CLIENTS), 26, "it is not meant for servers"),
    "an intermediate that must not sign": (
        below_an_intermediate(None, permitted=SIGNS_NOTHING),
        79,
        "does not permit it to issue others",
    ),
    "unknown critical extension": (below(ca(), SIGNS, ODD), 34, "'CN=a root', which has a critical extension"),
    "the certificate itself, unknown critical extension": (itself(NO_CA, ODD), 34, "critical extension"),
    **{f"a server for {use}": (shown(usage(use)), 26, "it is not meant for servers") for use in SERVES_NOT},
    **{
        f"the certificate itself, for {use}": (itself(NO_CA, usage(use)), 26, "it is not meant for servers")
        for use in SERVES_NOT
    },
}


# The texts of OpenSSL 3 for these error codes.
WORDS = {
    9: "certificate is not yet valid",
    10: "certificate has expired",
    25: "path length constraint exceeded",
    26: "unsuitable certificate purpose",
    34: "unhandled critical extension",
    79: "invalid CA certificate",
}


@both_ways
@pytest.mark.parametrize("build", BELIEVED.values(), ids=BELIEVED)
def test_trusted_certificate_vouches_for_a_server(way: str, build: Callable[[Maker], Chain], maker: Maker) -> None:
    shown, trusted = build(maker)
    with (
        Peer(serve_ok, tls=maker.pair(*shown).server()) as peer,
        client_of(peer.port, way, verify=maker.file(trusted)) as client,
    ):
        assert client.get("/page").tls.verified is True


@pytest.mark.parametrize("options", [{}, {"http2": True}, {"insecure": True}, {"way": "context"}], ids=str)
@pytest.mark.parametrize(("build", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_trusted_certificate_that_may_not_vouch_for_a_server_is_refused(
    options: dict[str, Any], build: Callable[[Maker], Chain], code: int, words: str, maker: Maker
) -> None:
    """OpenSSL rejects each certificate, too, with the same error codes."""
    shown, trusted = build(maker)
    with (
        Peer(serve_ok, tls=maker.pair(*shown).server()) as peer,
        client_of(peer.port, verify=maker.file(trusted), **options) as client,
        pytest.raises(ssl.SSLCertVerificationError) as caught,
    ):
        client.get("/page")
    assert caught.value.verify_code == code
    if "way" not in options:
        assert words in str(caught.value)
    if "way" not in options or ssl.OPENSSL_VERSION_INFO >= (3,):
        assert caught.value.verify_message == WORDS[code]
    assert not peer.requests


def test_trusted_certificate_that_is_not_a_ca_is_refused_for_a_proxy(maker: Maker) -> None:
    shown, trusted = below(NO_CA)(maker)
    with (
        Peer(serve_ok, tls=maker.pair(*shown).server()) as peer,
        closing(
            HTTPClient(
                "origin.test",
                443,
                ssl=True,
                proxy=f"https://localhost:{peer.port}",
                proxy_ssl_options={"ca_certs": str(maker.file(trusted))},
            )
        ) as client,
        pytest.raises(ssl.SSLCertVerificationError, match="is not a CA certificate"),
    ):
        client.get("/page")


def test_one_of_two_trusted_certificates_of_the_same_name_and_key_is_enough(maker: Maker) -> None:
    """This is the state after a root was renewed."""
    new = maker.make("a root", None, ca(), SIGNS)
    old = maker.make("a root", new, ca(), SIGNS, until=-DAY)
    both = maker.file(Made(new.key, _like(old, new)), new)
    with (
        Peer(serve_ok, tls=maker.pair(maker.leaf(new)).server()) as peer,
        client_of(peer.port, verify=both) as client,
    ):
        assert client.get("/page").tls.verified is True


def _like(old: Made, new: Made) -> x509.Certificate:
    """Returns a certificate with the dates of one, and with the name and the key of the other."""
    name = new.certificate.subject
    builder = x509.CertificateBuilder(name, name, new.key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(old.certificate.not_valid_before_utc)
    builder = builder.not_valid_after(old.certificate.not_valid_after_utc).add_extension(ca(), critical=True)
    return builder.sign(new.key, hashes.SHA256())


def test_servers_certificate_of_an_unknown_ca_vouches_for_itself(maker: Maker) -> None:
    """OpenSSL does the same with VERIFY_X509_PARTIAL_CHAIN, which Python sets since 3.13."""
    unknown = maker.make("a root", None, ca(), SIGNS)
    leaf, other = maker.leaf(unknown), maker.leaf(unknown)
    for shown in (leaf, other):
        with (
            Peer(serve_ok, tls=maker.pair(shown).server()) as peer,
            client_of(peer.port, verify=maker.file(leaf)) as client,
        ):
            if shown is leaf:
                assert client.get("/page").tls.verified is True
            else:
                with pytest.raises(ssl.SSLCertVerificationError) as caught:
                    client.get("/page")
                assert caught.value.verify_code == 20


@both_ways
def test_self_signed_certificate_of_version_1_is_a_root(way: str, maker: Maker) -> None:
    """A version 1 certificate cannot declare that it is a CA's."""
    program = shutil.which("openssl") or missing("openssl")
    key, request, root, extensions = (maker.directory / name for name in ("k", "r", "root.pem", "e"))
    extensions.write_text("subjectAltName=DNS:localhost\n")

    def openssl(*arguments: object) -> None:
        subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, stdin=subprocess.DEVNULL)

    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
            request, "-subj", "/CN=an old root")  # fmt: skip
    openssl("x509", "-req", "-in", request, "-signkey", key, "-out", root, "-days", 2)
    if x509.load_pem_x509_certificate(root.read_bytes()).version != x509.Version.v1:
        pytest.skip("this OpenSSL makes certificates of version 3 alone")
    server = maker.pair(maker.leaf())
    openssl("req", "-new", "-key", server.key, "-out", request, "-subj", "/CN=a server")
    openssl("x509", "-req", "-in", request, "-CA", root, "-CAkey", key, "-CAcreateserial", "-out", server.chain,
            "-days", 1, "-extfile", extensions)  # fmt: skip
    if way == "context" and sys.version_info >= (3, 13):
        pytest.skip("VERIFY_X509_STRICT wants extensions in a root")
    with Peer(serve_ok, tls=server.server()) as peer, client_of(peer.port, way, verify=root) as client:
        assert client.get("/page").tls.verified is True


# ---------------------------------------------------------------- unreadable certificates


def alone(monkeypatch: pytest.MonkeyPatch, **variables: object) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, str(variables.get(name, "")))


@both_ways
def test_ssl_cert_file_that_is_missing_is_named(way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "missing.pem"
    alone(monkeypatch, SSL_CERT_FILE=path)
    with pytest.raises(FileNotFoundError, match="SSL_CERT_FILE") as caught, client_of(1, way):
        pass
    assert caught.value.filename == str(path)


@both_ways
def test_ssl_cert_file_without_a_certificate_is_named(
    way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certificates: Certificates
) -> None:
    """Certificates from other sources do not replace it."""
    path, directory = tmp_path / "prose.pem", tmp_path / "directory"
    path.write_text("Nothing to be trusted.\n")
    directory.mkdir()
    shutil.copy(certificates.ca, directory)
    for more in ({}, {"SSL_CERT_DIR": directory}):
        alone(monkeypatch, SSL_CERT_FILE=path, **more)
        with pytest.raises(ssl.SSLError, match="SSL_CERT_FILE") as caught, client_of(1, way):
            pass
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("how", ["verify", "ca_certs", "SSL_CERT_DIR"])
def test_directory_of_which_a_file_cannot_be_read_is_refused(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certificates: Certificates
) -> None:
    shutil.copy(certificates.ca, tmp_path)
    looped = tmp_path / "looped.pem"
    looped.symlink_to(looped)
    alone(monkeypatch)
    options: dict[str, Any] = {"verify": tmp_path} if how == "verify" else {}
    if how == "ca_certs":
        options = {"ssl_options": {"ca_certs": str(tmp_path)}}
    elif how == "SSL_CERT_DIR":
        monkeypatch.setenv(how, str(tmp_path))
    for _ in range(2):  # the first failure is not remembered as an answer
        with pytest.raises(OSError, match="looped") as caught, client_of(1, **options):
            pass
        assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(looped))
    looped.unlink()
    with client_of(1, **options):
        pass


def damages(good: str) -> dict[str, str]:
    return {
        "cut short": good + "\n" + good[: len(good) // 2],
        "no base64": good + "\n" + good.replace("MII", "M!!", 1),
        "no certificate within": good + "\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        # Those of which a reader of PEM takes no notice.
        "no line of its own": good.rstrip() + good,
        "indented": good + textwrap.indent(good, "  "),
        "with a dash missing": good + good.replace("-----BEGIN", "----BEGIN"),
        "with a wrong dash": good + good.replace("-----BEGIN", "\u2014BEGIN"),
        "behind a byte order mark": f"{good}\ufeff{good}",
        "at first behind a byte order mark": f"\ufeff{good}{good}",
        "without its end": good.replace("-----END CERTIFICATE-----", "") + good,
        "without its begin": good + good.replace("-----BEGIN CERTIFICATE-----", ""),
        "that may list rejected uses": good + good.replace(" CERTIFICATE", " TRUSTED CERTIFICATE"),
        "in DER": _der_as_text(good) + "\n" + good,
        "in DER on the same line": _der_as_text(good) + good,
    }


def _der_as_text(pem: str) -> str:
    return ssl.PEM_cert_to_DER_cert(pem).decode("latin-1")


DAMAGES = tuple(damages(ssl.DER_cert_to_PEM_cert(b"0")))


@pytest.mark.parametrize(
    ("how", "damage"),
    [
        *product(["verify", "directory", "SSL_CERT_FILE", "ciphers"], DAMAGES),
        # The server judges the contents of the certificate.
        *product(["cert"], [damage for damage in DAMAGES if damage != "no certificate within"]),
    ],
)
def test_file_with_one_damaged_certificate_is_refused(
    how: str, damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certificates: Certificates
) -> None:
    path = tmp_path / "damaged.pem"
    whole = certificates.client.chain if how == "cert" else certificates.ca
    damaged = damages(whole.read_text())[damage]
    path.write_bytes(damaged.encode("latin-1" if "DER" in damage else "utf-8"))
    alone(monkeypatch)
    options: dict[str, Any] = {}
    if how == "SSL_CERT_FILE":
        monkeypatch.setenv(how, str(path))
    elif how == "ciphers":
        options = {"verify": path, "ssl_options": {"ciphers": "DEFAULT"}}
    elif how == "cert":
        options = {"cert": (str(path), str(certificates.client.key))}
    else:
        options = {"verify": path if how == "verify" else tmp_path}
    with pytest.raises(ssl.SSLError) as caught, client_of(1, **options):
        pass
    assert str(path) in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="the store of macOS is not a file")
def test_system_store_that_cannot_be_read_is_an_error_and_not_mozillas(monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)
    bundle, _ = _core._authorities(None)
    if bundle is None:
        missing("a store of certificates")
    outcome = run("tls.starves", SSL_CERT_FILE="", SSL_CERT_DIR="").clean().split()
    assert outcome == [str(errno.EMFILE), bundle, "then", "made"]


def test_nothing_is_read_where_nothing_is_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone(monkeypatch, SSL_CERT_FILE=tmp_path / "missing.pem")
    with client_of(1, verify=False):
        pass


def test_default_ca_file_that_cannot_be_looked_at_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looped = tmp_path / "looped.pem"
    looped.symlink_to(looped)
    alone(monkeypatch, SSL_CERT_FILE=looped, SSL_CERT_DIR=tmp_path)
    with pytest.raises(OSError, match="SSL_CERT_FILE") as caught:
        default_ca_file()
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(looped))


def test_httpx_transport_with_an_ssl_cert_file_that_is_missing_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The certificates of certifi do not replace the requested file."""
    pytest.importorskip("httpx")
    from geventhttpclient.adapters.httpx import Transport

    alone(monkeypatch, SSL_CERT_FILE=tmp_path / "missing.pem")
    with pytest.raises(FileNotFoundError, match="SSL_CERT_FILE"):
        Transport()
    assert not os.path.exists(tmp_path / "missing.pem")


# ---------------------------------------------------------------- files and directories, and when they are read


def accepts(peer: Peer, **options: Any) -> bool:
    """Returns True if a new client trusts the server."""
    with client_of(peer.port, **options) as client:
        try:
            return client.get("/page").tls.verified is True
        except ssl.SSLCertVerificationError:
            return False


@pytest.fixture
def peer(certificates: Certificates) -> Iterator[Peer]:
    with Peer(serve_ok, tls=certificates.valid.server()) as peer:
        yield peer


@both_ways
@pytest.mark.parametrize("mark", ["old label", "both labels", "prose", "a request beside it", "CR LF"])
def test_certificate_that_is_written_in_another_way_is_read(
    mark: str, way: str, tmp_path: Path, peer: Peer, certificates: Certificates
) -> None:
    good, other = certificates.ca.read_text(), certificates.other_ca.read_text()
    path = tmp_path / "ca.pem"
    path.write_text(
        {
            "old label": good.replace(" CERTIFICATE", " X509 CERTIFICATE"),
            "both labels": other + good.replace(" CERTIFICATE", " X509 CERTIFICATE"),
            "CR LF": (other + good).replace("\n", "\r\n"),
            "prose": f"# BEGIN CERTIFICATE of our CA\n{good}# END CERTIFICATE\n",
            "a request beside it": good + good.replace(" CERTIFICATE", " CERTIFICATE REQUEST"),
        }[mark]
    )
    assert accepts(peer, way=way, verify=path)


@pytest.mark.parametrize("how", ["file", "directory", "link", "SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("later", ["in place", "replaced"])
def test_certificates_that_have_changed_are_read_anew(
    how: str, later: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, peer: Peer, certificates: Certificates
) -> None:
    alone(monkeypatch)
    directory = tmp_path / "directory"
    directory.mkdir()
    path = directory / "ca.pem"
    if how == "link":
        path.symlink_to(tmp_path / "elsewhere.pem")
        path = tmp_path / "elsewhere.pem"
    options: dict[str, Any] = {"verify": path if how == "file" else directory}
    if how.startswith("SSL"):
        monkeypatch.setenv(how, str(path if how == "SSL_CERT_FILE" else directory))
        options = {}
    # Of one length; only the other is trusted at the end.
    length = max(certificates.ca.stat().st_size, certificates.other_ca.stat().st_size) + 1
    good, other = (file.read_text().ljust(length, "\n") for file in (certificates.ca, certificates.other_ca))
    for content, trusted in ((good, True), (other, False), (good, True), (other, False)):
        if later == "replaced":
            path.unlink(missing_ok=True)
        path.write_text(content)
        assert accepts(peer, **options) is trusted


@pytest.mark.parametrize("how", ["verify", "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_relative_path_is_one_of_the_current_directory(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, peer: Peer, certificates: Certificates
) -> None:
    alone(monkeypatch)
    for name, authority in (("right", certificates.ca), ("wrong", certificates.other_ca)):
        (tmp_path / name / "store").mkdir(parents=True)
        shutil.copy(authority, tmp_path / name / "store" / "ca.pem")
        os.utime(tmp_path / name / "store" / "ca.pem", (0, 0))
    relative = "store" if how == "SSL_CERT_DIR" else "store/ca.pem"
    options: dict[str, Any] = {"verify": relative} if how == "verify" else {}
    if not options:
        monkeypatch.setenv(how, relative)
    for name in ("right", "wrong", "right"):
        monkeypatch.chdir(tmp_path / name)
        assert accepts(peer, **options) is (name == "right")


def test_ssl_cert_dir_without_a_directory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch, SSL_CERT_DIR=os.pathsep)
    with pytest.raises(ssl.SSLError, match="SSL_CERT_DIR"), client_of(1):
        pass


# ---------------------------------------------------------------- contexts of the package


def contexts(port: int) -> dict[str, Callable[[], object]]:
    """Returns ways to use a context of the package that trusts the default certificates."""
    from geventhttpclient.adapters.urllib3 import PoolManager

    def by_option() -> object:
        with client_of(port, ssl_options={"ciphers": "DEFAULT"}) as client:
            return client.get("/page").read()

    def by_factory() -> object:
        with client_of(port, "context") as client:
            return client.get("/page").read()

    def by_urllib3() -> object:
        pools = PoolManager(retries=False, ssl_minimum_version=ssl.TLSVersion.TLSv1_2)
        with closing(pools.connection_from_url(f"https://localhost:{port}")) as pool:
            return pool.request("GET", "/page").data

    return {"option": by_option, "factory": by_factory, "urllib3": by_urllib3}


WAYS_TO_A_CONTEXT = ("option", "factory", "urllib3")


@pytest.mark.parametrize("way", WAYS_TO_A_CONTEXT)
@pytest.mark.parametrize("which", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_context_trusts_file_and_directory_of_the_environment(
    way: str, which: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, peer: Peer, certificates: Certificates
) -> None:
    """The engine does the same, whatever the files in the directory are called."""
    pytest.importorskip("urllib3")
    right, wrong = certificates.ca, certificates.other_ca
    file, other = (right, wrong) if which == "SSL_CERT_FILE" else (wrong, right)
    shutil.copy(other, tmp_path / "any.pem")
    alone(monkeypatch, SSL_CERT_FILE=file, SSL_CERT_DIR=tmp_path)
    assert accepts(peer)
    assert contexts(peer.port)[way]()
    alone(monkeypatch, SSL_CERT_FILE=wrong)
    with pytest.raises(Exception, match="certificate verify failed"):
        contexts(peer.port)[way]()


@pytest.mark.parametrize("way", WAYS_TO_A_CONTEXT)
@pytest.mark.parametrize("which", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_context_of_which_a_store_cannot_be_read_is_refused(
    way: str, which: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, peer: Peer, certificates: Certificates
) -> None:
    pytest.importorskip("urllib3")
    directory = tmp_path / "directory"
    directory.mkdir()
    shutil.copy(certificates.ca, directory)
    looped = tmp_path / "looped" if which == "SSL_CERT_FILE" else directory / "looped"
    looped.symlink_to(looped)
    file = looped if which == "SSL_CERT_FILE" else certificates.ca
    alone(monkeypatch, SSL_CERT_FILE=file, SSL_CERT_DIR=directory)
    with pytest.raises(Exception, match="looped"):
        contexts(peer.port)[way]()
    assert not peer.requests


def urllib3_context_with(**arguments: Any) -> Callable[[str], object]:
    def make(path: str) -> object:
        from geventhttpclient.adapters.urllib3.tls import tls_of

        given = {name: path if value is None else value for name, value in arguments.items()}
        return tls_of("localhost", {"ssl_minimum_version": ssl.TLSVersion.TLSv1_2, **given})

    return make


def client_with(**arguments: Any) -> Callable[[str], object]:
    def make(path: str) -> object:
        given = {name: value(path) if callable(value) else value for name, value in arguments.items()}
        return HTTPClient("localhost", 1, ssl=True, **given).close()

    return make


def httplib_with(path: str) -> object:
    from geventhttpclient.httplib import HTTPSConnection

    connection = HTTPSConnection("localhost", 1)
    connection.cert_file = path  # type: ignore[attr-defined]
    return connection._context


NAMED: dict[str, Callable[[str], object]] = {
    "verify": client_with(verify=str),
    "verify, context": client_with(verify=str, ssl_options={"ciphers": "DEFAULT"}),
    "cert": client_with(verify=False, cert=str),
    "key": client_with(verify=False, cert=lambda path: (__file__, path)),
    "cert, context": client_with(verify=False, cert=str, ssl_options={"ciphers": "DEFAULT"}),
    "key, context": client_with(verify=False, cert=lambda path: (__file__, path), ssl_options={"ciphers": "DEFAULT"}),
    "urllib3": urllib3_context_with(ca_certs=None),
    "urllib3, directory": urllib3_context_with(ca_cert_dir=None),
    "urllib3, cert": urllib3_context_with(cert_file=None, cert_reqs="CERT_NONE"),
    "httplib, cert": httplib_with,
}


@pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("what", ["FIFO", "device"])
def test_file_that_is_not_a_regular_one_is_refused(
    what: str,
    make: Callable[[str], object],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    certificates: Certificates,
) -> None:
    """Opening a FIFO waits for its writer, and blocks all greenlets."""
    pytest.importorskip("urllib3")
    alone(monkeypatch, SSL_CERT_FILE=certificates.ca)
    path = "/dev/tty" if what == "device" else str(tmp_path / "fifo")
    if what == "FIFO":
        os.mkfifo(path)
    if make is NAMED["key"]:
        make = client_with(verify=False, cert=lambda path: (certificates.client.chain, path))
    with impatient(), pytest.raises(ssl.SSLError, match=f"{path} is not a regular file"):
        make(path)


@contextmanager
def impatient() -> Iterator[None]:
    """Makes a call that blocks the process fail."""

    def give_up(*_: object) -> None:
        raise TimeoutError("blocked")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@both_ways
def test_ssl_cert_file_that_is_a_fifo_is_refused(way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    alone(monkeypatch, SSL_CERT_FILE=path)
    with impatient(), pytest.raises(ssl.SSLError, match="SSL_CERT_FILE") as caught, client_of(1, way):
        pass
    assert f"{path} is not a regular file" in str(caught.value)


def test_fifo_in_a_directory_is_passed_over(tmp_path: Path, peer: Peer, certificates: Certificates) -> None:
    """Contexts ignore it, too, whatever its name."""
    directory = hashed(Path(shutil.copy(certificates.ca, tmp_path / "ca.pem")))
    (link,) = (entry for entry in directory.iterdir() if entry.is_symlink())
    os.mkfifo(link.with_suffix(".1"))
    with impatient():
        assert accepts(peer, verify=directory)
        assert accepts(peer, verify=directory, ssl_options={"ciphers": "DEFAULT"})


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such a file is a device")
@both_ways
def test_descriptor_of_a_regular_file_is_read(way: str, peer: Peer, certificates: Certificates) -> None:
    with open(certificates.ca) as file:
        assert accepts(peer, way=way, verify=f"/dev/fd/{file.fileno()}")
