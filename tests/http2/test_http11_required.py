"""HTTP_1_1_REQUIRED (RFC 9113 section 7): a server ends a stream or a connection because it needs HTTP/1.1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Pool

from geventhttpclient import UserAgent, httpx
from geventhttpclient.http2 import HTTP2Error
from geventhttpclient.requests import Session
from tests.support.certificates import Certificates
from tests.support.http2_peer import (
    HTTP_1_1_REQUIRED,
    INTERNAL_ERROR,
    MAX_CONCURRENT_STREAMS,
    Script,
    Talk,
    scripted,
    serve_targets,
    talking,
    talking_securely,
)
from tests.support.hub import attempt, turn, until
from tests.support.peer import Peer, serve_ok
from tests.support.tls import WAYS, check_whole, client_of, trusting

pytestmark = pytest.mark.usefixtures("bounded")

BOTH = ("h2", "http/1.1")
WAYS_TO_SAY_IT = ("reset", "goaway")


def offering_both(certificates: Certificates, *scripts: Script, **options: Any) -> Any:
    return talking_securely(certificates, *scripts, alpn=BOTH, **options)


def http1(talk: Talk) -> None:
    """Serves HTTP/1.1 to a client that offers only that."""
    assert talk.conn.sock.selected_alpn_protocol() == "http/1.1"
    serve_ok(talk.conn)


def require(talk: Talk, request: Any, how: str) -> None:
    if how == "reset":
        talk.reset(request, HTTP_1_1_REQUIRED)
    else:
        talk.goaway(request.stream, HTTP_1_1_REQUIRED)


def requiring(how: str = "reset") -> Script:
    def script(talk: Talk) -> None:
        talk.start()
        require(talk, talk.read_request(), how)
        talk.wait_closed()

    return script


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", WAYS_TO_SAY_IT)
def test_http_1_1_required_sends_the_request_again_over_http_1_1(
    how: str, way: str, certificates: Certificates
) -> None:
    with offering_both(certificates, requiring(how), http1, way=way) as (peer, client):
        response = client.get("/first")
        assert (response.version, response.read()) == ("HTTP/1.1", b"/first")
        for _ in range(3):
            response = client.post("/next", b"x")
            assert (response.version, response.read()) == ("HTTP/1.1", b"/next")
        statistics = client.statistics()
        assert (len(peer.conns), statistics["opened"], statistics["retries"]) == (2, 2, 1)
        assert statistics["closed"] == {"asked_by_peer": 1}
        check_whole(client)


@pytest.mark.parametrize("kind", ["bytes", "file", "trailers"])
def test_http_1_1_required_by_a_reset_sends_a_post_with_its_body_again(
    kind: str, certificates: Certificates, tmp_path: Path
) -> None:
    """The server has rejected the request because of its version, and has not processed it."""

    path = tmp_path / "body"
    path.write_bytes(b"body")
    with offering_both(certificates, requiring(), http1) as (peer, client), path.open("rb") as file:
        trailers = {"trailers": {"X-Sum": "4"}} if kind == "trailers" else {}
        assert client.post("/path", file if kind == "file" else b"body", **trailers).read() == b"/path"
        assert [request.body for request in peer.requests] == [b"body", b"body"]


def test_http_1_1_required_by_a_goaway_does_not_resend_a_post_that_may_be_processed(
    certificates: Certificates,
) -> None:
    with offering_both(certificates, requiring("goaway"), http1) as (peer, client):
        with pytest.raises(HTTP2Error, match=r"HTTP_1_1_REQUIRED, the server may have acted on the request") as caught:
            client.post("/", b"x")
        assert caught.value.code == HTTP_1_1_REQUIRED
        assert client.post("/next", b"x").read() == b"/next"
        assert [request.method for request in peer.requests] == ["POST", "POST"]
        check_whole(client)


def test_http_1_1_required_by_a_goaway_resends_a_post_above_its_last_stream(
    certificates: Certificates,
) -> None:
    def first(talk: Talk) -> None:
        talk.start()
        talk.read_request()
        talk.goaway(0, HTTP_1_1_REQUIRED)
        talk.wait_closed()

    with offering_both(certificates, first, http1) as (_, client):
        assert client.post("/path", b"x").read() == b"/path"


def test_http_1_1_required_names_a_body_that_can_be_read_only_once(certificates: Certificates) -> None:
    with offering_both(certificates, requiring(), http1) as (_, client):
        with pytest.raises(HTTP2Error, match=r"HTTP_1_1_REQUIRED, the body can be read only once") as caught:
            client.post("/", iter([b"bo", b"dy"]))
        assert caught.value.code == HTTP_1_1_REQUIRED
        assert client.post("/next", iter([b"bo", b"dy"])).read() == b"/next"


def test_http_1_1_required_before_100_continue_sends_the_body_over_http_1_1(certificates: Certificates) -> None:
    def first(talk: Talk) -> None:
        talk.start()
        talk.reset(talk.read_head(), HTTP_1_1_REQUIRED)
        talk.wait_closed()

    def second(talk: Talk) -> None:
        request = talk.conn.read_head()
        talk.conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        talk.conn.read_body(request)
        talk.conn.respond(request.body)

    with offering_both(certificates, first, second) as (_, client):
        pieces = iter([b"bo", b"dy"])
        assert client.post("/", pieces, headers={"Expect": "100-continue"}).read() == b"body"


@pytest.mark.parametrize("how", WAYS_TO_SAY_IT)
def test_http_1_1_required_with_prior_knowledge_is_an_error(how: str) -> None:
    with talking(requiring(how), serve_targets) as (peer, client):
        with pytest.raises(HTTP2Error, match=r"HTTP_1_1_REQUIRED, the client is configured to use HTTP/2 alone"):
            client.get("/")
        peer.conns[0].sock.close()
        assert client.get("/next").version == "HTTP/2"


def test_http_1_1_required_lets_other_requests_on_the_connection_finish(certificates: Certificates) -> None:
    def first(talk: Talk) -> None:
        talk.start()
        held = talk.read_request()
        talk.reset(talk.read_request(), HTTP_1_1_REQUIRED)
        done.wait()
        talk.respond(held, b"held")
        talk.wait_closed()

    done = Event()
    with offering_both(certificates, first, http1) as (peer, client):
        held = gevent.spawn(lambda: client.get("/held"))
        until(lambda: client.statistics()["streams"] == 1)
        assert client.get("/refused").version == "HTTP/1.1"
        done.set()
        response = held.get(timeout=5)
        assert (response.version, response.read()) == ("HTTP/2", b"held")
        until(lambda: peer.open_now == 1)
        check_whole(client)


def test_http_1_1_required_moves_the_queue_to_http_1_1(certificates: Certificates) -> None:
    def first(talk: Talk) -> None:
        talk.start({MAX_CONCURRENT_STREAMS: 1})
        request = talk.read_request()
        until(lambda: client.statistics()["waiting"] == 19)
        talk.reset(request, HTTP_1_1_REQUIRED)
        talk.wait_closed()

    with offering_both(certificates, first, http1) as (peer, client):
        responses = Pool(20).map(lambda n: client.get(f"/{n}"), range(20))
        assert {response.version for response in responses} == {"HTTP/1.1"}
        assert [response.read() for response in responses] == [b"/%d" % n for n in range(20)]
        assert len(peer.conns) == 2
        check_whole(client)


def test_http_1_1_required_while_a_connection_is_being_opened_replaces_it(certificates: Certificates) -> None:
    """Its handshake had offered HTTP/2."""

    def first(talk: Talk) -> None:
        talk.start({MAX_CONCURRENT_STREAMS: 1})
        request = talk.read_request()
        other_is_here.wait()
        talk.reset(request, HTTP_1_1_REQUIRED)
        talk.wait_closed()

    def dispatch(talk: Talk) -> None:
        number = talk.conn.number
        if number == 0:
            first(talk)
        elif talk.conn.sock.selected_alpn_protocol() == "h2":
            talk.wait_closed()
        else:
            serve_ok(talk.conn)

    def accepting(conn: Any) -> None:
        if conn.number == 1:
            other_is_here.set()
            # The handshake lasts until the first connection is abandoned.
            turn(20)
        conn.secure(context)
        dispatch(Talk(conn))

    other_is_here = Event()
    context = certificates.valid.server()
    context.set_alpn_protocols(list(BOTH))
    with (
        Peer(accepting) as peer,
        client_of(peer.port, http2=True, concurrency=2, ssl_options=trusting(certificates)) as client,
    ):
        responses = Pool(2).map(lambda n: client.get(f"/{n}"), range(2))
        assert {response.version for response in responses} == {"HTTP/1.1"}
        assert len(peer.conns) >= 3
        check_whole(client)


def test_http_1_1_required_within_a_body_is_an_error_and_remembered(certificates: Certificates) -> None:
    def first(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        talk.data(request.stream, b"begun")
        go_on.wait()
        talk.reset(request, HTTP_1_1_REQUIRED)
        talk.wait_closed()

    go_on = Event()
    with offering_both(certificates, first, http1) as (_, client):
        response = client.get("/")
        assert response.read(5) == b"begun"
        go_on.set()
        with pytest.raises(HTTP2Error, match="HTTP_1_1_REQUIRED"):
            response.read()
        assert client.get("/next").version == "HTTP/1.1"


def test_http_1_1_required_while_idle_is_remembered(certificates: Certificates) -> None:
    def first(talk: Talk) -> None:
        talk.start()
        request = talk.read_request()
        talk.respond(request)
        talk.goaway(request.stream, HTTP_1_1_REQUIRED)
        talk.wait_closed()

    with offering_both(certificates, first, http1) as (_, client):
        assert client.get("/").read() == b"ok"
        until(lambda: client.statistics()["open"] == 0)
        assert client.post("/next", b"x").version == "HTTP/1.1"
        assert client.statistics()["retries"] == 0


def test_another_error_code_does_not_change_the_version(certificates: Certificates) -> None:
    def script(talk: Talk) -> None:
        talk.start()
        talk.reset(talk.read_request(), INTERNAL_ERROR)
        while request := talk.read_request():
            talk.respond(request)

    with offering_both(certificates, script) as (_, client):
        with pytest.raises(HTTP2Error, match="INTERNAL_ERROR"):
            client.get("/")
        assert client.get("/next").version == "HTTP/2"


def test_http_1_1_required_counts_against_the_time_of_the_whole_request(certificates: Certificates) -> None:
    def silent(talk: Talk) -> None:
        talk.conn.read_request()
        talk.conn.wait_closed()

    with offering_both(certificates, requiring(), silent) as (_, client):
        failure = attempt(lambda: client.get("/", total_timeout=0.3))
        assert isinstance(failure, TimeoutError)
        check_whole(client)


def test_http_1_1_required_is_seen_by_hooks_and_timings(certificates: Certificates) -> None:
    protocols: list[str] = []
    noted = {"on_connection": lambda connection: protocols.append(connection.protocol)}
    with offering_both(certificates, requiring(), http1, **noted) as (_, client):
        response = client.get("/")
        assert protocols == ["HTTP/2", "HTTP/1.1"]
        assert response.tls.alpn == "http/1.1"
        assert not response.timings.reused


@pytest.fixture
def refusing_peer(certificates: Certificates) -> Iterator[Peer]:
    context = certificates.valid.server()
    context.set_alpn_protocols(list(BOTH))
    with Peer(scripted(requiring()), scripted(http1), tls=context) as peer:
        yield peer


@pytest.mark.parametrize("face", ["useragent", "session", "httpx"])
def test_http_1_1_required_is_supported_by_every_interface(
    face: str, refusing_peer: Peer, certificates: Certificates
) -> None:
    url = f"https://localhost:{refusing_peer.port}/path"
    if face == "useragent":
        with UserAgent(http2=True, ssl_options=trusting(certificates)) as agent:
            body = agent.urlopen(url, method="POST", payload=b"x").read()
    elif face == "session":
        with Session(http2=True, verify=str(certificates.ca)) as session:
            body = session.post(url, data=b"x").content
    else:
        with httpx.Client(http2=True, verify=str(certificates.ca)) as client:
            body = client.post(url, content=b"x").content
    assert body == b"/path"
    assert len(refusing_peer.conns) == 2
