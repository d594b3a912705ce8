"""Who is asking: Basic and Digest, the challenges they answer, netrc files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import gevent
import pytest

from geventhttpclient import HTTPClient, auth
from geventhttpclient.auth import BasicAuth, DigestAuth, netrc_auth, resolve_auth
from geventhttpclient.challenge import Challenge, parse_challenges
from tests.peer import Conn, Peer

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


@pytest.mark.parametrize("secretive", [BasicAuth("me", "hunter2"), DigestAuth("me", "hunter2")])
def test_a_password_is_in_no_repr(secretive: object) -> None:
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
        # What is broken counts for nothing, what was whole before it does.
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


HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


class Guard:
    """What a server of Digest knows, written down as plainly as RFC 7616 section 3.4.1 has it."""

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

    def accepts(self, method: str, uri: str, authorization: str | None, user: bytes, password: bytes) -> bool:
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
        """Lets Mufasa in."""
        while request := conn.read_request():
            authorization = request.get("Authorization")
            if self.accepts(request.method, request.target, authorization, b"Mufasa", b"Circle"):
                conn.respond(b"in")
            else:
                conn.respond(b"out", "401 Unauthorized", [("WWW-Authenticate", self.challenge())])


def fetch(client: HTTPClient, digest: DigestAuth, target: str) -> list[int]:
    """The statuses that it takes, at most four."""
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


def test_a_stale_nonce_is_renewed(guarded: tuple[Guard, HTTPClient]) -> None:
    guard, client = guarded
    digest = DigestAuth("Mufasa", "Circle")
    assert fetch(client, digest, "/") == [401, 200]
    guard.challenge()  # it has a new nonce now, and says so
    assert fetch(client, digest, "/") == [401, 200]
    assert fetch(client, digest, "/") == [200]


def test_a_nonce_forgotten_without_a_word_is_renewed_once(guarded: tuple[Guard, HTTPClient]) -> None:
    guard, client = guarded
    digest = DigestAuth("Mufasa", "Circle")
    assert fetch(client, digest, "/") == [401, 200]
    refused = digest.preemptive("GET", "/")
    again = digest.response("GET", "/", guard.challenge(), sent=refused)
    assert guard.accepts("GET", "/", again, b"Mufasa", b"Circle")
    assert digest.response("GET", "/", guard.challenge(), sent=again) is None


def test_a_wrong_password_is_sent_once(guarded: tuple[Guard, HTTPClient]) -> None:
    _, client = guarded
    assert fetch(client, DigestAuth("Mufasa", "wrong"), "/") == [401, 401]


def test_the_same_nonce_again_means_no() -> None:
    digest = DigestAuth("u", "p")
    challenge = 'Digest realm="r", nonce="n", qop="auth", stale=true'
    first = digest.response("GET", "/", challenge)
    assert digest.response("GET", "/", challenge, sent=first) is None


def test_a_nonce_that_is_given_twice_is_counted_on() -> None:
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
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256"])
@pytest.mark.parametrize(
    "extra",
    [
        "",
        ', qop="auth"',
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
        first = digest.response("POST", "/a?b=c", guard.challenge())
        again = digest.preemptive("GET", "/")
        user, secret = name.encode(encoding), password.encode(encoding)
        assert guard.accepts("POST", "/a?b=c", first, user, secret)
        assert guard.accepts("GET", "/", again, user, secret)
        assert first is not None
        first.encode("latin-1")  # or it could not be sent


def test_names_are_normalised_where_they_are_unicode() -> None:
    guard = Guard("SHA-256", ", qop=auth, charset=UTF-8")
    answer = DigestAuth("Ja\u0308n", "e\u0301").response("GET", "/", guard.challenge())
    assert guard.accepts("GET", "/", answer, "J\u00e4n".encode(), "\u00e9".encode())


def test_the_strongest_challenge_is_answered() -> None:
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
        'Digest realm="r", nonce="n", qop="auth-int"',
        'Digest realm="r", nonce="n\r\nX: y"',
    ],
)
def test_what_cannot_be_answered_is_not(challenge: str) -> None:
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
    # Another realm: nobody has refused an answer for that.
    digest.response("GET", "/", 'Digest realm="s", nonce="a2", qop=auth', "https://a", sent)
    assert said(digest.preemptive("GET", "/", "https://a"))["nonce"] == "a2"


def test_a_server_of_a_thousand_realms_does_not_fill_the_memory() -> None:
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
def test_a_netrc_of_no_use_counts_for_none(content: bytes | None, netrc_file: Path) -> None:
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
