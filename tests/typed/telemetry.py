"""Traces and metrics by OpenTelemetry."""

# pyright: strict

from __future__ import annotations

from opentelemetry.trace import Span
from typing_extensions import assert_type

from geventhttpclient import HTTPClient, hooks, opentelemetry


def main(url: str) -> None:
    def name(span: Span, request: hooks.Request) -> None:
        span.set_attribute("app.method", request.method)

    telemetry = opentelemetry.Telemetry(request_hook=name)
    assert_type(telemetry, opentelemetry.Telemetry)
    with HTTPClient.from_url(url, on_request=telemetry.on_request, on_response=telemetry.on_response) as client:
        client.get("/page").read()
    instrumentor = opentelemetry.GeventHTTPClientInstrumentor()
    assert instrumentor.instrumentation_dependencies()
