"""Under 200 greenlets a client, with kills and deadlines at random and a network that does its worst: every body is the
one that was asked for, every failure is raised as one of the exceptions that there are for it, and nothing is left.

The seed is in the output of a test that fails. With the same in STORM_SEED the peer does the same harm to the same
bytes; what the scheduler does is its own. STORM_REQUESTS is how many requests there are.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.hubtools import running
from tests.storms import CONCURRENCY, KINDS

REQUESTS = int(os.environ.get("STORM_REQUESTS", 50_000))
SEED = int(os.environ.get("STORM_SEED", random.SystemRandom().randrange(10**9)))
# With time to spare: it takes a quarter of that on two cores that have nothing else to do.
SECONDS = 110

# Between two moments of rest: 60 bytes for each request of the second half. `make soak` finds less, in more time.
MOST_GROWN_KIB = 1536
# What is kept once for good (a cache's entry, a name that is interned), and never one for each request.
MOST_OBJECTS = 1000


@pytest.fixture(scope="module")
def storm(certificates: Certificates) -> dict[str, Any]:
    print(f"STORM_SEED={SEED}")
    valid = certificates.valid
    arguments = (REQUESTS, SEED, certificates.ca, valid.chain, valid.key)
    with running("storm.run", *arguments) as program:
        return json.loads(program.end(SECONDS).clean())  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def seed_is_told() -> None:
    print(f"STORM_SEED={SEED}")


@pytest.mark.parametrize("name", KINDS)
def test_whatever_is_delivered_was_asked_for(name: str, storm: dict[str, Any]) -> None:
    of_kind = storm["kinds"][name]
    assert of_kind["wrong"] == []
    # Some were answered, and some of everything else happened, too: else nothing was tested.
    assert of_kind["outcomes"]["whole"] > REQUESTS / 1000, of_kind
    assert {"killed", "thrown", "gevent.Timeout"} <= set(of_kind["outcomes"])
    if name != "direct":
        assert {"delay", "split", "cut", "reset", "stall"} <= set(of_kind["harm"])


@pytest.mark.parametrize("name", KINDS)
def test_the_server_saw_nothing_that_no_request_was(name: str, storm: dict[str, Any]) -> None:
    """No body that belongs to another request, or came damaged where nothing damages it; no POST came twice."""
    allowed = {"damaged body"} if KINDS[name].may_garble else set()
    assert set(storm["kinds"][name]["violations"]) <= allowed


@pytest.mark.parametrize("name", KINDS)
def test_afterwards_every_place_in_the_pool_is_there(name: str, storm: dict[str, Any]) -> None:
    """As many requests at once as the pool has places; the server answers none before all are there."""
    of_kind = storm["kinds"][name]
    assert of_kind["wave"] == ["whole"] * CONCURRENCY
    assert (of_kind["pool"]["in_use"], of_kind["pool"]["waiting"]) == (0, 0)


def test_afterwards_nothing_is_left(storm: dict[str, Any]) -> None:
    assert storm["requests"] >= REQUESTS
    assert storm["waits"] == storm["waits_at_last"] == [0, 0]
    assert storm["left"] == {}
    if REQUESTS >= 50_000:  # a shorter one is still warming up
        assert storm["grown_kib"] < MOST_GROWN_KIB
    assert storm["objects"] < MOST_OBJECTS
