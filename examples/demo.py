"""Many small requests and one large download in under a second, and a table of the results.

    make demo

Ten greenlets share ten connections to a local server; then one body is streamed to disk in constant memory.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import gevent

from geventhttpclient import HTTPClient, __version__

SERVER = Path(__file__).parent.parent / "tests" / "server"
GREENLETS = 10
SECONDS = 0.3
DOWNLOAD_BYTES = 64 * 1024 * 1024
CHUNK = 64 * 1024
TIMEOUT_SECONDS = 30
MIB = 1024 * 1024


@contextmanager
def local_server() -> Iterator[str]:
    """Starts the project's own server as a process and yields its URL. It ends when its standard input closes."""
    command = [sys.executable, str(SERVER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.stdin.close()


class Progress:
    """A progress line on a terminal; nothing if the output is not a terminal."""

    WIDTH = 40
    EVERY_SECONDS = 0.03

    def __init__(self) -> None:
        self.visible = sys.stdout.isatty()
        self.shown_at = 0.0

    def show(self, what: str, fraction: float) -> None:
        now = time.perf_counter()
        if self.visible and now - self.shown_at >= self.EVERY_SECONDS:
            self.shown_at = now
            bar = ("#" * round(min(fraction, 1) * self.WIDTH)).ljust(self.WIDTH, ".")
            print(f"\r\033[K{what:<12}[{bar}]", end="", flush=True)

    def clear(self) -> None:
        if self.visible:
            print("\r\033[K", end="", flush=True)


def small_requests(http: HTTPClient, progress: Progress) -> tuple[list[float], float]:
    """Sends GET requests from ten greenlets; returns the latency of each, and the total time, in seconds."""
    latencies: list[float] = []
    begin = time.perf_counter()

    def loop() -> None:
        now = time.perf_counter()
        while now < begin + SECONDS:
            started = now
            response = http.get("/page")
            if response.status_code != 200 or len(response.read()) != 615:
                raise RuntimeError(f"not the page: {response}")
            now = time.perf_counter()
            latencies.append(now - started)
            progress.show("requests", (now - begin) / SECONDS)

    gevent.joinall([gevent.spawn(loop) for _ in range(GREENLETS)], raise_error=True)
    return latencies, time.perf_counter() - begin


def download(http: HTTPClient, path: Path, progress: Progress) -> float:
    """Streams the large body to a file; returns the time in seconds."""
    begin = time.perf_counter()
    size = 0
    with http.get(f"/bytes/{DOWNLOAD_BYTES}") as response, path.open("wb") as file:
        while chunk := response.read(CHUNK):
            size += file.write(chunk)
            progress.show("download", size / DOWNLOAD_BYTES)
    if size != DOWNLOAD_BYTES:
        raise RuntimeError(f"{size} bytes instead of {DOWNLOAD_BYTES}")
    return time.perf_counter() - begin


def peak_memory() -> int:
    """Returns the peak resident memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, ru_maxrss includes the parent's memory before exec
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def percentile(ordered: list[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def table(rows: list[tuple[str, str, str]]) -> str:
    """Returns the rows as text: names left-aligned, figures right-aligned, then units."""
    name_width = max(len(name) for name, _, _ in rows)
    figure_width = max(len(figure) for _, figure, _ in rows)
    return "\n".join(
        f"  {name:<{name_width}}  {figure:>{figure_width}}  {unit}".rstrip() for name, figure, unit in rows
    )


def main() -> None:
    progress = Progress()
    with local_server() as url, closing(HTTPClient.from_url(url, concurrency=GREENLETS)) as http:
        with gevent.Timeout(TIMEOUT_SECONDS):
            latencies, seconds = small_requests(http, progress)
            memory = peak_memory()
            with tempfile.TemporaryDirectory() as directory:
                download_seconds = download(http, Path(directory) / "body", progress)
            growth = peak_memory() - memory
        progress.clear()

    latencies.sort()
    print(f"geventhttpclient {__version__}, gevent {gevent.__version__}, Python {platform.python_version()}")
    print(f"{GREENLETS} greenlets on {GREENLETS} connections; server and client share this machine\n")
    print(
        table(
            [
                ("requests", f"{len(latencies):,}", ""),
                ("rate", f"{len(latencies) / seconds:,.0f}", "requests/s"),
                *((f"p{p}", f"{percentile(latencies, p) * 1000:.2f}", "ms") for p in (50, 90, 99)),
                ("max", f"{latencies[-1] * 1000:.2f}", "ms"),
                ("body bytes", f"{len(latencies) * 615:,}", ""),
                ("", "", ""),
                ("downloaded", f"{DOWNLOAD_BYTES:,}", "bytes to disk"),
                ("rate", f"{DOWNLOAD_BYTES / MIB / download_seconds:,.0f}", "MiB/s"),
                ("memory", f"{growth / MIB:+.1f}", "MiB at the peak of the download"),
            ]
        )
    )


if __name__ == "__main__":
    main()
