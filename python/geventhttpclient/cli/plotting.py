"""`bench --plot`: latency by percentile and the rate over time, as SVG for light and dark pages."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from geventhttpclient.cli import percentiles
from geventhttpclient.cli.failure import USAGE, Failure, file_failure

# Colours with about the same contrast on white and on black.
_INK = "#7d8590"
_LATENCY = "#3b82f6"
_RATE = "#e8730c"

# Seconds over which a point of the rate is averaged; at least a hundredth of the duration.
_BIN = 0.5


def check(path: str) -> None:
    """Raises Failure if a plot could not be drawn or saved. Call it before the measurement."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise Failure("--plot needs matplotlib: pip install 'geventhttpclient[plot]'", USAGE) from None
    if not Path(path).parent.is_dir():
        raise Failure(f"{path}: no such directory", USAGE)


def draw(summary: dict[str, Any], path: str) -> None:
    """Draws the plot of a summary into a file."""
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",  # keeps text as text: smaller, and in the fonts of the page
        "svg.hashsalt": "geventhttpclient",  # the same figures give the same file
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
    """Draws latency over percentile."""
    total = summary["requests"]
    nines = max(1, math.ceil(math.log10(total))) if total > 1 else 1
    across, up = [0.0], list[float]()
    for place, milliseconds in percentiles.steps(summary["histogram_us"], total):
        across.append(min(place, nines))
        up.append(milliseconds)
    if up:
        axes.step(across, [up[0], *up], where="pre", color=_LATENCY, linewidth=1.8)
    percentiles.name_places(axes, nines, "min")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("latency, ms")


def _rate(axes: Any, summary: dict[str, Any]) -> None:
    whole = summary["duration_seconds"]
    width = max(_BIN, whole / 100)
    at, rates = [0.0], list[float]()
    before, done_before = 0.0, 0.0
    for now, done in summary["samples"]:
        # The rest at the end is a point of its own if it is long enough for a meaningful rate.
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
