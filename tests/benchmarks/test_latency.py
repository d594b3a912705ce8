"""Latencies of the benchmarks: counts by size and percentiles, in a closed loop and at a given rate."""

from __future__ import annotations

import asyncio
import math
import random
import time
from pathlib import Path
from types import ModuleType

import gevent
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def latency(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return pytest.importorskip("latency")


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return pytest.importorskip("loops")


def test_percentiles_exceed_those_of_sorted_latencies_by_at_most_two_percent(latency: ModuleType) -> None:
    dice = random.Random(8)
    seconds = [dice.lognormvariate(math.log(200e-6), 1) for _ in range(5000)]
    counts = latency.together([latency.of_seconds(seconds[:2000]), latency.of_seconds(seconds[2000:])])
    assert sum(count for _, count in counts) == len(seconds)
    exact = sorted(seconds)
    for percent in (0.1, 10, 50, 90, 99, 99.9, 100):
        wanted = exact[math.ceil(len(exact) * percent / 100) - 1] * 1e6
        assert wanted <= latency.percentile(counts, percent) <= wanted * 1.02 + 1


def test_percentile_without_latencies_raises(latency: ModuleType) -> None:
    with pytest.raises(ValueError, match="no latencies"):
        latency.percentile([], 50)


def test_correction_of_wrk_is_subtracted(latency: ModuleType) -> None:
    measured = {60: 500, 75: 300, 140: 7, 151: 5, 900: 2, 1000: 1}
    interval = 70
    told = dict(measured)
    for longest in [140, 151, 900, 1000]:  # latencies of two intervals or more
        for added in range(longest - interval, interval, -interval):
            told[added] = told.get(added, 0) + measured[longest]
    assert sum(told.values()) > sum(measured.values())
    assert latency.without_wrks_own(sorted(told.items()), interval) == sorted(measured.items())


def test_closed_loop_times_each_request(loops: ModuleType) -> None:
    run = loops.at_pace(loops.Greenlets(lambda: gevent.sleep(0.002), 3), "closed")
    count = run(0.02)
    assert len(run.spent) == count >= 3
    assert min(run.spent) >= 0.0015
    assert run(0) == len(run.spent) == 3  # only those of the last call


RATE, SECONDS, STALL = 1000, 0.2, 0.06


def check_that_a_stall_is_seen(count: int, spent: list[float]) -> None:
    """Checks that all requests were sent, and that those which were due during the stall are late by the rest of it."""
    assert count == len(spent) == RATE * SECONDS
    late = sorted(spent, reverse=True)
    assert late[0] >= STALL
    assert sum(latency > STALL / 3 for latency in late) >= RATE * STALL / 3


def test_rate_loop_with_stall_makes_due_requests_late(loops: ModuleType) -> None:
    calls = 0

    def once() -> None:
        nonlocal calls
        calls += 1
        if calls == 50:
            time.sleep(STALL)  # blocks the whole hub, like a client whose waits are not cooperative

    run = loops.at_pace(loops.Greenlets(once, 2), str(RATE))
    check_that_a_stall_is_seen(run(SECONDS), list(run.spent))


def test_rate_loop_of_tasks_with_stall_makes_due_requests_late(loops: ModuleType) -> None:
    calls = 0

    async def once() -> None:
        nonlocal calls
        calls += 1
        if calls == 50:
            time.sleep(STALL)

    loop = asyncio.new_event_loop()
    try:
        run = loops.at_pace(loops.Tasks(loop, once, 2), str(RATE))
        check_that_a_stall_is_seen(run(SECONDS), list(run.spent))
    finally:
        loop.close()
