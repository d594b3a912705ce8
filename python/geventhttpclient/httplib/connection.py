"""HTTPConnection and HTTPSConnection of http.client's shape: its requests, on the engine's connections."""

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

# As they are before patch() puts others in their place.
from http.client import HTTPConnection as _HTTPConnection
from http.client import HTTPResponse as _HTTPResponse
from http.client import HTTPSConnection as _HTTPSConnection
from operator import attrgetter, is_
from typing import Any

import gevent.monkey
import gevent.socket

from geventhttpclient import _core
from geventhttpclient._checks import encoded, masked
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.httplib.response import HTTPResponse
from geventhttpclient.httplib.sock import Socket, TLSSocket
from geventhttpclient.tls import choose_tls, load_cert_chain
from geventhttpclient.url import URL

# Ways to connect that the engine's takes the place of. Any other, a test's say, is gone.
_USUAL_WAYS = (gevent.monkey.get_original("socket", "create_connection"), gevent.socket.create_connection)

# What http.client calls for a context unless a program says otherwise, or says that nothing is to be verified.
_STOCK = (ssl.create_default_context, ssl._create_unverified_context)


class _Way(ConnectionPool):
    """How one connection is opened: its timeouts, its TLS. It holds none itself."""

    def __init__(self, connection: HTTPConnection, tls: _core._Tls | None = None) -> None:
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
            local_address=_local_address(connection.source_address),
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


# States of a connection, by http.client's names for them.
_IDLE: str = http.client._CS_IDLE  # type: ignore[attr-defined]
_REQUEST_SENT: str = http.client._CS_REQ_SENT  # type: ignore[attr-defined]

# That whatever `socket.setdefaulttimeout()` says is waited for.
_DEFAULT_TIMEOUT: object = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]

# Bytes of a body that leave together with the head, in one packet or a few.
_SMALL_BODY = 64 * 1024


def _reading_by_lines(tunnel: Callable[[Any], None]) -> Callable[[Any], None]:
    """A proxy's answer is read line by line, no further than it goes, from the file of http.client's own class."""

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
    """http.client.HTTPConnection, whose documentation this class is true to, with the engine's connection below.

    `sock` is a `Socket`. Whatever a program puts there instead (a subclass that connects by itself, say) is spoken to
    as it is, and still the engine reads the responses.

    A kept-alive connection that has been closed by the server, or that belongs to another thread, is opened anew
    by the next request; with `auto_open` off that raises NotConnected.
    """

    response_class: type[http.client.HTTPResponse] = HTTPResponse
    sock: Any

    # What will be `sock`, while it is waited for.
    _opening: Socket | None = None
    # Whether a request is on its way out.
    _sending = False
    # Whether its target is in absolute form, and so meant for a proxy.
    _is_read_by_proxy = False

    # http.client's own, of which type checkers have not heard. The private ones have the same names since the classes
    # have.
    __state: str
    __response: http.client.HTTPResponse | None
    _buffer: list[bytes]
    _create_connection: Callable[..., socket.socket]
    _tunnel_host: str | None
    source_address: tuple[str, int] | None

    def connect(self) -> None:
        """Connects, through the proxy of `set_tunnel()` if there is one. `timeout` bounds it."""
        if self._create_connection not in _USUAL_WAYS:
            _HTTPConnection.connect(self)
            return
        self._dial(Socket)
        if self._tunnel_host:
            self._tunnel_or_close()

    def _tunnel_or_close(self) -> None:
        """Asks the proxy for the way. Without one there is no connection: what is sent on it would go to the proxy."""
        try:
            self._tunnel()
        except BaseException:
            sock, self.sock = self.sock, None
            if sock is not None:
                sock.close()
            raise

    def _dial(self, kind: type[Socket], tls: _core._Tls | None = None) -> None:
        sys.audit("http.client.connect", self, self.host, self.port)
        way = _Way(self, tls)
        sock = self._opening = kind()
        try:
            sock._open(way)
        finally:
            self._opening = None
        sock.settimeout(way.network_timeout)
        self.sock = sock

    def _get_hostport(self, host: str, port: Any) -> tuple[str, int]:
        """http.client's, but for the errors: it quotes what may be a password."""
        wrong = "nonnumeric port"
        with suppress(http.client.InvalidURL):
            place: tuple[str, int] = super()._get_hostport(host, port)  # type: ignore[misc]
            # A percent sign begins the zone of an IPv6 address, and an escape anywhere else.
            no_host = _NO_HOST if ":" in str(place[0]) else _NO_HOST | {"%"}
            if not isinstance(host, str) or no_host.isdisjoint(place[0]):
                return place
            wrong = "a character in the host that no name has"
        # Not within an except block: the other error would be the context of this one.
        raise http.client.InvalidURL(f"{wrong}: it must be a name or an address, with or without a port behind it")

    def _validate_host(self, host: str) -> None:
        self._validate(_HTTPConnection._validate_host, host)  # type: ignore[attr-defined]

    def _validate_path(self, url: str) -> None:
        self._validate(_HTTPConnection._validate_path, url)  # type: ignore[attr-defined]

    def _validate(self, check: Callable[[Any, str], None], text: str) -> None:
        """http.client's check, whose error quotes the text."""
        try:
            check(self, text)
            return
        except http.client.InvalidURL as error:
            wrong = str(error).replace(repr(text), repr(_core.redact(text)))
        raise http.client.InvalidURL(wrong)

    def _encode_request(self, request: str) -> bytes:
        """http.client's, but for the error: it holds the whole line."""
        return encoded(request, "ascii")

    # Asks the proxy for a connection to the host of `set_tunnel()`.
    _tunnel = _reading_by_lines(_HTTPConnection._tunnel)  # type: ignore[attr-defined]

    def __init_subclass__(cls, **kw: Any) -> None:
        super().__init_subclass__(**kw)
        # urllib3 has its own for old versions of Python.
        if "_tunnel" in cls.__dict__:
            cls._tunnel = _reading_by_lines(cls._tunnel)

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Any = {},  # noqa: B006 (never changed, and what http.client has there)
        *,
        encode_chunked: bool = False,
    ) -> None:
        """Sends a request. See http.client."""
        head = self._usual_head(method, url, body, headers)
        if head is None:
            super().request(method, url, body, headers, encode_chunked=encode_chunked)
            return
        self._look_at_connection()
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

    def _usual_head(self, method: str, url: str, body: Any, headers: Any) -> bytes | None:
        """The head of a request that nobody wants to see, or to change, on its way. None for any other."""
        kind = type(self)
        if (body is not None and type(body) is not bytes) or type(self._buffer) is not list:
            return None
        if self.debuglevel > 0 or self._tunnel_host or not (_writes_by_itself(kind) and _STEPS.isdisjoint(vars(self))):
            return None
        if ":" in self.host or not self.host.isascii():
            return None
        host = self.host if self.port == self.default_port else f"{self.host}:{self.port}"
        return _core.usual_head(method, url, host, headers, None if body is None else len(body))

    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        """Begins a request. See http.client.

        User and password are no part of a URL that is sent (RFC 9110 section 4.2.4), nor of the Host field.
        """
        self._look_at_connection()
        is_absolute = isinstance(url, str) and url[:8].lower().startswith(("http://", "https://"))
        if is_absolute:
            asked = URL(url)
            _ = asked.port  # ValueError, without what may be a password
            url = url.replace(asked.netloc, asked.netloc.rpartition("@")[2], 1)
        self._is_read_by_proxy = is_absolute and not self._tunnel_host
        super().putrequest(method, url, skip_host, skip_accept_encoding)

    def putheader(self, header: str | bytes, *values: Any) -> None:
        """Adds a field. See http.client.

        Proxy-Authorization is sent with an absolute URL alone: any other request is read by the origin. The credentials
        for a tunnel are those of `set_tunnel()`.
        """
        name = header if isinstance(header, bytes) else str(header).encode("latin-1", "replace")
        if name.lower() == b"proxy-authorization" and not self._is_read_by_proxy:
            return
        try:
            super().putheader(header, *values)
            return
        except UnicodeEncodeError as error:
            # It holds the whole value.
            shown = masked(error)
        raise shown

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:
        """Ends the fields and sends the request, with that body if there is one. See http.client."""
        self._sending = True
        try:
            super().endheaders(message_body, encode_chunked=encode_chunked)
        finally:
            self._sending = False

    def send(self, data: Any) -> None:
        """Sends data: bytes-like, a file, or an iterable of the first. See http.client.

        Raises ConnectionAbortedError when `close()` was called since the request was begun, by another greenlet or by
        what makes its body: what is left of it is not for another connection.
        """
        if self._sending and self.__state == _IDLE:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the connection was closed while the request was sent")
        super().send(data)

    def close(self) -> None:
        """Closes the connection. Another greenlet that waits in it, or for it to be opened, is told by an error."""
        opening = self._opening
        if opening is not None:
            opening.close()
        super().close()

    def _look_at_connection(self) -> None:
        """Lets go of a connection that nothing can be sent on any more; the next piece to send opens another, or raises
        NotConnected without `auto_open`."""
        sock = self.sock
        if not isinstance(sock, Socket) or self.__state != _IDLE:
            return
        turn = sock._turn()
        if turn == "theirs":
            raise http.client.CannotSendRequest("the response before has not been read")
        if turn == "nobody's" and (self.__response is None or self.__response.isclosed()):
            self.close()


# Characters of no host. With one of them it is the beginning of a user and a password.
_NO_HOST = frozenset("@\\\"'<>`{|}^")

# What stands between `request()` and the socket, unless a subclass or a tracer has put something else there, in the
# class or in one connection.
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
    """http.client.HTTPSConnection, on the engine's TLS.

    Certificates and names are verified, by the certificates that SSL_CERT_FILE and SSL_CERT_DIR name, else the
    system's, else Mozilla's. With a `context`, or where a program has put a function of its own in the place of
    `ssl._create_default_https_context`, TLS is that context's.
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
        """As in http.client; `key_file`, `cert_file` and `check_hostname` are taken in every version of Python."""
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

    @property
    def _context(self) -> ssl.SSLContext:
        """The context in use: made when it is first asked for, which puts it in the place of the engine's own TLS."""
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
            load_cert_chain(context, self.cert_file or "", self.key_file)
            _allow_late_authentication(context)
        if self._check_hostname is not None:
            context.check_hostname = self._check_hostname
        self._context_in_use = context

    def connect(self) -> None:
        """Connects, through the proxy of `set_tunnel()` if there is one, and shakes hands with the host itself."""
        if self._create_connection not in _USUAL_WAYS:
            _HTTPSConnection.connect(self)
        elif self._tunnel_host:
            self._dial(TLSSocket)
            self._tunnel_or_close()
            try:
                self.sock.secure(_Way(self, self._tls_for(self._tunnel_host)))
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


def _allow_late_authentication(context: ssl.SSLContext) -> None:
    """Servers may ask for the client's certificate after the handshake (RFC 8446 section 4.6.2)."""
    if context.post_handshake_auth is not None:
        context.post_handshake_auth = True
