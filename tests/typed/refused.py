"""Code that type checkers have to reject: each line is wrong, and marked as that for mypy and for pyright.

Both of them report a mark that is not needed. Nothing here is run.
"""

# pyright: strict

from __future__ import annotations

import geventhttpclient
from geventhttpclient import URL, HTTPClient, Session, UserAgent, httpx, mock
from geventhttpclient.client import ClientOptions, HTTPClientPool
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.hooks import Request
from geventhttpclient.response import HTTPSocketPoolResponse


class Elsewhere(ConnectionPool):
    def _resolve(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return "127.0.0.1"


def wrong_hook(request: int) -> None:
    assert request


def clients(client: HTTPClient, answer: HTTPSocketPoolResponse) -> None:
    client.get(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.get("/", {"A": object()})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.get("/", total_timeout="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.get("/", timeout=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.post("/", trailers=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.request("GET")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    HTTPClient("a", concurrency="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    HTTPClient("a", on_request=wrong_hook)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    HTTPClient.from_url("http://a", conncurrency=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    HTTPClientPool(conncurrency=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    options: ClientOptions = {"conncurrency": 5}  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportAssignmentType]
    assert options
    HTTPClient("a", nothing=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    answer.read("10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text: str = answer.read()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    answer.status_code = 5  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    answer.timings.pool = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    answer.json()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    assert text


def agents(agent: UserAgent, session: Session, client: httpx.Client) -> None:
    agent.urlopen(url=b"/")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    UserAgent(max_retries="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    UserAgent(max_client=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Session(max_redirect=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    session.get("/", allow_redirect=False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    geventhttpclient.post("/", jsn={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Session(timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Session(stream="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session.get()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    session.headers = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    httpx.Client(max_retries=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.get("/", follow_redirect=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    httpx.post("/", verfy=False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.send("GET")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    number: int = client.get("/").text  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    assert number


def handler(request: mock.MockRequest) -> str:
    return request.path


def values(request: Request) -> None:
    mock.MockTransport(handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    request.headers = {}  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    URL("http://a/").port = "80"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    assert URL("http://a/").nothing  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
