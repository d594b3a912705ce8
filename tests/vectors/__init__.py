"""Loads the test vectors that README.md describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPLIT_UP_TO = 1024
PIECE = 4096


@dataclass(frozen=True)
class Vector:
    name: str
    rule: str
    method: str
    raw: bytes
    eof: bool
    response: dict[str, Any] | None
    error: dict[str, str] | None

    def __str__(self) -> str:
        return self.name

    @property
    def is_small(self) -> bool:
        return len(self.raw) <= SPLIT_UP_TO

    @property
    def body(self) -> bytes:
        assert self.response is not None
        return str(self.response["body"]).encode("latin-1")

    def bytewise(self) -> list[bytes]:
        step = 1 if self.is_small else PIECE
        return [self.raw[i : i + step] for i in range(0, len(self.raw), step)]

    def divisions(self) -> Iterator[list[bytes]]:
        """Yields the bytes whole, byte by byte, and split in two at every point."""
        yield [self.raw]
        yield self.bytewise()
        if self.is_small:
            yield from ([self.raw[:i], self.raw[i:]] for i in range(1, len(self.raw)))


def _bytes(raw: str | list[str | tuple[str, int]]) -> bytes:
    parts = [raw] if isinstance(raw, str) else [p if isinstance(p, str) else p[0] * p[1] for p in raw]
    return "".join(parts).encode("latin-1")


def load(name: str) -> list[Vector]:
    cases = json.loads(Path(__file__).with_name(name).read_text("ascii"))
    vectors = [
        Vector(
            case.pop("name"),
            case.pop("rule"),
            case.pop("method", "GET"),
            _bytes(case.pop("raw")),
            case.pop("eof", False),
            case.pop("response", None),
            case.pop("error", None),
        )
        for case in cases
        if case.keys() <= {"name", "rule", "method", "raw", "eof", "response", "error"}
    ]
    assert len(vectors) == len(cases), "a case has a key that README.md does not describe"
    assert len({v.name for v in vectors}) == len(vectors), "two cases have the same name"
    assert all((v.response is None) != (v.error is None) for v in vectors)
    return vectors


RESPONSES = load("responses.json")
