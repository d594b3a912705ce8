"""Drives pycurl's multi interface with `perform()` and `select()`, which is its fastest loop for few connections.

With `socket_action()` and an epoll in Python, each socket and event takes a call from Python: 40 us of CPU per request
instead of 28 with 10 in flight (pycurl 7.49.0, libcurl 8.23.0).
"""

from __future__ import annotations

import os
import select
from array import array
from time import perf_counter
from typing import Any

from loops import read_times
from measure import PAGE_BYTES, Run, check

LONGEST_WAIT = 1.0  # seconds


class CurlMulti:
    """A `loops.Loop` of GETs of the page, for less than 1,000 connections."""

    def __init__(self, url: str, in_flight: int) -> None:
        import pycurl

        self.multi = pycurl.CurlMulti()
        self.handles = []
        for _ in range(in_flight):
            handle = pycurl.Curl()
            handle.setopt(pycurl.URL, url)
            handle.setopt(pycurl.NOPROXY, "*")
            self.handles.append(handle)

    def _begin(self, handle: Any) -> None:
        """Adds a request, which the next `perform()` sends."""
        import pycurl

        handle.body = bytearray()
        handle.setopt(pycurl.WRITEFUNCTION, handle.body.extend)
        self.multi.add_handle(handle)

    def _done(self) -> list[Any]:
        """Returns the handles whose response is complete."""
        import pycurl

        done: list[Any] = []
        left = 1
        while left:
            left, succeeded, failed = self.multi.info_read()
            if failed:
                raise RuntimeError(str(failed))
            for handle in succeeded:
                check(handle.getinfo(pycurl.RESPONSE_CODE), 200)
                check(len(bytes(handle.body)), PAGE_BYTES)
                self.multi.remove_handle(handle)
                done.append(handle)
        return done

    def _wait(self, ticks: int) -> bool:
        """Waits until a transfer or the pipe is ready. Returns true if the pipe can be read."""
        reading, writing, failing = self.multi.fdset()
        timeout = self.multi.timeout()
        longest = timeout / 1000 if timeout >= 0 else LONGEST_WAIT
        ready, _, _ = select.select([*reading, ticks], writing, failing, longest)
        return ticks in ready

    def __call__(self, seconds: float) -> int:
        return self._closed(seconds, None)

    def timed(self, spent: array[float]) -> Run:
        return lambda seconds: self._closed(seconds, spent)

    def _closed(self, seconds: float, spent: array[float] | None) -> int:
        end, count, begun = perf_counter() + seconds, 0, {}
        for handle in self.handles:
            begun[handle] = perf_counter()
            self._begin(handle)
        in_flight = len(self.handles)
        self.multi.perform()
        while in_flight:
            self.multi.select(LONGEST_WAIT)
            self.multi.perform()
            done = self._done()
            count += len(done)
            in_flight -= len(done)
            for handle in done:
                now = perf_counter()
                if spent is not None:
                    spent.append(now - begun[handle])
                    begun[handle] = now
                if now < end:
                    self._begin(handle)
                    in_flight += 1
            if done:
                self.multi.perform()  # sends the new requests before it waits for the others
        return count

    def paced(self, ticks: int, spent: array[float]) -> int:
        before, free = len(spent), list(self.handles)
        waiting: list[float] = []  # the latest first
        due: dict[Any, float] = {}
        os.set_blocking(ticks, False)
        open_still = True
        while open_still or due:
            if not open_still:
                self.multi.select(LONGEST_WAIT)
            elif self._wait(ticks):
                found = read_times(ticks)
                waiting[:0] = reversed(found)
                open_still = bool(found)
            self.multi.perform()
            for handle in self._done():
                spent.append(perf_counter() - due.pop(handle))
                free.append(handle)
            if waiting and free:
                while waiting and free:
                    handle = free.pop()
                    due[handle] = waiting.pop()
                    self._begin(handle)
                self.multi.perform()
        return len(spent) - before
