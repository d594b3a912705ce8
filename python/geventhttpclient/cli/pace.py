"""The rate limit and the progress bar of a download."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from geventhttpclient.cli.tasks import ticking
from geventhttpclient.cli.units import bytes_text

if TYPE_CHECKING:
    from rich.console import Console

    from geventhttpclient.cli.device import Device
    from geventhttpclient.cli.part import Part

# Seconds between two updates of the bar.
_TICK = 0.1

# Maximum bytes of one read if the rate is not limited.
_PIECE = 1 << 18


class Throttle:
    """A limit in bytes per second for any number of greenlets together; None is no limit."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._free_at = monotonic()

    @property
    def piece(self) -> int:
        """Bytes of one read, small enough for an even rate."""
        return _PIECE if self._rate is None else max(1, min(_PIECE, self._rate // 20))

    def take(self, size: int) -> None:
        """Waits until that many bytes are allowed. Always yields to other greenlets and to signals."""
        delay = 0.0
        if self._rate is not None:
            now = monotonic()
            self._free_at = max(self._free_at, now) + size / self._rate
            delay = self._free_at - now
        gevent.sleep(delay)


@contextmanager
def bar(console: Console | None, name: str, part: Part | Device) -> Iterator[None]:
    """Shows a progress bar for one download. A greenlet updates it; it is removed at the end."""
    if console is None:
        yield
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{bytes_text(task.speed)}/s", "progress.data.speed")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        DownloadColumn(binary_units=True),
        Rate(),
        TimeRemainingColumn(compact=True),
    )
    # A terminal shows ^C after the bar, and would begin another line for it.
    console.width -= 4
    with Progress(*columns, console=console, auto_refresh=False, transient=True, expand=True) as progress:
        task = progress.add_task(name, total=part.length, completed=part.received)

        def tick() -> None:
            progress.update(task, total=part.length, completed=part.received)
            progress.refresh()

        with ticking(tick, _TICK):
            yield
