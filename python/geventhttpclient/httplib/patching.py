"""`patch()`: http.client with the classes of this package, for the libraries that use it."""

from __future__ import annotations

import http.client
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps

# As they are before patch() puts others in their place.
from http.client import HTTPConnection as _HTTPConnection
from http.client import HTTPResponse as _HTTPResponse
from http.client import HTTPSConnection as _HTTPSConnection
from types import FunctionType
from typing import Any

from geventhttpclient.httplib.connection import HTTPConnection, HTTPSConnection
from geventhttpclient.httplib.response import HTTPResponse

_CLASSES = {
    "HTTPConnection": (_HTTPConnection, HTTPConnection),
    "HTTPSConnection": (_HTTPSConnection, HTTPSConnection),
    "HTTPResponse": (_HTTPResponse, HTTPResponse),
}


def patch() -> None:
    """Puts the classes of this package in the place of http.client's, in all of the process. Twice does no harm.

    It takes effect in the modules that look the classes up when they use them (urllib.request, xmlrpc.client), and in
    those that are imported later. What has been imported before and holds the old classes, as urllib3 and httplib2 do,
    goes on with them: for such modules a RuntimeWarning says so.
    """
    if all(getattr(http.client, name) is ours for name, (_, ours) in _CLASSES.items()):
        return
    for name, (_, ours) in _CLASSES.items():
        setattr(http.client, name, ours)
    _let_old_ones_go_on()
    if late := _holders():
        names = ", ".join(late)
        warnings.warn(
            f"patch() came too late for modules that have imported http.client's classes before: {names}. "
            "Call it before they are imported.",
            RuntimeWarning,
            stacklevel=2,
        )


def unpatch() -> None:
    """Gives http.client its own classes back. What was imported in between keeps the ones that it has got."""
    for name, (theirs, ours) in _CLASSES.items():
        if getattr(http.client, name) is ours:
            setattr(http.client, name, theirs)


@contextmanager
def patched() -> Iterator[None]:
    """`patch()` for a while: `with patched():`. At its end http.client is what it was before."""
    before = {name: getattr(http.client, name) for name in _CLASSES}
    patch()
    try:
        yield
    finally:
        for name, found in before.items():
            setattr(http.client, name, found)


def _let_old_ones_go_on() -> None:
    """HTTPSConnection.__init__ of http.client looks its own class up by a name that is another's now, so that whoever
    holds that class could make none any more. Here it gets names of its own, for good."""
    found: Any = _HTTPSConnection.__init__
    if not isinstance(found, FunctionType) or found.__globals__ is not vars(http.client):
        return
    names = {**found.__globals__, "HTTPSConnection": _HTTPSConnection}
    lasting = FunctionType(found.__code__, names, found.__name__, found.__defaults__, found.__closure__)
    lasting.__kwdefaults__ = found.__kwdefaults__
    _HTTPSConnection.__init__ = wraps(found)(lasting)  # type: ignore[method-assign]


def _holders() -> list[str]:
    """The modules that hold classes of http.client, or have classes derived from them."""
    theirs, ours = zip(*_CLASSES.values(), strict=True)

    def holds(value: object) -> bool:
        # Not isinstance(value, type): for Python 3.10 list[int] is one.
        bases: tuple[type, ...] = value.__mro__ if issubclass(type(value), type) else ()  # type: ignore[attr-defined]
        return any(base in theirs for base in bases) and not any(base in ours for base in bases)

    found = set()
    for name, module in list(sys.modules.items()):
        if name == "http.client" or name.startswith("geventhttpclient."):
            continue
        # Not by getattr(): modules may make attributes up, or import something for them.
        for value in list(getattr(module, "__dict__", {}).values()):
            if holds(value):
                # Where a class derived from http.client's was made, not everywhere it is known.
                found.add(name if value in theirs else value.__module__)
    return sorted(found)
