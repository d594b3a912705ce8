"""An adapter for the package requests: its sessions, with this engine in place of urllib3's connection pools.

    session = requests.Session()
    session.mount("https://", Adapter())
    session.mount("http://", Adapter())

Everything else is requests' own. Nothing has to be patched: other greenlets run while a request waits.
"""

from __future__ import annotations

import datetime
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import gevent

from geventhttpclient._clients import UNBOUNDED, Origin, Origins
from geventhttpclient.client import HTTPClient
from geventhttpclient.proxy import Proxy

try:
    import requests
except ImportError as error:
    raise ImportError("geventhttpclient.requests_adapter needs the package requests: pip install requests") from error

from requests import exceptions
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, DEFAULT_POOLBLOCK, DEFAULT_POOLSIZE, DEFAULT_RETRIES, HTTPAdapter
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar
from requests.models import REDIRECT_STATI
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers, select_proxy
from urllib3._version import __version__ as urllib3_version
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    InvalidHeader,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    ResponseError,
    UnrewindableBodyError,
)
from urllib3.exceptions import ProxyError as Urllib3ProxyError
from urllib3.exceptions import SSLError as Urllib3SSLError
from urllib3.util import SKIP_HEADER, Retry, Timeout
from urllib3.util.request import set_file_position

# These need urllib3, which requests brings.
from geventhttpclient._urllib3_errors import ERRORS, of_request, pool_of
from geventhttpclient._urllib3_response import RawResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import PreparedRequest

    from geventhttpclient._core import _Seconds

__all__ = ["Adapter"]

# What urllib3 says where a program says nothing of the kind.
_USER_AGENT = ("User-Agent", f"python-urllib3/{urllib3_version}")
_IDENTITY = ("Accept-Encoding", "identity")

_FOR_EVER: _Seconds = (None, None, None, None)


class _Response(requests.Response):
    """What an adapter returns: its header fields, cookies and content are made when they are asked for."""

    def __init__(self, adapter: Adapter, request: PreparedRequest, raw: RawResponse) -> None:
        message = raw.message
        self._content: Any = False
        self._content_consumed = False
        self._next = None
        self.status_code = message.get_code()
        self.raw = raw
        url: Any = request.url
        self.url = url.decode() if isinstance(url, bytes) else url
        self.history = []
        self.reason = message._reason() or ""
        self.request = request
        self.connection = adapter

    def __getattr__(self, name: str) -> Any:
        value: Any
        raw = self.__dict__.get("raw")
        if name == "headers" and isinstance(raw, RawResponse):
            value = _fields(raw.message._pairs())
        elif name == "encoding":
            value = get_encoding_from_headers(self.headers)
        elif name == "cookies":
            value = RequestsCookieJar()
            if isinstance(raw, RawResponse):
                extract_cookies_to_jar(value, self.request, raw)  # type: ignore[no-untyped-call]
        elif name == "elapsed":
            # A session knows better, and says so afterwards.
            value = datetime.timedelta(0)
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        setattr(self, name, value)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        # One that is loaded is requests' own: it has no adapter any more.
        return _plain, (), self.__getstate__()

    @property
    def is_redirect(self) -> bool:
        """Whether it is a redirect that a session follows: one with a Location."""
        return self.status_code in REDIRECT_STATI and "location" in self.headers

    @property
    def content(self) -> bytes:
        """The body, its content coding taken off; read now unless it has been."""
        if self._content is False and not self._content_consumed and type(self.raw) is RawResponse:
            try:
                self._content = self.raw.read_whole()
            except ProtocolError as error:
                raise exceptions.ChunkedEncodingError(error, request=self.request) from error.__cause__
            except DecodeError as error:
                raise exceptions.ContentDecodingError(error, request=self.request) from error.__cause__
            except ReadTimeoutError as error:
                raise exceptions.ConnectionError(error, request=self.request) from error.__cause__
            except Urllib3SSLError as error:
                raise exceptions.SSLError(error, request=self.request) from error.__cause__
            self._content_consumed = True
        return super().content


def _plain() -> requests.Response:
    return requests.Response()


def _fields(pairs: list[tuple[str, str]]) -> CaseInsensitiveDict[str]:
    """The header fields as requests has them: the lines of one name joined."""
    fields: CaseInsensitiveDict[str] = CaseInsensitiveDict()
    store: dict[str, Any] = fields._store  # type: ignore[attr-defined]
    for name, value in pairs:
        key = name.lower()
        known = store.get(key)
        store[key] = (name, value) if known is None else (known[0], f"{known[1]}, {value}")
    return fields


class Adapter(HTTPAdapter):
    """Sends the requests of a `requests.Session`, each origin having a pool of kept-alive connections.

    Any number of greenlets may use a session with it at the same time.
    """

    def __init__(
        self,
        pool_connections: int = DEFAULT_POOLSIZE,
        pool_maxsize: int = DEFAULT_POOLSIZE,
        max_retries: int | Retry | None = DEFAULT_RETRIES,
        pool_block: bool = DEFAULT_POOLBLOCK,
    ) -> None:
        """The arguments are those of requests' own adapter.

        - `pool_connections`: for how many origins connections are kept; the origin that was asked for longest ago goes
          first. Different proxies, certificates and ways to verify count as different origins.
        - `pool_maxsize`: with `pool_block=True`, the most connections to one origin; a greenlet that finds all of them
          busy waits. Without, which is the default, there are as many as are asked for at a time, and none waits.
        - `max_retries`: how often a connection that could not be made is tried again; a urllib3 Retry says more.
        """
        super().__init__(pool_connections, pool_maxsize, max_retries, pool_block)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = DEFAULT_POOLBLOCK, **pool_kwargs: Any
    ) -> None:
        """Called to make the pools. A subclass may override it, to pass on one of these arguments of urllib3:

        - `ssl_context`: the ssl.SSLContext for all connections.
        - `server_hostname`: the name that a certificate is to be for, and that TLS tells the server.
        - `assert_hostname`: False to let certificates be for any name.
        - `source_address`: a tuple of the IP address and the port that connections come from.
        """
        unknown = pool_kwargs.keys() - {"ssl_context", "server_hostname", "assert_hostname", "source_address"}
        if unknown:
            raise TypeError(f"not supported by this adapter: {', '.join(sorted(unknown))}")
        if pool_kwargs.get("assert_hostname"):
            raise TypeError("assert_hostname must be False or None; a name is given as server_hostname")
        self._pool_connections = connections
        self._pool_maxsize = maxsize
        self._pool_block = block
        self._pool_kwargs = pool_kwargs
        self._origins = Origins(max(1, connections))

    def close(self) -> None:
        """Closes the connections, those in use when their responses have been read. The next request opens new ones."""
        self._origins.clear()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        """Not here: there are no connections of urllib3 to be had. Raises NotImplementedError."""
        raise NotImplementedError("this adapter has no connections of urllib3")

    get_connection = get_connection_with_tls_context

    # --------------------------------------------------------------------------------------------------------- sending

    def send(  # type: ignore[override]
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str | os.PathLike[str] | None = True,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Sends a request; gives its response as soon as there is its head.

        Raises what requests' own adapter raises, each exception with ours as its cause, and gevent.Timeout or whatever
        else is thrown into the greenlet as it is.
        """
        origin, target = self._origin(request, verify, cert, proxies)
        self.add_headers(request, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies)
        timeouts = _FOR_EVER if timeout is None else _timeouts(timeout)
        method = request.method or "GET"
        lines = _lines(request.headers)
        body: Any = request.body
        position = None if body is None else set_file_position(body, None)
        retries = self.max_retries
        if not isinstance(retries, Retry):
            retries = Retry.from_int(retries)
        place = origin.place
        while True:
            try:
                message = origin.send(method, target, body, lines, timeouts)
            except ERRORS as error:
                try:
                    found = of_request(error, origin, target, timeouts)
                    retries = retries.increment(method, target, error=found, _pool=pool_of(place))
                except HTTPError as failure:
                    raise _as_requests(failure, request) from error
                _sleep(retries, None)
            else:
                raw = RawResponse(message, method, target, place, retries)
                status = message.get_code()
                # Below 400 no Retry of urllib3's own asks for more unless it was told to.
                if status < 400 and not retries.status_forcelist and type(retries) is Retry:
                    return _Response(self, request, raw)
                if not retries.is_retry(method, status, bool(message._field("retry-after"))):
                    return _Response(self, request, raw)
                try:
                    retries = retries.increment(method, target, response=raw, _pool=pool_of(place))
                    raw.drain_conn()
                    _sleep(retries, raw)
                except HTTPError as failure:
                    if isinstance(failure, MaxRetryError) and not retries.raise_on_status:
                        return _Response(self, request, raw)
                    raw.drain_conn()
                    raise _as_requests(failure, request) from failure
            if body is not None:
                position = _rewind(body, position)

    def _origin(
        self, request: PreparedRequest, verify: Any, cert: Any, proxies: Mapping[str, str] | None
    ) -> tuple[Origin, str]:
        """Where a request goes, and its target there."""
        url: Any = request.url
        if isinstance(url, bytes):
            url = url.decode()
        # requests has seen to it that a path follows, unless a program has set the URL itself.
        end = url.find("/", 8)
        place, target = url[:end], url[end:]
        if end < 0 or "?" in place or "#" in place:
            parts = urlsplit(url)
            place, target = f"{parts.scheme}://{parts.netloc}", request.path_url
        elif "#" in target:
            target = target.partition("#")[0]
        proxy = select_proxy(url, proxies) if proxies else None
        if isinstance(cert, list):
            cert = tuple(cert)
        return self._origins.get(
            (place, verify, cert, proxy), self._client, request, place, verify, cert, proxy
        ), target

    def _client(self, request: PreparedRequest, place: str, verify: Any, cert: Any, proxy: str | None) -> HTTPClient:
        """A client for an origin, or the exception of requests that says why there can be none."""
        parts = urlsplit(place)
        arguments: dict[str, Any] = {"concurrency": max(1, self._pool_maxsize) if self._pool_block else UNBOUNDED}
        if proxy:
            try:
                arguments["proxy"] = Proxy.from_url(proxy)
            except ValueError as error:
                raise exceptions.InvalidProxyURL(str(error), request=request) from error
        if parts.scheme.lower() == "https":
            arguments.update(self._tls(verify, cert))
        if arguments.get("proxy") and arguments["proxy"].scheme == "https":
            trusted = _trusted(verify)
            arguments["proxy_ssl_options"] = {"ca_certs": trusted} if trusted else {"cert_reqs": ssl.CERT_NONE}
        if (source := self._pool_kwargs.get("source_address")) is not None:
            arguments["local_address"] = source
        try:
            if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
                raise ValueError("not an http or https URL with a host")
            return HTTPClient(parts.hostname, parts.port, ssl=parts.scheme.lower() == "https", **arguments)
        except ssl.SSLError as error:
            raise exceptions.SSLError(error, request=request) from error
        except ValueError as error:
            raise exceptions.InvalidURL(str(error), request=request) from error

    def _tls(self, verify: Any, cert: Any) -> dict[str, Any]:
        """The arguments of a client that does TLS. OSError that names a file which is not there."""
        arguments: dict[str, Any] = {"verify": _trusted(verify) or False}
        if cert:
            for name, path in zip(("certificate", "key"), (cert,) if isinstance(cert, str) else cert, strict=False):
                if path and not os.path.exists(path):
                    raise OSError(f"Could not find the TLS {name} file, invalid path: {path}")
            arguments["cert"] = cert
        given = self._pool_kwargs
        if (context := given.get("ssl_context")) is not None:
            arguments["ssl_context_factory"] = lambda: context
        if server_hostname := given.get("server_hostname"):
            arguments["ssl_options"] = {"server_hostname": server_hostname}
        if given.get("assert_hostname") is False:
            arguments["insecure"] = True
        return arguments


def _trusted(verify: Any) -> str | None:
    """The file or directory of the certificates that are trusted, None where nothing is verified."""
    if not verify:
        return None
    path: str = DEFAULT_CA_BUNDLE_PATH if verify is True else os.fspath(verify)
    if not os.path.exists(path):
        raise OSError(f"Could not find a suitable TLS CA certificate bundle, invalid path: {path}")
    return path


def _timeouts(timeout: Any) -> _Seconds:
    """What requests takes for a timeout, in our terms. ValueError for what it does not take."""
    if type(timeout) in (int, float) and timeout > 0:
        return timeout, timeout, None, None
    if isinstance(timeout, tuple):
        if len(timeout) != 2:
            raise ValueError(f"Invalid timeout {timeout}: a tuple must be (connect, read), in seconds")
        timeout = Timeout(connect=timeout[0], read=timeout[1])
    elif not isinstance(timeout, Timeout):
        timeout = Timeout(connect=timeout, read=timeout)
    # From here on its total counts; what the connection takes of it is not known here, and not taken off.
    timeout = timeout.clone()
    timeout.start_connect()
    return _seconds(timeout.connect_timeout), _seconds(timeout.read_timeout), None, None


def _seconds(value: Any) -> float | None:
    """None is for ever; urllib3's sentinel stands for the default of sockets."""
    return value if value is None or isinstance(value, (int, float)) else socket.getdefaulttimeout()


def _lines(fields: Any) -> list[tuple[Any, Any]]:
    """The header lines that go out, with what urllib3 adds."""
    store: dict[str, Any]
    if type(fields) is CaseInsensitiveDict:
        store = fields._store  # type: ignore[attr-defined]
    else:
        store = {name.lower(): (name, value) for name, value in fields.items()}
    # SKIP_HEADER keeps a field from being sent, and from being added.
    lines = [line if line[1] != SKIP_HEADER else (line[0], None) for line in store.values()]
    if "accept-encoding" not in store:
        lines.append(_IDENTITY)
    if "user-agent" not in store:
        lines.append(_USER_AGENT)
    return lines


def _sleep(retries: Retry, response: Any) -> None:
    """Waits before another attempt as `retries` say, other greenlets running meanwhile."""
    seconds = None
    if response is not None and retries.respect_retry_after_header:
        seconds = retries.get_retry_after(response)
    gevent.sleep(seconds or retries.get_backoff_time())


def _rewind(body: Any, position: Any) -> Any:
    """Makes a body ready to be sent once more. UnrewindableBodyError where it cannot be."""
    if position is None and getattr(body, "__next__", None) is not None:
        raise UnrewindableBodyError("Unable to send the body of a request again: it is an iterator")
    return set_file_position(body, position)


def _as_requests(failure: HTTPError, request: PreparedRequest) -> Exception:
    """The exception of requests for one of urllib3."""
    reason = failure.reason if isinstance(failure, MaxRetryError) else failure
    kind: type[exceptions.RequestException]
    if isinstance(failure, InvalidHeader):
        kind = exceptions.InvalidHeader
    elif isinstance(failure, ProtocolError):
        kind = exceptions.ConnectionError
    elif isinstance(reason, ReadTimeoutError) and reason is failure:
        kind = exceptions.ReadTimeout
    elif isinstance(reason, ConnectTimeoutError) and not isinstance(reason, NewConnectionError):
        kind = exceptions.ConnectTimeout
    elif isinstance(reason, ResponseError):
        kind = exceptions.RetryError
    elif isinstance(reason, Urllib3ProxyError):
        kind = exceptions.ProxyError
    elif isinstance(reason, Urllib3SSLError):
        kind = exceptions.SSLError
    else:
        kind = exceptions.ConnectionError
    return kind(failure, request=request)
