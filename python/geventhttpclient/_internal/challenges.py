"""Parser of authentication challenges (RFC 9110 section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from geventhttpclient._internal.field_reader import BLANKS, TOKEN, FieldReader

__all__ = ["Challenge", "parse_challenges"]


MOST_CHALLENGE_BYTES = 16 * 1024
"""Most characters of challenges that are parsed in one response. Real servers send some hundreds."""


class Challenge(NamedTuple):
    """A challenge: a scheme in lower case, with either a token or parameters by lower-case name."""

    scheme: str
    token: str | None
    params: dict[str, str]


_SEPARATORS = re.compile(r"[ \t,]*")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]*")
_PADDING = re.compile(r"[=]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_challenges(fields: str | Iterable[str]) -> list[Challenge]:
    """Returns the challenges in the lines of WWW-Authenticate or Proxy-Authenticate, in order (RFC 9110 section
    11.6.1).

    Parsing of a line ends where it violates the grammar; complete challenges before that are returned. The first value
    of a repeated parameter is used. Values never contain control characters. A line is ignored if it would bring the
    total to more than MOST_CHALLENGE_BYTES.
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
        # `a = b` belongs to the scheme before it; a scheme is not followed by "=".
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
    """Takes the token68 after a scheme. Returns None, and takes nothing, if a parameter or another scheme follows;
    those characters are read a second time, and not more often."""
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
