"""Serves streams of server-sent events, each event in a chunk of its own, as servers of such streams send them.

    python benchmarks/event_server.py

Prints its port on 127.0.0.1, and ends with its standard input. `GET /events` has events of 77 bytes, `GET /tokens` of
310, the chunks of a language model's API, and so has `POST /openai/chat/completions`. The bytes are made once: sending
them costs little more than copying them. `GET /paced` has ten events of 77 bytes a second until the client closes.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
import time
from contextlib import suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer

from measure import EVENTS

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = "event: tick\nid: {:06}\ndata: the quick brown fox jumps over the lazy dog...\n\n"
TOKEN = (
    'data: {{"id":"chatcmpl-0123456789abcdefghijklmnopqr{:06}","object":"chat.completion.chunk","created":1764547200,'
    '"model":"model-2026-11-30","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{{"index":0,'
    '"delta":{{"content":" token"}},"logprobs":null,"finish_reason":null}}],"obfuscation":""}}\n\n'
)


def stream(template: str) -> bytes:
    """Returns a response of EVENTS events."""
    events = [template.format(number).encode() for number in range(EVENTS)]
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


STREAMS = {b"/events": stream(EVENT), b"/tokens": stream(TOKEN)}
STREAMS[b"/openai/chat/completions"] = STREAMS[b"/tokens"]


class Pacer(threading.Thread):
    """Sends an event to each connection ten times a second: to a hundredth of them in each millisecond."""

    TICKS = 100

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.connections: list[socket.socket] = []

    def run(self) -> None:
        event = EVENT.format(0).encode()
        chunk = b"%x\r\n%b\r\n" % (len(event), event)
        due, tick = time.monotonic(), 0
        while True:
            due += 0.1 / self.TICKS
            time.sleep(max(0.0, due - time.monotonic()))
            tick = (tick + 1) % self.TICKS
            for connection in self.connections[tick :: self.TICKS]:
                with suppress(OSError):  # it was closed, and is about to be removed
                    connection.send(chunk)

    def serve(self, connection: socket.socket) -> None:
        """Sends events to the connection until the client closes it."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HEAD)
        self.connections.append(connection)
        with suppress(OSError):
            connection.recv(1)
        self.connections.remove(connection)


PACER = Pacer()


class Handler(StreamRequestHandler):
    def handle(self) -> None:
        while request_line := self.rfile.readline():
            length = 0
            while line := self.rfile.readline().strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            self.rfile.read(length)
            if (target := request_line.split()[1]) == b"/paced":
                PACER.serve(self.connection)
                return
            self.connection.sendall(STREAMS[target])


class Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 1024


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threading.stack_size(128 * 1024)
    PACER.start()
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        os._exit(0)


if __name__ == "__main__":
    main()
