"""Who is asking. A flow is a generator: it yields requests, and is sent their responses."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Any, cast

from geventhttpclient.auth import BasicAuth as _BasicValue
from geventhttpclient.auth import DigestAuth as _DigestAnswers
from geventhttpclient.auth import netrc_auth
from geventhttpclient.httpx.messages import Request, Response

__all__ = ["Auth", "BasicAuth", "DigestAuth", "Flow", "NetRCAuth"]

Flow = Generator[Request, Response, None]
"""What `Auth.auth_flow` is: yields requests, and is sent their responses."""


class Auth:
    """To be subclassed: `auth_flow` changes the request and yields it, and may look at the response and go on."""

    requires_request_body = False
    """Whether the request's body is to be in memory before the flow begins."""
    requires_response_body = False
    """Whether a response's body is to be read before the flow sees it."""

    def auth_flow(self, request: Request) -> Flow:
        """Yields the request, changed perhaps, and then any that is to follow its response."""
        yield request


class BasicAuth(_BasicValue):
    """A user's name and password, sent as they are (RFC 7617)."""

    __slots__ = ()


class DigestAuth(_DigestAnswers, Auth):
    """Answers to Digest challenges (RFC 7616): the password itself is never sent."""

    def auth_flow(self, request: Request) -> Flow:
        """The request, and once more with an answer where it was refused."""
        return _digest_flow(self, request)


class NetRCAuth(Auth):
    """Name and password for each host from a netrc file: that of NETRC, else the user's own."""

    def __init__(self, file: str | os.PathLike[str] | None = None) -> None:
        """`file` is another one, and must be there."""
        self._entries = None
        if file is not None:
            import netrc

            self._entries = netrc.netrc(os.fspath(file))

    def auth_flow(self, request: Request) -> Flow:
        """The request, with Basic credentials if the file has some for its host."""
        found: Any
        if self._entries is None:
            found = netrc_auth(request.url_split.host)
        else:
            entry = self._entries.authenticators(request.url_split.host)
            found = entry and (entry[0] or entry[1] or "", entry[2] or "")
        if found:
            request.headers["Authorization"] = _BasicValue(*found).auth_header()
        yield request


def _with_header(value: str, request: Request) -> Flow:
    request.headers["Authorization"] = value
    yield request


def _by_function(function: Callable[[Request], Request], request: Request) -> Flow:
    yield function(request)


def _digest_flow(auth: _DigestAnswers, request: Request) -> Flow:
    split = request.url_split
    origin = f"{split.scheme}://{split.host}:{split.port}"
    target = split.quoted_uri or "/"
    sent = auth.preemptive(request.method, target, origin)
    # The second answer is for a nonce that has grown old, and there is no third.
    for answers in range(3):
        if sent is not None:
            request.headers["Authorization"] = sent
        response = yield request
        # A host that a redirect led to has no claim to an answer.
        if response.status_code != 401 or answers == 2 or not response.request._is_same_origin():
            return
        challenges = response.headers.getlist("www-authenticate") or []
        sent = auth.response(request.method, target, challenges, origin, sent)
        if sent is None:
            return
        request._rewind_payload()


def check_auth(auth: Any) -> None:
    """TypeError for what cannot say who is asking."""
    is_pair = isinstance(auth, tuple) and len(auth) == 2
    if auth is None or is_pair or isinstance(auth, (str, _BasicValue, _DigestAnswers)):
        return
    if not hasattr(auth, "auth_flow") and not callable(auth):
        # Not its repr: there may be a password in it.
        raise TypeError(f"auth must be a tuple of user and password, an Auth or a function, not {type(auth).__name__}")


def flow_of(auth: Any, request: Request) -> Flow | None:
    """The flow of what was given as `auth`; None for no authentication. TypeError for what is none."""
    check_auth(auth)
    if auth is None:
        return None
    if isinstance(auth, tuple):
        auth = _BasicValue(*auth)
    if isinstance(auth, _BasicValue):
        auth = auth.auth_header()
    if isinstance(auth, str):
        return _with_header(auth, request)
    if isinstance(auth, _DigestAnswers) and not isinstance(auth, DigestAuth):
        return _digest_flow(auth, request)
    if not hasattr(auth, "auth_flow"):
        return _by_function(cast("Callable[[Request], Request]", auth), request)
    if getattr(auth, "requires_request_body", False):
        request.read()
    flow: Flow = auth.auth_flow(request)
    return flow
