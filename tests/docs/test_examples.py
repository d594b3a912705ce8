"""Every example runs as a user runs it, against the project's own server; its output is checked."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import running
from tests.server.__main__ import FRIENDS, PAGE, pattern

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT_SECONDS = 60


@pytest.fixture
def url() -> Iterator[str]:
    with running() as base:
        yield base


def run(example: str, *arguments: str) -> str:
    """Runs an example to its end, and returns its output."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def connections_of(url: str) -> int:
    """Returns the number of connections that the server accepted before the one of this request."""
    with urllib.request.urlopen(f"{url}/connections", timeout=TIMEOUT_SECONDS) as response:
        return int(response.read()) - 1


def test_example_get_prints_status_fields_and_size(url: str) -> None:
    lines = run("get.py", f"{url}/page").splitlines()
    assert lines[0] == "200"
    assert "content-length: 615" in [line.lower() for line in lines]
    assert lines[-1].startswith("615 bytes")
    assert repr(PAGE[:20]).strip("b'") in lines[-1]


def test_example_friends_finds_all_in_order_over_ten_connections(url: str) -> None:
    lines = run("friends.py", url).splitlines()
    assert lines == [f"{friend['name']} likes {friend['likes']}" for friend in FRIENDS]
    assert 1 <= connections_of(url) <= 10


@pytest.mark.parametrize("framing", ["bytes", "chunked"])
def test_example_download_writes_the_exact_bytes(url: str, framing: str, tmp_path: Path) -> None:
    size = 5_000_001
    file = tmp_path / "body"
    assert run("download.py", f"{url}/{framing}/{size}", str(file)) == f"{size} bytes in {file}\n"
    assert file.read_bytes() == b"".join(pattern(size))


def test_example_download_of_empty_body_writes_an_empty_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "body"
    assert run("download.py", f"{url}/bytes/0", str(file)).startswith("0 bytes")
    assert file.read_bytes() == b""


def test_example_download_of_missing_file_names_the_status(url: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "download.py"), f"{url}/nothing", str(tmp_path / "body")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert (done.returncode, done.stderr) == (1, "status 404\n")


def test_example_stream_prints_events_as_they_are_received(url: str) -> None:
    command = [sys.executable, str(EXAMPLES / "stream.py"), f"{url}/stream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as example:
        assert example.stdout is not None
        try:
            lines = [example.stdout.readline() for _ in range(25)]
            assert example.poll() is None, "the stream has no end, and nor has its reader"
        finally:
            example.terminate()
    assert lines == [f"{number} event {number}\n" for number in range(1, 26)]


def test_example_llm_server_streams_as_many_tokens_as_requested() -> None:
    """The load test that is sent to it is in tests/adapters."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / "llm_server.py"), "0", "0", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1/chat/completions"
            asked = json.dumps({"max_tokens": 3, "stream_options": {"include_usage": True}}).encode()
            with urllib.request.urlopen(url, asked, timeout=TIMEOUT_SECONDS) as response:
                assert response.headers["Content-Type"] == "text/event-stream"
                *events, done, end = response.read().decode().split("\n\n")
        finally:
            server.terminate()
    assert (done, end) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    texts = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    assert [text for text in texts if text] == ["The ", "sky ", "scatters "]
    assert chunks[-1]["usage"] == {"completion_tokens": 3}


def test_example_mocking_tests_pass() -> None:
    assert run("mocking.py").splitlines() == [
        "finds all pages: 3 friends of https://api.example.org",
        "tries again after a timeout: 2 requests",
    ]


def test_example_demo_ends_with_its_table() -> None:
    output = run("demo.py")
    assert "\r" not in output, "progress is for terminals"
    words = output.split()
    for word in ("requests", "rate", "p50", "p90", "p99", "max", "downloaded", "memory"):
        assert word in words


def test_example_requests_and_httpx_run_on_the_engine(url: str) -> None:
    assert run("requests_adapter.py", f"{url}/page").splitlines() == [
        "requests: 61500 bytes",
        "httpx: 61500 bytes",
        "requests: ConnectionError",
    ]
    assert 1 <= connections_of(url) <= 40


def test_example_session_prints_its_results(url: str) -> None:
    lines = run("session.py", url).splitlines()
    assert lines[:-1] == ["{'like': 'greenlets'}", f"{sum(range(1000, 1050))} bytes", "404"]
    assert lines[-1].startswith("timed out after 0.1 s (reading the body from ")
    assert connections_of(url) <= 12
