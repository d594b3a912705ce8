"""HTTP and SOCKS proxies: selection, requests to them, and their failures."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import HTTPClient, Session, UserAgent, httpx
from geventhttpclient.cli import main
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.proxy import Proxy, ProxyError, is_exempt
from tests.support.peer import Conn, Peer, serve_ok
from tests.support.ports import free_port
from tests.support.proxies import RealProxy, dante, microsocks, tinyproxy
from tests.support.scripted import OK, saying, saying_then_closing

pytestmark = pytest.mark.usefixtures("bounded")

USER, PASSWORD = "Aladdin", "open-sesame"
# The token of RFC 7617 section 2 for the two above.
TOKEN = "QWxhZGRpbjpvcGVuLXNlc2FtZQ=="


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Removes the proxy variables from the environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def proxy_of(client: HTTPClient) -> Proxy | None:
    return client._connection_pool._proxy


def check_whole(client: HTTPClient) -> None:
    """Checks that the pool has no slot in use."""
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
    "socks://proxy.example": ("socks5h", "proxy.example", 1080, None, None),
    "SOCKS://me:p@proxy.example:9/": ("socks5h", "proxy.example", 9, "me", "p"),
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
def test_proxy_url_is_parsed(url: str) -> None:
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
        "sock://user:hidden@proxy.example",
        "hidden://proxy.example",
        "socks4a://user:hidden@proxy.example",
        f"socks5://user:hidden{'n' * 255}@proxy.example",
        f"socks5h://{'hidden' * 50}@proxy.example",
    ],
)
def test_proxy_url_invalid_is_rejected_and_not_shown(url: str) -> None:
    for make in (lambda: Proxy.from_url(url), lambda: HTTPClient("example.org", proxy=url)):
        with pytest.raises(ValueError, match=r"^proxy\b") as caught:
            make()
        assert "hid" not in f"{caught.value} {caught.value!r}"
        assert caught.value.__context__ is None


def test_proxy_arguments_invalid_are_rejected() -> None:
    with pytest.raises(ValueError, match="scheme"):
        Proxy("ftp", "proxy.example", 21)
    with pytest.raises(ValueError, match="proxy host"):
        Proxy("http", "proxy example", 80)
    with pytest.raises(ValueError, match="proxy port"):
        Proxy("http", "proxy.example", 99999)
    with pytest.raises(TypeError, match="proxy password must be a str or bytes, not int"):
        Proxy("http", "proxy.example", 80, "user", 7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="surrogates"):
        Proxy("http", "proxy.example", 80, "user", "\udc80")
    assert Proxy("http", "[::1]", 80).host == "::1"


def test_proxy_credentials_in_bytes_are_sent_as_they_are() -> None:
    expected = Proxy("http", "proxy.example", 80, "us\u00e9r", "pass").authorization()
    assert Proxy("http", "proxy.example", 80, "us\u00e9r".encode(), b"pass").authorization() == expected
    assert Proxy("http", "proxy.example", 80, "us\u00e9r", bytearray(b"pass")).authorization() == expected  # type: ignore[arg-type]
    with Peer(serve_ok) as proxy:
        options = {"proxy_host": proxy.host, "proxy_port": proxy.port, "proxy_user": "us\u00e9r".encode()}
        with HTTPClient("origin.example", **options, proxy_password=b"pass") as client:
            client.get("/").read()
        with HTTPClientPool(**options, proxy_password=b"hidden") as pool:
            assert "hidden" not in repr(pool.client_args)
            pool.get_client("http://origin.example/").get("/").read()
        first, second = proxy.requests
        assert first.get("proxy-authorization") == expected
        assert second.get("proxy-authorization") != expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: Proxy("http", "proxy.example", 80, b"\xff", "hidden"),
        lambda: Proxy("http", "proxy.example", 80, "user", b"hidden\xff"),
        lambda: Proxy.from_url("http://user:hidden%FF@proxy.example"),
        lambda: HTTPClient(
            "h", proxy_host="proxy.example", proxy_port=80, proxy_user="u", proxy_password=b"hidden\xff"
        ),
        lambda: HTTPClientPool(proxy_host="proxy.example", proxy_port=80, proxy_user="u", proxy_password=b"hidden\xff"),
    ],
)
def test_proxy_credentials_that_are_not_utf_8_are_rejected(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must be UTF-8") as caught:
        make()
    assert "hidden" not in f"{caught.value!r}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("method", "target", "line"),
    [
        ("GET", "/a", "GET http://example.org/a HTTP/1.1"),
        ("OPTIONS", "*", "OPTIONS http://example.org HTTP/1.1"),
        ("OPTIONS", "/", "OPTIONS http://example.org/ HTTP/1.1"),
        ("CONNECT", "other.example:443", "CONNECT other.example:443 HTTP/1.1"),
    ],
)
def test_target_for_a_proxy_has_the_form_of_its_method(method: str, target: str, line: str) -> None:
    with closing(HTTPClient("example.org", proxy="http://127.0.0.1:3128")) as client:
        assert client._build_request(method, target).splitlines()[0] == line


@pytest.mark.parametrize(
    ("method", "target", "line"),
    [
        ("OPTIONS", "*", "OPTIONS * HTTP/1.1"),
        ("CONNECT", "other.example:443", "CONNECT other.example:443 HTTP/1.1"),
        ("CONNECT", "[::1]:443", "CONNECT [::1]:443 HTTP/1.1"),
    ],
)
def test_target_without_a_proxy_has_the_form_of_its_method(method: str, target: str, line: str) -> None:
    with closing(HTTPClient("example.org")) as client:
        assert client._build_request(method, target).splitlines()[0] == line


def test_only_http_proxies_get_credentials_in_a_header() -> None:
    assert Proxy.from_url("https://user:secret@proxy.example").authorization() == "Basic dXNlcjpzZWNyZXQ="
    assert Proxy.from_url("https://proxy.example").authorization() is None
    assert Proxy.from_url("socks5h://user:secret@proxy.example").authorization() is None


def test_proxy_given_twice_is_rejected() -> None:
    for name, value in (("proxy_host", "a"), ("proxy_port", 1), ("proxy_user", "a"), ("proxy_password", "hidden")):
        with pytest.raises(ValueError, match=f"proxy and {name}") as caught:
            HTTPClient("example.org", proxy="http://proxy.example", **{name: value})  # type: ignore[arg-type]
        assert "hidden" not in str(caught.value)


def test_invalid_proxies_are_refused() -> None:
    with pytest.raises(TypeError, match="proxy must be a str or a Proxy, not bytes"):
        HTTPClient("example.org", proxy=b"http://user:hidden@proxy.example")  # type: ignore[arg-type]


@pytest.mark.parametrize("nothing", [None, ""])
def test_proxy_none_uses_no_proxy(nothing: str | None) -> None:
    with closing(HTTPClient("example.org", proxy=nothing)) as client:
        assert proxy_of(client) is None
        assert not client.use_proxy


def test_proxy_of_a_client_pool_is_passed_to_its_clients() -> None:
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


def test_environment_is_not_used_by_default(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("HTTP_PROXY", "http://a:1")
    assert chosen("http://example.org", trust_env=False) is None
    with closing(HTTPClient("example.org")) as client:
        assert proxy_of(client) is None


def test_environment_has_a_variable_for_each_scheme(no_variables: pytest.MonkeyPatch) -> None:
    assert chosen("http://example.org") is None
    no_variables.setenv("ALL_PROXY", "socks5://all:1")
    assert chosen("http://example.org") == chosen("https://example.org") == "socks5://all:1"
    no_variables.setenv("HTTP_PROXY", "http://plain:1")
    assert (chosen("http://example.org"), chosen("https://example.org")) == ("http://plain:1", "socks5://all:1")
    no_variables.setenv("HTTPS_PROXY", "secure:1")
    assert (chosen("http://example.org"), chosen("https://example.org")) == ("http://plain:1", "http://secure:1")


def test_environment_socks_without_a_version_is_socks_5(
    no_variables: pytest.MonkeyPatch, open_microsocks: RealProxy
) -> None:
    no_variables.setenv("all_proxy", "socks://proxy.example:1/")
    assert chosen("http://example.org") == chosen("https://example.org") == "socks5h://proxy.example:1"
    assert Proxy("socks", "proxy.example", 1) == Proxy("socks5h", "proxy.example", 1)
    no_variables.setenv("all_proxy", f"socks://{open_microsocks.place}/")
    asking: dict[str, Callable[[str], Any]] = {
        "HTTPClient": lambda url: HTTPClient.from_url(url, trust_env=True).get("/").read(),
        "UserAgent": lambda url: UserAgent(trust_env=True).urlopen(url).content,
        "Session": lambda url: Session(trust_env=True).get(url).content,
        "httpx": lambda url: httpx.Client(trust_env=True).get(url).content,
        "command": lambda url: main(["get", "-o", "/dev/null", url]),
        "proxies": lambda url: Session().get(url, proxies={"all": f"socks://{open_microsocks.place}"}).content,
    }
    with Peer() as peer:
        for name, ask in asking.items():
            assert ask(f"http://localhost:{peer.port}/") in (b"/", b"ok", 0), name
        assert len(peer.requests) == len(asking)


def test_environment_lower_case_takes_precedence(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("HTTP_PROXY", "http://upper:1")
    no_variables.setenv("http_proxy", "http://lower:1")
    assert chosen("http://example.org") == "http://lower:1"
    no_variables.setenv("http_proxy", "")
    assert chosen("http://example.org") is None


def test_environment_http_proxy_is_ignored_in_a_cgi_request(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("REQUEST_METHOD", "GET")
    no_variables.setenv("HTTP_PROXY", "http://attacker:1")
    assert chosen("http://example.org") is None
    no_variables.setenv("http_proxy", "http://lower:1")
    assert chosen("http://example.org") == "http://lower:1"


def test_argument_overrides_the_environment(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("HTTP_PROXY", "http://environment:1")
    no_variables.setenv("NO_PROXY", "*")
    assert chosen("http://example.org", proxy="http://given:1") == "http://given:1"
    assert chosen("http://example.org", proxy_host="given", proxy_port=2) == "http://given:2"
    assert chosen("http://example.org") is None


def test_unix_socket_ignores_the_environment(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("HTTP_PROXY", "http://environment:1")
    assert chosen("http://example.org", uds="/run/some.socket") is None
    with pytest.raises(ValueError, match="exclude one another"):
        chosen("http://example.org", uds="/run/some.socket", proxy="http://given:1")


def test_environment_invalid_variable_is_named_and_not_shown(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("all_proxy", "http://user:hidden@a:b")
    with pytest.raises(ValueError, match="ALL_PROXY of the environment") as caught:
        chosen("http://example.org")
    assert "hidden" not in str(caught.value)


NO_PROXY = {
    # Value, then hosts that it exempts, then hosts that it does not.
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
def test_no_proxy_exempts_hosts(value: str, no_variables: pytest.MonkeyPatch) -> None:
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


def test_no_proxy_with_the_default_port_of_https_matches(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("ALL_PROXY", "http://a:1")
    no_variables.setenv("NO_PROXY", "example.org:443")
    assert chosen("https://example.org") is None
    assert chosen("http://example.org") == "http://a:1"


# ---------------------------------------------------------------- plain http via an http proxy

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
def test_plain_request_is_sent_in_absolute_form(way: str) -> None:
    with Peer() as peer, closing(HTTPClient("origin.example", **BOTH_WAYS[way](peer))) as client:
        for target in ("/a?b", "http://origin.example/a?b"):
            assert client.get(target).read() == b"http://origin.example/a?b"
    assert len(peer.conns) == 1
    for request in peer.requests:
        assert request.get("host") == "origin.example"
        assert [value for name, value in request.fields if name == "Proxy-Authorization"] == [f"Basic {TOKEN}"]


def test_proxy_without_credentials_gets_none() -> None:
    with Peer() as peer, closing(HTTPClient("origin.example", 81, proxy=peer.url)) as client:
        assert client.get("/").read() == b"http://origin.example:81/"
    assert peer.requests[0].get("proxy-authorization") is None


def test_connection_pool_creates_the_proxy_from_its_arguments() -> None:
    pool = ConnectionPool("127.0.0.1", 8080, "origin.example", 80, use_proxy=True, proxy_user=USER, proxy_password="x")
    assert pool._proxy == Proxy("http", "127.0.0.1", 8080, USER, "x")


def test_connection_pool_subclass_without_proxy_urls_works(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_proxy_authorization_of_the_caller_takes_precedence() -> None:
    with Peer() as peer, closing(HTTPClient("origin.example", **BOTH_WAYS["proxy"](peer))) as client:
        client.get("/", headers={"proxy-authorization": "Digest own"}).read()
    lines = [value for name, value in peer.requests[0].fields if name.lower() == "proxy-authorization"]
    assert lines == ["Digest own"]


def test_refusal_of_a_plain_request_is_a_response() -> None:
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno"
    with Peer(saying(answer)) as peer, closing(HTTPClient("origin.example", proxy=peer.url)) as client:
        response = client.get("/")
        assert (response.status_code, response.read()) == (407, b"no")


def test_sent_head_does_not_show_the_credentials_of_the_proxy() -> None:
    with Peer() as peer, closing(HTTPClient("origin.example", **BOTH_WAYS["proxy"](peer))) as client:
        sent = client.get("/")._sent_request
        assert sent.encode() == peer.requests[0].head.replace(b"Basic " + TOKEN.encode(), b"***") + b"\r\n\r\n"
        own = client.get("/", headers={"PROXY-authorization": "Digest mine", "X-Proxy-Authorization": "shown"})
        assert "PROXY-authorization: ***\r\n" in own._sent_request
        assert "X-Proxy-Authorization: shown\r\n" in own._sent_request
        assert "mine" not in own._sent_request


def test_proxy_that_refuses_the_connection_is_named() -> None:
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
    """Runs the proxy, and yields the port to which it does not connect."""
    blocked = free_port()
    with closing(dante(tmp_path_factory.mktemp("dante"), blocked=blocked)) as proxy:
        yield proxy, blocked


def through(proxy: RealProxy, scheme: str, port: int, *, host: str = "127.0.0.1", who: str = "", **options: Any) -> Any:
    """Returns a client, which must be closed. Its resolver uses only IPv4, as the origins of these tests do."""
    return closing(HTTPClient(host, port, proxy=f"{scheme}://{who}{proxy.place}", disable_ipv6=True, **options))


def test_tinyproxy_forwards_requests(open_tinyproxy: RealProxy) -> None:
    with Peer() as peer:
        with through(open_tinyproxy, "http", peer.port) as client:
            for _ in range(3):
                assert client.get("/here").read() == b"/here"
            check_whole(client)
        # A separate client: tinyproxy closes the connection after each response without announcing it, and a request
        # that is not idempotent is not sent again.
        with through(open_tinyproxy, "http", peer.port) as client:
            assert client.post("/there", body=b"x" * 100_000).read() == b"/there"
    assert peer.requests[-1].body == b"x" * 100_000


def test_tinyproxy_requires_a_password_and_does_not_forward_it(locked_tinyproxy: RealProxy) -> None:
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
def test_microsocks_requires_a_password(scheme: str, locked_microsocks: RealProxy) -> None:
    with Peer() as peer:
        with through(locked_microsocks, scheme, peer.port, who=f"{USER}:{PASSWORD}@") as client:
            assert client.get("/here").read() == b"/here"
            assert "authorization" not in client.get("/here")._sent_request.lower()
        for who, words in (("", "requires a user and password"), (f"{USER}:wrong@", "does not accept this user")):
            with through(locked_microsocks, scheme, peer.port, who=who) as client:
                with pytest.raises(ProxyError, match=words) as caught:
                    client.get("/here")
                check_refused(caught.value, locked_microsocks.place)
                assert f"the tunnel to 127.0.0.1:{peer.port}" in str(caught.value)
                check_whole(client)


def test_socks_proxy_serves_many_greenlets(open_microsocks: RealProxy) -> None:
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
def test_socks_proxy_reports_that_the_origin_refuses(
    scheme: str, open_microsocks: RealProxy, strict_dante: tuple[RealProxy, int]
) -> None:
    proxy, words = (strict_dante[0], "rejected or failed") if scheme == "socks4" else (open_microsocks, "refused")
    with through(proxy, scheme, free_port()) as client, pytest.raises(ProxyError, match=words) as caught:
        client.get("/")
    check_refused(caught.value, proxy.place)
    check_whole(client)


def test_closed_tunnel_is_replaced(open_microsocks: RealProxy) -> None:
    with Peer(saying_then_closing(OK), serve_ok) as peer, through(open_microsocks, "socks5h", peer.port) as client:
        assert client.get("/").read() == b"ok"
        assert client.get("/again").read() == b"/again"
        assert len(peer.conns) == 2
        check_whole(client)


# ---------------------------------------------------------------- scripted SOCKS proxies


def test_socks_4a_gets_the_name() -> None:
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
def test_silent_proxy_times_out(said: bytes) -> None:
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


def test_greenlet_killed_in_the_proxy_phase_leaves_no_connection() -> None:
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


def test_secrets_are_not_shown(locked_microsocks: RealProxy) -> None:
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
