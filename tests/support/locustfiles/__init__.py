"""Runs of locust in a process of its own, and their results."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gevent import subprocess

from tests.support.hub import ROOT
from tests.support.ports import free_port

HERE = Path(__file__).parent

# Time limit of a run, in seconds.
SECONDS = 60


@dataclass
class Swarm:
    """The exit status and the log of a locust run, and what `facts.py` has written: the number of requests, the row of
    each type, the number of failures by their text, the tracebacks of users, and the results of the locustfile."""

    code: int
    log: str
    requests: int
    rows: dict[str, dict[str, Any]]
    failures: dict[str, int]
    exceptions: list[str]
    results: Any

    def check_no_crash(self) -> None:
        """Checks that no user has ended with an exception."""
        assert self.exceptions == []
        assert "Traceback" not in self.log, self.log

    def counts(self) -> dict[str, int]:
        """Returns the number of requests by type."""
        return {kind: row["count"] for kind, row in self.rows.items()}


def distributed(processes: int) -> list[str]:
    """Returns the options for a master and that many workers; none for one process."""
    if processes == 1:
        return []
    port = str(free_port())
    return ["--processes", str(processes), "--master-bind-port", port, "--master-port", port]


def swarm(locustfile: Path, directory: Path, host: str, *options: str, users: int, **environment: str) -> Swarm:
    """Runs locust with that many users until the run ends itself: see `facts.py` for the environment."""
    usual = ["--headless", "--users", str(users), "--spawn-rate", str(users), "--run-time", f"{SECONDS}s"]
    command = [sys.executable, "-m", "locust", "-f", f"{locustfile},{HERE / 'facts.py'}", "--host", host]
    log, facts = directory / "log", directory / "facts"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *usual, "--only-summary", *options],
            cwd=ROOT,
            env={**os.environ, "LOCUST_FACTS": str(facts), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = process.wait(SECONDS)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # with its workers
                process.wait()
    assert code is not None, f"did not end within {SECONDS} s\n{log.read_text()}"
    assert facts.exists(), log.read_text()
    return Swarm(code, log.read_text(), **json.loads(facts.read_text()))
