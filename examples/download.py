"""Downloads a body of any size to a file, piece by piece, in constant memory.

python -m tests.server 8080         (in another terminal)
python examples/download.py [URL [FILE]]
"""

import sys
from contextlib import closing

from geventhttpclient import URL, HTTPClient

CHUNK = 16 * 1024


def main(address: str = "http://127.0.0.1:8080/chunked/100000000", path: str = "download.bin") -> None:
    url = URL(address)
    with closing(HTTPClient.from_url(url)) as http, http.get(url.request_uri) as response, open(path, "wb") as file:
        if response.status_code != 200:
            raise SystemExit(f"status {response.status_code}")
        size = 0
        while chunk := response.read(CHUNK):
            size += file.write(chunk)
    print(f"{size} bytes in {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
