"""Many threads at a time, and one after the other: in processes of their own, whose end is looked at as well."""

from __future__ import annotations

import pytest

from tests.certificates import Certificates
from tests.hubtools import run
from tests.peer import Peer
from tests.test_threads_fork import Gate, check_end

tls_ways = pytest.mark.parametrize("tls", ["plain", "native", "context"])


def outcome_of(name: str, tls: str, certificates: Certificates, *arguments: object) -> list[str]:
    with Peer(tls=None if tls == "plain" else certificates.valid.server()) as peer:
        url = f"http://127.0.0.1:{peer.port}" if tls == "plain" else f"https://localhost:{peer.port}"
        outcome = run(f"threads.{name}", url, tls, *arguments, SSL_CERT_FILE=str(certificates.ca))
    check_end(outcome, 0)
    return outcome.out.split()


@tls_ways
def test_many_threads_share_clients_of_every_kind(tls: str, certificates: Certificates) -> None:
    rounds = 50 if tls == "plain" else 12
    assert outcome_of("storm", tls, certificates, rounds) == ["ok"]


@tls_ways
def test_a_connection_is_handed_from_thread_to_thread(tls: str, certificates: Certificates) -> None:
    assert outcome_of("handed_on", tls, certificates) == ["ok"]


def test_a_thread_that_ends_costs_no_more_than_its_hub() -> None:
    """gevent leaves the loop of a thread that ends without `hub.destroy()` open; nothing of ours is added to that."""
    with Peer(Gate()) as peer:
        outcome = run("threads.short_lived", f"http://127.0.0.1:{peer.port}", 40, GEVENT_RESOLVER="block")
        check_end(outcome, 0)
        sleeps, asks, leaves = map(int, outcome.out.split())
        peer.scripts[0].opened.set()  # type: ignore[attr-defined]
    # The last thread's connection, and its polling instance, may still be there.
    assert asks <= sleeps + 2
    assert leaves <= sleeps + 2
