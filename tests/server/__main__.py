"""A small, fast, conforming HTTP/1.1 server for the demo, the examples and the tests.

    python -m tests.server [PORT]

It listens on 127.0.0.1, on a free port unless one is given, prints the port as its first line, and ends when its
standard input is closed, so that it never outlives the program that started it. It serves

    GET  /page                            a page of 615 bytes
    GET  /bytes/N                         the N bytes of `pattern(N)`, with Content-Length
    GET  /chunked/N                       the same N bytes in chunks
    GET  /stream?every=SECONDS            endless JSON, one object per line
    GET  /events?every=SECONDS            endless server-sent events, after the one in Last-Event-ID
    GET  /me/friends?access_token=TOKEN   a page of friends, and the URL of the next page
    GET  /ID?access_token=TOKEN           one friend
    GET  /connections                     the number of accepted connections, including this one
    POST /echo                            the request's body (at most MAX_ECHO bytes)

to any number of concurrent connections, in constant memory. HEAD is supported wherever GET is.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import gevent
from gevent import socket
from gevent.server import StreamServer
from gevent.socket import wait_read

TOKEN = "open-sesame"
FRIENDS = [{"id": str(i), "name": f"Friend {i}", "likes": ["greenlets", "sockets"][i % 2]} for i in range(1, 51)]
FRIENDS_PER_PAGE = 25

PAGE = b"<!DOCTYPE html><title>It works</title><p>A page of 615 bytes, the rest of it blank.</p>".ljust(615)

MAX_HEAD = 64 * 1024
MAX_ECHO = 16 * 1024 * 1024
BLOCK = bytes(range(251)) * 1024  # 251 is prime: a byte lost or doubled at a power of two shifts everything after it
STREAM_EVERY_SECONDS = 0.01

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed"}
REASONS |= {413: "Content Too Large", 431: "Request Header Fields Too Large"}

accepted = 0


class Refusal(Exception):
    """A request that gets an error status; `last` is true if the connection cannot be used after it."""

    def __init__(self, status: int, *, last: bool = False) -> None:
        super().__init__(status)
        self.status = status
        self.last = last


def pattern(size: int) -> Iterator[memoryview]:
    """Yields the body of /bytes/N and /chunked/N: the bytes 0 to 250, repeated, in blocks that are never copied."""
    block = memoryview(BLOCK)
    for start in range(0, size, len(block)):
        yield block[: size - start]


def reply(status: int, body: bytes, content_type: str = "text/html") -> bytes:
    return counted_head(status, len(body), content_type) + body


def counted_head(status: int, length: int, content_type: str) -> bytes:
    lines = (f"HTTP/1.1 {status} {REASONS[status]}", f"Content-Type: {content_type}", f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunked_head(content_type: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def json_reply(status: int, value: object) -> bytes:
    return reply(status, json.dumps(value).encode(), "application/json")


def error_reply(status: int) -> bytes:
    return json_reply(status, {"error": REASONS[status]})


class Connection:
    """One client's connection: requests are answered in order until either side closes it."""

    # The page is requested so often that its request is recognised before parsing.
    PREPARED = {b"GET /page HTTP/1.1": reply(200, PAGE)}

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def serve(self) -> None:
        keep = True
        while keep and (head := self.read_head()):
            line, _, fields = head.partition(b"\r\n")
            ready = self.PREPARED.get(line)
            lowered = fields.lower()
            if ready is None or b"content-length" in lowered or b"transfer-encoding" in lowered:
                keep = self.answer(line.decode("latin-1"), parse_fields(fields))
            else:
                self.sock.sendall(ready)
                keep = b"connection: close" not in lowered

    def answer(self, line: str, fields: dict[str, str]) -> bool:
        """Answers one request; returns True if the connection can take another one."""
        try:
            method, target, version = self.parse_line(line)
            if method == "POST":
                self.answer_post(target, fields)
            elif method in ("GET", "HEAD"):
                self.read_body(fields)  # usually there is none, but an unread body would be taken for the next request
                self.answer_get(target, fields, head_only=method == "HEAD")
            else:
                raise Refusal(405, last=True)
        except Refusal as refusal:
            self.sock.sendall(error_reply(refusal.status))
            return not refusal.last
        return version == "HTTP/1.1" and fields.get("connection", "").lower() != "close"

    def answer_get(self, target: str, fields: dict[str, str], *, head_only: bool) -> None:
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        match url.path.strip("/").split("/"):
            case ["page"]:
                self.send(reply(200, PAGE), head_only)
            case ["connections"]:
                self.send(json_reply(200, accepted), head_only)
            case ["bytes", size] if size.isdecimal():
                self.send_counted(int(size), head_only)
            case ["chunked", size] if size.isdecimal():
                self.send_chunked(pattern(int(size)), "application/octet-stream", head_only)
            case ["stream"]:
                every = number(query, "every", STREAM_EVERY_SECONDS)
                self.send_chunked(json_lines(every), "application/json", head_only)
            case ["events"]:
                every = number(query, "every", STREAM_EVERY_SECONDS)
                after = number(fields, "last-event-id", 0)
                self.send_chunked(events(every, int(after)), "text/event-stream", head_only)
            case ["me", "friends"]:
                self.send(friends_page(query, base=f"http://{fields.get('host', '')}"), head_only)
            case [identity] if identity.isdecimal():
                self.send(friend(identity, query), head_only)
            case _:
                raise Refusal(404)

    def answer_post(self, target: str, fields: dict[str, str]) -> None:
        if target != "/echo":
            raise Refusal(404, last=True)
        if fields.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.read_body(fields)
        self.sock.sendall(reply(200, body, fields.get("content-type", "application/octet-stream")))

    def send(self, whole: bytes, head_only: bool) -> None:
        self.sock.sendall(whole[: whole.index(b"\r\n\r\n") + 4] if head_only else whole)

    def send_counted(self, size: int, head_only: bool) -> None:
        self.sock.sendall(counted_head(200, size, "application/octet-stream"))
        if not head_only:
            for block in pattern(size):
                self.sock.sendall(block)

    def send_chunked(self, pieces: Iterator[memoryview] | Iterator[bytes], content_type: str, head_only: bool) -> None:
        self.sock.sendall(chunked_head(content_type))
        if head_only:
            return
        for piece in pieces:
            self.sock.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
        self.sock.sendall(b"0\r\n\r\n")

    @staticmethod
    def parse_line(line: str) -> tuple[str, str, str]:
        words = line.split(" ")
        if len(words) != 3 or not words[1].startswith("/") or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            raise Refusal(400, last=True)
        return words[0], words[1], words[2]

    def read_head(self) -> bytes:
        """Reads and returns the head without its blank line; returns no bytes if the client has closed."""
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > MAX_HEAD:
                self.sock.sendall(error_reply(431))
                return b""
            if not self.read_more():
                return b""
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    def read_body(self, fields: dict[str, str]) -> bytes:
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return self.read_chunks()
        length = fields.get("content-length", "0")
        if not length.isdecimal():
            raise Refusal(400, last=True)
        if int(length) > MAX_ECHO:
            raise Refusal(413, last=True)
        return self.read_exactly(int(length))

    def read_chunks(self) -> bytes:
        pieces: list[bytes] = []
        total = 0
        while size := self.read_chunk_size():
            total += size
            if total > MAX_ECHO:
                raise Refusal(413, last=True)
            pieces.append(self.read_exactly(size))
            self.read_line()
        while self.read_line():
            pass  # trailers, which are not used
        return b"".join(pieces)

    def read_chunk_size(self) -> int:
        digits = self.read_line().partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", digits):
            raise Refusal(400, last=True)
        return int(digits, 16)

    def read_line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > MAX_HEAD or not self.read_more():
                raise Refusal(400, last=True)
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def read_exactly(self, size: int) -> bytes:
        pieces = [self.buffer[:size]]
        self.buffer = self.buffer[size:]
        missing = size - len(pieces[0])
        while missing:
            piece = self.sock.recv(min(missing, 256 * 1024))
            if not piece:
                raise Refusal(400, last=True)
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def read_more(self) -> bool:
        data = self.sock.recv(64 * 1024)
        self.buffer += data
        return bool(data)


def parse_fields(lines: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines.decode("latin-1").split("\r\n"))
    return {name.lower(): value.strip() for name, _, value in pairs}


def number(query: dict[str, str], name: str, default: float) -> float:
    text = query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise Refusal(400)
    return float(text)


def json_lines(every: float) -> Iterator[bytes]:
    """Yields lines of JSON without end, one every `every` seconds, with an occasional blank line as in such streams."""
    for identity in itertools.count(1):
        yield json.dumps({"id": identity, "time": time.time(), "text": f"event {identity}"}).encode() + b"\r\n"
        if identity % 10 == 0:
            yield b"\r\n"
        gevent.sleep(every)


def events(every: float, after: int) -> Iterator[bytes]:
    """Yields server-sent events without end, one every `every` seconds, with an occasional comment between them."""
    for identity in itertools.count(after + 1):
        data = json.dumps({"text": f"event {identity}"})
        yield f"event: tick\nid: {identity}\ndata: {data}\n\n".encode()
        if identity % 10 == 0:
            yield b": keep-alive\n\n"
        gevent.sleep(every)


def friends_page(query: dict[str, str], base: str) -> bytes:
    check_token(query)
    offset = int(number(query, "offset", 0))
    end = offset + FRIENDS_PER_PAGE
    page: dict[str, object] = {"data": [{"id": one["id"], "name": one["name"]} for one in FRIENDS[offset:end]]}
    if end < len(FRIENDS):
        page["next"] = f"{base}/me/friends?" + urlencode({"offset": end})
    return json_reply(200, page)


def friend(identity: str, query: dict[str, str]) -> bytes:
    check_token(query)
    if not 1 <= int(identity) <= len(FRIENDS):
        raise Refusal(404)
    return json_reply(200, FRIENDS[int(identity) - 1])


def check_token(query: dict[str, str]) -> None:
    if query.get("access_token") != TOKEN:
        raise Refusal(401)


def handle(sock: socket.socket, address: object) -> None:
    global accepted
    accepted += 1
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        Connection(sock).serve()
    except OSError:
        pass  # the client has closed the connection
    finally:
        sock.close()


def wait_for_end_of(descriptor: int) -> None:
    while True:
        wait_read(descriptor)
        if not os.read(descriptor, 4096):
            return


def main(arguments: list[str]) -> None:
    port = int(arguments[0]) if arguments else 0
    server = StreamServer(("127.0.0.1", port), handle, backlog=1024)
    try:
        server.start()
    except OSError as error:
        raise SystemExit(f"127.0.0.1:{port}: {os.strerror(error.errno or 0)}") from None
    print(server.server_port, flush=True)
    if sys.stdin.isatty():
        print(f"http://127.0.0.1:{server.server_port}/page and others, until Ctrl-C", file=sys.stderr)
    try:
        wait_for_end_of(sys.stdin.fileno())
    except KeyboardInterrupt:
        pass
    finally:
        server.stop(timeout=0)


if __name__ == "__main__":
    main(sys.argv[1:])
