"""Exceptions of the package: their built-in base classes, their messages, pickling."""

from __future__ import annotations

import builtins
import copy
import errno
import http.client
import importlib
import inspect
import io
import pickle
import pkgutil
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gevent
import httpx as real_httpx
import pytest
import urllib3.exceptions
from gevent.event import Event

import geventhttpclient
from geventhttpclient import HTTPClient, HTTPParseError, Session, UserAgent, exceptions, httplib, httpx
from geventhttpclient._agent.request import CompatRequest
from geventhttpclient.adapters import httpx as httpx_transport
from geventhttpclient.adapters.urllib3 import PoolManager
from geventhttpclient.http2 import HTTP2Error
from geventhttpclient.proxy import ProxyError
from geventhttpclient.response import (
    HTTPConnectionAborted,
    HTTPConnectionBroken,
    HTTPConnectionClosed,
    HTTPConnectionReset,
    HTTPSocketResponse,
)
from geventhttpclient.useragent import BadStatusCode, EmptyResponse, RetriesExceeded, UnrewoundBodyError
from geventhttpclient.useragent import ConnectionError as AgentError
from tests.support.certificates import Certificates
from tests.support.http2_peer import Talk, talking
from tests.support.hub import until
from tests.support.peer import Conn, Peer
from tests.support.ports import free_port
from tests.support.scripted import answer, saying, saying_then_closing, serving
from tests.support.tls import client_of, trusting

CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"


def reset_at_once(conn: Conn) -> None:
    conn.read_request()
    conn.reset()


def close_at_once(conn: Conn) -> None:
    conn.read_request()


def silent(conn: Conn) -> None:
    conn.wait_closed()


def by_client(url: str) -> bytes:
    with closing(HTTPClient.from_url(url, network_timeout=0.05)) as client:
        return client.get("/").read()


def by_agent(url: str) -> bytes:
    with UserAgent(network_timeout=0.05, max_retries=1) as agent:
        return bytes(agent.urlopen(url).content)


def by_session(url: str) -> bytes:
    with Session(network_timeout=0.05) as session:
        return bytes(session.get(url).content)


def by_httplib(url: str) -> bytes:
    with closing(httplib.HTTPConnection(url.partition("://")[2], timeout=0.05)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()


FACES = (by_client, by_agent, by_session)


def twins(error: BaseException) -> list[Any]:
    """Returns copies of an error, made with copy, deepcopy and pickle."""
    return [copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))]


# ------------------------------------------------------------------------------------------------ broken connections


@pytest.mark.parametrize("ask", FACES)
@pytest.mark.parametrize("ending", [reset_at_once, close_at_once])
def test_connection_that_ends_before_the_response_is_closed_and_a_connection_error(
    ask: Callable[[str], bytes], ending: Callable[[Conn], None]
) -> None:
    with Peer(ending) as peer, pytest.raises(HTTPConnectionClosed) as caught:
        ask(peer.url)
    error = caught.value
    assert isinstance(error, builtins.ConnectionError)
    assert isinstance(error, HTTPParseError)
    assert isinstance(error, http.client.HTTPException)
    assert isinstance(error, ConnectionResetError) is (ending is reset_at_once)
    assert error.errno == (errno.ECONNRESET if ending is reset_at_once else None)
    assert error.phase == "head"  # type: ignore[attr-defined]
    assert not hasattr(error, "response")
    for twin in twins(error):
        assert (type(twin), twin.args, str(twin)) == (type(error), error.args, str(error))
        assert (twin.errno, twin.phase) == (error.errno, "head")


@pytest.mark.parametrize("face", ["client", "httplib"])
def test_reset_within_a_body_is_closed_and_a_reset(face: str) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(CUT)
        has_begun.wait(10)
        conn.reset()

    has_begun = Event()
    with Peer(script) as peer:
        response: Any
        if face == "client":
            client: Any = HTTPClient(peer.host, peer.port)
            response = client.get("/")
        else:
            client = httplib.HTTPConnection(peer.host, peer.port)
            client.request("GET", "/")
            response = client.getresponse()
        assert response.read(3) == b"abc"
        has_begun.set()
        with pytest.raises(ConnectionResetError, match="reading the body from") as caught:
            response.read()
        client.close()
    # Programs of http.client find the built-in by its name.
    assert type(caught.value) is (HTTPConnectionReset if face == "client" else ConnectionResetError)
    assert (caught.value.errno, caught.value.phase) == (errno.ECONNRESET, "body")  # type: ignore[attr-defined]


def test_reset_of_an_http2_connection_is_closed_and_a_reset() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        talk.conn.reset()

    with talking(script) as (_, client), pytest.raises(HTTPConnectionClosed) as caught:
        client.get("/")
    assert isinstance(caught.value, ConnectionResetError)


def test_refused_connection_is_no_closed_one() -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        HTTPClient("127.0.0.1", free_port()).get("/")
    assert not isinstance(caught.value, HTTPConnectionClosed)
    assert caught.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), HTTPConnectionReset),
        (BrokenPipeError(errno.EPIPE, "broken"), HTTPConnectionBroken),
        (ConnectionAbortedError(errno.ECONNABORTED, "aborted"), HTTPConnectionAborted),
        (TimeoutError("slow"), TimeoutError),
        (OSError(errno.EIO, "odd"), OSError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_error_of_a_given_socket_is_of_our_class_if_the_connection_broke(raised: OSError, kind: type[OSError]) -> None:
    class Given:
        def recv(self, size: int) -> bytes:
            raise raised

        def close(self) -> None:
            pass

    with pytest.raises(kind) as caught:
        HTTPSocketResponse(Given())
    assert type(caught.value) is kind
    assert (caught.value.args, caught.value.errno) == (raised.args, raised.errno)
    assert caught.value is raised or caught.value.__cause__ is raised


def test_reset_reaches_each_rider_as_an_error_of_the_network() -> None:
    with Peer(reset_at_once) as peer:
        with pytest.raises(ConnectionResetError) as plain:
            by_httplib(peer.url)
        assert type(plain.value) is ConnectionResetError
        with httpx.Client() as client, pytest.raises(httpx.ReadError):
            client.get(peer.url)
        with real_httpx.Client(transport=httpx_transport.Transport()) as rider, pytest.raises(real_httpx.ReadError):
            rider.get(peer.url)
        with PoolManager(retries=False) as manager, pytest.raises(urllib3.exceptions.ProtocolError) as aborted:
            manager.request("GET", peer.url)
        assert type(aborted.value.args[1]) is ConnectionResetError  # as urllib3 has it


def test_end_reaches_each_rider_as_an_error_of_the_protocol() -> None:
    with Peer(close_at_once) as peer:
        with pytest.raises(http.client.RemoteDisconnected):
            by_httplib(peer.url)
        with httpx.Client() as client, pytest.raises(httpx.RemoteProtocolError):
            client.get(peer.url)
        with (
            real_httpx.Client(transport=httpx_transport.Transport()) as rider,
            pytest.raises(real_httpx.RemoteProtocolError),
        ):
            rider.get(peer.url)
        with PoolManager(retries=False) as manager, pytest.raises(urllib3.exceptions.ProtocolError) as aborted:
            manager.request("GET", peer.url)
        assert isinstance(aborted.value.args[1], http.client.RemoteDisconnected)


@pytest.mark.parametrize("said", [CUT, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"])
def test_reset_within_a_body_reaches_urllib3_as_a_broken_connection(said: bytes) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(said)
        has_begun.wait(10)
        conn.reset()

    has_begun = Event()
    with Peer(script) as peer, PoolManager() as manager:
        response = manager.request("GET", peer.url, preload_content=False)
        pieces = response.stream(3)
        assert next(pieces) == b"abc"
        has_begun.set()
        with pytest.raises(urllib3.exceptions.ProtocolError, match="Connection broken") as caught:
            list(pieces)
    assert type(caught.value.args[1]) is ConnectionResetError


def test_body_cut_short_is_a_connection_error_without_a_number() -> None:
    with serving(saying_then_closing(CUT)) as (_, client), pytest.raises(HTTPConnectionClosed) as caught:
        client.get("/").read()
    assert (caught.value.args[1], caught.value.errno, caught.value.strerror) == (14, None, None)
    assert isinstance(caught.value, builtins.ConnectionError)


# ------------------------------------------------------------------------------------------------ timeouts and retries


@pytest.mark.parametrize("ask", [*FACES, by_httplib])
def test_timeout_is_a_timeout_error(ask: Callable[[str], bytes]) -> None:
    with Peer(silent) as peer, pytest.raises(TimeoutError) as caught:
        ask(peer.url)
    assert caught.value.phase == "head"  # type: ignore[attr-defined]
    assert caught.value.errno is None


def test_httpx_timeouts_are_timeout_errors() -> None:
    with Peer(silent) as peer, httpx.Client(concurrency=1, timeout=httpx.Timeout(10, pool=0.05)) as client:
        holding = gevent.spawn(client.get, peer.url)
        until(lambda: peer.conns)
        with pytest.raises(httpx.PoolTimeout, match="timed out after") as pool:
            client.get(peer.url)
        holding.kill()
        with pytest.raises(httpx.ReadTimeout, match="timed out after") as read:
            client.get(peer.url, timeout=0.05)
    for caught in (pool, read):
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, httpx.TransportError)


def test_error_of_httpx_from_the_body_of_a_request_goes_through() -> None:
    def body() -> Any:
        yield b"a"
        raise mine

    mine = httpx.ReadTimeout("of another request")
    with Peer(silent) as peer, httpx.Client() as client, pytest.raises(httpx.ReadTimeout) as caught:
        client.post(peer.url, content=body())
    assert caught.value is mine


def test_session_retries_timeouts_if_max_retries_is_set() -> None:
    def attempts(session: Session, **options: Any) -> int:
        before = len(peer.conns)
        with session, pytest.raises(RetriesExceeded) as caught:
            session.urlopen(peer.url, **options)
        assert isinstance(caught.value.original, TimeoutError)
        made = len(peer.conns) - before
        assert caught.value.attempts == made
        assert f"failed after {made} attempt{'s' if made > 1 else ''}: timed out after 0.05 s" in str(caught.value)
        return made

    with Peer(silent) as peer:
        assert attempts(Session(network_timeout=0.05)) == 1
        assert attempts(Session(network_timeout=0.05, max_retries=1)) == 2
        assert attempts(Session(30, 1, network_timeout=0.05)) == 2
        assert attempts(Session(network_timeout=0.05), max_retries=2) == 3
        changed = Session(network_timeout=0.05)
        changed.max_retries = 3
        assert attempts(changed) == 4
        with pytest.raises(TimeoutError, match="after 1 attempt: "):
            geventhttpclient.get(peer.url, timeout=0.05)


def test_session_retries_broken_connections_by_default() -> None:
    with Peer(close_at_once, close_at_once, saying(answer(b"at last"))) as peer, Session() as session:
        assert session.get(peer.url).content == b"at last"


def test_agent_repeats_timeouts() -> None:
    with Peer(silent) as peer, UserAgent(network_timeout=0.05) as agent:
        with pytest.raises(RetriesExceeded, match="failed after 4 attempts: ") as caught:
            agent.urlopen(peer.url)
        assert len(peer.conns) == 4
    assert caught.value.args == (peer.url, 3)
    assert repr(caught.value).startswith(f"RetriesExceeded('{peer.url}', 3, original=timed out after 0.05 s (")


@pytest.mark.parametrize(
    ("original", "kinds"),
    [
        (TimeoutError("slow"), {TimeoutError}),
        (HTTPConnectionReset(errno.ECONNRESET, "reset"), {builtins.ConnectionError}),
        (HTTP2Error("refused", 7), {builtins.ConnectionError}),
        (EmptyResponse("http://host/", "Empty response body received"), set()),
        (None, set()),
    ],
    ids=repr,
)
def test_retries_exceeded_is_of_the_kind_of_its_original(original: Any, kinds: set[type]) -> None:
    if isinstance(original, TimeoutError):
        original.phase = "pool"  # type: ignore[attr-defined]
    error = RetriesExceeded("http://host/", 3, original=original)
    error.response = io.BytesIO()  # type: ignore[attr-defined]
    error.attempts = 4
    assert {kind for kind in (TimeoutError, builtins.ConnectionError) if isinstance(error, kind)} == kinds
    assert isinstance(error, (RetriesExceeded, AgentError))
    assert (type(error).__module__, type(error).__qualname__) == ("geventhttpclient.useragent", "RetriesExceeded")
    assert (error.args, error.url, getattr(error, "errno", None)) == (("http://host/", 3), "http://host/", None)
    for twin in twins(error):
        assert type(twin) is type(error)
        assert (str(twin), repr(twin), twin.args, twin.attempts) == (str(error), repr(error), error.args, 4)
        assert str(twin.original) == str(original)
        assert getattr(twin, "phase", None) == getattr(original, "phase", None)


def test_retries_exceeded_of_a_subclass_stays_one() -> None:
    class Mine(RetriesExceeded):
        pass

    assert type(Mine("http://host/", 1, original=TimeoutError())) is Mine


# ------------------------------------------------------------------------------------------------ texts


def test_texts_of_agents_name_the_url_once() -> None:
    original = TimeoutError("timed out after 5 s (waiting for the response of host:80)")
    exceeded = RetriesExceeded("http://me:secret@host/", 3, original=original)
    exceeded.attempts = 4
    empty = RetriesExceeded("http://host/", 3, original=EmptyResponse("http://host/", "Empty response body received"))
    empty.attempts = 1
    nested = RetriesExceeded("http://host/", 3, original=RetriesExceeded("http://a/", 3, original=original, attempts=2))
    assert str(nested) == f"URL http://host/: failed after retries: failed after 2 attempts: {original}"
    reset = RetriesExceeded("http://host/", 3, original=HTTPConnectionReset(104, "Connection reset by peer"))
    assert [str(error) for error in (exceeded, empty, reset, RetriesExceeded("http://host/", 3))] == [
        f"URL http://***@host/: failed after 4 attempts: {original}",
        "URL http://host/: failed after 1 attempt: Empty response body received",
        "URL http://host/: failed after retries: Connection reset by peer",
        "URL http://host/: 3",
    ]
    assert (exceeded.text, exceeded.kw_text) == (f"3, original={original}", f"original={original}")


@pytest.mark.parametrize(("line", "text"), [("404 Not Found", "404 Not Found"), ("500 ", "500")])
def test_raise_for_status_names_the_url_once(line: str, text: str) -> None:
    with Peer(saying(answer(b"", line))) as peer, Session() as session:
        response = session.get(f"{peer.url}/page")
        with pytest.raises(BadStatusCode) as caught:
            response.raise_for_status()
    assert str(caught.value) == f"URL {peer.url}/page: {text}"


@pytest.mark.parametrize(
    "said", [b"SSH-2.0 hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", CUT]
)
def test_text_of_a_parse_error_is_its_first_argument(said: bytes) -> None:
    with serving(saying_then_closing(said)) as (_, client), pytest.raises(HTTPParseError) as caught:
        client.get("/").read()
    error = caught.value
    assert str(error) == error.args[0]
    assert isinstance(error.args[1], int)
    assert repr(error) == f"{type(error).__name__}{error.args!r}"
    for twin in twins(error):
        assert (type(twin), twin.args, str(twin)) == (type(error), error.args, str(error))


def refusing(conn: Conn) -> None:
    conn.read_request()
    conn.respond(b"", "407 Proxy Authentication Required")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["http", "https", "socks5h", "socks5", "socks4a"])
def test_proxy_that_refuses_the_connection_is_called_a_proxy(scheme: str, kind: str) -> None:
    port = free_port()
    url = f"{scheme}://127.0.0.1/"
    text = rf"Connection refused \(connecting to the proxy 127.0.0.1:{port}\)"
    proxy = f"{kind}://127.0.0.1:{port}"
    with closing(HTTPClient.from_url(url, proxy=proxy)) as client, pytest.raises(ConnectionRefusedError, match=text):
        client.get("/")
    with Session(proxy=proxy) as session, pytest.raises(ConnectionRefusedError, match=text):
        session.get(url)
    with httpx.Client(proxy=proxy) as face, pytest.raises(httpx.ConnectError, match=text):
        face.get(url)


def test_proxy_that_fails_is_called_a_proxy() -> None:
    def via(proxy: str, **options: Any) -> str:
        with (
            closing(HTTPClient("origin.test", 443, ssl=True, proxy=proxy, **options)) as client,
            pytest.raises((ProxyError, TimeoutError, ssl.SSLError)) as caught,
        ):
            client.get("/")
        return str(caught.value)

    with Peer(refusing) as peer:
        proxy = f"the proxy 127.0.0.1:{peer.port}"
        assert f"(asking {proxy})" in via(peer.url)
    with Peer(silent) as peer:
        proxy = f"the proxy 127.0.0.1:{peer.port}"
        assert f"(asking {proxy})" in via(peer.url, connection_timeout=0.05)
        assert f"(asking {proxy})" in via(peer.url.replace("http", "socks5h"), connection_timeout=0.05)
        assert f"(in the TLS handshake with {proxy})" in via(peer.url.replace("http", "https"), connection_timeout=0.05)
    with Peer(saying_then_closing(b"HTTP/1.1 400 no TLS here\r\n\r\n")) as peer:
        assert f"(in the TLS handshake with the proxy 127.0.0.1:{peer.port})" in via(peer.url.replace("http", "https"))


def test_proxy_without_an_address_is_called_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("gevent.socket.getaddrinfo", getaddrinfo)
    for options, text in (({"proxy": "http://proxy.test:1"}, "the proxy proxy.test"), ({}, "origin.test")):
        with closing(HTTPClient("origin.test", **options)) as client, pytest.raises(socket.gaierror) as caught:
            client.get("/")
        assert str(caught.value).endswith(f"Name or service not known (resolving {text})")


def test_origin_behind_a_proxy_is_not_called_a_proxy(certificates: Certificates) -> None:
    def script(conn: Conn) -> None:
        conn.read_head()
        conn.send(b"HTTP/1.1 200 OK\r\n\r\n")
        conn.wait_closed()

    options = trusting(certificates)
    with (
        Peer(script) as peer,
        closing(
            HTTPClient("origin.test", ssl=True, proxy=peer.url, ssl_options=options, connection_timeout=0.05)
        ) as client,
        pytest.raises(TimeoutError, match=r"\(in the TLS handshake with origin.test:443\)"),
    ):
        client.get("/")


# ------------------------------------------------------------------------------------------------ certificates


REFUSED = {
    "expired": "localhost",
    "early": "localhost",
    "elsewhere": "localhost",
    "untrusted": "localhost",
    "with_root": "localhost",
    "self_signed": "localhost",
    "self_signed_ca": "localhost",
    "for_clients": "localhost",
    "incomplete": "localhost",
    "address": "localhost",
}


@pytest.mark.parametrize("options", [{}, {"http2": True}], ids=str)
@pytest.mark.parametrize(("shown", "host"), [*REFUSED.items(), ("elsewhere", "127.0.0.1")])
def test_refused_certificate_has_the_code_and_the_text_of_the_ssl_module(
    shown: str, host: str, options: dict[str, Any], certificates: Certificates
) -> None:
    found = []
    with Peer(tls=getattr(certificates, shown).server()) as peer:
        for way in ("native", "context"):
            trust = trusting(certificates)
            with (
                client_of(peer.port, way, host, ssl_options=trust, **options) as client,
                pytest.raises(ssl.SSLCertVerificationError) as caught,
            ):
                client.get("/")
            found.append(caught.value)
    native, theirs = found
    assert native.verify_code == theirs.verify_code
    if ssl.OPENSSL_VERSION_INFO >= (3,):
        assert native.verify_message == theirs.verify_message
    assert f"certificate verify failed: {native.verify_message.rstrip('.')}: " in str(native)
    for twin in twins(native):
        assert (type(twin), str(twin), twin.args) == (type(native), str(native), native.args)
        assert (twin.verify_code, twin.verify_message) == (native.verify_code, native.verify_message)
        assert twin.reason == "CERTIFICATE_VERIFY_FAILED"


def test_refused_certificate_of_a_proxy_has_the_text_of_the_ssl_module(certificates: Certificates) -> None:
    with Peer(tls=certificates.expired.server()) as peer:
        proxy = f"https://localhost:{peer.port}"
        options = trusting(certificates)
        with (
            closing(HTTPClient("origin.test", ssl=True, proxy=proxy, proxy_ssl_options=options)) as client,
            pytest.raises(ssl.SSLCertVerificationError, match="with the proxy localhost:") as caught,
        ):
            client.get("/")
    assert (caught.value.verify_code, caught.value.verify_message) == (10, "certificate has expired")


# ------------------------------------------------------------------------------------------------ other processes


def classes() -> list[type[BaseException]]:
    """Returns every public exception of the package."""
    found: dict[type[BaseException], None] = {}
    for module in pkgutil.walk_packages(geventhttpclient.__path__, "geventhttpclient."):
        if module.name.endswith("__main__") or ".cli" in module.name:
            continue
        for name, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(value, BaseException) and value.__module__.startswith("geventhttpclient") and name[0] != "_":
                found[value] = None
    return list(found)


def test_every_exception_can_be_copied_and_pickled() -> None:
    found = classes()
    assert {HTTPConnectionReset, ProxyError, HTTP2Error, RetriesExceeded, httpx.HTTPStatusError} < set(found)
    arguments: dict[Any, tuple[Any, ...]] = {
        exceptions.JSONDecodeError: ("words", "{", 1),
        exceptions.UnicodeDecodeError: ("utf-8", b"x", 0, 1, "words"),
    }
    for kind in found:
        error: Any = kind(*arguments.get(kind, ("http://host/ words",)))
        error.phase, error.request = "head", CompatRequest("http://host/", "POST", payload=(i for i in [b"x"]))
        for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error), copy.copy(error)):
            assert (type(twin), str(twin), repr(twin)) == (kind, str(error), repr(error))
            assert (twin.args, twin.phase, twin.request.url) == (error.args, "head", "http://host/")


def test_error_of_a_request_can_be_pickled_without_its_response() -> None:
    with Peer(saying(answer(b"gone", "404 Not Found"))) as peer:
        with UserAgent() as agent, pytest.raises(BadStatusCode) as caught:
            agent.urlopen(peer.url, params={"a": "b"})
        error: Any = caught.value
        twin = pickle.loads(pickle.dumps(error))
        assert (str(twin), twin.code, twin.http_log, twin.request.url) == (
            str(error),
            404,
            error.http_log,
            error.request.url,
        )
        assert not hasattr(twin, "response")
        assert copy.copy(error).response is error.response
        with httpx.Client() as client, pytest.raises(httpx.HTTPStatusError) as status:
            client.get(peer.url).raise_for_status()
        assert str(pickle.loads(pickle.dumps(status.value))) == str(status.value)
        assert copy.copy(status.value).response is status.value.response


def test_request_that_was_pickled_without_its_payload_is_not_sent_without_it() -> None:
    request: Any = CompatRequest("http://127.0.0.1/", "POST", payload=io.BytesIO(b"all of it"))
    assert copy.copy(request).payload is request.payload
    kept = CompatRequest("http://127.0.0.1/", "POST", payload=b"all of it")
    assert pickle.loads(pickle.dumps(kept)).payload == b"all of it"
    twin = pickle.loads(pickle.dumps(request))
    with Peer(silent) as peer, UserAgent() as agent, pytest.raises(UnrewoundBodyError, match="lost when the request"):
        agent.urlopen(peer.url, method="POST", payload=twin.payload)


def test_errors_of_the_network_can_be_pickled() -> None:
    port = free_port()
    with UserAgent() as agent, pytest.raises(ConnectionRefusedError) as caught:
        agent.urlopen(f"http://127.0.0.1:{port}/", method="PUT", payload=(i for i in [b"x"]))
    twin = pickle.loads(pickle.dumps(caught.value))
    assert (type(twin), str(twin), twin.phase) == (exceptions.ConnectionRefusedError, str(caught.value), "connect")
    assert twin.request.method == "PUT"
