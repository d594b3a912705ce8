"""HTTPResponse of http.client's shape: its attributes, its ways to read, its exceptions, on the engine's response."""

from __future__ import annotations

import http.client
import io
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import gevent.monkey
import gevent.socket

from geventhttpclient import _core
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.header import Headers
from geventhttpclient.response import HTTPConnectionClosed, computed
from geventhttpclient.timings import Timings, timings_of

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

# Bytes that a socket which does its own waiting is asked for at once, and that read1(-1) returns at most.
BLOCK_SIZE = 64 * 1024

# Sockets that the engine reads from by itself. Subclasses may mean something else by a read.
_PLAIN_SOCKETS: tuple[type, ...] = (gevent.monkey.get_original("socket", "socket"), gevent.socket.socket)

# The class that waits by blocking the thread, whatever gevent.monkey has put in its place.
_BlockingTLSSocket: type[ssl.SSLSocket] = gevent.monkey.get_original("ssl", "SSLSocket")

# The numbers of HTTPParseError (llhttp's) that http.client has classes of its own for.
_NO_HTTP, _BAD_VERSION, _BAD_STATUS, _BEYOND_LIMITS = 8, 9, 13, 24


class HTTPLibHeaders(http.client.HTTPMessage):
    """Header fields as http.client has them: an email.message.Message, though no parser of e-mails has been at work."""

    @classmethod
    def _of(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        headers = cls()
        # What a parser leaves there when nothing follows the fields.
        headers.set_payload("")
        for name, value in pairs:
            headers.set_raw(name, value)
        return headers


class HTTPResponse(http.client.HTTPResponse):
    """http.client.HTTPResponse, whose documentation this class is true to. There is no file `fp` below it.

    `read(n)` of a counted body that is cut short returns what came, and then b"", as http.client's does; `read()` of
    any body raises IncompleteRead, which has what came as `partial`.
    """

    def __init__(
        self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None, **_: Any
    ) -> None:
        """From a socket on which the request was sent. It is not read from until `begin()`."""
        self._source = sock
        self.debuglevel = debuglevel
        self._method = method
        self.url = url  # type: ignore[assignment]
        self._message: _core.Message | None = None
        self._open = True

    # ------------------------------------------------------------------------------------------------------- the head

    def begin(self) -> None:
        """Reads the head, unless that is done."""
        if self._message is not None:
            return
        if type(self)._read_status is HTTPResponse._read_status and self.debuglevel <= 0:
            self._read_headers()
            return
        version, status, reason = self._read_status()
        if self._message is None:
            # A subclass has read the first line by itself, perhaps with the end of it.
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
        """Reads the head, of which that line has been read before."""
        source, method = self._source, self._method or "GET"
        if method == "CONNECT":
            # What comes through the tunnel is read from the response, or by way of its `fileno()`, as in http.client.
            method = "GET"
        try:
            if isinstance(source, _core.Connection) and not status_line:
                self._message = source._answer(method)
                return
            message = _core.Message()
            if type(source) in _PLAIN_SOCKETS and not status_line:
                message._read_head_sharing(source.fileno(), source.gettimeout(), method)
            else:
                message._read_head_from(_readable(source), status_line, BLOCK_SIZE, method, Headers)
            self._message = message
        except HTTPParseError as error:
            self._open = False
            raise _as_of_http_client(error) from error

    def get_code(self) -> int:
        """The status code, 0 while there is none."""
        return 0 if self._message is None else self._message.get_code()

    # Programs set these, too.
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
        """The header fields, None before `begin()`; they become Python objects here and now."""
        if self._message is None:
            return None  # type: ignore[return-value]
        self.headers = found = HTTPLibHeaders._of(self._message._pairs())
        return found

    msg: http.client.HTTPMessage = computed(lambda self: self.headers)

    def info(self) -> http.client.HTTPMessage:
        """The header fields."""
        if self.headers is None:
            self.headers = HTTPLibHeaders()
        return self.headers

    def getheader(self, name: str, default: Any = None) -> Any:
        """The value of a field; of several lines, all values with commas between them. `default` without any."""
        if self._message is None or "headers" in self.__dict__:
            return super().getheader(name, default)
        found = self._message._field(name)
        if found is None:
            return default if isinstance(default, str) or not hasattr(default, "__iter__") else ", ".join(default)
        return found if isinstance(found, str) else ", ".join(found)

    def getheaders(self) -> list[tuple[str, str]]:
        """Every header line as (name, value)."""
        if self._message is None or "headers" in self.__dict__:
            return super().getheaders()
        return self._message._pairs()

    @computed
    def will_close(self) -> bool:
        """Whether the connection ends with this response."""
        # After 101 it goes on in another protocol.
        return self._message is not None and not (self._message.should_keep_alive() or self.status == 101)

    @computed
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        coding = None if self._message is None else self._message._field("transfer-encoding")
        return isinstance(coding, str) and coding.strip().lower() == "chunked"

    @computed
    def length(self) -> int | None:
        """How many bytes of the body are left; None where nobody knows."""
        if self._message is None or self.chunked:
            return None
        left = self._message.get_remaining_content_length()
        if left or self._message._field("content-length") is not None:
            return left
        code = self.get_code()
        return 0 if self._method == "HEAD" or code in (204, 304) or code < 200 else None

    @property
    def trailers(self) -> HTTPLibHeaders:
        """The fields that came behind a chunked body, once that has been read (RFC 9110 section 6.5)."""
        return HTTPLibHeaders._of([] if self._message is None else self._message._trailers())

    @property
    def timings(self) -> Timings:
        """How long the request took, step by step (see geventhttpclient.timings).

        The first response of a connection has the steps of its dial, which was over before the request began: `total`
        is without them.
        """
        return Timings() if self._message is None else timings_of(self._message)

    # ------------------------------------------------------------------------------------------------------- the body

    def read(self, amt: int | None = None) -> bytes:
        """Reads `amt` bytes, or all that is left when that is less or not given. b"" at the end.

        Raises IncompleteRead when the body is cut short, except for `amt` bytes of a counted one.
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
        if not isinstance(error, HTTPParseError):
            raise error
        raise self._incomplete(data) from error

    def read1(self, n: int = -1) -> bytes:
        """Reads what there is, at most `n` bytes, waiting only when there is nothing. b"" at the end."""
        message = self._message
        if message is None or not self._open or n == 0:
            return b""
        try:
            return message._read_available(n if n > 0 else BLOCK_SIZE)
        except HTTPParseError as error:
            self._open = False
            if self._is_cut(error) and self._is_counted():
                return b""
            raise self._incomplete() from error

    def readinto(self, b: Buffer) -> int:
        """Reads into a writable buffer until it is full or the body is at its end: how many bytes that were."""
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
            # What came before it broke off is without a newline.
            data, _ = message._read_as_far_as_it_goes()
            self._open = False
            if self._is_cut(error) and self._is_counted():
                return data
            raise self._incomplete(data) from error

    def peek(self, n: int = -1) -> bytes:
        """What there is, at most `n` bytes, waiting only when there is nothing. It remains to be read."""
        message = self._message
        if message is None or not self._open:
            return b""
        try:
            return message._peek(n if n > 0 else BLOCK_SIZE)
        except HTTPParseError:
            # Whoever reads is told.
            return b""

    def _is_counted(self) -> bool:
        return self.length is not None

    @staticmethod
    def _is_cut(error: BaseException) -> bool:
        return isinstance(error, HTTPConnectionClosed)

    def _incomplete(self, data: bytes = b"") -> http.client.IncompleteRead:
        """For a body that ends where it should not, or is not framed as it says, after those bytes."""
        left = self._message.get_remaining_content_length() if self._message is not None else 0
        return http.client.IncompleteRead(data, left or None)

    # ------------------------------------------------------------------------------------------------------- as a file

    def isclosed(self) -> bool:
        """Whether there is nothing left to read: the body is at its end, or `close()` was called."""
        return not self._open or (self._message is not None and self._message._is_read())

    def close(self) -> None:
        """Ends the response. Its connection is closed if some of the body has not been read."""
        self._open = False
        try:
            io.BufferedIOBase.close(self)
        finally:
            if self._message is not None:
                self._message.release()

    _close_conn = close

    def flush(self) -> None:
        """Nothing is written here."""
        io.BufferedIOBase.flush(self)

    def fileno(self) -> int:
        """The number of the socket that the body comes from."""
        number = -1 if self._message is None else self._message._fileno()
        return number if number >= 0 else int(self._source.fileno())


def _as_of_http_client(error: HTTPParseError) -> http.client.HTTPException:
    """What http.client raises where no head could be read."""
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
    """A socket that waits in its own way. As http.client does, it is kept open until it has been read, though its owner
    closes it before."""

    def __init__(self, sock: Any) -> None:
        self._file = sock.makefile("rb", 0)
        self.recv = self._file.read


class _OfBlockingSocket:
    """A TLS socket that would block the thread, read as gevent reads its own. It is kept open as well."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._file = sock.makefile("rb", 0)
        self._sock = sock

    def recv(self, size: int) -> bytes:
        """What there is, at most `size` bytes."""
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
    """What is no socket, but has a file to be read, as http.client asks for: of a test, say."""

    def __init__(self, source: Any) -> None:
        self._file = source.makefile("rb")
        self.recv = getattr(self._file, "read1", self._file.read)

    def __del__(self) -> None:
        self._file.close()


def _readable(source: Any) -> Any:
    """What the engine may call `recv()` of."""
    if isinstance(source, _core.Connection):
        return source
    if isinstance(source, _BlockingTLSSocket):
        return _OfBlockingSocket(source)
    return _OfSocket(source) if isinstance(source, _PLAIN_SOCKETS) else _OfFile(source)
