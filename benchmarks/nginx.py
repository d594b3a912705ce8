"""A private nginx for the benchmarks: one worker, no log, on a free loopback port."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker import BIG_BYTES, HUGE_BYTES, LINES, MIB, PAGE_BYTES

# The page comes out of nginx's memory. From a file, nginx takes more than twice the time for it, which is more than a
# quick client takes: the clients could not be told apart.
#
# A `return` answers a POST without having read its body, so /sink has the mirror module, which reads all of it first;
# then the static module refuses the POST with a 405, and that becomes the 200.
CONFIG = """
worker_processes 1; daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 10000; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000; keepalive_timeout 300s;
  client_max_body_size 0; client_body_buffer_size 256k; client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port} backlog=4096; root {dir}/root;
    location = /page {{ return 200 "{page}"; }}
    location = /sink {{ mirror /nowhere; error_page 405 =200 /taken; }}
    location = /nowhere {{ internal; return 204; }}
    location = /taken {{ internal; return 200 "ok"; }}
  }}
}}
"""

START_SECONDS = 30


def find_nginx() -> str:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise SystemExit("The benchmark needs nginx as its server: apt-get install nginx-light")
    return program


def nginx_version() -> str:
    done = subprocess.run([find_nginx(), "-v"], capture_output=True, text=True, check=True)
    return done.stderr.strip().removeprefix("nginx version: ")


def write_files(root: Path) -> None:
    root.mkdir()
    (root / "sink").touch()
    for name, size in (("big", BIG_BYTES), ("huge", HUGE_BYTES)):
        with (root / name).open("wb") as file:
            file.truncate(size)  # sparse: it costs no disk
        fill_page_cache(root / name)
    with (root / "lines").open("w") as file:
        file.writelines(
            f'{{"id": {i:06}, "text": "the quick brown fox jumps over the lazy dog"}}\n' for i in range(LINES)
        )


def fill_page_cache(path: Path) -> None:
    """Reads a file once, so that the first client to ask for it is not the slow one."""
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


@contextmanager
def nginx(cpus: set[int] | None = None) -> Iterator[str]:
    """Runs nginx while the block runs, on these CPUs if they are named; gives its base URL, with no trailing slash."""
    program = find_nginx()
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as name:
        directory = Path(name)
        log = directory / "error.log"
        write_files(directory / "root")
        port = free_port()
        config = directory / "nginx.conf"
        config.write_text(CONFIG.format(dir=directory, port=port, page="x" * PAGE_BYTES))
        with subprocess.Popen(
            [program, "-p", str(directory), "-c", str(config), "-e", str(log)], stderr=subprocess.DEVNULL
        ) as process:
            try:
                if cpus:
                    os.sched_setaffinity(process.pid, cpus)
                wait_until_it_listens(process, port, log)
                check_it_serves(port)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), START_SECONDS).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)  # nginx has no way to tell that it listens, other than to listen
    raise RuntimeError(f"nginx does not listen: {log.read_text() if log.exists() else 'it says nothing'}")


def check_it_serves(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    for method, target, body, size in (("GET", "/page", None, PAGE_BYTES), ("POST", "/sink", b"x" * 65536, 2)):
        connection.request(method, target, body)
        response = connection.getresponse()
        if response.status != 200 or len(response.read()) != size:
            raise RuntimeError(f"nginx answered {method} {target} with {response.status}")
    connection.close()
