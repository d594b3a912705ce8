"""Draws charts as SVG, for light and dark pages: bars, dots, lines, and latency by percentile.

The axis of bars and lines begins at 0; that of dots and latencies is logarithmic, and labelled so. Names and numbers
are next to the marks, instead of a legend. Text stays text: it can be searched and read aloud, and is shown in the
reader's font; its width is measured in DejaVu Sans, which is wider than most. The same numbers give the same file, byte
by byte.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from latency import Counts
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from geventhttpclient.cli.percentiles import name_places, steps

# Colours of light pages, which `DARK` maps; distinguishable without red and green (after Okabe and Ito).
INK = "#1f2328"
PAPER = "#ffffff"
MUTED = "#59636e"
GRID = "#d1d9e0"
BLUE = "#0072b2"
ORANGE = "#c84c00"
GREY = "#7d8793"
GREEN = "#007d5c"
PURPLE = "#a8528a"
OCHRE = "#8f6a00"
DARK = {
    INK: "#f0f6fc",
    PAPER: "#0d1117",
    MUTED: "#9198a1",
    GRID: "#3d444d",
    BLUE: "#56b4e9",
    ORANGE: "#ff9e4a",
    GREY: "#6e7681",
    GREEN: "#2fc79a",
    PURPLE: "#e39ac4",
    OCHRE: "#e6c34a",
}

WIDTH, HEIGHT = 410, 290  # two fit side by side on a page of GitHub
PIXEL = 1 / 96  # of an inch
POINT = 0.75  # points of a pixel

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "geventhttpclient",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 11 * POINT,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.linewidth": POINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": GRID,
    "grid.linewidth": POINT,
}


@dataclass(frozen=True)
class Value:
    """Number of one client."""

    label: str
    number: float
    colour: str = GREY


@dataclass(frozen=True)
class Line:
    """Numbers of one client, as points of the chart."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Texts of a chart: a title, and a line below it that names the measurement."""

    title: str
    subtitle: str
    source: str  # kept in the file's metadata

    def svg(self, draw: Callable[[Any], None], left: int, right: int) -> tuple[str, str]:
        """Returns the files for light and dark pages; `draw` receives the axes, with margins in pixels."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(WIDTH * PIXEL, HEIGHT * PIXEL), dpi=96)
            axes = figure.add_axes((left / WIDTH, 46 / HEIGHT, (WIDTH - left - right) / WIDTH, (HEIGHT - 98) / HEIGHT))
            figure.text(10 / WIDTH, 1 - 22 / HEIGHT, self.title, fontsize=13 * POINT, fontweight="bold")
            figure.text(10 / WIDTH, 1 - 40 / HEIGHT, self.subtitle, color=MUTED)
            draw(axes)
            file = io.StringIO()
            facts = {"Title": self.title, "Source": self.source, "Date": None, "Creator": None}
            figure.savefig(file, format="svg", transparent=True, metadata=facts)
        light = re.sub(r"[ \t]+$", "", file.getvalue(), flags=re.MULTILINE)
        return light, re.sub("#[0-9a-f]{6}", lambda found: DARK[found[0]], light)


def bars(chart: Chart, values: Sequence[Value], floor: Value | None, show: Callable[[float], str]) -> tuple[str, str]:
    """Draws bars from 0, the first at the top; the floor is a line across all of them."""

    def draw(axes: Any) -> None:
        axes.barh(range(len(values)), [value.number for value in values], 0.62, color=[v.colour for v in values])
        name_rows(axes, values)
        longest = max(value.number for value in (*values, *([floor] if floor else [])))
        for row, value in enumerate(values):
            inside = value.number > longest / 2  # the label fits into the bar
            axes.annotate(
                show(value.number),
                (value.number, row),
                (-4 if inside else 4, 0),
                textcoords="offset points",
                ha="right" if inside else "left",
                va="center",
                color=PAPER if inside else INK,
            )
        axes.set_xlim(0, longest * 1.02)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        mark_floor(axes, floor, show)

    return chart.svg(draw, 160, 62)


def dots(chart: Chart, values: Sequence[Value], floor: Value | None, show: Callable[[float], str]) -> tuple[str, str]:
    """Draws dots on a logarithmic axis, on which the length of a bar has no meaning."""

    def draw(axes: Any) -> None:
        axes.set_xscale("log")
        found = [value.number for value in values]
        axes.scatter(found, range(len(values)), 50 * POINT, color=[value.colour for value in values], zorder=3)
        numbers = [*found, *([floor.number] if floor else [])]
        axes.set_xlim(min(numbers) / 1.3, max(numbers) * 1.15)
        axes.hlines(range(len(values)), axes.get_xlim()[0], found, GRID, linewidth=POINT)
        name_rows(axes, values)
        for row, value in enumerate(values):
            axes.annotate(show(value.number), (value.number, row), (7, 0), textcoords="offset points", va="center")
        decades = range(math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers))) + 1)
        ticks = [10.0**decade for decade in decades if axes.get_xlim()[0] <= 10.0**decade <= axes.get_xlim()[1]]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda number, _: f"{number:g}")
        axes.set_xlabel("us, log scale")
        mark_floor(axes, floor, show)

    return chart.svg(draw, 160, 62)


def name_rows(axes: Any, values: Sequence[Value]) -> None:
    axes.set_yticks(range(len(values)), [value.label for value in values])
    axes.tick_params("y", length=0, labelcolor=INK)
    axes.set_ylim(len(values) - 0.5, -0.9)
    axes.spines["left"].set_visible(False)


def mark_floor(axes: Any, floor: Value | None, show: Callable[[float], str]) -> None:
    if floor:
        axes.axvline(floor.number, color=MUTED, linewidth=1.2 * POINT, dashes=(4, 3))
        right = axes.transAxes.inverted().transform(axes.transData.transform((floor.number, 0)))[0] > 0.5
        axes.annotate(
            f"{floor.label} {show(floor.number)}",
            (floor.number, 1),
            (-3 if right else 3, 0),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            color=MUTED,
        )


def lines(chart: Chart, found: Sequence[Line], across: str, up: str) -> tuple[str, str]:
    """Draws lines over a logarithmic axis; the vertical axis begins at 0."""

    def draw(axes: Any) -> None:
        for line in found:
            axes.plot(*zip(*line.points, strict=True), marker="o", markersize=4 * POINT, **stroke(line))
        ticks = sorted({x for line in found for x, _ in line.points})
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda number, _: f"{number:g}" if number < 1000 else f"{number / 1000:g}k")
        axes.set_xlabel(f"{across}, log scale")
        axes.set_ylabel(up)
        axes.set_ylim(0, max(y for line in found for _, y in line.points) * 1.08)
        axes.grid(axis="y")
        name_lines(axes, found)

    return chart.svg(draw, 48, 72)


def latencies(chart: Chart, found: Sequence[tuple[str, Counts, str, bool]]) -> tuple[str, str]:
    """Draws latency over percentiles, as `bench --plot` of the command does; the latency axis is logarithmic. Each
    client has a name, latencies, a colour, and true for a dashed line."""

    def draw(axes: Any) -> None:
        # Up to the percentile above which each client has ten requests.
        nines = min(4, max(1, int(math.log10(min(sum(n for _, n in counts) for _, counts, _, _ in found) / 10))))
        curves = [Line(label, curve(counts, nines), colour, dashed) for label, counts, colour, dashed in found]
        axes.set_yscale("log")
        for line in curves:
            axes.plot(*zip(*line.points, strict=True), **stroke(line))
        name_places(axes, nines)
        low, high = (pick(y for line in curves for _, y in line.points) for pick in (min, max))
        axes.set_ylim(low / 1.15, high * 1.15)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < low * 200 else (1,)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda number, _: f"{number:g}")
        axes.set_ylabel("ms, log scale")
        axes.grid()
        name_lines(axes, curves)

    return chart.svg(draw, 48, 108)


def curve(counts: Counts, nines: int) -> list[tuple[float, float]]:
    """Returns the corners of the steps, up to this many nines."""
    points, x = [(0.0, counts[0][0] / 1000)], 0.0
    for place, milliseconds in steps(counts, sum(count for _, count in counts)):
        end = min(place, float(nines))
        points += [(x, milliseconds), (end, milliseconds)]
        if place >= nines:
            break
        x = end
    return points


def stroke(line: Line) -> dict[str, Any]:
    style: dict[str, Any] = {"color": line.colour, "linewidth": 1.8 * POINT, "clip_on": False}
    return style | {"dashes": (4, 3)} if line.dashed else style


def name_lines(axes: Any, found: Sequence[Line]) -> None:
    """Writes each name at the end of its line, or as near to it as the other names allow."""
    ends = [axes.transData.transform(line.points[-1])[1] for line in found]
    bottom, top = (axes.transAxes.transform((0, place))[1] for place in (0, 1))
    for line, end, place in zip(found, ends, spread(ends, 14, bottom, top), strict=True):
        axes.annotate(
            line.label,
            (1, axes.transAxes.inverted().transform((0, end))[1]),
            (6, (place - end) * POINT),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            color=line.colour,
        )


def spread(places: Sequence[float], gap: float, least: float, most: float) -> list[float]:
    """Returns the positions, moved as little as needed for a gap between any two, within these bounds."""

    def first_of(members: list[int]) -> float:
        middle = sum(places[member] - k * gap for k, member in enumerate(members)) / len(members)
        return max(least, min(middle, most - (len(members) - 1) * gap))

    # Neighbours that push each other move as one: a group of them, with the place of its first.
    groups: list[tuple[list[int], float]] = []
    for i in sorted(range(len(places)), key=lambda i: places[i]):
        members = [i]
        while groups and groups[-1][1] + len(groups[-1][0]) * gap > first_of(members):
            members = groups.pop()[0] + members
        groups.append((members, first_of(members)))
    moved = {member: first + k * gap for members, first in groups for k, member in enumerate(members)}
    return [moved[i] for i in range(len(places))]
