"""Basic (RFC 7617) and Digest (RFC 7616) authentication, and netrc files.

This module sends nothing: it takes challenges and returns values of the Authorization field.
"""

from __future__ import annotations

import itertools
import os
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from geventhttpclient import exceptions
from geventhttpclient._internal.slots import reduce_with_slots
from geventhttpclient._internal.validation import encoded

if TYPE_CHECKING:
    from geventhttpclient._internal.challenges import Challenge
    from geventhttpclient.url import URL

__all__ = ["AuthValue", "BasicAuth", "DigestAuth", "netrc_auth", "resolve_auth"]

_LATIN = "iso-8859-1"
_UTF8 = "utf-8"


class BasicAuth:
    """A user name and a password that are sent unencrypted: use it over TLS (RFC 7617)."""

    __slots__ = ("_encoding", "_password", "_token", "_username")

    def __init__(self, username: str | bytes, password: str | bytes, *, encoding: str | None = None) -> None:
        """Encodes text with `encoding`; by default as Latin-1, or as UTF-8 if it has other characters. Bytes are sent
        unchanged; any other value (a number, for example) is converted by `str`.

        Raises TypeError for None, UnicodeEncodeError if the encoding lacks a character, and LookupError if the encoding
        is not known.
        """
        self._username = _credential("username", username)
        self._password = _credential("password", password)
        self._encoding = encoding or _encoding_of(self._username, self._password)
        parts = (_octets(part, self._encoding) for part in (self._username, self._password))
        self._token = b64encode(b":".join(parts))

    @property
    def username(self) -> str | bytes:
        """The user name: bytes if it was given as bytes."""
        return self._username

    @property
    def password(self) -> str | bytes:
        """The password: bytes if it was given as bytes."""
        return self._password

    @property
    def encoding(self) -> str:
        """The name of the encoding of user name and password if they are text."""
        return self._encoding

    @property
    def token(self) -> bytes:
        """User name and password, encoded, in base64."""
        return self._token

    def auth_header(self) -> str:
        """Returns the value of the Authorization field."""
        return f"Basic {self._token.decode('ascii')}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(username={self._username!r}, encoding={self._encoding!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return reduce_with_slots(self, protocol)


AuthValue = BasicAuth | tuple[str | bytes, str | bytes] | str | None
"""Credentials that can be sent without a challenge from the server: see `resolve_auth`."""


def resolve_auth(auth: AuthValue) -> str | None:
    """Returns the value of the Authorization field for a BasicAuth or a tuple of user name and password. Returns a str
    unchanged.

    Returns None for None. Raises NotImplementedError for anything else.
    """
    if auth is None or isinstance(auth, str):
        return auth
    if isinstance(auth, BasicAuth):
        return auth.auth_header()
    if isinstance(auth, tuple) and len(auth) == 2:
        return BasicAuth(*auth).auth_header()
    # Without the repr, which may contain a password.
    raise NotImplementedError(
        f"auth must be a BasicAuth, a tuple of user name and password or a ready header value, not a "
        f"{type(auth).__name__}"
    )


def netrc_auth(host: str) -> tuple[str, str] | None:
    """Returns user name and password for a host from the user's netrc file, or those of its `default` entry; None if it
    has neither.

    The file is named by the environment variable NETRC, and is `~/.netrc` or `~/_netrc` by default. A file that is
    missing, unreadable or malformed is ignored: it was not written for this package, and requests work without it.
    """
    import netrc

    named = os.environ.get("NETRC")
    for path in [named] if named is not None else ["~/.netrc", "~/_netrc"]:
        try:
            entry = netrc.netrc(os.path.expanduser(path)).authenticators(host)
        except FileNotFoundError:
            continue
        except (netrc.NetrcParseError, OSError, UnicodeError):
            return None
        return (entry[0] or entry[1] or "", entry[2] or "") if entry else None
    return None


def credentials_of(url: URL) -> tuple[str | bytes, str | bytes] | None:
    """Returns the user and the password of a URL, percent-decoded: as text if they are UTF-8, else as bytes. Returns
    None if the URL has neither."""
    if "@" not in url.netloc:
        return None
    user, password = _unescaped(url.username), _unescaped(url.password)
    return (user, password) if user or password else None


def _unescaped(text: str) -> str | bytes:
    from urllib.parse import unquote, unquote_to_bytes

    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return unquote_to_bytes(text)


def _credential(name: str, value: object) -> str | bytes:
    """Returns a user name or a password as text or as bytes. Raises TypeError for None."""
    if value is None:
        raise TypeError(f"{name} must be a str or bytes, not None")
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else str(value)


def _octets(credential: str | bytes, encoding: str) -> bytes:
    return credential if isinstance(credential, bytes) else encoded(credential, encoding)


def _encoding_of(*texts: str | bytes) -> str:
    """Returns the name of the encoding for these texts: Latin-1 if it has all of their characters, else UTF-8."""
    try:
        for text in texts:
            if isinstance(text, str):
                text.encode(_LATIN)
    except UnicodeEncodeError:
        return _UTF8
    return _LATIN


# With their names in hashlib, from the weakest to the strongest (RFC 7616 section 6.1). The RFC does not define SHA-1
# and SHA-512; servers request them under these names.
_HASHES = {"MD5": "md5", "SHA": "sha1", "SHA-256": "sha256", "SHA-512-256": "sha512_256", "SHA-512": "sha512"}
_STRENGTH = {name: strength for strength, name in enumerate(_HASHES)}

# Most realms whose nonces a DigestAuth keeps. A server may send a different realm each time.
_MOST_REALMS = 64


class _Nonce(NamedTuple):
    """A server's nonce, with everything that the responses to it have in common."""

    realm: str
    value: str
    opaque: str | None
    algorithm: str | None
    # "auth" or "auth-int", "" for RFC 2069.
    qop: str
    user_hash: bool
    utf8: bool
    client: str
    # Incremented by one atomic call: no other thread or greenlet can run in between.
    counter: itertools.count[int]

    @property
    def hash_name(self) -> str:
        return (self.algorithm or "MD5").upper().removesuffix("-SESS")

    @property
    def is_session(self) -> bool:
        return (self.algorithm or "").upper().endswith("-SESS")

    def supports_body(self, body: Any) -> bool:
        """Returns True if a request with that body can be authenticated."""
        return self.qop != "auth-int" or _in_memory(body) is not None

    def equals(self, other: _Nonce) -> bool:
        return self[:-2] == other[:-2]  # all except the client's own fields: client and counter

    @classmethod
    def of(cls, challenge: Challenge) -> _Nonce | None:
        """Returns the nonce of a challenge; None if the challenge cannot be answered, since it is not a Digest
        challenge, is incomplete or has an unknown algorithm."""
        given = challenge.params
        if challenge.scheme != "digest" or "realm" not in given or "nonce" not in given:
            return None
        qops = {qop.strip().lower() for qop in given.get("qop", "").split(",")} - {""}
        qop = next((known for known in ("auth", "auth-int") if known in qops), "")
        if qops and not qop:
            return None
        nonce = cls(
            given["realm"],
            given["nonce"],
            given.get("opaque"),
            given.get("algorithm"),
            qop,
            given.get("userhash", "").lower() == "true",
            given.get("charset", "").upper() == "UTF-8",
            os.urandom(16).hex(),
            itertools.count(1),
        )
        return nonce if nonce.hash_name in _known_hashes() else None


class DigestAuth:
    """Responses to Digest challenges (RFC 7616): the password itself is never sent.

    Supports MD5, SHA (SHA-1), SHA-256, SHA-512 and, if Python's OpenSSL has it, SHA-512-256, each also as `-sess`;
    `qop=auth`, `qop=auth-int` for bodies in memory, or no qop as in RFC 2069. Any number of greenlets may share one
    object, also for several origins. It keeps the last nonce of each realm of an origin, so that further requests are
    not rejected first.

        authorization = auth.preemptive("GET", "/", origin)
        response = ...
        if response.status_code == 401:
            authorization = auth.response("GET", "/", response.headers.getlist("WWW-Authenticate"), origin,
                                          authorization)
    """

    def __init__(self, username: str | bytes, password: str | bytes) -> None:
        """Takes the user name and the password. Bytes are used unchanged; a value that is neither text nor bytes is
        converted by `str`. Raises TypeError for None."""
        self._username = _credential("username", username)
        self._password = _credential("password", password)
        self._nonces: dict[tuple[str, str], _Nonce] = {}

    @property
    def username(self) -> str | bytes:
        """The user name: bytes if it was given as bytes."""
        return self._username

    def __repr__(self) -> str:
        return f"{type(self).__name__}(username={self._username!r})"

    def __getstate__(self) -> dict[str, Any]:
        # Without the nonces: each response to a nonce has a count, and two objects would use the same counts.
        return {**self.__dict__, "_nonces": {}}

    def preemptive(self, method: str, uri: str, origin: str = "", body: Any = None) -> str | None:
        """Returns the value of the Authorization field for a first attempt, with the last nonce of its origin.

        Returns None if there is no nonce yet, or if the nonce requires `qop=auth-int` and the body is not in memory.
        `uri` is the target as it is sent (path and query); `origin` is any text that identifies the server.
        """
        for (known, _), nonce in reversed(list(self._nonces.items())):
            if known == origin:
                return self._authorization(nonce, method, uri, body) if nonce.supports_body(body) else None
        return None

    def response(
        self,
        method: str,
        uri: str,
        challenges: str | Iterable[str],
        origin: str = "",
        sent: str | None = None,
        body: Any = None,
    ) -> str | None:
        """Returns the value of the Authorization field for a second attempt: the response to the strongest challenge.

        `challenges` are the values of WWW-Authenticate, `sent` is the Authorization of the request that was rejected.
        Returns None if no challenge can be answered, or if the server has rejected the credentials: `sent` was for the
        same realm and the nonce is not stale. Since a server may declare every nonce stale, the caller must limit the
        number of attempts.

        `body` is the body of the request, which `qop=auth-int` protects: bytes-like, text, or a list of such pieces.
        Raises ValueError if the server accepts nothing else and the body is of another kind (an open file, for
        example).
        """
        from geventhttpclient._internal.challenges import parse_challenges

        offered = [(challenge, _Nonce.of(challenge)) for challenge in parse_challenges(challenges)]
        known_kinds = [(challenge, nonce) for challenge, nonce in offered if nonce is not None]
        answerable = [(challenge, nonce) for challenge, nonce in known_kinds if nonce.supports_body(body)]
        if not answerable:
            if known_kinds:
                raise exceptions.ValueError(
                    "the server asks for Digest authentication with qop=auth-int, which needs the body in memory: "
                    f"give bytes in place of {type(body).__name__}"
                )
            return None
        # The first of equally strong challenges: `max` keeps the server's order.
        challenge, nonce = max(answerable, key=lambda pair: _STRENGTH[pair[1].hash_name])
        if sent is not None and _was_refused(sent, challenge):
            return None
        known = self._nonces.pop((origin, nonce.realm), None)
        if known is not None and known.equals(nonce):
            nonce = known  # its count continues
        self._nonces[origin, nonce.realm] = nonce
        while len(self._nonces) > _MOST_REALMS:
            self._nonces.pop(next(iter(self._nonces)), None)
        return self._authorization(nonce, method, uri, body)

    def _authorization(self, nonce: _Nonce, method: str, uri: str, body: Any) -> str:
        digest = _digest_by(_HASHES[nonce.hash_name])
        encoding = _UTF8 if nonce.utf8 else _encoding_of(self._username, self._password)
        username, password = self._username, self._password
        if nonce.utf8:
            username, password = _normalized(username), _normalized(password)
        name = _octets(username, encoding)
        # Header fields are decoded as Latin-1: these are the bytes of the realm as the server sent it.
        realm = nonce.realm.encode(_encoding_of(nonce.realm))

        count = f"{next(nonce.counter):08x}"
        secret = digest(b":".join((name, realm, _octets(password, encoding))))
        if nonce.is_session:
            secret = digest(f"{secret}:{nonce.value}:{nonce.client}".encode(_LATIN))
        # RFC 7616 section 3.4.3.
        protected = f":{digest(_in_memory(body) or b'')}" if nonce.qop == "auth-int" else ""
        asked = digest(f"{method}:{uri}{protected}".encode(_encoding_of(uri)))
        between = f"{count}:{nonce.client}:{nonce.qop}:" if nonce.qop else ""
        answer = digest(f"{secret}:{nonce.value}:{between}{asked}".encode(_encoding_of(nonce.value)))

        # RFC 7616 section 3.4: exactly the values that are quoted there are quoted here.
        if nonce.user_hash:
            fields = [f'username="{digest(name + b":" + realm)}"']
        elif nonce.utf8 and not name.isascii():
            from urllib.parse import quote

            fields = [f"username*=UTF-8''{quote(name, safe='')}"]
        else:
            fields = [f"username={_quoted(name.decode(_LATIN))}"]
        fields += [f"realm={_quoted(nonce.realm)}", f"nonce={_quoted(nonce.value)}", f"uri={_quoted(uri)}"]
        fields.append(f'response="{answer}"')
        if nonce.algorithm is not None:
            fields.append(f"algorithm={nonce.algorithm}")
        if nonce.opaque is not None:
            fields.append(f"opaque={_quoted(nonce.opaque)}")
        if nonce.qop:
            fields.append(f'qop={nonce.qop}, nc={count}, cnonce="{nonce.client}"')
        elif nonce.is_session:
            fields.append(f'cnonce="{nonce.client}"')
        if nonce.user_hash:
            fields.append("userhash=true")
        return "Digest " + ", ".join(fields)


def _known_hashes() -> set[str]:
    import hashlib

    return {name for name, known in _HASHES.items() if known in hashlib.algorithms_available}


def _digest_by(name: str) -> Callable[[bytes], str]:
    import hashlib

    return lambda data: hashlib.new(name, data, usedforsecurity=False).hexdigest()


def _in_memory(body: Any) -> bytes | None:
    """Returns a request's body as it is sent; None if it is read while it is sent."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    if isinstance(body, (list, tuple)):
        pieces = [_in_memory(piece) for piece in body]
        return None if None in pieces else b"".join(pieces)  # type: ignore[arg-type]
    return None


def _normalized(text: str | bytes) -> str | bytes:
    import unicodedata

    return unicodedata.normalize("NFC", text) if isinstance(text, str) else text


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _was_refused(sent: str, challenge: Challenge) -> bool:
    """Returns True if the server has rejected a response that should have been valid."""
    from geventhttpclient._internal.challenges import parse_challenges

    for said in parse_challenges(sent):  # credentials have the grammar of a challenge
        if said.scheme != "digest" or said.params.get("realm") != challenge.params["realm"]:
            continue
        if said.params.get("nonce") == challenge.params["nonce"]:
            return True
        is_stale = challenge.params.get("stale", "").lower() == "true"
        # Any response except the first to a nonce may have used a nonce that the server dropped without `stale=true`.
        return not is_stale and said.params.get("nc", "00000001") == "00000001"
    return False
