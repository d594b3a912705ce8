"""Output from a server cannot control the terminal, with colours or without."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from geventhttpclient.cli import main
from geventhttpclient.cli.printable import PrintableBody, encoded, json_escape, printable
from tests.support import cli
from tests.support.peer import Conn, Peer
from tests.support.scripted import answer, saying

pytestmark = pytest.mark.usefixtures("bounded")

# Without colours, with them, and without rich.
WAYS = ["NO_COLOR", "colours", "no rich"]

C1 = [chr(code) for code in range(0x80, 0xA0)]


def environment(way: str, tmp_path: Path) -> dict[str, str]:
    if way != "no rich":
        return {"NO_COLOR": "1"} if way == "NO_COLOR" else {}
    (tmp_path / "rich.py").write_text("raise ImportError('not installed')")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}


def assert_harmless(seen: str) -> None:
    assert not set(seen) & {*C1, "\x7f", "\u202e", "\u2028", "\u2066"}
    assert "\x1b]" not in seen


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("option", ["-I", "-i", "-v"])
def test_get_heads_on_a_terminal_are_escaped(option: str, way: str, tmp_path: Path) -> None:
    said = answer(b"", "200 \x9b31mOK", "X-A: \x9b31m\x85", "X-B: \xe2\x80\xae")
    with Peer(saying(said)) as peer:
        status, seen = cli.on_terminal("get", peer.url, option, env=environment(way, tmp_path))
    assert status == 0
    assert "\\x9b31m\\x85" in seen
    assert_harmless(seen)


def test_get_heads_in_a_terminal_and_a_raw_body_are_escaped() -> None:
    with Peer(saying(answer(b"\xc2\x9b", "200 OK", "X-A: \x9b31m"))) as peer:
        status, seen = cli.on_terminal("get", peer.url, "-i", "-o", "-")
    assert status == 0
    assert "X-A: \\x9b31m" in seen
    assert seen.endswith("\n\x9b")


def test_get_verbose_heads_in_a_pipe_are_escaped() -> None:
    with Peer(saying(answer(b"\x9b", "200 OK", "X-A: \x9b31m"))) as peer:
        status, out, err = cli.run("get", peer.url, "-v")
    assert (status, out) == (0, b"\x9b")
    assert "X-A: \\x9b31m" in err
    assert_harmless(err)


def test_get_head_and_body_in_a_pipe_are_the_bytes() -> None:
    with Peer(saying(answer(b"\x9b\x1b]", "200 OK", "X-A: \x9b31m"))) as peer:
        status, out, _ = cli.run("get", peer.url, "-i")
    assert status == 0
    assert b"X-A: \x9b31m\r\n" in out
    assert out.endswith(b"\r\n\r\n\x9b\x1b]")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
def test_get_body_on_a_terminal_is_escaped(kind: str, way: str, tmp_path: Path) -> None:
    body = "a\x1b]0;title\x07\u009b31m\u202e\u2028\x7f\u00e9\n".encode() + b"\xff\n"
    with Peer(saying(answer(body, "200 OK", f"Content-Type: {kind}"))) as peer:
        status, seen = cli.on_terminal("get", peer.url, env=environment(way, tmp_path))
    assert (status, seen) == (0, "a\\x1b]0;title\\x07\\x9b31m\\u202e\\u2028\\x7f\u00e9\n\\xff\n")


@pytest.mark.parametrize("way", WAYS)
def test_get_json_on_a_terminal_has_json_escapes(way: str, tmp_path: Path) -> None:
    body = '["\u009b31m\u202e\u2028\x7f\U000e0001", "\\u009b"]'.encode()
    with Peer(saying(answer(body, "200 OK", "Content-Type: application/json"))) as peer:
        status, seen = cli.on_terminal("get", peer.url, env=environment(way, tmp_path))
    assert status == 0
    assert '"\\u009b31m\\u202e\\u2028\\u007f\\udb40\\udc01"' in seen
    assert '"\\u009b"' in seen
    assert_harmless(seen)


def test_get_reason_in_an_error_is_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    with Peer(saying(answer(b"", "404 \x9b31m\x85"))) as peer:
        assert main(["get", "-f", peer.url]) == 1
    err = capfd.readouterr().err
    assert "404 \\x9b31m" in err
    assert_harmless(err)


@pytest.mark.parametrize("location", ["ftp:\x9b31m", "http://\xc2\x9b31m/", "x\x9b:y"])
def test_get_location_in_an_error_is_escaped(location: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Peer(saying(answer(b"", "302 Found", f"Location: {location}"), answer())) as peer:
        main(["get", "-L", peer.url])
    assert_harmless(capfd.readouterr().err)


@pytest.mark.parametrize("way", WAYS)
def test_download_name_on_a_terminal_is_escaped(way: str, tmp_path: Path) -> None:
    name = "a%C2%9B31m%E2%80%A8%E2%80%AE%EF%BB%BFb%7F"
    directory = tmp_path / "there"
    directory.mkdir()

    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.send(answer(b"x", "200 OK", f"Content-Disposition: attachment; filename*=UTF-8''{name}"))

    with Peer(script) as peer:
        for wanted in (0, 3):
            status, seen = cli.on_terminal(
                "download",
                peer.url,
                "-O",
                directory,
                "--progress" if way != "no rich" else "--no-progress",
                env=environment(way, tmp_path),
            )
            assert status == wanted
            assert_harmless(seen)


def test_bench_error_example_is_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    with Peer(saying(b"HTTP/1.1 200 OK\r\nX\x9b31m\xc2\x9b: 1\r\n\r\n")) as peer:
        main(["bench", "-n", "1", "-c", "1", "--no-progress", peer.url])
    captured = capfd.readouterr()
    assert_harmless(captured.out + captured.err)


def test_main_warning_is_escaped(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def warn(options: object) -> int:
        warnings.simplefilter("always")
        warnings.warn("a\x9b31m", stacklevel=1)
        return 0

    monkeypatch.setattr("geventhttpclient.cli.get.run", warn)
    assert main(["get", "http://127.0.0.1:1/"]) == 0
    assert capfd.readouterr().err == "geventhttpclient: warning: a\\x9b31m\n"


def test_printable_escapes_control_characters_and_keeps_text() -> None:
    kept = "\t ~\u00e9\u00a0\u3000\u200d\u4e2d\U0001f600"
    assert printable(kept) == kept
    for character in [*map(chr, range(9)), "\n", "\x1b", "\x7f", *C1, "\u202e", "\u2066", "\u2029", "\ufeff", "\ud800"]:
        assert printable(character).isascii()
        assert printable(character).startswith("\\")
    assert printable("\u009b\U000e0001", json_escape) == "\\u009b\\udb40\\udc01"


def test_printable_body_in_any_pieces_is_the_same() -> None:
    body = "\u009b\u4e2d\x1b\U0001f600\r\n".encode() + b"\x9b\xe4\xb8"
    for size in range(1, len(body) + 1):
        shown = PrintableBody()
        pieces: list[Any] = [shown.feed(body[at : at + size]) for at in range(0, len(body), size)]
        seen = b"".join([*pieces, shown.feed(b"", is_last=True)])
        assert seen == "\\x9b\u4e2d\\x1b\U0001f600\r\n\\x9b\\xe4\\xb8".encode()


@pytest.mark.parametrize(
    ("kind", "seen_as"), [("text/plain", '["\\xdb31m\\u203a"]'), ("application/json", '"\\u00db31m\\u203a"')]
)
def test_get_body_on_a_terminal_that_is_not_utf8_has_no_bytes_of_utf8(kind: str, seen_as: str) -> None:
    """In UTF-8 the letter is C3 9B, and 9B is CSI on a terminal of 8 bits."""
    said = answer('["\u00db31m\u203a"]'.encode(), "200 OK", f"Content-Type: {kind}", "X-A: \xdb31m")
    with Peer(saying(said)) as peer:
        status, seen = cli.on_terminal("get", peer.url, "-i", env={"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"})
    assert status == 0
    assert "X-A: \\xdb31m" in seen
    assert seen_as in seen
    assert seen.isascii()


def test_encoded_text_has_escapes_for_characters_that_the_encoding_lacks() -> None:
    assert encoded("\u00db\u203a\U0001f600", "latin-1") == b"\xdb\\u203a\\U0001f600"
    assert encoded("\u00db\U0001f600", "ascii", json_escape) == b"\\u00db\\ud83d\\ude00"
    shown = PrintableBody("latin-1")
    assert shown.feed("\u00db31m\u009b\u203a".encode(), is_last=True) == b"\xdb31m\\x9b\\u203a"
