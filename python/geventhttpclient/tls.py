"""What TLS is to do: from the arguments that programs pass to the engine's own TLS, or to an SSLContext."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Any

from geventhttpclient import _core

# Called with `cafile=`, and without arguments where it takes none.
ContextFactory = Callable[..., ssl.SSLContext]


def native_tls(host: str, ssl_options: dict[str, Any]) -> _core._Tls:
    """The engine's own TLS."""
    raise NotImplementedError


def choose_tls(
    host: str,
    ssl_options: dict[str, Any],
    insecure: bool,
    verify: bool | str | os.PathLike[str],
    cert: str | tuple[str, ...] | None,
    factory: ContextFactory | None,
) -> _core._Tls:
    """The engine's own TLS where it can do what is asked for, else a context."""
    raise NotImplementedError


def init_ssl_context(
    factory: ContextFactory,
    ca_certs: str | None,
    check_hostname: bool = True,
    ssl_options: dict[str, Any] | None = None,
) -> ssl.SSLContext:
    """A context from `factory`, made to do what `ssl_options` say."""
    raise NotImplementedError
