"""Authentication. A flow is a generator that yields requests and receives their responses."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Any, cast

from geventhttpclient._internal.validation import given
from geventhttpclient.auth import BasicAuth as _BasicValue
from geventhttpclient.auth import DigestAuth as _DigestAnswers
from geventhttpclient.auth import netrc_auth
from geventhttpclient.httpx.messages import Request, Response

__all__ = ["Auth", "BasicAuth", "DigestAuth", "Flow", "NetRCAuth"]

Flow = Generator[Request, Response, None]
"""The generator that `Auth.auth_flow` returns: it yields requests and receives their responses."""


class Auth:
    """A base class: override `auth_flow`, which changes the request, yields it, and may continue with its response."""

    requires_request_body = False
    """Whether the body of the request is read into memory before the flow begins."""
    requires_response_body = False
    """Whether the body of a response is read before the flow receives it."""

    def auth_flow(self, request: Request) -> Flow:
        """Yields the request, possibly changed, and then any further requests."""
        yield request


class BasicAuth(_BasicValue):
    """A user name and a password, sent unencrypted in Authorization (RFC 7617)."""

    __slots__ = ()


class DigestAuth(_DigestAnswers, Auth):
    """Answers to Digest challenges (RFC 7616): the password itself is never sent."""

    def auth_flow(self, request: Request) -> Flow:
        """Yields the request, and again with an answer if it was refused with a challenge."""
        return _digest_flow(self, request)


class NetRCAuth(Auth):
    """User name and password of each host from a netrc file: by default that of NETRC, or else the user's own."""

    def __init__(self, file: str | os.PathLike[str] | None = None) -> None:
        """`file` names another file, which must exist."""
        self._entries = None
        if file is not None:
            import netrc

            self._entries = netrc.netrc(os.fspath(file))

    def auth_flow(self, request: Request) -> Flow:
        """Yields the request, with Basic credentials if the file has an entry for its host."""
        found: Any
        if self._entries is None:
            found = netrc_auth(request.url_split.host)
        else:
            entry = self._entries.authenticators(request.url_split.host)
            found = entry and (entry[0] or entry[1] or "", entry[2] or "")
        if found:
            request.headers["Authorization"] = _BasicValue(*found).auth_header()
        yield request


def _header_flow(value: str, request: Request) -> Flow:
    request.headers["Authorization"] = value
    yield request


def _function_flow(function: Callable[[Request], Request], request: Request) -> Flow:
    changed = function(request)
    if not isinstance(changed, Request):
        raise TypeError(f"auth must return the request that it is called with, or another one, not {given(changed)}")
    yield changed


def _digest_flow(auth: _DigestAnswers, request: Request) -> Flow:
    split = request.url_split
    origin = f"{split.scheme}://{split.host}:{split.port}"
    target = request._target()
    sent = auth.preemptive(request.method, target, origin, request.payload)
    # The second answer is for a stale nonce; there is no third.
    for answers in range(3):
        if sent is not None:
            request.headers["Authorization"] = sent
        response = yield request
        # Another origin that a redirect leads to gets no answer.
        if response.status_code != 401 or answers == 2 or not response.request._is_same_origin():
            return
        challenges = response.headers.getlist("www-authenticate") or []
        sent = auth.response(request.method, target, challenges, origin, sent, request.payload)
        if sent is None:
            return
        request._rewind_payload()


def check_auth(auth: Any) -> None:
    """Raises TypeError unless the value can be used for authentication."""
    is_pair = isinstance(auth, tuple) and len(auth) == 2
    if auth is None or is_pair or isinstance(auth, (str, _BasicValue, _DigestAnswers)):
        return
    if not hasattr(auth, "auth_flow") and not callable(auth):
        # The repr may contain a password.
        raise TypeError(f"auth must be a tuple of user and password, an Auth or a function, not {type(auth).__name__}")


def flow_of(auth: Any, request: Request) -> Flow | None:
    """Returns the flow for a value of `auth`, or None for no authentication. Raises TypeError for an invalid one."""
    check_auth(auth)
    if auth is None:
        return None
    if isinstance(auth, tuple):
        auth = _BasicValue(*auth)
    if isinstance(auth, _BasicValue):
        auth = auth.auth_header()
    if isinstance(auth, str):
        return _header_flow(auth, request)
    if isinstance(auth, _DigestAnswers) and not isinstance(auth, DigestAuth):
        return _digest_flow(auth, request)
    if not hasattr(auth, "auth_flow"):
        return _function_flow(cast("Callable[[Request], Request]", auth), request)
    if getattr(auth, "requires_request_body", False):
        request.read()
    flow: Flow = auth.auth_flow(request)
    return flow
