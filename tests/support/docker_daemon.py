"""A stub of a Docker daemon on a Unix socket, for the requests of docker-py that stream, attach or wait."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gevent
import gevent.event
from gevent import socket
from gevent.server import StreamServer

from tests.support.peer import Conn, Request

STDOUT, STDERR = 1, 2

EVENTS = [{"Type": "container", "Action": action} for action in ("create", "start", "die")]
PROGRESS = [{"status": "Pulling", "id": str(number)} for number in range(5)]
# Seconds of silence of the daemon: longer than the timeout of the client.
SILENCE = 0.3
TIMEOUT = 0.2

UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n"
    b"Upgrade: tcp\r\n\r\n"
)
HIJACKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Daemon:
    """Listens in a directory from `with` on. `asked` lists method and path of each request."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "docker.sock"
        self.asked: list[str] = []
        self.requests: list[Request] = []
        self.seen = gevent.event.Event()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen()
        self.server = StreamServer(listener, self._serve)

    def __enter__(self) -> Daemon:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(timeout=1)

    def _serve(self, sock: Any, _address: Any) -> None:
        conn = Conn(sock, self, len(self.asked))  # type: ignore[arg-type]  # it notes requests, as a peer does
        try:
            while (request := conn.read_request()) is not None:
                path = request.target.partition("?")[0]
                path = path[path.index("/", 1) :] if path.startswith("/v1.") else path
                self.asked.append(f"{request.method} {path}")
                if not self._answer(conn, request, path):
                    return
        except OSError:
            pass
        finally:
            sock.close()

    def _answer(self, conn: Conn, request: Request, path: str) -> bool:
        """Returns True if the connection stays open."""
        if path == "/events":
            self._stream(conn, [json.dumps(event).encode() + b"\n" for event in EVENTS], wait_after_first=True)
        elif path == "/images/create":
            self._stream(conn, [json.dumps(step).encode() + b"\r\n" for step in PROGRESS])
        elif path.endswith("/logs"):
            self._logs(conn, is_tty="tty" in path, silence=SILENCE if "follow=1" in request.target else 0)
        elif path.endswith(("/attach", "/start")):
            return self._attach(conn, request, is_tty="tty" in path)
        elif path == "/seen":
            self.seen.set()
            conn.respond(b"{}", headers=[("Content-Type", "application/json")])
        elif path.endswith("/json"):
            self._respond(conn, {"Id": path, "Config": {"Tty": "tty" in path}})
        elif path.endswith("/exec"):
            self._respond(conn, {"Id": "e1"})
        elif path == "/version":
            self._respond(conn, {"Version": "27.3.1", "ApiVersion": "1.44"})
        else:
            conn.respond(b'{"message": "no such path"}', "404 Not Found", [("Content-Type", "application/json")])
        return True

    def _respond(self, conn: Conn, value: Any) -> None:
        conn.respond(json.dumps(value).encode(), headers=[("Content-Type", "application/json")])

    def _stream(self, conn: Conn, pieces: list[bytes], wait_after_first: bool = False) -> None:
        conn.send(CHUNKED)
        for number, piece in enumerate(pieces):
            conn.send(chunk(piece))
            gevent.idle()
            if wait_after_first and number == 0:
                assert self.seen.wait(30), "the first event has not been handed out"
        conn.send(b"0\r\n\r\n")

    def _logs(self, conn: Conn, is_tty: bool, silence: float) -> None:
        conn.send(CHUNKED)
        lines = [b"one\n", b"two\n"] if is_tty else [frame(STDOUT, b"one\n"), frame(STDERR, b"two\n")]
        for line in lines:
            conn.send(chunk(line))
            gevent.sleep(silence)
        conn.send(b"0\r\n\r\n")

    def _attach(self, conn: Conn, request: Request, is_tty: bool) -> bool:
        """Sends two frames, then each line received in upper case, until `bye`."""
        conn.send(UPGRADED if request.get("upgrade") else HIJACKED)
        for stream, data in ((STDOUT, b"out"), (STDERR, b"err")):
            gevent.sleep(SILENCE)
            conn.send(data if is_tty else frame(stream, data))
        if "stdin=1" in request.target:
            while (line := conn.read_line()) not in (b"bye\n", b""):
                conn.send(line.upper() if is_tty else frame(STDOUT, line.upper()))
        return False
