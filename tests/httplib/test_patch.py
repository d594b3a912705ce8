"""patch(), patched() and unpatch() of httplib, and modules that use http.client."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import textwrap
import types
import urllib.request
import warnings
import xmlrpc.client
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gevent
import pytest

from geventhttpclient.httplib import patch, patched, unpatch
from tests.support.httplib import OURS, THEIRS, aside
from tests.support.hub import ROOT, until
from tests.support.peer import Conn, Peer, serve_ok

NAMES = ("HTTPConnection", "HTTPSConnection", "HTTPResponse")


def current() -> list[Any]:
    return [getattr(http.client, name) for name in NAMES]


OLD = [getattr(THEIRS, name) for name in NAMES]
NEW = [getattr(OURS, name) for name in NAMES]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Ignores the warning that this module has imported http.client's classes before patch()."""
    assert current() == OLD
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
    unpatch()


def run(program: str, *arguments: object) -> Any:
    """Returns the JSON that the program prints. It runs in a new interpreter, since the order of imports matters."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


# ------------------------------------------------------------------------------------------------------- there and back


def test_patch_is_undone_by_unpatch() -> None:
    patch()
    assert current() == NEW
    patch()
    assert current() == NEW
    unpatch()
    assert current() == OLD
    unpatch()
    assert current() == OLD


def test_patched_applies_within_its_block() -> None:
    with patched():
        assert current() == NEW
        with patched():
            assert current() == NEW
        # As before the inner block: this package's classes.
        assert current() == NEW
    assert current() == OLD
    patch()
    with patched():
        pass
    assert current() == NEW


def test_patched_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), patched():
        raise KeyError
    assert current() == OLD


def test_unpatch_keeps_the_classes_of_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign(http.client.HTTPConnection):
        pass

    patch()
    monkeypatch.setattr(http.client, "HTTPConnection", Foreign)
    unpatch()
    assert current() == [Foreign, *OLD[1:]]
    monkeypatch.undo()
    unpatch()


def test_classes_imported_before_patch_are_unchanged() -> None:
    class Late(OLD[1]):  # type: ignore[name-defined, misc]
        pass

    patch()
    for kind in (OLD[0], OLD[1], Late):
        connection = kind("a.test", timeout=5)
        assert (type(connection), connection.timeout) == (kind, 5)
    with aside(serve_ok) as peer, closing(OLD[0](peer.host, peer.port)) as connection:
        connection.request("GET", "/x")
        response = connection.getresponse()
        assert (type(response), response.read()) == (OLD[2], b"/x")


# ------------------------------------------------------------------------------------------------------------- too late


def test_modules_that_hold_the_old_classes_are_named() -> None:
    module = types.ModuleType("holding")
    module.Connection = OLD[0]  # type: ignore[attr-defined]
    derived = types.ModuleType("reexporting")
    derived.Derived = type("Derived", (OLD[1],), {"__module__": "deriving"})  # type: ignore[attr-defined]
    sys.modules.update(holding=module, reexporting=derived)
    try:
        with pytest.warns(RuntimeWarning, match=r"too late.*\bderiving\b.*\bholding\b"):
            patch()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            patch()
    finally:
        del sys.modules["holding"], sys.modules["reexporting"]


def test_modules_are_searched_without_calling_their_objects() -> None:
    class Touchy(type):
        def __getattr__(cls, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

    class Lazy:
        @property
        def __class__(self) -> Any:
            raise AssertionError("asked for its class")

    module: Any = types.ModuleType("touchy")
    module.alias, module.kind, module.lazy = list[int], Touchy("Kind", (), {}), Lazy()
    sys.modules["touchy"] = module
    try:
        patch()
    finally:
        del sys.modules["touchy"]


def test_patch_before_imports_does_not_warn() -> None:
    said = run("""
        import json, sys, urllib.request, xmlrpc.client
        import geventhttpclient.httplib as httplib
        httplib.patch()
        import http.client
        import http.server
        class Derived(http.client.HTTPSConnection): pass
        print(json.dumps([issubclass(Derived, httplib.HTTPSConnection), Derived("a.test").port]))
    """)
    assert said == [True, 443]


def test_patch_names_each_module_once() -> None:
    said = run("""
        import json, sys, types, warnings
        from http.client import HTTPConnection
        import geventhttpclient.httplib as httplib
        module = types.ModuleType("early")
        module.One = module.Two = HTTPConnection
        sys.modules["early"] = module
        del HTTPConnection
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            httplib.patch()
            httplib.patch()
        print(json.dumps([[w.category.__name__, str(w.message), w.filename] for w in caught]))
    """)
    assert len(said) == 1
    assert said[0][0] == "RuntimeWarning"
    assert said[0][1].count("early") == 1
    assert said[0][2] == "<string>"


# --------------------------------------------------------------------------------------------------- via urllib.request


def rpc(conn: Conn) -> None:
    """Returns the name of the called method."""
    while request := conn.read_request():
        _, method = xmlrpc.client.loads(request.body)
        answer = xmlrpc.client.dumps((method,), methodresponse=True).encode()
        conn.respond(answer, headers=[("Content-Type", "text/xml")])


def turns_meanwhile(work: Any) -> tuple[Any, int]:
    """Returns the result of the call, and how often another greenlet ran during it."""
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0)
            turns += 1

    counter = gevent.spawn(count)
    try:
        return work(), turns
    finally:
        counter.kill()


@pytest.mark.usefixtures("bounded")
def test_urlopen_yields_to_other_greenlets() -> None:
    # The peer is a greenlet of the same hub: if the hub were blocked, there would be no response.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with Peer() as peer, patched():
        with opener.open(f"{peer.url}/x", timeout=10) as response:
            assert isinstance(response, OURS.HTTPResponse)
            assert (response.status, response.url, response.read()) == (200, f"{peer.url}/x", b"/x")
            assert response.headers is response.info()
        body, turns = turns_meanwhile(lambda: opener.open(f"{peer.url}/y").read())
        assert body == b"/y"
        assert turns
    assert [request.get("connection") for request in peer.requests] == ["close", "close"]


@pytest.mark.usefixtures("bounded")
def test_response_of_urlopen_outlives_the_patch() -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = b"x" * 1_000_000

    def large(conn: Conn) -> None:
        conn.read_request()
        conn.respond(body)

    with Peer(large) as peer:
        with patched():
            response = opener.open(peer.url)
        assert response.read() == body


@pytest.mark.usefixtures("bounded")
def test_urlopen_raises_urllib_errors() -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def gone(conn: Conn) -> None:
        conn.read_request()
        conn.respond(b"gone", "404 Not Found")

    def hang_up(conn: Conn) -> None:
        conn.read_request()

    with Peer(gone, hang_up) as peer, patched():
        with pytest.raises(urllib.request.HTTPError) as caught, opener.open(peer.url):
            pass
        with caught.value as error:
            assert (error.code, error.reason, error.read()) == (404, "Not Found", b"gone")
        with pytest.raises(http.client.RemoteDisconnected):
            opener.open(peer.url)
        peer.listener.close()
    with patched(), pytest.raises(urllib.request.URLError, match="refused"):
        opener.open(peer.url)


@pytest.mark.usefixtures("bounded")
def test_xmlrpc_yields_and_keeps_its_connection() -> None:
    with Peer(rpc) as peer, patched(), xmlrpc.client.ServerProxy(peer.url) as proxy:
        assert [proxy.one(), proxy.two(), proxy.system.three()] == ["one", "two", "system.three"]
        assert len(peer.conns) == 1


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("order", ["patch", "monkey, patch", "patch, monkey"])
def test_urlopen_runs_concurrently_with_and_without_monkey_patching(order: str) -> None:
    program = """
        import json, sys
        url, order = sys.argv[1:]
        for step in order.split(", "):
            if step == "monkey":
                import gevent.monkey
                gevent.monkey.patch_all()
            else:
                import geventhttpclient.httplib
                geventhttpclient.httplib.patch()
        import urllib.request
        import gevent, gevent.pool
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        def get(i):
            with opener.open(f"{url}/{i}", timeout=20) as response:
                return response.read().decode()
        print(json.dumps(gevent.pool.Pool(5).map(get, range(5))))
    """
    waiting: list[Conn] = []

    def together(conn: Conn) -> None:
        """Responds only after all requests have arrived."""
        request = conn.read_request()
        assert request is not None
        waiting.append(conn)
        until(lambda: len(waiting) == 5, 30)
        conn.respond(request.target.encode())

    with aside(together) as peer:
        assert run(program, peer.url, order) == [f"/{i}" for i in range(5)]
