"""Programs that meet hostile peers and measure their own memory."""

from __future__ import annotations

import http.client
import itertools
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.cookiejar import CookieJar
from typing import Any

from geventhttpclient import HTTPClient, Session, UserAgent, httplib, httpx
from geventhttpclient.response import HTTPParseError
from geventhttpclient.useragent import RetriesExceeded
from tests.programs.coding import peak

BOUND = 32


@contextmanager
def bounded(what: str, mebibytes: int = BOUND) -> Iterator[None]:
    """Fails if the process grows by more than that."""
    before = peak()
    yield
    assert peak() - before < mebibytes, f"{what} took {peak() - before} MiB"


def raises(kinds: type[Exception] | tuple[type[Exception], ...], call: Callable[..., object], *arguments: Any) -> None:
    try:
        call(*arguments)
    except kinds:
        return
    raise AssertionError(f"{call} with {arguments} did not fail")


def floods(port: str, *names: str) -> None:
    """Requests each flood, with a client and with an agent."""
    with closing(HTTPClient("127.0.0.1", int(port))) as client, UserAgent(cookiejar=CookieJar()) as agent:
        for name in names:
            with bounded(name):
                raises(HTTPParseError, lambda target: client.get(target).read(), f"/flood/{name}")
                url = f"http://127.0.0.1:{port}/flood/{name}"
                raises((HTTPParseError, RetriesExceeded), lambda url: agent.urlopen(url).content, url)


def cookies(port: str) -> None:
    """Follows a loop of redirects, each of which sets 250 cookies."""
    with Session() as session, bounded("a flood of cookies"):
        raises(RetriesExceeded, session.get, f"http://127.0.0.1:{port}/cookies/0")


def announced(port: str, *names: str) -> None:
    """Reads, in every way, a body of which five of the announced 10**18 bytes arrive."""
    room = bytearray(MIB := 1 << 20)
    reads: list[Callable[[Any], object]] = [
        lambda response: response.read(),
        lambda response: [response.read(10**18), response.read()],
        lambda response: [response.read(MIB), response.read(MIB)],
        lambda response: [response.readinto(room), response.readinto(room)],
        lambda response: response.readline(),
        list,
    ]
    faces: list[Callable[[str], object]] = [
        lambda url: UserAgent(max_retries=0).urlopen(url).content,
        lambda url: Session(max_retries=0).get(url).content,
        lambda url: list(Session(max_retries=0).get(url, stream=True).iter_content(10**18)),
        httpx.get,
    ]
    errors = (HTTPParseError, http.client.HTTPException, RetriesExceeded, httpx.TransportError)
    for name in names:
        target = f"/announced/{name}"
        with bounded(name), closing(HTTPClient("127.0.0.1", int(port))) as client:
            for read in reads:
                raises(errors, lambda read, target: read(client.get(target)), read, target)
            for face in faces:
                raises(errors, face, f"http://127.0.0.1:{port}{target}")
            with closing(httplib.HTTPConnection("127.0.0.1", int(port))) as connection:
                connection.request("GET", target)
                raises(errors, connection.getresponse().read)
            with closing(httplib.HTTPConnection("127.0.0.1", int(port))) as connection:
                connection.request("GET", target)
                response = connection.getresponse()
                # As with http.client: the received part of a counted body, and IncompleteRead for a chunk.
                if name.startswith("counted"):
                    assert response.read(10**18) == b"hello"
                else:
                    raises(errors, response.read, 10**18)


def streamed_bombs(port: str, count: str) -> None:
    """Reads decompression bombs in pieces, of which none is kept."""
    import requests

    from geventhttpclient.adapters.requests import Adapter

    def by_session(url: str) -> None:
        with Session() as session, session.get(url, stream=True) as response:
            for _ in response.iter_content(1 << 16):
                pass

    def by_httpx(url: str) -> None:
        with httpx.stream("GET", url) as response:
            for _ in response.iter_bytes(1 << 16):
                pass

    def by_adapter(url: str) -> None:
        with requests.Session() as session:
            session.mount("http://", Adapter())
            with session.get(url, stream=True) as response:
                for _ in response.iter_content(1 << 16):
                    pass

    undecodable = (zlib.error, httpx.DecodingError, requests.exceptions.ContentDecodingError)
    for n, call in itertools.product(range(int(count)), (by_session, by_httpx, by_adapter)):
        with bounded(f"bomb {n}, streamed {call.__name__}"):
            raises(undecodable, call, f"http://127.0.0.1:{port}/{n}")


def whole_bombs(port: str, count: str) -> None:
    """Reads bombs up to the limit of 64 MiB of decoded data, and their copy as bytes."""
    calls: list[Callable[[str], object]] = [
        lambda url: UserAgent().urlopen(url).content,
        lambda url: Session().get(url).content,
        httpx.get,
    ]
    with bounded("whole bombs", 200):
        for n in range(int(count)):
            raises((zlib.error, httpx.DecodingError), calls[n % len(calls)], f"http://127.0.0.1:{port}/{n}")
