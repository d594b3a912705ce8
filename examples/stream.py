"""Prints an endless stream of JSON objects, one per line, as they arrive. Ctrl-C ends it.

python -m tests.server 8080         (in another terminal)
python examples/stream.py [URL]
"""

import json
import sys
from contextlib import closing, suppress

from geventhttpclient import URL, HTTPClient

# Seconds without data after which the connection counts as dead.
READ_TIMEOUT = 60


def main(address: str = "http://127.0.0.1:8080/stream") -> None:
    url = URL(address)
    with closing(HTTPClient.from_url(url, network_timeout=READ_TIMEOUT)) as http, http.get(url.request_uri) as response:
        if response.status_code != 200:
            raise SystemExit(f"status {response.status_code}")
        while line := response.readline(b"\n"):
            if line.strip():  # a blank line only keeps the connection alive
                event = json.loads(line)
                print(event["id"], event["text"], flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
