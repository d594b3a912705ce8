"""urllib3 with our engine: `PoolManager`, `ProxyManager` and the connection pools, to be used in place of urllib3's.

    from geventhttpclient.urllib3_adapter import PoolManager

    http = PoolManager(maxsize=10, timeout=5.0)
    response = http.request("GET", "https://example.org/")

They are subclasses of urllib3's own, and what is not said here is as urllib3 documents it: arguments, retries,
redirects, timeouts, responses, exceptions. What lies below is not http.client and Python's sockets, but the engine's
connections: whatever waits gives way to other greenlets, with and without monkey patching.

urllib3 2 is needed (`pip install urllib3`); this package does not ask for it by itself.
"""

try:
    from urllib3 import BaseHTTPResponse as _BaseHTTPResponse  # noqa: F401 (urllib3 1 has none)
except ImportError as _error:
    raise ImportError("geventhttpclient.urllib3_adapter needs urllib3 2: pip install 'urllib3>=2'") from _error
from geventhttpclient.urllib3_adapter.connection import HTTPConnection, HTTPSConnection
from geventhttpclient.urllib3_adapter.managers import (
    PoolManager,
    ProxyManager,
    SOCKSProxyManager,
    connection_from_url,
    proxy_from_url,
)
from geventhttpclient.urllib3_adapter.pools import HTTPConnectionPool, HTTPSConnectionPool
from geventhttpclient.urllib3_adapter.response import HTTPResponse
from geventhttpclient.urllib3_adapter.retry import Retry

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
