"""Stress test: 200 greenlets a client, random kills and timeouts, and a network with faults. Every body belongs to its
request, every failure raises a documented exception, and nothing is left over.

A failing test prints its seed. With the same STORM_SEED the chaos proxy does the same harm to the same bytes; the
scheduler may differ. STORM_REQUESTS is the number of requests.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import watched
from tests.support.certificates import Certificates
from tests.support.hub import running
from tests.support.stress import CONCURRENCY, KINDS

REQUESTS = int(os.environ.get("STORM_REQUESTS", 50_000))
SEED = int(os.environ.get("STORM_SEED", random.SystemRandom().randrange(10**9)))
# On two cores that have nothing else to do it takes 30.
SECONDS = 300

pytestmark = pytest.mark.serial

# Growth between two idle moments: 60 bytes for each request of the second half. `make soak` finds less, in more time.
MOST_GROWN_KIB = 1536
# Objects that are kept permanently (an entry of a cache, an interned name), never one for each request.
MOST_OBJECTS = 1000


@pytest.fixture(autouse=True)
def watchdog(pytestconfig: pytest.Config) -> Iterator[None]:
    """Replaces the usual one, which would end the storm early."""
    with watched(pytestconfig, SECONDS + 10):
        yield


@pytest.fixture(scope="module")
def storm(certificates: Certificates) -> dict[str, Any]:
    print(f"STORM_SEED={SEED}")
    valid = certificates.valid
    arguments = (REQUESTS, SEED, certificates.ca, valid.chain, valid.key)
    with running("stress.run", *arguments) as program:
        return json.loads(program.end(SECONDS).clean())  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def seed_is_told() -> None:
    print(f"STORM_SEED={SEED}")


@pytest.mark.parametrize("name", KINDS)
def test_every_body_belongs_to_its_request(name: str, storm: dict[str, Any]) -> None:
    of_kind = storm["kinds"][name]
    assert of_kind["wrong"] == []
    # Some requests succeeded, and each kind of failure occurred: else nothing was tested.
    assert of_kind["outcomes"]["whole"] > REQUESTS / 1000, of_kind
    assert {"killed", "thrown", "gevent.Timeout"} <= set(of_kind["outcomes"])
    if name != "direct":
        assert {"delay", "split", "cut", "reset", "stall"} <= set(of_kind["harm"])


@pytest.mark.parametrize("name", KINDS)
def test_server_received_only_valid_requests(name: str, storm: dict[str, Any]) -> None:
    """No body belongs to another request or is damaged without a fault; no POST is received twice."""
    allowed = {"damaged body"} if KINDS[name].may_garble else set()
    assert set(storm["kinds"][name]["violations"]) <= allowed


@pytest.mark.parametrize("name", KINDS)
def test_every_pool_slot_is_usable_afterwards(name: str, storm: dict[str, Any]) -> None:
    """The server sends no response before it has received as many requests as the pool has places."""
    of_kind = storm["kinds"][name]
    assert of_kind["wave"] == ["whole"] * CONCURRENCY
    assert (of_kind["pool"]["in_use"], of_kind["pool"]["waiting"]) == (0, 0)


def test_nothing_is_left_afterwards(storm: dict[str, Any]) -> None:
    assert storm["requests"] >= REQUESTS
    assert storm["waits"] == storm["waits_at_last"] == [0, 0]
    assert storm["left"] == {}
    if REQUESTS >= 50_000:  # a shorter run is still warming up
        assert storm["grown_kib"] < MOST_GROWN_KIB
    assert storm["objects"] < MOST_OBJECTS
