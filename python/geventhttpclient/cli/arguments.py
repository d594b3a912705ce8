"""The command line: commands, options, and checks of their combinations."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from geventhttpclient import __version__, _core
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
from geventhttpclient.http2 import PRIOR_KNOWLEDGE

_PROGRAM = "geventhttpclient"
_DEFAULT_REDIRECTS = 30

# Separators of user and password, as they are or percent-encoded.
_COLON = re.compile(
    "[:\uff1a\ufe55\ufe13]|%(25)*(3a|ef%(25)*bc%(25)*9a|ef%(25)*b9%(25)*95|ef%(25)*b8%(25)*93)", re.IGNORECASE
)


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line; the full usage is printed by --help alone."""

    # The arguments of the process. argparse quotes them in its messages, and one may be a URL with a password.
    given: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        for argument in self.given:
            if _COLON.search(argument):
                for quoted in (argument, repr(argument)[1:-1]):
                    message = message.replace(quoted, _core.redact(argument))
        self.exit(USAGE, one_line(f"{self.prog}: {_core.redact_all(message)} (see {self.prog} --help)") + "\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options, with the function that runs the command as `run`. Raises SystemExit after --help,
    --version or an error."""
    parser = _Parser(
        prog=_PROGRAM,
        description="An HTTP client on gevent: fetch URLs, download files, measure servers.",
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
    parser = _command(
        commands, "get", "fetch URLs and write the responses to stdout, in the given order", _get, _check_get
    )
    parser.add_argument("urls", metavar="URL", nargs="+", type=read_url, help="http:// is added if it has no scheme")
    request = _add_request(parser)
    request.add_argument(
        "-F", dest="form", action="append", metavar="NAME=VALUE", help="a form field; NAME=@FILE sends a file"
    )
    request.add_argument(
        "-I", "--head", action="store_true", help="send a HEAD request, and write the head of the response"
    )
    request.add_argument("--compressed", action="store_true", help="request a compressed response, and decompress it")
    _add_following(request)
    request.add_argument("-L", "--location", action="store_true", help="follow redirects")
    request.add_argument(
        "--retry",
        type=read_number,
        default=0,
        metavar="N",
        help="retries of a request that is safe to repeat (%(default)s)",
    )
    request.add_argument(
        "-c", "--concurrency", type=read_count, default=8, metavar="N", help="URLs fetched in parallel (%(default)s)"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o", "--output", metavar="FILE", help="write to FILE instead; - is stdout, even for binary data"
    )
    output.add_argument("-i", "--include", action="store_true", help="write the heads of responses too")
    output.add_argument(
        "-v", "--verbose", action="store_true", help="show the heads of requests and responses on stderr"
    )
    output.add_argument("--timing", action="store_true", help="show on stderr how long each step took")
    output.add_argument("-f", "--fail", action="store_true", help="treat a status code of 400 or more as an error")
    _add_color(output)
    _add_connection(parser, timeout=60)


def _add_download(commands: Any) -> None:
    parser = _command(
        commands,
        "download",
        "download URLs to files; no file appears before it is complete",
        _download,
        _check_download,
    )
    parser.add_argument("urls", metavar="URL", nargs="+", type=read_url, help="http:// is added if it has no scheme")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the file; by default named after Content-Disposition or the URL"
    )
    parser.add_argument(
        "-O", "--directory", metavar="DIR", default=".", help="the directory for files (the current directory)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file that -o does not name")
    parser.add_argument("--resume", action="store_true", help="continue a download that was interrupted")
    parser.add_argument(
        "--parallel", type=read_count, default=1, metavar="N", help="number of ranges fetched in parallel (%(default)s)"
    )
    parser.add_argument(
        "--checksum", type=read_checksum, metavar="ALGORITHM:HEX", help="the expected checksum, e.g. sha256:..."
    )
    parser.add_argument(
        "--limit-rate", type=read_size, metavar="RATE", help="maximum bytes per second, e.g. 500k or 2M"
    )
    parser.add_argument(
        "--retry", type=read_number, default=3, metavar="N", help="maximum number of failures in a row (%(default)s)"
    )
    request = parser.add_argument_group("request")
    request.add_argument("-H", dest="headers", action="append", default=[], type=read_header, metavar="'NAME: VALUE'")
    request.add_argument("-u", "--user", metavar="USER:PASSWORD", help="Basic authentication")
    _add_following(request)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="show a progress bar; by default on a terminal"
    )
    _add_color(output)
    _add_connection(parser, timeout=60)


def _add_bench(commands: Any) -> None:
    parser = _command(commands, "bench", "send many requests to a URL and report their latencies", _bench, _check_bench)
    parser.add_argument("url", metavar="URL", type=read_url, help="http:// is added if it has no scheme")
    parser.add_argument(
        "-n", "--requests", type=read_count, metavar="N", help="number of requests (10,000 without a duration)"
    )
    parser.add_argument(
        "-c",
        "--concurrency",
        type=read_count,
        default=10,
        metavar="C",
        help="requests in flight, each on its own connection unless over HTTP/2 (%(default)s)",
    )
    parser.add_argument(
        "-t",
        "--duration",
        type=read_seconds,
        metavar="S",
        help="duration in seconds; the run ends earlier after N requests",
    )
    parser.add_argument(
        "--rate",
        type=read_positive,
        metavar="R",
        help="requests per second, at most C in flight; the latency of a delayed one is counted from its due time",
    )
    parser.add_argument(
        "--warmup", type=read_seconds, metavar="S", help="seconds of unmeasured requests before the run"
    )
    parser.add_argument(
        "--processes",
        type=read_count,
        default=1,
        metavar="P",
        help="number of processes that share the load (%(default)s)",
    )
    request = _add_request(parser)
    request.add_argument(
        "-f", "--fail", action="store_true", help="exit with status 1 after a status code of 400 or more"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json",
        action="store_true",
        help="print the summary as JSON; times are in seconds, or microseconds if the key ends in _us",
    )
    output.add_argument("--plot", metavar="FILE.svg", help="plot latency percentiles and the rate over time")
    output.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="show live figures; by default on a terminal"
    )
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


# ------------------------------------------------------------------------------------------------------ shared options


def _add_request(parser: Any) -> Any:
    group = parser.add_argument_group("request")
    group.add_argument(
        "-X", "--request", dest="method", metavar="METHOD", help="the method; by default GET, or POST with a body"
    )
    group.add_argument(
        "-H",
        "--header",
        dest="headers",
        action="append",
        default=[],
        type=read_header,
        metavar="'NAME: VALUE'",
        help="a header field; 'NAME:' removes a default one, 'NAME;' sends an empty one",
    )
    group.add_argument(
        "-d",
        "--data",
        action="append",
        metavar="DATA",
        help="the body, sent as a form unless -H sets Content-Type; @FILE, or @- for stdin; several are joined with &",
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
        help="maximum number of redirects (%(default)s)",
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
        "--http2", action="store_const", const=True, default=False, help="HTTP/2 over TLS if the server offers it"
    )
    http2.add_argument(
        "--http2-prior-knowledge",
        dest="http2",
        action="store_const",
        const=PRIOR_KNOWLEDGE,
        help="HTTP/2 without negotiation, also without TLS",
    )
    verify = group.add_mutually_exclusive_group()
    verify.add_argument(
        "-k", "--insecure", dest="verify", action="store_false", default=True, help="do not verify certificates"
    )
    verify.add_argument(
        "--cacert", dest="verify", metavar="FILE", help="CA certificates to trust instead of the default ones"
    )
    group.add_argument("--cert", metavar="FILE", help="the client certificate")
    group.add_argument("--key", metavar="FILE", help="its private key, if it is in another file")
    group.add_argument(
        "--proxy",
        metavar="URL",
        help="scheme http, https, socks5h, socks5, socks4a or socks4; by default taken from the environment",
    )
    group.add_argument("--unix-socket", metavar="PATH", help="connect to a Unix domain socket")
    group.add_argument(
        "--resolve",
        action="append",
        type=read_override,
        default=[],
        metavar="HOST:PORT:ADDRESS",
        help="use ADDRESS for HOST:PORT instead of resolving the name",
    )
    group.add_argument(
        "--connect-timeout",
        type=read_positive,
        default=30,
        metavar="S",
        help="seconds to open a connection (%(default)s)",
    )
    group.add_argument(
        "--timeout",
        type=read_positive,
        default=timeout,
        metavar="S",
        help="seconds of each wait for the server (%(default)s)",
    )
    group.add_argument("-m", "--max-time", type=read_positive, metavar="S", help="seconds for a whole request")


# ------------------------------------------------------------------------------------------------ checked combinations


def _check_connection(options: argparse.Namespace) -> None:
    if options.key is not None and options.cert is None:
        raise ValueError("--key needs --cert")
    if options.proxy is not None and options.unix_socket is not None:
        raise ValueError("--proxy and --unix-socket cannot be combined")


def _check_get(options: argparse.Namespace) -> None:
    _check_connection(options)
    bodies = [name for name, given in (("-d", options.data), ("-F", options.form), ("-I", options.head)) if given]
    if len(bodies) > 1:
        raise ValueError(f"{bodies[0]} and {bodies[1]} cannot be combined")
    body.check(options.data, options.form, len(options.urls))


def _check_download(options: argparse.Namespace) -> None:
    _check_connection(options)
    if len(options.urls) > 1 and (options.output is not None or options.checksum is not None):
        raise ValueError("-o and --checksum need a single URL")
    if options.output == "-":
        raise ValueError("a download goes to a file: `get` writes to stdout")
    if options.output is not None and options.directory != ".":
        raise ValueError("-o and -O cannot be combined")


def _check_bench(options: argparse.Namespace) -> None:
    _check_connection(options)
    body.check(options.data, None, 1)
    if options.requests is None and options.duration is None:
        options.requests = 10_000
    share = [options.concurrency, *([options.requests] if options.requests is not None else [])]
    if options.processes > min(share):
        raise ValueError("--processes must not be more than -n or -c")
    options.plot = options.plot or None
    if options.processes > 1 and (options.data == ["@-"] or ":" not in (options.user or ":")):
        raise ValueError("--processes can neither ask for a password nor share stdin")
    if options.plot is not None and not options.plot.lower().endswith(".svg"):
        raise ValueError("--plot draws SVG: its file name must end with .svg")
