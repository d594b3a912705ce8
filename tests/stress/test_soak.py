"""A short form of `make soak`, and tests that it reports growth."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from tests.programs.soak import MOST_GROWN_KIB, Gauge
from tests.support.hub import ROOT

SECONDS = 5


def test_soak_of_five_seconds_is_flat() -> None:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.programs.soak", str(SECONDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("SOAK_SEED=")
    assert lines[-1] == "flat"
    assert "whole=" in lines[1]


@pytest.mark.parametrize(
    ("each_1000", "thousands", "is_flat"),
    [
        (1, 100, True),
        (MOST_GROWN_KIB, 1.1, False),
        (MOST_GROWN_KIB, 0.9, True),
        (3, 10_000, False),
        (1.5, 10_000, True),
    ],
)
def test_growth_is_reported(each_1000: float, thousands: float, is_flat: bool) -> None:
    gauge = Gauge(60, Counter)
    ticks = [thousands * 1000 * n / 20 for n in range(21)]
    gauge.memory = [(requests, 50_000 + each_1000 * requests / 1000) for requests in ticks]
    gauge.objects = [(requests, 40_000 + n % 2) for n, requests in enumerate(ticks)]
    complaints = list(gauge.complaints())
    assert (complaints == []) is is_flat
    assert all("KiB of memory" in complaint for complaint in complaints)


def test_growing_objects_are_reported() -> None:
    gauge = Gauge(60, Counter)
    gauge.memory = [(0.0, 50_000.0), (10_000.0, 50_000.0)]
    gauge.objects = [(0.0, 40_000.0), (10_000.0, 45_000.0)]
    assert list(gauge.complaints()) == ["not flat: 5000 objects more within 10.0 thousand requests"]
