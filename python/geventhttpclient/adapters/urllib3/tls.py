"""TLS settings from urllib3's arguments: those of the engine's own TLS, or an SSLContext."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any, cast

from urllib3.util.ssl_ import (
    assert_fingerprint,
    create_urllib3_context,
    is_ipaddress,
    resolve_cert_reqs,
    resolve_ssl_version,
)
from urllib3.util.ssl_match_hostname import match_hostname

from geventhttpclient import _core
from geventhttpclient.tls import authorities, load_cert_chain

# Arguments that only OpenSSL supports.
_OPENSSL = (
    "assert_fingerprint",
    "assert_hostname",
    "ca_cert_data",
    "key_password",
    "ssl_context",
    "ssl_maximum_version",
    "ssl_minimum_version",
    "ssl_version",
)


def verifies(arguments: Mapping[str, Any]) -> bool:
    """Returns True if the peer's certificate must be valid."""
    return _mode(arguments) == ssl.CERT_REQUIRED or bool(arguments.get("assert_fingerprint"))


def tls_of(host: str, arguments: Mapping[str, Any]) -> _core._Tls:
    """Returns the TLS settings for `host` from a pool's arguments. `server_hostname` replaces the host's name in SNI
    and in verification.

    Raises OSError for files that cannot be read, and ssl.SSLError for files with invalid contents.
    """
    name = (arguments.get("server_hostname") or host).rstrip(".").strip("[]")
    address = name.partition("%")[0]
    if is_ipaddress(address):
        name = address
    ca_file, ca_directory = (_path(arguments.get(key)) for key in ("ca_certs", "ca_cert_dir"))
    # `assert_hostname=False` has an effect, unlike None.
    by_openssl = any(arguments.get(key) not in (None, "", b"") for key in _OPENSSL) or bool(ca_file and ca_directory)
    # OpenSSL accepts names that the engine's own TLS does not.
    by_openssl = by_openssl or not _core._is_server_name(name)
    mode = _mode(arguments)
    if by_openssl or mode == ssl.CERT_OPTIONAL:
        context = _context(arguments, mode, ca_file, ca_directory)
        check = _check(arguments, context, name)
        return (context if check is None else _Checked(context, check), name)  # type: ignore[return-value]
    cert = arguments.get("cert_file")
    files = None if cert is None else (os.fspath(cert), os.fspath(arguments.get("key_file") or cert))
    return (name, ca_file or ca_directory, "no" if mode == ssl.CERT_NONE else "full", files, None)


def _mode(arguments: Mapping[str, Any]) -> int:
    mode, context = arguments.get("cert_reqs"), arguments.get("ssl_context")
    return context.verify_mode if mode is None and context is not None else resolve_cert_reqs(mode)


def _path(name: Any) -> str | None:
    return os.path.expanduser(os.fspath(name)) if name else None


def _context(arguments: Mapping[str, Any], mode: int, ca_file: str | None, ca_directory: str | None) -> ssl.SSLContext:
    """Returns the given context or a new one, configured as urllib3 does."""
    context: ssl.SSLContext | None = arguments.get("ssl_context")
    data = arguments.get("ca_cert_data")
    is_new = context is None
    if context is None:
        context = create_urllib3_context(
            ssl_version=resolve_ssl_version(arguments.get("ssl_version")),
            ssl_minimum_version=arguments.get("ssl_minimum_version"),
            ssl_maximum_version=arguments.get("ssl_maximum_version"),
            cert_reqs=mode,
        )
    if mode == ssl.CERT_NONE or arguments.get("assert_fingerprint") or arguments.get("assert_hostname") is not None:
        context.check_hostname = False
    context.verify_mode = ssl.VerifyMode(mode)
    for path in filter(None, (ca_file, ca_directory)):
        context.load_verify_locations(**authorities(path))
    if data:
        context.load_verify_locations(cadata=data)
    elif not (ca_file or ca_directory) and is_new and mode != ssl.CERT_NONE:
        context.load_verify_locations(**authorities())
    if arguments.get("cert_file"):
        load_cert_chain(context, arguments["cert_file"], arguments.get("key_file"), arguments.get("key_password"))
    return context


def _check(arguments: Mapping[str, Any], context: ssl.SSLContext, name: str) -> Callable[[ssl.SSLObject], None] | None:
    """Returns a check of the peer's certificate in addition to that of OpenSSL; None if none is needed."""
    fingerprint, expected = arguments.get("assert_fingerprint"), arguments.get("assert_hostname")
    if fingerprint:
        return lambda tls: assert_fingerprint(tls.getpeercert(True), fingerprint)
    if context.verify_mode == ssl.CERT_NONE or context.check_hostname or expected is False:
        return None
    by_common_name = arguments.get("ssl_context") is not None and context.hostname_checks_common_name
    return lambda tls: match_hostname(cast("Any", tls.getpeercert()), expected or name, by_common_name)


class _Checked:
    """Wrapper of a context whose handshakes succeed only if `check` does."""

    def __init__(self, context: ssl.SSLContext, check: Callable[[ssl.SSLObject], None]) -> None:
        self._context = context
        self._check = check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def wrap_bio(self, *arguments: Any) -> ssl.SSLObject:
        """Returns an SSLObject for one handshake."""
        tls = self._context.wrap_bio(*arguments)
        original = tls.do_handshake

        def do_handshake(block: bool = False) -> None:
            original()
            # Breaks the reference cycle, which only the garbage collector would free.
            del tls.do_handshake
            self._check(tls)

        tls.do_handshake = do_handshake  # type: ignore[method-assign]
        return tls
