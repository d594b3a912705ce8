"""Programs that end, in one way or another, while requests are about. Each is given the port of a peer."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading

import gevent
from gevent.event import Event

from geventhttpclient.client import HTTPClient
from tests.hubtools import attempt, get

kept: list[object] = []


def park(port: str) -> list[gevent.Greenlet]:
    """Six greenlets that wait: for heads, for a body, in the queue of a pool; and an idle connection."""
    idle = HTTPClient("127.0.0.1", int(port))
    assert get(idle, "/idle") == b"/idle"
    client = HTTPClient("127.0.0.1", int(port), concurrency=4)
    calls = [gevent.spawn(attempt, lambda: client.get("/held").read()) for _ in range(3)]
    calls.append(gevent.spawn(attempt, lambda: client.get("/held-body").read()))
    calls += [gevent.spawn(attempt, lambda: client.get("/queued").read()) for _ in range(2)]
    kept.extend([idle, client, calls])
    # When the peer holds the four, it answers this one.
    assert get(HTTPClient("127.0.0.1", int(port)), "/are-held", 30) == b"/are-held"
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
    client = HTTPClient("127.0.0.1", int(port))
    atexit.register(lambda: print(get(client, "/at-exit").decode()))


class Closer:
    """As programs have it: an object that closes its client when it goes."""

    def __init__(self, port: int) -> None:
        self.client = HTTPClient("127.0.0.1", port)

    def __del__(self) -> None:
        self.client.close()
        self.client.close()


def closed_by_del(port: str) -> None:
    """A client closed by somebody's __del__ when modules are torn down."""
    closer = Closer(int(port))
    assert get(closer.client, "/before") == b"/before"
    kept.append(closer)
    kept.append(closer.client.get("/held-body"))


class LateRequest(Closer):
    """Asks for something when it is much too late for that."""

    def __del__(self) -> None:
        outcome = attempt(lambda: self.client.get("/late").read())
        os.write(1, f"{isinstance(outcome, Exception | bytes)} {type(outcome).__name__}\n".encode())


def request_by_del(port: str) -> None:
    """A request in a __del__ at the interpreter's end: an ordinary exception, or an answer."""
    late = LateRequest(int(port))
    assert get(late.client, "/before") == b"/before"
    kept.append(late)
    sys.modules["late"] = late  # type: ignore[assignment]
    kept.clear()


def daemon_thread(port: str) -> None:
    """The interpreter ends while a daemon thread makes requests."""
    enough = threading.Event()

    def work() -> None:
        client = HTTPClient("127.0.0.1", int(port), concurrency=4)

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
    """A thread goes, and leaves greenlets behind that wait: nobody will ever run them again."""

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
    # The main thread does not mind.
    client = HTTPClient("127.0.0.1", int(port))
    assert get(client, "/after") == b"/after"
    print("ok", flush=True)
