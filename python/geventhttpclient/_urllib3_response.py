"""A response of ours in the shape of urllib3's, made of it when somebody looks."""

from __future__ import annotations

import email.message
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from urllib3._collections import HTTPHeaderDict
from urllib3.exceptions import DecodeError, HTTPError, ResponseNotChunked
from urllib3.response import HTTPResponse

from geventhttpclient import _core
from geventhttpclient._urllib3_errors import ERRORS, of_body, pool_of

if TYPE_CHECKING:
    from geventhttpclient.response import HTTPSocketPoolResponse

# Bytes that are asked for at once where the caller does not care.
_PIECE = 64 * 1024


class RawResponse(HTTPResponse):
    """urllib3's response, with all that it can do, over one of ours.

    Most programs never look at it: its attributes are made when the first of them is asked for.
    """

    _fp: Any
    _original_response: Any

    def __init__(
        self, message: HTTPSocketPoolResponse, method: str, target: str, place: tuple[bool, str, int], retries: Any
    ) -> None:
        """`message` is the answer of an origin (see `pool_of`) to a request."""
        self._made = False
        self._asked = (method, target, place, retries)
        self._fp = _Body(message, place)
        # What the cookie jars look at, and look no further where there is none.
        self._original_response = None if message._field("set-cookie") is None else _Original(message)

    def __getattr__(self, name: str) -> Any:
        if self.__dict__.get("_made", True):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._made = True
        message = self.message
        method, target, place, retries = self._asked
        # Somebody may have set some of them already, `decode_content` say.
        given = dict(self.__dict__)
        super().__init__(
            body=self._fp,
            headers=HTTPHeaderDict(message._pairs()),
            status=message.get_code(),
            version=11 if message.get_http_version() == "HTTP/1.1" else 10,
            reason=message._reason(),
            preload_content=False,
            decode_content=False,
            retries=retries,
            enforce_content_length=True,
            request_method=method,
            request_url=target,
        )
        self.version_string = message.get_http_version()
        self._pool: Any = pool_of(place)
        self.__dict__.update(given)
        return getattr(self, name)

    def __del__(self) -> None:
        # That of files would ask for attributes that nobody has asked for. The connection goes with our response.
        pass

    @property
    def message(self) -> HTTPSocketPoolResponse:
        """Our response."""
        message: HTTPSocketPoolResponse = self._fp.message
        return message

    def read_whole(self) -> bytes:
        """The rest of the body, its content coding taken off: at once if nobody has looked at this object, and with the
        errors that reading in pieces would raise."""
        if self._made:
            return b"".join(self.stream(_PIECE, decode_content=True))
        data: bytes = self._fp.read()
        self._fp_bytes_read = len(data)
        if data and (coding := self._fp.message._field("content-encoding")) is not None:
            decoder = _Decoder(coding if isinstance(coding, str) else ", ".join(coding))
            try:
                return decoder.decompress(data) + decoder.flush()
            except zlib.error as error:
                raise decoder.undecodable(error) from error
        return data

    # ------------------------------------------------------------------------------------------------- urllib3's names

    def _init_decoder(self) -> None:
        if self._decoder is None and (coding := self.headers.get("content-encoding")):
            self._decoder: Any = _Decoder(coding)
        self._decoder_initialized = True

    def _error_catcher(self) -> Any:
        # What is read from raises urllib3's errors already.
        return _NOTHING

    def stream(self, amt: int | None = 2**16, decode_content: bool | None = None) -> Iterator[bytes]:  # type: ignore[override]
        """The body in pieces of at most `amt` bytes; of one that is chunked, each as soon as it has come."""
        return self.read_chunked(amt, decode_content) if self.chunked else super().stream(amt, decode_content)

    def read_chunked(self, amt: int | None = None, decode_content: bool | None = None) -> Iterator[bytes]:  # type: ignore[override]
        """The pieces of a chunked body, each as soon as it has come. Where the chunks ended is not told."""
        if not self.chunked:
            raise ResponseNotChunked("Response is not chunked. Header 'transfer-encoding: chunked' is missing.")
        return self._pieces(amt, self.decode_content if decode_content is None else decode_content)

    def _pieces(self, amount: int | None, decoded: bool) -> Iterator[bytes]:
        if amount == 0:
            return
        self._init_decoder()
        # What a `read` before has decoded beyond its need; urllib3 1.26 keeps nothing back.
        kept: Any = self.__dict__.get("_decoded_buffer")
        if kept:
            yield kept.get(len(kept))
        most = amount if amount is not None and amount > 0 else _PIECE
        if decoded:
            yield from self._decoded_pieces(b"", most)
        while data := self._fp.read1(most):
            self._fp_bytes_read += len(data)
            if decoded and self._decoder:
                yield from self._decoded_pieces(data, most)
            else:
                yield self._decode(data, decoded, False)
        if decoded and (data := self._flush_decoder()):
            yield data

    def _decoded_pieces(self, data: bytes, most: int) -> Iterator[bytes]:
        """What these bytes, and those that a `read` has left, decode to; at most so many bytes at a time."""
        decoder = self._decoder
        while decoder is not None and (data or decoder.has_unconsumed_tail):
            try:
                piece = decoder.decompress(data, most)
            except zlib.error as error:
                raise decoder.undecodable(error) from error
            data, self._has_decoded_content = b"", True
            if piece:
                yield piece

    def supports_chunked_reads(self) -> bool:
        """Whether `read_chunked` is of use."""
        return self.chunked

    def close(self) -> None:
        """Closes the connection, unless the body has been read to its end."""
        self._fp.close()

    @property
    def closed(self) -> bool:
        """Whether the body has been read to its end, or given up."""
        ended: bool = self._fp.ended
        return ended

    def release_conn(self) -> None:
        """Nothing: the connection goes back by itself, with the last byte of the body."""

    def drain_conn(self) -> None:
        """Reads the rest of the body, and forgets it."""
        try:
            while self._fp.read1(_PIECE):
                pass
        except HTTPError:
            pass
        self._fp.close()

    def shutdown(self) -> None:
        """Ends a body that is being read."""
        self._fp.close()


class _Body:
    """The file that urllib3 reads from: it raises urllib3's errors, and closes itself at its end."""

    __slots__ = ("_counted", "_failure", "_place", "ended", "message")

    def __init__(self, message: HTTPSocketPoolResponse, place: tuple[bool, str, int]) -> None:
        self.message = message
        self.ended = False
        self._place = place
        self._counted: bool | None = None
        self._failure: HTTPError | None = None

    def read(self, amount: int | None = None) -> bytes:
        """So many bytes, fewer at the end. What there is comes out before the error of what is missing."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self.ended = True
            raise failure
        if self.ended or amount == 0:
            return b""
        message = self.message
        data = b""
        try:
            if amount is None or amount < 0:
                data = message.read()
                self.ended = True
                return data
            data = message._read_available(amount)
            while 0 < len(data) < amount and (more := message._read_available(amount - len(data))):
                data += more
        except ERRORS as error:
            failure = self._fail(error)
            if not data:
                raise failure from error
            failure.__cause__ = error
            self._failure, self.ended = failure, False
            return data
        except BaseException:
            self.close()
            raise
        self.ended = len(data) < amount or self._is_over()
        return data

    def read1(self, amount: int = _PIECE) -> bytes:
        """What is there, at most so many bytes; waits only for the first."""
        if self.ended:
            return b""
        try:
            data = self.message._read_available(amount if amount > 0 else _PIECE)
        except ERRORS as error:
            raise self._fail(error) from error
        except BaseException:
            self.close()
            raise
        self.ended = not data or self._is_over()
        return data

    def _is_over(self) -> bool:
        message = self.message
        if self._counted is None:
            self._counted = message.content_length is not None and "transfer-encoding" not in message
        return self._counted and not message.get_remaining_content_length()

    def _fail(self, error: Exception) -> HTTPError:
        message = self.message
        length = message.content_length
        missing = None if length is None else message.get_remaining_content_length()
        self.close()
        return of_body(error, pool_of(self._place), 0 if length is None else length - (missing or 0), missing)

    def close(self) -> None:
        self.ended = True
        self.message.release()

    def isclosed(self) -> bool:
        return self.ended

    @property
    def closed(self) -> bool:
        return self.ended

    def flush(self) -> None:
        pass


class _Decoder:
    """The engine's decoder, as urllib3 uses its own."""

    def __init__(self, coding: str) -> None:
        self._coding = coding.lower()
        self._decoder: _core.Decoder | None = None
        self._rest = b""
        # Whether more can come out before more is put in.
        self.has_unconsumed_tail = False

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """What the bytes decode to, or the beginning of that: the rest stays for the next call."""
        data = self._rest + data if self._rest else data
        if not data and not self.has_unconsumed_tail:
            return b""
        if self._decoder is None:
            # Made for the first byte: an empty body has no coding, whatever the header says.
            self._decoder = _core.Decoder(self._coding)
        self._rest, self.has_unconsumed_tail = b"", False
        if max_length < 0:
            return self._decoder.feed(data)
        piece, at = self._decoder.feed_part(data, 0, max_length)
        self._rest, self.has_unconsumed_tail = data[at:], len(piece) == max_length
        return piece

    def flush(self) -> bytes:
        if self._decoder is None:
            return b""
        try:
            return self._decoder.finish()
        except zlib.error as error:
            raise self.undecodable(error) from error

    def undecodable(self, error: Exception) -> DecodeError:
        text = f"Received response with content-encoding: {self._coding}, but failed to decode it."
        return DecodeError(text, error)


class _Original:
    """What cookie jars take for http.client's response."""

    def __init__(self, message: HTTPSocketPoolResponse) -> None:
        self._message = message

    @property
    def msg(self) -> email.message.Message:
        """The header fields."""
        fields = email.message.Message()
        for name, value in self._message._pairs():
            fields[name] = value
        return fields

    headers = msg

    def isclosed(self) -> bool:
        return not self._message._is_attached()

    def close(self) -> None:
        self._message.release()


class _Nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_NOTHING = _Nothing()
