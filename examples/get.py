"""Sends one GET; prints the status, the header fields and the beginning of the body.

python examples/get.py [URL]
"""

import sys
from contextlib import closing

from geventhttpclient import URL, HTTPClient


def main(address: str = "http://example.com/") -> None:
    url = URL(address)
    with closing(HTTPClient.from_url(url)) as http:
        response = http.get(url.request_uri)
        print(response.status_code)
        for name, value in response.items():
            print(f"{name}: {value}")
        body = response.read()
        print(f"{len(body)} bytes, which begin with {body[:60]!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
