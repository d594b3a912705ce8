"""Connections of httplib on real sockets: the documented behaviour of http.client, and what its users rely on."""

from __future__ import annotations

import gc
import http.client
import io
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.event import Event

from tests.conftest import Nginx
from tests.support.httplib import OURS, aside, both, outcome
from tests.support.hub import attempt, descriptors, in_thread, turn, until
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.scripted import HUGE, OK, saying, saying_then_closing

PAGE = bytes(range(256)) * 2 + b"x" * 103


def get(connection: Any, target: str = "/", **options: Any) -> bytes:
    """Sends a GET request, which must succeed, and reads the body."""
    connection.request("GET", target, **options)
    response = connection.getresponse()
    assert response.status == 200
    body: bytes = response.read()
    return body


@pytest.fixture
def silent() -> Iterator[int]:
    """Yields a port that accepts connections, and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# -------------------------------------------------------------------------------------------------------- a real server


@both
def test_pages_of_nginx_are_read(lib: Any, nginx: Nginx) -> None:
    with closing(lib.HTTPConnection("127.0.0.1", nginx.port)) as connection:
        for _ in range(3):
            assert get(connection, "/page") == PAGE
        sock = connection.sock
        connection.request("HEAD", "/page")
        response = connection.getresponse()
        assert (response.getheader("content-length"), response.read()) == (str(len(PAGE)), b"")
        connection.request("GET", "/nowhere")
        response = connection.getresponse()
        assert (response.status, response.reason) == (404, "Not Found")
        assert b"404" in response.read()
        connection.request("POST", "/echo-length", b"x" * 100_000)
        assert connection.getresponse().read() == b"100000"
        assert connection.sock is sock
        connection.request("GET", "/close/page")
        response = connection.getresponse()
        # The connection now belongs to its response.
        assert connection.sock is None
        assert response.will_close
        assert response.read() == PAGE
        assert get(connection, "/page") == PAGE


@both
def test_bodies_of_every_kind_arrive(lib: Any) -> None:
    bodies: list[tuple[Any, bytes]] = [
        (b"bytes", b"bytes"),
        ("caf\xe9", b"caf\xe9"),
        (bytearray(b"array"), b"array"),
        (io.BytesIO(b"file" * 5000), b"file" * 5000),
        (io.StringIO("text\xe9"), b"text\xe9"),
        ([b"a", b"b"], b"ab"),
        ((piece for piece in (b"c", b"d")), b"cd"),
        (b"x" * (5 << 20), b"x" * (5 << 20)),
        (b"", b""),
        (None, b""),
    ]
    with aside() as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        for body, _ in bodies:
            connection.request("POST", "/", body)
            assert connection.getresponse().read() == b"/"
        assert [request.body for request in peer.requests] == [expected for _, expected in bodies]
        assert len(peer.conns) == 1


@both
def test_sock_is_set_after_connect(lib: Any) -> None:
    with aside() as peer, closing(lib.HTTPConnection(peer.host, peer.port, timeout=7)) as connection:
        assert connection.sock is None
        connection.connect()
        sock = connection.sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.gettimeout() == sock.timeout == 7
        assert get(connection) == b"/"
        assert connection.sock is sock


# ------------------------------------------------------------------------------------ keeping alive, closing, reopening


@both
def test_closed_connection_can_be_used_again(lib: Any) -> None:
    with aside() as peer:
        connection = lib.HTTPConnection(peer.host, peer.port)
        connection.close()
        assert get(connection, "/1") == b"/1"
        connection.close()
        assert connection.sock is None
        connection.close()
        assert get(connection, "/2") == b"/2"
        connection.request("GET", "/3")
        connection.close()
        with pytest.raises(http.client.ResponseNotReady):
            connection.getresponse()
        assert get(connection, "/4") == b"/4"
        connection.close()
        assert len(peer.conns) == 3


@both
def test_request_while_a_response_is_unread_is_an_error(lib: Any) -> None:
    with aside() as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.request("GET", "/1")
        response = connection.getresponse()
        assert response.read(1) == b"/"
        connection.putrequest("GET", "/2")
        with pytest.raises(http.client.ResponseNotReady):
            connection.getresponse()
        assert response.read() == b"1"
        connection.endheaders()
        assert connection.getresponse().read() == b"/2"
        assert len(peer.conns) == 1


def test_request_while_a_response_is_incomplete_is_not_sent() -> None:
    with Peer(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")) as peer:
        connection = OURS.HTTPConnection(peer.host, peer.port)
        connection.request("GET", "/1")
        response = connection.getresponse()
        for again in (lambda: connection.request("GET", "/2"), lambda: connection.putrequest("GET", "/2")):
            with pytest.raises(http.client.CannotSendRequest):
                again()
        assert response.read(5) == b"short"
        connection.close()
        assert len(peer.requests) == 1


@both
def test_unread_response_closed_allows_the_next_request(lib: Any) -> None:
    body = b"x" * 1_000_000

    def large(conn: Conn) -> None:
        while conn.read_request():
            conn.respond(body)

    with aside(large) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.request("GET", "/")
        connection.getresponse().close()
        connection.close()
        assert get(connection) == body


def test_unread_response_closed_closes_its_connection() -> None:
    with Peer(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"), serve_ok) as peer:
        connection = OURS.HTTPConnection(peer.host, peer.port)
        connection.request("GET", "/1")
        response = connection.getresponse()
        response.close()
        until(lambda: peer.conns[0].hung_up.is_set())
        assert get(connection, "/2") == b"/2"
        connection.close()


@both
def test_response_outlives_its_closed_connection(lib: Any) -> None:
    with aside(saying_then_closing(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 500_000)) as peer:
        connection = lib.HTTPConnection(peer.host, peer.port)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert connection.sock is None
        connection.close()
        del connection
        gc.collect()
        assert len(response.read()) == 500_000


@both
def test_close_of_the_connection_closes_a_pending_response(lib: Any) -> None:
    with aside(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")) as peer:
        connection = lib.HTTPConnection(peer.host, peer.port)
        connection.request("GET", "/")
        response = connection.getresponse()
        connection.close()
        assert response.isclosed()
        assert response.read() == b""


@both
def test_connection_close_of_the_server_reconnects(lib: Any) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    with aside(saying_then_closing(answer)) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        assert [get(connection) for _ in range(3)] == [b"ok"] * 3
        assert len(peer.conns) == 3


@both
def test_idle_connection_closed_by_the_server_is_replaced(lib: Any) -> None:
    with aside(saying_then_closing(OK)) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        assert get(connection) == b"ok"
        until(lambda: peer.open_now == 0)
        turn()
        if lib is OURS:
            # Detected before anything is sent: no request is lost.
            assert get(connection) == b"ok"
        else:
            # Detected by sending; the exception closes the connection, so that the next request opens another one.
            with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
                get(connection)
            connection.close()
            assert get(connection) == b"ok"
        assert len(peer.conns) == 2


@both
def test_request_after_a_disconnect_reconnects(lib: Any) -> None:
    def hang_up(conn: Conn) -> None:
        conn.read_request()

    with aside(hang_up, serve_ok) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.request("GET", "/1")
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        assert connection.sock is None
        assert get(connection, "/2") == b"/2"


@both
def test_reset_is_an_oserror_and_closes(lib: Any) -> None:
    def reset(conn: Conn) -> None:
        conn.read_request()
        conn.reset()

    with aside(reset, serve_ok) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.request("GET", "/1")
        with pytest.raises(ConnectionResetError):
            connection.getresponse()
        assert connection.sock is None
        assert get(connection, "/2") == b"/2"


def test_dead_connection_without_auto_open_is_not_reopened() -> None:
    with aside(saying_then_closing(OK)) as peer, closing(OURS.HTTPConnection(peer.host, peer.port)) as connection:
        assert get(connection) == b"ok"
        until(lambda: peer.open_now == 0)
        turn()
        connection.auto_open = 0
        with pytest.raises(http.client.NotConnected):
            get(connection)
        assert len(peer.conns) == 1


@both
def test_early_response_can_be_read_although_sending_failed(lib: Any) -> None:
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwhy?"

    def refuse(conn: Conn) -> None:
        conn.read_head()
        conn.send(answer)
        conn.finish_sending()
        conn.wait_closed()

    with aside(refuse) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.request("POST", "/", b"x" * (1 << 20))
        response = connection.getresponse()
        assert (response.status, response.read()) == (413, b"why?")


# ------------------------------------------------------------------------------------------------------------- timeouts


@both
def test_timeout_of_the_connection_applies(lib: Any, silent: int) -> None:
    connection = lib.HTTPConnection("127.0.0.1", silent, timeout=0.02)
    connection.request("GET", "/")
    with pytest.raises(TimeoutError, match="timed out"):
        connection.getresponse()
    connection.close()


@both
def test_default_timeout_of_sockets_applies(lib: Any, silent: int) -> None:
    socket.setdefaulttimeout(0.02)
    try:
        connection = lib.HTTPConnection("127.0.0.1", silent)
        connection.request("GET", "/")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        assert connection.sock.gettimeout() == 0.02
        connection.close()
        connection = lib.HTTPConnection("127.0.0.1", silent, timeout=None)
        connection.connect()
        assert connection.sock.gettimeout() is None
        connection.close()
        connection = lib.HTTPConnection("127.0.0.1", silent, timeout=3)
        connection.connect()
        assert connection.sock.gettimeout() == 3
        connection.close()
    finally:
        socket.setdefaulttimeout(None)
    connection = lib.HTTPConnection("127.0.0.1", silent)
    connection.connect()
    assert connection.sock.gettimeout() is None
    connection.close()


@both
def test_timeout_applies_to_the_body_and_can_be_set_on_the_socket(lib: Any) -> None:
    with aside(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")) as peer:
        connection = lib.HTTPConnection(peer.host, peer.port, timeout=30)
        connection.connect()
        connection.sock.settimeout(0.02)
        connection.request("GET", "/")
        response = connection.getresponse()
        with pytest.raises(TimeoutError):
            response.read()
        connection.close()


@both
def test_peer_that_does_not_read_times_out(lib: Any, silent: int) -> None:
    connection = lib.HTTPConnection("127.0.0.1", silent, timeout=0.05)
    with pytest.raises(TimeoutError):
        connection.request("POST", "/", b"x" * HUGE)
    connection.close()


# ----------------------------------------------------------------------------------------------- destination and source


@both
def test_refused_connection_raises(lib: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    connection = lib.HTTPConnection("127.0.0.1", port)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            connection.request("GET", "/")
        assert connection.sock is None
        with pytest.raises(http.client.CannotSendRequest):
            connection.request("GET", "/")
        connection.close()


@both
def test_source_address_is_used(lib: Any) -> None:
    with aside() as peer:
        with closing(lib.HTTPConnection(peer.host, peer.port, source_address=("127.0.0.7", 0))) as connection:
            assert get(connection) == b"/"
            assert connection.sock.getsockname()[0] == "127.0.0.7"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with closing(lib.HTTPConnection(peer.host, peer.port, source_address=("", port))) as connection:
            assert get(connection) == b"/"
            assert connection.sock.getsockname()[1] == port


@both
def test_names_and_ipv6_addresses_are_supported(lib: Any) -> None:
    with aside() as peer, closing(lib.HTTPConnection("localhost", peer.port)) as connection:
        assert get(connection) == b"/"
        assert peer.requests[0].get("host") == f"localhost:{peer.port}"
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with aside(family=socket.AF_INET6) as peer, closing(lib.HTTPConnection(f"[::1]:{peer.port}")) as connection:
        assert get(connection) == b"/"
        assert peer.requests[0].get("host") == f"[::1]:{peer.port}"


@both
def test_unknown_name_is_an_error(lib: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(gevent.socket, "getaddrinfo", unknown)
    connection = lib.HTTPConnection("nowhere.test")
    with pytest.raises(socket.gaierror):
        connection.request("GET", "/")


# -------------------------------------------------------------------------------------------------------------- tunnels


def tunnelling(answer: bytes = b"HTTP/1.1 200 Connected\r\nProxy-Agent: x\r\n\r\n") -> Callable[[Conn], None]:
    """Runs a proxy that gives that answer to CONNECT, and then acts as the requested host."""

    def script(conn: Conn) -> None:
        request = conn.read_head()
        assert request is not None
        conn.requests.append(request)
        conn.send(answer)
        serve_ok(conn)

    return script


@both
def test_tunnel_is_used(lib: Any) -> None:
    with aside(tunnelling()) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.set_tunnel("inside.test", 81, {"Proxy-Authorization": "Basic eDp5", "X": "y"})
        assert get(connection, "/1") == b"/1"
        assert get(connection, "/2") == b"/2"
        assert len(peer.conns) == 1
        asked, first, second = peer.conns[0].requests
        assert asked.line.split()[:2] == ["CONNECT", "inside.test:81"]
        assert (asked.get("proxy-authorization"), asked.get("x")) == ("Basic eDp5", "y")
        assert first.line == "GET /1 HTTP/1.1"
        assert first.get("host") == second.get("host") == "inside.test:81"
        assert first.get("proxy-authorization") is None
        with pytest.raises(RuntimeError, match="Can't set up tunnel for established connection"):
            connection.set_tunnel("other.test")


@both
def test_tunnel_default_port_is_used(lib: Any) -> None:
    with aside(tunnelling()) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.set_tunnel("inside.test")
        get(connection)
        asked, first = peer.conns[0].requests
        assert asked.line.split()[1] == "inside.test:80"
        assert first.get("host") == "inside.test"


@both
def test_connect_requests_are_the_same(lib: Any) -> None:
    with aside(tunnelling()) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.set_tunnel("inside.test", 81)
        get(connection)
        heads = peer.conns[0].requests[0].head
    with aside(tunnelling()) as peer, closing(http.client.HTTPConnection(peer.host, peer.port)) as stock:
        stock.set_tunnel("inside.test", 81)
        get(stock)
        assert heads == peer.conns[0].requests[0].head


@both
def test_tunnel_refused_is_an_oserror(lib: Any) -> None:
    answer = b"HTTP/1.1 407 Who are you\r\nContent-Length: 4\r\n\r\nwho?"
    with aside(tunnelling(answer)) as peer:
        connection = lib.HTTPConnection(peer.host, peer.port)
        connection.set_tunnel("inside.test")
        with pytest.raises(OSError, match="Tunnel connection failed: 407 Who are you"):
            connection.request("GET", "/")
        assert connection.sock is None


@both
def test_proxy_without_an_answer_is_an_error(lib: Any) -> None:
    def hang_up(conn: Conn) -> None:
        conn.read_head()

    with aside(hang_up) as peer:
        connection = lib.HTTPConnection(peer.host, peer.port)
        connection.set_tunnel("inside.test")
        with pytest.raises(http.client.RemoteDisconnected):
            connection.request("GET", "/")
        connection.close()


@both
@pytest.mark.skipif(not hasattr(http.client.HTTPConnection, "get_proxy_response_headers"), reason="new in Python 3.12")
def test_headers_of_the_proxy_response(lib: Any) -> None:
    with aside(tunnelling()) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.set_tunnel("inside.test")
        assert connection.get_proxy_response_headers() is None
        get(connection)
        assert connection.get_proxy_response_headers()["proxy-agent"] == "x"


# -------------------------------------------------------------------------------------- debugging, audit and subclasses


@both
def test_debuglevel_prints_the_messages(lib: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with aside(saying(OK)) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.set_debuglevel(1)
        assert get(connection) == b"ok"
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("send: b'GET / HTTP/1.1\\r\\nHost: ")
        assert lines[1:] == [r"reply: 'HTTP/1.1 200 OK\r\n'", "header: Content-Length: 2"]


AUDITED: list[tuple[str, Any, Any]] = []
HOOKED: list[bool] = []


@both
def test_audit_events_are_raised(lib: Any) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith("http.client.") and HOOKED[-1]:
            AUDITED.append((event, arguments[0], arguments[1:]))

    if not HOOKED:
        # Permanent: an audit hook cannot be removed.
        HOOKED.append(False)
        sys.addaudithook(hook)
    AUDITED.clear()
    HOOKED.append(True)
    try:
        with aside() as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
            connection.request("POST", "/", b"body")
            connection.getresponse().read()
            connection.request("POST", "/", [b"a"])
            connection.getresponse().read()
    finally:
        HOOKED.append(False)
    assert all(who is connection for _, who, _ in AUDITED)
    assert (AUDITED[0][0], AUDITED[0][2]) == ("http.client.connect", (peer.host, peer.port))
    assert {event for event, _, _ in AUDITED[1:]} == {"http.client.send"}
    assert b"".join(data for _, _, (data,) in AUDITED[1:]) == peer.conns[0].raw


@both
def test_subclass_with_its_own_connect_works(lib: Any) -> None:
    class Connection(lib.HTTPConnection):  # type: ignore[name-defined, misc]
        def connect(self) -> None:
            self.sock = socket.create_connection((peer.host, peer.port))

    with aside(saying(OK, OK)) as peer, closing(Connection("anywhere.test")) as connection:
        assert [get(connection), get(connection)] == [b"ok", b"ok"]
        assert peer.requests[0].get("host") == "anywhere.test"


@both
def test_subclass_that_extends_connect_works(lib: Any) -> None:
    class Connection(lib.HTTPConnection):  # type: ignore[name-defined, misc]
        def connect(self) -> None:
            super().connect()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    with aside() as peer, closing(Connection(peer.host, peer.port)) as connection:
        assert get(connection) == b"/"
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@both
def test_create_connection_of_the_program_is_called(lib: Any) -> None:
    asked = []

    def create(address: Any, timeout: Any = None, source_address: Any = None, **_: Any) -> Any:
        asked.append((address, timeout, source_address))
        return socket.create_connection((peer.host, peer.port))

    with aside() as peer, closing(lib.HTTPConnection("a.test", 81, timeout=5)) as connection:
        connection._create_connection = create
        assert get(connection) == b"/"
    assert asked == [(("a.test", 81), 5, None)]


@both
@pytest.mark.parametrize("place", ["class", "connection"])
def test_response_class_of_the_program_is_used(lib: Any, place: str) -> None:
    made = []

    class Response(lib.HTTPResponse):  # type: ignore[name-defined, misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(options.get("method"))

        def read(self, amt: int | None = None) -> bytes:
            return bytes(super().read(amt)).upper()

    class Connection(lib.HTTPConnection):  # type: ignore[name-defined, misc]
        if place == "class":
            response_class = Response

    with aside() as peer, closing(Connection(peer.host, peer.port)) as connection:
        if place == "connection":
            # A response class may be any callable.
            connection.response_class = lambda *arguments, **options: Response(*arguments, **options)
        assert [get(connection, "/a"), get(connection, "/b")] == [b"/A", b"/B"]
    assert made == ["GET", "GET"]
    assert len(peer.conns) == 1


def test_response_class_of_http_client_reads_from_the_connection() -> None:
    with aside() as peer, closing(OURS.HTTPConnection(peer.host, peer.port)) as connection:
        connection.response_class = http.client.HTTPResponse
        assert [get(connection, "/a"), get(connection, "/b")] == [b"/a", b"/b"]
        assert len(peer.conns) == 1


@both
@pytest.mark.parametrize("name", ["connect", "request", "putrequest", "send", "getresponse", "close"])
def test_patched_methods_of_the_class_are_called(lib: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = getattr(lib.HTTPConnection, name)

    def traced(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return original(self, *arguments, **options)

    monkeypatch.setattr(lib.HTTPConnection, name, traced)
    with aside() as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        assert get(connection) == b"/"
    assert calls == [name]


@both
def test_subclass_may_read_the_head_itself(lib: Any) -> None:
    class Response(lib.HTTPResponse):  # type: ignore[name-defined, misc]
        def begin(self) -> None:
            super().begin()
            self.headers["X-Added"] = "1"

    with aside() as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.response_class = Response
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.getheader("x-added"), response.read()) == ("1", b"/")


# ----------------------------------------------------------------------------------------------------------- the socket


@both
def test_sock_has_the_socket_interface(lib: Any) -> None:
    with aside() as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.connect()
        sock = connection.sock
        assert sock.fileno() > 2
        assert sock.getpeername() == (peer.host, peer.port)
        until(lambda: peer.conns)
        assert sock.getsockname() == peer.conns[0].sock.getpeername()
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        assert sock.gettimeout() is None
        sock.settimeout(5)
        assert sock.gettimeout() == 5
        sock.setblocking(True)
        assert sock.gettimeout() is None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert len(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == 8
        assert get(connection) == b"/"
        connection.close()
        assert sock.fileno() == -1


@both
def test_socket_can_be_used_directly(lib: Any) -> None:
    def echo(conn: Conn) -> None:
        while line := conn.read_line():
            conn.send(line)

    with aside(echo) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.connect()
        sock = connection.sock
        sock.sendall(b"one\n")
        assert sock.recv(2) == b"on"
        buffer = bytearray(10)
        assert sock.recv_into(buffer) == 2
        assert buffer[:2] == b"e\n"
        assert sock.send(memoryview(b"two\n")) == 4
        assert sock.recv_into(memoryview(buffer)[4:], 2) == 2
        assert buffer[4:6] == b"tw"
        assert sock.recv(100) == b"o\n"
        with sock.makefile("rb") as file:
            sock.sendall(b"three\nfour\n")
            assert file.readline() == b"three\n"
            assert file.read(5) == b"four\n"
        with sock.makefile("rw", encoding="utf-8", newline="\n") as text:
            text.write("caf\xe9\n")
            text.flush()
            assert text.readline() == "caf\xe9\n"
        with sock.makefile("wb") as out:
            out.write(b"five\n")
        assert sock.recv(100) == b"five\n"
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(10) == b""


@both
def test_data_before_the_first_request_can_be_read(lib: Any) -> None:
    def greet(conn: Conn) -> None:
        conn.send(b"hello")
        conn.wait_closed()

    with aside(greet) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.connect()
        assert connection.sock.recv(5) == b"hello"


@both
def test_sock_after_101_belongs_to_the_program(lib: Any) -> None:
    def upgrade(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
        while data := conn.read_exactly(4):
            conn.send(data.upper())

    with aside(upgrade) as peer, closing(lib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.request("GET", "/", headers={"Upgrade": "echo", "Connection": "Upgrade"})
        response = connection.getresponse()
        assert (response.status, response.getheader("upgrade")) == (101, "echo")
        assert response.read() == b""
        assert connection.sock is not None
        for _ in range(2):
            connection.sock.sendall(b"ping")
            assert connection.sock.recv(4) == b"PING"


def test_bytes_behind_a_101_are_not_lost() -> None:
    def upgrade(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nfirst words")
        conn.wait_closed()

    with Peer(upgrade) as peer, closing(OURS.HTTPConnection(peer.host, peer.port)) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().status == 101
        assert connection.sock.recv(100) == b"first words"


# --------------------------------------------------------------------------------------------------- threads, greenlets


@both
def test_threads_can_use_a_connection_alternately(lib: Any) -> None:
    with aside() as peer:
        connection = lib.HTTPConnection(peer.host, peer.port)
        assert get(connection, "/1") == b"/1"

        def in_another() -> bytes:
            body = get(connection, "/2")
            connection.close()
            return body

        assert in_thread(in_another) == b"/2"
        assert get(connection, "/3") == b"/3"
        connection.close()


@both
def test_connection_can_be_used_in_another_thread(lib: Any) -> None:
    with aside() as peer:
        connection = lib.HTTPConnection(peer.host, peer.port)
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(attempt(lambda: (get(connection), connection.close()))))
        thread.start()
        thread.join()
        assert results == [(b"/", None)]


@pytest.mark.usefixtures("bounded")
def test_each_wait_yields_to_other_greenlets() -> None:
    counter = [0]

    def slowly(conn: Conn) -> None:
        while conn.read_request():
            for piece in (b"HTTP/1.1 200 OK\r\nContent-", b"Length: 4\r\n\r\n", b"bo", b"dy"):
                seen = counter[0]
                until(lambda seen=seen: counter[0] > seen)
                conn.send(piece)

    def count() -> None:
        while True:
            gevent.sleep(0)
            counter[0] += 1

    with Peer(slowly) as peer, closing(OURS.HTTPConnection(peer.host, peer.port)) as connection:
        counting = gevent.spawn(count)
        assert get(connection) == b"body"
        counting.kill()
    assert counter[0] >= 4


def at_the_head(conn: Conn) -> None:
    conn.read_request()
    conn.wait_closed()


def in_the_body(conn: Conn) -> None:
    conn.read_request()
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")
    conn.wait_closed()


def while_sending(conn: Conn) -> None:
    conn.read_head()
    conn.hung_up.wait()


WAITS = {"head": at_the_head, "body": in_the_body, "send": while_sending}


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("how", ["kill", "timeout"])
def test_connection_interrupted_in_any_wait_can_be_used_again(wait: str, how: str) -> None:
    with Peer(WAITS[wait], serve_ok) as peer, closing(OURS.HTTPConnection(peer.host, peer.port)) as connection:

        def exchange() -> None:
            connection.request("POST", "/", b"x" * HUGE if wait == "send" else None)
            connection.getresponse().read()

        if how == "kill":
            greenlet = gevent.spawn(exchange)
            until(lambda: peer.conns and peer.conns[0].raw)
            turn()
            assert not greenlet.ready()
            greenlet.kill()
        else:
            with gevent.Timeout(0.03, False):
                exchange()
        connection.close()
        assert get(connection, "/again") == b"/again"
        if wait == "send":
            peer.conns[0].hung_up.set()


@pytest.mark.usefixtures("bounded")
def test_connection_interrupted_in_the_resolver_can_be_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Event()

    def endless(*_: Any, **__: Any) -> Any:
        asked.set()
        Event().wait(100)

    with Peer() as peer, closing(OURS.HTTPConnection("localhost", peer.port)) as connection:
        with monkeypatch.context() as patching:
            patching.setattr(gevent.socket, "getaddrinfo", endless)
            greenlet = gevent.spawn(get, connection)
            asked.wait()
            greenlet.kill()
        assert connection.sock is None
        connection.close()
        assert get(connection, "/again") == b"/again"


@pytest.mark.usefixtures("bounded")
def test_close_by_another_greenlet_ends_the_wait() -> None:
    with Peer(at_the_head, serve_ok) as peer, closing(OURS.HTTPConnection(peer.host, peer.port)) as connection:

        def exchange() -> Any:
            connection.request("GET", "/")
            return outcome(connection.getresponse)

        greenlet = gevent.spawn(exchange)
        until(lambda: peer.conns and peer.conns[0].requests)
        turn()
        connection.close()
        kind, _ = greenlet.get()
        assert issubclass(kind, (OSError, http.client.HTTPException))
        assert get(connection, "/again") == b"/again"


@pytest.mark.usefixtures("bounded")
def test_one_greenlet_reads_from_the_socket_while_another_writes() -> None:
    def script(conn: Conn) -> None:
        conn.send(conn.read_exactly(4))
        assert conn.read_request() is not None
        conn.respond(b"late")

    with Peer(script) as peer, closing(OURS.HTTPConnection(peer.host, peer.port)) as connection:
        connection.connect()
        reader = gevent.spawn(connection.sock.recv, 100)
        gevent.sleep(0)
        connection.sock.sendall(b"ping")
        assert reader.get(timeout=10) == b"ping"
        reader = gevent.spawn(connection.sock.recv, 1000)
        gevent.sleep(0)
        # The request is the program's to sort out: its response goes to the reader.
        connection.request("GET", "/")
        assert reader.get(timeout=10).endswith(b"late")


@pytest.mark.usefixtures("bounded")
def test_timeout_of_sendall_holds_for_each_wait_by_itself() -> None:
    pause, timeout = 0.02, 0.5
    taken: list[int] = []

    def slow(conn: Conn) -> None:
        while data := conn.sock.recv(1 << 20):
            taken.append(len(data))
            gevent.sleep(pause)

    with Peer(slow) as peer, closing(OURS.HTTPConnection(peer.host, peer.port)) as connection:
        connection.connect()
        connection.sock.settimeout(timeout)
        connection.sock.sendall(bytes(64 << 20))
        assert len(taken) * pause > timeout


@pytest.mark.usefixtures("bounded")
def test_concurrent_use_of_a_connection_is_an_error() -> None:
    with Peer(at_the_head) as peer, closing(OURS.HTTPConnection(peer.host, peer.port)) as connection:
        connection.request("GET", "/")
        greenlet = gevent.spawn(lambda: attempt(connection.getresponse))
        turn()
        with pytest.raises(gevent.exceptions.ConcurrentObjectUseError):
            connection.getresponse()
        greenlet.kill()


# ---------------------------------------------------------------------------------------------------------- descriptors


def kept_alive(connection: Any) -> None:
    get(connection)


def unread(connection: Any) -> None:
    connection.request("GET", "/")
    connection.getresponse()
    connection.close()


def dropped(connection: Any) -> None:
    connection.request("GET", "/")
    connection.getresponse().read(1)


def unanswered(connection: Any) -> None:
    connection.request("GET", "/")
    connection.close()


def closed_by_itself(connection: Any) -> None:
    connection.request("GET", "/", headers={"Connection": "close"})
    connection.getresponse().read()


def file_of_it(connection: Any) -> None:
    connection.connect()
    connection.sock.makefile("rb").close()


@pytest.mark.parametrize("use", [kept_alive, unread, dropped, unanswered, closed_by_itself, file_of_it])
def test_descriptors_do_not_leak(use: Callable[[Any], None]) -> None:
    with Peer() as peer:
        use(OURS.HTTPConnection(peer.host, peer.port))
        gc.collect()
        until(lambda: peer.conns and peer.open_now == 0)
        before = descriptors()
        gc.disable()
        try:
            for _ in range(20):
                use(OURS.HTTPConnection(peer.host, peer.port))
            until(lambda: len(peer.conns) == 21 and peer.open_now == 0)
            until(lambda: len(descriptors()) <= len(before))
        finally:
            gc.enable()


@pytest.mark.parametrize("module", [socket, gevent.socket], ids=["socket", "gevent.socket"])
def test_socket_of_the_program_is_closed_after_both_users_have_closed_it(module: Any) -> None:
    class Connection(OURS.HTTPConnection):  # type: ignore[misc]
        def connect(self) -> None:
            self.sock = module.create_connection((self.host, self.port))

    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 300_000
    gc.disable()
    try:
        with aside(saying_then_closing(answer)) as peer, closing(Connection(peer.host, peer.port)) as connection:
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


def test_json_of_many_requests_is_read() -> None:
    def answer(conn: Conn) -> None:
        while request := conn.read_request():
            conn.respond(json.dumps({"target": request.target}).encode())

    with Peer(answer) as peer, closing(OURS.HTTPConnection(peer.host, peer.port)) as connection:
        for i in range(200):
            connection.request("GET", f"/{i}")
            assert json.load(connection.getresponse()) == {"target": f"/{i}"}
        assert len(peer.conns) == 1
