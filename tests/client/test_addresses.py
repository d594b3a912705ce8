"""Connecting to a host: addresses and their order, the resolver and its cache, Unix domain sockets."""

from __future__ import annotations

import _socket
import socket as native_socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.resolver.blocking
import gevent.resolver.thread
import pytest
from gevent import socket
from gevent.event import Event

from geventhttpclient import HTTPClient, exceptions, resolver
from geventhttpclient import client as client_module
from geventhttpclient.connectionpool import ConnectionPool
from tests.support.hub import attempt
from tests.support.peer import Conn, Peer, Script, serve_ok
from tests.support.scripted import quickest, settle

pytestmark = pytest.mark.usefixtures("bounded")

LIMIT = 0.08

Entry = tuple[Any, ...]


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    resolver.clear_dns_cache()
    yield
    resolver.clear_dns_cache()


def entry(host: str, port: int = 80) -> Entry:
    """Returns an item in the form of a result of getaddrinfo."""
    if ":" in host:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))


class Resolver:
    """Replacement for gevent's resolver: knows the names that the test gives it, and records each lookup."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}
        self.asked: list[tuple[str, int, int]] = []
        self.before: Callable[[], object] = lambda: None

    def getaddrinfo(self, host: str, port: int, family: int = 0, kind: int = 0, *_: int) -> list[Entry]:
        assert kind == socket.SOCK_STREAM
        self.asked.append((host, port, family))
        self.before()
        found = [entry(address, port) for address in self.known.get(host.lower(), [])]
        found = [each for each in found if family in (socket.AF_UNSPEC, each[0])]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    ours = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", ours.getaddrinfo)
    return ours


def found_by(host: str, port: int = 80, **options: Any) -> list[str]:
    with closing(ConnectionPool(host, port, host, port, **options)) as pool:
        return [found[4][0] for found in pool._resolve()]


def ipv6_peer(port: int = 0, *scripts: Script) -> Peer:
    try:
        return Peer(*scripts, family=socket.AF_INET6, port=port)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")


@contextmanager
def deaf(host: str, port: int) -> Iterator[None]:
    """Keeps the queue of a listener at that address full, so that the kernel drops each SYN."""
    with native_socket.socket() as listener:
        listener.bind((host, port))
        listener.listen(0)
        fillers = [native_socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield
        for filler in fillers:
            filler.close()


# ---------------------------------------------------------------- order


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("::1 ::2 1.1.1.1 1.1.1.2", "::1 1.1.1.1 ::2 1.1.1.2"),
        ("1.1.1.1 1.1.1.2 ::1", "::1 1.1.1.1 1.1.1.2"),
        ("1.1.1.1 ::2 ::1 ::3", "::2 1.1.1.1 ::1 ::3"),
        ("1.1.1.2 1.1.1.1", "1.1.1.2 1.1.1.1"),
        ("::2 ::1", "::2 ::1"),
    ],
)
def test_address_families_alternate(names: Resolver, said: str, wanted: str) -> None:
    names.known["a.test"] = said.split()
    assert found_by("a.test") == wanted.split()
    if ipv4 := [address for address in said.split() if ":" not in address]:
        assert found_by("a.test", disable_ipv6=True) == ipv4
        assert names.asked[-1] == ("a.test", 80, socket.AF_INET)


def test_ipv6_is_tried_first(names: Resolver) -> None:
    names.known["a.test"] = ["127.0.0.1", "::1"]
    with Peer() as peer, ipv6_peer(peer.port) as peer6:
        with HTTPClient("a.test", peer.port) as client:
            assert client.get("/six").read() == b"/six"
        with HTTPClient("a.test", peer.port, disable_ipv6=True) as client:
            assert client.get("/four").read() == b"/four"
        assert [request.target for request in peer6.requests] == ["/six"]
        assert [request.target for request in peer.requests] == ["/four"]


def test_refused_address_is_followed_by_the_other_family_at_once(names: Resolver) -> None:
    names.known["a.test"] = ["127.0.0.1", "::1"]

    def connect() -> None:
        with HTTPClient("a.test", peer.port) as client:
            assert client.get("/").read() == b"/"

    with Peer() as peer:
        assert quickest(connect) < 0.2


def test_subclass_determines_the_order_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    class Backwards(ConnectionPool):
        def _resolve(self) -> list[Entry]:
            return [entry("127.0.0.1", peer.port), entry("::1", peer.port)]

    monkeypatch.setattr(client_module, "ConnectionPool", Backwards)
    with Peer() as peer, ipv6_peer(peer.port) as peer6, HTTPClient("a.test", peer.port) as client:
        assert client.get("/").read() == b"/"
        assert (len(peer.conns), len(peer6.conns)) == (1, 0)


def test_subclass_chooses_the_addresses(monkeypatch: pytest.MonkeyPatch, names: Resolver) -> None:
    """The Host header is still the host of the client, which need not have an address."""

    class Elsewhere(ConnectionPool):
        def __init__(self, _host: str, _port: int, *origin: Any, **others: Any) -> None:
            super().__init__("elsewhere.test", peer.port, *origin, **others)

    class Pinned(Elsewhere):
        def _resolve(self) -> list[Entry]:
            return [entry("127.0.0.1", self._connection_port)]

    names.known["elsewhere.test"] = ["127.0.0.1"]
    with Peer(serve_ok, serve_ok) as peer:
        for pool in (Elsewhere, Pinned):
            monkeypatch.setattr(client_module, "ConnectionPool", pool)
            with HTTPClient("a.test", 81) as client:
                assert client.get("/").read() == b"/"
        assert {request.get("Host") for request in peer.requests} == {"a.test:81"}
    assert [host for host, *_ in names.asked] == ["elsewhere.test"]


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is loopback on Linux only")
def test_silent_address_is_overtaken() -> None:
    """The next address is tried after 250 ms, while other greenlets run; the first attempt is cancelled."""
    with Peer() as peer, deaf("127.0.0.2", peer.port):
        route = {f"a.test:{peer.port}": ["127.0.0.2", "127.0.0.1"]}
        with HTTPClient("a.test", peer.port, resolve=route) as client:
            start = time.monotonic()
            job = gevent.spawn(client.get, "/")
            gevent.sleep(0.1)
            assert not job.dead
            assert job.get().read() == b"/"
            assert 0.25 <= time.monotonic() - start < 3
            assert client._connection_pool.statistics()["opened"] == 1


# ---------------------------------------------------------------- resolve=


def test_override_replaces_the_resolver(names: Resolver) -> None:
    with Peer() as peer:
        for key in (f"a.test:{peer.port}", f"A.Test:{peer.port}"):
            with HTTPClient("a.TEST", peer.port, resolve={key: "127.0.0.1"}) as client:
                assert client.get("/").read() == b"/"
        assert {request.get("Host") for request in peer.requests} == {f"a.TEST:{peer.port}"}
    assert names.asked == []


def test_override_of_an_international_name_replaces_the_resolver(names: Resolver) -> None:
    """The resolver is not asked for a name with an override, in whichever form the override writes the name."""
    with Peer() as peer:
        for key in ("bücher.test", "BÜCHER.test", "xn--bcher-kva.test"):
            with HTTPClient("bücher.test", peer.port, resolve={f"{key}:{peer.port}": "127.0.0.1"}) as client:
                assert client.get("/").read() == b"/"
    assert names.asked == []


def test_override_is_for_its_host_and_port_only(names: Resolver) -> None:
    names.known["a.test"] = ["1.1.1.1"]
    for key in ("a.test:81", "b.test:80", "test:80", "www.a.test:80"):
        assert found_by("a.test", resolve={key: "127.0.0.9"}) == ["1.1.1.1"]
    assert len(names.asked) == 4


def test_override_keeps_its_order() -> None:
    addresses = ["1.1.1.1", "::1", "::2", "1.1.1.2"]
    assert found_by("a.test", resolve={"a.test:80": addresses}) == addresses
    assert found_by("a.test", resolve={"a.test:80": tuple(addresses)}, disable_ipv6=True) == ["1.1.1.1", "1.1.1.2"]


def test_address_may_be_overridden(names: Resolver) -> None:
    assert found_by("::1", 8080, resolve={"[::1]:8080": "127.0.0.1"}) == ["127.0.0.1"]
    assert found_by("10.0.0.1", 8080, resolve={"10.0.0.1:8080": "::1"}) == ["::1"]


def test_overrides_may_be_none_or_many(names: Resolver) -> None:
    names.known["a.test"] = ["1.1.1.1"]
    assert found_by("a.test", resolve={}) == ["1.1.1.1"]
    assert found_by("a.test", resolve={f"h{n}.test:80": "::1" for n in range(10)} | {"a.test:80": "::9"}) == ["::9"]


@pytest.mark.parametrize(
    "bad",
    [
        {"a.test": "1.1.1.1"},
        {"a.test:": "1.1.1.1"},
        {"a.test:http": "1.1.1.1"},
        {"a.test:65536": "1.1.1.1"},
        {":80": "1.1.1.1"},
        {"a b:80": "1.1.1.1"},
        {"http://a.test:80": "1.1.1.1"},
        {"::1:80": "1.1.1.1"},
        {"[::1:80": "1.1.1.1"},
        {"a.test:80": "b.test"},
        {"a.test:80": ""},
        {"a.test:80": "1.1.1.1:80"},
        {"a.test:80": "[::1]"},
        {"a.test:80": "1.1.1.1\0"},
        {"a.test:80": []},
        {"a.test:80": ["1.1.1.1", "b.test"]},
        {"a.test:80": ["1.1.1.1", None]},
    ],
    ids=str,
)
def test_bad_overrides_are_named(bad: dict[str, Any]) -> None:
    (key,) = bad
    with pytest.raises(ValueError, match="resolve") as caught:
        HTTPClient("127.0.0.1", 80, resolve=bad)
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize(
    "bad", ["a.test:80=1.1.1.1", 5, [("a.test:80", "::1")], {80: "::1"}, {"a.test:80": 5}], ids=str
)
def test_overrides_of_wrong_types(bad: Any) -> None:
    with pytest.raises(TypeError, match="resolve"):
        HTTPClient("127.0.0.1", 80, resolve=bad)


def test_override_without_an_address_of_the_wanted_family() -> None:
    with pytest.raises(ValueError, match="IPv4"):
        HTTPClient("a.test", 80, resolve={"a.test:80": "::1"}, disable_ipv6=True)


# ---------------------------------------------------------------- addresses in numbers


def test_numeric_addresses_are_not_resolved(names: Resolver) -> None:
    assert found_by("127.0.0.1") == ["127.0.0.1"]
    assert found_by("127.0.0.1", disable_ipv6=True) == ["127.0.0.1"]
    assert found_by("::1") == found_by("[::1]") == ["::1"]
    assert names.asked == []


def test_ipv6_address_without_ipv6_is_the_resolvers_error() -> None:
    with HTTPClient("::1", 80, disable_ipv6=True) as client, pytest.raises(socket.gaierror):
        client.get("/")


# ---------------------------------------------------------------- dns_cache=


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Clock of the cache; `now` is its time."""
    ours = SimpleNamespace(now=1000.0)
    ours.monotonic = lambda: ours.now
    monkeypatch.setattr(resolver, "time", ours)
    return ours


def test_every_connection_resolves_without_a_cache(names: Resolver) -> None:
    names.known["a.test"] = ["1.1.1.1"]
    for options in ({}, {"dns_cache": None}, {"dns_cache": 0}):
        names.asked.clear()
        for _ in range(3):
            found_by("a.test", **options)
        assert len(names.asked) == 3


def test_cached_answer_expires_after_its_lifetime(names: Resolver, clock: SimpleNamespace) -> None:
    names.known["a.test"] = ["1.1.1.1", "::1"]
    with closing(ConnectionPool("a.test", 80, "a.test", 80, dns_cache=10)) as pool:
        first = pool._resolve()
        assert [each[4][0] for each in first] == ["::1", "1.1.1.1"]
        first.clear()  # the caller's own
        clock.now += 9.9
        pool._resolve().clear()
        assert len(pool._resolve()) == 2
        assert len(names.asked) == 1
        clock.now += 0.1
        names.known["a.test"] = ["1.1.1.2"]
        assert [each[4][0] for each in pool._resolve()] == ["1.1.1.2"]
        clock.now += 9.9
        pool._resolve()
        assert len(names.asked) == 2


def test_clients_share_answers_and_decide_how_old_they_may_be(names: Resolver, clock: SimpleNamespace) -> None:
    names.known["a.test"] = ["1.1.1.1"]
    found_by("a.test", dns_cache=60)
    clock.now += 30
    for options, asked in [({"dns_cache": 60}, 1), ({"dns_cache": 20}, 2), ({"dns_cache": 1}, 2), ({}, 3)]:
        assert found_by("A.test", **options) == ["1.1.1.1"]
        assert len(names.asked) == asked


def test_cache_is_keyed_by_host_port_and_family(names: Resolver) -> None:
    names.known.update({"a.test": ["1.1.1.1", "::1"], "b.test": ["1.1.1.2"]})
    cache = {"dns_cache": 60}
    assert found_by("a.test", **cache) == ["::1", "1.1.1.1"]
    assert found_by("a.test", disable_ipv6=True, **cache) == ["1.1.1.1"]
    assert found_by("b.test", **cache) == ["1.1.1.2"]
    found_by("a.test", 81, **cache)
    with closing(ConnectionPool("a.test", 81, "a.test", 81, **cache)) as pool:
        assert {each[4][1] for each in pool._resolve()} == {81}
    assert len(names.asked) == 4


def test_failures_are_not_kept(names: Resolver) -> None:
    with closing(ConnectionPool("a.test", 80, "a.test", 80, dns_cache=60)) as pool:
        for _ in range(2):
            with pytest.raises(socket.gaierror):
                pool._resolve()
        names.known["a.test"] = ["1.1.1.1"]
        assert pool._resolve() == [entry("1.1.1.1")]
    assert len(names.asked) == 3


def test_clear_dns_cache_removes_all_answers(names: Resolver) -> None:
    names.known["a.test"] = ["1.1.1.1"]
    for _ in range(2):
        found_by("a.test", dns_cache=60)
        resolver.clear_dns_cache()
    assert len(names.asked) == 2


def test_cache_is_bounded_and_drops_the_oldest_answer(names: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "CACHE_SIZE", 3)
    for n in range(5):
        names.known[f"{n}.test"] = [f"1.1.1.{n}"]
        found_by(f"{n}.test", dns_cache=60)
    names.asked.clear()
    for n in (4, 3, 2, 1):
        assert found_by(f"{n}.test", dns_cache=60) == [f"1.1.1.{n}"]
    assert names.asked == [("1.test", 80, socket.AF_UNSPEC)]


def test_many_cache_misses_at_once_all_connect(names: Resolver) -> None:
    names.known["a.test"] = ["127.0.0.1"]
    names.before = lambda: gevent.sleep(0.01)
    with Peer() as peer, HTTPClient("a.test", peer.port, concurrency=5, dns_cache=60) as client:
        jobs = [gevent.spawn(lambda: client.get("/").read()) for _ in range(5)]
        assert [job.get() for job in jobs] == [b"/"] * 5
        assert len(peer.conns) == 5
        client._connection_pool.close()
        with HTTPClient("a.test", peer.port, dns_cache=60) as another:
            asked = len(names.asked)
            assert another.get("/").read() == b"/"
            assert len(names.asked) == asked


def test_renewed_answer_is_no_longer_the_oldest(
    names: Resolver, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "CACHE_SIZE", 2)
    names.known.update({f"{n}.test": [f"1.1.1.{n}"] for n in range(3)})
    found_by("0.test", dns_cache=60)
    found_by("1.test", dns_cache=60)
    clock.now += 60
    for n in (0, 2):
        found_by(f"{n}.test", dns_cache=60)
    names.asked.clear()
    found_by("0.test", dns_cache=60)
    assert names.asked == []


@pytest.mark.parametrize("bad", [-1, float("nan"), "1", [1]], ids=repr)
def test_bad_lifetimes_are_named(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="dns_cache"):
        HTTPClient("127.0.0.1", 80, dns_cache=bad)


# ---------------------------------------------------------------- resolvers that take too long


def silent_threads(patch: pytest.MonkeyPatch, stack: list[Callable[[], object]]) -> Any:
    """gevent's default: the system's resolver in a thread, which cannot be interrupted."""
    answer = threading.Event()
    stack.append(answer.set)

    def getaddrinfo(*_: object) -> list[Entry]:
        answer.wait(10)
        return []

    patch.setattr(gevent.resolver.thread, "_socket", SimpleNamespace(**{**vars(_socket), "getaddrinfo": getaddrinfo}))
    return gevent.resolver.thread.Resolver()


def blocking(patch: pytest.MonkeyPatch, _: object) -> Any:
    """The system's resolver, which blocks all greenlets: the timeout cannot be kept, but it is reported."""
    found = gevent.resolver.blocking.Resolver()

    def getaddrinfo(*_: object) -> list[Entry]:
        time.sleep(LIMIT)
        return [entry("127.0.0.1")]

    patch.setattr(found, "getaddrinfo", getaddrinfo, raising=False)
    return found


def silent_server(patch: pytest.MonkeyPatch, stack: list[Callable[[], object]]) -> Any:
    """dnspython, and a name server that never answers."""
    with suppress(ImportError):
        # dnspython imports it, and gevent imports dnspython with some modules replaced by its own: a module that was
        # not imported before would keep these.
        import httpcore  # noqa: F401
    module = pytest.importorskip("gevent.resolver.dnspython")
    server = native_socket.socket(type=native_socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    stack.append(server.close)
    found = module.Resolver()
    network = found.resolver
    network.nameservers = ["127.0.0.1"]
    network.port = server.getsockname()[1]
    # Recent versions of dnspython call a method that gevent's part of the resolver does not have.
    if not hasattr(found._resolver, "resolve_name"):
        patch.setattr(found._resolver, "resolve_name", network.resolve_name, raising=False)
    return found


@pytest.fixture(params=[silent_threads, blocking, silent_server])
def slow_resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    stack: list[Callable[[], object]] = []
    hub = gevent.get_hub()
    before = hub.resolver
    hub.resolver = request.param(monkeypatch, stack)
    yield request.param
    hub.resolver = before
    for undo in stack:
        undo()


def check_whole(client: HTTPClient, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = client._connection_pool.statistics()
    assert (counts["in_use"], counts["waiting"]) == (0, 0)
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, port, *__: [entry("127.0.0.1", port)])
    assert client.get("/after").read() == b"/after"


@pytest.mark.parametrize("timeouts", [{"connection_timeout": LIMIT}, {"total_timeout": LIMIT}], ids=str)
def test_slow_resolver(slow_resolver: Any, timeouts: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer() as peer, HTTPClient("slow.test", peer.port, **timeouts) as client:
        start = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            client.get("/")
        assert LIMIT <= time.monotonic() - start < 2
        error: Any = caught.value
        assert type(error) is exceptions.TimeoutError
        assert error.phase == "resolve"
        assert error.peer == f"slow.test:{peer.port}"
        check_whole(client, monkeypatch)


@pytest.mark.parametrize("slow_resolver", [silent_threads, silent_server], indirect=True)
def test_slow_resolver_and_a_kill_or_a_timeout_of_the_caller(
    slow_resolver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the blocking one: nothing can happen meanwhile."""
    with Peer() as peer, HTTPClient("slow.test", peer.port, total_timeout=15) as client:
        job = gevent.spawn(client.get, "/")
        settle()
        assert not job.dead
        mine = gevent.GreenletExit("mine")
        job.kill(mine)
        assert job.value is mine
        mine_too = gevent.Timeout(LIMIT)
        with pytest.raises(gevent.Timeout) as caught, mine_too:
            client.get("/")
        assert caught.value is mine_too
        check_whole(client, monkeypatch)


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Returns a function that makes clients use a pool with that `_resolve`."""

    def patch(function: Callable[[], Any]) -> None:
        body = {"_resolve": lambda _: function()}
        monkeypatch.setattr(client_module, "ConnectionPool", type("Mine", (ConnectionPool,), body))

    return patch


def test_resolve_that_hangs(patched: Any) -> None:
    hangs: list[Callable[[], object]] = [lambda: gevent.sleep(20), lambda: Event().wait(), lambda: gevent.sleep(0)]

    def resolve() -> list[Entry]:
        hangs.pop(0)()
        return [entry("127.0.0.1", peer.port)]

    patched(resolve)
    with Peer() as peer, HTTPClient("nowhere.invalid", 80, connection_timeout=LIMIT) as client:
        for limits in ({}, {"connection_timeout": 20, "total_timeout": LIMIT}):
            with pytest.raises(TimeoutError) as caught:
                client.get("/", **limits)
            assert caught.value.phase == "resolve"  # type: ignore[attr-defined]
            assert client._connection_pool.statistics()["in_use"] == 0
        assert client.get("/").read() == b"/"


@pytest.mark.parametrize("ours", [True, False])
def test_resolve_that_swallows_an_interruption_raises_the_timeout_later(patched: Any, ours: bool) -> None:
    """The timeout of the client is raised afterwards; the resolver may swallow an interruption by another timeout."""

    def resolve() -> list[Entry]:
        attempt(lambda: gevent.sleep(20))
        return [entry("127.0.0.1", peer.port)]

    patched(resolve)
    limit = LIMIT if ours else 20
    with Peer() as peer, HTTPClient("nowhere.invalid", 80, connection_timeout=limit) as client:
        job = gevent.spawn(attempt, lambda: client.get("/").read())
        if not ours:
            settle()
            job.kill(LookupError, block=False)
        outcome = job.get()
        assert getattr(outcome, "phase", outcome) == ("resolve" if ours else b"/")


def test_timeout_of_the_caller_during_a_resolve_is_raised_unchanged(patched: Any) -> None:
    def resolve() -> list[Entry]:
        hang()
        return [entry("127.0.0.1", peer.port)]

    hang: Callable[[], object] = lambda: gevent.sleep(20)  # noqa: E731
    patched(resolve)
    with Peer() as peer, HTTPClient("nowhere.invalid", 80) as client:
        mine = gevent.Timeout(LIMIT)
        with pytest.raises(gevent.Timeout) as caught, mine:
            client.get("/")
        assert caught.value is mine

        class Own(Exception):
            pass

        with pytest.raises(Own), gevent.Timeout(LIMIT, Own):
            client.get("/")
        job = gevent.spawn(client.get, "/")
        settle()
        job.kill()
        assert isinstance(job.value, gevent.GreenletExit)
        hang = lambda: None  # noqa: E731
        assert client.get("/").read() == b"/"


# ---------------------------------------------------------------- Unix domain sockets


class UnixPeer(Peer):
    """A scripted peer that listens on a path."""

    def __init__(self, path: str, *scripts: Script) -> None:
        super().__init__(*scripts)
        self.listener.close()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)


def test_over_a_unix_socket(tmp_path: Path, names: Resolver) -> None:
    path = tmp_path / "server"
    with UnixPeer(str(path)) as peer:
        for spelling in (str(path), path, bytes(path)):
            with HTTPClient("service.test", 8080, uds=spelling) as client:
                for _ in range(2):
                    assert client.get("/over").read() == b"/over"
                assert client.get("http://service.test:8080/absolute").read() == b"/absolute"
        assert len(peer.conns) == 3
        assert {request.get("Host") for request in peer.requests} == {"service.test:8080"}
    assert names.asked == []


def test_large_bodies_over_a_unix_socket(tmp_path: Path) -> None:
    body = bytes(range(256)) * 8192

    def echo(conn: Conn) -> None:
        request = conn.read_request()
        assert request is not None
        conn.respond(request.body)

    upload = tmp_path / "upload"
    upload.write_bytes(body)
    server = tmp_path / "server"
    with UnixPeer(str(server), echo), HTTPClient("service.test", uds=server) as client, upload.open("rb") as file:
        assert client.post("/", file).read() == body


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux' own")
def test_over_an_abstract_name() -> None:
    name = f"\0geventhttpclient-{id(object())}"
    with UnixPeer(name), HTTPClient("service.test", uds=name) as client:
        assert client.get("/").read() == b"/"
    with (
        HTTPClient("service.test", uds=name) as client,
        pytest.raises(ConnectionRefusedError, match="@geventhttpclient"),
    ):
        client.get("/")


def test_missing_unix_socket_raises(tmp_path: Path) -> None:
    path = tmp_path / "nobody"
    with HTTPClient("service.test", uds=path) as client:
        with pytest.raises(FileNotFoundError) as caught:
            client.get("/")
        assert str(path) in str(caught.value)
        assert caught.value.phase == "connect"  # type: ignore[attr-defined]
        with UnixPeer(str(path)):
            assert client.get("/").read() == b"/"


@pytest.mark.parametrize(
    ("bad", "kind"),
    [("", ValueError), ("a\0b", ValueError), ("\0", ValueError), ("x" * 200, ValueError), (5, TypeError)],
    ids=["nothing", "NUL inside", "NUL alone", "long", "number"],
)
def test_bad_paths_are_named(bad: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="uds"):
        HTTPClient("service.test", uds=bad)


def test_unix_socket_excludes_other_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for other in ({"proxy_host": "127.0.0.1", "proxy_port": 3128}, {"local_address": "127.0.0.1"}):
        with pytest.raises(ValueError, match="uds"):
            HTTPClient("service.test", uds="/run/server", **other)
    # A proxy of the environment does not apply to it.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with UnixPeer(str(tmp_path / "s")), HTTPClient("service.test", uds=tmp_path / "s", trust_env=True) as client:
        assert client.get("/").read() == b"/"


# ---------------------------------------------------------------- local_address=


def where_from(conn: Conn) -> None:
    """Script: answers with the address of the client."""
    while conn.read_request():
        conn.respond(repr(conn.sock.getpeername()[:2]).encode())


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is loopback on Linux only")
def test_connections_come_from_the_local_address() -> None:
    with Peer(where_from) as peer:
        for local in ("127.0.0.2", ("127.0.0.2", 0)):
            with HTTPClient(peer.host, peer.port, local_address=local) as client:
                assert client.get("/").read().startswith(b"('127.0.0.2', ")


def test_connections_come_from_the_local_port() -> None:
    with native_socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        local = probe.getsockname()
    for _ in range(3):  # though to each peer the port rests for a while afterwards
        with Peer(where_from) as peer, HTTPClient(peer.host, peer.port, local_address=local) as client:
            assert client.get("/").read() == repr(local).encode()


def test_local_ipv6_address() -> None:
    with ipv6_peer(0, where_from) as peer, HTTPClient("::1", peer.port, local_address="::1") as client:
        assert client.get("/").read().startswith(b"('::1', ")


def test_addresses_of_another_family_are_left_out(names: Resolver) -> None:
    names.known["a.test"] = ["::1", "127.0.0.1"]
    with Peer(where_from) as peer:
        with HTTPClient("a.test", peer.port, local_address="127.0.0.1") as client:
            assert client.get("/").read().startswith(b"('127.0.0.1', ")
        with HTTPClient("127.0.0.1", peer.port, local_address="::1") as client:
            with pytest.raises(OSError, match="no IPv6 address"):
                client.get("/")
            assert client._connection_pool.statistics()["in_use"] == 0


def test_local_address_of_another_host_raises() -> None:
    with HTTPClient("127.0.0.1", 1, local_address="192.0.2.1") as client, pytest.raises(OSError, match="assign"):
        client.get("/")


@pytest.mark.parametrize(
    "bad",
    ["", "localhost", "[::1]", "127.0.0.1:80", 5, ("127.0.0.1",), ("127.0.0.1", "80"), ("127.0.0.1", -1), (1, 2)],
    ids=repr,
)
def test_bad_local_addresses_are_named(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="local_address"):
        HTTPClient("127.0.0.1", 80, local_address=bad)


def test_address_options_are_not_passed_to_a_pool_class_that_lacks_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subclasses have the constructor of the package that this one replaces."""

    class Old(ConnectionPool):
        def __init__(self, *where: Any, size: int, disable_ipv6: bool, **others: Any) -> None:
            assert set(others) == {"connection_timeout", "network_timeout", "use_proxy", "proxy_user", "proxy_password"}
            super().__init__(*where, size=size, disable_ipv6=disable_ipv6, **others)

    monkeypatch.setattr(client_module, "ConnectionPool", Old)
    with Peer(serve_ok) as peer, HTTPClient(peer.host, peer.port) as client:
        assert client.get("/").read() == b"/"
