"""Third-party packages that are built on geventhttpclient: see dependents.txt."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import geventhttpclient
from geventhttpclient import _core
from tests.support.requirements import missing


def need(package: str) -> None:
    """Skips the test or the module if that package, or module of one, is not installed; fails if it has replaced this
    one."""
    try:
        is_installed = importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # one of the packages that it is in
        is_installed = False
    if not is_installed:
        missing(f"{package} (make dependents)")
    assert importlib.metadata.version("geventhttpclient") == geventhttpclient.__version__
    assert _core.__file__, "ours alone has a _core"
