"""Range requests: the Range field, and checks that a 206 has the requested range (RFC 9110 section 14)."""

from __future__ import annotations

import re
import time
from datetime import timezone
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any, NamedTuple

from geventhttpclient.cli.failure import Failure
from geventhttpclient.cli.part import Range, Validator

_CONTENT_RANGE = re.compile(r"bytes\s+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)

# Minimum seconds between Last-Modified and Date for a strong validator.
_MIN_AGE = 1.0

# Minimum bytes of a range: the request for a smaller one costs more than it saves.
_MIN_RANGE = 64 * 1024


class ContentRange(NamedTuple):
    """The range of a 206: from `first` to before `end`, of `length` bytes, or None if it is unknown."""

    first: int
    end: int
    length: int | None


def range_value(first: int, end: int | None) -> str:
    """Returns the value of Range for bytes from `first` to before `end`, or to the end of the file."""
    return f"bytes={first}-{'' if end is None else end - 1}"


def content_range(response: Any) -> ContentRange:
    """Returns the range that a 206 declares. Raises Failure if that is missing or invalid."""
    field = response.get("content-range")
    found = _CONTENT_RANGE.fullmatch(field.strip()) if isinstance(field, str) else None
    if found is None:
        raise Failure(f"the server's 206 does not say which bytes it has (Content-Range: {field})")
    first, last = int(found[1]), int(found[2])
    length = None if found[3] == "*" else int(found[3])
    if last < first or (length is not None and last >= length):
        raise Failure(f"the server's 206 has an impossible range: {field}")
    promised = response.content_length
    if promised is not None and promised != last - first + 1:
        raise Failure(f"the server's 206 promises {promised} bytes for the range {field}")
    return ContentRange(first, last + 1, length)


def read_promised(response: Any, count: int) -> None:
    """Reads and discards a body of `count` bytes. Raises Failure if it is longer, without reading the rest."""
    left = count
    while piece := response._read_available(left + 1):
        left -= len(piece)
        if left < 0:
            raise too_long(count)


def too_long(end: int) -> Failure:
    """Returns the Failure for a body that is longer than its range."""
    return Failure(f"the server sent more than it promised: bytes after {end - 1}")


def check(response: Any, first: int, end: int | None, length: int | None, validator: Validator | None) -> ContentRange:
    """Returns the range of a 206. Raises Failure unless it begins at `first`, does not exceed `end`, and is of the
    version that is being downloaded."""
    found = content_range(response)
    if found.first != first or (end is not None and found.end > end):
        wanted = range_value(first, end)
        raise Failure(f"the server was asked for {wanted} and answered with bytes {found.first}-{found.end - 1}")
    if length is not None and found.length is not None and found.length != length:
        raise Failure(f"the server says {found.length} bytes, but said {length} before")
    if validator is not None:
        other = validator_of(response)
        if not other:
            raise Failure("the server's 206 does not say which version of the file it belongs to")
        if not validator.is_shared_by(other):
            raise Failure("the server's 206 belongs to another version of the file")
    return found


def validator_of(response: Any) -> Validator:
    """Returns the strong validator of a response, without a weak ETag, and without a Last-Modified that was too recent
    when the response was sent."""
    last_modified = response.get("last-modified")
    is_strong = isinstance(last_modified, str) and _is_strong(last_modified, response.get("date"))
    return Validator(response.get("etag"), last_modified if is_strong else None)


def _is_strong(last_modified: str, date: Any) -> bool:
    """Returns True if Last-Modified is at least a second before Date, or before now without a Date (section 6.6.1).

    RFC 9110 section 8.8.2.2: a file may change twice in one second.
    """
    modified = _time(last_modified)
    answered = _time(date) if isinstance(date, str) else time.time()
    return modified is not None and answered is not None and modified + _MIN_AGE <= answered


def _time(date: str) -> float | None:
    try:
        at = parsedate_to_datetime(date)
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None


def split(missing: list[Range], count: int) -> list[Range]:
    """Splits the ranges into at least `count` ranges, if they are large enough."""
    found = [one for one in missing if not one.is_done]
    while 0 < len(found) < count:
        largest = max(found, key=lambda one: (one.end or 0) - one.position)
        assert largest.end is not None
        size = largest.end - largest.position
        if size < 2 * _MIN_RANGE:
            break
        # Split into all the missing parts at once, so that the parts of a single range have the same size.
        parts = min(count - len(found) + 1, size // _MIN_RANGE)
        edges = [largest.position + size * number // parts for number in range(parts + 1)]
        found.remove(largest)
        found += [Range(start, end) for start, end in pairwise(edges)]
    return sorted(found, key=lambda one: one.position)
