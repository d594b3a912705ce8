"""Character encodings: the fixed list that a peer may choose from, and incremental decoding that never fails.

A codec that a peer names is looked up only in this list. `codecs.lookup` would keep every unknown name in the
interpreter's cache, import the module with that name, and find codecs that are not text encodings (hex, zlib) or that
take quadratic time (punycode, and UTF-7 in pieces).
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from encodings.aliases import aliases
from typing import Any

from geventhttpclient import exceptions

__all__ = [
    "MOST_LABEL",
    "declared",
    "decoder",
    "known",
    "parse_json",
    "parse_json_text",
    "texts",
    "unicode_json",
    "usable",
]

MOST_LABEL = 40
"""Most characters of a charset's name; longer names are unknown. The longest known name has 21."""

# Python's text encodings, by the names of their modules. Excluded are punycode, idna, undefined, unicode_escape and
# raw_unicode_escape, which documents do not use; utf_7, as in browsers; and mbcs and oem, which depend on the machine.
_NAMES = """
ascii big5 big5hkscs cp037 cp1006 cp1026 cp1125 cp1140 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257
cp1258 cp273 cp424 cp437 cp500 cp720 cp737 cp775 cp850 cp852 cp855 cp856 cp857 cp858 cp860 cp861 cp862 cp863 cp864
cp865 cp866 cp869 cp874 cp875 cp932 cp949 cp950 euc_jis_2004 euc_jisx0213 euc_jp euc_kr gb18030 gb2312 gbk hp_roman8
hz iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr iso8859_1 iso8859_10
iso8859_11 iso8859_13 iso8859_14 iso8859_15 iso8859_16 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6 iso8859_7
iso8859_8 iso8859_9 johab koi8_r koi8_t koi8_u kz1048 latin_1 mac_arabic mac_croatian mac_cyrillic mac_farsi
mac_greek mac_iceland mac_latin2 mac_roman mac_romanian mac_turkish palmos ptcp154 shift_jis shift_jis_2004
shift_jisx0213 tis_620 utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le utf_8 utf_8_sig
"""
_CODECS = frozenset(_NAMES.split())

# Labels of the WHATWG Encoding Standard that Python has no alias for.
_LABELS = {
    label: codec
    for codec, labels in {
        "big5hkscs": "cn_big5 x_x_big5",
        "cp1250": "x_cp1250",
        "cp1251": "x_cp1251",
        "cp1252": "x_cp1252",
        "cp1253": "x_cp1253",
        "cp1254": "x_cp1254",
        "cp1255": "x_cp1255",
        "cp1256": "x_cp1256",
        "cp1257": "x_cp1257",
        "cp1258": "x_cp1258",
        "cp874": "dos_874 windows_874",
        "cp932": "windows_31j x_sjis",
        "cp949": "cseuckr csksc56011987 iso_ir_149 ks_c_5601_1989 ksc_5601 windows_949",
        "euc_jp": "cseucpkdfmtjapanese x_euc_jp",
        "gbk": "csgb2312 gb_2312 gb_2312_80 x_gbk",
        "iso8859_10": "iso885910",
        "iso8859_11": "iso885911",
        "iso8859_13": "iso885913",
        "iso8859_14": "iso885914",
        "iso8859_15": "csisolatin9 iso885915",
        "iso8859_2": "iso88592",
        "iso8859_3": "iso88593",
        "iso8859_4": "iso88594",
        "iso8859_5": "iso88595",
        "iso8859_6": "csiso88596e csiso88596i iso88596 iso_8859_6_e iso_8859_6_i",
        "iso8859_7": "iso88597 sun_eu_greek",
        "iso8859_8": "csiso88598e csiso88598i iso88598 iso_8859_8_e iso_8859_8_i logical visual",
        "iso8859_9": "iso88599",
        "koi8_r": "koi koi8",
        "koi8_u": "koi8_ru",
        "latin_1": "iso88591",
        "mac_cyrillic": "x_mac_cyrillic x_mac_ukrainian",
        "mac_roman": "csmacintosh mac x_mac_roman",
        "utf_16_be": "unicodefffe",
        "utf_16_le": "csunicode iso_10646_ucs_2 ucs_2 unicode unicodefeff",
        "utf_8": "unicode11utf8 unicode20utf8 unicode_1_1_utf_8 x_unicode20utf8",
    }.items()
    for label in labels.split()
}

_SEPARATORS = re.compile(r"[^0-9a-z.]+")

# The incremental decoders of these require a byte order mark; without one, the others use the order of the machine.
_NATIVE = {"utf_16": f"utf_16_{sys.byteorder[0]}e", "utf_32": f"utf_32_{sys.byteorder[0]}e"}


def known(label: str | None) -> str | None:
    """Returns the codec for a charset's name, in Python's spelling; None if it is not in the list."""
    name = _name_of(label)
    name = _LABELS.get(name) or aliases.get(name, name)
    return name if name in _CODECS else None


def declared(label: str | None) -> str | None:
    """Returns the charset that a response declares, as a name that Python knows; None if the charset is unknown.

    The name is the label itself if Python knows it, else that of the codec.
    """
    codec = known(label)
    if codec is None:
        return None
    name = _name_of(label)
    return label if aliases.get(name, name) in _CODECS else codec


def _name_of(label: str | None) -> str:
    """Returns a label in the spelling that Python uses to look up codecs; "" if it cannot be a known one."""
    if label is None or len(label) > MOST_LABEL or not label.isascii():
        return ""
    return _SEPARATORS.sub("_", label.lower()).strip("_")


def usable(encoding: str) -> str:
    """Returns the codec for an encoding that the program has chosen: any text encoding of Python, else UTF-8."""
    codec = known(encoding)
    if codec is not None:
        return codec
    try:
        b"?".decode(encoding)  # raises LookupError also for a codec that is no text encoding
    except LookupError:
        return "utf_8"
    except UnicodeError:
        pass
    return encoding


def parse_json(content: bytes, encoding: str | None, **kw: Any) -> Any:
    """Returns the value of a JSON text, with the arguments of `json.loads`. Raises ValueError if it is invalid.

    RFC 8259 section 8.1 defines no charset parameter: the text is UTF-8, or UTF-16 or UTF-32 according to its first
    bytes. `encoding`, which the server has declared or the program has chosen, is used if that fails.
    """
    try:
        return json.loads(content, **kw)
    except json.JSONDecodeError as error:
        failure: ValueError = exceptions.JSONDecodeError(error.msg, error.doc, error.pos)
    except UnicodeDecodeError as error:
        failure = exceptions.UnicodeDecodeError(*error.args)
    if encoding is not None:
        with suppress(UnicodeDecodeError, json.JSONDecodeError):
            return json.loads(content.decode(usable(encoding)), **kw)
    raise failure


def parse_json_text(text: str | bytes) -> Any:
    """Returns the value of a JSON text, which is UTF-8 if it is bytes. Raises ValueError if it is invalid."""
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise exceptions.JSONDecodeError(error.msg, error.doc, error.pos) from None
    except RecursionError as error:
        raise exceptions.ValueError("JSON nested too deeply") from error


def unicode_json(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the pieces of a JSON text, converted to UTF-8 if its first bytes indicate UTF-16 or UTF-32, or are a byte
    order mark."""
    begun = b""
    found: codecs.IncrementalDecoder | None = None
    is_known = False
    for piece in pieces:
        if not is_known:
            begun += piece
            # A JSON text begins with an ASCII character: two such bytes mean UTF-8, and four bytes distinguish the
            # other encodings.
            if len(begun) < 4 and (len(begun) < 2 or b"\0" in begun or not begun.isascii()):
                continue
            is_known, found, piece = True, _unicode_decoder(begun), begun
        yield piece if found is None else found.decode(piece).encode()
    if not is_known:
        found = _unicode_decoder(begun)
        yield begun if found is None else found.decode(begun).encode()
    if found is not None:
        yield found.decode(b"", True).encode()


def _unicode_decoder(begun: bytes) -> codecs.IncrementalDecoder | None:
    """Returns the decoder for a JSON text with this beginning; None for plain UTF-8."""
    encoding = json.detect_encoding(begun)
    return None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("replace")


def decoder(encoding: str) -> codecs.IncrementalDecoder:
    """Returns an incremental decoder, which replaces invalid bytes.

    Raises LookupError if Python has no text encoding of that name.
    """
    codec = known(encoding) or encoding
    found = codecs.lookup(codec)
    if not getattr(found, "_is_text_encoding", True) or found.incrementaldecoder is None:
        raise LookupError(f"{encoding!r} is not an encoding of text that can be decoded in pieces")
    return _Decoder(codec, found.incrementaldecoder("replace"))


def texts(pieces: Iterable[bytes], decoder: codecs.IncrementalDecoder) -> Iterator[str]:
    """Yields the decoded pieces that are not empty."""
    for piece in pieces:
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", True):
        yield text


class _Decoder(codecs.IncrementalDecoder):
    """A codec's decoder that continues if the codec raises UnicodeError in spite of `errors="replace"`."""

    def __init__(self, codec: str, inner: codecs.IncrementalDecoder) -> None:
        super().__init__("replace")
        self._codec = codec
        self._inner = inner

    def decode(self, input: bytes, final: bool = False) -> str:  # type: ignore[override]
        try:
            return self._inner.decode(input, final)
        except UnicodeError:
            native = _NATIVE.get(self._codec)
            if native is not None:  # no byte order mark
                held = self._inner.getstate()[0]
                self._inner = codecs.lookup(native).incrementaldecoder("replace")
                return self._inner.decode(held + input, final)
            if known(self._codec) is None:
                raise
            # CPython's ISO-2022 decoders keep at most 8 bytes of an unterminated escape sequence.
            self._inner.reset()
            return input.decode(self._codec, "replace")
