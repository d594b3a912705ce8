"""A locustfile whose users get a page. The run ends after LOCUST_REQUESTS; the statistics go to LOCUST_FACTS."""

import json
import os
from pathlib import Path

import gevent
from locust import FastHttpUser, events, runners, task

from geventhttpclient import _core  # noqa: F401  ours alone has it: the run fails with any other

TARGET = os.environ.get("LOCUST_TARGET", "/page")
REQUESTS = int(os.environ["LOCUST_REQUESTS"])

runners.WORKER_REPORT_INTERVAL = 0.1


class Reader(FastHttpUser):
    network_timeout = float(os.environ.get("LOCUST_NETWORK_TIMEOUT", FastHttpUser.network_timeout))

    @task
    def read(self):
        self.client.get(TARGET)


@events.init.add_listener
def end_after_requests(environment, runner, **_):
    """Ends the run in one process, or in the master of several."""

    def watch():
        while environment.stats.total.num_requests < REQUESTS:
            gevent.sleep(0.02)
        runner.quit()

    if not isinstance(runner, runners.WorkerRunner):
        gevent.spawn(watch)


@events.quitting.add_listener
def tell(environment, **_):
    """In one process, or the master of several: workers know only of themselves."""
    if environment.parsed_options.worker:
        return
    facts = {
        "requests": environment.stats.total.num_requests,
        "failures": {str(error.error): error.occurrences for error in environment.stats.errors.values()},
        "exceptions": [exception["traceback"] for exception in environment.runner.exceptions.values()],
    }
    Path(os.environ["LOCUST_FACTS"]).write_text(json.dumps(facts))
