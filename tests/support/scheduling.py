"""The order in which pytest-xdist hands out tests: whole modules, because their fixtures are made once in each worker,
and the tests of the slowest modules one by one, last, to keep all workers busy to the end."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

# Modules that take longest, and whose fixtures cost next to nothing.
DIVIDED = {
    "tests/gevent/test_hub.py",
    "tests/gevent/test_interrupts.py",
    "tests/http2/test_hub.py",
    "tests/stress/test_leaks.py",
    "tests/threads/test_threads.py",
}


class Scheduling(LoadScopeScheduling):
    """Scopes with more tests come first; see `LoadScopeScheduling`."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return nodeid if module in DIVIDED else module
