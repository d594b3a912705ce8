"""Pairwise selection from matrices of test cases: few cells that still combine each two values at least once.

`make test` runs those; the others have the mark `long`, and `make test-long` runs all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations
from typing import Any

import pytest


def covering(cells: Sequence[Sequence[Hashable]]) -> set[int]:
    """Returns the indices of cells that together have every pair of values, in two places, that any cell has.

    A cell is one value for each axis. Greedy, and the same for the same cells: the next one is the first of those with
    the most pairs that are still missing.
    """
    pairs = [frozenset(combinations(enumerate(cell), min(2, len(cell)))) for cell in cells]
    missing = set[object]().union(*pairs)
    chosen: set[int] = set()
    # A cell never has more missing pairs than when it was looked at last.
    bounds = [len(each) for each in pairs]
    while missing:
        best, most = -1, 0
        for index, bound in enumerate(bounds):
            if bound > most:
                bounds[index] = count = len(pairs[index] & missing)
                if count > most:
                    best, most = index, count
        chosen.add(best)
        missing -= pairs[best]
    return chosen


def thinned(cells: Iterable[Any], axes: Callable[[Any], Sequence[Hashable]]) -> list[Any]:
    """Returns the cells as `pytest.param`, which they may be already. Those that add no pair of `axes` are `long`."""
    cells = list(cells)
    chosen = covering([axes(cell) for cell in cells])
    params = [cell if hasattr(cell, "marks") else pytest.param(cell) for cell in cells]
    return [
        param if index in chosen else param._replace(marks=(*param.marks, pytest.mark.long))
        for index, param in enumerate(params)
    ]
