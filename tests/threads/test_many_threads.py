"""Many threads, concurrent and in sequence, in processes of their own, whose exit is checked too."""

from __future__ import annotations

import pytest

from tests.support.certificates import Certificates
from tests.support.hub import run
from tests.support.peer import Peer
from tests.threads.test_threads import Gate, check_end

tls_ways = pytest.mark.parametrize("tls", ["plain", "native", "context"])


def outcome_of(name: str, tls: str, certificates: Certificates, *arguments: object) -> list[str]:
    with Peer(tls=None if tls == "plain" else certificates.valid.server()) as peer:
        url = f"http://127.0.0.1:{peer.port}" if tls == "plain" else f"https://localhost:{peer.port}"
        outcome = run(f"threads.{name}", url, tls, *arguments, SSL_CERT_FILE=str(certificates.ca))
    check_end(outcome, 0)
    return outcome.out.split()


@tls_ways
def test_clients_of_every_kind_are_shared_by_many_threads(tls: str, certificates: Certificates) -> None:
    rounds = 50 if tls == "plain" else 12
    assert outcome_of("storm", tls, certificates, rounds) == ["ok"]


@tls_ways
def test_connection_is_handed_from_thread_to_thread(tls: str, certificates: Certificates) -> None:
    assert outcome_of("handed_on", tls, certificates) == ["ok"]


def test_ended_thread_leaves_no_more_than_its_hub() -> None:
    """gevent leaves the loop of a thread that ends without `hub.destroy()` open; the engine adds nothing to that."""
    with Peer(Gate()) as peer:
        outcome = run("threads.short_lived", f"http://127.0.0.1:{peer.port}", 40, GEVENT_RESOLVER="block")
        check_end(outcome, 0)
        sleeps, asks, leaves = map(int, outcome.out.split())
        peer.scripts[0].opened.set()  # type: ignore[attr-defined]
    # The last thread's connection and its polling instance may still be open.
    assert asks <= sleeps + 2
    assert leaves <= sleeps + 2
