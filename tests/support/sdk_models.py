"""The SDKs of language models, with one interface for the tests, and the events that their services stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

QUESTION = [{"role": "user", "content": "number-7"}]


def chunk(data: bytes) -> bytes:
    """Returns a chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(value: Any, name: str | None = None) -> bytes:
    """Returns a server-sent event with a JSON value as its data."""
    text = value if isinstance(value, str) else json.dumps(value)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


class OpenAI:
    """The chat completions of openai."""

    package = "openai"

    def client(self, url: str, http_client: httpx2.Client, **options: Any) -> Any:
        import openai

        return openai.OpenAI(base_url=f"{url}/v1", api_key="key", http_client=http_client, **options)

    def ask(self, client: Any, question: str = "hello") -> str:
        messages = [{"role": "user", "content": question}]
        completion = client.chat.completions.create(model="m", messages=messages)
        return str(completion.choices[0].message.content)

    def stream(self, client: Any) -> Any:
        return client.chat.completions.create(model="m", messages=QUESTION, stream=True)

    def texts(self, stream: Any) -> Iterator[str]:
        for piece in stream:
            if piece.choices and piece.choices[0].delta.content:
                yield piece.choices[0].delta.content

    def answer(self, text: str) -> bytes:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        completion = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        return json.dumps(completion).encode()

    def piece(self, text: str) -> bytes:
        return self._delta({"content": text})

    def _delta(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return event({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})

    def first(self) -> bytes:
        return self._delta({"role": "assistant", "content": ""})

    def last(self) -> bytes:
        return self._delta({}, "stop") + event("[DONE]")

    def tool_pieces(self, arguments: Iterable[str]) -> list[bytes]:
        """Returns the events of a call of the tool `weather`, with its arguments in pieces."""
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
        pieces = [{"index": 0, "function": {"arguments": text}} for text in arguments]
        return [
            *(self._delta({"tool_calls": [piece]}) for piece in (call, *pieces)),
            self._delta({}, "tool_calls") + event("[DONE]"),
        ]

    def stream_tool(self, client: Any) -> tuple[str, str]:
        """Returns the name and the arguments of the tool that the model calls."""
        function = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
        with client.chat.completions.stream(
            model="m", messages=QUESTION, tools=[{"type": "function", "function": function}]
        ) as stream:
            (call,) = stream.get_final_completion().choices[0].message.tool_calls
        return call.function.name, call.function.arguments


class Anthropic:
    """The messages of anthropic."""

    package = "anthropic"

    def client(self, url: str, http_client: httpx2.Client, **options: Any) -> Any:
        import anthropic

        return anthropic.Anthropic(base_url=url, api_key="key", http_client=http_client, **options)

    def ask(self, client: Any, question: str = "hello") -> str:
        messages = [{"role": "user", "content": question}]
        return str(client.messages.create(model="m", max_tokens=9, messages=messages).content[0].text)

    def stream(self, client: Any) -> Any:
        return client.messages.create(model="m", max_tokens=9, messages=QUESTION, stream=True)

    def texts(self, stream: Any) -> Iterator[str]:
        for piece in stream:
            if piece.type == "content_block_delta":
                yield piece.delta.text

    def answer(self, text: str) -> bytes:
        return json.dumps(self._message([{"type": "text", "text": text}])).encode()

    def _message(self, content: list[Any]) -> dict[str, Any]:
        usage = {"input_tokens": 1, "output_tokens": 1}
        names = {"id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
        return {**names, "content": content, "usage": usage}

    def _event(self, value: dict[str, Any]) -> bytes:
        return event(value, value["type"])

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return self._event({"type": "content_block_delta", "index": 0, "delta": delta})

    def _first(self, block: dict[str, Any]) -> bytes:
        start = {"type": "message_start", "message": self._message([]) | {"stop_reason": None}}
        return self._event(start) + self._event({"type": "content_block_start", "index": 0, "content_block": block})

    def piece(self, text: str) -> bytes:
        return self._delta({"type": "text_delta", "text": text})

    def first(self) -> bytes:
        return self._first({"type": "text", "text": ""}) + self._event({"type": "ping"})

    def last(self) -> bytes:
        stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
        return b"".join(map(self._event, ({"type": "content_block_stop", "index": 0}, stop, {"type": "message_stop"})))

    def tool_pieces(self, arguments: Iterable[str]) -> list[bytes]:
        """Returns the events of a call of the tool `weather`, with its arguments in pieces."""
        block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
        deltas = [self._delta({"type": "input_json_delta", "partial_json": text}) for text in arguments]
        return [self._first(block), *deltas, self.last()]

    def stream_tool(self, client: Any) -> tuple[str, str]:
        """Returns the name and the arguments of the tool that the model calls."""
        tool = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
        with client.messages.stream(model="m", max_tokens=9, messages=QUESTION, tools=[tool]) as stream:
            (block,) = stream.get_final_message().content
        return block.name, json.dumps(block.input)


MODELS = {"openai": OpenAI(), "anthropic": Anthropic()}


def failure(model: OpenAI | Anthropic, url: str, call: str, read: float, transport: Any) -> list[str]:
    """Makes a call (`ask`, or `read` for a stream to its end) with that timeout for a read.

    Returns the classes of its exception and of the causes that belong to the SDK or to httpx2. Raises the exception if
    one of them belongs neither to these nor to the network.
    """
    with httpx2.Client(transport=transport, trust_env=False) as http:
        client = model.client(url, http, timeout=httpx2.Timeout(10, read=read), max_retries=0)
        try:
            if call == "ask":
                model.ask(client)
            else:
                list(model.stream(client))
        except Exception as error:
            found: list[str] = []
            one: BaseException | None = error
            while one is not None:
                package = type(one).__module__.partition(".")[0]
                if package in ("openai", "anthropic", "httpx2", "json"):
                    found.append(f"{type(one).__name__} {getattr(one, 'status_code', '')}")
                elif package not in ("geventhttpclient", "httpcore2", "h11") and not isinstance(one, OSError):
                    raise
                one = one.__cause__
            return found
    return ["none"]
