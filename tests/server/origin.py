"""The origin server of the stress test: answers each request with a body that carries its number, in every framing.

    GET  /marked/NUMBER/WORDS/SIZE/SUM   a body of that number; WORDS are its framing (see `Connection.frame`)
    POST, PUT on the same                the same, after the request's body, of the same number, was received
    GET  /raw/NUMBER/NAME/0/SUM          a raw response, byte for byte, from `RAW`
    GET  /gate/NUMBER/NAME/COUNT/SUM     held until COUNT requests of this NAME have arrived, then all are answered

Requests that no correct client sends are counted in `violations`.
"""

from __future__ import annotations

import gzip
import ssl
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from tests.server.tagged import POISON, Target, mark, read_mark

MAX_HEAD = 64 * 1024
MAX_BODY = 4 << 20
GATE_SECONDS = 10
CHUNK = 1024


def counted(body: bytes, *lines: str) -> bytes:
    return head(f"Content-Length: {len(body)}", *lines) + body


def head(*lines: str) -> bytes:
    return "\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode()


POISONED = counted(mark(POISON, 10))


@dataclass(frozen=True)
class Raw:
    """A scripted response. `{good}` in `text` is the body of the number. `ending` is the fate of the connection
    afterwards: `keep`, `close`, `reset`, `silence`. `whole` is True if the client must return the body, False if it has
    to raise an error."""

    text: bytes
    ending: str
    whole: bool


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{good}"

RAW = {
    # A complete response, followed by another one, which the client must not deliver.
    "surplus": Raw(GOOD + POISONED, "keep", True),
    "surplus204": Raw(b"HTTP/1.1 204 No Content\r\n\r\n" + POISONED, "keep", False),
    "surpluschunked": Raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{hex}\r\n{good}\r\n0\r\n\r\n" + POISONED, "keep", True
    ),
    "goodthenreset": Raw(GOOD, "reset", True),
    "goodthenclose": Raw(GOOD, "close", True),
    "interims": Raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 5 + GOOD, "keep", True),
    "twolengths": Raw(GOOD.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"), "keep", False),
    "badlength": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: +{length}\r\n\r\n{good}", "keep", False),
    "bothframings": Raw(GOOD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: identity, chunked\r\n\r\n"), "close", False),
    "badchunk": Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{good}", "keep", False),
    "longchunk": Raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{hex}\r\n{good}more\r\n0\r\n\r\n", "keep", False
    ),
    "nolastchunk": Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{hex}\r\n{good}\r\n", "close", False),
    "short": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{good}", "close", False),
    "shortreset": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{good}", "reset", False),
    "shortsilence": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{good}", "silence", False),
    "halfhead": Raw(b"HTTP/1.1 200 OK\r\nContent-Le", "close", False),
    "halfheadsilence": Raw(b"HTTP/1.1 200 OK\r\nContent-Le", "silence", False),
    "longhead": Raw(b"HTTP/1.1 200 OK\r\n" + b"Filler: " + b"x" * 200_000 + b"\r\n\r\n", "close", False),
    "manyfields": Raw(b"HTTP/1.1 200 OK\r\n" + b"Filler: x\r\n" * 1000 + b"\r\n", "close", False),
    "nothttp": Raw(b"220 smtp.example.org ESMTP\r\n", "keep", False),
    "nothing": Raw(b"", "close", False),
    "silence": Raw(b"", "silence", False),
}


class Damaged(Exception):
    """A request that was not understood: it gets an error status, and its connection is closed."""


class Origin:
    """Server that listens on a free port of 127.0.0.1 after `start`, over TLS if it gets a context."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.answered = 0
        self.accepted = 0
        # Numbers of the received POST requests: none may be received twice.
        self.posted: set[int] = set()
        self.gates: dict[str, list[Event]] = {}
        self.violations: Counter[str] = Counter()
        self.server = StreamServer(("127.0.0.1", 0), self.handle, backlog=4096)

    def start(self) -> int:
        self.server.start()
        return int(self.server.server_port)

    def handle(self, sock: socket.socket, _address: object) -> None:
        self.accepted += 1
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # ssl.SSLError is one, too
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
            with sock:
                Connection(self, sock).serve()

    def wait_at_gate(self, name: str, count: int) -> bool:
        """Waits for the other requests of this gate. Returns True if `count` of them arrived in time."""
        mine = Event()
        waiting = self.gates.setdefault(name, [])
        waiting.append(mine)
        if len(waiting) == count:
            for one in self.gates.pop(name):
                one.set()
        return bool(mine.wait(GATE_SECONDS))


class Connection:
    def __init__(self, origin: Origin, sock: socket.socket) -> None:
        self.origin = origin
        self.sock = sock
        self.buffer = b""

    def serve(self) -> None:
        try:
            while (request := self.read_head()) and self.answer(*request):
                self.origin.answered += 1
        except Damaged:
            self.sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        if self.origin.tls is not None:
            with suppress(ssl.SSLWantReadError):  # the client's close_notify is not awaited
                self.sock._sslobj.shutdown()

    # --------------------------------------------------------------------------------------------------------- answers

    def answer(self, method: str, target: Target, fields: dict[str, str]) -> bool:
        """Answers one request; returns True if the connection can take another one."""
        body = self.read_body(fields)
        if method in ("POST", "PUT"):
            self.check_upload(method, target, body)
        match target.kind:
            case "raw":
                return self.say_raw(target)
            case "gate":
                if not self.origin.wait_at_gate(target.words[0], target.size):
                    raise Damaged
                self.sock.sendall(counted(mark(target.number, 0)))
                return True
            case _:
                self.sock.sendall(self.frame(target, method == "HEAD"))
                return "close" not in target.words

    def check_upload(self, method: str, target: Target, body: bytes) -> None:
        number = read_mark(body)
        if number is None:
            self.origin.violations["damaged body"] += 1
        elif number != target.number:
            self.origin.violations["body of another"] += 1
        if method == "POST":
            if target.number in self.origin.posted:
                self.origin.violations["sent twice"] += 1
            self.origin.posted.add(target.number)

    @staticmethod
    def frame(target: Target, head_only: bool = False) -> bytes:
        """Returns the response in the framing of `words`: `counted`, `chunked` or `close` (the connection's end is that
        of the body), and any of `gzip`, `interim` (with a 1xx response before it) and `trailers`."""
        body = mark(target.number, target.size)
        lines = []
        if "gzip" in target.words:
            body = gzip.compress(body, 1)
            lines.append("Content-Encoding: gzip")
        before = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" if "interim" in target.words else b""
        if "chunked" in target.words:
            if "trailers" in target.words:
                lines.append("Trailer: Number")
            whole = head("Transfer-Encoding: chunked", *lines)
            if head_only:
                return before + whole
            pieces = (body[start : start + CHUNK] for start in range(0, len(body), CHUNK))
            whole += b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n"
            if "trailers" in target.words:
                whole += b"Number: %d\r\n" % target.number
            return before + whole + b"\r\n"
        if "close" in target.words:
            return before + head("Connection: close", *lines) + (b"" if head_only else body)
        return before + head(f"Content-Length: {len(body)}", *lines) + (b"" if head_only else body)

    def say_raw(self, target: Target) -> bool:
        raw = RAW[target.words[0]]
        body = mark(target.number, target.size)
        text = raw.text.replace(b"{length}", b"%d" % len(body)).replace(b"{hex}", b"%x" % len(body))
        self.sock.sendall(text.replace(b"{good}", body))
        match raw.ending:
            case "reset":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.sock.close()
            case "silence":
                while self.sock.recv(4096):
                    pass
        return raw.ending == "keep"

    # -------------------------------------------------------------------------------------------------------- requests

    def read_head(self) -> tuple[str, Target, dict[str, str]] | None:
        """Returns method, target and fields of the next request, None if the client has closed."""
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > MAX_HEAD:
                raise Damaged
            if not self.read_more():
                return None
        text, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        line, *lines = text.decode("latin-1").split("\r\n")
        words = line.split(" ")
        target = Target.parse(words[1]) if len(words) == 3 and words[2] == "HTTP/1.1" else None
        if target is None or words[0] not in ("GET", "HEAD", "POST", "PUT"):
            raise Damaged
        return words[0], target, _fields("\r\n".join(lines))

    def read_body(self, fields: dict[str, str]) -> bytes:
        if fields.get("expect") == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := self.read_number(self.read_line().partition(b";")[0], 16):
                body += self.read_exactly(size)
                if self.read_line():
                    raise Damaged
            while self.read_line():
                pass
            return body
        return self.read_exactly(self.read_number(fields.get("content-length", "0").encode(), 10))

    @staticmethod
    def read_number(digits: bytes, base: int) -> int:
        try:
            number = int(digits, base)
        except ValueError:
            raise Damaged from None
        if not 0 <= number <= MAX_BODY:
            raise Damaged
        return number

    def read_line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > MAX_HEAD:
                raise Damaged
            if not self.read_more():
                raise ConnectionResetError("the client closed within a body")
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def read_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self.read_more():
                raise ConnectionResetError("the client closed within a body")
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return body

    def read_more(self) -> bool:
        data = self.sock.recv(64 * 1024)
        self.buffer += data
        return bool(data)


@lru_cache(256)
def _fields(lines: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines.split("\r\n"))
    return {name.lower(): value.strip() for name, _, value in pairs}
