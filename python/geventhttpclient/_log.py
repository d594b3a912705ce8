"""What is told to the logger `geventhttpclient`: connections that are opened and closed, and why; requests that are
sent again. All of it has the level DEBUG, but for what a peer does that is not to be trusted: that is a WARNING."""

from __future__ import annotations

import logging
from collections.abc import Iterable

__all__ = ["logger", "write"]

logger = logging.getLogger("geventhttpclient")
# Without a handler of the program's nothing is shown, warnings neither: logging would write these to stderr.
logger.addHandler(logging.NullHandler())


def write(notes: Iterable[tuple[int, str]]) -> None:
    """Levels and texts, as the engine has kept them."""
    for level, text in notes:
        logger.log(level, "%s", text)
