"""Bodies larger than memory raise MemoryError and do not end the process."""

from __future__ import annotations

import sys

import pytest
from hyperframe.frame import RstStreamFrame

from tests.support.http2_peer import Talk, scripted
from tests.support.hub import run
from tests.support.peer import Conn, Peer

pytestmark = [
    pytest.mark.usefixtures("bounded"),
    pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited by what Linux counts"),
]

MIB = 1 << 20
PIECE = b"x" * MIB
ENOUGH = 256


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def serve(conn: Conn) -> None:
    """Sends more than there is room for, until the client closes the connection."""
    while request := conn.read_request():
        if request.target == "/small":
            conn.respond(b"small")
        elif request.target == "/until-close":
            conn.send(b"HTTP/1.1 200 OK\r\n\r\n")
            flood(conn, PIECE)
            return
        elif request.target == "/tiny-chunks":
            conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            flood(conn, chunk(b"y" * 4096) * 256)
            return
        elif request.target.startswith("/chunked/"):
            count = int(request.target.rpartition("/")[2])
            conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            if flood(conn, chunk(PIECE), count):
                conn.send(b"0\r\n\r\n")


def flood(conn: Conn, piece: bytes, count: int = ENOUGH) -> bool:
    try:
        for _ in range(count):
            conn.sock.sendall(piece)
    except OSError:
        return False
    return True


def serve_http2(talk: Talk) -> None:
    talk.start()
    while request := talk.read_request():
        if request.target == "/small":
            talk.respond(request, b"small")
            continue
        talk.headers(request.stream, [(":status", "200")])
        flood_stream(talk, request.stream)


def flood_stream(talk: Talk, stream: int) -> None:
    sent = 0
    while sent < ENOUGH * MIB:
        size = min(talk.room[0], talk.room[stream], len(PIECE))
        if size > 0:
            talk.data(stream, PIECE[:size])
            sent += size
            continue
        frame = talk.read_frame()
        if frame is None or (isinstance(frame, RstStreamFrame) and frame.stream_id == stream):
            return


def test_body_without_a_length_outgrowing_memory_raises_memory_error() -> None:
    with Peer(serve) as peer:
        targets = ("/chunked/256", "/until-close", "/tiny-chunks")
        assert run("memory.outgrown", peer.port, "http1", *targets).clean() == "24 reads\n"


def test_body_of_a_stream_outgrowing_memory_raises_memory_error() -> None:
    with Peer(scripted(serve_http2)) as peer:
        assert run("memory.outgrown", peer.port, "http2", "/large").clean() == "7 reads\n"


def test_body_without_room_for_a_copy_is_read_in_pieces() -> None:
    with Peer(serve) as peer:
        assert run("memory.pieces", peer.port, "/chunked/60", 60 * MIB).clean() == "done\n"


def test_decoded_body_outgrowing_memory_raises_memory_error() -> None:
    assert run("memory.decoded", "gzip", "deflate", "br", "zstd").clean() == "done\n"
