"""What goes wrong with an agent's request, other than on the network."""

from __future__ import annotations

from typing import Any, TypeVar

from geventhttpclient import _core
from geventhttpclient.url import URL

__all__ = [
    "BadStatusCode",
    "ConnectionError",
    "EmptyResponse",
    "InvalidRedirectError",
    "RetriesExceeded",
    "UnrewoundBodyError",
    "UnsupportedRedirectSchemeError",
]

_T = TypeVar("_T", bound=type)


def _of_useragent(cls: _T) -> _T:
    """Names a class as programs, and the logs that they read, know it: by the module it is imported from."""
    cls.__module__ = "geventhttpclient.useragent"
    return cls


@_of_useragent
class ConnectionError(Exception):
    """A request that came to nothing. Keyword arguments become attributes; the text names the URL.

    Not the built-in of that name: what the network raises (refused, reset, unknown hosts) goes through as it is.
    """

    text: str
    kw_text: str

    def __init__(self, url: str | URL | None, *args: Any, **kw: Any) -> None:
        """For the request of `url`; the further arguments, and the keyword arguments with their names, are the text."""
        super().__init__(url, *args)
        self.url = url
        for name, value in kw.items():
            setattr(self, name, value)
        self.kw_text = ", ".join(f"{name}={value}" for name, value in kw.items())
        self.text = ", ".join([*map(str, args), *([self.kw_text] if kw else [])])

    def __str__(self) -> str:
        shown = _core.redact(str(self.url))
        return f"URL {shown}: {self.text}" if self.text else f"URL {shown}"

    def __repr__(self) -> str:
        shown = [
            repr(_core.redact(argument)) if isinstance(argument, str) else _core.redact_all(repr(argument))
            for argument in self.args
        ]
        if self.kw_text:
            shown.append(self.kw_text)
        return f"{type(self).__name__}({', '.join(shown)})"


@_of_useragent
class RetriesExceeded(ConnectionError):
    """No attempt was successful; `original` is the last one's error. Also raised after too many redirects."""


@_of_useragent
class BadStatusCode(ConnectionError):
    """A status code that is not among the agent's `valid_response_codes`.

    `code` is the status code, `response` and `request` are what it belongs to, `http_log` shows both as text, with at
    most 1 MiB of the body. The rest of a larger body is still to be read: `response` holds its connection until then,
    or until `response.release()`.
    """

    code = 0


@_of_useragent
class EmptyResponse(ConnectionError):
    """A body was asked for, and there was none."""


@_of_useragent
class UnrewoundBodyError(ConnectionError):
    """The payload would have to be sent once more, and can be read only once."""


@_of_useragent
class UnsupportedRedirectSchemeError(ConnectionError, ValueError):
    """A redirect to something other than http and https.

    `response` is the redirect, `request` what it answers. It is a ValueError for programs that expect that of a URL.
    """


@_of_useragent
class InvalidRedirectError(ConnectionError, ValueError):
    """A redirect whose Location is not a URL with a valid host and port.

    `response` is the redirect, `request` what it answers. It is a ValueError for programs that expect that of a URL.
    """
