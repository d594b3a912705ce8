"""Header values and trailers of any type: invalid ones raise an exception and never crash."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from tests.support.hub import run
from tests.support.peer import Peer, serve_ok

pytestmark = pytest.mark.usefixtures("bounded")


def itself() -> list[Any]:
    """A list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> list[Any]:
    """Lists within lists, deeper than any C stack."""
    value: list[Any] = ["a"]
    for _ in range(200_000):
        value = [value]
    return value


NESTED: dict[str, Callable[[], object]] = {
    "itself": itself,
    "deep": deep,
    "two levels": lambda: [["a"]],
    "tuple": lambda: ("a", ("b",)),
    "list in a tuple": lambda: ("a", ["b"]),
}

Send = Callable[[str, object], object]


def by_client(url: str, value: object) -> object:
    with closing(HTTPClient.from_url(url)) as client:
        return client.get("/", headers={"A": value})


def by_pairs(url: str, value: object) -> object:
    with closing(HTTPClient.from_url(url)) as client:
        return client.get("/", headers=[("A", value)])


def by_default_headers(url: str, value: object) -> object:
    with closing(HTTPClient.from_url(url, headers={"A": value})) as client:
        return client.get("/")


def by_trailers(url: str, value: object) -> object:
    with closing(HTTPClient.from_url(url)) as client:
        return client.post("/", body=b"x", trailers={"A": value})


def by_called_trailers(url: str, value: object) -> object:
    with closing(HTTPClient.from_url(url)) as client:
        return client.post("/", body=b"x", trailers=lambda: {"A": value})


def by_session(url: str, value: object) -> object:
    with Session() as session:
        return session.get(url, headers={"A": value})


def by_agent(url: str, value: object) -> object:
    with UserAgent() as agent:
        return agent.urlopen(url, headers={"A": value})


def by_httpx(url: str, value: object) -> object:
    with httpx.Client() as client:
        return client.get(url, headers={"A": value})


FACES = [
    by_client,
    by_pairs,
    by_default_headers,
    by_trailers,
    by_called_trailers,
    by_session,
    by_agent,
    by_httpx,
]


def test_header_value_nested_in_lists_raises_type_error() -> None:
    # In an interpreter of its own: what this is about ends the process.
    assert run("values.nested").clean() == "8 faces, 5 values\n"


@pytest.mark.parametrize("name", ["headers", "trailers"])
def test_nested_value_error_names_the_collection_and_the_remedy(name: str) -> None:
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        options: dict[str, Any] = {name: {"A": ["b", ["c"]]}}
        with pytest.raises(TypeError, match=rf"^{name}: a list of values must not contain a list: give one flat list$"):
            client.post("/", body=b"x", **options)
        assert client.get("/").status_code == 200


def test_header_list_with_several_values_and_none_sends_a_line_for_each_value() -> None:
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        client.get("/", headers={"A": ["b", None, 3, b"d"]})
        (request,) = peer.conns[0].requests
        assert [value for name, value in request.fields if name == "A"] == ["b", "3", "d"]


class Changing:
    """A value that changes the dict that contains it when it is converted to text."""

    def __init__(self, fields: dict[Any, Any], change: Callable[[dict[Any, Any]], object]) -> None:
        self.fields = fields
        self.change = change

    def __str__(self) -> str:
        self.change(self.fields)
        return "changed"


CHANGES: dict[str, Callable[[dict[Any, Any]], object]] = {
    "grows": lambda fields: fields.update({f"More-{n}": "x" for n in range(1000)}),
    "shrinks": lambda fields: fields.clear(),
    "keys": lambda fields: [fields.pop("Z"), fields.update(Y="y")],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["headers", "trailers"])
def test_fields_dict_changed_by_a_value_sends_the_fields_as_they_were(name: str, change: str) -> None:
    fields: dict[str, Any] = {}
    fields.update(A=Changing(fields, CHANGES[change]), Z="z")
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        options: dict[str, Any] = {name: fields}
        assert client.post("/", body=b"x", **options).status_code == 200
        raw = bytes(peer.conns[0].raw)
        assert b"A: changed\r\n" in raw
        assert b"Z: z\r\n" in raw
