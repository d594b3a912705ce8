"""Ctrl-C: raises KeyboardInterrupt in the main greenlet, even while another greenlet runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent

# True while a greenlet may be blocking the thread, so that the loop does not run.
_blocking = False

# True if an interrupt waits for the loop's next callback.
_pending = False


@contextmanager
def blocking() -> Iterator[None]:
    """Marks code that blocks the thread: an interrupt is raised there, also one that has come just before."""
    global _blocking
    _blocking = True
    try:
        if _take():
            raise KeyboardInterrupt
        yield
    finally:
        _blocking = False


def _take() -> bool:
    """Returns True if an interrupt is pending, which it then no longer is."""
    global _pending
    was_pending, _pending = _pending, False
    return was_pending


@contextmanager
def interruptible() -> Iterator[None]:
    """Delivers SIGINT to the main greenlet for the duration of the with-block. Call it in the main greenlet.

    Python raises KeyboardInterrupt in the code that runs when the signal arrives. In a callback or a destructor it
    would be lost, so a callback of the loop throws it into the main greenlet. If the main greenlet is running, or if
    code blocks the thread, it is raised there; gevent then passes it to the main greenlet without a traceback.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as in the background of a shell
        yield
        return
    hub, main = gevent.get_hub(), gevent.getcurrent()

    def throw() -> None:
        if _take():
            main.throw(KeyboardInterrupt())

    def handle(*_: Any) -> None:
        global _pending
        if _blocking or gevent.getcurrent() is main:
            raise KeyboardInterrupt
        _pending = True
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
        _take()
