"""Programs whose arguments would overflow the stack if native code recursed into them."""

from __future__ import annotations

from tests.support.peer import Peer, serve_ok


def nested() -> None:
    from tests.regressions.test_header_values import FACES, NESTED

    with Peer(serve_ok) as peer:
        for face in FACES:
            for name, make in NESTED.items():
                value = make()
                try:
                    face(peer.url, value)
                except TypeError:
                    pass
                else:
                    raise AssertionError(f"{face.__name__} took {name}")
                # Takes a deep list apart link by link, so that freeing it does not recurse.
                while isinstance(value, list) and value and isinstance(value[0], list) and value[0] is not value:
                    value = value[0]
        print(f"{len(FACES)} faces, {len(NESTED)} values")
