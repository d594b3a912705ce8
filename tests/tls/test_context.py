"""`ssl_context_factory` and other options that make a client use Python's SSLContext: calls of the factory, changes to
the context, and that settings of the program are kept."""

from __future__ import annotations

import os
import re
import resource
import ssl
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import gevent.ssl
import pytest

import geventhttpclient.connectionpool
import geventhttpclient.tls
from geventhttpclient import HTTPClient
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.connectionpool import SSLConnectionPool, init_ssl_context
from tests.conftest import TlsNginx
from tests.support.certificates import PASSWORD, Certificates
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.scripted import OK
from tests.support.tls import WAYS, check_whole, client_of, facts, hashed, opened, own_factory, trusting
from tests.support.wait_points import BIG

pytestmark = pytest.mark.usefixtures("bounded", "names_are_here")

both_ways = pytest.mark.parametrize("way", WAYS)

Factory = Callable[..., ssl.SSLContext]


def context_of(client: HTTPClient) -> ssl.SSLContext | None:
    pool = client._connection_pool
    assert isinstance(pool, SSLConnectionPool)
    return pool.ssl_context


def returning(context: ssl.SSLContext) -> Factory:
    """Returns a factory that takes any arguments and returns an existing context."""
    return lambda **_: context


def verifying(certificates: Certificates) -> ssl.SSLContext:
    """Returns a context that a program has configured, including the CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.ca)
    return context


# ---------------------------------------------------------------- the call of a factory


def test_factory_is_called_once_for_each_client_with_the_ca_file(certificates: Certificates) -> None:
    def factory(*arguments: Any, **named: Any) -> ssl.SSLContext:
        calls.append((arguments, named))
        return ssl.create_default_context(*arguments, **named)

    calls: list[tuple[Any, Any]] = []
    for _ in range(2):
        HTTPClient("localhost", ssl=True, ssl_context_factory=factory, ssl_options=trusting(certificates)).close()
    assert calls == [((), {"cafile": str(certificates.ca)})] * 2


def test_factory_without_a_ca_file_gets_that_of_the_system(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def factory(cafile: str | None) -> ssl.SSLContext:
        files.append(cafile)
        return ssl.create_default_context(cafile=cafile)

    files: list[str | None] = []
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    HTTPClient("localhost", ssl=True, ssl_context_factory=factory).close()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    HTTPClient("localhost", ssl=True, ssl_context_factory=factory).close()
    assert files[0] is None or Path(files[0]).is_file()
    assert files[1] == str(certificates.ca)


@pytest.mark.parametrize("file", ["", "missing.pem"])
def test_directories_of_the_environment_are_trusted(
    file: str, certificates: Certificates, tls_nginx: TlsNginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several directories, some of which may be missing, and a file that may be missing, too, as in OpenSSL."""
    monkeypatch.setenv("SSL_CERT_FILE", file and str(tmp_path / file))
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path / 'missing'}:{hashed(certificates.ca)}")
    for way in WAYS:
        with client_of(tls_nginx.ports["valid"], way) as client:
            assert client.get("/page").tls.verified is True


def test_verify_names_the_ca_file(certificates: Certificates, tls_nginx: TlsNginx) -> None:
    def factory(cafile: str) -> ssl.SSLContext:
        files.append(cafile)
        return ssl.create_default_context(cafile=cafile)

    files: list[str] = []
    options = {"ssl_context_factory": factory, "verify": certificates.ca}
    with closing(HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, **options)) as client:
        assert client.get("/page").tls.verified is True
    assert files == [str(certificates.ca)]


def test_factory_without_arguments_is_called_without_any(certificates: Certificates, tls_nginx: TlsNginx) -> None:
    """The CA certificates are loaded after the call."""

    def factory() -> ssl.SSLContext:
        return context

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    options = {"ssl_context_factory": factory, "ssl_options": trusting(certificates)}
    with closing(HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, **options)) as client:
        assert context_of(client) is context
        assert len(context.get_ca_certs()) == 1
        assert client.get("/page").tls.verified is True


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Cannot set verify_mode to CERT_NONE when check_hostname is enabled."),
        TypeError("of its own"),
        KeyError("any other"),
    ],
)
def test_factory_errors_are_raised_unchanged(error: Exception) -> None:
    def factory(**_: Any) -> ssl.SSLContext:
        raise error

    with pytest.raises(type(error)) as caught:
        HTTPClient("localhost", ssl=True, ssl_context_factory=factory)
    assert caught.value is error


def test_context_errors_are_raised_unchanged() -> None:
    def factory(**named: Any) -> ssl.SSLContext:
        context = ssl.create_default_context(**named)
        context.verify_mode = ssl.CERT_NONE
        return context

    with pytest.raises(ValueError, match="Cannot set verify_mode to CERT_NONE when check_hostname"):
        HTTPClient("localhost", ssl=True, ssl_context_factory=factory)


def test_factory_errors_in_a_client_pool_are_raised_by_get_client() -> None:
    def factory(**_: Any) -> ssl.SSLContext:
        raise ValueError("no context today")

    with HTTPClientPool(ssl_context_factory=factory) as pool:
        pool.get_client("http://localhost/")
        with pytest.raises(ValueError, match="no context today"):
            pool.get_client("https://localhost/")


def test_client_pool_has_the_given_factory() -> None:
    pool = HTTPClientPool(ssl_context_factory=own_factory)
    assert pool.client_args["ssl_context_factory"] is own_factory
    with closing(pool.get_client("https://localhost/")) as client:
        assert client._connection_pool.ssl_context_factory is own_factory  # type: ignore[attr-defined]


def test_factory_can_be_any_callable(certificates: Certificates, tls_nginx: TlsNginx) -> None:
    @dataclass
    class Maker:
        """A callable with __eq__, and therefore not hashable."""

        made: list[ssl.SSLContext] = field(default_factory=list)

        def __call__(self, cafile: str) -> ssl.SSLContext:
            self.made.append(ssl.create_default_context(cafile=cafile))
            return self.made[-1]

    maker = Maker()
    options = {"ssl_context_factory": maker, "ssl_options": trusting(certificates)}
    with closing(HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, **options)) as client:
        assert client.get("/page").tls.verified is True
        assert maker.made == [context_of(client)]


def test_factory_equal_to_pythons_is_not_taken_for_it() -> None:
    class Alike:
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return hash(ssl.create_default_context)

        def __call__(self, **named: Any) -> ssl.SSLContext:
            return ssl.create_default_context(**named)

    with closing(HTTPClient("localhost", ssl=True, ssl_context_factory=Alike())) as client:
        assert context_of(client) is not None


def test_factory_is_not_called_without_tls() -> None:
    def factory(**_: Any) -> ssl.SSLContext:
        raise AssertionError

    HTTPClient("localhost", ssl_context_factory=factory).close()
    HTTPClient.from_url("http://localhost/", ssl_context_factory=factory, ssl_options={"ca_certs": "/none"}).close()


# ---------------------------------------------------------------- Python's own factories

STOCK = {
    "ssl default": ssl.create_default_context,
    "ssl unverified": ssl._create_unverified_context,
    "gevent default": gevent.ssl.create_default_context,
    "gevent unverified": gevent.ssl._create_unverified_context,
}
stock = pytest.mark.parametrize("factory", STOCK.values(), ids=STOCK)


def disguised(factory: Factory) -> Factory:
    """Calls the factory, but has another identity: the result must not depend on it."""
    return lambda **named: factory(**named)


# The server's certificate, `insecure`, and the results with the default and with the unverified context.
OUTCOMES = [
    ("valid", False, True, True),
    ("valid", True, "chain", False),
    ("elsewhere", False, 62, 62),
    ("elsewhere", True, "chain", False),
    ("untrusted", False, 20, 20),
    ("untrusted", True, 20, False),
    ("expired", False, 10, 10),
    ("expired", True, 10, False),
]


@stock
@pytest.mark.parametrize("known", [True, False], ids=["known", "disguised"])
@pytest.mark.parametrize(("shown", "insecure", "default", "unverified"), OUTCOMES)
def test_requests_are_verified_with_the_context(
    factory: Factory,
    known: bool,
    shown: str,
    insecure: bool,
    default: Any,
    unverified: Any,
    tls_nginx: TlsNginx,
    certificates: Certificates,
) -> None:
    """Without `insecure` everything is verified, regardless of the context. With it, the context's checks apply except
    for the name."""
    expected = default if factory in (ssl.create_default_context, gevent.ssl.create_default_context) else unverified
    with closing(
        HTTPClient(
            "localhost",
            tls_nginx.ports[shown],
            ssl=True,
            ssl_context_factory=factory if known else disguised(factory),
            ssl_options=trusting(certificates),
            insecure=insecure,
        )
    ) as client:
        if isinstance(expected, int) and not isinstance(expected, bool):
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                client.get("/page")
            assert caught.value.verify_code == expected
        else:
            assert client.get("/page").tls.verified == expected


@stock
def test_factory_that_replaces_pythons_is_called(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    def other(**named: Any) -> ssl.SSLContext:
        made.append(factory(**named))
        return made[-1]

    made: list[ssl.SSLContext] = []
    for module in (ssl, gevent.ssl):
        monkeypatch.setattr(module, factory.__name__, other)
    options = {"ssl_context_factory": getattr(ssl, factory.__name__), "ssl_options": trusting(certificates)}
    with closing(HTTPClient("localhost", ssl=True, **options)) as client:
        assert [context_of(client)] == made


# ---------------------------------------------------------------- the choice of the TLS implementation


@pytest.mark.parametrize("options", [{}, {"insecure": True}, {"verify": False}, {"ssl_options": {}}])
def test_client_without_a_factory_has_no_context(options: dict[str, Any]) -> None:
    with closing(HTTPClient("localhost", ssl=True, **options)) as client:
        assert context_of(client) is None


@pytest.mark.parametrize(
    "options",
    [
        {"ciphers": "ECDHE+AESGCM"},
        {"options": ssl.OP_NO_TICKET},
        {"verify_flags": ssl.VERIFY_X509_STRICT},
    ],
    ids=["ciphers", "options", "verify_flags"],
)
def test_options_that_need_openssl_use_a_context(options: dict[str, Any]) -> None:
    with closing(HTTPClient("localhost", ssl=True, ssl_options=options)) as client:
        context = context_of(client)
        assert context is not None
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname


def test_ciphers_in_the_format_of_openssl_are_used(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    options = trusting(certificates, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305")
    with client_of(tls_nginx.ports["tls12"], ssl_options=options) as client:
        assert facts(client)["cipher"] == "ECDHE-ECDSA-CHACHA20-POLY1305"
    with pytest.raises(ssl.SSLError, match="No cipher can be selected"):
        HTTPClient("localhost", ssl=True, ssl_options={"ciphers": "NONE-SUCH"})


def test_options_of_openssl_are_set(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    wanted = ssl.OP_ALL | ssl.OP_NO_TICKET
    with client_of(tls_nginx.ports["valid"], "context", ssl_options=trusting(certificates, options=wanted)) as client:
        assert client._connection_pool.ssl_context.options == wanted
        assert client.get("/page").tls.verified is True


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from Linux's /proc")
def test_connections_of_a_context_do_not_leak(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """CPython leaks each session that is read: about 7 KB for each connection."""

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    factory = returning(verifying(certificates))
    with closing(HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, ssl_context_factory=factory)) as client:
        for _ in range(100):
            client.get("/close/page").read()
        before = resident()
        for _ in range(400):
            client.get("/close/page").read()
        assert resident() - before < 1_500_000


def test_verify_flags_of_openssl_are_set(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """With only an intermediate authority trusted: 2 is "unable to get issuer certificate"."""
    for flags, verified in ((ssl.VERIFY_X509_TRUSTED_FIRST, 2), (ssl.VERIFY_X509_PARTIAL_CHAIN, True)):
        options = {"ca_certs": str(certificates.intermediate), "verify_flags": flags}
        with client_of(tls_nginx.ports["chained"], ssl_options=options) as client:
            if verified is True:
                assert client.get("/page").tls.verified is True
            else:
                with pytest.raises(ssl.SSLCertVerificationError) as caught:
                    client.get("/page")
                assert caught.value.verify_code == verified


@pytest.mark.parametrize(("insecure", "verify", "shown"), [(True, True, "elsewhere"), (False, False, "untrusted")])
def test_insecure_and_verify_apply_to_a_context_of_options(
    insecure: bool, verify: bool, shown: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    options = trusting(certificates, ciphers="ECDHE+AESGCM")
    with client_of(tls_nginx.ports[shown], ssl_options=options, insecure=insecure, verify=verify) as client:
        assert client.get("/page").tls.verified == ("chain" if insecure else False)


# ---------------------------------------------------------------- the program's settings


def test_context_is_used_unchanged(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    context = verifying(certificates)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with closing(
        HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, ssl_context_factory=returning(context))
    ) as client:
        assert context_of(client) is context
        response = client.get("/page")
        assert response.read() == (tls_nginx.root / "page").read_bytes()
        assert response.tls.version == "TLSv1.2"
        assert response.tls.verified is True
        assert response.tls.peer_certificate == certificates.valid.der
        assert facts(client)["cipher"] == response.tls.cipher == "ECDHE-ECDSA-AES128-GCM-SHA256"
        assert opened(client) == 1


def test_minimum_version(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    context = verifying(certificates)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with (
        closing(
            HTTPClient("localhost", tls_nginx.ports["tls12"], ssl=True, ssl_context_factory=returning(context))
        ) as client,
        pytest.raises(ssl.SSLError, match=r"(?i)version"),
    ):
        client.get("/page")


def test_alpn(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    for offered, chosen in ((["http/1.1"], "http/1.1"), (None, None)):
        context = verifying(certificates)
        if offered:
            context.set_alpn_protocols(offered)
        with closing(
            HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, ssl_context_factory=returning(context))
        ) as client:
            assert client.get("/page").tls.alpn == chosen


@pytest.mark.parametrize("encrypted", [False, True])
def test_client_certificate_of_a_context_is_sent(
    encrypted: bool, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    pair = certificates.client_encrypted if encrypted else certificates.client
    context = verifying(certificates)
    context.load_cert_chain(pair.chain, pair.key, PASSWORD if encrypted else None)
    with closing(
        HTTPClient("localhost", tls_nginx.ports["clients"], ssl=True, ssl_context_factory=returning(context))
    ) as client:
        assert "O=The Client" in facts(client)["client"]


def test_password_of_a_key_is_not_shown(certificates: Certificates) -> None:
    files = (str(certificates.client.chain), str(certificates.client_encrypted.key), PASSWORD)
    named = dict(zip(("certfile", "keyfile", "password"), files, strict=True))
    for options in ({"cert": files}, {"ssl_options": named}):
        with HTTPClientPool(**options) as clients:
            assert clients.client_args == options
            pool = clients.get_client("https://localhost")._connection_pool
            for thing in (clients.client_args, vars(pool)):
                assert PASSWORD not in repr(thing)


def test_key_log_is_written(tls_nginx: TlsNginx, certificates: Certificates, tmp_path: Path) -> None:
    context = verifying(certificates)
    context.keylog_filename = str(tmp_path / "keys")
    with closing(
        HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, ssl_context_factory=returning(context))
    ) as client:
        client.get("/page").read()
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


def test_client_certificate_requested_after_the_handshake_is_sent(certificates: Certificates) -> None:
    """Authentication after the handshake: RFC 8446 section 4.6.2."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(OK)
        conn.read_request()
        conn.sock.verify_client_post_handshake()
        conn.respond(b"who?")
        request = conn.read_request()
        assert request is not None
        conn.respond(dict(part[0] for part in conn.sock.getpeercert()["subject"])["organizationName"].encode())
        conn.wait_closed()

    server = certificates.valid.server(ssl.TLSVersion.TLSv1_3)
    server.load_verify_locations(certificates.ca)
    server.verify_mode = ssl.CERT_REQUIRED
    server.post_handshake_auth = True
    context = verifying(certificates)
    context.load_cert_chain(certificates.client.chain, certificates.client.key)
    context.post_handshake_auth = True
    with (
        Peer(script, tls=server) as peer,
        closing(HTTPClient("localhost", peer.port, ssl=True, ssl_context_factory=returning(context))) as client,
    ):
        assert client.get("/").read() == b"ok"
        assert client.get("/private").read() == b"who?"
        assert client.get("/private").read() == b"The Client"
        assert opened(client) == 1


def test_change_of_a_context_applies_to_the_next_connection(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    context = verifying(certificates)
    with closing(
        HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, ssl_context_factory=returning(context))
    ) as client:
        first = client.get("/close/page")
        first.read()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        second = client.get("/close/page")
        second.read()
        assert (first.tls.version, second.tls.version) == ("TLSv1.3", "TLSv1.2")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("checks", "shown"), [("chain", "untrusted"), ("name", "elsewhere")])
def test_session_of_a_context_does_not_bypass_its_checks(
    version: ssl.TLSVersion, checks: str, shown: str, certificates: Certificates
) -> None:
    """A resumed session has no certificate: checks that were off in the first handshake would never be performed."""
    context = verifying(certificates)
    context.check_hostname = False
    if checks == "chain":
        context.verify_mode = ssl.CERT_NONE
    server = getattr(certificates, shown).server(version)

    def once(conn: Conn) -> None:
        conn.read_request()
        conn.respond(headers=[("Connection", "close")])

    with (
        Peer(once, tls=server) as peer,
        closing(
            HTTPClient("localhost", peer.port, ssl=True, insecure=True, ssl_context_factory=returning(context))
        ) as client,
    ):
        for _ in range(2):
            client.get("/").read()
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = checks == "name"
        with pytest.raises(ssl.SSLCertVerificationError):
            client.get("/")
        check_whole(client)


class Interrupt(BaseException):
    """An exception that a signal handler raises, at any point in Python code."""


@pytest.mark.parametrize("method", ["do_handshake", "write", "read", "pending"])
def test_exception_of_a_signal_handler_in_the_context_is_raised(method: str, certificates: Certificates) -> None:
    interrupted: list[str] = []

    def interrupting(name: str) -> Callable[..., Any]:
        def call(self: ssl.SSLObject, *arguments: Any) -> Any:
            if name in interrupted:
                interrupted.remove(name)
                raise Interrupt
            return getattr(ssl.SSLObject, name)(self, *arguments)

        return call

    context = verifying(certificates)
    methods = {name: interrupting(name) for name in ("do_handshake", "write", "read", "pending")}
    context.sslobject_class = type("Interrupted", (ssl.SSLObject,), methods)  # type: ignore[misc]
    with (
        Peer(serve_ok, tls=certificates.valid.server()) as peer,
        closing(HTTPClient("localhost", peer.port, ssl=True, ssl_context_factory=returning(context))) as client,
    ):
        if method != "do_handshake":
            client.get("/").read()
        interrupted.append(method)
        with pytest.raises(Interrupt):
            client.get("/").read()
        check_whole(client)
        assert client.get("/again").read() == b"/again"


def test_exception_of_a_signal_handler_during_a_blocked_upload_is_raised(certificates: Certificates) -> None:
    class Interrupted(ssl.SSLObject):
        def read(self, *_: Any) -> bytes:  # type: ignore[override]
            raise Interrupt

    def deaf(conn: Conn) -> None:
        conn.read_head()
        conn.hung_up.wait()

    context = verifying(certificates)
    context.sslobject_class = Interrupted
    with (
        Peer(deaf, tls=certificates.valid.server()) as peer,
        closing(HTTPClient("localhost", peer.port, ssl=True, ssl_context_factory=returning(context))) as client,
    ):
        with pytest.raises(Interrupt):
            client.post("/", b"x" * BIG)
        check_whole(client)
        peer.conns[0].hung_up.set()


def test_context_of_gevent_is_supported(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.ca)
    with closing(
        HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, ssl_context_factory=returning(context))
    ) as client:
        assert client.get("/page").tls.verified is True
        assert client.get("/big").read() == (tls_nginx.root / "big").read_bytes()
        check_whole(client)


def test_context_can_be_shared_by_clients(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """No session is resumed, in a client or between two: CPython leaks each session that is read."""
    factory = returning(verifying(certificates))
    port = tls_nginx.ports["valid"]
    for _ in range(2):
        with closing(HTTPClient("localhost", port, ssl=True, ssl_context_factory=factory, concurrency=2)) as client:
            response = client.get("/page")
            assert response.tls.resumed is False
            response.read()
            with client.get("/big"):
                assert facts(client)["session"] == "."
            assert opened(client) == 2


def test_verification_is_enabled_in_a_context_without_it(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        closing(
            HTTPClient("localhost", tls_nginx.ports["untrusted"], ssl=True, ssl_context_factory=returning(context))
        ) as client,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        client.get("/page")
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_insecure_keeps_the_mode_of_the_context(tls_nginx: TlsNginx) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with closing(
        HTTPClient(
            "localhost", tls_nginx.ports["expired"], ssl=True, ssl_context_factory=returning(context), insecure=True
        )
    ) as client:
        assert client.get("/page").tls.verified is False
    assert context.verify_mode == ssl.CERT_NONE


# ---------------------------------------------------------------- the name


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("spelling", ["Host", "host"])
def test_host_header_with_a_factory_is_the_server_name(
    name: str, spelling: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    """With a factory, it is the requested server name, and the certificate has to be valid for it."""
    options = {"ssl_context_factory": own_factory, "ssl_options": trusting(certificates)}
    with closing(
        HTTPClient("127.0.0.1", tls_nginx.ports["named"], ssl=True, headers={spelling: f"{name}.test"}, **options)
    ) as client:
        response = client.get("/page")
        assert response.tls.peer_certificate == getattr(certificates, name).der
        assert response.tls.verified is True
        assert facts(client)["name"] == f"{name}.test"


@both_ways
@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_ipv6_address_with_and_without_brackets_is_verified(
    way: str, host: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    """URLs and Host headers have brackets, certificates do not."""
    # A name that the certificate does not have: only the name that replaces it can be verified.
    port = tls_nginx.ports["valid"]
    options = trusting(certificates, server_hostname=host)
    with client_of(port, way, "a.test", ssl_options=options) as client:
        assert client.get("/page").tls.verified is True
    if way == "context":
        with client_of(port, way, "a.test", headers={"Host": host}, ssl_options=trusting(certificates)) as client:
            assert client.get("/page").tls.verified is True


def test_server_hostname_takes_precedence_over_a_host_header(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    options = {
        "ssl_context_factory": own_factory,
        "ssl_options": trusting(certificates, server_hostname="b.test"),
        "headers": {"Host": "a.test"},
    }
    with closing(HTTPClient("127.0.0.1", tls_nginx.ports["named"], ssl=True, **options)) as client:
        assert client.get("/page").tls.peer_certificate == certificates.b.der


def test_host_header_without_a_factory_is_not_the_server_name(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """A header that is only meant for the server must not change the name that is verified."""
    with client_of(
        tls_nginx.ports["named"], host="127.0.0.1", headers={"Host": "a.test"}, ssl_options=trusting(certificates)
    ) as client:
        assert client.get("/page").tls.peer_certificate == certificates.valid.der


# ---------------------------------------------------------------- init_ssl_context


def test_init_ssl_context_can_be_imported() -> None:
    assert geventhttpclient.connectionpool.init_ssl_context is geventhttpclient.tls.init_ssl_context


def test_init_ssl_context_verifies_names(certificates: Certificates) -> None:
    context = init_ssl_context(ssl.create_default_context, str(certificates.ca))
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


def test_init_ssl_context_without_check_hostname(certificates: Certificates) -> None:
    context = init_ssl_context(ssl._create_unverified_context, str(certificates.ca), check_hostname=False)
    assert not context.check_hostname
    assert context.verify_mode == ssl.CERT_NONE
    context = init_ssl_context(ssl.create_default_context, str(certificates.ca), False)
    assert not context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_init_ssl_context_applies_options(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    options = {
        "certfile": str(certificates.client.chain),
        "keyfile": str(certificates.client.key),
        "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256",
        "options": ssl.OP_NO_TICKET,
        "verify_flags": ssl.VERIFY_X509_STRICT,
    }
    context = init_ssl_context(own_factory, str(certificates.ca), ssl_options=options)
    assert context.options & ssl.OP_NO_TICKET
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"] == [
        "ECDHE-ECDSA-AES128-GCM-SHA256"
    ]
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with closing(
        HTTPClient("localhost", tls_nginx.ports["clients"], ssl=True, ssl_context_factory=returning(context))
    ) as client:
        assert "O=The Client" in facts(client)["client"]


def test_context_is_used_by_many_greenlets(certificates: Certificates) -> None:
    factory = returning(verifying(certificates))
    with (
        Peer(serve_ok, tls=certificates.valid.server()) as peer,
        closing(HTTPClient("localhost", peer.port, ssl=True, ssl_context_factory=factory, concurrency=5)) as client,
    ):
        calls = [gevent.spawn(lambda i=i: client.get(f"/{i}").read()) for i in range(50)]
        assert [call.get(timeout=10) for call in calls] == [f"/{i}".encode() for i in range(50)]
        assert len(peer.conns) == 5
        check_whole(client)


@pytest.mark.parametrize("given", [{"keyfile": "key.pem"}, {"keyfile": "key.pem", "password": "secret"}, {}])
def test_client_certificate_is_loaded_with_keyword_arguments(given: dict[str, str]) -> None:
    context = MagicMock(spec=ssl.SSLContext)
    options = {"certfile": "cert.pem", **given}
    assert init_ssl_context(lambda **_: context, None, True, options) is context
    context.load_cert_chain.assert_called_once_with(**options)


def test_client_certificate_missing_file_is_named(certificates: Certificates, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.pem")
    for files in ((gone, str(certificates.client.key)), (str(certificates.client.chain), gone)):
        with pytest.raises(FileNotFoundError, match=re.escape(gone)):
            geventhttpclient.tls.load_cert_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), *files)
