"""`patch()`: replaces the classes of http.client for the libraries that use them."""

from __future__ import annotations

import http.client
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps

# The original classes, before patch() replaces them.
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
    """Replaces the classes of http.client by those of this package, in the whole process. A second call has no effect.

    It affects modules that look up the classes on each use (urllib.request, xmlrpc.client), and modules that are
    imported later. Modules that were imported before and hold the old classes, such as urllib3 and httplib2, continue
    to use them; a RuntimeWarning names them.
    """
    if all(getattr(http.client, name) is ours for name, (_, ours) in _CLASSES.items()):
        return
    for name, (_, ours) in _CLASSES.items():
        setattr(http.client, name, ours)
    _keep_originals_usable()
    if late := _holders():
        names = ", ".join(late)
        warnings.warn(
            f"patch() was called too late for modules that have imported http.client's classes already: {names}. "
            "Call it before they are imported.",
            RuntimeWarning,
            stacklevel=2,
        )


def unpatch() -> None:
    """Restores the classes of http.client. Modules that were imported in between keep the classes that they hold."""
    for name, (theirs, ours) in _CLASSES.items():
        if getattr(http.client, name) is ours:
            setattr(http.client, name, theirs)


@contextmanager
def patched() -> Iterator[None]:
    """Returns a context manager that calls `patch()`, and restores http.client at the end: `with patched():`."""
    before = {name: getattr(http.client, name) for name in _CLASSES}
    patch()
    try:
        yield
    finally:
        for name, found in before.items():
            setattr(http.client, name, found)


def _keep_originals_usable() -> None:
    """Gives HTTPSConnection.__init__ of http.client a namespace of its own, permanently. It looks up its own class by
    name, which refers to another class now: programs that hold the original could not create instances otherwise."""
    found: Any = _HTTPSConnection.__init__
    if not isinstance(found, FunctionType) or found.__globals__ is not vars(http.client):
        return
    names = {**found.__globals__, "HTTPSConnection": _HTTPSConnection}
    lasting = FunctionType(found.__code__, names, found.__name__, found.__defaults__, found.__closure__)
    lasting.__kwdefaults__ = found.__kwdefaults__
    _HTTPSConnection.__init__ = wraps(found)(lasting)  # type: ignore[method-assign]


def _holders() -> list[str]:
    """Returns the modules that hold classes of http.client, or that define classes derived from them."""
    theirs, ours = zip(*_CLASSES.values(), strict=True)

    def holds(value: object) -> bool:
        # Not isinstance(value, type), which is true for list[int] in Python 3.10.
        bases: tuple[type, ...] = value.__mro__ if issubclass(type(value), type) else ()  # type: ignore[attr-defined]
        return any(base in theirs for base in bases) and not any(base in ours for base in bases)

    found = set()
    for name, module in list(sys.modules.items()):
        if name == "http.client" or name.startswith("geventhttpclient."):
            continue
        # Without getattr(): modules may generate attributes, or import other modules for them.
        for value in list(getattr(module, "__dict__", {}).values()):
            if holds(value):
                # The module that defines a derived class, not every module that refers to it.
                found.add(name if value in theirs else value.__module__)
    return sorted(found)
