"""Uses a session: JSON in both directions, ten concurrent requests, an error status, a timeout.

python examples/session.py [URL of the project's test server: python -m tests.server 8080]
"""

import sys

from gevent.pool import Pool

from geventhttpclient import Session
from geventhttpclient.useragent import BadStatusCode


def main(base: str = "http://127.0.0.1:8080") -> None:
    with Session(concurrency=10) as session:
        print(session.post(f"{base}/echo", json={"like": "greenlets"}).json())

        def size(number: int) -> int:
            return len(session.get(f"{base}/bytes/{number}").content)

        print(sum(Pool(10).imap_unordered(size, range(1000, 1050))), "bytes")

        try:
            session.get(f"{base}/nothing").raise_for_status()
        except BadStatusCode as error:
            print(error.code)

        try:
            print(session.get(f"{base}/stream?every=60", timeout=0.1).content)
        except TimeoutError as error:
            print(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
