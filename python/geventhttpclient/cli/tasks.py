"""Greenlets that work on one thing, the first of which to fail ends them all; and one that keeps a display fresh."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import gevent


def together(tasks: Iterable[Callable[[], object]]) -> None:
    """Runs each in a greenlet of its own until all are done. What one of them raises is raised here, and ends the
    others; so does an interrupt."""

    def attempt(task: Callable[[], object]) -> Exception | None:
        try:
            task()
        except Exception as error:  # a greenlet that raised it would print it, too
            return error
        return None

    greenlets = [gevent.spawn(attempt, task) for task in tasks]
    try:
        for greenlet in gevent.iwait(greenlets):
            error = greenlet.get()
            if isinstance(error, Exception):  # else it is done, or was killed
                raise error
    finally:
        gevent.killall(greenlets)


@contextmanager
def without_traceback() -> Iterator[None]:
    """Raises a MemoryError of any greenlet in the main greenlet, and has gevent print no traceback of it."""
    hub = gevent.get_hub()
    not_printed, raised = hub.NOT_ERROR, hub.SYSTEM_ERROR
    hub.NOT_ERROR, hub.SYSTEM_ERROR = (*not_printed, MemoryError), (*raised, MemoryError)
    try:
        yield
    finally:
        hub.NOT_ERROR, hub.SYSTEM_ERROR = not_printed, raised


@contextmanager
def ticking(tick: Callable[[], object], seconds: float) -> Iterator[None]:
    """Calls `tick` at once and after every so many seconds, in a greenlet of its own, for as long as the with-block."""

    def repeat() -> None:
        while True:
            tick()
            gevent.sleep(seconds)

    greenlet = gevent.spawn(repeat)
    try:
        yield
    finally:
        greenlet.kill()
