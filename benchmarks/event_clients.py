"""Other clients that read server-sent events: one stream as fast as they can, or many slow ones at the same time."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from measure import EVENTS, Run, check, repeat

# Seconds of the timer beside many streams.
TIMER = 0.01


def requests_by_hand(url: str) -> Run:
    """The loop that programs write by hand, over the lines of requests."""
    import requests

    session = requests.Session()
    session.trust_env = False

    def once() -> int:
        count, data = 0, []
        with session.get(url, stream=True) as response:
            check(response.status_code, 200)
            for line in response.iter_lines(chunk_size=None):
                if line.startswith(b"data: "):
                    data.append(line[6:])
                elif not line and data:
                    b"\n".join(data).decode()
                    data = []
                    count += 1
        check(count, EVENTS)
        return count

    return repeat(once)


def httpx_sse_on_httpx(url: str) -> Run:
    """The synchronous client, which takes less CPU than the asynchronous one."""
    import httpx
    import httpx_sse

    client = httpx.Client(trust_env=False)

    def once() -> int:
        with httpx_sse.connect_sse(client, "GET", url) as source:
            count = sum(1 for _ in source.iter_sse())
        check(count, EVENTS)
        return count

    return repeat(once)


def niquests_sse(url: str) -> Run:
    import niquests

    session = niquests.Session()
    session.trust_env = False

    def once() -> int:
        response = session.get(url.replace("http://", "psse://", 1))
        extension: Any = response.extension
        count = 0
        while not extension.closed and extension.next_payload() is not None:
            count += 1
        check(count, EVENTS)
        return count

    return repeat(once)


class Httpx2Streams:
    """Reads many streams with the asynchronous client. `spent` receives the lateness of each timer."""

    def __init__(self, loop: Any, url: str, in_flight: int) -> None:
        self.loop, self.url, self.in_flight = loop, url, in_flight
        self.count = 0
        self.spent: list[float] = []
        self.tasks: list[Any] = []

    def __call__(self, seconds: float) -> int:
        count: int = self.loop.run_until_complete(self.watch(seconds))
        return count

    async def watch(self, seconds: float) -> int:
        import asyncio

        if not self.tasks:
            await self.start()
        self.spent.clear()
        before, end = self.count, perf_counter() + seconds
        while (begin := perf_counter()) < end:
            await asyncio.sleep(TIMER)
            self.spent.append(perf_counter() - begin - TIMER)
        return self.count - before

    async def start(self) -> None:
        import asyncio

        import httpx2

        limits = httpx2.Limits(max_connections=self.in_flight)
        client = httpx2.AsyncClient(limits=limits, trust_env=False, timeout=60)
        open_now = 0

        async def read() -> None:
            nonlocal open_now
            async with client.sse(self.url) as events:
                open_now += 1
                async for _ in events:
                    self.count += 1

        self.tasks = [asyncio.ensure_future(read()) for _ in range(self.in_flight)]
        while open_now < self.in_flight:
            await asyncio.sleep(TIMER)


def httpx2_streams_on_asyncio(url: str, in_flight: int) -> Run:
    import asyncio

    return Httpx2Streams(asyncio.new_event_loop(), url, in_flight)


def httpx2_streams_on_uvloop(url: str, in_flight: int) -> Run:
    import uvloop

    return Httpx2Streams(uvloop.new_event_loop(), url, in_flight)


# By name: the packages that a client needs, and a function that returns its Run for a URL and a number of streams.
STREAM_CLIENTS: dict[str, tuple[tuple[str, ...], Callable[[str, int], Run]]] = {
    "httpx2 on asyncio": (("httpx2",), httpx2_streams_on_asyncio),
    "httpx2 on uvloop": (("httpx2", "uvloop"), httpx2_streams_on_uvloop),
}

# By name: the packages that a client needs, and a function that returns its Run for a URL.
EVENT_CLIENTS: dict[str, tuple[tuple[str, ...], Callable[[str], Run]]] = {
    "requests' iter_lines": (("requests",), requests_by_hand),
    "httpx-sse on httpx": (("httpx", "httpx-sse"), httpx_sse_on_httpx),
    "niquests, SSE": (("niquests",), niquests_sse),
}
