"""What a server wants to know of who is asking: the challenges of RFC 9110 section 11.6.1."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Challenge", "parse_challenges"]


class Challenge(NamedTuple):
    """What a server wants: a scheme in lower case, with either a token or parameters by lower-case name."""

    scheme: str
    token: str | None
    params: dict[str, str]


_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SEPARATOR = re.compile(r"[ \t,]*")
_PARAM = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"([^"\\]*(?:\\.[^"\\]*)*)")[ \t]*(?=,|\Z)', re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|\Z)")
_TOKEN68 = re.compile(r"([A-Za-z0-9\-._~+/]+=*)[ \t]*(?=,|\Z)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_challenges(fields: str | Iterable[str]) -> list[Challenge]:
    """The challenges in the lines of WWW-Authenticate or Proxy-Authenticate (RFC 9110 section 11.6.1), in order.

    A line that breaks the grammar ends there: what came whole before that counts. Of a parameter that is repeated, the
    first counts. Control characters are never part of a value.
    """
    challenges: list[Challenge] = []
    for line in [fields] if isinstance(fields, str) else fields:
        challenges += _parse_line(line)
    return challenges


def _parse_line(line: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = _end(_SEPARATOR, line, 0)
    while at < len(line):
        # `a = b` goes with the scheme before it; a scheme has no "=" behind it.
        param = _PARAM.match(line, at)
        if param is not None and found and found[-1].token is None:
            name, token, quoted = param.groups()
            value = token if token is not None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            if _CONTROL.search(value.replace("\t", " ")):
                return found[:-1]
            found[-1].params.setdefault(name.lower(), value)
            at = param.end()
        else:
            scheme = _SCHEME.match(line, at) if param is None else None
            if scheme is None:
                return found[:-1]
            at = scheme.end()
            token68 = _TOKEN68.match(line, at)
            found.append(Challenge(scheme[1].lower(), token68[1] if token68 else None, {}))
            at = token68.end() if token68 else at
        at = _end(_SEPARATOR, line, at)
    return found


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return at if match is None else match.end()
