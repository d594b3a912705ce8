"""Proxies: who they are, and whether one is to be asked."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, NamedTuple
from urllib.parse import unquote

from geventhttpclient import _core
from geventhttpclient._checks import Secret, check_host, check_port, concealed, shown
from geventhttpclient.auth import BasicAuth

__all__ = ["Proxy", "ProxyError", "choose_proxy", "conceal", "is_exempt"]

# What a proxy without a port listens at.
DEFAULT_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


class ProxyError(OSError, RuntimeError):
    """A proxy did not make the connection that it was asked for; the text says what it answered instead.

    `status` is the status code of its answer, None where the proxy does not speak HTTP, or not well. `phase` is
    "proxy", `peer` is "host:port" of the proxy, and `elapsed` the seconds since the request was made. A RuntimeError
    because geventhttpclient 2 raised one.
    """

    status: int | None = None
    phase: str
    peer: str | None
    elapsed: float | None


class _Place(NamedTuple):
    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = None


# Not a dataclass: to import those takes longer than to import all the rest of this module.
class Proxy(_Place):
    """A proxy and how it is spoken to. The repr does not show the credentials.

    `scheme` is one of

    - http: plain requests are sent to it in absolute form (RFC 9112 section 3.2.2), for https it opens a tunnel
      (CONNECT, RFC 9110 section 9.3.6). Credentials are those of the Basic scheme.
    - https: the same over TLS.
    - socks5h, socks4a: it is told the name of the host, and resolves it.
    - socks5, socks4: it is told the address of the host, which is resolved here. Version 4 knows IPv4 alone.

    `host` is a name or an address, with or without the brackets of IPv6. SOCKS 4 knows users and no passwords.

    Raises ValueError or TypeError that says what is wrong, never with the credentials in it.
    """

    def __new__(cls, scheme: str, host: str, port: int, user: str | None = None, password: str | None = None) -> Proxy:
        if scheme not in DEFAULT_PORTS:
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
        """From `scheme://user:password@host:port`.

        Without a scheme it is http. Without a port it is 80 for http, 443 for https and 1080 for SOCKS. User and
        password are percent-decoded; an IPv6 address stands in brackets.

        Raises ValueError that names `argument`, and shows nothing of the URL: any part of one that is not well-formed
        may turn out to be the password.
        """
        scheme, separator, rest = url.strip().partition("://")
        if not separator:
            scheme, rest = "http", scheme
        scheme = scheme.lower()
        if scheme not in DEFAULT_PORTS:
            raise ValueError(f"{argument}: the scheme must be one of {', '.join(DEFAULT_PORTS)}")
        credentials, at, place = rest.rpartition("@")
        found = _PLACE.fullmatch(place)
        if found is None or (at and re.search(r"[/?#\\\s]", credentials)):
            raise ValueError(
                f"{argument} must be scheme://user:password@host:port; an IPv6 address stands in brackets, "
                "and blanks, / ? # \\ in user and password are percent-encoded"
            )
        port = int(found["port"]) if found["port"] else DEFAULT_PORTS[scheme]
        if not 1 <= port <= 65535:
            raise ValueError(f"{argument}: the port must be a number from 1 to 65535")
        user, colon, password = credentials.partition(":")
        return cls(
            scheme,
            found["host"],
            port,
            unquote(user) if at else None,
            unquote(password) if colon else None,
        )

    @property
    def is_http(self) -> bool:
        """Whether it takes requests in absolute form."""
        return self.scheme in ("http", "https")

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password, if there is either."""
        return (self.user or "", self.password or "") if self.user or self.password else None

    def authorization(self) -> str | None:
        """The value of Proxy-Authorization (RFC 7617), if there are credentials and it is to be told them so."""
        if self.credentials is None or not self.is_http:
            return None
        return Secret(BasicAuth(*self.credentials, encoding="utf-8").auth_header())


def _credential(scheme: str, name: str, value: object) -> Secret | None:
    """A user or a password, if there is one. ValueError or TypeError unless the proxy's protocol can carry it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"proxy {name} must be a str, not {type(value).__name__}")
    if any(character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"proxy {name} must not hold control characters or lone surrogates")
    if scheme in ("http", "https") and name == "user" and ":" in value:
        raise ValueError("proxy user must not hold a colon, which would begin the password (RFC 7617)")
    if scheme in ("socks5", "socks5h") and len(value.encode()) > 255:
        raise ValueError(f"proxy {name} must not have more than 255 bytes (RFC 1929)")
    if scheme in ("socks4", "socks4a") and name == "password" and value:
        raise ValueError("proxy password: SOCKS 4 has none")
    return Secret(value)


# host or host:port, with nothing behind it but a slash.
_PLACE = re.compile(r"(?P<host>[^\x00-\x20\x7f/?#@\\<>\[\]:]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{0,5}))?/?")


def conceal(arguments: dict[str, Any]) -> dict[str, Any]:
    """A client's arguments, which no longer show a proxy's credentials or the password of a key in their repr."""
    safe = dict(arguments)
    for name, value in arguments.items():
        if name == "proxy" and value and isinstance(value, str):
            safe[name] = Proxy.from_url(value)
        elif name in ("proxy_user", "proxy_password"):
            safe[name] = concealed(value)
        elif name in ("ssl_options", "proxy_ssl_options"):
            safe[name] = conceal_password(value)
        elif name == "cert":
            safe[name] = conceal_key(value)
    return safe


def conceal_password(ssl_options: Any) -> Any:
    """`ssl_options`, of which a password is not shown."""
    if isinstance(ssl_options, dict) and "password" in ssl_options:
        return {**ssl_options, "password": concealed(ssl_options["password"])}
    return ssl_options


def conceal_key(cert: Any) -> Any:
    """`cert`, of which a password is not shown."""
    return (*cert[:2], *map(concealed, cert[2:])) if isinstance(cert, (tuple, list)) else cert


def choose_proxy(
    scheme: str,
    host: str,
    port: int,
    proxy: str | Proxy | None,
    proxy_host: str | None,
    proxy_port: int | None,
    proxy_user: str | None,
    proxy_password: str | None,
    trust_env: bool,
) -> Proxy | None:
    """The proxy for an origin, from a client's arguments; None to connect to the origin itself.

    One that is given wins over the environment's, and over NO_PROXY.
    """
    if proxy:
        for name, value in (
            ("proxy_host", proxy_host),
            ("proxy_port", proxy_port),
            ("proxy_user", proxy_user),
            ("proxy_password", proxy_password),
        ):
            if value is not None:
                raise ValueError(f"proxy and {name} are two ways to say the same: give one of them")
        if isinstance(proxy, Proxy):
            return proxy
        if not isinstance(proxy, str):
            raise TypeError(f"proxy must be a str or a Proxy, not {type(proxy).__name__}")
        return Proxy.from_url(proxy)
    if proxy_host:
        if proxy_port is None:
            raise ValueError("proxy_host needs a proxy_port")
        check_host("proxy_host", proxy_host)
        check_port("proxy_port", proxy_port)
        return Proxy("http", proxy_host, proxy_port, proxy_user, proxy_password)
    return _of_environment(scheme, host, port) if trust_env else None


def _of_environment(scheme: str, host: str, port: int) -> Proxy | None:
    """By HTTP_PROXY or HTTPS_PROXY, else ALL_PROXY, unless NO_PROXY says otherwise.

    Names in lower case win, with an empty value too. HTTP_PROXY in upper case is ignored where REQUEST_METHOD is set:
    in a CGI program it is a header that anybody may send.
    """
    # Not for everybody: it is slow to import.
    from urllib.request import getproxies_environment

    variables = getproxies_environment()
    for name in (scheme, "all"):
        if url := variables.get(name):
            if is_exempt(host, port, variables.get("no", "")):
                return None
            return Proxy.from_url(url, f"{name.upper()}_PROXY of the environment")
    return None


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether a host and port are to be reached without the environment's proxy, by the value of NO_PROXY.

    Its entries are separated by commas or blanks. `*` is every host. A name stands for itself and the names below it,
    with or without a dot or `*.` before it; an address for itself, and `10.0.0.0/8` or `fd00::/8` for a network of
    addresses. With a port behind it (`host:8080`, `[::1]:8080`) an entry is for that port alone. Names are not
    resolved, so that networks are for hosts given as addresses.
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


# With a port, perhaps; or an IPv6 address or network as it is.
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
