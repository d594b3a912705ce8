"""azure-storage-blob against a stand-in for its server: prints the outcome of each case as JSON.

    python -m tests.programs blobs.run MODE PLACES
    python -m tests.programs blobs.together MODE URL COUNT
    python -m tests.programs blobs.page PORT

MODE is `theirs` (the transport's own adapter, blocking), `mounted` (the adapter of this package, without monkey
patching) or `monkey` (the adapter with gevent.monkey). PLACES is a JSON object of URLs and files.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.programs.outcomes import print_outcomes
from tests.programs.sdks import run_block

SIZE = 10 << 20
BLOCK = 1 << 20
SHORT_SECONDS = 0.3

Make = Callable[..., Any]
Places = dict[str, str]


def _prepare(mode: str) -> Make:
    """Returns a function that creates a client of a container."""
    if mode == "monkey":
        import gevent.monkey

        gevent.monkey.patch_all()
    # azure-core logs what the cases provoke.
    logging.disable(logging.WARNING)
    import requests
    from azure.core.pipeline.transport import RequestsTransport
    from azure.storage.blob import ContainerClient, LinearRetry

    from geventhttpclient.adapters.requests import Adapter

    def make(url: str, retries: int = 0, **options: Any) -> Any:
        """The options are those of the transport: timeouts and TLS."""
        if mode == "theirs":
            transport = RequestsTransport(**options)
        else:
            session = requests.Session()
            for scheme in ("http://", "https://"):
                session.mount(scheme, Adapter(pool_maxsize=50))
            transport = RequestsTransport(session=session, **options)
        sizes = {"max_single_put_size": BLOCK, "max_block_size": BLOCK}
        sizes.update(max_single_get_size=BLOCK, max_chunk_get_size=BLOCK)
        policy = LinearRetry(backoff=0, random_jitter_range=0, retry_total=retries)
        key = {"account_name": "account", "account_key": "a2V5"}
        url = f"{url}/account"
        return ContainerClient(url, "container", credential=key, transport=transport, retry_policy=policy, **sizes)

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

    container = make(url)
    calls = [gevent.spawn(container.get_blob_client(str(n)).get_blob_properties) for n in range(int(count))]
    print(sum(call.get()["size"] for call in calls))


def page(port: str) -> None:
    """Uses the client of docs/guide/sdks.md, whose server the environment names."""
    blob = run_block("blobs.py", port)["blobs"].get_blob_client("container", "blob")
    blob.upload_blob(b"by the lines of the page")
    print(blob.download_blob().readall().decode())


def _data() -> bytes:
    return bytes(range(251)) * (SIZE // 251)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _error(call: Callable[[], Any]) -> Any:
    """Returns the result of a call, or the class of the error of azure-core."""
    from azure.core.exceptions import AzureError

    try:
        return call()
    except AzureError as error:
        return type(error).__name__


def _upload_download_delete(make: Make, places: Places) -> Any:
    with make(places["server"]) as container:
        blob = container.upload_blob("folder/a b.txt", b"hello", metadata={"for": "you"}, overwrite=True)
        found = [blob.get_blob_properties().metadata, blob.download_blob().readall().decode()]
        part = blob.download_blob(offset=1, length=3).readall().decode()
        blob.delete_blob()
        return [*found, part, _error(blob.get_blob_properties), _error(blob.download_blob)]


def _large(make: Make, places: Places, **options: Any) -> Any:
    """In blocks, which are sent and received one after the other."""
    data = _data()
    with make(places["server"]) as container:
        blob = container.upload_blob("large", io.BytesIO(data), overwrite=True, **options)
        whole = blob.download_blob(**options).readall()
        pieces = [len(piece) for piece in blob.download_blob(**options).chunks()]
    return [_digest(whole) == _digest(data), len(pieces), sum(pieces) == len(data)]


def _large_in_threads(make: Make, places: Places) -> Any:
    return _large(make, places, max_concurrency=4)


def _iterable(make: Make, places: Places) -> Any:
    data = _data()
    pieces = (data[start : start + 100_000] for start in range(0, len(data), 100_000))
    with make(places["server"]) as container:
        blob = container.upload_blob("iterable", pieces, overwrite=True)
        return _digest(blob.download_blob().readall()) == _digest(data)


def _compressed(make: Make, places: Places) -> Any:
    with make(places["server"]) as container:
        return container.download_blob("compressed").readall().decode()


def _retried(make: Make, places: Places) -> Any:
    with make(places["server"], 2) as container:
        names = ("503", "500", "close", "reset", "garbage", "short")
        return {name: container.download_blob(f"{name}-once").readall().decode() for name in names}


def _upload_retried(make: Make, places: Places) -> Any:
    data = _data()
    with make(places["server"], 2) as container:
        blob = container.upload_blob("503-upload", io.BytesIO(data[:BLOCK]), overwrite=True)
        return _digest(blob.download_blob().readall()) == _digest(data[:BLOCK])


def _failed(make: Make, places: Places) -> Any:
    with make(places["server"]) as container:
        names = ("always503", "alwaysclose", "alwaysreset", "alwaysgarbage", "alwaysshort")
        return {name: _error(container.get_blob_client(name).download_blob) for name in names}


def _read_timeout(make: Make, places: Places) -> Any:
    return _error(lambda: make(places["server"], read_timeout=SHORT_SECONDS).download_blob("silent"))


def _connect_timeout(make: Make, places: Places) -> Any:
    return _error(lambda: make(places["deaf"], connection_timeout=SHORT_SECONDS).download_blob("blob"))


def _refused(make: Make, places: Places) -> Any:
    return _error(lambda: make(places["closed"]).download_blob("blob"))


def _unknown_name(make: Make, places: Places) -> Any:
    return _error(lambda: make("http://nowhere.invalid").download_blob("blob"))


def _tls(make: Make, places: Places) -> Any:
    outcomes = []
    for ca in ("ca", "other_ca"):
        with make(places["tls"], connection_verify=places[ca]) as container:
            outcomes.append(_error(lambda found=container: found.upload_blob("tls", b"", overwrite=True).blob_name))
    return outcomes


CASES: list[Callable[[Make, Places], Any]] = [
    _upload_download_delete,
    _large,
    _large_in_threads,
    _iterable,
    _compressed,
    _retried,
    _upload_retried,
    _failed,
    _read_timeout,
    _connect_timeout,
    _refused,
    _unknown_name,
    _tls,
]
