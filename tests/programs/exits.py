"""Programs that end, in various ways, while requests are in flight. The argument is the port of a peer."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from typing import Any

import gevent
from gevent.event import Event

from geventhttpclient.client import HTTPClient
from tests.support.hub import attempt, get

kept: list[object] = []

# HTTP/1.1, unless the test sets a variable.
VERSION: dict[str, str] = {"http2": "prior-knowledge"} if "SPEAK_HTTP2" in os.environ else {}


def client_of(port: str, **options: Any) -> HTTPClient:
    return HTTPClient("127.0.0.1", int(port), **VERSION, **options)


def park(port: str) -> list[gevent.Greenlet]:
    """Starts six greenlets that wait for heads, for a body and in the queue of a pool; opens an idle connection."""
    idle = client_of(port)
    assert get(idle, "/idle") == b"/idle"
    client = client_of(port, concurrency=4)
    calls = [gevent.spawn(attempt, lambda: client.get("/held").read()) for _ in range(3)]
    calls.append(gevent.spawn(attempt, lambda: client.get("/held-body").read()))
    calls += [gevent.spawn(attempt, lambda: client.get("/queued").read()) for _ in range(2)]
    kept.extend([idle, client, calls])
    # The peer answers this request when it holds the four others.
    assert get(client_of(port), "/are-held", 30) == b"/are-held"
    assert not any(call.dead for call in calls)
    return calls


def returns(port: str) -> None:
    park(port)


def sys_exit(port: str) -> None:
    park(port)
    sys.exit(3)


def exception(port: str) -> None:
    park(port)
    raise ZeroDivisionError


def os_exit(port: str) -> None:
    park(port)
    os._exit(4)


def within_a_greenlet(port: str) -> None:
    park(port)
    gevent.spawn(sys.exit, 5)
    Event().wait()


def references_dropped(port: str) -> None:
    park(port)
    kept.clear()
    gc.collect()
    sys.exit(6)


def atexit_request(port: str) -> None:
    """Requests in an exit handler still work."""
    park(port)
    client = client_of(port)
    atexit.register(lambda: print(get(client, "/at-exit").decode()))


class Closer:
    """An object that closes its client in __del__, as in many programs."""

    def __init__(self, port: str) -> None:
        self.client = client_of(port)

    def __del__(self) -> None:
        self.client.close()
        self.client.close()


def closed_by_del(port: str) -> None:
    """A client is closed by the __del__ of an object while modules are torn down."""
    closer = Closer(port)
    assert get(closer.client, "/before") == b"/before"
    kept.append(closer)
    kept.append(closer.client.get("/held-body"))


class LateRequest(Closer):
    """An object that sends a request in __del__."""

    def __del__(self) -> None:
        outcome = attempt(lambda: self.client.get("/late").read())
        os.write(1, f"{isinstance(outcome, Exception | bytes)} {type(outcome).__name__}\n".encode())


def request_by_del(port: str) -> None:
    """A request in __del__ at the end of the interpreter raises an ordinary exception, or returns a response."""
    late = LateRequest(port)
    assert get(late.client, "/before") == b"/before"
    kept.append(late)
    sys.modules["late"] = late  # type: ignore[assignment]
    kept.clear()


def daemon_thread(port: str) -> None:
    """The interpreter ends while a daemon thread makes requests."""
    enough = threading.Event()

    def work() -> None:
        client = client_of(port, concurrency=4)

        def loop() -> None:
            count = 0
            while True:
                get(client, "/")
                count += 1
                if count == 10:
                    enough.set()

        gevent.joinall([gevent.spawn(loop) for _ in range(4)])

    threading.Thread(target=work, daemon=True).start()
    assert enough.wait(30)


def daemon_thread_parked(port: str) -> None:
    """The interpreter ends while a daemon thread waits for responses that never come."""
    held = threading.Event()

    def work() -> None:
        park(port)
        held.set()
        Event().wait()

    threading.Thread(target=work, daemon=True).start()
    assert held.wait(30)


def thread_ends_with_parked_greenlets(port: str) -> None:
    """A thread ends and leaves waiting greenlets behind, which no hub will ever run again."""

    def work() -> None:
        park(port)
        kept.clear()

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
    gc.collect()
    print("threads ended", flush=True)
    sys.stdin.readline()
    # The main thread is not affected.
    client = client_of(port)
    assert get(client, "/after") == b"/after"
    print("ok", flush=True)


def hub_destroyed(port: str) -> None:
    """The hub and its loop are destroyed first, and all its open connections later."""
    park(port)
    gevent.get_hub().destroy(destroy_loop=True)
    kept.clear()
    gc.collect()


def closed_without_a_hub(port: str) -> None:
    """Clients and responses of a destroyed hub are closed one by one."""
    park(port)
    client = client_of(port)
    response = client.get("/held-body")
    gevent.get_hub().destroy(destroy_loop=True)
    assert isinstance(attempt(response.read), RuntimeError)
    response.release()
    client.close()
    client.close()
    kept.append(response)
    fresh = client_of(port)
    assert get(fresh, "/fresh") == b"/fresh"
    kept.append(fresh)


def reinitialised(port: str) -> None:
    """gevent.reinit() without a fork: waiting requests continue, and the idle connection is reused."""
    client = client_of(port)
    assert get(client, "/before") == b"/before"
    park(port)
    gevent.reinit()
    assert get(client, "/after") == b"/after"
    assert client._connection_pool.statistics()["opened"] == 1
    assert get(client_of(port), "/let-go") == b"/let-go"
    gevent.joinall(kept[-1], timeout=20)  # type: ignore[call-overload]
    assert [call.value for call in kept[-1]] == [*[b"/held"] * 3, b"/held-body", *[b"/queued"] * 2]  # type: ignore[attr-defined]


def terminated(port: str) -> None:
    """SIGTERM with the default action of the system."""
    park(port)
    print("parked", flush=True)
    Event().wait(60)


def terminated_in_order(port: str) -> None:
    """SIGTERM with a handler that exits, as in most programs: it runs in the current greenlet, or in the hub."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(8))
    park(port)
    atexit.register(lambda: print("at exit", flush=True))
    print("parked", flush=True)
    Event().wait(60)


def terminated_while_busy(port: str) -> None:
    """The same while requests are in flight."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(8))
    client = client_of(port, concurrency=4)

    def loop() -> None:
        while True:
            get(client, "/")

    kept.extend(gevent.spawn(loop) for _ in range(4))
    gevent.sleep(0.05)
    print("parked", flush=True)
    Event().wait(60)


def thread_with_a_response(port: str) -> None:
    """A daemon thread has an unread response in a cycle, and the main thread runs the garbage collector."""
    held = threading.Event()

    def work() -> None:
        client = client_of(port)
        cycle: list[object] = [client, client.get("/held-body")]
        cycle.append(cycle)
        del cycle, client
        held.set()
        gevent.sleep(60)

    threading.Thread(target=work, daemon=True).start()
    assert held.wait(30)
    gc.collect()  # in this thread
    assert get(client_of(port), "/after") == b"/after"


def plain_daemon_thread(port: str) -> None:
    """A daemon thread that has used the client runs other code while the interpreter ends."""
    used = threading.Event()

    def work() -> None:
        local = threading.local()
        local.client = client_of(port)
        local.response = local.client.get("/held-body")
        used.set()
        while True:
            threading.Event().wait(0.0001)

    threading.Thread(target=work, daemon=True).start()
    assert used.wait(30)
