"""Redirect targets: reads and checks the Location of a response."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING
from urllib.parse import quote

from geventhttpclient._core import host_to_ascii, redact
from geventhttpclient._internal.validation import check_host
from geventhttpclient.exceptions import InvalidRedirectError, UnsupportedRedirectSchemeError

if TYPE_CHECKING:
    from geventhttpclient.url import URL

__all__ = ["MAY_BECOME_GET", "redirect_target"]

# The redirects that may change the method of a request (RFC 9110 section 15.4).
MAY_BECOME_GET = frozenset({301, 302, 303})

# Most characters of the host of a redirect's target.
MAX_HOST_LENGTH = 253

# Most characters of a Location that an error message quotes.
MAX_SHOWN = 200


def redirect_target(base: URL, shown_base: str, location: str) -> URL:
    """Returns the URL that a Location names, checked before anything depends on it: the peer wrote it.

    `base` is the URL of the request that was redirected, `shown_base` its text, for the errors.
    """
    try:
        target = base.redirect(_as_sent(location))
        scheme = target.scheme
        if scheme in ("http", "https"):
            _check_target(target)
            return target
    except ValueError as error:
        # Not the text of the parser, which may quote the credentials of the authority.
        reason = error.args[0] if isinstance(error, _BadTarget) else "a URL that cannot be read"
        text = f"refusing to follow redirect to {reason}: {_shown(location)}"
        raise InvalidRedirectError(shown_base, text) from None
    raise UnsupportedRedirectSchemeError(shown_base, f"refusing to follow redirect to {_cut(scheme)!r} URL")


class _BadTarget(ValueError):
    """A description of the invalid part of a redirect's target."""


def _check_target(target: URL) -> None:
    """Raises ValueError unless the URL has a valid host and port."""
    host = target.host
    if not host:
        raise _BadTarget("a URL without a host")
    try:
        check_host("host", host)
        # RFC 1035 section 2.3.4: names have at most 255 octets in messages, which are 253 characters of text.
        if len(host) > MAX_HOST_LENGTH or len(host_to_ascii(host)) > MAX_HOST_LENGTH:
            raise ValueError
    except ValueError:
        raise _BadTarget("a URL with an invalid host") from None
    try:
        if target.port == 0:
            raise ValueError
    except ValueError:
        raise _BadTarget("a URL with an invalid port") from None


def _shown(location: str) -> str:
    """Returns a Location for an error message: without credentials, escaped and truncated."""
    return repr(_cut(redact(location)))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _as_sent(location: str) -> str:
    """Returns a Location with other bytes than ASCII decoded as UTF-8; percent-encoded if they are not valid UTF-8."""
    if location.isascii():
        return location
    try:
        octets = location.encode("latin-1")
    except UnicodeEncodeError:
        return location
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return quote(octets, safe=string.punctuation)
