"""The load of `bench`: greenlets that send one request after another, and their measurements."""

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

# Maximum bytes of one read of a body; they are discarded.
_PIECE = 1 << 20

# Seconds between two samples of the rate.
_SAMPLE = 0.1

# Nanoseconds by which timers of the loop may be late on an idle machine: epoll counts in whole milliseconds.
_TIMER = 2_000_000


class Load:
    """A load of requests to one target, `concurrency` in flight, and its figures, which may be read while it runs.

    In a closed loop, each greenlet sends the next request after the response to the last one. In an open loop, with a
    `rate`, each request has a due time. If no greenlet is free then, its latency is counted from that time; otherwise
    the delays caused by a slow server would be missing from the latencies ("coordinated omission").
    """

    def __init__(self, client: HTTPClient, request: tuple[Any, ...], concurrency: int, rate: float | None) -> None:
        """`request` is the arguments of HTTPClient.request; `rate` is in requests per second."""
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
        # Pairs of seconds since the beginning and number of responses by then.
        self.samples: list[tuple[float, int]] = []
        self._begin = perf_counter()

    @property
    def responses(self) -> int:
        """Number of responses with any status code, received to the end of the body."""
        return self.latency.count

    @property
    def failed(self) -> int:
        """Number of requests that raised an exception."""
        return self.errors.total()

    @property
    def unfinished(self) -> int:
        """Number of requests in flight when the time was over."""
        return self.begun - self.responses - self.failed

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning, or the duration once the load has ended."""
        return self.seconds or perf_counter() - self._begin

    def run(self, requests: int | None, seconds: float | None) -> None:
        """Runs until that many requests are done, or for that many seconds. The figures are right even if an exception
        ends it."""
        tickets = iter(range(requests)) if requests is not None else itertools.count()
        before, cpu = self._client.statistics(), _cpu_seconds()
        gevent.get_hub().loop.update_now()  # else its timers count from its last iteration and end too early
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
        """Sends requests in a closed loop. Names are looked up before it: every lookup inside is measured too."""
        once, record, statuses, clock = self._once, self.latency.record, self.statuses, perf_counter_ns
        for _ in tickets:
            begin = clock()
            status = once()
            if status:
                record((clock() - begin) // 1000)
                statuses[status] += 1

    def _open(self, tickets: Iterator[int]) -> None:
        """Sends requests in an open loop. `tickets` yields their due times, in nanoseconds of the clock."""
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
        """Sends one request. Returns its status code, or 0 after an error, which is counted."""
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
    """Returns the user and system time of this process, in all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
