"""The extension network_stream of the transports for httpx and httpx2: another protocol after 101 or CONNECT."""

from __future__ import annotations

import gc
import ssl
import sys
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.exceptions import ConcurrentObjectUseError

from tests.support.certificates import Certificates
from tests.support.httpx_packages import Package, package
from tests.support.hub import run, until
from tests.support.peer import Conn, Peer
from tests.support.websocket_peer import speak_websocket

__all__ = ["package"]

pytestmark = pytest.mark.usefixtures("bounded")

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
UPGRADE = {"Connection": "Upgrade", "Upgrade": "echo"}
MEBIBYTE = 1024 * 1024


def switch(conn: Conn) -> None:
    assert conn.read_request() is not None
    conn.send(SWITCHING)


def echo(conn: Conn) -> None:
    """Switches protocols and returns every byte until the client closes."""
    switch(conn)
    while data := conn.sock.recv(65536):
        conn.send(data)
    conn.hung_up.set()


def wait(conn: Conn) -> None:
    switch(conn)
    conn.wait_closed()


def upgraded(client: Any, url: str) -> Any:
    return client.stream("GET", url, headers=UPGRADE)


@pytest.fixture(params=["plain", "native", "context"])
def secured(request: pytest.FixtureRequest, certificates: Certificates) -> Callable[..., Any]:
    """Returns a function that makes a peer and the options of a transport which trusts it, for each kind of TLS."""

    def make(script: Callable[[Conn], object]) -> tuple[Peer, dict[str, Any]]:
        if request.param == "plain":
            return Peer(script), {}
        trusted: Any = str(certificates.ca)
        if request.param == "context":
            trusted = ssl.create_default_context(cafile=trusted)
        return Peer(script, tls=certificates.valid.server()), {"verify": trusted}

    return make


def test_switching_protocols_gives_a_stream_for_the_other_protocol(package: Package) -> None:
    def script(conn: Conn) -> None:
        request = conn.read_request()
        assert request is not None
        assert request.get("upgrade") == "echo"
        # The first bytes of the protocol arrive with the head.
        conn.send(SWITCHING + b"welcome")
        assert conn.read_exactly(4) == b"ping"
        conn.send(b"pong")
        conn.wait_closed()

    with Peer(script) as peer, package.client() as client, upgraded(client, peer.url) as response:
        assert (response.status_code, response.headers["upgrade"]) == (101, "echo")
        stream = response.extensions["network_stream"]
        assert stream.read(4) == b"welc"
        assert stream.read(100) == b"ome"
        stream.write(b"ping")
        assert stream.read(100, timeout=5) == b"pong"


def test_response_of_an_upgrade_has_no_body_and_closes_the_connection(package: Package) -> None:
    limits = package.package.Limits(max_connections=1)
    with Peer(wait) as peer, package.client(limits=limits) as client:
        for _ in range(3):
            response = client.get(peer.url, headers=UPGRADE)
            assert (response.status_code, response.content) == (101, b"")
            peer.conns[-1].hung_up.wait()
            with pytest.raises(package.core.ReadError, match="closed"):
                response.extensions["network_stream"].read(1)


def test_connection_of_a_dropped_response_is_closed(package: Package) -> None:
    with Peer(wait) as peer, package.client() as client:
        response = client.send(client.build_request("GET", peer.url, headers=UPGRADE), stream=True)
        assert response.status_code == 101
        del response
        # httpx's responses are part of a cycle.
        gc.collect()
        peer.conns[0].hung_up.wait()


def test_one_greenlet_reads_while_another_writes(package: Package, secured: Callable[..., Any]) -> None:
    peer, options = secured(echo)
    data = bytes(range(256)) * (8 * MEBIBYTE // 256)
    with peer, package.client(**options) as client, upgraded(client, peer.url.replace("127.0.0.1", "localhost")) as r:
        stream = r.extensions["network_stream"]
        # Far more than the buffers of both sockets: neither side can go on unless the other does.
        writer = gevent.spawn(lambda: [stream.write(data[at : at + 100_000]) for at in range(0, len(data), 100_000)])
        received = bytearray()
        while len(received) < len(data):
            received += stream.read(65536)
        writer.get()
        assert bytes(received) == data


def test_short_messages_both_ways_wake_the_reader(package: Package, secured: Callable[..., Any]) -> None:
    peer, options = secured(echo)
    with peer, package.client(**options) as client, upgraded(client, peer.url.replace("127.0.0.1", "localhost")) as r:
        stream = r.extensions["network_stream"]
        received: list[bytes] = []

        def read() -> None:
            while len(b"".join(received)) < 600:
                received.append(stream.read(1000))

        reader = gevent.spawn(read)
        for number in range(100):
            stream.write(b"%6d" % number)
            gevent.sleep(0)
        reader.get()
        assert b"".join(received) == b"".join(b"%6d" % number for number in range(100))


def test_second_reader_gets_an_error_and_the_first_goes_on(package: Package) -> None:
    go_on = Event()

    def script(conn: Conn) -> None:
        switch(conn)
        go_on.wait()
        conn.send(b"late")
        conn.wait_closed()

    with Peer(script) as peer, package.client() as client, upgraded(client, peer.url) as response:
        stream = response.extensions["network_stream"]
        first = gevent.spawn(stream.read, 10)
        gevent.sleep(0)
        with pytest.raises(ConcurrentObjectUseError, match="another greenlet"):
            stream.read(10)
        go_on.set()
        assert first.get() == b"late"


def test_timeouts_are_those_of_the_package(package: Package) -> None:
    with Peer(wait) as peer, package.client() as client, upgraded(client, peer.url) as response:
        stream = response.extensions["network_stream"]
        with pytest.raises(package.core.ReadTimeout):
            stream.read(1, timeout=0.01)
        with pytest.raises(package.core.ReadTimeout):
            stream.read(1, timeout=0)
        # The connection is as good as before.
        stream.write(b"still here", timeout=5)
        assert peer.conns[0].sock.fileno() >= 0


def test_write_to_a_peer_that_reads_nothing_times_out(package: Package) -> None:
    done = Event()

    def script(conn: Conn) -> None:
        switch(conn)
        done.wait()

    with Peer(script) as peer, package.client() as client, upgraded(client, peer.url) as response:
        stream = response.extensions["network_stream"]
        with pytest.raises(package.core.WriteTimeout):
            stream.write(bytes(32 * MEBIBYTE), timeout=0.05)
        done.set()


def test_end_of_the_peer_is_read_as_no_bytes(package: Package) -> None:
    with Peer(switch) as peer, package.client() as client, upgraded(client, peer.url) as response:
        stream = response.extensions["network_stream"]
        assert stream.read(10) == b""
        assert stream.read(10) == b""


def test_reset_by_the_peer_is_a_read_error(package: Package) -> None:
    def script(conn: Conn) -> None:
        switch(conn)
        assert conn.read_exactly(1) == b"x"
        conn.reset()

    with Peer(script) as peer, package.client() as client, upgraded(client, peer.url) as response:
        stream = response.extensions["network_stream"]
        stream.write(b"x")
        with pytest.raises(package.core.ReadError):
            stream.read(10)


def test_reset_while_another_greenlet_writes_is_an_error_of_both(package: Package, secured: Callable[..., Any]) -> None:
    ready = Event()

    def script(conn: Conn) -> None:
        switch(conn)
        ready.wait()
        conn.reset()

    peer, options = secured(script)
    with peer, package.client(**options) as client, upgraded(client, peer.url.replace("127.0.0.1", "localhost")) as r:
        stream = r.extensions["network_stream"]
        reader, writer = gevent.spawn(stream.read, 10), gevent.spawn(stream.write, bytes(32 * MEBIBYTE))
        gevent.sleep(0)
        ready.set()
        gevent.joinall([reader, writer], timeout=10)
        assert isinstance(reader.exception, package.core.ReadError)
        assert isinstance(writer.exception, package.core.WriteError)


def test_size_of_a_read_that_is_invalid_leaves_the_connection_as_it_is(package: Package) -> None:
    with Peer(echo) as peer, package.client() as client, upgraded(client, peer.url) as response:
        stream = response.extensions["network_stream"]
        with pytest.raises(ValueError, match="negative buffersize"):
            stream.read(-1)
        stream.write(b"abc")
        # More than there is memory for.
        assert stream.read(1 << 62) == b"abc"


def test_closed_client_closes_its_upgraded_connections(package: Package) -> None:
    with Peer(wait) as peer:
        client = package.client()
        response = client.send(client.build_request("GET", peer.url, headers=UPGRADE), stream=True)
        reader = gevent.spawn(response.extensions["network_stream"].read, 10)
        gevent.sleep(0)
        client.close()
        assert reader.get(timeout=10) == b""
        peer.conns[0].hung_up.wait()


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_switch_that_was_not_asked_for_is_a_protocol_error(package: Package, method: str) -> None:
    limits = package.package.Limits(max_connections=1)
    with Peer(wait) as peer, package.client(limits=limits) as client:
        for _ in range(2):
            with pytest.raises(package.package.RemoteProtocolError, match="without being asked"):
                client.request(method, peer.url)
            peer.conns[-1].hung_up.wait()


def test_close_by_another_greenlet_ends_a_wait(package: Package, secured: Callable[..., Any]) -> None:
    peer, options = secured(wait)
    with peer, package.client(**options) as client, upgraded(client, peer.url.replace("127.0.0.1", "localhost")) as r:
        stream = r.extensions["network_stream"]
        reader = gevent.spawn(stream.read, 10)
        gevent.sleep(0)
        stream.close()
        assert reader.get() == b""
        with pytest.raises(package.core.WriteError, match="closed"):
            stream.write(b"x")
        peer.conns[0].hung_up.wait()


@pytest.mark.parametrize("end", ["kill", "timeout"])
def test_interrupted_reader_closes_the_connection_and_frees_the_slot(package: Package, end: str) -> None:
    limits = package.package.Limits(max_connections=1)
    with Peer(wait) as peer, package.client(limits=limits) as client:

        def read() -> None:
            with upgraded(client, peer.url) as response:
                response.extensions["network_stream"].read(10)

        for number in range(3):
            if end == "kill":
                reader = gevent.spawn(read)
                until(lambda expected=number + 1: len(peer.requests) == expected)  # type: ignore[misc]
                gevent.sleep(0)
                reader.kill()
            else:
                with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
                    read()
            peer.conns[number].hung_up.wait()


def test_killed_writer_ends_the_reader(package: Package) -> None:
    done = Event()

    def script(conn: Conn) -> None:
        switch(conn)
        done.wait()

    with Peer(script) as peer, package.client() as client, upgraded(client, peer.url) as response:
        stream = response.extensions["network_stream"]
        reader = gevent.spawn(stream.read, 10)
        writer = gevent.spawn(stream.write, bytes(32 * MEBIBYTE))
        gevent.sleep(0.01)
        # Some of its bytes were sent: the connection cannot be used any more.
        writer.kill()
        assert reader.get(timeout=5) == b""
        done.set()


def test_connect_gives_a_tunnel_for_tls(package: Package, certificates: Certificates) -> None:
    def script(conn: Conn) -> None:
        request = conn.read_request()
        assert request is not None
        assert (request.method, request.target) == ("CONNECT", "localhost:443")
        conn.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        conn.secure(certificates.valid.server())
        inner = conn.read_request()
        assert inner is not None
        conn.respond(inner.target.encode())
        conn.wait_closed()

    with Peer(script) as peer, package.client() as client:
        extensions = {"target": b"localhost:443"}
        with client.stream("CONNECT", peer.url, extensions=extensions) as response:
            stream = response.extensions["network_stream"]
            assert stream.get_extra_info("ssl_object") is None
            context = ssl.create_default_context(cafile=str(certificates.ca))
            stream = stream.start_tls(context, server_hostname="localhost", timeout=5)
            stream.write(b"GET /inner HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"/inner"):
                answer += stream.read(1000)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert stream.get_extra_info("ssl_object").version() == "TLSv1.3"


def test_start_tls_with_a_wrong_name_is_a_connect_error(package: Package, certificates: Certificates) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            conn.secure(certificates.valid.server())

    with Peer(script) as peer, package.client() as client:
        with client.stream("CONNECT", peer.url, extensions={"target": b"localhost:443"}) as response:
            stream = response.extensions["network_stream"]
            context = ssl.create_default_context(cafile=str(certificates.ca))
            with pytest.raises(package.core.ConnectError, match=r"other\.example"):
                stream.start_tls(context, server_hostname="other.example")
        peer.conns[0].hung_up.wait()


def test_refused_connect_is_an_ordinary_response(package: Package) -> None:
    with Peer(lambda conn: conn.read_request() and conn.respond(b"no", "403 Forbidden")) as peer, package.client() as c:
        response = c.request("CONNECT", peer.url, extensions={"target": b"localhost:443"})
        assert (response.status_code, response.content) == (403, b"no")


def test_extra_info_of_an_upgraded_connection(package: Package, secured: Callable[..., Any]) -> None:
    peer, options = secured(echo)
    with peer, package.client(**options) as client, upgraded(client, peer.url.replace("127.0.0.1", "localhost")) as r:
        stream = r.extensions["network_stream"]
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", peer.port)
        assert stream.get_extra_info("client_addr")[0] == "127.0.0.1"
        assert stream.get_extra_info("socket").fileno() >= 0
        assert stream.get_extra_info("unknown") is None
        tls = stream.get_extra_info("ssl_object")
        assert (tls is not None) == bool(options)
        if options:
            assert tls.version() == "TLSv1.3"
        stream.write(b"x")
        until(lambda: stream.get_extra_info("is_readable"))
        assert stream.read(1) == b"x"


def test_extra_info_of_an_ordinary_response(package: Package, certificates: Certificates) -> None:
    with Peer(tls=certificates.valid.server()) as peer, package.client(verify=str(certificates.ca)) as client:
        stream = client.get(f"https://localhost:{peer.port}/").extensions["network_stream"]
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", peer.port)
        tls = stream.get_extra_info("ssl_object")
        assert (tls.version(), tls.selected_alpn_protocol()) == ("TLSv1.3", None)
        assert ("DNS", "localhost") in tls.getpeercert()["subjectAltName"]
        with pytest.raises(RuntimeError, match="only after 101"):
            stream.read(1)
        with pytest.raises(RuntimeError, match="only after 101"):
            stream.write(b"x")
        stream.close()
        assert client.get(f"https://localhost:{peer.port}/again").text == "/again"
        assert len(peer.conns) == 1


def test_upgrade_uses_http1_although_the_server_offers_http2(package: Package, certificates: Certificates) -> None:
    context = certificates.valid.server()
    context.set_alpn_protocols(["h2", "http/1.1"])
    options = {"http2": True, "verify": str(certificates.ca)}
    with (
        Peer(echo, tls=context) as peer,
        package.client(**options) as client,
        upgraded(client, f"https://localhost:{peer.port}/") as response,
    ):
        assert response.http_version == "HTTP/1.1"
        stream = response.extensions["network_stream"]
        stream.write(b"abc")
        assert stream.read(3) == b"abc"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="httpx2 requires Python 3.11")
def test_websocket_of_httpx2_works_with_monkey_patching() -> None:
    with Peer(speak_websocket) as peer:
        outcome = run("upgrades.websocket", peer.url.replace("http", "ws"))
    assert outcome.clean().strip() == "done"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="httpx2 requires Python 3.11")
def test_use_in_another_thread_is_an_error_that_names_monkey_patching() -> None:
    with Peer(echo) as peer:
        error, warning, read = run("upgrades.from_another_thread", peer.url).clean().splitlines()
    assert error.startswith("ReadError(")
    assert "gevent.monkey.patch_all()" in error
    assert warning.startswith("RuntimeWarning")
    assert "gevent.monkey.patch_all()" in warning
    assert read == "b'x'"
