"""Objects that need no connection: URLs and header fields."""

# pyright: strict

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import assert_type

from geventhttpclient import URL, header, url
from geventhttpclient.header import Headers


class Tidy(Headers):
    """Fields of a program's own."""

    def add(self, field: str, value: object) -> None:
        super().add(field.title(), value)


def main(_: str) -> None:
    urls()
    fields()


def urls() -> None:
    page = URL("https://me@example.org:8443/a?b=c#d", params={"e": [1, 2]})
    assert_type(page.host, str)
    assert_type(page.port, int | None)
    assert_type(page.query_string, str)
    assert_type(page.request_uri, str)
    assert_type(page["b"], str | list[str])
    assert_type(page.get("x"), str | list[str] | None)
    assert_type(page.get("x", 0), str | list[str] | int)
    assert_type(page.redirect("/f"), URL)
    page["b"] = "g"
    page.port = None
    params: url.ParamsDataType = [("a", 1), ("b", None)]
    assert_type(url.to_key_val_list(params) is not None, bool)
    assert_type(url.DEFAULT_PORTS, dict[str, int])
    assert_type(url.UNRESERVED_SET, frozenset[str])
    assert_type(url.unquote_unreserved("%41"), str)
    try:
        assert_type(url.requote_uri("/a b"), str)
        url.unquote_unreserved("%zz")
    except url.InvalidURL:
        pass
    assert url.URL is URL


def fields() -> None:
    given: header.HeadersDataType = {"A": ["b", "c"], "D": 5, "E": None}
    after: header.TrailersDataType = lambda: given  # noqa: E731
    assert callable(after)
    found = Tidy({"a": "b"})
    found.add("a", "c")
    assert_type(found["A"], str | list[str])
    assert_type(found.get("a"), str | list[str] | None)
    assert_type(found.get("x", 0), str | list[str] | int)
    assert_type(found.getlist("a"), list[str])
    assert_type(found.items(), Iterator[tuple[str, str]])
    assert_type(found.copy(), Tidy)
    assert_type(found | {"x": "y"}, Tidy)
    assert_type(found.pop("a"), str | list[str])
    assert_type(header.parse_content_type_charset("text/plain; charset=utf-8"), str | None)
    assert header.Headers is Headers
