"""Load test of a chat API that streams its tokens as server-sent events, in OpenAI's format, with locust.

    python examples/llm_server.py 8080             (a stand-in for a model, in another terminal)
    locust -f examples/llm_load.py --headless --users 10 --run-time 30s --host http://127.0.0.1:8080

To test your own server, copy this file and change `Chat`, or import `StreamingChatUser` into your locustfile. Rows of
locust's table, each with the name of the path:

    POST    one per stream: the time from the request to the end of the stream
    TTFT    one per stream: the time to the first token
    ITL     one per pair of successive tokens (inter-token latency): the time between them
    TOK/S   one per complete stream: its tokens per second, not milliseconds; the size is its number of tokens
"""

from __future__ import annotations

import json
import random
from time import perf_counter
from typing import Any

from locust import FastHttpUser, events, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS
from locust.exception import CatchResponseError
from locust.runners import WorkerRunner


class StreamingChatUser(FastHttpUser):
    abstract = True

    path = "/v1/chat/completions"

    # Fields of each request, besides `messages` and `stream`. The usage, which has the exact number of tokens, is sent
    # with the last event: without it, each event with text counts as one token.
    options: dict[str, Any] = {"model": "default", "max_tokens": 100, "stream_options": {"include_usage": True}}

    def chat(self, messages: list[dict[str, Any]]) -> str | None:
        """Sends messages, and reports the tokens of the answer as they arrive. Returns its text; None if it failed."""
        headers = {"Accept": "text/event-stream"}
        body = {**self.options, "messages": messages, "stream": True}
        started = perf_counter()
        with self.client.post(self.path, json=body, headers=headers, stream=True, catch_response=True) as response:
            try:
                response.raise_for_status()
                return self._read(response, started)
            except (*FAILURE_EXCEPTIONS, ValueError, CatchResponseError) as error:
                response.failure(error)
                return None
            finally:
                # Locust sets it to the time of the head.
                response.request_meta["response_time"] = (perf_counter() - started) * 1000
                if response.status_code:
                    response.release()  # the connection of a failed stream, which is closed

    def _read(self, response: Any, started: float) -> str:
        # Locust has one histogram per row, whatever the number of values. To log a gap there takes a third of the time
        # of an event, which also goes to all listeners, and keeps the gaps out of the row of all requests.
        gaps = self.environment.stats.get(self.path, "ITL")
        texts: list[str] = []
        tokens = 0
        previous = None
        is_complete = False
        for event in response.iter_events():
            now = perf_counter()
            if event.data == "[DONE]":
                # Continues to the end of the body: then the connection is used again.
                is_complete = True
                continue
            text, usage = parse(event.data)
            tokens = usage or tokens
            if not text:
                continue
            if previous is None:
                self._report("TTFT", (now - started) * 1000)
            else:
                gaps.log((now - previous) * 1000, 0)
            previous = now
            texts.append(text)
        if not is_complete:
            raise CatchResponseError("the stream ended without [DONE]")
        tokens = tokens or len(texts)
        self._report("TOK/S", tokens / (perf_counter() - started), tokens)
        return "".join(texts)

    def _report(self, kind: str, value: float, length: int = 0) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=self.path,
            response_time=value,
            response_length=length,
            exception=None,
            context=self.context(),
        )


def parse(data: str) -> tuple[str, int]:
    """Returns the text of an event, and the number of tokens of the whole answer if it has that, else 0."""
    try:
        chunk = json.loads(data)
        if error := chunk.get("error"):
            raise CatchResponseError(f"the server sent an error: {error.get('message')}")
        usage = (chunk.get("usage") or {}).get("completion_tokens", 0)
        choices = chunk.get("choices")
        delta = choices[0]["delta"] if choices else {}
        return delta.get("content") or delta.get("reasoning_content") or "", usage
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CatchResponseError(f"not an event of a chat completion: {data[:100]!r}") from error


@events.quitting.add_listener
def print_rate(environment: Any, **_: Any) -> None:
    """Prints the tokens of all users and workers, and their rate over the run."""
    if isinstance(environment.runner, WorkerRunner):
        return  # the master has the sum
    total = environment.stats.total
    tokens = sum(row.total_content_length for row in environment.stats.entries.values() if row.method == "TOK/S")
    seconds = (total.last_request_timestamp or total.start_time) - total.start_time
    print(f"{tokens} tokens of complete streams, {tokens / seconds if seconds else 0:.1f} per second")


class Chat(StreamingChatUser):
    @task
    def ask(self) -> None:
        # A number in front, since servers keep the state of prompts that begin alike.
        self.chat([{"role": "user", "content": f"{random.random()}: why is the sky blue?"}])
