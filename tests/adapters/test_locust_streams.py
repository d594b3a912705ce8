"""Streams with locust's FastHttpUser, and the example of a load test for a chat API that streams its tokens."""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event

from tests.support.dependents import need
from tests.support.hub import ROOT, until
from tests.support.locustfiles import HERE, Swarm, distributed, swarm
from tests.support.peer import Conn, Peer, Request
from tests.support.ports import free_port

need("locust")

EXAMPLE = ROOT / "examples" / "llm_load.py"
PATH = "/v1/chat/completions"

# Seconds after which a client has not acknowledged an item.
ACKNOWLEDGED = 10

DONE = b"data: [DONE]\n\n"


def identity() -> Callable[[bytes], bytes]:
    return lambda data: data


def deflated(window: int) -> Callable[[bytes], bytes]:
    compressor = zlib.compressobj(wbits=window)
    return lambda data: compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH if data else zlib.Z_FINISH)


def brotli() -> Callable[[bytes], bytes]:
    """Writes each piece as an uncompressed meta-block, by hand (RFC 7932 section 9.2)."""
    size_of_window = iter([1])

    def encode(data: bytes) -> bytes:
        if not data:
            return b"\x03"  # the last meta-block, which is empty
        shift = next(size_of_window, 0)  # a bit 0: 64 KiB
        return (((len(data) - 1) << 3 | 1 << 19) << shift).to_bytes(3, "little") + data

    return encode


# Encoders of one stream by content coding: each call returns what a decoder needs for that piece; b"" is the end.
CODINGS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "identity": identity,
    "gzip": lambda: deflated(31),
    "deflate": lambda: deflated(15),
    "br": brotli,
}


def begin_stream(conn: Conn, coding: str = "identity") -> None:
    conn.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        b"Content-Encoding: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % coding.encode()
    )


def send_chunk(conn: Conn, data: bytes) -> None:
    conn.send(b"%x\r\n%s\r\n" % (len(data), data))


# ---------------------------------------------------------------- items as they arrive

LINES = ["one", "two \N{BLACK STAR}", "", "four", "five"]
EVENTS = ["one", "two \N{BLACK STAR}", '{"three": 3}', "four\nlines", "five"]
ALL_LINES = [f"data: {number} {'x' * 700}" for number in range(9)]


class Lockstep:
    """A server that sends the next item of a stream only after a request acknowledged the last one."""

    def __init__(self) -> None:
        self.acknowledged: defaultdict[str, Event] = defaultdict(Event)

    def __call__(self, conn: Conn) -> None:
        while request := conn.read_request():
            match request.target.split("/")[1:]:
                case ["acknowledge", *item]:
                    self.acknowledged["/".join(item)].set()
                    conn.respond()
                case ["stream", method, coding]:
                    self.stream(conn, request, method, coding)
                case ["all-lines"]:
                    begin_stream(conn)
                    text = "\n".join(ALL_LINES).encode()
                    conn.send_pieces([b"%x\r\n%s\r\n" % (len(text), text), b"0\r\n\r\n"])

    def stream(self, conn: Conn, request: Request, method: str, coding: str) -> None:
        assert json.loads(request.body) == {"stream": True}
        assert coding == "identity" or coding in str(request.get("accept-encoding")), "locust does not ask for it"
        encode = CODINGS[coding]()
        begin_stream(conn, coding)
        for number, item in enumerate(items(method)):
            send_chunk(conn, encode(item))
            arrived = self.acknowledged[f"{method}/{coding}/{number}"].wait(ACKNOWLEDGED)
            assert arrived, f"{method} of {coding} did not yield item {number} when it was sent"
        if end := encode(b""):
            send_chunk(conn, end)
        conn.send(b"0\r\n\r\n")


def items(method: str) -> list[bytes]:
    if method == "lines":
        return [line.encode() + b"\n" for line in LINES]
    return ["".join(f"data: {line}\n" for line in data.split("\n")).encode() + b"\n" for data in EVENTS]


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The items that a user has read from each stream, or a traceback."""
    with Peer(Lockstep()) as peer:
        done = swarm(HERE / "streams.py", tmp_path_factory.mktemp("streams"), peer.url, users=1)
    done.check_no_crash()
    assert done.failures == {}
    readings: dict[str, Any] = done.results
    return readings


@pytest.mark.parametrize("coding", CODINGS)
def test_iter_lines_of_fast_response_yields_each_line_when_it_is_sent(readings: dict[str, Any], coding: str) -> None:
    assert readings[f"lines/{coding}"] == LINES


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("method", ["events", "caught"])
def test_iter_events_of_fast_response_yields_each_event_when_it_is_sent(
    readings: dict[str, Any], method: str, coding: str
) -> None:
    """The response of a with-block, after `catch_response=True`, is a copy of the other."""
    assert readings[f"{method}/{coding}"] == EVENTS


def test_iter_lines_of_fast_session_yields_all_lines(readings: dict[str, Any]) -> None:
    """It reads blocks of 1024 bytes, so that most lines are late."""
    assert readings["all lines"] == ALL_LINES


def test_iter_lines_of_fast_response_without_stream_yields_lines_of_the_content(readings: dict[str, Any]) -> None:
    assert readings["lines of a whole body"] == ALL_LINES


# ---------------------------------------------------------------- the example


def event(text: str = "", **more: Any) -> bytes:
    chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}], **more}
    return f"data: {json.dumps(chunk)}\n\n".encode()


class Model:
    """A chat API that gives so many answers. Later requests get no response, so that the statistics do not change."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.numbers = count()
        self.counts: Counter[str] = Counter()

    def __call__(self, conn: Conn) -> None:
        while request := conn.read_request():
            self.check(request)
            number = next(self.numbers)
            if number >= self.answers:
                conn.wait_closed(60)
                return
            self.answer(conn, number)

    def check(self, request: Request) -> None:
        assert (request.method, request.target) == ("POST", PATH)
        assert (request.get("accept"), request.get("content-type")) == ("text/event-stream", "application/json")
        assert "gzip" in str(request.get("accept-encoding"))
        body = json.loads(request.body)
        assert body["stream"] is True
        assert body["messages"][0]["role"] == "user"
        assert body["stream_options"] == {"include_usage": True}

    def answer(self, conn: Conn, number: int) -> None:
        """Answers with a different number of tokens each time, with each coding, and with the usage or without it."""
        coding = list(CODINGS)[number % len(CODINGS)]
        words = 1 + number % 5
        encode = CODINGS[coding]()
        pieces = [event(role="assistant"), *(event(f"word {n} ") for n in range(words)), event(finish_reason="stop")]
        tokens = words
        if number % 3 == 0:
            tokens = 7 * words  # several in one event
            pieces.append(event(choices=[], usage={"completion_tokens": tokens}))
        self.counts.update(streams=1, tokens=tokens, gaps=words - 1)
        begin_stream(conn, coding)
        chunks = [encode(piece) for piece in [*pieces, DONE, b""]]
        conn.send_pieces(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
        conn.send(b"0\r\n\r\n")


USERS = 4
STREAMS = 40


def chats(directory: Path, host: str, *options: str, streams: int = STREAMS) -> Swarm:
    """Runs the example until so many streams were reported."""
    requests = {"LOCUST_REQUESTS": str(streams), "LOCUST_COUNTED": "POST"}
    return swarm(EXAMPLE, directory, host, *options, users=USERS, **requests)


@pytest.mark.parametrize("processes", [1, 2])
def test_example_reports_each_stream_and_each_token(processes: int, tmp_path: Path) -> None:
    """In one process, and with a master and two workers (each a fork)."""
    with Peer(Model(STREAMS)) as peer:
        done = chats(tmp_path, peer.url, *distributed(processes))
        model = peer.scripts[0]
        connections = len(peer.conns)
    done.check_no_crash()
    assert done.failures == {}
    assert done.code == 0, done.log
    assert model.counts["streams"] == STREAMS
    assert done.counts() == {"POST": STREAMS, "TTFT": STREAMS, "TOK/S": STREAMS, "ITL": model.counts["gaps"]}
    assert {row["name"] for row in done.rows.values()} == {PATH}
    assert done.rows["TOK/S"]["length"] == model.counts["tokens"]
    assert f"{model.counts['tokens']} tokens of complete streams, " in done.log
    assert done.requests == 3 * STREAMS, "the gaps count as requests"
    assert 0 < done.rows["TTFT"]["min"] <= done.rows["TTFT"]["max"] <= done.rows["POST"]["max"]
    assert connections == USERS, "a stream that was read to its end did not leave its connection to the next"


class BrokenModel(Model):
    """Fails in each way in turn: `KINDS` are methods, with the text that locust's table of failures must have."""

    KINDS = {
        "status": "/v1/chat/completions: code=429",
        "not_a_stream": "/completions: expected text/event-stream, got 'application/json' with status 200",
        "without_done": "the stream ended without [DONE]",
        "error_event": "the server sent an error: overloaded",
        "not_json": "not an event of a chat completion: 'data that is not JSON'",
        "not_a_chunk": "not an event of a chat completion: '[1, 2]'",
        "closed": "Connection closed before the message was complete",
        "reset": "Connection reset by peer",
        "damaged_coding": "gzip: incorrect header check",
    }

    # Number of unfinished streams whose connection the client has to close.
    open = 0

    def answer(self, conn: Conn, number: int) -> None:
        if number == self.answers - 1:
            until(lambda: self.open == 0)  # before the run ends, which closes all connections
        kind = list(self.KINDS)[number % len(self.KINDS)]
        self.counts[kind] += 1
        getattr(self, kind)(conn)

    def status(self, conn: Conn) -> None:
        conn.respond(b'{"error": {"message": "slow down"}}', "429 Too Many Requests")

    def not_a_stream(self, conn: Conn) -> None:
        conn.respond(b'{"choices": []}', headers=[("Content-Type", "application/json")])

    def without_done(self, conn: Conn) -> None:
        self.send(conn, event("one "), event("two"), b"")

    def error_event(self, conn: Conn) -> None:
        self.send(conn, event("one "), b'data: {"error": {"message": "overloaded"}}\n\n')
        self.wait_closed(conn)

    def not_json(self, conn: Conn) -> None:
        self.send(conn, event("one "), b"data: data that is not JSON\n\n")
        self.wait_closed(conn)

    def not_a_chunk(self, conn: Conn) -> None:
        self.send(conn, event("one "), b"data: [1, 2]\n\n")
        self.wait_closed(conn)

    def closed(self, conn: Conn) -> None:
        self.send(conn, event("one "))
        conn.close()

    def reset(self, conn: Conn) -> None:
        self.send(conn, event("one "))
        conn.reset()

    def damaged_coding(self, conn: Conn) -> None:
        self.send(conn, b"this is not gzip", coding="gzip")
        self.wait_closed(conn)

    def wait_closed(self, conn: Conn) -> None:
        self.open += 1
        conn.wait_closed()
        self.open -= 1

    def send(self, conn: Conn, *chunks: bytes, coding: str = "identity") -> None:
        begin_stream(conn, coding)
        conn.send_pieces(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def test_example_reports_failed_streams_with_their_reason(tmp_path: Path) -> None:
    kinds = BrokenModel.KINDS
    rounds = 3
    with Peer(BrokenModel(rounds * len(kinds))) as peer:
        done = chats(tmp_path, peer.url, streams=rounds * len(kinds))
    done.check_no_crash()
    assert done.code == 1
    found = {kind: [done.failures[text] for text in done.failures if part in text] for kind, part in kinds.items()}
    assert found == {kind: [rounds] for kind in kinds}
    assert len(done.failures) == len(kinds)
    with_a_token = len(kinds) - len(["status", "not_a_stream", "damaged_coding"])
    assert done.counts() == {"POST": rounds * len(kinds), "TTFT": rounds * with_a_token, "ITL": rounds}
    assert done.rows["POST"]["failed"] == rounds * len(kinds)


def test_example_reports_refused_connections_as_failures(tmp_path: Path) -> None:
    done = chats(tmp_path, f"http://127.0.0.1:{free_port()}", streams=10)
    done.check_no_crash()
    assert done.code == 1
    (error,) = done.failures
    assert "Connection refused" in error
    assert done.failures[error] == done.rows["POST"]["count"] >= 10
