"""This package beside geventhttpclient 2.6.1, and wrk where it is installed, against one nginx on this machine.

    python benchmarks/bench.py [--quick] [--rounds N] [--seconds S] [--only ROW,ROW] [--save NAME]

Ours is the package of the interpreter that runs this; the reference gets a virtualenv of its own, once, with the same
Python and the same gevent. Each workload runs in a new process for each client and round, the clients taking turns.
A whole run is kept in benchmarks/results; a quick or a partial one only with --save.
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
from pathlib import Path

from nginx import Server, nginx, nginx_version
from report import (
    FLOOR,
    OURS,
    REFERENCE,
    Results,
    Row,
    Sample,
    cpu_of_floor,
    cpu_of_row,
    markdown,
    memory_of,
    peak_growth,
    rate_of_reference,
    time_of,
)
from worker import CLIENTS, allow_many_files, versions

HERE = Path(__file__).parent
WORKER = HERE / "worker.py"
WRK_SCRIPT = HERE / "wrk.lua"
RESULTS = HERE / "results"
REFERENCE_VERSION = "2.6.1"
REFERENCE_ENVIRONMENT = HERE.parent / ".bench" / "reference"
WORKER_TIMEOUT_SECONDS = 300

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
]


def versions_of(interpreter: str) -> dict[str, str]:
    done = subprocess.run([interpreter, str(WORKER), "versions"], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def reference_interpreter() -> str:
    """The interpreter that has the reference, in a virtualenv made when there is none that fits."""
    interpreter = str(REFERENCE_ENVIRONMENT / "bin" / "python")
    wanted = versions() | {"geventhttpclient": REFERENCE_VERSION}
    try:
        if versions_of(interpreter) == wanted:
            return interpreter
    except (OSError, subprocess.CalledProcessError):
        pass  # not there yet, or not whole
    print(f"Installing geventhttpclient {REFERENCE_VERSION} into {REFERENCE_ENVIRONMENT} ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(REFERENCE_ENVIRONMENT)], check=True)
    packages = [f"{name}=={wanted[name]}" for name in ("geventhttpclient", "gevent", "greenlet")]
    subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *packages], check=True)
    if versions_of(interpreter) != wanted:
        raise SystemExit(f"The reference's interpreter has {versions_of(interpreter)}; wanted was {wanted}")
    return interpreter


def base_of(row: Row, server: Server) -> str:
    return server.tls if row.tls else server.plain


def run_worker(interpreter: str, workload: str, row: Row, server: Server, seconds: float) -> Sample:
    command = [interpreter, str(WORKER), workload, base_of(row, server), str(seconds), str(row.greenlets)]
    command.append(server.ca_file)
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORKER_TIMEOUT_SECONDS, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr}")
    return Sample(**json.loads(done.stdout))


def run_floor(row: Row, server: Server, seconds: float) -> Sample | None:
    """What the same work costs without a client library; None where there is no such thing."""
    if not row.floor.startswith("wrk "):
        return run_worker(sys.executable, row.floor, row, server, seconds) if row.floor else None
    if shutil.which("wrk") is None:
        return None
    _, method, target = row.floor.split()
    return run_wrk(method, base_of(row, server) + target, row, seconds)


def run_wrk(method: str, url: str, row: Row, seconds: float) -> Sample:
    """wrk with one thread and as many connections as we have greenlets, for whole seconds, as it wants them."""
    command = ["wrk", "-t1", f"-c{row.greenlets}", f"-d{max(1, round(seconds))}s", "-s", str(WRK_SCRIPT)]
    command += [url, "--", method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{output}")
    found = json.loads(output.splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise SystemExit(f"{shlex.join(command)} had errors:\n{output}")
    return Sample(found["requests"], found["microseconds"] / 1e6, usage.ru_utime + usage.ru_stime)


def run_row(
    row: Row, interpreters: dict[str, str], server: Server, rounds: int, seconds: float, results: Results
) -> None:
    for number in range(1, rounds + 1):
        for client, interpreter in interpreters.items():
            results.add(row.key, client, run_worker(interpreter, row.workload, row, server, seconds))
        if (sample := run_floor(row, server, seconds)) is not None:
            results.add(row.key, FLOOR, sample)
        rates = ", ".join(
            f"{client} {samples[-1].rate:,.0f}" for (key, client), samples in results.samples.items() if key == row.key
        )
        print(f"{row.key} {number}/{rounds}: {rates} {row.unit}/s", flush=True)


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


def describe(interpreters: dict[str, str], rounds: int, seconds: float) -> dict[str, str]:
    """Where and how a run was made, for whoever wants to make it again."""
    commit = output_of("git", "rev-parse", "--short", "HEAD") or "not in a repository"
    changed = ", with changes that are not committed" if output_of("git", "status", "--porcelain", "-uno") else ""
    return {
        "machine": f"{os.cpu_count()} x {cpu_model()}, {platform.system()} {platform.release()} {platform.machine()}",
        "load average at the start": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        **{
            client: ", ".join(f"{name} {version}" for name, version in versions_of(interpreter).items())
            for client, interpreter in interpreters.items()
        },
        "server": f"{nginx_version()}, one worker, on a CPU of its own where there are two",
        "CAs trusted by default": ssl.get_default_verify_paths().cafile or "those on board",
        "wrk": (output_of("wrk", "-v").splitlines() or ["not installed"])[0],
        "commit": commit + changed,
        "command": f"`python {shlex.join(sys.argv)}`",
        "rounds": f"{rounds}, of {seconds:g} s for each client and workload",
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benchmarks ours beside the reference and wrk.")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.4 seconds")
    parser.add_argument("--rounds", type=int, help="how often each client runs each workload (5)")
    parser.add_argument("--seconds", type=float, help="how long each of these runs takes (2)")
    parser.add_argument("--only", default="", help=f"some of {','.join(row.key for row in ROWS)}")
    parser.add_argument("--save", metavar="NAME", help="keep the result as benchmarks/results/<date>-NAME.md")
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
    interpreters = {OURS: sys.executable, REFERENCE: reference_interpreter()}
    facts = describe(interpreters, given.rounds, given.seconds)
    results = Results()
    server_cpus, client_cpus = split_cpus()
    with nginx(server_cpus) as server:
        if client_cpus:
            os.sched_setaffinity(0, client_cpus)  # the clients inherit it
        for row in given.rows:
            run_row(row, interpreters, server, given.rounds, given.seconds, results)
    today = datetime.date.today().isoformat()
    text = markdown(f"Benchmark of {today}", facts, given.rows, results)
    print(f"\n{text}")
    if given.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{today}-{given.save}.md"
        path.write_text(text)
        print(f"Kept in {path}")


if __name__ == "__main__":
    main()
