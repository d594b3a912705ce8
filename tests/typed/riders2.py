"""httpx2 on the engine; it requires Python 3.11."""

from __future__ import annotations

import httpx2

from geventhttpclient.adapters import httpx2 as httpx2_transport


def main(url: str) -> None:
    with httpx2.Client(transport=httpx2_transport.Transport(verify=False, trust_env=False)) as client:
        assert client.get(f"{url}/page").status_code == 200
