"""The transport of httpx and of httpx2: one implementation, with the classes of the package that it serves."""

from __future__ import annotations

import os
import ssl
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import gevent

from geventhttpclient._internal.idle_limit import idle_group, join
from geventhttpclient._internal.timeouts import RequestTimeouts
from geventhttpclient._internal.validation import check_number, given, unescaped_zone, without_zone
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.adapters._network_stream import NetworkStream
from geventhttpclient.adapters._origins import UNBOUNDED, Origin, Origins
from geventhttpclient.adapters._trace import Trace
from geventhttpclient.client import DEFAULT_MAX_CLIENTS, HTTPClient
from geventhttpclient.http2 import PRIOR_KNOWLEDGE, HTTP2Error
from geventhttpclient.proxy import Proxy, ProxyError
from geventhttpclient.response import _has_broken
from geventhttpclient.tls import load_cert_chain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from geventhttpclient.response import HTTPSocketPoolResponse

__all__ = ["PackageStream", "PackageTransport"]

# Most bytes of a piece of a body.
_PIECE = 64 * 1024

# Seconds before the second retry of a connection attempt, doubled before each further one. The first is immediate.
_BACKOFF = 0.5

# Errors of the network and of the peer, and of invalid requests.
_ERRORS = (OSError, HTTPParseError, ValueError)

# Names of the exceptions for a timeout, and for an error of the network, in each phase.
_TIMEOUTS = {"pool": "PoolTimeout", "send": "WriteTimeout", "head": "ReadTimeout", "body": "ReadTimeout"}
_NETWORK = {"send": "WriteError", "head": "ReadError", "body": "ReadError"}


class PackageTransport:
    """Mixin for the transport of a package, with a pool of kept-alive connections for each origin."""

    _package: ModuleType
    _core_package: str
    _stream: type[PackageStream]

    def __init__(
        self,
        verify: ssl.SSLContext | str | os.PathLike[str] | bool = True,
        cert: str | tuple[str, ...] | None = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: Any = None,
        proxy: Any = None,
        uds: str | os.PathLike[str] | None = None,
        local_address: str | None = None,
        retries: int = 0,
    ) -> None:
        """Takes the arguments of the package's HTTPTransport.

        - `verify`: True for the certificates of SSL_CERT_FILE or SSL_CERT_DIR if `trust_env` is True, else those of
          certifi; a file or a directory of other certificates; an ssl.SSLContext, which is used unchanged; False to
          verify nothing.
        - `cert`: the client's certificate: a file (PEM), or a tuple of that file, the key's file and its password.
        - `limits`: the package's Limits. `max_connections` applies to each origin. At most `max_keepalive_connections`
          are idle over all origins, in each thread; beyond that, the connection that has been idle longest is closed.
          None means `max_connections`, or no limit if that is None too. The expiry is ignored: idle connections are
          closed after 90 s.
        - `proxy`: a URL with one of the schemes http, https, socks5, socks5h, socks4 and socks4a, as text or the
          package's URL or Proxy, or a geventhttpclient.proxy.Proxy.
        - `uds`: the path of a Unix domain socket to connect to, whatever the host.
        - `local_address`: the local IP address of connections.
        - `retries`: the number of retries of a failed connection attempt.
        - `http2`: whether to use HTTP/2 over TLS if the server offers it; with `http1=False`, HTTP/2 is always used,
          also without TLS.

        Raises ValueError or TypeError for invalid arguments, OSError for a file that cannot be read, and ssl.SSLError
        for one without a certificate or without the matching key.
        """
        if not http1 and not http2:
            raise ValueError("http1 and http2: at least one of them must be True")
        package: Any = self._package
        if limits is not None and not isinstance(limits, package.Limits):
            raise TypeError(f"limits must be an {package.__name__}.Limits, not {given(limits)}")
        limits = limits or package.Limits(max_connections=100, max_keepalive_connections=20)
        self._retries = check_number("retries", retries)
        self._arguments: dict[str, Any] = {"concurrency": max(1, limits.max_connections or UNBOUNDED)}
        spoken = (PRIOR_KNOWLEDGE if not http1 else True) if http2 else None
        for name, value in (("uds", uds), ("local_address", local_address), ("http2", spoken)):
            if value is not None:
                self._arguments[name] = value
        self._may_choose_http2 = spoken is True
        self._tls = _tls(verify, cert, trust_env)
        self._http_proxy = False
        if proxy is not None:
            self._arguments["proxy"] = via = _proxy(package, proxy)
            self._http_proxy = via.is_http
            if via.scheme == "https":
                self._arguments["proxy_ssl_options"] = {"ca_certs": _trusted(trust_env)}
        kept = limits.max_keepalive_connections
        if kept is None:
            kept = limits.max_connections
        self._idle_group = idle_group(UNBOUNDED if kept is None else kept)
        self._origins: Origins[Origin] = Origins(DEFAULT_MAX_CLIENTS)
        self._upgraded: WeakSet[NetworkStream] = WeakSet()
        # Raises the errors of invalid arguments now.
        self._client("https", b"localhost", None, None, False).close()

    def handle_request(self, request: Any) -> Any:
        """Sends a request. Returns its response when the head has been received.

        Raises the package's exceptions, each with the engine's as its cause. gevent.Timeout, and any other exception
        that is thrown into the greenlet, is raised unchanged. TypeError for a request of another package.
        """
        package: Any = self._package
        if not isinstance(request, package.Request):
            raise TypeError(_wrong_package(request, package.__name__))
        url, extensions = request.url, request.extensions
        target = extensions.get("target", url.raw_path)
        lines = [(name.decode("latin-1"), value) for name, value in request.headers.raw]
        if "%" in url.host:
            # The package includes the zone of an IPv6 address in Host.
            lines = [(name, _host_field(value) if name.lower() == "host" else value) for name, value in lines]
        # HTTP/2 has no upgrade (RFC 9113 section 8.6).
        only_http1 = self._may_choose_http2 and _asks_for_upgrade(lines)
        key = (url.scheme, url.raw_host, url.port, extensions.get("sni_hostname"), only_http1)
        timeouts = _timeouts(extensions.get("timeout"))
        call = extensions.get("trace")
        trace = None if call is None else Trace(call, request, self._route(url, extensions))
        message = self._send(request, key, target, lines, timeouts, trace)
        if message.get_code() == 101 and not _asks_for_upgrade(lines):
            message.release()
            unasked = package.RemoteProtocolError("the server switched protocols without being asked", request=request)
            if trace is not None:
                trace.fail(unasked)
            raise unasked
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in message._pairs()]
        version, reason = message.get_http_version().encode(), (message._reason() or "").encode("latin-1")
        if trace is not None:
            try:
                status = message.get_code()
                trace.end((status, headers) if trace.is_http2 else (version, status, reason, headers))
            except BaseException:
                message.release()
                raise
        is_upgrade = message.get_code() == 101 or request.method == "CONNECT"
        network = NetworkStream(self._core_package, message, url.host, is_upgrade)
        if is_upgrade:
            self._upgraded.add(network)
        return package.Response(
            message.get_code(),
            headers=headers,
            stream=self._stream(message, network, trace),
            extensions={"http_version": version, "reason_phrase": reason, "network_stream": network},
        )

    def _send(
        self,
        request: Any,
        key: tuple[Any, ...],
        target: bytes,
        lines: list[tuple[str, bytes]],
        timeouts: RequestTimeouts,
        trace: Trace | None,
    ) -> HTTPSocketPoolResponse:
        """Sends a request, again if no connection could be opened. Raises the package's exceptions."""
        package: Any = self._package
        body = _Body(package, request.stream, trace)
        on_phase = None if trace is None else trace.enter
        attempts = self._retries
        while True:
            try:
                origin = self._origins.get(key, self._origin, *key)
                return origin.send(request.method, target.decode("ascii"), body.content, lines, timeouts, on_phase)
            except BaseException as error:
                is_of_program = error is body.error or (trace is not None and error is trace.error)
                if is_of_program or not isinstance(error, _ERRORS):
                    if trace is not None:
                        trace.fail(error)
                    raise
                found = translated(package, error, request, self._http_proxy)
                if trace is not None:
                    trace.fail(found)
                if not attempts or not isinstance(found, (package.ConnectError, package.ConnectTimeout)):
                    raise found from error
            tried = self._retries - attempts
            attempts -= 1
            delay = _BACKOFF * 2 ** (tried - 1) if tried else 0
            with nullcontext() if trace is None else trace.retry():
                gevent.sleep(delay)

    def close(self) -> None:
        """Closes the idle connections, and those that carry another protocol. Those of responses are closed after they
        have been read."""
        self._origins.clear()
        for network in list(self._upgraded):
            network.close()

    def _route(self, url: Any, extensions: dict[str, Any]) -> dict[str, Any]:
        """Returns the arguments of a connection for the trace."""
        proxy = self._arguments.get("proxy")
        return {
            "host": url.host if proxy is None else proxy.host,
            "port": (url.port or (443 if url.scheme in ("https", "wss") else 80)) if proxy is None else proxy.port,
            "local_address": self._arguments.get("local_address"),
            "path": self._arguments.get("uds"),
            "proxy": None if proxy is None else proxy.scheme,
            "server_hostname": extensions.get("sni_hostname") or url.host,
            "timeout": (extensions.get("timeout") or {}).get("connect"),
        }

    def _origin(self, *key: Any) -> Origin:
        return Origin(self._client(*key))

    def _client(self, scheme: str, host: bytes, port: int | None, sni: str | None, only_http1: bool) -> HTTPClient:
        # With ws and wss, a request begins a WebSocket (RFC 6455 section 3).
        scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme)
        if scheme not in ("http", "https"):
            wrong = "has an unsupported protocol" if scheme else "is missing an 'http://' or 'https://' protocol"
            package: Any = self._package
            raise package.UnsupportedProtocol(f"Request URL {wrong}{f' {scheme!r}' if scheme else ''}.")
        arguments = dict(self._arguments)
        if only_http1:
            del arguments["http2"]
        if scheme == "https":
            arguments.update(self._tls)
            if sni is not None:
                arguments["ssl_options"] = {"server_hostname": sni}
        name = unescaped_zone(host.decode("ascii"))
        client = HTTPClient(f"[{name}]" if ":" in name else name, port, ssl=scheme == "https", **arguments)
        join(client, self._idle_group)
        return client


class _Body:
    """A request's body. `error` is the exception that the program's iterator has raised."""

    def __init__(self, package: Any, stream: Any, trace: Trace | None) -> None:
        self.error: BaseException | None = None
        self._trace = trace
        # The package's stream of bytes in memory yields them in one piece.
        self.content: Any = b"".join(stream) if type(stream) is package.ByteStream else self._pieces(stream)

    def _pieces(self, stream: Any) -> Iterator[bytes]:
        if self._trace is not None:
            self._trace.body()
        try:
            yield from stream
        except BaseException as error:
            self.error = error
            raise


class PackageStream:
    """Mixin for a response's body, in pieces as they are received."""

    _package: ModuleType

    def __init__(self, message: HTTPSocketPoolResponse, network: NetworkStream, trace: Trace | None) -> None:
        self._message = message
        self._network = network
        self._trace = trace

    def __iter__(self) -> Iterator[bytes]:
        if self._trace is None:
            return self._pieces()
        return self._traced_pieces(self._trace)

    def _pieces(self) -> Iterator[bytes]:
        message = self._message
        try:
            while data := message._read_available(_PIECE):
                yield data
        except _ERRORS as error:
            raise translated(self._package, error, None) from error

    def _traced_pieces(self, trace: Trace) -> Iterator[bytes]:
        with trace.step("receive_response_body"):
            yield from self._pieces()

    def close(self) -> None:
        if self._trace is None:
            self._close()
            return
        trace, self._trace = self._trace, None
        try:
            trace.begin("response_closed")
        finally:
            self._close()
        trace.end()

    def _close(self) -> None:
        self._message.release()
        self._network.close()


def _asks_for_upgrade(lines: list[tuple[str, bytes]]) -> bool:
    return any(name.lower() == "upgrade" for name, _ in lines)


def _host_field(value: bytes) -> bytes:
    return without_zone(value.decode("latin-1")).encode("latin-1")


def translated(package: ModuleType, error: Exception, request: Any, http_proxy: bool = False) -> Exception:
    """Returns the package's exception for one of _ERRORS."""
    phase = getattr(error, "phase", "")
    if isinstance(error, TimeoutError):
        name = _TIMEOUTS.get(phase, "ConnectTimeout")
    elif isinstance(error, ProxyError):
        # A proxy that does not respond in HTTP is treated like a server that does not.
        name = "RemoteProtocolError" if http_proxy and error.status is None else "ProxyError"
    elif isinstance(error, (HTTPParseError, HTTP2Error)) and not _has_broken(error):
        name = "RemoteProtocolError"
    elif isinstance(error, OSError):
        name = _NETWORK.get(phase, "ConnectError")
    else:
        name = "LocalProtocolError"
    kind: type[Exception] = getattr(package, name)
    return kind(str(error), request=request)  # type: ignore[call-arg]


def _wrong_package(request: object, name: str) -> str:
    other = type(request).__module__.partition(".")[0]
    text = f"this transport is for clients of {name}, and got a request of {other}"
    if other in ("httpx", "httpx2"):
        text += f": from geventhttpclient.adapters.{other} import Transport"
    return text


def _timeouts(given: dict[str, float | None] | None) -> RequestTimeouts:
    if not given:
        return _NO_TIMEOUTS
    return RequestTimeouts(given.get("connect"), given.get("read"), given.get("pool"))


_NO_TIMEOUTS = RequestTimeouts(None, None)


def _trusted(trust_env: bool) -> str | None:
    """Returns the file of the certificates that are trusted by default. Returns None if the environment names them: the
    client reads those by itself, and raises an error if it cannot."""
    if trust_env and any(map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR"))):
        return None
    import certifi

    return certifi.where()


def _tls(verify: Any, cert: str | tuple[str, ...] | None, trust_env: bool) -> dict[str, Any]:
    """Returns the TLS arguments of a client."""
    if not isinstance(verify, ssl.SSLContext):
        trusted = _trusted(trust_env) if verify is True else verify
        return {"verify": True if trusted is None else trusted, **({} if cert is None else {"cert": cert})}
    context = verify
    if cert is not None:
        load_cert_chain(context, *((cert,) if isinstance(cert, str) else cert))
    return {
        # It ignores the argument with the certificates, since the context has its own.
        "ssl_context_factory": lambda **_: context,
        "insecure": not context.check_hostname,
        "verify": context.verify_mode != ssl.CERT_NONE,
    }


def _proxy(package: Any, given: Any) -> Proxy:
    """Returns a Proxy for any form of the argument."""
    if isinstance(given, Proxy):
        return given
    if isinstance(given, package.Proxy):
        if given.headers or given.ssl_context is not None:
            raise ValueError("proxy: headers and an ssl_context of its own are not supported by this transport")
        url, (user, password) = given.url, given.auth or (None, None)
        place = Proxy.from_url(f"{url.scheme}://{url.netloc.decode('ascii')}")
        place = Proxy(place.scheme, place.host, place.port, user, password)
    elif isinstance(given, (str, package.URL)):
        place = Proxy.from_url(str(given))
    else:
        raise TypeError(f"proxy must be a URL or a Proxy, not {type(given).__name__}")
    # In both packages, a SOCKS 5 proxy resolves names with both schemes.
    if place.scheme == "socks5":
        place = Proxy("socks5h", place.host, place.port, place.user, place.password)
    return place
