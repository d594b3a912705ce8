"""Counts the steps of an algorithm, for tests of its growth. A clock would measure the machine rather than the code.

A step is a call, of a function in Python or in C, or a character (a byte) that one of these looks at or copies:
`FieldReader.run`, and the methods of `Text` and `Octets`, which a test passes instead of data of a peer. Code that
reads a text in another way (a regular expression, say) is not counted: then there are fewer steps than characters,
which a test can detect as well.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

from geventhttpclient._internal.field_reader import FieldReader

_CLASS = re.compile(r"\[(?:[^\]\\]|\\.)+\]\*")

_steps = 0


def _count(steps: int) -> None:
    global _steps
    _steps += steps


class Text(str):
    """A str that counts the characters that are read."""

    def __getitem__(self, place: Any) -> Text:
        found = Text(super().__getitem__(place))
        _count(len(found))
        return found

    def __add__(self, other: str) -> Text:
        _count(len(self) + len(other))
        return Text(super().__add__(other))

    def __radd__(self, other: str) -> Text:
        _count(len(self) + len(other))
        return Text(other + str(self))

    def startswith(self, *args: Any) -> bool:
        _count(len(args[0]))
        return super().startswith(*args)


class Octets(bytes):
    """Bytes that count the octets that are copied."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        if isinstance(found, int):
            return found
        _count(len(found))
        return Octets(found)

    def __add__(self, other: Any) -> Octets:
        _count(len(self) + len(other))
        return Octets(bytes(self) + other)

    def __radd__(self, other: Any) -> Octets:
        _count(len(self) + len(other))
        return Octets(other + bytes(self))


def _over_all(name: str) -> Callable[..., Any]:
    plain = getattr(str, name)

    def method(self: Text, *args: Any) -> Any:
        _count(len(self))
        found = plain(self, *args)
        if isinstance(found, str):
            return Text(found)
        return type(found)(map(Text, found)) if isinstance(found, (tuple, list)) else found

    return method


_METHODS = "lower strip lstrip rstrip partition rpartition split rsplit replace find rfind index count"
for _name in _METHODS.split():
    setattr(Text, _name, _over_all(_name))


def steps_of(call: Callable[[], object]) -> int:
    """Returns the number of steps that the call takes."""
    global _steps
    run = FieldReader.run

    def counted(reader: FieldReader, characters: Any) -> str:
        # One class of characters, repeated, matches in one way only, and in as many steps as it takes characters.
        assert _CLASS.fullmatch(characters.pattern) or characters.pattern == "(?s:.?)", characters.pattern
        found = run(reader, characters)
        _count(len(found))
        return found

    def profile(_frame: Any, event: str, _arg: Any) -> None:
        if event in ("call", "c_call"):
            _count(1)

    _steps = 0
    before = sys.getprofile()
    with mock.patch.object(FieldReader, "run", counted):
        sys.setprofile(profile)
        try:
            call()
        finally:
            sys.setprofile(before)
    return _steps


def check_growth(call: Callable[[int], Callable[[], object]], sizes: list[int], least: float, most: float) -> None:
    """Checks that `call(size)`, once made, takes from `least` to `most` steps for each of its `size`."""
    for size in sizes:
        steps = steps_of(call(size))
        assert least * size <= steps <= most * size + 1000, f"{steps} steps for {size}"
