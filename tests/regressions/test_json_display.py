"""`get` shows JSON from a hostile server in bounded memory and in one pass, or unchanged."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from geventhttpclient._internal.charsets import unicode_json
from geventhttpclient.cli import jsontext
from geventhttpclient.cli.jsontext import GROWTH_ALLOWANCE, MAX_DEPTH, MAX_GROWTH, MOST, JSONText
from tests.support import cli
from tests.support.peer import Peer
from tests.support.scripted import answer, saying, saying_then_closing


def pieces_of(body: bytes, size: int) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


def pretty(body: bytes, size: int = 1 << 18) -> tuple[str, bytes]:
    """Returns the part that is shown indented, and the rest, which is shown as received."""
    text, shown, rest = JSONText(), "", b""
    for piece in pieces_of(body, size):
        more, raw = text.feed(piece)
        assert not (more and rest)
        shown, rest = shown + more, rest + raw
    more, raw = text.finish()
    return shown + more, rest + raw


def nested(depth: int, inside: bytes = b"") -> bytes:
    return b"[" * depth + inside + b"]" * depth


BOMBS = {
    "deep": nested(100_899),
    "a level too deep": nested(MAX_DEPTH + 1),
    "broad and deep": nested(MAX_DEPTH - 1, b"0," * 200_000 + b"0"),
    "deep objects": b'{"":' * 50_000 + b"0" + b"}" * 50_000,
    "broken at the end": b"[" + b"0," * 100_000 + b"}",
    "too long": b'"' + b"x" * (2 * MOST) + b'"',
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_json_beyond_a_limit_is_shown_as_received(bomb: str) -> None:
    body = BOMBS[bomb]
    tracemalloc.start()
    try:
        shown, rest = pretty(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (shown, rest) == ("", body)
    assert peak < 32 << 20


def test_json_of_many_deep_values_grows_within_its_bound() -> None:
    body = nested(MAX_DEPTH) * 1000
    shown, rest = pretty(body)
    assert rest == nested(MAX_DEPTH) * (len(rest) // (2 * MAX_DEPTH))
    assert len(shown) <= GROWTH_ALLOWANCE + MAX_GROWTH * len(body)
    assert rest


STYLES = {
    f"json.{kind}": ("\x1b[1;3;36m", "\x1b[0m") for kind in ("key", "str", "number", "bool_true", "bool_false", "null")
}


@pytest.mark.parametrize("inside", [b"0,", b'"",', b'{"":0},'])
@pytest.mark.parametrize("depth", [1, 4, 8, 9, 12, 40])
def test_json_in_colours_grows_within_its_bound(depth: int, inside: bytes) -> None:
    body = nested(depth, inside * 50_000 + b"0")
    text = JSONText(STYLES)
    shown, rest = text.feed(body)
    more, raw = text.finish()
    assert len(shown + more) + len(rest + raw) <= GROWTH_ALLOWANCE + MAX_GROWTH * len(body)


def test_json_array_of_digits_in_colours_is_indented() -> None:
    shown, rest = JSONText(STYLES).feed(nested(2, b"0," * 50_000 + b"0"))
    assert rest == b""
    assert shown.count("\n") > 50_000


def test_json_at_the_depth_limit_is_indented() -> None:
    assert json.loads(pretty(nested(MAX_DEPTH, b"1"))[0]) == json.loads(nested(MAX_DEPTH, b"1"))


# Accepted by the grammar, and hard on a parser that makes objects of it.
HARD = {
    "digits": b"[" + b"1" * 100_000 + b"]",
    "a huge exponent": b"[1e" + b"9" * 10_000 + b"]",
    "duplicate keys": b"{" + b'"a":1,' * 50_000 + b'"a":2}',
    "not a number": b"[NaN,-Infinity]",
    "surrogates": b'["\\ud800","\\udc00\\ud800"]',
    "escapes": b'"' + b"\\u0041\\n" * 10_000 + b'"',
}


@pytest.mark.parametrize("size", [1, 7, 1 << 18])
@pytest.mark.parametrize("kind", HARD)
def test_json_hard_to_parse_is_indented_digit_by_digit(kind: str, size: int) -> None:
    shown, rest = pretty(HARD[kind], size)
    assert rest == b""
    assert "".join(shown.split()).encode() == HARD[kind]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "\xed\xa0\x80"}',
        b'"\xff"',
        b'{"a" 1}',
        b"[1 2]",
        b"[1,]",
        b"[,1]",
        b'{"a":1,}',
        b"{1:1}",
        b'{"a":1]',
        b'{"a"}',
        b'{"a":}',
        b"]",
        b":",
        b'["a":1]',
        b"[01]",
        b"[1.]",
        b"[truth]",
        b'["\\x"]',
        b'["\\u12"]',
        b'["a\nb"]',
        b'["a\x1b]0;b"]',
        b"<html></html>",
        "[1]".encode("utf-16"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 18])
def test_text_that_is_no_json_is_shown_unchanged(body: bytes, size: int) -> None:
    assert pretty(body, size) == ("", body)


def test_json_in_pieces_of_any_size_is_shown_with_the_same_values() -> None:
    chance = random.Random(9)

    def value(depth: int = 0) -> Any:
        kind = chance.randrange(6 if depth > 4 else 8)
        if kind == 6:
            return [value(depth + 1) for _ in range(chance.randrange(4))]
        if kind == 7:
            return {str(value(9)): value(depth + 1) for _ in range(chance.randrange(4))}
        text = "".join(chance.choice('ab"\\\n\u00e9\u3000\u009b\u2028\U0001f600{}[],: ') for _ in range(6))
        return [None, True, chance.random() * 1e30, -(10**25), 0, text][kind]

    for _ in range(300):
        wanted = value()
        body = json.dumps(wanted, ensure_ascii=chance.random() < 0.5).encode()
        shown, rest = pretty(body, chance.randrange(1, len(body) + 1))
        assert rest == b""
        assert json.loads(shown) == wanted
        assert shown.replace("\n", "").isprintable() or "\u3000" in shown


def test_json_text_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the characters that are matched, in pieces of one byte; a clock would be inexact."""
    looked_at = 0
    read = jsontext._Indenter.read

    def counted(self: Any, text: str, at: int) -> int:
        nonlocal looked_at
        looked_at += len(text) - at
        return read(self, text, at)

    monkeypatch.setattr(jsontext._Indenter, "read", counted)
    for body in (b'["' + b"a" * 20_000 + b'"]', b"1" * 20_000, b" " * 20_000, b'"' + b"\\u0041" * 4_000 + b'"'):
        looked_at = 0
        pretty(body, 1)
        assert looked_at <= 6 * len(body)


@pytest.mark.usefixtures("bounded")
def test_get_json_bomb_on_a_terminal_is_shown_as_received() -> None:
    body = nested(100_899)
    with Peer(saying(answer(body, "200 OK", "Content-Type: application/json"))) as peer:
        status, seen = cli.on_terminal("get", peer.url)
    assert (status, seen) == (0, body.decode() + "\n")


@pytest.mark.usefixtures("bounded")
def test_get_json_that_breaks_off_is_shown_as_far_as_it_came() -> None:
    said = answer(b'{"a": 1', "200 OK", "Content-Type: application/json").replace(b"Length: 7", b"Length: 9")
    with Peer(saying_then_closing(said)) as peer:
        status, seen = cli.on_terminal("get", peer.url)
    assert status == 1
    assert seen.startswith('{"a": 1\ngeventhttpclient: ')


DISPLAYED = {"name": "Zoë", "list": [1, 2]}
LINES = '{\n  "name": "Zoë",\n  "list": [\n    1,\n    2\n  ]\n}\n'


def unescaped(body: bytes, charset: str | None) -> str:
    """Returns the text that a terminal shows for a JSON body."""
    kind = "application/json" if charset is None else f"application/json; charset={charset}"
    with Peer(saying_then_closing(answer(body, "200 OK", f"Content-Type: {kind}"))) as peer:
        status, seen = cli.on_terminal("get", peer.url, env={"NO_COLOR": "1"})
    assert status == 0
    return seen


@pytest.mark.parametrize(
    ("encoding", "charset"),
    [
        ("utf-8", "iso-8859-1"),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-16-le", "utf-8"),
        ("utf-32-be", "utf-16"),
        ("iso-8859-1", "iso-8859-1"),
    ],
)
def test_json_is_shown_whatever_charset_it_is_in(encoding: str, charset: str | None) -> None:
    body = json.dumps(DISPLAYED, ensure_ascii=False).encode(encoding)
    assert unescaped(body, charset) == LINES


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_json_of_a_declared_charset_is_shown_in_pieces_of_any_size(size: int) -> None:
    text, shown = JSONText(charset="iso-8859-1"), ""
    body = b'{"a": 1}\n' + json.dumps(DISPLAYED, ensure_ascii=False).encode("latin-1")
    for piece in pieces_of(body, size):
        more, raw = text.feed(piece)
        assert raw == b""
        shown += more
    assert shown + text.finish()[0] == '{\n  "a": 1\n}\n' + LINES


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_json_in_pieces_of_any_size_becomes_utf_8(encoding: str, size: int) -> None:
    for text in ("", "1", "[]", '{"ü": "€𝄞"}'):
        body = text.encode(encoding)
        if body.isascii() and b"\0" not in body:
            assert list(unicode_json(pieces_of(body, 2))) in ([], [b""], list(pieces_of(body, 2)))
        assert b"".join(unicode_json(pieces_of(body, size))) == text.encode()
