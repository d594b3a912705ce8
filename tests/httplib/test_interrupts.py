"""Interrupts of every wait of an HTTPConnection: the outcome, and that the connection can be used again."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from geventhttpclient import httplib
from geventhttpclient._core import _runtime_statistics
from tests.support.certificates import Certificates
from tests.support.hub import descriptors, until
from tests.support.interrupts import LIMIT, SENSELESS, begin, kill, throw, timeout
from tests.support.pairs import thinned
from tests.support.wait_points import (
    PHASES,
    Continue,
    Iterate,
    Phase,
    PoolWait,
    Produce,
    ReadBody,
    ReadLine,
    Resolve,
    SendFile,
    Stage,
    Tunnel,
    TunnelBySocks,
    TunnelByTls,
    staged,
)

pytestmark = pytest.mark.usefixtures("bounded")

# Waits that this class does not have.
NOT_HERE: dict[type[Phase], str] = {
    PoolWait: "a connection has a single user",
    TunnelByTls: "set_tunnel() supports only plain proxies",
    TunnelBySocks: "set_tunnel() supports only HTTP proxies",
    Continue: "http.client sends the body without waiting",
    SendFile: "http.client reads a file itself, piece by piece: that is SendChunks",
}
KINDS = [kind for kind in PHASES if kind not in NOT_HERE]

# The results of http.client for a counted body that is cut short, read by lines: the received part.
CUT_SHORT: dict[type[Phase], bytes] = {Iterate: b"half and", ReadLine: b"sec"}

FAILURES = (OSError, http.client.HTTPException)


class Client:
    """The client interface that a Phase uses, on one HTTPConnection."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        self.host, self.port = host, port
        limit = options["network_timeout"]
        place = (host, port)
        if "proxy" in options:
            name, _, number = options["proxy"].removeprefix("http://").partition(":")
            place = (name, int(number))
        if options.get("ssl"):
            factory = options.get("ssl_context_factory")
            context = factory and factory(cafile=options["ssl_options"]["ca_certs"])
            self.connection: Any = httplib.HTTPSConnection(*place, timeout=limit, context=context)
        else:
            self.connection = httplib.HTTPConnection(*place, timeout=limit)
        if "proxy" in options:
            self.connection.set_tunnel(host, port)
        self.close = self.connection.close

    def get(self, target: str) -> Any:
        self.connection.request("GET", target)
        return self.connection.getresponse()

    def post(self, target: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        self.connection.request("POST", target, body, headers or {})
        return self.connection.getresponse()


def cells() -> list[Any]:
    found = []
    for kind in KINDS:
        interrupts = ["kill", "throw", "timeout", "fin", "rst", "close"]
        interrupts += ["deadline"] if kind is not Produce else []  # its iterator waits for something else
        interrupts += ["close_response"] if issubclass(kind, ReadBody) else []
        for interrupt in interrupts:
            if (kind, interrupt) in SENSELESS:
                continue
            for way in kind.ways:
                if (kind, way) != (Resolve, "native"):  # whose name would have to be in the certificate
                    found.append(pytest.param(kind, interrupt, way, id=f"{kind.__name__}-{interrupt}-{way}"))
    return found


@pytest.fixture(autouse=True)
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl.create_default_context)


@pytest.mark.parametrize(("kind", "interrupt", "way"), thinned(cells(), lambda cell: cell.values))
def test_each_interrupt_of_each_wait_leaves_nothing_behind(
    kind: type[Phase], interrupt: str, way: str, certificates: Certificates
) -> None:
    limit = {"network_timeout": LIMIT} if interrupt == "deadline" else {}
    with staged(kind, way, certificates, make=Client, **limit) as stage:
        quiet, before = _runtime_statistics(), descriptors()
        INTERRUPTS[interrupt](stage)
        stage.client.close()
        stage.act("over")
        until(lambda: len(descriptors()) <= len(before))
        assert _runtime_statistics() == quiet
        stage.phase.check_sent(stage.peer)
        stage.heal()
        stage.client.connection.timeout = 20
        for n in range(2):
            assert stage.client.get(f"/after/{n}").read() == f"/after/{n}".encode()


def deadline(stage: Stage) -> None:
    outcome = stage.spawn().get(timeout=15)
    assert isinstance(outcome, TimeoutError), repr(outcome)


def fault(stage: Stage, which: str) -> None:
    call = begin(stage)
    stage.act(which)
    outcome = call.get(timeout=15)
    if which == "fin" and (cut := CUT_SHORT.get(type(stage.phase))):
        assert outcome == cut
        return
    stage.phase.check_fault(outcome, FAILURES)
    assert not isinstance(outcome, TimeoutError)


def close(stage: Stage) -> None:
    """The waiting greenlet gets an exception before the peer does anything."""
    call = begin(stage)
    stage.client.close()
    if isinstance(stage.phase, Produce):  # this wait does not end with the connection
        stage.phase.more.set()
    if isinstance(stage.phase, Resolve):  # this one does not, either
        stage.act("answer")
    outcome = call.get(timeout=10)
    assert isinstance(outcome, FAILURES), repr(outcome)
    assert not isinstance(outcome, TimeoutError)


def close_response(stage: Stage) -> None:
    assert isinstance(stage.phase, ReadBody)
    call = begin(stage)
    stage.phase.response.close()
    assert isinstance(outcome := call.get(timeout=10), ConnectionAbortedError), repr(outcome)


INTERRUPTS: dict[str, Callable[[Stage], object]] = {
    "kill": kill,
    "throw": throw,
    "timeout": timeout,
    "deadline": deadline,
    "fin": lambda stage: fault(stage, "fin"),
    "rst": lambda stage: fault(stage, "rst"),
    "close": close,
    "close_response": close_response,
}


@pytest.mark.parametrize("way", ["native", "context"])
@pytest.mark.parametrize("interrupt", ["kill", "deadline"])
def test_connection_without_a_tunnel_is_not_used_for_the_host(
    interrupt: str, way: str, certificates: Certificates
) -> None:
    """A connection that only the proxy has heard of is not used for a request, which would go there unsealed."""

    def connect(client: Client) -> bytes:
        stage.phase.entered.set()
        client.connection.connect()
        return b""

    limit = {"network_timeout": LIMIT} if interrupt == "deadline" else {}
    with staged(Tunnel, way, certificates, make=Client, **limit) as stage:
        stage.phase.call = connect  # type: ignore[method-assign, assignment]
        INTERRUPTS[interrupt](stage)
        stage.act("over")
        stage.client.connection.timeout = 20
        assert stage.client.get("/after").read() == b"/after"
        head, _, more = stage.peer.conns[0].raw.partition(b"\r\n\r\n")
        assert (head[:8], more) == (b"CONNECT ", b"")
