"""Server-sent events and JSON lines in the body of a response."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, TypeVar

from geventhttpclient import _core
from geventhttpclient._core import MOST_EVENT_BYTES, MOST_LINE_BYTES, EventReader, LineReader, ServerSentEvent
from geventhttpclient._internal.charsets import parse_json_text
from geventhttpclient._internal.reading import LINE_END, cooperative, lines
from geventhttpclient._internal.validation import check_count
from geventhttpclient.exceptions import ContentTypeError, DecodingError, StreamFormatError

__all__ = ["StreamMethods", "url_of_head"]

# Most bytes of a line that an error shows.
_SHOWN = 60

_Reader = TypeVar("_Reader", EventReader, LineReader)


class StreamMethods:
    """Mixin for responses whose body is read as a stream of items."""

    __slots__ = ()

    def _pieces(self) -> Iterator[bytes]:
        """Returns an iterator over the rest of the body, with its content coding decoded, each piece as soon as it was
        received. Another call continues behind the pieces that were taken."""
        raise NotImplementedError

    def _content_type(self) -> str:
        raise NotImplementedError

    def _shown_url(self) -> str | None:
        """Returns the URL of the request without credentials; None if it is not known."""
        raise NotImplementedError

    def iter_events(self, *, max_event_bytes: int = MOST_EVENT_BYTES) -> Iterator[ServerSentEvent]:
        """Returns an iterator over the server-sent events of the body (`text/event-stream`: WHATWG HTML, section 9.2).

            >>> for event in response.iter_events():
            ...     print(event.event, event.data)

        Yields each event when its last byte has been received, with the content coding decoded; an event that is
        incomplete at the end of the body is dropped. You can leave the loop and call this again for the next events.

        Raises ContentTypeError for another type of content; while iterating, StreamFormatError for an event of more
        than `max_event_bytes` (1 MiB by default), zlib.error for a body that does not match its content coding, and
        the errors of `read`. The connection is closed then.
        """
        check_count("max_event_bytes", max_event_bytes)
        content_type = self._content_type()
        if content_type.partition(";")[0].strip().lower() != "text/event-stream":
            raise _unexpected_type(self, content_type)
        return _items(self, _reader_of(self, EventReader, max_event_bytes), "event")

    def iter_json_lines(self, *, max_line_bytes: int = MOST_LINE_BYTES) -> Iterator[Any]:
        """Returns an iterator over the values of the body's lines, which are JSON in UTF-8 (JSON lines, NDJSON).

        Yields each value when its line has been received, with the content coding decoded; skips blank lines. You can
        leave the loop and call this again for the next lines. The Content-Type is not checked, because servers use many
        for this format.

        Raises StreamFormatError, while iterating, for a line that is not JSON or has more than `max_line_bytes` (16 MiB
        by default), zlib.error for a body that does not match its content coding, and the errors of `read`. The
        connection is closed then.
        """
        check_count("max_line_bytes", max_line_bytes)
        return _values(self, _reader_of(self, LineReader, max_line_bytes))

    def iter_lines(self, *, delimiter: str | bytes | None = None) -> Iterator[Any]:
        """Returns an iterator over the lines of the body as bytes without line ends, each as soon as it was received,
        with the content coding decoded.

        Lines end with LF, CR LF or CR, or only with `delimiter` if it is given. Keep the iterator if you leave a loop:
        it has lines that were received already, which another call does not have.
        """
        if isinstance(delimiter, (str, bytes)) and not delimiter:
            raise ValueError("delimiter must not be empty")
        delimiter = delimiter.encode() if isinstance(delimiter, str) else delimiter
        return _whole_lines(self, delimiter)


def _whole_lines(response: StreamMethods, delimiter: bytes | None) -> Iterator[Any]:
    # Refers to the response, which would release its connection.
    yield from lines(cooperative(response._pieces()), delimiter, LINE_END, b"\r")


def _reader_of(response: Any, kind: type[_Reader], limit: int) -> _Reader:
    """Returns the reader of a response: the same one as before, since it has bytes that were not used."""
    reader = getattr(response, "_stream_reader", None)
    if not isinstance(reader, kind):
        reader = response._stream_reader = kind(limit)
    return reader


def _items(response: StreamMethods, reader: EventReader | LineReader, noun: str) -> Iterator[Any]:
    try:
        yield from reader
        for piece in cooperative(response._pieces()):
            yield from reader.feed(piece)
    except StreamFormatError as error:
        raise _failed(response, StreamFormatError, f"{noun} {reader.number + 1}", reader.number + 1, error) from None
    except zlib.error as error:
        failed = _failed(response, DecodingError, f"{noun} {reader.number + 1}", reader.number + 1, error)
        raise failed from error


def _values(response: StreamMethods, reader: LineReader) -> Iterator[Any]:
    for line in _lines(response, reader):
        if not line or line.isspace():
            continue
        try:
            value = parse_json_text(line)
        except ValueError as error:
            shown = line[:_SHOWN]
            number = reader.number
            more = "..." if len(line) > _SHOWN else ""
            failed = _failed(response, StreamFormatError, f"line {number}", number, f"{error}: {shown!r}{more}")
            raise failed from error
        yield value


def _lines(response: StreamMethods, reader: LineReader) -> Iterator[bytes]:
    yield from _items(response, reader, "line")
    last = reader.finish()
    if last is not None:
        yield last


def _failed(response: Any, kind: type[Any], item: str, number: int | None, reason: object) -> Any:
    """Closes the connection of a response, and returns the exception for an item of its body."""
    url = response._shown_url()
    response.release()
    failed = kind(f"{item} of {url}: {reason}" if url else f"{item}: {reason}")
    failed.url, failed.number = url, number
    return failed


def _unexpected_type(response: Any, content_type: str) -> ContentTypeError:
    shown = repr(content_type[:200]) if content_type else "no Content-Type"
    reason = f"expected text/event-stream, got {shown} with status {response.status_code}"
    failed: ContentTypeError = _failed(response, ContentTypeError, "response", None, reason)
    failed.content_type = content_type
    return failed


def url_of_head(head: str, is_tls: bool) -> str | None:
    """Returns the URL of a request that was sent, without credentials; None if the head does not have one."""
    request_line, _, fields = head.partition("\r\n")
    target = request_line.split(" ")[1:2]
    host = next((line[5:].strip() for line in fields.split("\r\n") if line[:5].lower() == "host:"), "")
    if not target or not (host or "://" in target[0]):
        return None
    scheme = "https" if is_tls else "http"
    return _core.redact(target[0] if "://" in target[0] else f"{scheme}://{host}{target[0]}")
