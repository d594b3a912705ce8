"""Parsers for values of the command line. They raise ArgumentTypeError with a one-line message."""

from __future__ import annotations

import argparse
import math
import re

from geventhttpclient import URL, _core
from geventhttpclient._internal.argument_errors import did_you_mean_url
from geventhttpclient._internal.validation import check_host, check_port, shown

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def read_url(text: str) -> URL:
    """Parses an http or https URL with a host and a valid port. `http://` is added if it has no scheme."""
    given = text.strip()
    try:
        url = URL(given if "://" in given else f"http://{given}")
        if url.scheme not in ("http", "https"):
            raise ValueError(f"{url.scheme}:// is not http:// or https://{did_you_mean_url(given)}")
        if given.startswith("//"):
            raise ValueError(f"it has no scheme{did_you_mean_url(given)}")
        check_host("its host", url.host)
        check_port("its port", url.port)
        # URLs in messages are redacted; they are expected to end at white space.
        url.path, url.params, url.query, url.fragment = map(
            _core.requote_uri, (url.path, url.params, url.query, url.fragment)
        )
        if "@" in url.netloc:
            url.username = url.username
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{shown(given)} is not a valid URL: {error}") from None
    return url


def read_header(text: str) -> tuple[str, str | None]:
    name, colon, value = text.partition(":")
    if not colon and name.endswith(";"):
        return name[:-1].strip(), ""
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"a header is 'NAME: VALUE', not {text!r}")
    return name.strip(), value.strip() or None


def read_override(text: str) -> tuple[str, str]:
    """Parses `host:port:address`. Both host and address may be IPv6 addresses; the brackets of the latter may be
    left out."""
    end = text.find("]") if text.startswith("[") else 0
    host_end = text.find(":", end)
    port_end = text.find(":", host_end + 1)
    address = text[port_end + 1 :].strip("[]")
    if end < 0 or host_end < 1 or port_end < 0 or not address:
        raise argparse.ArgumentTypeError(f"not HOST:PORT:ADDRESS: {text!r}")
    return text[:port_end], address


def read_checksum(text: str) -> tuple[str, str]:
    import hashlib

    name, _, digest = text.partition(":")
    name, digest = name.lower(), digest.strip().lower()
    if name not in hashlib.algorithms_available or name.startswith("shake"):
        raise argparse.ArgumentTypeError(f"no such checksum: {name!r}")
    if len(digest) != 2 * hashlib.new(name).digest_size or not set(digest) <= set("0123456789abcdef"):
        raise argparse.ArgumentTypeError(f"{digest!r} is not a {name} checksum")
    return name, digest


def read_number(text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise argparse.ArgumentTypeError(f"a number is needed, not {text!r}")
    return int(text)


def read_count(text: str) -> int:
    number = read_number(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return number


def read_seconds(text: str) -> float:
    """Parses a duration in seconds, or with a unit: `10`, `1.5s`, `2m`, `1h`."""
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    return read_positive(text[:-1] if factor else text) * (factor or 1)


def read_positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not math.isfinite(number) or number <= 0:
        raise argparse.ArgumentTypeError(f"a number greater than 0 is needed, not {text!r}")
    return number


def read_size(text: str) -> int:
    """Parses a number of bytes, at least 1: `500`, `100k`, `1.5M`, `2G`. Units are powers of 1024."""
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * 1024 ** _POWERS[found[2].lower()]) if found else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"not a number of bytes: {text!r}")
    return size
