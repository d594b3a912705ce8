"""Character encodings: the fixed list that a peer may choose from, and incremental decoding that never fails.

A codec that a peer names is looked up in this list and nowhere else. `codecs.lookup` would keep every unknown name in
the interpreter's cache, import the module that the peer names, and find codecs that are not encodings of text (hex,
zlib) or that take quadratic time (punycode, and UTF-7 in pieces).
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Iterable, Iterator
from encodings.aliases import aliases

__all__ = ["MOST_LABEL", "declared", "decoder", "known", "texts", "usable"]

MOST_LABEL = 40
"""Characters of a charset's name that is looked up. The longest known one has 21."""

# The text encodings of Python by the names of their modules. Left out are punycode, idna, undefined, unicode_escape and
# raw_unicode_escape, which no document is in; utf_7, as in browsers; and mbcs and oem, which depend on the machine.
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

# Read in pieces, these want a byte order mark; the whole is read without one, in the order of the machine.
_NATIVE = {"utf_16": f"utf_16_{sys.byteorder[0]}e", "utf_32": f"utf_32_{sys.byteorder[0]}e"}


def known(label: str | None) -> str | None:
    """Returns the codec for a charset's name, in Python's spelling; None unless it is one of the list."""
    name = _name_of(label)
    name = _LABELS.get(name) or aliases.get(name, name)
    return name if name in _CODECS else None


def declared(label: str | None) -> str | None:
    """Returns the charset that a response declares by a name that Python has a codec for, None unless it is known.

    That is the label itself if Python knows it, else the name of its codec.
    """
    codec = known(label)
    if codec is None:
        return None
    name = _name_of(label)
    return label if aliases.get(name, name) in _CODECS else codec


def _name_of(label: str | None) -> str:
    """Returns a label as Python spells it to look for a codec; "" for one that is not looked up."""
    if label is None or len(label) > MOST_LABEL or not label.isascii():
        return ""
    return _SEPARATORS.sub("_", label.lower()).strip("_")


def usable(encoding: str) -> str:
    """Returns the codec for an encoding that the program has chosen: any text encoding that Python has, else UTF-8."""
    codec = known(encoding)
    if codec is not None:
        return codec
    try:
        b"?".decode(encoding)  # a LookupError also for what is not an encoding of text
    except LookupError:
        return "utf_8"
    except UnicodeError:
        pass
    return encoding


def decoder(encoding: str) -> codecs.IncrementalDecoder:
    """Returns a decoder for pieces of a text, which replaces what it cannot decode.

    Raises LookupError unless Python has a text encoding of that name.
    """
    codec = known(encoding) or encoding
    found = codecs.lookup(codec)
    if not getattr(found, "_is_text_encoding", True) or found.incrementaldecoder is None:
        raise LookupError(f"{encoding!r} is not an encoding of text that can be decoded in pieces")
    return _Decoder(codec, found.incrementaldecoder("replace"))


def texts(pieces: Iterable[bytes], decoder: codecs.IncrementalDecoder) -> Iterator[str]:
    """Yields the pieces decoded; none is empty."""
    for piece in pieces:
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", True):
        yield text


class _Decoder(codecs.IncrementalDecoder):
    """A codec's own decoder, which goes on where that raises UnicodeError in spite of `errors="replace"`."""

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
            # CPython's ISO-2022 decoders keep at most 8 bytes of an escape sequence that does not end.
            self._inner.reset()
            return input.decode(self._codec, "replace")
