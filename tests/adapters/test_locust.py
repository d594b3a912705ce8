"""Locust on this package: headless runs, and everything that users do with FastHttpUser."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.conftest import Nginx, TlsNginx
from tests.support import locustfiles
from tests.support.certificates import Certificates
from tests.support.dependents import need
from tests.support.hub import run
from tests.support.locustfiles import Swarm, distributed
from tests.support.peer import Conn, Peer, Request
from tests.support.ports import free_port
from tests.support.proxies import tinyproxy

need("locust")

USERS = 10
# A run ends after so many requests, however slow the machine is.
REQUESTS = 200


# ---------------------------------------------------------------- headless runs


def swarm(directory: Path, host: str, *options: str, **environment: str) -> Swarm:
    """Runs locust with ten users of the page until `REQUESTS` were sent."""
    environment["LOCUST_REQUESTS"] = str(REQUESTS)
    return locustfiles.swarm(locustfiles.HERE / "page.py", directory, host, *options, users=USERS, **environment)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_headless_run_without_failures_succeeds(
    scheme: str, processes: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """In one process, and with a master and two workers (each a fork)."""
    if scheme == "http":
        nginx: Nginx = request.getfixturevalue("nginx")
        host = nginx.url
    else:
        tls_nginx: TlsNginx = request.getfixturevalue("tls_nginx")
        host = f"https://127.0.0.1:{tls_nginx.ports['self_signed']}"
    done = swarm(tmp_path, host, *distributed(processes))
    done.check_no_crash()
    assert done.failures == {}
    assert done.code == 0, done.log
    assert done.requests >= REQUESTS


def test_headless_run_against_a_missing_page_reports_failures(nginx: Nginx, tmp_path: Path) -> None:
    done = swarm(tmp_path, nginx.url, LOCUST_TARGET="/status/404")
    done.check_no_crash()
    assert done.code == 1
    (error,) = done.failures
    assert "code=404" in error
    assert done.failures[error] == done.requests >= REQUESTS


def test_headless_run_against_a_refused_port_reports_failures(tmp_path: Path) -> None:
    done = swarm(tmp_path, f"http://127.0.0.1:{free_port()}")
    done.check_no_crash()
    assert done.code == 1
    (error,) = done.failures
    assert error.startswith("[Errno 111] Connection refused")
    assert done.failures[error] == done.requests >= REQUESTS


def test_headless_run_against_a_silent_server_reports_timeouts(tmp_path: Path) -> None:
    with Peer(Conn.wait_closed) as peer:
        done = swarm(tmp_path, peer.url, LOCUST_NETWORK_TIMEOUT="0.1")
    done.check_no_crash()
    assert done.code == 1
    (error,) = done.failures
    assert "imeout" in error or "timed out" in error, error
    assert done.failures[error] == done.requests > 0


# ---------------------------------------------------------------- features of users

Told = dict[str, Any]

LINES = b"".join(b"line %d\n" % i for i in range(5))
TEXT = b"once more, once more, once more"


def app(conn: Conn) -> None:
    """Server of most features: it responds with a description of the request."""
    while request := conn.read_request():
        answer(conn, request)


def answer(conn: Conn, request: Request) -> None:
    path = request.target.partition("?")[0].removeprefix(conn.peer.url)
    plain = [("Content-Type", "text/plain")]
    match path.split("/")[1:]:
        case ["page"]:
            if request.method == "HEAD":
                conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            else:
                conn.respond(b"some page", headers=plain)
        case ["status", status]:
            conn.respond(b"as wished", f"{status} As Wished", plain)
        case ["json"]:
            conn.respond(b'{"b": 2}', headers=[("Content-Type", "application/json")])
        case ["echo"]:
            kind = request.get("content-type") or ""
            conn.respond(
                request.body, headers=[("X-Content-Type", kind), ("Content-Type", "text/plain; charset=utf-8")]
            )
        case ["target"] | ["", "target"]:
            conn.respond(request.target.encode(), headers=plain)
        case ["method"]:
            conn.respond(request.method.encode(), headers=plain)
        case ["authorization" | "user-agent" | "cookie" | "via" as name]:
            conn.respond((request.get(name) or "").encode(), headers=plain)
        case ["number"]:
            gevent.sleep(0.001)  # so that others send requests in the meantime
            conn.respond(str(conn.number).encode(), headers=plain)
        case ["redirect"] | ["", "redirect"]:
            conn.respond(b"elsewhere", "302 Found", [("Location", "/page")])
        case ["loop"]:
            conn.respond(b"here", "302 Found", [("Location", "/loop")])
        case ["set-cookie"]:
            conn.respond(headers=[("Set-Cookie", "kept=1; Path=/")])
        case ["lines"]:
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
            conn.send_pieces(b"%x\r\n%s\r\n" % (len(line), line) for line in LINES.splitlines(True))
            conn.send(b"0\r\n\r\n")
        case ["gzip"]:
            conn.respond(gzip.compress(TEXT), headers=[*plain, ("Content-Encoding", "gzip")])
        case ["deflate"]:
            conn.respond(zlib.compress(TEXT), headers=[*plain, ("Content-Encoding", "deflate")])
        case ["brotli"]:
            # One uncompressed meta-block, written by hand (RFC 7932 section 9.2).
            conn.respond(b"\x0b\x0f\x80" + TEXT + b"\x03", headers=[*plain, ("Content-Encoding", "br")])
        case ["gzip-204"]:
            conn.send(b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n")
        case _:
            conn.respond(b"", "404 Not Found")


def broken(conn: Conn) -> None:
    request = conn.read_request()
    if request is None:
        return
    match request.target:
        case "/cut":
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut")
        case "/cut-in-head":
            conn.send(b"HTTP/1.1 200 OK\r\nContent-")
        case "/not-http":
            conn.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        case "/not-gzip":
            conn.respond(TEXT, headers=[("Content-Encoding", "gzip"), ("Connection", "close")])
        case "/reset":
            conn.reset()


@pytest.fixture(scope="module")
def told(tls_nginx: TlsNginx, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The results of all features, which run in one process."""
    proxy = tinyproxy(tmp_path_factory.mktemp("tinyproxy"))
    with Peer(app) as app_, Peer(Conn.wait_closed) as silent, Peer(broken) as broken_:
        targets = {
            "app": app_.url,
            "silent": silent.url,
            "broken": broken_.url,
            "closed_port": f"http://127.0.0.1:{free_port()}",
            "secure": f"https://localhost:{tls_nginx.ports['valid']}",
            "ca": str(certificates.ca),
            "proxy": proxy.port,
        }
        outcome = run("swarm.tell", json.dumps(targets))
    proxy.close()
    assert outcome.code == 0, outcome.err
    results: Told = json.loads(outcome.out)
    return results


def returned(told: Told, feature: str) -> Any:
    """Returns the result of a feature. Fails with the traceback if the feature raised an exception."""
    result = told[feature]
    assert "raised" not in result, result["raised"]
    return result["returned"]


def failures(told: Told, feature: str) -> list[str | None]:
    """Returns the reported failure of each request of a feature: None for a success."""
    return [event["failed"] for event in told[feature]["events"]]


def check_no_failure(told: Told, feature: str, requests: int) -> None:
    assert failures(told, feature) == [None] * requests


PAGE = [200, "some page", True]


def test_fast_response_has_status_and_text(told: Told) -> None:
    assert told["reads"]["events"] == [{"method": "GET", "name": "a page", "length": 9, "failed": None}]
    assert returned(told, "reads") == [PAGE, PAGE]


def test_error_status_is_reported_as_failure(told: Told) -> None:
    assert failures(told, "fails_by_status") == ["LocustBadStatusCode(code=404)"]
    found, kind, text = returned(told, "fails_by_status")
    assert found == [404, "as wished", False]
    assert kind == "LocustBadStatusCode"
    assert text.endswith("/status/404: code=404")


def test_catch_response_decides_success_and_failure(told: Told) -> None:
    wanted = [None, "CatchResponseError('not this page')", "LocustBadStatusCode(code=500)"]
    assert failures(told, "catches_responses") == wanted
    assert returned(told, "catches_responses") is None


def test_rest_decodes_json(told: Told) -> None:
    sent, not_json, raised, stamped = failures(told, "speaks_json")
    assert (sent, stamped) == (None, None)
    assert "Could not parse response as JSON. some page, response code 200" in (not_json or "")
    assert "ValueError: this is not what I wanted" in (raised or "")
    assert told["speaks_json"]["events"][-1]["name"] == "/json?_=..."
    assert returned(told, "speaks_json") == [[{"a": [1, None]}, "application/json"], None, {"b": 2}]


def test_host_with_trailing_slash_requests_two_slashes(told: Told) -> None:
    direct, by_proxy = returned(told, "has_a_slash_after_its_host")
    assert direct == by_proxy == [[200, "//target", True], PAGE]
    check_no_failure(told, "has_a_slash_after_its_host", 4)


def test_requests_of_a_user_are_sent(told: Told) -> None:
    check_no_failure(told, "sends", 9)
    form, text, raw, query, auth, methods, head = returned(told, "sends")
    assert form[0] == "a=1+2&b=%C3%BC"
    assert form[1].startswith("application/x-www-form-urlencoded")
    assert text == "bücher"
    assert raw == [0, 1]
    assert query in ("/target?q=a+b", "/target?q=a%20b")
    assert auth == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert methods == ["DELETE", "OPTIONS", "GET"]
    assert head == [200, "", "9"]


def test_files_are_sent_as_multipart(told: Told) -> None:
    check_no_failure(told, "sends_files", 1)
    body, kind = returned(told, "sends_files")
    boundary = kind.removeprefix("multipart/form-data; boundary=")
    before, first, rest = body.split(f"--{boundary}\r\n")
    second, after = rest.split(f"--{boundary}--\r\n")
    assert (before, after) == ("", "")
    assert first == 'Content-Disposition: form-data; name="name"\r\n\r\nme\r\n'
    assert second.startswith('Content-Disposition: form-data; name="file"; filename="a.txt"\r\n')
    assert "\r\n\r\nits content\r\n" in second


def test_redirects_are_followed(told: Told) -> None:
    assert failures(told, "follows_redirects")[:3] == [None] * 3
    endless = failures(told, "follows_redirects")[3] or ""
    assert endless.startswith("RetriesExceeded(")
    assert "Redirection limit reached (3)" in endless
    assert returned(told, "follows_redirects") == [PAGE, [302, "/page"], PAGE, 0]


def test_cookies_are_sent_back(told: Told) -> None:
    check_no_failure(told, "keeps_cookies", 3)
    assert returned(told, "keeps_cookies") == ["kept=1", "", ["kept"]]


def test_url_credentials_and_default_headers_are_sent(told: Told) -> None:
    check_no_failure(told, "sends_credentials", 2)
    assert returned(told, "sends_credentials") == ["Basic dXNlcjpwQHNz", "locusts"]


def test_stream_reads_body_in_pieces(told: Told) -> None:
    check_no_failure(told, "streams", 4)
    lines = LINES.decode()
    assert returned(told, "streams") == [lines, lines, lines.splitlines(), "line"]


def test_debug_stream_shows_requests(told: Told) -> None:
    check_no_failure(told, "debug_stream", 1)
    text = returned(told, "debug_stream")
    asked, _, answered = text.partition("RESPONSE: ")
    assert asked.startswith("REQUEST: http://127.0.0.1:")
    assert "POST /echo HTTP/1.1\r\n" in asked or "POST /echo HTTP/1.1\n" in asked
    assert "said" in asked
    assert answered.startswith("HTTP/1.1 200")
    assert "said" in answered
    assert "X-Content-Type" in answered


def test_content_codings_are_decoded(told: Told) -> None:
    check_no_failure(told, "decodes", 4)
    assert returned(told, "decodes") == [*[TEXT.decode()] * 3, ""]


def test_users_with_shared_pool_share_one_connection(told: Told) -> None:
    """Users without a shared pool have one connection each."""
    check_no_failure(told, "shares_a_pool", 8)
    assert returned(told, "shares_a_pool") == [1, 2]


def test_one_user_sends_concurrent_requests(told: Told) -> None:
    check_no_failure(told, "concurrent_requests", 40)
    assert returned(told, "concurrent_requests") == 4


def test_closed_pool_opens_new_connections(told: Told) -> None:
    check_no_failure(told, "closes_its_pool", 3)
    assert returned(told, "closes_its_pool") == 3


def test_proxy_carries_requests(told: Told) -> None:
    check_no_failure(told, "uses_a_proxy", 2)
    status, via = returned(told, "uses_a_proxy")
    assert status == 200
    assert "tinyproxy" in via


def test_refused_connection_is_a_failure(told: Told) -> None:
    first, second, by_rest = failures(told, "connection_refused")
    assert first == second
    assert (first or "").startswith("ConnectionRefusedError(111, ")
    assert (by_rest or "").startswith("CatchResponseError('[Errno 111] ")
    assert returned(told, "connection_refused") == [0, None, None, "ConnectionRefusedError", 0]


def test_silent_server_is_reported_as_timeout(told: Told) -> None:
    assert (failures(told, "network_timeout")[0] or "").startswith("RetriesExceeded('http://127.0.0.1:")
    assert returned(told, "network_timeout") == [0, "RetriesExceeded", True]


def test_gevent_timeout_is_reported_and_not_retried(told: Told) -> None:
    """locust treats gevent.Timeout as a failure."""
    assert len(failures(told, "gevent_timeout")) == 1
    assert returned(told, "gevent_timeout") == [0, "Timeout"]


def test_broken_responses_are_reported_as_failures(told: Told) -> None:
    """Each failure is reported with its reason, and the user continues."""
    reasons = {
        "/cut": "fewer bytes than Content-Length says",
        "/cut-in-head": "head is not complete",
        "/not-http": "Expected HTTP/",
        "/not-gzip": "incorrect header check",
        "/reset": "Connection reset by peer",
    }
    reported = {event["name"]: event["failed"] for event in told["broken_responses"]["events"]}
    assert reported.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in reported[name]
    assert returned(told, "broken_responses") == [200, 0, 0, 200, 0]


def test_insecure_option_decides_verification(told: Told) -> None:
    """No server is verified by default; with `insecure = False` all are."""
    by_default, careful, knowing = failures(told, "trusts")
    assert (by_default, knowing) == (None, None)
    assert (careful or "").startswith("SSLCertVerificationError(1, ")
    assert returned(told, "trusts") == [200, 0, 200]
