"""The soak: uses all features at once, for a given time, and checks that memory stays constant.

    python -m tests.programs.soak [SECONDS]

It uses plain HTTP, TLS of the engine and of an SSLContext, streaming in both directions, the agent, sessions,
http.client's interface, and short-lived pools of clients, all of it over a network that delays, splits, cuts, resets,
garbles and stalls, with random kills and deadlines. Every 10 seconds, or every fifth of a shorter soak, it prints:

    the second, requests per second, resident memory (MiB) and its slope (KiB for each 1,000 requests: that of the
    straight line through all measurements since the warm-up), open descriptors, objects of the garbage collector,
    greenlets, and the number of requests by outcome

At the end everything is closed. It exits with 1, and prints the reason, if

- a body was delivered that was not the requested one, a request hung, or an exception was raised other than those
  documented for the case;
- a descriptor or a waiting greenlet is left;
- memory has grown since the warm-up, by its straight line, by more than 4 MiB and by more than 2 KiB for each 1,000
  requests. The first is the fluctuation of allocators; the second is 2 bytes per request;
- the objects have grown by more than 2,000 and by more than 2 for each 1,000 requests, in the same way.

SOAK_SEED repeats the random choices.
"""

from __future__ import annotations

import gc
import os
import random
import ssl
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import greenlet

from geventhttpclient import HTTPClient, Session, _core, httpx
from geventhttpclient.client import HTTPClientPool
from tests.server import faults
from tests.server.tagged import FILLING, Target, mark
from tests.support.certificates import Certificates
from tests.support.hub import descriptors, turn
from tests.support.stress import (
    CODING,
    CONNECTION_SECONDS,
    HANG_SECONDS,
    KINDS,
    LONGEST_SECONDS,
    NETWORK_SECONDS,
    OF_AGENT,
    Asker,
    Hangs,
    Report,
    asker,
    clock,
    numbers,
    resident_kib,
    slope,
)

# Number of greenlets for each kind of request.
WORKERS = 8

# Fraction of the time in which caches fill and pools reach their size.
WARM_UP = 0.25
SAMPLES = 60

MOST_GROWN_KIB, MOST_KIB_PER_1000 = 4096, 2
MOST_OBJECTS, MOST_OBJECTS_PER_1000 = 2000, 2


class Users:
    """Users with short-lived clients, and users that transfer large bodies."""

    def __init__(self, ports: dict[str, int], ca: str, every_number: Iterator[int]) -> None:
        self.ports = ports
        self.ca = ca
        self.numbers = every_number
        self.report = Report()
        # The checks of a body: `direct` if it cannot be cut or garbled, the others if it can.
        self.judges = {
            name: Asker(name, ports, ca, self.report, every_number) for name in ("direct", "garbled", "native")
        }
        self.options: dict[str, Any] = {
            "network_timeout": NETWORK_SECONDS,
            "connection_timeout": CONNECTION_SECONDS,
            "ssl_options": {"ca_certs": ca},
        }
        self.streams = [
            HTTPClient("127.0.0.1", ports["direct"], concurrency=2),
            HTTPClient("127.0.0.1", ports["direct_tls"], ssl=True, ssl_options={"ca_certs": ca}, concurrency=2),
        ]

    def close(self) -> None:
        for one in (*self.judges.values(), *self.streams):
            one.close()

    def all(self) -> list[Callable[[random.Random], str]]:
        return [self.session, self.client_pool, self.client, self.httpx_client, self.download, self.upload]

    def once(self, user: Callable[[random.Random], str], rng: random.Random) -> None:
        soon = LONGEST_SECONDS * rng.random() if rng.random() < 0.2 else None
        try:
            outcome = "gevent.Timeout"
            with gevent.Timeout(HANG_SECONDS, Hangs(user.__name__)), gevent.Timeout(soon, False):
                outcome = user(rng)
            self.report.outcomes[outcome] += 1
        except Hangs as e:
            self.report.note(f"hangs: {e}")
        except (*CODING, *OF_AGENT, httpx.HTTPError) as e:
            self.report.outcomes[type(e).__name__] += 1
        except Exception as e:
            self.report.note(f"{user.__name__}: {e!r}")

    def draw(self, rng: random.Random) -> tuple[str, str, Target]:
        """Returns the name of a judge, a base URL, and a target."""
        name, port, scheme = rng.choice(
            [
                ("direct", "direct", "http"),
                ("garbled", "plain", "http"),
                ("garbled", "garbled", "http"),
                ("native", "direct_tls", "https"),
                ("native", "tls", "https"),
            ]
        )
        return name, f"{scheme}://127.0.0.1:{self.ports[port]}", self.target(rng)

    def target(self, rng: random.Random) -> Target:
        framing = rng.choice([("counted",), ("chunked",), ("close",), ("chunked", "interim", "trailers")])
        return Target("marked", next(self.numbers), framing, int(10 ** rng.uniform(0, 4)))

    # ---------------------------------------------------------------------------------------------- short-lived clients

    def session(self, rng: random.Random) -> str:
        outcome = ""
        with Session(concurrency=2, max_retries=0, **self.options) as session:
            for _ in range(3):
                name, base, target = self.draw(rng)
                outcome = self.judges[name].check(target, None, session.get(f"{base}{target}").content)
        return outcome

    def client_pool(self, rng: random.Random) -> str:
        outcome = ""
        pool = HTTPClientPool(concurrency=2, **self.options)
        for _ in range(3):
            name, base, target = self.draw(rng)
            outcome = self.judges[name].check(target, None, pool.get_client(base).get(str(target)).read())
        if rng.random() < 0.5:
            pool.close()
        return outcome

    def client(self, rng: random.Random) -> str:
        """Creates a client, uses it once, and never closes it."""
        name, base, target = self.draw(rng)
        more = {"ssl_context_factory": ssl.create_default_context} if rng.random() < 0.3 else {}
        response = HTTPClient.from_url(base, **self.options, **more).get(str(target))
        return self.judges[name].check(target, None, response.read())

    def httpx_client(self, rng: random.Random) -> str:
        _, _, target = self.draw(rng)
        with httpx.Client(base_url=f"http://127.0.0.1:{self.ports['plain']}", timeout=NETWORK_SECONDS) as client:
            return self.judges["garbled"].check(target, None, client.get(str(target)).content)

    # ----------------------------------------------------------------------------------------------------- large bodies

    def download(self, rng: random.Random) -> str:
        target = Target("marked", next(self.numbers), (rng.choice(["counted", "chunked"]),), len(FILLING) // 2)
        response = rng.choice(self.streams).get(str(target))
        pieces = []
        while piece := response.read(16 * 1024):
            pieces.append(piece)
            if len(pieces) == 10 and rng.random() < 0.2:
                return "left unread"
        return self.judges["direct"].check(target, None, b"".join(pieces))

    def upload(self, rng: random.Random) -> str:
        target = Target("marked", next(self.numbers), ("counted",), 10)
        body = mark(target.number, len(FILLING) // 2)
        pieces = (body[start : start + 20_000] for start in range(0, len(body), 20_000))
        response = rng.choice(self.streams).put(str(target), pieces)
        return self.judges["direct"].check(target, None, response.read())


class Gauge:
    """Measures the process at intervals, and formats the measurements."""

    def __init__(self, seconds: float, count: Callable[[], Counter[str]]) -> None:
        self.seconds = seconds
        self.count = count
        self.started = clock()
        self.memory: list[tuple[float, float]] = []
        self.objects: list[tuple[float, float]] = []
        self.last_line = (self.started, 0)
        self.warm = False

    def look(self) -> None:
        gc.collect()
        requests = self.count().total()
        self.memory.append((requests, resident_kib()))
        self.objects.append((requests, len(gc.get_objects())))
        if not self.warm and clock() - self.started >= self.seconds * WARM_UP:
            self.warm = True
            self.memory, self.objects = self.memory[-1:], self.objects[-1:]

    def line(self) -> str:
        counts = self.count()
        now, requests = clock(), counts.total()
        then, before = self.last_line
        self.last_line = now, requests
        greenlets = sum(isinstance(one, greenlet.greenlet) for one in gc.get_objects())
        return (
            f"{now - self.started:5.0f} s  {(requests - before) / max(now - then, 1e-6):6.0f}/s  "
            f"{resident_kib() / 1024:6.1f} MiB  {1000 * slope(self.memory):+7.2f} KiB/1000  {len(descriptors())} fds  "
            f"{self.objects[-1][1]:.0f} objects  {greenlets} greenlets  "
            + " ".join(f"{name}={count}" for name, count in counts.most_common())
        )

    def complaints(self) -> Iterator[str]:
        thousands = (self.memory[-1][0] - self.memory[0][0]) / 1000
        for what, points, most, most_per_1000 in (
            ("KiB of memory", self.memory, MOST_GROWN_KIB, MOST_KIB_PER_1000),
            ("objects", self.objects, MOST_OBJECTS, MOST_OBJECTS_PER_1000),
        ):
            grown = 1000 * slope(points) * thousands
            if grown > max(most, most_per_1000 * thousands):
                yield f"not flat: {grown:.0f} {what} more within {thousands:.1f} thousand requests"


def soak(seconds: float, seed: int, certificates: Certificates) -> list[str]:
    """Runs for `seconds`, prints lines, and returns the failures."""
    ca, valid = str(certificates.ca), certificates.valid
    with faults.running(seed, valid.chain, valid.key) as server:
        server.heal()
        with HTTPClient("127.0.0.1", server.ports["direct"]) as client:  # creates the objects that stay with the hub
            client.get(str(Target("marked", 1))).read()
        before = descriptors()
        server.rage()

        every_number = numbers()
        users = Users(server.ports, ca, every_number)
        askers = [asker(name, server.ports, ca, Report(), every_number) for name in KINDS]
        reports = [users.report, *(one.report for one in askers)]
        gauge = Gauge(seconds, lambda: sum((report.outcomes for report in reports), Counter()))
        end = gauge.started + seconds

        def work(once: Callable[[random.Random], None], name: str) -> None:
            rng = random.Random(f"{seed}/{name}")
            while clock() < end:
                once(rng)

        def use(user: Callable[[random.Random], str]) -> Callable[[random.Random], None]:
            return lambda rng: users.once(user, rng)

        working = [gevent.spawn(work, one.once, f"{one.name}/{n}") for one in askers for n in range(WORKERS)]
        # Each of them sends many requests: one greenlet per user is enough.
        working += [gevent.spawn(work, use(user), user.__name__) for user in users.all()]
        every = min(10, seconds / 5)
        next_line = gauge.started + every
        while clock() < end:
            gevent.sleep(seconds / SAMPLES)
            gauge.look()
            if clock() >= next_line:
                print(gauge.line(), flush=True)
                next_line += every
        gevent.joinall(working, timeout=2 * HANG_SECONDS)
        wrong = [repr(one) for one in working if not one.successful()]
        wrong += [text for report in reports for text in report.wrong]

        server.heal()
        for one in (*askers, users):
            one.close()
        gc.collect()
        turn()
        for name, seen in server.counts().items():
            allowed = {"damaged body"} if name == "garbled" else set()
            wrong += [f"the server at {name} saw: {what}" for what in seen["violations"].keys() - allowed]
        wrong += gauge.complaints()
        if _core._runtime_statistics() != (0, 0):
            wrong.append(f"greenlets wait still: {_core._runtime_statistics()}")
        wrong += [f"left open: {what}" for number, what in descriptors().items() if number not in before]
    return wrong


def main(seconds: str = "60") -> int:
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(10**9)))
    print(f"SOAK_SEED={seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        wrong = soak(float(seconds), seed, Certificates(Path(directory)))
    for text in wrong:
        print(text)
    print("not flat, or not right" if wrong else "flat")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
