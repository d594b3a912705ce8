"""Proxies: their settings, those of the environment, and the exceptions of NO_PROXY."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from geventhttpclient import _core
from geventhttpclient._internal.validation import Secret, as_secret, check_host, check_port, shown, unescaped_zone
from geventhttpclient.auth import BasicAuth
from geventhttpclient.exceptions import ProxyError

__all__ = ["Proxy", "ProxyError", "choose_proxy", "is_exempt", "redact"]

# The port of a proxy if none is given.
DEFAULT_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


# Desktops write `socks` in ALL_PROXY, without a version. Browsers take it for SOCKS 5 with names resolved by the proxy,
# so that no name leaks to the local DNS.
_ALIASES = {"socks": "socks5h"}


class _Place(NamedTuple):
    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = None


# Not a dataclass: to import those takes longer than to import all the rest of this module.
class Proxy(_Place):
    """A proxy: protocol, address and credentials. The repr does not show the credentials.

    `scheme` is one of

    - http: plain requests are sent to the proxy in absolute form (RFC 9112 section 3.2.2); for https the proxy opens a
      tunnel (CONNECT, RFC 9110 section 9.3.6). Credentials are sent with the Basic scheme.
    - https: the same, over TLS.
    - socks5h, socks4a: the proxy receives the name of the host and resolves it. `socks` means socks5h.
    - socks5, socks4: the client resolves the name, and the proxy receives the address. Version 4 supports only IPv4.

    `host` is a name or an address, with or without the brackets of IPv6. `user` and `password` are text, sent as UTF-8,
    or bytes in UTF-8. SOCKS 4 supports users but no passwords.

    Raises ValueError or TypeError, whose text never contains the credentials.
    """

    def __new__(
        cls,
        scheme: str,
        host: str,
        port: int,
        user: str | bytes | None = None,
        password: str | bytes | None = None,
    ) -> Proxy:
        if isinstance(scheme, str):
            scheme = _ALIASES.get(scheme, scheme)
        if not isinstance(scheme, str) or scheme not in DEFAULT_PORTS:
            raise ValueError(f"proxy: the scheme must be one of {', '.join(DEFAULT_PORTS)}, not {shown(scheme)}")
        check_host("proxy host", host)
        check_port("proxy port", port)
        host = _core.host_to_ascii(host.strip("[]"))
        return super().__new__(
            cls, scheme, host, port, _credential(scheme, "user", user), _credential(scheme, "password", password)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(scheme={self.scheme!r}, host={self.host!r}, port={self.port!r})"

    @classmethod
    def from_url(cls, url: str, argument: str = "proxy") -> Proxy:
        """Returns the proxy for `scheme://user:password@host:port`.

        The default scheme is http, the default port 80 for http, 443 for https and 1080 for SOCKS. User and password
        are percent-decoded; an IPv6 address is in brackets.

        Raises ValueError, which names `argument` and shows no part of the URL: any part of a malformed URL may be the
        password.
        """
        scheme, separator, rest = url.strip().partition("://")
        if not separator:
            scheme, rest = "http", scheme
        scheme = scheme.lower()
        scheme = _ALIASES.get(scheme, scheme)
        if scheme not in DEFAULT_PORTS:
            raise ValueError(f"{argument}: the scheme must be one of {', '.join(DEFAULT_PORTS)}")
        credentials, at, place = rest.rpartition("@")
        found = _PLACE.fullmatch(place)
        if found is None or (at and re.search(r"[/?#\\\s]", credentials)):
            raise ValueError(
                f"{argument} must be scheme://user:password@host:port; an IPv6 address needs brackets, "
                "and blanks, / ? # \\ in user and password must be percent-encoded"
            )
        port = int(found["port"]) if found["port"] else DEFAULT_PORTS[scheme]
        if not 1 <= port <= 65535:
            raise ValueError(f"{argument}: the port must be a number from 1 to 65535")
        user, colon, password = credentials.partition(":")
        return cls(
            scheme,
            unescaped_zone(found["host"]),
            port,
            unquote_to_bytes(user) if at else None,
            unquote_to_bytes(password) if colon else None,
        )

    @property
    def is_http(self) -> bool:
        """True if the proxy accepts requests in absolute form."""
        return self.scheme in ("http", "https")

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password; None if there is neither."""
        return (self.user or "", self.password or "") if self.user or self.password else None

    def authorization(self) -> str | None:
        """Returns the value of Proxy-Authorization (RFC 7617); None without credentials, and for a SOCKS proxy."""
        if self.credentials is None or not self.is_http:
            return None
        return Secret(BasicAuth(*self.credentials, encoding="utf-8").auth_header())


def _credential(scheme: str, name: str, value: object) -> Secret | None:
    """Returns a user or a password, or None. Raises ValueError or TypeError if the proxy's protocol cannot carry it."""
    if value is None:
        return None
    value = _decoded(f"proxy {name}", value)
    if not isinstance(value, str):
        raise TypeError(f"proxy {name} must be a str or bytes, not {type(value).__name__}")
    if any(character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"proxy {name} must not contain control characters or lone surrogates")
    if scheme in ("http", "https") and name == "user" and ":" in value:
        raise ValueError("proxy user must not contain a colon, which would begin the password (RFC 7617)")
    if scheme in ("socks5", "socks5h") and len(value.encode()) > 255:
        raise ValueError(f"proxy {name} must not have more than 255 bytes (RFC 1929)")
    if scheme in ("socks4", "socks4a") and name == "password" and value:
        raise ValueError("proxy password: SOCKS 4 supports no password")
    return Secret(value)


def _decoded(name: str, value: Any) -> Any:
    """Returns bytes decoded as UTF-8, and anything else unchanged. Raises ValueError, which does not show the bytes."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        return value
    with suppress(UnicodeDecodeError):
        return bytes(value).decode()
    raise ValueError(f"{name} must be UTF-8")


# host or host:port, followed by nothing except an optional slash.
_PLACE = re.compile(
    r"(?P<host>[^\x00-\x20\x7f/?#@\\<>\[\]:]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9%._~-]+)?\])(:(?P<port>[0-9]{0,5}))?/?"
)


def redact(arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns a client's arguments with a repr that shows neither a proxy's credentials nor the password of a key."""
    safe = dict(arguments)
    for name, value in arguments.items():
        if name == "proxy" and value and isinstance(value, str):
            safe[name] = Proxy.from_url(value)
        elif name in ("proxy_user", "proxy_password"):
            safe[name] = as_secret(_decoded(name, value))
        elif name in ("ssl_options", "proxy_ssl_options"):
            safe[name] = redact_password(value)
        elif name == "cert":
            safe[name] = redact_key(value)
    return safe


def redact_password(ssl_options: Any) -> Any:
    """Returns `ssl_options` with a repr that does not show the password."""
    if isinstance(ssl_options, dict) and "password" in ssl_options:
        return {**ssl_options, "password": as_secret(ssl_options["password"])}
    return ssl_options


def redact_key(cert: Any) -> Any:
    """Returns `cert` with a repr that does not show the password."""
    return (*cert[:2], *map(as_secret, cert[2:])) if isinstance(cert, (tuple, list)) else cert


def choose_proxy(
    scheme: str,
    host: str,
    port: int,
    proxy: str | Proxy | None,
    proxy_host: str | None,
    proxy_port: int | None,
    proxy_user: str | bytes | None,
    proxy_password: str | bytes | None,
    trust_env: bool,
) -> Proxy | None:
    """Returns the proxy for an origin according to a client's arguments; None for a direct connection.

    A proxy that is given takes precedence over the environment and over NO_PROXY.
    """
    if proxy:
        for name, value in (
            ("proxy_host", proxy_host),
            ("proxy_port", proxy_port),
            ("proxy_user", proxy_user),
            ("proxy_password", proxy_password),
        ):
            if value is not None:
                raise ValueError(f"proxy and {name} exclude each other: pass only one of them")
        if isinstance(proxy, Proxy):
            return proxy
        if not isinstance(proxy, str):
            raise TypeError(f"proxy must be a str or a Proxy, not {type(proxy).__name__}: as in 'http://host:port'")
        return Proxy.from_url(proxy)
    if proxy_host:
        if proxy_port is None:
            raise ValueError("proxy_host needs a proxy_port")
        check_host("proxy_host", proxy_host, "proxy_port", "proxy")
        check_port("proxy_port", proxy_port)
        return Proxy("http", proxy_host, proxy_port, proxy_user, proxy_password)
    return _of_environment(scheme, host, port) if trust_env else None


def _of_environment(scheme: str, host: str, port: int) -> Proxy | None:
    """Returns the proxy of HTTP_PROXY or HTTPS_PROXY, else of ALL_PROXY, unless NO_PROXY exempts the origin.

    Lower-case names take precedence, even with an empty value. HTTP_PROXY in upper case is ignored if REQUEST_METHOD is
    set: in a CGI program it is the value of a header, which any client can send.
    """
    # Imported only if needed: the import is slow.
    from urllib.request import getproxies_environment

    variables = getproxies_environment()
    for name in (scheme, "all"):
        if url := variables.get(name):
            if is_exempt(host, port, variables.get("no", "")):
                return None
            return Proxy.from_url(url, f"{name.upper()}_PROXY of the environment")
    return None


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Returns True if the value of NO_PROXY exempts a host and port from the environment's proxy.

    Its entries are separated by commas or blanks. `*` matches every host. A name matches itself and its subdomains,
    with or without a leading dot or `*.`; an address matches itself, and `10.0.0.0/8` or `fd00::/8` a network of
    addresses. An entry with a port (`host:8080`, `[::1]:8080`) matches that port only. Names are not resolved, so that
    networks match only hosts that are given as addresses.
    """
    host = host.strip("[]").partition("%")[0].rstrip(".").lower()
    address = _address(host)
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        if entry == "*":
            return True
        found = _EXEMPTION.fullmatch(entry)
        if found is None or (found["port"] and int(found["port"]) != port):
            continue
        place = (found["place"] or entry).strip("[]")
        if address is not None:
            if _holds(place, address):
                return True
        elif _address(place) is None:
            name = _in_ascii(place.removeprefix("*").removeprefix(".").rstrip("."))
            if name and (host == name or host.endswith(f".{name}")):
                return True
    return False


# A host with an optional port; or an IPv6 address or network without brackets.
_EXEMPTION = re.compile(r"(?P<place>\[[^\]]*\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?|[^\[\]]+")


def _in_ascii(name: str) -> str:
    try:
        return _core.host_to_ascii(name)
    except ValueError:
        return ""


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _holds(network: str, address: _Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
