"""The body of a request, built from -d and -F."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geventhttpclient.cli.failure import file_failure

FORM = "application/x-www-form-urlencoded"


def check(data: Sequence[str] | None, form: Sequence[str] | None, times: int) -> None:
    """Raises ValueError if no body can be built, or if it could not be sent `times` times."""
    for field in form or ():
        if "=" not in field:
            raise ValueError(f"-F needs NAME=VALUE or NAME=@FILE, not {field!r}")
    from_stdin = [one for one in data or () if one == "@-"] + [one for one in form or () if one.endswith("=@-")]
    if len(from_stdin) > 1:
        raise ValueError("stdin can be read only once")


def data_body(data: Sequence[str], streams: bool) -> Any:
    """Returns the body given with -d: bytes, or an open file to stream if `streams` allows it and -d names one file.

    Raises Failure for a file that cannot be read.
    """
    if len(data) == 1 and streams and data[0].startswith("@") and data[0] != "@-":
        path = data[0][1:]
        try:
            file = open(path, "rb")  # noqa: SIM115 - open for as long as requests are sent
        except OSError as error:
            raise file_failure(error, path) from None
        if file.seekable():
            return file
        with file:
            return file.read()
    return b"&".join(_read(one[1:]) if one.startswith("@") else os.fsencode(one) for one in data)


def form_parts(form: Sequence[str]) -> tuple[list[tuple[str, str]], list[tuple[str, Any]]]:
    """Returns the fields and the files given with -F, in the form that `Multipart` accepts.

    Raises Failure for a file that cannot be read.
    """
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, Any]] = []
    for one in form:
        name, _, value = one.partition("=")
        if not value.startswith("@"):
            fields.append((name, value))
        elif value == "@-":
            files.append((name, ("-", _read("-"))))
        else:
            path = Path(value[1:])
            try:
                path.open("rb").close()
            except OSError as error:
                raise file_failure(error, path) from None
            files.append((name, path))
    return fields, files


def _read(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise file_failure(error, path) from None
