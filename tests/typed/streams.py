"""Streaming APIs: events, JSON lines, and sources that connect again."""

# pyright: strict

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typing_extensions import assert_type

import geventhttpclient
from geventhttpclient import EventSource, HTTPClient, JSONLinesSource, Session, exceptions, httpx, sse


def main(url: str) -> None:
    of_a_client(url)
    of_a_session(url)
    that_connect_again(url)


def of_a_client(url: str) -> None:
    with HTTPClient.from_url(url, concurrency=3) as http:
        with http.get("/events") as response:
            for event in response.iter_events(max_event_bytes=sse.MOST_EVENT_BYTES):
                assert_type(event, sse.ServerSentEvent)
                assert_type(event.event, str)
                assert_type(event.data, str)
                assert_type(event.id, str)
                assert_type(event.retry, int | None)
                assert_type(event.json(), Any)
                break
        with http.get("/stream") as response:
            assert_type(response.iter_json_lines(max_line_bytes=1000), Iterator[Any])
        with http.get("/stream") as response:
            assert_type(next(response.iter_lines()), Any)
        try:
            http.get("/page").iter_events()
        except exceptions.ContentTypeError as error:
            assert_type(error.content_type, str)
        except exceptions.StreamFormatError as error:
            assert_type(error.url, str | None)
            assert_type(error.number, int | None)


def of_a_session(url: str) -> None:
    with Session() as session, session.get(f"{url}/events") as response:
        assert_type(next(response.iter_events()), sse.ServerSentEvent)
    with httpx.Client() as client, client.stream("GET", f"{url}/events") as answer:
        assert_type(next(answer.iter_events()), sse.ServerSentEvent)


def that_connect_again(url: str) -> None:
    assert sse.EventSource is EventSource
    assert sse.JSONLinesSource is JSONLinesSource
    with EventSource(f"{url}/events", last_event_id="7", retry=1.5, idle_timeout=60.0) as events:
        assert events.ready_state == sse.CONNECTING
        for event in events:
            assert_type(event, sse.ServerSentEvent)
            assert_type(events.last_event_id, str)
            assert events.ready_state == sse.OPEN
            break
        assert_type(events.reconnects, int)
        assert_type(events.retry, float)
    assert events.ready_state == sse.CLOSED
    with Session() as session, JSONLinesSource(f"{url}/stream", session=session, max_retries=3) as values:
        assert_type(next(values), Any)
    assert geventhttpclient.EventSource is EventSource
    assert geventhttpclient.JSONLinesSource is JSONLinesSource
