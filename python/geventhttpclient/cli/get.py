"""`get`: fetches URLs in parallel and writes the responses in the given order."""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from geventhttpclient import HTTPParseError
from geventhttpclient._core import Decoder
from geventhttpclient._internal.charsets import unicode_json
from geventhttpclient._internal.decoding import ACCEPT_ENCODING, decoded
from geventhttpclient.cli import body, heads, terminal, waterfall
from geventhttpclient.cli.failure import FAILED, OK, TRANSIENT_STATUSES, Failure, describe
from geventhttpclient.cli.jsontext import JSONText
from geventhttpclient.cli.options import check_request, client_options, credentials, method_of, usage_failure
from geventhttpclient.cli.output import Output
from geventhttpclient.cli.printable import PrintableBody, encoded, json_escape
from geventhttpclient.cli.tasks import together
from geventhttpclient.cli.turns import Turn
from geventhttpclient.exceptions import ConnectionError as AgentError
from geventhttpclient.header import Headers
from geventhttpclient.requests import Session

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from typing_extensions import Self

    from geventhttpclient.requests import RequestsResponse
    from geventhttpclient.url import URL

# Maximum bytes of one read.
_PIECE = 1 << 18

# Bytes of a body that are checked for binary data before it is shown on a terminal.
_CHECKED_BYTES = 2048

# Delay before the first attempt of --retry; it doubles for each further one.
_RETRY_SECONDS = 1.0

# Errors of a request. The command line is checked before the first request is sent: afterwards, a ValueError or a
# TypeError is caused by a peer.
_ERRORS = (OSError, HTTPParseError, AgentError, zlib.error, ValueError, TypeError)


def run(options: argparse.Namespace) -> int:
    """Runs the command and returns its exit status: that of the first URL that failed."""
    getter = _Getter(options)
    statuses = [OK] * len(options.urls)
    with getter, Output(None if options.output in (None, "-") else options.output) as output:
        turns: list[Turn] = []
        for _ in options.urls:
            turns.append(Turn(output, turns[-1] if turns else None))
        # Shared by all greenlets and taken in order: thus the URL whose turn it is has been taken by one of them.
        numbers = iter(range(len(options.urls)))

        def work() -> None:
            for number in numbers:
                statuses[number] = getter.fetch(options.urls[number], turns[number])

        together([work] * min(options.concurrency, len(options.urls)))
    return next((status for status in statuses if status), OK)


class _Getter:
    """The state shared by all URLs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        # Output on a terminal is formatted for people, unless -o names a destination.
        self.is_seen = options.output in (None, "-") and terminal.is_terminal(sys.stdout)
        self.for_people = self.is_seen and options.output is None
        self.encoding = terminal.encoding_of(sys.stdout) if self.is_seen else "utf-8"
        self.colors: Console | None = None
        if options.output is None:
            self.colors = terminal.colors(options.color, sys.stdout)
        self.note_colors = terminal.colors(options.color, sys.stderr)
        self.method = method_of(options)
        self.headers = Headers()
        for name, value in options.headers:
            self.headers.add(name, value)
        if options.compressed:
            self.headers.setdefault("Accept-Encoding", ACCEPT_ENCODING)
        self.content: Any = None
        self.fields: Any = None
        self.files: Any = None
        if options.data is not None:
            # One file cannot be streamed in two requests at the same time.
            self.content = body.data_body(options.data, streams=len(options.urls) == 1)
            self.headers.setdefault("Content-Type", body.FORM)
        if options.form is not None:
            self.fields, self.files = body.form_parts(options.form)
            if not self.files:
                self.fields, self.files = None, [(name, (None, value)) for name, value in self.fields]
        try:
            self.session = Session(
                max_redirects=options.max_redirs,
                max_retries=options.retry,
                retry_delay=_RETRY_SECONDS,
                retry_backoff=2.0,
                retry_statuses=TRANSIENT_STATUSES,
                concurrency=options.concurrency,
                **client_options(options),
            )
            self.session.headers.discard("accept-encoding")
            # Form fields and open files are not checked.
            content = b"" if self.content is None and options.form is None else self.content
            for url in options.urls:
                client = self.session.clientpool.get_client(url)
                check_request(client, options, url, self.method, self.headers, content)
        except (ValueError, TypeError, OSError) as error:
            raise usage_failure(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.session.close()
        if self.content is not None and not isinstance(self.content, bytes):
            self.content.close()

    def fetch(self, url: URL, turn: Turn) -> int:
        """Fetches one URL and reports its errors. Returns its exit status."""
        with turn:
            try:
                self._fetch(url, turn)
            except Failure as failure:
                # Any other failure, such as that of the output, ends the whole command.
                if failure.status != FAILED:
                    raise
                turn.note_failure(f"{url}: {failure}")
            except _ERRORS as error:
                turn.note_failure(f"{url}: {describe(error)}")
            else:
                return OK
            return FAILED

    def _fetch(self, url: URL, turn: Turn) -> None:
        options = self.options
        response = self.session.request(
            self.method,
            url,
            data=self.content if self.fields is None else self.fields,
            files=self.files,
            headers=self.headers,
            auth=credentials(options, url),
            allow_redirects=options.location,
        )
        with response:
            chain = [*response.history, response]
            for one in chain:
                if options.verbose:
                    turn.note(self._both_heads(one.raw if one is response else one.stream))
            if options.fail and response.status_code >= 400:
                raise Failure(f"{response.status_code} {response.reason or ''}".strip())
            if options.include or options.head:
                for one in chain:
                    lines = heads.response_head(one.stream)
                    end = "\n" if self.for_people else "\r\n"
                    text = heads.as_text(lines, self.colors, end=end, is_raw=not self.is_seen)
                    turn.write(encoded(text, self.encoding) if self.is_seen else text.encode("latin-1", "replace"))
            if not options.head:
                self._write_body(response, turn)
            if options.timing:
                turn.note("".join(waterfall.draw(one.stream, self.note_colors) for one in chain))

    def _both_heads(self, response: Any) -> str:
        sent = heads.as_text(heads.request_head(response), self.note_colors, "> ")
        return sent + heads.as_text(heads.response_head(response), self.note_colors, "< ")

    def _write_body(self, response: RequestsResponse, turn: Turn) -> None:
        pieces = self._pieces(response)
        if not self.for_people and self.colors is None:
            turn.write(b"")  # creates the file even if the body is empty
            for piece in pieces:
                turn.write(piece)
            return
        pretty = None
        if _is_json(response.stream.get("content-type")):
            pretty = JSONText(heads.json_styles(self.colors), response.encoding)
            pieces = unicode_json(pieces)
        printed = PrintableBody(self.encoding) if self.for_people else None

        def show(text: str, rest: bytes, is_last: bool = False) -> None:
            shown = encoded(text, self.encoding, json_escape)
            turn.write(shown + (rest if printed is None else printed.feed(rest, is_last)))

        failure: Exception | None = None
        try:
            for piece in self._text_pieces(pieces):
                show(*(("", piece) if pretty is None else pretty.feed(piece)))
        except _ERRORS as error:
            failure = error
        # Text that is still held is shown even if the body is incomplete.
        show(*(("", b"") if pretty is None else pretty.finish()), is_last=True)
        if failure is not None:
            raise failure

    def _text_pieces(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yields the pieces to show to people. Raises Failure if the body begins with binary data."""
        if not self.for_people:
            yield from pieces
            return
        checked = 0
        for piece in with_last_line(pieces):
            if checked < _CHECKED_BYTES:
                if b"\0" in piece[: _CHECKED_BYTES - checked]:
                    raise Failure("the body is binary and was not shown: -o FILE saves it, -o - shows it anyway")
                checked += len(piece)
            yield piece

    def _pieces(self, response: RequestsResponse) -> Iterator[bytes]:
        """Yields the body as it arrives, decoded with --compressed or if it is shown to people."""
        raw = response.stream
        coding = raw.get("content-encoding")
        if coding and (self.options.compressed or self.for_people):
            decoder = Decoder(coding if isinstance(coding, str) else ", ".join(coding))
            while piece := raw._read_available(_PIECE):
                yield from decoded(decoder, piece)
            yield decoder.finish()
            return
        while piece := raw._read_available(_PIECE):
            yield piece


def with_last_line(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the body and a line end if it has none at its end, even if the body is incomplete.

    The next output then begins on a new line.
    """
    last = b"\n"
    try:
        for piece in pieces:
            last = piece[-1:] or last
            yield piece
    except _ERRORS:
        if last != b"\n":
            yield b"\n"
        raise
    if last != b"\n":
        yield b"\n"


def _is_json(content_type: Any) -> bool:
    kind = str(content_type or "").partition(";")[0].strip().lower()
    return kind.startswith("application/") and kind.endswith(("/json", "+json", "/x-ndjson", "/jsonl"))
