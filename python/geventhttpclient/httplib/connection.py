"""HTTPConnection and HTTPSConnection with http.client's interface, on the engine's connections."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import wraps

# The original classes, before patch() replaces them.
from http.client import HTTPConnection as _HTTPConnection
from http.client import HTTPResponse as _HTTPResponse
from http.client import HTTPSConnection as _HTTPSConnection
from operator import attrgetter, is_
from typing import Any

import gevent.monkey
import gevent.socket

from geventhttpclient import _core
from geventhttpclient._internal.validation import encoded, masked, without_zone
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.httplib.response import HTTPResponse
from geventhttpclient.httplib.sock import Socket, TLSSocket
from geventhttpclient.tls import choose_tls, load_cert_chain
from geventhttpclient.url import URL

# Functions to connect that the engine replaces. Any other, such as one that a test has set, is called.
_USUAL_CONNECTORS = (gevent.monkey.get_original("socket", "create_connection"), gevent.socket.create_connection)

# The functions that http.client calls for a context: by default, and if a program has disabled verification.
_STOCK = (ssl.create_default_context, ssl._create_unverified_context)


class _DialSettings(ConnectionPool):
    """The settings for opening one connection: timeouts, TLS, local address. This pool never holds a connection."""

    def __init__(
        self, connection: HTTPConnection, tls: _core._Tls | None = None, source: tuple[str, int] | None = None
    ) -> None:
        self._given_tls = tls
        host, timeout = _core.host_to_ascii(connection.host), _seconds(connection.timeout)
        super().__init__(
            host,
            connection.port,
            host,
            connection.port,
            size=1,
            connection_timeout=timeout,
            network_timeout=timeout,
            local_address=_local_address(source),
        )

    def _tls(self) -> _core._Tls | None:
        return self._given_tls


def _seconds(timeout: Any) -> float | None:
    if timeout is _DEFAULT_TIMEOUT:
        timeout = socket.getdefaulttimeout()
    return None if timeout is None else float(timeout)


def _local_address(source: tuple[str, int] | None) -> tuple[str, int] | None:
    if not source or not any(source):
        return None
    host, port = source
    return gevent.socket.gethostbyname(host) if host else "0.0.0.0", port


# States of a connection, with http.client's names.
_IDLE: str = http.client._CS_IDLE  # type: ignore[attr-defined]
_REQUEST_SENT: str = http.client._CS_REQ_SENT  # type: ignore[attr-defined]

# The default of `timeout`: the value of `socket.getdefaulttimeout()`.
_DEFAULT_TIMEOUT: object = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]

# Most bytes of a body that is sent together with the head, in one packet or a few.
_SMALL_BODY = 64 * 1024


def _reading_by_lines(tunnel: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wraps `_tunnel` so that http.client's own class reads the proxy's response: by lines, and not beyond its end."""

    @wraps(tunnel)
    def tunnel_by_lines(connection: HTTPConnection) -> None:
        own = connection.__dict__.get("response_class")
        connection.response_class = _HTTPResponse
        try:
            for name, value in connection._tunnel_headers.items():  # type: ignore[attr-defined]
                encoded(f"{name}: {value}", "latin-1")
            tunnel(connection)
        finally:
            del connection.response_class
            if own is not None:
                connection.response_class = own

    return tunnel_by_lines


class HTTPConnection(_HTTPConnection):
    """Drop-in replacement of http.client.HTTPConnection, on a connection of the engine. The documentation of
    http.client applies.

    `sock` is a `Socket`. If a program assigns another socket (a subclass that connects by itself, for example),
    requests are sent on that, and the engine still reads the responses.

    If a kept-alive connection has been closed by the server, or belongs to another thread, the next request opens a new
    one; it raises NotConnected if `auto_open` is off.
    """

    response_class: type[http.client.HTTPResponse] = HTTPResponse
    sock: Any

    # The socket that is being opened, and will become `sock`.
    _opening: Socket | None = None
    # Whether a request is being sent.
    _sending = False
    # Whether its target is in absolute form, and therefore for a proxy.
    _is_read_by_proxy = False

    # Attributes of http.client that its stubs lack. The mangled names are the same, since the classes have the same
    # name.
    __state: str
    __response: http.client.HTTPResponse | None
    _buffer: list[bytes]
    _create_connection: Callable[..., socket.socket]
    _tunnel_host: str | None
    source_address: tuple[str, int] | None

    def connect(self) -> None:
        """Connects within `timeout`, via the proxy of `set_tunnel()` if there is one."""
        if self._create_connection not in _USUAL_CONNECTORS:
            _HTTPConnection.connect(self)
            return
        self._dial(Socket)
        if self._tunnel_host:
            self._tunnel_or_close()

    def _tunnel_or_close(self) -> None:
        """Has the proxy open a tunnel. Closes the connection if that fails, since requests on it would be sent to the
        proxy."""
        try:
            self._tunnel()
        except BaseException:
            sock, self.sock = self.sock, None
            if sock is not None:
                sock.close()
            raise

    def _dial(self, kind: type[Socket], tls: _core._Tls | None = None) -> None:
        sys.audit("http.client.connect", self, self.host, self.port)
        settings = _DialSettings(self, tls, self.source_address)
        sock = self._opening = kind()
        try:
            sock._open(settings)
        finally:
            self._opening = None
        sock.settimeout(settings.network_timeout)
        self.sock = sock

    def _get_hostport(self, host: str, port: Any) -> tuple[str, int]:
        """Calls http.client's method, and replaces its errors, which may quote a password."""
        wrong = "nonnumeric port"
        with suppress(http.client.InvalidURL):
            place: tuple[str, int] = super()._get_hostport(host, port)  # type: ignore[misc]
            # A percent sign begins a zone in an IPv6 address, and an escape anywhere else.
            no_host = _NO_HOST if ":" in str(place[0]) else _NO_HOST | {"%"}
            if not isinstance(host, str) or no_host.isdisjoint(place[0]):
                return place
            wrong = "invalid character in the host"
        # Not within an except block: the other error would be the context of this one.
        raise http.client.InvalidURL(f"{wrong}: the host must be a name or an address, with or without a port")

    def _validate_host(self, host: str) -> None:
        self._validate(_HTTPConnection._validate_host, host)  # type: ignore[attr-defined]

    def _validate_path(self, url: str) -> None:
        self._validate(_HTTPConnection._validate_path, url)  # type: ignore[attr-defined]

    def _validate(self, check: Callable[[Any, str], None], text: str) -> None:
        """Calls http.client's check, and redacts the text that its error quotes."""
        try:
            check(self, text)
            return
        except http.client.InvalidURL as error:
            wrong = str(error).replace(repr(text), repr(_core.redact(text)))
        raise http.client.InvalidURL(wrong)

    def _encode_request(self, request: str) -> bytes:
        """Encodes the request line as http.client does, with an error that does not contain the line."""
        return encoded(request, "ascii")

    # Has the proxy open a tunnel to the host of `set_tunnel()`.
    _tunnel = _reading_by_lines(_HTTPConnection._tunnel)  # type: ignore[attr-defined]

    def __init_subclass__(cls, **kw: Any) -> None:
        super().__init_subclass__(**kw)
        # urllib3 overrides it for old versions of Python.
        if "_tunnel" in cls.__dict__:
            cls._tunnel = _reading_by_lines(cls._tunnel)

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Any = {},  # noqa: B006 (never changed, and the default of http.client)
        *,
        encode_chunked: bool = False,
    ) -> None:
        """Sends a request. See http.client."""
        head = self._fast_head(method, url, body, headers)
        if head is None:
            super().request(method, url, body, headers, encode_chunked=encode_chunked)
            return
        self._check_connection()
        if self.__response is not None and self.__response.isclosed():
            self.__response = None
        if self.__state != _IDLE:
            raise http.client.CannotSendRequest(self.__state)
        self.__state = _REQUEST_SENT
        self._method = method
        sock = self.sock
        if sock is None:
            if not self.auto_open:
                raise http.client.NotConnected
            self.connect()
            sock = self.sock
        pieces = [head]
        if body:
            pieces = [head + body] if len(body) <= _SMALL_BODY else [head, body]
        for piece in pieces:
            sys.audit("http.client.send", self, piece)
            sock.sendall(piece)

    def _fast_head(self, method: str, url: str, body: Any, headers: Any) -> bytes | None:
        """Returns the head of a request if no subclass, tracer or setting changes how it is sent; else None."""
        kind = type(self)
        if (body is not None and type(body) is not bytes) or type(self._buffer) is not list:
            return None
        if self.debuglevel > 0 or self._tunnel_host or not (_writes_by_itself(kind) and _STEPS.isdisjoint(vars(self))):
            return None
        if ":" in self.host or not self.host.isascii():
            return None
        host = self.host if self.port == self.default_port else f"{self.host}:{self.port}"
        return _core.fast_head(method, url, host, headers, None if body is None else len(body))

    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        """Begins a request. See http.client.

        User and password are removed from an absolute URL (RFC 9110 section 4.2.4), and are not part of the Host field.
        """
        self._check_connection()
        is_absolute = isinstance(url, str) and url[:8].lower().startswith(("http://", "https://"))
        if is_absolute:
            asked = URL(url)
            _ = asked.port  # raises a ValueError that does not show a password
            url = url.replace(asked.netloc, without_zone(asked.netloc.rpartition("@")[2]), 1)
        self._is_read_by_proxy = is_absolute and not self._tunnel_host
        super().putrequest(method, url, skip_host, skip_accept_encoding)

    def putheader(self, header: str | bytes, *values: Any) -> None:
        """Adds a field. See http.client.

        Proxy-Authorization is sent only if the URL is absolute, since the origin reads any other request. Pass the
        credentials for a tunnel to `set_tunnel()`.
        """
        name = header if isinstance(header, bytes) else str(header).encode("latin-1", "replace")
        if name.lower() == b"proxy-authorization" and not self._is_read_by_proxy:
            return
        if name.lower() == b"host":
            # http.client includes the zone in versions before 3.13.
            values = tuple(map(_zoneless, values))
        try:
            super().putheader(header, *values)
            return
        except UnicodeEncodeError as error:
            # The error contains the whole value.
            shown = masked(error)
        raise shown

    def set_tunnel(self, host: str, port: int | None = None, headers: Any = None) -> None:
        """Sets the host that the proxy connects to. See http.client."""
        # A zone is valid only on this machine.
        super().set_tunnel(without_zone(host), port, headers)

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:
        """Ends the header and sends the request, with the body if one is given. See http.client."""
        self._sending = True
        try:
            super().endheaders(message_body, encode_chunked=encode_chunked)
        finally:
            self._sending = False

    def send(self, data: Any) -> None:
        """Sends data: bytes-like, a file, or an iterable of bytes-like objects. See http.client.

        Raises ConnectionAbortedError if another greenlet or the iterable of the body has called `close()` since the
        request was begun: the rest of a request must not be sent on another connection.
        """
        if self._sending and self.__state == _IDLE:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the connection was closed while the request was sent")
        super().send(data)

    def close(self) -> None:
        """Closes the connection. If another greenlet waits on it, or for it to be opened, an error is raised there."""
        opening = self._opening
        if opening is not None:
            opening.close()
        super().close()

    def _check_connection(self) -> None:
        """Closes a connection that cannot be used any more. Sending then opens another one, or raises NotConnected
        without `auto_open`."""
        sock = self.sock
        if not isinstance(sock, Socket) or self.__state != _IDLE:
            return
        io_state = sock._io_state()
        if io_state == "receive":
            raise http.client.CannotSendRequest("the previous response has not been read")
        if io_state == "unusable" and (self.__response is None or self.__response.isclosed()):
            self.close()


# Characters that no host contains. A text with one of them may begin with a user and a password.
_NO_HOST = frozenset("@\\\"'<>`{|}^")

# The methods between `request()` and the socket. A subclass or a tracer may replace them, in a class or in one
# connection.
_STEPS = frozenset(
    {
        "putrequest",
        "putheader",
        "endheaders",
        "send",
        "_send_request",
        "_send_output",
        "_output",
        "_encode_request",
        "_validate_method",
        "_validate_path",
        "_get_content_length",
        "_http_vsn",
        "_http_vsn_str",
    }
)
_steps = attrgetter(*_STEPS)
_USUAL_STEPS = _steps(HTTPConnection)


def _writes_by_itself(kind: type[HTTPConnection]) -> bool:
    return all(map(is_, _steps(kind), _USUAL_STEPS))


class HTTPSConnection(HTTPConnection, _HTTPSConnection):
    """Drop-in replacement of http.client.HTTPSConnection, with the engine's TLS.

    Certificates and names are verified with the trusted certificates of SSL_CERT_FILE and SSL_CERT_DIR, else of the
    system, else of Mozilla. If a `context` is given, or if a program has replaced `ssl._create_default_https_context`,
    that context is used instead.
    """

    default_port = http.client.HTTPS_PORT
    sock: Any

    def __init__(
        self,
        host: str,
        port: int | None = None,
        key_file: str | None = None,
        cert_file: str | None = None,
        timeout: Any = _DEFAULT_TIMEOUT,
        source_address: tuple[str, int] | None = None,
        *,
        context: ssl.SSLContext | None = None,
        check_hostname: bool | None = None,
        **kw: Any,
    ) -> None:
        """Takes the arguments of http.client; `key_file`, `cert_file` and `check_hostname` in every version of Python.

        Raises ssl.SSLError or OSError if the files cannot be used.
        """
        _HTTPConnection.__init__(self, host, port, timeout, source_address, **kw)
        if key_file is not None or cert_file is not None or check_hostname is not None:
            what = "key_file, cert_file and check_hostname are deprecated, use a context instead"
            warnings.warn(what, DeprecationWarning, stacklevel=2)
        self.key_file: str | None = key_file  # pyright: ignore[reportIncompatibleVariableOverride]
        self.cert_file: str | None = cert_file  # pyright: ignore[reportIncompatibleVariableOverride]
        self._check_hostname = check_hostname
        self._context_in_use: ssl.SSLContext | None = None
        if context is not None:
            self._context = context
        elif cert_file or key_file:
            _DialSettings(self, self._tls_for(self.host))  # reads the files, and raises an error if they are invalid

    @property
    def _context(self) -> ssl.SSLContext:
        """The context in use. It is created on the first access, and is used instead of the engine's own TLS then."""
        if self._context_in_use is None:
            context = ssl._create_default_https_context()
            context.set_alpn_protocols(["http/1.1"])
            _allow_late_authentication(context)
            self._context = context
        assert self._context_in_use is not None
        return self._context_in_use

    @_context.setter
    def _context(self, context: ssl.SSLContext) -> None:
        if self._check_hostname and context.verify_mode == ssl.CERT_NONE:
            raise ValueError("check_hostname needs a SSL context with either CERT_OPTIONAL or CERT_REQUIRED")
        if self.cert_file or self.key_file:
            load_cert_chain(context, self.cert_file, self.key_file)
            _allow_late_authentication(context)
        if self._check_hostname is not None:
            context.check_hostname = self._check_hostname
        self._context_in_use = context

    def connect(self) -> None:
        """Connects, via the proxy of `set_tunnel()` if there is one, and performs the TLS handshake with the host."""
        if self._create_connection not in _USUAL_CONNECTORS:
            _HTTPSConnection.connect(self)
        elif self._tunnel_host:
            self._dial(TLSSocket)
            self._tunnel_or_close()
            try:
                self.sock.secure(_DialSettings(self, self._tls_for(self._tunnel_host)))
            except BaseException:
                self.sock = None
                raise
        else:
            self._dial(TLSSocket, self._tls_for(self.host))

    def _tls_for(self, host: str) -> _core._Tls:
        factory: Callable[..., ssl.SSLContext] = ssl._create_default_https_context
        if self._context_in_use is None and factory in _STOCK:
            options = {"certfile": self.cert_file, "keyfile": self.key_file}
            verify = factory is not ssl._create_unverified_context
            return choose_tls(_core.host_to_ascii(host), options, self._check_hostname is False, verify)
        return self._context, _core.host_to_ascii(host).strip("[]")


def _zoneless(host: Any) -> Any:
    """Returns the value of a Host field without the zone of an IPv6 address."""
    if isinstance(host, bytes):
        return without_zone(host.decode("latin-1")).encode("latin-1")
    return without_zone(host) if isinstance(host, str) else host


def _allow_late_authentication(context: ssl.SSLContext) -> None:
    """Lets servers request the client's certificate after the handshake (RFC 8446 section 4.6.2)."""
    if context.post_handshake_auth is not None:
        context.post_handshake_auth = True
