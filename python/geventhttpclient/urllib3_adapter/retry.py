"""urllib3's Retry, whose pauses give way to other greenlets."""

from __future__ import annotations

from functools import lru_cache

import gevent
import urllib3


class Retry(urllib3.Retry):
    """urllib3's, whose pauses give way to other greenlets. Any other is made into such a one where it is used."""

    def sleep_for_retry(self, response: urllib3.BaseHTTPResponse) -> bool:
        """Waits as long as Retry-After says; whether it says anything."""
        seconds = self.get_retry_after(response)
        if seconds:
            gevent.sleep(seconds)
        return bool(seconds)

    def _sleep_backoff(self) -> None:
        seconds = self.get_backoff_time()
        if seconds > 0:
            gevent.sleep(seconds)


def patient(retries: urllib3.Retry) -> urllib3.Retry:
    """The same, with pauses that give way."""
    if isinstance(retries, Retry):
        return retries
    kind = _patient_class(type(retries))  # type: ignore[arg-type]
    copy = kind.__new__(kind)
    copy.__dict__.update(retries.__dict__)
    return copy


@lru_cache(maxsize=64)
def _patient_class(kind: type[urllib3.Retry]) -> type[urllib3.Retry]:
    # What a program's own class overrides is found before ours.
    if kind is urllib3.Retry:
        return Retry
    return type(kind.__name__, (kind, Retry), {"__module__": kind.__module__})  # pyright: ignore[reportGeneralTypeIssues]
