"""elasticsearch with the node class of this package, against a stand-in for its server."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.certificates import Certificates, Pair
from tests.support.dependents import need
from tests.support.hub import run
from tests.support.peer import Conn, Peer, Request
from tests.support.ports import free_port
from tests.support.scripted import answering_together

need("elasticsearch")

from elastic_transport import ConnectionError, ConnectionTimeout, TlsError  # noqa: E402
from elasticsearch import Elasticsearch, NotFoundError  # noqa: E402
from elasticsearch.helpers import bulk  # noqa: E402

from geventhttpclient.adapters.elastic_transport import Node  # noqa: E402

pytestmark = pytest.mark.usefixtures("bounded")

GREENLETS = 50


def answer(conn: Conn, found: object, status: str = "200 OK", compressed: bool = False) -> None:
    body = json.dumps(found).encode()
    fields = [("X-Elastic-Product", "Elasticsearch"), ("Content-Type", "application/json")]
    if compressed:
        body = gzip.compress(body)
        fields.append(("Content-Encoding", "gzip"))
    conn.respond(body, status, fields)


def read(request: Request) -> str:
    body = gzip.decompress(request.body) if request.get("content-encoding") == "gzip" else request.body
    return body.decode()


def server(conn: Conn) -> None:
    """Keeps the documents of all connections in `conn.peer.documents`."""
    documents = conn.peer.__dict__.setdefault("documents", {})
    while request := conn.read_request():
        action, compressed = request.target.rpartition("/")[2], request.get("accept-encoding") == "gzip"
        if action == "_search":
            wanted = json.loads(read(request))["query"]["match"]["text"]
            hits = [{"_id": key, "_source": text} for key, text in documents.items() if wanted in text["text"]]
            answer(conn, {"hits": {"hits": hits}}, compressed=compressed)
        elif action == "_bulk":
            lines = [json.loads(line) for line in read(request).splitlines()]
            items = []
            for head, text in zip(lines[::2], lines[1::2], strict=True):
                documents[head["index"]["_id"]] = text
                items.append({"index": {"_id": head["index"]["_id"], "status": 201}})
            answer(conn, {"errors": False, "items": items}, compressed=compressed)
        elif request.method == "PUT":
            documents[action] = json.loads(read(request))
            answer(conn, {"result": "created"}, "201 Created", compressed)
        else:
            found = {"_id": action, "found": action in documents, "_source": documents.get(action)}
            answer(conn, found, "200 OK" if action in documents else "404 Not Found", compressed)


@contextmanager
def client(*urls: str, **options: Any) -> Iterator[Elasticsearch]:
    with closing(Elasticsearch(list(urls), node_class=Node, **options)) as found:
        yield found


@pytest.mark.parametrize("compressed", [False, True])
def test_documents_are_stored_and_found_over_one_connection(compressed: bool) -> None:
    with Peer(server) as peer, client(peer.url, http_compress=compressed) as elastic:
        assert elastic.index(index="index", id="1", document={"text": "one"})["result"] == "created"
        actions = ({"_index": "index", "_id": str(number), "text": f"number {number}"} for number in range(2, 1000))
        assert bulk(elastic, actions, chunk_size=100) == (998, [])
        hits = elastic.search(index="index", query={"match": {"text": "number 99"}})["hits"]["hits"]
        assert [hit["_id"] for hit in hits] == ["99", *map(str, range(990, 1000))]
        assert elastic.get(index="index", id="1").body["_source"] == {"text": "one"}
        with pytest.raises(NotFoundError):
            elastic.get(index="index", id="missing")
        assert len(peer.conns) == 1
        assert {request.get("content-encoding") for request in peer.requests[:11]} == {"gzip" if compressed else None}


def test_client_closes_its_connections() -> None:
    with Peer(server) as peer:
        with client(peer.url) as elastic:
            elastic.index(index="index", id="1", document={})
        assert peer.conns[0].hung_up.wait(10)


def test_dead_node_is_passed_over() -> None:
    def closing_at_once(conn: Conn) -> None:
        conn.read_request()

    with Peer(closing_at_once) as broken, Peer(server) as peer:
        hosts = [f"http://127.0.0.1:{free_port()}", broken.url, peer.url]
        with client(*hosts, randomize_nodes_in_pool=False) as elastic:
            for number in range(6):
                elastic.index(index="index", id=str(number), document={})
        assert len(peer.requests) == 6
        assert len(broken.requests) == 1


def test_refused_connection_raises_the_error_of_the_package() -> None:
    with client(f"http://127.0.0.1:{free_port()}", max_retries=0) as elastic:
        with pytest.raises(ConnectionError) as caught:
            elastic.get(index="index", id="1")
        assert not isinstance(caught.value, (ConnectionTimeout, TlsError))


def test_request_timeout_raises_the_error_of_the_package() -> None:
    with Peer(lambda conn: conn.wait_closed()) as peer, client(peer.url, max_retries=0) as elastic:
        with pytest.raises(ConnectionTimeout):
            elastic.options(request_timeout=0.05).get(index="index", id="1")
        assert peer.conns[0].hung_up.wait(10)


def test_timeout_of_gevent_interrupts_a_request() -> None:
    with Peer(lambda conn: conn.wait_closed()) as peer, client(peer.url) as elastic:
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            elastic.get(index="index", id="1")
        assert peer.conns[0].hung_up.wait(10)


@pytest.mark.parametrize("mode", ["unpatched", "monkey"])
def test_greenlets_share_a_client_and_send_at_the_same_time(mode: str) -> None:
    def respond(conn: Conn, request: Request) -> None:
        answer(conn, {"_id": request.target.rpartition("/")[2], "found": True})

    script, arrived = answering_together(GREENLETS, respond)
    with Peer(script) as peer:
        printed = run("search.together", mode, peer.url, GREENLETS).clean()
    assert int(printed) == sum(range(GREENLETS))
    assert sorted(arrived) == list(range(GREENLETS))


def test_greenlets_use_no_more_connections_than_configured() -> None:
    with Peer(server) as peer, client(peer.url, connections_per_node=3) as elastic:
        elastic.index(index="index", id="1", document={})
        calls = [gevent.spawn(elastic.get, index="index", id="1") for _ in range(20)]
        assert [call.get()["found"] for call in calls] == [True] * 20
        assert len(peer.conns) <= 3


# ---------------------------------------------------------------- TLS


def fingerprint(path: Path) -> str:
    """Returns the fingerprint of the first certificate in a file."""
    return x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex()


def status_of(peer: Peer, **options: Any) -> str:
    """Returns the result of storing a document: "created" or the class of the error."""
    with client(peer.url.replace("127.0.0.1", "localhost"), max_retries=0, **options) as elastic:
        try:
            return str(elastic.index(index="index", id="1", document={})["result"])
        except Exception as error:
            return type(error).__name__


def test_certificates_are_verified(certificates: Certificates) -> None:
    ca, other = str(certificates.ca), str(certificates.other_ca)
    context = ssl.create_default_context(cafile=ca)
    with Peer(server, tls=certificates.valid.server()) as peer:
        assert status_of(peer, ca_certs=ca) == "created"
        assert status_of(peer, ca_certs=other) == "TlsError"
        assert status_of(peer) == "TlsError"
        assert status_of(peer, verify_certs=False, ssl_show_warn=False) == "created"
        assert status_of(peer, ssl_context=context) == "created"
        assert status_of(peer, ca_certs=ca, ssl_version=ssl.TLSVersion.TLSv1_3) == "created"
        assert status_of(peer, ca_certs=ca, ssl_assert_hostname="elsewhere.test") == "TlsError"
    with Peer(server, tls=certificates.elsewhere.server()) as peer:
        assert status_of(peer, ca_certs=ca) == "TlsError"
        assert status_of(peer, ca_certs=ca, ssl_assert_hostname=False) == "created"


def test_client_certificate_is_sent(certificates: Certificates) -> None:
    context = certificates.valid.server()
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    files = {"client_cert": str(certificates.client.chain), "client_key": str(certificates.client.key)}
    with Peer(server, tls=context) as peer:
        assert status_of(peer, ca_certs=str(certificates.ca), **files) == "created"
        assert status_of(peer, ca_certs=str(certificates.ca)) in ("TlsError", "ConnectionError")


def test_fingerprint_of_server_is_verified(certificates: Certificates) -> None:
    with Peer(server, tls=certificates.self_signed.server()) as peer:
        own = fingerprint(certificates.self_signed.chain)
        assert status_of(peer, ssl_assert_fingerprint=own) == "created"
        assert status_of(peer, ssl_assert_fingerprint=own.upper()) == "created"
        assert status_of(peer, ssl_assert_fingerprint=own, ssl_context=ssl.create_default_context()) == "created"
        assert status_of(peer, ssl_assert_fingerprint=fingerprint(certificates.ca)) == "TlsError"


def test_fingerprint_of_authority_is_verified(certificates: Certificates) -> None:
    ca, intermediate = fingerprint(certificates.other_ca), fingerprint(certificates.intermediate)
    with Peer(server, tls=certificates.with_root.server()) as peer:
        assert status_of(peer, ssl_assert_fingerprint=ca) == "created"
        # The first handshake learns the authority.
        assert len(peer.conns) == 2
        assert status_of(peer, ssl_assert_fingerprint=intermediate) == "TlsError"
        assert status_of(peer, ssl_assert_fingerprint=ca, ssl_context=ssl.create_default_context()) == "TlsError"
    with Peer(server, tls=certificates.chained.server()) as peer:
        assert status_of(peer, ssl_assert_fingerprint=intermediate) == "created"


def test_greenlets_learn_the_authority_at_the_same_time(certificates: Certificates) -> None:
    ca = fingerprint(certificates.other_ca)
    with (
        Peer(server, tls=certificates.with_root.server()) as peer,
        client(peer.url, ssl_assert_fingerprint=ca, max_retries=0) as elastic,
    ):
        calls = [gevent.spawn(elastic.index, index="index", id=str(n), document={}) for n in range(20)]
        assert {call.get()["result"] for call in calls} == {"created"}


def test_certificate_of_another_key_with_the_pinned_authority_is_refused(
    certificates: Certificates, tmp_path: Path
) -> None:
    """Any server can send the certificate of the authority behind its own, which only names that as its issuer."""
    authority = x509.load_pem_x509_certificate(certificates.other_ca.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "chain").write_bytes(forged.public_bytes(Encoding.PEM) + certificates.other_ca.read_bytes())
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with Peer(server, tls=Pair(tmp_path / "chain", tmp_path / "key").server()) as peer:
        assert status_of(peer, ssl_assert_fingerprint=fingerprint(certificates.other_ca)) == "TlsError"
        # Its chain has been found, and its signature is wrong.
        assert len(peer.conns) == 2
        assert peer.requests == []
