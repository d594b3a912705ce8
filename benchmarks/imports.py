"""Measures the import of this package in a program that has imported gevent, from a wheel in a new environment.

`python benchmarks/imports.py dist/geventhttpclient-*.whl` installs the wheel and the packages for comparison, and times
each statement in new processes, in turns. Prints medians of wall time and CPU time in ms, as Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

TARGET_MS = 30

OURS = [
    "import geventhttpclient",
    "from geventhttpclient import HTTPClient",
    "from geventhttpclient import UserAgent",
    "from geventhttpclient import Session",
    "import geventhttpclient.httpx",
]
OTHERS = ["import http.client", "import requests", "import httpx"]

# Imported before: gevent alone, or monkey-patched as in most programs on gevent.
BEFORE = ["import gevent", "from gevent import monkey; monkey.patch_all()"]

TIMED = """
{before}
from time import perf_counter, process_time
wall, cpu = perf_counter(), process_time()
{statement}
print(perf_counter() - wall, process_time() - cpu)
"""


class Spent(NamedTuple):
    wall: float  # seconds
    cpu: float


def spend(python: Path, before: str, statement: str) -> Spent:
    program = TIMED.format(before=before, statement=statement)
    done = subprocess.run([python, "-I", "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    wall, cpu = map(float, done.stdout.split())
    return Spent(wall, cpu)


def install(directory: Path, *what: str) -> Path:
    """Creates an environment with these packages, compiled to bytecode, and returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    python = directory / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--compile", *what], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        new = install(Path(directory, "new"), str(arguments.wheel), "requests", "httpx")
        old = install(Path(directory, "old"), "geventhttpclient==2.6.1")
        runs = [(new, "", statement) for statement in OURS + OTHERS]
        runs += [(old, ", 2.6.1", statement) for statement in OURS[:3]]
        print(f"CPython {sys.version.split()[0]}, {arguments.rounds} interleaved rounds; target: {TARGET_MS} ms\n")
        for before in BEFORE:
            spent: dict[str, list[Spent]] = {}
            for _ in range(arguments.rounds + 1):
                for python, whose, statement in runs:
                    spent.setdefault(f"`{statement}`{whose}", []).append(spend(python, before, statement))
            print(f"| after `{before}` | ms | of these, CPU |\n| --- | ---: | ---: |")
            for label, samples in spent.items():
                # Without the first round, which reads files that are not cached yet.
                wall = median(each.wall for each in samples[1:]) * 1e3
                cpu = median(each.cpu for each in samples[1:]) * 1e3
                print(f"| {label} | {wall:.1f} | {cpu:.1f} |")
            print(flush=True)


if __name__ == "__main__":
    main()
