"""SDKs without patching: responses that take long or never end, and what is left of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
import urllib3
from gevent.event import Event

from geventhttpclient.adapters.requests import Adapter
from geventhttpclient.adapters.urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from tests.support.dependents import need
from tests.support.hub import until
from tests.support.peer import Conn, Peer, Script

pytestmark = pytest.mark.usefixtures("bounded")

JSON = [("Content-Type", "application/json")]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


# ---------------------------------------------------------------- kubernetes


def pod_event(number: int, kind: str = "MODIFIED") -> bytes:
    metadata = {"name": "pod", "namespace": "default", "resourceVersion": str(number)}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    return json.dumps({"type": kind, "object": pod}).encode() + b"\n"


@contextmanager
def cluster(*scripts: Script) -> Iterator[tuple[Peer, Any]]:
    """Starts a peer, and yields it and an API client on the engine, with one connection at most."""
    need("kubernetes")
    from kubernetes import client

    with Peer(*scripts) as peer:
        configuration = client.Configuration(host=peer.url)
        configuration.connection_pool_maxsize = 1
        with client.ApiClient(configuration) as api_client:
            manager = api_client.rest_client.pool_manager
            manager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
            yield peer, client.CoreV1Api(api_client)


def versions(events: Iterator[Any]) -> Iterator[str]:
    for event in events:
        yield event["object"].metadata.resource_version


def test_watch_yields_each_event_while_other_greenlets_run() -> None:
    """The server sends an event after another greenlet has noticed the one before."""
    from_other = [Event() for _ in range(4)]
    seen: list[str] = []

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(HEAD)
        for number, event in enumerate(from_other):
            conn.send(chunk(pod_event(number)))
            event.wait()
        conn.send(END)
        conn.wait_closed(50)

    def acknowledge() -> None:
        for number, event in enumerate(from_other):
            until(lambda: len(seen) > number)  # noqa: B023
            event.set()

    with cluster(script) as (peer, api):
        from kubernetes.watch import Watch

        gevent.spawn(acknowledge)
        for version in versions(Watch().stream(api.list_namespaced_pod, "default", timeout_seconds=50)):
            seen.append(version)
        assert seen == ["0", "1", "2", "3"]
        assert "watch=true" in peer.requests[0].target.lower()


def test_fifty_watches_advance_together() -> None:
    count = 50
    arrived, together = [0] * 3, [Event() for _ in range(3)]

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(HEAD)
        for number in range(3):
            arrived[number] += 1
            if arrived[number] == count:
                together[number].set()
            together[number].wait()
            conn.send(chunk(pod_event(number)))
        conn.send(END)

    with cluster(script) as (_, api):
        from kubernetes.watch import Watch

        def watch() -> list[str]:
            return list(versions(Watch().stream(api.list_namespaced_pod, "default", timeout_seconds=50)))

        greenlets = [gevent.spawn(watch) for _ in range(count)]
        gevent.joinall(greenlets, raise_error=True)
        assert all(greenlet.value == ["0", "1", "2"] for greenlet in greenlets)


def test_watch_continues_from_the_last_version_on_a_new_connection() -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(HEAD + chunk(pod_event(10 * conn.number + 10)) + END)

    with cluster(script) as (peer, api):
        from kubernetes.watch import Watch

        watch = Watch()
        seen = []
        for version in versions(watch.stream(api.list_namespaced_pod, "default")):
            seen.append(version)
            if len(seen) == 3:
                watch.stop()
        assert seen == ["10", "20", "30"]
        assert [request.target.partition("resourceVersion=")[2].partition("&")[0] for request in peer.requests] == [
            "",
            "10",
            "20",
        ]


def forever(conn: Conn) -> None:
    conn.read_request()
    conn.send(HEAD + chunk(pod_event(1)))
    conn.wait_closed(50)


def test_killed_watch_closes_its_socket() -> None:
    with cluster(forever, forever) as (peer, api):
        from kubernetes.watch import Watch

        seen: list[str] = []

        def watch() -> None:
            for version in versions(Watch().stream(api.list_namespaced_pod, "default")):
                seen.append(version)

        greenlet = gevent.spawn(watch)
        until(lambda: seen)
        greenlet.kill()
        with gevent.Timeout(10):
            peer.conns[0].hung_up.wait()


def test_stalled_watch_raises_read_timeout() -> None:
    with cluster(forever) as (_, api):
        from kubernetes.watch import Watch

        events = Watch().stream(api.list_namespaced_pod, "default", _request_timeout=(5, 0.1))
        assert next(versions(events)) == "1"
        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            next(events)


def test_log_is_followed_line_by_line() -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(HEAD.replace(b"application/json", b"text/plain"))
        conn.send_pieces([chunk(b"one\ntw"), chunk(b"o\n"), chunk("drei ü\n".encode()), END])

    with cluster(script) as (_, api):
        from kubernetes.watch import Watch

        lines = Watch().stream(api.read_namespaced_pod_log, "pod", "default")
        assert list(lines) == ["one", "two", "drei ü"]


# ---------------------------------------------------------------- consul


def test_blocking_query_ends_with_the_write_of_another_greenlet() -> None:
    need("consul")
    from consul import Consul

    written = Event()

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if request.method == "PUT":
                written.set()
                conn.respond(b"true", headers=JSON)
            else:
                assert "index=7" in request.target
                written.wait()
                entry = {"Key": "key", "Value": "bmV3", "Flags": 0, "CreateIndex": 1, "ModifyIndex": 8}
                conn.respond(json.dumps([entry]).encode(), headers=[*JSON, ("X-Consul-Index", "8")])

    with Peer(script) as peer:
        client = Consul(host="127.0.0.1", port=peer.port)
        client.http.session.mount("http://", Adapter())
        readers = [gevent.spawn(client.kv.get, "key", index=7, wait="40s") for _ in range(20)]
        until(lambda: len(peer.requests) == 20)
        assert client.kv.put("key", "new") is True
        gevent.joinall(readers, raise_error=True)
        assert {reader.value[1]["Value"] for reader in readers} == {b"new"}
        assert {reader.value[0] for reader in readers} == {"8"}


# ---------------------------------------------------------------- elasticsearch and opensearch


@pytest.mark.parametrize("package", ["elasticsearch", "opensearchpy"])
def test_bulk_sends_documents_of_a_generator(package: str) -> None:
    need(package)
    lines: list[bytes] = []

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            lines.extend(request.body.splitlines())
            count = len(request.body.splitlines()) // 2
            items = [{"index": {"_index": "index", "status": 201}}] * count
            body = json.dumps({"errors": False, "items": items}).encode()
            conn.respond(body, headers=[*JSON, ("X-Elastic-Product", "Elasticsearch")])

    documents = ({"_index": "index", "text": f"{number} ü"} for number in range(1000))
    with Peer(script) as peer:
        if package == "elasticsearch":
            from elasticsearch import Elasticsearch
            from elasticsearch.helpers import bulk

            from geventhttpclient.adapters.elastic_transport import Node

            client: Any = Elasticsearch(peer.url, node_class=Node)
            assert bulk(client, documents, chunk_size=100) == (1000, [])
        else:
            from opensearchpy import OpenSearch, RequestsHttpConnection
            from opensearchpy.helpers import bulk as bulk_of_opensearch

            class Connection(RequestsHttpConnection):
                def __init__(self, *args: Any, **kwargs: Any) -> None:
                    super().__init__(*args, **kwargs)
                    self.session.mount("http://", Adapter())

            client = OpenSearch(peer.url, connection_class=Connection)
            assert bulk_of_opensearch(client, documents, chunk_size=100) == (1000, [])
        assert len(peer.requests) == 10
        assert len(peer.conns) == 1
    texts = [json.loads(line)["text"] for line in lines if b"text" in line]
    assert texts == [f"{number} ü" for number in range(1000)]


# ---------------------------------------------------------------- httpx2


def test_generated_content_is_streamed() -> None:
    need("google.genai")
    from google import genai

    from geventhttpclient.adapters.httpx2 import Transport

    received, go_on = Event(), Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(HEAD.replace(b"application/json", b"text/event-stream"))
        for text in ("a", "é"):
            value = {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}}]}
            conn.send(chunk(b"data: " + json.dumps(value).encode() + b"\r\n\r\n"))
            go_on.wait()
        conn.send(END)

    def other() -> None:
        received.wait()
        go_on.set()

    with Peer(script) as peer:
        options: Any = {"base_url": peer.url, "client_args": {"transport": Transport()}}
        client = genai.Client(api_key="key", http_options=options)
        gevent.spawn(other)
        texts = []
        for piece in client.models.generate_content_stream(model="m", contents="hello"):
            texts.append(piece.text)
            received.set()
        assert texts == ["a", "é"]
        assert "alt=sse" in peer.requests[0].target


@pytest.fixture
def hub() -> Iterator[Any]:
    """The function of huggingface_hub that downloads a file, on the engine."""
    need("huggingface_hub")
    import httpx2
    from huggingface_hub import hf_hub_download, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    from geventhttpclient.adapters.httpx2 import Transport

    set_client_factory(lambda: httpx2.Client(transport=Transport(), follow_redirects=True, timeout=60))
    yield hf_hub_download
    set_client_factory(default_client_factory)


SIZE = 1_000_000


def files(conn: Conn, halfway: Callable[[], object]) -> None:
    """Serves files that consist of their names; calls `halfway` in the middle of each."""
    while request := conn.read_request():
        name = request.target.rpartition("/")[2]
        commit = "0123456789abcdef0123456789abcdef01234567"
        lines = f'ETag: "{name}"', f"X-Repo-Commit: {commit}", f"Content-Length: {SIZE}"
        conn.send("\r\n".join(("HTTP/1.1 200 OK", *lines)).encode() + b"\r\n\r\n")
        if request.method != "HEAD":
            conn.send(name.encode() * (SIZE // 2))
            halfway()
            conn.send(name.encode() * (SIZE // 2))


def test_files_of_the_hub_are_downloaded_together(hub: Any, tmp_path: Path) -> None:
    """The server sends the second half of each file when all requests for a file have arrived."""
    count, arrived, together = 10, [0], Event()

    def meet() -> None:
        arrived[0] += 1
        if arrived[0] == count:
            together.set()
        together.wait()

    with Peer(lambda conn: files(conn, meet)) as peer:

        def download(name: str) -> str:
            return Path(hub("owner/model", name, cache_dir=tmp_path, endpoint=peer.url)).read_text()

        greenlets = [gevent.spawn(download, str(number)) for number in range(count)]
        gevent.joinall(greenlets, raise_error=True)
        assert [greenlet.value for greenlet in greenlets] == [str(number) * SIZE for number in range(count)]


def test_file_that_several_greenlets_want_is_downloaded_once(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the first wait for its lock, by time.sleep."""
    waiting: list[float] = []

    def sleep(seconds: float) -> None:
        waiting.append(seconds)
        gevent.sleep(seconds)

    monkeypatch.setattr("time.sleep", sleep)
    with Peer(lambda conn: files(conn, lambda: until(lambda: waiting))) as peer:
        arguments = {"cache_dir": tmp_path, "endpoint": peer.url}
        greenlets = [gevent.spawn(hub, "owner/model", "7", **arguments) for _ in range(3)]
        gevent.joinall(greenlets, raise_error=True)
        assert {Path(greenlet.value).read_text() for greenlet in greenlets} == {"7" * SIZE}
        assert [request.method for request in peer.requests].count("GET") == 1


# ---------------------------------------------------------------- requests


def test_stripe_streams_a_file() -> None:
    need("stripe")
    import stripe

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(HEAD)
        conn.send_pieces([chunk(b"%%PDF"), chunk(b" " * 100_000), END])

    session = requests.Session()
    session.mount("http://", Adapter())
    with Peer(script) as peer:
        http = stripe.RequestsClient(session=session)
        client = stripe.StripeClient("key", http_client=http, base_addresses={"files": peer.url})
        assert client.v1.quotes.pdf("qt_1").io.read() == b"%%PDF" + b" " * 100_000
