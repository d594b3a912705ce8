"""HTTPSConnection of httplib: its TLS implementation, trust, and the attributes of its socket."""

from __future__ import annotations

import gc
import http.client
import inspect
import json
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gevent
import gevent.ssl
import pytest

from tests.conftest import TlsNginx
from tests.support.certificates import IDNA, Certificates
from tests.support.httplib import OURS, THEIRS, aside, both
from tests.support.hub import descriptors, turn, until
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.scripted import saying


def trusting(certificates: Certificates, module: Any = ssl) -> Any:
    context = module.create_default_context(cafile=str(certificates.ca))
    context.set_alpn_protocols(["http/1.1"])
    return context


def get(connection: Any, target: str = "/") -> bytes:
    connection.request("GET", target)
    response = connection.getresponse()
    assert response.status == 200
    body: bytes = response.read()
    return body


def nothing(_: Certificates) -> dict[str, Any]:
    return {}


def ssl_context(certificates: Certificates) -> dict[str, Any]:
    return {"context": trusting(certificates)}


def gevent_context(certificates: Certificates) -> dict[str, Any]:
    return {"context": trusting(certificates, gevent.ssl)}


# Without a context this package uses the engine's TLS and the certificates of SSL_CERT_FILE, with one OpenSSL's TLS.
MADE = {
    "theirs": (THEIRS, nothing),
    "theirs, context": (THEIRS, ssl_context),
    "ours": (OURS, nothing),
    "ours, context": (OURS, ssl_context),
    "ours, gevent's context": (OURS, gevent_context),
}
NOT_THEIRS = {name: made for name, made in MADE.items() if made[0] is OURS}

Make = Callable[..., Any]


@pytest.fixture
def make(request: pytest.FixtureRequest, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Returns a function that creates a connection to a port of this host; all of them are closed at the end."""
    lib, options = MADE[request.param]
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    made = []

    def make(port: int, host: str = "localhost", **more: Any) -> Any:
        made.append(lib.HTTPSConnection(host, port, **{**options(certificates), **more}))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


each_way = pytest.mark.parametrize("make", MADE, indirect=True)
by_ours = pytest.mark.parametrize("make", NOT_THEIRS, indirect=True)


# -------------------------------------------------------------------------------------- pages, and trusted certificates


@each_way
def test_pages_of_nginx_use_one_connection(make: Make, tls_nginx: TlsNginx) -> None:
    connection = make(tls_nginx.port)
    page = (tls_nginx.root / "page").read_bytes()
    assert [get(connection, "/page") for _ in range(3)] == [page] * 3
    sock = connection.sock
    assert json.loads(get(connection, "/facts"))["name"] == "localhost"
    assert connection.sock is sock
    assert get(connection, "/close/page") == page
    assert connection.sock is None
    assert get(connection, "/page") == page


@each_way
def test_20_megabytes_over_tls_are_read(make: Make, tls_nginx: TlsNginx) -> None:
    assert get(make(tls_nginx.port), "/big") == (tls_nginx.root / "big").read_bytes()


@each_way
def test_lines_over_tls_are_read(make: Make, tls_nginx: TlsNginx) -> None:
    connection = make(tls_nginx.port)
    connection.request("GET", "/lines")
    lines = list(connection.getresponse())
    assert (len(lines), lines[-1]) == (20_000, b"line 19999\n")


@each_way
def test_large_bodies_are_sent(make: Make, certificates: Certificates) -> None:
    with aside(serve_ok, tls=certificates.valid.server()) as peer:
        connection = make(peer.port)
        for body in (b"x" * 3_000_000, [b"ab", b"cd"]):
            connection.request("POST", "/x", body)
            assert connection.getresponse().read() == b"/x"
        assert [request.body for request in peer.requests] == [b"x" * 3_000_000, b"abcd"]


@each_way
@pytest.mark.parametrize("shown", ["expired", "elsewhere", "untrusted", "self_signed", "incomplete"])
def test_certificate_invalid_is_an_error(make: Make, tls_nginx: TlsNginx, shown: str) -> None:
    connection = make(tls_nginx.ports[shown])
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/page")
    connection.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/page")


@each_way
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_names_and_addresses_in_certificates_are_verified(make: Make, tls_nginx: TlsNginx, host: str) -> None:
    assert get(make(tls_nginx.ports["valid"], host), "/page")


@by_ours
@pytest.mark.usefixtures("names_are_here")
def test_names_beyond_ascii_in_certificates_are_verified(make: Make, tls_nginx: TlsNginx) -> None:
    connection = make(tls_nginx.ports["idna"], IDNA)
    assert json.loads(get(connection, "/facts"))["name"] == "xn--bcher-kva.test"
    with pytest.raises(ssl.SSLCertVerificationError):
        get(make(tls_nginx.ports["valid"], IDNA), "/page")


@each_way
def test_tls_1_2_and_1_3_are_supported(make: Make, tls_nginx: TlsNginx) -> None:
    assert json.loads(get(make(tls_nginx.ports["tls12"]), "/facts"))["version"] == "TLSv1.2"
    assert json.loads(get(make(tls_nginx.ports["tls13"]), "/facts"))["version"] == "TLSv1.3"


@each_way
def test_server_without_tls_is_an_error(make: Make) -> None:
    def answer(conn: Conn) -> None:
        conn.read_exactly(1)
        conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with aside(answer) as peer, pytest.raises(ssl.SSLError):
        make(peer.port).request("GET", "/")


@both
def test_unverified_context_accepts_any_certificate(lib: Any, tls_nginx: TlsNginx) -> None:
    for context in (ssl._create_unverified_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for shown in ("self_signed", "elsewhere", "expired"):
            with closing(lib.HTTPSConnection("localhost", tls_nginx.ports[shown], context=context)) as connection:
                assert get(connection, "/page")
                assert connection.sock.getpeercert() == {}


@both
@pytest.mark.parametrize("kind", ["stock", "own"])
def test_default_context_can_be_replaced(
    lib: Any, kind: str, tls_nginx: TlsNginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    chosen = ssl._create_unverified_context if kind == "stock" else own
    monkeypatch.setattr(ssl, "_create_default_https_context", chosen)
    with closing(lib.HTTPSConnection("localhost", tls_nginx.ports["self_signed"])) as connection:
        assert get(connection, "/page")


@both
def test_context_without_check_hostname_verifies_only_the_chain(
    lib: Any, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    context = trusting(certificates)
    context.check_hostname = False
    with closing(lib.HTTPSConnection("localhost", tls_nginx.ports["elsewhere"], context=context)) as connection:
        assert get(connection, "/page")
    with (
        closing(lib.HTTPSConnection("localhost", tls_nginx.ports["untrusted"], context=context)) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        get(connection, "/page")


@both
def test_client_certificate_of_a_context_is_sent(lib: Any, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    context = trusting(certificates)
    context.load_cert_chain(certificates.client.chain, certificates.client.key)
    with closing(lib.HTTPSConnection("localhost", tls_nginx.ports["clients"], context=context)) as connection:
        assert "The Client" in json.loads(get(connection, "/facts"))["client"]
    with closing(
        lib.HTTPSConnection("localhost", tls_nginx.ports["clients"], context=trusting(certificates))
    ) as connection:
        connection.request("GET", "/facts")
        assert connection.getresponse().status == 400


OLD_ARGUMENTS = "key_file" in inspect.signature(http.client.HTTPSConnection.__init__).parameters


@both
def test_client_certificate_files_are_sent(
    lib: Any, tls_nginx: TlsNginx, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lib is THEIRS and not OLD_ARGUMENTS:
        pytest.skip("gone in Python 3.12")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    files = {"key_file": str(certificates.client.key), "cert_file": str(certificates.client.chain)}
    for more in ({}, {"context": trusting(certificates)}):
        with pytest.warns(DeprecationWarning, match="key_file, cert_file and check_hostname are deprecated"):
            connection = lib.HTTPSConnection("localhost", tls_nginx.ports["clients"], **files, **more)
        with closing(connection):
            assert "The Client" in json.loads(get(connection, "/facts"))["client"]


@pytest.mark.parametrize("given_context", [False, True])
def test_client_certificate_files_invalid_are_rejected_by_the_constructor(
    given_context: bool, certificates: Certificates, tmp_path: Path
) -> None:
    prose = tmp_path / "prose.pem"
    prose.write_text("No certificate.\n")
    chain, key = str(certificates.client.chain), str(certificates.client.key)
    wrong: list[tuple[str, str | None, type[Exception]]] = [
        (str(prose), str(prose), ssl.SSLError),
        (str(prose), None, ssl.SSLError),
        (chain, str(prose), ssl.SSLError),
        (chain, None, ssl.SSLError),
        (chain, str(certificates.valid.key), ssl.SSLError),
        (str(tmp_path / "none.pem"), key, FileNotFoundError),
        (chain, str(tmp_path / "none.pem"), FileNotFoundError),
    ]
    for cert_file, key_file, error in wrong:
        context = {"context": trusting(certificates)} if given_context else {}
        with pytest.warns(DeprecationWarning, match="deprecated"), pytest.raises(error):
            OURS.HTTPSConnection("localhost", cert_file=cert_file, key_file=key_file, **context)


@pytest.mark.parametrize("given_context", [False, True])
def test_key_without_certificate_is_rejected_by_name(given_context: bool, certificates: Certificates) -> None:
    context = {"context": trusting(certificates)} if given_context else {}
    with pytest.warns(DeprecationWarning, match="deprecated"), pytest.raises(ValueError, match="needs a certfile"):
        OURS.HTTPSConnection("localhost", key_file=str(certificates.client.key), **context)


@both
def test_check_hostname_argument_applies(lib: Any, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    if lib is THEIRS and not OLD_ARGUMENTS:
        pytest.skip("gone in Python 3.12")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = trusting(certificates)
        connection = lib.HTTPSConnection(
            "localhost", tls_nginx.ports["elsewhere"], context=context, check_hostname=False
        )
        with closing(connection):
            assert get(connection, "/page")
        assert context.check_hostname is False
        unverified = ssl._create_unverified_context()
        with pytest.raises(ValueError, match="check_hostname needs a SSL context"):
            lib.HTTPSConnection("localhost", context=unverified, check_hostname=True)


@both
def test_ports_and_attributes_are_set(lib: Any) -> None:
    context = ssl.create_default_context()
    connection = lib.HTTPSConnection("a.test", context=context)
    assert (connection.host, connection.port, connection.default_port) == ("a.test", 443, 443)
    assert connection._context is context
    assert lib.HTTPSConnection("a.test:8443").port == 8443
    assert lib.HTTPSConnection("a.test", 8443, timeout=3, blocksize=77).timeout == 3
    assert isinstance(connection, lib.HTTPConnection)
    without = lib.HTTPSConnection("a.test")
    assert (without._context.check_hostname, without._context.verify_mode) == (True, ssl.CERT_REQUIRED)


@each_way
def test_context_of_a_connection_can_be_changed(make: Make, tls_nginx: TlsNginx) -> None:
    connection = make(tls_nginx.ports["elsewhere"])
    connection._context.check_hostname = False
    assert get(connection, "/page")


# ----------------------------------------------------------------------------------------------------------- the socket


@each_way
def test_attributes_of_the_socket(make: Make, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    connection = make(tls_nginx.ports["tls13"])
    connection.connect()
    sock = connection.sock
    assert sock.version() == "TLSv1.3"
    name, _, bits = sock.cipher()
    assert name.startswith("TLS_")
    assert bits in (128, 256)
    assert sock.getpeercert(True) == sock.getpeercert(binary_form=True) == certificates.valid.der
    shown = sock.getpeercert()
    assert ("DNS", "localhost") in shown["subjectAltName"]
    assert {"issuer", "subject", "notAfter", "notBefore", "serialNumber", "version"} <= set(shown)
    assert sock.selected_alpn_protocol() == "http/1.1"
    assert sock.getpeername() == ("127.0.0.1", tls_nginx.ports["tls13"])
    assert sock.fileno() > 2
    sock.settimeout(5)
    assert sock.gettimeout() == 5
    assert get(connection, "/page")


@each_way
def test_getpeercert_equals_that_of_the_ssl_module(make: Make, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    connection = make(tls_nginx.port)
    connection.connect()
    with socket.create_connection(("127.0.0.1", tls_nginx.port)) as raw:
        stock = trusting(certificates).wrap_socket(raw, server_hostname="localhost")
        expected = stock.getpeercert()
        stock.close()
    assert connection.sock.getpeercert() == expected


@each_way
def test_socket_can_be_used_directly(make: Make, certificates: Certificates) -> None:
    def echo(conn: Conn) -> None:
        while line := conn.read_line():
            conn.send(line)

    with aside(echo, tls=certificates.valid.server()) as peer:
        connection = make(peer.port)
        connection.connect()
        connection.sock.sendall(b"one\n")
        assert connection.sock.recv(2) == b"on"
        buffer = bytearray(4)
        assert connection.sock.recv_into(buffer) == 2
        with connection.sock.makefile("rb") as file:
            connection.sock.sendall(b"two\n")
            assert file.readline() == b"two\n"
        connection.close()


# -------------------------------------------------------------------------------------------------------------- tunnels


def tunnelling(certificates: Certificates) -> Callable[[Conn], None]:
    """Runs a proxy that opens a tunnel to itself."""

    def script(conn: Conn) -> None:
        request = conn.read_head()
        assert request is not None
        conn.requests.append(request)
        conn.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        conn.secure(certificates.valid.server())
        serve_ok(conn)

    return script


@each_way
def test_tunnel_to_a_tls_server_is_used(make: Make, certificates: Certificates) -> None:
    with aside(tunnelling(certificates)) as peer:
        connection = make(peer.port, "127.0.0.1")
        connection.set_tunnel("localhost", 8443, {"Proxy-Authorization": "Basic eDp5"})
        assert [get(connection, "/1"), get(connection, "/2")] == [b"/1", b"/2"]
        asked, first, _ = peer.conns[0].requests
        assert asked.line.split()[:2] == ["CONNECT", "localhost:8443"]
        assert asked.get("proxy-authorization") == "Basic eDp5"
        assert (first.get("host"), first.get("proxy-authorization")) == ("localhost:8443", None)
        assert connection.sock.version() == "TLSv1.3"


@each_way
def test_tunnel_to_another_host_fails_verification(make: Make, certificates: Certificates) -> None:
    with aside(tunnelling(certificates)) as peer:
        connection = make(peer.port, "127.0.0.1")
        connection.set_tunnel("other.test", 443)
        with pytest.raises(ssl.SSLCertVerificationError):
            connection.request("GET", "/")


@each_way
def test_tunnel_to_a_tls_server_refused_is_an_error(make: Make) -> None:
    def refuse(conn: Conn) -> None:
        conn.read_head()
        conn.send(b"HTTP/1.1 403 Not you\r\nContent-Length: 0\r\n\r\n")

    with aside(refuse) as peer:
        connection = make(peer.port, "127.0.0.1")
        connection.set_tunnel("localhost")
        with pytest.raises(OSError, match="Tunnel connection failed: 403 Not you"):
            connection.request("GET", "/")
        assert connection.sock is None


# ---------------------------------------------------------------------------------------------- timeouts and interrupts


@each_way
def test_handshake_without_an_answer_times_out(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = make(silent.getsockname()[1], timeout=0.05)
        with pytest.raises(TimeoutError):
            connection.request("GET", "/")


@each_way
def test_timeout_in_a_body_over_tls_is_raised(make: Make, certificates: Certificates) -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"
    with aside(saying(short), tls=certificates.valid.server()) as peer:
        connection = make(peer.port, timeout=5)
        connection.connect()
        connection.sock.settimeout(0.05)
        connection.request("GET", "/")
        response = connection.getresponse()
        with pytest.raises(TimeoutError):
            response.read()


@each_way
def test_body_without_a_length_ends_with_close_notify(make: Make, certificates: Certificates) -> None:
    def until_close(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)
        conn.send_close_notify()

    with aside(until_close, tls=certificates.valid.server()) as peer:
        assert get(make(peer.port)) == b"x" * 100_000


@by_ours
def test_body_without_a_length_without_close_notify_is_incomplete(make: Make, certificates: Certificates) -> None:
    def break_off(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\n\r\nx")

    with aside(break_off, tls=certificates.valid.server()) as peer:
        connection = make(peer.port)
        connection.request("GET", "/")
        with pytest.raises(http.client.IncompleteRead) as caught:
            connection.getresponse().read()
        assert caught.value.partial == b"x"


@by_ours
@pytest.mark.usefixtures("bounded")
def test_connection_killed_in_the_handshake_or_later_can_be_used_again(make: Make, certificates: Certificates) -> None:
    context = certificates.valid.server()

    def stuck(conn: Conn) -> None:
        conn.wait_closed()

    def no_answer(conn: Conn) -> None:
        conn.secure(context)
        conn.read_request()
        conn.wait_closed()

    def good(conn: Conn) -> None:
        conn.secure(context)
        serve_ok(conn)

    with Peer(stuck, no_answer, good) as peer:
        connection = make(peer.port)
        for n in range(2):
            greenlet = gevent.spawn(get, connection)
            until(lambda n=n: len(peer.conns) > n and (n == 0 or peer.conns[n].requests))
            turn()
            assert not greenlet.ready()
            greenlet.kill()
            connection.close()
        assert get(connection, "/again") == b"/again"


@by_ours
def test_descriptors_do_not_leak(make: Make, certificates: Certificates) -> None:
    with Peer(tls=certificates.valid.server()) as peer:

        def use() -> None:
            connection = make(peer.port)
            get(connection)
            connection.request("GET", "/")
            connection.getresponse()
            connection.close()

        use()
        gc.collect()
        until(lambda: peer.open_now == 0)
        before = len(descriptors())
        gc.disable()
        try:
            for _ in range(10):
                use()
            until(lambda: peer.open_now == 0 and len(descriptors()) <= before)
        finally:
            gc.enable()


@pytest.mark.parametrize("module", [ssl, gevent.ssl], ids=["ssl", "gevent.ssl"])
def test_tls_socket_of_the_program_is_closed_after_both_users_have_closed_it(
    module: Any, certificates: Certificates
) -> None:
    context = trusting(certificates, module)

    class Connection(OURS.HTTPSConnection):  # type: ignore[misc]
        def connect(self) -> None:
            raw = (gevent.socket if module is gevent.ssl else socket).create_connection((self.host, self.port))
            self.sock = context.wrap_socket(raw, server_hostname="localhost")

    def last(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 300_000)
        conn.send_close_notify()

    gc.disable()
    try:
        with aside(last, tls=certificates.valid.server()) as peer:
            connection = Connection("127.0.0.1", peer.port)
            connection.connect()
            sock = connection.sock
            connection.request("GET", "/")
            response = connection.getresponse()
            assert connection.sock is None
            assert len(response.read()) == 300_000
            response.close()
            assert sock.fileno() == -1
    finally:
        gc.enable()


def test_missing_files_of_the_environment_are_an_error(
    tls_nginx: TlsNginx, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    connection = OURS.HTTPSConnection("localhost", tls_nginx.port)
    with pytest.raises(OSError, match="none"):
        connection.request("GET", "/page")
