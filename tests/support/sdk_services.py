"""Local stand-ins for the services of SDKs: each answers the calls of tests/programs/sdks.py.

A `Service` is a script of a `tests.support.peer.Peer`. It holds the requests back until `count` of them have been
received; a client that blocks its greenlets never sends the second one. The answers contain the number that a request
contains, so that a response that reaches the wrong greenlet is noticed.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import brotli
from gevent.event import Event

from tests.support.peer import Conn, Request

# Bound of a test in which the other requests never come.
PATIENCE_SECONDS = 20


@dataclass(frozen=True)
class Answer:
    """A response."""

    body: bytes
    kind: str = "application/json"
    status: str = "200 OK"
    fields: tuple[tuple[str, str], ...] = ()


Answering = Callable[[Request], Answer]


def json_of(value: Any, **options: Any) -> Answer:
    return Answer(json.dumps(value).encode(), **options)


def number_in(text: str) -> str:
    """Returns the number behind `number-` in a text."""
    found = re.search(r"number-(\d+)", text)
    assert found, text
    return found[1]


def asked(request: Request) -> str:
    """Returns the number that the target or the body of a request contains."""
    return number_in(unquote_plus(request.target) + " " + unquote_plus(request.body.decode("latin-1")))


DECODERS = {"gzip": gzip.decompress, "br": brotli.decompress, None: bytes}


class Sentry:
    """Collects the messages of events. `/go` and the first envelope are answered when both are there."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.service = Service(self._answer, 2)

    def _answer(self, request: Request) -> Answer:
        if request.target == "/api/1/envelope/":
            for line in DECODERS[request.get("content-encoding")](request.body).splitlines():
                with suppress(ValueError):
                    self.messages += [json.loads(line)["message"]] if b'"message"' in line else []
        return json_of({"id": "0" * 32})


@dataclass
class Service:
    """Answers requests when `count` of them have been received. Requests that match none of `held` do not wait."""

    answering: Answering
    count: int = 1
    held: str = ""
    patience: float = PATIENCE_SECONDS
    most: int = 0
    waiting: int = 0
    reused: list[bool] = field(default_factory=list)  # for each request, whether its connection had served another
    together: Event = field(default_factory=Event)
    failed: bool = False

    def __call__(self, conn: Conn) -> None:
        while request := conn.read_request():
            self.reused.append(len(conn.requests) > 1)
            if re.search(self.held, request.line):
                self._meet()
            if self.failed:
                return
            answer = self.answering(request)
            conn.respond(answer.body, answer.status, [("Content-Type", answer.kind), *answer.fields])

    def _meet(self) -> None:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        if self.waiting == self.count:
            self.together.set()
        if not self.together.wait(self.patience):
            self.failed = True
        self.waiting -= 1


# ---------------------------------------------------------------- language models


def openai(request: Request) -> Answer:
    assert request.get("authorization") == "Bearer key"
    assert request.line.startswith("POST /v1/chat/completions ")
    message = {"role": "assistant", "content": asked(request)}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json_of({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


def anthropic(request: Request) -> Answer:
    # Depending on its version.
    assert request.get("authorization") == "Bearer key" or request.get("x-api-key") == "key"
    assert request.line.startswith("POST /v1/messages ")
    return json_of(
        {
            "id": "1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "stop_reason": "end_turn",
            "content": [{"type": "text", "text": asked(request)}],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    )


def google_genai(request: Request) -> Answer:
    assert request.get("x-goog-api-key") == "key"
    assert ":generateContent" in request.line
    return json_of({"candidates": [{"content": {"role": "model", "parts": [{"text": asked(request)}]}}]})


def huggingface_hub(request: Request) -> Answer:
    return json_of({"id": f"owner/number-{asked(request)}", "downloads": int(asked(request))})


# ---------------------------------------------------------------- searches


def elasticsearch(request: Request) -> Answer:
    return json_of(
        {"_index": "index", "_id": "1", "found": True, "_source": {"number": int(asked(request))}},
        fields=(("X-Elastic-Product", "Elasticsearch"),),
    )


def opensearch(request: Request) -> Answer:
    return json_of({"_index": "index", "_id": "1", "found": True, "_source": {"number": int(asked(request))}})


# ---------------------------------------------------------------- services of the web


def stripe(request: Request) -> Answer:
    return json_of({"id": f"cus_number-{asked(request)}", "object": "customer", "balance": int(asked(request))})


def slack(request: Request) -> Answer:
    assert request.get("authorization") == "Bearer xoxb-token"
    return json_of({"ok": True, "ts": "1.2", "message": {"text": asked(request)}})


def google_auth(request: Request) -> Answer:
    if request.target == "/token":
        assert "grant_type" in parse_qs(request.body.decode())
        return json_of({"access_token": "ya29", "expires_in": 3600, "token_type": "Bearer"})
    assert request.get("authorization") == "Bearer ya29"
    return json_of({"number": int(asked(request))})


def google_storage(request: Request) -> Answer:
    if request.target == "/token":
        return google_auth(request)
    return json_of({"kind": "storage#bucket", "name": "bucket", "projectNumber": asked(request)})


def google_api(request: Request) -> Answer:
    if request.target == "/token":
        return google_auth(request)
    assert request.get("authorization") == "Bearer ya29"
    return json_of({"kind": "drive#file", "size": asked(request)})


def github(request: Request) -> Answer:
    number = asked(request)
    return json_of({"id": int(number), "full_name": f"owner/number-{number}", "url": "https://localhost/"})


# ---------------------------------------------------------------- infrastructure


def kubernetes(request: Request) -> Answer:
    assert request.get("authorization") == "Bearer token"
    name = f"number-{asked(request)}"
    return json_of({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}})


def hvac(request: Request) -> Answer:
    assert request.get("x-vault-token") == "token"
    return json_of({"data": {"data": {"number": int(asked(request))}, "metadata": {"version": 1}}})


def consul(request: Request) -> Answer:
    value = {"Key": "key", "Value": "eWVz", "Flags": int(asked(request)), "CreateIndex": 1, "ModifyIndex": 1}
    return json_of([value], fields=(("X-Consul-Index", "7"),))


def influxdb_client(request: Request) -> Answer:
    lines = (
        "#datatype,string,long,long",
        "#group,false,false,true",
        "#default,_result,,",
        ",result,table,_value",
        f",,0,{asked(request)}",
        "",
    )
    return Answer("\r\n".join(lines).encode(), kind="text/csv")


def influxdb(request: Request) -> Answer:
    series = {"name": "m", "columns": ["time", "n"], "values": [["2026-01-01T00:00:00Z", int(asked(request))]]}
    return json_of({"results": [{"statement_id": 0, "series": [series]}]})


def prometheus(request: Request) -> Answer:
    result = [{"metric": {}, "value": [1.0, asked(request)]}]
    return json_of({"status": "success", "data": {"resultType": "vector", "result": result}})


WSDL = """<?xml version="1.0"?>
<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
  xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:tns="urn:c" targetNamespace="urn:c" name="Calculator">
 <types><xsd:schema targetNamespace="urn:c">
  <xsd:element name="Echo"><xsd:complexType><xsd:sequence>
   <xsd:element name="text" type="xsd:string"/></xsd:sequence></xsd:complexType></xsd:element>
  <xsd:element name="EchoResponse"><xsd:complexType><xsd:sequence>
   <xsd:element name="number" type="xsd:int"/></xsd:sequence></xsd:complexType></xsd:element>
 </xsd:schema></types>
 <message name="In"><part name="parameters" element="tns:Echo"/></message>
 <message name="Out"><part name="parameters" element="tns:EchoResponse"/></message>
 <portType name="Port"><operation name="Echo">
  <input message="tns:In"/><output message="tns:Out"/></operation></portType>
 <binding name="Binding" type="tns:Port">
  <soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>
  <operation name="Echo"><soap:operation soapAction="echo"/>
   <input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation>
 </binding>
 <service name="Service"><port name="Port" binding="tns:Binding">
  <soap:address location="https://{host}/call"/></port></service>
</definitions>"""


def zeep(request: Request) -> Answer:
    if request.method == "GET":
        return Answer(WSDL.replace("{host}", str(request.get("host"))).encode(), kind="text/xml")
    envelope = (
        '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>'
        f'<EchoResponse xmlns="urn:c"><number xmlns="">{asked(request)}</number></EchoResponse>'
        "</soap:Body></soap:Envelope>"
    )
    return Answer(envelope.encode(), kind="text/xml")
