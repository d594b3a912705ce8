"""Programs that end while a client of tritonclient is open. Each gets the port of a server on this host."""

from __future__ import annotations

import threading

import numpy as np
import tritonclient.http as triton

kept: list[object] = []


def infer(port: str) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}", concurrency=2)
    value = np.arange(4, dtype=np.int32)
    inputs = [triton.InferInput(name, [4], "INT32") for name in ("INPUT0", "INPUT1")]
    for tensor in inputs:
        tensor.set_data_from_numpy(value)
    handles = [client.async_infer("add", inputs) for _ in range(2)]
    for handle in handles:
        assert (handle.get_result().as_numpy("OUTPUT0") == 2 * value).all()
    kept.append(client)


def exits(port: str) -> None:
    infer(port)
    print("inferred")


def raises(port: str) -> None:
    exits(port)
    raise RuntimeError("enough")


def leaves_threads(port: str) -> None:
    """Clients of threads that have ended are closed by a thread that never made a request.

    They are closed before the interpreter ends: later `close` fails in gevent's pool, with any HTTP client.
    """
    threads = [threading.Thread(target=infer, args=(port,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept.clear()
    print("inferred")
