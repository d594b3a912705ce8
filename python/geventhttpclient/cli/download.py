"""`download`: a URL becomes a file that is complete, or stays a part to go on with."""

from __future__ import annotations

import argparse
import functools
import os
import socket
import ssl
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import gevent

from geventhttpclient import HTTPParseError
from geventhttpclient.cli import filename, pace, ranges, terminal
from geventhttpclient.cli.arguments import check_request, client_options, credentials, usage_failure
from geventhttpclient.cli.device import Device, is_device
from geventhttpclient.cli.failure import CHECKSUM, FAILED, FILE, OK, PASSING, Failure, describe, one_line, say
from geventhttpclient.cli.part import Part, Range
from geventhttpclient.cli.printable import printable
from geventhttpclient.cli.tasks import together
from geventhttpclient.cli.units import bytes_text
from geventhttpclient.compat_errors import ConnectionError as AgentError
from geventhttpclient.compat_errors import InvalidRedirectError, RetriesExceeded, UnsupportedRedirectSchemeError
from geventhttpclient.header import Headers
from geventhttpclient.requests import Session
from geventhttpclient.response import HTTPConnectionClosed
from geventhttpclient.url import URL

# Seconds before another attempt; each failure in a row doubles them, up to the second.
_DELAY = 0.25
_MOST_DELAY = 30.0


class _Passing(Exception):
    """A status that may be another one the next time."""


class _Changed(Exception):
    """What is there already is of no use: why, in words."""


# An answer that leaves its range incomplete is small below so many bytes, and a server may give so many small ones to
# one download: without a bound, a byte at a time is a request for each byte of a file.
SMALL_ANSWER = 4096
MAX_SMALL_ANSWERS = 1000

_NETWORK = (OSError, HTTPParseError, AgentError, _Passing)


def run(options: argparse.Namespace) -> int:
    """The exit status: that of the first URL that failed. They are downloaded one after another."""
    try:
        session = Session(
            max_redirects=options.max_redirs, max_retries=0, concurrency=options.parallel, **client_options(options)
        )
        for url in options.urls:
            check_request(session.clientpool.get_client(url), options, url, "GET", _fields(options))
    except (ValueError, TypeError, OSError) as error:
        raise usage_failure(error) from None
    status = OK
    with session:
        for url in options.urls:
            try:
                _Download(session, url, options).run()
            except Failure as failure:
                say(str(failure) if failure.status == FILE else f"{url}: {failure}")
                status = status or failure.status
            except (*_NETWORK, ValueError, TypeError) as error:  # the command line has been checked: by a peer
                say(f"{url}: {describe(error)}")
                status = status or FAILED
    return status


def _fields(options: argparse.Namespace) -> Headers:
    fields = Headers({"Accept-Encoding": "identity"})
    for name, value in options.headers:
        fields[name] = value
    return fields


class _Download:
    """One URL."""

    def __init__(self, session: Session, url: URL, options: argparse.Namespace) -> None:
        self.session = session
        self.url = url
        self.options = options
        self.throttle = pace.Throttle(options.limit_rate)
        self.part: Part | Device | None = None
        target = None if options.output is None else Path(options.output)
        self.device: Device | None = None
        if target is not None and is_device(target):
            self.device = Device(target, options.checksum and options.checksum[0])
        self.small_answers = 0
        # Bytes that were there already, with --resume.
        self.kept = 0
        # Whether the server has answered at all: it is worth while to ask again then, whatever happens.
        self.has_answered = False

    def run(self) -> None:
        """To the end, or to an exception; what is there of it is kept, with a note for --resume."""
        begun = monotonic()
        restarts = 0
        while True:
            try:
                self._attempt(self.options.resume and not restarts)
                break
            except _Changed as change:
                restarts += 1
                if self.device is not None and self.part is not None and self.part.received:
                    raise Failure(f"{change}: {self.device.target} cannot be begun anew") from None
                if restarts > self.options.retry:
                    raise Failure(str(change)) from None
                say(f"{self.url}: {change}: beginning anew")
            except KeyboardInterrupt:
                if isinstance(self.part, Part) and self.part.received:
                    kept = "go on with --resume" if self.part.can_resume else "the server does not support resuming"
                    say(f"interrupted; {bytes_text(self.part.received)} are in {self.part.path}: {kept}")
                raise
            finally:
                if self.part is not None:
                    with suppress(Failure):
                        self.part.note()
                    with suppress(Failure):
                        self.part.close()
        assert self.part is not None
        seconds = monotonic() - begun
        if self.options.progress is not False:
            size = self.part.length or 0
            fetched = size - self.kept
            rate = f", {bytes_text(fetched / seconds)}/s" if seconds > 0 else ""
            rest = f", {bytes_text(fetched)} of it" if self.kept else ""
            print(one_line(f"{self.part.target}: {bytes_text(size)}{rest} in {seconds:.1f} s{rate}"), file=sys.stderr)

    def _attempt(self, resume: bool) -> None:
        """One version of the file, from what is there of it to the end."""
        response = self._patiently(functools.partial(self._first, resume))
        with response:
            part = self.part = self._part(response)
            has_ranges = response.status_code == 206
            validator = ranges.validator_of(response.stream)
            if has_ranges:
                length = ranges.content_range(response.stream).length
                ranges.read_promised(response.stream, 1)
            else:
                length = response.stream.content_length if _is_counted(response.stream) else None
            reason = self._recall(part, length, validator, has_ranges) if resume else None
            if reason is not None:
                say(f"{part.path}: {reason}: beginning anew")
            if reason is not None or not part.is_open:
                part.begin(str(self.url), length, validator)
            self.kept = part.received
            if has_ranges and self.device is None:
                part.missing = ranges.spread(part.missing, self.options.parallel)
            shown = terminal.display(self.options.progress, self.options.color)
            with pace.bar(shown, printable(part.target.name), part):
                given = None if has_ranges else response
                together([functools.partial(self._fill, part, one, given) for one in part.missing])
        if part.length is None:
            part.length = part.received
        self._verify(part)
        part.finish()

    def _first(self, resume: bool) -> Any:
        """The response that tells what there is: the whole file, or its first byte where ranges are wanted."""
        if self.device is None and (self.options.parallel > 1 or resume):
            response = self._ask({"Range": ranges.asked(0, 1)})
            if response.status_code == 206:
                found = ranges.check(response.stream, 0, 1, None, None)
                if found.length is not None and ranges.validator_of(response.stream):
                    return response
            elif response.status_code != 416:  # which is said of a file without any bytes, too
                return response
            response.release()
        return self._ask({})

    def _ask(self, headers: dict[str, str]) -> Any:
        """A response whose status is 200, 206 or 416. _Passing or Failure for any other."""
        fields = _fields(self.options)
        fields.update(headers)
        user = credentials(self.options, self.url)
        response = self.session.request("GET", self.url, headers=fields, auth=user)
        self.has_answered = True
        status = response.status_code
        if status == 200 or (status in (206, 416) and "Range" in headers):
            return response
        response.release()
        text = f"{status} {response.reason or ''}".strip()
        raise _Passing(text) if status in PASSING else Failure(text)

    def _part(self, response: Any) -> Part | Device:
        """Where it goes. Failure for what is there already and was not meant."""
        if self.device is not None:
            return self.device
        if self.options.output is not None:
            target = Path(self.options.output)
        else:
            name = filename.choose(response.stream.get("content-disposition"), URL(response.url).path)
            target = Path(self.options.directory, name)
            if os.path.lexists(target) and not self.options.overwrite:
                raise Failure(f"{target} is there already: name a file by -o, or say --overwrite", FILE)
        if target.is_dir():
            raise Failure(f"{target} is a directory: -O takes one", FILE)
        return Part(target, replaces=self.options.output is not None or self.options.overwrite)

    def _recall(self, part: Part | Device, length: int | None, validator: Any, has_ranges: bool) -> str | None:
        """Goes on with what is there, or tells why that cannot be done; None if nothing is there. Failure for what an
        older version has left."""
        if isinstance(part, Device):
            return None
        if not part.has_left:
            old = part.target.with_name(part.target.name + ".part")
            old_note = old.with_name(old.name + ".json")
            if os.path.lexists(old) and os.path.lexists(old_note):
                text = f"{old} was left by an older version and cannot be resumed"
                raise Failure(f"{text}: remove it and {old_note}, or leave out --resume", FILE)
            return None
        if not has_ranges:
            return "the server gives no ranges"
        if not part.recall(str(self.url)):
            return "there is nothing that tells what is in it"
        if part.length != length or not part.validator.is_shared_by(validator):
            return "the file has changed at the server"
        return None

    def _fill(self, part: Part | Device, place: Range, given: Any) -> None:
        """Brings what is missing there, in as many attempts as it takes while there is progress. The first response may
        be at hand."""
        failures = 0
        while not place.is_done:
            before = place.position
            try:
                self._fill_once(part, place, given)
                failures = 0
            except _NETWORK as error:
                failures = failures + 1 if place.position == before else 1
                self._rest(failures, error)
                if not part.can_resume and place.position:
                    raise _Changed(f"{describe(error)}, and nothing to go on by") from None
            given = None
            if not place.is_done and 0 < place.position - before < SMALL_ANSWER:
                self._count_small_answer()

    def _count_small_answer(self) -> None:
        self.small_answers += 1
        if self.small_answers > MAX_SMALL_ANSWERS:
            text = f"more than {MAX_SMALL_ANSWERS} answers of the server had less than {bytes_text(SMALL_ANSWER)}"
            raise Failure(f"{text} of what it was asked for")

    def _fill_once(self, part: Part | Device, place: Range, given: Any) -> None:
        end = place.end
        response = given
        if response is None:
            if place.position == 0 and place.end is None:
                response = self._ask({})
            else:
                condition = {"If-Range": part.validator.value} if part.validator.value is not None else {}
                response = self._ask({"Range": ranges.asked(place.position, place.end), **condition})
                if response.status_code != 206:
                    response.release()
                    raise _Changed("the file has changed at the server, or it gives no ranges any more")
        with response:
            stream = response.stream
            if response.status_code == 206:
                end = ranges.check(stream, place.position, place.end, part.length, part.validator).end
            while piece := stream._read_available(self.throttle.piece):
                if end is not None and place.position + len(piece) > end:
                    raise ranges.too_much(end)
                part.write(place, piece)
                self.throttle.take(len(piece))
        if end is None:
            place.end = place.position
        elif place.position < end:
            raise HTTPConnectionClosed(f"the body ended {end - place.position} bytes before its end", 0)

    def _patiently(self, ask: Any) -> Any:
        failures = 0
        while True:
            try:
                return ask()
            except _NETWORK as error:
                failures += 1
                self._rest(failures, error)

    def _rest(self, failures: int, error: BaseException) -> None:
        """Before another attempt; raises the error where there is to be none."""
        cause = getattr(error, "original", None) or error
        hopeless: tuple[type[BaseException], ...] = (
            ssl.SSLCertVerificationError,
            RetriesExceeded,
            InvalidRedirectError,
            UnsupportedRedirectSchemeError,
        )
        if not self.has_answered:
            hopeless += (socket.gaierror, ConnectionRefusedError)
        if failures > self.options.retry or isinstance(cause, hopeless):
            raise error
        gevent.sleep(min(_MOST_DELAY, _DELAY * 2 ** (failures - 1)))

    def _verify(self, part: Part | Device) -> None:
        """That what has come is what was expected. Failure for a checksum that is another one."""
        if self.options.checksum is None:
            return
        name, wanted = self.options.checksum
        digest = part.digest(name)
        if digest != wanted:
            part.forget()
            left = f"; it is left in {part.path}" if isinstance(part, Part) else ""
            raise Failure(f"its {name} is {digest}, not {wanted}{left}", CHECKSUM)


def _is_counted(response: Any) -> bool:
    return response.get("transfer-encoding") is None
