"""The requests adapter: each case has the same outcome as with requests' own adapter."""

from __future__ import annotations

import contextlib
import gc
import gzip
import importlib
import importlib.util
import io
import os
import pickle
import socket
import ssl
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import brotli
import gevent
import gevent.event
import gevent.socket
import pytest
import requests
import zstandard
from gevent.server import StreamServer
from requests import exceptions
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3 import PoolManager
from urllib3.exceptions import InsecureRequestWarning, ProtocolError, UnrewindableBodyError
from urllib3.util import SKIP_HEADER, Retry, Timeout

from geventhttpclient.adapters import urllib3 as urllib3_adapter
from geventhttpclient.adapters.requests import Adapter
from tests.conftest import Nginx, TlsNginx
from tests.support.certificates import Certificates
from tests.support.hub import until
from tests.support.ids import stable
from tests.support.peer import Conn, Peer, Script
from tests.support.proxies import dante, microsocks, tinyproxy, tunnelling
from tests.support.scripted import OK, answer, saying, saying_then_closing, settle, told
from tests.support.tls import hashed

pytestmark = pytest.mark.usefixtures("bounded")

Action = Callable[[requests.Session, str], Any]

# The package that requests needs for SOCKS, and this adapter does not.
SOCKS = importlib.util.find_spec("socks") is not None


def session_of(adapter: HTTPAdapter) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def outcome(adapter: HTTPAdapter, action: Action, url: str) -> Any:
    """Returns the value of an action, or the classes of the exception that it raised and of its causes in urllib3."""
    with session_of(adapter) as session:
        try:
            return action(session, url)
        except (exceptions.RequestException, OSError, ValueError, RuntimeError) as error:
            classes = [type(error).__name__]
            inner = error.args[0] if error.args else None
            if isinstance(inner, Exception) and not isinstance(inner, UnicodeError):
                classes.append(type(inner).__name__)
                reason = getattr(inner, "reason", None)
                classes.append(type(reason).__name__)
            return tuple(classes)


def natively(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a blocking function in a native thread, so that the peers of the test continue."""
    return gevent.get_hub().threadpool.apply(function, arguments)


def check_same(action: Action, *scripts: Script, **adapter: Any) -> Any:
    """Checks that both adapters have the same outcome and send the same requests. Returns the outcome."""
    with Peer(*scripts) as peer:
        wanted = natively(outcome, HTTPAdapter(**adapter), action, peer.url)
        asked = told(peer)
    with Peer(*scripts) as peer:
        found = outcome(Adapter(**adapter), action, peer.url)
        assert told(peer) == asked
    assert found == wanted
    return found


def facts(response: requests.Response) -> tuple[Any, ...]:
    """Returns everything in a response that can be compared."""
    content = response.content
    return (
        response.status_code,
        response.reason,
        content,
        sorted((name.lower(), value) for name, value in response.headers.items() if name.lower() != "date"),
        response.encoding,
        response.ok,
        sorted(response.cookies.items()),
        [each.status_code for each in response.history],
        response.is_redirect,
        response.raw.closed,
        # urllib3 does not count the bytes of a chunked body.
        None if response.raw.chunked else response.raw.tell(),
        response.raw.status,
        response.raw.reason,
        response.raw.version,
        dict(response.raw.headers).keys(),
    )


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


# ------------------------------------------------------------------------------------------------------------- requests


class NoLength:
    """A file whose length cannot be determined."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def read(self, n: int = -1) -> bytes:
        return self.file.read(n)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.file)


def file_at(position: int, data: bytes) -> io.BytesIO:
    file = io.BytesIO(data)
    file.seek(position)
    return file


REQUESTS: dict[str, Action] = {
    "get": lambda s, u: s.get(f"{u}/path?a=1&b=ü#fragment"),
    "two slashes": lambda s, u: s.get(f"{u}//x//y"),
    "no path": lambda s, u: s.get(f"{u}?query"),
    "non-ascii": lambda s, u: s.get(f"{u}/päth/☃"),
    "params": lambda s, u: s.get(u, params={"q": ["a b", "c&d"]}),
    "head": lambda s, u: s.head(u),
    "options": lambda s, u: s.options(u),
    "delete": lambda s, u: s.delete(u),
    "own method": lambda s, u: s.request("PURGE", u),
    "post nothing": lambda s, u: s.post(u),
    "post empty": lambda s, u: s.post(u, data=b""),
    "form": lambda s, u: s.post(u, data={"a": "1", "b": "ü"}),
    "json": lambda s, u: s.post(u, json={"a": [1, None, "ü"]}),
    "bytes": lambda s, u: s.put(u, data=bytes(range(256))),
    "text": lambda s, u: s.put(u, data="grün"),
    "multipart": lambda s, u: s.post(u, data=b"--b--", headers={"Content-Type": "multipart/form-data; boundary=b"}),
    "generator": lambda s, u: s.post(u, data=iter([b"one", b"", b"two"])),
    "generator of text": lambda s, u: s.post(u, data=(each for each in ["grün", "b"])),
    "file": lambda s, u: s.post(u, data=file_at(0, b"x" * 100_000)),
    "rest of a file": lambda s, u: s.post(u, data=file_at(5, b"0123456789")),
    "file of unknown length": lambda s, u: s.post(u, data=NoLength(b"x" * 70_000)),
    "basic": lambda s, u: s.get(u, auth=("user", "pass:word")),
    "user in url": lambda s, u: s.get(u.replace("://", "://me:secret@")),
    "host": lambda s, u: s.get(u, headers={"Host": "example.org"}),
    "bytes in headers": lambda s, u: s.get(u, headers={b"X-Bytes": b"v\xfc"}),  # type: ignore[dict-item]
    "latin-1 in headers": lambda s, u: s.get(u, headers={"X-Latin": "vü"}),
    "fields left out": lambda s, u: s.get(u, headers={"User-Agent": None, "Accept-Encoding": None, "Accept": None}),  # type: ignore[dict-item]
    "fields skipped": lambda s, u: s.get(u, headers={"User-Agent": SKIP_HEADER, "Accept-Encoding": SKIP_HEADER}),
    "cookies": lambda s, u: s.get(u, cookies={"a": "b", "c": "d"}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_the_same(name: str) -> None:
    action = REQUESTS[name]
    status, *_ = check_same(lambda s, u: facts(action(s, u)), saying(OK))
    assert status == 200


def test_open_file_is_sent_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1000)

    def action(session: requests.Session, url: str) -> Any:
        with path.open("rb") as file:
            file.seek(10)
            return session.post(url, data=file).content, file.tell()

    assert check_same(action, saying(OK)) == (b"ok", 10_000)


# ------------------------------------------------------------------------------------------------------------ responses

TEXT = "grün und blau ".encode() * 50
DEFLATER = zlib.compressobj(wbits=-15)
CODED = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "GZIP": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "br": brotli.compress(TEXT),
    "identity": TEXT,
    "unknown": TEXT,
    "gzip, br": brotli.compress(gzip.compress(TEXT)),
}
RESPONSES = {
    "plain": answer(b"body"),
    "empty": answer(),
    "text": answer("grün".encode("latin-1"), "200 OK", "Content-Type: text/plain"),
    "charset": answer(TEXT, "200 OK", "Content-Type: text/html; charset=utf-8"),
    "json": answer(b'{"a": 1}', "200 OK", "Content-Type: application/json"),
    "no reason": answer(b"x", "200 "),
    "own reason": answer(b"x", "404 Nothing Of The Kind"),
    "server error": answer(b"x", "500 No"),
    "fields of one name": answer(b"x", "200 OK", "X-A: 1", "x-a: 2", "X-B: 3", "Vary: a, b", "vary: c"),
    "cookies": answer(
        b"x", "200 OK", "Set-Cookie: a=b; Path=/", "Set-Cookie: c=d; Expires=Wed, 01 Jan 2031 00:00:00 GMT"
    ),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    "chunked": CHUNKED + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
    "chunked and empty": CHUNKED + b"0\r\n\r\n",
    "redirect without location": answer(b"x", "302 Found"),
    "refused with a body": answer(b"why", "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"'),
    **{f"coding {coding}": answer(data, "200 OK", f"Content-Encoding: {coding}") for coding, data in CODED.items()},
}


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_are_the_same(name: str) -> None:
    def action(session: requests.Session, url: str) -> Any:
        response = session.get(url)
        return facts(response), sorted(session.cookies.items()), response.text

    check_same(action, saying(RESPONSES[name]))


def streamed(use: Callable[[requests.Response], Any]) -> Action:
    def action(session: requests.Session, url: str) -> Any:
        with session.get(url, stream=True) as response:
            return use(response)

    return action


def decoded_file(response: requests.Response) -> bytes:
    response.raw.decode_content = True
    return bytes(response.raw.read())


STREAMS: dict[str, Callable[[requests.Response], Any]] = {
    "content": facts,
    "iter_content": lambda r: b"".join(r.iter_content(7)),
    "iter_content of text": lambda r: b"".join(r.iter_content(7, decode_unicode=True)),  # type: ignore[arg-type]
    "iter_content of all": lambda r: b"".join(r.iter_content(None)),
    "iteration": lambda r: b"".join(r),
    "iter_lines": lambda r: list(r.iter_lines()),
    "raw.read": lambda r: (r.raw.read(), r.raw.read(), r.raw.closed, r.raw.tell()),
    "raw.read(n)": lambda r: [r.raw.read(5), r.raw.read(5), r.raw.closed, r.raw.read(), r.raw.closed],
    "raw.read decoded": lambda r: (r.raw.read(decode_content=True), r.raw.tell()),
    "raw.decode_content": decoded_file,
    "raw.stream": lambda r: b"".join(r.raw.stream(10)),
    "raw.stream decoded": lambda r: b"".join(r.raw.stream(10, decode_content=True)),
    "raw.data": lambda r: r.raw.data,
    "raw lines": lambda r: list(r.raw),
    "raw.readinto": lambda r: (lambda b: (r.raw.readinto(b), bytes(b)))(bytearray(6)),
    "raw after close": lambda r: (r.close(), r.raw.closed, r.raw.read()),
    "raw.getheader": lambda r: (r.raw.getheader("Content-Encoding"), r.raw.headers.get("content-length")),
    "twice": lambda r: (r.content, r.content, list(r.iter_content(10_000))),
    "consumed": lambda r: (list(r.iter_content(10_000)), r.content),
}


@pytest.mark.parametrize("use", STREAMS)
@pytest.mark.parametrize("framing", ["counted", "chunked", "to the end", "gzip", "chunked gzip"])
def test_streamed_bodies_are_the_same(use: str, framing: str) -> None:
    data = gzip.compress(TEXT) if "gzip" in framing else b"line 1\nline 2\r\nline 3"
    coding = b"Content-Encoding: gzip\r\n" if "gzip" in framing else b""
    if "chunked" in framing:
        pieces = b"".join(b"%x\r\n%b\r\n" % (len(data[i : i + 9]), data[i : i + 9]) for i in range(0, len(data), 9))
        reply = b"HTTP/1.1 200 OK\r\n" + coding + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
    elif framing == "to the end":
        reply = b"HTTP/1.1 200 OK\r\n" + coding + b"\r\n" + data
    else:
        reply = b"HTTP/1.1 200 OK\r\n" + coding + b"Content-Length: %d\r\n\r\n" % len(data) + data
    check_same(streamed(STREAMS[use]), saying_then_closing(reply))


@pytest.mark.parametrize("how", ["iter_lines", "iter_content of all", "iter_content"])
def test_chunked_body_yields_a_piece_before_the_next_is_sent(how: str) -> None:
    seen = gevent.event.Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(CHUNKED + b"8\r\npiece 1\n\r\n")
        seen.wait()
        conn.send(b"8\r\npiece 2\n\r\n0\r\n\r\n")

    with Peer(script) as peer, session_of(Adapter()) as session, session.get(peer.url, stream=True) as response:
        pieces = {
            # requests holds the last line back until it knows that the line is complete.
            "iter_lines": lambda: response.iter_lines(chunk_size=7),
            "iter_content of all": lambda: response.iter_content(None),
            "iter_content": lambda: response.iter_content(100),
        }[how]()
        assert next(pieces).startswith(b"piece 1")
        seen.set()
        assert b"piece 2" in b"".join(pieces)


def test_zstd_is_decoded() -> None:
    reply = answer(zstandard.compress(TEXT), "200 OK", "Content-Encoding: zstd")
    with Peer(saying(reply, reply)) as peer, session_of(Adapter()) as session:
        assert session.get(peer.url).content == TEXT
        assert b"".join(session.get(peer.url, stream=True).iter_content(100)) == TEXT


def test_interim_response_is_skipped() -> None:
    with Peer(saying(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)) as peer, session_of(Adapter()) as session:
        assert session.get(peer.url).content == b"ok"


# --------------------------------------------------------------------------------------------------------------- errors

GET: Action = lambda s, u: facts(s.get(u))  # noqa: E731


def resetting(conn: Conn) -> None:
    conn.read_request()
    conn.reset()


def silent(conn: Conn) -> None:
    conn.wait_closed()


BROKEN: dict[str, Script] = {
    "closed at once": lambda conn: conn.close(),
    "closed after the request": saying_then_closing(b""),
    "reset": resetting,
    "not http": saying_then_closing(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "body cut": saying_then_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1234567"),
    "chunk cut": saying_then_closing(CHUNKED + b"a\r\n1234567"),
    "no last chunk": saying_then_closing(CHUNKED + b"7\r\n1234567\r\n"),
    "no chunk size": saying_then_closing(CHUNKED + b"zz\r\n1234567\r\n"),
    "not gzip": saying(answer(b"not gzip at all", "200 OK", "Content-Encoding: gzip")),
    "not br": saying(answer(b"not br at all", "200 OK", "Content-Encoding: br")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_response_raises_same_error_as_requests(name: str) -> None:
    class_, *_ = check_same(lambda s, u: s.get(u).content, BROKEN[name])
    assert class_ in ("ConnectionError", "ChunkedEncodingError", "ContentDecodingError")
    with (
        Peer(BROKEN[name]) as peer,
        session_of(Adapter()) as session,
        pytest.raises(exceptions.RequestException) as caught,
    ):
        session.get(peer.url)
    assert caught.value.request is not None
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("use", ["iter_content", "raw.read", "raw.read(n)", "raw.stream", "iter_lines"])
@pytest.mark.parametrize("name", ["body cut", "no chunk size", "not gzip"])
def test_bytes_streamed_before_an_error_are_the_same(name: str, use: str) -> None:
    def action(session: requests.Session, url: str) -> Any:
        got: list[Any] = []
        response = session.get(url, stream=True)
        try:
            if use == "raw.read":
                got.append(response.raw.read())
            elif use == "raw.read(n)":
                while piece := response.raw.read(4):
                    got.append(piece)
            else:
                pieces = {
                    "iter_content": lambda: response.iter_content(4),
                    "raw.stream": lambda: response.raw.stream(4),
                    "iter_lines": lambda: response.iter_lines(),
                }[use]()
                got.extend(pieces)
        except Exception as error:
            got.append(type(error).__name__)
        return b"".join(each for each in got if isinstance(each, bytes)), got[-1], response.raw.closed

    check_same(action, BROKEN[name])


def test_connection_error_has_the_reason_and_text_of_urllib3() -> None:
    with session_of(Adapter()) as session, pytest.raises(exceptions.ConnectionError) as caught:
        session.get("http://127.0.0.1:1/x?y")
    error = caught.value
    failure = error.args[0]
    assert type(failure.reason).__name__ == "NewConnectionError"
    assert failure.url == "/x?y"
    assert "HTTPConnectionPool(host='127.0.0.1', port=1): Max retries exceeded with url: /x?y" in str(error)
    assert isinstance(error.__cause__, ConnectionRefusedError)


def test_refused_connection_raises() -> None:
    nobody = "http://127.0.0.1:1"
    assert outcome(Adapter(), GET, nobody) == natively(outcome, HTTPAdapter(), GET, nobody)


def test_unknown_host_raises_connection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(gevent.socket, "getaddrinfo", unknown)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    url = "http://nowhere.test"
    found = outcome(Adapter(), GET, url)
    assert found == natively(outcome, HTTPAdapter(), GET, url)
    assert found == ("ConnectionError", "MaxRetryError", "NameResolutionError")


BAD_URLS = [
    "http://",
    "http:///path",
    "https://:80/",
    "http://[::1",
    "ftp://127.0.0.1/",
    "nothing",
    "http://a b/",
    "http://.x/",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_invalid_url_raises_same_error_as_requests(url: str) -> None:
    assert outcome(Adapter(), GET, url)[0] == outcome(HTTPAdapter(), GET, url)[0]


@pytest.mark.parametrize(
    "timeout", [0, -1, "1", True, (1,), (1, 2, 3), (0, 1), (1, 0), (None, "x"), object(), [1, 2]], ids=stable
)
def test_invalid_timeout_raises_same_error_as_requests(timeout: Any) -> None:
    def action(session: requests.Session, url: str) -> Any:
        return session.get(url, timeout=timeout).content

    found, wanted = (outcome(adapter, action, "http://127.0.0.1:1") for adapter in (Adapter(), HTTPAdapter()))
    assert found[0] == wanted[0] == "ValueError"


@pytest.mark.parametrize(
    "timeout",
    [0.05, (5, 0.05), (None, 0.05), Timeout(read=0.05), Timeout(total=0.05), Timeout(connect=5, read=0.05, total=3)],
    ids=repr,
)
@pytest.mark.parametrize("moment", ["head", "body", "streamed body"])
def test_silent_server_raises_read_timeout(moment: str, timeout: Any) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        if "body" in moment:
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123")
        conn.wait_closed()

    def action(session: requests.Session, url: str) -> Any:
        response = session.get(url, timeout=timeout, stream=moment == "streamed body")
        return b"".join(response.iter_content(3)), response.raw.closed

    found = check_same(action, script)
    assert found[0] == ("ReadTimeout" if moment == "head" else "ConnectionError")


@pytest.mark.parametrize("timeout", [0.05, (0.05, 5), Timeout(connect=0.05), Timeout(total=0.05)], ids=repr)
def test_connect_timeout_raises(timeout: Any) -> None:
    """If the backlog is full, the kernel drops connection attempts."""

    def action(session: requests.Session, url: str) -> Any:
        return session.get(url, timeout=timeout).content

    with socket.socket() as listener, contextlib.ExitStack() as clients:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        url = f"http://127.0.0.1:{port}"
        found = outcome(Adapter(), action, url)
        assert found == natively(outcome, HTTPAdapter(), action, url)
        assert found[0] == "ConnectTimeout"


# ------------------------------------------------------------------------------------------------ redirects and retries


def test_redirects_are_followed_as_by_requests() -> None:
    def script(conn: Conn) -> None:
        while request := conn.read_request():
            location = {"/a": "/b?x=1", "/b?x=1": "c#part", "/post": "/got"}.get(request.target)
            if location is None:
                conn.respond(request.body + request.target.encode())
            else:
                status = "303 See Other" if request.target == "/post" else "302 Found"
                conn.respond(b"x" * 20_000, status, [("Location", location), ("Set-Cookie", f"at={request.target[1]}")])

    def action(session: requests.Session, url: str) -> Any:
        response = session.get(f"{url}/a")
        posted = session.post(f"{url}/post", data=b"data")
        at_once = session.get(f"{url}/a", allow_redirects=False)
        assert at_once.next is not None
        places = [each.url.removeprefix(url) for each in (response, *response.history, posted, at_once.next)]
        return facts(response), facts(posted), facts(at_once), places, sorted(session.cookies.items())

    check_same(action, script)


def test_redirects_beyond_limit_raise_too_many_redirects() -> None:
    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.respond(b"", "302 Found", [("Location", "/again")])

    assert check_same(GET, script)[0] == "TooManyRedirects"


def then_ok(*answers: bytes) -> Script:
    return saying(*answers, *[OK] * 10)


BUSY = answer(b"busy", "503 Service Unavailable")
NEVER = answer(b"busy", "503 Service Unavailable", "Retry-After: whenever you like")
LATER = answer(b"busy", "503 Service Unavailable", "Retry-After: 0")
RETRIES: dict[str, tuple[Any, Action, tuple[Script, ...]]] = {
    "none of a status": (0, GET, (then_ok(BUSY),)),
    "a status": (Retry(2, status_forcelist=[503]), GET, (then_ok(BUSY, BUSY),)),
    "a status for too long": (Retry(2, status_forcelist=[503]), GET, (then_ok(BUSY, BUSY, BUSY),)),
    "and no error": (Retry(1, status_forcelist=[503], raise_on_status=False), GET, (then_ok(BUSY, BUSY, BUSY),)),
    "a status of a post": (Retry(2, status_forcelist=[503]), lambda s, u: facts(s.post(u)), (then_ok(BUSY),)),
    "a status of any method": (
        Retry(2, status_forcelist=[503], allowed_methods=None),
        lambda s, u: facts(s.post(u, data=file_at(2, b"0123"))),
        (then_ok(BUSY),),
    ),
    "retry-after": (Retry(2), GET, (then_ok(LATER),)),
    "retry-after, though nothing is tried again": (0, GET, (then_ok(LATER),)),
    "retry-after that says nothing": (Retry(2), GET, (then_ok(NEVER),)),
    "retry-after, not respected": (Retry(2, respect_retry_after_header=False), GET, (then_ok(LATER),)),
    "a reset": (Retry(2), GET, (resetting, resetting, then_ok())),
    "a reset of a post": (Retry(2), lambda s, u: facts(s.post(u, data=b"x")), (resetting, then_ok())),
    "resets for too long": (Retry(1), GET, (resetting, resetting, then_ok())),
    "no reading again": (Retry(2, read=False), GET, (resetting, then_ok())),
    "a number": (2, GET, (resetting, then_ok())),
    "no retries at all": (False, GET, (resetting, then_ok())),
}


@pytest.mark.parametrize("name", RETRIES)
def test_retries_are_the_same(name: str) -> None:
    retries, action, scripts = RETRIES[name]
    check_same(action, *scripts, max_retries=retries)


@pytest.mark.parametrize("retries", [0, 3, Retry(3, connect=1), Retry(connect=0), False], ids=repr)
def test_failed_connection_attempt_is_retried(retries: Any) -> None:
    found, wanted = (
        natively(outcome, HTTPAdapter(max_retries=retries), GET, "http://127.0.0.1:1"),
        outcome(Adapter(max_retries=retries), GET, "http://127.0.0.1:1"),
    )
    assert found == wanted


def test_pause_before_retry_is_cooperative() -> None:
    turns = []
    with Peer(then_ok(BUSY, BUSY)) as peer:
        ticker = gevent.spawn(lambda: [turns.append(gevent.sleep(0.01)) for _ in range(100)])
        retries = Retry(3, status_forcelist=[503], backoff_factor=0.05)
        with session_of(Adapter(max_retries=retries)) as session:
            assert session.get(peer.url).content == b"ok"
        assert len(turns) >= 3
        ticker.kill()


def test_iterator_body_is_not_sent_twice() -> None:
    retries = Retry(3, allowed_methods=None, status_forcelist=[503])
    with Peer(then_ok(BUSY)) as peer, session_of(Adapter(max_retries=retries)) as session:
        with pytest.raises(UnrewindableBodyError):
            session.post(peer.url, data=iter([b"abc"]))
        assert [request.body for request in peer.requests] == [b"abc"]


# ----------------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture
def tls_urls(tls_nginx: TlsNginx) -> dict[str, str]:
    return {name: f"https://localhost:{port}/page" for name, port in tls_nginx.ports.items()}


TLS = [
    "valid",
    "expired",
    "early",
    "elsewhere",
    "untrusted",
    "self_signed",
    "chained",
    "incomplete",
    "tls12",
    "clients",
]


@pytest.mark.parametrize("name", TLS)
@pytest.mark.parametrize("verify", ["the authority", "a directory", "nothing", "the usual"])
def test_same_servers_are_trusted_as_by_requests(
    name: str, verify: str, tls_urls: dict[str, str], certificates: Certificates
) -> None:
    trusted = {
        "the authority": str(certificates.ca),
        "a directory": str(hashed(certificates.ca)),
        "nothing": False,
        "the usual": True,
    }[verify]

    def action(session: requests.Session, url: str) -> Any:
        return session.get(url, verify=trusted).content

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureRequestWarning)
        wanted = natively(outcome, HTTPAdapter(), action, tls_urls[name])
        assert outcome(Adapter(), action, tls_urls[name]) == wanted


def test_client_certificate_is_sent(tls_urls: dict[str, str], certificates: Certificates) -> None:
    pair = certificates.client
    for cert in ((str(pair.chain), str(pair.key)), str(certificates.client_together)):

        def action(session: requests.Session, url: str, cert: Any = cert) -> Any:
            return session.get(url, verify=str(certificates.ca), cert=cert).json()["client"]

        url = tls_urls["clients"].replace("/page", "/facts")
        found = outcome(Adapter(), action, url)
        assert found == natively(outcome, HTTPAdapter(), action, url)
        assert "The Client" in found


@pytest.mark.parametrize(
    "option", [{"verify": "/no/such/file"}, {"cert": "/no/such/file"}, {"cert": ("/etc/hosts", "/no")}]
)
def test_missing_certificate_file_raises_same_error_as_requests(
    option: dict[str, Any], tls_urls: dict[str, str]
) -> None:
    def action(session: requests.Session, url: str) -> Any:
        return session.get(url, **option)

    found = outcome(Adapter(), action, tls_urls["valid"])
    assert found == natively(outcome, HTTPAdapter(), action, tls_urls["valid"]) == ("OSError",)


def test_ssl_context_of_subclass_is_used(tls_urls: dict[str, str], certificates: Certificates) -> None:
    class Own(Adapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs, ssl_context=context)

    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with session_of(Own()) as session:
        url = tls_urls["valid"].replace("/page", "/facts")
        assert session.get(url).json()["version"] == "TLSv1.2"


def test_overridden_methods_of_subclasses_are_called(nginx: Nginx) -> None:
    called: list[str] = []

    class Own(Adapter):
        def cert_verify(self, conn: Any, *arguments: Any) -> None:
            called.append(type(conn).__name__)
            super().cert_verify(conn, *arguments)  # type: ignore[no-untyped-call]

        def build_response(self, req: Any, resp: Any) -> requests.Response:
            response = super().build_response(req, resp)
            response.headers["X-Own"] = str(resp.status)
            return response

    with session_of(Own()) as session:
        assert [session.get(f"{nginx.url}/page").headers["x-own"] for _ in range(2)] == ["200", "200"]
    assert called == ["HTTPConnectionPool"]


def test_pool_of_urllib3_is_rejected() -> None:
    class Own(Adapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager = PoolManager()

    with session_of(Own()) as session, pytest.raises(TypeError, match=r"adapters\.urllib3"):
        session.get("http://localhost:1/")


def test_unverified_host_causes_a_warning(tls_urls: dict[str, str]) -> None:
    with session_of(Adapter()) as session, pytest.warns(InsecureRequestWarning):
        session.get(tls_urls["untrusted"], verify=False)


def test_options_that_need_sockets_emit_a_warning() -> None:
    class Own(Adapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs, socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])

    with Peer(saying(OK)) as peer, session_of(Own()) as session, pytest.warns(UserWarning, match="socket_options"):
        assert session.get(peer.url).content == b"ok"


# ------------------------------------------------------------------------------------------------------------- proxies


def through(proxy: str, **options: Any) -> Action:
    def action(session: requests.Session, url: str) -> Any:
        response = session.get(url, proxies={"http": proxy, "https": proxy}, **options)
        return response.status_code, response.content

    return action


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("user", ["", "me:secret@", "me:wrong@"])
def test_http_proxy_carries_requests(
    scheme: str, user: str, nginx: Nginx, tls_urls: dict[str, str], certificates: Certificates, tmp_path: Path
) -> None:
    lines = ["BasicAuth me secret"] if user else []
    url = f"{nginx.url}/page" if scheme == "http" else tls_urls["valid"]
    with closing(tinyproxy(tmp_path, *lines)) as proxy:
        action = through(f"http://{user}{proxy.place}", verify=str(certificates.ca))
        found = outcome(Adapter(), action, url)
        assert found == natively(outcome, HTTPAdapter(), action, url)
        assert "secret" not in repr(found)
    wrong = ("ProxyError", "MaxRetryError", "ProxyError") if scheme == "https" else 401
    assert found == wrong or found[0] == wrong if user == "me:wrong@" else found[0] == 200


@pytest.mark.parametrize(
    ("way", "user"),
    [(way, user) for way in ("socks5", "socks5h") for user in ("", "me:secret@", "me:wrong@")] + [("socks4", "")],
)
def test_socks_proxy_carries_requests(way: str, user: str, nginx: Nginx, tmp_path: Path) -> None:
    url = f"{nginx.url}/page" if way != "socks5h" else f"{nginx.url}/page".replace("127.0.0.1", "localhost")
    if way == "socks4":
        running = dante(tmp_path, blocked=1)
    else:
        running = microsocks(tmp_path, "me", "secret") if user else microsocks(tmp_path)
    with closing(running) as proxy:
        action = through(f"{way}://{user}{proxy.place}")
        found = outcome(Adapter(), action, url)
        if SOCKS:
            assert found == natively(outcome, HTTPAdapter(), action, url)
        assert found[0] == ("ConnectionError" if user == "me:wrong@" else 200)


def test_socks_scheme_of_the_environment_means_socks5(
    nginx: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(microsocks(tmp_path)) as proxy, requests.Session() as session:
        for name in ("http_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("all_proxy", f"socks://{proxy.place}/")
        session.mount("http://", Adapter())
        assert session.get(f"{nginx.url}/page".replace("127.0.0.1", "localhost")).status_code == 200


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:1", "http://", "http://[", "ftp://127.0.0.1", "127.0.0.1:1", "socks5://127.0.0.1:1"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_invalid_proxy_raises_invalid_proxy_url(proxy: str, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:2/"
    found = outcome(Adapter(), through(proxy), url)
    if SOCKS or not proxy.startswith("socks"):
        wanted = natively(outcome, HTTPAdapter(), through(proxy), url)
        if wanted[0].startswith("Invalid"):
            assert found[0].startswith("Invalid")
        else:
            assert found == wanted


@pytest.mark.parametrize("name", ["closed at once", "closed after the request", "not http"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_broken_proxy_raises_same_error_as_requests(name: str, scheme: str) -> None:
    def action(session: requests.Session, url: str) -> Any:
        return session.get(f"{scheme}://127.0.0.1:2/", proxies={scheme: url}, timeout=(0.5, 0.5)).content

    # requests asks for a tunnel with HTTP/1.0, this package with HTTP/1.1.
    with Peer(BROKEN[name]) as peer:
        wanted = natively(outcome, HTTPAdapter(), action, peer.url)
    with Peer(BROKEN[name]) as peer:
        assert outcome(Adapter(), action, peer.url) == wanted


def test_silent_proxy_raises_timeout() -> None:
    def action(session: requests.Session, url: str) -> Any:
        return session.get("https://127.0.0.1:2/", proxies={"https": url}, timeout=0.05).content

    check_same(action, lambda conn: conn.wait_closed())


def test_https_proxy_carries_requests(tls_urls: dict[str, str], certificates: Certificates) -> None:
    for trusted in (certificates.ca, certificates.other_ca):
        found = []
        for adapter, run in ((HTTPAdapter(), natively), (Adapter(), lambda function, *arguments: function(*arguments))):
            with Peer(tunnelling, tls=certificates.valid.server()) as proxy:
                action = through(f"https://localhost:{proxy.port}", verify=str(trusted))
                with contextlib.suppress(ssl.SSLError):
                    found.append(run(outcome, adapter, action, tls_urls["valid"]))
                proxy.errors.clear()  # some of the cases are handshakes that fail
        assert found[0] == found[1]


def test_truncated_gzip_raises() -> None:
    reply = answer(gzip.compress(TEXT)[:-12], "200 OK", "Content-Encoding: gzip")
    with Peer(saying(reply)) as peer, session_of(Adapter()) as session, pytest.raises(exceptions.ContentDecodingError):
        session.get(peer.url)


def test_requests_to_a_proxy_are_the_same() -> None:
    def action(session: requests.Session, url: str) -> Any:
        place = url.removeprefix("http://")
        return session.get("http://example.org/path?q#part", proxies={"http": f"http://me:p%40ss@{place}"}).content

    check_same(action, saying(OK))


def test_proxy_for_one_host_is_used_only_for_it(nginx: Nginx) -> None:
    with Peer(saying(OK)) as proxy, session_of(Adapter()) as session:
        proxies = {"http://example.org": proxy.url}
        assert session.get("http://example.org/", proxies=proxies).content == b"ok"
        assert len(session.get(f"{nginx.url}/page", proxies=proxies).content) == 615


# ------------------------------------------------------------------------------------------------------ connections


def statistics(adapter: Adapter) -> dict[str, int]:
    ((_, conn),) = adapter._origins._origins.values()
    assert conn._engine is not None
    found: dict[str, int] = conn._engine.statistics()
    return found


def test_connections_are_reused(nginx: Nginx) -> None:
    adapter = Adapter()
    with session_of(adapter) as session:
        for _ in range(5):
            assert len(session.get(f"{nginx.url}/page").content) == 615
        for piece in session.get(f"{nginx.url}/page#part", stream=True).iter_content(1000):
            assert len(piece) == 615
        assert session.get(f"{nginx.url}?query").status_code
        assert statistics(adapter)["opened"] == 1


def test_idle_connection_closed_by_peer_is_replaced() -> None:
    with Peer(saying_then_closing(OK), saying(OK)) as peer, session_of(Adapter()) as session:
        assert session.get(peer.url).content == b"ok"
        peer.conns[0].hung_up.wait(0.05)
        assert session.get(peer.url).content == b"ok"


def test_large_bodies_are_complete_in_both_directions(
    nginx: Nginx, tls_nginx: TlsNginx, certificates: Certificates
) -> None:
    with session_of(Adapter()) as session:
        big = (tls_nginx.root / "big").read_bytes()
        url = f"https://localhost:{tls_nginx.ports['valid']}/big"
        assert session.get(url, verify=str(certificates.ca)).content == big
        pieces = session.get(url, verify=str(certificates.ca), stream=True).iter_content(65536)
        assert b"".join(pieces) == big
        assert session.post(f"{nginx.url}/echo-length", data=b"x" * (8 << 20)).content == b"8388608"


def test_dropped_response_frees_its_place() -> None:
    def script(conn: Conn) -> None:
        while request := conn.read_request():
            conn.send(OK if request.target == "/2" else b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")

    with Peer(script) as peer, session_of(Adapter(pool_maxsize=1, pool_block=True)) as session:
        response = session.get(f"{peer.url}/1", stream=True)
        assert response.raw.read(4) == b"some"
        del response
        assert session.get(f"{peer.url}/2").content == b"ok"


@pytest.mark.parametrize("block", [True, False])
def test_pool_block_limits_connections(block: bool) -> None:
    """With `pool_block` a greenlet waits for one of `pool_maxsize` connections; without it, no greenlet waits, as with
    requests' own adapter."""
    gate = gevent.event.Event()

    def script(conn: Conn) -> None:
        while conn.read_request():
            gate.wait()
            conn.send(OK)

    with Peer(script) as peer, session_of(Adapter(pool_maxsize=2, pool_block=block)) as session:
        greenlets = [gevent.spawn(session.get, peer.url) for _ in range(5)]
        until(lambda: len(peer.conns) >= (2 if block else 5))
        settle()
        assert len(peer.conns) == (2 if block else 5)
        gate.set()
        assert [greenlet.get().content for greenlet in greenlets] == [b"ok"] * 5


def test_least_recently_used_origin_is_removed_first() -> None:
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer()) for _ in range(3)]
        session = stack.enter_context(session_of(Adapter(pool_connections=2)))
        for number in (0, 1, 0, 2):
            session.get(peers[number].url)
        until(lambda: peers[1].open_now == 0)
        session.get(peers[0].url)
        assert [len(peer.conns) for peer in peers] == [1, 1, 1]


def test_removed_origin_completes_its_responses() -> None:
    with Peer() as first, Peer() as second, session_of(Adapter(pool_connections=1)) as session:
        response = session.get(first.url, stream=True)
        session.get(second.url)
        assert response.content == b"/"


def test_closed_session_opens_new_connections() -> None:
    with Peer() as peer:
        session = session_of(Adapter())
        response = session.get(peer.url)
        session.close()
        assert response.raw.status == 200
        until(lambda: peer.open_now == 0)
        assert session.get(peer.url).content == b"/"
        session.close()


@pytest.mark.parametrize("give_up", ["close", "drop", "with"])
def test_abandoned_response_closes_its_connection(give_up: str) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        conn.wait_closed()

    gc.disable()
    try:
        with Peer(script) as peer, session_of(Adapter()) as session:
            response = session.get(peer.url, stream=True)
            assert response.raw.read(4) == b"some"
            if give_up == "close":
                response.close()
            elif give_up == "with":
                with response:
                    pass
            else:
                del response
            assert peer.conns[0].hung_up.wait(5)
    finally:
        gc.enable()


def test_killed_request_leaves_no_connection() -> None:
    gate = gevent.event.Event()

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if request.target == "/wait":
                conn.wait_closed()
            conn.respond(b"ok")

    adapter = Adapter(pool_maxsize=1, pool_block=True)
    with Peer(script) as peer, session_of(adapter) as session:
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            session.get(f"{peer.url}/wait")
        greenlet = gevent.spawn(session.get, f"{peer.url}/wait")
        until(lambda: len(peer.requests) == 2)
        greenlet.kill()
        assert isinstance(greenlet.value, gevent.GreenletExit)
        assert session.get(peer.url).content == b"ok"
        found = statistics(adapter)
        assert (found["in_use"], found["waiting"]) == (0, 0)
        gate.set()


def test_other_greenlets_run_while_a_request_waits() -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        until(lambda: turns)
        conn.send(OK)

    turns: list[int] = []
    with Peer(script) as peer, session_of(Adapter()) as session:
        gevent.spawn(turns.append, 1)
        assert session.get(peer.url).content == b"ok"


# ------------------------------------------------------------------------------------------------------------ the rest


def test_session_is_pickled_with_its_adapter(nginx: Nginx) -> None:
    with session_of(Adapter(3, 7, Retry(4), True)) as session:
        session.get(f"{nginx.url}/page")
        copy = pickle.loads(pickle.dumps(session))
    adapter = copy.get_adapter("http://x")
    assert isinstance(adapter, Adapter)
    assert (adapter._pool_connections, adapter._pool_maxsize, adapter._pool_block) == (3, 7, True)
    assert adapter.max_retries.total == 4
    with copy:
        assert len(copy.get(f"{nginx.url}/page").content) == 615


def test_response_is_pickled_as_by_requests() -> None:
    def action(session: requests.Session, url: str) -> Any:
        response = pickle.loads(pickle.dumps(session.get(url)))
        assert response.raw is None
        return response.status_code, response.content, dict(response.headers), response.cookies.items(), response.reason

    check_same(action, saying(RESPONSES["cookies"]))


def test_hooks_see_the_response_before_its_body_is_read() -> None:
    def action(session: requests.Session, url: str) -> Any:
        seen = []

        def hook(response: requests.Response, **options: Any) -> None:
            seen.append((response.raw.closed, sorted(options), response.connection is session.get_adapter(url)))
            response.raw.headers["X-Hook"] = "seen"
            seen.append(response.content)

        response = session.get(url, hooks={"response": hook})
        return seen, response.content, response.raw.headers["x-hook"]

    check_same(action, saying(OK))


def test_hook_can_repeat_a_request_with_credentials() -> None:
    refusal = answer(
        b"no", "401 Unauthorized", 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
    )

    def action(session: requests.Session, url: str) -> Any:
        response = session.get(url, auth=HTTPDigestAuth("me", "secret"))
        return response.status_code, len(response.history)

    with Peer(saying(refusal, OK)) as peer:
        assert outcome(Adapter(), action, peer.url) == (200, 1)
        assert "Digest username" in (peer.requests[1].get("authorization") or "")


def test_elapsed_ends_with_the_head() -> None:
    gate = gevent.event.Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        gate.wait()
        conn.send(b"ok")

    heard = []

    def hook(response: requests.Response, **_: Any) -> None:
        heard.append(time.monotonic())
        gevent.spawn_later(0.2, gate.set)

    with Peer(script) as peer, session_of(Adapter()) as session:
        start = time.monotonic()
        response = session.get(peer.url, hooks={"response": hook})
        assert response.content == b"ok"
        assert response.elapsed.total_seconds() <= heard[0] - start


def test_response_attributes_can_be_assigned() -> None:
    with Peer(saying(OK)) as peer, session_of(Adapter()) as session:
        response = session.get(peer.url)
        response.encoding = "utf-16"
        response.headers = requests.structures.CaseInsensitiveDict({"a": "b"})
        assert (response.encoding, response.headers["A"]) == ("utf-16", "b")
        with pytest.raises(AttributeError, match="nothing"):
            response.nothing  # noqa: B018
        with pytest.raises(AttributeError, match="nothing"):
            response.raw.nothing  # noqa: B018


def test_prepared_request_can_be_sent_by_the_adapter() -> None:
    with Peer(saying(OK)) as peer, contextlib.closing(Adapter()) as adapter:
        response = adapter.send(requests.Request("GET", f"{peer.url}/").prepare())
        assert (response.content, response.elapsed.total_seconds()) == (b"ok", 0)


def test_adapter_is_an_http_adapter() -> None:
    assert isinstance(Adapter(), HTTPAdapter)
    request = requests.Request("GET", "http://localhost:1/").prepare()
    pool = Adapter().get_connection_with_tls_context(request, True)
    assert isinstance(pool, urllib3_adapter.HTTPConnectionPool)


def test_import_without_requests_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    monkeypatch.delitem(sys.modules, "geventhttpclient.adapters.requests")
    with pytest.raises(ImportError, match="pip install requests"):
        importlib.import_module("geventhttpclient.adapters.requests")


@pytest.mark.parametrize("name", ["pool_connections", "pool_maxsize"])
def test_adapter_with_non_number_raises_type_error(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an int, not a str"):
        Adapter(**{name: "many"})


# --------------------------------------------------------------------------------------------------------- Unix sockets


@contextlib.contextmanager
def on_a_socket(directory: Path, *answers: bytes) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Yields the path of a server's Unix socket, and the target and Host of each request to it."""
    path = str(directory / "server.sock")
    listener = gevent.socket.socket(gevent.socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    asked: list[tuple[str, str | None]] = []

    def serve(sock: Any, _address: Any) -> None:
        conn = Conn(sock, SimpleNamespace(requests=[]), 0)  # type: ignore[arg-type]
        with contextlib.suppress(OSError):
            while (request := conn.read_request()) is not None:
                asked.append((request.target, request.get("host")))
                conn.send(b"".join(answers) or OK)

    server = StreamServer(listener, serve)
    server.start()
    try:
        yield path, asked
    finally:
        server.stop(timeout=1)


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_uds_is_used_for_any_host(kind: Callable[[str], Any], tmp_path: Path) -> None:
    with on_a_socket(tmp_path) as (path, asked), session_of(Adapter(uds=kind(path))) as session:
        for scheme in ("http+unix://", "http+docker://", "unix://"):
            session.mount(scheme, session.get_adapter("http://"))
        assert session.get("http://app.test:81/a?b=c", proxies={"http": "http://127.0.0.1:1"}).content == b"ok"
        assert session.get("http+unix://%2Fvar%2Frun%2Fd.sock/v1/b").content == b"ok"
        assert session.get("http+docker://localhost/c?d").url == "http+docker://localhost/c?d"
    assert asked == [("/a?b=c", "app.test:81"), ("/v1/b", "localhost"), ("/c?d", "localhost")]


def test_pickled_adapter_keeps_uds(tmp_path: Path) -> None:
    with on_a_socket(tmp_path) as (path, _), session_of(pickle.loads(pickle.dumps(Adapter(uds=path)))) as session:
        assert session.get("http://app.test/").content == b"ok"


@pytest.mark.parametrize("wrong", ["", 5])
def test_uds_must_be_a_path(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="uds"):
        Adapter(uds=wrong)


@pytest.mark.parametrize(
    ("connection", "left"), [("Upgrade", None), ("upgrade, X-A", "X-A"), ("X-A,Upgrade", "X-A"), (b"Upgrade", None)]
)
def test_upgrade_header_is_removed(connection: Any, left: str | None) -> None:
    with Peer(saying(OK)) as peer, session_of(Adapter()) as session:
        assert session.post(peer.url, headers={"Connection": connection, "Upgrade": "tcp"}).content == b"ok"
        assert (peer.requests[0].get("upgrade"), peer.requests[0].get("connection")) == (None, left)


def test_raw_response_says_that_it_is_chunked() -> None:
    with Peer(saying(CHUNKED + b"4\r\nbody\r\n0\r\n\r\n")) as peer, session_of(Adapter()) as session:
        raw = session.get(peer.url, stream=True).raw
        assert raw._fp.chunked
        assert raw.read(1) == b"b"
        assert raw.read(raw._fp.chunk_left) == b"ody"


def test_stream_ends_when_another_greenlet_shuts_it_down() -> None:
    """docker-py ends its streams in this way: `fp.raw._sock.shutdown()`, then `close()`."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        conn.read_line()  # until the client closes

    with Peer(script) as peer, requests.Session() as session:
        session.mount("http://", Adapter())
        raw = session.get(f"http://{peer.host}:{peer.port}/", stream=True, timeout=30).raw
        pieces: list[bytes] = []
        has_begun = gevent.event.Event()

        def read() -> None:
            for piece in raw.read_chunked():
                pieces.append(piece)
                has_begun.set()

        reader = gevent.spawn(read)
        assert has_begun.wait(10)
        sock = raw._fp.fp.raw._sock
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        with pytest.raises(ProtocolError):
            reader.get(timeout=10)
        assert pieces == [b"hello"]
