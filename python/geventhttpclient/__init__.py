"""A high-performance, concurrent HTTP client for programs on gevent, with an engine in Rust.

>>> from geventhttpclient import HTTPClient, URL
>>> url = URL("http://127.0.0.1:8080/friends")
>>> url["limit"] = 20
>>> client = HTTPClient.from_url(url, concurrency=10)
>>> response = client.get(url.query_string)
>>> response.status_code
200

Each name, and each module of the package, is imported when it is first accessed: a program pays only for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geventhttpclient._version import __version__

if TYPE_CHECKING:
    from geventhttpclient._parser import HTTPParseError
    from geventhttpclient.api import delete, get, head, options, patch, post, put, request
    from geventhttpclient.auth import BasicAuth
    from geventhttpclient.client import HTTPClient
    from geventhttpclient.requests import Session
    from geventhttpclient.sse import EventSource, JSONLinesSource
    from geventhttpclient.url import URL
    from geventhttpclient.useragent import UserAgent

__all__ = [
    "URL",
    "BasicAuth",
    "EventSource",
    "HTTPClient",
    "HTTPParseError",
    "JSONLinesSource",
    "Session",
    "UserAgent",
    "__version__",
    "delete",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "request",
]

_HOMES = {
    "URL": "url",
    "BasicAuth": "auth",
    "EventSource": "sse",
    "HTTPClient": "client",
    "HTTPParseError": "_parser",
    "JSONLinesSource": "sse",
    "Session": "requests",
    "UserAgent": "useragent",
    **dict.fromkeys(("delete", "get", "head", "options", "patch", "post", "put", "request"), "api"),
}

# Modules that are accessible after `import geventhttpclient` alone.
_MODULES = {
    "_core",
    "_parser",
    "api",
    "auth",
    "client",
    "connectionpool",
    "cookies",
    "header",
    "hooks",
    "http2",
    "multipart",
    "proxy",
    "requests",
    "resolver",
    "response",
    "sse",
    "timings",
    "tls",
    "url",
    "useragent",
}

if not TYPE_CHECKING:  # else type checkers would accept every name

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
