"""Charts of the benchmarks: their content, reproducibility, and that the README shows the last run."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.requirements import missing

try:
    import matplotlib  # noqa: F401
except ImportError:
    missing("matplotlib")

ROOT = Path(__file__).parents[2]
MODES = ("light", "dark")
COLOUR = re.compile("#[0-9a-f]{6}")
LIMIT_BYTES = 60_000

FACTS = {
    "machine": "2 x A Processor, Linux 6.18 x86_64",
    "ours": "Python 3.11.7, geventhttpclient 3.1.4, gevent 26.9.0",
    "reference": "Python 3.11.7, geventhttpclient 2.6.1, gevent 26.9.0",
    "pycurl multi": "pycurl 7.49.0",
    "aiohttp on uvloop": "aiohttp 3.14.5, uvloop 0.23.0",
    "server": "nginx/1.22.1, one worker",
    "wrk": "wrk debian/4.1.0-3 [epoll]",
    "h2load": "h2load nghttp2/1.52.0",
    "rounds": "2, of 1 s for each client and workload",
}
# By client: requests per second, and microseconds of CPU per request.
NUMBERS = {
    "ours": (101_234, 9.3),
    "reference": (21_987, 45.1),
    "pycurl multi": (54_321, 18.2),
    "aiohttp on uvloop": (20_456, 48.7),
    "floor": (150_789, 6.4),
}


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return pytest.importorskip("pictures")


@pytest.fixture
def run(pictures: ModuleType, tmp_path: Path) -> Any:
    """A run with two rounds of every row, written to a file and read again."""
    from report import Results, Row, Sample
    from results import as_json, read

    results, rows = Results(), []
    for key in pictures.ROWS:
        greenlets = int(key.partition("-c")[2]) if key.startswith("get-c") else 10
        title = "7,500 `get` a second, and more" if key == "latency-paced" else key
        rows.append(Row(key, title, greenlets=greenlets))
        latencies = [(80, 900), (120, 90), (400, 10)] if "latency" in key else []
        for client, (count, microseconds) in NUMBERS.items():
            for _ in range(2):
                results.add(key, client, Sample(count, 1.0, count * microseconds / 1e6, latencies=latencies))
    path = tmp_path / "2026-01-02-tiny.json"
    path.write_text(as_json("2026-01-02T03:04:05+00:00", FACTS, rows, results))
    return read(path)


def text_elements(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"))


def texts(svg: str) -> list[str]:
    """Returns the texts in a picture."""
    return ["".join(element.itertext()).strip() for element in text_elements(svg)]


def test_pictures_contain_names_and_numbers_as_text(pictures: ModuleType, run: Any) -> None:
    drawn = pictures.draw(run)
    names = {"geventhttpclient 3.1.4", "geventhttpclient 2.6.1", "pycurl", "aiohttp on uvloop"}
    for mode in MODES:
        read = {key: set(texts(getattr(picture, mode))) for key, picture in drawn.items()}
        assert read["rate"] >= names | {"101,234", "21,987", "54,321", "20,456", "wrk 150,789"}
        assert read["cpu"] >= names | {"9.3", "45.1", "18.2", "48.7", "wrk 6.4", "us, log scale"}
        assert read["http2"] >= {"geventhttpclient 3.1.4", "9.3", "h2load 6.4"}
        assert read["connections"] >= {"3.1.4", "2.6.1", "wrk", "10", "100", "1k", "4k", "10k"}
        assert read["latency"] >= {
            "3.1.4",
            "2.6.1",
            "pycurl",
            "aiohttp",
            "wrk",
            "50 %",
            "90 %",
            "99 %",
            "ms, log scale",
        }
        assert "Latency at 7,500 requests per second" in read["latency-paced"]
        assert all(len(getattr(picture, mode)) < LIMIT_BYTES for picture in drawn.values())


def test_captions_contain_the_numbers(pictures: ModuleType, run: Any) -> None:
    drawn = pictures.draw(run)
    assert "geventhttpclient 3.1.4 101,234; pycurl 54,321; geventhttpclient 2.6.1 21,987" in drawn["rate"].alt
    assert "9.3 us with 4,000" in drawn["connections"].alt
    assert re.search(r"0\.08\d* ms for 90 %, 0\.12\d* ms for 99 %, 0\.4\d* ms for 99\.9 %", drawn["latency"].alt)
    caption = pictures.caption(run).replace("\n", " ")
    for fact in ("2026-01-02", FACTS["machine"], "3.1.4 and 2.6.1", "pycurl 7.49.0", "wrk 4.1.0", "2026-01-02-tiny.md"):
        assert fact in caption


def test_pictures_of_the_same_numbers_are_the_same(pictures: ModuleType, run: Any) -> None:
    assert pictures.draw(run) == pictures.draw(run)


def test_pictures_light_and_dark_differ_only_in_colours(pictures: ModuleType, run: Any) -> None:
    from charts import DARK

    for picture in pictures.draw(run).values():
        assert COLOUR.sub("#", picture.light) == COLOUR.sub("#", picture.dark)
        assert set(COLOUR.findall(picture.light)) <= DARK.keys()
        assert set(COLOUR.findall(picture.dark)) <= set(DARK.values())
        # An element without a colour is black, on dark pages as well.
        assert all(COLOUR.search(element.get("style", "")) for element in text_elements(picture.dark))


def test_picture_labels_do_not_overlap(pictures: ModuleType) -> None:
    from charts import spread

    assert spread([50, 10, 90], 14, 0, 100) == [50, 10, 90]
    assert spread([50, 50], 14, 0, 100) == [43, 57]
    assert spread([2, 1, 0], 14, 0, 100) == [28, 14, 0]
    assert spread([100, 99, 98, 60], 14, 0, 100) == [100, 86, 72, 58]


def test_pictures_use_the_last_run_with_all_rows(pictures: ModuleType, run: Any) -> None:
    from results import newest

    whole, results = run.path.read_text(), run.path.parent
    (results / "2026-01-01-last.json").write_text(whole.replace("2026-01-02T03", "2026-01-02T04"))
    (results / "2026-01-03-partial.json").write_text('{"made": "2026-01-03", "facts": {}, "rows": {}, "samples": []}')
    assert newest(results, pictures.ROWS).path.name == "2026-01-01-last.json"
    assert newest(results, ["no such row"]) is None


def test_pictures_of_the_pages_are_those_of_the_last_run(pictures: ModuleType) -> None:
    """Compares the texts, since other versions of matplotlib draw other paths."""
    from results import newest

    last = newest(pictures.RESULTS, pictures.ROWS)
    drawn = pictures.draw(last)
    for page in pictures.PAGES:
        assert page.read_text() == pictures.with_block(page.read_text(), pictures.block(last, drawn, page))
    assert {path.name for path in pictures.PICTURES.glob("*")} == {
        f"{key}-{mode}.svg" for key in drawn for mode in MODES
    }
    for key, picture in drawn.items():
        for mode in MODES:
            kept = (pictures.PICTURES / f"{key}-{mode}.svg").read_text()
            assert texts(kept) == texts(getattr(picture, mode)), "run benchmarks/pictures.py"
            assert f"benchmarks/results/{last.path.name}" in kept
