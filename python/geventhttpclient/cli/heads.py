"""Heads of requests and responses as text, with colours where they are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventhttpclient.cli.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_SECRET = frozenset({"authorization", "proxy-authorization"})


def response_head(response: Any) -> list[str]:
    """The status line and the fields of a response of HTTPClient, each as it came."""
    # HTTP/2 sends no reason: what stands for it is what the code means.
    reason = "" if response.version == "HTTP/2" else response.status_message or ""
    first = f"{response.version} {response.status_code} {reason}".rstrip()
    return [first, *(f"{name}: {value}" for name, value in response.headers)]


def request_head(response: Any) -> list[str]:
    """The head of the request that a response of HTTPClient answers, without the credentials in it."""
    return [_concealed(line) for line in response._sent_request.rstrip("\r\n").split("\r\n")]


def _concealed(line: str) -> str:
    name, colon, value = line.partition(":")
    if name.lower() not in _SECRET:
        return line
    scheme = value.split()[:1]
    return f"{name}{colon} {' '.join([*scheme, '***'])}"


def as_text(lines: list[str], console: Console | None, prefix: str = "", end: str = "\n", is_raw: bool = False) -> str:
    """The lines with a blank one behind them, with escapes for what a terminal would obey unless they are to be raw.

    `console` is what they are coloured for, which is never raw; it is not printed to.
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
    """A text with the colours that a console has, for whoever writes it there."""
    with console.capture() as captured:
        console.print(text, end="")
    return captured.get()


def json_styles(console: Console | None) -> dict[str, tuple[str, str]]:
    """Returns what a console writes before and after each kind of JSON token; nothing without a console."""
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
