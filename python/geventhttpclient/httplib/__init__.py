"""Drop-in replacement of http.client on the engine: its classes, and `patch()` for the libraries that use them.

These classes inherit the formatting of requests from http.client; the engine does name resolution, sockets, TLS and
responses. Waits are cooperative, with and without gevent.monkey.

>>> from geventhttpclient.httplib import HTTPConnection
>>> connection = HTTPConnection("127.0.0.1", 8080)
>>> connection.request("GET", "/friends")
>>> friends = json.load(connection.getresponse())
"""

from geventhttpclient.httplib.connection import HTTPConnection, HTTPSConnection
from geventhttpclient.httplib.patching import patch, patched, unpatch
from geventhttpclient.httplib.response import HTTPLibHeaders, HTTPResponse
from geventhttpclient.httplib.sock import Socket, TLSSocket

# The names that programs and logs show.
for _class in (HTTPConnection, HTTPLibHeaders, HTTPResponse, HTTPSConnection, Socket, TLSSocket):
    _class.__module__ = __name__
del _class

__all__ = [
    "HTTPConnection",
    "HTTPLibHeaders",
    "HTTPResponse",
    "HTTPSConnection",
    "Socket",
    "TLSSocket",
    "patch",
    "patched",
    "unpatch",
]
