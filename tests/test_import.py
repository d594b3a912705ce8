"""What `import geventhttpclient` brings along, and what waits until it is asked for: in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import geventhttpclient

# What takes longest to import, and no plain client needs.
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
    """The modules that a statement imports in a program that has gevent already."""
    program = f"""
import gevent, json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    return set(json.loads(run(program)))


def test_the_package_alone_is_next_to_nothing() -> None:
    found = brought("import geventhttpclient")
    assert {name for name in found if name.startswith("geventhttpclient")} == {
        "geventhttpclient",
        "geventhttpclient._version",
    }
    assert not found & {"http.client", "email", "ssl", "socket", *HEAVY}


def test_a_client_brings_neither_agents_nor_sessions_nor_what_they_need() -> None:
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
def test_modules_are_there_without_being_imported(module: str) -> None:
    """Programs say `geventhttpclient.useragent.BadStatusCode` after `import geventhttpclient`."""
    assert run(f"import geventhttpclient as g; print(g.{module}.__name__)").strip() == f"geventhttpclient.{module}"


def test_a_module_may_be_patched_before_it_is_used() -> None:
    program = """
import geventhttpclient
geventhttpclient.client.ConnectionPool = type("Own", (geventhttpclient.client.ConnectionPool,), {})
print(type(geventhttpclient.HTTPClient("127.0.0.1")._connection_pool).__name__)
"""
    assert run(program).strip() == "Own"


def test_other_names_are_missing_in_the_usual_way() -> None:
    with pytest.raises(AttributeError, match="module 'geventhttpclient' has no attribute 'nonsense'"):
        geventhttpclient.nonsense  # noqa: B018
    assert not hasattr(geventhttpclient, "__wrapped__")
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        from geventhttpclient import nonsense  # noqa: F401
