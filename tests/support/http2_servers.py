"""Real HTTP/2 servers on loopback ports: nginx, nghttpd, and hypercorn with http2_app.py."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.conftest import Nginx
from tests.support.certificates import Certificates
from tests.support.ports import free_port, free_ports
from tests.support.proxies import find
from tests.support.requirements import missing

ROOT = Path(__file__).parents[2]

# Most time that a server may take to listen, in steps of 10 ms.
STEPS = 3000


class Http2Nginx(Nginx):
    """An nginx with listeners of different settings.

    `/facts` returns its data about the request and the connection as JSON.
    """

    LISTENERS = {
        "tls": ("ssl http2", ""),
        "narrow": ("ssl http2", "http2_max_concurrent_streams 2;"),
        # It sends GOAWAY after that number of requests.
        "short": ("ssl http2", "keepalive_requests 10;"),
        "clear": ("http2", ""),
        "old": ("ssl", ""),
    }

    names = tuple(LISTENERS)

    SERVER = """
  server {{
    listen 127.0.0.1:{port} {how} backlog=4096; {particular}
    ssl_certificate {pair.chain}; ssl_certificate_key {pair.key};
    location /facts {{
      return 200 '{{"protocol": "$server_protocol", "connection": "$connection", "method": "$request_method",
        "target": "$request_uri", "host": "$http_host", "scheme": "$scheme", "length": "$content_length"}}';
    }}
    location /status/ {{ location ~ ^/status/204$ {{ return 204; }} location ~ ^/status/404$ {{ return 404 "gone"; }} }}
    location /gzip/ {{ gzip on; gzip_min_length 1; gzip_types *; alias {root}/; }}
    location /trailers/ {{ add_trailer X-Sum "five"; alias {root}/; }}
    location /small {{ client_max_body_size 1k; return 200 "taken"; }}
    location /passed-on {{ client_max_body_size 0; proxy_pass http://127.0.0.1:{origin}/length; }}
  }}
"""

    # Where uploads are passed on to, for an nginx that answers by itself reads none.
    ORIGIN = """
  server {{ listen 127.0.0.1:{port}; client_max_body_size 0; location /length {{ return 200 "$content_length"; }} }}
"""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        self.certificates = certificates
        super().__init__(directory)

    def servers(self, directory: Path) -> str:
        origin = free_port()
        return self.ORIGIN.format(port=origin) + "".join(
            self.SERVER.format(
                port=self.ports[name],
                how=how,
                particular=particular,
                pair=self.certificates.valid,
                root=self.root,
                origin=origin,
            )
            for name, (how, particular) in self.LISTENERS.items()
        )


class Server:
    """A program that runs until `stop()`. Its ports accept connections after construction; `output` is its output."""

    def __init__(self, command: Sequence[str], directory: Path, ports: Sequence[int]) -> None:
        self._output = directory / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        waiting = list(ports)
        for _ in range(STEPS):
            with suppress(ConnectionRefusedError):
                while waiting:
                    socket.create_connection(("127.0.0.1", waiting[0]), 1).close()
                    waiting.pop(0)
                return
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.01)
                raise RuntimeError(f"{command[0]} ended at once: {self.output}")
        self.stop()
        raise RuntimeError(f"{command[0]} does not listen: {self.output}")

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Nghttpd(Server):
    """nghttpd of nghttp2, in the clear unless there are certificates; `root` holds the files it serves.

    Further options are those of its command line; without any, it echoes uploads.
    """

    def __init__(self, directory: Path, certificates: Certificates | None, *options: str) -> None:
        self.root = directory / "root"
        self.root.mkdir()
        self.port = free_port()
        command = [find("nghttpd"), "--address=127.0.0.1", f"--htdocs={self.root}", *(options or ["--echo-upload"])]
        if certificates is None:
            command += ["--no-tls", str(self.port)]
        else:
            command += [str(self.port), str(certificates.valid.key), str(certificates.valid.chain)]
        super().__init__(command, directory, [self.port])


class Hypercorn(Server):
    """hypercorn with the application of http2_app.py, over TLS on `port` and in plain text on `clear`."""

    CONFIG = """
bind = ["127.0.0.1:{port}"]
insecure_bind = ["127.0.0.1:{clear}"]
certfile = "{pair.chain}"
keyfile = "{pair.key}"
workers = 0
graceful_timeout = 0
h2_max_concurrent_streams = 100
keep_alive_timeout = 60
keep_alive_max_requests = 1_000_000_000
"""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        if importlib.util.find_spec("hypercorn") is None:
            missing("hypercorn")
        self.port, self.clear = free_ports(2)
        config = directory / "hypercorn.toml"
        config.write_text(self.CONFIG.format(port=self.port, clear=self.clear, pair=certificates.valid))
        command = [
            sys.executable,
            "-m",
            "hypercorn",
            "--config",
            str(config),
            "tests.support.http2_app:application",
        ]
        super().__init__(command, directory, [self.port, self.clear])
