"""Uses the engine under requests and httpx, with twenty greenlets each.

python -m tests.server 8080         (in another terminal)
python examples/requests_adapter.py [URL]

Prints the number of bytes received by requests and by httpx, and the error for a port without a listener.
"""

from __future__ import annotations

import sys

import httpx
import requests
from gevent.pool import Pool

from geventhttpclient.adapters.httpx import Transport
from geventhttpclient.adapters.requests import Adapter


def main(url: str = "http://127.0.0.1:8080/page") -> None:
    with requests.Session() as session, httpx.Client(transport=Transport()) as client:
        session.mount("http://", Adapter())
        session.mount("https://", Adapter())
        sizes = Pool(20).map(lambda url: len(session.get(url).content), [url] * 100)
        print("requests:", sum(sizes), "bytes")

        sizes = Pool(20).map(lambda url: len(client.get(url).content), [url] * 100)
        print("httpx:", sum(sizes), "bytes")

        try:
            session.get("http://127.0.0.1:1/", timeout=5)
        except requests.ConnectionError as error:
            print("requests:", type(error).__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
