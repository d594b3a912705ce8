"""Programs and packages that a test needs and that may not be installed. Light: test programs import it, too."""

from __future__ import annotations

import os
from typing import NoReturn


def missing(what: str) -> NoReturn:
    """Skips the test or the module that needs it; fails in CI, where everything must be installed."""
    import pytest

    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed, and CI must not skip what needs it")
    pytest.skip(f"{what} is not installed", allow_module_level=True)
