"""JSON for people: indented and coloured as it comes, value by value. Numbers and strings stay as they were written."""

from __future__ import annotations

import codecs
import json
import re

# A value that is longer than this is shown as it came: nobody reads it, and it is not to be kept in memory.
MOST = 1 << 20

# A value that is longer is not looked at again for every piece of it that comes.
_SMALL = 1 << 14

_INDENT = "  "
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_SPACE = re.compile(r"\s*")


class JSONText:
    """Text is fed, and comes back indented, each value at the top as soon as it is there (a stream may have many)."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="strict")
        self._scan = json.JSONDecoder().raw_decode
        self._waiting = ""
        # How much there has to be before a value that had no end is looked at again.
        self._enough = 0
        # Whether what comes is shown as it is, because something was no JSON or too long.
        self.is_raw: bool = False

    def feed(self, data: bytes) -> tuple[str, bytes]:
        """Indented values that have come to their end, and bytes behind them that are to be shown as they are."""
        if self.is_raw:
            return "", data
        begun = self._decoder.getstate()[0]
        try:
            self._waiting += self._decoder.decode(data)
        except UnicodeDecodeError:
            self.is_raw = True
            return "", self._waiting.encode() + begun + data
        if len(self._waiting) < self._enough:
            return "", b""
        shown = self._values(False)
        if len(self._waiting) > MOST:
            self.is_raw = True
            return shown, self._waiting.encode()
        return shown, b""

    def finish(self) -> tuple[str, bytes]:
        """What is left at the end."""
        if self.is_raw:
            return "", b""
        shown = self._values(True)
        return shown, self._waiting.encode() + self._decoder.getstate()[0]

    def _values(self, is_end: bool) -> str:
        shown = []
        text, done = self._waiting, 0
        while (start := _beginning(text, done)) < len(text):
            try:
                _, end = self._scan(text, start)
            except (ValueError, RecursionError):
                break
            # A number may go on in the next piece.
            if end == len(text) and not is_end and text[start] not in '{["':
                break
            shown.append(indented(text[start:end]) + "\n")
            done = end
        self._waiting = text[_beginning(text, done) :]
        left = len(self._waiting)
        self._enough = left + left // 4 if left > _SMALL else 0
        return "".join(shown)


def _beginning(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found is not None else position


def indented(text: str) -> str:
    """One value of JSON with line ends and indentation; nothing but white space is changed."""
    out: list[str] = []
    depth = 0
    before = ""
    for token in _TOKEN.findall(text):
        if token in "}]":
            depth -= 1
            if before not in ("{", "["):
                out.append("\n" + _INDENT * depth)
        elif before in ("{", "[", ","):
            out.append("\n" + _INDENT * depth)
        out.append(": " if token == ":" else token)
        if token in ("{", "["):
            depth += 1
        before = token
    return "".join(out)
