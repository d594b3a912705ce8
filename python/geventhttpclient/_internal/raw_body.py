"""The file `fp` of http.client's responses, and its socket `fp.raw`, which some programs use directly.

urllib3 decodes the chunked coding itself when it streams, with `fp.readline()` and `_safe_read()`. docker-py disables
the timeout of `fp.raw._sock`, and uses it for another protocol after an upgrade.
"""

from __future__ import annotations

import io
import os
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import gevent.socket

from geventhttpclient._parser import HTTPParseError
from geventhttpclient.response import HTTPConnectionClosed, _as_builtin, _has_broken, computed

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from geventhttpclient._core import ResponseBase

# Most bytes of one read if the caller gives no size.
PIECE = 65536


class Rechunked:
    """Mixin for responses whose decoded body can be read as if it were still chunked: each piece that is received
    becomes a chunk, without extensions and trailers."""

    # The piece whose size the reader of chunks has received, the bytes that it has taken, and the end of the body.
    _piece = b""
    _taken = 0
    _is_ended = False

    def _below(self) -> ResponseBase | None:
        """Returns the engine's response, if there is one."""
        raise NotImplementedError

    def _other_socket(self) -> Any:
        """Returns the program's socket that the response was read from, if there is one."""
        return None

    def _waiting(self) -> AbstractContextManager[Any]:
        """Returns a context manager for code that may wait for the peer."""
        return nullcontext()

    @computed
    def chunk_left(self) -> Any:
        """Number of bytes of a chunked body that can be read without waiting; None if the body is not chunked."""
        message = self._below()
        return message._ready_length() if message is not None and is_chunked(message) else None

    def _safe_read(self, size: int) -> bytes:
        start = self._taken
        if start >= len(self._piece):
            return b"\r\n"
        # The rest is not copied, since it may be taken byte by byte.
        self._taken = start + size
        return self._piece[start : self._taken]

    def _size_line(self) -> bytes:
        """Returns the line with the size of the next piece, or the empty line after the last one."""
        message = self._below()
        if message is None or self._is_ended:
            self.close()  # type: ignore[attr-defined]
            return b"\r\n"
        try:
            with self._waiting():
                self._piece, self._taken = message._read_available(PIECE), 0
        except HTTPConnectionClosed as error:
            if _has_broken(error):
                raise _as_builtin(error) from error
            # End of file instead of a size.
            return b""
        except HTTPParseError as error:
            # Not a size either: urllib3 quotes it as the invalid line.
            return str(error.args[0]).encode()
        self._is_ended = not self._piece
        return b"%x\r\n" % len(self._piece)


def is_chunked(message: ResponseBase) -> bool:
    """Returns True if the head declares a chunked body, by urllib3's rules."""
    lines = message._field("transfer-encoding")
    listed = ",".join(lines) if isinstance(lines, list) else lines or ""
    return any(coding.strip().lower() == "chunked" for coding in listed.split(","))


class BodyFile(io.BufferedIOBase):
    """The file `fp` of a response: the data after its head. Lines of a chunked body are the size lines of chunks."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def readable(self) -> bool:
        """Returns True."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads `size` bytes of the body, without its framing; the rest if no size is given."""
        data: bytes = self._response.read(None if size is None or size < 0 else size)
        return data

    def read1(self, size: int = -1, /) -> bytes:
        """Reads the available bytes, at most `size`."""
        message = self._response._below()
        return b"" if message is None else message._read_available(size if size > 0 else PIECE)

    def peek(self, size: int = 0, /) -> bytes:
        """Returns the available bytes without consuming them."""
        message = self._response._below()
        return b"" if message is None else message._peek(size if size > 0 else PIECE)

    def readinto(self, buffer: Buffer, /) -> int:
        """Reads into a writable buffer, and returns the number of bytes."""
        view = memoryview(buffer).cast("B")
        data = self.read(view.nbytes)
        view[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Reads a line of the body; the size line of the next chunk if the body is chunked."""
        message = self._response._below()
        if message is None or is_chunked(message):
            line: bytes = self._response._size_line()
            return line
        if size is None or size < 0:
            return bytes(message.readline(b"\n"))
        return bytes(super().readline(size))

    def fileno(self) -> int:
        """Returns the file descriptor of the socket."""
        return self.raw.fileno()

    @property
    def raw(self) -> RawBody:
        """The socket."""
        return RawBody(self._response)


class RawBody(io.RawIOBase):
    """The socket of a response, `fp.raw` and `fp.raw._sock`: reads the data after the head, and writes.

    After 101, and during a body without a length, both ends may speak another protocol. Over TLS, only a connection
    that the program has opened can be written to.
    """

    def __init__(self, response: Any) -> None:
        self._of = response

    @property
    def _sock(self) -> RawBody:
        return self

    def _upgraded(self) -> Any:
        """Returns the program's socket if the response no longer uses it."""
        message = self._of._below()
        return self._of._other_socket() if message is None or not message._is_attached() else None

    def readable(self) -> bool:
        """Returns True."""
        return True

    def writable(self) -> bool:
        """Returns True."""
        return True

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Reads the available bytes, at most `size`. Returns b"" at the end."""
        message, source = self._of._below(), self._upgraded()
        if message is not None and (source is None or message._ready_length()):
            with self._of._waiting():
                return message._read_available(size) if size else b""
        data: bytes = source.recv(size) if source is not None else b""
        return data

    def read(self, size: int = -1, /) -> bytes:
        """Reads the available bytes, at most `size`; reads to the end if no size is given."""
        if size is not None and size >= 0:
            return self.recv(size)
        return b"".join(iter(lambda: self.recv(PIECE), b""))

    def readinto(self, buffer: Buffer, /) -> int:
        """Reads the available bytes into a writable buffer, and returns their number."""
        view = memoryview(buffer).cast("B")
        data = self.recv(view.nbytes)
        view[: len(data)] = data
        return len(data)

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Reads at most `nbytes` bytes into a writable buffer, like `readinto`."""
        view = memoryview(buffer).cast("B")
        return self.readinto(view[: nbytes or view.nbytes])

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """Sends all of the data."""
        source = self._of._other_socket()
        if source is not None and source.fileno() >= 0:
            source.sendall(data)
            return
        with gevent.socket.socket(fileno=os.dup(self.fileno())) as same:
            same.sendall(data)

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Sends all of the data, and returns the number of bytes."""
        self.sendall(data)
        return memoryview(data).nbytes

    def write(self, data: Buffer, /) -> int:
        """Sends all of the data, like `send`."""
        return self.send(data)

    def shutdown(self, how: int) -> None:
        """Shuts down the connection, like socket.shutdown(). Closes it instead if another greenlet is reading, since
        that greenlet has the socket."""
        message, source = self._of._below(), self._of._other_socket()
        if source is None and message is not None and message._is_attached() and message._fileno() < 0:
            message.release()
            return
        with socket.socket(fileno=os.dup(self.fileno())) as same:
            same.shutdown(how)

    def gettimeout(self) -> float | None:
        """Returns the timeout of a single wait for the peer, in seconds; None for no limit."""
        source, message = self._of._other_socket(), self._of._below()
        if message is not None and message._is_attached():
            limit: float | None = message._gettimeout()
            return limit
        seconds: float | None = source.gettimeout() if source is not None and source.fileno() >= 0 else None
        return seconds

    def settimeout(self, value: float | None) -> None:
        """Sets the timeout, from the next wait on."""
        source, message = self._of._other_socket(), self._of._below()
        if message is not None:
            message._settimeout(value)
        if source is not None and source.fileno() >= 0:
            source.settimeout(value)

    def fileno(self) -> int:
        """Returns the file descriptor of the socket. Raises OSError if it is closed."""
        message, source = self._of._below(), self._of._other_socket()
        number = -1 if message is None else message._fileno()
        number = number if number >= 0 or source is None else source.fileno()
        if number < 0:
            raise OSError("the connection of the response is closed")
        return number

    def close(self) -> None:
        """Closes the response, and the socket that remains after a 101."""
        of, source = getattr(self, "_of", None), None
        if of is not None and not self.closed:
            source = self._upgraded()
            of.close()
        if source is not None:
            source.close()
        super().close()

    def __del__(self) -> None:
        """Leaves the response open, since each access to `fp.raw` creates another object."""
