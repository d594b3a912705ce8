"""boto3 and botocore on this engine, without monkey patching and without `httplib.patch()`.

    s3 = attach(boto3.client("s3"))

Signatures, retries, parsers and exceptions are still botocore's, and the settings of the client apply.

`attach` gives the pools of geventhttpclient.adapters.urllib3 to the client's HTTP session, which is written for
urllib3's. botocore documents an event, `before-send`, whose handlers can send a request. They are not told of `verify`,
and all of them are called: a handler that sends would also send the requests that another one answers, as those of
moto do. The pools depend on three names that botocore has had since 2018, and `attach` fails if one of them is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gevent

from geventhttpclient._internal.validation import given
from geventhttpclient.adapters.urllib3.pools import POOLS

__all__ = ["attach"]

Client = TypeVar("Client")


def attach(client: Client) -> Client:
    """Makes a client, or a resource of boto3, send its requests through this engine. Returns the same object.

    Any number of greenlets may share the client. Its pauses before retries are cooperative. Unless gevent.monkey has
    patched them, botocore's waiters, its own requests for credentials and the threads of s3transfer are not, and the
    lock that it holds while it refreshes credentials is a native one: do not attach a client that a refresh uses, and
    do not use directory buckets.
    """
    inner: Any = getattr(getattr(client, "meta", None), "client", client)
    endpoint = getattr(inner, "_endpoint", None)
    if endpoint is None:
        raise TypeError(f"client must be a client or a resource of boto3, not {given(client)}")
    http = endpoint.http_session
    http._pool_classes_by_scheme.update(POOLS)
    # TCP keep-alive, which botocore's Config may ask for, is always on.
    http._socket_options = None
    # Without a context of OpenSSL the pools use the engine's own TLS.
    http._manager.connection_pool_kw.update(ssl_context=None, socket_options=None)
    http._manager.clear()
    events = inner.meta.events
    if not isinstance(events.emit, _CooperativeEmit):
        events.emit = _CooperativeEmit(events.emit)
    return client


class _CooperativeEmit:
    """Emits the events of a client. Waits as long as botocore would before a retry, but cooperatively."""

    def __init__(self, emit: Callable[..., Any]) -> None:
        self._emit = emit

    def __call__(self, event_name: str, **kwargs: Any) -> Any:
        responses = self._emit(event_name, **kwargs)
        if not event_name.startswith("needs-retry."):
            return responses
        handler, pause = next((found for found in responses if found[1] is not None), (None, None))
        if pause is None or pause is False:
            return responses
        gevent.sleep(pause)
        return [(handler, 0)]
