"""Header fields of requests and responses: case-insensitive names, repeated field lines (RFC 9110 section 5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from geventhttpclient._internal.field_reader import BLANKS, FieldReader

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Headers", "HeadersDataType", "TrailersDataType", "parse_content_type_charset"]

_T = TypeVar("_T")
_Value = str | list[str]
_Line = tuple[str, str]
_Entry = _Line | list[_Line]

# The methods of dict itself, without the overrides of `Headers`.
_raw_new: Any = dict.__new__
_raw_get: Any = dict.get
_raw_item: Any = dict.__getitem__
_raw_items: Any = dict.items
_raw_values: Any = dict.values
_raw_pop: Any = dict.pop
_raw_set: Any = dict.__setitem__
_raw_setdefault: Any = dict.setdefault
_raw_update: Any = dict.update
_raw_contains: Any = dict.__contains__
_raw_equal: Any = dict.__eq__
_raw_len: Any = dict.__len__

_MISSING: Any = object()


class _Names(KeysView[str]):
    """View of the distinct names in lower case; lookup is case-insensitive."""

    __slots__ = ()
    _mapping: Any

    def __len__(self) -> int:
        return int(_raw_len(self._mapping))

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping)


class _Values(ValuesView[_Value]):
    """View of the values: `headers[name]` for each name."""

    __slots__ = ()
    _mapping: Any

    def __len__(self) -> int:
        return int(_raw_len(self._mapping))

    def __iter__(self) -> Iterator[_Value]:
        return iter([_value(entry) for entry in _raw_values(self._mapping)])


class Headers(dict[str, _Entry]):
    """Case-insensitive mapping of header fields, which keeps the spelling and the order of the field lines.

    A name may have several lines. `headers[name]` is a str, the value, if the name has one line, and the list of all
    values if it has more. If a list or a tuple is assigned, each item becomes a line; an empty one removes the name.
    Any other value becomes one line and is stored unchanged.

        >>> headers = Headers({"Accept": "text/html"}, Via="1.1 a")
        >>> headers.add("via", "1.1 b")
        >>> headers["VIA"]
        ['1.1 a', '1.1 b']

    Iteration yields the names in lower case, `items()` yields every line with its original spelling, and `len()` counts
    lines.

    The underlying dict maps lower-case names to entries: `(name, value)` for one line, a list of such tuples for
    several. `dict(headers)` shows it, and native code may fill a new object directly in this format. `__iter__` must
    not be overridden, since copies are made of the underlying dict.
    """

    def __init__(self, headers: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None, **fields: Any) -> None:
        """Takes another Headers, a mapping or (name, value) pairs, and keyword arguments; every line is kept."""
        if headers is not None:
            self.extend(headers)
        if fields:
            self.extend(fields)

    @classmethod
    def _from_pairs(cls, pairs: list[tuple[str, str]]) -> Self:
        """Returns Headers with the lines of a message head, in their order. The tuples themselves are stored."""
        headers: Self = _raw_new(cls)
        entries = {line[0].lower(): line for line in pairs}
        if len(entries) == len(pairs):
            _raw_update(headers, entries)
        else:
            for name, value in pairs:
                _add_line(headers, name, value)
        return headers

    # One name

    def __getitem__(self, field: str) -> _Value:  # type: ignore[override]
        entry = _raw_item(self, field.lower())
        return entry[1] if type(entry) is tuple else [value for _, value in entry]

    def __setitem__(self, field: str, value: Any) -> None:
        if type(value) is str or not isinstance(value, (list, tuple)):
            _raw_set(self, field.lower(), (field, value))
        elif value:
            _raw_set(self, field.lower(), [(field, item) for item in value])
        else:
            _raw_pop(self, field.lower(), None)

    def __delitem__(self, field: str) -> None:
        _raw_pop(self, field.lower())

    def __contains__(self, field: object) -> bool:
        return _raw_contains(self, field.lower())  # type: ignore[attr-defined, no-any-return]

    @overload  # type: ignore[override]
    def get(self, field: str) -> _Value | None: ...

    @overload
    def get(self, field: str, default: _T) -> _Value | _T: ...

    def get(self, field: str, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns `headers[field]`, or `default` if there is no such name."""
        entry = _raw_get(self, field.lower())
        if type(entry) is tuple:
            return entry[1]
        return default if entry is None else [value for _, value in entry]

    def getlist(self, field: str) -> list[str]:
        """Returns the values of all lines of this name: an empty list if there are none."""
        entry = _raw_get(self, field.lower())
        if type(entry) is tuple:
            return [entry[1]]
        return [] if entry is None else [value for _, value in entry]

    getheaders = getlist
    getallmatchingheaders = getlist

    @overload
    def get_all(self, field: str) -> list[str] | None: ...

    @overload
    def get_all(self, field: str, failobj: _T) -> list[str] | _T: ...

    def get_all(self, field: str, failobj: Any = None) -> Any:
        """Returns the values of all lines of this name, or `failobj` if there are none."""
        return self.getlist(field) or failobj

    def add(self, field: str, value: Any) -> None:
        """Adds a line after those that the name already has; a list or a tuple adds a line for each item."""
        if type(value) is str or not isinstance(value, (list, tuple)):
            line = (field, value)
            entry = _raw_setdefault(self, field.lower(), line)
            if entry is not line:
                _lengthen(self, entry, line)
        else:
            for item in value:
                _add_line(self, field, item)

    def setdefault(self, field: str, default: Any = "") -> Any:
        """Returns `headers[field]`; sets it to `default` and returns that if there is no such name."""
        entry = _raw_get(self, field.lower())
        if type(entry) is tuple:
            return entry[1]
        if entry is None:
            self[field] = default
            return default
        return _value(entry)

    @overload  # type: ignore[override]
    def pop(self, field: str) -> _Value: ...

    @overload
    def pop(self, field: str, default: _T) -> _Value | _T: ...

    def pop(self, field: str, default: Any = _MISSING) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Removes all lines of this name and returns the value that `headers[field]` had. Returns `default`, or raises
        KeyError without one, if there is no such name."""
        name = field.lower()
        entry = _raw_pop(self, name, None)
        if entry is not None:
            return _value(entry)
        if default is _MISSING:
            raise KeyError(name)
        return default

    def popitem(self) -> tuple[str, _Value]:  # type: ignore[override]
        """Removes the last name. Returns it in lower case, with the value that `headers[name]` had."""
        name, entry = super().popitem()
        return name, _value(entry)

    def discard(self, field: str) -> None:
        """Removes all lines of this name, if there are any."""
        _raw_pop(self, field.lower(), None)

    # All lines

    def items(self) -> Iterator[tuple[str, str]]:  # type: ignore[override]
        """Returns an iterator over all lines as (name, value), with their original spelling; lines of one name are
        adjacent. The headers may be edited during the iteration, which yields the lines at the time of the call."""
        lines: list[_Line] = []
        for entry in _raw_values(self):
            if type(entry) is tuple:
                lines.append(entry)
            else:
                lines += entry
        return iter(lines)

    def iterlower(self) -> Iterator[tuple[str, str]]:
        """Yields every line as (name, value), with the name in lower case."""
        for name, entry in _raw_items(self):
            if type(entry) is tuple:
                yield name, entry[1]
            else:
                for _, value in entry:
                    yield name, value

    def itermerged(self) -> Iterator[tuple[str, str]]:
        """Returns an iterator over all names, in their first spelling, with the values of each joined by ", " (RFC 9110
        section 5.3)."""
        lines: list[_Line] = []
        for entry in _raw_values(self):
            lines.append(entry if type(entry) is tuple else _merged(entry))
        return iter(lines)

    def compatible_dict(self) -> dict[str, str]:
        """Returns the pairs of `itermerged` as a dict."""
        return dict(self.itermerged())

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """Returns a live view of the names in lower case; lookup in it is case-insensitive."""
        return _Names(self)

    def values(self) -> ValuesView[_Value]:  # type: ignore[override]
        """Returns a live view of the values: `headers[name]` for each name."""
        return _Values(self)

    def __len__(self) -> int:
        """Returns the number of lines."""
        count = 0
        for entry in _raw_values(self):
            count += 1 if type(entry) is tuple else len(entry)
        return count

    def __eq__(self, other: object) -> bool:
        """Returns True if `other`, any mapping, has the same names (in any case), each with the same values in the same
        order."""
        if not isinstance(other, Headers):
            if not hasattr(other, "keys"):
                return False
            try:
                other = Headers(other)  # type: ignore[arg-type]
            except (AttributeError, TypeError, ValueError):
                return False
        if _raw_equal(self, other):
            return True
        if _raw_len(self) != _raw_len(other):
            return False
        for name, entry in _raw_items(self):
            match = _raw_get(other, name)
            if match is None or _values(entry) != _values(match):
                return False
        return True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.compatible_dict()})"

    def __str__(self) -> str:
        return "\n".join([f"{name}: {value}" for name, value in self.items()])

    # Bulk updates

    def extend(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **fields: Any) -> None:
        """Adds the lines of another Headers, of a mapping or of (name, value) pairs, and of keyword arguments, after
        the existing lines: see `add`."""
        if isinstance(other, Headers):
            if not _raw_len(self):
                _raw_update(self, _entries(other))
            else:
                for name, value in other.items():
                    _add_line(self, name, value)
        elif other:
            try:
                pairs = _pairs(other)
                entries = None if _raw_len(self) else _distinct(pairs)
                if entries is not None:
                    _raw_update(self, entries)
                else:
                    for name, value in pairs:
                        self.add(name, value)
            except (AttributeError, TypeError, ValueError) as error:
                _refuse(other, error)
        for name, value in fields.items():
            self.add(name, value)

    def update(  # type: ignore[override]
        self, other: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **fields: Any
    ) -> None:
        """Sets the names of another Headers, of a mapping or of (name, value) pairs, and of keyword arguments. Replaces
        the lines that these names had."""
        if isinstance(other, Headers):
            _raw_update(self, _entries(other))
        elif other:
            try:
                pairs = _pairs(other)
                entries = _distinct(pairs)
                if entries is not None:
                    _raw_update(self, entries)
                else:
                    for name, value in pairs:
                        self[name] = value
            except (AttributeError, TypeError, ValueError) as error:
                _refuse(other, error)
        for name, value in fields.items():
            self[name] = value

    def copy(self) -> Self:
        """Returns another Headers with the same lines."""
        clone: Self = _raw_new(type(self))
        _raw_update(clone, _entries(self))
        return clone

    def __copy__(self) -> Self:
        clone = self.copy()
        clone.__dict__.update(self.__dict__)
        return clone

    def __reduce__(self) -> tuple[Any, ...]:
        # dict's own method would assign one line of a name after the other, and only the last would remain.
        return _restored, (type(self), dict(self), self.__dict__)

    def __or__(self, other: Any) -> Self:  # type: ignore[override]
        merged = self.copy()
        merged.update(other)
        return merged

    def __ror__(self, other: Any) -> Self:  # type: ignore[override]
        merged = type(self)(other)
        merged.update(self)
        return merged

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]
        self.update(other)
        return self


_Given = str | bytes | float | Sequence[str] | None

HeadersDataType = Headers | Mapping[str, _Given] | Iterable[tuple[str, _Given]]
"""Headers that a request accepts: a mapping or pairs. A list of values gives a line for each, a number is sent as text,
and None omits a field that the client would send."""

TrailersDataType = HeadersDataType | Callable[[], Any]
"""Trailers that a request accepts: a mapping or pairs, or a callable that returns them, which is called after the body
has been sent."""

# RFC 9110 section 5.6.6: parameters, whose values may be quoted strings and therefore contain ";".
_PARAMETER_NAME = re.compile(r"[^;=]*")
_PARAMETER_VALUE = re.compile(r"[^;]*")

_PARAMETER_STARTS = ("", ";")
_BLANKS_AND_QUOTES = " \t\r\n'\""


def parse_content_type_charset(content_type: str) -> str | None:
    """Returns the charset parameter of a Content-Type, in lower case and without quotes; None if it is missing or
    empty."""
    before, found, behind = content_type.lower().partition("charset=")
    if not found:
        return None
    if '"' not in content_type and before.rstrip()[-1:] in _PARAMETER_STARTS:
        return behind.partition(";")[0].strip(_BLANKS_AND_QUOTES) or None
    reader = FieldReader(content_type.lower())
    while not reader.at_end:
        name = reader.run(_PARAMETER_NAME).lstrip()
        value = None
        if reader.take("="):
            reader.run(BLANKS)
            value = reader.quoted()
        rest = reader.run(_PARAMETER_VALUE)
        if reader.is_cut and value is not None:
            value = value.partition(";")[0]
        if name == "charset":
            return (rest if value is None else value).strip(_BLANKS_AND_QUOTES) or None
        reader.take(";")
    return None


def _value(entry: _Entry) -> _Value:
    return entry[1] if isinstance(entry, tuple) else [value for _, value in entry]


def _values(entry: _Entry) -> list[str]:
    return [entry[1]] if isinstance(entry, tuple) else [value for _, value in entry]


def _merged(entry: list[_Line]) -> _Line:
    return entry[0][0], ", ".join([str(value) for _, value in entry])


def _add_line(headers: Headers, name: str, value: str) -> None:
    line = (name, value)
    entry = _raw_setdefault(headers, name.lower(), line)
    if entry is not line:
        _lengthen(headers, entry, line)


def _lengthen(headers: Headers, entry: _Entry, line: _Line) -> None:
    if isinstance(entry, list):
        entry.append(line)
    else:
        _raw_set(headers, line[0].lower(), [entry, line])


def _entries(headers: Headers) -> dict[str, _Entry]:
    # Lines are immutable and may be shared; lists of lines are not.
    return {name: entry if type(entry) is tuple else entry.copy() for name, entry in _raw_items(headers)}


def _pairs(other: Any) -> Any:
    """Returns the pairs of a mapping, an iterable of pairs, or an object with `keys()` and items. The result can be
    iterated more than once."""
    if type(other) is list:
        return other
    if type(other) is dict:
        return other.items()
    if hasattr(other, "items"):
        # Not through its keys: an email.message.Message would give the first line of a name each time.
        return list(other.items())
    if hasattr(other, "keys"):
        return [(name, other[name]) for name in other]
    return list(other)


def _refuse(other: Any, error: Exception) -> NoReturn:
    """Raises a TypeError that describes valid headers if `other` is not valid; else raises the error."""
    from geventhttpclient._internal.validation import refused_fields

    raise refused_fields("headers", other) or error from None


def _distinct(pairs: Any) -> dict[str, _Line] | None:
    """Returns the pairs as entries; None if a name occurs twice or a value is a list or a tuple."""
    entries: dict[str, _Line] = {}
    for pair in pairs:
        name, value = pair
        if type(value) is not str and isinstance(value, (list, tuple)):
            return None
        name = name.lower()
        if name in entries:
            return None
        entries[name] = pair if type(pair) is tuple else (pair[0], value)
    return entries


def _restored(cls: type[Headers], entries: dict[str, _Entry], attributes: dict[str, Any]) -> Headers:
    headers: Headers = _raw_new(cls)
    _raw_update(headers, entries)
    headers.__dict__.update(attributes)
    return headers
