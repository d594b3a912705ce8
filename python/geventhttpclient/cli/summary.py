"""The summary of `bench`, as JSON with stable keys and as text.

url, method, protocol       the request, and "HTTP/1.1" or "HTTP/2"
loop                        "closed", or "open" with --rate
concurrency, processes      -c and --processes
target_rate_per_second      --rate, or null
interrupted                 whether SIGINT came before the end
duration_seconds            from the first request to the end, without the warm-up
requests                    responses with any status code
failed                      requests that raised an error
unfinished                  requests in flight at the end of the duration; neither answered nor failed
requests_per_second         requests by duration_seconds
body_bytes, body_bytes_per_second   of the bodies, as received
status_codes                {"200": count}
errors, error_examples      {"TimeoutError": count}, and the text of the first error of each kind
latency_us                  min, mean, p50, p75, p90, p99, p99_9, max, stdev; each null without a response
connections_opened, connections_reused
cpu_seconds                 user and system time of the client, all processes
cpu_us_per_request          cpu_seconds by requests; null without a response
histogram_us                [[latency, count]], in steps of at most 0.1 %
samples                     [[seconds since the beginning, requests by then]], ten per second
"""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import Any

from geventhttpclient._core import Histogram
from geventhttpclient.cli.load import Load
from geventhttpclient.cli.units import bytes_text, seconds_text

PERCENTILES = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}

_ORDER = ("min", "mean", *PERCENTILES, "max", "stdev")


def summarize(load: Load, setting: dict[str, Any]) -> dict[str, Any]:
    """Returns the summary of one load; `setting` has the options."""
    return {
        **setting,
        "protocol": load.protocol,
        **_totals(load.latency, load.seconds, load.body_bytes, load.cpu_seconds),
        "failed": load.failed,
        "unfinished": load.unfinished,
        "status_codes": {str(code): count for code, count in sorted(load.statuses.items())},
        "errors": dict(load.errors),
        "error_examples": load.examples,
        "connections_opened": load.opened,
        "connections_reused": load.reused,
        "histogram_us": [list(bucket) for bucket in load.latency.buckets()],
        "samples": [[round(at, 3), count] for at, count in load.samples],
    }


def merge(parts: list[dict[str, Any]], setting: dict[str, Any]) -> dict[str, Any]:
    """Returns the summary of loads that ran in parallel."""
    latency = Histogram()
    for part in parts:
        for value, count in part["histogram_us"]:
            for _ in range(count):
                latency.record(value)
    merged: dict[str, Any] = {
        **setting,
        "protocol": ", ".join(sorted({part["protocol"] for part in parts if part["protocol"]})),
        **_totals(
            latency,
            max((part["duration_seconds"] for part in parts), default=0.0),
            sum(part["body_bytes"] for part in parts),
            sum(part["cpu_seconds"] for part in parts),
        ),
    }
    for name in ("failed", "unfinished", "connections_opened", "connections_reused"):
        merged[name] = sum(part[name] for part in parts)
    for name in ("status_codes", "errors"):
        total: Counter[str] = Counter()
        for part in parts:
            total.update(part[name])
        merged[name] = dict(sorted(total.items()))
    merged["error_examples"] = {kind: text for part in parts for kind, text in part["error_examples"].items()}
    merged["histogram_us"] = [list(bucket) for bucket in latency.buckets()]
    merged["samples"] = _added([part["samples"] for part in parts])
    return merged


def _totals(latency: Histogram, seconds: float, body_bytes: int, cpu_seconds: float) -> dict[str, Any]:
    count = latency.count
    per_second = 1 / seconds if seconds else 0.0
    return {
        "duration_seconds": round(seconds, 6),
        "requests": count,
        "requests_per_second": round(count * per_second, 3),
        "body_bytes": body_bytes,
        "body_bytes_per_second": round(body_bytes * per_second, 3),
        "latency_us": {
            "min": latency.min if count else None,
            "mean": round(latency.mean, 3) if count else None,
            **{name: latency.percentile(percentile) if count else None for name, percentile in PERCENTILES.items()},
            "max": latency.max if count else None,
            "stdev": round(latency.stdev, 3) if count else None,
        },
        "cpu_seconds": round(cpu_seconds, 6),
        "cpu_us_per_request": round(cpu_seconds * 1e6 / count, 3) if count else None,
    }


def _added(series: list[list[list[float]]]) -> list[list[float]]:
    """Adds up the samples of several processes. They are taken at the same times, except for the last ones."""
    added = []
    last = [0.0] * len(series)
    for row in zip_longest(*series):
        last = [before if sample is None else sample[1] for sample, before in zip(row, last, strict=True)]
        added.append([max(sample[0] for sample in row if sample is not None), sum(last)])
    return added


def lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the summary as labels and texts for people."""
    shape = f"{summary['loop']} loop, {_count(summary['concurrency'], 'greenlet')}"
    if summary["target_rate_per_second"] is not None:
        shape += f", {summary['target_rate_per_second']:,g} requests/s due"
    if summary["processes"] > 1:
        shape += f", {summary['processes']} processes"
    if summary["protocol"]:
        shape += f", {summary['protocol']}"
    seconds, count = summary["duration_seconds"], summary["requests"]
    early = ", interrupted" if summary["interrupted"] else ""
    found = [
        (summary["method"], summary["url"]),
        ("", shape),
        ("requests", f"{count:,} in {seconds:,.2f} s: {summary['requests_per_second']:,.0f} requests/s{early}"),
        (
            "bodies",
            f"{bytes_text(summary['body_bytes'])}: {bytes_text(summary['body_bytes_per_second'])}/s",
        ),
        *((f"status {code}", f"{times:,}") for code, times in summary["status_codes"].items()),
        *((kind, f"{times:,}: {summary['error_examples'].get(kind, '')}") for kind, times in summary["errors"].items()),
    ]
    if summary["unfinished"]:
        found.append(("unfinished", f"{summary['unfinished']:,}"))
    opened, reused = summary["connections_opened"], summary["connections_reused"]
    found.append(("connections", f"{opened:,} opened, {reused:,} times reused"))
    if count:
        cpu = summary["cpu_seconds"]
        share = f" ({cpu / seconds:.0%} of a core)" if seconds else ""
        found.append(("client CPU", f"{summary['cpu_us_per_request']:,.1f} us per request{share}"))
        found.append(("", ""))
        latency = summary["latency_us"]
        found.append(("latency", "".join(f"{name.replace('_', '.'):>9}" for name in _ORDER)))
        found.append(("", "".join(f"{seconds_text(latency[name] / 1e6):>9}" for name in _ORDER)))
    return found


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"
