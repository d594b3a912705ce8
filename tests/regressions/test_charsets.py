"""Charsets that a peer names: a fixed list, looked up before any codec."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from geventhttpclient import Session, UserAgent, httpx
from geventhttpclient._internal import charsets
from geventhttpclient.mock import MockResponse, MockTransport

# Codecs that are not encodings of text, raise whatever comes, take quadratic time, or do not exist.
WORDS = """
punycode idna undefined unicode_escape raw_unicode_escape utf-7 mbcs oem base64_codec base64 hex rot13 rot_13 zlib bz2
uu quopri nonsense aliases encodings os.path .. x-user-defined replacement é utf\u00e98 '' ;
"""
REFUSED = [*WORDS.split(), "u" * 100_000, "utf-8" + "-" * charsets.MOST_LABEL, "\u212aoi8-r"]

BODY = "grün \\x41 +AGE- xn--bcher-kva".encode() + b"\xff"
TEXT = BODY.decode("utf-8", "replace")


def transport(charset: str, body: bytes = BODY, piece: int | None = None) -> MockTransport:
    kind = f"text/plain; charset={charset}".encode().decode("latin-1")
    pieces = [body] if piece is None else [body[at : at + piece] for at in range(0, len(body), piece)]
    return MockTransport(lambda request: MockResponse(200, {"Content-Type": kind}, iter(pieces)))


def session_response(*args: Any) -> Any:
    return Session(transport=transport(*args)).get("http://peer.test/")


def agent_response(*args: Any) -> Any:
    return UserAgent(transport=transport(*args)).urlopen("http://peer.test/")


def httpx_response(*args: Any) -> Any:
    client = httpx.Client(transport=transport(*args))
    return client.send(client.build_request("GET", "http://peer.test/"), stream=True)


WAYS: dict[str, Callable[..., str]] = {
    "agent text": lambda *args: agent_response(*args).text,
    "session text": lambda *args: session_response(*args).text,
    "session iter_content": lambda *args: "".join(session_response(*args).iter_content(3, decode_unicode=True)),
    "session iter_lines": lambda *args: "".join(session_response(*args).iter_lines(decode_unicode=True)),
    "httpx text": lambda *args: httpx_response(*args).text,
    "httpx iter_text": lambda *args: "".join(httpx_response(*args).iter_text()),
    "httpx iter_lines": lambda *args: "".join(httpx_response(*args).iter_lines()),
    "httpx iter_content": lambda *args: "".join(httpx_response(*args).iter_content(3, decode_unicode=True)),
}


@pytest.fixture
def looked_up() -> Iterator[list[str]]:
    """Yields the list of names for which the interpreter looks for a codec, unless its cache has them."""
    names: list[str] = []

    def search(name: str) -> None:
        names.append(name)

    # Asked last: for what the standard library does not have, and what would so have been kept in the cache.
    codecs.register(search)
    yield names
    codecs.unregister(search)


@pytest.mark.parametrize("way", WAYS)
def test_text_of_a_charset_that_is_not_known_is_read_as_utf_8(way: str, looked_up: list[str]) -> None:
    for charset in REFUSED:
        assert WAYS[way](charset) == TEXT, charset[:50]
    assert looked_up == []


@pytest.mark.parametrize("way", WAYS)
def test_text_of_a_known_charset_is_decoded_by_it(way: str) -> None:
    for charset, codec in (
        ("ISO-8859-1", "latin_1"),
        ("Latin1", "latin_1"),
        ('"windows-1252"', "cp1252"),
        ("UTF8", "utf_8"),
        ("utf  8", "utf_8"),
        ("ANSI_X3.4-1968", "ascii"),
        ("ISO_646.irv_1991", "ascii"),
        ("utf-16le", "utf_16_le"),
        ("gb18030", "gb18030"),
        ("x-sjis", "cp932"),
        ("x-mac-cyrillic", "mac_cyrillic"),
        ("csisolatin9", "iso8859_15"),
    ):
        assert WAYS[way](charset) == BODY.decode(codec, "replace"), charset


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("piece", [1, 3, 7, 4096])
def test_decoding_in_pieces_never_raises(way: str, piece: int) -> None:
    # UTF-16 and UTF-32 without a byte order mark, and ISO-2022 escape sequences without an end.
    assert WAYS[way]("utf-16", "grün".encode("utf-16-le"), piece) == "grün"
    assert WAYS[way]("utf-16", "grün".encode("utf-16"), piece) == "grün"
    assert WAYS[way]("utf-32", "grün".encode("utf-32-le"), piece) == "grün"
    for codec in ("iso2022_jp", "iso2022_jp_ext", "iso2022_kr", "hz"):
        for unit in (b"\x1b$", b"\x1b(", b"\x1b", b"~{", b"\x0e\xff"):
            assert WAYS[way](codec, unit * 3000, piece) is not None


def test_known_charsets_are_encodings_of_text_of_python() -> None:
    for codec in charsets._CODECS:
        found = codecs.lookup(codec)
        assert found._is_text_encoding
        assert found.incrementaldecoder is not None
        assert charsets.known(codec) in charsets._CODECS
    for label, codec in charsets._LABELS.items():
        assert charsets.known(label) == codec
        assert len(label) <= charsets.MOST_LABEL


@pytest.mark.parametrize("codec", sorted(charsets._CODECS))
def test_known_codecs_decode_anything_in_pieces(codec: str) -> None:
    octets = bytes(range(256)) * 4 + b"\x1b$\x1b(~{\x0e" * 64
    for size in (1, 3, 64):
        decoder = charsets.decoder(codec)
        pieces = (octets[at : at + size] for at in range(0, len(octets), size))
        assert "".join(charsets.texts(pieces, decoder))
    assert octets.decode(codec, "replace")


@pytest.mark.parametrize("size", [1, 16])
def test_decoders_hold_only_a_few_bytes_back(size: int) -> None:
    # A decoder decodes the bytes that it holds again with the next piece: UTF-7 held all since the last "+".
    for codec in sorted(charsets._CODECS):
        for unit in (b"A", b"+AAA", b"\x80", b"\x81", b"\xd8\x00", b"\x1b$", b"~{", b"\\N{", b"\xf0", b"\x8f\xa2"):
            decoder: Any = charsets.decoder(codec)
            octets = (unit * 400)[:400]
            for at in range(0, len(octets), size):
                decoder.decode(octets[at : at + size])
                assert len(decoder._inner.getstate()[0]) <= 8, (codec, unit)


def test_encoding_of_a_session_response_is_a_known_charset_or_none() -> None:
    assert session_response("Latin1").encoding == "latin1"
    for charset in REFUSED:
        assert session_response(charset).encoding is None


def test_encoding_of_an_httpx_response_is_a_known_charset_or_the_default() -> None:
    assert httpx_response("Latin1").encoding == "latin1"
    for charset in REFUSED:
        assert httpx_response(charset).encoding == "utf-8"


def test_encoding_that_the_program_assigns_may_be_any_text_encoding_of_python() -> None:
    for encoding, text in (("utf-7", "a"), ("unicode_escape", "+AGE-"), ("latin-1", "+AGE-")):
        response = session_response("utf-8", b"+AGE-")
        response.encoding = encoding
        assert (response.encoding, response.text) == (encoding, text)
        response = session_response("utf-8", b"+AGE-", 1)
        response.encoding = encoding
        assert "".join(response.iter_content(None, decode_unicode=True)) == text
        response = httpx_response("utf-8", b"+AGE-", 1)
        response.encoding = encoding
        assert "".join(response.iter_text()) == text
        assert "".join(httpx_response("utf-8", b"+AGE-").iter_text(encoding=encoding)) == text


@pytest.mark.parametrize("encoding", ["nonsense", "hex", "rot13", "zlib", "base64_codec"])
def test_encoding_that_is_assigned_and_is_not_one_of_text(encoding: str) -> None:
    response = session_response("latin-1")
    response.encoding = encoding
    assert response.text == TEXT
    response = session_response("latin-1")
    response.encoding = encoding
    assert "".join(response.iter_content(None, decode_unicode=True)) == TEXT
    response = httpx_response("latin-1")
    response.encoding = encoding
    with pytest.raises(LookupError):
        response.text  # noqa: B018
    with pytest.raises(LookupError):
        httpx_response("latin-1").iter_text(encoding=encoding)


def test_encoding_of_a_response_is_a_name_that_python_knows() -> None:
    labels = [*charsets._LABELS, *charsets._CODECS, "windows-31j", "x-sjis", "logical", "unicode-1-1-utf-8"]
    for label in [*labels, *(label.replace("_", "-") for label in labels)]:
        for response in (session_response(label, b"a"), httpx_response(label, b"a")):
            found = codecs.lookup(response.encoding)
            assert found.name == codecs.lookup(charsets.known(label) or "").name, label


@pytest.mark.parametrize("label", ["utf-8", "iso-8859-1", "latin1", "windows-1252", "shift_jis", "gb2312", "us-ascii"])
def test_encoding_of_a_response_that_python_knows_stays_as_it_is_declared(label: str) -> None:
    assert session_response(label).encoding == label
    assert httpx_response(label).encoding == label


def test_encoding_is_declared_without_looking_for_a_codec(looked_up: list[str]) -> None:
    assert charsets.declared("x-sjis") == "cp932"
    assert charsets.declared("ISO-8859-1") == "ISO-8859-1"
    assert charsets.declared("utf~8") == "utf~8"
    assert charsets.declared("nonsense") is charsets.declared(None) is None
    assert looked_up == []


# ----------------------------------------------------------------------------------------------------------------- JSON

VALUE = {"name": "Zoë", "price": "5 €"}
JSON = json.dumps(VALUE, ensure_ascii=False)


def json_transport(charset: str | None, body: bytes) -> MockTransport:
    kind = "application/json" if charset is None else f"application/json; charset={charset}"
    return MockTransport(lambda request: MockResponse(200, {"Content-Type": kind}, body))


def httpx_json(transport: MockTransport) -> Any:
    with httpx.Client(transport=transport) as client:
        return client.get("http://peer.test/").json()


JSON_WAYS: dict[str, Callable[[MockTransport], Any]] = {
    "agent": lambda transport: UserAgent(transport=transport).urlopen("http://peer.test/").json(),
    "session": lambda transport: Session(transport=transport).get("http://peer.test/").json(),
    "httpx": httpx_json,
}


@pytest.mark.parametrize("way", JSON_WAYS)
@pytest.mark.parametrize("charset", [None, "iso-8859-1", "utf-8", "utf-16", "nonsense", "punycode"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_json_is_decoded_by_its_own_rules_whatever_the_charset(way: str, charset: str | None, encoding: str) -> None:
    assert JSON_WAYS[way](json_transport(charset, JSON.encode(encoding))) == VALUE


@pytest.mark.parametrize("way", JSON_WAYS)
@pytest.mark.parametrize("charset", ["windows-1252", "iso-8859-15", "iso-2022-jp"])
def test_json_that_is_not_unicode_is_decoded_by_the_declared_charset(way: str, charset: str) -> None:
    value = {"name": "日本"} if charset == "iso-2022-jp" else VALUE
    body = json.dumps(value, ensure_ascii=False).encode(charsets.known(charset) or charset)
    assert JSON_WAYS[way](json_transport(charset, body)) == value


@pytest.mark.parametrize("way", JSON_WAYS)
@pytest.mark.parametrize("charset", [None, "utf-8", "ascii", "nonsense", "punycode", "iso-2022-jp"])
@pytest.mark.parametrize("body", [b'{"a": "\xff"}', b"", b"{", b"not JSON", b"\xff\xfe{", b"\x00\x00\x00"])
def test_invalid_json_raises_value_error(way: str, charset: str | None, body: bytes, looked_up: list[str]) -> None:
    with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
        JSON_WAYS[way](json_transport(charset, body))
    assert looked_up == []


def test_json_that_is_not_unicode_is_decoded_by_the_encoding_of_the_program() -> None:
    response = Session(transport=json_transport(None, JSON.encode("cp1252"))).get("http://peer.test/")
    response.encoding = "cp1252"
    assert response.json() == VALUE
    assert response.json(parse_float=str, object_pairs_hook=list) == list(VALUE.items())
