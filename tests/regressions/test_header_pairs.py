"""Headers as a list of pairs: a name that occurs twice is sent twice, by every client."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

import geventhttpclient
from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from tests.support.peer import Peer, serve_ok

PAIRS = [("X-A", "1"), ("x-a", "2"), ("X-A", "3")]


def by_client(url: str, headers: Any) -> None:
    with closing(HTTPClient.from_url(url)) as client:
        client.get("/", headers=headers).read()


def by_default_headers(url: str, headers: Any) -> None:
    with closing(HTTPClient.from_url(url, headers=headers)) as client:
        client.get("/").read()


def by_agent(url: str, headers: Any) -> None:
    with UserAgent() as agent:
        agent.urlopen(url, headers=headers).read()


def by_headers_of_an_agent(url: str, headers: Any) -> None:
    with UserAgent(headers=headers) as agent:
        agent.urlopen(url).read()


def by_session(url: str, headers: Any) -> None:
    with Session() as session:
        session.get(url, headers=headers)


def by_headers_of_a_session(url: str, headers: Any) -> None:
    with Session(headers=headers) as session:
        session.get(url)


def by_function(url: str, headers: Any) -> None:
    geventhttpclient.get(url, headers=headers)


def by_httpx(url: str, headers: Any) -> None:
    with httpx.Client() as client:
        client.get(url, headers=headers)


def by_headers_of_httpx(url: str, headers: Any) -> None:
    with httpx.Client(headers=headers) as client:
        client.get(url)


FACES = [
    by_client,
    by_default_headers,
    by_agent,
    by_headers_of_an_agent,
    by_session,
    by_headers_of_a_session,
    by_function,
    by_httpx,
    by_headers_of_httpx,
]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_header_pairs_with_a_repeated_name_all_go_out(
    face: Callable[[str, Any], None], kind: Callable[[Any], Any]
) -> None:
    with Peer(serve_ok) as peer:
        face(f"http://{peer.host}:{peer.port}/", kind(PAIRS))
        assert [value for name, value in peer.requests[0].fields if name.lower() == "x-a"] == ["1", "2", "3"]


def test_header_pairs_replace_the_default_of_the_name() -> None:
    with Peer(serve_ok) as peer, Session(headers={"X-A": "0", "X-B": "0"}) as session:
        session.get(f"http://{peer.host}:{peer.port}/", headers=PAIRS)
        fields = [(name.lower(), value) for name, value in peer.requests[0].fields]
        assert [value for name, value in fields if name == "x-a"] == ["1", "2", "3"]
        assert ("x-b", "0") in fields
