"""Errors for invalid arguments: they name the argument, the value and the remedy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests.auth

import geventhttpclient
from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from geventhttpclient._agent.request import CompatRequest
from geventhttpclient._internal.argument_errors import nearest, unexpected
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.connectionpool import SSLConnectionPool
from geventhttpclient.cookies import Cookies
from geventhttpclient.header import Headers
from geventhttpclient.mock import MockRequest, MockResponse, MockTransport
from geventhttpclient.requests import RequestsResponse
from tests.support import cli
from tests.support.certificates import Certificates
from tests.support.ids import stable
from tests.support.peer import Peer

pytestmark = pytest.mark.usefixtures("bounded")

SECRET = "hunter2"
URL = "http://peer.test/"


class Any1:
    """An object that no argument takes."""


def transport() -> MockTransport:
    return MockTransport(lambda request: MockResponse(200, body=b"{}"))


def client(**options: Any) -> HTTPClient:
    return HTTPClient("peer.test", transport=transport(), **options)


def session(**options: Any) -> Session:
    return Session(transport=transport(), max_retries=0, **options)


def agent(**options: Any) -> UserAgent:
    return UserAgent(transport=transport(), max_retries=0, **options)


def httpx_client(**options: Any) -> httpx.Client:
    return httpx.Client(transport=transport(), **options)


def text_of(call: Callable[[], object], *kinds: type[BaseException]) -> str:
    with pytest.raises(kinds or (TypeError, ValueError)) as caught:
        call()
    return str(caught.value)


# -------------------------------------------------------------------------------------------------------- unknown names


@pytest.mark.parametrize("verb", ["get", "head", "options", "post", "put", "delete", "patch", "trace", "request"])
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("params", "url.request_uri"),
        ("json", "body=json.dumps(value)"),
        ("timeout", "network_timeout="),
        ("data", "body="),
        ("files", "multipart.Multipart"),
        ("auth", "BasicAuth"),
        ("cookies", "Cookie"),
        ("stream", "read"),
        ("allow_redirects", "follows no redirect"),
        ("verify", "HTTPClient"),
        ("proxies", "proxy="),
        ("conection_timeout", "did you mean connection_timeout?"),
        ("header", "did you mean headers?"),
    ],
)
def test_client_request_with_an_argument_of_other_clients_names_its_own(verb: str, name: str, remedy: str) -> None:
    target = ("GET", "/") if verb == "request" else ("/",)
    for made in (client(), client(on_request=lambda request: None)):
        text = text_of(lambda made=made: getattr(made, verb)(*target, **{name: "x"}), TypeError)  # type: ignore[misc]
        assert text.startswith(f"unexpected argument: {name}: ")
        assert remedy in text


@pytest.mark.parametrize(
    ("make", "name", "remedy"),
    [
        (make, name, remedy)
        for make in (
            lambda **kw: HTTPClient.from_url(URL, **kw),
            HTTPClientPool,
            UserAgent,
            Session,
            httpx.Client,
        )
        for name, remedy in [
            ("concurency", "did you mean concurrency?"),
            ("Verify", "did you mean verify?"),
            ("conection_timeout", "did you mean connection_timeout?"),
            ("max_connections", "concurrency="),
            ("ssl_context", "ssl_context_factory="),
        ]
    ],
)
def test_constructor_with_an_unknown_argument_gets_a_hint(make: Any, name: str, remedy: str) -> None:
    text = text_of(lambda: make(**{name: 1}), TypeError)
    assert text.startswith(f"unexpected argument: {name}")
    assert remedy in text


@pytest.mark.parametrize("make", [lambda **kw: HTTPClient.from_url(URL, **kw), HTTPClientPool, UserAgent, httpx.Client])
def test_constructor_without_proxies_names_proxy(make: Any) -> None:
    assert "proxy='http://host:port'" in text_of(lambda: make(proxies="http://x"), TypeError)


def test_arguments_of_a_subclass_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(HTTPClient):
        def __init__(self, *args: Any, extra: int = 0, **kw: Any) -> None:
            super().__init__(*args, **kw)
            self.extra = extra

    assert Mine.from_url(URL, extra=5).extra == 5
    monkeypatch.setattr("geventhttpclient.client.HTTPClient", Mine)
    made: Any = HTTPClientPool(extra=6).get_client(URL)
    assert made.extra == 6

    class Asking(Session):
        def request(self, method: str, url: Any, extra: int = 0, **kw: Any) -> RequestsResponse:
            return super().request(method, url, params={"extra": extra}, **kw)

    class Building(httpx.Client):
        def build_request(self, *args: Any, extra: int = 0, **kw: Any) -> httpx.Request:
            return super().build_request(*args, params={"extra": extra}, **kw)

    seen: list[str] = []
    answering = MockTransport(lambda request: (seen.append(request.query), (200,))[1])
    Asking(transport=answering).get(URL, extra=1)
    Building(transport=answering).get(URL, extra=2)
    assert seen == ["extra=1", "extra=2"]


VERBS = ["get", "options", "head", "post", "put", "patch", "delete"]


@pytest.mark.parametrize("verb", VERBS)
def test_request_with_an_unknown_argument_gets_a_hint(verb: str) -> None:
    for face in (session(), geventhttpclient, httpx_client(), httpx):
        text = text_of(lambda face=face: getattr(face, verb)(URL, parms={}), TypeError)  # type: ignore[misc]
        assert text == "unexpected argument: parms: did you mean params?"
    assert "allow_redirects" in text_of(lambda: getattr(session(), verb)(URL, follow_redirects=True), TypeError)
    assert "follow_redirects" in text_of(lambda: getattr(httpx_client(), verb)(URL, allow_redirects=True), TypeError)
    assert "Session" in text_of(lambda: getattr(session(), verb)(URL, max_retries=1), TypeError)


def test_type_errors_of_the_program_are_its_own() -> None:
    def fails(response: Any) -> None:
        raise TypeError("the program's")

    for call in (
        lambda: session(hooks={"response": fails}).get(URL),
        lambda: client().post("/", (fails(each) for each in [1])),
        lambda: client(on_request=fails).get("/"),
        lambda: client().get("/", headers=(fails(each) for each in [1])),
    ):
        assert text_of(call, TypeError) == "the program's"


def test_several_unknown_arguments_are_all_named() -> None:
    error = unexpected({"zeta", "parms", "proxy"}, ["params"], {"proxy": "pass it elsewhere"})
    assert str(error) == (
        "unexpected arguments: parms, proxy, zeta: parms: did you mean params?; proxy: pass it elsewhere"
    )
    assert str(unexpected({"zeta"}, ["params"])) == "unexpected argument: zeta"
    assert nearest("x" * 10_000, ["params"]) is None


# ---------------------------------------------------------------------------------------------------------- wrong types

NO_HEADERS = ["X: y", b"X: y", 5, True, Any1(), ["X: y"], [("a",)], [("a", "b", "c")], [5], {5: "a"}, {None: "a"}]


@pytest.mark.parametrize("headers", NO_HEADERS, ids=stable)
def test_invalid_headers_are_refused_by_every_interface(headers: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: Headers(headers),
        lambda: Headers({"a": "b"}).extend(headers),
        lambda: Headers().update(headers),
        lambda: client(headers=headers),
        lambda: client().get("/", headers),
        lambda: client(on_request=lambda request: None).get("/", headers),
        lambda: HTTPClientPool(headers=headers),
        lambda: agent(headers=headers),
        lambda: agent().urlopen(URL, headers=headers),
        lambda: session(headers=headers),
        lambda: session().get(URL, headers=headers),
        lambda: session().__setattr__("headers", headers),
        lambda: httpx_client(headers=headers),
        lambda: httpx_client().get(URL, headers=headers),
        lambda: httpx.Request("GET", URL, headers=headers),
    ]
    for call in calls:
        assert "header" in text_of(call, TypeError)


@pytest.mark.parametrize("trailers", ["X: y", 5, ["x"], {5: "a"}], ids=repr)
def test_invalid_trailers_are_refused_by_every_interface(trailers: Any) -> None:
    for call in (
        lambda: client().post("/", b"x", trailers=trailers),
        lambda: agent().urlopen(URL, "POST", payload=b"x", trailers=trailers),
        lambda: session().post(URL, b"x", trailers=trailers),
    ):
        assert "trailer" in text_of(call, TypeError)
    with Peer() as peer, HTTPClient(peer.host, peer.port) as real:
        assert "trailer" in text_of(lambda: real.post("/", b"x", trailers=trailers), TypeError)


@pytest.mark.parametrize("params", [5, True, 1.5, Any1(), ["a"], [5], [("a",)], [("a", "b", "c")]], ids=stable)
def test_invalid_params_are_refused_by_every_interface(params: Any) -> None:
    kept = session()
    kept.params = params
    for call in (
        lambda: geventhttpclient.URL(URL, params=params),
        lambda: agent().urlopen(URL, params=params),
        lambda: session(params=params),
        lambda: session().get(URL, params=params),
        lambda: kept.get(URL),
        lambda: httpx_client(params=params).get(URL),
        lambda: httpx_client().get(URL, params=params),
        lambda: httpx.Request("GET", URL, params=params),
    ):
        text = text_of(call)
        assert text.startswith("params must be a mapping, (name, value) pairs or a query as text")


SESSION_ARGUMENTS: list[tuple[str, Any, str]] = [
    ("proxies", f"http://user:{SECRET}@x", '{"http": "http://host:port"'),
    ("proxies", [f"http://user:{SECRET}@x"], "not a list"),
    ("proxies", {"http": 5}, "proxies['http'] must be a str"),
    ("proxies", {"htp": "http://x"}, "did you mean 'http'?"),
    ("proxies", {"HTTPS": "http://x"}, "did you mean 'https'?"),
    ("proxies", {5: "http://x"}, "by scheme"),
    ("hooks", [print], '{"response": function}'),
    ("hooks", print, '{"response": function}'),
    ("hooks", {"request": print}, "the only hook is 'response', not 'request'"),
    ("hooks", {"response": 5}, "hooks['response'] must be a function"),
    ("hooks", {"response": ["x"]}, "not a str"),
    ("cookies", "a=b", '{"name": "value"}'),
    ("cookies", [("a", "b")], '{"name": "value"}'),
    ("cookies", 5, '{"name": "value"}'),
    ("auth", 5, "a ready header value"),
    ("auth", ["user", SECRET], "a tuple of user name and password"),
    ("auth", ("user",), "a tuple of user name and password"),
    ("timeout", "5", "a number of seconds"),
    ("timeout", (1, 2, 3), "a tuple of two"),
    ("timeout", (1, "x"), "a number of seconds"),
    ("timeout", True, "a number of seconds"),
    ("timeout", {"connect": 1}, "a number of seconds"),
    ("timeout", -1, "at least 0"),
    ("cert", 5, "must be a file"),
    ("cert", (), "must be a file"),
    ("cert", ("a", "b", SECRET, "d"), "not of 4 items"),
    ("cert", {"certfile": "x"}, "not a dict"),
    ("cert", ("a", 5), "the keyfile must be a path"),
    ("verify", 5, "True, False, or a file"),
    ("verify", "", "must not be empty"),
    ("verify", Any1(), "not an Any1"),
    ("stream", "yes", "True or False"),
]


@pytest.mark.parametrize(("name", "value", "words"), SESSION_ARGUMENTS, ids=stable)
def test_session_argument_that_is_wrong_is_refused_before_anything_is_sent(name: str, value: Any, words: str) -> None:
    kinds = (TypeError, ValueError, NotImplementedError)
    answering = transport()
    calls: list[Callable[[], object]] = [
        lambda: Session(**{name: value}),
        lambda: Session(transport=answering).get(URL, **{name: value}),
        lambda: Session(transport=answering).request("POST", URL, **{name: value}),
    ]
    for call in calls:
        text = text_of(call, *kinds)
        assert name in text
        assert words in text
        assert SECRET not in text
    assert answering.requests == []


REQUEST_ARGUMENTS: list[tuple[str, Any, str]] = [
    ("data", 5, "not 5"),
    ("data", Any1(), "not an Any1"),
    ("json", Any1(), "not JSON serializable"),
    ("files", "x", "a mapping or pairs"),
    ("files", {"a": 5}, "an open file"),
    ("method", 5, "must be a str, not 5"),
    ("allow_redirects", "no", "True or False"),
]


@pytest.mark.parametrize(("name", "value", "words"), REQUEST_ARGUMENTS, ids=stable)
def test_request_argument_that_is_wrong_is_named(name: str, value: Any, words: str) -> None:
    renamed = {"allow_redirects": "follow_redirects"}.get(name, name)
    calls: list[tuple[str, Callable[[], object]]] = [
        (name, lambda: session().request(**{"method": "POST", "url": URL, name: value})),
        (renamed, lambda: httpx_client().request(**{"method": "POST", "url": URL, renamed: value})),
    ]
    for blamed, call in calls:
        text = text_of(call)
        assert blamed in text
        assert words in text


def test_urlopen_argument_that_is_wrong_is_named() -> None:
    for name, value in {
        "payload": 5,
        "method": 5,
        "files": "x",
        "max_retries": "x",
        "max_redirects": -1,
        "debug_stream": "file",
    }.items():
        given: dict[str, Any] = {"method": "POST", name: value}
        assert name in text_of(lambda given=given: agent().urlopen(URL, **given))  # type: ignore[misc]
    assert "fpath" in text_of(lambda: agent().download(URL, ["x"]), TypeError)  # type: ignore[arg-type]
    assert "chunk_size" in text_of(lambda: agent().download(URL, "x", chunk_size=0), ValueError)


@pytest.mark.parametrize(
    "statuses", [503, "503", b"503", ["503"], [None], [True], {503: "x", "a": 1}, Any1()], ids=stable
)
@pytest.mark.parametrize("make", [UserAgent, Session])
def test_invalid_retry_statuses_are_refused(make: Any, statuses: Any) -> None:
    assert "retry_statuses must be a list of status codes" in text_of(lambda: make(retry_statuses=statuses), TypeError)


@pytest.mark.parametrize("statuses", [[503], {502, 503}, (503,), range(500, 600), frozenset(), iter([503])], ids=stable)
def test_retry_statuses_may_be_any_numbers(statuses: Any) -> None:
    expected = frozenset(statuses) if not isinstance(statuses, Iterator) else {503}
    assert UserAgent(retry_statuses=statuses).retry_statuses == expected


def test_invalid_jar_is_refused() -> None:
    for make in (UserAgent, Session):
        assert "cookiejar must be" in text_of(lambda make=make: make(cookiejar="a=b"), TypeError)  # type: ignore[misc]
    with Session() as made:
        assert "cookies must be" in text_of(lambda: made.__setattr__("cookies", "a=b"), TypeError)
        assert "cookies must be" in text_of(lambda: made.__setattr__("cookies", Any1()), TypeError)


@pytest.mark.parametrize("hooks", [[print], "x", {"response": 5}, {"response": "x"}, {"response": [5]}], ids=repr)
def test_invalid_httpx_event_hooks_are_refused(hooks: Any) -> None:
    assert "event_hooks" in text_of(lambda: httpx_client(event_hooks=hooks))


def test_agents_refuse_options_that_their_clients_would_refuse() -> None:
    wrong: dict[str, Any] = {
        "concurrency": "many",
        "block_size": 0,
        "connection_timeout": "5",
        "network_timeout": -1,
        "pool_timeout": [5],
        "total_timeout": True,
        "dns_cache": "x",
        "verify": 5,
        "cert": 5,
        "proxy": 5,
        "ssl_context_factory": "x",
        "transport": "x",
        "local_address": 5,
        "uds": 5,
    }
    for name, value in wrong.items():
        for make in (HTTPClientPool, UserAgent, Session, httpx.Client, lambda **kw: HTTPClient("peer.test", **kw)):
            assert name in text_of(lambda make=make, name=name, value=value: make(**{name: value}))  # type: ignore[misc]
    assert "headers_type" in text_of(lambda: HTTPClient("peer.test", headers_type=5), TypeError)  # type: ignore[arg-type]


def test_every_argument_of_a_session_request_is_named_when_it_is_wrong() -> None:
    anything = {"url", "params", "json", "trailers"}  # text, and what is asked for its own text
    for name in inspect.signature(Session.request).parameters.keys() - {"self"} - anything:
        given = {"method": "POST", "url": URL, name: Any1()}
        kinds = (TypeError, ValueError, NotImplementedError)
        assert name in text_of(lambda given=given: session().request(**given), *kinds)  # type: ignore[misc]


def test_target_and_method_that_are_no_text_are_named() -> None:
    url = geventhttpclient.URL("http://peer.test/a?b=c")
    assert text_of(lambda: client().get(url), TypeError) == (  # type: ignore[arg-type]
        "request_uri must be a str, not a URL: pass url.request_uri"
    )
    assert "request_uri" in text_of(lambda: client().get(5), TypeError)  # type: ignore[arg-type]
    assert "method" in text_of(lambda: client().request(5, "/"), TypeError)  # type: ignore[arg-type]
    assert "method" in text_of(lambda: CompatRequest(URL, method=5), TypeError)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- hosts, URLs


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "example.org:80", "localhost:8080", "[::1]:8080", "0:80", "abc:80"])
def test_host_with_a_port_names_where_the_port_goes(host: str) -> None:
    text = text_of(lambda: HTTPClient(host), ValueError)
    assert "pass the port as port=" in text
    assert "HTTPClient.from_url" in text
    assert "proxy_port" in text_of(lambda: HTTPClient("a", proxy_host=host, proxy_port=1), ValueError)


@pytest.mark.parametrize("host", ["http://a.org", "https://a.org:8080/x", "a.org/x", "//a.org"])
def test_host_that_is_a_url_names_from_url(host: str) -> None:
    assert "pass a URL to HTTPClient.from_url" in text_of(lambda: HTTPClient(host), ValueError)


def test_host_that_is_an_address_of_any_kind_is_taken() -> None:
    for host in ("::1", "[::1]", "::", "fe80::1%eth0", "127.0.0.1", "example.org", "a_b"):
        HTTPClient(host).close()


def test_host_that_is_refused_shows_no_password() -> None:
    for host in (f"user:{SECRET}@a.org", f"http://user:{SECRET}@a.org", f"user:{SECRET}"):
        assert SECRET not in text_of(lambda host=host: HTTPClient(host), ValueError)  # type: ignore[misc]


URL_FACES: dict[str, Callable[[str], object]] = {
    "from_url": lambda url: HTTPClient.from_url(url),
    "get_client": lambda url: HTTPClientPool().get_client(url),
    "urlopen": lambda url: agent().urlopen(url),
    "session": lambda url: session().get(url),
    "package": lambda url: geventhttpclient.get(url),
    "httpx": lambda url: httpx_client().get(url),
    "httpx.Request": lambda url: httpx.Request("GET", url),
}
GUESSES = [
    ("example.org/x", "http://example.org/x"),
    ("example.org", "http://example.org"),
    ("localhost:8080/x", "http://localhost:8080/x"),
    ("127.0.0.1:8080", "http://127.0.0.1:8080"),
    ("[::1]:8080/", "http://[::1]:8080/"),
    ("//host/x", "http://host/x"),
    ("htp://host/x", "http://host/x"),
    ("htps://host/x", "https://host/x"),
    ("http:/host/x", "http://host/x"),
    ("http:///host/x", "http://host/x"),
    ("https:host", "https://host"),
]


@pytest.mark.parametrize("face", URL_FACES)
@pytest.mark.parametrize(("url", "meant"), GUESSES)
def test_url_without_a_scheme_or_host_gets_a_hint(face: str, url: str, meant: str) -> None:
    kind = httpx.UnsupportedProtocol if "httpx" in face else ValueError
    assert f"did you mean {meant!r}?" in text_of(lambda: URL_FACES[face](url), kind)


@pytest.mark.parametrize("face", URL_FACES)
@pytest.mark.parametrize("url", ["", "/x", "?q", "ftp://host/x", "ws://host/", "http://", "mailto:me", ".", "a b"])
def test_url_that_cannot_be_guessed_is_shown_without_a_guess(face: str, url: str) -> None:
    kind = httpx.UnsupportedProtocol if "httpx" in face else ValueError
    text = text_of(lambda: URL_FACES[face](url), kind)
    assert "did you mean" not in text
    assert repr(url) in text


@pytest.mark.parametrize("face", URL_FACES)
@pytest.mark.parametrize("url", [f"user:{SECRET}@host/x", f"htp://user:{SECRET}@host/x", f"//user:{SECRET}@host"])
def test_url_that_is_refused_shows_no_password(face: str, url: str) -> None:
    kind = httpx.HTTPError if "httpx" in face else ValueError
    assert SECRET not in text_of(lambda: URL_FACES[face](url), kind)


@pytest.mark.parametrize("face", URL_FACES)
@pytest.mark.parametrize("url", [None, 5, Any1()], ids=["None", "5", "object"])
def test_url_that_is_no_text_is_refused_without_a_guess(face: str, url: Any) -> None:
    text = text_of(lambda: URL_FACES[face](url), TypeError, ValueError, httpx.HTTPError)
    assert "URL" in text
    assert "did you mean" not in text


@pytest.mark.parametrize("face", [*URL_FACES, "URL"])
def test_url_in_bytes_asks_for_a_str(face: str) -> None:
    ask = URL_FACES.get(face, geventhttpclient.URL)
    text = text_of(lambda: ask(b"http://host/"), TypeError, ValueError, httpx.HTTPError)
    assert "a str" in text
    assert "bytes" in text


@pytest.mark.parametrize("url", [None, 5, Any1(), bytearray(b"http://host/")], ids=["None", "5", "object", "bytearray"])
def test_url_of_another_type_names_the_type(url: Any) -> None:
    assert "url must be a str or a URL" in text_of(lambda: geventhttpclient.URL(url), TypeError)


@pytest.mark.parametrize("made", [5, Any1(), "x", None], ids=["5", "object", "x", "None"])
def test_ssl_context_factory_that_returns_no_context_is_named(made: Any) -> None:
    def make() -> object:
        return HTTPClient("h", ssl=True, ssl_context_factory=lambda **kw: made).get("/")

    assert "ssl_context_factory must return an ssl.SSLContext" in text_of(make, TypeError)


def test_auth_of_requests_that_needs_hooks_names_digest_auth() -> None:
    auth: Any = requests.auth.HTTPDigestAuth("user", SECRET)
    text = text_of(lambda: session().get(URL, auth=auth), TypeError)
    assert "geventhttpclient.auth.DigestAuth" in text
    assert SECRET not in text


@pytest.mark.parametrize("changed", [None, 5], ids=repr)
def test_httpx_auth_function_that_returns_no_request_is_named(changed: Any) -> None:
    assert "auth must return the request" in text_of(
        lambda: httpx_client().get(URL, auth=lambda request: changed), TypeError
    )


def test_command_line_says_which_url_was_meant(capfdbinary: Any) -> None:
    for command in ("get", "download", "bench"):
        for url, meant in (("htp://host/x", "http://host/x"), ("//host/x", "http://host/x")):
            status, _, error = cli.run(command, url)
            assert status == 2
            assert f"did you mean '{meant}'?" in error


# ------------------------------------------------------------------------------------------------------------------ TLS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ca_cert": "x"}, "no 'ca_cert': did you mean 'ca_certs'?"),
        ({"ca_cert": None}, "no 'ca_cert': did you mean 'ca_certs'?"),
        ({"cafile": "x"}, "did you mean 'ca_certs'?"),
        ({"cert_req": 0}, "did you mean 'cert_reqs'?"),
        ({"cipher": "x"}, "did you mean 'ciphers'?"),
        ({"key_file": "x"}, "did you mean 'keyfile'?"),
        ({"verify": False}, "verify="),
        ({"check_hostname": False}, "insecure=True"),
        ({"server_side": True}, "a client is never the server"),
        ({"do_handshake_on_connect": False}, "the handshake"),
        ({"nothing": 1}, "ssl_options has no 'nothing'"),
        ({5: 1}, "ssl_options has no 5"),
        ("x", "ssl_options must be a mapping"),
        (["ca_certs"], "ssl_options must be a mapping"),
        (5, "ssl_options must be a mapping"),
    ],
    ids=repr,
)
def test_ssl_options_without_effect_are_refused(options: Any, words: str) -> None:
    for call in (
        lambda: HTTPClient("a", ssl_options=options),
        lambda: HTTPClient.from_url("https://a", ssl_options=options),
        lambda: UserAgent(ssl_options=options).urlopen("https://a/"),
        lambda: client(ssl_options=options),
        lambda: SSLConnectionPool("a", 443, "a", 443, ssl_options=options),
    ):
        assert words in text_of(call)
    proxied = {"proxy": "https://proxy.test", "proxy_ssl_options": options}
    assert words.replace("ssl_options", "proxy_ssl_options") in text_of(lambda: HTTPClient("a", **proxied))


def test_ssl_options_of_plain_http_are_not_checked() -> None:
    HTTPClient.from_url("http://a", ssl_options={"nothing": 1}).close()


def test_ssl_options_that_change_nothing_are_accepted() -> None:
    options = {"server_side": False, "do_handshake_on_connect": True, "suppress_ragged_eofs": False}
    HTTPClient("a", ssl_options=options).close()


# ------------------------------------------------------------------------------------------------- arguments of Session


def test_session_takes_its_attributes_in_the_constructor() -> None:
    seen: list[MockRequest] = []

    def handler(request: MockRequest) -> MockResponse:
        seen.append(request)
        return MockResponse(200, body=iter([b"a", b"b"]))

    called: list[Any] = []
    made = Session(
        transport=MockTransport(handler),
        auth=("me", "secret"),
        params={"token": "t"},
        timeout=(1, 2),
        cookies={"a": "b"},
        proxies={"http": None},
        hooks={"response": called.append},
        stream=False,
        headers={"X-A": "b"},
        trust_env=False,
    )
    with made:
        response = made.get(URL, params={"q": "1"})
        assert response.isclosed()
        assert called == [response]
    (request,) = seen
    assert request.query == "token=t&q=1"
    assert request.timeouts[:2] == (1.0, 2.0)
    assert request.headers["authorization"].startswith("Basic ")  # type: ignore[union-attr]
    assert (request.headers["cookie"], request.headers["x-a"]) == ("a=b", "b")
    assert (made.params, made.timeout, made.stream, made.proxies) == ({"token": "t"}, (1, 2), False, {"http": None})
    assert made.hooks == {"response": called.append}
    assert made.cookies["a"] == "b"


def test_session_verify_and_cert_are_those_of_its_clients_and_attributes(certificates: Certificates) -> None:
    cert = (str(certificates.client.chain), str(certificates.client.key))
    with Session(verify=False, cert=list(cert)) as made:  # type: ignore[arg-type]
        assert (made.verify, made.cert) == (False, cert)
        assert made.clientpool.client_args["verify"] is False
        assert made.clientpool.client_args["cert"] == cert
    with Session(verify=False, transport=transport()) as made:
        made.get("https://peer.test/")
        assert made._pools == {}  # the clients' own
        made.verify = True
        made.get("https://peer.test/")
        made.get("https://peer.test/", verify=False)
        assert len(made._pools) == 2


def test_session_cookies_and_cookiejar_exclude_one_another() -> None:
    jar = Cookies()
    assert Session(cookies=jar).cookies is jar
    for call in (
        lambda: Session(cookies={"a": "b"}, cookiejar=jar),
        lambda: Session(3, 3, 0, jar, cookies={"a": "b"}),
    ):
        assert "cookies and cookiejar" in text_of(call, ValueError)


def test_session_attributes_of_a_subclass_and_positional_arguments_count() -> None:
    class Mine(Session):
        timeout = 3
        verify = False
        params = {"a": "b"}

    with Mine(5, 1, 0.5, None, {"X": "y"}, transport=transport()) as made:
        assert (made.max_redirects, made.max_retries, made.retry_delay, made.cookiejar) == (5, 1, 0.5, None)
        assert (made.timeout, made.verify, made.params, made.headers["x"]) == (3, False, {"a": "b"}, "y")
        made.get("https://peer.test/")
        assert len(made._pools) == 1
    assert Mine(params={"c": "d"}).params == {"c": "d"}


@pytest.mark.parametrize(("stream", "read"), [(False, True), (0, True), (True, False), (1, False), (None, False)])
def test_session_stream_may_be_a_number(stream: Any, read: bool) -> None:
    answering = MockTransport(lambda request: MockResponse(200, body=iter([b"a", b"b"])))
    assert Session(transport=answering, stream=stream).get(URL).isclosed() is read
    assert Session(transport=answering).get(URL, stream=stream).isclosed() is read
