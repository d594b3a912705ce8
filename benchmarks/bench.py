"""Compares this package with geventhttpclient 2.6.1, other clients, and wrk and h2load if they are installed, against
one local nginx.

    python benchmarks/bench.py [--quick] [--rounds N] [--seconds S] [--only ROW,ROW] [--save NAME]

"Ours" is the package of the interpreter that runs this script. The reference, locust and each of the other clients get
a virtualenv of their own, once, with the same Python and the same gevent; a client that cannot be installed is skipped.
Each workload runs in a new process for each client and round, and the clients take turns. A complete run is saved in
benchmarks/results, as Markdown and as JSON; a quick or partial run only with --save.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shlex
import ssl
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from nginx import nginx, nginx_version
from report import OURS, REFERENCE, Results, markdown
from results import as_json
from rows import ROWS
from runner import Participants, run_row, versions_of
from worker import allow_many_files

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PACKAGES = ("geventhttpclient", "gevent", "greenlet")


def output_of(*command: str) -> str:
    """Returns the output of a program, on either stream; empty if it is missing or fails."""
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
    """Returns one CPU for the server and the others for the clients; two empty sets if there is only one.

    Without this, the scheduler places client and server on one CPU or on two for a whole run, by chance: the same
    client then has either of two very different rates and costs.
    """
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    cpus = sorted(os.sched_getaffinity(0))
    return (set(cpus[:1]), set(cpus[1:])) if len(cpus) > 1 else (set(), set())


def describe(participants: Participants, load: str, rounds: int, seconds: float) -> dict[str, str]:
    """Returns the facts that are needed to repeat a run."""
    commit = output_of("git", "rev-parse", "--short", "HEAD") or "not in a repository"
    changed = ", with changes that are not committed" if output_of("git", "status", "--porcelain", "-uno") else ""
    return {
        "machine": f"{os.cpu_count()} x {cpu_model()}, {platform.system()} {platform.release()} {platform.machine()}",
        "load average at the start": load,
        **{
            client: ", ".join(f"{name} {version}" for name, version in versions_of(interpreter, *PACKAGES).items())
            for client, interpreter in {OURS: sys.executable, REFERENCE: participants.reference}.items()
        },
        **participants.found,
        **{name: f"skipped: {why}" for name, why in participants.missing.items()},
        "server": f"{nginx_version()}, one worker, on a CPU of its own if there are two",
        "CAs trusted by default": ssl.get_default_verify_paths().cafile or "the built-in ones",
        "wrk": (output_of("wrk", "-v").splitlines() or ["not installed"])[0],
        "h2load": output_of("h2load", "--version") or "not installed",
        "commit": commit + changed,
        "command": f"`python {shlex.join(sys.argv)}`",
        "rounds": f"{rounds}, of {seconds:g} s for each client and workload",
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares ours with the reference, other clients and the floor.")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.4 seconds")
    parser.add_argument("--rounds", type=int, help="runs of each workload by each client (default: 5)")
    parser.add_argument("--seconds", type=float, help="duration of each of these runs (default: 2)")
    parser.add_argument("--only", default="", help=f"some of {','.join(row.key for row in ROWS)}")
    parser.add_argument("--save", metavar="NAME", help="save the result as benchmarks/results/<date>-NAME.md and .json")
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
        participants = Participants(Path(shadow))
        for row in given.rows:
            run_row(row, participants, server, given.rounds, given.seconds, results)
        facts = describe(participants, load, given.rounds, given.seconds)
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
        print(f"Saved in {path}, all samples in {path.with_suffix('.json').name}")


if __name__ == "__main__":
    main()
