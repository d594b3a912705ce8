"""A bound on the idle connections of several clients together."""

from __future__ import annotations

import sys
from typing import Any

from geventhttpclient import _core

DEFAULT_MAX_IDLE_CONNECTIONS: int = 100
"""Idle connections of an HTTPClientPool in each thread, over all origins."""


def idle_group(limit: int | None, concurrency: Any = None) -> _core.IdleGroup:
    """Returns what bounds the idle connections of the clients that `join` it.

    None as the limit is the default: no fewer than one client of that `concurrency` may have. Raises ValueError or
    TypeError that names `max_idle_connections`.
    """
    if limit is None:
        # What comes back from one origin at once may be asked for again at once: closing it is no use to anybody.
        limit = max(DEFAULT_MAX_IDLE_CONNECTIONS, concurrency if isinstance(concurrency, int) else 0)
    if not isinstance(limit, int):
        raise TypeError(f"max_idle_connections must be an int or None, not {limit!r}")
    if limit < 0:
        raise ValueError(f"max_idle_connections must be at least 0, not {limit}")
    return _core.IdleGroup(min(limit, sys.maxsize))


def join(client: Any, group: _core.IdleGroup) -> None:
    """Has the idle connections of a client that has sent nothing yet count for a group.

    A client of the program's own, without a pool of ours, is left as it is.
    """
    pool = getattr(client, "_connection_pool", None)
    if isinstance(pool, _core.ConnectionPool):
        pool._join(group)
