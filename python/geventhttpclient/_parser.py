"""The response parser that is fed with bytes, and the base class of parse errors."""

from geventhttpclient._core import HTTPResponseParser
from geventhttpclient.exceptions import HTTPParseError

__all__ = ["HTTPParseError", "HTTPResponseParser"]
