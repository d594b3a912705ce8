"""Helpers for tests of geventhttpclient.httplib: http.client's classes and ours, and peers that run in a thread.

A test with the argument `lib` runs with http.client first, which proves its expectations, and then with ours.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import httplib
from tests.support.peer import Peer, Script

# The originals: a test may patch the module later.
THEIRS = SimpleNamespace(
    HTTPConnection=http.client.HTTPConnection,
    HTTPSConnection=http.client.HTTPSConnection,
    HTTPResponse=http.client.HTTPResponse,
)
OURS = SimpleNamespace(
    HTTPConnection=httplib.HTTPConnection,
    HTTPSConnection=httplib.HTTPSConnection,
    HTTPResponse=httplib.HTTPResponse,
)

both = pytest.mark.parametrize("lib", [pytest.param(THEIRS, id="theirs"), pytest.param(OURS, id="ours")])


@contextmanager
def aside(*scripts: Script, **options: Any) -> Iterator[Peer]:
    """Starts a `Peer` in a thread with a hub of its own, so that it also serves clients that block theirs."""
    started = threading.Event()
    running: list[tuple[Peer, Any]] = []
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            with Peer(*scripts, **options) as peer:
                ended = Event()
                end = gevent.get_hub().loop.async_()
                end.start(ended.set)
                running.append((peer, end))
                started.set()
                ended.wait()
                end.close()
        except BaseException as e:
            errors.append(e)
        finally:
            started.set()
            gevent.get_hub().destroy()

    thread = threading.Thread(target=serve)
    thread.start()
    started.wait()
    if not running:
        raise errors[0]
    peer, end = running[0]
    try:
        yield peer
    finally:
        end.send()
        thread.join()
    if errors:
        raise errors[0]


class Recorder:
    """Replacement for the socket of a connection that keeps the data sent."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    @property
    def sent(self) -> bytes:
        return b"".join(self.pieces)

    def sendall(self, data: Any) -> None:
        # As a socket does: a TypeError for what has no bytes in it.
        self.pieces.append(memoryview(data).tobytes())

    def close(self) -> None:
        pass


def recording(lib: Any, host: str = "example.org", port: int | None = None, **options: Any) -> tuple[Any, Recorder]:
    """Returns a connection of that library which writes to a Recorder."""
    connection, recorder = lib.HTTPConnection(host, port, **options), Recorder()
    connection.sock = recorder
    return connection, recorder


def outcome(call: Any) -> Any:
    """Returns the result, or the class and the text of the exception."""
    try:
        return call()
    except Exception as e:
        return type(e), str(e)
