"""The destination of response data: stdout, or a file that is created at the first write."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from geventhttpclient.cli.failure import Failure, OutputClosed, file_failure
from geventhttpclient.cli.interrupt import blocking

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Output:
    """stdout, or a file. Raises OutputClosed if the reader of stdout has closed it, and Failure if a file operation
    fails."""

    def __init__(self, path: str | None, opener: Callable[[], IO[bytes]] | None = None) -> None:
        """`opener` opens the file, if it cannot be opened by its name."""
        self.path = path
        self._opener = opener
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.close()
        except Failure:
            if e is None:
                raise

    def close(self) -> None:
        """Closes the file. stdout stays open."""
        if self._file is not None and self.path is not None:
            try:
                self._file.close()
            except OSError as error:
                raise file_failure(error, self.path) from None

    def _open(self) -> IO[bytes]:
        if self._opener is not None:
            return self._opener()
        return sys.stdout.buffer if self.path is None else open(self.path, "wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Writes all of the data, without buffering: the reader of a pipe gets it at once. b"" creates the file."""
        try:
            file = self._file = self._file or self._open()
            view = memoryview(data)
            with blocking():
                while view:
                    view = view[file.write(view) or 0 :]
                file.flush()
        except BrokenPipeError:
            raise OutputClosed from None
        except OSError as error:
            raise file_failure(error, self.path or "stdout") from None
