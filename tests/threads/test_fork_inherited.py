"""A fork with connections of every kind open: the child sends nothing on them, and the parent continues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import gevent
import pytest
from gevent import socket

from tests.programs.inherited import HELD
from tests.support.certificates import Certificates
from tests.support.hub import Program, choose, running, until
from tests.support.peer import Peer
from tests.threads.test_threads import Gate, check_end


class Line:
    """One connection through a `Tap`: the bytes that the client has sent, and whether it has closed its side."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = False

    def state(self) -> tuple[int, bool]:
        return self.sent, self.ended


class Tap:
    """Forwards connections to a server, and records their bytes below TLS, so that a `close_notify` is visible too."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.lines: list[Line] = []
        self.running: list[gevent.Greenlet] = []
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port: int = self.listener.getsockname()[1]
        self.running.append(gevent.spawn(self.accept))

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            line = Line()
            self.lines.append(line)
            self.running.append(gevent.spawn(self.carry, client, line))

    def carry(self, client: socket.socket, line: Line) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            back = gevent.spawn(self.pump, server, client, Line())
            try:
                self.pump(client, server, line)
                back.join()
            finally:
                back.kill()

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket, line: Line) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                line.sent += len(data)
                sink.sendall(data)
        line.ended = True
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def tapped(port: int) -> Iterator[Tap]:
    tap = Tap(port)
    try:
        yield tap
    finally:
        gevent.killall(tap.running)
        tap.listener.close()


def expect(program: Program, word: str) -> None:
    line = program.read_line()
    assert line == word, line or program.end().err


@pytest.mark.parametrize("tls", ["plain", "native", "context"])
@pytest.mark.parametrize(
    ("way", "where", "loop"),
    [
        ("os", "main", "libev-cext"),
        ("gevent", "callback", "libev-cext"),
        ("multiprocessing", "greenlet", "libev-cext"),
        ("gevent", "main", "libuv-cffi"),
    ],
)
def test_forked_child_sends_nothing_on_inherited_connections(
    way: str, where: str, loop: str, tls: str, certificates: Certificates
) -> None:
    environment = {
        **choose(loop),
        "SSL_CERT_FILE": str(certificates.ca),
        # A thread resolver waits for threads that a child does not have; Python warns of forks with threads.
        "GEVENT_RESOLVER": "block",
        "PYTHONWARNINGS": "ignore",
    }
    gate = Gate(HELD)
    with Peer(gate, tls=None if tls == "plain" else certificates.valid.server()) as peer, tapped(peer.port) as tap:
        url = f"http://127.0.0.1:{tap.port}" if tls == "plain" else f"https://localhost:{tap.port}"
        with running("inherited.everything", url, tls, way, where, **environment) as program:
            expect(program, "ready")
            until(lambda: gate.held == HELD)
            before = [line.state() for line in tap.lines]
            program.send_line()
            expect(program, "ended")
            # Connections that the parent had closed before are closed; nothing else may have happened to any of them.
            assert [line.state() for line in tap.lines[: len(before)]] == before
            gate.opened.set()
            program.send_line()
            outcome = program.end()
        check_end(outcome, 0)
        assert outcome.out.split() == ["ok"]
        held = [request.target for request in peer.requests if request.method == "POST"]
        assert sorted(held) == ["/held", "/queued", "/queued", "/queued"]
