"""A Location that cannot be followed is the server's fault: every API raises an error of the package."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

import geventhttpclient
from geventhttpclient import HTTPClient, Session, UserAgent, httpx, useragent
from geventhttpclient.cli import main
from geventhttpclient.useragent import InvalidRedirectError, UnsupportedRedirectSchemeError
from tests.support.peer import Conn, Peer, Request
from tests.support.scripted import answer

pytestmark = pytest.mark.usefixtures("bounded")

INVALID = [
    "http://[::1",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:-1/",
    "http://127.0.0.1:x/",
    "//a b/",
    "//[::1",
    "http:///path",
    "http:foo",
    "http://:80/",
    "http://" + "a." * 200 + "test/",
    "http://" + "a" * 65_000 + "/",
    "http://xn--\xc3\xa9/",
    "http://\xc2\xad/",
    "http://ex\xe2\x80\xaeample/",
    "http://\xe2\x84\x80/",
    "http://me:secret@[::1",
    "//me:secret@[::1",
    "http://me:secret@127.0.0.1:99999/",
    "http://me:secret@a b/",
    "http://me:secret@:80/",
]

OF_ANOTHER_SCHEME = [
    "ftp://me:secret@127.0.0.1/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "data:text/plain,x",
    "x" * 65_000 + ":y",
]


def redirecting(location: str) -> Callable[[Conn], None]:
    """Returns a script that redirects /from to that Location, and answers any other request with 200."""

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            conn.send(reply(request))

    def reply(request: Request) -> bytes:
        if request.target == "/from":
            return answer(b"moved", "302 Found", f"Location: {location}")
        return answer(b"fine")

    return script


AGENTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {"UserAgent": UserAgent, "Session": Session}


def ask(agent: Any, url: str) -> Any:
    return agent.urlopen(url) if type(agent) is UserAgent else agent.get(url)


@pytest.mark.parametrize("face", AGENTS)
@pytest.mark.parametrize("location", INVALID, ids=lambda location: location[:40])
def test_agent_invalid_location_raises_package_error(face: str, location: str) -> None:
    with Peer(redirecting(location)) as peer, AGENTS[face]() as agent:
        with pytest.raises(InvalidRedirectError) as caught:
            ask(agent, peer.url + "/from")
        error = caught.value
        assert isinstance(error, (useragent.ConnectionError, ValueError))
        assert str(error).startswith(f"URL {peer.url}/from: refusing to follow redirect to a URL ")
        assert len(str(error)) < 500
        assert "secret" not in f"{error} {error!r}"
        assert error.__cause__ is None
        assert error.__suppress_context__
        assert error.request.url == peer.url + "/from"  # type: ignore[attr-defined]
        assert error.response.status_code == 302  # type: ignore[attr-defined]
        assert error.response.content == b"moved"  # type: ignore[attr-defined]
        # Its connection serves the next request.
        assert ask(agent, peer.url + "/to").content == b"fine"
        assert len(peer.conns) == 1


@pytest.mark.parametrize("face", AGENTS)
@pytest.mark.parametrize("location", OF_ANOTHER_SCHEME, ids=lambda location: location[:40])
def test_agent_location_of_another_scheme_raises_package_error(face: str, location: str) -> None:
    with Peer(redirecting(location)) as peer, AGENTS[face]() as agent:
        with pytest.raises(UnsupportedRedirectSchemeError) as caught:
            ask(agent, peer.url + "/from")
        assert len(str(caught.value)) < 500
        assert "secret" not in str(caught.value)
        assert caught.value.response.status_code == 302  # type: ignore[attr-defined]
        assert ask(agent, peer.url + "/to").content == b"fine"
        assert len(peer.conns) == 1


def test_module_function_invalid_location_raises_package_error() -> None:
    with Peer(redirecting("//a b/")) as peer, pytest.raises(InvalidRedirectError):
        geventhttpclient.get(peer.url + "/from")


@pytest.mark.parametrize("location", INVALID, ids=lambda location: location[:40])
def test_httpx_client_invalid_location_raises_remote_protocol_error(location: str) -> None:
    with Peer(redirecting(location)) as peer, httpx.Client(follow_redirects=True) as client:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            client.get(peer.url + "/from")
        assert "secret" not in str(caught.value)
        assert caught.value.request.url == peer.url + "/from"
        assert client.get(peer.url + "/to").content == b"fine"
        response = client.get(peer.url + "/from", follow_redirects=False)
        assert (response.status_code, response.next_request) == (302, None)


@pytest.mark.parametrize("face", AGENTS)
@pytest.mark.parametrize("name", ["a..b", "a" * 64 + ".test"])
def test_agent_location_with_an_impossible_label_raises_gaierror(face: str, name: str) -> None:
    with Peer(redirecting(f"http://{name}/")) as peer, AGENTS[face](), AGENTS[face]() as agent:
        with pytest.raises(OSError, match=r"\(resolving a") as caught:
            ask(agent, peer.url + "/from")
        assert type(caught.value).__name__ == "gaierror"


@pytest.mark.parametrize("fields", [["Location: "], ["Location: ", "Location: /to"]])
def test_agent_empty_location_is_no_redirect(fields: list[str]) -> None:
    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.send(answer(b"moved", "302 Found", *fields))

    with Peer(script) as peer, Session() as session:
        response = session.get(peer.url)
        assert (response.status_code, response.history) == (302, [])
        assert len(peer.requests) == 1


@pytest.mark.parametrize("location", ["http://[::1", "http://127.0.0.1:99999/", "//a b/", "ftp://127.0.0.1/"])
def test_get_invalid_location_names_the_url_and_goes_on(location: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Peer(redirecting(location)) as peer:
        status = main(["get", "-L", peer.url + "/from", peer.url + "/to"])
    out, err = capfd.readouterr()
    assert (status, out) == (1, "fine")
    assert err.startswith(f"geventhttpclient: {peer.url}/from: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("location", ["http://[::1", "http://127.0.0.1:99999/", "//a b/", "ftp://127.0.0.1/"])
def test_download_invalid_location_names_the_url_and_goes_on(
    location: str, tmp_path: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with Peer(redirecting(location)) as peer:
        status = main(["download", "--no-progress", "-O", str(tmp_path), peer.url + "/from", peer.url + "/to"])
    _, err = capfd.readouterr()
    assert status == 1
    assert err.startswith(f"geventhttpclient: {peer.url}/from: ")
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


@pytest.mark.parametrize("error", [ValueError, TypeError, UnicodeError])
@pytest.mark.parametrize("command", ["get", "download"])
def test_command_error_of_the_library_after_the_first_response_is_no_usage_error(
    command: str,
    error: type[Exception],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A peer can cause an error of these classes: the command names the URL and fetches the next one."""
    perform = Session._perform

    def failing(self: Any, request: Any, **options: Any) -> Any:
        response = perform(self, request, **options)
        if request.url.endswith("/from"):
            response.release()
            raise error("it cannot be followed")
        return response

    monkeypatch.setattr(Session, "_perform", failing)
    where = ["--no-progress", "-O", str(tmp_path)] if command == "download" else []
    with Peer(redirecting("/to")) as peer:
        status = main([command, *where, peer.url + "/from", peer.url + "/to"])
        out, err = capfd.readouterr()
        assert (status, err) == (1, f"geventhttpclient: {peer.url}/from: it cannot be followed\n")
        assert [request.target for request in peer.requests][-1] == "/to"
    assert out == ("fine" if command == "get" else "")


@pytest.mark.parametrize(
    "arguments", [["-H", "Bad Name: x"], ["-H", "X: a\nb: c"], ["-u", "a:b\u20ac", "-H", "Bad Name: x"]]
)
@pytest.mark.parametrize("command", ["get", "download", "bench"])
def test_command_header_that_cannot_be_sent_is_a_usage_error_before_any_request(
    command: str, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with Peer(redirecting("/to")) as peer:
        assert main([command, *arguments, peer.url]) == 2
        assert peer.requests == []
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["-d", "abc"], ["-F", "a=b"], ["-H", "Content-Length: 3", "-d", "abc"]])
def test_get_body_of_the_command_line_is_sent(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with Peer(redirecting("/to")) as peer:
        assert main(["get", *arguments, peer.url]) == 0
    assert capfd.readouterr() == ("fine", "")


# --------------------------------------------------------------------------------- paths that begin with two slashes

# The Location, and the target that it means (RFC 3986 section 5.2.4).
SLASHES = {
    "/.//x": "//x",
    "..//x": "//x",
    ".//evil.invalid/x?y": "//evil.invalid/x?y",
    "/a/..//b": "//b",
    "/..//..//": "//",
    "http://127.0.0.1:{port}//me:pw@evil.invalid/": "//me:pw@evil.invalid/",
    "http://127.0.0.1:{port}///": "///",
}


def echoing(location: str) -> Callable[[Conn], None]:
    """Returns a script that redirects /from to that Location, and answers any other request with its target."""

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if request.target == "/from":
                conn.send(answer(b"moved", "302 Found", "Location: " + location.format(port=conn.peer.port)))
            else:
                conn.send(answer(request.target.encode()))

    return script


FOLLOWING: dict[str, Callable[[str], Any]] = {
    "UserAgent": lambda url: UserAgent(max_retries=0).urlopen(url),
    "Session": lambda url: Session(max_retries=0).get(url),
    "Session with a timeout": lambda url: Session(max_retries=0).get(url, timeout=5),
    "module function": geventhttpclient.get,
    "httpx.Client": lambda url: httpx.Client(follow_redirects=True).get(url),
    "httpx.get": lambda url: httpx.get(url, follow_redirects=True),
}


@pytest.mark.parametrize("face", FOLLOWING)
@pytest.mark.parametrize("location", SLASHES)
def test_location_with_a_path_of_two_slashes_is_followed(face: str, location: str) -> None:
    target = SLASHES[location]
    with Peer(echoing(location)) as peer:
        assert FOLLOWING[face](peer.url + "/from").content == target.encode()
        assert FOLLOWING[face](peer.url + target).content == target.encode()
        assert [request.target for request in peer.requests] == ["/from", target, target]
        assert {request.get("host") for request in peer.requests} == {f"127.0.0.1:{peer.port}"}


@pytest.mark.parametrize("target", sorted(set(SLASHES.values())))
def test_client_target_of_two_slashes_is_a_path_of_its_origin(target: str) -> None:
    seen: list[str] = []
    for options in ({}, {"on_request": lambda request: seen.append(request.url)}):
        with Peer(echoing("")) as peer, HTTPClient(peer.host, peer.port, **options) as client:  # type: ignore[arg-type]
            assert client.get(target).read() == target.encode()
            assert client.post(target, b"x").read() == target.encode()
            assert client._build_request("GET", target).startswith(f"GET {target} HTTP/1.1\r\n")
            assert peer.requests[0].get("host") == f"{peer.host}:{peer.port}"
            assert seen == ([f"{peer.url}{target}"] * 2 if options else [])


def test_client_target_of_two_slashes_by_http2_is_a_path() -> None:
    from tests.support.http2_peer import scripted, serve_targets

    with (
        Peer(scripted(serve_targets)) as peer,
        HTTPClient(peer.host, peer.port, http2="prior-knowledge") as client,
    ):
        assert client.get("//evil.invalid/x").read() == b"//evil.invalid/x"


def test_client_target_of_two_slashes_is_sent_to_a_proxy_with_its_origin() -> None:
    with (
        Peer(echoing("")) as proxy,
        HTTPClient("h.invalid", 8080, proxy_host=proxy.host, proxy_port=proxy.port) as client,
    ):
        assert client.get("//evil.invalid/x").read() == b"http://h.invalid:8080//evil.invalid/x"


def test_agent_of_a_program_that_passes_the_target_on_sends_two_slashes() -> None:
    """Locust passes the target on like this."""

    class Agent(UserAgent):
        def _urlopen(self, request: Any) -> Any:
            url = request.url_split
            response = self.clientpool.get_client(url).request(request.method, url.quoted_uri or "/")
            return self.response_type(response, request=request)

    with Peer(echoing("/.//x")) as peer, Agent(max_retries=0) as agent:
        assert agent.urlopen(peer.url + "/from").content == b"//x"


@pytest.mark.parametrize("location", ["/.//x", "http://127.0.0.1:{port}//x"])
def test_commands_follow_a_location_with_a_path_of_two_slashes(
    location: str, tmp_path: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with Peer(echoing(location)) as peer:
        assert main(["get", "-L", peer.url + "/from", peer.url + "//y"]) == 0
        assert capfd.readouterr().out == "//x//y"
        directory = str(tmp_path)
        assert main(["download", "--no-progress", "-O", directory, peer.url + "/from", peer.url + "//y"]) == 0
        assert main(["bench", "-n", "2", peer.url + "//bench"]) == 0
        assert [request.target for request in peer.requests][-2:] == ["//bench", "//bench"]
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"//x", b"//y"]


def test_refused_redirects_are_value_errors() -> None:
    for kind in (InvalidRedirectError, UnsupportedRedirectSchemeError):
        assert issubclass(kind, ValueError)
        assert issubclass(kind, useragent.ConnectionError)


# --------------------------------------------------------------------------------------------------- invalid host names


@pytest.mark.parametrize("name", ["a..b", "a" * 64 + ".test", "a." * 200 + "test"])
def test_adapter_host_with_an_impossible_label_raises_an_error_of_its_package(name: str) -> None:
    """The error is not a UnicodeError of the idna codec."""
    requests = pytest.importorskip("requests")
    other = pytest.importorskip("httpx")
    urllib3 = pytest.importorskip("urllib3")
    from geventhttpclient import httplib
    from geventhttpclient.adapters.httpx import Transport
    from geventhttpclient.adapters.requests import Adapter
    from geventhttpclient.adapters.urllib3 import PoolManager

    with requests.Session() as session:
        session.mount("http://", Adapter())
        with pytest.raises(requests.exceptions.ConnectionError):
            session.get(f"http://{name}/")
    with other.Client(transport=Transport()) as client, pytest.raises(other.ConnectError):
        client.get(f"http://{name}/")
    with PoolManager(retries=False) as manager, pytest.raises(urllib3.exceptions.NewConnectionError):
        manager.request("GET", f"http://{name}/")
    with pytest.raises(OSError, match="resolving"):
        httplib.HTTPConnection(name).request("GET", "/")
