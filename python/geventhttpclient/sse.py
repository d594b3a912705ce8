"""Streams of server-sent events (WHATWG HTML, section 9.2) and of JSON lines that connect again when they end.

    with EventSource("https://example.org/events") as events:
        for event in events:
            print(event.event, event.data)

For one response without reconnection, see `iter_events()` and `iter_json_lines()` of all responses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from gevent import get_hub, getcurrent
from gevent.event import Event

from geventhttpclient._agent.draining import drain
from geventhttpclient._agent.retries import retry_after_seconds
from geventhttpclient._core import MOST_EVENT_BYTES as _MOST_EVENT_BYTES
from geventhttpclient._core import MOST_LINE_BYTES as _MOST_LINE_BYTES
from geventhttpclient._core import EventReader, ServerSentEvent
from geventhttpclient._internal.reconnection import Reconnection, is_retried, is_retried_status
from geventhttpclient._internal.validation import check_count, check_number, check_seconds
from geventhttpclient.exceptions import BadStatusCode
from geventhttpclient.header import Headers
from geventhttpclient.requests import RequestsResponse, Session

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from geventhttpclient.header import HeadersDataType
    from geventhttpclient.url import URL

__all__ = ["CLOSED", "CONNECTING", "MOST_EVENT_BYTES", "OPEN", "EventSource", "JSONLinesSource", "ServerSentEvent"]

MOST_EVENT_BYTES: int = _MOST_EVENT_BYTES
"""Most bytes of one event by default: 1 MiB."""

CONNECTING = 0
"""`ready_state` before the response has been received, and while waiting to connect again."""
OPEN = 1
"""`ready_state` while the response is being read."""
CLOSED = 2
"""`ready_state` after the end."""

# Seconds for opening a connection.
_CONNECTION_TIMEOUT = 10.0

# Methods whose response is a feed: a complete body is followed by another request, as the standard says for GET.
_FEEDS = frozenset({"GET", "HEAD"})

_Item = TypeVar("_Item")

_END: Any = object()


class _Closed(BaseException):
    """Ends the wait for a response in the greenlet that iterates, after `close()` in another one."""


class _Source(Generic[_Item]):
    """An iterator over the items of a stream, which connects again when the stream ends."""

    _accept = ""

    def __init__(
        self,
        url: str | URL,
        *,
        session: Session | None = None,
        method: str = "GET",
        headers: HeadersDataType | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        data: str | bytes | None = None,
        retry: float = 3.0,
        max_retries: int | None = None,
        idle_timeout: float | None = None,
    ) -> None:
        if data is not None and not isinstance(data, (str, bytes)):
            # Anything else can be read once, or may have changed by the next request.
            raise TypeError(f"data must be str or bytes, which can be sent again, not {type(data).__name__}")
        if session is not None and not isinstance(session, Session):
            raise TypeError(f"session must be a geventhttpclient.Session, not {type(session).__name__}")
        if not isinstance(method, str):
            raise TypeError(f"method must be a str, not {method!r}")
        seconds = check_seconds("retry", retry)
        if seconds is None:
            raise TypeError("retry must be a number of seconds, not None")
        if math.isinf(seconds):
            raise ValueError("retry must be a finite number of seconds")
        if max_retries is not None:
            max_retries = check_number("max_retries", max_retries)
        self.url = url
        self.ready_state: int = CONNECTING
        self.reconnects: int = 0
        self._method = method.upper()
        self._headers = Headers({"Accept": self._accept, "Cache-Control": "no-cache"})
        self._headers.update(headers if isinstance(headers, dict) else Headers(headers or {}))
        self._body = {"params": params, "json": json, "data": data}
        self._timeout = (_CONNECTION_TIMEOUT, check_seconds("idle_timeout", idle_timeout))
        self._reconnection = Reconnection(seconds, max_retries)
        self._session = Session(max_retries=0) if session is None else session
        self._owns_session = session is None
        self._response: RequestsResponse | None = None
        self._connecting: Any = None
        self._woken = Event()
        self._items: Iterator[Any] | None = None
        self._is_in_use = False

    @property
    def retry(self) -> float:
        """Seconds until the first attempt to connect again: what the server has sent, or else the argument."""
        self._note_retry()
        return self._reconnection.retry

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        """Waits for the next item, and connects again if necessary. StopIteration after `close()`, and at the end.

        Raises RuntimeError if another greenlet waits for the next item.
        """
        if self._is_in_use:
            raise RuntimeError("another greenlet waits for the next item of this source")
        self._is_in_use = True
        try:
            return self._next()
        except BaseException:
            self.close()
            raise
        finally:
            self._is_in_use = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection, in any greenlet of the thread. If another greenlet waits for the next item, its
        iteration ends."""
        if self.ready_state == CLOSED:
            return
        self.ready_state = CLOSED
        self._woken.set()
        self._disconnect()
        waiting = self._connecting
        if waiting is not None and waiting is not getcurrent():
            get_hub().loop.run_callback(self._interrupt, waiting)
        if self._owns_session:
            self._session.close()

    def _interrupt(self, waiting: Any) -> None:
        # It may have received the response since.
        if self._connecting is waiting:
            waiting.throw(_Closed)

    # This is not a generator: a generator and its source would refer to one another, and a source that is dropped would
    # keep its connection until the next garbage collection.
    def _next(self) -> _Item:
        while not self._is_closed():
            failure: Exception | None = None
            retry_after = 0.0
            try:
                if self._items is None:
                    response = self._response = self._connect()
                    if self._is_closed() or response.status_code == 204:
                        break
                    if is_retried_status(response.status_code):
                        retry_after = retry_after_seconds(response.headers.get("retry-after"))
                        failure = _status_error(response)
                    elif not 200 <= response.status_code < 300:
                        raise _status_error(response)
                    else:
                        self._items = self._read(response)
                        self.ready_state = OPEN
                if self._items is not None:
                    item = next(self._items, _END)
                    if self._is_closed():
                        break
                    if item is not _END:
                        self._reconnection.succeeded()
                        return cast("_Item", item)
                    if self._method not in _FEEDS:
                        break
            except _Closed:
                break
            except Exception as error:
                if self._is_closed():
                    break
                if not is_retried(error):
                    raise
                failure = error
            self._disconnect()
            self.ready_state = CONNECTING
            delay = self._reconnection.delay(retry_after)
            if delay is None and failure is not None:
                raise failure
            if delay is None or self._woken.wait(delay):
                break
            self.reconnects += 1
        raise StopIteration

    def _is_closed(self) -> bool:
        return self.ready_state == CLOSED

    def _disconnect(self) -> None:
        self._note_retry()
        self._items = None
        response, self._response = self._response, None
        if response is not None:
            response.release()

    def _connect(self) -> RequestsResponse:
        headers = self._headers.copy()
        headers.update(self._more_headers())
        self._connecting = getcurrent()
        try:
            return self._session.request(
                self._method, self.url, headers=headers, stream=True, timeout=self._timeout, **self._body
            )
        finally:
            self._connecting = None

    def _more_headers(self) -> dict[str, Any]:
        return {}

    def _note_retry(self) -> None:
        """Notes the reconnection time that the server has sent, if there is any."""

    def _read(self, response: RequestsResponse) -> Iterator[_Item]:
        raise NotImplementedError


class EventSource(_Source[ServerSentEvent]):
    """An iterator over the server-sent events of a URL, which connects again when the stream ends.

        >>> with EventSource("https://example.org/events", idle_timeout=60) as events:
        ...     for event in events:
        ...         print(event.event, event.data)

    Each new request has the ID of the last event as Last-Event-ID, so that the server can continue behind it.

    It connects again after `retry` seconds, when the response has ended, the connection broke or timed out, or for the
    statuses 408, 425, 429 and 5xx. The delay is what the server sends in `retry:`, otherwise the argument (3 by
    default). It doubles with each further failure, up to a minute, and is up to half longer by chance; Retry-After is
    respected, up to an hour. A complete response to a method other than GET is the end.

    The end is also the status 204, or `close()`. Any other status raises BadStatusCode, whose `response` has up to 64
    KiB of the body, and any other content than `text/event-stream` ContentTypeError. After `max_retries` failures in
    succession (None: no limit) the last error is raised. Certificates that do not verify, and URLs that are invalid,
    are never tried again.

    - `session`: a Session, with its headers, cookies, credentials and pool; by default one of its own.
    - `method`, `headers`, `params`, `json`, `data`: as in `Session.request`; `data` is text or bytes.
    - `last_event_id`: the ID after which to begin.
    - `idle_timeout`: seconds without any byte after which the connection is given up for a new one; None by default.
      Servers send comments to keep connections alive, often each 15 seconds. Without this timeout, a connection that
      has been lost without a FIN is never noticed.
    - `max_event_bytes`: most bytes of one event; 1 MiB by default. A larger one raises StreamFormatError.

    An exception that is thrown into the greenlet while it waits for an event, such as gevent.Timeout, closes the
    source.

    Attributes: `ready_state` (CONNECTING, OPEN or CLOSED), `reconnects`, `retry`, `last_event_id` and `url`.
    """

    _accept = "text/event-stream"

    def __init__(
        self,
        url: str | URL,
        *,
        session: Session | None = None,
        method: str = "GET",
        headers: HeadersDataType | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        data: str | bytes | None = None,
        last_event_id: str = "",
        retry: float = 3.0,
        max_retries: int | None = None,
        idle_timeout: float | None = None,
        max_event_bytes: int = MOST_EVENT_BYTES,
    ) -> None:
        super().__init__(
            url,
            session=session,
            method=method,
            headers=headers,
            params=params,
            json=json,
            data=data,
            retry=retry,
            max_retries=max_retries,
            idle_timeout=idle_timeout,
        )
        check_count("max_event_bytes", max_event_bytes)
        if not isinstance(last_event_id, str):
            raise TypeError(f"last_event_id must be a str, not {last_event_id!r}")
        if any(character in last_event_id for character in "\r\n\0"):
            raise ValueError(f"last_event_id must not contain CR, LF or NUL: {last_event_id!r}")
        self._max_event_bytes = max_event_bytes
        self._reader = EventReader(max_event_bytes, last_event_id)

    @property
    def last_event_id(self) -> str:
        """The ID of the last event, `""` if there was none."""
        return self._reader.last_event_id

    def _more_headers(self) -> dict[str, Any]:
        identity = self.last_event_id
        # The standard has it in UTF-8. Fields have no control characters (RFC 9110 section 5.5).
        is_sent = identity and all(character >= " " and character != "\x7f" for character in identity)
        return {"Last-Event-ID": identity.encode()} if is_sent else {}

    def _read(self, response: RequestsResponse) -> Iterator[ServerSentEvent]:
        self._reader = EventReader(self._max_event_bytes, self.last_event_id)
        response._stream_reader = self._reader
        return response.iter_events(max_event_bytes=self._max_event_bytes)

    def _note_retry(self) -> None:
        self._reconnection.set_retry(self._reader.retry)


class JSONLinesSource(_Source[Any]):
    """An iterator over the values of a feed of JSON lines (NDJSON), which connects again when the feed ends.

        >>> with JSONLinesSource("https://example.org/feed", idle_timeout=60) as values:
        ...     for value in values:
        ...         print(value)

    The same as EventSource, except for these points. JSON lines have no IDs and no reconnection time, so values that
    are sent while there is no connection are lost. The Content-Type is not checked. A line that is not JSON, or longer
    than `max_line_bytes` (16 MiB by default), raises StreamFormatError.
    """

    _accept = "application/x-ndjson, application/jsonl, application/json"

    def __init__(
        self,
        url: str | URL,
        *,
        session: Session | None = None,
        method: str = "GET",
        headers: HeadersDataType | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        data: str | bytes | None = None,
        retry: float = 3.0,
        max_retries: int | None = None,
        idle_timeout: float | None = None,
        max_line_bytes: int = _MOST_LINE_BYTES,
    ) -> None:
        super().__init__(
            url,
            session=session,
            method=method,
            headers=headers,
            params=params,
            json=json,
            data=data,
            retry=retry,
            max_retries=max_retries,
            idle_timeout=idle_timeout,
        )
        check_count("max_line_bytes", max_line_bytes)
        self._max_line_bytes = max_line_bytes

    def _read(self, response: RequestsResponse) -> Iterator[Any]:
        return response.iter_json_lines(max_line_bytes=self._max_line_bytes)


def _status_error(response: RequestsResponse) -> BadStatusCode:
    """Returns the exception for a response without items, which has the beginning of its body."""
    drain(response)
    return response._status_error()
