"""Clients by what sets them apart, for adapters that are asked for one origin after another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from geventhttpclient._checks import MOST_KEPT_CHARACTERS
from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPSocketPoolResponse

if TYPE_CHECKING:
    from geventhttpclient._core import _Seconds

# More connections than a process can have.
UNBOUNDED = 1 << 20


class Origin:
    """A client, with what is the same in each of its requests: no field but Host goes out unless it is given."""

    __slots__ = ("_always", "_exchange", "client")

    def __init__(self, client: HTTPClient) -> None:
        self.client = client
        self._exchange: Callable[..., HTTPSocketPoolResponse] = client._connection_pool._exchange
        self._always: Any = (
            {"Host": client._host_field},
            None,
            client._bases,
            client.version,
            client._proxy,
            (client.block_size, client.headers_type),
        )

    def send(
        self, method: str, target: str, body: Any, headers: list[tuple[Any, Any]], timeouts: _Seconds
    ) -> HTTPSocketPoolResponse:
        """As HTTPClient.request; the timeouts are those of connection, network, pool and total."""
        if target.startswith("//"):
            # By itself it is refused, though it is a path: see HTTPClient.request.
            target = self.client._bases[0] + target
        return self._exchange(HTTPSocketPoolResponse, method, target, body, headers, *self._always, timeouts)


_T = TypeVar("_T")


class Origins(Generic[_T]):
    """At most `limit` of them; for one more, the one that was used longest ago goes.

    One with more than MOST_KEPT_CHARACTERS in a part of its key is not kept at all. One that goes closes its
    idle connections at once, and those in use when their responses have been read: what still uses it is not disturbed.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._origins: OrderedDict[Hashable, _T] = OrderedDict()

    def get(self, key: tuple[Hashable, ...], make: Callable[..., _T], *arguments: Any) -> _T:
        """The one of that key; `make` makes it of `arguments` when there is none."""
        origin = self._origins.get(key)
        if origin is not None:
            with suppress(KeyError):  # another thread has just taken it out
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
        """Lets all of them go; the next request makes new ones."""
        self._origins.clear()
