"""`bench --plot`: latency by percentile, and the rate over time, as SVG for light and dark pages alike."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from geventhttpclient.cli.failure import USAGE, Failure, file_failure

# Read well on white and on black: about the same contrast to both.
_INK = "#7d8590"
_LATENCY = "#3b82f6"
_RATE = "#e8730c"

# The mean of so many seconds is one point of the rate, or of a hundredth of the whole, if that is more.
_BIN = 0.5


def check(path: str) -> None:
    """Failure where nothing could be drawn, before anything was measured."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise Failure("--plot needs matplotlib: pip install 'geventhttpclient[plot]'", USAGE) from None
    if not Path(path).parent.is_dir():
        raise Failure(f"{path}: no such directory", USAGE)


def draw(summary: dict[str, Any], path: str) -> None:
    """Draws a summary to a file."""
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",  # text stays text: small, and in the page's fonts
        "svg.hashsalt": "geventhttpclient",  # the same numbers make the same file
        "font.family": "sans-serif",
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": _INK,
        "grid.alpha": 0.25,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9, 6.5), layout="constrained")
        figure.suptitle(f"{summary['method']} {summary['url']}", fontsize=11)
        above, below = figure.subplots(2, 1, height_ratios=[3, 2])
        _latency(above, summary)
        _rate(below, summary)
        try:
            figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
        except OSError as error:
            raise file_failure(error, path) from None


def _latency(axes: Any, summary: dict[str, Any]) -> None:
    """Latency up, percentiles across: each nine takes as much room as the one before it."""
    total = summary["requests"]
    nines = max(1, math.ceil(math.log10(total))) if total > 1 else 1
    across, up, seen = [0.0], [], 0
    for latency, count in summary["histogram_us"]:
        seen += count
        up.append(latency / 1000)
        # The last one would be at infinity.
        across.append(math.log10(1 / max(1 - seen / total, 1 / total / 2)))
    if up:
        axes.step([min(x, nines) for x in across], [up[0], *up], where="pre", color=_LATENCY, linewidth=1.8)
    ticks = [0.0, math.log10(2), *range(1, nines + 1)]
    axes.set_xticks(ticks, ["min", "50 %", *(_percent(nine) for nine in range(1, nines + 1))])
    axes.set_xlim(0, nines)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("of the requests were answered within")
    axes.set_ylabel("latency, ms")


def _percent(nines: int) -> str:
    return f"{100 - 100 / 10**nines:.{max(0, nines - 2)}f} %"


def _rate(axes: Any, summary: dict[str, Any]) -> None:
    whole = summary["duration_seconds"]
    width = max(_BIN, whole / 100)
    at, rates = [0.0], list[float]()
    before, done_before = 0.0, 0.0
    for now, done in summary["samples"]:
        # What is left at the end is a point of its own where it is long enough to mean something.
        if now - before >= width or (now >= whole - 1e-3 and (now - before >= width / 2 or not rates)):
            if now > before:
                at.append(now)
                rates.append((done - done_before) / (now - before))
            before, done_before = now, done
    if rates:
        axes.stairs(rates, at, color=_RATE, fill=True, alpha=0.25)
        axes.stairs(rates, at, color=_RATE, linewidth=1.8, baseline=None)
    axes.set_xlim(0, at[-1] or 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("requests/s")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
