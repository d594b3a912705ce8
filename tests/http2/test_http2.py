"""HTTP/2 as programs use it: negotiation, and requests and responses that equal those of HTTP/1.1."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from gevent.pool import Pool

from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from tests.conftest import PAGE, Nginx
from tests.support.certificates import Certificates
from tests.support.http2_peer import serve_targets, talking_securely
from tests.support.http2_servers import Http2Nginx, Hypercorn, Nghttpd
from tests.support.hub import FAILURES
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.tls import WAYS, by, check_whole, client_of, opened, trusting

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture(params=["tls", "clear"])
def corn(request: pytest.FixtureRequest, hypercorn: Hypercorn, certificates: Certificates) -> Iterator[HTTPClient]:
    """Returns a client for hypercorn."""
    if request.param == "tls":
        with client_of(hypercorn.port, ssl_options=trusting(certificates), http2=True) as client:
            yield client
            check_whole(client)
    else:
        with closing(HTTPClient("127.0.0.1", hypercorn.clear, http2="prior-knowledge")) as client:
            yield client
            check_whole(client)


@pytest.fixture
def engine(http2_nginx: Http2Nginx, certificates: Certificates) -> Iterator[HTTPClient]:
    """Returns a client for nginx."""
    with client_of(http2_nginx.ports["tls"], ssl_options=trusting(certificates), http2=True) as client:
        yield client
        check_whole(client)


# ---------------------------------------------------------------- negotiation


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "spoken"), [("tls", "HTTP/2"), ("old", "HTTP/1.1")])
def test_alpn_of_the_server_selects_the_version(
    name: str, spoken: str, way: str, http2_nginx: Http2Nginx, certificates: Certificates
) -> None:
    with client_of(http2_nginx.ports[name], way, ssl_options=trusting(certificates), http2=True) as client:
        for _ in range(3):
            response = client.get("/facts")
            assert (response.get_http_version(), response.version) == (spoken, spoken)
            assert json.loads(response.read())["protocol"].removesuffix(".0") == spoken
        assert opened(client) == 1


@pytest.mark.parametrize("way", WAYS)
def test_http1_is_used_unless_http2_is_requested(way: str, http2_nginx: Http2Nginx, certificates: Certificates) -> None:
    with client_of(http2_nginx.ports["tls"], way, ssl_options=trusting(certificates)) as client:
        assert client.get("/page").get_http_version() == "HTTP/1.1"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["h3"], None), ([], None)]
)
def test_http2_offers_both_versions(
    offered: list[str], chosen: str | None, way: str, certificates: Certificates
) -> None:
    found: list[str | None] = []

    def script(conn: Conn) -> None:
        found.append(conn.sock.selected_alpn_protocol())
        serve_ok(conn) if chosen != "h2" else None

    context = certificates.valid.server()
    context.set_alpn_protocols(offered) if offered else None
    with (
        Peer(script, tls=context) as peer,
        client_of(peer.port, way, ssl_options=trusting(certificates), http2=True) as client,
    ):
        if chosen == "h2":
            with pytest.raises(FAILURES):
                client.get("/")
        else:
            assert client.get("/path").read() == b"/path"
    assert set(found) == {chosen}


@pytest.mark.parametrize("way", WAYS)
def test_server_without_http2_gets_one_connection_per_greenlet(
    way: str, http2_nginx: Http2Nginx, certificates: Certificates
) -> None:
    options = {"ssl_options": trusting(certificates), "http2": True, "concurrency": 5}
    with client_of(http2_nginx.ports["old"], way, **options) as client:
        assert set(Pool(20).map(lambda _: client.get("/page").read(), range(60))) == {PAGE}
        assert 1 <= opened(client) <= 5
        check_whole(client)


@pytest.mark.parametrize("server", ["nginx", "nghttpd", "hypercorn"])
def test_prior_knowledge_uses_http2_without_negotiation(server: str, request: pytest.FixtureRequest) -> None:
    if server == "nginx":
        port = request.getfixturevalue("http2_nginx").ports["clear"]
    elif server == "nghttpd":
        port = request.getfixturevalue("nghttpd")(tls=False).port
    else:
        port = request.getfixturevalue("hypercorn").clear
    with closing(HTTPClient("127.0.0.1", port, http2="prior-knowledge")) as client:
        target = "/bytes/615" if server == "hypercorn" else "/page"
        for _ in range(3):
            response = client.get(target)
            assert response.version == "HTTP/2"
            assert len(response.read()) == len(PAGE)
        assert opened(client) == 1


def test_prior_knowledge_with_an_http1_server_is_an_error(nginx: Nginx) -> None:
    with closing(HTTPClient("127.0.0.1", nginx.port, http2="prior-knowledge")) as client:
        with pytest.raises(FAILURES):
            client.get("/page")
        check_whole(client)


def test_plain_connection_uses_http1(nginx: Nginx) -> None:
    with closing(HTTPClient("127.0.0.1", nginx.port, http2=True)) as client:
        response = client.get("/page")
        assert (response.version, response.read()) == ("HTTP/1.1", PAGE)


@pytest.mark.parametrize("wrong", ["yes", "h2", "", 2, b"prior-knowledge"])
def test_invalid_values_of_http2_are_refused_by_name(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="http2"):
        HTTPClient("127.0.0.1", http2=wrong)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "x"])
def test_http2_ping_interval_invalid_is_rejected(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="http2_ping_interval"):
        HTTPClient("127.0.0.1", http2=True, http2_ping_interval=wrong)


# ---------------------------------------------------------------- every interface


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("face", ["agent", "session", "httpx"])
def test_http2_is_supported_by_every_interface(
    face: str, way: str, http2_nginx: Http2Nginx, certificates: Certificates
) -> None:
    port = http2_nginx.ports["tls"]
    url = f"https://localhost:{port}/facts"
    options = {"ssl_options": trusting(certificates), "http2": True, **by(way)}
    if face == "agent":
        with UserAgent(**options) as agent:
            found = [json.loads(bytes(agent.urlopen(url).content)) for _ in range(3)]
    elif face == "session":
        with Session(**options) as session:
            found = [session.get(url).json() for _ in range(3)]
    else:
        with httpx.Client(**options) as client:
            responses = [client.get(url) for _ in range(3)]
            assert {response.http_version for response in responses} == {"HTTP/2"}
            found = [response.json() for response in responses]
    assert {facts["protocol"] for facts in found} == {"HTTP/2.0"}
    assert len({facts["connection"] for facts in found}) == 1


def test_agent_negotiates_with_each_host(
    http2_nginx: Http2Nginx, hypercorn: Hypercorn, certificates: Certificates
) -> None:
    with Session(ssl_options=trusting(certificates), http2=True) as session:
        versions = [
            session.get(f"https://localhost:{port}/facts").json()
            for port in (http2_nginx.ports["tls"], http2_nginx.ports["old"], hypercorn.port)
        ]
    assert [facts.get("protocol") or facts["http_version"] for facts in versions] == ["HTTP/2.0", "HTTP/1.1", "2"]


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_methods_are_sent(method: str, corn: HTTPClient) -> None:
    facts = json.load(corn.request(method, "/facts?a=b&c=%20"))
    assert (facts["http_version"], facts["method"], facts["path"], facts["query"]) == (
        "2",
        method,
        "/facts",
        "a=b&c=%20",
    )
    assert facts["scheme"] == ("https" if corn.ssl else "http")


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 65_535, 65_536, 1 << 20])
@pytest.mark.parametrize("kind", ["bytes", "file", "pieces", "file-like"])
def test_bodies_are_sent_and_received(kind: str, size: int, corn: HTTPClient, tmp_path: Path) -> None:
    content = (b"0123456789abcdefg" * (size // 17 + 1))[:size]
    path = tmp_path / "body"
    path.write_bytes(content)
    with path.open("rb") as file:
        bodies: dict[str, Any] = {
            "bytes": content,
            "file": file,
            "pieces": (content[at : at + 10_000] for at in range(0, size, 10_000)),
            "file-like": BytesIO(content),
        }
        assert corn.post("/echo", bodies[kind]).read() == content
    assert opened(corn) == 1


def test_large_upload_is_complete(engine: HTTPClient) -> None:
    size = 20 << 20
    assert engine.post("/passed-on", b"x" * size).read() == b"%d" % size
    pieces = (b"x" * 100_000 for _ in range(200))
    assert engine.put("/passed-on", pieces).read() == b"20000000"


def test_nghttpd_echoes_an_upload(nghttpd: Callable[..., Nghttpd], certificates: Certificates) -> None:
    with client_of(nghttpd().port, ssl_options=trusting(certificates), http2=True) as client:
        for size in (0, 1, 70_000, 3 << 20):
            assert client.put("/any", b"y" * size).read() == b"y" * size
        assert opened(client) == 1


# ---------------------------------------------------------------- responses


def test_large_download_is_complete(http2_nginx: Http2Nginx, engine: HTTPClient) -> None:
    assert engine.get("/big").read() == (http2_nginx.root / "big").read_bytes()


def test_response_has_all_reading_methods(engine: HTTPClient) -> None:
    response = engine.get("/lines")
    assert response.readline(b"\n") == b"line 0\n"
    assert response.read(9) == b"line 1\nli"
    room = bytearray(5)
    assert response.readinto(room) == 5
    assert bytes(room) == b"ne 2\n"
    rest = b"".join(response)
    assert rest.startswith(b"line 3\n")
    assert rest.endswith(b"line 19999\n")
    assert response.read() == b""
    assert opened(engine) == 1


def test_field_names_are_lower_case_and_found_in_any_case(engine: HTTPClient) -> None:
    response = engine.get("/page")
    assert all(name == name.lower() for name, _ in response.headers)
    assert response["Content-Length"] == response["content-length"] == str(len(PAGE))
    assert response.get("CONTENT-TYPE") == "application/octet-stream"
    assert response.content_length == len(PAGE)
    response.read()


def test_response_without_a_body_is_empty(engine: HTTPClient) -> None:
    head = engine.head("/page")
    assert (head.status_code, head["content-length"], head.read()) == (200, str(len(PAGE)), b"")
    assert (engine.get("/status/204").status_code, engine.get("/status/204").read()) == (204, b"")
    page = engine.get("/page")
    unchanged = engine.get("/page", {"If-None-Match": page["etag"]})
    assert (unchanged.status_code, unchanged.read()) == (304, b"")
    assert page.read() == PAGE
    assert engine.get("/status/404").read() == b"gone"
    assert opened(engine) == 1


@pytest.mark.parametrize("status", [200, 201, 299, 400, 404, 500, 503, 599])
def test_status_is_returned(status: int, corn: HTTPClient) -> None:
    response = corn.get(f"/status/{status}")
    assert (response.status_code, response.get_code(), response.read()) == (status, status, b"")


def test_interim_responses_are_ignored(corn: HTTPClient) -> None:
    response = corn.get("/hints")
    assert (response.status_code, response.read()) == (200, b"page")
    assert "link" not in response


@pytest.mark.parametrize("server", ["nginx", "nghttpd", "hypercorn"])
def test_trailers_follow_the_body(server: str, request: pytest.FixtureRequest, certificates: Certificates) -> None:
    target, wanted = "/page", [("x-sum", "5")]
    if server == "nginx":
        started = request.getfixturevalue("http2_nginx")
        port, target, wanted = started.ports["tls"], "/trailers/page", [("x-sum", "five")]
    elif server == "nghttpd":
        port = request.getfixturevalue("nghttpd")("--trailer=x-sum: 5").port
    else:
        port, target = request.getfixturevalue("hypercorn").port, "/trailers"
        wanted = [("x-sum", "5"), ("x-more", "a")]
    with client_of(port, ssl_options=trusting(certificates), http2=True) as client:
        response = client.get(target, {"TE": "trailers"})
        assert response.read()
        assert list(response.trailers.items()) == wanted
        assert "x-sum" not in response


def test_compressed_bodies_are_not_decoded(engine: HTTPClient) -> None:
    response = engine.get("/gzip/page", {"Accept-Encoding": "gzip"})
    assert response["content-encoding"] == "gzip"
    assert gzip.decompress(response.read()) == PAGE


@pytest.mark.parametrize("way", WAYS)
def test_response_has_the_properties_of_its_tls(way: str, certificates: Certificates) -> None:
    with talking_securely(certificates, serve_targets, way=way) as (_, client):
        response = client.get("/path")
        assert response.read() == b"/path"
        assert (response.tls.version, response.tls.alpn) == ("TLSv1.3", "h2")
