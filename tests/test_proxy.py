"""Proxies: who is asked, what he is told, and what comes of it when he will not."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import HTTPClient
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.proxy import Proxy, ProxyError, is_exempt
from tests.peer import Conn, Peer, serve_ok
from tests.proxies import RealProxy, dante, free_port, microsocks, tinyproxy
from tests.support import OK, saying, saying_then_closing

pytestmark = pytest.mark.usefixtures("bounded")

USER, PASSWORD = "Aladdin", "open-sesame"
# RFC 7617 section 2, of the two above.
TOKEN = "QWxhZGRpbjpvcGVuLXNlc2FtZQ=="


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing of proxies."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def proxy_of(client: HTTPClient) -> Proxy | None:
    return client._connection_pool._proxy


def check_whole(client: HTTPClient) -> None:
    """Nothing of the pool is lost."""
    statistics = client._connection_pool.statistics()
    assert (statistics["in_use"], statistics["waiting"]) == (0, 0), statistics


def check_refused(error: ProxyError, place: str, status: int | None = None) -> None:
    assert isinstance(error, OSError)
    assert isinstance(error, RuntimeError)
    assert (error.phase, error.peer, error.status) == ("proxy", place, status)
    assert error.elapsed is not None
    assert str(error).endswith(f" (asking the proxy {place})")


# ---------------------------------------------------------------- a proxy as an argument

URLS = {
    "http://proxy.example": ("http", "proxy.example", 80, None, None),
    "http://proxy.example/": ("http", "proxy.example", 80, None, None),
    "http://proxy.example:": ("http", "proxy.example", 80, None, None),
    "HTTP://Proxy.Example:3128": ("http", "Proxy.Example", 3128, None, None),
    "https://proxy.example": ("https", "proxy.example", 443, None, None),
    "socks4://proxy.example": ("socks4", "proxy.example", 1080, None, None),
    "socks4a://me@proxy.example": ("socks4a", "proxy.example", 1080, "me", None),
    "socks5://proxy.example:9": ("socks5", "proxy.example", 9, None, None),
    "socks5h://[::1]": ("socks5h", "::1", 1080, None, None),
    "http://[2001:db8::1]:3128": ("http", "2001:db8::1", 3128, None, None),
    "proxy.example:3128": ("http", "proxy.example", 3128, None, None),
    "user:secret@proxy.example": ("http", "proxy.example", 80, "user", "secret"),
    "http://user@proxy.example": ("http", "proxy.example", 80, "user", None),
    "http://:secret@proxy.example": ("http", "proxy.example", 80, "", "secret"),
    "http://us%65r:p%40%3A%2f%25@proxy.example:1": ("http", "proxy.example", 1, "user", "p@:/%"),
    "http://user:p@ss:word@proxy.example": ("http", "proxy.example", 80, "user", "p@ss:word"),
    "http://b%C3%BCrger:%zz@bücher.example": ("http", "xn--bcher-kva.example", 80, "bürger", "%zz"),
    " http://proxy.example ": ("http", "proxy.example", 80, None, None),
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_says_it_all(url: str) -> None:
    proxy = Proxy.from_url(url)
    assert (proxy.scheme, proxy.host, proxy.port, proxy.user, proxy.password) == URLS[url]
    with closing(HTTPClient("example.org", proxy=url)) as client:
        assert proxy_of(client) == proxy
        assert client.use_proxy


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://user:hidden@",
        "http://user:hidden@:3128",
        "http://user:hidden",
        "http://user:hidden@proxy.example:99999",
        "http://user:hidden@proxy.example:0",
        "http://user:hidden@proxy.example:-1",
        "http://user:hidden@proxy.example:8o",
        "http://user:hidden@proxy.example/path",
        "http://user:hidden@proxy.example?query",
        "http://user:hid/hidden@proxy.example",
        "http://user:hid hidden@proxy.example",
        "http://user:hidden@::1",
        "http://user:hidden@[::1",
        "http://user:hidden@proxy example",
        "http://user:hidden@proxy.example\r\nhidden: x",
        "http://user:hidden%0d%0a@proxy.example",
        "http://us%3Aer:hidden@proxy.example",
        "ftp://user:hidden@proxy.example",
        "socks://user:hidden@proxy.example",
        "hidden://proxy.example",
        "socks4a://user:hidden@proxy.example",
        f"socks5://user:hidden{'n' * 255}@proxy.example",
        f"socks5h://{'hidden' * 50}@proxy.example",
    ],
)
def test_a_bad_url_is_refused_and_not_shown(url: str) -> None:
    for make in (lambda: Proxy.from_url(url), lambda: HTTPClient("example.org", proxy=url)):
        with pytest.raises(ValueError, match=r"^proxy\b") as caught:
            make()
        assert "hid" not in f"{caught.value} {caught.value!r}"
        assert caught.value.__context__ is None


def test_a_proxy_is_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="scheme"):
        Proxy("ftp", "proxy.example", 21)
    with pytest.raises(ValueError, match="proxy host"):
        Proxy("http", "proxy example", 80)
    with pytest.raises(ValueError, match="proxy port"):
        Proxy("http", "proxy.example", 99999)
    with pytest.raises(TypeError, match="proxy password must be a str, not bytes"):
        Proxy("http", "proxy.example", 80, "user", b"hidden")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="surrogates"):
        Proxy("http", "proxy.example", 80, "user", "\udc80")
    assert Proxy("http", "[::1]", 80).host == "::1"


def test_only_http_proxies_are_told_credentials_in_a_header() -> None:
    assert Proxy.from_url("https://user:secret@proxy.example").authorization() == "Basic dXNlcjpzZWNyZXQ="
    assert Proxy.from_url("https://proxy.example").authorization() is None
    assert Proxy.from_url("socks5h://user:secret@proxy.example").authorization() is None


def test_two_ways_at_once_are_refused() -> None:
    for name, value in (("proxy_host", "a"), ("proxy_port", 1), ("proxy_user", "a"), ("proxy_password", "hidden")):
        with pytest.raises(ValueError, match=f"proxy and {name}") as caught:
            HTTPClient("example.org", proxy="http://proxy.example", **{name: value})  # type: ignore[arg-type]
        assert "hidden" not in str(caught.value)


def test_what_is_neither_a_url_nor_a_proxy_is_refused() -> None:
    with pytest.raises(TypeError, match="proxy must be a str or a Proxy, not bytes"):
        HTTPClient("example.org", proxy=b"http://user:hidden@proxy.example")  # type: ignore[arg-type]


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_proxy_at_all(nothing: str | None) -> None:
    with closing(HTTPClient("example.org", proxy=nothing)) as client:
        assert proxy_of(client) is None
        assert not client.use_proxy


def test_a_proxy_goes_by_way_of_the_pool_of_clients() -> None:
    with HTTPClientPool(proxy="socks5h://proxy.example") as clients:
        assert proxy_of(clients.get_client("http://example.org/")) == Proxy("socks5h", "proxy.example", 1080)
    with HTTPClientPool(proxy_host="proxy.example", proxy_port=8080) as clients:
        assert proxy_of(clients.get_client("http://example.org/")) == Proxy("http", "proxy.example", 8080)
    with pytest.raises(ValueError, match="scheme"):
        HTTPClientPool(proxy="ftp://proxy.example")


# ---------------------------------------------------------------- the environment's proxies


def chosen(url: str, **options: Any) -> str | None:
    with closing(HTTPClient.from_url(url, **{"trust_env": True, **options})) as client:
        proxy = proxy_of(client)
        return None if proxy is None else f"{proxy.scheme}://{proxy.host}:{proxy.port}"


def test_the_environment_is_not_asked_by_default(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("HTTP_PROXY", "http://a:1")
    assert chosen("http://example.org", trust_env=False) is None
    with closing(HTTPClient("example.org")) as client:
        assert proxy_of(client) is None


def test_each_scheme_has_its_variable(no_variables: pytest.MonkeyPatch) -> None:
    assert chosen("http://example.org") is None
    no_variables.setenv("ALL_PROXY", "socks5://all:1")
    assert chosen("http://example.org") == chosen("https://example.org") == "socks5://all:1"
    no_variables.setenv("HTTP_PROXY", "http://plain:1")
    assert (chosen("http://example.org"), chosen("https://example.org")) == ("http://plain:1", "socks5://all:1")
    no_variables.setenv("HTTPS_PROXY", "secure:1")
    assert (chosen("http://example.org"), chosen("https://example.org")) == ("http://plain:1", "http://secure:1")


def test_lower_case_wins(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("HTTP_PROXY", "http://upper:1")
    no_variables.setenv("http_proxy", "http://lower:1")
    assert chosen("http://example.org") == "http://lower:1"
    no_variables.setenv("http_proxy", "")
    assert chosen("http://example.org") is None


def test_a_header_of_a_cgi_request_is_no_variable(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("REQUEST_METHOD", "GET")
    no_variables.setenv("HTTP_PROXY", "http://attacker:1")
    assert chosen("http://example.org") is None
    no_variables.setenv("http_proxy", "http://lower:1")
    assert chosen("http://example.org") == "http://lower:1"


def test_what_is_given_wins_over_the_environment(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("HTTP_PROXY", "http://environment:1")
    no_variables.setenv("NO_PROXY", "*")
    assert chosen("http://example.org", proxy="http://given:1") == "http://given:1"
    assert chosen("http://example.org", proxy_host="given", proxy_port=2) == "http://given:2"
    assert chosen("http://example.org") is None


def test_a_unix_socket_is_no_matter_of_the_environment(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("HTTP_PROXY", "http://environment:1")
    assert chosen("http://example.org", uds="/run/some.socket") is None
    with pytest.raises(ValueError, match="exclude one another"):
        chosen("http://example.org", uds="/run/some.socket", proxy="http://given:1")


def test_a_bad_variable_is_named_and_not_shown(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("all_proxy", "http://user:hidden@a:b")
    with pytest.raises(ValueError, match="ALL_PROXY of the environment") as caught:
        chosen("http://example.org")
    assert "hidden" not in str(caught.value)


NO_PROXY = {
    # Value, then whom it exempts, then whom not.
    "": ("", "example.org"),
    " , ,": ("", "example.org"),
    "*": ("example.org 127.0.0.1 ::1", ""),
    "a.example, *": ("example.org", ""),
    "example.org": ("example.org EXAMPLE.ORG example.org. www.example.org", "notexample.org example.org.evil org"),
    ".example.org": ("example.org www.example.org", "notexample.org"),
    "*.example.org": ("example.org www.example.org", "notexample.org"),
    "Example.ORG.": ("example.org a.b.example.org", "example.com"),
    "a.example,b.example": ("a.example b.example", "c.example"),
    "a.example b.example\tc.example": ("a.example b.example c.example", "d.example"),
    "bücher.example": ("xn--bcher-kva.example", "bucher.example"),
    "localhost": ("localhost", "127.0.0.1 ::1"),
    "example.org:80": ("example.org www.example.org", "example.com"),
    "example.org:8080": ("", "example.org"),
    "127.0.0.1": ("127.0.0.1", "127.0.0.2 1.127.0.0.1 localhost"),
    "127.0.0.1:80": ("127.0.0.1", "127.0.0.2"),
    "127.0.0.1:81": ("", "127.0.0.1"),
    "10.0.0.0/8": ("10.0.0.1 10.255.255.255", "11.0.0.1 ::1 example.org"),
    "10.1.2.3/8": ("10.0.0.1", "11.0.0.1"),
    "10.0.0.0/8:80": ("10.0.0.1", "11.0.0.1"),
    "::1": ("::1 [::1] 0:0::1", "::2 127.0.0.1"),
    "[::1]": ("::1", "::2"),
    "[::1]:80": ("::1", "::2"),
    "[::1]:81": ("", "::1"),
    "fd00::/8": ("fd00::1 fdff:: fd00::1%eth0", "fe80::1"),
    "::ffff:0:0/96": ("::ffff:1.2.3.4", "1.2.3.4"),
    "10.0.0.0/99, [::1, :80, ., *., /8, a:b:c, example.org": ("example.org", "10.0.0.1 ::1 example.com"),
    "0.0.0.1": ("", "1 0.0.0.1.example"),
}


@pytest.mark.parametrize("value", NO_PROXY)
def test_no_proxy(value: str, no_variables: pytest.MonkeyPatch) -> None:
    exempt, others = NO_PROXY[value]
    assert {host: is_exempt(host, 80, value) for host in exempt.split()} == dict.fromkeys(exempt.split(), True)
    assert {host: is_exempt(host, 80, value) for host in others.split()} == dict.fromkeys(others.split(), False)
    no_variables.setenv("HTTP_PROXY", "http://a:1")
    no_variables.setenv("no_proxy", value)
    for host in exempt.split():
        with closing(HTTPClient(host, trust_env=True)) as client:
            assert proxy_of(client) is None
    for host in others.split():
        with closing(HTTPClient(host, trust_env=True)) as client:
            assert proxy_of(client) == Proxy("http", "a", 1)


def test_the_default_port_of_https_counts_as_a_port(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("ALL_PROXY", "http://a:1")
    no_variables.setenv("NO_PROXY", "example.org:443")
    assert chosen("https://example.org") is None
    assert chosen("http://example.org") == "http://a:1"


# ---------------------------------------------------------------- plain http by an http proxy

BOTH_WAYS = {
    "proxy": lambda peer: {"proxy": f"http://{USER}:{PASSWORD}@127.0.0.1:{peer.port}"},
    "proxy_host": lambda peer: {
        "proxy_host": "127.0.0.1",
        "proxy_port": peer.port,
        "proxy_user": USER,
        "proxy_password": PASSWORD,
    },
}


@pytest.mark.parametrize("way", BOTH_WAYS)
def test_a_plain_request_goes_in_absolute_form(way: str) -> None:
    with Peer() as peer, closing(HTTPClient("origin.example", **BOTH_WAYS[way](peer))) as client:
        for target in ("/a?b", "http://origin.example/a?b"):
            assert client.get(target).read() == b"http://origin.example/a?b"
    assert len(peer.conns) == 1
    for request in peer.requests:
        assert request.get("host") == "origin.example"
        assert [value for name, value in request.fields if name == "Proxy-Authorization"] == [f"Basic {TOKEN}"]


def test_a_proxy_without_credentials_is_told_none() -> None:
    with Peer() as peer, closing(HTTPClient("origin.example", 81, proxy=peer.url)) as client:
        assert client.get("/").read() == b"http://origin.example:81/"
    assert peer.requests[0].get("proxy-authorization") is None


def test_a_pool_of_its_own_makes_the_proxy_from_its_arguments() -> None:
    pool = ConnectionPool("127.0.0.1", 8080, "origin.example", 80, use_proxy=True, proxy_user=USER, proxy_password="x")
    assert pool._proxy == Proxy("http", "127.0.0.1", 8080, USER, "x")


def test_a_subclass_of_the_pool_needs_to_know_nothing_of_proxies_by_url(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(ConnectionPool):
        def __init__(
            self,
            connection_host: str,
            connection_port: int,
            request_host: str,
            request_port: int,
            size: int = 5,
            disable_ipv6: bool = False,
            connection_timeout: float = 5.0,
            network_timeout: float = 5.0,
            use_proxy: bool = False,
            proxy_user: str | None = None,
            proxy_password: str | None = None,
        ) -> None:
            super().__init__(
                connection_host,
                connection_port,
                request_host,
                request_port,
                size,
                disable_ipv6,
                connection_timeout,
                network_timeout,
                use_proxy,
                proxy_user,
                proxy_password,
            )

    monkeypatch.setattr("geventhttpclient.client.ConnectionPool", Old)
    with Peer() as peer, closing(HTTPClient("origin.example", **BOTH_WAYS["proxy_host"](peer))) as client:
        assert client.get("/").read() == b"http://origin.example/"
    assert peer.requests[0].get("proxy-authorization") == f"Basic {TOKEN}"


def test_credentials_of_the_callers_own_win() -> None:
    with Peer() as peer, closing(HTTPClient("origin.example", **BOTH_WAYS["proxy"](peer))) as client:
        client.get("/", headers={"proxy-authorization": "Digest own"}).read()
    lines = [value for name, value in peer.requests[0].fields if name.lower() == "proxy-authorization"]
    assert lines == ["Digest own"]


def test_a_refusal_of_a_plain_request_is_a_response_like_any_other() -> None:
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno"
    with Peer(saying(answer)) as peer, closing(HTTPClient("origin.example", proxy=peer.url)) as client:
        response = client.get("/")
        assert (response.status_code, response.read()) == (407, b"no")


def test_the_head_that_was_sent_does_not_show_what_the_proxy_was_told() -> None:
    with Peer() as peer, closing(HTTPClient("origin.example", **BOTH_WAYS["proxy"](peer))) as client:
        sent = client.get("/")._sent_request
        assert sent.encode() == peer.requests[0].head.replace(b"Basic " + TOKEN.encode(), b"***") + b"\r\n\r\n"
        own = client.get("/", headers={"PROXY-authorization": "Digest mine", "X-Proxy-Authorization": "shown"})
        assert "PROXY-authorization: ***\r\n" in own._sent_request
        assert "X-Proxy-Authorization: shown\r\n" in own._sent_request
        assert "mine" not in own._sent_request


def test_a_proxy_that_nobody_runs_is_named() -> None:
    port = free_port()
    for scheme in ("http", "socks5h"):
        with (
            closing(HTTPClient("origin.example", proxy=f"{scheme}://127.0.0.1:{port}")) as client,
            pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}") as caught,
        ):
            client.get("/")
        assert (caught.value.phase, caught.value.peer) == ("connect", f"127.0.0.1:{port}")  # type: ignore[attr-defined]
        check_whole(client)


# ---------------------------------------------------------------- real proxies


@pytest.fixture(scope="module")
def open_tinyproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProxy]:
    with closing(tinyproxy(tmp_path_factory.mktemp("open-tinyproxy"))) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def locked_tinyproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProxy]:
    with closing(tinyproxy(tmp_path_factory.mktemp("locked"), f"BasicAuth {USER} {PASSWORD}")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def open_microsocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProxy]:
    with closing(microsocks(tmp_path_factory.mktemp("microsocks"))) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def locked_microsocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProxy]:
    with closing(microsocks(tmp_path_factory.mktemp("locked-microsocks"), USER, PASSWORD)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def strict_dante(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealProxy, int]]:
    """And the port that it does not connect to."""
    blocked = free_port()
    with closing(dante(tmp_path_factory.mktemp("dante"), blocked=blocked)) as proxy:
        yield proxy, blocked


def through(proxy: RealProxy, scheme: str, port: int, *, host: str = "127.0.0.1", who: str = "", **options: Any) -> Any:
    """A client, to be closed. Our own resolver is kept to IPv4, where the origins of these tests are."""
    return closing(HTTPClient(host, port, proxy=f"{scheme}://{who}{proxy.place}", disable_ipv6=True, **options))


def test_tinyproxy_passes_requests_on(open_tinyproxy: RealProxy) -> None:
    with Peer() as peer:
        with through(open_tinyproxy, "http", peer.port) as client:
            for _ in range(3):
                assert client.get("/here").read() == b"/here"
            check_whole(client)
        # By a client of its own: tinyproxy closes after each response without a word of it, and what is not idempotent
        # is not sent again.
        with through(open_tinyproxy, "http", peer.port) as client:
            assert client.post("/there", body=b"x" * 100_000).read() == b"/there"
    assert peer.requests[-1].body == b"x" * 100_000


def test_tinyproxy_wants_a_password_and_keeps_it(locked_tinyproxy: RealProxy) -> None:
    with Peer() as peer:
        with through(locked_tinyproxy, "http", peer.port, who=f"{USER}:{PASSWORD}@") as client:
            assert client.get("/here").read() == b"/here"
        for who in ("", f"{USER}:wrong@"):
            with through(locked_tinyproxy, "http", peer.port, who=who) as client:
                assert client.get("/here").status_code in (401, 407)
    assert [request.get("proxy-authorization") for request in peer.requests] == [None]


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_microsocks(scheme: str, host: str, open_microsocks: RealProxy) -> None:
    with Peer() as peer, through(open_microsocks, scheme, peer.port, host=host) as client:
        for _ in range(3):
            assert client.get("/here").read() == b"/here"
        assert client._connection_pool.statistics()["opened"] == len(peer.conns) == 1
    assert peer.requests[0].line == "GET /here HTTP/1.1"
    assert peer.requests[0].get("host") == f"{host}:{peer.port}"


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
def test_microsocks_wants_a_password(scheme: str, locked_microsocks: RealProxy) -> None:
    with Peer() as peer:
        with through(locked_microsocks, scheme, peer.port, who=f"{USER}:{PASSWORD}@") as client:
            assert client.get("/here").read() == b"/here"
            assert "authorization" not in client.get("/here")._sent_request.lower()
        for who, words in (("", "wants to be told who asks"), (f"{USER}:wrong@", "does not accept this user")):
            with through(locked_microsocks, scheme, peer.port, who=who) as client:
                with pytest.raises(ProxyError, match=words) as caught:
                    client.get("/here")
                check_refused(caught.value, locked_microsocks.place)
                assert f"the tunnel to 127.0.0.1:{peer.port}" in str(caught.value)
                check_whole(client)


def test_many_greenlets_by_one_socks_proxy(open_microsocks: RealProxy) -> None:
    with Peer() as peer, through(open_microsocks, "socks5h", peer.port, concurrency=5) as client:
        greenlets = [gevent.spawn(lambda: client.get("/here").read()) for _ in range(50)]
        gevent.joinall(greenlets)
        assert [greenlet.value for greenlet in greenlets] == [b"/here"] * 50
        assert len(peer.conns) <= 5


@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
def test_dante(scheme: str, strict_dante: tuple[RealProxy, int]) -> None:
    proxy, blocked = strict_dante
    with Peer() as peer:
        for host in ("127.0.0.1", "localhost"):
            with through(proxy, scheme, peer.port, host=host) as client:
                assert client.get("/here").read() == b"/here"
        with through(proxy, "socks4a", peer.port, who="me@") as client:
            assert client.get("/here").read() == b"/here"
    words = "rejected or failed" if scheme == "socks4" else "not allowed by its rules"
    with through(proxy, scheme, blocked) as client, pytest.raises(ProxyError, match=words) as caught:
        client.get("/")
    check_refused(caught.value, proxy.place)


@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
def test_an_origin_that_refuses_the_proxy(
    scheme: str, open_microsocks: RealProxy, strict_dante: tuple[RealProxy, int]
) -> None:
    proxy, words = (strict_dante[0], "rejected or failed") if scheme == "socks4" else (open_microsocks, "refused")
    with through(proxy, scheme, free_port()) as client, pytest.raises(ProxyError, match=words) as caught:
        client.get("/")
    check_refused(caught.value, proxy.place)
    check_whole(client)


def test_a_tunnel_that_was_closed_is_replaced(open_microsocks: RealProxy) -> None:
    with Peer(saying_then_closing(OK), serve_ok) as peer, through(open_microsocks, "socks5h", peer.port) as client:
        assert client.get("/").read() == b"ok"
        assert client.get("/again").read() == b"/again"
        assert len(peer.conns) == 2
        check_whole(client)


# ---------------------------------------------------------------- SOCKS proxies that real ones never are


def test_version_4a_is_told_the_name() -> None:
    asked = b"\x04\x01\x00\x50\x00\x00\x00\x01me\x00origin.example\x00"

    def script(conn: Conn) -> None:
        assert conn.read_exactly(len(asked)) == asked
        conn.send(b"\x00\x5a" + b"\x00" * 6)
        serve_ok(conn)

    with Peer(script) as peer:
        with closing(HTTPClient("origin.example", proxy=f"socks4a://me@127.0.0.1:{peer.port}")) as client:
            assert client.get("/here").read() == b"/here"
            assert client.get("/there").read() == b"/there"
        assert len(peer.conns) == 1


@pytest.mark.parametrize("said", [b"", b"\x05"])
def test_a_silent_proxy_is_given_up(said: bytes) -> None:
    def script(conn: Conn) -> None:
        conn.send(said)
        conn.wait_closed()

    with Peer(script) as peer:
        place = f"127.0.0.1:{peer.port}"
        with closing(HTTPClient("origin.example", proxy=f"socks5h://{place}", connection_timeout=0.05)) as client:
            with pytest.raises(TimeoutError, match=f"timed out after 0.05 s .asking the proxy {place}") as caught:
                client.get("/")
            assert (caught.value.phase, caught.value.peer) == ("proxy", place)  # type: ignore[attr-defined]
            check_whole(client)


def test_a_greenlet_that_is_killed_leaves_nothing_behind() -> None:
    def script(conn: Conn) -> None:
        conn.read_exactly(3)
        conn.peer.asked.set()  # type: ignore[attr-defined]
        conn.wait_closed()

    with Peer(script) as peer, closing(HTTPClient("a.example", proxy=f"socks5h://127.0.0.1:{peer.port}")) as client:
        peer.asked = Event()  # type: ignore[attr-defined]
        greenlet = gevent.spawn(client.get, "/")
        peer.asked.wait()  # type: ignore[attr-defined]
        assert client._connection_pool.statistics()["in_use"] == 1
        greenlet.kill()
        check_whole(client)
        assert peer.conns[0].hung_up.wait(10)


# ---------------------------------------------------------------- secrets


def test_no_secret_is_shown(locked_microsocks: RealProxy) -> None:
    url = f"socks5h://{USER}:hidden@{locked_microsocks.place}"
    shown: list[object] = []
    proxy = Proxy.from_url(url)
    shown += [proxy, vars(proxy), [proxy.user, proxy.password], pickle.loads(pickle.dumps(proxy))]
    shown += [proxy.credentials, Proxy.from_url("http://Aladdin:hidden@a").authorization()]
    with pytest.raises(ProxyError) as caught, closing(HTTPClient("origin.example", proxy=url)) as client:
        client.get("/")
    shown += [caught.value, str(caught.value), vars(caught.value)]
    for options in (
        {"proxy": url},
        {"proxy": proxy},
        {"proxy": f"http://{USER}:hidden@127.0.0.1:8080"},
        {"proxy_host": "127.0.0.1", "proxy_port": 8080, "proxy_user": USER, "proxy_password": "hidden"},
    ):
        with HTTPClientPool(**options) as clients:
            client = clients.get_client("http://origin.example")
            pool = client._connection_pool
            shown += [clients, vars(clients), client, vars(client), pool, vars(pool)]
    token = "QWxhZGRpbjpoaWRkZW4="  # RFC 7617 section 2
    assert str(Proxy.from_url("http://Aladdin:hidden@a").authorization()) == f"Basic {token}"
    for thing in shown:
        for secret in ("hidden", token, USER):
            assert secret not in repr(thing), thing
