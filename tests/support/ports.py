"""Free ports of 127.0.0.1 for servers that cannot choose one themselves, and for addresses where no server listens.

They lie below the ephemeral ports of Linux and macOS, which the kernel gives to any socket, and each worker of
pytest-xdist has its own: no other connection of the test run takes one between the choice and the use.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress

FIRST = 10_000
LAST = 32_767
WORKERS = 32


def _candidates() -> Iterator[int]:
    """Ports of this worker, each once, from a random one on, so that two test runs rarely meet."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    size = (LAST + 1 - FIRST) // WORKERS
    start = random.SystemRandom().randrange(size)
    while True:
        for offset in range(size):
            yield FIRST + worker * size + (start + offset) % size


_PORTS = _candidates()


def free_port() -> int:
    """Returns a port on which nothing listens."""
    for port in _PORTS:
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable: the candidates never end")


def free_ports(count: int) -> list[int]:
    """Returns several different ports on which nothing listens."""
    return [free_port() for _ in range(count)]
