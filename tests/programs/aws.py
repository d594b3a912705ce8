"""boto3 against moto and scripted peers: prints the outcome of each case as JSON.

    python -m tests.programs aws.run MODE PLACES
    python -m tests.programs aws.together MODE URL COUNT
    python -m tests.programs aws.assumed URL CONFIG COUNT
    python -m tests.programs aws.page PORT

MODE is `theirs` (botocore's own pools, blocking), `attached` (this package's adapter, without monkey patching) or
`monkey` (the adapter with gevent.monkey). PLACES is a JSON object of URLs and files.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.programs.outcomes import print_outcomes
from tests.programs.sdks import run_block

SIZE = 20 << 20
PART = 5 << 20
SHORT_SECONDS = 0.3

Make = Callable[..., Any]
Places = dict[str, str]


def _prepare(mode: str) -> Make:
    """Returns a function that creates a client: of a service, for an endpoint, with arguments of botocore's Config."""
    if mode == "monkey":
        import gevent.monkey

        gevent.monkey.patch_all()
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="1")
    warnings.filterwarnings("ignore", "Boto3 will no longer support")
    import boto3
    from botocore.config import Config

    from geventhttpclient.adapters.botocore import attach

    def make(service: str, url: str, verify: Any = None, by: Any = boto3.client, **config: Any) -> Any:
        config = {"proxies": {}, "s3": {"addressing_style": "path"}, "retries": {"max_attempts": 0}, **config}
        client = by(
            service,
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            verify=verify,
            config=Config(**config),
        )
        return client if mode == "theirs" else attach(client)

    return make


def run(mode: str, given: str) -> None:
    """Prints the outcome of all cases."""
    make = _prepare(mode)
    places = json.loads(given)
    print_outcomes({case.__name__.strip("_"): partial(case, make, places) for case in CASES})


def together(mode: str, url: str, count: str) -> None:
    """Sends requests of that many greenlets with one client."""
    make = _prepare(mode)
    import gevent

    s3 = make("s3", url, max_pool_connections=int(count))
    greenlets = [gevent.spawn(s3.get_object, Bucket="bucket", Key=str(number)) for number in range(int(count))]
    print(sum(int(greenlet.get()["Body"].read()) for greenlet in greenlets))


def assumed(url: str, config: str, count: str) -> None:
    """Sends requests of several greenlets whose credentials are those of a role, which botocore requests first."""
    _prepare("attached")
    os.environ.update(AWS_CONFIG_FILE=config, AWS_ENDPOINT_URL_STS=url, NO_PROXY="127.0.0.1")
    import boto3
    import gevent
    from botocore.config import Config

    from geventhttpclient.adapters.botocore import attach

    session = boto3.Session(profile_name="role")
    s3 = attach(session.client("s3", endpoint_url=url, config=Config(proxies={}, s3={"addressing_style": "path"})))
    greenlets = [gevent.spawn(s3.get_object, Bucket="bucket", Key="key") for _ in range(int(count))]
    print(b" ".join(greenlet.get()["Body"].read() for greenlet in greenlets).decode())


def page(port: str) -> None:
    """Uses the client of docs/guide/sdks.md, whose server the environment names."""
    warnings.filterwarnings("ignore", "Boto3 will no longer support")
    print(run_block("s3.py", port)["s3"].get_object(Bucket="bucket", Key="key")["Body"].read().decode())


# ---------------------------------------------------------------- moto


def _bucket(make: Make, places: Places) -> Any:
    s3 = make("s3", places["moto"])
    s3.create_bucket(Bucket="bucket")
    return s3


def _data() -> bytes:
    return bytes(range(251)) * (SIZE // 251)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _put_get_list_delete(make: Make, places: Places) -> Any:
    s3 = _bucket(make, places)
    etag = s3.put_object(Bucket="bucket", Key="a/b c?é", Body=b"hello", Metadata={"for": "you"})["ETag"]
    s3.put_object(Bucket="bucket", Key="empty", Body=b"")
    found = s3.get_object(Bucket="bucket", Key="a/b c?é")
    listed = [(item["Key"], item["Size"]) for item in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    for key, _ in listed:
        s3.delete_object(Bucket="bucket", Key=key)
    left = s3.list_objects_v2(Bucket="bucket")["KeyCount"]
    return [etag, found["Metadata"], found["Body"].read().decode(), listed, left]


def _missing_key(make: Make, places: Places) -> Any:
    s3 = _bucket(make, places)
    try:
        s3.get_object(Bucket="bucket", Key="missing")
    except s3.exceptions.NoSuchKey as error:
        return error.response["Error"]["Code"]


def _range(make: Make, places: Places) -> Any:
    s3 = _bucket(make, places)
    s3.put_object(Bucket="bucket", Key="range", Body=b"0123456789")
    found = s3.get_object(Bucket="bucket", Key="range", Range="bytes=3-5")
    return [found["ContentRange"], found["Body"].read().decode()]


def _body_in_pieces(make: Make, places: Places) -> Any:
    s3 = _bucket(make, places)
    data = _data()[:1_000_000]
    s3.put_object(Bucket="bucket", Key="pieces", Body=io.BytesIO(data))
    pieces = list(s3.get_object(Bucket="bucket", Key="pieces")["Body"].iter_chunks(300_000))
    with s3.get_object(Bucket="bucket", Key="pieces")["Body"] as body:
        part = body.read(10)
        rest = body.read()
    return [[len(piece) for piece in pieces], b"".join(pieces) == data, part + rest == data]


def _lines(make: Make, places: Places) -> Any:
    s3 = _bucket(make, places)
    s3.put_object(Bucket="bucket", Key="lines", Body=b"one\ntwo\nthree\n")
    return [line.decode() for line in s3.get_object(Bucket="bucket", Key="lines")["Body"].iter_lines()]


def _multipart(make: Make, places: Places, threads: bool = False) -> Any:
    """Over TLS the checksum of each part is a trailer."""
    from boto3.s3.transfer import TransferConfig

    _bucket(make, places)
    s3 = make("s3", places["moto_tls"], places["ca"])
    bodies: list[str] = []
    s3.meta.events.register(
        "before-send.s3.UploadPart",
        lambda request, **_: bodies.append(request.headers["X-Amz-Trailer"].decode()),
    )
    config = TransferConfig(multipart_chunksize=PART, use_threads=threads)
    data, copy = _data(), io.BytesIO()
    s3.upload_fileobj(io.BytesIO(data), "bucket", "large", ExtraArgs={"ChecksumAlgorithm": "SHA256"}, Config=config)
    s3.download_fileobj("bucket", "large", copy, Config=config)
    parts = s3.head_object(Bucket="bucket", Key="large")["ETag"].strip('"').partition("-")[2]
    return [parts, bodies, _digest(copy.getvalue()) == _digest(data)]


def _multipart_in_threads(make: Make, places: Places) -> Any:
    return _multipart(make, places, True)


def _file(make: Make, places: Places) -> Any:
    s3 = _bucket(make, places)
    s3.upload_file(__file__, "bucket", "program")
    return s3.get_object(Bucket="bucket", Key="program")["ContentLength"] == os.path.getsize(__file__)


def _presigned(make: Make, places: Places) -> Any:
    from geventhttpclient import Session

    s3 = _bucket(make, places)
    place = {"Bucket": "bucket", "Key": "presigned"}
    with Session() as session:
        put = session.put(s3.generate_presigned_url("put_object", place), data=b"by URL")
        got = session.get(s3.generate_presigned_url("get_object", place))
    return [put.status_code, got.content.decode()]


def _pages(make: Make, places: Places) -> Any:
    s3 = _bucket(make, places)
    for number in range(5):
        s3.put_object(Bucket="bucket", Key=f"pages/{number}", Body=b"")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="pages/", MaxKeys=2)
    return [[item["Key"] for item in page["Contents"]] for page in pages]


def _resource(make: Make, places: Places) -> Any:
    import boto3

    bucket = make("s3", places["moto"], by=boto3.resource).create_bucket(Bucket="of-resource")
    bucket.put_object(Key="key", Body=b"by resource")
    return [(item.key, item.get()["Body"].read().decode()) for item in bucket.objects.all()]


def _dynamodb(make: Make, places: Places) -> Any:
    dynamodb = make("dynamodb", places["moto"])
    dynamodb.create_table(
        TableName="table",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("who", "when")],
        KeySchema=[{"AttributeName": "who", "KeyType": "HASH"}, {"AttributeName": "when", "KeyType": "RANGE"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(3):
        dynamodb.put_item(TableName="table", Item={"who": {"S": "me"}, "when": {"S": str(number)}})
    found = dynamodb.query(
        TableName="table",
        KeyConditionExpression="who = :me",
        ExpressionAttributeValues={":me": {"S": "me"}},
    )
    dynamodb.delete_table(TableName="table")
    return [item["when"]["S"] for item in found["Items"]]


def _sqs(make: Make, places: Places) -> Any:
    sqs = make("sqs", places["moto"])
    url = sqs.create_queue(QueueName="queue")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="a message")
    message = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)["Messages"][0]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return message["Body"]


def _tls(make: Make, places: Places) -> Any:
    _bucket(make, places)
    s3 = make("s3", places["moto_tls"], places["ca"])
    s3.put_object(Bucket="bucket", Key="tls", Body=b"secret")
    return s3.get_object(Bucket="bucket", Key="tls")["Body"].read().decode()


def _tls_unverified(make: Make, places: Places) -> Any:
    with warnings.catch_warnings():
        # urllib3's own, once for each request.
        warnings.simplefilter("ignore")
        return make("s3", places["moto_tls"], False).list_buckets()["ResponseMetadata"]["HTTPStatusCode"]


def _tls_unknown_authority(make: Make, places: Places) -> Any:
    return _error(lambda: make("s3", places["moto_tls"], places["other_ca"]).list_buckets())


# ---------------------------------------------------------------- scripted peers


def _error(call: Callable[[], Any]) -> Any:
    """Returns the result of a call, or the code of the service's error, or the class of botocore's."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    except BotoCoreError as error:
        return type(error).__name__


def _get(make: Make, url: str, key: str, **config: Any) -> Any:
    client = make("s3", url, **config)
    found = client.get_object(Bucket="bucket", Key=key)
    return [found["Body"].read().decode(), found["ResponseMetadata"]["RetryAttempts"]]


def _retried(make: Make, places: Places) -> Any:
    """A request that is retried after 500, 503 and a closed connection, in each mode of retries."""
    return {
        f"{mode} {key}": _get(make, places["peer"], f"{key}-{mode}", retries={"max_attempts": 3, "mode": mode})
        for mode in ("legacy", "standard", "adaptive")
        for key in ("503", "close", "500", "reset", "garbage")[: 5 if mode == "legacy" else 2]
    }


def _body_retried(make: Make, places: Places) -> Any:
    """A file is sent again from its start."""
    s3 = make("s3", places["peer"], retries={"max_attempts": 3, "mode": "standard"})
    sent = s3.put_object(Bucket="bucket", Key="503-body", Body=io.BytesIO(_data()), ChecksumAlgorithm="CRC32")
    return [sent["ETag"] == _digest(_data()), sent["ResponseMetadata"]["RetryAttempts"]]


def _read_timeout(make: Make, places: Places) -> Any:
    return _error(lambda: _get(make, places["peer"], "silent", read_timeout=SHORT_SECONDS))


def _read_timeout_in_body(make: Make, places: Places) -> Any:
    return _error(lambda: _get(make, places["peer"], "silent-body", read_timeout=SHORT_SECONDS))


def _connect_timeout(make: Make, places: Places) -> Any:
    return _error(lambda: _get(make, places["deaf"], "key", connect_timeout=SHORT_SECONDS))


def _refused(make: Make, places: Places) -> Any:
    return _error(lambda: _get(make, places["closed"], "key"))


def _unknown_name(make: Make, places: Places) -> Any:
    return _error(lambda: _get(make, "http://nowhere.invalid", "key"))


def _closed(make: Make, places: Places) -> Any:
    return _error(lambda: _get(make, places["peer"], "always-close"))


def _short_body(make: Make, places: Places) -> Any:
    return _error(lambda: _get(make, places["peer"], "short"))


def _no_tls(make: Make, places: Places) -> Any:
    return _error(lambda: _get(make, places["moto"].replace("http:", "https:"), "key"))


def _by_proxy(make: Make, places: Places) -> Any:
    return _get(make, "http://aws.test", "key", proxies={"http": places["proxy"].replace("//", "//me:secret@")})


def _by_tls_proxy(make: Make, places: Places) -> Any:
    proxies = {"http": places["tls_proxy"]}
    settings = {"proxy_ca_bundle": places["ca"]}
    by_other = {"proxy_ca_bundle": places["other_ca"]}
    return [
        _get(make, "http://aws.test", "key", proxies=proxies, proxies_config=settings),
        _error(lambda: _get(make, "http://aws.test", "key", proxies=proxies, proxies_config=by_other)),
    ]


def _by_tunnel(make: Make, places: Places) -> Any:
    s3 = make("s3", "https://localhost", places["ca"], proxies={"https": places["tunnel"]})
    return s3.list_buckets()["Owner"]["ID"]


def _proxy_refuses(make: Make, places: Places) -> Any:
    return _error(lambda: _get(make, "http://aws.test", "key", proxies={"http": places["closed"]}))


def _client_certificate(make: Make, places: Places) -> Any:
    s3 = make("s3", places["clients"], places["ca"], client_cert=(places["cert"], places["key"]))
    return [
        s3.list_buckets()["Owner"]["ID"],
        _error(lambda: make("s3", places["clients"], places["ca"]).list_buckets()),
    ]


def _keep_alive_option(make: Make, places: Places) -> Any:
    return _get(make, places["peer"], "key", tcp_keepalive=True)


def _expect(make: Make, places: Places) -> Any:
    """The server refuses the request before it gets the body, and permits the next."""
    s3 = make("s3", places["expect"])
    refused = _error(lambda: s3.put_object(Bucket="bucket", Key="refused", Body=b"x" * 100_000))
    return [refused, s3.put_object(Bucket="bucket", Key="taken", Body=b"x" * 100_000)["ETag"]]


CASES: list[Callable[[Make, Places], Any]] = [
    _put_get_list_delete,
    _missing_key,
    _range,
    _body_in_pieces,
    _lines,
    _multipart,
    _multipart_in_threads,
    _file,
    _presigned,
    _pages,
    _resource,
    _dynamodb,
    _sqs,
    _tls,
    _tls_unverified,
    _tls_unknown_authority,
    _retried,
    _body_retried,
    _read_timeout,
    _read_timeout_in_body,
    _connect_timeout,
    _refused,
    _unknown_name,
    _closed,
    _short_body,
    _no_tls,
    _by_proxy,
    _by_tls_proxy,
    _by_tunnel,
    _proxy_refuses,
    _client_certificate,
    _keep_alive_option,
    _expect,
]
