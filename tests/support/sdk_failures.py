"""Failures of a server: each is a step of a script, which answers one request. It returns False if it has ended the
connection."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.peer import Conn

Step = Callable[[Conn], bool]

JSON = [("Content-Type", "application/json")]


def refuse(status: str, *fields: tuple[str, str]) -> Step:
    """Returns a step that answers with that status."""

    def step(conn: Conn) -> bool:
        body = json.dumps({"type": "error", "error": {"type": "refused", "message": "not now"}}).encode()
        conn.respond(body, status, [*JSON, *fields])
        return True

    return step


def hang_up(conn: Conn) -> bool:
    return False


def reset(conn: Conn) -> bool:
    conn.reset()
    return False


def stay_silent(conn: Conn) -> bool:
    conn.wait_closed(50)
    return False


def garbage(conn: Conn) -> bool:
    conn.send(b"SSH-2.0-OpenSSH\r\n")
    return False


def no_json(conn: Conn) -> bool:
    conn.respond(b"<html>", headers=JSON)
    return True


def cut(conn: Conn) -> bool:
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
    return False


# Those that are no response, or none to use.
BROKEN: dict[str, Step] = {
    "closed": hang_up,
    "reset": reset,
    "silent": stay_silent,
    "garbage": garbage,
    "no JSON": no_json,
    "cut": cut,
}
