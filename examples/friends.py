"""Reads a JSON API with twenty greenlets on ten connections: the list of friends, then each friend.

python -m tests.server 8080         (in another terminal)
python examples/friends.py [URL]
"""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from gevent.pool import Pool

from geventhttpclient import URL, HTTPClient

TOKEN = "open-sesame"
CONNECTIONS = 10
GREENLETS = 20


def fetch(http: HTTPClient, url: URL) -> dict[str, Any]:
    """Returns the JSON object at that URL, requested with the access token."""
    url["access_token"] = TOKEN
    response = http.get(url.query_string)
    if response.status_code != 200:
        raise RuntimeError(f"{url.path}: status {response.status_code}")
    answer: dict[str, Any] = json.load(response)
    return answer


def friends(http: HTTPClient, base: str) -> Iterator[str]:
    """Yields the ids of all friends, from all pages of the list."""
    page: str | None = f"{base}/me/friends"
    while page:
        answer = fetch(http, URL(page))
        yield from (friend["id"] for friend in answer["data"])
        page = answer.get("next")


def main(base: str = "http://127.0.0.1:8080") -> None:
    with closing(HTTPClient.from_url(base, concurrency=CONNECTIONS)) as http:

        def describe(identity: str) -> str:
            friend = fetch(http, URL(f"{base}/{identity}"))
            return f"{friend['name']} likes {friend['likes']}"

        # A greenlet waits for a pool slot if all connections are in use.
        for line in Pool(GREENLETS).imap(describe, friends(http, base)):
            print(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
