"""The ASGI application that hypercorn serves to the HTTP/2 tests. The path selects the response.

- `/facts`: as JSON what the request was, and the port of the client's connection.
- `/echo`: the body, piece by piece as it comes; its trailers are lost, for ASGI has none.
- `/bytes/N`: so many bytes, made as they are taken.
- `/trailers`: a body and fields behind it.
- `/hints`: 103 Early Hints before the response.
- `/held/NAME`: answered once `/let-go/NAME` has been asked for.
- `/status/N`: that status, and an empty body.
- `/crumbs`: the Cookie fields as they came, and two Set-Cookie.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

PIECE = b"0123456789abcdef" * 1024

held: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def body_of(receive: Receive) -> AsyncIterator[bytes]:
    """Yields the pieces of the request's body; ends early if the client has disconnected."""
    while (event := await receive())["type"] == "http.request":
        if event.get("body"):
            yield event["body"]
        if not event.get("more_body"):
            return


async def respond(
    send: Send, body: bytes = b"", status: int = 200, fields: Iterable[tuple[bytes, bytes]] = (), **more: Any
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *fields], **more})
    await send({"type": "http.response.body", "body": body})


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    _, first, *rest = scope["path"].split("/")
    if first == "facts":
        pieces = [piece async for piece in body_of(receive)]
        facts = {name: scope[name] for name in ("http_version", "method", "path", "scheme")}
        facts["query"] = scope["query_string"].decode()
        facts["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        facts["body"] = b"".join(pieces).decode("latin-1")
        facts["connection"] = scope["client"][1]
        await respond(send, json.dumps(facts).encode())
    elif first == "echo":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for piece in body_of(receive):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif first == "bytes":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", rest[0].encode())]})
        left = int(rest[0])
        while left > 0:
            await send({"type": "http.response.body", "body": PIECE[:left], "more_body": True})
            left -= len(PIECE)
        await send({"type": "http.response.body", "body": b""})
    elif first == "trailers":
        await respond(send, b"whole", fields=[(b"trailer", b"x-sum")], trailers=True)
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"5"), (b"x-more", b"a")]})
    elif first == "hints":
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
        await respond(send, b"page")
    elif first == "held":
        await held[rest[0]].wait()
        await respond(send, rest[0].encode())
    elif first == "let-go":
        held.pop(rest[0], asyncio.Event()).set()
        await respond(send)
    elif first == "status":
        await respond(send, status=int(rest[0]))
    elif first == "crumbs":
        crumbs = [value.decode() for name, value in scope["headers"] if name == b"cookie"]
        await respond(send, json.dumps(crumbs).encode(), fields=[(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])
    else:
        await respond(send, status=404)
