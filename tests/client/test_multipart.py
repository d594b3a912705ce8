"""Multipart forms: their bytes, compared with a naive oracle and a real parser, and their memory."""

from __future__ import annotations

import email
import email.policy
import gzip
import io
import os
import tempfile
import tracemalloc
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from geventhttpclient.header import Headers
from geventhttpclient.multipart import PIECE, Multipart, _encode_multipart_formdata
from tests.support.scripted import OK, saying, serving

B = "boundary"


def naive(*parts: tuple[str, bytes], boundary: str = B) -> bytes:
    """Returns the body for parts of (header lines, content): a literal transcription of RFC 7578 section 4.1."""
    return b"".join(
        [b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary.encode(), head.encode(), content) for head, content in parts]
        + [b"--%s--\r\n" % boundary.encode()]
    )


def parsed(body: Multipart) -> list[tuple[str | None, str | None, str | None, bytes]]:
    """Returns name, file name, content type and content of each part, as the email package reads them."""
    message = email.message_from_bytes(
        b"Content-Type: %s\r\n\r\n%s" % (body.content_type.encode(), body.tobytes()), policy=email.policy.HTTP
    )
    assert not message.defects
    found = []
    for part in message.iter_parts():
        assert isinstance(part, EmailMessage)
        disposition = part["Content-Disposition"]
        assert disposition.content_disposition == "form-data"
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        kind = part["Content-Type"]
        found.append(
            (disposition.params.get("name"), part.get_filename(), None if kind is None else str(kind), content)
        )
    return found


def whole(body: Multipart) -> bytes:
    """Returns the whole body after the checks for every body: its length is right, no piece is too long or empty."""
    pieces = list(body)
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    joined = b"".join(pieces)
    assert body.length in (None, len(joined))
    return joined


def field(name: str, content: bytes) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', content


def file(name: str, filename: str, kind: str, content: bytes) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: {kind}', content


OCTETS = "application/octet-stream"

# --------------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (None, []),
        ({}, []),
        ({"a": "b"}, [("a", b"b")]),
        ({"a": "ä€"}, [("a", "ä€".encode())]),
        ({"a": b"\xff", "b": bytearray(b"x"), "c": memoryview(b"y")}, [("a", b"\xff"), ("b", b"x"), ("c", b"y")]),
        ({"a": 1, "b": 1.5, "c": True, "d": ""}, [("a", b"1"), ("b", b"1.5"), ("c", b"True"), ("d", b"")]),
        ({"a": None, "b": ["1", None, 2], "c": ()}, [("b", b"1"), ("b", b"2")]),
        ([("a", "1"), ("b", "2"), ("a", "3")], [("a", b"1"), ("b", b"2"), ("a", b"3")]),
        ([(b"a", b"1")], [("a", b"1")]),
        (iter([("a", range(2))]), [("a", b"0"), ("a", b"1")]),
    ],
)
def test_fields(data: Any, parts: list[tuple[str, bytes]]) -> None:
    assert whole(Multipart(data, boundary=B)) == naive(*[field(*part) for part in parts])


def test_files_of_every_shape(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"from disk")
    text = io.StringIO("tëxt")
    with path.open("rb") as opened:
        body = Multipart(
            {"first": "field"},
            [
                ("a", b"bytes"),
                ("b", "tëxt"),
                ("c", io.BytesIO(b"buffer")),
                ("d", opened),
                ("e", path),
                ("f", text),
                ("g", ("g.html", b"g")),
                ("h", ("h.html", b"h", "text/x-own")),
                ("i", (None, b"i")),
                ("j", [None, b"j", "application/json"]),
                ("k", None),
                ("a", bytearray(b"again")),
            ],
            B,
        )
        assert body.length is None  # of the text
        assert whole(body) == naive(
            field("first", b"field"),
            file("a", "a", OCTETS, b"bytes"),
            file("b", "b", OCTETS, "tëxt".encode()),
            file("c", "c", OCTETS, b"buffer"),
            file("d", "notes.txt", "text/plain", b"from disk"),
            file("e", "notes.txt", "text/plain", b"from disk"),
            file("f", "f", OCTETS, "tëxt".encode()),
            file("g", "g.html", "text/html", b"g"),
            file("h", "h.html", "text/x-own", b"h"),
            field("i", b"i"),
            ('Content-Disposition: form-data; name="j"\r\nContent-Type: application/json', b"j"),
            file("a", "a", OCTETS, b"again"),
        )
        assert whole(body) == whole(body)


def test_real_parser_reads_it_back() -> None:
    content = bytes(range(256)) * 3 + b"\r\n--boundar"
    body = Multipart({"k": "v", "leer": ""}, {"f": ("a.bin", content), "g": ("b.json", b"{}")})
    assert parsed(body) == [
        ("k", None, None, b"v"),
        ("leer", None, None, b""),
        ("f", "a.bin", OCTETS, content),
        ("g", "b.json", "application/json", b"{}"),
    ]


def test_further_headers() -> None:
    headers = Headers({"X-A": "1"})
    headers.add("X-A", "2")
    body = Multipart(None, {"f": ("f.txt", b"x", None, headers), "g": ("g", b"y", "", {"X-B": 3, "X-C": None})}, B)
    assert whole(body) == naive(
        (
            'Content-Disposition: form-data; name="f"; filename="f.txt"\r\nContent-Type: text/plain\r\n'
            "X-A: 1\r\nX-A: 2",
            b"x",
        ),
        ('Content-Disposition: form-data; name="g"; filename="g"\r\nX-B: 3', b"y"),
    )


def test_header_is_never_repeated() -> None:
    files = {
        "f": ("f.txt", b"", None, {"content-type": "text/own"}),
        "g": ("g.txt", b"", "text/said", {"content-type": "text/own"}),
        "h": (None, b"", None, {"content-disposition": "form-data; name=x"}),
    }
    assert whole(Multipart(None, files, B)) == naive(
        ('Content-Disposition: form-data; name="f"; filename="f.txt"\r\ncontent-type: text/own', b""),
        ('Content-Disposition: form-data; name="g"; filename="g.txt"\r\nContent-Type: text/said', b""),
        ("content-disposition: form-data; name=x", b""),
    )


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ('a"b', "a%22b"),
        ("a\r\nContent-Type: x", "a%0D%0AContent-Type: x"),
        ("a\nb", "a%0Ab"),
        ("ä€\U0001f600", "ä€\U0001f600"),
        ("a%22\\b", "a%22\\b"),
    ],
)
def test_names_are_escaped_as_browsers_do(name: str, written: str) -> None:
    assert whole(Multipart({name: "1"}, {name: (name, b"2")}, B)) == naive(
        field(written, b"1"), file(written, written, OCTETS, b"2")
    )


def test_file_name_that_is_no_text_keeps_its_bytes() -> None:
    body = Multipart(None, {"f": (os.fsdecode(b"\xff.txt"), b"")}, B)
    assert b'filename="\xff.txt"' in whole(body)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "image/png"),
        ("A.JSON", "application/json"),
        ("a.tar.gz", OCTETS),
        ("a", OCTETS),
        ("a.unheard", OCTETS),
    ],
)
def test_types_are_guessed_by_name(name: str, kind: str) -> None:
    assert whole(Multipart(None, {"f": (name, b"")}, B)) == naive(file("f", name, kind, b""))


def test_names_of_open_files(tmp_path: Path) -> None:
    with tempfile.TemporaryFile() as anonymous, (tmp_path / "x.csv").open("wb+") as named:
        body = Multipart(None, {"a": anonymous, "b": named}, B)
        assert whole(body) == naive(file("a", "a", OCTETS, b""), file("b", "x.csv", "text/csv", b""))


# ------------------------------------------------------------------------------------------------------------- boundary


def test_boundary_of_its_own_each_time() -> None:
    one, other = Multipart({"a": "b"}), Multipart({"a": "b"})
    assert one.boundary != other.boundary
    assert one.content_type == f"multipart/form-data; boundary={one.boundary}"
    assert whole(one) == naive(field("a", b"b"), boundary=one.boundary)


def test_boundary_with_delimiters_is_quoted() -> None:
    body = Multipart({"a": "b"}, boundary="a b:c")
    assert body.content_type == 'multipart/form-data; boundary="a b:c"'
    assert parsed(body) == [("a", None, None, b"b")]


def test_file_may_name_the_boundary() -> None:
    body = Multipart(None, {"f": ("f", b"x", "text/plain", {}, "mine"), "g": ("g", b"y", "text/plain", None, "mine")})
    assert body.boundary == "mine"


def test_boundary_of_several_files_is_the_first_that_is_named() -> None:
    files = [("f", b"x"), ("g", ("g", b"y", None, None, "first")), ("h", ("h", b"z", None, None, "second"))]
    assert Multipart(None, files).boundary == "first"
    assert Multipart(None, files, "mine").boundary == "mine"
    assert b"second" not in whole(Multipart(None, files))


@pytest.mark.parametrize("boundary", ["", "a ", "a\r\nb", "ä", 'a"', "x" * 71, 5])
def test_invalid_boundaries_are_refused(boundary: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="boundary"):
        Multipart({"a": "b"}, boundary=boundary)


@pytest.mark.parametrize(
    ("data", "files", "named"),
    [
        ("a=b", None, "data"),
        (b"a=b", None, "data"),
        (5, None, "data"),
        (["ab", "c"], None, "data"),
        (None, "x", "files"),
        (None, {"f": 5}, "files: 'f'"),
        (None, {"f": ("x",)}, "files: 'f'"),
        (None, {"f": ("x", b"", "", {}, "b", 1)}, "files: 'f'"),
        (None, {"f": (5, b"")}, "files: .*'f'"),
        (None, {"f": ("x", None)}, "files: 'f'"),
        (None, {"f": ("x", b"", "a\r\nb")}, "Content-Type"),
        (None, {"f": ("x", b"", None, {"X": "a\nb"})}, "header X"),
        (None, {"f": ("x", b"", None, {"X\r\n": "a"})}, "header name"),
        (None, {"f": ("x", b"", None, {"": "a"})}, "header name"),
    ],
)
def test_values_that_are_no_form_are_refused(data: Any, files: Any, named: str) -> None:
    with pytest.raises((ValueError, TypeError), match=named):
        Multipart(data, files)


def test_missing_paths_raise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Multipart(None, {"f": tmp_path / "missing"})
    with pytest.raises(IsADirectoryError):
        Multipart(None, {"f": tmp_path})


# -------------------------------------------------------------------------------------------- length, rewinding, memory


class Endless(io.RawIOBase):
    """File of unknown length that can be read once."""

    def __init__(self, content: bytes) -> None:
        self.content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self.content.read(min(size, 1000))


class OnlyRead:
    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


@pytest.mark.parametrize("make", [Endless, OnlyRead])
def test_stream_of_unknown_length(make: Any) -> None:
    body = Multipart(None, {"f": make(b"x" * 200_000)}, B)
    assert body.length is None
    assert body.rewind()
    assert whole(body) == naive(file("f", "f", OCTETS, b"x" * 200_000))
    assert not body.rewind()
    with pytest.raises(ValueError, match="cannot be read again"):
        whole(body)


def test_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through the pipe")
    os.close(writing)
    with open(reading, "rb") as pipe:
        body = Multipart(None, {"f": pipe}, B)
        assert body.length is None
        assert whole(body) == naive(file("f", "f", OCTETS, b"through the pipe"))
        assert not body.rewind()


def test_file_is_sent_from_its_position_each_time() -> None:
    stream = io.BytesIO(b"0123456789")
    stream.seek(4)
    body = Multipart(None, [("a", stream), ("b", stream)], B)
    expected = naive(file("a", "a", OCTETS, b"456789"), file("b", "b", OCTETS, b"456789"))
    assert stream.tell() == 4
    assert whole(body) == whole(body) == expected
    unfinished = iter(body)
    next(unfinished)
    assert body.rewind()
    assert whole(body) == expected


def test_gzip_file_is_sent_decompressed() -> None:
    with gzip.open(io.BytesIO(gzip.compress(b"unpacked" * 20_000))) as packed:
        body = Multipart(None, {"f": packed}, B)
        for _ in range(2):
            assert whole(body) == naive(file("f", "f", OCTETS, b"unpacked" * 20_000))


def test_file_that_grows_is_sent_with_its_announced_length(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 10)
    body = Multipart(None, {"f": path}, B)
    path.write_bytes(b"x" * 20)
    assert whole(body) == naive(file("f", "log", OCTETS, b"x" * 10))


def test_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 10)
    body = Multipart(None, {"f": path}, B)
    path.write_bytes(b"x")
    with pytest.raises(OSError, match="9 bytes"):
        body.tobytes()


@pytest.mark.parametrize("size", [0, 1, PIECE - 200, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 1_000_000])
def test_every_size(size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    for source in (content, io.BytesIO(content), Endless(content)):
        assert whole(Multipart({"k": content}, {"f": source}, B)) == naive(
            field("k", content), file("f", "f", OCTETS, content)
        )


def test_small_parts_share_a_piece() -> None:
    assert len(list(Multipart({str(n): "x" for n in range(100)}))) == 1


class Gibibyte(io.RawIOBase):
    """File of 1 GiB that takes no memory."""

    SIZE = 1 << 30
    BLOCK = bytes(PIECE)

    def __init__(self) -> None:
        self.at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (self.SIZE if whence == os.SEEK_END else 0)
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, size: int = -1) -> bytes:
        assert 0 < size <= PIECE
        size = min(size, self.SIZE - self.at)
        self.at += size
        return self.BLOCK[:size]


def test_gibibyte_in_flat_memory() -> None:
    body = Multipart({"k": "v"}, {"f": Gibibyte()})
    tracemalloc.start()
    try:
        total = sum(len(piece) for piece in body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == body.length
    assert body.length > Gibibyte.SIZE
    assert peak < 1 << 20


@pytest.fixture
def random_file(tmp_path: Path) -> Path:
    path = tmp_path / "random.bin"
    path.write_bytes(os.urandom(300_000))
    return path


def test_form_is_received_by_a_server(bounded: None, random_file: Path) -> None:
    with serving(saying(OK, OK)) as (peer, client):
        counted = Multipart({"k": "v"}, {"f": random_file})
        client.post("/", counted, {"Content-Length": str(counted.length)}).read()
        chunked = Multipart({"k": "v"}, {"f": Endless(b"x" * 100_000)})
        client.post("/", chunked).read()
    assert [request.body for request in peer.requests] == [
        counted.tobytes(),
        naive(field("k", b"v"), file("f", "f", OCTETS, b"x" * 100_000), boundary=chunked.boundary),
    ]
    assert peer.requests[0].get("Content-Length") == str(counted.length)
    assert peer.requests[1].get("Transfer-Encoding") == "chunked"


# ------------------------------------------------------------------------------------------------- the private function


def test_encode_multipart_formdata() -> None:
    body, content_type = _encode_multipart_formdata(
        {"f": ("a.txt", b"x"), "g": ("g", "y", "text/plain", {"X": "1"}, B)}, {"k": ["1", "2"], "n": None}
    )
    assert content_type == f"multipart/form-data; boundary={B}"
    assert body == naive(
        field("k", b"1"),
        field("k", b"2"),
        ('Content-Disposition: form-data; name="f"; filename="a.txt"', b"x"),
        ('Content-Disposition: form-data; name="g"; filename="g"\r\nContent-Type: text/plain\r\nX: 1', b"y"),
    )


@pytest.mark.parametrize(("files", "data"), [({}, None), (None, {"a": 1}), ({"f": b""}, "a=b"), ({"f": b""}, b"a=b")])
def test_encode_multipart_formdata_wants_files_and_fields(files: Any, data: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        _encode_multipart_formdata(files, data)
