"""urllib3's responses, which read from the engine."""

from __future__ import annotations

import errno
import io
import zlib
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPMessage
from http.client import IncompleteRead as StandardIncompleteRead
from typing import TYPE_CHECKING, Any

import gevent
import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import DecodeError, IncompleteRead

from geventhttpclient import _core
from geventhttpclient._core import ResponseBase
from geventhttpclient._internal.raw_body import PIECE, BodyFile, Rechunked, is_chunked
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.cookies import is_readable
from geventhttpclient.response import HTTPConnectionClosed, _as_builtin, _has_broken

if TYPE_CHECKING:
    from collections.abc import Iterator


class EngineResponse(ResponseBase, Rechunked):
    """The engine's response with the interface of http.client's, from which urllib3's response reads."""

    _done = False
    # The event loop and the greenlet that waits for the body.
    _reader: tuple[Any, Any] | None = None

    def isclosed(self) -> bool:
        """Returns True if the body has been read to its end, or the response was closed."""
        return self._done

    @property
    def closed(self) -> bool:
        """True if `isclosed()` is."""
        return self._done

    def close(self) -> None:
        """Closes the response, and its connection unless the body has been read."""
        self._done = True
        self.release()

    def fileno(self) -> int:
        """Returns the file descriptor of the socket that the body is read from. Raises io.UnsupportedOperation if there
        is none any more.

        CPython 3.10 calls this if a text file is created from a response.
        """
        number = self._fileno()
        if number < 0:
            raise io.UnsupportedOperation("the body is not read from a socket of its own")
        return number

    @property
    def _method(self) -> str:
        extras = self._extras()
        return "GET" if extras is None else extras[0]

    @property
    def msg(self) -> HTTPMessage:
        """The header fields with http.client's interface, for cookie jars: without those that `cookies.is_readable`
        rejects."""
        message = HTTPMessage()
        for name, value in self._pairs():
            if is_readable(name, value):
                message[name] = value
        return message

    @property
    def chunked(self) -> bool:
        """True if the body has the chunked coding."""
        return is_chunked(self)

    @property
    def fp(self) -> BodyFile | None:
        """The body as a file, whose lines urllib3's reader of chunks uses; None after the response was closed."""
        return None if self._done else BodyFile(self)

    def _below(self) -> ResponseBase | None:
        return self

    def _waiting(self) -> AbstractContextManager[Any]:
        return self.waiting()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Returns a context manager for code that may wait for the peer, which `shutdown` interrupts."""
        self._reader = (gevent.get_hub().loop, gevent.getcurrent())
        try:
            yield
        finally:
            self._reader = None

    def shutdown(self, _how: int) -> None:
        """Interrupts a read in any greenlet and thread, which raises ConnectionAbortedError."""
        if (reader := self._reader) is not None:
            loop, greenlet = reader
            loop.run_callback_threadsafe(self._interrupt, greenlet)

    def _interrupt(self, greenlet: Any) -> None:
        # The read may have ended by itself in the meantime.
        if self._reader is not None and self._reader[1] is greenlet:
            greenlet.throw(ConnectionAbortedError(errno.ECONNABORTED, "the response was shut down"))


class HTTPResponse(urllib3.HTTPResponse):
    """urllib3's response, which reads from the engine.

    Its attributes are created when one of them is first accessed, since most programs use few. The pieces of a chunked
    body are those that are received, not the peer's chunks. `shutdown()` interrupts a read that waits in another
    greenlet or thread, and does nothing if there is none.
    """

    headers: HTTPHeaderDict
    length_remaining: int | None
    _fp: Any

    def __init__(
        self,
        wire: EngineResponse,
        method: str,
        url: str,
        pool: Any,
        connection: Any,
        retries: urllib3.Retry | None,
        preload_content: bool,
        decode_content: bool,
        enforce_content_length: bool,
    ) -> None:
        """Makes the response to a request with that method and target. The connection is None if the pool already has
        it back."""
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
        # The program may have assigned some of them already.
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
        # A response that is dropped unread frees its place in the pool.
        if self.__dict__.get("_connection") is not None:
            self.close()
            self.release_conn()

    def take_whole(self) -> bytes | None:
        """Returns the whole body if none of it has been read, all of it has been received and it has no content coding;
        else None."""
        wire = self._fp
        if "_asked" not in self.__dict__ or not wire._is_complete() or wire._field("content-encoding") is not None:
            return None
        # Errors are not possible any more.
        data: bytes = wire.read()
        wire._done = True
        self._fp_bytes_read = len(data)
        self.release_conn()
        return data

    def release_conn(self) -> None:
        """Returns the connection to the pool, and drops the reference to the pool."""
        if self._connection is not None:
            super().release_conn()
        if self._connection is None:
            # A response that is kept must not keep the pool and its connections.
            self._pool = None

    def _init_decoder(self) -> None:
        if not self._decoder_initialized and (coding := self.headers.get("content-encoding")):
            self._decoder = _Decoder(coding)  # type: ignore[assignment]
        self._decoder_initialized = True

    @contextmanager
    def _error_catcher(self) -> Iterator[None]:
        # The same as urllib3's own for http.client's response, which it finds by an attribute that may be None here.
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
        if not isinstance(wire, EngineResponse):
            return super()._fp_read(amt, read1=read1) if read1 else super()._fp_read(amt)
        before = wire.get_remaining_content_length()
        try:
            with wire.waiting():
                if read1:
                    return wire._read_available(PIECE if amt is None or amt < 0 else amt)
                # If a body with a known length is truncated, the bytes received are returned, and the next read raises
                # the error if `enforce_content_length` is set.
                is_counted = self.length_remaining is not None
                data = wire.read(amt) if amt is None or not is_counted else _read_up_to(wire, amt)
        except HTTPConnectionClosed as error:
            if _has_broken(error):
                raise _as_builtin(error) from error
            if self.length_remaining is None:
                raise StandardIncompleteRead(b"") from error
            left = wire.get_remaining_content_length()
            raise IncompleteRead(self._fp_bytes_read + before - left, left) from error
        except HTTPParseError as error:
            raise StandardIncompleteRead(b"") from error
        if amt is None or (len(data) < amt and not is_counted) or self.length_remaining == len(data):
            wire.close()
        return data


def _read_up_to(wire: EngineResponse, amt: int) -> bytes:
    """Reads `amt` bytes, or fewer if the peer ends the body too early."""
    pieces: list[bytes] = []
    while amt > 0:
        try:
            piece = wire._read_available(amt)
        except HTTPConnectionClosed as error:
            if _has_broken(error):
                raise _as_builtin(error) from error
            break
        if not piece:
            break
        pieces.append(piece)
        amt -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Decoder:
    """The engine's decoder with the interface of urllib3's. It limits the size that a few bytes may decode to."""

    def __init__(self, coding: str) -> None:
        self._coding = coding.lower()
        self._decoder: _core.Decoder | None = None
        # The input, and the number of its bytes that have been decoded.
        self._data, self._at = b"", 0
        # Whether more output is possible without more input.
        self.has_unconsumed_tail = False

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Decodes the bytes. Returns at most `max_length` bytes if it is given; the rest is left for the next call."""
        if self._at >= len(self._data):
            self._data, self._at = data, 0
        elif data:
            self._data, self._at = self._data[self._at :] + data, 0
        if not self._data and not self.has_unconsumed_tail:
            return b""
        if self._decoder is None:
            # Created for the first byte: an empty body has no coding, even if the header names one.
            self._decoder = _core.Decoder(self._coding)
        self.has_unconsumed_tail = False
        if max_length < 0:
            data, self._data, at, self._at = self._data, b"", self._at, 0
            return self._decoder.feed(data[at:])
        # The rest is not copied, since the caller may take the decoded data byte by byte.
        piece, self._at = self._decoder.feed_part(self._data, self._at, max_length)
        self.has_unconsumed_tail = len(piece) == max_length
        return piece

    def flush(self) -> bytes:
        try:
            return b"" if self._decoder is None else self._decoder.finish()
        except zlib.error as error:
            text = f"Received response with content-encoding: {self._coding}, but failed to decode it."
            raise DecodeError(text, error) from error


def _fields_of(wire: ResponseBase) -> HTTPHeaderDict:
    """Returns the header fields, stored as `add` would store them: calling it would take as long as the exchange
    itself."""
    fields = HTTPHeaderDict()
    lines = fields._container
    for name, value in wire._pairs():
        line = lines.get(key := name.lower())
        if line is None:
            lines[key] = [name, value]
        else:
            line.append(value)
    return fields
