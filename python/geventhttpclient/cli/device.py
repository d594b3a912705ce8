"""Targets of a download that are not regular files: devices, FIFOs, open descriptors of the process."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import IO, Any

import gevent

from geventhttpclient.cli.failure import FILE, Failure
from geventhttpclient.cli.output import Output
from geventhttpclient.cli.part import Range, Validator

# Seconds between two attempts to open a FIFO that has no reader yet.
_READER_DELAY = 0.05

_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def is_device(target: Path) -> bool:
    """Returns True if the target must be written to in place, and not be replaced by a file."""
    if _descriptor(target) is not None or os.path.realpath(target.parent).startswith("/proc/"):
        return True
    seen = _stat(target)
    return seen is not None and not stat.S_ISREG(seen.st_mode) and not stat.S_ISDIR(seen.st_mode)


def _descriptor(target: Path) -> int | None:
    """Returns the descriptor of this process that the path names, or None if it names anything else."""
    path = os.path.abspath(target)
    if path in _STANDARD:
        return _STANDARD[path]
    directory = os.path.realpath(target.parent)
    own = rf"/dev/fd|/proc/{os.getpid()}(/task/[0-9]+)?/fd"
    return int(target.name) if re.fullmatch(own, directory) and re.fullmatch("[0-9]{1,9}", target.name) else None


def _stat(target: Path) -> os.stat_result | None:
    try:
        return os.stat(target)
    except OSError:
        return None


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return stat.S_IFMT(found.st_mode), found.st_dev, found.st_ino, found.st_rdev


class Device:
    """A target with the interface of Part that is written in order as data arrives, and that cannot be resumed."""

    def __init__(self, target: Path, checksum: str | None) -> None:
        """`checksum` is the name of the algorithm that `digest` will be called with.

        Raises Failure if the path names something else when it is opened than it does now.
        """
        self.target: Path = target
        self.path: Path = target
        self.url: str = ""
        self.length: int | None = None
        self.validator: Validator = Validator(None, None)
        self.missing: list[Range] = []
        self.is_open: bool = False
        self._checksum = checksum
        self._digest: Any = None
        self._seen = _stat(target)
        # A file that another process has put there must not be written to.
        if _descriptor(target) is None and (self._seen is None or stat.S_ISREG(self._seen.st_mode)):
            raise self._refused()
        self._output = self._closed_output()

    def _closed_output(self) -> Output:
        is_stdout = _descriptor(self.target) == 1
        return Output(None if is_stdout else str(self.target), None if is_stdout else self._open)

    def _open(self) -> IO[bytes]:
        number = _descriptor(self.target)
        if number is not None:
            # Descriptors that this process has opened itself are not the user's.
            if not os.get_inheritable(number):
                raise self._refused()
            return open(os.dup(number), "wb", buffering=0)
        descriptor = self._open_named()
        try:
            if self._seen is None or _identity(os.fstat(descriptor)) != _identity(self._seen):
                raise self._refused()
            os.set_blocking(descriptor, True)
            return open(descriptor, "wb", buffering=0)
        except BaseException:
            os.close(descriptor)
            raise

    def _open_named(self) -> int:
        """Opens the target without creating or truncating it. Waits until a FIFO has a reader."""
        while True:
            try:
                return os.open(self.target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError as error:
                now = _stat(self.target)
                if error.errno != errno.ENXIO or now is None or not stat.S_ISFIFO(now.st_mode):
                    raise
            gevent.sleep(_READER_DELAY)

    def _refused(self) -> Failure:
        return Failure(f"{self.target} is no longer the same device or FIFO: nothing was written to it", FILE)

    def begin(self, url: str, length: int | None, validator: Validator) -> None:
        """Opens the device, with nothing written yet."""
        self.url, self.length, self.validator = url, length, validator
        self.missing = [Range(0, length)]
        self._digest = None if self._checksum is None else hashlib.new(self._checksum)
        self._output.write(b"")
        self.is_open = True

    @property
    def can_resume(self) -> bool:
        """True if the length and the version of the file are known."""
        return self.length is not None and bool(self.validator)

    @property
    def received(self) -> int:
        """Number of bytes written."""
        return sum(one.position for one in self.missing)

    def write(self, place: Range, data: bytes) -> None:
        """Writes the next bytes and advances the range."""
        self._output.write(data)
        place.position += len(data)
        if self._digest is not None:
            self._digest.update(data)

    def note(self) -> None:
        """Does nothing: a device has no note."""

    def digest(self, name: str) -> str:
        """Returns the checksum of the bytes written, in hexadecimal digits."""
        return str(self._digest.hexdigest())

    def finish(self) -> None:
        """Does nothing: every byte has been written to the device already."""

    def forget(self) -> None:
        """Does nothing: a device has no note."""

    def close(self) -> None:
        """Closes the device. The next write opens it again."""
        output, self._output = self._output, self._closed_output()
        self.is_open = False
        output.close()
