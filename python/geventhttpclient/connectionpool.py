"""The connections of a client."""

from __future__ import annotations

import atexit
import base64
import os
import socket
from typing import Any, ClassVar

import gevent.socket

from geventhttpclient import _core

__all__ = ["DEFAULT_CONNECTION_TIMEOUT", "DEFAULT_NETWORK_TIMEOUT", "ConnectionPool", "SSLConnectionPool"]

DEFAULT_CONNECTION_TIMEOUT = 5.0
DEFAULT_NETWORK_TIMEOUT = 5.0

# The child of a fork must not touch its parent's sockets; a thread that outlives the interpreter must not touch us.
os.register_at_fork(after_in_child=_core._after_fork_in_child)
atexit.register(_core._at_exit)


class ConnectionPool(_core.ConnectionPool):
    """At most `size` connections to one host and port, for each thread that uses it.

    Greenlets that find all of them in use wait in a queue, first come, first served; idle ones are handed out last in,
    first out. The sockets live in the engine: what can be changed by a subclass is `_resolve()`.
    """

    DEFAULT_CONNECTION_TIMEOUT = DEFAULT_CONNECTION_TIMEOUT
    DEFAULT_NETWORK_TIMEOUT = DEFAULT_NETWORK_TIMEOUT

    _is_tls: ClassVar[bool] = False

    def __init__(
        self,
        connection_host: str,
        connection_port: int,
        request_host: str,
        request_port: int,
        size: int = 5,
        disable_ipv6: bool = False,
        connection_timeout: float | None = DEFAULT_CONNECTION_TIMEOUT,
        network_timeout: float | None = DEFAULT_NETWORK_TIMEOUT,
        use_proxy: bool = False,
        proxy_user: str | None = None,
        proxy_password: str | None = None,
        pool_timeout: float | None = None,
    ) -> None:
        """`connection_*` is what is connected to (a proxy, perhaps), `request_*` who is asked.

        Timeouts are in seconds, None is for ever: `connection_timeout` for connecting to one address,
        `network_timeout` for each wait for the peer to take or send bytes, `pool_timeout` for a wait in the queue.

        Raises ValueError or TypeError that names what is not a number, or out of range.
        """
        if not isinstance(size, int):
            raise TypeError(f"size must be an int, not {size!r}")
        timeouts = (connection_timeout, network_timeout, pool_timeout)
        for name, timeout in zip(("connection_timeout", "network_timeout", "pool_timeout"), timeouts, strict=True):
            if timeout is not None and not isinstance(timeout, (int, float)):
                raise TypeError(f"{name} must be a number of seconds or None, not {timeout!r}")
        self._connection_host = connection_host.strip("[]")
        self._connection_port = connection_port
        self._request_host = request_host
        self._request_port = request_port
        self.size = size
        self.disable_ipv6 = disable_ipv6
        self.connection_timeout = connection_timeout
        self.network_timeout = network_timeout
        self.pool_timeout = pool_timeout
        self._use_proxy = use_proxy
        self._proxy_credentials = f"{proxy_user}:{proxy_password or ''}" if use_proxy and proxy_user else None
        self._configure(self._connection_host, connection_port, size, timeouts, self._is_tls)

    def _resolve(self) -> list[tuple[Any, ...]]:
        """The addresses to try, in order, as `socket.getaddrinfo` returns them. Asked each time it is connected."""
        host, port = self._connection_host, self._connection_port
        literal = _literal_address(host, port)
        if literal is not None:
            return [literal]
        family = socket.AF_INET if self.disable_ipv6 else socket.AF_UNSPEC
        return list(gevent.socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))

    def _proxy_authorization(self) -> str | None:
        """The value of Proxy-Authorization (RFC 7617), if there are credentials."""
        if self._proxy_credentials is None:
            return None
        return "Basic " + base64.b64encode(self._proxy_credentials.encode()).decode()


def _literal_address(host: str, port: int) -> tuple[Any, ...] | None:
    """What getaddrinfo would say of an address in numbers, which no resolver need be asked for."""
    for family, address in ((socket.AF_INET, (host, port)), (socket.AF_INET6, (host, port, 0, 0))):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
    return None


class SSLConnectionPool(ConnectionPool):
    """Connections over TLS. They are not supported yet: a request raises NotImplementedError before it connects."""

    _is_tls = True

    def __init__(
        self,
        connection_host: str,
        connection_port: int,
        request_host: str,
        request_port: int,
        insecure: bool = False,
        ssl_context_factory: Any = None,
        ssl_options: dict[str, Any] | None = None,
        **kw: Any,
    ) -> None:
        """As the plain pool, with what TLS is to do."""
        self.insecure = insecure
        self.ssl_context_factory = ssl_context_factory
        self.ssl_options = dict(ssl_options or {})
        super().__init__(connection_host, connection_port, request_host, request_port, **kw)
