"""The programs in tests/typed run, and leave out no public name. That their types are right, type checkers say in
`make lint`."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import geventhttpclient
from tests.server import running
from tests.support.requirements import missing

PACKAGE = Path(geventhttpclient.__file__).parent
PROGRAMS = {path.stem: path for path in sorted((Path(__file__).parents[1] / "typed").glob("[!_]*.py"))}

# A command, which is run and not imported, and a package that exports nothing except for its modules.
COMMANDS = {"cli", "adapters"}


def public_modules() -> Iterator[tuple[str, Path]]:
    """Yields public modules by dotted name. Modules within a package are private: the package exports the names."""
    yield "geventhttpclient", PACKAGE / "__init__.py"
    for path in sorted([*PACKAGE.iterdir(), *(PACKAGE / "adapters").iterdir()]):
        source = path / "__init__.py" if path.is_dir() else path
        if not path.name.startswith("_") and path.stem not in COMMANDS and source.suffix == ".py" and source.exists():
            yield ".".join(("geventhttpclient", *path.relative_to(PACKAGE).with_suffix("").parts)), source


def public_names(source: Path) -> list[str] | None:
    """Reads `__all__` without importing the module, which may need a package that is not installed."""
    for statement in ast.parse(source.read_text()).body:
        match statement:
            case ast.Assign(targets=[ast.Name("__all__")], value=value):
                names: list[str] = ast.literal_eval(value)
                return names
    return None


MODULES = {name: public_names(source) for name, source in public_modules()}


def used_names(program: str) -> Iterator[tuple[str, str]]:
    """Returns (module, name) of each name that a program uses from this package."""
    tree = ast.parse(program)
    aliases = {"geventhttpclient": "geventhttpclient"}
    names: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for name in node.names:
                known = name.asname or name.name
                module = f"{node.module}.{name.name}"
                if module in MODULES:
                    aliases[known] = module
                elif node.module in MODULES:
                    names[known] = node.module, name.name
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(alias), attr=name) if alias in aliases:
                yield aliases[alias], name
            case ast.Name(known, ctx=ast.Load()) if known in names:
                yield names[known]


def test_every_public_module_lists_its_names() -> None:
    assert [name for name, names in MODULES.items() if names is None] == []


def test_listed_names_are_unique_and_exist() -> None:
    for module, names in MODULES.items():
        assert [name for name, times in Counter(names).items() if times > 1] == [], module
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue  # test_program_runs reports the missing package
        assert [name for name in names or () if not hasattr(found, name)] == [], module


def test_programs_use_every_public_name() -> None:
    used = {pair for path in PROGRAMS.values() for pair in used_names(path.read_text())}
    public = {(module, name) for module, names in MODULES.items() for name in names or ()}
    assert sorted(public - used) == []


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "refused"])
def test_program_runs(name: str, url: str) -> None:
    try:
        program = importlib.import_module(f"tests.typed.{name}")
    except ModuleNotFoundError as error:
        missing(str(error.name))
    program.main(url)


def test_refused_lines_are_marked_for_both_checkers() -> None:
    lines = [line for line in PROGRAMS["refused"].read_text().splitlines() if "ignore" in line]
    assert len(lines) > 20
    for line in lines:
        assert re.search(r"# type: ignore\[[\w-]+\]  # pyright: ignore\[\w+(, \w+)*\]$", line), line


def test_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").read_bytes() == b""
