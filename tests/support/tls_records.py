"""A TLS 1.3 server that encrypts its records itself after the handshake, to send any number of session tickets at any
time (RFC 8446 sections 4.6.1, 5.2 and 7.1)."""

from __future__ import annotations

import hmac
import socket
import ssl
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.certificates import Pair

_SUITES = {"TLS_AES_128_GCM_SHA256": ("sha256", 16), "TLS_AES_256_GCM_SHA384": ("sha384", 32)}
_APPLICATION_DATA, _HANDSHAKE = 23, 22


def _expand(secret: bytes, label: bytes, length: int, digest: str) -> bytes:
    """Returns HKDF-Expand-Label of one block or less."""
    label = b"tls13 " + label
    info = struct.pack("!HB", length, len(label)) + label + b"\x00"
    return hmac.new(secret, info + b"\x01", digest).digest()[:length]


class SealingServer:
    """One connection from `listener`, which shows `pair`. The keys are read from a log below `directory`."""

    def __init__(self, listener: socket.socket, pair: Pair, directory: Path, protocol: str = "http/1.1") -> None:
        log = directory / "keys"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.chain, pair.key)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.set_alpn_protocols([protocol])
        context.keylog_filename = str(log)
        self.sock = listener.accept()[0]
        # Data sent in the idle time must not wait for an acknowledgement.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(20)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._incoming.write(self.sock.recv(65_536))
        self.sock.sendall(self._outgoing.read())
        cipher = self._tls.cipher()
        assert cipher is not None
        digest, length = _SUITES[cipher[0]]
        lines = [line.split() for line in log.read_text().splitlines()]
        secret = bytes.fromhex(next(line[2] for line in lines if line[0] == "SERVER_TRAFFIC_SECRET_0"))
        log.unlink()
        self._key = AESGCM(_expand(secret, b"key", length, digest))
        self._iv = int.from_bytes(_expand(secret, b"iv", 12, digest), "big")
        self._number = 0

    def receive(self) -> bytes:
        """Returns some data of the client, b"" at its end."""
        while True:
            try:
                return self._tls.read(65_536)
            except ssl.SSLWantReadError:
                came = self.sock.recv(65_536)
                if not came:
                    return b""
                self._incoming.write(came)
            except ssl.SSLZeroReturnError:
                return b""

    def data(self, content: bytes) -> bytes:
        """Returns a record with data in it."""
        return self._seal(content, _APPLICATION_DATA)

    def tickets(self, count: int) -> bytes:
        """Returns `count` session tickets, in records of 247 bytes."""
        ticket = struct.pack("!IIB", 7200, 0, 1) + b"\x00" + struct.pack("!H", 206) + bytes(206) + b"\x00\x00"
        message = b"\x04" + len(ticket).to_bytes(3, "big") + ticket
        return b"".join(self._seal(message, _HANDSHAKE) for _ in range(count))

    def _seal(self, content: bytes, kind: int) -> bytes:
        header = struct.pack("!BHH", _APPLICATION_DATA, 0x0303, len(content) + 17)
        nonce = (self._iv ^ self._number).to_bytes(12, "big")
        self._number += 1
        return header + self._key.encrypt(nonce, content + bytes([kind]), header)

    def send_what_fits(self, content: bytes) -> bytes:
        """Sends as much as the kernel has room for; returns the rest."""
        self.sock.setblocking(False)
        try:
            while content:
                content = content[self.sock.send(content) :]
        except BlockingIOError:
            pass
        finally:
            self.sock.settimeout(20)
        return content
