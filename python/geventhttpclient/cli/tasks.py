"""Greenlets that work on one thing: the first to fail ends them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import gevent


def together(tasks: Iterable[Callable[[], object]]) -> None:
    """Runs each in a greenlet of its own until all are done. What one of them raises is raised here, and ends the
    others; so does an interrupt."""
    greenlets = [gevent.spawn(task) for task in tasks]
    try:
        for greenlet in gevent.iwait(greenlets):
            greenlet.get()
    finally:
        gevent.killall(greenlets)
