"""`HTTPClientError` is a base of every error of a request, in every interface, in addition to its earlier classes."""

from __future__ import annotations

import builtins
import copy
import errno
import http.client
import json
import pickle
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from geventhttpclient import HTTPClient, Session, UserAgent, api, exceptions, httpx, url, useragent
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.exceptions import HTTPClientError
from geventhttpclient.proxy import ProxyError
from geventhttpclient.response import HTTPConnectionClosed, HTTPConnectionReset
from tests.support.certificates import Certificates
from tests.support.peer import Conn, Peer
from tests.support.proxies import free_port
from tests.support.scripted import answer, saying, saying_then_closing

TIMEOUT = 0.1


def by_client(url: str, **kw: Any) -> bytes:
    with closing(HTTPClient.from_url(url, network_timeout=TIMEOUT, **kw)) as client:
        return client.get(url).read()


def by_agent(url: str, **kw: Any) -> bytes:
    with UserAgent(network_timeout=TIMEOUT, max_retries=0, **kw) as agent:
        return bytes(agent.urlopen(url).content)


def by_session(url: str, **kw: Any) -> bytes:
    with Session(network_timeout=TIMEOUT, **kw) as session:
        return bytes(session.get(url).content)


def by_function(url: str, **kw: Any) -> bytes:
    if proxy := kw.pop("proxy", None):
        kw["proxies"] = {"https": proxy}
    return bytes(api.get(url, timeout=TIMEOUT, **kw).content)


def by_httpx(url: str, **kw: Any) -> bytes:
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True, **kw) as client:
        return client.get(url).content


FACES = [by_client, by_agent, by_session, by_function, by_httpx]

Face = Callable[..., bytes]


def reset(conn: Conn) -> None:
    conn.read_request()
    conn.reset()


def silent(conn: Conn) -> None:
    conn.wait_closed()


GZIPPED = answer(b"not gzip", "200 OK", "Content-Encoding: gzip")

# By what a peer does: the classes that the failure was caught as before there was a root.
BY_PEER: dict[str, tuple[Callable[[Conn], None], tuple[type[Exception], ...]]] = {
    "reset": (reset, (ConnectionResetError, HTTPConnectionReset, HTTPParseError, OSError)),
    "closed": (saying_then_closing(b""), (ConnectionError, HTTPConnectionClosed, HTTPParseError, OSError)),
    "silent": (silent, (TimeoutError, OSError)),
    "garbage": (saying(b"nonsense\r\n\r\n"), (HTTPParseError, http.client.HTTPException)),
    "cut": (saying_then_closing(answer(b"1234567890")[:-3]), (HTTPConnectionClosed, HTTPParseError, OSError)),
}


def check(error: BaseException, face: Face, kinds: tuple[type[Exception], ...]) -> None:
    assert isinstance(error, HTTPClientError)
    if face is by_httpx and isinstance(error, httpx.HTTPError):
        error = error.__cause__ or error
    if isinstance(error, useragent.RetriesExceeded) and error.original is not None:
        assert isinstance(error, TimeoutError)
        error = error.original
    assert isinstance(error, HTTPClientError)
    for kind in kinds:
        assert isinstance(error, kind), kind
    if not isinstance(error, useragent.ConnectionError):
        assert error.phase
        assert error.elapsed is not None


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("what", BY_PEER)
def test_failure_of_a_peer_is_caught_by_the_root_and_by_the_classes_before(what: str, face: Face) -> None:
    script, kinds = BY_PEER[what]
    with Peer(*[script] * 8) as peer, pytest.raises(HTTPClientError) as caught:
        face(peer.url)
    check(caught.value, face, kinds)


@pytest.mark.parametrize("face", FACES[1:])
def test_body_that_does_not_decode_is_caught_by_the_root_and_as_zlib_error(face: Face) -> None:
    with Peer(saying(GZIPPED)) as peer, pytest.raises(HTTPClientError) as caught:
        face(peer.url)
    error: Any = caught.value.__cause__ if face is by_httpx else caught.value
    assert isinstance(error, zlib.error)
    assert isinstance(error, exceptions.DecodingError)
    assert type(error).__name__ == zlib.error.__name__


@pytest.mark.parametrize("face", FACES)
def test_refused_connection_is_caught_by_the_root_and_as_the_built_in(face: Face) -> None:
    with pytest.raises(HTTPClientError) as caught:
        face(f"http://127.0.0.1:{free_port()}/")
    check(caught.value, face, (builtins.ConnectionRefusedError,))


@pytest.mark.parametrize("face", FACES)
def test_unknown_host_is_caught_by_the_root_and_as_gaierror(face: Face) -> None:
    with pytest.raises(HTTPClientError) as caught:
        face("http://a..b/")
    error: Any = caught.value.__cause__ if face is by_httpx else caught.value
    assert isinstance(error, socket.gaierror)
    assert type(error).__name__ == "gaierror"
    assert error.errno == socket.EAI_NONAME


@pytest.mark.parametrize("face", FACES)
def test_missing_unix_socket_is_caught_by_the_root_and_as_the_built_in(face: Face, tmp_path: Any) -> None:
    if face is by_function:
        pytest.skip("takes no uds")
    with pytest.raises(HTTPClientError) as caught:
        face("http://example.org/", uds=str(tmp_path / "missing"))
    error: Any = caught.value.__cause__ if face is by_httpx and caught.value.__cause__ else caught.value
    assert isinstance(error, builtins.FileNotFoundError)
    assert error.errno == errno.ENOENT


@pytest.mark.parametrize("face", FACES)
def test_refusing_proxy_is_caught_by_the_root_and_as_proxy_error(face: Face) -> None:
    refused = saying(answer(b"", "407 Proxy Authentication Required"))
    target = f"https://127.0.0.1:{free_port()}/"
    with Peer(*[refused] * 2) as peer, pytest.raises(HTTPClientError) as caught:
        face(target, proxy=peer.url)
    error: Any = caught.value.__cause__ if face is by_httpx else caught.value
    assert isinstance(error, (ProxyError, OSError, RuntimeError))
    assert error.status == 407


def refusing(conn: Conn) -> None:
    conn.wait_closed()


@pytest.mark.parametrize("own_context", [False, True])
@pytest.mark.parametrize("face", FACES)
def test_untrusted_certificate_is_caught_by_the_root_and_as_ssl_error(
    face: Face, own_context: bool, certificates: Certificates
) -> None:
    kw: dict[str, Any] = {}
    if own_context:
        if face is by_function:
            pytest.skip("takes no context")
        kw["ssl_context_factory"] = ssl.create_default_context
    with Peer(refusing, refusing, tls=certificates.valid.server()) as peer, pytest.raises(HTTPClientError) as caught:
        face(f"https://localhost:{peer.port}/", **kw)
    error: Any = caught.value.__cause__ if face is by_httpx else caught.value
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert isinstance(error, (HTTPClientError, ValueError))
    assert (type(error).__name__, error.reason) == ("SSLCertVerificationError", "CERTIFICATE_VERIFY_FAILED")
    assert error.verify_code
    assert error.verify_message
    assert error.phase == "tls"


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    "bad", ["http://[::1", "http://a b/", "ftp://example.org/", "/path", "http://example.org:99999/"]
)
def test_url_that_cannot_be_requested_is_caught_by_the_root_and_as_value_error(bad: str, face: Face) -> None:
    with pytest.raises(HTTPClientError) as caught:
        face(bad)
    assert isinstance(caught.value, ValueError) or face is by_httpx


@pytest.mark.parametrize("headers", [{"Bad Name": "x"}, {"X": "a\r\nb"}, {"X": "\u20ac"}, {"Content-Length": "x"}])
def test_header_that_cannot_be_sent_is_caught_by_the_root_and_as_value_error(headers: dict[str, str]) -> None:
    with closing(HTTPClient("127.0.0.1", 1)) as client, pytest.raises(HTTPClientError) as caught:
        client.get("/", headers=headers)
    assert isinstance(caught.value, ValueError)
    assert repr(caught.value).startswith("ValueError(")
    with Session() as session, pytest.raises(HTTPClientError):
        session.get("http://127.0.0.1:1/", headers=headers)
    with httpx.Client() as other, pytest.raises(HTTPClientError):
        other.get("http://127.0.0.1:1/", headers=headers)


@pytest.mark.parametrize("target", ["/a b", "/\n", "http://elsewhere.example/"])
def test_target_that_cannot_be_sent_is_caught_by_the_root(target: str) -> None:
    with closing(HTTPClient("127.0.0.1", 1)) as client, pytest.raises(HTTPClientError) as caught:
        client.get(target)
    assert isinstance(caught.value, ValueError)


def test_closed_client_is_caught_by_the_root_and_as_runtime_error() -> None:
    client = HTTPClient("127.0.0.1", 1)
    client.close()
    with pytest.raises(HTTPClientError) as caught:
        client.get("/")
    assert isinstance(caught.value, builtins.RuntimeError)
    assert repr(caught.value).startswith("RuntimeError(")
    other = httpx.Client()
    other.close()
    with pytest.raises(HTTPClientError) as caught:
        other.get("http://127.0.0.1:1/")
    assert isinstance(caught.value, builtins.RuntimeError)


def test_no_free_connection_is_caught_by_the_root_and_as_timeout_error() -> None:
    with Peer(silent) as peer, closing(HTTPClient.from_url(peer.url, concurrency=1, pool_timeout=0.01)) as client:
        import gevent

        first = gevent.spawn(client.get, "/")
        peer.accepted.wait(10)
        with pytest.raises(HTTPClientError) as caught:
            client.get("/")
        assert isinstance(caught.value, builtins.TimeoutError)
        assert caught.value.phase == "pool"
        first.kill()


@pytest.mark.parametrize("location", ["http://a:99999/", "ftp://example.org/"])
@pytest.mark.parametrize("face", FACES[1:])
def test_bad_redirect_is_caught_by_the_root(face: Face, location: str) -> None:
    with (
        Peer(saying(answer(b"", "302 Found", f"Location: {location}"))) as peer,
        pytest.raises(HTTPClientError) as caught,
    ):
        face(peer.url)
    assert isinstance(caught.value, (useragent.ConnectionError, httpx.HTTPError))


@pytest.mark.parametrize("face", FACES[1:])
def test_too_many_redirects_are_caught_by_the_root(face: Face) -> None:
    def looping(conn: Conn) -> None:
        while conn.read_request() is not None:
            conn.send(answer(b"", "302 Found", "Location: /again"))

    with Peer(*[looping] * 2) as peer, pytest.raises(HTTPClientError) as caught:
        face(peer.url)
    assert isinstance(caught.value, (useragent.RetriesExceeded, httpx.TooManyRedirects))


def test_bad_status_is_caught_by_the_root() -> None:
    with Peer(*[saying(answer(b"", "500 Oops"))] * 3) as peer:
        with pytest.raises(HTTPClientError) as caught:
            by_agent(peer.url)
        assert isinstance(caught.value, useragent.BadStatusCode)
        with Session() as session, pytest.raises(HTTPClientError):
            session.get(peer.url).raise_for_status()
        with httpx.Client() as client, pytest.raises(HTTPClientError):
            client.get(peer.url).raise_for_status()


@pytest.mark.parametrize("body", [b"{", b"\xff\xff\xff"])
def test_body_that_is_not_json_is_caught_by_the_root_and_as_value_error(body: bytes) -> None:
    responses: list[Callable[[str], Any]] = [
        lambda url: Session().get(url),
        lambda url: UserAgent().urlopen(url),
        lambda url: httpx.Client().get(url),
    ]
    with Peer(*[saying(answer(body))] * len(responses)) as peer:
        for get in responses:
            with pytest.raises(HTTPClientError) as caught:
                get(peer.url).json()
            assert isinstance(caught.value, ValueError)
            assert isinstance(caught.value, (json.JSONDecodeError, builtins.UnicodeDecodeError))


def test_wrong_arguments_are_not_caught_by_the_root() -> None:
    calls: list[Callable[[], object]] = [
        lambda: HTTPClient("127.0.0.1", concurrency=0),
        lambda: HTTPClient("127.0.0.1").get("/", network_timeout=-1),
        lambda: HTTPClient("127.0.0.1").get(1),  # type: ignore[arg-type]
        lambda: Session(max_retries=-1),
        lambda: Session().get("http://127.0.0.1/", headers=1),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert not isinstance(caught.value, HTTPClientError)


def test_errors_of_the_program_are_not_changed() -> None:
    mine = ValueError("mine")

    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise mine

    with Peer(saying()) as peer, closing(HTTPClient.from_url(peer.url)) as client:
        with pytest.raises(ValueError, match="mine") as caught:
            client.post("/", body=pieces())
        assert caught.value is mine


# ---------------------------------------------------------------- the classes

NAMED = [
    getattr(exceptions, name)
    for name in exceptions.__all__
    if hasattr(builtins, name) or name in ("gaierror", "error") or name.startswith("SSL")
]


@pytest.mark.parametrize("kind", NAMED)
def test_class_with_the_name_of_a_built_in_is_a_subclass_of_it(kind: type[Exception]) -> None:
    if kind is exceptions.ConnectionError:
        return  # that of geventhttpclient 2
    origins = [module for module in (builtins, ssl, zlib, socket) if hasattr(module, kind.__name__)]
    base = getattr(origins[0], kind.__name__)
    assert issubclass(kind, base)
    assert issubclass(kind, HTTPClientError)
    unicode: dict[type, tuple[Any, ...]] = {
        exceptions.UnicodeDecodeError: ("utf-8", b"\xff", 0, 1, "no"),
    }
    arguments = unicode.get(kind, (errno.EIO, "text") if issubclass(kind, OSError) else ("text",))
    made, built_in = kind(*arguments), base(*arguments)
    assert (repr(made), str(made), made.args) == (repr(built_in), str(built_in), built_in.args)
    assert getattr(made, "errno", None) == getattr(built_in, "errno", None)
    made.phase = "head"  # type: ignore[attr-defined]
    for twin in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert (type(twin), twin.args, twin.phase, str(twin)) == (kind, made.args, "head", str(made))


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_error_number_selects_the_same_class_as_in_the_built_in(number: int) -> None:
    made, built_in = exceptions.OSError(number, "text"), builtins.OSError(number, "text")
    broken = (BrokenPipeError, ChildProcessError, ConnectionResetError, FileExistsError, ProcessLookupError)
    if not isinstance(built_in, broken):  # that no step of a request fails with, or that has another class
        assert isinstance(made, type(built_in))
    assert (made.errno, made.args, str(made)) == (number, (number, "text"), str(built_in))


def test_json_error_can_be_pickled() -> None:
    error = exceptions.JSONDecodeError("text", "{", 1)
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), twin.doc, twin.pos) == (type(error), str(error), "{", 1)


def test_every_exception_is_in_the_tree_and_in_the_list() -> None:
    assert exceptions.__doc__ is not None
    for name, value in vars(exceptions).items():
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__.startswith("geventhttpclient"):
            assert issubclass(value, HTTPClientError)
            assert name.startswith("_") or name in exceptions.__all__, name
            assert name.startswith("_") or name in exceptions.__doc__, name


def test_old_paths_are_the_same_classes() -> None:
    for module, names in {
        useragent: useragent.__all__,
        url: ["InvalidURL"],
        __import__("geventhttpclient.response", fromlist=["_"]): ["HTTPConnectionClosed", "HTTPParseError"],
        __import__("geventhttpclient.http2", fromlist=["_"]): ["HTTP2Error"],
        __import__("geventhttpclient.proxy", fromlist=["_"]): ["ProxyError"],
        __import__("geventhttpclient._parser", fromlist=["_"]): ["HTTPParseError"],
    }.items():
        for name in set(names) & set(exceptions.__all__):
            assert getattr(module, name) is getattr(exceptions, name)
