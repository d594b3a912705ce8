"""Name resolution: gevent's resolver, with overrides and a cache in front of it."""

from __future__ import annotations

import re
import socket
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import gevent.socket

from geventhttpclient import _core, exceptions
from geventhttpclient._internal.validation import check_host, check_port, check_seconds, shown, shown_part

__all__ = ["CACHE_SIZE", "Overrides", "clear_dns_cache"]

# Separates the resolver's own text from the name in an error message.
_RESOLVING = " (resolving "

# Most characters of a name that an error message quotes: a DNS name has no more (RFC 1035 section 2.3.4).
_MAX_SHOWN = 255

Overrides = Mapping[str, "str | Sequence[str]"]
"""Mapping of `host:port` to the address, or the addresses, to use for it."""

# An item of the result of `socket.getaddrinfo`: family, type, protocol, canonical name, address.
Entry = tuple[Any, ...]

CACHE_SIZE = 1024
"""Most answers that are kept for `dns_cache`; further ones replace the oldest."""

# The time of the lookup and its result, by host, port and family, the oldest first. One cache for the whole process,
# since programs make clients by the thousand. Each method of an OrderedDict is atomic, so that threads need no lock.
_answers: OrderedDict[tuple[str, int, int], tuple[float, list[Entry]]] = OrderedDict()


def clear_dns_cache() -> None:
    """Removes all answers that were kept for `dns_cache`, of all clients."""
    _answers.clear()


class Names:
    """The resolver of one pool."""

    def __init__(self, disable_ipv6: bool, resolve: Overrides | None, dns_cache: float | None) -> None:
        """Takes the arguments of HTTPClient with the same names. Raises ValueError or TypeError for invalid ones."""
        self._family = socket.AF_INET if disable_ipv6 else socket.AF_UNSPEC
        self._overrides = _read_overrides(resolve, disable_ipv6) if resolve is not None else {}
        self._lifetime = check_seconds("dns_cache", dns_cache)

    def lookup(self, host: str, port: int) -> list[Entry]:
        """Returns the addresses of a host in the order in which to try them: IPv6 first, then the families in turn."""
        override = self._overrides.get((host.lower(), port))
        if override is not None:
            return list(override)
        literal = _literal_address(host, port)
        # For an address of a family that is disabled, the resolver raises an error.
        if literal is not None and self._family in (socket.AF_UNSPEC, literal[0]):
            return [literal]
        if self._lifetime is None:
            return self._ask(host, port)
        key = (host.lower(), port, self._family)
        now = time.monotonic()
        known = _answers.get(key)
        if known is not None and now - known[0] < self._lifetime:
            return list(known[1])
        answer = self._ask(host, port)
        # The latest lookup is last. Its age counts from the start of the lookup, which may have taken long.
        _answers.pop(key, None)
        _answers[key] = (now, answer)
        while len(_answers) > CACHE_SIZE:
            _answers.popitem(last=False)
        return list(answer)

    def _ask(self, host: str, port: int) -> list[Entry]:
        try:
            # getaddrinfo does the same, and raises a UnicodeError for an invalid name, which is no network error.
            host.encode("idna")
        except UnicodeError:
            raise exceptions.gaierror(
                socket.EAI_NONAME, f"Not a valid host name{_RESOLVING}{_core.redact_part(host)[:_MAX_SHOWN]})"
            ) from None
        try:
            found = gevent.socket.getaddrinfo(host, port, self._family, socket.SOCK_STREAM)
        except socket.gaierror as error:
            failure = exceptions.gaierror(*error.args)
            failure.strerror = f"{_words_of(error)}{_RESOLVING}{_core.redact(host)})"
        else:
            return in_turn(found)
        # Not within the except block: the other error would be the context of this one.
        raise failure


def _words_of(error: socket.gaierror) -> str:
    """Returns the resolver's own text, without the name that this module appends."""
    return str(error.strerror).partition(_RESOLVING)[0]


def name_proxy(error: socket.gaierror) -> None:
    """Changes the text of an error to say that the name is that of the proxy."""
    error.strerror = str(error.strerror).replace(_RESOLVING, f"{_RESOLVING}the proxy ", 1)


def in_turn(found: Sequence[Entry]) -> list[Entry]:
    """Sorts addresses: IPv6 first, then one of each family in turn, keeping the resolver's order within each (RFC 8305
    section 4)."""
    ipv6 = [entry for entry in found if entry[0] == socket.AF_INET6]
    ipv4 = [entry for entry in found if entry[0] != socket.AF_INET6]
    return [entry for pair in zip_longest(ipv6, ipv4) for entry in pair if entry is not None]


def _read_overrides(resolve: Overrides, disable_ipv6: bool) -> dict[tuple[str, int], list[Entry]]:
    """Returns the entries of `resolve` by host and port, with the addresses in their order."""
    if not isinstance(resolve, Mapping):
        raise TypeError(f'resolve must be a mapping of "host:port" to addresses, not {shown(resolve)}')
    overrides = {}
    for origin, given in resolve.items():
        host, port = _read_origin(origin, given)
        addresses = [given] if isinstance(given, str) else given
        if not isinstance(addresses, Sequence):
            raise TypeError(f"resolve[{shown(origin)}] must be an IP address or a list of them, not {shown(given)}")
        entries = []
        for address in addresses:
            entry = _literal_address(address, port) if isinstance(address, str) else None
            if entry is None:
                raise ValueError(
                    f"resolve[{shown(origin)}] must be an IP address or a list of them, not {shown(given)}"
                )
            if entry[0] == socket.AF_INET or not disable_ipv6:
                entries.append(entry)
        if not entries:
            family = "IPv4 " if disable_ipv6 else ""
            raise ValueError(f"resolve[{shown(origin)}] has no {family}address: {shown(given)}")
        overrides[host, port] = entries
    return overrides


# The characters of an origin, valid or not, that is no part of a URL.
_PLAIN = re.compile(r"[A-Za-z0-9_.:/\[\] -]*")


def _read_origin(origin: Any, given: Any) -> tuple[str, int]:
    """Returns the host, in ASCII, lower case and without brackets, and the port."""
    if not isinstance(origin, str):
        raise TypeError(f'resolve is by "host:port", not {shown(origin)}')
    host, _, port = origin.rpartition(":")
    # It may be the first part of a URL that was split at a colon, and the address the rest of it.
    is_whole = _core.redact(str(given)) == str(given) and _PLAIN.fullmatch(origin)
    named = shown(origin) if is_whole else shown_part(origin)
    if not port.isdecimal() or (":" in host and not host.startswith("[")):
        raise ValueError(f'resolve is by "host:port", an IPv6 address in brackets, not {named}')
    check_host(f"the host in resolve[{named}]", host)
    check_port(f"the port in resolve[{named}]", int(port))
    # The name that is going to be looked up.
    return _core.host_to_ascii(host.strip("[]")).lower(), int(port)


def _literal_address(host: str, port: int) -> Entry | None:
    """Returns the result of getaddrinfo for a numeric address, without using the resolver; None for a name."""
    for family, address in ((socket.AF_INET, (host, port)), (socket.AF_INET6, (host, port, 0, 0))):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
    return None
