"""URLs as httpx interprets them: appended to a base URL, and without dot segments."""

from __future__ import annotations

import re

from geventhttpclient import _core
from geventhttpclient.httpx.errors import InvalidURL
from geventhttpclient.url import URL

__all__ = ["join", "parse_base", "remove_dot_segments"]

# RFC 3986 appendix B, up to the path; httpx also accepts an empty scheme before the colon.
_BEGINNING = re.compile(r"(?P<scheme>([A-Za-z][A-Za-z0-9+.-]*)?:)?(//(?P<authority>[^/?#]*))?")


def parse_base(url: str | URL | None) -> URL | None:
    """Returns a base URL with a slash at the end of path and query, as httpx adds it; None if there is none.

    Raises InvalidURL if it cannot be read.
    """
    text = "" if url is None else str(url)
    if not text:
        return None
    try:
        base = URL(text)
    except ValueError as error:
        raise InvalidURL(f"base_url: not a URL: {_core.redact(text)!r}: {error}") from error
    return _with_target(base, _closed(base.request_uri)) if base.path or base.query else base


def join(base: URL, url: str) -> str:
    """Returns the URL of a request: `url` if it is absolute, else `base` with its path and query appended.

    This is not resolution by RFC 3986: `/x` is appended to the path of the base, and so is the path of `//host/x`.
    """
    beginning = _BEGINNING.match(url)
    assert beginning is not None  # it also matches the empty string
    if len(beginning["scheme"] or "") > 1 and beginning["authority"]:
        return url
    target = url[beginning.end() :].partition("#")[0]
    return str(_with_target(base, _closed(base.request_uri) + target.lstrip("/")))


def remove_dot_segments(url: URL) -> URL:
    """Returns the URL without the segments `.` and `..` in its path, as httpx sends it: `/a/..` becomes `/`,
    `/a/b/..` becomes `/a` without a trailing slash."""
    if "/." not in url.path:
        return url
    path, question_mark, query = url.request_uri.partition("?")
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    return _with_target(url, "/".join(kept) + question_mark + query)


def _closed(target: str) -> str:
    return target if target.endswith("/") else f"{target}/"


def _with_target(url: URL, target: str) -> URL:
    """Returns the URL with another path and query."""
    changed = url.__copy__()
    changed.path, _, changed.query = target.partition("?")
    changed.params = ""  # they are in the path
    return changed
