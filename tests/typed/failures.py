"""The tree of exceptions, as type checkers see it."""

from __future__ import annotations

import builtins
import http.client
import json
import socket
import ssl
import zlib

from typing_extensions import assert_type

from geventhttpclient import HTTPClient, exceptions
from geventhttpclient.exceptions import HTTPClientError


def main(url: str) -> None:
    try:
        HTTPClient.from_url(url).get("/missing")
    except HTTPClientError as error:
        assert_type(error.phase, str)
        assert_type(error.peer, str | None)
        assert_type(error.elapsed, float | None)
    system()
    protocols()


def system() -> None:
    refused = exceptions.OSError(111, "Connection refused")
    assert_type(refused.errno, int | None)
    for kind, base in (
        (exceptions.BlockingIOError, builtins.BlockingIOError),
        (exceptions.ConnectionAbortedError, builtins.ConnectionAbortedError),
        (exceptions.ConnectionRefusedError, builtins.ConnectionRefusedError),
        (exceptions.FileNotFoundError, builtins.FileNotFoundError),
        (exceptions.InterruptedError, builtins.InterruptedError),
        (exceptions.IsADirectoryError, builtins.IsADirectoryError),
        (exceptions.NotADirectoryError, builtins.NotADirectoryError),
        (exceptions.PermissionError, builtins.PermissionError),
        (exceptions.TimeoutError, builtins.TimeoutError),
        (exceptions.gaierror, socket.gaierror),
        (exceptions.SSLError, ssl.SSLError),
        (exceptions.SSLCertVerificationError, ssl.SSLCertVerificationError),
        (exceptions.SSLEOFError, ssl.SSLEOFError),
        (exceptions.SSLSyscallError, ssl.SSLSyscallError),
        (exceptions.SSLZeroReturnError, ssl.SSLZeroReturnError),
        (exceptions.ProxyError, builtins.RuntimeError),
    ):
        assert issubclass(kind, exceptions.OSError)
        assert issubclass(kind, base)


def protocols() -> None:
    assert issubclass(exceptions.HTTPParseError, http.client.HTTPException)
    for broken in (
        exceptions.HTTPConnectionAborted,
        exceptions.HTTPConnectionBroken,
        exceptions.HTTPConnectionReset,
    ):
        assert issubclass(broken, exceptions.HTTPConnectionClosed)
    assert issubclass(exceptions.HTTPProtocolViolationError, exceptions.HTTPParseError)
    for kind in (
        exceptions.BadStatusCode,
        exceptions.EmptyResponse,
        exceptions.HTTP2Error,
        exceptions.InvalidRedirectError,
        exceptions.RetriesExceeded,
        exceptions.UnrewoundBodyError,
        exceptions.UnsupportedRedirectSchemeError,
    ):
        assert issubclass(kind, exceptions.ConnectionError)
    assert issubclass(exceptions.InvalidURL, exceptions.HTTPClientError)
    assert issubclass(exceptions.RuntimeError, builtins.RuntimeError)
    assert issubclass(exceptions.ValueError, builtins.ValueError)
    assert issubclass(exceptions.JSONDecodeError, json.JSONDecodeError)
    assert issubclass(exceptions.UnicodeDecodeError, builtins.UnicodeDecodeError)
    assert issubclass(exceptions.error, zlib.error)
    assert exceptions.DecodingError is exceptions.error
