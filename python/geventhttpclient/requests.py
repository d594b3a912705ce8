"""Sessions: requests with all that is to be said of them at once, in the manner of the package of that name."""

from __future__ import annotations

import copy
import json as json_module
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from geventhttpclient import _charsets, _core
from geventhttpclient._checks import check_seconds
from geventhttpclient._coding import decoded
from geventhttpclient._fieldreader import BLANKS, FieldReader
from geventhttpclient.auth import AuthValue, DigestAuth, netrc_auth, resolve_auth
from geventhttpclient.client import DEFAULT_MAX_CLIENTS, HTTPClient, HTTPClientPool
from geventhttpclient.compat_request import FilesInput, Payload, _has_content_type
from geventhttpclient.compat_response import _listed
from geventhttpclient.cookies import Cookies, add_cookies, bind, merged, received
from geventhttpclient.header import Headers, parse_content_type_charset
from geventhttpclient.useragent import (
    PERMANENT_REDIRECT_RESPONSE_CODES,
    REDIRECT_RESPONSE_CODES,
    BadStatusCode,
    CompatRequest,
    CompatResponse,
    UnrewoundBodyError,
    UserAgent,
    _drain,
)

if TYPE_CHECKING:
    import os
    from http.cookiejar import CookieJar

    from geventhttpclient.cookies import CookiesInput
    from geventhttpclient.header import HeadersDataType, TrailersDataType
    from geventhttpclient.response import HTTPSocketPoolResponse, HTTPSocketResponse
    from geventhttpclient.url import URL, ParamsDataType

__all__ = ["RequestsRequest", "RequestsResponse", "Session"]

_ITER_LINES_CHUNK_SIZE = 8192

# Bytes that are asked for at once where a body is streamed: as many as there are by then come.
_READ = 64 * 1024

# Clients for a request's own `verify`, `cert` and `proxies` are kept for the next request that wants the same, and the
# oldest of them given up beyond so many.
_MOST_POOLS = 64

# Answers to challenges before one request counts as refused: the first, and one more where a nonce has grown old.
_MOST_ANSWERS = 2

Auth = AuthValue | DigestAuth | Callable[[CompatRequest], Any]
Timeout = float | tuple[float | None, float | None] | None
Verify = "bool | str | os.PathLike[str] | None"
Hooks = Mapping[str, Callable[..., Any] | Iterable[Callable[..., Any]]] | None

_Timeouts = dict[str, "float | None"]


class _Particulars:
    """What one request is to be sent with, beside what the session has for all of them."""

    __slots__ = ("client_args", "cookies", "digest", "jar", "proxies", "timeouts")

    def __init__(self) -> None:
        self.timeouts: _Timeouts = {}
        self.client_args: dict[str, Any] = {}
        self.proxies: Mapping[str, str | None] | None = None
        self.digest: DigestAuth | None = None
        # Its own cookies, and the session's jar that they are sent with.
        self.cookies: CookieJar | None = None
        self.jar: CookieJar | None = None


class RequestsRequest(CompatRequest):
    """A request of a session."""

    _particulars: _Particulars | None = None

    @property
    def body(self) -> Any:
        """The payload."""
        return self.payload

    def redirect(self, code: int, location: str) -> None:
        """As the other requests; its own cookies go along where they belong."""
        super().redirect(code, location)
        self._add_own_cookies()

    def _add_own_cookies(self) -> None:
        own = self._particulars
        if own is not None and own.cookies is not None:
            add_cookies(merged(own.jar, own.cookies), self)


class RequestsResponse(CompatResponse):
    """A response of a session. It is true where its status code is below 400."""

    @property
    def request(self) -> Any:
        """The request that it answers: after redirects, the last one."""
        return self._request

    @property
    def ok(self) -> bool:
        """Whether the status code is below 400."""
        return self.status_code < 400

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.status_code}]>"

    @property
    def reason(self) -> str | None:
        """What the status line says behind the code."""
        return self._response.status_message

    @property
    def url(self) -> str:
        """The URL that it came from, after redirects."""
        return self._request.url if self._request is not None else ""

    @property
    def is_redirect(self) -> bool:
        """Whether it leads elsewhere."""
        return self.status_code in REDIRECT_RESPONSE_CODES and "location" in self._response

    @property
    def is_permanent_redirect(self) -> bool:
        """Whether it leads elsewhere for good."""
        return self.status_code in PERMANENT_REDIRECT_RESPONSE_CODES and "location" in self._response

    @property
    def raw(self) -> HTTPSocketResponse:
        """The response of the client, whose body comes as it was sent."""
        return self._response

    def close(self) -> None:
        """As `release`."""
        self.release()

    @property
    def encoding(self) -> str | None:
        """The encoding that you assigned, else the charset that Content-Type declares if it is a known one (those of
        browsers and of Python), else None. A charset that Python knows by another name has the name of its codec.

        Assign any text encoding that Python has; one that it does not have is read as UTF-8.
        """
        assigned = self.__dict__.get("_encoding")
        if assigned is not None:
            return str(assigned)
        content_type = self._response.get("content-type")
        charset = parse_content_type_charset(_listed(content_type)) if content_type else None
        return _charsets.declared(charset)

    @encoding.setter
    def encoding(self, encoding: str | None) -> None:
        self.__dict__["_encoding"] = encoding

    @property
    def text(self) -> str | bytes:
        """The content as text: by the `encoding` that was assigned, else as its type says; in bytes where that is of
        no text."""
        assigned = self.__dict__.get("_encoding")
        if assigned is None:
            return super().text
        return self.content.decode(_charsets.usable(assigned), "replace")

    def json(self, **kw: Any) -> Any:
        """The content read as JSON, with the arguments of `json.loads`. ValueError where it is none."""
        return json_module.loads(self.content, **kw)

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """What the Link header points to (RFC 8288), by relation, or by URL where that has none."""
        value = self._response.get("link")
        links = _parse_link_header(_listed(value)) if value else []
        return {link.get("rel") or link["url"]: link for link in links}

    @property
    def cookies(self) -> Cookies:
        """The cookies that it sets; those of its redirects are in the session's jar."""
        jar = self.__dict__.get("_cookies")
        if jar is None:
            jar = self.__dict__["_cookies"] = received(self.headers, self._request)
        return cast(Cookies, jar)

    def raise_for_status(self) -> None:
        """BadStatusCode for a status code of 400 to 599, with `code`, `response` and `request`."""
        code = self.status_code
        if 400 <= code < 600:
            error = BadStatusCode(self.url, f"{code} {self.reason} Error for url: {_core.redact(self.url)}")
            error.code = code
            error.response = self  # type: ignore[attr-defined]
            error.request = self._request  # type: ignore[attr-defined]
            raise error

    # ----------------------------------------------------------------------------------------------------- streaming

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:
        """The content in pieces of `chunk_size` bytes, its content coding taken off; each as it comes with None.

        Of a body that does not tell its length (a chunked one, say), a shorter piece comes when there is no more yet.
        With `decode_unicode` the pieces are text by `encoding`, UTF-8 by default. zlib.error for a body that is not
        coded as it says.
        """
        if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
            kind = ValueError if isinstance(chunk_size, int) else TypeError
            raise kind(f"chunk_size must be a number of at least 1 or None, not {chunk_size!r}")
        pieces: Iterator[bytes] = self._decoded()
        if chunk_size is not None:
            pieces = _cut(pieces, chunk_size, self._response.content_length is not None)
        return self._as_text(pieces) if decode_unicode else pieces

    def iter_lines(
        self,
        chunk_size: int | None = _ITER_LINES_CHUNK_SIZE,
        decode_unicode: bool = False,
        delimiter: str | bytes | None = None,
    ) -> Iterator[Any]:
        """The lines of the content without their ends, each as soon as it is there.

        Lines end with LF, CR LF or CR, or with `delimiter` alone. `chunk_size` is taken for the sake of programs that
        name it; no line waits for so many bytes.
        """
        if isinstance(delimiter, (str, bytes)) and not delimiter:
            raise ValueError("delimiter must not be empty")
        pieces: Iterator[Any] = self._decoded()
        if decode_unicode:
            delimiter = delimiter.decode() if isinstance(delimiter, bytes) else delimiter
            return _lines(self._as_text(pieces), delimiter, re.compile("\r\n|\n|\r"), "\r")
        delimiter = delimiter.encode() if isinstance(delimiter, str) else delimiter
        return _lines(pieces, delimiter, re.compile(b"\r\n|\n|\r"), b"\r")

    def _decoded(self) -> Iterator[bytes]:
        """The content in pieces, each when it is there."""
        try:
            content = self._cached_content
        except AttributeError:
            pass
        else:
            if content:
                yield content
            return
        inner = self._response
        coding = inner.get("content-encoding")
        decoder = None
        held = self._held() if inner._is_attached() else b""
        if held:
            self._drained = b""
        while data := held or inner._read_available(_READ):
            held = b""
            if coding:
                # Made for the first byte: a body that is empty has no coding, whatever the header says.
                decoder = decoder or _core.Decoder(_listed(coding))
                yield from decoded(decoder, data)
            else:
                yield data
        if decoder is not None and (rest := decoder.finish()):
            yield rest

    def _as_text(self, pieces: Iterable[bytes]) -> Iterator[str]:
        try:
            decoder = _charsets.decoder(self.encoding or "utf_8")
        except LookupError:
            decoder = _charsets.decoder("utf_8")
        return _charsets.texts(pieces, decoder)


def _cut(pieces: Iterator[Any], size: int, fill: bool = True) -> Iterator[Any]:
    """The same bytes or characters in pieces of `size`; without `fill`, shorter ones rather than wait."""
    waiting: list[Any] = []
    length = 0
    for piece in pieces:
        waiting.append(piece)
        length += len(piece)
        if fill and length < size:
            continue  # what waits is put together once, however small the pieces are
        whole = piece[:0].join(waiting)
        end = length - length % size if fill else length
        for at in range(0, end, size):
            yield whole[at : min(at + size, end)]
        length -= end
        waiting = [whole[end:]] if length else []
    if waiting:
        yield waiting[0][:0].join(waiting)


def _lines(pieces: Iterator[Any], delimiter: Any, ends: re.Pattern[Any], carriage: Any) -> Iterator[Any]:
    if delimiter is not None:
        ends = re.compile(re.escape(delimiter))
    # An end may begin in one piece and go on in the next.
    overlap = 1 if delimiter is None else len(delimiter) - 1
    nothing = carriage[:0]
    waiting: list[Any] = []
    before = nothing
    for piece in pieces:
        waiting.append(piece)
        seen = before + piece
        if ends.search(seen) is None:
            before = seen[len(seen) - overlap :] if len(seen) > overlap else seen
            continue  # a long line is put together once, when its end is there
        text = nothing.join(waiting)
        # What may be half of CR LF is left for the next piece.
        keep = carriage if delimiter is None and text[-1:] == carriage else nothing
        *lines, rest = ends.split(text[: len(text) - len(keep)])
        rest += keep
        waiting = [rest] if rest else []
        before = rest[len(rest) - overlap :] if len(rest) > overlap else rest
        yield from lines
    rest = nothing.join(waiting)
    if rest:
        yield rest[:-1] if delimiter is None and rest[-1:] == carriage else rest


_BEFORE_LINK = re.compile(r"[^<]*")
_TARGET = re.compile(r"[^>]*")
_PARAM_NAME = re.compile(r'[^\s=;,"<>]*')
_PARAM_TOKEN = re.compile(r'[^\s;,"]*')


def _parse_link_header(value: str) -> list[dict[str, str]]:
    """The links of a Link header in their order, each with its `url` and parameters."""
    links: list[dict[str, str]] = []
    reader = FieldReader(value)
    while True:
        reader.run(_BEFORE_LINK)
        if not reader.take("<"):
            return links
        link = {"url": reader.run(_TARGET)}
        if not reader.take(">"):
            return links
        reader.run(BLANKS)
        while reader.take(";"):
            reader.run(BLANKS)
            name = reader.run(_PARAM_NAME)
            reader.run(BLANKS)
            text = ""
            if reader.take("="):
                reader.run(BLANKS)
                quoted = reader.quoted()
                text = reader.run(_PARAM_TOKEN) if quoted is None else quoted
                reader.run(BLANKS)
            if name:
                link.setdefault(name.lower(), text)
        links.append(link)


class Session(UserAgent):
    """Requests to any host, with cookies kept and redirects followed. No status code is an error here.

        with Session(auth=("me", password), concurrency=10) as session:
            friends = session.get("https://example.org/friends", params={"limit": 20}, timeout=5).json()

    What these attributes say counts for every request that does not say otherwise: `auth`, `params`, `timeout`,
    `verify`, `cert`, `proxies`, `hooks`, `stream`, each as `request` takes it. `headers` go out with every request,
    `cookies` is the jar: a cookie that is set in it by name, without a domain, goes to the host of the first request
    that it is sent with. With `trust_env` netrc files are asked for credentials.
    """

    request_type = RequestsRequest
    response_type = RequestsResponse

    params: ParamsDataType | None = None
    timeout: Timeout = None
    verify: Any = None
    cert: Any = None
    proxies: Mapping[str, str | None] | None = None
    hooks: Hooks = None
    stream: bool | None = None

    def __init__(self, *args: Any, auth: Auth = None, **kw: Any) -> None:
        """The arguments are those of UserAgent, with 30 for `max_redirects` and a jar for `cookiejar`; `auth` as
        `request` takes it. `verify`, `cert` and `proxy` here are those of the clients."""
        if not args:
            kw.setdefault("max_redirects", 30)
        if len(args) < 4:
            kw.setdefault("cookiejar", Cookies())
        if not callable(auth) and not isinstance(auth, DigestAuth):
            resolve_auth(auth)  # or an error, here and now
        self.auth = auth
        self.trust_env: bool = bool(kw.get("trust_env", False))
        super().__init__(*args, **kw)
        self._pools: dict[Any, HTTPClientPool] = {}
        # For a `clientpool` of the program's own that has none.
        self._idle_group: _core.IdleGroup = self.clientpool._idle_group  # type: ignore[attr-defined]

    @property
    def headers(self) -> Headers:
        """What goes out with every request."""
        return self.default_headers

    @headers.setter
    def headers(self, headers: HeadersDataType) -> None:
        self.default_headers: Headers = headers if isinstance(headers, Headers) else Headers(headers)

    @property
    def cookies(self) -> Any:
        """The jar."""
        return self.cookiejar

    @cookies.setter
    def cookies(self, cookies: CookiesInput) -> None:
        self.cookiejar: CookieJar | None = merged(cookies) if isinstance(cookies, Mapping) else cookies

    def close(self) -> None:
        """Closes all clients. The next request makes new ones."""
        super().close()
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    # ---------------------------------------------------------------------------------------------------------- verbs

    def get(self, url: str | URL, **kw: Any) -> RequestsResponse:
        """`request` with the method GET."""
        return self.request("GET", url, **kw)

    def options(self, url: str | URL, **kw: Any) -> RequestsResponse:
        """`request` with the method OPTIONS."""
        return self.request("OPTIONS", url, **kw)

    def head(self, url: str | URL, **kw: Any) -> RequestsResponse:
        """`request` with the method HEAD; redirects are not followed unless `allow_redirects` says so."""
        kw.setdefault("allow_redirects", False)
        return self.request("HEAD", url, **kw)

    def post(self, url: str | URL, data: Payload = None, json: Any = None, **kw: Any) -> RequestsResponse:
        """`request` with the method POST."""
        return self.request("POST", url, data=data, json=json, **kw)

    def put(self, url: str | URL, data: Payload = None, **kw: Any) -> RequestsResponse:
        """`request` with the method PUT."""
        return self.request("PUT", url, data=data, **kw)

    def patch(self, url: str | URL, data: Payload = None, **kw: Any) -> RequestsResponse:
        """`request` with the method PATCH."""
        return self.request("PATCH", url, data=data, **kw)

    def delete(self, url: str | URL, **kw: Any) -> RequestsResponse:
        """`request` with the method DELETE."""
        return self.request("DELETE", url, **kw)

    def request(
        self,
        method: str,
        url: str | URL,
        params: ParamsDataType | None = None,
        data: Payload = None,
        headers: HeadersDataType | None = None,
        cookies: CookiesInput = None,
        files: FilesInput | None = None,
        auth: Auth = None,
        timeout: Timeout = None,
        allow_redirects: bool = True,
        proxies: Mapping[str, str | None] | None = None,
        hooks: Hooks = None,
        stream: bool | None = None,
        verify: bool | str | os.PathLike[str] | None = None,
        cert: str | tuple[str, ...] | None = None,
        json: Any = None,
        trailers: TrailersDataType | None = None,
    ) -> RequestsResponse:
        """Sends a request, follows redirects, and returns the response, whose body is read when it is asked for.

        - `params`: added to the query: a mapping, pairs, or text. None as a value leaves it out, a list repeats it.
        - `data`: a mapping or a list of pairs is sent as a form; else text, bytes, an open file, an iterable of pieces.
        - `json`: sent as JSON, whatever it is but None.
        - `files`: sent with the fields of `data` as multipart/form-data, and read while they are sent: see
          geventhttpclient.multipart.FilesInput.
        - `headers`: go before the session's of the same name; None as a value leaves one out.
        - `cookies`: sent with the session's, and not kept: a mapping, for the host of `url` and no other, or a
          CookieJar.
        - `auth`: a BasicAuth, a tuple of name and password, a DigestAuth, a text for Authorization, or a callable that
          is given the request and may change it. By default the session's, that of `url`, or one of a netrc file.
        - `timeout`: seconds for opening a connection and for each wait for the peer, or a tuple of the two, of which
          None is for ever; by default the session's.
        - `allow_redirects`: whether redirects are followed.
        - `proxies`: proxies by scheme, `scheme://host`, `all` or `all://host`; None as a value is no proxy.
        - `hooks`: `{"response": call}`, or a list of calls; each is given the response, and may return another one.
        - `stream`: False reads the whole body at once. By default it is read when asked for.
        - `trailers`: sent behind the body, as HTTPClient.request takes them; a callable is asked each time that the
          request is sent.
        - `verify`, `cert`: as HTTPClient takes them. A connection is only shared with requests that want the same. An
          origin that only a redirect led to is not shown the certificate.

        Raises ValueError or TypeError for arguments of no use, RetriesExceeded after too many redirects and too many
        attempts, and what the network raises.
        """
        given_type = None
        if json is not None:
            if data or files:
                raise ValueError("Can send either data or json, not both at once")
            data, given_type = json_module.dumps(json).encode(), "application/json"
        elif data is not None and not files and (isinstance(data, Mapping) or _are_pairs(data)):
            data = _core.query_encode(data.items() if isinstance(data, Mapping) else data).encode()
            given_type = "application/x-www-form-urlencoded; charset=utf-8"
        all_headers = self.default_headers.copy()
        if headers:
            all_headers.update(headers)
        if given_type is not None and data and not _has_content_type(all_headers):
            all_headers["content-type"] = given_type
        if self.params is not None:
            params = [*_pairs_of(self.params), *_pairs_of(params)]
        request = self._make_request(url, method, all_headers, data, params, files)
        if trailers is not None:
            request._add_trailers(trailers)

        auth = self.auth if auth is None else auth
        credentials = _take_credentials(request) if "@" in request.url_split.netloc else None
        timeout = self.timeout if timeout is None else timeout
        verify = self.verify if verify is None else verify
        cert = self.cert if cert is None else cert
        proxies = self.proxies if proxies is None else proxies
        own = None
        if not (timeout is verify is cert is proxies is cookies is None and not isinstance(auth, DigestAuth)):
            own = _Particulars()
            own.timeouts = _timeouts(timeout)
            if verify is not None:
                own.client_args["verify"] = verify
            if cert is not None:
                own.client_args["cert"] = tuple(cert) if isinstance(cert, list) else cert
            own.proxies = proxies
            if cookies is not None:
                own.cookies = merged(cookies, host=request.url_split.host, secure=request.type == "https")
                own.jar = self.cookiejar
                if own.jar is not None:
                    bind(own.jar, request)
            if isinstance(auth, DigestAuth):
                own.digest = auth
            request._particulars = own  # type: ignore[attr-defined]
            if own.cookies is not None:
                request._add_own_cookies()  # type: ignore[attr-defined]
        if own is None or own.digest is None:
            self._authenticate(request, auth, credentials)

        response: RequestsResponse = self._perform(request, max_redirects=None if allow_redirects else 0)
        for hook in _hooks(hooks, self.hooks):
            changed = hook(response)
            response = response if changed is None else changed
        stream = self.stream if stream is None else stream
        if stream is False:
            response.content  # noqa: B018
        return response

    # ----------------------------------------------------------------------------------------------- what is in its way

    def _verify_status(self, status_code: int, url: str | URL | None = None) -> None:
        """No status code is an error here: see `raise_for_status` of the response."""

    def _authenticate(self, request: CompatRequest, auth: Any, credentials: tuple[str, str] | None) -> None:
        """Says who is asking: by what was given, else by the URL, else by a netrc file."""
        headers = request.headers
        if callable(auth):
            changed = auth(request)
            if isinstance(changed, CompatRequest) and changed is not request:
                request.__dict__.update(changed.__dict__)
            if request.url != str(request.url_split):
                request.set_url(request.url)
        elif auth is not None:
            headers["Authorization"] = resolve_auth(auth)
        elif "authorization" not in headers:
            if credentials is None and self.trust_env:
                credentials = netrc_auth(request.url_split.host)
            if credentials is not None:
                headers["Authorization"] = resolve_auth(credentials)

    def _urlopen(self, request: CompatRequest) -> CompatResponse:
        own: _Particulars | None = getattr(request, "_particulars", None)
        if own is None:
            return super()._urlopen(request)
        digest = own.digest if own.digest is not None and request._is_same_origin() else None
        url = request.url_split
        target = url.quoted_uri or "/"
        origin = f"{url.scheme}://{url.host}:{url.port}"
        sent = digest.preemptive(request.method, target, origin) if digest is not None else None
        response = self._exchange(request, target, own, sent)
        for _ in range(_MOST_ANSWERS):
            if digest is None or response.status_code != 401:
                break
            challenges = response.info().getlist("www-authenticate")
            sent = digest.response(request.method, target, challenges, origin, sent)
            if sent is None:
                break
            try:
                request._rewind_payload()
            except UnrewoundBodyError:
                break
            _drain(self.response_type(response, request=request))
            response = self._exchange(request, target, own, sent)
        return self.response_type(response, request=request)

    def _exchange(
        self, request: CompatRequest, target: str, own: _Particulars, authorization: str | None
    ) -> HTTPSocketPoolResponse:
        if authorization is not None:
            request.headers["Authorization"] = authorization
        client = self._client_for(request, own)
        options: Any = own.timeouts if request.trailers is None else {**own.timeouts, "trailers": request.trailers}
        return client.request(
            request.method,
            target,
            body=request.payload,
            headers=request.headers,
            **options,
        )

    def _client_for(self, request: CompatRequest, own: _Particulars) -> HTTPClient:
        url, shared = request.url_split, self._pool_for(request)
        args = dict(own.client_args)
        if "cert" in args and not request._is_same_origin():
            del args["cert"]
        via, is_chosen = _proxy_for(url, own.proxies) if own.proxies is not None else (None, False)
        if is_chosen:
            args["proxy"] = via
        if not args:
            return shared.get_client(url)
        key = (shared is self.clientpool, *sorted(args.items()))
        pool = self._pools.get(key)
        if pool is None:
            common = dict(shared.client_args)
            if "verify" in args:
                common.pop("insecure", None)
            if is_chosen:
                for name in ("proxy_host", "proxy_port", "proxy_user", "proxy_password", "trust_env"):
                    common.pop(name, None)
            pool = self._pools[key] = self._more_clients({**common, **args})
            while len(self._pools) > _MOST_POOLS:
                self._pools.pop(next(iter(self._pools))).close()
        return pool.get_client(url)

    def _more_clients(self, args: dict[str, Any]) -> HTTPClientPool:
        """Returns a pool with the limits of the session's, in which its idle connections count."""
        own = self.clientpool
        pool = HTTPClientPool(**{"max_clients": getattr(own, "max_clients", DEFAULT_MAX_CLIENTS), **args})
        pool._idle_group = getattr(own, "_idle_group", self._idle_group)
        return pool


def _take_credentials(request: CompatRequest) -> tuple[str, str] | None:
    """Name and password of a request's URL, which is without them from here on: it is shown in errors and logs."""
    url = request.url_split
    found = (unquote(url.username), unquote(url.password))
    bare = copy.copy(url)
    bare.netloc = url.netloc.rpartition("@")[2]
    request.set_url(bare)
    return found if any(found) else None


def _timeouts(timeout: Timeout) -> _Timeouts:
    if timeout is None:
        return {}
    if isinstance(timeout, (tuple, list)):
        if len(timeout) != 2:
            raise ValueError(f"timeout must be a number of seconds or a tuple of two, not {timeout!r}")
        connect, read = timeout
    else:
        connect = read = timeout
    return {"connection_timeout": check_seconds("timeout", connect), "network_timeout": check_seconds("timeout", read)}


def _proxy_for(url: URL, proxies: Mapping[str, str | None]) -> tuple[str | None, bool]:
    """The proxy for a URL, and whether the mapping has a word on it: the more particular, the better."""
    for name in (f"{url.scheme}://{url.host}", url.scheme, f"all://{url.host}", "all"):
        if name in proxies:
            return proxies[name] or None, True
    return None, False


def _hooks(*all_hooks: Hooks) -> list[Callable[..., Any]]:
    found: list[Callable[..., Any]] = []
    for hooks in all_hooks:
        if hooks:
            unknown = hooks.keys() - {"response"}
            if unknown:
                raise ValueError(f"hooks: there is 'response', and no {', '.join(map(repr, sorted(unknown)))}")
            calls = hooks.get("response") or ()
            found += [calls] if callable(calls) else list(calls)
    return found


def _are_pairs(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in data)


def _pairs_of(params: Any) -> list[Any]:
    if params is None:
        return []
    if isinstance(params, (str, bytes)):
        from urllib.parse import parse_qsl

        text = params.decode() if isinstance(params, bytes) else params
        return parse_qsl(text, keep_blank_values=True)
    return list(params.items() if isinstance(params, Mapping) else params)
