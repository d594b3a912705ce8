"""The failures of SDKs with httpx2's own transport, in a process without gevent."""

from __future__ import annotations

import json
import sys

from tests.support.sdk_models import MODELS, failure


def with_httpx2() -> None:
    """Reads a call in each line, as the arguments of `failure`, and prints its failure as a line."""
    for line in sys.stdin:
        package, url, call, read = json.loads(line)
        print(json.dumps(failure(MODELS[package], url, call, read, None)), flush=True)
