"""A drop-in replacement for the synchronous API of httpx, on this package's engine: `Client`, and the functions.

Names and behaviour are those of httpx:

    with httpx.Client(base_url="https://api.example.org", timeout=httpx.Timeout(5, connect=1)) as client:
        friends = client.get("/friends", params={"limit": 20}).raise_for_status().json()
        with client.stream("GET", "/export") as response:
            for line in response.iter_lines():
                ...
"""

from geventhttpclient.httpx.authentication import (
    Auth,
    BasicAuth,
    DigestAuth,
    Flow,
    NetRCAuth,
)
from geventhttpclient.httpx.client import (
    USE_CLIENT_DEFAULT,
    Client,
    delete,
    get,
    head,
    options,
    patch,
    post,
    put,
    request,
    stream,
)
from geventhttpclient.httpx.errors import (
    CloseError,
    ConnectError,
    ConnectTimeout,
    DecodingError,
    HTTPError,
    HTTPStatusError,
    InvalidURL,
    LocalProtocolError,
    NetworkError,
    PoolTimeout,
    ProtocolError,
    ProxyError,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    RequestError,
    StreamConsumed,
    StreamError,
    TimeoutException,
    TooManyRedirects,
    TransportError,
    UnsupportedProtocol,
    WriteError,
    WriteTimeout,
)
from geventhttpclient.httpx.messages import (
    Request,
    Response,
    Timeout,
)

__all__ = [
    "USE_CLIENT_DEFAULT",
    "Auth",
    "BasicAuth",
    "Client",
    "CloseError",
    "ConnectError",
    "ConnectTimeout",
    "DecodingError",
    "DigestAuth",
    "Flow",
    "HTTPError",
    "HTTPStatusError",
    "InvalidURL",
    "LocalProtocolError",
    "NetRCAuth",
    "NetworkError",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "RequestError",
    "Response",
    "StreamConsumed",
    "StreamError",
    "Timeout",
    "TimeoutException",
    "TooManyRedirects",
    "TransportError",
    "UnsupportedProtocol",
    "WriteError",
    "WriteTimeout",
    "delete",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "request",
    "stream",
]

# The module that reprs and logs show is the public one.
for _found in [globals()[name] for name in __all__]:
    if isinstance(_found, type) and _found.__module__.startswith(f"{__name__}."):
        _found.__module__ = __name__
