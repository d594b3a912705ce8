"""Runs the tests on the wheel in dist/, by each CPython found, with the oldest gevent supported and the newest.

`python tools/matrix.py [ARGUMENT...]` gives the arguments to pytest; without any, the tests that depend most on the
interpreter and on gevent are run. PYTHONS="python3.10 /opt/python/bin/python3.13" names the interpreters; else they are
`python3.N` on the PATH, and pyenv's. What is not there is left out, with a word.
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

# Waiting, killing, forking, threads, loops, Python's own TLS: what differs by interpreter and by gevent. All tests
# would take ten minutes each time, and those of the garbage collector, of these files, one.
USUAL = [
    "-k",
    "not collector",
    "tests/test_gevent_hub.py",
    "tests/test_gevent_loops.py",
    "tests/test_import.py",
    "tests/test_pool.py",
    "tests/test_threads_fork.py",
    "tests/test_tls_context.py",
]


class Python(NamedTuple):
    version: str  # as in "3.12"
    program: str


def found() -> list[Python]:
    """The CPythons of this machine, one for each version."""
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
            print(f"CPython {name} is not here, and left out")
    return list(pythons.values())


def describe(program: str) -> str:
    """As in "cpython 3.12"; empty where it does not run, as pyenv's stand-ins for what is not chosen."""
    code = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    return subprocess.run([program, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def oldest_gevents() -> list[str]:
    """What pyproject.toml asks for at least, as exact requirements; pip goes by their markers."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return [f"gevent=={version}{marker}" for version, marker in re.findall(r'"gevent>=([\d.]+)(; [^"]+)"', text)]


def run(*command: str) -> None:
    # Whatever the caller's environment says of paths, the tests are to see the wheel.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    subprocess.run(command, cwd=ROOT, check=True, env=environment)


def prepare(python: Python, wheel: Path) -> str:
    """A new environment with the wheel and what the tests need; its interpreter."""
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
    run(program, "-m", "pytest", "-p", "no:cacheprovider", *(arguments or USUAL))


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
