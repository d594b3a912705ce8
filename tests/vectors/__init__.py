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
class Stream:
    """Bytes that arrive in pieces of any size."""

    name: str
    rule: str
    raw: bytes

    def __str__(self) -> str:
        return self.name

    @property
    def is_small(self) -> bool:
        return len(self.raw) <= SPLIT_UP_TO

    def bytewise(self) -> list[bytes]:
        step = 1 if self.is_small else PIECE
        return [self.raw[i : i + step] for i in range(0, len(self.raw), step)]

    def divisions(self) -> Iterator[list[bytes]]:
        """Yields the bytes whole, byte by byte, and split in two at every point."""
        yield [self.raw]
        yield self.bytewise()
        if self.is_small:
            yield from ([self.raw[:i], self.raw[i:]] for i in range(1, len(self.raw)))


@dataclass(frozen=True)
class Vector(Stream):
    method: str
    eof: bool
    response: dict[str, Any] | None
    error: dict[str, str] | None

    @property
    def body(self) -> bytes:
        assert self.response is not None
        return str(self.response["body"]).encode("latin-1")


@dataclass(frozen=True)
class EventVector(Stream):
    events: list[dict[str, Any]]
    """The arguments of each ServerSentEvent."""
    last_id: str
    last_retry: int | None
    error: str | None


def _text(raw: str | list[str | tuple[str, int]]) -> str:
    parts = [raw] if isinstance(raw, str) else [p if isinstance(p, str) else p[0] * p[1] for p in raw]
    return "".join(parts)


def _bytes(raw: str | list[str | tuple[str, int]]) -> bytes:
    return _text(raw).encode("latin-1")


def _cases(name: str, keys: set[str]) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(Path(__file__).with_name(name).read_text("ascii"))
    assert all(case.keys() <= keys for case in cases), "a case has a key that README.md does not describe"
    assert len({case["name"] for case in cases}) == len(cases), "two cases have the same name"
    return cases


def load(name: str) -> list[Vector]:
    vectors = [
        Vector(
            case["name"],
            case["rule"],
            _bytes(case["raw"]),
            case.get("method", "GET"),
            case.get("eof", False),
            case.get("response"),
            case.get("error"),
        )
        for case in _cases(name, {"name", "rule", "method", "raw", "eof", "response", "error"})
    ]
    assert all((v.response is None) != (v.error is None) for v in vectors)
    return vectors


def load_events() -> list[EventVector]:
    return [
        EventVector(
            case["name"],
            case["rule"],
            _bytes(case["raw"]),
            [{**event, "data": _text(event["data"])} for event in case["events"]],
            case.get("last_id", ""),
            case.get("last_retry"),
            case.get("error"),
        )
        for case in _cases("events.json", {"name", "rule", "raw", "events", "last_id", "last_retry", "error"})
    ]


RESPONSES = load("responses.json")
EVENTS = load_events()
