"""Forms with files: multipart/form-data (RFC 7578), generated while it is sent, so that no file is kept in memory."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from geventhttpclient import exceptions

__all__ = ["PIECE", "DataInput", "FilesInput", "Multipart"]

PIECE = 64 * 1024
"""Most bytes in a piece that iteration yields, and in one read from a file."""

DataInput = Mapping[Any, Any] | Iterable[tuple[Any, Any]]
"""Form fields: a mapping or pairs. A value that is a list or another iterable repeats its name, None is omitted."""

FilesInput = Mapping[str, Any] | Iterable[tuple[str, Any]]
"""Files by field name. Each is bytes, text, an open file, a path (os.PathLike), or a tuple of 2 to 5 items: file name
(None for a plain field), one of the above, content type, mapping of further headers, and boundary of the whole body.
The first boundary is used."""

# RFC 2046 section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? \-]{0,69}[0-9A-Za-z'()+_,./:=?\-]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LINE_BREAK = re.compile(r"[\r\n\0]")
_UNKNOWN_TYPE = "application/octet-stream"


class Multipart:
    """A multipart/form-data body: the fields of `data`, then `files`, each in the given order.

        body = Multipart({"title": "Holidays"}, {"film": open("film.mp4", "rb")})
        client.post("/films", body, {"Content-Type": body.content_type, "Content-Length": str(body.length)})

    Iteration yields pieces of at most 64 KiB, and starts from the beginning each time. Open files are read from their
    position at the time when the object was created; paths are opened during the iteration.
    """

    def __init__(
        self,
        data: DataInput | None = None,
        files: FilesInput | None = None,
        boundary: str | None = None,
        guess_types: bool = True,
    ) -> None:
        """Uses `boundary`, or the first boundary in `files`, or a random one. If `guess_types` is true, a file without
        a content type gets the one that its name suggests, or application/octet-stream.

        Raises ValueError or TypeError for an invalid part, boundary or header of a part, and OSError for a path that
        cannot be opened.
        """
        parts = [_Part(_disposition(name), value) for name, value in _fields(data)]
        for name, value in _pairs("files", files):
            if value is not None:
                part, own_boundary = _file_part(name, value, guess_types)
                parts.append(part)
                boundary = own_boundary if boundary is None else boundary
        self.boundary: str = os.urandom(16).hex() if boundary is None else boundary
        if not isinstance(self.boundary, str) or not _BOUNDARY.fullmatch(self.boundary):
            raise ValueError(f"boundary must be 1 to 70 characters of those that RFC 2046 lists, not {self.boundary!r}")
        self._parts = parts
        self._was_read = False

    @property
    def content_type(self) -> str:
        """The value of the Content-Type field."""
        quote = "" if _TOKEN.fullmatch(self.boundary) else '"'
        return f"multipart/form-data; boundary={quote}{self.boundary}{quote}"

    @property
    def length(self) -> int | None:
        """The number of bytes; None if the length of a file is not known."""
        total = len(self._end())
        for part in self._parts:
            if part.length is None:
                return None
            total += len(self._start(part)) + part.length + len(b"\r\n")
        return total

    def rewind(self) -> bool:
        """Returns True if iteration can start from the beginning: False if a file that cannot seek has been read."""
        return not self._was_read or all(part.is_repeatable for part in self._parts)

    def tobytes(self) -> bytes:
        """Returns the whole body as bytes."""
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        """Yields the pieces. Raises ValueError if a file has been read before and cannot seek, and OSError if a file is
        shorter than it was when the object was created."""
        if not self.rewind():
            raise ValueError("a file of this body has been read and cannot be read again")
        self._was_read = True
        return _gathered(self._all())

    def _all(self) -> Iterator[bytes]:
        for part in self._parts:
            yield self._start(part)
            yield from part
            yield b"\r\n"
        yield self._end()

    def _start(self, part: _Part) -> bytes:
        return b"--%b\r\n%b\r\n" % (self.boundary.encode(), part.head)

    def _end(self) -> bytes:
        return b"--%b--\r\n" % self.boundary.encode()


class _Part:
    """The header lines of a part, and the source of its content."""

    def __init__(self, head: bytes, content: Any) -> None:
        self.head = head
        self.content = content
        self.start: int | None = None
        self.length: int | None
        if isinstance(content, bytes):
            self.length = len(content)
        elif isinstance(content, os.PathLike):
            with open(content, "rb") as file:
                self.length = _position_and_length(file)[1]
        else:
            self.start, self.length = _position_and_length(content)

    @property
    def is_repeatable(self) -> bool:
        return self.start is not None or isinstance(self.content, (bytes, os.PathLike))

    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self.content, bytes):
            yield self.content
        elif isinstance(self.content, os.PathLike):
            with open(self.content, "rb") as file:
                yield from self._read(file)
        else:
            if self.start is not None:
                self.content.seek(self.start)
            yield from self._read(self.content)

    def _read(self, file: Any) -> Iterator[bytes]:
        left = self.length
        while left is None or left > 0:
            piece = file.read(PIECE if left is None else min(PIECE, left))
            if isinstance(piece, str):
                piece = piece.encode()
            if not piece:
                break
            if left is not None:
                left -= len(piece)
            yield bytes(piece)
        if left:
            # The length has been announced: the server must not take a truncated file for a complete one.
            raise exceptions.OSError(f"{file!r} ended {left} bytes short of its original length")


def _encode_multipart_formdata(files: FilesInput | None, data: Any) -> tuple[bytes, str]:
    """Returns the whole body and its content type. Raises ValueError without files, or if `data` is a string."""
    if not files:
        raise ValueError("Files must be provided.")
    if isinstance(data, (str, bytes, bytearray)):
        raise ValueError("Data must not be a string.")
    body = Multipart(data, files, guess_types=False)
    return body.tobytes(), body.content_type


def _gathered(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the same bytes in fewer pieces, since each costs a write: joins short ones and splits long ones."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        for at in range(0, len(part), PIECE):
            piece = part[at : at + PIECE]
            if size + len(piece) > PIECE:
                yield b"".join(waiting)
                waiting, size = [], 0
            waiting.append(piece)
            size += len(piece)
    yield b"".join(waiting)


def _position_and_length(file: Any) -> tuple[int | None, int | None]:
    """Returns the position of a file and the number of bytes after it; None for each that cannot be determined."""
    try:
        start = file.tell()
    except (AttributeError, OSError, ValueError):
        return None, None
    if isinstance(file, io.TextIOBase):
        return start, None  # counted in characters, if at all
    try:
        end = file.seek(0, os.SEEK_END)
        # Some files, such as those of tempfile before Python 3.11, do not return their position.
        end = file.tell() if end is None else end
        file.seek(start)
    except (AttributeError, OSError, ValueError):
        # A GzipFile cannot seek to its end, and a pipe cannot seek at all.
        return _seekable(file, start), None
    return start, max(0, end - start)


def _seekable(file: Any, start: int) -> int | None:
    try:
        file.seek(start)
    except (AttributeError, OSError, ValueError):
        return None
    return start


def _pairs(name: str, given: Any) -> Iterable[tuple[Any, Any]]:
    pairs = given.items() if isinstance(given, Mapping) else given or ()
    if isinstance(pairs, (str, bytes, bytearray)):
        raise ValueError(f"{name} must be a mapping or pairs, not {type(given).__name__}")
    try:
        return [(key, value) for key, value in pairs]
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a mapping or pairs, not {type(given).__name__}") from None


def _fields(data: DataInput | None) -> Iterator[tuple[str | bytes, bytes]]:
    for name, value in _pairs("data", data):
        is_one = isinstance(value, (str, bytes, bytearray, memoryview)) or not hasattr(value, "__iter__")
        for each in [value] if is_one else value:
            if each is not None:
                yield name, bytes(each) if isinstance(each, (bytes, bytearray, memoryview)) else str(each).encode()


def _file_part(name: str | bytes, value: Any, guess_types: bool) -> tuple[_Part, str | None]:
    """Returns the part of a file, and the boundary that the file gives for the whole body."""
    filename: Any
    content_type = headers = boundary = None
    if isinstance(value, (tuple, list)):
        if not 2 <= len(value) <= 5:
            raise ValueError(f"files: {name!r} has {len(value)} items, and must have 2 to 5")
        filename, content, content_type, headers, boundary = (*value, None, None, None)[:5]
        if filename is not None and not isinstance(filename, (str, bytes)):
            raise TypeError(f"files: the file name of {name!r} must be a str, not {type(filename).__name__}")
    else:
        content = value
        filename = _guess_filename(content) or name
    lines = _header_lines(headers)
    named = {header.lower() for header, _ in lines}
    if content_type is None and filename is not None and guess_types and "content-type" not in named:
        content_type = _guess_type(filename)
    if content_type:
        lines = [(header, text) for header, text in lines if header.lower() != "content-type"]
        lines.insert(0, _header_line("Content-Type", content_type))
    head = b"" if "content-disposition" in named else _disposition(name, filename)
    head += b"".join(f"{header}: {text}\r\n".encode() for header, text in lines)
    return _Part(head, _content(name, content)), boundary


def _content(name: str | bytes, content: Any) -> Any:
    """Returns the content as bytes, a path or a readable file. Raises TypeError for anything else."""
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    if isinstance(content, os.PathLike) or hasattr(content, "read"):
        return content
    raise TypeError(f"files: {name!r} must be bytes, text, a path or an open file, not {type(content).__name__}")


def _disposition(name: str | bytes, filename: str | bytes | None = None) -> bytes:
    line = b'Content-Disposition: form-data; name="%b"' % _quote_param(name)
    if filename is not None:
        line += b'; filename="%b"' % _quote_param(filename)
    return line + b"\r\n"


def _quote_param(value: Any) -> bytes:
    """Escapes a parameter as browsers do (WHATWG HTML, "multipart/form-data encoding algorithm")."""
    # A file name that cannot be decoded in the system's encoding is sent with the bytes that it has on disk.
    text = bytes(value) if isinstance(value, (bytes, bytearray)) else str(value).encode("utf-8", "surrogateescape")
    return text.replace(b'"', b"%22").replace(b"\r", b"%0D").replace(b"\n", b"%0A")


def _header_lines(headers: Any) -> list[tuple[str, str]]:
    if not headers:
        return []
    pairs = list(headers.items()) if hasattr(headers, "items") else list(headers)
    return [
        _header_line(name, value)
        for name, values in pairs
        for value in (values if isinstance(values, (list, tuple)) else [values])
        if value is not None
    ]


def _header_line(name: Any, value: Any) -> tuple[str, str]:
    name, value = str(name), str(value)
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"files: not a header name: {name!r}")
    if _LINE_BREAK.search(value):
        raise ValueError(f"files: not a value of the header {name}: {value!r}")
    return name, value


def _guess_filename(file: Any) -> str | None:
    """Returns the last part of the name of an open file or of a path; None if it has no name."""
    name = os.fspath(file) if isinstance(file, os.PathLike) else getattr(file, "name", None)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if not isinstance(name, str) or (name.startswith("<") and name.endswith(">")):
        return None
    return os.path.basename(name) or None


def _guess_type(filename: str | bytes) -> str:
    import mimetypes

    kind, coding = mimetypes.guess_type(os.path.basename(os.fsdecode(filename)), strict=False)
    # For archive.tar.gz, mimetypes returns the type of the tar file, which is not the type of the compressed bytes.
    return kind if kind is not None and coding is None else _UNKNOWN_TYPE
