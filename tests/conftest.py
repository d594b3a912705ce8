"""Fixtures for all tests: a watchdog against a frozen hub, certificates, and real servers if they are installed."""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import shutil
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import gevent.socket
import pytest

from tests.support.certificates import Certificates
from tests.support.pairs import covering
from tests.support.ports import free_ports
from tests.support.requirements import missing

if TYPE_CHECKING:
    from tests.support.http2_servers import Http2Nginx, Hypercorn, Nghttpd

# A frozen hub fires no gevent.Timeout: only another thread can end such a test.
WATCHDOG_SECONDS = 120


STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keeps the terminal's stderr: pytest captures descriptor 2 during a test, and `_exit` loses captured output."""
    config.stash[STDERR] = os.dup(2)


@pytest.hookimpl(tryfirst=True)  # before `-m` deselects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as `long` every serial test, and the cells of a pairwise test that add no new pair of parameters."""
    matrices = defaultdict(list)
    for item in items:
        if item.get_closest_marker("serial"):
            item.add_marker("long")
        if isinstance(item, pytest.Function) and item.get_closest_marker("pairwise"):
            matrices[item.nodeid.partition("[")[0]].append(item)
    for cells in matrices.values():
        # Parameters need not be hashable; each is one object in all the cells that have it.
        chosen = covering([[id(value) for value in cell.callspec.params.values()] for cell in cells])
        for index, cell in enumerate(cells):
            if index not in chosen:
                cell.add_marker("long")


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is no such hook
def pytest_xdist_auto_num_workers() -> int:
    """Returns one more than there are cores, because many tests wait."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is no such hook
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distributes modules, and the tests of long ones."""
    from tests.support.scheduling import Scheduling

    return Scheduling(config, log)


def pytest_collection_finish() -> None:
    """Excludes the objects of pytest, the tests and their imports from later collections, which they slow by 100 ms."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """Excludes what a module's predecessors left behind, too: the reports of 10,000 tests slow a collection tenfold."""
    gc.collect()
    gc.freeze()


@contextmanager
def watched(config: pytest.Config, seconds: float) -> Iterator[None]:
    """Ends the process with a traceback of every thread if the block takes longer than `seconds`."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[STDERR])
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def watchdog(pytestconfig: pytest.Config) -> Iterator[None]:
    with watched(pytestconfig, WATCHDOG_SECONDS):
        yield


# Timeout of a test that waits for an event that never comes; it ends with a traceback of its own.
BOUND_SECONDS = 60

# The content of /page.
PAGE = bytes(range(256)) * 2 + b"x" * 103


@pytest.fixture
def bounded() -> Iterator[None]:
    """Ends a hanging test by gevent.Timeout while the hub still runs."""
    with gevent.Timeout(BOUND_SECONDS):
        yield


@pytest.fixture
def names_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolves every name to 127.0.0.1."""

    def here(_host: str, port: int, *_: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    monkeypatch.setattr(gevent.socket, "getaddrinfo", here)


class Nginx:
    """A private nginx on free loopback ports, one for each of `names`; `root` holds the files it serves."""

    CONFIG = """
worker_processes 1; daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; client_max_body_size 8m; client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  default_type application/octet-stream; root {dir}/root;
  {servers}
}}
"""

    SERVER = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /echo-length {{ return 200 "$content_length"; }}
    location /status/ {{ location ~ ^/status/204$ {{ return 204; }} location ~ ^/status/404$ {{ return 404 "gone"; }} }}
    location /close/ {{ keepalive_timeout 0; alias {dir}/root/; }}
    location /gzip/ {{ gzip on; gzip_min_length 1; gzip_types *; alias {dir}/root/; }}
    location /small {{ client_max_body_size 1k; return 200 "taken"; }}
  }}
"""

    names: tuple[str, ...] = ("plain",)

    def __init__(self, directory: Path) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            missing("nginx")
        self.root = directory / "root"
        self.root.mkdir()
        self.ports = dict(zip(self.names, free_ports(len(self.names)), strict=True))
        self.port = self.ports[self.names[0]]
        self.url = f"http://127.0.0.1:{self.port}"
        config = directory / "nginx.conf"
        config.write_text(self.CONFIG.format(dir=directory, servers=self.servers(directory)))
        self.process = subprocess.Popen(
            [program, "-p", str(directory), "-c", str(config), "-e", str(directory / "error.log")],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.005)
                raise RuntimeError(f"nginx ended at once: {(directory / 'error.log').read_text()}")
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
        self.process.kill()
        self.process.wait()
        raise RuntimeError("nginx does not listen")

    def servers(self, directory: Path) -> str:
        """Returns the server blocks of the configuration."""
        return self.SERVER.format(dir=directory, port=self.port)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


class TlsNginx(Nginx):
    """An nginx with one listener for each certificate and TLS configuration.

    `/facts` returns the server's data about the connection as JSON.
    """

    # Listeners with different certificates, named as in `Certificates`.
    SHOWN = (
        "valid",
        "rsa",
        "expired",
        "early",
        "elsewhere",
        "untrusted",
        "self_signed",
        "self_signed_ca",
        "self_signed_expired",
        "self_signed_ca_expired",
        "address",
        "common_name",
        "for_clients",
        "wildcard",
        "idna",
        "chained",
        "incomplete",
    )
    # Listeners with the valid certificate and special settings.
    PARTICULAR = {
        "tls12": "ssl_protocols TLSv1.2;",
        "tls13": "ssl_protocols TLSv1.3;",
        "clients": "ssl_protocols TLSv1.2 TLSv1.3; ssl_verify_client on; ssl_client_certificate {certificates.ca};",
    }
    # One listener with several names, each with its own certificate; without SNI it uses the first.
    NAMED = ("valid", "a", "b")

    names = (*SHOWN, *PARTICULAR, "named")

    SERVER = """
  server {{
    listen 127.0.0.1:{port} ssl; server_name {name}; {particular}
    ssl_certificate {pair.chain}; ssl_certificate_key {pair.key};
    location /facts {{
      return 200 '{{"version": "$ssl_protocol", "cipher": "$ssl_cipher", "name": "$ssl_server_name",
        "session": "$ssl_session_reused", "client": "$ssl_client_s_dn"}}';
    }}
    location /close/ {{ keepalive_timeout 0; alias {root}/; }}
    location /gzip/ {{ gzip on; gzip_http_version 1.0; gzip_min_length 1; gzip_types *; alias {root}/; }}
  }}
"""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        self.certificates = certificates
        super().__init__(directory)

    def servers(self, directory: Path) -> str:
        usual = "ssl_protocols TLSv1.2 TLSv1.3;"
        listeners = [(name, name, "_", usual) for name in self.SHOWN]
        listeners += [(name, "valid", "_", text) for name, text in self.PARTICULAR.items()]
        listeners += [("named", shown, f"{shown}.test", usual) for shown in self.NAMED]
        return "".join(
            self.SERVER.format(
                port=self.ports[name],
                name=server_name,
                particular=particular.format(certificates=self.certificates),
                pair=getattr(self.certificates, shown),
                root=self.root,
            )
            for name, shown, server_name, particular in listeners
        )


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    server = Nginx(tmp_path_factory.mktemp("nginx"))
    (server.root / "index.html").write_bytes(b"<h1>here</h1>\n")
    (server.root / "page").write_bytes(PAGE)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def write_files(root: Path) -> None:
    """Writes a page, a file of many lines and a large file."""
    (root / "page").write_bytes(PAGE)
    (root / "lines").write_bytes(b"".join(b"line %d\n" % i for i in range(20_000)))
    (root / "big").write_bytes(random.Random(1).randbytes(20 << 20))


@pytest.fixture(scope="session")
def tls_nginx(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[TlsNginx]:
    server = TlsNginx(tmp_path_factory.mktemp("tls-nginx"), certificates)
    write_files(server.root)
    yield server
    server.stop()


# HTTP/2 servers. Their module imports this one.


@pytest.fixture(scope="session")
def http2_nginx(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Http2Nginx]:
    from tests.support.http2_servers import Http2Nginx

    server = Http2Nginx(tmp_path_factory.mktemp("http2-nginx"), certificates)
    write_files(server.root)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def hypercorn(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Hypercorn]:
    from tests.support.http2_servers import Hypercorn

    server = Hypercorn(tmp_path_factory.mktemp("hypercorn"), certificates)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def nghttpd(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Callable[..., Nghttpd]]:
    """Returns a function that starts nghttpd with options, over TLS unless `tls=False`, once for the same options."""
    from tests.support.http2_servers import Nghttpd

    started: dict[tuple[object, ...], Nghttpd] = {}

    def start(*options: str, tls: bool = True) -> Nghttpd:
        if (options, tls) not in started:
            server = Nghttpd(tmp_path_factory.mktemp("nghttpd"), certificates if tls else None, *options)
            (server.root / "page").write_bytes(PAGE)
            started[options, tls] = server
        return started[options, tls]

    yield start
    for server in started.values():
        server.stop()
