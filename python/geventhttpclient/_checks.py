"""Arguments that are checked before anything is made of them: what is wrong is named."""

from __future__ import annotations

import re
import sys
from typing import Any

# RFC 3986 section 3.2.2, and what names hold in practice; brackets are for IPv6.
_HOST = re.compile(r"[^\x00-\x20\x7f/?#@\\<>\[\]]+|\[[0-9A-Fa-f:.]+(%[^\x00-\x20\x7f/?#@\[\]]+)?\]")


def check_host(name: str, host: Any) -> None:
    """ValueError or TypeError unless it may be a name or an address, and nothing more."""
    if not isinstance(host, str):
        raise TypeError(f"{name} must be a str, not {host!r}")
    if not _HOST.fullmatch(host):
        raise ValueError(f"{name} must be a name or an address, not {host!r}")


def check_count(name: str, count: Any) -> None:
    """ValueError or TypeError unless it is a number from 1 to what can be counted."""
    if not isinstance(count, int):
        raise TypeError(f"{name} must be an int, not {count!r}")
    if not 1 <= count <= sys.maxsize:
        raise ValueError(f"{name} must be at least 1 and at most {sys.maxsize}, not {count}")


def check_port(name: str, port: Any) -> None:
    """ValueError or TypeError unless it is a number from 0 to 65535."""
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"{name} must be an int, not {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"{name} must be between 0 and 65535, not {port}")


def check_timeouts(
    connection: float | None, network: float | None, pool: float | None, total: float | None
) -> tuple[float | None, float | None, float | None, float | None]:
    """The four as they are; TypeError that names the one that is no number of seconds."""
    named = {
        "connection_timeout": connection,
        "network_timeout": network,
        "pool_timeout": pool,
        "total_timeout": total,
    }
    for name, timeout in named.items():
        if timeout is not None and not isinstance(timeout, (int, float)):
            raise TypeError(f"{name} must be a number of seconds or None, not {timeout!r}")
    return connection, network, pool, total
