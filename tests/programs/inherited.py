"""A process with connections of every kind open, which forks: parent and child continue, each with its own ones.

Its arguments are the URL of a peer (`http://` or `https://`, with a `Gate`), "native" or "context" for the TLS
implementation, and the method to fork. It prints "ready" when no data is in transit any more, and waits for a line
before it forks. It prints "ended" when the child has ended, and waits for a line before it continues with the
connections.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import ssl
import sys
import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.os
import requests
from gevent.event import Event

from geventhttpclient import HTTPClient, UserAgent, httplib
from geventhttpclient.adapters import urllib3 as urllib3_adapter
from geventhttpclient.adapters.requests import Adapter
from geventhttpclient.requests import Session
from tests.support.hub import attempt, get

# Runs to its `yield` before the fork, and then in both processes: the sent value is "parent" or "child".
Use = Generator[None, str, None]
Make = Callable[[], HTTPClient]

SECONDS = 10


def idle(make: Make) -> Use:
    """An idle connection."""
    client = make()
    assert get(client, "/idle") == b"/idle"
    who = yield
    assert get(client, f"/idle-{who}") == f"/idle-{who}".encode()
    assert client._connection_pool.statistics()["opened"] == 1
    client.close()


def closed_unused(make: Make) -> Use:
    """An idle connection of a client that the child only closes."""
    client = make()
    assert get(client, "/unused") == b"/unused"
    who = yield
    if who == "parent":
        assert get(client, "/unused-again") == b"/unused-again"
    client.close()


def half_read(make: Make, dropped: bool) -> Use:
    """A response whose body is still to be read; the child tries to read it, or only drops it."""
    client = make()
    response = client.get("/held-body")
    assert response.read(5) == b"/held"
    who = yield
    if who == "parent":
        assert response.read() == b"-body"
        assert get(client, "/after-body") == b"/after-body"
        assert client._connection_pool.statistics()["opened"] == 1
    elif not dropped:
        outcome = attempt(partial(response.read, 5))
        assert isinstance(outcome, Exception), outcome
        response.release()
    del response


def waiting(make: Make) -> Use:
    """Greenlets that wait, one for a head and one in the queue: they belong to the parent."""
    client = make()
    calls = [gevent.spawn(attempt, lambda: client.post("/held", b"only-once").read())]
    calls.append(gevent.spawn(attempt, lambda: client.post("/queued", b"only-once").read()))
    gevent.sleep(0)
    who = yield
    if who == "parent":
        assert [call.get(timeout=SECONDS) for call in calls] == [b"/held", b"/queued"]
    else:
        gevent.sleep(0.01)
        assert not any(call.dead for call in calls)
        gevent.killall(calls)
        gevent.sleep(0.01)


def queued_behind_a_response(make: Make) -> Use:
    """The child drops the response; the next greenlet in the queue is woken only in the parent."""
    client = make()
    response = client.get("/held-body")
    call = gevent.spawn(attempt, lambda: client.post("/queued", b"only-once").read())
    gevent.sleep(0)
    who = yield
    if who == "parent":
        assert response.read() == b"/held-body"
        assert call.get(timeout=SECONDS) == b"/queued"
    else:
        del response
        gc.collect()
        gevent.sleep(0.01)
        assert not call.dead


def agents(make: Make, url: str, options: dict[str, Any]) -> Use:
    """UserAgent and Session."""
    kinds = [UserAgent(**options), Session(**options)]
    for agent in kinds:
        assert agent.urlopen(f"{url}/agent").content == b"/agent"
    who = yield
    for agent in kinds:
        assert agent.urlopen(f"{url}/agent-{who}").content == f"/agent-{who}".encode()
        agent.close()


def adapters(url: str) -> Use:
    """requests and urllib3 on the engine, with idle connections and with a partly read stream."""
    verify = os.environ["SSL_CERT_FILE"]
    session = requests.Session()
    session.mount(url, Adapter())
    assert session.get(f"{url}/requests", verify=verify).content == b"/requests"
    stream = session.get(f"{url}/held-body", stream=True, verify=verify)
    manager = urllib3_adapter.PoolManager(ca_certs=verify)
    assert manager.request("GET", f"{url}/urllib3").data == b"/urllib3"
    who = yield
    assert session.get(f"{url}/requests-{who}", verify=verify).content == f"/requests-{who}".encode()
    assert manager.request("GET", f"{url}/urllib3-{who}").data == f"/urllib3-{who}".encode()
    if who == "parent":
        assert stream.content == b"/held-body"
    else:
        with contextlib.suppress(Exception):
            stream.content  # noqa: B018
    stream.close()
    session.close()
    manager.clear()


def conversations(connect: Callable[[], httplib.HTTPConnection]) -> Use:
    """Connections with http.client's interface: idle, with a response to be read, closed in the middle of a request."""
    idle, reading, closing = connect(), connect(), connect()
    for connection in (idle, closing):
        connection.request("GET", "/httplib")
        assert connection.getresponse().read() == b"/httplib"
    reading.request("GET", "/held-body")
    response = reading.getresponse()
    assert response.read(5) == b"/held"
    who = yield
    if who == "parent":
        assert response.read() == b"-body"
        for connection in (idle, reading, closing):
            connection.request("GET", "/httplib-again")
            assert connection.getresponse().read() == b"/httplib-again"
    else:
        assert isinstance(attempt(lambda: response.read(5)), Exception)
        with contextlib.suppress(OSError):
            closing.sock.shutdown(2)
        closing.close()
        # Sent again on a new connection of the child, or not at all.
        outcome = attempt(lambda: idle.request("GET", "/httplib-child"))
        assert outcome is None or isinstance(outcome, OSError), outcome
        if outcome is None:
            assert idle.getresponse().read() == b"/httplib-child"
    for connection in (idle, reading, closing):
        connection.close()


def thread_local(make: Make) -> Use:
    """The objects in a `threading.local` of another thread are dropped in the child before any fork hook runs."""
    local = threading.local()
    ready, go_on = threading.Event(), threading.Event()
    outcomes: list[object] = []

    def work() -> None:
        local.idle = make()
        assert get(local.idle, "/thread") == b"/thread"
        local.reading = make()
        local.response = local.reading.get("/held-body")
        local.queue = make()
        local.holder = local.queue.get("/held-body")
        local.queued = gevent.spawn(attempt, lambda: local.queue.post("/queued", b"only-once").read())
        gevent.sleep(0)
        ready.set()
        go_on.wait(SECONDS)
        outcomes.append(attempt(lambda: get(local.idle, "/thread-again")))
        outcomes.append(attempt(local.response.read))
        outcomes.append(attempt(local.holder.read))
        outcomes.append(attempt(lambda: local.queued.get(timeout=SECONDS)))

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(SECONDS)
    who = yield
    if who == "parent":
        go_on.set()
        thread.join(SECONDS)
        assert outcomes == [b"/thread-again", b"/held-body", b"/held-body", b"/queued"], outcomes


# Number of responses that the peer holds back.
HELD = 8


def fork(way: str, child: Callable[[], None], *, in_order: bool) -> Callable[[], int]:
    """Runs the function in a child, which ends normally or with `os._exit`. Returns a function that waits for its exit
    code."""
    if way == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()

        def wait() -> int:
            process.join(SECONDS)
            assert process.exitcode is not None
            return process.exitcode

        return wait
    number = gevent.os.fork() if way == "gevent" else os.fork()
    if number == 0:
        try:
            child()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        if in_order:
            sys.exit(0)
        os._exit(0)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def everything(url: str, tls: str, way: str, where: str) -> None:
    parts = urlsplit(url)
    assert parts.port is not None
    options: dict[str, Any] = {"network_timeout": 60, "connection_timeout": 60}
    connect = partial(httplib.HTTPConnection, parts.hostname, parts.port, timeout=60)
    if parts.scheme == "https":
        options["ssl_options"] = {"ca_certs": os.environ["SSL_CERT_FILE"]}
        connect = partial(httplib.HTTPSConnection, parts.hostname, parts.port, timeout=60)
        if tls == "context":
            options["ssl_context_factory"] = lambda **arguments: ssl.create_default_context(**arguments)
            connect.keywords["context"] = ssl.create_default_context()
    make = partial(HTTPClient.from_url, url, concurrency=1, **options)
    uses = [
        idle(make),
        closed_unused(make),
        half_read(make, dropped=False),
        half_read(make, dropped=True),
        waiting(make),
        queued_behind_a_response(make),
        agents(make, url, options),
        adapters(url),
        conversations(connect),
        thread_local(make),
    ]

    def run(who: str) -> None:
        for use in uses:
            with gevent.Timeout(SECONDS), contextlib.suppress(StopIteration):
                use.send(who)

    def child() -> None:
        run("child")
        uses.clear()
        gc.collect()

    done = Event()

    def work() -> None:
        # A greenlet that the engine's callback woke, a spawned greenlet, or the main greenlet.
        if where == "callback":
            assert get(make(), "/woken") == b"/woken"
        wait = fork(way, child, in_order=where == "main")
        assert wait() == 0
        done.set()

    for use in uses:
        with gevent.Timeout(SECONDS):
            next(use)
    asker = make()
    assert get(asker, "/are-held", SECONDS) == b"/are-held"
    print("ready", flush=True)
    sys.stdin.readline()
    if where == "main":
        work()
    else:
        gevent.spawn(work).get()
    assert done.is_set()
    print("ended", flush=True)
    sys.stdin.readline()
    run("parent")
    print("ok")
