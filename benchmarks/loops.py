"""Repeats a function concurrently, in greenlets or in tasks of an asyncio loop.

Each loop is a `measure.Run`: each greenlet or task continues as soon as its last call returns. `Timed` and `Paced` wrap
a loop in a Run that records latencies.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from measure import Run

PACER = Path(__file__).with_name("pacer.py")
TIME_BYTES = 8
PIECE = TIME_BYTES * 512


def read_times(ticks: int) -> tuple[float, ...]:
    """Returns the times in the pipe of the pacer, at least one, or none at its end. The pacer writes each
    atomically."""
    data = os.read(ticks, PIECE)
    return struct.unpack(f"{len(data) // TIME_BYTES}d", data)


class Loop(Protocol):
    """Loop whose calls can be timed. `spent` receives the seconds of each call."""

    def __call__(self, seconds: float) -> int: ...

    def timed(self, spent: array[float]) -> Run:
        """Returns the same loop with a latency for each call."""
        ...

    def paced(self, ticks: int, spent: array[float]) -> int:
        """Makes one call for each due time in the pipe, until its end, and records latencies from it. Returns the
        number."""
        ...


class Greenlets:
    """Loop of greenlets."""

    def __init__(self, once: Callable[[], None], greenlets: int) -> None:
        self.once, self.greenlets = once, greenlets

    def __call__(self, seconds: float) -> int:
        import gevent

        end, once = perf_counter() + seconds, self.once

        def one_greenlet() -> int:
            count = 0
            while not count or perf_counter() < end:
                once()
                count += 1
            return count

        started = [gevent.spawn(one_greenlet) for _ in range(self.greenlets)]
        gevent.joinall(started, raise_error=True)
        return sum(greenlet.get() for greenlet in started)

    def timed(self, spent: array[float]) -> Run:
        once = self.once

        def timed_once() -> None:
            begin = perf_counter()
            once()
            spent.append(perf_counter() - begin)

        return Greenlets(timed_once, self.greenlets)

    def paced(self, ticks: int, spent: array[float]) -> int:
        import gevent
        from gevent.queue import SimpleQueue
        from gevent.socket import wait_read

        times: SimpleQueue[float | None] = SimpleQueue()

        def one_greenlet() -> None:
            while (due := times.get()) is not None:
                self.once()
                spent.append(perf_counter() - due)

        before = len(spent)
        started = [gevent.spawn(one_greenlet) for _ in range(self.greenlets)]
        os.set_blocking(ticks, False)
        while True:
            wait_read(ticks)
            found = read_times(ticks)
            for due in found or (None,) * self.greenlets:
                times.put(due)
            if not found:
                break
        gevent.joinall(started, raise_error=True)
        return len(spent) - before


class Tasks:
    """Loop of asyncio tasks."""

    def __init__(self, loop: Any, once: Callable[[], Awaitable[None]], tasks: int) -> None:
        self.loop, self.once, self.tasks = loop, once, tasks

    def __call__(self, seconds: float) -> int:
        end, once = perf_counter() + seconds, self.once

        async def one_task() -> int:
            count = 0
            while not count or perf_counter() < end:
                await once()
                count += 1
            return count

        return sum(self._gather([one_task() for _ in range(self.tasks)]))

    def timed(self, spent: array[float]) -> Run:
        once = self.once

        async def timed_once() -> None:
            begin = perf_counter()
            await once()
            spent.append(perf_counter() - begin)

        return Tasks(self.loop, timed_once, self.tasks)

    def paced(self, ticks: int, spent: array[float]) -> int:
        import asyncio

        times: asyncio.Queue[float | None] = asyncio.Queue()

        async def one_task() -> None:
            while (due := await times.get()) is not None:
                await self.once()
                spent.append(perf_counter() - due)

        def read() -> None:
            found = read_times(ticks)
            for due in found or (None,) * self.tasks:
                times.put_nowait(due)
            if not found:
                self.loop.remove_reader(ticks)

        before = len(spent)
        os.set_blocking(ticks, False)
        self.loop.add_reader(ticks, read)
        self._gather([one_task() for _ in range(self.tasks)])
        return len(spent) - before

    def _gather(self, tasks: list[Any]) -> list[Any]:
        async def all_tasks() -> list[Any]:
            import asyncio

            return await asyncio.gather(*tasks)

        found: list[Any] = self.loop.run_until_complete(all_tasks())
        return found


class Timed:
    """Run of a loop at full speed, with the latencies of the last call."""

    def __init__(self, loop: Loop) -> None:
        self.spent: array[float] = array("d")
        self.run = loop.timed(self.spent)

    def __call__(self, seconds: float) -> int:
        del self.spent[:]
        return self.run(seconds)


class Paced:
    """Run of a loop at a fixed rate, with the latencies of the last call from their due times. A loop that is too slow
    is later with each call, and has a lower rate at the end."""

    def __init__(self, loop: Loop, rate: float) -> None:
        self.loop, self.rate = loop, rate
        self.spent: array[float] = array("d")

    def __call__(self, seconds: float) -> int:
        del self.spent[:]
        # Without site packages it starts in 10 ms, which are part of the measured time.
        command = [sys.executable, "-IS", str(PACER), str(self.rate), str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
            assert process.stdout is not None
            try:
                count = self.loop.paced(process.stdout.fileno(), self.spent)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        return count


def at_pace(loop: Any, pace: str) -> Any:
    """Returns a Run of the loop: unchanged without a `pace`, timed for "closed", at a fixed rate for a number."""
    if not pace:
        return loop
    return Timed(loop) if pace == "closed" else Paced(loop, float(pace))
