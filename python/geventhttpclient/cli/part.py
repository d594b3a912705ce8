"""A download that is not complete: `NAME.part`, and beside it `NAME.part.json`, which says what is in it.

The second has `url`, `length` (bytes, or null), `etag`, `last_modified` and `missing`, a list of [from, to) in bytes;
it is written anew now and then, always after the bytes that it says are there.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from geventhttpclient.cli.failure import FILE, Failure, file_failure

# Seconds between two notes of what is there: what is lost if the system goes down without a word.
_NOTED_EVERY = 1.0


class Range:
    """Bytes that are still missing, from `position` to `end`, which is None where nobody knows it."""

    __slots__ = ("end", "position")

    def __init__(self, position: int, end: int | None) -> None:
        self.position: int = position
        self.end: int | None = end

    @property
    def is_done(self) -> bool:
        """Whether nothing is missing any more."""
        return self.end is not None and self.position >= self.end


class Validator:
    """What tells one version of a file from another: a strong ETag, else Last-Modified (RFC 9110 section 13.1.5)."""

    __slots__ = ("etag", "last_modified")

    def __init__(self, etag: Any, last_modified: Any) -> None:
        is_strong = isinstance(etag, str) and etag.startswith('"')
        self.etag: str | None = etag if is_strong else None
        self.last_modified: str | None = last_modified if isinstance(last_modified, str) else None

    def __bool__(self) -> bool:
        return self.value is not None

    @property
    def value(self) -> str | None:
        """The value of If-Range."""
        return self.etag or self.last_modified

    def agrees(self, other: Validator) -> bool:
        """Whether the other, of a response that may lack either, is not of another version."""
        pairs = ((self.etag, other.etag), (self.last_modified, other.last_modified))
        return all(ours == theirs for ours, theirs in pairs if ours is not None and theirs is not None)


class Part:
    """The incomplete file, open for writing anywhere. Failure for all that files and disks refuse."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path: Path = target.with_name(target.name + ".part")
        self.note_path: Path = target.with_name(target.name + ".part.json")
        self.url: str = ""
        self.length: int | None = None
        self.validator: Validator = Validator(None, None)
        self.missing: list[Range] = []
        self._descriptor: int | None = None
        self._noted_at = 0.0
        self._is_forgotten = False

    def recall(self, url: str) -> bool:
        """Takes up what an earlier run has left of this URL, where that is of use."""
        try:
            note = json.loads(self.note_path.read_bytes())
            validator = Validator(note["etag"], note["last_modified"])
            length, missing = note["length"], [Range(start, end) for start, end in note["missing"]]
            is_good = (
                note["url"] == url
                and bool(validator)
                and isinstance(length, int)
                and all(0 <= one.position <= (one.end or 0) <= length for one in missing)
                and self.path.stat().st_size >= _present_end(missing, length)
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if is_good:
            self.url, self.length, self.validator, self.missing = url, length, validator, missing
            self._open(os.O_RDWR | os.O_CREAT)
        return bool(is_good)

    def begin(self, url: str, length: int | None, validator: Validator) -> None:
        """Begins with nothing."""
        self.url, self.length, self.validator = url, length, validator
        self.missing = [Range(0, length)]
        # The old note goes first: it must never be beside bytes that it does not speak of.
        with suppress(OSError):
            self.note_path.unlink()
        self._open(os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def _open(self, flags: int) -> None:
        self.close()
        try:
            self._descriptor = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise file_failure(error, self.path) from None

    @property
    def is_open(self) -> bool:
        """Whether there is something to write to."""
        return self._descriptor is not None

    @property
    def can_resume(self) -> bool:
        """Whether it can be told what is missing, and of which version."""
        return self.length is not None and bool(self.validator)

    @property
    def received(self) -> int:
        """Bytes that are there."""
        if self.length is None:
            return sum(one.position for one in self.missing)
        return self.length - sum((one.end or 0) - one.position for one in self.missing)

    def write(self, place: Range, data: bytes) -> None:
        """Writes at the beginning of what is missing there, which is less afterwards."""
        view = memoryview(data)
        while view:
            try:
                written = os.pwrite(self._fileno(), view, place.position)
            except OSError as error:
                raise file_failure(error, self.path) from None
            place.position += written
            view = view[written:]
        if monotonic() - self._noted_at > _NOTED_EVERY:
            self.note()

    def note(self) -> None:
        """Writes down what is there, for another run to go on with; nothing where that could not be told from another
        version."""
        self._noted_at = monotonic()
        if self._descriptor is None or not self.can_resume or self._is_forgotten:
            return
        note = {
            "url": self.url,
            "length": self.length,
            "etag": self.validator.etag,
            "last_modified": self.validator.last_modified,
            "missing": [[one.position, one.end] for one in self.missing if not one.is_done],
        }
        new = self.note_path.with_name(self.note_path.name + ".new")
        try:
            new.write_text(json.dumps(note))
            new.replace(self.note_path)
        except OSError as error:
            with suppress(OSError):
                new.unlink()
            raise file_failure(error, self.note_path) from None

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of what is there."""
        try:
            return os.pread(self._fileno(), size, offset)
        except OSError as error:
            raise file_failure(error, self.path) from None

    def finish(self) -> None:
        """Gives the file its name. Failure unless all of it is there."""
        size = os.fstat(self._fileno()).st_size
        if self.length is not None and (size != self.length or any(not one.is_done for one in self.missing)):
            raise Failure(f"{self.path} has {size} bytes and should have {self.length}", FILE)
        self.close()
        try:
            self.path.replace(self.target)
        except OSError as error:
            raise file_failure(error, self.target) from None
        with suppress(OSError):
            self.note_path.unlink()

    def forget(self) -> None:
        """Leaves no note: what is there is not to be gone on with."""
        self._is_forgotten = True
        with suppress(OSError):
            self.note_path.unlink()

    def close(self) -> None:
        """Closes the file, which stays."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.close(descriptor)
            except OSError as error:
                raise file_failure(error, self.path) from None

    def _fileno(self) -> int:
        assert self._descriptor is not None
        return self._descriptor


def _present_end(missing: list[Range], length: int) -> int:
    """What the size of a file is at least where nothing else is missing."""
    end = length
    for one in sorted(missing, key=lambda one: one.position, reverse=True):
        if one.end == end:
            end = one.position
    return end
