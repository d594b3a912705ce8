"""Saves runs as JSON, with all samples of all rounds, and loads them.

The file of a run is one object: `made` (its end, ISO 8601 in UTC), `facts` (machine, versions and options, as text),
`rows` (title, unit and greenlets of each), and `samples`, each on one line with the row, the client and the fields of
`report.Sample`, in the order of measurement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from report import Results, Row, Sample


@dataclass(frozen=True)
class SavedRun:
    """Loaded run. `rows` has title, unit and greenlets by key."""

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


def read(path: Path) -> SavedRun:
    """Loads a run. Raises ValueError, KeyError or TypeError if the file is not a run."""
    found = json.loads(path.read_text())
    results = Results()
    for fields in found["samples"]:
        fields["latencies"] = [(microseconds, count) for microseconds, count in fields["latencies"]]
        results.add(fields.pop("row"), fields.pop("client"), Sample(**fields))
    return SavedRun(path, found["made"], found["facts"], found["rows"], results)


def newest(directory: Path, rows: Iterable[str]) -> SavedRun | None:
    """Returns the last run that has all of these rows, None if there is none."""
    wanted = set(rows)
    runs = [run for path in sorted(directory.glob("*.json")) if wanted <= (run := read(path)).rows.keys()]
    return max(runs, key=lambda run: run.made, default=None)
