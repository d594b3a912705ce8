"""Helpers for tests of hubs, threads and processes: bounded waits, descriptors, programs.

A program is a function of a module in tests/programs. It runs in an interpreter of its own, because it may end the hub
or the process. The caller's hub keeps running, so that a `Peer` of the test can serve the program.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import gevent
from gevent import subprocess

from geventhttpclient._parser import HTTPParseError
from geventhttpclient.client import HTTPClient
from tests.support.requirements import missing

T = TypeVar("T")

ROOT = Path(__file__).parents[2]

# Errors that a faulty peer or network causes.
FAILURES = (OSError, HTTPParseError)


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Runs the hub until the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        turn(1)


def turn(times: int = 5) -> None:
    """Runs a few iterations of the loop: sockets are polled, and every greenlet that is ready runs.

    (`gevent.sleep(0)` alone may not poll sockets for 5 ms.)
    """
    for _ in range(times):
        gevent.sleep(0.001)


def descriptors() -> dict[int, str]:
    """Returns the open descriptors of this process and the files that they refer to."""
    found = {}
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the one that listed the directory
            found[int(name)] = os.readlink(f"/dev/fd/{name}")
    return found


def attempt(call: Callable[[], T]) -> T | BaseException:
    """Returns the call's result or the exception that it raised: for greenlets that a test inspects afterwards."""
    try:
        return call()
    except BaseException as e:
        return e


def get(client: HTTPClient, target: str, seconds: float = 10) -> bytes:
    """Sends a GET and returns its body; raises gevent.Timeout after `seconds`."""
    with gevent.Timeout(seconds, ref=False):  # does not keep the loop running
        response = client.get(target)
        assert response.status_code == 200
        return response.read()


def in_thread(call: Callable[[], T]) -> T:
    """Runs the call in a native thread while this hub keeps running. Returns its result or raises its exception."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: not thread.is_alive(), 60)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


@dataclass
class Outcome:
    """The exit status and the output of a program."""

    code: int
    out: str
    err: str

    def clean(self) -> str:
        """Returns the output; fails if the exit status is not 0 or if stderr is not empty."""
        assert self.code == 0, f"ended with {self.code}\n{self.out}\n{self.err}"
        assert not self.err, self.err
        return self.out


class Hangs(AssertionError):
    """A program did not end in time and was killed."""

    def __init__(self, outcome: Outcome, seconds: float) -> None:
        super().__init__(f"did not end within {seconds} s\n{outcome.out}\n{outcome.err}")
        self.outcome = outcome


class Program:
    """A running program. `send_line` and `read_line` talk to it; `end` waits for its exit."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_line(self) -> str:
        with gevent.Timeout(30):
            return str(self.process.stdout.readline()).strip()

    def send_line(self, line: str = "go") -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 60) -> Outcome:
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise Hangs(Outcome(self.process.returncode, out, err), seconds) from None
        return Outcome(self.process.returncode, out, err)


@contextmanager
def running(name: str, *arguments: object, **environment: str) -> Iterator[Program]:
    """Starts the program `module.function` of tests/programs."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.programs", name, *map(str, arguments)]
    program = Program(command, environment)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()
        for pipe in (program.process.stdin, program.process.stdout, program.process.stderr):
            pipe.close()


def run(name: str, *arguments: object, **environment: str) -> Outcome:
    """Runs the program `module.function` of tests/programs to its end."""
    with running(name, *arguments, **environment) as program:
        return program.end()


def choose(loop: str) -> dict[str, str]:
    """Returns the environment in which a program uses that event loop of gevent."""
    if loop == "libuv-cffi" and importlib.util.find_spec("_cffi_backend") is None:
        missing("cffi, which gevent's libuv loop is made with,")
    return {"GEVENT_LOOP": loop}
