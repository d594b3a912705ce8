"""Headers: every operation, and random edits compared with a naive list of lines."""

from __future__ import annotations

import copy
import pickle
import random
from collections import OrderedDict
from collections.abc import Callable
from email.message import Message
from types import MappingProxyType
from typing import Any

import pytest

from geventhttpclient import header
from geventhttpclient.header import Headers, parse_content_type_charset

SEED = 9110


@pytest.fixture
def headers() -> Headers:
    """Returns headers: a name with one line, one with three in two spellings, another with one."""
    return Headers([("Content-Type", "text/html"), ("Via", "a"), ("Via", "b"), ("X-Last", "z"), ("via", "c")])


LINES = [("Content-Type", "text/html"), ("Via", "a"), ("Via", "b"), ("via", "c"), ("X-Last", "z")]
RAW = {
    "content-type": ("Content-Type", "text/html"),
    "via": [("Via", "a"), ("Via", "b"), ("via", "c")],
    "x-last": ("X-Last", "z"),
}


class OnlyKeys:
    """An object with just the methods of a mapping that `dict()` needs."""

    def keys(self) -> list[str]:
        return ["A", "B"]

    def __iter__(self) -> Any:
        return iter(self.keys())

    def __getitem__(self, key: str) -> Any:
        return {"A": "1", "B": ["2", "3"]}[key]


class TestConstructor:
    @pytest.mark.parametrize("nothing", [None, {}, [], (), Headers()])
    def test_of_nothing(self, nothing: Any) -> None:
        assert list(Headers(nothing).items()) == list(Headers().items()) == []

    @pytest.mark.parametrize(
        "source",
        [
            {"A": "1", "B": ["2", "3"]},
            {"A": "1", "B": ("2", "3")},
            OrderedDict({"A": "1", "B": ["2", "3"]}),
            MappingProxyType({"A": "1", "B": ["2", "3"]}),
            OnlyKeys(),
            [("A", "1"), ("B", "2"), ("B", "3")],
            [["A", "1"], ("B", ["2", "3"])],
            (("A", "1"), ("B", "2"), ("B", "3")),
            Headers({"A": "1", "B": ["2", "3"]}),
        ],
    )
    def test_sources(self, source: Any) -> None:
        for built in (Headers(source), Headers(headers=source)):
            assert list(built.items()) == [("A", "1"), ("B", "2"), ("B", "3")]
            assert dict(built) == {"a": ("A", "1"), "b": [("B", "2"), ("B", "3")]}

    def test_iterator(self) -> None:
        assert list(Headers(iter([("A", "1"), ("a", "2")])).items()) == [("A", "1"), ("a", "2")]

    def test_pairs_that_are_lists(self) -> None:
        assert dict(Headers([["A", "1"]])) == {"a": ("A", "1")}  # type: ignore[list-item]

    def test_names_that_differ_in_case(self) -> None:
        assert Headers({"a": "1", "A": "2"})["a"] == ["1", "2"]
        assert Headers(a="1", A="2")["a"] == ["1", "2"]

    def test_same_pair_twice(self) -> None:
        pair = ("A", "1")
        assert Headers([pair, pair])["a"] == ["1", "1"]
        assert Headers._from_pairs([pair, pair])["a"] == ["1", "1"]

    def test_keywords_come_last(self) -> None:
        assert list(Headers({"A": "1"}, a="2", B="3").items()) == [("A", "1"), ("a", "2"), ("B", "3")]

    def test_lines_of_a_message(self) -> None:
        message = Message()
        message["Set-Cookie"] = "a"
        message["Set-Cookie"] = "b"
        assert Headers(message)["set-cookie"] == ["a", "b"]

    def test_empty_list_is_no_line(self) -> None:
        assert not Headers({"A": []})

    def test_values_that_are_no_str_are_kept(self) -> None:
        built = Headers({"A": None, "B": 5, "C": [None, 6], "D": b"x"})
        assert (built["a"], built["b"], built["c"], built["d"]) == (None, 5, [None, 6], b"x")

    @pytest.mark.parametrize("wrong", [5, [("a", "b", "c")], ["abc"], [5], {5: "x"}, [(None, "x")]])
    def test_values_that_are_no_headers_are_refused(self, wrong: Any) -> None:
        with pytest.raises((TypeError, ValueError, AttributeError)):
            Headers(wrong)

    @pytest.mark.parametrize("pairs", [[], LINES, LINES[:2], [("A", "1"), ("a", "2"), ("b", "3")]])
    def test_from_pairs(self, pairs: list[tuple[str, str]]) -> None:
        built = Headers._from_pairs(pairs)
        assert type(built) is Headers
        assert dict(built) == dict(Headers(pairs))
        assert list(built.items()) == list(Headers(pairs).items())

    def test_from_pairs_of_a_subclass(self) -> None:
        assert type(Sub._from_pairs([("A", "1")])) is Sub


class TestOneName:
    def test_read(self, headers: Headers) -> None:
        assert headers["content-TYPE"] == headers.get("CONTENT-type") == "text/html"
        assert headers["VIA"] == headers.get("vIA") == ["a", "b", "c"]
        assert "X-LAST" in headers
        assert "none" not in headers
        assert headers.get("none") is None
        assert headers.get("none", "d") == "d"

    def test_missing(self, headers: Headers) -> None:
        with pytest.raises(KeyError, match="none"):
            headers["None"]
        with pytest.raises(KeyError, match="none"):
            del headers["None"]
        with pytest.raises(KeyError, match="none"):
            headers.pop("None")

    def test_all_lines(self, headers: Headers) -> None:
        for method in (headers.getlist, headers.getheaders, headers.getallmatchingheaders, headers.get_all):
            assert method("VIA") == ["a", "b", "c"]
            assert method("X-Last") == ["z"]
        assert headers.getlist("none") == headers.getheaders("none") == []
        assert headers.get_all("none") is None
        assert headers.get_all("none", 5) == 5

    def test_returned_lists_are_copies(self, headers: Headers) -> None:
        headers.getlist("via").append("x")
        value = headers["via"]
        assert isinstance(value, list)
        value.append("x")
        assert headers["via"] == ["a", "b", "c"]

    @pytest.mark.parametrize(
        ("value", "read", "raw"),
        [
            ("new", "new", ("VIA", "new")),
            (5, 5, ("VIA", 5)),
            (None, None, ("VIA", None)),
            (["1", "2"], ["1", "2"], [("VIA", "1"), ("VIA", "2")]),
            (("1",), ["1"], [("VIA", "1")]),
        ],
    )
    def test_assign(self, headers: Headers, value: Any, read: Any, raw: Any) -> None:
        headers["VIA"] = value
        assert headers["via"] == read
        assert dict(headers) == {**RAW, "via": raw}
        assert list(headers) == list(RAW)

    def test_assign_nothing(self, headers: Headers) -> None:
        headers["VIA"] = headers["New"] = []
        assert list(headers) == ["content-type", "x-last"]

    def test_delete(self, headers: Headers) -> None:
        del headers["VIA"]
        assert list(headers) == ["content-type", "x-last"]

    def test_add(self, headers: Headers) -> None:
        headers.add("CONTENT-TYPE", "x")
        headers.add("Via", "d")
        headers.add("X-LAST", ["y", "x"])
        headers.add("New", ("1",))
        headers.add("Newer", [])
        assert headers["content-type"] == ["text/html", "x"]
        assert headers["via"] == ["a", "b", "c", "d"]
        assert headers["x-last"] == ["z", "y", "x"]
        assert headers["new"] == "1"
        assert "newer" not in headers
        assert dict(headers)["content-type"] == [("Content-Type", "text/html"), ("CONTENT-TYPE", "x")]

    def test_setdefault(self, headers: Headers) -> None:
        assert headers.setdefault("VIA", "x") == ["a", "b", "c"]
        assert headers.setdefault("CONTENT-TYPE", "x") == "text/html"
        assert headers.setdefault("New", "x") == "x"
        assert headers.setdefault("Newer") == ""
        assert dict(headers) == {**RAW, "new": ("New", "x"), "newer": ("Newer", "")}

    def test_pop(self, headers: Headers) -> None:
        assert headers.pop("VIA") == ["a", "b", "c"]
        assert headers.pop("VIA", "d") == "d"
        assert headers.pop("VIA", None) is None
        assert headers.pop("X-Last", "d") == "z"
        assert headers.popitem() == ("content-type", "text/html")
        assert not headers

    def test_discard(self, headers: Headers) -> None:
        headers.discard("VIA")
        headers.discard("VIA")
        assert list(headers) == ["content-type", "x-last"]


class TestAll:
    def test_lines(self, headers: Headers) -> None:
        assert list(headers.items()) == LINES
        assert list(headers.iterlower()) == [(name.lower(), value) for name, value in LINES]
        assert next(headers.items()) == LINES[0]

    def test_merged(self, headers: Headers) -> None:
        merged = [("Content-Type", "text/html"), ("Via", "a, b, c"), ("X-Last", "z")]
        assert list(headers.itermerged()) == merged
        assert headers.compatible_dict() == dict(merged)
        assert list(Headers([("VIA", "a"), ("via", "b")]).itermerged()) == [("VIA", "a, b")]

    def test_names(self, headers: Headers) -> None:
        names = headers.keys()
        assert list(headers) == list(names) == ["content-type", "via", "x-last"]
        assert len(names) == 3
        assert "VIA" in names
        assert "none" not in names
        assert names & {"via", "none"} == {"via"}
        del headers["via"]
        assert list(names) == ["content-type", "x-last"]
        assert list(reversed(headers)) == ["x-last", "content-type"]

    def test_values(self, headers: Headers) -> None:
        values = headers.values()
        assert list(values) == ["text/html", ["a", "b", "c"], "z"]
        assert len(values) == 3
        assert "z" in values

    def test_length_counts_lines(self, headers: Headers) -> None:
        assert len(headers) == 5
        assert headers
        assert len(Headers()) == 0
        assert not Headers()

    def test_dict_beneath(self, headers: Headers) -> None:
        assert isinstance(headers, dict)
        assert dict(headers) == RAW

    def test_text(self, headers: Headers) -> None:
        assert str(headers) == "Content-Type: text/html\nVia: a\nVia: b\nvia: c\nX-Last: z"
        assert repr(headers) == "Headers({'Content-Type': 'text/html', 'Via': 'a, b, c', 'X-Last': 'z'})"
        assert repr(Sub()) == "Sub({})"
        assert repr(Headers({"A": [1, None]})) == "Headers({'A': '1, None'})"

    def test_edits_while_reading(self, headers: Headers) -> None:
        for name, _ in headers.items():
            headers.discard(name)
        assert not headers

    def test_clear(self, headers: Headers) -> None:
        headers.clear()
        assert list(headers.items()) == []

    def test_fromkeys(self) -> None:
        assert dict(Headers.fromkeys(["A"], "1")) == {"a": ("A", "1")}


class TestEquality:
    @pytest.mark.parametrize(
        "other",
        [
            Headers(LINES),
            Headers([(name.upper(), value) for name, value in reversed(LINES) if name.lower() != "via"])
            | {"vIA": ["a", "b", "c"]},
            {"content-type": "text/html", "via": ["a", "b", "c"], "x-last": "z"},
            MappingProxyType({"X-LAST": "z", "VIA": ["a", "b", "c"], "CONTENT-TYPE": "text/html"}),
        ],
    )
    def test_equal(self, headers: Headers, other: Any) -> None:
        assert headers == other
        assert other == headers
        assert not headers != other  # noqa: SIM202

    @pytest.mark.parametrize(
        "other",
        [
            {},
            {"content-type": "text/html"},
            {"content-type": "text/html", "via": ["a", "c", "b"], "x-last": "z"},
            {"content-type": "text/html", "via": ["a", "b"], "x-last": "z"},
            {"content-type": "text/html", "via": ["a", "b", "c"], "x-first": "z"},
            {1: "text/html"},
            None,
            5,
            "text",
            LINES,
        ],
    )
    def test_different(self, headers: Headers, other: Any) -> None:
        assert headers != other
        assert (headers == other) is False

    def test_one_line_however_it_was_given(self) -> None:
        one, other = Headers(), Headers({"A": "1"})
        one["A"] = ["1"]
        assert one == other

    def test_not_hashable(self, headers: Headers) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            hash(headers)


class TestManyAtOnce:
    @pytest.mark.parametrize(
        "other",
        [
            {"VIA": "x", "New": "y"},
            OrderedDict({"VIA": "x", "New": "y"}),
            Headers({"VIA": "x", "New": "y"}),
            [("VIA", "w"), ("via", "v"), ("VIA", "x"), ("New", "y")],
            iter([("VIA", "x"), ("New", "y")]),
        ],
    )
    def test_update(self, headers: Headers, other: Any) -> None:
        headers.update(other)
        assert list(headers.items()) == [LINES[0], ("VIA", "x"), LINES[4], ("New", "y")]

    def test_update_with_several_lines(self, headers: Headers) -> None:
        headers.update({"VIA": ["x", "y"]}, New="1")
        headers.update(Headers([("X-Last", "1"), ("x-last", "2")]))
        assert headers["via"] == ["x", "y"]
        assert headers["x-last"] == ["1", "2"]
        assert headers["new"] == "1"

    def test_update_shares_nothing(self, headers: Headers) -> None:
        target = Headers()
        target.update(headers)
        target.add("via", "d")
        assert headers["via"] == ["a", "b", "c"]

    @pytest.mark.parametrize("other", [{"VIA": "d"}, Headers({"VIA": "d"}), [("VIA", "d")], iter([("VIA", ["d"])])])
    def test_extend(self, headers: Headers, other: Any) -> None:
        headers.extend(other, New="1")
        assert headers["via"] == ["a", "b", "c", "d"]
        assert list(headers.items())[-1] == ("New", "1")

    def test_extend_shares_nothing(self, headers: Headers) -> None:
        target = Headers()
        target.extend(headers)
        target.add("via", "d")
        assert headers["via"] == ["a", "b", "c"]

    def test_two_at_once_are_refused(self, headers: Headers) -> None:
        for method in (headers.update, headers.extend):
            with pytest.raises(TypeError, match="positional argument"):
                method({}, {})  # type: ignore[call-arg]

    def test_union(self, headers: Headers) -> None:
        union = headers | {"VIA": "x"}
        assert type(union) is Headers
        assert union["via"] == "x"
        assert list(headers.items()) == LINES
        assert list(({"A": "1", "Via": "x"} | headers).items()) == [("A", "1"), *LINES[1:4], LINES[0], LINES[4]]
        same = headers
        headers |= {"VIA": "x"}
        assert headers is same
        assert headers["via"] == "x"


class Sub(Headers):
    pass


class TestCopies:
    @pytest.mark.parametrize(
        "duplicate",
        [
            Headers,
            Headers.copy,
            copy.copy,
            copy.deepcopy,
            lambda headers: pickle.loads(pickle.dumps(headers)),
            lambda headers: pickle.loads(pickle.dumps(headers, 0)),
            lambda headers: headers | {},
        ],
    )
    def test_every_line_is_kept_and_none_is_shared(
        self, duplicate: Callable[[Headers], Headers], headers: Headers
    ) -> None:
        twin = duplicate(headers)
        assert type(twin) is Headers
        assert list(twin.items()) == LINES
        assert dict(twin) == RAW
        twin.add("via", "d")
        twin["x-last"] = "y"
        assert list(headers.items()) == LINES

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_attributes_of_a_subclass(self, duplicate: Callable[[Any], Any], headers: Headers) -> None:
        mine = Sub(headers)
        mine.note = [1]  # type: ignore[attr-defined]
        twin = duplicate(mine)
        assert type(twin) is Sub
        assert twin.note == [1]
        assert list(twin.items()) == LINES

    def test_class(self, headers: Headers) -> None:
        assert type(Sub(headers).copy()) is Sub
        assert list(Sub(headers).items()) == LINES
        assert list(Headers(Sub(headers)).items()) == LINES


class Model:
    """Naive model of Headers: a list of lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def add(self, name: str, value: str) -> None:
        same = [place for place, line in enumerate(self.lines) if line[0].lower() == name.lower()]
        self.lines.insert(same[-1] + 1 if same else len(self.lines), (name, value))

    def set(self, name: str, values: list[str]) -> None:
        same = [place for place, line in enumerate(self.lines) if line[0].lower() == name.lower()]
        place = same[0] if same else len(self.lines)
        self.remove(name)
        self.lines[place:place] = [(name, value) for value in values]

    def remove(self, name: str) -> None:
        self.lines = [line for line in self.lines if line[0].lower() != name.lower()]

    def values(self, name: str) -> list[str]:
        return [line[1] for line in self.lines if line[0].lower() == name.lower()]


def test_random_edits_beside_the_model() -> None:
    chance = random.Random(SEED)
    for _ in range(300):
        headers, model = Headers(), Model()
        for step in range(30):
            name, value = chance.choice(["A", "a", "B", "Cc", "cC"]), str(step)
            match chance.randrange(6):
                case 0 | 1:
                    headers.add(name, value)
                    model.add(name, value)
                case 2:
                    headers[name] = value
                    model.set(name, [value])
                case 3:
                    headers[name] = [value, "x"]
                    model.set(name, [value, "x"])
                case 4:
                    headers.discard(name)
                    model.remove(name)
                case 5:
                    headers.update([(name, value)])
                    model.set(name, [value])
            assert list(headers.items()) == model.lines
            assert len(headers) == len(model.lines)
            assert headers.getlist("CC") == model.values("CC")
        assert headers == Headers(model.lines)
        assert copy.copy(headers) == Headers._from_pairs(model.lines)


class TestCharset:
    @pytest.mark.parametrize(
        ("content_type", "charset"),
        [
            ("text/html; charset=UTF-8", "utf-8"),
            ("text/html;charset=latin-1", "latin-1"),
            ('text/html; charset="utf-8"', "utf-8"),
            ("text/html; charset='utf-8'", "utf-8"),
            ("text/html; Charset= utf-8 ; x=y", "utf-8"),
            ('text/html; x="a; charset=bad"; charset=good', "good"),
            ('text/html; x="a\\"; charset=bad"; charset="good"', "good"),
            ("text/html;; charset=a; charset=b", "a"),
            ("charset=utf-8", "utf-8"),
            ("text/html; charset=", None),
            ('text/html; charset=""', None),
            ("text/html; xcharset=utf-8", None),
            ("text/html; charset", None),
            ("text/html", None),
            ("", None),
        ],
    )
    def test_parameter(self, content_type: str, charset: str | None) -> None:
        assert parse_content_type_charset(content_type) == charset

    def test_takes_linear_time(self) -> None:
        assert parse_content_type_charset('a; x="' + "; \\" * 100_000 + "charset=y") in (None, "y")
        assert parse_content_type_charset('"' + " ;=" * 100_000 + "charset=y") in (None, "y")


def test_headers_data_type_is_there() -> None:
    assert header.HeadersDataType
