"""When to connect again to a stream that has ended: decisions without input, output or a clock."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

from geventhttpclient import exceptions

__all__ = ["MAX_BACKOFF", "MAX_DELAY", "MIN_BACKOFF", "Reconnection", "is_retried", "is_retried_status"]

# Seconds. The delay doubles with each failure, from at least this, up to that.
MIN_BACKOFF = 0.1
MAX_BACKOFF = 60.0

MAX_DELAY = 3600.0
"""Most seconds that a server can ask for."""

# Statuses that a server gives up soon: timeout, too early (RFC 8470), too many requests. 5xx are retried, too.
_RETRIED_STATUSES = frozenset({408, 425, 429})


def is_retried_status(status: int) -> bool:
    """Returns True if a response with this status is no answer to later requests."""
    return status in _RETRIED_STATUSES or 500 <= status < 600


def is_retried(error: BaseException) -> bool:
    """Returns True if another attempt may succeed after this error: those of the network, and of a message."""
    if isinstance(error, exceptions.RetriesExceeded):
        # Without an original error, there were too many redirects.
        return error.original is not None and is_retried(error.original)
    if isinstance(error, (exceptions.SSLCertVerificationError, exceptions.StreamFormatError)):
        return False
    # Files and sockets that the program names.
    if isinstance(error, (exceptions.FileNotFoundError, exceptions.NotADirectoryError, exceptions.PermissionError)):
        return False
    kinds = (exceptions.OSError, exceptions.HTTPParseError, exceptions.HTTP2Error, zlib.error)
    return isinstance(error, exceptions.HTTPClientError) and isinstance(error, kinds)


class Reconnection:
    """The delays between the connections of one stream, in seconds."""

    def __init__(self, retry: float, max_retries: int | None, chance: Callable[[], float] = random.random) -> None:
        """Takes the reconnection time until the server sends one, the most failures in succession, and a source of
        random numbers from 0 to 1."""
        self.retry = retry
        self.max_retries = max_retries
        self.failures = 0
        self._chance = chance

    def succeeded(self) -> None:
        """Notes that an item was received: the server works."""
        self.failures = 0

    def set_retry(self, milliseconds: int | None) -> None:
        """Sets the reconnection time that the server has sent, if any."""
        if milliseconds is not None:
            # A server that sends 0, and one event for each connection, would have thousands of them a second.
            self.retry = min(max(milliseconds / 1000, MIN_BACKOFF), MAX_DELAY)

    def delay(self, retry_after: float = 0.0) -> float | None:
        """Returns the time until the next connection after a failure or an end without items; None to give up.

        It doubles from the second failure in succession on, and is up to half longer by chance, so that the clients of
        a server that was restarted do not all return at once. `retry_after` is the time that the server asks for.
        """
        self.failures += 1
        if self.max_retries is not None and self.failures > self.max_retries:
            return None
        delay = self.retry
        if self.failures > 1:
            # The exponent is bounded: a number of failures is not.
            grown = max(self.retry, MIN_BACKOFF) * 2.0 ** min(self.failures - 1, 32)
            delay = max(self.retry, min(grown, MAX_BACKOFF))
        return max(delay * (1 + self._chance() / 2), min(retry_after, MAX_DELAY))
