"""Programs that test the hub. Each gets the port of a peer, prints its results, and exits with 0."""

from __future__ import annotations

import gc
import resource
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import gevent
import greenlet
from gevent import socket
from gevent.event import Event
from gevent.exceptions import LoopExit

from geventhttpclient.client import HTTPClient
from tests.support.hub import attempt, descriptors, get


def deadlock_is_seen() -> bool:
    """Returns True if a wait for an event that can never occur raises LoopExit."""
    try:
        with gevent.Timeout(3, ref=False):
            Event().wait()
    except LoopExit:
        return True
    except gevent.Timeout:
        return False
    raise AssertionError("an event was set that no greenlet sets")


def loop_ends() -> bool:
    """Returns True if the loop ends because nothing keeps it running."""
    return bool(gevent.wait(timeout=5)) and bool(gevent.get_hub().join(timeout=5))


def hold(client: HTTPClient, target: str) -> None:
    """Receives a response and keeps it until killed."""
    with client.get(target):
        Event().wait()


def quiet(port: str) -> None:
    """The loop runs while a request waits, and ends otherwise."""
    client = HTTPClient("127.0.0.1", int(port), concurrency=3, network_timeout=600, connection_timeout=600)

    assert client.get("/alone").read() == b"/alone"
    print("the main greenlet alone: ok")

    assert loop_ends()
    assert deadlock_is_seen()
    print("an idle connection: ok")

    calls = [gevent.spawn(get, client, f"/spawned{n}") for n in range(3)]
    assert gevent.wait(timeout=20)
    assert [call.value for call in calls] == [b"/spawned0", b"/spawned1", b"/spawned2"]
    assert deadlock_is_seen()
    print("three requests and three idle connections: ok")

    response = client.get("/held-body")
    assert loop_ends()
    assert deadlock_is_seen()
    print("an unread response: ok")
    del response
    gc.collect()

    single = HTTPClient("127.0.0.1", int(port), network_timeout=600, connection_timeout=600)
    holder = gevent.spawn(hold, single, "/held-body")
    assert loop_ends()
    error = attempt(lambda: single.get("/queued"))
    assert isinstance(error, LoopExit)
    words = f"all 1 connections to 127.0.0.1:{port} are held by responses that have not been read to their end"
    assert words in str(error), error
    queued = gevent.spawn(attempt, lambda: single.get("/queued"))
    assert loop_ends()
    queued.kill()
    holder.kill()
    assert single.get("/queued").read() == b"/queued"
    print("a queue that only a blocked greenlet could serve: ok")

    held = gevent.spawn(attempt, lambda: client.get("/held"))
    gevent.wait(timeout=0.2)
    assert not held.dead
    held.kill()
    assert deadlock_is_seen()
    print("a request that was killed: ok")

    hasty = HTTPClient("127.0.0.1", int(port), network_timeout=0.1, connection_timeout=600)
    assert isinstance(attempt(lambda: hasty.get("/held")), TimeoutError)
    assert loop_ends()
    assert deadlock_is_seen()
    print("a request that timed out: ok")

    waiting = [gevent.spawn(attempt, lambda: client.get("/held")) for _ in range(5)]
    gevent.wait(timeout=0.2)
    gevent.killall(waiting)
    assert deadlock_is_seen()
    print("requests killed in the queue: ok")

    assert client.get("/again").read() == b"/again"
    client.close()
    assert deadlock_is_seen()
    print("closed: ok")


def quiet_except_for_one(port: str) -> None:
    """A request that leaves a pool's queue does not affect one that waits for the peer."""
    client = HTTPClient("127.0.0.1", int(port), network_timeout=600)
    owner = gevent.spawn(attempt, lambda: client.get("/held").read())
    queued = gevent.spawn(attempt, lambda: client.get("/queued"))
    gevent.sleep(0.01)
    queued.kill()
    assert not owner.dead
    # The only response is sent from outside of this hub, so the loop has to poll the socket.
    print("killed", flush=True)
    owner.join()
    print(owner.value)


def closed_by_peer(port: str) -> None:
    """An idle connection that the peer closes wakes no greenlet, and is not reused."""
    client = HTTPClient("127.0.0.1", int(port))
    assert client.get("/last").read() == b"/last"
    assert loop_ends()
    sys.stdin.readline()
    assert loop_ends()
    assert deadlock_is_seen()
    assert client.get("/new").read() == b"/new"
    print("ok")


def interrupted_main(port: str) -> None:
    """SIGINT while the main greenlet waits for a response."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore SIGINT in background jobs
    client = HTTPClient("127.0.0.1", int(port))
    try:
        client.get("/held")
    except KeyboardInterrupt:
        print("KeyboardInterrupt", flush=True)
    assert get(client, "/after") == b"/after"
    assert deadlock_is_seen()
    print("ok")


def interrupted_spawned(port: str) -> None:
    """SIGINT while a spawned greenlet waits for a response, and the main greenlet waits for it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    client = HTTPClient("127.0.0.1", int(port), concurrency=2)
    call = gevent.spawn(attempt, lambda: client.get("/held").read())
    try:
        call.join()
    except KeyboardInterrupt:
        assert get(client, "/after") == b"/after"
        assert not call.dead
        print("KeyboardInterrupt", flush=True)
    assert call.get(timeout=10) == b"/held"
    print("ok")


def signal_handler(port: str) -> None:
    """A signal handler of gevent sends a request while another one waits."""
    client = HTTPClient("127.0.0.1", int(port), concurrency=2)
    handler = gevent.signal_handler(signal.SIGUSR1, lambda: print(get(client, "/handler").decode(), flush=True))
    print(get(client, "/held").decode(), flush=True)
    handler.cancel()
    print("ok")


def raising_handler(port: str) -> None:
    """A Python signal handler sends a request in the current greenlet, possibly the hub: nothing breaks."""
    client = HTTPClient("127.0.0.1", int(port), concurrency=2)

    def handler(number: int, frame: object) -> None:
        print("handler", flush=True)
        print(type(attempt(lambda: client.get("/handler").read())).__name__, flush=True)

    signal.signal(signal.SIGUSR1, handler)
    print(get(client, "/held").decode(), flush=True)
    assert get(client, "/after") == b"/after"
    print("ok")


def hub_destroyed(port: str) -> None:
    """The same client works on successive hubs of the main thread."""
    client = HTTPClient("127.0.0.1", int(port), concurrency=2)
    assert get(client, "/0") == b"/0"
    gevent.get_hub().destroy()
    assert get(client, "/1") == b"/1"
    before = len(descriptors())
    for n in range(2, 30):
        gevent.get_hub().destroy()
        assert get(client, f"/{n}") == f"/{n}".encode()
    assert len(descriptors()) <= before, descriptors()
    calls = [gevent.spawn(get, client, f"/last{n}") for n in range(4)]
    gevent.joinall(calls, timeout=10)
    assert [call.value for call in calls] == [f"/last{n}".encode() for n in range(4)]
    assert deadlock_is_seen()
    print("ok")


def hub_destroyed_with_an_unread_response(port: str) -> None:
    """A response of a destroyed hub: reading it fails or works, and never hangs or crashes."""
    client = HTTPClient("127.0.0.1", int(port))
    response = client.get("/held-body")
    gevent.get_hub().destroy()
    with gevent.Timeout(0.3, False):
        attempt(response.read)
    del response
    gc.collect()
    assert get(client, "/after") == b"/after"
    print("ok")


def hub_destroyed_within(port: str) -> None:
    """A greenlet that was woken for its response destroys the hub that woke it."""

    def work() -> str:
        client = HTTPClient("127.0.0.1", int(port))
        done = []

        def last() -> None:
            done.append(get(client, "/inside"))
            gevent.get_hub().destroy()

        outcome = attempt(lambda: gevent.spawn(last).join())
        assert done == [b"/inside"]
        assert get(client, "/after") == b"/after"
        return type(outcome).__name__

    print(in_thread_without_hub(work))
    print(work())
    print("ok")


def in_thread_without_hub(call: Callable[[], str]) -> str:
    """Calls the function in a native thread while the main thread's hub does not run."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(30)


def dies_of_system_exit(port: str) -> None:
    """SystemExit from a raw greenlet that the engine woke reaches the main greenlet, and ends the program."""
    client = HTTPClient("127.0.0.1", int(port), concurrency=2)

    def end() -> None:
        get(client, "/before")
        sys.exit(7)

    raw = greenlet.greenlet(end, parent=gevent.get_hub())
    gevent.get_hub().loop.run_callback(raw.switch)
    try:
        Event().wait()
    except SystemExit as e:
        print("SystemExit", e.code)
    assert get(client, "/after") == b"/after"
    sys.exit(7)


def cycles(count: str) -> None:
    """Interrupts thousands of requests, in every phase, and prints the growth of descriptors, memory and objects."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    address = listener.getsockname()
    # A resolver that returns at once: that of the thread pool would take most of the time.
    socket.getaddrinfo = lambda *arguments, **keywords: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]
    client = HTTPClient("127.0.0.1", address[1], network_timeout=600, connection_timeout=600)

    def cycle(n: int) -> None:
        whole_body = n % 4 == 1
        call = gevent.spawn(attempt, lambda: client.get("/").read())
        sock, _ = listener.accept()
        assert sock.recv(4096).startswith(b"GET / ")
        if whole_body:
            sock.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            gevent.sleep(0)
        if n % 4 == 2:
            queued = gevent.spawn(attempt, lambda: client.get("/queued"))
            queued.join(0)
            queued.kill()
            assert isinstance(queued.value, gevent.GreenletExit)
        error = gevent.GreenletExit() if n % 2 else gevent.Timeout()
        call.kill(error)
        assert call.value is error
        with suppress(ConnectionResetError):  # if it was closed with unread data
            assert sock.recv(4096) == b""
        sock.close()

    def measure() -> tuple[int, int, int, int]:
        gc.collect()
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[1])
        return (
            len(descriptors()),
            pages * resource.getpagesize() // 1024,
            len(gc.get_objects()),
            sys.getrefcount(gevent.get_hub()),
        )

    for n in range(int(count) // 5):
        cycle(n)
    before = measure()
    for n in range(int(count) // 5, int(count)):
        cycle(n)
    after = measure()
    print(*(b - a for a, b in zip(before, after, strict=True)))


def fairness(port: str) -> None:
    """Prints the number of responses, the maximum between two ticks of a short timer, and the number of ticks."""
    width, rounds = 32, 50
    client = HTTPClient("127.0.0.1", int(port), concurrency=width)
    responses = 0
    bursts = []
    done = Event()

    def request() -> None:
        nonlocal responses
        for _ in range(rounds):
            get(client, "/")
            responses += 1
            sum(range(4000))  # meanwhile the responses to earlier requests arrive

    def tick() -> None:
        seen = 0
        while not done.is_set():
            gevent.sleep(0.001)
            bursts.append(responses - seen)
            seen = responses

    ticker = gevent.spawn(tick)
    gevent.joinall([gevent.spawn(request) for _ in range(width)], timeout=30, raise_error=True)
    done.set()
    ticker.join()
    assert responses == width * rounds
    print(responses, max(bursts), sum(1 for burst in bursts if burst))


def download_fairness(port: str) -> None:
    """Prints the length of a download, and the maximum number of bytes received between two turns of the loop."""
    seen = most = length = 0

    def turned() -> None:
        nonlocal seen, most
        seen, most = length, max(most, length - seen)

    turns = gevent.get_hub().loop.check()
    turns.start(turned)
    response = HTTPClient("127.0.0.1", int(port)).get("/")
    piece = bytearray(65_536)
    while received := response.readinto(piece):
        length += received
    turned()
    print(length, most)


def timer_fairness(port: str) -> None:
    """Requests complete while 10 greenlets spin."""
    client = HTTPClient("127.0.0.1", int(port), concurrency=8)
    done = Event()

    def spin() -> None:
        while not done.is_set():
            gevent.sleep(0)

    spinners = [gevent.spawn(spin) for _ in range(10)]
    calls = [gevent.spawn(get, client, f"/{n}") for n in range(40)]
    gevent.joinall(calls, timeout=30, raise_error=True)
    assert [call.value for call in calls] == [f"/{n}".encode() for n in range(40)]
    done.set()
    gevent.joinall(spinners)
    print("ok")
