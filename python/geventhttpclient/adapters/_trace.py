"""The extension `trace` of httpx and httpx2: a function that is called for each step of a request, with httpcore's
names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Trace"]

# The arguments of a connection, in the order of httpcore.
_OF_CONNECT = ("host", "port", "local_address", "timeout", "socket_options")


class Trace:
    """Calls the function of one request: `call(name, info)`, where the name ends with `.started`, `.complete` or
    `.failed`. Its exceptions end the request.

    `info` has the arguments of a step that starts, `return_value` of one that is complete, and `exception` of one that
    has failed.
    """

    def __init__(self, call: Callable[[str, dict[str, Any]], object], request: Any, route: dict[str, Any]) -> None:
        """Takes the function, the package's request, and the arguments of a connection: `host`, `port`,
        `local_address`, `path` (of a Unix domain socket), `proxy` (the scheme of one), `server_hostname` and
        `timeout`."""
        self._call = call
        self._request = request
        self._route = route
        self._step: str | None = None
        # The exception that the function has raised.
        self.error: BaseException | None = None
        self._http = "http11"

    def enter(self, phase: str, http2: bool) -> None:
        """Notes that the engine begins a phase of the request."""
        if phase == "send":
            self._http = "http2" if http2 else "http11"
        getattr(self, f"_{phase}")()

    def _resolve(self) -> None:
        # A proxy that needs an address is a part of its own step.
        if self._step is None or not self._step.startswith("socks."):
            self._restart()
            layer = "socks" if self._is_socks() else "connection"
            self._begin_dial(f"{layer}.connect_tcp", *_OF_CONNECT)

    def _connect(self) -> None:
        if self._route.get("path") is not None:
            self._restart()
            self._begin_dial("connection.connect_unix_socket", "path", "timeout", "socket_options")

    def _proxy(self) -> None:
        self.end()
        if self._is_socks():
            self._begin_dial("socks.setup_socks5_connection", "host", "port")

    def _tls(self) -> None:
        self.end()
        proxy = self._route.get("proxy")
        layer = "connection" if proxy is None else "socks" if self._is_socks() else "proxy"
        self._begin_dial(f"{layer}.start_tls", "ssl_context", "server_hostname", "timeout")

    def _send(self) -> None:
        self._restart()
        self.begin("send_request_headers")

    def body(self) -> None:
        """Notes that the head has been sent, and the body follows."""
        if self._step == f"{self._http}.send_request_headers":
            self.end()
            self.begin("send_request_body")

    def _head(self) -> None:
        self.body()
        self.end()
        self.begin("receive_response_headers")

    def begin(self, step: str) -> None:
        """Begins a step of the exchange."""
        # As httpcore has it.
        is_close = self._http == "http11" and step == "response_closed"
        self._begin(f"{self._http}.{step}", {} if is_close else {"request": self._request})

    def end(self, value: object = None) -> None:
        """Completes the step with a result."""
        if (step := self._step) is not None:
            self._step = None
            self._report(f"{step}.complete", {"return_value": value})

    def fail(self, error: BaseException) -> None:
        """Ends the step with an exception."""
        if (step := self._step) is not None:
            self._step = None
            self._report(f"{step}.failed", {"exception": error})

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Returns a context manager for a step of the exchange."""
        self.begin(name)
        with self._until_end():
            yield

    @contextmanager
    def retry(self) -> Iterator[None]:
        """Returns a context manager for the wait before a connection is tried again."""
        self._begin_dial("connection.retry", *_OF_CONNECT)
        with self._until_end():
            yield

    @contextmanager
    def _until_end(self) -> Iterator[None]:
        """Returns a context manager for the rest of a step that has begun."""
        try:
            yield
        except BaseException as error:
            self.fail(error)
            raise
        self.end()

    @property
    def is_http2(self) -> bool:
        """True if the request was sent over HTTP/2."""
        return self._http == "http2"

    def _is_socks(self) -> bool:
        return str(self._route.get("proxy")).startswith("socks")

    def _restart(self) -> None:
        """Completes the step before, of a connection; fails one of an exchange, which is done again."""
        if self._step is None or not self._step.startswith("http"):
            self.end()
            return
        self.fail(ConnectionError("the connection ended before the response: the request is sent again"))

    def _begin_dial(self, step: str, *names: str) -> None:
        self._begin(step, {name: self._route.get(name) for name in names})

    def _begin(self, step: str, info: dict[str, Any]) -> None:
        self._report(f"{step}.started", info)
        self._step = step

    def _report(self, name: str, info: dict[str, Any]) -> None:
        try:
            if inspect.iscoroutine(result := self._call(name, info)):
                result.close()
                raise TypeError("the trace extension of a synchronous client must be a function, not a coroutine one")
        except BaseException as error:
            self.error = error
            raise
