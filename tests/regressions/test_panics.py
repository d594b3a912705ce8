"""Objects with wrong lengths, and panics: the program gets an exception and the loop keeps running."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import gevent
import pytest

from geventhttpclient import HTTPClient, _core
from geventhttpclient._parser import HTTPParseError
from tests.support.certificates import Certificates
from tests.support.http2_peer import Talk, scripted, serve_targets
from tests.support.hub import choose, run
from tests.support.peer import Conn, Peer, serve_ok

pytestmark = pytest.mark.usefixtures("bounded", "names_are_here")

# ---------------------------------------------------------------- an SSLObject that lies


class Lying:
    """Wrapper of an SSLObject with one method that returns a wrong result after the handshake."""

    def __init__(self, truth: ssl.SSLObject, method: str, lie: Callable[..., object]) -> None:
        self._truth = truth
        self._method = method
        self._lie = lie
        self._lies = False

    def do_handshake(self) -> None:
        self._truth.do_handshake()
        self._lies = True

    def __getattr__(self, name: str) -> Any:
        truth = getattr(self._truth, name)
        if name != self._method or not (self._lies and callable(truth)):
            return truth
        return lambda *arguments: self._lie(truth(*arguments), *arguments)


class LyingContext(ssl.SSLContext):
    lie: tuple[str, Callable[..., object]]

    def wrap_bio(self, *arguments: Any, **named: Any) -> Any:
        return Lying(super().wrap_bio(*arguments, **named), *self.lie)


LIES: dict[str, tuple[str, Callable[..., object]]] = {
    "writes one byte more": ("write", lambda written, *_: written + 1),
    "writes a million bytes": ("write", lambda written, *_: 1_000_000),
    "writes as much as there is": ("write", lambda written, *_: 2**64 - 1),
    "writes more than can be counted": ("write", lambda written, *_: 2**70),
    "writes less than nothing": ("write", lambda written, *_: -1),
    "writes a word": ("write", lambda written, *_: "all"),
    "writes None": ("write", lambda written, *_: None),
    "writes NaN": ("write", lambda written, *_: float("nan")),
    "reads more than was asked for": ("read", lambda read, length: bytes(length + 1)),
    "reads far more": ("read", lambda read, length: bytes(1 << 20)),
    "reads a str": ("read", lambda read, length: "text"),
    "reads None": ("read", lambda read, length: None),
    "has less than nothing": ("pending", lambda pending: -1),
    "has more than can be counted": ("pending", lambda pending: 2**70),
    "has a word": ("pending", lambda pending: "some"),
    "names no cipher": ("cipher", lambda cipher: (1, 2, 3)),
    "names no version": ("version", lambda version: 3),
    "names no protocol": ("selected_alpn_protocol", lambda protocol: 3),
    "has no certificate": ("getpeercert", lambda certificate, *_: 3),
}


@contextmanager
def lying(certificates: Certificates, lie: str, protocol: str) -> Iterator[tuple[HTTPClient, HTTPClient]]:
    """Yields a client with an SSLObject that lies, and one of the same server with a correct one."""

    def context(kind: type[ssl.SSLContext], **_: Any) -> ssl.SSLContext:
        made = kind(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(certificates.ca)
        if protocol == "http2":
            made.set_alpn_protocols(["h2"])
        return made

    class Told(LyingContext):
        pass

    Told.lie = LIES[lie]
    served = certificates.valid.server()
    if protocol == "http2":
        served.set_alpn_protocols(["h2"])
    script = scripted(quiet_targets) if protocol == "http2" else quiet_ok
    options: dict[str, Any] = {"ssl": True, "network_timeout": 5, "http2": protocol == "http2"}
    with (
        Peer(script, tls=served) as peer,
        closing(HTTPClient("localhost", peer.port, ssl_context_factory=lambda **_: context(Told), **options)) as liar,
        closing(
            HTTPClient("localhost", peer.port, ssl_context_factory=lambda **_: context(ssl.SSLContext), **options)
        ) as honest,
    ):
        yield liar, honest


def quiet_ok(conn: Conn) -> None:
    """Script: serves requests; the client may disconnect at any point."""
    with suppress(OSError):
        serve_ok(conn)


def quiet_targets(talk: Talk) -> None:
    with suppress(AssertionError, OSError):
        serve_targets(talk)


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("lie", LIES)
def test_ssl_object_with_wrong_claims_raises_and_leaves_the_loop_alive(
    certificates: Certificates, lie: str, protocol: str
) -> None:
    with lying(certificates, lie, protocol) as (liar, honest):
        assert honest.get("/before").status_code == 200
        for _ in range(3):
            # Not a BaseException, as a panic is: what a program catches.
            with pytest.raises(Exception):  # noqa: B017, PT011
                liar.get("/").read()
        for target in ("/after", "/again"):
            assert honest.get(target).read() == target.encode()
        assert liar.statistics()["in_use"] == 0


@pytest.mark.parametrize("method", ["read", "write"])
def test_ssl_object_that_wants_more_of_an_ended_stream_raises(certificates: Certificates, method: str) -> None:
    """The engine called it again and again in one callback of the loop, and no timeout ended that."""

    def want(*_: object) -> object:
        wanted.append(method)
        assert len(wanted) < 1000, "asked again and again"
        raise ssl.SSLWantReadError("more")

    class Wanting(LyingContext):
        lie = (method, want)

    def context(**_: Any) -> ssl.SSLContext:
        made = Wanting(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(certificates.ca)
        return made

    def closing_at_once(conn: Conn) -> None:
        if method == "read":
            conn.read_request()

    wanted: list[str] = []
    with (
        Peer(closing_at_once, tls=certificates.valid.server()) as peer,
        closing(HTTPClient("localhost", peer.port, ssl=True, ssl_context_factory=context)) as client,
    ):
        with pytest.raises((OSError, HTTPParseError)):
            client.get("/").read()
        assert client.statistics()["in_use"] == 0


# ---------------------------------------------------------------- panics


@pytest.mark.parametrize("backtrace", ["0", "1", "full"])
@pytest.mark.parametrize("loop", ["libev-cext", "libuv-cffi"])
def test_panic_in_the_callback_is_reported_and_leaves_the_loop_alive(loop: str, backtrace: str) -> None:
    outcome = run("panics.in_callback", RUST_BACKTRACE=backtrace, **choose(loop))
    assert (outcome.code, outcome.out) == (0, "3 requests after 3 panics\n"), outcome
    assert outcome.err.count("geventhttpclient panicked at") == 3
    assert outcome.err.count("RuntimeError: internal error of geventhttpclient, please report it") == 3
    # The standard hook's backtrace walks up stacks that are not there as a whole.
    assert "stack backtrace" not in outcome.err


# ---------------------------------------------------------------- code that runs inside the client


class Meddling:
    """Garbage whose finaliser calls something."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.itself = self

    def __del__(self) -> None:
        self.call()


def test_body_buffer_exported_while_a_finaliser_reads_does_not_panic() -> None:
    """The exception for a bytearray that cannot be emptied may run the garbage collector."""
    called = []

    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        response = client.get("/0123456789")
        buffer = response._body_buffer

        def meddle() -> None:
            called.append(response._is_complete())
            response._is_read()
            response.release()

        with memoryview(buffer):
            thresholds = gc.get_threshold()
            gc.collect()
            gc.set_threshold(1)
            try:
                read = b""
                for _ in range(20):
                    Meddling(meddle)
                    read += response.read(1)
            finally:
                gc.set_threshold(*thresholds)
        gc.collect()
        assert called
        assert read == b"/0123456789"
        assert client.get("/after").read() == b"/after"


@pytest.mark.parametrize("waits", [True, False])
def test_response_in_use_refuses_a_second_reader_for_the_first_time(waits: bool) -> None:
    """Making that exception imports a module, which may run code that touches the response."""
    assert run("panics.second_reader", int(waits)).clean() == "refused\n"


def test_hub_handles_a_panic_as_any_error_of_a_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = gevent.get_hub()
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(hub, "handle_error", lambda *arguments: told.append(arguments), raising=False)
    _core._panic_in_callback()
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        assert client.get("/").status_code == 200
    ((context, kind, value, _),) = told
    assert context is hub
    assert kind is RuntimeError
    assert "a panic for tests" in str(value)
