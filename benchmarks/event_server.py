"""Serves streams of server-sent events, each event in a chunk of its own, as servers of such streams send them.

    python benchmarks/event_server.py

Prints its port on 127.0.0.1, and ends with its standard input. `GET /events` has events of 77 bytes, `GET /tokens` of
310, the chunks of a language model's API. The bytes are made once: sending them costs little more than copying them.
"""

from __future__ import annotations

import os
import sys
import threading
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


class Handler(StreamRequestHandler):
    def handle(self) -> None:
        while request_line := self.rfile.readline():
            while self.rfile.readline().strip():
                pass  # the other lines of the head
            self.connection.sendall(STREAMS[request_line.split()[1]])


def main() -> None:
    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        os._exit(0)


if __name__ == "__main__":
    main()
