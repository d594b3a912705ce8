"""What importing this package costs a program that has gevent already, from the wheel in an environment of its own.

`python benchmarks/imports.py dist/geventhttpclient-*.whl` installs the wheel, and the packages it is compared with, and
times each statement in fresh processes, by turns. Prints Markdown: medians of wall time and of CPU time, in ms.
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

# What the program has imported before: little, or what nearly every program on gevent has.
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
    """A new environment with these packages, compiled as pip does; its interpreter."""
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
                # The first round reads files that the system has not yet in memory.
                wall = median(each.wall for each in samples[1:]) * 1e3
                cpu = median(each.cpu for each in samples[1:]) * 1e3
                print(f"| {label} | {wall:.1f} | {cpu:.1f} |")
            print(flush=True)


if __name__ == "__main__":
    main()
