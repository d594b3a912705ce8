"""Helpers for tests of TLS: clients with either TLS implementation, and the names of the servers."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from geventhttpclient import HTTPClient
from tests.support.certificates import Certificates, Pair
from tests.support.hub import until
from tests.support.peer import Conn, Peer, Script
from tests.support.requirements import missing

# The engine's own TLS, and an SSLContext that the caller makes.
WAYS = ("native", "context")


def own_factory(**arguments: Any) -> ssl.SSLContext:
    """Works like Python's own factory, but is a function of the program, for ssl_context_factory."""
    return ssl.create_default_context(**arguments)


def by(way: str) -> dict[str, Any]:
    """Returns the arguments for a client with this TLS implementation."""
    return {"ssl_context_factory": own_factory} if way == "context" else {}


@contextmanager
def client_of(port: int, way: str = "native", host: str = "localhost", **options: Any) -> Iterator[HTTPClient]:
    """Yields a client of the server on that port, which trusts only the certificates in `ssl_options`."""
    with closing(HTTPClient(host, port, ssl=True, **by(way), **options)) as client:
        yield client


def trusting(certificates: Certificates, **more: Any) -> dict[str, Any]:
    """Returns the ssl_options of a client that trusts the authority of the tests, and no other."""
    return {"ca_certs": str(certificates.ca), **more}


def hashed(authority: Path) -> Path:
    """Returns a directory in which OpenSSL finds that authority by the hash of its name."""
    directory = authority.with_suffix(".d")
    if not directory.exists():
        program = shutil.which("openssl") or missing("openssl")
        directory.mkdir()
        (directory / authority.name).write_bytes(authority.read_bytes())
        subprocess.run([program, "rehash", directory], check=True, stdin=subprocess.DEVNULL)
    return directory


@contextmanager
def securely_serving(
    certificates: Certificates, *scripts: Script, way: str = "native", shown: Pair | None = None, **options: Any
) -> Iterator[tuple[Peer, HTTPClient]]:
    """Starts a TLS peer that plays `scripts`; yields it and a client that trusts it."""
    options.setdefault("ssl_options", trusting(certificates))
    context = (shown or certificates.valid).server()
    with Peer(*scripts, tls=context) as peer, client_of(peer.port, way, **options) as client:
        yield peer, client


def facts(client: HTTPClient, **request: Any) -> dict[str, str]:
    """Returns the data that nginx has about the connection of the request."""
    response = client.get("/facts", **request)
    text = response.read()
    assert response.status_code == 200, text
    return json.loads(text)  # type: ignore[no-any-return]


def check_failure(error: BaseException, port: int, host: str = "localhost", phase: str = "tls") -> None:
    """Checks the attributes that every error of a connection has."""
    assert error.phase == phase  # type: ignore[attr-defined]
    assert error.peer == f"{host}:{port}"  # type: ignore[attr-defined]
    assert isinstance(error.elapsed, float)  # type: ignore[attr-defined]
    assert error.elapsed >= 0


def check_whole(client: HTTPClient) -> None:
    """Checks that no slot of the pool is in use or waited for after a failure."""
    statistics = client._connection_pool.statistics()
    assert (statistics["in_use"], statistics["waiting"]) == (0, 0), statistics


def opened(client: HTTPClient) -> int:
    """Returns the number of connections that the client has made."""
    return client._connection_pool.statistics()["opened"]


def hello_is_there(peer: Peer) -> None:
    """Waits until the (first) client has sent its ClientHello, after which it waits for the answer."""
    until(lambda: peer.conns and peer.conns[0].raw)


def read_hello(conn: Conn) -> bytes:
    """Returns the client's first record, a ClientHello (RFC 8446 section 4.1.2), as received."""
    head = conn.read_exactly(5)
    return head + conn.read_exactly(int.from_bytes(head[3:], "big"))
