"""Cookies in jars of the standard library (RFC 6265, as implemented by http.cookiejar); empty jars cost nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from http.cookiejar import Cookie, CookieJar, CookiePolicy, DefaultCookiePolicy
from http.cookiejar import request_host as _request_host  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

from geventhttpclient.header import Headers

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Cookies", "CookiesInput", "add_cookies", "bind", "extract", "jar_of", "merged", "received"]

CookiesInput = Mapping[str, Any] | CookieJar | None
"""Cookies: a mapping of names to values, or a jar."""

MOST_COOKIES = 180
"""Most cookies of one domain that responses may store in a jar. Chrome has the same limit; RFC 6265 requires at least
50."""

MOST_COOKIES_IN_ALL = 3000
"""Most cookies of all domains that responses may store in a jar: the minimum that RFC 6265 section 6.1 requires."""

MOST_COOKIE_BYTES = 8 * 1024
"""Most characters of a Set-Cookie line; longer lines are ignored. Browsers allow 4096 for name and value, curl 5000."""

MOST_LIFETIME = 64
"""Most characters of the value of Expires or Max-Age; longer values are ignored. A date has 29, or 33 in its oldest
format."""

MOST_LABELS = 127
"""Most labels of a host whose parent domains are looked up in a jar: the maximum of a DNS name."""

_ADD = CookieJar.add_cookie_header

_LOCAL = ".local"


def add_cookies(jar: CookieJar, request: Any) -> None:
    """Adds the jar's cookies to a request with urllib's interface, unless the request already has a Cookie field."""
    # A jar that overrides this method may store its cookies anywhere; all others store them in this attribute. `len`
    # would cost 0.2 us for each request, and `add_cookie_header` of an empty jar 0.9 us; this costs 0.02 us.
    if type(jar).add_cookie_header is not _ADD:
        jar.add_cookie_header(request)
    elif jar._cookies:  # type: ignore[attr-defined]
        _without_others(jar, request).add_cookie_header(request)


def _without_others(jar: CookieJar, request: Any) -> CookieJar:
    """Returns the jar, or a copy without the cookies that are bound to a host other than that of the request.

    Only hosts such as `host` and `host.local` are checked, since http.cookiejar treats those as the same.
    """
    if isinstance(jar, Cookies):
        return jar
    host = _request_host(request)
    if "." in host and not host.endswith(_LOCAL):
        return jar
    domains = [domain for domain in jar._cookies if domain.endswith(_LOCAL)]  # type: ignore[attr-defined]
    held = [c for domain in domains for names in jar._cookies[domain].values() for c in names.values()]  # type: ignore[attr-defined]
    if all(_is_for(cookie, host) for cookie in held):
        return jar
    seen = CookieJar(jar._policy)  # type: ignore[attr-defined]
    for cookie in jar:
        if _is_for(cookie, host):
            seen.set_cookie(cookie)
    return seen


def bind(jar: CookieJar, request: Any) -> None:
    """Binds the cookies that were set without a domain to the host of a request.

    From then on they are sent to no other host, and only over TLS if the request uses https.
    """
    if "" not in getattr(jar, "_cookies", ()):
        return
    unbound = [cookie for cookie in jar if not cookie.domain]
    jar.clear("")
    for cookie in unbound:
        jar.set_cookie(_bound(cookie, request.url_split.host, request.type == "https"))


def extract(jar: CookieJar, headers: Headers, request: Any) -> None:
    """Stores the cookies of a response that the jar's policy accepts in the jar.

    Ignores lines of more than MOST_COOKIE_BYTES, Set-Cookie2, and values of Expires and Max-Age that are missing or
    longer than MOST_LIFETIME. Removes the oldest cookies of a domain that has more than MOST_COOKIES.
    """
    lines = headers.getlist("set-cookie")
    if lines:
        # One line per call: http.cookiejar drops all lines of a call if it cannot parse one of them.
        for line in lines:
            if is_readable("set-cookie", line):
                fields = Headers([("Set-Cookie", _without_bad_lifetimes(line))])
                jar.extract_cookies(_Answer(fields), request)  # type: ignore[arg-type]
        _prune(jar, _request_host(request))
        # Counted only if there may be too many: counting takes linear time. A line adds at most one cookie.
        room = getattr(jar, "_room", 0) - len(lines)
        jar._room = room if room >= 0 else _prune_all(jar)  # type: ignore[attr-defined]


def _without_bad_lifetimes(line: str) -> str:
    """Returns a Set-Cookie line without the lifetimes that make http.cookiejar fail, so that the cookie itself is kept.

    Max-Age needs a value (RFC 6265 section 5.2.2 ignores it without one). A number must fit into a float, and have no
    more digits than Python accepts for an int.
    """
    lowered = line.lower()
    if "max-age" not in lowered and "expires" not in lowered:
        return line
    pair, *attributes = line.split(";")
    return ";".join([pair, *filter(_is_no_bad_lifetime, attributes)])


def _is_no_bad_lifetime(attribute: str) -> bool:
    name, equals, value = attribute.partition("=")
    if name.strip().lower() not in ("expires", "max-age"):
        return True
    return bool(equals) and len(value.strip()) <= MOST_LIFETIME


def is_readable(name: str, value: str) -> bool:
    """Returns True if this header field of a response may be passed to a jar.

    The jars of the standard library take quadratic time for Set-Cookie2, and parse it even if their policy rejects it.
    """
    name = name.lower()
    return name != "set-cookie2" and (name != "set-cookie" or len(value) <= MOST_COOKIE_BYTES)


def _prune(jar: CookieJar, host: str) -> None:
    """Limits the number of cookies in each domain that a server with this name can set cookies for."""
    all_cookies = getattr(jar, "_cookies", {})
    labels = host.split(".")
    parents = [f".{'.'.join(labels[n:])}" for n in range(max(0, len(labels) - MOST_LABELS), len(labels))]
    for domain in (host, f"{host}.local", f".{host}.local", *parents):
        held = all_cookies.get(domain, {})
        excess = sum(map(len, held.values())) - MOST_COOKIES
        if excess > 0:
            for cookie in [cookie for names in held.values() for cookie in names.values()][:excess]:
                jar.clear(cookie.domain, cookie.path, cookie.name)


def _prune_all(jar: CookieJar) -> int:
    """Limits the number of cookies in the jar over all domains.

    Since a server with a wildcard name has any number of domains, the oldest cookies of the site (the last two labels
    of a domain) with the most cookies are removed. Returns the number of cookies that may be added before the next
    call.
    """
    with getattr(jar, "_cookies_lock", nullcontext()):
        sites: dict[tuple[str, ...], list[Cookie]] = {}
        for cookie in jar:
            sites.setdefault(tuple(cookie.domain.split(".")[-2:]), []).append(cookie)
        count = sum(map(len, sites.values()))
        if count > MOST_COOKIES_IN_ALL:
            # A tenth more than necessary is removed, so that not every further cookie causes a count.
            excess = count - MOST_COOKIES_IN_ALL * 9 // 10
            for cookies in sorted(sites.values(), key=len, reverse=True):
                for cookie in cookies[:excess]:
                    jar.clear(cookie.domain, cookie.path, cookie.name)
                excess -= min(excess, len(cookies))
            count = MOST_COOKIES_IN_ALL * 9 // 10
        # http.cookiejar keeps the empty domains and paths of removed and expired cookies.
        held = getattr(jar, "_cookies", {})
        for domain, paths in list(held.items()):
            for path in [path for path, names in paths.items() if not names]:
                del paths[path]
            if not paths:
                del held[domain]
    return MOST_COOKIES_IN_ALL - count


class _Answer:
    """The part of a response that a jar uses."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def info(self) -> Headers:
        return self._headers


class Cookies(CookieJar):
    """A cookie jar with access by name: `cookies["session"]`.

    Iteration yields Cookie objects, `items()` yields names and values. If several domains or paths have a cookie of the
    same name, use `get(name, domain=..., path=...)`.

    A cookie that is set by a server without a domain, or by name, is sent to one host and not to its subdomains (RFC
    6265 section 5.3), unless the jar has another policy.

    `host` and `host.local` are distinct hosts, whatever the policy: any machine on the local link may claim a name that
    ends in `.local`. As in http.cookiejar, the domain of a cookie of `host` is `host.local` nevertheless.
    """

    def __init__(self, policy: CookiePolicy | None = None) -> None:
        """Makes an empty jar; `policy` is that of a CookieJar."""
        super().__init__(policy or DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain))

    def __reduce__(self) -> tuple[Any, ...]:
        from geventhttpclient._internal.pickling import KeptJar

        return KeptJar(self).__reduce__()

    def copy(self) -> Self:
        """Returns an independent jar with the same policy and cookies."""
        make, arguments = self.__reduce__()
        clone: Self = make(*arguments)
        return clone

    __copy__ = copy

    def make_cookies(self, response: Any, request: Any) -> Any:
        """Returns the cookies of a response. A cookie without a domain is bound to the host of the request; one with a
        domain that the host does not belong to is dropped."""
        host = _request_host(request)
        made = []
        for cookie in super().make_cookies(response, request):
            if not cookie.domain_specified:
                cookie._host = host  # type: ignore[attr-defined]
            elif not _is_in(host, cookie.domain) or cookie.domain == _LOCAL:
                # `.local` is treated as a public suffix.
                continue
            made.append(cookie)
        return made

    def _cookies_for_request(self, request: Any) -> list[Cookie]:
        host = _request_host(request)
        found: list[Cookie] = super()._cookies_for_request(request)  # type: ignore[misc]
        return [cookie for cookie in found if _is_for(cookie, host)]

    def _of(self, name: str, domain: str | None = None, path: str | None = None) -> Cookie | None:
        found = [
            cookie
            for cookie in self
            if cookie.name == name and (domain is None or _is_of(cookie, domain)) and path in (None, cookie.path)
        ]
        if len(found) > 1:
            places = ", ".join(f"{cookie.domain}{cookie.path}" for cookie in found)
            raise RuntimeError(f"there are {len(found)} cookies with the name {name!r}: of {places}")
        return found[0] if found else None

    def __getitem__(self, name: str) -> str | None:
        """Returns the value of a cookie. Raises KeyError if there is none, and RuntimeError, which names their domains
        and paths, if there are several."""
        cookie = self._of(name)
        if cookie is None:
            raise KeyError(name)
        return cookie.value

    def get(self, name: str, default: Any = None, domain: str | None = None, path: str | None = None) -> Any:
        """Returns the value of the cookie with this name, and with this domain and path if they are given; `default` if
        there is none."""
        cookie = self._of(name, domain, path)
        return default if cookie is None else cookie.value

    def set(self, name: str, value: Any, domain: str = "", path: str = "/") -> None:
        """Sets a cookie for the host `domain`; a leading dot includes its subdomains.

        Without a domain, the cookie is bound to the host of the first request that it is sent with, and to TLS if that
        request uses https. None as the value removes the cookie.
        """
        if value is None:
            for cookie in [c for c in self if c.name == name and (not domain or _is_of(c, domain))]:
                self.clear(cookie.domain, cookie.path, cookie.name)
        else:
            cookie = _cookie(name, str(value), domain, path)
            is_one = bool(domain) and not domain.startswith(".") and ("." not in domain or domain.endswith(_LOCAL))
            self.set_cookie(_bound(cookie, domain.strip("[]"), False) if is_one else cookie)

    def __setitem__(self, name: str, value: Any) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self.set(name, None)

    def __contains__(self, name: object) -> bool:
        return any(name in (cookie.name, cookie) for cookie in self)

    def keys(self) -> list[str]:
        """Returns the names."""
        return [cookie.name for cookie in self]

    def values(self) -> list[str | None]:
        """Returns the values."""
        return [cookie.value for cookie in self]

    def items(self) -> list[tuple[str, str | None]]:
        """Returns name and value of each cookie."""
        return [(cookie.name, cookie.value) for cookie in self]

    def get_dict(self, domain: str | None = None, path: str | None = None) -> dict[str, str | None]:
        """Returns a dict of values by name; only of one domain or path if they are given."""
        return {c.name: c.value for c in self if (domain is None or _is_of(c, domain)) and path in (None, c.path)}

    def update(self, other: Mapping[str, Any] | CookieJar) -> None:
        """Adds the cookies of a mapping or of another jar."""
        for cookie in _cookies_of(other):
            self.set_cookie(cookie)


def jar_of(cookies: CookiesInput, host: str = "", secure: bool = False) -> CookieJar:
    """Returns a jar unchanged, or a new jar with the cookies of a mapping, which are bound to `host`: see `merged`.

    Raises TypeError for anything else.
    """
    return cookies if isinstance(cookies, CookieJar) else merged(cookies, host=host, secure=secure)


def merged(*all_cookies: CookiesInput, host: str = "", secure: bool = False) -> Cookies:
    """Returns a new jar with all of these; later cookies replace earlier ones of the same name, domain and path.

    Cookies without a domain are bound to `host`, and to https if `secure`; without a host they are not bound yet.
    Raises TypeError for an argument that is neither a jar nor a mapping.
    """
    jar = Cookies()
    for cookies in all_cookies:
        for cookie in _cookies_of(cookies):
            jar.set_cookie(cookie if cookie.domain or not host else _bound(cookie, host, secure))
    return jar


def received(headers: Headers, request: Any) -> Cookies:
    """Returns the cookies that the headers of a response set."""
    jar = Cookies()
    extract(jar, headers, request)
    return jar


def _cookies_of(cookies: CookiesInput) -> Iterator[Cookie]:
    if isinstance(cookies, CookieJar):
        yield from cookies
    elif isinstance(cookies, Mapping):
        for name, value in cookies.items():
            if value is not None:
                yield _cookie(str(name), str(value), "", "/")
    elif cookies is not None:
        raise TypeError(
            f'cookies must be a mapping or a CookieJar, as in {{"name": "value"}}, not {type(cookies).__name__}'
        )


def _is_in(host: str, domain: str) -> bool:
    """Returns True if a host is the domain or one of its subdomains."""
    domain = domain.removeprefix(".")
    return host == domain or host.endswith(f".{domain}")


def _is_of(cookie: Cookie, domain: str) -> bool:
    """Returns True if a program may use this name for the cookie's domain: `host` as well as `host.local`."""
    return domain in (cookie.domain, getattr(cookie, "_host", None))


def _is_for(cookie: Cookie, host: str) -> bool:
    """Returns True if a cookie may be sent to a host: to the host that it is bound to, or to one in its domain.

    The policy decides in addition, on subdomains of that host for example.
    """
    bound_to: str | None = getattr(cookie, "_host", None)
    if bound_to is not None:
        return host == bound_to or host.endswith(f".{bound_to}")
    return not cookie.domain.endswith(_LOCAL) or not cookie.domain.startswith(".") or _is_in(host, cookie.domain)


def _bound(cookie: Cookie, host: str, secure: bool) -> Cookie:
    """Returns a copy of the cookie that is bound to one host."""
    bound = copy.copy(cookie)
    # The host's name in http.cookiejar: an IPv6 address is in brackets, and a name without dots gets one more label.
    host = f"[{host}]" if ":" in host else host
    bound.domain = host if "." in host else f"{host}{_LOCAL}"
    # Not among the attributes that a server can set.
    bound._host = host  # type: ignore[attr-defined]
    bound.secure = cookie.secure or secure
    return bound


def _cookie(name: str, value: str, domain: str, path: str) -> Cookie:
    return Cookie(
        version=0,
        name=name,
        value=value,
        port=None,
        port_specified=False,
        domain=domain,
        # A domain that is not specified is one host, without its subdomains.
        domain_specified=domain.startswith("."),
        domain_initial_dot=domain.startswith("."),
        path=path,
        path_specified=True,
        secure=False,
        expires=None,
        discard=True,
        comment=None,
        comment_url=None,
        rest={},
    )
