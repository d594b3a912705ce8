"""A partial download: the directory `.NAME.part` next to the target file, accessible to its user only.

Its file `data` has the bytes received so far, and `note.json` describes them: `format`, `url` (without credentials),
`length` (bytes, or null), `etag`, `last_modified` and `missing`, a list of [from, to) in bytes. The note is rewritten
from time to time, always after the bytes that it declares present.

A name that a server proposes has no slash and does not begin with a dot (see filename.py): no download can write to the
directory of another one. Links in the directory are not followed, and no files with other names are written.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import gevent

from geventhttpclient import _core
from geventhttpclient.cli.failure import FILE, Failure, file_failure
from geventhttpclient.cli.renaming import rename_new

# Seconds between two notes; the data of that time is lost if the system crashes.
_NOTED_EVERY = 1.0

_FORMAT = 2

_DATA = "data"
_NOTE = "note.json"
_NEW_NOTE = "note.json.new"

# Limits of a note: this package writes none that exceeds them.
MAX_NOTE_BYTES = 1 << 20
MAX_RANGES = 10_000
_MAX_LENGTH = 10**18

_HASHED_AT_ONCE = 1 << 20

# Maximum attempts to enter the directory while other processes remove it.
_MAX_ATTEMPTS = 8


class Range:
    """A range of missing bytes, from `position` to `end`, which is None if it is unknown."""

    __slots__ = ("end", "position")

    def __init__(self, position: int, end: int | None) -> None:
        self.position: int = position
        self.end: int | None = end

    @property
    def is_done(self) -> bool:
        """True if no byte is missing."""
        return self.end is not None and self.position >= self.end


class Validator:
    """The strong validator of one version of a file: a strong ETag, or else a Last-Modified that is strong too.

    Only responses that share it may be combined (RFC 9110 section 15.3.7.3).
    """

    __slots__ = ("etag", "last_modified")

    def __init__(self, etag: Any, last_modified: Any) -> None:
        """`last_modified` must be strong by RFC 9110 section 8.8.2.2, or None."""
        is_strong = isinstance(etag, str) and len(etag) > 1 and etag[0] == etag[-1] == '"'
        self.etag: str | None = etag if is_strong else None
        self.last_modified: str | None = last_modified if isinstance(last_modified, str) else None

    def __bool__(self) -> bool:
        return self.value is not None

    @property
    def value(self) -> str | None:
        """The value of If-Range."""
        return self.etag or self.last_modified

    def is_shared_by(self, other: Validator) -> bool:
        """Returns True if a response with the other validator is of the same version. An empty one never is."""
        if self.etag is None:
            return self.last_modified is not None and self.last_modified == other.last_modified
        dates = (self.last_modified, other.last_modified)
        return self.etag == other.etag and (None in dates or dates[0] == dates[1])


class Part:
    """The incomplete file, open for writing at any offset. Raises Failure if a file operation fails."""

    def __init__(self, target: Path, replaces: bool) -> None:
        """`replaces` allows replacing an existing target at the end."""
        self.target = target
        self.directory: Path = target.with_name(f".{target.name}.part")
        self.path: Path = self.directory / _DATA
        self.url: str = ""
        self.length: int | None = None
        self.validator: Validator = Validator(None, None)
        self.missing: list[Range] = []
        self._replaces = replaces
        self._descriptor: int | None = None
        self._noted_at = 0.0
        self._is_forgotten = False
        self._is_published = False
        self._found: Any = None
        self._directory: int | None = self._enter()

    def _enter(self) -> int:
        """Opens and locks the directory; creates it if it is missing. Raises Failure if it is not a download's."""
        for _ in range(_MAX_ATTEMPTS):
            try:
                os.mkdir(self.directory, 0o700)
            except FileExistsError:
                pass
            except OSError as error:
                raise file_failure(error, self.directory) from None
            try:
                directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            except OSError as error:
                is_other = error.errno in (errno.ENOTDIR, errno.ELOOP)  # a file, or a link
                raise self._foreign() if is_other else file_failure(error, self.directory) from None
            try:
                if self._claim(directory):
                    return directory
            except BaseException:
                os.close(directory)
                raise
            os.close(directory)
        raise self._busy()

    def _claim(self, directory: int) -> bool:
        """Locks the directory and reads its note. Returns False if it has been removed in the meantime."""
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._busy() from None
        except OSError:
            pass  # a file system without locks
        entered = os.fstat(directory)
        try:
            named = os.stat(self.directory, follow_symlinks=False)
        except OSError:
            return False
        if (entered.st_dev, entered.st_ino) != (named.st_dev, named.st_ino):
            return False
        if entered.st_uid != os.geteuid() or entered.st_mode & 0o022:
            raise self._foreign()
        self._found = _read_note(directory)
        names = set(os.listdir(directory))
        if not names <= {_DATA, _NOTE, _NEW_NOTE} or (names and self._found is None):
            raise self._foreign()
        return True

    def _foreign(self) -> Failure:
        return Failure(
            f"{self.directory} already exists and was not left by a download: move it away, or name a file with -o",
            FILE,
        )

    def _busy(self) -> Failure:
        return Failure(f"{self.directory}: another download is using it: wait for it, or name a file with -o", FILE)

    @property
    def has_left(self) -> bool:
        """True if an earlier download has left a note here."""
        return self._found is not None

    def recall(self, url: str) -> bool:
        """Opens the data that an earlier run has left of this URL. Returns False if its note cannot be trusted."""
        found = _recalled(self._found, _core.redact(url))
        if found is None:
            return False
        length, validator, missing = found
        try:
            descriptor = os.open(_DATA, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._directory)
        except OSError:
            return False
        seen = os.fstat(descriptor)
        is_own = stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1 and seen.st_uid == os.geteuid()
        if not is_own or not _present_end(missing, length) <= seen.st_size <= length:
            os.close(descriptor)
            return False
        self.url, self.length, self.validator, self.missing = url, length, validator, missing
        self._descriptor = descriptor
        return True

    def begin(self, url: str, length: int | None, validator: Validator) -> None:
        """Creates the data file, with all bytes missing."""
        self._close_data()
        self.url, self.length, self.validator = url, length, validator
        self.missing = [Range(0, length)]
        # The old data is removed before its note, and the new note is written before its data: if this is interrupted
        # at any point, the directory is recognized as that of a download without data.
        self._remove(_DATA)
        self._write_note()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(_DATA, flags, 0o666, dir_fd=self._directory)
        except OSError as error:
            raise file_failure(error, self.path) from None

    @property
    def is_open(self) -> bool:
        """True if the data file is open."""
        return self._descriptor is not None

    @property
    def can_resume(self) -> bool:
        """True if the length and the version of the file are known."""
        return self.length is not None and bool(self.validator)

    @property
    def received(self) -> int:
        """Number of bytes received."""
        if self.length is None:
            return sum(one.position for one in self.missing)
        return self.length - sum((one.end or 0) - one.position for one in self.missing)

    def write(self, place: Range, data: bytes) -> None:
        """Writes the next bytes of a range and advances it."""
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
        """Writes the note for a later run, if the data can be resumed."""
        if self._descriptor is not None and self.can_resume and not self._is_forgotten:
            self._write_note()

    def _write_note(self) -> None:
        self._noted_at = monotonic()
        missing = [[one.position, one.end] for one in self.missing if not one.is_done]
        note = {
            "format": _FORMAT,
            "url": _core.redact(self.url),
            "length": self.length,
            "etag": self.validator.etag,
            "last_modified": self.validator.last_modified,
            "missing": None if self._is_forgotten else missing,
        }
        try:
            self._remove(_NEW_NOTE)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(_NEW_NOTE, flags, 0o600, dir_fd=self._directory), "w") as new:
                json.dump(note, new)
            os.replace(_NEW_NOTE, _NOTE, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError as error:
            raise file_failure(error, self.directory / _NOTE) from None

    def digest(self, name: str) -> str:
        """Returns the checksum of the data in hexadecimal digits; `name` is its name in hashlib."""
        digest, offset = hashlib.new(name), 0
        while piece := self._read(offset, _HASHED_AT_ONCE):
            digest.update(piece)
            offset += len(piece)
            gevent.sleep(0)
        return digest.hexdigest()

    def _read(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._fileno(), size, offset)
        except OSError as error:
            raise file_failure(error, self.path) from None

    def finish(self) -> None:
        """Moves the data to the target. Raises Failure if data is missing, or if the target appeared meanwhile."""
        size = os.fstat(self._fileno()).st_size
        if self.length is not None and (size != self.length or any(not one.is_done for one in self.missing)):
            raise Failure(f"{self.path} has {size} bytes and should have {self.length}", FILE)
        with suppress(Failure):
            self.note()
        self._close_data()
        try:
            self._publish()
        except FileExistsError:
            raise Failure(
                f"{self.target} has appeared in the meantime: the download is kept in {self.path}; "
                "move one of them, or use --overwrite",
                FILE,
            ) from None
        except OSError as error:
            raise file_failure(error, self.target) from None
        self._is_published = True

    def _publish(self) -> None:
        """Renames the data. Raises FileExistsError if the target exists and must not be replaced."""
        assert self._directory is not None
        if self._replaces:
            os.replace(_DATA, self.target, src_dir_fd=self._directory)
        else:
            rename_new(_DATA, self.target, self._directory)

    def forget(self) -> None:
        """Keeps the data, with a note that it must not be resumed."""
        self._is_forgotten = True
        self._write_note()

    def close(self) -> None:
        """Closes the data and unlocks the directory. Removes it if the download is complete or has no data."""
        is_empty = self.is_open and not self.received
        self._close_data()
        directory = self._directory
        if directory is not None:
            if self._is_published or is_empty:
                for name in (_DATA, _NEW_NOTE, _NOTE):
                    with suppress(Failure):
                        self._remove(name)
            with suppress(OSError):  # not empty
                os.rmdir(self.directory)
            self._directory = None
            os.close(directory)

    def _close_data(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.close(descriptor)
            except OSError as error:
                raise file_failure(error, self.path) from None

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise file_failure(error, self.directory / name) from None

    def _fileno(self) -> int:
        assert self._descriptor is not None
        return self._descriptor


def _read_note(directory: int) -> dict[str, Any] | None:
    """Returns the note if it is in the current format. Its values are not checked yet."""
    try:
        descriptor = os.open(_NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return None
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode) or seen.st_nlink != 1 or seen.st_size > MAX_NOTE_BYTES:
            return None
        note = json.loads(os.pread(descriptor, MAX_NOTE_BYTES, 0))
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(descriptor)
    return note if isinstance(note, dict) and note.get("format") == _FORMAT else None


def _recalled(note: Any, url: str) -> tuple[int, Validator, list[Range]] | None:
    """Returns the length, the validator and the missing ranges of a note, or None unless all of them are valid."""
    if note is None or note.get("url") != url:
        return None
    length, ranges = note.get("length"), note.get("missing")
    validator = Validator(note.get("etag"), note.get("last_modified"))
    if not validator or not _is_offset(length, _MAX_LENGTH):
        return None
    if not isinstance(ranges, list) or len(ranges) > MAX_RANGES:
        return None
    for one in ranges:
        if not isinstance(one, list) or len(one) != 2 or not all(_is_offset(edge, length) for edge in one):
            return None
    if any(start >= end for start, end in ranges) or any(one[1] > two[0] for one, two in pairwise(ranges)):
        return None
    return length, validator, [Range(start, end) for start, end in ranges]


def _is_offset(number: Any, most: int) -> bool:
    return type(number) is int and 0 <= number <= most


def _present_end(missing: list[Range], length: int) -> int:
    """Returns the minimum size of a data file from which only these ranges are missing."""
    end = length
    for one in sorted(missing, key=lambda one: one.position, reverse=True):
        if one.end == end:
            end = one.position
    return end
