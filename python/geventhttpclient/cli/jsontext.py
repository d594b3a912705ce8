"""JSON for people: indented and coloured value by value. Numbers and strings keep their spelling.

The text is read once, token by token, without Python objects and without recursion. Invalid JSON, and JSON beyond a
limit, is shown unchanged from the beginning of the value that contains it.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Mapping
from contextlib import suppress

from geventhttpclient._internal import charsets
from geventhttpclient.cli.printable import json_escape, printable

# Maximum characters of one incomplete value, with the white space before it, that are held.
MOST = 1 << 20

# Maximum depth of nested arrays and objects.
MAX_DEPTH = 100

# Maximum characters of output, colour codes included, for each character of input after the first GROWTH_ALLOWANCE.
# Indentation grows with the depth: without a limit, half a megabyte of brackets becomes gigabytes of blanks. A coloured
# array of digits is within it: 11 characters of codes, a line end and the indentation for each digit and its comma.
MAX_GROWTH = 16
GROWTH_ALLOWANCE = 1 << 16

_INDENT = "  "

_BLANKS = re.compile(r"[ \t\n\r]+")
_WORD = re.compile(r'[^ \t\n\r{}\[\],:"]+')
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null|NaN|-?Infinity")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})')
_ESCAPE_BEGUN = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?")

# The tokens that may come next.
_VALUE, _VALUE_OR_END, _KEY, _KEY_OR_END, _COLON, _COMMA_OR_END = range(6)

Styles = Mapping[str, tuple[str, str]]
"""Codes to write before and after a token, by the names that rich has for it: `json.key`, `json.str`, ..."""

_STYLES = {"true": "json.bool_true", "false": "json.bool_false", "null": "json.null"}
_PLAIN_STYLE = ("", "")


class _NotShown(Exception):
    """The text is not JSON, or beyond a limit."""


class JSONText:
    """An incremental formatter: takes bytes, and returns each top-level value indented once it is complete."""

    def __init__(self, styles: Styles | None = None, charset: str | None = None) -> None:
        """`charset` is the one that the server declares; it is used for a value that is not UTF-8."""
        self._decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder("utf-8")(errors="strict")
        self._charset = charsets.known(charset)
        self._styles = styles or {}
        self._indenter = _Indenter(self._styles)
        # The input since the last value that was shown.
        self._held: list[str] = []
        self._held_size = 0
        # The beginning of an escape at the end of that input.
        self._rest = ""
        # Whether further input is shown unchanged, because some of it was not JSON or beyond a limit.
        self.is_raw: bool = False

    def feed(self, data: bytes) -> tuple[str, bytes]:
        """Returns the values that are complete, indented, and bytes after them to be shown unchanged."""
        if self.is_raw:
            return "", data
        begun = self._decoder.getstate()[0]
        try:
            new = self._decoder.decode(data)
        except UnicodeDecodeError:
            if self._charset is not None:
                return self._begin_again(begun + data)
            return "", self._give_up(begun + data)
        text = self._rest + new
        shown: list[str] = []
        behind = at = 0
        is_good = True
        try:
            at = self._indenter.read(text, 0)
            while self._indenter.is_done:
                shown.append(self._indenter.take())
                behind = at
                at = self._indenter.read(text, at)
        except _NotShown:
            is_good = False
        if shown:
            self._held, self._held_size = [text[behind:]], len(text) - behind
        else:
            self._held.append(new)
            self._held_size += len(new)
        self._rest = text[at:]
        if is_good and self._held_size <= MOST:
            return "".join(shown), b""
        return "".join(shown), self._give_up(self._decoder.getstate()[0])

    def finish(self) -> tuple[str, bytes]:
        """Returns the rest at the end of the input: a value, and bytes to be shown unchanged."""
        if self.is_raw:
            return "", b""
        with suppress(_NotShown):
            self._indenter.finish()
        begun = self._decoder.getstate()[0]
        if self._indenter.is_done:
            return self._indenter.take(), begun
        # White space after the last value is not a value.
        return "", self._give_up(begun) if self._indenter.has_begun else begun

    def _begin_again(self, rest: bytes) -> tuple[str, bytes]:
        """Reads the held input and the rest again, in the declared charset."""
        assert self._charset is not None
        self._decoder, self._charset = charsets.decoder(self._charset), None
        held, self._held, self._held_size, self._rest = "".join(self._held), [], 0, ""
        self._indenter = _Indenter(self._styles)
        return self.feed(held.encode() + rest)

    def _give_up(self, rest: bytes) -> bytes:
        """Returns the held input and the rest unchanged. Further input is returned unchanged too."""
        self.is_raw = True
        held, self._held = "".join(self._held), []
        return held.encode() + rest


class _Indenter:
    """A reader of one value after another, from pieces cut anywhere, that writes them indented."""

    def __init__(self, styles: Styles) -> None:
        self._styles = styles
        # Characters of output that the input so far allows.
        self._room = GROWTH_ALLOWANCE
        self._begin()

    def _begin(self) -> None:
        self._out = io.StringIO()
        # The closing brackets of the open arrays and objects.
        self._open: list[str] = []
        self._expected = _VALUE
        # The style of the string being read, or the pieces of the number or name being read.
        self._string: str | None = None
        self._word: list[str] = []
        self.has_begun = False
        self.is_done = False

    def take(self) -> str:
        """Returns the complete value with a line end. The next one can be read then."""
        shown = self._out.getvalue()
        self._begin()
        return shown + "\n"

    def read(self, text: str, at: int) -> int:
        """Reads on from `at` to the end of the value or of the text. Returns the position after the last
        character read.

        It is before the end of the text if an escape in a string is cut. Raises _NotShown for invalid JSON, and for
        too much output.
        """
        while at < len(text) and not self.is_done:
            start = at
            if self._string is not None:
                at = self._read_string(text, at)
                if at == start:
                    break
            elif (found := _WORD.match(text, at)) is not None:
                self._word.append(found[0])
                self.has_begun = True
                at = found.end()
            elif self._word:
                self._end_word()
            elif (found := _BLANKS.match(text, at)) is not None:
                at = found.end()
            else:
                self.has_begun = True
                self._take_sign(text[at])
                at += 1
            self._room = min(self._room + MAX_GROWTH * (at - start), GROWTH_ALLOWANCE + MAX_GROWTH * MOST)
            if self._room < 0:
                raise _NotShown
        return at

    def finish(self) -> None:
        """Ends a number or a name at the end of the input."""
        if self._word:
            self._end_word()

    def _write(self, text: str) -> None:
        self._room -= len(text)
        self._out.write(text)

    def _read_string(self, text: str, at: int) -> int:
        """Reads on in a string and returns the new position; it is `at` if an escape is incomplete."""
        assert self._string is not None
        found = _PLAIN.match(text, at)
        end = found.end() if found is not None else at
        if end > at:
            self._write(printable(text[at:end], json_escape))
            return end
        if text[at] == '"':
            self._write('"')
            self._write(self._styles.get(self._string, _PLAIN_STYLE)[1])
            is_key, self._string = self._expected == _COLON, None
            if not is_key:
                self._end_value()
            return at + 1
        if (found := _ESCAPE.match(text, at)) is not None:
            self._write(found[0])
            return found.end()
        if (found := _ESCAPE_BEGUN.match(text, at)) is not None and found.end() == len(text):
            return at
        raise _NotShown

    def _end_word(self) -> None:
        word, self._word = "".join(self._word), []
        if self._expected not in (_VALUE, _VALUE_OR_END) or not _SCALAR.fullmatch(word):
            raise _NotShown
        self._begin_line()
        before, after = self._styles.get(_STYLES.get(word, "json.number"), _PLAIN_STYLE)
        self._write(before)
        self._write(word)
        self._write(after)
        self._end_value()

    def _take_sign(self, sign: str) -> None:
        expected = self._expected
        if sign == '"':
            if expected in (_KEY, _KEY_OR_END):
                self._expected, self._string = _COLON, "json.key"
            elif expected in (_VALUE, _VALUE_OR_END):
                self._string = "json.str"
            else:
                raise _NotShown
            self._begin_line(is_key=self._string == "json.key")
            self._write(self._styles.get(self._string, _PLAIN_STYLE)[0])
            self._write(sign)
        elif sign in "{[":
            if expected not in (_VALUE, _VALUE_OR_END) or len(self._open) == MAX_DEPTH:
                raise _NotShown
            self._begin_line()
            self._write(sign)
            self._open.append("}" if sign == "{" else "]")
            self._expected = _KEY_OR_END if sign == "{" else _VALUE_OR_END
        elif sign in "}]":
            if self._open[-1:] != [sign] or expected not in (_VALUE_OR_END, _KEY_OR_END, _COMMA_OR_END):
                raise _NotShown
            self._open.pop()
            if expected == _COMMA_OR_END:
                self._write("\n" + _INDENT * len(self._open))
            self._write(sign)
            self._end_value()
        elif sign == "," and expected == _COMMA_OR_END:
            self._write(sign)
            self._expected = _KEY if self._open[-1] == "}" else _VALUE
        elif sign == ":" and expected == _COLON:
            self._write(": ")
            self._expected = _VALUE
        else:
            raise _NotShown

    def _begin_line(self, is_key: bool = False) -> None:
        """Begins a new line for a key or a member of an array; the value of a key stays on the key's line."""
        if is_key or self._open[-1:] == ["]"]:
            self._write("\n" + _INDENT * len(self._open))

    def _end_value(self) -> None:
        self._expected = _COMMA_OR_END
        self.is_done = not self._open


def indented(text: str) -> str:
    """Returns one value with line ends and indentation, or the text unchanged if it cannot be indented."""
    reader = JSONText()
    shown, rest = reader.feed(text.encode())
    last, more = reader.finish()
    return (shown + last).removesuffix("\n") + (rest + more).decode()
