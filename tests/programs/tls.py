"""Programs that do TLS. Each is given the port of a server on this host."""

from __future__ import annotations

import ssl

from geventhttpclient.client import HTTPClient
from tests.hubtools import get
from tests.programs.forks import fork
from tests.tls import by


def trusts(port: str) -> None:
    """Says whether the server is trusted by default, or why not."""
    try:
        response = HTTPClient("127.0.0.1", int(port), ssl=True).get("/page")
        print(response.tls.verified)
    except ssl.SSLCertVerificationError as e:
        print("refused", e.verify_code)


def forks(port: str, authority: str, way: str, kind: str) -> None:
    """Says how many connections the parent has opened after children have come and gone."""
    client = HTTPClient("127.0.0.1", int(port), ssl=True, ssl_options={"ca_certs": authority}, **by(way))
    page = get(client, "/page")

    def child() -> None:
        for _ in range(2):
            assert get(client, "/page") == page
        client.close()

    for _ in range(2):
        assert fork(kind, child)() == 0
        assert get(client, "/page") == page
    print(client._connection_pool.statistics()["opened"])
