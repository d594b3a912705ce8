"""docker-py with the stub daemon of tests/support/docker_daemon.py: prints the outcome of each case as JSON.

    python -m tests.programs docking.run MODE PATH TIMEOUT

MODE is `theirs` (http.client's own classes, blocking), `patched` or `monkey` (this package's classes instead of those
of http.client, without and with gevent.monkey), or `adapter` (that for requests). docker-py is imported after the
classes are replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.programs.outcomes import print_outcomes


def run(mode: str, path: str, timeout: str) -> None:
    """Prints the outcome of all cases."""
    if mode == "monkey":
        import gevent.monkey

        gevent.monkey.patch_all()
    if mode in ("patched", "monkey"):
        from geventhttpclient import httplib

        httplib.patch()
    import docker

    client = docker.APIClient(base_url=f"unix://{path}", version="1.44", timeout=float(timeout))
    if mode == "adapter":
        from geventhttpclient.adapters.requests import Adapter

        client.mount("http+docker://", Adapter(uds=path))
    print_outcomes({name: partial(case, client) for name, case in CASES.items()})
    client.close()


def _events(client: Any) -> Any:
    events = []
    for event in client.events(decode=True):
        events.append(event["Action"])
        if len(events) == 1:
            # The next ones are sent after this one was delivered.
            client.get(client._url("/seen"))
    return events


def _raw_events(client: Any) -> Any:
    client.get(client._url("/seen"))
    return b"".join(client.events()).count(b"\n")


def _attach_socket(client: Any, container: str) -> Any:
    sock = client.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    received = b""
    wanted = 6 if container == "tty" else 2 * 11
    while len(received) < wanted:
        received += sock._sock.recv(4096)
    is_open = sock.fileno() >= 0
    sock._sock.sendall(b"hello\nbye\n")
    while data := sock.read(4096):
        received += data
    sock.close()
    return [received.decode("latin-1"), is_open]


def _lines(stream: Any) -> list[str]:
    return [piece.decode() for piece in stream]


def _exec(client: Any) -> Any:
    created = client.exec_create("plain", ["ls"])
    return _lines(client.exec_start(created["Id"], stream=True))


def _demuxed(client: Any) -> Any:
    return [
        [None if part is None else part.decode() for part in pair]
        for pair in client.attach("plain", stream=True, demux=True)
    ]


CASES: dict[str, Callable[[Any], Any]] = {
    "version": lambda client: client.version()["Version"],
    "events": _events,
    "raw events": _raw_events,
    "pull": lambda client: [step["id"] for step in client.pull("image", "tag", stream=True, decode=True)],
    "pull whole": lambda client: len(client.pull("image", "tag")),
    "logs": lambda client: client.logs("plain").decode(),
    "logs stream": lambda client: _lines(client.logs("plain", stream=True)),
    "logs stream tty": lambda client: "".join(client.logs("tty", stream=True)),
    "attach stream": lambda client: _lines(client.attach("plain", stream=True)),
    "attach": lambda client: client.attach("plain").decode(),
    "attach demux": _demuxed,
    "attach socket": lambda client: _attach_socket(client, "plain"),
    "attach socket tty": lambda client: _attach_socket(client, "tty"),
    "exec stream": _exec,
    "not found": lambda client: client.get(client._url("/nothing")).status_code,
}
