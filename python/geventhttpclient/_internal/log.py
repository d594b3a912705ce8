"""The logger `geventhttpclient`. It logs connections that are opened and closed, with the reason, and requests that are
retried, at the level DEBUG. Behaviour of a peer that suggests an attack is logged as a WARNING."""

from __future__ import annotations

import logging
from collections.abc import Iterable

__all__ = ["logger", "write"]

logger = logging.getLogger("geventhttpclient")
# Without it, logging would write warnings to stderr if the program has no handler.
logger.addHandler(logging.NullHandler())


def write(notes: Iterable[tuple[int, str]]) -> None:
    """Logs the levels and texts that the engine has queued."""
    for level, text in notes:
        logger.log(level, "%s", text)
