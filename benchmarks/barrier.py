"""Serves requests in groups: answers when COUNT requests wait, all of them together, then waits for the next COUNT.

    python benchmarks/barrier.py COUNT [CERTIFICATE]

Prints its port on 127.0.0.1, and ends with its standard input. With a certificate (and its key, in one file) it serves
TLS.
"""

from __future__ import annotations

import os
import resource
import sys

import gevent
import gevent.ssl
from gevent import socket
from gevent.os import tp_read
from measure import PAGE_BYTES

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % PAGE_BYTES + b"x" * PAGE_BYTES


def main(count: str, certificate: str = "") -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = None
    if certificate:
        context = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    waiting: list[socket.socket] = []

    def end_with_parent() -> None:
        tp_read(sys.stdin.fileno(), 1)
        os._exit(0)

    gevent.spawn(end_with_parent)

    def serve(conn: socket.socket) -> None:
        if context is not None:
            conn = context.wrap_socket(conn, server_side=True)
        while conn.recv(65536):  # a GET arrives in one piece
            waiting.append(conn)
            if len(waiting) == int(count):
                answered = waiting[:]
                waiting.clear()
                for each in answered:
                    each.sendall(ANSWER)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(65535)
        print(listener.getsockname()[1], flush=True)
        while True:
            gevent.spawn(serve, listener.accept()[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
