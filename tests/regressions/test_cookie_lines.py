"""A Set-Cookie line that http.cookiejar cannot parse affects no other line and emits no warning."""

from __future__ import annotations

import warnings
from http.cookiejar import CookieJar
from typing import Any

import pytest

from geventhttpclient import Session, UserAgent, cookies, httpx
from geventhttpclient._agent.request import CompatRequest
from geventhttpclient.cli import main
from geventhttpclient.cookies import MOST_LIFETIME, Cookies, extract, received
from geventhttpclient.header import Headers
from geventhttpclient.mock import MockTransport
from tests.support.peer import Conn, Peer
from tests.support.scripted import answer
from tests.support.steps import Text, check_growth

pytestmark = pytest.mark.usefixtures("bounded")

# Attributes behind `odd=1`, and whether that is a good cookie.
LINES = {
    "; max-age": True,
    "; Max-Age ": True,
    ";max-age;path=/": True,
    "; max-age; expires": True,
    "; expires": True,
    "; expires=": True,
    "; max-age=" + "9" * 400: True,
    "; max-age=" + "9" * 5000: True,
    "; Expires=Wed, 31-Dec-" + "9" * 5000 + " 23:59:59 GMT": True,
    "; Max-Age=" + "9" * MOST_LIFETIME: True,
    "; max-age=60": True,
    "; max-age=0": False,
    "; max-age=x": False,
    "; version=x": False,
    "; version": False,
    "; port": True,
    "; port=": False,
    "; port=x": False,
    "; domain": False,
    "; path": False,
    "; comment; commenturl; discard; secure": True,
    "; " + "max-age;" * 100: True,
}


@pytest.fixture(autouse=True)
def no_warning() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("jar_class", [CookieJar, Cookies])
@pytest.mark.parametrize("attributes", LINES, ids=lambda attributes: attributes[:30])
def test_jar_keeps_the_good_cookies_of_a_response(attributes: str, jar_class: type[CookieJar]) -> None:
    jar = jar_class()
    lines = ["first=1", f"odd=1{attributes}", "last=1; Max-Age=100"]
    extract(jar, Headers(("Set-Cookie", line) for line in lines), CompatRequest("http://a.test:81/"))
    assert {"first", "last"} <= {cookie.name for cookie in jar}
    assert ("odd" in {cookie.name for cookie in jar}) is LINES[attributes]


def test_cookie_with_a_max_age_without_a_value_lasts_as_long_as_its_expires_says() -> None:
    line = "a=b; max-age; Expires=Thu, 01 Jan 2099 00:00:00 GMT; Path=/x; HttpOnly"
    (cookie,) = received(Headers({"Set-Cookie": line}), CompatRequest("http://a.test/x"))
    assert (cookie.expires, cookie.path) == (4070908800, "/x")
    (cookie,) = received(Headers({"Set-Cookie": "a=b; max-age"}), CompatRequest("http://a.test/"))
    assert (cookie.expires, cookie.discard) == (None, True)


@pytest.mark.parametrize("kind", [UserAgent, Session, httpx.Client])
def test_agent_takes_a_response_with_a_bad_lifetime(kind: Any) -> None:
    fields = [("Set-Cookie", "a=b; max-age"), ("Set-Cookie", "good=1")]
    with kind(transport=MockTransport(lambda request: (200, fields, b"ok")), cookiejar=CookieJar()) as agent:
        response = agent.urlopen("http://a.test/") if kind is UserAgent else agent.get("http://a.test/")
        assert response.content == b"ok"
        assert {cookie.name for cookie in agent.cookiejar} == {"a", "good"}
        if kind is not UserAgent:
            assert response.cookies.get_dict() == {"a": "b", "good": "1"}


@pytest.mark.parametrize("command", ["get", "download"])
def test_command_takes_a_response_with_a_bad_lifetime(
    command: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def script(conn: Conn) -> None:
        while conn.read_request():
            conn.send(answer(b"ok", "200 OK", "Set-Cookie: a=b; max-age", "Set-Cookie: good=1"))

    monkeypatch.chdir(tmp_path)
    with Peer(script) as peer:
        assert main([command, peer.url + "/x"]) == 0
    assert "warning" not in capfd.readouterr().err


@pytest.mark.parametrize("unit", ["max-age;", "; max-age", ";", "expires", "max-age=1;", "=", " "])
def test_reading_lifetimes_grows_with_the_line(unit: str) -> None:
    def work(size: int) -> Any:
        line = Text(("a=b;max-age" + unit * size)[:size])
        return lambda: cookies._without_bad_lifetimes(line)

    check_growth(work, [1024, 2048, 4096, 8192], 1, 20)
