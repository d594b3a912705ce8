"""Evaluates the samples of a run: medians, ratios, targets, and a report in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from latency import Counts, percentile, together

OURS, REFERENCE, FLOOR, AS_IT_IS = "ours", "reference", "floor", "as it is"
OURS_HTTP1, FLOOR_HTTP1 = "ours, HTTP/1.1", "floor, HTTP/1.1"
MIB = 1024 * 1024
KB = 1000


@dataclass(frozen=True)
class Sample:
    """Work of one client on one workload in one round. `count` is in the unit of the row."""

    count: int
    seconds: float
    cpu_seconds: float
    peak_growth_bytes: int = 0
    growth_bytes: int = 0
    latencies: Counts = field(default_factory=list)  # if the row records them

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU time of the client per unit, in microseconds."""
        return self.cpu_seconds / self.count * 1e6

    @property
    def busy(self) -> float:
        """CPU time of the client as a fraction of the time: below 1, it waited for the server."""
        return self.cpu_seconds / self.seconds


@dataclass
class Results:
    """All samples of a run, by row and client."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)

    def add(self, row: str, client: str, sample: Sample) -> None:
        self.samples.setdefault((row, client), []).append(sample)

    def others(self, row: str) -> list[str]:
        """Returns the clients of a row, except ours and the floor."""
        return [client for key, client in self.samples if key == row and client not in (OURS, FLOOR)]

    def median(self, row: str, client: str, of: Callable[[Sample], float]) -> float | None:
        found = self.samples.get((row, client))
        return median(of(sample) for sample in found) if found else None

    def rate(self, row: str, client: str) -> float | None:
        return self.median(row, client, lambda sample: sample.rate)

    def cpu(self, row: str, client: str) -> float | None:
        return self.median(row, client, lambda sample: sample.cpu_us)

    def busy(self, row: str, client: str) -> float | None:
        return self.median(row, client, lambda sample: sample.busy)

    def latencies(self, row: str, client: str) -> Counts:
        """Returns the latencies of all rounds; empty if they were not recorded."""
        return together(sample.latencies for sample in self.samples.get((row, client), ()))

    def peak_mib(self, row: str, client: str) -> float | None:
        return self.median(row, client, lambda sample: sample.peak_growth_bytes / MIB)

    def kilobytes(self, row: str, client: str) -> float | None:
        """Returns the growth of resident memory per unit, in thousands of bytes."""
        return self.median(row, client, lambda sample: sample.growth_bytes / sample.count / KB)


def ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


@dataclass(frozen=True)
class Target:
    """Bound of one figure; `value` returns the figure of a row, None if it was not measured."""

    what: str
    bound: float
    value: Callable[[Results, str], float | None]
    at_least: bool = False
    unit: str = "x"

    def __str__(self) -> str:
        return f"{self.what} {'>=' if self.at_least else '<='} {self.bound:g}{self.unit}"

    def verdict(self, results: Results, row: str) -> str:
        value = self.value(results, row)
        if value is None:
            return "not measured"
        reached = value >= self.bound if self.at_least else value <= self.bound
        return f"{value:.2f}{self.unit}: {'yes' if reached else '**no**'}"


def rate_of_reference(bound: float) -> Target:
    return Target("rate", bound, lambda r, row: ratio(r.rate(row, OURS), r.rate(row, REFERENCE)), at_least=True)


def cpu_of_library(bound: float) -> Target:
    """Compares a library on our engine with the library alone."""
    return Target(
        "CPU, relative to the library as it is", bound, lambda r, row: ratio(r.cpu(row, OURS), r.cpu(row, AS_IT_IS))
    )


def rate_of_library(bound: float) -> Target:
    """Compares a library on our engine with the library alone."""
    return Target(
        "rate, compared with the library as it is",
        bound,
        lambda r, row: ratio(r.rate(row, OURS), r.rate(row, AS_IT_IS)),
        at_least=True,
    )


def rate_of(client: str, bound: float) -> Target:
    return Target(
        f"rate, compared with {client}",
        bound,
        lambda r, row: ratio(r.rate(row, OURS), r.rate(row, client)),
        at_least=True,
    )


def time_of_http1(bound: float) -> Target:
    return Target("time, relative to HTTP/1.1", bound, lambda r, row: ratio(r.rate(row, OURS_HTTP1), r.rate(row, OURS)))


def cpu_of_floor(bound: float) -> Target:
    return Target("CPU, relative to the floor", bound, lambda r, row: ratio(r.cpu(row, OURS), r.cpu(row, FLOOR)))


def cpu_of_row(other: str, bound: float) -> Target:
    return Target(f"CPU, relative to `{other}`", bound, lambda r, row: ratio(r.cpu(row, OURS), r.cpu(other, OURS)))


def peak_growth(bound: float) -> Target:
    return Target("peak memory", bound, lambda r, row: r.peak_mib(row, OURS), unit=" MiB")


def first_on_rate() -> Target:
    """Compares with the fastest of the other clients of the row."""

    def beside(results: Results, row: str) -> float | None:
        rates = [results.rate(row, client) or 0 for client in results.others(row)]
        return ratio(results.rate(row, OURS), max(rates, default=None))

    return Target("rate, compared with the best of the others", 1, beside, at_least=True)


def first_on_cpu() -> Target:
    def beside(results: Results, row: str) -> float | None:
        found = [cpu for client in results.others(row) if (cpu := results.cpu(row, client)) is not None]
        return ratio(results.cpu(row, OURS), min(found, default=None))

    return Target("CPU, compared with the least of the others", 1, beside)


def least_of_others_on_cpu(bound: float) -> Target:
    def beside(results: Results, row: str) -> float | None:
        found = [cpu for client in results.others(row) if (cpu := results.cpu(row, client)) is not None]
        return ratio(min(found, default=None), results.cpu(row, OURS))

    return Target("CPU of the least of the others, relative to ours", bound, beside, at_least=True)


def time_of(count: int, what: str, bound: float) -> Target:
    return Target(f"time of {count:,} {what}", bound, lambda r, row: ratio(count, r.rate(row, OURS)), unit=" s")


def memory_of(count: int, what: str, bound: float) -> Target:
    def megabytes(results: Results, row: str) -> float | None:
        each = results.kilobytes(row, OURS)
        return each * count / KB if each is not None else None

    return Target(f"memory of {count:,} {what}", bound, megabytes, unit=" MB")


def memory_of_each(bound: float) -> Target:
    def kibibytes(results: Results, row: str) -> float | None:
        each = results.kilobytes(row, OURS)
        return each * KB / 1024 if each is not None else None

    return Target("memory of each", bound, kibibytes, unit=" KiB")


@dataclass(frozen=True)
class Row:
    """Line of the table: a workload of worker.py and its targets."""

    key: str
    title: str
    workload: str = ""
    unit: str = "requests"
    greenlets: int = 10
    floor: str = ""  # "wrk", a method and a target; "h2load" and a target; a workload of worker.py; or empty
    tls: bool = False
    http2: bool = False  # over TLS; ours takes part without HTTP/2 as well
    http1_floor: str = ""  # as `floor`, for ours without HTTP/2
    grows: bool = False  # memory grows with each unit, and is reported
    locust: bool = False  # run by locust with locustfile.py, instead of a workload of worker.py
    pace: str = ""  # that of loops.at_pace; latencies are reported if it is set
    clients: tuple[str, ...] = ()  # other clients that take part
    path: str = "/page"  # what these request
    events: bool = False  # from the server of events, instead of nginx
    reference: bool = True  # the reference takes part
    integration: str = ""  # a library of integrations.py, instead of a workload of worker.py
    targets: tuple[Target, ...] = ()


def figure(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def times(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}x"


def table(header: list[str], lines: list[list[str]], *, left: int = 1) -> str:
    """Returns an aligned Markdown table: the first `left` columns to the left, the others to the right."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]

    def show(cells: list[str]) -> str:
        sized = list(zip(cells, widths, strict=True))
        padded = [cell.ljust(width) for cell, width in sized[:left]] + [
            cell.rjust(width) for cell, width in sized[left:]
        ]
        return "| " + " | ".join(padded) + " |"

    rules = ["-" * width for width in widths[:left]] + ["-" * (width - 1) + ":" for width in widths[left:]]
    return "\n".join([show(header), show(rules), *map(show, lines)])


def rates_table(rows: list[Row], results: Results) -> str:
    header = ["workload", "unit", "ours/s", "ref/s", "rate", "ours us", "ref us", "CPU", "floor/s", "floor us", "busy"]
    lines = []
    for row in rows:
        ours, reference = results.rate(row.key, OURS), results.rate(row.key, REFERENCE)
        ours_cpu, reference_cpu = results.cpu(row.key, OURS), results.cpu(row.key, REFERENCE)
        busy = results.busy(row.key, OURS)
        digits = 2 if row.unit == "lines" else 1
        lines.append(
            [
                f"`{row.key}`",
                row.unit,
                figure(ours),
                figure(reference),
                times(ratio(ours, reference)),
                figure(ours_cpu, digits),
                figure(reference_cpu, digits),
                times(ratio(reference_cpu, ours_cpu)),
                figure(results.rate(row.key, FLOOR)),
                figure(results.cpu(row.key, FLOOR), digits),
                "" if busy is None else f"{busy:.0%}",
            ]
        )
    return table(header, lines)


def targets_table(rows: list[Row], results: Results) -> str:
    lines = []
    for row in rows:
        ceiling = ratio(results.rate(row.key, FLOOR), results.rate(row.key, REFERENCE))
        for target in row.targets:
            beside = times(ceiling) if target.at_least else ""
            lines.append([f"`{row.key}`", str(target), target.verdict(results, row.key), beside])
    return (
        table(["workload", "target", "reached", "rate of the floor to the reference"], lines, left=4) if lines else ""
    )


def clients_table(rows: list[Row], results: Results) -> str:
    lines = []
    for row in rows:
        if not (row.clients or row.integration or row.http2):
            continue
        ours_rate, ours_cpu = results.rate(row.key, OURS), results.cpu(row.key, OURS)
        clients = sorted([OURS, *results.others(row.key)], key=lambda client: -(results.rate(row.key, client) or 0))
        for client in clients:
            rate, cpu = results.rate(row.key, client), results.cpu(row.key, client)
            beside = [times(ratio(ours_rate, rate)), figure(cpu, 1), times(ratio(cpu, ours_cpu))]
            lines.append([f"`{row.key}` {client}", figure(rate), *beside])
    return table(["workload and client", "per second", "ours to it", "us", "its CPU to ours"], lines) if lines else ""


def rounds_table(rows: list[Row], results: Results) -> str:
    lines = [
        [f"`{row.key}` {client}", ", ".join(figure(sample.rate) for sample in samples)]
        for row in rows
        for (key, client), samples in results.samples.items()
        if key == row.key
    ]
    return table(["workload and client", "rate of each round, per second"], lines, left=2)


PERCENTS = (50, 90, 99, 99.9, 99.99, 100)


def latency_table(rows: list[Row], results: Results) -> str:
    lines = []
    for row in rows:
        for client in [OURS, *results.others(row.key), FLOOR]:
            if counts := results.latencies(row.key, client):
                found = [figure(percentile(counts, percent)) for percent in PERCENTS]
                lines.append([f"`{row.key}` {client}", figure(sum(count for _, count in counts)), *found])
    header = ["workload and client, latency in us", "requests", *(f"{percent:g} %" for percent in PERCENTS[:-1]), "all"]
    return table(header, lines) if lines else ""


def memory_table(rows: list[Row], results: Results) -> str:
    lines = []
    for row in rows:
        if not row.grows:
            continue
        ours, reference = results.kilobytes(row.key, OURS), results.kilobytes(row.key, REFERENCE)
        lines.append(
            [f"`{row.key}`", row.unit, figure(ours, 1), figure(reference, 1), figure(ratio(reference, ours)) + "x"]
        )
    return table(["workload", "unit", "ours KB", "ref KB", "memory"], lines) if lines else ""


EXPLANATION = """\
Medians over the rounds. `rate` is ours divided by the reference's. `us` is the CPU time of the client process per unit
(user and system), in microseconds, and `CPU` is the reference's divided by ours. `busy` is our CPU time as a share of
the time: if it is well below 100%, our client waited for the server (or for a CPU, on a machine with other work), and
`CPU` compares the clients better than `rate`.

The floor is the same work without a client library: wrk for requests, and for downloads a blocking socket that reads
256 KiB per call, with Python's ssl over TLS. No client can be faster than the server: the last column of the targets
shows the rate that the floor reached.

For HTTP/2 the floor is h2load. Ours over HTTP/1.1 and TLS with a connection for each greenlet, and its floor, are among
the other clients.

For a library on our engine, "as it is" is the library alone, on monkey-patched gevent. The reference is the library
with patch() of the reference, and the floor is the library on connections that do nothing, which is its own cost.

Requests of locust are those of its statistics, per second from the start to the last request, and CPU is that of its
process while the users run. The CPU time of a client includes all of its threads.

Latencies are percentiles over all rounds together (rounded up by 2 % at most). At a fixed rate they count from the due
time of a request, which another process sets, so a late request delays those after it. Latencies that wrk adds for
requests that it did not make are removed.

`KB` is the growth of resident memory per unit, if all units are kept."""


def markdown(title: str, facts: dict[str, str], rows: list[Row], results: Results) -> str:
    described = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    workloads = "\n".join(f"- `{row.key}`: {row.title}" for row in rows)
    parts = [f"# {title}", described, rates_table(rows, results), EXPLANATION, memory_table(rows, results)]
    parts += [latency_table(rows, results), clients_table(rows, results), targets_table(rows, results)]
    parts += ["## The workloads", workloads, "## Every round", rounds_table(rows, results)]
    return "\n\n".join(part for part in parts if part) + "\n"
