"""Runs the command as users do: as a process, with pipes or a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
from gevent import subprocess
from gevent.os import make_nonblocking, nb_read

SECONDS = 15


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen:
    """The running command, with stdout and stderr as pipes unless said otherwise. SIGINT reaches it whatever became of
    it in the shell that started the tests."""
    environment = dict(options.pop("env", None) or os.environ)
    # Without a buffer, no output could be left in one.
    environment.pop("PYTHONUNBUFFERED", None)
    options["env"] = environment
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [sys.executable, "-W", "error", "-m", "geventhttpclient", *map(str, arguments)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # else it might be ignored in the child
    try:
        return subprocess.Popen(command, **given)
    finally:
        signal.signal(signal.SIGINT, before)


def run(*arguments: str | Path, given: bytes | None = None, **options: object) -> tuple[int, bytes, str]:
    """Returns exit status, stdout, and stderr as text; `given` is its stdin."""
    if given is not None:
        options["stdin"] = subprocess.PIPE
    process = start(*arguments, **options)
    try:
        with gevent.Timeout(SECONDS):
            out, err = process.communicate(given)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode, out or b"", (err or b"").decode()


def interrupt(process: subprocess.Popen) -> tuple[int, bytes, str]:
    """Returns the same after SIGINT."""
    process.send_signal(signal.SIGINT)
    try:
        with gevent.Timeout(SECONDS):
            out, err = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode, out or b"", (err or b"").decode()


def on_terminal(
    *arguments: str | Path, env: dict[str, str] | None = None, then: Callable[[subprocess.Popen], None] | None = None
) -> tuple[int, str]:
    """Returns the exit status and the output on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    make_nonblocking(ours)
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORTERM")}
        environment |= {"TERM": "xterm-256color", **(env or {})}
        process = start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    finally:
        os.close(theirs)
    seen = b""
    try:
        with gevent.Timeout(SECONDS), suppress(OSError):  # EIO: the other end is closed
            if then is not None:
                then(process)
            while piece := nb_read(ours, 65536):
                seen += piece
        with gevent.Timeout(SECONDS):
            process.wait()
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode, seen.decode().replace("\r\n", "\n")
