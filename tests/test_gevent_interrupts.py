"""Whatever ends a wait, wherever a request waits: the slot and the socket are free, and nobody else notices."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from geventhttpclient.client import HTTPClient
from tests.certificates import Certificates
from tests.hubtools import FAILURES, attempt, choose, descriptors, get, run, turn, until
from tests.interrupts import CELLS, Cell, play
from tests.peer import Conn, Peer
from tests.phases import PHASES, PLAIN, Connect, Phase, ReadBody, ReadChunks, ReadLine, staged


@pytest.mark.parametrize(("kind", "way"), [(kind, way) for kind in PHASES for way in kind.ways])
def test_an_answer_ends_each_wait(kind: type[Phase], way: str, certificates: Certificates) -> None:
    with staged(kind, way, certificates) as stage:
        call = stage.spawn()
        until(lambda: stage.phase.waiting() or call.dead)
        assert not call.dead, call.value
        stage.act("answer")
        assert call.get(timeout=15) == stage.phase.expected
        assert get(stage.client, "/after") == b"/after"


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_whatever_happens_to_a_wait(cell: Cell, certificates: Certificates) -> None:
    play(cell, certificates)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_gevent_timeout_with_an_exception_of_its_own(kind: type[Phase]) -> None:
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


# What takes a second is not played again on other loops.
SLOW = {"Connect-close-plain", "Connect-rst-plain", "Continue-network_timeout-plain"}


def chosen(setup: str) -> list[str]:
    """The cells for another loop; for patched programs, whose sockets are not asked, one of a kind."""
    once = [cell for cell in CELLS if cell.way == cell.phase.ways[0] and str(cell) not in SLOW]
    kinds = ("kill", "total_timeout", "rst")
    return [str(cell) for cell in once if "patched" not in setup or cell.interrupt in kinds]


def outcomes(program: str, setup: str, directory: Path, *names: str) -> dict[str, str | None]:
    """What was wrong with each cell, or None, in an interpreter of its own."""
    loop, *patched = setup.split()
    outcome = run(program, directory, *patched, *names, **choose(loop), PYTHONWARNINGS="ignore")
    found = [json.loads(line) for line in outcome.out.splitlines()]
    assert outcome.code == 0, outcome
    return {line["cell"]: line["wrong"] for line in found}


@pytest.mark.parametrize("setup", ["libuv-cffi", "libev-cext patched"])
def test_whatever_happens_to_a_wait_on_other_loops(setup: str, tmp_path: Path) -> None:
    names = chosen(setup)
    table = outcomes("interrupts.cells", setup, tmp_path, *names)
    assert {name: wrong for name, wrong in table.items() if wrong} == {}
    assert list(table) == names


def test_the_hub_is_destroyed_during_each_wait(tmp_path: Path) -> None:
    names = [f"{kind.__name__}-{way}" for kind in PHASES for way in kind.ways]
    table = outcomes("interrupts.destroyed", "libev-cext", tmp_path, *names)
    assert {name: wrong for name, wrong in table.items() if wrong} == {}
    assert list(table) == names


def test_a_destroyed_hubs_greenlets_are_unwound_once_nobody_has_them() -> None:
    with Peer(Conn.wait_closed) as peer:
        assert run("interrupts.unwound", peer.port).clean().split() == ["GreenletExit", "ok"]


def test_refused_connection_is_the_builtin_error() -> None:
    if Connect not in PHASES:
        pytest.skip("needs Linux")
    with staged(Connect) as stage:
        call = stage.spawn()
        until(lambda: stage.phase.waiting())
        stage.act("rst")
        assert isinstance(call.get(timeout=15), ConnectionRefusedError)


def test_resolver_failure_comes_out_with_the_name_and_frees_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert caught.value is error
        assert caught.value.errno == socket.EAI_NONAME
        assert str(caught.value).endswith("no such host (resolving origin.test)")
        assert get(client, "/after") == b"/after"
        client.close()


@pytest.mark.parametrize("kind", [ReadBody, ReadChunks, ReadLine])
def test_what_was_read_before_an_interrupt_never_passes_as_the_whole_body(kind: type[Phase]) -> None:
    with staged(kind) as stage:
        response = stage.client.get("/waits")
        with gevent.Timeout(0.1, False):
            response.read()
        with pytest.raises(FAILURES):
            response.read()
        stage.act("over")


def test_one_of_several_on_the_same_client_is_killed() -> None:
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


def test_killed_at_any_turn_of_the_hub() -> None:
    """Not only while it waits where we expect it: after any number of turns, with others in the queue."""
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


# Python raises KeyboardInterrupt in whatever runs when the signal comes, were it a function of logging that the engine
# has asked, or gevent's own clean-up. Such a Ctrl-C was lost once: 9 of 200 that came as a connection opened.


def interrupting(*_: object, **__: object) -> bool:
    raise KeyboardInterrupt


def test_an_interrupt_is_not_lost_in_the_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(lambda conn: conn.wait_closed()) as peer, HTTPClient(peer.host, peer.port) as client:
        monkeypatch.setattr(logging.getLogger("geventhttpclient"), "isEnabledFor", interrupting)
        with pytest.raises(KeyboardInterrupt):
            client.get("/")
        assert client.statistics()["in_use"] == 0


def test_an_interrupt_in_another_greenlet_is_the_main_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer() as peer, HTTPClient(peer.host, peer.port) as client:
        with monkeypatch.context() as patch:
            patch.setattr(logging.getLogger("geventhttpclient"), "isEnabledFor", interrupting)
            asking = gevent.spawn(get, client, "/")
            with pytest.raises(KeyboardInterrupt):
                asking.join()
        assert asking.get(timeout=15) == b"/"


@pytest.mark.parametrize("fails", [False, True])
def test_an_interrupt_is_not_lost_when_a_resolver_is_done(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
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
