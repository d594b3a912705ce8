"""Other packages on the engine: requests, httpx, urllib3, httplib2."""

# pyright: strict

from __future__ import annotations

import httpx
import requests
import urllib3
from typing_extensions import assert_type

from geventhttpclient import httplib2
from geventhttpclient.adapters import httpx as httpx_transport
from geventhttpclient.adapters import requests as requests_adapter
from geventhttpclient.adapters import urllib3 as urllib3_adapter


class Patient(requests_adapter.Adapter):
    """An adapter of a program's own."""

    def close(self) -> None:
        super().close()


class Worker:
    """A client of some kind that serves one greenlet at a time."""

    def close(self) -> None:
        pass


def main(url: str) -> None:
    with requests.Session() as session:
        session.mount("http://", Patient(pool_maxsize=10, max_retries=1))
        assert_type(session.get(f"{url}/page"), requests.Response)
    with httpx.Client(transport=httpx_transport.Transport(verify=False, trust_env=False)) as client:
        assert_type(client.get(f"{url}/page"), httpx.Response)
    by_urllib3(url)
    by_httplib2(url)


def by_urllib3(url: str) -> None:
    with urllib3_adapter.PoolManager(maxsize=10, timeout=5.0) as manager:
        assert_type(manager, urllib3_adapter.PoolManager)
        answer = manager.request("GET", f"{url}/page")
        assert_type(answer, urllib3.BaseHTTPResponse)
        assert isinstance(answer, urllib3_adapter.HTTPResponse)
        assert_type(answer.status, int)
        assert_type(answer.headers, urllib3.HTTPHeaderDict)
    with urllib3_adapter.HTTPConnectionPool(url.rpartition("/")[2].partition(":")[0], 80) as pool:
        assert_type(pool, urllib3_adapter.HTTPConnectionPool)
    assert_type(urllib3_adapter.connection_from_url(url), urllib3.HTTPConnectionPool)
    assert_type(urllib3_adapter.proxy_from_url(url), urllib3_adapter.ProxyManager)
    assert_type(urllib3_adapter.SOCKSProxyManager("socks5h://127.0.0.1:1"), urllib3_adapter.SOCKSProxyManager)
    assert issubclass(urllib3_adapter.HTTPSConnectionPool, urllib3.HTTPSConnectionPool)
    assert issubclass(urllib3_adapter.HTTPSConnection, urllib3_adapter.HTTPConnection)
    assert isinstance(urllib3_adapter.Retry(3), urllib3.Retry)


def by_httplib2(url: str) -> None:
    http = httplib2.Http(concurrency=2, timeout=5)
    response, content = http.request(f"{url}/page")
    assert response
    assert content
    http.close()
    workers = httplib2.ClientPool(Worker, concurrency=2)
    with workers.get() as worker:
        assert_type(worker, Worker)
    workers.close()
    connection = httplib2.HTTPConnection("127.0.0.1", timeout=1)
    assert_type(connection, httplib2.HTTPConnection)
    assert_type(httplib2.HTTPSConnection("127.0.0.1").ca_certs, str)
