"""A scripted HTTP/2 peer (RFC 9113): a server that sends exactly the frames that a test gives it, valid or not.

A script is a function of one `Talk`, which keeps no rules: it sends frames and reads those received. Scripts run like
those of tests/support/peer.py, on connections of a `Peer`; `talking` starts one, with a client of it.

    def script(talk):
        talk.start()
        request = talk.read_request()
        talk.respond(request, b"ok")
        assert talk.expect(RstStreamFrame).error_code == CANCEL

    with talking(script) as (peer, client):
        client.get("/")
        played(peer)

A failed assertion in a script fails the test, unless the test ends before the script gets there: `played` waits for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import hpack
from gevent import socket
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from geventhttpclient import HTTPClient
from tests.support.certificates import Certificates
from tests.support.hub import until
from tests.support.peer import Conn, Peer
from tests.support.tls import client_of, trusting

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Error codes (RFC 9113 section 7).
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM = 4, 5, 6, 7
CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = 8, 9, 10, 11
INADEQUATE_SECURITY, HTTP_1_1_REQUIRED = 12, 13

# Settings (section 6.5.2).
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

# Default sizes of a window and of a frame.
WINDOW = 65_535
FRAME = 16_384

Fields = Iterable[tuple[str, str]]
F = TypeVar("F", bound=Frame)


@dataclass
class Request:
    """A request as received: its fields in order, with the pseudo-header fields, its body and its trailers."""

    stream: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    ended: bool = False

    @property
    def method(self) -> str | None:
        return self.get(":method")

    @property
    def target(self) -> str:
        return self.get(":path") or ""

    def get(self, name: str) -> str | None:
        """Returns the first field of exactly that name."""
        return next((value for known, value in self.fields if known == name), None)

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known == name]


class Talk:
    """The server's end of one connection.

    `settings` are those of the client. `room` is its flow-control window for each stream, and for the connection as 0.
    With `credit`, each DATA frame of the client is acknowledged by WINDOW_UPDATE at once; otherwise the test does that.
    """

    def __init__(self, conn: Conn) -> None:
        # Frames are sent at once.
        if conn.sock.family != socket.AF_UNIX:
            conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.conn = conn
        self.peer = conn.peer
        self.credit = True
        self.settings: dict[int, int] = {}
        self.room: defaultdict[int, int] = defaultdict(lambda: self.settings.get(INITIAL_WINDOW_SIZE, WINDOW))
        self.room[0] = WINDOW
        self.requests: dict[int, Request] = {}
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self._buffer = bytearray()
        self._block = b""  # of a HEADERS frame and those that continue it
        self._ends = False
        self._heads: list[Request] = []  # come, and not yet handed out by read_head
        self._whole: list[Request] = []  # nor by read_request
        self._frames: list[Frame] = []  # nor by expect

    # Receiving.

    def read_exactly(self, count: int) -> bytes:
        """Reads so many bytes, fewer if the client has closed."""
        while len(self._buffer) < count:
            data = self.conn.sock.recv(65536)
            if not data:
                self.conn.hung_up.set()
                break
            self._buffer += data
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read_preface(self) -> None:
        """Reads the client's connection preface (section 3.4) with its SETTINGS."""
        assert self.read_exactly(len(PREFACE)) == PREFACE
        first = self.read_frame()
        assert isinstance(first, SettingsFrame)
        assert "ACK" not in first.flags

    def read_frame(self) -> Frame | None:
        """Reads the next frame and updates requests and windows. Returns None if the client has closed."""
        head = self.read_exactly(9)
        if len(head) < 9:
            return None
        frame, length = Frame.parse_frame_header(memoryview(head))
        payload = self.read_exactly(length)
        frame.parse_body(memoryview(payload))
        self._take(frame)
        return frame

    def _take(self, frame: Frame) -> None:
        self._frames.append(frame)
        if isinstance(frame, SettingsFrame):
            self.settings |= frame.settings
        elif isinstance(frame, WindowUpdateFrame):
            self.room[frame.stream_id] += frame.window_increment
        elif isinstance(frame, HeadersFrame | ContinuationFrame):
            self._block += frame.data
            self._ends = self._ends or "END_STREAM" in frame.flags
            if "END_HEADERS" in frame.flags:
                fields = self.decoder.decode(self._block, raw=True)
                # Keeps the kind in which they were received: to be indexed or not.
                text = [type(field)(*(part.decode("latin-1") for part in field)) for field in fields]
                self._take_fields(frame.stream_id, text)
                self._block, self._ends = b"", False
        elif isinstance(frame, DataFrame):
            request = self.requests[frame.stream_id]
            request.body += frame.data
            if self.credit and frame.flow_controlled_length:
                self.window(0, frame.flow_controlled_length)
                if "END_STREAM" not in frame.flags:
                    self.window(frame.stream_id, frame.flow_controlled_length)
            if "END_STREAM" in frame.flags:
                self._end(request)

    def _take_fields(self, stream: int, fields: list[tuple[str, str]]) -> None:
        request = self.requests.get(stream)
        if request is None:
            request = self.requests[stream] = Request(stream, fields)
            self._heads.append(request)
        else:
            request.trailers = fields
        if self._ends:
            self._end(request)

    def _end(self, request: Request) -> None:
        request.ended = True
        self._whole.append(request)
        self.conn.requests.append(request)
        self.peer.requests.append(request)

    def _next(self, ready: list[Request]) -> Request | None:
        while not ready:
            if self.read_frame() is None:
                return None
        return ready.pop(0)

    def read_head(self) -> Request | None:
        """Returns the next request as soon as its fields are here, or None if the client has closed."""
        return self._next(self._heads)

    def read_request(self) -> Request | None:
        """Returns the next complete request, in the order of their ends, or None if the client has closed."""
        return self._next(self._whole)

    def ready_requests(self) -> list[Request]:
        """Returns the complete requests that were not returned before."""
        ready, self._whole = self._whole, []
        return ready

    def frames_of(self, stream: int) -> list[Frame]:
        """Returns the received frames of that stream that were not expected before."""
        return [frame for frame in self._frames if frame.stream_id == stream]

    def read_requests(self, count: int) -> list[Request]:
        requests = [self.read_request() for _ in range(count)]
        assert None not in requests, "the client closed"
        return requests

    def expect(self, kind: type[F], stream: int | None = None) -> F:
        """Returns the first such frame, received already or not, that was not expected before."""
        seen = 0
        while True:
            for at in range(seen, len(self._frames)):
                frame = self._frames[at]
                if isinstance(frame, kind) and stream in (None, frame.stream_id):
                    return self._frames.pop(at)
            seen = len(self._frames)
            assert self.read_frame() is not None, f"the client closed, and no {kind.__name__} came of stream {stream}"

    def expect_reset(self, request: Request, code: int) -> None:
        """Expects RST_STREAM of that request with that code."""
        assert self.expect(RstStreamFrame, request.stream).error_code == code

    def expect_alive(self) -> None:
        """Checks that the client answers a PING, after everything sent before."""
        self.ping(b"are you?")
        while True:
            frame = self.expect(PingFrame)
            if "ACK" in frame.flags and frame.opaque_data == b"are you?":
                return

    def wait_closed(self) -> None:
        """Reads on until the client closes."""
        try:
            while self.read_frame() is not None:
                pass
        except ConnectionResetError:
            self.conn.hung_up.set()

    # Sending.

    def send(self, data: bytes) -> None:
        self.conn.sock.sendall(data)

    def say(self, *frames: Frame) -> None:
        self.send(b"".join(frame.serialize() for frame in frames))

    def start(self, settings: dict[int, int] | None = None) -> None:
        """Exchanges and acknowledges the SETTINGS of both ends."""
        self.read_preface()
        self.say(SettingsFrame(settings=settings or {}), SettingsFrame(flags=["ACK"]))
        while "ACK" not in self.expect(SettingsFrame).flags:
            pass

    def headers(self, stream: int, fields: Fields, end: bool = False, pieces: int = 1) -> None:
        """Sends fields as they are, in a HEADERS frame, and in CONTINUATION frames if more pieces are wanted."""
        fields = list(fields)
        # hpack takes 40 ms for the Huffman coding of 16 KB.
        short = sum(len(name) + len(value) for name, value in fields) < 4096
        self.block(stream, self.encoder.encode(fields, huffman=short), end, pieces)

    def block(self, stream: int, block: bytes, end: bool = False, pieces: int = 1) -> None:
        """Sends a header block that is encoded already, correctly or not, in such frames."""
        step = min(-(-len(block) // pieces), FRAME) or 1
        parts = [block[at : at + step] for at in range(0, len(block), step)] or [b""]
        flags = [["END_STREAM"] if end else [], *([] for _ in parts[1:])]
        flags[-1].append("END_HEADERS")
        kinds = [HeadersFrame, *(ContinuationFrame for _ in parts[1:])]
        self.say(*(kind(stream, part, flags=names) for kind, part, names in zip(kinds, parts, flags, strict=True)))

    def data(self, stream: int, data: bytes = b"", end: bool = False) -> None:
        """Sends DATA, whether the client's windows allow it or not."""
        parts = [data[at : at + FRAME] for at in range(0, len(data), FRAME)] or [b""]
        last = len(parts) - 1
        self.say(*(DataFrame(stream, part, flags=["END_STREAM"] * (end and n == last)) for n, part in enumerate(parts)))
        self.room[0] -= len(data)
        self.room[stream] -= len(data)

    def body(self, stream: int, data: bytes, end: bool = True) -> None:
        """Sends DATA as the client's windows allow."""
        while data:
            size = min(self.room[0], self.room[stream], len(data))
            if size <= 0:
                assert self.read_frame() is not None, "the client closed before it had the body"
                continue
            self.data(stream, data[:size], end and size == len(data))
            data = data[size:]

    def respond(
        self, request: Request, body: bytes = b"ok", status: int = 200, fields: Fields = (), trailers: Fields = ()
    ) -> None:
        """Sends a complete, well-formed response as the client's windows allow."""
        head = [(":status", str(status)), ("content-length", str(len(body))), *fields]
        trailers = list(trailers)
        self.headers(request.stream, head, end=not body and not trailers)
        self.body(request.stream, body, end=not trailers)
        if trailers:
            self.headers(request.stream, trailers, end=True)

    def reset(self, request: Request, code: int) -> None:
        self.say(RstStreamFrame(request.stream, code))

    def goaway(self, last: int, code: int = NO_ERROR, debug: bytes = b"") -> None:
        self.say(GoAwayFrame(0, last, code, debug))

    def ping(self, data: bytes = b"12345678") -> None:
        self.say(PingFrame(0, data))

    def window(self, stream: int, increment: int) -> None:
        self.say(WindowUpdateFrame(stream, increment))

    def tell(self, settings: dict[int, int]) -> None:
        """Sends SETTINGS without waiting for the acknowledgement."""
        self.say(SettingsFrame(settings=settings))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """Returns any frame, with another length in its header if given (section 4.1)."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


Script = Callable[[Talk], object]


def serve_targets(talk: Talk) -> None:
    """Answers every request with a 200 whose body is the target."""
    talk.start()
    while request := talk.read_request():
        talk.respond(request, request.target.encode("latin-1"))


def scripted(script: Script) -> Callable[[Conn], object]:
    """Turns a script of a `Talk` into one of a `Peer`."""
    return lambda conn: script(Talk(conn))


def played(peer: Peer) -> None:
    """Waits until the scripts of all connections have ended, and raises their first error."""
    until(lambda: peer.open_now == 0)
    if peer.errors:
        raise peer.errors[0]


@contextmanager
def blaming(peer: Peer) -> Iterator[None]:
    """Raises the error of a script in place of the error that it caused in the test."""
    try:
        yield
    except Exception as error:
        if peer.errors:
            raise peer.errors[0] from error
        raise


@contextmanager
def talking(*scripts: Script, **options: Any) -> Iterator[tuple[Peer, HTTPClient]]:
    """Starts a plain-text peer that plays `scripts`; yields it and a client with prior knowledge of HTTP/2."""
    options.setdefault("http2", "prior-knowledge")
    with (
        Peer(*map(scripted, scripts)) as peer,
        closing(HTTPClient(peer.host, peer.port, **options)) as client,
        blaming(peer),
    ):
        yield peer, client


@contextmanager
def talking_securely(
    certificates: Certificates, *scripts: Script, way: str = "native", alpn: tuple[str, ...] = ("h2",), **options: Any
) -> Iterator[tuple[Peer, HTTPClient]]:
    """Starts a TLS peer that offers `alpn` and plays `scripts`; yields it and a client that trusts it."""
    options = {"http2": True, "ssl_options": trusting(certificates), **options}
    context = certificates.valid.server()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    with (
        Peer(*map(scripted, scripts), tls=context) as peer,
        client_of(peer.port, way, **options) as client,
        blaming(peer),
    ):
        yield peer, client
