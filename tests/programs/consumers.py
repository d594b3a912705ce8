"""Libraries that use http.client, with the same servers: the outcome of each case is printed as JSON.

    python -m tests.programs consumers.run LIBRARY MODE PLACES

MODE is `unpatched` (http.client's own classes, blocking), `monkey` (gevent.monkey, and this package's classes instead
of http.client's) or `ours` (the same without gevent.monkey). PLACES is a JSON object of URLs: see `Places` in
tests/httplib/test_consumers.py. A library is imported after the classes are replaced, so no other code here may import
http.client.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

# Timeout of waits that are expected to time out.
SHORT_SECONDS = 0.5

LARGE = 20_000_000

Outcome = dict[str, Any]


# ---------------------------------------------------------------- libraries


class Answer:
    """A response of any library."""

    def __init__(self, status: int, reason: str, fields: Any, body: bytes, url: str = "") -> None:
        self.status = status
        self.reason = reason
        self.fields = [(str(name), str(value)) for name, value in fields]
        self.body = body
        self.url = url

    def get(self, name: str) -> str | None:
        return next((value for found, value in self.fields if found.lower() == name.lower()), None)

    def outcome(self) -> Outcome:
        digest = hashlib.sha256(self.body).hexdigest()[:12]
        return {"status": self.status, "reason": self.reason, "length": len(self.body), "digest": digest}


class Library:
    """A client. `timeout` is in seconds, `ca` a file, `proxy` a URL, `auth` user and password."""

    def __init__(
        self,
        timeout: float = 10,
        ca: str | None = None,
        proxy: str | None = None,
        auth: tuple[str, str] | None = None,
    ) -> None:
        self.timeout, self.ca, self.proxy, self.auth = timeout, ca, proxy, auth

    def send(self, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        raise NotImplementedError


class Urllib(Library):
    def __init__(self, **options: Any) -> None:
        import urllib.request as urllib

        super().__init__(**options)
        context = ssl.create_default_context(cafile=self.ca)
        proxies = {"http": self.proxy, "https": self.proxy} if self.proxy else {}
        handlers: list[Any] = [urllib.ProxyHandler(proxies), urllib.HTTPSHandler(context=context)]
        handlers.append(urllib.HTTPCookieProcessor())
        if self.auth:
            handlers.append(urllib.HTTPBasicAuthHandler(self))
        self.opener = urllib.build_opener(*handlers)

    # The interface of a password manager for HTTPBasicAuthHandler.

    def add_password(self, *_: object) -> None:
        pass

    def find_user_password(self, *_: object) -> tuple[str, str] | None:
        return self.auth

    def send(self, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        import urllib.error
        import urllib.request

        request = urllib.request.Request(url, body, headers or {}, method=method)
        try:
            found = self.opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as e:
            found = e
        with found:
            return Answer(found.status, found.reason, found.headers.items(), found.read(), found.url)


class Requests(Library):
    def __init__(self, **options: Any) -> None:
        import requests

        super().__init__(**options)
        self.session = requests.Session()
        self.session.trust_env = False

    def send(self, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        found = self.session.request(
            method,
            url,
            data=body,
            headers=headers,
            timeout=self.timeout,
            verify=self.ca or True,
            auth=self.auth,
            proxies={"http": self.proxy, "https": self.proxy} if self.proxy else None,
        )
        return Answer(found.status_code, found.reason, found.headers.items(), found.content, found.url)


class Urllib3(Library):
    def __init__(self, **options: Any) -> None:
        import urllib3

        super().__init__(**options)
        more: dict[str, Any] = {
            "timeout": self.timeout,
            "ca_certs": self.ca,
            "retries": urllib3.Retry(total=4, connect=1, read=1, redirect=4),
        }
        self.pool = urllib3.ProxyManager(self.proxy, **more) if self.proxy else urllib3.PoolManager(**more)

    def send(self, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        import urllib3

        headers = dict(headers or {})
        if self.auth:
            headers |= urllib3.make_headers(basic_auth=":".join(self.auth))
        found = self.pool.request(method, url, body=body, headers=headers)
        return Answer(found.status, found.reason or "", found.headers.items(), found.data, found.geturl() or "")


class Httplib2(Library):
    def __init__(self, **options: Any) -> None:
        import httplib2

        super().__init__(**options)
        proxy = httplib2.proxy_info_from_url(self.proxy, noproxy="") if self.proxy else None
        self.http = httplib2.Http(timeout=self.timeout, ca_certs=self.ca, proxy_info=proxy)
        if self.auth:
            self.http.add_credentials(*self.auth)

    def send(self, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        found, content = self.http.request(url, method, body, headers)
        return Answer(found.status, found.reason, found.items(), content, found.get("content-location", ""))


class Botocore(Library):
    """The HTTP client of botocore, which neither follows redirects nor keeps cookies."""

    def __init__(self, **options: Any) -> None:
        import botocore.httpsession

        super().__init__(**options)
        self.session = botocore.httpsession.URLLib3Session(
            verify=self.ca or True,
            timeout=self.timeout,
            proxies={"http": self.proxy, "https": self.proxy} if self.proxy else None,
        )

    def send(self, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        import botocore.awsrequest

        request = botocore.awsrequest.AWSRequest(method, url, headers or {}, body)
        found = self.session.send(request.prepare())
        return Answer(found.status_code, found.raw.reason, found.headers.items(), found.content, found.url)


# ---------------------------------------------------------------- cases

Make = Callable[..., Library]
Case = Callable[[Make, dict[str, str]], Outcome]


def get(make: Make, places: dict[str, str]) -> Outcome:
    answer = make().send("GET", places["nginx"] + "/page")
    return {**answer.outcome(), "type": answer.get("content-type"), "size": answer.get("content-length")}


def head(make: Make, places: dict[str, str]) -> Outcome:
    answer = make().send("HEAD", places["nginx"] + "/page")
    return {**answer.outcome(), "size": answer.get("content-length")}


def sent_get(make: Make, places: dict[str, str]) -> Outcome:
    """Returns the request as the server received it, byte for byte."""
    return {"head": make().send("GET", places["peer"] + "/mirror?a=1&b=%20", headers={"X-A": "b"}).body.decode()}


def sent_form(make: Make, places: dict[str, str]) -> Outcome:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return {"head": make().send("POST", places["peer"] + "/mirror", b"a=1&b=%C3%A9", headers).body.decode()}


def sent_empty_post(make: Make, places: dict[str, str]) -> Outcome:
    return {"head": make().send("POST", places["peer"] + "/mirror").body.decode()}


def pieces() -> Iterator[bytes]:
    yield b"first "
    yield b"second "
    yield b"x" * 100_000


def chunked_up(make: Make, places: dict[str, str]) -> Outcome:
    answer = make().send("POST", places["peer"] + "/echo", pieces())
    return {**answer.outcome(), "framing": answer.get("x-framing")}


def file_up(make: Make, places: dict[str, str]) -> Outcome:
    with open(__file__, "rb") as file:
        length = file.seek(0, 2)
        file.seek(0)
        return make().send("PUT", places["peer"] + "/echo", file, {"Content-Length": str(length)}).outcome()


def expect_continue(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("PUT", places["peer"] + "/echo", b"after all", {"Expect": "100-continue"}).outcome()


def unsolicited_continue(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["peer"] + "/unsolicited-continue").outcome()


def fields(make: Make, places: dict[str, str]) -> Outcome:
    """Repeated names and unusual values."""
    answer = make().send("GET", places["peer"] + "/fields")
    return {**answer.outcome(), "fields": answer.fields}


def blanks(make: Make, places: dict[str, str]) -> Outcome:
    """Blanks before and after a value, and a folded line in the middle of one."""
    return {"fields": make().send("GET", places["peer"] + "/blanks").fields}


def compressed(make: Make, places: dict[str, str]) -> Outcome:
    answer = make().send("GET", places["nginx"] + "/gzip/page", headers={"Accept-Encoding": "gzip"})
    return {**answer.outcome(), "coding": answer.get("content-encoding")}


def chunked(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["server"] + "/chunked/1000000").outcome()


def until_close(make: Make, places: dict[str, str]) -> Outcome:
    """HTTP/1.0, without a length."""
    return make().send("GET", places["peer"] + "/until-close").outcome()


def no_content(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["nginx"] + "/status/204").outcome()


def not_found(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["nginx"] + "/status/404").outcome()


def server_error(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["peer"] + "/broken").outcome()


def too_large(make: Make, places: dict[str, str]) -> Outcome:
    """A response that is sent before the body was read."""
    return make().send("POST", places["nginx"] + "/small", b"x" * 5_000).outcome()


def redirect(make: Make, places: dict[str, str]) -> Outcome:
    answer = make().send("GET", places["peer"] + "/redirect")
    return {**answer.outcome(), "url": answer.url}


def redirect_to_get(make: Make, places: dict[str, str]) -> Outcome:
    answer = make().send("POST", places["peer"] + "/see-other", b"a=1")
    return {**answer.outcome(), "url": answer.url}


def redirects_without_end(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["peer"] + "/round").outcome()


def cookies(make: Make, places: dict[str, str]) -> Outcome:
    library = make()
    set_them = library.send("GET", places["peer"] + "/set-cookies")
    heads = library.send("GET", places["peer"] + "/mirror").body.decode().splitlines()
    return {"set": set_them.get("set-cookie"), "sent": [line for line in heads if line.startswith("Cookie")]}


def authentication(make: Make, places: dict[str, str]) -> Outcome:
    library = make(auth=("user", "pass"))
    answers = [library.send("GET", places["peer"] + "/private") for _ in range(2)]
    return {"statuses": [answer.status for answer in answers], "body": answers[-1].body.decode()}


def authentication_refused(make: Make, places: dict[str, str]) -> Outcome:
    return make(auth=("user", "wrong")).send("GET", places["peer"] + "/private").outcome()


def _connections(make: Make, target: str, **options: Any) -> Outcome:
    library = make(**options)
    answers = [library.send("GET", target) for _ in range(5)]
    return {**answers[-1].outcome(), "connections": len({answer.get("x-connection") for answer in answers})}


def kept_alive(make: Make, places: dict[str, str]) -> Outcome:
    return _connections(make, places["peer"] + "/count")


def not_kept_alive(make: Make, places: dict[str, str]) -> Outcome:
    return _connections(make, places["peer"] + "/count-and-close")


def closed_meanwhile(make: Make, places: dict[str, str]) -> Outcome:
    """The server closes the connection after its response without announcing it."""
    library = make()
    first = library.send("GET", places["peer"] + "/last")
    make().send("GET", places["peer"] + "/count")  # is answered after the server has closed the connection
    return {"first": first.outcome(), "second": library.send("GET", places["peer"] + "/count").outcome()}


def large_down(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", f"{places['server']}/bytes/{LARGE}").outcome()


def large_up(make: Make, places: dict[str, str]) -> Outcome:
    return {"digest": make().send("PUT", places["peer"] + "/digest", bytes(range(250)) * (LARGE // 250)).body.decode()}


def silent_before_answer(make: Make, places: dict[str, str]) -> Outcome:
    return make(timeout=SHORT_SECONDS).send("GET", places["peer"] + "/silent").outcome()


def silent_within_body(make: Make, places: dict[str, str]) -> Outcome:
    return make(timeout=SHORT_SECONDS).send("GET", places["peer"] + "/silent-within-body").outcome()


def silent_to_connections(make: Make, places: dict[str, str]) -> Outcome:
    return make(timeout=SHORT_SECONDS).send("GET", places["deaf"]).outcome()


def refused(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["closed_port"]).outcome()


def unknown_name(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", "http://nowhere.invalid/").outcome()


def closed_without_answer(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["peer"] + "/close").outcome()


def reset(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["peer"] + "/reset").outcome()


def garbage(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["peer"] + "/garbage").outcome()


def short_body(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["peer"] + "/short").outcome()


def short_chunks(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["peer"] + "/short-chunks").outcome()


def bad_chunks(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["peer"] + "/bad-chunks").outcome()


def head_without_end(make: Make, places: dict[str, str]) -> Outcome:
    return make().send("GET", places["peer"] + "/head-without-end").outcome()


def tls(make: Make, places: dict[str, str]) -> Outcome:
    return make(ca=places["ca"]).send("GET", places["tls"] + "/page").outcome()


def tls_large(make: Make, places: dict[str, str]) -> Outcome:
    return make(ca=places["ca"]).send("GET", places["tls"] + "/big").outcome()


def tls_kept_alive(make: Make, places: dict[str, str]) -> Outcome:
    return _connections(make, places["tls_peer"] + "/count", ca=places["ca"])


def tls_unknown_authority(make: Make, places: dict[str, str]) -> Outcome:
    return make(ca=places["ca"]).send("GET", places["untrusted"] + "/page").outcome()


def tls_other_name(make: Make, places: dict[str, str]) -> Outcome:
    return make(ca=places["ca"]).send("GET", places["elsewhere"] + "/page").outcome()


def tls_none(make: Make, places: dict[str, str]) -> Outcome:
    """The server does not speak TLS."""
    return make(ca=places["ca"]).send("GET", places["nginx"].replace("http:", "https:") + "/page").outcome()


def proxy(make: Make, places: dict[str, str]) -> Outcome:
    return make(proxy=places["proxy"]).send("GET", places["nginx"] + "/page").outcome()


def proxy_tunnel(make: Make, places: dict[str, str]) -> Outcome:
    return make(proxy=places["proxy"], ca=places["ca"]).send("GET", places["tls"] + "/page").outcome()


def proxy_refuses(make: Make, places: dict[str, str]) -> Outcome:
    return make(proxy=places["refusing_proxy"], ca=places["ca"]).send("GET", places["tls"] + "/page").outcome()


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        get,
        head,
        sent_get,
        sent_form,
        sent_empty_post,
        chunked_up,
        file_up,
        expect_continue,
        unsolicited_continue,
        fields,
        blanks,
        compressed,
        chunked,
        until_close,
        no_content,
        not_found,
        server_error,
        too_large,
        redirect,
        redirect_to_get,
        redirects_without_end,
        cookies,
        authentication,
        authentication_refused,
        kept_alive,
        not_kept_alive,
        closed_meanwhile,
        large_down,
        large_up,
        silent_before_answer,
        silent_within_body,
        silent_to_connections,
        refused,
        unknown_name,
        closed_without_answer,
        reset,
        garbage,
        short_body,
        short_chunks,
        bad_chunks,
        head_without_end,
        tls,
        tls_large,
        tls_kept_alive,
        tls_unknown_authority,
        tls_other_name,
        tls_none,
        proxy,
        proxy_tunnel,
        proxy_refuses,
    )
}


# ---------------------------------------------------------------- cases of one library


def _s3(places: dict[str, str]) -> Any:
    import botocore.config
    import botocore.session

    config = botocore.config.Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"})
    return botocore.session.Session().create_client(
        "s3",
        region_name="nowhere-1",
        endpoint_url=places["peer"],
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=config,
    )


def s3_put(_: Make, places: dict[str, str]) -> Outcome:
    """The body is held back until the server sends 100 Continue, which botocore reads from the socket itself."""
    return {"etag": _s3(places).put_object(Bucket="bucket", Key="continue", Body=b"x" * 100_000)["ETag"]}


def s3_put_without_continue(_: Make, places: dict[str, str]) -> Outcome:
    """The server sends nothing until it has the body: botocore waits for a second."""
    return {"etag": _s3(places).put_object(Bucket="bucket", Key="no-continue", Body=b"x" * 100_000)["ETag"]}


def s3_put_refused(_: Make, places: dict[str, str]) -> Outcome:
    """A final response instead of 100 Continue; then the next request."""
    client = _s3(places)
    try:
        client.put_object(Bucket="bucket", Key="refused", Body=b"x" * 100_000)
    except Exception as e:
        refusal = failure(e)
    return {**refusal, "after": client.put_object(Bucket="bucket", Key="continue", Body=b"y")["ETag"]}


def s3_get(_: Make, places: dict[str, str]) -> Outcome:
    body = _s3(places).get_object(Bucket="bucket", Key="object")["Body"]
    return {"lines": [line.decode() for line in body.iter_lines()]}


def s3_missing(_: Make, places: dict[str, str]) -> Outcome:
    return dict(_s3(places).get_object(Bucket="bucket", Key="missing"))


def rpc_call(_: Make, places: dict[str, str]) -> Outcome:
    import xmlrpc.client

    with xmlrpc.client.ServerProxy(places["rpc"]) as server:
        return {
            "sum": server.add(2, 3),
            "large": len(server.repeat("x" * 1000, 500)),
            "methods": server.system.listMethods(),
        }


def rpc_fault(_: Make, places: dict[str, str]) -> Outcome:
    import xmlrpc.client

    with xmlrpc.client.ServerProxy(places["rpc"]) as server:
        return {"never": server.nothing_of_that_name()}


def rpc_not_found(_: Make, places: dict[str, str]) -> Outcome:
    import xmlrpc.client

    with xmlrpc.client.ServerProxy(places["peer"] + "/broken") as server:
        return {"never": server.add(1, 1)}


def rpc_tls(_: Make, places: dict[str, str]) -> Outcome:
    import xmlrpc.client

    context = ssl.create_default_context(cafile=places["ca"])
    with xmlrpc.client.ServerProxy(places["tls_peer"] + "/rpc", context=context) as server:
        return {"pong": server.ping()}


def rpc_tls_unknown_authority(_: Make, places: dict[str, str]) -> Outcome:
    import xmlrpc.client

    context = ssl.create_default_context(cafile=places["ca"])
    with xmlrpc.client.ServerProxy(places["untrusted"], context=context) as server:
        return {"never": server.ping()}


def rpc_closed_meanwhile(_: Make, places: dict[str, str]) -> Outcome:
    """A transport keeps its connection, and retries once if that was closed."""
    import xmlrpc.client

    with xmlrpc.client.ServerProxy(places["peer"] + "/rpc-once") as server:
        return {"pongs": [server.ping() for _ in range(3)]}


def rpc_refused(_: Make, places: dict[str, str]) -> Outcome:
    import xmlrpc.client

    with xmlrpc.client.ServerProxy(places["closed_port"]) as server:
        return {"never": server.ping()}


S3: dict[str, Case] = {
    case.__name__: case for case in (s3_put, s3_put_without_continue, s3_put_refused, s3_get, s3_missing)
}
RPC: dict[str, Case] = {
    case.__name__: case
    for case in (
        rpc_call,
        rpc_fault,
        rpc_not_found,
        rpc_tls,
        rpc_tls_unknown_authority,
        rpc_closed_meanwhile,
        rpc_refused,
    )
}

LIBRARIES: dict[str, tuple[type[Library], dict[str, Case]]] = {
    "httplib2": (Httplib2, CASES),
    "urllib.request": (Urllib, CASES),
    "requests": (Requests, CASES),
    "urllib3": (Urllib3, CASES),
    "xmlrpc.client": (Library, RPC),
    "botocore": (Botocore, CASES | S3),
}


# ---------------------------------------------------------------- running them


def failure(e: BaseException) -> Outcome:
    """Returns the visible parts of an exception: its classes, from the outermost to the innermost, and attributes."""
    kinds, found = [], {}
    one: Any = e
    while isinstance(one, BaseException) and len(kinds) < 6:
        # The package's classes derive from those that http.client raises, and have their names.
        kind = next(base for base in type(one).__mro__ if base.__module__ != "geventhttpclient.exceptions")
        assert kind.__name__ == type(one).__name__
        kinds.append(f"{kind.__module__}.{kind.__qualname__}")
        for name in ("errno", "verify_code", "status", "code", "line", "expected", "faultCode", "errcode"):
            value = getattr(one, name, None)
            if isinstance(value, (int, str)):
                found[name] = value
        if isinstance(partial := getattr(one, "partial", None), bytes):
            found["partial"] = len(partial)
        inner = [getattr(one, "reason", None), *one.args]
        one = next((value for value in inner if isinstance(value, BaseException)), None)
    return {"raised": kinds, **found}


def outcome_of(case: Case, make: Make, places: dict[str, str]) -> Outcome:
    try:
        return case(make, places)
    except Exception as e:
        return failure(e)


def turns_of_others(make: Make, places: dict[str, str]) -> int:
    """Returns how often another greenlet, which sleeps for 5 ms, runs while a request times out after 100 ms."""
    import gevent

    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            gevent.sleep(SHORT_SECONDS / 20)
            turns += 1

    counting = gevent.spawn(count)
    gevent.sleep(0)
    outcome_of(silent_before_answer, make, places)
    counting.kill()
    return turns


def run(name: str, mode: str, given: str) -> None:
    if mode == "monkey":
        from gevent import monkey

        monkey.patch_all()
    if mode != "unpatched":
        from geventhttpclient import httplib

        httplib.patch()
    places = json.loads(given)
    make, cases = LIBRARIES[name]
    found = {title: outcome_of(case, make, places) for title, case in cases.items()}
    if mode != "unpatched" and cases is not RPC:
        found["turns of others"] = {"turns": turns_of_others(make, places)}
    json.dump(found, sys.stdout)


def shared_after_patch(url: str) -> None:
    """geventhttpclient.httplib2 after `patch`, when httplib2's own classes inherit from this package's, too."""
    from geventhttpclient import httplib

    httplib.patch()
    from geventhttpclient import httplib2

    http = httplib2.Http()
    for _ in range(2):
        print(http.request(url)[0].status)
    http.close()


def by_socks(url: str, port: str) -> None:
    """geventhttpclient.httplib2 via a SOCKS 5 proxy, with PySocks."""
    from gevent import monkey

    monkey.patch_all()
    from geventhttpclient import httplib2

    http = httplib2.Http(proxy_info=httplib2.ProxyInfo(httplib2.socks.PROXY_TYPE_SOCKS5, "127.0.0.1", int(port)))
    for _ in range(2):
        print(http.request(url)[0].status)
    http.close()
