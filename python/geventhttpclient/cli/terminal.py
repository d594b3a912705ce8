"""Colours, live displays and progress bars, if there is a terminal and rich is installed."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING

from geventhttpclient.cli.failure import USAGE, Failure

if TYPE_CHECKING:
    from rich.console import Console

MISSING = "needs rich: pip install 'geventhttpclient[cli]'"


def is_terminal(stream: IO[str]) -> bool:
    """Returns True if the stream is a terminal."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def encoding_of(stream: IO[str]) -> str:
    """Returns the encoding for the binary buffer of a stream: that of a terminal, otherwise UTF-8.

    An 8-bit terminal would interpret UTF-8 bytes as control characters.
    """
    return (getattr(stream, "encoding", None) if is_terminal(stream) else None) or "utf-8"


def wants_color(when: str, stream: IO[str]) -> bool:
    """Returns True if a stream gets colours. `when` is always, never or auto: on a terminal that supports colours,
    unless NO_COLOR is set (no-color.org)."""
    if when == "auto":
        return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return when == "always"


def colors(when: str, stream: IO[str]) -> Console | None:
    """Returns a console that prints in colour to a stream, or None without colours or without rich.

    Raises Failure if colours are requested and rich is not installed.
    """
    if not wants_color(when, stream):
        return None
    console = _console(stream, True)
    if console is None and when == "always":
        raise Failure(f"--color always {MISSING}", USAGE)
    return console


def display(asked: bool | None, when: str) -> Console | None:
    """Returns the console for live displays on stderr, or None unless stderr is a terminal or `asked` is true.

    Raises Failure if a display is requested and rich is not installed.
    """
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
