"""HTTP/2 requests on the wire: connection preface, fields, body (RFC 9113 sections 3.4 and 8)."""

from __future__ import annotations

from contextlib import suppress

import hpack
import pytest

from tests.support.http2_peer import (
    ENABLE_PUSH,
    HEADER_TABLE_SIZE,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    Request,
    Talk,
    played,
    serve_targets,
    talking,
)
from tests.support.hub import FAILURES
from tests.support.scripted import serving
from tests.support.tls import check_whole, opened

pytestmark = pytest.mark.usefixtures("bounded")


def asked(*args: object, client_headers: object = None, **kw: object) -> Request:
    """Returns the request that a peer receives for these arguments of `request`."""
    with talking(serve_targets, headers=client_headers) as (peer, client):
        client.request(*args, **kw).read()
        return peer.requests[0]


# ---------------------------------------------------------------- the connection preface


def test_preface_begins_the_connection() -> None:
    with talking(serve_targets) as (peer, client):
        assert client.get("/").read() == b"/"
        assert opened(client) == 1
    with talking(lambda talk: talk.read_preface()) as (peer, client):
        with pytest.raises(FAILURES):
            client.get("/")
        played(peer)


def test_push_is_disabled() -> None:
    found: list[int | None] = []

    def script(talk: Talk) -> None:
        talk.start()
        found.append(talk.settings.get(ENABLE_PUSH))
        talk.respond(talk.read_request())

    with talking(script) as (_, client):
        client.get("/").read()
    assert found == [0]


def test_request_does_not_wait_for_the_settings_of_the_peer() -> None:
    def script(talk: Talk) -> None:
        talk.read_preface()
        request = talk.read_request()  # which is sent before the server's SETTINGS
        talk.tell({})
        talk.respond(request)
        talk.wait_closed()

    with talking(script) as (_, client):
        assert client.get("/").read() == b"ok"


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 1 << 16, (1 << 32) - 1])
def test_header_table_of_any_size_is_supported(size: int) -> None:
    def script(talk: Talk) -> None:
        talk.start({HEADER_TABLE_SIZE: size})
        talk.decoder.max_allowed_table_size = size
        while request := talk.read_request():
            talk.respond(request, (request.get("x-n") or "").encode())

    with talking(script) as (_, client):
        assert [client.get("/", {"X-N": str(n)}).read() for n in range(50)] == [b"%d" % n for n in range(50)]


def test_frames_respect_the_maximum_size_of_the_peer() -> None:
    def script(talk: Talk) -> None:
        talk.start({MAX_FRAME_SIZE: 20_000})
        request = talk.read_request()
        assert len(request.body) == 100_000
        assert len(request.get("x-long")) == 40_000
        assert max(frame.body_len for frame in talk._frames) <= 20_000
        talk.respond(request)

    with talking(script) as (peer, client):
        assert client.post("/", b"x" * 100_000, {"X-Long": "y" * 40_000}).read() == b"ok"
        played(peer)


# ---------------------------------------------------------------- fields of a request


def test_pseudo_header_fields_come_first() -> None:
    request = asked("GET", "/path?a=b", headers={"A": "b"})
    names = [name for name, _ in request.fields]
    assert sorted(names[:4]) == [":authority", ":method", ":path", ":scheme"]
    assert not any(name.startswith(":") for name in names[4:])
    assert (request.method, request.target, request.get(":scheme")) == ("GET", "/path?a=b", "http")
    assert "host" not in names


def test_authority_is_the_origin() -> None:
    with talking(serve_targets) as (peer, client):
        client.get("/").read()
        assert peer.requests[0].all(":authority") == [f"127.0.0.1:{peer.port}"]


@pytest.mark.parametrize("name", ["Host", "host", "HOST"])
def test_authority_is_the_host_field_if_given(name: str) -> None:
    request = asked("GET", "/", headers={name: "other.test:81"})
    assert (request.all(":authority"), request.all("host")) == (["other.test:81"], [])
    request = asked("GET", "/", client_headers={name: "other.test"})
    assert (request.all(":authority"), request.all("host")) == (["other.test"], [])


def test_field_names_are_sent_in_lower_case_and_values_unchanged() -> None:
    request = asked("GET", "/", headers={"X-Mixed-Case": "Mixed Case", "ETAG": '"A"'})
    assert all(name == name.lower() for name, _ in request.fields)
    assert (request.get("x-mixed-case"), request.get("etag")) == ("Mixed Case", '"A"')


def test_list_of_values_is_sent_as_several_fields() -> None:
    assert asked("GET", "/", headers={"X-Many": ["a", "b", "a"]}).all("x-many") == ["a", "b", "a"]


@pytest.mark.parametrize("value", ["", "ü", " padded ", "tab\there", "x" * 20_000])
def test_field_values_are_the_same_as_over_http_1_1(value: str) -> None:
    with serving() as (peer, client):
        client.get("/", {"X-Value": value}).read()
        wanted = peer.requests[0].get("X-Value")
    with talking(serve_targets) as (peer, client):
        client.get("/", {"X-Value": value}).read()
        assert peer.requests[0].get("x-value") == wanted


CONNECTION_SPECIFIC = {
    "Connection": "keep-alive",
    "Keep-Alive": "timeout=5",
    "Proxy-Connection": "keep-alive",
    "Transfer-Encoding": "chunked",
    "Upgrade": "h2c",
}


@pytest.mark.parametrize("name", CONNECTION_SPECIFIC)
@pytest.mark.parametrize("where", ["request", "client"])
def test_connection_specific_fields_are_omitted(name: str, where: str) -> None:
    fields = {name: CONNECTION_SPECIFIC[name], "X-Kept": "1"}
    request = asked("GET", "/", **{"headers" if where == "request" else "client_headers": fields})
    assert request.all(name.lower()) == []
    assert request.get("x-kept") == "1"


@pytest.mark.parametrize("value", ["X-Hop", "close, x-hop", "X-HOP , X-Other", " x-hop,,"])
def test_fields_named_by_connection_are_omitted(value: str) -> None:
    request = asked("GET", "/", headers={"X-Hop": "1", "Connection": value, "X-Kept": "1"})
    assert (request.all("connection"), request.all("x-hop"), request.all("x-kept")) == ([], [], ["1"])


@pytest.mark.parametrize("value", ["trailers", "gzip", "trailers, deflate;q=0.5", "Trailers"])
def test_te_is_sent_only_with_trailers(value: str) -> None:
    found = asked("GET", "/", headers={"TE": value}).all("te")
    assert found == (["trailers"] if "trailers" in value.lower() else [])


def test_cookies_can_be_joined_to_the_original() -> None:
    request = asked("GET", "/", headers={"Cookie": "a=1; b=2; c=3"})
    assert "; ".join(request.all("cookie")) == "a=1; b=2; c=3"


def test_content_length_is_sent_if_it_is_known() -> None:
    request = asked("POST", "/", b"body")
    assert (request.all("content-length"), request.body) == (["4"], b"body")
    request = asked("POST", "/", iter([b"bo", b"dy"]))
    assert (request.all("content-length"), request.all("transfer-encoding"), request.body) == ([], [], b"body")
    assert asked("GET", "/").all("content-length") == []


def test_content_length_given_with_an_iterable_is_correct_or_absent() -> None:
    request = asked("POST", "/", iter([b"bo", b"dy"]), {"Content-Length": "4"})
    assert request.all("content-length") in (["4"], [])
    assert request.body == b"body"


def test_empty_pieces_do_not_end_the_body() -> None:
    assert asked("POST", "/", iter([b"", b"a", b"", b"b", b""])).body == b"ab"
    assert asked("POST", "/", iter([])).body == b""


@pytest.mark.parametrize(
    "bad", [{"a b": "c"}, {"A": "b\nc"}, {"A": "b\0"}, {"": "x"}, {":path": "/x"}, {"a:": "b"}, {"A": "\u20ac"}]
)
def test_invalid_fields_are_rejected_before_sending(bad: dict[str, str]) -> None:
    with talking(serve_targets) as (peer, client):
        with pytest.raises(ValueError, match=r".+"):
            client.get("/", bad)
        assert client.get("/good").read() == b"/good"
        assert [request.target for request in peer.requests] == ["/good"]
        check_whole(client)


def test_credentials_are_not_indexed() -> None:
    request = asked("GET", "/", headers={"Authorization": "Basic c2VjcmV0", "X-Plain": "1"})
    found = {name: type(field) for field in request.fields for name in [field[0]]}
    assert found["authorization"] is hpack.NeverIndexedHeaderTuple
    assert found["x-plain"] is hpack.HeaderTuple


def test_request_larger_than_the_limit_of_the_peer_affects_no_other() -> None:
    """The limit is advice (RFC 9113 section 10.5.1): the request is refused here or there, and no other."""

    def script(talk: Talk) -> None:
        talk.start({MAX_HEADER_LIST_SIZE: 1000})
        while request := talk.read_request():
            talk.respond(request, status=431 if len(request.fields) > 20 else 200)

    with talking(script) as (_, client):
        client.get("/").read()
        with suppress(ValueError, OSError):
            assert client.get("/", {f"X-{n}": "y" * 100 for n in range(50)}).status_code == 431
        assert client.get("/").status_code == 200
        assert opened(client) == 1


# ---------------------------------------------------------------- trailers of requests


def test_trailers_follow_the_body_of_a_request() -> None:
    request = asked("POST", "/", b"body", trailers={"X-Sum": "4", "X-More": "a"})
    assert (request.body, request.trailers) == (b"body", [("x-sum", "4"), ("x-more", "a")])
    request = asked("POST", "/", iter([b"bo", b"dy"]), trailers={"X-Sum": "4"})
    assert (request.body, request.trailers) == (b"body", [("x-sum", "4")])


# ---------------------------------------------------------------- 100 Continue


def test_body_waits_for_100_continue() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_head()
        talk.expect_alive()
        assert request.body == b""
        talk.headers(request.stream, [(":status", "100")])
        talk.respond(talk.read_request(), request.body)

    with talking(script) as (_, client):
        assert client.post("/", b"body", {"Expect": "100-continue"}).read() == b"body"


def test_body_is_not_sent_without_100_continue() -> None:
    def script(talk: Talk) -> None:
        talk.start()
        request = talk.read_head()
        talk.respond(request, b"no", 417)
        talk.expect_alive()
        assert request.body == b""
        talk.respond(talk.read_request())
        talk.wait_closed()

    with talking(script) as (peer, client):
        response = client.post("/", b"body", {"Expect": "100-continue"})
        assert (response.status_code, response.read()) == (417, b"no")
        assert client.get("/").read() == b"ok"
        assert len(peer.conns) == 1
