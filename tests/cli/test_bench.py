"""`geventhttpclient bench`: counts, times, output, exit status."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from geventhttpclient.cli import main
from geventhttpclient.cli.summary import merge
from tests.server import running
from tests.support import cli
from tests.support.peer import Conn, Peer

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running() as url:
        yield url


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Runs the command. Returns its exit status, the summary from its JSON output, and stderr."""
    status = main(["bench", "--json", *arguments])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else {}, err


def test_bench_counts_its_requests(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, err = bench(capsys, f"{server}/page", "-n", "200", "-c", "4")
    assert (status, err) == (0, "")
    assert found["requests"] == 200
    assert found["status_codes"] == {"200": 200}
    assert found["body_bytes"] == 200 * 615
    assert found["failed"] == found["unfinished"] == 0
    assert found["connections_opened"] + found["connections_reused"] == 200
    assert 1 <= found["connections_opened"] <= 4
    assert found["protocol"] == "HTTP/1.1"
    assert found["loop"] == "closed"
    assert found["interrupted"] is False
    assert sum(count for _, count in found["histogram_us"]) == 200
    assert found["samples"][-1][1] == 200
    latency = found["latency_us"]
    names = ["min", "p50", "p75", "p90", "p99", "p99_9", "max"]
    assert [latency[name] for name in names] == sorted(latency[name] for name in names)
    assert 0 < latency["min"] <= latency["mean"] <= latency["max"]
    assert found["requests_per_second"] == pytest.approx(200 / found["duration_seconds"], rel=0.01)
    assert found["cpu_us_per_request"] == pytest.approx(found["cpu_seconds"] * 1e6 / 200, rel=0.01)


def test_sends_the_request_of_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with Peer() as peer:
        argv = [peer.url + "/a?b=c", "-n", "3", "-c", "1", "-d", "x=1", "-d", "y=2", "-H", "X-A: b", "-u", "me:secret"]
        status, found, _ = bench(capsys, *argv)
    assert status == 0
    assert found["method"] == "POST"
    assert {(one.line, one.body) for one in peer.requests} == {("POST /a?b=c HTTP/1.1", b"x=1&y=2")}
    one = peer.requests[0]
    assert one.get("x-a") == "b"
    assert one.get("content-type") == "application/x-www-form-urlencoded"
    assert one.get("authorization") == "Basic bWU6c2VjcmV0"
    assert len(peer.requests) == 3
    assert len(peer.conns) == 1


def test_bench_large_body_is_counted_completely(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    for size in (1 << 20, (1 << 20) + 1, 3_000_000):
        _, found, _ = bench(capsys, f"{server}/bytes/{size}", "-n", "2", "-c", "1")
        assert found["body_bytes"] == 2 * size
        assert found["connections_opened"] == 1


def test_bench_errors_are_counted_by_class_and_set_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    def cut(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    with Peer(cut) as peer:
        status, found, _ = bench(capsys, peer.url, "-n", "5", "-c", "2")
    assert status == 1
    assert found["requests"] == 0
    assert found["failed"] == 5
    assert found["errors"] == {"HTTPConnectionClosed": 5}
    assert found["error_examples"]["HTTPConnectionClosed"]
    assert found["latency_us"]["p50"] is None
    assert found["cpu_us_per_request"] is None


def test_bench_error_status_fails_only_with_fail_option(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(capsys, f"{server}/nothing", "-n", "5")[0] == 0
    status, found, _ = bench(capsys, f"{server}/nothing", "-n", "5", "--fail")
    assert status == 1
    assert found["status_codes"] == {"404": 5}


def test_duration_ends_with_requests_in_flight(capsys: pytest.CaptureFixture[str]) -> None:
    def late(conn: Conn) -> None:
        conn.read_request()
        conn.respond()
        conn.read_request()
        conn.wait_closed()

    with Peer(late) as peer:
        status, found, _ = bench(capsys, peer.url, "-t", "0.2", "-c", "3")
    assert status == 0
    assert found["requests"] == 3
    assert found["unfinished"] == 3
    assert 0.199 <= found["duration_seconds"] < 5  # libuv's clock counts in milliseconds


def test_requests_behind_a_slow_response_are_timed_from_their_due_time(capsys: pytest.CaptureFixture[str]) -> None:
    """One of twenty requests takes 0.3 s; with one connection, at 100 requests/s, those after it are late."""

    def slow_once(conn: Conn) -> None:
        for number in range(20):
            conn.read_request()
            if number == 0:
                gevent.sleep(0.3)
            conn.respond()
        conn.wait_closed()

    with Peer(slow_once) as peer:
        _, closed, _ = bench(capsys, peer.url, "-n", "20", "-c", "1")
    with Peer(slow_once) as peer:
        _, opened, _ = bench(capsys, peer.url, "-n", "20", "-c", "1", "--rate", "100")
    assert closed["latency_us"]["p50"] < 100_000
    assert opened["loop"] == "open"
    assert opened["target_rate_per_second"] == 100
    assert opened["latency_us"]["p50"] > 150_000
    assert opened["latency_us"]["max"] >= 300_000


def test_bench_rate_is_kept(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, found, _ = bench(capsys, f"{server}/page", "-n", "100", "--rate", "400")
    assert found["requests"] == 100
    # The last of them is due after 99 intervals.
    assert found["duration_seconds"] >= 99 / 400


def test_warm_up_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with Peer() as peer:
        _, found, _ = bench(capsys, peer.url, "-n", "10", "-c", "1", "--warmup", "0.05")
        assert len(peer.requests) > 11
    assert found["requests"] == 10
    assert found["connections_opened"] <= 1  # the end of the warm-up may have closed a connection that was in use


def test_bench_processes_share_the_load(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, err = bench(capsys, f"{server}/page", "-n", "101", "-c", "5", "--processes", "2")
    assert (status, err) == (0, "")
    assert found["processes"] == 2
    assert found["requests"] == 101
    assert found["body_bytes"] == 101 * 615
    assert found["status_codes"] == {"200": 101}
    assert sum(count for _, count in found["histogram_us"]) == 101
    assert found["samples"][-1][1] == 101


def test_failure_in_a_process_is_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    status, found, err = bench(capsys, "https://127.0.0.1:1", "-n", "4", "--processes", "2", "--cacert", missing)
    assert status == 2
    assert found == {}
    assert err.count("\n") == 1
    assert "none.pem" in err


def test_run_without_responses_has_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    merged = merge([], {"url": "http://x/"})
    assert merged["requests"] == 0
    assert merged["latency_us"]["max"] is None
    assert merged["samples"] == []


def test_bench_text_has_the_same_figures_as_json(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", f"{server}/page", "-n", "1500", "-c", "3"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"^requests +1,500 in [0-9.]+ s: [0-9,]+ requests/s$", out, re.MULTILINE)
    assert re.search(r"^status 200 +1,500$", out, re.MULTILINE)
    assert re.search(r"^connections +3 opened, 1,497 times reused$", out, re.MULTILINE)
    assert re.search(r"^latency +min +mean +p50 +p75 +p90 +p99 +p99\.9 +max +stdev$", out, re.MULTILINE)
    assert "\x1b" not in out


def test_bench_http2_uses_one_connection(
    http2_nginx: Any, certificates: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"https://localhost:{http2_nginx.port}/page"
    status, found, err = bench(capsys, url, "-n", "50", "-c", "10", "--http2", "--cacert", str(certificates.ca))
    assert (status, err) == (0, "")
    assert found["protocol"] == "HTTP/2"
    assert found["requests"] == 50
    assert found["connections_opened"] == 1


def test_bench_plot_is_svg_for_light_and_dark_pages(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "out.svg"
    status, _, err = bench(capsys, f"{server}/page", "-n", "300", "--plot", str(path))
    assert (status, err) == (0, "")
    root = xml.etree.ElementTree.parse(path).getroot()
    texts = {element.text for element in root.iter() if element.text and element.text.strip()}
    assert {"latency, ms", "requests/s", "99 %", f"GET {server}/page"} <= texts
    drawn = path.read_text()
    assert "fill: #ffffff" not in drawn
    assert "#000000" not in drawn


def test_bench_invalid_plot_is_rejected_before_any_request(tmp_path: Path) -> None:
    with Peer() as peer:
        assert main(["bench", peer.url, "-n", "1", "--plot", str(tmp_path / "no" / "x.svg")]) == 2
        assert main(["bench", peer.url, "-n", "1", "--plot", "x.png"]) == 2
    assert peer.requests == []


@pytest.mark.parametrize("processes", [1, 2])
def test_bench_interrupt_prints_the_summary_so_far(server: str, processes: int) -> None:
    with Peer(busy) as peer:
        process = cli.start("bench", peer.url, "-t", "60", "-c", "2", "--processes", str(processes), "--json")
        with gevent.Timeout(cli.SECONDS):
            while len(peer.requests) < 200:
                gevent.sleep(0.001)
        status, out, err = cli.interrupt(process)
    assert (status, err) == (130, "")
    found = json.loads(out)
    assert found["interrupted"] is True
    assert found["requests"] >= 190
    assert found["requests"] + found["unfinished"] >= 190
    assert found["failed"] == 0


def busy(conn: Conn) -> None:
    while conn.read_request() is not None:
        conn.respond()


def test_bench_interrupt_without_responses_ends() -> None:
    with Peer(Conn.wait_closed) as peer:
        process = cli.start("bench", peer.url, "-n", "100", "-c", "2")
        with gevent.Timeout(cli.SECONDS):
            peer.accepted.wait()
        status, out, err = cli.interrupt(process)
    assert (status, err) == (130, "")
    assert b"interrupted" in out


def test_bench_on_a_terminal_shows_progress(server: str) -> None:
    pytest.importorskip("rich")
    status, seen = cli.on_terminal("bench", f"{server}/page", "-t", "0.6")
    assert status == 0
    assert re.search(r"%  [0-9.]+ s  [0-9,]+ requests", seen)
    assert "\x1b[1;36mrequests" in seen
    status, seen = cli.on_terminal("bench", f"{server}/page", "-n", "10", env={"NO_COLOR": "1"})
    assert status == 0
    assert not re.search("\x1b\\[[0-9;]*m", seen)
    assert "requests" in seen


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["ftp://example.org/"],
        ["http://:80/"],
        ["http://example.org:99999/"],
        ["http://exa mple.org/"],
        ["http://127.0.0.1:1/", "-n", "0"],
        ["http://127.0.0.1:1/", "-c", "x"],
        ["http://127.0.0.1:1/", "--rate", "-1"],
        ["http://127.0.0.1:1/", "--duration", "soon"],
        ["http://127.0.0.1:1/", "-n", "1", "--processes", "2"],
        ["http://127.0.0.1:1/", "-H", "no colon"],
        ["http://127.0.0.1:1/", "-H", "Bad Name: x"],
        ["http://127.0.0.1:1/", "-X", "GE T"],
        ["http://127.0.0.1:1/", "--key", "x"],
        ["http://127.0.0.1:1/", "--proxy", "gopher://x"],
        ["http://127.0.0.1:1/", "--resolve", "x"],
        ["http://127.0.0.1:1/", "--http2", "--http2-prior-knowledge"],
    ],
)
def test_invalid_usage_is_reported_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("geventhttpclient")


def test_bench_histogram_survives_the_json_of_processes(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, found, _ = bench(capsys, f"{server}/page", "-n", "500")
    merged = merge([found, found], {})
    assert merged["requests"] == 1000
    for name in ("min", "p50", "p99", "max"):
        assert merged["latency_us"][name] == pytest.approx(found["latency_us"][name], rel=0.002)
