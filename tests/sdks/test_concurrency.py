"""Real SDKs with the lines of docs/guide/sdks.md: the calls of many greenlets are in flight at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.programs.sdks import LATER, PAGE
from tests.support import sdk_services
from tests.support.certificates import Certificates
from tests.support.dependents import need
from tests.support.doc_examples import Page
from tests.support.hub import run, running
from tests.support.peer import Conn, Peer
from tests.support.sdk_services import Sentry, Service

COUNT = 20

PACKAGES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google_genai": "google.genai",
    "huggingface_hub": "huggingface_hub",
    "kubernetes": "kubernetes",
    "elasticsearch": "elasticsearch",
    "opensearch": "opensearchpy",
    "stripe": "stripe",
    "slack": "slack_sdk",
    "google_auth": "google.auth",
    "google_storage": "google.cloud.storage",
    "google_api": "googleapiclient",
    "github": "github",
    "hvac": "hvac",
    "influxdb_client": "influxdb_client",
    "influxdb": "influxdb",
    "zeep": "zeep",
    "consul": "consul",
    "prometheus": "prometheus_api_client",
}

# The requests of the greenlets, if the client sends others as well.
HELD = {"zeep": "^POST ", "google_auth": "^GET ", "google_storage": "^GET ", "google_api": "^GET "}


def environment(url: str, certificates: Certificates, directory: Path) -> dict[str, str]:
    """The environment by which SDKs find the local server, its certificate and their keys."""
    authority = str(certificates.ca)
    return {
        "HOME": str(directory),
        "NO_PROXY": "*",
        "SSL_CERT_FILE": authority,
        "REQUESTS_CA_BUNDLE": authority,
        "HTTPLIB2_CA_CERTS": authority,
        "STORAGE_EMULATOR_HOST": url,
        "OPENAI_API_KEY": "key",
        "OPENAI_BASE_URL": f"{url}/v1",
        "ANTHROPIC_API_KEY": "key",
        "ANTHROPIC_BASE_URL": url,
        "GOOGLE_API_KEY": "key",
        "GOOGLE_GEMINI_BASE_URL": url,
        "HF_ENDPOINT": url,
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def test_every_block_of_the_page_is_run() -> None:
    elsewhere = {"s3.py", "blobs.py"}  # tests/adapters
    expected = {f"with_{name}.py" for name in [*PACKAGES, "sentry", "mcp"]} | {"ask_openai.py"}
    assert set(Page(PAGE).files) - elsewhere == expected


@pytest.mark.parametrize("mode", ["unpatched", "monkey"])
@pytest.mark.parametrize("name", PACKAGES)
def test_calls_of_greenlets_are_in_flight_together(
    name: str, mode: str, certificates: Certificates, tmp_path: Path
) -> None:
    need(PACKAGES[name])
    service = Service(getattr(sdk_services, name), COUNT, HELD.get(name, ""))
    with Peer(service, tls=certificates.valid.server()) as peer:
        url = f"https://localhost:{peer.port}"
        outcome = run("sdks.calls", f"with_{name}", mode, peer.port, COUNT, **environment(url, certificates, tmp_path))
    assert json.loads(outcome.clean()) == list(range(COUNT + LATER))
    assert service.most == COUNT
    # urllib.request, which the slack SDK uses, keeps no connection.
    assert service.reused[-LATER:] == [name != "slack"] * LATER


@pytest.mark.parametrize("mode", ["unpatched", "monkey"])
def test_questions_of_a_pool_are_in_flight_together(mode: str, certificates: Certificates, tmp_path: Path) -> None:
    need("openai")
    service = Service(sdk_services.openai, COUNT)
    with Peer(service, tls=certificates.valid.server()) as peer:
        settings = environment(f"https://localhost:{peer.port}", certificates, tmp_path)
        outcome = run("sdks.questions", mode, peer.port, COUNT, **settings)
    assert json.loads(outcome.clean()) == list(range(COUNT))
    assert service.most == COUNT


@pytest.mark.parametrize("mode", ["unpatched", "monkey"])
def test_sentry_sends_events_while_greenlets_wait(mode: str, certificates: Certificates, tmp_path: Path) -> None:
    need("sentry_sdk")
    sentry = Sentry()
    with Peer(sentry.service, tls=certificates.valid.server()) as peer:
        url = f"https://localhost:{peer.port}"
        run("sdks.reports", mode, peer.port, COUNT, **environment(url, certificates, tmp_path)).clean()
    assert sorted(sentry.messages) == sorted(f"number-{number}" for number in range(COUNT))


def test_client_that_blocks_is_noticed(certificates: Certificates, tmp_path: Path) -> None:
    """The same lines without this package: the server never receives the second request."""
    need("openai")
    service = Service(sdk_services.openai, 2, patience=0.5)
    with Peer(service, tls=certificates.valid.server()) as peer:
        url = f"https://localhost:{peer.port}"
        outcome = run("sdks.blocked", 2, **environment(url, certificates, tmp_path))
    assert service.failed
    assert service.most == 1
    assert all("APIConnectionError" in result for result in json.loads(outcome.clean()))


@pytest.mark.parametrize("mode", ["unpatched", "monkey"])
def test_mcp_in_native_threads_lets_greenlets_run(mode: str, certificates: Certificates, tmp_path: Path) -> None:
    need("mcp")
    count = 5  # fewer than gevent's pool has threads
    pair = certificates.valid
    with running("sdks_mcp.serve", pair.chain, pair.key, count) as server:
        port = server.read_line()
        settings = environment(f"https://localhost:{port}", certificates, tmp_path)
        outcome = run("sdks_mcp.calls", mode, port, count, **settings)
    assert json.loads(outcome.clean()) == list(range(count))


@pytest.mark.parametrize(("mode", "blocks"), [("unpatched", True), ("patched", False)])
def test_pause_before_a_retry_blocks_unless_time_is_patched(
    mode: str, blocks: bool, certificates: Certificates, tmp_path: Path
) -> None:
    need("openai")

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if len(conn.peer.requests) == 1:
                conn.respond(b"{}", "429 Too Many Requests", [("Retry-After-Ms", "1000")])
            else:
                conn.respond(sdk_services.openai(request).body, headers=[("Content-Type", "application/json")])

    with Peer(script, tls=certificates.valid.server()) as peer:
        settings = environment(f"https://localhost:{peer.port}", certificates, tmp_path)
        longest = float(run("sdks.pauses", mode, peer.port, **settings).clean())
        assert len(peer.requests) == 2
    assert (longest > 0.9) == blocks


def test_slack_outcomes_are_those_with_http_client(certificates: Certificates, tmp_path: Path) -> None:
    need("slack_sdk")

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            text = request.body.decode()
            method = request.target.rpartition("/")[2]
            answer: Any = {"ok": True, "message": {"text": "sent"}}
            if method == "files.getUploadURLExternal":
                answer = {"ok": True, "upload_url": f"https://localhost:{conn.peer.port}/upload", "file_id": "F1"}
            elif method == "upload":
                assert text == "number-7"
            elif method == "files.completeUploadExternal":
                answer = {"ok": True, "files": [{"id": "F1"}]}
            elif "refused" in text:
                answer = {"ok": False, "error": "channel_not_found"}
            elif "limited" in text and limited:
                limited.pop()
                conn.respond(b'{"ok": false}', "429 Too Many Requests", [("Retry-After", "0")])
                continue
            elif "broken" in text:
                conn.respond(b"<html>", "500 Internal Server Error", [("Content-Type", "text/html")])
                continue
            elif "closed" in text:
                return
            elif "cut" in text:
                conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
                return
            conn.respond(json.dumps(answer).encode(), headers=[("Content-Type", "application/json")])

    found = []
    for mode in ("ours", "theirs"):
        limited = [True]
        directory = tmp_path / mode
        directory.mkdir()
        with Peer(script, tls=certificates.valid.server()) as peer:
            settings = environment(f"https://localhost:{peer.port}", certificates, directory)
            outcome = json.loads(run("sdks.slack", mode, peer.port, **settings).clean())
            found.append((outcome, len(peer.requests)))
    assert found[0] == found[1]
    assert found[0][0] == {
        "number-7": "sent",
        "refused": "SlackApiError",
        "limited": "sent",
        "broken": "SlackApiError",
        "closed": "RemoteDisconnected",
        "cut": "IncompleteRead",
        "file": "F1",
    }
