"""The packages httpx and httpx2, for tests of what their transports have in common."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


class Package:
    """One of the packages, its transport on this engine, and the exceptions of its network streams."""

    def __init__(self, name: str) -> None:
        self.package: Any = pytest.importorskip(name, reason=f"{name} is not installed")
        self.core: Any = importlib.import_module(name.replace("httpx", "httpcore"))
        self.transport: Any = importlib.import_module(f"geventhttpclient.adapters.{name}").Transport

    def client(self, **options: Any) -> Any:
        """Returns a client of the package with the transport, which gets the options."""
        return self.package.Client(transport=self.transport(**options), trust_env=False, timeout=10)


@pytest.fixture(params=["httpx", "httpx2"])
def package(request: pytest.FixtureRequest) -> Package:
    """Each of the packages."""
    return Package(request.param)
