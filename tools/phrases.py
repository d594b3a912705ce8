"""Checks the prose of the repository for banned phrases: private dialect that has a plain technical term.

It reads Markdown, comments, docstrings, Rust documentation comments and string literals (error texts, help texts).
Line ends inside a paragraph do not hide a phrase. Code is not prose: code spans in backticks, code blocks and
identifiers are skipped, but the comments inside a code block are read.

    python tools/phrases.py                 file:line: phrase -> what to write instead; exit status 1 if any was found
    python tools/phrases.py docs README.md  only these files and folders
    python tools/phrases.py --count         the number of findings for each phrase and for each folder
"""

from __future__ import annotations

import argparse
import re
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

# Phrases, each with a plainer one. A blank matches any white space; `|`, `(?:...)` and `?` are those of `re`.
ANYWHERE = {
    # Actors without a name.
    "nobody(?: else)?(?:'s)?": "name the actor (no client, no task), or use the passive",
    "no one": "name the actor (no client, no task), or use the passive",
    "who(?:m)?ever": "name the actor: the caller, your code, a task that",
    "(?:some|any|every)body(?: else)?(?:'s)?": "name the actor: another task, any caller, all clients",
    "someone(?: else)?(?:'s)?": "name the actor: another task, the caller",
    "whom": "name the actor: the server, the caller",
    "(?:he|him|his|himself)": "it, its, they; or name the actor",
    # Verbs that stand for those of the field.
    "(?:come|comes|came|coming) to grief": "fails",
    "(?:come|comes|came) to (?:an|its|their) ends?": "ends, completes",
    "c[ao]mes? of": "results from, happens with",
    "(?:is|are|was|were|be|been|being) told(?! apart)": "receives, is notified of, gets, raises",
    "(?:tell|tells|told) (?:us|it|them) (?:of|that|by|when|so)": "reports, notifies",
    "tells? of": "reports, shows",
    "ha(?:s|ve) (?:a|no) word (?:of|on|for|with)": "describes; knows nothing about",
    "(?:a|no) word (?:on it|to|about it|of it)": "a message; silently",
    "with a word": "with a message",
    "without a word": "silently",
    "(?:shake|shakes|shook|shaking) hands": "performs the TLS handshake",
    "under way": "in flight, in progress",
    "(?:has|have|had) come in": "has arrived, was received",
    "(?:is|are|was|were) looked at by(?! and)": "is checked by, is read by",
    "(?:go|goes|went|gone|going) on with": "continues",
    "(?:is|are|may|can|could|to) (?:to )?be had": "is available",
    "lets? go of": "releases",
    "(?:is|are|was|were) let go": "is released",
    "(?:say|says|said) goodbye": "sends GOAWAY, closes",
    "patien(?:ce|tly)": "timeout; waits with a timeout",
    "as (?:it|they) likes?": "in any way",
    "(?:has|have|had) had enough": "stopped reading, closed",
    "(?:an|has an) ear to": "while watching for",
    "finds? no place": "waits for a slot",
    "turned away": "rejected, refused",
    "bears? on": "affects, determines",
    "stands? (?:for|in|beside|before|behind|below|above|there|elsewhere)": "is, is in, replaces, represents, precedes",
    "(?:is|are) there already": "already exists",
    # Things.
    "what is otherwise": "the differences",
    "(?:does|do|did|is|are) (?:it )?otherwise": "differs",
    "of no use": "cannot be used, invalid",
    "where there (?:is|are|was|were) (?:none|no|one)": "if there is no ...",
    "where (?:it|they) (?:has|have|is|are) none": "if it has no ...",
    "all there is to": "nothing else to",
    "what there is": "everything, the contents",
    "what (?:it|they) (?:was|were|is|are) asked for": "the requested ...",
    "what was asked for": "the requested ...",
    "what (?:has|have|had) (?:come|gone)": "the data received or sent so far",
    "what c[ao]mes?(?: out)?": "the result, the data received",
    "what goes out": "the data sent",
    "what (?:it|one) is not": "name it",
    "(?:much|more|nothing|anything) to say": "data to send, data to read",
    "(?:connection|client|server|request|response|stream|head|peer|session)s? of HTTP/[12](?:\\.[01])?": "HTTP/2 ...",
    "by TLS": "over TLS",
    "by HTTP/[12](?:\\.[01])?": "over HTTP/...",
    "by SOCKS": "via SOCKS",
    "by way of": "via, through",
    "asked for by(?! default)": "requested with",
    "in the place of": "instead of",
    "at hand": "available, buffered",
    "in hand": "open, unread",
    "in words": "as text",
    "but for": "except for",
    "for want of": "without, because there is no",
    "by and by": "over time",
    "by turns": "alternately",
    "up to the program's?": "your code decides",
    "of the program's": "the program's ...",
    "of ours": "our ...",
    "unasked": "unsolicited",
    "many an?": "many",
}

# Beginnings of a sentence.
_NO_QUESTION = r"(?![^.!;]*\?)[^.?!:;]{1,80}?"
_VERB = "(?:is|are|was|were|has|have|had|goes|comes|gets|may|must|can|cannot|does|should)"
SENTENCES = {
    f"What {_NO_QUESTION} {_VERB}": "name the thing that is, does or has it",
    f"Who {_NO_QUESTION} {_VERB}": "name the actor",
    "Else": "Otherwise",
    "Nor": "a sentence of its own, with the negation at the verb",
}

# Beginnings of a documentation text.
OPENINGS = {
    "What": "a verb for functions (Returns ...), a noun for the rest",
    "Who": "name the actor",
    "Of": "a verb for functions, a noun for the rest",
    "How (?:long|many|much|often|far|large)": "a noun: Time, Number of, Size of",
    "As": "a verb for functions, a noun for the rest",
    "Where": "a noun: Location of",
    "To be": "a verb for functions, a noun for the rest",
    "That": "a verb: Checks that",
    "So many": "a noun: Number of",
    "Else": "a verb for functions, a noun for the rest",
}

# Beginnings of the documentation of a function or a type. "Whether" is fine for an attribute or a field.
DEFINITIONS = {
    "Whether": "Returns True if; of a property: True if",
}

# Folders without our own prose, and the two files that quote the phrases.
SKIPPED_FOLDERS = ("benchmarks/results", "fuzz/corpus", "target", "dist", "node_modules")
HIDDEN_FOLDERS = (".cargo", ".ci", ".github")
SKIPPED_FILES = ("THIRD-PARTY-LICENSES.txt", "Cargo.lock", "tools/phrases.py", "tests/docs/test_phrases.py")

_SPAN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_ADDRESS = re.compile(r"https?://\S+|(?<=\])\([^)\s]*\)")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})(.*)")
_DIRECTIVE = re.compile(r"\{(?!code|literalinclude|eval-rst|toctree|auto)[\w-]+\}")
_BULLET = re.compile(r"\s*(?:[-*+]|\d+\.)\s|\s*(?:#+\s|\||>)")
_COMMENT_IN_CODE = re.compile(r"(?:^|\s)(?:#|//)\s(.*)")
_RUST_DEFINITION = re.compile(
    r"\s*(?:pub(?:\([^)]*\))?\s+)?(?:(?:const|async|unsafe|extern(?: \"C\")?|default)\s+)*"
    r"(?:fn|struct|enum|trait|union|type|mod|macro_rules!)\b"
)


class Passage(NamedTuple):
    """A piece of prose, as lines with their numbers."""

    lines: list[tuple[int, str]]
    is_doc: bool = False
    """True for the documentation of something, or its first paragraph."""
    is_definition: bool = False
    """True if that something is a function, a type or a module."""


class Finding(NamedTuple):
    path: str
    line: int
    phrase: str
    found: str
    instead: str


class Rule(NamedTuple):
    name: str
    pattern: re.Pattern[str]
    instead: str
    of_docs: bool = False
    of_definitions: bool = False


def _compiled(phrase: str, before: str = "") -> re.Pattern[str]:
    return re.compile(before + "(?:" + phrase.replace(" ", r"\s+") + r")(?!\w)")


def _rules() -> list[Rule]:
    start = r"^\s*[\"'(]?"
    sentence = r"(?:^\s*(?:[-*+|>]\s+)?|(?<=[.!?])\s+)"
    return [
        *(
            Rule(f"{phrase.split()[0]} ... (sentence)", _compiled(phrase, sentence), hint)
            for phrase, hint in SENTENCES.items()
        ),
        *(
            Rule(f"{phrase} ... (documentation)", _compiled(phrase, start), hint, True)
            for phrase, hint in OPENINGS.items()
        ),
        *(
            Rule(f"{phrase} ... (definition)", _compiled(phrase, start), hint, True, True)
            for phrase, hint in DEFINITIONS.items()
        ),
    ]


# In lower case, and without a look at the character before: thus `re` finds candidates by their first letters.
PHRASES = [Rule(phrase, _compiled(phrase.lower()), hint) for phrase, hint in ANYWHERE.items()]
RULES = _rules()


# ------------------------------------------------------------------------------------------------------------- prose


def _paragraphs(
    lines: Iterable[tuple[int, str]], is_doc: bool = False, is_definition: bool = False
) -> Iterator[Passage]:
    """Splits Markdown, or text written like it, into paragraphs and the comments of its code blocks."""
    current: list[tuple[int, str]] = []
    fence = ""
    is_code = False
    after_blank = True

    def flush() -> Iterator[Passage]:
        nonlocal current, is_doc
        if current:
            yield Passage(current, is_doc, is_definition)
            is_doc = False
        current = []

    for number, line in lines:
        found = _FENCE.match(line)
        if found and (not fence or (found[1].startswith(fence) and not found[2].strip())):
            yield from flush()
            fence = "" if fence else found[1]
            is_code = bool(fence) and not _DIRECTIVE.match(found[2].strip())
        elif is_code or line.lstrip().startswith((">>> ", "... ")):
            yield from flush()
            comment = _COMMENT_IN_CODE.search(line)
            if comment:
                yield Passage([(number, comment[1])])
        elif not line.strip():
            yield from flush()
        else:
            if after_blank or _BULLET.match(line):
                yield from flush()
            current.append((number, line))
            if line.startswith("#"):
                yield from flush()
        after_blank = not line.strip()
    yield from flush()


def _markdown(text: str) -> Iterator[Passage]:
    lines: list[tuple[int, str]] = []
    in_code = False
    in_list = False
    blank = True
    for number, line in enumerate(text.splitlines(), 1):
        # An indented block after a blank line is code, unless it continues an item of a list.
        if line.strip():
            indented = line.startswith("    ")
            if not indented:
                in_list = bool(re.match(r"(?:[-*+]|\d+\.)\s", line)) or (in_list and line.startswith(" "))
                in_code = False
            elif blank and not in_list:
                in_code = True
        blank = not line.strip()
        lines.append((number, "" if in_code else line))
    yield from _paragraphs(lines)


def _numbered(first: int, text: str) -> list[tuple[int, str]]:
    # Escapes for line ends and tabs end a word, and would otherwise begin one.
    plain = re.sub(r"\\[ntr]", "  ", text).replace("\\\n", " \n")
    return list(enumerate(plain.split("\n"), first))


_PYTHON = re.compile(
    r"""(?P<comment>\#[^\n]*)"""
    r"""|(?P<kind>\b[rbfuRBFU]{1,2})?(?P<quote>\"{3}|'{3}|"|')(?P<string>(?:\\.|(?!(?P=quote)).)*)(?P=quote)"""
    r"""|\w+|\S""",
    re.DOTALL,
)


def _python(text: str) -> Iterator[Passage]:
    lines = text.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    comments: list[tuple[int, int, str, str]] = []
    literal: list[tuple[int, str]] = []
    last = ":"
    for found in _PYTHON.finditer(text):
        number = bisect_right(starts, found.start())
        line = lines[number - 1]
        if found["comment"] is not None:
            comments.append((number, found.start() - starts[number - 1], found[0][1:], line))
            continue
        if found["string"] is None:
            yield from _literal(literal)
            literal = []
            last = found[0]
            continue
        string = found["string"]
        kind = (found["kind"] or "").lower()
        if "f" in kind:
            string = _hidden(re.compile(r"\{[^{}]*\}"), string)
        if len(found["quote"]) == 3 and line.lstrip().startswith(found[0].split("\n")[0]) and last not in "(,=[{":
            # The documentation of a module, a class or a function follows a colon; that of an attribute does not.
            yield from _paragraphs(_numbered(number, string), True, last == ":")
            last = '"'
        elif "b" not in kind:
            # Literals side by side are one.
            literal.extend(_numbered(number, string))
    yield from _literal(literal)
    yield from _comments(comments)


def _literal(lines: list[tuple[int, str]]) -> Iterator[Passage]:
    if any(" " in line.strip() for _, line in lines):
        yield Passage(lines)


def _hidden(code: re.Pattern[str], text: str) -> str:
    return code.sub(lambda found: re.sub(r"[^\n]", "`", found[0]), text)


def _comments(found: Iterable[tuple[int, int, str, str]]) -> Iterator[Passage]:
    """Joins comments in consecutive lines that stand alone there: (line, column, text, whole line)."""
    current: list[tuple[int, str]] = []
    place = (0, 0)
    for number, column, text, line in found:
        alone = not line[:column].strip()
        if not (alone and place == (number - 1, column)) and current:
            yield from _paragraphs(current)
            current = []
        current.append((number, text))
        place = (number, column) if alone else (0, 0)
    if current:
        yield from _paragraphs(current)


_FORMAT = re.compile(r"\{[\w:?]*\}")
_RUST = re.compile(
    r"""(?P<comment>//[^\n]*)|(?P<block>/\*.*?\*/)"""
    r"""|(?P<byte>b"(?:\\.|[^"\\])*"|br(?P<h>\#*)".*?"(?P=h))"""
    r"""|r(?P<hashes>\#*)"(?P<raw>.*?)"(?P=hashes)|"(?P<string>(?:\\.|[^"\\])*)\""""
    r"""|'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^\\'])'|\w+""",
    re.DOTALL,
)


def _rust(text: str) -> Iterator[Passage]:
    lines = text.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    docs: list[tuple[int, str]] = []
    plain: list[tuple[int, int, str, str]] = []
    for found in _RUST.finditer(text):
        number = bisect_right(starts, found.start())
        column = found.start() - starts[number - 1]
        comment = found["comment"]
        if comment is not None and re.match(r"//[/!](?!/)", comment):
            if docs and docs[-1][0] != number - 1:
                yield from _rust_docs(docs, lines)
                docs = []
            docs.append((number, comment[3:].removeprefix(" ")))
        elif comment is not None:
            plain.append((number, column, comment[2:], lines[number - 1]))
        elif found["block"] is not None:
            yield from _paragraphs(_numbered(number, found["block"][2:-2]))
        else:
            string = found["string"] if found["string"] is not None else found["raw"]
            if string is not None:
                yield from _literal(_numbered(number, _hidden(_FORMAT, string)))
    if docs:
        yield from _rust_docs(docs, lines)
    yield from _comments(plain)


def _rust_docs(docs: list[tuple[int, str]], lines: list[str]) -> Iterator[Passage]:
    is_module = lines[docs[0][0] - 1].lstrip().startswith("//!")
    following = next((line for line in lines[docs[-1][0] :] if not line.lstrip().startswith("#[")), "")
    yield from _paragraphs(docs, True, is_module or bool(_RUST_DEFINITION.match(following)))


def _settings(text: str) -> Iterator[Passage]:
    """Yields comments, and strings in double quotes, of Makefiles, shell scripts, TOML and YAML."""
    lines = text.split("\n")
    comments = []
    for number, line in enumerate(lines, 1):
        found = re.search(r"(?:^|\s)#+(?!!)(.*)", line)
        if found:
            comments.append(
                (number, found.start(1) - 1 if not line[: found.start()].strip() else len(line), found[1], line)
            )
        for string in re.finditer(r'"([^"]*)"|^\s*-?\s*name: (.*)', line[: found.start()] if found else line):
            yield Passage([(number, string[1] or string[2] or "")])
    yield from _comments(comments)


READERS = {
    ".md": _markdown,
    ".py": _python,
    ".pyi": _python,
    ".rs": _rust,
    ".toml": _settings,
    ".yml": _settings,
    ".yaml": _settings,
    "": _settings,
}


# ------------------------------------------------------------------------------------------------------------- search


def find(text: str, path: str) -> list[Finding]:
    """Returns the banned phrases in a file's text; its name says how it is read."""
    findings = []
    for passage in READERS[Path(path).suffix](text):
        original = "\n".join(line for _, line in passage.lines)
        prose = _hidden(_ADDRESS, _hidden(_SPAN, original))
        starts = [0, *accumulate(len(line) + 1 for _, line in passage.lines)]
        seen = set()
        for rule, found in _matches(prose, passage):
            begin = found.end() - len(found[0].lstrip("-*+|> \t\n"))
            if begin not in seen:
                seen.add(begin)
                number = passage.lines[bisect_right(starts, begin) - 1][0]
                words = " ".join(original[begin : found.end()].split())
                findings.append(Finding(path, number, rule.name, words, rule.instead))
    return sorted(findings, key=lambda each: each.line)


def _matches(text: str, passage: Passage) -> Iterator[tuple[Rule, re.Match[str]]]:
    lower = text.lower()
    if len(lower) != len(text):  # a letter whose small form is longer
        lower = text
    for rule in PHRASES:
        for found in rule.pattern.finditer(lower):
            if not re.match(r"[\w-]", lower[found.start() - 1 : found.start()]):
                yield rule, found
    for rule in RULES:
        if (passage.is_doc or not rule.of_docs) and (passage.is_definition or not rule.of_definitions):
            yield from ((rule, found) for found in rule.pattern.finditer(text))


def _files(root: Path, start: Path) -> Iterator[Path]:
    if start.is_file():
        yield start
        return
    for path in sorted(start.iterdir()):
        name = path.relative_to(root).as_posix()
        if path.is_symlink() or name in SKIPPED_FILES or name in SKIPPED_FOLDERS:
            continue
        if path.is_dir():
            if not path.name.startswith((".", "__pycache__")) or path.name in HIDDEN_FOLDERS:
                yield from _files(root, path)
        elif path.suffix in READERS and not path.name.startswith(".") and (path.suffix or path.name != "LICENSE"):
            yield path


def find_in(root: Path, places: Iterable[Path]) -> list[Finding]:
    """Returns the banned phrases in files and folders below a root."""
    return [
        finding
        for place in places
        for path in _files(root, place)
        for finding in find(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())
    ]


def _print_counts(findings: list[Finding]) -> None:
    for title, counts in (
        ("phrase", Counter(each.phrase for each in findings)),
        ("folder", Counter(Path(each.path).parent.as_posix() for each in findings)),
    ):
        print(f"{'count':>6}  {title}")
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            print(f"{count:6}  {name}")
        print()


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks the prose of the repository for banned phrases.")
    parser.add_argument("places", nargs="*", type=Path, help="files and folders; by default the whole repository")
    parser.add_argument("--count", action="store_true", help="print counts for each phrase and each folder")
    parser.add_argument("--root", type=Path, default=ROOT, help="the root of another copy of the repository")
    options = parser.parse_args()
    root = options.root.resolve()
    findings = find_in(root, [place.resolve() for place in options.places] or [root])
    if options.count:
        _print_counts(findings)
    else:
        for each in findings:
            print(f"{each.path}:{each.line}: {each.found} -> {each.instead}")
    if findings:
        files = len({each.path for each in findings})
        text = f"{_counted(len(findings), 'banned phrase')} in {_counted(files, 'file')}"
        print(text, file=sys.stdout if options.count else sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
