"""Pickles and deep copies of responses and cookie jars, without connections and locks."""

from __future__ import annotations

import threading
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any, NoReturn

from geventhttpclient.header import Headers
from geventhttpclient.response import HTTPConnectionClosed, HTTPResponse
from geventhttpclient.timings import Timings

if TYPE_CHECKING:
    from geventhttpclient.tls import TLSInfo

__all__ = ["KeptJar", "KeptResponse", "kept_jar"]


class KeptResponse(HTTPResponse):
    """The head of a response, without its connection. The response that contains it keeps the body if it was read."""

    def __init__(
        self,
        method: str,
        status: tuple[int, str | None, str],
        headers: Any,
        trailers: Headers,
        sent_request: str,
        timings: Timings,
        tls: TLSInfo | None,
        is_complete: bool,
    ) -> None:
        """Takes the parts of a head; `status` is the code, the reason and the version."""
        super().__init__(method)
        self._code, self.status_message, self._version = status
        self._headers_index = headers
        self._trailers = trailers
        self._sent_request = sent_request
        self._timings = timings
        self._tls = tls
        self.headers_complete = self.message_begun = True
        self.message_complete = is_complete

    @classmethod
    def of(cls, response: Any) -> KeptResponse:
        """Returns the head of a response of any class."""
        return cls(
            response.method,
            (response.get_code(), response.status_message, response.get_http_version()),
            response._headers_index,
            getattr(response, "trailers", None) or Headers(),
            getattr(response, "_sent_request", ""),
            getattr(response, "timings", None) or Timings(),
            getattr(response, "tls", None),
            response.message_complete,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        status = (self._code, self.status_message, self._version)
        facts = (self.method, status, self._headers_index, self.trailers, self._sent_request, self.timings, self.tls)
        return KeptResponse, (*facts, self.message_complete)

    def get_code(self) -> int:
        """Returns the status code."""
        return self._code

    def get_http_version(self) -> str:
        """Returns `HTTP/1.1`, `HTTP/1.0` or `HTTP/2`."""
        return self._version

    def should_keep_alive(self) -> bool:
        """Returns False, since there is no connection."""
        return False

    def feed(self, data: str | bytes | bytearray) -> NoReturn:
        """Raises TypeError, since the response has no connection."""
        raise TypeError(f"{type(self).__name__} has no connection, and cannot be fed")

    def _is_attached(self) -> bool:
        return False

    def read(self, length: Any = None) -> bytes:
        """Returns b"". Raises HTTPConnectionClosed if the body was not read before."""
        if not self.message_complete:
            raise HTTPConnectionClosed("the body had not been read when the response was pickled or copied")
        return b""

    @property
    def trailers(self) -> Headers:
        """The trailer fields after a chunked body."""
        return self._trailers

    @property
    def timings(self) -> Timings:
        """The times of the request's steps."""
        return self._timings

    @property
    def tls(self) -> TLSInfo | None:
        """The result of the connection's TLS handshake; None for plain http."""
        return self._tls


class KeptJar:
    """Wrapper that pickles a cookie jar without its lock, since jars of the standard library cannot be pickled."""

    def __init__(self, jar: CookieJar) -> None:
        self._jar = jar

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(self._jar.__dict__)
        with state.pop("_cookies_lock"):
            held = state["_cookies"]
            state["_cookies"] = {
                domain: {path: dict(names) for path, names in paths.items()} for domain, paths in held.items()
            }
        return _restored_jar, (type(self._jar), state)


def kept_jar(jar: Any) -> Any:
    """Returns the object to pickle for a jar: the jar itself if its class supports pickling."""
    kind = type(jar)
    is_picklable = any(
        getattr(kind, name, None) is not getattr(object, name, None)
        for name in ("__getstate__", "__reduce__", "__reduce_ex__")
    )
    is_usual = isinstance(jar, CookieJar) and {"_cookies", "_cookies_lock"} <= jar.__dict__.keys()
    return KeptJar(jar) if is_usual and not is_picklable else jar


def _restored_jar(kind: type[CookieJar], state: dict[str, Any]) -> CookieJar:
    jar = kind.__new__(kind)
    jar.__dict__.update(state, _cookies_lock=threading.RLock())
    return jar
