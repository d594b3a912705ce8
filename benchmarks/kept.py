"""Runs as they are kept beside their Markdown: every sample of every round, as JSON.

A run's file is one object: `made` (when it ended, ISO 8601 in UTC), `facts` (where and how, in words), `rows` (title,
unit and greenlets of each), and `samples`, each a line with the row, the client and the fields of `report.Sample`, in
the order in which they were measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from report import Results, Row, Sample


@dataclass(frozen=True)
class Kept:
    """A run that was read. `rows` has title, unit and greenlets by key."""

    path: Path
    made: str
    facts: dict[str, str]
    rows: dict[str, dict[str, Any]]
    results: Results

    @property
    def date(self) -> str:
        return self.made[:10]


def as_json(made: str, facts: dict[str, str], rows: list[Row], results: Results) -> str:
    head: dict[str, Any] = {"made": made, "facts": facts}
    head["rows"] = {row.key: {"title": row.title, "unit": row.unit, "greenlets": row.greenlets} for row in rows}
    lines = [
        json.dumps({"row": row, "client": client, **asdict(sample)})
        for (row, client), samples in results.samples.items()
        for sample in samples
    ]
    return json.dumps(head, indent=1)[:-2] + ',\n "samples": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def read(path: Path) -> Kept:
    """Raises ValueError, KeyError or TypeError where the file is not a run."""
    found = json.loads(path.read_text())
    results = Results()
    for fields in found["samples"]:
        fields["latencies"] = [(microseconds, count) for microseconds, count in fields["latencies"]]
        results.add(fields.pop("row"), fields.pop("client"), Sample(**fields))
    return Kept(path, found["made"], found["facts"], found["rows"], results)


def newest(directory: Path, rows: Iterable[str]) -> Kept | None:
    """The last run that has all of these rows; None where there is none."""
    wanted = set(rows)
    runs = [run for path in sorted(directory.glob("*.json")) if wanted <= (run := read(path)).rows.keys()]
    return max(runs, key=lambda run: run.made, default=None)
