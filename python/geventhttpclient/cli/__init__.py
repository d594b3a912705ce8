"""The command `geventhttpclient`: `get`, `download` and `bench`. The package itself imports nothing from here.

`main` parses the arguments, runs the command and turns its outcome into an exit status. Messages and progress go to
stderr, so that stdout contains only the requested data. Nothing is monkey-patched: writes to files and pipes may block
the thread; only the network goes through gevent.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

from geventhttpclient.cli.arguments import parse
from geventhttpclient.cli.failure import FAILED, INTERRUPTED, PIPE_CLOSED, USAGE, Failure, OutputClosed, say
from geventhttpclient.cli.interrupt import interruptible
from geventhttpclient.cli.tasks import without_traceback

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status. By default it uses the arguments of the process."""
    try:
        with without_traceback(), interruptible(), warnings.catch_warnings():
            # gevent warns about shorter pauses. They are rounded up, which does no harm here.
            warnings.filterwarnings("ignore", "libuv only supports millisecond timer resolution")
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            status = _run(arguments)
            sys.stdout.flush()
            return status
    except Failure as failure:
        say(str(failure))
        return failure.status
    except (OutputClosed, BrokenPipeError):
        # The status of a process that SIGPIPE has killed. The signal itself stays ignored: a broken network connection
        # raises it too, and must not end the command.
        _drop_output()
        return PIPE_CLOSED
    except MemoryError:
        say("not enough memory")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _show_warning(message: Warning | str, *_: object) -> None:
    """Prints a warning like any other message, since it may quote a peer."""
    say(f"warning: {message}")


def _drop_output() -> None:
    """Redirects stdout to /dev/null, so that the interpreter does not fail to flush its buffer at exit."""
    output = sys.__stdout__
    if output is not None and sys.stdout is output:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = parse(arguments)
    except SystemExit as end:  # argparse has printed its message
        return end.code if isinstance(end.code, int) else USAGE
    status: int = options.run(options)
    return status
