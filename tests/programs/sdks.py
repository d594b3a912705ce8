"""SDKs with the lines of docs/guide/sdks.md: prints the results of calls of many greenlets as JSON.

    python -m tests.programs sdks.calls FILE MODE PORT COUNT

FILE is the name of a block of the page, whose addresses are replaced by that of a local server with TLS. MODE is
`monkey` for gevent.monkey.patch_all(), or `unpatched`.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "sdks.md"

Names = dict[str, Any]


def block(name: str) -> str:
    """Returns the code of the page that begins with that file name."""
    found = re.search(rf"^```python\n(# {re.escape(name)}\n.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found, name
    return found[1]


def local(code: str, port: str) -> str:
    """Returns the code with the port of a local server in place of all addresses."""
    code = re.sub(r"https://(\w+@)?[\w-]+(\.[\w-]+)+(:\d+)?", rf"https://\1localhost:{port}", code)
    code = re.sub(r'"[\w-]+\.example\.com"', '"localhost"', code)
    # Otherwise the sentry SDK imports every package that it has an integration for.
    code = code.replace("transport=Transport)", "transport=Transport, auto_enabling_integrations=False)")
    return re.sub(r"\bport=\d+", f"port={port}", code)


def run_block(name: str, port: str, names: Names | None = None) -> Names:
    """Runs a block of the page, after one that has defined `names` if they are given. Returns its names."""
    names = {"__name__": "__main__"} if names is None else names
    exec(compile(local(block(name), port), name, "exec"), names)
    return names


# ---------------------------------------------------------------- one call of each SDK: its result is the number


def with_openai(names: Names, number: int) -> Any:
    messages = [{"role": "user", "content": f"number-{number}"}]
    return names["client"].chat.completions.create(model="m", messages=messages).choices[0].message.content


def with_anthropic(names: Names, number: int) -> Any:
    messages = [{"role": "user", "content": f"number-{number}"}]
    return names["client"].messages.create(model="m", max_tokens=9, messages=messages).content[0].text


def with_google_genai(names: Names, number: int) -> Any:
    return names["client"].models.generate_content(model="m", contents=f"number-{number}").text


def with_huggingface_hub(names: Names, number: int) -> Any:
    return names["api"].model_info(f"owner/number-{number}").downloads


def with_kubernetes(names: Names, number: int) -> Any:
    return names["api"].read_namespaced_pod(f"number-{number}", "default").metadata.name.removeprefix("number-")


def with_elasticsearch(names: Names, number: int) -> Any:
    return names["client"].get(index="index", id=f"number-{number}")["_source"]["number"]


with_opensearch = with_elasticsearch


def with_stripe(names: Names, number: int) -> Any:
    return names["client"].v1.customers.retrieve(f"cus_number-{number}").balance


def with_slack(names: Names, number: int) -> Any:
    client = names["client"]
    return client.chat_postMessage(channel="C1", text=f"number-{number}")["message"]["text"]


def with_google_auth(names: Names, number: int) -> Any:
    return names["client"].get(f"{names['url']}/storage/number-{number}").json()["number"]


def with_google_storage(names: Names, number: int) -> Any:
    return names["client"].get_bucket(f"number-{number}").project_number


def with_google_api(names: Names, number: int) -> Any:
    return names["client"].files().get(fileId=f"number-{number}").execute()["size"]


def with_github(names: Names, number: int) -> Any:
    return names["client"].get_repo(f"owner/number-{number}").full_name.removeprefix("owner/number-")


def with_hvac(names: Names, number: int) -> Any:
    secrets = names["client"].secrets.kv.v2
    return secrets.read_secret_version(path=f"number-{number}", raise_on_deleted_version=True)["data"]["data"]["number"]


def with_influxdb_client(names: Names, number: int) -> Any:
    return names["client"].query_api().query(f"number-{number}")[0].records[0].get_value()


def with_influxdb(names: Names, number: int) -> Any:
    return next(names["client"].query(f"SELECT number-{number}").get_points())["n"]


def with_zeep(names: Names, number: int) -> Any:
    return names["client"].service.Echo(f"number-{number}")


def with_consul(names: Names, number: int) -> Any:
    return names["client"].kv.get(f"number-{number}")[1]["Flags"]


def with_prometheus(names: Names, number: int) -> Any:
    return names["client"].custom_query(f"number-{number}")[0]["value"][1]


CALLS: dict[str, Callable[[Names, int], Any]] = {
    call.__name__: call
    for call in (
        with_openai,
        with_anthropic,
        with_google_genai,
        with_huggingface_hub,
        with_kubernetes,
        with_elasticsearch,
        with_stripe,
        with_slack,
        with_google_auth,
        with_google_storage,
        with_google_api,
        with_github,
        with_hvac,
        with_influxdb_client,
        with_influxdb,
        with_zeep,
        with_consul,
        with_prometheus,
    )
} | {"with_opensearch": with_opensearch}


def begin(name: str, mode: str, port: str) -> Names:
    """Patches, if the mode says so, and runs the block of the page. Returns its names."""
    if mode == "monkey":
        from gevent import monkey

        monkey.patch_all()
    url = f"https://localhost:{port}"
    provide(url)
    names = run_block(f"{name}.py", port) | {"url": url}
    prepare(name, names)
    return names


# Calls of one greenlet after those of all.
LATER = 3


def forbid_sockets_of_python() -> None:
    """Makes every TLS handshake fail that is not the engine's: a call that passes has used the engine."""
    import ssl

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("TLS over a socket of Python")

    # `wrap_bio` is what the engine calls for a context of Python.
    ssl.SSLContext.wrap_socket = refuse  # type: ignore[method-assign]


def calls(name: str, mode: str, port: str, count: str) -> None:
    names = begin(name, mode, port)
    forbid_sockets_of_python()
    import gevent

    with gevent.Timeout(40):
        greenlets = [gevent.spawn(attempt, CALLS[name], names, number) for number in range(int(count))]
        gevent.joinall(greenlets)
        later = [attempt(CALLS[name], names, int(count) + number) for number in range(LATER)]
    json.dump([greenlet.value for greenlet in greenlets] + later, sys.stdout)


def questions(mode: str, port: str, count: str) -> None:
    """Runs the block of the page that asks in a pool of greenlets."""
    names = begin("with_openai", mode, port) | {"questions": [f"number-{number}" for number in range(int(count))]}
    run_block("ask_openai.py", port, names)
    json.dump([int(text) for text in names["answers"]], sys.stdout)


def blocked(count: str) -> None:
    """The client of the openai SDK with its own transport."""
    import gevent
    from openai import OpenAI

    names = {"client": OpenAI(max_retries=0)}
    greenlets = [gevent.spawn(attempt, with_openai, names, number) for number in range(int(count))]
    gevent.joinall(greenlets)
    json.dump([greenlet.value for greenlet in greenlets], sys.stdout)


def slack(mode: str, port: str) -> None:
    """Prints the outcome of a call of the slack SDK for each failure. MODE is `ours`, or `theirs` for http.client."""
    if mode == "ours":
        client = begin("with_slack", mode, port)["client"]
    else:
        from slack_sdk import WebClient

        client = WebClient(token="xoxb-token", base_url=f"https://localhost:{port}/api/")
    from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

    client.retry_handlers.append(RateLimitErrorRetryHandler(max_retry_count=1))
    outcomes = {}
    for how in ("number-7", "refused", "limited", "broken", "closed", "cut"):
        try:
            outcomes[how] = client.chat_postMessage(channel="C1", text=how)["message"]["text"]
        except Exception as error:
            kind = next(base for base in type(error).__mro__ if not base.__module__.startswith("geventhttpclient"))
            outcomes[how] = kind.__name__
    file = client.files_upload_v2(channel="C1", filename="a.txt", content="number-7")["files"][0]
    json.dump(outcomes | {"file": file["id"]}, sys.stdout)


def pauses(mode: str, port: str) -> None:
    """Prints the longest time, in seconds, in which no other greenlet ran during a call of the openai SDK."""
    import gevent

    if mode == "patched":
        from gevent import monkey

        monkey.patch_time()
    names = run_block("with_openai.py", port)
    turns = [time.monotonic()]

    def turn() -> None:
        while True:
            gevent.sleep(0.001)
            turns.append(time.monotonic())

    other = gevent.spawn(turn)
    gevent.sleep(0.01)
    with_openai(names, 7)
    turns.append(time.monotonic())
    other.kill()
    print(max(after - before for before, after in itertools.pairwise(turns)))


def reports(mode: str, port: str, count: str) -> None:
    """The sentry SDK sends in the background, in a thread of its own unless threads are patched."""
    names = begin("with_sentry", mode, port)
    forbid_sockets_of_python()
    import gevent

    from geventhttpclient.useragent import UserAgent

    capture = names["sentry_sdk"].capture_message
    with gevent.Timeout(40):
        greenlets = [gevent.spawn(capture, f"number-{number}") for number in range(int(count))]
        # The answer comes when an event has been received.
        greenlets.append(gevent.spawn(UserAgent().urlopen, f"{names['url']}/go"))
        gevent.joinall(greenlets, raise_error=True)
    names["sentry_sdk"].flush(40)


def attempt(call: Callable[[Names, int], Any], names: Names, number: int) -> int | str:
    """Returns the number that a call returns, or its exception as text."""
    try:
        return int(call(names, number))
    except Exception as error:
        return repr(error)


def provide(url: str) -> None:
    """Creates the files that the lines open, in the directory of the environment, which becomes the current one."""
    os.chdir(os.environ["HOME"])
    account = {
        "type": "service_account",
        "client_email": "me@example.com",
        "private_key": private_key(),
        "token_uri": f"{url}/token",
    }
    Path("key.json").write_text(json.dumps(account))
    Path("ca.pem").write_bytes(Path(os.environ["SSL_CERT_FILE"]).read_bytes())
    user = {"name": "me", "user": {"token": "token"}}
    cluster = {"name": "here", "cluster": {"server": url, "certificate-authority": os.environ["SSL_CERT_FILE"]}}
    context = {"name": "it", "context": {"cluster": "here", "user": "me"}}
    configuration = {"current-context": "it", "clusters": [cluster], "users": [user], "contexts": [context]}
    Path(".kube").mkdir()
    Path(".kube", "config").write_text(json.dumps(configuration))  # JSON is YAML


def private_key() -> str:
    """Returns a new private key, in PEM."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def prepare(name: str, names: Names) -> None:
    """Directs a client to the local server if its lines do not name one."""
    if name == "with_stripe":
        names["client"]._requestor._options.base_addresses["api"] = names["url"]
        names["stripe"].ca_bundle_path = os.environ["SSL_CERT_FILE"]  # instead of the file that the package contains
    if name == "with_slack":
        names["client"].base_url = f"{names['url']}/api/"
    if name == "with_google_api":
        names["client"]._baseUrl = f"{names['url']}/drive/v3/"
    if name == "with_github":
        names["client"] = names["Github"](base_url=names["url"], seconds_between_requests=None)
