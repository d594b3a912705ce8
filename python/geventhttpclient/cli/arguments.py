"""The command line: what may be said, in which words, and what the client is told of it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

from geventhttpclient import URL, __version__, _core
from geventhttpclient.auth import resolve_auth
from geventhttpclient.cli import body
from geventhttpclient.cli.failure import STATUSES, USAGE, Failure, one_line
from geventhttpclient.cli.values import (
    read_checksum,
    read_count,
    read_header,
    read_number,
    read_override,
    read_positive,
    read_seconds,
    read_size,
    read_url,
)
from geventhttpclient.header import Headers
from geventhttpclient.http2 import PRIOR_KNOWLEDGE

if TYPE_CHECKING:
    from geventhttpclient.client import HTTPClient

_PROGRAM = "geventhttpclient"
_DEFAULT_REDIRECTS = 30

# Fields that depend on the body.
_FRAMING = frozenset({"content-length", "transfer-encoding"})

# What may stand between a user and a password.
_COLON = re.compile(
    "[:\uff1a\ufe55\ufe13]|%(25)*(3a|ef%(25)*bc%(25)*9a|ef%(25)*b9%(25)*95|ef%(25)*b8%(25)*93)", re.IGNORECASE
)


class _Parser(argparse.ArgumentParser):
    """One line for what is wrong; the whole of the usage is for those who ask."""

    # The arguments: argparse quotes them in its messages, and one may be a URL with a password.
    given: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        for argument in self.given:
            if _COLON.search(argument):
                for quoted in (argument, repr(argument)[1:-1]):
                    message = message.replace(quoted, _core.redact(argument))
        self.exit(USAGE, one_line(f"{self.prog}: {_core.redact_all(message)} (see {self.prog} --help)") + "\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, with `run`, which takes them. SystemExit where that is all there is to do."""
    parser = _Parser(
        prog=_PROGRAM,
        description="An HTTP client with greenlets: fetch, download, and measure servers.",
        epilog=STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    for add in (_add_get, _add_download, _add_bench):
        add(commands)
    given = _Parser.given = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        parser.print_help(sys.stderr)
        parser.exit(USAGE)
    options = parser.parse_args(given)
    options.given = given
    try:
        options.check(options)
    except (ValueError, Failure) as error:
        options.parser.error(str(error))
    return options


def _command(commands: Any, name: str, summary: str, run: Callable[[argparse.Namespace], int], check: Any) -> Any:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, check=check, parser=parser)
    return parser


# ------------------------------------------------------------------------------------------------------- the commands


def _add_get(commands: Any) -> None:
    parser = _command(commands, "get", "fetch URLs and write what came to stdout, in the order given", _get, _check_get)
    parser.add_argument("urls", metavar="URL", nargs="+", type=read_url, help="http:// where it has no scheme")
    request = _add_request(parser)
    request.add_argument("-F", dest="form", action="append", metavar="NAME=VALUE", help="a field, or NAME=@FILE a file")
    request.add_argument("-I", "--head", action="store_true", help="ask by HEAD, and write the head of the response")
    request.add_argument("--compressed", action="store_true", help="ask for a content coding, and take it off")
    _add_following(request)
    request.add_argument("-L", "--location", action="store_true", help="follow redirects")
    request.add_argument(
        "--retry", type=read_number, default=0, metavar="N", help="send again, if that is safe (%(default)s)"
    )
    request.add_argument(
        "-c", "--concurrency", type=read_count, default=8, metavar="N", help="URLs at a time (%(default)s)"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o", "--output", metavar="FILE", help="write there; - is stdout, of whatever kind the bytes are"
    )
    output.add_argument("-i", "--include", action="store_true", help="write the heads of responses, too")
    output.add_argument("-v", "--verbose", action="store_true", help="show the heads of both sides on stderr")
    output.add_argument("--timing", action="store_true", help="show on stderr where the time went")
    output.add_argument("-f", "--fail", action="store_true", help="a status code of 400 or more is an error")
    _add_color(output)
    _add_connection(parser, timeout=60)


def _add_download(commands: Any) -> None:
    parser = _command(
        commands, "download", "download URLs to files, each complete or not there at all", _download, _check_download
    )
    parser.add_argument("urls", metavar="URL", nargs="+", type=read_url, help="http:// where it has no scheme")
    parser.add_argument("-o", "--output", metavar="FILE", help="the file; by default named by the server, or the URL")
    parser.add_argument("-O", "--directory", metavar="DIR", default=".", help="where files go (the current directory)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that was not named by -o")
    parser.add_argument("--resume", action="store_true", help="go on with what an earlier download has left")
    parser.add_argument(
        "--parallel", type=read_count, default=1, metavar="N", help="as N ranges at a time (%(default)s)"
    )
    parser.add_argument(
        "--checksum", type=read_checksum, metavar="ALGORITHM:HEX", help="what must come out, as sha256:..."
    )
    parser.add_argument("--limit-rate", type=read_size, metavar="RATE", help="bytes per second at most, as 500k or 2M")
    parser.add_argument("--retry", type=read_number, default=3, metavar="N", help="failures in a row (%(default)s)")
    request = parser.add_argument_group("request")
    request.add_argument("-H", dest="headers", action="append", default=[], type=read_header, metavar="'NAME: VALUE'")
    request.add_argument("-u", "--user", metavar="USER:PASSWORD", help="Basic authentication")
    _add_following(request)
    output = parser.add_argument_group("output")
    output.add_argument("--progress", action=argparse.BooleanOptionalAction, help="a bar; by default on a terminal")
    _add_color(output)
    _add_connection(parser, timeout=60)


def _add_bench(commands: Any) -> None:
    parser = _command(
        commands, "bench", "send many requests to a URL and tell how long they took", _bench, _check_bench
    )
    parser.add_argument("url", metavar="URL", type=read_url, help="http:// where it has no scheme")
    parser.add_argument(
        "-n", "--requests", type=read_count, metavar="N", help="so many requests (10,000 without a duration)"
    )
    parser.add_argument(
        "-c",
        "--concurrency",
        type=read_count,
        default=10,
        metavar="C",
        help="at a time, each on a connection of its own unless by HTTP/2 (%(default)s)",
    )
    parser.add_argument(
        "-t", "--duration", type=read_seconds, metavar="S", help="for so many seconds, or until N are done"
    )
    parser.add_argument(
        "--rate",
        type=read_positive,
        metavar="R",
        help="begin so many a second, up to C at a time; what finds no place is timed from when it was due",
    )
    parser.add_argument("--warmup", type=read_seconds, metavar="S", help="seconds before anything counts")
    parser.add_argument(
        "--processes", type=read_count, default=1, metavar="P", help="share all of this among P processes (%(default)s)"
    )
    request = _add_request(parser)
    request.add_argument("-f", "--fail", action="store_true", help="a status code of 400 or more makes exit status 1")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json", action="store_true", help="the summary as JSON on stdout: times in us, the rest as named"
    )
    output.add_argument("--plot", metavar="FILE.svg", help="draw latency percentiles and the rate over time")
    output.add_argument("--progress", action=argparse.BooleanOptionalAction, help="live; by default on a terminal")
    _add_color(output)
    _add_connection(parser, timeout=30)


def _get(options: argparse.Namespace) -> int:
    from geventhttpclient.cli.get import run

    return run(options)


def _download(options: argparse.Namespace) -> int:
    from geventhttpclient.cli.download import run

    return run(options)


def _bench(options: argparse.Namespace) -> int:
    from geventhttpclient.cli.bench import run

    return run(options)


# --------------------------------------------------------------------------------------------- what they have in common


def _add_request(parser: Any) -> Any:
    group = parser.add_argument_group("request")
    group.add_argument("-X", "--request", dest="method", metavar="METHOD", help="GET by default, POST with a body")
    group.add_argument(
        "-H",
        "--header",
        dest="headers",
        action="append",
        default=[],
        type=read_header,
        metavar="'NAME: VALUE'",
        help="'NAME:' leaves one out, 'NAME;' sends it empty",
    )
    group.add_argument(
        "-d",
        "--data",
        action="append",
        metavar="DATA",
        help="a body, as a form unless Content-Type says otherwise; @FILE, @- for stdin; several are joined by &",
    )
    group.add_argument(
        "-u", "--user", metavar="USER:PASSWORD", help="Basic authentication; asks for a missing password"
    )
    return group


def _add_following(group: Any) -> None:
    group.add_argument(
        "--max-redirs",
        type=read_number,
        default=_DEFAULT_REDIRECTS,
        metavar="N",
        help="redirects at most (%(default)s)",
    )


def _add_color(group: Any) -> None:
    group.add_argument(
        "--color",
        choices=["auto", "always", "never"],
        default="auto",
        help="auto: on a terminal, unless NO_COLOR is set",
    )


def _add_connection(parser: Any, timeout: int) -> None:
    group = parser.add_argument_group("connection")
    http2 = group.add_mutually_exclusive_group()
    http2.add_argument(
        "--http2", action="store_const", const=True, default=False, help="HTTP/2 over TLS, where offered"
    )
    http2.add_argument(
        "--http2-prior-knowledge",
        dest="http2",
        action="store_const",
        const=PRIOR_KNOWLEDGE,
        help="HTTP/2 without asking",
    )
    verify = group.add_mutually_exclusive_group()
    verify.add_argument(
        "-k", "--insecure", dest="verify", action="store_false", default=True, help="verify no certificate"
    )
    verify.add_argument("--cacert", dest="verify", metavar="FILE", help="CA certificates in place of the usual ones")
    group.add_argument("--cert", metavar="FILE", help="the certificate to show")
    group.add_argument("--key", metavar="FILE", help="its key, where that is not in the same file")
    group.add_argument(
        "--proxy",
        metavar="URL",
        help="http, https, socks5h, socks5, socks4a or socks4; by default as the environment says",
    )
    group.add_argument("--unix-socket", metavar="PATH", help="connect there")
    group.add_argument(
        "--resolve",
        action="append",
        type=read_override,
        default=[],
        metavar="HOST:PORT:ADDRESS",
        help="the address to take for a host",
    )
    group.add_argument(
        "--connect-timeout", type=read_positive, default=30, metavar="S", help="for opening a connection (%(default)s)"
    )
    group.add_argument(
        "--timeout", type=read_positive, default=timeout, metavar="S", help="for each wait for the server (%(default)s)"
    )
    group.add_argument("-m", "--max-time", type=read_positive, metavar="S", help="for a request in all")


def client_options(options: argparse.Namespace) -> dict[str, Any]:
    """What of it is for HTTPClient, and those that make some."""
    given: dict[str, Any] = {
        "verify": options.verify,
        "http2": options.http2,
        "connection_timeout": options.connect_timeout,
        "network_timeout": options.timeout,
        "total_timeout": options.max_time,
        "trust_env": options.proxy is None,
    }
    if options.cert is not None:
        given["cert"] = (options.cert, options.key) if options.key is not None else options.cert
    if options.proxy is not None:
        given["proxy"] = options.proxy
    if options.unix_socket is not None:
        given["uds"] = options.unix_socket
    if options.resolve:
        given["resolve"] = dict(options.resolve)
    return given


def method_of(options: argparse.Namespace) -> str:
    """What -X says, or what the body makes of it."""
    if options.method is not None:
        return str(options.method)
    if getattr(options, "head", False):
        return "HEAD"
    return "POST" if options.data is not None or getattr(options, "form", None) is not None else "GET"


def credentials(options: argparse.Namespace, url: URL) -> tuple[str, str] | None:
    """Name and password: those of -u, whose password is asked for where it is missing; else those of the URL."""
    if options.user is not None:
        name, colon, password = options.user.partition(":")
        if not colon:
            password = getattr(options, "user_password", None)
            if password is None:
                password = options.user_password = _ask_password(name)
        return name, password
    found = unquote(url.username), unquote(url.password)
    return found if any(found) else None


def _ask_password(name: str) -> str:
    import getpass

    try:
        return getpass.getpass(f"Password of {name}: ")
    except EOFError:
        raise Failure("no password was given", USAGE) from None


def check_request(
    client: HTTPClient, options: argparse.Namespace, url: URL, method: str, headers: Headers, content: Any = b""
) -> None:
    """Raises ValueError or TypeError if the head of that request cannot be built. Nothing is sent.

    Later errors of these classes are not caused by the command line. `content` that is not bytes is not looked at.
    """
    fields = Headers()
    for name, value in headers.items():
        if value is not None and (isinstance(content, bytes) or name.lower() not in _FRAMING):
            fields.add(name, value)
    user = credentials(options, url)
    if user is not None:
        fields.setdefault("Authorization", resolve_auth(user))
    client._build_request(method, url.quoted_uri or "/", content if isinstance(content, bytes) else b"", fields)


def usage_failure(error: Exception) -> Failure:
    """For what a client has refused before it sent anything: a proxy that is none, a file without a certificate."""
    return Failure(str(error), USAGE)


# ----------------------------------------------------------------------------------------------------- combinations


def _check_connection(options: argparse.Namespace) -> None:
    if options.key is not None and options.cert is None:
        raise ValueError("--key is of no use without --cert")
    if options.proxy is not None and options.unix_socket is not None:
        raise ValueError("--proxy and --unix-socket exclude one another")


def _check_get(options: argparse.Namespace) -> None:
    _check_connection(options)
    bodies = [name for name, given in (("-d", options.data), ("-F", options.form), ("-I", options.head)) if given]
    if len(bodies) > 1:
        raise ValueError(f"{bodies[0]} and {bodies[1]} exclude one another")
    body.check(options.data, options.form, len(options.urls))


def _check_download(options: argparse.Namespace) -> None:
    _check_connection(options)
    if len(options.urls) > 1 and (options.output is not None or options.checksum is not None):
        raise ValueError("-o and --checksum are for one URL")
    if options.output == "-":
        raise ValueError("a download goes to a file: `get` writes to stdout")
    if options.output is not None and options.directory != ".":
        raise ValueError("-o and -O exclude one another")


def _check_bench(options: argparse.Namespace) -> None:
    _check_connection(options)
    body.check(options.data, None, 1)
    if options.requests is None and options.duration is None:
        options.requests = 10_000
    share = [options.concurrency, *([options.requests] if options.requests is not None else [])]
    if options.processes > min(share):
        raise ValueError("--processes needs a request and a place (-n, -c) for each of them")
    options.plot = options.plot or None
    if options.processes > 1 and (options.data == ["@-"] or ":" not in (options.user or ":")):
        raise ValueError("--processes cannot ask for a password, nor share stdin")
    if options.plot is not None and not options.plot.lower().endswith(".svg"):
        raise ValueError("--plot draws SVG: the name of its file must end with .svg")
