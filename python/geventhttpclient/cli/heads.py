"""Heads of requests and responses as text, with or without colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventhttpclient.cli.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_SECRET = frozenset({"authorization", "proxy-authorization"})


def response_head(response: Any) -> list[str]:
    """Returns the status line and the fields of a response of HTTPClient as they were received."""
    # HTTP/2 has no reason phrase; `status_message` is then the standard phrase of the code.
    reason = "" if response.version == "HTTP/2" else response.status_message or ""
    first = f"{response.version} {response.status_code} {reason}".rstrip()
    return [first, *(f"{name}: {value}" for name, value in response.headers)]


def request_head(response: Any) -> list[str]:
    """Returns the head of the request that a response of HTTPClient answers, without credentials."""
    return [_redacted(line) for line in response._sent_request.rstrip("\r\n").split("\r\n")]


def _redacted(line: str) -> str:
    name, colon, value = line.partition(":")
    if name.lower() not in _SECRET:
        return line
    scheme = value.split()[:1]
    return f"{name}{colon} {' '.join([*scheme, '***'])}"


def as_text(lines: list[str], console: Console | None, prefix: str = "", end: str = "\n", is_raw: bool = False) -> str:
    """Returns the lines, followed by an empty one, with control sequences escaped unless `is_raw` is true.

    With a `console` they are coloured for it, and always escaped. Nothing is printed.
    """
    if console is None:
        shown_lines = lines if is_raw else map(printable, lines)
        return "".join(f"{prefix}{line}".rstrip(" ") + end for line in [*shown_lines, ""])
    from rich.text import Text

    shown = Text()
    for number, line in enumerate(map(printable, lines)):
        name, colon, value = line.partition(":")
        shown.append(prefix, "dim")
        if number == 0 or not colon:
            shown.append(line, "bold " + _color_of(line))
        else:
            shown.append(name, "cyan").append(colon, "dim").append(value)
        shown.append(end)
    return rendered(shown.append(prefix.rstrip(), "dim").append(end), console)


def rendered(text: Any, console: Console) -> str:
    """Returns a text with the colour codes of a console. Nothing is printed."""
    with console.capture() as captured:
        console.print(text, end="")
    return captured.get()


def json_styles(console: Console | None) -> dict[str, tuple[str, str]]:
    """Returns the codes that a console writes before and after each kind of JSON token, or {} without a console."""
    if console is None:
        return {}
    from rich.text import Text

    styles = {}
    for kind in ("key", "str", "number", "bool_true", "bool_false", "null"):
        before, _, after = rendered(Text("x", f"json.{kind}"), console).partition("x")
        styles[f"json.{kind}"] = before, after
    return styles


def _color_of(line: str) -> str:
    words = line.split(" ")
    code = words[1] if line.startswith("HTTP/") and len(words) > 1 else ""
    return {"2": "green", "3": "yellow", "4": "red", "5": "red"}.get(code[:1], "blue")
