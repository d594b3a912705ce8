"""Runs the servers: a private nginx (one worker, no access log, on two free loopback ports, one with TLS and HTTP/2),
and beside it the one for streams of events."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from measure import PAGE_BYTES
from worker import BIG_BYTES, HUGE_BYTES, LINES, MIB

# nginx serves the page from memory. From a file it takes more than twice the time, more than a fast client: the clients
# could not be distinguished.
#
# `return` answers a POST without reading its body, so /sink uses the mirror module, which reads all of it first. The
# static module then refuses the POST with a 405, which becomes the 200.
CONFIG = """
worker_processes 1; daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 12000; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000; keepalive_timeout 300s;
  client_max_body_size 0; client_body_buffer_size 256k; client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port} backlog=4096; root {dir}/root;
    listen 127.0.0.1:{tls_port} ssl http2 backlog=4096; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;
    ssl_certificate {dir}/server.pem; ssl_certificate_key {dir}/server.pem;
    location = /page {{ return 200 "{page}"; }}
    location = /sink {{ mirror /nowhere; error_page 405 =200 /taken; }}
    location = /nowhere {{ internal; return 204; }}
    location = /taken {{ internal; return 200 "ok"; }}
  }}
}}
"""

START_SECONDS = 30
STREAMS = 128  # concurrent streams that nginx allows on an HTTP/2 connection by default


@dataclass(frozen=True)
class Server:
    """Base URLs of nginx without a trailing slash, the file of the CA of its certificate, and the base URL of the
    streams of events."""

    plain: str
    tls: str
    ca_file: str
    events: str


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
            file.truncate(size)  # sparse: takes no disk space
        fill_page_cache(root / name)
    with (root / "lines").open("w") as file:
        file.writelines(
            f'{{"id": {i:06}, "text": "the quick brown fox jumps over the lazy dog"}}\n' for i in range(LINES)
        )


def fill_page_cache(path: Path) -> None:
    """Reads a file once, so the first client is not slower than the others."""
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def write_certificates(directory: Path) -> Path:
    """Creates a CA and a server certificate with P-256 keys, and returns the file of the CA."""
    ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = ca.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
    issued.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
    ca_file = directory / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    return ca_file


@contextmanager
def nginx(cpus: set[int] | None = None) -> Iterator[Server]:
    """Runs nginx during the block, on these CPUs if any are given."""
    program = find_nginx()
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as name:
        directory = Path(name)
        log = directory / "error.log"
        write_files(directory / "root")
        ca_file = write_certificates(directory)
        port, tls_port = free_ports(2)
        config = directory / "nginx.conf"
        config.write_text(CONFIG.format(dir=directory, port=port, tls_port=tls_port, page="x" * PAGE_BYTES))
        with subprocess.Popen(
            [program, "-p", str(directory), "-c", str(config), "-e", str(log)], stderr=subprocess.DEVNULL
        ) as process:
            try:
                if cpus:
                    os.sched_setaffinity(process.pid, cpus)
                wait_until_it_listens(process, tls_port, log)
                check_it_serves(http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS))
                trusting = ssl.create_default_context(cafile=str(ca_file))
                check_it_serves(
                    http.client.HTTPSConnection("127.0.0.1", tls_port, timeout=START_SECONDS, context=trusting)
                )
                with event_server(cpus) as events:
                    yield Server(f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}", str(ca_file), events)
            finally:
                process.terminate()


@contextmanager
def event_server(cpus: set[int] | None) -> Iterator[str]:
    """Runs event_server.py during the block, on these CPUs if any are given. Yields its base URL."""
    command = [sys.executable, str(Path(__file__).with_name("event_server.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if cpus:
                os.sched_setaffinity(process.pid, cpus)
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def free_ports(count: int) -> list[int]:
    """Returns distinct free ports: each stays bound until the last is found."""
    with ExitStack() as probes:
        found = []
        for _ in range(count):
            probe = probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(probe.getsockname()[1])
        return found


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), START_SECONDS).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)  # nginx does not report when it starts to listen
    raise RuntimeError(f"nginx does not listen: {log.read_text() if log.exists() else 'its log is empty'}")


def check_it_serves(connection: http.client.HTTPConnection) -> None:
    for method, target, body, size in (("GET", "/page", None, PAGE_BYTES), ("POST", "/sink", b"x" * 65536, 2)):
        connection.request(method, target, body)
        response = connection.getresponse()
        if response.status != 200 or len(response.read()) != size:
            raise RuntimeError(f"nginx answered {method} {target} with {response.status}")
    connection.close()
