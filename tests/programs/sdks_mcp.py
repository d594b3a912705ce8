"""A server of the Model Context Protocol over TLS, and calls of its tool from greenlets.

python -m tests.programs sdks_mcp.serve CERTIFICATE KEY COUNT
python -m tests.programs sdks_mcp.calls MODE PORT COUNT
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any


def serve(certificate: str, key: str, count: str) -> None:
    """Prints the port. The tool `meet` answers when `count` calls have been received."""
    import anyio
    import uvicorn
    from mcp.server import MCPServer

    server = MCPServer("here", log_level="WARNING")
    together = anyio.Event()
    waiting = 0

    @server.tool()
    async def meet(number: int) -> int:
        nonlocal waiting
        waiting += 1
        if waiting == int(count):
            together.set()
        with anyio.fail_after(20):
            await together.wait()
        return number

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        server.streamable_http_app(), ssl_certfile=certificate, ssl_keyfile=key, log_level="warning"
    )
    uvicorn.Server(config).run(sockets=[listener])


def calls(mode: str, port: str, count: str) -> None:
    from tests.programs.sdks import begin

    names = begin("with_mcp", mode, port)
    import gevent

    def call(number: int) -> Any:
        return int(names["call_tool"]("meet", {"number": number}).content[0].text)

    with gevent.Timeout(40):
        greenlets = [gevent.spawn(call, number) for number in range(int(count))]
        gevent.joinall(greenlets, raise_error=True)
    json.dump([greenlet.value for greenlet in greenlets], sys.stdout)
