"""URL: every field and edit; its parser, quoting and reference resolution compared with urllib.parse."""

from __future__ import annotations

import copy
import pickle
import random
import re
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urljoin, urlparse, urlsplit, urlunparse

import pytest

from geventhttpclient import url as url_module
from geventhttpclient.exceptions import HTTPClientError
from geventhttpclient.url import (
    DEFAULT_PORTS,
    UNRESERVED_SET,
    URL,
    InvalidURL,
    requote_uri,
    to_key_val_list,
    unquote_unreserved,
)

SEED = 20120103

FULL = "http://user:secret@Example.org:8080/a/b;p=1?x=1&y=2#top"

# Texts at which hand-written parsers fail. None has brackets: Python's versions disagree about these.
NASTIES = [
    "",
    "/",
    "//",
    "///",
    "////a",
    "?",
    "#",
    "?#",
    "#?",
    ":",
    "://",
    "http:",
    "http:/",
    "http://",
    "http:///",
    "http:///a",
    "http:////a",
    "http:a",
    "http://?a",
    "http://#a",
    "http://@",
    "http://@:",
    "http://:80",
    "http://h:",
    "http://h:80:90",
    "http://a@b@c:1/",
    "http://u:p:q@h",
    "http://h;p/a;q;r?s;t#u;v",
    "http://h/a;",
    "http://h/;a",
    "http://h/a;b/c",
    "a;b/c;d",
    ";",
    "http://h/a?b?c#d#e",
    "http://h?a/b",
    "http://h#a/b?c",
    "HTTP://EXAMPLE.org/A",
    "hTTp+x.y-z://h/a",
    "h_t://a",
    "-a:b",
    "a:b:c",
    "mailto:me@example.org",
    "tel:+1;x=y",
    "ws://h/a;b",
    "file:///etc/passwd",
    "/a:b",
    "./a:b",
    "h:80/x",
    "127.0.0.1:80/x",
    "\thttp://h/\n",
    "  http://h/ ",
    "\x00http://h/",
    "ht\ntp://h\t/a\rb",
    "http://h/\x7f\x01",
    "http://m\u00fcnchen.example/stra\u00dfe?\u00e9#\U0001f40d",
    "http://M\u00dcNCHEN.example/",
    "http://a\u2100b.example/",
    "http://a\uff0fb.example/",
    "http://a\uff1ab.example/",
    "http://h/%zz%20%",
]


if sys.version_info < (3, 11):
    # There, a scheme may begin with a digit or a sign.
    NASTIES = [text for text in NASTIES if not re.match(r"\s*[0-9+.-][^/?#]*:", text)]


def generated(count: int, pieces: list[str], longest: int) -> list[str]:
    chance = random.Random(SEED)
    return ["".join(chance.choices(pieces, k=chance.randint(0, longest))) for _ in range(count)]


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except ValueError:
        return ValueError


def six_fields(text: str) -> tuple[str, ...]:
    return tuple(URL(text))


class TestBesideUrllib:
    PIECES = ["http", "s", ":", "/", "//", "?", "#", ";", "@", "a", "B", ".", "%", "\u00e9"]
    # Without a sign or a digit at the start of a scheme: see above.
    TEXTS = NASTIES + [text for text in generated(4000, PIECES, 12) if not text.startswith(".")]

    @pytest.mark.parametrize("text", NASTIES)
    def test_nasty_has_the_same_six_fields(self, text: str) -> None:
        assert outcome(six_fields, text) == outcome(lambda: tuple(urlparse(text)))

    def test_six_fields(self) -> None:
        for text in self.TEXTS:
            assert outcome(six_fields, text) == outcome(lambda text: tuple(urlparse(text)), text), text

    def test_text(self) -> None:
        for text in self.TEXTS:
            fields = outcome(urlparse, text)
            if fields is ValueError:
                continue
            # Older ones turn an empty authority with a path of two slashes into an authority.
            if fields.netloc or sys.version_info >= (3, 12, 4):
                assert str(URL(text)) == urlunparse(fields), text
            assert tuple(URL(str(URL(text)))) in (tuple(fields), tuple(urlparse(urlunparse(fields)))), text

    def test_authority(self) -> None:
        for netloc in generated(3000, ["a", "B", "@", ":", "80", "1", "%", "\u00dc", "x"], 8):
            theirs, ours = urlsplit(f"x://{netloc}/"), URL(f"x://{netloc}/")
            assert ours.username == (theirs.username or ""), netloc
            assert ours.password == (theirs.password or ""), netloc
            assert ours.hostname == (theirs.hostname or ""), netloc
            assert outcome(getattr, ours, "port") == outcome(getattr, theirs, "port"), netloc

    def test_query_values(self) -> None:
        for query in generated(3000, ["a", "b", "=", "&", "+", "%20", "%C3%A9", "%ff", "%", "\u00e9", ";"], 10):
            url, pairs = URL(f"http://h/?{query}"), parse_qsl(query, keep_blank_values=True)
            for key in {key for key, _ in pairs if "\ufffd" not in key}:
                values = [value for name, value in pairs if name == key]
                assert url[key] == (values if len(values) > 1 else values[0]), query

    def test_query_edits(self) -> None:
        chance = random.Random(SEED)
        for query in generated(1000, ["a", "b", "c", "=", "&", "%61", "+"], 10):
            url, key, value = URL(f"http://h/?{query}"), chance.choice("abc"), chance.choice(["", "1 &=+%", "\u00e9"])
            others = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != key]
            url[key] = value
            pairs = parse_qsl(url.query, keep_blank_values=True)
            assert [pair for pair in pairs if pair[0] != key] == others, query
            assert [pair for pair in pairs if pair[0] == key] == [(key, value)], query

    def test_redirects(self) -> None:
        chance = random.Random(SEED)
        for _ in range(3000):
            base = "http://h" + "".join(chance.choices(["/a", "/b", "/c.d"], k=chance.randint(1, 4))) + "?q"
            path = "/".join(chance.choices([".", "..", "g", "h.", "..i"], k=chance.randint(1, 5)))
            reference = chance.choice(["", "/"]) + path + chance.choice(["", "/", "?y", "#s", "?y#s"])
            assert str(URL(base).redirect(reference)) == urljoin(base, reference), (base, reference)
            # urljoin leaves the dots in a reference that has an authority.
            target = urljoin("https://o/", reference)
            assert str(URL(base).redirect("https://o/" + reference.lstrip("/"))) == target, reference
            assert str(URL("https://h").redirect("//o/" + reference.lstrip("/"))) == target, reference

    def test_requoting(self) -> None:
        def naive(uri: str) -> str:
            if re.search(r"%(?![0-9A-Fa-f]{2})[^\W_]{2}", uri):
                return quote(uri, safe="!#$&'()*+,/:;=?@[]~")
            out = ""
            for piece in re.findall(r"%[0-9A-Fa-f]{2}|.", uri):
                character = unquote(piece) if len(piece) == 3 else ""
                # A percent sign that is none of an escape gets no digits from one.
                out += character if character in UNRESERVED_SET and not re.search(r"%[^\W_]?$", out) else piece
            return quote(out, safe="!#$%&'()*+,/:;=?@[]~")

        for uri in generated(
            5000, ["%", "41", "7e", "2F", "zz", "a", " ", "/", "?", "\u00e9", "%20", "|", "%e9", "_"], 9
        ):
            assert requote_uri(uri) == naive(uri), uri


class TestFields:
    def test_all(self) -> None:
        url = URL(FULL)
        assert list(url) == ["http", "user:secret@Example.org:8080", "/a/b", "p=1", "x=1&y=2", "top"]
        assert (url.scheme, url.netloc, url.path) == ("http", "user:secret@Example.org:8080", "/a/b")
        assert (url.params, url.query, url.fragment) == ("p=1", "x=1&y=2", "top")
        assert url.user == url.username == "user"
        assert url.password == "secret"
        assert url.host == url.hostname == "example.org"
        assert url.port == 8080

    def test_none(self) -> None:
        url = URL()
        assert list(url) == [""] * 6
        assert (url.username, url.password, url.host, url.port) == ("", "", "", None)
        assert (str(url), url.request_uri) == ("", "")

    @pytest.mark.parametrize(
        ("text", "port"),
        [("http://h", 80), ("https://h", 443), ("ws://h", None), ("//h", None), ("http://h:", 80), ("http://h:0", 0)],
    )
    def test_port_of_the_scheme(self, text: str, port: int | None) -> None:
        assert URL(text).port == port

    def test_default_ports_may_be_added_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(DEFAULT_PORTS, "ws", 80)
        assert URL("ws://h").port == 80

    @pytest.mark.parametrize(
        "port", ["x", "+1", "-1", "1_0", "\u0663", "80:80", "65536", "123456789012345678901234567890"]
    )
    def test_bad_port_is_named(self, port: str) -> None:
        url = URL(f"http://h:{port}/")
        assert url.host == "h"
        with pytest.raises(ValueError, match=f"Port.*{re.escape(port)}"):
            _ = url.port

    @pytest.mark.parametrize(
        ("netloc", "host"),
        [
            ("[::1]", "::1"),
            ("[FE80::A%Eth0]:8", "fe80::a%Eth0"),
            ("u:p@[1:2::3.4.5.6]:8", "1:2::3.4.5.6"),
            ("[v1F.x:y]", "v1f.x:y"),
        ],
    )
    def test_addresses_in_brackets(self, netloc: str, host: str) -> None:
        assert URL(f"http://{netloc}/").host == host

    @pytest.mark.parametrize(
        "netloc",
        [
            "[",
            "]",
            "[::1",
            "::1]",
            "a[::1]",
            "[::1]a",
            "]::1[",
            "[]",
            "[a]",
            "[1.2.3.4]",
            "[1::2::3]",
            "[::1%]",
            "[vz.a]",
            "[v1.]",
        ],
    )
    def test_brackets_that_hold_no_address(self, netloc: str) -> None:
        with pytest.raises(ValueError, match="Invalid IPv6 URL"):
            URL(f"http://{netloc}/")

    def test_lookalikes_of_delimiters(self) -> None:
        with pytest.raises(ValueError, match="NFKC"):
            URL("http://example.org\uff0f.evil.example/")


class TestConstructor:
    @pytest.mark.parametrize(
        "make", [URL, urlparse, lambda text: tuple(urlparse(text)), lambda text: list(urlparse(text))]
    )
    def test_from(self, make: Callable[[str], Any]) -> None:
        assert str(URL(make(FULL))) == FULL

    def test_missing_fields_are_empty(self) -> None:
        assert list(URL(("http", "h", "/", None, None, None))) == ["http", "h", "/", "", "", ""]  # type: ignore[arg-type]

    @pytest.mark.parametrize("wrong", [None, 5, b"http://h/", urlparse(b"http://h/"), ("http", 5, "", "", "", "")])
    def test_wrong_types(self, wrong: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            URL(wrong)

    def test_five_fields(self) -> None:
        with pytest.raises(ValueError, match="not enough values"):
            URL(urlsplit(FULL))

    @pytest.mark.parametrize(
        ("params", "query"),
        [
            ({"a": "1"}, "a=1"),
            ([("a", "1"), ("a", "2")], "a=1&a=2"),
            ({"a": ["1", "2"], "b": ()}, "a=1&a=2"),
            ({"a": None, "b": [None, 3]}, "b=3"),
            ({"a b": "c&d=\u00e9~"}, "a+b=c%26d%3D%C3%A9~"),
            ({"a": b"\xff", b"\xfe": 1.5}, "a=%FF&%FE=1.5"),
            ({"a": True, "b": 0}, "a=True&b=0"),
            ((["a", 1], ("b", 2)), "a=1&b=2"),
            (iter([("a", "1")]), "a=1"),
            ("a=%20&b", "a=%20&b"),
            (b"a=1", "a=1"),
            ({}, ""),
            ("", ""),
        ],
    )
    def test_params(self, params: Any, query: str) -> None:
        params, again = (list(params),) * 2 if hasattr(params, "__next__") else (params, params)
        assert URL("http://h/", params=params).query == query
        assert URL("http://h/?x", again).query == ("x&" + query if query else "x")

    @pytest.mark.parametrize("params", [["a"], [("a", "b", "c")], [5]])
    def test_params_that_are_no_pairs(self, params: Any) -> None:
        with pytest.raises(ValueError, match="2-tuples"):
            URL("http://h/", params=params)

    def test_params_that_are_nothing_like_it(self) -> None:
        with pytest.raises(TypeError):
            URL("http://h/", params=5)  # type: ignore[arg-type]


class TestRequestTarget:
    @pytest.mark.parametrize(
        ("text", "target"),
        [
            (FULL, "/a/b;p=1?x=1&y=2"),
            ("http://h", ""),
            ("http://h/", "/"),
            ("http://h?a", "?a"),
            ("http://h/?", "/"),
            ("/a b?c d", "/a b?c d"),
        ],
    )
    def test_path_and_query(self, text: str, target: str) -> None:
        url = URL(text)
        assert url.query_string == url.request_uri == target

    def test_follows_edits(self) -> None:
        url = URL("http://h/a?x=1")
        url.path, url.params, url.query = "/b", "p", "y"
        assert url.query_string == url.request_uri == "/b;p?y"

    def test_is_not_assigned(self) -> None:
        with pytest.raises(AttributeError):
            URL(FULL).request_uri = "/"  # type: ignore[misc]

    def test_quoted(self) -> None:
        url = URL("http://h/caf\u00e9 %7Ea?q=a|b#c d")
        assert url.quoted == "http://h/caf%C3%A9%20~a?q=a%7Cb#c%20d"
        assert url.quoted_uri == "/caf%C3%A9%20~a?q=a%7Cb"


class TestQuery:
    def test_read(self) -> None:
        url = URL("http://h/?a=1&b=x+y%26&a=2&c&=d")
        assert url["a"] == ["1", "2"]
        assert url["b"] == "x y&"
        assert url["c"] == ""
        assert url[""] == "d"
        assert url.get("a") == ["1", "2"]
        assert url.get("none") is None
        assert url.get("none", 5) == 5
        assert url.get("c", 5) == ""
        assert "c" in url
        assert "d" not in url

    def test_missing(self) -> None:
        with pytest.raises(KeyError, match="none"):
            URL("http://h/?a=1")["none"]

    @pytest.mark.parametrize(
        ("value", "query"),
        [
            ("v", "a=1&k=v&b=2"),
            ("x y&z=\u00e9%/", "a=1&k=x+y%26z%3D%C3%A9%25%2F&b=2"),
            (b"\xff", "a=1&k=%FF&b=2"),
            (3, "a=1&k=3&b=2"),
            (["v", 2, None], "a=1&k=v&k=2&b=2"),
            (("v",), "a=1&k=v&b=2"),
            (iter("vw"), "a=1&k=v&k=w&b=2"),
            ("", "a=1&k=&b=2"),
            (None, "a=1&b=2"),
            ([], "a=1&b=2"),
        ],
    )
    def test_replace(self, value: Any, query: str) -> None:
        url = URL("http://h/p?a=1&k=old&b=2&%6B=older#f")
        url["k"] = value
        assert str(url) == f"http://h/p?{query}#f"

    def test_append(self) -> None:
        url = URL("http://h/p")
        url["a"] = 1
        url["b c"] = "d"
        assert url.query_string == "/p?a=1&b+c=d"

    def test_others_stay_as_they_are_written(self) -> None:
        url = URL("http://h/?%7e=%20&b&c=+")
        url["d"] = 1
        assert url.query == "%7e=%20&b&c=+&d=1"

    def test_delete(self) -> None:
        url = URL("http://h/?a=1&b=2&a=3")
        del url["a"]
        assert url.query == "b=2"
        with pytest.raises(KeyError, match="a"):
            del url["a"]

    def test_keys_that_are_no_str(self) -> None:
        url = URL("http://h/?5=a")
        assert url[5] == "a"  # type: ignore[index]
        assert b"5" in url
        url[5] = "b"  # type: ignore[index]
        assert url.query == "5=b"


class TestEdits:
    def test_fields(self) -> None:
        url = URL(FULL)
        url.scheme, url.netloc, url.path, url.params, url.query, url.fragment = "https", "h", "/x", "", "z", ""
        assert str(url) == "https://h/x?z"
        assert (url.host, url.port, url.user) == ("h", 443, "")

    def test_parts_of_the_authority(self) -> None:
        url = URL("http://h/")
        assert url.port == 80
        url.port = 8080
        assert (url.port, url.netloc) == (8080, "h:8080")
        url.host = "::1"
        assert (url.host, url.netloc) == ("::1", "[::1]:8080")
        url.user = "me@home"
        url.password = "a:b/c"
        assert url.netloc == "me%40home:a%3Ab%2Fc@[::1]:8080"
        assert (url.username, url.password) == ("me%40home", "a%3Ab%2Fc")
        url.hostname = "Other"
        url.port = None
        url.password = ""
        url.username = ""
        assert (url.netloc, url.host, url.port) == ("Other", "other", 80)

    @pytest.mark.parametrize("host", ["a/b", "a?b", "a#b", "a@b", "a b", "a\r\nb", "a:80", "[a]"])
    def test_invalid_hosts_are_refused(self, host: str) -> None:
        url = URL("http://h/")
        with pytest.raises(ValueError, match="Invalid"):
            url.host = host
        assert url.netloc == "h"

    @pytest.mark.parametrize("port", [-1, 65536])
    def test_invalid_ports_are_refused(self, port: int) -> None:
        with pytest.raises(ValueError, match=str(port)):
            URL("http://h/").port = port

    @pytest.mark.parametrize(
        ("text", "value", "path"),
        [
            ("http://h", "x", "/x"),
            ("http://h/", "x", "/x"),
            ("http://h/a", "x", "/a/x"),
            ("http://h/a/", "/x", "/a/x"),
            ("http://h/a", "/x/", "/a/x/"),
            ("http://h/a", "", "/a/"),
            ("http://h/a", 5, "/a/5"),
            ("http://h/a", "b c?d#e%20%\u00e9", "/a/b%20c%3Fd%23e%20%25%C3%A9"),
            ("http://h/a;p", "x", "/a;p/x"),
        ],
    )
    def test_append_to_path(self, text: str, value: object, path: str) -> None:
        url = URL(text + "?q")
        assert url.append_to_path(value) == path
        assert url.path == path
        assert url.query_string == f"{path}?q"

    def test_no_other_attributes(self) -> None:
        with pytest.raises(AttributeError):
            URL(FULL).hots = "h"  # type: ignore[attr-defined]


class TestRedirect:
    # RFC 3986 section 5.4, what urljoin reads otherwise included.
    @pytest.mark.parametrize(
        ("reference", "target"),
        [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("#s", "http://a/b/c/d;p?q#s"),
            (";x", "http://a/b/c/;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y#s"),
            ("", "http://a/b/c/d;p?q"),
            ("..", "http://a/b/"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("http:g", "http:g"),
            ("?", "http://a/b/c/d;p"),
            ("HTTPS://X/./y", "https://X/y"),
        ],
    )
    def test_reference(self, reference: str, target: str) -> None:
        assert str(URL("http://a/b/c/d;p?q#f").redirect(reference)) == target

    def test_keeps_the_scheme_of_the_base(self) -> None:
        assert str(URL("https://a/b").redirect("//h/x")) == "https://h/x"

    @pytest.mark.parametrize("make", [URL, urlparse])
    def test_to_a_parsed_one(self, make: Callable[[str], Any]) -> None:
        assert str(URL("http://a/b/c").redirect(make("../d?e"))) == "http://a/d?e"

    def test_changes_neither_and_keeps_the_class(self) -> None:
        class Mine(URL):
            pass

        base, other = Mine("http://a/b"), URL("http://c/d")
        target = base.redirect(other)
        assert type(target) is Mine
        assert target is not other
        assert (str(base), str(other), str(target)) == ("http://a/b", "http://c/d", "http://c/d")

    def test_bad_one(self) -> None:
        with pytest.raises(ValueError, match="IPv6"):
            URL("http://a/").redirect("//[x]/")


class Sub(URL):
    __slots__ = ("__dict__", "more")


class TestAsAnObject:
    def test_text(self) -> None:
        url = URL(FULL)
        assert str(url) == url.geturl() == FULL
        assert repr(url) == f"URL({FULL.replace('user:secret', '***')})"

    def test_equality(self) -> None:
        assert URL(FULL) == URL(FULL)
        assert URL(FULL) == FULL
        assert FULL == URL(FULL)  # noqa: SIM300
        assert URL(FULL) == urlparse(FULL)
        assert Sub(FULL) == URL(FULL)
        assert URL("http://h/") != URL("http://h")

    @pytest.mark.parametrize("field", ["scheme", "netloc", "path", "params", "query", "fragment"])
    def test_every_field_counts(self, field: str) -> None:
        other = URL(FULL)
        setattr(other, field, "z")
        assert other != URL(FULL)

    @pytest.mark.parametrize("other", [None, 5, b"http://h/", "http://[x]/", object(), []])
    def test_never_equal(self, other: Any) -> None:
        assert URL("http://h/") != other

    def test_not_hashable(self) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            hash(URL(FULL))

    @pytest.mark.parametrize(
        "duplicate",
        [
            copy.copy,
            copy.deepcopy,
            lambda url: pickle.loads(pickle.dumps(url)),
            lambda url: pickle.loads(pickle.dumps(url, 2)),
        ],
    )
    def test_duplicates(self, duplicate: Callable[[Any], Any]) -> None:
        url = Sub(FULL)
        assert url.host == "example.org"
        url.more, url.other = [1], 2  # type: ignore[attr-defined]
        twin = duplicate(url)
        assert type(twin) is Sub
        assert (twin, twin.more, twin.other, twin.host) == (url, [1], 2, "example.org")
        twin["x"] = 5
        twin.host = "elsewhere"
        assert str(url) == FULL
        assert type(duplicate(URL(FULL))) is URL
        assert duplicate(URL(FULL)) == URL(FULL)


class TestHelpers:
    def test_unreserved(self) -> None:
        assert len(UNRESERVED_SET) == 66
        assert all(quote(character, safe="") == character for character in UNRESERVED_SET)

    def test_unquote_unreserved(self) -> None:
        assert unquote_unreserved("%41%7e%2f%e9%4%") == "A~%2f%e9%4%"
        with pytest.raises(InvalidURL, match="'zz'"):
            unquote_unreserved("/%zz")

    def test_invalid_url_is_an_exception_of_its_own(self) -> None:
        assert InvalidURL.__bases__ == (HTTPClientError,)
        assert HTTPClientError.__bases__ == (Exception,)

    def test_requote_without_work(self) -> None:
        uri = "http://h/a?b=c"
        assert requote_uri(uri) is uri

    def test_to_key_val_list(self) -> None:
        assert to_key_val_list(None) is None
        assert to_key_val_list({"a": 1}) == [("a", 1)]
        assert to_key_val_list(iter([("a", 1), ("a", 2)])) == [("a", 1), ("a", 2)]

    @pytest.mark.parametrize("value", ["a=b", b"a", 5, True])
    def test_to_key_val_list_of_one_value(self, value: Any) -> None:
        with pytest.raises(ValueError, match="2-tuples"):
            to_key_val_list(value)

    def test_params_data_type_is_there(self) -> None:
        assert url_module.ParamsDataType
