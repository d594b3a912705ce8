"""Pickles and copies contain settings, cookies and read bodies, but no connections, locks or nonces."""

from __future__ import annotations

import copy
import gzip
import io
import pickle
from collections.abc import Callable
from http.cookiejar import CookieJar, LWPCookieJar
from typing import Any

import pytest

import geventhttpclient
from geventhttpclient import URL, BasicAuth, HTTPClient, Session, UserAgent, httpx
from geventhttpclient.auth import DigestAuth
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.cookies import Cookies
from geventhttpclient.header import Headers
from geventhttpclient.proxy import Proxy
from geventhttpclient.requests import RequestsRequest
from geventhttpclient.response import HTTPConnectionClosed
from geventhttpclient.useragent import BadStatusCode, CompatRequest, UnrewoundBodyError
from tests.conftest import TlsNginx
from tests.support.certificates import Certificates
from tests.support.peer import Conn, Peer
from tests.support.scripted import answer

pytestmark = pytest.mark.usefixtures("bounded")

Duplicate = Callable[[Any], Any]


def pickled_by(protocol: int) -> Duplicate:
    return lambda one: pickle.loads(pickle.dumps(one, protocol))


PICKLES: dict[str, Duplicate] = {
    **{f"protocol {number}": pickled_by(number) for number in range(pickle.HIGHEST_PROTOCOL + 1)},
    "deepcopy": copy.deepcopy,
}
DUPLICATES: dict[str, Duplicate] = {**PICKLES, "copy": copy.copy}

in_every_way = pytest.mark.parametrize("duplicate", DUPLICATES.values(), ids=DUPLICATES)
in_every_pickle = pytest.mark.parametrize("duplicate", PICKLES.values(), ids=PICKLES)


class Marked(URL):
    """A URL with a slot and an attribute of its own."""

    __slots__ = ("__dict__", "mark")


def shop(conn: Conn) -> None:
    """Script: sets a cookie, redirects, compresses, or returns the cookies that it received."""
    while request := conn.read_request():
        path = request.target.partition("?")[0]
        if path == "/set":
            conn.send(answer(b"set", "200 OK", "Set-Cookie: seen=1; Path=/"))
        elif path == "/from":
            conn.send(answer(b"moved", "302 Found", "Location: /page"))
        elif path == "/gzip":
            conn.send(answer(gzip.compress(b"text"), "200 OK", "Content-Encoding: gzip", "X-A: 1", "X-A: 2"))
        elif path == "/cut":
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut")
            conn.close()
            return
        elif path == "/large":
            conn.send(b"HTTP/1.1 302 Found\r\nLocation: /page\r\nContent-Length: 10000000\r\n\r\n")
        elif path == "/missing":
            conn.send(answer(b"no such page", "404 Not Found"))
        else:
            conn.send(answer((request.get("cookie") or "none").encode(), "200 Fine", "Content-Type: text/plain"))


# -------------------------------------------------------------------------------------------------------------- values


@in_every_way
def test_url_of_any_class_is_duplicated(duplicate: Duplicate) -> None:
    url = Marked("http://me:secret@h.test:81/a;b?c=d#e")
    url.mark, url.other = "mark", ["other"]  # type: ignore[attr-defined]
    assert url.port == 81
    twin = duplicate(url)
    assert (type(twin), twin, twin.mark, twin.other) == (Marked, url, "mark", ["other"])
    twin["c"] = "changed"
    twin.port = 82
    assert (str(url), twin.port, url.port) == ("http://me:secret@h.test:81/a;b?c=d#e", 82, 81)


@in_every_way
@pytest.mark.parametrize(
    "value",
    [
        Headers([("A", "1"), ("a", "2"), ("B", "3")]),
        Proxy.from_url("socks5://me:p@h.test"),
        httpx.Timeout(5, connect=1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_is_duplicated(value: Any, duplicate: Duplicate) -> None:
    assert duplicate(value) == value
    assert type(duplicate(value)) is type(value)


@in_every_way
def test_auth_is_duplicated_without_nonces(duplicate: Duplicate) -> None:
    for basic in (BasicAuth("\u20ac", "p"), BasicAuth(b"u\xff", "p"), httpx.BasicAuth("u", "p")):
        twin = duplicate(basic)
        assert (type(twin), twin.username, twin.token) == (type(basic), basic.username, basic.token)
    for digest in (DigestAuth("u", "p"), httpx.DigestAuth("u", "p")):
        challenge = 'Digest realm="r", nonce="n", qop="auth"'
        assert digest.response("GET", "/", challenge) is not None
        twin = duplicate(digest)
        # Two that count by themselves would send the same count twice.
        assert twin.preemptive("GET", "/") is None
        assert "nc=00000001" in twin.response("GET", "/", challenge)
        assert "nc=00000002" in digest.preemptive("GET", "/")  # type: ignore[operator]


@in_every_way
def test_cookies_are_duplicated_into_a_jar_of_their_own(duplicate: Duplicate) -> None:
    jar = Cookies()
    jar.set("a", "1", domain="host")
    jar["b"] = "2"
    twin = duplicate(jar)
    assert type(twin) is Cookies
    assert twin.items() == jar.items()
    assert twin.get("a", domain="host") == "1"
    twin["c"] = "3"
    assert "c" not in jar
    assert jar.copy().items() == jar.items()


# -------------------------------------------------------------------------------------------------------------- agents


@in_every_pickle
@pytest.mark.parametrize("make", [Session, UserAgent, httpx.Client])
def test_agent_in_use_is_duplicated_with_settings_and_cookies(make: Any, duplicate: Duplicate) -> None:
    with Peer(shop) as peer, make(headers={"X-A": "1"}, cookiejar=Cookies(), concurrency=3, max_redirects=7) as agent:
        ask = "urlopen" if make is UserAgent else "get"
        assert getattr(agent, ask)(peer.url + "/set").content == b"set"
        with duplicate(agent) as twin:
            assert (type(twin), twin.max_redirects, twin.default_headers) == (make, 7, agent.default_headers)
            assert twin.clientpool.client_args == agent.clientpool.client_args
            assert twin.clientpool.clients == {}
            assert twin.clientpool.max_idle_connections == agent.clientpool.max_idle_connections
            assert getattr(twin, ask)(peer.url + "/page").content == b"seen=1"
            twin.cookiejar.set("own", "1")
            twin.default_headers["X-B"] = "2"
        assert len(peer.conns) == 2
        assert "x-b" not in agent.default_headers
        assert "own" not in agent.cookiejar
        # The connections of the first one are as they were.
        assert getattr(agent, ask)(peer.url + "/page").content == b"seen=1"
        assert len(peer.conns) == 2


@in_every_pickle
@pytest.mark.parametrize("kind", [CookieJar, LWPCookieJar])
def test_agent_with_a_jar_of_the_standard_library_is_duplicated(kind: Any, duplicate: Duplicate) -> None:
    with Peer(shop) as peer, UserAgent(cookiejar=kind()) as agent:
        agent.urlopen(peer.url + "/set").read()
        with duplicate(agent) as twin:
            assert type(twin.cookiejar) is kind
            assert twin.urlopen(peer.url + "/page").content == b"seen=1"
            twin.cookiejar.clear()
        assert len(agent.cookiejar) == 1  # type: ignore[arg-type]


@in_every_pickle
def test_session_is_duplicated_with_the_attributes_that_requests_keeps(duplicate: Duplicate) -> None:
    session = Session(auth=("me", "p"), trust_env=True)
    session.params, session.timeout, session.verify, session.stream = {"a": "b"}, (1, 2), False, True
    session.proxies, session.hooks = {"http": None}, {"response": [print]}
    session.cookies["a"] = "b"
    with Peer(shop) as peer, session:
        # Clients for a request's own arguments stay behind as well.
        session.get(peer.url, proxies={"http": None}, verify=False, auth=DigestAuth("u", "p")).close()
        assert session._pools
        session.cert = "cert.pem"
        twin = duplicate(session)
    names = ("auth", "trust_env", "params", "timeout", "verify", "stream", "proxies", "cert", "hooks", "max_retries")
    assert [getattr(twin, name) for name in names] == [getattr(session, name) for name in names]
    assert twin.cookies.items() == session.cookies.items()
    assert twin._pools == {}
    assert twin._idle_group is twin.clientpool._idle_group is not session._idle_group


def test_shallow_copy_of_an_agent_shares_clients_and_cookies() -> None:
    with Peer(shop) as peer, Session() as session:
        session.get(peer.url + "/set").content  # noqa: B018
        twin = copy.copy(session)
        assert twin.get(peer.url).content == b"seen=1"
        assert (len(peer.conns), twin.cookies is session.cookies) == (1, True)
        twin.max_redirects = 1
        assert session.max_redirects == 30


@in_every_way
def test_pool_of_clients_is_duplicated_without_its_clients(duplicate: Duplicate, certificates: Certificates) -> None:
    cert = (str(certificates.client.chain), str(certificates.client.key))
    pool = HTTPClientPool(max_clients=3, max_idle_connections=2, cert=cert, proxy_user="me", proxy_password="p")
    pool.client_args.pop("cert")
    pool.get_client("http://h.test")
    pool._without_certificate()
    twin = duplicate(pool)
    assert (twin.max_clients, twin.max_idle_connections, twin.client_args) == (3, 2, pool.client_args)
    assert (twin.clients, len(pool.clients)) == ({}, 1)
    assert twin._without_certificate() is not pool._without_certificate()
    twin.close()


@in_every_pickle
def test_client_cannot_be_pickled_and_names_an_alternative(duplicate: Duplicate) -> None:
    with HTTPClient("h.test") as client, pytest.raises(TypeError, match=r"HTTPClient cannot be pickled.*use a Session"):
        duplicate(client)


def test_shallow_copy_of_a_client_shares_its_connections() -> None:
    with Peer(shop) as peer, HTTPClient(peer.host, peer.port) as client:
        client.get("/").read()
        assert copy.copy(client).get("/").read() == b"none"
        assert len(peer.conns) == 1


# ------------------------------------------------------------------------------------------------------------- requests


@in_every_way
@pytest.mark.parametrize(
    "request_",
    [
        CompatRequest("http://h.test/?a", "PUT", Headers({"A": "b"}), b"payload"),
        RequestsRequest("http://h.test/", "PUT", Headers({"A": "b"}), b"payload"),
        httpx.Request("PUT", "http://h.test/", headers={"A": "b"}, content=b"payload"),
    ],
    ids=lambda request: type(request).__module__,
)
def test_request_is_duplicated(request_: Any, duplicate: Duplicate) -> None:
    twin = duplicate(request_)
    assert (type(twin), twin.method, twin.url) == (type(request_), "PUT", request_.url)
    assert (twin.headers, twin.payload, twin.original_origin) == (
        request_.headers,
        b"payload",
        request_.original_origin,
    )


def test_pickle_of_a_request_has_no_cookies_but_those_sent() -> None:
    with Peer(shop) as peer, Session() as session:
        session.cookies.set("elsewhere", "marker", domain="other.test")
        response = session.get(peer.url, cookies={"own": "1"}, timeout=5)
        assert b"marker" not in pickle.dumps(response)
        assert pickle.loads(pickle.dumps(response)).request.headers["cookie"] == "own=1"


# ------------------------------------------------------------------------------------------------------------ responses


def of_session(url: str) -> Any:
    return geventhttpclient.get(url)


def of_agent(url: str) -> Any:
    return UserAgent().urlopen(url)


def of_httpx(url: str) -> Any:
    return httpx.get(url, follow_redirects=True)


RESPONSES: dict[str, Callable[[str], Any]] = {"Session": of_session, "UserAgent": of_agent, "httpx": of_httpx}


@in_every_pickle
@pytest.mark.parametrize("face", RESPONSES)
@pytest.mark.parametrize("is_read", [True, False])
def test_response_is_duplicated_with_its_body(is_read: bool, face: str, duplicate: Duplicate) -> None:
    with Peer(shop) as peer:
        response = RESPONSES[face](f"{peer.url}/gzip")
        if is_read:
            assert response.content == b"text"
        twin = duplicate(response)
        assert type(twin) is type(response)
        assert (twin.status_code, twin.content, twin.text) == (200, b"text", "text")
        assert response.content == b"text"
        assert twin.headers == response.headers
        assert type(twin.headers) is Headers
        assert twin.headers.getlist("x-a") == ["1", "2"]
        assert twin.elapsed == response.elapsed
        assert twin.isclosed()
        assert twin._sent_request == response._sent_request
        assert twin.timings.protocol == "HTTP/1.1"
        assert twin.tls is None
        assert len(twin) == len(response)
        twin.release()
        assert pickle.loads(pickle.dumps(twin)).content == b"text"


@in_every_pickle
@pytest.mark.parametrize("face", RESPONSES)
def test_response_is_duplicated_with_its_redirects(face: str, duplicate: Duplicate) -> None:
    with Peer(shop) as peer:
        twin = duplicate(RESPONSES[face](f"{peer.url}/from"))
        assert twin.content == b"none"
        (first,) = twin.history
        assert (first.status_code, first.content, first.headers["location"]) == (302, b"moved", "/page")
        assert twin._request.url == f"{peer.url}/page"
        # A body that was given up has gone.
        twin = duplicate(RESPONSES[face](f"{peer.url}/large"))
        assert twin.content == b"none"
        (first,) = twin.history
        assert first.status_code == 302
        with pytest.raises((HTTPConnectionClosed, httpx.HTTPError, httpx.StreamError)):
            first.content  # noqa: B018


@in_every_pickle
def test_session_response_is_duplicated_with_all_attributes(duplicate: Duplicate) -> None:
    with Peer(shop) as peer, Session() as session:
        response = session.get(f"{peer.url}/set")
        response.encoding = "latin-1"
        twin = duplicate(response)
        assert (twin.url, twin.reason, twin.ok, twin.encoding) == (f"{peer.url}/set", "OK", True, "latin-1")
        assert twin.cookies.items() == [("seen", "1")]
        assert list(twin.iter_content(2)) == [b"se", b"t"]
        assert list(twin.iter_lines()) == [b"set"]
        assert (twin.raw.read(), twin.raw.readline(), list(twin.raw)) == (b"", b"", [])
        assert twin.raw.should_close()
        with pytest.raises(TypeError, match="cannot be fed"):
            twin.raw.feed(b"x")
        missing = duplicate(session.get(f"{peer.url}/missing"))
        with pytest.raises(BadStatusCode) as caught:
            missing.raise_for_status()
        error = duplicate(caught.value)
        assert (error.code, str(error), hasattr(error, "response")) == (404, str(caught.value), False)


def test_httpx_response_and_its_error_are_pickled() -> None:
    with Peer(shop) as peer:
        twin = pickle.loads(pickle.dumps(httpx.get(f"{peer.url}/missing")))
        assert (twin.reason_phrase, twin.http_version, twin.extensions) == ("Not Found", "HTTP/1.1", {})
        assert (b"".join(twin.iter_bytes(5)), list(twin.iter_lines())) == (b"no such page", ["no such page"])
        with pytest.raises(httpx.HTTPStatusError) as caught:
            twin.raise_for_status()
        error = pickle.loads(pickle.dumps(caught.value))
        assert (str(error), error.request.url) == (str(caught.value), f"{peer.url}/missing")


@in_every_pickle
@pytest.mark.parametrize("has_content", [True, False], ids=["content", "begun"])
def test_session_response_whose_decoding_has_begun_is_duplicated(has_content: bool, duplicate: Duplicate) -> None:
    with Peer(shop) as peer, Session() as session:
        response = session.get(f"{peer.url}/gzip")
        assert response.read(1) == b"t"
        if has_content:
            assert response.content == b"ext"
        assert duplicate(response).content == b"ext"


@in_every_way
def test_headers_of_a_client_response_are_duplicated(duplicate: Duplicate) -> None:
    with Peer(shop) as peer, HTTPClient("127.0.0.1", peer.port) as client:
        headers = client.get("/gzip").headers
        assert list(duplicate(headers)) == list(headers)


def test_pickle_of_a_streamed_response_reads_it_and_gives_the_connection_back() -> None:
    with Peer(shop) as peer, Session(concurrency=1) as session:
        response = session.get(f"{peer.url}/page", stream=True)
        assert pickle.loads(pickle.dumps(response)).content == response.content == b"none"
        session.get(peer.url).close()
        assert len(peer.conns) == 1


def test_pickle_of_a_response_that_breaks_off_raises() -> None:
    with Peer(shop) as peer, Session() as session:
        for duplicate in PICKLES.values():
            with pytest.raises(HTTPConnectionClosed):
                duplicate(session.get(f"{peer.url}/cut"))


def test_shallow_copy_of_a_response_reads_the_same_body() -> None:
    with Peer(shop) as peer, Session() as session:
        response = session.get(f"{peer.url}/page")
        twin = copy.copy(response)
        assert twin.raw is response.raw
        assert (twin.read(2), response.content) == (b"no", b"ne")


def test_response_with_tls_is_pickled(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    with Session(verify=str(certificates.ca)) as session:
        response = session.get(f"https://localhost:{tls_nginx.ports['valid']}/page")
        twin = pickle.loads(pickle.dumps(response))
        assert twin.tls == response.tls is not None
        assert twin.content == response.content


@in_every_way
def test_response_of_a_client_cannot_be_pickled_and_says_why(duplicate: Duplicate) -> None:
    with Peer(shop) as peer, HTTPClient(peer.host, peer.port) as client:
        response = client.get("/")
        with pytest.raises(TypeError, match=r"HTTPSocketPoolResponse cannot be pickled.*reads from a connection"):
            duplicate(response)
        assert response.read() == b"none"


@pytest.mark.parametrize("payload", [(piece for piece in [b"a"]), io.BytesIO(b"a")], ids=["iterator", "file"])
def test_request_is_pickled_without_a_payload_that_is_read_only_once(payload: Any) -> None:
    twin = pickle.loads(pickle.dumps(CompatRequest("http://h.test/", "PUT", None, payload)))
    assert (twin.url, twin.method) == ("http://h.test/", "PUT")
    with pytest.raises(UnrewoundBodyError, match="lost when the request"):
        next(iter(twin.payload))
