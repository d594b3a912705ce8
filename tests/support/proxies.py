"""Real proxies on loopback ports: tinyproxy (HTTP), microsocks (SOCKS 5), dante (SOCKS 4 without 4a, SOCKS 5); and a
scripted HTTP proxy, which records its requests."""

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

from tests.support.peer import Conn
from tests.support.ports import free_port
from tests.support.requirements import missing

# Time that a proxy may take until it listens, in steps of 10 ms.
STEPS = 1000


class RealProxy:
    """A proxy process that runs until `close()`; `output` is its output."""

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


def tinyproxy(directory: Path, *lines: str) -> RealProxy:
    """Starts tinyproxy with these lines added to its configuration."""
    port = free_port()
    usual = ["Listen 127.0.0.1", f"Port {port}", "Timeout 60", "MaxClients 100", "Allow 127.0.0.1"]
    path = directory / "tinyproxy.conf"
    path.write_text("\n".join([*usual, f'PidFile "{directory}/pid"', *lines]) + "\n")
    return RealProxy("tinyproxy", directory, port, ["-d", "-c", str(path)])


def microsocks(directory: Path, user: str | None = None, password: str | None = None) -> RealProxy:
    """Starts microsocks, with authentication if a user and a password are given."""
    port = free_port()
    arguments = ["-i", "127.0.0.1", "-p", str(port)]
    if user is not None and password is not None:
        arguments += ["-u", user, "-P", password]
    return RealProxy("microsocks", directory, port, arguments)


def dante(directory: Path, *, blocked: int) -> RealProxy:
    """Starts dante without authentication; its rules forbid the loopback port `blocked`."""
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
    """Script: opens the connection that CONNECT names and forwards bytes both ways until one end closes."""
    request = conn.read_head()
    if request is None:
        return
    conn.requests.append(request)
    conn.peer.requests.append(request)
    host, _, port = request.target.rpartition(":")
    # The connection is open before the response says so.
    with gevent_socket.create_connection((host.strip("[]"), int(port))) as upstream:
        conn.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        _pass_on_both_ways(conn, upstream)


def pass_on(conn: Conn, address: tuple[str, int]) -> None:
    """Ends a script: forwards bytes to that address and back until one end closes."""
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
