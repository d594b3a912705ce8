"""A download's target that is no regular file: a device, a FIFO, a descriptor of the process."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from geventhttpclient.cli.output import Output
from geventhttpclient.cli.part import Range, Validator


def is_device(target: Path) -> bool:
    """Tells whether what has that name is to be written to, and not to be replaced by a file."""
    directory = os.path.realpath(target.parent)
    if directory.startswith(("/proc/", "/dev/fd")) or os.path.abspath(target) in ("/dev/stdout", "/dev/stderr"):
        return True  # whatever the descriptor is
    try:
        mode = os.stat(target).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


class Device:
    """As a Part, but written in order, as it comes; nothing is left of it to go on with."""

    def __init__(self, target: Path, checksum: str | None) -> None:
        """`checksum` is the name of what `digest` is going to be asked for."""
        self.target = self.path = target
        self.url: str = ""
        self.length: int | None = None
        self.validator: Validator = Validator(None, None)
        self.missing: list[Range] = []
        self.is_open: bool = False
        self._output = Output(None if os.path.abspath(target) == "/dev/stdout" else str(target))
        self._digest: Any = None if checksum is None else hashlib.new(checksum)

    def begin(self, url: str, length: int | None, validator: Validator) -> None:
        """Begins with nothing."""
        self.url, self.length, self.validator = url, length, validator
        self.missing = [Range(0, length)]
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
        """Closes the device."""
        self._output.close()
