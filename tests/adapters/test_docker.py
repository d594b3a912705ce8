"""docker-py against a stub of its daemon, with httplib in place of http.client and with the requests adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.dependents import need
from tests.support.docker_daemon import EVENTS, PROGRESS, TIMEOUT, Daemon
from tests.support.hub import run

need("docker")

FRAMES = "\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\x06HELLO\n"

EXPECTED = {
    "version": "27.3.1",
    "events": [event["Action"] for event in EVENTS],
    "raw events": len(EVENTS),
    "pull": [step["id"] for step in PROGRESS],
    "pull whole": sum(len(json.dumps(step)) + len("\r\n") for step in PROGRESS),
    "logs": "one\ntwo\n",
    "logs stream": ["one\n", "two\n"],
    "logs stream tty": "one\ntwo\n",
    "attach stream": ["out", "err"],
    "attach": "outerr",
    "attach demux": [["out", None], [None, "err"]],
    "attach socket": [FRAMES, True],
    "attach socket tty": ["outerrHELLO\n", True],
    "exec stream": ["out", "err"],
    "not found": 404,
}


@pytest.mark.parametrize("mode", ["theirs", "patched", "monkey", "adapter"])
def test_docker_with_patch_or_adapter_streams_and_attaches(mode: str, tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        outcomes = json.loads(run("docking.run", mode, daemon.path, TIMEOUT).clean())
    assert outcomes == EXPECTED
