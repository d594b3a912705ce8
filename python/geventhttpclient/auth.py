"""Who is asking: Basic (RFC 7617) and Digest (RFC 7616) authentication, and netrc files.

Nothing here sends anything: a challenge goes in, the value of an Authorization field comes out.
"""

from __future__ import annotations

import itertools
import os
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from geventhttpclient._checks import encoded

if TYPE_CHECKING:
    from geventhttpclient.challenge import Challenge

__all__ = ["AuthValue", "BasicAuth", "DigestAuth", "netrc_auth", "resolve_auth"]

_LATIN = "iso-8859-1"
_UTF8 = "utf-8"


class BasicAuth:
    """A user's name and password, sent as they are: for connections that nobody listens to (RFC 7617)."""

    __slots__ = ("_encoding", "_password", "_token", "_username")

    def __init__(self, username: str, password: str, *, encoding: str | None = None) -> None:
        """`encoding` is that of the bytes that are sent: Latin-1 by default, UTF-8 for what Latin-1 does not have.

        UnicodeEncodeError where the encoding does not have a character, LookupError where nobody knows the encoding.
        """
        self._username = str(username)
        self._password = str(password)
        credentials = f"{self._username}:{self._password}"
        self._encoding = encoding or _encoding_of(credentials)
        self._token = b64encode(encoded(credentials, self._encoding))

    @property
    def username(self) -> str:
        """The user's name."""
        return self._username

    @property
    def password(self) -> str:
        """The password."""
        return self._password

    @property
    def encoding(self) -> str:
        """The name of the encoding in which name and password are sent."""
        return self._encoding

    @property
    def token(self) -> bytes:
        """Name and password, encoded, in base64."""
        return self._token

    def auth_header(self) -> str:
        """The value of Authorization."""
        return f"Basic {self._token.decode('ascii')}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(username={self._username!r}, encoding={self._encoding!r})"


AuthValue = BasicAuth | tuple[str, str] | str | None
"""What says who is asking without knowing what the server wants: see `resolve_auth`."""


def resolve_auth(auth: AuthValue) -> str | None:
    """The value of Authorization: of a BasicAuth or a tuple of name and password, or the ready text that was given.

    None for None. NotImplementedError for anything else.
    """
    if auth is None or isinstance(auth, str):
        return auth
    if isinstance(auth, BasicAuth):
        return auth.auth_header()
    if isinstance(auth, tuple) and len(auth) == 2:
        return BasicAuth(*auth).auth_header()
    # Not its repr: there may be a password in it.
    raise NotImplementedError(
        f"auth must be a BasicAuth, a tuple of user name and password or a ready header value, not a "
        f"{type(auth).__name__}"
    )


def netrc_auth(host: str) -> tuple[str, str] | None:
    """Name and password for a host in the user's netrc file, or its `default` entry's; None where there are none.

    The file is that which NETRC names, else `~/.netrc` or `~/_netrc`. One that is missing, unreadable or malformed
    counts for none: it was not written for us, and a request can do without it.
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


def _encoding_of(text: str) -> str:
    try:
        text.encode(_LATIN)
    except UnicodeEncodeError:
        return _UTF8
    return _LATIN


# By what hashlib calls them, from the weakest to the strongest (RFC 7616 section 6.1).
_HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
_STRENGTH = {name: strength for strength, name in enumerate(_HASHES)}

# Realms that a DigestAuth remembers the nonces of. A server may call itself something else each time.
_MOST_REALMS = 64


class _Nonce(NamedTuple):
    """A server's nonce, and all that answers to it have in common."""

    realm: str
    value: str
    opaque: str | None
    algorithm: str | None
    qop: bool
    user_hash: bool
    utf8: bool
    client: str
    # Counted by one call that no other thread or greenlet can come between.
    counter: itertools.count[int]

    @property
    def hash_name(self) -> str:
        return (self.algorithm or "MD5").upper().removesuffix("-SESS")

    @property
    def is_session(self) -> bool:
        return (self.algorithm or "").upper().endswith("-SESS")

    def says_the_same_as(self, other: _Nonce) -> bool:
        return self[:-2] == other[:-2]  # all but what is ours, client and counter

    @classmethod
    def of(cls, challenge: Challenge) -> _Nonce | None:
        """None for a challenge that cannot be answered: not Digest's, incomplete, or of an algorithm not known here."""
        given = challenge.params
        if challenge.scheme != "digest" or "realm" not in given or "nonce" not in given:
            return None
        qops = {qop.strip().lower() for qop in given.get("qop", "").split(",")} - {""}
        if qops and "auth" not in qops:
            return None
        nonce = cls(
            given["realm"],
            given["nonce"],
            given.get("opaque"),
            given.get("algorithm"),
            bool(qops),
            given.get("userhash", "").lower() == "true",
            given.get("charset", "").upper() == "UTF-8",
            os.urandom(16).hex(),
            itertools.count(1),
        )
        return nonce if nonce.hash_name in _known_hashes() else None


class DigestAuth:
    """Answers to Digest challenges (RFC 7616): the password itself is never sent.

    MD5, SHA-256 and SHA-512-256 where Python has it, each also as `-sess`; `qop=auth`, or none as in RFC 2069. One
    object may serve any number of greenlets and origins; for each realm of an origin it keeps the last nonce, so that
    further requests need not be refused first.

        authorization = auth.preemptive("GET", "/", origin)
        response = ...
        if response.status_code == 401:
            authorization = auth.response("GET", "/", response.headers.getlist("WWW-Authenticate"), origin,
                                          authorization)
    """

    def __init__(self, username: str, password: str) -> None:
        """Who is asking; what is no text is taken as `str` writes it."""
        self._username = str(username)
        self._password = str(password)
        self._nonces: dict[tuple[str, str], _Nonce] = {}

    @property
    def username(self) -> str:
        """The user's name."""
        return self._username

    def __repr__(self) -> str:
        return f"{type(self).__name__}(username={self._username!r})"

    def preemptive(self, method: str, uri: str, origin: str = "") -> str | None:
        """The value of Authorization for a request that nobody has refused, by the nonce that its origin last gave.

        None while there is no nonce. `uri` is the target as it is sent (path and query); `origin` is any text that
        tells one server from another.
        """
        for (known, _), nonce in reversed(list(self._nonces.items())):
            if known == origin:
                return self._authorization(nonce, method, uri)
        return None

    def response(
        self, method: str, uri: str, challenges: str | Iterable[str], origin: str = "", sent: str | None = None
    ) -> str | None:
        """The value of Authorization for a second try, answering the strongest of the challenges.

        `challenges` are the values of WWW-Authenticate, `sent` is the Authorization of the request that was refused.
        None where there is nothing to be answered, or where the server has said no to an answer: then `sent` was for
        the same realm and the nonce has not grown old. A server may call each nonce old: whoever calls sets an end.
        """
        from geventhttpclient.challenge import parse_challenges

        offered = [(challenge, _Nonce.of(challenge)) for challenge in parse_challenges(challenges)]
        answerable = [(challenge, nonce) for challenge, nonce in offered if nonce is not None]
        if not answerable:
            return None
        # The first of equally strong ones: `max` keeps the server's order.
        challenge, nonce = max(answerable, key=lambda pair: _STRENGTH[pair[1].hash_name])
        if sent is not None and _was_refused(sent, challenge):
            return None
        known = self._nonces.pop((origin, nonce.realm), None)
        if known is not None and known.says_the_same_as(nonce):
            nonce = known  # its count goes on
        self._nonces[origin, nonce.realm] = nonce
        while len(self._nonces) > _MOST_REALMS:
            self._nonces.pop(next(iter(self._nonces)), None)
        return self._authorization(nonce, method, uri)

    def _authorization(self, nonce: _Nonce, method: str, uri: str) -> str:
        digest = _digest_by(_HASHES[nonce.hash_name])
        encoding = _UTF8 if nonce.utf8 else _encoding_of(self._username + self._password)
        username, password = self._username, self._password
        if nonce.utf8:
            username, password = _normalized(username), _normalized(password)
        name = encoded(username, encoding)
        # Header fields are read as Latin-1: this is the realm as it was sent.
        realm = nonce.realm.encode(_encoding_of(nonce.realm))

        count = f"{next(nonce.counter):08x}"
        secret = digest(b":".join((name, realm, encoded(password, encoding))))
        if nonce.is_session:
            secret = digest(f"{secret}:{nonce.value}:{nonce.client}".encode(_LATIN))
        asked = digest(f"{method}:{uri}".encode(_encoding_of(uri)))
        between = f"{count}:{nonce.client}:auth:" if nonce.qop else ""
        answer = digest(f"{secret}:{nonce.value}:{between}{asked}".encode(_encoding_of(nonce.value)))

        # RFC 7616 section 3.4; what is quoted there is quoted here, and nothing else.
        if nonce.user_hash:
            fields = [f'username="{digest(name + b":" + realm)}"']
        elif nonce.utf8 and not username.isascii():
            from urllib.parse import quote

            fields = [f"username*=UTF-8''{quote(username, safe='')}"]
        else:
            fields = [f"username={_quoted(name.decode(_LATIN))}"]
        fields += [f"realm={_quoted(nonce.realm)}", f"nonce={_quoted(nonce.value)}", f"uri={_quoted(uri)}"]
        fields.append(f'response="{answer}"')
        if nonce.algorithm is not None:
            fields.append(f"algorithm={nonce.algorithm}")
        if nonce.opaque is not None:
            fields.append(f"opaque={_quoted(nonce.opaque)}")
        if nonce.qop:
            fields.append(f'qop=auth, nc={count}, cnonce="{nonce.client}"')
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


def _normalized(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _was_refused(sent: str, challenge: Challenge) -> bool:
    """Whether the server has seen an answer of ours that ought to have been good, and did not like it."""
    from geventhttpclient.challenge import parse_challenges

    for said in parse_challenges(sent):  # credentials have the grammar of a challenge
        if said.scheme != "digest" or said.params.get("realm") != challenge.params["realm"]:
            continue
        if said.params.get("nonce") == challenge.params["nonce"]:
            return True
        is_stale = challenge.params.get("stale", "").lower() == "true"
        # Any but the first answer by a nonce may have come too late for a server that forgets without saying so.
        return not is_stale and said.params.get("nc", "00000001") == "00000001"
    return False
