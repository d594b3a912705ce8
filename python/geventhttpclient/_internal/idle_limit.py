"""Limit of the idle connections of several clients together."""

from __future__ import annotations

import sys
from typing import Any

from geventhttpclient import _core

DEFAULT_MAX_IDLE_CONNECTIONS: int = 100
"""Most idle connections of an HTTPClientPool in each thread, over all origins."""


def idle_group(limit: int | None, concurrency: Any = None) -> _core.IdleGroup:
    """Returns a group that limits the idle connections of the clients that `join` it.

    None means the default limit, which is at least `concurrency`. Raises ValueError or TypeError, which names
    `max_idle_connections`, for an invalid limit.
    """
    if limit is None:
        # Connections to one origin that become idle together may be needed again together: they are not closed.
        limit = max(DEFAULT_MAX_IDLE_CONNECTIONS, concurrency if isinstance(concurrency, int) else 0)
    if not isinstance(limit, int):
        raise TypeError(f"max_idle_connections must be an int or None, not {limit!r}")
    if limit < 0:
        raise ValueError(f"max_idle_connections must be at least 0, not {limit}")
    return _core.IdleGroup(min(limit, sys.maxsize))


def join(client: Any, group: _core.IdleGroup) -> None:
    """Adds a client that has sent nothing yet to a group, which then counts its idle connections.

    Does nothing for a client class of the program that has no pool of this package.
    """
    pool = getattr(client, "_connection_pool", None)
    if isinstance(pool, _core.ConnectionPool):
        pool._join(group)
