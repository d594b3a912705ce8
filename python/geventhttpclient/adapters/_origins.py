"""Cache of clients by origin and settings, for adapters that send requests to any origin."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from geventhttpclient._core import RequestTemplate
from geventhttpclient._internal.validation import MOST_KEPT_CHARACTERS
from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPSocketPoolResponse

if TYPE_CHECKING:
    from geventhttpclient._internal.timeouts import RequestTimeouts

# More connections than a process can have.
UNBOUNDED = 1 << 20


class Origin:
    """A client with the arguments that all of its requests share. Host is the only field that is sent by default."""

    __slots__ = ("_exchange", "_template", "client")

    def __init__(self, client: HTTPClient) -> None:
        self.client = client
        self._exchange: Callable[..., HTTPSocketPoolResponse] = client._connection_pool._exchange
        self._template = RequestTemplate(
            {"Host": client._host_field},
            None,
            client._base_urls,
            client.version,
            client._proxy,
            client.block_size,
            client.headers_type,
        )

    def send(
        self,
        method: str,
        target: str,
        body: Any,
        headers: list[tuple[Any, Any]],
        timeouts: RequestTimeouts,
        on_phase: Callable[[str, bool], object] | None,
    ) -> HTTPSocketPoolResponse:
        """Sends a request, like HTTPClient.request. Its response keeps the connection after 101, or a 2xx to CONNECT.
        Calls `on_phase` when a phase of the request begins."""
        return self._exchange(
            self._template,
            HTTPSocketPoolResponse,
            method,
            target,
            body,
            headers,
            timeouts,
            None,
            None,
            True,
            on_phase,
        )


_T = TypeVar("_T")


class Origins(Generic[_T]):
    """Cache of at most `limit` objects; beyond that, the least recently used one is removed.

    An object with more than MOST_KEPT_CHARACTERS in a part of its key is not kept. The idle connections of a removed
    object are closed immediately, and those in use after their responses have been read.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._origins: OrderedDict[Hashable, _T] = OrderedDict()

    def get(self, key: tuple[Hashable, ...], make: Callable[..., _T], *arguments: Any) -> _T:
        """Returns the object with that key; creates it by `make(*arguments)` if there is none."""
        origin = self._origins.get(key)
        if origin is not None:
            with suppress(KeyError):  # another thread has just removed it
                self._origins.move_to_end(key)
            return origin
        origin = make(*arguments)
        if any(len(part) > MOST_KEPT_CHARACTERS for part in key if isinstance(part, (str, bytes))):
            return origin
        self._origins[key] = origin
        while len(self._origins) > self.limit:
            self._origins.popitem(last=False)
        return origin

    def clear(self) -> None:
        """Removes all objects; the next request creates new ones."""
        self._origins.clear()
