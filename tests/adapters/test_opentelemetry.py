"""OpenTelemetry spans and metrics, recorded by its SDK, named by its semantic conventions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import gevent
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
)
from opentelemetry.semconv.metrics.http_metrics import HTTP_CLIENT_REQUEST_DURATION
from opentelemetry.trace import SpanKind, StatusCode

from geventhttpclient import HTTPClient, Session
from geventhttpclient.opentelemetry import GeventHTTPClientInstrumentor, Telemetry
from tests.support.http2_peer import serve_targets, talking
from tests.support.peer import Peer, serve_ok
from tests.support.scripted import OK, answer, saying

pytestmark = pytest.mark.usefixtures("bounded")


class Seen:
    """The spans and metrics that the SDK has received."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def attributes(self) -> list[dict[str, Any]]:
        return [dict(span.attributes or {}) for span in self.spans]

    def points(self) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        ((metric,),) = [scope.metrics for resource in data.resource_metrics for scope in resource.scope_metrics]
        assert (metric.name, metric.unit) == (HTTP_CLIENT_REQUEST_DURATION, "s")
        return list(metric.data.data_points)


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen = Seen()
    instrumentor = GeventHTTPClientInstrumentor()
    instrumentor.instrument(tracer_provider=seen.tracers, meter_provider=seen.meters)
    try:
        yield seen
    finally:
        instrumentor.uninstrument()


def test_request_creates_a_span(seen: Seen) -> None:
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        client.get("/a?b=c").read()
    (span,) = seen.spans
    assert (span.name, span.kind) == ("GET", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    assert seen.attributes() == [
        {
            http_attributes.HTTP_REQUEST_METHOD: "GET",
            server_attributes.SERVER_ADDRESS: "127.0.0.1",
            server_attributes.SERVER_PORT: peer.port,
            url_attributes.URL_FULL: f"{peer.url}/a?b=c",
            http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
            network_attributes.NETWORK_PROTOCOL_VERSION: "1.1",
            network_attributes.NETWORK_PEER_ADDRESS: "127.0.0.1",
            network_attributes.NETWORK_PEER_PORT: peer.port,
        }
    ]


def test_request_is_measured(seen: Seen) -> None:
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        client.get("/").read()
        client.get("/").read()
    (point,) = seen.points()
    assert point.count == 2
    assert 0 < point.sum < 10
    assert point.explicit_bounds[:3] == (0.005, 0.01, 0.025)
    assert dict(point.attributes) == {
        http_attributes.HTTP_REQUEST_METHOD: "GET",
        server_attributes.SERVER_ADDRESS: "127.0.0.1",
        server_attributes.SERVER_PORT: peer.port,
        url_attributes.URL_SCHEME: "http",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
        network_attributes.NETWORK_PROTOCOL_VERSION: "1.1",
    }


def test_request_carries_the_trace_context(seen: Seen) -> None:
    tracer = seen.tracers.get_tracer("test")
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        with tracer.start_as_current_span("outer") as outer:
            client.get("/").read()
        span = seen.spans[0]
        assert span.context is not None
        assert span.parent is not None
        assert span.parent.span_id == outer.get_span_context().span_id
        told = peer.requests[0].get("traceparent")
        assert told == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


def test_greenlets_have_separate_contexts(seen: Seen) -> None:
    tracer = seen.tracers.get_tracer("test")
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port, concurrency=5)) as client:

        def ask(number: int) -> tuple[str, int]:
            with tracer.start_as_current_span("outer") as outer:
                client.get(f"/{number}").read()
                return f"/{number}", outer.get_span_context().trace_id

        asked = dict(each.get() for each in [gevent.spawn(ask, number) for number in range(5)])
        for request in peer.requests:
            assert (request.get("traceparent") or "").split("-")[1] == f"{asked[request.target]:032x}"


@pytest.mark.parametrize("status", [404, 503])
def test_error_status_sets_span_status(seen: Seen, status: int) -> None:
    with Peer(saying(answer(b"", f"{status} No"))) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        client.get("/").read()
    (span,) = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    assert seen.attributes()[0][error_attributes.ERROR_TYPE] == str(status)
    assert seen.points()[0].attributes[error_attributes.ERROR_TYPE] == str(status)


def test_exception_is_the_error_of_its_span(seen: Seen) -> None:
    with Peer(lambda conn: conn.read_request()) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        with pytest.raises(Exception, match="closed"):
            client.get("/")
        with pytest.raises(ValueError, match="method"):
            client.request("B D", "/")
    first, second = seen.spans
    assert [event.name for event in first.events] == ["exception"]
    assert first.status.status_code is StatusCode.ERROR
    attributes = seen.attributes()
    assert attributes[0][error_attributes.ERROR_TYPE] == "geventhttpclient.response.HTTPConnectionClosed"
    assert attributes[1][error_attributes.ERROR_TYPE] == "ValueError"
    # A method that no RFC defines could be any text.
    assert second.name == "HTTP"
    assert attributes[1][http_attributes.HTTP_REQUEST_METHOD] == "_OTHER"
    assert attributes[1][http_attributes.HTTP_REQUEST_METHOD_ORIGINAL] == "B D"
    assert sum(point.count for point in seen.points()) == 2


def test_redirect_creates_two_spans(seen: Seen) -> None:
    moved = answer(b"", "302 Found", "Location: /there")
    with Peer(saying(moved, OK)) as peer, Session() as session:
        session.get(peer.url)
    assert [attributes[url_attributes.URL_FULL].rpartition("/")[2] for attributes in seen.attributes()] == ["", "there"]


def test_http2_is_the_protocol_version(seen: Seen) -> None:
    with talking(serve_targets) as (_, client):
        client.get("/").read()
    assert seen.attributes()[0][network_attributes.NETWORK_PROTOCOL_VERSION] == "2"


def test_passwords_are_not_recorded(seen: Seen) -> None:
    with Peer(serve_ok) as peer, Session() as session:
        session.get(peer.url.replace("://", "://user:open-sesame@"))
    assert "sesame" not in repr(seen.attributes())


def test_signatures_are_redacted(seen: Seen) -> None:
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        client.get("/sig=1?a=b&X-Amz-Signature=sesame&design=2&sig=sesame").read()
        assert peer.requests[0].target.count("sesame") == 2
    shown = seen.attributes()[0][url_attributes.URL_FULL]
    assert shown == f"{peer.url}/sig=1?a=b&X-Amz-Signature=REDACTED&design=2&sig=REDACTED"


def test_target_without_a_slash_is_not_taken_for_a_port(seen: Seen) -> None:
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        assert client.get("there").read() == b"/there"
    assert seen.attributes()[0][server_attributes.SERVER_PORT] == peer.port


def test_span_ends_if_a_hook_replaces_the_error(seen: Seen) -> None:
    def replace(request: object, error: BaseException) -> None:
        raise RuntimeError("worse") from error

    client = HTTPClient("example.org", on_error=replace)
    with pytest.raises(RuntimeError, match="worse"):
        client.request("B D", "/")
    assert [attributes[error_attributes.ERROR_TYPE] for attributes in seen.attributes()] == ["RuntimeError"]


def test_suppressed_instrumentation_records_nothing(seen: Seen) -> None:
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        with suppress_http_instrumentation():
            client.get("/").read()
        assert peer.requests[0].get("traceparent") is None
    assert seen.spans == ()


def test_hooks_add_attributes() -> None:
    seen = Seen()
    telemetry = Telemetry(
        seen.tracers,
        seen.meters,
        lambda span, request: span.set_attribute("asked", request.method),
        lambda span, request, response: span.set_attribute("answered", response["content-length"]),
    )
    hooks = {"on_request": telemetry.on_request, "on_response": telemetry.on_response, "on_error": telemetry.on_error}
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port, **hooks)) as client:
        client.get("/").read()
    assert (seen.attributes()[0]["asked"], seen.attributes()[0]["answered"]) == ("GET", "1")


def test_uninstrumented_clients_record_nothing() -> None:
    seen = Seen()
    instrumentor = GeventHTTPClientInstrumentor()
    instrumentor.instrument(tracer_provider=seen.tracers, meter_provider=seen.meters)
    instrumentor.uninstrument()
    with Peer(serve_ok) as peer, closing(HTTPClient(peer.host, peer.port)) as client:
        client.get("/").read()
    assert seen.spans == ()
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_distribution_has_the_entry_point() -> None:
    (found,) = [each for each in entry_points(group="opentelemetry_instrumentor") if each.name == "geventhttpclient"]
    assert found.load() is GeventHTTPClientInstrumentor


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.utils", None)
    monkeypatch.delitem(sys.modules, "geventhttpclient.opentelemetry")
    with pytest.raises(ImportError, match=r"pip install 'geventhttpclient\[opentelemetry\]'"):
        import_module("geventhttpclient.opentelemetry")
