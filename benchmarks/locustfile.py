"""Users that get the small page repeatedly. At the end, prints one JSON object with the statistics of locust.

    locust -f benchmarks/locustfile.py --headless --users 10 --spawn-rate 10 --run-time 2s --host BASE_URL

The CPU time is that of the process while the users run, user and system.
"""

import json
from time import process_time

from locust import FastHttpUser, events, task

import geventhttpclient

CPU = {}


class Reader(FastHttpUser):
    @task
    def read(self):
        self.client.get("/page")


@events.test_start.add_listener
def begin(**_):
    CPU["start"] = process_time()


@events.test_stopping.add_listener
def end(**_):
    CPU["stop"] = process_time()


@events.quitting.add_listener
def tell(environment, **_):
    total = environment.stats.total
    found = {
        "count": total.num_requests,
        "seconds": total.last_request_timestamp - total.start_time,
        "cpu_seconds": CPU["stop"] - CPU["start"],
        "failures": total.num_failures,
        "length": total.avg_content_length,
        "version": geventhttpclient.__version__,
    }
    print("\n" + json.dumps(found), flush=True)
