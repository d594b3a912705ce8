"""Responses of urllib3, read from the engine."""

from __future__ import annotations

import errno
import io
import zlib
from contextlib import contextmanager
from http.client import HTTPMessage
from http.client import IncompleteRead as StandardIncompleteRead
from typing import TYPE_CHECKING, Any

import gevent
import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import DecodeError, IncompleteRead

from geventhttpclient import _core
from geventhttpclient._core import Message
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.cookies import is_readable
from geventhttpclient.response import HTTPConnectionClosed

if TYPE_CHECKING:
    from collections.abc import Iterator

# How much of a body is read at once where the caller leaves that to us.
PIECE = 65536


class Wire(Message):
    """What urllib3's response reads from: the engine's message, in the shape that it expects of http.client's."""

    _done = False
    # Of a body that is read by urllib3's reader of chunks: what it has been told of and not taken, and the end.
    _piece = b""
    _taken = 0
    _is_ended = False
    # Who waits for the body, and in which loop.
    _reader: tuple[Any, Any] | None = None

    def isclosed(self) -> bool:
        """Whether the body has been read to its end, or was given up."""
        return self._done

    @property
    def closed(self) -> bool:
        """The same as `isclosed()`."""
        return self._done

    def close(self) -> None:
        """Gives the body up; the connection is closed unless it had been read."""
        self._done = True
        self.release()

    def fileno(self) -> int:
        """The number of the socket that the body comes from; io.UnsupportedOperation where there is none any more.

        CPython 3.10 asks for it when a text file is made of a response.
        """
        number = self._fileno()
        if number < 0:
            raise io.UnsupportedOperation("the body comes from no socket of its own")
        return number

    @property
    def _method(self) -> str:
        extras = self._extras()
        return "GET" if extras is None else extras[0]

    @property
    def msg(self) -> HTTPMessage:
        """The header fields as http.client has them, for cookie jars: without what `cookies.is_readable` refuses."""
        message = HTTPMessage()
        for name, value in self._pairs():
            if is_readable(name, value):
                message[name] = value
        return message

    @property
    def fp(self) -> _Chunks | None:
        """The body for urllib3's own reader of chunks, until it is closed."""
        return None if self._done else _Chunks(self)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what may wait for the peer: `shutdown` ends it."""
        self._reader = (gevent.get_hub().loop, gevent.getcurrent())
        try:
            yield
        finally:
            self._reader = None

    def shutdown(self, _how: int) -> None:
        """Ends the wait of whoever is reading, in whatever greenlet and thread, with ConnectionAbortedError."""
        if (reader := self._reader) is not None:
            loop, greenlet = reader
            loop.run_callback_threadsafe(self._interrupt, greenlet)

    def _interrupt(self, greenlet: Any) -> None:
        # It may have come to an end by itself meanwhile.
        if self._reader is not None and self._reader[1] is greenlet:
            greenlet.throw(ConnectionAbortedError(errno.ECONNABORTED, "the response was shut down"))

    def _safe_read(self, size: int) -> bytes:
        start = self._taken
        if start >= len(self._piece):
            return b"\r\n"
        # What is left is not copied: somebody may take it byte by byte.
        self._taken = start + size
        return self._piece[start : self._taken]


class _Chunks:
    """A body as if it were still chunked: each piece that comes is a chunk, without extensions and trailers.

    urllib3 takes the coding off by itself when it streams, and decodes and counts what is in there. Here it is off.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def readline(self, _limit: int = -1) -> bytes:
        """The line that says how long the next piece is, or the empty line behind the last one."""
        wire = self._wire
        if wire._is_ended:
            wire.close()
            return b"\r\n"
        try:
            with wire.waiting():
                wire._piece, wire._taken = wire._read_available(PIECE), 0
        except HTTPConnectionClosed:
            # The end, where a number should have been.
            return b""
        except HTTPParseError as error:
            # No number either: urllib3 shows it as what stood in its place.
            return str(error.args[0]).encode()
        wire._is_ended = not wire._piece
        return b"%x\r\n" % len(wire._piece)


class HTTPResponse(urllib3.HTTPResponse):
    """urllib3's response, which reads from the engine.

    Most programs look at little of it: its attributes are made when the first of them is asked for. Pieces of a chunked
    body are those that come, not those that the peer made. `shutdown()` ends a read that waits in another greenlet or
    thread, and does nothing where none does.
    """

    headers: HTTPHeaderDict
    length_remaining: int | None
    _fp: Any

    def __init__(
        self,
        wire: Wire,
        method: str,
        url: str,
        pool: Any,
        connection: Any,
        retries: urllib3.Retry | None,
        preload_content: bool,
        decode_content: bool,
        enforce_content_length: bool,
    ) -> None:
        """For the answer to a request of that method and target. The connection is None where the pool has it back."""
        self._fp = wire
        self._original_response: Any = wire
        self._pool = pool
        self._connection = connection
        self.status: int = wire.get_code()
        self._asked = (method, url, retries, decode_content, enforce_content_length)
        if preload_content:
            data = self.take_whole()
            self._body = self.read(decode_content=decode_content) if data is None else data

    def __getattr__(self, name: str) -> Any:
        if "_asked" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        wire = self._fp
        if name == "headers":
            self.headers = _fields_of(wire)
            return self.headers
        method, url, retries, decode_content, enforce_content_length = vars(self).pop("_asked")
        # Somebody may have set some of them already.
        given = dict(self.__dict__)
        version = wire.get_http_version()
        super().__init__(
            body=wire,
            headers=given.get("headers") or _fields_of(wire),
            status=self.status,
            version=10 if version == "HTTP/1.0" else 11,
            version_string=version,
            reason=wire._reason(),
            preload_content=False,
            decode_content=decode_content,
            retries=retries,
            enforce_content_length=enforce_content_length,
            request_method=method,
            request_url=url,
            sock_shutdown=wire.shutdown,
        )
        vars(self).update(given)
        if self.length_remaining is not None:
            self.length_remaining -= self._fp_bytes_read
        return getattr(self, name)

    def __del__(self) -> None:
        # One that is dropped unread gives its place in the pool back.
        if self.__dict__.get("_connection") is not None:
            self.close()
            self.release_conn()

    def take_whole(self) -> bytes | None:
        """The body, if nobody has asked for any of it yet, all of it has come and no coding is on it; else None."""
        wire = self._fp
        if "_asked" not in self.__dict__ or not wire._is_complete() or wire._field("content-encoding") is not None:
            return None
        # Nothing can go wrong any more.
        data: bytes = wire.read()
        wire._done = True
        self._fp_bytes_read = len(data)
        self.release_conn()
        return data

    def release_conn(self) -> None:
        """Gives the connection back to the pool, which has nothing to do with this response any more."""
        if self._connection is not None:
            super().release_conn()
        if self._connection is None:
            # One that is kept does not keep the pool and its connections.
            self._pool = None

    def _init_decoder(self) -> None:
        if not self._decoder_initialized and (coding := self.headers.get("content-encoding")):
            self._decoder = _Decoder(coding)  # type: ignore[assignment]
        self._decoder_initialized = True

    @contextmanager
    def _error_catcher(self) -> Iterator[None]:
        # What urllib3's does with the response of http.client, which it knows by an attribute that may be None here.
        wire = self._fp
        try:
            with super()._error_catcher():
                yield
        except BaseException:
            wire.close()
            raise
        finally:
            if wire is not None and wire.closed:
                self.release_conn()

    def _fp_read(self, amt: int | None = None, *, read1: bool = False) -> bytes:
        wire = self._fp
        if not isinstance(wire, Wire):
            return super()._fp_read(amt, read1=read1) if read1 else super()._fp_read(amt)
        before = wire.get_remaining_content_length()
        try:
            with wire.waiting():
                if read1:
                    return wire._read_available(PIECE if amt is None or amt < 0 else amt)
                # Of a counted body that breaks off, what has come is handed out; that it was too little is told with
                # the next read, unless nobody wants to know.
                is_counted = self.length_remaining is not None
                data = wire.read(amt) if amt is None or not is_counted else _read_what_comes(wire, amt)
        except HTTPConnectionClosed as error:
            if self.length_remaining is None:
                raise StandardIncompleteRead(b"") from error
            left = wire.get_remaining_content_length()
            raise IncompleteRead(self._fp_bytes_read + before - left, left) from error
        except HTTPParseError as error:
            raise StandardIncompleteRead(b"") from error
        if amt is None or (len(data) < amt and not is_counted) or self.length_remaining == len(data):
            wire.close()
        return data


def _read_what_comes(wire: Wire, amt: int) -> bytes:
    """`amt` bytes, or as many as there are when the peer ends the body too soon."""
    pieces: list[bytes] = []
    while amt > 0:
        try:
            piece = wire._read_available(amt)
        except HTTPConnectionClosed:
            break
        if not piece:
            break
        pieces.append(piece)
        amt -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Decoder:
    """The engine's decoder, as urllib3 uses its own. It bounds by itself what may come of a few bytes."""

    def __init__(self, coding: str) -> None:
        self._coding = coding.lower()
        self._decoder: _core.Decoder | None = None
        # What was put in, and how much of it has been decoded.
        self._data, self._at = b"", 0
        # Whether more can come out before more is put in.
        self.has_unconsumed_tail = False

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """What the bytes decode to, or the beginning of that: the rest stays for the next call."""
        if self._at >= len(self._data):
            self._data, self._at = data, 0
        elif data:
            self._data, self._at = self._data[self._at :] + data, 0
        if not self._data and not self.has_unconsumed_tail:
            return b""
        if self._decoder is None:
            # Made for the first byte: an empty body has no coding, whatever the header says.
            self._decoder = _core.Decoder(self._coding)
        self.has_unconsumed_tail = False
        if max_length < 0:
            data, self._data, at, self._at = self._data, b"", self._at, 0
            return self._decoder.feed(data[at:])
        # What is left is not copied: somebody may take what it decodes to byte by byte.
        piece, self._at = self._decoder.feed_part(self._data, self._at, max_length)
        self.has_unconsumed_tail = len(piece) == max_length
        return piece

    def flush(self) -> bytes:
        try:
            return b"" if self._decoder is None else self._decoder.finish()
        except zlib.error as error:
            text = f"Received response with content-encoding: {self._coding}, but failed to decode it."
            raise DecodeError(text, error) from error


def _fields_of(wire: Message) -> HTTPHeaderDict:
    """The header fields, put where `add` would put them: by its way they take as long as the exchange itself."""
    fields = HTTPHeaderDict()
    lines = fields._container
    for name, value in wire._pairs():
        line = lines.get(key := name.lower())
        if line is None:
            lines[key] = [name, value]
        else:
            line.append(value)
    return fields
