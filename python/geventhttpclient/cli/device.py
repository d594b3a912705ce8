"""A download's target that is no regular file: a device, a FIFO, a descriptor of the process."""

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

# Seconds between two looks whether a FIFO has got a reader.
_READER_DELAY = 0.05

_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def is_device(target: Path) -> bool:
    """Tells whether what has that name is to be written to, and not to be replaced by a file."""
    if _descriptor(target) is not None or os.path.realpath(target.parent).startswith("/proc/"):
        return True
    seen = _stat(target)
    return seen is not None and not stat.S_ISREG(seen.st_mode) and not stat.S_ISDIR(seen.st_mode)


def _descriptor(target: Path) -> int | None:
    """The descriptor of this process that has that name; None for the name of anything else."""
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
    """As a Part, but written in order, as it comes; nothing is left of it to go on with."""

    def __init__(self, target: Path, checksum: str | None) -> None:
        """`checksum` is the name of what `digest` is going to be asked for.

        What the name leads to now is what is written to; Failure if it leads to something else when it is opened.
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
        # A file that another process has put in its place must not be written to.
        if _descriptor(target) is None and (self._seen is None or stat.S_ISREG(self._seen.st_mode)):
            raise self._refused()
        self._output = self._closed_output()

    def _closed_output(self) -> Output:
        is_stdout = _descriptor(self.target) == 1
        return Output(None if is_stdout else str(self.target), None if is_stdout else self._open)

    def _open(self) -> IO[bytes]:
        number = _descriptor(self.target)
        if number is not None:
            # One that this process has opened for itself is not the user's.
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
        """Opens what is there, which is neither made nor emptied. Waits until a FIFO has a reader."""
        while True:
            try:
                return os.open(self.target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError as error:
                now = _stat(self.target)
                if error.errno != errno.ENXIO or now is None or not stat.S_ISFIFO(now.st_mode):
                    raise
            gevent.sleep(_READER_DELAY)

    def _refused(self) -> Failure:
        return Failure(f"{self.target} is not the device or FIFO that it was: nothing was written to it", FILE)

    def begin(self, url: str, length: int | None, validator: Validator) -> None:
        """Begins with nothing."""
        self.url, self.length, self.validator = url, length, validator
        self.missing = [Range(0, length)]
        self._digest = None if self._checksum is None else hashlib.new(self._checksum)
        self._output.write(b"")
        self.is_open = True

    @property
    def can_resume(self) -> bool:
        """Whether it can be told what is missing, and of which version."""
        return self.length is not None and bool(self.validator)

    @property
    def received(self) -> int:
        """Bytes that were written."""
        return sum(one.position for one in self.missing)

    def write(self, place: Range, data: bytes) -> None:
        """Writes at the beginning of what is missing, which is less afterwards."""
        self._output.write(data)
        place.position += len(data)
        if self._digest is not None:
            self._digest.update(data)

    def note(self) -> None:
        """Leaves no note."""

    def digest(self, name: str) -> str:
        """The checksum of what was written, in hexadecimal digits."""
        return str(self._digest.hexdigest())

    def finish(self) -> None:
        """All of it is there already."""

    def forget(self) -> None:
        """Leaves no note."""

    def close(self) -> None:
        """Closes the device. It is opened again if it is written to again."""
        output, self._output = self._output, self._closed_output()
        self.is_open = False
        output.close()
