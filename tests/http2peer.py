"""A scripted peer of HTTP/2 (RFC 9113): a server that says exactly the frames that a test tells it to, good or bad.

A script is a function of one `Talk`, which keeps no rules: it puts frames on the wire and reads what comes. Scripts run
as those of tests/peer.py do, on connections of a `Peer`; `talking` starts one, with a client of it.

    def script(talk):
        talk.start()
        request = talk.read_request()
        talk.respond(request, b"ok")
        assert talk.expect(RstStreamFrame).error_code == CANCEL

    with talking(script) as (peer, client):
        client.get("/")
        played(peer)

What a script asserts fails the test, unless the test is over before the script gets there: `played` waits for it.
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
from tests.certificates import Certificates
from tests.hubtools import until
from tests.peer import Conn, Peer
from tests.tls import client_of, trusting

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Error codes (RFC 9113 section 7).
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM = 4, 5, 6, 7
CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = 8, 9, 10, 11
INADEQUATE_SECURITY, HTTP_1_1_REQUIRED = 12, 13

# Settings (section 6.5.2).
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

# A window, and a frame, of those who have not said otherwise.
WINDOW = 65_535
FRAME = 16_384

Fields = Iterable[tuple[str, str]]
F = TypeVar("F", bound=Frame)


@dataclass
class Request:
    """One request as it came: its fields in order, pseudo-header fields included, its body, the fields behind that."""

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
        """The first field of that name, in just this spelling."""
        return next((value for known, value in self.fields if known == name), None)

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known == name]


class Talk:
    """The server's end of one connection.

    `settings` are those of the client; `room` is how much it lets us send, on each stream, and on the connection as 0.
    With `credit`, what it sends may be sent again at once; else it has the windows that it is given.
    """

    def __init__(self, conn: Conn) -> None:
        # Frames leave as they are said.
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

    # What comes.

    def read_exactly(self, count: int) -> bytes:
        """So many bytes; fewer when the client has closed."""
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
        """The client's first words (section 3.4), its SETTINGS included."""
        assert self.read_exactly(len(PREFACE)) == PREFACE
        first = self.read_frame()
        assert isinstance(first, SettingsFrame)
        assert "ACK" not in first.flags

    def read_frame(self) -> Frame | None:
        """The next frame, whatever it is, and its share in requests and windows. None when the client has closed."""
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
                # Of the kind that they came as: to be indexed or not.
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
        """The fields of the next request; its body may still come. None when the client has closed."""
        return self._next(self._heads)

    def read_request(self) -> Request | None:
        """The next request that is whole, in the order of their ends. None when the client has closed."""
        return self._next(self._whole)

    def read_requests(self, count: int) -> list[Request]:
        requests = [self.read_request() for _ in range(count)]
        assert None not in requests, "the client closed"
        return requests

    def expect(self, kind: type[F], stream: int | None = None) -> F:
        """The first such frame that has come and was not expected before, or the next that comes."""
        seen = 0
        while True:
            for at in range(seen, len(self._frames)):
                frame = self._frames[at]
                if isinstance(frame, kind) and stream in (None, frame.stream_id):
                    return self._frames.pop(at)
            seen = len(self._frames)
            assert self.read_frame() is not None, f"the client closed, and no {kind.__name__} came of stream {stream}"

    def expect_reset(self, request: Request, code: int) -> None:
        """RST_STREAM of that request, with that code."""
        assert self.expect(RstStreamFrame, request.stream).error_code == code

    def expect_alive(self) -> None:
        """The client answers a PING, after whatever it was told before."""
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

    # What is said.

    def send(self, data: bytes) -> None:
        self.conn.sock.sendall(data)

    def say(self, *frames: Frame) -> None:
        self.send(b"".join(frame.serialize() for frame in frames))

    def start(self, settings: dict[int, int] | None = None) -> None:
        """The opening words of both, each acknowledged by the other."""
        self.read_preface()
        self.say(SettingsFrame(settings=settings or {}), SettingsFrame(flags=["ACK"]))
        while "ACK" not in self.expect(SettingsFrame).flags:
            pass

    def headers(self, stream: int, fields: Fields, end: bool = False, pieces: int = 1) -> None:
        """Fields as they are, in a HEADERS frame, and more of CONTINUATION where more pieces are wanted."""
        self.block(stream, self.encoder.encode(list(fields)), end, pieces)

    def block(self, stream: int, block: bytes, end: bool = False, pieces: int = 1) -> None:
        """Such frames of what is encoded already, well or badly."""
        step = min(-(-len(block) // pieces), FRAME) or 1
        parts = [block[at : at + step] for at in range(0, len(block), step)] or [b""]
        flags = [["END_STREAM"] if end else [], *([] for _ in parts[1:])]
        flags[-1].append("END_HEADERS")
        kinds = [HeadersFrame, *(ContinuationFrame for _ in parts[1:])]
        self.say(*(kind(stream, part, flags=names) for kind, part, names in zip(kinds, parts, flags, strict=True)))

    def data(self, stream: int, data: bytes = b"", end: bool = False) -> None:
        """DATA, in as many frames as it takes, whether the client's windows allow it or not."""
        parts = [data[at : at + FRAME] for at in range(0, len(data), FRAME)] or [b""]
        last = len(parts) - 1
        self.say(*(DataFrame(stream, part, flags=["END_STREAM"] * (end and n == last)) for n, part in enumerate(parts)))
        self.room[0] -= len(data)
        self.room[stream] -= len(data)

    def body(self, stream: int, data: bytes, end: bool = True) -> None:
        """DATA as the client's windows allow it."""
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
        """A whole, well-formed response, as the client's windows allow it."""
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
        """SETTINGS, whose acknowledgement is not waited for."""
        self.say(SettingsFrame(settings=settings))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """Any frame at all, or one that says that it has another length (section 4.1)."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


Script = Callable[[Talk], object]


def serve_targets(talk: Talk) -> None:
    """The plainest good server: every request gets a 200 whose body names its target."""
    talk.start()
    while request := talk.read_request():
        talk.respond(request, request.target.encode("latin-1"))


def scripted(script: Script) -> Callable[[Conn], object]:
    """A script of a `Talk`, for a `Peer`."""
    return lambda conn: script(Talk(conn))


def played(peer: Peer) -> None:
    """Waits until the scripts of all connections have ended, so that what they assert counts."""
    until(lambda: peer.open_now == 0)
    if peer.errors:
        raise peer.errors[0]


@contextmanager
def blaming(peer: Peer) -> Iterator[None]:
    """Where a script has failed, that is why the test has."""
    try:
        yield
    except Exception as error:
        if peer.errors:
            raise peer.errors[0] from error
        raise


@contextmanager
def talking(*scripts: Script, **options: Any) -> Iterator[tuple[Peer, HTTPClient]]:
    """A peer that plays `scripts` in the clear, and a client that knows what it speaks."""
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
    """A peer that plays `scripts` behind a handshake, in which it offers `alpn`, and a client that trusts it."""
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
