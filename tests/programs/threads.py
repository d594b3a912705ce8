"""Programs with many threads, each with its own hub. Each gets the URL of a peer that responds with the target."""

from __future__ import annotations

import gc
import os
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import gevent
import requests

from geventhttpclient import HTTPClient, UserAgent, httplib
from geventhttpclient.adapters.requests import Adapter
from geventhttpclient.requests import Session
from tests.support.hub import attempt, descriptors, get

THREADS = 32
SECONDS = 60

errors: list[BaseException] = []


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Runs `work` in that many concurrent threads; raises the first exception of any of them."""

    def run(me: int) -> None:
        try:
            work(me)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=run, args=(me,)) for me in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads)


def storm(url: str, tls: str, rounds: str) -> None:
    """Threads share clients of every kind, with streams, kills, and clients that other threads close."""
    options: dict[str, Any] = {"network_timeout": 30, "connection_timeout": 30}
    if url.startswith("https"):
        options["ssl_options"] = {"ca_certs": os.environ["SSL_CERT_FILE"]}
        if tls == "context":
            options["ssl_context_factory"] = lambda **arguments: ssl.create_default_context(**arguments)
    client = HTTPClient.from_url(url, concurrency=2, **options)
    agent, session = UserAgent(**options), Session(**options)
    adapted = requests.Session()
    adapted.mount(url, Adapter())
    doomed = [HTTPClient.from_url(url, **options)]
    verify = os.environ["SSL_CERT_FILE"]

    def plainly(target: str) -> None:
        assert get(client, target, SECONDS) == target.encode()

    def streaming(target: str) -> None:
        response = client.get(target)
        assert response.read(1) == b"/"
        assert response.read() == target[1:].encode()

    def dropping(target: str) -> None:
        client.get(target)

    def killing(target: str) -> None:
        killed = gevent.spawn(attempt, lambda: client.get(target).read())
        gevent.sleep(0)
        killed.kill()
        assert killed.value == target.encode() or isinstance(killed.value, gevent.GreenletExit), killed.value

    def by_agent(target: str) -> None:
        assert agent.urlopen(url + target).content == target.encode()

    def by_session(target: str) -> None:
        assert session.get(url + target).content == target.encode()

    def by_requests(target: str) -> None:
        assert adapted.get(url + target, verify=verify).content == target.encode()

    def closing(target: str) -> None:
        mine = doomed[0]
        outcome = attempt(lambda: mine.get(target).read())
        # RuntimeError: another thread has closed the client.
        assert outcome == target.encode() or isinstance(outcome, RuntimeError), outcome
        if target.endswith("8"):
            doomed[0] = HTTPClient.from_url(url, **options)
            mine.close()

    ways = [plainly, streaming, dropping, killing, by_agent, by_session, by_requests, closing]

    def work(me: int) -> None:
        def loop(strand: int) -> None:
            for n in range(int(rounds)):
                ways[(me + strand + n) % len(ways)](f"/{me}/{strand}/{n}")

        strands = [gevent.spawn(loop, strand) for strand in range(2)]
        gevent.joinall(strands, timeout=SECONDS, raise_error=True)
        assert all(strand.successful() for strand in strands)

    in_threads(THREADS, work)
    # Afterwards everything works, and no slot is in use.
    plainly("/after")
    statistics = client._connection_pool.statistics()
    assert (statistics["in_use"], statistics["waiting"]) == (0, 0)
    print("ok")


def handed_on(url: str, tls: str) -> None:
    """Threads pass on a connection with http.client's interface: each reconnects it, unless a response is pending.
    Closing or dropping it in another thread is harmless."""
    parts = urlsplit(url)
    connect: Callable[[], Any] = partial(httplib.HTTPConnection, parts.hostname, parts.port, timeout=30)
    if parts.scheme == "https":
        context = {"context": ssl.create_default_context()} if tls == "context" else {}
        connect = partial(httplib.HTTPSConnection, parts.hostname, parts.port, timeout=30, **context)

    def use(connection: Any, target: str) -> None:
        connection.request("GET", target)
        assert connection.getresponse().read() == target.encode()

    connection = connect()
    for n in range(20):
        use(connection, f"/{n}")
        in_threads(1, lambda me, n=n: use(connection, f"/elsewhere/{n}"))  # type: ignore[misc]
        # With a pending response it belongs to the thread of the request.
        connection.request("GET", "/owed")
        outcomes: list[object] = []
        in_threads(1, lambda me, outcomes=outcomes: outcomes.append(attempt(connection.getresponse)))  # type: ignore[misc]
        assert isinstance(outcomes[0], RuntimeError | OSError), outcomes
        connection.close()
        box = [connect()]
        use(box[0], f"/closed/{n}")
        in_threads(2, lambda me, box=box: box[0].close())  # type: ignore[misc]
        use(box[0], f"/anew/{n}")
        in_threads(1, lambda me, box=box: (box.clear(), gc.collect()))  # type: ignore[misc]
    print("ok")


def short_lived(url: str, count: str) -> None:
    """Prints how many descriptors remain after threads that end without destroying their hubs: those that only sleep,
    those with a request, and those with an unread response."""
    client = HTTPClient.from_url(url)
    left = HTTPClient.from_url(url)

    def sleeps(me: int) -> None:
        gevent.sleep(0.001)

    def asks(me: int) -> None:
        assert get(client, "/asks") == b"/asks"

    def leaves(me: int) -> None:
        kept.append(left.get("/held-body"))

    kept: list[object] = []

    def cost(work: Callable[[int], object]) -> int:
        in_threads(1, work)
        before = len(descriptors())
        for _ in range(int(count)):
            in_threads(1, work)
            kept.clear()
        gc.collect()
        return len(descriptors()) - before

    print(cost(sleeps), cost(asks), cost(leaves))
