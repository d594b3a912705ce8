"""Programs that interrupt waits, on the event loop that the environment names; patched if an argument says so."""

from __future__ import annotations

import sys

if "patched" in sys.argv[2:]:
    from gevent import monkey

    monkey.patch_all()

import json
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import gevent
import greenlet

from geventhttpclient._core import _runtime_statistics
from geventhttpclient.client import HTTPClient
from tests.support.certificates import Certificates
from tests.support.hub import attempt, descriptors, get, until
from tests.support.interrupts import CELLS, play
from tests.support.wait_points import PHASES, Phase, PoolWait, SendFile, Stage, staged


def cells(directory: str, *names: str) -> None:
    """Runs the cells of these names, and prints for each one its traceback, or null."""
    certificates = Certificates(Path(directory))
    wanted = set(names)
    for cell in CELLS:
        if str(cell) in wanted:
            report(str(cell), lambda cell=cell: play(cell, certificates))


def report(name: str, call: Callable[[], object]) -> None:
    wrong = None
    try:
        with gevent.Timeout(20):
            call()
    except BaseException:
        wrong = traceback.format_exc()
    print(json.dumps({"cell": name, "wrong": wrong}), flush=True)


def destroyed(directory: str, *names: str) -> None:
    """Destroys the main thread's hub while a call waits in it, for each phase and each kind of connection."""
    certificates = Certificates(Path(directory))
    for kind in PHASES:
        for way in kind.ways:
            name = f"{kind.__name__}-{way}"
            if name in names:
                report(name, lambda kind=kind, way=way: Aside(kind, way, certificates).play())


class Aside:
    """A stage whose peer is in another thread with its own hub, since the hub of this thread is destroyed."""

    def __init__(self, kind: type[Phase], way: str, certificates: Certificates) -> None:
        self.kind, self.way, self.certificates = kind, way, certificates
        self.stage: Stage | None = None
        self.over, self.done = threading.Event(), threading.Event()
        self.healed = threading.Event()

    def serve(self) -> None:
        """Runs the peer's thread."""
        with staged(self.kind, self.way, self.certificates, concurrency=2, prepare=False) as stage:
            self.stage = stage
            until(self.over.is_set, 60)
            if isinstance(stage.phase, PoolWait):
                stage.phase.action.set("over")  # its holders have ended as well
            else:
                stage.act("over")
                stage.heal()
            self.healed.set()
            until(self.done.is_set, 60)
        gevent.get_hub().destroy(destroy_loop=True)

    def play(self) -> None:
        thread = threading.Thread(target=self.serve)
        thread.start()
        try:
            self.strand()
        finally:
            self.over.set()
            self.done.set()
            thread.join(60)

    def strand(self) -> None:
        until(lambda: self.stage)
        stage = self.stage
        assert stage is not None
        assert _runtime_statistics() == (0, 0)
        stage.phase.prepare(stage.client)
        before = descriptors()
        ended: list[BaseException | bytes] = []
        call = gevent.spawn(lambda: ended.append(attempt(lambda: stage.phase.call(stage.client))))
        until(lambda: stage.phase.waiting() or call.dead)
        assert not call.dead, ended
        gevent.get_hub().destroy()
        assert not ended
        # The next access to the hub's connections finds that the hub has changed.
        assert _runtime_statistics() == (0, 0)
        self.over.set()
        until(self.healed.is_set)
        # The greenlet is stranded, like those that wait with gevent's own functions: its stack holds its objects,
        # including a second descriptor of the file.
        held = int(isinstance(stage.phase, SendFile))
        until(lambda: len(descriptors()) <= len(before) + held)
        for n in range(2):
            assert get(stage.client, f"/after/{n}") == f"/after/{n}".encode()
        assert not ended
        # A program that has a reference to it can end it, which frees all of them.
        connected = len(descriptors())
        call.parent = gevent.get_hub()
        call.parent.loop.run_callback(call.throw, gevent.GreenletExit)
        until(lambda: ended)
        assert isinstance(ended[0], gevent.GreenletExit), ended
        assert len(descriptors()) == connected - held
        for n in range(2):
            assert get(stage.client, f"/last/{n}") == f"/last/{n}".encode()
        assert _runtime_statistics() == (0, 0)


def unwound(port: str) -> None:
    """A raw greenlet without any reference waits in a hub that is destroyed."""
    client = HTTPClient("127.0.0.1", int(port))

    def wait() -> None:
        try:
            client.get("/held")
        except BaseException as e:
            print(type(e).__name__)
            raise

    before = _runtime_statistics()
    gevent.get_hub().loop.run_callback(greenlet.greenlet(wait, parent=gevent.get_hub()).switch)
    until(lambda: _runtime_statistics() != before)
    gevent.get_hub().destroy()
    assert _runtime_statistics() == (0, 0)
    print("ok")
