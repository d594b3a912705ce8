"""Cookies: the standard library's jars with our requests, jars by name, the cost of an empty jar."""

from __future__ import annotations

import timeit
from http.cookiejar import CookieJar, DefaultCookiePolicy, MozillaCookieJar
from pathlib import Path
from typing import Any

import pytest

from geventhttpclient.cookies import (
    MOST_COOKIE_BYTES,
    MOST_COOKIES,
    Cookies,
    add_cookies,
    bind,
    extract,
    jar_of,
    merged,
    received,
)
from geventhttpclient.header import Headers
from geventhttpclient.useragent import CompatRequest


def setting(*lines: str) -> Headers:
    return Headers([("Set-Cookie", line) for line in lines])


def sent(jar: CookieJar, url: str, **options: Any) -> str | None:
    request = CompatRequest(url, **options)
    add_cookies(jar, request)
    cookie = request.get_header("Cookie")
    assert cookie is None or isinstance(cookie, str)
    return cookie


def jar_after(url: str, *lines: str, jar: CookieJar | None = None) -> CookieJar:
    jar = CookieJar() if jar is None else jar
    extract(jar, setting(*lines), CompatRequest(url))
    return jar


def test_cookie_is_sent_where_domain_path_and_secure_allow() -> None:
    jar = jar_after(
        "http://a.example.org/x/y", "s=1", "p=2; Path=/x", "d=3; Domain=example.org; Path=/", "t=4; Secure; Path=/"
    )
    assert sent(jar, "http://a.example.org/x/z") == "s=1; p=2; d=3"
    assert sent(jar, "https://a.example.org/") == "t=4; d=3"
    assert sent(jar, "http://b.example.org/") == "d=3"
    assert sent(jar, "http://example.com/") is None


def test_expired_ones_go() -> None:
    jar = jar_after("http://example.org/", "a=1; Max-Age=3600")
    jar_after("http://example.org/", "a=; Max-Age=0", jar=jar)
    assert sent(jar, "http://example.org/") is None


def test_policy_of_a_jar_is_applied() -> None:
    jar = CookieJar(DefaultCookiePolicy(blocked_domains=["example.org"]))
    jar_after("http://example.org/", "a=1", jar=jar)
    assert len(jar) == 0


def test_cookie_of_the_caller_is_not_changed() -> None:
    jar = jar_after("http://example.org/", "a=1")
    assert sent(jar, "http://example.org/", headers=Headers(Cookie="mine=1")) == "mine=1"


def test_file_of_cookies(tmp_path: Path) -> None:
    jar = MozillaCookieJar(tmp_path / "cookies.txt")
    jar_after("http://example.org/", "a=1; Max-Age=1000", jar=jar)
    jar.save()
    again = MozillaCookieJar(tmp_path / "cookies.txt")
    again.load()
    assert sent(again, "http://example.org/") == "a=1"


def test_jar_may_create_the_cookie_field_itself() -> None:
    class Own(CookieJar):
        def add_cookie_header(self, request: Any) -> None:
            request.add_unredirected_header("Cookie", "own=1")

    assert sent(Own(), "http://example.org/") == "own=1"


def test_empty_jar_costs_nothing() -> None:
    jar, request = CookieJar(), CompatRequest("http://example.org/")
    ours = min(timeit.repeat(lambda: add_cookies(jar, request), number=1000, repeat=5))
    theirs = min(timeit.repeat(lambda: jar.add_cookie_header(request), number=1000, repeat=5))
    assert ours < theirs / 4


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("example.org", "http://example.org/"),
        ("localhost", "http://localhost:8080/"),
        ("127.0.0.1", "http://127.0.0.1:8080/"),
        ("::1", "http://[::1]:8080/"),
    ],
)
def test_cookies_by_name_are_for_one_host(host: str, url: str) -> None:
    jar = jar_of({"a": 1, "none": None}, host)
    assert sent(jar, url) == "a=1"
    assert sent(jar, "http://elsewhere.test/") is None
    # What the server sets afterwards takes their place.
    jar_after(url, "a=2; Path=/", jar=jar)
    assert sent(jar, url) == "a=2"


def test_cookies_by_name_without_a_host_wait_for_the_first_request() -> None:
    jar = jar_of({"a": "1"})
    assert sent(jar, "http://example.org/") is None
    bind(jar, CompatRequest("https://example.org/"))
    assert sent(jar, "https://example.org/") == "a=1"
    for elsewhere in ("http://example.org/", "https://www.example.org/", "https://localhost/"):
        assert sent(jar, elsewhere) is None
    bind(jar, CompatRequest("https://localhost/"))  # they are bound already
    assert sent(jar, "https://localhost/") is None


def test_jar_of_a_jar_is_that() -> None:
    jar = CookieJar()
    assert jar_of(jar) is jar
    assert isinstance(jar_of(None), CookieJar)


@pytest.mark.parametrize("wrong", ["a=1", [("a", "1")], 5])
def test_values_that_are_no_cookies_are_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^cookies must be"):
        jar_of(wrong)


def test_merging_leaves_the_parts_alone() -> None:
    one = jar_after("http://example.org/", "a=1; Path=/", "b=1; Path=/")
    both = merged(one, {"b": 2, "c": 3}, host="example.org")
    assert dict(both.items()) == {"a": "1", "b": "2", "c": "3"}
    assert sorted(cookie.value or "" for cookie in one) == ["1", "1"]


def test_cookies_by_name() -> None:
    jar = received(setting("a=1; Path=/", "b=2"), CompatRequest("http://example.org/x/"))
    assert (jar["a"], jar.get("b"), jar.get("c"), jar.get("c", "none")) == ("1", "2", None, "none")
    assert dict(jar) == jar.get_dict() == {"a": "1", "b": "2"}  # type: ignore[call-overload]
    assert (jar.keys(), jar.values(), jar.items()) == (["a", "b"], ["1", "2"], [("a", "1"), ("b", "2")])
    assert "a" in jar
    assert "c" not in jar
    assert next(iter(jar)) in jar
    assert [cookie.path for cookie in jar] == ["/", "/x"]
    jar["c"] = 3
    del jar["a"]
    jar.update({"d": "4"})
    jar.set("b", None)
    assert dict(jar.items()) == {"c": "3", "d": "4"}
    with pytest.raises(KeyError):
        jar["a"]
    with pytest.raises(KeyError):
        del jar["a"]


def test_name_of_several_places_is_ambiguous() -> None:
    jar = Cookies()
    jar.set("a", "1", "one.org")
    jar.set("a", "2", "two.org", "/x")
    with pytest.raises(RuntimeError, match=r"'a': of one\.org/, two\.org/x$"):
        jar["a"]
    assert jar.get("a", domain="two.org") == jar.get("a", path="/x") == "2"
    assert jar.get_dict("one.org") == {"a": "1"}
    assert "a" in jar


def test_no_cookies_no_jar_at_work() -> None:
    class Untouched(CookieJar):
        def extract_cookies(self, response: Any, request: Any) -> None:
            raise AssertionError

    extract(Untouched(), Headers(Server="x"), CompatRequest("http://example.org/"))


@pytest.mark.parametrize(
    "url", ["http://example.org/", "http://a.b.example.org/", "http://127.0.0.1/", "http://localhost/"]
)
@pytest.mark.parametrize("attributes", ["", "; Path=/x"])
@pytest.mark.parametrize("kind", [CookieJar, Cookies])
def test_domain_has_a_limited_number_of_cookies(url: str, attributes: str, kind: type[CookieJar]) -> None:
    """The oldest cookies of the domain are dropped; those of other domains stay."""
    jar = jar_after("http://other.test/", "kept=1", jar=kind())
    jar_after(url, *(f"a{n}=1{attributes}" for n in range(MOST_COOKIES)), jar=jar)
    assert len(jar) == MOST_COOKIES + 1
    jar_after(url, *(f"b{n}=1{attributes}" for n in range(3)), jar=jar)
    names = {cookie.name for cookie in jar}
    assert names == {"kept", "b0", "b1", "b2"} | {f"a{n}" for n in range(3, MOST_COOKIES)}


def test_parent_domain_has_a_limited_number_of_cookies() -> None:
    jar = CookieJar()
    for n in range(MOST_COOKIES + 5):
        jar_after(f"http://h{n}.example.org/", f"a{n}=1; Domain=example.org", jar=jar)
    assert len(jar) == MOST_COOKIES


def test_cookies_of_the_program_are_not_counted() -> None:
    assert len(jar_of({f"a{n}": "b" for n in range(MOST_COOKIES + 5)})) == MOST_COOKIES + 5


def test_line_that_is_too_long_is_ignored() -> None:
    jar = jar_after("http://example.org/", "a=1", f"b={'x' * MOST_COOKIE_BYTES}", f"c={'x' * (MOST_COOKIE_BYTES - 2)}")
    assert {cookie.name for cookie in jar} == {"a", "c"}
