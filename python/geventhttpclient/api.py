"""One request, and no more: each of these has a session of its own, whose connection is closed with the response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventhttpclient.requests import RequestsResponse, Session

if TYPE_CHECKING:
    from geventhttpclient.compat_request import Payload
    from geventhttpclient.url import URL, ParamsDataType

__all__ = ["delete", "get", "head", "options", "patch", "post", "put", "request"]


def request(method: str, url: str | URL, **kw: Any) -> RequestsResponse:
    """The response to one request; the arguments are those of Session.request. For several, use a Session."""
    with Session() as session:
        return session.request(method, url, **kw)


def get(url: str | URL, params: ParamsDataType | None = None, **kw: Any) -> RequestsResponse:
    """`request` with the method GET."""
    return request("GET", url, params=params, **kw)


def options(url: str | URL, **kw: Any) -> RequestsResponse:
    """`request` with the method OPTIONS."""
    return request("OPTIONS", url, **kw)


def head(url: str | URL, **kw: Any) -> RequestsResponse:
    """`request` with the method HEAD; redirects are not followed unless `allow_redirects` says so."""
    kw.setdefault("allow_redirects", False)
    return request("HEAD", url, **kw)


def post(url: str | URL, data: Payload = None, json: Any = None, **kw: Any) -> RequestsResponse:
    """`request` with the method POST."""
    return request("POST", url, data=data, json=json, **kw)


def put(url: str | URL, data: Payload = None, **kw: Any) -> RequestsResponse:
    """`request` with the method PUT."""
    return request("PUT", url, data=data, **kw)


def patch(url: str | URL, data: Payload = None, **kw: Any) -> RequestsResponse:
    """`request` with the method PATCH."""
    return request("PATCH", url, data=data, **kw)


def delete(url: str | URL, **kw: Any) -> RequestsResponse:
    """`request` with the method DELETE."""
    return request("DELETE", url, **kw)
