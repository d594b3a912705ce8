"""Text that a peer may have written, made safe for a terminal."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable

# What has to be looked at: everything but printable ASCII.
_OTHER = re.compile(r"[^\x20-\x7e]")

# Not printable by Python's judgement, and harmless. Without the joiners, Persian, Indic scripts and emoji fall apart.
_HARMLESS = "\t\u200c\u200d"

# Within a body, beside those.
_LINE_ENDS = "\r\n"


def _python_escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def json_escape(character: str) -> str:
    """Returns a character as JSON strings may have it: `\\u009b`, or a pair of surrogates."""
    digits = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{digits[at : at + 4]}" for at in range(0, len(digits), 4))


def printable(text: str, escape: Callable[[str], str] = _python_escape, harmless: str = _HARMLESS) -> str:
    """Returns the text with escapes for what a terminal would obey, or would show otherwise than it is read.

    That is control characters (C0, DEL, C1), bidirectional overrides, separators of lines and paragraphs, invisible
    characters, lone surrogates and unassigned code points. The blanks of Unicode stay.
    """

    def shown(found: re.Match[str]) -> str:
        c = found[0]
        return c if c.isprintable() or c in harmless or unicodedata.category(c) == "Zs" else escape(c)

    return text if text.isprintable() else _OTHER.sub(shown, text)


class PrintableBody:
    """A body for a terminal, in pieces: UTF-8 with escapes as `printable` makes them, and for bytes that are no UTF-8.

    Its line ends stay.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")

    def feed(self, data: bytes, is_last: bool = False) -> bytes:
        """Returns what there is to show of it. The beginning of a character waits for its end."""
        text = self._decoder.decode(data, is_last)
        return printable(text, _byte_escape, _HARMLESS + _LINE_ENDS).encode()


def _byte_escape(character: str) -> str:
    """As `_python_escape`, where a surrogate stands for a byte that could not be decoded."""
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else _python_escape(character)
