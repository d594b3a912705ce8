"""README and documentation: the code runs and prints the output shown, and the links exist."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from geventhttpclient import HTTPClient, UserAgent
from geventhttpclient.client import HTTPClientPool
from tests.support.certificates import Certificates
from tests.support.dependents import need
from tests.support.doc_examples import ROOT, Page, Servers, keeps, promises, run, says

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
WORDS = {"python", "console", "sh", "text"}
DIRECTIVE = re.compile(r"\{[a-z-]+\}.*")

SEPARATOR = "=== end of a command"


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("servers"), certificates)
    yield servers
    servers.close()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with the commands of this interpreter and without proxies. The project's modules can be
    imported."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    # The package is the installed one.
    paths = [str(ROOT)]
    return {**kept, "PATH": f"{tmp_path / 'bin'}:{kept['PATH']}", "PYTHONPATH": ":".join(paths), "COLUMNS": "120"}


@pytest.mark.parametrize("path", [path for path in PAGES if Page(path).program.strip()], ids=name_of)
def test_page_code_prints_its_comments(
    path: Path, servers: Servers, environment: dict[str, str], tmp_path: Path
) -> None:
    """In a new interpreter, without warnings; the output is that of the comments, in that order."""
    page = Page(path)
    servers.furnish(tmp_path, page)
    program = servers.put(page.program)
    (tmp_path / "page.py").write_text(program)
    code, printed, errors = run([sys.executable, "-W", "error", "page.py"], tmp_path, environment)
    assert code == 0, errors
    assert errors == ""
    lines = iter(printed.splitlines())
    for promise in promises(program):
        # Continues after the last match, since the order matters.
        assert any(keeps(line, promise) for line in lines), f"{promise!r} is not among what comes next in\n{printed}"
    for text in page.printed:
        assert servers.put(text) in printed, printed


@pytest.mark.parametrize("path", [path for path in PAGES if Page(path).dialogues], ids=name_of)
def test_page_commands_print_the_shown_output(
    path: Path, servers: Servers, environment: dict[str, str], tmp_path: Path
) -> None:
    """Runs each dialogue in a shell, which must print the shown output. A command that ends in `&` runs in the
    background."""
    page = Page(path)
    if "locust" in "".join(page.files):
        need("locust")
    if "import docker" in "".join(page.files.values()):
        need("docker")
    servers.furnish(tmp_path, page)
    for name, text in page.files.items():
        (tmp_path / name).write_text(servers.put(text))
    for dialogue in page.dialogues:
        lines = [servers.put(command) for command, _ in dialogue]
        script = "\n".join(f"{line}\necho; echo '{SEPARATOR}'" for line in lines)
        code, printed, errors = run(["bash", "-eu", "-o", "pipefail", "-c", script], tmp_path, environment)
        assert code == 0, f"{script}\n{printed}\n{errors}"
        outputs = printed.split(f"\n{SEPARATOR}\n")
        for (command, shown), output in zip(dialogue, outputs, strict=False):
            if shown:
                assert says(output, servers.put(shown)), f"{command}\n{output}\n{errors}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_page_blocks_have_a_known_language(path: Path) -> None:
    """A block in any other language would not be run."""
    page = Page(path)
    fences = re.findall(r"^(?:```+|:::+)", page.text, re.MULTILINE)
    nested = sum(len(re.findall(r"^(?:```+|:::+)", block.text, re.MULTILINE)) for block in page.blocks)
    assert len(fences) == 2 * len(page.blocks) + nested, "a fence is not closed"
    assert not re.search(r"^ +```", page.text, re.MULTILINE), "a fence is indented, and is not looked at"
    assert not re.search(r"\n\n {4}\S", FENCED.sub("", page.text)), (
        "code is indented, and does not say of what kind it is"
    )
    for block in page.blocks:
        assert block.word in WORDS or DIRECTIVE.fullmatch(block.word), f"line {block.line}: {block.word!r}"


def test_commands_of_setup_blocks_exist() -> None:
    """Targets of make are in the Makefile, extras in pyproject.toml, packages of Debian are those of .ci/servers."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    optional = (
        (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    )
    extras = set(re.findall(r"^([a-z]+) = \[", optional, re.MULTILINE))
    installed = (ROOT / ".ci" / "servers").read_text().split()
    for path in PAGES:
        for block in Page(path).blocks:
            if block.word != "sh":
                continue
            for line in block.text.splitlines():
                command = line.partition("#")[0].partition("  ")[0].split()
                match command:
                    case []:
                        continue
                    case ["make", *words]:
                        assert {word for word in words if "=" not in word} <= targets, line
                    case ["pip", "install", *packages]:
                        for package in packages:
                            for extra in re.findall(r"geventhttpclient\[([a-z]+)\]", package):
                                assert extra in extras, line
                    case ["apt-get", "install", *packages]:
                        assert set(packages) <= set(installed), line
                    case ["python", "-m", "tests.server", "8080"]:
                        pass  # the server that the code sends requests to
                    case ["python", script, *_] | [".venv/bin/python", script, *_]:
                        assert (ROOT / script).is_file(), line
                    case _:
                        pytest.fail(f"{name_of(path)}: nobody looks at {line!r}")


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_page_links_lead_to_files(path: Path) -> None:
    """Sphinx checks those of docs/ and their anchors; a page is also read in the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file) if file else path
        assert place.exists(), f"{name_of(path)}: {target}"
        if anchor:
            assert anchor in anchors(place.read_text()), f"{name_of(path)}: {target}"


FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Returns the anchors of headings, by GitHub's rule."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_page_limits_equal_those_of_the_code() -> None:
    """Each name in the page is that of a constant or a field, and Python's constants have the value in the page."""
    rows = re.findall(r"^\| `([\w.:]+)` \| ([^|]+) \|", (DOCS / "reference" / "limits.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    sources = "".join(path.read_text() for path in (ROOT / "crates").rglob("src/**/*.rs"))
    for name, said in rows:
        if "." in name:
            module, _, constant = name.rpartition(".")
            value = getattr(importlib.import_module(f"geventhttpclient.{module}"), constant)
            unit = {"KiB": 1024, "MiB": 1024**2}.get(said.split()[-1], 1)
            assert float(said.split()[0].replace(",", "")) * unit == value, name
        else:
            constant = name.rpartition("::")[2]
            is_argument = constant in ARGUMENTS
            assert is_argument or re.search(rf"\b{constant}: \w+", sources), name


ARGUMENTS = {name for of in (HTTPClient, HTTPClientPool, UserAgent) for name in inspect.signature(of).parameters}


# ---------------------------------------------------------------- tests of the comparison


@pytest.mark.parametrize(
    ("printed", "promise", "expected"),
    [
        ("200", "200", True),
        ("200", "200: the next request works", True),
        ("a, b", "a, b", True),
        ("a, c", "a, b", False),
        ("20", "200", False),
        ("took 0.123 s", "took ... s", True),
        ("200", "615", False),
    ],
)
def test_printed_text_is_compared_with_the_promised_one(printed: str, promise: str, expected: bool) -> None:
    assert keeps(printed, promise) is expected
