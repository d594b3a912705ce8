"""Requests and responses that UserAgent, Session and httpx.Client share."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["of_useragent"]

_T = TypeVar("_T", bound=type)


def of_useragent(cls: _T) -> _T:
    """Sets the module name of a class to the one that programs import it from, and that their logs contain."""
    cls.__module__ = "geventhttpclient.useragent"
    return cls
