"""Leak checks: each public object and code path is repeated, and everything that could grow is counted: objects by
type, blocks of Python's memory, bytes of malloc, references to shared objects, descriptors.

LEAK_CYCLES is the number of repetitions in a round, 100 by default. `make leaks` uses 20,000.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import gzip
import http.client
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest
from gevent.server import StreamServer

import geventhttpclient
from geventhttpclient import URL, EventSource, HTTPClient, HTTPParseError, Session, UserAgent, _core, httplib, httpx
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.exceptions import ContentTypeError, StreamFormatError
from geventhttpclient.header import Headers
from geventhttpclient.mock import MockResponse, MockTransport
from geventhttpclient.multipart import Multipart
from geventhttpclient.response import HTTPResponse, HTTPSocketPoolResponse, HTTPSocketResponse
from geventhttpclient.url import InvalidURL
from tests import server
from tests.conftest import WATCHDOG_SECONDS, TlsNginx, watched
from tests.support.certificates import Certificates
from tests.support.http2_servers import Hypercorn
from tests.support.hub import descriptors

CYCLES = int(os.environ.get("LEAK_CYCLES", "100"))

# Warm-up cycles, which are not measured.
FEWEST = 50

# Growth up to these limits in a round is no leak: a quarter of an object per cycle in a short run, one in a thousand
# cycles in a long run. The smallest block of malloc is 24 bytes.
FEW = 25 + CYCLES // 1000
FEW_BYTES = 1200 + CYCLES // 10

# A cache may still fill, and a heap still settle, that of OpenSSL for more than a thousand connections; a leak grows in
# each round. A round without growth is the last.
ROUNDS = 20

pytestmark = pytest.mark.long

SHARED = (None, True, (), b"", "", Headers, URL, HTTPClient, HTTPSocketPoolResponse, _core.ConnectionPool, TimeoutError)

Cycle = Callable[[], object]
Case = Callable[[str], Iterator[Cycle]]


# ------------------------------------------------------------------------------------------------------- measuring


LIBC = ctypes.CDLL(None)


class Mallinfo2(ctypes.Structure):
    """The statistics of glibc's malloc, in bytes: mallinfo2(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "kc",
        )
    ]


def native_bytes() -> int:
    """Returns the number of bytes that malloc has allocated, for Rust and all other code, and that have not been freed;
    0 if unknown."""
    if not hasattr(LIBC, "mallinfo2"):  # not glibc, or one older than 2.33
        return 0
    LIBC.mallinfo2.restype = Mallinfo2
    info = LIBC.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def settle() -> None:
    """Lets killed greenlets and closed connections end, and collects cyclic garbage."""
    for _ in range(3):
        gevent.sleep(0)
        gc.collect()


def measures() -> Counter[str]:
    settle()
    found: Counter[str] = Counter()
    for item in gc.get_objects():
        found[f"objects of {type(item).__module__}.{type(item).__qualname__}"] += 1
    hub = gevent.get_hub()
    for item in (*SHARED, hub, hub.loop, gevent.getcurrent()):
        found[f"references to {str(item)[:60]}"] = sys.getrefcount(item)
    found["descriptors"] = len(descriptors())
    found["blocks"] = sys.getallocatedblocks()
    found["bytes"] = native_bytes()
    return found


def growth(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    """Returns everything that has grown by more than the limit for a leak."""
    return {
        what: after[what] - before[what]
        for what in after
        if after[what] - before[what] > (FEW_BYTES if what == "bytes" else FEW)
    }


def check(cycle: Cycle) -> None:
    if CYCLES < FEWEST:
        for _ in range(CYCLES):
            cycle()
        return
    for _ in range(CYCLES // 5):
        cycle()
    leaking: dict[str, int] = {}
    before = measures()
    for number in range(ROUNDS):
        for _ in range(CYCLES):
            cycle()
        after = measures()
        grown = growth(before, after)
        leaking = {what: count for what, count in grown.items() if number == 0 or what in leaking}
        if not leaking:
            return
        before = after
    assert not leaking, f"after {CYCLES} cycles more, for the {ROUNDS}th time"


kept: list[object] = []


@pytest.mark.parametrize(
    ("what", "leak"),
    [
        ("objects of builtins.set'", lambda: kept.append({1})),
        ("'blocks'", lambda: kept.append(object())),
        ("'bytes'", lambda: LIBC.malloc(16)),
        (
            "references to <class 'geventhttpclient.url.URL'>\"",
            lambda: ctypes.pythonapi.Py_IncRef(ctypes.py_object(URL)),
        ),
        ("'descriptors'", lambda: kept.append(os.dup(0)) if len(kept) < 500 else None),
    ],
    ids=["objects", "blocks", "bytes", "references", "descriptors"],
)
def test_leaks_are_found(what: str, leak: Cycle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROUNDS", 3)
    try:
        with pytest.raises(AssertionError, match=what):
            check(leak)
    finally:
        for descriptor in kept:
            if isinstance(descriptor, int):
                os.close(descriptor)
        kept.clear()


@pytest.fixture(autouse=True)
def watchdog(pytestconfig: pytest.Config) -> Iterator[None]:
    """The watchdog of all tests, with more time for more cycles."""
    with watched(pytestconfig, WATCHDOG_SECONDS + CYCLES / 10):
        yield


# ----------------------------------------------------------------------------------------------------------- peers


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server.running() as url:
        yield url


def garble(sock: Any, _address: object) -> None:
    """Responds according to the target: `/cut`, `/garbage`, `/close`, `/gzip`, `/found`."""
    answers = {
        b"/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"/chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz",
        b"/garbage": b"SSH-2.0-OpenSSH_9.6\r\n",
        b"/close": b"",
        b"/gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
        + gzip.compress(b"x" * 1000),
        b"/damaged": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n\x1f\x8b\x08no",
        b"/found": b"HTTP/1.1 302 Found\r\nLocation: /gzip\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
    }
    while head := sock.recv(65536):
        sock.sendall(answers[head.split(b" ", 2)[1]])
        if not head.startswith(b"GET /found"):
            break
    sock.close()


@pytest.fixture(scope="module")
def bad() -> Iterator[str]:
    listener = StreamServer(("127.0.0.1", 0), garble)
    listener.start()
    yield f"http://127.0.0.1:{listener.server_port}"
    listener.stop()


# ------------------------------------------------------------------------------------- requests, and how they end

# Generators of one item: the cycle. The code around it runs once.


def get(url: str) -> Iterator[Cycle]:
    with HTTPClient.from_url(url) as client:
        yield lambda: client.get("/page").read()


def fields(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        response = client.get("/page", {"X-More": "1"})
        assert response.status_code == 200
        assert response["content-type"]
        assert list(response.headers)
        assert repr(response)
        with suppress(KeyError):
            response["missing"]
        response.read()

    with HTTPClient.from_url(url, headers={"X-Own": "2"}) as client:
        yield cycle


def bodies(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        for body in (b"bytes", bytearray(b"bytes"), "text", (piece for piece in (b"a", b"b")), memoryview(b"view")):
            assert client.post("/echo", body).read()
        with open(__file__, "rb") as file:
            assert client.post("/echo", file).read()

    with HTTPClient.from_url(url) as client:
        yield cycle


def body_that_fails(url: str) -> Iterator[Cycle]:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise LookupError

    def cycle() -> None:
        with suppress(LookupError):
            client.post("/echo", pieces())
        for nonsense in (3, [3], iter("text")):
            with suppress(TypeError, ValueError, OSError):
                client.post("/echo", nonsense)

    with HTTPClient.from_url(url) as client:
        yield cycle


def reading(url: str) -> Iterator[Cycle]:
    room = bytearray(100)

    def cycle() -> None:
        with client.get("/chunked/5000") as response:
            response.read(10)
            response.readline(b"\n")
            response.readinto(room)
            assert sum(map(len, response)) > 0
            assert response.read() == b""

    with HTTPClient.from_url(url, block_size=1000) as client:
        yield cycle


def dropped_unread(url: str) -> Iterator[Cycle]:
    with HTTPClient.from_url(url) as client:
        yield lambda: client.get("/bytes/1000000")


def dropped_half_read(url: str) -> Iterator[Cycle]:
    with HTTPClient.from_url(url) as client:
        yield lambda: client.get("/bytes/1000000").read(1000)


def in_a_cycle(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        responses: list[Any] = [client.get("/page"), client.get("/bytes/1000000")]
        responses.append(responses)
        held = HTTPClient.from_url(url)
        held.itself = held  # type: ignore[attr-defined]
        held.get("/page").read()

    with HTTPClient.from_url(url, concurrency=1000) as client:
        yield cycle


def client_made_and_closed(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        with HTTPClient.from_url(url, concurrency=3, resolve={"a.test:80": "127.0.0.1"}, dns_cache=5) as client:
            client.get("/page").read()
            assert client._connection_pool.statistics()

    yield cycle


def client_made_and_dropped(url: str) -> Iterator[Cycle]:
    yield lambda: HTTPClient.from_url(url).get("/page").read()


def response_that_outlives_its_client(url: str) -> Iterator[Cycle]:
    yield lambda: HTTPClient.from_url(url).get("/bytes/1000000").read()


def client_of_nonsense(_: str) -> Iterator[Cycle]:
    def cycle() -> None:
        for options in ({"port": "x"}, {"concurrency": 0}, {"connection_timeout": -1}, {"proxy": "ftp://a"}):
            with suppress(ValueError, TypeError):
                HTTPClient("127.0.0.1", **options)  # type: ignore[arg-type]
        with suppress(OSError):
            HTTPClient("127.0.0.1", ssl=True, verify="/nonexistent")

    yield cycle


def request_of_nonsense(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        for call in (
            lambda: client.get("/a b"),
            lambda: client.get("/", {"A": "b\nc"}),
            lambda: client.get("/", {"A": object()}),
            lambda: client.request("G T", "/"),
            lambda: client.get("http://elsewhere.test/"),
            lambda: client.get("/", total_timeout="x"),
        ):
            with suppress(ValueError, TypeError):
                call()

    with HTTPClient.from_url(url) as client:
        yield cycle


def closed(url: str) -> Iterator[Cycle]:
    client = HTTPClient.from_url(url)
    client.close()

    def cycle() -> None:
        with suppress(RuntimeError):
            client.get("/page")

    yield cycle


def killed_in_the_body(url: str) -> Iterator[Cycle]:
    began = gevent.event.Event()

    def endless() -> None:
        with client.get("/stream?every=0.1") as response:
            began.set()
            while response.readline(b"\n"):
                pass

    def cycle() -> None:
        began.clear()
        greenlet = gevent.spawn(endless)
        began.wait()
        greenlet.kill()

    with HTTPClient.from_url(url) as client:
        yield cycle


def killed_in_the_queue(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        greenlets = [gevent.spawn(client.get, "/page") for _ in range(3)]
        gevent.sleep(0)
        gevent.killall(greenlets)

    with HTTPClient.from_url(url) as client, client.get("/stream?every=0.1"):
        yield cycle


def killed_anywhere(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        greenlet = gevent.spawn(lambda: client.get("/chunked/1000").read())
        gevent.sleep(0)
        greenlet.kill()

    with HTTPClient.from_url(url) as client:
        yield cycle


def thrown_at(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        greenlet = gevent.spawn(client.get, "/stream?every=0.1")
        gevent.sleep(0)
        greenlet.kill(LookupError("thrown"))
        with suppress(LookupError):
            greenlet.get()

    hub = gevent.get_hub()
    before, hub.print_exception = hub.print_exception, lambda *_: None
    with HTTPClient.from_url(url) as client:
        yield cycle
    hub.print_exception = before


def timed_out_by_gevent(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        with gevent.Timeout(0.0005, False), client.get("/stream?every=0.1") as response:
            while response.readline(b"\n"):
                pass

    with HTTPClient.from_url(url) as client:
        yield cycle


def timed_out_by_us(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        for timeouts in ({"total_timeout": 0.0005}, {"network_timeout": 0.0005}):
            with suppress(TimeoutError), client.get("/stream?every=0.1", **timeouts) as response:
                while response.readline(b"\n"):
                    pass
        with client.get("/stream?every=0.1"), suppress(TimeoutError):
            client.get("/page", pool_timeout=0.0005)

    with HTTPClient.from_url(url) as client:
        yield cycle


def refused(_: str) -> Iterator[Cycle]:
    def cycle() -> None:
        with suppress(ConnectionRefusedError):
            client.get("/page")

    with HTTPClient("127.0.0.1", 1) as client:
        yield cycle


def resolver_that_fails(_: str) -> Iterator[Cycle]:
    def nowhere(*_: object) -> None:
        raise gevent.socket.gaierror(-2, "unknown")

    def cycle() -> None:
        with suppress(OSError):
            client.get("/page")

    with HTTPClient("nowhere.test") as client, pytest.MonkeyPatch.context() as patch:
        patch.setattr(gevent.socket, "getaddrinfo", nowhere)
        yield cycle


def error_that_is_kept_in_a_cycle(_: str) -> Iterator[Cycle]:
    def cycle() -> None:
        try:
            client.get("/page")
        except OSError as error:
            error.itself = error  # type: ignore[attr-defined]

    with HTTPClient("127.0.0.1", 1) as client:
        yield cycle


def agent(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        assert agent.urlopen(f"{url}/page").content
        assert agent.urlopen(f"{url}/echo", method="POST", payload={"a": "b"}).content

    with UserAgent() as agent:
        yield cycle


def session(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        assert session.get(f"{url}/page", params={"a": "b"}).text
        assert session.post(f"{url}/echo", data={"a": "b"}, files={"f": b"file"}).content
        with session.get(f"{url}/chunked/100", stream=True) as response:
            assert b"".join(response.iter_content(10))

    with Session() as session:
        yield cycle


def session_made_and_dropped(url: str) -> Iterator[Cycle]:
    yield lambda: Session().get(f"{url}/page").content


def functions(url: str) -> Iterator[Cycle]:
    yield lambda: geventhttpclient.get(f"{url}/page").content


def pool_of_clients(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        pool = HTTPClientPool(concurrency=2)
        pool.get_client(url).get("/page").read()
        pool.close()

    yield cycle


def pool_of_clients_over_its_limits(url: str) -> Iterator[Cycle]:
    port = URL(url).port
    names = [f"h{number}.test:{port}" for number in range(4)]

    def cycle() -> None:
        for name in names:
            pool.get_client(f"http://{name}").get("/page").read()

    with HTTPClientPool(max_clients=3, max_idle_connections=1, resolve=dict.fromkeys(names, "127.0.0.1")) as pool:
        yield cycle


def in_the_shape_of_httpx(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        assert client.get("/page").text
        with client.stream("GET", "/chunked/100") as response:
            assert list(response.iter_bytes())

    with httpx.Client(base_url=url) as client:
        yield cycle


def by_http_client(url: str) -> Iterator[Cycle]:
    host, port = URL(url).host, URL(url).port

    def cycle() -> None:
        connection = httplib.HTTPConnection(host, port)
        for _ in range(2):
            connection.request("GET", "/page", headers={"A": "b"})
            assert connection.getresponse().read()
        connection.putrequest("POST", "/echo")
        connection.putheader("Content-Length", "2")
        connection.endheaders(b"ok")
        response = connection.getresponse()
        assert response.getheader("content-length") == "2"
        connection.close()

    yield cycle


def dropped_by_http_client(url: str) -> Iterator[Cycle]:
    host, port = URL(url).host, URL(url).port

    def cycle() -> None:
        connection = httplib.HTTPConnection(host, port, timeout=1)
        connection.request("GET", "/bytes/1000000")
        connection.getresponse().read(10)
        connection.request("GET", "/page") if connection.sock is None else None
        with suppress(http.client.HTTPException):
            connection.getresponse()

    yield cycle


def socket_response(url: str) -> Iterator[Cycle]:
    address = ("127.0.0.1", URL(url).port)

    def cycle() -> None:
        sock = gevent.socket.create_connection(address)
        sock.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
        response = HTTPSocketResponse(sock)
        assert response.read()
        sock.close()

    yield cycle


def events_that_are_left(url: str) -> Iterator[Cycle]:
    def cycle() -> None:
        with client.get("/events?every=0") as response:
            events = response.iter_events()
            assert next(events).id == "1"
            assert next(response.iter_events()).id == "2"
        with client.get("/stream?every=0") as response:
            assert next(response.iter_json_lines())["id"] == 1
        with suppress(StreamFormatError):
            next(client.get("/events?every=0").iter_events(max_event_bytes=10))
        with suppress(ContentTypeError):
            client.get("/page").iter_events()

    with HTTPClient.from_url(url) as client:
        yield cycle


def event_source_that_is_killed(url: str) -> Iterator[Cycle]:
    began = gevent.event.Event()

    def follow() -> None:
        for _ in EventSource(f"{url}/events?every=0.1", session=session):
            began.set()

    def cycle() -> None:
        began.clear()
        greenlet = gevent.spawn(follow)
        began.wait()
        greenlet.kill()

    with Session() as session:
        yield cycle


def event_source_that_connects_again(_: str) -> Iterator[Cycle]:
    fields = {"Content-Type": "text/event-stream"}
    transport = MockTransport(lambda request: MockResponse(200, fields, b"id: 1\ndata: 1\n\n"))

    def cycle() -> None:
        assert next(source).data == "1"
        transport.requests.clear()

    with Session(transport=transport) as session, EventSource("http://peer.test/", session=session, retry=0) as source:
        yield cycle


REQUESTS = [
    get,
    fields,
    bodies,
    body_that_fails,
    reading,
    dropped_unread,
    dropped_half_read,
    in_a_cycle,
    client_made_and_closed,
    client_made_and_dropped,
    response_that_outlives_its_client,
    client_of_nonsense,
    request_of_nonsense,
    closed,
    killed_in_the_body,
    killed_in_the_queue,
    killed_anywhere,
    thrown_at,
    timed_out_by_gevent,
    timed_out_by_us,
    refused,
    resolver_that_fails,
    error_that_is_kept_in_a_cycle,
    agent,
    session,
    session_made_and_dropped,
    functions,
    pool_of_clients,
    pool_of_clients_over_its_limits,
    in_the_shape_of_httpx,
    by_http_client,
    dropped_by_http_client,
    socket_response,
    events_that_are_left,
    event_source_that_is_killed,
    event_source_that_connects_again,
]


@contextmanager
def cycle_of(case: Case, url: str) -> Iterator[Cycle]:
    yield from case(url)


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.__name__)
def test_requests_do_not_leak(case: Case, url: str) -> None:
    with cycle_of(case, url) as cycle:
        check(cycle)


@pytest.mark.parametrize("target", ["/cut", "/chunks", "/garbage", "/close", "/gzip", "/damaged"])
def test_truncated_responses_do_not_leak(target: str, bad: str) -> None:
    def cycle() -> None:
        with suppress(HTTPParseError, OSError):
            client.get(target).read()

    with HTTPClient.from_url(bad) as client:
        check(cycle)


def test_agent_with_truncated_responses_does_not_leak(bad: str) -> None:
    def cycle() -> None:
        assert len(session.get(f"{bad}/found").content) == 1000
        for target in ("/cut", "/damaged", "/close"):
            with suppress(Exception):
                assert session.get(f"{bad}{target}").content

    with Session(max_retries=1) as session:
        check(cycle)


# ------------------------------------------------------------------------------------------------- other packages


def test_requests_adapter_does_not_leak(url: str) -> None:
    requests = pytest.importorskip("requests")
    from geventhttpclient.adapters.requests import Adapter

    def cycle() -> None:
        assert session.get(f"{url}/page").content
        with session.get(f"{url}/bytes/100000", stream=True) as response:
            assert response.raw.read(10)
        with suppress(requests.RequestException):
            session.get("http://127.0.0.1:1/")

    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", Adapter())
        check(cycle)


def test_httpx_transport_does_not_leak(url: str) -> None:
    httpx_itself = pytest.importorskip("httpx")
    from geventhttpclient.adapters.httpx import Transport

    def cycle() -> None:
        assert client.get("/page").content
        with client.stream("GET", "/bytes/100000") as response:
            next(response.iter_bytes())
        with suppress(httpx_itself.HTTPError):
            client.get("http://127.0.0.1:1/")

    with httpx_itself.Client(transport=Transport(), base_url=url, trust_env=False) as client:
        check(cycle)


def test_urllib3_managers_do_not_leak(url: str) -> None:
    pytest.importorskip("urllib3")
    from geventhttpclient.adapters import urllib3 as urllib3_adapter

    def cycle() -> None:
        assert manager.request("GET", f"{url}/page").data
        response = manager.request("GET", f"{url}/bytes/100000", preload_content=False)
        assert response.read(10)
        response.drain_conn()
        response.release_conn()

    with urllib3_adapter.PoolManager() as manager:
        check(cycle)


def test_httplib2_does_not_leak(url: str) -> None:
    pytest.importorskip("httplib2")
    from geventhttpclient.httplib2 import Http

    http_itself = Http()
    check(lambda: http_itself.request(f"{url}/page"))
    http_itself.close()


# ------------------------------------------------------------------------------------------------------------- TLS


@pytest.mark.parametrize("by", ["rustls", "OpenSSL"])
def test_tls_connections_do_not_leak(by: str, tls_nginx: TlsNginx, certificates: Certificates) -> None:
    options: dict[str, Any] = {"verify": str(certificates.ca)}
    if by == "OpenSSL":
        options = {"ssl_options": {"ca_certs": str(certificates.ca), "ciphers": "ECDHE+AESGCM"}}
    port, other = tls_nginx.ports["valid"], tls_nginx.ports["untrusted"]

    def connect() -> None:
        client.get("/close/page").read()

    def fail() -> None:
        with suppress(OSError):
            HTTPClient("localhost", other, ssl=True, **options).get("/page")

    def break_off() -> None:
        greenlet = gevent.spawn(client.get, "/close/big")
        gevent.sleep(0)
        gevent.sleep(0)
        greenlet.kill()

    with HTTPClient("localhost", port, ssl=True, **options) as client:
        for cycle in (connect, fail, break_off):
            check(cycle)


# ---------------------------------------------------------------------------------------------------------- HTTP/2


def http2_client(port: int, **options: Any) -> HTTPClient:
    return HTTPClient("127.0.0.1", port, http2="prior-knowledge", **options)


def http2_get(port: int) -> Iterator[Cycle]:
    with http2_client(port) as client:
        yield lambda: client.get("/bytes/1000", {"X-More": "1"}).read()


def http2_bodies(port: int) -> Iterator[Cycle]:
    def cycle() -> None:
        assert client.post("/echo", b"bytes").read() == b"bytes"
        assert client.post("/echo", (piece for piece in (b"a", b"b"))).read() == b"ab"
        response = client.get("/trailers", {"TE": "trailers"})
        assert response.read()
        assert response.trailers["x-sum"] == "5"

    with http2_client(port) as client:
        yield cycle


def http2_left_alone(port: int) -> Iterator[Cycle]:
    def cycle() -> None:
        client.get("/bytes/1000000")
        client.get("/bytes/1000000").read(1000)
        client.get("/bytes/1000000").release()

    with http2_client(port) as client:
        yield cycle


def http2_client_made_and_closed(port: int) -> Iterator[Cycle]:
    def cycle() -> None:
        with http2_client(port, http2_ping_interval=5) as client:
            client.get("/bytes/10").read()
        http2_client(port).get("/bytes/10").read()

    yield cycle


def http2_killed(port: int) -> Iterator[Cycle]:
    def cycle() -> None:
        greenlets = [gevent.spawn(client.get, "/held/for-ever") for _ in range(3)]
        gevent.sleep(0)
        client.get("/bytes/10").read()
        gevent.killall(greenlets)

    with http2_client(port) as client:
        yield cycle


def http2_timed_out(port: int) -> Iterator[Cycle]:
    def cycle() -> None:
        for timeouts in ({"total_timeout": 0.0005}, {"network_timeout": 0.0005}):
            with suppress(TimeoutError):
                client.get("/held/for-ever", **timeouts)
        with gevent.Timeout(0.0005, False):
            client.get("/held/for-ever")

    with http2_client(port) as client:
        yield cycle


HTTP2 = [http2_get, http2_bodies, http2_left_alone, http2_client_made_and_closed, http2_killed, http2_timed_out]


@pytest.mark.parametrize("case", HTTP2, ids=lambda case: case.__name__)
def test_http2_requests_do_not_leak(case: Callable[[int], Iterator[Cycle]], hypercorn: Hypercorn) -> None:
    with contextmanager(case)(hypercorn.clear) as cycle:
        check(cycle)


def test_http2_over_tls_does_not_leak(hypercorn: Hypercorn, certificates: Certificates) -> None:
    def cycle() -> None:
        with HTTPClient("localhost", hypercorn.port, ssl=True, verify=str(certificates.ca), http2=True) as client:
            assert client.get("/bytes/10").version == "HTTP/2"

    check(cycle)


# The end of the connection or the stream: GOAWAY, one that excludes the stream, RST_STREAM, an invalid frame, nothing.
HTTP2_ENDINGS = [
    "000008070000000000000000010000000b",
    "0000080700000000000000000000000000",
    "00000403000000000100000008",
    "000000060000000001",
    "",
]


@pytest.mark.parametrize("said", HTTP2_ENDINGS)
def test_truncated_http2_responses_do_not_leak(said: str) -> None:
    def answer(sock: Any, _address: object) -> None:
        sock.sendall(bytes.fromhex("000000040000000000"))
        sock.recv(65536)
        sock.sendall(bytes.fromhex(said))
        gevent.sleep(0)
        sock.close()

    def cycle() -> None:
        with suppress(HTTPParseError, OSError):
            client.post("/path", b"body").read()

    listener = StreamServer(("127.0.0.1", 0), answer)
    listener.start()
    with http2_client(listener.server_port) as client:
        check(cycle)
    listener.stop()


# ------------------------------------------------------------------------------------------- objects without a server


class Feeder(_core.HTTPResponseParser):
    def __init__(self) -> None:
        self.seen: list[Any] = [self]

    def _on_body(self, data: bytearray) -> None:
        self.seen.append(data)
        if data == b"raise!":
            raise LookupError


def parser_fed() -> None:
    parser = Feeder()
    parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\nhel")
    parser.feed(b"loHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
    with suppress(LookupError):
        parser.feed(b"raise!")
    for nonsense in (b"HTTP/9.9 x\r\n\r\n", 3):
        with suppress(HTTPParseError, TypeError, RuntimeError):
            Feeder().feed(nonsense)  # type: ignore[arg-type]


def response_fed() -> None:
    response = HTTPResponse()
    response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\nok")
    assert list(response.headers) == [("Content-Length", "2"), ("A", "b")]


def stream_readers() -> None:
    events = _core.EventReader(100, "7")
    found = list(events.feed(b"id: 8\nevent: a\ndata: 1\n\ndata: 2\n\nda"))
    assert copy.copy(found[0]) == found[0] != found[1]
    assert (hash(found[0]), repr(found[1]), events.last_event_id) is not None
    lines = _core.LineReader(10)
    assert list(lines.feed(b"1\n2")) == [b"1"]
    assert lines.finish() == b"2"
    for reader in (events, lines):
        with suppress(StreamFormatError):
            list(reader.feed(b"x" * 200))
        with suppress(ValueError):
            reader.feed(b"y")


def decoder() -> None:
    whole = gzip.compress(b"x" * 10_000)
    good = _core.Decoder("gzip")
    assert good.feed(whole[:20]) + good.feed(whole[20:]) + good.finish()
    for coding, data in (
        ("gzip", b"no gzip"),
        ("br", b"\xff\xff"),
        ("zstd", b"no zstd"),
        ("deflate", b"no"),
        ("x", b"x"),
    ):
        damaged = _core.Decoder(coding)
        with suppress(Exception):
            damaged.feed(data)
            damaged.finish()
    with suppress(Exception):
        _core.Decoder("gzip", 10).feed(whole)
    _core.Decoder("br, gzip, zstd").feed(b"")


def urls() -> None:
    url = URL("http://me:secret@Example.org:8080/a/b;p?x=1&y=2#top")
    url["x"] = ["3", "4"]
    url.host, url.port, url.username = "other.test", 81, "you"
    assert str(url.redirect("../c?d"))
    assert url.quoted
    assert url == copy.copy(url)
    assert list(url)
    assert pickle.loads(pickle.dumps(url)) == url
    for nonsense in ("http://[x/", "http://a:b/", "//[::1"):
        with suppress(ValueError, InvalidURL):
            assert URL(nonsense).port


def header_fields() -> None:
    headers = Headers([("A", "b"), ("a", "c"), ("Set-Cookie", "x=y")])
    headers.add("B", "d")
    headers.update({"C": "e"})
    assert pickle.loads(pickle.dumps(headers)) == headers == copy.deepcopy(headers)
    assert headers["a"]
    assert list(headers.items())
    assert headers.pop("b")
    assert repr(headers)
    with suppress(KeyError):
        headers["missing"]


def form() -> None:
    assert b"".join(Multipart({"a": "b"}, {"f": ("name", b"content", "text/plain")}))


def mocked() -> None:
    with HTTPClient("a.test", transport=MockTransport(lambda _: MockResponse(200, json={"a": 1}))) as client:
        assert client.get("/x").read()


@pytest.mark.parametrize(
    "cycle",
    [parser_fed, response_fed, stream_readers, decoder, urls, header_fields, form, mocked],
    ids=lambda cycle: cycle.__name__,
)
def test_objects_do_not_leak(cycle: Cycle) -> None:
    check(cycle)


# ------------------------------------------------------------------------------------------- with all checks enabled


def test_leak_tests_in_development_mode_pass() -> None:
    """-X dev: each block of Python's memory has guards, which are checked when it is freed (PYTHONMALLOC=debug)."""
    command = [
        sys.executable,
        "-X",
        "dev",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        __file__,
        "-k",
        "not mode and not found",
    ]
    environment = {**os.environ, "LEAK_CYCLES": "5"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stdout + ended.stderr
