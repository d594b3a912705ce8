"""A locustfile whose user reads streams item by item, and acknowledges each item with a request of its own.

The server sends the next item only after that: a method that waited for more than one item would wait in vain. The
items of each stream, or the traceback, are in the results of the run by the target of the stream.
"""

import traceback

import gevent
from locust import FastHttpUser, task

SECONDS = 20


class Reader(FastHttpUser):
    @task
    def read(self):
        results = self.environment.results = {}
        for coding in ("identity", "gzip", "deflate", "br"):
            for method in ("lines", "events", "caught"):
                stream = f"{method}/{coding}"
                try:
                    with gevent.Timeout(SECONDS):
                        results[stream] = list(self.acknowledged(stream, getattr(self, method)))
                except (Exception, gevent.Timeout):
                    results[stream] = traceback.format_exc()
        whole = self.client.post("/all-lines", json={})
        results["lines of a whole body"] = [line.decode() for line in whole.iter_lines()]
        results["all lines"] = list(self.client.iter_lines("/all-lines", method="POST", json={}))
        gevent.spawn(self.environment.runner.quit)  # the user itself is killed by it
        gevent.sleep(SECONDS)

    def acknowledged(self, stream, items):
        for number, item in enumerate(items(f"/stream/{stream}")):
            yield item
            self.client.get(f"/acknowledge/{stream}/{number}")

    def lines(self, target):
        response = self.client.post(target, json={"stream": True}, stream=True)
        yield from (line.decode() for line in response.iter_lines())

    def events(self, target):
        response = self.client.post(target, json={"stream": True}, stream=True)
        yield from (event.data for event in response.iter_events())

    def caught(self, target):
        with self.client.post(target, json={"stream": True}, stream=True, catch_response=True) as response:
            assert response.history == []
            yield from (event.data for event in response.iter_events())
