"""A stress test: greenlets send all kinds of requests and are killed or timed out at random, while the server and the
network fail at random. Every body that is delivered must belong to its request.

`tests.programs.stress` and `tests.programs.soak` use it. The results are in a `Report`.
"""

from __future__ import annotations

import ctypes
import gc
import gzip
import http.client
import itertools
import random
import resource
import ssl
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Group

from geventhttpclient import HTTPClient, UserAgent, useragent
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.httplib import HTTPConnection
from tests.server.origin import RAW
from tests.server.tagged import Target, mark, read_mark

# A request that takes longer than this, despite its timeouts, hangs.
HANG_SECONDS = 15

NETWORK_SECONDS = 0.4
CONNECTION_SECONDS = 0.6

# The most that a random interruption waits, on a logarithmic scale; one in ten comes before anything has happened.
LONGEST_SECONDS = 0.25

WORKERS = 200
CONCURRENCY = 20

OPTIONS: dict[str, Any] = {
    "concurrency": CONCURRENCY,
    "network_timeout": NETWORK_SECONDS,
    "connection_timeout": CONNECTION_SECONDS,
}

# Weights of the fates of a request. The timeouts are options of the request.
FATES = {
    "none": 67,
    "killed": 8,
    "killed together": 1,
    "thrown": 4,
    "gevent.Timeout": 8,
    "network_timeout": 5,
    "total_timeout": 5,
    "pool_timeout": 2,
}

FRAMINGS = [
    ("counted",),
    ("counted", "gzip"),
    ("counted", "interim"),
    ("chunked",),
    ("chunked", "gzip"),
    ("chunked", "interim", "trailers"),
    ("close",),
]


class Hangs(Exception):
    """A request did not end."""


class Interruption(Exception):
    """Thrown into a greenlet that makes a request."""


@dataclass
class Report:
    """Outcomes of the requests of a stress test."""

    outcomes: Counter[str] = field(default_factory=Counter)
    # Descriptions of events that must never happen.
    wrong: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.outcomes["WRONG"] += 1
        if len(self.wrong) < 20:
            self.wrong.append(text)


@dataclass(frozen=True)
class Kind:
    """A way to make requests, and the outcomes that are allowed."""

    port: str
    failures: tuple[type[BaseException], ...] = (OSError, HTTPParseError)
    # Whether bodies without a length of their own may be cut, and whether any may be garbled, unnoticed.
    may_cut: bool = False
    may_garble: bool = False
    tls: str = ""
    workers: int = WORKERS
    raw: bool = False


CODING = (OSError, HTTPParseError, zlib.error)
OF_AGENT = (*CODING, useragent.ConnectionError)
OF_HTTP_CLIENT = (*CODING, http.client.HTTPException)

KINDS = {
    "direct": Kind("direct", raw=True),
    "plain": Kind("plain", may_cut=True),
    "garbled": Kind("garbled", may_cut=True, may_garble=True),
    "native": Kind("tls", tls="native"),
    "context": Kind("tls", tls="context"),
    "agent": Kind("plain", OF_AGENT, may_cut=True, workers=60),
    "httplib": Kind("plain", OF_HTTP_CLIENT, may_cut=True, workers=20),
}

# Weights of the kinds of requests.
SHARES = {"direct": 14, "plain": 14, "garbled": 7, "native": 5, "context": 4, "agent": 4, "httplib": 3}


def numbers() -> Iterator[int]:
    """Returns the numbers of requests: none is the one that no request has."""
    return itertools.count(1)


class Asker:
    """Client that makes requests of one kind and checks the responses. `numbers` may be shared."""

    def __init__(self, name: str, ports: dict[str, int], ca: str, report: Report, numbers: Iterator[int]) -> None:
        self.name = name
        self.kind = KINDS[name]
        self.report = report
        self.numbers = numbers
        self.port = ports[self.kind.port]
        self.ca = ca
        self.client = self.make_client()
        self.agent = UserAgent(max_retries=1, **OPTIONS)

    def make_client(self, **more: Any) -> HTTPClient:
        options: dict[str, Any] = {**OPTIONS, **more}
        if self.kind.tls:
            options.update(ssl=True, ssl_options={"ca_certs": self.ca})
        if self.kind.tls == "context":
            options["ssl_context_factory"] = ssl.create_default_context
        return HTTPClient("127.0.0.1", self.port, **options)

    def close(self) -> None:
        self.settle()
        self.client.close()
        self.agent.close()

    # ------------------------------------------------------------------------------------------------------ one request

    def draw(self, rng: random.Random) -> Target:
        number = next(self.numbers)
        if self.kind.raw and rng.random() < 0.3:
            # Silence takes a whole timeout to notice.
            name = rng.choice([name for name in RAW if "silence" not in name or rng.random() < 0.1])
            return Target("raw", number, (name,))
        size = int(10 ** rng.uniform(0, 3.3)) if rng.random() < 0.97 else rng.randint(10_000, 300_000)
        return Target("marked", number, rng.choice(FRAMINGS), size)

    def ask(self, target: Target, rng: random.Random, **timeouts: float) -> str:
        """Makes one request, of one of many shapes. Returns the outcome, one word; raises the request's exception."""
        if self.name == "agent":
            return self.ask_agent(target, rng)
        method = "GET" if target.kind == "raw" else rng.choices(["GET", "HEAD", "PUT", "POST"], [12, 1, 2, 2])[0]
        body = b"" if method in ("GET", "HEAD") else self.upload(target, rng)
        headers = {"Expect": "100-continue"} if body and rng.random() < 0.1 else None
        response = self.client.request(method, str(target), body, headers, **timeouts)
        if method == "HEAD":
            return "head"
        data = self.read(response, rng)
        if data is None:
            return "left unread"
        outcome = self.check(target, response.get("content-encoding"), data)
        if outcome == "whole" and "trailers" in target.words and not self.kind.may_garble:
            self.check_trailers(target, list(response.trailers.items()))
        return outcome

    @staticmethod
    def upload(target: Target, rng: random.Random) -> Any:
        body = mark(target.number, rng.choice([10, 1000, 100_000]))
        if rng.random() < 0.5:
            return body

        def pieces() -> Iterator[bytes]:
            step = max(1, len(body) // 5)
            for start in range(0, len(body), step):
                yield body[start : start + step]
                if rng.random() < 0.3:
                    gevent.sleep(0)

        return pieces()

    @staticmethod
    def read(response: Any, rng: random.Random) -> bytes | None:
        """Reads the whole body in one of many ways. Returns None if it gave up the response before the end."""
        match rng.randrange(12):
            case 0:
                pieces = []
                while piece := response.read(rng.choice([1, 100, 4096])):
                    pieces.append(piece)
                return b"".join(pieces)
            case 1:
                pieces = []
                while piece := response.readline():
                    pieces.append(piece)
                return b"".join(pieces)
            case 2:
                return b"".join(response)
            case 3:
                response.read(rng.choice([0, 1, 100]))
                response.release()
                return None
            case 4:
                return None
            case _:
                return bytes(response.read())

    def ask_agent(self, target: Target, rng: random.Random) -> str:
        url = f"http://127.0.0.1:{self.port}{target}"
        if rng.random() < 0.2:
            response = self.agent.urlopen(url, "POST", payload=mark(target.number, 100))
        else:
            response = self.agent.urlopen(url)
        return self.check(target, None, response.content)

    def check(self, target: Target, coding: str | None, data: bytes) -> str:
        if target.kind == "raw" and not RAW[target.words[0]].whole:
            if data or target.words[0] != "surplus204":
                self.report.note(f"{target}: delivered {data[:100]!r}")
            return "raw"
        garbled = False
        if coding == "gzip":
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, zlib.error):
                garbled = True
        number = None if garbled else read_mark(data)
        if number == target.number:
            return "whole"
        if number is None and self.kind.may_garble:
            return "garbled"
        if number is None and self.kind.may_cut and "close" in target.words:
            return "cut"
        self.report.note(f"{target}: got {number}, {data[:100]!r}")
        return "WRONG"

    def check_trailers(self, target: Target, trailers: list[tuple[str, str]]) -> None:
        if trailers != [("Number", str(target.number))]:
            self.report.note(f"{target}: trailers are {trailers}")

    # ------------------------------------------------------------------------------------------------- and interrupted

    def once(self, rng: random.Random) -> None:
        """Draws a request and its fate, and checks that the outcome is one that is allowed."""
        target = self.draw(rng)
        soon = 0.0 if rng.random() < 0.1 else LONGEST_SECONDS * 1000 ** -rng.random()
        fate = rng.choices(list(FATES), list(FATES.values()))[0]
        self.judge(target, f"{fate} after {soon}", lambda: self.suffer(fate, soon, target, rng))

    def judge(self, target: Target, fate: str, act: Callable[[], str]) -> None:
        try:
            with gevent.Timeout(HANG_SECONDS, Hangs(str(target))):
                self.report.outcomes[act()] += 1
        except Hangs as e:
            self.report.note(f"hangs: {e}, {fate}")
        except self.kind.failures as e:
            self.report.outcomes[type(e).__name__] += 1
            self.check_error(e)
        except Exception as e:
            self.report.note(f"{target}: {fate}: {e!r}")

    def check_error(self, error: BaseException) -> None:
        """Checks that an error names the step of the request; http.client and the agent have their own errors."""
        if self.name not in ("agent", "httplib") and not {"phase", "peer", "elapsed"} <= set(dir(error)):
            self.report.note(f"says too little: {error!r}")

    def suffer(self, fate: str, soon: float, target: Target, rng: random.Random) -> str:
        match fate:
            case "killed" | "thrown" | "killed together":
                return self.kill(fate, soon, target, rng)
            case "gevent.Timeout":
                timeout = gevent.Timeout.start_new(soon)
                try:
                    return self.ask(target, rng)
                except gevent.Timeout as e:
                    if e is not timeout:
                        raise
                    return fate
                finally:
                    timeout.close()
            case "network_timeout" | "total_timeout" | "pool_timeout":
                return self.ask(target, rng, **{fate: soon})
            case _:
                return self.ask(target, rng)

    def kill(self, fate: str, soon: float, target: Target, rng: random.Random) -> str:
        error = Interruption() if fate == "thrown" else gevent.GreenletExit()
        more: list[Target] = []
        victims = [Victim(partial(self.ask, target, rng))]
        if fate == "killed together":
            # Among them a request that gets the slot of another at the moment at which it is killed itself.
            more = [self.draw(rng) for _ in range(rng.randrange(2 * CONCURRENCY))]
            victims += [Victim(partial(self.ask, one, rng)) for one in more]
        for victim in victims:
            victim.begun.wait()  # gevent reports an earlier exception on stderr
        victims[0].greenlet.join(soon)
        gevent.killall([victim.greenlet for victim in victims], error)
        first, *others = [partial(victim.outcome, error, fate) for victim in victims]
        for one, act in zip(more, others, strict=True):
            self.judge(one, fate, act)
        return first()

    # ------------------------------------------------------------------------------------------------------- afterwards

    def settle(self) -> None:
        """Called when no request is in flight."""

    def statistics(self) -> dict[str, int]:
        client = self.client
        if self.name == "agent":
            client = self.agent.clientpool.get_client(f"http://127.0.0.1:{self.port}")
        return dict(client._connection_pool.statistics())

    def wave(self, name: str) -> list[str]:
        """Sends one request for each pool slot. The server answers only when all of them are in flight."""
        results: list[str] = []

        def work(target: Target) -> None:
            try:
                with gevent.Timeout(HANG_SECONDS, Hangs(str(target))):
                    results.append(self.check(target, None, self.stand_at_gate(target)))
            except Exception as e:
                results.append(repr(e))

        group = Group()
        for _ in range(CONCURRENCY):
            group.spawn(work, Target("gate", next(self.numbers), (name,), CONCURRENCY))
        group.join(raise_error=True)
        return results

    def stand_at_gate(self, target: Target) -> bytes:
        if self.name == "agent":
            return bytes(self.agent.urlopen(f"http://127.0.0.1:{self.port}{target}").content)
        return self.client.get(str(target), network_timeout=HANG_SECONDS).read()


class Victim:
    """A greenlet that makes a request, and will be killed."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self.ask = ask
        self.begun = Event()
        self.result: str | BaseException = ""
        self.greenlet = gevent.spawn(self.work)

    def work(self) -> None:
        self.begun.set()
        try:
            self.result = self.ask()
        except BaseException as e:
            self.result = e

    def outcome(self, error: BaseException, fate: str) -> str:
        """Returns `fate` if `error` has reached it; otherwise the outcome that the request had before."""
        if self.result is error:
            return fate
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


class Connections(Asker):
    """The same with http.client's interface: connections are reused until they fail, each by one greenlet at once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.idle: list[HTTPConnection] = []

    def ask(self, target: Target, rng: random.Random, **timeouts: float) -> str:
        connection = self.idle.pop() if self.idle else HTTPConnection("127.0.0.1", self.port, timeout=NETWORK_SECONDS)
        try:
            if rng.random() < 0.2:
                connection.request("POST", str(target), mark(target.number, 100))
            else:
                connection.request("GET", str(target))
            response = connection.getresponse()
            outcome = self.check(target, response.getheader("content-encoding"), response.read())
        except BaseException:
            connection.close()
            raise
        self.idle.append(connection)
        return outcome

    def settle(self) -> None:
        while self.idle:
            self.idle.pop().close()

    def stand_at_gate(self, target: Target) -> bytes:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)) as connection:
            connection.request("GET", str(target))
            return connection.getresponse().read()


def asker(name: str, *arguments: Any) -> Asker:
    return (Connections if name == "httplib" else Asker)(name, *arguments)


def rage(asker: Asker, count: int, seed: str) -> None:
    """Makes `count` requests, or a few more, with all the greenlets of the kind."""
    goal = asker.report.outcomes.total() + count

    def work(number: int) -> None:
        rng = random.Random(f"{seed}/{asker.name}/{number}")
        while asker.report.outcomes.total() < goal:
            asker.once(rng)

    group = Group()
    for number in range(asker.kind.workers):
        group.spawn(work, number)
    group.join(raise_error=True)
    asker.settle()


# ------------------------------------------------------------------------------------------------------------- measures


def resident_kib() -> int:
    """Resident memory, without what the C library keeps for the next time, where it can be made to give it back."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() // 1024


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def slope(points: list[tuple[float, float]]) -> float:
    """Returns the slope of the straight line nearest to the points (least squares)."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def clock() -> float:
    return time.monotonic()
