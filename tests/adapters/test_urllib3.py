"""urllib3 on our engine: each case has the same outcome as with urllib3's own connections.

urllib3 itself runs in a native thread, where it may block, against the same scripts.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import socket
import ssl
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import brotli
import gevent
import gevent.socket
import pytest
import requests
import urllib3
from gevent.event import Event
from urllib3.contrib.socks import SOCKSProxyManager as Theirs
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    EmptyPoolError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
    UnrewindableBodyError,
)

from geventhttpclient.adapters import urllib3 as ours
from tests.conftest import Nginx, TlsNginx
from tests.support.certificates import PASSWORD, Certificates
from tests.support.hub import attempt, in_thread, until
from tests.support.peer import Conn, Peer, Script, serve_ok
from tests.support.ports import free_port
from tests.support.proxies import microsocks, tinyproxy, tunnelling
from tests.support.scripted import saying, saying_then_closing

pytestmark = pytest.mark.usefixtures("bounded")

Call = Callable[[Any, str], Any]


# -------------------------------------------------------------------------------------------------- case by case


def reply(body: bytes = b"ok", *lines: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def chunked(*pieces: bytes, lines: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{lines}\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def moved(where: str, status: str = "302 Found") -> bytes:
    return reply(b"moved", f"Location: {where}", status=status)


@dataclass
class Case:
    """A call with a manager and the URL of a peer that plays `scripts`."""

    name: str
    scripts: tuple[Script, ...]
    call: Call
    options: dict[str, Any] = field(default_factory=dict)
    # The number of connections may differ, since the engine replaces a dead one by itself.
    same_requests: bool = True


def whole(response: Any) -> Any:
    """Returns everything that a program may read from a response."""
    return {
        "status": response.status,
        "reason": response.reason,
        "version": response.version,
        "headers": list(response.headers.items()),
        "data": response.data,
        "url": response.url,
        "closed": response.closed,
        "isclosed": response.isclosed(),
        "tell": response.tell(),
        "left": response.length_remaining,
        "chunked": response.chunked,
        "again": response.read(),
        "connection": response.connection,
        "history": [(h.method, h.status, h.redirect_location) for h in response.retries.history],
        "total": response.retries.total,
    }


def asking(method: str = "GET", target: str = "/page", **kw: Any) -> Call:
    return lambda http, url: whole(http.request(method, url + target, **kw))


def streamed(read: Callable[[Any], Any], **kw: Any) -> Call:
    """Returns a call that passes a response without a preloaded body to `read`, and returns the result and the state of
    the response."""

    def call(http: Any, url: str) -> Any:
        response = http.request("GET", url + "/stream", preload_content=False, **kw)
        got = read(response)
        state = (response.closed, response.isclosed(), response.length_remaining, response.connection is None)
        response.close()
        response.release_conn()
        return got, state

    return call


def into(response: Any) -> bytes:
    buffer = bytearray(3)
    return bytes(buffer[: response.readinto(buffer)]) + bytes(buffer[: response.readinto(buffer)])


def closing_at_once(conn: Conn) -> None:
    conn.read_request()


def resetting(conn: Conn) -> None:
    conn.read_request()
    conn.reset()


def silent(conn: Conn) -> None:
    conn.read_request()
    conn.wait_closed()


def stalling(conn: Conn) -> None:
    conn.read_request()
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    conn.wait_closed()


TEXT = b"The quick brown fox.\n" * 200
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
CUT_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
BAD_CHUNK = CUT_CHUNKED + b"what\r\n"
FEW = {"retries": urllib3.Retry(2, status_forcelist=[503], backoff_factor=0)}


def raising(error: BaseException) -> bytes:
    raise error


def twice(http: Any, url: str) -> Any:
    return [whole(http.request("GET", f"{url}/{number}")) for number in range(2)]


def unread_then_again(http: Any, url: str) -> Any:
    response = http.request("GET", url + "/1", preload_content=False)
    first = response.read(2)
    response.drain_conn()
    response.release_conn()
    return first, whole(http.request("GET", url + "/2"))


def released_unread(http: Any, url: str) -> Any:
    """Releases a connection with an unread body, which must not be used for the next request."""
    response = http.request("GET", url + "/1", preload_content=False)
    response.release_conn()
    return whole(http.request("GET", url + "/2")), response.status


def of_pool(http: Any, url: str) -> Any:
    pool = http.connection_from_url(url)
    answer = pool.urlopen("GET", "/pool path?q=ä")
    same = http.connection_from_host(pool.host, pool.port, "http")
    return answer.data, pool.num_requests, pool.num_connections, same is pool, str(pool), pool.pool.qsize()


def cases() -> Iterator[Case]:
    ok = saying(*[reply()] * 9)
    yield Case("get", (ok,), asking())
    yield Case("get with fields", (ok,), asking(fields={"a": "1 2", "ü": "&"}))
    yield Case("double slash", (ok,), asking(target="//two//slashes"))
    yield Case("to be encoded", (ok,), asking(target="/a b/../c?d=é#e"))
    yield Case("no path", (ok,), asking(target="?only=query"))
    yield Case("form", (ok,), asking("POST", fields={"a": "1 2"}, encode_multipart=False))
    yield Case(
        "multipart",
        (ok,),
        asking("POST", fields={"a": "1", "f": ("n.txt", b"data", "text/plain")}, multipart_boundary="edge"),
    )
    yield Case("json", (ok,), asking("POST", json={"ä": [1, None]}))
    yield Case("bytes", (ok,), asking("PUT", body=b"\x00\xff"))
    yield Case("text", (ok,), asking("PUT", body="grün"))
    yield Case("bytearray", (ok,), asking("PUT", body=bytearray(b"abc")))
    yield Case("a file", (ok,), lambda http, url: whole(http.request("PUT", url, body=io.BytesIO(TEXT))))
    yield Case("a text file", (ok,), lambda http, url: whole(http.request("PUT", url, body=io.StringIO("grün"))))
    yield Case("an iterator", (ok,), lambda http, url: whole(http.request("PUT", url, body=iter([b"a", b"", b"bc"]))))
    yield Case("an iterator that is counted", (ok,), lambda http, url: whole(
        http.request("PUT", url, body=iter([b"a", b"bc"]), headers={"Content-Length": "3"})
    ))  # fmt: skip
    yield Case("chunked upload", (ok,), asking("PUT", body=b"abc", chunked=True))
    yield Case("no body", (ok,), asking("POST"))
    yield Case("no body, other method", (ok,), asking("PROPFIND"))
    yield Case("delete", (ok,), asking("DELETE"))
    yield Case("head", (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),), asking("HEAD"))
    yield Case("204", (saying(b"HTTP/1.1 204 No Content\r\n\r\n"),), asking())
    yield Case("304", (saying(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),), asking())
    yield Case("404", (saying(reply(status="404 Not Found")),), asking())
    yield Case("no reason", (saying(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),), asking())
    yield Case("100 first", (saying(b"HTTP/1.1 100 Continue\r\n\r\n" + reply()),), asking())
    yield Case("headers", (ok,), asking(headers={"X-One": "1", "Accept-Encoding": "gzip", "User-Agent": "me"}))
    yield Case("own host", (ok,), asking(headers={"Host": "example.test"}))
    yield Case("no user agent", (ok,), asking(headers={"User-Agent": urllib3.util.SKIP_HEADER}))
    yield Case("nothing of a kind", (ok,), asking(headers={"Accept": urllib3.util.SKIP_HEADER}))
    lines = urllib3.HTTPHeaderDict([("X", "1"), ("X", "2"), ("accept-encoding", urllib3.util.SKIP_HEADER)])
    yield Case("several of a name, none of another", (ok,), asking(headers=lines))
    yield Case("number as value", (ok,), asking(headers={"X-Number": 7}))
    yield Case("urlopen", (ok,), lambda http, url: whole(http.urlopen("GET", url)), {"headers": {"X-Two": "2"}})
    yield Case("headers of the manager", (ok,), asking(), {"headers": {"X-Two": "2"}})
    several = urllib3.HTTPHeaderDict([("X", "1"), ("X", "2")])
    yield Case("several of a name", (ok,), asking(headers=several))
    yield Case("bad header", (ok,), asking(headers={"X": "a\r\nb"}))
    yield Case("repeated fields", (saying(reply(b"", "Set-Cookie: a=1", "X: y", "set-cookie: b=2")),), asking())
    yield Case("until close", (saying_then_closing(b"HTTP/1.1 200 OK\r\n\r\nall of it"),), asking())
    yield Case("1.0", (saying_then_closing(b"HTTP/1.0 200 OK\r\n\r\nall of it"),), asking())
    yield Case("connection: close", (saying_then_closing(reply(b"x", "Connection: close")), ok), twice)
    yield Case("kept alive", (ok,), twice)
    yield Case("dead when used again", (saying_then_closing(reply(b"1")), ok), lambda http, url: [
        http.request("GET", f"{url}/{number}").data for number in range(2)
    ])  # fmt: skip
    yield Case("pool", (ok,), of_pool)

    # Codings.
    deflate = zlib.compressobj(wbits=-15)
    codings = {
        "gzip": gzip.compress(TEXT),
        "x-gzip": gzip.compress(TEXT),
        "deflate": zlib.compress(TEXT),
        "deflate ": deflate.compress(TEXT) + deflate.flush(),
        "br": brotli.compress(TEXT),
        "gzip, br": brotli.compress(gzip.compress(TEXT)),
        "unheard-of": TEXT,
        "GZIP": b"not gzip at all",
    }
    for coding, body in codings.items():
        answer = reply(body, f"Content-Encoding: {coding.strip()}")
        name = repr(coding)
        yield Case(f"{name}", (saying(answer),), asking(retries=False))
        yield Case(f"{name} as it is", (saying(answer),), asking(decode_content=False))
        yield Case(f"{name} streamed", (saying(answer),), streamed(lambda r: list(r.stream(100))))
        yield Case(f"{name} by pieces", (saying(answer),), streamed(lambda r: [r.read(7), r.read(2000), r.read()]))
    packed = gzip.compress(TEXT)
    answer = chunked(packed[:20], packed[20:], lines="Content-Encoding: gzip\r\n")
    yield Case("gzip in chunks", (saying(answer),), asking())
    yield Case("gzip in chunks streamed", (saying(answer),), streamed(
        lambda r: b"".join(r.stream(50, decode_content=True))
    ))  # fmt: skip

    # Reading.
    for name, answer in (("counted", reply(TEXT)), ("chunks", chunked(TEXT[:50], TEXT[50:]))):
        script = saying(answer)
        yield Case(f"{name}: read", (script,), streamed(lambda r: r.read()))
        yield Case(
            f"{name}: read in parts", (script,), streamed(lambda r: [r.read(10), r.read(0), r.read(9), r.read()])
        )
        yield Case(f"{name}: all but one", (script,), streamed(lambda r: r.read(len(TEXT) - 1)))
        yield Case(f"{name}: to the end", (script,), streamed(lambda r: r.read(len(TEXT))))
        yield Case(f"{name}: beyond the end", (script,), streamed(lambda r: [r.read(len(TEXT) + 1), r.read(1)]))
        yield Case(f"{name}: some of it", (script,), streamed(lambda r: r.read(5)))
        yield Case(f"{name}: negative", (script,), streamed(lambda r: r.read(-1)))
        yield Case(f"{name}: data", (script,), streamed(lambda r: [r.data, r.data]))
        yield Case(f"{name}: stream", (script,), streamed(lambda r: b"".join(r.stream(64))))
        yield Case(f"{name}: lines", (script,), streamed(list))
        yield Case(f"{name}: readinto", (script,), streamed(into))
        yield Case(f"{name}: read1", (script,), streamed(lambda r: [r.read1(5), r.read1(0), r.read1(7)]))
        yield Case(f"{name}: drained", (script,), streamed(lambda r: r.drain_conn()))
        yield Case(f"{name}: closed", (script,), streamed(lambda r: r.close()))
        yield Case(f"{name}: wrapped", (script,), streamed(lambda r: io.BufferedReader(r).readline()))
        yield Case(f"{name}: then another", (saying(answer, reply()),), unread_then_again)
    yield Case("released unread", (saying(reply(TEXT * 5000)), ok), released_unread, FEW)
    yield Case("chunks: read_chunked", (saying(chunked(b"abc")),), streamed(lambda r: list(r.read_chunked())))
    yield Case("not chunked", (saying(reply()),), streamed(lambda r: list(r.read_chunked())))
    yield Case("nothing streamed", (saying(reply(b"")),), streamed(lambda r: list(r.stream())))
    yield Case("json read", (saying(reply(b'{"a": [1]}')),), lambda http, url: http.request("GET", url).json())
    yield Case("as a file", (saying(reply(TEXT)),), lambda http, url: io.TextIOWrapper(
        http.request("GET", url, preload_content=False)
    ).readline())  # fmt: skip

    # Redirects.
    yield Case("redirect", (saying(moved("/there"), reply()),), asking())
    yield Case("redirect to an URL", (saying(moved("../there?x=1#f"), reply()),), asking(target="/a/b/c"))
    yield Case("303", (saying(moved("/there", "303 See Other"), reply()),), asking("POST", body=b"x"))
    yield Case("307", (saying(moved("/there", "307 Temporary Redirect"), reply()),), asking("PUT", body=b"x"))
    yield Case("307 of a file", (saying(moved("/there", "307 Temporary Redirect"), reply()),), lambda http, url: whole(
        http.request("PUT", url, body=io.BytesIO(b"again"))
    ))  # fmt: skip
    yield Case("not followed", (saying(moved("/there")),), asking(redirect=False))
    yield Case("redirect, no retries", (saying(moved("/there"), reply()),), asking(retries=False))
    yield Case("for ever", (saying(*[moved("/on")] * 9),), asking())
    yield Case("for ever, returned", (saying(*[moved("/on")] * 9),), asking(
        retries=urllib3.Retry(redirect=2, raise_on_redirect=False)
    ))  # fmt: skip
    yield Case("no location", (saying(reply(status="302 Found")),), asking())

    # Retries.
    busy = reply(b"busy", status="503 Service Unavailable")
    later = reply(b"later", "Retry-After: 0", status="503 Service Unavailable")
    yield Case("503", (saying(busy),), asking())
    yield Case("503 once", (saying(busy, reply()),), asking(), FEW)
    yield Case("503 always", (saying(*[busy] * 9),), asking(), FEW)
    yield Case("503 always, returned", (saying(*[busy] * 9),), asking(
        retries=urllib3.Retry(2, status_forcelist=[503], raise_on_status=False)
    ))  # fmt: skip
    yield Case("503 of a POST", (saying(busy, reply()),), asking("POST", **FEW))
    yield Case("retry-after", (saying(later, reply()),), asking())
    yield Case("bad retry-after", (saying(reply(b"", "Retry-After: x", status="503 Busy"), reply()),), asking())
    yield Case("closed once", (closing_at_once, ok), asking(), same_requests=True)
    yield Case("closed always", (closing_at_once,), asking(**FEW))
    yield Case("closed, no retries", (closing_at_once,), asking(retries=False))
    yield Case("closed, a POST", (closing_at_once,), asking("POST", body=b"x"))
    yield Case("reset", (resetting,), asking(retries=0))
    yield Case("reset once", (resetting, ok), asking(retries=1))
    yield Case("garbage", (saying_then_closing(b"SSH-2.0-OpenSSH\r\n\r\n"),), asking(retries=False))
    yield Case("garbage with retries", (saying_then_closing(b"SSH-2.0-OpenSSH\r\n\r\n"),), asking(retries=1))

    # Truncated and invalid bodies.
    for name, answer in (("cut", CUT), ("cut chunks", CUT_CHUNKED), ("bad chunk", BAD_CHUNK)):
        script = saying_then_closing(answer)
        yield Case(name, (script,), asking(retries=False))
        yield Case(f"{name}: read", (script,), streamed(lambda r: r.read()))
        yield Case(f"{name}: read some", (script,), streamed(lambda r: [r.read(5), r.read(5)]))
        yield Case(f"{name}: stream", (script,), streamed(lambda r: list(r.stream(3))))
        yield Case(f"{name}: drained", (script,), streamed(lambda r: r.drain_conn()))
    lenient = {"enforce_content_length": False}
    yield Case("cut, not enforced", (saying_then_closing(CUT),), streamed(lambda r: list(r.stream(4)), **lenient))
    yield Case("cut, not enforced, at once", (saying_then_closing(CUT),), asking(retries=False, **lenient))

    # Timeouts.
    yield Case("head too late", (silent,), asking(retries=False, timeout=0.05))
    yield Case("head too late, retried", (silent,), asking(retries=1, timeout=urllib3.Timeout(read=0.05)))
    yield Case("head too late in all", (silent,), asking(retries=False, timeout=urllib3.Timeout(total=0.05)))
    yield Case("body too late", (stalling,), asking(retries=False, timeout=0.05))
    yield Case("body too late, streamed", (stalling,), streamed(lambda r: r.read(), timeout=0.05))
    yield Case("timeout of the manager", (silent,), asking(), {"timeout": 0.05, "retries": False})
    yield Case("bad timeout", (ok,), asking(timeout=-1))

    # Errors before anything is sent.
    yield Case("bad URL", (ok,), lambda http, url: http.request("GET", "http://[::1"))
    yield Case("bad port", (ok,), lambda http, url: http.request("GET", "http://host:99999/"))
    yield Case("unknown scheme", (ok,), lambda http, url: http.request("GET", "gopher://host/"))
    yield Case("no host", (ok,), lambda http, url: http.request("GET", "http:///path"))
    yield Case("other host", (ok,), lambda http, url: http.connection_from_url(url).urlopen("GET", "http://other/"))
    yield Case("body and json", (ok,), asking("POST", body=b"x", json={}))
    yield Case("no body", (ok,), asking("PUT", body=7))
    yield Case("body that times out", (ok,), lambda http, url: whole(
        http.request("PUT", url, body=(raising(TimeoutError()) for _ in "x"), retries=False)
    ), same_requests=False)  # fmt: skip
    yield Case("body that fails", (ok,), lambda http, url: whole(
        http.request("PUT", url, body=(1 // 0 for _ in "x"), retries=False)
    ), same_requests=False)  # fmt: skip


CASES = list(cases())


def said(error: BaseException | None) -> list[str]:
    """Returns the names of the classes of an error and of its causes."""
    if error is None:
        return []
    inner = getattr(error, "reason", None) or getattr(error, "original_error", None)
    if not isinstance(inner, BaseException):
        inner = next((part for part in error.args if isinstance(part, BaseException)), None)
    names = {"HTTPParseError": "BadStatusLine"}
    return [names.get(type(error).__name__, type(error).__name__), *said(inner)]


def without_port(value: Any, port: int) -> Any:
    return json.loads(json.dumps(value, default=repr).replace(str(port), "PORT"))


def outcome(manager: type[Any], case: Case, run: Callable[[Callable[[], Any]], Any]) -> Any:
    """Returns the outcome of a case, and the requests that the peer received."""
    with Peer(*case.scripts) as peer, closing(Closed(manager(maxsize=2, **case.options))) as http:

        def call() -> Any:
            try:
                return case.call(http.manager, peer.url)
            except Exception as error:
                return ["raised", *said(error)]

        result = run(call)
        asked = [(r.method, r.target, sorted(r.fields), r.body) for r in peer.requests] if case.same_requests else None
        return without_port((result, asked), peer.port)


class Closed:
    """Context manager of a manager, whose pools are closed at the end."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager

    def close(self) -> None:
        for pool in [self.manager.pools[key] for key in self.manager.pools.keys()]:  # noqa: SIM118
            pool.close()
        self.manager.clear()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_outcome_equals_that_of_urllib3(case: Case) -> None:
    expected = outcome(urllib3.PoolManager, case, in_thread)
    assert outcome(ours.PoolManager, case, lambda call: call()) == expected


def test_gzip_of_several_members_is_complete() -> None:
    # urllib3 2.8 yields too many bytes when it streams them.
    answer = reply(gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]), "Content-Encoding: gzip")
    with Peer(saying(answer, answer)) as peer, ours.PoolManager() as http:
        assert http.request("GET", peer.url).data == TEXT
        assert b"".join(http.request("GET", peer.url, preload_content=False).stream(100)) == TEXT


def test_truncated_gzip_raises() -> None:
    # urllib3 returns the truncated body as if it were complete, except for zstd.
    answer = reply(gzip.compress(TEXT)[:30], "Content-Encoding: gzip")
    with Peer(saying(answer)) as peer, ours.PoolManager() as http, pytest.raises(DecodeError, match="gzip"):
        http.request("GET", peer.url)


def test_connect_errors_have_the_texts_of_urllib3(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    refused = f"http://127.0.0.1:{free_port()}/"
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(gevent.socket, "getaddrinfo", unknown)
    for url, kind in ((refused, NewConnectionError), ("http://nowhere.test/", NameResolutionError)):
        texts = []
        for manager, run in ((urllib3.PoolManager, in_thread), (ours.PoolManager, lambda call: call())):
            if manager is urllib3.PoolManager and kind is NewConnectionError:
                continue  # urllib3 passes addresses to the resolver too
            with pytest.raises(MaxRetryError) as caught:
                run(lambda manager=manager, url=url: manager().request("GET", url, retries=1))
            assert type(caught.value.reason) is kind
            texts.append(str(caught.value.reason))
        assert len(set(texts)) == 1
        with pytest.raises(kind):
            ours.PoolManager().request("GET", url, retries=False)


def test_slow_resolver_raises_connect_timeout() -> None:
    def slow(*_: object) -> None:
        gevent.sleep(60)

    pool = ours.HTTPConnectionPool("nowhere.test", timeout=urllib3.Timeout(connect=0.02, read=5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gevent.socket, "getaddrinfo", slow)
        with pytest.raises(ConnectTimeoutError, match=r"connect timeout=0\.02"):
            pool.request("GET", "/", retries=False)
        with pytest.raises(MaxRetryError) as caught:
            pool.request("POST", "/", retries=1)
    assert type(caught.value.reason) is ConnectTimeoutError
    assert pool.pool is not None
    assert pool.pool.qsize() == 1


# ------------------------------------------------------------------------------------------------- waits


@pytest.mark.parametrize("answer", [moved("/there", "307 Temporary Redirect"), reply(b"", status="503 Busy")])
def test_iterator_body_is_not_sent_twice(answer: bytes) -> None:
    retries = urllib3.Retry(2, status_forcelist=[503])
    with Peer(saying(answer, reply())) as peer, ours.PoolManager() as http:
        with pytest.raises(UnrewindableBodyError):
            http.request("PUT", peer.url, body=iter([b"abc"]), retries=retries)
        assert [request.body for request in peer.requests] == [b"abc"]


def test_dropped_response_frees_its_place() -> None:
    with Peer(stalling, serve_ok) as peer, ours.PoolManager(maxsize=1, block=True) as http:
        response = http.request("GET", peer.url, preload_content=False)
        assert response.read(2) == b"he"
        del response
        assert http.request("GET", peer.url + "/next", pool_timeout=1).data == b"/next"


def test_retry_pauses_are_cooperative() -> None:
    """Without monkey patching, time.sleep would stop the hub."""
    asked = Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(reply(b"later", "Retry-After: 60", status="503 Busy"))
        asked.set()
        conn.wait_closed()

    with Peer(script) as peer, ours.PoolManager() as http:
        greenlet = gevent.spawn(http.request, "GET", peer.url)
        assert asked.wait(10)
        with gevent.Timeout(5):
            gevent.sleep(0.01)
            greenlet.kill()
        assert isinstance(greenlet.value, gevent.GreenletExit)
        assert http.connection_from_url(peer.url).pool.qsize() == 1


def test_retry_subclasses_pause_cooperatively(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(urllib3.Retry):
        def get_backoff_time(self) -> float:
            return 0.25 if self.history else 0.0

    paused: list[float] = []
    monkeypatch.setattr("gevent.sleep", paused.append)
    busy = reply(b"", status="503 Busy")
    later = reply(b"", "Retry-After: 3", status="503 Busy")
    with Peer(saying(busy, later, reply())) as peer, ours.PoolManager() as http:
        response = http.request("GET", peer.url, retries=Own(5, status_forcelist=[503]))
        assert paused == [0.25, 3]
        assert isinstance(response.retries, Own)
        assert type(response.retries).__name__ == "Own"
        assert (response.retries.total, len(response.retries.history)) == (3, 2)


def test_fifty_greenlets_share_two_connections() -> None:
    with Peer() as peer, ours.PoolManager(maxsize=2, block=True) as http:
        greenlets = [gevent.spawn(http.request, "GET", f"{peer.url}/{number}") for number in range(50)]
        gevent.joinall(greenlets, raise_error=True)
        assert [greenlet.value.data for greenlet in greenlets] == [b"/%d" % number for number in range(50)]
        assert len(peer.conns) == 2
        assert http.connection_from_url(peer.url).num_connections == 2


def test_pool_without_block_opens_more_and_does_not_keep_them() -> None:
    ready, go = Event(), Event()

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if len(peer.requests) == 50:
                ready.set()
            go.wait()
            conn.respond(request.target.encode())

    with Peer(script) as peer, ours.PoolManager(maxsize=2) as http:
        greenlets = [gevent.spawn(http.request, "GET", f"{peer.url}/{number}") for number in range(50)]
        assert ready.wait(10)
        go.set()
        gevent.joinall(greenlets, raise_error=True)
        assert [greenlet.value.data for greenlet in greenlets] == [b"/%d" % number for number in range(50)]
        until(lambda: peer.open_now == 2)
        assert http.connection_from_url(peer.url).pool.qsize() == 2


def test_exhausted_pool_raises_empty_pool_error() -> None:
    with Peer(silent) as peer, ours.PoolManager(maxsize=1, block=True) as http:
        greenlet = gevent.spawn(http.request, "GET", peer.url)
        until(lambda: peer.requests)
        with pytest.raises(EmptyPoolError):
            http.request("GET", peer.url, pool_timeout=0.01)
        waiting = gevent.spawn(http.request, "GET", peer.url)
        gevent.idle()
        waiting.kill()
        greenlet.kill()
        assert http.connection_from_url(peer.url).pool.qsize() == 1


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [gevent.GreenletExit, KeyboardInterrupt, Stop, gevent.Timeout])
@pytest.mark.parametrize("script", [silent, stalling])
@pytest.mark.parametrize("preload", [True, False])
def test_thrown_exception_is_raised_and_leaves_nothing_behind(
    error: type[BaseException], script: Script, preload: bool
) -> None:
    caught: list[BaseException] = []

    def work(http: Any, url: str) -> None:
        try:
            http.request("GET", url, preload_content=preload).read()
        except BaseException as thrown:
            caught.append(thrown)

    with Peer(script, serve_ok) as peer, ours.PoolManager(maxsize=1, block=True) as http:
        greenlet = gevent.spawn(work, http, peer.url)
        until(lambda: peer.requests)
        gevent.idle()
        given = error()
        greenlet.kill(given)
        assert caught == [given]
        assert peer.conns[0].hung_up.wait(10)
        assert http.request("GET", peer.url + "/again", pool_timeout=1).data == b"/again"


@pytest.mark.parametrize(
    "read", [lambda r: r.read(), lambda r: r.read1(), lambda r: list(r.stream())], ids=["read", "read1", "stream"]
)
def test_shutdown_ends_a_waiting_read(read: Callable[[Any], Any]) -> None:
    with Peer(stalling) as peer, ours.PoolManager() as http:
        response = http.request("GET", peer.url, preload_content=False)
        response.read(5)
        greenlet = gevent.spawn(attempt, lambda: read(response))
        gevent.idle()
        response.shutdown()
        greenlet.join()
        assert isinstance(greenlet.value, ProtocolError)
        assert peer.conns[0].hung_up.wait(10)
        with pytest.raises(RuntimeError):
            response.shutdown()


def test_dropped_unread_response_closes_its_connection() -> None:
    with Peer(stalling) as peer, ours.PoolManager() as http:
        response = http.request("GET", peer.url, preload_content=False)
        assert response.read(2) == b"he"
        del response
        assert peer.conns[0].hung_up.wait(10)


def test_clear_closes_idle_connections_and_the_manager_stays_usable() -> None:
    with Peer() as peer:
        with ours.PoolManager() as http:
            kept = http.request("GET", peer.url)
        assert peer.conns[0].hung_up.wait(10)
        assert (kept.data, kept.status, kept.tell()) == (b"/", 200, 1)
        assert http.request("GET", peer.url).data == b"/"
        pool = http.connection_from_url(peer.url)
        pool.close()
        with pytest.raises(urllib3.exceptions.ClosedPoolError):
            pool.request("GET", "/")


@pytest.mark.parametrize("preload", [True, False])
def test_large_bodies_are_complete_in_both_directions(nginx: Nginx, tls_nginx: TlsNginx, preload: bool) -> None:
    big = (tls_nginx.root / "big").read_bytes()
    with ours.PoolManager(ca_certs=str(tls_nginx.certificates.ca)) as http:
        response = http.request("GET", f"https://localhost:{tls_nginx.port}/big", preload_content=preload)
        data = response.data if preload else b"".join(response.stream(1 << 20))
        assert data == big
        assert response.tell() == len(big)

        def echo(conn: Conn) -> None:
            request = conn.read_request()
            assert request is not None
            conn.respond(request.body)

        with Peer(echo) as peer:
            assert http.request("POST", peer.url, body=io.BytesIO(big), preload_content=preload).data == big


# ------------------------------------------------------------------------------------------------------- by name


def test_credentials_are_not_sent_to_another_host() -> None:
    with Peer() as other:

        def script(conn: Conn) -> None:
            conn.read_request()
            conn.send(moved(f"http://localhost:{other.port}/there"))
            conn.wait_closed()

        with Peer(script) as peer, ours.PoolManager() as http:
            headers = {"Authorization": "Basic x", "Cookie": "a=1", "X-Other": "1"}
            assert http.request("GET", peer.url, headers=headers).data == b"/there"
        assert peer.requests[0].get("authorization") == "Basic x"
        assert [other.requests[0].get(name) for name in ("authorization", "cookie", "x-other")] == [None, None, "1"]


def test_response_attributes_can_be_assigned_and_may_be_missing() -> None:
    with Peer() as peer, ours.PoolManager() as http:
        response = http.request("GET", peer.url, preload_content=False)
        response.decode_content = False
        response.status = 299
        assert (response.decode_content, response.status, response.read()) == (False, 299, b"/")
        with pytest.raises(AttributeError, match="nothing"):
            response.nothing  # noqa: B018
        with pytest.raises(AttributeError):
            ours.HTTPResponse.__new__(ours.HTTPResponse).headers  # noqa: B018


def test_classes_are_subclasses_of_urllib3() -> None:
    with Peer() as peer, ours.PoolManager(num_pools=1) as http:
        response = http.request("GET", peer.url)
        assert isinstance(http, urllib3.PoolManager)
        assert isinstance(response, urllib3.HTTPResponse)
        assert isinstance(http.connection_from_url(peer.url), urllib3.HTTPConnectionPool)
        assert isinstance(response.headers, urllib3.HTTPHeaderDict)
        assert response.version_string == "HTTP/1.1"
        assert response.geturl() == "/"
        assert response.info() is response.headers
        with ours.connection_from_url(peer.url) as pool:
            assert pool.request("GET", "/pool").data == b"/pool"
        # The least recently used pool is removed.
        http.connection_from_host("localhost", peer.port)
        assert len(http.pools) == 1


def test_unknown_arguments_raise_type_error() -> None:
    with pytest.raises(TypeError, match="unheard_of"):
        ours.HTTPConnectionPool("localhost", unheard_of=1)
    with pytest.raises(TypeError):
        ours.PoolManager(unheard_of=1).connection_from_host("localhost")
    with pytest.warns(UserWarning, match="socket_options"):
        ours.HTTPConnectionPool("localhost", socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])


def test_connections_come_from_their_source_address() -> None:
    with Peer() as peer, ours.PoolManager(source_address=("127.0.0.1", 0)) as http:
        assert http.request("GET", peer.url).data == b"/"


def test_ipv6_host_is_sent_in_brackets() -> None:
    with Peer(family=socket.AF_INET6) as peer, ours.PoolManager() as http:
        assert http.request("GET", peer.url).data == b"/"
        assert peer.requests[0].get("host") == f"[::1]:{peer.port}"


def test_manager_is_shared_by_threads() -> None:
    with Peer() as peer, ours.PoolManager(maxsize=2, block=True) as http:

        def work() -> list[bytes]:
            return [http.request("GET", f"{peer.url}/{number}").data for number in range(20)]

        workers = [gevent.spawn(in_thread, work) for _ in range(4)]
        workers.append(gevent.spawn(work))
        gevent.joinall(workers, raise_error=True)
        assert all(worker.value == [b"/%d" % number for number in range(20)] for worker in workers)
        assert http.connection_from_url(peer.url).pool.qsize() == 2


def test_manager_can_be_used_by_requests() -> None:
    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *sizes: Any, **kw: Any) -> None:
            self.poolmanager = ours.PoolManager(num_pools=sizes[0], maxsize=sizes[1])

    answers = (moved("/there"), reply(b"{}", "Set-Cookie: a=1"), reply(gzip.compress(TEXT), "Content-Encoding: gzip"))
    with Peer(saying(*answers)) as peer, requests.Session() as session:
        session.mount("http://", Adapter())
        assert session.get(peer.url).json() == {}
        assert session.get(peer.url).content == TEXT
        assert peer.requests[2].get("cookie") == "a=1"


def test_changed_arguments_apply_to_new_pools() -> None:
    with Peer() as peer, ours.PoolManager(maxsize=1) as http:
        before = http.connection_from_url(peer.url)
        assert http.connection_from_url(peer.url) is before
        http.connection_pool_kw["maxsize"] = 3
        after = http.connection_from_url(peer.url)
        assert after is not before
        assert after.pool.qsize() == 3


# ----------------------------------------------------------------------------------------------------------- TLS


def tls_outcome(manager: type[Any], url: str, **options: Any) -> Any:
    try:
        with manager(retries=False, **options) as http:
            response = http.request("GET", url)
            return response.status, response.data if response.status != 400 else b""
    except Exception as error:
        return said(error)[:2]


def trusted(certificates: Certificates) -> dict[str, Any]:
    return {"ca_certs": str(certificates.ca)}


def fingerprint(certificates: Certificates) -> str:
    return hashlib.sha256(certificates.valid.der).hexdigest()


TLS: dict[str, tuple[str, Callable[[Certificates], dict[str, Any]]]] = {
    "good": ("valid", trusted),
    "TLS 1.2": ("tls12", trusted),
    "unknown authority": ("untrusted", trusted),
    "expired": ("expired", trusted),
    "of another host": ("elsewhere", trusted),
    "self-signed": ("self_signed", lambda c: {}),
    "unverified": ("untrusted", lambda c: {"cert_reqs": "CERT_NONE"}),
    "any name": ("elsewhere", lambda c: {**trusted(c), "assert_hostname": False}),
    "its own name": ("elsewhere", lambda c: {**trusted(c), "assert_hostname": "elsewhere.test"}),
    "no such name": ("valid", lambda c: {**trusted(c), "assert_hostname": "elsewhere.test"}),
    "server_hostname": ("elsewhere", lambda c: {**trusted(c), "server_hostname": "elsewhere.test"}),
    "fingerprint": ("untrusted", lambda c: {"cert_reqs": "CERT_NONE", "assert_fingerprint": "00" * 32}),
    "its fingerprint": ("valid", lambda c: {**trusted(c), "assert_fingerprint": fingerprint(c)}),
    "data": ("valid", lambda c: {"ca_cert_data": c.ca.read_text()}),
    "at least 1.3": ("tls12", lambda c: {**trusted(c), "ssl_minimum_version": ssl.TLSVersion.TLSv1_3}),
    "no such file": ("valid", lambda c: {"ca_certs": "/nowhere/ca.pem"}),
    "a context": ("valid", lambda c: {"ssl_context": ssl.create_default_context(cafile=str(c.ca))}),
    "a context without authorities": ("valid", lambda c: {"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}),
    "client": ("clients", lambda c: {**trusted(c), "cert_file": str(c.client.chain), "key_file": str(c.client.key)}),
    "client, one file": ("clients", lambda c: {**trusted(c), "cert_file": str(c.client_together)}),
    "client, password": (
        "clients",
        lambda c: {
            **trusted(c),
            "cert_file": str(c.client_encrypted.chain),
            "key_file": str(c.client_encrypted.key),
            "key_password": PASSWORD,
        },
    ),
    "no client": ("clients", trusted),
}


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("case", TLS)
def test_tls_outcome_equals_that_of_urllib3(tls_nginx: TlsNginx, case: str) -> None:
    name, options = TLS[case]
    url = f"https://localhost:{tls_nginx.ports[name]}/page"
    expected = tls_outcome(urllib3.PoolManager, url, **options(tls_nginx.certificates))
    assert tls_outcome(ours.PoolManager, url, **options(tls_nginx.certificates)) == expected


def test_unverified_host_causes_a_warning(tls_nginx: TlsNginx) -> None:
    with ours.PoolManager(cert_reqs="CERT_NONE") as http, pytest.warns(urllib3.exceptions.InsecureRequestWarning):
        http.request("GET", f"https://localhost:{tls_nginx.port}/page")


def test_wrong_fingerprint_fails_before_the_request(certificates: Certificates) -> None:
    options = {"ca_certs": str(certificates.ca), "assert_fingerprint": "00" * 32}
    with Peer(tls=certificates.valid.server()) as peer, ours.PoolManager(**options) as http:
        with pytest.raises(MaxRetryError) as caught:
            http.request("GET", f"https://localhost:{peer.port}", retries=0)
        assert isinstance(caught.value.reason, SSLError)
        assert peer.requests == []


# ------------------------------------------------------------------------------------------------------- proxies


def proxied(manager: type[Any], proxy: str, url: str, **options: Any) -> Any:
    try:
        with manager(proxy, retries=False, **options) as http:
            response = http.request("GET", url)
            return response.status, response.data
    except Exception as error:
        return said(error)


def test_real_proxy_forwards_and_tunnels(tmp_path: Path, nginx: Nginx, tls_nginx: TlsNginx) -> None:
    authorization = urllib3.make_headers(proxy_basic_auth="Aladdin:open sesame")
    trusts = trusted(tls_nginx.certificates)
    with closing(tinyproxy(tmp_path, "BasicAuth Aladdin open-sesame")) as proxy:
        for words in ("open-sesame", "wrong"):
            authorization = urllib3.make_headers(proxy_basic_auth=f"Aladdin:{words}")
            for url in (f"{nginx.url}/page", f"https://localhost:{tls_nginx.port}/page"):
                arguments = (f"http://{proxy.place}", url)
                options = {**trusts, "proxy_headers": authorization}
                expected = proxied(urllib3.ProxyManager, *arguments, **options)
                got = proxied(ours.ProxyManager, *arguments, **options)
                if words == "wrong" and url.startswith("http:"):
                    # A page of the proxy, which contains the time.
                    expected, got = expected[0], got[0]
                assert got == expected


def test_unreachable_proxy_raises_proxy_error() -> None:
    place = f"http://127.0.0.1:{free_port()}"
    for url in ("http://origin.test/", "https://origin.test/"):
        expected = proxied(urllib3.ProxyManager, place, url)
        assert expected == ["ProxyError", "NewConnectionError"]
        assert proxied(ours.ProxyManager, place, url) == expected
    with pytest.raises(MaxRetryError) as caught:
        ours.proxy_from_url(place).request("GET", "http://origin.test/", retries=1)
    assert isinstance(caught.value.reason, ProxyError)


def test_proxy_receives_absolute_form(certificates: Certificates) -> None:
    for tls in (None, certificates.valid.server()):
        with Peer(tls=tls) as peer:
            place = f"{'http' if tls is None else 'https'}://localhost:{peer.port}"
            asked = []
            for manager, run in ((urllib3.ProxyManager, in_thread), (ours.ProxyManager, lambda call: call())):
                with manager(place, proxy_headers={"X-Proxy": "1"}, **trusted(certificates)) as http:

                    def call(http: Any = http) -> None:
                        http.request("GET", "http://origin.test:81/a?b#c")
                        http.request("GET", "http://other.test/?d")

                    run(call)
                asked.append([(r.target, sorted(r.fields)) for r in peer.requests])
                peer.requests.clear()
            assert asked[0] == asked[1]
            assert [target for target, _ in asked[0]] == ["http://origin.test:81/a?b", "http://other.test/?d"]


def test_https_proxy_opens_tunnel_within_tls(certificates: Certificates, tls_nginx: TlsNginx) -> None:
    url = f"https://localhost:{tls_nginx.port}/page"
    with Peer(tunnelling, tls=certificates.valid.server()) as peer:
        place = f"https://localhost:{peer.port}"
        assert proxied(ours.ProxyManager, place, url, **trusted(certificates))[0] == 200
        assert [request.method for request in peer.requests] == ["CONNECT"]
        # The tests' certificate authority is not trusted by default.
        assert proxied(ours.ProxyManager, place, url) == ["ProxyError", "SSLError", "SSLCertVerificationError"]
        context = ssl.create_default_context(cafile=str(certificates.ca))
        got = proxied(ours.ProxyManager, place, url, proxy_ssl_context=context)
        assert got == ["SSLError", "SSLCertVerificationError"]


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_forwarding_for_https_sends_absolute_form(certificates: Certificates) -> None:
    with Peer(tls=certificates.valid.server()) as peer:
        options = {**trusted(certificates), "use_forwarding_for_https": True}
        url = "https://origin.test/a"
        assert proxied(ours.ProxyManager, f"https://localhost:{peer.port}", url, **options) == (200, url.encode())


def test_unsupported_tunnel_headers_raise() -> None:
    http = ours.ProxyManager("http://127.0.0.1:1", proxy_headers={"X-Proxy": "secret"})
    with pytest.raises(ValueError, match="X-Proxy") as caught:
        http.request("GET", "https://origin.test/")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("credentials", ["", "me:secret@", "me:wrong@"])
def test_socks_proxy_carries_requests(credentials: str, nginx: Nginx, tmp_path: Path) -> None:
    user = ("me", "secret") if credentials else ()
    with closing(microsocks(tmp_path, *user)) as proxy:
        url = f"{nginx.url}/page".replace("127.0.0.1", "localhost")
        for place, options in (
            (f"socks5h://{credentials}{proxy.place}", {}),
            (f"socks5h://{proxy.place}", {"username": "me", "password": credentials[3:-1]} if credentials else {}),
        ):
            expected = in_thread(lambda place=place, options=options: proxied(Theirs, place, url, **options))
            assert proxied(ours.SOCKSProxyManager, place, url, **options) == expected
            assert (expected == ["NewConnectionError"]) is (credentials == "me:wrong@")


def test_socks_manager_refuses_other_proxies() -> None:
    with pytest.raises(ValueError, match="socks") as caught:
        ours.SOCKSProxyManager("http://me:secret@localhost:1")
    assert "secret" not in str(caught.value)


def test_body_timeout_is_not_a_proxy_error() -> None:
    with Peer(stalling) as peer:
        expected = in_thread(lambda: proxied(urllib3.ProxyManager, peer.url, "http://origin.test/", timeout=0.05))
        assert proxied(ours.ProxyManager, peer.url, "http://origin.test/", timeout=0.05) == expected


# -------------------------------------------------------------------------------------------------- without urllib3


def test_package_without_urllib3_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys, geventhttpclient.useragent, geventhttpclient.httpx; sys.exit('urllib3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    monkeypatch.delitem(sys.modules, "geventhttpclient.adapters.urllib3")
    monkeypatch.setitem(sys.modules, "urllib3", None)
    with pytest.raises(ImportError, match="pip install 'urllib3>=2'"):
        importlib.import_module("geventhttpclient.adapters.urllib3")
