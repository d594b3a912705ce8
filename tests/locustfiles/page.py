"""A locustfile as people write them: users who do nothing but get a page. What locust counts goes to LOCUST_FACTS."""

import json
import os
from pathlib import Path

from locust import FastHttpUser, events, task

from geventhttpclient import _core  # noqa: F401  ours alone has it: the run fails with any other

TARGET = os.environ.get("LOCUST_TARGET", "/page")


class Reader(FastHttpUser):
    network_timeout = float(os.environ.get("LOCUST_NETWORK_TIMEOUT", FastHttpUser.network_timeout))

    @task
    def read(self):
        self.client.get(TARGET)


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
