"""The fault server: origins, each with its own kind of trouble on the way to it, as one process.

    python -m tests.server.faults SEED [CHAIN KEY]

It prints one line of JSON, the ports by name, and ends when its standard input closes:

    direct         nothing in the middle
    plain          everything but garbling happens in the middle
    garbled        bits are flipped, too
    direct_tls     TLS, where a certificate and its key are given, and nothing in the middle
    tls            TLS, and everything in the middle

A word on its standard input is a command, answered by a line of JSON: `heal` and `rage` end and begin all trouble, and
`counts` is what happened so far.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import gevent.ssl
from gevent import subprocess
from gevent.fileobject import FileObject

from tests.server.middle import WEIGHTS, Middle
from tests.server.origin import Origin

ROOT = Path(__file__).parent.parent.parent
ANSWER_SECONDS = 20


@dataclass
class Faults:
    """The running server, as its user sees it: the ports by name, and its commands."""

    ports: dict[str, int]
    process: Any

    def heal(self) -> None:
        """Ends all trouble, on connections that are there already, too."""
        self._command("heal")

    def rage(self) -> None:
        """Begins anew."""
        self._command("rage")

    def counts(self) -> dict[str, Any]:
        """What each origin has seen, and what was done to it, by the names of the ports."""
        return self._command("counts")

    def _command(self, word: str) -> dict[str, Any]:
        with gevent.Timeout(ANSWER_SECONDS):
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]


@contextmanager
def running(seed: int, *pair: object) -> Iterator[Faults]:
    """Runs the server as a process of its own; `pair` are the files of a certificate and its key."""
    command = [sys.executable, "-m", "tests.server.faults", str(seed), *map(str, pair)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            with gevent.Timeout(ANSWER_SECONDS):
                ports = json.loads(process.stdout.readline())
            yield Faults(ports, process)
        finally:
            process.kill()  # connections that are still open are nobody's any more


class Server:
    def __init__(self, seed: int, tls: ssl.SSLContext | None) -> None:
        self.origins: dict[str, Origin] = {}
        self.middles: dict[str, Middle] = {}
        self.ports: dict[str, int] = {}
        without_garbling = WEIGHTS.keys() - {"garble"}
        self.open("direct", None, None, seed)
        self.open("plain", None, without_garbling, seed + 1)
        self.open("garbled", None, WEIGHTS, seed + 2)
        if tls is not None:
            self.open("direct_tls", tls, None, seed)
            self.open("tls", tls, WEIGHTS, seed + 3)

    def open(self, name: str, tls: ssl.SSLContext | None, kinds: Any, seed: int) -> None:
        origin = self.origins[name] = Origin(tls)
        self.ports[name] = origin.start()
        if kinds is not None:
            middle = self.middles[name] = Middle(self.ports[name], kinds, seed)
            self.ports[name] = middle.start()

    def obey(self, word: str) -> dict[str, Any]:
        match word:
            case "heal":
                for middle in self.middles.values():
                    middle.heal()
            case "rage":
                for middle in self.middles.values():
                    middle.rage()
            case "counts":
                return {name: self.count(name) for name in self.origins}
        return {}

    def count(self, name: str) -> dict[str, Any]:
        origin, middle = self.origins[name], self.middles.get(name)
        return {
            "answered": origin.answered,
            "accepted": origin.accepted if middle is None else middle.accepted,
            "violations": dict(origin.violations),
            "harm": {} if middle is None else dict(middle.harms),
        }


def main(seed: str, *pair: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program that started it ends it
    tls = None
    if pair:
        tls = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*pair)
    server = Server(int(seed), tls)
    print(json.dumps(server.ports), flush=True)
    for line in FileObject(sys.stdin.fileno(), "r", closefd=False):
        print(json.dumps(server.obey(line.strip())), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
