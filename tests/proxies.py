"""Real proxies, each on a loopback port of its own: tinyproxy (HTTP), microsocks (SOCKS 5), dante (SOCKS 4 without its
extension 4a, and 5). And a scripted HTTP proxy, which keeps what it was asked."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import gevent
from gevent import socket as gevent_socket

from tests.conftest import missing
from tests.peer import Conn

# How long a proxy may take to listen, in steps of 10 ms.
STEPS = 1000


class RealProxy:
    """A proxy that runs until `close()`; `output` is what it has written."""

    def __init__(self, program: str, directory: Path, port: int, arguments: Sequence[str]) -> None:
        self.port = port
        self.place = f"127.0.0.1:{port}"
        self._output = directory / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen([find(program), *arguments], stdout=output, stderr=output)
        for _ in range(STEPS):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except ConnectionRefusedError:
                pass
            try:
                self.process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"{program} ended at once: {self.output}")
        self.close()
        raise RuntimeError(f"{program} does not listen: {self.output}")

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def find(program: str) -> str:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin") or missing(program)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tinyproxy(directory: Path, *lines: str) -> RealProxy:
    """With these lines in its configuration beside the usual ones."""
    port = free_port()
    usual = ["Listen 127.0.0.1", f"Port {port}", "Timeout 60", "MaxClients 100", "Allow 127.0.0.1"]
    path = directory / "tinyproxy.conf"
    path.write_text("\n".join([*usual, f'PidFile "{directory}/pid"', *lines]) + "\n")
    return RealProxy("tinyproxy", directory, port, ["-d", "-c", str(path)])


def microsocks(directory: Path, user: str | None = None, password: str | None = None) -> RealProxy:
    """With that user and password, or for everybody."""
    port = free_port()
    arguments = ["-i", "127.0.0.1", "-p", str(port)]
    if user is not None and password is not None:
        arguments += ["-u", user, "-P", password]
    return RealProxy("microsocks", directory, port, arguments)


def dante(directory: Path, *, blocked: int) -> RealProxy:
    """For everybody, with the port `blocked` of the loopback interface forbidden by its rules."""
    port = free_port()
    path = directory / "danted.conf"
    path.write_text(
        f"""
logoutput: stderr
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
user.notprivileged: {pwd.getpwuid(os.geteuid()).pw_name}
client pass {{ from: 127.0.0.0/8 to: 127.0.0.0/8 }}
socks block {{ from: 0.0.0.0/0 to: 127.0.0.0/8 port = {blocked} }}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
"""
    )
    return RealProxy("danted", directory, port, ["-f", str(path), "-p", str(directory / "pid")])


def tunnelling(conn: Conn) -> None:
    """A script: makes the connection that CONNECT asks for, and passes bytes on both ways until either end closes."""
    request = conn.read_head()
    if request is None:
        return
    conn.requests.append(request)
    conn.peer.requests.append(request)
    host, _, port = request.target.rpartition(":")
    # Connected before it is said to be.
    with gevent_socket.create_connection((host.strip("[]"), int(port))) as upstream:
        conn.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        _pass_on_both_ways(conn, upstream)


def pass_on(conn: Conn, address: tuple[str, int]) -> None:
    """The rest of a script: passes bytes on to that address, and back, until either end closes."""
    with gevent_socket.create_connection(address) as upstream:
        _pass_on_both_ways(conn, upstream)


def _pass_on_both_ways(conn: Conn, upstream: gevent_socket.socket) -> None:
    both = [gevent.spawn(_pass_on, conn.sock, upstream), gevent.spawn(_pass_on, upstream, conn.sock)]
    try:
        gevent.joinall(both, count=1)
    finally:
        gevent.killall(both)


def _pass_on(source: gevent_socket.socket, sink: gevent_socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
