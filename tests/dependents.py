"""Programs of others that are built on geventhttpclient, to be run on this one: see dependents.txt."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import geventhttpclient
from geventhttpclient import _core
from tests.conftest import missing


def need(package: str) -> None:
    """Skips the test, or the module, where that package is not installed; fails if it has replaced ours."""
    if importlib.util.find_spec(package) is None:
        missing(f"{package} (make dependents)")
    assert importlib.metadata.version("geventhttpclient") == geventhttpclient.__version__
    assert _core.__file__, "ours alone has a _core"
