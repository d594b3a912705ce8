"""Keeps the outputs of parallel tasks in a fixed order."""

from __future__ import annotations

import sys
import tempfile
from typing import IO, TYPE_CHECKING

from gevent.event import Event

from geventhttpclient.cli.failure import failure_line
from geventhttpclient.cli.output import Output

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

# Maximum bytes of output that wait in memory for their turn; more of them wait in a temporary file.
_IN_MEMORY = 1 << 20
_PIECE = 1 << 16


class Turn:
    """The output of one task. Data written before its turn is held; afterwards it is passed on at once.

    The end of the with-block waits for this turn, and then begins the next one.
    """

    def __init__(self, output: Output, before: Turn | None) -> None:
        self._output = output
        self._before = before
        self._waiting: IO[bytes] | None = None
        self._notes: list[str] = []
        self.is_over: Event = Event()

    @property
    def _has_come(self) -> bool:
        return self._before is None or self._before.is_over.is_set()

    def write(self, data: bytes) -> None:
        """Writes to the shared output."""
        if self._has_come:
            self._catch_up()
            self._output.write(data)
        else:
            if self._waiting is None:
                self._waiting = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - until its turn has come
            self._waiting.write(data)

    def note(self, text: str) -> None:
        """Writes lines to stderr."""
        self._notes.append(text)
        if self._has_come:
            self._catch_up()

    def note_failure(self, text: str) -> None:
        """Writes one line to stderr, formatted as by `say`."""
        self.note(failure_line(text))

    def _catch_up(self) -> None:
        notes, self._notes = self._notes, []
        for text in notes:
            sys.stderr.write(text)
            sys.stderr.flush()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            with waiting:
                waiting.seek(0)
                while piece := waiting.read(_PIECE):
                    self._output.write(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            if self._before is not None:
                self._before.is_over.wait()
            self._catch_up()
        self._before = None  # else the last turn would keep the first one alive
        self.is_over.set()
