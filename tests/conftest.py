"""What every test gets: a watchdog against a frozen hub, scripted peers, and a real nginx where there is one."""

from __future__ import annotations

import faulthandler
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import gevent
import pytest

# A frozen hub fires no gevent.Timeout: only a thread outside of it can end such a test.
WATCHDOG_SECONDS = 120


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    faulthandler.dump_traceback_later(WATCHDOG_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


# A test that waits for what never comes ends here, with a traceback of its own.
BOUND_SECONDS = 20


@pytest.fixture
def bounded() -> Iterator[None]:
    """Ends a hanging test by gevent.Timeout, while the hub still turns."""
    with gevent.Timeout(BOUND_SECONDS):
        yield


def missing(what: str) -> NoReturn:
    """Skips for want of a real server; in CI, where it must be there, fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed, and CI must not skip what needs it")
    pytest.skip(f"{what} is not installed")


class Nginx:
    """A private nginx on a free loopback port; `root` holds the files it serves."""

    CONFIG = """
worker_processes 1; daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; client_max_body_size 8m; client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port} backlog=4096; root {dir}/root;
    location /echo-length {{ return 200 "$content_length"; }}
    location /status/ {{ location ~ ^/status/204$ {{ return 204; }} location ~ ^/status/404$ {{ return 404 "gone"; }} }}
    location /close/ {{ keepalive_timeout 0; alias {dir}/root/; }}
    location /gzip/ {{ gzip on; gzip_min_length 1; gzip_types *; alias {dir}/root/; }}
    location /small {{ client_max_body_size 1k; return 200 "taken"; }}
  }}
}}
"""

    def __init__(self, directory: Path) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            missing("nginx")
        self.root = directory / "root"
        self.root.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        config = directory / "nginx.conf"
        config.write_text(self.CONFIG.format(dir=directory, port=self.port))
        self.process = subprocess.Popen(
            [program, "-p", str(directory), "-c", str(config), "-e", str(directory / "error.log")],
            stderr=subprocess.DEVNULL,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        for _ in range(2000):
            if self.process.poll() is not None:
                raise RuntimeError(f"nginx ended at once: {(directory / 'error.log').read_text()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except ConnectionRefusedError:
                os.sched_yield()
        raise RuntimeError("nginx does not listen")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    server = Nginx(tmp_path_factory.mktemp("nginx"))
    (server.root / "index.html").write_bytes(b"<h1>here</h1>\n")
    (server.root / "page").write_bytes(bytes(range(256)) * 2 + b"x" * 103)
    yield server
    server.stop()
