"""Exceptions of the package, in one tree.

`HTTPClientError` is a base class of every error that a request or its response can raise. Catch it to handle a refused
connection, a timeout, an invalid certificate, a malformed body and a bad status code alike.

    HTTPClientError
      ConnectionError                   of UserAgent and Session; not the built-in
        BadStatusCode
        EmptyResponse
        HTTP2Error                      also a built-in ConnectionError
        InvalidRedirectError            also a ValueError
        RetriesExceeded                 also a TimeoutError or a built-in ConnectionError, as the last attempt's error
        UnrewoundBodyError
        UnsupportedRedirectSchemeError  also a ValueError
      HTTPParseError                    also an http.client.HTTPException
        HTTPConnectionClosed            also a built-in ConnectionError
          HTTPConnectionAborted         also a ConnectionAbortedError
          HTTPConnectionBroken          also a BrokenPipeError
          HTTPConnectionReset           also a ConnectionResetError
        HTTPProtocolViolationError
      InvalidURL
      OSError                           also the built-in, as all below it are those of their names
        BlockingIOError, ConnectionAbortedError, ConnectionRefusedError, FileNotFoundError, InterruptedError,
        IsADirectoryError, NotADirectoryError, PermissionError, TimeoutError
        ProxyError                      also a RuntimeError
        SSLError                        also an ssl.SSLError
          SSLCertVerificationError, SSLEOFError, SSLSyscallError, SSLZeroReturnError
        gaierror                        also a socket.gaierror
      RuntimeError                      also the built-in
      ValueError                        also the built-in
        JSONDecodeError                 also a json.JSONDecodeError
        StreamFormatError               of events and JSON lines
          ContentTypeError
      UnicodeDecodeError                also the built-in
      error                             also a zlib.error; its other name is DecodingError
      httpx.HTTPError, httpx.StreamError    see geventhttpclient.httpx

Classes that are named like a built-in are subclasses of it with the same arguments, attributes and repr: programs that
catch the built-in, and logs that group failures by their repr, see no difference.

Exceptions that are not an HTTPClientError:

- Wrong arguments: TypeError always, and ValueError for options such as `concurrency=0` or `network_timeout=-1`. A
  URL, a header or a target is data rather than an option: one that cannot be sent raises an HTTPClientError.
- Files that you name: a missing `verify="ca.pem"` is a FileNotFoundError, a malformed one an ssl.SSLError.
- Exceptions of your own code: hooks, resolvers, iterators and files of a body, subclasses.
- gevent.Timeout, GreenletExit, LoopExit, KeyboardInterrupt and MemoryError.
- Exceptions of the adapters and of `httplib` that are classes of requests, httpx, urllib3 or http.client. Those that
  are named like a built-in may be classes of this tree.
"""

from __future__ import annotations

import builtins
import json
import socket
import ssl
import zlib
from enum import IntEnum
from functools import partial
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from geventhttpclient import _core

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "BadStatusCode",
    "BlockingIOError",
    "ConnectionAbortedError",
    "ConnectionError",
    "ConnectionRefusedError",
    "ContentTypeError",
    "DecodingError",
    "EmptyResponse",
    "FileNotFoundError",
    "HTTP2Error",
    "HTTPClientError",
    "HTTPConnectionAborted",
    "HTTPConnectionBroken",
    "HTTPConnectionClosed",
    "HTTPConnectionReset",
    "HTTPParseError",
    "HTTPProtocolViolationError",
    "InterruptedError",
    "InvalidRedirectError",
    "InvalidURL",
    "IsADirectoryError",
    "JSONDecodeError",
    "NotADirectoryError",
    "OSError",
    "PermissionError",
    "ProxyError",
    "RetriesExceeded",
    "RuntimeError",
    "SSLCertVerificationError",
    "SSLEOFError",
    "SSLError",
    "SSLSyscallError",
    "SSLZeroReturnError",
    "StreamFormatError",
    "TimeoutError",
    "UnicodeDecodeError",
    "UnrewoundBodyError",
    "UnsupportedRedirectSchemeError",
    "ValueError",
    "error",
    "gaierror",
]


class HTTPClientError(Exception):
    """Base class of every error that a request can fail with, in every interface of the package.

    Errors of the network and of its protocols have `phase` ("pool", "resolve", "connect", "proxy", "tls", "send",
    "head" or "body"), `peer` ("host:port") and `elapsed` (seconds since the request was made).
    """

    phase: str
    peer: str | None
    elapsed: float | None


# ------------------------------------------------------------------------------ named like built-in exceptions


class OSError(HTTPClientError, builtins.OSError):
    """Error of the operating system. The error number selects the subclass, as in the built-in class:
    `OSError(errno.ECONNREFUSED, text)` is a ConnectionRefusedError."""

    def __new__(cls, *args: Any, **kw: Any) -> Self:
        if cls is OSError and len(args) >= 2:
            cls = _BY_KIND.get(type(builtins.OSError(*args)), cls)  # type: ignore[assignment]
        return builtins.OSError.__new__(cls, *args, **kw)


class BlockingIOError(OSError, builtins.BlockingIOError):
    """The queue of a Unix socket is full."""


class ConnectionAbortedError(OSError, builtins.ConnectionAbortedError):
    """The response was released while another greenlet read from it."""


class ConnectionRefusedError(OSError, builtins.ConnectionRefusedError):
    """The peer refused the connection: no server listens on the port."""


class FileNotFoundError(OSError, builtins.FileNotFoundError):
    """The path of a Unix socket does not exist."""


class InterruptedError(OSError, builtins.InterruptedError):
    """A signal interrupted a system call."""


class IsADirectoryError(OSError, builtins.IsADirectoryError):
    """The path of a Unix socket is a directory."""


class NotADirectoryError(OSError, builtins.NotADirectoryError):
    """The path of a Unix socket leads through a file."""


class PermissionError(OSError, builtins.PermissionError):
    """The operating system does not permit the connection."""


class TimeoutError(OSError, builtins.TimeoutError):
    """A timeout passed. `phase` names the step: "pool" if no connection became free."""


_BY_KIND: dict[type[builtins.OSError], type[OSError]] = {
    builtins.BlockingIOError: BlockingIOError,
    builtins.ConnectionAbortedError: ConnectionAbortedError,
    builtins.ConnectionRefusedError: ConnectionRefusedError,
    builtins.FileNotFoundError: FileNotFoundError,
    builtins.InterruptedError: InterruptedError,
    builtins.IsADirectoryError: IsADirectoryError,
    builtins.NotADirectoryError: NotADirectoryError,
    builtins.PermissionError: PermissionError,
    builtins.TimeoutError: TimeoutError,
}


class gaierror(OSError, socket.gaierror):
    """The name of the host, or of the proxy, has no address."""


class SSLError(OSError, ssl.SSLError):
    """TLS failed."""


class SSLCertVerificationError(SSLError, ssl.SSLCertVerificationError):
    """The certificate of the peer could not be verified, or is not valid for its name.

    `verify_code` and `verify_message` are those of OpenSSL.
    """


class SSLEOFError(SSLError, ssl.SSLEOFError):
    """The peer closed the connection without a TLS close_notify alert."""


class SSLSyscallError(SSLError, ssl.SSLSyscallError):
    """A system call failed during TLS input or output."""


class SSLZeroReturnError(SSLError, ssl.SSLZeroReturnError):
    """The peer closed the TLS connection with a close_notify alert."""


class RuntimeError(HTTPClientError, builtins.RuntimeError):
    """The client was closed."""


class ValueError(HTTPClientError, builtins.ValueError):
    """The URL, a header or the target of the request cannot be sent."""


class JSONDecodeError(ValueError, json.JSONDecodeError):
    """The body of a response is not JSON."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.msg, self.doc, self.pos), self.__dict__


class StreamFormatError(ValueError):
    """A body is not a valid stream of server-sent events or JSON lines, or a part of it exceeds a limit.

    `url` is the URL without credentials, or None if it is not known, and `number` is that of the event or line, from 1;
    None for the whole body. The connection was closed.
    """

    url: str | None = None
    number: int | None = None


class ContentTypeError(StreamFormatError):
    """A response is not `text/event-stream`. `content_type` is its Content-Type; "" if there is none."""

    content_type: str = ""


class UnicodeDecodeError(HTTPClientError, builtins.UnicodeDecodeError):
    """The body of a response is not valid text in an encoding of JSON."""


class error(HTTPClientError, zlib.error):
    """The body cannot be decoded, or decodes to more than the limit; for all content codings."""


DecodingError = error
"""Another name for `error`, whose name is that of zlib's class."""


_BY_SSL: dict[type[ssl.SSLError], type[SSLError]] = {
    ssl.SSLCertVerificationError: SSLCertVerificationError,
    ssl.SSLEOFError: SSLEOFError,
    ssl.SSLError: SSLError,
    ssl.SSLSyscallError: SSLSyscallError,
    ssl.SSLZeroReturnError: SSLZeroReturnError,
}


def of_package(raised: ssl.SSLError) -> ssl.SSLError:
    """Returns an exception of the ssl module as one of this package, with its arguments, attributes and traceback.

    An exception of any other class, such as a subclass in a program, is returned unchanged.
    """
    kind = _BY_SSL.get(type(raised))
    if kind is None:
        return raised
    made = kind(*raised.args).with_traceback(raised.__traceback__)
    made.__dict__.update(raised.__dict__)
    made.__cause__, made.__context__ = raised.__cause__, raised.__context__
    made.__suppress_context__ = raised.__suppress_context__
    return made


# ------------------------------------------------------------------------------------------ HTTP and its connections


class HTTPParseError(HTTPClientError, HTTPException):
    """The peer sent a malformed HTTP/1.x response, or one whose framing cannot be trusted.

    Its arguments are a text and the number of the same error in llhttp. If a request raises it, it also has the
    attributes `phase` ("head", "body"), `peer` ("host:port") and `elapsed` (seconds since the request was made).
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class HTTPConnectionClosed(HTTPParseError, builtins.ConnectionError):
    """The connection ended before the response was complete.

    If the peer closed it, `errno` is None and the arguments are those of HTTPParseError. If the network broke it, the
    error is one of the subclasses, whose arguments and `errno` are those of an OSError.
    """

    def __init__(self, *args: Any) -> None:
        """Takes the arguments of an HTTPParseError (text, number) or those of an OSError (number, text)."""
        is_of_system = len(args) == 2 and isinstance(args[0], int)
        super().__init__(*args if is_of_system else ())
        self.args = args

    def __str__(self) -> str:
        return super().__str__() if self.errno is None else builtins.OSError.__str__(self)


class HTTPConnectionReset(HTTPConnectionClosed, builtins.ConnectionResetError):
    """The peer or the network reset the connection (ECONNRESET)."""


class HTTPConnectionAborted(HTTPConnectionClosed, builtins.ConnectionAbortedError):
    """The operating system aborted the connection (ECONNABORTED)."""


class HTTPConnectionBroken(HTTPConnectionClosed, builtins.BrokenPipeError):
    """The peer no longer reads the data sent to it (EPIPE)."""


class HTTPProtocolViolationError(HTTPParseError):
    """The peer sent a second response without a request for it."""


class ErrorCode(IntEnum):
    """Reason why a stream or a connection was closed: the error codes of RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ProxyError(OSError, RuntimeError):
    """A proxy did not make the requested connection; the text quotes its answer.

    `status` is the status code of the answer, or None if the proxy does not speak HTTP or sent a malformed response.
    `phase` is "proxy", `peer` is "host:port" of the proxy, and `elapsed` is the number of seconds since the request
    was made. It is a RuntimeError because geventhttpclient 2 raised one.
    """

    status: int | None = None


class InvalidURL(HTTPClientError):
    """A URL has a percent sign before two letters or digits that are not hexadecimal."""


# ---------------------------------------------------------------------------------------------- UserAgent and Session


class ConnectionError(HTTPClientError):
    """A request of UserAgent or Session failed. Keyword arguments become attributes; the text names the URL.

    This is not the built-in ConnectionError: network errors (refused, reset, unknown host) are raised unchanged.

    It can be pickled, without `response`, because a response has a connection.
    """

    text: str
    kw_text: str

    def __init__(self, url: Any, *args: Any, **kw: Any) -> None:
        """Takes the URL of the request. The further arguments, and the names and values of keywords, are the text."""
        # A subclass may be an OSError, which would read two arguments as an error number and its text.
        super().__init__()
        self.args: tuple[Any, ...] = (url, *args)
        self.url = url
        for name, value in kw.items():
            setattr(self, name, value)
        self.kw_text = ", ".join(f"{name}={value}" for name, value in kw.items())
        self.text = ", ".join([*map(str, args), *([self.kw_text] if kw else [])])

    def __str__(self) -> str:
        shown = _core.redact(str(self.url))
        words = self._words()
        return f"URL {shown}: {words}" if words else f"URL {shown}"

    def _words(self) -> str:
        """Returns the description of the failure, without the URL."""
        return self.text

    def __repr__(self) -> str:
        shown = [
            repr(_core.redact(argument)) if isinstance(argument, str) else _core.redact_all(repr(argument))
            for argument in self.args
        ]
        if self.kw_text:
            shown.append(self.kw_text)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __copy__(self) -> Self:
        make, arguments, *_ = self.__reduce__()
        twin: Self = make(*arguments)
        twin.__dict__.update(self.__dict__)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {name: value for name, value in self.__dict__.items() if name != "response"}


class RetriesExceeded(ConnectionError):
    """All attempts failed; `original` is the error of the last one. Also raised after too many redirects.

    `attempts` is the number of attempts, or None if it is not known. After a timeout, the error is also a TimeoutError;
    after a connection failure, also a built-in ConnectionError. It has `phase`, `peer` and `elapsed` of the last
    attempt.
    """

    original: BaseException | None = None
    attempts: int | None = None

    def __new__(cls, *args: Any, original: BaseException | None = None, **kw: Any) -> Self:
        """Returns an instance that is also of the kind of `original`, of a class with the same name."""
        kind: type[Any] = _kind_of(original) if cls is RetriesExceeded else cls
        made: Self = super(RetriesExceeded, kind).__new__(kind)  # pyright: ignore[reportArgumentType]
        return made

    def __init__(self, url: Any, *args: Any, **kw: Any) -> None:
        super().__init__(url, *args, **kw)
        for name in ("phase", "peer", "elapsed"):
            if hasattr(self.original, name):
                setattr(self, name, getattr(self.original, name))

    def _words(self) -> str:
        original = self.original
        if original is None:
            return super()._words()
        # The URL precedes this text, and the text of an error number says more than the number.
        why = original._words() if isinstance(original, ConnectionError) else str(original)
        if isinstance(original, builtins.OSError) and original.errno is not None and isinstance(original.strerror, str):
            why = original.strerror
        number = "retries" if self.attempts is None else f"{self.attempts} attempt{'' if self.attempts == 1 else 's'}"
        return f"failed after {number}: {why or type(original).__name__}"

    def __reduce__(self) -> tuple[Any, ...]:
        _, arguments, state = super().__reduce__()
        kind = RetriesExceeded if type(self) in _KINDS else type(self)
        return partial(kind, original=self.original), arguments, state


class _TimedOut(RetriesExceeded, builtins.TimeoutError):
    pass


class _Disconnected(RetriesExceeded, builtins.ConnectionError):
    pass


_KINDS = (_TimedOut, _Disconnected)
for _kind in _KINDS:
    # Programs and their logs see one class.
    _kind.__name__, _kind.__qualname__, _kind.__doc__ = (
        RetriesExceeded.__name__,
        RetriesExceeded.__qualname__,
        RetriesExceeded.__doc__,
    )


def _kind_of(original: BaseException | None) -> type[RetriesExceeded]:
    if isinstance(original, builtins.TimeoutError):
        return _TimedOut
    return _Disconnected if isinstance(original, builtins.ConnectionError) else RetriesExceeded


class BadStatusCode(ConnectionError):
    """A status code that is not among the agent's `valid_response_codes`.

    `code` is the status code, `response` and `request` are the objects that it belongs to, and `http_log` shows both as
    text, with at most 1 MiB of the body. The rest of a larger body is unread: `response` keeps its connection until you
    read the rest or call `response.release()`.
    """

    code = 0


class EmptyResponse(ConnectionError):
    """The program requires a body, and the response has none."""


class UnrewoundBodyError(ConnectionError):
    """The payload must be sent again, but can be read only once.

    After a redirect, `response` is the redirect, and `request` is the request that it answers.
    """


class UnsupportedRedirectSchemeError(ConnectionError, builtins.ValueError):
    """A redirect to something other than http and https.

    `response` is the redirect, `request` is the request that it answers. It is a ValueError for programs that expect
    one for an invalid URL.
    """


class InvalidRedirectError(ConnectionError, builtins.ValueError):
    """A redirect whose Location is not a URL with a valid host and port.

    `response` is the redirect, `request` is the request that it answers. It is a ValueError for programs that expect
    one for an invalid URL.
    """


class HTTP2Error(ConnectionError, builtins.ConnectionError):
    """The peer has ended a stream (RST_STREAM) or the connection (GOAWAY), or has broken the rules of HTTP/2.

    The text says which. A malformed response fails only its own request; other streams of the connection continue.
    `code` is an ErrorCode, or an int if RFC 9113 does not define it. `last_stream` is the last stream that the peer may
    have processed, if it sent GOAWAY. `phase`, `peer` and `elapsed` are set as on every error. Requests that the peer
    did not process were already sent again if possible.

    It is both a geventhttpclient.useragent.ConnectionError and the built-in ConnectionError, and therefore an OSError
    like other network errors.
    """

    code: ErrorCode | int
    last_stream: int | None

    def __init__(self, text: str, code: int = ErrorCode.NO_ERROR, last_stream: int | None = None) -> None:
        """Takes an error code of RFC 9113 section 7, and the last stream in a GOAWAY, None without one."""
        builtins.ConnectionError.__init__(self, text)
        self.text = text
        self.kw_text = ""
        self.url: None = None
        self.code = ErrorCode(code) if code in ErrorCode.__members__.values() else code
        self.last_stream = last_stream

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text, int(self.code), self.last_stream), self.__dict__


# ------------------------------------------------------------------------------------------------------------ modules


def _name_modules() -> None:
    """Gives the classes of geventhttpclient 2 the module names that they had there: logs and pickles show them."""
    for module, classes in {
        "_parser": (HTTPParseError,),
        "response": (HTTPConnectionClosed, HTTPProtocolViolationError),
        "url": (InvalidURL,),
        "useragent": (
            BadStatusCode,
            ConnectionError,
            EmptyResponse,
            InvalidRedirectError,
            RetriesExceeded,
            UnrewoundBodyError,
            UnsupportedRedirectSchemeError,
            *_KINDS,
        ),
    }.items():
        for cls in classes:
            cls.__module__ = f"geventhttpclient.{module}"


_name_modules()
