"""The command `geventhttpclient`: `get`, `download` and `bench`. Nothing of it is imported by the package itself.

`main` takes the arguments to the one that does the work, and makes an exit status of how that ended. What is shown to
people goes to stderr, so that stdout has what was asked for and nothing else. Nothing is monkey-patched: files and
pipes are written as they are, which may block, and the network is gevent's.
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
    """Runs the command and returns its exit status; by default with the arguments of the process."""
    try:
        with without_traceback(), interruptible(), warnings.catch_warnings():
            # gevent's, of pauses that are shorter: they are longer then, and nobody minds.
            warnings.filterwarnings("ignore", "libuv only supports millisecond timer resolution")
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            status = _run(arguments)
            sys.stdout.flush()
            return status
    except Failure as failure:
        say(str(failure))
        return failure.status
    except (OutputClosed, BrokenPipeError):
        # As if SIGPIPE had ended it. It cannot: the network's pipes break, too, and that is no reason to end.
        _drop_output()
        return PIPE_CLOSED
    except MemoryError:
        say("there is not enough memory")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _show_warning(message: Warning | str, *_: object) -> None:
    """As any other message: it may quote a peer."""
    say(f"warning: {message}")


def _drop_output() -> None:
    """Else the interpreter tries at its end to write what is left in its buffer, and says that it cannot."""
    output = sys.__stdout__
    if output is not None and sys.stdout is output:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = parse(arguments)
    except SystemExit as end:  # argparse has said what there is to say
        return end.code if isinstance(end.code, int) else USAGE
    status: int = options.run(options)
    return status
