"""A proxy for TCP connections that delays, splits, cuts, resets, garbles and stalls the bytes, at any byte.

The number of a connection, the direction and a seed determine the harm before the first byte arrives: the same seed,
with the same bytes, does the same harm.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

# Relative frequency of each fault.
WEIGHTS = {"delay": 30, "split": 20, "cut": 10, "reset": 10, "garble": 10, "stall": 1}

# Maximum number of bytes before the next fault. The number is random, on a logarithmic scale: the first bytes of a
# message are hit as often as all later ones.
MOST_BYTES_BETWEEN = 50_000
LONGEST_DELAY_SECONDS = 0.01
MOST_SINGLE_BYTES = 64
# Longer than the timeout of a client that is to notice the stall.
STALL_SECONDS = 1.0


class Ended(Exception):
    """The connection was reset by the proxy."""


class Plan:
    """The faults of one direction of one connection: `harm` after `left` more bytes, then the next one, and so on."""

    def __init__(self, seed: str, kinds: Iterable[str]) -> None:
        self.random = random.Random(seed)
        self.kinds = sorted(kinds)
        self.weights = [WEIGHTS[kind] for kind in self.kinds]
        self.draw()

    def draw(self) -> None:
        self.left = int(MOST_BYTES_BETWEEN ** self.random.random()) - 1
        self.harm = self.random.choices(self.kinds, self.weights)[0]


class ChaosProxy:
    """Listens on a free port of 127.0.0.1 from `start` on, and passes to the port `upstream` whatever survives."""

    def __init__(self, upstream: int, kinds: Iterable[str] = WEIGHTS, seed: int = 0) -> None:
        self.upstream = upstream
        self.kinds = tuple(kinds)
        self.seed = seed
        self.harms: Counter[str] = Counter()
        self.accepted = 0
        self.healed = Event()
        self.server = StreamServer(("127.0.0.1", 0), self.handle, backlog=4096)

    def start(self) -> int:
        self.server.start()
        return int(self.server.server_port)

    def heal(self) -> None:
        """Stops all faults, also on existing connections."""
        self.healed.set()

    def rage(self) -> None:
        self.healed.clear()

    def handle(self, client: socket.socket, _address: object) -> None:
        self.accepted += 1
        name = f"{self.seed}/{self.accepted}"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.upstream)) as server:
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(self, client, server)
            there = gevent.spawn(link.pump, client, server, Plan(f"{name}/there", self.kinds))
            link.pump(server, client, Plan(f"{name}/back", self.kinds))
            there.join()


class Link:
    """One connection from the client to the proxy, and the one from the proxy to the server."""

    def __init__(self, proxy: ChaosProxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        # Whether the connection was cut: data that still arrives is read, and dropped.
        self.over = False

    def pump(self, source: socket.socket, sink: socket.socket, plan: Plan) -> None:
        try:
            while data := source.recv(64 * 1024):
                self.forward(sink, data, plan)
            sink.shutdown(socket.SHUT_WR)
        except (OSError, Ended):
            # This ends the wait of the other direction.
            self.client.close()
            self.server.close()

    def forward(self, sink: socket.socket, data: bytes, plan: Plan) -> None:
        while not self.over and not self.proxy.healed.is_set() and len(data) > plan.left:
            unharmed, data = data[: plan.left], data[plan.left :]
            if unharmed:
                sink.sendall(unharmed)
            data = self.harm(sink, data, plan)
            plan.draw()
        plan.left -= len(data)
        if data and not self.over:
            sink.sendall(data)

    def harm(self, sink: socket.socket, data: bytes, plan: Plan) -> bytes:
        """Does what is planned for the first of these bytes; returns those that are left."""
        self.proxy.harms[plan.harm] += 1
        match plan.harm:
            case "delay":
                gevent.sleep(plan.random.uniform(0, LONGEST_DELAY_SECONDS))
            case "stall":
                self.proxy.healed.wait(STALL_SECONDS)
            case "split":
                count = plan.random.randint(1, MOST_SINGLE_BYTES)
                for i in range(min(count, len(data))):
                    sink.sendall(data[i : i + 1])
                    gevent.sleep(0)
                return data[count:]
            case "garble":
                flipped = data[0] ^ (1 << plan.random.randrange(8))
                return bytes([flipped]) + data[1:]
            case "cut":
                self.cut()
            case "reset":
                for sock in (self.client, self.server):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise Ended
        return data

    def cut(self) -> None:
        """Sends FIN to both sides. Both are still read, so that no reset overtakes the data sent to them before."""
        self.over = True
        self.server.shutdown(socket.SHUT_WR)
        self.client.shutdown(socket.SHUT_WR)
