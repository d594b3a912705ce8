"""Proxies: who they are, and whether one is to be asked."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from geventhttpclient._checks import check_host, check_port


@dataclass(frozen=True)
class Proxy:
    """A proxy: `scheme` is http, https, socks4a, socks5 or socks5h. Its repr does not show the credentials."""

    scheme: str
    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def is_http(self) -> bool:
        """Whether it takes requests in absolute form."""
        return self.scheme in ("http", "https")

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password, if there is a user."""
        return (self.user, self.password or "") if self.user else None

    def authorization(self) -> str | None:
        """The value of Proxy-Authorization (RFC 7617), if there are credentials."""
        if self.credentials is None:
            return None
        return "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()


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
    """The proxy for an origin, from a client's arguments; None to connect to the origin itself."""
    if proxy_host:
        if proxy_port is None:
            raise ValueError("proxy_host needs a proxy_port")
        check_host("proxy_host", proxy_host)
        check_port("proxy_port", proxy_port)
        return Proxy("http", proxy_host, proxy_port, proxy_user, proxy_password)
    return None
