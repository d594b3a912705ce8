"""Programs that use the connection after an upgrade: by httpx2's WebSocket client, and from another thread."""

from __future__ import annotations

import contextlib
import threading
import warnings


def websocket(url: str) -> None:
    """Talks to an echo server by httpx2.Client.websocket(), under monkey patching; prints `done`."""
    from gevent import monkey

    monkey.patch_all()
    import gevent
    import httpx2

    from geventhttpclient.adapters.httpx2 import Transport

    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0.001)

    counting = gevent.spawn(count)
    with httpx2.Client(transport=Transport(), trust_env=False) as client:
        with client.websocket(url) as socket:
            for number in range(20):
                socket.send_text(f"message {number}")
                assert socket.receive_text(timeout=10) == f"message {number}"
            socket.send_bytes(bytes(60_000))
            assert socket.receive_bytes(timeout=10) == bytes(60_000)
            assert socket.ping().wait(10)
            before = turns
            with contextlib.suppress(TimeoutError):
                socket.receive(timeout=0.05)
            assert turns > before, "other greenlets did not run"
        sockets = [client.websocket(url) for _ in range(10)]
        opened = [socket.__enter__() for socket in sockets]
        for number, socket in enumerate(opened):
            socket.send_text(str(number))
        assert [socket.receive_text(timeout=10) for socket in opened] == [str(number) for number in range(10)]
        for socket in sockets:
            socket.__exit__(None, None, None)
    counting.kill()
    print("done")


def from_another_thread(url: str) -> None:
    """Reads from an upgraded connection in another thread; prints the error, the warning, and what this thread reads
    afterwards."""
    import httpx2

    from geventhttpclient.adapters.httpx2 import Transport

    failures: list[str] = []
    headers = {"Connection": "Upgrade", "Upgrade": "echo"}
    with (
        httpx2.Client(transport=Transport(), trust_env=False) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        stream = response.extensions["network_stream"]

        def read() -> None:
            try:
                stream.read(1)
            except Exception as error:
                failures.append(repr(error))

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
        print(failures[0])
        print(said[0].category.__name__, said[0].message)
        stream.write(b"x")
        print(stream.read(1))
