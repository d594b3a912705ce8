"""What TLS is to do: from the arguments that programs pass to the engine's own TLS, or to an SSLContext."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gevent.ssl

from geventhttpclient import _core

__all__ = ["ContextFactory", "TLSInfo", "default_ca_file", "init_ssl_context"]

ContextFactory = Callable[..., ssl.SSLContext]
"""Returns the context of a client. Called with `cafile=`, with `cadata=` for what is in directories, and without
arguments where it takes none."""

# What only OpenSSL can do, in its own terms.
_OPENSSL_OPTIONS = ("ciphers", "options", "verify_flags", "password")

# The factories whose contexts are known without calling them, which takes them some 10 ms each. Whoever puts another
# function in their place in the ssl module gets that one called.
_VERIFYING = (ssl.create_default_context, getattr(gevent.ssl, "create_default_context", None))
_UNVERIFYING = (ssl._create_unverified_context, getattr(gevent.ssl, "_create_unverified_context", None))

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class TLSInfo(NamedTuple):
    """What the TLS handshake of a response's connection has come to."""

    version: str
    """`TLSv1.3` or `TLSv1.2`."""
    cipher: str
    """The cipher suite, by its name at IANA; from an SSLContext, by OpenSSL's name."""
    alpn: str | None
    """The protocol that the peer has chosen (RFC 7301), if any."""
    peer_certificate: bytes | None
    """The peer's certificate (X.509, DER)."""
    verified: bool | str
    """True for the chain and the name, "chain" for the chain alone, False for nothing."""
    resumed: bool
    """Whether an earlier session of this client was taken up again."""


class _Wishes(NamedTuple):
    """What a program asks for, whoever carries it out."""

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
) -> _core._Tls:
    """The engine's own TLS where it can do what is asked for, else a context with the name it is to be used for."""
    options = dict(ssl_options)
    _take_in(options, verify, cert)
    wishes = _wishes(host, options, insecure or verify is False, verify is False)
    needs_openssl = any(options.get(name) is not None for name in _OPENSSL_OPTIONS)
    verifies, does_not = (any(factory is known for known in stock) for stock in (_VERIFYING, _UNVERIFYING))
    if not needs_openssl and (factory is None or verifies or does_not):
        if does_not and wishes.verify == "chain":
            # Such a context verifies no name, and no chain either unless it is told to.
            wishes = wishes._replace(verify="no")
        return wishes.native()
    context = init_ssl_context(
        factory or ssl.create_default_context, wishes.ca_certs, wishes.verify == "full", {**options, **_files(wishes)}
    )
    if wishes.verify == "no":
        context.verify_mode = ssl.CERT_NONE
    if wishes.version is not None:
        context.minimum_version = context.maximum_version = _VERSIONS[wishes.version]
    # OpenSSL would look for a name with the dot of the root in the certificate.
    return context, wishes.host.removesuffix(".")


def native_tls(host: str, ssl_options: Mapping[str, Any]) -> _core._Tls:
    """The engine's own TLS, with what of `ssl_options` it knows."""
    unknown = [name for name in _OPENSSL_OPTIONS if ssl_options.get(name) is not None]
    if unknown:
        raise ValueError(f"not supported here: {', '.join(unknown)}")
    return _wishes(host, ssl_options, False, False).native()


def _take_in(
    options: dict[str, Any], verify: bool | str | os.PathLike[str], cert: str | tuple[str, ...] | None
) -> None:
    """Adds what `verify` and `cert` say to the options that say the same in another way."""
    if not isinstance(verify, bool):
        if not isinstance(verify, (str, os.PathLike)):
            raise TypeError(f"verify must be True, False, or a file or directory of CA certificates, not {verify!r}")
        if not os.fspath(verify):
            raise ValueError("verify must not be empty: it names a file or a directory of CA certificates")
        if options.get("ca_certs") is not None:
            raise ValueError("verify and ssl_options both name the CA certificates")
        options["ca_certs"] = os.fspath(verify)
    if cert is None:
        return
    if options.get("certfile") is not None:
        raise ValueError("cert and ssl_options both name the client's certificate")
    names = ("certfile", "keyfile", "password")
    parts = cert if isinstance(cert, (tuple, list)) else (cert,)
    if not 1 <= len(parts) <= len(names) or not isinstance(parts[0], (str, os.PathLike)):
        raise ValueError("cert must be a file, or a tuple of the certificate's file, the key's, and the key's password")
    options.update(zip(names, parts, strict=False))


def _wishes(host: str, options: Mapping[str, Any], nameless: bool, unverified: bool) -> _Wishes:
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
    if name.startswith("["):
        # An address as URLs and Host headers write it; certificates do not.
        name = name.strip("[]")
    return _Wishes(name, ca_certs, verify, cert, _version_of(options.get("ssl_version")))


def _path(name: str, path: Any) -> str | None:
    if path is None:
        return None
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{name} must be a path, not {path!r}") from None


def _files(wishes: _Wishes) -> dict[str, Any]:
    if wishes.cert is None:
        return {}
    return {"certfile": wishes.cert[0], "keyfile": wishes.cert[1]}


def _version_of(wanted: Any) -> str | None:
    """The one version that is allowed, None for all."""
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
    """A context from `factory`, made to do what `ssl_options` say.

    `factory` is called with `cafile=`, or `cadata=` for what is in directories, or both; where it does not take them,
    without, and the certificates are loaded afterwards unless the context verifies nothing. `ca_certs` is a file or a
    directory, None for what is trusted by default.
    With `check_hostname` the context verifies, whatever it did before; without, it verifies what it did before but for
    the name. `options` and `verify_flags` replace those of the context.
    """
    trusted = authorities(ca_certs)
    to_be_loaded = False
    try:
        context = factory(**trusted)
    except TypeError:
        context = factory()
        to_be_loaded = True
    if context is None:
        raise TypeError("ssl_context_factory must return an ssl.SSLContext, not None")
    context.check_hostname = check_hostname
    if check_hostname:
        context.verify_mode = ssl.CERT_REQUIRED
    # It takes OpenSSL some 15 ms and half a megabyte for each context: not for one that verifies nothing.
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
    """What an SSLContext is told to trust, as arguments of `load_verify_locations`: `cafile`, `cadata` or both.

    The certificates of a file or a directory, else those that are trusted by default. The engine reads them all first:
    OpenSSL passes over what it cannot read in a directory, and waits for the writer of a FIFO. Raises OSError or
    ssl.SSLError as the engine does.
    """
    file, others = _core._authorities(ca_certs)
    if file is None and not others:
        import certifi

        file = certifi.where()
    given = {"cafile": file, "cadata": others}
    return {name: value for name, value in given.items() if value}


def load_cert_chain(context: ssl.SSLContext, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
    """Does what the context's method of that name does, for regular files alone."""
    refuse_special(certfile, keyfile)
    context.load_cert_chain(certfile, keyfile, password)


def refuse_special(*paths: str | bytes | os.PathLike[str] | None) -> None:
    """Raises ssl.SSLError for a FIFO, a device or a socket, and OSError for what is missing: OpenSSL, and with it the
    whole process, would wait for the writer of a FIFO."""
    for path in paths:
        if not path:
            continue
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ssl.SSLError(f"{os.fsdecode(path)} is not a regular file, and is not read")


def default_ca_file() -> str | None:
    """Returns the file of certificates that an SSLContext is told to trust: that of SSL_CERT_FILE, the system's, else
    that of certifi (Mozilla's). None if they are in directories alone.

    Raises OSError or ssl.SSLError if what is trusted by default cannot be read in full.
    """
    file: str | None = authorities().get("cafile")
    return file
