"""An agent's request, which looks like one of urllib's."""

from __future__ import annotations

import contextlib
import functools
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from urllib.request import Request

from geventhttpclient._checks import MOST_KEPT_CHARACTERS, check_host, repeatable
from geventhttpclient._core import host_to_ascii, redact
from geventhttpclient.compat_errors import (
    InvalidRedirectError,
    UnrewoundBodyError,
    UnsupportedRedirectSchemeError,
    _of_useragent,
)
from geventhttpclient.header import Headers
from geventhttpclient.multipart import FilesInput as FilesInput  # also by this place
from geventhttpclient.multipart import Multipart
from geventhttpclient.url import URL

if TYPE_CHECKING:
    from geventhttpclient.header import HeadersDataType, TrailersDataType
    from geventhttpclient.url import ParamsDataType

__all__ = ["CompatRequest", "FilesInput", "Payload"]

Payload = Any
"""Bytes-like, text, a mapping of form fields, an open file, or an iterable of pieces."""

# What was read of URLs given as text: programs ask for the same ones again and again. A URL in there is never handed
# out, only copies of it.
_Known = tuple[URL, str, str, str, str, str, tuple[str, str, "int | None"]]
_KNOWN_URLS: dict[str, _Known] = {}
_KNOWN_URLS_SIZE = 512

# Characters of the host that a redirect leads to.
_MAX_HOST_LENGTH = 253

# Characters of a Location that an error message quotes.
_MAX_SHOWN = 200


def _read_url(text: str) -> _Known:
    split = URL(text)
    host, port = split.host, split.port
    place = _bare(split.netloc)
    known = (split, str(split), split.scheme, place, split.request_uri, host, (split.scheme, host, port))
    if len(text) <= MOST_KEPT_CHARACTERS:
        if len(_KNOWN_URLS) >= _KNOWN_URLS_SIZE:
            _KNOWN_URLS.clear()
        _KNOWN_URLS[text] = known
    return known


def _bare(netloc: str) -> str:
    """The authority without user and password."""
    return netloc.rpartition("@")[2]


@_of_useragent
class CompatRequest(Request):
    """A request, to be read and changed as one of urllib's, by a cookie jar for example.

    `url_split` is the URL, `url` its text, both as they were given; `host` and the result of `get_full_url()` have no
    user and password, so that a cookie jar finds the name of the host. `original_host` and `original_origin` (scheme,
    host, port) are those of the request before any redirect. `trailers` follow the payload: pairs, or a callable that
    returns what may be headers.
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
        """`headers` are kept as the object that they are; None stands for none."""
        # Not urllib's own: it would read the URL once more, and in another way.
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
        self.method = method.upper()
        self.headers: Any = Headers() if headers is None else headers
        self.payload = payload

    # As urllib has them.
    unverifiable = False
    _tunnel_host = None

    @functools.cached_property
    def unredirected_hdrs(self) -> dict[str, str]:  # type: ignore[override]
        """Not used: `add_unredirected_header` adds to `headers`."""
        return {}

    @property
    def full_url(self) -> str:
        """The URL as text."""
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

    def set_url(self, url: str | URL, params: ParamsDataType | None = None) -> None:
        """Another URL, with `params` added to its query."""
        split = url if isinstance(url, URL) and not params else URL(str(url), params=params)
        self.url_split = split
        self.url = str(split)
        self.type = split.scheme
        self.host = _bare(split.netloc)
        self.selector = split.request_uri

    def get_full_url(self) -> str:
        """The URL as text, without user and password."""
        split = self.url_split
        if "@" not in split.netloc:
            return self.url
        split = split.__copy__()
        split.netloc = _bare(split.netloc)
        return str(split)

    def get_host(self) -> str:
        """The name of the host."""
        return self.url_split.host

    def get_type(self) -> str:
        """The scheme."""
        return self.type

    def get_origin_req_host(self) -> str:
        """The host that was asked first."""
        return self.original_host

    def is_unverifiable(self) -> bool:
        """Whether the user had no say in it (RFC 2965); False."""
        return bool(self.unverifiable)

    def add_unredirected_header(self, key: str, val: str) -> None:
        """Adds a field; a redirect drops it if it is a cookie."""
        self.headers[key] = val

    def has_header(self, header_name: str) -> bool:
        """Whether there is such a field."""
        return header_name in self.headers

    def get_header(self, header_name: str, default: Any = None) -> Any:
        """The value of a field, or `default`."""
        return self.headers.get(header_name, default)

    def header_items(self) -> list[tuple[str, str]]:
        """Every field as (name, value)."""
        return list(self.headers.items())

    def _remove_header(self, name: str) -> None:
        if isinstance(self.headers, Headers):
            self.headers.discard(name)
        else:
            for key in [key for key in self.headers if key.lower() == name]:
                del self.headers[key]

    def _drop_payload(self) -> None:
        """What follows a 303 is a GET without a body, and so without fields that tell of one, or follow it."""
        self.payload = None
        self.trailers = None
        for name in ("content-length", "content-type", "content-encoding", "transfer-encoding", "trailer", "expect"):
            self._remove_header(name)

    def _add_trailers(self, trailers: TrailersDataType) -> None:
        """Has them follow the payload whenever that is sent. ValueError or TypeError for what cannot."""
        self.trailers = repeatable(trailers) or None
        if self.trailers is not None and isinstance(self.payload, Multipart):
            self._remove_header("content-length")  # what has trailers is chunked

    def _rewind_payload(self) -> None:
        """Makes the payload ready to be sent once more. UnrewoundBodyError when it can be read only once."""
        payload = self.payload
        if payload is None or isinstance(payload, (bytes, bytearray, memoryview, str, list, tuple, Mapping)):
            return
        try:
            rewind = getattr(payload, "rewind", None)
            if rewind is None:
                payload.seek(self._payload_start)
            elif rewind() is False:
                raise ValueError("read once, and gone")
        except (AttributeError, OSError, ValueError) as error:
            raise UnrewoundBodyError(self.url, "payload cannot be rewound and resent after a redirect") from error

    def _note_payload_start(self) -> None:
        """Remembers where an open file stands: that is where its part of the request begins."""
        payload = self.payload
        if payload is not None and hasattr(payload, "seek") and not hasattr(payload, "rewind"):
            # One that cannot tell is not sent twice.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._payload_start = payload.tell()

    def _drop_cookies(self) -> None:
        """Cookies are the jar's to add, for the new URL."""
        self._remove_header("cookie")
        self._remove_header("cookie2")

    def _is_same_origin(self) -> bool:
        """Whether the URL is of the origin that was asked first."""
        split = self.url_split
        return (split.scheme, split.host, split.port) == self.original_origin

    def _redirect_target(self, location: str) -> URL:
        """Returns the URL that a Location names, checked before anything depends on it: the peer wrote it."""
        try:
            target = self.url_split.redirect(_as_sent(location))
            scheme = target.scheme
            if scheme in ("http", "https"):
                _check_target(target)
                return target
        except ValueError as error:
            # Not the reason as the parser words it: that may quote the credentials of the authority.
            reason = error.args[0] if isinstance(error, _BadTarget) else "a URL that cannot be read"
            text = f"refusing to follow redirect to {reason}: {_shown(location)}"
            raise InvalidRedirectError(self.url, text) from None
        raise UnsupportedRedirectSchemeError(self.url, f"refusing to follow redirect to {_cut(scheme)!r} URL")

    def redirect(self, code: int, location: str) -> None:
        """Turns it into the request that follows a redirect (RFC 9110 section 15.4).

        After 301, 302 and 303 it is a GET without a payload (HEAD stays HEAD); after 307 and 308 the same method and
        payload. Cookies are dropped, and so are credentials where the origin is another one. User and password in the
        location, or in the URL that it refers to, are dropped as well.

        Raises UnsupportedRedirectSchemeError unless the target is http or https, and InvalidRedirectError unless it is
        a URL with a valid host and port.
        """
        target = self._redirect_target(location)
        target.netloc = _bare(target.netloc)
        if not target.fragment:
            target.fragment = self.url_split.fragment  # RFC 9110 section 10.2.2
        self.set_url(target)
        if code in (301, 302, 303):
            if self.method != "HEAD":
                self.method = "GET"  # pyright: ignore[reportIncompatibleVariableOverride]
            self._drop_payload()
        else:
            self._rewind_payload()
        self._drop_cookies()
        self._remove_header("host")
        if not self._is_same_origin():
            self._remove_header("authorization")
            self._remove_header("proxy-authorization")


class _BadTarget(ValueError):
    """The part of a redirect's target that makes it useless, in words."""


def _check_target(target: URL) -> None:
    """Raises ValueError unless a connection could be made to the host and port of the URL."""
    host = target.host
    if not host:
        raise _BadTarget("a URL without a host")
    try:
        check_host("host", host)
        # RFC 1035 section 2.3.4: names have at most 255 octets as they are sent, which is 253 as text.
        if len(host) > _MAX_HOST_LENGTH or len(host_to_ascii(host)) > _MAX_HOST_LENGTH:
            raise ValueError
    except ValueError:
        raise _BadTarget("a URL with an invalid host") from None
    try:
        if target.port == 0:
            raise ValueError
    except ValueError:
        raise _BadTarget("a URL with an invalid port") from None


def _shown(location: str) -> str:
    """A Location for an error message: without credentials, escaped and cut."""
    return repr(_cut(redact(location)))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _as_sent(location: str) -> str:
    """A Location with what is not ASCII as the server means it: UTF-8, else escapes of the very bytes."""
    if location.isascii():
        return location
    try:
        octets = location.encode("latin-1")
    except UnicodeEncodeError:
        return location
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return quote(octets, safe=string.punctuation)


def _has_content_type(headers: Any) -> bool:
    if isinstance(headers, Headers):
        return "content-type" in headers
    return any(name.lower() == "content-type" for name in headers)


def _make_request(
    url: str | URL,
    method: str = "GET",
    headers: HeadersDataType | None = None,
    payload: Payload = None,
    params: ParamsDataType | None = None,
    files: FilesInput | None = None,
    request_type: type[CompatRequest] = CompatRequest,
) -> CompatRequest:
    """A request with its payload as bytes, and the Content-Type that goes with it unless there is one.

    A mapping is a form, text is UTF-8, and with `files` both become parts of multipart/form-data, which is read as it
    is sent.
    """
    if headers is None:
        headers = Headers()
    content_type = None
    if files:
        multipart = Multipart(payload, files)
        payload, content_type = multipart, multipart.content_type
        if multipart.length is not None:
            headers["Content-Length"] = str(multipart.length)  # type: ignore[index]
    elif payload is None or (isinstance(payload, (bytes, bytearray, memoryview, str, Mapping)) and not payload):
        payload = None
    elif isinstance(payload, Mapping):
        payload = urlencode(payload, doseq=True).encode()
        content_type = "application/x-www-form-urlencoded; charset=utf-8"
    elif isinstance(payload, str):
        payload = payload.encode()
        content_type = "text/plain; charset=utf-8"
    else:
        content_type = "application/octet-stream"
    if content_type is not None and not _has_content_type(headers):
        headers["content-type"] = content_type  # type: ignore[index]
    request = request_type(url, method=method, headers=headers, payload=payload, params=params)
    if payload is not None:
        request._note_payload_start()
    return request
