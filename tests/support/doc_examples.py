"""The documentation as programs: the fenced blocks of a page, and how they are run.

- `python`: all of a page are one program, in their order, run by an interpreter of its own in a directory of its own.
  The output of `print` has to equal the comment behind it, up to an explanation set apart by a comma, a colon, a
  semicolon or a bracket; `...` matches anything.
- `python` whose first line is a comment that names a file, `# locustfile.py`: that file, for a command to run.
- `console`: commands behind `$ `, run by a shell, and what they print; `...` matches anything.
- `sh`: commands that put something in place (`make`, `pip install` ...): looked at, and not carried out.
- `text`: nothing to be run. Behind "prints" and a blank line it is what the program has printed.

A server that a page talks to has a fixed address there. `Servers` starts a server for each address, on a port of its
own, and `Servers.put` replaces the address by that port.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gevent import socket, subprocess
from gevent.server import StreamServer

from tests.server import running
from tests.server.__main__ import Connection
from tests.support.certificates import Certificates
from tests.support.docker_daemon import Daemon
from tests.support.http2_servers import Hypercorn
from tests.support.peer import Peer
from tests.support.ports import free_port
from tests.support.proxies import microsocks, tinyproxy
from tests.support.websocket_peer import speak_websocket

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 100

FENCE = re.compile(r"^(?P<ticks>```+|:::+)(?P<word>[^\n`]*)\n(?P<text>.*?)^(?P=ticks)$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# ([\w.]+\.py)\n")
PROMISE = re.compile(r"^\s*print\(.*\)  # (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Text between two fences; `line` is the number of its first line, counted from 1."""

    word: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """Name of the file that the block is, if it is one."""
        found = FILE.match(self.text)
        return found[1] if found and self.word == "python" else None


class Page:
    """A page of Markdown."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()

    @cached_property
    def blocks(self) -> list[Block]:
        return [
            Block(found["word"].strip(), found["text"], self.text.count("\n", 0, found.start("text")) + 1)
            for found in FENCE.finditer(self.text)
        ]

    @property
    def program(self) -> str:
        """Its Python code except for files; each line has the number that it has in the page."""
        lines = [""] * (self.text.count("\n") + 1)
        for block in self.blocks:
            if block.word == "python" and block.file is None:
                code = block.text.splitlines()
                lines[block.line - 1 : block.line - 1 + len(code)] = code
        return "\n".join(lines).rstrip() + "\n"

    @property
    def printed(self) -> list[str]:
        """Output of its program, as the page shows it in blocks of their own."""
        return re.findall(r"prints:?\n\n```text\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)

    @property
    def files(self) -> dict[str, str]:
        return {block.file: block.text for block in self.blocks if block.file is not None}

    @property
    def dialogues(self) -> list[list[tuple[str, str]]]:
        """The commands of each `console` block with their expected output; "" if the page does not show it."""
        return [commands(block.text) for block in self.blocks if block.word == "console"]


def commands(text: str) -> list[tuple[str, str]]:
    """Returns the commands of a dialogue. After a backslash, the next line, behind `> ` or blanks, continues one."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (found[-1][0] + "\n" + line.removeprefix("> "), "")
        elif line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            assert found, f"a console block begins with a command behind '$ ', not with {line!r}"
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


def promises(program: str) -> list[str]:
    """Returns the output that the comments of a program promise, in order."""
    return [text.strip() for text in PROMISE.findall(program)]


def keeps(printed: str, promise: str) -> bool:
    """Returns True if a printed line equals a comment: all of it, or up to an explanation."""
    pattern = ".*".join(re.escape(part) for part in promise.split("..."))
    if re.fullmatch(pattern, printed):
        return True
    ends = [found.start() for found in re.finditer(r"[,:;] | \(", promise)]
    return any(re.fullmatch(".*".join(re.escape(part) for part in promise[:end].split("...")), printed) for end in ends)


def says(printed: str, shown: str) -> bool:
    """Returns True if the output of a command is the one that the page shows."""
    parts = [re.escape(part) for part in shown.strip("\n").split("...")]
    return re.fullmatch(".*?".join(parts), printed.strip("\n"), re.DOTALL) is not None


class Servers:
    """Servers for the addresses that pages name, each started when a page names it."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        self.directory = directory
        self.certificates = certificates
        self.stack = ExitStack()
        self.starters: dict[int, Callable[[], int]] = {
            8080: self.plain,
            8443: self.tls,
            8444: lambda: self.http2.port,
            8445: lambda: self.http2.clear,
            3128: lambda: self.stack.enter_context(closing(tinyproxy(self.new("tinyproxy")))).port,
            1080: lambda: self.stack.enter_context(closing(microsocks(self.new("microsocks"), "me", "secret"))).port,
            8765: lambda: self.stack.enter_context(Peer(speak_websocket)).port,
            # No server: the program on the page listens there itself, like locust's master.
            5557: free_port,
        }
        self.ports: dict[int, int] = {}

    def new(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir()
        return path

    def close(self) -> None:
        self.stack.close()

    def plain(self) -> int:
        return int(self.stack.enter_context(running()).rpartition(":")[2])

    def listening(self, where: object, **options: object) -> StreamServer:
        """Starts the server of `tests.server` in this process."""
        server = StreamServer(where, serve, **options)
        server.start()
        self.stack.callback(server.stop)
        return server

    def tls(self) -> int:
        context = self.certificates.valid.server()
        port: int = self.listening(("127.0.0.1", 0), ssl_context=context).server_port
        return port

    @cached_property
    def http2(self) -> Hypercorn:
        server = Hypercorn(self.new("hypercorn"), self.certificates)
        self.stack.callback(server.stop)
        return server

    def put(self, text: str) -> str:
        """Returns the text with the ports of running servers in place of those of the page."""
        for written, start in self.starters.items():
            if re.search(rf"\b{written}\b", text):
                if written not in self.ports:
                    self.ports[written] = start()
                text = re.sub(rf"\b{written}\b", str(self.ports[written]), text)
        return text

    def furnish(self, directory: Path, page: Page) -> None:
        """Creates the files that the code of pages opens in a directory."""
        (directory / "README.md").write_text("# A file to be sent\n" * 40)
        for name, file in (
            ("ca.pem", self.certificates.ca),
            ("client.pem", self.certificates.client.chain),
            ("client.key", self.certificates.client.key),
        ):
            (directory / name).write_bytes(file.read_bytes())
        if "docker.sock" in "".join(command for dialogue in page.dialogues for command, _ in dialogue):
            self.stack.enter_context(Daemon(directory))
        if "app.sock" in page.text:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(directory / "app.sock"))
            listener.listen()
            self.listening(listener)
        # The commands that a user has: these of this interpreter.
        programs = directory / "bin"
        programs.mkdir()
        for name in ("python", "geventhttpclient", "locust", "pytest"):
            module = "" if name == "python" else f" -m {name}"
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{module} "$@"\n')
            program.chmod(0o755)


def serve(sock: socket.socket, _address: object) -> None:
    """Serves a connection of any kind like the server of `tests.server`."""
    with suppress(OSError):
        Connection(sock).serve()


@contextmanager
def closing(proxy: object) -> Iterator[object]:
    try:
        yield proxy
    finally:
        proxy.close()


def run(command: list[str], directory: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Returns exit code, output and errors of a program, which is ended with all processes that it started."""
    with (directory / "output").open("w+") as output, (directory / "errors").open("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code = process.wait(TIMEOUT_SECONDS)
        finally:
            # Its children, too, should they still be there.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        errors.seek(0)
        return code, output.read(), errors.read()
