"""A storm in a process of its own, so that what is left over afterwards is the storm's."""

from __future__ import annotations

import json
import sys
from typing import Any

import gevent

from geventhttpclient import HTTPClient, _core
from tests.hubtools import descriptors, turn
from tests.server import faults
from tests.server.marked import Target
from tests.storms import SHARES, Report, asker, clock, numbers, objects, rage, resident_kib, slope

# Requests between two looks at the memory.
LOOK_EVERY = 250


def run(count: str, seed: str, ca: str, chain: str, key: str, *names: str) -> None:
    """Prints as one JSON object what came of `count` requests of the kinds of those names, all of them at once, or of
    all that there are; and what is left of them."""
    shares = {name: SHARES[name] for name in names or SHARES}
    counts = {name: int(count) * share // sum(shares.values()) + 1 for name, share in shares.items()}
    found: dict[str, Any] = {"kinds": {}}
    with faults.running(int(seed), chain, key) as server:
        server.heal()
        with HTTPClient("127.0.0.1", server.ports["direct"]) as client:  # what stays with the hub is there, now
            client.get(str(Target("marked", 1))).read()
        before = descriptors()
        every_number = numbers()
        askers = [asker(name, server.ports, ca, Report(), every_number) for name in counts]

        waves_of(askers, "before")
        server.rage()
        memory: list[tuple[float, float]] = []
        begun = 0

        def tick() -> None:
            nonlocal begun
            begun += 1
            if begun % LOOK_EVERY == 0:
                memory.append((begun, resident_kib()))

        started = clock()
        all_rage(askers, {name: count // 2 for name, count in counts.items()}, f"{seed}/1", tick)
        half, objects_then = begun, objects()
        all_rage(askers, {name: count - count // 2 for name, count in counts.items()}, f"{seed}/2", tick)
        found["seconds"] = clock() - started
        found["requests"] = begun
        found["grown_kib"] = (begun - half) * slope([point for point in memory if point[0] > half])
        found["objects"] = objects() - objects_then

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


def all_rage(askers: list[Any], counts: dict[str, int], seed: str, tick: Any) -> None:
    storms = [gevent.spawn(rage, one, counts[one.name], seed, tick) for one in askers]
    gevent.joinall(storms, raise_error=True)


def waves_of(askers: list[Any], name: str) -> dict[str, list[str]]:
    """Each gate is one of a kind and of this name."""
    return {one.name: one.wave(f"{name}{one.name}") for one in askers}
