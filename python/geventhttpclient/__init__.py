"""A high-performance, concurrent HTTP client for programs on gevent, with its engine in Rust.

>>> from geventhttpclient import HTTPClient, URL
>>> url = URL("http://127.0.0.1:8080/friends")
>>> url["limit"] = 20
>>> client = HTTPClient.from_url(url, concurrency=10)
>>> response = client.get(url.query_string)
>>> response.status_code
200
"""

from geventhttpclient._parser import HTTPParseError
from geventhttpclient._version import __version__
from geventhttpclient.api import delete, get, head, options, patch, post, put, request
from geventhttpclient.auth import BasicAuth
from geventhttpclient.client import HTTPClient
from geventhttpclient.requests import Session
from geventhttpclient.url import URL
from geventhttpclient.useragent import UserAgent

__all__ = [
    "URL",
    "BasicAuth",
    "HTTPClient",
    "HTTPParseError",
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
