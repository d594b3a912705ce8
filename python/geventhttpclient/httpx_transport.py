"""A transport for the package httpx: its clients, with this engine in place of httpcore.

    with httpx.Client(transport=Transport()) as client:
        client.get("https://example.org/")

Everything else is httpx's own. Nothing has to be patched: other greenlets run while a request waits.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any

import gevent

from geventhttpclient._checks import check_number
from geventhttpclient._clients import UNBOUNDED, Origin, Origins
from geventhttpclient._idle import idle_group, join
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.client import DEFAULT_MAX_CLIENTS, HTTPClient
from geventhttpclient.http2 import PRIOR_KNOWLEDGE, HTTP2Error
from geventhttpclient.proxy import Proxy, ProxyError
from geventhttpclient.tls import load_cert_chain

try:
    import httpx
except ImportError as _error:
    raise ImportError("geventhttpclient.httpx_transport needs the package httpx: pip install httpx") from _error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geventhttpclient._core import _Seconds
    from geventhttpclient.response import HTTPSocketPoolResponse

__all__ = ["Transport"]

# Bytes of a body that are handed on at once.
_PIECE = 64 * 1024

# Seconds before the second attempt to connect; before each further one, twice as many. The first comes at once.
_BACKOFF = 0.5

# What the network and the peer can bring about, and what is wrong with a request.
_ERRORS = (OSError, HTTPParseError, ValueError)

_TIMEOUTS: dict[str | None, type[httpx.TimeoutException]] = {
    "pool": httpx.PoolTimeout,
    "send": httpx.WriteTimeout,
    "head": httpx.ReadTimeout,
    "body": httpx.ReadTimeout,
}
_NETWORK: dict[str | None, type[httpx.NetworkError]] = {
    "send": httpx.WriteError,
    "head": httpx.ReadError,
    "body": httpx.ReadError,
}


class Transport(httpx.BaseTransport):
    """Sends the requests of a `httpx.Client`, each origin having a pool of kept-alive connections.

    Any number of greenlets may use a client with it at the same time.
    """

    def __init__(
        self,
        verify: ssl.SSLContext | str | os.PathLike[str] | bool = True,
        cert: str | tuple[str, ...] | None = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: httpx.Limits | None = None,
        proxy: str | httpx.URL | httpx.Proxy | Proxy | None = None,
        uds: str | os.PathLike[str] | None = None,
        local_address: str | None = None,
        retries: int = 0,
    ) -> None:
        """The arguments are those of httpx.HTTPTransport.

        - `verify`: True for the certificates that SSL_CERT_FILE or SSL_CERT_DIR name, with `trust_env`, else those of
          certifi; a file or a directory of others; an ssl.SSLContext, which is used as it is; False to verify nothing.
        - `cert`: the client's certificate: a file (PEM), or a tuple of one, its key's and the key's password.
        - `limits`: `max_connections` is for each origin. At most `max_keepalive_connections` are idle over all origins,
          in each thread; beyond it the one that has been idle longest is closed. None is `max_connections`, or no limit
          without that either. The expiry is not used: idle connections are closed after 90 s.
        - `proxy`: a URL with one of the schemes http, https, socks5, socks5h, socks4 and socks4a.
        - `uds`: the path of a Unix domain socket, connected to whatever the host.
        - `local_address`: the IP address that connections come from.
        - `retries`: how often a connection that could not be made is tried again.
        - `http2`: whether HTTP/2 is spoken over TLS where the server offers it; in any case, in the clear as well, with
          `http1=False`.

        Raises ValueError or TypeError for arguments of no use, OSError for a file that cannot be read, ssl.SSLError for
        one that holds no certificate, or no key that fits.
        """
        if not http1 and not http2:
            raise ValueError("http1 and http2: one of them has to be spoken")
        limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
        self._retries = check_number("retries", retries)
        self._arguments: dict[str, Any] = {"concurrency": max(1, limits.max_connections or UNBOUNDED)}
        spoken = (PRIOR_KNOWLEDGE if not http1 else True) if http2 else None
        for name, value in (("uds", uds), ("local_address", local_address), ("http2", spoken)):
            if value is not None:
                self._arguments[name] = value
        self._tls = _tls(verify, cert, trust_env)
        self._http_proxy = False
        if proxy is not None:
            self._arguments["proxy"] = via = _proxy(proxy)
            self._http_proxy = via.is_http
            if via.scheme == "https":
                self._arguments["proxy_ssl_options"] = {"ca_certs": _trusted(trust_env)}
        kept = limits.max_keepalive_connections
        if kept is None:
            kept = limits.max_connections
        self._idle_group = idle_group(UNBOUNDED if kept is None else kept)
        self._origins: Origins[Origin] = Origins(DEFAULT_MAX_CLIENTS)
        # What is wrong with the arguments is found now.
        self._client("https", b"localhost", None, None).close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request; gives its response as soon as there is its head.

        Raises httpx's exceptions, each with ours as its cause, and gevent.Timeout or whatever else is thrown into the
        greenlet as it is.
        """
        url, extensions = request.url, request.extensions
        key = (url.scheme, url.raw_host, url.port, extensions.get("sni_hostname"))
        target = extensions.get("target", url.raw_path)
        lines = [(name.decode("latin-1"), value) for name, value in request.headers.raw]
        timeouts = _timeouts(extensions.get("timeout"))
        body = _Body(request.stream)
        attempts = self._retries
        while True:
            try:
                origin = self._origins.get(key, self._origin, *key)
                message = origin.send(request.method, target.decode("ascii"), body.content, lines, timeouts)
                break
            except _ERRORS as error:
                if error is body.error:
                    raise
                found = _as_httpx(error, request, self._http_proxy)
                if not attempts or not isinstance(found, (httpx.ConnectError, httpx.ConnectTimeout)):
                    raise found from error
            tried = self._retries - attempts
            attempts -= 1
            gevent.sleep(_BACKOFF * 2 ** (tried - 1) if tried else 0)
        return httpx.Response(
            message.get_code(),
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in message._pairs()],
            stream=_Stream(message),
            extensions={
                "http_version": message.get_http_version().encode(),
                "reason_phrase": (message._reason() or "").encode("latin-1"),
            },
        )

    def close(self) -> None:
        """Closes the connections, those in use when their responses have been read."""
        self._origins.clear()

    def _origin(self, *key: Any) -> Origin:
        return Origin(self._client(*key))

    def _client(self, scheme: str, host: bytes, port: int | None, sni: str | None) -> HTTPClient:
        if scheme not in ("http", "https"):
            wrong = "has an unsupported protocol" if scheme else "is missing an 'http://' or 'https://' protocol"
            raise httpx.UnsupportedProtocol(f"Request URL {wrong}{f' {scheme!r}' if scheme else ''}.")
        arguments = dict(self._arguments)
        if scheme == "https":
            arguments.update(self._tls)
            if sni is not None:
                arguments["ssl_options"] = {"server_hostname": sni}
        name = host.decode("ascii")
        client = HTTPClient(f"[{name}]" if ":" in name else name, port, ssl=scheme == "https", **arguments)
        join(client, self._idle_group)
        return client


class _Body:
    """A request's body. `error` is what the program's own code has raised while it was made."""

    def __init__(self, stream: Any) -> None:
        self.error: BaseException | None = None
        # httpx's own stream of bytes in memory yields them in one piece.
        self.content: Any = b"".join(stream) if type(stream) is httpx.ByteStream else self._pieces(stream)

    def _pieces(self, stream: Any) -> Iterator[bytes]:
        try:
            yield from stream
        except BaseException as error:
            self.error = error
            raise


class _Stream(httpx.SyncByteStream):
    """A response's body, as it comes."""

    def __init__(self, message: HTTPSocketPoolResponse) -> None:
        self._message = message

    def __iter__(self) -> Iterator[bytes]:
        message = self._message
        try:
            while data := message._read_available(_PIECE):
                yield data
        except _ERRORS as error:
            raise _as_httpx(error, None) from error

    def close(self) -> None:
        self._message.release()


def _as_httpx(error: Exception, request: httpx.Request | None, http_proxy: bool = False) -> httpx.TransportError:
    """The exception of httpx for one of _ERRORS."""
    phase = getattr(error, "phase", None)
    kind: type[httpx.TransportError]
    if isinstance(error, TimeoutError):
        kind = _TIMEOUTS.get(phase, httpx.ConnectTimeout)
    elif isinstance(error, ProxyError):
        # One that does not answer by HTTP is taken for a server that does not.
        kind = httpx.RemoteProtocolError if http_proxy and error.status is None else httpx.ProxyError
    elif isinstance(error, HTTP2Error):
        kind = httpx.RemoteProtocolError
    elif isinstance(error, OSError):
        kind = _NETWORK.get(phase, httpx.ConnectError)
    elif isinstance(error, HTTPParseError):
        kind = httpx.RemoteProtocolError
    else:
        kind = httpx.LocalProtocolError
    return kind(str(error), request=request)


def _timeouts(given: dict[str, float | None] | None) -> _Seconds:
    if not given:
        return None, None, None, None
    return given.get("connect"), given.get("read"), given.get("pool"), None


def _trusted(trust_env: bool) -> str | None:
    """Returns the file of the certificates that are trusted unless others are named, None for what the environment
    names: the client reads that by itself, and fails if it cannot."""
    if trust_env and any(map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR"))):
        return None
    import certifi

    return certifi.where()


def _tls(verify: Any, cert: str | tuple[str, ...] | None, trust_env: bool) -> dict[str, Any]:
    """The arguments of a client that does TLS."""
    if not isinstance(verify, ssl.SSLContext):
        trusted = _trusted(trust_env) if verify is True else verify
        return {"verify": True if trusted is None else trusted, **({} if cert is None else {"cert": cert})}
    context = verify
    if cert is not None:
        load_cert_chain(context, *((cert,) if isinstance(cert, str) else cert))
    return {
        # It takes the argument with the certificates and leaves them: the context knows its own.
        "ssl_context_factory": lambda **_: context,
        "insecure": not context.check_hostname,
        "verify": context.verify_mode != ssl.CERT_NONE,
    }


def _proxy(given: Any) -> Proxy:
    """A proxy in our terms."""
    if isinstance(given, Proxy):
        return given
    if isinstance(given, httpx.Proxy):
        if given.headers or given.ssl_context is not None:
            raise ValueError("proxy: headers and an ssl_context of its own are not supported by this transport")
        url, (user, password) = given.url, given.auth or (None, None)
        place = Proxy.from_url(f"{url.scheme}://{url.netloc.decode('ascii')}")
        place = Proxy(place.scheme, place.host, place.port, user, password)
    elif isinstance(given, (str, httpx.URL)):
        place = Proxy.from_url(str(given))
    else:
        raise TypeError(f"proxy must be a URL or a Proxy, not {type(given).__name__}")
    # httpx leaves the resolving of names to a proxy of SOCKS 5, by either name.
    if place.scheme == "socks5":
        place = Proxy("socks5h", place.host, place.port, place.user, place.password)
    return place
