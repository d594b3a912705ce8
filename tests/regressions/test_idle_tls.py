"""Session tickets on idle connections: they are harmless, but enough of them hide the bytes behind them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.hub import turn
from tests.support.tls import WAYS, client_of, opened, trusting
from tests.support.tls_records import SealingServer

pytestmark = [pytest.mark.usefixtures("bounded", "names_are_here")]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PLANTED = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted"
both_ways = pytest.mark.parametrize("way", WAYS)

# Runs in threads, with waits that block: the hub must not run unless a test switches to it.


def serving(
    listener: socket.socket, executor: ThreadPoolExecutor, *scripts: Callable[[socket.socket], None]
) -> Future[None]:
    def serve() -> None:
        for script in scripts:
            script(listener)

    listener.settimeout(20)
    return executor.submit(serve)


@both_ways
@pytest.mark.parametrize("tickets", [83, 1_250], ids=["20 KB", "300 KB"])
@pytest.mark.parametrize("behind", [b"", PLANTED], ids=["nothing", "an answer"])
def test_idle_connection_after_many_tickets_is_not_used_again(
    way: str, behind: bytes, tickets: int, certificates: Certificates, tmp_path: Path
) -> None:
    idle, sent = threading.Event(), threading.Event()

    def flood(listener: socket.socket) -> None:
        server = SealingServer(listener, certificates.valid, tmp_path)
        server.receive()
        server.sock.sendall(server.data(OK))
        assert idle.wait(20)
        rest = server.send_what_fits(server.tickets(tickets) + (server.data(behind) if behind else b""))
        sent.set()
        with server.sock, suppress(OSError):
            server.sock.sendall(rest)
            assert server.receive() == b"", "no second request"

    def answer(listener: socket.socket) -> None:
        server = SealingServer(listener, certificates.valid, tmp_path)
        with server.sock:
            server.receive()
            server.sock.sendall(server.data(OK))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:
        done = serving(listener, executor, flood, answer)
        with client_of(listener.getsockname()[1], way, ssl_options=trusting(certificates)) as client:
            assert client.get("/first").read() == b"ok"
            idle.set()
            assert sent.wait(20)
            assert client.post("/next", b"x").read() == b"ok"
            assert opened(client) == 2
        done.result()


@both_ways
def test_idle_connection_after_14_kb_of_tickets_is_used_again(
    way: str, certificates: Certificates, tmp_path: Path
) -> None:
    idle, sent = threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        server = SealingServer(listener, certificates.valid, tmp_path)
        with server.sock:
            server.receive()
            server.sock.sendall(server.data(OK))
            for _ in range(2):
                assert idle.wait(20)
                idle.clear()
                server.sock.sendall(server.tickets(58))
                sent.set()
                server.receive()
                server.sock.sendall(server.data(OK))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:
        done = serving(listener, executor, serve)
        with client_of(listener.getsockname()[1], way, ssl_options=trusting(certificates)) as client:
            assert client.get("/first").read() == b"ok"
            for _ in range(2):  # each idle time has a count of its own
                idle.set()
                assert sent.wait(20)
                sent.clear()
                assert client.post("/next", b"x").read() == b"ok"
            assert opened(client) == 1
        done.result()


def turns_until(done: Future[None]) -> None:
    for _ in range(10_000):
        if done.done():
            return
        turn()
    raise AssertionError("the server still waits for the end of the connection")


@both_ways
def test_idle_connection_after_21_kb_of_tickets_in_portions_is_closed(
    way: str, certificates: Certificates, tmp_path: Path
) -> None:
    """The records that are read over time count together."""
    go, sent = threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        server = SealingServer(listener, certificates.valid, tmp_path)
        with server.sock, suppress(ConnectionError):
            server.receive()
            server.sock.sendall(server.data(OK))
            for _ in range(3):
                assert go.wait(20)
                go.clear()
                server.sock.sendall(server.tickets(29))
                sent.set()
            assert server.receive() == b""

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:
        done = serving(listener, executor, serve)
        with client_of(listener.getsockname()[1], way, ssl_options=trusting(certificates)) as client:
            assert client.get("/first").read() == b"ok"
            for _ in range(3):
                go.set()
                assert sent.wait(20)
                sent.clear()
                turn()
            turns_until(done)
            assert client.statistics()["idle"] == 0
        done.result()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@both_ways
def test_idle_http2_connection_after_21_kb_of_tickets_is_closed(
    way: str, certificates: Certificates, tmp_path: Path
) -> None:
    idle = threading.Event()

    def serve(listener: socket.socket) -> None:
        server = SealingServer(listener, certificates.valid, tmp_path, "h2")
        with server.sock, suppress(ConnectionError):
            said = server.receive()
            # SETTINGS, and our consent to the client's; then a head that is all of the answer to stream 1.
            server.sock.sendall(server.data(frame(4, 0, 0) + frame(4, 1, 0)))
            while b"\x00\x00\x00\x01" not in said[24:].partition(b"\x01\x05")[2][:4]:
                said += server.receive()
            server.sock.sendall(server.data(frame(1, 5, 1, b"\x88")))
            assert idle.wait(20)
            server.sock.sendall(server.tickets(87))
            while server.receive():
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:
        done = serving(listener, executor, serve)
        with client_of(listener.getsockname()[1], way, ssl_options=trusting(certificates), http2=True) as client:
            assert client.get("/first").status_code == 200
            idle.set()
            turns_until(done)
        done.result()
