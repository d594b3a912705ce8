"""The project's own small HTTP server, and how a test starts one: see `__main__.py` for what it serves.

with running() as url:
    HTTPClient.from_url(url).get("/page")
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STOP_SECONDS = 10


@contextmanager
def running() -> Iterator[str]:
    """Runs the server as a process of its own on a free loopback port; gives its base URL, without a trailing slash."""
    command = [sys.executable, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stdin.close()  # the server's sign to end
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
