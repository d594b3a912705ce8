"""tritonclient on this package: its HTTP client against a small server of the same protocol."""

from __future__ import annotations

import gc
import importlib
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import gevent.ssl
import pytest
from gevent.event import Event

from geventhttpclient.response import HTTPConnectionClosed
from tests.support import kserve
from tests.support.certificates import Certificates
from tests.support.dependents import need
from tests.support.hub import in_thread, run
from tests.support.peer import Conn, Peer, Script, serve_ok
from tests.support.scripted import saying

need("tritonclient")
np = importlib.import_module("numpy")
triton = importlib.import_module("tritonclient.http")

pytestmark = pytest.mark.usefixtures("bounded")


@contextmanager
def inferring(*scripts: Script, **options: Any) -> Iterator[tuple[Peer, triton.InferenceServerClient]]:
    """Yields a server and a client for it."""
    with (
        Peer(*(scripts or (kserve.serve,)), tls=options.pop("tls", None)) as peer,
        triton.InferenceServerClient(f"localhost:{peer.port}", **options) as client,
    ):
        yield peer, client


def tensors(number: int = 1, *, binary: bool = True, size: int = 16) -> list[triton.InferInput]:
    """Returns the inputs of `add`: the numbers from 0, and `number` repeated."""
    inputs = [triton.InferInput(name, [1, size], "INT32") for name in ("INPUT0", "INPUT1")]
    inputs[0].set_data_from_numpy(np.arange(size, dtype=np.int32).reshape(1, size), binary_data=binary)
    inputs[1].set_data_from_numpy(np.full((1, size), number, dtype=np.int32), binary_data=binary)
    return inputs


def check(result: triton.InferResult, number: int = 1, size: int = 16) -> None:
    counted = np.arange(size, dtype=np.int32).reshape(1, size)
    assert np.array_equal(result.as_numpy("OUTPUT0"), counted + number)
    assert np.array_equal(result.as_numpy("OUTPUT1"), counted - number)


def opened(client: triton.InferenceServerClient) -> int:
    count: int = client._client_stub._connection_pool.statistics()["opened"]
    return count


# ---------------------------------------------------------------- health and metadata


def test_health_and_metadata_reuse_one_connection() -> None:
    """tritonclient never reads the responses to its health calls; its only connection must be reusable nevertheless."""
    with inferring() as (peer, client):
        for _ in range(3):
            assert client.is_server_live() is True
            assert client.is_server_ready(headers={"X-Trace": "1"}, query_params={"q": ["a b", "c"]}) is True
            assert client.is_model_ready("add") is True
            assert client.is_model_ready("nonesuch") is False
        assert client.get_server_metadata() == kserve.SERVER_METADATA
        assert client.get_model_metadata("echo")["name"] == "echo"
        assert opened(client) == len(peer.conns) == 1
    assert peer.requests[1].target == "/v2/health/ready?q=a+b&q=c"
    assert peer.requests[1].get("x-trace") == "1"


def test_base_path_is_part_of_targets() -> None:
    with Peer(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as peer:
        with triton.InferenceServerClient(f"127.0.0.1:{peer.port}/behind/a-proxy/") as client:
            assert client.is_server_live()
        assert peer.requests[0].target == "/behind/a-proxy/v2/health/live"


def test_unread_response_with_body_frees_its_place() -> None:
    """tritonclient drops a health response with a body unread."""
    with inferring(serve_ok) as (_, client):
        for _ in range(6):
            assert client.is_server_live()


def test_verbose_shows_the_response(capsys: pytest.CaptureFixture[str]) -> None:
    with inferring(verbose=True) as (_, client):
        client.is_server_live()
        check(client.infer("add", tensors()))
    assert "<HTTPSocketPoolResponse status=200 headers=" in capsys.readouterr().out


# ---------------------------------------------------------------- inference


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_infer_returns_the_sum(binary: bool) -> None:
    with inferring() as (peer, client):
        outputs = [triton.InferRequestedOutput(f"OUTPUT{i}", binary_data=binary) for i in (0, 1)]
        result = client.infer("add", tensors(3, binary=binary), outputs=outputs, request_id="7", model_version="1")
        check(result, 3)
        assert result.get_response()["id"] == "7"
    request = peer.requests[0]
    # tritonclient's header has an int as its value.
    length = request.get("Inference-Header-Content-Length")
    assert (length is not None) == binary
    if length is not None:
        assert 0 < int(length) < len(request.body)


def test_tensors_of_every_type_are_returned() -> None:
    given = {
        "FP64": np.linspace(0, 1, 1000).reshape(10, 100),
        "UINT8": np.arange(256, dtype=np.uint8),
        "BOOL": np.array([True, False]),
        "FP16": np.zeros(0, dtype=np.float16),
        "BYTES": np.array([b"", b"\x00\r\n\r\n", "bücher".encode()], dtype=np.object_),
    }
    inputs = []
    for datatype, value in given.items():
        inputs.append(triton.InferInput(datatype, list(value.shape), datatype))
        inputs[-1].set_data_from_numpy(value)
    with inferring() as (_, client):
        result = client.infer("echo", inputs)
    for datatype, value in given.items():
        assert np.array_equal(result.as_numpy(datatype), value), datatype


def test_large_tensors_are_complete_in_both_directions() -> None:
    """The tensors exceed the buffers of the sockets."""
    size = 4 << 20
    with inferring() as (_, client):
        tensor = triton.InferInput("X", [size], "INT32")
        tensor.set_data_from_numpy(np.arange(size, dtype=np.int32))
        assert np.array_equal(client.infer("echo", [tensor]).as_numpy("X"), np.arange(size, dtype=np.int32))


@pytest.mark.parametrize("asked", ["gzip", "deflate", None])
@pytest.mark.parametrize("sent", ["gzip", "deflate", None])
def test_compressed_bodies_are_decoded(sent: str | None, asked: str | None) -> None:
    with inferring() as (peer, client):
        result = client.infer(
            "add",
            tensors(size=1000),
            request_compression_algorithm=sent,
            response_compression_algorithm=asked,
        )
        check(result, size=1000)
    assert peer.requests[0].get("content-encoding") == sent
    assert peer.requests[0].get("accept-encoding") == asked


# ---------------------------------------------------------------- concurrent requests


def test_async_infer_sends_eight_requests_concurrently() -> None:
    """Eight requests are in flight before the first response; the ninth waits for a connection."""
    everybody, arrived = Event(), 0

    def together(conn: Conn) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 8:
            everybody.set()
        everybody.wait()
        kserve.serve(conn)

    with inferring(together, concurrency=8) as (peer, client):
        handles = [client.async_infer("add", tensors(i), request_id=str(i)) for i in range(24)]
        for i, handle in enumerate(handles):
            result = handle.get_result(timeout=10)
            check(result, i)
            assert result.get_response()["id"] == str(i)
        assert opened(client) == len(peer.conns) == 8


def test_async_infer_with_few_greenlets_waits() -> None:
    with inferring(concurrency=8, max_greenlets=2) as (peer, client):
        handles = [client.async_infer("add", tensors(i), request_compression_algorithm="gzip") for i in range(8)]
        for i, handle in enumerate(handles):
            check(handle.get_result(), i)
        assert len(peer.conns) <= 2


def test_async_infer_result_before_the_response_raises() -> None:
    held = Event()

    def holding(conn: Conn) -> None:
        held.wait()
        kserve.serve(conn)

    with inferring(holding) as (_, client):
        handle = client.async_infer("add", tensors())
        with pytest.raises(triton.InferenceServerException, match="failed to obtain inference response"):
            handle.get_result(block=False)
        with pytest.raises(triton.InferenceServerException, match="failed to obtain inference response"):
            handle.get_result(timeout=0.001)
        held.set()
        check(handle.get_result())


def test_async_infer_error_is_raised_by_get_result() -> None:
    with inferring(concurrency=2) as (_, client):
        wrong, right = client.async_infer("nonesuch", tensors()), client.async_infer("add", tensors())
        with pytest.raises(triton.InferenceServerException, match="unknown model"):
            wrong.get_result()
        check(right.get_result())


# ---------------------------------------------------------------- TLS


def given_context(certificates: Certificates) -> Callable[[], ssl.SSLContext]:
    return lambda: gevent.ssl.create_default_context(cafile=str(certificates.ca))


TRUSTING: dict[str, Callable[[Certificates], dict[str, Any]]] = {
    "ssl_options": lambda c: {"ssl_options": {"ca_certs": str(c.ca)}},
    "ssl_options of a client": lambda c: {
        "ssl_options": {"ca_certs": str(c.ca), "certfile": str(c.client.chain), "keyfile": str(c.client.key)}
    },
    "ssl_context_factory": lambda c: {"ssl_context_factory": given_context(c)},
    "unverified": lambda c: {"ssl_context_factory": gevent.ssl._create_unverified_context, "insecure": True},
}


@pytest.mark.parametrize("how", TRUSTING)
def test_tls_options_decide_trust(how: str, certificates: Certificates) -> None:
    options = TRUSTING[how](certificates)
    with inferring(tls=certificates.valid.server(), ssl=True, **options, concurrency=2) as (_, client):
        assert client.is_server_live()
        check(client.infer("add", tensors()))
        handles = [client.async_infer("add", tensors(i)) for i in range(4)]
        for i, handle in enumerate(handles):
            check(handle.get_result(), i)


def test_insecure_accepts_any_name(certificates: Certificates) -> None:
    options = {"ssl": True, "ssl_options": {"ca_certs": str(certificates.ca)}}
    tls = certificates.elsewhere.server()
    with inferring(tls=tls, **options, insecure=True) as (_, client):
        assert client.is_server_live()
    with inferring(tls=tls, **options) as (_, client), pytest.raises(ssl.SSLCertVerificationError):
        client.is_server_live()


def test_unknown_authority_is_not_trusted(certificates: Certificates) -> None:
    with inferring(tls=certificates.valid.server(), ssl=True) as (_, client):
        with pytest.raises(ssl.SSLCertVerificationError):
            client.infer("add", tensors())
        with pytest.raises(ssl.SSLCertVerificationError):
            client.async_infer("add", tensors()).get_result()


def test_tls_options_without_tls_are_ignored() -> None:
    with inferring(ssl=False, ssl_options={"ca_certs": "/nonesuch.pem"}, insecure=True) as (_, client):
        assert client.is_server_live()


# ---------------------------------------------------------------- errors


def test_server_error_raises_inference_exception() -> None:
    with inferring() as (_, client):
        with pytest.raises(triton.InferenceServerException) as caught:
            client.infer("nonesuch", tensors())
        assert caught.value.status() == "404"
        assert caught.value.message() == "Request for unknown model: 'nonesuch' is not found"
        with pytest.raises(triton.InferenceServerException) as caught:
            client.infer("add", tensors()[:1])
        assert caught.value.status() == "400"
        check(client.infer("add", tensors()))
        assert opened(client) == 1


def test_error_without_a_text_raises() -> None:
    answers = (
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nlater",
    )
    with inferring(saying(*answers)) as (_, client):
        with pytest.raises(triton.InferenceServerException, match="empty response") as caught:
            client.infer("add", tensors())
        assert caught.value.status() == "500"
        with pytest.raises(triton.InferenceServerException, match="while decoding the response") as caught:
            client.infer("add", tensors())
        assert (caught.value.status(), caught.value.debug_details()) == ("503", "later")


def test_refused_connection_raises() -> None:
    with Peer() as peer:
        port = peer.port
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(ConnectionRefusedError):
            client.is_server_live()
        with pytest.raises(ConnectionRefusedError):
            client.async_infer("add", tensors()).get_result()


def test_silent_server_raises_timeout() -> None:
    def silent(conn: Conn) -> None:
        conn.read_request()
        conn.wait_closed()

    with inferring(silent, network_timeout=0.05) as (_, client), pytest.raises(TimeoutError):
        client.infer("add", tensors())


def test_truncated_response_raises() -> None:
    def cut(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 10\r\nContent-Length: 100\r\n\r\n{}")

    with inferring(cut) as (_, client), pytest.raises(HTTPConnectionClosed):
        client.infer("add", tensors())


# ---------------------------------------------------------------- threads, and the end


def test_client_is_used_in_another_thread() -> None:
    """The client uses the hub of the thread that calls it."""
    with inferring() as (_, client):
        check(client.infer("add", tensors()))

        def there() -> None:
            check(client.infer("add", tensors(2)), 2)
            check(client.async_infer("add", tensors(3)).get_result(), 3)

        in_thread(there)
        check(client.infer("add", tensors()))


def test_client_is_closed_by_another_thread() -> None:
    with inferring() as (peer, client):
        check(client.infer("add", tensors()))
        in_thread(client.close)
        with gevent.Timeout(10):
            peer.conns[0].hung_up.wait()
        in_thread(client.close)


def test_dropped_client_closes_its_connections() -> None:
    """`__del__` closes them, in this thread and in one without a hub."""
    with Peer(kserve.serve) as peer:
        for release in (lambda box: box.clear(), lambda box: run_plainly(box.clear)):
            box = [triton.InferenceServerClient(f"127.0.0.1:{peer.port}")]
            assert box[0].is_server_live()
            forgotten = weakref.ref(box[0])
            release(box)
            gc.collect()
            assert forgotten() is None
            with gevent.Timeout(10):
                peer.conns[-1].hung_up.wait()


def run_plainly(call: Callable[[], None]) -> None:
    """Runs a short call in a native thread, while this hub does not run."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


@pytest.mark.parametrize("how", ["exits", "raises", "leaves_threads"])
def test_interpreter_exits_cleanly_with_open_clients(how: str) -> None:
    with Peer(kserve.serve) as peer:
        outcome = run(f"inference.{how}", peer.port)
    assert outcome.out == "inferred\n"
    assert outcome.code == (1 if how == "raises" else 0)
    complaint = "RuntimeError: enough\n" if how == "raises" else ""
    assert outcome.err.endswith(complaint)
    assert bool(outcome.err) == bool(complaint), outcome.err
