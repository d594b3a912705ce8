"""Heads of requests and responses as text, with colours where they are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventhttpclient.cli.failure import printable

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


def as_text(lines: list[str], console: Console | None, prefix: str = "", end: str = "\n") -> str:
    """The lines with a blank one behind them. `console` is what they are coloured for; it is not printed to."""
    if console is None:
        return "".join(f"{prefix}{line}".rstrip(" ") + end for line in [*lines, ""])
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


def _color_of(line: str) -> str:
    words = line.split(" ")
    code = words[1] if line.startswith("HTTP/") and len(words) > 1 else ""
    return {"2": "green", "3": "yellow", "4": "red", "5": "red"}.get(code[:1], "blue")
