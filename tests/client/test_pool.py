"""ConnectionPool: constructor, statistics, close, and the overridable method _resolve()."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from geventhttpclient import HTTPClient, connectionpool
from geventhttpclient import client as client_module
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.scripted import OK, serving, settle

pytestmark = pytest.mark.usefixtures("bounded")

Address = tuple[Any, ...]

PARAMETERS = {
    "size": 5,
    "disable_ipv6": False,
    "connection_timeout": 5.0,
    "network_timeout": 5.0,
    "use_proxy": False,
    "proxy_user": None,
    "proxy_password": None,
}


def address(host: str, port: int) -> Address:
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


def dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replaces the pool class of new clients, as programs do."""

    def patch(cls: type[ConnectionPool]) -> None:
        monkeypatch.setattr(client_module, "ConnectionPool", cls)

    return patch


# ---------------------------------------------------------------- names and constructor


def test_default_timeouts() -> None:
    for where in (connectionpool, ConnectionPool, SSLConnectionPool):
        assert where.DEFAULT_CONNECTION_TIMEOUT == 5.0
        assert where.DEFAULT_NETWORK_TIMEOUT == 5.0
    assert issubclass(SSLConnectionPool, ConnectionPool)


def test_constructor_keeps_its_parameters_in_order() -> None:
    parameters = inspect.signature(ConnectionPool).parameters
    known = ["connection_host", "connection_port", "request_host", "request_port", *PARAMETERS]
    assert list(parameters)[: len(known)] == known  # new parameters are last
    assert {name: parameters[name].default for name in PARAMETERS} == PARAMETERS


def test_tls_constructor_keeps_its_parameters_in_order() -> None:
    parameters = list(inspect.signature(SSLConnectionPool).parameters)
    assert parameters[:4] == ["connection_host", "connection_port", "request_host", "request_port"]
    assert parameters[4:7] == ["insecure", "ssl_context_factory", "ssl_options"]


def test_attributes() -> None:
    pool = ConnectionPool("127.0.0.1", 8080, "example.org", 80, 3, True, 1.5, 2.5)
    assert (pool.size, pool.disable_ipv6, pool.connection_timeout, pool.network_timeout) == (3, True, 1.5, 2.5)
    pool.close()


@pytest.mark.parametrize("size", [0, -1])
def test_invalid_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"size|concurrency"):
        ConnectionPool("127.0.0.1", 8080, "127.0.0.1", 8080, size=size)


def test_close_of_an_unused_pool_and_again() -> None:
    pool = ConnectionPool("127.0.0.1", 8080, "127.0.0.1", 8080)
    pool.close()
    pool.close()


def test_client_hands_its_arguments_to_its_pool(patched: Any) -> None:
    class Noting(ConnectionPool):
        def __init__(self, *args: Any, **kw: Any) -> None:
            self.given = inspect.signature(ConnectionPool).bind(*args, **kw).arguments
            super().__init__(*args, **kw)

    patched(Noting)
    client = HTTPClient("example.org", 81, concurrency=3, connection_timeout=7, network_timeout=8, disable_ipv6=True)
    with closing(client):
        given = client._connection_pool.given
        assert (given["connection_host"], given["connection_port"]) == ("example.org", 81)
        assert (given["request_host"], given["request_port"]) == ("example.org", 81)
        assert (given["size"], given["connection_timeout"], given["network_timeout"]) == (3, 7, 8)
        assert given["disable_ipv6"] is True


def test_subclass_may_connect_to_another_host(patched: Any) -> None:
    with Peer(serve_ok) as peer:

        class Diverting(ConnectionPool):
            def __init__(self, host: str, port: int, *args: Any, **kw: Any) -> None:
                super().__init__(peer.host, peer.port, *args, **kw)

        patched(Diverting)
        with closing(HTTPClient("origin.invalid", 81)) as client:
            assert client.get("/path").read() == b"/path"
        assert peer.requests[0].get("host") == "origin.invalid:81"


# ---------------------------------------------------------------- statistics


def counts(client: HTTPClient) -> dict[str, int]:
    statistics = client.statistics()
    closed = statistics.pop("closed")
    assert statistics["open"] == statistics["opened"] - sum(closed.values())
    assert all(type(name) is str and type(value) is int for name, value in statistics.items())
    assert all(value >= 0 for value in statistics.values())
    return dict(statistics)


def expect(client: HTTPClient, **wanted: int) -> None:
    statistics = counts(client)
    assert {name: statistics[name] for name in wanted} == wanted


def test_statistics_of_a_client_from_first_to_last() -> None:
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        more.wait()
        conn.send(b"lf")
        serve_ok(conn)

    with serving(script, concurrency=2) as (_, client):
        expect(client, limit=2, idle=0, in_use=0, waiting=0, opened=0, reused=0)
        first = client.get("/")
        expect(client, idle=0, in_use=1, waiting=0, opened=1, reused=0)
        second = client.get("/")
        expect(client, idle=0, in_use=2, waiting=0, opened=2, reused=0)
        waiting = [gevent.spawn(lambda: client.get("/third").read()) for _ in range(3)]
        settle()
        expect(client, idle=0, in_use=2, waiting=3, opened=2, reused=0)
        more.set()
        assert first.read() == second.read() == b"half"
        assert [job.get() for job in waiting] == [b"/third"] * 3
        expect(client, limit=2, idle=2, in_use=0, waiting=0, opened=2, reused=3)
        client.close()
        expect(client, idle=0, in_use=0, waiting=0)


def test_statistics_after_failures_hold_nothing() -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"nonsense\r\n\r\n")

    with serving(script, concurrency=2) as (_, client):
        for _ in range(5):
            with pytest.raises(Exception, match="HTTP/"):
                client.post("/")
        expect(client, idle=0, in_use=0, waiting=0, opened=5)


def test_statistics_after_kills_hold_nothing() -> None:
    with serving(lambda conn: conn.wait_closed(), concurrency=2) as (_, client):
        jobs = [gevent.spawn(client.get, "/") for _ in range(6)]
        settle()
        expect(client, in_use=2, waiting=4)
        gevent.killall(jobs)
        expect(client, idle=0, in_use=0, waiting=0)


def test_statistics_after_close() -> None:
    with serving() as (_, client):
        client.get("/").read()
        client.close()
        counts(client)


# ---------------------------------------------------------------- _resolve()


def test_resolve_overridden_in_a_subclass_says_where_to_connect(patched: Any) -> None:
    asked: list[Any] = []

    class Elsewhere(ConnectionPool):
        def _resolve(self) -> list[Address]:
            asked.append(self)
            return [address("127.0.0.1", peer.port)]

    patched(Elsewhere)
    with Peer() as peer, closing(HTTPClient("nowhere.invalid", 12345)) as client:
        assert type(client._connection_pool) is Elsewhere
        assert [client.get("/").read() for _ in range(3)] == [b"/"] * 3
        assert asked == [client._connection_pool]
        assert peer.requests[0].get("Host") == "nowhere.invalid:12345"


def test_resolve_is_asked_for_every_connection(patched: Any) -> None:
    asked = 0

    class Counting(ConnectionPool):
        def _resolve(self) -> list[Address]:
            nonlocal asked
            asked += 1
            return [address("127.0.0.1", peer.port)]

    def closing_each(conn: Conn) -> None:
        conn.read_request()
        conn.respond(headers=[("Connection", "close")])

    patched(Counting)
    with Peer(closing_each) as peer, closing(HTTPClient("nowhere.invalid")) as client:
        for n in range(1, 4):
            assert client.get("/").read() == b"ok"
            assert asked == n


def test_resolve_of_the_base_class_can_be_called_and_filtered(patched: Any) -> None:
    class Reordering(ConnectionPool):
        def _resolve(self) -> list[Address]:
            found = super()._resolve()
            assert all(len(info) == 5 for info in found)
            assert ("127.0.0.1", peer.port) in [tuple(info[4]) for info in found]
            return list(reversed(found))

    patched(Reordering)
    with Peer() as peer, closing(HTTPClient("127.0.0.1", peer.port)) as client:
        assert client.get("/").read() == b"/"


def test_resolve_without_ipv6() -> None:
    pool = ConnectionPool("localhost", 80, "localhost", 80, disable_ipv6=True)
    assert {info[0] for info in pool._resolve()} == {socket.AF_INET}


def test_resolve_may_give_several_addresses(patched: Any) -> None:
    dead = dead_port()

    class Several(ConnectionPool):
        def _resolve(self) -> list[Address]:
            return [address("127.0.0.1", dead), address("127.0.0.1", dead), address("127.0.0.1", peer.port)]

    patched(Several)
    with Peer() as peer, closing(HTTPClient("nowhere.invalid")) as client:
        assert client.get("/").read() == b"/"
        assert len(peer.conns) == 1


def test_resolve_may_give_addresses_that_are_all_dead(patched: Any) -> None:
    class Dead(ConnectionPool):
        def _resolve(self) -> list[Address]:
            return [address("127.0.0.1", dead_port()) for _ in range(3)]

    patched(Dead)
    with closing(HTTPClient("nowhere.invalid")) as client:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                client.get("/")


def test_empty_result_of_resolve_raises(patched: Any) -> None:
    class Empty(ConnectionPool):
        def _resolve(self) -> list[Address]:
            return []

    patched(Empty)
    with closing(HTTPClient("nowhere.invalid")) as client:
        for _ in range(2):
            with pytest.raises((OSError, RuntimeError), match=r"nowhere\.invalid"):
                client.get("/")


def test_resolve_may_raise_and_the_slot_stays_free(patched: Any) -> None:
    mine = LookupError("mine")

    class Raising(ConnectionPool):
        fails = True

        def _resolve(self) -> list[Address]:
            if self.fails:
                raise mine
            return [address("127.0.0.1", peer.port)]

    patched(Raising)
    with Peer() as peer, closing(HTTPClient("nowhere.invalid")) as client:
        for _ in range(3):
            with pytest.raises(LookupError) as caught:
                client.get("/")
            assert caught.value is mine
        client._connection_pool.fails = False
        assert client.get("/").read() == b"/"


def test_resolve_may_switch_greenlets_and_be_killed(patched: Any) -> None:
    asked, go_on = Event(), Event()

    class Waiting(ConnectionPool):
        def _resolve(self) -> list[Address]:
            asked.set()
            go_on.wait()
            return [address("127.0.0.1", peer.port)]

    patched(Waiting)
    with Peer() as peer, closing(HTTPClient("nowhere.invalid")) as client:
        job = gevent.spawn(client.get, "/killed")
        asked.wait()
        job.kill()
        go_on.set()
        assert client.get("/").read() == b"/"


@pytest.mark.parametrize("wrong", [None, 5, [5], [("127.0.0.1", 80)], [(2, 1, 6, "", "127.0.0.1")]], ids=repr)
def test_invalid_result_of_resolve_raises(patched: Any, wrong: Any) -> None:
    """A TypeError or ValueError shows the mistake of the subclass; nothing worse, and the slot stays free."""

    class Wrong(ConnectionPool):
        answers = wrong

        def _resolve(self) -> Any:
            return self.answers

    patched(Wrong)
    with Peer() as peer, closing(HTTPClient("nowhere.invalid")) as client:
        with pytest.raises((TypeError, ValueError)):
            client.get("/")
        client._connection_pool.answers = [address("127.0.0.1", peer.port)]
        assert client.get("/").read() == b"/"


def test_name_in_the_module_is_looked_up_at_each_call(patched: Any) -> None:
    class First(ConnectionPool):
        pass

    class Second(ConnectionPool):
        pass

    for cls in (First, Second):
        patched(cls)
        with closing(HTTPClient("example.org")) as client:
            assert type(client._connection_pool) is cls
        with closing(HTTPClientPool()) as pool:
            assert type(pool.get_client("http://example.org/")._connection_pool) is cls


# ---------------------------------------------------------------- lifetime


def test_closing_the_pool_of_a_client_closes_the_client() -> None:
    with serving() as (peer, client):
        client.get("/").read()
        client._connection_pool.close()
        peer.conns[0].hung_up.wait()
        with pytest.raises(RuntimeError, match="connection pool closed"):
            client.get("/")


def test_client_that_is_dropped_closes_its_connections() -> None:
    with Peer() as peer:
        client = HTTPClient(peer.host, peer.port)
        client.get("/").read()
        del client
        peer.conns[0].hung_up.wait()


def test_response_outlives_its_client() -> None:
    """A program may keep only the response, as in `HTTPClient(...).get(...)`."""
    more = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        more.wait()
        conn.send(b"lf")
        conn.wait_closed()

    with Peer(script) as peer:
        response = HTTPClient(peer.host, peer.port).get("/")
        more.set()
        assert response.read() == b"half"
        peer.conns[0].hung_up.wait()


def test_pools_of_two_clients_are_separate() -> None:
    with Peer() as peer:
        clients = [HTTPClient(peer.host, peer.port) for _ in range(3)]
        for client in clients * 2:
            client.get("/").read()
        assert len(peer.conns) == 3
        for client in clients:
            client.close()


def test_dead_connection_in_the_pool_frees_its_slot() -> None:
    def one_answer(conn: Conn) -> None:
        conn.read_request()
        conn.send(OK)

    with serving(one_answer, concurrency=2) as (peer, client):
        for n in range(1, 6):
            assert client.get("/").read() == b"ok"
            while peer.open_now:
                settle()
            assert len(peer.conns) == n


def test_pool_timeout_bounds_the_wait_for_a_connection() -> None:
    """The error says that it was the pool; later requests succeed."""
    with Peer() as peer, closing(HTTPClient(peer.host, peer.port, pool_timeout=0.05)) as client:
        gone_on = Event()
        held = gevent.spawn(holding, client, gone_on)
        peer.accepted.wait()
        with pytest.raises(TimeoutError, match="connection") as caught:
            client.get("/late")
        assert caught.value.phase == "pool"  # type: ignore[attr-defined]
        gone_on.set()
        assert held.get(timeout=10) == b"/held"
        assert client.get("/after").read() == b"/after"
        assert [request.target for request in peer.requests] == ["/held", "/after"]


def holding(client: HTTPClient, gone_on: Event) -> bytes:
    """Sends a request whose body does not end before `gone_on`."""

    def body() -> Iterator[bytes]:
        yield b"first"
        gone_on.wait()

    return client.post("/held", body()).read()


@pytest.mark.parametrize(("url", "ssl"), [("http://a:1/", True), ("https://a:1/", False)])
def test_client_pool_with_ssl_set_makes_one_client_for_an_origin(url: str, ssl: bool) -> None:
    with HTTPClientPool(ssl=ssl) as pool:
        assert pool.get_client(url) is pool.get_client(url)
        assert list(pool.clients) == [("a", 1)]


@pytest.mark.parametrize("name", ["connection_host", "request_host", "connection_port", "request_port", "proxy"])
def test_pool_argument_that_is_wrong_is_named(name: str) -> None:
    given: dict[str, Any] = {"connection_host": "a", "connection_port": 1, "request_host": "a", "request_port": 1}
    with pytest.raises(TypeError, match=f"{name} must be"):
        ConnectionPool(**{**given, name: [5]})
