"""Interrupts of every wait of a request: the slot and the socket are released, and other requests are unaffected."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from geventhttpclient.client import HTTPClient
from tests.support.certificates import Certificates
from tests.support.hub import FAILURES, attempt, choose, descriptors, get, run, turn, until
from tests.support.interrupts import CELLS, Cell, play
from tests.support.pairs import thinned
from tests.support.peer import Conn, Peer
from tests.support.wait_points import PHASES, PLAIN, Connect, Phase, ReadBody, ReadChunks, ReadLine, staged


@pytest.mark.parametrize(("kind", "way"), [(kind, way) for kind in PHASES for way in kind.ways])
def test_response_ends_each_wait(kind: type[Phase], way: str, certificates: Certificates) -> None:
    with staged(kind, way, certificates) as stage:
        call = stage.spawn()
        until(lambda: stage.phase.waiting() or call.dead)
        assert not call.dead, call.value
        stage.act("answer")
        assert call.get(timeout=15) == stage.phase.expected
        assert get(stage.client, "/after") == b"/after"


@pytest.mark.parametrize("cell", thinned(CELLS, lambda cell: (cell.phase, cell.interrupt, cell.way)), ids=str)
def test_each_interrupt_of_each_wait_leaves_nothing_behind(cell: Cell, certificates: Certificates) -> None:
    play(cell, certificates)


@pytest.mark.parametrize("kind", PLAIN)
def test_gevent_timeout_with_own_exception_raises_it(kind: type[Phase]) -> None:
    class Late(Exception):
        pass

    with staged(kind) as stage:
        before = descriptors()

        def call() -> bytes:
            with gevent.Timeout(0.2, Late):
                return stage.phase.call(stage.client)

        assert isinstance(gevent.spawn(attempt, call).get(timeout=15), Late)
        stage.act("over")
        until(lambda: len(descriptors()) <= len(before))
        stage.heal()
        assert get(stage.client, "/after") == b"/after"


# Cases that take a second are not repeated on other loops.
SLOW = {"Connect-close-plain", "Connect-rst-plain", "Continue-network_timeout-plain"}


def chosen(setup: str) -> list[str]:
    """Returns the cells for another loop; one of each kind for patched programs, whose sockets are not used."""
    once = [cell for cell in CELLS if cell.way == cell.phase.ways[0] and str(cell) not in SLOW]
    kinds = ("kill", "total_timeout", "rst")
    return [str(cell) for cell in once if "patched" not in setup or cell.interrupt in kinds]


def outcomes(program: str, setup: str, directory: Path, *names: str) -> dict[str, str | None]:
    """Runs the cells in a new interpreter. Returns the error of each, or None."""
    loop, *patched = setup.split()
    outcome = run(program, directory, *patched, *names, **choose(loop), PYTHONWARNINGS="ignore")
    found = [json.loads(line) for line in outcome.out.splitlines()]
    assert outcome.code == 0, outcome
    return {line["cell"]: line["wrong"] for line in found}


@pytest.mark.parametrize("setup", ["libuv-cffi", "libev-cext patched"])
def test_interrupts_of_waits_on_other_loops_leave_nothing_behind(setup: str, tmp_path: Path) -> None:
    names = chosen(setup)
    table = outcomes("interrupts.cells", setup, tmp_path, *names)
    assert {name: wrong for name, wrong in table.items() if wrong} == {}
    assert list(table) == names


def test_hub_destroyed_during_each_wait_leaves_nothing(tmp_path: Path) -> None:
    names = [f"{kind.__name__}-{way}" for kind in PHASES for way in kind.ways]
    table = outcomes("interrupts.destroyed", "libev-cext", tmp_path, *names)
    assert {name: wrong for name, wrong in table.items() if wrong} == {}
    assert list(table) == names


def test_greenlets_of_a_destroyed_hub_without_references_are_unwound() -> None:
    with Peer(Conn.wait_closed) as peer:
        assert run("interrupts.unwound", peer.port).clean().split() == ["GreenletExit", "ok"]


def test_refused_connection_raises_the_builtin_error() -> None:
    if Connect not in PHASES:
        pytest.skip("needs Linux")
    with staged(Connect) as stage:
        call = stage.spawn()
        until(lambda: stage.phase.waiting())
        stage.act("rst")
        assert isinstance(call.get(timeout=15), ConnectionRefusedError)


def test_resolver_failure_names_the_host_and_frees_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    error = socket.gaierror(socket.EAI_NONAME, "no such host")
    wrong: list[Exception] = [error]
    resolve = socket.getaddrinfo

    def answer(host: str, *arguments: object, **keywords: object) -> object:
        gevent.sleep(0)
        if wrong:
            raise wrong.pop()
        return resolve("127.0.0.1", *arguments, **keywords)

    monkeypatch.setattr("gevent.socket.getaddrinfo", answer)
    with Peer() as peer:
        client = HTTPClient("origin.test", peer.port)
        with pytest.raises(socket.gaierror) as caught:
            client.get("/")
        assert (caught.value.args, type(caught.value).__name__) == (error.args, "gaierror")
        assert caught.value.errno == socket.EAI_NONAME
        assert str(caught.value).endswith("no such host (resolving origin.test)")
        assert get(client, "/after") == b"/after"
        client.close()


@pytest.mark.parametrize("kind", [ReadBody, ReadChunks, ReadLine])
def test_body_interrupted_while_it_was_read_never_counts_as_complete(kind: type[Phase]) -> None:
    with staged(kind) as stage:
        response = stage.client.get("/waits")
        with gevent.Timeout(0.1, False):
            response.read()
        with pytest.raises(FAILURES):
            response.read()
        stage.act("over")


def test_killed_request_leaves_others_of_the_client() -> None:
    go_on = Event()

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if request.target.startswith("/held"):
                go_on.wait()
            conn.respond(request.target.encode())

    with Peer(script) as peer:
        client = HTTPClient("127.0.0.1", peer.port, concurrency=5)
        calls = [gevent.spawn(attempt, lambda n=n: get(client, f"/held{n}")) for n in range(5)]
        until(lambda: len(peer.requests) == 5)
        calls[1].kill()
        calls[3].kill()
        assert get(client, "/free") == b"/free"
        go_on.set()
        gevent.joinall(calls, timeout=10)
        assert [call.value for call in calls if not isinstance(call.value, gevent.GreenletExit)] == [
            b"/held0",
            b"/held2",
            b"/held4",
        ]
        client.close()


def test_request_killed_at_any_turn_of_the_hub_frees_its_slot() -> None:
    """After any number of turns, and not only in the expected waits, with others in the queue."""
    with Peer() as peer:
        client = HTTPClient("127.0.0.1", peer.port, concurrency=2)
        before = len(descriptors())
        for n in range(300):
            calls = [gevent.spawn(attempt, lambda: get(client, "/x")) for _ in range(5)]
            if n % 2:
                turn(n % 7)
            else:
                for _ in range(n % 9):
                    gevent.sleep(0)
            victim = calls[n % 5]
            victim.kill()
            gevent.joinall(calls, timeout=10)
            assert isinstance(victim.value, gevent.GreenletExit | bytes), victim.value
            assert [call.value for call in calls if call is not victim] == [b"/x"] * 4
        client.close()
        until(lambda: len(descriptors()) <= before)


# Python raises KeyboardInterrupt in the code that runs when the signal is received, which may be a function of logging
# that the engine has called, or gevent's own clean-up. Such a Ctrl-C was lost once: 9 of 200 during connecting.


def interrupting(*_: object, **__: object) -> bool:
    raise KeyboardInterrupt


def test_keyboard_interrupt_in_the_logger_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(lambda conn: conn.wait_closed()) as peer, HTTPClient(peer.host, peer.port) as client:
        monkeypatch.setattr(logging.getLogger("geventhttpclient"), "isEnabledFor", interrupting)
        with pytest.raises(KeyboardInterrupt):
            client.get("/")
        assert client.statistics()["in_use"] == 0


def test_keyboard_interrupt_in_another_greenlet_reaches_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer() as peer, HTTPClient(peer.host, peer.port) as client:
        with monkeypatch.context() as patch:
            patch.setattr(logging.getLogger("geventhttpclient"), "isEnabledFor", interrupting)
            asking = gevent.spawn(get, client, "/")
            with pytest.raises(KeyboardInterrupt):
                asking.join()
        assert asking.get(timeout=15) == b"/"


@pytest.mark.parametrize("fails", [False, True])
def test_keyboard_interrupt_after_resolving_is_not_lost(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    close = gevent.Timeout.close

    def closing(timeout: gevent.Timeout) -> None:
        close(timeout)
        raise KeyboardInterrupt

    def failing(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    with Peer() as peer, HTTPClient("localhost", peer.port) as client:
        with monkeypatch.context() as patch:
            patch.setattr(gevent.Timeout, "close", closing)
            if fails:
                patch.setattr("gevent.socket.getaddrinfo", failing)
            with pytest.raises(KeyboardInterrupt):
                client.get("/")
        assert client.statistics()["in_use"] == 0
        assert get(client, "/after") == b"/after"
