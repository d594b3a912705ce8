"""The latency histogram of `geventhttpclient bench`, compared with a sorted list of all values."""

from __future__ import annotations

import random
import statistics
import threading

import pytest

from geventhttpclient._core import Histogram


def test_histogram_empty_has_zeros() -> None:
    histogram = Histogram()
    assert (histogram.count, histogram.min, histogram.max, histogram.mean, histogram.stdev) == (0, 0, 0, 0, 0)
    assert (histogram.percentile(50), histogram.buckets()) == (0, [])


@pytest.mark.parametrize("seed", range(5))
def test_histogram_equals_a_sorted_list_to_three_digits(seed: int) -> None:
    chance = random.Random(seed)
    values = sorted(int(chance.lognormvariate(6, 2)) + 1 for _ in range(5003))
    histogram = Histogram()
    for value in chance.sample(values, len(values)):
        histogram.record(value)
    assert histogram.count == len(values)
    assert histogram.min == pytest.approx(values[0], rel=0.001)
    assert histogram.max == pytest.approx(values[-1], rel=0.001)
    assert histogram.mean == pytest.approx(statistics.fmean(values), rel=0.001)
    assert histogram.stdev == pytest.approx(statistics.pstdev(values), rel=0.002)
    for p in (1, 50, 75, 90, 99, 99.9, 100):
        # With this number of values no percentile falls between two of them.
        rank = max(1, -(-round(p * 10) * len(values) // 1000))
        assert histogram.percentile(p) == pytest.approx(values[rank - 1], rel=0.0011, abs=1), p
    assert sum(count for _, count in histogram.buckets()) == len(values)
    assert histogram.buckets() == sorted(histogram.buckets())


def test_values_beyond_the_bound_count_as_the_bound() -> None:
    histogram = Histogram(1, 1000)
    histogram.record(0)
    histogram.record(10**15)
    assert histogram.count == 2
    assert histogram.max == pytest.approx(1000, rel=0.03)


def test_histograms_are_added_and_reset() -> None:
    one, other = Histogram(), Histogram()
    one.record(10)
    other.record(20)
    one.add(other)
    one.add(one)
    assert (one.count, one.min, one.max) == (4, 10, 20)
    one.reset()
    assert (one.count, other.count) == (0, 1)


@pytest.mark.parametrize("bounds", [(0, 10, 3), (10, 11, 3), (1, 10, 6)])
def test_histogram_with_invalid_bounds_raises(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"value|digits"):
        Histogram(*bounds)


@pytest.mark.parametrize("p", [-1, 100.1, float("nan")])
def test_histogram_with_invalid_percentile_raises(p: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        Histogram().percentile(p)


def test_histogram_records_from_any_thread() -> None:
    histogram = Histogram()
    threads = [threading.Thread(target=lambda: [histogram.record(5) for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert histogram.count == 4000
