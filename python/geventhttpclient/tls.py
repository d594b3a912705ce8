"""TLS settings: converts the arguments of clients to settings of the engine's own TLS, or to an SSLContext."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import gevent.ssl

from geventhttpclient import _core
from geventhttpclient._internal.argument_errors import check_cert, check_ssl_options, check_verify
from geventhttpclient._internal.validation import given, without_zone

__all__ = ["ContextFactory", "TLSInfo", "default_ca_file", "init_ssl_context"]

ContextFactory = Callable[..., ssl.SSLContext]
"""Function that returns the context of a client. It is called with `cafile=`, with `cadata=` for certificates in
directories, and without arguments if it does not accept these."""

# Options that only OpenSSL supports.
_OPENSSL_OPTIONS = ("ciphers", "options", "verify_flags", "password")

# Factories whose contexts are known without a call, which would take about 10 ms. If a program replaces one of them in
# the ssl module, its replacement is called.
_VERIFYING = (ssl.create_default_context, getattr(gevent.ssl, "create_default_context", None))
_UNVERIFYING = (ssl._create_unverified_context, getattr(gevent.ssl, "_create_unverified_context", None))

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class TLSInfo(NamedTuple):
    """The result of the TLS handshake of a response's connection."""

    version: str
    """`TLSv1.3` or `TLSv1.2`."""
    cipher: str
    """The cipher suite, with its IANA name; with OpenSSL's name if an SSLContext is used."""
    alpn: str | None
    """The protocol that the peer selected (RFC 7301), if any."""
    peer_certificate: bytes | None
    """The peer's certificate (X.509, DER)."""
    verified: bool | str
    """True if the chain and the name were verified, "chain" if only the chain was, False if neither was."""
    resumed: bool
    """Whether an earlier session of this client was resumed."""


class _TLSSettings(NamedTuple):
    """The settings that a program requests, for the engine's own TLS and for OpenSSL."""

    host: str
    ca_certs: str | None
    verify: str
    cert: tuple[str, str] | None
    version: str | None

    def native(self) -> _core._NativeTls:
        return (self.host, self.ca_certs, self.verify, self.cert, self.version)


def choose_tls(
    host: str,
    ssl_options: Mapping[str, Any],
    insecure: bool = False,
    verify: bool | str | os.PathLike[str] = True,
    cert: str | tuple[str, ...] | None = None,
    factory: ContextFactory | None = None,
    alpn: tuple[str, ...] = (),
) -> _core._Tls:
    """Returns settings of the engine's own TLS if it supports all options, else a context with the server name to use.

    `alpn` lists the protocols that a context offers; the pool sets those of the engine's own TLS.
    """
    options = dict(ssl_options)
    _merge_arguments(options, verify, cert)
    settings = _settings_of(host, options, insecure or verify is False, verify is False)
    needs_openssl = any(options.get(name) is not None for name in _OPENSSL_OPTIONS)
    verifies, does_not = (any(factory is known for known in stock) for stock in (_VERIFYING, _UNVERIFYING))
    if not needs_openssl and (factory is None or verifies or does_not):
        if does_not and settings.verify == "chain":
            # Such a context verifies no name, and the chain only if `verify_mode` is set.
            settings = settings._replace(verify="no")
        return _tls_of(settings, alpn or ("http/1.1",))
    context = _context_of(settings, factory or ssl.create_default_context, options, alpn)
    # OpenSSL would search the certificate for a name with the trailing dot.
    return context, settings.host.removesuffix(".")


def native_tls(host: str, ssl_options: Mapping[str, Any]) -> _core._Tls:
    """Returns settings of the engine's own TLS from `ssl_options`. Raises ValueError for options that it does not
    support."""
    check_ssl_options("proxy_ssl_options", ssl_options)
    unknown = [name for name in _OPENSSL_OPTIONS if ssl_options.get(name) is not None]
    if unknown:
        raise ValueError(f"proxy_ssl_options does not support {', '.join(unknown)}")
    return _tls_of(_settings_of(host, ssl_options, False, False), ("http/1.1",))


# Contexts for names that rustls does not accept, by their settings. Each has up to a megabyte of certificates, and a
# server may redirect to any number of such names: clients share a context as long as one of them exists.
_contexts: WeakValueDictionary[tuple[Any, ...], ssl.SSLContext] = WeakValueDictionary()

# Most characters of a name (RFC 1035 section 2.3.4).
_MAX_NAME = 253


def _tls_of(settings: _TLSSettings, alpn: tuple[str, ...]) -> _core._Tls:
    """Returns settings of the engine's own TLS, or an equivalent context for a name that rustls does not accept but
    resolvers do, such as one with a hyphen at the end of a label."""
    name = settings.host.removesuffix(".")
    if _core._is_server_name(settings.host) or not _is_known_to_openssl(name):
        return settings.native()
    trusted = authorities(settings.ca_certs)
    files = (trusted.get("cafile"), *(settings.cert or ()))
    key = (settings.verify, settings.version, alpn, trusted.get("cadata"), *map(_state_of, files))
    context = _contexts.get(key)
    if context is None:
        context = _contexts[key] = _context_of(settings, ssl.create_default_context, {}, alpn)
    return context, name


def _is_known_to_openssl(name: str) -> bool:
    """Returns True if an SSLContext accepts the name."""
    if not 0 < len(name) <= _MAX_NAME or name.startswith("."):
        return False
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def _state_of(path: str | None) -> tuple[Any, ...] | None:
    """Returns the identity of a file's contents, which differs after the file has changed."""
    if path is None:
        return None
    status = os.stat(path)
    return path, status.st_ino, status.st_size, status.st_mtime_ns


def _context_of(
    settings: _TLSSettings, factory: ContextFactory, options: Mapping[str, Any], alpn: tuple[str, ...]
) -> ssl.SSLContext:
    """Returns a context of that factory with the requested settings."""
    context = init_ssl_context(factory, settings.ca_certs, settings.verify == "full", {**options, **_files(settings)})
    if settings.verify == "no":
        context.verify_mode = ssl.CERT_NONE
    if settings.version is not None:
        context.minimum_version = context.maximum_version = _VERSIONS[settings.version]
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _merge_arguments(
    options: dict[str, Any], verify: bool | str | os.PathLike[str], cert: str | tuple[str, ...] | None
) -> None:
    """Adds `verify` and `cert` to the options as `ca_certs`, `certfile`, `keyfile` and `password`."""
    check_verify(verify)
    check_cert(cert)
    if not isinstance(verify, bool):
        if options.get("ca_certs") is not None:
            raise ValueError("verify and ssl_options both name the CA certificates")
        options["ca_certs"] = os.fspath(verify)
    if cert is None:
        return
    if options.get("certfile") is not None:
        raise ValueError("cert and ssl_options both name the client's certificate")
    names = ("certfile", "keyfile", "password")
    parts = cert if isinstance(cert, (tuple, list)) else (cert,)
    options.update(zip(names, parts, strict=False))


def _settings_of(host: str, options: Mapping[str, Any], nameless: bool, unverified: bool) -> _TLSSettings:
    ca_certs, certfile, keyfile = (_path(name, options.get(name)) for name in ("ca_certs", "certfile", "keyfile"))
    if keyfile is not None and certfile is None:
        raise ValueError("keyfile needs a certfile")
    if options.get("cert_reqs") not in (None, *ssl.VerifyMode):
        raise ValueError(f"cert_reqs must be one of ssl.VerifyMode, not {options['cert_reqs']!r}")
    verify = "chain" if nameless else "full"
    if unverified or options.get("cert_reqs") == ssl.CERT_NONE:
        verify = "no"
    cert = None if certfile is None else (certfile, keyfile or certfile)
    name = options.get("server_hostname") or host
    if not isinstance(name, str):
        raise TypeError(f"server_hostname must be a str, not {name!r}")
    if ":" in name:
        # Addresses in certificates have neither the brackets of URLs nor a zone.
        name = without_zone(name.strip("[]"))
    return _TLSSettings(name, ca_certs, verify, cert, _version_of(options.get("ssl_version")))


def _path(name: str, path: Any) -> str | None:
    if path is None:
        return None
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{name} must be a path, not {path!r}") from None


def _files(settings: _TLSSettings) -> dict[str, Any]:
    if settings.cert is None:
        return {}
    return {"certfile": settings.cert[0], "keyfile": settings.cert[1]}


def _version_of(wanted: Any) -> str | None:
    """Returns the only version that is allowed; None if all are."""
    if wanted in (None, ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLS_CLIENT):
        return None
    if wanted == ssl.PROTOCOL_TLSv1_2:
        return "TLSv1.2"
    for name, version in _VERSIONS.items():
        if wanted is version:
            return name
    raise ValueError(f"ssl_version must be TLS 1.2, TLS 1.3 or None for both, not {wanted!r}")


def init_ssl_context(
    factory: ContextFactory,
    ca_certs: str | None,
    check_hostname: bool = True,
    ssl_options: Mapping[str, Any] | None = None,
) -> ssl.SSLContext:
    """Returns a context from `factory`, configured by `ssl_options`.

    `factory` is called with `cafile=`, with `cadata=` for certificates in directories, or with both. If it does not
    accept these, it is called without arguments, and the certificates are loaded afterwards unless the context verifies
    nothing. `ca_certs` is a file or a directory; None means the certificates that are trusted by default.

    With `check_hostname`, the context verifies the chain and the name. Without it, it does not verify the name, and its
    `verify_mode` is unchanged. `options` and `verify_flags` replace those of the context.
    """
    trusted = authorities(ca_certs)
    to_be_loaded = False
    try:
        context = factory(**trusted)
    except TypeError:
        context = factory()
        to_be_loaded = True
    if not hasattr(context, "wrap_bio"):
        raise TypeError(f"ssl_context_factory must return an ssl.SSLContext, not {given(context)}")
    context.check_hostname = check_hostname
    if check_hostname:
        context.verify_mode = ssl.CERT_REQUIRED
    # This costs about 15 ms and half a megabyte per context in OpenSSL: skipped if the context verifies nothing.
    if to_be_loaded and context.verify_mode != ssl.CERT_NONE:
        context.load_verify_locations(**trusted)
    options = ssl_options or {}
    if options.get("certfile") is not None:
        load_cert_chain(context, options["certfile"], options.get("keyfile"), options.get("password"))
    if options.get("ciphers") is not None:
        context.set_ciphers(options["ciphers"])
    if options.get("options") is not None:
        context.options = options["options"]
    if options.get("verify_flags") is not None:
        context.verify_flags = options["verify_flags"]
    return context


def authorities(ca_certs: str | None = None) -> dict[str, Any]:
    """Returns the trusted certificates as arguments of `load_verify_locations`: `cafile`, `cadata` or both.

    They are those of a file or a directory, or those that are trusted by default. The engine reads all of them first,
    since OpenSSL ignores unreadable files in a directory, and waits for the writer of a FIFO. Raises OSError or
    ssl.SSLError as the engine does.
    """
    file, others = _core._authorities(ca_certs)
    if file is None and not others:
        import certifi

        file = certifi.where()
    given = {"cafile": file, "cadata": others}
    return {name: value for name, value in given.items() if value}


def load_cert_chain(context: ssl.SSLContext, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
    """Calls the context's method of the same name, for regular files only. Passes the arguments by keyword, since tests
    of programs expect that."""
    if certfile is None:
        raise ValueError("keyfile needs a certfile")
    refuse_special(certfile, keyfile)
    named = {"certfile": certfile, "keyfile": keyfile, "password": password}
    try:
        context.load_cert_chain(**{name: value for name, value in named.items() if value is not None})
    except FileNotFoundError:
        for path in filter(None, (certfile, keyfile)):
            os.stat(path)  # raises an error that names the missing file
        raise


def refuse_special(*paths: str | bytes | os.PathLike[str] | None) -> None:
    """Raises ssl.SSLError for a FIFO, a device or a socket: OpenSSL would block the whole process until a FIFO has a
    writer."""
    for path in paths:
        if not path:
            continue
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue  # OpenSSL reports the reason when it opens the file
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ssl.SSLError(f"{os.fsdecode(path)} is not a regular file, and is not read")


def default_ca_file() -> str | None:
    """Returns the file with the certificates that are trusted by default: that of SSL_CERT_FILE or of the system, else
    that of certifi (Mozilla's). Returns None if they are only in directories.

    Raises OSError or ssl.SSLError if a part of the default certificates cannot be read.
    """
    file: str | None = authorities().get("cafile")
    return file
