"""One client in many threads, interpreters that end while requests are in flight, and forks."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable
from typing import TypeVar

import gevent
import pytest
from gevent import _hub_local
from gevent.event import Event
from gevent.pool import Pool

from geventhttpclient.client import HTTPClient
from tests.support.hub import Outcome, attempt, choose, descriptors, get, in_thread, run, running, until
from tests.support.peer import Conn, Peer

T = TypeVar("T")


class Gate:
    """A script that holds responses to /held... until /let-go is requested, or the test opens it.

    It responds to /are-held when the announced number of responses is held.
    """

    def __init__(self, expected: int = 1) -> None:
        self.expected = expected
        self.held = 0
        self.changed = Event()
        self.opened = Event()

    def hold(self) -> None:
        self.held += 1
        self.changed.set()
        self.opened.wait()

    def __call__(self, conn: Conn) -> None:
        while request := conn.read_request():
            target = request.target
            if target == "/let-go":
                self.opened.set()
            if target == "/are-held":
                while self.held < self.expected:
                    self.changed.clear()
                    self.changed.wait()
            if target == "/held-body":
                conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n/held")
                self.hold()
                conn.send(b"-body")
                continue
            if target.startswith("/held"):
                self.hold()
            conn.respond(target.encode("latin-1"))


def targets(conn: Conn) -> list[str]:
    return [request.target for request in conn.requests]


def then_without_hub(call: Callable[[], T]) -> Callable[[], T]:
    """Wraps a call so that the hub of its thread is destroyed at the end."""

    def work() -> T:
        try:
            return call()
        finally:
            hub = _hub_local.get_hub_if_exists()
            if hub is not None:
                hub.destroy(destroy_loop=True)

    return work


# Threads.

# Descriptors of the last thread's hub, which has not been cleaned up yet.
FDS_OF_A_HUB = 4


def test_client_is_shared_by_threads() -> None:
    with Peer() as peer:
        client = HTTPClient("127.0.0.1", peer.port, concurrency=2)
        assert get(client, "/main") == b"/main"
        before = len(descriptors())

        def work(me: int) -> list[bytes]:
            def loop(strand: int) -> list[bytes]:
                return [get(client, f"/{me}/{strand}/{n}") for n in range(20)]

            strands = [gevent.spawn(loop, strand) for strand in range(3)]
            gevent.joinall(strands, timeout=20, raise_error=True)
            return [body for strand in strands for body in strand.value]

        results: dict[int, object] = {}
        threads = [
            threading.Thread(
                target=lambda me=me: results.__setitem__(me, attempt(then_without_hub(lambda: work(me)))),
            )
            for me in range(6)
        ]
        for thread in threads:
            thread.start()
        until(lambda: not any(thread.is_alive() for thread in threads), 30)
        for thread in threads:
            thread.join()
        for me in range(6):
            assert results[me] == [f"/{me}/{s}/{n}".encode() for s in range(3) for n in range(20)]
        assert get(client, "/main-again") == b"/main-again"
        assert targets(peer.conns[0]) == ["/main", "/main-again"]
        # The remains of ended threads are freed at the first use in another one.
        assert in_thread(then_without_hub(lambda: get(client, "/last"))) == b"/last"
        until(lambda: len(descriptors()) <= before + FDS_OF_A_HUB)
        client.close()
        until(lambda: peer.open_now == 0)


def test_client_made_in_one_thread_is_used_in_others() -> None:
    with Peer() as peer:
        client = in_thread(lambda: HTTPClient("127.0.0.1", peer.port))
        assert get(client, "/main") == b"/main"
        assert in_thread(then_without_hub(lambda: get(client, "/thread"))) == b"/thread"
        assert get(client, "/main-again") == b"/main-again"
        client.close()


def test_client_is_used_in_a_hundred_threads_in_sequence() -> None:
    with Peer() as peer:
        client = HTTPClient("127.0.0.1", peer.port)
        counts = []
        for n in range(100):
            assert in_thread(then_without_hub(lambda n=n: get(client, f"/{n}"))) == f"/{n}".encode()
            counts.append(len(descriptors()))
        until(lambda: len(descriptors()) <= counts[5])
        client.close()


def test_connections_of_an_ended_thread_are_closed() -> None:
    with Peer() as peer:
        client = HTTPClient("127.0.0.1", peer.port)
        assert get(client, "/main") == b"/main"
        assert in_thread(lambda: get(client, "/thread")) == b"/thread"  # its hub is not destroyed
        until(lambda: peer.open_now == 1)
        assert get(client, "/main-again") == b"/main-again"
        client.close()


def test_client_is_used_in_jobs_of_the_thread_pool() -> None:
    with Peer() as peer:
        client = HTTPClient("127.0.0.1", peer.port)
        jobs = [gevent.get_hub().threadpool.spawn(get, client, f"/{n}") for n in range(8)]
        assert [job.get(timeout=20) for job in jobs] == [f"/{n}".encode() for n in range(8)]
        assert get(client, "/main") == b"/main"
        client.close()


def test_client_closed_by_another_thread_closes_idle_connections() -> None:
    used, closed = threading.Event(), threading.Event()

    def work() -> object:
        assert get(client, "/thread") == b"/thread"
        used.set()
        until(closed.is_set)
        return attempt(lambda: client.get("/too-late"))

    with Peer() as peer:
        client = HTTPClient("127.0.0.1", peer.port)
        user = gevent.spawn(in_thread, then_without_hub(work))
        until(used.is_set)
        client.close()
        closed.set()
        outcome = user.get(timeout=20)
        assert isinstance(outcome, RuntimeError), repr(outcome)
        until(lambda: peer.open_now == 0)
        assert [request.target for request in peer.requests] == ["/thread"]


def test_client_closed_by_another_thread_completes_the_waiting_request() -> None:
    gate = Gate()

    def work() -> tuple[object, object]:
        response = client.get("/held")
        return response.read(), attempt(lambda: client.get("/too-late"))

    with Peer(gate) as peer:
        client = HTTPClient("127.0.0.1", peer.port)
        user = gevent.spawn(in_thread, then_without_hub(work))
        until(lambda: gate.held)
        client.close()
        gate.opened.set()
        body, outcome = user.get(timeout=20)
        assert body == b"/held"
        assert isinstance(outcome, RuntimeError), repr(outcome)
        until(lambda: peer.open_now == 0)


def test_client_closed_while_its_threads_end_breaks_nothing() -> None:
    """The client and the ending threads close the same connections concurrently."""
    with Peer() as peer:
        for _ in range(60):
            client = HTTPClient("127.0.0.1", peer.port, concurrency=8)
            used = threading.Semaphore(0)

            def work(client: HTTPClient = client, used: threading.Semaphore = used) -> None:
                gevent.joinall([gevent.spawn(get, client, f"/{n}") for n in range(8)], raise_error=True)
                used.release()

            threads = [threading.Thread(target=work) for _ in range(2)]
            for thread in threads:
                thread.start()

            def close(client: HTTPClient = client, used: threading.Semaphore = used) -> None:
                assert used.acquire(timeout=10)
                assert used.acquire(timeout=10)
                client.close()

            in_thread(close)
            until(lambda threads=threads: not any(thread.is_alive() for thread in threads))
            for thread in threads:
                thread.join()
        until(lambda: peer.open_now == 0)


def test_client_closed_in_a_thread_without_hub_makes_none() -> None:
    """A `__del__` may run in such a thread."""
    with Peer() as peer:
        client = HTTPClient("127.0.0.1", peer.port)
        assert get(client, "/") == b"/"

        def work() -> object:
            client.close()
            client.close()
            return _hub_local.get_hub_if_exists()

        assert in_thread(work) is None
        until(lambda: peer.open_now == 0)
        with pytest.raises(RuntimeError):
            client.get("/too-late")


def test_client_dropped_in_another_thread_closes_its_connections() -> None:
    with Peer() as peer:
        box = [HTTPClient("127.0.0.1", peer.port)]
        assert get(box[0], "/") == b"/"

        def work() -> None:
            box.clear()
            gc.collect()

        in_thread(work)
        until(lambda: peer.open_now == 0)


def test_response_dropped_in_another_thread_frees_its_slot() -> None:
    with Peer(Gate()) as peer:
        client = HTTPClient("127.0.0.1", peer.port)
        box = [client.get("/held-body")]

        def work() -> None:
            box.clear()
            gc.collect()

        in_thread(work)
        assert get(client, "/after") == b"/after"
        assert len(peer.conns) == 2
        client.close()


def patient(port: int) -> HTTPClient:
    """Returns a client with one connection, and without a deadline that would wake its hub soon."""
    return HTTPClient("127.0.0.1", port, connection_timeout=600, network_timeout=600)


def test_slot_freed_by_another_thread_wakes_the_queue() -> None:
    """The waiter's hub sleeps, and must be woken."""
    box: list[object] = []
    held = threading.Event()

    def work() -> bytes:
        client = patient(peer.port)
        box.append(client.get("/held-body"))
        queued = gevent.spawn(attempt, lambda: client.get("/queued").read())
        gevent.spawn_later(0.05, held.set)
        return bytes(queued.get(timeout=10))

    def free() -> None:
        assert held.wait(10)
        box.clear()
        gc.collect()

    with Peer(Gate()) as peer:
        waiter = gevent.spawn(in_thread, then_without_hub(work))
        in_thread(free)
        assert waiter.get(timeout=20) == b"/queued"


def test_pool_closed_by_another_thread_ends_the_queue() -> None:
    held, turned_away = threading.Event(), threading.Event()

    def work() -> tuple[object, object]:
        response = client.get("/held-body")
        queued = gevent.spawn(attempt, lambda: client.get("/queued"))
        gevent.spawn_later(0.05, held.set)
        outcome = queued.get(timeout=10)
        turned_away.set()
        return outcome, attempt(response.read)

    def close() -> None:
        assert held.wait(10)
        client.close()

    gate = Gate()
    with Peer(gate) as peer:
        client = patient(peer.port)
        waiter = gevent.spawn(in_thread, then_without_hub(work))
        in_thread(close)
        until(lambda: turned_away.is_set() or waiter.dead)
        gate.opened.set()
        queued, body = waiter.get(timeout=20)
        assert isinstance(queued, RuntimeError), repr(queued)
        assert body == b"/held-body"


def test_response_read_in_another_thread_raises() -> None:
    """The connection belongs to the thread that sent the request, where it remains usable."""
    gate = Gate()
    with Peer(gate) as peer:
        client = HTTPClient("127.0.0.1", peer.port)
        response = client.get("/held-body")
        outcome = in_thread(then_without_hub(lambda: attempt(response.read)))
        assert isinstance(outcome, RuntimeError), repr(outcome)
        gate.opened.set()
        assert response.read() == b"/held-body"
        assert get(client, "/after") == b"/after"
        client.close()


def test_complete_response_is_read_in_any_thread() -> None:
    with Peer() as peer:
        client = HTTPClient("127.0.0.1", peer.port)
        response = client.get("/all-there")
        assert in_thread(response.read) == b"/all-there"
        client.close()


def test_thread_that_ends_with_waiting_greenlets_closes_its_connections() -> None:
    """The process continues, and exits cleanly."""
    gate = Gate(4)
    with Peer(gate) as peer, running("exits.thread_ends_with_parked_greenlets", peer.port) as program:
        assert program.read_line() == "threads ended"
        gate.opened.set()
        until(lambda: peer.open_now == 0)
        program.send_line()
        assert program.end().clean().split() == ["ok"]


# The end of the interpreter.


def xfail_if_libuv_crashed(outcome: Outcome, name: str, loop: str) -> None:
    """Expects a crash of which the cause is not fully known. A thread that waits in libuv wakes while the interpreter
    is being finalized, and CPython ends it with pthread_exit: the unwinding crashes below greenlet's g_switch."""
    known = name in ("daemon_thread_parked", "thread_with_a_response") and loop.startswith("libuv")
    if known and outcome.code == -signal.SIGSEGV:
        pytest.xfail("SIGSEGV of a thread that is ended during finalization, on libuv")


def check_end(outcome: Outcome, code: int) -> None:
    assert outcome.code == code, outcome
    for word in ("Fatal Python error", "panicked", "PanicException", "Segmentation", "Exception ignored"):
        assert word not in outcome.err, outcome.err


LOOPS = ["libev-cext", "libuv-cffi"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("returns", 0),
        ("sys_exit", 3),
        ("exception", 1),
        ("os_exit", 4),
        ("within_a_greenlet", 5),
        ("references_dropped", 6),
        ("daemon_thread_parked", 0),
        ("hub_destroyed", 0),
        ("closed_without_a_hub", 0),
        ("reinitialised", 0),
        ("thread_with_a_response", 0),
        ("plain_daemon_thread", 0),
    ],
)
def test_interpreter_exits_while_requests_wait(name: str, code: int, loop: str) -> None:
    with Peer(Gate(4)) as peer:
        outcome = run(f"exits.{name}", peer.port, **choose(loop))
        xfail_if_libuv_crashed(outcome, name, loop)
        check_end(outcome, code)
        until(lambda: peer.open_now == 0 or peer.scripts[0].opened.set())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "code", "said", "loop"),
    [
        *[("terminated", -signal.SIGTERM, "", loop) for loop in LOOPS],
        *[("terminated_in_order", 8, "at exit", loop) for loop in LOOPS],
        # On libuv, gevent itself loses exceptions that a handler raises while the hub runs Python code of its own.
        ("terminated_while_busy", 8, "", "libev-cext"),
    ],
)
def test_sigterm_ends_the_interpreter(name: str, code: int, said: str, loop: str) -> None:
    with Peer(Gate(4)) as peer, running(f"exits.{name}", peer.port, **choose(loop)) as program:
        assert program.read_line() == "parked"
        program.signal(signal.SIGTERM)
        outcome = program.end()
        check_end(outcome, code)
        assert outcome.out.strip() == said
        until(lambda: peer.open_now == 0 or peer.scripts[0].opened.set())  # type: ignore[attr-defined]


def test_request_in_an_atexit_function_is_sent() -> None:
    with Peer(Gate(4)) as peer:
        outcome = run("exits.atexit_request", peer.port)
    check_end(outcome, 0)
    assert outcome.out.split() == ["/at-exit"]


def test_client_closed_by_del_at_exit() -> None:
    with Peer(Gate()) as peer:
        outcome = run("exits.closed_by_del", peer.port)
    check_end(outcome, 0)
    assert outcome.err == ""


def test_request_by_del_at_exit_is_handled() -> None:
    with Peer(Gate()) as peer:
        outcome = run("exits.request_by_del", peer.port)
    check_end(outcome, 0)
    assert outcome.out.split()[:1] == ["True"], outcome


@pytest.mark.parametrize("times", [5, pytest.param(20, marks=pytest.mark.long)])
def test_interpreter_exits_while_a_daemon_thread_sends_requests(times: int) -> None:
    with Peer() as peer:
        pool = Pool(3)
        outcomes = pool.map(lambda n: run("exits.daemon_thread", peer.port), range(times))
    for outcome in outcomes:
        check_end(outcome, 0)


# Forks.

WAYS = [("os", "libev-cext"), ("gevent", "libev-cext"), ("multiprocessing", "libev-cext"), ("gevent", "libuv-cffi")]
forks = pytest.mark.parametrize(("way", "loop"), WAYS)


def run_fork(name: str, peer: Peer, way: str, loop: str) -> str:
    return run(f"forks.{name}", peer.port, way, **fork_environment(way, loop)).clean()


def fork_environment(way: str, loop: str) -> dict[str, str]:
    environment = choose(loop)
    # Python warns of forks in programs with threads, as some of these are.
    environment["PYTHONWARNINGS"] = "ignore"
    if way != "gevent":
        # After a fork without gevent's hooks, its thread pool waits for threads that no longer exist.
        environment["GEVENT_RESOLVER"] = "block"
    return environment


@forks
def test_forked_child_has_its_own_connections(way: str, loop: str) -> None:
    with Peer() as peer:
        assert run_fork("idle", peer, way, loop).split() == ["ok"]
        assert [targets(conn) for conn in peer.conns] == [
            ["/parent-before", "/parent-after", "/parent-last"],
            ["/child", "/child-again"],
            ["/child", "/child-again"],
        ]
        assert peer.conns[0].raw.count(b"HTTP/1.1\r\n") == 3
        assert all(conn.buffer == b"" for conn in peer.conns)


@forks
def test_forked_child_that_closes_the_client_leaves_the_parent(way: str, loop: str) -> None:
    with Peer() as peer:
        assert run_fork("unused", peer, way, loop).split() == ["ok"]
        assert [targets(conn) for conn in peer.conns] == [["/parent-before", "/parent-after"]]


@forks
def test_fork_while_requests_wait_leaves_them_to_the_parent(way: str, loop: str) -> None:
    with Peer(Gate(2)) as peer:
        assert run_fork("in_flight", peer, way, loop).split() == ["ok"]
        held = [request.target for request in peer.requests if request.target.startswith("/held")]
        assert sorted(held) == ["/held0", "/held1", "/held2", "/held3"]


@forks
def test_fork_during_a_body_leaves_it_to_the_parent(way: str, loop: str) -> None:
    with Peer(Gate()) as peer:
        assert run_fork("half_read", peer, way, loop).split() == ["ok"]
        assert targets(peer.conns[0]) == ["/held-body", "/parent-after"]


@forks
def test_forked_child_keeps_no_connection_of_the_parent_open(way: str, loop: str) -> None:
    with (
        Peer() as peer,
        running("forks.closes_in_parent", peer.port, way, **fork_environment(way, loop)) as program,
    ):
        assert program.read_line() == "closed"
        until(lambda: peer.open_now == 0)
        program.send_line()
        assert program.end().clean().split() == ["ok"]


@forks
def test_fork_with_connections_in_another_thread_works(way: str, loop: str) -> None:
    with Peer() as peer:
        assert run_fork("with_threads", peer, way, loop).split() == ["ok"]
        assert ["/thread-before", "/thread-after"] in [targets(conn) for conn in peer.conns]


@forks
def test_fork_with_a_wait_and_another_hub_works(way: str, loop: str) -> None:
    with Peer(Gate()) as peer:
        assert run_fork("in_flight_with_threads", peer, way, loop).split() == ["ok"]


@forks
def test_forked_child_exits_cleanly(way: str, loop: str) -> None:
    with Peer(Gate(2)) as peer:
        outcome = run("forks.ends_in_order", peer.port, way, **fork_environment(way, loop))
        check_end(outcome, 0)
        assert outcome.out.split() == ["child", "ok"]
        assert targets(peer.conns[0]) == ["/parent-before", "/parent-after"]


@pytest.mark.parametrize(("way", "loop"), WAYS[:-1])  # the libuv loop itself does not survive this
def test_forked_grandchildren_have_their_own_connections(way: str, loop: str) -> None:
    with Peer() as peer:
        assert run_fork("again_and_again", peer, way, loop).split() == ["ok"]
        assert [targets(conn) for conn in peer.conns] == [["/0"], *([f"/{n}", f"/{n}-after"] for n in range(1, 6))]


def test_fork_without_python_hooks_is_detected() -> None:
    with Peer(Gate()) as peer:
        assert run_fork("without_hooks", peer, "c", "libev-cext").split() == ["ok"]
        assert targets(peer.conns[0]) == ["/parent-before", "/parent-after"]
        assert targets(peer.conns[1]) == ["/held-body"]
        assert targets(peer.conns[2]) == ["/child", "/child-again"]


@pytest.mark.parametrize(("way", "loop"), WAYS[:-1])  # on libuv watchers cannot be changed before a reinit
def test_forked_child_does_not_wait_for_the_parents_events(way: str, loop: str) -> None:
    with Peer(Gate()) as peer:
        assert run_fork("nothing_to_wait_for", peer, way, loop).split() == ["ok"]


@forks
def test_fork_during_a_turn_of_the_loop_works(way: str, loop: str) -> None:
    with Peer() as peer:
        assert run_fork("within_the_loop", peer, way, loop).split() == ["ok"]
        assert targets(peer.conns[0]) == ["/parent-before", "/parent-after"]
