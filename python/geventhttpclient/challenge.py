"""What a server wants to know of who is asking: the challenges of RFC 9110 section 11.6.1."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from geventhttpclient._fieldreader import BLANKS, TOKEN, FieldReader

__all__ = ["Challenge", "parse_challenges"]


MOST_CHALLENGE_BYTES = 16 * 1024
"""Characters of challenges that are read of one response. Those of real servers have some hundreds."""


class Challenge(NamedTuple):
    """What a server wants: a scheme in lower case, with either a token or parameters by lower-case name."""

    scheme: str
    token: str | None
    params: dict[str, str]


_SEPARATORS = re.compile(r"[ \t,]*")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]*")
_PADDING = re.compile(r"[=]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_challenges(fields: str | Iterable[str]) -> list[Challenge]:
    """The challenges in the lines of WWW-Authenticate or Proxy-Authenticate (RFC 9110 section 11.6.1), in order.

    A line that breaks the grammar ends there: what came whole before that counts. Of a parameter that is repeated, the
    first counts. Control characters are never part of a value. A line is passed over if there would be more than
    MOST_CHALLENGE_BYTES with it.
    """
    challenges: list[Challenge] = []
    room = MOST_CHALLENGE_BYTES
    for line in [fields] if isinstance(fields, str) else fields:
        if len(line) <= room:
            room -= len(line)
            challenges += _parse_line(line)
    return challenges


def _parse_line(line: str) -> list[Challenge]:
    found: list[Challenge] = []
    reader = FieldReader(line)
    reader.run(_SEPARATORS)
    while not reader.at_end:
        name = reader.run(TOKEN)
        has_blanks = reader.run(BLANKS) != ""
        # `a = b` goes with the scheme before it; a scheme has no "=" behind it.
        if name and found and found[-1].token is None and reader.take("="):
            reader.run(BLANKS)
            value = reader.quoted()
            is_quoted = value is not None
            value = reader.run(TOKEN) if value is None else value
            reader.run(BLANKS)
            is_whole = (is_quoted or value) and not reader.is_cut and _is_element_end(reader)
            if not is_whole or _CONTROL.search(value.replace("\t", " ")):
                return found[:-1]
            found[-1].params.setdefault(name.lower(), value)
        elif name and (has_blanks or _is_element_end(reader)):
            found.append(Challenge(name.lower(), _take_token68(reader), {}))
        else:
            return found[:-1]
        reader.run(_SEPARATORS)
    return found


def _take_token68(reader: FieldReader) -> str | None:
    """What may follow a scheme; None, and nothing is taken, where it is a parameter or another scheme. Those are read
    once more, and so no more than twice."""
    start = reader.at
    token = reader.run(_TOKEN68)
    if token:
        token += reader.run(_PADDING)
        reader.run(BLANKS)
        if _is_element_end(reader):
            return token
    reader.at = start
    return None


def _is_element_end(reader: FieldReader) -> bool:
    return reader.at_end or reader.next_is(",")
