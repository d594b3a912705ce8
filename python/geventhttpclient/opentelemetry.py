"""OpenTelemetry traces and metrics for all clients that are created after this call:

    from geventhttpclient.opentelemetry import GeventHTTPClientInstrumentor

    GeventHTTPClientInstrumentor().instrument()

Requires `pip install 'geventhttpclient[opentelemetry]'`; `opentelemetry-instrument` finds the instrumentation
automatically.

Each request creates a span of kind CLIENT, whose context is sent with the request, and a value of the histogram
`http.client.request.duration`. Names and values follow the stable semantic conventions for HTTP (1.23 and later). A
span ends when the head of the response has been received, or with the error. Each redirect and each retry of a
UserAgent has a span of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from time import perf_counter
from typing import TYPE_CHECKING, Any

from geventhttpclient._version import __version__
from geventhttpclient.hooks import Hooks, Request, add_default, remove_default
from geventhttpclient.url import URL

try:
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
    from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
    from opentelemetry.metrics import get_meter
    from opentelemetry.propagate import inject
    from opentelemetry.trace import SpanKind, get_tracer, set_span_in_context
    from opentelemetry.trace.status import Status, StatusCode
except ImportError as _error:
    _needed = "pip install 'geventhttpclient[opentelemetry]'"
    raise ImportError(f"geventhttpclient.opentelemetry needs packages of OpenTelemetry: {_needed}") from _error

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from geventhttpclient.response import HTTPSocketPoolResponse

__all__ = ["GeventHTTPClientInstrumentor", "Telemetry"]

_SCHEMA = "https://opentelemetry.io/schemas/1.23.0"
# The methods of RFC 9110 and RFC 5789. Others are not reported, since the number of values in metrics must be bounded.
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
# The bucket boundaries that the conventions recommend, in seconds.
_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# Parameters of signed URLs that the conventions require to be redacted. AWS has used two generations of names.
_SECRET = re.compile(
    r"(?<=[?&])(AWSAccessKeyId|Signature|X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|X-Goog-Signature|sig)"
    r"=[^&#]*"
)
# The key in `Request.state` of the span and its start time.
_KEY = "opentelemetry"


class Telemetry(Hooks):
    """Hooks that create spans and metrics: `HTTPClient(..., on_request=telemetry.on_request, ...)` for one client."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        request_hook: Callable[[Span, Request], object] | None = None,
        response_hook: Callable[[Span, Request, HTTPSocketPoolResponse], object] | None = None,
    ) -> None:
        """Uses the global providers of the process unless others are given.

        In `request_hook(span, request)` and `response_hook(span, request, response)` the program may add attributes.
        """
        super().__init__(self._begin, self._end, self._fail)
        self._tracer = get_tracer("geventhttpclient", __version__, tracer_provider, _SCHEMA)
        self._duration = get_meter("geventhttpclient", __version__, meter_provider, _SCHEMA).create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._request_hook = request_hook
        self._response_hook = response_hook

    def _begin(self, request: Request) -> None:
        if not is_http_instrumentation_enabled():
            return
        scheme, host, port = _origin_of(request.url)
        method = request.method if request.method in _METHODS else "_OTHER"
        common: dict[str, Any] = {
            "http.request.method": method,
            "server.address": host,
            "server.port": port,
        }
        attributes = {**common, "url.full": _SECRET.sub(r"\1=REDACTED", request.url)}
        if method != request.method:
            attributes["http.request.method_original"] = request.method
        name = "HTTP" if method == "_OTHER" else method
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        request.state[_KEY] = (span, perf_counter(), {**common, "url.scheme": scheme})
        if self._request_hook is not None and span.is_recording():
            self._request_hook(span, request)
        inject(request.headers, context=set_span_in_context(span))

    def _end(self, request: Request, response: HTTPSocketPoolResponse) -> None:
        known = request.state.pop(_KEY, None)
        if known is None:
            return
        span, begun, measured = known
        status = response.status_code
        answered: dict[str, Any] = {
            "http.response.status_code": status,
            "network.protocol.version": response.version.removeprefix("HTTP/"),
        }
        if status >= 400:
            answered["error.type"] = str(status)
        self._duration.record(perf_counter() - begun, {**measured, **answered}, set_span_in_context(span))
        if span.is_recording():
            peer = response.timings.peer
            if isinstance(peer, tuple):
                span.set_attributes({"network.peer.address": peer[0], "network.peer.port": peer[1]})
            elif peer is not None:
                span.set_attribute("network.peer.address", peer)
            span.set_attributes(answered)
            if status >= 400:
                span.set_status(Status(StatusCode.ERROR))
        try:
            if self._response_hook is not None and span.is_recording():
                self._response_hook(span, request, response)
        finally:
            span.end()

    def _fail(self, request: Request, error: BaseException) -> None:
        known = request.state.pop(_KEY, None)
        if known is None:
            return
        span, begun, measured = known
        kind = type(error)
        # A class that is named like the built-in that it is a subclass of is known by that.
        kind = next((base for base in kind.__mro__[1:] if base.__name__ == kind.__name__), kind)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        self._duration.record(perf_counter() - begun, {**measured, "error.type": name}, set_span_in_context(span))
        span.set_attribute("error.type", name)
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, str(error)))
        span.end()


def _origin_of(text: str) -> tuple[str, str, int]:
    """Returns scheme, host and port; the host is "" for an invalid URL, which the client is going to reject."""
    try:
        url = URL(text)
        return url.scheme, url.host, url.port or 80
    except ValueError:
        return "", "", 0


class GeventHTTPClientInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # its package has no types
    """Instrumentation of every HTTPClient that is created after `instrument()`, including those of UserAgent, Session
    and httpx.Client.

    `instrument()` takes the arguments of Telemetry. `uninstrument()` affects clients that are created after it.
    """

    _telemetry: Telemetry | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Returns the packages that this instrumentation is for."""
        return ("geventhttpclient >= 3.0",)

    def _instrument(self, **kwargs: Any) -> None:
        taken = ("tracer_provider", "meter_provider", "request_hook", "response_hook")
        self._telemetry = Telemetry(**{name: kwargs[name] for name in taken if name in kwargs})
        add_default(self._telemetry)

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._telemetry is not None:
            remove_default(self._telemetry)
            self._telemetry = None
