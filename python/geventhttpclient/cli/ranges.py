"""Ranges of bytes: what is asked for, and whether an answer is what was asked for (RFC 9110 section 14)."""

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

# Seconds between Last-Modified and Date that make the former a strong validator.
_APART = 1.0

# A range of its own for fewer bytes than this costs more than it brings.
_LEAST = 64 * 1024


class ContentRange(NamedTuple):
    """Where the bytes of a 206 belong: from `first` to `end`, which is the one behind the last, of `length` or None."""

    first: int
    end: int
    length: int | None


def asked(first: int, end: int | None) -> str:
    """The value of Range for bytes from `first` to before `end`, or to the last."""
    return f"bytes={first}-{'' if end is None else end - 1}"


def content_range(response: Any) -> ContentRange:
    """What a 206 says it is. Failure for one that does not say so in a way that can be trusted."""
    field = response.get("content-range")
    found = _CONTENT_RANGE.fullmatch(field.strip()) if isinstance(field, str) else None
    if found is None:
        raise Failure(f"the server's 206 does not tell which bytes it has (Content-Range: {field})")
    first, last = int(found[1]), int(found[2])
    length = None if found[3] == "*" else int(found[3])
    if last < first or (length is not None and last >= length):
        raise Failure(f"the server's 206 has a range that cannot be: {field}")
    promised = response.content_length
    if promised is not None and promised != last - first + 1:
        raise Failure(f"the server's 206 promises {promised} bytes for the range {field}")
    return ContentRange(first, last + 1, length)


def read_promised(response: Any, count: int) -> None:
    """Reads and drops a body of so many bytes. Failure for one that is longer, of which no more is read."""
    left = count
    while piece := response._read_available(left + 1):
        left -= len(piece)
        if left < 0:
            raise too_much(count)


def too_much(end: int) -> Failure:
    """For a body that is longer than the range that it is said to be."""
    return Failure(f"the server sent more than it had promised: bytes behind {end - 1}")


def check(response: Any, first: int, end: int | None, length: int | None, validator: Validator | None) -> ContentRange:
    """What a 206 is of: bytes from `first` on, `end` at most, of the version that is being downloaded. Failure else."""
    found = content_range(response)
    if found.first != first or (end is not None and found.end > end):
        wanted = asked(first, end)
        raise Failure(f"the server was asked for {wanted} and answered with bytes {found.first}-{found.end - 1}")
    if length is not None and found.length is not None and found.length != length:
        raise Failure(f"the server says {found.length} bytes where it said {length} before")
    if validator is not None:
        other = validator_of(response)
        if not other:
            raise Failure("the server's 206 does not tell which version of the file it is of")
        if not validator.is_shared_by(other):
            raise Failure("the server's 206 is of another version of the file")
    return found


def validator_of(response: Any) -> Validator:
    """That of a response. A weak ETag is none, and no Last-Modified that was recent when the response was made."""
    last_modified = response.get("last-modified")
    is_strong = isinstance(last_modified, str) and _is_strong(last_modified, response.get("date"))
    return Validator(response.get("etag"), last_modified if is_strong else None)


def _is_strong(last_modified: str, date: Any) -> bool:
    """RFC 9110 section 8.8.2.2: the file may change twice in one second. Without a Date, now is its date (6.6.1)."""
    modified = _time(last_modified)
    answered = _time(date) if isinstance(date, str) else time.time()
    return modified is not None and answered is not None and modified + _APART <= answered


def _time(date: str) -> float | None:
    try:
        at = parsedate_to_datetime(date)
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None


def spread(missing: list[Range], count: int) -> list[Range]:
    """The same bytes as at least `count` ranges, where they are large enough for that."""
    found = [one for one in missing if not one.is_done]
    while 0 < len(found) < count:
        largest = max(found, key=lambda one: (one.end or 0) - one.position)
        assert largest.end is not None
        size = largest.end - largest.position
        if size < 2 * _LEAST:
            break
        # In as many parts as are wanted at once, so that they are of one size where there was one to begin with.
        parts = min(count - len(found) + 1, size // _LEAST)
        edges = [largest.position + size * number // parts for number in range(parts + 1)]
        found.remove(largest)
        found += [Range(start, end) for start, end in pairwise(edges)]
    return sorted(found, key=lambda one: one.position)
