"""A stand-in for a language model: a chat API that streams the same words to everyone, at a steady pace.

    python examples/llm_server.py [PORT [SECONDS BEFORE THE FIRST TOKEN [SECONDS BETWEEN TWO]]]

It listens on 127.0.0.1, on a free port unless one is given, and prints the port as its first line. `max_tokens` of a
request is the number of its tokens. Measure a load generator with it: all that exceeds these times is not the model's.
"""

import json
import socket
import sys
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

import gevent
from gevent.pywsgi import WSGIServer

WORDS = ["The", "sky", "scatters", "blue", "light", "more", "than", "red", "light", "."]


class Server(WSGIServer):
    def handle(self, connection: socket.socket, address: Any) -> None:
        # Otherwise a token waits until the one before is acknowledged: for 40 ms (Nagle's algorithm).
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle(connection, address)


def event(**content: Any) -> bytes:
    return b"data: %s\n\n" % json.dumps({"object": "chat.completion.chunk", **content}).encode()


def answer(tokens: int, first: float, between: float, with_usage: bool) -> Iterator[bytes]:
    """Yields the events of a completion: a role, the tokens, the reason of the end, and the usage on demand."""
    gevent.sleep(first)
    yield event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
    for number, word in enumerate(islice(cycle(WORDS), tokens)):
        if number:
            gevent.sleep(between)
        yield event(choices=[{"index": 0, "delta": {"content": f"{word} "}}])
    yield event(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}])
    if with_usage:
        yield event(choices=[], usage={"completion_tokens": tokens})
    yield b"data: [DONE]\n\n"


def main(port: str = "0", first: str = "0.05", between: str = "0.005") -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterator[bytes] | list[bytes]:
        if environ["PATH_INFO"] != "/v1/chat/completions":
            start_response("404 Not Found", [])
            return [b""]
        request = json.load(environ["wsgi.input"])
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
        with_usage = (request.get("stream_options") or {}).get("include_usage", False)
        return answer(request.get("max_tokens", 20), float(first), float(between), with_usage)

    server = Server(("127.0.0.1", int(port)), app, log=None)
    server.start()
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
