"""The path by which the extension module imports the logger."""

from geventhttpclient._internal.log import logger, write

__all__ = ["logger", "write"]
