"""Numbers with units, for people."""

from __future__ import annotations


def bytes_text(count: float) -> str:
    """Formats a number of bytes: `615 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def seconds_text(seconds: float) -> str:
    """Formats a duration with three digits: `85 us`, `1.25 ms`, `3.10 s`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        milliseconds = seconds * 1e3
        return f"{milliseconds:.2f} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"
    return f"{seconds:,.2f} s"
