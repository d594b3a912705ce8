"""The matrix of every wait of a request and everything that can end it, for any event loop of gevent.

A cell is a `Phase` (where the request waits), an interrupt, and a transport. `play` runs one cell. It checks the result
of the call and that nothing is left of it: no pool slot, no socket, no greenlet, and no bytes that it must not send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.event import Event

from geventhttpclient import exceptions
from geventhttpclient._core import _runtime_statistics
from geventhttpclient.client import HTTPClient
from tests.support.certificates import Certificates
from tests.support.hub import FAILURES, attempt, descriptors, get, turn, until
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.wait_points import (
    PHASES,
    Connect,
    Phase,
    PoolWait,
    ReadBody,
    Resolve,
    Stage,
    staged,
)

# Timeout of the call in seconds.
LIMIT = 0.1

# Seconds by which a timer of libuv, which counts in milliseconds, may fire early.
CLOCKS_DIFFER = 0.002

# Connections of the client.
WIDTH = 2

DEADLINES = ("connection_timeout", "network_timeout", "pool_timeout", "total_timeout")

# Combinations without meaning, and the reason.
SENSELESS: dict[tuple[type[Phase], str], str] = {
    (Resolve, "fin"): "no peer has been found yet",
    (Resolve, "rst"): "no peer has been found yet",
    (Connect, "fin"): "there is no connection yet that could end",
}

# Combinations that are left out:
# - pool_timeout where a connection is there, connection_timeout once it is open, network_timeout before: they do not
#   bound that wait.
# - release() before there is a response.
# - Connect over TLS, Resolve and PoolWait with an SSLContext: nothing has been sent yet, and Handshake comes next.
# - Tunnel in plain text: an http request to an HTTP proxy needs none. TunnelByTls with an SSLContext: the engine's own
#   TLS is used for the proxy in any case.
# - A hub that is destroyed: tests/programs/interrupts.py, on libev. With libuv gevent's own destroy() does not return
#   while anything is watched.


@dataclass(frozen=True)
class Cell:
    phase: type[Phase]
    interrupt: str
    way: str

    def __str__(self) -> str:
        return f"{self.phase.__name__}-{self.interrupt}-{self.way}"


def interrupts_of(kind: type[Phase]) -> Iterator[str]:
    """Yields every interrupt, including those in `SENSELESS`."""
    yield from ("kill", "throw", "timeout", "total_timeout", *kind.bounds, "fin", "rst", "close")
    if issubclass(kind, ReadBody):  # elsewhere there is no response yet
        yield "release"


CELLS = [
    Cell(kind, interrupt, way)
    for kind in PHASES
    for interrupt in interrupts_of(kind)
    if (kind, interrupt) not in SENSELESS
    for way in kind.ways
]


class Bystander:
    """Another client of the same hub, whose request is in flight the whole time."""

    def __init__(self) -> None:
        self.go_on = Event()
        self.peer = Peer(self.script)
        self.peer.__enter__()
        self.client = HTTPClient("127.0.0.1", self.peer.port, network_timeout=60)
        assert get(self.client, "/first") == b"/first"
        self.greenlet = gevent.spawn(attempt, lambda: get(self.client, "/held", 60))
        until(lambda: len(self.peer.requests) == 2)

    def script(self, conn: Conn) -> None:
        conn.read_request()
        conn.respond(b"/first")
        conn.read_request()
        self.go_on.wait()
        conn.respond(b"/held")
        serve_ok(conn)

    def unharmed(self) -> None:
        assert not self.greenlet.dead
        self.go_on.set()
        assert self.greenlet.get(timeout=10) == b"/held"
        assert get(self.client, "/last") == b"/last"
        assert len(self.peer.conns) == 1

    def close(self) -> None:
        self.greenlet.kill()
        self.client.close()
        self.peer.__exit__(None, None, None)


@contextmanager
def bystander() -> Iterator[Bystander]:
    other = Bystander()
    try:
        yield other
    finally:
        other.close()


class Wave:
    """A script that answers requests under /wave when `width` of them are in flight."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.there = 0
        self.all_there = Event()

    def __call__(self, conn: Conn) -> None:
        while request := conn.read_request():
            if request.target.startswith("/wave"):
                self.there += 1
                if self.there == self.width:
                    self.all_there.set()
                self.all_there.wait()
            conn.respond(request.target.encode())


def check_wave(client: HTTPClient) -> None:
    """Checks that every pool slot can be used at once and that each request gets its own response."""
    quiet = dict.fromkeys(DEADLINES)
    calls = [
        gevent.spawn(attempt, lambda n=n: client.get(f"/wave/{n}", **quiet).read())  # type: ignore[misc]
        for n in range(WIDTH)
    ]
    gevent.joinall(calls, timeout=10)
    assert [call.value for call in calls] == [f"/wave/{n}".encode() for n in range(WIDTH)]
    statistics = client._connection_pool.statistics()
    assert (statistics["in_use"], statistics["waiting"], statistics["idle"]) == (0, 0, WIDTH)


def play(cell: Cell, certificates: Certificates) -> None:
    options: dict[str, Any] = {cell.interrupt: LIMIT} if cell.interrupt in DEADLINES else {}
    with (
        bystander() as other,
        staged(cell.phase, cell.way, certificates, concurrency=WIDTH, serve=Wave(WIDTH), **options) as stage,
    ):
        stage.phase.ends_by = cell.interrupt
        quiet, before = _runtime_statistics(), descriptors()
        if cell.interrupt == "close":
            close(stage)
            assert isinstance(attempt(lambda: stage.client.get("/late")), RuntimeError)
            until(lambda: len(descriptors()) <= len(before))
        else:
            INTERRUPTS[cell.interrupt](stage)
            stage.act("over")
            if not (cell.phase is PoolWait and cell.interrupt in ("fin", "rst")):
                until(lambda: len(descriptors()) <= len(before))
                stage.phase.check_sent(stage.peer)
                assert _runtime_statistics() == quiet
            stage.heal()
            check_wave(stage.client)
        other.unharmed()
    assert _runtime_statistics() == (0, 0)


def begin(stage: Stage) -> gevent.Greenlet:
    """Starts the call and returns it when it waits."""
    call = stage.spawn()
    until(lambda: stage.phase.waiting() or call.dead)
    assert not call.dead, call.value
    turn(1)
    return call


def kill(stage: Stage) -> None:
    call = begin(stage)
    call.kill(timeout=10)
    assert isinstance(call.value, gevent.GreenletExit)


def throw(stage: Stage) -> None:
    error = ValueError("thrown in")
    call = begin(stage)
    gevent.get_hub().loop.run_callback(call.throw, error)
    assert call.get(timeout=10) is error


def timeout(stage: Stage) -> None:
    timer = gevent.Timeout(LIMIT / 2)

    def timed() -> bytes:
        with timer:
            return stage.phase.call(stage.client)

    assert gevent.spawn(attempt, timed).get(timeout=15) is timer


def deadline(stage: Stage) -> None:
    outcome: Any = stage.spawn().get(timeout=15)
    assert type(outcome) is exceptions.TimeoutError, repr(outcome)
    assert outcome.phase == stage.phase.word
    assert outcome.peer == stage.place
    assert LIMIT - CLOCKS_DIFFER <= outcome.elapsed < 10


def fault(stage: Stage, which: str) -> None:
    """Has the peer break the connection in use. The next waiter gets the slot that this frees."""
    call = begin(stage)
    stage.act(which)
    outcome: Any = call.get(timeout=15)
    stage.phase.check_fault(outcome, FAILURES)
    if isinstance(stage.phase, PoolWait):
        return
    assert not isinstance(outcome, TimeoutError)
    # The client waits for the response of a request that may have been sent.
    assert outcome.phase == stage.phase.word or (stage.phase.word, outcome.phase) == ("send", "head")
    assert outcome.peer == stage.place


def release(stage: Stage) -> None:
    """Releases the response: the reader gets an error before the peer does anything."""
    assert isinstance(stage.phase, ReadBody)
    call = begin(stage)
    stage.phase.response.release()
    outcome: Any = call.get(timeout=10)
    assert isinstance(outcome, ConnectionAbortedError), repr(outcome)
    assert outcome.phase == "body"
    assert outcome.peer == stage.place


def close(stage: Stage) -> None:
    """Closes the client: a waiter for a connection gets an error; a request that has one continues."""
    call = begin(stage)
    stage.client.close()
    if isinstance(stage.phase, PoolWait):
        outcome: Any = call.get(timeout=10)
        assert isinstance(outcome, RuntimeError)
        assert outcome.phase == "pool"
        stage.heal()
        return
    turn()
    assert not call.dead, call.value
    stage.act("answer")
    assert call.get(timeout=15) == stage.phase.expected
    if isinstance(stage.phase, Connect):
        stage.heal()


INTERRUPTS: dict[str, Callable[[Stage], object]] = {
    "kill": kill,
    "throw": throw,
    "timeout": timeout,
    **dict.fromkeys(DEADLINES, deadline),
    "fin": lambda stage: fault(stage, "fin"),
    "rst": lambda stage: fault(stage, "rst"),
    "release": release,
}
