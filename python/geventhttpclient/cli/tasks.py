"""Groups of greenlets that end when the first of them fails, and a greenlet that updates a display."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import gevent


def together(tasks: Iterable[Callable[[], object]]) -> None:
    """Runs each task in its own greenlet until all are done. The first exception, or an interrupt, ends the other
    tasks and is raised here."""

    def attempt(task: Callable[[], object]) -> Exception | None:
        try:
            task()
        except Exception as error:  # gevent would print the exception of a greenlet
            return error
        return None

    greenlets = [gevent.spawn(attempt, task) for task in tasks]
    try:
        for greenlet in gevent.iwait(greenlets):
            error = greenlet.get()
            if isinstance(error, Exception):  # else it has returned or was killed
                raise error
    finally:
        gevent.killall(greenlets)


@contextmanager
def without_traceback() -> Iterator[None]:
    """Raises a MemoryError of any greenlet in the main greenlet, and keeps gevent from printing its traceback."""
    hub = gevent.get_hub()
    not_printed, raised = hub.NOT_ERROR, hub.SYSTEM_ERROR
    hub.NOT_ERROR, hub.SYSTEM_ERROR = (*not_printed, MemoryError), (*raised, MemoryError)
    try:
        yield
    finally:
        hub.NOT_ERROR, hub.SYSTEM_ERROR = not_printed, raised


@contextmanager
def ticking(tick: Callable[[], object], seconds: float) -> Iterator[None]:
    """Calls `tick` at once and then every `seconds`, in its own greenlet, until the with-block ends."""

    def repeat() -> None:
        while True:
            tick()
            gevent.sleep(seconds)

    greenlet = gevent.spawn(repeat)
    try:
        yield
    finally:
        greenlet.kill()
