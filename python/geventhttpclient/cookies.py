"""The standard library's cookie jars at work: they cost nothing while there is nothing in them."""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import Any

from geventhttpclient.header import Headers


def add_cookies(jar: CookieJar, request: Any) -> None:
    """Adds the jar's cookies for a request, if it has any."""
    if any(True for _ in jar):
        jar.add_cookie_header(request)


class _Answer:
    """As much of a response as a jar wants to see."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def info(self) -> Headers:
        return self._headers


def extract(jar: CookieJar, headers: Headers, request: Any) -> None:
    """Puts the cookies of a response into the jar."""
    jar.extract_cookies(_Answer(headers), request)  # type: ignore[arg-type]
