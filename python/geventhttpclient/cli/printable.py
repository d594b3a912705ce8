"""Untrusted text, made safe for a terminal."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable

# Characters to check: all except printable ASCII.
_OTHER = re.compile(r"[^\x20-\x7e]")

# General categories of characters that control a terminal or are invisible: controls, formats, surrogates, private use,
# unassigned, separators of lines and of paragraphs.
_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Invisible characters of other categories: the rest of Unicode's Default_Ignorable_Code_Point (grapheme joiner,
# fillers, variation selectors), the Braille blank and the null notehead.
_FILLERS = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\U0001d159"
    + "".join(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)

# Invisible, and harmless on a terminal. Persian, Indic scripts and emoji need the joiners.
_HARMLESS = "\t\u200c\u200d"

# Allowed in a body too.
_LINE_ENDS = "\r\n"


def _python_escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def json_escape(character: str) -> str:
    """Returns a character as an escape in a JSON string: `\\u009b`, or a surrogate pair."""
    digits = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{digits[at : at + 4]}" for at in range(0, len(digits), 4))


def is_invisible(character: str) -> bool:
    """Returns True if the character controls a terminal or is invisible. Spaces do not count as invisible."""
    return unicodedata.category(character) in _CATEGORIES or character in _FILLERS


def without_invisible(text: str) -> str:
    """Returns the text without its invisible characters."""
    return _OTHER.sub(lambda found: "" if is_invisible(found[0]) else found[0], text)


def printable(text: str, escape: Callable[[str], str] = _python_escape, harmless: str = _HARMLESS) -> str:
    """Returns the text with escapes for characters that control a terminal or make it show misleading text.

    These are control characters (C0, DEL, C1), bidirectional overrides, separators of lines and paragraphs, invisible
    characters, fillers, lone surrogates, private use and unassigned code points. Unicode spaces are not escaped.
    """

    def shown(found: re.Match[str]) -> str:
        c = found[0]
        return escape(c) if is_invisible(c) and c not in harmless else c

    return _OTHER.sub(shown, text)


def encoded(text: str, encoding: str, escape: Callable[[str], str] = _python_escape) -> bytes:
    """Encodes the text, with escapes for characters that the encoding does not have."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return _OTHER.sub(lambda found: _encodable(found[0], encoding, escape), text).encode(encoding)


def _encodable(character: str, encoding: str, escape: Callable[[str], str]) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return escape(character)
    return character


class PrintableBody:
    """An incremental filter of a body for a terminal. It escapes like `printable`, and also bytes that are not UTF-8.

    Line ends are kept. The output is in the encoding of the terminal; characters that it does not have are escaped.
    """

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")

    def feed(self, data: bytes, is_last: bool = False) -> bytes:
        """Returns the text to show. The bytes of an incomplete character are held until the rest arrives."""
        text = self._decoder.decode(data, is_last)
        return encoded(printable(text, _byte_escape, _HARMLESS + _LINE_ENDS), self._encoding)


def _byte_escape(character: str) -> str:
    """Escapes like `_python_escape`; a surrogate that represents an undecodable byte is escaped as that byte."""
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else _python_escape(character)
