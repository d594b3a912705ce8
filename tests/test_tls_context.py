"""`ssl_context_factory`, and what else makes a client do TLS by an SSLContext of Python's: how the factory is called,
what is done to the context, and that whatever the program has set in it holds."""

from __future__ import annotations

import os
import resource
import ssl
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent.ssl
import pytest

import geventhttpclient.connectionpool
import geventhttpclient.tls
from geventhttpclient import HTTPClient
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.connectionpool import SSLConnectionPool, init_ssl_context
from tests.certificates import PASSWORD, Certificates
from tests.conftest import TlsNginx
from tests.peer import Conn, Peer, serve_ok
from tests.phases import BIG
from tests.support import OK
from tests.tls import WAYS, check_whole, client_of, facts, hashed, opened, own_factory, trusting

pytestmark = pytest.mark.usefixtures("bounded", "names_are_here")

both_ways = pytest.mark.parametrize("way", WAYS)

Factory = Callable[..., ssl.SSLContext]


def context_of(client: HTTPClient) -> ssl.SSLContext | None:
    pool = client._connection_pool
    assert isinstance(pool, SSLConnectionPool)
    return pool.ssl_context


def returning(context: ssl.SSLContext) -> Factory:
    """A factory that takes any arguments, and has its context already."""
    return lambda **_: context


def verifying(certificates: Certificates) -> ssl.SSLContext:
    """A context that a program has made ready, CA and all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.ca)
    return context


# ---------------------------------------------------------------- how a factory is called


def test_it_is_called_once_for_each_client_with_the_ca_file(certificates: Certificates) -> None:
    def factory(*arguments: Any, **named: Any) -> ssl.SSLContext:
        calls.append((arguments, named))
        return ssl.create_default_context(*arguments, **named)

    calls: list[tuple[Any, Any]] = []
    for _ in range(2):
        HTTPClient("localhost", ssl=True, ssl_context_factory=factory, ssl_options=trusting(certificates)).close()
    assert calls == [((), {"cafile": str(certificates.ca)})] * 2


def test_without_a_ca_file_it_is_called_with_that_of_the_system(
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
def test_directories_of_the_environment(
    file: str, certificates: Certificates, tls_nginx: TlsNginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenSSL has them: several, some of which may not be there, beside a file that need not be there either."""
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


def test_one_that_takes_no_arguments_is_called_without(certificates: Certificates, tls_nginx: TlsNginx) -> None:
    """The CA certificates are loaded afterwards."""

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
def test_its_errors_come_out_as_they_are(error: Exception) -> None:
    def factory(**_: Any) -> ssl.SSLContext:
        raise error

    with pytest.raises(type(error)) as caught:
        HTTPClient("localhost", ssl=True, ssl_context_factory=factory)
    assert caught.value is error


def test_an_error_of_the_context_itself_comes_out_as_it_is() -> None:
    def factory(**named: Any) -> ssl.SSLContext:
        context = ssl.create_default_context(**named)
        context.verify_mode = ssl.CERT_NONE
        return context

    with pytest.raises(ValueError, match="Cannot set verify_mode to CERT_NONE when check_hostname"):
        HTTPClient("localhost", ssl=True, ssl_context_factory=factory)


def test_errors_of_clients_of_a_pool_come_when_they_are_made() -> None:
    def factory(**_: Any) -> ssl.SSLContext:
        raise ValueError("no context today")

    with HTTPClientPool(ssl_context_factory=factory) as pool:
        pool.get_client("http://localhost/")
        with pytest.raises(ValueError, match="no context today"):
            pool.get_client("https://localhost/")


def test_the_pool_of_clients_knows_the_factory_it_was_given() -> None:
    pool = HTTPClientPool(ssl_context_factory=own_factory)
    assert pool.client_args["ssl_context_factory"] is own_factory
    with closing(pool.get_client("https://localhost/")) as client:
        assert client._connection_pool.ssl_context_factory is own_factory  # type: ignore[attr-defined]


def test_any_callable_will_do(certificates: Certificates, tls_nginx: TlsNginx) -> None:
    @dataclass
    class Maker:
        """Equal to others like it, and so not to be hashed."""

        made: list[ssl.SSLContext] = field(default_factory=list)

        def __call__(self, cafile: str) -> ssl.SSLContext:
            self.made.append(ssl.create_default_context(cafile=cafile))
            return self.made[-1]

    maker = Maker()
    options = {"ssl_context_factory": maker, "ssl_options": trusting(certificates)}
    with closing(HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, **options)) as client:
        assert client.get("/page").tls.verified is True
        assert maker.made == [context_of(client)]


def test_one_that_equals_pythons_is_not_pythons() -> None:
    class Alike:
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return hash(ssl.create_default_context)

        def __call__(self, **named: Any) -> ssl.SSLContext:
            return ssl.create_default_context(**named)

    with closing(HTTPClient("localhost", ssl=True, ssl_context_factory=Alike())) as client:
        assert context_of(client) is not None


def test_a_factory_is_not_asked_where_there_is_no_tls() -> None:
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
    """The same, but not to be known by its identity: what comes of it must not depend on that."""
    return lambda **named: factory(**named)


# What is shown, whether `insecure`, and what comes of it with the default and with the unverified context.
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
def test_what_is_verified_with_pythons_own(
    factory: Factory,
    known: bool,
    shown: str,
    insecure: bool,
    default: Any,
    unverified: Any,
    tls_nginx: TlsNginx,
    certificates: Certificates,
) -> None:
    """Without `insecure` everything is, whatever the context would do. With it, all that the context does but for the
    name."""
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
def test_one_put_in_the_place_of_pythons_is_the_one_that_is_called(
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


# ---------------------------------------------------------------- which way is taken


@pytest.mark.parametrize("options", [{}, {"insecure": True}, {"verify": False}, {"ssl_options": {}}])
def test_without_a_factory_there_is_no_context(options: dict[str, Any]) -> None:
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
def test_what_only_openssl_can_do_takes_a_context(options: dict[str, Any]) -> None:
    with closing(HTTPClient("localhost", ssl=True, ssl_options=options)) as client:
        context = context_of(client)
        assert context is not None
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname


def test_ciphers_in_the_language_of_openssl(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    options = trusting(certificates, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305")
    with client_of(tls_nginx.ports["tls12"], ssl_options=options) as client:
        assert facts(client)["cipher"] == "ECDHE-ECDSA-CHACHA20-POLY1305"
    with pytest.raises(ssl.SSLError, match="No cipher can be selected"):
        HTTPClient("localhost", ssl=True, ssl_options={"ciphers": "NONE-SUCH"})


def test_options_of_openssl(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    wanted = ssl.OP_ALL | ssl.OP_NO_TICKET
    with client_of(tls_nginx.ports["valid"], "context", ssl_options=trusting(certificates, options=wanted)) as client:
        assert client._connection_pool.ssl_context.options == wanted
        assert client.get("/page").tls.verified is True


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from Linux's /proc")
def test_connections_of_a_context_leave_nothing_behind(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """CPython leaks each session that it is asked for: some 7 KB for a connection."""

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


def test_verify_flags_of_openssl(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """With an intermediate authority as all that is trusted: 2 is "unable to get issuer certificate"."""
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
def test_less_is_checked_there_too(
    insecure: bool, verify: bool, shown: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    options = trusting(certificates, ciphers="ECDHE+AESGCM")
    with client_of(tls_nginx.ports[shown], ssl_options=options, insecure=insecure, verify=verify) as client:
        assert client.get("/page").tls.verified == ("chain" if insecure else False)


# ---------------------------------------------------------------- what the program has set holds


def test_the_context_is_used_as_it_is(tls_nginx: TlsNginx, certificates: Certificates) -> None:
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
def test_the_certificate_of_a_client(encrypted: bool, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    pair = certificates.client_encrypted if encrypted else certificates.client
    context = verifying(certificates)
    context.load_cert_chain(pair.chain, pair.key, PASSWORD if encrypted else None)
    with closing(
        HTTPClient("localhost", tls_nginx.ports["clients"], ssl=True, ssl_context_factory=returning(context))
    ) as client:
        assert "O=The Client" in facts(client)["client"]


def test_the_password_of_a_key_is_not_shown(certificates: Certificates) -> None:
    files = (str(certificates.client.chain), str(certificates.client_encrypted.key), PASSWORD)
    named = dict(zip(("certfile", "keyfile", "password"), files, strict=True))
    for options in ({"cert": files}, {"ssl_options": named}):
        with HTTPClientPool(**options) as clients:
            assert clients.client_args == options
            pool = clients.get_client("https://localhost")._connection_pool
            for thing in (clients.client_args, vars(pool)):
                assert PASSWORD not in repr(thing)


def test_the_log_of_keys(tls_nginx: TlsNginx, certificates: Certificates, tmp_path: Path) -> None:
    context = verifying(certificates)
    context.keylog_filename = str(tmp_path / "keys")
    with closing(
        HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, ssl_context_factory=returning(context))
    ) as client:
        client.get("/page").read()
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


def test_a_certificate_that_is_asked_for_later(certificates: Certificates) -> None:
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


def test_a_change_of_the_context_holds_from_the_next_connection_on(
    tls_nginx: TlsNginx, certificates: Certificates
) -> None:
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
def test_a_session_of_a_context_is_no_way_around_what_it_checks_by_now(
    version: ssl.TLSVersion, checks: str, shown: str, certificates: Certificates
) -> None:
    """Whoever took a session up would be shown no certificate: what was not checked when it began never would be."""
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
    """What a signal's handler may raise, wherever Python runs."""


@pytest.mark.parametrize("method", ["do_handshake", "write", "read", "pending"])
def test_what_a_signal_raises_in_the_context_comes_out(method: str, certificates: Certificates) -> None:
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


def test_what_a_signal_raises_while_an_upload_is_stuck_comes_out(certificates: Certificates) -> None:
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


def test_a_context_of_gevents(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.ca)
    with closing(
        HTTPClient("localhost", tls_nginx.ports["valid"], ssl=True, ssl_context_factory=returning(context))
    ) as client:
        assert client.get("/page").tls.verified is True
        assert client.get("/big").read() == (tls_nginx.root / "big").read_bytes()
        check_whole(client)


def test_one_context_for_many_clients(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    """No session is taken up, in a client or between two: CPython leaks each one that it is asked for."""
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


def test_verification_is_forced_on_a_context_without(tls_nginx: TlsNginx, certificates: Certificates) -> None:
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


def test_insecure_leaves_the_mode_of_the_context(tls_nginx: TlsNginx) -> None:
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
def test_the_name_of_a_clients_own_host_header(
    name: str, spelling: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    """With a factory, it is what is asked for and what the certificate has to be of."""
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
def test_an_address_with_and_without_brackets(
    way: str, host: str, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    """URLs and Host headers have them, certificates have not."""
    # A name that the certificate does not have: only what is said in its place can be verified.
    port = tls_nginx.ports["valid"]
    options = trusting(certificates, server_hostname=host)
    with client_of(port, way, "a.test", ssl_options=options) as client:
        assert client.get("/page").tls.verified is True
    if way == "context":
        with client_of(port, way, "a.test", headers={"Host": host}, ssl_options=trusting(certificates)) as client:
            assert client.get("/page").tls.verified is True


def test_server_hostname_is_stronger_than_a_host_header(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    options = {
        "ssl_context_factory": own_factory,
        "ssl_options": trusting(certificates, server_hostname="b.test"),
        "headers": {"Host": "a.test"},
    }
    with closing(HTTPClient("127.0.0.1", tls_nginx.ports["named"], ssl=True, **options)) as client:
        assert client.get("/page").tls.peer_certificate == certificates.b.der


def test_without_a_factory_a_host_header_is_no_name_of_the_server(
    tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    """What a certificate has to be of is not to be changed by a header that is only meant for the server."""
    with client_of(
        tls_nginx.ports["named"], host="127.0.0.1", headers={"Host": "a.test"}, ssl_options=trusting(certificates)
    ) as client:
        assert client.get("/page").tls.peer_certificate == certificates.valid.der


# ---------------------------------------------------------------- init_ssl_context


def test_it_is_found_where_programs_look_for_it() -> None:
    assert geventhttpclient.connectionpool.init_ssl_context is geventhttpclient.tls.init_ssl_context


def test_init_ssl_context(certificates: Certificates) -> None:
    context = init_ssl_context(ssl.create_default_context, str(certificates.ca))
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


def test_init_ssl_context_without_names(certificates: Certificates) -> None:
    context = init_ssl_context(ssl._create_unverified_context, str(certificates.ca), check_hostname=False)
    assert not context.check_hostname
    assert context.verify_mode == ssl.CERT_NONE
    context = init_ssl_context(ssl.create_default_context, str(certificates.ca), False)
    assert not context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_init_ssl_context_with_options(tls_nginx: TlsNginx, certificates: Certificates) -> None:
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


def test_a_context_makes_connections_for_many_greenlets(certificates: Certificates) -> None:
    factory = returning(verifying(certificates))
    with (
        Peer(serve_ok, tls=certificates.valid.server()) as peer,
        closing(HTTPClient("localhost", peer.port, ssl=True, ssl_context_factory=factory, concurrency=5)) as client,
    ):
        calls = [gevent.spawn(lambda i=i: client.get(f"/{i}").read()) for i in range(50)]
        assert [call.get(timeout=10) for call in calls] == [f"/{i}".encode() for i in range(50)]
        assert len(peer.conns) == 5
        check_whole(client)
