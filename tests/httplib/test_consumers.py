"""Libraries on top of http.client have the same outcome with our classes in its place, case by case.

Each library runs in three processes, with http.client's own classes and with ours with and without gevent.monkey,
against the same servers. `pytest -s` prints the outcomes, and ours if they differ.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

import gevent
import gevent.pool
import pytest
from gevent import socket

from tests import server
from tests.conftest import Nginx, TlsNginx
from tests.programs.consumers import CASES, LIBRARIES, Outcome
from tests.support.certificates import Certificates
from tests.support.hub import attempt, run
from tests.support.peer import Conn, Peer, Request
from tests.support.ports import free_port
from tests.support.proxies import tinyproxy
from tests.support.requirements import missing

MODES = ("unpatched", "monkey", "ours")

# Number of concurrent programs: most of their time they wait, or use one CPU.
AT_A_TIME = 3

# Proxies are passed to the libraries explicitly; those of the tests' environment must not be used.
NO_PROXIES = dict.fromkeys(["http_proxy", "https_proxy", "all_proxy", "no_proxy"], "")
NO_PROXIES |= {name.upper(): "" for name in NO_PROXIES}

# Cases whose outcomes differ intentionally, and the reasons.
DIFFERENT = {
    "blanks": "blanks around a value are no part of it (RFC 9110 section 5.5), a fold is one (RFC 9112 section 5.2)",
}

# urllib3 has its own parser for chunks, on the file below http.client's response. This package has no such file, and
# decodes the chunks itself: the exceptions are urllib3's as before, except for their cause.
ALMOST = {
    ("urllib3", "bad_chunks"),
    ("urllib3", "short_chunks"),
    ("requests", "bad_chunks"),
    ("requests", "short_chunks"),
}


# ---------------------------------------------------------------- the peer

# The result of a handler: True if the connection can be used again.
Face = Callable[[Conn, Request], object]
CLOSE = object()


def mirror(conn: Conn, request: Request) -> None:
    body = conn.read_body(request)
    conn.respond(request.head + b"\r\n\r\n" + body)


def echo(conn: Conn, request: Request) -> None:
    if (request.get("expect") or "").lower() == "100-continue":
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    framing = "chunked" if request.get("transfer-encoding") else f"counted {request.get('content-length')}"
    conn.respond(conn.read_body(request), headers=[("X-Framing", framing)])


def digest(conn: Conn, request: Request) -> None:
    """Responds with the digest of a large body, which is not stored."""
    found, left = hashlib.sha256(conn.buffer), int(request.get("content-length") or 0) - len(conn.buffer)
    conn.buffer = b""
    while left and (data := conn.sock.recv(1 << 18)):
        found.update(data)
        left -= len(data)
    conn.respond(found.hexdigest().encode())


def unsolicited_continue(conn: Conn, request: Request) -> None:
    conn.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\nX-Why: none\r\n\r\n")
    conn.respond()


def fields(conn: Conn, request: Request) -> None:
    odd = [("X-Twice", "one"), ("X-Twice", "two"), ("X-EMPTY", ""), ("x-latin", "caf\xe9"), ("X-Colon", "a:b")]
    conn.respond(headers=odd, status="299 So To Speak")


def blanks(conn: Conn, request: Request) -> None:
    conn.respond(headers=[("X-Spaces", "  a  b  "), ("X-Folded", "first\r\n second")])


def until_close(conn: Conn, request: Request) -> object:
    conn.send(b"HTTP/1.0 200 OK\r\n\r\n" + b"to the end " * 10_000)
    return CLOSE


def broken(conn: Conn, request: Request) -> None:
    conn.read_body(request)
    conn.respond(b"sorry", "500 Internal Server Error")


def redirect(conn: Conn, request: Request) -> None:
    conn.respond(b"over there", "302 Found", [("Location", "/count")])


def see_other(conn: Conn, request: Request) -> None:
    conn.read_body(request)
    conn.respond(b"", "303 See Other", [("Location", "/mirror")])


def round_and_round(conn: Conn, request: Request) -> None:
    conn.respond(b"", "302 Found", [("Location", "/round")])


def set_cookies(conn: Conn, request: Request) -> None:
    conn.respond(headers=[("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/; HttpOnly")])


def private(conn: Conn, request: Request) -> None:
    if request.get("authorization") == "Basic " + base64.b64encode(b"user:pass").decode():
        conn.respond(b"come in")
    else:
        conn.respond(b"who is it?", "401 Unauthorized", [("WWW-Authenticate", 'Basic realm="here"')])


def count(conn: Conn, request: Request) -> None:
    conn.respond(headers=[("X-Connection", str(conn.number))])


def count_and_close(conn: Conn, request: Request) -> object:
    conn.respond(headers=[("X-Connection", str(conn.number)), ("Connection", "close")])
    return CLOSE


def last(conn: Conn, request: Request) -> object:
    """Ends with the response, but still reads the request: after a reset, the result of the client would be a race."""
    conn.respond()
    return end(conn)


def end(conn: Conn) -> object:
    conn.finish_sending()
    conn.wait_closed()
    return CLOSE


def silent(conn: Conn, request: Request) -> object:
    conn.wait_closed()
    return CLOSE


def silent_within_body(conn: Conn, request: Request) -> object:
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ")
    conn.wait_closed()
    return CLOSE


def close(conn: Conn, request: Request) -> object:
    return CLOSE


def reset(conn: Conn, request: Request) -> object:
    conn.reset()
    return CLOSE


def saying(data: bytes) -> Face:
    """Sends these bytes, and closes the connection."""

    def face(conn: Conn, request: Request) -> object:
        conn.send(data)
        return CLOSE

    return face


def head_without_end(conn: Conn, request: Request) -> object:
    conn.send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1_000_000)
    return CLOSE


PONG = b"<?xml version='1.0'?><methodResponse><params><param><value>pong</value></param></params></methodResponse>"


def rpc(conn: Conn, request: Request) -> None:
    conn.read_body(request)
    conn.respond(PONG, headers=[("Content-Type", "text/xml")])


def rpc_once(conn: Conn, request: Request) -> object:
    rpc(conn, request)
    return end(conn)


def s3_put(conn: Conn, request: Request) -> None:
    if request.get("expect"):
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    s3_put_without_continue(conn, request)


def s3_put_without_continue(conn: Conn, request: Request) -> None:
    conn.respond(b"", headers=[("ETag", hashlib.sha256(conn.read_body(request)).hexdigest())])


def s3_error(status: str, code: str) -> Face:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()

    def face(conn: Conn, request: Request) -> object:
        conn.respond(body, status, [("Content-Type", "application/xml"), ("Connection", "close")])
        return CLOSE

    return face


FACES: dict[str, Face] = {
    "/mirror": mirror,
    "/echo": echo,
    "/digest": digest,
    "/unsolicited-continue": unsolicited_continue,
    "/fields": fields,
    "/blanks": blanks,
    "/until-close": until_close,
    "/broken": broken,
    "/redirect": redirect,
    "/see-other": see_other,
    "/round": round_and_round,
    "/set-cookies": set_cookies,
    "/private": private,
    "/count": count,
    "/count-and-close": count_and_close,
    "/last": last,
    "/silent": silent,
    "/silent-within-body": silent_within_body,
    "/close": close,
    "/reset": reset,
    "/garbage": saying(b"I do not speak that language\r\n\r\n"),
    "/short": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf "),
    "/short-chunks": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n"),
    "/bad-chunks": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nhalf \r\n0\r\n\r\n"),
    "/head-without-end": head_without_end,
    "/rpc": rpc,
    "/rpc-once": rpc_once,
    "/bucket/continue": s3_put,
    "/bucket/no-continue": s3_put_without_continue,
    "/bucket/refused": s3_error("403 Forbidden", "AccessDenied"),
    "/bucket/missing": s3_error("404 Not Found", "NoSuchKey"),
    "/bucket/object": lambda conn, request: conn.respond(b"one\ntwo\nthree"),
}


def many_faced(conn: Conn) -> None:
    while request := conn.read_head():
        if FACES[request.target.partition("?")[0]](conn, request) is CLOSE:
            return


# ---------------------------------------------------------------- the servers

# The URLs of the servers, by name; `ca` is a file.
Places = dict[str, str]


def deaf(stack: ExitStack) -> str:
    """Runs a listener whose queue is full: the kernel drops further connection requests."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(16):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        if isinstance(attempt(filler.getpeername), OSError):
            break
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


class QuietHandler(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass


def rpc_server(stack: ExitStack) -> str:
    """Runs Python's own XML-RPC server in a native thread."""
    found = SimpleXMLRPCServer(("127.0.0.1", 0), QuietHandler)
    found.register_function(lambda a, b: a + b, "add")
    found.register_function(lambda text, times: text * times, "repeat")
    found.register_introspection_functions()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def stop() -> None:
        found.shutdown()
        thread.join()
        found.server_close()

    stack.callback(stop)
    return f"http://127.0.0.1:{found.server_address[1]}/"


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, nginx: Nginx, tls_nginx: TlsNginx, certificates: Certificates
) -> Iterator[Places]:
    with ExitStack() as stack:
        peer = stack.enter_context(Peer(many_faced))
        secure = stack.enter_context(Peer(many_faced, tls=certificates.valid.server()))
        refusing = stack.enter_context(Peer(lambda conn: conn.read_head() and conn.respond(b"no", "403 Forbidden")))
        proxy = stack.enter_context(closing(tinyproxy(tmp_path_factory.mktemp("proxy"))))
        yield {
            "peer": peer.url,
            "tls_peer": secure.url,
            "refusing_proxy": refusing.url,
            "proxy": f"http://{proxy.place}",
            "nginx": nginx.url,
            "tls": f"https://localhost:{tls_nginx.ports['valid']}",
            "untrusted": f"https://localhost:{tls_nginx.ports['untrusted']}",
            "elsewhere": f"https://localhost:{tls_nginx.ports['elsewhere']}",
            "ca": str(certificates.ca),
            "server": stack.enter_context(server.running()),
            "rpc": rpc_server(stack),
            "deaf": deaf(stack),
            "closed_port": f"http://127.0.0.1:{free_port()}/",
        }


# ---------------------------------------------------------------- the comparison


def installed(library: str) -> bool:
    return importlib.util.find_spec(library.partition(".")[0]) is not None


Outcomes = dict[tuple[str, str], dict[str, Outcome] | BaseException]


@pytest.fixture(scope="module")
def outcomes(places: Places) -> Outcomes:
    """Returns the cases of each library in each mode, or the reason why there are none."""

    def one(library: str, mode: str) -> dict[str, Outcome]:
        outcome = run("consumers.run", library, mode, json.dumps(places), **NO_PROXIES)
        assert outcome.code == 0, outcome.err
        found: dict[str, Outcome] = json.loads(outcome.out)
        return found

    pairs = [(library, mode) for library in LIBRARIES if installed(library) for mode in MODES]
    pool = gevent.pool.Pool(AT_A_TIME)
    calls = {pair: pool.spawn(attempt, lambda pair=pair: one(*pair)) for pair in pairs}
    gevent.joinall(list(calls.values()), raise_error=True)
    return {pair: call.value for pair, call in calls.items()}


def of(outcomes: Outcomes, library: str, mode: str) -> dict[str, Outcome]:
    if not installed(library):
        missing(f"{library} (make dependents)" if library == "botocore" else library)
    found = outcomes[library, mode]
    if isinstance(found, BaseException):
        raise found
    return found


def agree(ours: Outcome, unpatched: Outcome) -> bool:
    """Returns True if both outcomes are the same, except that ours may have used fewer connections."""
    connections, enough = ours.get("connections", 0), unpatched.get("connections", 0)
    return {**ours, "connections": 0} == {**unpatched, "connections": 0} and connections <= enough


@pytest.mark.parametrize(
    ("library", "case"), [(library, case) for library, (_, cases) in LIBRARIES.items() for case in cases]
)
def test_outcome_is_that_of_http_client(outcomes: Outcomes, library: str, case: str) -> None:
    unpatched = of(outcomes, library, "unpatched")[case]
    for mode in MODES[1:]:
        ours = of(outcomes, library, mode)[case]
        if case in DIFFERENT:
            assert ours != unpatched, "differs no more"
        elif (library, case) in ALMOST:
            assert ours["raised"][:2] == unpatched["raised"][:2]
        else:
            assert agree(ours, unpatched), f"{mode}: {ours}\nunpatched: {unpatched}"


@pytest.mark.parametrize(
    "library", [library for library, (_, cases) in LIBRARIES.items() if cases.keys() >= CASES.keys()]
)
@pytest.mark.parametrize("mode", MODES[1:])
def test_other_greenlets_run_meanwhile(outcomes: Outcomes, library: str, mode: str) -> None:
    """There are at most 20 turns; a request that blocked the hub would leave none."""
    assert of(outcomes, library, mode)["turns of others"]["turns"] >= 5


def test_cases_of_http_client_succeed_or_fail_as_intended(outcomes: Outcomes) -> None:
    """Equal outcomes could be equal failures: here is what http.client's own come to where all goes well."""
    for library in ("requests", "urllib3", "urllib.request", "httplib2"):
        if not installed(library):
            continue
        found = of(outcomes, library, "unpatched")
        for case in ("get", "chunked_up", "redirect", "chunked", "until_close", "large_down", "tls", "tls_large"):
            assert found[case].get("status") == 200, (library, case, found[case])
        assert found["large_down"]["length"] == 20_000_000
        assert found["kept_alive"]["connections"] == (5 if library == "urllib.request" else 1)
        assert found["authentication"]["statuses"] == [200, 200]
        failing = ("silent_before_answer", "silent_within_body", "silent_to_connections", "refused", "garbage", "reset")
        for case in (*failing, "tls_unknown_authority", "tls_other_name", "closed_without_answer"):
            assert "raised" in found[case], (library, case, found[case])


def test_table_is_printed(outcomes: Outcomes) -> None:
    """Prints the table for `pytest -s`."""
    lines = []
    for library, (_, cases) in LIBRARIES.items():
        if not installed(library) or any(isinstance(outcomes[library, mode], BaseException) for mode in MODES):
            continue
        for case in cases:
            shown = [brief(of(outcomes, library, mode)[case]) for mode in MODES]
            agreed = all(
                agree(of(outcomes, library, mode)[case], of(outcomes, library, MODES[0])[case]) for mode in MODES
            )
            ours = shown[1:] if not agreed else ["the same"]
            lines.append((case, library, shown[0], *ours))
    print()
    for line in lines:
        print(f"{line[0]:24}  {line[1]:14}  {line[2]:64}  {'  '.join(line[3:])}")


def brief(outcome: Outcome) -> str:
    def show(value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return text if len(text) <= 28 else f"{len(text)} characters"

    if "raised" in outcome:
        rest = " ".join(f"{name}={show(value)}" for name, value in outcome.items() if name != "raised")
        return " < ".join(kind.rpartition(".")[2] for kind in outcome["raised"]) + " " + rest
    return " ".join(f"{name}={show(value)}" for name, value in outcome.items())
