"""Functions that send one request, each with a session of its own. Its connection is closed with the response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventhttpclient.requests import RequestsResponse, Session, _refuse_unknown

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from geventhttpclient._agent.request import Payload
    from geventhttpclient.requests import RequestOptions, _OptionsOfGet, _OptionsOfPost, _OptionsOfPut
    from geventhttpclient.url import URL, ParamsDataType

__all__ = ["delete", "get", "head", "options", "patch", "post", "put", "request"]


def request(method: str, url: str | URL, **kw: Unpack[RequestOptions]) -> RequestsResponse:
    """Sends a request and returns the response. The arguments are those of `Session.request`.

    Create a Session if you send more than one request.
    """
    with Session() as session:
        try:
            return session.request(method, url, **kw)
        except TypeError:
            _refuse_unknown(session, kw)
            raise


def get(url: str | URL, params: ParamsDataType | None = None, **kw: Unpack[_OptionsOfGet]) -> RequestsResponse:
    """Sends a request with the method GET; see `request`."""
    return request("GET", url, params=params, **kw)


def options(url: str | URL, **kw: Unpack[RequestOptions]) -> RequestsResponse:
    """Sends a request with the method OPTIONS; see `request`."""
    return request("OPTIONS", url, **kw)


def head(url: str | URL, **kw: Unpack[RequestOptions]) -> RequestsResponse:
    """Sends a request with the method HEAD; see `request`. Follows no redirects unless `allow_redirects` is true."""
    kw.setdefault("allow_redirects", False)
    return request("HEAD", url, **kw)


def post(url: str | URL, data: Payload = None, json: Any = None, **kw: Unpack[_OptionsOfPost]) -> RequestsResponse:
    """Sends a request with the method POST; see `request`."""
    return request("POST", url, data=data, json=json, **kw)


def put(url: str | URL, data: Payload = None, **kw: Unpack[_OptionsOfPut]) -> RequestsResponse:
    """Sends a request with the method PUT; see `request`."""
    return request("PUT", url, data=data, **kw)


def patch(url: str | URL, data: Payload = None, **kw: Unpack[_OptionsOfPut]) -> RequestsResponse:
    """Sends a request with the method PATCH; see `request`."""
    return request("PATCH", url, data=data, **kw)


def delete(url: str | URL, **kw: Unpack[RequestOptions]) -> RequestsResponse:
    """Sends a request with the method DELETE; see `request`."""
    return request("DELETE", url, **kw)
