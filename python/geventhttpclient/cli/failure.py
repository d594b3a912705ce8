"""How the command ends, and what it says when something is wrong: one line on stderr, never a traceback."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress

from geventhttpclient import _core
from geventhttpclient.cli.printable import printable
from geventhttpclient.compat_errors import RetriesExceeded

OK = 0
FAILED = 1
USAGE = 2
FILE = 3
CHECKSUM = 4
INTERRUPTED = 130
PIPE_CLOSED = 141

# Status codes after which another attempt may do better.
PASSING = (408, 429, 500, 502, 503, 504)

STATUSES = """exit status:
  0    all went well
  1    a request failed; with --fail, also a status code of 400 or more
  2    the command line is wrong
  3    a local file could not be read or written
  4    the checksum of a download is another one
  130  interrupted (SIGINT)
  141  whoever read the output has closed it (as SIGPIPE)
"""


class Failure(Exception):
    """What ends a task of the command, in words for its user, and the exit status that it makes."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


class OutputClosed(Exception):
    """The reader of our output has had enough."""


def say(text: str) -> None:
    """One line on stderr, whatever is in the text. A stderr that nobody reads is no error."""
    with suppress(OSError):
        sys.stderr.write(failure_line(text))
        sys.stderr.flush()


def failure_line(text: str) -> str:
    """The line in which something is said to be wrong, without credentials."""
    return f"geventhttpclient: {_core.redact_all(one_line(text))}\n"


def one_line(text: str) -> str:
    """The text without line ends, and with escapes for what a terminal would take for a command."""
    return printable(" ".join(text.split()))


def describe(error: BaseException) -> str:
    """An exception in words: its own, or its name where it has none."""
    if isinstance(error, RetriesExceeded) and getattr(error, "original", None) is not None:
        return describe(error.original)  # type: ignore[attr-defined]
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.errno in errno.errorcode and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    return text or type(error).__name__


def file_failure(error: OSError, path: object) -> Failure:
    """What a file has refused."""
    return Failure(f"{path}: {error.strerror or error}", FILE)
