"""HTTP/2 flow control of responses (RFC 9113 section 5.2): no stream blocks others, and memory is bounded."""

from __future__ import annotations

import resource
import sys
from contextlib import closing

import gevent
import pytest
from gevent.pool import Pool

from geventhttpclient import HTTPClient
from tests.conftest import PAGE
from tests.support.certificates import Certificates
from tests.support.http2_peer import (
    WINDOW,
    RstStreamFrame,
    Talk,
    talking,
)
from tests.support.http2_servers import Http2Nginx, Hypercorn
from tests.support.hub import turn, until
from tests.support.tls import check_whole, client_of, opened, trusting

pytestmark = pytest.mark.usefixtures("bounded")

MIB = 1 << 20


def peak() -> int:
    """Returns the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("responses", [1, 10, 100])
def test_unread_responses_do_not_block_others(responses: int, hypercorn: Hypercorn) -> None:
    """Not even as many as the peer takes at a time, less one."""
    with closing(HTTPClient("127.0.0.1", hypercorn.clear, http2="prior-knowledge", concurrency=2)) as client:
        unread = [client.get(f"/bytes/{50 * MIB}") for _ in range(responses)]
        before = peak()
        for _ in range(20):
            assert len(client.get("/bytes/100000").read()) == 100_000
        assert peak() - before < (3 * responses + 20) * MIB
        for response in unread:
            assert response.read(100_000)
            response.release()
        assert len(client.get("/bytes/100000").read()) == 100_000
        check_whole(client)


def test_unread_response_stays_within_its_window(http2_nginx: Http2Nginx, certificates: Certificates) -> None:
    with client_of(http2_nginx.ports["tls"], ssl_options=trusting(certificates), http2=True) as client:
        response = client.get("/big")
        assert client.get("/page").read() == PAGE
        before = peak()
        turn(50)
        assert peak() - before < 20 * MIB
        assert response.read() == (http2_nginx.root / "big").read_bytes()


def test_peer_sends_no_more_than_the_window_of_an_unread_response() -> None:
    sent = 0

    def script(talk: Talk) -> None:
        nonlocal sent
        talk.start()
        request = talk.read_request()
        talk.headers(request.stream, [(":status", "200")])
        while True:
            room = min(talk.room[0], talk.room[request.stream])
            if room <= 0:
                talk.read_frame()
                continue
            talk.data(request.stream, bytes(min(room, 1 << 14)))
            sent += min(room, 1 << 14)

    with talking(script) as (_, client):
        response = client.get("/")
        until(lambda: sent >= WINDOW)
        turn(50)
        ahead = sent
        assert WINDOW <= ahead <= 16 * MIB
        assert len(response.read(100)) == 100
        turn(50)
        assert sent <= ahead + 16 * MIB
        read = 100
        while read < 2 * ahead:
            read += len(response.read(100_000))
        assert sent > ahead


def test_window_of_dropped_data_is_returned() -> None:
    """The connection's window as well: otherwise a few unread responses would exhaust it."""

    def script(talk: Talk) -> None:
        talk.start()
        while request := talk.read_request():
            talk.headers(request.stream, [(":status", "200")])
            talk.data(request.stream, bytes(min(talk.room[0], talk.room[request.stream], 1 * MIB)))
            while request.stream not in gone:
                gone.add(talk.expect(RstStreamFrame).stream_id)
            least.append(talk.room[0])

    gone: set[int] = set()
    least: list[int] = []
    with talking(script) as (_, client):
        for _ in range(60):
            client.get("/").release()
            turn(1)
        until(lambda: len(least) == 60)
        assert min(least[-10:]) > 0
        check_whole(client)


def test_slow_readers_do_not_delay_fast_ones(hypercorn: Hypercorn, certificates: Certificates) -> None:
    def read(n: int) -> int:
        response = client.get(f"/bytes/{2 * MIB}")
        size = 0
        while piece := response.read(70_000 if n % 2 else 2 * MIB):
            size += len(piece)
            if n % 4 == 1:
                gevent.sleep(0.001)
        return size

    with client_of(hypercorn.port, ssl_options=trusting(certificates), http2=True) as client:
        assert Pool(20).map(read, range(20)) == [2 * MIB] * 20
        assert opened(client) == 1
