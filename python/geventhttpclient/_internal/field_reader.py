"""Reading a field value from left to right: tokens and quoted strings (RFC 9110 section 5.6).

Field values come from a peer, and must be parsed in linear time. A regular expression that can match in more than one
way does not guarantee that. A `FieldReader` only moves forward: each step takes the characters that it has examined,
except for at most one.
"""

from __future__ import annotations

import re

__all__ = ["BLANKS", "TOKEN", "FieldReader"]

# Patterns for `FieldReader.run`: one class of characters, repeated.
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")
BLANKS = re.compile(r"[ \t]*")
_UNESCAPED = re.compile(r'[^"\\]*')
_ANY = re.compile(r"(?s:.?)")


class FieldReader:
    """A field value with a reading position."""

    __slots__ = ("_text", "at", "is_cut")

    def __init__(self, text: str) -> None:
        self._text = text
        self.at: int = 0
        self.is_cut: bool = False
        """Whether a quoted string was unterminated."""

    def run(self, characters: re.Pattern[str]) -> str:
        """Takes the characters of a class, which is a pattern like `[a-z]*`; "" if there are none."""
        found = characters.match(self._text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def next_is(self, character: str) -> bool:
        """Returns True if that is the next character."""
        return self._text.startswith(character, self.at)

    def take(self, character: str) -> bool:
        """Takes that character if it is the next one. Returns True if it was."""
        if not self.next_is(character):
            return False
        self.at += 1
        return True

    def quoted(self) -> str | None:
        """Takes a quoted string, and returns it without quotes and escapes; returns None if none begins here.

        An unterminated string extends to the end of the value: see `is_cut`.
        """
        if not self.take('"'):
            return None
        pieces = [self.run(_UNESCAPED)]
        while self.take("\\"):
            pieces.append(self.run(_ANY))
            pieces.append(self.run(_UNESCAPED))
        if not self.take('"'):
            self.is_cut = True
        return "".join(pieces)

    @property
    def at_end(self) -> bool:
        """True if the whole value has been read."""
        return self.at >= len(self._text)
