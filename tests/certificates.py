"""The certificates of the tests: made anew for each run, in a directory that goes with it.

Keys are of P-256, which costs next to nothing; one pair has an RSA key. Names that are no address end in `.test`, which
nobody ever registers (RFC 6761).
"""

from __future__ import annotations

import datetime
import ssl
import subprocess
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

PASSWORD = "open-sesame"

# What the certificates of this host are for, by any way to name it.
HERE = ("localhost", "127.0.0.1", "::1")

# Its form on the wire is xn--bcher-kva.test.
IDNA = "bücher.test"

EXPIRED_ON = datetime.datetime(2020, 2, 29, 12, 0, 0)
NOT_BEFORE = datetime.datetime(2999, 2, 28, 12, 0, 0)


@dataclass(frozen=True)
class Pair:
    """A certificate, perhaps with others behind it, and its key: two PEM files."""

    chain: Path
    key: Path

    @property
    def der(self) -> bytes:
        """The first certificate, as it is sent."""
        pem = self.chain.read_text().partition("-----END CERTIFICATE-----")
        return ssl.PEM_cert_to_DER_cert(pem[0] + pem[1])

    def server(self, version: ssl.TLSVersion | None = None) -> gevent.ssl.SSLContext:
        """The context of a server that shows it, one that speaks only `version` if that is given."""
        context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


class Certificates:
    """Authorities are PEM files; what a server or a client shows is a `Pair`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        authority, other = trustme.CA(), trustme.CA()
        intermediate = authority.create_child_ca()

        # Authorities: the one to be trusted, one that has signed the next, one that nobody knows.
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
        self.self_signed = self._self_signed("self-signed", "localhost")
        self.address = self._issue("address", authority, "127.0.0.1")
        self.wildcard = self._issue("wildcard", authority, "*.wild.test")
        self.idna = self._issue("idna", authority, IDNA)
        self.a = self._issue("a", authority, "a.test")
        self.b = self._issue("b", authority, "b.test")
        self.chained = self._issue("chained", intermediate, *HERE)
        # As many a server does it, by mistake: without the certificate of the one that has signed it.
        self.incomplete = Pair(self._leaf_of("incomplete", self.chained), self.chained.key)

        # Of clients.
        self.client = self._issue("client", authority, "client@example.test", organization_name="The Client")
        self.stranger = self._issue("stranger", other, "client@example.test")
        self.client_together = self.directory / "client-together.pem"
        self.client_together.write_bytes(self.client.key.read_bytes() + self.client.chain.read_bytes())
        self.client_encrypted = self._encrypted("client-encrypted", self.client)

    def hashed(self, name: str = "ca") -> Path:
        """A directory in which OpenSSL finds that authority by the hash of its name."""
        directory = self.directory / f"hashed-{name}"
        if not directory.exists():
            directory.mkdir()
            (directory / "ca.pem").write_bytes(getattr(self, name).read_bytes())
            subprocess.run(["openssl", "rehash", directory], check=True, stdin=subprocess.DEVNULL)
        return directory

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

    def _self_signed(self, name: str, host: str) -> Pair:
        """One that vouches for itself, and for nobody else: no authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(self._write(name, certificate.public_bytes(Encoding.PEM)), self._write(f"{name}-key", pem))

    def _encrypted(self, name: str, pair: Pair) -> Pair:
        key = load_pem_private_key(pair.key.read_bytes(), None)
        encryption = BestAvailableEncryption(PASSWORD.encode())
        return Pair(pair.chain, self._write(name, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)))
