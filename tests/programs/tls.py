"""Programs that use TLS. Each gets the port of a server on this host."""

from __future__ import annotations

import os
import resource
import ssl

from geventhttpclient.client import HTTPClient
from tests.programs.forks import fork
from tests.support.hub import get
from tests.support.tls import by


def trusts(port: str) -> None:
    """Prints whether the server is trusted by default, or the reason why not."""
    try:
        response = HTTPClient("127.0.0.1", int(port), ssl=True).get("/page")
        print(response.tls.verified)
    except ssl.SSLCertVerificationError as e:
        print("refused", e.verify_code)


def forks(port: str, authority: str, way: str, kind: str) -> None:
    """Prints how many connections the parent has opened after its children have ended."""
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


def starves() -> None:
    """Prints the result of creating a client when no file descriptor is left, and of creating the next one."""
    free = os.dup(0)
    os.close(free)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        HTTPClient("127.0.0.1", 1, ssl=True)
        print("made", end=" ")
    except OSError as e:
        print(e.errno, e.filename, end=" ")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    HTTPClient("127.0.0.1", 1, ssl=True).close()
    print("then made")
