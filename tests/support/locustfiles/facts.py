"""A second locustfile: it ends the run after LOCUST_REQUESTS, and writes the statistics to the file LOCUST_FACTS.

With LOCUST_COUNTED only the requests of that type count, such as POST. Without LOCUST_REQUESTS the users end the run.
A locustfile may leave results of its own in `environment.results`.
"""

import json
import os
from pathlib import Path

import gevent
from locust import events, runners

from geventhttpclient import _core  # noqa: F401  ours alone has it: the run fails with any other

REQUESTS = int(os.environ.get("LOCUST_REQUESTS", "0"))
COUNTED = os.environ.get("LOCUST_COUNTED")

runners.WORKER_REPORT_INTERVAL = 0.1


def counted(environment):
    stats = environment.stats
    if COUNTED is None:
        return stats.total.num_requests
    return sum(row.num_requests for row in list(stats.entries.values()) if row.method == COUNTED)


@events.init.add_listener
def end_after_requests(environment, runner, **_):
    """Ends the run in one process, or in the master of several."""

    def watch():
        while counted(environment) < REQUESTS:
            gevent.sleep(0.02)
        runner.quit()

    if REQUESTS and not isinstance(runner, runners.WorkerRunner):
        gevent.spawn(watch)


@events.quitting.add_listener
def tell(environment, **_):
    """In one process, or the master of several: workers know only of themselves."""
    if environment.parsed_options.worker:
        return
    rows = environment.stats.entries.values()
    failures = {}
    for error in environment.stats.errors.values():
        # Errors of several methods and names may have one text.
        failures[str(error.error)] = failures.get(str(error.error), 0) + error.occurrences
    facts = {
        "requests": environment.stats.total.num_requests,
        "rows": {
            row.method: {
                "name": row.name,
                "count": row.num_requests,
                "failed": row.num_failures,
                "length": row.total_content_length,
                "min": row.min_response_time,
                "max": row.max_response_time,
            }
            for row in rows
        },
        "failures": failures,
        "exceptions": [exception["traceback"] for exception in environment.runner.exceptions.values()],
        "results": getattr(environment, "results", None),
    }
    Path(os.environ["LOCUST_FACTS"]).write_text(json.dumps(facts))
