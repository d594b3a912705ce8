"""Runs a row of the benchmark: one process for each participant and round, in turns."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import latency
from clients import ALL_CLIENTS
from integrations import ALONE, INTEGRATIONS
from measure import PAGE_BYTES
from nginx import STREAMS, Server
from report import AS_IT_IS, FLOOR, FLOOR_HTTP1, OURS, OURS_HTTP1, REFERENCE, Results, Row, Sample
from rows import LOCUST_VERSION
from worker import MIB

import geventhttpclient

HERE = Path(__file__).parent
MEASURE = HERE / "measure.py"
WORKER = HERE / "worker.py"
WRK_SCRIPT = HERE / "wrk.lua"
LOCUSTFILE = HERE / "locustfile.py"
CLIENTS_WORKER = HERE / "clients.py"
INTEGRATIONS_WORKER = HERE / "integrations.py"
ENVIRONMENTS = HERE.parent / ".bench"
REFERENCE_VERSION = "2.6.1"
WORKER_TIMEOUT_SECONDS = 300


class NotInstalled(Exception):
    """An environment could not be installed."""


def versions_of(interpreter: str, *packages: str) -> dict[str, str]:
    """Returns the versions of Python and of these packages."""
    done = subprocess.run([interpreter, str(MEASURE), *packages], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def environment(name: str, wanted: dict[str, str]) -> str:
    """Returns the interpreter of a virtualenv with these packages in these versions ("" for any), and creates it if
    needed.

    Raises NotInstalled with pip's last line of output.
    """
    directory = ENVIRONMENTS / name
    interpreter = str(directory / "bin" / "python")

    def fits() -> bool:
        try:
            found = versions_of(interpreter, *wanted)
        except (OSError, subprocess.CalledProcessError):
            return False  # missing or incomplete
        return found["Python"] == platform.python_version() and all(
            found[package] == version for package, version in wanted.items() if version
        )

    if fits():
        return interpreter
    packages = [f"{package}=={version}" if version else package for package, version in wanted.items()]
    print(f"Installing {', '.join(packages)} into {directory} ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
    done = subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True)
    if done.returncode or not fits():
        raise NotInstalled((done.stderr.strip().splitlines() or [f"no versions that fit {packages}"])[-1])
    return interpreter


def same_greenlets() -> dict[str, str]:
    """Returns the versions that all clients on gevent use."""
    found = versions_of(sys.executable, "gevent", "greenlet")
    del found["Python"]
    return found


def base_of(row: Row, server: Server) -> str:
    if row.events:
        return server.events
    return server.tls if row.tls else server.plain


def finish(command: list[str], **options: Any) -> str:
    """Runs a command and returns its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORKER_TIMEOUT_SECONDS, **options)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr}")
    return str(done.stdout)


def environment_of(interpreter: str) -> dict[str, str]:
    """Returns the environment variables for an interpreter, without PYTHONPATH unless it is the one that runs this: in
    another environment it could put our package before the reference, and ours would be measured twice."""
    return {name: value for name, value in os.environ.items() if interpreter == sys.executable or name != "PYTHONPATH"}


def run_worker(interpreter: str, workload: str, row: Row, server: Server, seconds: float) -> Sample:
    command = [interpreter, str(WORKER), workload, base_of(row, server), str(seconds), str(row.greenlets)]
    command += [server.ca_file, "http2" if row.http2 else "", row.pace]
    return Sample(**json.loads(finish(command, env=environment_of(interpreter))))


def run_client(interpreter: str, client: str, row: Row, server: Server, seconds: float) -> Sample:
    url = base_of(row, server) + row.path
    command = [interpreter, str(CLIENTS_WORKER), client, url, str(seconds), str(row.greenlets)]
    return Sample(**json.loads(finish([*command, server.ca_file, row.pace], env=environment_of(interpreter))))


def run_integration(
    interpreter: str, search: str, version: str, variant: str, row: Row, server: Server, seconds: float
) -> Sample:
    """Runs an integration. `search` and `version` are as for `run_locust`; without a version, geventhttpclient is not
    used."""
    command = [
        interpreter,
        str(INTEGRATIONS_WORKER),
        row.integration,
        variant,
        base_of(row, server) + row.path,
        str(seconds),
        str(row.greenlets),
    ]
    command += [version] if version else []
    return Sample(**json.loads(finish(command, env={**os.environ, "PYTHONPATH": search})))


def run_locust(interpreter: str, search: str, version: str, row: Row, server: Server, seconds: float) -> Sample:
    """Runs locust for whole seconds, as it requires. Python looks for packages in `search` first, and must find this
    `version` of geventhttpclient."""
    users = str(row.greenlets)
    command = [interpreter, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", "--host"]
    command += [base_of(row, server), "--users", users, "--spawn-rate", users, "--run-time"]
    command.append(f"{max(1, round(seconds))}s")
    found = json.loads(finish(command, env={**os.environ, "PYTHONPATH": search}).splitlines()[-1])
    if found["failures"] or found["length"] != PAGE_BYTES or found["version"] != version:
        raise SystemExit(f"{shlex.join(command)} returned {found}, but {version} is expected")
    return Sample(found["count"], found["seconds"], found["cpu_seconds"])


def run_floor(floor: str, row: Row, server: Server, seconds: float) -> Sample | None:
    """Runs the same work without a client library; returns None if the program for it is not installed."""
    program, *rest = floor.split()
    if program not in FLOORS:
        return run_worker(sys.executable, floor, row, server, seconds)
    if shutil.which(program) is None:
        return None
    return FLOORS[program](*rest[:-1], base_of(row, server) + rest[-1], row, seconds)


def finish_with_cpu(command: list[str]) -> tuple[str, float]:
    """Runs a command; returns its output and its CPU time in seconds."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{output}")
    return output, usage.ru_utime + usage.ru_stime


def run_wrk(method: str, url: str, row: Row, seconds: float) -> Sample:
    """Runs wrk with one thread and one connection for each of our greenlets, for whole seconds, as it requires. It has
    no warm-up, so the run is long enough to make the time for opening connections negligible."""
    seconds = max(1, round(seconds), row.greenlets // 2000)
    command = ["wrk", "-t1", f"-c{row.greenlets}", f"-d{seconds}s", "--timeout", "30s", "-s", str(WRK_SCRIPT)]
    command += [url, "--", method, *(["latencies"] if row.pace else [])]
    output, cpu_seconds = finish_with_cpu(command)
    found = json.loads(output.splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise SystemExit(f"{shlex.join(command)} had errors:\n{output}")
    sample = Sample(found["requests"], found["microseconds"] / 1e6, cpu_seconds)
    if not row.pace:
        return sample
    interval = found["microseconds"] // (found["requests"] // row.greenlets)
    measured = latency.without_wrks_own(found["latencies"], interval)
    if sum(count for _, count in measured) != found["requests"]:
        return sample  # another version of wrk, which counts latencies in another way
    return replace(sample, latencies=latency.counted(measured))


def run_h2load(url: str, row: Row, seconds: float) -> Sample:
    """Runs h2load with one thread and one request in flight for each of our greenlets, on as few connections. The count
    is taken from the bytes of bodies, and includes those that are incomplete at the end."""
    connections = -(-row.greenlets // STREAMS)
    command = ["h2load", "-t1", f"-c{connections}", f"-m{-(-row.greenlets // connections)}"]
    command += ["-D", f"{round(seconds * 1000)}ms", url]
    output, cpu_seconds = finish_with_cpu(command)
    data = re.search(r" 0 failed, 0 errored, 0 timeout$.*\((\d+)\) data$", output, re.MULTILINE | re.DOTALL)
    if data is None or "Application protocol: h2\n" not in output:
        raise SystemExit(f"{shlex.join(command)} had errors:\n{output}")
    return Sample(int(data[1]) // (MIB if row.unit == "MiB" else PAGE_BYTES), seconds, cpu_seconds)


FLOORS: dict[str, Callable[..., Sample]] = {"wrk": run_wrk, "h2load": run_h2load}


class Participants:
    """Participants of each row, and functions that run them. Environments are created on first use."""

    def __init__(self, shadow: Path) -> None:
        self.shadow = shadow  # an empty directory
        self.missing: dict[str, str] = {}
        self.found: dict[str, str] = {}  # versions by client, for the report
        self.interpreters: dict[str, str] = {}  # of the other clients

    def skip(self, name: str, why: NotInstalled) -> None:
        self.missing[name] = str(why)
        print(f"{name} is skipped: {why}", flush=True)

    @cached_property
    def reference(self) -> str:
        try:
            return environment("reference", {"geventhttpclient": REFERENCE_VERSION, **same_greenlets()})
        except NotInstalled as e:
            raise SystemExit(f"The benchmark needs the reference: {e}") from e

    @cached_property
    def ours(self) -> str:
        """Returns a directory in which Python finds our package and no other."""
        package = Path(geventhttpclient.__file__).parent
        (self.shadow / package.name).symlink_to(package, target_is_directory=True)
        return str(self.shadow)

    @cached_property
    def locust(self) -> str:
        """Returns an interpreter with locust and the reference; ours replaces the reference if it comes first in the
        path."""
        wanted = {"locust": LOCUST_VERSION, "geventhttpclient": REFERENCE_VERSION, **same_greenlets()}
        interpreter = environment("locust", wanted)
        self.found["locust"] = LOCUST_VERSION
        return interpreter

    @cached_property
    def integrations(self) -> str:
        """Returns an interpreter with the libraries and the reference, as `locust`."""
        packages = dict.fromkeys(INTEGRATIONS, "")
        interpreter = environment("integrations", packages | {"geventhttpclient": REFERENCE_VERSION} | same_greenlets())
        self.found["integrations"] = ", ".join(f"{name} {versions_of(interpreter, name)[name]}" for name in packages)
        return interpreter

    def of_integration(self, row: Row, server: Server, seconds: float) -> dict[str, Callable[[], Sample | None]]:
        """Returns the runs of an integration. The first variant with our package is named "ours", others after the
        variant."""
        try:
            interpreter = self.integrations
        except NotInstalled as e:
            self.skip("integrations", e)
            return {}
        runs: dict[str, Callable[[], Sample | None]] = {}
        for variant in INTEGRATIONS[row.integration]:
            if variant in (AS_IT_IS, ALONE):
                found, version = "", ""
                name = FLOOR if variant == ALONE else AS_IT_IS
            else:
                found, version = self.ours, geventhttpclient.__version__
                name = f"ours, {variant}" if OURS in runs else OURS
            runs[name] = partial(run_integration, interpreter, found, version, variant, row, server, seconds)
            if variant == "patched":
                version = REFERENCE_VERSION
                runs[REFERENCE] = partial(run_integration, interpreter, "", version, variant, row, server, seconds)
        return runs

    def prepare_client(self, name: str) -> None:
        """Adds the interpreter of a client to `interpreters`, unless it cannot be installed. All clients with the
        same first package share one environment."""
        packages = ALL_CLIENTS[name].packages
        versions = same_greenlets()
        wanted = {
            package: versions.get(package, "")
            for client in ALL_CLIENTS.values()
            if client.packages[0] == packages[0]
            for package in client.packages
        }
        if "gevent" in wanted:
            wanted |= versions
        try:
            self.interpreters[name] = environment(packages[0], wanted)
        except NotInstalled as e:
            self.skip(name, e)
        else:
            found = versions_of(self.interpreters[name], *packages)
            self.found[name] = ", ".join(f"{package} {found[package]}" for package in packages)

    def of_clients(self, row: Row, server: Server, seconds: float) -> dict[str, Callable[[], Sample | None]]:
        for name in row.clients:
            if name not in self.interpreters and name not in self.missing:
                self.prepare_client(name)
        return {
            name: partial(run_client, self.interpreters[name], name, row, server, seconds)
            for name in row.clients
            if name in self.interpreters
        }

    def of(self, row: Row, server: Server, seconds: float) -> dict[str, Callable[[], Sample | None]]:
        """Returns a function for each participant of a row, in the order of their turns."""
        if row.locust:
            try:
                interpreter = self.locust
            except NotInstalled as e:
                self.skip("locust", e)
                return {}
            ours = (self.ours, geventhttpclient.__version__)
            return {
                OURS: partial(run_locust, interpreter, *ours, row, server, seconds),
                REFERENCE: partial(run_locust, interpreter, "", REFERENCE_VERSION, row, server, seconds),
            }
        if row.integration:
            return self.of_integration(row, server, seconds)
        runs: dict[str, Callable[[], Sample | None]] = {
            OURS: partial(run_worker, sys.executable, row.workload, row, server, seconds),
        }
        http1 = replace(row, http2=False)
        if row.http2:
            runs[OURS_HTTP1] = partial(run_worker, sys.executable, row.workload, http1, server, seconds)
        if row.reference:
            runs[REFERENCE] = partial(run_worker, self.reference, row.workload, row, server, seconds)
        if row.clients:
            runs |= self.of_clients(row, server, seconds)
        if row.floor:
            runs[FLOOR] = partial(run_floor, row.floor, row, server, seconds)
        if row.http1_floor:
            runs[FLOOR_HTTP1] = partial(run_floor, row.http1_floor, http1, server, seconds)
        return runs


def run_row(
    row: Row, participants: Participants, server: Server, rounds: int, seconds: float, results: Results
) -> None:
    runs = participants.of(row, server, seconds)
    for number in range(1, rounds + 1):
        rates = []
        for client, run in runs.items():
            if (sample := run()) is not None:
                results.add(row.key, client, sample)
                rates.append(f"{client} {sample.rate:,.0f}")
        print(f"{row.key} {number}/{rounds}: {', '.join(rates)} {row.unit}/s", flush=True)
