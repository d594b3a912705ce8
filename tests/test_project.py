"""What several files of the project say of the same thing: versions, targets of make, workflows, licences."""

from __future__ import annotations

import ast
import re
from importlib.metadata import version
from pathlib import Path

import pytest

import geventhttpclient

ROOT = Path(__file__).parent.parent
MAKEFILE = ROOT / "Makefile"

pytestmark = pytest.mark.skipif(not MAKEFILE.exists(), reason="not a checkout of the repository")


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_one_version() -> None:
    [project] = re.findall(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    [workspace] = re.findall(r'^\[workspace\.package\]\nversion = "(.+)"$', read("Cargo.toml"), re.MULTILINE)
    assert project == workspace == geventhttpclient.__version__ == version("geventhttpclient")
    locked = re.findall(r'^name = "geventhttpclient-\w+"\nversion = "(.+)"$', read("Cargo.lock"), re.MULTILINE)
    assert set(locked) == {project}
    assert f"## [{project}]" in read("CHANGELOG.md")


def test_every_python_that_is_named_is_tested() -> None:
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', read("pyproject.toml"))
    [tested] = re.findall(r"^VERSIONS = (.+)$", read("tools/matrix.py"), re.MULTILINE)
    assert [f"{major}.{minor}" for major, minor in ast.literal_eval(tested)] == declared
    [workflow] = re.findall(r"^ +python: (\[.+\])$", read(".github/workflows/test.yml"), re.MULTILINE)
    assert ast.literal_eval(workflow) == declared
    [oldest] = re.findall(r'^requires-python = ">=(.+)"$', read("pyproject.toml"), re.MULTILINE)
    assert oldest == declared[0]
    assert f"abi3-py{oldest.replace('.', '')}" in read("Cargo.toml")


def test_the_oldest_gevent_can_be_told() -> None:
    """tools/matrix.py makes exact requirements of these."""
    wanted = re.findall(r'^  "(gevent\b.*)",$', read("pyproject.toml"), re.MULTILINE)
    assert wanted
    assert all(re.fullmatch(r"gevent>=[\d.]+; python_version [<>=]+ '[\d.]+'", each) for each in wanted)


@pytest.mark.parametrize(
    "path", [".ci/run", ".github/workflows/publish.yml", ".github/workflows/test.yml", "CONTRIBUTING.md", "README.md"]
)
def test_named_targets_of_make_exist(path: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"(?:^|run: |`| {4})make((?: [a-z]+\b(?![=:]))+)", read(path), re.MULTILINE)
    assert named
    assert {target for each in named for target in each.split()} <= targets


def test_named_programs_exist() -> None:
    for path in [".ci/run", ".github/workflows/test.yml"]:
        for program in re.findall(r"\.ci/[a-z]+", read(path)):
            assert (ROOT / program).stat().st_mode & 0o111, program


def test_licences_name_every_crate_that_is_in_all_of_them() -> None:
    """Only the versions: `make lint` compares the whole file."""
    index = read("THIRD-PARTY-LICENSES.txt").partition("\n====")[0]
    named = re.findall(r"^  (\S+) (\S+) \(", index, re.MULTILINE)
    locked = set(re.findall(r'^name = "(.+)"\nversion = "(.+)"$', read("Cargo.lock"), re.MULTILINE))
    assert len(named) > 50
    assert set(named) <= locked
