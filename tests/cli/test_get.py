"""`geventhttpclient get`: requests, output, exit status."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess as blocking
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

import geventhttpclient
from geventhttpclient.cli import interrupt, main
from geventhttpclient.cli.jsontext import MOST, JSONText, indented
from tests.server import running
from tests.support import cli
from tests.support.peer import Conn, Peer
from tests.support.scripted import answer, saying, saying_then_closing

pytestmark = pytest.mark.usefixtures("bounded")

FORM = "application/x-www-form-urlencoded"
JSON = '{"b": 1.10, "a": [1, {"c": "d: [e]"}], "empty": {}, "none": []}'
PRETTY = """{
  "b": 1.10,
  "a": [
    1,
    {
      "c": "d: [e]"
    }
  ],
  "empty": {},
  "none": []
}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running() as url:
        yield url


def get(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str | Path) -> tuple[int, bytes, str]:
    status = main(["get", *map(str, arguments)])
    out, err = capfdbinary.readouterr()
    return status, out, err.decode()


def test_get_writes_the_body_unchanged(capfdbinary: Any) -> None:
    body = b"\0\xff" + JSON.encode()
    with Peer(saying(answer(body, "200 OK", "Content-Type: application/json"))) as peer:
        assert get(capfdbinary, f"{peer.url}/a?b=c") == (0, body, "")
    assert peer.requests[0].line == "GET /a?b=c HTTP/1.1"


def test_get_url_without_scheme_is_http(server: str, capfdbinary: Any) -> None:
    status, out, _ = get(capfdbinary, server.removeprefix("http://") + "/page")
    assert (status, len(out)) == (0, 615)


@pytest.mark.parametrize(
    ("arguments", "line", "fields", "body"),
    [
        (["-X", "DELETE"], "DELETE / HTTP/1.1", {}, b""),
        (["-d", "a=1", "-d", "b=2"], "POST / HTTP/1.1", {"content-type": FORM}, b"a=1&b=2"),
        (["-d", "{}", "-H", "Content-Type: a/b"], "POST / HTTP/1.1", {"content-type": "a/b"}, b"{}"),
        (["-X", "PUT", "-d", "x"], "PUT / HTTP/1.1", {}, b"x"),
        (["-H", "X-A: b c", "-H", "X-Empty;"], "GET / HTTP/1.1", {"x-a": "b c", "x-empty": ""}, b""),
        (["-H", "User-Agent:"], "GET / HTTP/1.1", {"user-agent": None}, b""),
        (["-u", "me:secret"], "GET / HTTP/1.1", {"authorization": "Basic bWU6c2VjcmV0"}, b""),
        (["--compressed"], "GET / HTTP/1.1", {"accept-encoding": "gzip, deflate, br, zstd"}, b""),
        ([], "GET / HTTP/1.1", {"accept-encoding": None, "content-type": None}, b""),
    ],
)  # fmt: skip
def test_sends_the_request_of_its_options(
    arguments: list[str], line: str, fields: dict[str, str | None], body: bytes, capfdbinary: Any
) -> None:
    with Peer() as peer:
        assert get(capfdbinary, peer.url, *arguments)[0] == 0
    [request] = peer.requests
    assert (request.line, request.body) == (line, body)
    assert {name: request.get(name) for name in fields} == fields


def test_get_data_is_read_from_file_and_stdin(tmp_path: Path, capfdbinary: Any) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"\r\nas it is\0\n")
    with Peer() as peer:
        assert get(capfdbinary, peer.url, "-d", f"@{path}")[0] == 0
        assert get(capfdbinary, peer.url, "-d", f"@{path}", "-d", "b")[0] == 0
        assert get(capfdbinary, peer.url, peer.url, "-d", f"@{path}")[0] == 0
        assert cli.run("get", peer.url, "-d", "@-", given=b"from stdin")[0] == 0
        assert get(capfdbinary, peer.url, "-d", f"@{path}x")[0] == 3
    content = path.read_bytes()
    assert [request.body for request in peer.requests] == [content, content + b"&b", content, content, b"from stdin"]


def test_get_form_is_sent_as_multipart(tmp_path: Path, capfdbinary: Any) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"content")
    with Peer() as peer:
        assert get(capfdbinary, peer.url, "-F", "name=v=1", "-F", f"file=@{path}")[0] == 0
        assert get(capfdbinary, peer.url, "-F", "name=value")[0] == 0
    both, fields = peer.requests
    assert both.method == "POST"
    assert (both.get("content-type") or "").startswith("multipart/form-data; boundary=")
    assert b'name="name"\r\n\r\nv=1\r\n' in both.body
    assert b'name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\ncontent\r\n' in both.body
    assert (fields.get("content-type") or "").startswith("multipart/form-data")
    assert b'name="name"\r\n\r\nvalue\r\n' in fields.body


def test_get_to_a_file_uses_constant_memory(server: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    program = (
        "import resource, sys; from geventhttpclient.cli import main; main(['get', sys.argv[1], '-o', sys.argv[2]]);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; main(['get', sys.argv[3], '-o', sys.argv[2]]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    urls = [f"{server}/bytes/1000000", str(path), f"{server}/bytes/100000000"]
    grown = blocking.run([sys.executable, "-c", program, *urls], capture_output=True, check=True, timeout=cli.SECONDS)
    assert path.stat().st_size == 100_000_000
    assert int(grown.stdout) < 16 * 1024


def test_get_several_urls_are_written_in_order(capfdbinary: Any) -> None:
    """The first response is sent after the last request, and written first nevertheless."""
    everybody = gevent.event.Event()
    large = b"x" * (3 << 20)

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if request.target == "/3":
                everybody.set()
            if request.target == "/1":
                everybody.wait(10)
            conn.respond(large if request.target == "/2" else request.target.encode())

    with Peer(script) as peer:
        found = get(capfdbinary, *(f"{peer.url}/{n}" for n in (1, 2, 3)))
    assert found == (0, b"/1" + large + b"/3", "")


def test_get_concurrency_limits_requests_in_flight(capfdbinary: Any) -> None:
    with Peer() as peer:
        found = get(capfdbinary, *(f"{peer.url}/{n}" for n in range(5)), "-c", "1")
        assert found == (0, b"/0/1/2/3/4", "")
        assert len(peer.conns) == 1


def test_failed_url_does_not_stop_the_others(capfdbinary: Any) -> None:
    with Peer() as peer:
        status, out, err = get(capfdbinary, "http://127.0.0.1:1/", f"{peer.url}/here")
    assert (status, out) == (1, b"/here")
    assert err == "geventhttpclient: http://127.0.0.1:1/: [Errno 111] Connection refused (connecting to 127.0.0.1:1)\n"


def test_get_shows_heads(capfdbinary: Any) -> None:
    said = answer(b"hello", "200 Fine", "X-A: 1", "X-A: 2")
    with Peer(saying(said, said[:-5], said)) as peer:
        assert get(capfdbinary, peer.url, "-i") == (0, said, "")
    with Peer(saying(said[:-5])) as peer:
        assert get(capfdbinary, peer.url, "-I") == (0, said[:-5], "")
        assert peer.requests[0].method == "HEAD"
    with Peer(saying(said)) as peer:
        status, out, err = get(capfdbinary, peer.url, "-v", "-u", "me:secret", "-H", "X-B: c")
    assert (status, out) == (0, b"hello")
    lines = err.split("\n")
    assert lines[0] == "> GET / HTTP/1.1"
    assert "> X-B: c" in lines
    assert "> Authorization: Basic ***" in lines
    assert lines[-6:] == ["< HTTP/1.1 200 Fine", "< X-A: 1", "< X-A: 2", "< Content-Length: 5", "<", ""]


def test_get_redirects_are_followed_only_with_option(capfdbinary: Any) -> None:
    moved = answer(b"gone", "302 Found", "Location: /there")
    with Peer(saying(moved, answer(b"here"))) as peer:
        assert get(capfdbinary, peer.url) == (0, b"gone", "")
    with Peer(saying(moved, answer(b"here"))) as peer:
        assert get(capfdbinary, peer.url, "-L") == (0, b"here", "")
    with Peer(saying(moved, answer(b"here"))) as peer:
        status, out, _ = get(capfdbinary, peer.url, "-L", "-i")
        assert out == moved[:-4] + answer(b"here")
    with Peer(saying(*[moved] * 5)) as peer:
        status, out, err = get(capfdbinary, peer.url, "-L", "--max-redirs", "2")
        assert (status, out) == (1, b"")
        assert "Redirection limit reached (2)" in err
        assert err.count(peer.url) == 1
        assert len(peer.requests) == 3


def test_get_fail_option_makes_status_an_error(server: str, tmp_path: Path, capfdbinary: Any) -> None:
    assert get(capfdbinary, f"{server}/nothing")[:2] == (0, b'{"error": "Not Found"}')
    path = tmp_path / "out"
    status, out, err = get(capfdbinary, f"{server}/nothing", "-f", "-o", path)
    assert (status, out, err) == (1, b"", f"geventhttpclient: {server}/nothing: 404 Not Found\n")
    assert not path.exists()


def test_get_retries_failed_requests(capfdbinary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geventhttpclient.cli.get._RETRY_SECONDS", 0.001)
    busy = answer(b"busy", "503 Service Unavailable")
    with Peer(saying(busy, busy, answer(b"ok"))) as peer:
        assert get(capfdbinary, peer.url, "--retry", "2") == (0, b"ok", "")
    with Peer(saying(busy, answer(b"ok"))) as peer:
        assert get(capfdbinary, peer.url) == (0, b"busy", "")


def test_get_content_coding_is_decoded_only_with_compressed(capfdbinary: Any) -> None:
    packed = gzip.compress(b"hello")
    said = answer(packed, "200 OK", "Content-Encoding: gzip")
    with Peer(saying(said, said)) as peer:
        assert get(capfdbinary, peer.url) == (0, packed, "")
    with Peer(saying(said, said)) as peer:
        assert get(capfdbinary, peer.url, "--compressed") == (0, b"hello", "")
    with Peer(saying(answer(b"no gzip", "200 OK", "Content-Encoding: gzip"))) as peer:
        status, _, err = get(capfdbinary, peer.url, "--compressed")
        assert status == 1
        assert err.count("\n") == 1


def test_get_tls_and_resolve_options_are_used(
    certificates: Any, tls_nginx: Any, tmp_path: Path, capfdbinary: Any
) -> None:
    port = tls_nginx.ports["valid"]
    url = f"https://localhost:{port}/page"
    status, out, err = get(capfdbinary, url)
    assert (status, out) == (1, b"")
    assert "certificate" in err
    assert get(capfdbinary, url, "-k")[0] == 0
    assert get(capfdbinary, url, "--cacert", certificates.ca)[0] == 0
    named = f"https://localhost:{port + 1 if port < 65535 else 1}/page"
    name = named.split("/")[2]
    assert get(capfdbinary, named, "--cacert", certificates.ca, "--resolve", f"{name}:127.0.0.2", "-m", "3")[0] == 1
    assert get(capfdbinary, url, "--cacert", tmp_path / "none")[0] == 2


def test_get_http2_is_used(certificates: Any, http2_nginx: Any, capfdbinary: Any) -> None:
    url = f"https://localhost:{http2_nginx.port}/page"
    status, out, err = get(capfdbinary, url, "--http2", "--cacert", certificates.ca, "-v", "-I", "--timing")
    assert status == 0
    assert out.startswith(b"HTTP/2 200\r\n")
    assert "< HTTP/2 200\n" in err
    assert "HTTP/2, a new connection" in err
    assert "TLS" in err


def test_get_unix_socket_is_used(tmp_path: Path, capfdbinary: Any) -> None:
    path = str(tmp_path / "socket")
    with gevent.socket.socket(gevent.socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(answer(b"by file"))

        greenlet = gevent.spawn(serve)
        assert get(capfdbinary, "http://example.org/", "--unix-socket", path) == (0, b"by file", "")
        greenlet.get()


def test_get_resolve_with_an_address_is_used(capfdbinary: Any) -> None:
    with Peer() as peer:
        address = f"example.org:{peer.port}:127.0.0.1"
        assert get(capfdbinary, f"http://example.org:{peer.port}/x", "--resolve", address) == (0, b"/x", "")
        assert peer.requests[0].get("host") == f"example.org:{peer.port}"


def test_get_timeout_is_reported(capfdbinary: Any) -> None:
    with Peer(Conn.wait_closed) as peer:
        for option in ("-m", "--timeout"):
            status, _, err = get(capfdbinary, peer.url, option, "0.05")
            assert status == 1
            assert "0.05 s" in err
            assert err.count("\n") == 1


def test_get_timing_prints_a_waterfall_on_stderr(server: str, capfdbinary: Any) -> None:
    status, out, err = get(capfdbinary, f"{server}/page", "--timing")
    assert (status, len(out)) == (0, 615)
    lines = err.split("\n")
    assert lines[0] == f"HTTP/1.1, a new connection to {server.removeprefix('http://')}"
    labels = [re.match(r" *(.*?)  ", line + "  ")[1].split(" ")[0] for line in lines[1:-1]]  # type: ignore[index]
    assert labels[-5:] == ["connect", "send", "first", "download", "total"]
    assert re.search(r"total .* [mu]s  \([0-9]+ B sent, [0-9]+ B received\)$", lines[-2])
    assert all("█" in line or "▏" in line or re.search("[▎▍▌▋▊▉]", line) for line in lines[1:-2])


def test_get_credentials_are_never_shown(capfdbinary: Any) -> None:
    status, _, err = get(capfdbinary, "http://me:secret@127.0.0.1:1/", "-v")
    assert status == 1
    assert "secret" not in err
    assert get(capfdbinary, "ftp://me:secret@127.0.0.1/")[0] == 2
    assert "secret" not in capfdbinary.readouterr().err.decode()


# -------------------------------------------------------------------------------------------------------- on a terminal


def test_get_on_a_terminal_indents_json() -> None:
    pytest.importorskip("rich")
    said = answer(JSON.encode(), "200 OK", "Content-Type: application/json; charset=utf-8")
    with Peer(saying(said)) as peer:
        status, seen = cli.on_terminal("get", peer.url, "-i")
    assert status == 0
    assert "\x1b[" in seen
    assert re.sub(r"\x1b\[[0-9;]*m", "", seen).endswith("\n\n" + PRETTY)
    with Peer(saying(said)) as peer:
        assert cli.on_terminal("get", peer.url, env={"NO_COLOR": "1"}) == (0, PRETTY)
    with Peer(saying(said)) as peer:
        assert cli.on_terminal("get", peer.url, "--color", "never") == (0, PRETTY)
    with Peer(saying(said)) as peer:
        assert cli.on_terminal("get", peer.url, "-o", "-") == (0, JSON)


def test_get_on_a_terminal_ends_the_last_line() -> None:
    with Peer(saying(answer(b"text"))) as peer:
        status, seen = cli.on_terminal("get", peer.url, peer.url, "--timing", "--color", "never")
    assert status == 0
    assert seen.count("text\nHTTP/1.1, ") == 2
    with Peer(saying(answer(b"a line\n"))) as peer:
        assert cli.on_terminal("get", peer.url) == (0, "a line\n")
    with Peer(saying(answer(b""))) as peer:
        assert cli.on_terminal("get", peer.url) == (0, "")
    with Peer(saying_then_closing(answer(b"text").replace(b": 4", b": 9"))) as peer:
        status, seen = cli.on_terminal("get", peer.url)
    assert status == 1
    assert seen.startswith("text\ngeventhttpclient: ")


def test_get_on_a_terminal_rejects_binary_without_option() -> None:
    with Peer(saying(answer(b"\x7fELF\0\1"))) as peer:
        status, seen = cli.on_terminal("get", peer.url)
    assert status == 1
    assert "the body is binary" in seen
    assert "ELF" not in seen
    with Peer(saying(answer(b"\x7fELF\0\1"))) as peer:
        assert cli.on_terminal("get", peer.url, "-o", "-") == (0, "\x7fELF\0\1")


def test_get_heads_escape_terminal_controls() -> None:
    pytest.importorskip("rich")
    with Peer(saying(answer(b"", "200 OK", "X-A: \x9b31m"))) as peer:
        status, seen = cli.on_terminal("get", peer.url, "-I", "-v")
    assert status == 0
    assert "\\x9b31m" in seen
    assert "\x9b" not in seen


def test_get_without_rich_is_plain(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('not installed')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    said = answer(JSON.encode(), "200 OK", "Content-Type: application/json")
    with Peer(saying(said)) as peer:
        assert cli.on_terminal("get", peer.url, env={"PYTHONPATH": path}) == (0, PRETTY)
    status, _, err = cli.run("get", "http://127.0.0.1:1/", "--color", "always", env={**os.environ, "PYTHONPATH": path})
    assert status == 2
    assert err == "geventhttpclient: --color always needs rich: pip install 'geventhttpclient[cli]'\n"


# ------------------------------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize("target", ["bytes/1000000000", "stream?every=0.001"])
def test_closed_pipe_ends_it_silently(server: str, target: str) -> None:
    process = cli.start("get", f"{server}/{target}")
    assert len(process.stdout.read(10)) == 10
    process.stdout.close()
    with gevent.Timeout(cli.SECONDS):
        assert process.wait() == 141
        assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("arguments", [["get", "URL"], ["bench", "URL", "-n", "3", "--color", "always"]])
def test_pipe_without_a_reader_ends_it_silently_with_141(server: str, arguments: list[str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        process = cli.start(*(f"{server}/page" if one == "URL" else one for one in arguments), stdout=theirs)
    finally:
        os.close(theirs)
    with gevent.Timeout(cli.SECONDS):
        assert (process.wait(), process.stderr.read()) == (141, b"")
    process.stderr.close()


def test_slow_output_is_written_at_once(server: str) -> None:
    process = cli.start("get", f"{server}/stream?every=0.01")
    with gevent.Timeout(cli.SECONDS):
        assert json.loads(process.stdout.readline())["id"] == 1
        assert json.loads(process.stdout.readline())["id"] == 2
    status, _, err = cli.interrupt(process)
    assert (status, err) == (130, "")


def test_interrupt_ends_a_blocked_write(server: str) -> None:
    """The command is blocked in a write to a full pipe, during which no event loop runs."""
    process = cli.start("get", f"{server}/bytes/1000000000")
    with gevent.Timeout(cli.SECONDS):
        assert process.stdout.read(1)
        assert process.poll() is None
        process.send_signal(2)
        assert process.wait() == 130
        assert process.stderr.read() == b""
    process.stdout.close()
    process.stderr.close()


def test_interrupt_just_before_a_blocking_write_is_raised_there() -> None:
    """Left to the loop's next callback, it would wait for as long as the write blocks."""
    raised: list[BaseException] = []

    def write() -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            with interrupt.blocking():
                pass
        except KeyboardInterrupt as e:
            raised.append(e)

    with interrupt.interruptible():
        gevent.spawn(write).join()
        # It is raised once.
        gevent.sleep(0)
    assert len(raised) == 1


def test_get_to_full_disk_is_reported(server: str, capfdbinary: Any) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    status, _, err = get(capfdbinary, f"{server}/page", "-o", "/dev/full")
    assert (status, err) == (3, "geventhttpclient: /dev/full: No space left on device\n")
    status, _, err = get(capfdbinary, f"{server}/page", "-o", "/no/such/place")
    assert (status, err) == (3, "geventhttpclient: /no/such/place: No such file or directory\n")


def test_command_prints_version_and_help(capfdbinary: Any) -> None:
    assert main(["--version"]) == 0
    assert capfdbinary.readouterr().out.decode() == f"geventhttpclient {geventhttpclient.__version__}\n"
    for arguments in (["--help"], ["get", "--help"], ["download", "--help"], ["bench", "--help"]):
        assert main(arguments) == 0
        out = capfdbinary.readouterr().out.decode()
        assert "exit status:" in out
        assert "130" in out
    assert main([]) == 2
    out, err = capfdbinary.readouterr()
    assert out == b""
    assert b"\ncommands:\n" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing://x"],
        ["http://127.0.0.1:1/", "-F", "x"],
        ["http://127.0.0.1:1/", "-F", "x=1", "-d", "y"],
        ["http://127.0.0.1:1/", "-I", "-d", "y"],
        ["http://127.0.0.1:1/", "-d", "@-", "-d", "@-"],
        ["http://127.0.0.1:1/", "--retry", "-1"],
        ["http://127.0.0.1:1/", "--nonsense"],
        ["http://127.0.0.1:1/", "-k", "--cacert", "x"],
        ["http://127.0.0.1:1/", "-H", "Bad Name: x"],
        ["http://127.0.0.1:1/", "-H", "X: a\nb: c"],
        ["http://127.0.0.1:1/", "-X", "G T"],
    ],
)
def test_invalid_usage_is_reported_in_one_line(arguments: list[str], capfdbinary: Any) -> None:
    status, out, err = get(capfdbinary, *arguments)
    assert (status, out, err.count("\n")) == (2, b"", 1)


def test_package_does_not_import_the_command() -> None:
    names = "[n for n in sys.modules if n.startswith(('geventhttpclient.cli.', 'rich', 'argparse'))]"
    program = f"import sys, geventhttpclient; print({names})"
    found = blocking.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=cli.SECONDS)
    assert found.stdout == b"[]\n"


# ---------------------------------------------------------------------------------------------------------------- JSON


def pretty(*pieces: bytes) -> tuple[str, bytes]:
    text, shown, rest = JSONText(), "", b""
    for piece in pieces:
        more, raw = text.feed(piece)
        shown, rest = shown + more, rest + raw
    more, raw = text.finish()
    return shown + more, rest + raw


def test_json_is_indented_without_other_changes() -> None:
    assert indented(JSON) + "\n" == PRETTY
    odd = '{"a":1e400,"a":"\\u00e9\\"]","é":-0.10}'
    assert json.dumps(indented(odd)).replace("\\n", "").replace(" ", "") == json.dumps(odd)
    assert pretty(JSON.encode()) == (PRETTY, b"")
    assert pretty(*(bytes([byte]) for byte in JSON.encode())) == (PRETTY, b"")
    assert pretty(b"12", b"34") == ("1234\n", b"")
    assert pretty(b'{"a":1}\n{"a"', b":2}\n") == ('{\n  "a": 1\n}\n{\n  "a": 2\n}\n', b"")


@pytest.mark.parametrize(
    "body", [b"", b"no json", b'{"a": ', b"\xff\xfe", b'{"a": "\xc3', b"[" * 100_000, b"x" * (2 * MOST)]
)
def test_output_that_is_no_json_is_unchanged(body: bytes) -> None:
    assert pretty(body) == ("", body)
    half = len(body) // 2
    assert pretty(body[:half], body[half:]) == ("", body)
