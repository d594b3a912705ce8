"""Runs the tests on the wheel in dist/, with each CPython found, and with the oldest gevent and the newest one.

`python tools/matrix.py [ARGUMENT...]` gives the arguments to pytest; without any, the tests that depend most on the
interpreter and on gevent are run. PYTHONS="python3.10 /opt/python/bin/python3.13" names the interpreters; by default
they are `python3.N` on the PATH, and pyenv's. Missing ones are skipped with a message.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".matrix"

# Oldest first. The one wheel is bound to the oldest one's ABI.
VERSIONS = ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14))

# Waiting, killing, forking, threads, loops, Python's own TLS: features that depend on the interpreter and on
# gevent. The tests of the garbage collector in these files take a minute.
USUAL = [
    "-k",
    "not collector",
    "tests/gevent/test_hub.py",
    "tests/gevent/test_loops.py",
    "tests/client/test_import.py",
    "tests/client/test_pool.py",
    "tests/threads/test_threads.py",
    "tests/tls/test_context.py",
]


# The exit status of pytest if it has selected no test.
NONE_SELECTED = 5


class Python(NamedTuple):
    version: str  # as in "3.12"
    program: str


def found() -> list[Python]:
    """Returns the CPythons of this machine, one for each version."""
    named = os.environ.get("PYTHONS", "").split()
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    pythons = {}
    for version in VERSIONS:
        name = "{}.{}".format(*version)
        candidates = named or [f"python{name}", *map(str, sorted(pyenv.glob(f"{name}.*/bin/python")))]
        for candidate in candidates:
            program = shutil.which(candidate)
            if program is not None and describe(program) == f"cpython {name}":
                pythons[name] = Python(name, program)
        if name not in pythons:
            print(f"CPython {name} is not installed, skipped")
    return list(pythons.values())


def describe(program: str) -> str:
    """Returns the name and the version, as in "cpython 3.12"; an empty text if the program does not run, like the
    shims of pyenv for versions that are not selected."""
    code = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    return subprocess.run([program, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def oldest_gevents() -> list[str]:
    """Returns the minimum versions in pyproject.toml as exact requirements; pip evaluates their markers."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return [f"gevent=={version}{marker}" for version, marker in re.findall(r'"gevent>=([\d.]+)(; [^"]+)"', text)]


def run(*command: str) -> None:
    # The tests have to import the wheel, regardless of the paths in the caller's environment.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    subprocess.run(command, cwd=ROOT, check=True, env=environment)


def prepare(python: Python, wheel: Path) -> str:
    """Creates an environment with the wheel and the requirements of the tests. Returns its interpreter."""
    directory = ENVIRONMENTS / python.version
    shutil.rmtree(directory, ignore_errors=True)
    run(python.program, "-m", "venv", str(directory))
    program = str(directory / "bin" / "python")
    run(program, "-m", "pip", "install", "--quiet", f"{wheel}[dev]")
    return program


def check(program: str, arguments: list[str]) -> None:
    """Runs the tests with whatever gevent is installed."""
    code = """
import pathlib, sys, gevent, greenlet, geventhttpclient
home = pathlib.Path(geventhttpclient.__file__)
assert home.is_relative_to(sys.prefix), f"not the wheel: {home}"
print(f"CPython {sys.version.split()[0]}, gevent {gevent.__version__}, greenlet {greenlet.__version__}", flush=True)
"""
    run(program, "-c", code)
    for marks, options in (("not serial", ["-n", "auto"]), ("serial", [])):
        command = [program, "-m", "pytest", "-p", "no:cacheprovider", "-m", marks, *options, *(arguments or USUAL)]
        try:
            run(*command)
        except subprocess.CalledProcessError as error:
            if error.returncode != NONE_SELECTED:
                raise


def main() -> None:
    [wheel] = (ROOT / "dist").glob("*.whl")
    pythons = found()
    if not pythons:
        sys.exit("no CPython that the wheel is for")
    failed = []
    for python in pythons:
        started = time.monotonic()
        program = prepare(python, wheel)
        for gevent in ("newest", "oldest"):
            if gevent == "oldest":
                run(program, "-m", "pip", "install", "--quiet", *oldest_gevents())
            try:
                check(program, sys.argv[1:])
            except subprocess.CalledProcessError:
                failed.append(f"CPython {python.version} with the {gevent} gevent")
        print(f"CPython {python.version}: {time.monotonic() - started:.0f} s\n", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    print(f"passed by {', '.join(python.version for python in pythons)}, each with the oldest gevent and the newest")


if __name__ == "__main__":
    main()
