"""The fault server: several origins behind proxies that inject different kinds of faults, in one process.

    python -m tests.server.faults SEED [CHAIN KEY]

It prints one line of JSON, the ports by name, and ends when its standard input is closed:

    direct         no proxy
    plain          through the proxy, with all faults but garbling
    garbled        bits are flipped, too
    direct_tls     TLS, where a certificate and its key are given, and no proxy
    tls            TLS, through the proxy

Each line of its standard input is a command, answered by a line of JSON: `heal` stops all faults, `rage` starts them
again, and `counts` returns the events so far.
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

from tests.server.chaos_proxy import WEIGHTS, ChaosProxy
from tests.server.origin import Origin

ROOT = Path(__file__).parent.parent.parent
ANSWER_SECONDS = 20


@dataclass
class Faults:
    """Handle of the running server: its ports by name, and its commands."""

    ports: dict[str, int]
    process: Any

    def heal(self) -> None:
        """Stops all faults, also on existing connections."""
        self._command("heal")

    def rage(self) -> None:
        """Starts the faults again."""
        self._command("rage")

    def counts(self) -> dict[str, Any]:
        """Returns the counts of each origin and the faults of its proxy, by the names of the ports."""
        return self._command("counts")

    def _command(self, word: str) -> dict[str, Any]:
        with gevent.Timeout(ANSWER_SECONDS):
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]


@contextmanager
def running(seed: int, *pair: object) -> Iterator[Faults]:
    """Runs the server in a separate process; `pair` are the files of a certificate and its key."""
    command = [sys.executable, "-m", "tests.server.faults", str(seed), *map(str, pair)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            with gevent.Timeout(ANSWER_SECONDS):
                ports = json.loads(process.stdout.readline())
            yield Faults(ports, process)
        finally:
            process.kill()  # connections may still be open


class Server:
    def __init__(self, seed: int, tls: ssl.SSLContext | None) -> None:
        self.origins: dict[str, Origin] = {}
        self.proxies: dict[str, ChaosProxy] = {}
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
            proxy = self.proxies[name] = ChaosProxy(self.ports[name], kinds, seed)
            self.ports[name] = proxy.start()

    def obey(self, word: str) -> dict[str, Any]:
        match word:
            case "heal":
                for proxy in self.proxies.values():
                    proxy.heal()
            case "rage":
                for proxy in self.proxies.values():
                    proxy.rage()
            case "counts":
                return {name: self.count(name) for name in self.origins}
        return {}

    def count(self, name: str) -> dict[str, Any]:
        origin, proxy = self.origins[name], self.proxies.get(name)
        return {
            "answered": origin.answered,
            "accepted": origin.accepted if proxy is None else proxy.accepted,
            "violations": dict(origin.violations),
            "harm": {} if proxy is None else dict(proxy.harms),
        }


def main(seed: str, *pair: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the program that started it ends it
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
