"""http.client on the engine: classes that take the place of its own, and `patch()` for the libraries that use them.

What a request looks like is http.client's doing, which these classes inherit; names, sockets, TLS and responses are the
engine's. Waiting is by gevent's rules, with and without gevent.monkey.

>>> from geventhttpclient.httplib import HTTPConnection
>>> connection = HTTPConnection("127.0.0.1", 8080)
>>> connection.request("GET", "/friends")
>>> friends = json.load(connection.getresponse())
"""

from geventhttpclient.httplib.connection import HTTPConnection, HTTPSConnection
from geventhttpclient.httplib.patching import patch, patched, unpatch
from geventhttpclient.httplib.response import HTTPLibHeaders, HTTPResponse
from geventhttpclient.httplib.sock import Socket, TLSSocket

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
