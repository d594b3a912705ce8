"""HTTPResponse with http.client's interface (attributes, reading methods, exceptions), on the engine's response."""

from __future__ import annotations

import http.client
import io
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import gevent.monkey
import gevent.socket

from geventhttpclient import _core
from geventhttpclient._internal.raw_body import BodyFile, Rechunked, is_chunked
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.header import Headers
from geventhttpclient.response import HTTPConnectionClosed, _as_builtin, _has_broken, computed
from geventhttpclient.timings import Timings, timings_of

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

# Most bytes of one read from a socket that is read in Python, and most bytes that read1(-1) returns.
BLOCK_SIZE = 64 * 1024

# Sockets that the engine reads directly. Subclasses may override reading.
_PLAIN_SOCKETS: tuple[type, ...] = (gevent.monkey.get_original("socket", "socket"), gevent.socket.socket)

# The class whose waits block the thread, even if gevent.monkey has replaced it.
_BlockingTLSSocket: type[ssl.SSLSocket] = gevent.monkey.get_original("ssl", "SSLSocket")

# The numbers of HTTPParseError (those of llhttp) for which http.client has classes.
_NO_HTTP, _BAD_VERSION, _BAD_STATUS, _BEYOND_LIMITS = 8, 9, 13, 24


class HTTPLibHeaders(http.client.HTTPMessage):
    """Header fields with http.client's interface: an email.message.Message, filled without a parser of e-mails."""

    @classmethod
    def _of(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        headers = cls()
        # The payload that a parser sets if nothing follows the fields.
        headers.set_payload("")
        for name, value in pairs:
            headers.set_raw(name, value)
        return headers


class HTTPResponse(Rechunked, http.client.HTTPResponse):
    """Drop-in replacement of http.client.HTTPResponse, whose documentation applies. The engine reads the connection;
    the file `fp` is created on access.

    If a body with a Content-Length is truncated, `read(n)` returns the bytes that were received, and then b"", as in
    http.client. `read()` of any truncated body raises IncompleteRead, whose `partial` has the bytes received.
    """

    def __init__(
        self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None, **_: Any
    ) -> None:
        """Makes a response for a socket on which the request was sent. Nothing is read before `begin()`."""
        self._source = sock
        self.debuglevel = debuglevel
        self._method = method
        self.url = url  # type: ignore[assignment]
        self._message: _core.ResponseBase | None = None
        self._open = True

    # ------------------------------------------------------------------------------------------------------- the head

    def begin(self) -> None:
        """Reads the head, unless it has been read."""
        if self._message is not None:
            return
        if type(self)._read_status is HTTPResponse._read_status and self.debuglevel <= 0:
            self._read_headers()
            return
        version, status, reason = self._read_status()
        if self._message is None:
            # A subclass has read the first line by itself, perhaps including its line end.
            self._read_headers(f"{version} {status} {reason.strip()}\r\n".encode("latin-1"))
        if self.debuglevel > 0:
            print("reply:", repr(f"{version} {status} {reason}\r\n"))
            for name, value in self.headers.items():
                print("header:", name + ":", value)

    def _read_status(self) -> tuple[str, int, str]:
        self._read_headers()
        message = self._message
        if message is None:
            return "", 0, ""
        return message.get_http_version(), message.get_code(), message._reason() or ""

    def _read_headers(self, status_line: bytes = b"") -> None:
        """Reads the head, whose `status_line` has been read before if it is given."""
        source, method = self._source, self._method or "GET"
        if method == "CONNECT":
            # The data of the tunnel is read from the response, or via its `fileno()`, as in http.client.
            method = "GET"
        try:
            if isinstance(source, _core.Connection) and not status_line:
                self._message = source._answer(method)
                return
            message = _core.ResponseBase()
            if type(source) in _PLAIN_SOCKETS and not status_line:
                message._read_head_sharing(source.fileno(), source.gettimeout(), method)
            else:
                message._read_head_from(_readable(source), status_line, BLOCK_SIZE, method, Headers)
            self._message = message
        except HTTPParseError as error:
            self._open = False
            found = _as_of_http_client(error)
            if found is error:
                raise
            raise found from error

    def get_code(self) -> int:
        """Returns the status code; 0 before `begin()`."""
        return 0 if self._message is None else self._message.get_code()

    # Programs may assign these attributes.
    status: int = computed(lambda self: self.get_code())
    code: int = computed(lambda self: self.status)

    @computed
    def reason(self) -> str:
        """The reason phrase, which may be empty."""
        return "" if self._message is None else (self._message._reason() or "").strip()

    @computed
    def version(self) -> int:
        """11 for HTTP/1.1, 10 for HTTP/1.0."""
        return 10 if self._message is not None and self._message.get_http_version() == "HTTP/1.0" else 11

    @computed
    def headers(self) -> http.client.HTTPMessage:
        """The header fields, which are converted to Python objects on the first access; None before `begin()`."""
        if self._message is None:
            return None  # type: ignore[return-value]
        self.headers = found = HTTPLibHeaders._of(self._message._pairs())
        return found

    msg: http.client.HTTPMessage = computed(lambda self: self.headers)

    def info(self) -> http.client.HTTPMessage:
        """Returns the header fields."""
        if self.headers is None:
            self.headers = HTTPLibHeaders()
        return self.headers

    def getheader(self, name: str, default: Any = None) -> Any:
        """Returns the value of a field, or the values of all its lines joined by commas; `default` if there is none."""
        if self._message is None or "headers" in self.__dict__:
            return super().getheader(name, default)
        found = self._message._field(name)
        if found is None:
            return default if isinstance(default, str) or not hasattr(default, "__iter__") else ", ".join(default)
        return found if isinstance(found, str) else ", ".join(found)

    def getheaders(self) -> list[tuple[str, str]]:
        """Returns all header lines as (name, value)."""
        if self._message is None or "headers" in self.__dict__:
            return super().getheaders()
        return self._message._pairs()

    @computed
    def will_close(self) -> bool:
        """True if the connection ends with this response."""
        # After 101 it continues with another protocol.
        return self._message is not None and not (self._message.should_keep_alive() or self.status == 101)

    @computed
    def chunked(self) -> bool:
        """True if the body has the chunked coding."""
        return self._message is not None and is_chunked(self._message)

    @computed
    def length(self) -> int | None:
        """Number of bytes of the body that have not been read; None if it is not known."""
        if self._message is None or self.chunked:
            return None
        left = self._message.get_remaining_content_length()
        if left or self._message._field("content-length") is not None:
            return left
        code = self.get_code()
        return 0 if self._method == "HEAD" or code in (204, 304) or code < 200 else None

    # Attributes of 2.6.1

    @property
    def content_length(self) -> int | None:
        """The value of Content-Length; None if it is missing or invalid."""
        length = self.getheader("content-length")
        is_number = isinstance(length, str) and length.isascii() and length.isdigit() and len(length) < 1000
        return int(length) if is_number else None

    @property
    def status_code(self) -> int:
        """The status code; 0 before `begin()`."""
        return self.status

    @computed
    def message_complete(self) -> bool:
        """True if the whole response has been received."""
        return self._message is not None and self._message._is_complete()

    def should_keep_alive(self) -> bool:
        """Returns True if the connection can be reused after the body has been read."""
        return self._message is not None and self._message.should_keep_alive()

    def should_close(self) -> bool:
        """Returns True if the connection cannot be reused, or not yet, since the rest of the body has not been read."""
        return not self.message_complete or not self.should_keep_alive()

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the value of a field, or the values of all its lines joined by commas; `default` if there is none."""
        value = self.getheader(name)
        return default if value is None else value

    def items(self) -> list[tuple[str, str]]:
        """Returns all header lines as (name, value)."""
        return self.getheaders()

    def __getitem__(self, name: str) -> str:
        value = self.getheader(name)
        if value is None:
            raise KeyError(name)
        return str(value)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.getheader(name) is not None

    def release(self) -> None:
        """Closes the response: an alias of `close`."""
        self.close()

    @property
    def trailers(self) -> HTTPLibHeaders:
        """The trailer fields after a chunked body, available after that has been read (RFC 9110 section 6.5)."""
        return HTTPLibHeaders._of([] if self._message is None else self._message._trailers())

    @property
    def timings(self) -> Timings:
        """The times of the request's steps (see geventhttpclient.timings).

        The first response of a connection includes the steps of its dial. Since the dial had ended before the request
        began, `total` does not include them.
        """
        return Timings() if self._message is None else timings_of(self._message)

    # ------------------------------------------------------------------------------------------------------- the body

    def read(self, amt: int | None = None) -> bytes:
        """Reads `amt` bytes, or the rest if fewer are left or `amt` is not given. Returns b"" at the end.

        Raises IncompleteRead if the body is truncated, unless `amt` is given and the body has a Content-Length.
        """
        message = self._message
        if message is None or not self._open:
            return b""
        if amt is None or amt < 0:
            amt = None
            if message._is_complete():
                return message.read()
        data, error = message._read_as_far_as_it_goes(amt)
        if error is None:
            return data
        if amt is None or not data:
            self._open = False
        if self._is_cut(error) and amt is not None and self._is_counted():
            return data
        if _has_broken(error):
            raise _broken(error) from error
        if not isinstance(error, HTTPParseError):
            raise error
        raise self._incomplete(data) from error

    def read1(self, n: int = -1) -> bytes:
        """Reads the available bytes, at most `n`, and waits only if there are none. Returns b"" at the end."""
        message = self._message
        if message is None or not self._open or n == 0:
            return b""
        try:
            return message._read_available(n if n > 0 else BLOCK_SIZE)
        except HTTPParseError as error:
            self._open = False
            if _has_broken(error):
                raise _broken(error) from error
            if self._is_cut(error) and self._is_counted():
                return b""
            raise self._incomplete() from error

    def readinto(self, b: Buffer) -> int:
        """Reads into a writable buffer until it is full or the body ends, and returns the number of bytes."""
        view = memoryview(b).cast("B")
        data = self.read(view.nbytes)
        view[: len(data)] = data
        return len(data)

    def readline(self, limit: int | None = -1) -> bytes:
        """Reads up to and including the next newline, at most `limit` bytes."""
        message = self._message
        if message is None or not self._open:
            return b""
        if limit is not None and limit >= 0:
            return io.BufferedIOBase.readline(self, limit)
        try:
            return message.readline(b"\n")
        except HTTPParseError as error:
            # The bytes before the error have no newline.
            data, _ = message._read_as_far_as_it_goes()
            self._open = False
            if _has_broken(error):
                raise _broken(error) from error
            if self._is_cut(error) and self._is_counted():
                return data
            raise self._incomplete(data) from error

    def peek(self, n: int = -1) -> bytes:
        """Returns the available bytes, at most `n`, without consuming them; waits only if there are none."""
        message = self._message
        if message is None or not self._open:
            return b""
        try:
            return message._peek(n if n > 0 else BLOCK_SIZE)
        except HTTPParseError as error:
            if _has_broken(error):
                raise _broken(error) from error
            # The next read raises the error.
            return b""

    # --------------------------------------------------------------------------------------------- the underlying file

    def _below(self) -> _core.ResponseBase | None:
        return self._message if self._open else None

    def _other_socket(self) -> Any:
        return None if isinstance(self._source, _core.Connection) and self.status != 101 else self._source

    @property
    def fp(self) -> Any:
        """The data after the head as a file; None after it has been read. After 101 it exists until `close()`."""
        if self._message is None or not self._open:
            return None
        is_over = self.isclosed() and self.status != 101 and not (self._piece or self._is_ended)
        return None if is_over else BodyFile(self)

    @fp.setter
    def fp(self, file: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if file is None:
            self.close()

    def _is_counted(self) -> bool:
        return self.length is not None

    @staticmethod
    def _is_cut(error: BaseException) -> bool:
        return isinstance(error, HTTPConnectionClosed) and not _has_broken(error)

    def _incomplete(self, data: bytes = b"") -> http.client.IncompleteRead:
        """Returns the error for a body that is truncated or has invalid framing after these bytes."""
        left = self._message.get_remaining_content_length() if self._message is not None else 0
        return http.client.IncompleteRead(data, left or None)

    # ------------------------------------------------------------------------------------------------------- as a file

    def isclosed(self) -> bool:
        """Returns True if there is nothing left to read: the body has ended, or `close()` was called."""
        return not self._open or (self._message is not None and self._message._is_read())

    def close(self) -> None:
        """Closes the response, and its connection if the body has not been read to its end."""
        self._open = False
        try:
            io.BufferedIOBase.close(self)
        finally:
            if self._message is not None:
                self._message.release()

    _close_conn = close

    def flush(self) -> None:
        """Does nothing, since nothing is written here; raises ValueError if the response is closed."""
        io.BufferedIOBase.flush(self)

    def fileno(self) -> int:
        """Returns the file descriptor of the socket that the body is read from."""
        number = -1 if self._message is None else self._message._fileno()
        return number if number >= 0 else int(self._source.fileno())


def _broken(error: BaseException) -> OSError:
    """Returns http.client's exception for a broken connection, with the attributes of the engine's exception."""
    found = _as_builtin(error)
    found.__dict__.update(error.__dict__)
    return found


def _as_of_http_client(error: HTTPParseError) -> Exception:
    """Returns the exception that http.client raises if the head cannot be read."""
    if _has_broken(error):
        return _broken(error)
    received: bytes = getattr(error, "received", b"")
    code = error.args[1] if len(error.args) > 1 else None
    line = received.lstrip(b"\r\n").partition(b"\n")[0].decode("latin-1") + "\n" if received else ""
    if isinstance(error, HTTPConnectionClosed):
        if not received:
            return http.client.RemoteDisconnected("Remote end closed connection without response")
        if b"\n" in received.lstrip(b"\r\n"):
            return http.client.IncompleteRead(received)
        return http.client.BadStatusLine(line)
    version = line.split()[0] if line.startswith("HTTP/") else ""
    if code == _BAD_VERSION and version not in ("", "HTTP/1.0", "HTTP/1.1"):
        return http.client.UnknownProtocol(version)
    if code in (_NO_HTTP, _BAD_VERSION, _BAD_STATUS):
        return http.client.BadStatusLine(line)
    if code == _BEYOND_LIMITS and "head too large" in str(error):
        return http.client.LineTooLong("header line")
    return error


class _OfSocket:
    """Reader of a socket that does its own waiting. Like http.client, it keeps the socket open until the response has
    been read, even if the socket's owner closes it before."""

    def __init__(self, sock: Any) -> None:
        self._file = sock.makefile("rb", 0)
        self.recv = self._file.read


class _OfBlockingSocket:
    """Cooperative reader of a TLS socket that would block the thread. It keeps the socket open as well."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._file = sock.makefile("rb", 0)
        self._sock = sock

    def recv(self, size: int) -> bytes:
        """Reads the available bytes, at most `size`."""
        sock = self._sock
        timeout = sock.gettimeout()
        if timeout == 0:
            return sock.recv(size)
        while True:
            sock.settimeout(0)
            try:
                return sock.recv(size)
            except ssl.SSLWantReadError:
                wait = gevent.socket.wait_read
            except ssl.SSLWantWriteError:
                wait = gevent.socket.wait_write
            finally:
                sock.settimeout(timeout)
            wait(sock.fileno(), timeout=timeout, timeout_exc=TimeoutError("The read operation timed out"))


class _OfFile:
    """Reader of an object that is no socket but has `makefile()`, which http.client accepts; tests use such objects."""

    def __init__(self, source: Any) -> None:
        self._file = source.makefile("rb")
        self.recv = getattr(self._file, "read1", self._file.read)

    def __del__(self) -> None:
        self._file.close()


def _readable(source: Any) -> Any:
    """Returns an object whose `recv()` the engine can call."""
    if isinstance(source, _core.Connection):
        return source
    if isinstance(source, _BlockingTLSSocket):
        return _OfBlockingSocket(source)
    return _OfSocket(source) if isinstance(source, _PLAIN_SOCKETS) else _OfFile(source)
