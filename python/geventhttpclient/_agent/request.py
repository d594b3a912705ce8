"""An agent's request, with the interface of urllib's."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode
from urllib.request import Request

from geventhttpclient._agent import of_useragent
from geventhttpclient._agent.redirects import MAY_BECOME_GET, redirect_target
from geventhttpclient._internal.argument_errors import check_body
from geventhttpclient._internal.validation import MOST_KEPT_CHARACTERS, given, repeatable
from geventhttpclient.exceptions import UnrewoundBodyError
from geventhttpclient.header import Headers
from geventhttpclient.multipart import FilesInput as FilesInput  # re-exported
from geventhttpclient.multipart import Multipart
from geventhttpclient.url import URL

if TYPE_CHECKING:
    from typing_extensions import Self

    from geventhttpclient.header import HeadersDataType, TrailersDataType
    from geventhttpclient.url import ParamsDataType

__all__ = ["CompatRequest", "FilesInput", "Payload"]

Payload = Any
"""Bytes-like, text, a mapping of form fields, an open file, or an iterable of pieces."""

# Cache of parsed URLs, since programs request the same ones repeatedly. The URLs in it are never returned, only copies.
_Known = tuple[URL, str, str, str, str, str, tuple[str, str, "int | None"]]
_KNOWN_URLS: dict[str, _Known] = {}
_KNOWN_URLS_SIZE = 512


def _read_url(text: str) -> _Known:
    split = URL(text)
    host, port = split.host, split.port
    place = _bare(split.netloc)
    selector = split.request_uri or "/"
    known = (split, str(split), split.scheme, place, selector, host, (split.scheme, host, port))
    if len(text) <= MOST_KEPT_CHARACTERS:
        if len(_KNOWN_URLS) >= _KNOWN_URLS_SIZE:
            _KNOWN_URLS.clear()
        _KNOWN_URLS[text] = known
    return known


def _bare(netloc: str) -> str:
    """Returns the authority without user and password."""
    return netloc.rpartition("@")[2]


# Types of payloads that can be sent and pickled any number of times.
_IN_MEMORY = (bytes, bytearray, str, list, tuple, Mapping)


class _UnpicklablePayload:
    """Replacement in a pickled request for a payload that cannot be pickled. Sending it raises an error."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> NoReturn:
        raise UnrewoundBodyError(self._url, "payload was lost when the request was pickled")


@of_useragent
class CompatRequest(Request):
    """A request with the interface of urllib's, which cookie jars use for example.

    `url_split` is the URL, `url` its text, both as they were given; `host` and the result of `get_full_url()` do not
    contain user and password, so that a cookie jar finds the name of the host. `original_host` and `original_origin`
    (scheme, host, port) are those of the request before any redirect. `trailers` are sent after the payload: pairs, or
    a callable that returns any form of headers.
    """

    method: str
    url: str
    url_split: URL
    type: str
    host: str
    selector: str
    origin_req_host: str
    original_host: str
    original_origin: tuple[str, str, int | None]
    payload: Payload
    trailers: Any = None

    def __init__(
        self,
        url: str | URL,
        method: str = "GET",
        headers: HeadersDataType | None = None,
        payload: Payload = None,
        params: ParamsDataType | None = None,
    ) -> None:
        """Keeps the `headers` object itself; None means no headers."""
        # Without urllib's own `__init__`, which would parse the URL again, and by other rules.
        if params is None and type(url) is str:
            known = _KNOWN_URLS.get(url) or _read_url(url)
            split, self.url, self.type, self.host, self.selector, self.original_host, self.original_origin = known
            self.url_split = split.__copy__()
        else:
            self.set_url(url, params)
            split = self.url_split
            self.original_host = split.host
            self.original_origin = (self.type, self.original_host, split.port)
        self.origin_req_host = self.original_host
        try:
            self.method = method.upper()
        except AttributeError:
            raise TypeError(f"method must be a str, not {given(method)}") from None
        self.headers: Any = Headers() if headers is None else headers
        self.payload = payload
        if payload is not None:
            self._note_payload_start()

    redirect_keeps_method = False
    """Whether a 301 or 302 redirect changes only a POST into a GET: see `redirect`. An agent sets its own value."""

    # Attributes of urllib's requests.
    unverifiable: bool = False
    _tunnel_host = None

    # The payload whose start was determined, and that start; None if it is not known.
    _noted: Any = None
    _payload_start: int | None = None
    # Whether this class set Content-Length for the payload.
    _is_counted = False

    @functools.cached_property
    def unredirected_hdrs(self) -> dict[str, str]:  # type: ignore[override]
        """An empty dict: `add_unredirected_header` adds to `headers`."""
        return {}

    @property
    def full_url(self) -> str:
        """The URL as a str."""
        return self.url

    @full_url.setter
    def full_url(self, value: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.set_url(value)

    @property
    def data(self) -> Any:
        """The payload."""
        return self.payload

    @data.setter
    def data(self, payload: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.payload = payload
        self._discount()
        self._note_payload_start()

    def set_url(self, url: str | URL, params: ParamsDataType | None = None) -> None:
        """Replaces the URL, and adds `params` to its query."""
        split = url if isinstance(url, URL) and not params else URL(str(url), params=params)
        self.url_split = split
        self.url = str(split)
        self.type = split.scheme
        self.host = _bare(split.netloc)
        self.selector = split.request_uri or "/"

    def get_full_url(self) -> str:
        """Returns the URL as a str, without user and password."""
        split = self.url_split
        if "@" not in split.netloc:
            return self.url
        split = split.__copy__()
        split.netloc = _bare(split.netloc)
        return str(split)

    def get_host(self) -> str:
        """Returns the name of the host."""
        return self.url_split.host

    def get_type(self) -> str:
        """Returns the scheme."""
        return self.type

    def get_origin_req_host(self) -> str:
        """Returns the host of the request before any redirect."""
        return self.original_host

    def is_unverifiable(self) -> bool:
        """Returns True if the user could not approve the request (RFC 2965): after a redirect.

        A strict cookie policy (`strict_ns_unverifiable`) then rejects third-party cookies.
        """
        return bool(self.unverifiable)

    def add_unredirected_header(self, key: str, val: str) -> None:
        """Adds a field; a redirect drops it if it is a cookie."""
        self.headers[key] = val

    def has_header(self, header_name: str) -> bool:
        """Returns True if there is such a field."""
        return header_name in self.headers

    def get_header(self, header_name: str, default: Any = None) -> Any:
        """Returns the value of a field, or `default` if there is none."""
        return self.headers.get(header_name, default)

    def header_items(self) -> list[tuple[str, str]]:
        """Returns all fields as (name, value)."""
        return list(self.headers.items())

    def _remove_header(self, name: str) -> None:
        if isinstance(self.headers, Headers):
            self.headers.discard(name)
        else:
            for key in [key for key in self.headers if key.lower() == name]:
                del self.headers[key]

    def _drop_payload(self) -> None:
        """Removes the payload with its header fields and trailers, since the request after a 303 is a GET without a
        body."""
        self.payload = self._noted = None
        self.trailers = None
        for name in ("content-length", "content-type", "content-encoding", "transfer-encoding", "trailer", "expect"):
            self._remove_header(name)

    def _add_trailers(self, trailers: TrailersDataType) -> None:
        """Adds trailers, which are sent after the payload each time. Raises ValueError or TypeError if they are
        invalid."""
        self.trailers = repeatable(trailers) or None
        if self.trailers is not None:
            self._discount()  # a body with trailers is chunked

    def _count(self, length: int) -> None:
        """Sets Content-Length, with the spelling of 2.6.1, since the headers may be a plain dict."""
        self._remove_header("content-length")
        self.headers["content-length"] = str(length)
        self._is_counted = True

    def _discount(self) -> None:
        """Removes the Content-Length that this class set, after the payload or its framing has changed."""
        if self._is_counted:
            self._remove_header("content-length")
            self._is_counted = False

    def _rewind_payload(self) -> None:
        """Rewinds the payload, so that it can be sent again. Raises UnrewoundBodyError if it can be read only once."""
        payload = self.payload
        if payload is None or isinstance(payload, (memoryview, *_IN_MEMORY)):
            return
        try:
            rewind = getattr(payload, "rewind", None)
            if rewind is None:
                # A payload that was assigned but not sent starts at 0, as in 2.6.1.
                start = self._payload_start if self._noted is payload else 0
                if start is None:
                    raise ValueError("its start is not known")
                payload.seek(start)
            elif rewind() is False:
                raise ValueError("it can be read only once")
        except (AttributeError, OSError, ValueError) as error:
            raise UnrewoundBodyError(self.url, "payload cannot be rewound and resent after a redirect") from error

    def _note_payload_start(self) -> None:
        """Stores the position of an open file, from which its content is sent."""
        payload = self._noted = self.payload
        self._payload_start = None
        if payload is not None and hasattr(payload, "seek") and not hasattr(payload, "rewind"):
            # A file without a position is not sent twice.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._payload_start = payload.tell()

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state to pickle, for an error with this request that is raised in another process."""
        state = dict(self.__dict__)
        if not isinstance(self.payload, (type(None), *_IN_MEMORY)):
            state["payload"] = _UnpicklablePayload(self.url)
        # A pickled payload is in memory, and needs no start.
        state.pop("_noted", None)
        if callable(self.trailers):
            state["trailers"] = None
        return state

    def _drop_cookies(self) -> None:
        """Removes the cookies: the jar adds those for the new URL."""
        self._remove_header("cookie")
        self._remove_header("cookie2")

    def _origin(self) -> tuple[str, str, int | None]:
        """Returns scheme, host and port of the URL."""
        split = self.url_split
        return (split.scheme, split.host, split.port)

    def _target(self) -> str:
        """Returns path and query as they are sent; an empty path becomes `/`, also before a query."""
        target = self.url_split.quoted_uri
        return target if target.startswith("/") else f"/{target}"

    def _is_same_origin(self) -> bool:
        """Returns True if the URL has the origin of the request before any redirect."""
        return self._origin() == self.original_origin

    def _after_redirect(self, code: int) -> tuple[str, bool]:
        """Returns the method of the request after a redirect, and True if that request keeps the payload."""
        method = self.method
        if code not in MAY_BECOME_GET:
            return method, True
        if code == 303 or not self.redirect_keeps_method:
            return ("HEAD" if method == "HEAD" else "GET"), False
        # RFC 9110 sections 15.4.2 and 15.4.3 permit this only for POST.
        return ("GET", False) if method == "POST" else (method, True)

    def redirect(self, code: int, location: str) -> None:
        """Changes this request into the one that follows a redirect (RFC 9110 section 15.4).

        After 301, 302 and 303 it becomes a GET without a payload (HEAD stays HEAD); after 307 and 308 method and
        payload are kept. With `redirect_keeps_method`, they are kept after 301 and 302 as well, except that a POST
        becomes a GET.

        Cookies are removed. A Host header is removed if the origin differs from that of the previous URL, and
        credentials are removed if it differs from that of the first request. User and password in the location, or in
        the URL that it refers to, are removed as well.

        Raises UnsupportedRedirectSchemeError unless the target is http or https, InvalidRedirectError unless it is a
        URL with a valid host and port, and UnrewoundBodyError if the payload cannot be sent again.
        """
        target = redirect_target(self.url_split, self.url, location)
        before = self._origin()
        target.netloc = _bare(target.netloc)
        if not target.fragment:
            target.fragment = self.url_split.fragment  # RFC 9110 section 10.2.2
        self.set_url(target)
        self.unverifiable = True
        method, has_payload = self._after_redirect(code)
        self.method = method  # pyright: ignore[reportIncompatibleVariableOverride]
        if has_payload:
            self._rewind_payload()
        else:
            self._drop_payload()
        self._drop_cookies()
        if self._origin() != before:
            # A Host header of the program is valid only for that origin.
            self._remove_header("host")
        if not self._is_same_origin():
            self._remove_header("authorization")
            self._remove_header("proxy-authorization")


def _has_field(headers: Any, name: str) -> bool:
    if isinstance(headers, Headers):
        return name in headers
    return any(key.lower() == name for key in headers)


def _make_request(
    url: str | URL,
    method: str = "GET",
    headers: HeadersDataType | None = None,
    payload: Payload = None,
    params: ParamsDataType | None = None,
    files: FilesInput | None = None,
    request_type: type[CompatRequest] = CompatRequest,
) -> CompatRequest:
    """Returns a request with an encoded payload, and with a Content-Type for it unless there is one.

    A mapping is encoded as a form, text as UTF-8. With `files`, the payload becomes parts of multipart/form-data, which
    is read while it is sent. A form, and text without a Content-Type, gets a Content-Length here. Text with a
    Content-Type stays a str, since programs read it from the request.
    """
    if headers is None:
        headers = Headers()
    content_type = length = None
    if files:
        multipart = Multipart(payload, files)
        payload, content_type, length = multipart, multipart.content_type, multipart.length
    elif payload is None or (isinstance(payload, (bytes, bytearray, memoryview, str, Mapping)) and not payload):
        payload = None if isinstance(payload, Mapping) else payload
    elif isinstance(payload, Mapping):
        payload = urlencode(payload, doseq=True).encode()
        content_type, length = "application/x-www-form-urlencoded; charset=utf-8", len(payload)
    elif not isinstance(payload, str):
        check_body("payload", payload)
        content_type = "application/octet-stream"
    elif not _has_field(headers, "content-type"):
        payload = payload.encode()
        content_type, length = "text/plain; charset=utf-8", len(payload)
    if content_type is not None and not _has_field(headers, "content-type"):
        headers["content-type"] = content_type  # type: ignore[index]
    request = request_type(url, method=method, headers=headers, payload=payload, params=params)
    if length is not None and not _has_field(headers, "transfer-encoding"):
        request._count(length)
    return request
