"""What is shown to people: colours, live displays and bars, where there is a terminal and where rich is installed."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING

from geventhttpclient.cli.failure import USAGE, Failure

if TYPE_CHECKING:
    from rich.console import Console

MISSING = "needs rich: pip install 'geventhttpclient[cli]'"


def is_terminal(stream: IO[str]) -> bool:
    """Whether somebody is looking."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def encoding_of(stream: IO[str]) -> str:
    """Returns the encoding of what is written to the bytes below a stream: that of a terminal, else UTF-8.

    A terminal of 8 bits takes bytes of UTF-8 for control characters.
    """
    return (getattr(stream, "encoding", None) if is_terminal(stream) else None) or "utf-8"


def wants_color(when: str, stream: IO[str]) -> bool:
    """`when` is always, never or auto: on a terminal that knows colours, unless NO_COLOR is set (no-color.org)."""
    if when == "auto":
        return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return when == "always"


def colors(when: str, stream: IO[str]) -> Console | None:
    """What prints in colour to a stream; None where there are to be none, or no rich to make them."""
    if not wants_color(when, stream):
        return None
    console = _console(stream, True)
    if console is None and when == "always":
        raise Failure(f"--color always {MISSING}", USAGE)
    return console


def display(asked: bool | None, when: str) -> Console | None:
    """What live displays are drawn on: stderr, where that is a terminal or where it was asked for; else None."""
    if asked is False or (asked is None and not is_terminal(sys.stderr)) or os.environ.get("TERM") == "dumb":
        return None
    console = _console(sys.stderr, wants_color(when, sys.stderr))
    if console is None and asked:
        raise Failure(f"--progress {MISSING}", USAGE)
    return console


def _console(stream: IO[str], color: bool) -> Console | None:
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(
        file=stream,
        force_terminal=True,
        color_system="auto" if color and is_terminal(stream) else "standard" if color else None,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
