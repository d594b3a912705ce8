"""Bounds on idle connections and cookies when a server redirects to any number of host names."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any

import gevent
import pytest

from geventhttpclient import httpx
from geventhttpclient._agent import request as compat_request
from geventhttpclient._internal.validation import MOST_KEPT_CHARACTERS
from geventhttpclient.adapters._origins import Origins
from geventhttpclient.client import (
    DEFAULT_MAX_CLIENTS,
    DEFAULT_MAX_IDLE_CONNECTIONS,
    HTTPClient,
    HTTPClientPool,
)
from geventhttpclient.cookies import MOST_COOKIES, MOST_COOKIES_IN_ALL, Cookies, extract
from geventhttpclient.header import Headers
from geventhttpclient.mock import MockTransport
from geventhttpclient.requests import Session
from geventhttpclient.useragent import CompatRequest, UserAgent
from tests.support.certificates import Certificates
from tests.support.hub import descriptors, in_thread, until
from tests.support.peer import Conn, Peer
from tests.support.tls import own_factory

pytestmark = pytest.mark.usefixtures("bounded", "names_are_here")

REDIRECTS = 30


class Wildcard:
    """A server for any name: `/3` redirects to `/2` of a name that was never used before, `/0` is a response."""

    def __init__(self) -> None:
        self.names = 0

    def __call__(self, conn: Conn) -> None:
        while request := conn.read_request():
            left = int(request.target[1:])
            if left == 0:
                conn.respond()
            else:
                self.names += 1
                location = f"http://h{self.names}.test:{conn.peer.port}/{left - 1}"
                conn.respond(status="302 Found", headers=[("Location", location)])


def fetch_by_agent(agent: UserAgent, url: str) -> bytes:
    body = agent.urlopen(url).read()
    assert isinstance(body, bytes)
    return body


def fetch_by_session(session: Session, url: str) -> bytes:
    return session.get(url).content


def fetch_by_httpx(client: httpx.Client, url: str) -> bytes:
    return client.get(url, follow_redirects=True).content


AGENTS: dict[str, tuple[Callable[..., Any], Callable[[Any, str], bytes]]] = {
    "UserAgent": (UserAgent, fetch_by_agent),
    "Session": (Session, fetch_by_session),
    "httpx.Client": (httpx.Client, fetch_by_httpx),
}


def total(clients: Any, name: str) -> int:
    return sum(client.statistics()[name] for client in clients)


@pytest.mark.parametrize("kind", AGENTS)
def test_agent_redirected_to_many_hosts_keeps_the_default_of_idle_connections(kind: str) -> None:
    make, fetch = AGENTS[kind]
    before = len(descriptors())
    with Peer(Wildcard()) as peer, make(max_redirects=REDIRECTS) as agent:
        for _ in range(6):
            assert fetch(agent, f"{peer.url}/{REDIRECTS}") == b"ok"
            assert total(agent.clientpool.clients.values(), "open") <= DEFAULT_MAX_IDLE_CONNECTIONS
        clients = agent.clientpool.clients.values()
        assert len(clients) == 6 * REDIRECTS + 1
        assert total(clients, "idle") == total(clients, "open") == DEFAULT_MAX_IDLE_CONNECTIONS == 100
        closed = {reason for client in clients for reason in client.statistics()["closed"]}
        assert closed == {"idle_limit"}
        until(lambda: peer.open_now == DEFAULT_MAX_IDLE_CONNECTIONS)
        # Both ends of each connection are ours.
        assert len(descriptors()) - before <= 2 * DEFAULT_MAX_IDLE_CONNECTIONS + 20


@pytest.mark.parametrize("kind", AGENTS)
def test_agent_with_max_idle_connections_keeps_so_many_and_the_youngest(kind: str) -> None:
    make, fetch = AGENTS[kind]
    with Peer(Wildcard()) as peer, make(max_redirects=REDIRECTS, max_idle_connections=3) as agent:
        assert fetch(agent, f"{peer.url}/{REDIRECTS}") == b"ok"
        idle = [host for (host, _), client in agent.clientpool.clients.items() if client.statistics()["idle"]]
        assert idle == [f"h{n}.test" for n in range(REDIRECTS - 2, REDIRECTS + 1)]
        opened = len(peer.conns)
        assert fetch(agent, f"http://h{REDIRECTS}.test:{peer.port}/0") == b"ok"
        assert len(peer.conns) == opened


def test_session_with_pools_for_particular_requests_counts_their_connections_as_its_own() -> None:
    with Peer(Wildcard()) as peer, Session(max_idle_connections=2, max_clients=5) as session:
        for number in range(6):
            for options in ({}, {"verify": False}, {"proxies": {"all": None}}):
                assert session.get(f"http://s{number}.test:{peer.port}/0", **options).content == b"ok"
        pools = [session.clientpool, *session._pools.values()]
        assert [len(pool.clients) for pool in pools] == [5, 5, 5]  # type: ignore[attr-defined]
        until(lambda: peer.open_now == 2)
        shared = HTTPClientPool(max_idle_connections=1)
        session.close()
        session.clientpool = shared
        for number in range(3):
            session.get(f"http://s{number}.test:{peer.port}/0")
            session.get(f"http://s{number}.test:{peer.port}/0", verify=False)
        until(lambda: peer.open_now == 1)


def test_pool_of_clients_with_none_idle_closes_each_connection() -> None:
    with Peer() as peer, HTTPClientPool(max_idle_connections=0) as pool:
        client = pool.get_client(peer.url)
        assert [client.get("/").read() for _ in range(3)] == [b"/"] * 3
        assert client.statistics()["closed"] == {"idle_limit": 3}
        assert client.statistics()["open"] == 0


def test_pool_of_clients_with_more_concurrency_than_the_default_keeps_one_origin_whole() -> None:
    """Connections of one origin that are returned together are used again together."""
    concurrency = DEFAULT_MAX_IDLE_CONNECTIONS + 20
    with Peer() as peer, HTTPClientPool(concurrency=concurrency) as pool:
        client = pool.get_client(peer.url)
        responses = [gevent.spawn(client.get, "/") for _ in range(concurrency)]
        assert {response.get().read() for response in responses} == {b"/"}
        assert client.statistics()["idle"] == concurrency
        assert pool.max_idle_connections == concurrency


def test_pool_of_clients_counts_idle_connections_for_each_thread() -> None:
    with Peer(Wildcard()) as peer, HTTPClientPool(max_idle_connections=3) as pool:

        def work() -> tuple[int, int]:
            for number in range(5):
                pool.get_client(f"http://h{number}.test:{peer.port}").get("/0").read()
            clients = list(pool.clients.values())
            return total(clients, "idle"), total(clients, "open")

        assert work() == (3, 3)
        assert in_thread(work) == (3, 3)
        assert total(pool.clients.values(), "idle") == 3
        assert work() == (3, 3)


def test_pool_of_clients_after_close_has_room_for_as_many_again() -> None:
    with Peer(Wildcard()) as peer, HTTPClientPool(max_idle_connections=2) as pool:
        for _ in range(3):
            clients = [pool.get_client(f"http://h{number}.test:{peer.port}") for number in range(2)]
            for client in clients * 2:
                client.get("/0").read()
            assert [client.statistics()["reused"] for client in clients] == [1, 1]
            pool.close()


@pytest.mark.parametrize("way", ["native", "context"])
def test_pool_of_clients_over_tls_closes_the_oldest(certificates: Certificates, way: str) -> None:
    """The program's code closes a connection over an SSLContext, while the response on another one is read."""
    options: dict[str, Any] = {"ssl_context_factory": own_factory} if way == "context" else {"verify": False}
    if way == "context":
        options |= {"ssl_options": {"ca_certs": str(certificates.ca)}, "insecure": True}
    with Peer(tls=certificates.valid.server()) as peer, HTTPClientPool(max_idle_connections=2, **options) as pool:
        for number in (0, 1, 2, 3, 2, 0):
            assert pool.get_client(f"https://h{number}.test:{peer.port}").get("/").read() == b"/"
        idle = {host: client.statistics()["idle"] for (host, _), client in pool.clients.items()}
        assert idle == {"h0.test": 1, "h1.test": 0, "h2.test": 1, "h3.test": 0}
        until(lambda: peer.open_now == 2)


def test_pool_of_clients_by_http2_closes_the_oldest() -> None:
    from tests.support.http2_peer import scripted, serve_targets

    with (
        Peer(scripted(serve_targets)) as peer,
        HTTPClientPool(max_idle_connections=2, http2="prior-knowledge") as pool,
    ):
        clients = [pool.get_client(f"http://h{number}.test:{peer.port}") for number in range(4)]
        for number in (0, 1, 2, 3, 2, 0):
            assert clients[number].get("/").read() == b"/"
        assert [client.statistics()["idle"] for client in clients] == [1, 0, 1, 0]
        assert [client.statistics()["opened"] for client in clients] == [2, 1, 1, 1]
        until(lambda: peer.open_now == 2)
        assert [client.statistics()["closed"].get("idle_limit", 0) for client in clients] == [1, 1, 0, 1]


@pytest.mark.parametrize("value", [-1, "2", 1.5])
def test_invalid_max_idle_connections_is_refused_by_name(value: Any) -> None:
    for make in (HTTPClientPool, UserAgent, Session, httpx.Client):
        with pytest.raises((ValueError, TypeError), match="max_idle_connections"):
            make(max_idle_connections=value)


def test_pool_of_clients_shows_neither_limit_among_the_arguments_of_clients() -> None:
    pool = HTTPClientPool(max_clients=4, max_idle_connections=5, concurrency=2)
    assert pool.client_args == {"concurrency": 2}
    assert (pool.max_clients, pool.max_idle_connections) == (4, 5)
    for twin in (copy.deepcopy(pool), pickle.loads(pickle.dumps(pool))):
        assert (twin.max_clients, twin.max_idle_connections) == (4, 5)
        assert twin._idle_group is not pool._idle_group


def test_pool_of_clients_keeps_the_default_of_clients() -> None:
    with HTTPClientPool() as pool:
        for number in range(DEFAULT_MAX_CLIENTS + 5):
            pool.get_client(f"http://h{number}.test")
        assert DEFAULT_MAX_CLIENTS == len(pool.clients) == 1000
        assert next(iter(pool.clients)) == ("h5.test", 80)
    with HTTPClientPool(max_clients=None) as pool:
        for number in range(DEFAULT_MAX_CLIENTS + 5):
            pool.get_client(f"http://h{number}.test")
        assert len(pool.clients) == DEFAULT_MAX_CLIENTS + 5


def test_client_of_the_program_without_an_engine_pool_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        ssl = False

    monkeypatch.setattr(HTTPClient, "from_url", lambda url, **_: Fake())
    assert isinstance(HTTPClientPool().get_client("http://h.test"), Fake)


# ------------------------------------------------------------------------------------------- clients of other packages


@pytest.mark.skipif(importlib.util.find_spec("httpx") is None, reason="httpx is not installed")
def test_httpx_transport_redirected_to_many_hosts_keeps_as_many_as_limits_say() -> None:
    import httpx as real

    from geventhttpclient.adapters.httpx import Transport

    wildcard = Wildcard()
    for limits, most in (
        (None, 20),
        (real.Limits(max_keepalive_connections=3), 3),
        (real.Limits(max_connections=4), 4),
        (real.Limits(max_keepalive_connections=0), 0),
    ):
        with Peer(wildcard) as peer:
            transport = Transport(limits=limits)
            with real.Client(transport=transport, follow_redirects=True, max_redirects=REDIRECTS) as client:
                assert client.get(f"{peer.url}/{REDIRECTS}").content == b"ok"
                until(lambda: peer.open_now == most)  # noqa: B023
                assert len(transport._origins._origins) <= DEFAULT_MAX_CLIENTS


@pytest.mark.skipif(importlib.util.find_spec("requests") is None, reason="requests is not installed")
def test_requests_adapter_redirected_to_many_hosts_keeps_pools_times_their_size() -> None:
    import requests

    from geventhttpclient.adapters.requests import Adapter

    with Peer(Wildcard()) as peer, requests.Session() as session:
        session.trust_env = False
        session.mount("http://", Adapter(pool_connections=2, pool_maxsize=2))
        assert session.get(f"{peer.url}/{REDIRECTS}").content == b"ok"
        until(lambda: peer.open_now == 2)
        # Greenlets in step bring one origin more than its share, which all of them together have to do without.
        fetching = [gevent.spawn(session.get, f"http://same{n % 2}.test:{peer.port}/0") for n in range(20)]
        assert {greenlet.get().content for greenlet in fetching} == {b"ok"}
        until(lambda: peer.open_now == 4)


@pytest.mark.skipif(importlib.util.find_spec("urllib3") is None, reason="urllib3 is not installed")
def test_urllib3_manager_redirected_to_many_hosts_keeps_its_number_of_pools() -> None:
    from geventhttpclient.adapters.urllib3 import PoolManager

    with Peer(Wildcard()) as peer, PoolManager(num_pools=3) as manager:
        assert manager.request("GET", f"{peer.url}/{REDIRECTS}", retries=REDIRECTS).data == b"ok"
        until(lambda: peer.open_now <= 3)


@pytest.mark.skipif(importlib.util.find_spec("urllib3") is None, reason="urllib3 is not installed")
def test_urllib3_manager_redirected_to_a_long_url_does_not_keep_it() -> None:
    from geventhttpclient.adapters.urllib3 import PoolManager, managers

    long = "x" * managers._MOST_CHARACTERS

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if len(request.target) > len(long):
                conn.respond()
            else:
                conn.respond(status="302 Found", headers=[("Location", f"/{long}")])

    with Peer(script) as peer, PoolManager() as manager:
        kept = managers._parse_once.cache_info().currsize
        assert manager.request("GET", f"{peer.url}/").data == b"ok"
        assert managers._parse_once.cache_info().currsize <= kept + 1
        manager.connection_from_host(long + "x", 80)
        assert all(len(host or "") <= len(long) for _, host, _ in manager._keys)


@pytest.mark.skipif(importlib.util.find_spec("httplib2") is None, reason="httplib2 is not installed")
def test_httplib2_redirected_to_many_hosts_keeps_the_share_of_a_greenlet(monkeypatch: pytest.MonkeyPatch) -> None:
    from geventhttpclient import httplib2

    assert httplib2.MOST_CONNECTIONS == 100
    monkeypatch.setattr(httplib2, "MOST_CONNECTIONS", 8)
    with Peer(Wildcard()) as peer:
        http = httplib2.Http(concurrency=2)
        assert http.request(f"{peer.url}/{REDIRECTS}", redirections=REDIRECTS)[1] == b"ok"
        until(lambda: peer.open_now == 4)
        opened = len(peer.conns)
        assert sorted(http.connections) == sorted(f"http:h{n}.test:{peer.port}" for n in range(27, 31))
        # A connection that is used again is not the next to be closed.
        for host in ("h27", "new", "h27"):
            assert http.request(f"http://{host}.test:{peer.port}/0")[1] == b"ok"
        assert len(peer.conns) == opened + 1
        until(lambda: peer.open_now == 4)
        http.close()
        until(lambda: peer.open_now == 0)


# ------------------------------------------------------------------------------------------------------------- cookies


def set_by(jar: CookieJar, host: str, *lines: str) -> None:
    headers = Headers([("Set-Cookie", line) for line in lines])
    extract(jar, headers, CompatRequest(f"http://{host}/"))


@pytest.mark.parametrize("kind", [Cookies, CookieJar])
def test_jar_with_cookies_of_many_hosts_keeps_the_most_in_all(kind: type[CookieJar]) -> None:
    jar = kind()
    for number in range(MOST_COOKIES):
        set_by(jar, "other.example", f"kept{number}=1")
    for number in range(2 * MOST_COOKIES_IN_ALL):
        set_by(jar, f"h{number}.wildcard.test", "name=1")
        assert len(jar._cookies) <= MOST_COOKIES_IN_ALL + 1  # type: ignore[attr-defined]
    domains = [cookie.domain for cookie in jar]
    assert len(domains) <= MOST_COOKIES_IN_ALL == 3000
    # The newest are there, and so are those of a server that has nothing to do with it.
    assert f"h{2 * MOST_COOKIES_IN_ALL - 1}.wildcard.test" in domains
    assert domains.count("other.example") == MOST_COOKIES


def test_jar_with_cookies_that_were_removed_forgets_where_they_were() -> None:
    jar = Cookies()
    for number in range(MOST_COOKIES_IN_ALL):
        for host in (f"h{number}.wildcard.test", "one.test"):
            for value in ("1", "; Max-Age=0"):
                set_by(jar, host, f"name={value}; Path=/{number}")
    assert len(jar) == 0
    # Each line may leave a place behind until the jar is looked through, which it is after as many lines.
    places = [path for paths in jar._cookies.values() for path in paths]  # type: ignore[attr-defined]
    assert len(places) <= MOST_COOKIES_IN_ALL


# ------------------------------------------------------------------------------------------------- client certificates

CERTIFIED: dict[str, Callable[[tuple[str, str], dict[str, Any]], Any]] = {
    "UserAgent": lambda pair, more: UserAgent(cert=pair, **more),
    "Session": lambda pair, more: Session(cert=pair, **more),
    "Session of a pool": lambda pair, more: of_a_pool(HTTPClientPool(cert=pair, **more)),
    "httpx.Client": lambda pair, more: httpx.Client(cert=pair, **more),
    "ssl_options": lambda pair, more: UserAgent(ssl_options={"certfile": pair[0], "keyfile": pair[1]}, **more),
}


def of_a_pool(pool: HTTPClientPool) -> Session:
    session = Session()
    session.clientpool = pool
    return session


def fetch_by(agent: Any, url: str) -> bytes:
    fetch: Callable[[Any, str], bytes] = fetch_by_httpx if isinstance(agent, httpx.Client) else fetch_by_agent
    return fetch(agent, url)


def certified(certificates: Certificates, kind: str, **more: Any) -> Any:
    agent = CERTIFIED[kind]((str(certificates.for_clients.chain), str(certificates.for_clients.key)), more)
    agent.max_redirects = REDIRECTS
    return agent


@pytest.mark.parametrize("kind", CERTIFIED)
@pytest.mark.parametrize("most", [0, 3])
def test_agent_with_a_client_certificate_keeps_so_many_idle_connections(
    kind: str, most: int, certificates: Certificates
) -> None:
    """Connections to targets of redirects, which get no certificate, count like the others."""
    with Peer(Wildcard()) as peer, certified(certificates, kind, max_idle_connections=most, max_clients=5) as agent:
        assert fetch_by(agent, f"{peer.url}/{REDIRECTS}") == b"ok"
        pool = agent.clientpool
        bare = pool._without_certificate()
        assert (len(pool.clients), len(bare.clients)) == (1, 5)
        assert bare.max_idle_connections == most
        until(lambda: peer.open_now == most)
        assert fetch_by(agent, f"{peer.url}/0") == b"ok"
        until(lambda: peer.open_now == most)
        agent.close()
        until(lambda: peer.open_now == 0)
        assert not bare.clients


def test_pool_of_clients_without_the_certificate_is_one_for_all_threads(certificates: Certificates) -> None:
    pair = certificates.for_clients
    pool = HTTPClientPool(cert=(str(pair.chain), str(pair.key)), max_idle_connections=2)
    made = HTTPClientPool._without_certificate
    inner: list[HTTPClientPool] = []

    class Slow(dict[str, Any]):
        """Lets another thread run the same operation in the middle of it."""

        def items(self) -> Any:
            if not inner:
                inner.append(pool)  # once
                inner[0] = in_thread(lambda: made(pool))
            return super().items()

    pool.client_args = Slow(pool.client_args)
    assert made(pool) is inner[0] is made(pool)
    assert made(pool)._idle_group is pool._idle_group


# -------------------------------------------------------------------------------------------------------- caches by URL


def test_urls_that_are_long_are_not_kept() -> None:
    known = compat_request._KNOWN_URLS
    known.clear()
    length = MOST_KEPT_CHARACTERS
    for number in range(50):
        url = f"http://h.test/{number}?".ljust(length + 1, "a")
        assert CompatRequest(url).url == url
    assert known == {}
    assert CompatRequest(url[:length]).url == url[:length]
    assert list(known) == [url[:length]]
    transport = MockTransport(lambda request: (302, {"Location": "/" + "b" * length}))
    with Session(transport=transport) as session:
        url = "http://h.test/"
        for _ in range(10):
            url = "http://h.test" + session.get(url, allow_redirects=False).headers["Location"]
    assert max(map(len, known)) <= length


@pytest.mark.parametrize("part", ["h", b"h"])
def test_origins_of_long_names_are_not_kept(part: Any) -> None:
    origins: Origins[object] = Origins(10)
    for length, kept in ((MOST_KEPT_CHARACTERS + 1, False), (MOST_KEPT_CHARACTERS, True)):
        key = ("http", part * length, 80, None)
        assert (origins.get(key, object) is origins.get(key, object)) is kept
    assert len(origins._origins) == 1


def test_transport_of_httpx_does_not_keep_origins_of_long_names() -> None:
    other = pytest.importorskip("httpx")
    transport_class = pytest.importorskip("geventhttpclient.adapters.httpx").Transport
    with other.Client(transport=transport_class()) as client:
        for letter in "abc":
            with pytest.raises(other.ConnectError):
                client.get(f"http://{letter * (MOST_KEPT_CHARACTERS + 1)}/")
        assert len(client._transport._origins._origins) == 0


@pytest.mark.parametrize("kind", AGENTS)
def test_agent_does_not_keep_clients_of_long_hosts(kind: str) -> None:
    make, fetch = AGENTS[kind]
    with make(transport=MockTransport(lambda request: (200, {}, b"ok"))) as agent:
        for letter in "abc":
            assert fetch(agent, f"http://{letter * (MOST_KEPT_CHARACTERS + 1)}/") == b"ok"
        assert agent.clientpool.clients == {}
        assert fetch(agent, f"http://{'a' * MOST_KEPT_CHARACTERS}/") == b"ok"
        assert len(agent.clientpool.clients) == 1
