"""Names become addresses: gevent's resolver, and what stands before it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import gevent.socket

# "host:port" to the address, or addresses, to take for it.
Overrides = Mapping[str, "str | Sequence[str]"]


class Names:
    """How one pool finds addresses."""

    def __init__(self, disable_ipv6: bool, resolve: Overrides | None, dns_cache: float | None) -> None:
        self._family = socket.AF_INET if disable_ipv6 else socket.AF_UNSPEC

    def lookup(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """The addresses of a host, as `socket.getaddrinfo` returns them."""
        literal = _literal_address(host, port)
        if literal is not None:
            return [literal]
        return list(gevent.socket.getaddrinfo(host, port, self._family, socket.SOCK_STREAM))


def _literal_address(host: str, port: int) -> tuple[Any, ...] | None:
    """What getaddrinfo would say of an address in numbers, which no resolver need be asked for."""
    for family, address in ((socket.AF_INET, (host, port)), (socket.AF_INET6, (host, port, 0, 0))):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
    return None
