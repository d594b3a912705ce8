"""The project's own small HTTP server, and a function that starts it: `__main__.py` lists its resources.

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
    """Runs the server in a separate process on a free loopback port; yields its base URL, without a trailing slash."""
    command = [sys.executable, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stdin.close()  # ends the server
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
