"""Modules that `import geventhttpclient` imports, and those that it imports on first use, in fresh processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import geventhttpclient

# The modules that take longest to import, and that a plain client does not need.
HEAVY = {
    "asyncio",
    "certifi",
    "h2",
    "http.cookiejar",
    "httplib2",
    "httpx",
    "opentelemetry",
    "requests",
    "rich",
    "urllib.request",
    "urllib3",
}


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def brought(statement: str) -> set[str]:
    """Returns the modules that a statement imports in a program that has already imported gevent."""
    program = f"""
import gevent, json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    return set(json.loads(run(program)))


def test_package_alone_imports_almost_nothing() -> None:
    found = brought("import geventhttpclient")
    assert {name for name in found if name.startswith("geventhttpclient")} == {
        "geventhttpclient",
        "geventhttpclient._version",
    }
    assert not found & {"http.client", "email", "ssl", "socket", *HEAVY}


def test_client_imports_neither_agents_nor_sessions_nor_their_dependencies() -> None:
    found = brought("from geventhttpclient import HTTPClient, URL")
    ours = {name.partition(".")[2] for name in found if name.startswith("geventhttpclient.")}
    assert not ours & {"api", "cookies", "httplib", "httpx", "mock", "multipart", "requests", "useragent"}
    assert not found & HEAVY


@pytest.mark.parametrize("name", [name for name in geventhttpclient.__all__ if name != "__version__"])
def test_each_name_alone(name: str) -> None:
    where = (
        f"import geventhttpclient as g; print(g.{name}.__module__, g.{name} is vars(g)['{name}'], '{name}' in dir(g))"
    )
    module, kept, listed = run(where).split()
    assert module.startswith("geventhttpclient.")
    assert (kept, listed) == ("True", "True")


def test_all_names_at_once() -> None:
    assert run("from geventhttpclient import *; print(HTTPClient.__name__, get.__name__)").split() == [
        "HTTPClient",
        "get",
    ]


@pytest.mark.parametrize("module", ["client", "header", "requests", "response", "url", "useragent", "_parser"])
def test_modules_are_attributes_without_an_import(module: str) -> None:
    """Programs say `geventhttpclient.useragent.BadStatusCode` after `import geventhttpclient`."""
    assert run(f"import geventhttpclient as g; print(g.{module}.__name__)").strip() == f"geventhttpclient.{module}"


def test_module_may_be_patched_before_it_is_used() -> None:
    program = """
import geventhttpclient
geventhttpclient.client.ConnectionPool = type("Own", (geventhttpclient.client.ConnectionPool,), {})
print(type(geventhttpclient.HTTPClient("127.0.0.1")._connection_pool).__name__)
"""
    assert run(program).strip() == "Own"


def test_unknown_names_raise_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'geventhttpclient' has no attribute 'nonsense'"):
        geventhttpclient.nonsense  # noqa: B018
    assert not hasattr(geventhttpclient, "__wrapped__")
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        from geventhttpclient import nonsense  # noqa: F401


# ---------------------------------------------------------------- installed over version 2


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Makes a copy of the package in a directory from which programs can import it."""
    copy = tmp_path / "site" / "geventhttpclient"
    ours = Path(geventhttpclient.__file__).parent
    shutil.copytree(
        ours, copy, ignore=lambda _, names: [name for name in names if name.endswith((".so", "__pycache__"))]
    )
    for extension in ours.glob("_core*.so"):
        (copy / extension.name).symlink_to(extension)
    return copy


def importing(package: Path, statement: str) -> subprocess.CompletedProcess[str]:
    program = f"import geventhttpclient; assert geventhttpclient.__path__ == [{str(package)!r}]\n{statement}"
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    arguments = [sys.executable, "-c", program]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False, env=environment)


OTHER_PARSER = """
import sys, types
class HTTPResponseParser: pass
class HTTPParseError(Exception): pass
module = types.ModuleType("geventhttpclient._parser")
vars(module).update(HTTPResponseParser=HTTPResponseParser, HTTPParseError=HTTPParseError)
sys.modules["geventhttpclient._parser"] = module
"""

FACES = ["client", "httplib", "httplib2", "httpx", "requests", "adapters.requests", "response", "useragent"]


@pytest.mark.parametrize("face", FACES)
def test_parser_of_version_2_is_named_and_is_to_be_removed(face: str, package: Path) -> None:
    """Python prefers an extension module to a source; of version 2 there is one, whose classes do not go with ours."""
    left = package / f"_parser{EXTENSION_SUFFIXES[0]}"
    left.touch()
    (package / "_parser.pyi").touch()
    done = importing(package, f"{OTHER_PARSER}\nimport geventhttpclient.{face}")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: geventhttpclient 3"), done.stderr
    assert f"remove {left} and {package / '_parser.pyi'}" in last
    assert "lay-out" not in done.stderr


@pytest.mark.parametrize("suffix", EXTENSION_SUFFIXES)
def test_parser_that_cannot_be_loaded_is_named(suffix: str, package: Path) -> None:
    left = package / f"_parser{suffix}"
    left.write_bytes(b"no module")
    done = importing(package, "from geventhttpclient import HTTPClient")
    assert f"remove {left}" in done.stderr.splitlines()[-1]
    left.unlink()
    done = importing(package, "from geventhttpclient import HTTPClient")
    assert done.returncode == 0, done.stderr


def test_missing_parser_raises_the_original_error(package: Path) -> None:
    (package / "_parser.py").unlink()
    done = importing(package, "from geventhttpclient import HTTPClient")
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'geventhttpclient._parser'"


def test_other_files_of_version_2_do_no_harm(package: Path) -> None:
    """Its modules httplib and httpx are packages now, which Python prefers."""
    for name in ("httplib.py", "httpx.py"):
        (package / name).write_text("raise AssertionError('imported')")
    done = importing(package, "from geventhttpclient import *; import geventhttpclient.httplib, geventhttpclient.httpx")
    assert done.returncode == 0, done.stderr
