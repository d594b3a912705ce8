"""The parsed options of a command, translated into the client's arguments and the parts of a request."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geventhttpclient.auth import credentials_of, resolve_auth
from geventhttpclient.cli.failure import USAGE, Failure
from geventhttpclient.header import Headers

if TYPE_CHECKING:
    from geventhttpclient.client import HTTPClient
    from geventhttpclient.url import URL

# Fields that depend on the body.
_FRAMING = frozenset({"content-length", "transfer-encoding"})


def client_options(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments for HTTPClient, or for a class that creates HTTPClients."""
    given: dict[str, Any] = {
        "verify": options.verify,
        "http2": options.http2,
        "connection_timeout": options.connect_timeout,
        "network_timeout": options.timeout,
        "pool_timeout": options.timeout,
        "total_timeout": options.max_time,
        "trust_env": options.proxy is None,
    }
    if options.cert is not None:
        given["cert"] = (options.cert, options.key) if options.key is not None else options.cert
    if options.proxy is not None:
        given["proxy"] = options.proxy
    if options.unix_socket is not None:
        given["uds"] = options.unix_socket
    if options.resolve:
        given["resolve"] = dict(options.resolve)
    return given


def method_of(options: argparse.Namespace) -> str:
    """Returns the method given with -X, or the default for the given body."""
    if options.method is not None:
        return str(options.method)
    if getattr(options, "head", False):
        return "HEAD"
    return "POST" if options.data is not None or getattr(options, "form", None) is not None else "GET"


def credentials(options: argparse.Namespace, url: URL) -> tuple[str | bytes, str | bytes] | None:
    """Returns the name and password of -u, or else those of the URL. Asks for the password if -u has none."""
    if options.user is not None:
        name, colon, password = options.user.partition(":")
        if not colon:
            password = getattr(options, "user_password", None)
            if password is None:
                password = options.user_password = _ask_password(name)
        return name, password
    return credentials_of(url)


def _ask_password(name: str) -> str:
    import getpass

    try:
        return getpass.getpass(f"Password of {name}: ")
    except EOFError:
        raise Failure("no password was given", USAGE) from None


def check_request(
    client: HTTPClient, options: argparse.Namespace, url: URL, method: str, headers: Headers, content: Any = b""
) -> None:
    """Raises ValueError or TypeError if the head of that request cannot be built. Sends nothing.

    Later errors of these classes are not caused by the command line. `content` is checked only if it is bytes.
    """
    fields = Headers()
    for name, value in headers.items():
        if value is not None and (isinstance(content, bytes) or name.lower() not in _FRAMING):
            fields.add(name, value)
    user = credentials(options, url)
    if user is not None:
        fields.setdefault("Authorization", resolve_auth(user))
    client._build_request(method, url.quoted_uri or "/", content if isinstance(content, bytes) else b"", fields)


def usage_failure(error: Exception) -> Failure:
    """Returns a Failure for an argument that a client has rejected: an invalid proxy, a file without a certificate."""
    return Failure(str(error), USAGE)
