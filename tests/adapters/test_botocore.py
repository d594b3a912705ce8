"""boto3 with the adapter, against moto and scripted peers: the same results as with botocore's own pools."""

from __future__ import annotations

import hashlib
import json
import ssl
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventhttpclient import HTTPClient
from geventhttpclient.adapters.botocore import attach
from tests.httplib.test_consumers import deaf
from tests.support.certificates import Certificates
from tests.support.dependents import need
from tests.support.hub import run, running
from tests.support.peer import Conn, Peer, Request
from tests.support.ports import free_port
from tests.support.proxies import pass_on
from tests.support.scripted import answering_together

need("boto3")
need("moto")
need("flask_cors")

pytestmark = pytest.mark.filterwarnings("ignore:Boto3 will no longer support")

GREENLETS = 50

# The owner of all buckets of moto.
MOTO_OWNER = "bcaf1ffd86f41161ca5fb16fd081034f"

LIST = b"<ListAllMyBucketsResult><Owner><ID>me</ID></Owner><Buckets></Buckets></ListAllMyBucketsResult>"

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n"


def s3(conn: Conn) -> None:
    """An S3 whose behaviour depends on the key; it fails only once for a key, unless that begins with `always`."""
    while request := conn.read_head():
        key = request.target.partition("?")[0].rpartition("/")[2]
        if request.get("expect"):
            conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        conn.read_body(request)
        seen = sum(key == other.target.rpartition("/")[2] for other in conn.peer.requests)
        conn.peer.requests.append(request)
        behaviour = key.partition("-")[0] if not seen else "always" if key.startswith("always") else ""
        if behaviour in ("500", "503"):
            conn.respond(b"", f"{behaviour} Failed")
        elif behaviour == "reset":
            conn.reset()
            return
        elif behaviour == "garbage":
            conn.send(b"I do not speak that language\r\n\r\n")
            return
        elif behaviour in ("close", "always"):
            return
        elif behaviour == "silent":
            conn.send(HEAD if key == "silent-body" else b"")
            conn.wait_closed()
            return
        elif behaviour == "short":
            conn.send(HEAD + b"half")
            return
        else:
            body = b"body" if request.method == "GET" else b""
            conn.respond(body, headers=[("ETag", hashlib.sha256(request.body).hexdigest())])


def listing(conn: Conn) -> None:
    while conn.read_request():
        conn.respond(LIST)


def expecting(conn: Conn) -> None:
    """Refuses a request before its body is sent, and permits the next; checks that neither body comes before that."""
    while request := conn.read_head():
        if conn.buffer:
            conn.respond(b"", "500 Too Early")
            return
        if request.target.endswith("/refused"):
            conn.respond(b"<Error><Code>AccessDenied</Code></Error>", "403 Forbidden", [("Connection", "close")])
            return
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        conn.respond(b"", headers=[("ETag", str(len(conn.read_body(request))))])


def proxying(conn: Conn) -> None:
    """A proxy that answers by itself."""
    while request := conn.read_request():
        assert request.target.startswith("http://aws.test/bucket/")
        conn.respond(str(request.get("proxy-authorization")).encode())


@pytest.fixture(scope="module")
def moto(certificates: Certificates) -> Iterator[tuple[int, int]]:
    """Starts moto. Returns its ports for HTTP and HTTPS."""
    with running("moto_server.run", certificates.valid.chain, certificates.valid.key) as program:
        plain, secure = map(int, program.read_line().split())
        yield plain, secure


@pytest.fixture
def places(moto: tuple[int, int], certificates: Certificates) -> Iterator[dict[str, str]]:
    """Returns the URLs of servers for one run of the program."""
    plain, secure = moto
    with closing(HTTPClient("127.0.0.1", plain)) as client:
        assert client.post("/moto-api/reset").status_code == 200

    def tunnelling(conn: Conn) -> None:
        request = conn.read_head()
        assert request is not None
        assert request.line.startswith("CONNECT localhost:443 ")
        conn.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        pass_on(conn, ("127.0.0.1", secure))

    clients = certificates.valid.server()
    clients.load_verify_locations(certificates.ca)
    clients.verify_mode = ssl.CERT_REQUIRED
    with (
        ExitStack() as stack,
        Peer(s3) as peer,
        Peer(expecting) as expect,
        Peer(proxying) as proxy,
        Peer(proxying, tls=certificates.valid.server()) as tls_proxy,
        Peer(tunnelling) as tunnel,
        Peer(listing, tls=clients) as by_certificate,
    ):
        yield {
            "moto": f"http://127.0.0.1:{plain}",
            "moto_tls": f"https://localhost:{secure}",
            "ca": str(certificates.ca),
            "other_ca": str(certificates.other_ca),
            "cert": str(certificates.client.chain),
            "key": str(certificates.client.key),
            "peer": peer.url,
            "expect": expect.url,
            "proxy": proxy.url,
            "tls_proxy": tls_proxy.url.replace("127.0.0.1", "localhost"),
            "tunnel": tunnel.url,
            "clients": by_certificate.url.replace("127.0.0.1", "localhost"),
            "deaf": deaf(stack),
            "closed": f"http://127.0.0.1:{free_port()}",
        }


EXPECTED = {
    "put_get_list_delete": [
        f'"{hashlib.md5(b"hello").hexdigest()}"',
        {"for": "you"},
        "hello",
        [["a/b c?é", 5], ["empty", 0]],
        0,
    ],
    "missing_key": "NoSuchKey",
    "range": ["bytes 3-5/10", "345"],
    "body_in_pieces": [[300_000, 300_000, 300_000, 100_000], True, True],
    "lines": ["one", "two", "three"],
    "multipart": ["4", ["x-amz-checksum-sha256"] * 4, True],
    "multipart_in_threads": ["4", ["x-amz-checksum-sha256"] * 4, True],
    "file": True,
    "presigned": [200, "by URL"],
    "pages": [["pages/0", "pages/1"], ["pages/2", "pages/3"], ["pages/4"]],
    "resource": [["key", "by resource"]],
    "dynamodb": ["0", "1", "2"],
    "sqs": "a message",
    "tls": "secret",
    "tls_unverified": 200,
    "tls_unknown_authority": "SSLError",
    "retried": {
        f"{mode} {failure}": ["body", 1]
        for mode in ("legacy", "standard", "adaptive")
        for failure in ("503", "close", "500", "reset", "garbage")[: 5 if mode == "legacy" else 2]
    },
    "body_retried": [True, 1],
    "read_timeout": "ReadTimeoutError",
    "read_timeout_in_body": "ReadTimeoutError",
    "connect_timeout": "ConnectTimeoutError",
    "refused": "EndpointConnectionError",
    "unknown_name": "EndpointConnectionError",
    "closed": "ConnectionClosedError",
    "short_body": "ResponseStreamingError",
    "no_tls": "SSLError",
    "by_proxy": ["Basic bWU6c2VjcmV0", 0],
    "by_tls_proxy": [["None", 0], "ProxyConnectionError"],
    "by_tunnel": MOTO_OWNER,
    "proxy_refuses": "ProxyConnectionError",
    "client_certificate": ["me", "SSLError"],
    "keep_alive_option": ["body", 0],
    "expect": ["AccessDenied", "100000"],
}


@pytest.mark.parametrize("mode", ["theirs", "attached", "monkey"])
def test_boto3_with_adapter_has_the_results_of_its_own_pools(mode: str, places: dict[str, str]) -> None:
    outcomes = json.loads(run("aws.run", mode, json.dumps(places)).clean())
    assert outcomes == EXPECTED


@pytest.mark.parametrize("mode", ["attached", "monkey"])
def test_greenlets_share_a_client_and_send_at_the_same_time(mode: str) -> None:
    def respond(conn: Conn, request: Request) -> None:
        conn.respond(request.target.rpartition("/")[2].encode())

    script, arrived = answering_together(GREENLETS, respond)
    with Peer(script) as peer:
        printed = run("aws.together", mode, peer.url, GREENLETS).clean()
    assert int(printed) == sum(range(GREENLETS))
    assert sorted(arrived) == list(range(GREENLETS))


def test_credentials_of_a_role_block_no_greenlet_forever(tmp_path: Path) -> None:
    """botocore holds a lock while it requests them: a cooperative wait would let another greenlet block on it."""
    config = tmp_path / "config"
    config.write_text(
        "[profile role]\nregion = us-east-1\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = source\n"
        "[profile source]\naws_access_key_id = key\naws_secret_access_key = secret\n"
    )
    answer = (
        b"<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>of-role</AccessKeyId>"
        b"<SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>"
        b"<Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )

    def script(conn: Conn) -> None:
        while request := conn.read_request():
            is_role = b"AssumeRole" in request.body
            conn.respond(answer if is_role else str("of-role" in str(request.get("authorization"))).encode())

    with Peer(script) as peer:
        printed = run("aws.assumed", peer.url, config, 10).clean()
        assert sum(b"AssumeRole" in request.body for request in peer.requests) == 1
    assert printed.split() == ["True"] * 10


def test_lines_of_the_page_make_a_client(certificates: Certificates) -> None:
    with Peer(s3, tls=certificates.valid.server()) as peer:
        settings = {
            "AWS_ENDPOINT_URL": f"https://localhost:{peer.port}",
            "AWS_CA_BUNDLE": str(certificates.ca),
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "NO_PROXY": "*",
        }
        assert run("aws.page", peer.port, **settings).clean() == "body\n"


def client(url: str, service: str = "s3", **config: Any) -> Any:
    """Returns an attached client of this process."""
    import boto3
    from botocore.config import Config

    config = {"proxies": {}, "s3": {"addressing_style": "path"}, **config}
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    return attach(boto3.client(service, endpoint_url=url, region_name="us-east-1", config=Config(**config), **keys))


@pytest.mark.usefixtures("bounded")
def test_pause_before_a_retry_lets_other_greenlets_run() -> None:
    order: list[str] = []

    def pause(attempts: int, **_: object) -> float | None:
        gevent.spawn(order.append, "other")
        return 0.02 if attempts < 3 else None

    with Peer(s3) as peer:
        aws = client(peer.url, retries={"max_attempts": 0})
        attach(aws)
        aws.meta.events.register("before-send.s3", lambda **_: order.append("request"))
        aws.meta.events.register_first("needs-retry.s3", pause)
        assert aws.get_object(Bucket="bucket", Key="500-key")["ResponseMetadata"]["RetryAttempts"] == 2
        assert order == ["request", "other", "request", "other", "request"]


@pytest.mark.usefixtures("bounded")
def test_close_of_a_client_closes_its_connections() -> None:
    with Peer() as peer:
        aws = client(peer.url)
        for _ in range(3):
            assert aws.get_object(Bucket="bucket", Key="key")["Body"].read() == b"/bucket/key"
        assert len(peer.conns) == 1
        aws.close()
        assert peer.conns[0].hung_up.wait(10)


@pytest.mark.usefixtures("bounded")
def test_timeout_of_gevent_interrupts_a_request() -> None:
    with Peer(lambda conn: conn.wait_closed()) as peer:
        aws = client(peer.url)
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            aws.get_object(Bucket="bucket", Key="key")
        assert peer.conns[0].hung_up.wait(10)


def event(text: str) -> bytes:
    """Returns a message of the event stream that the models of Bedrock answer with."""
    payload = json.dumps({"contentBlockIndex": 0, "delta": {"text": text}}).encode()
    fields = {":message-type": "event", ":event-type": "contentBlockDelta", ":content-type": "application/json"}
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in fields.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


@pytest.mark.usefixtures("bounded")
def test_events_of_a_model_are_delivered_as_they_arrive() -> None:
    """Each event is sent after the one before it has been delivered."""
    delivered = [Event() for _ in range(3)]

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n")
        conn.send(b"Transfer-Encoding: chunked\r\n\r\n")
        for number, seen in enumerate(delivered):
            message = event(str(number))
            conn.send(b"%x\r\n%b\r\n" % (len(message), message))
            seen.wait()
        conn.send(b"0\r\n\r\n")

    with Peer(script) as peer:
        aws = client(peer.url, "bedrock-runtime")
        answer = aws.converse_stream(modelId="model", messages=[{"role": "user", "content": [{"text": "Hello"}]}])
        for number, found in enumerate(answer["stream"]):
            assert found["contentBlockDelta"]["delta"]["text"] == str(number)
            delivered[number].set()
    assert all(seen.is_set() for seen in delivered)


@pytest.mark.usefixtures("bounded")
def test_handlers_that_answer_requests_themselves_still_do() -> None:
    """moto's decorators and botocore's Stubber send nothing."""
    from botocore.stub import Stubber
    from moto import mock_aws

    with Peer() as peer:
        aws = client(peer.url)
        with Stubber(aws) as stubber:
            stubber.add_response("list_buckets", {"Owner": {"ID": "stub"}})
            assert aws.list_buckets()["Owner"]["ID"] == "stub"
        with mock_aws():
            import boto3

            mocked = attach(boto3.client("s3", region_name="us-east-1"))
            mocked.create_bucket(Bucket="mocked")
            assert [bucket["Name"] for bucket in mocked.list_buckets()["Buckets"]] == ["mocked"]
        assert peer.conns == []


def test_attach_refuses_what_is_no_client() -> None:
    import boto3

    with pytest.raises(TypeError, match=r"^client must be a client or a resource of boto3, not a Session$"):
        attach(boto3.Session())
