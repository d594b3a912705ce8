"""`bench`: runs the load in one process or several, with a live display, and prints the summary."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import gevent
from gevent import subprocess

from geventhttpclient import _core
from geventhttpclient.auth import resolve_auth
from geventhttpclient.cli import body, heads, summary, terminal
from geventhttpclient.cli.failure import FAILED, INTERRUPTED, OK, Failure
from geventhttpclient.cli.load import Load
from geventhttpclient.cli.options import check_request, client_options, credentials, method_of, usage_failure
from geventhttpclient.cli.output import Output
from geventhttpclient.cli.printable import encoded, printable
from geventhttpclient.cli.tasks import ticking
from geventhttpclient.cli.units import seconds_text
from geventhttpclient.client import HTTPClient
from geventhttpclient.header import Headers

if TYPE_CHECKING:
    from rich.console import Console

# Seconds between two updates of the live display, and the number of updates over which its rate is averaged.
_TICK = 0.25
_TICKS = 4

# Seconds that the processes have to report their results after they are asked to end.
_GRACE = 5.0


def run(options: argparse.Namespace) -> int:
    """Runs the command and returns its exit status: 1 if a request failed."""
    if options.plot is not None:
        from geventhttpclient.cli import plotting

        plotting.check(options.plot)
    found = _run_processes(options) if options.processes > 1 else _run_single(options)
    if options.json:
        _write(json.dumps(found, indent=2 if terminal.is_terminal(sys.stdout) else None) + "\n")
    else:
        _print(found, options.color)
    if options.plot is not None:
        from geventhttpclient.cli import plotting

        plotting.draw(found, options.plot)
    if found["interrupted"]:
        return INTERRUPTED
    bad = options.fail and any(int(code) >= 400 for code in found["status_codes"])
    return FAILED if found["failed"] or bad or not found["requests"] else OK


def _setting(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "url": _core.redact(str(options.url)),
        "method": method_of(options),
        "loop": "closed" if options.rate is None else "open",
        "concurrency": options.concurrency,
        "processes": options.processes,
        "target_rate_per_second": options.rate,
        "interrupted": False,
    }


# ------------------------------------------------------------------------------------------------------- one process


def _run_single(options: argparse.Namespace) -> dict[str, Any]:
    shown = terminal.display(options.progress, options.color)
    setting = _setting(options)
    client, request = _prepare(options)
    load = Load(client, request, options.concurrency, options.rate)
    with client:
        try:
            if options.warmup is not None:
                load.run(None, options.warmup)
                load = Load(client, request, options.concurrency, options.rate)
            with _live(shown, load, options):
                load.run(options.requests, options.duration)
        except KeyboardInterrupt:
            _ignore_interrupts()
            setting["interrupted"] = True
    return summary.summarize(load, setting)


def _prepare(options: argparse.Namespace) -> tuple[HTTPClient, tuple[Any, ...]]:
    """Returns the client and the arguments of its `request`, checked before the first request is sent."""
    url = options.url
    headers = Headers()
    for name, value in options.headers:
        headers.add(name, value)
    user = credentials(options, url)
    if user is not None:
        headers.setdefault("Authorization", resolve_auth(user))
    content: Any = b""
    if options.data is not None:
        content = body.data_body(options.data, streams=False)
        headers.setdefault("Content-Type", body.FORM)
    try:
        client = HTTPClient.from_url(url, concurrency=options.concurrency, **client_options(options))
        request = (method_of(options), url.quoted_uri or "/", content, headers)
        check_request(client, options, url, method_of(options), headers, content)
    except (ValueError, TypeError, OSError) as error:
        raise usage_failure(error) from None
    return client, request


def _ignore_interrupts() -> None:
    """Ignores further interrupts: the rest of the work is short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# ------------------------------------------------------------------------------------------------- several processes


def _run_processes(options: argparse.Namespace) -> dict[str, Any]:
    """Runs this command in several processes, each with its share of the load and its summary as JSON, and merges
    the summaries."""
    setting = _setting(options)
    children = []
    for number in range(options.processes):
        share = ["--processes", "1", "--json", "--plot=", "--no-progress"]
        share += ["-c", str(_share(options.concurrency, number, options))]
        if options.requests is not None:
            share += ["-n", str(_share(options.requests, number, options))]
        if options.rate is not None:
            share += ["--rate", repr(options.rate / options.processes)]
        given = [word for word in options.given if word != "--"]  # else the options after it would be arguments
        command = [sys.executable, "-m", "geventhttpclient", *given, *share]
        children.append(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
    readers = [gevent.spawn(child.communicate) for child in children]
    try:
        with _waiting(terminal.display(options.progress, options.color), options):
            gevent.joinall(readers)
    except KeyboardInterrupt:
        _ignore_interrupts()
        setting["interrupted"] = True
        gevent.joinall(readers, timeout=_GRACE / 10)  # a terminal sends the signal to them too
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        gevent.joinall(readers, timeout=_GRACE)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
    parts = []
    for child, reader in zip(children, readers, strict=True):
        out, err = reader.get() if reader.successful() else (b"", b"")
        try:
            parts.append(json.loads(out))
        except ValueError:
            if not setting["interrupted"]:
                said = err.decode(errors="replace").strip().removeprefix("geventhttpclient: ")
                said = said or f"a process ended with status {child.returncode}"
                raise Failure(said, child.returncode or FAILED) from None
    return summary.merge(parts, setting)


def _share(whole: int, number: int, options: argparse.Namespace) -> int:
    """Returns the share of one process, of a number that need not be a multiple of the processes."""
    each, left = divmod(whole, int(options.processes))
    return each + (number < left)


# ------------------------------------------------------------------------------------------------------------ output


def _write(text: str) -> None:
    with Output(None) as output:
        output.write(encoded(text, terminal.encoding_of(sys.stdout)))


def _print(found: dict[str, Any], color: str) -> None:
    rows = [(printable(label), printable(text)) for label, text in summary.lines(found)]
    width = max(len(label) for label, _ in rows) + 2
    console = terminal.colors(color, sys.stdout)
    if console is None:
        _write("".join(f"{label:<{width}}{text}".rstrip() + "\n" for label, text in rows))
        return
    from rich.text import Text

    shown = Text()
    for label, text in rows:
        bad = label in found["errors"] or label == "unfinished" or label.startswith(("status 4", "status 5"))
        style = "bold red" if bad else "bold cyan"
        shown.append(f"{label:<{width}}", style).append(text + "\n")
    _write(heads.rendered(shown, console))


@contextmanager
def _live(console: Console | None, load: Load, options: argparse.Namespace) -> Iterator[None]:
    """Shows a display that a greenlet updates while the load runs, and that is removed at the end."""
    with _ticking(console, lambda recent: _picture(load, options, recent)):
        yield


@contextmanager
def _waiting(console: Console | None, options: argparse.Namespace) -> Iterator[None]:
    begin = perf_counter()
    with _ticking(console, lambda _: f"{perf_counter() - begin:6.1f} s  {options.processes} processes running"):
        yield


@contextmanager
def _ticking(console: Console | None, picture: Any) -> Iterator[None]:
    if console is None:
        yield
        return
    from rich.live import Live
    from rich.text import Text

    recent: deque[tuple[float, int]] = deque(maxlen=_TICKS)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def tick() -> None:
            live.update(Text.from_ansi(picture(recent)), refresh=True)

        with ticking(tick, _TICK):
            yield


def _picture(load: Load, options: argparse.Namespace, recent: deque[tuple[float, int]]) -> str:
    """Returns the figures so far, in two lines. The rate is that of the last second."""
    now, done = load.elapsed, load.responses
    before, done_before = recent[0] if recent else (0.0, 0)
    recent.append((now, done))
    rate = (done - done_before) / (now - before) if now > before else 0.0
    parts = []
    if options.duration is not None:
        parts.append(now / options.duration)
    if options.requests is not None:
        parts.append((done + load.failed) / options.requests)
    part = min(1.0, max(parts))
    filled = round(part * 20)
    first = f"{'━' * filled}{'─' * (20 - filled)} {part:4.0%}  {now:.1f} s  {done:,} requests  {rate:,.0f}/s"
    if load.failed:
        first += f"  {load.failed:,} errors"
    names = (("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("max", 100.0))
    shown = [f"{name} {seconds_text(load.latency.percentile(p) / 1e6)}" for name, p in names] if done else []
    return f"{first}\nlatency  {'  '.join(shown)}"
