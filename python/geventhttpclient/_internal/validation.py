"""Validation of arguments, with errors that name the invalid argument."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from geventhttpclient import _core, exceptions

# RFC 3986 section 3.2.2, and the characters of names in practice; IPv6 has colons, and may have brackets. Names contain
# neither quotes nor percent signs: a text with these may begin with a user and a password.
_IPV6 = r"[0-9A-Fa-f:.]+(%[^\x00-\x20\x7f/?#@\[\]]+)?"
_HOST = re.compile(rf"[^\x00-\x20\x7f/?#@\\<>\[\]:%'\"`{{|}}^]+|{_IPV6}|\[{_IPV6}\]")

MOST_KEPT_CHARACTERS = 2048
"""Most characters of a URL or a host that is used as the key of a cache: servers choose both, in redirects."""


class Secret(str):
    """A str whose repr does not show its value, nor does the repr of its container."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def as_secret(value: Any) -> Any:
    """Returns a str as a Secret, and anything else unchanged."""
    return Secret(value) if isinstance(value, str) else value


def is_host(text: str) -> bool:
    """Returns True if the text may be a name or an address, without a port or anything else."""
    # One colon alone begins a port: an IPv6 address has more.
    return _HOST.fullmatch(text) is not None and text.count(":") != 1


def check_host(name: str, host: Any, port: str = "", url: str = "") -> None:
    """Raises ValueError or TypeError unless the host may be a name or an address, without anything else. `port` and
    `url` are the names of the arguments for a port and a URL, which the error suggests."""
    if not isinstance(host, str):
        raise TypeError(f"{name} must be a str, not {shown(host)}")
    if is_host(host):
        return
    remedy = ""
    if url and "/" in host:
        remedy = f": pass a URL to {url}"
    elif port and (host.count(":") == 1 or "]:" in host):
        remedy = f": pass the port as {port}"
        remedy += f", or a URL to {url}" if url else ""
    raise exceptions.ValueError(f"{name} must be a name or an address, not {shown_part(host)}{remedy}")


def without_zone(authority: str) -> str:
    """Returns a host, with or without brackets and a port, without the zone of an IPv6 address: zones are valid only on
    this machine, and are not sent (RFC 6874 section 4)."""
    address, _, rest = authority.partition("%")
    if ":" not in address:
        return authority
    _, bracket, port = rest.partition("]")
    return address + bracket + port


def unescaped_zone(host: str) -> str:
    """Returns the host of a URL in the form that resolvers accept: the zone of an IPv6 address begins with `%25` in a
    URL (RFC 6874 section 2), and with `%` in most programs."""
    address, _, zone = host.partition("%25")
    is_escape = zone and not zone.startswith("]") and ":" in address and "%" not in address
    return f"{address}%{zone}" if is_escape else host


def shown(argument: Any) -> str:
    """Returns the repr of a rejected argument, without user and password, since it may be a URL."""
    if isinstance(argument, (bytes, bytearray)):
        # The repr would escape the characters at which a password ends.
        return repr(_core.redact(argument.decode(errors="replace")).encode())
    return repr(_core.redact(argument)) if isinstance(argument, str) else _core.redact(repr(argument))


def given(value: Any) -> str:
    """Returns a description of a rejected argument: None and numbers with their value, anything else by its type."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"


def shown_part(argument: str) -> str:
    """Returns the repr of a rejected part of a URL, such as a host, without anything that may be part of a password."""
    return repr(_core.redact_part(argument))


def encoded(text: str, encoding: str) -> bytes:
    """Returns the encoded text. Raises a UnicodeEncodeError that does not contain the text: see `masked`."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        shown_error = masked(error)
    # Not within the except block: the other error would be the context of this one.
    raise shown_error


def masked(error: UnicodeEncodeError) -> UnicodeEncodeError:
    """Returns an error with the same message, in whose `object` asterisks replace all characters except a single
    invalid one."""
    start, end = error.start, error.end
    wrong = error.object[start] if end - start == 1 else "*" * (end - start)
    return UnicodeEncodeError(error.encoding, f"{'*' * start}{wrong}", start, end, error.reason)


def check_count(name: str, count: Any) -> None:
    """Raises ValueError or TypeError unless it is an int from 1 to `sys.maxsize`."""
    if not isinstance(count, int):
        raise TypeError(f"{name} must be an int, not {count!r}")
    if not 1 <= count <= sys.maxsize:
        raise ValueError(f"{name} must be at least 1 and at most {sys.maxsize}, not {count}")


def check_number(name: str, number: Any) -> int:
    """Returns a number of times, at least 0, from any value that int() accepts. Raises ValueError or TypeError."""
    try:
        times = int(number)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be an int, not {number!r}") from None
    if times < 0:
        raise ValueError(f"{name} must be at least 0, not {number}")
    return times


def check_factor(name: str, number: Any) -> float:
    """Returns a number of at least 0. Raises ValueError or TypeError for anything else."""
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name} must be a number, not {number!r}")
    if not number >= 0:
        raise ValueError(f"{name} must be at least 0, not {number}")
    return number


def read_port(port: int | str | None, default: int) -> int:
    """Returns a port that is given as a number or in digits; None and 0 mean the default, as in existing programs."""
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)
    check_port("port", default if port is None else port)
    return int(port or default)


def check_port(name: str, port: Any) -> None:
    """Raises ValueError or TypeError unless it is an int from 0 to 65535."""
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"{name} must be an int, not {shown(port)}")
    if not 0 <= port <= 65535:
        raise ValueError(f"{name} must be between 0 and 65535, not {port}")


def check_seconds(name: str, seconds: Any) -> float | None:
    """Returns the number of seconds, infinite if it exceeds a float; None for None. Raises ValueError or TypeError for
    anything else."""
    if seconds is None:
        return None
    # As in a socket's settimeout, decimals, fractions and the numbers of numpy are accepted, and text is not.
    if isinstance(seconds, bool) or not any(hasattr(type(seconds), method) for method in ("__float__", "__index__")):
        raise TypeError(f"{name} must be a number of seconds or None, not {seconds!r}")
    try:
        number = float(seconds)
    except OverflowError:
        number = math.inf if seconds > 0 else -math.inf
    if not number >= 0:
        raise ValueError(f"{name} must be a number of seconds of at least 0, not {seconds}")
    return number


def check_local_address(address: Any) -> tuple[str, int] | None:
    """Returns IP address and port, 0 if none is given. Raises ValueError or TypeError for anything else."""
    if address is None:
        return None
    ip, port = address if isinstance(address, tuple) and len(address) == 2 else (address, 0)
    if not isinstance(ip, str):
        raise TypeError(f"local_address must be an IP address, or a tuple of that and a port, not {shown(address)}")
    if not ip.isascii():
        raise ValueError(f"local_address must be an IP address, not {shown(ip)}")
    check_port("the port of local_address", port)
    return ip, port


def refused_fields(name: str, fields: Any) -> TypeError | None:
    """Returns the error for an argument that is neither a mapping nor pairs, or that has invalid names; None if no such
    error is found."""
    taken = f'{name} must be a mapping or (name, value) pairs, as in {{"Accept": "text/html"}}, not {given(fields)}'
    if isinstance(fields, (str, bytes, bytearray)) or not (hasattr(fields, "__iter__") or hasattr(fields, "keys")):
        return TypeError(taken)
    if isinstance(fields, (list, tuple, set, frozenset)):
        for pair in fields:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                return TypeError(f"{taken} with {given(pair)} in it")
        names: list[Any] = [pair[0] for pair in fields]
    elif isinstance(fields, Mapping):
        names = list(fields)
    else:
        return None
    for each in names:
        if not isinstance(each, (str, bytes)):
            return TypeError(f"{name.removesuffix('s')} name must be a str or bytes, not {type(each).__name__}")
    return None


def repeatable(trailers: Any) -> Any:
    """Returns trailers that can be sent more than once. Raises ValueError or TypeError if they are invalid."""
    if trailers is None or callable(trailers):
        return trailers
    try:
        return _core.trailer_lines(trailers)
    except TypeError as error:
        raise refused_fields("trailers", trailers) or error from None


def check_uds(path: Any) -> str | None:
    """Returns the path of a Unix domain socket. Raises ValueError or TypeError if it cannot be one."""
    if path is None:
        return None
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"uds must be a path, not {path!r}") from None
    # A name that begins with NUL is in the abstract namespace, and may contain any character.
    if name in ("", "\0") or ("\0" in name and not name.startswith("\0")):
        raise ValueError(f"uds must be the path of a socket, not {path!r}")
    return name
