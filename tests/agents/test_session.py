"""Session: the effect of each request argument on the wire and on the response."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

import geventhttpclient
from geventhttpclient import BasicAuth, Session
from geventhttpclient.auth import DigestAuth
from geventhttpclient.requests import RequestsRequest, RequestsResponse
from geventhttpclient.useragent import BadStatusCode, RetriesExceeded
from tests.agents.test_auth import Guard
from tests.conftest import TlsNginx
from tests.support.certificates import Certificates
from tests.support.ids import stable
from tests.support.peer import Conn, Peer, Request
from tests.support.requirements import missing
from tests.support.scripted import silent

pytestmark = pytest.mark.usefixtures("bounded")


def answer(conn: Conn) -> None:
    """Script: `/status/N` answers with N, `/to/X` redirects to X, `/set/K=V` sets a cookie; others return 200."""
    while request := conn.read_request():
        kind, _, rest = request.target.lstrip("/").partition("/")
        if kind == "status":
            conn.respond(b"", f"{rest} Whatever")
        elif kind == "to":
            conn.respond(b"moved", "302 Found", [("Location", f"/{rest}")])
        elif kind == "again":
            conn.respond(b"moved", "307 Temporary Redirect", [("Location", f"/{rest}")])
        elif kind == "set":
            conn.respond(b"ok", headers=[("Set-Cookie", f"{rest}; Path=/")])
        else:
            conn.respond(b"ok")


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(answer) as peer:
        yield peer


@pytest.fixture
def session() -> Iterator[Session]:
    with Session() as session:
        yield session


def asked(peer: Peer, session: Session, method: str = "POST", path: str = "/", **kw: Any) -> Request:
    """Returns the request as received."""
    response = session.request(method, peer.url + path, **kw)
    assert response.content is not None
    return peer.requests[-1]


def says(body: bytes, *fields: tuple[str, str], status: str = "200 OK", chunks: tuple[bytes, ...] = ()) -> Any:
    """Returns a script that answers each request with this response, chunked if there are chunks."""

    def script(conn: Conn) -> None:
        while conn.read_request():
            if not chunks:
                conn.respond(body, status, fields)
                continue
            lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in fields), "Transfer-Encoding: chunked"]
            conn.send("\r\n".join(lines).encode() + b"\r\n\r\n")
            conn.send_pieces([b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks])
            conn.send(b"0\r\n\r\n")

    return script


# ------------------------------------------------------------------------------------------------------------ requests


def the_package() -> Any:
    try:
        return importlib.import_module("requests")
    except ImportError:
        missing("the package requests")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"params": {"a": ["1", "2"], "n": None, "s": "x y&z"}},
        {"params": [("b", "2"), ("a", "1")]},
        {"params": "raw=1"},
        {"data": {"a": ["1", "2"], "n": None, "s": "x y&zü"}},
        {"data": [("b", "2"), ("a", "1")]},
        {"data": {}},
        {"data": b"bytes"},
        {"data": "text"},
        {"data": iter([b"one", b"two"])},
        {"json": {"a": [1, None, "ü"]}},
        {"json": {}},
        {"json": []},
        {"json": 0},
        {"json": False},
        {"json": ""},
        {"auth": ("me", "pässword")},
        {"cookies": {"b": "2", "a": "1"}},
        {"headers": {"X-A": "1", "Content-Type": "own/type"}, "json": 5},
        {"files": {"f": (None, "plain")}, "data": {"k": ["1", "2"]}},
        {"files": [("f", ("a", b"1", "text/x")), ("f", ("b", b"2", "text/y"))]},
    ],
    ids=stable,
)
def test_session_sends_the_same_requests_as_requests(arguments: dict[str, Any], peer: Peer, session: Session) -> None:
    package = the_package()
    prepared = package.Session().prepare_request(package.Request("POST", peer.url + "/x?q=1", **arguments))
    body = prepared.body
    if isinstance(arguments.get("data"), Iterator):
        arguments["data"], body = iter([b"one", b"two"]), b"onetwo"
    request = asked(peer, session, path="/x?q=1", **arguments)
    theirs = body.encode() if isinstance(body, str) else body or b""
    if "files" in arguments:
        boundary = prepared.headers["Content-Type"].partition("boundary=")[2].encode()
        ours = (request.get("Content-Type") or "").partition("boundary=")[2].encode()
        theirs = theirs.replace(boundary, ours)
    assert request.target == prepared.path_url
    if arguments.get("json") is not None:
        assert json.loads(request.body) == json.loads(theirs)
    else:
        assert request.body == theirs
    for name in ("Authorization", "Cookie", "X-A"):
        assert request.get(name) == prepared.headers.get(name)
    kind, ours_kind = (
        text and text.partition(";")[0] for text in (prepared.headers.get("Content-Type"), request.get("Content-Type"))
    )
    # Text is text/plain here, and not a form in encoded form; bytes are application/octet-stream.
    if not isinstance(arguments.get("data"), (str, bytes, Iterator)):
        assert ours_kind == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [("text", "text/plain; charset=utf-8"), (b"bytes", "application/octet-stream"), (None, None)],
)
def test_content_types(data: Any, kind: str | None, peer: Peer, session: Session) -> None:
    assert asked(peer, session, data=data).get("Content-Type") == kind


def test_json_goes_alone(session: Session) -> None:
    with pytest.raises(ValueError, match="either data or json"):
        session.post("http://127.0.0.1/", data={"a": 1}, json={})


def test_verbs_send_their_methods(peer: Peer, session: Session) -> None:
    for verb in ("get", "options", "head", "post", "put", "patch", "delete"):
        assert getattr(session, verb)(peer.url).ok
        assert getattr(geventhttpclient, verb)(peer.url).ok
    assert geventhttpclient.request("TRACE", peer.url).content == b"ok"
    verbs = [request.method for request in peer.requests]
    assert verbs == [v for v in ("GET", "OPTIONS", "HEAD", "POST", "PUT", "PATCH", "DELETE") for _ in "12"] + ["TRACE"]


def test_headers_of_the_session_and_of_a_request(peer: Peer) -> None:
    with Session(headers={"X-A": "session", "X-B": "session"}) as session:
        request = asked(peer, session, headers={"x-b": "request", "User-Agent": None})
        assert (request.get("X-A"), request.get("X-B"), request.get("User-Agent")) == ("session", "request", None)
        session.headers["X-C"] = "later"
        assert asked(peer, session).get("X-C") == "later"


def test_session_settings_apply_to_every_request(peer: Peer, session: Session) -> None:
    session.params = {"key": "k"}
    session.auth = ("u", "p")
    request = asked(peer, session, params={"a": "b"})
    assert request.target == "/?key=k&a=b"
    assert request.get("Authorization") == "Basic dTpw"
    assert asked(peer, session, auth=BasicAuth("o", "p")).get("Authorization") == "Basic bzpw"


# -------------------------------------------------------------------------------------------------------------- cookies


def test_cookies_are_kept(peer: Peer, session: Session) -> None:
    assert session.get(peer.url + "/set/a=1").cookies["a"] == "1"
    assert session.cookies["a"] == "1"
    response = session.get(peer.url)
    assert peer.requests[-1].get("Cookie") == "a=1"
    assert not list(response.cookies)


def test_cookies_of_a_request_are_not_kept(peer: Peer, session: Session) -> None:
    session.cookies.set("kept", "1")
    assert asked(peer, session, cookies={"own": "2"}, path="/to/x").get("Cookie") in ("kept=1; own=2", "own=2; kept=1")
    assert asked(peer, session).get("Cookie") == "kept=1"


def test_cookies_of_a_request_stay_with_their_host(session: Session) -> None:
    with Peer() as other:
        there = f"http://localhost:{other.port}/"
        with Peer(says(b"", ("Location", there), status="302 Found")) as first:
            session.get(first.url, cookies={"own": "1"})
    assert first.requests[0].get("Cookie") == "own=1"
    assert other.requests[0].get("Cookie") is None


# --------------------------------------------------------------------------------------------------------------- files


def test_big_file_is_not_held_in_memory(tmp_path: Path, session: Session) -> None:
    path = tmp_path / "big"
    size = 64 << 20
    with path.open("wb") as file:
        file.truncate(size)
    received = []

    def swallow(conn: Conn) -> None:
        head = conn.read_head()
        assert head is not None
        left = length = int(head.get("Content-Length") or 0)
        left -= len(conn.buffer)
        while left:
            left -= len(conn.sock.recv(1 << 16))
        received.append(length)
        conn.respond(b"ok")

    with Peer(swallow) as peer:
        tracemalloc.start()
        try:
            assert session.post(peer.url, files={"f": path}).content == b"ok"
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert received[0] > size
    assert peak < 4 << 20


def test_files_go_along_with_a_307(tmp_path: Path, peer: Peer, session: Session) -> None:
    path = tmp_path / "f.txt"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        session.post(peer.url + "/again/x", files={"f": file})
    first, second = peer.requests
    assert first.body == second.body
    assert b"\r\n\r\ncontent\r\n" in second.body


# ---------------------------------------------------------------------------------------------------------------- auth


def test_credentials_of_a_url(peer: Peer, session: Session) -> None:
    response = session.get(peer.url.replace("//", "//m%40e:hunter2@"))
    assert peer.requests[-1].get("Authorization") == BasicAuth("m@e", "hunter2").auth_header()
    assert "hunter2" not in response.url
    session.get(peer.url.replace("//", "//me:hunter2@"), headers={"Authorization": "mine"})
    assert peer.requests[-1].get("Authorization") == "mine"


def test_no_password_in_an_error() -> None:
    with Session(max_retries=0) as session, Peer(silent) as peer, pytest.raises(RetriesExceeded) as caught:
        session.get(peer.url.replace("//", "//me:hunter2@"), timeout=0.01)
    assert str(peer.port) in str(caught.value)
    assert "hunter2" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    ("given", "seen", "length"),
    [
        ({"data": {"a": "b c"}}, b"a=b+c", "5"),
        ({"data": [("a", "b c")]}, b"a=b+c", "5"),
        ({"data": "text"}, b"text", "4"),
        ({"data": "text", "headers": {"Content-Type": "x/y"}}, "text", None),
        ({"data": b"bytes"}, b"bytes", None),
        ({"json": {"a": 1}}, '{"a": 1}', None),
        ({"data": {}}, None, None),
        ({"data": ""}, None, None),
    ],
)
def test_callable_auth_sees_the_payload_and_its_length(
    given: Any, seen: Any, length: str | None, peer: Peer, session: Session
) -> None:
    told: list[Any] = []

    def look(request: RequestsRequest) -> None:
        told.append((request.body, request.headers.get("content-length")))

    response = session.post(peer.url, auth=look, **given)
    assert told == [(seen, length)]
    assert type(told[0][0]) is type(seen)
    assert response.request.body == seen
    assert peer.requests[-1].body == (seen.encode() if isinstance(seen, str) else seen or b"")


def test_callable_auth_may_replace_a_form(peer: Peer, session: Session) -> None:
    def replace(request: RequestsRequest) -> None:
        request.payload = b"something longer"

    assert asked(peer, session, data={"a": "b"}, auth=replace).body == b"something longer"


def test_form_with_trailers_is_chunked(peer: Peer, session: Session) -> None:
    assert asked(peer, session, data={"a": "b"}, trailers={"X-Sum": "1"}).get("transfer-encoding") == "chunked"


def test_callable(peer: Peer, session: Session) -> None:
    def sign(request: Any) -> Any:
        request.headers["X-Signature"] = f"{request.method} {request.body!r}"
        request.url += "?signed=1"
        return request

    request = asked(peer, session, auth=sign, data=b"x")
    assert (request.get("X-Signature"), request.target) == ("POST b'x'", "/?signed=1")


def test_netrc(peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password p\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Session(trust_env=True) as trusting, Session() as careful:
        assert asked(peer, trusting).get("Authorization") == "Basic bWU6cA=="
        assert asked(peer, trusting, auth=("a", "b")).get("Authorization") == "Basic YTpi"
        assert asked(peer, trusting, headers={"Authorization": "x"}).get("Authorization") == "x"
        assert asked(peer, careful).get("Authorization") is None


@pytest.mark.parametrize("wrong", [5, ["u", "p"], ("u",)])
def test_auth_of_no_kind(wrong: Any, session: Session) -> None:
    with pytest.raises(NotImplementedError, match="auth must be"):
        Session(auth=wrong)
    with pytest.raises(NotImplementedError, match="auth must be"):
        session.get("http://127.0.0.1:1/", auth=wrong)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256-sess"])
def test_digest(algorithm: str, session: Session) -> None:
    guard = Guard(algorithm)
    session.auth = DigestAuth("Mufasa", "Circle")
    with Peer(guard.serve) as peer:
        assert [session.post(f"{peer.url}/{n}?q=1", data=b"body").status_code for n in range(3)] == [200] * 3
        assert [request.body for request in peer.requests] == [b"body"] * 4
        guard.challenge()
        assert session.get(peer.url).status_code == 200
        assert session.get(f"{peer.url}?q=1").status_code == 200
        assert peer.requests[-1].target == "/?q=1"
        assert session.get(peer.url, auth=DigestAuth("Mufasa", "wrong")).status_code == 401
    assert len(peer.conns) == 1


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-512", "SHA-512-sess"])
def test_digest_auth_int_protects_the_body(algorithm: str, session: Session) -> None:
    session.auth = DigestAuth("Mufasa", "Circle")
    with Peer(Guard(algorithm, ', qop="auth-int"').serve) as peer:
        for data in (b"body", "text", {"a": "b"}, None):
            assert session.post(peer.url, data=data).status_code == 200
        assert session.put(peer.url, json=[1]).status_code == 200
        assert len(peer.requests) == 6


@pytest.mark.parametrize(
    "body", [{"data": io.BytesIO(b"body")}, {"data": iter([b"body"])}, {"files": {"f": b"content"}}], ids=stable
)
def test_digest_auth_int_of_a_body_that_is_not_in_memory_raises(body: dict[str, Any], session: Session) -> None:
    with Peer(Guard(extra=', qop="auth-int"').serve) as peer:
        with pytest.raises(ValueError, match="auth-int") as caught:
            session.post(peer.url, auth=DigestAuth("Mufasa", "Circle"), **body)
        assert caught.value.request.url == peer.url  # type: ignore[attr-defined]
        # The connection's place in the pool is free again.
        assert session.get(peer.url).status_code == 401


def test_digest_ends_with_a_server_that_is_never_content(session: Session) -> None:
    nonces = iter(range(100))

    def never(conn: Conn) -> None:
        while conn.read_request():
            challenge = f'Digest realm="r", qop="auth", stale=true, nonce="{next(nonces)}"'
            conn.respond(b"no", "401 Unauthorized", [("WWW-Authenticate", challenge)])

    with Peer(never) as peer:
        assert session.get(peer.url, auth=DigestAuth("u", "p")).content == b"no"
    assert len(peer.requests) == 3


def test_no_answer_to_the_challenge_of_another_origin(session: Session) -> None:
    with Peer(Guard().serve) as other, Peer(says(b"", ("Location", other.url), status="302 Found")) as first:
        response = session.get(first.url, auth=DigestAuth("Mufasa", "Circle"))
    assert response.status_code == 401
    assert [request.get("Authorization") for request in other.requests] == [None]


def test_body_that_cannot_be_rewound_is_not_sent_again(session: Session) -> None:
    with Peer(Guard().serve) as peer:
        response = session.post(peer.url, data=iter([b"x"]), auth=DigestAuth("Mufasa", "Circle"))
    assert response.status_code == 401


# ----------------------------------------------------------------------------------------- timeouts, redirects, proxies


@pytest.mark.parametrize("timeout", [0.05, (5, 0.05), (None, 0.05)])
def test_timeouts_of_a_request(timeout: Any) -> None:
    with Session(max_retries=0, network_timeout=None) as session, Peer(silent) as peer:
        with pytest.raises(RetriesExceeded) as caught:
            session.get(peer.url, timeout=timeout)
        assert isinstance(caught.value.original, TimeoutError)  # type: ignore[attr-defined]
        session.timeout = timeout
        with pytest.raises(RetriesExceeded):
            session.get(peer.url)


@pytest.mark.parametrize("timeout", ["1", (1,), (1, 2, 3), -1, (1, -1)])
def test_invalid_timeouts_are_refused(timeout: Any, session: Session) -> None:
    with pytest.raises((ValueError, TypeError), match="timeout"):
        session.get("http://127.0.0.1:1/", timeout=timeout)


def test_gevent_timeout_of_the_caller_is_raised(session: Session) -> None:
    with Peer(silent) as peer:
        mine = gevent.Timeout.start_new(0.05)
        with pytest.raises(gevent.Timeout) as caught:
            session.get(peer.url, timeout=10)
        assert caught.value is mine
    assert len(peer.requests) == 1


def test_redirects(peer: Peer, session: Session) -> None:
    response = session.post(peer.url + "/to/to/x", data=b"body")
    assert (response.status_code, response.url) == (200, peer.url + "/x")
    assert [each.status_code for each in response.history] == [302, 302]
    assert [(each.method, each.body) for each in peer.requests] == [("POST", b"body"), ("GET", b""), ("GET", b"")]
    assert len(peer.conns) == 1


def test_redirects_that_are_not_followed(peer: Peer, session: Session) -> None:
    response = session.get(peer.url + "/to/x", allow_redirects=False)
    assert (response.status_code, response.is_redirect, response.is_permanent_redirect) == (302, True, False)
    assert session.head(peer.url + "/to/x").status_code == 302
    assert session.head(peer.url + "/to/x", allow_redirects=True).status_code == 200


def test_too_many_redirects() -> None:
    with Peer(says(b"", ("Location", "/"), status="302 Found")) as peer, Session(max_redirects=2) as session:
        with pytest.raises(RetriesExceeded, match="limit reached"):
            session.get(peer.url)
        assert len(peer.requests) == 3


def test_proxies_of_a_request(peer: Peer, session: Session) -> None:
    with Peer() as proxy:
        for proxies in (
            {"http": proxy.url},
            {"all": proxy.url},
            {"all": "http://nowhere", "http://127.0.0.1": proxy.url},
        ):
            assert session.get(peer.url + "/x", proxies=proxies).content == f"{peer.url}/x".encode()
        assert len(proxy.conns) == 1
        for proxies in ({"https": proxy.url}, {"http": None}, {"all": proxy.url, "http": None}, {}):
            assert session.get(peer.url + "/x", proxies=proxies).content == b"ok"


def test_verify_and_cert_of_a_request(tls_nginx: TlsNginx, certificates: Certificates, session: Session) -> None:
    url = f"https://localhost:{tls_nginx.ports['valid']}/page"
    with pytest.raises(OSError, match="certificate"):
        session.get(url)
    assert session.get(url, verify=False).ok
    with pytest.raises(OSError, match="certificate"):
        session.get(url)  # no connection of those that did not look
    assert session.get(url, verify=str(certificates.ca)).ok
    session.verify = False
    assert session.get(url).ok
    asking = f"https://localhost:{tls_nginx.ports['clients']}/page"
    assert session.get(asking).status_code == 400
    pair = certificates.for_clients
    assert session.get(asking, cert=(str(pair.chain), str(pair.key))).status_code == 200


def test_verify_of_a_request_goes_before_insecure(tls_nginx: TlsNginx, certificates: Certificates) -> None:
    url = f"https://localhost:{tls_nginx.ports['elsewhere']}/page"
    with Session(insecure=True, ssl_options={"ca_certs": str(certificates.ca)}) as session:
        assert session.get(url).ok
        with pytest.raises(OSError, match="name mismatch"):
            session.get(url, verify=True)


def test_clients_of_their_own_are_kept_and_closed(peer: Peer, session: Session) -> None:
    with Peer() as proxy:
        for n in range(100):
            session.get(peer.url, proxies={"http": f"http://u{n}@127.0.0.1:{proxy.port}"}).read()
        assert len(session._pools) <= 64
        session.close()
        assert not session._pools
        assert session.get(peer.url, proxies={"http": proxy.url}).ok


def test_hooks(peer: Peer, session: Session) -> None:
    seen: list[Any] = []
    other = SimpleNamespace(content=b"other")
    assert session.get(peer.url, hooks={"response": seen.append}).ok
    assert session.get(peer.url, hooks={"response": [seen.append, lambda response: other]}) is other
    refused = session.get(peer.url + "/status/404")
    assert session.get(peer.url, hooks={"response": lambda response: refused}) is refused  # though it is false
    assert [type(each) for each in seen] == [RequestsResponse] * 2
    with pytest.raises(ValueError, match="'request'"):
        session.get(peer.url, hooks={"request": seen.append})


def test_stream_false_reads_at_once(peer: Peer, session: Session) -> None:
    with Peer(says(b"", chunks=(b"a", b"b"))) as peer:
        assert session.get(peer.url, stream=False).isclosed()
        assert not session.get(peer.url, stream=True).isclosed()


# ------------------------------------------------------------------------------------------------------------ responses


def response_of(script: Any, **kw: Any) -> RequestsResponse:
    with Peer(script) as peer, Session() as session:
        response = session.get(peer.url + "/here", **kw)
        response.content  # noqa: B018
        return response


def test_attributes_of_a_response() -> None:
    response = response_of(says(b'{"a": 1}', ("Content-Type", "application/json")), headers={"X": "y"})
    assert (response.ok, bool(response), response.status_code, response.reason) == (True, True, 200, "OK")
    assert response.json() == {"a": 1}
    assert response.json(parse_int=str) == {"a": "1"}
    assert response.text == '{"a": 1}'
    assert response.elapsed.total_seconds() > 0
    assert isinstance(response.request, RequestsRequest)
    assert (response.request.method, response.request.headers["x"], response.request.body) == ("GET", "y", None)
    assert repr(response) == "<RequestsResponse [200]>"
    assert response.raw.status_code == 200
    response.close()


@pytest.mark.parametrize(("status", "ok"), [(200, True), (204, True), (399, True), (400, False), (503, False)])
def test_status_is_no_error_before_raise_for_status(status: int, ok: bool, peer: Peer, session: Session) -> None:
    response = session.get(f"{peer.url}/status/{status}")
    assert bool(response) is response.ok is ok
    if ok:
        response.raise_for_status()
        return
    with pytest.raises(BadStatusCode, match=f"{status} Whatever") as caught:
        response.raise_for_status()
    error: Any = caught.value
    assert (error.code, error.response, error.request) == (status, response, response.request)


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/html; charset=iso-8859-1", b"\xfc", "ü"),
        ("text/html", "ü".encode(), "ü"),
        ("text/html; charset=nonsense", "ü".encode(), "ü"),
        ("application/octet-stream", b"\xff", b"\xff"),
    ],
)
def test_text(content_type: str, body: bytes, text: Any) -> None:
    assert response_of(says(body, ("Content-Type", content_type))).text == text


def test_text_by_another_encoding() -> None:
    response = response_of(says("€".encode("utf-16"), ("Content-Type", "application/octet-stream")))
    assert response.encoding is None
    response.encoding = "utf-16"
    assert (response.encoding, response.text) == ("utf-16", "€")


def test_text_of_no_type() -> None:
    assert response_of(says("ü".encode())).text == "ü"


def test_links() -> None:
    header = '<https://x/?p=2,3>; rel="next"; title="a, \\"b\\"; c", </y>; REL=last; rel=first,<z> , nonsense'
    assert response_of(says(b"", ("Link", header))).links == {
        "next": {"url": "https://x/?p=2,3", "rel": "next", "title": 'a, "b"; c'},
        "last": {"url": "/y", "rel": "last"},
        "z": {"url": "z"},
    }


# ------------------------------------------------------------------------------------------------------------ streaming

TEXT = b"".join(b"line %d\n" % n for n in range(20_000))


def chunked(body: bytes, size: int) -> tuple[bytes, ...]:
    return tuple(body[at : at + size] for at in range(0, len(body), size))


@pytest.mark.parametrize("size", [1, 7, 8192, None])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_iter_content_decodes(coding: str | None, size: int | None, session: Session) -> None:
    text = TEXT[:10_000]
    encode = {None: bytes, "gzip": gzip.compress, "deflate": zlib.compress}[coding]
    fields = [("Content-Encoding", coding)] if coding else []
    body = encode(text)
    for script in (says(body, *fields), says(b"", *fields, chunks=chunked(body, 999))):
        with Peer(script) as peer:
            pieces = list(session.get(peer.url).iter_content(size))
        assert b"".join(pieces) == text
        assert size is None or all(0 < len(piece) <= size for piece in pieces)


def test_iter_content_of_a_counted_body_fills_its_pieces(session: Session) -> None:
    def slowly(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        conn.send_pieces([b"123", b"45", b"6", b"7890"])

    with Peer(slowly) as peer:
        assert list(session.get(peer.url).iter_content(4)) == [b"1234", b"5678", b"90"]


def test_iter_content_of_a_stream_does_not_wait_to_fill_its_pieces(session: Session) -> None:
    def begin(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n")
        conn.wait_closed()

    with Peer(begin) as peer, closing(session.get(peer.url)) as response:
        pieces = response.iter_content(4)
        assert (next(pieces), next(pieces)) == (b"1234", b"5")


def test_iter_content_as_text(session: Session) -> None:
    body = "äöü€".encode()
    fields = [("Content-Type", "text/plain; charset=utf-8")]
    with Peer(says(b"", *fields, chunks=chunked(body, 1))) as peer:
        assert "".join(session.get(peer.url).iter_content(1, decode_unicode=True)) == "äöü€"


@pytest.mark.parametrize("size", [0, -1, "1", 1.5])
def test_iter_content_of_less_than_a_byte_yields_single_bytes(size: Any, peer: Peer, session: Session) -> None:
    assert list(session.get(peer.url).iter_content(size)) == [b"o", b"k"]


def test_body_that_does_not_match_its_coding_raises(session: Session) -> None:
    with Peer(says(b"nonsense", ("Content-Encoding", "gzip"))) as peer, pytest.raises(zlib.error):
        list(session.get(peer.url).iter_content(10))


def test_no_body_has_no_coding(session: Session) -> None:
    with Peer(says(b"", ("Content-Encoding", "gzip"))) as peer:
        assert list(session.get(peer.url).iter_content(10)) == []
        assert session.get(peer.url).content == b""


def test_content_may_be_iterated_again(session: Session) -> None:
    with Peer(says(b"a\nb")) as peer:
        response = session.get(peer.url)
    assert response.content == b"a\nb"
    assert list(response.iter_content(2)) == [b"a\n", b"b"]
    assert list(response.iter_lines()) == [b"a", b"b"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("delimiter", "lines"),
    [
        (None, ["a", "b", "", "c", "ü\u2028ü", "", "d"]),
        ("\n", ["a\r", "b", "", "c\rü\u2028ü\r", "\r", "d"]),
        ("\r\n", ["a", "b\n\nc\rü\u2028ü", "", "d"]),
        ("ü\u2028", ["a\r\nb\n\nc\r", "ü\r\n\r\nd"]),
    ],
)
def test_iter_lines_wherever_they_are_cut(delimiter: str | None, lines: list[str], size: int, session: Session) -> None:
    body = "a\r\nb\n\nc\rü\u2028ü\r\n\r\nd".encode()
    with Peer(says(b"", chunks=chunked(body, size))) as peer:
        response = session.get(peer.url)
        assert list(response.iter_lines(delimiter=delimiter)) == [line.encode() for line in lines]
        response = session.get(peer.url)
        assert list(response.iter_lines(delimiter=delimiter, decode_unicode=True)) == lines


def test_iter_lines_at_the_end(session: Session) -> None:
    for body, lines in ((b"a\n", [b"a"]), (b"a\r", [b"a"]), (b"a", [b"a"]), (b"", []), (b"\n\n", [b"", b""])):
        with Peer(says(body)) as peer:
            assert list(session.get(peer.url).iter_lines()) == lines
    with pytest.raises(ValueError, match="delimiter"):
        response_of(says(b"")).iter_lines(delimiter="")


def test_line_is_yielded_as_soon_as_it_was_received(session: Session) -> None:
    def one_by_one(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n1\r\n\n\r\n")
        conn.wait_closed()

    with Peer(one_by_one) as peer, closing(session.get(peer.url)) as response:
        assert next(response.iter_lines()) == b"one"


def test_long_line_takes_linear_time(session: Session) -> None:
    with Peer(says(b"x" * (8 << 20) + b"\r\n" + b"y")) as peer, gevent.Timeout(5):
        for delimiter in (None, b"\r\n"):
            assert [len(line) for line in session.get(peer.url).iter_lines(delimiter=delimiter)] == [8 << 20, 1]
