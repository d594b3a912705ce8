"""The response parser that is fed, and the error that all parsing ends in when it must."""

from http.client import HTTPException

from geventhttpclient._core import HTTPResponseParser

__all__ = ["HTTPParseError", "HTTPResponseParser"]


class HTTPParseError(HTTPException):
    """The peer sent what is no HTTP/1.x response, or one that cannot be trusted.

    Its arguments are a text and a number, which is that of the same error in llhttp. Raised by a request, it also has
    the attributes `phase` ("head", "body"), `peer` ("host:port") and `elapsed` (seconds since the request was made).
    """
