"""Hooks: functions of the program that a client calls with requests, responses, errors and connections."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import gevent
import pytest

from geventhttpclient import HTTPClient, Session, UserAgent, hooks, httpx
from geventhttpclient.hooks import Connection, Hooks, Request
from geventhttpclient.mock import MockResponse, MockTransport
from tests.support.certificates import Certificates
from tests.support.http2_peer import serve_targets, talking
from tests.support.hub import until
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.scripted import OK, saying, serving
from tests.support.tls import securely_serving, trusting

pytestmark = pytest.mark.usefixtures("bounded")


class Noted:
    """Hooks that keep their arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def arguments(self) -> dict[str, Any]:
        return {name: self._keeping(name) for name in ("on_request", "on_response", "on_error", "on_connection")}

    def _keeping(self, name: str) -> Any:
        return lambda *given: self.calls.append((name, given))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def of(self, name: str) -> list[Any]:
        return [given for called, given in self.calls if called == name]


@pytest.fixture
def noted() -> Noted:
    return Noted()


def test_hooks_are_called_in_order(noted: Noted) -> None:
    with serving(serve_ok, **noted.arguments()) as (peer, client):
        response = client.get("/a?b=c")
        assert noted.names == ["on_request", "on_connection", "on_response"]
        ((request,),) = noted.of("on_request")
        assert (request.method, request.url) == ("GET", f"{peer.url}/a?b=c")
        assert noted.of("on_response") == [(request, response)]
        client.get("/").read()
        assert noted.names[3:] == ["on_request", "on_response"]


def test_request_hook_may_change_the_fields() -> None:
    def change(request: Request) -> None:
        request.headers["X-Added"] = "yes"
        request.headers.add("X-Kept", "two")
        del request.headers["x-removed"]
        request.headers["User-Agent"] = None

    with serving(serve_ok, on_request=change) as (peer, client):
        given = {"X-Kept": "one", "X-Removed": "me"}
        client.get("/", headers=given)
        client.get("/", headers=[("X-Kept", "one"), ("X-Removed", "me")])
        for request in peer.requests:
            assert sorted(request.fields) == [
                ("Host", f"{peer.host}:{peer.port}"),
                ("X-Added", "yes"),
                ("X-Kept", "one"),
                ("X-Kept", "two"),
            ]
        # The mapping that was passed is the caller's: it is not changed.
        assert given == {"X-Kept": "one", "X-Removed": "me"}


def test_hooks_share_a_state() -> None:
    found = []

    def begin(request: Request) -> None:
        request.state["number"] = 7

    with serving(serve_ok, on_request=begin, on_response=lambda request, _: found.append(request.state)) as (_, client):
        client.get("/")
    assert found == [{"number": 7}]


def test_several_hooks_are_called_in_sequence() -> None:
    order: list[int] = []
    several = [lambda *_: order.append(1), lambda *_: order.append(2)]
    with serving(serve_ok, on_request=several, on_connection=several, on_response=several) as (_, client):
        client.get("/")
    assert order == [1, 2, 1, 2, 1, 2]


def test_absolute_target_is_shown_as_it_is(noted: Noted) -> None:
    with serving(serve_ok, **noted.arguments()) as (peer, client):
        client.get(f"{peer.url}/absolute")
        client.get("/?next=http://example.org/")
        assert [request.url for (request,) in noted.of("on_request")] == [
            f"{peer.url}/absolute",
            f"{peer.url}/?next=http://example.org/",
        ]


TARGETS = {
    "there": "/there",
    "?a=b": "/?a=b",
    "": "/",
    "/by/http://example.org/": "/by/http://example.org/",
    "/@me": "/@me",
    "{}/@me?mail=me@example.org": "/@me?mail=me@example.org",
    "{}?a=@": "?a=@",
}


@pytest.mark.parametrize("target", TARGETS)
def test_url_of_a_hook_is_the_requested_one(noted: Noted, target: str) -> None:
    with serving(serve_ok, **noted.arguments()) as (peer, client):
        client.get(target.format(peer.url))
        ((request,),) = noted.of("on_request")
        assert request.url == peer.url + TARGETS[target]
        assert request.url.endswith(peer.requests[0].target.lstrip("/"))
        upper = f"{peer.url.upper()}/@me"
        client.get(upper)
        assert noted.of("on_request")[1][0].url == upper


@pytest.mark.parametrize("place", ["localhost", "{host}", "{host}:{port}1"])
def test_url_has_no_password_even_if_it_is_refused(noted: Noted, place: str) -> None:
    with serving(serve_ok, **noted.arguments()) as (peer, client):
        place = place.format(host=peer.host, port=peer.port)
        for target in (f"http://user:open/sesame@{place}/", f"http://{peer.host}:sesame@{place}/"):
            noted.calls.clear()
            with pytest.raises(ValueError, match="Invalid host"):
                client.get(target)
            assert [request.url for (request,) in noted.of("on_request")] == [f"http://***@{place}/"]


def test_error_hook_gets_an_error(noted: Noted) -> None:
    with serving(lambda conn: conn.read_request(), **noted.arguments()) as (_, client):
        with pytest.raises(Exception, match="closed") as caught:
            client.get("/")
        assert noted.names == ["on_request", "on_connection", "on_error"]
        ((request, error),) = noted.of("on_error")
        assert error is caught.value
        assert request is noted.of("on_request")[0][0]


def test_error_hook_gets_a_kill(noted: Noted) -> None:
    with serving(lambda conn: conn.wait_closed(), **noted.arguments()) as (peer, client):
        asking = gevent.spawn(client.get, "/")
        until(lambda: peer.conns and peer.conns[0].raw)
        asking.kill()
        assert [type(error) for _, error in noted.of("on_error")] == [gevent.GreenletExit]
        assert client.statistics()["in_use"] == 0


def test_bad_argument_is_an_error_like_any_other(noted: Noted) -> None:
    with serving(serve_ok, **noted.arguments()) as (peer, client):
        with pytest.raises(ValueError, match="method"):
            client.request("B D", "/")
        assert noted.names == ["on_request", "on_error"]
        assert peer.requests == []


@pytest.mark.parametrize(("method", "target", "name"), [(7, "/", "method"), ("GET", 7, "request_uri")])
def test_invalid_text_is_refused_as_without_hooks(noted: Noted, method: Any, target: Any, name: str) -> None:
    client = HTTPClient("example.org", **noted.arguments())
    with pytest.raises(TypeError, match=f"{name} must be a str"):
        client.request(method, target)
    assert noted.names == ["on_request", "on_error"]


@pytest.mark.parametrize("headers", [7, "text", {1: "x"}, [("a",)], [7]])
def test_bad_fields_are_refused_as_without_hooks(noted: Noted, headers: Any) -> None:
    refused = []
    for hooked in ({}, noted.arguments()):
        with pytest.raises((TypeError, ValueError)) as caught:
            HTTPClient("127.0.0.1", 1, **hooked).get("/", headers=headers)
        refused.append((caught.type, str(caught.value).partition(" at 0x")[0]))
    assert refused[0] == refused[1]


def test_exception_of_a_request_hook_stops_the_request(noted: Noted) -> None:
    def refuse(request: Request) -> None:
        raise PermissionError("not today")

    arguments = {**noted.arguments(), "on_request": refuse}
    with serving(serve_ok, **arguments) as (peer, client):
        with pytest.raises(PermissionError, match="not today"):
            client.get("/")
        assert peer.conns == []
        assert noted.names == ["on_error"]


@pytest.mark.parametrize("which", ["on_response", "on_connection"])
def test_exception_of_a_later_hook_closes_the_response(noted: Noted, which: str) -> None:
    def fail(*_: object) -> None:
        raise LookupError("no")

    with serving(saying(OK[:-1]), serve_ok, **{**noted.arguments(), which: fail}) as (_, client):
        with pytest.raises(LookupError, match="no"):
            client.get("/")
        assert noted.names[-1] == "on_error"
        statistics = client.statistics()
        assert (statistics["open"], statistics["in_use"]) == (0, 0)


def test_exception_of_an_error_hook_replaces_the_error() -> None:
    def replace(request: Request, error: BaseException) -> None:
        raise RuntimeError("worse") from error

    with (
        serving(lambda conn: conn.read_request(), on_error=replace) as (_, client),
        pytest.raises(RuntimeError, match="worse"),
    ):
        client.get("/")


def test_each_error_hook_is_called_whatever_the_others_raise() -> None:
    """An error hook may have to end an operation that its request hook began."""
    seen: list[str] = []

    def replace(request: Request, error: BaseException) -> None:
        seen.append(str(error))
        raise RuntimeError(f"{error}, worse") from error

    def begin(request: Request) -> None:
        raise LookupError("bad")

    client = HTTPClient("example.org", on_request=begin, on_error=[replace, replace, lambda _, e: seen.append(str(e))])
    with pytest.raises(RuntimeError, match="bad, worse, worse") as caught:
        client.get("/")
    assert seen == ["bad", "bad, worse", "bad, worse, worse"]
    assert str(caught.value.__cause__) == "bad, worse"


def test_hooks_may_wait_and_make_requests() -> None:
    def ask(request: Request) -> None:
        if "X-Token" not in request.headers and request.url.endswith("/"):
            request.headers["X-Token"] = client.get("/token").read().decode()

    with serving(serve_ok, on_request=ask, concurrency=2) as (peer, client):
        client.get("/").read()
        assert [request.target for request in peer.requests] == ["/token", "/"]
        assert peer.requests[1].get("X-Token") == "/token"


# ---------------------------------------------------------------- connections


def test_connection_hook_gets_the_details_of_the_connection(noted: Noted, certificates: Certificates) -> None:
    with securely_serving(certificates, serve_ok, **noted.arguments()) as (peer, client):
        client.get("/").read()
        client.get("/").read()
        ((connection,),) = noted.of("on_connection")
    assert isinstance(connection, Connection)
    assert (connection.host, connection.port) == ("localhost", peer.port)
    assert connection.peer == ("127.0.0.1", peer.port)
    assert connection.protocol == "HTTP/1.1"
    assert connection.tls is not None
    assert connection.tls.version.startswith("TLSv1.")
    assert connection.proxy is None
    for step in (connection.resolve, connection.connect, connection.tls_handshake):
        assert step is not None
        assert step >= 0


def test_plain_connection_has_no_tls(noted: Noted) -> None:
    with serving(serve_ok, **noted.arguments()) as (_, client):
        client.get("/")
        ((connection,),) = noted.of("on_connection")
        assert (connection.tls, connection.tls_handshake, connection.protocol) == (None, None, "HTTP/1.1")


def test_hooks_get_the_version_of_http2(noted: Noted) -> None:
    with talking(serve_targets, **noted.arguments()) as (_, client):
        client.get("/").read()
        client.get("/").read()
        assert [connection.protocol for (connection,) in noted.of("on_connection")] == ["HTTP/2"]


def test_connection_hook_gets_each_of_two_connections(noted: Noted) -> None:
    """The first one breaks with the request on it, which is sent again."""

    def breaking(conn: Conn) -> None:
        conn.read_request()
        conn.send(OK)
        conn.read_request()

    with serving(breaking, serve_ok, **noted.arguments()) as (_, client):
        client.get("/").read()
        client.get("/").read()
        assert noted.names == [
            "on_request",
            "on_connection",
            "on_response",
            "on_request",
            "on_connection",
            "on_response",
        ]


# ---------------------------------------------------------------- agents, sessions and mocks


def test_agents_and_sessions_take_hooks(noted: Noted) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
    expected = ["on_request", "on_connection", "on_response", "on_request", "on_response"]
    with Peer(saying(moved, OK)) as peer:
        for make in (UserAgent, Session, httpx.Client):
            noted.calls.clear()
            with make(**noted.arguments()) as agent:
                if isinstance(agent, httpx.Client):
                    agent.get(peer.url, follow_redirects=True)
                elif isinstance(agent, Session):
                    agent.get(peer.url)
                else:
                    assert agent.urlopen(peer.url).content == b"ok"
            assert noted.names == expected, make
            assert [request.url.rpartition("/")[2] for (request,) in noted.of("on_request")] == ["", "there"]


def test_mock_transport_calls_hooks(noted: Noted) -> None:
    transport = MockTransport(lambda request: MockResponse(200, body=request.headers["X-Seen"]))
    client = HTTPClient("example.org", transport=transport, **{**noted.arguments(), "on_request": _see})
    assert client.get("/").read() == b"yes"
    assert noted.names == ["on_response"]


def _see(request: Request) -> None:
    request.headers["X-Seen"] = "yes"


@pytest.mark.parametrize("name", ["on_request", "on_response", "on_error", "on_connection"])
@pytest.mark.parametrize("bad", ["text", 7, [None], [len, 3], {"a": len}])
def test_hooks_that_are_not_callable_are_refused(name: str, bad: Any) -> None:
    with pytest.raises(TypeError, match=name):
        HTTPClient("example.org", **{name: bad})


def test_none_and_an_empty_list_mean_no_hooks() -> None:
    client = HTTPClient("example.org", on_request=None, on_response=[], on_error=())
    assert client._hooks is None


def test_default_hooks_apply_to_later_clients() -> None:
    order: list[str] = []
    default = Hooks(lambda _: order.append("default"), lambda *_: order.append("default answered"))
    with Peer(serve_ok) as peer:
        with closing(HTTPClient(peer.host, peer.port)) as before:
            hooks.add_default(default)
            try:
                own = {
                    "on_request": lambda _: order.append("own"),
                    "on_response": lambda *_: order.append("own answered"),
                }
                with closing(HTTPClient(peer.host, peer.port, **own)) as client:
                    client.get("/")
                    before.get("/")
            finally:
                hooks.remove_default(default)
        with closing(HTTPClient(peer.host, peer.port)) as after:
            after.get("/")
    assert order == ["default", "own", "own answered", "default answered"]
    with pytest.raises(ValueError, match="not in list"):
        hooks.remove_default(default)


def test_no_secret_is_shown(certificates: Certificates) -> None:
    shown = []
    with (
        Peer(serve_ok, tls=certificates.valid.server()) as peer,
        Session(ssl_options=trusting(certificates), on_request=lambda request: shown.append(repr(request))) as session,
    ):
        session.get(f"https://user:open-sesame@localhost:{peer.port}/", headers={"Cookie": "open-sesame"})
    assert shown
    assert "sesame" not in shown[0]
