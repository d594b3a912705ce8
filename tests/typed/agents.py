"""Any host: UserAgent and what programs override in it, Session, the functions that make one; credentials, cookies,
forms."""

# pyright: strict

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from http.cookiejar import Cookie, CookieJar
from typing import Any

from typing_extensions import assert_type

import geventhttpclient
from geventhttpclient import (
    BasicAuth,
    Session,
    UserAgent,
    api,
    auth,
    client,
    cookies,
    multipart,
    requests,
    useragent,
)
from geventhttpclient import exceptions as errors
from geventhttpclient._agent import request as asking
from geventhttpclient._agent import response as answering
from geventhttpclient._internal import challenges
from geventhttpclient.header import Headers
from geventhttpclient.mock import MockTransport
from geventhttpclient.requests import RequestsResponse
from geventhttpclient.response import HTTPSocketResponse
from geventhttpclient.timings import Timings
from geventhttpclient.tls import TLSInfo
from geventhttpclient.url import URL


class Response(useragent.CompatResponse):
    """A response that knows more than its class, as those of load generators do."""

    @property
    def is_short(self) -> bool:
        return len(self.content) < 1000


class Agent(UserAgent):
    """An agent that minds no status, and counts what it sends."""

    response_type = Response
    valid_response_codes = frozenset({200, 404})
    sent = 0

    def _urlopen(self, request: useragent.CompatRequest) -> useragent.CompatResponse:
        self.sent += 1
        return super()._urlopen(request)

    def _verify_status(self, status_code: int, url: str | URL | None = None) -> None:
        pass


def main(url: str) -> None:
    agents(url)
    failures()
    sessions(url)
    functions(url)
    credentials()
    jars()
    forms()


def agents(url: str) -> None:
    with Agent(max_redirects=5, retry_statuses=[503], concurrency=2) as agent:
        assert_type(agent, Agent)
        answer = agent.urlopen(f"{url}/page", "GET", {"A": "b"}, params={"a": [1, 2]})
        assert_type(answer, useragent.CompatResponse)
        assert isinstance(answer, Response)
        assert answer.is_short
        assert_type(answer.content, bytes)
        assert_type(answer.headers, Headers)
        assert_type(answer.info(), Headers)
        assert_type(answer.status_code, int)
        assert_type(answer.url, str)
        assert_type(answer.stream, HTTPSocketResponse)
        assert_type(answer.timings, Timings)
        assert_type(answer.tls, TLSInfo | None)
        # With `to_string` it is the body.
        assert_type(agent.urlopen(f"{url}/page", to_string=True), Any)
        assert agent.sent == 2
        assert_type(agent.cookiejar, CookieJar | None)
    payload: useragent.Payload = {"a": "b"}
    files: useragent.FilesInput = {"film": b"..."}
    request = useragent.CompatRequest(url, "post", payload=payload)
    assert_type(request.url_split, URL)
    assert_type(request.method, str)
    assert files
    assert answering.CompatResponse is useragent.CompatResponse
    assert asking.CompatRequest is useragent.CompatRequest
    assert (asking.Payload, asking.FilesInput) == (useragent.Payload, useragent.FilesInput)
    assert_type(useragent.REDIRECT_RESPONSE_CODES, frozenset[int])
    assert_type(useragent.PERMANENT_REDIRECT_RESPONSE_CODES, frozenset[int])
    assert_type(useragent.IDEMPOTENT_METHODS, frozenset[str])
    assert useragent.UserAgent is UserAgent


def failures() -> None:
    refused = useragent.BadStatusCode("http://127.0.0.1/", code=500)
    assert isinstance(refused, useragent.ConnectionError)
    for kind in (
        useragent.EmptyResponse,
        useragent.RetriesExceeded,
        useragent.UnrewoundBodyError,
        useragent.InvalidRedirectError,
        useragent.UnsupportedRedirectSchemeError,
    ):
        assert issubclass(kind, errors.ConnectionError)
    assert errors.BadStatusCode is useragent.BadStatusCode
    assert errors.EmptyResponse is useragent.EmptyResponse
    assert errors.InvalidRedirectError is useragent.InvalidRedirectError
    assert errors.RetriesExceeded is useragent.RetriesExceeded
    assert errors.UnrewoundBodyError is useragent.UnrewoundBodyError
    assert errors.UnsupportedRedirectSchemeError is useragent.UnsupportedRedirectSchemeError


def sessions(url: str) -> None:
    answers_all = MockTransport(lambda _: (200, {}, "[]"))
    with Session(
        auth=("me", "secret"),
        params={"a": "b"},
        timeout=(1, None),
        cookies={"a": "b"},
        verify=True,
        proxies={"http": None},
        hooks={"response": print},
        stream=True,
        headers={"A": "b"},
        trust_env=False,
    ) as session:
        assert_type(session, Session)
    # The files are read at once.
    with suppress(FileNotFoundError):
        assert_type(Session(verify="ca.pem", cert=("cert.pem", "key.pem")), Session)
    with Session(auth=("me", "secret"), transport=answers_all) as session:
        assert_type(session, Session)
        assert_type(session.headers, Headers)
        session.headers = {"A": "b"}
        session.cookies = {"a": "b"}
        for answer in (
            session.get(f"{url}/page", timeout=(1, None), headers=[("A", "b")]),
            session.post(f"{url}/echo", json={"a": 1}),
            session.put(f"{url}/echo", data=b"x"),
            session.patch(f"{url}/echo", data="x"),
            session.delete(URL(f"{url}/page")),
            session.options(f"{url}/page"),
            session.head(f"{url}/page"),
            session.request("GET", f"{url}/page"),
        ):
            assert_type(answer, RequestsResponse)
            assert_type(answer.ok, bool)
            assert_type(answer.reason, str | None)
            assert_type(answer.url, str)
            assert_type(answer.text, str | bytes)  # bytes where its type is that of no text
            assert_type(answer.history, list[answering.CompatResponse])
        assert_type(session.post(f"{url}/echo", json=[1]).json(), Any)
    with Session(concurrency=2) as session, session.get(f"{url}/bytes/10000", stream=True) as streamed:
        assert_type(streamed, RequestsResponse)
        assert_type(streamed.iter_content(), Iterator[Any])
        assert_type(streamed.raw, HTTPSocketResponse)
    assert requests.Session is Session
    with_agent: client.AgentOptions = {"max_clients": 5, "verify": False}
    UserAgent(**with_agent).close()
    with_session: requests.SessionOptions = {"max_redirects": 5, "concurrency": 2}
    Session(**with_session).close()
    with_request: requests.RequestOptions = {"timeout": 5, "allow_redirects": False}
    assert with_request
    assert requests.RequestsResponse is RequestsResponse
    assert issubclass(requests.RequestsRequest, asking.CompatRequest)


def functions(url: str) -> None:
    for answer in (
        geventhttpclient.get(f"{url}/page"),
        geventhttpclient.head(f"{url}/page"),
        geventhttpclient.options(f"{url}/page"),
        geventhttpclient.delete(f"{url}/page"),
        geventhttpclient.post(f"{url}/echo", data=b"x"),
        geventhttpclient.put(f"{url}/page"),
        geventhttpclient.patch(f"{url}/page"),
        geventhttpclient.request("GET", f"{url}/page"),
    ):
        assert_type(answer, RequestsResponse)
    assert (api.get, api.head, api.options) == (geventhttpclient.get, geventhttpclient.head, geventhttpclient.options)
    assert (api.post, api.put, api.patch) == (geventhttpclient.post, geventhttpclient.put, geventhttpclient.patch)
    assert (api.delete, api.request) == (geventhttpclient.delete, geventhttpclient.request)


def credentials() -> None:
    given: auth.AuthValue = ("me", "secret")
    assert_type(auth.resolve_auth(given), str | None)
    assert_type(auth.netrc_auth("nowhere.example"), tuple[str, str] | None)
    assert_type(BasicAuth("me", "secret").auth_header(), str)
    assert auth.BasicAuth is BasicAuth
    digest = auth.DigestAuth("me", "secret")
    assert_type(digest.preemptive("GET", "/"), str | None)
    for found in challenges.parse_challenges('Basic realm="here"'):
        assert_type(found, challenges.Challenge)
        assert_type(found.params, dict[str, str])


def jars() -> None:
    jar = cookies.Cookies()
    jar.set("a", "b", domain="127.0.0.1")
    jar["c"] = "d"
    for one in jar:
        assert_type(one, Cookie)
    assert_type(jar.get_dict(), dict[str, str | None])
    given: cookies.CookiesInput = {"e": "f"}
    assert_type(cookies.jar_of(given), CookieJar)
    assert_type(cookies.merged(jar, given, host="127.0.0.1"), cookies.Cookies)
    request = useragent.CompatRequest("http://127.0.0.1/")
    cookies.bind(jar, request)
    cookies.add_cookies(jar, request)
    cookies.extract(jar, Headers({"Set-Cookie": "g=h"}), request)
    assert_type(cookies.received(Headers({"Set-Cookie": "g=h"}), request), cookies.Cookies)


def forms() -> None:
    data: multipart.DataInput = {"title": "Holidays"}
    files: multipart.FilesInput = {"film": ("film.mp4", b"...", "video/mp4")}
    form = multipart.Multipart(data, files)
    assert_type(form.content_type, str)
    assert_type(form.length, int | None)
    for piece in form:
        assert len(piece) <= multipart.PIECE
        assert_type(piece, bytes)
