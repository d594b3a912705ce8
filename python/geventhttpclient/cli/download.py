"""`download`: fetches a URL into a file, which appears once it is complete; until then it can be resumed."""

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
from geventhttpclient.cli.device import Device, is_device
from geventhttpclient.cli.failure import (
    CHECKSUM,
    FAILED,
    FILE,
    OK,
    TRANSIENT_STATUSES,
    Failure,
    describe,
    one_line,
    say,
)
from geventhttpclient.cli.options import check_request, client_options, credentials, usage_failure
from geventhttpclient.cli.part import Part, Range
from geventhttpclient.cli.printable import printable
from geventhttpclient.cli.tasks import together
from geventhttpclient.cli.units import bytes_text
from geventhttpclient.exceptions import ConnectionError as AgentError
from geventhttpclient.exceptions import InvalidRedirectError, RetriesExceeded, UnsupportedRedirectSchemeError
from geventhttpclient.header import Headers
from geventhttpclient.requests import Session
from geventhttpclient.response import HTTPConnectionClosed
from geventhttpclient.url import URL

# Seconds before the next attempt: doubled for each failure in a row, up to _MAX_DELAY.
_DELAY = 0.25
_MAX_DELAY = 30.0


class _TransientStatus(Exception):
    """A status code that may differ on the next attempt."""


class _MustRestart(Exception):
    """The reason why the bytes received so far cannot be used."""


# A response that leaves its range incomplete is small if it has fewer bytes than this, and a download accepts only that
# many of them: without a limit, a server could cause a request for each byte of a file.
SMALL_ANSWER = 4096
MAX_SMALL_ANSWERS = 1000

_NETWORK = (OSError, HTTPParseError, AgentError, _TransientStatus)


def run(options: argparse.Namespace) -> int:
    """Downloads the URLs one after another and returns the exit status: that of the first one that failed."""
    try:
        # Ranges of one download wait for each other in the pool: that says nothing about the server.
        of_clients = {**client_options(options), "pool_timeout": None}
        session = Session(max_redirects=options.max_redirs, max_retries=0, concurrency=options.parallel, **of_clients)
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
            except (
                *_NETWORK,
                ValueError,
                TypeError,
            ) as error:  # the command line has been checked, so a peer is the cause
                say(f"{url}: {describe(error)}")
                status = status or FAILED
    return status


def _fields(options: argparse.Namespace) -> Headers:
    fields = Headers({"Accept-Encoding": "identity"})
    for name, value in options.headers:
        fields[name] = value
    return fields


class _Download:
    """The download of one URL."""

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
        # Bytes of an earlier run, with --resume.
        self.kept = 0
        # Whether the server has ever responded: then any network error is worth another attempt.
        self.has_answered = False

    def run(self) -> None:
        """Downloads the file. After an exception the received bytes are kept, with a note for --resume."""
        begun = monotonic()
        restarts = 0
        while True:
            try:
                self._attempt(self.options.resume and not restarts)
                break
            except _MustRestart as change:
                restarts += 1
                if self.device is not None and self.part is not None and self.part.received:
                    raise Failure(f"{change}: {self.device.target} cannot be started over") from None
                if restarts > self.options.retry:
                    raise Failure(str(change)) from None
                say(f"{self.url}: {change}: starting over")
            except KeyboardInterrupt:
                if isinstance(self.part, Part) and self.part.received:
                    kept = "continue with --resume" if self.part.can_resume else "the server does not support resuming"
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
        """Downloads one version of the file, from the bytes of an earlier run on if they can be used."""
        response = self._with_retries(functools.partial(self._first, resume))
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
                say(f"{part.path}: {reason}: starting over")
            if reason is not None or not part.is_open:
                part.begin(str(self.url), length, validator)
            self.kept = part.received
            if has_ranges and self.device is None:
                part.missing = ranges.split(part.missing, self.options.parallel)
            shown = terminal.display(self.options.progress, self.options.color)
            with pace.bar(shown, printable(part.target.name), part):
                given = None if has_ranges else response
                together([functools.partial(self._fill, part, one, given) for one in part.missing])
        if part.length is None:
            part.length = part.received
        self._verify(part)
        part.finish()

    def _first(self, resume: bool) -> Any:
        """Returns the first response: the whole file, or its first byte if ranges are needed."""
        if self.device is None and (self.options.parallel > 1 or resume):
            response = self._ask({"Range": ranges.range_value(0, 1)})
            if response.status_code == 206:
                found = ranges.check(response.stream, 0, 1, None, None)
                if found.length is not None and ranges.validator_of(response.stream):
                    return response
            elif response.status_code != 416:  # 416 is also the response for an empty file
                return response
            response.release()
        return self._ask({})

    def _ask(self, headers: dict[str, str]) -> Any:
        """Returns a response with status 200, 206 or 416. Raises _TransientStatus or Failure for any other."""
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
        raise _TransientStatus(text) if status in TRANSIENT_STATUSES else Failure(text)

    def _part(self, response: Any) -> Part | Device:
        """Returns the target. Raises Failure if it exists and must not be replaced."""
        if self.device is not None:
            return self.device
        if self.options.output is not None:
            target = Path(self.options.output)
        else:
            name = filename.choose(response.stream.get("content-disposition"), URL(response.url).path)
            target = Path(self.options.directory, name)
            if os.path.lexists(target) and not self.options.overwrite:
                raise Failure(f"{target} already exists: name a file with -o, or use --overwrite", FILE)
        if target.is_dir():
            raise Failure(f"{target} is a directory: name it with -O", FILE)
        return Part(target, replaces=self.options.output is not None or self.options.overwrite)

    def _recall(self, part: Part | Device, length: int | None, validator: Any, has_ranges: bool) -> str | None:
        """Opens the bytes of an earlier run. Returns None, or the reason why they cannot be used.

        Raises Failure for a download that an older version of this package has left.
        """
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
            return "the server does not support resuming"
        if not part.recall(str(self.url)):
            return "there is no valid note of its contents"
        if part.length != length or not part.validator.is_shared_by(validator):
            return "the file has changed on the server"
        return None

    def _fill(self, part: Part | Device, place: Range, given: Any) -> None:
        """Downloads one range, in any number of attempts as long as they make progress. `given` is the first response,
        if there is one already."""
        failures = 0
        while not place.is_done:
            before = place.position
            try:
                self._fill_once(part, place, given)
                failures = 0
            except _NETWORK as error:
                failures = failures + 1 if place.position == before else 1
                self._back_off(failures, error)
                if not part.can_resume and place.position:
                    raise _MustRestart(f"{describe(error)}, and the server does not support resuming") from None
            given = None
            if not place.is_done and 0 < place.position - before < SMALL_ANSWER:
                self._count_small_answer()

    def _count_small_answer(self) -> None:
        self.small_answers += 1
        if self.small_answers > MAX_SMALL_ANSWERS:
            text = f"more than {MAX_SMALL_ANSWERS} responses of the server had less than {bytes_text(SMALL_ANSWER)}"
            raise Failure(f"{text} of the requested range")

    def _fill_once(self, part: Part | Device, place: Range, given: Any) -> None:
        end = place.end
        response = given
        if response is None:
            if place.position == 0 and place.end is None:
                response = self._ask({})
            else:
                condition = {"If-Range": part.validator.value} if part.validator.value is not None else {}
                response = self._ask({"Range": ranges.range_value(place.position, place.end), **condition})
                if response.status_code != 206:
                    response.release()
                    raise _MustRestart("the file has changed on the server, or ranges are no longer supported")
        with response:
            stream = response.stream
            if response.status_code == 206:
                end = ranges.check(stream, place.position, place.end, part.length, part.validator).end
            while piece := stream._read_available(self.throttle.piece):
                if end is not None and place.position + len(piece) > end:
                    raise ranges.too_long(end)
                part.write(place, piece)
                self.throttle.take(len(piece))
        if end is None:
            place.end = place.position
        elif place.position < end:
            raise HTTPConnectionClosed(f"the body ended {end - place.position} bytes too early", 0)

    def _with_retries(self, ask: Any) -> Any:
        failures = 0
        while True:
            try:
                return ask()
            except _NETWORK as error:
                failures += 1
                self._back_off(failures, error)

    def _back_off(self, failures: int, error: BaseException) -> None:
        """Waits before the next attempt, or raises the error if there is to be none."""
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
        gevent.sleep(min(_MAX_DELAY, _DELAY * 2 ** (failures - 1)))

    def _verify(self, part: Part | Device) -> None:
        """Raises Failure if the checksum does not match."""
        if self.options.checksum is None:
            return
        name, wanted = self.options.checksum
        digest = part.digest(name)
        if digest != wanted:
            part.forget()
            left = f"; the download is kept in {part.path}" if isinstance(part, Part) else ""
            raise Failure(f"its {name} is {digest}, not {wanted}{left}", CHECKSUM)


def _is_counted(response: Any) -> bool:
    return response.get("transfer-encoding") is None
