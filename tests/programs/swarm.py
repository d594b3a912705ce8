"""Uses of locust's FastHttpUser, one function for each; a test checks what it returns.

`tell` runs all of them and prints the results as one JSON object, with an exception as the traceback under "raised".
Each result also has the request events that locust fired.
"""

from __future__ import annotations

import io
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.pool
import gevent.ssl
from locust import FastHttpUser
from locust.env import Environment

from geventhttpclient.client import HTTPClientPool

environment = Environment(user_classes=[])


@dataclass
class Targets:
    """Base URLs of the servers, without a trailing slash, and the port of an HTTP proxy."""

    app: str
    silent: str
    broken: str
    closed_port: str
    secure: str
    ca: str
    proxy: int

    def user(self, host: str = "", **attributes: Any) -> FastHttpUser:
        """Returns a user of a class with those attributes."""
        made = type("Someone", (FastHttpUser,), {"host": host or self.app, **attributes})
        return made(environment)


FEATURES: dict[str, Callable[[Targets], Any]] = {}


def feature(function: Callable[[Targets], Any]) -> Callable[[Targets], Any]:
    FEATURES[function.__name__] = function
    return function


def seen(response: Any) -> list[Any]:
    """Returns the most common properties: the status, the text, and `ok`."""
    return [response.status_code, response.text, bool(response.ok)]


@feature
def reads(t: Targets) -> Any:
    response = t.user().client.get("/page?a=b c", name="a page")
    assert response.url == f"{t.app}/page?a=b c", response.url
    assert response.headers["Content-TYPE"] == "text/plain"
    assert isinstance(response.content, (bytes, bytearray))
    return [seen(response) for _ in range(2)]


@feature
def fails_by_status(t: Targets) -> Any:
    response = t.user().client.get("/status/404")
    try:
        response.raise_for_status()
    except Exception as e:
        return [seen(response), type(e).__name__, str(e)]


@feature
def catches_responses(t: Targets) -> Any:
    client = t.user().client
    with client.get("/status/404", catch_response=True) as response:
        response.success()
    with client.get("/page", catch_response=True) as response:
        if response.status_code == 200:
            response.failure("not this page")
    with client.get("/status/500", catch_response=True):
        pass


@feature
def speaks_json(t: Targets) -> Any:
    user = t.user()
    results = []
    with user.rest("POST", "/echo", json={"a": [1, None]}) as response:
        results.append([response.js, response.headers["x-content-type"]])
    with user.rest("GET", "/page") as response:
        results.append(response.js)
    with user.rest("GET", "/json") as response:
        raise ValueError("this is not what I wanted")
    with user.rest_("GET", "/json") as response:
        results.append(response.js)
    return results


@feature
def sends(t: Targets) -> Any:
    client = t.user().client
    form = client.post("/echo", data={"a": "1 2", "b": "ü"})
    text = client.put("/echo", data="bücher", headers={"X-Trace": "7"})
    raw = client.patch("/echo", data=b"\0\1")
    query = client.get("/target", params={"q": "a b"})
    auth = client.get("/authorization", auth=("Aladdin", "open sesame"))
    methods = [client.request(method, "/method").text for method in ("DELETE", "OPTIONS", "GET")]
    head = client.head("/page")
    return [
        [form.text, form.headers["x-content-type"]],
        text.text,
        list(raw.content),
        query.text,
        auth.text,
        methods,
        [head.status_code, head.content.decode(), head.headers["content-length"]],
    ]


@feature
def has_a_slash_after_its_host(t: Targets) -> Any:
    client = t.user(host=f"{t.app}/").client
    by_proxy = t.user(host=f"{t.app}/", proxy_host="127.0.0.1", proxy_port=t.proxy).client
    return [[seen(one.get(path)) for path in ("/target", "/redirect")] for one in (client, by_proxy)]


@feature
def sends_files(t: Targets) -> Any:
    response = t.user().client.post("/echo", data={"name": "me"}, files={"file": ("a.txt", io.BytesIO(b"its content"))})
    return [response.text, response.headers["x-content-type"]]


@feature
def follows_redirects(t: Targets) -> Any:
    client = t.user().client
    first = client.get("/redirect")
    not_followed = client.get("/redirect", allow_redirects=False)
    again = client.get("/redirect")
    endless = t.user(max_redirects=3).client.get("/loop")
    return [seen(first), [not_followed.status_code, not_followed.headers["location"]], seen(again), endless.status_code]


@feature
def keeps_cookies(t: Targets) -> Any:
    one, other = t.user().client, t.user().client
    one.get("/set-cookie")
    return [one.get("/cookie").text, other.get("/cookie").text, [c.name for c in one.cookiejar]]


@feature
def sends_credentials(t: Targets) -> Any:
    user = t.user(t.app.replace("//", "//us%65r:p%40ss@"), default_headers={"User-Agent": "locusts"})
    return [user.client.get("/authorization").text, user.client.get("/user-agent").text]


@feature
def streams(t: Targets) -> Any:
    client = t.user().client
    whole = b"".join(client.get("/lines", stream=True).iter_content(7, decode_content=False)).decode()
    by_stream = client.get("/lines", stream=True).stream.read().decode()
    lines = list(client.iter_lines("/lines"))
    with client.get("/lines", stream=True, catch_response=True) as response:
        first = response.stream.read(4).decode()
    return [whole, by_stream, lines, first]


@feature
def debug_stream(t: Targets) -> Any:
    stream = io.StringIO()
    t.user().client.post("/echo", data="said", debug_stream=stream)
    return stream.getvalue()


@feature
def decodes(t: Targets) -> Any:
    client = t.user().client
    return [client.get(f"/{coding}").text for coding in ("gzip", "deflate", "brotli", "gzip-204")]


@feature
def shares_a_pool(t: Targets) -> Any:
    shared = HTTPClientPool(concurrency=1)
    users = [t.user(client_pool=shared) for _ in range(2)]
    together = {user.client.get("/number").text for user in users * 2}
    alone = {user.client.get("/number").text for user in [t.user(), t.user()] * 2}
    return [len(together), len(alone)]


@feature
def concurrent_requests(t: Targets) -> Any:
    user = t.user(concurrency=4)
    pool = gevent.pool.Pool(20)
    return len(set(pool.map(lambda _: user.client.get("/number").text, range(40))))


@feature
def closes_its_pool(t: Targets) -> Any:
    """Users close the pool to get a new connection for each request."""
    client = t.user().client
    numbers = []
    for _ in range(3):
        client.client.clientpool.close()
        numbers.append(client.get("/number").text)
    return len(set(numbers))


@feature
def uses_a_proxy(t: Targets) -> Any:
    user = t.user(proxy_host="127.0.0.1", proxy_port=t.proxy)
    return [user.client.get("/page").status_code, user.client.get("/via").text]


@feature
def connection_refused(t: Targets) -> Any:
    user = t.user(t.closed_port)
    response = user.client.get("/page")
    with user.client.get("/page", catch_response=True) as caught:
        pass
    with user.rest("GET", "/page"):
        pass
    return [response.status_code, response.content, response.text, type(response.error).__name__, caught.status_code]


@feature
def network_timeout(t: Targets) -> Any:
    response = t.user(t.silent, network_timeout=0.05).client.get("/page")
    error = response.error
    return [response.status_code, type(error).__name__, isinstance(error.original, TimeoutError)]


@feature
def gevent_timeout(t: Targets) -> Any:
    user = t.user(t.silent)
    with gevent.Timeout(0.05):
        response = user.client.get("/page")
    return [response.status_code, type(response.error).__name__]


@feature
def broken_responses(t: Targets) -> Any:
    client = t.user(t.broken).client
    found = []
    for target in ("/cut", "/cut-in-head", "/not-http", "/not-gzip", "/reset"):
        response = client.get(target, name=target)
        found.append(response.status_code)
    return found


@feature
def trusts(t: Targets) -> Any:
    by_default = t.user(t.secure).client.get("/page")
    careful = t.user(t.secure, insecure=False).client.get("/page")

    class Knowing(FastHttpUser):
        host = t.secure
        insecure = False

        def ssl_context_factory(self, **_: str) -> gevent.ssl.SSLContext:  # a method once it is looked up on a user
            return gevent.ssl.create_default_context(cafile=t.ca)

    knowing = Knowing(environment).client.get("/page")
    return [by_default.status_code, careful.status_code, knowing.status_code]


def tell(targets: str) -> None:
    given = Targets(**json.loads(targets))
    fired: list[dict[str, Any]] = []

    def listen(
        request_type: str, name: str, response_time: float, response_length: int, exception: object, **_: object
    ) -> None:
        assert response_time > 0
        fired.append(
            {"method": request_type, "name": name, "length": response_length, "failed": exception and repr(exception)}
        )

    environment.events.request.add_listener(listen)
    results: dict[str, Any] = {}
    for name, function in FEATURES.items():
        fired.clear()
        try:
            with gevent.Timeout(10):
                result = {"returned": function(given)}
        except BaseException:
            result = {"raised": traceback.format_exc()}
        results[name] = {**result, "events": list(fired)}
    json.dump(results, sys.stdout)
