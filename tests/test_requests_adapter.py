"""The adapter for requests: what comes out of a session is what comes out with requests' own adapter, case by case."""

from __future__ import annotations

import gc
import gzip
import io
import pickle
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import brotli
import gevent
import gevent.event
import gevent.socket
import pytest
import requests
import zstandard
from requests import exceptions
from requests.adapters import HTTPAdapter
from urllib3.util import SKIP_HEADER, Retry, Timeout

from geventhttpclient.requests_adapter import Adapter
from tests.certificates import Certificates
from tests.conftest import Nginx, TlsNginx
from tests.peer import Conn, Peer, Script
from tests.proxies import dante, microsocks, tinyproxy, tunnelling
from tests.support import OK, saying, saying_then_closing

pytestmark = pytest.mark.usefixtures("bounded")

Action = Callable[[requests.Session, str], Any]


def session_of(adapter: HTTPAdapter) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def outcome(adapter: HTTPAdapter, action: Action, url: str) -> Any:
    """What an action comes to: its value, or the classes of what it raised, down to what urllib3 would have met."""
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
            asked = isinstance(error, exceptions.RequestException) and error.request is not None
            return (*classes, asked)


def natively(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs what blocks in a thread, so that the peers of the test go on."""
    return gevent.get_hub().threadpool.apply(function, arguments)


def told(peer: Peer) -> list[tuple[str, list[tuple[str, str]], bytes]]:
    """What a peer was asked, in any order of fields, without its port."""
    here = str(peer.port)
    return [
        (
            request.line.replace(here, "PORT"),
            sorted((name.lower(), value.replace(here, "PORT")) for name, value in request.fields),
            request.body,
        )
        for request in peer.requests
    ]


def check_same(action: Action, *scripts: Script, **adapter: Any) -> Any:
    """The same outcome by both adapters, and the same requests. Gives the outcome."""
    with Peer(*scripts) as peer:
        wanted = natively(outcome, HTTPAdapter(**adapter), action, peer.url)
        asked = told(peer)
    with Peer(*scripts) as peer:
        found = outcome(Adapter(**adapter), action, peer.url)
        assert told(peer) == asked
    assert found == wanted
    return found


def facts(response: requests.Response) -> tuple[Any, ...]:
    """All of a response that can be compared."""
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
        # urllib3 does not count those of chunks.
        None if response.raw.chunked else response.raw.tell(),
        response.raw.status,
        response.raw.reason,
        response.raw.version,
        dict(response.raw.headers).keys(),
    )


def answer(body: bytes = b"", status: str = "200 OK", *lines: str) -> bytes:
    head = [f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


# ------------------------------------------------------------------------------------------------------------- requests


class NoLength:
    """A file of which nobody knows how long it is."""

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
def test_what_is_asked_is_the_same(name: str) -> None:
    action = REQUESTS[name]
    status, *_ = check_same(lambda s, u: facts(action(s, u)), saying(OK))
    assert status == 200


def test_an_open_file_goes_out_whole_and_stands_at_its_end(tmp_path: Path) -> None:
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
    "cookies": answer(b"x", "200 OK", "Set-Cookie: a=b; Path=/", "Set-Cookie: c=d; Expires=Wed, 01 Jan 2031 00:00:00 GMT"),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    "chunked": CHUNKED + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
    "chunked and empty": CHUNKED + b"0\r\n\r\n",
    "redirect without location": answer(b"x", "302 Found"),
    "refused with a body": answer(b"why", "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"'),
    **{f"coding {coding}": answer(data, "200 OK", f"Content-Encoding: {coding}") for coding, data in CODED.items()},
}


@pytest.mark.parametrize("name", RESPONSES)
def test_what_is_answered_is_the_same(name: str) -> None:
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
def test_what_is_streamed_is_the_same(use: str, framing: str) -> None:
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
def test_a_piece_of_a_chunked_body_comes_before_the_next_is_sent(how: str) -> None:
    seen = gevent.event.Event()

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(CHUNKED + b"8\r\npiece 1\n\r\n")
        seen.wait()
        conn.send(b"8\r\npiece 2\n\r\n0\r\n\r\n")

    with Peer(script) as peer, session_of(Adapter()) as session, session.get(peer.url, stream=True) as response:
        pieces = {
            # requests holds a last line back until it knows that it has ended.
            "iter_lines": lambda: response.iter_lines(chunk_size=7),
            "iter_content of all": lambda: response.iter_content(None),
            "iter_content": lambda: response.iter_content(100),
        }[how]()
        assert next(pieces).startswith(b"piece 1")
        seen.set()
        assert b"piece 2" in b"".join(pieces)


def test_zstd_is_decoded_though_requests_may_not_know_it() -> None:
    reply = answer(zstandard.compress(TEXT), "200 OK", "Content-Encoding: zstd")
    with Peer(saying(reply, reply)) as peer, session_of(Adapter()) as session:
        assert session.get(peer.url).content == TEXT
        assert b"".join(session.get(peer.url, stream=True).iter_content(100)) == TEXT


def test_an_interim_response_is_passed_over() -> None:
    with Peer(saying(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)) as peer, session_of(Adapter()) as session:
        assert session.get(peer.url).content == b"ok"


# --------------------------------------------------------------------------------------------------------------- errors

GET: Action = lambda s, u: facts(s.get(u))  # noqa: E731
GET_STREAM: Action = lambda s, u: facts(s.get(u, stream=True))  # noqa: E731
POST: Action = lambda s, u: facts(s.post(u, data=b"x"))  # noqa: E731


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
    "head cut": saying_then_closing(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "body cut": saying_then_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1234567"),
    "chunk cut": saying_then_closing(CHUNKED + b"a\r\n1234567"),
    "no last chunk": saying_then_closing(CHUNKED + b"7\r\n1234567\r\n"),
    "no chunk size": saying_then_closing(CHUNKED + b"zz\r\n1234567\r\n"),
    "not gzip": saying(answer(b"not gzip at all", "200 OK", "Content-Encoding: gzip")),
    "not br": saying(answer(b"not br at all", "200 OK", "Content-Encoding: br")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_raises_the_same(name: str) -> None:
    class_, *_ = check_same(lambda s, u: s.get(u).content, BROKEN[name])
    assert class_ in ("ConnectionError", "ChunkedEncodingError", "ContentDecodingError")
