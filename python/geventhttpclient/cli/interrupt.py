"""Ctrl-C: KeyboardInterrupt in the main greenlet, whatever else is going on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent

# Whether a greenlet may be blocking the thread at this moment, with no loop to turn.
_blocking = False


@contextmanager
def blocking() -> Iterator[None]:
    """Around what blocks the thread: it is interrupted where it is."""
    global _blocking
    _blocking = True
    try:
        yield
    finally:
        _blocking = False


@contextmanager
def interruptible() -> Iterator[None]:
    """From here on SIGINT is the main greenlet's, which this is called in.

    Python raises KeyboardInterrupt in whatever runs when the signal comes. In a callback or a destructor it would be
    lost; so it is thrown into the main greenlet by the loop, which turns in any case. Where the main greenlet runs
    itself, or something blocks, it is raised there; gevent then hands it to the main greenlet, without a traceback.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as in the background of a shell
        yield
        return
    hub, main = gevent.get_hub(), gevent.getcurrent()

    def throw() -> None:
        main.throw(KeyboardInterrupt())

    def handle(*_: Any) -> None:
        if _blocking or gevent.getcurrent() is main:
            raise KeyboardInterrupt
        hub.loop.run_callback_threadsafe(throw)

    before = hub.NOT_ERROR
    hub.NOT_ERROR = (*before, KeyboardInterrupt)
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        hub.NOT_ERROR = before
