"""The timeouts of a request, from the client to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from geventhttpclient._internal.validation import check_seconds

__all__ = ["RequestTimeouts"]


class RequestTimeouts(NamedTuple):
    """Validated timeouts in seconds; None disables one. The engine takes it as the tuple that it is."""

    connection: float | None
    network: float | None
    pool: float | None = None
    total: float | None = None

    @classmethod
    def checked(cls, connection: Any, network: Any, pool: Any, total: Any) -> RequestTimeouts:
        """Returns the timeouts as numbers. Raises TypeError or ValueError that names an argument of HTTPClient."""
        return cls(
            check_seconds("connection_timeout", connection),
            check_seconds("network_timeout", network),
            check_seconds("pool_timeout", pool),
            check_seconds("total_timeout", total),
        )

    def changed(self, given: Mapping[str, Any]) -> RequestTimeouts:
        """Returns the timeouts with those replaced that are given by the names of HTTPClient's arguments.

        Raises KeyError for another name, TypeError or ValueError for a value that is not a number of seconds.
        """
        return self._replace(**{_FIELDS[name]: check_seconds(name, value) for name, value in given.items()})


_FIELDS = {
    "connection_timeout": "connection",
    "network_timeout": "network",
    "pool_timeout": "pool",
    "total_timeout": "total",
}
