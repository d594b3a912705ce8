"""A locustfile whose users get a page."""

import os

from locust import FastHttpUser, task

TARGET = os.environ.get("LOCUST_TARGET", "/page")


class Reader(FastHttpUser):
    network_timeout = float(os.environ.get("LOCUST_NETWORK_TIMEOUT", FastHttpUser.network_timeout))

    @task
    def read(self):
        self.client.get(TARGET)
