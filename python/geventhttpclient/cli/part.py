"""A download that is not complete: the directory `.NAME.part` beside the file, which only its user may enter.

`data` in it is what has come, and `note.json` says of what: `format`, `url` (without credentials), `length` (bytes, or
null), `etag`, `last_modified` and `missing`, a list of [from, to) in bytes. The note is written anew now and then,
always after the bytes that it says are there.

A name that a server proposes has no slash and does not begin with a dot (see filename.py): no download can write to the
part of another one. Nothing in the directory is opened through a link, and no file with other names is written to.
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

# Seconds between two notes of what is there: what is lost if the system goes down without a word.
_NOTED_EVERY = 1.0

_FORMAT = 2

_DATA = "data"
_NOTE = "note.json"
_NEW_NOTE = "note.json.new"

# A note that is larger, or has more ranges, is not ours.
MAX_NOTE_BYTES = 1 << 20
MAX_RANGES = 10_000
_MAX_LENGTH = 10**18

_HASHED_AT_ONCE = 1 << 20

# How often the directory is looked for again when another process has just removed it.
_MAX_ATTEMPTS = 8


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
    """What tells one version of a file from another: a strong ETag, else a Last-Modified that is one, too.

    Only responses that share it may be combined (RFC 9110 section 15.3.7.3).
    """

    __slots__ = ("etag", "last_modified")

    def __init__(self, etag: Any, last_modified: Any) -> None:
        """`last_modified` is to be strong by RFC 9110 section 8.8.2.2, else None."""
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
        """Tells whether a response with the other one is of the same version. One that tells nothing is not."""
        if self.etag is None:
            return self.last_modified is not None and self.last_modified == other.last_modified
        dates = (self.last_modified, other.last_modified)
        return self.etag == other.etag and (None in dates or dates[0] == dates[1])


class Part:
    """The incomplete file, open for writing anywhere. Failure for all that files and disks refuse."""

    def __init__(self, target: Path, replaces: bool) -> None:
        """`replaces`: whether a file of that name may be replaced in the end."""
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
        """Opens the directory, which is made if it is missing, and locks it. Failure unless it is a part of ours."""
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
        """Locks the directory and reads its note. False if it has been removed meanwhile."""
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
            f"{self.directory} is there already and was not left by a download: move it away, or name a file by -o",
            FILE,
        )

    def _busy(self) -> Failure:
        return Failure(f"{self.directory}: another download is at work on it: wait for it, or name a file by -o", FILE)

    @property
    def has_left(self) -> bool:
        """Whether an earlier download has left something."""
        return self._found is not None

    def recall(self, url: str) -> bool:
        """Takes up what an earlier run has left of this URL, if it can be trusted to be that."""
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
        """Begins with nothing."""
        self._close_data()
        self.url, self.length, self.validator = url, length, validator
        self.missing = [Range(0, length)]
        # The old bytes go before their note, and the new note comes before its bytes: whenever this is interrupted,
        # what is left is known as a part, and as one that has nothing.
        self._remove(_DATA)
        self._write_note()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(_DATA, flags, 0o666, dir_fd=self._directory)
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
        """The checksum of the data, by its name in hashlib, in hexadecimal digits."""
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
        """Gives the file its name. Failure unless all of it is there, and where another has that name meanwhile."""
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
                f"{self.target} has appeared meanwhile: the download is left in {self.path}; "
                "move one of them, or say --overwrite",
                FILE,
            ) from None
        except OSError as error:
            raise file_failure(error, self.target) from None
        self._is_published = True

    def _publish(self) -> None:
        """Renames the data. Raises FileExistsError if the name is taken, unless it may be."""
        assert self._directory is not None
        if self._replaces:
            os.replace(_DATA, self.target, src_dir_fd=self._directory)
        else:
            rename_new(_DATA, self.target, self._directory)

    def forget(self) -> None:
        """Leaves what is there, and a note that it is not to be gone on with."""
        self._is_forgotten = True
        self._write_note()

    def close(self) -> None:
        """Closes the file, which stays if there is something in it, and unlocks it."""
        is_empty = self.is_open and not self.received
        self._close_data()
        directory = self._directory
        if directory is not None:
            if self._is_published or is_empty:
                for name in (_DATA, _NEW_NOTE, _NOTE):
                    with suppress(Failure):
                        self._remove(name)
            with suppress(OSError):  # as long as something is in it
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
    """The note, if it is one of ours; its values are not to be trusted yet."""
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
    """Length, validator and what is missing, from a note; None unless all of it can be."""
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
    """What the size of a file is at least where nothing else is missing."""
    end = length
    for one in sorted(missing, key=lambda one: one.position, reverse=True):
        if one.end == end:
            end = one.position
    return end
