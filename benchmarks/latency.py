"""Latencies counted by size, in a few hundred numbers: what a worker prints, and what percentiles are taken from.

Needs no package: every client's interpreter can have it. The edges of the steps are 2 % apart, so a percentile is at
most 2 % more than the exact one, and never less.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

STEP = 1.02

# Microseconds at most, and how many took so long (and longer than those of the pair before); the quickest first.
Counts = list[tuple[int, int]]


def edge(microseconds: float) -> int:
    """The upper edge of the step that this is on."""
    return math.ceil(STEP ** math.ceil(math.log(max(microseconds, 1.0), STEP) - 1e-9))


def counted(pairs: Iterable[tuple[float, int]]) -> Counts:
    """Of pairs of microseconds and how many took them."""
    counter: Counter[int] = Counter()
    for microseconds, count in pairs:
        counter[edge(microseconds)] += count
    return sorted(counter.items())


def of_seconds(latencies: Iterable[float]) -> Counts:
    return counted((latency * 1e6, 1) for latency in latencies)


def together(several: Iterable[Counts]) -> Counts:
    """The latencies of all of them, as if they had been counted at once."""
    counter: Counter[int] = Counter()
    for counts in several:
        counter.update(dict(counts))
    return sorted(counter.items())


def without_wrks_own(counts: Counts, interval: int) -> Counts:
    """What wrk has measured, exactly: of each latency of more than two intervals it counts one more for each interval
    that this is longer than one, as if it had gone on asking during the wait. Nobody else's loop does that. `interval`
    is the mean time between two requests on a connection, in whole microseconds, as wrk has it."""
    left = Counter(dict(counts))
    for longest in sorted(left, reverse=True):
        if longest < 2 * interval:
            break
        for added in range(longest - interval, interval, -interval):
            left[added] -= left[longest]
    return sorted((microseconds, count) for microseconds, count in left.items() if count)


def percentile(counts: Counts, percent: float) -> int:
    """The microseconds within which so many of a hundred were answered; ValueError where there were none."""
    if not counts:
        raise ValueError("no latencies")
    rank = math.ceil(sum(count for _, count in counts) * percent / 100 - 1e-9)
    so_far = accumulate(count for _, count in counts)
    return next(microseconds for (microseconds, _), seen in zip(counts, so_far, strict=True) if seen >= rank)
