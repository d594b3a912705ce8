"""Draws the pictures of a run into docs/pictures, and writes the block that shows them into the pages.

    python benchmarks/pictures.py [benchmarks/results/RUN.json]

All numbers, names, versions and dates are taken from the run. The default is the last run in benchmarks/results that
has all ROWS; drawing it again changes nothing. Needs matplotlib."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import charts
from charts import BLUE, GREEN, GREY, MUTED, OCHRE, ORANGE, PURPLE, Chart, Line, Value
from latency import percentile
from report import FLOOR, FLOOR_HTTP1, OURS, OURS_HTTP1, REFERENCE
from results import SavedRun, newest, read

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PICTURES = HERE.parent / "docs" / "pictures"
README = HERE.parent / "README.md"
PAGES = (README, PICTURES.parent / "reference" / "performance.md")

GROWTH = ("get", "get-c100", "get-c1000", "get-c4000", "get-c10000")
ROWS = ("peers", *GROWTH, "latency", "latency-paced", "http2")
COLOURS = {OURS: BLUE, REFERENCE: ORANGE, FLOOR: MUTED, "pycurl multi": GREEN, "pyreqwest on uvloop": PURPLE}
COLOURS["aiohttp on uvloop"] = OCHRE

BEGIN, END = "<!-- pictures, by benchmarks/pictures.py -->\n", "<!-- end of the pictures -->\n"


@dataclass(frozen=True)
class Picture:
    """Files for light and dark pages, and the same data as text."""

    light: str
    dark: str
    alt: str


def version(run: SavedRun, client: str) -> str:
    """Returns the version of geventhttpclient that a client is."""
    found = re.search(r"geventhttpclient (\S+?)(,|$)", run.facts[client])
    return found[1] if found else "?"


def name(run: SavedRun, client: str) -> str:
    if client in (OURS, REFERENCE):
        return f"geventhttpclient {version(run, client)}"
    if client in (OURS_HTTP1, FLOOR_HTTP1):
        return f"{version(run, OURS)}, HTTP/1.1" if client == OURS_HTTP1 else "wrk, HTTP/1.1"
    return client.removesuffix(", HTTP/2").replace(" multi", "")


def brief(run: SavedRun, client: str) -> str:
    """Returns the short name of a client, for lines."""
    if client in (OURS, REFERENCE):
        return version(run, client)
    return "wrk" if client == FLOOR else client.split()[0]


def chart(run: SavedRun, title: str, subtitle: str) -> Chart:
    return Chart(title, subtitle, f"benchmarks/results/{run.path.name}")


def in_words(title: str, values: list[tuple[str, str]]) -> str:
    return f"{title}: {'; '.join(f'{label} {number}' for label, number in values)}"


def digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def compare(
    run: SavedRun, row: str, title: str, subtitle: str, draw: Callable[..., tuple[str, str]], cpu: bool
) -> Picture:
    """Draws all clients of a row, the best at the top, with the floor as a line."""
    of = run.results.cpu if cpu else run.results.rate
    numbers = {client: of(row, client) or 0 for client in [OURS, *run.results.others(row), FLOOR]}
    clients = sorted((c for c in numbers if c != FLOOR and numbers[c]), key=lambda c: numbers[c], reverse=not cpu)
    values = [Value(name(run, c), numbers[c], COLOURS[c] if c in (OURS, REFERENCE) else GREY) for c in clients]
    tool = "h2load" if row == "http2" else "wrk"
    floor = Value(tool, numbers[FLOOR]) if numbers[FLOOR] else None
    light, dark = draw(chart(run, title, subtitle), values, floor, digits)
    told = [*values, *([floor] if floor else [])]
    return Picture(light, dark, in_words(f"{title}, {subtitle}", [(v.label, digits(v.number)) for v in told]))


def rate(run: SavedRun) -> Picture:
    return compare(run, "peers", "Requests per second", "GET of 615 bytes, 10 at a time", charts.bars, cpu=False)


def cpu(run: SavedRun) -> Picture:
    return compare(run, "peers", "CPU of a request", "us, GET of 615 bytes, 10 at a time", charts.dots, cpu=True)


def http2(run: SavedRun) -> Picture:
    subtitle = "us, GET over TLS, 100 concurrent; HTTP/1.1 on 100 connections"
    return compare(run, "http2", "CPU of a request over HTTP/2", subtitle, charts.dots, cpu=True)


def connections(run: SavedRun) -> Picture:
    title, subtitle = "CPU of a request by connections", "GET of 615 bytes, a greenlet for each connection"
    found, told = [], []
    for client in (OURS, REFERENCE, FLOOR):
        points = [
            (float(run.rows[row]["greenlets"]), number) for row in GROWTH if (number := run.results.cpu(row, client))
        ]
        if not points:
            continue  # wrk is not installed
        found.append(Line(brief(run, client), points, COLOURS[client], dashed=client == FLOOR))
        told.append((brief(run, client), ", ".join(f"{digits(y)} us with {x:,.0f}" for x, y in points)))
    light, dark = charts.lines(chart(run, title, subtitle), found, "connections", "us")
    return Picture(light, dark, in_words(title, told))


def latency_of(run: SavedRun, row: str, title: str, subtitle: str) -> Picture:
    clients = [OURS, *run.results.others(row), FLOOR]
    counts = {client: measured for client in clients if (measured := run.results.latencies(row, client))}
    found = [(brief(run, client), counts[client], COLOURS[client], client == FLOOR) for client in counts]
    light, dark = charts.latencies(chart(run, title, subtitle), found)

    def figures(client: str) -> str:
        shown = [f"{percentile(counts[client], p) / 1000:.3g} ms for {p:g} %" for p in (50, 90, 99, 99.9)]
        return ", ".join([*shown, f"{percentile(counts[client], 100) / 1000:.3g} ms at most"])

    return Picture(
        light, dark, in_words(f"{title}, {subtitle}", [(brief(run, client), figures(client)) for client in counts])
    )


def paced(run: SavedRun) -> Picture:
    title = re.split(" `get`", run.rows["latency-paced"]["title"])[0]
    return latency_of(run, "latency-paced", f"Latency at {title} requests per second", "from when each was due")


def closed(run: SavedRun) -> Picture:
    return latency_of(run, "latency", "Latency at full speed", "10 at a time, each as soon as it can")


DRAWN: dict[str, Callable[[SavedRun], Picture]] = {
    "rate": rate,
    "cpu": cpu,
    "connections": connections,
    "http2": http2,
    "latency-paced": paced,
    "latency": closed,
}


def clients_in_words(run: SavedRun) -> str:
    """Returns the versions of the other clients and tools, each package once."""
    packages: dict[str, None] = {}
    for client in dict.fromkeys(c for row in ROWS for c in run.results.others(row)):
        if client not in (REFERENCE, OURS_HTTP1) and client in run.facts:
            packages |= dict.fromkeys(run.facts[client].split(", "))
    shared = set(run.facts[OURS].split(", "))
    tools = [f"wrk {found[1]}" for found in [re.search(r"/(\d[\d.]*)", run.facts.get("wrk", ""))] if found]
    tools += [f"h2load {found[1]}" for found in [re.search(r"/(\d[\d.]*)", run.facts.get("h2load", ""))] if found]
    return ", ".join([*sorted(set(packages) - shared), *tools])


def caption(run: SavedRun) -> str:
    ours = ", ".join(fact for fact in run.facts[OURS].split(", ") if not fact.startswith("geventhttpclient "))
    text = (
        f"Measured on {run.date}: {run.facts['machine']}; {ours}; geventhttpclient {version(run, OURS)} and"
        f" {version(run, REFERENCE)}, {clients_in_words(run)}. Server: {run.facts['server']}. Medians over"
        f" the rounds ({run.facts['rounds']}); latencies are those of all rounds together"
        f" ([the whole run](benchmarks/results/{run.path.with_suffix('.md').name})). CPU is that of the client's"
        " process. wrk and h2load, written in C, are the floor: what the same requests cost without a client library."
        " Near their rates it is the server, on its one core, that is measured. At a given rate latency counts from"
        " when a request was due, not from when the client got to it."
    )
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def block(run: SavedRun, pictures: dict[str, Picture], page: Path = README) -> str:
    """Returns the text between BEGIN and END of a page."""
    shown = "\n".join(
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="docs/pictures/{key}-dark.svg">'
        f'<img src="docs/pictures/{key}-light.svg" width="{charts.WIDTH}" alt="{escape(picture.alt)}"></picture>'
        for key, picture in pictures.items()
    )
    text = f"{shown}\n\n{caption(run)}\n"
    if page.parent != README.parent:
        text = text.replace('"docs/pictures/', '"../pictures/').replace("](benchmarks/", "](../../benchmarks/")
    return text


def with_block(page: str, text: str) -> str:
    """Returns the page with its block replaced. Raises ValueError if it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"no {BEGIN.strip()} and {END.strip()} in the page")
    return before + begin + text + end + after


def draw(run: SavedRun) -> dict[str, Picture]:
    return {key: make(run) for key, make in DRAWN.items()}


def main(path: str = "") -> None:
    run = read(Path(path)) if path else newest(RESULTS, ROWS)
    if run is None:
        raise SystemExit(f"Nothing to draw: no run in {RESULTS} has all of {','.join(ROWS)}")
    if missing := [row for row in ROWS if row not in run.rows]:
        raise SystemExit(f"{path} does not have {','.join(missing)}")
    pictures = draw(run)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for key, picture in pictures.items():
        (PICTURES / f"{key}-light.svg").write_text(picture.light)
        (PICTURES / f"{key}-dark.svg").write_text(picture.dark)
    for page in PAGES:
        page.write_text(with_block(page.read_text(), block(run, pictures, page)))
    print(f"Drew {run.path.name}: {PICTURES}, and the block of {' and of '.join(page.name for page in PAGES)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
