"""The standard library's cookie jars at work (RFC 6265, by the rules of http.cookiejar); empty ones cost nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from http.cookiejar import Cookie, CookieJar, CookiePolicy, DefaultCookiePolicy
from http.cookiejar import request_host as _request_host  # type: ignore[attr-defined]
from typing import Any

from geventhttpclient.header import Headers

__all__ = ["Cookies", "CookiesInput", "add_cookies", "bind", "extract", "jar_of", "merged", "received"]

CookiesInput = Mapping[str, Any] | CookieJar | None
"""Cookies by name, or a jar of them."""

MOST_COOKIES = 180
"""Cookies that responses may put into a jar for one domain. Chrome keeps as many; RFC 6265 asks for 50 at least."""

MOST_COOKIES_IN_ALL = 3000
"""Cookies that responses may put into a jar, over all domains. RFC 6265 section 6.1 asks for as many at least."""

MOST_COOKIE_BYTES = 8 * 1024
"""Characters of a Set-Cookie line that is looked at. Browsers stop at 4096 for name and value, curl at 5000."""

MOST_LIFETIME = 64
"""Characters of an Expires or Max-Age that is looked at. A date has 29, or 33 in the oldest of its forms."""

MOST_LABELS = 127
"""Labels of a host whose parents are looked for in a jar: a name in the DNS has no more."""

_ADD = CookieJar.add_cookie_header

_LOCAL = ".local"


def add_cookies(jar: CookieJar, request: Any) -> None:
    """Adds the jar's cookies for a request of urllib's kind, unless that has a Cookie field already."""
    # A jar that does this in a way of its own may keep its cookies wherever it likes; all others keep them here. To
    # ask for its length would cost 0.2 us for each request, to ask an empty jar for its cookies 0.9 us; this, 0.02 us.
    if type(jar).add_cookie_header is not _ADD:
        jar.add_cookie_header(request)
    elif jar._cookies:  # type: ignore[attr-defined]
        _without_others(jar, request).add_cookie_header(request)


def _without_others(jar: CookieJar, request: Any) -> CookieJar:
    """Returns the jar, or one without the cookies by name that are bound to another host than that of the request.

    http.cookiejar takes `host` and `host.local` for the same: only hosts like these are looked at.
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
    """Binds the cookies that were set by name alone to the host of a request.

    From then on they go to no other host, and not in the clear if the request is one of https.
    """
    if "" not in getattr(jar, "_cookies", ()):
        return
    unbound = [cookie for cookie in jar if not cookie.domain]
    jar.clear("")
    for cookie in unbound:
        jar.set_cookie(_bound(cookie, request.url_split.host, request.type == "https"))


def extract(jar: CookieJar, headers: Headers, request: Any) -> None:
    """Puts the cookies of a response, if it has any, into the jar, as far as its policy takes them.

    A line of more than MOST_COOKIE_BYTES is passed over, as is Set-Cookie2, and so are an Expires and a Max-Age that
    are without a value or longer than MOST_LIFETIME. Of a domain that has more than MOST_COOKIES by now, those go that
    have been there longest.
    """
    lines = headers.getlist("set-cookie")
    if lines:
        # One at a time: what http.cookiejar cannot read is the end of all that it is shown at once.
        for line in lines:
            if is_readable("set-cookie", line):
                fields = Headers([("Set-Cookie", _without_bad_lifetimes(line))])
                jar.extract_cookies(_Answer(fields), request)  # type: ignore[arg-type]
        _prune(jar, _request_host(request))
        # Counted only when there may be too many: that takes as long as there are cookies. A line brings one at most.
        room = getattr(jar, "_room", 0) - len(lines)
        jar._room = room if room >= 0 else _prune_all(jar)  # type: ignore[attr-defined]


def _without_bad_lifetimes(line: str) -> str:
    """A Set-Cookie line without the lifetimes that make http.cookiejar fail; the cookie itself is a good one.

    A Max-Age needs a value (RFC 6265 section 5.2.2 ignores it without one), and numbers must not be beyond a float, or
    beyond the digits that Python takes for an int.
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
    """Returns whether a jar may see that header field of a response.

    The jars of the standard library take quadratic time for Set-Cookie2, and read it whatever their policy says.
    """
    name = name.lower()
    return name != "set-cookie2" and (name != "set-cookie" or len(value) <= MOST_COOKIE_BYTES)


def _prune(jar: CookieJar, host: str) -> None:
    """Keeps what the server of that name has a say in from growing for ever."""
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
    """Keeps the jar from growing for ever, whatever names its servers go by.

    A server with a wildcard name has any number of domains, so that the site (the last two labels of a domain) with
    most cookies gives up its oldest ones. Returns how many cookies may come before this is to be called again.
    """
    with getattr(jar, "_cookies_lock", nullcontext()):
        sites: dict[tuple[str, ...], list[Cookie]] = {}
        for cookie in jar:
            sites.setdefault(tuple(cookie.domain.split(".")[-2:]), []).append(cookie)
        count = sum(map(len, sites.values()))
        if count > MOST_COOKIES_IN_ALL:
            # A tenth more than must go, so that not every further cookie comes to this.
            excess = count - MOST_COOKIES_IN_ALL * 9 // 10
            for cookies in sorted(sites.values(), key=len, reverse=True):
                for cookie in cookies[:excess]:
                    jar.clear(cookie.domain, cookie.path, cookie.name)
                excess -= min(excess, len(cookies))
            count = MOST_COOKIES_IN_ALL * 9 // 10
        # http.cookiejar leaves the domains and paths of cookies that are gone or have expired.
        held = getattr(jar, "_cookies", {})
        for domain, paths in list(held.items()):
            for path in [path for path, names in paths.items() if not names]:
                del paths[path]
            if not paths:
                del held[domain]
    return MOST_COOKIES_IN_ALL - count


class _Answer:
    """As much of a response as a jar wants to see."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def info(self) -> Headers:
        return self._headers


class Cookies(CookieJar):
    """A jar in which cookies are found by name as well: `cookies["session"]`.

    Iterating yields the cookies with all that is known of them, `items()` names and values. A name that several
    domains or paths have a cookie of is found with `get(name, domain=..., path=...)`.

    A cookie that a server sets without a domain, and one that is set by name, goes to one host and not to the names
    below it (RFC 6265 section 5.3), unless the policy is another one.

    `host` and `host.local` are two hosts, whatever the policy: anybody on the link may claim a name that ends in
    `.local`. The domain of a cookie of `host` is `host.local` all the same, as http.cookiejar has it.
    """

    def __init__(self, policy: CookiePolicy | None = None) -> None:
        """Empty; `policy` as that of any CookieJar."""
        super().__init__(policy or DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain))

    def make_cookies(self, response: Any, request: Any) -> Any:
        """Returns the cookies of a response, each bound to the host of the request, unless it names a domain that the
        host is in."""
        host = _request_host(request)
        made = []
        for cookie in super().make_cookies(response, request):
            if not cookie.domain_specified:
                cookie._host = host  # type: ignore[attr-defined]
            elif not _is_in(host, cookie.domain) or cookie.domain == _LOCAL:
                # `.local` is as good as a public suffix.
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
            raise RuntimeError(f"there are {len(found)} cookies of the name {name!r}: of {places}")
        return found[0] if found else None

    def __getitem__(self, name: str) -> str | None:
        """The value. KeyError where there is none, RuntimeError that names the places where there are several."""
        cookie = self._of(name)
        if cookie is None:
            raise KeyError(name)
        return cookie.value

    def get(self, name: str, default: Any = None, domain: str | None = None, path: str | None = None) -> Any:
        """The value of the cookie of that name, and of that domain and path where they are given; or `default`."""
        cookie = self._of(name, domain, path)
        return default if cookie is None else cookie.value

    def set(self, name: str, value: Any, domain: str = "", path: str = "/") -> None:
        """Sets a cookie that goes out to the host `domain`; with a dot before it, to the names below that as well.

        Without a domain it goes to the host of the first request that it is sent with, and, if that is one of https,
        not in the clear. None as the value removes it.
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
        """The names."""
        return [cookie.name for cookie in self]

    def values(self) -> list[str | None]:
        """The values."""
        return [cookie.value for cookie in self]

    def items(self) -> list[tuple[str, str | None]]:
        """Name and value of each."""
        return [(cookie.name, cookie.value) for cookie in self]

    def get_dict(self, domain: str | None = None, path: str | None = None) -> dict[str, str | None]:
        """Values by name, those of one domain and path where they are given."""
        return {c.name: c.value for c in self if (domain is None or _is_of(c, domain)) and path in (None, c.path)}

    def update(self, other: Mapping[str, Any] | CookieJar) -> None:
        """Adds cookies by name, or another jar's."""
        for cookie in _cookies_of(other):
            self.set_cookie(cookie)


def jar_of(cookies: CookiesInput, host: str = "", secure: bool = False) -> CookieJar:
    """A jar, as it is, or one of the cookies by name, which are for `host` alone: see `merged`.

    TypeError for anything else.
    """
    return cookies if isinstance(cookies, CookieJar) else merged(cookies, host=host, secure=secure)


def merged(*all_cookies: CookiesInput, host: str = "", secure: bool = False) -> Cookies:
    """A new jar of all of these; the later ones replace earlier ones of the same name, domain and path.

    Those by name alone are for `host`, and for https alone if `secure`; without a host they are not bound to any yet.
    TypeError for what is neither a jar nor a mapping.
    """
    jar = Cookies()
    for cookies in all_cookies:
        for cookie in _cookies_of(cookies):
            jar.set_cookie(cookie if cookie.domain or not host else _bound(cookie, host, secure))
    return jar


def received(headers: Headers, request: Any) -> Cookies:
    """The cookies that a response sets, by its headers."""
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
        raise TypeError(f"cookies must be a mapping or a CookieJar, not {type(cookies).__name__}")


def _is_in(host: str, domain: str) -> bool:
    """Returns whether a host is the domain or below it."""
    domain = domain.removeprefix(".")
    return host == domain or host.endswith(f".{domain}")


def _is_of(cookie: Cookie, domain: str) -> bool:
    """Returns whether that is what a program may call the cookie's domain: `host` as well as `host.local`."""
    return domain in (cookie.domain, getattr(cookie, "_host", None))


def _is_for(cookie: Cookie, host: str) -> bool:
    """Returns whether a cookie may go to a host: to the one that it is bound to, or that is in its domain.

    The policy has a say besides, in names below that host for example.
    """
    bound_to: str | None = getattr(cookie, "_host", None)
    if bound_to is not None:
        return host == bound_to or host.endswith(f".{bound_to}")
    return not cookie.domain.endswith(_LOCAL) or not cookie.domain.startswith(".") or _is_in(host, cookie.domain)


def _bound(cookie: Cookie, host: str, secure: bool) -> Cookie:
    """The cookie for one host alone."""
    bound = copy.copy(cookie)
    # By the name that http.cookiejar gives it: an IPv6 address in brackets, what has no dots with one more label.
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
        # What is not specified is one host, and not the names below it.
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
