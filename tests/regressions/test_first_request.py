"""A request within a thread's first request: both share the runtime of that thread's hub."""

from __future__ import annotations

import pytest

from tests.support.hub import choose, run

pytestmark = pytest.mark.usefixtures("bounded")

POINTS = ["io", "run_callback", "run_callback_threadsafe"]


@pytest.mark.parametrize("loop", ["libev-cext", "libuv-cffi"])
@pytest.mark.parametrize("point", POINTS)
def test_request_within_the_first_request_of_a_thread_keeps_both_alive(point: str, loop: str) -> None:
    assert run("nested.first_request", point, **choose(loop)).clean() == "both answered, 3 responses read\n"


@pytest.mark.parametrize("point", POINTS)
def test_request_within_the_first_request_after_the_hub_was_destroyed_keeps_both_alive(point: str) -> None:
    assert run("nested.after_destroy", point).clean() == "both answered, 3 responses read\n"
