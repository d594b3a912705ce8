"""`get --timing`: the steps of a request as consecutive bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventhttpclient.cli import heads
from geventhttpclient.cli.printable import printable
from geventhttpclient.cli.units import bytes_text, seconds_text

if TYPE_CHECKING:
    from rich.console import Console

    from geventhttpclient.timings import Timings

# Columns that represent a whole request.
_WIDTH = 48

_PHASES = (
    ("pool", "pool wait", "dim"),
    ("resolve", "resolve", "cyan"),
    ("connect", "connect", "yellow"),
    ("proxy", "proxy", "magenta"),
    ("tls", "TLS", "magenta"),
    ("send", "send", "blue"),
    ("first_byte", "first byte", "green"),
    ("download", "download", "bold blue"),
)


def draw(response: Any, console: Console | None) -> str:
    """Returns the waterfall of one response of HTTPClient whose body has been read."""
    timings: Timings = response.timings
    peer = timings.peer if isinstance(timings.peer, str) or timings.peer is None else "{}:{}".format(*timings.peer)
    connection = "an open connection" if timings.reused else "a new connection"
    first = printable(f"{timings.protocol}, {connection}{f' to {peer}' if peer else ''}")
    phases = [(label, getattr(timings, name), style) for name, label, style in _PHASES]
    rows: list[tuple[str, str, str, str]] = []
    whole = sum(seconds for _, seconds, _ in phases if seconds)
    begin = 0.0
    for label, seconds, style in phases:
        if seconds is None or (label == "pool wait" and seconds < 1e-5):
            continue
        rows.append((label, bar(begin, seconds, whole), style, seconds_text(seconds)))
        begin += seconds
    total = timings.total if timings.total is not None else whole
    last = f"{bytes_text(timings.bytes_sent)} sent, {bytes_text(timings.bytes_received)} received"
    rows.append(("total", "", "", f"{seconds_text(total)}  ({last})"))
    width = max(len(label) for label, *_ in rows)
    if console is None:
        lines = [f"{label:>{width}} {drawn:<{_WIDTH}} {text}" for label, drawn, _, text in rows]
        return "\n".join([first, *lines, ""])
    from rich.text import Text

    shown = Text(first + "\n", "bold")
    for label, drawn, style, text in rows:
        shown.append(f"{label:>{width}} ", "not bold").append(f"{drawn:<{_WIDTH}} ", f"not bold {style}")
        shown.append(text + "\n", "not bold")
    return heads.rendered(shown, console)


def bar(begin: float, length: float, whole: float) -> str:
    """Returns a bar with a resolution of an eighth of a column, at its position in the whole; at least one eighth."""
    if whole <= 0:
        return ""
    start = min(_WIDTH * 8 - 1, round(begin / whole * _WIDTH * 8))
    eighths = max(1, round(length / whole * _WIDTH * 8))
    column, offset = divmod(start, 8)
    # No block character begins within a column: a bar begins at the column's edge, but ends at its exact position.
    full, part = divmod(offset + eighths, 8)
    return " " * column + "█" * full + ("" if not part else " ▏▎▍▌▋▊▉"[part])
