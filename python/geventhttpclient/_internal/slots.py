"""Pickling of classes with slots."""

from __future__ import annotations

from typing import Any

__all__ = ["reduce_with_slots"]


def reduce_with_slots(self: Any, protocol: Any) -> Any:
    """Calls Python's `__reduce_ex__` with protocol 2 or later, since earlier ones do not support slots."""
    return object.__reduce_ex__(self, max(protocol, 2))
