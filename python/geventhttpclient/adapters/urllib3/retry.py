"""urllib3's Retry, with cooperative pauses."""

from __future__ import annotations

from functools import lru_cache

import gevent
import urllib3


class Retry(urllib3.Retry):
    """urllib3's Retry, with cooperative pauses. Pools convert any other Retry to this class."""

    def sleep_for_retry(self, response: urllib3.BaseHTTPResponse) -> bool:
        """Waits for the time of Retry-After. Returns False if the response has none, or if it is 0."""
        seconds = self.get_retry_after(response)
        if seconds:
            gevent.sleep(seconds)
        return bool(seconds)

    def _sleep_backoff(self) -> None:
        seconds = self.get_backoff_time()
        if seconds > 0:
            gevent.sleep(seconds)


def cooperative(retries: urllib3.Retry) -> urllib3.Retry:
    """Returns an equal Retry with cooperative pauses."""
    if isinstance(retries, Retry):
        return retries
    kind = _cooperative_class(type(retries))  # type: ignore[arg-type]
    copy = kind.__new__(kind)
    copy.__dict__.update(retries.__dict__)
    return copy


@lru_cache(maxsize=64)
def _cooperative_class(kind: type[urllib3.Retry]) -> type[urllib3.Retry]:
    # The methods of a program's own class take precedence.
    if kind is urllib3.Retry:
        return Retry
    return type(kind.__name__, (kind, Retry), {"__module__": kind.__module__})  # pyright: ignore[reportGeneralTypeIssues]
