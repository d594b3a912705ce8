"""Runs GETs of the small page with a library, on our engine or without it, and prints one JSON object.

    python benchmarks/integrations.py LIBRARY VARIANT URL SECONDS IN_FLIGHT [VERSION]

INTEGRATIONS has the variants of each library: unchanged on monkey-patched gevent, on geventhttpclient in that VERSION,
and on connections that do nothing, which gives the cost of the library alone. Only the variant differs: each reads the
whole body, with one keep-alive connection for each greenlet, and checks its length. openai reads a streamed completion
instead, and checks the number of its chunks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from clients import urllib3_on_gevent
from loops import Greenlets
from measure import EVENTS, PAGE_BYTES, Run, check, measure, repeat
from report import AS_IT_IS

# Header fields of nginx for the page.
FIELDS = {
    "Server": "nginx/1.22.1",
    "Date": "Mon, 23 Nov 2026 12:00:00 GMT",
    "Content-Type": "application/octet-stream",
    "Content-Length": str(PAGE_BYTES),
    "Connection": "keep-alive",
}
PAGE = b"x" * PAGE_BYTES


def check_page(status: int, body: bytes) -> None:
    check(status, 200)
    check(len(body), PAGE_BYTES)


def httplib2_clients(url: str, in_flight: int, **options: Any) -> Run:
    """Uses one client for each greenlet: a client has one connection, for a single greenlet."""
    import httplib2

    clients = [httplib2.Http(proxy_info=None) for _ in range(in_flight)]
    free = list(clients)

    def get() -> None:
        client = free.pop()
        response, body = client.request(url, **options)
        check_page(response.status, body)
        free.append(client)

    return Greenlets(get, in_flight)


def httplib2_patched(url: str, in_flight: int) -> Run:
    """Replaces the classes of http.client by those of the installed geventhttpclient."""
    from geventhttpclient import httplib

    httplib.patch()
    return httplib2_clients(url, in_flight)


def httplib2_shared(url: str, in_flight: int) -> Run:
    """Uses geventhttpclient.httplib2, one client for all greenlets."""
    from geventhttpclient import httplib2

    client = httplib2.Http(proxy_info=None, concurrency=in_flight)

    def get() -> None:
        response, body = client.request(url)
        check_page(response.status, body)

    return Greenlets(get, in_flight)


def httplib2_alone(url: str, in_flight: int) -> Run:
    """Uses connections that return the page without any input or output."""
    import http.client

    import gevent
    import httplib2

    class Response(http.client.HTTPResponse):
        status, reason, version = 200, "OK", 11

        def __init__(self) -> None:
            pass

        def getheaders(self) -> list[tuple[str, str]]:
            return list(FIELDS.items())

        def read(self, _: int | None = None) -> bytes:
            gevent.sleep(0)  # switches to the other greenlets, as a wait would
            return PAGE

    class Connection(httplib2.HTTPConnectionWithTimeout):  # type: ignore[misc]
        def connect(self) -> None:
            self.sock = True

        def request(self, *_: object, **__: object) -> None:
            pass

        def getresponse(self) -> Response:
            return Response()

    return httplib2_clients(url, in_flight, connection_type=Connection)


def requests_on(url: str, in_flight: int, adapter: Any) -> Run:
    import requests

    session = requests.Session()
    session.trust_env = False
    session.mount("http://", adapter)

    def get() -> None:
        response = session.get(url)
        check_page(response.status_code, response.content)

    return Greenlets(get, in_flight)


def requests_as_it_is(url: str, in_flight: int) -> Run:
    from requests.adapters import HTTPAdapter

    return requests_on(url, in_flight, HTTPAdapter(pool_maxsize=in_flight, pool_block=True))


def requests_adapted(url: str, in_flight: int) -> Run:
    from geventhttpclient.adapters.requests import Adapter

    return requests_on(url, in_flight, Adapter(pool_maxsize=in_flight, pool_block=True))


def requests_alone(url: str, in_flight: int) -> Run:
    """Uses an adapter that returns the page without any input or output."""
    import gevent
    from requests import Response
    from requests.structures import CaseInsensitiveDict

    class Adapter:
        def send(self, request: Any, **_: object) -> Any:
            gevent.sleep(0)
            response = Response()
            response.status_code, response.reason = 200, "OK"
            response.headers = CaseInsensitiveDict(FIELDS)
            response.request, response.url = request, request.url
            response._content = PAGE
            return response

        def close(self) -> None:
            pass

    return requests_on(url, in_flight, Adapter())


def urllib3_adapted(url: str, in_flight: int) -> Run:
    from geventhttpclient.adapters.urllib3 import PoolManager

    pool = PoolManager(maxsize=in_flight, block=True)

    def get() -> None:
        response = pool.request("GET", url)
        check_page(response.status, response.data)

    return Greenlets(get, in_flight)


def openai_on(url: str, http_client: Any) -> Run:
    import openai

    client = openai.OpenAI(api_key="none", base_url=url, http_client=http_client)

    def once() -> int:
        stream = client.chat.completions.create(
            model="none", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        count = sum(1 for _ in stream)
        check(count, EVENTS)
        return count

    return repeat(once)


def openai_as_it_is(url: str, _: int) -> Run:
    """Uses the client that openai makes by itself."""
    return openai_on(url, None)


def openai_adapted(url: str, _: int) -> Run:
    import openai

    from geventhttpclient.adapters.httpx2 import Transport

    return openai_on(url, openai.DefaultHttpx2Client(transport=Transport(), trust_env=False))


ALONE = "alone"

# Variants by library. All but "as it is" and "alone" need geventhttpclient.
INTEGRATIONS: dict[str, dict[str, Callable[[str, int], Run]]] = {
    "httplib2": {
        AS_IT_IS: httplib2_clients,
        "patched": httplib2_patched,
        "shared": httplib2_shared,
        ALONE: httplib2_alone,
    },
    "requests": {AS_IT_IS: requests_as_it_is, "adapted": requests_adapted, ALONE: requests_alone},
    "urllib3": {AS_IT_IS: urllib3_on_gevent, "adapted": urllib3_adapted},
    "openai": {AS_IT_IS: openai_as_it_is, "adapted": openai_adapted},
}


def main(library: str, variant: str, url: str, seconds: str, in_flight: str, version: str = "") -> None:
    from gevent import monkey

    monkey.patch_all()
    if version:
        import geventhttpclient

        if geventhttpclient.__version__ != version:
            raise SystemExit(f"geventhttpclient is {geventhttpclient.__version__}, but {version} is expected")
    run = INTEGRATIONS[library][variant](url, int(in_flight))
    print(json.dumps(measure(run, float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
