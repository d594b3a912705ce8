"""SDKs without patching: failures of the server raise the same exceptions, after as many requests, as with the SDK's
own transport."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
import requests
import urllib3

from geventhttpclient.adapters.requests import Adapter
from geventhttpclient.adapters.urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from tests.programs.sdks import CALLS
from tests.support import sdk_services
from tests.support.dependents import need
from tests.support.hub import in_thread, until
from tests.support.peer import Conn, Peer, Request
from tests.support.ports import free_port
from tests.support.sdk_failures import BROKEN, refuse

pytestmark = pytest.mark.usefixtures("bounded")

# Seconds after which a client gives up on a silent server.
SHORT = 0.2

Names = dict[str, Any]


def session(own: bool) -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    if own:
        made.mount("http://", Adapter())
    return made


def direct(manager: Any, own: bool) -> None:
    if own:
        manager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}


def elasticsearch(url: str, own: bool, timeout: float) -> Names:
    need("elasticsearch")
    from elasticsearch import Elasticsearch

    from geventhttpclient.adapters.elastic_transport import Node

    options: dict[str, Any] = {"node_class": Node} if own else {}
    return {"client": Elasticsearch(url, request_timeout=timeout, max_retries=2, **options)}


def opensearch(url: str, own: bool, timeout: float) -> Names:
    need("opensearchpy")
    from opensearchpy import OpenSearch, RequestsHttpConnection

    class Connection(RequestsHttpConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if own:
                self.session.mount("http://", Adapter())

    return {"client": OpenSearch(url, connection_class=Connection, timeout=timeout, max_retries=2)}


def stripe(url: str, own: bool, timeout: float) -> Names:
    need("stripe")
    import stripe

    http = stripe.RequestsClient(session=session(own), timeout=timeout)
    return {"client": stripe.StripeClient("key", http_client=http, base_addresses={"api": url}, max_network_retries=2)}


def google_auth(url: str, own: bool, timeout: float) -> Names:
    need("google.auth")
    from google.auth.transport.requests import AuthorizedSession
    from google.oauth2.credentials import Credentials

    made = AuthorizedSession(Credentials("ya29"))
    if own:
        made.mount("http://", Adapter())

    def get(url: str) -> requests.Response:
        response = made.get(url, timeout=timeout)
        response.raise_for_status()
        return response

    return {"client": SimpleNamespace(get=get), "url": url}


def github(url: str, own: bool, timeout: float) -> Names:
    need("github")
    from github import Github, GithubRetry
    from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, Requester

    retry = GithubRetry(total=1, secondary_rate_wait=0.01, backoff_factor=0.01)
    adapter = Adapter(max_retries=retry)

    class Connection(HTTPRequestsConnectionClass):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if own:
                self.session.mount("http://", adapter)

    Requester.injectConnectionClasses(Connection, HTTPSRequestsConnectionClass)
    # The timeout must be a whole number.
    client = Github(base_url=url, seconds_between_requests=None, timeout=max(1, int(timeout)), retry=retry)
    return {"client": client}


def hvac(url: str, own: bool, timeout: float) -> Names:
    need("hvac")
    import hvac

    return {"client": hvac.Client(url=url, token="token", session=session(own), timeout=timeout)}


def influxdb_client(url: str, own: bool, timeout: float) -> Names:
    need("influxdb_client")
    from influxdb_client import InfluxDBClient

    client = InfluxDBClient(url=url, token="token", org="org", timeout=int(1000 * timeout))
    direct(client.api_client.rest_client.pool_manager, own)
    return {"client": client}


def influxdb(url: str, own: bool, timeout: float) -> Names:
    need("influxdb")
    from influxdb import InfluxDBClient

    client = InfluxDBClient(host="127.0.0.1", port=int(url.rpartition(":")[2]), timeout=timeout, retries=2)
    if own:
        client._session.mount("http://", Adapter())
    return {"client": client}


def consul(url: str, own: bool, timeout: float) -> Names:
    need("consul")
    from consul import Consul

    client = Consul(host="127.0.0.1", port=int(url.rpartition(":")[2]))
    client.http.connections_timeout = timeout
    if own:
        client.http.session.mount("http://", Adapter())
    return {"client": client}


def prometheus(url: str, own: bool, timeout: float) -> Names:
    need("prometheus_api_client")
    from prometheus_api_client import PrometheusConnect

    retry = urllib3.Retry(total=2, status_forcelist=[429, 503])
    client = PrometheusConnect(url=url, timeout=timeout, retry=retry)
    if own:
        client._session.mount(url, Adapter(max_retries=retry))
    return {"client": client}


def kubernetes(url: str, own: bool, timeout: float) -> Names:
    need("kubernetes")
    from kubernetes import client

    configuration = client.Configuration(host=url, api_key={"authorization": "Bearer token"})
    api = client.CoreV1Api(client.ApiClient(configuration))
    direct(api.api_client.rest_client.pool_manager, own)
    read = api.read_namespaced_pod
    api.read_namespaced_pod = lambda *args: read(*args, _request_timeout=timeout)
    return {"api": api}


def zeep(url: str, own: bool, timeout: float) -> Names:
    need("zeep")
    from zeep import Client, Transport

    transport = Transport(session=session(own), operation_timeout=timeout)
    return {"client": Client(f"{url}/calculator?wsdl", transport=transport)}


def huggingface_hub(url: str, own: bool, timeout: float) -> Names:
    need("huggingface_hub")
    import httpx2
    from huggingface_hub import HfApi, set_client_factory

    from geventhttpclient.adapters.httpx2 import Transport

    transport = Transport() if own else None
    set_client_factory(lambda: httpx2.Client(transport=transport, follow_redirects=True, timeout=timeout))
    # Its methods turn the timeout of the client off unless they are given one.
    return {"api": SimpleNamespace(model_info=partial(HfApi(endpoint=url).model_info, timeout=timeout))}


def google_genai(url: str, own: bool, timeout: float) -> Names:
    need("google.genai")
    import httpx2
    from google import genai

    from geventhttpclient.adapters.httpx2 import Transport

    options: dict[str, Any] = {"base_url": url, "timeout": int(1000 * timeout)}
    if own:
        options["client_args"] = {"transport": Transport()}
    assert httpx2
    return {"client": genai.Client(api_key="key", http_options=options)}


MAKERS: dict[str, Callable[[str, bool, float], Names]] = {
    maker.__name__: maker
    for maker in (
        elasticsearch,
        opensearch,
        stripe,
        google_auth,
        github,
        hvac,
        influxdb_client,
        influxdb,
        consul,
        prometheus,
        kubernetes,
        zeep,
        huggingface_hub,
        google_genai,
    )
}

FAILURES = {
    "401": refuse("401 Unauthorized"),
    "403": refuse("403 Forbidden", ("Retry-After", "0")),
    "404": refuse("404 Not Found"),
    "409": refuse("409 Conflict"),
    "429": refuse("429 Too Many Requests", ("Retry-After", "0")),
    "500": refuse("500 Internal Server Error"),
    "503": refuse("503 Service Unavailable"),
    **BROKEN,
}


# Modules of the layers below the SDKs.
BELOW = ("geventhttpclient", "http", "builtins", "socket", "httpcore", "urllib3", "h11")


def classes(error: BaseException | None) -> list[str]:
    """Returns the classes of an exception and of its causes, without the causes that belong to the layers below."""
    found: list[str] = []
    while error is not None:
        module = type(error).__module__
        if not found or not module.startswith(BELOW):
            found.append(f"{module}.{type(error).__qualname__}")
        error = error.__cause__
    return found


def outcome(name: str, url: str, own: bool, timeout: float) -> Any:
    try:
        return int(CALLS[f"with_{name}"](MAKERS[name](url, own, timeout), 7))
    except Exception as error:
        return classes(error)


def describe(conn: Conn) -> None:
    """Answers with the description of a SOAP service, by which a client begins."""
    text = sdk_services.WSDL.replace("https://{host}", conn.peer.url)
    conn.respond(text.encode(), headers=[("Content-Type", "text/xml")])


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Restores what some SDKs keep for the whole process."""
    yield
    if "github" in sys.modules:
        from github.Requester import Requester

        Requester.resetConnectionClasses()
    if "huggingface_hub" in sys.modules:
        from huggingface_hub import set_client_factory
        from huggingface_hub.utils._http import default_client_factory

        set_client_factory(default_client_factory)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of SDKs before a retry take no time."""
    monkeypatch.setattr("time.sleep", lambda seconds: gevent.sleep(0))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("name", MAKERS)
def test_failure_raises_the_same_after_as_many_requests(name: str, how: str) -> None:
    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if "wsdl" in request.target:
                describe(conn)
            elif not FAILURES[how](conn):
                return

    found = []
    for own in (True, False):
        with Peer(script) as peer:
            timeout = SHORT if how == "silent" else 20
            result = in_thread(lambda: outcome(name, peer.url, own, timeout))  # noqa: B023
            found.append((result, len(peer.requests)))
    assert found[0] == found[1]
    assert found[0][1]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["503", "closed", "cut"])
@pytest.mark.parametrize("name", MAKERS)
def test_single_failure_is_retried_as_often(name: str, how: str) -> None:
    """The first request fails, all others succeed."""

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if "wsdl" in request.target:
                describe(conn)
            elif not failed:
                failed.append(request)
                if not FAILURES[how](conn):
                    return
            else:
                answer = getattr(sdk_services, name)(request)
                conn.respond(answer.body, answer.status, [("Content-Type", answer.kind), *answer.fields])

    found = []
    for own in (True, False):
        failed: list[Request] = []
        with Peer(script) as peer:
            result = in_thread(lambda: outcome(name, peer.url, own, 20))  # noqa: B023
            found.append((result, len(peer.requests)))
    assert found[0] == found[1]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", MAKERS)
def test_refused_connection_raises_the_same(name: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ours, theirs = (in_thread(lambda: outcome(name, url, own, 20)) for own in (True, False))  # noqa: B023
    assert ours == theirs
    assert ours


@pytest.mark.parametrize("way", ["kill", "timeout"])
@pytest.mark.parametrize("name", MAKERS)
def test_cancelled_call_closes_its_socket_and_the_client_goes_on(name: str, way: str) -> None:
    """Cancelled by `kill` or by gevent.Timeout, which no SDK takes for an error of its own and retries."""
    held: list[Conn] = []

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            if "wsdl" in request.target:
                describe(conn)
            elif not held:
                held.append(conn)
                conn.wait_closed(50)
                return
            else:
                answer = getattr(sdk_services, name)(request)
                conn.respond(answer.body, answer.status, [("Content-Type", answer.kind), *answer.fields])

    with Peer(script) as peer:
        names = MAKERS[name](peer.url, True, 20)

        def call() -> int:
            return int(CALLS[f"with_{name}"](names, 7))

        greenlet = gevent.spawn(call)
        until(lambda: held)
        greenlet.kill(gevent.Timeout() if way == "timeout" else gevent.GreenletExit)
        with gevent.Timeout(10):
            held[0].hung_up.wait()
        assert isinstance(greenlet.exception if way == "timeout" else greenlet.value, BaseException)
        assert call() == 7
