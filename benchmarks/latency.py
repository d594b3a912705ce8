"""Histograms of latencies with a few hundred steps, which workers print, and percentiles of them.

Needs no package, since the interpreters of all clients import it. The edges of the steps are 2 % apart, so a percentile
is at most 2 % above the exact value, and never below.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

STEP = 1.02

# Pairs of an upper edge in microseconds and the count of latencies between the edge before and this one, ascending.
Counts = list[tuple[int, int]]


def edge(microseconds: float) -> int:
    """Returns the upper edge of the step of a latency."""
    return math.ceil(STEP ** math.ceil(math.log(max(microseconds, 1.0), STEP) - 1e-9))


def counted(pairs: Iterable[tuple[float, int]]) -> Counts:
    """Returns the histogram of pairs of a latency in microseconds and a count."""
    counter: Counter[int] = Counter()
    for microseconds, count in pairs:
        counter[edge(microseconds)] += count
    return sorted(counter.items())


def of_seconds(latencies: Iterable[float]) -> Counts:
    return counted((latency * 1e6, 1) for latency in latencies)


def together(several: Iterable[Counts]) -> Counts:
    """Returns the sum of histograms."""
    counter: Counter[int] = Counter()
    for counts in several:
        counter.update(dict(counts))
    return sorted(counter.items())


def without_wrks_own(counts: Counts, interval: int) -> Counts:
    """Returns only the latencies that wrk measured. For each latency of more than two intervals, wrk adds one latency
    for each further interval, as if it had sent requests during the wait; the loops of the other clients do not.
    `interval` is the mean time between two requests on a connection, in whole microseconds, as wrk computes it."""
    left = Counter(dict(counts))
    for longest in sorted(left, reverse=True):
        if longest < 2 * interval:
            break
        for added in range(longest - interval, interval, -interval):
            left[added] -= left[longest]
    return sorted((microseconds, count) for microseconds, count in left.items() if count)


def percentile(counts: Counts, percent: float) -> int:
    """Returns the percentile in microseconds. Raises ValueError for an empty histogram."""
    if not counts:
        raise ValueError("no latencies")
    rank = math.ceil(sum(count for _, count in counts) * percent / 100 - 1e-9)
    so_far = accumulate(count for _, count in counts)
    return next(microseconds for (microseconds, _), seen in zip(counts, so_far, strict=True) if seen >= rank)
