"""A locustfile as people write them: users who do nothing but get a page, LOCUST_TARGET or `/page`."""

import os

from locust import FastHttpUser, task

from geventhttpclient import _core  # noqa: F401  ours alone has it: the run fails with any other

TARGET = os.environ.get("LOCUST_TARGET", "/page")


class Reader(FastHttpUser):
    network_timeout = float(os.environ.get("LOCUST_NETWORK_TIMEOUT", FastHttpUser.network_timeout))

    @task
    def read(self):
        self.client.get(TARGET)
