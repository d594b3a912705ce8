"""This package beside geventhttpclient 2.6.1, other clients, and wrk and h2load where they are installed, against one
nginx here.

    python benchmarks/bench.py [--quick] [--rounds N] [--seconds S] [--only ROW,ROW] [--save NAME]

Ours is the package of the interpreter that runs this. The reference, locust and each of the other clients get a
virtualenv of their own, once, with the same Python and the same gevent; who cannot be installed is left out. Each
workload runs in a new process for each client and round, the clients taking turns. A whole run is kept in
benchmarks/results, as Markdown and as JSON; a quick or a partial one only with --save.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import latency
from kept import as_json
from measure import PAGE_BYTES
from nginx import STREAMS, Server, nginx, nginx_version
from peers import HTTP2_PEERS, PEERS
from report import (
    AS_IT_IS,
    FLOOR,
    FLOOR_HTTP1,
    OURS,
    OURS_HTTP1,
    REFERENCE,
    Results,
    Row,
    Sample,
    cpu_of_floor,
    cpu_of_row,
    first_on_cpu,
    first_on_rate,
    markdown,
    memory_of,
    memory_of_each,
    peak_growth,
    rate_of,
    rate_of_library,
    rate_of_reference,
    time_of,
    time_of_http1,
)
from riders import ALONE, RIDERS
from worker import CLIENTS, MIB, allow_many_files

import geventhttpclient

HERE = Path(__file__).parent
MEASURE = HERE / "measure.py"
WORKER = HERE / "worker.py"
WRK_SCRIPT = HERE / "wrk.lua"
RESULTS = HERE / "results"
LOCUSTFILE = HERE / "locustfile.py"
PEERS_WORKER = HERE / "peers.py"
RIDERS_WORKER = HERE / "riders.py"
ENVIRONMENTS = HERE.parent / ".bench"
REFERENCE_VERSION = "2.6.1"
LOCUST_VERSION = "2.47.0"
PACKAGES = ("geventhttpclient", "gevent", "greenlet")
WORKER_TIMEOUT_SECONDS = 300

# Requests a second that all of these can make; the others of PEERS cannot.
PACED = 5000
QUICK_PEERS = ("pycurl multi", "pyreqwest on uvloop", "aiohttp on uvloop")

ROWS = [
    Row(
        "get",
        "GET of 615 bytes, 10 greenlets looping on 10 connections",
        "get",
        floor="wrk GET /page",
        targets=(rate_of_reference(6), cpu_of_floor(1.4)),
    ),
    Row(
        "get-pool",
        "the same, with a greenlet for each request from gevent.pool.Pool(10)",
        "get_pool",
        targets=(rate_of_reference(4),),
    ),
    Row("get-1000", "1,000 GETs at concurrency 10, with a client made for them", "get_1000"),
    Row(
        "useragent",
        "`get` by UserAgent.urlopen(url).content",
        "useragent",
        targets=(rate_of_reference(6), cpu_of_row("get", 1.6)),
    ),
    Row("session", "`get` by Session.get(url).content", "session", targets=(rate_of_reference(6),)),
    Row(
        "locust",
        f"a headless run of locust {LOCUST_VERSION}, one process, 10 users who get the page and do not wait",
        locust=True,
        targets=(rate_of_reference(1.8),),
    ),
    Row(
        "peers",
        "`get` with 10 requests in flight, beside other clients, each in the manner in which it is quickest",
        "get",
        peers=tuple(PEERS),
        floor="wrk GET /page",
        targets=(first_on_rate(), first_on_cpu()),
    ),
    Row(
        "httplib2",
        "`get` by httplib2 with our classes in http.client's place; `shared` is one geventhttpclient.httplib2.Http",
        rider="httplib2",
        floor=ALONE,
        targets=(rate_of_library(2), rate_of_reference(4)),
    ),
    Row(
        "requests",
        "`get` by requests with geventhttpclient.requests_adapter",
        rider="requests",
        floor=ALONE,
        targets=(rate_of_library(3),),
    ),
    Row(
        "urllib3",
        "`get` by the PoolManager of geventhttpclient.urllib3_adapter",
        rider="urllib3",
        targets=(rate_of_library(3),),
    ),
    Row(
        "post",
        "POST of 64 KiB, 10 greenlets looping on 10 connections",
        "post",
        floor="wrk POST /sink",
        targets=(rate_of_reference(4),),
    ),
    Row(
        "read-all",
        "download of 100 MiB with read()",
        "download_whole",
        unit="MiB",
        greenlets=1,
        floor="download_floor",
        targets=(rate_of_reference(8),),
    ),
    Row(
        "read-16k",
        "download of 100 MiB with read(16384)",
        "download_pieces",
        unit="MiB",
        greenlets=1,
        floor="download_floor",
        targets=(rate_of_reference(4),),
    ),
    Row(
        "readline", "readline() over 500,000 lines", "lines", unit="lines", greenlets=1, targets=(rate_of_reference(4),)
    ),
    Row(
        "get-c100",
        "`get` with 100 greenlets on as many connections",
        "get",
        greenlets=100,
        floor="wrk GET /page",
    ),
    Row(
        "get-c1000",
        "`get` with 1,000 greenlets on as many connections",
        "get",
        greenlets=1000,
        floor="wrk GET /page",
        targets=(cpu_of_row("get", 1.5),),
    ),
    Row(
        "get-c4000",
        "`get` with 4,000 greenlets on as many connections",
        "get",
        greenlets=4000,
        floor="wrk GET /page",
        targets=(cpu_of_row("get", 1.5),),
    ),
    Row(
        "get-c10000",
        "`get` with 10,000 greenlets on as many connections",
        "get",
        greenlets=10000,
        floor="wrk GET /page",
        targets=(cpu_of_row("get", 1.5),),
    ),
    Row(
        "latency",
        "`get`, with the latency of each request",
        "get",
        pace="closed",
        peers=QUICK_PEERS,
        floor="wrk GET /page",
    ),
    Row(
        "latency-paced",
        f"{PACED:,} `get` a second, with the latency of each request from when it was due",
        "get",
        pace=str(PACED),
        peers=QUICK_PEERS,
    ),
    Row(
        "connections",
        "10,000 greenlets, each with a request on a connection of its own, all at the same time; all are kept",
        "connections",
        unit="connections",
        greenlets=10000,
        grows=True,
        targets=(memory_of_each(6),),
    ),
    Row(
        "tls-connections",
        "`connections` over TLS; the reference does not come to the end of it in five minutes",
        "connections",
        unit="connections",
        greenlets=10000,
        tls=True,
        grows=True,
        reference=False,
        targets=(memory_of_each(30),),
    ),
    Row(
        "memory",
        "streaming 1 GiB with read(16384)",
        "download_huge",
        unit="MiB",
        greenlets=1,
        floor="download_floor",
        targets=(peak_growth(16),),
    ),
    Row("tls-get", "`get` over TLS", "get", tls=True, floor="wrk GET /page", targets=(rate_of_reference(6),)),
    Row(
        "tls-context-get",
        "`tls-get` with an SSLContext from an `ssl_context_factory`",
        "get_context",
        tls=True,
        floor="wrk GET /page",
        targets=(rate_of_reference(2),),
    ),
    Row(
        "tls-handshake",
        "`tls-get` with a new connection for each request; ours resumes its sessions",
        "get_once",
        tls=True,
    ),
    Row(
        "tls-read-all",
        "`read-all` over TLS",
        "download_whole",
        unit="MiB",
        greenlets=1,
        tls=True,
        floor="download_floor",
        targets=(rate_of_reference(4),),
    ),
    Row(
        "tls-clients",
        f"up to {CLIENTS:,} https clients made with the defaults of TLS, after a first one, all kept",
        "clients",
        unit="clients",
        tls=True,
        grows=True,
        targets=(time_of(CLIENTS, "clients", 0.2), memory_of(CLIENTS, "clients", 25)),
    ),
    Row(
        "http2",
        "`tls-get` with 100 greenlets on one connection by HTTP/2, beside 100 connections by HTTP/1.1; the others have"
        " 100 requests in flight on one connection",
        "get",
        greenlets=100,
        tls=True,
        http2=True,
        peers=tuple(HTTP2_PEERS),
        reference=False,
        floor="h2load /page",
        http1_floor="wrk GET /page",
        targets=(rate_of(OURS_HTTP1, 0.8), *(rate_of(peer, 20) for peer in HTTP2_PEERS)),
    ),
    Row(
        "http2-c1",
        "`http2` with one greenlet, beside one connection by HTTP/1.1",
        "get",
        greenlets=1,
        tls=True,
        http2=True,
        reference=False,
        floor="h2load /page",
        http1_floor="wrk GET /page",
    ),
    Row(
        "http2-1000",
        f"`http2` with 1,000 greenlets, of which nginx takes {STREAMS} on a connection, beside 1,000 connections",
        "get",
        greenlets=1000,
        tls=True,
        http2=True,
        reference=False,
        floor="h2load /page",
    ),
    Row(
        "http2-download",
        "`tls-read-all` by HTTP/2, beside HTTP/1.1",
        "download_whole",
        unit="MiB",
        greenlets=1,
        tls=True,
        http2=True,
        reference=False,
        floor="h2load /big",
        http1_floor="download_floor",
        targets=(time_of_http1(1.3),),
    ),
]


class NotInstalled(Exception):
    """Why an environment is not there."""


def versions_of(interpreter: str, *packages: str) -> dict[str, str]:
    """Of Python and of these packages."""
    done = subprocess.run([interpreter, str(MEASURE), *packages], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def environment(name: str, wanted: dict[str, str]) -> str:
    """The interpreter of a virtualenv with these packages in these versions ("" for any), made where none fits.

    Raises NotInstalled, with pip's last words.
    """
    directory = ENVIRONMENTS / name
    interpreter = str(directory / "bin" / "python")

    def fits() -> bool:
        try:
            found = versions_of(interpreter, *wanted)
        except (OSError, subprocess.CalledProcessError):
            return False  # not there yet, or not whole
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
    """The versions that clients on gevent are to have in common."""
    found = versions_of(sys.executable, "gevent", "greenlet")
    del found["Python"]
    return found


def base_of(row: Row, server: Server) -> str:
    return server.tls if row.tls else server.plain


def finish(command: list[str], **options: Any) -> str:
    """Runs it to its end, and returns what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORKER_TIMEOUT_SECONDS, **options)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr}")
    return str(done.stdout)


def environment_of(interpreter: str) -> dict[str, str]:
    """What it is run with. PYTHONPATH is for the interpreter that runs this: in another environment it could put our
    package before the reference, and ours would be measured twice."""
    return {name: value for name, value in os.environ.items() if interpreter == sys.executable or name != "PYTHONPATH"}


def run_worker(interpreter: str, workload: str, row: Row, server: Server, seconds: float) -> Sample:
    command = [interpreter, str(WORKER), workload, base_of(row, server), str(seconds), str(row.greenlets)]
    command += [server.ca_file, "http2" if row.http2 else "", row.pace]
    return Sample(**json.loads(finish(command, env=environment_of(interpreter))))


def run_peer(interpreter: str, peer: str, row: Row, server: Server, seconds: float) -> Sample:
    command = [interpreter, str(PEERS_WORKER), peer, base_of(row, server), str(seconds), str(row.greenlets)]
    return Sample(**json.loads(finish([*command, server.ca_file, row.pace], env=environment_of(interpreter))))


def run_rider(
    interpreter: str, search: str, version: str, way: str, row: Row, server: Server, seconds: float
) -> Sample:
    """`search` and `version` as for `run_locust`; without a version, no geventhttpclient takes part."""
    command = [interpreter, str(RIDERS_WORKER), row.rider, way, base_of(row, server), str(seconds), str(row.greenlets)]
    command += [version] if version else []
    return Sample(**json.loads(finish(command, env={**os.environ, "PYTHONPATH": search})))


def run_locust(interpreter: str, search: str, version: str, row: Row, server: Server, seconds: float) -> Sample:
    """Whole seconds, as it wants them. `search` is where Python looks for packages first; `version` of geventhttpclient
    is what it must find."""
    users = str(row.greenlets)
    command = [interpreter, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", "--host"]
    command += [base_of(row, server), "--users", users, "--spawn-rate", users, "--run-time"]
    command.append(f"{max(1, round(seconds))}s")
    found = json.loads(finish(command, env={**os.environ, "PYTHONPATH": search}).splitlines()[-1])
    if found["failures"] or found["length"] != PAGE_BYTES or found["version"] != version:
        raise SystemExit(f"{shlex.join(command)} found {found}; wanted was {version}")
    return Sample(found["count"], found["seconds"], found["cpu_seconds"])


def run_floor(floor: str, row: Row, server: Server, seconds: float) -> Sample | None:
    """What the same work costs without a client library; None where there is no such thing."""
    program, *rest = floor.split()
    if program not in FLOORS:
        return run_worker(sys.executable, floor, row, server, seconds)
    if shutil.which(program) is None:
        return None
    return FLOORS[program](*rest[:-1], base_of(row, server) + rest[-1], row, seconds)


def finish_and_weigh(command: list[str]) -> tuple[str, float]:
    """Runs it to its end; what it printed, and the seconds of CPU that it took."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{output}")
    return output, usage.ru_utime + usage.ru_stime


def run_wrk(method: str, url: str, row: Row, seconds: float) -> Sample:
    """wrk with one thread and as many connections as we have greenlets, for whole seconds, as it wants them. It has no
    warm-up: what it takes to open its connections is to be lost among what follows."""
    seconds = max(1, round(seconds), row.greenlets // 2000)
    command = ["wrk", "-t1", f"-c{row.greenlets}", f"-d{seconds}s", "--timeout", "30s", "-s", str(WRK_SCRIPT)]
    command += [url, "--", method, *(["latencies"] if row.pace else [])]
    output, cpu_seconds = finish_and_weigh(command)
    found = json.loads(output.splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise SystemExit(f"{shlex.join(command)} had errors:\n{output}")
    sample = Sample(found["requests"], found["microseconds"] / 1e6, cpu_seconds)
    if not row.pace:
        return sample
    interval = found["microseconds"] // (found["requests"] // row.greenlets)
    measured = latency.without_wrks_own(found["latencies"], interval)
    if sum(count for _, count in measured) != found["requests"]:
        return sample  # another wrk, which counts latencies in a way that is not known here
    return replace(sample, latencies=latency.counted(measured))


def run_h2load(url: str, row: Row, seconds: float) -> Sample:
    """h2load with one thread and as many requests in flight as we have greenlets, on as few connections. It counts the
    bytes of the bodies, and so what there is of one that it has not got to the end of."""
    connections = -(-row.greenlets // STREAMS)
    command = ["h2load", "-t1", f"-c{connections}", f"-m{-(-row.greenlets // connections)}"]
    command += ["-D", f"{round(seconds * 1000)}ms", url]
    output, cpu_seconds = finish_and_weigh(command)
    data = re.search(r" 0 failed, 0 errored, 0 timeout$.*\((\d+)\) data$", output, re.MULTILINE | re.DOTALL)
    if data is None or "Application protocol: h2\n" not in output:
        raise SystemExit(f"{shlex.join(command)} had errors:\n{output}")
    return Sample(int(data[1]) // (MIB if row.unit == "MiB" else PAGE_BYTES), seconds, cpu_seconds)


FLOORS: dict[str, Callable[..., Sample]] = {"wrk": run_wrk, "h2load": run_h2load}


class Clients:
    """Who takes part in a row, and how each is run. Environments are made when they are first asked for."""

    def __init__(self, shadow: Path) -> None:
        self.shadow = shadow  # an empty directory
        self.missing: dict[str, str] = {}
        self.found: dict[str, str] = {}  # the versions that took part
        self.peers: dict[str, str] = {}  # the interpreters of those that did

    def leave_out(self, name: str, why: NotInstalled) -> None:
        self.missing[name] = str(why)
        print(f"{name} is left out: {why}", flush=True)

    @cached_property
    def reference(self) -> str:
        try:
            return environment("reference", {"geventhttpclient": REFERENCE_VERSION, **same_greenlets()})
        except NotInstalled as e:
            raise SystemExit(f"Nothing can be compared without the reference: {e}") from e

    @cached_property
    def ours(self) -> str:
        """A directory in which Python finds our package, and nothing else beside it."""
        package = Path(geventhttpclient.__file__).parent
        (self.shadow / package.name).symlink_to(package, target_is_directory=True)
        return str(self.shadow)

    @cached_property
    def locust(self) -> str:
        """Has the reference as well; ours goes before it where it is found first."""
        wanted = {"locust": LOCUST_VERSION, "geventhttpclient": REFERENCE_VERSION, **same_greenlets()}
        interpreter = environment("locust", wanted)
        self.found["locust"] = LOCUST_VERSION
        return interpreter

    @cached_property
    def riders(self) -> str:
        """Has the reference as well, as that of locust."""
        packages = dict.fromkeys(RIDERS, "")
        interpreter = environment("riders", packages | {"geventhttpclient": REFERENCE_VERSION} | same_greenlets())
        self.found["riders"] = ", ".join(f"{name} {versions_of(interpreter, name)[name]}" for name in packages)
        return interpreter

    def of_rider(self, row: Row, server: Server, seconds: float) -> dict[str, Callable[[], Sample | None]]:
        """Ours comes by the first way that needs it, and by others under their own names."""
        try:
            interpreter = self.riders
        except NotInstalled as e:
            self.leave_out("riders", e)
            return {}
        runs: dict[str, Callable[[], Sample | None]] = {}
        for way in RIDERS[row.rider]:
            if way in (AS_IT_IS, ALONE):
                found, version = "", ""
                name = FLOOR if way == ALONE else AS_IT_IS
            else:
                found, version = self.ours, geventhttpclient.__version__
                name = f"ours, {way}" if OURS in runs else OURS
            runs[name] = partial(run_rider, interpreter, found, version, way, row, server, seconds)
            if way == "patched":
                version = REFERENCE_VERSION
                runs[REFERENCE] = partial(run_rider, interpreter, "", version, way, row, server, seconds)
        return runs

    def prepare_peer(self, name: str) -> None:
        """Puts its interpreter among the `peers`, unless it cannot be installed. What is known of one client in several
        manners shares one environment."""
        everyone = PEERS | HTTP2_PEERS
        packages = everyone[name].packages
        versions = same_greenlets()
        wanted = {
            package: versions.get(package, "")
            for peer in everyone.values()
            if peer.packages[0] == packages[0]
            for package in peer.packages
        }
        if "gevent" in wanted:
            wanted |= versions
        try:
            self.peers[name] = environment(packages[0], wanted)
        except NotInstalled as e:
            self.leave_out(name, e)
        else:
            found = versions_of(self.peers[name], *packages)
            self.found[name] = ", ".join(f"{package} {found[package]}" for package in packages)

    def of_peers(self, row: Row, server: Server, seconds: float) -> dict[str, Callable[[], Sample | None]]:
        for name in row.peers:
            if name not in self.peers and name not in self.missing:
                self.prepare_peer(name)
        return {
            name: partial(run_peer, self.peers[name], name, row, server, seconds)
            for name in row.peers
            if name in self.peers
        }

    def of(self, row: Row, server: Server, seconds: float) -> dict[str, Callable[[], Sample | None]]:
        """How each client runs that row, in the order in which they take turns."""
        if row.locust:
            try:
                interpreter = self.locust
            except NotInstalled as e:
                self.leave_out("locust", e)
                return {}
            ours = (self.ours, geventhttpclient.__version__)
            return {
                OURS: partial(run_locust, interpreter, *ours, row, server, seconds),
                REFERENCE: partial(run_locust, interpreter, "", REFERENCE_VERSION, row, server, seconds),
            }
        if row.rider:
            return self.of_rider(row, server, seconds)
        runs: dict[str, Callable[[], Sample | None]] = {
            OURS: partial(run_worker, sys.executable, row.workload, row, server, seconds),
        }
        http1 = replace(row, http2=False)
        if row.http2:
            runs[OURS_HTTP1] = partial(run_worker, sys.executable, row.workload, http1, server, seconds)
        if row.reference:
            runs[REFERENCE] = partial(run_worker, self.reference, row.workload, row, server, seconds)
        if row.peers:
            runs |= self.of_peers(row, server, seconds)
        if row.floor:
            runs[FLOOR] = partial(run_floor, row.floor, row, server, seconds)
        if row.http1_floor:
            runs[FLOOR_HTTP1] = partial(run_floor, row.http1_floor, http1, server, seconds)
        return runs


def run_row(row: Row, clients: Clients, server: Server, rounds: int, seconds: float, results: Results) -> None:
    runs = clients.of(row, server, seconds)
    for number in range(1, rounds + 1):
        rates = []
        for client, run in runs.items():
            if (sample := run()) is not None:
                results.add(row.key, client, sample)
                rates.append(f"{client} {sample.rate:,.0f}")
        print(f"{row.key} {number}/{rounds}: {', '.join(rates)} {row.unit}/s", flush=True)


def output_of(*command: str) -> str:
    """What a program prints, on either stream; empty when it is missing or fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=HERE
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode in (0, 1) else ""


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor()


def split_cpus() -> tuple[set[int], set[int]]:
    """One CPU for the server and the others for the clients; two empty sets where that cannot be had.

    Left to itself the scheduler puts client and server now on one CPU, now on two, for a whole run: the same client
    then has two rates and two costs that are far apart, and which of them is seen is chance.
    """
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    cpus = sorted(os.sched_getaffinity(0))
    return (set(cpus[:1]), set(cpus[1:])) if len(cpus) > 1 else (set(), set())


def describe(clients: Clients, load: str, rounds: int, seconds: float) -> dict[str, str]:
    """Where and how a run was made, for whoever wants to make it again."""
    commit = output_of("git", "rev-parse", "--short", "HEAD") or "not in a repository"
    changed = ", with changes that are not committed" if output_of("git", "status", "--porcelain", "-uno") else ""
    return {
        "machine": f"{os.cpu_count()} x {cpu_model()}, {platform.system()} {platform.release()} {platform.machine()}",
        "load average at the start": load,
        **{
            client: ", ".join(f"{name} {version}" for name, version in versions_of(interpreter, *PACKAGES).items())
            for client, interpreter in {OURS: sys.executable, REFERENCE: clients.reference}.items()
        },
        **clients.found,
        **{name: f"left out: {why}" for name, why in clients.missing.items()},
        "server": f"{nginx_version()}, one worker, on a CPU of its own where there are two",
        "CAs trusted by default": ssl.get_default_verify_paths().cafile or "those on board",
        "wrk": (output_of("wrk", "-v").splitlines() or ["not installed"])[0],
        "h2load": output_of("h2load", "--version") or "not installed",
        "commit": commit + changed,
        "command": f"`python {shlex.join(sys.argv)}`",
        "rounds": f"{rounds}, of {seconds:g} s for each client and workload",
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benchmarks ours beside the reference and the floor.")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.4 seconds")
    parser.add_argument("--rounds", type=int, help="how often each client runs each workload (5)")
    parser.add_argument("--seconds", type=float, help="how long each of these runs takes (2)")
    parser.add_argument("--only", default="", help=f"some of {','.join(row.key for row in ROWS)}")
    parser.add_argument("--save", metavar="NAME", help="keep the result as benchmarks/results/<date>-NAME.md and .json")
    given = parser.parse_args()
    given.rounds = given.rounds or (3 if given.quick else 5)
    given.seconds = given.seconds or (0.4 if given.quick else 2.0)
    wanted = given.only.split(",") if given.only else [row.key for row in ROWS]
    unknown = set(wanted) - {row.key for row in ROWS}
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    given.rows = [row for row in ROWS if row.key in wanted]
    if given.save is None and not given.quick and not given.only:
        given.save = output_of("git", "rev-parse", "--short", "HEAD") or "run"
    return given


def main() -> None:
    given = arguments()
    allow_many_files()  # nginx inherits it
    load = ", ".join(f"{load:.2f}" for load in os.getloadavg())
    results = Results()
    server_cpus, client_cpus = split_cpus()
    with nginx(server_cpus) as server, TemporaryDirectory() as shadow:
        if client_cpus:
            os.sched_setaffinity(0, client_cpus)  # the clients inherit it
        clients = Clients(Path(shadow))
        for row in given.rows:
            run_row(row, clients, server, given.rounds, given.seconds, results)
        facts = describe(clients, load, given.rounds, given.seconds)
    now = datetime.datetime.now(datetime.timezone.utc)
    today = now.date().isoformat()
    text = markdown(f"Benchmark of {today}", facts, given.rows, results)
    print(f"\n{text}")
    if given.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{today}-{given.save}.md"
        path.write_text(text)
        numbers = as_json(now.isoformat(timespec="seconds"), facts, given.rows, results)
        path.with_suffix(".json").write_text(numbers)
        print(f"Kept in {path}, every sample in {path.with_suffix('.json').name}")


if __name__ == "__main__":
    main()
