"""The password of a URL, even a malformed one, appears in no error, log, repr or output of any API."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import random
import socket
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import urllib3

from geventhttpclient import HTTPClient, Session, UserAgent, _core, httplib, httplib2, httpx, useragent
from geventhttpclient import request as module_request
from geventhttpclient.adapters.httpx import Transport
from geventhttpclient.adapters.requests import Adapter
from geventhttpclient.adapters.urllib3 import PoolManager, connection_from_url, proxy_from_url
from geventhttpclient.cli import main
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.mock import MockTransport
from geventhttpclient.proxy import Proxy
from geventhttpclient.url import URL
from tests.support.peer import serve_ok
from tests.support.scripted import serving

pytestmark = pytest.mark.usefixtures("bounded")

MARKER = "sesame"
PASSWORDS = ["{}", "a{}b", "{}%40x", "o/{}", "{}/o", "o?{}", "o#{}", "{}#o", "o\\{}", "o {}", "[{}", "{}]", "[{}]"]
PASSWORDS += [
    "o:{}",
    "o@{}@o",
    "\uff1a{}",
    "o\uff0f{}",
    "{}\uff20o",
    "o\t{}",
    "\n{}",
    "o://{}",
    "o%2f{}",
    "\ud800{}",
    "%zz{}",
]
ATS = ["@", "@", "@", "%40", "%2540", "\uff20", "\ufe6b", "%EF%BC%A0"]
COLONS = [":", ":", ":", "\uff1a", ":/", "::"]
SCHEMES = [
    "http://",
    "HTTPS://",
    "",
    "//",
    "http:/",
    "http:",
    "http:\\\\",
    "ht\ntp://",
    " http://",
    "socks5h://",
    "ftp://",
    "x_y://",
]
PLACES = [
    "host.invalid",
    "[bad",
    "[::1",
    "host.invalid:port",
    "host.invalid:99999",
    "",
    ":80",
    "h\\x",
    "a b",
    "\u2100",
    "[nope]:1",
]
RESTS = ["/", "", "/a@b", "?mail=a@b", "#@", "/x y", "/?u=%40"]


def malformed_urls() -> list[str]:
    """Returns thousands of invalid URLs, each with the marker in its password."""
    chance = random.Random(13)
    found = []
    while len(found) < 4000:
        parts = (
            SCHEMES,
            ["user", "us er", "u%40"],
            COLONS,
            [chance.choice(PASSWORDS).format(MARKER)],
            ATS,
            PLACES,
            RESTS,
        )
        url = "".join(map(chance.choice, parts))
        try:
            read = URL(url)
            is_good = read.scheme in ("http", "https") and read.host and read.port is not None
        except ValueError:
            is_good = False
        # Where a password with a delimiter makes another good URL, its second half is not known to be one.
        if not is_good:
            found.append(url)
    return found


URLS = malformed_urls()
# Each face gets some of its own.
SHARES = itertools.count()


def some(count: int) -> list[str]:
    return random.Random(next(SHARES)).sample(URLS, count)


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Returns the error with all its causes and contexts, including those that a traceback would omit."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__, getattr(one, "original", None)]
    return iter(seen)


def check_hidden(url: str, *shown: object) -> None:
    for text in shown:
        assert MARKER not in str(text), (url, text)


def check_refused(url: str, call: Callable[[], object]) -> None:
    """Checks that the call fails, and that no part of its error contains the marker."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of whatever class
        call()
    for error in chain_of(caught.value):
        check_hidden(url, error, repr(error), *traceback.format_exception_only(error))
    check_hidden(url, *traceback.format_exception(caught.value))


def test_malformed_urls_are_shown_without_their_password() -> None:
    for url in URLS:
        check_hidden(url, _core.redact(url), ascii(_core.redact(url)))
        if not any(character.isspace() for character in url) and "://" in url:
            check_hidden(url, _core.redact_all(f"it was '{url}', or so"))


def test_readable_urls_are_shown_whole_but_for_user_and_password() -> None:
    for url, shown in {
        f"http://user:{MARKER}@host:80/a@b?c=@#@": "http://***@host:80/a@b?c=@#@",
        f"https://{MARKER}@host/": "https://***@host/",
        "http://host/a@b?mail=c%40d": "http://host/a@b?mail=c%40d",
        "http://host:8080/?mail=c%40d": "http://host:8080/?mail=c%40d",
    }.items():
        assert _core.redact(url) == shown
        assert repr(URL(url)) == f"URL({shown})"


FACES: dict[str, Callable[[str], object]] = {
    "HTTPClient": HTTPClient,
    "HTTPClient.from_url": HTTPClient.from_url,
    "HTTPClientPool": lambda url: HTTPClientPool().get_client(url),
    "URL": lambda url: HTTPClient.from_url(URL(url)),
    "request": lambda url: HTTPClient("host.invalid").get(url if "//" in url else f"//{url}"),
    "UserAgent": lambda url: UserAgent().urlopen(url),
    "CompatRequest": lambda url: UserAgent()._perform(useragent.CompatRequest(url)),
    "Session": lambda url: Session().get(url),
    "module function": lambda url: module_request("GET", url),
    "httpx.Client": lambda url: httpx.Client().get(url),
    "httpx.Client of a base": lambda url: httpx.Client(base_url=url).get("//x"),
    "httpx.get": httpx.get,
    "httplib host": lambda url: httplib.HTTPConnection(url).connect(),
    "httplib https host": lambda url: httplib.HTTPSConnection(url).connect(),
    "httplib2": lambda url: httplib2.Http().request(url),
    "httplib2 connection": lambda url: httplib2.HTTPConnection(url).connect(),
    "urllib3 manager": lambda url: PoolManager(retries=False).request("GET", url),
    "proxy": lambda url: HTTPClient("host.invalid", proxy=url),
    "proxy host": lambda url: HTTPClient("host.invalid", proxy_host=url, proxy_port=1),
    "proxy port": lambda url: HTTPClient("host.invalid", proxy_host="p", proxy_port=url),  # type: ignore[arg-type]
    "Proxy": lambda url: Proxy("http", url, 80),
    "Proxy scheme": lambda url: Proxy(url, "p", 80),
    "Session proxies": lambda url: Session().get("http://host.invalid/", proxies={"http": url}),
    "httpx transport": lambda url: Transport(proxy=url),
    "resolve, by origin": lambda url: HTTPClient("host.invalid", resolve={url: "127.0.0.1"}),
    "resolve, an address": lambda url: HTTPClient("host.invalid", resolve={"host.invalid:80": url}),
    "resolve, addresses": lambda url: HTTPClient("host.invalid", resolve={"host.invalid:80": [url]}),
    "resolve": lambda url: HTTPClient("host.invalid", resolve=[url]),  # type: ignore[arg-type]
    "local_address": lambda url: HTTPClient("host.invalid", local_address=url).get("/"),
    "port": lambda url: HTTPClient("host.invalid", port=url),
    "bytes": lambda url: HTTPClient("host.invalid").get(url.encode(errors="replace")),  # type: ignore[arg-type]
    "hostname": lambda url: setattr(URL("http://h/"), "hostname", url),
}


def know_nobody(*args: Any, **kw: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "no name has an address")


# Which of them take some of these for good: a host may be a name with a colon in it, a proxy may be of SOCKS.
@pytest.mark.parametrize("face", FACES)
def test_error_for_a_malformed_url_shows_no_password(face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gevent.socket.getaddrinfo", know_nobody)
    for url in some(250):
        try:
            FACES[face](url)
        except Exception as error:
            for one in chain_of(error):
                check_hidden(url, one, repr(one))
            check_hidden(url, *traceback.format_exception(error))
        else:
            # A URL that was taken for the name of a proxy or a host, without an error, is not shown either.
            assert face in ("proxy", "Proxy", "proxy host", "httpx transport", "hostname"), (face, url)


def test_environment_proxy_error_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in [url for url in some(200) if "\ud800" not in url]:
        for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy"):
            with monkeypatch.context() as patch:
                patch.setenv(name, url)
                with contextlib.suppress(ValueError):
                    HTTPClient("host.invalid", trust_env=True)
                    continue
                check_refused(url, lambda: HTTPClient("host.invalid", trust_env=True))


def test_httplib_target_error_shows_no_password() -> None:
    for url in [url for url in some(300) if url.lower().startswith("http") and url.isascii()]:
        connection = httplib.HTTPConnection("127.0.0.1", 1)
        check_refused(url, lambda url=url, connection=connection: connection.request("GET", url))  # type: ignore[misc]


def test_requests_adapter_error_shows_no_password() -> None:
    for url in some(300):
        request = requests.Request("GET", "http://host.invalid/").prepare()
        request.url = url
        check_refused(url, lambda request=request: Adapter().send(request))  # type: ignore[misc]


def test_urllib3_proxy_error_shows_no_password() -> None:
    for url in some(300):
        for make in (proxy_from_url, connection_from_url):
            with contextlib.suppress(Exception):
                make(url)
                continue
            check_refused(url, lambda make=make, url=url: make(url))  # type: ignore[misc]


@pytest.mark.parametrize("follow", ["UserAgent", "Session", "httpx.Client"])
def test_redirect_to_a_malformed_url_shows_no_password(follow: str) -> None:
    agents: dict[str, Callable[[Any], Any]] = {
        "UserAgent": lambda transport: UserAgent(transport=transport).urlopen("http://h.invalid/"),
        "Session": lambda transport: Session(transport=transport).get("http://h.invalid/"),
        "httpx.Client": lambda transport: httpx.Client(transport=transport, follow_redirects=True).get(
            "http://h.invalid/"
        ),
    }
    # A reference to another host may well be a good one.
    urls = [url for url in some(300) if url.isascii() and not url.startswith("//")]
    for url in [url for url in urls if not any(character in url for character in "\r\n")]:
        transport = MockTransport(lambda request, url=url: (302, {"Location": url}))  # type: ignore[misc]
        # A relative one leads to the same host, and on and on.
        check_refused(url, lambda transport=transport: agents[follow](transport))  # type: ignore[misc]
        assert {request.url.split("/")[2] for request in transport.requests} == {"h.invalid"}


def test_credentials_of_a_location_are_dropped() -> None:
    def handler(request: Any) -> Any:
        if request.url == "http://a.invalid/":
            return 302, {"Location": f"http://user:{MARKER}@b.invalid/x"}
        return 404, {}, b"no"

    for transport in (MockTransport(handler), MockTransport(handler)):
        response = Session(transport=transport).get("http://a.invalid/")
        check_hidden(response.url, response.url, [request.headers for request in transport.requests])
        with pytest.raises(useragent.BadStatusCode) as caught:
            response.raise_for_status()
        check_hidden(response.url, caught.value, repr(caught.value))


def test_hooks_and_logs_show_no_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[object] = []
    hooks: dict[str, Any] = {
        "on_request": seen.append,
        "on_response": lambda request, response: seen.append(request),
        "on_error": lambda request, error: seen.extend((request, error, repr(error), request.url)),
        "on_connection": seen.append,
    }
    with serving(serve_ok, **hooks) as (peer, client):
        for url in [url for url in some(300) if url.lower().startswith(("http://", "https://"))]:
            with pytest.raises(ValueError):  # noqa: PT011
                client.get(url)
        client.get(f"{peer.url}/x").read()
        with Session(**hooks) as session:
            session.get(peer.url.replace("://", f"://user:{MARKER}@")).close()
        with PoolManager() as manager:
            manager.request("GET", peer.url.replace("://", f"://user:{MARKER}@") + "/y")
    check_hidden("", *seen, caplog.text)


def test_proxied_urllib3_request_shows_no_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with proxy_from_url("http://127.0.0.1:1", retries=False) as manager:
        url = f"http://user:{MARKER}@host.invalid/"
        check_refused(url, lambda: manager.request("GET", url))
        check_refused(url, lambda: manager.request("GET", url, retries=urllib3.Retry(1)))
    check_hidden(url, caplog.text)


def test_opentelemetry_shows_no_password() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from geventhttpclient.opentelemetry import Telemetry

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracer_provider=provider)
    hooks: dict[str, Any] = {
        "on_request": telemetry.on_request,
        "on_response": telemetry.on_response,
        "on_error": telemetry.on_error,
    }
    client = HTTPClient("host.invalid", **hooks)
    urls = [url for url in some(300) if url.lower().startswith(("http://", "https://")) and "\ud800" not in url]
    for url in urls:
        check_refused(url, lambda url=url: client.get(url))  # type: ignore[misc]
    spans = exporter.get_finished_spans()
    assert len(spans) == len(urls)
    check_hidden("", *(span.to_json() for span in spans))


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "get": lambda url: ["get", url],
    "get -v": lambda url: ["get", "-v", "-L", url],
    "download": lambda url: ["download", url],
    "bench --json": lambda url: ["bench", "--json", "-n", "1", "-c", "1", "--progress", url],
    "--proxy": lambda url: ["get", f"--proxy={url}", "http://host.invalid/"],
    "--proxy, apart": lambda url: ["download", "--proxy", url, "http://host.invalid/"],
    "--resolve": lambda url: ["get", "--resolve", url, "http://host.invalid/"],
    "a command": lambda url: [url],
    "an unknown option": lambda url: ["get", "http://host.invalid/", f"--referer={url}"],
    "too much": lambda url: ["bench", "http://host.invalid/", url],
    "a number": lambda url: ["get", "-c", url, "http://host.invalid/"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_shows_no_password(
    command: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gevent.socket.getaddrinfo", know_nobody)
    # With a blank in it, it is no option for argparse, but a path at the host "--referer=".
    for url in [url for url in some(60) if "\ud800" not in url and (command != "an unknown option" or " " not in url)]:
        assert main(COMMANDS[command](url)) != 0
        out, err = capfd.readouterr()
        check_hidden(url, out, err)
        assert err


def test_command_shows_a_readable_url_without_its_password(capfd: pytest.CaptureFixture[str]) -> None:
    url = f"http://user:{MARKER}@127.0.0.1:1/a?b@c"
    for arguments in (
        ["get", "-v", url],
        ["download", "--retry", "0", url],
        ["bench", "--json", "-n", "1", "-c", "1", url],
    ):
        assert main(arguments) == 1
        out, err = capfd.readouterr()
        check_hidden(url, out, err)
        assert "***@127.0.0.1:1/a?b@c" in out + err


def test_debug_stream_shows_no_password() -> None:
    stream = io.StringIO()
    transport = MockTransport(lambda request: (404, {}, b"no"))
    with UserAgent(transport=transport) as agent, pytest.raises(useragent.BadStatusCode) as caught:
        agent.urlopen(f"http://user:{MARKER}@h.invalid/a", debug_stream=stream)
    check_hidden("", stream.getvalue(), caught.value, repr(caught.value), caught.value.http_log)  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------ parts of an unknown URL

# Each is half of `user:password` in a URL that is cut by a delimiter in the password.
PARTS = [
    f"us er%3a{MARKER}'",
    f"me%3a{MARKER}'",
    f"me%253A{MARKER}",
    f"me\uff1a{MARKER}",
    f"me\ufe55{MARKER}'",
    f"me\ufe13{MARKER}",
    f"me%EF%BC%9A{MARKER}",
    f"me%3ao%40{MARKER}",
    f"me:{MARKER}'",
]
PART_FACES: dict[str, Callable[[str], object]] = {
    "HTTPClient": lambda part: HTTPClient(part).get("/"),
    "HTTPClient.from_url": lambda part: HTTPClient.from_url(f"http://{part}/x@h.invalid/").get("/"),
    "Session": lambda part: Session().get(f"http://{part}/x@h.invalid/"),
    "httpx.Client": lambda part: httpx.Client(trust_env=False).get(f"http://{part}/x@h.invalid/"),
    "httplib": lambda part: httplib.HTTPConnection(part).connect(),
    "httplib port": lambda part: httplib.HTTPSConnection(part, 1).connect(),
    "httplib2": lambda part: httplib2.Http(proxy_info=None).request(f"http://{part}/x@h.invalid/"),
    "urllib3": lambda part: PoolManager(retries=False).request("GET", f"http://{part}/x@h.invalid/"),
    "urllib3 host": lambda part: PoolManager(retries=False).connection_from_host(part).request("GET", "/"),
    "proxy": lambda part: HTTPClient("h.invalid", proxy=f"http://{part}/x@h.invalid/"),
    "proxy_host": lambda part: HTTPClient("h.invalid", proxy_host=part, proxy_port=1),
    "resolve": lambda part: HTTPClient("h.invalid", resolve={part: "127.0.0.1"}),
    "resolve, a port": lambda part: HTTPClient("h.invalid", resolve={f"{part}:80": "127.0.0.1"}),
    "hostname": lambda part: setattr(URL("http://h/"), "hostname", f"{part}/"),
    "server_hostname": lambda part: HTTPClient("h.invalid", ssl=True, ssl_options={"server_hostname": part}).get("/"),
    "target": lambda part: HTTPClient("h.invalid").get(f"//{part}"),
    "target, a control": lambda part: HTTPClient("h.invalid").get(f"//{part}\x01"),
}


@pytest.mark.parametrize("face", PART_FACES)
def test_part_of_an_unknown_url_is_shown_without_its_password(face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gevent.socket.getaddrinfo", know_nobody)
    for part in PARTS:
        check_refused(part, lambda part=part: PART_FACES[face](part))  # type: ignore[misc]


@pytest.mark.parametrize(
    "arguments",
    [
        ["https://us er%3a{}'/@h.invalid/"],
        ["http://me%3a{}'/x@h.invalid/"],
        ["http:\n//me::{}\x01#%40h.invalid/"],
        ["--resolve", "//me:{}#::@h.invalid:1", "http://h.invalid/"],
        ["--resolve", "//me%3a{}#:1:@h.invalid", "http://h.invalid/"],
        ["-c", "me%253a{}'@h.invalid", "http://h.invalid/"],
        ["-c", "me%ef%B8%93{}'@h.invalid", "http://h.invalid/"],
    ],
)
@pytest.mark.parametrize("command", ["get", "download", "bench"])
def test_command_shows_no_password_of_a_part(
    command: str, arguments: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gevent.socket.getaddrinfo", know_nobody)
    assert main([command, *(argument.format(MARKER) for argument in arguments)]) != 0
    out, err = capfd.readouterr()
    check_hidden(arguments[-1], out, err)
    # `bench` lists the errors of requests beside its figures.
    assert err or command == "bench"


def test_bytes_are_shown_without_the_password_before_a_lookalike() -> None:
    for url in (f"http://me:{MARKER}\uff20h.invalid/", f"http://me:{MARKER}\ufe6bh.invalid/"):
        octets: Any = url.encode()
        for call in (Session().get, UserAgent().urlopen, HTTPClient, HTTPClient("h.invalid").get):
            check_refused(url, lambda call=call, octets=octets: call(octets))  # type: ignore[misc]
        check_refused(url, lambda octets=octets: HTTPClient("h.invalid", resolve={"h:1": octets}))  # type: ignore[misc]


def test_target_with_another_scheme_is_refused_without_its_password() -> None:
    seen: list[object] = []
    hooks: dict[str, Any] = {"on_request": seen.append, "on_error": lambda request, error: seen.append(request.url)}
    for target in (f"socks5://me:{MARKER}@h.invalid/", f"ws://me:{MARKER}/@h.invalid", f"x+y://{MARKER}@h.invalid/"):
        for client in (HTTPClient("h.invalid"), HTTPClient("h.invalid", **hooks)):
            with pytest.raises(ValueError, match="http and https alone") as caught:
                client.get(target)
            check_hidden(target, caught.value, repr(caught.value))
    assert len(seen) == 6
    check_hidden("", *seen, *map(repr, seen))


def test_path_with_a_url_in_it_is_sent() -> None:
    with serving(serve_ok) as (peer, client):
        for target in ("/http://x/", "proxy?u=ws://x/", "/a?u=socks5://x"):
            client.get(target).read()
        assert [request.target for request in peer.requests] == ["/http://x/", "/proxy?u=ws://x/", "/a?u=socks5://x"]


def test_httplib_encoding_error_does_not_hold_the_text() -> None:
    with serving(serve_ok) as (peer, _):
        secret = f"{MARKER}\u0441\u0435\u0437\u0430\u043c"
        calls: dict[str, Callable[[Any], object]] = {
            "target": lambda connection: connection.request("GET", f"http:///me:{secret}@h.invalid/"),
            "path": lambda connection: connection.request("GET", f"/{secret}"),
            "field": lambda connection: connection.request("GET", "/", headers={"Authorization": secret}),
            "put": lambda connection: (connection.putrequest("GET", "/"), connection.putheader("X", secret)),
        }
        for name, call in calls.items():
            connection = httplib.HTTPConnection(peer.host, peer.port)
            with contextlib.closing(connection), pytest.raises(UnicodeEncodeError) as caught:
                call(connection)
            assert caught.value.object.strip("*") == "", name
            check_refused(name, lambda call=call, connection=connection: call(connection))  # type: ignore[misc]
        connection = httplib.HTTPConnection(peer.host, peer.port)
        connection.set_tunnel("h.invalid", 1, {"Proxy-Authorization": secret})
        check_refused("tunnel", connection.connect)


def test_requests_adapter_error_for_a_proxy_shows_no_password() -> None:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", Adapter())
    for proxy in (
        f"http://me:{MARKER}\ufe55@h.invalid/",
        f"file://us er\ufe55{MARKER}@[fe80::1%eth0]:8/",
        f"http://u%40x:\x01{MARKER}?@h.invalid#f",
        f'HTTP://u\ufe55&*{MARKER}"@-h//x',
    ):
        check_refused(proxy, lambda proxy=proxy: session.get("http://h.invalid/", proxies={"http": proxy}))  # type: ignore[misc]
