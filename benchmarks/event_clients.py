"""Other clients that read a stream of server-sent events, each in its fastest configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure import EVENTS, Run, check, repeat


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


# By name: the packages that a client needs, and a function that returns its Run for a URL.
EVENT_CLIENTS: dict[str, tuple[tuple[str, ...], Callable[[str], Run]]] = {
    "requests' iter_lines": (("requests",), requests_by_hand),
    "httpx-sse on httpx": (("httpx", "httpx-sse"), httpx_sse_on_httpx),
    "niquests, SSE": (("niquests",), niquests_sse),
}
