"""The extension trace of the transports for httpx and httpx2: the steps of a request, with httpcore's names."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.support.certificates import Certificates
from tests.support.http2_servers import Http2Nginx
from tests.support.httpx_packages import Package, package
from tests.support.peer import Conn, Peer
from tests.support.ports import free_port
from tests.support.proxies import tunnelling
from tests.support.scripted import cut, silent

__all__ = ["package"]

pytestmark = pytest.mark.usefixtures("bounded")

CONNECT = ["connection.connect_tcp.started", "connection.connect_tcp.complete"]
TLS = ["connection.start_tls.started", "connection.start_tls.complete"]
STEPS = ["send_request_headers", "send_request_body", "receive_response_headers", "receive_response_body"]


def exchange(http: str = "http11") -> list[str]:
    steps = [f"{http}.{step}" for step in [*STEPS, "response_closed"]]
    return [f"{step}.{end}" for step in steps for end in ("started", "complete")]


class Log:
    """The calls of a trace function."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, info: dict[str, Any]) -> None:
        self.calls.append((name, info))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    @property
    def extensions(self) -> dict[str, Any]:
        return {"trace": self}

    def info(self, name: str) -> dict[str, Any]:
        [info] = [info for called, info in self.calls if called == name]
        return info


def test_steps_have_the_names_and_the_order_of_the_package(package: Package) -> None:
    def requests(transport: Any, url: str) -> list[tuple[str, list[str]]]:
        log = Log()
        with package.package.Client(transport=transport, trust_env=False) as client:
            for _ in range(2):
                client.post(url, content=b"0123456789", extensions=log.extensions)
        # A connection's TCP options are those of the original's own sockets.
        return [(name, sorted(info)) for name, info in log.calls]

    with Peer() as peer:
        ours = requests(package.transport(), peer.url)
        theirs = gevent.get_hub().threadpool.apply(requests, (package.package.HTTPTransport(), peer.url))
    assert ours == theirs
    assert [name for name, _ in ours] == [*CONNECT, *exchange(), *exchange()]


def test_results_of_steps_are_those_of_the_package(package: Package) -> None:
    log = Log()
    with Peer() as peer, package.client() as client:
        response = client.get(peer.url, extensions=log.extensions)
    started = log.info("connection.connect_tcp.started")
    assert (started["host"], started["port"], started["timeout"]) == ("127.0.0.1", peer.port, 10)
    assert log.info("http11.send_request_headers.started")["request"].url == peer.url
    version, status, reason, headers = log.info("http11.receive_response_headers.complete")["return_value"]
    assert (version, status, reason) == (b"HTTP/1.1", 200, b"OK")
    assert headers == response.headers.raw


def test_steps_are_reported_when_they_happen(package: Package) -> None:
    log, asked, go_on = Log(), Event(), Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        asked.set()
        go_on.wait()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        go_on.clear()
        go_on.wait()
        conn.send(b"ok")

    with Peer(script) as peer, package.client() as client:
        reader = gevent.spawn(client.get, peer.url, extensions=log.extensions)
        asked.wait()
        assert log.names[-1] == "http11.receive_response_headers.started"
        go_on.set()
        while "receive_response_body" not in log.names[-1]:
            gevent.sleep(0)
        assert log.names[-1] == "http11.receive_response_body.started"
        go_on.set()
        reader.get()
    assert log.names[-1] == "http11.response_closed.complete"


def test_body_of_a_generator_is_a_step_of_its_own(package: Package) -> None:
    log, seen = Log(), []

    def pieces() -> Iterator[bytes]:
        for piece in (b"a", b"b"):
            seen.append(log.names[-1])
            yield piece

    with Peer() as peer, package.client() as client:
        client.post(peer.url, content=pieces(), extensions=log.extensions)
    assert seen == ["http11.send_request_body.started"] * 2
    assert log.names == [*CONNECT, *exchange()]


def test_tls_is_a_step(package: Package, certificates: Certificates) -> None:
    log = Log()
    with Peer(tls=certificates.valid.server()) as peer, package.client(verify=str(certificates.ca)) as client:
        client.get(f"https://localhost:{peer.port}/", extensions=log.extensions)
    assert log.names == [*CONNECT, *TLS, *exchange()]
    assert log.info("connection.start_tls.started")["server_hostname"] == "localhost"


def test_steps_over_http2_have_its_name(package: Package, http2_nginx: Http2Nginx, certificates: Certificates) -> None:
    log = Log()
    with package.client(http2=True, verify=str(certificates.ca)) as client:
        response = client.get(f"https://localhost:{http2_nginx.ports['tls']}/page", extensions=log.extensions)
        assert response.http_version == "HTTP/2"
    assert log.names == [*CONNECT, *TLS, *exchange("http2")]
    status, _ = log.info("http2.receive_response_headers.complete")["return_value"]
    assert status == 200


def test_unix_socket_has_a_step_of_its_own(package: Package, tmp_path: Any) -> None:
    log = Log()
    with package.client(uds=str(tmp_path / "none")) as client, pytest.raises(package.package.ConnectError):
        client.get("http://localhost/", extensions=log.extensions)
    assert log.names == ["connection.connect_unix_socket.started", "connection.connect_unix_socket.failed"]


def test_proxy_is_the_end_that_is_connected_to(package: Package, certificates: Certificates) -> None:
    log = Log()
    with (
        Peer(tls=certificates.valid.server()) as peer,
        Peer(tunnelling) as proxy,
        package.client(proxy=f"http://127.0.0.1:{proxy.port}", verify=str(certificates.ca)) as client,
    ):
        client.get(f"https://localhost:{peer.port}/", extensions=log.extensions)
    assert log.info("connection.connect_tcp.started")["port"] == proxy.port
    assert log.names == [*CONNECT, "proxy.start_tls.started", "proxy.start_tls.complete", *exchange()]


def test_refused_connection_fails_and_is_tried_again(package: Package) -> None:
    log = Log()
    url = f"http://127.0.0.1:{free_port()}/"
    with package.client(retries=1) as client, pytest.raises(package.package.ConnectError) as failure:
        client.get(url, extensions=log.extensions)
    tried = ["connection.connect_tcp.started", "connection.connect_tcp.failed"]
    assert log.names == [*tried, "connection.retry.started", "connection.retry.complete", *tried]
    assert log.calls[-1][1]["exception"] is failure.value


@pytest.mark.parametrize(
    ("script", "step", "error"),
    [(silent, "receive_response_headers", "ReadTimeout"), (cut, "receive_response_body", "RemoteProtocolError")],
)
def test_step_that_fails_has_its_exception(
    package: Package, script: Callable[[Conn], object], step: str, error: str
) -> None:
    log = Log()
    with Peer(script) as peer, package.client() as client, pytest.raises(getattr(package.package, error)):
        client.get(peer.url, extensions=log.extensions, timeout=0.1)
    assert type(log.info(f"http11.{step}.failed")["exception"]).__name__ == error


def test_killed_request_ends_its_step(package: Package) -> None:
    log, asked = Log(), Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        asked.set()
        conn.wait_closed()

    with Peer(script) as peer, package.client() as client:
        reader = gevent.spawn(client.get, peer.url, extensions=log.extensions)
        asked.wait()
        reader.kill()
        peer.conns[0].hung_up.wait()
    assert log.names[-1] == "http11.receive_response_headers.failed"
    assert isinstance(log.calls[-1][1]["exception"], gevent.GreenletExit)


def test_request_that_is_sent_again_fails_its_first_step(package: Package) -> None:
    log = Log()

    def once(conn: Conn) -> None:
        conn.read_request()
        conn.respond(b"once")
        conn.read_request()

    with Peer(once, lambda conn: conn.read_request() and conn.respond(b"again")) as peer, package.client() as client:
        client.get(peer.url)
        assert client.get(peer.url, extensions=log.extensions).text == "again"
    sent = exchange()
    first = [*sent[:5], "http11.receive_response_headers.failed"]
    assert log.names == [*first, *CONNECT, *sent]


@pytest.mark.parametrize("number", range(12))
def test_exception_of_the_function_ends_the_request(package: Package, number: int) -> None:
    count = itertools.count()

    def trace(name: str, info: dict[str, Any]) -> None:
        if next(count) == number:
            raise LookupError(name)

    limits = package.package.Limits(max_connections=1)
    with Peer() as peer, package.client(limits=limits) as client:
        with pytest.raises(LookupError) as failure:
            client.get(peer.url, extensions={"trace": trace})
        assert str(failure.value) == [*CONNECT, *exchange()][number]
        # The pool slot is free.
        assert client.get(f"{peer.url}/next").text == "/next"


@pytest.mark.parametrize("kind", [OSError, TimeoutError, ValueError])
@pytest.mark.parametrize("number", range(12))
def test_exception_of_the_function_is_no_error_of_the_network(package: Package, kind: Any, number: int) -> None:
    names: list[str] = []
    raised: list[BaseException] = []

    def trace(name: str, info: dict[str, Any]) -> None:
        names.append(name)
        if len(names) == number + 1:
            raised.append(kind(name))
            raise raised[0]

    with Peer() as peer, package.client(retries=2) as client:
        with pytest.raises(kind) as failure:
            client.post(peer.url, content=iter([b"body"]), extensions={"trace": trace})
        assert failure.value is raised[0]
        # It is not sent again, and a step that has not begun does not fail.
        assert names[: number + 1] == [*CONNECT, *exchange()][: number + 1]
        assert len(peer.conns) <= 1
        started = [name.removesuffix(".started") for name in names[:number] if name.endswith(".started")]
        assert {name.removesuffix(".failed") for name in names if name.endswith(".failed")} <= set(started)


@pytest.mark.parametrize(("status", "expects"), [("417 Expectation Failed", True), ("413 Content Too Large", False)])
def test_early_response_completes_its_own_step(package: Package, status: str, expects: bool) -> None:
    log = Log()

    def early(conn: Conn) -> None:
        conn.read_head()
        conn.respond(b"", status)
        conn.wait_closed()

    headers = {"Expect": "100-continue"} if expects else {}
    body = bytes(1024 * 1024)
    with Peer(early) as peer, package.client() as client:
        pieces = (body for _ in range(1 if expects else 32))
        response = client.post(peer.url, content=pieces, headers=headers, extensions=log.extensions)
        assert response.status_code == int(status[:3])
    assert log.names == [*CONNECT, *exchange()]
    assert log.info("http11.receive_response_headers.complete")["return_value"][1] == int(status[:3])
    assert log.info("http11.send_request_headers.complete")["return_value"] is None


def test_exception_at_the_close_of_an_unread_response_frees_its_slot(package: Package) -> None:
    def trace(name: str, info: dict[str, Any]) -> None:
        if name == "http11.response_closed.started":
            raise LookupError(name)

    def long(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
        conn.wait_closed()

    limits = package.package.Limits(max_connections=1)
    with (
        Peer(long, lambda conn: conn.read_request() and conn.respond()) as peer,
        package.client(limits=limits) as client,
    ):
        response = client.send(client.build_request("GET", peer.url, extensions={"trace": trace}), stream=True)
        with pytest.raises(LookupError):
            response.close()
        assert client.get(peer.url).text == "ok"


def test_function_may_wait(package: Package) -> None:
    names = []

    def trace(name: str, info: dict[str, Any]) -> None:
        gevent.sleep(0.001)
        names.append(name)

    with Peer() as peer, package.client() as client:
        readers = [gevent.spawn(client.get, peer.url, extensions={"trace": trace}) for _ in range(5)]
        assert [reader.get().status_code for reader in readers] == [200] * 5
    assert sorted(names) == sorted([*CONNECT, *exchange()] * 5)


def test_coroutine_function_is_refused(package: Package) -> None:
    async def trace(name: str, info: dict[str, Any]) -> None:
        pass

    with Peer() as peer, package.client() as client, pytest.raises(TypeError, match="not a coroutine one"):
        client.get(peer.url, extensions={"trace": trace})
