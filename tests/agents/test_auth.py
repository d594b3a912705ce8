"""Authentication: Basic and Digest, challenges, netrc files."""

from __future__ import annotations

import hashlib
import io
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gevent
import pytest

import geventhttpclient
from geventhttpclient import HTTPClient, Session, auth, httpx
from geventhttpclient._internal.challenges import Challenge, parse_challenges
from geventhttpclient.auth import BasicAuth, DigestAuth, netrc_auth, resolve_auth
from geventhttpclient.cli import main
from tests.support.peer import Conn, Peer, serve_ok

# ---------------------------------------------------------------------------------------------------------------- Basic


@pytest.mark.parametrize(
    ("username", "password", "encoding", "header"),
    [
        ("Aladdin", "open sesame", "iso-8859-1", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("ü", "p", "iso-8859-1", "Basic /Dpw"),
        ("€", "p", "utf-8", "Basic 4oKsOnA="),
        ("", "", "iso-8859-1", "Basic Og=="),
    ],
)
def test_basic_is_latin_1_where_that_does(username: str, password: str, encoding: str, header: str) -> None:
    basic = BasicAuth(username, password)
    assert (basic.username, basic.password, basic.encoding) == (username, password, encoding)
    assert basic.auth_header() == header
    assert basic.token == header.removeprefix("Basic ").encode()


def test_basic_in_a_given_encoding() -> None:
    # RFC 7617 section 2.1: the example of a server that asks for UTF-8.
    assert BasicAuth("test", "123£", encoding="utf-8").auth_header() == "Basic dGVzdDoxMjPCow=="
    with pytest.raises(UnicodeEncodeError):
        BasicAuth("€", "", encoding="latin-1")


@pytest.mark.parametrize(
    ("username", "password", "sent"),
    [
        (b"u", b"p", b"u:p"),
        (b"\xff", b"p:\x80", b"\xff:p:\x80"),
        (bytearray(b"\xff"), memoryview(b"p"), b"\xff:p"),
        ("\u20ac", b"\xff", b"\xe2\x82\xac:\xff"),
        (b"\xff", "\u00fc", b"\xff:\xfc"),
        (b"", b"", b":"),
        (17, 4.5, b"17:4.5"),
    ],
)
def test_basic_of_bytes_sends_them_as_they_are(username: Any, password: Any, sent: bytes) -> None:
    basic = BasicAuth(username, password)
    assert b64decode(basic.token) == sent
    assert resolve_auth((username, password)) == basic.auth_header() == f"Basic {b64encode(sent).decode()}"
    assert type(basic.username) is (str if isinstance(username, (str, int)) else bytes)
    assert basic.encoding == ("utf-8" if username == "\u20ac" else "iso-8859-1")


@pytest.mark.parametrize("make", [BasicAuth, DigestAuth, lambda *pair: resolve_auth(pair)])
def test_invalid_credentials_raise_type_error(make: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="username must be a str or bytes, not None"):
        make(None, "hunter2")
    with pytest.raises(TypeError, match="password must be a str or bytes, not None"):
        make("me", None)


FACES_OF_URLS: dict[str, Callable[..., object]] = {
    "Session": lambda url: geventhttpclient.get(url),
    "httpx": lambda url: httpx.get(url),
    "command": lambda url: main(["get", "-f", url]),
    "download": lambda url: main(["download", "-o", "/dev/null", url]),
}


@pytest.mark.parametrize("face", FACES_OF_URLS)
@pytest.mark.parametrize(
    ("userinfo", "sent"),
    [("m%C3%A9:p%3A", b"m\xe9:p:"), ("m%E2%82%AC:p", b"m\xe2\x82\xac:p"), ("m%FF:%80", b"m\xff:\x80"), (":p", b":p")],
)
def test_credentials_of_a_url_are_sent_as_the_bytes_they_are(face: str, userinfo: str, sent: bytes) -> None:
    with Peer(serve_ok) as peer:
        FACES_OF_URLS[face](f"http://{userinfo}@{peer.host}:{peer.port}/")
        assert peer.requests[0].get("authorization") == f"Basic {b64encode(sent).decode()}"


FACES_OF_PAIRS: dict[str, Callable[..., object]] = {
    "get": lambda url, pair: geventhttpclient.get(url, auth=pair),
    "Session": lambda url, pair: Session(auth=pair).get(url),
    "httpx": lambda url, pair: httpx.get(url, auth=pair),
    "httpx.Client": lambda url, pair: httpx.Client(auth=httpx.BasicAuth(*pair)).get(url),
}


@pytest.mark.parametrize("face", FACES_OF_PAIRS)
def test_auth_in_bytes_is_sent_as_it_is(face: str) -> None:
    with Peer(serve_ok) as peer:
        FACES_OF_PAIRS[face](peer.url, (b"m\xff", b"p\x80"))
        assert peer.requests[0].get("authorization") == f"Basic {b64encode(bytes([109, 255, 58, 112, 128])).decode()}"


@pytest.mark.parametrize(
    "secretive",
    [cls(*pair) for cls in (BasicAuth, DigestAuth) for pair in (("me", "hunter2"), (b"me", b"hunter2"))],
)
def test_repr_contains_no_password(secretive: object) -> None:
    assert "hunter2" not in repr(secretive)
    assert "me" in repr(secretive)


def test_resolve_auth() -> None:
    assert resolve_auth(None) is None
    assert resolve_auth("Bearer x") == "Bearer x"
    assert resolve_auth(("u", "p")) == resolve_auth(BasicAuth("u", "p")) == "Basic dTpw"


@pytest.mark.parametrize(
    "wrong", [5, ["u", "hunter2"], ("hunter2",), b"hunter2", {"u": "hunter2"}, DigestAuth("u", "p")]
)
def test_resolve_auth_refuses_the_rest_and_tells_no_secret(wrong: object) -> None:
    with pytest.raises(NotImplementedError, match=f"not a {type(wrong).__name__}$"):
        resolve_auth(wrong)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------- challenges


def challenge(scheme: str, token: str | None = None, params: dict[str, str] | None = None) -> Challenge:
    return Challenge(scheme, token, params or {})


@pytest.mark.parametrize(
    ("field", "challenges"),
    [
        ("", []),
        ("Negotiate", [challenge("negotiate")]),
        ("NTLM TlRMTVNTUAAB==", [challenge("ntlm", "TlRMTVNTUAAB==")]),
        ('Basic realm="a, b"', [challenge("basic", None, {"realm": "a, b"})]),
        (r'Basic Realm="a \"b\" \\"', [challenge("basic", None, {"realm": r'a "b" \ '.strip()})]),
        ("Basic realm = x", [challenge("basic", None, {"realm": "x"})]),
        # RFC 9110 section 11.6.1 gives this one, where commas part both parameters and challenges.
        (
            'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""',
            [
                challenge("basic", None, {"realm": "simple"}),
                challenge("newauth", None, {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
            ],
        ),
        ("Negotiate, NTLM", [challenge("negotiate"), challenge("ntlm")]),
        (
            ", ,Negotiate abc=,, Basic realm=x,",
            [challenge("negotiate", "abc="), challenge("basic", None, {"realm": "x"})],
        ),
        ('Digest realm="a", realm="b"', [challenge("digest", None, {"realm": "a"})]),
        # A malformed challenge is ignored; the valid ones before it count.
        ('Basic realm="a", Digest realm="b', [challenge("basic", None, {"realm": "a"})]),
        ('Basic realm="a", Digest nonce=@', [challenge("basic", None, {"realm": "a"})]),
        ('Basic realm="a\x00"', []),
        ('Basic realm="a\r\nX: y"', []),
        ("realm=x", []),
        ("Negotiate abc=, x=y", []),
    ],
)
def test_challenges(field: str, challenges: list[Challenge]) -> None:
    assert parse_challenges(field) == challenges


def test_challenges_of_several_lines() -> None:
    assert [c.scheme for c in parse_challenges(['Basic realm="', "Digest", "Negotiate"])] == ["digest", "negotiate"]


@pytest.mark.parametrize(
    "piece", ['"', "a ", "a=", "a=b,", "\\", " ", "=", ",", 'a="', 'a="\\"', "a,", "Basic a=b, ", "é", '="\\', "a\t=\t"]
)
def test_hostile_challenges_take_linear_time(piece: str) -> None:
    start = time.process_time()
    parse_challenges("Digest " + piece * (100_000 // len(piece)))
    parse_challenges('Digest realm="' + piece * (100_000 // len(piece)))
    assert time.process_time() - start < 2


# --------------------------------------------------------------------------------------------------------------- Digest


def cnonce_is(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    class Fixed(bytes):
        def hex(self) -> str:  # type: ignore[override]
            return value

    monkeypatch.setattr(auth.os, "urandom", Fixed)


def said(authorization: str | None) -> dict[str, str]:
    assert authorization is not None
    (credentials,) = parse_challenges(authorization)
    assert credentials.scheme == "digest"
    return credentials.params


RFC_7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


@pytest.mark.parametrize(
    ("algorithm", "answer"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_vectors_of_rfc_7616_section_3_9_1(algorithm: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cnonce_is(monkeypatch, "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
    digest = DigestAuth("Mufasa", "Circle of Life")
    authorization = digest.response("GET", "/dir/index.html", RFC_7616.format(algorithm=algorithm))
    assert authorization == (
        'Digest username="Mufasa", realm="http-auth@example.org", '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", uri="/dir/index.html", '
        f'response="{answer}", algorithm={algorithm}, opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", '
        'qop=auth, nc=00000001, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"'
    )


@pytest.mark.skipif("sha512_256" not in hashlib.algorithms_available, reason="hashlib has no SHA-512/256")
def test_vector_of_rfc_7616_section_3_9_2(monkeypatch: pytest.MonkeyPatch) -> None:
    # With the values of erratum 4897: those printed in the RFC were made with SHA-512, cut short.
    cnonce_is(monkeypatch, "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v")
    fields = said(
        DigestAuth("J\u00e4s\u00f8n Doe", "Secret, or not?").response(
            "GET",
            "/doe.json",
            'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
            'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
            'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", '
            "charset=UTF-8, userhash=true",
        )
    )
    assert fields["username"] == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
    assert fields["response"] == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
    assert fields["userhash"] == "true"


def test_vector_of_rfc_2617_section_3_5(monkeypatch: pytest.MonkeyPatch) -> None:
    cnonce_is(monkeypatch, "0a4f113b")
    fields = said(
        DigestAuth("Mufasa", "Circle Of Life").response(
            "GET",
            "/dir/index.html",
            'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
            'opaque="5ccc069c403ebaf9f0171e9517f40e41"',
        )
    )
    assert fields["response"] == "6629fae49393a05397450978507c4ef1"
    assert "algorithm" not in fields


HASHES = {"MD5": "md5", "SHA": "sha1", "SHA-256": "sha256", "SHA-512-256": "sha512_256", "SHA-512": "sha512"}


class Guard:
    """Server side of Digest, a literal transcription of RFC 7616 section 3.4.1."""

    def __init__(self, algorithm: str = "MD5", extra: str = ', qop="auth"', realm: str = "zoo") -> None:
        self.algorithm = algorithm
        self.extra = extra
        self.realm = realm
        self.nonces = [f"nonce{n}" for n in range(50)]
        self.used: dict[str, int] = {}
        self.stale = False

    def challenge(self) -> str:
        self.nonces.append(self.nonces.pop(0))
        stale, self.stale = self.stale, False
        return (
            f'Digest realm="{self.realm}", nonce="{self.nonces[0]}", algorithm={self.algorithm}{self.extra}'
            f"{', stale=true' if stale else ''}"
        )

    def hash(self, text: bytes) -> str:
        return hashlib.new(HASHES[self.algorithm.removesuffix("-sess")], text).hexdigest()

    def accepts(
        self, method: str, uri: str, authorization: str | None, user: bytes, password: bytes, body: bytes = b""
    ) -> bool:
        if authorization is None:
            return False
        fields = said(authorization)
        nonce = fields["nonce"]
        if nonce != self.nonces[0]:
            self.stale = True
            return False
        a1 = user + b":" + self.realm.encode("latin-1") + b":" + password
        secret = self.hash(a1)
        if self.algorithm.endswith("-sess"):
            secret = self.hash(f"{secret}:{nonce}:{fields['cnonce']}".encode())
        a2 = self.hash(f"{method}:{uri}".encode())
        if fields.get("qop") == "auth-int":
            a2 = self.hash(f"{method}:{uri}:{self.hash(body)}".encode())
        if "qop" in self.extra:
            count = int(fields["nc"], 16)
            assert count == self.used.get(nonce, 0) + 1  # counted without a gap, and never the same twice
            self.used[nonce] = count
            want = self.hash(f"{secret}:{nonce}:{fields['nc']}:{fields['cnonce']}:{fields['qop']}:{a2}".encode())
        else:
            want = self.hash(f"{secret}:{nonce}:{a2}".encode())
        if "userhash" in fields:
            name = fields["username"]
            assert name == self.hash(user + b":" + self.realm.encode("latin-1"))
        elif "username*" in fields:
            assert unquote(fields["username*"].removeprefix("UTF-8''")).encode() == user
        else:
            assert fields["username"].encode("latin-1") == user
        return fields["response"] == want and fields["uri"] == uri

    def serve(self, conn: Conn) -> None:
        """Script: accepts the user Mufasa."""
        while request := conn.read_request():
            authorization = request.get("Authorization")
            if self.accepts(request.method, request.target, authorization, b"Mufasa", b"Circle", request.body):
                conn.respond(b"in")
            else:
                conn.respond(b"out", "401 Unauthorized", [("WWW-Authenticate", self.challenge())])


def fetch(client: HTTPClient, digest: DigestAuth, target: str) -> list[int]:
    """Sends the request with up to three answers to challenges. Returns the statuses."""
    statuses = []
    authorization = digest.preemptive("GET", target)
    for _ in range(4):
        response = client.get(target, {"Authorization": authorization} if authorization else None)
        response.read()
        statuses.append(response.status_code)
        if response.status_code != 401:
            break
        authorization = digest.response("GET", target, response.info().getlist("WWW-Authenticate"), sent=authorization)
        if authorization is None:
            break
    return statuses


@pytest.fixture
def guarded(bounded: None) -> Iterator[tuple[Guard, HTTPClient]]:
    guard = Guard()
    with Peer(guard.serve) as peer, HTTPClient(peer.host, peer.port, concurrency=4) as client:
        yield guard, client


def test_only_the_first_request_is_refused(guarded: tuple[Guard, HTTPClient]) -> None:
    guard, client = guarded
    digest = DigestAuth("Mufasa", "Circle")
    assert [fetch(client, digest, f"/{n}?a=b") for n in range(4)] == [[401, 200], [200], [200], [200]]
    assert guard.used == {guard.nonces[0]: 4}


def test_stale_nonce_is_renewed(guarded: tuple[Guard, HTTPClient]) -> None:
    guard, client = guarded
    digest = DigestAuth("Mufasa", "Circle")
    assert fetch(client, digest, "/") == [401, 200]
    guard.challenge()  # it has a new nonce now, and reports the old one as stale
    assert fetch(client, digest, "/") == [401, 200]
    assert fetch(client, digest, "/") == [200]


def test_nonce_rejected_without_stale_is_renewed_once(guarded: tuple[Guard, HTTPClient]) -> None:
    guard, client = guarded
    digest = DigestAuth("Mufasa", "Circle")
    assert fetch(client, digest, "/") == [401, 200]
    refused = digest.preemptive("GET", "/")
    again = digest.response("GET", "/", guard.challenge(), sent=refused)
    assert guard.accepts("GET", "/", again, b"Mufasa", b"Circle")
    assert digest.response("GET", "/", guard.challenge(), sent=again) is None


def test_wrong_password_is_sent_once(guarded: tuple[Guard, HTTPClient]) -> None:
    _, client = guarded
    assert fetch(client, DigestAuth("Mufasa", "wrong"), "/") == [401, 401]


def test_repeated_nonce_is_not_answered_again() -> None:
    digest = DigestAuth("u", "p")
    challenge = 'Digest realm="r", nonce="n", qop="auth", stale=true'
    first = digest.response("GET", "/", challenge)
    assert digest.response("GET", "/", challenge, sent=first) is None


def test_nonce_sent_twice_continues_its_count() -> None:
    digest = DigestAuth("u", "p")
    challenge = 'Digest realm="r", nonce="n", qop="auth"'
    assert [said(digest.response("GET", "/", challenge))["nc"] for _ in "12"] == ["00000001", "00000002"]


def test_many_greenlets_share_one_count(guarded: tuple[Guard, HTTPClient]) -> None:
    guard, _ = guarded
    digest = DigestAuth("Mufasa", "Circle")
    digest.response("GET", "/", guard.challenge())
    with gevent.Timeout(10):
        sent = [gevent.spawn(digest.preemptive, "GET", "/") for _ in range(100)]
        gevent.joinall(sent)
    assert sorted(int(said(one.value)["nc"], 16) for one in sent) == list(range(2, 102))


@pytest.mark.parametrize("session", ["", "-sess"])
@pytest.mark.parametrize("algorithm", HASHES)
@pytest.mark.parametrize(
    "extra",
    [
        "",
        ', qop="auth"',
        ', qop="auth-int"',
        ', qop="auth-int,auth", opaque="o\\"o"',
        ", qop=auth, userhash=true",
        ", qop=auth, charset=UTF-8",
    ],
)
def test_every_kind_against_the_definition(algorithm: str, session: str, extra: str) -> None:
    if HASHES[algorithm] not in hashlib.algorithms_available:
        pytest.skip("hashlib does not have it")
    for name, password in [("Mufasa", "Circle"), ('a"b\\c', ":"), ("Jäsøn", "pässword"), ("Ж", "€")]:
        guard = Guard(algorithm + session, extra, realm="zoo")
        encoding = "utf-8" if "UTF-8" in extra or name == "Ж" else "latin-1"
        digest = DigestAuth(name, password)
        first = digest.response("POST", "/a?b=c", guard.challenge(), body=b"body")
        again = digest.preemptive("GET", "/")
        user, secret = name.encode(encoding), password.encode(encoding)
        assert guard.accepts("POST", "/a?b=c", first, user, secret, b"body")
        assert guard.accepts("GET", "/", again, user, secret)
        assert first is not None
        first.encode("latin-1")  # or it could not be sent


@pytest.mark.parametrize(
    ("body", "octets"),
    [
        (None, b""),
        (b"", b""),
        (b"body", b"body"),
        (bytearray(b"body"), b"body"),
        (memoryview(b"a body")[2:], b"body"),
        ("b\u00f6dy", "b\u00f6dy".encode()),
        (["bo", b"dy"], b"body"),
        ((), b""),
    ],
)
def test_auth_int_protects_a_body_in_memory(body: Any, octets: bytes) -> None:
    guard = Guard("SHA-256", ', qop="auth-int"')
    digest = DigestAuth("u", "p")
    first = digest.response("POST", "/", guard.challenge(), body=body)
    assert said(first)["qop"] == "auth-int"
    assert guard.accepts("POST", "/", first, b"u", b"p", octets)
    assert guard.accepts("POST", "/", digest.preemptive("POST", "/", body=body), b"u", b"p", octets)
    another = digest.preemptive("POST", "/", body=body)
    assert not guard.accepts("POST", "/", another, b"u", b"p", octets + b"!")


@pytest.mark.parametrize("make", [lambda: io.BytesIO(b"body"), lambda: iter([b"body"]), lambda: [io.BytesIO()], object])
def test_auth_int_of_a_body_that_is_not_in_memory_raises(make: Callable[[], object]) -> None:
    digest = DigestAuth("u", "p")
    body = make()
    only = 'Digest realm="r", nonce="n", qop="auth-int", algorithm=SHA-256'
    with pytest.raises(ValueError, match="qop=auth-int, which needs the body in memory"):
        digest.response("POST", "/", only, body=body)
    # A weaker challenge that can be answered is answered.
    weaker = 'Digest realm="r", nonce="m", qop="auth"'
    assert said(digest.response("POST", "/", [only, weaker], body=body))["nonce"] == "m"
    assert said(digest.response("POST", "/", [only, weaker], body=b""))["nonce"] == "n"
    assert digest.preemptive("POST", "/", body=body) is None


def test_digest_of_bytes_takes_them_as_they_are() -> None:
    for extra in ("", ', qop="auth", userhash=true', ', qop="auth", charset=UTF-8'):
        guard = Guard("MD5", extra)
        answer = DigestAuth(b"u\xff", b"p\x80").response("GET", "/", guard.challenge())
        if "charset" not in extra:
            assert guard.accepts("GET", "/", answer, b"u\xff", b"p\x80")
        else:
            assert said(answer)["username*"] == "UTF-8''u%FF"


def test_names_are_normalised_where_they_are_unicode() -> None:
    guard = Guard("SHA-256", ", qop=auth, charset=UTF-8")
    answer = DigestAuth("Ja\u0308n", "e\u0301").response("GET", "/", guard.challenge())
    assert guard.accepts("GET", "/", answer, "J\u00e4n".encode(), "\u00e9".encode())


def test_strongest_challenge_is_answered() -> None:
    weak = 'Basic realm="r", Digest realm="r", nonce="1", qop="auth", algorithm=MD5'
    strong = (
        'Digest realm="r", nonce="2", qop="auth", algorithm=SHA-256, Digest realm="r", nonce="3", algorithm=SHA-999'
    )
    for lines in ([weak, strong], [strong, weak], [f"{weak}, {strong}"]):
        fields = said(DigestAuth("u", "p").response("GET", "/", lines))
        assert (fields["nonce"], fields["algorithm"]) == ("2", "SHA-256")


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        'Basic realm="r"',
        'Digest realm="r"',
        'Digest nonce="n"',
        'Digest realm="r", nonce="n", algorithm=SHA-999',
        'Digest realm="r", nonce="n", qop="auth-else"',
        'Digest realm="r", nonce="n\r\nX: y"',
    ],
)
def test_challenges_that_are_not_supported_are_not_answered(challenge: str) -> None:
    digest = DigestAuth("u", "p")
    assert digest.response("GET", "/", challenge) is None
    assert digest.preemptive("GET", "/") is None


def test_nonces_belong_to_an_origin_and_a_realm() -> None:
    digest = DigestAuth("u", "p")
    digest.response("GET", "/", 'Digest realm="r", nonce="a1", qop=auth', "https://a")
    assert digest.preemptive("GET", "/", "https://b") is None
    digest.response("GET", "/", 'Digest realm="r", nonce="b1", qop=auth', "https://b")
    assert said(digest.preemptive("GET", "/", "https://a"))["nonce"] == "a1"
    sent = digest.preemptive("GET", "/", "https://a")
    # Another realm: the server has refused no answer for that.
    digest.response("GET", "/", 'Digest realm="s", nonce="a2", qop=auth', "https://a", sent)
    assert said(digest.preemptive("GET", "/", "https://a"))["nonce"] == "a2"


def test_server_of_a_thousand_realms_does_not_fill_the_memory() -> None:
    digest = DigestAuth("u", "p")
    for n in range(1000):
        digest.response("GET", "/", f'Digest realm="r{n}", nonce="{n}"')
    assert len(digest._nonces) <= 64
    assert said(digest.preemptive("GET", "/"))["nonce"] == "999"


def test_foreign_credentials_do_no_harm() -> None:
    for sent in ("Basic abc=", "", "Digest realm=r, nonce=x, nc=zz", 'Digest realm="'):
        assert DigestAuth("u", "p").response("GET", "/", 'Digest realm="r", nonce="n"', sent=sent) is not None


# ---------------------------------------------------------------------------------------------------------------- netrc


@pytest.fixture
def netrc_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(path))
    return path


def test_netrc(netrc_file: Path) -> None:
    netrc_file.write_text("machine example.org login me password hunter2\nmachine b account acc password x\n")
    assert netrc_auth("example.org") == ("me", "hunter2")
    assert netrc_auth("b") == ("acc", "x")
    assert netrc_auth("elsewhere.org") is None
    netrc_file.write_text("default login anyone password x\n")
    assert netrc_auth("elsewhere.org") == ("anyone", "x")


@pytest.mark.parametrize("content", [None, b"machine", b"\xff\xfe\x00", b"nonsense \x00"])
def test_unusable_netrc_is_ignored(content: bytes | None, netrc_file: Path) -> None:
    if content is not None:
        netrc_file.write_bytes(content)
    assert netrc_auth("example.org") is None


def test_netrc_is_found_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert netrc_auth("h") is None
    (tmp_path / "_netrc").write_text("machine h login two password p\n")
    assert netrc_auth("h") == ("two", "p")
    (tmp_path / ".netrc").write_text("machine h login one password p\n")
    assert netrc_auth("h") == ("one", "p")
    monkeypatch.setenv("NETRC", str(tmp_path))  # a directory
    assert netrc_auth("h") is None
