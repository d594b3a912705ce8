"""`geventhttpclient download`: complete files, resumed parts, and untrustworthy servers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import pytest

from geventhttpclient.cli import filename, main
from geventhttpclient.cli.part import Range
from geventhttpclient.cli.ranges import split
from geventhttpclient.cli.tasks import together
from tests.conftest import Nginx
from tests.support import cli
from tests.support.peer import Conn, Peer, Request
from tests.support.scripted import answer, saying

pytestmark = pytest.mark.usefixtures("bounded")

CONTENT = random.Random(8).randbytes(1 << 20)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the pause before a retry."""
    monkeypatch.setattr("geventhttpclient.cli.download._DELAY", 0.001)


@pytest.fixture
def big(nginx: Nginx) -> str:
    (nginx.root / "big.bin").write_bytes(CONTENT)
    return f"{nginx.url}/big.bin"


def download(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Runs the command. Returns its exit status and stderr; stdout must be empty."""
    status = main(["download", *map(str, arguments)])
    out, err = capfd.readouterr()
    assert out == ""
    return status, err


@dataclass
class Origin:
    """A server of one file with ranges and validators, whose connections end after `cut_after` bytes of a body, `cuts`
    times."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    last_modified: str | None = None
    has_ranges: bool = True
    cut_after: int = 0
    cuts: int = 0
    ranges: list[str | None] = field(default_factory=list)

    def __call__(self, conn: Conn) -> None:
        while request := conn.read_request():
            self.ranges.append(request.get("range"))
            if not self.reply(conn, request):
                return

    def reply(self, conn: Conn, request: Request) -> bool:
        status, lines, body = "200 OK", [], self.content
        asked = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", request.get("range") or "")
        condition = request.get("if-range")
        if self.has_ranges and asked and condition in (None, self.etag, self.last_modified):
            first = int(asked[1])
            if first >= len(self.content):
                conn.send(answer(b"", "416 Range Not Satisfiable", f"Content-Range: bytes */{len(self.content)}"))
                return True
            last = min(int(asked[2] or len(self.content)), len(self.content) - 1)
            status, body = "206 Partial Content", self.content[first : last + 1]
            lines.append(f"Content-Range: bytes {first}-{last}/{len(self.content)}")
        lines += [f"ETag: {self.etag}"] if self.etag else []
        lines += [f"Last-Modified: {self.last_modified}"] if self.last_modified else []
        whole = answer(body, status, *lines)
        if self.cuts and len(body) > self.cut_after:
            self.cuts -= 1
            conn.send(whole[: len(whole) - len(body) + self.cut_after])
            return False
        conn.send(whole)
        return True


def left(directory: Path) -> dict[str, int]:
    """Returns the files in a directory with their sizes, except for notes."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != "note.json"]
    return {str(path.relative_to(directory)): path.stat().st_size for path in files}


def data_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.part") / "data"


def note_of(path: Path) -> Path:
    return data_of(path).with_name("note.json")


# ------------------------------------------------------------------------------------------------------ complete files


@pytest.mark.parametrize("options", [[], ["--parallel", "4"], ["--resume"], ["--limit-rate", "100M"]])
def test_download_file_equals_the_original(big: str, options: list[str], tmp_path: Path, capfd: Any) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    status, err = download(capfd, big, "-O", tmp_path, "--checksum", f"sha256:{digest.upper()}", *options)
    assert status == 0
    assert re.fullmatch(rf"{tmp_path}/big.bin: 1\.0 MiB in [0-9.]+ s, .* [KMG]iB/s\n", err)
    assert left(tmp_path) == {"big.bin": len(CONTENT)}
    assert (tmp_path / "big.bin").read_bytes() == CONTENT


def test_download_parallel_ranges_cover_the_file_once(tmp_path: Path, capfd: Any) -> None:
    origin = Origin()
    with Peer(origin) as peer:
        assert download(capfd, peer.url + "/f", "-O", tmp_path, "--parallel", "4", "--no-progress") == (0, "")
        assert len(peer.conns) <= 4
    quarter = len(CONTENT) // 4
    wanted = [f"bytes={n * quarter}-{(n + 1) * quarter - 1}" for n in range(4)]
    assert origin.ranges[0] == "bytes=0-0"
    assert sorted(origin.ranges[1:], key=str) == sorted(wanted)
    assert {request.get("if-range") for request in peer.requests[1:]} == {'"one"'}
    assert {request.get("accept-encoding") for request in peer.requests} == {"identity"}
    assert (tmp_path / "f").read_bytes() == CONTENT


PLAIN = [{"has_ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}, {"content": b""}, {"content": b"x"}]


@pytest.mark.parametrize("origin", [Origin(**options) for options in PLAIN], ids=map(str, PLAIN))
def test_server_without_ranges_sends_one_body(origin: Origin, tmp_path: Path, capfd: Any) -> None:
    with Peer(origin) as peer:
        assert download(capfd, peer.url + "/f", "-O", tmp_path, "--parallel", "4", "--no-progress") == (0, "")
    assert (tmp_path / "f").read_bytes() == origin.content
    assert left(tmp_path).keys() == {"f"}


def test_download_of_unknown_length_is_complete(tmp_path: Path, capfd: Any) -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    with Peer(saying(said)) as peer:
        assert download(capfd, peer.url + "/f", "-O", tmp_path, "--no-progress") == (0, "")
    assert (tmp_path / "f").read_bytes() == b"hello"


def test_download_redirect_to_same_origin_keeps_credentials(tmp_path: Path, capfd: Any) -> None:
    with Peer(saying(answer(b"", "302 Found", "Location: /real.txt"), answer(b"x"))) as peer:
        assert download(capfd, peer.url + "/f", "-O", tmp_path, "-u", "me:secret", "-H", "X-A: b")[0] == 0
    assert (tmp_path / "real.txt").read_bytes() == b"x"
    assert [request.get("authorization") for request in peer.requests] == ["Basic bWU6c2VjcmV0"] * 2
    assert peer.requests[0].get("x-a") == "b"


def test_download_several_urls_writes_several_files(tmp_path: Path, capfd: Any) -> None:
    with Peer() as peer:
        urls = [f"{peer.url}/a", "http://127.0.0.1:1/b", f"{peer.url}/c"]
        status, err = download(capfd, *urls, "-O", tmp_path, "--no-progress")
    assert (status, err.count("\n")) == (1, 1)
    assert left(tmp_path).keys() == {"a", "c"}


def test_download_rate_is_limited(tmp_path: Path, capfd: Any) -> None:
    with Peer(Origin(content=bytes(40_000))) as peer:
        begin = gevent.get_hub().loop.now()
        options = ["-O", tmp_path, "--limit-rate", "100k", "--parallel", "2", "--no-progress"]
        assert download(capfd, peer.url + "/f", *options) == (0, "")
        gevent.sleep(0)
        # The last piece is written before the pause for it.
        assert gevent.get_hub().loop.now() - begin > 0.3


# -------------------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("options", [[], ["--parallel", "3"]])
def test_broken_download_is_resumed(options: list[str], tmp_path: Path, capfd: Any) -> None:
    origin = Origin(cut_after=100_000, cuts=5)
    with Peer(origin) as peer:
        assert download(capfd, peer.url + "/f", "-O", tmp_path, "--no-progress", *options) == (0, "")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert left(tmp_path).keys() == {"f"}


def test_download_repeated_failures_leave_the_part(tmp_path: Path, capfd: Any) -> None:
    origin = Origin(cut_after=0, cuts=1000)
    with Peer(origin) as peer:
        status, err = download(capfd, peer.url + "/f", "-O", tmp_path, "--retry", "2")
    assert (status, err.count("\n")) == (1, 1)
    assert len(origin.ranges) == 3
    assert "f" not in left(tmp_path)


def test_download_without_validator_restarts(tmp_path: Path, capfd: Any) -> None:
    origin = Origin(etag=None, cut_after=1000, cuts=2)
    with Peer(origin) as peer:
        status, err = download(capfd, peer.url + "/f", "-O", tmp_path, "--no-progress")
    assert status == 0
    assert err.count("starting over") == 2
    assert origin.ranges == [None, None, None]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_download_is_retried_only_for_busy_servers(tmp_path: Path, capfd: Any) -> None:
    with Peer(saying(answer(b"", "503 Service Unavailable"), answer(b"x"))) as peer:
        assert download(capfd, peer.url + "/f", "-O", tmp_path, "--no-progress") == (0, "")
    with Peer(saying(answer(b"", "404 Not Found"))) as peer:
        status, err = download(capfd, peer.url + "/g", "-O", tmp_path)
        assert (status, err) == (1, f"geventhttpclient: {peer.url}/g: 404 Not Found\n")
    assert left(tmp_path).keys() == {"f"}


def give_up_in_the_middle(origin: Origin, path: Path, capfd: Any, *options: str) -> tuple[Peer, dict[str, Any]]:
    """Leaves a part of about 300,000 bytes, from a server whose connections all end after that."""
    with Peer(origin) as peer:
        status, _ = download(capfd, peer.url + "/f", "-o", path, "--retry", "0", *options)
    assert status == 1
    return peer, json.loads(note_of(path).read_bytes())


def again(port: int, origin: Origin, path: Path, capfd: Any, *options: str) -> tuple[int, str]:
    with Peer(origin, port=port) as peer:
        return download(capfd, peer.url + "/f", "-o", path, "--resume", "--no-progress", *options)


@pytest.mark.parametrize("validators", [{}, {"etag": None, "last_modified": "Mon, 23 Nov 2020 10:00:00 GMT"}])
def test_download_part_is_resumed(validators: dict[str, Any], tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "f"
    peer, note = give_up_in_the_middle(Origin(cut_after=300_000, cuts=1, **validators), path, capfd)
    assert note["missing"] == [[300_000, len(CONTENT)]]
    assert not path.exists()
    origin = Origin(**validators)
    assert again(peer.port, origin, path, capfd) == (0, "")
    assert origin.ranges == ["bytes=0-0", f"bytes=300000-{len(CONTENT) - 1}"]
    assert path.read_bytes() == CONTENT
    assert left(tmp_path).keys() == {"f"}


def test_bytes_of_a_resumed_part_are_not_counted_as_fetched(tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "f"
    peer, _ = give_up_in_the_middle(Origin(cut_after=len(CONTENT) - 1000, cuts=1), path, capfd)
    with Peer(Origin(), port=peer.port) as other:
        status, err = download(capfd, other.url + "/f", "-o", path, "--resume")
    assert status == 0
    assert "iB, 1000 B of it in " in err


def test_download_part_of_ranges_is_resumed_with_any_number_of_ranges(tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "f"
    broken = Origin(cut_after=50_000, cuts=100)
    peer, note = give_up_in_the_middle(broken, path, capfd, "--parallel", "4")
    there = len(CONTENT) - sum(end - start for start, end in note["missing"])
    assert there >= 50_000
    origin = Origin()
    assert again(peer.port, origin, path, capfd, "--parallel", "2") == (0, "")
    asked = [re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", one or "") for one in origin.ranges[1:]]
    assert sum(int(one[2]) + 1 - int(one[1]) for one in asked if one) == len(CONTENT) - there
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("origin", "word"),
    [
        (Origin(content=CONTENT[::-1], etag='"two"'), "the file has changed"),
        (Origin(content=CONTENT[:-1], etag='"one"'), "the file has changed"),
        (Origin(has_ranges=False), "the server does not support resuming"),
        (Origin(etag=None), "the server does not support resuming"),
    ],
)
def test_download_that_cannot_be_resumed_restarts_with_a_message(
    origin: Origin, word: str, tmp_path: Path, capfd: Any
) -> None:
    path = tmp_path / "f"
    peer, _ = give_up_in_the_middle(Origin(cut_after=300_000, cuts=1), path, capfd)
    status, err = again(peer.port, origin, path, capfd)
    assert status == 0
    assert word in err
    assert err.endswith("starting over\n")
    assert path.read_bytes() == origin.content


def test_download_changed_between_ranges_restarts(tmp_path: Path, capfd: Any) -> None:
    """The response to the probe has one version of the file, all later responses have another."""

    class Changing(Origin):
        def reply(self, conn: Conn, request: Request) -> bool:
            if len(self.ranges) == 2:
                self.content, self.etag = CONTENT[::-1], '"two"'
            return super().reply(conn, request)

    with Peer(Changing()) as peer:
        status, err = download(capfd, peer.url + "/f", "-O", tmp_path, "--parallel", "3", "--no-progress")
    assert status == 0
    assert "the file has changed on the server" in err
    assert (tmp_path / "f").read_bytes() == CONTENT[::-1]


def test_download_truncated_part_restarts(tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "f"
    peer, _ = give_up_in_the_middle(Origin(cut_after=300_000, cuts=1), path, capfd)
    os.truncate(data_of(path), 1000)
    assert again(peer.port, Origin(), path, capfd)[0] == 0
    assert path.read_bytes() == CONTENT


# ------------------------------------------------------------------------------------- servers that send wrong ranges


def lying(change: Any) -> Origin:
    """Returns a server that responds correctly to the request for the first byte, and applies `change` to its later
    responses."""

    class Lying(Origin):
        def reply(self, conn: Conn, request: Request) -> bool:
            if request.get("range") == "bytes=0-0":
                return super().reply(conn, request)
            first, last = map(int, (request.get("range") or "")[6:].split("-"))
            conn.send(change(first, last))
            return True

    return Lying()


def part_of(first: int, last: int, said: str, tag: str = "one") -> bytes:
    lines = [f"Content-Range: {said}", f'ETag: "{tag}"']
    return answer(CONTENT[first : last + 1], "206 Partial Content", *lines)


SIZE = len(CONTENT)


def chunked_part(first: int, last: int, body: bytes) -> bytes:
    head = f'HTTP/1.1 206 P\r\nContent-Range: bytes {first}-{last}/{SIZE}\r\nETag: "one"\r\n'
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"


# The responses to a request for a range, and the error message for each.
LIES = {
    "another range": (lambda a, z: part_of(a, z, f"bytes {a + 1}-{z + 1}/{SIZE + 9}"), "was asked for bytes="),
    "the beginning": (lambda a, z: part_of(0, z, f"bytes 0-{z}/{SIZE}"), "was asked for bytes="),
    "a longer range": (lambda a, z: part_of(a, z + 1, f"bytes {a}-{z + 1}/{SIZE + 9}"), "was asked for bytes="),
    "another length": (lambda a, z: part_of(a, z, f"bytes {a}-{z}/{SIZE + 1}"), "but said"),
    "no Content-Range": (lambda a, z: answer(CONTENT[a : z + 1], "206 Partial Content"), "does not say which bytes"),
    "several ranges": (lambda a, z: answer(b"--x", "206 P", "Content-Type: multipart/byteranges"), "does not say"),
    "no number": (lambda a, z: part_of(a, z, f"bytes {a}-x/{SIZE}"), "does not say which bytes"),
    "backwards": (lambda a, z: part_of(a, z, f"bytes {z}-{a}/{SIZE}"), "an impossible range"),
    "another version": (lambda a, z: part_of(a, z, f"bytes {a}-{z}/{SIZE}", tag="two"), "another version"),
    "a shorter body": (lambda a, z: part_of(a, z - 1, f"bytes {a}-{z}/{SIZE}"), "206 promises"),
    "a longer body": (lambda a, z: chunked_part(a, z, bytes(z - a + 2)), "more than it promised"),
    "no body": (lambda a, z: chunked_part(a, z, b""), "bytes too early"),
}


@pytest.mark.parametrize("lie", LIES)
def test_download_wrong_206_is_an_error(lie: str, tmp_path: Path, capfd: Any) -> None:
    change, word = LIES[lie]
    with Peer(lying(change)) as peer:
        status, err = download(capfd, peer.url + "/f", "-O", tmp_path, "--parallel", "3", "--no-progress")
    assert (status, err.count("\n")) == (1, 1)
    assert word in err
    assert "f" not in left(tmp_path)


def test_download_206_with_a_shorter_range_is_accepted(tmp_path: Path, capfd: Any) -> None:
    def less(first: int, last: int) -> bytes:
        last = min(last, first + 99_999)
        return part_of(first, last, f"bytes {first}-{last}/*")

    with Peer(lying(less)) as peer:
        assert download(capfd, peer.url + "/f", "-O", tmp_path, "--parallel", "2", "--no-progress") == (0, "")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_unrequested_206_is_an_error(tmp_path: Path, capfd: Any) -> None:
    with Peer(saying(part_of(0, 9, f"bytes 0-9/{SIZE}"))) as peer:
        status, _ = download(capfd, peer.url + "/f", "-O", tmp_path)
    assert status == 1
    assert left(tmp_path) == {}


# ----------------------------------------------------------------------------------------------------- checksums, files


def test_download_wrong_checksum_leaves_the_part(big: str, tmp_path: Path, capfd: Any) -> None:
    status, err = download(capfd, big, "-O", tmp_path, "--checksum", f"sha256:{'0' * 64}", "--resume")
    assert status == 4
    assert hashlib.sha256(CONTENT).hexdigest() in err
    assert left(tmp_path) == {".big.bin.part/data": len(CONTENT)}


def test_download_replaces_existing_file_only_if_told(big: str, tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(b"mine")
    status, err = download(capfd, big, "-O", tmp_path)
    assert (status, path.read_bytes()) == (3, b"mine")
    assert err == f"geventhttpclient: {path} already exists: name a file with -o, or use --overwrite\n"
    for option in (["-o", path], ["-O", tmp_path, "--overwrite"]):
        path.write_bytes(b"mine")
        assert download(capfd, big, *option)[0] == 0
        assert path.read_bytes() == CONTENT


def test_download_to_unwritable_place_is_reported(big: str, tmp_path: Path, capfd: Any) -> None:
    status, err = download(capfd, big, "-O", tmp_path / "none")
    assert (status, err) == (3, f"geventhttpclient: {tmp_path}/none/.big.bin.part: No such file or directory\n")
    status, err = download(capfd, big, "-o", tmp_path)
    assert (status, err.count("\n")) == (3, 1)


def test_download_to_full_disk_is_reported(big: str, tmp_path: Path) -> None:
    """A limit of the size of files has the same effect as a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    status, out, err = cli.run("download", big, "-O", tmp_path, preexec_fn=limit)
    assert (status, out) == (3, b"")
    assert err == f"geventhttpclient: {tmp_path}/.big.bin.part/data: File too large\n"
    assert left(tmp_path)[".big.bin.part/data"] == 300_000


def test_download_interrupt_keeps_the_part(tmp_path: Path, capfd: Any) -> None:
    origin = Origin()
    with Peer(origin) as peer:
        url, path = peer.url + "/f", tmp_path / "f"
        process = cli.start("download", url, "-o", path, "--limit-rate", "200k", "--parallel", "2")
        part = data_of(path)
        with gevent.Timeout(cli.SECONDS):
            while not (part.exists() and part.stat().st_size > SIZE // 2):
                gevent.sleep(0.005)
        status, out, err = cli.interrupt(process)
        assert (status, out) == (130, b"")
        assert re.search(r"interrupted; .* are in .*/\.f\.part/data: continue with --resume\n$", err)
        assert not path.exists()
        origin.ranges.clear()
        assert download(capfd, url, "-o", path, "--resume", "--no-progress") == (0, "")
        assert "bytes=0-0" in origin.ranges
        assert f"bytes=0-{SIZE - 1}" not in origin.ranges
    assert path.read_bytes() == CONTENT


def test_download_on_a_terminal_shows_a_bar(big: str, tmp_path: Path) -> None:
    pytest.importorskip("rich")
    status, seen = cli.on_terminal("download", big, "-O", tmp_path, "--limit-rate", "3M")
    assert status == 0
    assert "big.bin" in seen
    assert re.search(r"[0-9.]+/1\.0 MiB", seen)
    assert re.search(r"[0-9.]+ [KM]iB/s", seen)


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://127.0.0.1:1/", "--checksum", "sha256:12"],
        ["http://127.0.0.1:1/", "--checksum", "nothing:12"],
        ["http://127.0.0.1:1/", "http://127.0.0.1:1/", "-o", "x"],
        ["http://127.0.0.1:1/", "-o", "-"],
        ["http://127.0.0.1:1/", "-o", "x", "-O", "y"],
        ["http://127.0.0.1:1/", "--limit-rate", "0"],
        ["http://127.0.0.1:1/", "--parallel", "0"],
        ["nothing://x"],
    ],
)
def test_invalid_usage_is_reported_in_one_line(arguments: list[str], capfd: Any) -> None:
    status, err = download(capfd, *arguments)
    assert (status, err.count("\n")) == (2, 1)


# ------------------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("field", "path", "name"),
    [
        (None, "/a/b.txt", "b.txt"),
        (None, "/a/b%20c.txt", "b c.txt"),
        (None, "/a/", "download"),
        (None, "", "download"),
        (None, "/..", "download"),
        (None, "/a/..%2f..%2fetc%2fpasswd", "passwd"),
        ("attachment", "/b.txt", "b.txt"),
        ("attachment; filename=plain.txt", "/x", "plain.txt"),
        ('attachment; filename="a \\"b\\".txt"', "/x", "a _b_.txt"),
        ('attachment; filename="a;b.txt"', "/x", "a;b.txt"),
        ("attachment; FileName = x.bin ; size=3", "/x", "x.bin"),
        ("attachment; filename=\"a.txt\"; filename*=UTF-8''%e2%82%ac%20rates.txt", "/x", "\u20ac rates.txt"),
        ("attachment; filename*=iso-8859-1'en'%a3%20rates.txt", "/x", "\u00a3 rates.txt"),
        ("attachment; filename*=utf-8''%ff; filename=a.txt", "/x", "a.txt"),
        ("attachment; filename*=klingon''x; filename=a.txt", "/x", "a.txt"),
        ('attachment; filename="\u00c3\u00a9.txt"', "/x", "\u00e9.txt"),
        ('attachment; filename="../../.bashrc"', "/x", "bashrc"),
        ('attachment; filename="/etc/passwd"', "/x", "passwd"),
        ('attachment; filename="C:\\\\Windows\\\\x.dll"', "/x", "x.dll"),
        ('attachment; filename=".."', "/x", "x"),
        ('attachment; filename="."', "/", "download"),
        ('attachment; filename=" . "', "/x", "x"),
        ('attachment; filename=""', "/x", "x"),
        ('attachment; filename="a\x00b\x1b[1mc.txt"', "/x", "a_b_[1mc.txt"),
        ("attachment; filename*=UTF-8''a%00%2f..%2fb%0a", "/x", "b_"),
        ("attachment; filename*=UTF-8''photo%e2%80%aegpj.exe", "/x", "photo_gpj.exe"),
        ('attachment; filename="-rf"', "/x", "_rf"),
    ],
)
def test_filename_of_the_server_is_made_safe(field: str | None, path: str, name: str) -> None:
    assert filename.choose(field, path) == name


def test_filename_too_long_keeps_its_extension() -> None:
    name = filename.choose(None, "/" + "\u00e9" * 300 + ".tar")
    assert name.endswith("\u00e9.tar")
    assert len(name.encode()) <= 200


def test_download_part_is_resumed_under_the_name_of_the_server(tmp_path: Path, capfd: Any) -> None:
    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.send(answer(b"x", "200 OK", 'Content-Disposition: attachment; filename="../up.txt"'))

    with Peer(script) as peer:
        assert download(capfd, peer.url + "/f", "-O", tmp_path / ".", "--resume", "--no-progress") == (0, "")
    assert left(tmp_path) == {"up.txt": 1}


def test_group_first_failure_kills_the_others() -> None:
    ended: list[str] = []

    def wait() -> None:
        try:
            gevent.sleep(60)
        finally:
            ended.append("waited")

    def fail() -> None:
        gevent.sleep(0)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        together([wait, fail, wait])
    assert ended == ["waited", "waited"]


def test_missing_ranges_are_split_among_connections() -> None:
    def edges(missing: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
        found = split([Range(*one) for one in missing], count)
        return [(one.position, one.end or 0) for one in found]

    kib = 1024
    assert edges([(0, 400 * kib)], 4) == [(n * 100 * kib, (n + 1) * 100 * kib) for n in range(4)]
    assert edges([(0, 100)], 4) == [(0, 100)]
    assert edges([(5, 5), (10, 20)], 1) == [(10, 20)]
    assert edges([], 3) == []
    uneven = edges([(0, 70 * kib), (100 * kib, 400 * kib)], 3)
    assert len(uneven) == 3
    assert sum(end - start for start, end in uneven) == 370 * kib
