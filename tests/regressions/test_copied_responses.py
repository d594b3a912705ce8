"""Responses whose attributes are copied to another object, without the slots: locust does so for catch_response."""

from __future__ import annotations

from typing import Any

import pytest

from geventhttpclient.useragent import BadStatusCode, CompatResponse, UserAgent
from tests.support.peer import Conn, Peer

pytestmark = pytest.mark.usefixtures("bounded")

BODY = b"".join(b"%07d\n" % number for number in range(250_000))


class Fast(CompatResponse):
    """Has its attributes in `__dict__`, like locust's FastResponse."""

    headers: Any = None
    _response: Any = None


class Agent(UserAgent):
    """An agent whose responses are of that class."""

    response_type = Fast


def error_page(conn: Conn) -> None:
    while conn.read_request():
        conn.respond(BODY, "500 Oops")


@pytest.mark.parametrize(
    "read",
    [
        lambda response: response.content,
        lambda response: response.read(),
        lambda response: b"".join(response),
        lambda response: response.read(10) + response.readline() + response.read(),
    ],
    ids=["content", "read", "iteration", "parts"],
)
def test_copied_response_has_the_beginning_that_was_read_ahead(read: Any) -> None:
    with Peer(error_page) as peer, Agent() as agent:
        with pytest.raises(BadStatusCode) as failure:
            agent.urlopen(peer.url)
        copy = object.__new__(Fast)
        copy.__dict__.update(failure.value.response.__dict__)
        assert read(copy) == BODY
