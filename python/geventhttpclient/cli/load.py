"""The load of `bench`: greenlets that send one request after another, and what they found."""

from __future__ import annotations

import itertools
import resource
from collections import Counter
from collections.abc import Iterator
from time import perf_counter, perf_counter_ns
from typing import Any

import gevent

from geventhttpclient import _core
from geventhttpclient._core import Histogram
from geventhttpclient.cli.failure import describe, one_line
from geventhttpclient.client import HTTPClient

# What is read of a body at once: a larger one is dropped piece by piece.
_PIECE = 1 << 20

# Seconds between two entries of the rate over time.
_SAMPLE = 0.1

# Nanoseconds by which the loop's timers may be late, by themselves: epoll counts in whole milliseconds.
_TIMER = 2_000_000


class Load:
    """One load: requests to one target, `concurrency` at a time, and their tally, which may be read while it runs.

    Closed, each greenlet sends the next request when it has the answer to the last. Open, with a `rate`, requests are
    due at their times; one for which no greenlet was free then is timed from when it was due, or else what a slow
    server holds up would be left out of the latencies ("coordinated omission").
    """

    def __init__(self, client: HTTPClient, request: tuple[Any, ...], concurrency: int, rate: float | None) -> None:
        """`request` are the arguments of HTTPClient.request; `rate` is in requests per second."""
        self._client = client
        self._request = request
        self._concurrency = concurrency
        self._rate = rate
        self.latency: Histogram = Histogram()
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.body_bytes: int = 0
        self.begun: int = 0
        self.seconds: float = 0.0
        self.cpu_seconds: float = 0.0
        self.opened: int = 0
        self.reused: int = 0
        self.protocol: str = ""
        # When, in seconds from the beginning, and how many responses there were by then.
        self.samples: list[tuple[float, int]] = []
        self._begin = perf_counter()

    @property
    def responses(self) -> int:
        """Requests that were answered, whatever by, to the end of the body."""
        return self.latency.count

    @property
    def failed(self) -> int:
        """Requests that raised something."""
        return self.errors.total()

    @property
    def unfinished(self) -> int:
        """Requests under way when the time was over."""
        return self.begun - self.responses - self.failed

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning; once it has ended, how long it was."""
        return self.seconds or perf_counter() - self._begin

    def run(self, requests: int | None, seconds: float | None) -> None:
        """Until so many requests are done, or for so long. Whatever ends it, the tally is right afterwards."""
        tickets = iter(range(requests)) if requests is not None else itertools.count()
        before, cpu = self._client.statistics(), _cpu_seconds()
        gevent.get_hub().loop.update_now()  # else its timers go by when it was last entered, and end too early
        self._begin = perf_counter()
        sampler = gevent.spawn(self._sample)
        one_greenlet = self._closed if self._rate is None else self._open
        if self._rate is not None:
            tickets = _due(tickets, self._rate)
        greenlets = [gevent.spawn(one_greenlet, tickets) for _ in range(self._concurrency)]
        try:
            gevent.joinall(greenlets, timeout=seconds)
        finally:
            self.seconds = perf_counter() - self._begin
            self.cpu_seconds = _cpu_seconds() - cpu
            self.samples.append((self.seconds, self.responses))
            gevent.killall([sampler, *greenlets])
            after = self._client.statistics()
            self.opened = after["opened"] - before["opened"]
            self.reused = after["reused"] - before["reused"]

    def _closed(self, tickets: Iterator[int]) -> None:
        """What is looked up in here is looked up for every request: it is the loop that is measured."""
        once, record, statuses, clock = self._once, self.latency.record, self.statuses, perf_counter_ns
        for _ in tickets:
            begin = clock()
            status = once()
            if status:
                record((clock() - begin) // 1000)
                statuses[status] += 1

    def _open(self, tickets: Iterator[int]) -> None:
        """`tickets` are the times when requests are due, in nanoseconds of the clock."""
        once, record, statuses, clock = self._once, self.latency.record, self.statuses, perf_counter_ns
        for due in tickets:
            begin = clock()
            if begin < due:
                gevent.sleep((due - begin) / 1e9)
                begin = clock()
                if begin - due > _TIMER:
                    begin = due
            else:
                begin = due
            status = once()
            if status:
                record((clock() - begin) // 1000)
                statuses[status] += 1

    def _once(self) -> int:
        """One request; its status code, or 0 for an error, which has been counted."""
        self.begun += 1
        try:
            response = self._client.request(*self._request)
            size = len(response.read(_PIECE))
            self.body_bytes += size
            while size == _PIECE:
                size = len(response.read(_PIECE))
                self.body_bytes += size
            if not self.protocol:
                self.protocol = response.version
            return response.get_code()
        except Exception as error:
            kind = type(error).__name__
            self.errors[kind] += 1
            self.examples.setdefault(kind, _core.redact_all(one_line(describe(error))))
            return 0

    def _sample(self) -> None:
        for number in itertools.count(1):
            gevent.sleep(max(0.0, self._begin + number * _SAMPLE - perf_counter()))
            self.samples.append((perf_counter() - self._begin, self.responses))


def _due(tickets: Iterator[int], rate: float) -> Iterator[int]:
    begin, apart = perf_counter_ns(), 1e9 / rate
    return (begin + int(number * apart) for number in tickets)


def _cpu_seconds() -> float:
    """User and system time of this process so far, all its threads together."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
