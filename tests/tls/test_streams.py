"""TLS after the handshake: bodies both ways, connections kept and lost, and their ends.

Each test runs with both implementations: the engine's own TLS, and an SSLContext of the caller.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import socket as native_socket
import ssl
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Pool

from geventhttpclient.response import HTTPConnectionClosed
from tests.conftest import TlsNginx
from tests.support.certificates import Certificates
from tests.support.hub import FAILURES, attempt, descriptors, turn, until
from tests.support.openssl_server import SServer, s_server
from tests.support.peer import Conn, serve_ok
from tests.support.scripted import HUGE, OK
from tests.support.tls import WAYS, check_failure, check_whole, client_of, opened, securely_serving, trusting

pytestmark = [pytest.mark.usefixtures("bounded", "names_are_here"), pytest.mark.parametrize("way", WAYS)]

# Bodies that end with the connection: RFC 9112 section 6.3, number 8.
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize("listener", ["tls12", "tls13", "rsa"])
def test_large_download_is_complete(way: str, listener: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    with client_of(tls_nginx.ports[listener], way, ssl_options=trusting(certificates)) as client:
        for _ in range(2):
            assert client.get("/big").read() == (tls_nginx.root / "big").read_bytes()
        assert opened(client) == 1
        check_whole(client)


@pytest.mark.parametrize("length", [1000, 16 * 1024, 16 * 1024 + 1, 1 << 20])
def test_read_in_pieces_is_complete(way: str, length: int, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    expected = (tls_nginx.root / "big").read_bytes()
    digest, total = hashlib.sha256(), 0
    with client_of(tls_nginx.ports["valid"], way, ssl_options=trusting(certificates)) as client:
        response = client.get("/big")
        while piece := response.read(length):
            assert len(piece) == length or total + len(piece) == len(expected)
            digest.update(piece)
            total += len(piece)
        assert digest.digest() == hashlib.sha256(expected).digest()
        check_whole(client)


def test_readline_returns_lines(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    with client_of(tls_nginx.ports["valid"], way, ssl_options=trusting(certificates)) as client:
        response = client.get("/lines")
        lines = list(iter(lambda: response.readline(b"\n"), b""))
        assert b"".join(lines) == (tls_nginx.root / "lines").read_bytes()
        assert len(lines) == 20_000


def test_readinto_fills_the_buffer(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    buffer, parts = bytearray(100_000), []
    with client_of(tls_nginx.ports["valid"], way, ssl_options=trusting(certificates)) as client:
        response = client.get("/lines")
        while count := response.readinto(buffer):
            parts.append(bytes(buffer[:count]))
    assert b"".join(parts) == (tls_nginx.root / "lines").read_bytes()


@pytest.mark.parametrize("make", [bytes, lambda data: iter([data[:70_000], data[70_000:]])], ids=["bytes", "chunked"])
def test_upload_is_echoed(way: str, make: Callable[[bytes], object], certificates: Certificates) -> None:
    def echo(conn: Conn) -> None:
        while request := conn.read_request():
            conn.respond(request.body)

    data = bytes(range(256)) * 20_000  # 5 MB
    with securely_serving(certificates, echo, way=way) as (peer, client):
        for _ in range(2):
            assert client.post("/", make(data)).read() == data
        assert len(peer.conns) == 1


def test_upload_from_a_file_is_complete(way: str, certificates: Certificates, tmp_path: Path) -> None:
    """With plain HTTP the kernel sends it (`sendfile`); here every byte has to be encrypted first."""

    def digest(conn: Conn) -> None:
        request = conn.read_request()
        assert request is not None
        conn.respond(hashlib.sha256(request.body).hexdigest().encode())

    path = tmp_path / "body"
    path.write_bytes(bytes(range(256)) * 10_000)
    with securely_serving(certificates, digest, way=way) as (_, client), path.open("rb") as file:
        answer = client.post("/", file).read().decode()
    assert answer == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("ending", ["stays", "closes"])
def test_early_response_to_an_upload_is_returned(way: str, ending: str, certificates: Certificates) -> None:
    """Both sides have more data than the socket buffers: a send that blocks or fails must not lose the response."""

    def script(conn: Conn) -> None:
        conn.read_head()
        conn.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much")
        if ending == "stays":
            done.wait()

    done = Event()
    with securely_serving(certificates, script, serve_ok, way=way, network_timeout=15) as (peer, client):
        response = client.post("/", bytes(HUGE))
        assert response.status_code == 413
        assert response.read() == b"too much"
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 2
        done.set()


def test_large_refusal_before_the_upload_is_read_is_returned(way: str, certificates: Certificates) -> None:
    """The server reads only after it has sent its response: a client that only writes would wait for ever."""

    def script(conn: Conn) -> None:
        conn.read_head()
        conn.respond(answer, status="403 Forbidden")
        conn.wait_closed()

    answer = bytes(range(256)) * 40_000
    with securely_serving(certificates, script, serve_ok, way=way, network_timeout=15) as (_, client):
        assert client.post("/", bytes(HUGE)).read() == answer
        assert client.get("/next").read() == b"/next"


def test_body_in_single_bytes_is_read(way: str, certificates: Certificates) -> None:
    """Each byte is a record."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send_bytewise(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
        serve_ok(conn)

    with securely_serving(certificates, script, way=way) as (peer, client):
        assert client.get("/").read() == b"body"
        assert client.get("/next").read() == b"/next"
        assert len(peer.conns) == 1


def test_hub_runs_during_a_download(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    with client_of(tls_nginx.ports["valid"], way, ssl_options=trusting(certificates)) as client:
        response = client.get("/big")
        counter = gevent.spawn(count)
        try:
            assert len(response.read()) == 20 << 20
        finally:
            counter.kill()
    assert turns >= 10


# ---------------------------------------------------------------- reused connections


def test_connection_is_reused_for_many_requests(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    page = (tls_nginx.root / "page").read_bytes()
    with client_of(tls_nginx.ports["valid"], way, ssl_options=trusting(certificates)) as client:
        for _ in range(200):
            assert client.get("/page").read() == page
        assert opened(client) == 1


def test_ten_greenlets_use_ten_connections(way: str, certificates: Certificates) -> None:
    """There are as many concurrent requests as connections, each with its own response."""

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if len(peer.requests) >= 10:
                together.set()
            together.wait()
            conn.respond(request.target.encode() * 1000)

    together = Event()
    with securely_serving(certificates, script, way=way, concurrency=10) as (peer, client):
        targets = [f"/{i}" for i in range(100)]
        bodies = Pool(10).map(lambda target: client.get(target).read(), targets)
        assert bodies == [target.encode() * 1000 for target in targets]
        assert len(peer.conns) == 10
        check_whole(client)


def says_goodbye(conn: Conn) -> None:
    conn.send_close_notify()
    conn.close()


def says_goodbye_and_stays(conn: Conn) -> None:
    conn.send_close_notify()


def goes(conn: Conn) -> None:
    conn.close()


def is_gone(conn: Conn) -> None:
    conn.reset()


def talks_on(conn: Conn) -> None:
    conn.send_at_once(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake")


def breaks_a_record(conn: Conn) -> None:
    """A record that was not encrypted, which is a bad_record_mac (RFC 8446 section 6.2)."""
    os.write(conn.sock.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))


@pytest.mark.parametrize("ending", [says_goodbye, says_goodbye_and_stays, goes, is_gone, talks_on, breaks_a_record])
def test_idle_connection_that_is_unusable_is_replaced(
    way: str, ending: Callable[[Conn], None], certificates: Certificates
) -> None:
    """The next request, even if it is not idempotent, uses another connection."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(OK)
        go.wait()
        ending(conn)
        ended.set()
        done.wait()

    go, ended, done = Event(), Event(), Event()
    with securely_serving(certificates, script, serve_ok, way=way) as (peer, client):
        assert client.get("/first").read() == b"ok"
        go.set()
        ended.wait()
        assert client.post("/next", b"x").read() == b"/next"
        assert [request.target for request in peer.requests] == ["/first", "/next"]
        assert len(peer.conns) == 2
        check_whole(client)
        done.set()


def wait_acknowledged(sock: native_socket.socket) -> None:
    """Waits until what was sent lies in the other end's socket: a loaded kernel delivers it a while later."""
    while sys.platform == "linux" and struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]:
        time.sleep(0.001)


@pytest.mark.parametrize("length", [1_050_000, 2_110_000])
def test_unrequested_response_behind_a_large_body_is_discarded(
    way: str, length: int, certificates: Certificates
) -> None:
    """The body ends just before its reader yields to other greenlets, and the loop does not run before the next
    request: the kernel has to be asked for unsolicited data all the same."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.valid.chain, certificates.valid.key)
    # In threads, and with blocking waits: the hub must not run.
    sent, read, planted = threading.Event(), threading.Event(), threading.Event()

    def serve() -> None:
        with listener, context.wrap_socket(listener.accept()[0], server_side=True) as first:
            for _ in range(3):  # so that the kernel enlarges its buffer
                first.recv(65_536)
                first.sendall(head % 40_000_000 + bytes(40_000_000))
            first.recv(65_536)
            first.sendall(head % length)
            first.sendall(bytes(length))
            sent.set()
            assert read.wait(20)
            first.sendall(head % 7 + b"planted")
            wait_acknowledged(first)
            planted.set()
            with context.wrap_socket(listener.accept()[0], server_side=True) as second:
                second.recv(65_536)
                second.sendall(OK)

    with native_socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:
        listener.settimeout(20)
        serving = executor.submit(serve)
        with client_of(listener.getsockname()[1], way, ssl_options=trusting(certificates)) as client:
            for _ in range(3):
                assert len(client.get("/warm").read()) == 40_000_000
            response = client.get("/large")
            sent.wait(2)  # as much as the kernel's buffer holds
            assert len(response.read()) == length
            read.set()
            assert planted.wait(20)
            assert client.post("/next", b"x").read() == b"ok"
            assert opened(client) == 2
        serving.result()


def test_key_update_keeps_an_idle_connection(way: str, certificates: Certificates) -> None:
    """KeyUpdate (RFC 8446 section 4.6.3), which requests one in return, arrives while the connection is idle."""

    def answered(server: SServer, target: str) -> bytes:
        request = gevent.spawn(lambda: client.get(target).read())
        server.read_until(f"GET {target} HTTP/1.1\r\n".encode(), b"\r\n\r\n")
        server.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
        body: bytes = request.get(timeout=10)
        return body

    with (
        s_server(certificates.valid, "-msg") as server,
        client_of(server.port, way, ssl_options=trusting(certificates)) as client,
    ):
        assert answered(server, "/first") == b"ok\n"
        for target in ("/second", "/third"):
            server.say(b"K\n")
            server.read_until(b">>>", b"KeyUpdate")
            turn()
            assert answered(server, target) == b"ok\n"
        assert opened(client) == 1


# ---------------------------------------------------------------- the end of a body


def test_close_by_a_real_server_ends_a_body(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    with client_of(
        tls_nginx.ports["valid"],
        way,
        ssl_options=trusting(certificates),
        version="HTTP/1.0",
        headers={"Accept-Encoding": "gzip"},
    ) as client:
        response = client.get("/gzip/lines")
        assert response["content-encoding"] == "gzip"
        assert response.content_length is None
        assert gzip.decompress(response.read()) == (tls_nginx.root / "lines").read_bytes()
        check_whole(client)


@pytest.mark.parametrize("then", ["closes", "stays"])
def test_close_notify_ends_a_body_without_a_length(way: str, then: str, certificates: Certificates) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(ENDLESS + b"all of it")
        conn.send_close_notify()
        if then == "stays":
            conn.wait_closed()

    with securely_serving(certificates, script, serve_ok, way=way) as (_, client):
        assert client.get("/").read() == b"all of it"
        assert client.get("/next").read() == b"/next"


def falls_silent(conn: Conn) -> None:
    """FIN."""
    conn.close()


READS: list[Callable[..., object]] = [
    lambda response: response.read(),
    lambda response: list(iter(lambda: response.read(4), b"")),
    lambda response: list(iter(lambda: response.readline(b"\n"), b"")),
    lambda response: list(response),
]


@pytest.mark.parametrize("ending", [falls_silent, Conn.reset])
@pytest.mark.parametrize("read", READS, ids=["read", "read(4)", "readline", "iteration"])
def test_close_without_close_notify_is_an_error_for_a_body_without_a_length(
    way: str, read: Callable[..., object], ending: Callable[[Conn], None], certificates: Certificates
) -> None:
    """An attacker can cut a connection: only close_notify proves that the server has closed it."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(ENDLESS + b"some\nof\nit")
        head_read.wait()
        ending(conn)

    head_read = Event()
    with securely_serving(certificates, script, serve_ok, way=way) as (peer, client):
        response = client.get("/")
        head_read.set()
        with pytest.raises(FAILURES) as caught:
            read(response)
        check_failure(caught.value, peer.port, phase="body")
        check_whole(client)
        assert client.get("/next").read() == b"/next"


@pytest.mark.parametrize("says", [says_goodbye, falls_silent, Conn.reset])
@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
    ],
    ids=["counted", "chunked"],
)
def test_body_that_ends_early_is_an_error(
    way: str, begun: bytes, says: Callable[[Conn], None], certificates: Certificates
) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(begun)
        head_read.wait()
        says(conn)

    head_read = Event()
    with securely_serving(certificates, script, serve_ok, way=way) as (peer, client):
        response = client.get("/")
        head_read.set()
        with pytest.raises(FAILURES) as caught:
            response.read()
        check_failure(caught.value, peer.port, phase="body")
        check_whole(client)
        assert client.get("/next").read() == b"/next"


@pytest.mark.parametrize("says", [says_goodbye, falls_silent])
def test_close_without_a_response_is_an_error(
    way: str, says: Callable[[Conn], None], certificates: Certificates
) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        says(conn)

    with securely_serving(certificates, script, serve_ok, way=way) as (peer, client):
        with pytest.raises((HTTPConnectionClosed, OSError)) as caught:
            client.get("/")
        check_failure(caught.value, peer.port, phase="head")
        check_whole(client)
        assert client.get("/next").read() == b"/next"


def test_invalid_record_is_an_error(way: str, certificates: Certificates) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome")
        head_read.wait()
        breaks_a_record(conn)
        conn.wait_closed()

    head_read = Event()
    with securely_serving(certificates, script, serve_ok, way=way) as (peer, client):
        response = client.get("/")
        head_read.set()
        with pytest.raises(ssl.SSLError, match=r"(?i)decrypt") as caught:
            response.read()
        check_failure(caught.value, peer.port, phase="body")
        assert client.get("/next").read() == b"/next"


# ---------------------------------------------------------------- abandoned bodies


@pytest.fixture
def halfway() -> Iterator[tuple[Callable[[Conn], None], Event]]:
    """Returns a script that sends a part of a body and waits, and an event that is set when it waits."""
    held = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000))
        held.set()
        conn.wait_closed()

    yield script, held
    held.set()


def test_read_of_a_body_can_be_killed(
    way: str, halfway: tuple[Callable[[Conn], None], Event], certificates: Certificates
) -> None:
    script, held = halfway
    with securely_serving(certificates, script, serve_ok, way=way) as (peer, client):
        greenlet = gevent.spawn(attempt, lambda: client.get("/").read())
        held.wait()
        turn()
        greenlet.kill()
        assert isinstance(greenlet.value, gevent.GreenletExit)
        until(lambda: peer.conns[0].hung_up.is_set())
        check_whole(client)
        assert client.get("/next").read() == b"/next"


def test_read_of_a_body_can_be_ended_by_a_gevent_timeout(
    way: str, halfway: tuple[Callable[[Conn], None], Event], certificates: Certificates
) -> None:
    script, _ = halfway
    with securely_serving(certificates, script, serve_ok, way=way) as (peer, client):
        response = client.get("/")
        timeout = gevent.Timeout(0.02)
        with pytest.raises(gevent.Timeout) as caught, timeout:
            response.read()
        assert caught.value is timeout
        response.release()
        until(lambda: peer.conns[0].hung_up.is_set())
        check_whole(client)
        assert client.get("/next").read() == b"/next"


def test_read_of_a_body_times_out(
    way: str, halfway: tuple[Callable[[Conn], None], Event], certificates: Certificates
) -> None:
    script, _ = halfway
    with securely_serving(certificates, script, serve_ok, way=way, network_timeout=0.05) as (peer, client):
        response = client.get("/")
        with pytest.raises(TimeoutError) as caught:
            response.read()
        check_failure(caught.value, peer.port, phase="body")
        check_whole(client)
        assert client.get("/next").read() == b"/next"


def test_connections_do_not_leak_descriptors(way: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    with client_of(tls_nginx.ports["valid"], way, ssl_options=trusting(certificates)) as client:
        client.get("/close/page").read()
        before = descriptors()
        for _ in range(50):
            client.get("/close/page").read()
            client.get("/big").release()
        assert len(descriptors()) <= len(before)
        check_whole(client)
