"""A WebSocket server for tests, on wsproto: an implementation of RFC 6455 that is independent of this package."""

from __future__ import annotations

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, Request

from tests.support.peer import Conn


def speak_websocket(conn: Conn) -> None:
    """Returns every message, until the client closes."""
    server = WSConnection(ConnectionType.SERVER)
    while data := conn.sock.recv(65536):
        server.receive_data(data)
        for event in server.events():
            if isinstance(event, Request):
                conn.send(server.send(AcceptConnection()))
            elif isinstance(event, Ping):
                conn.send(server.send(event.response()))
            elif isinstance(event, CloseConnection):
                conn.send(server.send(event.response()))
                return
            elif isinstance(event, Message):
                conn.send(server.send(type(event)(data=event.data, message_finished=event.message_finished)))
