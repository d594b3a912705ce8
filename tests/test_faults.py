"""The proxy that does harm does what it says; the storm relies on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer

from tests.hubtools import until
from tests.server.marked import Target, mark, read_mark
from tests.server.middle import WEIGHTS, Middle, Plan

pytestmark = pytest.mark.usefixtures("bounded")

TEXT = bytes(range(256)) * 400


@contextmanager
def between(*kinds: str, seed: int = 1) -> Iterator[tuple[Middle, socket.socket]]:
    """A client's socket; what it sends comes back, by way of the middle."""

    def echo(sock: socket.socket, _address: object) -> None:
        while data := sock.recv(4096):
            sock.sendall(data)

    server = StreamServer(("127.0.0.1", 0), echo)
    server.start()
    middle = Middle(server.server_port, kinds, seed)
    with socket.create_connection(("127.0.0.1", middle.start())) as client:
        yield middle, client
    middle.server.stop()
    server.stop()


def send_and_read(client: socket.socket) -> bytes:
    """What comes back, up to the end."""

    def send() -> None:
        with suppress(OSError):  # whoever reads is told
            client.sendall(TEXT)
            client.shutdown(socket.SHUT_WR)

    gevent.spawn(send)
    came = b""
    while data := client.recv(4096):
        came += data
    return came


@pytest.mark.parametrize("kind", ["delay", "split"])
def test_all_of_it_comes(kind: str) -> None:
    with between(kind) as (middle, client):
        assert send_and_read(client) == TEXT
    assert middle.harms[kind] > 2


def test_bits_are_flipped() -> None:
    with between("garble") as (middle, client):
        came = send_and_read(client)
    flipped = [a ^ b for a, b in zip(came, TEXT, strict=True) if a != b]
    assert 0 < len(flipped) <= middle.harms["garble"]
    assert len([bits for bits in flipped if bits.bit_count() == 1]) >= len(flipped) - 1  # a byte may be hit twice


def test_it_ends_in_the_middle() -> None:
    with between("cut") as (_, client):
        came = send_and_read(client)
    assert TEXT.startswith(came)
    assert len(came) < len(TEXT)


def test_it_is_reset_in_the_middle() -> None:
    with between("reset") as (_, client), pytest.raises(ConnectionResetError):
        send_and_read(client)


def test_it_stalls_until_it_is_healed() -> None:
    with between("stall") as (middle, client):
        reading = gevent.spawn(send_and_read, client)
        until(lambda: middle.harms["stall"])
        assert not reading.dead
        middle.heal()
        assert reading.get() == TEXT


def test_the_same_seed_does_the_same() -> None:
    def course(seed: str) -> list[tuple[int, str]]:
        plan = Plan(seed, WEIGHTS)
        found = []
        for _ in range(50):
            found.append((plan.left, plan.harm))
            plan.draw()
        return found

    assert course("1/2/back") == course("1/2/back") != course("1/3/back")
    assert {harm for _, harm in course("1/2/back")} >= {"delay", "split", "cut", "reset", "garble"}


def test_a_mark_is_that_of_its_number_alone() -> None:
    assert read_mark(mark(7, 100)) == 7
    assert read_mark(mark(7, 0)) == 7
    for damaged in (b"", mark(7, 100)[:-1], mark(7, 100) + b" ", mark(7, 100).replace(b"7:", b"8:"), mark(7, 5)[1:]):
        assert read_mark(damaged) is None


def test_a_target_that_was_damaged_is_none() -> None:
    target = Target("marked", 7, ("chunked", "gzip"), 100)
    assert Target.parse(str(target)) == target
    assert Target.parse(str(target).replace("/7/", "/8/")) is None
    assert Target.parse("/") is None
