"""Data for one origin or proxy reaches no other: hosts with a backslash, cookies, certificates, Proxy-Authorization."""

from __future__ import annotations

import copy
import http.client
import pickle
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx as their_httpx
import pytest
import requests
from urllib3.exceptions import LocationParseError

from geventhttpclient import HTTPClient, Session, UserAgent, httplib, httplib2, httpx, useragent
from geventhttpclient._agent.request import CompatRequest
from geventhttpclient.adapters.httpx import Transport
from geventhttpclient.adapters.requests import Adapter
from geventhttpclient.adapters.urllib3 import HTTPConnectionPool, PoolManager, connection_from_url, proxy_from_url
from geventhttpclient.cli import main
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.cookies import Cookies, add_cookies, bind, extract, merged
from geventhttpclient.header import Headers
from geventhttpclient.mock import MockTransport
from geventhttpclient.proxy import Proxy, ProxyError
from geventhttpclient.url import URL
from tests.support.certificates import Certificates
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.proxies import tunnelling
from tests.support.scripted import answer, saying

pytestmark = pytest.mark.usefixtures("bounded")

# ----------------------------------------------------------------------------------------- backslashes in an authority

TRICKS = [
    "http://127.0.0.1:80\\@evil.invalid/",
    "http://127.0.0.1\\@evil.invalid",
    "https://a\\b/",
    "http://me:p\\w@h/",
]

ENTRANCES: dict[str, Callable[[str], object]] = {
    "URL": URL,
    "from_url": HTTPClient.from_url,
    "assigned": lambda url: HTTPClient.from_url(URL(("http", url.split("/")[2], "/", "", "", ""))),
    "UserAgent": lambda url: UserAgent().urlopen(url),
    "Session": lambda url: Session().get(url),
    "httplib2": lambda url: httplib2.Http().request(url),
    "HTTPClient": lambda url: HTTPClient(url.split("/")[2], 80),
    "pool": lambda url: HTTPClientPool().get_client(url),
    "request": lambda url: HTTPClient("127.0.0.1").get(url),
    "proxy": lambda url: HTTPClient("h.invalid", proxy=url),
    "proxy host": lambda url: HTTPClient("h.invalid", proxy_host=url.split("/")[2], proxy_port=80),
    "Proxy": lambda url: Proxy("http", url.split("/")[2], 80),
    "resolve": lambda url: HTTPClient("h.invalid", resolve={url.split("/")[2] + ":80": "127.0.0.1"}),
    "hostname": lambda url: setattr(URL("http://h/"), "hostname", url.split("/")[2]),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("url", TRICKS)
def test_backslash_in_an_authority_is_refused(entrance: str, url: str) -> None:
    with pytest.raises((ValueError, http.client.InvalidURL)):
        ENTRANCES[entrance](url)


def test_backslash_in_an_authority_is_named_by_the_error() -> None:
    with pytest.raises(ValueError, match=r"'\\\\', which must be percent-encoded"):
        URL(TRICKS[0])
    with pytest.raises(httpx.InvalidURL, match="percent-encoded"):
        httpx.Client().get(TRICKS[0])


@pytest.mark.parametrize("kind", [httplib.HTTPConnection, httplib.HTTPSConnection, httplib2.HTTPConnection])
@pytest.mark.parametrize("host", ["127.0.0.1:80\\@evil.invalid", "evil.invalid\\@127.0.0.1", "a\\b:80", "me@host"])
def test_httplib_host_with_a_backslash_or_a_user_is_refused(kind: Any, host: str) -> None:
    with pytest.raises(http.client.InvalidURL):
        kind(host)
    if kind is not httplib2.HTTPConnection:
        with pytest.raises(http.client.InvalidURL):
            kind("127.0.0.1", 1).set_tunnel(host)


@pytest.mark.parametrize("location", [*TRICKS, "//127.0.0.1\\@evil.invalid/"])
def test_location_with_a_backslash_in_its_authority_is_refused(location: str) -> None:
    transport = MockTransport(lambda request: (302, {"Location": location}))
    for agent in (UserAgent(transport=transport), Session(transport=transport)):
        with pytest.raises(useragent.InvalidRedirectError):
            agent.urlopen("http://h.invalid/")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.Client(transport=transport, follow_redirects=True).get("http://h.invalid/")
    assert {request.url for request in transport.requests} == {"http://h.invalid/"}


@pytest.mark.parametrize("command", ["get", "download", "bench"])
def test_command_refuses_a_backslash_in_an_authority(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([command, TRICKS[0]]) == 2
    assert "percent-encoded" in capfd.readouterr().err


BACKSLASHES = [
    *TRICKS,
    "http://evil.invalid\\@good.invalid/",
    "http:\\\\good.invalid\\x",
    "evil.invalid\\@good.invalid/",
    "//evil.invalid\\@good.invalid/",
]
URLLIB3: dict[str, Callable[[str], object]] = {
    "request": lambda url: PoolManager(retries=False).request("GET", url),
    "by a proxy": lambda url: proxy_from_url("http://127.0.0.1:1", retries=False).request("GET", url),
    "manager's connection_from_url": lambda url: PoolManager().connection_from_url(url),
    "connection_from_url": connection_from_url,
    "proxy": proxy_from_url,
    "host": lambda url: PoolManager().connection_from_host(url.strip("/").split("//")[-1]),
    "pool": lambda url: HTTPConnectionPool(url.strip("/").split("//")[-1]),
}


@pytest.mark.parametrize("way", URLLIB3)
@pytest.mark.parametrize("url", BACKSLASHES)
def test_urllib3_adapter_refuses_a_backslash_in_an_authority(way: str, url: str) -> None:
    with pytest.raises(LocationParseError) as caught:
        URLLIB3[way](url)
    assert "p\\w" not in str(caught.value)


def test_urllib3_adapter_follows_no_redirect_to_an_authority_with_a_backslash() -> None:
    location = "Location: http://127.0.0.1\\@good.invalid/"
    with Peer(saying(answer(b"", "302 Found", location))) as peer, PoolManager() as manager:
        with pytest.raises(LocationParseError):
            manager.request("GET", peer.url)
        assert len(peer.requests) == 1


def test_adapters_refuse_a_backslash_that_they_see() -> None:
    request = requests.Request("GET", "http://h.invalid/").prepare()
    for url in TRICKS:
        request.url = url
        with pytest.raises(requests.exceptions.InvalidURL):
            Adapter().send(request)
    with their_httpx.Client(transport=Transport()) as client, pytest.raises(their_httpx.LocalProtocolError):
        client.get("http://good.invalid\\.evil.invalid/")


def test_backslash_in_a_path_stays_one_of_that_host() -> None:
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client, Session() as session:
        client.get("/a\\b").read()
        session.get(f"{peer.url}/\\evil.invalid/a\\b").close()
        assert [request.target for request in peer.requests] == ["/a\\b", "/%5Cevil.invalid/a%5Cb"]


# ----------------------------------------------------------------------------------------------- user and password


def test_request_with_a_user_in_its_url_names_the_bare_host() -> None:
    request = CompatRequest("http://me:pw@Host.invalid:81/x")
    for made in (request, CompatRequest(URL("http://me:pw@Host.invalid:81/x"))):
        assert (made.host, made.get_host(), made.origin_req_host) == ("Host.invalid:81", "host.invalid", "host.invalid")
        assert made.get_full_url() == "http://Host.invalid:81/x"
        assert made.url == "http://me:pw@Host.invalid:81/x"
    request.redirect(302, "/y")
    assert request.url == "http://Host.invalid:81/y"
    request.redirect(302, "http://you:secret@other.invalid/z")
    assert (request.url, request.host) == ("http://other.invalid/z", "other.invalid")


@pytest.mark.parametrize("jar", [CookieJar, Cookies])
def test_cookies_of_a_url_with_a_user_belong_to_the_host(jar: type[CookieJar]) -> None:
    kept = jar()
    request = CompatRequest("http://me:pw@www.example.org:8080/")
    extract(kept, Headers({"Set-Cookie": "a=b"}), request)
    assert [cookie.domain for cookie in kept] == ["www.example.org"]
    for url in ("http://www.example.org/", "http://you@www.example.org/"):
        other = CompatRequest(url)
        add_cookies(kept, other)
        assert other.get_header("Cookie") == "a=b"


def test_cookies_and_pools_do_not_depend_on_the_user_of_a_url() -> None:
    with Peer(saying(*[answer(b"ok", "200 OK", "Set-Cookie: a=b")] * 9)) as peer:
        mine, yours = (peer.url.replace("://", f"://{user}@") for user in ("me:pw", "you:wp"))
        agents: list[Any] = [UserAgent(cookiejar=CookieJar()), Session(), httpx.Client()]
        for agent in agents:
            get = agent.get if hasattr(agent, "get") else agent.urlopen
            for url in (mine, yours, peer.url):
                assert get(url).content == b"ok"
            assert {cookie.domain for cookie in agent.cookiejar} == {"127.0.0.1"}
            agent.close()
        assert len(peer.conns) == len(agents)
        assert {request.get("host") for request in peer.requests} == {f"127.0.0.1:{peer.port}"}
        assert [request.get("cookie") for request in peer.requests] == [None, "a=b", "a=b"] * len(agents)


def test_requests_adapter_shares_connections_between_users() -> None:
    with Peer(serve_ok) as peer, requests.Session() as session:
        session.mount("http://", Adapter())
        for user in ("", "me:pw@", "you:wp@"):
            assert session.get(peer.url.replace("://", f"://{user}")).ok
        assert len(peer.conns) == 1


def test_httplib_sends_no_user_of_an_absolute_url() -> None:
    with Peer(serve_ok) as peer, closing(httplib.HTTPConnection(peer.host, peer.port)) as connection:
        connection.request("GET", "http://me:pw@there.invalid:81/x@y")
        connection.getresponse().read()
        (request,) = peer.requests
        assert (request.target, request.get("host")) == ("http://there.invalid:81/x@y", "there.invalid:81")


# ------------------------------------------------------------------------------------------------------ cookies by name


class Echo(MockTransport):
    """Redirects requests with `to=` in the query, and records the cookies that each host received."""

    def __init__(self) -> None:
        super().__init__(self.handle)
        self.cookies: list[tuple[str, str | None]] = []

    def handle(self, request: Any) -> Any:
        self.cookies.append((request.url.partition("?")[0], request.headers.get("Cookie")))
        target = URL(request.url).get("to")
        return (307, {"Location": target}) if target else (200, {}, b"ok")


def leading(*urls: str) -> str:
    """Returns a URL that redirects to the next one, and so on."""
    first, *rest = urls
    if not rest:
        return first
    url = URL(first)
    url["to"] = leading(*rest)
    return str(url)


CHAIN = ("https://example.org/", "https://www.example.org/", "https://other.invalid/", "https://example.org/back")


def getting(kind: str, transport: Echo, **of_agent: Any) -> Callable[..., Any]:
    if kind == "Session":
        return Session(transport=transport, **of_agent).get
    return httpx.Client(transport=transport, follow_redirects=True, **of_agent).get


def test_cookies_of_a_request_go_to_its_host_alone() -> None:
    transport = Echo()
    getting("Session", transport)(leading(*CHAIN), cookies={"own": "1"})
    assert [cookie for _, cookie in transport.cookies] == ["own=1", None, None, "own=1"]
    transport.cookies.clear()
    getting("httpx.Client", transport)(leading(*CHAIN), cookies={"own": "1"})
    assert [cookie for _, cookie in transport.cookies[:3]] == ["own=1", None, None]


@pytest.mark.parametrize("kind", ["Session", "httpx.Client"])
def test_cookies_of_a_request_are_not_sent_in_the_clear_after_https(kind: str) -> None:
    transport = Echo()
    getting(kind, transport)(leading("https://example.org/", "http://example.org/"), cookies={"own": "1"})
    assert [cookie for _, cookie in transport.cookies] == ["own=1", None]


SESSION_WIDE: dict[str, Callable[[Any], object]] = {
    "item": lambda agent: agent.cookies.__setitem__("own", "1"),
    "set": lambda agent: agent.cookies.set("own", "1"),
    "update": lambda agent: agent.cookies.update({"own": "1"}),
    "assigned": lambda agent: setattr(agent, "cookies", {"own": "1"}),
}


@pytest.mark.parametrize("way", SESSION_WIDE)
@pytest.mark.parametrize("agent_class", [Session, httpx.Client])
def test_cookies_by_name_belong_to_the_first_host_they_are_sent_to(way: str, agent_class: Any) -> None:
    transport = Echo()
    agent = agent_class(transport=transport)
    SESSION_WIDE[way](agent)
    follow = {"follow_redirects": True} if agent_class is httpx.Client else {}
    agent.get(leading(*CHAIN), **follow)
    agent.get("https://other.invalid/")
    agent.get("https://www.example.org/")
    agent.get("http://example.org/")
    agent.get("https://example.org/")
    assert [cookie for _, cookie in transport.cookies] == ["own=1", None, None, "own=1", None, None, None, "own=1"]
    assert agent.cookies["own"] == "1"
    assert [cookie.domain for cookie in agent.cookies] == ["example.org"]


def test_cookies_of_an_httpx_client_belong_to_the_first_host() -> None:
    transport = Echo()
    client = httpx.Client(transport=transport, cookies={"own": "1"})
    for url in ("http://a.invalid/", "http://b.invalid/", "http://a.invalid/"):
        client.get(url)
    assert [cookie for _, cookie in transport.cookies] == ["own=1", None, "own=1"]


def test_cookies_of_a_session_and_of_a_request_belong_to_the_same_host() -> None:
    transport = Echo()
    session = Session(transport=transport)
    session.cookies.set("kept", "1")
    session.get(leading("http://a.invalid/", "http://b.invalid/"), cookies={"own": "2"})
    session.get("http://b.invalid/", cookies={"own": "3"})
    assert [cookie for _, cookie in transport.cookies] == ["kept=1; own=2", None, "own=3"]


def test_cookie_of_a_domain_with_a_dot_goes_below_it() -> None:
    transport = Echo()
    session = Session(transport=transport)
    session.cookies.set("wide", "1", domain=".example.org")
    session.cookies.set("narrow", "1", domain="example.org")
    for url in ("http://example.org/", "http://www.example.org/", "http://other.invalid/"):
        session.get(url)
    assert [set((cookie or "").split("; ")) for _, cookie in transport.cookies] == [
        {"wide=1", "narrow=1"},
        {"wide=1"},
        {""},
    ]


# ---------------------------------------------------------------------------------------------- `host` and `host.local`

LOCAL = ("http://host/", "http://host.local/", "http://HOST:81/", "http://www.host.local/", "http://www.host/")


def cookies_at(jar: CookieJar) -> list[str | None]:
    """Returns the cookie field that a jar sends to each of LOCAL."""
    fields = []
    for url in LOCAL:
        request = CompatRequest(url)
        add_cookies(jar, request)
        fields.append(request.get_header("Cookie"))
    return fields


@pytest.mark.parametrize("kind", ["Session", "httpx.Client"])
@pytest.mark.parametrize(
    ("first", "second"), [("http://host/", "http://host.local/"), ("http://h.local/", "http://h/")]
)
def test_cookies_by_name_go_to_one_of_host_and_host_local(kind: str, first: str, second: str) -> None:
    transport = Echo()
    getting(kind, transport)(leading(first, second), cookies={"own": "1"})
    assert transport.cookies == [(first, "own=1"), (second, None)]
    agents = [Session(transport=transport), httpx.Client(transport=transport, cookies={"own": "1"})]
    agents[0].cookies["own"] = "1"
    for agent in agents:
        transport.cookies.clear()
        for url in (first, second, first):
            agent.get(url)
        assert transport.cookies == [(first, "own=1"), (second, None), (first, "own=1")]


def test_cookie_of_a_server_goes_to_one_of_host_and_host_local() -> None:
    for policy in (None, DefaultCookiePolicy()):
        jar = Cookies(policy)
        extract(jar, Headers({"Set-Cookie": "a=b"}), CompatRequest("http://host/"))
        assert cookies_at(jar)[:4] == ["a=b", None, "a=b", None]
        extract(jar, Headers({"Set-Cookie": "a=c"}), CompatRequest("http://host.local/"))
        assert cookies_at(jar)[:3] == [None, "a=c", None]


def test_cookie_of_a_server_may_not_name_the_domain_of_another_host() -> None:
    for host, domain, fields in (
        ("host", "host.local", [None] * 5),
        ("host", ".local", [None] * 5),
        ("host.local", "local", [None] * 5),
        ("host.local", "host.local", [None, "a=b", None, "a=b", None]),
        # A server can mark none of its cookies as those of another host.
        ("host.local", "host.local; _host=host", [None, "a=b", None, "a=b", None]),
    ):
        jar = Cookies()
        extract(jar, Headers({"Set-Cookie": f"a=b; Domain={domain}"}), CompatRequest(f"http://{host}/"))
        assert cookies_at(jar) == fields, (host, domain)


def test_cookie_by_name_in_a_standard_jar_goes_to_one_of_host_and_host_local() -> None:
    jar = CookieJar()
    for cookie in merged({"own": "1"}):
        jar.set_cookie(cookie)
    bind(jar, CompatRequest("http://host/"))
    assert cookies_at(jar)[:4] == ["own=1", None, "own=1", None]
    assert [cookie.domain for cookie in jar] == ["host.local"]


def test_cookie_of_a_local_host_is_found_copied_and_cleared() -> None:
    jar = Cookies()
    jar.set("a", "1", domain="host")
    jar.set("b", "2", domain="host.local")
    assert cookies_at(jar)[:2] == ["a=1", "b=2"]
    assert jar.get("a", domain="host") == jar.get("a", domain="host.local") == "1"
    assert jar.get_dict("host.local") == {"a": "1", "b": "2"}
    pickled = Cookies()
    for cookie in pickle.loads(pickle.dumps(list(jar))):
        pickled.set_cookie(cookie)
    for same in (merged(jar), copy.copy(jar), pickled):
        assert cookies_at(same) == cookies_at(jar)
    jar.set("a", None, domain="host")
    assert jar.keys() == ["b"]
    jar.clear("host.local", "/", "b")
    assert not len(jar)


# -------------------------------------------------------------------------------------------------- Proxy-Authorization

MINE = {"Proxy-Authorization": "Digest sesame"}


@pytest.fixture
def origin(certificates: Certificates) -> Iterator[Peer]:
    """An https origin."""
    with Peer(serve_ok, tls=certificates.valid.server()) as peer:
        yield peer


def check_told(proxy: Peer, origin: Peer, value: str | None) -> None:
    """Checks that each CONNECT sent that value to the proxy, and that the origin received none."""
    assert proxy.requests
    assert origin.requests
    assert {request.method for request in proxy.requests} == {"CONNECT"}
    assert {request.get("proxy-authorization") for request in proxy.requests} == {value}
    assert {request.get("proxy-authorization") for request in origin.requests} == {None}


TUNNELLED: dict[str, Callable[[str, dict[str, Any]], object]] = {
    "headers of a request": lambda url, options: HTTPClient.from_url(url, **options).get("/", headers=MINE).read(),
    "headers of a client": lambda url, options: HTTPClient.from_url(url, headers=MINE, **options).get("/").read(),
    "in any spelling": lambda url, options: (
        HTTPClient.from_url(url, **options).get("/", headers=[("PROXY-authorization", b"Digest sesame")]).read()
    ),
    "HTTP/2 is offered": lambda url, options: (
        HTTPClient.from_url(url, http2=True, **options).get("/", headers=MINE).read()
    ),
    "UserAgent": lambda url, options: UserAgent(headers=MINE, **options).urlopen(url).content,
    "Session": lambda url, options: Session(**options).get(url, headers=MINE).content,
    "Session with proxies": lambda url, options: (
        Session(verify=options["verify"]).get(url, headers=MINE, proxies={"https": options["proxy"]}).content
    ),
    "httpx.Client": lambda url, options: httpx.Client(**options).get(url, headers=MINE).content,
}


@pytest.mark.parametrize("way", TUNNELLED)
@pytest.mark.parametrize("user", ["", "me:other@"])
def test_proxy_authorization_of_a_tunnelled_request_goes_to_the_proxy_alone(
    way: str, user: str, origin: Peer, certificates: Certificates
) -> None:
    with Peer(tunnelling) as proxy:
        options = {"proxy": proxy.url.replace("://", f"://{user}"), "verify": str(certificates.ca)}
        TUNNELLED[way](f"https://localhost:{origin.port}/", options)
        check_told(proxy, origin, "Digest sesame")


def test_proxy_authorization_for_a_context_of_the_programs_goes_to_the_proxy_alone(
    origin: Peer, certificates: Certificates
) -> None:
    with Peer(tunnelling) as proxy:
        client = HTTPClient(
            "localhost",
            origin.port,
            proxy=proxy.url,
            headers=MINE,
            ssl_context_factory=lambda **_: ssl.create_default_context(cafile=str(certificates.ca)),
            ssl_options={},
        )
        with closing(client):
            client.get("/").read()
        check_told(proxy, origin, "Digest sesame")


def test_proxy_authorization_is_asked_for_by_the_environment_of_a_proxy(
    origin: Peer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(tunnelling) as proxy, Session(trust_env=True, verify=str(certificates.ca), headers=MINE) as session:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        session.get(f"https://localhost:{origin.port}/").close()
        check_told(proxy, origin, "Digest sesame")
        monkeypatch.setenv("no_proxy", "localhost")
        session.close()
        session.get(f"https://localhost:{origin.port}/").close()
        assert origin.requests[-1].get("proxy-authorization") is None


@pytest.mark.parametrize("adapter", ["requests", "urllib3"])
def test_proxy_authorization_through_an_adapter_goes_to_the_proxy_alone(
    adapter: str, origin: Peer, certificates: Certificates
) -> None:
    url, ca = f"https://localhost:{origin.port}/", str(certificates.ca)
    with Peer(tunnelling) as proxy:
        if adapter == "requests":
            with requests.Session() as session:
                session.trust_env = False
                session.mount("https://", Adapter())
                assert session.get(url, headers=MINE, proxies={"https": proxy.url}, verify=ca).ok
        else:
            with proxy_from_url(proxy.url, ca_certs=ca) as manager:
                assert manager.request("GET", url, headers=MINE).status == 200
        check_told(proxy, origin, "Digest sesame")


def test_proxy_authorization_of_a_plain_proxied_request_is_kept() -> None:
    with Peer(serve_ok) as proxy, closing(HTTPClient("h.invalid", proxy=proxy.url)) as client:
        client.get("/", headers=MINE).read()
        assert proxy.requests[0].get("proxy-authorization") == "Digest sesame"


DIRECT: dict[str, Callable[[str], object]] = {
    "headers of a request": lambda url: HTTPClient.from_url(url).get("/", headers=MINE).read(),
    "headers of a client": lambda url: HTTPClient.from_url(url, headers=MINE).get("/").read(),
    "HTTP/2": lambda url: HTTPClient.from_url(url)._build_request("GET", "/", headers=MINE),
    "UserAgent": lambda url: UserAgent(headers=MINE).urlopen(url).content,
    "Session": lambda url: Session().get(url, headers=MINE).content,
    "httpx.Client": lambda url: httpx.Client().get(url, headers=MINE).content,
    "urllib3": lambda url: PoolManager().request("GET", url, headers=MINE).data,
    "httplib2": lambda url: httplib2.Http(proxy_info=None).request(url, headers=dict(MINE)),
}


@pytest.mark.parametrize("way", DIRECT)
def test_proxy_authorization_without_a_proxy_is_not_sent(way: str) -> None:
    with Peer(serve_ok) as peer:
        made = DIRECT[way](f"{peer.url}/")
        assert "sesame" not in str(made)
        for request in peer.requests:
            assert request.get("proxy-authorization") is None


def test_proxy_authorization_by_httplib_follows_absolute_urls_alone() -> None:
    with Peer(serve_ok) as peer, closing(httplib.HTTPConnection(peer.host, peer.port)) as connection:
        for target in ("/", "http://there.invalid/", "/"):
            connection.request("GET", target, headers=MINE)
            connection.getresponse().read()
        told = [request.get("proxy-authorization") for request in peer.requests]
        assert told == [None, "Digest sesame", None]


def test_proxy_authorization_by_httplib_does_not_pass_a_tunnel() -> None:
    with Peer(serve_ok) as origin, Peer(tunnelling) as proxy:
        with closing(httplib.HTTPConnection(proxy.host, proxy.port)) as connection:
            connection.set_tunnel(origin.host, origin.port, {"Proxy-Authorization": "Basic eDp5"})
            connection.request("GET", "/", headers=MINE)
            connection.getresponse().read()
        check_told(proxy, origin, "Basic eDp5")


def test_proxy_authorization_that_a_proxy_repeats_is_not_shown() -> None:
    token = "bWU6b3Blbi1zZXNhbWU="  # me:open-sesame

    def refuse(conn: Conn) -> None:
        conn.read_head()
        conn.send(answer(f"no {token}, no open-sesame".encode(), f"407 not {token}", "Content-Type: text/plain"))

    for headers in ({"Proxy-Authorization": f"Basic {token}"}, {"Proxy-Authorization": token}):
        with Peer(refuse) as proxy, closing(HTTPClient("h.invalid", ssl=True, proxy=proxy.url)) as client:
            with pytest.raises(ProxyError) as caught:
                client.get("/", headers=headers)
            assert token not in str(caught.value)
            assert "open-sesame" not in str(caught.value)


def test_proxy_authorization_with_a_line_end_is_refused() -> None:
    with pytest.raises(ValueError, match="Proxy-Authorization") as caught:
        HTTPClient("h.invalid").get("/", headers={"Proxy-Authorization": "Basic sesame\r\nX: y"})
    assert "sesame" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------- certificates


@pytest.fixture
def askers(certificates: Certificates) -> Iterator[tuple[Peer, Peer, list[list[str]]]]:
    """Two https origins that ask for a certificate, where `/to` of the first leads to the second; and who has shown one
    to which."""
    context = certificates.valid.server()
    context.load_verify_locations(str(certificates.ca))
    context.verify_mode = ssl.CERT_OPTIONAL
    shown: list[list[str]] = [[], []]

    def script(which: int) -> Callable[[Conn], None]:
        def serve(conn: Conn) -> None:
            while (request := conn.read_request()) is not None:
                shown[which].append("certificate" if conn.sock.getpeercert() else "nothing")  # type: ignore[attr-defined]
                if request.target == "/to":
                    location = f"https://localhost:{peers[1].port}/there"
                    conn.send(answer(b"", "302 Found", f"Location: {location}"))
                elif request.target == "/here":
                    conn.send(answer(b"", "302 Found", "Location: /again"))
                else:
                    conn.send(answer(b"ok"))

        return serve

    peers: list[Peer] = []
    with Peer(script(0), tls=context) as first, Peer(script(1), tls=context) as second:
        peers += [first, second]
        yield first, second, shown


CERTIFIED: dict[str, Callable[[Any, str, Any], Any]] = {
    "UserAgent": lambda pair, ca, more: UserAgent(verify=ca, cert=pair, **more),
    "Session": lambda pair, ca, more: Session(verify=ca, cert=pair, **more),
    "Session's attribute": lambda pair, ca, more: with_attribute(Session(verify=ca, **more), pair),
    "httpx.Client": lambda pair, ca, more: httpx.Client(verify=ca, cert=pair, follow_redirects=True, **more),
    "ssl_options": lambda pair, ca, more: Session(
        ssl_options={"ca_certs": ca, "certfile": pair[0], "keyfile": pair[1]}, **more
    ),
}


def with_attribute(session: Session, pair: tuple[str, str]) -> Session:
    session.cert = pair
    return session


@pytest.mark.parametrize("way", CERTIFIED)
def test_certificate_is_not_shown_to_an_origin_that_a_redirect_led_to(
    way: str, askers: tuple[Peer, Peer, list[list[str]]], certificates: Certificates
) -> None:
    first, second, shown = askers
    pair = certificates.for_clients
    with CERTIFIED[way]((str(pair.chain), str(pair.key)), str(certificates.ca), {}) as agent:
        get = agent.get if hasattr(agent, "get") else agent.urlopen
        assert get(f"https://localhost:{first.port}/to").content == b"ok"
        assert get(f"https://localhost:{first.port}/here").content == b"ok"
        # An origin that the program itself names gets the certificate.
        assert get(f"https://localhost:{second.port}/").content == b"ok"
    assert shown == [["certificate"] * 3, ["nothing", "certificate"]]


def test_certificate_of_one_request_is_for_its_origin(
    askers: tuple[Peer, Peer, list[list[str]]], certificates: Certificates
) -> None:
    first, second, shown = askers
    pair = certificates.for_clients
    with Session(verify=str(certificates.ca)) as session:
        session.get(f"https://localhost:{first.port}/to", cert=(str(pair.chain), str(pair.key))).close()
        session.get(f"https://localhost:{second.port}/").close()
    assert shown == [["certificate"], ["nothing", "nothing"]]


# ------------------------------------------------------------------------------------------------ credentials by hand


@pytest.mark.parametrize(
    "target", ["http://b.invalid/", "http://a.invalid:81/", "http://a.invalid/", "https://a.invalid:444/"]
)
@pytest.mark.parametrize("how", ["headers", "auth", "URL", "netrc"])
def test_credentials_do_not_cross_origins_with_a_redirect(
    target: str, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    seen: list[Any] = []

    def handler(request: Any) -> Any:
        seen.append(request)
        return (307, {"Location": target}) if len(seen) == 1 else (200, {}, b"ok")

    transport = MockTransport(handler)
    url = "https://me:sesame@a.invalid/" if how == "URL" else "https://a.invalid/"
    options: dict[str, Any] = {}
    if how == "headers":
        options["headers"] = {"Authorization": "Basic sesame", "Cookie": "a=sesame", "X-Api-Key": "kept"}
    elif how == "auth":
        options["auth"] = ("me", "sesame")
    elif how == "netrc":
        (tmp_path / "netrc").write_text("machine a.invalid login me password sesame\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for agent in (
        Session(transport=transport, trust_env=True),
        httpx.Client(transport=transport, follow_redirects=True),
        UserAgent(transport=transport),
    ):
        seen.clear()
        if isinstance(agent, httpx.Client) and how == "netrc":
            agent.auth = httpx.NetRCAuth()
        if not isinstance(agent, (Session, httpx.Client)):
            if how != "headers":
                continue
            agent.urlopen(url, **options)
        else:
            agent.get(url, **options)
        first, second = seen
        assert first.headers.get("Authorization")
        for name in ("Authorization", "Cookie", "Proxy-Authorization"):
            assert second.headers.get(name) is None
        # A header that the client does not know to be a credential is sent along, as in requests.
        assert second.headers.get("X-Api-Key") == first.headers.get("X-Api-Key")
