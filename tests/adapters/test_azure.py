"""azure-storage-blob with the adapter for requests, against a stand-in: the same results as with its own adapter."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote

import pytest

from tests.httplib.test_consumers import deaf
from tests.support.certificates import Certificates
from tests.support.dependents import need
from tests.support.hub import run
from tests.support.peer import Conn, Peer, Request
from tests.support.ports import free_port
from tests.support.scripted import answering_together

need("azure.storage.blob")

GREENLETS = 50

DATE = "Tue, 01 Dec 2026 10:00:00 GMT"
COMMON = [("x-ms-version", "2025-01-05"), ("Last-Modified", DATE), ("ETag", '"0x1"'), ("Date", DATE)]


def fail(conn: Conn, way: str) -> bool:
    """Fails a request in that way. Returns False if the connection can be used again."""
    if way.isdecimal():
        conn.respond(b"", f"{way} Failed", COMMON)
        return False
    if way == "reset":
        conn.reset()
    elif way == "garbage":
        conn.send(b"I do not speak that language\r\n\r\n")
    elif way == "silent":
        conn.wait_closed()
    elif way == "short":
        lines = [f"{name}: {value}" for name, value in [*COMMON, ("Content-Range", "bytes 0-99/100")]]
        lines = ["HTTP/1.1 206 Partial Content", "x-ms-blob-type: BlockBlob", "Content-Length: 100", *lines]
        conn.send("\r\n".join(lines).encode() + b"\r\n\r\nhalf")
    return True


def server(conn: Conn) -> None:
    """Keeps blobs. Its behaviour depends on their names."""
    blobs: dict[str, bytes] = conn.peer.__dict__.setdefault("blobs", {"compressed": gzip.compress(b"plain")})
    seen: set[str] = conn.peer.__dict__.setdefault("seen", set())
    while request := conn.read_request():
        path, _, query = request.target.partition("?")
        name = path.removeprefix("/account/container/")
        way = name.removeprefix("always").partition("-")[0]
        if name.startswith("always") or (re.match("[0-9a-z]+-|silent", name) and name not in seen):
            seen.add(name)
            if fail(conn, way):
                return
        elif request.method == "PUT":
            put(blobs, name, query, request)
            conn.respond(b"", "201 Created", COMMON)
        elif request.method == "DELETE":
            del blobs[name]
            conn.respond(b"", "202 Accepted", COMMON)
        elif (found := blobs.get(name, b"body" if name in seen else None)) is None:
            code = [("x-ms-error-code", "BlobNotFound")]
            conn.send(head("404 Not Found", 0, code))
        else:
            get(conn, found, request)


def put(blobs: dict[str, bytes], name: str, query: str, request: Request) -> None:
    fields = dict(part.partition("=")[::2] for part in query.split("&"))
    if fields.get("comp") == "block":
        blobs[f"{name} {fields['blockid']}"] = request.body
    elif fields.get("comp") == "blocklist":
        ids = re.findall(r"<Latest>(.*?)</Latest>", request.body.decode())
        blobs[name] = b"".join(blobs.pop(f"{name} {quote(block)}") for block in ids)
    else:
        assert request.get("x-ms-blob-type") == "BlockBlob"
        blobs[name] = request.body
        assert request.get("content-length") == str(len(request.body))


def get(conn: Conn, blob: bytes, request: Request) -> None:
    fields = [("x-ms-blob-type", "BlockBlob"), ("Accept-Ranges", "bytes"), ("x-ms-meta-for", "you")]
    if blob.startswith(b"\x1f\x8b"):
        fields.append(("Content-Encoding", "gzip"))
    wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", request.get("x-ms-range") or "")
    if request.method == "HEAD" or not wanted:
        conn.send(head("200 OK", len(blob), fields) + (b"" if request.method == "HEAD" else blob))
        return
    start, end = int(wanted[1]), min(int(wanted[2]), len(blob) - 1)
    fields.append(("Content-Range", f"bytes {start}-{end}/{len(blob)}"))
    conn.send(head("206 Partial Content", end + 1 - start, fields) + blob[start : end + 1])


def head(status: str, length: int, fields: list[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}" for name, value in [*COMMON, *fields, ("Content-Length", str(length))]]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines]).encode() + b"\r\n\r\n"


@pytest.fixture
def places(certificates: Certificates) -> Iterator[dict[str, str]]:
    """Returns the URLs of servers for one run of the program."""
    with (
        ExitStack() as stack,
        Peer(server) as peer,
        Peer(server, tls=certificates.valid.server()) as secure,
    ):
        yield {
            "server": peer.url,
            "tls": secure.url,
            "ca": str(certificates.ca),
            "other_ca": str(certificates.other_ca),
            "deaf": deaf(stack).rstrip("/"),
            "closed": f"http://127.0.0.1:{free_port()}",
        }


EXPECTED = {
    "upload_download_delete": [{"for": "you"}, "hello", "ell", "ResourceNotFoundError", "ResourceNotFoundError"],
    "large": [True, 10, True],
    "large_in_threads": [True, 10, True],
    "iterable": True,
    "compressed": "plain",
    "retried": dict.fromkeys(("503", "500", "close", "reset", "garbage", "short"), "body"),
    "upload_retried": True,
    "failed": {
        "always503": "HttpResponseError",
        "alwaysclose": "ServiceResponseError",
        "alwaysreset": "ServiceResponseError",
        "alwaysgarbage": "ServiceResponseError",
        "alwaysshort": "HttpResponseError",
    },
    "read_timeout": "ServiceResponseTimeoutError",
    "connect_timeout": "ServiceRequestTimeoutError",
    "refused": "ServiceRequestError",
    "unknown_name": "ServiceRequestError",
    "tls": ["tls", "ServiceRequestError"],
}


@pytest.mark.parametrize("mode", ["theirs", "mounted", "monkey"])
def test_azure_with_adapter_has_the_results_of_its_own(mode: str, places: dict[str, str]) -> None:
    outcomes = json.loads(run("blobs.run", mode, json.dumps(places)).clean())
    assert outcomes == EXPECTED


@pytest.mark.parametrize("mode", ["mounted", "monkey"])
def test_greenlets_share_a_client_and_send_at_the_same_time(mode: str) -> None:
    def respond(conn: Conn, request: Request) -> None:
        conn.send(head("200 OK", int(request.target.rpartition("/")[2]), [("x-ms-blob-type", "BlockBlob")]))

    script, arrived = answering_together(GREENLETS, respond)
    with Peer(script) as peer:
        printed = run("blobs.together", mode, peer.url, GREENLETS).clean()
    assert int(printed) == sum(range(GREENLETS))
    assert sorted(arrived) == list(range(GREENLETS))


def test_lines_of_the_page_make_a_client(certificates: Certificates) -> None:
    with Peer(server, tls=certificates.valid.server()) as peer:
        place = f"AccountName=account;AccountKey=a2V5;BlobEndpoint=https://localhost:{peer.port}/account"
        settings = {"AZURE_STORAGE_CONNECTION_STRING": place, "REQUESTS_CA_BUNDLE": str(certificates.ca)}
        assert run("blobs.page", peer.port, **settings).clean() == "by the lines of the page\n"
        assert len(peer.conns) == 1
