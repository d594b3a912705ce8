"""Tests of tools/phrases.py: banned phrases are found in prose of every kind, and only there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "phrases.py"

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="not a checkout of the repository")

FOUND = {
    "a paragraph": ("a.md", "A response that nobody reads.", "1: nobody"),
    "letter case": ("a.md", "# On it\n\nNobody reads it.", "3: Nobody"),
    "a phrase across a line end": ("a.md", "One line.\nIt is of no\nuse.", "2: of no use"),
    "a list": ("a.md", "- one\n- two comes to\n  grief\n", "2: comes to grief"),
    "a comment inside a code block": ("a.md", "```python\nx = 1  # nobody\n```\n", "2: nobody"),
    "a note inside a directive": ("a.md", "```{note}\nIt is told by an error.\n```\n", "2: is told"),
    "the beginning of a sentence": ("a.md", "Good. What it costs is little.", "1: What it costs is"),
    "the beginning of an item": ("a.md", "- What `x` sends is wrong.", "1: What `x` sends is"),
    "a docstring": ("a.py", 'def f():\n    """Returns what\n    came."""\n', "2: what came"),
    "the beginning of a docstring": ("a.py", 'def f():\n    """What it does."""\n', "2: What it does"),
    "the docstring of a function": ("a.py", 'def f():\n    """Whether it is so."""\n', "2: Whether"),
    "the docstring of an attribute": ("a.py", 'x = 1\n"""How long it takes."""\n', "2: How long"),
    "comments in two lines": ("a.py", "# It is under\n# way.\n", "1: under way"),
    "literals side by side": (
        "a.py",
        'raise ValueError(\n    "it comes to "\n    f"grief {x}"\n)\n',
        "2: comes to grief",
    ),
    "a Rust comment": ("a.rs", "// It is under\n// way.\n", "1: under way"),
    "the documentation of a Rust type": (
        "a.rs",
        "/// Whether it is so.\n#[derive(Clone)]\npub enum A {}\n",
        "1: Whether",
    ),
    "a Rust string": ("a.rs", 'f("by way \\\n   of {peer}");\n', "1: by way of"),
    "a Makefile": ("Makefile", "test: build ## whoever tests\n", "1: whoever"),
    "TOML": ("a.toml", 'a = "1" # of no\nb = "for whom"\n', "2: whom"),
    "YAML": ("a.yml", "a: 1\n# nobody\n", "2: nobody"),
}

NOT_FOUND = {
    "a code span": ("a.md", "The user `nobody` and ``what came``."),
    "a code block": ("a.md", "Text.\n\n    nobody = 1\n\n```\nnobody = 1\n```\n"),
    "an address": ("a.md", "See [here](nobody.md) and https://example.org/nobody."),
    "part of a word": ("a.md", "nobodys, be-fit, whomp, a non-nobody."),
    "a question": ("a.md", "What may be sent?"),
    "an identifier": ("a.py", "nobody = whom.whoever('nobody')\n"),
    "a string without blanks": ("a.py", 'path / "nobody"\n'),
    "what is interpolated": ("a.py", 'f"the user {nobody}"\n'),
    "bytes": ("a.py", 'b"for nobody at all"\n'),
    "an attribute that is true or false": ("a.py", 'x = 1\n"""Whether it is so."""\n'),
    "a Rust field": ("a.rs", "struct A {\n    /// Whether it is so.\n    a: bool,\n}\n"),
    "Rust code": ("a.rs", "fn nobody<'a>(whom: &'a str) -> char { '\"' }\n"),
    "two paragraphs": ("a.md", "It is of no\n\nuse."),
    "a heading and its text": ("a.md", "# Of no\nuse"),
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("case", FOUND)
def test_phrase_in_prose_is_found(case: str, tmp_path: Path) -> None:
    name, text, expected = FOUND[case]
    (tmp_path / name).write_text(text)
    done = run("--root", tmp_path)
    assert done.stdout.partition(" -> ")[0] == f"{name}:{expected}"
    assert done.stdout.count("\n") == 1
    assert (done.returncode, done.stderr) == (1, "1 banned phrase in 1 file\n")


@pytest.mark.parametrize("case", NOT_FOUND)
def test_phrase_in_code_is_not_found(case: str, tmp_path: Path) -> None:
    name, text = NOT_FOUND[case]
    (tmp_path / name).write_text(text)
    done = run("--root", tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_finding_names_a_replacement(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("An error by TLS.")
    assert run("--root", tmp_path).stdout == "a.md:1: by TLS -> over TLS\n"


def test_results_and_licences_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    for name in ("benchmarks/results/a.md", "THIRD-PARTY-LICENSES.txt", "LICENSE"):
        (tmp_path / name).write_text("nobody")
    assert run("--root", tmp_path).returncode == 0


def test_places_limit_the_search(tmp_path: Path) -> None:
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text("nobody")
    assert run("--root", tmp_path, tmp_path / "b.md").stdout.startswith("b.md:1: nobody")


def test_counts_are_by_phrase_and_by_folder(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("nobody, by TLS, nobody")
    done = run("--root", tmp_path, "--count")
    assert "     1  by TLS\n" in done.stdout
    assert "     3  docs\n" in done.stdout
    assert done.stdout.endswith("3 banned phrases in 1 file\n")
    assert done.returncode == 1
