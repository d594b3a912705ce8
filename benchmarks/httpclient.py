"""1,000 GETs at concurrency 10 with HTTPClient against any URL: prints the rate.

python benchmarks/httpclient.py URL
"""

import sys
import time

from gevent.pool import Pool

from geventhttpclient import URL, HTTPClient

REQUESTS = 1000
CONCURRENCY = 10


def main(address: str) -> None:
    url = URL(address)
    target = url.request_uri
    begin = time.perf_counter()
    http = HTTPClient.from_url(url, concurrency=CONCURRENCY)

    def get() -> int:
        response = http.get(target)
        if response.status_code != 200:
            raise RuntimeError(f"status {response.status_code}")
        return len(response.read())

    pool = Pool(CONCURRENCY)
    greenlets = [pool.spawn(get) for _ in range(REQUESTS)]
    pool.join(raise_error=True)
    http.close()
    seconds = time.perf_counter() - begin
    size = sum(greenlet.get() for greenlet in greenlets)
    print(f"{REQUESTS} requests, {size} bytes of body in {seconds:.3f} s: {REQUESTS / seconds:,.0f} requests/s")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
