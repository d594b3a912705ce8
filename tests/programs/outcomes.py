"""The outcomes of the cases of a program, for the test that runs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any


def print_outcomes(cases: Mapping[str, Callable[[], Any]]) -> None:
    """Prints as JSON what each case returns, or the exception that it raises."""
    outcomes: dict[str, Any] = {}
    for name, case in cases.items():
        try:
            outcomes[name] = case()
        except Exception as error:
            outcomes[name] = f"{type(error).__name__}: {error}"
    json.dump(outcomes, sys.stdout)
