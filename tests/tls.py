"""What the test modules of TLS share: clients by either way to do TLS, and the names of the servers they talk to."""

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
from tests.certificates import Certificates, Pair
from tests.conftest import missing
from tests.hubtools import until
from tests.peer import Conn, Peer, Script

# The engine's own TLS, and an SSLContext that the caller makes.
WAYS = ("native", "context")


def own_factory(**arguments: Any) -> ssl.SSLContext:
    """What a program passes as ssl_context_factory: not one of Python's own, though it does what that does."""
    return ssl.create_default_context(**arguments)


def by(way: str) -> dict[str, Any]:
    """The arguments that make a client do TLS this way."""
    return {"ssl_context_factory": own_factory} if way == "context" else {}


@contextmanager
def client_of(port: int, way: str = "native", host: str = "localhost", **options: Any) -> Iterator[HTTPClient]:
    """A client of the server on that port, to be closed; nothing is trusted but what `ssl_options` say."""
    with closing(HTTPClient(host, port, ssl=True, **by(way), **options)) as client:
        yield client


def trusting(certificates: Certificates, **more: Any) -> dict[str, Any]:
    """The ssl_options of a client that trusts the authority of the tests, and no other."""
    return {"ca_certs": str(certificates.ca), **more}


def hashed(authority: Path) -> Path:
    """A directory in which OpenSSL finds that authority by the hash of its name."""
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
    """A peer that plays `scripts` behind a handshake, and a client that trusts it."""
    options.setdefault("ssl_options", trusting(certificates))
    context = (shown or certificates.valid).server()
    with Peer(*scripts, tls=context) as peer, client_of(peer.port, way, **options) as client:
        yield peer, client


def facts(client: HTTPClient, **request: Any) -> dict[str, str]:
    """What nginx knows of the connection that the request came over."""
    response = client.get("/facts", **request)
    text = response.read()
    assert response.status_code == 200, text
    return json.loads(text)  # type: ignore[no-any-return]


def check_failure(error: BaseException, port: int, host: str = "localhost", phase: str = "tls") -> None:
    """The attributes of every error of a connection."""
    assert error.phase == phase  # type: ignore[attr-defined]
    assert error.peer == f"{host}:{port}"  # type: ignore[attr-defined]
    assert isinstance(error.elapsed, float)  # type: ignore[attr-defined]
    assert error.elapsed >= 0


def check_whole(client: HTTPClient) -> None:
    """Nothing of the pool is in use or waited for: what went wrong has left nothing behind."""
    statistics = client._connection_pool.statistics()
    assert (statistics["in_use"], statistics["waiting"]) == (0, 0), statistics


def opened(client: HTTPClient) -> int:
    """How many connections the client has made."""
    return client._connection_pool.statistics()["opened"]


def hello_is_there(peer: Peer) -> None:
    """Waits until the (first) client has said its first words, and so waits for the answer."""
    until(lambda: peer.conns and peer.conns[0].raw)


def read_hello(conn: Conn) -> bytes:
    """The client's first record, a ClientHello (RFC 8446 section 4.1.2), as it came."""
    head = conn.read_exactly(5)
    return head + conn.read_exactly(int.from_bytes(head[3:], "big"))
