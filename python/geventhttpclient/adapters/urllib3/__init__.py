"""Drop-in replacement of urllib3 on the engine: `PoolManager`, `ProxyManager` and the connection pools.

    from geventhttpclient.adapters.urllib3 import PoolManager

    http = PoolManager(maxsize=10, timeout=5.0)
    response = http.request("GET", "https://example.org/")

They are subclasses of urllib3's classes, and behave as urllib3 documents: arguments, retries, redirects, timeouts,
responses, exceptions. Instead of http.client and Python's sockets they use the engine's connections, whose waits are
cooperative, with and without monkey patching.

They require urllib3 2 (`pip install urllib3`), which is not a dependency of this package.
"""

try:
    from urllib3 import BaseHTTPResponse as _BaseHTTPResponse  # noqa: F401 (urllib3 1 has none)
except ImportError as _error:
    raise ImportError("geventhttpclient.adapters.urllib3 needs urllib3 2: pip install 'urllib3>=2'") from _error
from geventhttpclient.adapters.urllib3.connection import HTTPConnection, HTTPSConnection
from geventhttpclient.adapters.urllib3.managers import (
    PoolManager,
    ProxyManager,
    SOCKSProxyManager,
    connection_from_url,
    proxy_from_url,
)
from geventhttpclient.adapters.urllib3.pools import HTTPConnectionPool, HTTPSConnectionPool
from geventhttpclient.adapters.urllib3.response import HTTPResponse
from geventhttpclient.adapters.urllib3.retry import Retry

__all__ = [
    "HTTPConnection",
    "HTTPConnectionPool",
    "HTTPResponse",
    "HTTPSConnection",
    "HTTPSConnectionPool",
    "PoolManager",
    "ProxyManager",
    "Retry",
    "SOCKSProxyManager",
    "connection_from_url",
    "proxy_from_url",
]
