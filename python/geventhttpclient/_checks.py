"""Arguments that are checked before anything is made of them: what is wrong is named."""

from __future__ import annotations

import math
import os
import re
import sys
from typing import Any

from geventhttpclient import _core

# RFC 3986 section 3.2.2, and what names hold in practice; IPv6 has colons, and may have brackets. Names have no quotes
# and no percent signs: a host with these is the beginning of a user and a password.
_IPV6 = r"[0-9A-Fa-f:.]+(%[^\x00-\x20\x7f/?#@\[\]]+)?"
_HOST = re.compile(rf"[^\x00-\x20\x7f/?#@\\<>\[\]:%'\"`{{|}}^]+|{_IPV6}|\[{_IPV6}\]")

MOST_KEPT_CHARACTERS = 2048
"""Characters of a URL, or of a host, by which something is kept for the next request: servers name both."""


class Secret(str):
    """A str that its own repr does not show, nor that of what holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def concealed(value: Any) -> Any:
    """The same; a str as one that is not shown."""
    return Secret(value) if isinstance(value, str) else value


def is_host(text: str) -> bool:
    """Returns whether that may be a name or an address, and nothing more."""
    return _HOST.fullmatch(text) is not None


def check_host(name: str, host: Any) -> None:
    """ValueError or TypeError unless it may be a name or an address, and nothing more."""
    if not isinstance(host, str):
        raise TypeError(f"{name} must be a str, not {shown(host)}")
    if not is_host(host):
        raise ValueError(f"{name} must be a name or an address, not {shown_part(host)}")


def shown(argument: Any) -> str:
    """Returns the repr of an argument that is refused; without user and password, since it may have been a URL."""
    if isinstance(argument, (bytes, bytearray)):
        # The repr would hide the characters that a password ends at.
        return repr(_core.redact(argument.decode(errors="replace")).encode())
    return repr(_core.redact(argument)) if isinstance(argument, str) else _core.redact(repr(argument))


def shown_part(argument: str) -> str:
    """Returns the repr of a part of a URL that is refused, such as a host: without what may be half of a password."""
    return repr(_core.redact_part(argument))


def encoded(text: str, encoding: str) -> bytes:
    """Returns the text in that encoding. Raises UnicodeEncodeError without the text: see `masked`."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        shown_error = masked(error)
    # Not within the except block: the other error would be the context of this one.
    raise shown_error


def masked(error: UnicodeEncodeError) -> UnicodeEncodeError:
    """Returns an error with the same message, whose `object` has asterisks in place of all but a single character at
    fault."""
    start, end = error.start, error.end
    wrong = error.object[start] if end - start == 1 else "*" * (end - start)
    return UnicodeEncodeError(error.encoding, f"{'*' * start}{wrong}", start, end, error.reason)


def check_count(name: str, count: Any) -> None:
    """ValueError or TypeError unless it is a number from 1 to what can be counted."""
    if not isinstance(count, int):
        raise TypeError(f"{name} must be an int, not {count!r}")
    if not 1 <= count <= sys.maxsize:
        raise ValueError(f"{name} must be at least 1 and at most {sys.maxsize}, not {count}")


def check_number(name: str, number: Any) -> int:
    """A number of times, 0 or more, from what int() takes. ValueError or TypeError for what is none."""
    try:
        times = int(number)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be an int, not {number!r}") from None
    if times < 0:
        raise ValueError(f"{name} must be at least 0, not {number}")
    return times


def check_factor(name: str, number: Any) -> float:
    """A number from 0 on. ValueError or TypeError for what is none."""
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name} must be a number, not {number!r}")
    if not number >= 0:
        raise ValueError(f"{name} must be at least 0, not {number}")
    return number


def read_port(port: int | str | None, default: int) -> int:
    """A port given as a number or in digits; None and 0 are the default, as existing programs have it."""
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)
    check_port("port", default if port is None else port)
    return int(port or default)


def check_port(name: str, port: Any) -> None:
    """ValueError or TypeError unless it is a number from 0 to 65535."""
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"{name} must be an int, not {shown(port)}")
    if not 0 <= port <= 65535:
        raise ValueError(f"{name} must be between 0 and 65535, not {port}")


def check_seconds(name: str, seconds: Any) -> float | None:
    """The number of seconds, infinite where no float can hold it. ValueError or TypeError for what is none."""
    if seconds is None:
        return None
    # Decimals, fractions and the numbers of numpy are such, too, as they are for a socket's settimeout; text is not.
    if not any(hasattr(type(seconds), method) for method in ("__float__", "__index__")):
        raise TypeError(f"{name} must be a number of seconds or None, not {seconds!r}")
    try:
        number = float(seconds)
    except OverflowError:
        number = math.inf if seconds > 0 else -math.inf
    if not number >= 0:
        raise ValueError(f"{name} must be a number of seconds of at least 0, not {seconds}")
    return number


def check_timeouts(
    connection: float | None, network: float | None, pool: float | None, total: float | None
) -> tuple[float | None, float | None, float | None, float | None]:
    """The four as numbers; TypeError or ValueError that names the one that is no number of seconds."""
    return (
        check_seconds("connection_timeout", connection),
        check_seconds("network_timeout", network),
        check_seconds("pool_timeout", pool),
        check_seconds("total_timeout", total),
    )


def check_local_address(address: Any) -> tuple[str, int] | None:
    """IP address and port, 0 where none is given. ValueError or TypeError for what is neither."""
    if address is None:
        return None
    ip, port = address if isinstance(address, tuple) and len(address) == 2 else (address, 0)
    if not isinstance(ip, str):
        raise TypeError(f"local_address must be an IP address, or a tuple of that and a port, not {shown(address)}")
    if not ip.isascii():
        raise ValueError(f"local_address must be an IP address, not {shown(ip)}")
    check_port("the port of local_address", port)
    return ip, port


def repeatable(trailers: Any) -> Any:
    """Trailers that can be sent again, from any that a request takes. ValueError or TypeError for what is none."""
    return trailers if trailers is None or callable(trailers) else _core.trailer_lines(trailers)


def check_uds(path: Any) -> str | None:
    """The path of a Unix domain socket. ValueError or TypeError for what can be none."""
    if path is None:
        return None
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"uds must be a path, not {path!r}") from None
    # A name that begins with NUL is an abstract one, in which any character is as good as another.
    if name in ("", "\0") or ("\0" in name and not name.startswith("\0")):
        raise ValueError(f"uds must be the path of a socket, not {path!r}")
    return name
