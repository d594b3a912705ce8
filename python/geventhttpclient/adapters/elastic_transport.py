"""A node class for elastic_transport, on which elasticsearch is built: its requests use this engine.

    client = Elasticsearch("https://localhost:9200", node_class=Node)

The client's options, retries, serializers and exceptions are still those of the package.
"""

from __future__ import annotations

import _ssl
import ssl
import sys
from typing import Any

try:
    from elastic_transport import NodeConfig, TlsError, Urllib3HttpNode
except ImportError as _error:
    raise ImportError(
        "geventhttpclient.adapters.elastic_transport needs the package elastic_transport: pip install elasticsearch"
    ) from _error

from urllib3.exceptions import SSLError
from urllib3.util.ssl_ import assert_fingerprint

from geventhttpclient.adapters.urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from geventhttpclient.adapters.urllib3.routes import TLS_ATTRIBUTES

__all__ = ["Node"]


class Node(Urllib3HttpNode):
    """The package's node class for urllib3, with a pool of this engine. Any number of greenlets may share a client.

    With `ssl_assert_fingerprint` the fingerprint may be that of the server's certificate, or that of an authority that
    the server sends. In the second case the server's certificate must be valid and signed by that authority, and
    `ssl_context` cannot be given as well.
    """

    pool: Any

    def __init__(self, config: NodeConfig) -> None:
        """Takes the settings of the node, which elastic_transport creates from the arguments of the client."""
        super().__init__(config)
        theirs = self.pool
        self._sizes = {"timeout": theirs.timeout, "maxsize": config.connections_per_node, "block": True}
        # The authority with the fingerprint, in DER, as soon as a server has sent it.
        self._authority: list[bytes] = []
        if config.scheme != "https":
            self.pool = HTTPConnectionPool(theirs.host, theirs.port, **self._sizes)
            return
        context = theirs.conn_kw["ssl_context"]
        self._minimum_version = context.minimum_version
        if config.ssl_assert_fingerprint:
            context.sslobject_class = _pinned_class(config.ssl_assert_fingerprint, self._authority)
            self.pool = self._pinned_pool(context, "CERT_NONE")
            return
        tls = {name: getattr(theirs, name) for name in TLS_ATTRIBUTES}
        if config.ssl_context is not None or config.ssl_version is not None:
            tls["ssl_context"] = context
        # Otherwise the engine's own TLS is used.
        self.pool = HTTPSConnectionPool(theirs.host, theirs.port, **tls, **self._sizes)

    def perform_request(self, *args: Any, **kwargs: Any) -> Any:
        """Sends a request, and returns its response with the whole body."""
        pool = self.pool
        try:
            return super().perform_request(*args, **kwargs)
        except TlsError:
            if pool is self.pool:
                # The settings of an SSLContext cannot be copied to another one.
                if not self._authority or self.config.ssl_context is not None:
                    raise
                self._trust(self._authority[0])
            # Another greenlet may have done so in the meantime.
            return super().perform_request(*args, **kwargs)

    def _trust(self, authority: bytes) -> None:
        """Replaces the pool by one that verifies the server's certificate with that authority alone."""
        self._authority.clear()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = self._minimum_version
        context.check_hostname = False
        # It need not be a root.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=authority)
        self.pool = self._pinned_pool(context, "CERT_REQUIRED")

    def _pinned_pool(self, context: ssl.SSLContext, cert_reqs: str) -> HTTPSConnectionPool:
        tls = {"ssl_context": context, "cert_reqs": cert_reqs, "assert_hostname": False}
        return _PinnedPool(self.pool.host, self.pool.port, **tls, **self._sizes)


class _PinnedPool(HTTPSConnectionPool):
    """A pool whose SSLContext verifies more than urllib3 knows of."""

    def _validate_conn(self, conn: Any) -> None:
        """Does nothing: urllib3 would warn that the server's certificate is not verified."""


def _pinned_class(fingerprint: str, authority: list[bytes]) -> type[ssl.SSLObject]:
    """Returns a class of TLS connections whose handshake fails unless the server's certificate has the fingerprint.

    The handshake also fails if another certificate has it, and that one is added to `authority`. Any server can send
    it, since it is public: the next handshake has to verify the server's certificate with it.
    """

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            own = self.getpeercert(True) or b""
            if not _has_fingerprint(own, fingerprint):
                authority.extend(found for found in _chain(self) if _has_fingerprint(found, fingerprint))
                raise ssl.SSLError(f"no certificate of the server has the fingerprint {fingerprint}")

    return Pinned


def _has_fingerprint(certificate: bytes, fingerprint: str) -> bool:
    try:
        assert_fingerprint(certificate, fingerprint)
    except SSLError:
        return False
    return True


def _chain(tls: Any) -> list[bytes]:
    """Returns the certificates of the server, in DER, from its own to the authority that was sent last."""
    if sys.version_info >= (3, 13):
        found: list[bytes] = tls.get_verified_chain()
        return found
    return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in tls._sslobj.get_verified_chain() or ()]
