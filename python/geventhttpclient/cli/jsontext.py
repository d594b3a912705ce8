"""JSON for people: indented and coloured value by value. Numbers and strings stay as they were written.

The text is read once, token by token, and only text is made of it: no Python object, no recursion. What is beyond a
limit or no JSON is shown as it came, from the beginning of the value that it is in.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Mapping
from contextlib import suppress

from geventhttpclient.cli.printable import json_escape, printable

# Characters of one value, with the blanks before it, that are held until it is complete.
MOST = 1 << 20

# Arrays and objects within one another.
MAX_DEPTH = 100

# Characters that are shown for each that came, with the codes of colours, once the first GROWTH_ALLOWANCE are used up.
# Indentation grows with the depth: without a bound, half a megabyte of brackets is gigabytes of blanks. An array of
# digits fits in colours, too: 11 characters of codes, a line end and the indentation for each digit with its comma.
MAX_GROWTH = 16
GROWTH_ALLOWANCE = 1 << 16

_INDENT = "  "

_BLANKS = re.compile(r"[ \t\n\r]+")
_WORD = re.compile(r'[^ \t\n\r{}\[\],:"]+')
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null|NaN|-?Infinity")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})')
_ESCAPE_BEGUN = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?")

# What may come next, between tokens.
_VALUE, _VALUE_OR_END, _KEY, _KEY_OR_END, _COLON, _COMMA_OR_END = range(6)

Styles = Mapping[str, tuple[str, str]]
"""What to write before and after a token, by the names of rich: `json.key`, `json.str`, `json.number`, ..."""

_STYLES = {"true": "json.bool_true", "false": "json.bool_false", "null": "json.null"}
_PLAIN_STYLE = ("", "")


class _NotShown(Exception):
    """The text is no JSON, or beyond a limit."""


class JSONText:
    """Text is fed, and comes back indented, each value at the top as soon as it is there (a stream may have many)."""

    def __init__(self, styles: Styles | None = None) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="strict")
        self._indenter = _Indenter(styles or {})
        # What has come since the last value that was shown.
        self._held: list[str] = []
        self._held_size = 0
        # The end of it, where an escape has begun.
        self._rest = ""
        # Whether what comes is shown as it is, because something was no JSON or beyond a limit.
        self.is_raw: bool = False

    def feed(self, data: bytes) -> tuple[str, bytes]:
        """Indented values that have come to their end, and bytes behind them that are to be shown as they are."""
        if self.is_raw:
            return "", data
        begun = self._decoder.getstate()[0]
        try:
            new = self._decoder.decode(data)
        except UnicodeDecodeError:
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
        """What is left at the end."""
        if self.is_raw:
            return "", b""
        with suppress(_NotShown):
            self._indenter.finish()
        begun = self._decoder.getstate()[0]
        if self._indenter.is_done:
            return self._indenter.take(), begun
        # Blanks behind the last value are no value.
        return "", self._give_up(begun) if self._indenter.has_begun else begun

    def _give_up(self, rest: bytes) -> bytes:
        """Returns what is held, and the rest, as it came. From now on everything is shown like this."""
        self.is_raw = True
        held, self._held = "".join(self._held), []
        return held.encode() + rest


class _Indenter:
    """Reads one value after another, in pieces cut anywhere, and writes it with line ends and indentation."""

    def __init__(self, styles: Styles) -> None:
        self._styles = styles
        # Characters that may be shown before more have come.
        self._room = GROWTH_ALLOWANCE
        self._begin()

    def _begin(self) -> None:
        self._out = io.StringIO()
        # What closes the arrays and objects that are open.
        self._open: list[str] = []
        self._expected = _VALUE
        # The style of the string that is being read, and the pieces of the number or name that is.
        self._string: str | None = None
        self._word: list[str] = []
        self.has_begun = False
        self.is_done = False

    def take(self) -> str:
        """Returns the value that has come to its end, with a line end; the next one may be read then."""
        shown = self._out.getvalue()
        self._begin()
        return shown + "\n"

    def read(self, text: str, at: int) -> int:
        """Reads on from there, to the end of the value or of the text. Returns the position behind what was read, which
        is before the end of the text where a string's escape is cut. _NotShown for what is no JSON, or too much."""
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
        """Ends a number or a name that nothing else has ended."""
        if self._word:
            self._end_word()

    def _write(self, text: str) -> None:
        self._room -= len(text)
        self._out.write(text)

    def _read_string(self, text: str, at: int) -> int:
        """Reads on in a string. Returns where it was given for the beginning of an escape."""
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
        """Keys and the members of arrays have a line each; the value of a key is on the key's."""
        if is_key or self._open[-1:] == ["]"]:
            self._write("\n" + _INDENT * len(self._open))

    def _end_value(self) -> None:
        self._expected = _COMMA_OR_END
        self.is_done = not self._open


def indented(text: str) -> str:
    """Returns one value with line ends and indentation; the text as it is if it cannot be shown so."""
    reader = JSONText()
    shown, rest = reader.feed(text.encode())
    last, more = reader.finish()
    return (shown + last).removesuffix("\n") + (rest + more).decode()
