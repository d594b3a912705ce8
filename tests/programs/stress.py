"""The stress test in a process of its own, so that all leftovers are its own."""

from __future__ import annotations

import json
import sys
from typing import Any

import gevent

from geventhttpclient import HTTPClient, _core
from tests.server import faults
from tests.server.tagged import Target
from tests.support.hub import descriptors, turn
from tests.support.stress import SHARES, Report, asker, clock, numbers, objects, rage, resident_kib

# After each round all clients are idle, and the process is measured. The first rounds warm it up.
ROUNDS = 4


def run(count: str, seed: str, ca: str, chain: str, key: str, *names: str) -> None:
    """Sends `count` concurrent requests of the named kinds, or of all kinds. Prints one JSON object with their outcomes
    and the resources that remain."""
    shares = {name: SHARES[name] for name in names or SHARES}
    counts = {name: int(count) * share // sum(shares.values()) + ROUNDS for name, share in shares.items()}
    found: dict[str, Any] = {"kinds": {}}
    with faults.running(int(seed), chain, key) as server:
        server.heal()
        with HTTPClient("127.0.0.1", server.ports["direct"]) as client:  # creates the objects that stay with the hub
            client.get(str(Target("marked", 1))).read()
        before = descriptors()
        every_number = numbers()
        askers = [asker(name, server.ports, ca, Report(), every_number) for name in counts]

        waves_of(askers, "before")
        server.rage()
        started = clock()
        quiet: list[tuple[int, int]] = []
        for round in range(ROUNDS):
            storms = [gevent.spawn(rage, one, counts[one.name] // ROUNDS, f"{seed}/{round}") for one in askers]
            gevent.joinall(storms, raise_error=True)
            quiet.append((objects(), resident_kib()))
        found["seconds"] = clock() - started
        found["requests"] = sum(one.report.outcomes.total() for one in askers)
        found["objects"], found["grown_kib"] = (quiet[-1][n] - quiet[ROUNDS // 2 - 1][n] for n in (0, 1))

        server.heal()
        turn()
        found["waits"] = _core._runtime_statistics()
        waves = waves_of(askers, "after")
        seen = server.counts()
        for one in askers:
            found["kinds"][one.name] = {
                "outcomes": one.report.outcomes,
                "wrong": one.report.wrong,
                "pool": one.statistics(),
                "wave": waves[one.name],
                "harm": seen[one.kind.port]["harm"],
                "violations": seen[one.kind.port]["violations"],
            }
            one.close()
        found["waits_at_last"] = _core._runtime_statistics()
        found["left"] = {number: what for number, what in descriptors().items() if number not in before}
    json.dump(found, sys.stdout)


def waves_of(askers: list[Any], name: str) -> dict[str, list[str]]:
    """Sends a wave of each kind, with a gate of its own whose name contains `name`."""
    return {one.name: one.wave(f"{name}{one.name}") for one in askers}
