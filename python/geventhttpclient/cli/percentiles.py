"""A percentile axis for matplotlib charts, where each further nine has the same width: 90 % is at 1, 99 % at 2."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any


def steps(counts: Iterable[tuple[int, int]], total: int) -> Iterator[tuple[float, float]]:
    """Converts pairs of latency in microseconds and number of requests, the fastest first, to points of the chart.

    A point is the position of the percentile up to which requests took at most that many milliseconds, and these.
    """
    seen = 0
    for microseconds, count in counts:
        seen += count
        # 100 % would be at infinity.
        yield math.log10(1 / max(1 - seen / total, 1 / total / 2)), microseconds / 1000


def name_places(axes: Any, nines: int, least: str = "") -> None:
    """Labels the x axis up to that many nines with percentages, and its origin with `least`."""
    ticks = {0.0: least} if least else {}
    ticks |= {math.log10(2): "50 %"}
    ticks |= {float(nine): f"{100 - 100 / 10**nine:.{max(0, nine - 2)}f} %" for nine in range(1, nines + 1)}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlim(0, nines)
    axes.set_xlabel("of the requests were answered within")
