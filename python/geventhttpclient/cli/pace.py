"""How fast a download may be, and how it is coming along."""

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

# Seconds between two pictures of the bar.
_TICK = 0.1

# Bytes that are read at once where nothing limits the rate.
_PIECE = 1 << 18


class Throttle:
    """At most so many bytes a second, by whatever number of greenlets; any number with None."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._free_at = monotonic()

    @property
    def piece(self) -> int:
        """Bytes to be read at once, so that the rate is even."""
        return _PIECE if self._rate is None else max(1, min(_PIECE, self._rate // 20))

    def take(self, size: int) -> None:
        """Waits until so many bytes are allowed for. Other greenlets, and signals, get their turn in any case."""
        delay = 0.0
        if self._rate is not None:
            now = monotonic()
            self._free_at = max(self._free_at, now) + size / self._rate
            delay = self._free_at - now
        gevent.sleep(delay)


@contextmanager
def bar(console: Console | None, name: str, part: Part | Device) -> Iterator[None]:
    """A bar for one download, kept up to date by a greenlet; gone at the end."""
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
    # A terminal shows ^C behind the bar, and would begin another line for it.
    console.width -= 4
    with Progress(*columns, console=console, auto_refresh=False, transient=True, expand=True) as progress:
        task = progress.add_task(name, total=part.length, completed=part.received)

        def tick() -> None:
            progress.update(task, total=part.length, completed=part.received)
            progress.refresh()

        with ticking(tick, _TICK):
            yield
