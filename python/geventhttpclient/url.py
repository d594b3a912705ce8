"""URLs that can be edited.

    >>> url = URL("http://example.org/search?q=gevent")
    >>> url["q"] = ["gevent", "greenlets & co"]
    >>> url.query_string
    '/search?q=gevent&q=greenlets+%26+co'

URLs are split, joined and resolved in Rust, by the rules of RFC 3986 as `urllib.parse` applies them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload
from urllib.parse import ParseResult

from geventhttpclient import _core
from geventhttpclient._internal.slots import reduce_with_slots
from geventhttpclient.exceptions import InvalidURL

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "DEFAULT_PORTS",
    "UNRESERVED_SET",
    "URL",
    "InvalidURL",
    "ParamsDataType",
    "requote_uri",
    "to_key_val_list",
    "unquote_unreserved",
]

DEFAULT_PORTS = {"http": 80, "https": 443}
"""Default ports by scheme: `URL.port` if the URL has no port. You may add schemes, since it is read on each access."""

ParamsDataType = Mapping[str, Any] | Iterable[tuple[str, Any]] | str | bytes
"""Query parameters: pairs (a list of values repeats its key, None is omitted), or an encoded query."""

UNRESERVED_SET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""The characters that never need an escape (RFC 3986 section 2.3)."""

_split = _core.url_split
_unsplit = _core.url_unsplit
_read_authority = _core.authority_read
_query_get = _core.query_get

_T = TypeVar("_T")
_Fields = tuple[str, str, str, str, str, str]
_Authority = tuple[str | None, str, str, str, int | None]

_NOT_READ: _Authority = (None, "", "", "", None)


class URL:
    """A URL: mutable, and therefore not hashable; equal to a URL or a str with the same six fields.

    The six fields are attributes and may be assigned: `scheme`, `netloc`, `path`, `params` (of the last path segment,
    after ";"), `query` and `fragment`. Each is a str as in the URL (percent-encoded, without its delimiter), "" if
    missing. The parts of `netloc` may be assigned too: `username` (= `user`), `password`, `hostname` (= `host`),
    `port`.

    `query_string` (= `request_uri`) is the target of a request: path and query.

    `url[key]`, `url.get(key)`, `url[key] = value`, `del url[key]` and `key in url` access the decoded query. Iteration
    yields the six fields.
    """

    __slots__ = ("_authority", "fragment", "netloc", "params", "path", "query", "scheme")

    scheme: str
    netloc: str
    path: str
    params: str
    query: str
    fragment: str
    # The netloc that was last parsed and its parts: valid as long as `netloc` is the same object.
    _authority: _Authority

    def __init__(self, url: str | URL | ParseResult | Iterable[str] = "", params: ParamsDataType | None = None) -> None:
        """Takes a str, another URL or six fields as `url`, and adds `params` to its query.

        Raises ValueError for an invalid authority (brackets without an IPv6 address, a backslash, characters that are
        normalised to delimiters); an invalid port is reported by `port`. Neither errors nor the repr show the user and
        the password.
        """
        self.scheme, self.netloc, self.path, self.params, self.query, self.fragment = (
            _split(url) if isinstance(url, str) else _six_fields(url)
        )
        self._authority = _NOT_READ
        if params is not None:
            added = _encode_params(params)
            self.query = f"{self.query}&{added}" if self.query and added else self.query or added

    # The whole URL

    def __str__(self) -> str:
        return _unsplit(self.scheme, self.netloc, self.path, self.params, self.query, self.fragment)

    def geturl(self) -> str:
        """Returns the URL as a str (RFC 3986 section 5.3), like `str(url)`."""
        return _unsplit(self.scheme, self.netloc, self.path, self.params, self.query, self.fragment)

    def __repr__(self) -> str:
        return f"URL({_core.redact(str(self))})"

    def __iter__(self) -> Iterator[str]:
        return iter((self.scheme, self.netloc, self.path, self.params, self.query, self.fragment))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, URL):
            try:
                other = URL(other)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                return NotImplemented
        return (
            self.path == other.path
            and self.query == other.query
            and self.netloc == other.netloc
            and self.scheme == other.scheme
            and self.params == other.params
            and self.fragment == other.fragment
        )

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return reduce_with_slots(self, protocol)

    def __copy__(self) -> Self:
        clone = object.__new__(type(self))
        if type(self) is URL:
            clone.scheme = self.scheme
            clone.netloc = self.netloc
            clone.path = self.path
            clone.params = self.params
            clone.query = self.query
            clone.fragment = self.fragment
            clone._authority = self._authority
            return clone
        # A subclass may have more attributes, in its slots and in its __dict__.
        state: Any = object.__reduce_ex__(self, 2)[2]
        for attributes in state:
            for name, value in (attributes or {}).items():
                object.__setattr__(clone, name, value)
        return clone

    # The target of a request

    @property
    def request_uri(self) -> str:
        """The request target in origin form (RFC 9112 section 3.2.1): `path;params?query`, as in the URL; "" if all are
        missing."""
        path = f"{self.path};{self.params}" if self.params else self.path
        return f"{path}?{self.query}" if self.query else path

    query_string = request_uri

    @property
    def quoted(self) -> str:
        """The URL as a str with exactly the escapes that it needs: see `requote_uri`."""
        return _core.requote_uri(self.geturl())

    @property
    def quoted_uri(self) -> str:
        """`request_uri` with exactly the escapes that it needs: see `requote_uri`."""
        return _core.requote_uri(self.request_uri)

    # The parts of the authority (RFC 3986 section 3.2)

    @property
    def username(self) -> str:
        """The user name, percent-encoded; "" if missing. Assignment escapes characters that are not allowed there."""
        seen = self._authority
        return seen[1] if seen[0] is self.netloc else self._read_authority()[1]

    @username.setter
    def username(self, username: str) -> None:
        self.netloc = _core.authority_with_user(self.netloc, username or None, self.password or None)

    @property
    def password(self) -> str:
        """The password, percent-encoded; "" if missing. Assignment escapes characters that are not allowed there."""
        seen = self._authority
        return seen[2] if seen[0] is self.netloc else self._read_authority()[2]

    @password.setter
    def password(self, password: str) -> None:
        self.netloc = _core.authority_with_user(self.netloc, self.username or None, password or None)

    @property
    def hostname(self) -> str:
        """The host in lower case, an IPv6 address without its brackets; "" if missing. Assignment adds the brackets to
        an IPv6 address, and raises ValueError if the value cannot be a host."""
        seen = self._authority
        return seen[3] if seen[0] is self.netloc else self._read_authority()[3]

    @hostname.setter
    def hostname(self, hostname: str) -> None:
        self.netloc = _core.authority_with_host(self.netloc, hostname)

    @property
    def port(self) -> int | None:
        """The port; the default port of the scheme (`DEFAULT_PORTS`) if the URL has none, and None if that is not known
        either. Raises ValueError if the URL's port is not a number from 0 to 65535. Assigning None removes the port."""
        seen = self._authority
        port = seen[4] if seen[0] is self.netloc else self._read_authority()[4]
        if port is None:
            return DEFAULT_PORTS.get(self.scheme)
        # -1 means that the port is invalid: this raises the error that names it.
        if port >= 0:
            return port
        return _core.authority_port(self.netloc, f"{self.path}{self.params}{self.query}{self.fragment}")

    @port.setter
    def port(self, port: int | None) -> None:
        self.netloc = _core.authority_with_port(self.netloc, port)

    user = username
    host = hostname

    def _read_authority(self) -> _Authority:
        seen: _Authority = _read_authority(self.netloc)
        self._authority = seen
        return seen

    # The query as a form (application/x-www-form-urlencoded)

    def __getitem__(self, key: str) -> str | list[str]:
        """Returns the decoded value of `key`, or the list of its values if the key is repeated. Raises KeyError if the
        key is missing."""
        value = _query_get(self.query, key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        """Replaces all values of `key` by this value, percent-encoded, with "+" for a space. A list repeats the key,
        None removes it."""
        self.query = _core.query_replace(self.query, key, value)

    def __delitem__(self, key: str) -> None:
        """Removes every value of `key`. Raises KeyError if the key is missing."""
        if _query_get(self.query, key) is None:
            raise KeyError(key)
        self.query = _core.query_replace(self.query, key, None)

    def __contains__(self, key: object) -> bool:
        return _query_get(self.query, key) is not None

    @overload
    def get(self, key: str) -> str | list[str] | None: ...

    @overload
    def get(self, key: str, default: _T) -> str | list[str] | _T: ...

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the decoded value of `key`, the list of its values if the key is repeated, and `default` if it is
        missing."""
        value = _query_get(self.query, key)
        return default if value is None else value

    # The path, and the resolution of references

    def append_to_path(self, value: object) -> str:
        """Adds `str(value)` to the path, with exactly one slash between them, and returns the new path.

        Characters that are not allowed in a path are escaped ("?" and "#" too); slashes and escapes in the value stay.
        """
        # RFC 3986 section 3.3: parameters belong to the segment that they follow, which is no longer the last one.
        path = f"{self.path};{self.params}" if self.params else self.path
        self.path = _core.path_append(path, str(value))
        self.params = ""
        return self.path

    def redirect(self, other: str | URL | ParseResult | Iterable[str]) -> Self:
        """Resolves the reference `other` against this URL (RFC 3986 section 5.2), and returns a new URL. Removes dot
        segments."""
        reference = other if isinstance(other, str) else _six_fields(other)
        base = (self.scheme, self.netloc, self.path, self.params, self.query, self.fragment)
        return type(self)(_core.url_resolve(base, reference))


def to_key_val_list(value: ParamsDataType | None) -> list[tuple[Any, Any]] | None:
    """Returns the pairs of a mapping or of an iterable of pairs as a list; None for None. Raises ValueError for a
    single value."""
    if value is None:
        return None
    if isinstance(value, (str, bytes, int)):
        raise ValueError("cannot encode objects that are not 2-tuples")
    return list(value.items() if isinstance(value, Mapping) else value)


def unquote_unreserved(uri: str) -> str:
    """Returns the URI with escapes of unreserved characters decoded (RFC 3986 section 6.2.2.2); all others stay.

    Raises InvalidURL for a percent sign followed by two letters or digits that are not hexadecimal.
    """
    try:
        return _core.unquote_unreserved(uri)
    except ValueError as error:
        raise InvalidURL(str(error)) from None


def requote_uri(uri: str) -> str:
    """Returns the URI with exactly the escapes that it needs: unreserved characters are decoded, and characters that
    are not allowed in a URI are escaped.

    Percent signs are taken for escapes, unless one of them cannot be an escape (`%zz`): then all of them are escaped.
    """
    return _core.requote_uri(uri)


def _six_fields(url: Any) -> _Fields:
    if isinstance(url, URL):
        return (url.scheme, url.netloc, url.path, url.params, url.query, url.fragment)
    if isinstance(url, (bytes, bytearray)) or not hasattr(url, "__iter__"):
        from geventhttpclient._internal.argument_errors import refused_url

        raise refused_url(url)
    # Python 3.15 can tell an empty field from a missing one, which is None.
    scheme, netloc, path, params, query, fragment = fields = tuple(field if field is not None else "" for field in url)
    for field in fields:
        if not isinstance(field, str):
            raise TypeError(f"a field of a URL is a str, not {type(field).__name__}")
    return scheme, netloc, path, params, query, fragment


def _encode_params(params: ParamsDataType) -> str:
    if isinstance(params, str):
        return params
    if isinstance(params, bytes):
        return params.decode()
    try:
        return _core.query_encode(params.items() if isinstance(params, Mapping) else params)
    except (TypeError, ValueError) as error:
        from geventhttpclient._internal.argument_errors import refused_params

        raise refused_params(params, error) from None
