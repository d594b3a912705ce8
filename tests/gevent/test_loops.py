"""The self-check on each of gevent's loops and resolvers, with and without monkey patching: a table of outcomes."""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from gevent.event import Event

from tests.programs import self_check as selfcheck
from tests.support.hub import Hangs, Program, turn
from tests.support.peer import Conn, Peer
from tests.support.requirements import missing


@dataclass(frozen=True)
class Setup:
    """The configuration of a self-check's interpreter. The resolver is gevent's default unless given."""

    loop: str
    patched: bool = False
    resolver: str = "thread"

    def __str__(self) -> str:
        return f"{self.loop}-{self.resolver}{'-patched' if self.patched else ''}"


SETUPS = [
    Setup("libev-cext"),
    Setup("libev-cext", patched=True),
    Setup("libuv-cffi"),
    Setup("libuv-cffi", patched=True),
    Setup("libev-cext", resolver="block"),
    Setup("libev-cext", resolver="ares"),
    Setup("libev-cext", resolver="dnspython", patched=True),
]

NAMES = [function.__name__ for function in selfcheck.CHECKS]


class Server:
    """The server for the self-check's requests."""

    def __init__(self) -> None:
        self.together = 0
        self.all_there = Event()

    def __call__(self, conn: Conn) -> None:
        while request := conn.read_request():
            path, _, number = request.target.rpartition("/")
            if request.target == "/held":
                conn.wait_closed(60)
                return
            if request.target == "/held-body":
                conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                conn.wait_closed(60)
                return
            if request.target == "/until-close":
                conn.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"z" * 100_000)
                return
            if request.target == "/late":
                turn(100)
            if request.target == "/length":
                conn.respond(str(len(request.body)).encode())
            elif request.target == "/which-connection":
                conn.respond(str(conn.number).encode())
            elif path == "/together":
                self.together += 1
                if self.together % int(number) == 0:
                    self.all_there.set()
                self.all_there.wait()
                conn.respond(b"all here")
            elif path == "/lines":
                conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for start in range(0, int(number), 100):
                    chunk = b"".join(b"line %d\r\n" % n for n in range(start, start + 100))
                    conn.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                conn.send(b"0\r\n\r\n")
            elif path == "/bytes":
                conn.respond(b"b" * int(number))
            else:
                conn.respond(request.target.encode("latin-1"))


@functools.cache
def outcomes(setup: Setup) -> dict[str, str | None]:
    """Returns the error of each check, or None; checks that were not reached are missing."""
    script = Path(__file__).parents[1] / "programs" / "self_check.py"
    environment = {"GEVENT_LOOP": setup.loop, "GEVENT_RESOLVER": setup.resolver, "PYTHONWARNINGS": "ignore"}
    with Peer(Server()) as peer:
        arguments = [str(peer.port), *(["patched"] if setup.patched else [])]
        program = Program([sys.executable, "-X", "faulthandler", str(script), *arguments], environment)
        try:
            outcome = program.end(30)
        except Hangs as e:
            outcome = e.outcome
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    table: dict[str, str | None] = {line["check"]: line["wrong"] for line in lines}
    if outcome.code != 0:
        table["the end"] = f"exit code {outcome.code}\n{outcome.err}"
    for word in ("Fatal Python error", "panicked", "PanicException"):
        if word in outcome.err:
            table["the end"] = outcome.err
    return table


def installed(setup: Setup) -> None:
    if setup.loop == "libuv-cffi" and importlib.util.find_spec("_cffi_backend") is None:
        missing("cffi, which gevent's libuv loop is made with,")
    for resolver, module in (("ares", "gevent.resolver.cares"), ("dnspython", "dns")):
        if setup.resolver == resolver and importlib.util.find_spec(module) is None:
            pytest.skip(f"{resolver} is not installed")


@pytest.mark.parametrize("name", [*NAMES, "the end"])
@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_loop_passes_the_self_check(setup: Setup, name: str) -> None:
    installed(setup)
    table = outcomes(setup)
    if name == "the end":
        assert table.get(name) is None, table[name]
        return
    assert name in table, f"not come to: {table}"
    assert table[name] is None, table[name]
