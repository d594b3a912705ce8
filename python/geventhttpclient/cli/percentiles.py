"""Percentiles across a chart of matplotlib's, each nine as wide as the one before it: 90 % is at 1, 99 % at 2."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any


def steps(counts: Iterable[tuple[int, int]], total: int) -> Iterator[tuple[float, float]]:
    """Of pairs of microseconds and how many took them, the quickest first: the place up to which requests took at most
    so many milliseconds, and these."""
    seen = 0
    for microseconds, count in counts:
        seen += count
        # The last one would be at infinity.
        yield math.log10(1 / max(1 - seen / total, 1 / total / 2)), microseconds / 1000


def name_places(axes: Any, nines: int, least: str = "") -> None:
    """Puts so many nines across, with their percentages, and a name for the quickest one where it has room."""
    ticks = {0.0: least} if least else {}
    ticks |= {math.log10(2): "50 %"}
    ticks |= {float(nine): f"{100 - 100 / 10**nine:.{max(0, nine - 2)}f} %" for nine in range(1, nines + 1)}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlim(0, nines)
    axes.set_xlabel("of the requests were answered within")
