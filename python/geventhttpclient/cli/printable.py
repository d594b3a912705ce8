"""Text that a peer may have written, made safe for a terminal."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable

# What has to be looked at: everything but printable ASCII.
_OTHER = re.compile(r"[^\x20-\x7e]")

# General categories of characters that are obeyed or not seen: controls, formats, surrogates, private use, unassigned,
# separators of lines and of paragraphs.
_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Characters of other categories that show nothing: the rest of Unicode's Default_Ignorable_Code_Point (joiner of
# graphemes, fillers, variation selectors), the blank of Braille and the null note.
_FILLERS = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\U0001d159"
    + "".join(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)

# Invisible and harmless on a terminal. Without the joiners, Persian, Indic scripts and emoji fall apart.
_HARMLESS = "\t\u200c\u200d"

# Within a body, beside those.
_LINE_ENDS = "\r\n"


def _python_escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def json_escape(character: str) -> str:
    """Returns a character as JSON strings may have it: `\\u009b`, or a pair of surrogates."""
    digits = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{digits[at : at + 4]}" for at in range(0, len(digits), 4))


def is_invisible(character: str) -> bool:
    """Returns whether a terminal would obey the character, or show nothing for it. Blanks are not invisible."""
    return unicodedata.category(character) in _CATEGORIES or character in _FILLERS


def without_invisible(text: str) -> str:
    """Returns the text without its invisible characters."""
    return _OTHER.sub(lambda found: "" if is_invisible(found[0]) else found[0], text)


def printable(text: str, escape: Callable[[str], str] = _python_escape, harmless: str = _HARMLESS) -> str:
    """Returns the text with escapes for what a terminal would obey, or would show otherwise than it is read.

    That is control characters (C0, DEL, C1), bidirectional overrides, separators of lines and paragraphs, invisible
    characters, fillers, lone surrogates, code points of private use and unassigned ones. The blanks of Unicode stay.
    """

    def shown(found: re.Match[str]) -> str:
        c = found[0]
        return escape(c) if is_invisible(c) and c not in harmless else c

    return _OTHER.sub(shown, text)


def encoded(text: str, encoding: str, escape: Callable[[str], str] = _python_escape) -> bytes:
    """Returns the text in that encoding, with escapes for characters that it does not have."""
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
    """A body for a terminal, in pieces: UTF-8 with escapes as `printable` makes them, and for bytes that are no UTF-8.

    Its line ends stay. It is shown in the encoding of the terminal, with escapes for what that does not have.
    """

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")

    def feed(self, data: bytes, is_last: bool = False) -> bytes:
        """Returns what there is to show of it. The beginning of a character waits for its end."""
        text = self._decoder.decode(data, is_last)
        return encoded(printable(text, _byte_escape, _HARMLESS + _LINE_ENDS), self._encoding)


def _byte_escape(character: str) -> str:
    """As `_python_escape`, where a surrogate stands for a byte that could not be decoded."""
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else _python_escape(character)
