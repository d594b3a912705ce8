"""Certificates for the tests, made for each run in a temporary directory.

Keys are of P-256, which costs next to nothing; one pair has an RSA key. Names that are no address end in `.test`, which
is reserved (RFC 6761).
"""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

import gevent.ssl
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

PASSWORD = "open-sesame"

# Names of this host, for which its certificates are valid.
HERE = ("localhost", "127.0.0.1", "::1")

# Its form on the wire is xn--bcher-kva.test.
IDNA = "bücher.test"

LOCALHOST = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])

EXPIRED_ON = datetime.datetime(2020, 2, 29, 12, 0, 0)
NOT_BEFORE = datetime.datetime(2999, 2, 28, 12, 0, 0)


@dataclass(frozen=True)
class Pair:
    """A certificate, perhaps with others behind it, and its key: two PEM files."""

    chain: Path
    key: Path

    @property
    def der(self) -> bytes:
        """Returns the first certificate in DER, as it is sent."""
        pem = self.chain.read_text().partition("-----END CERTIFICATE-----")
        return ssl.PEM_cert_to_DER_cert(pem[0] + pem[1])

    def server(self, version: ssl.TLSVersion | None = None) -> gevent.ssl.SSLContext:
        """Returns the context of a server with this certificate, limited to `version` if that is given."""
        context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


class Certificates:
    """Certificates of a test run. Authorities are PEM files; certificates of servers and clients are `Pair`s."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        authority, other = trustme.CA(), trustme.CA()
        intermediate = authority.create_child_ca()

        # Authorities: the trusted one, one that has signed the next, an unknown one.
        self.ca = self._authority("ca", authority)
        self.intermediate = self._authority("intermediate", intermediate)
        self.other_ca = self._authority("other-ca", other)

        # Of servers.
        self.valid = self._issue("valid", authority, *HERE)
        self.rsa = self._issue("rsa", authority, *HERE, key_type=trustme.KeyType.RSA)
        self.expired = self._issue("expired", authority, *HERE, not_after=EXPIRED_ON)
        self.early = self._issue("early", authority, *HERE, not_before=NOT_BEFORE)
        self.elsewhere = self._issue("elsewhere", authority, "elsewhere.test", "www.elsewhere.test", "192.0.2.1")
        self.untrusted = self._issue("untrusted", other, *HERE)
        self.self_signed = self._self_signed("self-signed")
        # Certificates of `openssl req -x509` declare themselves to be an authority, too.
        self.self_signed_ca = self._self_signed("self-signed-ca", x509.BasicConstraints(ca=True, path_length=None))
        self.self_signed_expired = self._self_signed("self-signed-expired", days=-1)
        self.self_signed_ca_expired = self._self_signed(
            "self-signed-ca-expired", x509.BasicConstraints(ca=True, path_length=None), days=-1
        )
        self.address = self._issue("address", authority, "127.0.0.1")
        self.common_name = self._unusual("common-name", authority)
        self.for_clients = self._unusual(
            "for-clients",
            authority,
            x509.SubjectAlternativeName([x509.DNSName("localhost")]),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
        )
        self.wildcard = self._issue("wildcard", authority, "*.wild.test")
        self.idna = self._issue("idna", authority, IDNA)
        self.a = self._issue("a", authority, "a.test")
        self.b = self._issue("b", authority, "b.test")
        self.chained = self._issue("chained", intermediate, *HERE)
        # A mistake of many servers: the certificate of the signer is missing.
        self.incomplete = Pair(self._leaf_of("incomplete", self.chained), self.chained.key)
        # With the certificate of an authority that is not trusted.
        both = self.untrusted.chain.read_bytes() + self.other_ca.read_bytes()
        self.with_root = Pair(self._write("with-root", both), self.untrusted.key)

        # Of clients.
        self.client = self._issue("client", authority, "client@example.test", organization_name="The Client")
        self.stranger = self._issue("stranger", other, "client@example.test")
        self.client_together = self.directory / "client-together.pem"
        self.client_together.write_bytes(self.client.key.read_bytes() + self.client.chain.read_bytes())
        self.client_encrypted = self._encrypted("client-encrypted", self.client)

    def _write(self, name: str, data: bytes) -> Path:
        path = self.directory / f"{name}.pem"
        path.write_bytes(data)
        return path

    def _authority(self, name: str, authority: trustme.CA) -> Path:
        return self._write(name, authority.cert_pem.bytes())

    def _issue(self, name: str, authority: trustme.CA, *identities: str, **options: object) -> Pair:
        made = authority.issue_cert(*identities, **options)  # type: ignore[arg-type]
        chain = b"".join(certificate.bytes() for certificate in made.cert_chain_pems)
        return Pair(self._write(name, chain), self._write(f"{name}-key", made.private_key_pem.bytes()))

    def _leaf_of(self, name: str, pair: Pair) -> Path:
        return self._write(name, ssl.DER_cert_to_PEM_cert(pair.der).encode())

    def _self_signed(self, name: str, *extensions: x509.ExtensionType, days: int = 1) -> Pair:
        """Makes a self-signed certificate for localhost that expires in that number of days."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        return self._sign(name, key, LOCALHOST, key, days, names, *extensions)

    def _unusual(self, name: str, authority: trustme.CA, *extensions: x509.ExtensionType) -> Pair:
        """Makes a certificate with localhost only in its subject, which clients ignore; trustme cannot make one."""
        issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
        key = load_pem_private_key(authority.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        # Contexts are strict about this from CPython 3.13 on.
        signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        return self._sign(name, ec.generate_private_key(ec.SECP256R1()), issuer, key, 1, signed_by, *extensions)

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Name,
        issuer_key: ec.EllipticCurvePrivateKey,
        days: int,
        *extensions: x509.ExtensionType,
    ) -> Pair:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder(issuer, LOCALHOST, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(self._write(name, certificate), self._write(f"{name}-key", pem))

    def _encrypted(self, name: str, pair: Pair) -> Pair:
        key = load_pem_private_key(pair.key.read_bytes(), None)
        encryption = BestAvailableEncryption(PASSWORD.encode())
        return Pair(pair.chain, self._write(name, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)))
