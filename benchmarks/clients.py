"""Runs GETs with another client, in its fastest configuration, and prints one JSON object.

    python benchmarks/clients.py CLIENT URL SECONDS IN_FLIGHT [CA_FILE [PACE]]

The interpreter needs the packages of the client, but not geventhttpclient. Each client reads the whole body as bytes,
with one keep-alive connection for each request in flight, or one HTTP/2 connection for all; the length of each body is
checked. Those of EVENT_CLIENTS read the events of one response after the other, those of STREAM_CLIENTS many responses
at the same time."""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from curlmulti import CurlMulti
from event_clients import EVENT_CLIENTS, STREAM_CLIENTS
from loops import Greenlets, Tasks, at_pace
from measure import PAGE_BYTES, Run, check, measure


@dataclass(frozen=True)
class Client:
    """Client with the packages it needs, and a function that returns its Run for a URL and a number of requests in
    flight; for HTTP/2 it takes the CA file as well, for events only the URL."""

    packages: tuple[str, ...]
    run: Callable[..., Run]


def aiohttp_on_uvloop(url: str, in_flight: int) -> Run:
    import aiohttp
    import uvloop

    loop = uvloop.new_event_loop()

    async def make() -> Any:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight))

    session = loop.run_until_complete(make())

    async def get() -> None:
        async with session.get(url) as response:
            check(response.status, 200)
            check(len(await response.read()), PAGE_BYTES)

    return Tasks(loop, get, in_flight)


def httpx_on_uvloop(url: str, in_flight: int) -> Run:
    import httpx
    import uvloop

    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=in_flight), trust_env=False)

    async def get() -> None:
        response = await client.get(url)
        check(response.status_code, 200)
        check(len(response.content), PAGE_BYTES)

    return Tasks(uvloop.new_event_loop(), get, in_flight)


def pyreqwest_on_uvloop(url: str, in_flight: int) -> Run:
    import pyreqwest.client
    import uvloop

    loop = uvloop.new_event_loop()

    async def make() -> Any:
        return pyreqwest.client.ClientBuilder().no_proxy().build()

    client = loop.run_until_complete(make())

    async def get() -> None:
        response = await client.get(url).build().send()
        check(response.status, 200)
        check(len(await response.bytes()), PAGE_BYTES)

    return Tasks(loop, get, in_flight)


def requests_on_gevent(url: str, in_flight: int) -> Run:
    import requests
    import requests.adapters

    session = requests.Session()
    session.trust_env = False
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=in_flight, pool_block=True))

    def get() -> None:
        response = session.get(url)
        check(response.status_code, 200)
        check(len(response.content), PAGE_BYTES)

    return Greenlets(get, in_flight)


def urllib3_on_gevent(url: str, in_flight: int) -> Run:
    import urllib3

    pool = urllib3.PoolManager(maxsize=in_flight, block=True)

    def get() -> None:
        response = pool.request("GET", url)
        check(response.status, 200)
        check(len(response.data), PAGE_BYTES)

    return Greenlets(get, in_flight)


def httpx_http2_on_uvloop(url: str, in_flight: int, ca_file: str) -> Run:
    import httpx
    import uvloop

    context = ssl.create_default_context(cafile=ca_file)
    one = httpx.Limits(max_connections=1)
    client = httpx.AsyncClient(http1=False, http2=True, verify=context, limits=one, timeout=None, trust_env=False)

    async def get() -> None:
        response = await client.get(url)
        check(response.status_code, 200)
        check(len(response.content), PAGE_BYTES)

    return Tasks(uvloop.new_event_loop(), get, in_flight)


def httpx_http2_on_gevent(url: str, in_flight: int, ca_file: str) -> Run:
    """The synchronous client: twice as fast as the asynchronous one."""
    import httpx

    context = ssl.create_default_context(cafile=ca_file)
    one = httpx.Limits(max_connections=1)
    client = httpx.Client(http1=False, http2=True, verify=context, limits=one, timeout=None, trust_env=False)

    def get() -> None:
        response = client.get(url)
        check(response.status_code, 200)
        check(len(response.content), PAGE_BYTES)

    return Greenlets(get, in_flight)


def niquests_http2_on_asyncio(url: str, in_flight: int, ca_file: str) -> Run:
    """Sends all requests, then gathers their responses, as `multiplexed` is meant to be used. A task for each request,
    uvloop, gevent, threads and the synchronous session are slower."""
    import asyncio

    import niquests

    loop = asyncio.new_event_loop()

    async def make() -> Any:
        session = niquests.AsyncSession(multiplexed=True, disable_http1=True, pool_maxsize=1, verify=ca_file)
        session.trust_env = False
        return session

    session = loop.run_until_complete(make())

    async def batches(seconds: float) -> int:
        end, count = perf_counter() + seconds, 0
        while not count or perf_counter() < end:
            responses = [await session.get(url) for _ in range(in_flight)]
            await session.gather()
            for response in responses:
                check(response.status_code, 200)
                check(len(response.content), PAGE_BYTES)
            count += in_flight
        return count

    def run(seconds: float) -> int:
        return loop.run_until_complete(batches(seconds))

    return run


CLIENTS = {
    "pycurl multi": Client(("pycurl",), CurlMulti),
    "pyreqwest on uvloop": Client(("pyreqwest", "uvloop"), pyreqwest_on_uvloop),
    "aiohttp on uvloop": Client(("aiohttp", "uvloop"), aiohttp_on_uvloop),
    "httpx on uvloop": Client(("httpx", "uvloop"), httpx_on_uvloop),
    "requests on gevent": Client(("requests", "gevent"), requests_on_gevent),
    "urllib3 on gevent": Client(("urllib3", "gevent"), urllib3_on_gevent),
}


# HTTP/2 over TLS, on one connection.
HTTP2_CLIENTS = {
    "httpx on uvloop, HTTP/2": Client(("httpx", "h2", "uvloop"), httpx_http2_on_uvloop),
    "httpx on gevent, HTTP/2": Client(("httpx", "h2", "gevent"), httpx_http2_on_gevent),
    "niquests on asyncio, HTTP/2": Client(("niquests",), niquests_http2_on_asyncio),
}


EVENTS_READ = {name: Client(packages, run) for name, (packages, run) in EVENT_CLIENTS.items()}
STREAMS_READ = {name: Client(packages, run) for name, (packages, run) in STREAM_CLIENTS.items()}
ALL_CLIENTS = CLIENTS | HTTP2_CLIENTS | EVENTS_READ | STREAMS_READ


def main(name: str, url: str, seconds: str, in_flight: str, ca_file: str = "", pace: str = "") -> None:
    client = ALL_CLIENTS[name]
    if "gevent" in client.packages:
        from gevent import monkey

        monkey.patch_all()
    arguments: tuple[Any, ...] = (url,) if name in EVENTS_READ else (url, int(in_flight))
    run = client.run(*arguments, ca_file) if name in HTTP2_CLIENTS else client.run(*arguments)
    print(json.dumps(measure(at_pace(run, pace), float(seconds))), flush=True)
    os._exit(0)  # the threads of pyreqwest sometimes abort an interpreter that exits normally


if __name__ == "__main__":
    main(*sys.argv[1:])
