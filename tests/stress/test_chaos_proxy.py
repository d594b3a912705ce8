"""The chaos proxy, on which the stress test relies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer

from tests.server.chaos_proxy import WEIGHTS, ChaosProxy, Plan
from tests.server.tagged import Target, mark, read_mark
from tests.support.hub import until

pytestmark = pytest.mark.usefixtures("bounded")

TEXT = bytes(range(256)) * 400


@contextmanager
def between(*kinds: str, seed: int = 1) -> Iterator[tuple[ChaosProxy, socket.socket]]:
    """A client's socket; what it sends comes back, through the proxy."""

    def echo(sock: socket.socket, _address: object) -> None:
        while data := sock.recv(4096):
            sock.sendall(data)

    server = StreamServer(("127.0.0.1", 0), echo)
    server.start()
    proxy = ChaosProxy(server.server_port, kinds, seed)
    with socket.create_connection(("127.0.0.1", proxy.start())) as client:
        yield proxy, client
    proxy.server.stop()
    server.stop()


def send_and_read(client: socket.socket) -> bytes:
    """Sends data, and returns the data received until the end."""

    def send() -> None:
        with suppress(OSError):  # the read raises the error
            client.sendall(TEXT)
            client.shutdown(socket.SHUT_WR)

    gevent.spawn(send)
    came = b""
    while data := client.recv(4096):
        came += data
    return came


@pytest.mark.parametrize("kind", ["delay", "split"])
def test_chaos_proxy_forwards_all_bytes(kind: str) -> None:
    with between(kind) as (proxy, client):
        assert send_and_read(client) == TEXT
    assert proxy.harms[kind] > 2


def test_chaos_proxy_flips_bits() -> None:
    with between("garble") as (proxy, client):
        came = send_and_read(client)
    flipped = [a ^ b for a, b in zip(came, TEXT, strict=True) if a != b]
    assert 0 < len(flipped) <= proxy.harms["garble"]
    assert len([bits for bits in flipped if bits.bit_count() == 1]) >= len(flipped) - 1  # a byte may be hit twice


def test_chaos_proxy_closes_midway() -> None:
    with between("cut") as (_, client):
        came = send_and_read(client)
    assert TEXT.startswith(came)
    assert len(came) < len(TEXT)


def test_chaos_proxy_resets_midway() -> None:
    with between("reset") as (_, client), pytest.raises(ConnectionResetError):
        send_and_read(client)


def test_chaos_proxy_stalls_until_healed() -> None:
    with between("stall") as (proxy, client):
        reading = gevent.spawn(send_and_read, client)
        until(lambda: proxy.harms["stall"])
        assert not reading.dead
        proxy.heal()
        assert reading.get() == TEXT


def test_chaos_proxy_with_same_seed_does_the_same() -> None:
    def course(seed: str) -> list[tuple[int, str]]:
        plan = Plan(seed, WEIGHTS)
        found = []
        for _ in range(50):
            found.append((plan.left, plan.harm))
            plan.draw()
        return found

    assert course("1/2/back") == course("1/2/back") != course("1/3/back")
    assert {harm for _, harm in course("1/2/back")} >= {"delay", "split", "cut", "reset", "garble"}


def test_tag_belongs_to_one_number() -> None:
    assert read_mark(mark(7, 100)) == 7
    assert read_mark(mark(7, 0)) == 7
    for damaged in (b"", mark(7, 100)[:-1], mark(7, 100) + b" ", mark(7, 100).replace(b"7:", b"8:"), mark(7, 5)[1:]):
        assert read_mark(damaged) is None


def test_damaged_target_is_not_recognised() -> None:
    target = Target("marked", 7, ("chunked", "gzip"), 100)
    assert Target.parse(str(target)) == target
    assert Target.parse(str(target).replace("/7/", "/8/")) is None
    assert Target.parse("/") is None
