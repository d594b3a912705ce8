"""tools/import_cycles.py, on small trees of files: what counts as an import, and which cycles are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

tool: Any = pytest.importorskip("tools.import_cycles", reason="not a checkout of the repository")


def make(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def python(directory: Path, **files: str) -> dict[str, list[str]]:
    """Returns the imports of the modules of a package; `a__b` names a module in a folder, `a__` the folder itself."""
    named = {f"{name.replace('__', '/')}.py": text for name, text in files.items()}
    named = {name.replace("/.py", "/__init__.py"): text for name, text in named.items()}
    graph = tool.graph_of(make(directory / "package", {"__init__.py": "", **named}))
    return {file: sorted(targets) for file, targets in graph.items() if targets}


def rust(directory: Path, **files: str) -> dict[str, list[str]]:
    """Returns the modules that the files of a crate use, named as above."""
    named = {f"{name.replace('__', '/')}.rs": text for name, text in files.items()}
    graph = tool.graph_of(make(directory / "src", {"lib.rs": "mod a; mod b; mod c;", **named}))
    return {file: sorted(targets) for file, targets in graph.items() if targets}


# ---------------------------------------------------------------- Python


@pytest.mark.parametrize(
    "statement",
    [
        "import package.b",
        "import package.b as other",
        "from package import b",
        "from package.b import NAME as OTHER",
        "from . import b",
        "from .b import NAME",
        "if True:\n    from package.b import NAME",
        "try:\n    import package.b\nexcept ImportError:\n    pass",
        "def function():\n    from package.b import NAME",
        "def function():\n    import package.b  # where it is needed",
        "class Kind:\n    def method(self):\n        import package.b",
        "import package.b  # lazy imports are in functions",
        "if not TYPE_CHECKING:\n    import package.b",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import package.b",
    ],
)
def test_python_import_counts(statement: str, tmp_path: Path) -> None:
    assert python(tmp_path, a=statement, b="NAME = 1") == {"a.py": ["b.py"]}


@pytest.mark.parametrize(
    "statement",
    [
        "import os, json.decoder",
        "from os import path",
        "if TYPE_CHECKING:\n    from package.b import NAME",
        "if typing.TYPE_CHECKING:\n    import package.b",
        "def function():\n    from package.b import NAME  # lazy: few programs need it",
        "def function():\n    from package.b import (  # lazy\n        NAME,\n    )",
        "from package.a import NAME",
        "'import package.b'  # import package.b",
    ],
)
def test_python_import_does_not_count(statement: str, tmp_path: Path) -> None:
    assert python(tmp_path, a=statement, b="NAME = 1") == {}


def test_python_name_is_followed_to_the_module_that_defines_it(tmp_path: Path) -> None:
    found = python(
        tmp_path,
        a="from package.inner import NAME, OTHER, function, missing\nfrom package import inner",
        inner__="from package.inner.first import NAME as NAME\nfrom .second import OTHER\ndef function(): ...",
        inner__first="from package.b import NAME",
        inner__second="OTHER: int = 1",
        b="class NAME: ...",
    )
    assert found["a.py"] == ["b.py", "inner/__init__.py", "inner/second.py"]
    assert found["inner/__init__.py"] == ["b.py", "inner/second.py"]


def test_python_name_that_leads_in_a_cycle_ends(tmp_path: Path) -> None:
    found = python(tmp_path, a="from package.b import NAME", b="from package.a import NAME")
    assert found == {"a.py": ["b.py"], "b.py": ["a.py"]}


def test_python_cycle_behind_a_facade_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = make(
        tmp_path / "package",
        {
            "__init__.py": "from package.errors import Error",
            "errors.py": "from package.names import name",
            "names.py": "\nfrom package import Error\ndef name(): ...",
            "other.py": "from package import Error, names",
        },
    )
    assert tool.main([str(package)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{package}: 2 files depend on each other: errors.py, names.py",
        f"    {package}/errors.py:1 imports names.py",
        f"    {package}/names.py:2 imports errors.py",
    ]


def test_no_cycle_exits_with_0_and_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = make(tmp_path / "package", {"__init__.py": "from package.a import A", "a.py": "A = 1"})
    crate = make(tmp_path / "src", {"lib.rs": "mod a; pub use a::A;", "a.rs": "pub struct A;"})
    assert tool.main([str(package), str(crate)]) == 0
    assert capsys.readouterr().out == ""


def test_directory_of_neither_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither an __init__\.py nor a lib\.rs"):
        tool.main([str(tmp_path)])


# ---------------------------------------------------------------- Rust


@pytest.mark.parametrize(
    "code",
    [
        "use crate::b::Name;",
        "use super::b::Name as Other;",
        "use crate::b::{self, Name};",
        "use crate::{b::{Name, Other}};",
        "use crate::b;",
        "use crate::b; fn f() { b::limit() }",
        "use crate::b::*;",
        "fn f() { use crate::b::Name; }",
        "fn f() -> crate::b::Name { todo!() }",
        "fn f() { super::b::limit(1) }",
        "impl<T: crate::b::Trait<'static>> X for T {}",
        "mod inner { use super::super::b::Name; }",
        "mod inner { fn f() {} } const fn g() {} fn f() { crate::b::limit() }",
        "pub use crate::b::Name; fn f(name: Name) {}",
        "type F = fn(u8); mod inner { type G = fn(); } use crate::b::Name;",
        "const C: char = '\"'; use crate::b::Name; const D: char = '\"';",
        'const C: &str = r#""#; use crate::b::Name; const D: &str = "";',
        "fn f<'a>(x: &'a u8) {} use crate::b::Name; fn g<'a>() {}",
        "/* a /* nested */ comment */ use crate::b::Name;",
        "#[cfg(test)] mod tests { use crate::c::Name; } use crate::b::Name;",
        "#[cfg(test)] use crate::c::{Name, Other}; use crate::b::Name;",
        "#[cfg(test)] #[inline] pub(crate) fn f() { crate::c::limit() } use crate::b::Name;",
        "#[cfg(test)] const A: [u8; 1] = [{ 1 }]; use crate::b::Name;",
    ],
)
def test_rust_use_counts(code: str, tmp_path: Path) -> None:
    kinds = "pub struct Name; pub trait Trait {} pub fn limit() {}"
    assert rust(tmp_path, a=code, b=kinds, c=kinds) == {"a.rs": ["b.rs"]}


@pytest.mark.parametrize(
    "code",
    [
        "use std::io; use other::b::Name; use ::b::Name;",
        "pub use crate::b::Name;",
        "pub(crate) use crate::b::{Name, Other as Another};",
        "pub use crate::b::*;",
        "mod b;",
        "// use crate::b::Name;\n/* crate::b::Name */\n/// [`crate::b::Name`]\nfn f() {}",
        'const TEXT: &str = "crate::b::Name \\" crate::b::Name";',
        'const TEXT: &str = r##"crate::b::Name "# "##;',
        "pub(in crate::b) fn f() {}",
        "#[cfg(test)] mod tests { use crate::b::Name; fn f() { crate::b::limit() } }",
        "#[cfg(test)] use crate::b::Name;",
        "#[cfg(all(test, unix))] fn f() { crate::b::limit() }",
        "use crate::a::Own; fn f() { self::Own::new() } pub struct Own;",
        "use serde::b; fn f() { b::limit() }",
    ],
)
def test_rust_use_does_not_count(code: str, tmp_path: Path) -> None:
    assert rust(tmp_path, a=code, b="pub struct Name; pub fn limit() {}") == {}


def test_rust_name_is_followed_to_the_file_that_defines_it(tmp_path: Path) -> None:
    found = rust(
        tmp_path,
        lib="mod a; mod b; mod c; pub use b::{Name, inner::Deep as Renamed}; pub use c::*;",
        a="use crate::{Name, Renamed, Globbed}; fn f() { crate::c::One::new() }",
        b__mod="pub mod inner; mod other; pub use other::Name;",
        b__inner="pub struct Deep;",
        b__other="pub struct Name;",
        c="pub struct Globbed; pub use crate::c::far::One; pub mod far;",
        c__far="pub enum One {}",
    )
    assert found == {"a.rs": ["b/inner.rs", "b/other.rs", "c.rs", "c/far.rs"]}


def test_rust_module_that_is_imported_depends_on_what_is_named_in_it(tmp_path: Path) -> None:
    found = rust(
        tmp_path,
        a="use crate::b; fn f() -> b::Name { b::inner::limit() }",
        b__mod="pub mod inner; pub mod other; pub use other::Name;",
        b__inner="pub fn limit() {}",
        b__other="pub struct Name;",
    )
    assert found == {"a.rs": ["b/inner.rs", "b/other.rs"]}


def test_rust_macro_is_followed_to_its_file(tmp_path: Path) -> None:
    found = rust(
        tmp_path,
        a="fn f() { crate::shout!(1); crate::whisper!(2) }",
        b="#[macro_export]\nmacro_rules! shout { ($x:expr) => { $x } }",
        c="macro_rules! whisper { () => {} } pub(crate) use whisper;",
        lib="mod a; mod b; mod c; pub(crate) use c::whisper;",
    )
    assert found == {"a.rs": ["b.rs", "c.rs"]}


def test_rust_file_that_is_compiled_for_tests_alone_is_left_out(tmp_path: Path) -> None:
    assert rust(tmp_path, a="#[cfg(test)] mod tests;", a__tests="use crate::b::Name;", b="pub struct Name;") == {}


def test_rust_uses_that_lead_in_a_cycle_end(tmp_path: Path) -> None:
    rust(tmp_path, a="pub use crate::b::Name; fn f(x: Name) {}", b="pub use crate::a::Name; pub use crate::a::*;")


def test_rust_shortest_cycle_is_shown_with_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crate = make(
        tmp_path / "src",
        {
            "lib.rs": "mod error; mod pool; mod tls; pub use error::Error;",
            "error.rs": "//! Errors.\n\nuse crate::tls::TlsError;\npub struct Error(TlsError);",
            "pool.rs": "use crate::{Error,\n    tls::Config};\npub struct Pool;",
            "tls/mod.rs": "use crate::Error;\npub struct TlsError;\npub struct Config(crate::pool::Pool);",
        },
    )
    assert tool.main([str(crate)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{crate}: 3 files depend on each other: error.rs, pool.rs, tls/mod.rs",
        f"    {crate}/error.rs:3 imports tls/mod.rs",
        f"    {crate}/tls/mod.rs:1 imports error.rs",
    ]


def test_cycles_of_several_groups_are_all_found() -> None:
    graph = {"a": {"b": 1}, "b": {"a": 1, "c": 1}, "c": {"d": 1}, "d": {"e": 1}, "e": {"c": 1}, "f": {"a": 1}}
    assert tool.cycles(graph) == [["a", "b"], ["c", "d", "e"]]
