"""Redirects in every API that follows them: method, payload, Host header, and paths that begin with two slashes.

Locations that cannot be followed are in tests/regressions/test_redirect_locations.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import geventhttpclient
from geventhttpclient import Session, UserAgent, httpx
from geventhttpclient.cli import main
from geventhttpclient.client import HTTPClient
from geventhttpclient.http2 import PRIOR_KNOWLEDGE
from geventhttpclient.requests import RequestsRequest
from geventhttpclient.useragent import CompatRequest, UnrewoundBodyError
from tests.support.http2_peer import Talk, scripted
from tests.support.peer import Conn, Peer, Request
from tests.support.scripted import answer

pytestmark = pytest.mark.usefixtures("bounded")

CODES = [301, 302, 303, 307, 308]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def leading(code: int, location: str, path: str = "/from") -> Callable[[Conn], None]:
    """Redirects that path, and answers any other request with 200. The responses have no body: HEAD is asked, too."""

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            leads = request.target == path
            conn.send(answer(b"", f"{code} There", f"Location: {location}") if leads else answer())

    return script


def by_agent(url: str, method: str = "GET", payload: Any = None, **options: Any) -> None:
    headers = options.pop("headers", None)
    with UserAgent(**options) as agent:
        agent.urlopen(url, method=method, payload=payload, headers=headers)


def by_session(url: str, method: str = "GET", payload: Any = None, **options: Any) -> None:
    headers = options.pop("headers", None)
    with Session(**options) as session:
        session.request(method, url, data=payload, headers=headers)


def by_verb(url: str, method: str = "GET", payload: Any = None, **options: Any) -> None:
    options = {"allow_redirects": True, **options}
    getattr(geventhttpclient, method.lower())(url, **options, **({} if payload is None else {"data": payload}))


def by_httpx(url: str, method: str = "GET", payload: Any = None, **options: Any) -> None:
    headers = options.pop("headers", None)
    with httpx.Client(follow_redirects=True, **options) as client:
        client.request(method, url, content=payload, headers=headers)


def by_command(url: str, method: str = "GET", payload: Any = None, headers: Any = None) -> None:
    data = [] if payload is None else ["-d", payload.decode()]
    fields = [text for name, value in (headers or {}).items() for text in ("-H", f"{name}: {value}")]
    assert main(["get", "-L", "-X", method, *data, *fields, url]) == 0


FACES: dict[str, Callable[..., None]] = {
    "UserAgent": by_agent,
    "Session": by_session,
    "verbs": by_verb,
    "httpx": by_httpx,
    "command": by_command,
}

# --------------------------------------------------------------------------------------------------- method and payload


def as_in_2(code: int, method: str) -> tuple[str, bytes]:
    """Returns method and payload after a redirect of UserAgent: kept only by 307 and 308 (RFC 9110 section 15.4)."""
    if code in (307, 308):
        return method, b"payload"
    return ("HEAD" if method == "HEAD" else "GET"), b""


def as_in_rfc_9110(code: int, method: str) -> tuple[str, bytes]:
    """Returns method and payload after a redirect of Session: 301 and 302 change only POST, 303 asks for GET."""
    if (code in (301, 302) and method == "POST") or code == 303:
        return as_in_2(code, method)
    return method, b"payload"


def as_in_httpx(code: int, method: str) -> tuple[str, bytes]:
    then = method
    if method != "HEAD" and (code in (302, 303) or (code == 301 and method == "POST")):
        then = "GET"
    return then, b"payload" if then == method else b""


RULES: list[tuple[str, dict[str, Any], Callable[[int, str], tuple[str, bytes]]]] = [
    ("UserAgent", {}, as_in_2),
    ("UserAgent", {"redirect_keeps_method": True}, as_in_rfc_9110),
    ("Session", {}, as_in_rfc_9110),
    ("Session", {"redirect_keeps_method": False}, as_in_2),
    ("verbs", {}, as_in_rfc_9110),
    ("httpx", {}, as_in_httpx),
    ("command", {}, as_in_rfc_9110),
]


@pytest.mark.parametrize(("face", "options", "rule"), RULES)
@pytest.mark.parametrize("method", METHODS)
def test_redirect_of_each_method_follows_the_rule_of_its_face(
    method: str, face: str, options: dict[str, Any], rule: Callable[[int, str], tuple[str, bytes]]
) -> None:
    followed = {}
    for code in CODES:
        with Peer(leading(code, "/to")) as peer:
            FACES[face](peer.url + "/from", method, b"payload", **options)
            _, then = peer.requests
            followed[code] = (then.method, then.body)
            assert (then.get("content-length") is not None) is (then.body != b"")
    assert followed == {code: rule(code, method) for code in CODES}


def test_redirect_of_a_constructed_request_follows_the_rule_of_its_class() -> None:
    for make, kept in [(CompatRequest, "GET"), (RequestsRequest, "PUT")]:
        request = make("http://h.test/", "PUT", payload=b"payload")
        request.redirect(302, "/to")
        assert (request.method, request.payload) == (kept, b"payload" if kept == "PUT" else None)


@pytest.mark.parametrize("code", [301, 302])
def test_session_redirect_of_a_put_sends_the_file_again_from_where_it_stood(code: int) -> None:
    file = io.BytesIO(b"before: payload")
    file.seek(8)
    with Peer(leading(code, "/to")) as peer, Session() as session:
        session.put(peer.url + "/from", data=file)
        assert [(request.method, request.body) for request in peer.requests] == [("PUT", b"payload")] * 2


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("code", [301, 302])
def test_session_redirect_of_a_payload_that_is_gone_raises(code: int, method: str) -> None:
    with Peer(leading(code, "/to")) as peer, Session() as session:
        with pytest.raises(UnrewoundBodyError) as caught:
            session.request(method, peer.url + "/from", data=iter([b"once"]))
        error: Any = caught.value
        assert (error.response.status_code, error.request.url) == (code, peer.url + "/from")
        assert [request.target for request in peer.requests] == ["/from"]


def test_httpx_client_refuses_the_option_of_agents() -> None:
    with pytest.raises(TypeError, match="redirect_keeps_method"):
        httpx.Client(redirect_keeps_method=True)


# ---------------------------------------------------------------------------------------------------------------- Host


def hosts(requests: Iterable[Request]) -> list[str | None]:
    return [request.get("host") for request in requests]


@pytest.mark.parametrize("code", [302, 307])
@pytest.mark.parametrize("face", FACES)
def test_host_header_of_the_caller_goes_along_within_the_origin_alone(face: str, code: int) -> None:
    with Peer(leading(code, "/to")) as peer:
        for location in (
            "/to",
            "to?a",
            f"{peer.url}/to",
            f"//127.0.0.1:{peer.port}/to",
            f"HTTP://127.0.0.1:{peer.port}",
        ):
            peer.requests.clear()
            peer.scripts = (leading(code, location),)
            FACES[face](peer.url + "/from", headers={"Host": "named.test"})
            assert hosts(peer.requests) == ["named.test", "named.test"], location
        with Peer(leading(code, f"{peer.url}/home", "/away")) as other:
            # Away to another origin, and back: what was dropped stays dropped.
            peer.requests.clear()
            peer.scripts = (leading(code, f"{other.url}/away"),)
            FACES[face](peer.url + "/from", headers={"Host": "named.test"})
            assert hosts(peer.requests) == ["named.test", f"127.0.0.1:{peer.port}"]
            assert hosts(other.requests) == [f"127.0.0.1:{other.port}"]


@pytest.mark.parametrize("location", ["http://other.test/", "https://h.test/", "http://h.test:81/", "//h.test:8080/"])
def test_host_header_is_dropped_for_another_scheme_host_or_port(location: str) -> None:
    for headers in ({"HOST": "named.test"}, geventhttpclient.header.Headers({"host": "named.test"})):
        request = CompatRequest("http://h.test/", headers=headers)
        request.redirect(302, "http://H.test:80/same")
        assert request.has_header("HOST" if type(headers) is dict else "host")
        request.redirect(302, location)
        assert request.header_items() == []


@pytest.mark.parametrize("make", [UserAgent, Session, lambda **kw: httpx.Client(follow_redirects=True, **kw)])
def test_host_header_of_an_agent_goes_along_within_the_origin_alone(make: Callable[..., Any]) -> None:
    with Peer(leading(302, "/to")) as peer, make(headers={"Host": "named.test"}) as agent:
        ask = agent.urlopen if type(agent) is UserAgent else agent.get
        ask(peer.url + "/from")
        assert hosts(peer.requests) == ["named.test", "named.test"]
        with Peer(leading(302, f"{peer.url}/to")) as other:
            peer.requests.clear()
            ask(other.url + "/from")
            assert hosts([*other.requests, *peer.requests]) == ["named.test", f"127.0.0.1:{peer.port}"]


def test_host_header_of_a_retry_is_that_of_the_first_attempt() -> None:
    pages = iter([answer(b"", "302 Found", "Location: /to"), answer(b"", "503 Later"), answer(b"", "200 OK")])

    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.send(next(pages))

    with Peer(script) as peer, Session(retry_statuses=[503]) as session:
        assert session.get(peer.url + "/from", headers={"Host": "named.test"}).status_code == 200
        assert hosts(peer.requests) == ["named.test"] * 3


# ----------------------------------------------------------------------------------------------- paths with two slashes

SLASHES = ["//path", "//", "///", "//a//b?x=//c", "//user@host:x/", "//[::1/", "/x//y"]


@pytest.mark.parametrize("target", SLASHES)
@pytest.mark.parametrize("face", FACES)
def test_path_of_two_slashes_is_sent_as_it_is(face: str, target: str) -> None:
    with Peer(leading(302, "/to")) as peer:
        FACES[face](peer.url + target)
        assert [request.target for request in peer.requests] == [target]
        # And where a redirect leads to one: by its absolute URL, or by a reference of which dots are left.
        for location in (peer.url + target, f"/.{target}"):
            peer.requests.clear()
            peer.scripts = (leading(302, location),)
            FACES[face](peer.url + "/from")
            assert [request.target for request in peer.requests] == ["/from", target]


@pytest.mark.parametrize("face", FACES)
def test_location_of_two_slashes_names_a_host(face: str) -> None:
    with Peer(leading(302, "/to")) as peer, Peer(leading(302, "/to")) as other:
        peer.scripts = (leading(302, f"//127.0.0.1:{other.port}//path"),)
        FACES[face](peer.url + "/from")
        assert [request.target for request in peer.requests] == ["/from"]
        assert [request.target for request in other.requests] == ["//path"]


@pytest.mark.parametrize("face", FACES)
def test_location_without_slashes_is_read_at_a_path_of_two(face: str) -> None:
    with Peer(leading(302, "to?a", "//x/from")) as peer:
        FACES[face](peer.url + "//x/from")
        assert [request.target for request in peer.requests] == ["//x/from", "//x/to?a"]


@pytest.mark.parametrize("face", ["UserAgent", "Session", "httpx"])
def test_path_of_two_slashes_stands_behind_the_host_for_a_proxy(face: str) -> None:
    with Peer(leading(302, "/to")) as proxy:
        FACES[face]("http://h.test//path", proxy=proxy.url)
        assert [request.target for request in proxy.requests] == ["http://h.test//path"]


@pytest.mark.parametrize("face", ["UserAgent", "Session", "httpx"])
def test_host_header_and_path_of_two_slashes_are_the_same_over_http2(face: str) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        while request := talk.read_request():
            leads = request.target == "//from"
            talk.respond(request, status=302 if leads else 200, fields=[("location", "/.//to")] if leads else [])

    with Peer(scripted(script)) as peer:
        FACES[face](peer.url + "//from", headers={"Host": "named.test"}, http2=PRIOR_KNOWLEDGE)
        sent = [(request.target, request.get(":authority"), request.get("host")) for request in peer.requests]
        assert sent == [("//from", "named.test", None), ("//to", "named.test", None)]


def test_path_of_two_slashes_is_downloaded(tmp_path: Any) -> None:
    with Peer(leading(302, "/to")) as peer:
        assert main(["download", "-o", str(tmp_path / "file"), f"{peer.url}//path//file"]) == 0
        assert [request.target for request in peer.requests] == ["//path//file"]


def test_path_of_two_slashes_is_measured() -> None:
    with Peer(leading(302, "/to")) as peer:
        assert main(["bench", "-n", "3", "-c", "1", "--json", f"{peer.url}//path"]) == 0
        assert {request.target for request in peer.requests} == {"//path"}


def test_path_of_two_slashes_of_a_client_is_sent_as_it_is() -> None:
    with Peer(leading(302, "/to")) as peer, HTTPClient("127.0.0.1", peer.port) as client:
        for target in SLASHES:
            client.get(target).read()
        assert [request.target for request in peer.requests] == SLASHES
