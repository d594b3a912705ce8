"""Facts that several files of the project state: versions, make targets, workflows, licences."""

from __future__ import annotations

import ast
import itertools
import re
from importlib.metadata import version
from pathlib import Path

import pytest

import geventhttpclient
from tests.support.pairs import covering

ROOT = Path(__file__).parents[2]
MAKEFILE = ROOT / "Makefile"

pytestmark = pytest.mark.skipif(not MAKEFILE.exists(), reason="not a checkout of the repository")


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_selected_cells_cover_every_pair() -> None:
    cells = list(itertools.product("abcd", range(5), (None, True, ()), "xy"))
    chosen = [cells[index] for index in covering(cells)]
    assert len(chosen) < len(cells) / 4
    pairs = [{pair for cell in some for pair in itertools.combinations(enumerate(cell), 2)} for some in (chosen, cells)]
    assert pairs[0] == pairs[1]


def test_version_is_the_same_in_all_files() -> None:
    [project] = re.findall(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    [workspace] = re.findall(r'^\[workspace\.package\]\nversion = "(.+)"$', read("Cargo.toml"), re.MULTILINE)
    assert project == workspace == geventhttpclient.__version__ == version("geventhttpclient")
    locked = re.findall(r'^name = "geventhttpclient-\w+"\nversion = "(.+)"$', read("Cargo.lock"), re.MULTILINE)
    assert set(locked) == {project}
    assert f"## [{project}]" in read("CHANGELOG.md")


def test_named_python_versions_are_tested() -> None:
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', read("pyproject.toml"))
    [tested] = re.findall(r"^VERSIONS = (.+)$", read("tools/matrix.py"), re.MULTILINE)
    assert [f"{major}.{minor}" for major, minor in ast.literal_eval(tested)] == declared
    [workflow] = re.findall(r"^ +python: (\[.+\])$", read(".github/workflows/test.yml"), re.MULTILINE)
    assert ast.literal_eval(workflow) == declared
    [oldest] = re.findall(r'^requires-python = ">=(.+)"$', read("pyproject.toml"), re.MULTILINE)
    assert oldest == declared[0]
    assert f"abi3-py{oldest.replace('.', '')}" in read("Cargo.toml")


def test_oldest_gevent_can_be_parsed() -> None:
    """tools/matrix.py converts these to exact requirements."""
    wanted = re.findall(r'^  "(gevent\b.*)",$', read("pyproject.toml"), re.MULTILINE)
    assert wanted
    assert all(re.fullmatch(r"gevent>=[\d.]+; python_version [<>=]+ '[\d.]+'", each) for each in wanted)


@pytest.mark.parametrize(
    "path", [".ci/run", ".github/workflows/publish.yml", ".github/workflows/test.yml", "CONTRIBUTING.md", "README.md"]
)
def test_named_make_targets_exist(path: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"(?:^|run: |`| {4})make((?: [a-z-]+\b(?![=:]))+)", read(path), re.MULTILINE)
    assert named
    assert {target for each in named for target in each.split()} <= targets


def test_named_programs_exist() -> None:
    for path in [".ci/run", ".github/workflows/test.yml"]:
        for program in re.findall(r"\.ci/[a-z]+", read(path)):
            assert (ROOT / program).stat().st_mode & 0o111, program


def test_licences_name_only_locked_crates() -> None:
    """Checks only the versions: `make lint` compares the whole file."""
    index = read("THIRD-PARTY-LICENSES.txt").partition("\n====")[0]
    named = re.findall(r"^  (\S+) (\S+) \(", index, re.MULTILINE)
    locked = set(re.findall(r'^name = "(.+)"\nversion = "(.+)"$', read("Cargo.lock"), re.MULTILINE))
    assert len(named) > 50
    assert set(named) <= locked
