"""OpenSSL's `s_server`: a TLS server that can be made to do what no web server does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
from gevent import subprocess

from tests.certificates import Pair
from tests.conftest import missing


class SServer:
    """A running s_server on a port that the kernel picked. It serves one connection at a time.

    Without `-www` and its like, what a client sends comes out of `read_until`, and `say` is sent to it.
    """

    def __init__(self, pair: Pair, *options: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            missing("openssl")
        command = [program, "s_server", "-accept", "127.0.0.1:0", "-cert", str(pair.chain), "-key", str(pair.key)]
        self.process = subprocess.Popen(
            [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.port = int(self.read_until(b"ACCEPT 127.0.0.1:", b"\n").partition(b"ACCEPT 127.0.0.1:")[2])

    def read_until(self, *marks: bytes) -> bytes:
        """What it prints, up to and with the last of `marks`, which come one after the other."""
        said = b""
        with gevent.Timeout(10):
            for mark in marks:
                start = len(said)
                while mark not in said[start:]:
                    byte = self.process.stdout.read(1)
                    assert byte, f"s_server ended: {said.decode('latin-1')}"
                    said += byte
        return said

    def say(self, data: bytes) -> None:
        """To the client; or a command to s_server, if it is a line that begins with one of its letters."""
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def s_server(pair: Pair, *options: str) -> Iterator[SServer]:
    """A server that shows `pair`, with more of s_server's own options."""
    server = SServer(pair, *options)
    try:
        yield server
    finally:
        server.stop()
