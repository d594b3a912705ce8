"""A small inference server of the KServe protocol, version 2, with its extensions for binary tensors and compression.

https://github.com/kserve/open-inference-protocol and, for the extensions, Triton's protocol documents. Two models:

- `add`: INPUT0 and INPUT1, INT32 of the same shape; OUTPUT0 is their sum, OUTPUT1 their difference;
- `echo`: its inputs, whatever they are, under the same names.

`serve` is a script of a `tests.support.peer.Peer`. An invalid request is answered as Triton does: a 4xx with a
JSON object whose "error" says why.
"""

from __future__ import annotations

import array
import gzip
import json
import operator
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from tests.support.peer import Conn, Request

Tensor = dict[str, Any]  # as in the JSON, with its elements as bytes under "raw" or as a list under "data"

CODINGS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip": (gzip.compress, gzip.decompress),
    "deflate": (zlib.compress, zlib.decompress),
}

STATUS = {200: "200 OK", 400: "400 Bad Request", 404: "404 Not Found", 500: "500 Internal Server Error"}

SERVER_METADATA = {"name": "small", "version": "1", "extensions": ["binary_tensor_data"]}


class Refusal(Exception):
    """Answer instead of a result: a status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def serve(conn: Conn) -> None:
    while request := conn.read_request():
        path = [unquote(part) for part in request.target.partition("?")[0].split("/")[1:]]
        try:
            match path:
                case ["v2", "health", "live" | "ready"] | ["v2", "models", "add" | "echo", "ready"]:
                    conn.respond(b"")
                case ["v2"]:
                    conn.respond(json.dumps(SERVER_METADATA).encode())
                case ["v2", "models", model]:
                    conn.respond(json.dumps({"name": known(model), "versions": ["1"], "platform": "test"}).encode())
                case ["v2", "models", model, "infer"] | ["v2", "models", model, "versions", "1", "infer"]:
                    infer(conn, request, known(model))
                case ["v2", "empty-error", *_]:
                    conn.respond(b"", STATUS[500])
                case _:
                    raise Refusal(404, f"nothing at {request.target}")
        except Refusal as e:
            conn.respond(json.dumps({"error": str(e)}).encode(), STATUS[e.status])


def known(model: str) -> str:
    if model not in ("add", "echo"):
        raise Refusal(404, f"Request for unknown model: '{model}' is not found")
    return model


def infer(conn: Conn, request: Request, model: str) -> None:
    asked, inputs = parse(request)
    outputs = add(inputs) if model == "add" else inputs
    wanted = {output["name"]: output.get("parameters", {}) for output in asked.get("outputs", [])}
    if wanted:
        outputs = [output for output in outputs if output["name"] in wanted]
    all_binary = asked.get("parameters", {}).get("binary_data_output", False)
    shown, pieces = [], []
    for output in outputs:
        described = {name: output[name] for name in ("name", "shape", "datatype")}
        if wanted.get(output["name"], {}).get("binary_data", all_binary):
            pieces.append(output["raw"])
            described["parameters"] = {"binary_data_size": len(output["raw"])}
        else:
            described["data"] = array.array("i", output["raw"]).tolist()
        shown.append(described)
    answer = {"model_name": model, "model_version": "1", "outputs": shown}
    if "id" in asked:
        answer["id"] = asked["id"]
    respond(conn, request, json.dumps(answer).encode(), pieces)


def parse(request: Request) -> tuple[dict[str, Any], list[Tensor]]:
    """Returns the decoded request, and its inputs, each with its bytes under "raw"."""
    body = request.body
    coding = request.get("content-encoding")
    if coding is not None:
        body = CODINGS[coding][1](body)
    # Of the body as it is without its coding.
    length = int(request.get("inference-header-content-length") or len(body))
    asked, rest = json.loads(body[:length]), body[length:]
    for tensor in asked["inputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            tensor["raw"] = array.array("i", tensor.pop("data")).tobytes()
        else:
            tensor["raw"], rest = rest[:size], rest[size:]
            if len(tensor["raw"]) != size:
                raise Refusal(400, f"unexpected size of input '{tensor['name']}'")
    if rest:
        raise Refusal(400, f"{len(rest)} bytes too many")
    return asked, asked["inputs"]


def add(inputs: list[Tensor]) -> list[Tensor]:
    if [(tensor["name"], tensor["datatype"]) for tensor in inputs] != [("INPUT0", "INT32"), ("INPUT1", "INT32")]:
        raise Refusal(400, "expected INPUT0 and INPUT1 of INT32")
    left, right = (array.array("i", tensor["raw"]) for tensor in inputs)
    results = [array.array("i", map(how, left, right)).tobytes() for how in (operator.add, operator.sub)]
    return [inputs[0] | {"name": f"OUTPUT{i}", "raw": raw} for i, raw in enumerate(results)]


def respond(conn: Conn, request: Request, head: bytes, pieces: list[bytes]) -> None:
    """Sends the answer, its JSON first; compressed if the client accepts that."""
    body = head + b"".join(pieces)
    headers = [("Inference-Header-Content-Length", str(len(head)))] if pieces else []
    coding = request.get("accept-encoding")
    if coding in CODINGS:
        body = CODINGS[coding][0](body)
        headers.append(("Content-Encoding", coding))
    conn.respond(body, headers=headers)
