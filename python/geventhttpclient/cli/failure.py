"""Exit statuses and error messages of the command: one line on stderr, never a traceback."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress

from geventhttpclient import _core
from geventhttpclient.cli.printable import printable
from geventhttpclient.exceptions import ConnectionError, RetriesExceeded

OK = 0
FAILED = 1
USAGE = 2
FILE = 3
CHECKSUM = 4
INTERRUPTED = 130
PIPE_CLOSED = 141

# Status codes after which another attempt may do better.
TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)

STATUSES = """exit status:
  0    success
  1    a request failed; with --fail, also a status code of 400 or more
  2    the command line is invalid
  3    a local file could not be read or written
  4    the checksum of a download does not match
  130  interrupted (SIGINT)
  141  the reader of the output has closed it (as after SIGPIPE)
"""


class Failure(Exception):
    """An error that ends a task of the command: a message for the user, and the exit status."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


class OutputClosed(Exception):
    """The reader of the output has closed it."""


def say(text: str) -> None:
    """Prints a text as one line on stderr. A closed stderr is not an error."""
    with suppress(OSError):
        sys.stderr.write(failure_line(text))
        sys.stderr.flush()


def failure_line(text: str) -> str:
    """Returns the line that reports an error, without credentials."""
    return f"geventhttpclient: {_core.redact_all(one_line(text))}\n"


def one_line(text: str) -> str:
    """Returns the text in one line, with control sequences of terminals escaped."""
    return printable(" ".join(text.split()))


def describe(error: BaseException) -> str:
    """Returns the message of an exception, or the name of its class if it has none."""
    if isinstance(error, RetriesExceeded) and error.original is not None:
        return describe(error.original)
    # The command names the URL itself.
    text = error._words() if isinstance(error, ConnectionError) else str(error)
    if isinstance(error, OSError) and error.strerror and error.errno in errno.errorcode and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    return text or type(error).__name__


def file_failure(error: OSError, path: object) -> Failure:
    """Returns a Failure for an operation on a file that failed."""
    return Failure(f"{path}: {error.strerror or error}", FILE)
