"""`download` never writes to a file that it did not create, nor combines bytes of two versions."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from geventhttpclient.cli import download as downloading
from geventhttpclient.cli import filename, main, renaming
from geventhttpclient.cli.device import Device, is_device
from geventhttpclient.cli.failure import Failure
from geventhttpclient.cli.part import MAX_NOTE_BYTES, MAX_RANGES, Part, Validator
from geventhttpclient.cli.printable import printable
from geventhttpclient.requests import Session
from tests.cli.test_download import (
    CONTENT,
    SIZE,
    Origin,
    again,
    data_of,
    download,
    give_up_in_the_middle,
    left,
    note_of,
    part_of,
)
from tests.support import cli
from tests.support.peer import Conn, Peer, Request
from tests.support.scripted import answer

pytestmark = pytest.mark.usefixtures("bounded")

OLD_DATE = "Mon, 23 Nov 2020 10:00:00 GMT"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes retries start soon."""
    monkeypatch.setattr("geventhttpclient.cli.download._DELAY", 0.001)


def fetch(origin: Any, capfd: Any, *arguments: str | Path, path: str = "/f") -> tuple[int, str]:
    with Peer(origin) as peer:
        return download(capfd, peer.url + path, "--no-progress", *arguments)


# --------------------------------------------------------------------------------------------- files of other programs


@pytest.mark.parametrize("options", [[], ["--parallel", "3"], ["--resume"]])
@pytest.mark.parametrize("name", ["f.part", "f.part.json"])
def test_download_file_of_the_user_beside_the_target_is_untouched(
    name: str, options: list[str], tmp_path: Path, capfd: Any
) -> None:
    (tmp_path / name).write_bytes(b"mine")
    assert fetch(Origin(), capfd, "-O", tmp_path, *options) == (0, "")
    assert (tmp_path / name).read_bytes() == b"mine"
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert left(tmp_path).keys() == {"f", name}


@pytest.mark.parametrize("options", [[], ["--resume"], ["--overwrite"]])
@pytest.mark.parametrize("kind", ["file", "link to a directory", "link to a file", "fifo", "directory", "open to all"])
def test_download_something_else_in_place_of_the_part_is_refused(
    kind: str, options: list[str], tmp_path: Path, capfd: Any
) -> None:
    there, outside = tmp_path / ".f.part", tmp_path / "outside"
    outside.mkdir()
    (outside / "data").write_bytes(b"mine")
    if kind == "file":
        there.write_bytes(b"mine")
    elif kind == "link to a directory":
        there.symlink_to(outside)
    elif kind == "link to a file":
        there.symlink_to(outside / "data")
    elif kind == "fifo":
        os.mkfifo(there)
    else:
        there.mkdir()
        if kind == "directory":
            (there / "data").write_bytes(b"mine")
        else:
            there.chmod(0o777)
    status, err = fetch(Origin(), capfd, "-O", tmp_path, *options)
    assert (status, err.count("\n")) == (3, 1)
    assert f"{there} already exists and was not left by a download: move it away" in err
    assert not (tmp_path / "f").exists()
    assert {path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == {b"mine"}


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "directory", "missing"])
def test_download_data_that_was_exchanged_is_not_written_to(kind: str, tmp_path: Path, capfd: Any) -> None:
    path, outside = tmp_path / "f", tmp_path / "outside"
    peer, _ = give_up_in_the_middle(Origin(cut_after=300_000, cuts=1), path, capfd)
    outside.write_bytes(bytes(300_000))
    data_of(path).unlink()
    if kind == "link":
        data_of(path).symlink_to(outside)
    elif kind == "hard link":
        os.link(outside, data_of(path))
    elif kind == "fifo":
        os.mkfifo(data_of(path))
    elif kind == "directory":
        data_of(path).mkdir()
    status, err = again(peer.port, Origin(), path, capfd)
    assert outside.read_bytes() == bytes(300_000)
    if kind == "directory":
        assert (status, path.exists()) == (3, False)
    else:
        assert (status, path.read_bytes()) == (0, CONTENT)
        assert "starting over" in err


@pytest.mark.parametrize("name", ["tool.iso.part", "tool.iso.part.json", ".tool.iso.part", ". .tool.iso.part/data"])
def test_download_name_of_the_server_cannot_be_that_of_a_part(name: str, tmp_path: Path, capfd: Any) -> None:
    """The server chooses contents and names of files; afterwards the file is correct, or there is an error."""

    def planting(conn: Conn) -> None:
        while conn.read_request():
            conn.send(answer(bytes(SIZE), "200 OK", f'Content-Disposition: attachment; filename="{name}"'))

    assert fetch(planting, capfd, "-O", tmp_path)[0] == 0
    assert all(not path.name.startswith(".") for path in tmp_path.iterdir())
    assert fetch(Origin(), capfd, "-O", tmp_path, "--resume", path="/tool.iso")[0] == 0
    assert (tmp_path / "tool.iso").read_bytes() == CONTENT


HIDING = [". .", " .", "\u00a0.", "\u3000..", "\u200b.", "\ufeff.", "\u2060 .", "\u2028.", ".\u200d.", "\u202f."]


@pytest.mark.parametrize("before", HIDING)
def test_filename_never_begins_with_a_dot(before: str) -> None:
    name = filename.safe(before + "f.part")
    assert name.endswith("f.part")
    assert name.lstrip("\u200b\u200c\u200d\u2060\ufeff \u00a0\u3000") == name
    assert not name.startswith(".")


UNSEEN = [
    *map(chr, [0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x180B, 0x180E, 0x2061, 0x2064, 0x206A, 0x206F, 0x2800]),
    *map(chr, [0x3164, 0xE000, 0xFE00, 0xFE0F, 0xFFA0, 0xFFF9, 0xFFFB, 0xFFFE, 0x1D159, 0xE0001, 0xE007F, 0xE0100]),
    *map(chr, [0xE01EF, 0x10FFFF]),
]


@pytest.mark.parametrize("unseen", UNSEEN, ids=ascii)
def test_filename_has_no_invisible_character_and_is_not_hidden(unseen: str) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in unseen.encode())
    for before in ("", ".", " ", ". "):
        name = filename.choose(f"attachment; filename*=UTF-8''{before.replace(' ', '%20')}{encoded}.bashrc", "/")
        assert name == "bashrc"
    assert filename.safe(f"a{unseen}.tar{unseen}") == "a.tar"
    assert filename.safe(unseen) == ""
    # A terminal is shown the same characters as escapes.
    assert printable(unseen).isascii()


def test_download_resume_of_an_older_versions_part_is_refused_with_the_remedy(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "f.part").write_bytes(bytes(1000))
    (tmp_path / "f.part.json").write_bytes(b"{}")
    status, err = fetch(Origin(), capfd, "-O", tmp_path, "--resume")
    assert status == 3
    assert f"remove it and {tmp_path}/f.part.json, or leave out --resume" in err
    assert left(tmp_path) == {"f.part": 1000, "f.part.json": 2}
    assert fetch(Origin(), capfd, "-O", tmp_path)[0] == 0
    assert (tmp_path / "f").read_bytes() == CONTENT


# ------------------------------------------------------------------------------------------------------------ the note

SPOILED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another URL": lambda note: {**note, "url": note["url"] + "x"},
    "no validator": lambda note: {**note, "etag": None},
    "a weak validator": lambda note: {**note, "etag": 'W/"one"'},
    "another validator": lambda note: {**note, "etag": '"two"'},
    "an etag of another type": lambda note: {**note, "etag": ["one"]},
    "a negative length": lambda note: {**note, "length": -1},
    "a huge length": lambda note: {**note, "length": 10**30},
    "a length of another type": lambda note: {**note, "length": True},
    "a negative range": lambda note: {**note, "missing": [[-5, 9]]},
    "an empty range": lambda note: {**note, "missing": [[9, 9]]},
    "a range backwards": lambda note: {**note, "missing": [[9, 5]]},
    "a range behind the end": lambda note: {**note, "missing": [[0, SIZE + 1]]},
    "ranges that overlap": lambda note: {**note, "missing": [[0, 9], [5, SIZE]]},
    "ranges out of order": lambda note: {**note, "missing": [[500_000, SIZE], [0, 9]]},
    "a range of three": lambda note: {**note, "missing": [[0, 9, 9]]},
    "a range of floats": lambda note: {**note, "missing": [[0.0, float(SIZE)]]},
    "too many ranges": lambda note: {**note, "missing": [[n, n + 1] for n in range(MAX_RANGES + 1)]},
    "no ranges": lambda note: {**note, "missing": None},
    "more than there is": lambda note: {**note, "missing": [[SIZE - 1, SIZE]]},
}


@pytest.mark.parametrize("kind", SPOILED)
def test_download_resume_with_a_spoiled_note_begins_anew(kind: str, tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "f"
    peer, note = give_up_in_the_middle(Origin(cut_after=300_000, cuts=1), path, capfd)
    data_of(path).write_bytes(bytes(300_000))
    note_of(path).write_text(json.dumps(SPOILED[kind](note)))
    status, err = again(peer.port, Origin(), path, capfd)
    assert (status, path.read_bytes()) == (0, CONTENT)
    assert "starting over" in err


NO_NOTES = {
    "empty": b"",
    "no JSON": b'{"format": 2',
    "deep": b"[" * 200_000,
    "many digits": b'{"format": ' + b"2" * 10_000 + b"}",
    "a list": b"[2]",
    "another format": b'{"format": 1}',
    "too large": b'{"format": 2, "x": "' + b"x" * MAX_NOTE_BYTES + b'"}',
}


@pytest.mark.parametrize("kind", [*NO_NOTES, "link", "fifo", "directory"])
def test_download_with_no_note_of_ours_is_refused(kind: str, tmp_path: Path, capfd: Any) -> None:
    path, outside = tmp_path / "f", tmp_path / "outside"
    peer, note = give_up_in_the_middle(Origin(cut_after=300_000, cuts=1), path, capfd)
    note_of(path).unlink()
    if kind == "link":
        outside.write_text(json.dumps(note))
        note_of(path).symlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(note_of(path))
    elif kind == "directory":
        note_of(path).mkdir()
    else:
        note_of(path).write_bytes(NO_NOTES[kind])
    status, err = again(peer.port, Origin(), path, capfd)
    assert (status, path.exists()) == (3, False)
    assert "move it away" in err
    assert data_of(path).stat().st_size == 300_000


def test_download_note_has_no_credentials_and_the_part_is_private(tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "f"
    with Peer(Origin(cut_after=300_000, cuts=1)) as peer:
        url = peer.url.replace("//", "//me:secret@") + "/f"
        assert download(capfd, url, "-o", path, "--retry", "0")[0] == 1
    assert "secret" not in note_of(path).read_text()
    assert stat.S_IMODE(note_of(path).parent.stat().st_mode) == 0o700
    with Peer(Origin(), port=peer.port):
        assert download(capfd, url, "-o", path, "--resume", "--no-progress") == (0, "")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_download_that_brings_nothing_leaves_nothing(tmp_path: Path, capfd: Any) -> None:
    assert fetch(Origin(cut_after=0, cuts=9), capfd, "-O", tmp_path, "--retry", "1")[0] == 1
    assert list(tmp_path.iterdir()) == []


def test_download_part_in_use_is_refused(tmp_path: Path, capfd: Any) -> None:
    part = Part(tmp_path / "f", replaces=False)
    try:
        status, err = fetch(Origin(), capfd, "-O", tmp_path)
    finally:
        part.close()
    assert status == 3
    assert "another download is using it" in err
    assert fetch(Origin(), capfd, "-O", tmp_path) == (0, "")


# ---------------------------------------------------------------------------------------------------- its final name


def no_links(*args: Any, **kw: Any) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("has_links", [True, False])
def test_download_target_that_appears_meanwhile_is_not_replaced(
    has_links: bool, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    publish = Part._publish

    def interrupted(part: Part) -> None:
        part.target.write_bytes(b"mine")
        publish(part)

    with monkeypatch.context() as patched, Peer(Origin()) as peer:
        patched.setattr(Part, "_publish", interrupted)
        status, err = download(capfd, peer.url + "/f", "-O", tmp_path, "--no-progress")
    assert status == 3
    assert "has appeared in the meantime" in err
    assert (tmp_path / "f").read_bytes() == b"mine"
    assert data_of(tmp_path / "f").read_bytes() == CONTENT
    origin = Origin()
    with Peer(origin, port=peer.port):
        options = ["-O", tmp_path, "--no-progress", "--resume", "--overwrite"]
        assert download(capfd, peer.url + "/f", *options) == (0, "")
    assert origin.ranges == ["bytes=0-0"]
    assert left(tmp_path) == {"f": SIZE}


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_download_without_hard_links_is_complete(
    options: list[str], tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    assert fetch(Origin(), capfd, "-O", tmp_path, *options) == (0, "")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["f"]


def test_download_overwrite_replaces_a_link_and_not_its_target(tmp_path: Path, capfd: Any) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / "f").symlink_to(outside)
    assert fetch(Origin(), capfd, "-O", tmp_path, "--overwrite") == (0, "")
    assert outside.read_bytes() == b"mine"
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "f").read_bytes() == CONTENT


def no_renaming(*args: Any) -> None:
    raise OSError(errno.EINVAL, "Invalid argument")


def complete_part(path: Path) -> Part:
    part = Part(path, replaces=False)
    part.begin("http://127.0.0.1/", 4, Validator('"one"', None))
    part.write(part.missing[0], b"data")
    return part


WAYS = ["rename", "link", "neither"]


def restrict(way: str, patched: pytest.MonkeyPatch) -> None:
    """Leaves only this way of publishing a file."""
    if way != "rename":
        patched.setattr(renaming, "_rename_without_replacing", no_renaming)
    if way != "link":
        patched.setattr(os, "link", no_links)


@pytest.mark.parametrize("way", WAYS)
def test_download_killed_before_it_is_renamed_leaves_no_file(way: str, tmp_path: Path) -> None:
    """If the name exists, its file is complete."""
    path = tmp_path / "f"
    child = os.fork()
    if child == 0:
        try:
            patched = pytest.MonkeyPatch()
            restrict(way, patched)
            replace = os.replace

            def end(source: Any, *args: Any, **kw: Any) -> None:
                if source == "data":
                    os._exit(9)
                replace(source, *args, **kw)

            patched.setattr(os, "replace", end)
            complete_part(path).finish()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert not path.exists() or path.read_bytes() == b"data"
    assert path.exists() or data_of(path).read_bytes() == b"data"


@pytest.mark.parametrize("way", WAYS)
def test_download_name_that_is_taken_in_the_last_moment_is_not_replaced(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restrict(way, monkeypatch)
    part = complete_part(tmp_path / "f")
    try:
        (tmp_path / "f").write_bytes(b"mine")
        with pytest.raises(Failure, match="has appeared in the meantime"):
            part.finish()
    finally:
        part.close()
    assert (tmp_path / "f").read_bytes() == b"mine"
    assert data_of(tmp_path / "f").read_bytes() == b"data"


def test_download_file_renamed_to_its_name_while_it_is_renamed_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links; the rename happens after the last check in Python code."""
    if not hasattr(ctypes.CDLL(None), renaming._FUNCTION):
        pytest.skip(f"there is no {renaming._FUNCTION}")
    monkeypatch.setattr(os, "link", no_links)
    replace = os.replace
    overwritten = []

    def late(source: Any, *args: Any, **kw: Any) -> None:
        if source == "data":
            (tmp_path / "other").write_bytes(b"mine")
            replace(tmp_path / "other", tmp_path / "f")
            overwritten.append("mine")
        replace(source, *args, **kw)

    monkeypatch.setattr(os, "replace", late)
    part = complete_part(tmp_path / "f")
    try:
        part.finish()
    finally:
        part.close()
    assert overwritten == []
    assert left(tmp_path) == {"f": 4}


# -------------------------------------------------------------------------------------------- parts of the same version


class Anonymous(Origin):
    """Answers the first request in full, and further ones with only the header lines in `lines`."""

    lines: tuple[str, ...] = ()

    def reply(self, conn: Conn, request: Request) -> bool:
        if len(self.ranges) == 1:
            return super().reply(conn, request)
        first, last = map(int, (request.get("range") or "bytes=0-0")[6:].split("-"))
        said = (f"Content-Range: bytes {first}-{last}/{SIZE}", *self.lines)
        conn.send(answer(bytes(last - first + 1), "206 Partial Content", *said))
        return True


@pytest.mark.parametrize(
    "lines",
    [(), ('ETag: W/"one"',), (f"Last-Modified: {OLD_DATE}",), ("ETag: one",), ('ETag: "one"', 'ETag: "two"')],
)
@pytest.mark.parametrize("options", [[], ["--parallel", "3"]])
def test_download_206_without_the_strong_validator_is_not_combined(
    options: list[str], lines: tuple[str, ...], tmp_path: Path, capfd: Any
) -> None:
    origin = Anonymous(cut_after=300_000, cuts=1)
    origin.lines = lines
    status, err = fetch(origin, capfd, "-O", tmp_path, *options)
    assert (status, err.count("\n")) == (1, 1)
    assert "version" in err
    assert not (tmp_path / "f").exists()


WEAK = [
    {"etag": None},
    {"etag": 'W/"one"'},
    {"etag": "one"},
    {"etag": None, "last_modified": "never"},
    # One that was modified when it was answered may be so again within the second.
    {"etag": None, "last_modified": "Mon, 23 Nov 2099 10:00:00 GMT"},
    {"etag": 'W/"one"', "last_modified": "Fri, 31 Dec 9999 23:59:59 GMT"},
]


@pytest.mark.parametrize("validators", WEAK, ids=map(str, WEAK))
def test_download_without_a_strong_validator_is_not_resumed(
    validators: dict[str, Any], tmp_path: Path, capfd: Any
) -> None:
    path = tmp_path / "f"
    peer, _ = give_up_in_the_middle(Origin(cut_after=300_000, cuts=1, **validators), path, capfd)
    origin = Origin(**validators)
    status, err = again(peer.port, origin, path, capfd)
    assert (status, path.read_bytes()) == (0, CONTENT)
    assert "starting over" in err
    assert origin.ranges == ["bytes=0-0", None]


@pytest.mark.parametrize(
    ("date", "is_strong"), [(OLD_DATE, False), ("Mon, 23 Nov 2020 10:00:01 GMT", True), ("x", False)]
)
def test_download_last_modified_is_strong_a_second_before_date(
    date: str, is_strong: bool, tmp_path: Path, capfd: Any
) -> None:
    class Dated(Origin):
        def reply(self, conn: Conn, request: Request) -> bool:
            if len(self.ranges) > 1:
                return super().reply(conn, request)
            head = answer(CONTENT, "200 OK", f"Last-Modified: {OLD_DATE}", f"Date: {date}")
            conn.send(head[:-1000])
            return False

    origin = Dated(etag=None, last_modified=OLD_DATE)
    assert fetch(origin, capfd, "-O", tmp_path)[0] == 0
    assert origin.ranges == ([None, f"bytes={SIZE - 1000}-{SIZE - 1}"] if is_strong else [None, None])
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("total", [SIZE + 1, SIZE - 1])
def test_download_206_of_another_length_is_not_combined(total: int, tmp_path: Path, capfd: Any) -> None:
    class Growing(Origin):
        def reply(self, conn: Conn, request: Request) -> bool:
            if len(self.ranges) == 1:
                return super().reply(conn, request)
            conn.send(part_of(300_000, SIZE - 2, f"bytes 300000-{SIZE - 2}/{total}"))
            return True

    status, err = fetch(Growing(cut_after=300_000, cuts=1), capfd, "-O", tmp_path)
    assert (status, err.count("\n")) == (1, 1)
    assert "but said" in err
    assert not (tmp_path / "f").exists()


# -------------------------------------------------------------------------------------------------------------- devices


@pytest.mark.parametrize("options", [[], ["--parallel", "3"], ["--resume"], ["--overwrite"]])
def test_download_to_dev_null_leaves_it_a_device(options: list[str], capfd: Any) -> None:
    assert is_device(Path("/dev/null"))  # or else it would be gone
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert fetch(Origin(), capfd, "-o", "/dev/null", "--checksum", f"sha256:{digest}", *options) == (0, "")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert not any(name.startswith((".null", "null.")) for name in os.listdir("/dev"))
    status, err = fetch(Origin(), capfd, "-o", "/dev/null", "--checksum", f"sha256:{'0' * 64}")
    assert status == 4
    assert digest in err


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_download_to_stdout_is_written_there(name: str, tmp_path: Path) -> None:
    assert is_device(Path(name))  # or else it would be gone
    with Peer(Origin(cut_after=300_000, cuts=3)) as peer:
        assert cli.run("download", peer.url + "/f", "-o", name, "--no-progress") == (0, CONTENT, "")
    kept = tmp_path / "kept"
    with Peer(Origin()) as peer, kept.open("wb") as file:
        assert cli.run("download", peer.url + "/f", "-o", name, "--no-progress", stdout=file)[0] == 0
    assert kept.read_bytes() == CONTENT
    assert left(tmp_path) == {"kept": SIZE}


def test_download_to_a_fifo_is_written_there(tmp_path: Path, capfd: Any) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    assert fetch(Origin(), capfd, "-o", fifo) == (0, "")
    reader.join()
    assert got == [CONTENT]
    assert stat.S_ISFIFO(fifo.lstat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


def test_download_to_a_device_is_not_begun_anew_once_written_to(capfd: Any) -> None:
    assert is_device(Path("/dev/null"))
    status, err = fetch(Origin(etag=None, cut_after=1000, cuts=9), capfd, "-o", "/dev/null")
    assert status == 1
    assert "/dev/null cannot be started over" in err


@pytest.mark.parametrize("other", ["link to a file", "file", "link to another fifo", "nothing"])
def test_download_fifo_that_is_exchanged_before_it_is_opened_is_not_written_to(
    other: str, tmp_path: Path, capfd: Any
) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    os.mkfifo(out)
    victim.write_bytes(b"mine")

    def exchanging(conn: Conn) -> None:
        while conn.read_request():
            out.unlink()
            if other == "link to a file":
                out.symlink_to(victim)
            elif other == "file":
                victim.rename(out)
            elif other == "link to another fifo":
                out.symlink_to(tmp_path / "fifo")
            conn.send(answer(b"theirs"))

    assert is_device(out)
    held = None
    if other == "link to another fifo":
        os.mkfifo(tmp_path / "fifo")
        held = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with Peer(exchanging) as peer:
        status, err = download(capfd, peer.url + "/f", "-o", out, "--no-progress", "--retry", "0")
    assert (status, err.count("\n")) == (3, 1)
    assert str(out) in err
    if other == "nothing":
        assert not out.exists()
    elif held is not None:
        assert os.read(held, 10) == b""
        os.close(held)
    else:
        assert out.read_bytes() == b"mine"


def test_download_to_a_fifo_waits_for_a_reader_and_the_loop_turns(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    turns = 0
    got: list[bytes] = []
    device = Device(fifo, None)

    def read_after_some_turns() -> None:
        nonlocal turns
        for _ in range(3):
            gevent.sleep(0)
            turns += 1
        reader.start()

    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    with gevent.Timeout(10):
        starter = gevent.spawn(read_after_some_turns)
        device.begin("http://127.0.0.1/", 4, Validator(None, None))
        device.write(device.missing[0], b"data")
        device.close()
        starter.join()
    reader.join()
    assert (turns, got) == (3, [b"data"])


def test_download_to_an_inherited_descriptor_appends(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with Peer(Origin()) as peer, kept.open("wb") as file:
        file.write(b"before")
        file.flush()
        name = f"/dev/fd/{file.fileno()}"
        assert is_device(Path(name))
        assert cli.run("download", peer.url + "/f", "-o", name, "--no-progress", pass_fds=[file.fileno()])[0] == 0
    assert kept.read_bytes() == b"before" + CONTENT


def test_download_to_a_descriptor_of_its_own_is_refused(tmp_path: Path, capfd: Any) -> None:
    kept = tmp_path / "kept"
    with kept.open("wb") as file:
        name = f"/dev/fd/{file.fileno()}"
        assert is_device(Path(name))
        status, err = fetch(Origin(), capfd, "-o", name, "--retry", "0")
    assert (status, err.count("\n")) == (3, 1)
    assert kept.read_bytes() == b""


# ---------------------------------------------------------------------------------- servers that send unrequested data


@pytest.mark.parametrize("options", [["--parallel", "2"], ["--resume"]])
@pytest.mark.parametrize("number", [1, 2])
def test_download_206_longer_than_announced_is_not_read_further(
    number: int, options: list[str], tmp_path: Path, capfd: Any
) -> None:
    """The first response gives the size, the second one is a range."""
    count = 0

    def endless(conn: Conn) -> None:
        nonlocal count
        while request := conn.read_request():
            count += 1
            first, last = map(int, (request.get("range") or "")[6:].split("-"))
            if count < number:
                conn.send(part_of(first, last, f"bytes {first}-{last}/{SIZE}"))
                continue
            head = f'HTTP/1.1 206 Partial Content\r\nETag: "one"\r\nContent-Range: bytes {first}-{last}/{SIZE}\r\n'
            conn.send(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
            # Without an end: a client that waits for one waits until its timeout.
            conn.send(b"%x\r\n" % (last - first + 2) + bytes(last - first + 2) + b"\r\n")

    status, err = fetch(endless, capfd, "-O", tmp_path, "--retry", "0", "--timeout", "5", *options)
    assert (status, err.count("\n")) == (1, 1)
    assert "the server sent more than it promised" in err
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("options", [[], ["--parallel", "3"]])
def test_download_in_small_answers_is_given_up(
    options: list[str], tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "MAX_SMALL_ANSWERS", 20)

    class Stingy(Origin):
        def reply(self, conn: Conn, request: Request) -> bool:
            if request.get("range") is None:
                return super().reply(conn, request)
            first = int((request.get("range") or "")[6:].split("-")[0])
            conn.send(part_of(first, first, f"bytes {first}-{first}/{SIZE}"))
            return True

    origin = Stingy(cut_after=300_000, cuts=1)
    status, err = fetch(origin, capfd, "-O", tmp_path, *options)
    assert (status, err.count("\n")) == (1, 1)
    assert "more than 20 responses of the server had less than 4.0 KiB of the requested range" in err
    assert len(origin.ranges) <= 20 + 4
    assert not (tmp_path / "f").exists()


def test_download_in_answers_that_are_not_small_is_complete(
    tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "MAX_SMALL_ANSWERS", 0)

    class Short(Origin):
        def reply(self, conn: Conn, request: Request) -> bool:
            first, last = map(int, (request.get("range") or "")[6:].split("-"))
            last = min(last, first + max(downloading.SMALL_ANSWER, 50_000) - 1)
            conn.send(part_of(first, last, f"bytes {first}-{last}/{SIZE}"))
            return True

    assert fetch(Short(), capfd, "-O", tmp_path, "--parallel", "2") == (0, "")
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("command", ["get", "download"])
def test_command_without_memory_ends_in_one_line(
    command: str, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kw: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Session, "request", fail)
    options = ["-O", str(tmp_path)] if command == "download" else []
    assert main([command, "http://127.0.0.1:1/f", *options]) == 1
    assert capfd.readouterr().err == "geventhttpclient: not enough memory\n"


def test_command_without_memory_in_a_greenlet_ends_in_one_line(capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("geventhttpclient.cli.load.Load._closed", fail)
    assert main(["bench", "-n", "1", "-c", "1", "--no-progress", "http://127.0.0.1:1/f"]) == 1
    assert capfd.readouterr().err == "geventhttpclient: not enough memory\n"
