"""OpenSSL's `s_server`: a TLS server with behaviour that web servers do not have."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
from gevent import subprocess

from tests.support.certificates import Pair
from tests.support.requirements import missing


class SServer:
    """A running s_server on a port that the kernel picked. It serves one connection at a time.

    Without `-www` and similar options, `read_until` returns data of the client, and `say` sends data to it.
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
        """Returns its output, up to and with the last of `marks`, which must appear in this order."""
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
        """Sends text to the client; or a command to s_server, if it is a line that begins with one of its letters."""
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def s_server(pair: Pair, *options: str) -> Iterator[SServer]:
    """Starts a server with the certificate `pair` and further options of s_server."""
    server = SServer(pair, *options)
    try:
        yield server
    finally:
        server.stop()
