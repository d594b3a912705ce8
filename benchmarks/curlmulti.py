"""pycurl's multi interface driven by an epoll of our own: by `perform` and `select` it takes longer."""

from __future__ import annotations

import os
import select
from array import array
from time import perf_counter
from typing import Any

from loops import read_times
from measure import PAGE_BYTES, Run, check


class CurlMulti:
    """A `loops.Loop`, of GETs of the page."""

    def __init__(self, url: str, in_flight: int) -> None:
        import pycurl

        self.multi, self.poll = pycurl.CurlMulti(), select.epoll()
        self.timer = -1  # in how many milliseconds libcurl would like to have its turn; -1 for never
        self.ticks = -1  # a pipe that is polled as well
        self.handles = []
        self._follow_sockets()
        for _ in range(in_flight):
            handle = pycurl.Curl()
            handle.setopt(pycurl.URL, url)
            handle.setopt(pycurl.NOPROXY, "*")
            self.handles.append(handle)

    def _follow_sockets(self) -> None:
        import pycurl

        multi, poll = self.multi, self.poll
        events = {pycurl.POLL_IN: select.EPOLLIN, pycurl.POLL_OUT: select.EPOLLOUT}
        events[pycurl.POLL_INOUT] = select.EPOLLIN | select.EPOLLOUT
        watched: set[int] = set()

        def watch(what: int, fd: int, _multi: object, _data: object) -> None:
            if what == pycurl.POLL_REMOVE:
                if fd in watched:
                    watched.discard(fd)
                    poll.unregister(fd)
            elif fd in watched:
                poll.modify(fd, events[what])
            else:
                watched.add(fd)
                poll.register(fd, events[what])

        def set_timer(milliseconds: int) -> None:
            self.timer = milliseconds

        multi.setopt(pycurl.M_SOCKETFUNCTION, watch)
        multi.setopt(pycurl.M_TIMERFUNCTION, set_timer)

    def _begin(self, handle: Any) -> None:
        import pycurl

        handle.body = bytearray()
        handle.setopt(pycurl.WRITEFUNCTION, handle.body.extend)
        self.multi.add_handle(handle)

    def _done(self) -> list[Any]:
        """The handles that have been answered."""
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

    def _turn(self) -> bool:
        """Waits for something to happen, and lets libcurl see to it; whether the pipe can be read."""
        import pycurl

        ready = self.poll.poll(self.timer / 1000 if self.timer >= 0 else None)
        ticked = False
        for fd, event in ready:
            if fd == self.ticks:
                ticked = True
                continue
            readable = pycurl.CSELECT_IN if event & ~select.EPOLLOUT else 0
            self.multi.socket_action(fd, readable | (pycurl.CSELECT_OUT if event & select.EPOLLOUT else 0))
        if self.timer == 0 or not ready:
            self.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return ticked

    def _first_turn(self) -> None:
        import pycurl

        self.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def __call__(self, seconds: float) -> int:
        return self._closed(seconds, None)

    def timed(self, spent: array[float]) -> Run:
        return lambda seconds: self._closed(seconds, spent)

    def _closed(self, seconds: float, spent: array[float] | None) -> int:
        end, count, begun = perf_counter() + seconds, 0, {}
        for handle in self.handles:
            begun[handle] = perf_counter()
            self._begin(handle)
        under_way = len(self.handles)
        self._first_turn()
        while under_way:
            self._turn()
            done = self._done()
            count += len(done)
            under_way -= len(done)
            for handle in done:
                now = perf_counter()
                if spent is not None:
                    spent.append(now - begun[handle])
                    begun[handle] = now
                if now < end:
                    self._begin(handle)
                    under_way += 1
        return count

    def paced(self, ticks: int, spent: array[float]) -> int:
        before, free = len(spent), list(self.handles)
        waiting: list[float] = []  # the latest first
        due: dict[Any, float] = {}
        os.set_blocking(ticks, False)
        self.ticks, open_still = ticks, True
        self.poll.register(ticks, select.EPOLLIN)
        while open_still or due:
            if self._turn():
                found = read_times(ticks)
                waiting[:0] = reversed(found)
                if not found:
                    open_still = False
                    self.poll.unregister(ticks)
            for handle in self._done():
                spent.append(perf_counter() - due.pop(handle))
                free.append(handle)
            if waiting and free:
                while waiting and free:
                    handle = free.pop()
                    due[handle] = waiting.pop()
                    self._begin(handle)
                self._first_turn()
        self.ticks = -1
        return len(spent) - before
