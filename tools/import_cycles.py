"""Finds import cycles in the Python package, and among the files of each crate.

`python tools/import_cycles.py [DIRECTORY...]` prints each cycle with the lines that close it, and exits with 1 if it
has found any. A directory with an `__init__.py` is a Python package, one with a `lib.rs` the sources of a crate.
Without arguments all of this repository are checked.

An import depends on the module that defines the name, not on one that only passes it on: `from package import Name` is
followed through `__init__.py`, and `use crate::Name` through `pub use` in lib.rs and mod.rs.

Python: imports in functions count like those of the module. Two kinds do not: those below `if TYPE_CHECKING:`, and
those in a function whose line has a comment that begins with `# lazy`, which says that the module is imported late
because of what it costs at start-up, not in order to hide a cycle.

Rust: `use` counts, and so do paths that are written out (`crate::error::Error`, `super::limit()`). Code that is
compiled only for tests (`#[cfg(test)]`) does not count. Neither does `mod name;`, nor a `pub use` of names that the
file itself does not use.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent

TREES = ("python/geventhttpclient", "crates/wire/src", "crates/engine/src", "crates/python/src")

Graph = dict[str, dict[str, int]]
"""Dependencies by file, each with the first line that has it."""


# ----------------------------------------------------------------------------------------------------------- cycles


def cycles(graph: Graph) -> list[list[str]]:
    """Returns a shortest cycle of each group of files that all depend on each other, in the order of their names."""
    return [_shortest(graph, group) for group in _groups(graph) if len(group) > 1]


def _groups(graph: Graph) -> list[set[str]]:
    """Returns the strongly connected components (Tarjan's algorithm, without recursion)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_files: list[str] = []
    found: list[set[str]] = []
    for start in sorted(graph):
        if start in number:
            continue
        number[start] = lowest[start] = len(number)
        open_files.append(start)
        pending = [(start, iter(sorted(graph[start])))]
        while pending:
            file, targets = pending[-1]
            target = next(targets, None)
            if target is None:
                pending.pop()
                if pending:
                    above = pending[-1][0]
                    lowest[above] = min(lowest[above], lowest[file])
                if lowest[file] == number[file]:
                    at = open_files.index(file)
                    found.append(set(open_files[at:]))
                    del open_files[at:]
            elif target not in number:
                number[target] = lowest[target] = len(number)
                open_files.append(target)
                pending.append((target, iter(sorted(graph.get(target, {})))))
            elif target in open_files:
                lowest[file] = min(lowest[file], number[target])
    return sorted(found, key=min)


def _shortest(graph: Graph, group: set[str]) -> list[str]:
    """Returns a shortest cycle within a group, beginning with the first of its names."""
    best: list[str] = []
    for start in sorted(group):
        paths = [[start]]
        seen = {start}
        while paths and not (best and len(paths[0]) >= len(best)):
            path = paths.pop(0)
            if start in graph.get(path[-1], {}):
                best = path
                break
            for target in sorted(graph.get(path[-1], {})):
                if target in group and target not in seen:
                    seen.add(target)
                    paths.append([*path, target])
    at = best.index(min(best))
    return best[at:] + best[:at]


# ----------------------------------------------------------------------------------------------------------- Python


@dataclass
class PythonModule:
    """A module: the names that it imports, each with the module and the name there, and its own imports."""

    file: str
    bound: dict[str, tuple[str, str]] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)
    # Module, name (None for the module itself), line.
    imports: list[tuple[str, str | None, int]] = field(default_factory=list)


def python_graph(package: Path) -> Graph:
    """Returns what the modules of a package import of each other."""
    modules: dict[str, PythonModule] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        parent = name if parts[-1] == "__init__" else name.rpartition(".")[0]
        modules[name] = _read_python(path, path.relative_to(package).as_posix(), parent)
    graph: Graph = {module.file: {} for module in modules.values()}
    for module in modules.values():
        for source, imported, line in module.imports:
            target = _defining(modules, source, imported)
            if target is not None and target != module.file:
                graph[module.file].setdefault(target, line)
    return graph


def _read_python(path: Path, file: str, parent: str) -> PythonModule:
    text = path.read_text(encoding="utf-8")
    module = PythonModule(file)
    lazy = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and re.match(r"#\s*lazy\b", token.string)
    }

    def visit(statements: Iterable[ast.stmt], in_function: bool, for_types: bool) -> None:
        for node in statements:
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            counts = not for_types and not (in_function and not lazy.isdisjoint(lines))
            match node:
                case ast.Import(names=names):
                    for name in names:
                        if counts:
                            module.imports.append((name.name, None, node.lineno))
                case ast.ImportFrom(names=names):
                    source = _absolute(node, parent)
                    for name in names:
                        if not in_function and (not for_types or name.name not in module.bound):
                            module.bound[name.asname or name.name] = source, name.name
                        if counts:
                            module.imports.append((source, name.name, node.lineno))
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    if not in_function:
                        module.defined.add(node.name)
                    visit(node.body, True, for_types)
                case ast.ClassDef():
                    if not in_function:
                        module.defined.add(node.name)
                    visit(node.body, in_function, for_types)
                case ast.If(test=test):
                    visit(node.body, in_function, for_types or _is_type_checking(test))
                    visit(node.orelse, in_function, for_types)
                case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    if not in_function:
                        module.defined |= {
                            each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)
                        }
                case _:
                    for block in ("body", "orelse", "finalbody"):
                        visit(getattr(node, block, []), in_function, for_types)
                    for handler in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
                        visit(handler.body, in_function, for_types)

    visit(ast.parse(text, str(path)).body, False, False)
    return module


def _absolute(node: ast.ImportFrom, parent: str) -> str:
    """Returns the module that an import names, whose `parent` is the package that relative ones begin in."""
    if not node.level:
        return node.module or ""
    parts = parent.split(".")
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _defining(modules: dict[str, PythonModule], source: str, name: str | None) -> str | None:
    """Returns the file of the module that defines a name; None for one outside of the package."""
    seen = set()
    while name is not None and (source, name) not in seen:
        seen.add((source, name))
        if f"{source}.{name}" in modules:
            return modules[f"{source}.{name}"].file
        module = modules.get(source)
        if module is None or name in module.defined or name not in module.bound:
            break
        source, name = module.bound[name]
    return modules[source].file if source in modules else None


# ------------------------------------------------------------------------------------------------------------- Rust

_TOKEN = re.compile(
    r"""
    //[^\n]* | (?P<block>/\*)
    | b?r(?P<hashes>\#*)"(?:.|\n)*?"(?P=hashes)
    | [bc]?"(?:\\(?:.|\n)|[^"\\])*"
    | b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^'\\])'
    | (?P<token>'?(?:r\#)?[A-Za-z_]\w* | :: | => | -> | \S)
    """,
    re.VERBOSE,
)
_ITEMS = frozenset({"const", "enum", "fn", "macro_rules", "mod", "static", "struct", "trait", "type", "union"})
_BEFORE_ITEMS = frozenset({"async", "extern", "impl", "pub", "unsafe", "use"}) | _ITEMS
_OPENING, _CLOSING = frozenset("({["), frozenset(")}]")

Token = tuple[str, int]


@dataclass
class RustModule:
    """A module of a crate, in a file of its own or within another's."""

    file: str
    parent: RustModule | None = None
    children: dict[str, RustModule] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)
    bound: dict[str, list[str]] = field(default_factory=dict)
    globs: list[list[str]] = field(default_factory=list)
    # Paths of `use` and of `pub use`, each with its line and the name that it has here.
    uses: list[tuple[list[str], int, str]] = field(default_factory=list)
    passed_on: list[tuple[list[str], int, str]] = field(default_factory=list)
    # Paths that are written out, each with its line.
    paths: list[tuple[list[str], int]] = field(default_factory=list)
    # Modules of files that are compiled for tests alone.
    for_tests: set[str] = field(default_factory=set)
    # The names in its code, other than in `use`.
    named: set[str] = field(default_factory=set)


def rust_graph(sources: Path) -> Graph:
    """Returns what the files of a crate use of each other."""
    root = RustModule("lib.rs")
    exported: dict[str, RustModule] = {}
    modules: list[RustModule] = []
    for path in sorted(sources.rglob("*.rs"), key=lambda path: (len(path.parts), path.name != "mod.rs", path)):
        parts = [*path.relative_to(sources).parent.parts, path.stem]
        if parts[-1] == "mod":
            del parts[-1]
        module = root
        for part in [] if parts == ["lib"] else parts:
            module = module.children.setdefault(part, RustModule("", module))
        module.file = path.relative_to(sources).as_posix()
        modules += _read_rust(path.read_text(encoding="utf-8"), module, exported)
    root.children.pop("main", None)
    tested = {id(child) for each in modules for name in each.for_tests for child in _below(each.children.get(name))}
    modules = [each for each in modules if id(each) not in tested]
    graph: Graph = {module.file: {} for module in modules}
    for module in modules:
        for target, line in _targets(module, root, exported):
            if target.file != module.file and target.file in graph:
                graph[module.file].setdefault(target.file, line)
    return graph


def _below(module: RustModule | None) -> Iterator[RustModule]:
    if module is not None:
        yield module
        for child in module.children.values():
            yield from _below(child)


def _targets(module: RustModule, root: RustModule, exported: dict[str, RustModule]) -> Iterator[tuple[RustModule, int]]:
    """Yields the modules that define what a module uses, each with the line of the use."""
    heads = {path[0] for path, _ in module.paths}
    imported = [*module.uses, *(use for use in module.passed_on if use[2] in module.named)]
    for path, line, name in imported:
        found = _resolve(module, path, root, exported)
        # A module that is imported in order to name things in it: the paths say which these are.
        if found is not None and not (found[1] and name in heads):
            yield found[0], line
    for path, line in module.paths:
        found = _resolve(module, path, root, exported)
        if found is not None:
            yield found[0], line


def _resolve(
    module: RustModule,
    path: list[str],
    root: RustModule,
    exported: dict[str, RustModule],
    seen: frozenset[tuple[int, str]] = frozenset(),
) -> tuple[RustModule, bool] | None:
    """Returns the module that defines what a path names, and whether the path names the module itself.

    None for another crate's, and for a cycle of `pub use`.
    """
    here: RustModule | None = module
    rest = path
    if path[0] == "crate":
        here, rest = root, path[1:]
    while here is not None and rest and rest[0] in ("self", "super"):
        here, rest = here.parent if rest[0] == "super" else here, rest[1:]
    if rest is path and path[0] not in module.children and path[0] not in module.bound:
        return None
    while here is not None and rest:
        name = rest[0]
        if name in here.children:
            here, rest = here.children[name], rest[1:]
            continue
        if (id(here), name) in seen:
            return None
        seen |= {(id(here), name)}
        if name in here.bound and name not in here.defined:
            return _resolve(here, [*here.bound[name], *rest[1:]], root, exported, seen)
        if here is root and name in exported:
            return exported[name], False
        # A name without a definition may have been defined by a macro.
        return (None if name in here.defined else _in_globs(here, rest, root, exported, seen)) or (here, False)
    return None if here is None else (here, True)


def _in_globs(
    module: RustModule,
    path: list[str],
    root: RustModule,
    exported: dict[str, RustModule],
    seen: frozenset[tuple[int, str]],
) -> tuple[RustModule, bool] | None:
    """Returns what `_resolve` does, for a name that comes by a `use ...::*`; None if none of them brings it."""
    for glob in module.globs:
        found = _resolve(module, glob, root, exported, seen)
        if found is not None and any(
            path[0] in names for names in (found[0].children, found[0].defined, found[0].bound)
        ):
            return _resolve(found[0], ["self", *path], root, exported, seen)
    return None


def _read_rust(text: str, module: RustModule, exported: dict[str, RustModule]) -> list[RustModule]:
    """Reads a file into its module, and returns that and the modules within it."""
    tokens = list(_tokens(text))
    modules = [module]
    # The modules around the token, each with the depth of braces that it ends at.
    around: list[tuple[RustModule, int]] = [(module, -1)]
    depth = at = 0
    is_exported = False
    while at < len(tokens):
        token, line = tokens[at]
        here, floor = around[-1]
        if token == "#" and _text(tokens, at + 1) in ("[", "!"):
            opening = at + (1 if _text(tokens, at + 1) == "[" else 2)
            end = _closing(tokens, opening)
            words = [each for each, _ in tokens[opening + 1 : end]]
            is_exported |= words == ["macro_export"]
            after = end + 1
            if words[:4] == ["cfg", "(", "test", ")"] or words[:5] == ["cfg", "(", "all", "(", "test"]:
                after = _after_item(tokens, after, here)
            at = after
        elif token == "use" and _text(tokens, at - 1) not in ("::", "."):
            end = at
            while _text(tokens, end) not in (";", ""):
                end += 1
            is_public = _text(tokens, at - 1) == "pub" or _text(tokens, at - 1) == ")"
            for path in _use_paths([each for each, _ in tokens[at + 1 : end]]):
                _bind(here, path, line, is_at_top=depth == floor + 1, is_public=is_public)
            at = end + 1
        elif token == "mod" and _text(tokens, at + 2) == "{":
            child = RustModule(here.file, here)
            here.children[_text(tokens, at + 1)] = child
            modules.append(child)
            around.append((child, depth))
            depth += 1
            at += 3
        elif token in _ITEMS and depth == floor + 1:
            at += 2 if token == "macro_rules" else 1
            name = _text(tokens, at)
            if token == "macro_rules" and is_exported:
                exported[name] = here
            # Not `const fn`, nor the type of a function.
            if name not in _BEFORE_ITEMS and name[:1].isidentifier():
                here.defined |= {name} if token != "mod" else set()
                at += 1
            is_exported = False
        elif _text(tokens, at + 1) == "::" and token[:1].isidentifier() and _text(tokens, at - 1) not in ("::", "in"):
            path = [token]
            while _text(tokens, at + 1) == "::" and _text(tokens, at + 2)[:1].isidentifier():
                path.append(_text(tokens, at + 2))
                at += 2
            here.paths.append((path, line))
            at += 1
        else:
            here.named.add(token)
            depth += (token in _OPENING) - (token in _CLOSING)
            if token == "}" and depth <= floor:
                around.pop()
            at += 1
    return modules


def _tokens(text: str) -> Iterator[Token]:
    """Yields the identifiers and signs of a source with their lines: no comments, no literals of text."""
    at, line = 0, 1
    while match := _TOKEN.search(text, at):
        line += text.count("\n", at, match.start())
        end = match.end()
        if match["block"]:
            level = 1
            for each in re.finditer(r"/\*|\*/", text[end:]):
                level += 1 if each[0] == "/*" else -1
                if level == 0:
                    end += each.end()
                    break
            else:
                end = len(text)
        elif (token := match["token"]) is not None:
            yield token.removeprefix("r#"), line
        line += text.count("\n", match.start(), end)
        at = end


def _text(tokens: list[Token], at: int) -> str:
    return tokens[at][0] if 0 <= at < len(tokens) else ""


def _closing(tokens: list[Token], opening: int) -> int:
    """Returns where the bracket at `opening` is closed."""
    depth = 0
    for at in range(opening, len(tokens)):
        depth += (tokens[at][0] in _OPENING) - (tokens[at][0] in _CLOSING)
        if depth == 0:
            return at
    return len(tokens)


def _after_item(tokens: list[Token], at: int, module: RustModule) -> int:
    """Returns where the item that begins at a token ends; the same place if that is no item."""
    while _text(tokens, at) == "#":
        at = _closing(tokens, at + 1) + 1
    start = at
    while _text(tokens, at) == "pub":
        at += 1
        if _text(tokens, at) == "(":
            at = _closing(tokens, at) + 1
    if _text(tokens, at) not in _BEFORE_ITEMS:
        return start
    if _text(tokens, at) == "mod" and _text(tokens, at + 2) == ";":
        module.for_tests.add(_text(tokens, at + 1))
    is_use = _text(tokens, at) == "use"
    while at < len(tokens):
        token = _text(tokens, at)
        if token == ";":
            return at + 1
        if token in _OPENING:
            at = _closing(tokens, at)
            if token == "{" and not is_use:
                return at + 1
        at += 1
    return at


def _use_paths(tokens: list[str]) -> Iterator[list[str]]:
    """Yields each path of a `use`: its segments, and `as` with a name if it has another."""
    prefix: list[str] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token == "{":
            depth, start = 0, at + 1
            for end in range(at, len(tokens)):
                depth += (tokens[end] == "{") - (tokens[end] == "}")
                if depth == 0 or (depth == 1 and tokens[end] == ","):
                    for path in _use_paths(tokens[start:end]):
                        yield [*prefix, *(path[1:] if path[0] == "self" and prefix else path)]
                    start = end + 1
                if depth == 0:
                    return
        elif token != "::":
            prefix.append(token)
        at += 1
    if prefix:
        yield prefix


def _bind(module: RustModule, path: list[str], line: int, is_at_top: bool, is_public: bool) -> None:
    """Notes a path of a `use`; the names of those in functions are not names of the module, but lead as far."""
    name = path[-1]
    target = path[:-2] if path[-2:-1] == ["as"] else path
    if name == "*":
        target = path[:-1]
        module.globs.append(target)
    elif target != [name] and (is_at_top or name not in module.bound):
        module.bound[name] = target
    (module.passed_on if is_public else module.uses).append((target, line, name))


# ------------------------------------------------------------------------------------------------------------- main


def graph_of(directory: Path) -> Graph:
    """Returns the graph of a package or a crate. ValueError if the directory is neither."""
    if (directory / "__init__.py").exists():
        return python_graph(directory)
    if (directory / "lib.rs").exists():
        return rust_graph(directory)
    raise ValueError(f"{directory} has neither an __init__.py nor a lib.rs")


def main(arguments: list[str]) -> int:
    is_clean = True
    for name in arguments or [str(ROOT / tree) for tree in TREES]:
        directory = Path(name)
        graph = graph_of(directory)
        groups = [group for group in _groups(graph) if len(group) > 1]
        for group, cycle in zip(groups, cycles(graph), strict=True):
            is_clean = False
            print(f"{directory}: {len(group)} files depend on each other: {', '.join(sorted(group))}")
            for file, target in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
                print(f"    {directory / file}:{graph[file][target]} imports {target}")
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
