"""Parsing takes linear time: growth is counted in steps, see tests/support/steps.py."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from typing import Any

import pytest

from geventhttpclient import Session, cookies, requests
from geventhttpclient import httpx as httpx_shape
from geventhttpclient._agent import retries
from geventhttpclient._agent.request import CompatRequest
from geventhttpclient._internal import reading
from geventhttpclient._internal.challenges import MOST_CHALLENGE_BYTES, _parse_line, parse_challenges
from geventhttpclient.auth import DigestAuth
from geventhttpclient.cli import filename
from geventhttpclient.header import Headers, parse_content_type_charset
from geventhttpclient.httpx.messages import Response, _resized
from geventhttpclient.mock import MockResponse, MockTransport
from tests.support.steps import Octets, Text, check_growth, steps_of

# Doubled three times. As the steps for each character are bounded, it does not take the limit of a head to see growth;
# that is tried with one value of each field.
SIZES = [2 * 1024, 4 * 1024, 8 * 1024, 16 * 1024]
LIMIT = 128 * 1024

# Beginning, repeated part, end.
LINKS = [
    ("", "<", ""),
    ("", "<>", ""),
    ("", '<>;a="', ""),
    ('<>;a="', "\\", ""),
    ('<>;a="', '\\"', "x"),
    ("<>", " ", "x"),
    ("<>", ";a=", ""),
    ("", '"', ""),
]
CHALLENGES = [
    ("", "a,", ""),
    ("", "a ", ";"),
    ("", "Basic ab==,", ""),
    ("Digest ", "a=b,", ""),
    ("Digest ", 'a = "b" , ', ""),
    ("", 'Digest realm="a",nonce="b",', ""),
    ('Digest realm="', "\\a", '"'),
    ('Digest realm="', '\\"', ""),
    ("Digest ", "a", "="),
    ("Digest a", " ", "="),
    ("Digest ", "a" * 50 + " ", ";"),
]
PARAMETERS = [
    ("", ";", ""),
    ("", ';a="b"', ""),
    ("", ';a="', ""),
    (";", "=", ""),
    ('; a="', "\\", ""),
    ('; a="', '\\"', '"'),
    (";a", " ", "="),
    (";a=", " ", '"'),
    (";", "a", '="'),
    (";", 'a="";a', ""),
]


def of(parts: tuple[str, str, str], size: int, prefix: str = "", suffix: str = "") -> Text:
    begin, unit, end = parts
    begin, end = prefix + begin, end + suffix
    return Text(begin + (unit * size)[: size - len(begin) - len(end)] + end)


@pytest.mark.parametrize("parts", LINKS)
def test_links_of_any_length_are_read_in_linear_time(parts: tuple[str, str, str]) -> None:
    check_growth(lambda size: lambda: requests._parse_link_header(of(parts, size)), SIZES, 0.9, 50)


@pytest.mark.parametrize("parts", CHALLENGES)
def test_challenges_of_any_length_are_read_in_linear_time(parts: tuple[str, str, str]) -> None:
    check_growth(lambda size: lambda: parse_challenges(of(parts, size)), SIZES, 0.9, 50)


@pytest.mark.parametrize(
    ("read", "unit"),
    [
        (requests._parse_link_header, "<"),
        (requests._parse_link_header, '<https://a.example/>; rel="next"; title="x", '),
        (_parse_line, 'Digest realm="a", nonce="b", '),
        (_parse_line, "Basic ab==, "),
        (parse_content_type_charset, '; charset*="x"; a=b'),
        (filename._proposed, '; filename="a\\"b"'),
    ],
)
def test_values_as_long_as_a_head_may_be_are_read_in_linear_time(read: Callable[[str], object], unit: str) -> None:
    check_growth(lambda size: lambda: read(of(("", unit, ""), size)), [LIMIT], 0.9, 50)


def test_answers_to_digest_challenges_take_linear_time() -> None:
    parts = ("", 'Digest realm="a",nonce="b",', "")
    check_growth(
        lambda size: lambda: DigestAuth("u", "p").response("GET", "/", of(parts, size), sent='Digest realm="c"'),
        SIZES,
        0.9,
        50,
    )


def test_challenges_beyond_their_limit_are_passed_over() -> None:
    long = "a," * (MOST_CHALLENGE_BYTES // 2)
    assert len(parse_challenges(long)) == MOST_CHALLENGE_BYTES // 2
    assert parse_challenges(long + ",") == []
    assert steps_of(lambda: parse_challenges([Text(long + ",")] * 100)) < 1000
    assert [found.scheme for found in parse_challenges([long + ",", "Digest a=b", long, "Basic c=d"])] == [
        "digest",
        "basic",
    ]
    assert DigestAuth("u", "p").response("GET", "/", [long + ",", "Digest realm=a,nonce=b"]) is not None


@pytest.mark.parametrize("parts", PARAMETERS)
def test_charset_among_any_parameters_is_read_in_linear_time(parts: tuple[str, str, str]) -> None:
    # The suffix is what has the parameters looked at one by one.
    suffix = ';"x";xcharset='
    check_growth(lambda size: lambda: parse_content_type_charset(of(parts, size, "a/b", suffix)), SIZES, 0.9, 50)


@pytest.mark.parametrize("parts", PARAMETERS)
def test_file_name_among_any_parameters_is_read_in_linear_time(parts: tuple[str, str, str]) -> None:
    check_growth(lambda size: lambda: filename._proposed(of(parts, size, "attachment")), SIZES, 0.9, 50)


def test_headers_take_linear_time_for_many_lines() -> None:
    def work(count: int) -> Callable[[], object]:
        for names in (["A"] * count, [f"A{n}" for n in range(count)], [f"A{n % 7}" for n in range(count)]):
            pairs = [(name, "b") for name in names]

        def call() -> None:
            headers = Headers._from_pairs(pairs)
            headers.extend(pairs)
            headers.update(pairs)
            assert headers == headers.copy()
            assert len(list(headers.items())) == len(headers)
            assert headers.getlist("a1")
            assert headers.compatible_dict()

        return call

    check_growth(work, [1000, 2000, 4000, 8000], 1, 60)


# Bodies in many small pieces


def one_by_one(size: int, octet: bytes = b"a") -> Iterator[Octets]:
    return (Octets(octet) for _ in range(size))


def test_pieces_are_put_together_once() -> None:
    def work(size: int) -> Callable[[], object]:
        return lambda: [len(piece) for piece in requests._cut(one_by_one(size), size // 2)]

    check_growth(work, SIZES, 1, 20)
    assert b"".join(requests._cut(iter([b"ab", b"", b"c", b"defgh", b"i"]), 2)) == b"abcdefghi"
    assert list(requests._cut(iter([b"ab", b"", b"c", b"defgh", b"i"]), 4)) == [b"abcd", b"efgh", b"i"]
    assert list(_resized(iter(["ab", "", "c", "defgh", "i"]), 4)) == ["abcd", "efgh", "i"]
    assert list(requests._cut(iter([]), 2)) == []


@pytest.mark.parametrize("delimiter", [None, b"b", b"ab", b"aaaaaaab"])
@pytest.mark.parametrize("octet", [b"a", b"\r", b"\n", b"b"])
def test_lines_in_many_pieces_are_put_together_once(delimiter: bytes | None, octet: bytes) -> None:
    def work(size: int) -> Callable[[], object]:
        ends = re.compile(b"\r\n|\n|\r")
        return lambda: sum(1 for _ in reading.lines(one_by_one(size, octet), delimiter, ends, b"\r"))

    check_growth(work, SIZES, 1, 60)


@pytest.mark.parametrize("octet", ["a", "\r", "\n"])
def test_httpx_lines_in_many_pieces_are_put_together_once(octet: str) -> None:
    def work(size: int) -> Callable[[], object]:
        response: Any = Response.__new__(Response)
        response.iter_text = lambda: (Text(octet) for _ in range(size))
        return lambda: sum(1 for _ in response.iter_lines())

    check_growth(work, SIZES, 1, 60)


def test_chunks_of_urllib3_are_not_copied_for_each_byte() -> None:
    adapter: Any = pytest.importorskip("geventhttpclient.adapters.urllib3.response")

    def work(size: int) -> Callable[[], object]:
        wire = adapter.EngineResponse()
        wire._piece = Octets(b"a" * size)
        return lambda: [wire._safe_read(1) for _ in range(size)]

    check_growth(work, SIZES, 1, 20)
    wire = adapter.EngineResponse()
    wire._piece = b"abcde"
    assert [wire._safe_read(2) for _ in range(4)] == [b"ab", b"cd", b"e", b"\r\n"]


def test_decoded_body_of_urllib3_is_not_copied_for_each_byte() -> None:
    adapter: Any = pytest.importorskip("geventhttpclient.adapters.urllib3.response")

    def work(size: int) -> Callable[[], object]:
        # Not compressed, so that there is as much to copy as there are bytes to come.
        coded = Octets(gzip.compress(bytes(range(256)) * (size // 256), 0))

        def call() -> None:
            decoder = adapter._Decoder("gzip")
            assert decoder.decompress(coded, 1) == b"\0"
            for n in range(1, size):
                assert decoder.decompress(Octets(b""), 1) == bytes([n % 256])

        return call

    check_growth(work, SIZES, 1, 20)


def test_decoder_of_urllib3_takes_more_before_the_rest_was_decoded() -> None:
    adapter: Any = pytest.importorskip("geventhttpclient.adapters.urllib3.response")
    coded = gzip.compress(b"abcdefgh", 0)
    decoder = adapter._Decoder("gzip")
    pieces = [decoder.decompress(coded[at : at + 3], 2) for at in range(0, len(coded), 3)]
    while decoder.has_unconsumed_tail:
        pieces.append(decoder.decompress(b"", 2))
    assert b"".join(pieces) == b"abcdefgh"
    assert decoder.decompress(b"") == b""
    assert decoder.flush() == b""


# Data that is passed to the standard library


class Watched(CookieJar):
    """Jar that keeps the fields that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def extract_cookies(self, response: Any, request: Any) -> None:
        self.seen += list(response.info().items())
        super().extract_cookies(response, request)


HOSTILE_COOKIES = [
    ("Set-Cookie", "a=b"),
    ("Set-Cookie2", "a," * 40_000),
    ("Set-Cookie", "c=" + "d" * cookies.MOST_COOKIE_BYTES),
    ("set-cookie2", "e=f"),
    ("Set-Cookie", "g=h"),
]


@pytest.mark.parametrize("hostile", [HOSTILE_COOKIES, [line for line in HOSTILE_COOKIES if line[1][0] != "c"]])
def test_jar_is_not_given_fields_that_it_would_read_in_quadratic_time(hostile: list[tuple[str, str]]) -> None:
    jar = Watched()
    cookies.extract(jar, Headers(hostile), CompatRequest("http://a.example/"))
    assert jar.seen == [("Set-Cookie", "a=b"), ("Set-Cookie", "g=h")]
    assert [cookie.name for cookie in jar] == ["a", "g"]


@pytest.mark.parametrize("kind", [Session, httpx_shape.Client])
def test_session_takes_the_other_cookies_of_a_response_with_set_cookie2(kind: Any) -> None:
    jar = Watched()
    transport = MockTransport(lambda request: MockResponse(200, HOSTILE_COOKIES))
    with kind(transport=transport) as session:
        session.cookiejar = jar
        session.get("http://a.example/")
    assert {name.lower() for name, _ in jar.seen} <= {"set-cookie"}
    assert [cookie.name for cookie in jar] == ["a", "g"]


def test_jar_of_requests_is_not_given_fields_that_it_would_read_in_quadratic_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter: Any = pytest.importorskip("geventhttpclient.adapters.urllib3.response")
    pairs = [*HOSTILE_COOKIES, ("X", "y" * 10_000)]

    class EngineResponse(adapter.EngineResponse):  # type: ignore[misc]
        def _pairs(self) -> list[tuple[str, str]]:
            return pairs

    shown = EngineResponse().msg.items()
    assert shown == [("Set-Cookie", "a=b"), ("Set-Cookie", "g=h"), ("X", "y" * 10_000)]


class Looked(dict[str, Any]):
    """Mapping that counts the characters of the keys that are looked up."""

    characters = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.characters += len(key)
        return super().get(key, default)


@pytest.mark.parametrize("unit", ["a.", "a", "a" * 63 + "."])
def test_parents_of_a_long_host_take_linear_time(unit: str) -> None:
    for size in (1024, 2048, 4096, 8192):
        jar: Any = CookieJar()
        jar._cookies = Looked()
        cookies._prune(jar, (unit * size)[:size] + "example")
        assert jar._cookies.characters <= 200 * size


def test_retry_after_of_more_than_a_date_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(retries.email.utils, "parsedate_to_datetime", lambda text: read.append(text) or 1 / 0)
    for text in ("1" * 100_000, "Mon, " * 20_000, "Mon, " + "1" * 100_000, " " * retries.MOST_RETRY_AFTER + "1"):
        assert retries.retry_after_seconds(text) == 0.0
    assert read == []
    assert retries.retry_after_seconds("120") == 120.0
    assert retries.retry_after_seconds("1" * retries.MOST_RETRY_AFTER) > 0


def test_steps_detect_a_quadratic_algorithm() -> None:
    def shrink(text: Text) -> None:
        while text:
            text = text[1:]

    assert steps_of(lambda: shrink(Text("a" * 1000))) > 400_000
    # Neither is a regular expression seen, nor would a test that has nothing to count pass.
    assert steps_of(lambda: re.findall("<([^>]*)>", Text("<" * 1000))) < 1000
